//! The descriptors that a supervisor waits for, each under a token that says what it is.

use std::{os::fd::AsFd, time::Duration};

use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};

/// What a descriptor is; the number is that of its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Daemon,
    /// The instance's directory changed: a daemon may be there again.
    Directory,
    Signals,
    Sessions,
    Session(u32),
    Report(u32),
    /// Standard output or the terminal of streams N.
    Output(u32),
    /// Standard error of streams N.
    Error(u32),
    /// Standard input of streams N can take more.
    Input(u32),
    /// The command that waits for a holder.
    Starter,
    /// Whose end is that of a holder: the target's process, or names on the way to its namespace.
    Target,
    /// The descriptor of `--exit-fd`.
    Exit,
}

impl Token {
    fn to_bits(self) -> u64 {
        let (kind, number) = match self {
            Self::Daemon => (0, 0),
            Self::Directory => (1, 0),
            Self::Signals => (2, 0),
            Self::Sessions => (3, 0),
            Self::Session(number) => (4, number),
            Self::Report(number) => (5, number),
            Self::Output(number) => (6, number),
            Self::Error(number) => (7, number),
            Self::Input(number) => (8, number),
            Self::Starter => (9, 0),
            Self::Target => (10, 0),
            Self::Exit => (11, 0),
        };
        kind << 32 | u64::from(number)
    }

    fn from_bits(bits: u64) -> Option<Self> {
        let number = (bits & u64::from(u32::MAX)) as u32;
        Some(match bits >> 32 {
            0 => Self::Daemon,
            1 => Self::Directory,
            2 => Self::Signals,
            3 => Self::Sessions,
            4 => Self::Session(number),
            5 => Self::Report(number),
            6 => Self::Output(number),
            7 => Self::Error(number),
            8 => Self::Input(number),
            9 => Self::Starter,
            10 => Self::Target,
            11 => Self::Exit,
            _ => return None,
        })
    }
}

/// What to wait for on a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Interest {
    pub(crate) const READ: Self = Self { read: true, write: false };
    pub(crate) const NONE: Self = Self { read: false, write: false };
    pub(crate) const WRITE: Self = Self { read: false, write: true };
}

/// What is ready; an end or an error counts as both.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) token: Token,
    pub(crate) read: bool,
    pub(crate) write: bool,
}

#[derive(Debug)]
pub(crate) struct Poll(Epoll);

impl Poll {
    pub(crate) fn new() -> nix::Result<Self> {
        Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map(Self)
    }

    /// Waits for `interest` on a descriptor from now on, whatever was waited for before; for nothing at all: not even its end.
    pub(crate) fn set(&self, fd: impl AsFd, token: Token, interest: Interest) {
        if interest == Interest::NONE {
            let _ = self.0.delete(fd);
            return;
        }
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP, interest.read);
        flags.set(EpollFlags::EPOLLOUT, interest.write);
        let mut event = EpollEvent::new(flags, token.to_bits());
        if self.0.modify(&fd, &mut event) == Err(Errno::ENOENT) {
            // Neither can fail for a live descriptor but for lack of memory, which the allocator meets first.
            let _ = self.0.add(fd, event);
        }
    }

    /// Waits for nothing but the end of what is at the other side of a descriptor, or an error.
    ///
    /// Errors: EPERM for what has no other side, such as a file.
    pub(crate) fn watch_end(&self, fd: impl AsFd, token: Token) -> nix::Result<()> {
        self.0.add(fd, EpollEvent::new(EpollFlags::empty(), token.to_bits()))
    }

    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Vec<Ready> {
        let mut events = [EpollEvent::empty(); 32];
        let timeout = timeout.map_or(EpollTimeout::NONE, |timeout| {
            let millis = timeout.as_micros().div_ceil(1000).min(60_000) as u16;
            EpollTimeout::from(millis)
        });
        let count = self.0.wait(&mut events, timeout).unwrap_or(0);
        let ready = |event: &EpollEvent| {
            let ended = event.events().intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
            let read = ended || event.events().intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP);
            let write = ended || event.events().contains(EpollFlags::EPOLLOUT);
            Token::from_bits(event.data()).map(|token| Ready { token, read, write })
        };
        events.iter().take(count).filter_map(ready).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        for token in [Token::Daemon, Token::Session(7), Token::Input(u32::MAX), Token::Error(0), Token::Exit, Token::Target, Token::Starter]
        {
            assert_eq!(Token::from_bits(token.to_bits()), Some(token));
        }
        assert_eq!(Token::from_bits(u64::MAX), None);
    }
}
