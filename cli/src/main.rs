//! `netloom`: containers on a network that lives in userspace.
//!
//! One binary, four processes: the command that a person types, and the daemon, the supervisors and the helpers that it starts.
//! The hidden words that make it one of the latter are looked for before anything else is done.
#![forbid(unsafe_code)]

mod api;
mod args;
mod client;
mod cmd;
mod daemon;
mod error;
mod output;
mod paths;
mod session;
mod words;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use args::help::{self, Instead};
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

/// The other processes: `[--root DIR] __WORD …`.
fn hidden(words: &[OsString]) -> Option<ExitCode> {
    let (root, word) = match words {
        [_, option, root, word, ..] if option == "--root" => (Some(PathBuf::from(root)), word),
        [_, word, ..] => (None, word),
        _ => return None,
    };
    match word.to_str()? {
        "__daemon" => Some(daemon::main(root.as_deref())),
        "__supervisor" => Some(netloom_runtime::supervisor::main()),
        "__helper" => Some(netloom_runtime::helper::main()),
        _ => None,
    }
}

/// What a person typed. Beside an error stands whether it is to be coloured.
fn command(words: Vec<OsString>) -> Result<u8, (CliError, bool)> {
    let stderr = || output::coloured(args::ColorWhen::Auto, &std::io::stderr());
    let cli = match help::parse(words) {
        Ok(cli) => cli,
        Err(Instead::Print(text)) => return output::print(&text).map(|()| 0).map_err(|error| (error, stderr())),
        Err(Instead::Help(text)) => {
            eprint!("{text}");
            return Ok(2);
        }
        Err(Instead::Wrong(error)) => return Err((error, stderr())),
    };
    let colour = output::coloured(cli.color, &std::io::stderr());
    let told = |error| (error, colour);
    let context = cmd::Context::new(&cli).map_err(told)?;
    cmd::dispatch(cli, &context).map_err(told)
}
