//! A gateway driven by a script of bytes: hostile frames, a hostile world and a clock that leaps. What the fuzzer runs, and what
//! every test run replays over its corpus.

use std::{net::SocketAddrV4, time::Duration};

use super::{
    super::{EchoError, Gateway, GatewayConfig, Limits, OutsideError, Report},
    CONTAINER, CONTAINER_MAC, GATEWAY, GATEWAY_MAC, World, config, ethernet, ipv4, udp, view,
};
use crate::{Checksum, Frame, Gso, GsoKind, Offload, Time, checksum, frame::FRAME_MAX, testkit::is_right_on_a_wire};

/// Bytes off the front of a script; zeros behind its end.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }

    fn address(&mut self) -> std::net::Ipv4Addr {
        match self.byte() % 8 {
            0 => GATEWAY,
            1 => [127, 0, 0, 1].into(),
            2 => [10, 0, 0, 9].into(),
            3 => [224, 0, 0, 1].into(),
            4 => [255, 255, 255, 255].into(),
            other => [192, 0, 2, other].into(),
        }
    }

    fn failure(&mut self) -> OutsideError {
        match self.byte() % 5 {
            0 => OutsideError::Refused,
            1 => OutsideError::Reset,
            2 => OutsideError::HostUnreachable,
            3 => OutsideError::TimedOut,
            _ => OutsideError::Failed,
        }
    }
}

/// The endpoints and numbers of a segment that answers another.
#[derive(Clone, Copy, Default)]
struct Heard {
    port: u16,
    peer: [u8; 4],
    peer_port: u16,
    sequence: u32,
    acknowledgement: u32,
}

struct Stage {
    gateway: Gateway,
    world: World,
    now: Time,
    /// What answers the gateway's newest segment.
    heard: Heard,
}

/// Runs a script to its end.
///
/// # Panics
/// If the gateway breaks a promise: a frame that is wrong on a wire, a bound that does not hold, a timer that never rests.
pub fn run(script: &[u8]) {
    let limits = Limits {
        tcp_flows: 8,
        tcp_half_open: 6,
        tcp_receive_buffer: 20_000,
        tcp_send_buffer: 100_000,
        udp_mappings: 6,
        udp_clients: 6,
        echo_mappings: 3,
        dns_queries: 4,
        icmp_errors: 10,
        ..Limits::default()
    };
    let mut gateway = Gateway::new(view(GatewayConfig { limits, ..config() }), 3);
    gateway.set_neighbour(CONTAINER, CONTAINER_MAC);
    let published = gateway.new_socket_id();
    gateway.publish_udp(published, SocketAddrV4::new(CONTAINER, 53));
    let mut stage = Stage { gateway, world: World::default(), now: Time::ZERO, heard: Heard::default() };
    stage.world.add_udp(published);
    let mut rest = Reader(script);
    while !rest.0.is_empty() {
        stage.step(&mut rest);
        stage.check();
    }
    stage.gateway.close_all(stage.now, &mut stage.world);
    stage.check();
    assert!(stage.gateway.flows(stage.now).is_empty() && stage.gateway.next_timer().is_none());
    assert!(stage.world.tcp.values().all(|tcp| tcp.closed || tcp.reset), "every TCP socket is closed");
}

