//! ICMP (RFC 792): ping to the gateway, and the errors by which a container learns why something did not go out.

use std::net::{Ipv4Addr, SocketAddrV4};

use pnet_packet::{icmp::IcmpPacket, ip::IpNextHeaderProtocol, ipv4::MutableIpv4Packet, udp::MutableUdpPacket};

use super::{
    Core, Outside, OutsideError,
    build::{IPV4_HEADER, Ip, Link, UDP_HEADER},
    packet::{self, Packet},
};
use crate::{Checksum, DropReason, Time, checksum};

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO_REQUEST: u8 = 8;
const TIME_EXCEEDED: u8 = 11;

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

/// Answers a ping to the gateway.
pub(super) fn to_gateway(core: &mut Core, packet: &Packet<'_>, outside: &mut impl Outside) -> Result<(), DropReason> {
    let request = IcmpPacket::new(packet.payload).filter(|icmp| icmp.get_icmp_type().0 == ECHO_REQUEST);
    if request.is_none() || packet.payload.len() < 8 {
        return Err(DropReason::GatewayUnsupported);
    }
    if packet.checksum != Checksum::Verified && checksum::finished(checksum::sum(packet.payload, 0)) != 0 {
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
    error_quoting(core, now, link, packet.source, packet.quote(ERROR_MAX - ERROR_HEADERS), error, outside);
}

/// The error for a packet of which only `quoted` is left: its IP header and at least eight bytes more.
fn error_quoting(core: &mut Core, now: Time, link: Link, to: Ipv4Addr, quoted: &[u8], error: Error, outside: &mut impl Outside) {
    let Some(own) = core.view.config.ip else { return };
    if !core.errors.allow(now, core.view.config.limits.icmp_errors) {
        return;
    }
    let (kind, code) = error.kind_and_code();
    core.builder.send_ipv4(outside, link, Ip::whole(own, to, packet::ICMP), 8 + quoted.len(), |bytes| {
        if let Some((_, quote)) = bytes.split_at_mut_checked(8) {
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
    let mut quoted = [0; IPV4_HEADER + UDP_HEADER];
    if let Some(mut ip) = MutableIpv4Packet::new(&mut quoted) {
        ip.set_version(4);
        ip.set_header_length(5);
        ip.set_total_length((IPV4_HEADER + UDP_HEADER) as u16);
        ip.set_ttl(64);
        ip.set_next_level_protocol(IpNextHeaderProtocol(packet::UDP));
        ip.set_source(*inside.ip());
        ip.set_destination(*peer.ip());
        let sum = checksum::finished(checksum::sum(pnet_packet::Packet::packet(&ip), 0));
        ip.set_checksum(sum);
    }
    if let Some(mut udp) = quoted.get_mut(IPV4_HEADER..).and_then(MutableUdpPacket::new) {
        udp.set_source(inside.port());
        udp.set_destination(peer.port());
        udp.set_length(UDP_HEADER as u16);
    }
    error_quoting(core, now, link, *inside.ip(), &quoted, error, outside);
}

/// Writes type, code and checksum.
fn finish(bytes: &mut [u8], kind: u8, code: u8) {
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
