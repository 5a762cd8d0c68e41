//! UDP outward, and the publications.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use super::{
    super::{testkit::*, udp::BUDGET, *},
    finished,
};
use crate::{Checksum, Gso, GsoKind, Offload, checksum};

const PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 10), 5000);
const OTHER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 11), 6000);

/// A datagram as the container receives it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) payload: Vec<u8>,
}

impl Received {
    /// The datagram of a frame to the container; its checksum is right.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let frame = finished(bytes);
        let packet = Packet::parse(GATEWAY_MAC, &frame).unwrap();
        assert!(packet.transport_is_sound());
        let (source, destination) = packet::ports(packet.payload).unwrap();
        Self {
            from: SocketAddr::new(packet.source, source),
            to: SocketAddr::new(packet.destination, destination),
            payload: packet::udp_payload(&packet).unwrap().to_vec(),
        }
    }
}

pub(super) struct Lab {
    pub(super) gateway: Gateway,
    pub(super) world: World,
    pub(super) now: Time,
}

impl Lab {
    pub(super) fn new(config: GatewayConfig) -> Self {
        let mut gateway = Gateway::new(view(config), 9);
        gateway.set_neighbour(CONTAINER.into(), CONTAINER_MAC);
        gateway.set_neighbour(CONTAINER6.into(), CONTAINER_MAC);
        Self { gateway, world: World::default(), now: Time::from_nanos(1_000_000_000) }
    }

    pub(super) fn send(&mut self, from: u16, to: impl Into<SocketAddr>, payload: &[u8]) -> Result<(), DropReason> {
        self.gateway.frame(self.now, &finished(&udp(from, to, payload)), &mut self.world)
    }

    /// Publishes a port of the container, and returns the host socket.
    fn publish(&mut self, port: u16) -> SocketId {
        self.publish_at((CONTAINER, port).into())
    }

    pub(super) fn publish_at(&mut self, to: SocketAddr) -> SocketId {
        let socket = self.gateway.new_socket_id();
        self.world.add_udp(socket);
        self.gateway.publish_udp(socket, to);
        socket
    }

    /// A datagram arrives on a host socket.
    pub(super) fn arrive(&mut self, socket: SocketId, from: impl Into<SocketAddr>, payload: &[u8]) {
        let local = Some(IpAddr::from([203, 0, 113, 1]));
        self.world.udp.get_mut(&socket).unwrap().inbox.push_back((from.into(), local, payload.to_vec()));
        self.notice();
    }

    pub(super) fn notice(&mut self) {
        for (socket, what) in self.world.notices() {
            self.gateway.ready(self.now, socket, what, &mut self.world);
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        while self.gateway.next_timer().is_some_and(|at| at <= self.now) {
            self.gateway.timer(self.now, &mut self.world);
        }
    }

    pub(super) fn mapped(&self) -> SocketId {
        let open: Vec<_> = self.world.udp.iter().filter(|(_, udp)| !udp.closed).map(|(socket, _)| *socket).collect();
        assert_eq!(open.len(), 1);
        open[0]
    }

    /// The next datagram that the container gets; its checksum is right.
    pub(super) fn received(&mut self) -> Option<Received> {
        let (mut bytes, offload) = self.world.emitted.pop_front()?;
        assert_eq!(offload.gso, None);
        if let Checksum::Partial { start, offset } = offload.checksum {
            assert!(checksum::finish(&mut bytes, start, offset));
        }
        Some(Received::of(&bytes))
    }

    /// Type and code of the next packet, an ICMP error, and the ports that it quotes.
    pub(super) fn icmp(&mut self) -> Option<(u8, u8, (u16, u16))> {
        let (bytes, _) = self.world.emitted.pop_front()?;
        let packet = Packet::parse(GATEWAY_MAC, &finished(&bytes)).unwrap();
        assert!(packet.is_icmp() && icmp::is_sound(&packet));
        let quoted = packet.payload[8..].split_at(if packet.source.is_ipv4() { 20 } else { 40 }).1;
        Some((packet.payload[0], packet.payload[1], packet::ports(quoted).unwrap()))
    }
}

#[test]
fn one_mapping_serves_every_peer_and_any_peer_may_answer() {
    let mut lab = Lab::new(config());
    lab.send(7000, PEER, b"one").unwrap();
    lab.send(7000, OTHER, b"two").unwrap();
    let socket = lab.mapped();
    assert_eq!(lab.world.udp[&socket].sent, [(PEER.into(), None, b"one".to_vec()), (OTHER.into(), None, b"two".to_vec())]);
    let stranger = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 99), 1);
    for from in [OTHER, stranger] {
        lab.arrive(socket, from, b"answer");
        let to = SocketAddrV4::new(CONTAINER, 7000);
        assert_eq!(lab.received(), Some(Received { from: from.into(), to: to.into(), payload: b"answer".to_vec() }));
    }
    lab.send(7001, PEER, b"").unwrap();
    assert_eq!(lab.world.udp.len(), 2, "another endpoint has a mapping of its own");
    assert!(lab.world.udp.values().any(|udp| udp.sent == [(PEER.into(), None, Vec::new())]), "an empty datagram is one too");
}