impl Stage {
    fn step(&mut self, rest: &mut Reader<'_>) {
        match rest.byte() % 12 {
            0 => {
                let (kind, count) = (rest.byte(), usize::from(rest.byte()));
                let ethertype = [0x0800, 0x0806, 0x86dd, 0x8100][usize::from(kind % 4)];
                self.frame(&ethernet(ethertype, &rest.bytes(count)), Offload::default());
            }
            1 => {
                let (to, protocol, count) = (rest.address(), rest.byte(), usize::from(rest.byte()));
                let verified = Offload { checksum: Checksum::Verified, gso: None };
                self.frame(&ipv4(to, protocol, &rest.bytes(count)), verified);
            }
            2 | 3 => self.segment(rest),
            4 => {
                let (from, to, port) = (u16::from(rest.byte() % 8), rest.address(), rest.byte());
                let count = usize::from(rest.byte());
                let gso = Some(Gso { kind: GsoKind::Udp, size: 7.try_into().unwrap(), ecn: false });
                let checksum = Checksum::Partial { start: 34, offset: 6 };
                let offload = if port >= 128 { Offload { checksum, gso } } else { Offload::default() };
                self.frame(&udp(from, SocketAddrV4::new(to, u16::from(port % 128)), &rest.bytes(count)), offload);
            }
            5 => {
                let count = usize::from(rest.byte());
                let query = rest.bytes(count);
                self.frame(&udp(1000, SocketAddrV4::new(GATEWAY, 53), &query), Offload::default());
            }
            6 => self.world_changes(rest),
            7 => {
                self.now = self.now + Duration::from_micros(1 << (rest.byte() % 36));
                for _ in 0..1000 {
                    if self.gateway.next_timer().is_none_or(|at| at > self.now) {
                        return;
                    }
                    self.gateway.timer(self.now, &mut self.world);
                }
                panic!("a timer never rests");
            }
            8 => {
                let socket = self.gateway.new_socket_id();
                self.world.add_tcp(socket);
                let peer = (rest.address(), rest.word()).into();
                let to = SocketAddrV4::new(CONTAINER, u16::from(rest.byte() % 4));
                self.gateway.accepted(self.now, socket, peer, to, &mut self.world);
            }
            9 => self.datagrams_arrive(rest),
            10 => self.ping(rest),
            _ => self.echoes_arrive(rest),
        }
        for (socket, what) in self.world.notices() {
            self.gateway.ready(self.now, socket, what, &mut self.world);
        }
    }

    /// A segment of one of a few flows, with numbers near those that the gateway expects.
    fn segment(&mut self, rest: &mut Reader<'_>) {
        let (flow, flags, to) = (rest.byte(), rest.byte(), rest.address());
        let sequence = self.heard.sequence.wrapping_add_signed(i32::from(rest.byte() as i8));
        let acknowledgement = self.heard.acknowledgement.wrapping_add_signed(i32::from(rest.byte() as i8) * 8);
        let options = rest.bytes(usize::from(flow >> 6) * 4);
        let offset = ((5 + options.len() / 4) << 4) as u8;
        let payload = vec![flow; usize::from(rest.word()) % 30_000 * usize::from(flow & 0x20 != 0)];
        let (to, port, server) = match flow & 0x10 {
            0 => (to, 1 + u16::from(flow & 3), 80 + u16::from(flow >> 2 & 3)),
            _ => (self.heard.peer.into(), self.heard.port, self.heard.peer_port),
        };
        let segment = [
            &port.to_be_bytes()[..],
            &server.to_be_bytes(),
            &sequence.to_be_bytes(),
            &acknowledgement.to_be_bytes(),
            &[offset, flags],
            &rest.word().to_be_bytes(),
            &[0; 4],
            &options,
            &payload,
        ]
        .concat();
        let gso = (payload.len() > 1400).then(|| Gso { kind: GsoKind::TcpV4, size: 1400.try_into().unwrap(), ecn: false });
        self.frame(&ipv4(to, 6, &segment), Offload { checksum: Checksum::Partial { start: 34, offset: 16 }, gso });
    }

    fn frame(&mut self, bytes: &[u8], offload: Offload) {
        // A reason is a value like any other here; that there is one is the point.
        let _ = self.gateway.frame(self.now, &Frame { bytes, offload }, &mut self.world);
    }

    fn world_changes(&mut self, rest: &mut Reader<'_>) {
        let (what, failure, count) = (rest.byte(), rest.failure(), usize::from(rest.word()));
        self.world.open = if what == 255 { Err(failure) } else { Ok(()) };
        let open = self.world.tcp.values_mut().filter(|tcp| !tcp.closed && !tcp.reset);
        for tcp in open.skip(usize::from(what >> 6)).take(1 + usize::from(what >> 5 & 1)) {
            match what % 6 {
                0 | 1 => tcp.outcome = tcp.outcome.or(Some(Ok(()))),
                2 => tcp.inbox.extend(std::iter::repeat_n(what, count)),
                3 => tcp.inbox_fin = true,
                4 => tcp.room = count,
                _ if tcp.outcome.is_none() => tcp.outcome = Some(Err(failure)),
                _ => tcp.broken = Some(failure),
            }
        }
    }

