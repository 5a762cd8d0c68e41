//! How many frames of a port are worth reading by one system call.
//!
//! A flood of small frames is worth as many as there are rooms. One frame at a time is worth one, since each read in vain costs
//! something too; and large frames are worth few, since what was read last is then no longer in the processor's nearest cache
//! when it is written. A frame that goes to many ports is as large as all that is written of it: others wait for that.

/// Bytes that one round may read, about.
const BYTES: usize = 64 * 1024;

/// So many frames a turn are read one by one, which is cheaper than some together and some in vain.
const FEW: usize = 4;

/// What a port's last turn was like.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Frames of the turn.
    frames: usize,
    /// Bytes of each in the last round.
    size: usize,
}

impl Pace {
    /// How many to read first: as many as the last turn had, and one more to see that it was the last.
    pub(super) fn begin(&mut self) -> usize {
        let last = std::mem::take(&mut self.frames);
        self.fitting(if last > FEW { last + 1 } else { 1 })
    }

    /// A round of `asked` gave `frames`, for which `bytes` together were written: how many to read next.
    pub(super) fn next(&mut self, asked: usize, frames: usize, bytes: usize) -> usize {
        self.frames += frames;
        if frames > 0 {
            self.size = bytes.div_ceil(frames);
        }
        self.fitting(if self.frames < FEW { 1 } else { (2 * asked).max(FEW) })
    }

    fn fitting(self, frames: usize) -> usize {
        frames.min(BYTES / self.size.max(1)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_frames_are_read_one_by_one_and_a_flood_by_ever_more() {
        let mut pace = Pace::default();
        assert_eq!(pace.begin(), 1);
        let next: Vec<_> = (0..4).map(|_| pace.next(1, 1, 60)).collect();
        assert_eq!(next, [1, 1, 1, 4]);
        assert_eq!(pace.begin(), 1);
        let _ = (0..4).map(|_| pace.next(1, 1, 60)).last();
        assert_eq!(pace.next(4, 4, 240), 8);
        assert_eq!(pace.begin(), 9);
        pace.next(9, 1, 60);
        assert_eq!(pace.begin(), 1);
    }

    #[test]
    fn large_frames_are_read_one_by_one() {
        let mut pace = Pace::default();
        pace.begin();
        for _ in 0..8 {
            pace.next(16, 4, 4 * 60_000);
        }
        assert_eq!(pace.begin(), 1);
    }
}
