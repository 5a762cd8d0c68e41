//! A gateway driven by a script of bytes: hostile frames, a hostile world and a clock that leaps. What the fuzzer runs, and what
//! every test run replays over its corpus.

mod segment;

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use hickory_proto::op::{Message, MessageType};

use super::{
    super::{
        Associated, DatagramError, EchoError, Gateway, GatewayConfig, Given, LeaseAnswer, LeaseAnswer6, LeaseReply, LeaseStatus6, Limits,
        Outside, OutsideError, Quote, Report, build::transport_at, icmp, packet::Packet, sockets::Owner, tcp::FlowKey,
    },
    CONTAINER, CONTAINER_MAC, CONTAINER6, GATEWAY, GATEWAY_MAC, GATEWAY6, World, config, ethernet, fragment, ip, ipv6_from, udp, view,
};
use crate::{
    Checksum, Frame, Gso, GsoKind, Headers, Mac, Offload, Time, checksum,
    frame::FRAME_MAX,
    parse::{Network, Transport},
    testkit::is_right_on_a_wire,
    vnet,
};

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

    /// An address of IPv4, or from 128 on of IPv6.
    fn address(&mut self) -> IpAddr {
        match self.byte() {
            pick @ 128.. => self.address6(pick).into(),
            pick => match pick % 8 {
                0 => GATEWAY.into(),
                1 => [127, 0, 0, 1].into(),
                2 => [10, 0, 0, 9].into(),
                3 => [224, 0, 0, 1].into(),
                4 => [255, 255, 255, 255].into(),
                other => [192, 0, 2, other].into(),
            },
        }
    }

    fn address6(&mut self, pick: u8) -> Ipv6Addr {
        match pick % 12 {
            0 => GATEWAY6,
            1 => GATEWAY_MAC.link_local(),
            2 => CONTAINER6,
            3 => CONTAINER_MAC.link_local(),
            4 => Ipv6Addr::LOCALHOST,
            5 => Ipv6Addr::UNSPECIFIED,
            6 => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, u16::from(self.byte() % 3)),
            7 => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1),
            8 => Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0x7f00, 1),
            other => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(other)),
        }
    }

    fn failure(&mut self) -> OutsideError {
        match self.byte() % 6 {
            0 => OutsideError::Refused,
            1 => OutsideError::Reset,
            2 => OutsideError::HostUnreachable,
            3 => OutsideError::TimedOut,
            4 => OutsideError::Rejected,
            _ => OutsideError::Failed,
        }
    }
}

/// The endpoints and numbers of a segment that answers another.
#[derive(Clone, Copy)]
struct Heard {
    port: u16,
    peer: IpAddr,
    peer_port: u16,
    sequence: u32,
    acknowledgement: u32,
}

impl Heard {
    const NOTHING: Self = Self { port: 0, peer: IpAddr::V4(GATEWAY), peer_port: 0, sequence: 0, acknowledgement: 0 };
}

struct Stage {
    gateway: Gateway,
    world: World,
    now: Time,
    /// What answers the gateway's newest segment.
    heard: Heard,
}

/// Runs a script to its end. Tells how many bytes the host's TCP sockets were given.
///
/// # Panics
/// If the gateway breaks a promise: a frame that is wrong on a wire, a bound that does not hold, a timer that never rests.
pub fn run(script: &[u8]) -> usize {
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
    gateway.set_neighbour(CONTAINER.into(), CONTAINER_MAC);
    gateway.set_neighbour(CONTAINER6.into(), CONTAINER_MAC);
    let published = gateway.new_socket_id();
    gateway.publish_udp(published, (CONTAINER, 53).into());
    let mut stage = Stage { gateway, world: World::default(), now: Time::ZERO, heard: Heard::NOTHING };
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
    stage.world.tcp.values().map(|tcp| tcp.outbox.len()).sum()
}

