//! The host as a gateway sees it: [`Outside`] over the port's [`Sockets`], and the way back into the switch.

use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket},
    os::fd::AsRawFd,
};

use netloom_switch::{
    DropReason, Frame, PortId, Time, Verdict,
    gateway::{Datagram, EchoError, EchoReply, LeaseQuestion, Outside, OutsideError, SocketId},
};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, cmsg_space, recvmsg, sendmsg};

use super::{
    echo::EchoSocket,
    egress::EgressTable,
    network::Network,
    port::PortKey,
    sockets::{self, HostSocket, Sockets},
    sources::Sources,
    worker::Slot,
};

/// What one call into a gateway may use.
pub(super) struct Host<'a> {
    pub(super) now: Time,
    pub(super) slot: Slot,
    pub(super) port: PortId,
    pub(super) network: &'a Network,
    pub(super) table: &'a EgressTable,
    pub(super) sockets: &'a mut Sockets,
    pub(super) sources: &'a mut Sources,
}

impl Host<'_> {
    fn tcp(&self, id: SocketId) -> Result<&TcpStream, OutsideError> {
        match self.sockets.get(id) {
            Some(HostSocket::Tcp(stream)) => Ok(stream),
            _ => Err(OutsideError::Failed),
        }
    }

    fn echo(&self, id: SocketId) -> Result<&EchoSocket, OutsideError> {
        match self.sockets.get(id) {
            Some(HostSocket::Echo(socket)) => Ok(socket),
            _ => Err(OutsideError::Failed),
        }
    }

    /// Asked before a socket is opened, since a connect that is under way cannot be taken back.
    fn room(&self) -> Result<(), OutsideError> {
        if self.sockets.has_room() { Ok(()) } else { Err(OutsideError::Exhausted) }
    }

    fn add(&mut self, id: SocketId, socket: HostSocket) -> Result<(), OutsideError> {
        self.sockets.insert(self.slot, id, socket, self.sources).map_err(|errno| sockets::error(&errno.into()))
    }
}

impl Outside for Host<'_> {
    fn emit(&mut self, frame: &Frame<'_>) {
        match self.network.switch.handle(self.now, PortId::GATEWAY, frame) {
            Verdict::Forward(port) => self.table.egress(port, frame, &self.network.gateway),
            Verdict::Flood(ports) => ports.iter().for_each(|port| self.table.egress(port, frame, &self.network.gateway)),
            Verdict::Drop(_) => (),
        }
    }

    fn tcp_connect(&mut self, socket: SocketId, to: SocketAddr) -> Result<(), OutsideError> {
        self.room()?;
        self.add(socket, sockets::connect(to)?)
    }

    fn tcp_outcome(&mut self, socket: SocketId) -> Result<(), OutsideError> {
        let stream = self.tcp(socket)?;
        match stream.take_error() {
            Ok(Some(error)) | Err(error) => Err(sockets::error(&error)),
            // Without an error it is connected, or still on its way and has no peer.
            Ok(None) => stream.peer_addr().map(drop).map_err(|error| match error.raw_os_error() {
                Some(libc::ENOTCONN) => OutsideError::WouldBlock,
                _ => sockets::error(&error),
            }),
        }
    }

    fn tcp_recv(&mut self, socket: SocketId, into: &mut [u8]) -> Result<usize, OutsideError> {
        let mut stream = self.tcp(socket)?;
        uninterrupted(|| stream.read(into))
    }

    fn tcp_send(&mut self, socket: SocketId, bytes: &[u8]) -> Result<usize, OutsideError> {
        let mut stream = self.tcp(socket)?;
        uninterrupted(|| stream.write(bytes))
    }

    fn tcp_finish(&mut self, socket: SocketId) {
        if let Ok(stream) = self.tcp(socket) {
            // ENOTCONN: the peer has reset it, which reading will tell.
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    fn tcp_reset(&mut self, socket: SocketId) {
        if let Ok(stream) = self.tcp(socket) {
            sockets::abort(stream);
        }
        self.close(socket);
    }

    fn udp_open(&mut self, socket: SocketId, of: IpAddr) -> Result<(), OutsideError> {
        self.room()?;
        self.add(socket, sockets::bind(of)?)
    }

    fn udp_send(&mut self, socket: SocketId, to: SocketAddr, from: Option<IpAddr>, bytes: &[u8]) -> Result<(), OutsideError> {
        let sent = match self.sockets.get(socket) {
            Some(HostSocket::Udp(udp)) => uninterrupted(|| udp.send_to(bytes, to)),
            Some(HostSocket::Published { socket: udp, ipv6 }) => {
                let to = if *ipv6 { mapped(to) } else { to };
                let from = from.map(|from| if *ipv6 { mapped(SocketAddr::new(from, 0)).ip() } else { from });
                uninterrupted(|| from.map_or_else(|| udp.send_to(bytes, to), |from| send_from(udp, to, from, bytes)))
            }
            _ => return Err(OutsideError::Failed),
        };
        sent.map(drop)
    }

    fn udp_recv(&mut self, socket: SocketId, into: &mut [u8]) -> Result<Datagram, OutsideError> {
        match self.sockets.get(socket) {
            Some(HostSocket::Udp(udp)) => uninterrupted(|| udp.recv_from(into)).map(|(len, from)| Datagram { len, from, to: None }),
            Some(HostSocket::Published { socket: udp, .. }) => uninterrupted(|| receive_at(udp, into)),
            _ => Err(OutsideError::Failed),
        }
    }

    fn udp_error(&mut self, socket: SocketId) -> Option<(SocketAddr, OutsideError)> {
        match self.sockets.get(socket) {
            Some(HostSocket::Udp(udp) | HostSocket::Published { socket: udp, .. }) => reported_error(udp),
            _ => None,
        }
    }

    fn echo_open(&mut self, socket: SocketId, of: IpAddr) -> Result<(), OutsideError> {
        self.room()?;
        self.add(socket, HostSocket::Echo(EchoSocket::open(of)?))
    }

    fn echo_send(&mut self, socket: SocketId, to: IpAddr, sequence_and_ttl: (u16, u8), payload: &[u8]) -> Result<(), OutsideError> {
        let socket = self.echo(socket)?;
        uninterrupted(|| socket.send(to, sequence_and_ttl, payload))
    }

    fn echo_recv(&mut self, socket: SocketId, into: &mut [u8]) -> Result<EchoReply, OutsideError> {
        let socket = self.echo(socket)?;
        uninterrupted(|| socket.receive(into))
    }

    fn echo_error(&mut self, socket: SocketId) -> Option<EchoError> {
        self.echo(socket).ok()?.error()
    }

    fn ask_lease(&mut self, question: LeaseQuestion) -> Result<(), DropReason> {
        self.network.asks.ask(PortKey { network: self.network.id, port: self.port }, question)
    }

    fn close(&mut self, socket: SocketId) {
        self.sockets.close(socket, self.sources);
    }

    fn dropped(&mut self, reason: DropReason) {
        self.network.gateway.dropped(reason);
    }
}

/// Calls again what a signal interrupted: an edge-triggered socket must be asked until it says that it would block.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> Result<T, OutsideError> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            result => return result.map_err(|error| sockets::error(&error)),
        }
    }
}

