//! Datagrams that go in together: a sender that is faster than one frame for each gets one superframe for many.
//!
//! ```text
//!            sent at once             alike: kept                  another, or the end of the turn
//!   (none) ────────────────▶ begun ────────────────▶ waiting ────────────────────────────────────────▶ sent, (none)
//! ```
//!
//! The first datagram of a run is sent at once, so nobody waits for what may never come. Those that follow wait in the builder, one
//! behind the other as they were read, until their socket's turn ends. They are alike: the same ends, length and traffic class, and
//! short enough that none has to be cut. A receiver that wants none together has them cut on the way (`gso.rs`).
//!
//! What the kernel itself put together is one arrival of several, and goes the same way.

use std::net::SocketAddr;

use super::{
    Core, Outside,
    build::{Builder, Link, Udp},
};
use crate::Mac;

/// The kernel takes so many segments of a superframe (UDP_MAX_SEGMENTS before Linux 6.9).
const DATAGRAMS: usize = 64;

/// What datagrams of one run have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    /// The container.
    pub(super) to: Mac,
    pub(super) source: SocketAddr,
    pub(super) inside: SocketAddr,
    pub(super) traffic_class: u8,
    /// Bytes of each payload; of the last of several it may be fewer.
    pub(super) len: usize,
}

impl Arrival {
    /// How many may go in one frame to a container whose packets may have `mtu` bytes.
    fn most(&self, mtu: u16) -> usize {
        let packet = |len| Builder::udp_packet(self.source.ip(), len);
        if self.len == 0 || packet(self.len) > usize::from(mtu) {
            return 1;
        }
        DATAGRAMS.min((usize::from(u16::MAX) - packet(0)) / self.len)
    }
}

/// The run of one socket's turn.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    begun: Option<Arrival>,
    /// Bytes that wait in the builder.
    waiting: usize,
}

impl Arrivals {
    /// Bytes that wait in the builder, behind which the next datagram is to be read.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// What was just read, `bytes` in all, is for a container.
    pub(super) fn take(&mut self, core: &mut Core, arrival: Arrival, bytes: usize, outside: &mut impl Outside) {
        let most = arrival.most(core.view.config.mtu);
        let behind = self.waiting;
        let is_like = self.begun == Some(arrival);
        if !is_like || behind + bytes > most * arrival.len {
            self.end(core, outside);
            core.builder.move_udp(behind, bytes);
        }
        if is_like {
            self.begun = Some(arrival);
            self.waiting += bytes;
        } else {
            core.deliver_udp(arrival, bytes, outside);
            self.begun = Some(arrival).filter(|_| most > 1);
        }
        if bytes.checked_rem(arrival.len).is_some_and(|short| short > 0) {
            // Nothing goes behind a shorter one.
            self.end(core, outside);
        }
    }

    /// Sends what waits. To be called before anything else is written into the builder.
    pub(super) fn end(&mut self, core: &mut Core, outside: &mut impl Outside) {
        let waiting = std::mem::take(&mut self.waiting);
        if let Some(arrival) = self.begun.take().filter(|_| waiting > 0) {
            core.deliver_udp(arrival, waiting, outside);
        }
    }
}

impl Core {
    /// Sends the container the datagrams whose payloads, `bytes` in all, stand one behind the other in the builder.
    pub(super) fn deliver_udp(&mut self, arrival: Arrival, bytes: usize, outside: &mut impl Outside) {
        let frame = arrival.most(self.view.config.mtu) * arrival.len.max(1);
        self.deliver_frame(arrival, bytes.min(frame), outside);
        for start in (frame..bytes).step_by(frame) {
            let size = frame.min(bytes - start);
            self.builder.move_udp(start, size);
            self.deliver_frame(arrival, size, outside);
        }
    }

    /// Sends it as many as one frame takes.
    fn deliver_frame(&mut self, arrival: Arrival, bytes: usize, outside: &mut impl Outside) {
        let Arrival { to, source, inside, traffic_class, len } = arrival;
        let link = Link { from: self.view.config.mac, to };
        let datagram = Udp {
            source: source.ip(),
            source_port: source.port(),
            destination: inside.ip(),
            destination_port: inside.port(),
            id: self.random.next_u32(),
            traffic_class,
        };
        if bytes > len {
            self.builder.send_udp_run(outside, link, datagram, (len, bytes));
        } else {
            self.builder.send_udp(outside, link, datagram, bytes, self.view.config.mtu);
        }
    }
}
