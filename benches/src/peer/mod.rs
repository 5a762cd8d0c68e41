//! Netloom and its peers, each set up as two ends A and B with its own forwarding in between, in namespaces of their own.
//!
//! ```text
//!  Switch:   A ── switch ── B          B is reached by its own address
//!  Nat:      A ── NAT ── B, the host   B is reached by SERVICE, an address of the host that no NAT treats in a special way
//! ```

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde::Serialize;

use crate::{
    error::{BenchError, Result},
    netns::Netns,
    process::{Process, find, run, sh},
    work::requests,
};

mod books;
mod bridge;
mod far;
mod join;
mod nat;
mod netloom;
mod ovs;
mod podman;
mod published;
mod vde;

pub use books::Books;
pub(crate) use netloom::Instance;

/// An address of the host on an interface of its own: neither loopback nor the uplink's.
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
const SERVICE6: Ipv6Addr = Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 1);
const READY_WITHIN: Duration = Duration::from_secs(15);

/// What stands between the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Switch,
    /// A switch with four ends.
    Mesh,
    Nat,
    /// A switch with a thousand idle ports beside the two.
    Among,
    /// A NAT with ten thousand idle flows.
    Flows,
    /// A switch, or a NAT, beside a container that sends hostile frames.
    Hostile,
    HostileNat,
    /// A switch on which containers come and go.
    Churn,
    /// A long and lossy path behind the NAT.
    Lossy,
    /// The other way: A is the host, B a container behind a published port.
    Published,
    /// Starting containers; the two ends are the host's loopback.
    Start,
    /// What netloom itself takes; there is nobody to compare with.
    Own,
}

impl Kind {
    pub const ALL: [Self; 12] = [
        Self::Switch,
        Self::Mesh,
        Self::Nat,
        Self::Among,
        Self::Flows,
        Self::Hostile,
        Self::HostileNat,
        Self::Churn,
        Self::Lossy,
        Self::Published,
        Self::Start,
        Self::Own,
    ];
}

/// One end: where programs run, and the device that leads to the other.
#[derive(Debug)]
pub struct End {
    pub netns: Netns,
    pub device: String,
}

/// A contender, up and running. Dropping it ends its processes and removes its namespaces.
#[derive(Debug)]
pub struct Peer {
    /// For one whose processes are not our children: the command that ends them. The first of the fields to be dropped.
    tear_down: TearDown,
    /// Ended by their drop, the first one first, and before the namespaces.
    processes: Vec<Process>,
    pub name: String,
    pub kind: Kind,
    pub a: End,
    pub b: End,
    /// Of a mesh: C, D.
    more: Vec<End>,
    /// Where A reaches B.
    pub target: IpAddr,
    /// The processes that forward; none where the kernel does it.
    pub forwarders: Vec<u32>,
    /// Links between the ends whose MTU follows theirs, by namespace.
    between: Vec<(Netns, Vec<String>)>,
    largest_mtu: u32,
    /// Runs beside every measurement.
    disturbance: Option<Disturbance>,
    /// Numbers of addresses that were used already.
    used: AtomicU32,
    /// Netloom's own commands, where this is one.
    pub(crate) instance: Option<Instance>,
    podman: Option<podman::Podman>,
    /// The limits of socket buffers are raised for it.
    pub raised: bool,
}

/// A shell's line, and the namespace to run it in.
#[derive(Debug)]
struct Disturbance {
    netns: Netns,
    line: String,
}

/// Runs when it is dropped. What it leaves ends with the bench's process namespace.
#[derive(Debug, Default)]
struct TearDown(Option<Command>);

impl Drop for TearDown {
    fn drop(&mut self) {
        let _ = self.0.take().map(run);
    }
}

/// What the harness knows how to set up.
#[derive(Clone, Debug)]
pub struct Known {
    pub name: &'static str,
    pub kinds: &'static [Kind],
    program: &'static str,
    version: &'static str,
    set_up: fn(&Setting) -> Result<Peer>,
    /// Wants the kernel's limits of socket buffers raised.
    pub raised: bool,
}

/// What a contender is set up with.
#[derive(Clone, Debug)]
pub struct Setting {
    pub name: String,
    pub kind: Kind,
    /// Begins the names of its namespaces; differs between two of the same name.
    pub tag: String,
    pub netloom: PathBuf,
}

const NAT: &[Kind] = &[Kind::Nat];
const SWITCHES: &[Kind] = &[Kind::Switch, Kind::Mesh];
const BOTH: &[Kind] = &[Kind::Switch, Kind::Nat];
const ENGINES: &[Kind] = &[Kind::Switch, Kind::Nat, Kind::Start];
const PUBLISHED: &[Kind] = &[Kind::Published];
const ALONE: &[Kind] = &[Kind::Among, Kind::Flows, Kind::Hostile, Kind::HostileNat, Kind::Churn];

