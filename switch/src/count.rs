//! Why frames are dropped, and what every port has seen. A drop is a value with a reason and a counter.
//!
//! This is the one table of drop reasons: `netloom drops`, the events and the traces all print these names, and the books of a
//! port balance: received = forwarded + flooded + the drops that the switch decided ([`DropReason::is_verdict`]).
//!
//! What is sent and the other drops do not add up to anything at port 0: it has sent what its gateway took, and counts beside that
//! each datagram that was lost after it, or came from outside and was never a frame.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use crate::Verdict;

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// Why a frame went nowhere.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum DropReason { $($(#[doc = $doc])+ $name,)+ }

        impl DropReason {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The name that people and their scripts see.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// One sentence for people.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

drop_reasons! {
    /// The destination lies behind the port that the frame came from.
    BackToIngress = "back_to_ingress",
    /// The offload header contradicts the frame it came with.
    BadOffload = "bad_offload",
    /// The port is not open, or was closed while the frame was on its way.
    PortClosed = "port_closed",
    /// Longer than the egress port's link takes.
    TooLong = "too_long",
    /// Shorter than an Ethernet header.
    Runt = "runt",
    /// The source is a group address.
    GroupSource = "group_source",
    /// The source is all zeros.
    ZeroSource = "zero_source",
    /// The source is not the sender's: the gateway's, another port's, or nobody's on this network.
    SpoofedSource = "spoofed_source",
    /// A router advertisement or a redirect that is not the gateway's, or headers under which one could hide.
    RogueAdvertisement = "rogue_advertisement",
    /// What a DHCP server sends to clients, from a port that is not the gateway's.
    RogueDhcp = "rogue_dhcp",
    /// A reserved address of IEEE 802.1Q (01:80:c2:00:00:00 to 0f) is not forwarded by a bridge.
    ReservedAddress = "reserved_address",
    /// Ports of an isolated network reach the gateway alone.
    Isolated = "isolated",
    /// A flood that has no port to go to.
    NobodyElse = "nobody_else",
    /// The egress port's ring was full.
    EgressFull = "egress_full",
    /// The kernel refused the frame at the egress port.
    EgressRefused = "egress_refused",
    /// What came from the port was not read in time: the kernel had no room for it.
    RingOverflow = "ring_overflow",
    /// The gateway has no use for a packet of this kind.
    GatewayUnsupported = "gateway_unsupported",
    /// The gateway found the packet malformed.
    GatewayMalformed = "gateway_malformed",
    /// A fragment overlaps others of its packet, or belongs to a packet of which some did.
    GatewayFragment = "gateway_fragment",
    /// As many packets in fragments wait for their rest as the network's `fragments` allows, or a MiB of them.
    GatewayFragmentLimit = "gateway_fragment_limit",
    /// A packet's other fragments did not come within a minute.
    GatewayFragmentTimeout = "gateway_fragment_timeout",
    /// The gateway's checksum test failed.
    GatewayChecksum = "gateway_checksum",
    /// No host socket is left, or the gateway is at a limit that has no reason of its own (pings, DHCP).
    GatewayLimit = "gateway_limit",
    /// The container has as many TCP flows as the network's `tcp-flows` allows.
    GatewayFlowLimit = "gateway_flow_limit",
    /// As many connects of the container have not ended as the network's `tcp-half-open` allows.
    GatewayHalfOpenLimit = "gateway_half_open_limit",
    /// The container sends UDP from as many ports as the network's `udp-mappings` allows.
    GatewayMappingLimit = "gateway_mapping_limit",
    /// As many DNS queries of the container wait for an answer as the network's `dns-queries` allows.
    GatewayDnsLimit = "gateway_dns_limit",
    /// The network is internal, or the destination is the host's loopback.
    GatewayForbidden = "gateway_forbidden",
    /// Longer than the way out takes in one piece, and not to be cut; the container was told how long it may be.
    GatewayTooBig = "gateway_too_big",
    /// A host socket would not take the data.
    GatewayOutside = "gateway_outside",
}

impl DropReason {
    /// Whether this ends a frame's way in [`Switch::handle`](crate::Switch::handle) or before it, at its ingress port. All others
    /// happen to frames that were forwarded or flooded, at an egress port or in the gateway, or before we saw them.
    pub const fn is_verdict(self) -> bool {
        match self {
            Self::BackToIngress
            | Self::BadOffload
            | Self::GroupSource
            | Self::Isolated
            | Self::NobodyElse
            | Self::PortClosed
            | Self::ReservedAddress
            | Self::RogueAdvertisement
            | Self::RogueDhcp
            | Self::Runt
            | Self::SpoofedSource
            | Self::TooLong
            | Self::ZeroSource => true,
            Self::EgressFull
            | Self::EgressRefused
            | Self::RingOverflow
            | Self::GatewayUnsupported
            | Self::GatewayMalformed
            | Self::GatewayFragment
            | Self::GatewayFragmentLimit
            | Self::GatewayFragmentTimeout
            | Self::GatewayChecksum
            | Self::GatewayLimit
            | Self::GatewayFlowLimit
            | Self::GatewayHalfOpenLimit
            | Self::GatewayMappingLimit
            | Self::GatewayDnsLimit
            | Self::GatewayForbidden
            | Self::GatewayTooBig
            | Self::GatewayOutside => false,
        }
    }
}

/// One port's counters. Any worker adds to them; readers see each exact, not all at one instant.
#[derive(Debug, Default)]
pub struct PortCounters {
    rx: Received,
    tx: Sent,
    drops: [AtomicU64; DropReason::ALL.len()],
}

/// Written by the worker that owns the port. In a cache line of its own, so that others who send to the port do not slow it.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Received {
    frames: AtomicU64,
    bytes: AtomicU64,
    forwarded: AtomicU64,
    flooded: AtomicU64,
}

