//! Bytes of the container that go straight from its segment into the host socket, past smoltcp and its buffer.
//!
//! smoltcp never hears of them. It counts the container's bytes without them, so what it is told and what it says is translated:
//!
//! ```text
//!   on the wire    sequence ───────────────▶             ▲ acknowledgement, SACK
//!                       │  − bytes gone straight          │  + bytes gone straight
//!   in smoltcp     sequence ───────────────▶ its buffer ──┘
//! ```
//!
//! Only what comes in order goes straight, and only past an empty buffer: whatever smoltcp holds, in order or not, stays where it is.

use crate::parse::tcp_flags;

/// A TCP header without options.
const HEADER: usize = 20;
/// The option that tells what came out of order (RFC 2018, 3).
const SACK: u8 = 5;

/// A segment that carries payload and nothing that needs smoltcp's eye.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payload<'a> {
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
    pub(super) bytes: &'a [u8],
}

impl<'a> Payload<'a> {
    /// Reads a segment, from its TCP header on.
    pub(super) fn of(segment: &'a [u8]) -> Option<Self> {
        let [_, _, _, _, s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, ..] = segment.first_chunk::<HEADER>()?;
        let bytes = segment.get(usize::from(offset >> 4) * 4..)?;
        let plain = flags & !tcp_flags::PSH == tcp_flags::ACK;
        plain.then_some(Self {
            sequence: u32::from_be_bytes([*s0, *s1, *s2, *s3]),
            acknowledgement: u32::from_be_bytes([*a0, *a1, *a2, *a3]),
            bytes,
        })
    }
}

/// What has gone straight on one flow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Straight {
    /// Bytes, modulo 2^32.
    bytes: u32,
    /// The sequence number after all that the container is known to have sent, in order or not.
    heard: u32,
}

impl Straight {
    /// Of a flow of which `heard` comes next, and nothing has come before its turn.
    pub(super) const fn from(heard: u32) -> Self {
        Self { bytes: 0, heard }
    }

    /// Whether `sequence` is where everything heard ends.
    pub(super) const fn is_next(&self, sequence: u32) -> bool {
        self.heard == sequence
    }

    /// Reads any segment of the container, from its TCP header on.
    pub(super) fn learn(&mut self, segment: &[u8]) {
        let Some([_, _, _, _, s0, s1, s2, s3, _, _, _, _, offset, flags]) = segment.first_chunk::<14>() else { return };
        let sequence = u32::from_be_bytes([*s0, *s1, *s2, *s3]);
        let payload = segment.len().saturating_sub(usize::from(offset >> 4) * 4) as u32;
        if flags & tcp_flags::SYN != 0 {
            self.heard = sequence.wrapping_add(1);
        } else if (sequence.wrapping_add(payload).wrapping_sub(self.heard) as i32) > 0 {
            self.heard = sequence.wrapping_add(payload);
        }
    }

