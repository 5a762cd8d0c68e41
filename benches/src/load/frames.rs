//! A flood of Ethernet frames from a packet socket.

use std::{
    io::IoSlice,
    iter,
    os::fd::AsRawFd,
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
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];
const BATCH: usize = 64;

/// `frames DEVICE DESTINATION SECONDS SIZE`
#[derive(Clone, Debug, Args)]
pub struct Frames {
    device: String,
    destination: Mac,
    seconds: f64,
    /// Bytes of a frame, without the FCS
    size: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Flooded {
    pub sent: u64,
    pub seconds: f64,
}

impl Frames {
    pub fn run(&self) -> Result<Flooded> {
        let failed = |errno: Errno| BenchError::Io { what: format!("sending frames on {}", self.device), source: errno.into() };
        let address = link_address(&self.device).ok_or(Errno::ENODEV).map_err(failed)?;
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).map_err(failed)?;
        bind(socket.as_raw_fd(), &address).map_err(failed)?;
        let frame = frame(self.destination, Mac(address.addr().unwrap_or_default()), self.size);
        let slice = [IoSlice::new(&frame)];
        let nowhere: [Option<SockaddrStorage>; BATCH] = [None; BATCH];
        let mut headers = MultiHeaders::preallocate(BATCH, None);
        let (begun, end) = (Instant::now(), Duration::from_secs_f64(self.seconds));
        let mut sent = 0;
        while begun.elapsed() < end {
            let slices = iter::repeat_n(&slice, BATCH);
            match sendmmsg(socket.as_raw_fd(), &mut headers, slices, nowhere, [], MsgFlags::empty()) {
                Ok(results) => sent += results.count() as u64,
                // The device's queue is full: that is what a flood is for.
                Err(Errno::ENOBUFS | Errno::EAGAIN) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(Flooded { sent, seconds: begun.elapsed().as_secs_f64() })
    }
}

/// The packet address of a device: its index and MAC.
fn link_address(device: &str) -> Option<LinkAddr> {
    let addresses = getifaddrs().ok()?.filter(|one| one.interface_name == device);
    let mut of_links = addresses.filter_map(|one| one.address).filter(|address| address.family() == Some(AddressFamily::Packet));
    of_links.next().and_then(|address| address.as_link_addr().copied())
}

fn frame(destination: Mac, source: Mac, size: usize) -> Vec<u8> {
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
