//! What a container is to be: the words of `netloom run`, checked, before anything Linux happens.
//!
//! These types are written to disk (the record of a container) and cross processes (command → daemon → supervisor → helper), so
//! they own their data and name no descriptor.

use std::{
    collections::BTreeMap,
    fmt,
    net::{AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    str::FromStr,
};

use netloom_switch::Mac;
use serde::{Deserialize, Serialize};

/// Everything that `run` and `create` say about a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The command and its arguments; never empty.
    pub command: Vec<String>,
    pub process: ProcessSpec,
    pub hostname: Option<String>,
    /// `-t`: the command runs on a terminal of its own.
    pub tty: bool,
    /// `-i`: standard input stays open.
    pub interactive: bool,
    /// `--rm`
    pub auto_remove: bool,
    pub restart: RestartPolicy,
    pub labels: BTreeMap<String, String>,
    pub network: NetworkSpec,
    pub root: RootSpec,
    /// `--sysctl`, in the order given.
    pub sysctls: Vec<(String, String)>,
    pub security: SecuritySpec,
    pub limits: LimitSpec,
}

/// What every process started in a container has, the command and those of `exec` alike.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// `K=V`; the runtime adds PATH, HOSTNAME, HOME and, on a terminal, TERM where they are missing.
    pub env: Vec<String>,
    pub workdir: Option<PathBuf>,
    /// `UID[:GID]` or names, looked up inside the container.
    pub user: Option<String>,
    /// File mode creation mask of the `run` command.
    pub umask: u32,
}

/// `--restart`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "policy")]
pub enum RestartPolicy {
    #[default]
    No,
    /// After an exit other than 0, at most `retries` times in a row; no number: without end.
    OnFailure {
        retries: Option<u32>,
    },
    Always,
}

/// Where a container's network namespace comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "mode")]
pub enum NetworkMode {
    /// Its own, each of its networks on one interface; `bridge` is the network that always exists.
    Bridge,
    None,
    Host,
    /// That of another container of the same instance: a name, an ID or a prefix.
    Container {
        container: String,
    },
    /// That of any process: `container:pid:PID`.
    Pid {
        pid: i32,
    },
    /// A namespace file: `ns:PATH`.
    Path {
        path: PathBuf,
    },
}

impl NetworkMode {
    /// Whether it is known by which address the container reaches the host.
    #[must_use]
    pub const fn knows_host(&self) -> bool {
        matches!(self, Self::Bridge | Self::Host | Self::Container { .. })
    }

    /// Whether the container's /etc/resolv.conf is the host's, whole.
    #[must_use]
    pub const fn has_hosts_resolver(&self) -> bool {
        matches!(self, Self::Host | Self::Pid { .. } | Self::Path { .. })
    }
}

/// What a name of `--add-host` stands for; written as the command line has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostAddress {
    /// Wherever the container reaches the host, docker's word.
    #[serde(rename = "host-gateway")]
    Gateway,
    #[serde(untagged)]
    Ip(IpAddr),
}

impl FromStr for HostAddress {
    type Err = AddrParseError;

    fn from_str(word: &str) -> Result<Self, AddrParseError> {
        if word == "host-gateway" { Ok(Self::Gateway) } else { word.parse().map(Self::Ip) }
    }
}

/// The network side of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkSpec {
    pub mode: NetworkMode,
    /// Bridge mode only: the networks, eth0's first.
    pub networks: Vec<NetworkRequest>,
    pub publish: Vec<Publication>,
    pub dns: Vec<IpAddr>,
    pub dns_search: Vec<String>,
    /// `--add-host`
    pub add_host: Vec<(String, HostAddress)>,
    pub host_loopback: bool,
}

/// What carries a port's frames between a container and the switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// A TAP, from /dev/net/tun.
    #[default]
    Tap,
    /// A veth pair and a packet socket.
    Veth,
}

impl Backend {
    /// As people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tap => "tap",
            Self::Veth => "veth",
        }
    }

    /// The backend of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Tap, Self::Veth].into_iter().find(|backend| backend.name() == name)
    }
}

/// `--net name=N,ip=A,ip6=A,alias=X`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRequest {
    pub network: String,
    pub ip: Option<Ipv4Addr>,
    #[serde(default)]
    pub ip6: Option<Ipv6Addr>,
    /// `network attach --no-ip`: the interface gets no address.
    #[serde(default)]
    pub no_ip: bool,
    pub mac: Option<Mac>,
    pub mtu: Option<u16>,
    pub aliases: Vec<String>,
    /// `network port set NET PORT isolated=on`: it reaches the gateway alone.
    #[serde(default)]
    pub isolated: bool,
}

/// The transport of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

/// One host port that leads to one container port; ranges are spread out before they come here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Publication {
    /// `None`: 0.0.0.0 and [::].
    pub host_ip: Option<IpAddr>,
    /// 0: the host chooses.
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: Protocol,
}

/// The filesystem of a container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RootSpec {
    /// `--rootfs DIR`; without it a copy-on-write view of the host's own root.
    pub rootfs: Option<PathBuf>,
    pub read_only: bool,
    pub volumes: Vec<Volume>,
    /// `--tmpfs DST`
    pub tmpfs: Vec<PathBuf>,
    /// `--device`: paths of the host's device nodes.
    pub devices: Vec<PathBuf>,
}

/// `-v SRC:DST[:ro]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Absolute, on the host.
    pub source: PathBuf,
    /// Absolute, in the container.
    pub target: PathBuf,
    pub read_only: bool,
}

