//! The streams of a command: pipes or a terminal on one side, the log and sessions on the other.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl, open},
    sys::stat::Mode,
    unistd::{pipe2, read, write},
};

use super::poll::{Interest, Poll, Token};
use crate::{
    fault::{Doing, Result},
    process::Stdio,
    protocol::{FrameKind, WindowSize},
    sys,
};

/// Above this, input is no longer taken from sessions.
const INPUT_MAX: usize = 256 * 1024;

/// The supervisor's side of one command's streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// The master of the terminal; input and output both.
    terminal: Option<OwnedFd>,
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    error: Option<OwnedFd>,
    /// Input that the command has not taken.
    pending: VecDeque<u8>,
    /// No more input comes.
    input_ended: bool,
    /// The command runs and its sessions know: output before that waits.
    pub(crate) flowing: bool,
    /// Output goes to the container's log too.
    pub(crate) logged: bool,
    pub(crate) sessions: Vec<u32>,
    /// The command has ended with this code.
    pub(crate) code: Option<i32>,
}

/// What was read from a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    Bytes(Vec<u8>),
    Nothing,
    End,
}

impl Streams {
    /// Pipes, and their other ends for the command. Without `interactive` its input is /dev/null.
    pub(crate) fn pipes(interactive: bool) -> Result<(Self, Stdio)> {
        let pipe = || pipe2(OFlag::O_CLOEXEC).doing("make a pipe");
        let (output, output_end) = pipe()?;
        let (error, error_end) = pipe()?;
        let (input_end, input) = if interactive {
            let (end, input) = pipe()?;
            (end, Some(input))
        } else {
            (open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).doing("open /dev/null")?, None)
        };
        for fd in [Some(&output), Some(&error), input.as_ref()].into_iter().flatten() {
            set_nonblocking(fd)?;
        }
        let ours = Self { input, output: Some(output), error: Some(error), ..Self::default() };
        Ok((ours, Stdio { input: input_end, output: output_end, error: error_end }))
    }

    /// Streams whose terminal comes from the helper.
    pub(crate) fn set_terminal(&mut self, master: OwnedFd, size: Option<WindowSize>) -> Result<()> {
        set_nonblocking(&master)?;
        self.terminal = Some(master);
        if let Some(size) = size {
            self.resize(size);
        }
        Ok(())
    }

    pub(crate) fn resize(&self, size: WindowSize) {
        if let Some(terminal) = &self.terminal {
            // A terminal that is gone needs no size.
            let _ = sys::process::set_window_size(terminal.as_fd(), size.rows, size.cols);
        }
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// Waits for what should be waited for. `paused`: a session is behind.
    pub(crate) fn watch(&self, poll: &Poll, number: u32, paused: bool) {
        let read = !paused;
        let write = !self.pending.is_empty();
        if let Some(terminal) = &self.terminal {
            poll.set(terminal, Token::Output(number), Interest { read, write });
        }
        if let Some(output) = &self.output {
            poll.set(output, Token::Output(number), Interest { read, write: false });
        }
        if let Some(error) = &self.error {
            poll.set(error, Token::Error(number), Interest { read, write: false });
        }
        if let Some(input) = &self.input {
            poll.set(input, Token::Input(number), if write { Interest::WRITE } else { Interest { read: false, write: false } });
        }
    }

    /// Reads some of what the command wrote; an end closes the stream.
    pub(crate) fn read(&mut self, kind: FrameKind) -> Chunk {
        let slot = match kind {
            FrameKind::Stderr => &mut self.error,
            _ if self.terminal.is_some() => &mut self.terminal,
            _ => &mut self.output,
        };
        let Some(fd) = slot else { return Chunk::End };
        let mut bytes = vec![0; 32 * 1024];
        match read(&*fd, &mut bytes) {
            Ok(0) => {}
            Ok(len) => {
                bytes.truncate(len);
                return Chunk::Bytes(bytes);
            }
            Err(Errno::EAGAIN | Errno::EINTR) => return Chunk::Nothing,
            // EIO: nobody has the terminal open any more.
            Err(_) => {}
        }
        *slot = None;
        Chunk::End
    }

    /// Takes input for the command.
    pub(crate) fn push_input(&mut self, bytes: &[u8]) {
        if self.input.is_some() || self.terminal.is_some() {
            self.pending.extend(bytes);
            self.flush_input();
        }
    }

    /// No more input comes: the command sees its end once it has read what there is. A terminal has no end.
    pub(crate) fn end_input(&mut self) {
        self.input_ended = true;
        self.flush_input();
    }

    /// Gives the command as much input as it takes.
    pub(crate) fn flush_input(&mut self) {
        let slot = if self.terminal.is_some() { &mut self.terminal } else { &mut self.input };
        while let (Some(fd), false) = (slot.as_ref(), self.pending.is_empty()) {
            let (first, _) = self.pending.as_slices();
            match write(fd, first) {
                Ok(len) => drop(self.pending.drain(..len)),
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                // It reads no more.
                Err(_) => {
                    self.pending.clear();
                    self.input = None;
                    return;
                }
            }
        }
        if self.input_ended {
            self.input = None;
        }
    }

    /// Whether sessions may send more input.
    pub(crate) fn takes_input(&self) -> bool {
        self.pending.len() < INPUT_MAX
    }
}

fn set_nonblocking(fd: &OwnedFd) -> Result<()> {
    let flags = fcntl(fd, FcntlArg::F_GETFL).doing("set up a stream")?;
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
    fcntl(fd, FcntlArg::F_SETFL(flags)).map(drop).doing("set up a stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_reaches_the_command_and_then_ends() {
        let (mut ours, theirs) = Streams::pipes(true).unwrap();
        let big = vec![b'x'; 200 * 1024];
        ours.push_input(&big);
        assert!(!ours.pending.is_empty());
        ours.end_input();
        let (mut got, mut bytes) = (0, vec![0; 64 * 1024]);
        loop {
            ours.flush_input();
            match read(&theirs.input, &mut bytes).unwrap() {
                0 => break,
                len => got += len,
            }
        }
        assert_eq!(got, big.len());
    }

    #[test]
    fn output_ends_when_the_command_is_gone() {
        let (mut ours, theirs) = Streams::pipes(false).unwrap();
        write(&theirs.output, b"hello").unwrap();
        assert_eq!(ours.read(FrameKind::Stdout), Chunk::Bytes(b"hello".to_vec()));
        assert_eq!(ours.read(FrameKind::Stdout), Chunk::Nothing);
        drop(theirs);
        assert_eq!(ours.read(FrameKind::Stdout), Chunk::End);
        assert_eq!(ours.read(FrameKind::Stderr), Chunk::End);
    }
}
