//! The software segmenter: from a frame with an offload to the frames that a wire would carry.
//!
//! For egress ports that take neither superframes nor partial checksums, and for links that delay and lose single packets. What
//! a network card does for TSO and USO is done here: headers repeated, lengths, IPv4 identification and TCP sequence numbers
//! counted on, flags put where they belong, all checksums finished. Segments are written one at a time into the caller's
//! buffer; nothing is allocated. Joined again they give the frame's payload, byte for byte.

use crate::{
    Checksum, DropReason, Frame,
    checksum::{finish, finished, finished_nonzero, pseudo_v4, pseudo_v6, sum},
    parse::{Headers, Network, Transport, protocol, tcp_flags},
    vnet,
};

/// The frames that one frame becomes, in order. A lending iterator: each is gone when the next is asked for.
#[derive(Debug)]
pub struct Segments<'f, 'b> {
    frame: &'f [u8],
    buffer: &'b mut [u8],
    work: Work,
}

#[derive(Debug)]
enum Work {
    Done,
    /// As it is.
    Pass,
    /// One frame, whose checksum is still to be finished.
    Finish {
        start: u16,
        offset: u16,
    },
    Cut(Cut),
}

/// How far a superframe has been cut.
#[derive(Debug)]
struct Cut {
    headers: Headers,
    /// Where the payload begins, and where it ends.
    payload: usize,
    end: usize,
    size: usize,
    /// Where the next segment's payload begins, and how many segments came before it.
    at: usize,
    index: u16,
}

impl<'f, 'b> Segments<'f, 'b> {
    /// Prepares to cut `frame`. [`DropReason::BadOffload`] if its offload contradicts it, [`DropReason::TooLong`] if a segment
    /// would not fit into `buffer` (an ordinary frame needs a buffer of its own length, and only if its checksum is partial).
    pub fn new(frame: &Frame<'f>, buffer: &'b mut [u8]) -> Result<Self, DropReason> {
        let (work, longest) = match (frame.offload.gso, frame.offload.checksum) {
            (None, Checksum::Partial { start, offset }) => (Work::Finish { start, offset }, frame.bytes.len()),
            (None, _) => (Work::Pass, 0),
            (Some(gso), checksum) => {
                let headers = Headers::parse(frame.bytes)?;
                vnet::check(frame.bytes, &headers, checksum, gso).ok_or(DropReason::BadOffload)?;
                let (payload, end) = headers.payload().ok_or(DropReason::BadOffload)?;
                let size = usize::from(gso.size.get());
                (Work::Cut(Cut { headers, payload, end, size, at: payload, index: 0 }), payload + size.min(end - payload))
            }
        };
        if longest > buffer.len() {
            return Err(DropReason::TooLong);
        }
        Ok(Self { frame: frame.bytes, buffer, work })
    }

    /// The next frame, as a wire would carry it.
    #[expect(clippy::should_implement_trait, reason = "it lends what it gives, which Iterator cannot say")]
    pub fn next(&mut self) -> Option<&[u8]> {
        match &mut self.work {
            Work::Done => None,
            Work::Pass => {
                self.work = Work::Done;
                Some(self.frame)
            }
            Work::Finish { start, offset } => {
                let whole = self.buffer.get_mut(..self.frame.len())?;
                whole.copy_from_slice(self.frame);
                let is_finished = finish(whole, *start, *offset);
                self.work = Work::Done;
                is_finished.then_some(whole)
            }
            Work::Cut(cut) => {
                if cut.at >= cut.end {
                    return None;
                }
                let written = cut.write(self.frame, self.buffer);
                debug_assert!(written.is_some(), "the offsets were checked when the frame was parsed");
                self.buffer.get(..written?)
            }
        }
    }
}

impl Cut {
    /// Writes the segment that begins at `at` and moves on. Gives its length.
    fn write(&mut self, frame: &[u8], buffer: &mut [u8]) -> Option<usize> {
        let length = self.size.min(self.end - self.at);
        let segment = buffer.get_mut(..self.payload + length)?;
        let (head, body) = segment.split_at_mut_checked(self.payload)?;
        head.copy_from_slice(frame.get(..self.payload)?);
        body.copy_from_slice(frame.get(self.at..self.at + length)?);
        self.network(segment)?;
        self.transport(segment)?;
        (self.at, self.index) = (self.at + length, self.index.wrapping_add(1));
        Some(self.payload + length)
    }

