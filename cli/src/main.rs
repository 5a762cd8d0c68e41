//! `netloom`: containers on a network that lives in userspace.
#![forbid(unsafe_code)]

mod api;
mod daemon;
mod paths;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    match (words.next(), words.next(), words.next()) {
        (Some(option), Some(root), Some(command)) if option == "--root" && command == "__daemon" => daemon::main(root.as_ref()),
        _ => ExitCode::from(2),
    }
}