    /// So many bytes have gone straight.
    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes = self.bytes.wrapping_add(bytes as u32);
    }

    pub(super) const fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Nothing has gone straight, so nothing needs a translation.
    pub(super) const fn is_none(&self) -> bool {
        self.bytes == 0
    }

    /// Writes a packet of the container as smoltcp is to see it, without the first `skip` bytes of its payload, which are counted already.
    /// Its checksums are not made right. `None`: it is no packet with a TCP header.
    pub(super) fn inward<'s>(&self, packet: &[u8], header: usize, skip: usize, into: &'s mut Vec<u8>) -> Option<&'s [u8]> {
        let (ip, segment) = packet.split_at_checked(header)?;
        let (tcp, payload) = segment.split_at_checked(usize::from(segment.get(12)? >> 4) * 4)?;
        into.clear();
        into.extend_from_slice(ip);
        into.extend_from_slice(tcp);
        into.extend_from_slice(payload.get(skip..)?);
        let (place, length) = if ip.first()? >> 4 == 4 { (2, into.len()) } else { (4, into.len() - header) };
        into.get_mut(place..place + 2)?.copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
        let sequence = into.get_mut(header + 4..)?.first_chunk_mut()?;
        *sequence = u32::from_be_bytes(*sequence).wrapping_add(skip as u32).wrapping_sub(self.bytes).to_be_bytes();
        Some(into)
    }

    /// Translates a segment of smoltcp's, from its TCP header on.
    pub(super) fn outward(&self, segment: &mut [u8]) -> Option<()> {
        if self.is_none() || segment.get(13)? & tcp_flags::ACK == 0 {
            return Some(());
        }
        let end = usize::from(segment.get(12)? >> 4) * 4;
        self.raise(segment.get_mut(8..)?.first_chunk_mut()?);
        let mut options = segment.get_mut(HEADER..end)?;
        loop {
            let length = match options {
                [] | [0, ..] => return Some(()),
                [1, ..] => 1,
                [_, length, ..] => usize::from(*length).max(2),
                _ => return None,
            };
            let (option, rest) = options.split_at_mut_checked(length)?;
            if let [SACK, _, edges @ ..] = option {
                edges.as_chunks_mut().0.iter_mut().for_each(|edge| self.raise(edge));
            }
            options = rest;
        }
    }

    fn raise(&self, number: &mut [u8; 4]) {
        *number = u32::from_be_bytes(*number).wrapping_add(self.bytes).to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(sequence: u32, acknowledgement: u32, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
        let offset = ((HEADER + options.len()) / 4 * 16) as u8;
        let numbers = [sequence.to_be_bytes(), acknowledgement.to_be_bytes()].concat();
        [&[0, 1, 0, 2], &numbers[..], &[offset, flags, 1, 0, 0, 0, 0, 0], options, payload].concat()
    }

    #[test]
    fn what_is_heard_grows_with_what_comes_and_not_with_what_comes_again() {
        let mut straight = Straight::default();
        straight.learn(&segment(u32::MAX - 1, 0, tcp_flags::SYN, &[], &[]));
        assert!(straight.is_next(u32::MAX));
        for (sequence, len, heard) in [(u32::MAX, 3, 2), (u32::MAX, 1, 2), (2, 0, 2), (10, 5, 15), (2, 8, 15), (14, 2, 16)] {
            straight.learn(&segment(sequence, 0, tcp_flags::ACK, &[], &vec![0; len]));
            assert!(straight.is_next(heard), "{len} bytes at {sequence}");
        }
    }

    #[test]
    fn only_payload_under_plain_flags_goes_straight() {
        for (flags, plain) in [(tcp_flags::ACK, true), (tcp_flags::ACK | tcp_flags::PSH, true), (tcp_flags::PSH, false)] {
            assert_eq!(
                Payload::of(&segment(1, 2, flags, &[1, 1, 1, 0], b"xyz")).map(|payload| payload.bytes),
                plain.then_some(&b"xyz"[..])
            );
        }
        for other in [tcp_flags::FIN, tcp_flags::SYN, tcp_flags::RST, 0x20] {
            assert!(Payload::of(&segment(1, 2, tcp_flags::ACK | other, &[], b"xyz")).is_none());
        }
    }

    #[test]
    fn smoltcp_sees_the_stream_without_what_went_straight() {
        let mut straight = Straight::from(0);
        straight.add(7);
        let plain = segment(3, 9, tcp_flags::ACK, &[1, 1, 1, 1], b"abcdef");
        let (mut v4, mut v6) = (vec![0x45; 20], vec![0x60; 40]);
        v4[2..4].copy_from_slice(&50u16.to_be_bytes());
        v6[4..6].copy_from_slice(&30u16.to_be_bytes());
        let mut scratch = Vec::new();
        for (ip, place, length) in [(v4, 2, 48u16), (v6, 4, 28)] {
            let header = ip.len();
            let seen = straight.inward(&[&ip[..], &plain].concat(), header, 2, &mut scratch).unwrap();
            assert_eq!(seen[place..place + 2], length.to_be_bytes());
            assert_eq!(seen[header..], segment(5u32.wrapping_sub(7), 9, tcp_flags::ACK, &[1, 1, 1, 1], b"cdef"));
            assert!(straight.inward(&ip, header, 0, &mut scratch).is_none());
        }
    }

    #[test]
    fn what_smoltcp_acknowledges_is_told_in_the_numbers_of_the_wire() {
        let mut straight = Straight::from(0);
        straight.add(7);
        let sack = |from: u32, to: u32| [&[1, 1, SACK, 10][..], &from.to_be_bytes(), &to.to_be_bytes()].concat();
        let mut said = segment(3, u32::MAX, tcp_flags::ACK, &sack(5, 8), b"abc");
        assert_eq!(straight.outward(&mut said), Some(()));
        assert_eq!(said, segment(3, 6, tcp_flags::ACK, &sack(12, 15), b"abc"));
        let reset = segment(3, 0, tcp_flags::RST, &[], &[]);
        let mut said = reset.clone();
        straight.outward(&mut said);
        assert_eq!(said, reset, "it acknowledges nothing");
        let mut torn = segment(3, 9, tcp_flags::ACK, &[3, 9, 1, 1], &[]);
        assert_eq!(straight.outward(&mut torn), None);
    }
}
