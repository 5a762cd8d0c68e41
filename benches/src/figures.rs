//! The README's figures: one table and one plot, from the JSON that runs have written.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    error::{BenchError, Result},
    stats::CONCLUSIVE_SPREAD,
    table::number,
    targets::{Bound, bounded_by},
};

mod svg;

const BEGIN: &str = "<!-- figures: begin -->";
const END: &str = "<!-- figures: end -->";

/// `figures FILE... [--readme FILE] [--svg FILE]`
#[derive(Clone, Debug, Args)]
pub struct Figures {
    /// What --json wrote; of two that hold the same ratio, the later one counts
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Replaces what stands between its marks; without it, the table is printed
    #[arg(long)]
    readme: Option<PathBuf>,
    /// Where the plot goes
    #[arg(long)]
    svg: Option<PathBuf>,
}

/// One row of a work against one peer, or against a target of its own.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    work: String,
    subject: String,
    title: String,
    unit: String,
    more_is_better: bool,
    value: f64,
    cpu: Option<(f64, String)>,
    resident_kib: Option<f64>,
    against: Option<Against>,
    target: Option<Bound>,
    verdict: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
struct Against {
    peer: String,
    value: f64,
    cpu: Option<f64>,
    ratio: f64,
    spread: f64,
    quartiles: (f64, f64),
    pairs: usize,
    /// How many of them reach the target, if there is one.
    reached: Option<usize>,
    conclusive: bool,
}

type Key = (usize, String, usize, String);

impl Figures {
    pub fn run(&self) -> Result<()> {
        let mut figures: BTreeMap<Key, Figure> = BTreeMap::new();
        let mut facts = String::new();
        for path in &self.files {
            let text = fs::read_to_string(path).map_err(BenchError::io(format!("reading {}", path.display())))?;
            let lacks =
                || BenchError::Answer { program: path.display().to_string(), answer: text.chars().take(80).collect(), lacks: "a report" };
            let report: Value = serde_json::from_str(&text).map_err(|_| lacks())?;
            let of = machine(&report).ok_or_else(lacks)?;
            if !facts.is_empty() && facts != of {
                return Err(BenchError::Machines { path: path.clone(), one: facts, other: of });
            }
            facts = of;
            collect(&report, &mut figures);
        }
        let figures: Vec<Figure> = figures.into_values().collect();
        if let Some(path) = &self.svg {
            fs::write(path, svg::plot(&figures)).map_err(BenchError::io(format!("writing {}", path.display())))?;
        }
        let plot = self.svg.as_ref().filter(|_| self.readme.is_some());
        let plot = plot.map(|path| format!("![netloom's advantage over its peers]({})\n\n", self.beside_readme(path)));
        let section = format!("{facts}\n\n{}{}", plot.unwrap_or_default(), markdown(&figures));
        let Some(path) = &self.readme else {
            print!("{section}");
            return Ok(());
        };
        let readme = fs::read_to_string(path).map_err(BenchError::io(format!("reading {}", path.display())))?;
        let marks = || BenchError::Answer { program: path.display().to_string(), answer: String::new(), lacks: "the marks of the figures" };
        fs::write(path, between_marks(&readme, &section).ok_or_else(marks)?).map_err(BenchError::io(format!("writing {}", path.display())))
    }
}

impl Figures {
    /// As the README names a file that lies beside it or below.
    fn beside_readme(&self, path: &Path) -> String {
        let folder = self.readme.as_ref().and_then(|readme| readme.parent()).unwrap_or_else(|| Path::new(""));
        path.strip_prefix(folder).unwrap_or(path).display().to_string()
    }
}

fn between_marks(text: &str, section: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{section}\n{END}{after}"))
}

fn machine(report: &Value) -> Option<String> {
    let facts = report.get("machine")?;
    let text = |key: &str| facts.get(key).and_then(Value::as_str);
    let count = |key: &str| facts.get(key).and_then(Value::as_u64);
    let place = if facts.get("virtual_machine")?.as_bool()? { "a virtual machine" } else { "bare metal" };
    let (processors, processor) = (count("processors")?, text("processor")?);
    let memory = count("memory_mib")? / 1024;
    Some(format!("Linux {} on {place}, {processors} × {processor}, {memory} GiB.", text("kernel")?))
}

/// Figures in the order of the works.
fn collect(report: &Value, into: &mut BTreeMap<Key, Figure>) {
    let subject = report.get("subject").and_then(Value::as_str).unwrap_or("netloom").to_owned();
    for result in list(report, "results") {
        let name = string(result, "work");
        let place = crate::work::ALL.iter().position(|work| work.name == name).unwrap_or(usize::MAX);
        for (index, row) in list(result, "rows").iter().enumerate() {
            let whole = figure(&subject, result, row);
            let Some(whole) = whole else { continue };
            let ratios = list(row, "ratios");
            let compared: Vec<_> = ratios.iter().filter_map(|ratio| compared(&whole, result, row, ratio)).collect();
            // Where both lost nothing there is no ratio, and the value is all there is to say.
            if compared.is_empty() || compared.len() < ratios.len() || whole.target.is_some() {
                into.insert((place, subject.clone(), index, String::new()), whole);
            }
            for (peer, figure) in compared {
                into.insert((place, subject.clone(), index, peer), figure);
            }
        }
    }
}

