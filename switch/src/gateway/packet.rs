//! An IP packet on its way into the gateway: what a frame must be before anything in it is believed.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv6Addr},
};

use pnet_packet::{ipv4::Ipv4Packet, ipv6::Ipv6Packet, udp::UdpPacket};

use super::{
    GatewayConfig,
    build::{IPV6_HEADER, ethertype},
    extensions,
};
pub(super) use crate::parse::protocol::{ICMP, ICMPV6, TCP, UDP};
use crate::{Checksum, DropReason, Frame, Gso, Mac, Offload, checksum, frame::ETHERNET_HEADER};

/// A whole, unfragmented packet whose headers are sound. Source and destination are of one family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// The sender's address on the link.
    pub(super) mac: Mac,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// What the payload is: of IPv6, behind the extension headers.
    pub(super) protocol: u8,
    /// The time to live, or the hop limit.
    pub(super) ttl: u8,
    /// DSCP and ECN (RFC 2474, and RFC 3168).
    pub(super) traffic_class: u8,
    /// Nobody on its way may cut it: DF (RFC 791), and every packet of IPv6 that its sender did not cut.
    pub(super) dont_fragment: bool,
    /// The packet from its IP header to its length; link padding is gone.
    pub(super) bytes: &'a [u8],
    /// What follows the IP header and its options or extension headers.
    pub(super) payload: &'a [u8],
    pub(super) gso: Option<Gso>,
    pub(super) checksum: Checksum,
}

impl<'a> Packet<'a> {
    /// Takes the packet out of a frame whose EtherType says IPv4 or IPv6.
    pub(super) fn parse(mac: Mac, frame: &Frame<'a>) -> Result<Self, DropReason> {
        let malformed = DropReason::GatewayMalformed;
        let (header, bytes) = frame.bytes.split_first_chunk::<ETHERNET_HEADER>().ok_or(malformed)?;
        let version = if header.ends_with(&ethertype::IPV4.to_be_bytes()) { 4 } else { 6 };
        if bytes.first().is_none_or(|first| first >> 4 != version) {
            return Err(malformed);
        }
        Self::from_bytes(mac, bytes, frame.offload)
    }

    /// Takes the packet that `bytes` begin with; its first four bits say which IP it is.
    pub(super) fn from_bytes(mac: Mac, bytes: &'a [u8], offload: Offload) -> Result<Self, DropReason> {
        match bytes.first().map(|first| first >> 4) {
            Some(4) => Self::from_ipv4(mac, bytes, offload),
            Some(6) => Self::from_ipv6(mac, bytes, offload),
            _ => Err(DropReason::GatewayMalformed),
        }
    }

    /// RFC 791, 3.1.
    fn from_ipv4(mac: Mac, bytes: &'a [u8], offload: Offload) -> Result<Self, DropReason> {
        let malformed = DropReason::GatewayMalformed;
        let header = Ipv4Packet::new(bytes).ok_or(malformed)?;
        let header_len = usize::from(header.get_header_length()) * 4;
        let bytes = bytes.get(..usize::from(header.get_total_length())).ok_or(malformed)?;
        let (options, payload) = bytes.split_at_checked(header_len).ok_or(malformed)?;
        if header_len < Ipv4Packet::minimum_packet_size() {
            return Err(malformed);
        }
        if checksum::finished(checksum::sum(options, 0)) != 0 {
            return Err(DropReason::GatewayChecksum);
        }
        // The flags are reserved, DF, MF from the left; MF or an offset makes a fragment.
        if header.get_flags() & 1 != 0 || header.get_fragment_offset() != 0 {
            return Err(DropReason::GatewayFragment);
        }
        Ok(Self {
            mac,
            source: header.get_source().into(),
            destination: header.get_destination().into(),
            protocol: header.get_next_level_protocol().0,
            ttl: header.get_ttl(),
            traffic_class: header.get_dscp() << 2 | header.get_ecn(),
            dont_fragment: header.get_flags() & 2 != 0,
            bytes,
            payload,
            gso: offload.gso,
            checksum: offload.checksum,
        })
    }

    /// RFC 8200, 3.
    fn from_ipv6(mac: Mac, bytes: &'a [u8], offload: Offload) -> Result<Self, DropReason> {
        let malformed = DropReason::GatewayMalformed;
        let header = Ipv6Packet::new(bytes).ok_or(malformed)?;
        let bytes = bytes.get(..IPV6_HEADER + usize::from(header.get_payload_length())).ok_or(malformed)?;
        let (protocol, start) = extensions::skip(bytes, header.get_next_header().0)?;
        Ok(Self {
            mac,
            source: header.get_source().into(),
            destination: header.get_destination().into(),
            protocol,
            ttl: header.get_hop_limit(),
            traffic_class: header.get_traffic_class(),
            dont_fragment: true,
            bytes,
            payload: bytes.get(start..).ok_or(malformed)?,
            gso: offload.gso,
            checksum: offload.checksum,
        })
    }

