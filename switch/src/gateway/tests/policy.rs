//! Where a container may send, and every reason for which the gateway drops.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use super::{
    super::{
        policy::Destination::{Forbidden, Outside, Subnet},
        testkit::*,
        *,
    },
    finished,
};

#[test]
fn the_table_of_destinations_holds() {
    const OWN: Destination = Destination::Gateway;
    let plain = view(config());
    let with_loopback = view(GatewayConfig { host_loopback: true, ..config() });
    let internal = view(GatewayConfig { internal: true, host_loopback: true, ..config() });
    let out = |text: &str| Outside(text.parse::<IpAddr>().unwrap());
    let table = [
        ("192.0.2.1", out("192.0.2.1"), out("192.0.2.1"), Forbidden),
        ("10.0.0.1", OWN, OWN, OWN),
        ("10.0.0.9", Subnet, Subnet, Subnet),
        ("10.0.0.255", Subnet, Subnet, Subnet),
        ("127.0.0.1", Forbidden, out("127.0.0.1"), Forbidden),
        ("127.9.9.9", Forbidden, out("127.9.9.9"), Forbidden),
        ("203.0.113.200", Forbidden, out("203.0.113.200"), Forbidden),
        ("::ffff:127.0.0.1", Forbidden, Forbidden, Forbidden),
        ("::ffff:203.0.113.200", Forbidden, Forbidden, Forbidden),
        ("::ffff:192.0.2.1", Forbidden, Forbidden, Forbidden),
        ("::ffff:10.0.0.9", Forbidden, Forbidden, Forbidden),
        ("::1", Forbidden, out("::1"), Forbidden),
        ("::", Forbidden, Forbidden, Forbidden),
        ("ff02::1", Forbidden, Forbidden, Forbidden),
        ("0.0.0.0", Forbidden, Forbidden, Forbidden),
        ("0.1.2.3", Forbidden, Forbidden, Forbidden),
        ("224.0.0.251", Forbidden, Forbidden, Forbidden),
        ("240.0.0.1", Forbidden, Forbidden, Forbidden),
        ("255.255.255.255", Forbidden, Forbidden, Forbidden),
        ("10.99.0.0", Forbidden, Forbidden, Forbidden),
        ("10.99.255.255", Forbidden, Forbidden, Forbidden),
        ("10.100.0.0", out("10.100.0.0"), out("10.100.0.0"), Forbidden),
        ("10.99.7.7", Forbidden, Forbidden, Forbidden),
        ("10.98.7.7", out("10.98.7.7"), out("10.98.7.7"), Forbidden),
        ("fd00:0:0:b::7", Forbidden, Forbidden, Forbidden),
        ("2001:db8::1", out("2001:db8::1"), out("2001:db8::1"), Forbidden),
    ];
    for (address, by_default, allowed, inside) in table {
        let of = |view| policy::destination(view, address.parse().unwrap());
        assert_eq!((of(&plain), of(&with_loopback), of(&internal)), (by_default, allowed, inside), "{address}");
    }
}

fn syn(to: Ipv4Addr) -> Vec<u8> {
    let mut segment = [0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0];
    let pseudo = crate::checksum::pseudo_v4(CONTAINER, to, 6, 20);
    let sum = crate::checksum::finished(crate::checksum::sum(&segment, pseudo)).to_be_bytes();
    segment[16..18].copy_from_slice(&sum);
    ipv4(to, 6, &segment)
}

/// What becomes of a frame, and type and code of the ICMP error that the container gets.
fn fate(config: GatewayConfig, frame: &[u8]) -> (Result<(), DropReason>, Option<(u8, u8)>) {
    let (mut gateway, mut world) = (Gateway::new(view(config), 1), World::default());
    let result = gateway.frame(Time::ZERO, &finished(frame), &mut world);
    let icmp = world.emitted.front().filter(|(bytes, _)| bytes[23] == 1).map(|(bytes, _)| (bytes[34], bytes[35]));
    assert!(world.tcp.is_empty() || result.is_ok(), "what is dropped opens no socket");
    (result, icmp)
}