    fn network(&self, segment: &mut [u8]) -> Option<()> {
        let end = segment.len();
        match self.headers.network {
            Network::Ipv4(ip) => {
                let length = u16::try_from(end - ip.start).ok()?;
                let id = u16::from_be_bytes(*segment.get(ip.start + 4..)?.first_chunk()?).wrapping_add(self.index);
                put(segment, ip.start + 2, length.to_be_bytes())?;
                put(segment, ip.start + 4, id.to_be_bytes())?;
                put(segment, ip.start + 10, [0, 0])?;
                let value = finished(sum(segment.get(ip.start..ip.payload)?, 0));
                put(segment, ip.start + 10, value.to_be_bytes())
            }
            Network::Ipv6(ip) => {
                let length = u16::try_from(end - ip.start - 40).ok()?;
                put(segment, ip.start + 4, length.to_be_bytes())
            }
            Network::Malformed | Network::Other => None,
        }
    }

    fn transport(&self, segment: &mut [u8]) -> Option<()> {
        let (start, field, protocol) = match self.headers.transport {
            Transport::Tcp(tcp) => {
                self.tcp(segment, tcp.start)?;
                (tcp.start, tcp.start + 16, protocol::TCP)
            }
            Transport::Udp(udp) => {
                let length = u16::try_from(segment.len() - udp.start).ok()?;
                put(segment, udp.start + 4, length.to_be_bytes())?;
                (udp.start, udp.start + 6, protocol::UDP)
            }
            _ => return None,
        };
        let length = u16::try_from(segment.len() - start).ok()?;
        let pseudo = match self.headers.network {
            Network::Ipv4(ip) => pseudo_v4(ip.src, ip.dst, protocol, length),
            Network::Ipv6(ip) => pseudo_v6(ip.src, ip.dst, protocol, u32::from(length)),
            Network::Malformed | Network::Other => return None,
        };
        put(segment, field, [0, 0])?;
        let value = finished_nonzero(sum(segment.get(start..)?, pseudo));
        put(segment, field, value.to_be_bytes())
    }

