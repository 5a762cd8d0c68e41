//! Frames from the gateway, made in one buffer that is used again and again.
//!
//! Short answers are written by a closure ([`Builder::send_ip`]); where the payload is already in place (a datagram read straight
//! from a host socket, a segment written by smoltcp), only the headers are added ([`Builder::send_udp`], [`Builder::emit_packet`]).
//!
//! ```text
//!   0                    IP_PAYLOAD
//!   │ Ethernet, IPv6, fragment │ payload …
//!       │     Ethernet, IPv6   │ payload …      whichever headers there are end where the payload begins, so that it is
//!              │ Ethernet, IPv4│ payload …      read into its place before the family is known
//! ```

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU16,
};

use pnet_packet::{
    ethernet::{EtherType, MutableEthernetPacket},
    ip::IpNextHeaderProtocol,
    ipv4::MutableIpv4Packet,
    ipv6::MutableIpv6Packet,
};

use super::{Outside, echo, icmp};
pub(super) use crate::parse::ethertype;
use crate::{Checksum, Frame, Gso, GsoKind, Mac, Offload, checksum, frame::ETHERNET_HEADER, parse::protocol};

pub(super) const IPV4_HEADER: usize = 20;
pub(super) const IPV6_HEADER: usize = 40;
pub(super) const UDP_HEADER: usize = 8;
/// RFC 8200, 4.5.
const FRAGMENT_HEADER: usize = 8;
/// Where the payload of an IP packet stands in the buffer.
const IP_PAYLOAD: usize = ETHERNET_HEADER + IPV6_HEADER + FRAGMENT_HEADER;
/// What routers and hosts are told to count down from (IANA, IP option numbers).
pub(super) const HOP_LIMIT: u8 = 64;

/// Who a frame is from and to, on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) from: Mac,
    pub(super) to: Mac,
}

/// What an IP header of ours says; the rest follows. Both addresses are of one family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ip {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    pub(super) hop_limit: u8,
    /// DSCP and ECN.
    pub(super) traffic_class: u8,
    pub(super) fragment: Option<Fragment>,
}

/// A fragment's place in its packet (RFC 791, 3.1, and RFC 8200, 4.5).
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment {
    /// Of IPv4 the lower half.
    pub(super) id: u32,
    /// In units of eight bytes.
    pub(super) offset: u16,
    pub(super) more: bool,
}

impl Ip {
    pub(super) const fn whole(source: IpAddr, destination: IpAddr, protocol: u8) -> Self {
        Self { source, destination, protocol, hop_limit: HOP_LIMIT, traffic_class: 0, fragment: None }
    }

    /// Bytes of the header that the packet's length field leaves out (RFC 8200, 3).
    const fn uncounted(&self) -> usize {
        if self.source.is_ipv4() { 0 } else { IPV6_HEADER }
    }

    /// Bytes of the headers that stand between Ethernet's and the payload.
    const fn header_len(&self) -> usize {
        match (self.source, self.fragment) {
            (IpAddr::V4(_), _) => IPV4_HEADER,
            (IpAddr::V6(_), None) => IPV6_HEADER,
            (IpAddr::V6(_), Some(_)) => IPV6_HEADER + FRAGMENT_HEADER,
        }
    }
}

/// Where the transport header stands in our frames: we send no IP options and no extension headers before one.
pub(super) const fn transport_at(peer: IpAddr) -> u16 {
    (ETHERNET_HEADER + if peer.is_ipv4() { IPV4_HEADER } else { IPV6_HEADER }) as u16
}

