//! Work with containers that are there: `exec attach ps inspect logs port cp stats publish`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::format::{FormatArgs, ListArgs};
use crate::{
    session::{DEFAULT_DETACH_KEYS, DetachKeys},
    words::{
        container::{EnvWord, env},
        filter::{Filter, filter},
        mount::{CopyPath, absolute, copy_path},
        publish::PublishSpec,
        quantity::{Since, Tail, containers, since, tail},
    },
};

/// Run one more command in a running container
///
/// The exit code is the command's own; 125, 126, 127 and 128+N are as in `netloom run`.
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom exec -it web sh\n  $ netloom exec -e DEBUG=1 -w /srv web make test")]
pub struct ExecArgs {
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Leave it running
    #[arg(short, long)]
    pub detach: bool,
    /// An environment variable; K alone has the value it has here (repeat)
    #[arg(short, long, value_name = "K=V", value_parser = env)]
    pub env: Vec<EnvWord>,
    /// Environment variables, one a line (repeat)
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// The working directory
    #[arg(short, long, value_name = "DIR", value_parser = absolute)]
    pub workdir: Option<PathBuf>,
    /// The user: UID[:GID], or names of the container's
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Take nothing away: all capabilities, no filter
    #[arg(long)]
    pub privileged: bool,
    /// The keys that leave the command running
    #[arg(long, value_name = "KEYS", default_value = DEFAULT_DETACH_KEYS)]
    pub detach_keys: DetachKeys,
    /// The container, then the command and its arguments
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_names = ["CONTAINER", "COMMAND"])]
    pub words: Vec<String>,
}

/// Connect this terminal to a running container's
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  Ctrl-P Ctrl-Q leaves it running:\n    $ netloom attach web")]
pub struct AttachArgs {
    /// The keys that leave the container running
    #[arg(long, value_name = "KEYS", default_value = DEFAULT_DETACH_KEYS)]
    pub detach_keys: DetachKeys,
    /// Send no standard input
    #[arg(long)]
    pub no_stdin: bool,
    pub container: String,
}

/// List containers
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom ps -a\n  $ netloom ps --format '{{.name}}\\t{{.networks.bridge.ip_address}}'")]
pub struct PsArgs {
    /// Those that do not run, too
    #[arg(short, long)]
    pub all: bool,
    /// Those alone that match: name=TEXT, status=STATE, network=NAME or label=KEY[=VALUE] (repeat)
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = filter)]
    pub filters: Vec<Filter>,
    /// The N that were made last, running or not
    #[arg(short = 'n', long, value_name = "N", value_parser = containers)]
    pub last: Option<usize>,
    /// The one that was made last, running or not
    #[arg(short, long, conflicts_with = "last")]
    pub latest: bool,
    #[command(flatten)]
    pub list: ListArgs,
}

/// Print all there is to know about containers or networks
#[derive(Args, Debug)]
#[command(mut_arg("format", |arg| arg.short('f')), after_help = "EXAMPLES:\n  $ netloom inspect web\n  $ netloom inspect --format '{{.networks.bridge.ip_address}}' web")]
pub struct InspectArgs {
    #[command(flatten)]
    pub format: FormatArgs,
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
}

/// Print what a container wrote
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom logs web\n  $ netloom logs -f --tail 10 web\n  $ netloom logs -t --since 10m web")]
pub struct LogsArgs {
    /// Go on until the container ends
    #[arg(short, long)]
    pub follow: bool,
    /// The last N lines alone, or `all`
    #[arg(short = 'n', long, value_name = "N", value_parser = tail, default_value = "all", hide_default_value = true)]
    pub tail: Tail,
    /// What was written since a time (2026-01-31T12:00:00Z) or not longer ago than 10m
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub since: Option<Since>,
    /// Begin each line with its time
    #[arg(short, long)]
    pub timestamps: bool,
    pub container: String,
}

/// List the ports of a container that are published
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom port web\n  $ netloom port web 80/tcp")]
pub struct PortArgs {
    #[command(flatten)]
    pub format: FormatArgs,
    pub container: String,
    /// One port of the container: PORT[/tcp|udp]
    #[arg(value_parser = crate::words::publish::private_port)]
    pub port: Option<(u16, Option<netloom_runtime::spec::Protocol>)>,
}

/// Copy files between a container and this machine
///
/// A directory is copied with all that is in it; DIR/. copies what is in it without the directory itself.
/// With - a tar archive is written to stdout or read from stdin.
#[derive(Args, Debug)]
#[command(
    after_help = "EXAMPLES:\n  $ netloom cp web:/etc/hosts .\n  $ netloom cp ./site/. web:/srv/www\n  $ netloom cp web:/var/log - | tar t"
)]
pub struct CpArgs {
    #[arg(value_name = "FROM", value_parser = copy_path)]
    pub from: CopyPath,
    #[arg(value_name = "TO", value_parser = copy_path)]
    pub to: CopyPath,
}

/// Show what containers use, again every second
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom stats\n  $ netloom stats --no-stream --json web")]
pub struct StatsArgs {
    /// Print once
    #[arg(long)]
    pub no_stream: bool,
    #[command(flatten)]
    pub list: ListArgs,
    /// Containers; all that run if none is named
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
}

/// Change what a running container publishes
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom publish add web 8443:443\n  $ netloom publish rm web 8443:443")]
pub struct PublishArgs {
    #[command(subcommand)]
    pub command: PublishCommand,
}

#[derive(Debug, Subcommand)]
pub enum PublishCommand {
    /// Publish more ports, all of them or none, and print where they are reached
    #[command(after_help = "EXAMPLES:\n  $ netloom publish add web 8443:443\n  $ netloom publish add web 127.0.0.1::80")]
    Add(PublicationArgs),
    /// Take publications back; connections that exist live on
    ///
    /// A SPEC takes back all that it covers: without a host port those at every host port, without a HOST_IP those at every address.
    /// With a HOST_IP they are those that were published with it.
    #[command(after_help = "EXAMPLES:\n  $ netloom publish rm web 8443:443\n  $ netloom publish rm web 443")]
    Rm(PublicationArgs),
}

#[derive(Args, Debug)]
pub struct PublicationArgs {
    pub container: String,
    /// [HOST_IP:][HOST[-END]:]PORT[-END][/tcp|udp]
    #[arg(required = true, value_name = "SPEC")]
    pub specs: Vec<PublishSpec>,
}
