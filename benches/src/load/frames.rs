//! A flood of Ethernet frames from a packet socket.

use std::{
    io::IoSlice,
    os::fd::AsRawFd,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use netloom_switch::Mac;
use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockType, SockaddrLike, SockaddrStorage, bind, sendmmsg, socket,
    },
};
use serde::{Deserialize, Serialize};

use crate::error::{BenchError, Result};

/// IEEE 802 Local Experimental Ethertype 1: no host answers it.
pub(super) const ETHERTYPE: [u8; 2] = [0x88, 0xb5];
const BATCH: usize = 64;
/// A paced sender that was paused catches up by no more than this at once.
const BURST: u64 = 32;
const NAP: Duration = Duration::from_micros(20);

/// `frames DEVICE SECONDS SIZE DESTINATION... [--kpps N] [--sources N] [--count N]`
#[derive(Clone, Debug, Args)]
pub struct Frames {
    device: String,
    seconds: f64,
    /// Bytes of a frame, without the FCS
    size: usize,
    /// In turn
    #[arg(required = true)]
    destinations: Vec<Mac>,
    /// A steady rate instead of a flood
    #[arg(long)]
    kpps: Option<f64>,
    /// Sends from this many addresses in turn, numbered, instead of the device's own
    #[arg(long, default_value_t = 0)]
    sources: u32,
    /// Sends to this many numbered addresses in turn instead of the destinations
    #[arg(long, default_value_t = 0)]
    numbered: u32,
    /// The first of the numbers
    #[arg(long, default_value_t = 0)]
    first: u32,
    /// Ends after this many frames
    #[arg(long)]
    count: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Flooded {
    pub sent: u64,
    pub seconds: f64,
}

/// The `n`th address of those that `--sources` and `--numbered` count.
#[must_use]
pub fn numbered(n: u32) -> Mac {
    let [a, b, c, d] = n.to_be_bytes();
    Mac([0x06, 0, a, b, c, d])
}

impl Frames {
    pub fn run(&self) -> Result<Flooded> {
        let failed = |errno: Errno| BenchError::Io { what: format!("sending frames on {}", self.device), source: errno.into() };
        let address = link_address(&self.device).ok_or(Errno::ENODEV).map_err(failed)?;
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).map_err(failed)?;
        bind(socket.as_raw_fd(), &address).map_err(failed)?;
        let own = Mac(address.addr().unwrap_or_default());
        let nowhere: [Option<SockaddrStorage>; BATCH] = [None; BATCH];
        let mut headers = MultiHeaders::preallocate(BATCH, None);
        let (begun, end) = (Instant::now(), Duration::from_secs_f64(self.seconds));
        let mut frames: Vec<Vec<u8>> = vec![frame(own, own, self.size); BATCH];
        let mut sent = 0;
        loop {
            let elapsed = begun.elapsed();
            let left = self.count.map_or(u64::MAX, |count| count.saturating_sub(sent));
            if elapsed >= end || left == 0 {
                break;
            }
            let due = self.kpps.map_or(u64::MAX, |kpps| (elapsed.as_secs_f64() * kpps * 1e3) as u64 + 1);
            let batch = left.min(due.saturating_sub(sent)).min(if self.kpps.is_some() { BURST } else { BATCH as u64 }) as usize;
            if batch == 0 {
                thread::sleep(NAP);
                continue;
            }
            for (frame, n) in frames.iter_mut().zip(sent..).take(batch) {
                self.address(frame, n, own);
            }
            let slices: Vec<_> = frames.iter().take(batch).map(|frame| [IoSlice::new(frame)]).collect();
            match sendmmsg(socket.as_raw_fd(), &mut headers, slices.iter(), nowhere, [], MsgFlags::empty()) {
                Ok(results) => sent += results.count() as u64,
                // The device's queue is full: that is what a flood is for.
                Err(Errno::ENOBUFS | Errno::EAGAIN) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(Flooded { sent, seconds: begun.elapsed().as_secs_f64() })
    }

    /// Writes the addresses of the `n`th frame.
    fn address(&self, frame: &mut [u8], n: u64, own: Mac) {
        let nth = |count: u32| numbered(self.first.wrapping_add((n % u64::from(count.max(1))) as u32));
        let to = if self.numbered > 0 { nth(self.numbered) } else { self.destinations[(n % self.destinations.len() as u64) as usize] };
        let from = if self.sources > 0 { nth(self.sources) } else { own };
        frame[..6].copy_from_slice(&to.0);
        frame[6..12].copy_from_slice(&from.0);
    }
}

/// The packet address of a device: its index and MAC.
pub(super) fn link_address(device: &str) -> Option<LinkAddr> {
    let addresses = getifaddrs().ok()?.filter(|one| one.interface_name == device);
    let mut of_links = addresses.filter_map(|one| one.address).filter(|address| address.family() == Some(AddressFamily::Packet));
    of_links.next().and_then(|address| address.as_link_addr().copied())
}

pub(super) fn frame(destination: Mac, source: Mac, size: usize) -> Vec<u8> {
    let mut frame = [&destination.0[..], &source.0, &ETHERTYPE].concat();
    frame.resize(size.max(frame.len()), 0);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_as_long_as_asked_and_starts_with_its_addresses() {
        let frame = frame(Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]), 60);
        assert_eq!(frame.len(), 60);
        assert_eq!(frame[..14], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
    }

    #[test]
    fn the_loopback_device_has_a_link_address_and_a_missing_one_has_none() {
        assert!(link_address("lo").is_some_and(|address| address.ifindex() > 0));
        assert!(link_address("none-such").is_none());
    }
}