/// Room for one frame of any length, and a datagram of any length behind it.
#[derive(Debug)]
pub(super) struct Builder {
    frame: Box<[u8]>,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self { frame: vec![0; IP_PAYLOAD + 2 * usize::from(u16::MAX)].into_boxed_slice() }
    }

    /// Sends an Ethernet frame of `len` bytes after its header, which `fill` writes into zeros.
    pub(super) fn send_ethernet(
        &mut self,
        outside: &mut impl Outside,
        link: Link,
        ethertype: u16,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) {
        let Some(payload) = self.frame.get_mut(ETHERNET_HEADER..ETHERNET_HEADER + len) else { return };
        payload.fill(0);
        fill(payload);
        self.emit(outside, link, ethertype, 0..ETHERNET_HEADER + len, Offload::default());
    }

    /// Sends an IP packet with `len` bytes of payload, which `fill` writes into zeros.
    pub(super) fn send_ip(&mut self, outside: &mut impl Outside, link: Link, ip: Ip, len: usize, fill: impl FnOnce(&mut [u8])) {
        let Some(payload) = self.frame.get_mut(IP_PAYLOAD..IP_PAYLOAD + len) else { return };
        payload.fill(0);
        fill(payload);
        self.emit_ip(outside, link, ip, len, Offload::default());
    }

    /// Where a UDP payload of any length is to be written before [`send_udp`](Self::send_udp).
    pub(super) fn udp_payload(&mut self) -> &mut [u8] {
        self.udp_behind(0)
    }

    /// Where one is to be written that stands behind `waiting` bytes of others.
    pub(super) fn udp_behind(&mut self, waiting: usize) -> &mut [u8] {
        let start = IP_PAYLOAD + UDP_HEADER + waiting;
        self.frame.get_mut(start..start + usize::from(u16::MAX)).unwrap_or_default()
    }

    /// Moves the payload that was written behind others to the front.
    pub(super) fn move_udp(&mut self, behind: usize, len: usize) {
        let start = IP_PAYLOAD + UDP_HEADER;
        if behind > 0 && self.frame.len() >= start + behind + len {
            self.frame.copy_within(start + behind..start + behind + len, start);
        }
    }

    /// Bytes of the packet that so many bytes of UDP payload make.
    pub(super) fn udp_packet(source: IpAddr, len: usize) -> usize {
        (if source.is_ipv4() { IPV4_HEADER } else { IPV6_HEADER }) + UDP_HEADER + len
    }

    /// Sends the datagram whose payload of `len` bytes is in place, cut into fragments if it is longer than `mtu`.
    pub(super) fn send_udp(&mut self, outside: &mut impl Outside, link: Link, datagram: Udp, len: usize, mtu: u16) {
        let Udp { source, source_port, destination, destination_port, id, traffic_class } = datagram;
        let ip = Ip { traffic_class, ..Ip::whole(source, destination, protocol::UDP) };
        let Ok(length) = u16::try_from(UDP_HEADER + len) else { return };
        let packet = ip.header_len() + usize::from(length);
        if packet - ip.uncounted() > usize::from(u16::MAX) {
            return;
        }
        let whole = packet <= usize::from(mtu);
        let pseudo = checksum::pseudo(source, destination, protocol::UDP, length);
        self.write_udp((source_port, destination_port), length, if whole { checksum::fold(pseudo) } else { 0 });
        if whole {
            let checksum = Checksum::Partial { start: transport_at(source), offset: 6 };
            self.emit_ip(outside, link, ip, usize::from(length), Offload { checksum, gso: None });
            return;
        }
        let Some(transport) = self.frame.get_mut(IP_PAYLOAD..IP_PAYLOAD + usize::from(length)) else { return };
        let sum = checksum::finished_nonzero(checksum::sum(transport, pseudo)).to_be_bytes();
        if let Some(field) = transport.get_mut(6..8) {
            field.copy_from_slice(&sum);
        }
        self.send_fragments(outside, link, ip, usize::from(length), id, mtu);
    }

    /// Puts a UDP header before the payload that is in place (RFC 768).
    fn write_udp(&mut self, (source, destination): (u16, u16), length: u16, sum: u16) {
        let Some(header) = self.frame.get_mut(IP_PAYLOAD..).and_then(<[u8]>::first_chunk_mut::<UDP_HEADER>) else { return };
        let [[a, b], [c, d], [e, f], [g, h]] = [source, destination, length, sum].map(u16::to_be_bytes);
        *header = [a, b, c, d, e, f, g, h];
    }

    /// Sends datagrams of `len` bytes of payload each, the last of which may have fewer, as one superframe: `bytes` stand in place, one
    /// payload behind the other. Each fits into a packet of the network, and all together into one of any.
    pub(super) fn send_udp_run(&mut self, outside: &mut impl Outside, link: Link, datagram: Udp, (len, bytes): (usize, usize)) {
        let Udp { source, source_port, destination, destination_port, traffic_class, .. } = datagram;
        let ip = Ip { traffic_class, ..Ip::whole(source, destination, protocol::UDP) };
        let (Ok(length), Ok(size)) = (u16::try_from(UDP_HEADER + bytes), u16::try_from(len)) else { return };
        let sum = checksum::fold(checksum::pseudo(source, destination, protocol::UDP, length));
        self.write_udp((source_port, destination_port), length, sum);
        let checksum = Checksum::Partial { start: transport_at(source), offset: 6 };
        let gso = NonZeroU16::new(size).map(|size| Gso { kind: GsoKind::Udp, size, ecn: false });
        self.emit_ip(outside, link, ip, usize::from(length), Offload { checksum, gso });
    }

    /// Sends the echo message with this header, whose payload of `len` bytes is in place, cut into fragments with this
    /// identification if it is longer than the MTU.
    pub(super) fn send_echo(
        &mut self,
        outside: &mut impl Outside,
        link: Link,
        ip: Ip,
        (header, len): ([u8; echo::HEADER], usize),
        (id, mtu): (u32, u16),
    ) {
        let length = echo::HEADER + len;
        let Some(message) = self.frame.get_mut(IP_PAYLOAD..IP_PAYLOAD + length) else { return };
        let packet = ip.header_len() + length;
        if packet - ip.uncounted() > usize::from(u16::MAX) {
            return;
        }
        if let (Some(place), [kind, code, ..]) = (message.first_chunk_mut(), header) {
            *place = header;
            icmp::finish(message, ip, (kind, code));
        }
        if packet <= usize::from(mtu) {
            self.emit_ip(outside, link, ip, length, Offload::default());
        } else {
            self.send_fragments(outside, link, ip, length, id, mtu);
        }
    }

    /// Cuts the IP payload that is in place. Each fragment is moved to the front, behind the headers: the first is there already, and
    /// the ones behind it are no longer needed once sent.
    fn send_fragments(&mut self, outside: &mut impl Outside, link: Link, ip: Ip, len: usize, id: u32, mtu: u16) {
        let headers = Ip { fragment: Some(Fragment { id, offset: 0, more: true }), ..ip }.header_len();
        let room = (usize::from(mtu).saturating_sub(headers) & !7).max(8);
        for start in (0..len).step_by(room) {
            let size = room.min(len - start);
            let from = IP_PAYLOAD + start;
            if self.frame.get(from..from + size).is_none() {
                return;
            }
            self.frame.copy_within(from..from + size, IP_PAYLOAD);
            let Ok(offset) = u16::try_from(start / 8) else { return };
            let fragment = Some(Fragment { id, offset, more: start + size < len });
            self.emit_ip(outside, link, Ip { fragment, ..ip }, size, Offload::default());
        }
    }

    /// Where an IP packet of `len` bytes is to be written before [`emit_packet`](Self::emit_packet).
    pub(super) fn packet(&mut self, len: usize) -> Option<&mut [u8]> {
        self.frame.get_mut(ETHERNET_HEADER..ETHERNET_HEADER + len)
    }

    /// Sends the complete IP packet of `len` bytes that is in place.
    pub(super) fn emit_packet(&mut self, outside: &mut impl Outside, link: Link, ethertype: u16, len: usize, offload: Offload) {
        self.emit(outside, link, ethertype, 0..ETHERNET_HEADER + len, offload);
    }

    fn emit_ip(&mut self, outside: &mut impl Outside, link: Link, ip: Ip, len: usize, offload: Offload) {
        let start = IP_PAYLOAD - ip.header_len();
        let Some(header) = self.frame.get_mut(start..IP_PAYLOAD) else { return };
        let Some(ethertype) = write_header(header, ip, len) else { return };
        self.emit(outside, link, ethertype, start - ETHERNET_HEADER..IP_PAYLOAD + len, offload);
    }

    /// Puts the Ethernet header before what stands in `range` and sends it.
    fn emit(&mut self, outside: &mut impl Outside, link: Link, ethertype: u16, range: std::ops::Range<usize>, offload: Offload) {
        let Some(bytes) = self.frame.get_mut(range) else { return };
        if let Some(mut header) = MutableEthernetPacket::new(bytes) {
            header.set_destination(link.to.0.into());
            header.set_source(link.from.0.into());
            header.set_ethertype(EtherType(ethertype));
        }
        outside.emit(&Frame { bytes, offload });
    }
}

