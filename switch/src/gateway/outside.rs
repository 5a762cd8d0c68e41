//! The outside as the gateway sees it: host sockets, by number.
//!
//! The gateway decides when a socket is opened, read, written and closed; whoever implements [`Outside`] owns the descriptors
//! (the runtime) or plays the world (the tests). Nothing here blocks: what would block answers [`OutsideError::WouldBlock`], and
//! [`Gateway::ready`](super::Gateway::ready) is called once the socket can go on. Readiness is edge-triggered: after a
//! `WouldBlock` exactly one notice follows.

use std::net::{IpAddr, SocketAddr};

use super::LeaseQuestion;
use crate::{DropReason, Frame, Mac};

/// A host socket of one gateway; the gateway makes these up and uses each for one socket at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u32);

/// What became possible on a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    pub readable: bool,
    pub writable: bool,
    /// An error or a hang-up waits to be read.
    pub error: bool,
}

/// Why a host socket would not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutsideError {
    #[error("the socket would block")]
    WouldBlock,
    #[error("connection refused")]
    Refused,
    #[error("connection reset")]
    Reset,
    #[error("network unreachable")]
    NetworkUnreachable,
    #[error("host unreachable")]
    HostUnreachable,
    #[error("timed out")]
    TimedOut,
    /// Longer than one packet may be on the way there: so many bytes with its IP header, 0 where that is not known.
    #[error("message too long")]
    MessageTooLong(u16),
    #[error("not permitted")]
    Forbidden,
    /// An ICMP error that is none of these, such as "protocol unreachable" or a parameter problem.
    #[error("rejected on the way")]
    Rejected,
    /// No descriptors, ports or memory left.
    #[error("out of sockets")]
    Exhausted,
    #[error("the socket failed")]
    Failed,
}

impl OutsideError {
    /// Whether a send on a UDP socket can have failed for an older datagram: the kernel reports an ICMP error once, on the next call.
    pub const fn may_be_older(self) -> bool {
        let unreachable = matches!(self, Self::Refused | Self::NetworkUnreachable | Self::HostUnreachable);
        unreachable || matches!(self, Self::MessageTooLong(_) | Self::Forbidden | Self::Rejected)
    }
}

/// A datagram read from a host socket, or several from one peer that the kernel put one behind the other (udp(7), UDP_GRO).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Bytes of payload in all.
    pub len: usize,
    /// Bytes of each, but for the last, which may be shorter. Of one alone, its length.
    pub each: usize,
    pub from: SocketAddr,
    /// The host address it was sent to, where the kernel tells.
    pub to: Option<IpAddr>,
    /// DSCP and ECN as it arrived; 0 where the kernel does not tell.
    pub traffic_class: u8,
}

impl Datagram {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.len.div_ceil(self.each.max(1)).max(1)
    }
}

/// What a datagram leaves the host with, beside what it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Departure {
    /// The host address, where that matters (a published port).
    pub from: Option<IpAddr>,
    /// The time to live; `None`: the host's own.
    pub ttl: Option<u8>,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// In one packet that nobody cuts (RFC 1191, 2), or not at all: [`OutsideError::MessageTooLong`].
    pub dont_fragment: bool,
}

/// An echo request's numbers, and what it leaves the host with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoRequest {
    pub sequence: u16,
    pub ttl: u8,
    /// As of a [`Departure`].
    pub dont_fragment: bool,
}

/// An echo reply read from a host socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoReply {
    /// Of the payload, without the ICMP header.
    pub len: usize,
    pub from: IpAddr,
    pub sequence: u16,
    /// What was left of its time to live, where the kernel tells.
    pub ttl: Option<u8>,
}

/// What became of a datagram that did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramError {
    /// Where it went.
    pub to: SocketAddr,
    pub error: OutsideError,
    /// The ICMP message that said so; `None` if the host found out by itself.
    pub report: Option<Report>,
    pub quote: Quote,
}

/// The beginning of a datagram's payload, as far as it came back with an error. Programs know their own by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    bytes: [u8; Self::MAX],
    len: usize,
}

impl Quote {
    /// Bytes at most.
    pub const MAX: usize = 64;
    pub const EMPTY: Self = Self { bytes: [0; Self::MAX], len: 0 };

