//! Reading a frame's headers: one pass, every access checked, nothing kept but offsets and small values.
//!
//! ```text
//! Ethernet::parse   dst, src, tag, EtherType          all that forwarding needs; fails on a runt alone
//! Headers::parse    + network, transport              for superframes, the gateway, filters
//! ```
//!
//! A switch forwards what it does not understand: a packet that makes no sense is a value ([`Network::Malformed`],
//! [`Transport::Malformed`]), not an error. Checksums are not looked at here.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{DropReason, Mac, frame::ETHERNET_HEADER};

/// EtherTypes (IANA, IEEE 802 numbers).
pub mod ethertype {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    pub const VLAN: u16 = 0x8100;
    pub const IPV6: u16 = 0x86dd;
    pub const SERVICE_VLAN: u16 = 0x88a8;
}

/// Protocol numbers of IPv4, next headers of IPv6 (IANA, assigned internet protocol numbers).
pub mod protocol {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const DESTINATION_OPTIONS: u8 = 60;
    pub const MOBILITY: u8 = 135;
}

/// Flags in the fourteenth byte of a TCP header (RFC 9293, 3.1).
pub mod tcp_flags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const URG: u8 = 0x20;
    pub const ECE: u8 = 0x40;
    pub const CWR: u8 = 0x80;
}

/// The VLAN in the tag control information of a tag (IEEE 802.1Q, 9.6).
const VLAN_ID: u16 = 0x0fff;

/// Tags that are looked behind in one frame, where a second one makes no sense already.
const PRIORITY_TAGS_MAX: usize = 8;

/// Extension headers that are followed in one IPv6 packet; RFC 8200, 4.1 expects at most seven.
const EXTENSIONS_MAX: usize = 8;

/// The outermost header, its VLAN tag among it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    pub dst: Mac,
    pub src: Mac,
    /// The tag control information of the outer 802.1Q or 802.1ad tag: priority, DEI and VLAN ID.
    pub tag: Option<u16>,
    /// What follows the header: the EtherType behind the tag. Below 0x600 it is an 802.3 length.
    pub ethertype: u16,
    /// Bytes of the header: 14, or 18 with a tag.
    pub len: usize,
}

impl Ethernet {
    /// Reads the header. [`DropReason::Runt`] if the frame ends inside of it.
    pub fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        let (dst, rest) = take::<6>(bytes).ok_or(DropReason::Runt)?;
        let (src, rest) = take::<6>(rest).ok_or(DropReason::Runt)?;
        let (kind, rest) = take::<2>(rest).ok_or(DropReason::Runt)?;
        let untagged = Self { dst: Mac(dst), src: Mac(src), tag: None, ethertype: u16::from_be_bytes(kind), len: ETHERNET_HEADER };
        if !matches!(untagged.ethertype, ethertype::VLAN | ethertype::SERVICE_VLAN) {
            return Ok(untagged);
        }
        let ([a, b, c, d], _) = take::<4>(rest).ok_or(DropReason::Runt)?;
        let tag = Some(u16::from_be_bytes([a, b]));
        Ok(Self { tag, ethertype: u16::from_be_bytes([c, d]), len: ETHERNET_HEADER + 4, ..untagged })
    }

    /// The header as the receiver of `bytes` reads it. A priority tag (802.1Q: VLAN ID 0) is of no VLAN, and Linux takes off as many as
    /// there are, before a VLAN's tag and behind it; the tag of a second VLAN is payload. `None`: there is no end of tags.
    pub(crate) fn behind_priority_tags(mut self, bytes: &[u8]) -> Option<Self> {
        let Some(mut outer) = self.tag else { return Some(self) };
        for _ in 0..=PRIORITY_TAGS_MAX {
            if !matches!(self.ethertype, ethertype::VLAN | ethertype::SERVICE_VLAN) {
                return Some(self);
            }
            let Some(([a, b, c, d], _)) = bytes.get(self.len..).and_then(take::<4>) else { return Some(self) };
            let inner = u16::from_be_bytes([a, b]);
            if outer & VLAN_ID != 0 && inner & VLAN_ID != 0 {
                return Some(self);
            }
            outer |= inner;
            (self.ethertype, self.len) = (u16::from_be_bytes([c, d]), self.len + 4);
        }
        None
    }
}

/// All headers of a frame, as far as they could be read. Offsets count from the frame's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    pub ethernet: Ethernet,
    pub network: Network,
    pub transport: Transport,
}

