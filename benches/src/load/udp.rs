//! Datagrams at a steady rate, and their count at the other end.

use std::{
    io::{self, IoSlice, IoSliceMut},
    iter,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, setsockopt, sockopt::RcvBufForce},
};
use serde::{Deserialize, Serialize};

use super::READY;
use crate::error::{BenchError, Result};

const BATCH: usize = 64;
/// A catch-up after a pause sends no more than this at once, or the pause becomes a burst that no queue holds.
const BURST: usize = 32;
const NAP: Duration = Duration::from_micros(20);
/// Room for the receiver's own pauses, so that what is lost is lost on the way.
const RECEIVE_BUFFER: usize = 16 << 20;
/// How long the receiver waits before it looks whether it shall end, and how long a greeting is repeated after.
const TURN: Duration = Duration::from_millis(50);

/// `udp-send PAYLOAD KPPS SECONDS ADDRESS [--to ADDRESS]`
#[derive(Clone, Debug, Args)]
pub struct UdpSend {
    /// Bytes of payload
    payload: usize,
    kpps: f64,
    seconds: f64,
    /// Where it sends from
    on: SocketAddr,
    /// Where to; without it, it waits for a greeting and sends to where that came from
    #[arg(long)]
    to: Option<SocketAddr>,
}

/// `udp-receive ADDRESS [--greet ADDRESS]`
#[derive(Clone, Debug, Args)]
pub struct UdpReceive {
    on: SocketAddr,
    /// Greets a waiting sender until its datagrams come
    #[arg(long)]
    greet: Option<SocketAddr>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UdpSent {
    pub datagrams: u64,
    pub seconds: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UdpReceived {
    pub datagrams: u64,
}

impl UdpSend {
    pub fn run(&self) -> Result<UdpSent> {
        let failed = |source: io::Error| BenchError::Io { what: "sending datagrams".into(), source };
        let socket = self.connected().map_err(failed)?;
        let payload = vec![0; self.payload];
        let slice = [IoSlice::new(&payload)];
        let connected: [Option<SockaddrStorage>; BATCH] = [None; BATCH];
        let mut headers = MultiHeaders::preallocate(BATCH, None);
        let begun = Instant::now();
        let mut sent = 0;
        loop {
            let elapsed = begun.elapsed().as_secs_f64();
            if elapsed > self.seconds {
                break;
            }
            let due = (elapsed * self.kpps * 1e3) as u64 + 1;
            if due <= sent {
                thread::sleep(NAP);
                continue;
            }
            let slices = iter::repeat_n(&slice, BURST.min((due - sent) as usize));
            match sendmmsg(socket.as_raw_fd(), &mut headers, slices, connected, [], MsgFlags::empty()) {
                Ok(results) => sent += results.count() as u64,
                // A receiver that ended answers with ICMP; a full queue is the device's word that it is too fast.
                Err(Errno::ECONNREFUSED | Errno::ENOBUFS | Errno::EAGAIN) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
        }
        Ok(UdpSent { datagrams: sent, seconds: begun.elapsed().as_secs_f64() })
    }

    fn connected(&self) -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind(self.on)?;
        let Some(to) = self.to else {
            println!("{READY}");
            let (_, greeter) = socket.recv_from(&mut [0; 16])?;
            socket.connect(greeter)?;
            return Ok(socket);
        };
        socket.connect(to)?;
        Ok(socket)
    }
}

impl UdpReceive {
    pub fn run(&self) -> Result<UdpReceived> {
        let failed = |source: io::Error| BenchError::Io { what: "receiving datagrams".into(), source };
        let socket = UdpSocket::bind(self.on).map_err(failed)?;
        setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER).map_err(|errno| failed(errno.into()))?;
        socket.set_read_timeout(Some(TURN)).map_err(failed)?;
        let over = ends_with_stdin();
        println!("{READY}");
        let mut buffers = vec![[0; 2048]; BATCH];
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
        let mut datagrams = 0;
        loop {
            let mut slices: Vec<_> = buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
            match recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), MsgFlags::MSG_WAITFORONE, None) {
                Ok(results) => datagrams += results.count() as u64,
                Err(Errno::EAGAIN | Errno::EINTR) if over.load(Ordering::Relaxed) => return Ok(UdpReceived { datagrams }),
                Err(Errno::EAGAIN | Errno::EINTR) => self.greet(&socket, datagrams).map_err(failed)?,
                Err(errno) => return Err(failed(errno.into())),
            }
        }
    }

    fn greet(&self, socket: &UdpSocket, datagrams: u64) -> io::Result<()> {
        match self.greet {
            Some(sender) if datagrams == 0 => socket.send_to(b"greeting", sender).map(|_| ()),
            _ => Ok(()),
        }
    }
}

pub(super) fn ends_with_stdin() -> Arc<AtomicBool> {
    let over = Arc::new(AtomicBool::new(false));
    let ours = over.clone();
    thread::spawn(move || {
        // Whatever ends the input ends the count.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        over.store(true, Ordering::Relaxed);
    });
    ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_leave_at_the_rate_that_was_asked_for() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let to = receiver.local_addr().unwrap();
        let sent = UdpSend { payload: 64, kpps: 1.0, seconds: 0.1, on: "127.0.0.1:0".parse().unwrap(), to: Some(to) }.run().unwrap();
        // Never more than is due; a busy machine may make it fewer.
        assert!((1..=101).contains(&sent.datagrams), "{sent:?}");
        let mut buffer = [0; 128];
        let received = (0..sent.datagrams).filter(|_| receiver.recv(&mut buffer).is_ok_and(|length| length == 64)).count();
        assert_eq!(received as u64, sent.datagrams);
    }
}