/// Writes the header of a packet with so many bytes of payload to where `bytes` begin, and says which EtherType it has. `None`: the
/// addresses are not of one family.
pub(super) fn write_header(bytes: &mut [u8], ip: Ip, payload: usize) -> Option<u16> {
    match (ip.source, ip.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            write_ipv4(bytes.first_chunk_mut()?, ip, (source, destination), payload);
            Some(ethertype::IPV4)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            write_ipv6(bytes, ip, (source, destination), payload);
            Some(ethertype::IPV6)
        }
        _ => None,
    }
}

/// RFC 791, 3.1.
fn write_ipv4(bytes: &mut [u8; IPV4_HEADER], ip: Ip, (source, destination): (Ipv4Addr, Ipv4Addr), payload: usize) {
    bytes.fill(0);
    let Some(mut header) = MutableIpv4Packet::new(bytes) else { return };
    header.set_version(4);
    header.set_header_length(5);
    header.set_total_length(u16::try_from(IPV4_HEADER + payload).unwrap_or(0));
    header.set_ttl(ip.hop_limit);
    header.set_dscp(ip.traffic_class >> 2);
    header.set_ecn(ip.traffic_class & 3);
    header.set_next_level_protocol(IpNextHeaderProtocol(ip.protocol));
    header.set_source(source);
    header.set_destination(destination);
    match ip.fragment {
        // Not a fragment and not to become one: the identification may be 0 (RFC 6864, 4.1).
        None => header.set_flags(0b010),
        Some(fragment) => {
            header.set_identification(fragment.id as u16);
            header.set_flags(u8::from(fragment.more));
            header.set_fragment_offset(fragment.offset);
        }
    }
    let sum = checksum::finished(checksum::sum(pnet_packet::Packet::packet(&header), 0));
    header.set_checksum(sum);
}

