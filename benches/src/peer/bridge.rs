//! The kernel's own bridge: its ends on veth pairs.

use std::net::Ipv4Addr;

use super::{End, Kind, Peer, Setting};
use crate::{error::Result, netns::Netns};

pub(super) const A: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
pub(super) const B: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);

/// The namespaces of a switch with its guests on veth pairs, whose outer ends nothing joins yet.
pub(super) struct Guests {
    switch: Netns,
    ends: Vec<End>,
    pub(super) ports: Vec<String>,
}

impl Guests {
    pub(super) fn on_veth(setting: &Setting) -> Result<Self> {
        let new = |part: &str| Netns::new(format!("{}{part}", setting.tag));
        let mut guests = Self { switch: new("h")?, ends: Vec::new(), ports: Vec::new() };
        let parts = if setting.kind == Kind::Mesh { &["a", "b", "c", "d"][..] } else { &["a", "b"] };
        for (part, last) in parts.iter().zip(1..) {
            let (netns, port) = (new(part)?, format!("p{part}"));
            guests.switch.add_veth(&port, &netns, "eth0", Ipv4Addr::new(10, 9, 0, last))?;
            guests.ends.push(End { netns, device: "eth0".into() });
            guests.ports.push(port);
        }
        Ok(guests)
    }

    pub(super) fn switch(&self) -> &Netns {
        &self.switch
    }

    /// The ends, and the ports whose MTU follows theirs.
    pub(super) fn into_peer(self, setting: &Setting, largest_mtu: u32) -> Option<Peer> {
        let mut ends = self.ends.into_iter();
        let (a, b) = (ends.next()?, ends.next()?);
        let between = vec![(self.switch, self.ports)];
        Some(Peer { more: ends.collect(), between, largest_mtu, ..Peer::between(setting, a, b, B) })
    }
}

pub(super) fn set_up(setting: &Setting) -> Result<Peer> {
    let guests = Guests::on_veth(setting)?;
    guests.switch().ip("link add br0 type bridge")?;
    guests.switch().ip("link set br0 up")?;
    for port in &guests.ports {
        guests.switch().ip(&format!("link set {port} master br0"))?;
    }
    guests.into_peer(setting, 65535).ok_or_else(super::too_few)
}
