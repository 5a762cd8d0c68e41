//! netloom itself: `system version completions man`.

use std::{
    io::{IsTerminal, Write},
    path::Path,
};

use super::Context;
use crate::{
    api::Pruned,
    args::{
        help,
        look::{SystemCommand, VersionArgs},
    },
    error::CliError,
    output::{self, Format, rows::Versions},
};

pub fn system(command: &SystemCommand, context: &Context) -> Result<(), CliError> {
    let SystemCommand::Prune { force } = command;
    if !force && std::io::stdin().is_terminal() && !confirmed()? {
        return Err(CliError::failed("nothing was removed"));
    }
    let pruned: Pruned = context.client.post("/v1/prune", &())?;
    output::lines(pruned.containers.iter().chain(&pruned.networks))
}

/// Asks the person at the terminal; a script is not asked.
fn confirmed() -> Result<bool, CliError> {
    let mut stderr = std::io::stderr();
    let asked = stderr.write_all(b"Remove every container that does not run and every network that no container is on? [y/N] ");
    asked.map_err(|error| CliError::io("cannot ask", &error))?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|error| CliError::io("cannot read the answer", &error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

pub fn version(args: &VersionArgs, context: &Context) -> Result<(), CliError> {
    let format = Format::of::<Versions>(&args.format)?;
    let versions = Versions {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol_version: netloom_runtime::protocol::VERSION,
        daemon: context.client.get_if_running("/v1/version")?,
    };
    if format != Format::Table {
        return output::one(&versions, &format);
    }
    let daemon = match &versions.daemon {
        Some(daemon) => format!("{}, process {} since {}", daemon.version, daemon.pid, daemon.started),
        None => "not running".into(),
    };
    output::lines([format!("netloom {}", versions.version), format!("daemon {daemon}")])
}

pub fn completions(shell: clap_complete::Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut help::command(), "netloom", &mut script);
    output::bytes(&script)
}

/// One page for each command, and for those below it.
pub fn man(directory: &Path) -> Result<(), CliError> {
    let failed = |error| CliError::io(format!("cannot write man pages into `{}`", directory.display()), &error);
    std::fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(help::command(), directory).map_err(failed)
}
