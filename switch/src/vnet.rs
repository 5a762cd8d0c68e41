//! The virtio-net header (VIRTIO 1.2, 5.1.6) before every frame of a TAP, to and from an [`Offload`].
//!
//! ```text
//!  0      1         2        4         6           8            10            12
//!  ┌──────┬─────────┬────────┬─────────┬───────────┬────────────┬─────────────┐
//!  │flags │gso_type │hdr_len │gso_size │csum_start │csum_offset │num_buffers  │   little-endian
//!  └──────┴─────────┴────────┴─────────┴───────────┴────────────┴─────────────┘
//! ```
//!
//! What comes in is hostile: a container with CAP_NET_RAW sets any header through PACKET_VNET_HDR. So every field is held
//! against the frame it came with. `hdr_len` is not even read, it is worked out from the frame; `num_buffers` neither, since a
//! TAP leaves those bytes as they were. What passes keeps these promises to the rest of the switch:
//! - a partial checksum lies inside of the frame and behind its Ethernet header;
//! - a superframe is what its kind says, is no fragment, has no padding, needs at least two segments, and its checksum is
//!   partial and is its transport's.

use std::num::NonZeroU16;

use crate::{
    Checksum, DropReason, Gso, GsoKind, Offload,
    parse::{Ethernet, Headers, Network, Transport, tcp_flags},
};

/// Bytes of the header: the size that TUNSETVNETHDRSZ is to be told.
pub const VNET_HEADER: usize = 12;

/// VIRTIO_NET_HDR_F_NEEDS_CSUM and VIRTIO_NET_HDR_F_DATA_VALID. A driver ignores flags that it does not know (5.1.6.4.1).
const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;

/// VIRTIO_NET_HDR_GSO_*. 3 would be UFO, IP fragments, which Linux no longer makes; it is refused as every unknown value.
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// The smallest TCP segment that Linux makes: an MSS of 48 (tcp_min_snd_mss) with 40 bytes of options. It bounds into how many
/// segments one frame can be cut.
const TCP_GSO_MIN: u16 = 8;

/// GSO_BY_FRAGS: Linux means something else by this size and refuses it.
const GSO_SIZE_RESERVED: u16 = 0xffff;

/// UDP_MAX_SEGMENTS of Linux.
const UDP_SEGMENTS_MAX: usize = 128;

const TCP_CHECKSUM_OFFSET: u16 = 16;
const UDP_CHECKSUM_OFFSET: u16 = 6;

/// Reads the header that came with `frame`. [`DropReason::BadOffload`] if it contradicts the frame, [`DropReason::Runt`] if
/// there is no Ethernet header to hold it against.
pub fn decode(header: &[u8; VNET_HEADER], frame: &[u8]) -> Result<Offload, DropReason> {
    let [flags, gso_type, _, _, s0, s1, c0, c1, o0, o1, _, _] = *header;
    let checksum = if flags & NEEDS_CSUM != 0 {
        partial(frame, u16::from_le_bytes([c0, c1]), u16::from_le_bytes([o0, o1]))?
    } else if flags & DATA_VALID != 0 {
        Checksum::Verified
    } else {
        Checksum::Finished
    };
    let gso = match gso_type {
        GSO_NONE => None,
        _ => segmented(frame, checksum, gso_type, u16::from_le_bytes([s0, s1]))?,
    };
    Ok(Offload { checksum, gso })
}

/// Writes the header that goes before `frame`. The offload is one that [`decode`] or the gateway made for these bytes.
pub fn encode(offload: &Offload, frame: &[u8]) -> [u8; VNET_HEADER] {
    let (flags, start, offset) = match offload.checksum {
        Checksum::Finished => (0, 0, 0),
        Checksum::Verified => (DATA_VALID, 0, 0),
        Checksum::Partial { start, offset } => (NEEDS_CSUM, start, offset),
    };
    let (gso_type, size, header_len) = match offload.gso {
        None => (GSO_NONE, 0, 0),
        Some(gso) => (gso_type(gso), gso.size.get(), header_len(frame)),
    };
    let ([h0, h1], [s0, s1]) = (header_len.to_le_bytes(), size.to_le_bytes());
    let ([c0, c1], [o0, o1]) = (start.to_le_bytes(), offset.to_le_bytes());
    [flags, gso_type, h0, h1, s0, s1, c0, c1, o0, o1, 0, 0]
}

