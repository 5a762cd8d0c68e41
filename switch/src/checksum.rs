//! The Internet checksum (RFC 1071): sums, pseudo-headers, and finishing what a sender left partial.
//!
//! A sum here is not yet complemented and need not be folded: sums of parts are chained through `initial`, and
//! [`finished`] makes the value that stands in a header. Only the last part may have an odd length. Never allocates, and
//! never looks at what the bytes mean.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The one's-complement sum of `bytes` as big-endian 16-bit words, added to `initial`. An odd last byte is padded with a zero
/// (RFC 1071, 4.1). At most 0x1fffe, so that sums can be added freely.
///
/// ```
/// # use netloom_switch::checksum;
/// // The example of RFC 1071, section 3.
/// assert_eq!(checksum::sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7], 0), 0xddf2);
/// ```
pub fn sum(bytes: &[u8], initial: u32) -> u32 {
    // The sum does not depend on the byte order (RFC 1071, 2.B), so words are added as the machine reads them. Four bytes at a
    // time into eight cannot overflow below 16 GiB, and the compiler makes vector code of it.
    let (words, rest) = bytes.as_chunks::<4>();
    let mut total: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let mut last = [0; 4];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    total += u64::from(u32::from_ne_bytes(last));
    total = (total >> 32) + (total & 0xffff_ffff);
    total = (total >> 32) + (total & 0xffff_ffff);
    u32::from(u16::from_be(fold(total as u32))) + u32::from(fold(initial))
}

/// Folds the carries of a sum into 16 bits.
pub const fn fold(sum: u32) -> u16 {
    let once = (sum >> 16) + (sum & 0xffff);
    ((once >> 16) + (once & 0xffff)) as u16
}

/// The value that a header carries for a sum: folded and complemented. A correct packet, its checksum field included, gives 0.
pub const fn finished(sum: u32) -> u16 {
    !fold(sum)
}

/// [`finished`] for UDP, and as good for TCP: never 0, which in UDP says that there is no checksum (RFC 768). All ones means
/// the same number.
pub const fn finished_nonzero(sum: u32) -> u16 {
    match finished(sum) {
        0 => 0xffff,
        value => value,
    }
}

/// The sum of the pseudo-header of TCP and UDP over IPv4 (RFC 9293, 3.1). `length` is the segment's, header and payload.
pub fn pseudo_v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: u16) -> u32 {
    sum(&source.octets(), sum(&destination.octets(), u32::from(protocol) + u32::from(length)))
}

/// The sum of the pseudo-header over IPv6 (RFC 8200, 8.1). `length` is the upper layer's, header and payload.
pub fn pseudo_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, length: u32) -> u32 {
    sum(&source.octets(), sum(&destination.octets(), sum(&length.to_be_bytes(), u32::from(protocol))))
}

/// The sum of the pseudo-header of either family; an IPv4 address beside an IPv6 one is written as the mapped one (RFC 4291,
/// 2.5.5.2). `length` is the upper layer's, header and payload.
pub fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, length: u16) -> u32 {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => pseudo_v4(source, destination, protocol, length),
        (source, destination) => pseudo_v6(as_v6(source), as_v6(destination), protocol, u32::from(length)),
    }
}

const fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// Finishes a partial checksum in place ([`Checksum::Partial`](crate::Checksum::Partial)): sums from `start` to the end and
/// stores the result at `start + offset`. False, and nothing written, when that lies outside of `frame`.
#[must_use]
pub fn finish(frame: &mut [u8], start: u16, offset: u16) -> bool {
    let Some(summed) = frame.get_mut(usize::from(start)..) else { return false };
    let value = finished_nonzero(sum(summed, 0)).to_be_bytes();
    match summed.get_mut(usize::from(offset)..).and_then(<[u8]>::first_chunk_mut) {
        Some(field) => {
            *field = value;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 to the letter: one word at a time, the carry added at once.
    fn by_the_book(bytes: &[u8]) -> u16 {
        bytes.chunks(2).fold(0u16, |total, pair| {
            let word = u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]);
            let (sum, carry) = total.overflowing_add(word);
            sum + u16::from(carry)
        })
    }

    proptest! {
        #[test]
        fn the_fast_sum_is_the_sum_of_the_rfc(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(fold(sum(&bytes, 0)), by_the_book(&bytes));
        }

        #[test]
        fn parts_chain(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..100) {
            let (head, tail) = bytes.split_at((at * 2).min(bytes.len() / 2 * 2));
            prop_assert_eq!(fold(sum(tail, sum(head, 0))), by_the_book(&bytes));
        }
    }

    #[test]
    fn carries_survive_the_largest_sum() {
        assert_eq!(fold(sum(&vec![0xff; 65_553], 0)), by_the_book(&vec![0xff; 65_553]));
        assert_eq!(fold(sum(&[], u32::MAX)), 0xffff);
    }

    #[test]
    fn an_ipv4_header_from_a_wire_checks_out() {
        // An IPv4 header with its checksum 0xb1e6 (RFC 1071 arithmetic done by hand).
        let header = [0x45, 0, 0, 0x3c, 0x1c, 0x46, 0x40, 0, 0x40, 6, 0xb1, 0xe6, 0xac, 0x10, 0x0a, 0x63, 0xac, 0x10, 0x0a, 0x0c];
        assert_eq!(finished(sum(&header, 0)), 0);
        let mut blank = header;
        blank[10..12].fill(0);
        assert_eq!(finished(sum(&blank, 0)), 0xb1e6);
    }

    #[test]
    fn a_partial_checksum_is_finished_to_what_a_full_one_is() {
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3));
        let mut frame = b"...header....\x13\x88\x00\x35\x00\x0d\x00\x00hello".to_vec();
        let start = 13;
        let length = (frame.len() - start) as u16;
        let pseudo = pseudo_v4(a, b, 17, length);
        let whole = finished_nonzero(sum(&frame[start..], pseudo));
        frame[start + 6..start + 8].copy_from_slice(&fold(pseudo).to_be_bytes());
        assert!(finish(&mut frame, start as u16, 6));
        assert_eq!(frame[start + 6..start + 8], whole.to_be_bytes());
        assert_eq!(finished(sum(&frame[start..], pseudo)), 0, "and a receiver finds it right");
    }

    #[test]
    fn a_checksum_of_zero_is_sent_as_all_ones() {
        let mut frame = [0xff, 0xff, 0, 0];
        assert!(finish(&mut frame, 0, 2));
        assert_eq!(frame, [0xff, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn a_checksum_outside_of_the_frame_is_not_written() {
        let mut frame = [1, 2, 3, 4];
        for (start, offset) in [(5, 0), (0, 3), (4, 0), (2, u16::MAX), (u16::MAX, u16::MAX)] {
            assert!(!finish(&mut frame, start, offset));
        }
        assert_eq!(frame, [1, 2, 3, 4]);
    }

    #[test]
    fn both_pseudo_headers_sum_their_own_bytes() {
        let (a, b) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 7));
        assert_eq!(fold(pseudo_v4(a, b, 6, 1460)), by_the_book(&[192, 0, 2, 1, 198, 51, 100, 7, 0, 6, 0x05, 0xb4]));
        let (a, b) = ("2001:db8::1".parse::<Ipv6Addr>().unwrap(), "fe80::42:acff:fe11:8".parse::<Ipv6Addr>().unwrap());
        let bytes = [&a.octets()[..], &b.octets(), &[0, 1, 0, 2, 0, 0, 0, 58]].concat();
        assert_eq!(fold(pseudo_v6(a, b, 58, 0x1_0002)), by_the_book(&bytes));
    }
}
