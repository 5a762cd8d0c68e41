//! How many host sockets the ports of one data plane may hold: they are descriptors, of which a process has a bounded number.
//!
//! A quarter of the process's limit is never given to flows, so that the API, supervisors and new ports always find room. Of the
//! rest a port may hold as many as are still free: one that takes all it can get ends with half, two with a third each, and
//! whoever comes next still finds as much as anyone of them holds. Nothing is reserved for ports that are idle.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// What flows may hold where the process has no limit.
const UNLIMITED: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Budget {
    max: usize,
    taken: AtomicUsize,
}

/// One descriptor's place; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Ticket(Arc<Budget>);

impl Budget {
    /// `limit`: the process's limit of descriptors.
    pub(super) fn of(limit: Option<u64>) -> Arc<Self> {
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(UNLIMITED).min(UNLIMITED);
        Arc::new(Self { max: limit - limit / 4, taken: AtomicUsize::new(0) })
    }

    /// Whether a port that holds `own` may have one more. Two workers that ask at once may both be told yes: the quarter that is
    /// kept back covers that.
    pub(super) fn has_room(&self, own: usize) -> bool {
        own < self.max.saturating_sub(self.taken.load(Relaxed))
    }

    pub(super) fn take(self: &Arc<Self>) -> Ticket {
        self.taken.fetch_add(1, Relaxed);
        Ticket(Arc::clone(self))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes all that one port can get.
    fn fill(budget: &Arc<Budget>) -> Vec<Ticket> {
        let mut own = Vec::new();
        while budget.has_room(own.len()) {
            own.push(budget.take());
        }
        own
    }

    #[test]
    fn a_greedy_port_leaves_as_much_as_it_takes() {
        let budget = Budget::of(Some(1024));
        let greedy = fill(&budget);
        assert_eq!(greedy.len(), 384);
        let second = fill(&budget);
        assert_eq!(second.len(), 192, "whoever comes next finds room");
        assert!(!budget.has_room(greedy.len()));
        drop(greedy);
        assert!(budget.has_room(second.len()), "what was given back can be taken");
        drop(second);
        assert_eq!(budget.taken.load(Relaxed), 0);
    }

    #[test]
    fn flows_never_get_the_last_quarter() {
        let budget = Budget::of(Some(1000));
        let ports: Vec<_> = (0..20).map(|_| fill(&budget)).collect();
        assert!(ports.iter().map(Vec::len).sum::<usize>() <= 750);
        assert_eq!(Budget::of(None).max, UNLIMITED - UNLIMITED / 4);
    }
}