#[test]
fn a_mapping_ends_after_300_seconds_or_5_if_it_only_asked_for_names() {
    for (port, seconds) in [(5000, 300), (53, 5)] {
        let mut lab = Lab::new(config());
        lab.send(7000, SocketAddrV4::new(*PEER.ip(), port), b"x").unwrap();
        lab.pass(Duration::from_secs(seconds - 1));
        lab.send(7000, SocketAddrV4::new(*PEER.ip(), port), b"x").unwrap();
        lab.pass(Duration::from_secs(seconds - 1));
        let socket = lab.mapped();
        lab.pass(Duration::from_secs(1));
        assert!(lab.world.udp[&socket].closed && lab.gateway.flows(lab.now).is_empty() && lab.gateway.next_timer().is_none());
    }
}

#[test]
fn a_mapping_ends_when_its_network_says_so() {
    let mut lab = Lab::new(config());
    lab.send(7000, PEER, b"x").unwrap();
    let limits = Limits { udp_idle: Duration::from_secs(10), ..Limits::default() };
    lab.gateway.set_view(view(GatewayConfig { limits, ..config() }));
    lab.pass(Duration::from_secs(9));
    let socket = lab.mapped();
    lab.pass(Duration::from_secs(1));
    assert!(lab.world.udp[&socket].closed && lab.gateway.flows(lab.now).is_empty());
}

#[test]
fn at_the_limit_of_mappings_a_new_one_is_refused_clearly() {
    let mut lab = Lab::new(GatewayConfig { limits: Limits { udp_mappings: 1, ..Limits::default() }, ..config() });
    lab.send(7000, PEER, b"x").unwrap();
    assert_eq!(lab.send(7001, PEER, b"x"), Err(DropReason::GatewayMappingLimit));
    assert_eq!(lab.icmp(), Some((3, 13, (7001, 5000))));
    assert_eq!(lab.send(7000, OTHER, b"x"), Ok(()));
}

#[test]
fn a_refused_datagram_is_icmp_for_the_one_it_was() {
    let mut lab = Lab::new(config());
    lab.send(7000, PEER, b"x").unwrap();
    let socket = lab.mapped();
    lab.world.udp.get_mut(&socket).unwrap().errors.push_back(failed(OutsideError::Refused));
    lab.notice();
    assert_eq!(lab.icmp(), Some((3, 3, (7000, 5000))));
    // The error of an older datagram stands in the way of a new one, once.
    let udp = lab.world.udp.get_mut(&socket).unwrap();
    udp.errors.push_back(failed(OutsideError::HostUnreachable));
    udp.send_errors.push_back(OutsideError::HostUnreachable);
    lab.send(7000, OTHER, b"new").unwrap();
    assert_eq!(lab.icmp(), Some((3, 1, (7000, 5000))));
    assert_eq!(lab.world.udp[&socket].sent.last(), Some(&(OTHER.into(), None, b"new".to_vec())));
}

