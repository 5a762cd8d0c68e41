//! The gateway over IPv6: neighbour discovery, advertisements, and everything that IPv4 has too.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use smoltcp::socket::tcp::State;

use super::{
    super::{testkit::*, *},
    container::Lab,
    finished,
    tcp::{connected_to, exchange},
    udp,
};
use crate::checksum;

const LINK_LOCAL: Ipv6Addr = CONTAINER_MAC.link_local();
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const PEER: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x80)), 80);
const OTHER: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0x53)), 6000);

/// An ICMPv6 message with its checksum, in a frame to the group's or the gateway's MAC.
fn icmpv6(from: Ipv6Addr, to: Ipv6Addr, hop_limit: u8, message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    message[2..4].fill(0);
    let sum = checksum::finished(checksum::sum(&message, checksum::pseudo_v6(from, to, 58, message.len() as u32)));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = ipv6_from(from, to, hop_limit, 58, &message);
    if to.is_multicast() {
        frame[..6].copy_from_slice(&Mac::of_ipv6_group(to).0);
    }
    frame
}

/// Where those are asked that end like `target` (RFC 4291, 2.7.1).
fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

fn neighbour_solicitation(from: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let option = if from.is_unspecified() { Vec::new() } else { [&[1, 1][..], &CONTAINER_MAC.0].concat() };
    icmpv6(from, solicited_node(target), 255, &[&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &option].concat())
}

/// Source, destination and ICMPv6 message.
type Message = (Ipv6Addr, Ipv6Addr, Vec<u8>);

/// What the container gets for a frame, if anything; its checksum is right.
fn answer(gateway: &mut Gateway, frame: &[u8]) -> (Result<(), DropReason>, Option<Message>) {
    let mut world = World::default();
    let result = gateway.frame(Time::ZERO, &finished(frame), &mut world);
    let reply = heard(&mut world);
    assert!(world.emitted.is_empty());
    (result, reply)
}

fn heard(world: &mut World) -> Option<Message> {
    let (bytes, _) = world.emitted.pop_front()?;
    assert_eq!(bytes[..12], [CONTAINER_MAC.0, GATEWAY_MAC.0].concat(), "it goes to the port's own station");
    let packet = Packet::parse(GATEWAY_MAC, &finished(&bytes)).unwrap();
    assert!(packet.is_icmp() && icmp::is_sound(&packet));
    let (source, destination) = packet.ipv6().unwrap();
    Some((source, destination, packet.payload.to_vec()))
}

fn gateway() -> Gateway {
    Gateway::new(view(config()), 1)
}

#[test]
fn the_gateway_answers_for_its_two_addresses_and_for_nobody_else() {
    for own in [GATEWAY6, GATEWAY_MAC.link_local()] {
        let (result, reply) = answer(&mut gateway(), &neighbour_solicitation(CONTAINER6, own));
        let wanted = [&[0xe0, 0, 0, 0][..], &own.octets(), &[2, 1], &GATEWAY_MAC.0].concat();
        let (source, destination, message) = reply.unwrap();
        assert_eq!((result, source, destination), (Ok(()), own, CONTAINER6));
        assert_eq!((&message[..2], &message[4..]), (&[136, 0][..], &wanted[..]));
    }
    let another = Ipv6Addr::new(0xfd00, 0, 0, 0xa, 0, 0, 0, 9);
    assert_eq!(answer(&mut gateway(), &neighbour_solicitation(CONTAINER6, another)), (Ok(()), None));
    let without = GatewayConfig { ipv6: None, ..config() };
    assert_eq!(answer(&mut Gateway::new(view(without), 1), &neighbour_solicitation(CONTAINER6, GATEWAY6)), (Ok(()), None));
}

#[test]
fn who_wants_to_take_the_gateways_address_is_told_that_it_is_taken() {
    let (_, reply) = answer(&mut gateway(), &neighbour_solicitation(Ipv6Addr::UNSPECIFIED, GATEWAY6));
    let (source, destination, message) = reply.unwrap();
    assert_eq!((source, destination, message[4]), (GATEWAY6, ALL_NODES, 0xa0), "to all, as an answer to nobody");
    let own = neighbour_solicitation(Ipv6Addr::UNSPECIFIED, CONTAINER6);
    assert_eq!(answer(&mut gateway(), &own), (Ok(()), None), "who wants an address of its own is left in peace");
}

