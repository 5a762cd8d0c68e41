//! A host UDP socket: for datagrams of one inside endpoint, or of a publication.
//!
//! A datagram that may not be cut on its way (DF) and is longer than a packet may be there is refused by the kernel, which knows
//! the MTU of the path and notes it in the error queue ([`reports`]). Whether it does is an option of the socket and not of the
//! message (ip(7), IP_MTU_DISCOVER), so it is set anew when the container's datagrams change in that.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use netloom_switch::gateway::{Datagram, DatagramError, Departure, OutsideError, Quote};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, cmsg_space, recvmsg, sendmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    reports,
    sockets::{error, set_dont_fragment, uninterrupted},
};

/// A UDP socket of either family, or of both.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: UdpSocket,
    /// IPv4 peers have the disguise that IPv6 gives them.
    both_families: bool,
    /// What was sent last must not be cut: to peers of IPv4, of IPv6.
    dont_fragment: [bool; 2],
    /// Whether the kernel sends many datagrams in one call here, as far as has been seen. It does not where a device cannot finish
    /// checksums, and not what is longer than a packet.
    sends_runs: bool,
}

impl Datagrams {
    /// A socket on a port of the host's choice, for peers of `of`'s family.
    pub(super) fn bind(of: IpAddr) -> Result<Self, OutsideError> {
        let any = match of {
            IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            IpAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = Socket::new(Domain::for_address(any), Type::DGRAM.nonblocking(), Some(Protocol::UDP)).map_err(|e| error(&e))?;
        if any.is_ipv6() {
            socket.set_only_v6(true).map_err(|e| error(&e))?;
        }
        socket.bind(&any.into()).map_err(|e| error(&e))?;
        receive_many(&socket);
        report(&socket, any.is_ipv6()).map_err(|errno| error(&errno.into()))?;
        Ok(Self { socket: socket.into(), both_families: false, dont_fragment: [false; 2], sends_runs: true })
    }

    /// A bound socket that leads to a container: it tells and chooses the host's address of each datagram.
    pub(super) fn publish(socket: OwnedFd) -> io::Result<Self> {
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
        receive_many(&socket);
        socket.set_nonblocking(true)?;
        // Another process may have left it set.
        let dont_fragment = [true; 2];
        Ok(Self { socket: socket.into(), both_families: ipv6, dont_fragment, sends_runs: true })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn send(&mut self, to: SocketAddr, with: Departure, bytes: &[u8]) -> Result<(), OutsideError> {
        let [v4, v6] = &mut self.dont_fragment;
        let set = if to.is_ipv4() { v4 } else { v6 };
        if *set != with.dont_fragment {
            set_dont_fragment(self.socket.as_fd(), to.is_ipv6(), with.dont_fragment).map_err(|errno| error(&errno.into()))?;
            *set = with.dont_fragment;
        }
        let plain = Departure { dont_fragment: with.dont_fragment, ..Departure::default() };
        let sent = if with == plain {
            uninterrupted(|| self.socket.send_to(bytes, self.peer(to)))
        } else {
            uninterrupted(|| self.send_with(to, with, None, bytes))
        };
        sent.map(drop)
    }

    /// Sends datagrams of `len` bytes each, by one call where the kernel can; the number of those that could not be sent.
    pub(super) fn send_run(&mut self, to: SocketAddr, with: Departure, len: usize, bytes: &[u8]) -> usize {
        if self.sends_runs && bytes.len() > len {
            match uninterrupted(|| self.send_with(to, with, u16::try_from(len).ok(), bytes)) {
                Ok(_) => return 0,
                Err(OutsideError::MessageTooLong(_) | OutsideError::Failed) => self.sends_runs = false,
                // The socket is full, or has an older datagram's error to tell.
                Err(_) => (),
            }
        }
        // An error that stood in the way has been told by now, or will be by the error queue.
        bytes.chunks(len).filter(|datagram| self.send(to, with, datagram).or_else(|_| self.send(to, with, datagram)).is_err()).count()
    }

    /// A peer's address as this socket writes it.
    fn peer(&self, to: SocketAddr) -> SocketAddr {
        match to.ip() {
            IpAddr::V4(ip) if self.both_families => SocketAddr::from((ip.to_ipv6_mapped(), to.port())),
            _ => to,
        }
    }

    /// Sends what leaves with an address, a time to live or a traffic class of its own, or in datagrams of so many bytes. What goes to a peer of IPv4 is
    /// said in IPv4's words even on a socket of both families, but for the address, of which the kernel takes the other form alone.
    fn send_with(&self, to: SocketAddr, with: Departure, each: Option<u16>, bytes: &[u8]) -> io::Result<usize> {
        let peer = SockaddrStorage::from(self.peer(to));
        let (ttl, class) = (with.ttl.map(i32::from), i32::from(with.traffic_class));
        let from = with.from.map(|from| self.peer(SocketAddr::new(from, 0)).ip());
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
            each.as_ref().map(ControlMessage::UdpGsoSegments),
        ];
        // As many as there are stand first, in place of those that are not.
        let count = messages.iter().flatten().count();
        let mut given = [ControlMessage::Ipv4Ttl(&64); 5];
        given.iter_mut().zip(messages.into_iter().flatten()).for_each(|(place, message)| *place = message);
        let given = given.get(..count).unwrap_or_default();
        Ok(sendmsg(self.socket.as_raw_fd(), &[IoSlice::new(bytes)], given, MsgFlags::MSG_NOSIGNAL, Some(&peer))?)
    }

    /// Receives a datagram, or several that came together, its traffic class and, on a published port, the address that its client sent it to.
    pub(super) fn receive(&self, into: &mut [u8]) -> Result<Datagram, OutsideError> {
        uninterrupted(|| self.receive_at(into))
    }

    fn receive_at(&self, into: &mut [u8]) -> io::Result<Datagram> {
        const CLASSES: usize = cmsg_space::<u8>() + cmsg_space::<i32>();
        const EACH: usize = cmsg_space::<i32>();
        let mut space = [0; cmsg_space::<libc::in_pktinfo>() + cmsg_space::<libc::in6_pktinfo>() + CLASSES + EACH];
        let mut slices = [IoSliceMut::new(into)];
        let message = recvmsg::<SockaddrStorage>(self.socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty())?;
        let (mut to, mut traffic_class, mut each) = (None, 0, message.bytes);
        for ancillary in message.cmsgs()? {
            match ancillary {
                ControlMessageOwned::Ipv4PacketInfo(info) => to = Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into()),
                ControlMessageOwned::Ipv6PacketInfo(info) => to = Some(IpAddr::from(info.ipi6_addr.s6_addr).to_canonical()),
                ControlMessageOwned::Ipv4Tos(class) => traffic_class = class,
                ControlMessageOwned::Ipv6TClass(class) => traffic_class = u8::try_from(class).unwrap_or_default(),
                ControlMessageOwned::UdpGroSegments(size) => each = usize::try_from(size).ok().filter(|size| *size > 0).unwrap_or(each),
                _ => (),
            }
        }
        let from = message.address.as_ref().and_then(reports::address).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Datagram { len: message.bytes, each, from, to, traffic_class })
    }

    /// The oldest error in the queue.
    pub(super) fn error(&self) -> Option<DatagramError> {
        let mut payload = [0; Quote::MAX];
        let reports::Reported { to, error, report, quoted } = reports::next(self.socket.as_raw_fd(), &mut payload)?;
        Some(DatagramError { to, error, report, quote: Quote::of(payload.get(..quoted).unwrap_or_default()) })
    }
}

