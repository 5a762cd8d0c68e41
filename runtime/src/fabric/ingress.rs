//! How a worker hears of the frames that wait at a port: by an event, or by the clock while they gather.
//!
//! ```text
//!   event ──▶ queued: on the ready list ──▶ its queue is empty ──▶ watched ──▶ event …
//!                  ▲                                   │
//!                  └── a moment later ◀── muted ◀──────┘ while it is flooding
//! ```

use std::os::fd::BorrowedFd;

use netloom_switch::Time;
use nix::sys::epoll::EpollFlags;

use super::{
    moderation::Moderation,
    port::Place,
    sources::{Source, Token},
    timers::Due,
};

#[derive(Debug, Default)]
pub(super) struct Ingress {
    /// `None` between two workers, and when there will be no more frames.
    token: Option<Token>,
    /// It is on the worker's ready list.
    queued: bool,
    moderation: Moderation,
    /// No event tells of frames.
    muted: bool,
    /// When the worker looks, event or not.
    armed: Option<Time>,
}

impl Ingress {
    /// Watches a port from its place on a worker. Frames that wait already are reported.
    pub(super) fn watch(&mut self, port: BorrowedFd<'_>, at: &mut Place<'_>) -> nix::Result<()> {
        let token = at.sources.add(port, Source::Frames(at.slot), EpollFlags::EPOLLIN)?;
        *self = Self { token: Some(token), ..Self::default() };
        Ok(())
    }

    pub(super) fn stop(&mut self, port: BorrowedFd<'_>, at: &mut Place<'_>) {
        at.timers.disarm(&mut self.armed, Due::Frames(at.slot));
        if let Some(token) = self.token.take() {
            at.sources.remove(token, port);
        }
    }

    /// Puts the port on the ready list, where it stands at most once.
    pub(super) fn queue(&mut self) -> Option<Token> {
        if std::mem::replace(&mut self.queued, true) { None } else { self.token }
    }

    pub(super) fn unqueue(&mut self) {
        self.queued = false;
    }

    /// The instant to look has come.
    pub(super) fn look(&mut self) -> Option<Token> {
        self.armed = None;
        self.queue()
    }

    /// So many frames were read at once, of so many bytes together.
    pub(super) fn read(&mut self, now: Time, frames: usize, bytes: usize) {
        self.moderation.read(now, frames, bytes);
    }

    /// The port had no more frames.
    pub(super) fn emptied(&mut self, port: BorrowedFd<'_>, at: &mut Place<'_>) {
        let next = self.moderation.emptied(at.now);
        if let Some(token) = self.token.filter(|_| self.muted != next.is_some()) {
            self.muted = next.is_some();
            at.sources.set_interest(token, port, if self.muted { EpollFlags::empty() } else { EpollFlags::EPOLLIN });
        }
        at.timers.arm(&mut self.armed, next, Due::Frames(at.slot));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::{fd::AsFd, unix::net::UnixDatagram},
        time::Duration,
    };

    use nix::sys::epoll::EpollEvent;

    use super::{
        super::{run::Run, sources::Sources, timers::Timers, worker::Slot},
        *,
    };

    const SLOT: Slot = Slot(3);

    struct Bench {
        sources: Sources,
        timers: Timers,
        run: Run,
    }

    impl Bench {
        fn at(&mut self, millis: u64) -> Place<'_> {
            let Self { sources, timers, run } = self;
            Place { now: Time::from_nanos(millis * 1_000_000), slot: SLOT, sources, timers, run }
        }

        fn events(&self) -> usize {
            self.sources.wait(&mut [EpollEvent::empty(); 4], Some(Duration::ZERO))
        }
    }

    #[test]
    fn a_flooding_port_is_looked_at_by_the_clock_and_then_by_events_again() {
        let mut bench = Bench { sources: Sources::new().unwrap(), timers: Timers::default(), run: Run::new() };
        let (port, wire) = UnixDatagram::pair().unwrap();
        let comes = || wire.send(b"frame").unwrap();
        let read = || port.recv(&mut [0; 8]).unwrap();
        let mut ingress = Ingress::default();
        ingress.watch(port.as_fd(), &mut bench.at(0)).unwrap();
        for backlog in 1..=3 {
            comes();
            assert_eq!(bench.events(), 1, "backlog {backlog} was not announced");
            assert!(ingress.queue().is_some());
            read();
            ingress.read(Time::from_nanos(backlog * 1_000_000), 1000, 60_000);
            ingress.emptied(port.as_fd(), &mut bench.at(backlog));
            ingress.unqueue();
        }
        comes();
        assert_eq!(bench.events(), 0, "announced, though it gathers");
        assert_eq!(bench.timers.next(Time::from_nanos(3_199_999)), None);
        assert_eq!(bench.timers.next(Time::from_nanos(3_200_000)), Some(Due::Frames(SLOT)));
        assert!(ingress.look().is_some());
        assert_eq!(ingress.queue(), None, "twice on the ready list");
        ingress.unqueue();
        // One that comes between the last read and the end of the calm is not forgotten.
        ingress.emptied(port.as_fd(), &mut bench.at(23));
        assert_eq!(bench.events(), 1);
        assert_eq!(bench.timers.next(Time::from_nanos(u64::MAX)), None);
    }

    #[test]
    fn a_port_that_leaves_while_its_frames_gather_leaves_nothing_behind() {
        let mut bench = Bench { sources: Sources::new().unwrap(), timers: Timers::default(), run: Run::new() };
        let (port, wire) = UnixDatagram::pair().unwrap();
        let mut ingress = Ingress::default();
        ingress.watch(port.as_fd(), &mut bench.at(0)).unwrap();
        for backlog in 1..=3 {
            ingress.read(Time::from_nanos(backlog * 1_000_000), 1000, 60_000);
            ingress.emptied(port.as_fd(), &mut bench.at(backlog));
        }
        ingress.stop(port.as_fd(), &mut bench.at(3));
        assert_eq!(bench.timers.next(Time::from_nanos(u64::MAX)), None);
        wire.send(b"frame").unwrap();
        ingress.watch(port.as_fd(), &mut bench.at(4)).unwrap();
        assert_eq!(bench.events(), 1, "it is announced where it goes");
    }
}
