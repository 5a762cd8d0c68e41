//! What a container uses of the machine and what its ports have seen.

use std::time::{Duration, Instant};

use netloom_runtime::cgroup::{self, Usage};

use super::{
    Daemon,
    error::{Error, Result},
    events::now,
};
use crate::api::Stats;

/// The interval that a percentage is about, when nobody asked shortly before.
const INTERVAL: Duration = Duration::from_millis(250);
/// How old the last sample may be to begin an interval.
const AGE_MAX: Duration = Duration::from_secs(10);

/// The processor time that a container had used at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    at: Instant,
    cpu: Duration,
}

impl Daemon {
    /// One line of `stats`. All but the traffic and the totals is zero for a container that does not run.
    pub(crate) async fn stats(&self, word: &str) -> Result<Stats> {
        let (id, name, pid, before) = {
            let state = self.state();
            let container = state.find(word)?;
            let before = container.sample.filter(|sample| (INTERVAL..AGE_MAX).contains(&sample.at.elapsed()));
            (container.record.id.clone(), container.record.name.clone(), container.status.pid, before)
        };
        let before = match (before, pid) {
            (None, Some(pid)) => {
                let before = sample(usage(&name, pid)?);
                tokio::time::sleep(INTERVAL).await;
                Some(before)
            }
            (before, _) => before,
        };
        // It may have ended meanwhile.
        let used = pid.and_then(|pid| usage(&name, pid).ok()).unwrap_or_default();
        let after = sample(used);
        if let Ok(container) = self.state().by_id_mut(&id) {
            container.sample = Some(after);
        }
        let traffic = self.traffic(&id)?;
        Ok(Stats {
            id,
            name,
            time: now(),
            cpu_nanoseconds: u64::try_from(used.cpu.as_nanos()).unwrap_or(u64::MAX),
            cpu_percent: before.map_or(0.0, |before| percent(before, after)),
            memory_bytes: used.memory,
            memory_limit_bytes: used.memory_limit,
            pids: used.pids,
            rx_bytes: traffic.rx_bytes,
            rx_frames: traffic.rx_frames,
            tx_bytes: traffic.tx_bytes,
            tx_frames: traffic.tx_frames,
        })
    }
}

fn usage(name: &str, pid: i32) -> Result<Usage> {
    cgroup::usage(pid).map_err(|error| Error::failed(format!("cannot read what container `{name}` uses: {error}")))
}

fn sample(usage: Usage) -> Sample {
    Sample { at: Instant::now(), cpu: usage.cpu }
}

/// 100 is one whole processor.
fn percent(before: Sample, after: Sample) -> f64 {
    let interval = after.at.saturating_duration_since(before.at).as_secs_f64();
    let used = after.cpu.saturating_sub(before.cpu).as_secs_f64();
    if interval > 0.0 { 100.0 * used / interval } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_busy_processors_are_200_percent_and_a_clock_that_stands_is_none() {
        let at = Instant::now();
        let before = Sample { at, cpu: Duration::from_secs(5) };
        let after = Sample { at: at + Duration::from_secs(1), cpu: Duration::from_secs(7) };
        assert!((percent(before, after) - 200.0).abs() < 0.001);
        assert!(percent(before, before) == 0.0 && percent(after, before) == 0.0);
    }
}
