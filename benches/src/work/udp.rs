//! The highest rate of datagrams that arrives with next to no loss, as RFC 2544, section 26.1, but allowing a little.

use std::{process::Command, thread, time::Duration};

use super::{Done, requests::answer};
use crate::{
    error::Result,
    load::{
        READY,
        udp::{UdpReceived, UdpSent},
    },
    peer::Peer,
    process::{Process, ourselves},
};

const PORT: u16 = 5401;
/// A pause of a shared machine costs a trial more than this; a queue that is too short does too.
const LOSS_ALLOWED: f64 = 0.001;
const TRIAL: Duration = Duration::from_millis(700);
/// Rates are tried on a ladder from LOWEST, each step STEP times the one below.
const LOWEST_KPPS: f64 = 5.0;
const STEP: f64 = 1.04;
const RUNGS: i32 = 128;
/// A lossy trial is repeated before its rate counts as too high: on a machine with neighbours a pause is as likely as not.
const TRIES: usize = 5;
/// A sender that reaches less of the rate than this has found its own limit.
const REACHED: f64 = 0.98;
/// For what is still on its way when the sender ends.
const DRAIN: Duration = Duration::from_millis(100);

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A to B.
    Up,
    /// B to A: A has to greet first, since B may not know how to reach it.
    Down,
}

/// What one trial saw.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Trial {
    sent: u64,
    received: u64,
    seconds: f64,
}

impl Trial {
    fn is_clean(self) -> bool {
        self.received > 0 && (self.sent as f64 - self.received as f64) <= self.sent as f64 * LOSS_ALLOWED
    }

    fn kpps(self) -> f64 {
        self.received as f64 / self.seconds / 1e3
    }
}

pub(super) fn highest(peer: &Peer, way: Way, payload: usize) -> Result<Done> {
    let mut received = 0;
    let highest = search(|kpps| {
        let trial = trial(peer, way, payload, kpps)?;
        received += trial.received;
        Ok(trial)
    })?;
    Ok(Done { values: vec![highest], amount: received as f64 / 1e6 })
}

/// The percentage lost at a steady rate, as it is, without a second try.
pub(super) fn lost(peer: &Peer, payload: usize, kpps: f64, seconds: u32) -> Result<Done> {
    let seen = trial_of(peer, Way::Up, payload, kpps, f64::from(seconds))?;
    let lost = seen.sent.saturating_sub(seen.received) as f64 / seen.sent as f64;
    Ok(Done { values: vec![lost * 100.0], amount: seen.received as f64 / 1e6 })
}

/// Halves the ladder until the highest clean rung is found; returns the best rate that a clean trial received.
fn search(mut trial: impl FnMut(f64) -> Result<Trial>) -> Result<f64> {
    let (mut clean, mut lossy) = (-1, RUNGS);
    let mut best: f64 = 0.0;
    while lossy - clean > 1 {
        let rung = (clean + lossy) / 2;
        let kpps = LOWEST_KPPS * STEP.powi(rung);
        let mut passed = false;
        for _ in 0..TRIES {
            let seen = trial(kpps)?;
            if seen.is_clean() {
                best = best.max(seen.kpps());
                passed = seen.sent as f64 / seen.seconds >= kpps * 1e3 * REACHED;
                break;
            }
        }
        if passed { clean = rung } else { lossy = rung }
    }
    Ok(best)
}

fn trial(peer: &Peer, way: Way, payload: usize, kpps: f64) -> Result<Trial> {
    trial_of(peer, way, payload, kpps, TRIAL.as_secs_f64())
}

fn trial_of(peer: &Peer, way: Way, payload: usize, kpps: f64, seconds: f64) -> Result<Trial> {
    let (sender, receiver) = match way {
        Way::Up => (&peer.a, &peer.b),
        Way::Down => (&peer.b, &peer.a),
    };
    let mut send = sender.netns.command(ourselves()?);
    send.args(["udp-send", &payload.to_string(), &kpps.to_string(), &seconds.to_string()]);
    let mut receive = receiver.netns.command(ourselves()?);
    receive.arg("udp-receive");
    let (sent, receiver) = match way {
        Way::Up => up(peer, send, receive)?,
        Way::Down => down(peer, send, receive)?,
    };
    thread::sleep(DRAIN);
    let sent: UdpSent = answer("udp-send", &sent)?;
    let received: UdpReceived = answer("udp-receive", &receiver.finish()?)?;
    Ok(Trial { sent: sent.datagrams, received: received.datagrams, seconds: sent.seconds })
}

fn up(peer: &Peer, mut send: Command, mut receive: Command) -> Result<(String, Process)> {
    receive.arg(peer.anywhere(PORT).to_string());
    let receiver = Process::start_until(receive, READY)?;
    send.args([&peer.anywhere(0).to_string(), "--to", &peer.at(PORT).to_string()]);
    Ok((crate::process::run(send)?, receiver))
}

fn down(peer: &Peer, mut send: Command, mut receive: Command) -> Result<(String, Process)> {
    send.arg(peer.anywhere(PORT).to_string());
    let sender = Process::start_until(send, READY)?;
    receive.args([&peer.anywhere(0).to_string(), "--greet", &peer.at(PORT).to_string()]);
    let receiver = Process::start_until(receive, READY)?;
    Ok((sender.output()?, receiver))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path that loses a tenth above `limit`, and a sender that cannot exceed `sender`, in kpps.
    fn path(limit: f64, sender: f64) -> impl FnMut(f64) -> Result<Trial> {
        move |kpps| {
            let sent = kpps.min(sender) * 1e3;
            let received = if kpps.min(sender) > limit { sent * 0.9 } else { sent };
            Ok(Trial { sent: sent as u64, received: received as u64, seconds: 1.0 })
        }
    }

    #[test]
    fn the_limit_of_the_path_is_found_within_a_step() {
        for limit in [6.0, 33.0, 158.0, 640.0] {
            let found = search(path(limit, f64::INFINITY)).unwrap();
            assert!(found <= limit && found * STEP >= limit, "{found} for {limit}");
        }
    }

    #[test]
    fn a_sender_at_its_own_limit_gives_the_rate_it_reached() {
        assert_eq!(search(path(f64::INFINITY, 150.0)).unwrap(), 150.0);
    }

    #[test]
    fn one_lossy_trial_does_not_condemn_a_rate() {
        let mut count = 0;
        let mut clean = path(100.0, f64::INFINITY);
        let found = search(|kpps| {
            count += 1;
            let seen = clean(kpps)?;
            Ok(if count % 2 == 1 { Trial { received: seen.received / 2, ..seen } } else { seen })
        });
        assert!(found.unwrap() * STEP >= 100.0);
    }

    #[test]
    fn a_path_that_carries_nothing_has_rate_zero() {
        assert_eq!(search(path(0.0, f64::INFINITY)).unwrap(), 0.0);
    }
}
