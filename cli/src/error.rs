//! What people see when something fails: what failed and why, and what to do about it.
//!
//! One type for the whole command line. It never holds a debug print, and it is at most three lines on stderr.

use std::{fmt, io};

use netloom_runtime::protocol::Failure;

use crate::{api::ErrorBody, output::aside};

/// Something failed; `exit_code` is what the process ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CliError {
    /// What failed and why: lower case, no full stop. Empty: there is nobody to tell (stdout is closed).
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    pub exit_code: u8,
}

impl CliError {
    /// Wrong usage: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, exit_code: 2 }
    }

    /// It did not work: exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, exit_code: 1 }
    }

    /// An operation on a named thing failed.
    pub fn io(what: impl fmt::Display, source: &io::Error) -> Self {
        Self::failed(format!("{what}: {}", io_reason(source)))
    }

    /// Each failure was told when it happened; only the exit code is left.
    pub const fn already_told() -> Self {
        Self { message: String::new(), hint: None, exit_code: 1 }
    }

    /// The reader of our output went away, which is no failure of ours.
    pub const fn stdout_closed() -> Self {
        Self { message: String::new(), hint: None, exit_code: 0 }
    }

    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Wrong usage without a better hint: where the right one stands.
    pub fn usage_hint(mut self, command: &str) -> Self {
        if self.exit_code == 2 && self.hint.is_none() {
            self.hint = Some(format!("see `{command}`"));
        }
        self
    }

    /// As `run`, `create` and `exec` end: 125 is netloom's own failure, so that 1 and 2 are the command's.
    pub fn of_run(mut self) -> Self {
        self = self.usage_hint("netloom run --help");
        if matches!(self.exit_code, 1 | 2) {
            self.exit_code = 125;
        }
        self
    }

    /// Writes the error to stderr, coloured if that is wanted.
    pub fn report(&self, colour: bool) {
        if self.message.is_empty() {
            return;
        }
        let (red, cyan, reset) = if colour { ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m") } else { ("", "", "") };
        aside(format_args!("{red}error:{reset} {}\n", self.message));
        if let Some(hint) = &self.hint {
            aside(format_args!("{cyan}hint:{reset} {hint}\n"));
        }
    }
}

impl From<ErrorBody> for CliError {
    fn from(body: ErrorBody) -> Self {
        let message = if body.error.is_empty() { "the daemon refused without a reason".to_owned() } else { body.error };
        Self { message, hint: body.hint, exit_code: body.exit_code.max(1) }
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        Self { message: failure.message, hint: failure.hint, exit_code: u8::try_from(failure.code).unwrap_or(125).max(1) }
    }
}

/// The kernel's words without Rust's "(os error 2)", in lower case.
pub fn io_reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_keeps_125_to_127_and_turns_its_own_failures_into_125() {
        for (code, expected) in [(0, 0), (1, 125), (2, 125), (125, 125), (126, 126), (127, 127)] {
            let error = CliError { message: "x".into(), hint: None, exit_code: code };
            assert_eq!(error.of_run().exit_code, expected, "from {code}");
        }
    }

    #[test]
    fn a_kernel_error_reads_as_words() {
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(CliError::io("cannot open `x`", &error).message, "cannot open `x`: no such file or directory");
    }

    #[test]
    fn an_answer_without_an_exit_code_is_still_a_failure() {
        assert_eq!(CliError::from(ErrorBody::default()).exit_code, 1);
    }
}