#[test]
fn a_router_solicitation_is_answered_with_all_that_a_host_needs() {
    for (from, to) in [(LINK_LOCAL, LINK_LOCAL), (Ipv6Addr::UNSPECIFIED, ALL_NODES)] {
        let (result, reply) = answer(&mut gateway(), &icmpv6(from, ALL_ROUTERS, 255, &[133, 0, 0, 0, 0, 0, 0, 0]));
        let (source, destination, message) = reply.unwrap();
        assert_eq!((result, source, destination), (Ok(()), GATEWAY_MAC.link_local(), to));
        let prefix = Ipv6Addr::new(0xfd00, 0, 0, 0xa, 0, 0, 0, 0);
        let wanted = [
            // Hop limit 64, addresses and the rest by DHCPv6 too, a router for 1800 s; no say about reachability.
            &[64, 0xc0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1][..],
            &GATEWAY_MAC.0,
            &[5, 1, 0, 0, 0, 0, 5, 220],
            &[3, 4, 64, 0xc0, 0, 1, 0x51, 0x80, 0, 0, 0x38, 0x40, 0, 0, 0, 0],
            &prefix.octets(),
            &[25, 3, 0, 0, 0, 0, 7, 8],
            &GATEWAY6.octets(),
        ]
        .concat();
        assert_eq!((&message[..2], &message[4..]), (&[134, 0][..], &wanted[..]));
    }
}

#[test]
fn a_station_that_spoke_is_reminded_of_its_router_and_a_silent_port_is_left_alone() {
    let (mut gateway, mut world) = (gateway(), World::default());
    gateway.frame(Time::ZERO, &finished(&super::arp_request(GATEWAY)), &mut world).unwrap();
    assert_eq!(gateway.next_timer(), None);
    world.emitted.clear();
    gateway.frame(Time::ZERO, &finished(&neighbour_solicitation(LINK_LOCAL, CONTAINER6)), &mut world).unwrap();
    let mut last = Time::ZERO;
    for _ in 0..20 {
        let at = gateway.next_timer().unwrap();
        assert!((200..=600).contains(&at.since(last).as_secs()));
        gateway.timer(at, &mut world);
        let (_, destination, message) = heard(&mut world).unwrap();
        assert_eq!((destination, message[0]), (ALL_NODES, 134));
        last = at;
    }
    gateway.set_view(view(GatewayConfig { ipv6: None, ..config() }));
    gateway.timer(gateway.next_timer().unwrap(), &mut world);
    assert!(world.emitted.is_empty() && gateway.next_timer().is_none(), "a network without IPv6 advertises nothing");
}

#[test]
fn discovery_that_is_not_from_the_link_or_makes_no_sense_is_dropped() {
    let ask = |hop_limit, message: &[u8]| icmpv6(CONTAINER6, solicited_node(GATEWAY6), hop_limit, message);
    let target = GATEWAY6.octets();
    let good = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target].concat();
    let mut wrong_sum = ask(255, &good);
    wrong_sum[56] ^= 1;
    let with = |option: &[u8]| ask(255, &[&good[..], option].concat());
    let unspecified_with_address = [&good[..], &[1, 1], &CONTAINER_MAC.0].concat();
    let table = [
        ("routed", ask(254, &good), DropReason::GatewayMalformed),
        ("code 1", ask(255, &[&[135, 1][..], &good[2..]].concat()), DropReason::GatewayMalformed),
        ("no target", ask(255, &good[..20]), DropReason::GatewayMalformed),
        ("an option without length", with(&[1, 0, 0, 0, 0, 0, 0, 0]), DropReason::GatewayMalformed),
        ("an option that leaves the packet", with(&[1, 2, 0, 0, 0, 0, 0, 0]), DropReason::GatewayMalformed),
        ("a group as target", ask(255, &[&good[..8], &ALL_NODES.octets()].concat()), DropReason::GatewayMalformed),
        (
            "no source, and where it is",
            icmpv6(Ipv6Addr::UNSPECIFIED, solicited_node(GATEWAY6), 255, &unspecified_with_address),
            DropReason::GatewayMalformed,
        ),
        ("no source, and to one host", icmpv6(Ipv6Addr::UNSPECIFIED, GATEWAY6, 255, &good), DropReason::GatewayMalformed),
        ("half a router solicitation", icmpv6(LINK_LOCAL, ALL_ROUTERS, 255, &[133, 0, 0, 0]), DropReason::GatewayMalformed),
        ("a wrong checksum", wrong_sum, DropReason::GatewayChecksum),
    ];
    for (what, frame, reason) in table {
        assert_eq!(answer(&mut gateway(), &frame), (Err(reason), None), "{what}");
    }
}

