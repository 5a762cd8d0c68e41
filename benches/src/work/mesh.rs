//! Four ports and raw frames, after RFC 2889. Rates are counted where the receivers' kernels count.

use std::{thread, time::Duration};

use super::{Done, requests::answer};
use crate::{
    error::{BenchError, Result},
    load::{
        READY,
        frames::Flooded,
        stamps::{Sent, Took},
    },
    netns::Link,
    peer::{End, Peer},
    process::{Process, ourselves},
};

const SIZE: &str = "60";
const BROADCAST: &str = "ff:ff:ff:ff:ff:ff";
const DRAIN: Duration = Duration::from_millis(150);
/// What others may send meanwhile (neighbour discovery and the like) is not taken for flooded frames.
const STRAY: u64 = 20;
const STAMPS: &str = "400";

/// What came to each end while frames were sent, and what each sender sent.
struct Seen {
    received: Vec<u64>,
    sent: Vec<Flooded>,
    seconds: f64,
}

impl Seen {
    fn kpps(&self, of: &[usize]) -> f64 {
        of.iter().map(|&end| self.received[end]).sum::<u64>() as f64 / self.seconds / 1e3
    }

    fn done(&self, values: Vec<f64>) -> Done {
        Done { values, amount: self.received.iter().sum::<u64>() as f64 / 1e6 }
    }
}

fn links(peer: &Peer) -> Result<Vec<Link>> {
    peer.ends().map(|end| end.netns.link(&end.device)).collect()
}

/// Runs senders at once: the end each sends from, and its words after the size.
fn send(peer: &Peer, seconds: f64, senders: &[(usize, Vec<String>)]) -> Result<Seen> {
    let ends: Vec<&End> = peer.ends().collect();
    let before = links(peer)?;
    let running = senders.iter().map(|(from, words)| {
        let end = ends[*from];
        let mut command = end.netns.command(ourselves()?);
        command.args(["frames", &end.device, &seconds.to_string(), SIZE]).args(words);
        Process::start_piped(command)
    });
    let running = running.collect::<Result<Vec<_>>>()?;
    let sent = running.into_iter().map(|process| answer("frames", &process.output()?)).collect::<Result<Vec<Flooded>>>()?;
    thread::sleep(DRAIN);
    let after = links(peer)?;
    let received = before.iter().zip(&after).map(|(before, after)| after.received_frames - before.received_frames).collect();
    let seconds = sent.iter().map(|one| one.seconds).fold(0.0, f64::max);
    Ok(Seen { received, sent, seconds })
}

fn words(macs: &[Link], to: &[usize], options: &[&str]) -> Vec<String> {
    to.iter().map(|&end| macs[end].mac.clone()).chain(options.iter().map(|&word| word.to_owned())).collect()
}

/// Every port speaks once, so that none is a stranger.
fn introduce(peer: &Peer) -> Result<Vec<Link>> {
    let all = links(peer)?;
    let greetings: Vec<_> = (0..all.len()).map(|from| (from, vec![BROADCAST.to_owned(), "--count".into(), "1".into()])).collect();
    send(peer, 1.0, &greetings)?;
    Ok(all)
}

pub(super) fn full(peer: &Peer, seconds: u32) -> Result<Done> {
    let macs = introduce(peer)?;
    let everybody: Vec<usize> = (0..macs.len()).collect();
    let others = |from: usize| everybody.iter().copied().filter(|&to| to != from).collect::<Vec<_>>();
    let senders: Vec<_> = everybody.iter().map(|&from| (from, words(&macs, &others(from), &[]))).collect();
    let seen = send(peer, f64::from(seconds), &senders)?;
    Ok(seen.done(vec![seen.kpps(&everybody)]))
}

pub(super) fn one_to_many(peer: &Peer, seconds: u32) -> Result<Done> {
    let macs = introduce(peer)?;
    let seen = send(peer, f64::from(seconds), &[(0, words(&macs, &[1, 2, 3], &[]))])?;
    Ok(seen.done(vec![seen.kpps(&[1, 2, 3])]))
}

/// Offered loads in kpps for each of three senders, before the flood.
const LOADS: [u32; 8] = [20, 40, 70, 100, 150, 220, 320, 450];

pub(super) fn many_to_one(peer: &Peer, seconds: u32) -> Result<Done> {
    let macs = introduce(peer)?;
    let at = |options: &[&str], seconds: f64| {
        let senders: Vec<_> = (1..macs.len()).map(|from| (from, words(&macs, &[0], options))).collect();
        send(peer, seconds, &senders)
    };
    let mut highest: f64 = 0.0;
    for load in LOADS {
        highest = highest.max(at(&["--kpps", &load.to_string()], f64::from(seconds) / 3.0)?.kpps(&[0]));
    }
    let flood = at(&[], f64::from(seconds))?;
    let overload = flood.kpps(&[0]);
    let highest = highest.max(overload);
    Ok(flood.done(vec![highest, overload, overload / highest]))
}

