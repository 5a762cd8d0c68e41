//! The connection to the daemon, which may come and go.
//!
//! ```text
//!   connected ──end──▶ gone ──a daemon's socket appears──▶ connected: Hello
//!                       └─ something runs here: start a daemon, with a growing delay
//! ```

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::poll::{Interest, Poll, Token};
use crate::{
    channel::{Channel, ChannelError},
    descriptors,
    process::keep_only,
    protocol::{ToDaemon, ToSupervisor},
    sys::process,
};

/// The daemon's socket for supervisors, in the instance's root.
pub const SOCKET: &str = "supervisor.sock";

const FIRST_DELAY: Duration = Duration::from_millis(20);
const LAST_DELAY: Duration = Duration::from_secs(5);

/// Starts a daemon for the instance at a root; returns once it has been started, or is being started by somebody.
pub type DaemonStarter = fn(&Path) -> io::Result<()>;

#[derive(Debug)]
pub(crate) struct Link {
    root: PathBuf,
    start: DaemonStarter,
    channel: Option<Channel>,
    /// The daemon has answered our Hello.
    pub(crate) welcome: bool,
    out: VecDeque<(ToDaemon, Vec<OwnedFd>)>,
    directory: Option<Inotify>,
    delay: Duration,
    try_at: Option<Instant>,
}

impl Link {
    pub(crate) fn new(root: &Path, start: DaemonStarter) -> Self {
        let root = root.to_owned();
        Self { root, start, channel: None, welcome: false, out: VecDeque::new(), directory: None, delay: FIRST_DELAY, try_at: None }
    }

    /// Tries to connect; on success a Hello is due.
    pub(crate) fn connect(&mut self, poll: &Poll) -> bool {
        let open = || -> Result<Channel, ChannelError> {
            let channel = Channel::connect(&self.root.join(SOCKET))?;
            channel.set_nonblocking(true)?;
            Ok(channel)
        };
        let Ok(channel) = open() else { return false };
        poll.set(&channel, Token::Daemon, Interest::READ);
        self.channel = Some(channel);
        (self.delay, self.try_at, self.directory) = (FIRST_DELAY, None, None);
        true
    }

    /// The daemon is gone. What was meant for it is told anew by the next Hello.
    pub(crate) fn lose(&mut self, poll: &Poll) {
        self.channel = None;
        self.welcome = false;
        self.out.clear();
        self.try_at = Some(Instant::now() + self.delay);
        self.watch(poll);
    }

    /// Looks out for the next daemon's socket. Where that cannot be, the timer alone finds it.
    fn watch(&mut self, poll: &Poll) {
        let watch = || -> nix::Result<Inotify> {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            inotify.add_watch(&self.root, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO)?;
            Ok(inotify)
        };
        if self.directory.is_none() {
            self.directory = watch().ok();
        }
        if let Some(directory) = &self.directory {
            poll.set(directory, Token::Directory, Interest::READ);
        }
    }

