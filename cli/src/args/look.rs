//! Looking inside, and everything about netloom itself.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use netloom_switch::Mac;

use super::format::{FormatArgs, ListArgs};
use crate::words::{
    network::mac,
    quantity::{Since, since},
};

/// List the addresses that switches have learned
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "EXAMPLES:\n  $ netloom fdb bridge\n  $ netloom fdb add bridge 02:42:ac:11:00:09 web"
)]
pub struct FdbArgs {
    #[command(subcommand)]
    pub command: Option<FdbCommand>,
    #[command(flatten)]
    pub list: ListArgs,
    /// One network alone
    pub network: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum FdbCommand {
    /// Pin an address to a port
    #[command(after_help = "EXAMPLES:\n  $ netloom fdb add bridge 02:42:ac:11:00:09 3\n  $ netloom fdb add bridge 02:42:ac:11:00:09 web")]
    Add {
        network: String,
        #[arg(value_parser = mac)]
        mac: Mac,
        /// The port's number, as `netloom ports` shows it, or the container behind it
        port: String,
    },
    /// Forget an address, learned or pinned
    #[command(after_help = "EXAMPLES:\n  $ netloom fdb del bridge 02:42:ac:11:00:09")]
    Del {
        network: String,
        #[arg(value_parser = mac)]
        mac: Mac,
        /// Only if it is at this port
        port: Option<String>,
    },
}

/// List the ports of networks and what they counted
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom ports\n  $ netloom ports bridge --format '{{.container}} {{.rx_bytes}} {{json .drops}}'")]
pub struct PortsArgs {
    #[command(flatten)]
    pub list: ListArgs,
    /// One network alone
    pub network: Option<String>,
}

/// List the addresses that containers have
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom leases bridge")]
pub struct LeasesArgs {
    #[command(flatten)]
    pub list: ListArgs,
    /// One network alone
    pub network: Option<String>,
}

/// List what goes through the gateways
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom flows\n  $ netloom flows bridge --json")]
pub struct FlowsArgs {
    #[command(flatten)]
    pub list: ListArgs,
    /// One network alone
    pub network: Option<String>,
}

/// List why frames were dropped, and where
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom drops bridge\n  $ netloom drops -f")]
pub struct DropsArgs {
    /// Print each second what was dropped in it
    #[arg(short, long)]
    pub follow: bool,
    #[command(flatten)]
    pub list: ListArgs,
    /// One network alone
    pub network: Option<String>,
}

/// Print what happens to containers and networks
#[derive(Args, Debug)]
#[command(
    after_help = "EXAMPLES:\n  $ netloom events -f\n  $ netloom events --since 10m\n  $ netloom events -f --format '{{.time}} {{.action}} {{.name}}'"
)]
pub struct EventsArgs {
    /// Go on until interrupted, or until `--until`
    #[arg(short, long)]
    pub follow: bool,
    /// What happened since a time (2026-01-31T12:00:00Z) or not longer ago than 10m
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub since: Option<Since>,
    /// What happened before a time, or longer ago than 10m
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub until: Option<Since>,
    #[command(flatten)]
    pub format: FormatArgs,
}

/// Check what this machine offers, and say how to mend what is missing
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom doctor\n  $ netloom doctor --json")]
pub struct DoctorArgs {
    #[command(flatten)]
    pub format: FormatArgs,
}

/// Manage the whole instance
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom system prune")]
pub struct SystemArgs {
    #[command(subcommand)]
    pub command: SystemCommand,
}

#[derive(Debug, Subcommand)]
pub enum SystemCommand {
    /// Remove every container that does not run and every network that no container is on
    #[command(after_help = "EXAMPLES:\n  $ netloom system prune -f")]
    Prune {
        /// Ask nothing; without a terminal nothing is asked anyway
        #[arg(short, long)]
        force: bool,
    },
}

/// Print the version of the command and of the daemon
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom version\n  $ netloom version --format '{{.version}}'")]
pub struct VersionArgs {
    #[command(flatten)]
    pub format: FormatArgs,
}

/// Print completions for a shell
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom completions bash > ~/.local/share/bash-completion/completions/netloom")]
pub struct CompletionsArgs {
    pub shell: clap_complete::Shell,
}

/// Write the man pages into a directory
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom man ~/.local/share/man/man1")]
pub struct ManArgs {
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}
