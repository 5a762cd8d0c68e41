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
    /// Bytes of each payload.
    pub(super) len: usize,
}

/// The run of one socket's turn.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    begun: Option<Arrival>,
    /// Datagrams that wait.
    count: usize,
}

impl Arrivals {
    /// Bytes that wait in the builder, behind which the next datagram is to be read.
    pub(super) fn waiting(&self) -> usize {
        self.begun.map_or(0, |arrival| arrival.len * self.count)
    }

    /// The datagram that was just read is for a container.
    pub(super) fn take(&mut self, core: &mut Core, arrival: Arrival, outside: &mut impl Outside) {
        let packet = |len| Builder::udp_packet(arrival.source.ip(), len);
        let behind = self.waiting();
        let is_like = self.begun == Some(arrival);
        let fits = self.count < DATAGRAMS && packet(behind + arrival.len) <= usize::from(u16::MAX);
        if !is_like || !fits {
            self.end(core, outside);
            core.builder.move_udp(behind, arrival.len);
        }
        if is_like {
            self.begun = Some(arrival);
            self.count += 1;
            return;
        }
        core.deliver_udp(arrival, outside);
        let is_whole = packet(arrival.len) <= usize::from(core.view.config.mtu);
        self.begun = Some(arrival).filter(|arrival| arrival.len > 0 && is_whole);
    }

    /// Sends what waits. To be called before anything else is written into the builder.
    pub(super) fn end(&mut self, core: &mut Core, outside: &mut impl Outside) {
        let count = std::mem::take(&mut self.count);
        if let Some(arrival) = self.begun.take().filter(|_| count > 0) {
            core.deliver_run(arrival, count, outside);
        }
    }
}

impl Core {
    /// Sends the container the datagram whose payload is in the builder.
    pub(super) fn deliver_udp(&mut self, arrival: Arrival, outside: &mut impl Outside) {
        self.deliver_run(arrival, 1, outside);
    }

    /// Sends it `count` datagrams, whose payloads stand one behind the other in the builder.
    fn deliver_run(&mut self, arrival: Arrival, count: usize, outside: &mut impl Outside) {
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
        if count > 1 {
            self.builder.send_udp_run(outside, link, datagram, (len, count));
        } else {
            self.builder.send_udp(outside, link, datagram, len, self.view.config.mtu);
        }
    }
}