/// Gives bytes to a gateway as a DHCP client's message, and answers what it asks by them: with an address, and with a refusal.
///
/// # Panics
/// If what comes out is wrong on a wire, or is no message.
pub fn dhcp(bytes: &[u8]) {
    use dhcproto::{Decodable, Decoder, v4};
    let mut gateway = Gateway::new(view(config()), 3);
    let mut world = World::default();
    let mut payload = bytes.to_vec();
    if let Some(client) = payload.get_mut(28..34) {
        client.copy_from_slice(&CONTAINER_MAC.0);
    }
    let frame = udp(68, SocketAddr::from((GATEWAY, 67)), &payload);
    // A reason is a value like any other here.
    let _ = gateway.frame(Time::ZERO, &Frame { bytes: &frame, offload: Offload::default() }, &mut world);
    for ask in std::mem::take(&mut world.asked) {
        let address = Some(([10, 0, 0, 77].into(), Duration::from_secs(3600)));
        let given = Given { address, hostname: Some("box".into()), search: vec!["example.test".into()] };
        for given in [Some(given), None] {
            gateway.lease_answered(&LeaseReply::V4(LeaseAnswer { exchange: ask.exchange, given }), &mut world);
        }
    }
    while let Some((mut bytes, offload)) = world.emitted.pop_front() {
        if let Checksum::Partial { start, offset } = offload.checksum {
            assert!(checksum::finish(&mut bytes, start, offset));
        }
        assert!(is_right_on_a_wire(&bytes));
        // Anything else is an ICMP error.
        if bytes[23] == 17 {
            v4::Message::decode(&mut Decoder::new(&bytes[42..])).unwrap();
        }
    }
}

/// Gives a frame with its virtio header to a gateway, twice, with a second and more between.
///
/// # Panics
/// If what comes out is wrong on a wire.
pub fn frame(bytes: &[u8]) {
    let Some((header, frame)) = bytes.split_first_chunk::<{ vnet::VNET_HEADER }>() else { return };
    let Ok(offload) = vnet::decode(header, frame) else { return };
    one_frame(&Frame { bytes: frame, offload });
    // Chance hardly ever finds a sum; behind it are the parsers.
    if let Some(mended) = with_the_right_header_sum(frame).filter(|mended| mended != frame || offload == Offload::default()) {
        let verified = Offload { checksum: Checksum::Verified, gso: None };
        one_frame(&Frame { bytes: &mended, offload: if offload == Offload::default() { verified } else { offload } });
    }
}

/// The frame with the sum that its IPv4 header should have; `None` if it has no such header.
fn with_the_right_header_sum(frame: &[u8]) -> Option<Vec<u8>> {
    let Network::Ipv4(ip) = Headers::parse(frame).ok()?.network else { return None };
    let mut frame = frame.to_vec();
    frame.get_mut(ip.start + 10..ip.start + 12)?.fill(0);
    let sum = checksum::finished(checksum::sum(frame.get(ip.start..ip.payload)?, 0));
    frame.get_mut(ip.start + 10..ip.start + 12)?.copy_from_slice(&sum.to_be_bytes());
    Some(frame)
}

fn one_frame(frame: &Frame<'_>) {
    let mut gateway = Gateway::new(view(config()), 3);
    let mut world = World::default();
    for now in [Time::ZERO, Time::ZERO + Duration::from_secs(3)] {
        // A reason is a value like any other here.
        let _ = gateway.frame(now, frame, &mut world);
        gateway.timer(now, &mut world);
    }
    gateway.close_all(Time::ZERO + Duration::from_secs(4), &mut world);
    while let Some((mut bytes, offload)) = world.emitted.pop_front() {
        if let Checksum::Partial { start, offset } = offload.checksum {
            assert!(checksum::finish(&mut bytes, start, offset));
        }
        let is_segment = Headers::parse(&bytes).is_ok_and(|headers| matches!(headers.transport, Transport::Tcp(_) | Transport::Udp(_)));
        assert!(!is_segment || offload.gso.is_some() || is_right_on_a_wire(&bytes), "{bytes:02x?}");
    }
    assert!(gateway.flows(Time::ZERO).is_empty() && world.tcp.values().all(|tcp| tcp.closed || tcp.reset));
}

