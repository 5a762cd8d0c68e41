//! A flow that nobody has used for a while: the numbers that tell where it stands, and neither buffers nor a socket of smoltcp.
//!
//! ```text
//!   Open ──── silent for SLEEP_AFTER, nothing on its way ────▶ Asleep: some 200 bytes
//!     ▲                                                          │ the container or the host says something
//!     └──────────── a handshake that nobody hears ◀──────────────┘
//! ```
//!
//! smoltcp makes no socket that is connected already. So a flow wakes by a handshake between a fresh socket and this module, which
//! plays the container; both begin with the numbers that make them end where the flow stands, the socket because it draws its first
//! number with the seed that it is given. Options are those of the first handshake, so the socket comes to the same conclusions.

use std::net::{IpAddr, SocketAddr};

use pnet_packet::tcp::MutableTcpPacket;
use smoltcp::socket::tcp::Socket;

use super::{
    super::{Flow, Limits, packet},
    device::{LastSent, Lengths},
    flow::{Setup, TcpFlow},
    spares::Spares,
};
use crate::{
    Time,
    gateway::build::{IPV4_HEADER, IPV6_HEADER},
    parse::tcp_flags,
};

/// A TCP header without options, and with all those that a SYN of ours has.
const HEADER: usize = 20;
const OPTIONS_MAX: usize = 12;

/// What the container said of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// As they stand in its last segment.
    pub(super) acknowledgement: u32,
    window: u16,
    /// Options of its SYN (RFC 9293, 3.2; RFC 7323, 2.2; RFC 2018, 2).
    mss: Option<u16>,
    scale: Option<u8>,
    sack: bool,
}

impl Heard {
    /// Reads a segment, from its TCP header on. Whether it says something about the other direction that the last one did not.
    pub(super) fn learn(&mut self, segment: &[u8]) -> bool {
        let Some([.., a0, a1, a2, a3, offset, flags, w0, w1]) = segment.first_chunk::<16>() else { return false };
        let before = (self.acknowledgement, self.window);
        self.acknowledgement = u32::from_be_bytes([*a0, *a1, *a2, *a3]);
        self.window = u16::from_be_bytes([*w0, *w1]);
        if flags & tcp_flags::SYN != 0 {
            let end = usize::from(offset >> 4) * 4;
            self.learn_options(segment.get(HEADER..end).unwrap_or_default());
        }
        before != (self.acknowledgement, self.window)
    }

    fn learn_options(&mut self, mut options: &[u8]) {
        (self.mss, self.scale, self.sack) = (None, None, false);
        while let [kind, rest @ ..] = options {
            let length = match (kind, rest) {
                (0, _) => return,
                (1, _) => 1,
                (_, [length, ..]) if *length >= 2 => usize::from(*length),
                _ => return,
            };
            match options.get(..length) {
                Some([2, 4, high, low]) => self.mss = Some(u16::from_be_bytes([*high, *low])),
                Some([3, 3, shift]) => self.scale = Some(*shift),
                Some([4, 2]) => self.sack = true,
                Some(_) => {}
                None => return,
            }
            options = options.get(length..).unwrap_or_default();
        }
    }

    /// The same options, as they stand in a SYN.
    fn options(&self) -> Vec<u8> {
        let mut options = Vec::with_capacity(OPTIONS_MAX);
        if let Some(mss) = self.mss {
            let [high, low] = mss.to_be_bytes();
            options.extend([2, 4, high, low]);
        }
        if let Some(shift) = self.scale {
            options.extend([3, 3, shift, 1]);
        }
        if self.sack {
            options.extend([4, 2, 1, 1]);
        }
        options
    }
}

/// What is left of a flow that sleeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asleep {
    pub(super) setup: Setup,
    pub(super) last: LastSent,
    pub(super) lengths: Lengths,
    pub(super) heard: Heard,
    /// When the container or the outside last said something.
    pub(super) active: Time,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// Bytes of the buffers that it had: the scale of its window comes from them.
    pub(super) receive: usize,
    pub(super) send: usize,
}

impl Asleep {
    /// The flow as it was.
    pub(super) fn wake(&self, now: Time, spares: &mut Spares) -> TcpFlow {
        let (ours, theirs) = (self.last.next, self.last.acknowledgement);
        let socket: Socket<'static> = spares.take_sized(self.receive, self.send);
        let seed = generator::seed_of(ours.wrapping_sub(1));
        let syn = self.segment(tcp_flags::SYN, theirs.wrapping_sub(1), 0, u16::MAX, &self.heard.options());
        let ack = self.segment(tcp_flags::ACK, theirs, ours, self.heard.window, &[]);
        TcpFlow::waking(self, seed, socket, [&syn, &ack], now)
    }

    pub(super) fn report(&self, now: Time) -> Flow {
        let (key, direction) = (self.setup.key, self.setup.direction);
        let idle = now.since(self.active);
        Flow { protocol: "tcp", inside: key.inside, outside: key.outside, direction, state: "established", idle }
    }

    /// The end of its patience (RFC 5382, REQ-5).
    pub(super) fn idle_until(&self, limits: &Limits) -> Time {
        self.active + limits.tcp_established
    }

