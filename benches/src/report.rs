//! What a run of the bench says: the machine, the contenders, and for each work medians, costs and paired ratios.

use std::{fmt, fs, path::Path};

use serde::Serialize;

use crate::{
    error::{BenchError, Result},
    machine::Facts,
    peer::{Books, Kind},
    plan::Taken,
    stats::{CONCLUSIVE_PAIRS, CONCLUSIVE_SPREAD, Summary, ratios},
    table,
    targets::{Bound, Verdict},
    work::{Row, Sample, Work},
};

/// The whole of it, as it is written to JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub machine: Facts,
    pub subject: String,
    pub rounds: usize,
    pub seconds: u32,
    pub contenders: Vec<Contender>,
    /// Why somebody or something is missing, a sentence each.
    pub left_out: Vec<String>,
    pub results: Vec<Outcome>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Contender {
    pub name: String,
    pub kind: Kind,
    pub version: String,
}

/// One work.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub work: &'static Work,
    pub cost_per: &'static str,
    pub rows: Vec<RowOutcome>,
    pub costs: Vec<Cost>,
    /// The subject's, right after the last round, where it is netloom.
    pub books: Option<Books>,
}

/// One value of a work.
#[derive(Clone, Debug, Serialize)]
pub struct RowOutcome {
    #[serde(flatten)]
    pub row: Row,
    /// The subject first.
    pub values: Vec<Named>,
    /// Of the subject's value itself.
    pub target: Option<Bound>,
    pub verdict: Option<Verdict>,
    /// The subject's value divided by that of the named peer.
    pub ratios: Vec<Ratio>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Named {
    pub name: String,
    #[serde(flatten)]
    pub summary: Summary,
}

#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    pub to: String,
    pub conclusive: bool,
    pub target: Option<Bound>,
    pub verdict: Option<Verdict>,
    #[serde(flatten)]
    pub summary: Summary,
}

/// Processor seconds for each [`Outcome::cost_per`], and memory; medians.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    pub name: String,
    pub machine_cpu_seconds: f64,
    /// `None` where the kernel forwards.
    pub forwarder_cpu_seconds: Option<f64>,
    pub resident_kib: Option<u64>,
}

impl Outcome {
    /// `names`: the subject's, then the peers' in the order of `taken`.
    #[must_use]
    pub fn of(work: &'static Work, names: &[String], taken: &Taken) -> Self {
        let (subject, peers) = names.split_first().map_or(("", names), |(subject, peers)| (subject.as_str(), peers));
        let with_peers = || peers.iter().zip(&taken.peers);
        let all = || std::iter::once((subject, &taken.subject)).chain(with_peers().map(|(name, of)| (name.as_str(), &of.samples)));
        let rows = work.rows.iter().enumerate().map(|(index, &row)| {
            let of = |sample: &Sample| sample.values.get(index).copied().unwrap_or(f64::NAN);
            let values = all().filter_map(|(name, samples)| {
                Some(Named { name: name.to_owned(), summary: Summary::of(samples.iter().map(of).collect())? })
            });
            let values: Vec<Named> = values.collect();
            let target = Bound::of(subject, work.name, index, "");
            let own = values.first().filter(|named| named.name == subject);
            let verdict = target.zip(own).map(|(bound, named)| bound.judge_value(named.summary.median));
            let ratios = with_peers().filter_map(|(name, taken)| {
                let summary = ratios(&taken.pairs.iter().map(|(ours, theirs)| (of(ours), of(theirs))).collect::<Vec<_>>())?;
                let target = Bound::of(subject, work.name, index, name);
                let verdict = target.map(|bound| bound.judge(&summary));
                Some(Ratio { to: name.clone(), conclusive: summary.is_conclusive(), target, verdict, summary })
            });
            RowOutcome { row, values, target, verdict, ratios: ratios.collect() }
        });
        let costs = all().filter_map(|(name, samples)| Cost::of(name, samples));
        Self { work, cost_per: work.quantity, rows: rows.collect(), costs: costs.collect(), books: None }
    }
}

