//! What goes wrong while a container is made, with the object it is about; people get it as a [`Failure`].

use std::{fmt::Display, io};

use crate::protocol::Failure;

/// The code that `run` and `exec` end with when the failure is netloom's own.
pub(crate) const OWN_FAILURE: i32 = 125;

/// Why a step towards a running process failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The system refused; `what` was being done.
    #[error("cannot {what}: {source}")]
    System { what: String, source: io::Error, hint: Option<String> },
    /// What was asked for cannot be had.
    #[error("{message}")]
    Refused { message: String, hint: Option<String> },
    /// The command itself, with the code that stands for it: 126 or 127.
    #[error("{message}")]
    Command { message: String, hint: Option<String>, code: i32 },
}

pub(crate) type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    pub(crate) fn refused(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), hint: Some(hint.into()) }
    }

    pub(crate) fn system(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System { what: what.into(), source: source.into(), hint: None }
    }

    /// The error number of a refused system call; 0 for the rest.
    pub(crate) fn errno(&self) -> i32 {
        match self {
            Self::System { source, .. } => source.raw_os_error().unwrap_or(0),
            _ => 0,
        }
    }

    /// Adds what to do about it.
    pub(crate) fn with_hint(mut self, text: impl Into<String>) -> Self {
        let (Self::System { hint, .. } | Self::Refused { hint, .. } | Self::Command { hint, .. }) = &mut self;
        *hint = Some(text.into());
        self
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let message = fault.to_string();
        match fault {
            Fault::System { hint, .. } | Fault::Refused { hint, .. } => Self { message, hint, code: OWN_FAILURE },
            Fault::Command { hint, code, .. } => Self { message, hint, code },
        }
    }
}

/// Names what was being done when an error came back.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl Display) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl Display) -> Result<T> {
        self.map_err(|error| Fault::system(what.to_string(), error))
    }
}
