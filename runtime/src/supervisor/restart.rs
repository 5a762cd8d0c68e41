//! When a container that ended is started again: `--restart`, with docker's delays.

use std::time::Duration;

use crate::spec::RestartPolicy;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LAST_DELAY: Duration = Duration::from_secs(60);
/// Who ran this long is no longer in trouble: delays begin anew.
const STABLE: Duration = Duration::from_secs(10);

/// The policy of one container and what it has come to.
#[derive(Debug)]
pub(crate) struct Restarts {
    policy: RestartPolicy,
    delay: Duration,
    in_a_row: u32,
}

impl Restarts {
    pub(crate) fn new(policy: RestartPolicy) -> Self {
        Self { policy, delay: FIRST_DELAY, in_a_row: 0 }
    }

    /// The command ended with `code` after running for `ran`: how long to wait before the next start; `None`: it stays ended.
    pub(crate) fn after(&mut self, code: i32, ran: Duration) -> Option<Duration> {
        if ran >= STABLE {
            (self.delay, self.in_a_row) = (FIRST_DELAY, 0);
        }
        let again = match self.policy {
            RestartPolicy::No => false,
            RestartPolicy::OnFailure { retries } => code != 0 && retries.is_none_or(|retries| self.in_a_row < retries),
            RestartPolicy::Always => true,
        };
        if !again {
            return None;
        }
        self.in_a_row += 1;
        let delay = self.delay;
        self.delay = (delay * 2).min(LAST_DELAY);
        Some(delay)
    }

    /// A start by request begins anew.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.policy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_TIME: Duration = Duration::ZERO;

    #[test]
    fn delays_double_up_to_a_minute_and_a_stable_run_ends_them() {
        let mut restarts = Restarts::new(RestartPolicy::Always);
        let delays: Vec<_> = (0..12).map(|_| restarts.after(0, NO_TIME).unwrap().as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
        assert_eq!(restarts.after(1, STABLE), Some(FIRST_DELAY));
    }

    #[test]
    fn on_failure_counts_failures_and_ends_with_success() {
        let mut restarts = Restarts::new(RestartPolicy::OnFailure { retries: Some(2) });
        assert!(restarts.after(1, NO_TIME).is_some() && restarts.after(1, NO_TIME).is_some());
        assert_eq!(restarts.after(1, NO_TIME), None);
        restarts.reset();
        assert_eq!(restarts.after(0, NO_TIME), None);
        assert_eq!(Restarts::new(RestartPolicy::No).after(1, NO_TIME), None);
    }
}
