//! The link of one flow as smoltcp sees it: one packet in, and frames out through the gateway's buffer.
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

use super::super::{
    Outside,
    build::{Builder, IPV4_HEADER, Link, TRANSPORT},
    packet,
};
use crate::{Checksum, Gso, GsoKind, Offload, checksum};

/// The largest IPv4 packet, and so the largest superframe.
const PACKET_MAX: usize = 65_535;
/// Where the checksum stands in a TCP header (RFC 9293, 3.1).
const TCP_CHECKSUM: usize = 16;

/// What a flow needs to speak to its container.
pub(in super::super) struct Wire<'a, O> {
    pub(in super::super) outside: &'a mut O,
    pub(in super::super) builder: &'a mut Builder,
    pub(in super::super) link: Link,
}

/// The sequence and acknowledgement numbers of the last segment sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastSent {
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
}

/// Lives for one call of smoltcp.
pub(super) struct FlowDevice<'a, 'w, O> {
    pub(super) packet: Option<&'a [u8]>,
    pub(super) wire: &'a mut Wire<'w, O>,
    pub(super) last: &'a mut LastSent,
    pub(super) mtu: u16,
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
        Some(Sending { outside, builder, link: *link, last: self.last, segment_size: None })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut checksum = ChecksumCapabilities::ignored();
        checksum.ipv4 = Compute::Tx;
        let mut segmentation = SegmentationCapabilities::default();
        segmentation.tcpv4 = std::num::NonZeroUsize::new(PACKET_MAX);
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = usize::from(self.mtu);
        capabilities.checksum = checksum;
        capabilities.segmentation = segmentation;
        capabilities
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
    segment_size: Option<NonZeroU16>,
}

impl<O: Outside> TxToken for Sending<'_, O> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let Some(packet) = self.builder.packet(len) else {
            // Longer than an IP packet can be; smoltcp was told not to.
            return f(&mut vec![0; len]);
        };
        let result = f(packet);
        *self.last = leave_checksum_partial(packet).unwrap_or_default();
        let checksum = Checksum::Partial { start: TRANSPORT as u16, offset: TCP_CHECKSUM as u16 };
        let gso = self.segment_size.map(|size| Gso { kind: GsoKind::TcpV4, size, ecn: false });
        self.builder.emit_packet(self.outside, self.link, len, Offload { checksum, gso });
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.segment_size = meta.segmentation_offload_size;
    }
}

/// Writes the pseudo-header's sum where the checksum goes.
fn leave_checksum_partial(packet: &mut [u8]) -> Option<LastSent> {
    let (header, segment) = packet.split_first_chunk_mut::<IPV4_HEADER>()?;
    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    let length = u16::try_from(segment.len()).ok()?;
    let pseudo = checksum::pseudo_v4([s0, s1, s2, s3].into(), [d0, d1, d2, d3].into(), packet::TCP, length);
    segment.get_mut(TCP_CHECKSUM..TCP_CHECKSUM + 2)?.copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
    let sequence = u32::from_be_bytes(*segment.get(4..)?.first_chunk()?);
    let acknowledgement = u32::from_be_bytes(*segment.get(8..)?.first_chunk()?);
    Some(LastSent { sequence, acknowledgement })
}
