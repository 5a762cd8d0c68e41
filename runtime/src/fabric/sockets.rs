//! The host sockets of one port's gateway, by the numbers that the gateway gave them.
//!
//! This file holds and closes them; reading and writing is [`outside`](super::outside)'s. A socket is in the table exactly
//! as long as it is in its worker's epoll set, or on its way to another worker with its port.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Duration,
};

use netloom_switch::gateway::{OutsideError, SocketId};
use nix::sys::epoll::EpollFlags;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{
    budget::{Budgets, Share, Ticket},
    datagrams::Datagrams,
    echo::EchoSocket,
    sources::{Source, Sources, Token},
    worker::Slot,
};
use crate::sys::socket;

/// A host socket.
#[derive(Debug)]
pub(super) enum HostSocket {
    Tcp(TcpStream),
    /// For datagrams of one inside endpoint.
    Udp(Datagrams),
    /// For ICMP echo under one identifier of the container.
    Echo(EchoSocket),
    /// Of a publication: others may hold it too.
    Published(Datagrams),
}

impl HostSocket {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Echo(socket) => socket.fd(),
            Self::Udp(socket) | Self::Published(socket) => socket.fd(),
        }
    }
}

#[derive(Debug)]
struct Entry {
    socket: HostSocket,
    /// `None` while the port is between two workers.
    token: Option<Token>,
    _descriptor: Ticket,
    /// Of a socket whose port the host chose.
    _ephemeral: Option<Ticket>,
}

/// The sockets of one gateway.
#[derive(Debug)]
pub(super) struct Sockets {
    entries: HashMap<SocketId, Entry>,
    descriptors: Arc<Share>,
    ephemeral: Arc<Share>,
}

impl Sockets {
    pub(super) fn new(budgets: &Budgets) -> Self {
        let (descriptors, ephemeral) = (Share::of(&budgets.descriptors), Share::of(&budgets.ephemeral));
        Self { entries: HashMap::new(), descriptors, ephemeral }
    }

    /// Whether one more may be opened.
    pub(super) fn has_room(&self) -> bool {
        self.descriptors.has_room()
    }

    /// Whether one more may be opened on a UDP port of the host's choice.
    pub(super) fn has_room_for_udp(&self) -> bool {
        self.has_room() && self.ephemeral.has_room()
    }

    pub(super) fn get(&self, id: SocketId) -> Option<&HostSocket> {
        self.entries.get(&id).map(|entry| &entry.socket)
    }

    pub(super) fn get_mut(&mut self, id: SocketId) -> Option<&mut HostSocket> {
        self.entries.get_mut(&id).map(|entry| &mut entry.socket)
    }

    pub(super) fn insert(&mut self, slot: Slot, id: SocketId, socket: HostSocket, sources: &mut Sources) -> nix::Result<()> {
        let token = watch(slot, id, &socket, sources)?;
        let ephemeral = matches!(socket, HostSocket::Udp(_)).then(|| self.ephemeral.take());
        let entry = Entry { socket, token: Some(token), _descriptor: self.descriptors.take(), _ephemeral: ephemeral };
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
        (Some(token), HostSocket::Published(socket)) => sources.remove(token, socket.fd()),
        (Some(token), _) => sources.forget(token),
        (None, _) => (),
    }
}

/// Starts to connect. `Ok` while it is under way, or already done.
pub(super) fn connect(to: SocketAddr) -> Result<HostSocket, OutsideError> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), Some(Protocol::TCP)).map_err(|e| error(&e))?;
    prepare(&socket).map_err(|e| error(&e))?;
    match socket.connect(&to.into()) {
        Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => Err(error(&e)),
        _ => Ok(HostSocket::Tcp(socket.into())),
    }
}

/// An accepted connection.
pub(super) fn accepted(stream: TcpStream) -> io::Result<HostSocket> {
    stream.set_nonblocking(true)?;
    prepare(&SockRef::from(&stream))?;
    Ok(HostSocket::Tcp(stream))
}

