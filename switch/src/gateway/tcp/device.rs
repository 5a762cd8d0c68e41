//! The link of one flow as smoltcp sees it: one packet in, and frames out through the gateway's buffer.
//!
//! smoltcp 0.14 drops an IPv6 packet that is longer than the device's MTU, and does not say into which segments it is to be cut. So
//! the device of an IPv6 flow takes packets of any length, and what the container said in its SYN decides the cut here.
//!
//! A superframe is one long packet both ways. The transport checksum is left partial: the field holds the pseudo-header's sum, and
//! whoever needs the rest finishes it.

use std::num::NonZeroU16;

use smoltcp::{
    phy::{
        Checksum as Compute, ChecksumCapabilities, Device, DeviceCapabilities, Medium, PacketMeta, RxToken, SegmentationCapabilities,
        TxToken,
    },
    time::Instant,
};

use super::{
    super::{
        Outside,
        build::{Builder, IPV4_HEADER, IPV6_HEADER, Link},
        packet,
    },
    straight::Straight,
};
use crate::{
    Checksum, Gso, GsoKind, Offload, checksum,
    frame::ETHERNET_HEADER,
    parse::{ethertype, tcp_flags},
};

/// The largest packet that is a superframe. With its Ethernet header and a tag it is a byte short of what Linux takes whole
/// (GSO_LEGACY_MAX_SIZE); a longer one it cuts itself.
const SUPERFRAME_MAX: usize = 65_535 - ETHERNET_HEADER - 4;
/// A TCP header without options.
const TCP_HEADER: usize = 20;
/// Where the checksum stands in a TCP header (RFC 9293, 3.1).
const TCP_CHECKSUM: usize = 16;

/// What a flow needs to speak to its container.
pub(in super::super) struct Wire<'a, O> {
    pub(in super::super) outside: &'a mut O,
    pub(in super::super) builder: &'a mut Builder,
    pub(in super::super) link: Link,
}

/// How long the packets of a flow may be on their way to the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lengths {
    /// smoltcp knows what to do.
    Ipv4 { mtu: u16 },
    /// `mss`: what the container said that it takes (RFC 9293, 3.7.1).
    Ipv6 { mtu: u16, mss: u16 },
}

impl Lengths {
    /// Before the container's SYN has been seen.
    pub(super) const fn new(is_ipv4: bool, mtu: u16) -> Self {
        const WITHOUT_OPTION: u16 = 1220;
        if is_ipv4 { Self::Ipv4 { mtu } } else { Self::Ipv6 { mtu, mss: WITHOUT_OPTION } }
    }

    /// Reads the container's SYN.
    pub(super) fn learn(&mut self, packet: &[u8]) {
        let Self::Ipv6 { mss, .. } = self else { return };
        if let Some(tcp) = packet.get(IPV6_HEADER..).filter(|tcp| tcp.get(13).is_some_and(|flags| flags & tcp_flags::SYN != 0)) {
            *mss = mss_option(tcp).map_or(*mss, |at| at.max(LEAST_MSS));
        }
    }

    fn device_mtu(self) -> usize {
        match self {
            Self::Ipv4 { mtu } => usize::from(mtu),
            Self::Ipv6 { mtu, .. } => SUPERFRAME_MAX.max(mtu.into()),
        }
    }

    fn capabilities(self) -> DeviceCapabilities {
        let mut checksum = ChecksumCapabilities::ignored();
        checksum.ipv4 = Compute::Tx;
        let mut segmentation = SegmentationCapabilities::default();
        let superframe = std::num::NonZeroUsize::new(SUPERFRAME_MAX.max(self.device_mtu()));
        segmentation.tcpv4 = superframe;
        segmentation.tcpv6 = superframe;
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.device_mtu();
        capabilities.checksum = checksum;
        capabilities.segmentation = segmentation;
        capabilities
    }

    /// How long the IP header of a packet of ours is: smoltcp sends no options and no extensions with TCP.
    pub(super) const fn ip_header(self) -> usize {
        match self {
            Self::Ipv4 { .. } => IPV4_HEADER,
            Self::Ipv6 { .. } => IPV6_HEADER,
        }
    }

