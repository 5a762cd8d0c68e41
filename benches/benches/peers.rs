//! Netloom and its peers side by side: the same work for each in turn, round after round, and a table of medians and paired ratios.
//!
//! It runs as root, in network, mount and process namespaces of its own; nothing reaches the machine's network. iperf3, iproute2 and
//! util-linux must be there; a peer that is not is left out.
//!
//! ```sh
//! cargo build --release
//! cargo bench -p netloom-benches --bench peers -- --rounds 9 --only tcp,ping-pong --peers kernel-bridge,ovs --json peers.json
//! cargo bench -p netloom-benches --bench peers -- --suites
//! cargo bench -p netloom-benches --bench peers -- --suite switch-tcp --json switch-tcp.json
//! cargo bench -p netloom-benches --bench peers -- figures *.json --readme README.md --svg docs/figures.svg
//! ```

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use netloom_benches::{
    BenchError, Result,
    figures::Figures,
    load::Load,
    machine::Facts,
    peer::{Kind, Known, Peer, Setting},
    plan::{self, Who},
    process::ourselves,
    report::{Contender, Outcome, Report},
    stage, suites, sysctl,
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
    /// Whom to compare with; a name with -1500 is a NAT at Ethernet's MTU, one with -raised has larger socket buffers
    #[arg(long, value_delimiter = ',', default_value = DEFAULT_PEERS)]
    peers: Vec<String>,
    /// Works, peers, rounds and seconds of a part of what the README shows; see --suites
    #[arg(long, conflicts_with_all = ["only", "peers", "subject", "rounds", "seconds"])]
    suite: Option<String>,
    /// Lists the suites and how long each takes
    #[arg(long)]
    suites: bool,
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
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    command: Option<Subcommand>,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    /// Writes the README's table and plot from the JSON of any number of runs
    Figures(Figures),
    #[command(flatten)]
    Load(Load),
}

const DEFAULT_PEERS: &str = "kernel-bridge,ovs,vde,slirp4netns,pasta,netloom-alone,host-socket,loopback,docker-proxy,rootlesskit";

fn main() -> ExitCode {
    let mut options = Options::parse();
    let done = |()| ExitCode::SUCCESS;
    let ended = match &options.command {
        Some(Subcommand::Load(load)) => load.run().map(done),
        Some(Subcommand::Figures(figures)) => figures.run().map(done),
        None if options.suites => {
            print!("{}", suites::list());
            Ok(ExitCode::SUCCESS)
        }
        None => options.choose().and_then(|()| stage::enter(options.wants_raised(), || Bench::new(&options)?.run())),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("error: {}", error.with_causes());
        ExitCode::FAILURE
    })
}

impl Options {
    /// A suite in the place of the options that it stands for.
    fn choose(&mut self) -> Result<()> {
        let Some(name) = &self.suite else { return Ok(()) };
        let suite = suites::named(name)?;
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        (self.only, self.peers) = (words(suite.works), words(suite.peers));
        (self.rounds, self.seconds, self.subject) = (suite.rounds, suite.seconds, suite.subject.to_owned());
        Ok(())
    }

    fn wants_raised(&self) -> bool {
        self.peers.iter().chain([&self.subject]).any(|name| Known::named(name).is_ok_and(|known| known.raised))
    }
}

struct Bench<'a> {
    options: &'a Options,
    works: Vec<&'static Work>,
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
            subject: options.subject.clone(),
            rounds: options.rounds,
            seconds: options.seconds,
            contenders: Vec::new(),
            left_out: left_out.collect(),
            results: Vec::new(),
        };
        Ok(Self { options, works: Work::chosen(&options.only)?, subject: Known::named(&options.subject)?, peers, report })
    }

    fn run(mut self) -> Result<()> {
        for kind in Kind::ALL {
            let works: Vec<&'static Work> = self.works.iter().copied().filter(|work| work.kind == kind).collect();
            if !works.is_empty() && self.subject.kinds.contains(&kind) {
                self.run_kind(kind, &works)?;
            }
        }
        print!("{}", self.report);
        self.options.json.as_deref().map_or(Ok(()), |path| self.report.write_json(path))?;
        self.report.check_books()
    }

    /// All works on the contenders of one kind, which stay up meanwhile.
    fn run_kind(&mut self, kind: Kind, works: &[&'static Work]) -> Result<()> {
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
            let mut outcome = Outcome::of(work, &names, &taken);
            outcome.books = subject.books()?;
            self.report.results.push(outcome);
        }
        Ok(())
    }

    fn set_up(&mut self, known: &Known, kind: Kind, place: usize) -> Result<Peer> {
        let again = if self.report.contenders.iter().any(|one| one.kind == kind && one.name == known.name) { "-again" } else { "" };
        let setting = Setting {
            name: format!("{}{again}", known.name),
            kind,
            tag: format!("{}{place}", (b'a' + kind as u8) as char),
            netloom: self.netloom()?,
        };
        eprintln!("setting up {}", setting.name);
        let _raised = known.raised.then(sysctl::Raised::now).transpose()?;
        let peer = known.set_up(&setting)?;
        self.report.contenders.push(Contender { name: setting.name.clone(), kind, version: known.version(&setting) });
        Ok(peer)
    }

    /// A contender that fails at a work loses that sample, not the run.
    fn measure(&mut self, work: &'static Work, round: usize, contender: &Peer) -> Option<Sample> {
        let measured =
            contender.raised.then(sysctl::Raised::now).transpose().and_then(|_raised| work.measure(contender, self.options.seconds));
        match measured {
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
