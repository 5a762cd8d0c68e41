//! Frames from the gateway, made in one buffer that is used again and again.
//!
//! Short answers are written by a closure ([`Builder::send_ipv4`]); where the payload is already in place (a datagram read straight
//! from a host socket, a segment written by smoltcp), only the headers are added ([`Builder::send_udp`], [`Builder::emit_packet`]).

use std::net::Ipv4Addr;

use pnet_packet::{
    ethernet::{EtherType, MutableEthernetPacket},
    ip::IpNextHeaderProtocol,
    ipv4::MutableIpv4Packet,
};

use super::{Outside, echo, icmp};
use crate::{
    Checksum, Frame, Mac, Offload, checksum,
    frame::{ETHERNET_HEADER, FRAME_MAX},
};

/// EtherTypes (IEEE 802 Numbers).
pub(super) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(super) const ETHERTYPE_ARP: u16 = 0x0806;

pub(super) const IPV4_HEADER: usize = 20;
pub(super) const UDP_HEADER: usize = 8;
/// Where the transport header stands in our frames: we send no IP options.
pub(super) const TRANSPORT: usize = ETHERNET_HEADER + IPV4_HEADER;

/// What routers are told to count down from (IANA, IP option numbers).
pub(super) const HOP_LIMIT: u8 = 64;

/// Who a frame is from and to, on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) from: Mac,
    pub(super) to: Mac,
}

/// What an IPv4 header of ours says; the rest follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ip {
    pub(super) source: Ipv4Addr,
    pub(super) destination: Ipv4Addr,
    pub(super) protocol: u8,
    pub(super) hop_limit: u8,
    pub(super) fragment: Option<Fragment>,
}

/// A fragment's place in its packet (RFC 791, 3.1).
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment {
    pub(super) id: u16,
    /// In units of eight bytes.
    pub(super) offset: u16,
    pub(super) more: bool,
}

impl Ip {
    pub(super) const fn whole(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8) -> Self {
        Self { source, destination, protocol, hop_limit: HOP_LIMIT, fragment: None }
    }
}