/// Gives bytes to a gateway as a DHCPv6 client's message, and answers what it asks by them: with addresses, and with refusals.
///
/// # Panics
/// If what comes out is wrong on a wire, or is no message.
pub fn dhcp6(bytes: &[u8]) {
    use dhcproto::{Decodable, Decoder, v6};
    let mut gateway = Gateway::new(view(config()), 3);
    let mut world = World::default();
    let from = CONTAINER_MAC.link_local();
    let Ok(length) = u16::try_from(8 + bytes.len()) else { return };
    // A checksum that a partial one stands for is right by its word.
    let datagram = [&546u16.to_be_bytes()[..], &547u16.to_be_bytes(), &length.to_be_bytes(), &[0, 0], bytes].concat();
    for to in [Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2), GATEWAY_MAC.link_local()] {
        let frame = grouped(to, ipv6_from(from, to, 1, 17, &datagram));
        let offload = Offload { checksum: Checksum::Verified, gso: None };
        // A reason is a value like any other here.
        let _ = gateway.frame(Time::ZERO, &Frame { bytes: &frame, offload }, &mut world);
    }
    for ask in std::mem::take(&mut world.asked6) {
        let hour = Duration::from_secs(3600);
        let of = |give: bool| {
            let addresses = |wanted: &[Ipv6Addr]| wanted.iter().copied().chain([CONTAINER6]).map(|address| (address, hour)).collect();
            let each = ask.associations.iter().map(|association| Associated {
                id: association.id,
                addresses: if give { addresses(&association.addresses) } else { Vec::new() },
                status: (!give).then_some(LeaseStatus6::NoAddresses),
            });
            each.collect()
        };
        for give in [true, false] {
            let (exchange, status) = (ask.exchange.clone(), (!give).then_some(LeaseStatus6::NotOnLink));
            let answer = LeaseAnswer6 { exchange, status, associations: of(give), search: vec!["example.test".into()] };
            gateway.lease_answered(&LeaseReply::V6(answer), &mut world);
        }
    }
    while let Some((mut bytes, offload)) = world.emitted.pop_front() {
        if let Checksum::Partial { start, offset } = offload.checksum {
            assert!(checksum::finish(&mut bytes, start, offset));
        }
        // Anything else is an ICMP error, or a fragment.
        if bytes[20] == 17 {
            assert!(is_right_on_a_wire(&bytes));
            let message = v6::Message::decode(&mut Decoder::new(&bytes[62..])).unwrap();
            assert!(message.opts().get(v6::OptionCode::ServerId).is_some());
        }
    }
}

/// Gives fragments to a gateway, well-formed ones and any bytes, while time passes.
///
/// # Panics
/// If more is held back than may be, or for longer.
pub fn fragments(bytes: &[u8]) {
    let limits = Limits { fragments: 4, ..Limits::default() };
    let mut gateway = Gateway::new(view(GatewayConfig { limits, ..config() }), 3);
    let (mut world, mut now) = (World::default(), Time::ZERO);
    let mut rest = Reader(bytes);
    while !rest.0.is_empty() {
        let frame = match rest.byte() {
            kind @ 0..4 => {
                let count = usize::from(rest.byte());
                ethernet([0x0800, 0x86dd][usize::from(kind % 2)], &rest.bytes(count))
            }
            kind @ 4..16 => {
                now = now + Duration::from_secs(u64::from(kind));
                while gateway.next_timer().is_some_and(|at| at <= now) {
                    gateway.timer(now, &mut world);
                }
                continue;
            }
            kind => {
                let (to, protocol, id) = (rest.address(), [17, 1, 58, 6, 44][usize::from(kind % 5)], u16::from(rest.byte() % 6));
                let (start, more, count) = (usize::from(rest.word()) & !7, kind & 1 == 0, usize::from(rest.byte()));
                fragment(to, protocol, id, start, more, &rest.bytes(count * if kind >= 128 { 64 } else { 1 }))
            }
        };
        // A reason is a value like any other here.
        let _ = gateway.frame(now, &Frame { bytes: &frame, offload: Offload::default() }, &mut world);
        let (packets, held) = gateway.fragments.held();
        assert!(packets <= 4 && held <= 1 << 20, "{packets} packets, {held} bytes");
    }
    now = now + Duration::from_secs(60);
    gateway.timer(now, &mut world);
    assert_eq!(gateway.fragments.held(), (0, 0));
}

