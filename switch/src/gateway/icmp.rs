//! ICMP (RFC 792): ping to the gateway, and the errors by which a container learns why something did not go out.

use std::net::{Ipv4Addr, SocketAddrV4};

use pnet_packet::{icmp::IcmpPacket, ip::IpNextHeaderProtocol, ipv4::MutableIpv4Packet};

use super::{
    Core, Outside, OutsideError, Report, View,
    build::{IPV4_HEADER, Ip, Link, UDP_HEADER},
    echo::{self, EchoKey},
    packet::{self, Packet},
    policy,
};
use crate::{Checksum, DropReason, Time, checksum};

pub(super) const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
pub(super) const ECHO_REQUEST: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;
/// A code of unreachable: the packet was too long for the next hop and not to be cut (RFC 1191).
const TOO_LONG: u8 = 4;

/// An ICMP error packet is at most this long (RFC 1812, 4.3.2.3).
const ERROR_MAX: usize = 576;
/// IP header, ICMP header and the four bytes after it.
const ERROR_HEADERS: usize = 28;

/// Why a packet did not get where it wanted to, in ICMP's words: type and code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Error {
    NetworkUnreachable,
    HostUnreachable,
    PortUnreachable,
    /// Communication administratively prohibited (RFC 1812, 5.2.7.1): what a packet filter says that does not hide.
    Prohibited,
    /// The time to live ran out here.
    TimeExceeded,
}

impl Error {
    const fn kind_and_code(self) -> (u8, u8) {
        match self {
            Self::NetworkUnreachable => (UNREACHABLE, 0),
            Self::HostUnreachable => (UNREACHABLE, 1),
            Self::PortUnreachable => (UNREACHABLE, 3),
            Self::Prohibited => (UNREACHABLE, 13),
            Self::TimeExceeded => (TIME_EXCEEDED, 0),
        }
    }

    /// The ICMP error that would have made a host socket fail this way, if any did.
    pub(super) const fn of(error: OutsideError) -> Option<Self> {
        match error {
            OutsideError::Refused => Some(Self::PortUnreachable),
            OutsideError::NetworkUnreachable => Some(Self::NetworkUnreachable),
            OutsideError::HostUnreachable => Some(Self::HostUnreachable),
            OutsideError::Forbidden => Some(Self::Prohibited),
            _ => None,
        }
    }
}

/// An error as the container hears it: who says what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relayed {
    from: Ipv4Addr,
    kind: u8,
    code: u8,
    mtu: u16,
}

impl Relayed {
    /// An error of the gateway's own.
    fn ours(view: &View, error: Error) -> Option<Self> {
        let (kind, code) = error.kind_and_code();
        Some(Self { from: view.config.ip?, kind, code, mtu: 0 })
    }

    /// What a host socket heard. A router speaks in its own name, unless that name means something else inside; an error that is
    /// none (RFC 1122, 3.2.2) is not passed on.
    pub(super) fn of(view: &View, error: OutsideError, report: Option<Report>) -> Option<Self> {
        let Some(Report { from, kind, code, mtu }) = report else { return Self::ours(view, Error::of(error)?) };
        let from = policy::apparent(view, from).or(view.config.ip)?;
        let mtu = if (kind, code) == (UNREACHABLE, TOO_LONG) { mtu } else { 0 };
        matches!(kind, UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM).then_some(Self { from, kind, code, mtu })
    }
}

/// Whether the checksum of an ICMP message is right.
pub(super) fn is_sound(packet: &Packet<'_>) -> bool {
    packet.checksum == Checksum::Verified || checksum::finished(checksum::sum(packet.payload, 0)) == 0
}

/// The header of an echo message, its checksum still to come.
pub(super) const fn echo_header(kind: u8, id: u16, sequence: u16) -> [u8; echo::HEADER] {
    let ([a, b], [c, d]) = (id.to_be_bytes(), sequence.to_be_bytes());
    [kind, 0, 0, 0, a, b, c, d]
}

/// Answers a ping to the gateway.
pub(super) fn to_gateway(core: &mut Core, packet: &Packet<'_>, outside: &mut impl Outside) -> Result<(), DropReason> {
    let request = IcmpPacket::new(packet.payload).filter(|icmp| icmp.get_icmp_type().0 == ECHO_REQUEST);
    if request.is_none() || packet.payload.len() < 8 {
        return Err(DropReason::GatewayUnsupported);
    }
    if !is_sound(packet) {
        return Err(DropReason::GatewayChecksum);
    }
    let link = Link { from: core.view.config.mac, to: packet.mac };
    let ip = Ip::whole(packet.destination, packet.source, packet::ICMP);
    core.builder.send_ipv4(outside, link, ip, packet.payload.len(), |bytes| {
        bytes.copy_from_slice(packet.payload);
        finish(bytes, ECHO_REPLY, 0);
    });
    Ok(())
}