/// What the host itself found out about a datagram to the peer.
fn failed(error: OutsideError) -> DatagramError {
    DatagramError { to: PEER.into(), error, report: None, quote: Quote::EMPTY }
}

#[test]
fn what_routers_say_about_a_datagram_is_told_in_their_names() {
    let mut lab = Lab::new(config());
    lab.send(7000, PEER, b"x").unwrap();
    let socket = lab.mapped();
    let router = IpAddr::from([198, 51, 100, 1]);
    for (kind, code, mtu, told) in [(11, 0, 0, 0), (3, 4, 1400, 1400), (3, 1, 77, 0), (3, 13, 0, 0)] {
        let report = Some(Report { from: router, kind, code, mtu });
        let error = DatagramError { report, quote: Quote::of(b"probe 1"), ..failed(OutsideError::HostUnreachable) };
        lab.world.udp.get_mut(&socket).unwrap().errors.push_back(error);
        lab.notice();
        let (bytes, _) = lab.world.emitted.front().unwrap();
        assert_eq!((&bytes[26..30], &bytes[34..36]), (&[198, 51, 100, 1][..], &[kind, code][..]));
        assert_eq!(u16::from_be_bytes([bytes[40], bytes[41]]), told, "only one kind tells an MTU");
        assert!(bytes.ends_with(&[0, 15, 0, 0, b'p', b'r', b'o', b'b', b'e', b' ', b'1']), "programs know their own by what they sent");
        assert_eq!(lab.icmp(), Some((kind, code, (7000, 5000))), "it quotes the datagram as the container sent it");
    }
    // What is no error is not passed on.
    let report = Some(Report { from: router, kind: 0, code: 0, mtu: 0 });
    lab.world.udp.get_mut(&socket).unwrap().errors.push_back(DatagramError { report, ..failed(OutsideError::HostUnreachable) });
    lab.notice();
    assert_eq!(lab.icmp(), None);
}

/// What an ICMP error can be to a host socket, whatever it says.
const OLDER: [OutsideError; 6] = [
    OutsideError::Refused,
    OutsideError::NetworkUnreachable,
    OutsideError::HostUnreachable,
    OutsideError::Forbidden,
    OutsideError::MessageTooLong(0),
    OutsideError::Rejected,
];

#[test]
fn an_error_about_an_older_datagram_costs_none_that_comes_after_it_in_either_direction() {
    for error in OLDER {
        let mut lab = Lab::new(config());
        lab.send(7000, PEER, b"older").unwrap();
        let socket = lab.mapped();
        lab.world.udp.get_mut(&socket).unwrap().send_errors.push_back(error);
        lab.send(7000, PEER, b"newer").unwrap();
        assert_eq!(lab.world.udp[&socket].sent.len(), 2, "{error}");
        let published = lab.publish(53);
        for socket in [socket, published] {
            lab.world.udp.get_mut(&socket).unwrap().read_error_after = Some((0, error));
            lab.arrive(socket, PEER, b"behind the error");
            assert_eq!(lab.received().unwrap().payload, b"behind the error", "{error}");
        }
    }
}

#[test]
fn a_time_to_live_that_someone_chose_and_the_traffic_class_go_through() {
    for to in [SocketAddr::from(PEER), "[2001:db8::10]:5000".parse().unwrap()] {
        let mut lab = Lab::new(config());
        for (ttl, leaves) in [(64, None), (255, None), (63, Some(62)), (2, Some(1))] {
            let mut frame = udp(7000, to, b"x");
            if to.is_ipv4() {
                (frame[15], frame[20], frame[22]) = (0xb9, 0, ttl);
                frame[24..26].fill(0);
                let sum = checksum::finished(checksum::sum(&frame[14..34], 0)).to_be_bytes();
                frame[24..26].copy_from_slice(&sum);
            } else {
                (frame[14], frame[15], frame[21]) = (0x6b, 0x90, ttl);
            }
            lab.gateway.frame(lab.now, &finished(&frame), &mut lab.world).unwrap();
            let departure = lab.world.udp[&lab.mapped()].departure;
            assert_eq!(departure, Departure { from: None, ttl: leaves, traffic_class: 0xb9, dont_fragment: to.is_ipv6() });
        }
        let socket = lab.mapped();
        lab.world.udp.get_mut(&socket).unwrap().traffic_class = 3;
        lab.arrive(socket, to, b"congestion was experienced");
        let (bytes, _) = lab.world.emitted.pop_front().unwrap();
        assert_eq!(Packet::parse(GATEWAY_MAC, &finished(&bytes)).unwrap().traffic_class, 3);
    }
}