/// Room for one frame of any length.
#[derive(Debug)]
pub(super) struct Builder {
    frame: Box<[u8]>,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self { frame: vec![0; FRAME_MAX].into_boxed_slice() }
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
        self.ethernet_header(link, ethertype);
        self.emit(outside, ETHERNET_HEADER + len, Offload::default());
    }

    /// Sends an IPv4 packet with `len` bytes of payload, which `fill` writes into zeros.
    pub(super) fn send_ipv4(&mut self, outside: &mut impl Outside, link: Link, ip: Ip, len: usize, fill: impl FnOnce(&mut [u8])) {
        let Some(payload) = self.frame.get_mut(TRANSPORT..TRANSPORT + len) else { return };
        payload.fill(0);
        fill(payload);
        self.emit_ipv4(outside, link, ip, len, Offload::default());
    }

    /// Where a UDP payload of any length is to be written before [`send_udp`](Self::send_udp).
    pub(super) fn udp_payload(&mut self) -> &mut [u8] {
        self.frame.get_mut(TRANSPORT + UDP_HEADER..).unwrap_or_default()
    }

    /// Sends the datagram whose payload of `len` bytes is in place, cut into fragments if it is longer than `mtu`.
    pub(super) fn send_udp(&mut self, outside: &mut impl Outside, link: Link, datagram: Udp, len: usize, mtu: u16) {
        let Udp { source, source_port, destination, destination_port, id } = datagram;
        let ip = Ip::whole(source, destination, super::packet::UDP);
        let Ok(length) = u16::try_from(UDP_HEADER + len) else { return };
        if usize::from(length) + IPV4_HEADER > usize::from(u16::MAX) {
            return;
        }
        let whole = usize::from(length) + IPV4_HEADER <= usize::from(mtu);
        let pseudo = checksum::pseudo_v4(source, destination, super::packet::UDP, length);
        let Some(transport) = self.frame.get_mut(TRANSPORT..TRANSPORT + usize::from(length)) else { return };
        let Some((header, _)) = transport.split_first_chunk_mut::<UDP_HEADER>() else { return };
        let ([a, b], [c, d], [e, f]) = (source_port.to_be_bytes(), destination_port.to_be_bytes(), length.to_be_bytes());
        let [g, h] = if whole { checksum::fold(pseudo).to_be_bytes() } else { [0, 0] };
        *header = [a, b, c, d, e, f, g, h];
        if whole {
            let checksum = Checksum::Partial { start: TRANSPORT as u16, offset: 6 };
            self.emit_ipv4(outside, link, ip, usize::from(length), Offload { checksum, gso: None });
            return;
        }
        let sum = checksum::finished_nonzero(checksum::sum(transport, pseudo)).to_be_bytes();
        if let Some(field) = transport.get_mut(6..8) {
            field.copy_from_slice(&sum);
        }
        self.send_fragments(outside, link, ip, usize::from(length), id, mtu);
    }

    /// Sends the echo message with this header, whose payload of `len` bytes is in place, cut into fragments with this
    /// identification if it is longer than the MTU.
    pub(super) fn send_echo(
        &mut self,
        outside: &mut impl Outside,
        link: Link,
        ip: Ip,
        (header, len): ([u8; echo::HEADER], usize),
        (id, mtu): (u16, u16),
    ) {
        let length = echo::HEADER + len;
        let Some(message) = self.frame.get_mut(TRANSPORT..TRANSPORT + length) else { return };
        if length + IPV4_HEADER > usize::from(u16::MAX) {
            return;
        }
        if let (Some(place), [kind, code, ..]) = (message.first_chunk_mut(), header) {
            *place = header;
            icmp::finish(message, kind, code);
        }
        if length + IPV4_HEADER <= usize::from(mtu) {
            self.emit_ipv4(outside, link, ip, length, Offload::default());
        } else {
            self.send_fragments(outside, link, ip, length, id, mtu);
        }
    }

    /// Cuts the IP payload that is in place (RFC 791, 3.2). Each fragment is moved to the front, behind the headers: the first is
    /// there already, and the ones behind it are no longer needed once sent.
    fn send_fragments(&mut self, outside: &mut impl Outside, link: Link, ip: Ip, len: usize, id: u16, mtu: u16) {
        let room = (usize::from(mtu).saturating_sub(IPV4_HEADER) & !7).max(8);
        for start in (0..len).step_by(room) {
            let size = room.min(len - start);
            let from = TRANSPORT + start;
            if self.frame.get(from..from + size).is_none() {
                return;
            }
            self.frame.copy_within(from..from + size, TRANSPORT);
            let Ok(offset) = u16::try_from(start / 8) else { return };
            let fragment = Some(Fragment { id, offset, more: start + size < len });
            self.emit_ipv4(outside, link, Ip { fragment, ..ip }, size, Offload::default());
        }
    }

    /// Where an IP packet of `len` bytes is to be written before [`emit_packet`](Self::emit_packet).
    pub(super) fn packet(&mut self, len: usize) -> Option<&mut [u8]> {
        self.frame.get_mut(ETHERNET_HEADER..ETHERNET_HEADER + len)
    }

    /// Sends the complete IPv4 packet of `len` bytes that is in place.
    pub(super) fn emit_packet(&mut self, outside: &mut impl Outside, link: Link, len: usize, offload: Offload) {
        self.ethernet_header(link, ETHERTYPE_IPV4);
        self.emit(outside, ETHERNET_HEADER + len, offload);
    }

    fn emit_ipv4(&mut self, outside: &mut impl Outside, link: Link, ip: Ip, len: usize, offload: Offload) {
        self.ipv4_header(ip, len);
        self.emit_packet(outside, link, IPV4_HEADER + len, offload);
    }

    fn ethernet_header(&mut self, link: Link, ethertype: u16) {
        let Some(mut header) = MutableEthernetPacket::new(&mut self.frame) else { return };
        header.set_destination(link.to.0.into());
        header.set_source(link.from.0.into());
        header.set_ethertype(EtherType(ethertype));
    }

    fn ipv4_header(&mut self, ip: Ip, payload: usize) {
        let Some(bytes) = self.frame.get_mut(ETHERNET_HEADER..TRANSPORT) else { return };
        bytes.fill(0);
        let Some(mut header) = MutableIpv4Packet::new(bytes) else { return };
        header.set_version(4);
        header.set_header_length(5);
        header.set_total_length(u16::try_from(IPV4_HEADER + payload).unwrap_or(0));
        header.set_ttl(ip.hop_limit);
        header.set_next_level_protocol(IpNextHeaderProtocol(ip.protocol));
        header.set_source(ip.source);
        header.set_destination(ip.destination);
        match ip.fragment {
            // Not a fragment and not to become one: the identification may be 0 (RFC 6864, 4.1).
            None => header.set_flags(0b010),
            Some(fragment) => {
                header.set_identification(fragment.id);
                header.set_flags(u8::from(fragment.more));
                header.set_fragment_offset(fragment.offset);
            }
        }
        let sum = checksum::finished(checksum::sum(pnet_packet::Packet::packet(&header), 0));
        header.set_checksum(sum);
    }

    fn emit(&mut self, outside: &mut impl Outside, len: usize, offload: Offload) {
        if let Some(bytes) = self.frame.get(..len) {
            outside.emit(&Frame { bytes, offload });
        }
    }
}

/// A datagram's addresses, and the identification its fragments get if it needs any.
#[derive(Clone, Copy, Debug)]
pub(super) struct Udp {
    pub(super) source: Ipv4Addr,
    pub(super) source_port: u16,
    pub(super) destination: Ipv4Addr,
    pub(super) destination_port: u16,
    pub(super) id: u16,
}