    /// The sequence number counts on; FIN and PSH belong to the last byte, CWR to the first segment (RFC 3168, 6.1.2).
    fn tcp(&self, segment: &mut [u8], start: usize) -> Option<()> {
        let seq = u32::from_be_bytes(*segment.get(start + 4..)?.first_chunk()?);
        let before = u32::try_from(self.at - self.payload).ok()?;
        put(segment, start + 4, seq.wrapping_add(before).to_be_bytes())?;
        let flags = segment.get_mut(start + 13)?;
        if self.at + self.size < self.end {
            *flags &= !(tcp_flags::FIN | tcp_flags::PSH);
        }
        if self.index > 0 {
            *flags &= !tcp_flags::CWR;
        }
        Some(())
    }
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) -> Option<()> {
    *bytes.get_mut(at..)?.first_chunk_mut()? = value;
    Some(())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        Gso, GsoKind, Offload,
        testkit::{Built, TcpFields, eth, is_right_on_a_wire, joined, mac},
    };

    fn cut(built: &Built) -> Vec<Vec<u8>> {
        let mut buffer = vec![0; built.bytes.len()];
        let mut segments = Segments::new(&built.frame(), &mut buffer).unwrap();
        let mut all = Vec::new();
        while let Some(segment) = segments.next() {
            all.push(segment.to_vec());
        }
        assert!(segments.next().is_none(), "the end is the end");
        all
    }

    fn tcp(segment: &[u8]) -> (u32, u8) {
        let Transport::Tcp(tcp) = Headers::parse(segment).unwrap().transport else { panic!("not TCP") };
        (u32::from_be_bytes(segment[tcp.start + 4..tcp.start + 8].try_into().unwrap()), tcp.flags)
    }

    fn endpoints(is_v6: bool) -> (SocketAddr, SocketAddr) {
        if is_v6 {
            ("[fd00::2]:4000".parse().unwrap(), "[fd00::3]:80".parse().unwrap())
        } else {
            ("10.0.0.2:4000".parse().unwrap(), "10.0.0.3:80".parse().unwrap())
        }
    }

    #[test]
    fn flags_and_numbers_fall_on_the_right_segments() {
        let (a, b) = endpoints(false);
        let flags = tcp_flags::ACK | tcp_flags::PSH | tcp_flags::FIN | tcp_flags::CWR | tcp_flags::ECE;
        let built = eth(mac(1), mac(2)).tcp_gso(a, b, TcpFields { seq: u32::MAX - 1499, flags, ..TcpFields::default() }, &[7; 2500], 1000);
        let segments = cut(&built);
        let always = tcp_flags::ACK | tcp_flags::ECE;
        assert_eq!(
            segments.iter().map(|segment| tcp(segment)).collect::<Vec<_>>(),
            [(u32::MAX - 1499, always | tcp_flags::CWR), (u32::MAX - 499, always), (500, always | tcp_flags::PSH | tcp_flags::FIN),]
        );
        let ids: Vec<_> = segments.iter().map(|segment| u16::from_be_bytes([segment[18], segment[19]])).collect();
        assert_eq!(ids, [0x1234, 0x1235, 0x1236]);
        assert_eq!(segments.iter().map(Vec::len).collect::<Vec<_>>(), [1054, 1054, 554]);
    }

    #[test]
    fn an_ordinary_frame_passes_as_it_is() {
        let built = eth(mac(1), mac(2)).filler(60);
        let mut no_buffer = [];
        let frame = built.frame();
        let mut segments = Segments::new(&frame, &mut no_buffer).unwrap();
        assert_eq!(segments.next(), Some(&built.bytes[..]));
        assert_eq!(segments.next(), None);
    }

    #[test]
    fn a_partial_checksum_is_finished() {
        let (a, b) = endpoints(false);
        let built = eth(mac(1), mac(2)).tcp_partial(a, b, TcpFields::default(), b"hello");
        assert!(!is_right_on_a_wire(&built.bytes));
        let frames = cut(&built);
        assert_eq!(frames, [eth(mac(1), mac(2)).tcp(a, b, TcpFields::default(), b"hello").bytes]);
        assert!(is_right_on_a_wire(&frames[0]));
    }

    #[test]
    fn a_buffer_that_is_too_short_and_an_offload_that_lies_are_refused() {
        let (a, b) = endpoints(false);
        let built = eth(mac(1), mac(2)).tcp_gso(a, b, TcpFields::default(), &[7; 2500], 1000);
        assert!(Segments::new(&built.frame(), &mut [0; 1054]).is_ok());
        assert_eq!(Segments::new(&built.frame(), &mut [0; 1053]).unwrap_err(), DropReason::TooLong);
        let partial = eth(mac(1), mac(2)).tcp_partial(a, b, TcpFields::default(), b"hello");
        assert_eq!(Segments::new(&partial.frame(), &mut []).unwrap_err(), DropReason::TooLong);
        let mut lie = built.clone();
        lie.offload.gso = lie.offload.gso.map(|gso| Gso { kind: GsoKind::TcpV6, ..gso });
        assert_eq!(Segments::new(&lie.frame(), &mut [0; 9000]).unwrap_err(), DropReason::BadOffload);
        let unsummed = Built { offload: Offload { checksum: Checksum::Finished, ..built.offload }, ..built };
        assert_eq!(Segments::new(&unsummed.frame(), &mut [0; 9000]).unwrap_err(), DropReason::BadOffload);
    }

    prop_compose! {
        fn superframe()(
            is_v6: bool, is_tcp: bool, tagged: bool, extra in 0u8..5, options in 0u8..10, flags: u8, seq: u32,
            payload in prop::collection::vec(any::<u8>(), 1..9000), size in 8u16..3000,
        ) -> Built {
            let (a, b) = endpoints(is_v6);
            let head = eth(mac(1), mac(2)).extra(extra);
            let head = if tagged { head.tag(0x2005) } else { head };
            let size = if is_tcp { size } else { size.max(71) };
            let flags = flags & !tcp_flags::SYN;
            if is_tcp { head.tcp_gso(a, b, TcpFields { seq, ack: !seq, flags, options }, &payload, size) } else { head.udp_gso(a, b, &payload, size) }
        }
    }

    proptest! {
        #[test]
        fn segments_are_right_on_a_wire_and_join_to_what_they_were(built in superframe()) {
            let size = usize::from(built.offload.gso.unwrap().size.get());
            let headers = Headers::parse(&built.bytes).unwrap();
            let (start, end) = headers.payload().unwrap();
            let segments = cut(&built);
            prop_assert_eq!(segments.len(), (end - start).div_ceil(size));
            prop_assert_eq!(joined(&segments), &built.bytes[start..end]);
            for (index, segment) in segments.iter().enumerate() {
                prop_assert!(is_right_on_a_wire(segment), "segment {}", index);
                prop_assert_eq!(Headers::parse(segment).unwrap().ethernet, headers.ethernet);
                if let Transport::Tcp(first) = headers.transport {
                    let (seq, flags) = tcp(segment);
                    let is_last = index + 1 == segments.len();
                    prop_assert_eq!(seq, tcp(&built.bytes).0.wrapping_add(u32::try_from(index * size).unwrap()));
                    let ends = if is_last { 0 } else { tcp_flags::FIN | tcp_flags::PSH };
                    let begins = if index == 0 { 0 } else { tcp_flags::CWR };
                    prop_assert_eq!(flags, first.flags & !ends & !begins);
                }
            }
        }
    }
}
