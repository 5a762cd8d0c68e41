//! What a worker waits for, and how an event finds its way back.
//!
//! All is edge-triggered: a socket that its gateway will not read for now must not wake the worker again and again, and a busy port
//! costs epoll nothing, since it stays on the worker's own ready list until it is empty.
//!
//! An event carries a token, entry and generation. The generation changes when the entry is given up, so that an event which was
//! on its way when its descriptor was closed reaches nobody, whatever was opened since.

use std::{
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use netloom_switch::gateway::SocketId;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::{ListenerId, worker::Slot};
use crate::sys;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Inbox,
    /// A port's frames.
    Frames(Slot),
    /// A host socket of a port's gateway.
    Socket(Slot, SocketId),
    /// A TCP publication of a port.
    Listener(Slot, ListenerId),
}

/// One registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Token {
    entry: u32,
    generation: u32,
}

impl Token {
    const fn data(self) -> u64 {
        (self.generation as u64) << 32 | self.entry as u64
    }

    const fn from_data(data: u64) -> Self {
        Self { entry: data as u32, generation: (data >> 32) as u32 }
    }
}

#[derive(Debug, Default)]
struct Entry {
    generation: u32,
    source: Option<Source>,
}

/// An epoll set and what its events mean.
#[derive(Debug)]
pub(super) struct Sources {
    epoll: Epoll,
    entries: Vec<Entry>,
    free: Vec<u32>,
}

impl Sources {
    pub(super) fn new() -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        // Where the call is forbidden (a seccomp profile of old), nobody would wait and nobody would hear.
        sys::epoll::wait(epoll.0.as_fd(), &mut [EpollEvent::empty()], Some(Duration::ZERO))?;
        Ok(Self { epoll, entries: Vec::new(), free: Vec::new() })
    }

    /// Watches a descriptor. What is ready already is reported by the next wait.
    pub(super) fn add(&mut self, fd: BorrowedFd<'_>, source: Source, interest: EpollFlags) -> nix::Result<Token> {
        let token = self.reserve(source);
        let event = EpollEvent::new(interest | EpollFlags::EPOLLET, token.data());
        self.epoll.add(fd, event).inspect_err(|_| self.forget(token))?;
        Ok(token)
    }

    /// Stops watching a descriptor that others hold too: closing ours would leave it in the set.
    pub(super) fn remove(&mut self, token: Token, fd: BorrowedFd<'_>) {
        // It is in the set, or its file is gone and it left by itself.
        let _ = self.epoll.delete(fd);
        self.forget(token);
    }

    /// Forgets a descriptor that is about to be closed for good, and so leaves the set by itself.
    pub(super) fn forget(&mut self, token: Token) {
        if let Some(entry) = self.entries.get_mut(token.entry as usize).filter(|entry| entry.generation == token.generation) {
            entry.generation = entry.generation.wrapping_add(1);
            entry.source = None;
            self.free.push(token.entry);
        }
    }

    /// What a token stands for, if it still stands for anything.
    pub(super) fn get(&self, token: Token) -> Option<Source> {
        self.entries.get(token.entry as usize).filter(|entry| entry.generation == token.generation)?.source
    }

    /// Watches a descriptor for something else. What of that is ready already is reported by the next wait.
    pub(super) fn set_interest(&mut self, token: Token, fd: BorrowedFd<'_>, interest: EpollFlags) {
        // It is in the set, or its file is gone and it left by itself.
        let _ = self.epoll.modify(fd, &mut EpollEvent::new(interest | EpollFlags::EPOLLET, token.data()));
    }

    /// Waits, without a timeout for as long as it takes; an interrupted wait is an empty one.
    pub(super) fn wait(&self, events: &mut [EpollEvent], timeout: Option<Duration>) -> usize {
        sys::epoll::wait(self.epoll.0.as_fd(), events, timeout).unwrap_or(0)
    }

    pub(super) fn token(event: &EpollEvent) -> Token {
        Token::from_data(event.data())
    }

    fn reserve(&mut self, source: Source) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry::default());
            (self.entries.len() - 1) as u32
        });
        let generation = self.entries.get_mut(index as usize).map_or(0, |entry| {
            entry.source = Some(source);
            entry.generation
        });
        Token { entry: index, generation }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::sys::eventfd::EventFd;

    use super::*;

    #[test]
    fn an_event_of_a_closed_descriptor_never_reaches_its_successor() {
        let mut sources = Sources::new().unwrap();
        let first = EventFd::from_value(1).unwrap();
        let token = sources.add(first.as_fd(), Source::Socket(Slot(0), SocketId(7)), EpollFlags::EPOLLIN).unwrap();
        let mut events = [EpollEvent::empty(); 4];
        assert_eq!(sources.wait(&mut events, Some(Duration::ZERO)), 1);
        // While the event is on its way, the socket is closed and its number used again.
        sources.forget(token);
        drop(first);
        let second = EventFd::from_value(0).unwrap();
        let successor = sources.add(second.as_fd(), Source::Socket(Slot(0), SocketId(7)), EpollFlags::EPOLLIN).unwrap();
        assert_eq!(sources.get(Sources::token(&events[0])), None);
        assert_eq!(sources.get(successor), Some(Source::Socket(Slot(0), SocketId(7))));
        sources.forget(token);
        assert_eq!(sources.get(successor), Some(Source::Socket(Slot(0), SocketId(7))), "an old token closed a new source");
    }

    #[test]
    fn a_descriptor_that_others_hold_leaves_the_set() {
        let mut sources = Sources::new().unwrap();
        let bell = EventFd::from_value(0).unwrap();
        let copy = bell.as_fd().try_clone_to_owned().unwrap();
        let token = sources.add(copy.as_fd(), Source::Inbox, EpollFlags::EPOLLIN).unwrap();
        sources.remove(token, copy.as_fd());
        drop(copy);
        bell.write(1).unwrap();
        assert_eq!(sources.wait(&mut [EpollEvent::empty(); 4], Some(Duration::ZERO)), 0);
    }
}