#[test]
fn a_ping_to_either_address_of_the_gateway_comes_back_whole() {
    for (from, to) in [(CONTAINER6, GATEWAY6), (LINK_LOCAL, GATEWAY_MAC.link_local())] {
        let (result, reply) = answer(&mut gateway(), &icmpv6(from, to, 64, b"\x80\0\0\0\x12\x34\0\x01payload"));
        let (source, destination, message) = reply.unwrap();
        assert_eq!((result, source, destination), (Ok(()), to, from));
        assert_eq!((&message[..2], &message[4..]), (&[129, 0][..], &b"\x12\x34\0\x01payload"[..]));
    }
}

#[test]
fn what_may_not_go_out_is_refused_aloud_by_icmpv6() {
    let forbidden = Err(DropReason::GatewayForbidden);
    for to in ["::1", "::", "::ffff:127.0.0.1", "::ffff:192.0.2.1", "ff02::fb", "ff0e::1"] {
        let (result, reply) = answer(&mut gateway(), &udp_frame(to));
        assert_eq!(
            (result, reply.map(|(source, _, message)| (source, message[0], message[1]))),
            (forbidden, Some((GATEWAY6, 1, 1))),
            "{to}"
        );
    }
    let internal = GatewayConfig { internal: true, ..config() };
    assert_eq!(answer(&mut Gateway::new(view(internal), 1), &udp_frame("2001:db8::1")).0, forbidden);
    for on_link in ["fd00:0:0:a::9", "fe80::9"] {
        assert_eq!(answer(&mut gateway(), &udp_frame(on_link)), (Err(DropReason::GatewayUnsupported), None), "{on_link}");
    }
    let gre = ipv6(PEER_IP, 47, b"gre");
    assert!(matches!(answer(&mut gateway(), &gre), (Err(DropReason::GatewayUnsupported), Some(_))));
    let error = icmpv6(CONTAINER6, PEER_IP, 64, &[1, 4, 0, 0, 0, 0, 0, 0]);
    assert_eq!(answer(&mut gateway(), &error), (Err(DropReason::GatewayUnsupported), None), "no error is answered with an error");
}

#[test]
fn a_ping_beyond_the_gateway_is_answered_and_told_what_routers_say() {
    let (mut gateway, mut world) = (gateway(), World::default());
    let ping = icmpv6(CONTAINER6, PEER_IP, 64, b"\x80\0\0\0\x12\x34\0\x01payload");
    gateway.frame(Time::ZERO, &finished(&ping), &mut world).unwrap();
    let (&socket, echo) = world.echo.iter_mut().next().unwrap();
    assert_eq!(echo.sent, [(PEER.ip(), 1, 63, b"payload".to_vec())]);
    echo.inbox.push_back((PEER.ip(), 1, Some(57), b"payload".to_vec()));
    let readable = Readiness { readable: true, ..Readiness::default() };
    gateway.ready(Time::ZERO, socket, readable, &mut world);
    let (source, destination, message) = heard(&mut world).unwrap();
    assert_eq!((source, destination, &message[..2], &message[4..]), (PEER_IP, CONTAINER6, &[129, 0][..], &b"\x12\x34\0\x01payload"[..]));
    assert_eq!(gateway.flows(Time::ZERO)[0].inside, (CONTAINER6, 0x1234).into());
    let router: Ipv6Addr = "2001:db8:7::1".parse().unwrap();
    for (kind, code, mtu, told) in
        [(3, 0, 0, Some([3, 0, 0, 0])), (2, 0, 1280, Some([2, 0, 5, 0])), (1, 3, 9, Some([1, 3, 0, 0])), (129, 0, 0, None)]
    {
        let report = Some(Report { from: router.into(), kind, code, mtu });
        let error = EchoError { to: PEER.ip(), sequence: 1, error: OutsideError::HostUnreachable, report };
        world.echo.get_mut(&socket).unwrap().errors.push_back(error);
        gateway.ready(Time::ZERO, socket, Readiness { error: true, ..Readiness::default() }, &mut world);
        let message = heard(&mut world);
        assert_eq!(
            message.as_ref().map(|(source, _, bytes)| (*source, [bytes[0], bytes[1], bytes[6], bytes[7]])),
            told.map(|told| (router, told))
        );
        if let Some((_, _, bytes)) = message {
            assert_eq!(
                (&bytes[16..32], &bytes[32..48], &bytes[48..]),
                (&CONTAINER6.octets()[..], &PEER_IP.octets()[..], &b"\x80\0\0\0\x12\x34\0\x01"[..])
            );
            assert_eq!((bytes[8], bytes[14]), (0x60, 58));
        }
    }
}