    /// The payload of one segment of a packet that is longer than that. `None`: it is short enough.
    fn cut(self, packet: &[u8]) -> Option<NonZeroU16> {
        let Self::Ipv6 { mtu, mss } = self else { return None };
        let tcp = packet.get(IPV6_HEADER..)?;
        let header = usize::from(*tcp.get(12)? >> 4) * 4;
        let most = usize::from(mss.min(segment_max(mtu))).checked_sub(header.checked_sub(TCP_HEADER)?)?;
        NonZeroU16::new(u16::try_from(most).ok()?).filter(|_| tcp.len() - header > most)
    }
}

/// A container that takes less gets this; more than its headers are never options.
const LEAST_MSS: u16 = 48;

/// The payload of a segment without options on a link with this MTU.
fn segment_max(mtu: u16) -> u16 {
    mtu.saturating_sub((IPV6_HEADER + TCP_HEADER) as u16).max(LEAST_MSS)
}

/// The value of the option that says how long segments may be (RFC 9293, 3.2), of a whole TCP header.
fn mss_option(tcp: &[u8]) -> Option<u16> {
    option_at(tcp).and_then(|at| tcp.get(at..)?.first_chunk()).map(|value| u16::from_be_bytes(*value))
}

/// Where that value stands.
fn option_at(tcp: &[u8]) -> Option<usize> {
    let end = usize::from(*tcp.get(12)? >> 4) * 4;
    let mut at = TCP_HEADER;
    while at < end.min(tcp.len()) {
        match *tcp.get(at)? {
            0 => return None,
            1 => at += 1,
            2 if *tcp.get(at + 1)? == 4 => return Some(at + 2).filter(|value| value + 2 <= end),
            _ => at += usize::from(*tcp.get(at + 1)?).max(2),
        }
    }
    None
}

/// Says in a SYN of ours how long the link's segments are, where smoltcp said what the device's would be.
fn say_mss(packet: &mut [u8], lengths: Lengths) {
    let Lengths::Ipv6 { mtu, .. } = lengths else { return };
    let Some(tcp) = packet.get_mut(IPV6_HEADER..).filter(|tcp| tcp.get(13).is_some_and(|flags| flags & tcp_flags::SYN != 0)) else {
        return;
    };
    if let Some(value) = option_at(tcp).and_then(|at| tcp.get_mut(at..)?.first_chunk_mut::<2>()) {
        *value = segment_max(mtu).to_be_bytes();
    }
}

/// What the last segment sent said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastSent {
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
    /// The sequence number after all that was sent.
    pub(super) next: u32,
    /// The window field, and the largest that has been said since the handshake: of an empty buffer.
    pub(super) window: u16,
    pub(super) widest: u16,
}

impl LastSent {
    /// Reads a segment of ours, from its TCP header on.
    fn learn(&mut self, segment: &[u8]) {
        let Some([_, _, _, _, s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, w0, w1]) = segment.first_chunk::<16>() else { return };
        (self.sequence, self.acknowledgement) = (u32::from_be_bytes([*s0, *s1, *s2, *s3]), u32::from_be_bytes([*a0, *a1, *a2, *a3]));
        let (syn, fin) = (flags & tcp_flags::SYN != 0, flags & tcp_flags::FIN != 0);
        let payload = segment.len().saturating_sub(usize::from(offset >> 4) * 4);
        let after = self.sequence.wrapping_add(payload as u32 + u32::from(syn) + u32::from(fin));
        // What is sent again is not the last of all.
        if syn || (after.wrapping_sub(self.next) as i32) > 0 {
            self.next = after;
        }
        // The scale does not hold in a SYN (RFC 7323, 2.2).
        if !syn {
            self.window = u16::from_be_bytes([*w0, *w1]);
            self.widest = self.widest.max(self.window);
        }
    }
}

/// Lives for one call of smoltcp.
pub(super) struct FlowDevice<'a, 'w, O> {
    pub(super) packet: Option<&'a [u8]>,
    pub(super) wire: &'a mut Wire<'w, O>,
    pub(super) last: &'a mut LastSent,
    pub(super) lengths: Lengths,
    pub(super) straight: Straight,
}

