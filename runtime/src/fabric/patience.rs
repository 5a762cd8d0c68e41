//! How long a worker looks again before it lets the kernel put it to sleep.
//!
//! Waking a sleeping thread costs more than handling a frame: an interrupt to another processor and, in a virtual machine, a way
//! through its host. Between the frames of a busy connection there are a few microseconds, so a worker that has just had work
//! looks once more, and once more, and gives its processor to whoever wants it each time. It does so only while that pays:
//!
//! ```text
//!           slept less than WORTH             slept less than WORTH
//!   none ───────────────────────▶ some ────────────────────────────▶ … up to MOST
//!     ▲                             │
//!     └──── slept longer: halved ───┘
//! ```
//! An idle switch sleeps: its first vain look is its last. Nothing here reads a clock.

use std::time::Duration;

/// A sleep shorter than this was not worth it.
const WORTH: Duration = Duration::from_micros(60);

/// The longest that a worker looks in vain.
const MOST: Duration = Duration::from_micros(60);

/// What the first short sleep buys, and the least there is.
const LEAST: Duration = Duration::from_micros(10);

#[derive(Debug, Default)]
pub(super) struct Patience(Duration);

impl Patience {
    /// How long to look again before the next sleep.
    pub(super) fn span(&self) -> Duration {
        self.0
    }

    /// The worker looked in vain, slept, and was woken by work after `slept`.
    pub(super) fn slept(&mut self, slept: Duration) {
        self.0 = if slept <= WORTH {
            (self.0 * 2).clamp(LEAST, MOST)
        } else {
            Some(self.0 / 2).filter(|span| *span >= LEAST).unwrap_or_default()
        };
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
