//! The command line as clap reads it: the doc comments here are the help, the man pages and `docs/cli-reference.md`.
//!
//! Nothing is looked up or opened here; a word is only taken apart (`words`).

pub mod container;
pub mod format;
pub mod help;
pub mod lifecycle;
pub mod look;
pub mod network;
#[cfg(test)]
mod reference;
pub mod run;

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Run containers on a network that lives in userspace
#[derive(Debug, Parser)]
#[command(name = "netloom", version, max_term_width = 100, disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Cli {
    /// Where the instance lives; two roots never see each other [default: $NETLOOM_ROOT, else the user's own]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// When to colour
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: ColorWhen,
    /// How many threads move frames, if this command starts the daemon [default: $NETLOOM_WORKERS, else one for each core]
    #[arg(long, value_name = "N", value_parser = crate::words::quantity::workers)]
    pub workers: Option<NonZeroUsize>,
    /// Say on stderr what is done
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Run(Box<run::RunArgs>),
    Exec(Box<container::ExecArgs>),
    Create(Box<run::CreateArgs>),
    Start(lifecycle::StartArgs),
    Restart(lifecycle::RestartArgs),
    Stop(lifecycle::StopArgs),
    Kill(lifecycle::KillArgs),
    Pause(lifecycle::PauseArgs),
    Unpause(lifecycle::UnpauseArgs),
    Rm(lifecycle::RmArgs),
    Wait(lifecycle::WaitArgs),
    Rename(lifecycle::RenameArgs),
    Attach(container::AttachArgs),
    Ps(container::PsArgs),
    Inspect(container::InspectArgs),
    Logs(container::LogsArgs),
    Port(container::PortArgs),
    Cp(container::CpArgs),
    Stats(container::StatsArgs),
    Publish(container::PublishArgs),
    Network(network::NetworkArgs),
    Fdb(look::FdbArgs),
    Ports(look::PortsArgs),
    Leases(look::LeasesArgs),
    Flows(look::FlowsArgs),
    Drops(look::DropsArgs),
    Events(look::EventsArgs),
    Doctor(look::DoctorArgs),
    System(look::SystemArgs),
    Version(look::VersionArgs),
    Help(HelpArgs),
    Completions(look::CompletionsArgs),
    Man(look::ManArgs),
}

/// Print the help of a command
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom help run\n  $ netloom help network attach")]
pub struct HelpArgs {
    #[arg(value_name = "COMMAND")]
    pub words: Vec<String>,
}