fn partial(frame: &[u8], start: u16, offset: u16) -> Result<Checksum, DropReason> {
    // In front of the payload there are addresses: finishing such a checksum would send the frame elsewhere.
    let behind = Ethernet::parse(frame)?.len;
    let end = usize::from(start) + usize::from(offset) + 2;
    if usize::from(start) >= behind && end <= frame.len() { Ok(Checksum::Partial { start, offset }) } else { Err(DropReason::BadOffload) }
}

/// The superframe that the header describes; `None` if one segment holds it all, so that it is an ordinary frame.
fn segmented(frame: &[u8], checksum: Checksum, gso_type: u8, size: u16) -> Result<Option<Gso>, DropReason> {
    let headers = Headers::parse(frame)?;
    let gso = match (gso_type & !GSO_ECN, gso_type & GSO_ECN != 0) {
        (GSO_TCPV4, ecn) => (GsoKind::TcpV4, ecn),
        (GSO_TCPV6, ecn) => (GsoKind::TcpV6, ecn),
        (GSO_UDP_L4, false) => (GsoKind::Udp, false),
        _ => return Err(DropReason::BadOffload),
    };
    let size = NonZeroU16::new(size).filter(|size| size.get() != GSO_SIZE_RESERVED).ok_or(DropReason::BadOffload)?;
    let gso = Gso { kind: gso.0, size, ecn: gso.1 };
    let payload = check(frame, &headers, checksum, gso).ok_or(DropReason::BadOffload)?;
    Ok((payload > usize::from(size.get())).then_some(gso))
}

/// Holds a superframe against its headers. Gives the length of its payload, `None` if they disagree.
pub(crate) fn check(frame: &[u8], headers: &Headers, checksum: Checksum, gso: Gso) -> Option<usize> {
    let (start, offset) = match (gso.kind, headers.network, headers.transport) {
        (GsoKind::TcpV4, Network::Ipv4(_), Transport::Tcp(tcp)) | (GsoKind::TcpV6, Network::Ipv6(_), Transport::Tcp(tcp)) => {
            // A SYN takes a sequence number: its payload cannot be cut as if it did not.
            (tcp.flags & tcp_flags::SYN == 0 && gso.size.get() >= TCP_GSO_MIN).then_some((tcp.start, TCP_CHECKSUM_OFFSET))?
        }
        (GsoKind::Udp, Network::Ipv4(_) | Network::Ipv6(_), Transport::Udp(udp)) => (udp.start, UDP_CHECKSUM_OFFSET),
        _ => return None,
    };
    let Checksum::Partial { start: from, offset: at } = checksum else { return None };
    let (payload, end) = headers.payload()?;
    let length = end - payload;
    let counted = gso.kind != GsoKind::Udp || length <= usize::from(gso.size.get()) * UDP_SEGMENTS_MAX;
    (usize::from(from) == start && at == offset && end == frame.len() && length > 0 && counted).then_some(length)
}

fn gso_type(gso: Gso) -> u8 {
    let kind = match gso.kind {
        GsoKind::TcpV4 => GSO_TCPV4,
        GsoKind::TcpV6 => GSO_TCPV6,
        GsoKind::Udp => GSO_UDP_L4,
    };
    if gso.ecn { kind | GSO_ECN } else { kind }
}

