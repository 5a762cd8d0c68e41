//! Which port is served by which worker: ports that are busy at the same time do not share one while another idles.
//!
//! A worker adds up the time that each of its ports takes, and rings once a second while two busy ones share it. Whoever heard that
//! asks all workers what their ports took, moves one port if that makes the busiest worker less busy by a good deal, and looks again
//! when it rings again. Nothing is looked at while nobody is busy, and a worker has no clock of its own to be woken by.
//!
//! ```text
//!   worker: one second, crowded ──▶ the one place in the channel ──▶ Fabric::balance_by_load ──▶ move_port, at most one
//! ```

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    time::Duration,
};

use super::{Fabric, FabricError, port::PortKey};

/// Over what time a worker adds up.
pub(super) const SPAN: Duration = Duration::from_secs(1);
/// A port that takes less of a worker, in thousandths of its time, is as good as idle.
pub(super) const BUSY: u32 = 50;
/// A worker that is less busy has room for all of its ports.
pub(super) const CROWDED: u32 = 500;
/// A move must make the busiest worker less busy by this: a smaller gain is not worth the cold caches, and may be noise.
const GAIN: u32 = 150;

/// How busy a port kept its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) key: PortKey,
    /// Thousandths of the worker's time.
    pub(super) share: u32,
}

impl Load {
    pub(super) fn new(key: PortKey, took: Duration, span: Duration) -> Self {
        let share = took.as_nanos() * 1000 / span.as_nanos().max(1);
        Self { key, share: u32::try_from(share).unwrap_or(u32::MAX).min(1000) }
    }
}

/// Whether ports with these loads should not have one worker to themselves.
pub(super) fn is_crowded(loads: &[Load]) -> bool {
    sum(loads) >= CROWDED && loads.iter().filter(|load| load.share >= BUSY).count() > 1
}

/// The port that should move, and the worker that it should move to; `workers` are the loads of each.
fn decide(workers: &[Vec<Load>]) -> Option<(PortKey, usize)> {
    let sums = || workers.iter().map(|loads| sum(loads)).enumerate();
    let (from, most) = sums().max_by_key(|(_, sum)| *sum)?;
    let (to, least) = sums().min_by_key(|(_, sum)| *sum)?;
    // What is left where it was, and what there is then where it goes: the larger one is as small as it can be.
    let after = |load: &Load| (most - load.share).max(least + load.share);
    let best = workers.get(from)?.iter().filter(|load| load.share >= BUSY).min_by_key(|load| (after(load), load.share))?;
    (after(best) + GAIN <= most).then_some((best.key, to))
}

fn sum(loads: &[Load]) -> u32 {
    loads.iter().map(|load| load.share).sum()
}

/// Rung by a worker that is crowded.
#[derive(Clone, Debug)]
pub(super) struct Bell(SyncSender<()>);

impl Bell {
    pub(super) fn new() -> (Self, Receiver<()>) {
        let (bell, rings) = sync_channel(1);
        (Self(bell), rings)
    }

    pub(super) fn ring(&self) {
        // It has been rung already, or nobody listens.
        let _ = self.0.try_send(());
    }
}

impl Fabric {
    /// Rings when ports could be spread better, for the one who then calls [`Self::balance_by_load`]; `None` once somebody has it.
    pub fn rings(&self) -> Option<Receiver<()>> {
        self.lock().rings.take()
    }

    /// Moves one port to another worker if that spreads the load better; how many were moved.
    pub fn balance_by_load(&self) -> Result<usize, FabricError> {
        let mut state = self.lock();
        let calls: Vec<_> = self.workers.iter().map(|running| running.inbox.call(|worker| worker.loads())).collect();
        let mut loads = Vec::with_capacity(calls.len());
        for call in calls {
            loads.push(call?.recv().map_err(|_| FabricError::Stopped)?);
        }
        let Some((key, to)) = decide(&loads) else { return Ok(0) };
        self.move_port(&mut state, key, to)?;
        Ok(1)
    }
}

#[cfg(test)]
mod tests {
    use netloom_switch::PortId;
    use proptest::prelude::*;

    use super::*;
    use crate::fabric::NetworkId;

    fn key(port: u16) -> PortKey {
        PortKey { network: NetworkId(1), port: PortId(port) }
    }

    /// Ports 0, 1, … with these shares, on as many workers as there are lists.
    fn workers(shares: &[&[u32]]) -> Vec<Vec<Load>> {
        let mut port = 0;
        let mut load = |share: &u32| {
            port += 1;
            Load { key: key(port - 1), share: *share }
        };
        shares.iter().map(|shares| shares.iter().map(&mut load).collect()).collect()
    }

    #[test]
    fn two_busy_ports_that_share_a_worker_are_parted() {
        assert_eq!(decide(&workers(&[&[500, 500], &[]])), Some((key(0), 1)));
        assert_eq!(decide(&workers(&[&[10], &[480, 0, 500]])), Some((key(1), 0)));
        assert_eq!(decide(&workers(&[&[300, 300, 300], &[200], &[0]])), Some((key(0), 2)));
    }

    #[test]
    fn one_busy_port_stays_however_busy_it_is() {
        assert_eq!(decide(&workers(&[&[1000, 3, 0], &[0]])), None);
        assert_eq!(decide(&workers(&[&[1000]])), None);
        assert_eq!(decide(&[]), None);
    }

    #[test]
    fn a_small_gain_is_none() {
        assert_eq!(decide(&workers(&[&[500, 500], &[900]])), None);
        assert_eq!(decide(&workers(&[&[400, 100], &[400]])), None);
        assert!(decide(&workers(&[&[400, 200], &[200]])).is_some());
    }

    #[test]
    fn a_worker_is_crowded_by_two_busy_ports_and_not_by_many_idle_ones() {
        let loads = |shares: &[u32]| workers(&[shares]).remove(0);
        assert!(is_crowded(&loads(&[300, 300])));
        assert!(!is_crowded(&loads(&[900, 20, 20])), "one port is busy");
        assert!(!is_crowded(&loads(&[200, 200])), "there is room");
    }

    #[test]
    fn shares_are_thousandths_of_the_time_that_passed() {
        let half = Load::new(key(1), Duration::from_millis(600), Duration::from_millis(1200));
        assert_eq!(half.share, 500);
        assert_eq!(Load::new(key(1), Duration::from_secs(9), Duration::ZERO).share, 1000);
    }

    proptest! {
        /// Loads that do not change come to rest, whatever they are: no port goes back and forth.
        #[test]
        fn moves_come_to_an_end(shares in prop::collection::vec(0u32..400, 0..20), count in 1usize..5) {
            let mut workers = vec![Vec::new(); count];
            for (port, share) in (0..).zip(shares) {
                workers[0].push(Load { key: key(port), share });
            }
            for _ in 0..60 {
                let Some((key, to)) = decide(&workers) else { return Ok(()) };
                let from = workers.iter().position(|loads| loads.iter().any(|load| load.key == key)).unwrap();
                prop_assert_ne!(from, to);
                let at = workers[from].iter().position(|load| load.key == key).unwrap();
                let load = workers[from].remove(at);
                workers[to].push(load);
            }
            prop_assert!(false, "ports are moved for ever: {workers:?}");
        }
    }
}
