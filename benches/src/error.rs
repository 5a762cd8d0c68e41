//! What can go wrong between a benchmark and the programs it runs.

use std::{io, path::PathBuf};

/// A failed step, named by the command or the file it is about.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A program's answer lacks what it should say.
    #[error("{program} answered {answer:?}, which lacks {lacks}")]
    Answer { program: String, answer: String, lacks: &'static str },
    #[error("{command}: {said}")]
    Command { command: String, said: String },
    #[error("{what}")]
    Io { what: String, source: io::Error },
    #[error("frames are unaccounted for after {works}")]
    Books { works: String },
    #[error("{path} is of another machine ({other}) than those before it ({one})")]
    Machines { path: PathBuf, one: String, other: String },
    #[error("the result cannot be written to {path}")]
    Json { path: PathBuf, source: io::Error },
    #[error("{path} is missing: build it with `cargo build --release`, or name another with --netloom")]
    NetloomMissing { path: PathBuf },
    #[error("this must run as root: it makes network namespaces")]
    NotRoot,
    #[error("{what} was not ready within {seconds} s: {last}")]
    NotReady { what: String, seconds: u64, last: String },
    #[error("no {kind} is called {name:?}; there are: {known}")]
    Unknown { kind: &'static str, name: String, known: String },
}

pub type Result<T> = std::result::Result<T, BenchError>;

impl BenchError {
    /// For `map_err`: the operation in words, with its operating system error.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }

    /// The sentence with all its causes, for people.
    #[must_use]
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}
