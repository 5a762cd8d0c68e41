//! `netloom`: containers on a network that lives in userspace.
//!
//! One binary, six processes: the command that a person types, and the daemon, the supervisors, the holders, the helpers and the sweeps
//! that it starts.
//! The hidden words that make it one of the latter are looked for before anything else is done.
#![forbid(unsafe_code)]

pub mod api;
pub mod args;
pub mod client;
pub mod cmd;
pub mod daemon;
pub mod error;
pub mod output;
pub mod paths;
pub mod session;
pub mod words;

use std::{ffi::OsString, io, path::Path, process::ExitCode};

use netloom_runtime::{cgroup::ledger, helper, holder, supervisor};

use args::help::{Instead, parse};
use error::CliError;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = hidden(&words) {
        return code;
    }
    match command(words) {
        Ok(code) => ExitCode::from(code),
        Err((error, colour)) => {
            error.report(colour);
            ExitCode::from(error.exit_code)
        }
    }
}

/// The other processes: `__supervisor ROOT ID`, `__holder ROOT`, `__helper`, `__sweep`, `--root DIR __daemon`.
fn hidden(words: &[OsString]) -> Option<ExitCode> {
    match words {
        [_, word, rest @ ..] if word == supervisor::ARGUMENT => Some(supervisor::main(rest.iter().cloned(), start_daemon)),
        [_, word, rest @ ..] if word == holder::ARGUMENT => Some(holder::main(rest.iter().cloned(), start_daemon)),
        [_, word, ..] if word == helper::ARGUMENT => Some(helper::main()),
        [_, word] if word == ledger::ARGUMENT => Some(ledger::main()),
        [_, option, root, word, ..] if option == "--root" && word == "__daemon" => Some(daemon::main(Path::new(root))),
        _ => None,
    }
}

/// How a supervisor that finds no daemon gets one.
fn start_daemon(root: &Path) -> io::Result<()> {
    daemon::ensure(root, None).map_err(io::Error::other)
}

/// What a person typed. Beside an error stands whether it is to be coloured.
fn command(words: Vec<OsString>) -> Result<u8, (CliError, bool)> {
    let stderr = || output::coloured(args::ColorWhen::Auto, &io::stderr());
    let cli = match parse(words) {
        Ok(cli) => cli,
        Err(Instead::Print(text)) => return output::print(&text).map(|()| 0).map_err(|error| (error, stderr())),
        Err(Instead::Help(text)) => {
            output::aside(text);
            return Ok(2);
        }
        Err(Instead::Wrong(error)) => return Err((error, stderr())),
    };
    let colour = output::coloured(cli.color, &io::stderr());
    let told = |error: CliError| (error.usage_hint("netloom --help"), colour);
    let context = cmd::Context::new(&cli).map_err(told)?;
    cmd::dispatch(cli, &context).map_err(told)
}