const NETLOOM: Known = Known { name: "netloom", kinds: &Kind::ALL, program: "", version: "", set_up: netloom::set_up, raised: false };
const SLIRP: Known = Known {
    name: "slirp4netns",
    kinds: NAT,
    program: "slirp4netns",
    version: "slirp4netns --version",
    set_up: nat::slirp4netns,
    raised: false,
};
const PASTA: Known = Known { name: "pasta", kinds: NAT, program: "pasta", version: "pasta --version", set_up: nat::pasta, raised: false };

/// Every contender. NAT peers come at their best MTU, at Ethernet's (`-1500`), and with larger socket buffers (`-raised`).
pub const KNOWN: [Known; 24] = [
    NETLOOM,
    // The same on the other backend, by an ordinary user, over IPv6, without what a work puts beside it, and with
    // that where it reaches nobody.
    Known { name: "netloom-veth", kinds: &[Kind::Switch, Kind::Mesh, Kind::Nat], set_up: netloom::on_veth, ..NETLOOM },
    Known { name: "netloom-user", kinds: ENGINES, set_up: netloom::by_a_user, ..NETLOOM },
    Known { name: "netloom-ipv6", kinds: NAT, set_up: netloom::by_ipv6, ..NETLOOM },
    Known { name: "netloom-alone", kinds: ALONE, set_up: netloom::alone, ..NETLOOM },
    Known { name: "netloom-aside", kinds: &[Kind::Hostile, Kind::HostileNat], set_up: netloom::aside, ..NETLOOM },
    // Netloom's data path without its containers, for those who work on it: `cargo build --release -p netloom-runtime --example join`.
    Known { name: "join", kinds: BOTH, set_up: join::set_up, ..NETLOOM },
    Known { name: "join-napi", kinds: BOTH, set_up: join::with_napi, ..NETLOOM },
    Known { name: "kernel-bridge", kinds: SWITCHES, program: "ip", version: "uname -sr", set_up: bridge::set_up, raised: false },
    Known { name: "ovs", kinds: SWITCHES, program: "ovs-vswitchd", version: "ovs-vswitchd --version", set_up: ovs::set_up, raised: false },
    Known {
        name: "vde",
        kinds: &[Kind::Switch],
        program: "vde_switch",
        version: "vde_switch --version",
        set_up: vde::set_up,
        raised: false,
    },
    SLIRP,
    Known { name: "slirp4netns-1500", set_up: nat::slirp4netns_1500, ..SLIRP },
    Known { name: "slirp4netns-raised", raised: true, ..SLIRP },
    PASTA,
    Known { name: "pasta-1500", set_up: nat::pasta_1500, ..PASTA },
    Known { name: "pasta-raised", raised: true, ..PASTA },
    Known { name: "host-socket", kinds: &[Kind::Lossy], program: "ip", version: "uname -sr", set_up: far::host_socket, raised: false },
    Known { name: "podman", kinds: ENGINES, program: "podman", version: "podman --version", set_up: podman::by_root, raised: false },
    Known { name: "podman-user", kinds: ENGINES, program: "podman", version: "podman --version", set_up: podman::by_a_user, raised: false },
    Known {
        name: "podman-slirp4netns",
        kinds: &[Kind::Nat, Kind::Start],
        program: "podman",
        version: "podman --version",
        set_up: podman::by_a_user_with_slirp4netns,
        raised: false,
    },
    Known {
        name: "loopback",
        kinds: &[Kind::Nat, Kind::Published],
        program: "ip",
        version: "uname -sr",
        set_up: published::loopback,
        raised: false,
    },
    Known {
        name: "docker-proxy",
        kinds: PUBLISHED,
        program: "docker-proxy",
        version: "dockerd --version",
        set_up: published::docker_proxy,
        raised: false,
    },
    Known {
        name: "rootlesskit",
        kinds: PUBLISHED,
        program: "rootlesskit",
        version: "rootlesskit --version",
        set_up: published::rootlesskit,
        raised: false,
    },
];

