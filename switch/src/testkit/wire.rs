//! What a receiver at the end of a wire would check, written as the RFCs say it and not as the switch does it.

use crate::parse::{Headers, Network, Transport};

/// The one's-complement sum of RFC 1071: one word at a time, each carry added at once.
pub(crate) fn by_the_book(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0, |total: u16, pair| {
        let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        let (sum, carry) = total.overflowing_add(word);
        sum + u16::from(carry)
    })
}

/// Whether a TCP or UDP frame is complete and its lengths and checksums are all right.
pub fn is_right_on_a_wire(bytes: &[u8]) -> bool {
    let Ok(headers) = Headers::parse(bytes) else { return false };
    let (src, dst, protocol, payload, end, is_ip_right) = match headers.network {
        Network::Ipv4(ip) => {
            let is_right = by_the_book(&bytes[ip.start..ip.payload]) == 0xffff;
            (ip.src.octets().to_vec(), ip.dst.octets().to_vec(), ip.protocol, ip.payload, ip.end, is_right)
        }
        Network::Ipv6(ip) => (ip.src.octets().to_vec(), ip.dst.octets().to_vec(), ip.protocol, ip.payload, ip.end, true),
        Network::Malformed | Network::Other => return false,
    };
    let length = u32::try_from(end - payload).unwrap();
    let is_length_right = match headers.transport {
        Transport::Tcp(_) => true,
        Transport::Udp(udp) => bytes[udp.start + 4..udp.start + 6] == u16::try_from(length).unwrap().to_be_bytes(),
        _ => return false,
    };
    let summed = [&src[..], &dst, &length.to_be_bytes(), &[0, 0, 0, protocol], &bytes[payload..end]].concat();
    is_ip_right && is_length_right && end == bytes.len() && by_the_book(&summed) == 0xffff
}

/// The payloads of TCP or UDP frames, one after the other.
pub fn joined(frames: &[Vec<u8>]) -> Vec<u8> {
    let payload = |bytes: &Vec<u8>| {
        let (start, end) = Headers::parse(bytes).unwrap().payload().unwrap();
        bytes[start..end].to_vec()
    };
    frames.iter().flat_map(payload).collect()
}