/// Bytes before the transport's payload.
fn header_len(frame: &[u8]) -> u16 {
    let payload = Headers::parse(frame).ok().and_then(|headers| headers.payload());
    payload.and_then(|(start, _)| u16::try_from(start).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{Built, TcpFields, eth, mac};

    fn tcp4(payload: usize, size: u16) -> Built {
        let (a, b) = ("10.0.0.2:4000".parse().unwrap(), "10.0.0.3:80".parse().unwrap());
        eth(mac(1), mac(2)).tcp_gso(a, b, TcpFields { flags: tcp_flags::ACK, ..TcpFields::default() }, &vec![7; payload], size)
    }

    fn tcp6(payload: usize, size: u16) -> Built {
        let (a, b) = ("[fd00::2]:4000".parse().unwrap(), "[fd00::3]:80".parse().unwrap());
        eth(mac(1), mac(2)).tag(7).extra(2).tcp_gso(
            a,
            b,
            TcpFields { flags: tcp_flags::ACK, options: 3, ..TcpFields::default() },
            &vec![7; payload],
            size,
        )
    }

    fn udp4(payload: usize, size: u16) -> Built {
        let (a, b) = ("10.0.0.2:4000".parse().unwrap(), "10.0.0.3:53".parse().unwrap());
        eth(mac(1), mac(2)).extra(1).udp_gso(a, b, &vec![7; payload], size)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut marked = tcp4(4000, 1460);
        marked.offload.gso = marked.offload.gso.map(|gso| Gso { ecn: true, ..gso });
        let verified = Offload { checksum: Checksum::Verified, gso: None };
        let plain = eth(mac(1), mac(2)).filler(60);
        for built in [tcp4(4000, 1460), tcp6(9000, 1220), udp4(3000, 1472), marked, plain.clone(), Built { offload: verified, ..plain }] {
            let header = encode(&built.offload, &built.bytes);
            assert_eq!(decode(&header, &built.bytes), Ok(built.offload));
        }
    }

    #[test]
    fn the_fields_stand_where_virtio_puts_them() {
        let built = tcp4(4000, 1460);
        // NEEDS_CSUM, TCPV4, headers 54, size 1460, checksum at 34 + 16, no buffers.
        assert_eq!(encode(&built.offload, &built.bytes), [1, 1, 54, 0, 0xb4, 0x05, 34, 0, 16, 0, 0, 0]);
        let built = tcp6(4000, 1460);
        // Ethernet with a tag 18, IPv6 40, an extension header of 16, TCP with 12 bytes of options.
        assert_eq!(encode(&built.offload, &built.bytes), [1, 4, 106, 0, 0xb4, 0x05, 74, 0, 16, 0, 0, 0]);
        assert_eq!(encode(&Offload::default(), &built.bytes), [0; 12]);
    }

    #[test]
    fn what_the_kernel_does_not_set_is_not_read() {
        let built = tcp4(4000, 1460);
        let mut header = encode(&built.offload, &built.bytes);
        for (hdr_len, num_buffers) in [([0, 0], [0xff, 0xff]), ([0xff, 0xff], [1, 0])] {
            header[2..4].copy_from_slice(&hdr_len);
            header[10..12].copy_from_slice(&num_buffers);
            assert_eq!(decode(&header, &built.bytes), Ok(built.offload));
        }
        assert_eq!(decode(&[0xfc, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9], &built.bytes), Ok(Offload::default()), "unknown flags");
    }

    #[test]
    fn a_superframe_of_one_segment_is_an_ordinary_frame() {
        let built = tcp4(1460, 1460);
        let header = encode(&built.offload, &built.bytes);
        assert_eq!(decode(&header, &built.bytes), Ok(Offload { gso: None, ..built.offload }));
    }

    /// Changes one thing about a good header or frame.
    type Spoil = fn(&mut [u8; VNET_HEADER], &mut Vec<u8>);

    const LIES: &[(&str, Spoil)] = &[
        ("no such kind", |header, _| header[1] = 2),
        ("UFO", |header, _| header[1] = 3),
        ("a tunnel", |header, _| header[1] |= 0x20),
        ("ECN alone", |header, _| header[1] = GSO_ECN),
        ("UDP with ECN", |header, _| header[1] = GSO_UDP_L4 | GSO_ECN),
        ("TCP over the other family", |header, _| header[1] = if header[1] == GSO_TCPV4 { GSO_TCPV6 } else { GSO_TCPV4 }),
        ("TCP or UDP, the other", |header, _| header[1] = if header[1] == GSO_UDP_L4 { GSO_TCPV4 } else { GSO_UDP_L4 }),
        ("a size of zero", |header, _| header[4..6].fill(0)),
        ("a size of GSO_BY_FRAGS", |header, _| header[4..6].fill(0xff)),
        ("no partial checksum", |header, _| header[0] = 0),
        ("a verified checksum", |header, _| header[0] = DATA_VALID),
        ("a checksum of something else", |header, _| header[6] += 2),
        ("a checksum elsewhere", |header, _| header[8] -= 2),
        ("a checksum behind the frame", |header, _| header[6..8].fill(0xff)),
        ("a checksum field behind the frame", |header, _| header[8..10].fill(0xff)),
        ("a checksum over the addresses", |header, _| header[6..10].fill(0)),
        ("padding", |_, frame| frame.push(0)),
        ("a packet cut short", |_, frame| _ = frame.pop()),
        ("another EtherType", |_, frame| frame[12] = 0x86),
    ];

    #[test]
    fn a_header_that_contradicts_its_frame_is_refused() {
        for built in [tcp4(4000, 1460), tcp6(4000, 1460), udp4(4000, 1460)] {
            let good = encode(&built.offload, &built.bytes);
            assert_eq!(decode(&good, &built.bytes), Ok(built.offload));
            for (lie, spoil) in LIES {
                let (mut header, mut frame) = (good, built.bytes.clone());
                spoil(&mut header, &mut frame);
                assert_eq!(decode(&header, &frame), Err(DropReason::BadOffload), "{lie}: {header:?}");
            }
        }
    }

    #[test]
    fn segments_that_could_not_be_cut_are_refused() {
        let refused = |built: &Built| assert_eq!(decode(&encode(&built.offload, &built.bytes), &built.bytes), Err(DropReason::BadOffload));
        refused(&tcp4(4000, TCP_GSO_MIN - 1));
        refused(&udp4(1290, 10));
        let mut fragment = tcp4(4000, 1460);
        fragment.bytes[20] |= 0x20;
        refused(&fragment);
        let mut syn = tcp4(4000, 1460);
        syn.bytes[47] |= tcp_flags::SYN;
        refused(&syn);
        let udp = udp4(1280, 10);
        assert_eq!(decode(&encode(&udp.offload, &udp.bytes), &udp.bytes), Ok(udp.offload), "128 datagrams are the most");
    }

    #[test]
    fn a_partial_checksum_is_not_taken_from_a_runt() {
        let header = [NEEDS_CSUM, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(decode(&header, &[0; 13]), Err(DropReason::Runt));
        assert_eq!(decode(&[0, 1, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0], &[]), Err(DropReason::Runt));
    }

    #[test]
    fn the_checksum_of_a_protocol_that_is_not_ours_to_know_is_passed_on() {
        let frame = eth(mac(1), mac(2)).filler(100).bytes;
        let header = [NEEDS_CSUM, 0, 0, 0, 0, 0, 30, 0, 68, 0, 0, 0];
        assert_eq!(decode(&header, &frame), Ok(Offload { checksum: Checksum::Partial { start: 30, offset: 68 }, gso: None }));
        let header = [NEEDS_CSUM, 0, 0, 0, 0, 0, 30, 0, 69, 0, 0, 0];
        assert_eq!(decode(&header, &frame), Err(DropReason::BadOffload), "one byte behind the end");
    }
}
