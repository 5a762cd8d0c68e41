//! What netloom takes for itself: memory for ports, networks and flows, and the processor while nothing happens.

use std::{thread, time::Duration};

use super::Done;
use crate::{
    error::{BenchError, Result},
    machine::{CpuTime, resident_kib},
    peer::{Instance, Peer},
    process::run,
};

const PORTS: usize = 1000;
const NETWORKS: usize = 100;
const FLOWS: usize = 10_000;
const BYTES: usize = 1_000_000;
/// For what happens late: neighbour discovery, addresses, closers.
const SETTLE: Duration = Duration::from_secs(3);
const IDLE: Duration = Duration::from_secs(8);
const AFTER_CLOSE: Duration = Duration::from_secs(60);

fn instance(peer: &Peer) -> Result<&Instance> {
    peer.instance.as_ref().ok_or_else(|| BenchError::Command { command: peer.name.clone(), said: "is not netloom".into() })
}

fn resident(peer: &Peer) -> f64 {
    resident_kib(&peer.forwarders) as f64
}

pub(super) fn ports(peer: &Peer) -> Result<Done> {
    let instance = instance(peer)?;
    thread::sleep(SETTLE);
    let first = resident(peer);
    instance.start_idle("idle", PORTS)?;
    thread::sleep(SETTLE);
    let with_ports = resident(peer);
    let before = CpuTime::now(&peer.forwarders);
    thread::sleep(IDLE);
    let idle = CpuTime::now(&peer.forwarders).since(before).forwarders / IDLE.as_secs_f64() * 100.0;
    instance.many(NETWORKS, |n| instance.netloom(&["network", "create", "--subnet", &format!("10.200.{n}.0/24"), &format!("net{n}")]))?;
    instance.many(NETWORKS, |n| {
        instance.netloom(&["run", "-d", "--name", &format!("on{n}"), "--net", &format!("net{n}"), "sleep", "1000000"])
    })?;
    thread::sleep(SETTLE);
    let with_networks = resident(peer);
    let each = |from: f64, to: f64, count: usize| (to - from) / count as f64;
    let values = vec![first / 1024.0, each(first, with_ports, PORTS), idle, each(with_ports, with_networks, NETWORKS)];
    Ok(Done { values, amount: 1.0 })
}

pub(super) fn flows(peer: &Peer) -> Result<Done> {
    let instance = instance(peer)?;
    let before = resident(peer);
    let crowd = instance.crowd("own", FLOWS, BYTES)?;
    let open = crowd.open;
    // Flows give their buffers up when nobody has used them for a while.
    thread::sleep(IDLE);
    let each = (resident(peer) - before) / open.max(1) as f64;
    drop(crowd);
    thread::sleep(AFTER_CLOSE);
    let growth = (resident(peer) - before) / 1024.0;
    let listed = run(instance.netloom(&["flows", "-q"])).map_or(0, |said| said.lines().count());
    eprintln!("{}: {listed} flows a minute later", peer.name);
    Ok(Done { values: vec![each, growth, open as f64], amount: open as f64 * BYTES as f64 / 1e9 })
}
