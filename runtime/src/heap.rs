//! Memory that was freed, and that the C library keeps for later, goes back to the kernel once nothing much happens.
//!
//! What ten thousand connections leave behind lies in pieces between what is still in use, and would stay the daemon's for good. Looking
//! for it holds the allocator up for a moment, so it is done when the memory in use has neither grown nor shrunk between two looks, and
//! once for each time that it has grown.

use std::fs;

use crate::sys;

/// A change of so many pages is one.
const CHANGE: u64 = 256;

/// What was seen of this process.
#[derive(Debug, Default)]
pub struct Heap {
    /// Pages in memory at the last look, and after the last time that some were given back.
    seen: u64,
    left: u64,
}

impl Heap {
    /// To be called every ten seconds or so, from a thread that may wait.
    pub fn look(&mut self) {
        if resident().is_some_and(|pages| self.is_due(pages)) {
            sys::memory::trim();
            self.left = resident().unwrap_or(self.left);
        }
    }

    fn is_due(&mut self, pages: u64) -> bool {
        let is_calm = pages.abs_diff(std::mem::replace(&mut self.seen, pages)) < CHANGE;
        self.left = self.left.min(pages);
        is_calm && pages >= self.left + CHANGE
    }
}

/// Pages of this process that are in memory (proc_pid_statm(5)).
fn resident() -> Option<u64> {
    fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_grown_is_looked_through_once_when_it_has_calmed_down() {
        let mut heap = Heap::default();
        let looks = [3000, 3000, 3000, 9000, 20_000, 20_100, 20_100, 8000, 8000, 3100, 3100];
        let due: Vec<bool> = looks
            .into_iter()
            .map(|pages| {
                let due = heap.is_due(pages);
                if due {
                    heap.left = pages;
                }
                due
            })
            .collect();
        assert_eq!(due, [false, true, false, false, false, true, false, false, false, false, false]);
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn memory_that_was_freed_in_pieces_is_given_back() {
        let mut pieces: Vec<Box<[u8]>> = (0..60_000).map(|_| vec![1; 1000].into_boxed_slice()).collect();
        // What is kept stands at the end of the heap.
        pieces.drain(..59_000);
        let before = resident().unwrap();
        sys::memory::trim();
        let after = resident().unwrap();
        assert!(after + 10_000 < before, "{after} pages, {before} before");
        drop(pieces);
    }
}
