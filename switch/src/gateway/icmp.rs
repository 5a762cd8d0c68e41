//! ICMP (RFC 792) and ICMPv6 (RFC 4443): ping to the gateway, and the errors by which a container learns why something did not go
//! out.

use std::net::{IpAddr, SocketAddr};

use super::{
    Core, Outside, OutsideError, Quote, Report, View,
    build::{IPV4_HEADER, IPV6_HEADER, Ip, Link, UDP_HEADER, write_header},
    echo::{self, EchoKey},
    fragments::Expired,
    packet::{self, Packet},
    policy,
};
use crate::{Checksum, DropReason, Time, checksum};

/// An ICMP error packet is at most this long (RFC 1812, 4.3.2.3), an ICMPv6 one as long as every link takes (RFC 4443, 2.4).
const ERROR_MAX_V4: usize = 576;
const ERROR_MAX_V6: usize = 1280;
/// The ICMP header and the four bytes after it.
const HEADER: usize = 8;

/// The types that begin and end a ping, and those that are errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Types {
    pub(super) protocol: u8,
    pub(super) request: u8,
    pub(super) reply: u8,
    /// A parameter problem is the last that there is.
    errors: [u8; 4],
    /// Type and code of the error that tells an MTU (RFC 1191, 4, and RFC 4443, 3.2).
    too_long: (u8, u8),
}

const V4: Types = Types { protocol: packet::ICMP, request: 8, reply: 0, errors: [3, 11, 12, 12], too_long: (3, 4) };
const V6: Types = Types { protocol: packet::ICMPV6, request: 128, reply: 129, errors: [1, 2, 3, 4], too_long: (2, 0) };

impl Types {
    /// Those that a peer of this family understands.
    pub(super) const fn of(peer: IpAddr) -> Self {
        if peer.is_ipv4() { V4 } else { V6 }
    }
}

/// Why a packet did not get where it wanted to, in ICMP's words: type and code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Error {
    NetworkUnreachable,
    HostUnreachable,
    PortUnreachable,
    /// Communication administratively prohibited (RFC 1812, 5.2.7.1, and RFC 4443, 3.1): what a packet filter says that does not hide.
    Prohibited,
    /// Longer than the next link takes, and not to be cut: this is how long it may be (RFC 1191, 4, and RFC 4443, 3.2).
    TooBig(u16),
    /// The time to live, or the hop limit, ran out here.
    TimeExceeded,
    /// The rest of a packet's fragments did not come in time.
    ReassemblyTimeExceeded,
}

impl Error {
    const fn kind_and_code(self, family: &IpAddr) -> (u8, u8) {
        match (self, family) {
            (Self::NetworkUnreachable, IpAddr::V4(_)) => (3, 0),
            (Self::HostUnreachable, IpAddr::V4(_)) => (3, 1),
            (Self::PortUnreachable, IpAddr::V4(_)) => (3, 3),
            (Self::Prohibited, IpAddr::V4(_)) => (3, 13),
            (Self::TooBig(_), IpAddr::V4(_)) => V4.too_long,
            (Self::TimeExceeded, IpAddr::V4(_)) => (11, 0),
            (Self::ReassemblyTimeExceeded, IpAddr::V4(_)) => (11, 1),
            (Self::NetworkUnreachable, IpAddr::V6(_)) => (1, 0),
            (Self::HostUnreachable, IpAddr::V6(_)) => (1, 3),
            (Self::PortUnreachable, IpAddr::V6(_)) => (1, 4),
            (Self::Prohibited, IpAddr::V6(_)) => (1, 1),
            (Self::TooBig(_), IpAddr::V6(_)) => V6.too_long,
            (Self::TimeExceeded, IpAddr::V6(_)) => (3, 0),
            (Self::ReassemblyTimeExceeded, IpAddr::V6(_)) => (3, 1),
        }
    }

    /// The ICMP error that would have made a host socket fail this way, if any did.
    pub(super) const fn of(error: OutsideError) -> Option<Self> {
        match error {
            OutsideError::Refused => Some(Self::PortUnreachable),
            OutsideError::NetworkUnreachable => Some(Self::NetworkUnreachable),
            OutsideError::HostUnreachable => Some(Self::HostUnreachable),
            OutsideError::Forbidden => Some(Self::Prohibited),
            OutsideError::MessageTooLong(mtu) if mtu > 0 => Some(Self::TooBig(mtu)),
            _ => None,
        }
    }
}

/// An error as the container hears it: who says what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relayed {
    from: IpAddr,
    kind: u8,
    code: u8,
    mtu: u16,
}