/// Gives a client's bytes over TCP to the DNS of a gateway, in pieces of a size that the first one says.
///
/// # Panics
/// If what comes back is no whole sequence of responses, or a bound does not hold.
pub fn dns_stream(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let limits = Limits { dns_queries: 4, ..Limits::default() };
    let mut gateway = Gateway::new(view(GatewayConfig { limits, ..config() }), 3);
    let (mut world, now) = (World::default(), Time::ZERO);
    let key = FlowKey { inside: (CONTAINER, 1000).into(), outside: (GATEWAY, 53).into() };
    let socket = gateway.core.sockets.add(Owner::Tcp(key));
    let Gateway { core, dns, .. } = &mut gateway;
    dns.streams.serve(now, key, 1, &mut world).tcp_connect(socket, key.outside).unwrap();
    let mut answers = Vec::new();
    for piece in bytes.chunks(usize::from(*size).max(1)) {
        let taken = dns.streams.serve(now, key, 1, &mut world).tcp_send(socket, piece);
        while dns.next_stream(core, now, &mut world).is_some() {}
        let mut room = [0; 700];
        while let Ok(read @ 1..) = dns.streams.serve(now, key, 1, &mut world).tcp_recv(socket, &mut room) {
            answers.extend_from_slice(&room[..read]);
        }
        assert!(world.udp.values().filter(|udp| !udp.closed).count() <= 4);
        if taken.is_err() {
            break;
        }
    }
    let mut rest = &answers[..];
    while let Some(([a, b], tail)) = rest.split_first_chunk() {
        let (message, tail) = tail.split_at(usize::from(u16::from_be_bytes([*a, *b])));
        assert_eq!(Message::from_vec(message).unwrap().metadata.message_type, MessageType::Response);
        rest = tail;
    }
    dns.close_all(core, &mut world);
    assert!(core.sockets.next_timer().is_none());
}

impl Stage {
    fn step(&mut self, rest: &mut Reader<'_>) {
        match rest.byte() % 14 {
            0 => {
                let (kind, count) = (rest.byte(), usize::from(rest.byte()));
                let ethertype = [0x0800, 0x0806, 0x86dd, 0x8100][usize::from(kind % 4)];
                self.frame(&ethernet(ethertype, &rest.bytes(count)), Offload::default());
            }
            1 => {
                let (to, protocol, count) = (rest.address(), rest.byte(), usize::from(rest.byte()));
                let verified = Offload { checksum: Checksum::Verified, gso: None };
                self.frame(&ip(to, protocol, &rest.bytes(count)), verified);
            }
            2 | 3 => self.segment(rest),
            4 => {
                let (from, to, port) = (u16::from(rest.byte() % 8), rest.address(), rest.byte());
                let count = usize::from(rest.byte());
                let gso = Some(Gso { kind: GsoKind::Udp, size: 7.try_into().unwrap(), ecn: false });
                let checksum = Checksum::Partial { start: transport_at(to), offset: 6 };
                let offload = if port >= 128 { Offload { checksum, gso } } else { Offload::default() };
                self.frame(&udp(from, SocketAddr::new(to, u16::from(port % 128)), &rest.bytes(count)), offload);
            }
            5 => {
                let count = usize::from(rest.byte());
                let query = rest.bytes(count);
                self.frame(&udp(1000, (GATEWAY, 53), &query), Offload::default());
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
                let port = rest.byte();
                let to = (if port < 128 { IpAddr::V4(CONTAINER) } else { CONTAINER6.into() }, u16::from(port % 4)).into();
                self.gateway.accepted(self.now, socket, peer, to, &mut self.world);
            }
            9 => self.datagrams_arrive(rest),
            10 => self.ping(rest),
            11 => self.echoes_arrive(rest),
            12 => {
                let (pick, from, hop_limit, next) = (rest.byte(), rest.byte(), rest.byte(), rest.byte());
                let (to, from, count) = (rest.address6(pick), rest.address6(from), usize::from(rest.byte()));
                self.frame(&grouped(to, ipv6_from(from, to, hop_limit, next, &rest.bytes(count))), Offload::default());
            }
            _ => self.discovery(rest),
        }
        for (socket, what) in self.world.notices() {
            self.gateway.ready(self.now, socket, what, &mut self.world);
        }
    }