impl Cost {
    fn of(name: &str, samples: &[Sample]) -> Option<Self> {
        let median = |of: fn(&Sample) -> f64| Summary::of(samples.iter().map(of).collect()).map(|summary| summary.median);
        let resident = median(|sample| sample.resident_kib as f64)? as u64;
        let in_process = resident > 0;
        Some(Self {
            name: name.to_owned(),
            machine_cpu_seconds: median(|sample| sample.machine_cpu)?,
            forwarder_cpu_seconds: median(|sample| sample.forwarder_cpu).filter(|_| in_process),
            resident_kib: in_process.then_some(resident),
        })
    }
}

impl Report {
    pub fn write_json(&self, path: &Path) -> Result<()> {
        let failed = |source| BenchError::Json { path: path.to_owned(), source };
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(error.into()))?;
        fs::write(path, text + "\n").map_err(failed)
    }

    /// A figure of which frames are unaccounted for is none.
    pub fn check_books(&self) -> Result<()> {
        let is_wrong = |outcome: &&Outcome| outcome.books.as_ref().is_some_and(|books| !books.wrong.is_empty());
        let works: Vec<_> = self.results.iter().filter(is_wrong).map(|outcome| outcome.work.name).collect();
        if works.is_empty() { Ok(()) } else { Err(BenchError::Books { works: works.join(", ") }) }
    }
}

/// Text for a terminal or a log.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_facts(f, &self.machine)?;
        writeln!(
            f,
            "{} rounds, {} s each; a ratio is the median of pairs that ran back to back, its spread their interquartile range over it",
            self.rounds, self.seconds
        )?;
        for contender in &self.contenders {
            writeln!(f, "{:<18} {}", contender.name, contender.version)?;
        }
        for reason in &self.left_out {
            writeln!(f, "left out: {reason}")?;
        }
        for outcome in &self.results {
            for row in &outcome.rows {
                write_row(f, outcome, row)?;
            }
        }
        Ok(())
    }
}

fn write_facts(f: &mut fmt::Formatter<'_>, facts: &Facts) -> fmt::Result {
    let place = if facts.virtual_machine { "a virtual machine" } else { "bare metal" };
    let Facts { kernel, architecture, processor, processors, memory_mib, load_before, .. } = facts;
    writeln!(f, "Linux {kernel} {architecture}, {processors} × {processor}, {memory_mib} MiB, {place}, load {load_before} before")?;
    for (name, value) in &facts.sysctls {
        writeln!(f, "{name} = {value}")?;
    }
    Ok(())
}

fn write_row(f: &mut fmt::Formatter<'_>, outcome: &Outcome, row: &RowOutcome) -> fmt::Result {
    let Row { title, unit, more_is_better } = row.row;
    let direction = if more_is_better { "more is better" } else { "less is better" };
    writeln!(f, "\n{} ─ {title} ({direction})", outcome.work)?;
    let heads = ["", unit, "min", "max", "CPU s", "own CPU s", "RSS MiB"].map(str::to_owned).to_vec();
    let lines = row.values.iter().map(|named| {
        let cost = outcome.costs.iter().find(|cost| cost.name == named.name);
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        vec![
            named.name.clone(),
            table::number(named.summary.median),
            table::number(named.summary.min),
            table::number(named.summary.max),
            or_dash(cost.map(|cost| table::number(cost.machine_cpu_seconds))),
            or_dash(cost.and_then(|cost| cost.forwarder_cpu_seconds).map(table::number)),
            or_dash(cost.and_then(|cost| cost.resident_kib).map(|kib| table::number(kib as f64 / 1024.0))),
        ]
    });
    write!(f, "{}", table::aligned(&std::iter::once(heads).chain(lines).collect::<Vec<_>>()))?;
    writeln!(f, "CPU s: processor seconds for each {}: of the whole machine, and of the forwarding processes", outcome.cost_per)?;
    for ratio in &row.ratios {
        write_ratio(f, ratio)?;
    }
    if let (Some(target), Some(verdict)) = (row.target, row.verdict) {
        writeln!(f, "target {target}: {}", verdict.word())?;
    }
    outcome.books.as_ref().map_or(Ok(()), |books| write_books(f, books))
}

