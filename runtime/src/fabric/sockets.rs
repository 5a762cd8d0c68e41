//! The host sockets of one port's gateway, by the numbers that the gateway gave them.
//!
//! This file opens, configures and closes; reading and writing is [`outside`](super::outside)'s. A socket is in the table exactly
//! as long as it is in its worker's epoll set, or on its way to another worker with its port.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use netloom_switch::gateway::{OutsideError, SocketId};
use nix::sys::{
    epoll::EpollFlags,
    socket::{setsockopt, sockopt},
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{
    budget::{Budget, Ticket},
    echo::EchoSocket,
    sources::{Source, Sources, Token},
    worker::Slot,
};

/// A host socket.
#[derive(Debug)]
pub(super) enum HostSocket {
    Tcp(TcpStream),
    /// For datagrams of one inside endpoint.
    Udp(UdpSocket),
    /// For ICMP echo under one identifier of the container.
    Echo(EchoSocket),
    /// Of a publication: it tells and chooses the host's address of each datagram, and others may hold it too.
    Published {
        socket: UdpSocket,
        ipv6: bool,
    },
}

impl HostSocket {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Echo(socket) => socket.fd(),
            Self::Udp(socket) | Self::Published { socket, .. } => socket.as_fd(),
        }
    }
}

#[derive(Debug)]
struct Entry {
    socket: HostSocket,
    /// `None` while the port is between two workers.
    token: Option<Token>,
    _ticket: Ticket,
}

/// The sockets of one gateway.
#[derive(Debug)]
pub(super) struct Sockets {
    entries: HashMap<SocketId, Entry>,
    budget: Arc<Budget>,
}

impl Sockets {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self { entries: HashMap::new(), budget }
    }

    /// Whether one more may be opened.
    pub(super) fn has_room(&self) -> bool {
        self.budget.has_room(self.entries.len())
    }

    pub(super) fn get(&self, id: SocketId) -> Option<&HostSocket> {
        self.entries.get(&id).map(|entry| &entry.socket)
    }

    pub(super) fn insert(&mut self, slot: Slot, id: SocketId, socket: HostSocket, sources: &mut Sources) -> nix::Result<()> {
        let token = watch(slot, id, &socket, sources)?;
        let entry = Entry { socket, token: Some(token), _ticket: self.budget.take() };
        if let Some(old) = self.entries.insert(id, entry) {
            release(old, sources);
        }
        Ok(())
    }

    pub(super) fn close(&mut self, id: SocketId, sources: &mut Sources) {
        if let Some(entry) = self.entries.remove(&id) {
            release(entry, sources);
        }
    }

    /// Takes a socket out, open, for [`insert`](Self::insert) under another number.
    pub(super) fn take(&mut self, id: SocketId, sources: &mut Sources) -> Option<HostSocket> {
        let entry = self.entries.remove(&id)?;
        if let Some(token) = entry.token {
            sources.remove(token, entry.socket.fd());
        }
        Some(entry.socket)
    }

    pub(super) fn close_all(&mut self, sources: &mut Sources) {
        for (_, entry) in self.entries.drain() {
            release(entry, sources);
        }
    }

    /// Takes all sockets out of a worker's epoll set, to be [`resume`](Self::resume)d in another's.
    pub(super) fn suspend(&mut self, sources: &mut Sources) {
        for entry in self.entries.values_mut() {
            if let Some(token) = entry.token.take() {
                sources.remove(token, entry.socket.fd());
            }
        }
    }

    /// Puts all sockets into a worker's epoll set; what is ready by now is reported anew. A socket that cannot be watched is lost:
    /// its number is returned.
    pub(super) fn resume(&mut self, slot: Slot, sources: &mut Sources) -> Vec<SocketId> {
        let mut lost = Vec::new();
        for (id, entry) in &mut self.entries {
            match watch(slot, *id, &entry.socket, sources) {
                Ok(token) => entry.token = Some(token),
                Err(_) => lost.push(*id),
            }
        }
        lost
    }
}

fn watch(slot: Slot, id: SocketId, socket: &HostSocket, sources: &mut Sources) -> nix::Result<Token> {
    let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP;
    sources.add(socket.fd(), Source::Socket(slot, id), interest)
}