impl<O: Outside> Device for FlowDevice<'_, '_, O> {
    type RxToken<'t>
        = Received<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Sending<'t, O>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let packet = self.packet.take()?;
        Some((Received(packet), self.transmit(Instant::ZERO)?))
    }

    fn transmit(&mut self, _: Instant) -> Option<Self::TxToken<'_>> {
        let Wire { outside, builder, link } = &mut *self.wire;
        Some(Sending { outside, builder, link: *link, last: self.last, lengths: self.lengths, straight: self.straight, segment_size: None })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.lengths.capabilities()
    }
}

pub(super) struct Received<'a>(&'a [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

pub(super) struct Sending<'a, O> {
    outside: &'a mut O,
    builder: &'a mut Builder,
    link: Link,
    last: &'a mut LastSent,
    lengths: Lengths,
    straight: Straight,
    segment_size: Option<NonZeroU16>,
}

impl<O: Outside> TxToken for Sending<'_, O> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let Some(packet) = self.builder.packet(len) else {
            // Longer than an IP packet can be; smoltcp was told not to.
            return f(&mut vec![0; len]);
        };
        let result = f(packet);
        say_mss(packet, self.lengths);
        let header = self.lengths.ip_header();
        let (kind, ethertype) = match self.lengths {
            Lengths::Ipv4 { .. } => (GsoKind::TcpV4, ethertype::IPV4),
            Lengths::Ipv6 { .. } => (GsoKind::TcpV6, ethertype::IPV6),
        };
        let segment = packet.get_mut(header..).unwrap_or_default();
        // What smoltcp writes has no torn options.
        let _ = self.straight.outward(segment);
        self.last.learn(segment);
        leave_checksum_partial(packet, header);
        let checksum = Checksum::Partial { start: (ETHERNET_HEADER + header) as u16, offset: TCP_CHECKSUM as u16 };
        let gso = self.segment_size.or_else(|| self.lengths.cut(packet)).map(|size| Gso { kind, size, ecn: false });
        self.builder.emit_packet(self.outside, self.link, ethertype, len, Offload { checksum, gso });
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.segment_size = meta.segmentation_offload_size;
    }
}

/// Writes the pseudo-header's sum where the checksum goes.
fn leave_checksum_partial(packet: &mut [u8], header: usize) -> Option<()> {
    let (header, segment) = packet.split_at_mut_checked(header)?;
    let length = u16::try_from(segment.len()).ok()?;
    let pseudo = match *header {
        [.., s0, s1, s2, s3, d0, d1, d2, d3] if header.len() == IPV4_HEADER => {
            checksum::pseudo_v4([s0, s1, s2, s3].into(), [d0, d1, d2, d3].into(), packet::TCP, length)
        }
        _ => {
            let (source, destination) = (*header.get(8..)?.first_chunk::<16>()?, *header.last_chunk::<16>()?);
            checksum::pseudo_v6(source.into(), destination.into(), packet::TCP, u32::from(length))
        }
    };
    segment.get_mut(TCP_CHECKSUM..TCP_CHECKSUM + 2)?.copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
    Some(())
}

/// The link of a flow that is only talked about: nothing that smoltcp sends leaves it.
pub(super) struct Silence<'a> {
    pub(super) packet: Option<&'a [u8]>,
    pub(super) last: &'a mut LastSent,
    pub(super) lengths: Lengths,
}

impl Device for Silence<'_> {
    type RxToken<'t>
        = Received<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Unsaid<'t>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let packet = self.packet.take()?;
        Some((Received(packet), Unsaid { last: self.last, lengths: self.lengths }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Self::TxToken<'_>> {
        Some(Unsaid { last: self.last, lengths: self.lengths })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.lengths.capabilities()
    }
}

pub(super) struct Unsaid<'a> {
    last: &'a mut LastSent,
    lengths: Lengths,
}

impl TxToken for Unsaid<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.last.learn(packet.get(self.lengths.ip_header()..).unwrap_or_default());
        result
    }
}