#[test]
fn what_is_too_long_for_the_way_out_and_may_not_be_cut_is_answered_with_how_long_it_may_be() {
    for (to, kind) in [(SocketAddr::from(PEER), [3, 4]), ("[2001:db8::10]:5000".parse().unwrap(), [2, 0])] {
        let mut lab = Lab::new(config());
        let frame = udp(7000, to, &[7; 1400]);
        lab.gateway.frame(lab.now, &finished(&frame), &mut lab.world).unwrap();
        let socket = lab.mapped();
        let host = lab.world.udp.get_mut(&socket).unwrap();
        assert!(host.departure.dont_fragment);
        // What a router said before stands in the way, and is told first; then the host says what it knows itself.
        let router = Some(Report { from: IpAddr::from([198, 51, 100, 1]), kind: kind[0], code: kind[1], mtu: 1350 });
        let own = DatagramError { to, ..failed(OutsideError::MessageTooLong(1300)) };
        host.send_errors = [OutsideError::MessageTooLong(0); 2].into();
        let sent = host.sent.len();
        if to.is_ipv4() {
            host.errors = [DatagramError { report: router, ..own }, own].into();
        } else {
            host.errors = [own].into();
        }
        assert_eq!(lab.gateway.frame(lab.now, &finished(&frame), &mut lab.world), Err(DropReason::GatewayTooBig));
        assert_eq!(lab.world.udp[&socket].sent.len(), sent);
        let told: Vec<u16> = lab
            .world
            .emitted
            .drain(..)
            .map(|(bytes, _)| {
                let (ip, icmp) = bytes[14..].split_at(if to.is_ipv4() { 20 } else { 40 });
                assert_eq!(icmp[..2], kind, "{ip:x?}");
                u16::from_be_bytes([icmp[6], icmp[7]])
            })
            .collect();
        assert_eq!(told, if to.is_ipv4() { vec![1350, 1300] } else { vec![1300] });
    }
}

#[test]
fn what_the_host_cannot_send_is_counted() {
    let mut lab = Lab::new(config());
    lab.send(7000, PEER, b"x").unwrap();
    for error in [OutsideError::WouldBlock, OutsideError::MessageTooLong(0)] {
        let socket = lab.mapped();
        lab.world.udp.get_mut(&socket).unwrap().send_errors = [error; 2].into();
        assert_eq!(lab.send(7000, PEER, b"x"), Err(DropReason::GatewayOutside));
    }
    lab.world.open = Err(OutsideError::Exhausted);
    assert_eq!(lab.send(7001, PEER, b"x"), Err(DropReason::GatewayLimit));
}

#[test]
fn a_superframe_of_datagrams_is_many_datagrams() {
    let mut lab = Lab::new(config());
    let frame = udp(7000, PEER, &[b"aaaaaa", b"bbbbbb", &b"ccc"[..]].concat());
    let gso = Some(Gso { kind: GsoKind::Udp, size: 6.try_into().unwrap(), ecn: false });
    let offload = Offload { checksum: Checksum::Partial { start: 34, offset: 6 }, gso };
    lab.gateway.frame(lab.now, &Frame { bytes: &frame, offload }, &mut lab.world).unwrap();
    let socket = lab.mapped();
    let sent: Vec<_> = lab.world.udp[&socket].sent.iter().map(|(_, _, payload)| payload.as_slice()).collect();
    assert_eq!(sent, [&b"aaaaaa"[..], b"bbbbbb", b"ccc"]);
}

