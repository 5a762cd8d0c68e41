//! The shapes of the daemon's HTTP API, which are also what `--format json` prints.
//!
//! The API is HTTP/1.1 with JSON on `<root>/netloom.sock`. Every listing's row is here; keys are snake_case and only ever added.
//! A connection on which nothing is asked for 10 s is closed; a request may have 16 MiB, and its body may take 30 s.
//!
//! | method and path | request | answer |
//! |---|---|---|
//! | GET /v1/version | | [`Version`] |
//! | POST /v1/containers | [`CreateContainer`] | [`Created`] |
//! | GET /v1/containers?all=true | | [`Container`] list |
//! | GET /v1/containers/{ref} | | [`Container`] |
//! | DELETE /v1/containers/{ref}?force=true | | |
//! | POST /v1/containers/{ref}/{start,restart,stop,kill,pause,unpause,rename} | [`StopContainer`], [`KillContainer`], [`RenameContainer`] or nothing | |
//! | GET /v1/containers/{ref}/wait | | [`Waited`], once it has ended |
//! | GET /v1/containers/{ref}/stats | | [`Stats`] |
//! | POST, DELETE /v1/containers/{ref}/publications | [`Publications`] | [`PortBinding`] list: what was added; what is left |
//! | GET, POST /v1/networks | [`CreateNetwork`] | [`Network`] list, [`CreatedNetwork`] |
//! | GET, PATCH, DELETE /v1/networks/{name} | [`Settings`] | [`Network`] |
//! | POST /v1/networks/prune | | [`Pruned`] |
//! | POST /v1/networks/{name}/connect | [`ConnectNetwork`] | |
//! | POST /v1/networks/{name}/disconnect | [`DisconnectNetwork`] | [`Disconnected`] |
//! | POST /v1/networks/{name}/detach | [`DetachNamespace`] | |
//! | PATCH /v1/networks/{name}/ports/{id} | [`Settings`] | |
//! | GET /v1/{ports,fdb,leases,flows,drops}?network={name} | | [`Port`], [`FdbEntry`], [`Lease`], [`Flow`], [`Drop`] lists |
//! | POST, DELETE /v1/networks/{name}/fdb | [`FdbChange`] | |
//! | GET /v1/events?follow={true}&recent={false} | | [`Event`]s, a JSON object a line, without end unless follow=false |
//! | POST /v1/prune | | [`Pruned`] |

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{Ipv4Net, Ipv6Net};
use netloom_runtime::spec::{ContainerSpec, NamespaceId, Protocol, Publication};
use netloom_switch::Mac;
use serde::{Deserialize, Serialize};

/// The version of this API; it grows with what is added to it.
pub const API_VERSION: &str = "1.0";

/// The body of every answer that is not a success.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What failed and why: lower case, no full stop.
    pub error: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// 125, 126 or 127 where `run` and `exec` should end with it; otherwise 1, or 2 for wrong usage.
    pub exit_code: u8,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Version {
    pub version: String,
    pub api_version: String,
    pub protocol_version: u32,
    pub pid: u32,
    pub started: String,
    pub workers: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CreateContainer {
    /// `None`: two words are made up.
    pub name: Option<String>,
    pub spec: ContainerSpec,
}

/// The record is on disk; the caller starts the supervisor.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Created {
    pub id: String,
    pub name: String,
}

/// Where a container stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    #[default]
    Created,
    Running,
    Paused,
    Restarting,
    Exited,
    /// Being removed, or its removal failed half-way.
    Dead,
}

