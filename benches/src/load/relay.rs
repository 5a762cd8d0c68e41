//! A long and lossy path: frames of two devices, each to the other, late and not all.
//!
//! What is lost follows from a number that is always the same, so that all who are compared lose alike.

use std::{
    io::IoSliceMut,
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvmsg, send, setsockopt, socket, sockopt::RcvBufForce,
    },
};

use super::{READY, frames::link_address};
use crate::error::{BenchError, Result};

const BUFFER: usize = 16 << 20;
/// Of packet(7): sent by this host, so it went out and did not come in.
const OUTGOING: u8 = 4;
const LARGEST: usize = 1 << 16;

/// `relay A B MILLISECONDS ONE_IN`
#[derive(Clone, Debug, Args)]
pub struct Relay {
    a: String,
    b: String,
    /// One way
    milliseconds: u64,
    /// One frame in this many is lost, at random
    one_in: u64,
}

impl Relay {
    pub fn run(&self) -> Result<()> {
        let (a, b) = (Arc::new(packet_socket(&self.a)?), Arc::new(packet_socket(&self.b)?));
        self.carry(a.clone(), b.clone());
        self.carry(b, a);
        println!("{READY}");
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).map_err(BenchError::io("waiting for the end of standard input"))?;
        Ok(())
    }

    /// One thread takes frames and notes when they are due, another waits for that and sends.
    fn carry(&self, from: Arc<OwnedFd>, to: Arc<OwnedFd>) {
        let delay = Duration::from_millis(self.milliseconds);
        let mut losses = Losses { state: 0x2545_f491_4f6c_dd1d, one_in: self.one_in };
        let (queue, due) = mpsc::channel::<(Instant, Vec<u8>)>();
        thread::spawn(move || {
            let mut buffer = vec![0; LARGEST];
            while let Ok(frame) = next(&from, &mut buffer) {
                if frame.is_some_and(|_| !losses.loses())
                    && queue.send((Instant::now() + delay, buffer[..frame.unwrap_or(0)].to_vec())).is_err()
                {
                    return;
                }
            }
        });
        thread::spawn(move || {
            for (when, frame) in due {
                thread::sleep(when.saturating_duration_since(Instant::now()));
                // A full queue loses a frame, as a path may.
                let _ = send(to.as_raw_fd(), &frame, MsgFlags::empty());
            }
        });
    }
}

/// A generator of Marsaglia's xorshift kind.
struct Losses {
    state: u64,
    one_in: u64,
}

impl Losses {
    fn loses(&mut self) -> bool {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.one_in > 0 && self.state.is_multiple_of(self.one_in)
    }
}

fn packet_socket(device: &str) -> Result<OwnedFd> {
    let failed = |errno: Errno| BenchError::Io { what: format!("relaying on {device}"), source: errno.into() };
    let address = link_address(device).ok_or(Errno::ENODEV).map_err(failed)?;
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll).map_err(failed)?;
    bind(socket.as_raw_fd(), &address).map_err(failed)?;
    setsockopt(&socket, RcvBufForce, &BUFFER).map_err(failed)?;
    Ok(socket)
}

/// The length of a frame that came in; `None` for one that went out.
fn next(socket: &OwnedFd, buffer: &mut [u8]) -> nix::Result<Option<usize>> {
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<LinkAddr>(socket.as_raw_fd(), &mut slices, None, MsgFlags::empty())?;
    let outgoing = message.address.is_some_and(|address| address.pkttype() == OUTGOING);
    Ok((!outgoing).then_some(message.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_lost_as_were_asked_for_and_always_the_same() {
        let lost = || {
            let mut losses = Losses { state: 1, one_in: 1000 };
            (0..1_000_000).filter(|_| losses.loses()).count()
        };
        assert!((900..1100).contains(&lost()), "{}", lost());
        assert_eq!(lost(), lost());
    }
}