/// The network layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Ipv4(Ipv4),
    Ipv6(Ipv6),
    /// Says that it is IP, and is not, or is longer than its frame.
    Malformed,
    /// Not IP: the EtherType says what.
    Other,
}

/// An IPv4 header (RFC 791, 3.1) whose lengths agree with the frame's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
    pub protocol: u8,
    /// Where the header begins, and where its payload does (behind the options).
    pub start: usize,
    pub payload: usize,
    /// Where the packet ends; behind it there is only padding.
    pub end: usize,
    pub fragment: bool,
}

/// An IPv6 header with its extension headers (RFC 8200, 3 and 4) whose lengths agree with the frame's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    pub src: Ipv6Addr,
    pub dst: Ipv6Addr,
    /// The first next-header value that is no extension header.
    pub protocol: u8,
    /// Where the header begins, and where the upper layer does (behind the extension headers).
    pub start: usize,
    pub payload: usize,
    /// Where the packet ends; behind it there is only padding.
    pub end: usize,
    pub fragment: bool,
}

/// The transport layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp(Tcp),
    Udp(Udp),
    /// A fragment: what its payload begins with depends on where it lies.
    Fragment,
    /// Says that it is TCP or UDP, and its lengths are impossible.
    Malformed,
    /// Neither TCP nor UDP; the network header's protocol says what.
    Other,
    /// There is none: the network layer is not IP, or malformed.
    None,
}

/// A TCP header (RFC 9293, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    pub src: u16,
    pub dst: u16,
    pub flags: u8,
    /// Where the header begins, and where its payload does (behind the options).
    pub start: usize,
    pub payload: usize,
}

/// A UDP header (RFC 768).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    pub src: u16,
    pub dst: u16,
    /// Where the header begins, and where its payload does.
    pub start: usize,
    pub payload: usize,
}

impl Headers {
    /// Reads what can be read. [`DropReason::Runt`] if the frame has no whole Ethernet header.
    pub fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        let ethernet = Ethernet::parse(bytes)?;
        let network = match ethernet.ethertype {
            ethertype::IPV4 => Ipv4::parse(bytes, ethernet.len).map_or(Network::Malformed, Network::Ipv4),
            ethertype::IPV6 => Ipv6::parse(bytes, ethernet.len).map_or(Network::Malformed, Network::Ipv6),
            _ => Network::Other,
        };
        let transport = match network {
            Network::Ipv4(ip) => Transport::parse(bytes, ip.protocol, ip.fragment, ip.payload, ip.end),
            Network::Ipv6(ip) => Transport::parse(bytes, ip.protocol, ip.fragment, ip.payload, ip.end),
            Network::Malformed | Network::Other => Transport::None,
        };
        Ok(Self { ethernet, network, transport })
    }

    /// Where the transport's payload begins and the packet ends, of TCP and UDP. All before it is what every segment of a
    /// superframe repeats.
    pub fn payload(&self) -> Option<(usize, usize)> {
        let end = match self.network {
            Network::Ipv4(ip) => ip.end,
            Network::Ipv6(ip) => ip.end,
            Network::Malformed | Network::Other => return None,
        };
        match self.transport {
            Transport::Tcp(tcp) => Some((tcp.payload, end)),
            Transport::Udp(udp) => Some((udp.payload, end)),
            _ => None,
        }
    }
}

impl Ipv4 {
    fn parse(bytes: &[u8], start: usize) -> Option<Self> {
        let (header, _) = take::<20>(bytes.get(start..)?)?;
        let [version, _, l0, l1, _, _, f0, f1, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = header;
        let payload = start + usize::from(version & 0xf) * 4;
        let end = start + usize::from(u16::from_be_bytes([l0, l1]));
        let fits = version >> 4 == 4 && payload >= start + 20 && payload <= end && end <= bytes.len();
        // More fragments follow, or others came before.
        let fragment = u16::from_be_bytes([f0, f1]) & 0x3fff != 0;
        let (src, dst) = ([s0, s1, s2, s3].into(), [d0, d1, d2, d3].into());
        fits.then_some(Self { src, dst, protocol, start, payload, end, fragment })
    }
}

impl Ipv6 {
    /// Reads the header at `start`; `None`: what is there is none, is longer than its frame, or has too many extension headers.
    pub(crate) fn parse(bytes: &[u8], start: usize) -> Option<Self> {
        let ([version, _, _, _, l0, l1, next, _], rest) = take::<8>(bytes.get(start..)?)?;
        let (src, rest) = take::<16>(rest)?;
        let (dst, _) = take::<16>(rest)?;
        let first = start + 40;
        let end = first + usize::from(u16::from_be_bytes([l0, l1]));
        if version >> 4 != 6 || end > bytes.len() {
            return None;
        }
        let (protocol, payload, fragment) = Self::extensions(bytes.get(..end)?, next, first)?;
        Some(Self { src: src.into(), dst: dst.into(), protocol, start, payload, end, fragment })
    }

