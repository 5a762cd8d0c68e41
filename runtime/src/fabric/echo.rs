//! Host sockets for echo of ICMP and ICMPv6: a ping socket where the host lets this process have one, else a raw socket.
//!
//! | socket | who may | identifier | checksum | what it hears |
//! |---|---|---|---|---|
//! | ping (icmp(7)) | groups in net.ipv4.ping_group_range, which holds for both families | the kernel's | the kernel's | replies to its own |
//! | raw (raw(7)) | CAP_NET_RAW | ours | ours, of ICMPv6 the kernel's | everybody's; a filter leaves its own |

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use netloom_switch::{
    checksum,
    gateway::{EchoError, EchoReply, EchoRequest, OutsideError},
};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, cmsg_space, recvmsg, sendmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::{reports, sockets};
use crate::switches::Feature;

/// Type, code, checksum, identifier and sequence number (RFC 792, and RFC 4443, 4.1).
const HEADER: usize = 8;
/// What a raw socket of IPv4 shows before the ICMP header: an IP header without options.
const IP_HEADER: usize = 20;

/// What differs between ICMP and ICMPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    const fn request(self) -> u8 {
        if matches!(self, Self::V4) { 8 } else { 128 }
    }

    const fn reply(self) -> u8 {
        if matches!(self, Self::V4) { 0 } else { 129 }
    }

    fn socket(self, kind: Type) -> io::Result<Socket> {
        let (domain, protocol) = match self {
            Self::V4 => (Domain::IPV4, Protocol::ICMPV4),
            Self::V6 => (Domain::IPV6, Protocol::ICMPV6),
        };
        Socket::new(domain, kind.nonblocking(), Some(protocol))
    }

    /// Errors, and the time to live of replies.
    fn tell(self, socket: &Socket) -> nix::Result<()> {
        match self {
            Self::V4 => {
                setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
                setsockopt(socket, sockopt::Ipv4RecvTtl, &true)
            }
            Self::V6 => {
                setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
                setsockopt(socket, sockopt::Ipv6RecvHopLimit, &true)
            }
        }
    }
}

/// A socket for ICMP echo.
#[derive(Debug)]
pub(super) struct EchoSocket {
    socket: Socket,
    family: Family,
    /// The identifier, where we choose it: the socket is a raw one.
    raw: Option<u16>,
    /// What was sent last must not be cut.
    dont_fragment: bool,
}

impl EchoSocket {
    /// Opens one for peers of `of`'s family; `Forbidden`: the host allows neither kind.
    pub(super) fn open(of: IpAddr) -> Result<Self, OutsideError> {
        let family = Family::of(of);
        let opened = match ping(family) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EPROTONOSUPPORT)) => raw(family),
            other => other,
        };
        opened.map_err(|error| sockets::error(&error))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends a request.
    pub(super) fn send(&mut self, to: IpAddr, with: EchoRequest, payload: &[u8]) -> io::Result<()> {
        if self.dont_fragment != with.dont_fragment {
            sockets::set_dont_fragment(self.fd(), self.family == Family::V6, with.dont_fragment)?;
            self.dont_fragment = with.dont_fragment;
        }
        let ([a, b], [c, d]) = (self.raw.unwrap_or_default().to_be_bytes(), with.sequence.to_be_bytes());
        let request = self.family.request();
        let mut header = [request, 0, 0, 0, a, b, c, d];
        if self.raw.is_some() && self.family == Family::V4 {
            let [e, f] = checksum::finished(checksum::sum(payload, checksum::sum(&header, 0))).to_be_bytes();
            header = [request, 0, e, f, a, b, c, d];
        }
        let peer = SockaddrStorage::from(SocketAddr::new(to, 0));
        let slices = [IoSlice::new(&header), IoSlice::new(payload)];
        let ttl = i32::from(with.ttl);
        let ttl = match self.family {
            Family::V4 => ControlMessage::Ipv4Ttl(&ttl),
            Family::V6 => ControlMessage::Ipv6HopLimit(&ttl),
        };
        sendmsg(self.socket.as_raw_fd(), &slices, &[ttl], MsgFlags::MSG_NOSIGNAL, Some(&peer))?;
        Ok(())
    }

    /// Reads the payload of one reply.
    pub(super) fn receive(&self, into: &mut [u8]) -> io::Result<EchoReply> {
        let mut headers = [0; IP_HEADER + HEADER];
        let shows_ip = self.raw.is_some() && self.family == Family::V4;
        let headers = if shows_ip { &mut headers[..] } else { &mut headers[IP_HEADER..] };
        loop {
            let mut space = [0; cmsg_space::<i32>()];
            let mut slices = [IoSliceMut::new(headers), IoSliceMut::new(into)];
            let message = recvmsg::<SockaddrStorage>(self.socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty())?;
            let ttl = message.cmsgs()?.find_map(|ancillary| match ancillary {
                ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => u8::try_from(ttl).ok(),
                _ => None,
            });
            let from = message.address.as_ref().and_then(reports::address).map(|peer| peer.ip());
            let len = message.bytes.checked_sub(headers.len());
            let (Some(from), Some(len)) = (from, len) else { continue };
            if let Some(sequence) = self.reply(headers) {
                return Ok(EchoReply { len, from, sequence, ttl });
            }
        }
    }

    /// The sequence number of a reply to one of our requests.
    fn reply(&self, headers: &[u8]) -> Option<u16> {
        let (ip, [kind, _, _, _, a, b, c, d]) = headers.split_last_chunk::<HEADER>()?;
        // Options would push the ICMP header out of its place; nobody answers a ping with any.
        let plain = ip.first().is_none_or(|first| *first == 0x45);
        let ours = self.raw.is_none_or(|id| id == u16::from_be_bytes([*a, *b]));
        (plain && ours && *kind == self.family.reply()).then(|| u16::from_be_bytes([*c, *d]))
    }

    /// The oldest error in the queue that is about one of our requests.
    pub(super) fn error(&self) -> Option<EchoError> {
        loop {
            let mut header = [0; HEADER];
            let reported = reports::next(self.socket.as_raw_fd(), &mut header)?;
            if reported.report.is_none() && matches!(reported.error, OutsideError::MessageTooLong(_)) {
                // The host found that out before there was a packet: it tells no number.
                return Some(EchoError { to: reported.to.ip(), sequence: 0, error: reported.error, report: None });
            }
            let [kind, _, _, _, a, b, c, d] = header;
            let ours = kind == self.family.request() && self.raw.is_none_or(|id| id == u16::from_be_bytes([a, b]));
            if ours && reported.quoted == HEADER {
                let (to, sequence) = (reported.to.ip(), u16::from_be_bytes([c, d]));
                return Some(EchoError { to, sequence, error: reported.error, report: reported.report });
            }
        }
    }
}