/// RFC 8200, 3 and 4.5.
fn write_ipv6(bytes: &mut [u8], ip: Ip, (source, destination): (Ipv6Addr, Ipv6Addr), payload: usize) {
    let extensions = ip.header_len() - IPV6_HEADER;
    let Some((bytes, extension)) = bytes.split_first_chunk_mut::<IPV6_HEADER>() else { return };
    bytes.fill(0);
    let Some(mut header) = MutableIpv6Packet::new(bytes) else { return };
    header.set_version(6);
    header.set_payload_length(u16::try_from(extensions + payload).unwrap_or(0));
    header.set_next_header(IpNextHeaderProtocol(if ip.fragment.is_some() { protocol::FRAGMENT } else { ip.protocol }));
    header.set_hop_limit(ip.hop_limit);
    header.set_traffic_class(ip.traffic_class);
    header.set_source(source);
    header.set_destination(destination);
    if let (Some(fragment), Some(extension)) = (ip.fragment, extension.first_chunk_mut::<FRAGMENT_HEADER>()) {
        let ([o0, o1], [i0, i1, i2, i3]) = ((fragment.offset << 3 | u16::from(fragment.more)).to_be_bytes(), fragment.id.to_be_bytes());
        *extension = [ip.protocol, 0, o0, o1, i0, i1, i2, i3];
    }
}

/// A datagram's addresses, and the identification its fragments get if it needs any.
#[derive(Clone, Copy, Debug)]
pub(super) struct Udp {
    pub(super) source: IpAddr,
    pub(super) source_port: u16,
    pub(super) destination: IpAddr,
    pub(super) destination_port: u16,
    pub(super) id: u32,
    pub(super) traffic_class: u8,
}
