//! A frame as the station reads it that gets it, to tell what it would be made to believe.
//!
//! It shares no code with the switch, whose guards it is held against, and takes its time. It believes more than a host does: it looks
//! at no checksum, no hop limit, no length that it does not need, and it follows headers as long as there are any.

use std::net::{IpAddr, Ipv6Addr};

use super::{Lab, wire::by_the_book};
use crate::{Checksum, Frame, Mac, Settings};

/// A network of 10.0.0.1, the gateway, 10.0.0.2 at port 1 and 10.0.0.3 at port 2, which have IPv6 too; and what is not port 2's to use.
pub fn neighbourhood() -> (Lab, Others) {
    let [(gateway, gateway_ips), neighbour, own] = [1, 2, 3].map(station);
    let others = Others { macs: vec![gateway, neighbour.0], ips: [&gateway_ips[..], &neighbour.1].concat() };
    let lab = Lab::with(Settings { gateway: Some(gateway), gateway_ips, ..Settings::default() }, 2);
    for (port, (mac, ips)) in [(1, neighbour), (2, own)] {
        lab.set_port(port, |settings| (settings.mac, settings.ips) = (Some(mac), ips));
    }
    (lab, others)
}

fn station(n: u8) -> (Mac, Vec<IpAddr>) {
    let (ipv4, ipv6) = ([10, 0, 0, n], Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n.into()));
    let mac = Mac::from_ipv4(ipv4.into());
    (mac, vec![ipv4.into(), ipv6.into(), mac.link_local().into()])
}

/// What is not the sender's to use.
#[derive(Clone, Debug, Default)]
pub struct Others {
    pub macs: Vec<Mac>,
    pub ips: Vec<IpAddr>,
}

impl Others {
    /// What `frame` says in their name, or as a router or a DHCP server: as it is, or once its checksum is finished, which whoever passes
    /// it on may do.
    pub fn hear(&self, frame: &Frame<'_>) -> Option<&'static str> {
        let finished = match frame.offload.checksum {
            Checksum::Partial { start, offset } => finished(frame.bytes, start.into(), offset.into()),
            Checksum::Finished | Checksum::Verified => frame.bytes.to_vec(),
        };
        self.read(frame.bytes).or_else(|| self.read(&finished))
    }

    fn read(&self, frame: &[u8]) -> Option<&'static str> {
        if self.macs.iter().any(|mac| frame.get(6..12) == Some(&mac.0)) {
            return Some("a MAC address");
        }
        let (kind, packet) = behind_tags(frame)?;
        match kind {
            0x0806 => self.arp(packet),
            0x0800 => self.ipv4(packet),
            0x86dd => self.ipv6(packet),
            _ => None,
        }
    }

    fn arp(&self, packet: &[u8]) -> Option<&'static str> {
        let sender = packet.get(..28)?.get(14..18)?;
        // Linux takes the number of Ethernet and that of all IEEE 802 networks for the same.
        let is_ours = matches!(packet, [0, 1 | 6, 8, 0, 6, 4, ..]);
        (is_ours && self.own(sender)).then_some("an IPv4 address by ARP")
    }

    fn ipv4(&self, packet: &[u8]) -> Option<&'static str> {
        let (header, length) = (packet.get(..20)?, usize::from(packet[0] & 15) * 4);
        if packet[0] >> 4 != 4 || length < 20 {
            return None;
        }
        // The first fragment has the ports.
        let is_first = header[6] & 0x1f == 0 && header[7] == 0;
        let is_answer = header[9] == 17 && is_first && packet.get(length..).is_some_and(|datagram| is_to_port(datagram, 68));
        if self.own(&header[12..16]) { Some("an IPv4 address") } else { is_answer.then_some("a DHCP server") }
    }

    fn ipv6(&self, packet: &[u8]) -> Option<&'static str> {
        let (header, rest) = packet.split_first_chunk::<40>()?;
        let (source, length) = (&header[8..24], usize::from(u16::from_be_bytes([header[4], header[5]])));
        if header[0] >> 4 != 6 {
            return None;
        }
        if self.own(source) {
            return Some("an IPv6 address");
        }
        // Of what may be a jumbogram Linux takes all there is.
        let payload = if length == 0 && header[6] == 0 { rest } else { rest.get(..length)? };
        let (protocol, message, is_whole) = upper_layer(header[6], payload)?;
        match protocol {
            17 if is_to_port(message, 546) => Some("a DHCPv6 server"),
            // Nobody listens to neighbour discovery in fragments (RFC 6980).
            58 if is_whole => self.discovery(source, message),
            _ => None,
        }
    }

    fn discovery(&self, source: &[u8], message: &[u8]) -> Option<&'static str> {
        let is_of_another = message.get(8..24).is_some_and(|target| self.own(target));
        let makes_sure = source == Ipv6Addr::UNSPECIFIED.octets();
        match message.first()? {
            134 => Some("a router"),
            135 if makes_sure && is_of_another => Some("an IPv6 address, about to be taken"),
            136 if is_of_another => Some("an IPv6 address by neighbour discovery"),
            137 => Some("a router that knows a better one"),
            _ => None,
        }
    }

    fn own(&self, address: &[u8]) -> bool {
        self.ips.iter().any(|ip| match ip {
            IpAddr::V4(ip) => ip.octets() == address,
            IpAddr::V6(ip) => ip.octets() == address,
        })
    }
}

/// The EtherType behind all tags, and what follows it. Tags of no VLAN mean nothing, and a station may be on a VLAN; what is in a VLAN
/// within a VLAN it does not hear.
fn behind_tags(frame: &[u8]) -> Option<(u16, &[u8])> {
    let (mut rest, mut vlans) = (frame.get(12..)?, 0);
    while let [0x81, 0, t0, t1, inner @ ..] | [0x88, 0xa8, t0, t1, inner @ ..] = rest {
        vlans += usize::from(t0 & 15 != 0 || *t1 != 0);
        rest = inner;
    }
    let (kind, packet) = rest.split_first_chunk()?;
    (vlans <= 1).then_some((u16::from_be_bytes(*kind), packet))
}

/// What is behind all extension headers of a packet, whole or as a first fragment: its protocol, its bytes, and whether they are whole.
fn upper_layer(mut next: u8, mut rest: &[u8]) -> Option<(u8, &[u8], bool)> {
    let mut is_whole = true;
    loop {
        let length = match (next, rest) {
            (44, [_, _, o0, o1, ..]) => {
                if *o0 != 0 || o1 & 0xf8 != 0 {
                    return None;
                }
                is_whole &= o1 & 1 == 0;
                8
            }
            (51, [_, units, ..]) => 8 + usize::from(*units) * 4,
            (0 | 43 | 60 | 135, [_, units, ..]) => 8 + usize::from(*units) * 8,
            _ => return Some((next, rest, is_whole)),
        };
        (next, rest) = (*rest.first()?, rest.get(length..)?);
    }
}

fn is_to_port(datagram: &[u8], port: u16) -> bool {
    datagram.get(2..4) == Some(&port.to_be_bytes())
}

fn finished(frame: &[u8], start: usize, offset: usize) -> Vec<u8> {
    let value = match !by_the_book(&frame[start..]) {
        0 => 0xffff,
        value => value,
    };
    let mut frame = frame.to_vec();
    frame[start + offset..start + offset + 2].copy_from_slice(&value.to_be_bytes());
    frame
}