fn release(entry: Entry, sources: &mut Sources) {
    match (entry.token, &entry.socket) {
        (Some(token), HostSocket::Published { socket, .. }) => sources.remove(token, socket.as_fd()),
        (Some(token), _) => sources.forget(token),
        (None, _) => (),
    }
}

/// Starts to connect. `Ok` while it is under way, or already done.
pub(super) fn connect(to: SocketAddr) -> Result<HostSocket, OutsideError> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), Some(Protocol::TCP)).map_err(|e| error(&e))?;
    // What to send together is decided by the gateway, which sees whole superframes; Nagle would only wait.
    socket.set_tcp_nodelay(true).map_err(|e| error(&e))?;
    match socket.connect(&to.into()) {
        Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => Err(error(&e)),
        _ => Ok(HostSocket::Tcp(socket.into())),
    }
}

/// A UDP socket on a port of the host's choice, for peers of `of`'s family.
pub(super) fn bind(of: IpAddr) -> Result<HostSocket, OutsideError> {
    let any = match of {
        IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        IpAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = Socket::new(Domain::for_address(any), Type::DGRAM.nonblocking(), Some(Protocol::UDP)).map_err(|e| error(&e))?;
    if any.is_ipv6() {
        socket.set_only_v6(true).map_err(|e| error(&e))?;
    }
    socket.bind(&any.into()).map_err(|e| error(&e))?;
    report(&socket, any.is_ipv6()).map_err(|errno| error(&errno.into()))?;
    Ok(HostSocket::Udp(socket.into()))
}

/// A bound UDP socket that leads to a container.
pub(super) fn publish(socket: OwnedFd) -> io::Result<HostSocket> {
    let socket = Socket::from(socket);
    let ipv6 = socket.local_addr()?.is_ipv6();
    if ipv6 {
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    }
    // A socket of both families tells an IPv4 peer's destination this way.
    let ipv4 = setsockopt(&socket, sockopt::Ipv4PacketInfo, &true);
    if !ipv6 {
        ipv4?;
    }
    report(&socket, ipv6)?;
    socket.set_nonblocking(true)?;
    Ok(HostSocket::Published { socket: socket.into(), ipv6 })
}

/// An accepted connection.
pub(super) fn accepted(stream: TcpStream) -> io::Result<HostSocket> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    Ok(HostSocket::Tcp(stream))
}

/// An address without the disguise that a socket of both families gives an IPv4 one. A link-local address keeps the interface
/// that it is on the link of, without which nothing can be sent there.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, address.port())),
        IpAddr::V6(_) => address,
    }
}

/// Makes the next close(2) send a RST.
pub(super) fn abort(stream: &TcpStream) {
    // What fails here closes with a FIN instead.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Has a UDP socket tell the traffic class of what comes, and ICMP errors, of which an unconnected one would hear nothing otherwise
/// (ip(7), IP_RECVERR).
fn report(socket: &Socket, ipv6: bool) -> nix::Result<()> {
    if !ipv6 {
        setsockopt(socket, sockopt::IpRecvTos, &true)?;
        return setsockopt(socket, sockopt::Ipv4RecvErr, &true);
    }
    // Of IPv4 peers, where the socket has any.
    let _ = setsockopt(socket, sockopt::IpRecvTos, &true);
    setsockopt(socket, sockopt::Ipv6RecvTClass, &true)?;
    setsockopt(socket, sockopt::Ipv6RecvErr, &true)
}

/// A system error as the gateway knows it.
pub(super) fn error(error: &io::Error) -> OutsideError {
    match error.raw_os_error().unwrap_or_default() {
        libc::EAGAIN | libc::EINPROGRESS | libc::EALREADY => OutsideError::WouldBlock,
        libc::ECONNREFUSED => OutsideError::Refused,
        libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED => OutsideError::Reset,
        libc::ENETUNREACH | libc::ENETDOWN | libc::EAFNOSUPPORT => OutsideError::NetworkUnreachable,
        libc::EHOSTUNREACH | libc::EHOSTDOWN => OutsideError::HostUnreachable,
        libc::ETIMEDOUT => OutsideError::TimedOut,
        libc::EMSGSIZE => OutsideError::MessageTooLong,
        libc::EPERM | libc::EACCES => OutsideError::Forbidden,
        // EADDRNOTAVAIL and EADDRINUSE: every ephemeral port is taken.
        libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL | libc::EADDRINUSE => OutsideError::Exhausted,
        _ => OutsideError::Failed,
    }
}
