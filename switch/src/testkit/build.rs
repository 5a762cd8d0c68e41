//! Frames, built field by field. Nothing here uses what it helps to test: checksums are summed a word at a time.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU16,
};

use super::wire::by_the_book;
use crate::{Checksum, Frame, Gso, GsoKind, Mac, Offload};

/// A frame that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    pub bytes: Vec<u8>,
    pub offload: Offload,
}

impl Built {
    /// A frame of any bytes, with nothing left to do.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), offload: Offload::default() }
    }

    /// Padded or cut to `len` bytes.
    pub fn to_len(mut self, len: usize) -> Self {
        self.bytes.resize(len, 0);
        self
    }

    /// Lent to the switch.
    pub fn frame(&self) -> Frame<'_> {
        Frame { bytes: &self.bytes, offload: self.offload }
    }
}

/// The Ethernet header of the frame to be built.
#[derive(Clone, Debug)]
pub struct Eth {
    src: Mac,
    dst: Mac,
    tag: Option<u16>,
    extra: u8,
}

/// Begins a frame.
pub fn eth(src: Mac, dst: Mac) -> Eth {
    Eth { src, dst, tag: None, extra: 0 }
}

/// What a TCP header says beside the ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFields {
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    /// Words of options (NOPs).
    pub options: u8,
}

impl Eth {
    /// Puts in an 802.1Q tag.
    pub fn tag(self, tci: u16) -> Self {
        Self { tag: Some(tci), ..self }
    }

    /// Puts `units` of filling behind the IP header: 4 bytes each of IPv4 options, 8 bytes each of an IPv6 destination-options
    /// header.
    pub fn extra(self, units: u8) -> Self {
        Self { extra: units, ..self }
    }

    /// Any payload.
    pub fn raw(&self, ethertype: u16, payload: &[u8]) -> Built {
        let mut bytes = [self.dst.0, self.src.0].concat();
        if let Some(tci) = self.tag {
            bytes.extend(0x8100u16.to_be_bytes());
            bytes.extend(tci.to_be_bytes());
        }
        bytes.extend(ethertype.to_be_bytes());
        bytes.extend(payload);
        Built::raw(bytes)
    }

    /// A frame of `len` bytes of an EtherType for experiments, header included.
    pub fn filler(&self, len: usize) -> Built {
        let header = self.raw(0x88b5, &[]).bytes.len();
        self.raw(0x88b5, &vec![0x55; len.saturating_sub(header)])
    }

    /// "Who has `target`? Tell `sender`" (RFC 826).
    pub fn arp_request(&self, sender: Ipv4Addr, target: Ipv4Addr) -> Built {
        self.arp(1, sender, Mac::ZERO, target)
    }

    /// "`sender` is at this frame's source."
    pub fn arp_reply(&self, sender: Ipv4Addr, target: Ipv4Addr) -> Built {
        self.arp(2, sender, self.dst, target)
    }

    fn arp(&self, operation: u8, sender: Ipv4Addr, target_mac: Mac, target: Ipv4Addr) -> Built {
        let mut packet = vec![0, 1, 8, 0, 6, 4, 0, operation];
        packet.extend(self.src.0);
        packet.extend(sender.octets());
        packet.extend(target_mac.0);
        packet.extend(target.octets());
        self.raw(0x0806, &packet)
    }

