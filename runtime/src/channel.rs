//! Messages between the daemon and a supervisor: JSON with descriptors beside it, over a SOCK_SEQPACKET unix socket.
//!
//! One message is one packet, so there is no framing and a reader never sees half of one. It never waits by itself: whether a
//! call blocks is the socket's own setting, which both ends choose for themselves.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::socket::{MsgFlags, getsockopt, recv, sockopt::PeerCredentials},
    unistd::Pid,
};
use serde::{Serialize, de::DeserializeOwned};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::io::unix::AsyncFd;

use crate::{
    socket_path::SocketPath,
    sys::{process, readiness, rights},
};

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
    /// A message in parts was not told to its end.
    #[error("something else was said before the rest of a message")]
    Unfinished,
    #[error("a message of {0} bytes is longer than {MESSAGE_MAX}")]
    TooLong(usize),
}

impl ChannelError {
    /// Whether a non-blocking channel merely had nothing to do.
    pub fn would_block(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether nobody is at the other end any more.
    pub(crate) fn is_gone(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), BrokenPipe | ConnectionReset | NotConnected))
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
            let path = SocketPath::new(path)?;
            socket.connect(&SockAddr::unix(path.path())?)?;
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
        SockRef::from(&self.0).set_read_timeout(timeout).map_err(|source| ChannelError::Io { what: "set up", source })
    }

    /// Sends one message with copies of `fds`, which stay the caller's.
    pub fn send<M: Serialize>(&self, message: &M, fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        send(self.0.as_fd(), message, fds)
    }

    /// Receives one message and its descriptors, close-on-exec; `None` once the other side has gone.
    pub fn receive<M: DeserializeOwned>(&self) -> Result<Option<(M, Vec<OwnedFd>)>, ChannelError> {
        receive(self.0.as_fd())
    }

    /// The same end for tasks of the tokio runtime that calls this.
    pub fn into_async(self) -> Result<AsyncChannel, ChannelError> {
        self.set_nonblocking(true)?;
        readiness::watch(self.0).map(AsyncChannel).map_err(|source| ChannelError::Io { what: "set up", source })
    }
}

/// One end of a connection, for tasks.
#[derive(Debug)]
pub struct AsyncChannel(AsyncFd<OwnedFd>);

impl AsyncChannel {
    /// As [`Channel::send`], without waiting: [`ChannelError::would_block`] when the other side has not read for long.
    pub fn send<M: Serialize>(&self, message: &M, fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        send(self.0.as_fd(), message, fds)
    }

    /// Kills the process at the other end, which must be the one that connected.
    ///
    /// Errors: it has ended; it is not ours to kill.
    pub fn kill_peer(&self) -> io::Result<()> {
        let pid = getsockopt(self.0.get_ref(), PeerCredentials)?.pid();
        let pidfd = process::open_pid(Pid::from_raw(pid))?;
        // As long as the connection stands the number is still the one who made it.
        let connected = match recv(self.0.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
            Ok(bytes) => bytes > 0,
            Err(errno) => errno == Errno::EAGAIN,
        };
        if !connected {
            return Err(io::ErrorKind::NotConnected.into());
        }
        Ok(process::signal(pidfd.as_fd(), libc::SIGKILL)?)
    }

    /// As [`Channel::receive`], for as long as it takes. Nothing is lost when it is cancelled.
    pub async fn receive<M: DeserializeOwned>(&self) -> Result<Option<(M, Vec<OwnedFd>)>, ChannelError> {
        loop {
            let mut ready = self.0.readable().await.map_err(|source| ChannelError::Io { what: "wait for", source })?;
            match receive(self.0.as_fd()) {
                Err(error) if error.would_block() => ready.clear_ready(),
                other => return other,
            }
        }
    }
}

fn send<M: Serialize>(socket: BorrowedFd<'_>, message: &M, fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
    let bytes = serde_json::to_vec(message).map_err(|source| ChannelError::Malformed { source })?;
    if bytes.len() > MESSAGE_MAX {
        return Err(ChannelError::TooLong(bytes.len()));
    }
    retry(|| rights::send(socket, &bytes, fds)).map(drop).map_err(io_error("write to"))
}

