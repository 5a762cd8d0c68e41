//! How much the ports of one data plane may hold of what runs out: host sockets, which are descriptors, of which a process has a bounded
//! number; and the UDP ports that the host chooses, of which its own programs need some, a resolver one for each query.
//!
//! A quarter of each is never given to flows, so that the API, supervisors, new ports and the host's programs always find room. Of the
//! rest a port may hold as many as are still free: one that takes all it can get ends with half, two with a third each, and
//! whoever comes next still finds as much as anyone of them holds. Nothing is reserved for ports that are idle.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// What flows may hold where the process has no limit.
const UNLIMITED: usize = 1 << 20;

/// The first and the last port that the host chooses by itself, unless it says otherwise (ip(7), ip_local_port_range).
const EPHEMERAL: (u16, u16) = (32_768, 60_999);

#[derive(Debug)]
pub(super) struct Budget {
    max: usize,
    taken: AtomicUsize,
}

/// What one port holds of a budget.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    own: AtomicUsize,
}

/// One place of a share; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Ticket(Arc<Share>);

/// The budgets of one data plane.
#[derive(Clone, Debug)]
pub(super) struct Budgets {
    pub(super) descriptors: Arc<Budget>,
    /// UDP ports that the host chooses, of both families together.
    pub(super) ephemeral: Arc<Budget>,
}

impl Budgets {
    /// Those of this process, which may have so many descriptors, on this host.
    pub(super) fn of(descriptors: Option<u64>) -> Self {
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        Self { descriptors: Budget::of(descriptors), ephemeral: Budget::of(Some(ports_of(&range))) }
    }
}

/// How many ports a range has, as the kernel writes it.
fn ports_of(range: &str) -> u64 {
    let mut ends = range.split_whitespace().map_while(|end| end.parse().ok());
    let (first, last): (u16, u16) = ends.next().zip(ends.next()).unwrap_or(EPHEMERAL);
    u64::from(last.saturating_sub(first)) + 1
}

impl Budget {
    /// `limit`: how many there are.
    pub(super) fn of(limit: Option<u64>) -> Arc<Self> {
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(UNLIMITED).min(UNLIMITED);
        Arc::new(Self { max: limit - limit / 4, taken: AtomicUsize::new(0) })
    }
}

impl Share {
    /// The share of a port that holds nothing yet.
    pub(super) fn of(budget: &Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { budget: Arc::clone(budget), own: AtomicUsize::new(0) })
    }

    /// Whether there may be one more. Two workers that ask at once may both be told yes: the quarter that is kept back covers that.
    pub(super) fn has_room(&self) -> bool {
        self.own.load(Relaxed) < self.budget.max.saturating_sub(self.budget.taken.load(Relaxed))
    }

    pub(super) fn take(self: &Arc<Self>) -> Ticket {
        self.own.fetch_add(1, Relaxed);
        self.budget.taken.fetch_add(1, Relaxed);
        Ticket(Arc::clone(self))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.own.fetch_sub(1, Relaxed);
        self.0.budget.taken.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes all that one port can get.
    fn fill(budget: &Arc<Budget>) -> (Arc<Share>, Vec<Ticket>) {
        let (share, mut own) = (Share::of(budget), Vec::new());
        while share.has_room() {
            own.push(share.take());
        }
        (share, own)
    }

    #[test]
    fn a_greedy_port_leaves_as_much_as_it_takes() {
        let budget = Budget::of(Some(1024));
        let (greedy, held) = fill(&budget);
        assert_eq!(held.len(), 384);
        let (second, more) = fill(&budget);
        assert_eq!(more.len(), 192, "whoever comes next finds room");
        assert!(!greedy.has_room());
        drop(held);
        assert!(second.has_room() && greedy.has_room(), "what was given back can be taken");
        drop(more);
        assert_eq!(budget.taken.load(Relaxed), 0);
    }

    #[test]
    fn flows_never_get_the_last_quarter() {
        let budget = Budget::of(Some(1000));
        let ports: Vec<_> = (0..20).map(|_| fill(&budget).1).collect();
        assert!(ports.iter().map(Vec::len).sum::<usize>() <= 750);
        assert_eq!(Budget::of(None).max, UNLIMITED - UNLIMITED / 4);
    }

    #[test]
    fn the_host_chooses_from_the_range_that_it_names_or_the_usual_one() {
        for (range, ports) in [("32768\t60999\n", 28_232), ("1024 65535", 64_512), ("5000 5000", 1), ("", 28_232), ("9 x", 28_232)] {
            assert_eq!(ports_of(range), ports, "{range:?}");
        }
    }
}