    /// An ICMPv6 message with a right checksum, mostly of neighbour discovery.
    fn discovery(&mut self, rest: &mut Reader<'_>) {
        let (to, from, kind, count) = (rest.byte(), rest.byte(), rest.byte(), usize::from(rest.byte()));
        let (to, from) = (rest.address6(to), rest.address6(from));
        let kind = if kind < 128 { 133 + kind % 5 } else { kind };
        let target = if count & 1 == 0 { GATEWAY6.octets().to_vec() } else { Vec::new() };
        let mut message = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target, &rest.bytes(count / 2)].concat();
        let sum = checksum::finished(checksum::sum(&message, checksum::pseudo_v6(from, to, 58, message.len() as u32)));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        self.frame(&grouped(to, ipv6_from(from, to, 255, 58, &message)), Offload::default());
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
                (0, _) => {
                    let report = (len >= 0x8000).then_some(Report { from, kind: port % 16, code: len as u8 % 8, mtu: len as u16 });
                    udp.errors.push_back(DatagramError { to: (from, 53).into(), error: failure, report, quote: Quote::of(&[7; 9]) });
                }
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
        let types = icmp::Types::of(to);
        let message = [&[types.request, 0, 0, 0, 0, id % 8, 0, id][..], &rest.bytes(count)].concat();
        self.frame(&ip(to, types.protocol, &message), Offload { checksum: Checksum::Verified, gso: None });
    }

    fn echoes_arrive(&mut self, rest: &mut Reader<'_>) {
        let (from, what, error, len) = (rest.address(), rest.byte(), rest.failure(), usize::from(rest.word()));
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
            assert_eq!(vnet::decode(&vnet::encode(&offload, &bytes), &bytes), Ok(offload), "{offload:?}");
            if let Checksum::Partial { start, offset } = offload.checksum {
                assert!(checksum::finish(&mut bytes, start, offset));
            }
            if bytes[12..14] == [8, 6] {
                continue;
            }
            let headers = Headers::parse(&bytes).unwrap();
            let (peer, protocol, start, is_fragment) = match headers.network {
                Network::Ipv4(ip) => (IpAddr::V4(ip.src), ip.protocol, ip.payload, ip.fragment),
                Network::Ipv6(ip) => (IpAddr::V6(ip.src), ip.protocol, ip.payload, ip.fragment),
                Network::Malformed | Network::Other => panic!("no packet: {bytes:02x?}"),
            };
            let ip_is_right = peer.is_ipv6() || is_summed(&bytes[14..34]);
            let right = match protocol {
                _ if is_fragment => ip_is_right,
                1 => ip_is_right && is_summed(&bytes[start..]),
                58 => icmp::is_sound(&Packet::parse(GATEWAY_MAC, &Frame { bytes: &bytes, offload: Offload::default() }).unwrap()),
                _ => is_right_on_a_wire(&bytes),
            };
            assert!(right, "{bytes:02x?}");
            if let Transport::Tcp(tcp) = headers.transport {
                let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
                let length = (bytes.len() - tcp.payload) as u32 + u32::from(tcp.flags & 1) + u32::from(tcp.flags >> 1 & 1);
                self.heard = Heard {
                    port: tcp.dst,
                    peer,
                    peer_port: tcp.src,
                    sequence: word(tcp.start + 8),
                    acknowledgement: word(tcp.start + 4).wrapping_add(length),
                };
            }
        }
        let open = |socket: &str| self.gateway.flows(self.now).iter().filter(|flow| flow.protocol == socket).count();
        assert!(open("tcp") <= 8 && open("udp") <= 12 && open("dns") <= 4 && open("icmp") <= 3);
        let sockets = self.world.tcp.values().filter(|tcp| !tcp.closed && !tcp.reset).count();
        let is_served = |to: SocketAddr| to.port() == 53 && self.gateway.core.view.config.is_own(to.ip());
        let served = self.gateway.flows(self.now).iter().filter(|flow| flow.protocol == "tcp" && is_served(flow.outside)).count();
        assert_eq!(sockets, open("tcp") - served, "a flow has a socket, and no socket is forgotten");
        let sockets = self.world.udp.values().filter(|udp| !udp.closed).count();
        assert!(sockets <= 1 + 6 + 4);
        let sockets = self.world.echo.values().filter(|echo| !echo.closed).count();
        assert_eq!(sockets, open("icmp"));
    }
}

/// A frame to a group goes to the group's MAC.
fn grouped(to: Ipv6Addr, mut frame: Vec<u8>) -> Vec<u8> {
    if to.is_multicast() {
        frame[..6].copy_from_slice(&Mac::of_ipv6_group(to).0);
    }
    frame
}

/// Whether the checksum within `bytes` is right.
fn is_summed(bytes: &[u8]) -> bool {
    checksum::finished(checksum::sum(bytes, 0)) == 0
}