    /// The upper layer: its protocol and its bytes, in `frame`, which this header was read from. A later fragment has none:
    /// protocol 59, "no next header". `None`: the headers of a first fragment, the upper layer's among them, do not end in it, as they
    /// must (RFC 7112, 5), or are those of a fragment again.
    pub(crate) fn upper<'f>(&self, frame: &'f [u8]) -> Option<(u8, &'f [u8])> {
        const NO_NEXT_HEADER: u8 = 59;
        let bytes = |from: usize| frame.get(from..self.end).unwrap_or_default();
        if !self.fragment {
            return Some((self.protocol, bytes(self.payload)));
        }
        let offset = frame.get(self.payload.saturating_sub(6)..)?.first_chunk::<2>()?;
        if u16::from_be_bytes(*offset) & 0xfff8 != 0 {
            return Some((NO_NEXT_HEADER, &[]));
        }
        let (protocol, at, is_nested) = Self::extensions(frame.get(..self.end)?, self.protocol, self.payload)?;
        let header = match protocol {
            protocol::TCP => 20,
            protocol::UDP => 8,
            protocol::ICMPV6 => 4,
            _ => 0,
        };
        Some((protocol, bytes(at))).filter(|(_, upper)| upper.len() >= header && !is_nested)
    }

    /// Follows the extension headers from `at`: the protocol behind them, where it begins, and whether this is a fragment.
    /// What lies behind a fragment header that is not the first one cannot be read, so it ends the walk.
    fn extensions(packet: &[u8], mut next: u8, mut at: usize) -> Option<(u8, usize, bool)> {
        for _ in 0..=EXTENSIONS_MAX {
            let unit = match next {
                protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS | protocol::MOBILITY => 8,
                protocol::AUTHENTICATION => 4,
                protocol::FRAGMENT => {
                    let ([after, _, o0, o1, ..], _) = take::<8>(packet.get(at..)?)?;
                    // All but an atomic fragment (RFC 6946): an offset, or more to come.
                    if u16::from_be_bytes([o0, o1]) & 0xfff9 != 0 {
                        return Some((after, at + 8, true));
                    }
                    (next, at) = (after, at + 8);
                    continue;
                }
                _ => return Some((next, at, false)),
            };
            let ([after, units], _) = take::<2>(packet.get(at..)?)?;
            // The first eight bytes are not counted (RFC 8200, 4.3); an authentication header counts four at a time (RFC 4302, 2.2).
            (next, at) = (after, at + 8 + usize::from(units) * unit);
            if at > packet.len() {
                return None;
            }
        }
        None
    }
}

impl Transport {
    fn parse(bytes: &[u8], protocol: u8, fragment: bool, start: usize, end: usize) -> Self {
        if fragment {
            return Self::Fragment;
        }
        let Some(segment) = bytes.get(start..end) else { return Self::Malformed };
        match protocol {
            protocol::TCP => Tcp::parse(segment, start).map_or(Self::Malformed, Self::Tcp),
            protocol::UDP => Udp::parse(segment, start).map_or(Self::Malformed, Self::Udp),
            _ => Self::Other,
        }
    }
}

impl Tcp {
    fn parse(segment: &[u8], start: usize) -> Option<Self> {
        let ([s0, s1, d0, d1, _, _, _, _, _, _, _, _, offset, flags, ..], _) = take::<20>(segment)?;
        let header = usize::from(offset >> 4) * 4;
        let (src, dst) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
        (header >= 20 && header <= segment.len()).then_some(Self { src, dst, flags, start, payload: start + header })
    }
}

