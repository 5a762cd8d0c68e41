//! The publications of one port: host sockets on which the outside comes in.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use netloom_switch::{Time, gateway::SocketId};
use nix::sys::epoll::EpollFlags;

use super::{
    ListenerId,
    sources::{Source, Sources, Token},
    timers::{Due, Timers},
    worker::Slot,
};

/// How long a listener rests when the process has no descriptor left; what waits stays in the kernel's backlog.
const REST: Duration = Duration::from_millis(100);

/// A publication.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(Acceptor),
    /// Its socket is one of the gateway's.
    Udp {
        socket: SocketId,
        to: SocketAddr,
    },
}

/// A listening TCP socket. Others may hold it too.
#[derive(Debug)]
pub(super) struct Acceptor {
    socket: TcpListener,
    pub(super) to: SocketAddr,
    /// `None` while the port is between two workers.
    token: Option<Token>,
    /// It is on the worker's ready list.
    queued: bool,
    rests_until: Option<Time>,
}

/// What came of an accept.
#[derive(Debug)]
pub(super) enum Accepted {
    Connection(TcpStream, SocketAddr),
    /// Nobody waits; readiness will tell.
    Nobody,
    /// No descriptor is left, or the socket is broken.
    NotNow,
}

impl Acceptor {
    pub(super) fn new(socket: OwnedFd, to: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self { socket, to, token: None, queued: false, rests_until: None })
    }

    /// Takes the next connection that is still there.
    pub(super) fn accept(&self) -> Accepted {
        loop {
            return match self.socket.accept() {
                Ok((stream, peer)) => Accepted::Connection(stream, peer),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => Accepted::Nobody,
                    Some(
                        libc::EMFILE
                        | libc::ENFILE
                        | libc::ENOBUFS
                        | libc::ENOMEM
                        | libc::EBADF
                        | libc::EINVAL
                        | libc::ENOTSOCK
                        | libc::EOPNOTSUPP,
                    ) => Accepted::NotNow,
                    // accept(2): an error of the connection, which is gone; there may be another.
                    _ => continue,
                },
            };
        }
    }

    /// Lets the listener be until the next [`REST`] is over.
    pub(super) fn rest(&mut self, now: Time, due: Due, timers: &mut Timers) {
        timers.arm(&mut self.rests_until, Some(now + REST), due);
    }

    /// The rest is over.
    pub(super) fn wake(&mut self) {
        self.rests_until = None;
    }

    /// Puts it on the ready list, where it stands at most once.
    pub(super) fn queue(&mut self) -> Option<Token> {
        if std::mem::replace(&mut self.queued, true) { None } else { self.token }
    }

    pub(super) fn unqueue(&mut self) {
        self.queued = false;
    }
}

/// The publications of one port.
#[derive(Debug, Default)]
pub(super) struct Listeners(HashMap<ListenerId, Listener>);

impl Listeners {
    pub(super) fn acceptor(&mut self, id: ListenerId) -> Option<&mut Acceptor> {
        match self.0.get_mut(&id)? {
            Listener::Tcp(acceptor) => Some(acceptor),
            Listener::Udp { .. } => None,
        }
    }

    pub(super) fn insert(&mut self, id: ListenerId, mut listener: Listener, slot: Slot, sources: &mut Sources) -> nix::Result<()> {
        if let Listener::Tcp(acceptor) = &mut listener {
            watch(id, acceptor, slot, sources)?;
        }
        self.0.insert(id, listener);
        Ok(())
    }

    pub(super) fn remove(&mut self, id: ListenerId, slot: Slot, sources: &mut Sources, timers: &mut Timers) -> Option<Listener> {
        let mut listener = self.0.remove(&id)?;
        if let Listener::Tcp(acceptor) = &mut listener {
            unwatch(id, acceptor, slot, sources, timers);
        }
        Some(listener)
    }

    /// The sockets of UDP publications and where they lead.
    pub(super) fn datagrams(&mut self) -> impl Iterator<Item = (&mut SocketId, SocketAddr)> {
        self.0.values_mut().filter_map(|listener| match listener {
            Listener::Udp { socket, to } => Some((socket, *to)),
            Listener::Tcp(_) => None,
        })
    }

    /// Takes all out of a worker's epoll set and timers, to be [`resume`](Self::resume)d in another's.
    pub(super) fn suspend(&mut self, slot: Slot, sources: &mut Sources, timers: &mut Timers) {
        for (id, listener) in &mut self.0 {
            if let Listener::Tcp(acceptor) = listener {
                unwatch(*id, acceptor, slot, sources, timers);
            }
        }
    }

    /// Puts all into a worker's epoll set, where those with waiting connections are reported anew.
    pub(super) fn resume(&mut self, slot: Slot, sources: &mut Sources) -> nix::Result<()> {
        for (id, listener) in &mut self.0 {
            if let Listener::Tcp(acceptor) = listener {
                watch(*id, acceptor, slot, sources)?;
            }
        }
        Ok(())
    }
}

fn watch(id: ListenerId, acceptor: &mut Acceptor, slot: Slot, sources: &mut Sources) -> nix::Result<()> {
    acceptor.token = Some(sources.add(acceptor.socket.as_fd(), Source::Listener(slot, id), EpollFlags::EPOLLIN)?);
    acceptor.queued = false;
    Ok(())
}

fn unwatch(id: ListenerId, acceptor: &mut Acceptor, slot: Slot, sources: &mut Sources, timers: &mut Timers) {
    timers.disarm(&mut acceptor.rests_until, Due::Accept(slot, id));
    if let Some(token) = acceptor.token.take() {
        sources.remove(token, acceptor.socket.as_fd());
    }
}
