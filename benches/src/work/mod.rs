//! What contenders are measured on. One measurement gives a [`Sample`]: a value for each row of the work, and what it cost.

use std::fmt;

use serde::Serialize;

use crate::{
    error::{BenchError, Result},
    machine::{CpuTime, resident_kib},
    peer::{Kind, Peer},
};

mod flood;
mod iperf;
pub(crate) mod requests;
mod udp;

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    Tcp,
    TcpReverse,
    TcpFour,
    TcpBoth,
    TcpJumbo,
    #[serde(rename = "frames-60")]
    Frames60,
    #[serde(rename = "udp-64")]
    Udp64,
    PingPong,
    Connects,
    NatTcpUp,
    NatTcpDown,
    NatPingPong,
    NatConnects,
    #[serde(rename = "nat-udp-64-up")]
    NatUdp64Up,
    #[serde(rename = "nat-udp-64-down")]
    NatUdp64Down,
    #[serde(rename = "nat-udp-1400-up")]
    NatUdp1400Up,
    #[serde(rename = "nat-udp-1400-down")]
    NatUdp1400Down,
}

/// One value that a work gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    pub title: &'static str,
    pub unit: &'static str,
    pub more_is_better: bool,
}

/// One measurement of one contender.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// One for each of [`Work::rows`].
    pub values: Vec<f64>,
    /// Processor seconds of the whole machine, the load's own included, for each [`Work::quantity`].
    pub machine_cpu: f64,
    /// Processor seconds of the processes that forward.
    pub forwarder_cpu: f64,
    /// Their resident memory right after the work; 0 where the kernel forwards.
    pub resident_kib: u64,
}

/// What a program did: its values, and how much went through.
pub(crate) struct Done {
    pub(crate) values: Vec<f64>,
    /// In units of [`Work::quantity`].
    pub(crate) amount: f64,
}

const fn rate(title: &'static str, unit: &'static str) -> Row {
    Row { title, unit, more_is_better: true }
}

const fn latency(title: &'static str) -> Row {
    Row { title, unit: "µs", more_is_better: false }
}

const GIGABITS: &str = "Gbit/s";
const JUMBO: u32 = 65520;
const ETHERNET: u32 = 1500;

impl Work {
    pub const ALL: [Self; 17] = [
        Self::Tcp,
        Self::TcpReverse,
        Self::TcpFour,
        Self::TcpBoth,
        Self::TcpJumbo,
        Self::Frames60,
        Self::Udp64,
        Self::PingPong,
        Self::Connects,
        Self::NatTcpUp,
        Self::NatTcpDown,
        Self::NatPingPong,
        Self::NatConnects,
        Self::NatUdp64Up,
        Self::NatUdp64Down,
        Self::NatUdp1400Up,
        Self::NatUdp1400Down,
    ];