/// An address as a socket of IPv6, or of both families, writes it.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::from((ip.to_ipv6_mapped(), address.port())),
        IpAddr::V6(_) => address,
    }
}

/// Sends a datagram that leaves with the address its client knows.
fn send_from(udp: &UdpSocket, to: SocketAddr, from: IpAddr, bytes: &[u8]) -> io::Result<usize> {
    let peer = SockaddrStorage::from(to);
    let slices = [IoSlice::new(bytes)];
    let send = |info: ControlMessage<'_>| sendmsg(udp.as_raw_fd(), &slices, &[info], MsgFlags::MSG_NOSIGNAL, Some(&peer));
    let sent = match from {
        IpAddr::V4(from) => {
            let address = libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) };
            let any = libc::in_addr { s_addr: libc::INADDR_ANY };
            send(ControlMessage::Ipv4PacketInfo(&libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: any }))
        }
        IpAddr::V6(from) => {
            let address = libc::in6_addr { s6_addr: from.octets() };
            send(ControlMessage::Ipv6PacketInfo(&libc::in6_pktinfo { ipi6_ifindex: 0, ipi6_addr: address }))
        }
    };
    Ok(sent?)
}

/// Receives a datagram and the address that its client sent it to.
fn receive_at(udp: &UdpSocket, into: &mut [u8]) -> io::Result<Datagram> {
    let mut space = [0; cmsg_space::<libc::in_pktinfo>() + cmsg_space::<libc::in6_pktinfo>()];
    let mut slices = [IoSliceMut::new(into)];
    let message = recvmsg::<SockaddrStorage>(udp.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty())?;
    let to = message.cmsgs()?.find_map(|ancillary| match ancillary {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into()),
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::from(info.ipi6_addr.s6_addr).to_canonical()),
        _ => None,
    });
    let from = message.address.as_ref().and_then(address).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Datagram { len: message.bytes, from, to })
}

fn address(peer: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = peer.as_sockaddr_in().map(|peer| SocketAddr::from((peer.ip(), peer.port())));
    v4.or_else(|| peer.as_sockaddr_in6().map(|peer| sockets::canonical(SocketAddr::V6((*peer).into()))))
}

/// The oldest ICMP error in the socket's queue, and the destination of the datagram that caused it (ip(7), IP_RECVERR).
fn reported_error(udp: &UdpSocket) -> Option<(SocketAddr, OutsideError)> {
    const ERROR: usize = cmsg_space::<(libc::sock_extended_err, libc::sockaddr_in6)>();
    let mut space = [0; ERROR + cmsg_space::<libc::in_pktinfo>() + cmsg_space::<libc::in6_pktinfo>()];
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrStorage>(udp.as_raw_fd(), &mut [], Some(&mut space), flags).ok()?;
    let errno = message.cmsgs().ok()?.find_map(|ancillary| match ancillary {
        ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => Some(error.ee_errno),
        _ => None,
    })?;
    let error = sockets::error(&io::Error::from_raw_os_error(i32::try_from(errno).ok()?));
    Some((message.address.as_ref().and_then(address)?, error))
}
