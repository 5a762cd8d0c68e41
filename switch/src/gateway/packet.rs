//! An IPv4 packet on its way into the gateway: what a frame must be before anything in it is believed.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use pnet_packet::{ipv4::Ipv4Packet, udp::UdpPacket};

use crate::{Checksum, DropReason, Frame, Gso, Mac, Offload, checksum, frame::ETHERNET_HEADER};

/// Protocol numbers (IANA).
pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

/// A whole, unfragmented IPv4 packet with a right header checksum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// The sender's address on the link.
    pub(super) mac: Mac,
    pub(super) source: Ipv4Addr,
    pub(super) destination: Ipv4Addr,
    pub(super) protocol: u8,
    pub(super) ttl: u8,
    /// The packet from its IP header to its total length; link padding is gone.
    pub(super) bytes: &'a [u8],
    /// What follows the IP header and its options.
    pub(super) payload: &'a [u8],
    pub(super) gso: Option<Gso>,
    pub(super) checksum: Checksum,
}

impl<'a> Packet<'a> {
    /// Takes the packet out of a frame whose EtherType says IPv4 (RFC 791, 3.1).
    pub(super) fn parse(mac: Mac, frame: &Frame<'a>) -> Result<Self, DropReason> {
        let bytes = frame.bytes.get(ETHERNET_HEADER..).ok_or(DropReason::GatewayMalformed)?;
        Self::from_bytes(mac, bytes, frame.offload)
    }

    /// Takes the packet that `bytes` begin with.
    pub(super) fn from_bytes(mac: Mac, bytes: &'a [u8], offload: Offload) -> Result<Self, DropReason> {
        let malformed = DropReason::GatewayMalformed;
        let header = Ipv4Packet::new(bytes).ok_or(malformed)?;
        let header_len = usize::from(header.get_header_length()) * 4;
        let bytes = bytes.get(..usize::from(header.get_total_length())).ok_or(malformed)?;
        let (options, payload) = bytes.split_at_checked(header_len).ok_or(malformed)?;
        if header.get_version() != 4 || header_len < Ipv4Packet::minimum_packet_size() {
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
            source: header.get_source(),
            destination: header.get_destination(),
            protocol: header.get_next_level_protocol().0,
            ttl: header.get_ttl(),
            bytes,
            payload,
            gso: offload.gso,
            checksum: offload.checksum,
        })
    }

    /// Whether the source can be a host of the port's subnet that is not the gateway.
    pub(super) fn source_is_valid(&self, subnet: Ipv4Net, gateway: Ipv4Addr) -> bool {
        let edge = subnet.prefix_len() < 31 && (self.source == subnet.network() || self.source == subnet.broadcast());
        subnet.contains(&self.source) && !edge && self.source != gateway
    }

    /// Whether the transport checksum is right. One that is partial was never on a wire and is taken as right; a UDP checksum of
    /// zero is none (RFC 768).
    pub(super) fn transport_is_sound(&self) -> bool {
        if self.checksum != Checksum::Finished {
            return true;
        }
        if self.protocol == UDP && self.payload.get(6..8) == Some(&[0, 0]) {
            return true;
        }
        let Ok(length) = u16::try_from(self.payload.len()) else { return false };
        let pseudo = checksum::pseudo_v4(self.source, self.destination, self.protocol, length);
        checksum::finished(checksum::sum(self.payload, pseudo)) == 0
    }

    pub(super) fn source_ip(&self) -> IpAddr {
        self.source.into()
    }

    pub(super) fn destination_ip(&self) -> IpAddr {
        self.destination.into()
    }

    /// The first bytes of the packet as an ICMP error quotes them: all, but no more than `most`.
    pub(super) fn quote(&self, most: usize) -> &'a [u8] {
        self.bytes.get(..most).unwrap_or(self.bytes)
    }

    /// The IP header with its options.
    pub(super) fn header(&self) -> &'a [u8] {
        self.bytes.get(..self.bytes.len() - self.payload.len()).unwrap_or_default()
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