    /// Whether the source can be a host of the port's link that is not the gateway.
    pub(super) fn source_is_valid(&self, config: &GatewayConfig) -> bool {
        is_valid_source(self.source, config)
    }

    /// Whether its time ends here. What is for the gateway itself goes no further, however little is left of it (RFC 1812, 4.2.2.9).
    pub(super) fn expires(&self, config: &GatewayConfig) -> bool {
        self.ttl <= 1 && !config.is_own(self.destination)
    }

    /// Whether the transport checksum is right. One that is partial was never on a wire and is taken as right; a UDP checksum of
    /// zero is none (RFC 768), which IPv6 does not have (RFC 8200, 8.1).
    pub(super) fn transport_is_sound(&self) -> bool {
        if self.checksum != Checksum::Finished {
            return true;
        }
        if self.protocol == UDP && self.payload.get(6..8) == Some(&[0, 0]) {
            return self.source.is_ipv4();
        }
        let Ok(length) = u16::try_from(self.payload.len()) else { return false };
        let pseudo = checksum::pseudo(self.source, self.destination, self.protocol, length);
        checksum::finished(checksum::sum(self.payload, pseudo)) == 0
    }

    /// Whether this is ICMP, of its family.
    pub(super) fn is_icmp(&self) -> bool {
        self.protocol == if self.source.is_ipv4() { ICMP } else { ICMPV6 }
    }

    /// Both ends, if this is IPv6.
    pub(super) fn ipv6(&self) -> Option<(Ipv6Addr, Ipv6Addr)> {
        match (self.source, self.destination) {
            (IpAddr::V6(source), IpAddr::V6(destination)) => Some((source, destination)),
            _ => None,
        }
    }

    /// The first bytes of the packet as an ICMP error quotes them: all, but no more than `most`.
    pub(super) fn quote(&self, most: usize) -> &'a [u8] {
        self.bytes.get(..most).unwrap_or(self.bytes)
    }

    /// The IP header with its options or extension headers.
    pub(super) fn header(&self) -> &'a [u8] {
        self.bytes.get(..self.bytes.len() - self.payload.len()).unwrap_or_default()
    }

    /// The packet without extension headers, which not everyone who reads on can skip. Hardly any packet has some.
    pub(super) fn without_extensions(&self) -> Cow<'a, [u8]> {
        if self.source.is_ipv4() || self.header().len() == IPV6_HEADER {
            return Cow::Borrowed(self.bytes);
        }
        let mut bytes = [self.quote(IPV6_HEADER), self.payload].concat();
        set_ipv6_payload(&mut bytes, self.protocol);
        Cow::Owned(bytes)
    }
}

/// Whether this can be the address of a host of the port's link that is not the gateway.
pub(super) fn is_valid_source(source: IpAddr, config: &GatewayConfig) -> bool {
    if config.is_own(source) {
        return false;
    }
    match source {
        IpAddr::V4(source) => {
            let edge = config.subnet.prefix_len() < 31 && (source == config.subnet.network() || source == config.subnet.broadcast());
            config.subnet.contains(&source) && !edge
        }
        // The prefix with nothing behind it is the routers' anycast address, which is no source (RFC 4291, 2.6.1).
        IpAddr::V6(source) => {
            source.is_unicast_link_local()
                || config.ipv6.is_some_and(|ipv6| {
                    let anycast = ipv6.subnet.prefix_len() < 127 && source == ipv6.subnet.network();
                    ipv6.subnet.contains(&source) && !anycast
                })
        }
    }
}

/// Writes into an IPv6 header, which `bytes` begin with, what follows it and how long that is.
pub(super) fn set_ipv6_payload(bytes: &mut [u8], protocol: u8) {
    let length = u16::try_from(bytes.len().saturating_sub(IPV6_HEADER)).unwrap_or(0).to_be_bytes();
    if let Some([_, _, _, _, l0, l1, next, ..]) = bytes.first_chunk_mut::<IPV6_HEADER>() {
        [*l0, *l1] = length;
        *next = protocol;
    }
}

/// The ports of a TCP segment or a UDP datagram: source, destination.
pub(super) fn ports(transport: &[u8]) -> Option<(u16, u16)> {
    let ([a, b, c, d], _) = transport.split_first_chunk()?;
    Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])))
}

/// The payload of a UDP datagram, or of a superframe of them. A superframe's length field is that of the whole or of its first
/// datagram, by the kernel's version, so there the packet's own length counts.
pub(super) fn udp_payload<'a>(packet: &Packet<'a>) -> Option<&'a [u8]> {
    let length = UdpPacket::new(packet.payload)?.get_length();
    let end = if packet.gso.is_some() { packet.payload.len() } else { usize::from(length) };
    packet.payload.get(super::build::UDP_HEADER..end)
}