impl Known {
    pub fn named(name: &str) -> Result<&'static Self> {
        static ALL: [Known; KNOWN.len()] = KNOWN;
        let known = || ALL.iter().map(|known| known.name).collect::<Vec<_>>().join(", ");
        ALL.iter().find(|known| known.name == name).ok_or_else(|| BenchError::Unknown {
            kind: "peer",
            name: name.to_owned(),
            known: known(),
        })
    }

    /// The program it needs, if the machine lacks it.
    #[must_use]
    pub fn missing(&self) -> Option<&'static str> {
        (!self.program.is_empty() && find(self.program).is_none()).then_some(self.program)
    }

    /// What its program says of itself, in one line.
    #[must_use]
    pub fn version(&self, setting: &Setting) -> String {
        let line = if self.version.is_empty() { format!("{} version", setting.netloom.display()) } else { self.version.to_owned() };
        let said = sh(&line).unwrap_or_default();
        said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("unknown").to_owned()
    }

    /// Sets it up, and waits until A reaches B.
    pub fn set_up(&self, setting: &Setting) -> Result<Peer> {
        let mut peer = (self.set_up)(setting)?;
        peer.raised = self.raised;
        requests::wait_until_reached(&peer, READY_WITHIN)?;
        Ok(peer)
    }
}

impl Peer {
    /// Two ends and what leads from one to the other; the rest as most have it.
    fn between(setting: &Setting, a: End, b: End, target: impl Into<IpAddr>) -> Self {
        Self {
            name: setting.name.clone(),
            kind: setting.kind,
            a,
            b,
            more: Vec::new(),
            target: target.into(),
            forwarders: Vec::new(),
            between: Vec::new(),
            largest_mtu: 1500,
            processes: Vec::new(),
            disturbance: None,
            used: AtomicU32::new(0),
            instance: None,
            podman: None,
            raised: false,
            tear_down: TearDown::default(),
        }
    }

    /// Where A reaches a port of B.
    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.target, port)
    }

    /// A port on all addresses of the family by which A reaches B.
    pub(crate) fn anywhere(&self, port: u16) -> SocketAddr {
        SocketAddr::new(if self.target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }, port)
    }

    /// A, B and, of a mesh, the others.
    pub fn ends(&self) -> impl Iterator<Item = &End> {
        [&self.a, &self.b].into_iter().chain(&self.more)
    }

    /// The first of so many numbers of addresses that nobody used before.
    pub(crate) fn fresh(&self, count: u32) -> u32 {
        self.used.fetch_add(count * 2, Ordering::Relaxed)
    }

    /// Starts a container on a network that runs `true` and is removed; `None` where there are no containers.
    pub(crate) fn start_command(&self) -> Option<Command> {
        let netloom = self.instance.as_ref().map(|instance| instance.netloom(&["run", "--rm", "--net=bridge", "true"]));
        netloom.or_else(|| self.podman.as_ref().map(podman::Podman::start))
    }

    /// Starts what goes on beside a measurement; it ends with the value.
    pub(crate) fn disturb(&self) -> Result<Option<Process>> {
        let start = |disturbance: &Disturbance| {
            let mut command = disturbance.netns.command("sh");
            command.args(["-c", &disturbance.line]);
            Process::start(command)
        };
        self.disturbance.as_ref().map(start).transpose()
    }

    /// Changes the MTU of both ends and of all in between. False: this one cannot carry such packets.
    pub fn set_mtu(&self, mtu: u32) -> Result<bool> {
        if mtu > self.largest_mtu {
            return Ok(false);
        }
        for (netns, devices) in &self.between {
            for device in devices {
                netns.ip(&format!("link set {device} mtu {mtu}"))?;
            }
        }
        for end in [&self.a, &self.b] {
            end.netns.ip(&format!("link set {} mtu {mtu}", end.device))?;
        }
        Ok(true)
    }
}

/// A mesh without its ends.
fn too_few() -> BenchError {
    BenchError::Command { command: "setting up".into(), said: "fewer than two ends".into() }
}

/// A namespace that plays the host of a NAT: an uplink with a default route, and a service's address behind it.
fn host(name: String) -> Result<Netns> {
    let host = Netns::new(name)?;
    for (device, address) in [("up0", Ipv4Addr::new(10, 77, 0, 1)), ("svc0", SERVICE)] {
        host.ip(&format!("link add {device} type veth peer name {device}p"))?;
        host.ip(&format!("addr add {address}/24 dev {device}"))?;
        host.ip(&format!("link set {device} up"))?;
        host.ip(&format!("link set {device}p up"))?;
    }
    host.ip("route add default via 10.77.0.2 dev up0")?;
    host.ip("addr add fd77::1/64 dev up0 nodad")?;
    host.ip(&format!("addr add {SERVICE6}/64 dev svc0 nodad"))?;
    host.ip("-6 route add default via fd77::2 dev up0")?;
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_peer_is_refused_with_the_names_there_are() {
        let error = Known::named("kernel_bridge").unwrap_err().to_string();
        assert!(error.contains("kernel-bridge") && error.contains("pasta"), "{error}");
    }
}