    fn datagrams_arrive(&mut self, rest: &mut Reader<'_>) {
        let (from, port, failure, len) = (rest.address(), rest.byte(), rest.failure(), usize::from(rest.word()));
        let open: Vec<_> = self.world.udp.iter_mut().filter(|(_, udp)| !udp.closed).map(|(_, udp)| udp).collect();
        for udp in open {
            // What was asked, thrown back: a DNS answer that is nearly right.
            let echo = udp.sent.last().map(|(to, _, bytes)| (*to, bytes.clone()));
            match (port % 4, echo) {
                (0, _) => udp.errors.push_back(((from, 53).into(), failure)),
                (1, Some((to, mut bytes))) => {
                    if let Some(flags) = bytes.get_mut(2) {
                        *flags |= 0x80;
                    }
                    udp.inbox.push_back((to, None, bytes));
                }
                _ => udp.inbox.push_back(((from, u16::from(port)).into(), None, vec![port; len.min(65_507)])),
            }
        }
    }

    /// A ping with one of a few identifiers.
    fn ping(&mut self, rest: &mut Reader<'_>) {
        let (to, id, count) = (rest.address(), rest.byte(), usize::from(rest.byte()));
        let message = [&[8, 0, 0, 0, 0, id % 8, 0, id][..], &rest.bytes(count)].concat();
        self.frame(&ipv4(to, 1, &message), Offload { checksum: Checksum::Verified, gso: None });
    }

    fn echoes_arrive(&mut self, rest: &mut Reader<'_>) {
        let (from, what, error, len) = (rest.address().into(), rest.byte(), rest.failure(), usize::from(rest.word()));
        for echo in self.world.echo.values_mut().filter(|echo| !echo.closed) {
            match what % 4 {
                0 => echo.inbox.push_back((from, u16::from(what), None, vec![what; len.min(65_507)])),
                1 => echo.inbox.push_back((from, u16::from(what), Some(what), Vec::new())),
                2 => echo.send_errors.push_back(error),
                _ => {
                    let report = (what >= 128).then_some(Report { from, kind: what % 16, code: what % 8, mtu: len as u16 });
                    let to = echo.sent.last().map_or(from, |sent| sent.0);
                    echo.errors.push_back(EchoError { to, sequence: len as u16, error, report });
                }
            }
        }
    }

    /// Looks at everything that came out, and at the bounds.
    fn check(&mut self) {
        while let Some((mut bytes, offload)) = self.world.emitted.pop_front() {
            assert!(bytes.len() <= FRAME_MAX && (offload.gso.is_some() || bytes.len() <= 1514));
            assert_eq!(bytes[6..12], GATEWAY_MAC.0);
            if let Checksum::Partial { start, offset } = offload.checksum {
                assert!(checksum::finish(&mut bytes, start, offset));
            }
            if bytes[12..14] == [8, 6] {
                continue;
            }
            let is_fragment = bytes[20] & 0x3f != 0 || bytes[21] != 0;
            let right = match bytes[23] {
                _ if is_fragment => is_summed(&bytes[14..34]),
                1 => is_summed(&bytes[14..34]) && is_summed(&bytes[34..]),
                _ => is_right_on_a_wire(&bytes),
            };
            assert!(right, "{bytes:02x?}");
            if bytes[23] == 6 {
                let half = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
                let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
                let header = 34 + usize::from(bytes[46] >> 4) * 4;
                let length = (bytes.len() - header) as u32 + u32::from(bytes[47] & 1) + u32::from(bytes[47] >> 1 & 1);
                self.heard = Heard {
                    port: half(36),
                    peer: [bytes[26], bytes[27], bytes[28], bytes[29]],
                    peer_port: half(34),
                    sequence: word(42),
                    acknowledgement: word(38).wrapping_add(length),
                };
            }
        }
        let open = |socket: &str| self.gateway.flows(self.now).iter().filter(|flow| flow.protocol == socket).count();
        assert!(open("tcp") <= 8 && open("udp") <= 12 && open("dns") <= 4 && open("icmp") <= 3);
        let sockets = self.world.tcp.values().filter(|tcp| !tcp.closed && !tcp.reset).count();
        assert_eq!(sockets, open("tcp"), "a flow has a socket, and no socket is forgotten");
        let sockets = self.world.udp.values().filter(|udp| !udp.closed).count();
        assert!(sockets <= 1 + 6 + 4);
        let sockets = self.world.echo.values().filter(|echo| !echo.closed).count();
        assert_eq!(sockets, open("icmp"));
    }
}

/// Whether the checksum within `bytes` is right.
fn is_summed(bytes: &[u8]) -> bool {
    checksum::finished(checksum::sum(bytes, 0)) == 0
}