/// One container, as `inspect` shows it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub state: State,
    /// The command as the host sees it: what `container:pid:PID` and nsenter(1) take.
    pub pid: Option<i32>,
    pub exit_code: Option<i32>,
    /// Why it did not start, or how it was lost; empty when all is well.
    pub error: String,
    /// Whether the kernel killed a process of it because `--memory` was used up.
    #[serde(default)]
    pub oom_killed: bool,
    /// `bridge`, `none`, `host`, `container:ID`, `container:pid:PID`, `ns:PATH`, or the name of the first network.
    pub network_mode: String,
    pub networks: BTreeMap<String, ContainerNetwork>,
    pub ports: Vec<PortBinding>,
    pub hostname: String,
    /// `host` for the copy-on-write view of the host's root, otherwise the directory.
    pub rootfs: String,
    /// What of the root cannot be changed in place, and why.
    pub read_only: Vec<String>,
    pub command: Vec<String>,
    pub env: Vec<String>,
    pub workdir: String,
    pub user: String,
    pub tty: bool,
    pub labels: BTreeMap<String, String>,
    pub restart_policy: String,
    pub restart_count: u32,
    pub auto_remove: bool,
    pub privileged: bool,
    pub created: String,
    pub started: Option<String>,
    pub finished: Option<String>,
    /// `tap` or `veth`; null where the container has no port.
    pub backend: Option<String>,
    pub log_path: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerNetwork {
    /// `null`: an interface without an address.
    pub ip_address: Option<Ipv4Addr>,
    pub ip6_address: Option<Ipv6Addr>,
    pub prefix_len: u8,
    pub prefix6_len: Option<u8>,
    pub gateway: Option<Ipv4Addr>,
    pub gateway6: Option<Ipv6Addr>,
    pub mac_address: Mac,
    pub port_id: u16,
    pub interface: String,
    pub aliases: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortBinding {
    pub host_ip: IpAddr,
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: Protocol,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StopContainer {
    pub grace_seconds: u32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct KillContainer {
    pub signal: i32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RenameContainer {
    pub name: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Waited {
    pub exit_code: i32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Publications {
    pub publications: Vec<Publication>,
}

/// One line of `stats`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stats {
    pub id: String,
    pub name: String,
    pub time: String,
    /// CPU time used since the start.
    pub cpu_nanoseconds: u64,
    /// Over the last interval; 100 is one whole CPU.
    pub cpu_percent: f64,
    pub memory_bytes: u64,
    pub memory_limit_bytes: Option<u64>,
    pub pids: u64,
    pub rx_bytes: u64,
    pub rx_frames: u64,
    pub tx_bytes: u64,
    pub tx_frames: u64,
}

/// `network create`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CreateNetwork {
    pub name: String,
    /// None given: one that overlaps nothing is chosen.
    pub subnet: Option<Ipv4Net>,
    pub gateway: GatewayChoice,
    /// IPv6 too; a subnet of it says so as well.
    #[serde(default)]
    pub ipv6: bool,
    /// None given: a unique local one that follows from the name.
    #[serde(default)]
    pub subnet6: Option<Ipv6Net>,
    /// None given: the subnet's first address, where there is a gateway.
    #[serde(default)]
    pub gateway6: Option<Ipv6Addr>,
    pub ip_range: Option<Ipv4Net>,
    #[serde(default)]
    pub ip_range6: Option<Ipv6Net>,
    pub internal: bool,
    pub isolated: bool,
    pub mtu: Option<u16>,
    pub host_loopback: bool,
    pub labels: BTreeMap<String, String>,
    /// `-o`
    pub options: Settings,
}

/// `--gateway IP|none`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GatewayChoice {
    /// The subnet's first address.
    #[default]
    First,
    None,
    Address(Ipv4Addr),
}

/// `KEY=VALUE` words, as typed.
pub type Settings = BTreeMap<String, String>;

/// One network, as `network inspect` shows it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Network {
    pub name: String,
    pub id: String,
    pub subnet: String,
    pub gateway: Option<Ipv4Addr>,
    /// Null: the network has no IPv6.
    pub subnet6: Option<String>,
    pub gateway6: Option<Ipv6Addr>,
    pub ip_range: Option<Ipv4Net>,
    pub ip_range6: Option<Ipv6Net>,
    pub internal: bool,
    pub isolated: bool,
    pub mtu: u16,
    pub backend: String,
    pub host_loopback: bool,
    /// Every `-o` key with its value.
    pub options: Settings,
    pub labels: BTreeMap<String, String>,
    pub created: String,
    /// Container ID → its name and address. Interfaces of `network attach` are here under an ID and a name of theirs.
    pub containers: BTreeMap<String, NetworkMember>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkMember {
    pub name: String,
    /// `null`: an interface without an address.
    pub ip_address: Option<Ipv4Addr>,
    pub ip6_address: Option<Ipv6Addr>,
    pub mac_address: Mac,
    pub port_id: u16,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ConnectNetwork {
    pub container: String,
    pub ip: Option<Ipv4Addr>,
    #[serde(default)]
    pub ip6: Option<Ipv6Addr>,
    pub aliases: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DisconnectNetwork {
    pub container: String,
}

/// What came of `network create`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CreatedNetwork {
    #[serde(flatten)]
    pub network: Network,
    /// What people should know, in words for them.
    pub notes: Vec<String>,
}

/// What came of `network disconnect`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Disconnected {
    /// What people should know, in words for them.
    pub notes: Vec<String>,
}

/// `network detach`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DetachNamespace {
    pub namespace: NamespaceId,
    pub ifname: String,
    /// As the caller named it, for messages.
    pub target: String,
}

/// One line of `ports`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Port {
    pub id: u16,
    pub network: String,
    /// The container's name; `gateway` for port 0.
    pub container: String,
    /// The interface's name inside the container.
    pub link: String,
    pub rx_frames: u64,
    pub rx_bytes: u64,
    pub tx_frames: u64,
    pub tx_bytes: u64,
    /// Of the frames received, those that went to one port, and those that went to several.
    pub forwarded: u64,
    pub flooded: u64,
    /// Reason → frames.
    pub drops: BTreeMap<String, u64>,
    pub offloads: Vec<String>,
    pub impairment: Option<String>,
    pub backend: String,
    pub worker: usize,
    /// It reaches the gateway alone, by its own setting or its network's.
    pub isolated: bool,
}

/// One line of `fdb`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FdbEntry {
    pub network: String,
    pub mac: Mac,
    pub vlan: Option<u16>,
    pub port: u16,
    pub container: String,
    pub age_seconds: u64,
    #[serde(rename = "static")]
    pub is_static: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FdbChange {
    pub mac: Mac,
    /// Needed to add.
    pub port: Option<u16>,
}

/// One line of `leases`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lease {
    pub network: String,
    /// Nothing for a lease of DHCPv6.
    pub ip_address: Option<Ipv4Addr>,
    pub ip6_address: Option<Ipv6Addr>,
    pub mac_address: Mac,
    pub container: String,
    pub container_id: String,
    /// RFC 3339.
    pub since: String,
    /// When it ends unless it is renewed, RFC 3339; nothing but DHCP leases has an end.
    pub expires: Option<String>,
}

/// One line of `flows`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Flow {
    pub network: String,
    pub container: String,
    pub port: u16,
    pub protocol: String,
    pub inside: String,
    pub outside: String,
    pub direction: String,
    pub state: String,
    pub idle_seconds: u64,
}

/// One line of `drops`: a reason that happened on a port.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Drop {
    pub network: String,
    pub port: u16,
    pub container: String,
    pub reason: String,
    pub frames: u64,
    pub meaning: String,
}

/// One line of `events`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Event {
    pub time: String,
    /// `container`, `network`, `daemon`
    pub kind: String,
    /// `create`, `start`, `die`, `destroy`, `connect`, …
    pub action: String,
    pub id: String,
    pub name: String,
    pub attributes: BTreeMap<String, String>,
}

/// What a prune took away.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Pruned {
    pub containers: Vec<String>,
    pub networks: Vec<String>,
}