#[test]
fn a_long_datagram_arrives_in_fragments_that_join() {
    let mut lab = Lab::new(config());
    lab.send(7000, PEER, b"x").unwrap();
    let socket = lab.mapped();
    for len in [1472, 1473, 4000, 65_507] {
        let payload: Vec<u8> = (0..len).map(|at| (at / 3) as u8).collect();
        lab.arrive(socket, PEER, &payload);
        let fits = len <= 1472;
        if fits {
            assert_eq!(lab.received().unwrap().payload, payload);
            continue;
        }
        let mut whole = Vec::new();
        let frames: Vec<_> = lab.world.emitted.drain(..).collect();
        let last = frames.len() - 1;
        let mut ids = std::collections::HashSet::new();
        for (at, (bytes, offload)) in frames.into_iter().enumerate() {
            assert!(bytes.len() <= 1514 && offload == Offload::default());
            assert_eq!(checksum::finished(checksum::sum(&bytes[14..34], 0)), 0);
            let flags = u16::from_be_bytes([bytes[20], bytes[21]]);
            assert_eq!(usize::from(flags & 0x1fff) * 8, whole.len());
            assert_eq!(flags >> 13, u16::from(at != last));
            ids.insert([bytes[18], bytes[19]]);
            whole.extend_from_slice(&bytes[34..]);
        }
        assert_eq!(ids.len(), 1);
        assert_eq!(whole[8..], payload);
        let pseudo = checksum::pseudo_v4(*PEER.ip(), CONTAINER, 17, whole.len() as u16);
        assert_eq!(checksum::finished(checksum::sum(&whole, pseudo)), 0);
    }
}

#[test]
fn a_full_socket_is_read_in_turns() {
    let mut lab = Lab::new(config());
    lab.send(7000, PEER, b"x").unwrap();
    let socket = lab.mapped();
    for at in 0..1000u16 {
        lab.world.udp.get_mut(&socket).unwrap().inbox.push_back((PEER.into(), None, at.to_be_bytes().to_vec()));
    }
    lab.notice();
    assert_eq!(lab.delivered().0.len(), BUDGET);
    assert!(lab.gateway.next_timer().is_some_and(|at| at <= lab.now), "it asks for the next turn, for no notice will come");
    lab.pass(Duration::ZERO);
    assert_eq!(lab.delivered().0.len(), 1000 - BUDGET);
}

#[test]
fn a_peer_that_cannot_be_one_is_not_let_in() {
    let mut lab = Lab::new(config());
    lab.send(7000, PEER, b"x").unwrap();
    let socket = lab.mapped();
    for from in [[127, 0, 0, 1], [10, 0, 0, 1], [10, 0, 0, 9], [203, 0, 113, 200]] {
        lab.arrive(socket, (from, 99), b"forged");
    }
    assert!(lab.world.emitted.is_empty());
    assert_eq!(lab.world.drops, [DropReason::GatewayForbidden; 4]);
}

#[test]
fn with_host_loopback_the_gateways_ports_are_the_hosts() {
    let mut lab = Lab::new(GatewayConfig { host_loopback: true, ..config() });
    lab.send(7000, SocketAddrV4::new(GATEWAY, 8125), b"metric").unwrap();
    let socket = lab.mapped();
    let local = SocketAddr::from(([127, 0, 0, 1], 8125));
    assert_eq!(lab.world.udp[&socket].sent, [(local, None, b"metric".to_vec())]);
    lab.arrive(socket, local, b"ok");
    assert_eq!(lab.received().unwrap().from, (GATEWAY, 8125).into());
    let mut lab = Lab::new(GatewayConfig { internal: true, ..config() });
    lab.send(7000, SocketAddrV4::new(GATEWAY, 8125), b"metric").unwrap();
    assert_eq!(lab.icmp(), Some((3, 3, (7000, 8125))));
}

