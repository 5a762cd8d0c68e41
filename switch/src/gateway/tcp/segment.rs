//! TCP segments that the gateway reads or makes without a socket: refusals, and the echo of a flow that is over.

use std::net::SocketAddr;

use pnet_packet::{
    ipv4::MutableIpv4Packet,
    tcp::{MutableTcpPacket, TcpFlags, TcpPacket},
};

use super::{
    super::{
        Core, Outside,
        build::Ip,
        packet::{self, Packet},
    },
    FlowKey,
    device::{LastSent, Wire},
};
use crate::{DropReason, Mac, checksum};

const HEADER: usize = 20;

/// What the gateway wants to know of a segment before a socket sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) key: FlowKey,
    flags: u8,
    sequence: u32,
    acknowledgement: u32,
    /// Sequence numbers that it occupies: payload, SYN and FIN.
    length: u32,
    header: usize,
}

impl Segment {
    /// Reads a segment whose checksum is right (RFC 9293, 3.1).
    pub(super) fn parse(packet: &Packet<'_>) -> Result<Self, DropReason> {
        let malformed = DropReason::GatewayMalformed;
        let tcp = TcpPacket::new(packet.payload).ok_or(malformed)?;
        let header = usize::from(tcp.get_data_offset()) * 4;
        let payload = packet.payload.len().checked_sub(header).ok_or(malformed)?;
        let (source, destination) = (tcp.get_source(), tcp.get_destination());
        if header < HEADER || source == 0 || destination == 0 {
            return Err(malformed);
        }
        let flags = tcp.get_flags();
        let length = payload as u32 + u32::from(flags & TcpFlags::SYN != 0) + u32::from(flags & TcpFlags::FIN != 0);
        Ok(Self {
            key: FlowKey { inside: SocketAddr::new(packet.source, source), outside: SocketAddr::new(packet.destination, destination) },
            flags,
            sequence: tcp.get_sequence(),
            acknowledgement: tcp.get_acknowledgement(),
            length,
            header,
        })
    }

    /// A SYN that opens a flow.
    pub(super) const fn opens(&self) -> bool {
        self.flags & (TcpFlags::SYN | TcpFlags::ACK | TcpFlags::RST | TcpFlags::FIN) == TcpFlags::SYN
    }

    pub(super) const fn is_reset(&self) -> bool {
        self.flags & TcpFlags::RST != 0
    }

    pub(super) const fn is_fin(&self) -> bool {
        self.flags & TcpFlags::FIN != 0
    }
}

/// The packet of a SYN without its payload: at most 120 bytes, headers and options. Data on a SYN (RFC 7413) is sent again.
pub(super) fn bare_syn(packet: &Packet<'_>, segment: &Segment) -> Vec<u8> {
    let packet_bytes = packet.without_extensions();
    let header = packet_bytes.len() - packet.payload.len();
    let mut bytes = packet_bytes.get(..header + segment.header).unwrap_or(&packet_bytes).to_vec();
    if packet.source.is_ipv6() {
        packet::set_ipv6_payload(&mut bytes, packet::TCP);
        return bytes;
    }
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    if let Some(mut ip) = bytes.get_mut(..header).and_then(MutableIpv4Packet::new) {
        ip.set_total_length(length);
        ip.set_checksum(0);
        let sum = checksum::finished(checksum::sum(pnet_packet::Packet::packet(&ip), 0));
        ip.set_checksum(sum);
    }
    bytes
}

/// Answers a segment that belongs to nothing with RST (RFC 9293, 3.10.7.1).
pub(super) fn refuse(core: &mut Core, to: Mac, segment: &Segment, outside: &mut impl Outside) {
    if segment.is_reset() {
        return;
    }
    let (flags, numbers) = if segment.flags & TcpFlags::ACK != 0 {
        (TcpFlags::RST, LastSent { sequence: segment.acknowledgement, ..LastSent::default() })
    } else {
        let acknowledgement = segment.sequence.wrapping_add(segment.length);
        (TcpFlags::RST | TcpFlags::ACK, LastSent { acknowledgement, ..LastSent::default() })
    };
    send(&mut core.wire(to, outside), segment.key, flags, numbers);
}

/// Acknowledges what `last` says, and says nothing else.
pub(super) fn acknowledge(wire: &mut Wire<'_, impl Outside>, key: FlowKey, last: LastSent) {
    send(wire, key, TcpFlags::ACK, last);
}

fn send(wire: &mut Wire<'_, impl Outside>, key: FlowKey, flags: u8, numbers: LastSent) {
    let FlowKey { inside, outside: peer } = key;
    let ip = Ip::whole(peer.ip(), inside.ip(), packet::TCP);
    wire.builder.send_ip(wire.outside, wire.link, ip, HEADER, |bytes| {
        let Some(mut tcp) = MutableTcpPacket::new(bytes) else { return };
        tcp.set_source(peer.port());
        tcp.set_destination(inside.port());
        tcp.set_sequence(numbers.sequence);
        tcp.set_acknowledgement(numbers.acknowledgement);
        tcp.set_data_offset(5);
        tcp.set_flags(flags);
        tcp.set_window(numbers.window);
        let pseudo = checksum::pseudo(peer.ip(), inside.ip(), packet::TCP, HEADER as u16);
        let sum = checksum::finished(checksum::sum(pnet_packet::Packet::packet(&tcp), pseudo));
        tcp.set_checksum(sum);
    });
}