fn receive<M: DeserializeOwned>(socket: BorrowedFd<'_>) -> Result<Option<(M, Vec<OwnedFd>)>, ChannelError> {
    let mut bytes = vec![0; MESSAGE_MAX];
    let mut read = || match retry(|| rights::receive(socket, &mut bytes)) {
        Ok((0, _)) | Err(Errno::ECONNRESET) => Ok(None),
        other => other.map(Some),
    };
    // The kernel looks for a message and then for the end: what was said in between, and at last, is there when it tells the end.
    let read = read().and_then(|first| if first.is_none() { read() } else { Ok(first) });
    let Some((len, fds)) = read.map_err(io_error("read from"))? else { return Ok(None) };
    let message = bytes.get(..len).unwrap_or_default();
    serde_json::from_slice(message).map(|message| Some((message, fds))).map_err(|source| ChannelError::Malformed { source })
}

/// A socket of this kind, as it was inherited or received.
impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Where supervisors knock, for tasks.
#[derive(Debug)]
pub struct Listener(AsyncFd<OwnedFd>);

impl Listener {
    /// Listens at `path`, where nothing may be yet, on the tokio runtime that calls this.
    pub fn bind(path: &Path) -> Result<Self, ChannelError> {
        let open = || {
            let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
            let path = SocketPath::new(path)?;
            socket.bind(&SockAddr::unix(path.path())?)?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            readiness::watch(socket.into())
        };
        open().map(Self).map_err(|source| ChannelError::Io { what: "listen on", source })
    }

    /// The next connection.
    pub async fn accept(&self) -> Result<Channel, ChannelError> {
        let failed = |source| ChannelError::Io { what: "accept on", source };
        loop {
            let mut ready = self.0.readable().await.map_err(failed)?;
            match SockRef::from(self.0.get_ref()).accept() {
                Ok((socket, _)) => return Ok(Channel(socket.into())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Err(failed(error)),
            }
        }
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
    use std::{
        os::fd::AsFd,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::protocol::{ToDaemon, ToSupervisor};

    #[test]
    fn a_message_and_its_descriptors_arrive_together_and_the_end_is_told() {
        let (a, b) = Channel::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        a.send(&ToDaemon::Started { pid: 7, read_only: Vec::new() }, &[file.as_fd()]).unwrap();
        let (message, fds) = b.receive::<ToDaemon>().unwrap().unwrap();
        assert!(matches!(message, ToDaemon::Started { pid: 7, .. }));
        assert_eq!(fds.len(), 1);
        drop(a);
        assert!(b.receive::<ToDaemon>().unwrap().is_none());
    }

    #[test]
    fn the_last_word_is_heard_however_soon_its_speaker_ends() {
        // A race: many tries, and no more than a busy machine has time for.
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            let (a, b) = Channel::pair().unwrap();
            b.set_nonblocking(true).unwrap();
            let speaker = std::thread::spawn(move || a.send(&ToDaemon::Prepare, &[]).unwrap());
            let heard = loop {
                match b.receive::<ToDaemon>() {
                    Err(error) if error.would_block() => {}
                    heard => break heard.unwrap(),
                }
            };
            assert!(matches!(heard, Some((ToDaemon::Prepare, _))), "{heard:?}");
            speaker.join().unwrap();
        }
    }

    #[test]
    fn what_was_said_before_a_reset_is_heard() {
        let (a, b) = Channel::pair().unwrap();
        a.send(&ToDaemon::Prepare, &[]).unwrap();
        // Nobody will have read it.
        b.send(&ToSupervisor::Attached, &[]).unwrap();
        drop(a);
        assert!(matches!(b.receive::<ToDaemon>().unwrap(), Some((ToDaemon::Prepare, _))));
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

    #[tokio::test(flavor = "current_thread")]
    async fn a_listener_far_down_the_tree_is_reached_and_answers() {
        let top = std::env::temp_dir().join(format!("netloom-channel-{}", std::process::id()));
        let deep = top.join("d".repeat(120));
        std::fs::create_dir_all(&deep).unwrap();
        let path = deep.join("supervisor.sock");
        let listener = Listener::bind(&path).unwrap();
        let supervisor = Channel::connect(&path).unwrap();
        let daemon = listener.accept().await.unwrap().into_async().unwrap();
        supervisor.send(&ToDaemon::Prepare, &[]).unwrap();
        assert!(matches!(daemon.receive().await.unwrap(), Some((ToDaemon::Prepare, _))));
        daemon.send(&ToSupervisor::Attached, &[]).unwrap();
        assert!(matches!(supervisor.receive().unwrap(), Some((ToSupervisor::Attached, _))));
        std::fs::remove_dir_all(&top).unwrap();
    }
}