impl Relayed {
    /// An error of the gateway's own.
    fn ours(view: &View, to: IpAddr, error: Error) -> Option<Self> {
        let (kind, code) = error.kind_and_code(&to);
        let mtu = if let Error::TooBig(mtu) = error { mtu } else { 0 };
        Some(Self { from: view.config.own_towards(to)?, kind, code, mtu })
    }

    /// What a host socket heard about something that `to` sent. A router speaks in its own name, unless that name means something
    /// else inside; an error that is none (RFC 1122, 3.2.2) is not passed on.
    pub(super) fn of(view: &View, to: IpAddr, error: OutsideError, report: Option<Report>) -> Option<Self> {
        let Some(Report { from, kind, code, mtu }) = report else { return Self::ours(view, to, Error::of(error)?) };
        let from =
            policy::apparent(view, from, false).filter(|from| from.is_ipv4() == to.is_ipv4()).or_else(|| view.config.own_towards(to))?;
        let types = Types::of(to);
        let mtu = if (kind, code) == types.too_long { mtu } else { 0 };
        types.errors.contains(&kind).then_some(Self { from, kind, code, mtu })
    }
}

/// The header of an echo message, its checksum still to come.
pub(super) const fn echo_header(kind: u8, id: u16, sequence: u16) -> [u8; echo::HEADER] {
    let ([a, b], [c, d]) = (id.to_be_bytes(), sequence.to_be_bytes());
    [kind, 0, 0, 0, a, b, c, d]
}

/// Answers a ping to the gateway, of any length: what came in fragments goes back in fragments.
pub(super) fn to_gateway(core: &mut Core, packet: &Packet<'_>, outside: &mut impl Outside) -> Result<(), DropReason> {
    let types = Types::of(packet.source);
    let message = packet.payload.split_first_chunk::<HEADER>().filter(|([kind, ..], _)| *kind == types.request);
    let Some((&[_, _, _, _, id0, id1, sequence0, sequence1], payload)) = message else {
        return Err(DropReason::GatewayUnsupported);
    };
    if !is_sound(packet) {
        return Err(DropReason::GatewayChecksum);
    }
    // Where the payload of a UDP datagram stands, that of an echo stands too: both headers have eight bytes.
    if let Some(place) = core.builder.udp_payload().get_mut(..payload.len()) {
        place.copy_from_slice(payload);
    }
    let link = Link { from: core.view.config.mac, to: packet.mac };
    let ip = Ip::whole(packet.destination, packet.source, packet.protocol);
    let (id, sequence) = (u16::from_be_bytes([id0, id1]), u16::from_be_bytes([sequence0, sequence1]));
    let header = echo_header(types.reply, id, sequence);
    let cut = (core.random.next_u32(), core.view.config.mtu);
    core.builder.send_echo(outside, link, ip, (header, payload.len()), cut);
    Ok(())
}

/// Whether the checksum of an ICMP packet is right.
pub(super) fn is_sound(packet: &Packet<'_>) -> bool {
    if packet.checksum == Checksum::Verified {
        return true;
    }
    let Ok(length) = u16::try_from(packet.payload.len()) else { return false };
    let pseudo = pseudo(Ip::whole(packet.source, packet.destination, packet.protocol), length);
    checksum::finished(checksum::sum(packet.payload, pseudo)) == 0
}

/// Tells the sender of `packet` what went wrong, unless the packet is itself an ICMP error (RFC 1122, 3.2.2, and RFC 4443, 2.4) or
/// too many errors were sent this second.
pub(super) fn error(core: &mut Core, now: Time, packet: &Packet<'_>, error: Error, outside: &mut impl Outside) {
    let kind = packet.payload.first().copied();
    let is_request = match packet.source {
        IpAddr::V4(_) => kind.is_some_and(|kind| matches!(kind, 0 | 8 | 13..=18)),
        IpAddr::V6(_) => kind.is_some_and(|kind| kind & 0x80 != 0),
    };
    if packet.is_icmp() && !is_request {
        return;
    }
    let link = Link { from: core.view.config.mac, to: packet.mac };
    let Some(error) = Relayed::ours(&core.view, packet.source, error) else { return };
    error_quoting(core, now, link, packet.source, packet.quote(quote_max(packet.source)), error, outside);
}

/// Bytes of a packet that an error to this address may quote.
const fn quote_max(to: IpAddr) -> usize {
    if to.is_ipv4() { ERROR_MAX_V4 - IPV4_HEADER - HEADER } else { ERROR_MAX_V6 - IPV6_HEADER - HEADER }
}

/// Tells the sender of a packet's first fragment that the rest did not come in time (RFC 792, and RFC 4443, 3.3).
pub(super) fn error_about_fragments(core: &mut Core, now: Time, expired: &Expired, outside: &mut impl Outside) {
    let Some(error) = Relayed::ours(&core.view, expired.source, Error::ReassemblyTimeExceeded) else { return };
    let Some(first) = &expired.first else { return };
    let quoted = first.get(..quote_max(expired.source)).unwrap_or(first);
    let link = Link { from: core.view.config.mac, to: expired.container };
    error_quoting(core, now, link, expired.source, quoted, error, outside);
}