/// The host has two names for a container: its own address and the gateway's.
#[test]
fn the_host_answers_by_the_address_that_it_was_asked_by() {
    let mut lab = Lab::new(config());
    let (by_gateway, directly) = (SocketAddrV4::new(GATEWAY, 8125), SocketAddrV4::new(HOST, 9125));
    lab.send(7000, by_gateway, b"metric").unwrap();
    lab.send(7000, directly, b"metric").unwrap();
    let socket = lab.mapped();
    let own = |port| SocketAddr::from((HOST, port));
    assert_eq!(lab.world.udp[&socket].sent.iter().map(|(to, ..)| *to).collect::<Vec<_>>(), [own(8125), own(9125)]);
    let answers = |lab: &mut Lab, port| {
        lab.arrive(socket, own(port), b"ok");
        lab.received().unwrap().from
    };
    assert_eq!([8125, 9125, 1].map(|port| answers(&mut lab, port)), [by_gateway.into(), directly.into(), own(1)]);
    // The newer name holds.
    lab.send(7000, SocketAddrV4::new(HOST, 8125), b"metric").unwrap();
    assert_eq!(answers(&mut lab, 8125), own(8125));
    // And an error about it is one about the name that was used.
    lab.send(7000, by_gateway, b"metric").unwrap();
    let error = DatagramError { to: own(8125), error: OutsideError::Refused, report: None, quote: Quote::EMPTY };
    lab.world.udp.get_mut(&socket).unwrap().errors.push_back(error);
    lab.notice();
    assert_eq!(lab.icmp(), Some((3, 3, (7000, 8125))));
}

#[test]
fn of_the_hosts_ports_that_were_asked_by_the_gateway_the_newest_are_known() {
    let mut lab = Lab::new(config());
    for port in 1000..1100 {
        lab.send(7000, SocketAddrV4::new(GATEWAY, port), b"x").unwrap();
    }
    let socket = lab.mapped();
    for (port, from) in [(1099, GATEWAY), (1036, GATEWAY), (1035, HOST)] {
        lab.arrive(socket, (HOST, port), b"ok");
        assert_eq!(lab.received().unwrap().from, (from, port).into());
    }
}

#[test]
fn a_client_of_a_publication_keeps_its_address_and_gets_its_answer() {
    let mut lab = Lab::new(config());
    let socket = lab.publish(5353);
    lab.arrive(socket, PEER, b"query");
    let to = SocketAddrV4::new(CONTAINER, 5353);
    assert_eq!(lab.received(), Some(Received { from: PEER.into(), to: to.into(), payload: b"query".to_vec() }));
    lab.send(5353, PEER, b"answer").unwrap();
    let local = Some(IpAddr::from([203, 0, 113, 1]));
    assert_eq!(lab.world.udp[&socket].sent, [(PEER.into(), local, b"answer".to_vec())], "from the address the client knows");
    lab.send(5353, OTHER, b"of its own accord").unwrap();
    assert_eq!(lab.world.udp.len(), 2, "other traffic of the endpoint has a mapping");
    assert_eq!(lab.world.udp[&socket].sent.len(), 1);
}

#[test]
fn a_client_whose_address_means_something_else_inside_appears_as_the_gateway() {
    let clients: [SocketAddr; 6] = [
        ([127, 0, 0, 1], 99).into(),
        ([10, 0, 0, 77], 99).into(),
        ([169, 254, 1, 1], 99).into(),
        ([203, 0, 113, 200], 99).into(),
        "[2001:db8::5]:99".parse().unwrap(),
        "[::ffff:127.0.0.1]:98".parse().unwrap(),
    ];
    let mut lab = Lab::new(config());
    let socket = lab.publish(5353);
    let mut seen = std::collections::HashSet::new();
    for client in clients {
        lab.arrive(socket, client, b"query");
        let apparent = lab.received().unwrap().from;
        assert_eq!(apparent.ip(), GATEWAY);
        assert!(seen.insert(apparent), "each has a port of its own");
        lab.arrive(socket, client, b"again");
        assert_eq!(lab.received().unwrap().from, apparent, "and keeps it");
        lab.send(5353, apparent, b"answer").unwrap();
        assert_eq!(lab.world.udp[&socket].sent.last().map(|(to, ..)| *to), Some(client));
    }
    assert_eq!(lab.gateway.flows(lab.now).len(), clients.len());
}

