//! Netloom and its peers side by side: the same work for each in turn, round after round, and a table of medians and paired ratios.
//!
//! It runs as root, in network, mount and process namespaces of its own; nothing reaches the machine's network. iperf3, iproute2 and
//! util-linux must be there; a peer that is not is left out.
//!
//! ```sh
//! cargo build --release
//! cargo bench -p netloom-benches --bench peers -- --rounds 9 --only tcp,ping-pong --peers kernel-bridge,ovs --json peers.json
//! ```

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use netloom_benches::{
    BenchError, Result,
    load::Load,
    machine::Facts,
    peer::{Kind, Known, Peer, Setting},
    plan::{self, Who},
    process::ourselves,
    report::{Contender, Outcome, Report},
    stage,
    work::{Sample, Work},
};

/// Measures netloom and its peers side by side
#[derive(Debug, Parser)]
#[command(name = "peers", args_conflicts_with_subcommands = true)]
struct Options {
    /// How often everybody is measured; a ratio wants at least nine
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// How long one measurement takes
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Works whose names begin with these words, as tcp,frames-60,nat; all if absent
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Whom to compare with; a name with -1500 is a NAT at Ethernet's MTU
    #[arg(long, value_delimiter = ',', default_value = "kernel-bridge,ovs,vde,slirp4netns,pasta")]
    peers: Vec<String>,
    /// Who is compared; a peer against itself shows what the machine's noise is
    #[arg(long, default_value = "netloom")]
    subject: String,
    /// Its binary, if not the one built beside this bench
    #[arg(long)]
    netloom: Option<PathBuf>,
    /// Also writes the result, with every sample, to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    load: Option<Load>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let ended = match &options.load {
        Some(load) => load.run().map(|()| ExitCode::SUCCESS),
        None => stage::enter(|| Bench::new(&options)?.run()),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("error: {}", error.with_causes());
        ExitCode::FAILURE
    })
}

struct Bench<'a> {
    options: &'a Options,
    works: Vec<Work>,
    subject: &'static Known,
    peers: Vec<&'static Known>,
    report: Report,
}

impl<'a> Bench<'a> {
    fn new(options: &'a Options) -> Result<Self> {
        let named = options.peers.iter().map(|name| Known::named(name)).collect::<Result<Vec<_>>>()?;
        let (missing, peers): (Vec<_>, Vec<_>) = named.into_iter().partition(|known| known.missing().is_some());
        let left_out = missing.iter().filter_map(|known| Some(format!("{}: {} is not installed", known.name, known.missing()?)));
        let report = Report {
            machine: Facts::read(),
            rounds: options.rounds,
            seconds: options.seconds,
            contenders: Vec::new(),
            left_out: left_out.collect(),
            results: Vec::new(),
        };
        Ok(Self { options, works: Work::chosen(&options.only)?, subject: Known::named(&options.subject)?, peers, report })
    }

    fn run(mut self) -> Result<()> {
        for kind in [Kind::Switch, Kind::Nat] {
            let works: Vec<Work> = self.works.iter().copied().filter(|work| work.kind() == kind).collect();
            if !works.is_empty() && self.subject.kinds.contains(&kind) {
                self.run_kind(kind, &works)?;
            }
        }
        print!("{}", self.report);
        self.options.json.as_deref().map_or(Ok(()), |path| self.report.write_json(path))
    }

    /// All works on the contenders of one kind, which stay up meanwhile.
    fn run_kind(&mut self, kind: Kind, works: &[Work]) -> Result<()> {
        let subject = self.set_up(self.subject, kind, 0)?;
        let mut peers = Vec::new();
        for known in self.peers.clone().into_iter().filter(|known| known.kinds.contains(&kind)) {
            match self.set_up(known, kind, peers.len() + 1) {
                Ok(peer) => peers.push(peer),
                Err(error) => self.leave_out(format!("{}: {}", known.name, error.with_causes())),
            }
        }
        let names: Vec<String> = std::iter::once(&subject).chain(&peers).map(|peer| peer.name.clone()).collect();
        for &work in works {
            let taken = plan::take(self.options.rounds, peers.len(), |round, who| {
                let contender = match who {
                    Who::Subject => &subject,
                    Who::Peer(place) => &peers[place],
                };
                Ok(self.measure(work, round, contender))
            })?;
            self.report.results.push(Outcome::of(work, &names, &taken));
        }
        Ok(())
    }

    fn set_up(&mut self, known: &Known, kind: Kind, place: usize) -> Result<Peer> {
        let again = if self.report.contenders.iter().any(|one| one.kind == kind && one.name == known.name) { "-again" } else { "" };
        let setting = Setting {
            name: format!("{}{again}", known.name),
            kind,
            tag: format!("{}{place}", if kind == Kind::Nat { 'n' } else { 's' }),
            netloom: self.netloom()?,
        };
        eprintln!("setting up {}", setting.name);
        let peer = known.set_up(&setting)?;
        self.report.contenders.push(Contender { name: setting.name.clone(), kind, version: known.version(&setting) });
        Ok(peer)
    }

    /// A contender that fails at a work loses that sample, not the run.
    fn measure(&mut self, work: Work, round: usize, contender: &Peer) -> Option<Sample> {
        match work.measure(contender, self.options.seconds) {
            Ok(Some(sample)) => {
                let values: Vec<String> = sample.values.iter().map(|value| format!("{value:.2}")).collect();
                eprintln!("{work}, round {}: {} {}", round + 1, contender.name, values.join(" "));
                Some(sample)
            }
            Ok(None) => {
                self.leave_out(format!("{}: cannot do {work}", contender.name));
                None
            }
            Err(error) => {
                self.leave_out(format!("{}, {work}, round {}: {}", contender.name, round + 1, error.with_causes()));
                None
            }
        }
    }

    fn leave_out(&mut self, reason: String) {
        if !self.report.left_out.contains(&reason) {
            eprintln!("left out: {reason}");
            self.report.left_out.push(reason);
        }
    }

    /// The binary that was built beside this bench, unless another is named.
    fn netloom(&self) -> Result<PathBuf> {
        if let Some(path) = &self.options.netloom {
            return Ok(path.clone());
        }
        let path = ourselves()?.parent().and_then(|folder| folder.parent()).map(|folder| folder.join("netloom")).unwrap_or_default();
        if path.exists() { Ok(path) } else { Err(BenchError::NetloomMissing { path }) }
    }
}
