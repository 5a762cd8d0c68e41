//! When a port's frames are gathered instead of announced, as a network card's interrupts are under load (interrupt moderation).
//!
//! A flood whose frames are each announced wakes its worker for a few at a time, and on a busy machine takes the processor from the
//! very container that sends them: most of what there is goes into waking and switching. So a port whose queue runs over again and
//! again is looked at by the clock for a while; its queue has room for what comes in between, and no other port waits.
//!
//! ```text
//!              its queue was emptied after BACKLOG small frames, FLOODS times
//!   announced ────────────────────────────────────────────────────────────────▶ gathered: looked at every GATHER
//!       ▲                                                                           │
//!       └─────────────────────────── not again for CALM ────────────────────────────┘
//! ```
//!
//! Frames of a stream are not gathered: with segmentation offload they are large and few; without, the sender's window bounds how many
//! wait. Nothing here reads a clock.

use std::time::Duration;

use netloom_switch::Time;

/// Frames read without finding the queue empty: half of what a TAP's holds, and what a packet socket's does with the kernel's usual buffer.
const BACKLOG: u64 = 500;

/// Their average length, at most.
const SMALL: u64 = 2048;

/// So many backlogs are a flood; a single one is a worker that was off its processor, and what it reads next is better sent on in small
/// bursts, which fit into the receiver's buffer.
const FLOODS: u8 = 3;

/// The longest pause between two backlogs of a flood: a sender that shares its processor with others pauses for some of their turns.
const CALM: Duration = Duration::from_millis(20);

/// How long frames gather, and as much longer as the kernel lets a timer be late (some 50 µs): less than the fastest sender needs for a TAP's queue.
const GATHER: Duration = Duration::from_micros(200);

/// What one port's queue was like.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moderation {
    /// Read since its queue was last found empty, and from when on.
    frames: u64,
    bytes: u64,
    from: Time,
    /// Backlogs, each begun within CALM of the end of the one before, and when the last ended.
    backlogs: u8,
    last: Time,
}

impl Moderation {
    pub(super) fn read(&mut self, now: Time, frames: usize, bytes: usize) {
        if self.frames == 0 {
            self.from = now;
        }
        self.frames += frames as u64;
        self.bytes += bytes as u64;
    }

    /// The queue was found empty: when to look again, or nothing if frames are to be announced.
    pub(super) fn emptied(&mut self, now: Time) -> Option<Time> {
        let calm_until = if self.frames > 0 { self.from } else { now };
        if calm_until.since(self.last) >= CALM {
            self.backlogs = 0;
        }
        let (frames, bytes) = (std::mem::take(&mut self.frames), std::mem::take(&mut self.bytes));
        if frames >= BACKLOG && bytes <= frames * SMALL {
            (self.backlogs, self.last) = (self.backlogs.saturating_add(1), now);
        }
        (self.backlogs >= FLOODS).then_some(now + GATHER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(micros: u64) -> Time {
        Time::from_nanos(micros * 1000)
    }

    /// The instant at which a backlog was emptied, and what follows.
    fn backlog(moderation: &mut Moderation, now: Time) -> Option<Time> {
        (0..BACKLOG).for_each(|_| moderation.read(now, 1, 60));
        moderation.emptied(now)
    }

    /// Gathering since 13 ms.
    fn flooded() -> Moderation {
        let mut moderation = Moderation::default();
        assert_eq!([1000, 7000].map(|now| backlog(&mut moderation, at(now))), [None, None]);
        assert_eq!(backlog(&mut moderation, at(13_000)), Some(at(13_000) + GATHER));
        moderation
    }

    #[test]
    fn a_flood_is_gathered_until_it_has_been_calm() {
        let mut moderation = flooded();
        moderation.read(at(13_300), 3, 180);
        assert_eq!(moderation.emptied(at(13_300)), Some(at(13_300) + GATHER));
        assert_eq!(moderation.emptied(at(32_999)), Some(at(32_999) + GATHER));
        assert_eq!(backlog(&mut moderation, at(32_999)), Some(at(32_999) + GATHER), "a flood goes on");
        assert_eq!(moderation.emptied(at(52_999)), None);
        assert_eq!(backlog(&mut moderation, at(53_000)), None, "one that was over begins as any");
    }

    #[test]
    fn a_backlog_is_no_pause_however_long_it_takes() {
        let mut moderation = flooded();
        moderation.read(at(13_200), 60 * BACKLOG as usize, 0);
        assert!(moderation.emptied(at(60_000)).is_some());
        assert!(backlog(&mut moderation, at(61_000)).is_some());
    }

    #[test]
    fn now_and_then_a_backlog_is_no_flood() {
        let mut moderation = Moderation::default();
        for backlogs in 0..100 {
            assert_eq!(backlog(&mut moderation, at(20_000 * backlogs)), None);
        }
    }

    #[test]
    fn what_finds_its_queue_empty_now_and_then_is_announced() {
        let mut moderation = Moderation::default();
        for turn in 0..10_000 {
            let frames = BACKLOG as usize - 1;
            moderation.read(at(turn), frames, frames * 60);
            assert_eq!(moderation.emptied(at(turn)), None);
        }
    }

    #[test]
    fn a_stream_is_announced_however_long_its_worker_is_behind() {
        let mut moderation = Moderation::default();
        for turn in 0..10 {
            let frames = 10 * BACKLOG as usize;
            moderation.read(at(turn), frames, frames * 60_000);
            assert_eq!(moderation.emptied(at(turn)), None);
        }
    }
}
