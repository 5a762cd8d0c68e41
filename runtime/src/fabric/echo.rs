//! Host sockets for ICMP echo: a ping socket where the host lets this process have one, else a raw socket.
//!
//! | socket | who may | identifier | checksum | what it hears |
//! |---|---|---|---|---|
//! | ping (icmp(7)) | groups in net.ipv4.ping_group_range | the kernel's | the kernel's | replies to its own |
//! | raw (raw(7)) | CAP_NET_RAW | ours | ours | everybody's; a filter leaves its own |

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use netloom_switch::{
    checksum,
    gateway::{EchoError, EchoReply, OutsideError, Report},
};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, cmsg_space, recvmsg, sendmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::sockets;
use crate::switches::Feature;

/// Type, code, checksum, identifier and sequence number (RFC 792).
const HEADER: usize = 8;
/// What a raw socket shows before the ICMP header: an IP header without options.
const IP_HEADER: usize = 20;
const REPLY: u8 = 0;
const REQUEST: u8 = 8;

/// A socket for ICMP echo.
#[derive(Debug)]
pub(super) struct EchoSocket {
    socket: Socket,
    /// The identifier, where we choose it: the socket is a raw one.
    raw: Option<u16>,
}

impl EchoSocket {
    /// Opens one for peers of `of`'s family; `Forbidden`: the host allows neither kind.
    pub(super) fn open(of: IpAddr) -> Result<Self, OutsideError> {
        if of.is_ipv6() {
            return Err(OutsideError::Forbidden);
        }
        let opened = match ping() {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EPROTONOSUPPORT)) => raw(),
            other => other,
        };
        opened.map_err(|error| sockets::error(&error))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends a request.
    pub(super) fn send(&self, to: IpAddr, (sequence, ttl): (u16, u8), payload: &[u8]) -> io::Result<()> {
        let ([a, b], [c, d]) = (self.raw.unwrap_or_default().to_be_bytes(), sequence.to_be_bytes());
        let mut header = [REQUEST, 0, 0, 0, a, b, c, d];
        if self.raw.is_some() {
            let [e, f] = checksum::finished(checksum::sum(payload, checksum::sum(&header, 0))).to_be_bytes();
            header = [REQUEST, 0, e, f, a, b, c, d];
        }
        let peer = SockaddrStorage::from(SocketAddr::new(to, 0));
        let slices = [IoSlice::new(&header), IoSlice::new(payload)];
        let ttl = i32::from(ttl);
        sendmsg(self.socket.as_raw_fd(), &slices, &[ControlMessage::Ipv4Ttl(&ttl)], MsgFlags::MSG_NOSIGNAL, Some(&peer))?;
        Ok(())
    }

    /// Reads the payload of one reply.
    pub(super) fn receive(&self, into: &mut [u8]) -> io::Result<EchoReply> {
        let mut headers = [0; IP_HEADER + HEADER];
        let headers = if self.raw.is_some() { &mut headers[..] } else { &mut headers[IP_HEADER..] };
        loop {
            let mut space = [0; cmsg_space::<i32>()];
            let mut slices = [IoSliceMut::new(headers), IoSliceMut::new(into)];
            let message = recvmsg::<SockaddrStorage>(self.socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty())?;
            let ttl = message.cmsgs()?.find_map(|ancillary| match ancillary {
                ControlMessageOwned::Ipv4Ttl(ttl) => u8::try_from(ttl).ok(),
                _ => None,
            });
            let from = message.address.as_ref().and_then(|peer| Some(IpAddr::from(peer.as_sockaddr_in()?.ip())));
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
        (plain && ours && *kind == REPLY).then(|| u16::from_be_bytes([*c, *d]))
    }

    /// The oldest error in the queue that is about one of our requests (ip(7), IP_RECVERR).
    pub(super) fn error(&self) -> Option<EchoError> {
        const ERROR: usize = cmsg_space::<(libc::sock_extended_err, libc::sockaddr_in)>();
        loop {
            let mut space = [0; ERROR + cmsg_space::<i32>()];
            let mut quoted = [0; HEADER];
            let mut slices = [IoSliceMut::new(&mut quoted)];
            let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
            let message = recvmsg::<SockaddrStorage>(self.socket.as_raw_fd(), &mut slices, Some(&mut space), flags).ok()?;
            let told = message.cmsgs().ok()?.find_map(|ancillary| match ancillary {
                ControlMessageOwned::Ipv4RecvErr(error, offender) => Some((error, offender)),
                _ => None,
            });
            let to = message.address.as_ref().and_then(|peer| Some(IpAddr::from(peer.as_sockaddr_in()?.ip())));
            let whole = message.bytes == HEADER;
            let (true, Some((error, offender)), Some(to)) = (whole, told, to) else { continue };
            let [kind, _, _, _, a, b, c, d] = quoted;
            if kind == REQUEST && self.raw.is_none_or(|id| id == u16::from_be_bytes([a, b])) {
                let errno = i32::try_from(error.ee_errno).unwrap_or_default();
                let report = (error.ee_origin == libc::SO_EE_ORIGIN_ICMP).then_some(offender).flatten().map(|offender| Report {
                    from: IpAddr::from(offender.sin_addr.s_addr.to_ne_bytes()),
                    kind: error.ee_type,
                    code: error.ee_code,
                    mtu: u16::try_from(error.ee_info).unwrap_or_default(),
                });
                let error = sockets::error(&io::Error::from_raw_os_error(errno));
                return Some(EchoError { to, sequence: u16::from_be_bytes([c, d]), error, report });
            }
        }
    }
}

/// Whether this process may have ping sockets.
pub(crate) fn ping_sockets_are_allowed() -> bool {
    ping().is_ok()
}

fn ping() -> io::Result<EchoSocket> {
    if Feature::Ping.is_off() {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::ICMPV4))?;
    tell(&socket)?;
    Ok(EchoSocket { socket, raw: None })
}

fn raw() -> io::Result<EchoSocket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW.nonblocking(), Some(Protocol::ICMPV4))?;
    // No two open sockets of this process have one number, and no two processes begin at one.
    let id = (std::process::id() as u16).wrapping_add(socket.as_raw_fd() as u16);
    socket.attach_filter(&replies_to(id))?;
    tell(&socket)?;
    Ok(EchoSocket { socket, raw: Some(id) })
}

/// Errors, and the time to live of replies.
fn tell(socket: &Socket) -> nix::Result<()> {
    setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
    setsockopt(socket, sockopt::Ipv4RecvTtl, &true)
}

/// A filter that lets echo replies with this identifier pass; a packet begins with its IP header.
fn replies_to(id: u16) -> [SockFilter; 7] {
    let jump = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let end = (libc::BPF_RET | libc::BPF_K) as u16;
    [
        SockFilter::new((libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16, 0, 0, 0),
        SockFilter::new((libc::BPF_LD | libc::BPF_B | libc::BPF_IND) as u16, 0, 0, 0),
        SockFilter::new(jump, 0, 3, REPLY.into()),
        SockFilter::new((libc::BPF_LD | libc::BPF_H | libc::BPF_IND) as u16, 0, 0, 4),
        SockFilter::new(jump, 0, 1, id.into()),
        SockFilter::new(end, 0, 0, u32::MAX),
        SockFilter::new(end, 0, 0, 0),
    ]
}
