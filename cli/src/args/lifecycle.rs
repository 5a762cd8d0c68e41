//! A container's life: `start stop restart kill pause unpause rm wait rename`.

use clap::Args;

use crate::{
    session::{DEFAULT_DETACH_KEYS, DetachKeys},
    words::{container::signal, network::name, quantity::seconds},
};

/// Start containers that do not run
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom start web db\n  $ netloom start -ai shell")]
pub struct StartArgs {
    /// Connect to its output, and end with its exit code
    #[arg(short, long)]
    pub attach: bool,
    /// Connect this standard input too
    #[arg(short, long)]
    pub interactive: bool,
    /// The keys that leave the container running
    #[arg(long, value_name = "KEYS", default_value = DEFAULT_DETACH_KEYS)]
    pub detach_keys: DetachKeys,
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// Stop containers and start them again
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom restart web")]
pub struct RestartArgs {
    /// Seconds between SIGTERM and SIGKILL
    #[arg(short, long, value_name = "S", value_parser = seconds, default_value = "10")]
    pub time: u32,
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// Stop containers: SIGTERM, and SIGKILL if that does not help
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom stop web db\n  $ netloom stop -t 0 web")]
pub struct StopArgs {
    /// Seconds between SIGTERM and SIGKILL
    #[arg(short, long, value_name = "S", value_parser = seconds, default_value = "10")]
    pub time: u32,
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// Send a signal to containers
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom kill web\n  $ netloom kill -s HUP web")]
pub struct KillArgs {
    /// The signal, by name or number
    #[arg(short, long, value_name = "SIG", value_parser = signal, default_value = "KILL")]
    pub signal: i32,
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// Halt every process of containers
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom pause web")]
pub struct PauseArgs {
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// Let halted containers go on
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom unpause web")]
pub struct UnpauseArgs {
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// Remove containers and what they wrote
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom rm web\n  $ netloom rm -f $(netloom ps -aq)")]
pub struct RmArgs {
    /// Those that run, too: they are killed
    #[arg(short, long)]
    pub force: bool,
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// Wait until containers end, then print their exit codes
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom wait job")]
pub struct WaitArgs {
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// Give a container another name
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom rename serene_hopper web")]
pub struct RenameArgs {
    pub container: String,
    /// Its new name
    #[arg(value_parser = name)]
    pub name: String,
}