#[test]
fn clients_of_publications_are_bounded_and_forgotten() {
    let mut lab = Lab::new(GatewayConfig { limits: Limits { udp_clients: 2, ..Limits::default() }, ..config() });
    let socket = lab.publish(5353);
    for port in 1..=3 {
        lab.arrive(socket, SocketAddrV4::new(*PEER.ip(), port), b"query");
    }
    assert_eq!((lab.world.emitted.len(), lab.gateway.flows(lab.now).len()), (3, 2), "the third comes in for one that leaves");
    lab.pass(Duration::from_secs(400));
    assert!(lab.gateway.flows(lab.now).is_empty() && lab.gateway.next_timer().is_none());
    lab.arrive(socket, SocketAddrV4::new(*PEER.ip(), 3), b"query");
    assert_eq!(lab.world.emitted.len(), 4);
    lab.gateway.unpublish_udp(socket);
    lab.arrive(socket, PEER, b"query");
    assert_eq!((lab.world.emitted.len(), lab.gateway.flows(lab.now).len()), (4, 0));
}

#[test]
fn senders_that_a_flood_makes_up_push_out_each_other_and_nobody_whom_the_container_answers() {
    let mut lab = Lab::new(GatewayConfig { limits: Limits { udp_clients: 16, ..Limits::default() }, ..config() });
    let socket = lab.publish(53);
    lab.arrive(socket, PEER, b"query");
    lab.send(53, PEER, b"answer").unwrap();
    for port in 1..=5000 {
        lab.now = lab.now + Duration::from_millis(1);
        lab.arrive(socket, SocketAddrV4::new(*OTHER.ip(), port), b"made up");
    }
    assert_eq!((lab.world.emitted.len(), lab.world.drops.len()), (5001, 0), "everyone is heard");
    assert_eq!(lab.gateway.flows(lab.now).len(), 16);
    lab.send(53, PEER, b"late answer").unwrap();
    assert_eq!(lab.world.udp[&socket].sent.len(), 2, "it leaves by the publication's socket");
    assert_eq!(lab.mapped(), socket);
}

#[test]
fn a_flood_of_clients_is_not_looked_through_for_silent_ones_in_every_turn() {
    let mut lab = Lab::new(config());
    let socket = lab.publish(53);
    for port in [1, 2] {
        lab.arrive(socket, SocketAddrV4::new(*PEER.ip(), port), b"query");
        lab.pass(Duration::from_secs(5));
    }
    lab.pass(Duration::from_secs(290));
    assert_eq!(lab.gateway.flows(lab.now).len(), 1, "the first has been silent for too long");
    lab.pass(Duration::from_secs(10));
    lab.world.udp.get_mut(&socket).unwrap().inbox.extend((0..1000).map(|_| (OTHER.into(), None, b"query".to_vec())));
    lab.notice();
    lab.pass(Duration::ZERO);
    assert!(lab.world.udp[&socket].inbox.is_empty(), "it took several turns");
    assert_eq!(lab.gateway.flows(lab.now).len(), 2, "so has the second, but nobody has looked since");
    lab.pass(Duration::from_secs(10));
    assert_eq!(lab.gateway.flows(lab.now).len(), 1);
}

#[test]
fn a_network_may_have_no_clients_of_udp() {
    let mut lab = Lab::new(GatewayConfig { limits: Limits { udp_clients: 0, ..Limits::default() }, ..config() });
    let socket = lab.publish(53);
    lab.arrive(socket, PEER, b"query");
    assert_eq!((lab.world.emitted.len(), lab.world.drops.as_slice()), (0, &[DropReason::GatewayLimit][..]));
}
