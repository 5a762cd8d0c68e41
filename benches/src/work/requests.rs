//! Round trips and connections, between our own programs.

use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::Done;
use crate::{
    error::{BenchError, Result},
    load::{
        READY,
        requests::{Connected, Latency},
    },
    peer::Peer,
    process::{Process, ourselves, run},
};

const PORT: u16 = 5301;
/// Containers that one sample is the median of.
const STARTS: usize = 5;
/// More failed connections than this make the rate meaningless.
const FAILURES_ALLOWED: f64 = 0.01;

pub(super) fn ping_pong(peer: &Peer, seconds: u32) -> Result<Done> {
    let _server = server(peer)?;
    let latency: Latency = ask(peer, "ping-pong", f64::from(seconds))?;
    Ok(Done { values: vec![latency.p50_us, latency.p99_us], amount: latency.round_trips as f64 / 1e6 })
}

pub(super) fn connects(peer: &Peer, seconds: u32) -> Result<Done> {
    let _server = server(peer)?;
    let connected: Connected = ask(peer, "connects", f64::from(seconds))?;
    if connected.failures as f64 > connected.connections as f64 * FAILURES_ALLOWED {
        let said = format!("{} of {} connections failed", connected.failures, connected.connections + connected.failures);
        return Err(BenchError::Command { command: "connects".into(), said });
    }
    let connections = connected.connections as f64;
    Ok(Done { values: vec![connections / connected.seconds], amount: connections / 1e6 })
}

/// Runs containers one after the other; the median of how long each took, in milliseconds.
pub(super) fn starts(peer: &Peer, _: u32) -> Result<Done> {
    let mut took = Vec::new();
    for _ in 0..STARTS {
        let none = || BenchError::Command { command: peer.name.clone(), said: "has no containers".into() };
        let command = peer.start_command().ok_or_else(none)?;
        let begun = Instant::now();
        run(command)?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_unstable_by(f64::total_cmp);
    Ok(Done { values: vec![crate::stats::quantile(&took, 0.5)], amount: STARTS as f64 })
}

/// Waits until a program at A gets an echo from one at B.
pub(crate) fn wait_until_reached(peer: &Peer, within: Duration) -> Result<()> {
    let _server = server(peer)?;
    let begun = Instant::now();
    loop {
        match ask::<Latency>(peer, "ping-pong", 0.01) {
            Ok(_) => return Ok(()),
            Err(error) if begun.elapsed() > within => {
                let what = format!("{}'s way from A to B", peer.name);
                return Err(BenchError::NotReady { what, seconds: within.as_secs(), last: error.with_causes() });
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// The one line of JSON that a load prints.
pub(super) fn answer<T: DeserializeOwned>(program: &str, said: &str) -> Result<T> {
    let failed = |_| BenchError::Answer { program: program.to_owned(), answer: said.to_owned(), lacks: "its result" };
    serde_json::from_str(said.trim()).map_err(failed)
}

fn server(peer: &Peer) -> Result<Process> {
    let mut command = peer.b.netns.command(ourselves()?);
    command.args(["serve", &peer.anywhere(PORT).to_string()]);
    Process::start_until(command, READY)
}

fn ask<T: DeserializeOwned>(peer: &Peer, load: &str, seconds: f64) -> Result<T> {
    let mut command = peer.a.netns.command(ourselves()?);
    command.args([load, &peer.at(PORT).to_string(), &seconds.to_string()]);
    answer(load, &run(command)?)
}