fn figure(subject: &str, result: &Value, row: &Value) -> Option<Figure> {
    let own = named(list(row, "values"), "name", subject)?;
    let cost = named(list(result, "costs"), "name", subject);
    let cpu = cost.and_then(|cost| cost.get("machine_cpu_seconds")?.as_f64());
    let (target, verdict) = target(row);
    Some(Figure {
        work: string(result, "work"),
        subject: subject.to_owned(),
        title: string(row, "title"),
        unit: string(row, "unit"),
        more_is_better: row.get("more_is_better")?.as_bool()?,
        value: own.get("median")?.as_f64()?,
        // What is the whole work's is no price of anything.
        cpu: cpu.map(|seconds| (seconds, string(result, "cost_per"))).filter(|(_, unit)| unit != "work"),
        resident_kib: cost.and_then(|cost| cost.get("resident_kib")?.as_f64()),
        against: None,
        target,
        verdict,
    })
}

/// The row beside one peer, and whose it is.
fn compared(whole: &Figure, result: &Value, row: &Value, ratio: &Value) -> Option<(String, Figure)> {
    let (target, verdict) = target(ratio);
    let against = against(result, row, ratio, target)?;
    Some((against.peer.clone(), Figure { against: Some(against), target, verdict, ..whole.clone() }))
}

fn against(result: &Value, row: &Value, ratio: &Value, target: Option<Bound>) -> Option<Against> {
    let peer = string(ratio, "to");
    let theirs = named(list(row, "values"), "name", &peer)?;
    let cost = named(list(result, "costs"), "name", &peer);
    let mut sorted: Vec<f64> = list(ratio, "samples").iter().filter_map(Value::as_f64).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    Some(Against {
        value: theirs.get("median")?.as_f64()?,
        cpu: cost.and_then(|cost| cost.get("machine_cpu_seconds")?.as_f64()),
        ratio: ratio.get("median")?.as_f64()?,
        spread: ratio.get("spread")?.as_f64()?,
        quartiles: (crate::stats::quantile(&sorted, 0.25), crate::stats::quantile(&sorted, 0.75)),
        pairs: sorted.len(),
        reached: target.map(|bound| sorted.iter().filter(|&&ratio| bound.holds(ratio)).count()),
        conclusive: ratio.get("conclusive")?.as_bool()?,
        peer,
    })
}

/// The target, and what is said of it.
fn target(of: &Value) -> (Option<Bound>, Option<String>) {
    let target = of.get("target").and_then(|target| Bound::deserialize(target).ok());
    (target, of.get("verdict").and_then(Value::as_str).map(str::to_owned))
}

fn list<'a>(of: &'a Value, key: &str) -> &'a [Value] {
    of.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn string(of: &Value, key: &str) -> String {
    of.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn named<'a>(list: &'a [Value], key: &str, name: &str) -> Option<&'a Value> {
    list.iter().find(|value| value.get(key).and_then(Value::as_str) == Some(name))
}

fn markdown(figures: &[Figure]) -> String {
    let mut text = String::from("| work | netloom | peer | ratio | spread | pairs | target | |\n|---|---|---|---|---|---|---|---|\n");
    for figure in figures {
        let Figure { title, unit, value, .. } = figure;
        let who = figure.subject.strip_prefix("netloom-").map(|variant| format!(" ({variant})")).unwrap_or_default();
        let cpu = |seconds: Option<f64>| {
            let per = figure.cpu.as_ref().map_or("", |(_, per)| per);
            seconds.map(|seconds| format!("; {} CPU s/{per}", number(seconds))).unwrap_or_default()
        };
        let ours = format!("{} {unit}{}", number(*value), cpu(figure.cpu.as_ref().map(|(seconds, _)| *seconds)));
        let memory = figure.resident_kib.map(|kib| format!("; {:.0} MiB", kib / 1024.0)).unwrap_or_default();
        let (peer, ratio, spread, pairs, unsure) = figure.against.as_ref().map_or_else(Default::default, |against| {
            let peer = format!("{} {}{}", against.peer, number(against.value), cpu(against.cpu));
            let unsure = if against.conclusive { "" } else { "inconclusive" };
            (peer, format!("{:.2}", against.ratio), percent(against.spread), against.pairs.to_string(), unsure)
        });
        let verdict = verdict(figure, figure.verdict.as_deref().unwrap_or(unsure));
        let target = figure.target.map(|bound| bound.to_string()).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {title}{who} | {ours}{memory} | {peer} | {ratio} | {spread} | {pairs} | {target} | {verdict} |");
    }
    text
}

