//! What contenders are measured on. One measurement gives a [`Sample`]: a value for each row of the work, and what it cost.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::{
    error::{BenchError, Result},
    machine::{CpuTime, resident_kib},
    peer::{Kind, Peer},
};

mod all;
mod flood;
mod iperf;
mod mesh;
mod own;
pub(crate) mod requests;
mod udp;

pub use all::ALL;

/// One kind of work.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// The word that chooses it, and its key in JSON.
    pub name: &'static str,
    pub kind: Kind,
    /// In the order of a sample's values.
    pub rows: &'static [Row],
    /// What the processor seconds are counted for.
    pub quantity: &'static str,
    /// The MTU that both ends of a switch have during this work.
    mtu: u32,
    /// What the sockets that are opened during this work, on both ends, begin with; `None`: the machine's default.
    congestion_control: Option<&'static str>,
    run: fn(&Peer, u32) -> Result<Done>,
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

impl Work {
    pub fn named(name: &str) -> Result<&'static Self> {
        ALL.iter().find(|work| work.name == name).ok_or_else(|| Self::unknown(name))
    }

    /// The works whose names begin with one of these words; all without words.
    pub fn chosen(words: &[String]) -> Result<Vec<&'static Self>> {
        if let Some(word) = words.iter().find(|word| !ALL.iter().any(|work| work.name.starts_with(word.as_str()))) {
            return Err(Self::unknown(word));
        }
        Ok(ALL.iter().filter(|work| words.is_empty() || words.iter().any(|word| work.name.starts_with(word.as_str()))).collect())
    }

    fn unknown(name: &str) -> BenchError {
        let known = ALL.iter().map(|work| work.name).collect::<Vec<_>>().join(", ");
        BenchError::Unknown { kind: "work", name: name.to_owned(), known }
    }

    /// Measures once. `None`: this contender cannot do it.
    pub fn measure(&self, peer: &Peer, seconds: u32) -> Result<Option<Sample>> {
        if matches!(self.kind, Kind::Switch | Kind::Mesh | Kind::Among) && !peer.set_mtu(self.mtu)? {
            return Ok(None);
        }
        // Both may be one.
        let ends = [&peer.a.netns, &peer.b.netns].into_iter().take(1 + usize::from(peer.a.netns.name() != peer.b.netns.name()));
        let _defaults = match self.congestion_control {
            Some(name) => ends.map(|end| end.with_congestion_control(name)).collect::<Result<Vec<_>>>()?,
            None => Vec::new(),
        };
        let _disturbance = peer.disturb()?;
        let before = CpuTime::now(&peer.forwarders);
        let done = (self.run)(peer, seconds)?;
        let used = CpuTime::now(&peer.forwarders).since(before);
        Ok(Some(Sample {
            values: done.values,
            machine_cpu: used.machine / done.amount,
            forwarder_cpu: used.forwarders / done.amount,
            resident_kib: resident_kib(&peer.forwarders),
        }))
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Serialize for Work {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_chooses_every_work_that_begins_with_it() {
        let names = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            Work::chosen(&words).map(|works| works.into_iter().map(|work| work.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["tcp"]).unwrap(), ["tcp", "tcp-reverse", "tcp-four", "tcp-both", "tcp-jumbo"]);
        assert_eq!(names(&["ping", "nat-ping"]).unwrap(), ["ping-pong", "nat-ping-pong"]);
        assert_eq!(names(&["frames-60", "nat-udp-14"]).unwrap(), ["frames-60", "nat-udp-1400-up", "nat-udp-1400-down"]);
        assert_eq!(names(&[]).unwrap().len(), ALL.len());
        assert!(names(&["tpc"]).unwrap_err().to_string().contains("tcp-reverse"));
    }

    #[test]
    fn names_of_works_are_unique() {
        let names: std::collections::BTreeSet<&str> = ALL.iter().map(|work| work.name).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
