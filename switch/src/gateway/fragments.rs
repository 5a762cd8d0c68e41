//! Fragments of the container's packets, put together within bounds (RFC 791, 3.2, and RFC 8200, 4.5).
//!
//! ```text
//!             first seen                     every byte is there
//!   (none) ───────────────▶ collecting ─────────────────────────────▶ the whole packet
//!                             │     │ fragments overlap
//!                             │     └──────────▶ spoilt: what follows is dropped, too
//!                             ▼ a minute                │ a minute
//!                  time exceeded, if the first is there ▼ (none)
//! ```
//!
//! Fragments that overlap end their packet in both families (RFC 5722 asks it of IPv6): no honest sender makes any, and what
//! receivers make of them differs. One that comes twice, to the byte, is ignored. Memory is bounded by the number of packets that
//! are being collected and by their bytes; at a bound a new packet is refused and the old ones go on.

use std::{
    collections::{HashMap, hash_map},
    net::IpAddr,
    time::Duration,
};

use super::{
    build::{IPV4_HEADER, IPV6_HEADER},
    extensions,
    packet::set_ipv6_payload,
};
use crate::{DropReason, Mac, Time, checksum};

/// How long the rest of a packet is waited for (RFC 8200, 4.5, and RFC 1122, 3.3.2).
const PATIENCE: Duration = Duration::from_secs(60);

/// Fragments of one packet: more than 65,535 bytes make on a link of 68.
const PIECES_MAX: usize = 2048;

/// Bytes of all packets of a port that are being collected: sixteen of the longest.
const BYTES_MAX: usize = 16 * 65_536;

/// Room before a packet's payload for its header, the longest of either family.
const HEADER_ROOM: usize = 60;

/// What tells the fragments of one packet from those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    /// Of IPv6 always 0: its fragments need not agree on it.
    protocol: u8,
    id: u32,
}

/// One fragment, its headers believed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment<'a> {
    key: Key,
    /// What stands before the payload.
    header: &'a [u8],
    /// Of IPv6, what the payload of the whole packet is.
    next: u8,
    start: usize,
    payload: &'a [u8],
    more: bool,
}

impl<'a> Fragment<'a> {
    /// Takes a packet that is known to be a fragment, with sound headers.
    pub(super) fn parse(packet: &'a [u8]) -> Result<Self, DropReason> {
        let fragment = if packet.first().is_some_and(|first| first >> 4 == 4) { Self::of_ipv4(packet) } else { Self::of_ipv6(packet)? };
        let fragment = fragment.ok_or(DropReason::GatewayMalformed)?;
        let whole = !fragment.more || fragment.payload.len() % 8 == 0;
        let fits = fragment.start + fragment.payload.len() <= usize::from(u16::MAX);
        if whole && fits && !fragment.payload.is_empty() { Ok(fragment) } else { Err(DropReason::GatewayMalformed) }
    }

    fn of_ipv4(packet: &'a [u8]) -> Option<Self> {
        let [first, _, l0, l1, i0, i1, o0, o1, _, protocol, ..] = *packet.first_chunk::<IPV4_HEADER>()?;
        let packet = packet.get(..usize::from(u16::from_be_bytes([l0, l1])))?;
        let (header, payload) = packet.split_at_checked(usize::from(first & 15) * 4)?;
        let place = u16::from_be_bytes([o0, o1]);
        let (source, destination) = (header.get(12..16)?.first_chunk::<4>()?, header.get(16..20)?.first_chunk::<4>()?);
        let id = u32::from(u16::from_be_bytes([i0, i1]));
        let key = Key { source: IpAddr::from(*source), destination: IpAddr::from(*destination), protocol, id };
        Some(Self { key, header, next: 0, start: usize::from(place & 0x1fff) * 8, payload, more: place & 0x2000 != 0 })
    }

    fn of_ipv6(packet: &'a [u8]) -> Result<Option<Self>, DropReason> {
        let Some([_, _, _, _, l0, l1, next, ..]) = packet.first_chunk::<IPV6_HEADER>() else { return Ok(None) };
        let length = IPV6_HEADER + usize::from(u16::from_be_bytes([*l0, *l1]));
        let Some(packet) = packet.get(..length) else { return Ok(None) };
        let extensions::End::Fragment(at) = extensions::walk(packet, *next)? else { return Ok(None) };
        Ok(Self::behind(packet, at))
    }