    /// The works whose names begin with one of these words; all without words.
    pub fn chosen(words: &[String]) -> Result<Vec<Self>> {
        let begins = |work: Self, word: &String| work.to_string().starts_with(word.as_str());
        if let Some(word) = words.iter().find(|word| !Self::ALL.iter().any(|work| begins(*work, word))) {
            let known = Self::ALL.map(|work| work.to_string()).join(", ");
            return Err(BenchError::Unknown { kind: "work", name: word.clone(), known });
        }
        Ok(Self::ALL.into_iter().filter(|work| words.is_empty() || words.iter().any(|word| begins(*work, word))).collect())
    }

    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Tcp
            | Self::TcpReverse
            | Self::TcpFour
            | Self::TcpBoth
            | Self::TcpJumbo
            | Self::Frames60
            | Self::Udp64
            | Self::PingPong
            | Self::Connects => Kind::Switch,
            Self::NatTcpUp
            | Self::NatTcpDown
            | Self::NatPingPong
            | Self::NatConnects
            | Self::NatUdp64Up
            | Self::NatUdp64Down
            | Self::NatUdp1400Up
            | Self::NatUdp1400Down => Kind::Nat,
        }
    }

    /// In the order of a sample's values.
    #[must_use]
    pub fn rows(self) -> Vec<Row> {
        match self {
            Self::Tcp => vec![rate("TCP, one stream, A to B, MTU 1500", GIGABITS)],
            Self::TcpReverse => vec![rate("TCP, one stream, B to A, MTU 1500", GIGABITS)],
            Self::TcpFour => vec![rate("TCP, four streams, A to B, MTU 1500", GIGABITS)],
            Self::TcpBoth => vec![rate("TCP, both directions at once, sum, MTU 1500", GIGABITS)],
            Self::TcpJumbo => vec![rate("TCP, one stream, A to B, MTU 65520 on both", GIGABITS)],
            Self::Frames60 => vec![rate("60-byte frames forwarded under flood", "kpps")],
            Self::Udp64 => vec![rate("UDP, 64 B, highest rate with at most 0.1 % lost", "kpps")],
            Self::PingPong => vec![latency("TCP ping-pong, half round trip, p50"), latency("TCP ping-pong, half round trip, p99")],
            Self::Connects => vec![rate("TCP connections: connect, one byte, close", "1/s")],
            Self::NatTcpUp => vec![rate("NAT: TCP, one stream, container to host", GIGABITS)],
            Self::NatTcpDown => vec![rate("NAT: TCP, one stream, host to container", GIGABITS)],
            Self::NatPingPong => {
                vec![latency("NAT: TCP ping-pong, half round trip, p50"), latency("NAT: TCP ping-pong, half round trip, p99")]
            }
            Self::NatConnects => vec![rate("NAT: TCP connections: connect, one byte, close", "1/s")],
            Self::NatUdp64Up => vec![rate("NAT: UDP, 64 B, container to host, at most 0.1 % lost", "kpps")],
            Self::NatUdp64Down => vec![rate("NAT: UDP, 64 B, host to container, at most 0.1 % lost", "kpps")],
            Self::NatUdp1400Up => vec![rate("NAT: UDP, 1400 B, container to host, at most 0.1 % lost", "kpps")],
            Self::NatUdp1400Down => vec![rate("NAT: UDP, 1400 B, host to container, at most 0.1 % lost", "kpps")],
        }
    }

    /// What the processor seconds are counted for.
    #[must_use]
    pub const fn quantity(self) -> &'static str {
        match self {
            Self::Tcp | Self::TcpReverse | Self::TcpFour | Self::TcpBoth | Self::TcpJumbo | Self::NatTcpUp | Self::NatTcpDown => "GB",
            Self::Frames60 => "million frames",
            Self::Udp64 | Self::NatUdp64Up | Self::NatUdp64Down | Self::NatUdp1400Up | Self::NatUdp1400Down => "million datagrams",
            Self::PingPong | Self::NatPingPong => "million round trips",
            Self::Connects | Self::NatConnects => "million connections",
        }
    }

    /// The MTU that both ends of a switch have during this work.
    const fn mtu(self) -> u32 {
        if matches!(self, Self::TcpJumbo) { JUMBO } else { ETHERNET }
    }

    /// Measures once. `None`: this contender cannot do it.
    pub fn measure(self, peer: &Peer, seconds: u32) -> Result<Option<Sample>> {
        if self.kind() == Kind::Switch && !peer.set_mtu(self.mtu())? {
            return Ok(None);
        }
        let before = CpuTime::now(&peer.forwarders);
        let done = self.run(peer, seconds)?;
        let used = CpuTime::now(&peer.forwarders).since(before);
        Ok(Some(Sample {
            values: done.values,
            machine_cpu: used.machine / done.amount,
            forwarder_cpu: used.forwarders / done.amount,
            resident_kib: resident_kib(&peer.forwarders),
        }))
    }

    fn run(self, peer: &Peer, seconds: u32) -> Result<Done> {
        match self {
            Self::Tcp | Self::TcpJumbo | Self::NatTcpUp => iperf::streams(peer, seconds, &[&[]]),
            Self::TcpReverse | Self::NatTcpDown => iperf::streams(peer, seconds, &[&["-R"]]),
            Self::TcpFour => iperf::streams(peer, seconds, &[&["-P", "4"]]),
            Self::TcpBoth => iperf::streams(peer, seconds, &[&[], &["-R"]]),
            Self::Frames60 => flood::measure(peer, seconds, 60),
            Self::Udp64 | Self::NatUdp64Up => udp::highest(peer, udp::Way::Up, 64),
            Self::NatUdp64Down => udp::highest(peer, udp::Way::Down, 64),
            Self::NatUdp1400Up => udp::highest(peer, udp::Way::Up, 1400),
            Self::NatUdp1400Down => udp::highest(peer, udp::Way::Down, 1400),
            Self::PingPong | Self::NatPingPong => requests::ping_pong(peer, seconds),
            Self::Connects | Self::NatConnects => requests::connects(peer, seconds),
        }
    }
}

/// The word that chooses it, and its key in JSON.
impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_chooses_every_work_that_begins_with_it() {
        let names = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            Work::chosen(&words).map(|works| works.into_iter().map(|work| work.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(names(&["tcp"]).unwrap(), ["tcp", "tcp-reverse", "tcp-four", "tcp-both", "tcp-jumbo"]);
        assert_eq!(names(&["ping", "nat-ping"]).unwrap(), ["ping-pong", "nat-ping-pong"]);
        assert_eq!(names(&["frames-60", "nat-udp-14"]).unwrap(), ["frames-60", "nat-udp-1400-up", "nat-udp-1400-down"]);
        assert_eq!(names(&[]).unwrap().len(), Work::ALL.len());
        assert!(names(&["tpc"]).unwrap_err().to_string().contains("tcp-reverse"));
    }

    #[test]
    fn names_of_works_are_unique() {
        let mut names = Work::ALL.map(|work| work.to_string()).to_vec();
        names.dedup();
        assert_eq!(names.len(), Work::ALL.len());
    }
}
