//! Datagrams that leave together: a sender that is faster than one system call for each gets one for many (udp(7), UDP_SEGMENT).
//!
//! ```text
//!            sent at once             alike: kept                  another, or the end of the turn
//!   (none) ────────────────▶ begun ────────────────▶ waiting ────────────────────────────────────────▶ sent, (none)
//! ```
//!
//! The first datagram of a run is sent at once, so whatever the host has to say against it is heard before any other waits. Those that
//! follow wait for the end of their port's turn at most. They are alike: the same socket, peer and length, and the same header.

use std::net::SocketAddr;

use netloom_switch::gateway::{Departure, SocketId};

/// The kernel takes this many in one call (UDP_MAX_SEGMENTS before Linux 6.9), and as many bytes as one datagram may have.
const DATAGRAMS: usize = 64;
const BYTES: usize = 65_507;

/// What datagrams of one run have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) socket: SocketId,
    pub(super) to: SocketAddr,
    pub(super) with: Departure,
    /// Bytes of each.
    pub(super) len: usize,
}

/// The run of the worker's turn.
#[derive(Debug)]
pub(super) struct Run {
    kind: Option<Kind>,
    /// The room is there from the start, and never grows.
    waiting: Vec<u8>,
}

impl Run {
    pub(super) fn new() -> Self {
        Self { kind: None, waiting: Vec::with_capacity(BYTES) }
    }

    /// One of this kind was sent.
    pub(super) fn begin(&mut self, kind: Kind) {
        self.waiting.clear();
        self.kind = (kind.len > 0).then_some(kind);
    }

    /// Keeps a datagram that is like those before it; false if it is not, or there is no room.
    pub(super) fn keep(&mut self, kind: Kind, bytes: &[u8]) -> bool {
        let fits = self.waiting.len() + bytes.len() <= BYTES.min(kind.len * DATAGRAMS);
        let alike = self.kind == Some(kind) && fits;
        if alike {
            self.waiting.extend_from_slice(bytes);
        }
        alike
    }

    /// Whether something is for the caller to send.
    pub(super) fn waits(&self) -> bool {
        self.kind.is_some() && !self.waiting.is_empty()
    }

    /// Ends the run: what waits is for the caller to send.
    pub(super) fn end(&mut self) -> Option<(Kind, &[u8])> {
        let kind = self.kind.take()?;
        (!self.waiting.is_empty()).then_some((kind, &self.waiting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(len: usize) -> Kind {
        Kind { socket: SocketId(1), to: ([192, 0, 2, 1], 53).into(), with: Departure::default(), len }
    }

    #[test]
    fn only_what_is_alike_waits_and_only_behind_one_that_was_sent() {
        let mut run = Run::new();
        assert!(!run.keep(kind(3), b"abc"));
        run.begin(kind(3));
        assert!(run.end().is_none(), "what was sent is not sent again");
        run.begin(kind(3));
        assert!(run.keep(kind(3), b"abc") && run.keep(kind(3), b"def"));
        assert!(!run.keep(kind(2), b"gh"));
        assert!(!run.keep(Kind { to: ([192, 0, 2, 2], 53).into(), ..kind(3) }, b"ghi"));
        assert!(!run.keep(Kind { with: Departure { ttl: Some(1), ..Departure::default() }, ..kind(3) }, b"ghi"));
        assert_eq!(run.end(), Some((kind(3), &b"abcdef"[..])));
        assert!(run.end().is_none() && !run.keep(kind(3), b"abc"));
    }

    #[test]
    fn a_run_is_no_longer_than_the_kernel_takes_and_its_room_never_grows() {
        for (len, most) in [(1, 64), (1400, 46), (65_507, 1), (0, 0)] {
            let mut run = Run::new();
            let room = run.waiting.capacity();
            run.begin(kind(len));
            let kept = (0..100).filter(|_| run.keep(kind(len), &vec![7; len])).count();
            assert_eq!((kept, run.waiting.capacity()), (most, room), "of {len} bytes each");
        }
    }
}