fn write_ratio(f: &mut fmt::Formatter<'_>, ratio: &Ratio) -> fmt::Result {
    let Summary { median, min, max, spread, samples } = &ratio.summary;
    write!(f, "ratio to {}: {median:.2} ({min:.2} to {max:.2}), spread {:.0} %", ratio.to, spread * 100.0)?;
    if let Some(target) = ratio.target {
        write!(f, ", target {target}")?;
    }
    match (ratio.conclusive, ratio.verdict) {
        (true, Some(verdict)) => writeln!(f, ": {}", verdict.word()),
        (true, None) => writeln!(f),
        (false, _) if samples.len() < CONCLUSIVE_PAIRS => writeln!(f, ": inconclusive (fewer than {CONCLUSIVE_PAIRS} pairs)"),
        (false, _) => writeln!(f, ": inconclusive (over {:.0} %)", CONCLUSIVE_SPREAD * 100.0),
    }
}

fn write_books(f: &mut fmt::Formatter<'_>, books: &Books) -> fmt::Result {
    let dropped: Vec<String> = books.dropped.iter().map(|(reason, frames)| format!("{reason} {frames}")).collect();
    let state =
        if books.wrong.is_empty() { "the books balance".to_owned() } else { format!("the books are WRONG: {}", books.wrong.join("; ")) };
    writeln!(f, "{state}; since the start the rings dropped {} frames, netloom {}", books.ring_dropped, dropped.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::TakenOf;

    fn sample(value: f64, resident_kib: u64) -> Sample {
        Sample { values: vec![value], machine_cpu: 0.5, forwarder_cpu: 0.25, resident_kib }
    }

    fn outcome(ours: &[f64], theirs: &[f64]) -> Outcome {
        let ours: Vec<_> = ours.iter().map(|&value| sample(value, 3072)).collect();
        let theirs: Vec<_> = theirs.iter().map(|&value| sample(value, 0)).collect();
        let pairs = ours.iter().cloned().zip(theirs.iter().cloned()).collect();
        let taken = Taken { subject: ours, peers: vec![TakenOf { samples: theirs, pairs }] };
        Outcome::of(Work::named("tcp").unwrap(), &["netloom".to_owned(), "kernel-bridge".to_owned()], &taken)
    }

    fn report(outcome: Outcome) -> Report {
        let left_out = vec!["ovs: ovs-vswitchd is not installed".to_owned()];
        Report {
            machine: Facts::read(),
            subject: "netloom".into(),
            rounds: 3,
            seconds: 1,
            contenders: Vec::new(),
            left_out,
            results: vec![outcome],
        }
    }

    #[test]
    fn the_table_has_medians_costs_and_ratios() {
        let text = report(outcome(&[12.0, 13.0, 14.0].repeat(3), &[11.9, 13.1, 13.9].repeat(3))).to_string();
        assert!(text.contains("netloom          13.0  12.0  14.0  0.500      0.250     3.00\n"), "{text}");
        assert!(text.contains("kernel-bridge    13.1  11.9  13.9  0.500          -        -\n"), "{text}");
        assert!(text.contains("ratio to kernel-bridge: 1.01 (0.99 to 1.01), spread 2 %, target ≥ 1: met\n"), "{text}");
        assert!(text.contains("left out: ovs"), "{text}");
    }

    #[test]
    fn a_wide_spread_is_said_to_prove_nothing() {
        let text = report(outcome(&[10.0, 13.0, 16.0].repeat(3), &[13.0; 9])).to_string();
        assert!(text.contains("inconclusive (over 15 %)"), "{text}");
    }

    #[test]
    fn json_keeps_every_sample() {
        let value = serde_json::to_value(report(outcome(&[12.0, 13.0], &[6.0, 6.5]))).unwrap();
        let ratio = &value["results"][0]["rows"][0]["ratios"][0];
        assert_eq!(ratio["samples"], serde_json::json!([2.0, 2.0]));
        assert_eq!((&ratio["to"], &ratio["conclusive"]), (&"kernel-bridge".into(), &false.into()));
        assert_eq!((&ratio["target"]["at_least"], &ratio["verdict"]), (&1.0.into(), &"inconclusive".into()));
        assert_eq!(value["results"][0]["work"], "tcp");
        assert_eq!(value["results"][0]["costs"][1]["resident_kib"], serde_json::Value::Null);
    }
}
