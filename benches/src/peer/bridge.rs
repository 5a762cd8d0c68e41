//! The kernel's own bridge: A and B on veth pairs.

use std::net::Ipv4Addr;

use super::{End, Kind, Peer, Setting};
use crate::{error::Result, netns::Netns};

pub(super) const A: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
pub(super) const B: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
pub(super) const PORTS: [&str; 2] = ["pa", "pb"];

/// The namespaces of a switch with two guests on veth pairs, whose outer ends nothing joins yet.
pub(super) struct Guests {
    pub(super) switch: Netns,
    pub(super) a: Netns,
    pub(super) b: Netns,
}

impl Guests {
    pub(super) fn on_veth(setting: &Setting) -> Result<Self> {
        let new = |part| Netns::new(format!("{}{part}", setting.tag));
        let guests = Self { switch: new("h")?, a: new("a")?, b: new("b")? };
        for (guest, port, address) in [(&guests.a, PORTS[0], A), (&guests.b, PORTS[1], B)] {
            guests.switch.add_veth(port, guest, "eth0", address)?;
        }
        Ok(guests)
    }
}

pub(super) fn set_up(setting: &Setting) -> Result<Peer> {
    let Guests { switch, a, b } = Guests::on_veth(setting)?;
    switch.ip("link add br0 type bridge")?;
    switch.ip("link set br0 up")?;
    for port in PORTS {
        switch.ip(&format!("link set {port} master br0"))?;
    }
    Ok(Peer {
        name: setting.name.clone(),
        kind: Kind::Switch,
        a: End { netns: a, device: "eth0".into() },
        b: End { netns: b, device: "eth0".into() },
        target: B,
        forwarders: Vec::new(),
        between: vec![(switch, PORTS.map(str::to_owned).to_vec())],
        largest_mtu: 65535,
        processes: Vec::new(),
        tear_down: None,
    })
}