    /// The first of `payload`, as many as there is room for.
    pub fn of(payload: &[u8]) -> Self {
        let mut quote = Self::EMPTY;
        quote.len = payload.len().min(Self::MAX);
        quote.bytes.iter_mut().zip(payload).for_each(|(place, byte)| *place = *byte);
        quote
    }

    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// What became of an echo request that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoError {
    /// Where the request went.
    pub to: IpAddr,
    pub sequence: u16,
    pub error: OutsideError,
    /// The ICMP message that said so; `None` if the host found out by itself.
    pub report: Option<Report>,
}

/// An ICMP error that the host received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The router or peer that sent it.
    pub from: IpAddr,
    pub kind: u8,
    pub code: u8,
    /// The MTU of the next hop, where the error tells one (RFC 1191, 4).
    pub mtu: u16,
}

/// Host sockets and the way back into the switch. One value serves one gateway (one port), on the thread that owns it.
pub trait Outside {
    /// Sends a frame from the gateway, port 0, through the switch. It is copied or written before this returns.
    fn emit(&mut self, frame: &Frame<'_>);

    /// Opens a TCP socket and starts to connect it. `Ok`: a readiness with `writable` or `error` follows, and then
    /// [`tcp_outcome`](Self::tcp_outcome) tells how it went.
    fn tcp_connect(&mut self, socket: SocketId, to: SocketAddr) -> Result<(), OutsideError>;

    /// How a connect ended; `WouldBlock` while it has not.
    fn tcp_outcome(&mut self, socket: SocketId) -> Result<(), OutsideError>;

    /// Reads what has come; `Ok(0)` is the peer's FIN.
    fn tcp_recv(&mut self, socket: SocketId, into: &mut [u8]) -> Result<usize, OutsideError>;

    /// Writes what the socket takes now.
    fn tcp_send(&mut self, socket: SocketId, bytes: &[u8]) -> Result<usize, OutsideError>;

    /// Sends FIN: no more will be written.
    fn tcp_finish(&mut self, socket: SocketId);

    /// Closes the socket with a RST.
    fn tcp_reset(&mut self, socket: SocketId);

    /// Opens a UDP socket for datagrams to addresses of `of`'s family, on a port the host chooses.
    fn udp_open(&mut self, socket: SocketId, of: IpAddr) -> Result<(), OutsideError>;

    /// Sends one datagram.
    fn udp_send(&mut self, socket: SocketId, to: SocketAddr, with: Departure, bytes: &[u8]) -> Result<(), OutsideError>;

    /// Reads one datagram, or several that came together.
    fn udp_recv(&mut self, socket: SocketId, into: &mut [u8]) -> Result<Datagram, OutsideError>;

    /// Takes the next error that a router or a peer reported on a UDP socket, or the host itself found (Linux: IP_RECVERR and the
    /// error queue). Asked after a readiness with `error` and after a send or receive that failed; `None`: no more.
    fn udp_error(&mut self, socket: SocketId) -> Option<DatagramError> {
        let _ = socket;
        None
    }

    /// Opens a socket for ICMP echo to addresses of `of`'s family, under an identifier of the host's choice. `Forbidden`: the host
    /// lets this process have none.
    fn echo_open(&mut self, socket: SocketId, of: IpAddr) -> Result<(), OutsideError>;

    /// Sends an echo request.
    fn echo_send(&mut self, socket: SocketId, to: IpAddr, request: EchoRequest, payload: &[u8]) -> Result<(), OutsideError>;

    /// Reads the payload of one echo reply.
    fn echo_recv(&mut self, socket: SocketId, into: &mut [u8]) -> Result<EchoReply, OutsideError>;

    /// Takes the next error about a request of this socket, as [`udp_error`](Self::udp_error) does.
    fn echo_error(&mut self, socket: SocketId) -> Option<EchoError>;

    /// Asks whoever keeps the addresses about a lease; never waits. The answer comes by
    /// [`Gateway::lease_answered`](super::Gateway::lease_answered), or never. `Err`: too many are being asked about.
    fn ask_lease(&mut self, question: LeaseQuestion) -> Result<(), DropReason>;

    /// Whether a frame to `mac` would be another port's: of the address that the IPAM gave it, or heard behind it.
    fn is_anothers(&self, mac: Mac) -> bool;

    /// Closes a socket of any kind. The number may then be used anew.
    fn close(&mut self, socket: SocketId);

    /// Counts something that came from outside and goes nowhere.
    fn dropped(&mut self, reason: DropReason) {
        let _ = reason;
    }
}
