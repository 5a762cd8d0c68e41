//! A place far away: behind a path with a delay and some loss, which a relay of our own makes.
//!
//! ```text
//!  host, out0 ── near0 ─ relay ─ far0 ── in0, the place
//! ```

use std::net::Ipv4Addr;

use super::{End, Peer, Setting, host};
use crate::{
    error::Result,
    load::READY,
    netns::Netns,
    process::{Process, ourselves},
};

pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 2);
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 1);
/// There and back: 20 ms.
const ONE_WAY_MS: u32 = 10;
const LOST_ONE_IN: u32 = 1000;

pub(super) struct Far {
    pub(super) end: End,
    pub(super) middle: Netns,
    pub(super) relay: Process,
}

pub(super) fn beyond(setting: &Setting, host: &Netns) -> Result<Far> {
    let (middle, place) = (Netns::new(format!("{}m", setting.tag))?, Netns::new(format!("{}r", setting.tag))?);
    middle.add_veth("near0", host, "out0", NEAR)?;
    middle.add_veth("far0", &place, "in0", ADDRESS)?;
    // What is lost is a packet, as on a wire, and never a whole superframe.
    for (netns, device) in [(host, "out0"), (&middle, "near0"), (&middle, "far0"), (&place, "in0")] {
        crate::process::run(netns.command_line(&format!("ethtool -K {device} tso off gso off gro off tx off rx off")))?;
    }
    let mut relay = middle.command(ourselves()?);
    relay.args(["relay", "near0", "far0", &ONE_WAY_MS.to_string(), &LOST_ONE_IN.to_string()]);
    let relay = Process::start_until(relay, READY)?;
    Ok(Far { end: End { netns: place, device: "in0".into() }, middle, relay })
}

/// The host itself on that path.
pub(super) fn host_socket(setting: &Setting) -> Result<Peer> {
    let host = host(format!("{}h", setting.tag))?;
    let Far { end, middle, relay } = beyond(setting, &host)?;
    let a = End { netns: host, device: "out0".into() };
    Ok(Peer { processes: vec![relay], between: vec![(middle, Vec::new())], ..Peer::between(setting, a, end, ADDRESS) })
}
