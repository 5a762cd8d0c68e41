//! The host as a gateway sees it: [`Outside`] over the port's [`Sockets`], and the way back into the switch.

use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket},
    os::fd::AsRawFd,
};

use netloom_switch::{
    DropReason, Frame, PortId, Time, Verdict,
    gateway::{Datagram, DatagramError, Departure, EchoError, EchoReply, LeaseQuestion, Outside, OutsideError, Quote, SocketId},
};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, cmsg_space, recvmsg, sendmsg};

use super::{
    echo::EchoSocket,
    egress::EgressTable,
    network::Network,
    port::PortKey,
    reports,
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
        // What went wrong after it was connected is found by reading. One without a peer has failed, or is still on its way.
        let Err(error) = stream.peer_addr() else { return Ok(()) };
        match stream.take_error() {
            Ok(Some(error)) | Err(error) => Err(sockets::error(&error)),
            Ok(None) if error.raw_os_error() == Some(libc::ENOTCONN) => Err(OutsideError::WouldBlock),
            Ok(None) => Err(sockets::error(&error)),
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

    fn udp_send(&mut self, socket: SocketId, to: SocketAddr, with: Departure, bytes: &[u8]) -> Result<(), OutsideError> {
        let (udp, both_families) = match self.sockets.get(socket) {
            Some(HostSocket::Udp(udp)) => (udp, false),
            Some(HostSocket::Published { socket: udp, ipv6 }) => (udp, *ipv6),
            _ => return Err(OutsideError::Failed),
        };
        let sent = if with == Departure::default() {
            let to = if both_families { mapped(to) } else { to };
            uninterrupted(|| udp.send_to(bytes, to))
        } else {
            uninterrupted(|| send_with(udp, both_families, to, with, bytes))
        };
        sent.map(drop)
    }

    fn udp_recv(&mut self, socket: SocketId, into: &mut [u8]) -> Result<Datagram, OutsideError> {
        match self.sockets.get(socket) {
            Some(HostSocket::Udp(udp) | HostSocket::Published { socket: udp, .. }) => uninterrupted(|| receive_at(udp, into)),
            _ => Err(OutsideError::Failed),
        }
    }

    fn udp_error(&mut self, socket: SocketId) -> Option<DatagramError> {
        match self.sockets.get(socket) {
            Some(HostSocket::Udp(udp) | HostSocket::Published { socket: udp, .. }) => {
                let mut payload = [0; Quote::MAX];
                let reports::Reported { to, error, report, quoted } = reports::next(udp.as_raw_fd(), &mut payload)?;
                Some(DatagramError { to, error, report, quote: Quote::of(payload.get(..quoted).unwrap_or_default()) })
            }
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

/// Sends a datagram that leaves with an address, a time to live or a traffic class of its own. What goes to a peer of IPv4 is
/// said in IPv4's words even on a socket of both families, but for the address, of which the kernel takes the other form alone.
fn send_with(udp: &UdpSocket, both_families: bool, to: SocketAddr, with: Departure, bytes: &[u8]) -> io::Result<usize> {
    let peer = SockaddrStorage::from(if both_families { mapped(to) } else { to });
    let (ttl, class) = (with.ttl.map(i32::from), i32::from(with.traffic_class));
    let from = with.from.map(|from| if both_families { mapped(SocketAddr::new(from, 0)).ip() } else { from });
    let (mut info4, mut info6) = (None, None);
    match from {
        Some(IpAddr::V4(from)) => {
            let address = libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) };
            let any = libc::in_addr { s_addr: libc::INADDR_ANY };
            info4 = Some(libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: any });
        }
        Some(IpAddr::V6(from)) => {
            info6 = Some(libc::in6_pktinfo { ipi6_ifindex: 0, ipi6_addr: libc::in6_addr { s6_addr: from.octets() } });
        }
        None => (),
    }
    let v4 = to.is_ipv4();
    let messages = [
        info4.as_ref().map(ControlMessage::Ipv4PacketInfo),
        info6.as_ref().map(ControlMessage::Ipv6PacketInfo),
        ttl.as_ref().map(|ttl| if v4 { ControlMessage::Ipv4Ttl(ttl) } else { ControlMessage::Ipv6HopLimit(ttl) }),
        (class != 0).then_some(if v4 { ControlMessage::Ipv4Tos(&with.traffic_class) } else { ControlMessage::Ipv6TClass(&class) }),
    ];
    // As many as there are stand first, in place of those that are not.
    let count = messages.iter().flatten().count();
    let mut given = [ControlMessage::Ipv4Ttl(&64); 4];
    given.iter_mut().zip(messages.into_iter().flatten()).for_each(|(place, message)| *place = message);
    let given = given.get(..count).unwrap_or_default();
    Ok(sendmsg(udp.as_raw_fd(), &[IoSlice::new(bytes)], given, MsgFlags::MSG_NOSIGNAL, Some(&peer))?)
}

/// Receives a datagram, its traffic class and, on a published port, the address that its client sent it to.
fn receive_at(udp: &UdpSocket, into: &mut [u8]) -> io::Result<Datagram> {
    const CLASSES: usize = cmsg_space::<u8>() + cmsg_space::<i32>();
    let mut space = [0; cmsg_space::<libc::in_pktinfo>() + cmsg_space::<libc::in6_pktinfo>() + CLASSES];
    let mut slices = [IoSliceMut::new(into)];
    let message = recvmsg::<SockaddrStorage>(udp.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty())?;
    let (mut to, mut traffic_class) = (None, 0);
    for ancillary in message.cmsgs()? {
        match ancillary {
            ControlMessageOwned::Ipv4PacketInfo(info) => to = Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into()),
            ControlMessageOwned::Ipv6PacketInfo(info) => to = Some(IpAddr::from(info.ipi6_addr.s6_addr).to_canonical()),
            ControlMessageOwned::Ipv4Tos(class) => traffic_class = class,
            ControlMessageOwned::Ipv6TClass(class) => traffic_class = u8::try_from(class).unwrap_or_default(),
            _ => (),
        }
    }
    let from = message.address.as_ref().and_then(reports::address).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Datagram { len: message.bytes, from, to, traffic_class })
}