/// What the last column says: how sure a miss is, and what bounds it.
fn verdict(figure: &Figure, said: &str) -> String {
    let Some(against) = &figure.against else { return said.to_owned() };
    let pairs =
        against.reached.filter(|_| said == "inconclusive").map(|reached| format!("; {reached} of {} pairs reach it", against.pairs));
    let is_missed = said == "missed" || (said == "inconclusive" && against.reached == Some(0));
    let bound = bounded_by(&figure.work, &against.peer).filter(|_| is_missed);
    let bound = bound.map(|by| format!(", bounded by [{by}](#what-bounds-the-rows-that-are-missed)"));
    [said, pairs.as_deref().unwrap_or_default(), bound.as_deref().unwrap_or_default()].concat()
}

/// A part in whole percent, but where that would hide on which side of the bound of a conclusion it lies.
fn percent(part: f64) -> String {
    let percent = part * 100.0;
    if percent.round() == (CONCLUSIVE_SPREAD * 100.0).round() { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_that_is_missed_says_what_bounds_it() {
        let missed = |peer: &str| {
            let text = report(0.9).to_string().replace("vde", peer).replace(r#""met""#, r#""missed""#);
            markdown(&figures(&[serde_json::from_str(&text).unwrap()]))
        };
        let text = missed("kernel-bridge");
        assert!(text.contains("| missed, bounded by [two copies more](#what-bounds-the-rows-that-are-missed) |"), "{text}");
        assert!(missed("netloom-user").contains("| missed |"));
    }

    fn report(ratio: f64) -> Value {
        json!({"subject": "netloom", "results": [{"work": "tcp", "cost_per": "GB",
            "costs": [{"name": "netloom", "machine_cpu_seconds": 0.9, "resident_kib": 4096}, {"name": "vde", "machine_cpu_seconds": 9.0}],
            "rows": [{"title": "TCP", "unit": "Gbit/s", "more_is_better": true,
                "values": [{"name": "netloom", "median": 14.0}, {"name": "vde", "median": 1.0}],
                "ratios": [{"to": "vde", "median": ratio, "spread": 0.02, "conclusive": true, "samples": [ratio, ratio],
                    "target": {"at_least": 12.0}, "verdict": "met"}]}]}]})
    }

    fn figures(reports: &[Value]) -> Vec<Figure> {
        let mut figures = BTreeMap::new();
        reports.iter().for_each(|report| collect(report, &mut figures));
        figures.into_values().collect()
    }

    #[test]
    fn a_row_has_both_values_their_costs_and_the_verdict() {
        let text = markdown(&figures(&[report(14.0)]));
        let row = "| TCP | 14.0 Gbit/s; 0.900 CPU s/GB; 4 MiB | vde 1.00; 9.00 CPU s/GB | 14.00 | 2 % | 2 | ≥ 12 | met |";
        assert!(text.contains(row), "{text}");
    }

    #[test]
    fn a_row_that_proves_nothing_says_how_many_pairs_reach_its_target() {
        let mut unsure = report(14.0);
        let ratio = &mut unsure["results"][0]["rows"][0]["ratios"][0];
        ratio["verdict"] = json!("inconclusive");
        ratio["conclusive"] = json!(false);
        ratio["samples"] = json!([13.0, 11.9, 40.0]);
        let text = markdown(&figures(&[unsure]));
        assert!(text.contains("| 3 | ≥ 12 | inconclusive; 2 of 3 pairs reach it |"), "{text}");
    }

    #[test]
    fn a_row_whose_ratio_cannot_be_formed_shows_its_value() {
        let mut none = report(14.0);
        let row = &mut none["results"][0]["rows"][0];
        row["values"][0]["median"] = json!(0.0);
        row["ratios"][0]["median"] = Value::Null;
        let text = markdown(&figures(&[none]));
        assert!(text.contains("| TCP | 0.000 Gbit/s;"), "{text}");
    }

    #[test]
    fn a_spread_beside_the_bound_shows_on_which_side_it_is() {
        assert_eq!([0.149, 0.152, 0.02, 1.4].map(percent), ["14.9 %", "15.2 %", "2 %", "140 %"]);
    }

    #[test]
    fn the_later_of_two_runs_counts() {
        let figures = figures(&[report(14.0), report(15.0)]);
        assert_eq!(figures.len(), 1);
        assert_eq!(figures[0].against.as_ref().map(|against| against.ratio), Some(15.0));
    }

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        assert_eq!(between_marks(&text, "new\n").unwrap(), format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert_eq!(between_marks("no marks", "new"), None);
    }
}
