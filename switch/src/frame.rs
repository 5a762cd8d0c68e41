//! A frame as it moves through the switch: its bytes, and beside them what its sender left for others to do.
//!
//! A TSO superframe is not a special frame. It is a frame whose [`Offload`] names a segment size; the switch forwards it whole,
//! and only the virtio header codec, the segmenter and the code that edits headers look at the offload.

use std::num::NonZeroU16;

/// Destination, source and EtherType (IEEE 802.3, 3.1.1); a frame in memory has no preamble and no FCS.
pub const ETHERNET_HEADER: usize = 14;

/// The longest frame: Ethernet header, one 802.1Q tag, and the largest IP packet.
pub const FRAME_MAX: usize = ETHERNET_HEADER + 4 + 65_535;

/// One Ethernet frame, read-only: flooding sends the same bytes to every port.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub bytes: &'a [u8],
    pub offload: Offload,
}

/// What the sender of a frame left to the receiver (virtio 1.2, 5.1.6.2), checked against the frame it came with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    pub checksum: Checksum,
    pub gso: Option<Gso>,
}

/// The state of the transport checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// In the frame, as on a wire.
    #[default]
    Finished,
    /// The field holds the pseudo-header's sum; one's-complement summing from `start` to the frame's end, stored at
    /// `start + offset`, finishes it. Both are byte counts; `start` counts from the frame's first byte.
    Partial { start: u16, offset: u16 },
    /// In the frame and already found right, by hardware or by a kernel.
    Verified,
}

/// Generic segmentation offload: the frame is to be cut into segments of `size` bytes of transport payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    pub kind: GsoKind,
    pub size: NonZeroU16,
    /// TCP only: the CWR flag stands on the first segment alone (RFC 3168, 6.1.2).
    pub ecn: bool,
}

/// What a superframe is cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GsoKind {
    TcpV4,
    TcpV6,
    /// Datagrams of equal size but the last (UDP_SEGMENT), not IP fragments.
    Udp,
}