/// Bytes of datagrams that may wait in a socket, without what the kernel keeps for each: some milliseconds of a fast sender, so that a
/// worker off its processor loses none.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Makes room for what comes while the worker is busy, as much of it as the host allows (socket(7), SO_RCVBUF), which takes no memory until
/// it comes; and takes what the kernel has put together as it is (udp(7), UDP_GRO), where it knows how.
fn receive_many(socket: &Socket) {
    let _ = setsockopt(socket, sockopt::UdpGroSegment, &true);
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a run of datagrams comes to at a peer on loopback, whose MTU is 65,536, and whether the kernel took it in one call.
    fn sent(len: usize, count: usize, with: Departure) -> (Vec<Vec<u8>>, bool) {
        let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        peer.set_nonblocking(true).unwrap();
        let mut socket = Datagrams::bind(Ipv4Addr::LOCALHOST.into()).unwrap();
        let bytes: Vec<u8> = (0..len * count).map(|at| (at / len) as u8).collect();
        assert_eq!(socket.send_run(peer.local_addr().unwrap(), with, len, &bytes), 0);
        let mut room = vec![0; 65_536];
        let heard = std::iter::from_fn(|| peer.recv(&mut room).ok().map(|len| room[..len].to_vec())).collect();
        (heard, socket.sends_runs)
    }

    #[test]
    fn a_run_is_many_datagrams_in_order_sent_by_one_call() {
        let marked = Departure { ttl: Some(9), traffic_class: 0xb8, ..Departure::default() };
        for (len, count, with) in [(1, 64, Departure::default()), (1400, 20, Departure::default()), (300, 7, marked)] {
            let (heard, by_one_call) = sent(len, count, with);
            assert!(by_one_call, "the kernel refused {count} of {len} bytes");
            assert!(heard == (0..count).map(|at| vec![at as u8; len]).collect::<Vec<_>>(), "{count} of {len} bytes");
        }
    }

    #[test]
    fn what_was_sent_by_one_call_is_received_by_one() {
        let receiver = Datagrams::bind(Ipv4Addr::LOCALHOST.into()).unwrap();
        let SocketAddr::V4(at) = receiver.socket.local_addr().unwrap() else { panic!("not IPv4") };
        let mut sender = Datagrams::bind(Ipv4Addr::LOCALHOST.into()).unwrap();
        let with = Departure { traffic_class: 0xb8, ..Departure::default() };
        let bytes: Vec<u8> = (0..20 * 1000 + 7).map(|at| (at / 1000) as u8).collect();
        assert_eq!(sender.send_run((Ipv4Addr::LOCALHOST, at.port()).into(), with, 1000, &bytes), 0);
        let mut room = vec![0; 65_536];
        let Datagram { len, each, traffic_class, .. } = receiver.receive(&mut room).unwrap();
        assert_eq!((len, each, traffic_class), (bytes.len(), 1000, 0xb8));
        assert!(room[..len] == bytes);
        assert_eq!(receiver.receive(&mut room).map(|datagram| datagram.len), Err(OutsideError::WouldBlock));
        sender.send((Ipv4Addr::LOCALHOST, at.port()).into(), with, b"alone").unwrap();
        assert_eq!(receiver.receive(&mut room).map(|datagram| (datagram.len, datagram.each)), Ok((5, 5)));
    }

    #[test]
    fn more_waits_in_a_socket_than_the_host_gives_by_itself() {
        let plain = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        let ours = Datagrams::bind(Ipv4Addr::LOCALHOST.into()).unwrap();
        let room = socket2::SockRef::from(&ours.socket).recv_buffer_size().unwrap();
        assert!(room >= plain.recv_buffer_size().unwrap() * 2, "{room} bytes");
    }

    #[test]
    fn what_the_kernel_does_not_take_as_a_run_is_sent_one_by_one() {
        // More than it takes in one call.
        let (heard, by_one_call) = sent(10, 200, Departure::default());
        assert!(!by_one_call);
        assert!(heard == (0..200).map(|at| vec![at as u8; 10]).collect::<Vec<_>>());
    }
}