    /// The fragment whose fragment header stands at `at`.
    fn behind(packet: &'a [u8], at: usize) -> Option<Self> {
        let (header, payload) = packet.split_at_checked(at + 8)?;
        let [next, _, o0, o1, id @ ..] = *header.last_chunk::<8>()?;
        let place = u16::from_be_bytes([o0, o1]);
        let (source, destination) = (header.get(8..24)?.first_chunk::<16>()?, header.get(24..40)?.first_chunk::<16>()?);
        let id = u32::from_be_bytes(id);
        let key = Key { source: IpAddr::from(*source), destination: IpAddr::from(*destination), protocol: 0, id };
        Some(Self { key, header, next, start: usize::from(place & !7), payload, more: place & 1 != 0 })
    }

    pub(super) fn source(&self) -> IpAddr {
        self.key.source
    }

    fn end(&self) -> usize {
        self.start + self.payload.len()
    }
}

/// A packet of which not all is there.
#[derive(Debug)]
struct Collecting {
    /// Room for the header, then the payload as far as it is known.
    buffer: Vec<u8>,
    /// Which parts of the payload are there: start and end, in order, none beside the other's bytes.
    pieces: Vec<(u16, u16)>,
    have: usize,
    /// The payload's length, once the last fragment is there.
    length: Option<usize>,
    /// The first fragment's header, and what it says of the payload.
    first: Option<(Vec<u8>, u8)>,
    container: Mac,
}

/// What a fragment did to its packet.
enum Step {
    More,
    Complete,
    Spoilt,
}

impl Collecting {
    fn add(&mut self, fragment: &Fragment<'_>) -> Step {
        let (start, end) = (fragment.start, fragment.end());
        // Both are less than 65,536, which was looked at when the fragment was parsed.
        let piece = (start as u16, end as u16);
        let at = self.pieces.partition_point(|(_, until)| *until <= piece.0);
        if let Some(other) = self.pieces.get(at).filter(|(from, _)| *from < piece.1) {
            let same =
                *other == piece && self.payload(start, end) == Some(fragment.payload) && (fragment.more != (self.length == Some(end)));
            return if same { Step::More } else { Step::Spoilt };
        }
        let beyond = self.length.is_some_and(|length| end > length || !fragment.more);
        let short = !fragment.more && self.pieces.last().is_some_and(|(_, until)| *until > piece.1);
        if beyond || short || self.pieces.len() >= PIECES_MAX {
            return Step::Spoilt;
        }
        self.pieces.insert(at, piece);
        if self.buffer.len() < HEADER_ROOM + end {
            self.buffer.resize(HEADER_ROOM + end, 0);
        }
        if let Some(place) = self.buffer.get_mut(HEADER_ROOM + start..HEADER_ROOM + end) {
            place.copy_from_slice(fragment.payload);
        }
        self.have += fragment.payload.len();
        if !fragment.more {
            self.length = Some(end);
        }
        if start == 0 {
            self.first = Some((fragment.header.to_vec(), fragment.next));
        }
        if self.length == Some(self.have) { Step::Complete } else { Step::More }
    }

    fn payload(&self, start: usize, end: usize) -> Option<&[u8]> {
        self.buffer.get(HEADER_ROOM + start..HEADER_ROOM + end)
    }

    /// The packet as if it had never been cut; `None`: with its header it is too long to be one.
    fn finish(mut self) -> Option<Whole> {
        let (first, next) = self.first?;
        // The headers before IPv6's fragment header ask for nothing, or the fragment were not here.
        let ipv6 = first.first()? >> 4 == 6;
        let header = first.get(..if ipv6 { IPV6_HEADER } else { first.len() })?;
        let start = HEADER_ROOM.checked_sub(header.len())?;
        let packet = self.buffer.get_mut(start..)?;
        packet.get_mut(..header.len())?.copy_from_slice(header);
        if ipv6 {
            set_ipv6_payload(packet, next);
        } else {
            let length = u16::try_from(packet.len()).ok()?.to_be_bytes();
            let header = packet.get_mut(..header.len())?;
            header.get_mut(2..4)?.copy_from_slice(&length);
            header.get_mut(6..8)?.fill(0);
            header.get_mut(10..12)?.fill(0);
            let sum = checksum::finished(checksum::sum(header, 0)).to_be_bytes();
            header.get_mut(10..12)?.copy_from_slice(&sum);
        }
        Some(Whole { buffer: self.buffer, start })
    }
}