/// RFC 2889, 5.5: D is congested by B's flood; A sends to C and to D in turn. What A sent to C must arrive.
pub(super) fn congestion(peer: &Peer, seconds: u32) -> Result<Done> {
    let macs = introduce(peer)?;
    let paced = |to: usize| words(&macs, &[to], &["--kpps", "10"]);
    let seen = send(peer, f64::from(seconds), &[(0, paced(2)), (0, paced(3)), (1, words(&macs, &[3], &[]))])?;
    let to_c = seen.sent.first().map_or(0, |one| one.sent);
    let lost = to_c.saturating_sub(seen.received[2]) as f64 / to_c as f64;
    Ok(seen.done(vec![lost * 100.0]))
}

/// RFC 2889, 5.7: teaches addresses behind B, sends to each of them from A, and looks for a flooded one at C.
fn are_learned(peer: &Peer, addresses: u32, kpps: f64) -> Result<bool> {
    let seconds = f64::from(addresses) / kpps / 1e3 + 1.0;
    let first = peer.fresh(addresses).to_string();
    let count = ["--first".to_owned(), first, "--count".to_owned(), addresses.to_string(), "--kpps".to_owned()];
    let with = |option: &str, kpps: f64| {
        let destination = [BROADCAST.to_owned(), option.to_owned(), addresses.to_string()];
        [&destination[..], &count, &[kpps.to_string()]].concat()
    };
    send(peer, seconds, &[(1, with("--sources", kpps))])?;
    let seen = send(peer, f64::from(addresses) / 10e3 + 1.0, &[(0, with("--numbered", 10.0))])?;
    Ok(seen.received[2] <= STRAY)
}

const LARGEST: u32 = 1 << 16;

pub(super) fn caching(peer: &Peer, _: u32) -> Result<Done> {
    let mut capacity = 0;
    let mut addresses = 1000;
    while addresses <= LARGEST && are_learned(peer, addresses, 20.0)? {
        capacity = addresses;
        addresses *= 2;
    }
    Ok(Done { values: vec![f64::from(capacity)], amount: f64::from(capacity) / 1e6 })
}

pub(super) fn learning(peer: &Peer, _: u32) -> Result<Done> {
    const ADDRESSES: u32 = 2000;
    let mut rate = 0.0;
    for kpps in [10.0, 20.0, 50.0, 100.0, 200.0, 400.0] {
        if !are_learned(peer, ADDRESSES, kpps)? {
            break;
        }
        rate = kpps;
    }
    Ok(Done { values: vec![rate], amount: f64::from(ADDRESSES) / 1e6 })
}

pub(super) fn broadcast(peer: &Peer, seconds: u32) -> Result<Done> {
    let seen = send(peer, f64::from(seconds), &[(0, vec![BROADCAST.to_owned()])])?;
    let least = seen.received.iter().skip(1).min().copied().unwrap_or(0) as f64;
    Ok(seen.done(vec![least / seen.seconds / 1e3]))
}

pub(super) fn latency(peer: &Peer, _: u32) -> Result<Done> {
    let macs = introduce(peer)?;
    let took = |destination: &str, options: &[&str]| -> Result<Took> {
        let (a, b) = (&peer.a, &peer.b);
        let mut receive = b.netns.command(ourselves()?);
        receive.args(["stamp-receive", &b.device]);
        let receiver = Process::start_until(receive, READY)?;
        let mut send = a.netns.command(ourselves()?);
        send.args(["stamp-send", &a.device, destination, STAMPS]).args(options);
        let sent: Sent = answer("stamp-send", &crate::process::run(send)?)?;
        thread::sleep(DRAIN);
        let took: Took = answer("stamp-receive", &receiver.finish()?)?;
        if took.frames * 100 < sent.sent as usize * 95 {
            let said = format!("{} of {} stamped frames came", took.frames, sent.sent);
            return Err(BenchError::Command { command: "stamp-receive".into(), said });
        }
        Ok(took)
    };
    let known = took(&macs[1].mac, &[])?;
    let broadcast = took(BROADCAST, &[])?;
    let first = peer.fresh(1000);
    let strangers = took(BROADCAST, &["--strangers", &first.to_string()])?;
    let amount = (known.frames + broadcast.frames + strangers.frames) as f64 / 1e6;
    Ok(Done { values: vec![known.p50_us, broadcast.p50_us, strangers.p50_us, strangers.p99_us], amount })
}
