//! How long a worker looks again before it lets the kernel put it to sleep.
//!
//! Waking a sleeping thread costs more than handling a frame: an interrupt to another processor and, in a virtual machine, a way
//! through its host. Between the frames of a busy connection there are a few microseconds, so a worker that has just had work
//! looks once more, and once more, and yields its processor each time (which only tells the kernel's scheduler about the daemon's own
//! group: a container in another waits for its turn). It does so only while that pays:
//!
//! ```text
//!             work came within MOST             work came within MOST
//!   none ─────────────────────────────▶ some ─────────────────────────▶ … up to MOST
//!     ▲                                   │
//!     └───── it came later: halved ───────┘
//! ```
//! MOST is longer than a round trip between two containers all of whose wake-ups are slow ones. With less there are two ways to
//! live: fast, since nobody sleeps, and slow, since everybody sleeps too long to learn that looking pays.
//!
//! An idle switch sleeps: its first vain look is its last. Nothing here reads a clock.

use std::time::Duration;

/// The longest that a worker looks in vain, and the latest work that looking would have found.
const MOST: Duration = Duration::from_micros(150);

/// What the first short wait buys, and the least there is.
const LEAST: Duration = Duration::from_micros(10);

#[derive(Debug, Default)]
pub(super) struct Patience(Duration);

impl Patience {
    /// How long to look again before the next sleep.
    pub(super) fn span(&self) -> Duration {
        self.0
    }

    /// The worker looked in vain and slept; work came `waited` after the look began.
    pub(super) fn slept(&mut self, waited: Duration) {
        if waited <= MOST {
            self.0 = (self.0 * 2).clamp(LEAST, MOST);
        } else {
            self.woken();
        }
    }

    /// The worker looked in vain and slept; it was a timer that woke it.
    pub(super) fn woken(&mut self) {
        self.0 = Some(self.0 / 2).filter(|span| *span >= LEAST).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_micros(15);
    const LONG: Duration = Duration::from_millis(10);

    #[test]
    fn short_sleeps_make_it_patient_up_to_a_bound() {
        let mut patience = Patience::default();
        assert_eq!(patience.span(), Duration::ZERO);
        patience.slept(SHORT);
        assert_eq!(patience.span(), LEAST);
        for _ in 0..100 {
            patience.slept(SHORT);
        }
        assert_eq!(patience.span(), MOST);
    }

    #[test]
    fn a_round_trip_of_slow_wake_ups_is_short_enough_to_be_learned() {
        const WAKE_UP: Duration = Duration::from_micros(28);
        let mut patience = Patience::default();
        for _ in 0..5 {
            patience.slept(4 * WAKE_UP);
        }
        assert!(patience.span() > 4 * WAKE_UP, "{patience:?}");
    }

    #[test]
    fn what_looking_would_not_have_found_is_not_looked_for() {
        let mut patience = Patience::default();
        for _ in 0..100 {
            patience.slept(MOST + Duration::from_micros(1));
        }
        assert_eq!(patience.span(), Duration::ZERO);
    }

    #[test]
    fn timers_are_not_looked_for() {
        let mut patience = Patience(MOST);
        (0..10).for_each(|_| patience.woken());
        assert_eq!(patience.span(), Duration::ZERO);
    }

    #[test]
    fn a_few_long_sleeps_end_it() {
        let mut patience = Patience(MOST);
        let vain: Duration = (0..10)
            .map(|_| {
                let span = patience.span();
                patience.slept(LONG);
                span
            })
            .sum();
        assert_eq!(patience.span(), Duration::ZERO);
        assert!(vain < 2 * MOST, "a worker that falls idle looks in vain for {vain:?}");
    }
}
