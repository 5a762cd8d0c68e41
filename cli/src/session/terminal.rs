//! The caller's terminal: its size, and raw mode with the way back.

use std::{io::IsTerminal, os::fd::AsFd};

use netloom_runtime::protocol::WindowSize;
use nix::sys::termios::{LocalFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::error::CliError;

/// Whether standard input is a terminal.
pub fn stdin_is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// The size of the terminal that is standard input, or else standard output.
pub fn window_size() -> Option<WindowSize> {
    let size = terminal_size::terminal_size_of(std::io::stdin()).or_else(|| terminal_size::terminal_size_of(std::io::stdout()));
    size.map(|(terminal_size::Width(cols), terminal_size::Height(rows))| WindowSize { rows, cols })
}

/// Standard input in raw mode, until this is dropped: also on the way out of a panic.
#[derive(Debug)]
pub struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// `keys`: as [`RawTerminal::apply`] has it.
    pub fn enter(keys: bool) -> Result<Self, CliError> {
        let stdin = std::io::stdin();
        let before = tcgetattr(stdin.as_fd()).map_err(|error| CliError::io("cannot read the terminal's mode", &error.into()))?;
        let terminal = Self { before };
        terminal.apply(keys)?;
        Ok(terminal)
    }

    /// Sets raw mode, also again: a shell that stopped and continued us set its own. `keys`: Ctrl-C and the like are still signals,
    /// as long as there is no process to read them.
    pub fn apply(&self, keys: bool) -> Result<(), CliError> {
        let mut raw = self.before.clone();
        cfmakeraw(&mut raw);
        raw.local_flags.set(LocalFlags::ISIG, keys);
        tcsetattr(std::io::stdin().as_fd(), SetArg::TCSANOW, &raw)
            .map_err(|error| CliError::io("cannot set the terminal to raw mode", &error.into()))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // Nobody is left to tell: the terminal is gone if this fails.
        let _ = tcsetattr(std::io::stdin().as_fd(), SetArg::TCSADRAIN, &self.before);
    }
}