/// The error for a packet of which only `quoted` is left: its IP header and at least eight bytes more.
fn error_quoting(core: &mut Core, now: Time, link: Link, to: IpAddr, quoted: &[u8], error: Relayed, outside: &mut impl Outside) {
    if !core.errors.allow(now, core.view.config.limits.icmp_errors) {
        return;
    }
    let Relayed { from, kind, code, mtu } = error;
    let ip = Ip::whole(from, to, Types::of(to).protocol);
    core.builder.send_ip(outside, link, ip, HEADER + quoted.len(), |bytes| {
        // The MTU of ICMPv6 has the two bytes before these, too; no packet is so long that it needs them.
        if let Some(([.., mtu0, mtu1], quote)) = bytes.split_first_chunk_mut::<HEADER>() {
            [*mtu0, *mtu1] = mtu.to_be_bytes();
            quote.copy_from_slice(quoted);
        }
        finish(bytes, ip, (kind, code));
    });
}

/// The error for a datagram that is no longer there: its headers are made up from its endpoints, its payload is what came back of it.
pub(super) fn error_about_datagram(
    core: &mut Core,
    now: Time,
    link: Link,
    (inside, peer, quote): (SocketAddr, SocketAddr, Quote),
    error: Relayed,
    outside: &mut impl Outside,
) {
    let ([a, b], [c, d]) = (inside.port().to_be_bytes(), peer.port().to_be_bytes());
    let ip = Ip::whole(inside.ip(), peer.ip(), packet::UDP);
    let payload = quote.bytes();
    let [l0, l1] = u16::try_from(UDP_HEADER + payload.len()).unwrap_or_default().to_be_bytes();
    error_about(core, now, link, (ip, [a, b, c, d, l0, l1, 0, 0], payload), error, outside);
}

/// The error for an echo request that is no longer there.
pub(super) fn error_about_echo(
    core: &mut Core,
    now: Time,
    link: Link,
    (key, peer, sequence): (EchoKey, IpAddr, u16),
    error: Relayed,
    outside: &mut impl Outside,
) {
    let types = Types::of(key.inside);
    let ip = Ip::whole(key.inside, peer, types.protocol);
    error_about(core, now, link, (ip, echo_header(types.request, key.id, sequence), &[]), error, outside);
}

/// The error for a packet of which the first eight bytes behind its header are known, and perhaps some more.
fn error_about(
    core: &mut Core,
    now: Time,
    link: Link,
    (ip, first, more): (Ip, [u8; 8], &[u8]),
    error: Relayed,
    outside: &mut impl Outside,
) {
    let mut quoted = [0; IPV6_HEADER + 8 + Quote::MAX];
    let header = if ip.source.is_ipv4() { IPV4_HEADER } else { IPV6_HEADER };
    let length = first.len() + more.len();
    let Some(quoted) = quoted.get_mut(..header + length) else { return };
    let (Some(_), Some(place)) = (write_header(quoted, ip, length), quoted.get_mut(header..)) else { return };
    place.iter_mut().zip(first.iter().chain(more)).for_each(|(place, byte)| *place = *byte);
    error_quoting(core, now, link, ip.source, quoted, error, outside);
}

/// Writes type, code and checksum.
pub(super) fn finish(bytes: &mut [u8], ip: Ip, (kind, code): (u8, u8)) {
    if let Some(first) = bytes.first_chunk_mut() {
        *first = [kind, code, 0, 0];
    }
    let length = u16::try_from(bytes.len()).unwrap_or(0);
    let sum = checksum::finished(checksum::sum(bytes, pseudo(ip, length))).to_be_bytes();
    if let Some(field) = bytes.get_mut(2..4) {
        field.copy_from_slice(&sum);
    }
}

/// What the checksum covers beside the message: of ICMPv6 the pseudo-header (RFC 4443, 2.3).
fn pseudo(ip: Ip, length: u16) -> u32 {
    if ip.source.is_ipv4() { 0 } else { checksum::pseudo(ip.source, ip.destination, packet::ICMPV6, length) }
}

/// At most so many in any second that starts when the last one ended.
#[derive(Debug, Default)]
pub(super) struct RateLimit {
    since: Time,
    sent: u32,
}

impl RateLimit {
    pub(super) fn allow(&mut self, now: Time, per_second: u32) -> bool {
        if now.since(self.since).as_secs() >= 1 {
            *self = Self { since: now, sent: 0 };
        }
        self.sent = self.sent.saturating_add(1);
        self.sent <= per_second
    }
}