const PEER_IP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x80);

fn udp_frame(to: &str) -> Vec<u8> {
    udp(9, (to.parse::<Ipv6Addr>().unwrap(), 9), b"x")
}

#[test]
fn a_source_that_is_not_the_containers_to_use_is_spoofed() {
    let outside = "2001:db8::5".parse().unwrap();
    let anycast = Ipv6Addr::new(0xfd00, 0, 0, 0xa, 0, 0, 0, 0);
    for from in [GATEWAY6, GATEWAY_MAC.link_local(), outside, anycast, Ipv6Addr::UNSPECIFIED, ALL_NODES] {
        let frame = ipv6_from(from, PEER_IP, 64, 17, &[0; 16]);
        assert_eq!(answer(&mut gateway(), &frame), (Err(DropReason::SpoofedSource), None), "{from}");
    }
}

#[test]
fn a_datagram_without_a_checksum_is_dropped_and_a_fragment_waits_for_the_others() {
    let mut frame = udp_frame("2001:db8::80");
    frame[60..62].fill(0);
    assert_eq!(answer(&mut gateway(), &frame).0, Err(DropReason::GatewayChecksum));
    let fragment = ipv6(PEER_IP, 44, &[17, 0, 0, 1, 0, 0, 0, 7, 0, 9, 0, 9, 0, 8, 0, 0]);
    assert_eq!(answer(&mut gateway(), &fragment), (Ok(()), None));
    let mut long = udp_frame("2001:db8::80");
    long[18] = 1;
    assert_eq!(answer(&mut gateway(), &long).0, Err(DropReason::GatewayMalformed), "longer than its frame");
}

#[test]
fn the_last_hop_shows_the_gateway_to_traceroute() {
    let mut lab = udp::Lab::new(config());
    let mut frame = udp_frame("2001:db8::80");
    frame[21] = 1;
    lab.gateway.frame(lab.now, &finished(&frame), &mut lab.world).unwrap();
    assert_eq!(lab.icmp(), Some((3, 0, (9, 9))));
}

#[test]
fn one_mapping_serves_every_peer_of_its_family() {
    let mut lab = udp::Lab::new(config());
    lab.send(7000, PEER, b"one").unwrap();
    lab.send(7000, OTHER, b"two").unwrap();
    let socket = lab.mapped();
    assert_eq!(lab.world.udp[&socket].sent, [(PEER, None, b"one".to_vec()), (OTHER, None, b"two".to_vec())]);
    let stranger = "[2001:db8:9::9]:1".parse().unwrap();
    let to = SocketAddr::from((CONTAINER6, 7000));
    for from in [OTHER, stranger] {
        lab.arrive(socket, from, b"answer");
        assert_eq!(lab.received(), Some(udp::Received { from, to, payload: b"answer".to_vec() }));
    }
    lab.send(7000, SocketAddr::from(([192, 0, 2, 1], 80)), b"four").unwrap();
    assert_eq!(lab.world.udp.len(), 2, "the same port of the other family is another endpoint");
    lab.world.udp.get_mut(&socket).unwrap().errors.push_back(DatagramError {
        to: PEER,
        error: OutsideError::Refused,
        report: None,
        quote: Quote::EMPTY,
    });
    lab.notice();
    assert_eq!(lab.icmp(), Some((1, 4, (7000, 80))), "port unreachable, about the datagram that it was");
}

