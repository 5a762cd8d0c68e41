//! Which socket belongs to what, and when each wants to be looked at again.
//!
//! Every flow, mapping and query has exactly one socket, so one ordered set of `(time, socket)` holds all timers: a turn with
//! nothing due costs one look at its first entry, however many flows are idle. A timer is a promise to look *no later than*; a flow
//! that was busy in between finds nothing to do and names a new time.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
};

use super::{SocketId, echo::EchoKey, tcp::FlowKey};
use crate::Time;

/// What a socket is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Made up for the runtime, which has not said what it is.
    Reserved,
    Tcp(FlowKey),
    /// The mapping of an inside endpoint.
    Udp(SocketAddr),
    /// The mapping of an identifier that the container pings with.
    Echo(EchoKey),
    /// A UDP publication.
    Published,
    /// A DNS query on its way to a resolver.
    Dns,
    /// No socket: the timer of those who ask over TCP.
    DnsStreams,
}

#[derive(Debug)]
struct Slot {
    owner: Owner,
    timer: Option<Time>,
}

/// The sockets of one gateway.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    slots: HashMap<SocketId, Slot>,
    timers: BTreeSet<(Time, SocketId)>,
    next: u32,
}

impl Sockets {
    /// A number that no socket has. Numbers are used in a circle, so that a late notice for a closed socket finds nobody.
    pub(super) fn add(&mut self, owner: Owner) -> SocketId {
        loop {
            let socket = SocketId(self.next);
            self.next = self.next.wrapping_add(1);
            if let std::collections::hash_map::Entry::Vacant(vacant) = self.slots.entry(socket) {
                vacant.insert(Slot { owner, timer: None });
                return socket;
            }
        }
    }

    pub(super) fn set_owner(&mut self, socket: SocketId, owner: Owner) {
        self.slots.entry(socket).or_insert(Slot { owner, timer: None }).owner = owner;
    }

    pub(super) fn owner(&self, socket: SocketId) -> Option<Owner> {
        self.slots.get(&socket).map(|slot| slot.owner)
    }

    pub(super) fn remove(&mut self, socket: SocketId) {
        if let Some(Slot { timer: Some(at), .. }) = self.slots.remove(&socket) {
            self.timers.remove(&(at, socket));
        }
    }

    /// Looks at the socket no later than `at`.
    pub(super) fn wake_by(&mut self, socket: SocketId, at: Time) {
        let Some(slot) = self.slots.get_mut(&socket) else { return };
        match slot.timer {
            Some(sooner) if sooner <= at => return,
            Some(later) => drop(self.timers.remove(&(later, socket))),
            None => (),
        }
        slot.timer = Some(at);
        self.timers.insert((at, socket));
    }

    /// Looks at everything that has a timer at once: what it waits for may have become shorter.
    pub(super) fn wake_all(&mut self) {
        let waiting: Vec<SocketId> = self.timers.iter().map(|(_, socket)| *socket).collect();
        waiting.into_iter().for_each(|socket| self.wake_by(socket, Time::ZERO));
    }

    /// Takes the next socket whose time has come by `now`.
    pub(super) fn due(&mut self, now: Time) -> Option<SocketId> {
        let &(at, socket) = self.timers.first().filter(|(at, _)| *at <= now)?;
        self.timers.remove(&(at, socket));
        if let Some(slot) = self.slots.get_mut(&socket) {
            slot.timer = None;
        }
        Some(socket)
    }

    pub(super) fn next_timer(&self) -> Option<Time> {
        self.timers.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_moves_only_forward_and_dies_with_its_socket() {
        let mut sockets = Sockets::default();
        let [a, b] = [sockets.add(Owner::Reserved), sockets.add(Owner::Dns)];
        sockets.wake_by(a, Time::from_nanos(20));
        sockets.wake_by(a, Time::from_nanos(30));
        sockets.wake_by(b, Time::from_nanos(10));
        assert_eq!(sockets.next_timer(), Some(Time::from_nanos(10)));
        sockets.remove(b);
        assert_eq!(sockets.next_timer(), Some(Time::from_nanos(20)));
        assert_eq!(sockets.due(Time::from_nanos(19)), None);
        assert_eq!(sockets.due(Time::from_nanos(20)), Some(a));
        assert_eq!(sockets.due(Time::from_nanos(99)), None);
        sockets.wake_by(b, Time::ZERO);
        assert_eq!(sockets.next_timer(), None);
    }
}