    /// When to try again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.try_at
    }

    /// The time to try again has come. `needed`: something runs here, so there must be a daemon.
    pub(crate) fn retry(&mut self, poll: &Poll, needed: bool) -> bool {
        if self.connect(poll) {
            return true;
        }
        self.watch(poll);
        if needed {
            self.start_daemon();
        }
        self.delay = (self.delay * 2).min(LAST_DELAY);
        // Who needs no daemon waits for a new socket in the directory, if it can.
        self.try_at = (needed || self.directory.is_none()).then(|| Instant::now() + self.delay);
        false
    }

    /// In a process of its own, since it may take long and sessions must go on. A failure shows in the next attempt to connect.
    fn start_daemon(&self) {
        if let Ok(None) = process::fork() {
            // A session that ends meanwhile must end for its caller too.
            keep_only(&[]);
            descriptors::restore();
            let code = (self.start)(&self.root).map_or(1, |()| 0);
            process::exit(code);
        }
    }

    /// The directory changed: is there a daemon? Until one listens on its new socket, a timer looks again.
    pub(crate) fn directory_changed(&mut self, poll: &Poll) -> bool {
        let ours = |event: &nix::sys::inotify::InotifyEvent| event.name.as_ref().is_some_and(|name| name == SOCKET);
        let events = self.directory.as_ref().and_then(|directory| directory.read_events().ok()).unwrap_or_default();
        if !events.iter().any(ours) {
            return false;
        }
        let connected = self.connect(poll);
        if !connected {
            (self.delay, self.try_at) = (FIRST_DELAY, Some(Instant::now() + FIRST_DELAY));
        }
        connected
    }

    /// Something runs here again: a daemon is wanted now.
    pub(crate) fn want(&mut self) {
        if self.channel.is_none() {
            self.try_at = Some(Instant::now());
        }
    }

    /// Tells the daemon, now or as soon as its socket takes it; who is not there is told nothing. Errors are those of
    /// [`Link::flush`].
    pub(crate) fn send(&mut self, poll: &Poll, message: ToDaemon, fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        if self.channel.is_none() {
            return Ok(());
        }
        let copies: io::Result<_> = fds.iter().map(BorrowedFd::try_clone_to_owned).collect();
        let copies = copies.map_err(|source| ChannelError::Io { what: "copy descriptors for", source })?;
        self.out.push_back((message, copies));
        self.flush(poll)
    }

    /// Sends what waits. A connection that is over is found out by reading; an error is about a message that will never be sent,
    /// so no answer to it will come.
    pub(crate) fn flush(&mut self, poll: &Poll) -> Result<(), ChannelError> {
        let Some(channel) = &self.channel else { return Ok(()) };
        let mut unsent = Ok(());
        while let Some((message, fds)) = self.out.front() {
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            match channel.send(message, &fds) {
                Err(error) if error.would_block() => break,
                Err(error) => {
                    self.out.pop_front();
                    if !error.is_gone() {
                        unsent = Err(error);
                    }
                }
                Ok(()) => drop(self.out.pop_front()),
            }
        }
        poll.set(channel, Token::Daemon, Interest { read: true, write: !self.out.is_empty() });
        unsent
    }

    /// The next message; `Err` when the connection is over.
    pub(crate) fn receive(&mut self) -> Result<Option<(ToSupervisor, Vec<OwnedFd>)>, ()> {
        let Some(channel) = &self.channel else { return Ok(None) };
        match channel.receive() {
            Ok(Some(message)) => Ok(Some(message)),
            Err(error) if error.would_block() => Ok(None),
            Ok(None)
            | Err(ChannelError::Io { .. } | ChannelError::Malformed { .. } | ChannelError::Unfinished | ChannelError::TooLong(_)) => {
                Err(())
            }
        }
    }

    /// Waits until what was said is on its way.
    pub(crate) fn drain(&mut self, poll: &Poll) {
        if let Some(channel) = &self.channel {
            let _ = channel.set_nonblocking(false);
        }
        // Nobody is left who could act on what is not sent.
        let _ = self.flush(poll);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_cannot_be_sent_is_told_and_the_next_one_goes() {
        let (ours, theirs) = Channel::pair().unwrap();
        let poll = Poll::new().unwrap();
        let mut link = Link::new(Path::new("/"), |_| Ok(()));
        link.channel = Some(ours);
        let long =
            ToDaemon::Exited { code: 1, error: Some("x".repeat(crate::channel::MESSAGE_MAX)), will_restart: false, oom_killed: false };
        assert!(matches!(link.send(&poll, long, &[]), Err(ChannelError::TooLong(_))));
        link.send(&poll, ToDaemon::Prepare, &[]).unwrap();
        assert!(matches!(theirs.receive().unwrap(), Some((ToDaemon::Prepare, _))));
        drop(theirs);
        link.send(&poll, ToDaemon::Prepare, &[]).unwrap();
    }
}