/// Tells the sender of `packet` what went wrong, unless the packet is itself an ICMP error (RFC 1122, 3.2.2) or too many errors
/// were sent this second.
pub(super) fn error(core: &mut Core, now: Time, packet: &Packet<'_>, error: Error, outside: &mut impl Outside) {
    let is_request = packet.payload.first().is_some_and(|kind| matches!(*kind, ECHO_REPLY | ECHO_REQUEST | 13..=18));
    if packet.protocol == packet::ICMP && !is_request {
        return;
    }
    let link = Link { from: core.view.config.mac, to: packet.mac };
    let Some(error) = Relayed::ours(&core.view, error) else { return };
    error_quoting(core, now, link, packet.source, packet.quote(ERROR_MAX - ERROR_HEADERS), error, outside);
}

/// The error for a packet of which only `quoted` is left: its IP header and at least eight bytes more.
fn error_quoting(core: &mut Core, now: Time, link: Link, to: Ipv4Addr, quoted: &[u8], error: Relayed, outside: &mut impl Outside) {
    if !core.errors.allow(now, core.view.config.limits.icmp_errors) {
        return;
    }
    let Relayed { from, kind, code, mtu } = error;
    core.builder.send_ipv4(outside, link, Ip::whole(from, to, packet::ICMP), 8 + quoted.len(), |bytes| {
        if let Some(([.., mtu0, mtu1], quote)) = bytes.split_first_chunk_mut::<8>() {
            [*mtu0, *mtu1] = mtu.to_be_bytes();
            quote.copy_from_slice(quoted);
        }
        finish(bytes, kind, code);
    });
}

/// The error for a datagram that is no longer there: a quote of its headers is made up from its endpoints.
pub(super) fn error_about_datagram(
    core: &mut Core,
    now: Time,
    link: Link,
    (inside, peer): (SocketAddrV4, SocketAddrV4),
    error: Error,
    outside: &mut impl Outside,
) {
    let Some(error) = Relayed::ours(&core.view, error) else { return };
    let ([a, b], [c, d]) = (inside.port().to_be_bytes(), peer.port().to_be_bytes());
    let quoted = made_up(packet::UDP, *inside.ip(), *peer.ip(), [a, b, c, d, 0, UDP_HEADER as u8, 0, 0]);
    error_quoting(core, now, link, *inside.ip(), &quoted, error, outside);
}

/// The error for an echo request that is no longer there.
pub(super) fn error_about_echo(
    core: &mut Core,
    now: Time,
    link: Link,
    (key, peer, sequence): (EchoKey, Ipv4Addr, u16),
    error: Relayed,
    outside: &mut impl Outside,
) {
    let quoted = made_up(packet::ICMP, key.inside, peer, echo_header(ECHO_REQUEST, key.id, sequence));
    error_quoting(core, now, link, key.inside, &quoted, error, outside);
}

/// A packet whose payload is one header.
fn made_up(protocol: u8, source: Ipv4Addr, destination: Ipv4Addr, header: [u8; 8]) -> [u8; IPV4_HEADER + 8] {
    let mut bytes = [0; IPV4_HEADER + 8];
    if let Some(mut ip) = MutableIpv4Packet::new(&mut bytes) {
        ip.set_version(4);
        ip.set_header_length(5);
        ip.set_total_length((IPV4_HEADER + header.len()) as u16);
        ip.set_ttl(64);
        ip.set_next_level_protocol(IpNextHeaderProtocol(protocol));
        ip.set_source(source);
        ip.set_destination(destination);
        let sum = checksum::finished(checksum::sum(pnet_packet::Packet::packet(&ip).get(..IPV4_HEADER).unwrap_or_default(), 0));
        ip.set_checksum(sum);
    }
    if let Some(payload) = bytes.last_chunk_mut() {
        *payload = header;
    }
    bytes
}

/// Writes type, code and checksum.
pub(super) fn finish(bytes: &mut [u8], kind: u8, code: u8) {
    if let Some(first) = bytes.first_chunk_mut() {
        *first = [kind, code, 0, 0];
    }
    let sum = checksum::finished(checksum::sum(bytes, 0)).to_be_bytes();
    if let Some(field) = bytes.get_mut(2..4) {
        field.copy_from_slice(&sum);
    }
}

/// At most so many in any second that starts when the last one ended.
#[derive(Debug, Default)]
pub(super) struct RateLimit {
    since: Time,
    sent: u32,
}

impl RateLimit {
    fn allow(&mut self, now: Time, per_second: u32) -> bool {
        if now.since(self.since).as_secs() >= 1 {
            *self = Self { since: now, sent: 0 };
        }
        self.sent = self.sent.saturating_add(1);
        self.sent <= per_second
    }
}
