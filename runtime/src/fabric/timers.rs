//! When a worker has to look at something although nothing happened.
//!
//! One ordered set holds at most two instants for each port and one for each listener: a turn with nothing due looks at its first entry,
//! however many ports are idle. An instant is a promise to look *no later than*; it is only ever moved to be sooner, so a busy
//! flow that puts its timer off with every segment costs nothing here.

use std::{collections::BTreeSet, time::Duration};

use netloom_switch::Time;

use super::{ListenerId, worker::Slot};

/// What is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// The MAC tables.
    Ageing,
    /// A port's frames, while they gather.
    Frames(Slot),
    /// A port's gateway.
    Gateway(Slot),
    /// A listener that could not accept for want of descriptors.
    Accept(Slot, ListenerId),
}

#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Time, Due)>);

impl Timers {
    /// Looks at `due` no later than `at`; `armed` is what the same thing was armed with before, and is kept up to date.
    pub(super) fn arm(&mut self, armed: &mut Option<Time>, at: Option<Time>, due: Due) {
        let Some(at) = at else { return };
        match *armed {
            Some(sooner) if sooner <= at => return,
            Some(later) => drop(self.0.remove(&(later, due))),
            None => (),
        }
        *armed = Some(at);
        self.0.insert((at, due));
    }

    pub(super) fn disarm(&mut self, armed: &mut Option<Time>, due: Due) {
        if let Some(at) = armed.take() {
            self.0.remove(&(at, due));
        }
    }

    /// Whether anything's time has come.
    pub(super) fn is_due(&self, now: Time) -> bool {
        self.0.first().is_some_and(|(at, _)| *at <= now)
    }

    /// Takes the next thing whose time has come.
    pub(super) fn next(&mut self, now: Time) -> Option<Due> {
        if self.is_due(now) { self.0.pop_first().map(|(_, due)| due) } else { None }
    }

    /// How long to wait at most.
    pub(super) fn timeout(&self, now: Time) -> Option<Duration> {
        self.0.first().map(|(at, _)| at.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_timer_that_is_put_off_stays_where_it_was_and_one_that_is_sooner_moves() {
        let mut timers = Timers::default();
        let mut armed = None;
        let due = Due::Gateway(Slot(3));
        timers.arm(&mut armed, Some(Time::from_nanos(20)), due);
        timers.arm(&mut armed, Some(Time::from_nanos(30)), due);
        assert_eq!(armed, Some(Time::from_nanos(20)));
        timers.arm(&mut armed, Some(Time::from_nanos(10)), due);
        assert_eq!(timers.next(Time::from_nanos(9)), None);
        assert_eq!(timers.next(Time::from_nanos(10)), Some(due));
        assert_eq!(timers.next(Time::from_nanos(99)), None, "the old instant was left behind");
    }

    #[test]
    fn a_wait_ends_when_the_first_timer_is_due() {
        let mut timers = Timers::default();
        assert_eq!(timers.timeout(Time::ZERO), None);
        timers.arm(&mut None, Some(Time::from_nanos(5 * MS + 1)), Due::Gateway(Slot(0)));
        assert_eq!(timers.timeout(Time::ZERO), Some(Duration::from_nanos(5 * MS + 1)));
        assert_eq!(timers.timeout(Time::from_nanos(9 * MS)), Some(Duration::ZERO));
    }
}