#[test]
fn no_protocol_reaches_the_hosts_loopback_by_any_of_its_names() {
    let names = ["0.0.0.0", "127.0.0.1", "127.9.9.9", "203.0.113.200", "::", "::1", "::ffff:127.0.0.1", "::ffff:203.0.113.200"];
    for name in names.map(|name| name.parse::<IpAddr>().unwrap()) {
        let (mut gateway, mut world) = (Gateway::new(view(config()), 1), World::default());
        let types = icmp::Types::of(name);
        let segment = [&[0x9c, 0x40, 0, 80][..], &[0; 8], &[0x50, 2, 255, 255, 0, 0, 0, 0]].concat();
        let verified = Offload { checksum: crate::Checksum::Verified, gso: None };
        let ping = [types.request, 0, 0, 0, 0, 1, 0, 1];
        for (protocol, payload) in [(6, &segment[..]), (17, &[0x9c, 0x40, 0, 80, 0, 8, 0, 0]), (types.protocol, &ping)] {
            let frame = ip(name, protocol, payload);
            let fate = gateway.frame(Time::ZERO, &Frame { bytes: &frame, offload: verified }, &mut world);
            assert_eq!(fate, Err(DropReason::GatewayForbidden), "{protocol} to {name}");
        }
        assert!(world.tcp.is_empty() && world.udp.is_empty() && world.echo.is_empty(), "{name}");
        // And in fragments.
        let pieces = [fragment(name, 17, 1, 0, true, &[0x9c, 0x40, 0, 80, 0, 16, 0, 0]), fragment(name, 17, 1, 8, false, &[0; 8])];
        for piece in &pieces {
            assert_ne!(gateway.frame(Time::ZERO, &finished(piece), &mut world), Err(DropReason::GatewayMalformed));
        }
        assert!(world.udp.is_empty(), "{name}");
    }
}

#[test]
fn what_may_not_go_out_is_refused_aloud() {
    let forbidden = (Err(DropReason::GatewayForbidden), Some((3, 13)));
    let peer = Ipv4Addr::new(192, 0, 2, 1);
    for to in [[127, 0, 0, 1], [203, 0, 113, 200], [0, 0, 0, 0], [224, 0, 0, 1], [255, 255, 255, 255]].map(Ipv4Addr::from) {
        assert_eq!(fate(config(), &syn(to)), forbidden, "{to}");
        assert_eq!(fate(config(), &udp(9, SocketAddrV4::new(to, 9), b"x")), forbidden, "{to}");
    }
    let internal = GatewayConfig { internal: true, ..config() };
    assert_eq!(fate(internal.clone(), &syn(peer)), forbidden);
    assert_eq!(fate(internal, &udp(9, SocketAddrV4::new(peer, 9), b"x")), forbidden);
    assert_eq!(fate(config(), &syn(peer)), (Ok(()), None));
}

#[test]
fn icmp_other_than_ping_and_unknown_protocols_are_answered() {
    let unsupported = (Err(DropReason::GatewayUnsupported), Some((3, 13)));
    let peer = Ipv4Addr::new(192, 0, 2, 1);
    assert_eq!(fate(config(), &ipv4(peer, 1, &[13, 0, 0xf2, 0xff, 0, 0, 0, 0])), unsupported);
    assert_eq!(fate(config(), &ipv4(peer, 47, b"gre")), unsupported);
    assert_eq!(fate(config(), &ipv4(GATEWAY, 132, b"sctp")), unsupported);
    let error = ipv4(peer, 1, &[3, 3, 0xfc, 0xfc, 0, 0, 0, 0]);
    assert_eq!(fate(config(), &error), (Err(DropReason::GatewayUnsupported), None), "no error is answered with an error");
}

/// The frame of a packet that may go no further than to the next router.
fn at_its_end(mut frame: Vec<u8>) -> Vec<u8> {
    if frame[14] >> 4 == 6 {
        frame[21] = 1;
        return frame;
    }
    frame[22] = 1;
    frame[24..26].fill(0);
    let sum = crate::checksum::finished(crate::checksum::sum(&frame[14..34], 0)).to_be_bytes();
    frame[24..26].copy_from_slice(&sum);
    frame
}

#[test]
fn a_packet_at_the_end_of_its_time_shows_the_gateway_to_traceroute() {
    let peer = Ipv4Addr::new(192, 0, 2, 1);
    for probe in [udp(9, SocketAddrV4::new(peer, 33_434), b"probe"), syn(peer)] {
        assert_eq!(fate(config(), &at_its_end(probe)), (Ok(()), Some((11, 0))));
    }
}

