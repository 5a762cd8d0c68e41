//! Asks a container that has closed its end, and is silent since, whether it still knows of the connection.
//!
//! A program that has shut down its sending side may wait for an answer for hours; of one that has closed its socket the kernel forgets
//! the connection after a minute, and says nothing. The flow would be kept for as long as the server keeps its own end open. So the
//! container is sent a segment that it has had before: who knows of the connection acknowledges it, and who does not resets it
//! (RFC 9293, 3.8.4; RFC 5382, 5, names this as a way for a NAT).
//!
//! ```text
//!   silent ──EVERY──▶ asked ──acknowledged: no sign of life by itself──▶ silent
//!                       └──────reset──▶ the flow is gone
//! ```

use std::time::Duration;

use crate::Time;

/// The silence before a question and between two: longer than Linux knows of a connection whose program is gone (tcp_fin_timeout, 60 s).
const EVERY: Duration = Duration::from_secs(75);

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Probe {
    /// When it was last asked.
    asked: Option<Time>,
    unanswered: bool,
}

impl Probe {
    /// When to ask next a container that was last heard at `active`.
    pub(super) fn due(&self, active: Time) -> Time {
        self.asked.map_or(active, |asked| asked.max(active)) + EVERY
    }

    pub(super) fn ask(&mut self, now: Time) {
        *self = Self { asked: Some(now), unanswered: true };
    }

    /// Whether a segment without payload that acknowledges nothing new is an answer: the first one after a question is.
    pub(super) fn take_answer(&mut self) -> bool {
        std::mem::take(&mut self.unanswered)
    }
}