impl Udp {
    fn parse(segment: &[u8], start: usize) -> Option<Self> {
        let ([s0, s1, d0, d1, l0, l1, _, _], _) = take::<8>(segment)?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let (src, dst) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
        (length >= 8 && length <= segment.len()).then_some(Self { src, dst, start, payload: start + 8 })
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    bytes.split_first_chunk::<N>().map(|(head, rest)| (*head, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testkit::{TcpFields, eth, fuzz, mac};

    fn v4() -> (std::net::SocketAddr, std::net::SocketAddr) {
        ("10.0.0.2:4000".parse().unwrap(), "10.0.0.3:80".parse().unwrap())
    }

    fn v6() -> (std::net::SocketAddr, std::net::SocketAddr) {
        ("[fd00::2]:4000".parse().unwrap(), "[fd00::3]:53".parse().unwrap())
    }

    #[test]
    fn a_tagged_tcp_segment_with_options_is_read_whole() {
        let (a, b) = v4();
        let built =
            eth(mac(1), mac(2)).tag(0x600a).extra(2).tcp(a, b, TcpFields { flags: 0x18, options: 3, ..TcpFields::default() }, b"hello");
        let headers = Headers::parse(&built.bytes).unwrap();
        assert_eq!(headers.ethernet, Ethernet { dst: mac(2), src: mac(1), tag: Some(0x600a), ethertype: ethertype::IPV4, len: 18 });
        let ip =
            Ipv4 { src: [10, 0, 0, 2].into(), dst: [10, 0, 0, 3].into(), protocol: 6, start: 18, payload: 46, end: 83, fragment: false };
        assert_eq!(headers.network, Network::Ipv4(ip));
        assert_eq!(headers.transport, Transport::Tcp(Tcp { src: 4000, dst: 80, flags: 0x18, start: 46, payload: 78 }));
        assert_eq!(headers.payload(), Some((78, 83)));
    }

    #[test]
    fn an_ipv6_datagram_is_found_behind_its_extension_headers() {
        let (a, b) = v6();
        let headers = Headers::parse(&eth(mac(1), mac(2)).extra(2).udp(a, b, b"hello").bytes).unwrap();
        assert_eq!(headers.transport, Transport::Udp(Udp { src: 4000, dst: 53, start: 70, payload: 78 }));
        let Network::Ipv6(ip) = headers.network else { panic!("{headers:?}") };
        assert_eq!((ip.protocol, ip.start, ip.payload, ip.end), (17, 14, 70, 83));
    }

    #[test]
    fn padding_is_not_payload() {
        let (a, b) = v4();
        let built = eth(mac(1), mac(2)).udp(a, b, b"x").to_len(60);
        assert_eq!(Headers::parse(&built.bytes).unwrap().payload(), Some((42, 43)));
    }

    #[test]
    fn fragments_have_no_transport_but_an_atomic_one_does() {
        let (a, b) = v4();
        let mut first = eth(mac(1), mac(2)).udp(a, b, b"hello").bytes;
        first[20] = 0x20;
        assert_eq!(Headers::parse(&first).unwrap().transport, Transport::Fragment);
        (first[20], first[21]) = (0, 1);
        assert_eq!(Headers::parse(&first).unwrap().transport, Transport::Fragment);

        // The eight bytes of a destination-options header become a fragment header.
        let (a, b) = v6();
        let mut atomic = eth(mac(1), mac(2)).extra(1).udp(a, b, b"hello").bytes;
        atomic[20] = protocol::FRAGMENT;
        atomic[55..62].copy_from_slice(&[0, 0, 0, 1, 2, 3, 4]);
        assert!(matches!(Headers::parse(&atomic).unwrap().transport, Transport::Udp(_)));
        atomic[57] = 1;
        assert_eq!(Headers::parse(&atomic).unwrap().transport, Transport::Fragment);
    }

    #[test]
    fn a_chain_of_extension_headers_has_an_end() {
        let chain = |count: usize| {
            let mut packet = vec![0x60, 0, 0, 0, 0, (count * 8 + 8) as u8, 60, 64];
            packet.extend([0; 32]);
            for left in (0..count).rev() {
                packet.extend([if left == 0 { 17 } else { 60 }, 0, 1, 4, 0, 0, 0, 0]);
            }
            packet.extend([0, 1, 0, 2, 0, 8, 0, 0]);
            Headers::parse(&eth(mac(1), mac(2)).raw(ethertype::IPV6, &packet).bytes).unwrap().network
        };
        assert!(matches!(chain(EXTENSIONS_MAX), Network::Ipv6(_)));
        assert_eq!(chain(EXTENSIONS_MAX + 1), Network::Malformed);
    }

    #[test]
    fn impossible_lengths_make_a_packet_malformed_and_not_an_error() {
        let (a, b) = v4();
        let good = eth(mac(1), mac(2)).udp(a, b, b"hello").bytes;
        for (at, value) in [(14, 0x55), (14, 0x44), (14, 0x4f), (16, 0x01), (17, 19)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(Headers::parse(&bad).unwrap().network, Network::Malformed, "byte {at} is {value}");
        }
        for (at, value) in [(39, 7), (39, 14)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(Headers::parse(&bad).unwrap().transport, Transport::Malformed, "byte {at} is {value}");
        }
        let mut bad = eth(mac(1), mac(2)).tcp(a, b, TcpFields::default(), b"").bytes;
        bad[46] = 0x60;
        assert_eq!(Headers::parse(&bad).unwrap().transport, Transport::Malformed);
        bad[46] = 0x40;
        assert_eq!(Headers::parse(&bad).unwrap().transport, Transport::Malformed);
    }

    #[test]
    fn a_second_tag_is_payload() {
        let built = eth(mac(1), mac(2)).tag(1).raw(ethertype::VLAN, &[0, 2, 8, 0]);
        let headers = Headers::parse(&built.bytes).unwrap();
        assert_eq!((headers.ethernet.ethertype, headers.network), (ethertype::VLAN, Network::Other));
    }

    #[test]
    fn priority_tags_are_looked_behind_as_a_receiver_does_it() {
        let behind = |tags: &[u16]| {
            let (outer, inner) = tags.split_first().unwrap();
            let nested: Vec<u8> = inner.iter().flat_map(|tci| [tci.to_be_bytes(), [8, 6]]).flatten().collect();
            // Each tag but the last is followed by another.
            let mut built = eth(mac(1), mac(2)).tag(*outer).raw(ethertype::ARP, &nested).bytes;
            (0..inner.len()).for_each(|at| built[16 + 4 * at..18 + 4 * at].copy_from_slice(&[[0x81, 0], [0x88, 0xa8]][at % 2]));
            Ethernet::parse(&built).unwrap().behind_priority_tags(&built).map(|ethernet| (ethernet.ethertype, ethernet.len))
        };
        assert_eq!(behind(&[0]), Some((ethertype::ARP, 18)));
        for two in [[0, 0xe000], [0, 5], [0x6005, 0]] {
            assert_eq!(behind(&two), Some((ethertype::ARP, 22)), "{two:?}");
        }
        assert_eq!(behind(&[0, 5, 0, 0]), Some((ethertype::ARP, 30)));
        assert_eq!(behind(&[5, 6]), Some((ethertype::VLAN, 18)), "the second VLAN is payload");
        assert_eq!(behind(&[0, 5, 0, 6]), Some((ethertype::VLAN, 26)), "wherever it stands");
        assert_eq!(behind(&[0; 1 + PRIORITY_TAGS_MAX]), Some((ethertype::ARP, 18 + 4 * PRIORITY_TAGS_MAX)));
        assert_eq!(behind(&[0; 2 + PRIORITY_TAGS_MAX]), None);
        let cut = eth(mac(1), mac(2)).tag(0).raw(ethertype::VLAN, &[0, 0, 8]).bytes;
        assert_eq!(Ethernet::parse(&cut).unwrap().behind_priority_tags(&cut).unwrap().len, 18, "half a tag is payload");
    }

    proptest! {
        #[test]
        fn offsets_lie_inside_of_any_frame(
            bytes in prop::collection::vec(any::<u8>(), 0..200), is_v6: bool, tagged: bool, is_ip in prop::bool::weighted(0.9),
        ) {
            let mut bytes = bytes;
            let kind = if is_v6 { [0x86, 0xdd] } else { [8, 0] };
            let at = if tagged { 16 } else { 12 };
            if is_ip && bytes.len() > at + 2 {
                bytes[12..14].copy_from_slice(&[0x81, 0]);
                bytes[at..at + 2].copy_from_slice(&kind);
                bytes[at + 2] = if is_v6 { 0x60 } else { 0x45 };
            }
            fuzz::parse(&bytes);
            for len in 0..bytes.len() {
                fuzz::parse(&bytes[..len]);
            }
        }
    }
}