#[test]
fn extension_headers_before_a_datagram_and_a_segment_do_not_stop_them() {
    let options = |next| vec![next, 0, 1, 4, 0, 0, 0, 0];
    let mut lab = udp::Lab::new(config());
    let datagram = udp(7000, PEER, b"hello");
    let frame = ipv6(PEER_IP, 60, &[&options(17)[..], &datagram[54..]].concat());
    lab.gateway.frame(lab.now, &finished(&frame), &mut lab.world).unwrap();
    assert_eq!(lab.world.udp[&lab.mapped()].sent, [(PEER, None, b"hello".to_vec())]);

    let (mut lab, handle) = connected_to(PEER, config(), true);
    lab.extend_headers = true;
    exchange(&mut lab, handle, 100_000);
}

#[test]
fn a_long_datagram_arrives_in_fragments_that_join() {
    let mut lab = udp::Lab::new(config());
    lab.send(7000, PEER, b"?").unwrap();
    let socket = lab.mapped();
    let payload: Vec<u8> = (0..60_000u32).map(|at| (at >> 3) as u8).collect();
    lab.arrive(socket, PEER, &payload);
    let mut joined = Vec::new();
    let mut ids = std::collections::BTreeSet::new();
    while let Some((bytes, _)) = lab.world.emitted.pop_front() {
        assert!(bytes.len() <= 1514 && bytes[20] == 44 && bytes[54] == 17);
        assert_eq!(usize::from(u16::from_be_bytes([bytes[18], bytes[19]])), bytes.len() - 54);
        let place = u16::from_be_bytes([bytes[56], bytes[57]]);
        assert_eq!(usize::from(place & !7), joined.len());
        assert_eq!(place & 1 == 0, lab.world.emitted.is_empty(), "more follow, but after the last");
        ids.insert(bytes[58..62].to_vec());
        joined.extend_from_slice(&bytes[62..]);
    }
    assert_eq!(ids.len(), 1);
    let pseudo = checksum::pseudo(PEER.ip(), CONTAINER6.into(), 17, joined.len() as u16);
    assert_eq!(checksum::finished(checksum::sum(&joined, pseudo)), 0);
    assert_eq!(joined[8..], payload);
}

#[test]
fn tcp_goes_both_ways_in_superframes() {
    let (mut lab, handle) = connected_to(PEER, config(), true);
    exchange(&mut lab, handle, 10_000_000);
    assert!(lab.longest > 60_000, "the longest frame had {} bytes", lab.longest);
    assert_eq!(lab.drops, []);
}

#[test]
fn tcp_survives_loss_and_the_smallest_link() {
    let (mut lab, handle) = connected_to(PEER, GatewayConfig { mtu: 1280, ..config() }, false);
    lab.lose = Box::new(|number| number % 50 == 0);
    exchange(&mut lab, handle, 300_000);
}

#[test]
fn the_segments_are_as_long_as_the_container_takes_and_the_link_carries() {
    // The container's MTU is 1500 in this lab; the network's is less or more.
    for (mtu, most) in [(1280, 1220), (1500, 1440), (9000, 1440)] {
        let (mut lab, _) = connected_to(PEER, GatewayConfig { mtu, ..config() }, true);
        lab.host().inbox.extend(vec![7; 50_000]);
        lab.lose = Box::new(|_| true);
        let sizes = lab.sizes_of_segments();
        assert_eq!(sizes, [most], "{mtu}");
    }
}

#[test]
fn what_the_world_answers_to_a_connect_reaches_the_container() {
    let kinds = [
        (OutsideError::Refused, State::Closed, vec![]),
        (OutsideError::NetworkUnreachable, State::SynSent, vec![(1, 0)]),
        (OutsideError::HostUnreachable, State::SynSent, vec![(1, 3)]),
        (OutsideError::Forbidden, State::SynSent, vec![(1, 1)]),
        (OutsideError::TimedOut, State::SynSent, vec![]),
    ];
    for (error, state, icmp) in kinds {
        let mut lab = Lab::new(config(), true);
        let handle = lab.connect(PEER, 40_000);
        lab.settle();
        assert_eq!(lab.host().to, Some(PEER));
        lab.host().outcome = Some(Err(error));
        lab.settle();
        assert_eq!((lab.state(handle), &lab.icmp), (state, &icmp), "{error}");
        assert!(lab.host().closed && lab.gateway.flows(lab.now).is_empty());
    }
}

