//! What is left of a flow in TIME-WAIT (RFC 9293, 3.6.1): 60 bytes instead of a socket with buffers.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::{FlowKey, device::LastSent};
use crate::Time;

/// The ends of flows, oldest first. Looked at only when a segment belongs to no flow, so it needs no timer.
#[derive(Debug, Default)]
pub(super) struct Ended {
    last: HashMap<FlowKey, (Time, LastSent)>,
    order: VecDeque<(Time, FlowKey)>,
}

impl Ended {
    /// Remembers the end of a flow until `now + keep`; at `most` entries the oldest makes room.
    pub(super) fn insert(&mut self, now: Time, keep: Duration, most: usize, key: FlowKey, last: LastSent) {
        self.forget_until(now);
        while self.order.len() >= most.max(1) {
            self.forget_oldest();
        }
        let until = now + keep;
        self.last.insert(key, (until, last));
        self.order.push_back((until, key));
    }

    pub(super) fn get(&mut self, now: Time, key: &FlowKey) -> Option<LastSent> {
        self.forget_until(now);
        self.last.get(key).map(|(_, last)| *last)
    }

    pub(super) fn remove(&mut self, key: &FlowKey) {
        self.last.remove(key);
    }

    fn forget_until(&mut self, now: Time) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((until, key)) = self.order.pop_front() else { return };
        // The key may have been used and ended again since.
        if self.last.get(&key).is_some_and(|(last, _)| *last == until) {
            self.last.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> FlowKey {
        FlowKey { inside: ([10, 0, 0, 2], port).into(), outside: ([192, 0, 2, 1], 80).into() }
    }

    #[test]
    fn an_end_is_forgotten_in_time_and_the_oldest_makes_room() {
        let (mut ended, keep) = (Ended::default(), Duration::from_nanos(10));
        for (at, port) in [(0, 1), (1, 2), (2, 3)] {
            ended.insert(Time::from_nanos(at), keep, 2, key(port), LastSent::default());
        }
        assert!(ended.get(Time::from_nanos(3), &key(1)).is_none());
        assert!(ended.get(Time::from_nanos(10), &key(2)).is_some());
        assert!(ended.get(Time::from_nanos(11), &key(2)).is_none());
        ended.remove(&key(3));
        ended.insert(Time::from_nanos(11), keep, 2, key(3), LastSent::default());
        assert!(ended.get(Time::from_nanos(12), &key(3)).is_some(), "the old entry's time is not the new one's");
        assert!(ended.get(Time::from_nanos(21), &key(3)).is_none());
        assert!(ended.order.is_empty() && ended.last.is_empty());
    }
}
