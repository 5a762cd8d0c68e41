//! A flood of small frames from A to B's address, counted where B's kernel receives them.

use std::{thread, time::Duration};

use super::{Done, requests::answer};
use crate::{
    error::Result,
    load::frames::Flooded,
    peer::Peer,
    process::{ourselves, run},
};

/// What a switch still holds after the flood is not part of its rate.
const DRAIN: Duration = Duration::from_millis(100);

pub(super) fn measure(peer: &Peer, seconds: u32, size: usize) -> Result<Done> {
    let before = peer.b.netns.link(&peer.b.device)?;
    let mut flood = peer.a.netns.command(ourselves()?);
    flood.args(["frames", &peer.a.device, &seconds.to_string(), &size.to_string(), &before.mac]);
    let flooded: Flooded = answer("frames", &run(flood)?)?;
    let after = peer.b.netns.link(&peer.b.device)?;
    thread::sleep(DRAIN);
    let received = (after.received_frames - before.received_frames) as f64;
    Ok(Done { values: vec![received / flooded.seconds / 1e3], amount: received / 1e6 })
}