#[derive(Debug)]
struct Pending {
    until: Time,
    /// `None`: fragments overlapped, and no more of this packet is taken.
    packet: Option<Collecting>,
}

/// A packet that was put together.
#[derive(Debug)]
pub(super) struct Whole {
    buffer: Vec<u8>,
    start: usize,
}

impl Whole {
    /// From its IP header to its end.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }
}

/// A packet whose rest did not come in time, as far as it can be quoted.
#[derive(Debug)]
pub(super) struct Expired {
    pub(super) container: Mac,
    pub(super) source: IpAddr,
    /// The first fragment, if it was there.
    pub(super) first: Option<Vec<u8>>,
}

/// The packets of one port that are being put together.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    pending: HashMap<Key, Pending>,
    bytes: usize,
    /// A buffer to be used again.
    spare: Vec<u8>,
}

impl Fragments {
    /// Takes a fragment, and returns the packet that it completes. At most `most` packets are collected at a time.
    pub(super) fn take(&mut self, now: Time, container: Mac, fragment: &Fragment<'_>, most: usize) -> Result<Option<Whole>, DropReason> {
        let count = self.pending.len();
        let pending = match self.pending.entry(fragment.key) {
            hash_map::Entry::Occupied(occupied) => occupied.into_mut(),
            hash_map::Entry::Vacant(_) if count >= most => return Err(DropReason::GatewayFragmentLimit),
            hash_map::Entry::Vacant(vacant) => {
                let mut buffer = std::mem::take(&mut self.spare);
                buffer.clear();
                let packet = Collecting { buffer, pieces: Vec::new(), have: 0, length: None, first: None, container };
                vacant.insert(Pending { until: now + PATIENCE, packet: Some(packet) })
            }
        };
        let Some(packet) = &mut pending.packet else { return Err(DropReason::GatewayFragment) };
        let before = packet.buffer.len();
        if self.bytes - before + (HEADER_ROOM + fragment.end()).max(before) > BYTES_MAX {
            if packet.pieces.is_empty() {
                self.pending.remove(&fragment.key);
            }
            return Err(DropReason::GatewayFragmentLimit);
        }
        let step = packet.add(fragment);
        self.bytes = self.bytes - before + packet.buffer.len();
        match step {
            Step::More => Ok(None),
            Step::Spoilt => {
                self.bytes -= packet.buffer.len();
                pending.packet = None;
                Err(DropReason::GatewayFragment)
            }
            Step::Complete => {
                let packet = self.pending.remove(&fragment.key).and_then(|pending| pending.packet);
                self.bytes -= packet.as_ref().map_or(0, |packet| packet.buffer.len());
                packet.and_then(Collecting::finish).map(Some).ok_or(DropReason::GatewayMalformed)
            }
        }
    }

    /// Takes back the room of a packet that is done with.
    pub(super) fn give_back(&mut self, whole: Whole) {
        self.spare = whole.buffer;
    }

    /// Takes a packet whose time is over. One that was spoilt has been counted, and is forgotten in silence.
    pub(super) fn expired(&mut self, now: Time) -> Option<Expired> {
        loop {
            let key = *self.pending.iter().find(|(_, pending)| pending.until <= now)?.0;
            let Some(packet) = self.pending.remove(&key)?.packet else { continue };
            self.bytes -= packet.buffer.len();
            let have = packet.pieces.first().filter(|(start, _)| *start == 0).map_or(0, |(_, end)| usize::from(*end));
            let first = packet.first.as_ref().map(|(header, _)| [header, packet.payload(0, have).unwrap_or_default()].concat());
            return Some(Expired { container: packet.container, source: key.source, first });
        }
    }

    /// When [`expired`](Self::expired) has something to tell.
    pub(super) fn next_timer(&self) -> Option<Time> {
        self.pending.values().map(|pending| pending.until).min()
    }

    #[cfg(any(test, feature = "testkit"))]
    pub(super) fn held(&self) -> (usize, usize) {
        (self.pending.len(), self.bytes)
    }
}