#[test]
fn what_is_for_the_gateway_itself_arrives_at_the_end_of_its_time() {
    let with_loopback = GatewayConfig { host_loopback: true, ..config() };
    for to in [IpAddr::from(GATEWAY), GATEWAY6.into()] {
        let (mut gateway, mut world) = (Gateway::new(view(with_loopback.clone()), 1), World::default());
        let segment = [&[0x9c, 0x40, 0, 80][..], &[0; 8], &[0x50, 2, 255, 255, 0, 0, 0, 0]].concat();
        for frame in [ip(to, 6, &segment), udp(9, SocketAddr::new(to, 9), b"x")] {
            let frame = at_its_end(frame);
            let verified = Offload { checksum: crate::Checksum::Verified, gso: None };
            assert_eq!(gateway.frame(Time::ZERO, &Frame { bytes: &frame, offload: verified }, &mut world), Ok(()));
        }
        assert_eq!((world.tcp.len(), world.udp.len(), world.emitted.len()), (1, 1, 0), "{to}");
    }
}

#[test]
fn every_reason_to_drop_a_packet_is_given() {
    let peer = Ipv4Addr::new(192, 0, 2, 1);
    let good = syn(peer);
    let changed = |at: usize, to: u8| {
        let mut frame = good.clone();
        frame[at] = to;
        frame[24..26].fill(0);
        let sum = crate::checksum::finished(crate::checksum::sum(&frame[14..34], 0)).to_be_bytes();
        frame[24..26].copy_from_slice(&sum);
        frame
    };
    let mut wrong_header_sum = good.clone();
    wrong_header_sum[24] ^= 1;
    let mut group_source = good.clone();
    group_source[6] |= 1;
    let table: [(&str, DropReason, Vec<u8>); 12] = [
        ("no Ethernet header", DropReason::GatewayMalformed, good[..13].to_vec()),
        ("a group source", DropReason::GatewayMalformed, group_source),
        ("no IP header", DropReason::GatewayMalformed, good[..33].to_vec()),
        ("version 6", DropReason::GatewayMalformed, changed(14, 0x65)),
        ("a header of 16 bytes", DropReason::GatewayMalformed, changed(14, 0x44)),
        ("longer than the frame", DropReason::GatewayMalformed, changed(17, 0xff)),
        ("a wrong header checksum", DropReason::GatewayChecksum, wrong_header_sum),
        ("a wrong TCP checksum", DropReason::GatewayChecksum, changed(50, 0x55)),
        ("a fragment that is not of eights", DropReason::GatewayMalformed, changed(20, 0x20)),
        ("another's source", DropReason::SpoofedSource, changed(26, 11)),
        ("the gateway's source", DropReason::SpoofedSource, changed(29, 1)),
        ("a host of the subnet", DropReason::GatewayUnsupported, syn(Ipv4Addr::new(10, 0, 0, 9))),
    ];
    for (what, reason, frame) in table {
        assert_eq!(fate(config(), &frame).0, Err(reason), "{what}");
    }
    let mut ipv4_in_disguise = good.clone();
    ipv4_in_disguise[12..14].copy_from_slice(&[0x86, 0xdd]);
    assert_eq!(fate(config(), &ipv4_in_disguise).0, Err(DropReason::GatewayMalformed));
    let without_ipv6 = GatewayConfig { ipv6: None, ..config() };
    assert_eq!(fate(without_ipv6, &ethernet(0x86dd, &[0x60; 40])).0, Err(DropReason::GatewayUnsupported));
}

#[test]
fn what_the_link_carries_past_is_not_our_business() {
    let mut to_another = syn(Ipv4Addr::new(192, 0, 2, 1));
    to_another[5] ^= 1;
    let mut broadcast = udp(68, SocketAddrV4::new(Ipv4Addr::BROADCAST, 69), b"tftp");
    broadcast[..6].fill(0xff);
    for frame in [to_another, broadcast] {
        assert_eq!(fate(config(), &frame), (Ok(()), None));
    }
}

#[test]
fn icmp_errors_are_rationed() {
    let (mut gateway, mut world) = (Gateway::new(view(config()), 1), World::default());
    let frame = ipv4(Ipv4Addr::new(192, 0, 2, 1), 47, b"gre");
    for _ in 0..1000 {
        assert_eq!(gateway.frame(Time::ZERO, &finished(&frame), &mut world), Err(DropReason::GatewayUnsupported));
    }
    assert_eq!(world.emitted.len(), Limits::default().icmp_errors as usize);
    let later = Time::ZERO + std::time::Duration::from_secs(1);
    gateway.frame(later, &finished(&frame), &mut world).unwrap_err();
    assert_eq!(world.emitted.len(), Limits::default().icmp_errors as usize + 1);
}