/// What the container may do beyond or below the default.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SecuritySpec {
    /// Names without `CAP_`, upper case, or `ALL`.
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub privileged: bool,
    /// `--security-opt seccomp=unconfined`
    pub seccomp_unconfined: bool,
    /// `--security-opt no-new-privileges=false` clears it; set by default.
    pub no_new_privileges: bool,
}

/// Resource limits.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LimitSpec {
    /// `--ulimit NAME=SOFT[:HARD]`; `None` is unlimited.
    pub ulimits: Vec<(String, Option<u64>, Option<u64>)>,
    pub pids: Option<u64>,
    /// `--memory`, in bytes.
    pub memory: Option<u64>,
}

/// `netloom exec`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecSpec {
    pub command: Vec<String>,
    /// Added to the container's own.
    pub process: ProcessSpec,
    pub tty: bool,
    pub interactive: bool,
    pub privileged: bool,
}

/// One interface of a container on one network, with the address that the IPAM gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub network: String,
    /// `eth0`, …
    pub ifname: String,
    pub mac: Mac,
    /// `None`: it has a MAC and no address, for whoever asks a server of its own or needs none.
    pub ip: Option<Ipv4Addr>,
    pub prefix_len: u8,
    /// The default route of this network, where it has one.
    pub gateway: Option<Ipv4Addr>,
    /// `None`: the network has no IPv6.
    #[serde(default)]
    pub ipv6: Option<Ipv6Attachment>,
    /// Whether the container's default route of IPv4 goes this way.
    pub default_route: bool,
    pub mtu: u16,
    pub aliases: Vec<String>,
    /// In a plan what is asked for, if anything; of an interface that is there, what it is. Supervisors from before there was a
    /// choice say nothing and have TAPs.
    #[serde(default)]
    pub backend: Option<Backend>,
}

/// The IPv6 side of an [`Attachment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6Attachment {
    pub ip: Ipv6Addr,
    pub prefix_len: u8,
    /// The default route of this network, where it has one.
    pub gateway: Option<Ipv6Addr>,
    /// Whether the container's default route of IPv6 goes this way.
    #[serde(default)]
    pub default_route: bool,
}

impl Attachment {
    /// The addresses, and how long their subnets' prefixes are.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, u8)> {
        let ipv6 = self.ipv6.map(|ipv6| (IpAddr::V6(ipv6.ip), ipv6.prefix_len));
        self.ip.map(|ip| (IpAddr::V4(ip), self.prefix_len)).into_iter().chain(ipv6)
    }

    /// Where the container's default routes lead that lead this way.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        let ipv6 = self.ipv6.filter(|ipv6| ipv6.default_route).and_then(|ipv6| ipv6.gateway).map(IpAddr::V6);
        self.gateway.filter(|_| self.default_route).map(IpAddr::V4).into_iter().chain(ipv6)
    }
}

/// Whose network namespace `network attach` puts an interface into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "target")]
pub enum Target {
    /// `--pid`, as the caller numbers processes.
    Pid { pid: i32 },
    /// `--netns`, absolute.
    Path { path: PathBuf },
}

impl fmt::Display for Target {
    /// As listings name it: `pid:1234`, `ns:/run/netns/lab`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pid { pid } => write!(f, "pid:{pid}"),
            Self::Path { path } => write!(f, "ns:{}", path.display()),
        }
    }
}

/// A namespace whatever it is called: device and inode of its file (namespaces(7), "The /proc/pid/ns/ directory").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NamespaceId {
    pub device: u64,
    pub inode: u64,
}

/// What a holder holds: one interface on one network in a namespace that netloom did not make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldSpec {
    pub target: Target,
    pub namespace: NamespaceId,
    pub ifname: String,
    pub request: NetworkRequest,
}

/// What the daemon decided for one start of a container, or for one interface of a holder. After a change of its networks a running
/// container follows a new one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// In the order of the container's networks.
    pub attachments: Vec<Attachment>,
    /// `container:NAME`: a process that is in the namespace to join, the command of that container.
    pub join_pid: Option<i32>,
    /// The nameservers for /etc/resolv.conf; empty: the host's own file.
    pub nameservers: Vec<IpAddr>,
    pub search: Vec<String>,
    /// The lines of /etc/hosts beyond localhost.
    pub hosts: Vec<(IpAddr, Vec<String>)>,
    /// Whether the container's publications can listen: one of its networks leads in.
    #[serde(default = "yes")]
    pub publishes: bool,
}

/// What a daemon means that says nothing, as those from before containers changed their networks while they run.
const fn yes() -> bool {
    true
}

/// A container as its directory keeps it: `<root>/containers/<id>/record.json`. The daemon alone writes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub version: u32,
    /// 64 hex digits.
    pub id: String,
    pub name: String,
    pub spec: ContainerSpec,
    /// RFC 3339, UTC.
    pub created: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_s_address_is_kept_as_the_command_line_has_it() {
        for word in ["192.0.2.7", "2001:db8::1", "host-gateway"] {
            let address: HostAddress = word.parse().unwrap();
            let kept = serde_json::to_string(&address).unwrap();
            assert_eq!(kept, format!("{word:?}"));
            assert_eq!(serde_json::from_str::<HostAddress>(&kept).unwrap(), address);
        }
        assert!(serde_json::from_str::<HostAddress>("\"somewhere\"").is_err());
    }
}