/// Whether this process may have ping sockets; one setting decides for both families.
pub(crate) fn ping_sockets_are_allowed() -> bool {
    ping(Family::V4).is_ok()
}

fn ping(family: Family) -> io::Result<EchoSocket> {
    if Feature::Ping.is_off() {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    let socket = family.socket(Type::DGRAM)?;
    family.tell(&socket)?;
    Ok(EchoSocket { socket, family, raw: None, dont_fragment: false })
}

fn raw(family: Family) -> io::Result<EchoSocket> {
    let socket = family.socket(Type::RAW)?;
    // No two open sockets of this process have one number, and no two processes begin at one. Of more than 65,536 descriptors two may
    // have one identifier: each then hears the other's replies too, as a host does whose programs ping by raw sockets.
    let id = (std::process::id() as u16).wrapping_add(socket.as_raw_fd() as u16);
    match family {
        Family::V4 => socket.attach_filter(&replies_to(id))?,
        Family::V6 => socket.attach_filter(&replies6_to(id))?,
    }
    family.tell(&socket)?;
    Ok(EchoSocket { socket, family, raw: Some(id), dont_fragment: false })
}

const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const END: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// A filter that lets echo replies with this identifier pass; a packet begins with its IP header.
fn replies_to(id: u16) -> [SockFilter; 7] {
    [
        SockFilter::new((libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16, 0, 0, 0),
        SockFilter::new((libc::BPF_LD | libc::BPF_B | libc::BPF_IND) as u16, 0, 0, 0),
        SockFilter::new(JUMP, 0, 3, Family::V4.reply().into()),
        SockFilter::new((libc::BPF_LD | libc::BPF_H | libc::BPF_IND) as u16, 0, 0, 4),
        SockFilter::new(JUMP, 0, 1, id.into()),
        SockFilter::new(END, 0, 0, u32::MAX),
        SockFilter::new(END, 0, 0, 0),
    ]
}

/// The same of ICMPv6, where a packet begins with its ICMP header.
fn replies6_to(id: u16) -> [SockFilter; 6] {
    [
        SockFilter::new((libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16, 0, 0, 0),
        SockFilter::new(JUMP, 0, 3, Family::V6.reply().into()),
        SockFilter::new((libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16, 0, 0, 4),
        SockFilter::new(JUMP, 0, 1, id.into()),
        SockFilter::new(END, 0, 0, u32::MAX),
        SockFilter::new(END, 0, 0, 0),
    ]
}
