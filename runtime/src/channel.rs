//! Messages between the daemon and a supervisor: JSON with descriptors beside it, over a SOCK_SEQPACKET unix socket.
//!
//! One message is one packet, so there is no framing and a reader never sees half of one. It never waits by itself: whether a
//! call blocks is the socket's own setting, which both ends choose for themselves.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
};
use serde::{Serialize, de::DeserializeOwned};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::{socket_path::SocketPath, sys::rights};

/// The longest message in bytes; a message of a container with hundreds of publications has about half of it.
pub const MESSAGE_MAX: usize = 128 * 1024;

/// How many supervisors may wait to be accepted, as when a daemon comes back to hundreds of them.
const BACKLOG: i32 = 1024;

/// Why a message did not get through.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    #[error("cannot {what} the channel: {source}")]
    Io { what: &'static str, source: io::Error },
    /// The other side speaks another language; the connection is of no use any more.
    #[error("a message that cannot be read: {source}")]
    Malformed { source: serde_json::Error },
    #[error("a message of {0} bytes is longer than {MESSAGE_MAX}")]
    TooLong(usize),
}

impl ChannelError {
    /// Whether a non-blocking channel merely had nothing to do.
    pub fn would_block(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
    }
}

/// One end of a connection.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Connects to the listener at `path`; blocking.
    pub fn connect(path: &Path) -> Result<Self, ChannelError> {
        let open = || {
            let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
            socket.connect(&SockAddr::unix(SocketPath::new(path)?)?)?;
            Ok(socket)
        };
        open().map(|socket| Self(socket.into())).map_err(|source| ChannelError::Io { what: "connect", source })
    }

    /// Two connected ends, both blocking.
    pub fn pair() -> Result<(Self, Self), ChannelError> {
        let pair = Socket::pair(Domain::UNIX, Type::SEQPACKET, None);
        let (a, b) = pair.map_err(|source| ChannelError::Io { what: "make", source })?;
        Ok((Self(a.into()), Self(b.into())))
    }

    pub fn set_nonblocking(&self, nonblocking: bool) -> Result<(), ChannelError> {
        let flags = fcntl(&self.0, FcntlArg::F_GETFL).map(OFlag::from_bits_retain).map_err(io_error("set up"))?;
        let flags = if nonblocking { flags | OFlag::O_NONBLOCK } else { flags - OFlag::O_NONBLOCK };
        fcntl(&self.0, FcntlArg::F_SETFL(flags)).map(drop).map_err(io_error("set up"))
    }

    /// How long a blocking receive waits before it fails as one that would block; `None`: without end.
    pub fn set_receive_timeout(&self, timeout: Option<Duration>) -> Result<(), ChannelError> {
        socket2::SockRef::from(&self.0).set_read_timeout(timeout).map_err(|source| ChannelError::Io { what: "set up", source })
    }

    /// Sends one message with copies of `fds`, which stay the caller's.
    pub fn send<M: Serialize>(&self, message: &M, fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let bytes = serde_json::to_vec(message).map_err(|source| ChannelError::Malformed { source })?;
        if bytes.len() > MESSAGE_MAX {
            return Err(ChannelError::TooLong(bytes.len()));
        }
        retry(|| rights::send(self.0.as_fd(), &bytes, fds)).map(drop).map_err(io_error("write to"))
    }

    /// Receives one message and its descriptors, close-on-exec; `None` once the other side has gone.
    pub fn receive<M: DeserializeOwned>(&self) -> Result<Option<(M, Vec<OwnedFd>)>, ChannelError> {
        let mut bytes = vec![0; MESSAGE_MAX];
        let (len, fds) = match retry(|| rights::receive(self.0.as_fd(), &mut bytes)) {
            Ok((0, _)) | Err(Errno::ECONNRESET) => return Ok(None),
            other => other.map_err(io_error("read from"))?,
        };
        let message = bytes.get(..len).unwrap_or_default();
        serde_json::from_slice(message).map(|message| Some((message, fds))).map_err(|source| ChannelError::Malformed { source })
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::os::fd::AsRawFd for Channel {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.0)
    }
}

/// Where supervisors knock; non-blocking.
#[derive(Debug)]
pub struct Listener(Socket);

impl Listener {
    /// Listens at `path`, where nothing may be yet.
    pub fn bind(path: &Path) -> Result<Self, ChannelError> {
        let open = || {
            let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
            socket.bind(&SockAddr::unix(SocketPath::new(path)?)?)?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        open().map(Self).map_err(|source| ChannelError::Io { what: "listen on", source })
    }

    /// The next connection, blocking; an error that [`ChannelError::would_block`] when nobody knocks.
    pub fn accept(&self) -> Result<Channel, ChannelError> {
        self.0.accept().map(|(socket, _)| Channel(socket.into())).map_err(|source| ChannelError::Io { what: "accept on", source })
    }
}

impl std::os::fd::AsRawFd for Listener {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.0)
    }
}

fn io_error(what: &'static str) -> impl Fn(Errno) -> ChannelError {
    move |errno| ChannelError::Io { what, source: errno.into() }
}

fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::protocol::ToDaemon;

    #[test]
    fn a_message_and_its_descriptors_arrive_together_and_the_end_is_told() {
        let (a, b) = Channel::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        a.send(&ToDaemon::Started { pid: 7 }, &[file.as_fd()]).unwrap();
        let (message, fds) = b.receive::<ToDaemon>().unwrap().unwrap();
        assert!(matches!(message, ToDaemon::Started { pid: 7 }));
        assert_eq!(fds.len(), 1);
        drop(a);
        assert!(b.receive::<ToDaemon>().unwrap().is_none());
    }

    #[test]
    fn an_empty_channel_that_must_not_block_says_so() {
        let (_a, b) = Channel::pair().unwrap();
        b.set_nonblocking(true).unwrap();
        assert!(b.receive::<ToDaemon>().unwrap_err().would_block());
    }

    #[test]
    fn a_foreign_message_is_an_error_and_no_panic() {
        let (a, b) = Channel::pair().unwrap();
        a.send(&"something else", &[]).unwrap();
        assert!(matches!(b.receive::<ToDaemon>(), Err(ChannelError::Malformed { .. })));
    }
}
