//! Netloom and its peers, each set up as two ends A and B with its own forwarding in between, in namespaces of their own.
//!
//! ```text
//!  Switch:   A ── switch ── B          B is reached by its own address
//!  Nat:      A ── NAT ── B, the host   B is reached by SERVICE, an address of the host that no NAT treats in a special way
//! ```

use std::{net::Ipv4Addr, path::PathBuf, process::Command, time::Duration};

use serde::Serialize;

use crate::{
    error::{BenchError, Result},
    netns::Netns,
    process::{Process, find, run, sh},
    work::requests,
};

mod bridge;
mod join;
mod nat;
mod netloom;
mod ovs;
mod vde;

/// An address of the host on an interface of its own: neither loopback nor the uplink's.
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
const READY_WITHIN: Duration = Duration::from_secs(15);

/// What stands between the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Switch,
    Nat,
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
    pub name: String,
    pub kind: Kind,
    pub a: End,
    pub b: End,
    /// Where A reaches B.
    pub target: Ipv4Addr,
    /// The processes that forward; none where the kernel does it.
    pub forwarders: Vec<u32>,
    /// Links between the ends whose MTU follows theirs, by namespace.
    between: Vec<(Netns, Vec<String>)>,
    largest_mtu: u32,
    /// Ended by their drop, the first one first.
    processes: Vec<Process>,
    /// For one whose processes are not our children: the command that ends them.
    tear_down: Option<Command>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // What it leaves ends with the bench's process namespace.
        let _ = self.tear_down.take().map(run);
        self.processes.clear();
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

const SWITCH: &[Kind] = &[Kind::Switch];
const NAT: &[Kind] = &[Kind::Nat];

/// Every contender. NAT peers come at their best MTU and, for those who must have it, at Ethernet's.
pub const KNOWN: [Known; 10] = [
    Known { name: "netloom", kinds: &[Kind::Switch, Kind::Nat], program: "", version: "", set_up: netloom::set_up },
    // Netloom's data path without its containers, for those who work on it: `cargo build --release -p netloom-runtime --example join`.
    Known { name: "join", kinds: &[Kind::Switch, Kind::Nat], program: "", version: "", set_up: join::set_up },
    Known { name: "join-napi", kinds: &[Kind::Switch, Kind::Nat], program: "", version: "", set_up: join::with_napi },
    Known { name: "kernel-bridge", kinds: SWITCH, program: "ip", version: "uname -sr", set_up: bridge::set_up },
    Known { name: "ovs", kinds: SWITCH, program: "ovs-vswitchd", version: "ovs-vswitchd --version", set_up: ovs::set_up },
    Known { name: "vde", kinds: SWITCH, program: "vde_switch", version: "vde_switch --version", set_up: vde::set_up },
    Known { name: "slirp4netns", kinds: NAT, program: "slirp4netns", version: "slirp4netns --version", set_up: nat::slirp4netns },
    Known { name: "slirp4netns-1500", kinds: NAT, program: "slirp4netns", version: "slirp4netns --version", set_up: nat::slirp4netns_1500 },
    Known { name: "pasta", kinds: NAT, program: "pasta", version: "pasta --version", set_up: nat::pasta },
    Known { name: "pasta-1500", kinds: NAT, program: "pasta", version: "pasta --version", set_up: nat::pasta_1500 },
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
        let peer = (self.set_up)(setting)?;
        requests::wait_until_reached(&peer, READY_WITHIN)?;
        Ok(peer)
    }
}

impl Peer {
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
