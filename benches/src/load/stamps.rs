//! How long one frame takes: frames that carry the time they left, between packet sockets of one machine and so of one clock.

use std::{
    io::IoSliceMut,
    os::fd::AsRawFd,
    sync::atomic::Ordering,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use netloom_switch::Mac;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, poll},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, recvmsg, send, socket},
};
use serde::{Deserialize, Serialize};

use super::{
    READY,
    frames::{ETHERTYPE, frame, link_address, numbered},
    udp::ends_with_stdin,
};
use crate::{
    error::{BenchError, Result},
    stats,
};
use std::os::fd::AsFd;

const SIZE: usize = 60;
/// Marks the stamp that follows it.
const MARK: [u8; 8] = *b"stamped!";
const STAMP: std::ops::Range<usize> = 22..30;
/// Apart enough that no frame waits for another.
const PAUSE: Duration = Duration::from_millis(2);

/// `stamp-send DEVICE DESTINATION COUNT [--strangers]`
#[derive(Clone, Debug, Args)]
pub struct Send {
    device: String,
    destination: Mac,
    count: u32,
    /// Each from an address and to an address that never were seen before, numbered from here
    #[arg(long)]
    strangers: Option<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sent {
    pub sent: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Took {
    pub frames: usize,
    pub p50_us: f64,
    pub p99_us: f64,
}

fn nanoseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

impl Send {
    pub fn run(&self) -> Result<Sent> {
        let failed = |errno: Errno| BenchError::Io { what: format!("sending stamps on {}", self.device), source: errno.into() };
        let address = link_address(&self.device).ok_or(Errno::ENODEV).map_err(failed)?;
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).map_err(failed)?;
        bind(socket.as_raw_fd(), &address).map_err(failed)?;
        let own = Mac(address.addr().unwrap_or_default());
        for n in 0..self.count {
            let (to, from) = self
                .strangers
                .map_or((self.destination, own), |first| (numbered(first.wrapping_add(2 * n)), numbered(first.wrapping_add(2 * n + 1))));
            let mut frame = frame(to, from, SIZE);
            frame[14..22].copy_from_slice(&MARK);
            frame[STAMP].copy_from_slice(&nanoseconds().to_be_bytes());
            send(socket.as_raw_fd(), &frame, MsgFlags::empty()).map_err(failed)?;
            thread::sleep(PAUSE);
        }
        Ok(Sent { sent: self.count })
    }
}

/// Frames for others count too, since a flood brings them.
pub fn receive(device: &str) -> Result<Took> {
    let failed = |errno: Errno| BenchError::Io { what: format!("receiving stamps on {device}"), source: errno.into() };
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll).map_err(failed)?;
    let address = link_address(device).ok_or(Errno::ENODEV).map_err(failed)?;
    bind(socket.as_raw_fd(), &address).map_err(failed)?;
    let over = ends_with_stdin();
    println!("{READY}");
    let (mut took, mut buffer) = (Vec::new(), [0; 2048]);
    while !over.load(Ordering::Relaxed) {
        if poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], 20u16).map_err(failed)? == 0 {
            continue;
        }
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let length = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, None, MsgFlags::empty()).map_err(failed)?.bytes;
        let now = nanoseconds();
        if let Some(left) = stamp(&buffer[..length]) {
            took.push(now.saturating_sub(left) as f64 / 1e3);
        }
    }
    took.sort_unstable_by(f64::total_cmp);
    Ok(Took { frames: took.len(), p50_us: stats::quantile(&took, 0.5), p99_us: stats::quantile(&took, 0.99) })
}

fn stamp(frame: &[u8]) -> Option<u64> {
    let stamped = frame.get(12..14)? == ETHERTYPE && frame.get(14..22)? == MARK;
    let bytes = frame.get(STAMP)?.try_into().ok()?;
    stamped.then(|| u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stamped_frame_has_a_time() {
        let mut frame = frame(Mac::BROADCAST, numbered(1), SIZE);
        assert_eq!(stamp(&frame), None);
        frame[14..22].copy_from_slice(&MARK);
        frame[STAMP].copy_from_slice(&7u64.to_be_bytes());
        assert_eq!(stamp(&frame), Some(7));
        assert_eq!(stamp(&frame[..20]), None);
    }
}