    /// A packet that the container might have sent; nobody looks at its checksums.
    fn segment(&self, flags: u8, sequence: u32, acknowledgement: u32, window: u16, options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER + options.len()];
        if let Some(mut tcp) = MutableTcpPacket::new(&mut bytes) {
            tcp.set_source(self.setup.key.inside.port());
            tcp.set_destination(self.setup.key.outside.port());
            tcp.set_sequence(sequence);
            tcp.set_acknowledgement(acknowledgement);
            tcp.set_data_offset(((HEADER + options.len()) / 4) as u8);
            tcp.set_flags(flags);
            tcp.set_window(window);
        }
        if let Some(place) = bytes.get_mut(HEADER..) {
            place.copy_from_slice(options);
        }
        behind_ip(self.setup.key.inside, self.setup.key.outside, &bytes)
    }
}

/// A segment with an IP header before it.
fn behind_ip(from: SocketAddr, to: SocketAddr, segment: &[u8]) -> Vec<u8> {
    let length = |header: usize| ((header + segment.len()) as u16).to_be_bytes();
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let [l0, l1] = length(IPV4_HEADER);
            let header = [0x45, 0, l0, l1, 0, 0, 0x40, 0, 64, packet::TCP, 0, 0];
            [&header[..], &from.octets(), &to.octets(), segment].concat()
        }
        (from, to) => {
            let [l0, l1] = length(0);
            let octets = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            let mut bytes = Vec::with_capacity(IPV6_HEADER + segment.len());
            bytes.extend([0x60, 0, 0, 0, l0, l1, packet::TCP, 64]);
            bytes.extend(octets(from));
            bytes.extend(octets(to));
            bytes.extend(segment);
            bytes
        }
    }
}

/// smoltcp's generator of numbers, sPCG32, backwards.
mod generator {
    const MULTIPLIER: u64 = 0xbb2e_fcec_3c39_611d;
    const INCREMENT: u64 = 0x7590_ef39;
    /// Of the multiplier, modulo 2^64. Each step doubles the bits that are right, and the lowest three are at first (Newton).
    const INVERSE: u64 = {
        let (mut inverse, mut step) = (MULTIPLIER, 0);
        while step < 5 {
            inverse = inverse.wrapping_mul(2_u64.wrapping_sub(MULTIPLIER.wrapping_mul(inverse)));
            step += 1;
        }
        inverse
    };

    /// The number that a state stands for.
    pub(super) const fn number(state: u64) -> u32 {
        (state >> (29 - (state >> 61))) as u32
    }

    /// The state before.
    const fn back(state: u64) -> u64 {
        state.wrapping_sub(INCREMENT).wrapping_mul(INVERSE)
    }

    #[cfg(test)]
    pub(super) const fn forth(state: u64) -> u64 {
        state.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT)
    }

    /// The seed that leads to `second` as the second number. The first is an interface's, which draws again if its lower half, folded,
    /// is zero; so it is not.
    pub(super) fn seed_of(second: u32) -> u64 {
        // With its three highest bits clear a state's number stands at bit 29, and the bits below are free.
        let states = (0..1_u64 << 29).map(|low| back(u64::from(second) << 29 | low));
        let first = states.into_iter().find(|first| {
            let number = number(*first);
            (number ^ number >> 16) as u16 != 0
        });
        back(first.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_leads_to_its_number() {
        for number in [0, 1, 2, 0x7fff_ffff, 0x8000_0000, 0xdead_beef, u32::MAX] {
            let first = generator::forth(generator::seed_of(number));
            assert_ne!((generator::number(first) ^ generator::number(first) >> 16) as u16, 0);
            assert_eq!(generator::number(generator::forth(first)), number);
        }
    }

    #[test]
    fn options_of_a_syn_are_learned_and_said_again() {
        let syn = |options: &[u8]| {
            let mut segment = vec![0; HEADER + options.len()];
            (segment[12], segment[13]) = (((HEADER + options.len()) / 4 * 16) as u8, tcp_flags::SYN);
            segment[14..16].copy_from_slice(&[0x12, 0x34]);
            segment[HEADER..].copy_from_slice(options);
            segment
        };
        let mut heard = Heard::default();
        // As Linux says it: MSS, SACK permitted, timestamps, a no-op, the window's scale.
        let said = syn(&[2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7]);
        assert!(heard.learn(&said) && !heard.learn(&said), "the second says nothing new");
        assert_eq!(heard, Heard { acknowledgement: 0, window: 0x1234, mss: Some(1460), scale: Some(7), sack: true });
        let mut again = Heard::default();
        again.learn(&syn(&heard.options()));
        assert_eq!(again, heard);
        for odd in [&[2, 4, 5][..], &[2, 0, 0, 0], &[3], &[0, 3, 3, 7], &[9, 200, 1, 1]] {
            heard.learn(&syn(&[&vec![1; (4 - odd.len() % 4) % 4], odd].concat()));
            assert_eq!((heard.mss, heard.scale, heard.sack), (None, None, false), "{odd:?}");
        }
        heard.learn(&[0; 15]);
    }
}