/// Written by every worker that sends to the port.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Sent {
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl PortCounters {
    /// A frame of `bytes` bytes came in from the port, and this was decided about it.
    pub(crate) fn decided(&self, bytes: usize, verdict: &Verdict) {
        self.rx.frames.fetch_add(1, Relaxed);
        self.rx.bytes.fetch_add(bytes as u64, Relaxed);
        match verdict {
            Verdict::Forward(_) => _ = self.rx.forwarded.fetch_add(1, Relaxed),
            Verdict::Flood(_) => _ = self.rx.flooded.fetch_add(1, Relaxed),
            Verdict::Drop(reason) => self.dropped(*reason),
        }
    }

    /// A frame of `bytes` bytes went out to the port.
    pub fn sent(&self, bytes: usize) {
        self.tx.frames.fetch_add(1, Relaxed);
        self.tx.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// A frame was dropped: of its ingress port where the switch decided, of its egress port where sending failed.
    pub fn dropped(&self, reason: DropReason) {
        if let Some(count) = self.drops.get(reason as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// A copy for people.
    pub fn snapshot(&self) -> PortCounts {
        PortCounts {
            rx_frames: self.rx.frames.load(Relaxed),
            rx_bytes: self.rx.bytes.load(Relaxed),
            tx_frames: self.tx.frames.load(Relaxed),
            tx_bytes: self.tx.bytes.load(Relaxed),
            forwarded: self.rx.forwarded.load(Relaxed),
            flooded: self.rx.flooded.load(Relaxed),
            drops: DropReason::ALL
                .iter()
                .zip(&self.drops)
                .map(|(reason, count)| (*reason, count.load(Relaxed)))
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    }
}

/// What [`PortCounters`] held at one moment; reasons that never happened are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortCounts {
    pub rx_frames: u64,
    pub rx_bytes: u64,
    pub tx_frames: u64,
    pub tx_bytes: u64,
    /// Of the received frames, those that went to one port, and those that went to several.
    pub forwarded: u64,
    pub flooded: u64,
    pub drops: Vec<(DropReason, u64)>,
}

impl PortCounts {
    /// Adds what somebody else counted.
    pub fn add(&mut self, reason: DropReason, frames: u64) {
        if frames == 0 {
            return;
        }
        match self.drops.iter_mut().find(|(counted, _)| *counted == reason) {
            Some((_, count)) => *count += frames,
            None => self.drops.push((reason, frames)),
        }
    }
}