#[test]
fn the_gateways_ports_are_those_of_the_hosts_own_address_and_with_host_loopback_of_its_loopback() {
    let allowed = GatewayConfig { host_loopback: true, ..config() };
    let internal = GatewayConfig { internal: true, ..config() };
    for (config, to) in [(config(), Some((HOST6, 8080).into())), (allowed.clone(), Some("[::1]:8080".parse().unwrap())), (internal, None)] {
        let mut lab = Lab::new(config, true);
        let handle = lab.connect((GATEWAY6, 8080), 40_000);
        lab.settle();
        assert_eq!(lab.world.tcp.values().next().and_then(|tcp| tcp.to), to);
        assert_eq!(lab.state(handle) == State::Closed, to.is_none(), "refused where it leads nowhere");
    }
    let mut lab = udp::Lab::new(allowed);
    lab.send(7000, (GATEWAY6, 8080), b"x").unwrap();
    let socket = lab.mapped();
    lab.arrive(socket, "[::1]:8080".parse::<SocketAddr>().unwrap(), b"y");
    assert_eq!(lab.received().unwrap().from, SocketAddr::from((GATEWAY6, 8080)));
}

#[test]
fn clients_of_a_publication_appear_as_themselves_or_as_the_gateway() {
    let own = |address: &str| address.parse::<IpAddr>().unwrap();
    let table = [
        (own("2001:db8::33"), CONTAINER6.into(), Some(own("2001:db8::33"))),
        (own("::1"), CONTAINER6.into(), None),
        (own("fe80::33"), CONTAINER6.into(), None),
        (own("fd00:0:0:a::33"), CONTAINER6.into(), None),
        (own("192.0.2.33"), CONTAINER6.into(), None),
        (own("2001:db8::33"), CONTAINER.into(), None),
        (own("192.0.2.33"), CONTAINER.into(), Some(own("192.0.2.33"))),
    ];
    for (client, inside, seen) in table {
        let inside: IpAddr = inside;
        let gateway = if inside.is_ipv4() { IpAddr::from(GATEWAY) } else { GATEWAY6.into() };
        let mut lab = Lab::new(config(), true);
        let server = lab.listen(80);
        let socket = lab.gateway.new_socket_id();
        lab.world.add_tcp(socket);
        lab.gateway.accepted(lab.now, socket, (client, 51_000).into(), (inside, 80).into(), &mut lab.world);
        lab.settle();
        let remote = lab.socket(server).remote_endpoint().unwrap();
        assert_eq!(IpAddr::from(remote.addr), seen.unwrap_or(gateway), "{client} to {inside} by TCP");

        let mut lab = udp::Lab::new(config());
        let socket = lab.publish_at((inside, 53).into());
        lab.arrive(socket, (client, 51_000), b"question");
        let received = lab.received().unwrap();
        assert_eq!((received.from.ip(), received.to), (seen.unwrap_or(gateway), (inside, 53).into()), "{client} to {inside} by UDP");
        lab.send(53, received.from, b"answer").unwrap();
        assert_eq!(lab.world.udp[&socket].sent[0].0, SocketAddr::new(client, 51_000));
    }
}

#[test]
fn a_resolver_asked_over_ipv6_answers_over_ipv6() {
    let mut lab = udp::Lab::new(config());
    let query = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x03six\0\0\x1c\0\x01";
    for own in [GATEWAY6, GATEWAY_MAC.link_local()] {
        lab.send(7000, (own, 53), query).unwrap();
        let answer = lab.received().unwrap();
        assert_eq!((answer.from, answer.to), ((own, 53).into(), (CONTAINER6, 7000).into()));
        let address = Ipv6Addr::new(0xfd00, 0, 0, 0xa, 0, 0, 0, 6).octets();
        assert!(answer.payload.windows(16).any(|window| window == address), "{:?}", answer.payload);
    }
    lab.send(7000, (GATEWAY6, 53), b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x07example\0\0\x1c\0\x01").unwrap();
    let socket = lab.mapped();
    let (to, _, mut reply) = lab.world.udp[&socket].sent[0].clone();
    reply[2] |= 0x80;
    lab.arrive(socket, to, &reply);
    assert_eq!(lab.received().unwrap().from, (GATEWAY6, 53).into());
    lab.pass(Duration::ZERO);
}