    /// A UDP datagram, its checksums finished.
    pub fn udp(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Built {
        self.udp_parts(from, to, payload).finished()
    }

    /// A UDP superframe to be cut into datagrams of `size` bytes.
    pub fn udp_gso(&self, from: SocketAddr, to: SocketAddr, payload: &[u8], size: u16) -> Built {
        self.udp_parts(from, to, payload).superframe(GsoKind::Udp, size)
    }

    /// A TCP segment, its checksums finished.
    pub fn tcp(&self, from: SocketAddr, to: SocketAddr, fields: TcpFields, payload: &[u8]) -> Built {
        self.tcp_parts(from, to, fields, payload).finished()
    }

    /// A TCP segment whose checksum the receiver may finish.
    pub fn tcp_partial(&self, from: SocketAddr, to: SocketAddr, fields: TcpFields, payload: &[u8]) -> Built {
        self.tcp_parts(from, to, fields, payload).partial()
    }

    /// A TCP superframe to be cut into segments of `size` bytes of payload.
    pub fn tcp_gso(&self, from: SocketAddr, to: SocketAddr, fields: TcpFields, payload: &[u8], size: u16) -> Built {
        let kind = if from.is_ipv4() { GsoKind::TcpV4 } else { GsoKind::TcpV6 };
        self.tcp_parts(from, to, fields, payload).superframe(kind, size)
    }

    fn udp_parts(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Parts {
        let mut segment = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
        segment.extend(u16::try_from(payload.len() + 8).unwrap().to_be_bytes());
        segment.extend([0, 0]);
        segment.extend(payload);
        self.parts(from.ip(), to.ip(), 17, 6, segment)
    }

    fn tcp_parts(&self, from: SocketAddr, to: SocketAddr, fields: TcpFields, payload: &[u8]) -> Parts {
        let mut segment = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
        segment.extend(fields.seq.to_be_bytes());
        segment.extend(fields.ack.to_be_bytes());
        segment.extend([(5 + fields.options) << 4, fields.flags, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend(vec![1; usize::from(fields.options) * 4]);
        segment.extend(payload);
        self.parts(from.ip(), to.ip(), 6, 16, segment)
    }

    fn parts(&self, from: IpAddr, to: IpAddr, protocol: u8, field: usize, segment: Vec<u8>) -> Parts {
        let units = self.extra;
        let (ethertype, ip, pseudo) = match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let (ip, length) = (ipv4(from, to, protocol, units, segment.len()), u16::try_from(segment.len()).unwrap());
                (0x0800, ip, [&from.octets()[..], &to.octets(), &[0, protocol], &length.to_be_bytes()].concat())
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut ip = vec![0x60, 0, 0, 0];
                ip.extend(u16::try_from(segment.len() + usize::from(units) * 8).unwrap().to_be_bytes());
                ip.extend([if units > 0 { 60 } else { protocol }, 64]);
                ip.extend(from.octets());
                ip.extend(to.octets());
                if units > 0 {
                    // One destination-options header of PadN.
                    let filling = units * 8 - 4;
                    ip.extend([protocol, units - 1, 1, filling]);
                    ip.extend(vec![0; usize::from(filling)]);
                }
                let length = u32::try_from(segment.len()).unwrap();
                (0x86dd, ip, [&from.octets()[..], &to.octets(), &length.to_be_bytes(), &[0, 0, 0, protocol]].concat())
            }
            _ => panic!("{from} and {to} are not of one family"),
        };
        Parts { header: self.raw(ethertype, &ip).bytes, pseudo, field, segment }
    }
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, units: u8, payload: usize) -> Vec<u8> {
    let header = 20 + usize::from(units) * 4;
    let mut ip = vec![0x40 | (5 + units), 0];
    ip.extend(u16::try_from(header + payload).unwrap().to_be_bytes());
    ip.extend([0x12, 0x34, 0x40, 0, 64, protocol, 0, 0]);
    ip.extend(from.octets());
    ip.extend(to.octets());
    ip.extend(vec![1; usize::from(units) * 4]);
    let value = !by_the_book(&ip);
    ip[10..12].copy_from_slice(&value.to_be_bytes());
    ip
}

/// A frame before its transport checksum.
struct Parts {
    header: Vec<u8>,
    pseudo: Vec<u8>,
    /// Where in the segment the checksum stands.
    field: usize,
    segment: Vec<u8>,
}

impl Parts {
    fn finished(mut self) -> Built {
        let value = match !by_the_book(&[&self.pseudo[..], &self.segment].concat()) {
            0 => 0xffff,
            value => value,
        };
        self.segment[self.field..self.field + 2].copy_from_slice(&value.to_be_bytes());
        Built::raw([self.header, self.segment].concat())
    }

    fn partial(mut self) -> Built {
        let value = by_the_book(&self.pseudo);
        self.segment[self.field..self.field + 2].copy_from_slice(&value.to_be_bytes());
        let (start, offset) = (u16::try_from(self.header.len()).unwrap(), u16::try_from(self.field).unwrap());
        let offload = Offload { checksum: Checksum::Partial { start, offset }, gso: None };
        Built { bytes: [self.header, self.segment].concat(), offload }
    }

    fn superframe(self, kind: GsoKind, size: u16) -> Built {
        let mut built = self.partial();
        built.offload.gso = Some(Gso { kind, size: NonZeroU16::new(size).unwrap(), ecn: false });
        built
    }
}