/// What to send together is decided by the gateway, which sees whole superframes: Nagle would only wait. Urgent data is data, at its place
/// in the stream (RFC 6093, 4), where the kernel would take its last byte out. And a peer that is gone without a word is found out in
/// the end, also for a container that believes it has asked (it has asked the gateway).
fn prepare(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_out_of_band_inline(true)?;
    socket.set_keepalive(true)
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

/// A system error as the gateway knows it.
pub(super) fn error(error: &io::Error) -> OutsideError {
    match error.raw_os_error().unwrap_or_default() {
        libc::EAGAIN | libc::EINPROGRESS | libc::EALREADY => OutsideError::WouldBlock,
        libc::ECONNREFUSED => OutsideError::Refused,
        libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED => OutsideError::Reset,
        libc::ENETUNREACH | libc::ENETDOWN | libc::EAFNOSUPPORT => OutsideError::NetworkUnreachable,
        // ENONET: "source host isolated", which routers are to call unreachable (RFC 1812, 5.2.7.1).
        libc::EHOSTUNREACH | libc::EHOSTDOWN | libc::ENONET => OutsideError::HostUnreachable,
        libc::ETIMEDOUT => OutsideError::TimedOut,
        libc::EMSGSIZE => OutsideError::MessageTooLong(0),
        libc::EPERM | libc::EACCES => OutsideError::Forbidden,
        // What Linux makes of the other ICMP errors: protocol unreachable, source route failed, and a parameter problem.
        libc::ENOPROTOOPT | libc::EOPNOTSUPP | libc::EPROTO => OutsideError::Rejected,
        // EADDRNOTAVAIL and EADDRINUSE: every ephemeral port is taken.
        libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL | libc::EADDRINUSE => OutsideError::Exhausted,
        _ => OutsideError::Failed,
    }
}

/// Whether packets of a socket to peers of this family may be cut, by this host or by routers; if not, one that is too long fails
/// (ip(7), IP_MTU_DISCOVER, and ipv6(7), IPV6_MTU_DISCOVER). If they may, the kernel does what it thinks best.
pub(super) fn set_dont_fragment(socket: BorrowedFd<'_>, ipv6: bool, on: bool) -> nix::Result<()> {
    let (level, option, value) = match (ipv6, on) {
        (false, true) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO),
        (false, false) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_WANT),
        (true, true) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO),
        (true, false) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_WANT),
    };
    socket::set(socket, level, option, value)
}

/// Calls again what a signal interrupted: an edge-triggered socket must be asked until it says that it would block.
pub(super) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> Result<T, OutsideError> {
    loop {
        match call() {
            Err(interrupted) if interrupted.kind() == io::ErrorKind::Interrupted => (),
            result => return result.map_err(|failed| error(&failed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::fabric::budget::Budget;

    #[test]
    fn ports_of_the_host_s_choice_are_left_for_the_host() {
        let mut sources = Sources::new().unwrap();
        let mut sockets = Sockets::new(&Budgets { descriptors: Budget::of(None), ephemeral: Budget::of(Some(8)) });
        let open = || HostSocket::Udp(Datagrams::bind(Ipv4Addr::LOCALHOST.into()).unwrap());
        for id in 0..3 {
            assert!(sockets.has_room_for_udp());
            sockets.insert(Slot(0), SocketId(id), open(), &mut sources).unwrap();
        }
        assert!(!sockets.has_room_for_udp(), "as many are left as are taken, of six");
        assert!(sockets.has_room(), "for what needs no such port");
        sockets.insert(Slot(0), SocketId(2), open(), &mut sources).unwrap();
        assert!(!sockets.has_room_for_udp(), "one took another's place");
        sockets.close(SocketId(1), &mut sources);
        assert!(sockets.has_room_for_udp());
    }

    #[test]
    fn whatever_icmp_says_is_about_a_packet_and_not_the_end_of_its_socket() {
        // Linux: icmp_err_convert of net/ipv4/icmp.c, and icmpv6_err_convert of net/ipv6/icmp.c.
        let unreachable = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::ENOPROTOOPT, libc::ECONNREFUSED, libc::EMSGSIZE];
        let others = [libc::EOPNOTSUPP, libc::EHOSTDOWN, libc::ENONET, libc::EPROTO, libc::EACCES];
        for errno in unreachable.into_iter().chain(others) {
            let error = error(&io::Error::from_raw_os_error(errno));
            assert!(error.may_be_older(), "{errno}: {error}");
        }
        for errno in [libc::EBADF, libc::EINVAL, libc::EIO, libc::ENOTSOCK] {
            assert_eq!(error(&io::Error::from_raw_os_error(errno)), OutsideError::Failed, "{errno}");
        }
    }
}
