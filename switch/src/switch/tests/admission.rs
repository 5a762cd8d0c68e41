//! What a port may send: nothing in the name of others, wherever it hides.

use super::*;

#[test]
pub(super) fn nobody_takes_the_gateways_address() {
    let mut lab = with_gateway(2);
    lab.set(|settings| settings.port_security = false);
    lab.refused(1, &eth(GATEWAY, mac(2)).filler(60), DropReason::SpoofedSource);
    assert_eq!(lab.send(2, &eth(mac(2), GATEWAY).filler(60)), Verdict::Forward(PortId(0)));
}

#[test]
fn nobody_takes_an_address_that_the_ipam_gave_to_another() {
    let mut lab = with_gateway(3);
    lab.set_port(1, |port| (port.mac, port.ips) = (Some(mac(1)), vec![Ipv4Addr::new(10, 0, 0, 2).into()]));
    lab.refused(2, &hello(1, 3), DropReason::SpoofedSource);
    for (ip, verdict) in [([10, 0, 0, 2], "the address of port 1"), ([10, 0, 0, 1], "the gateway's")] {
        let claim = eth(mac(2), Mac::BROADCAST).arp_reply(ip.into(), ip.into());
        assert_eq!(lab.send(2, &claim), Verdict::Drop(DropReason::SpoofedSource), "{verdict}");
    }
    assert!(matches!(lab.send(1, &hello(1, 3)), Verdict::Flood(_)), "its own");
    assert!(matches!(lab.send(2, &hello(77, 3)), Verdict::Flood(_)), "an address of nobody's: a bridge or a VM inside");
    let own = eth(mac(1), Mac::BROADCAST).arp_request([10, 0, 0, 2].into(), [10, 0, 0, 9].into());
    assert!(matches!(lab.send(1, &own), Verdict::Flood(_)));
    lab.set(|settings| settings.port_security = false);
    assert!(matches!(lab.send(2, &hello(1, 3)), Verdict::Flood(_)), "unless the network allows it");
    let gateways = eth(mac(2), Mac::BROADCAST).arp_reply([10, 0, 0, 1].into(), [10, 0, 0, 1].into());
    lab.refused(2, &gateways, DropReason::SpoofedSource);
}

#[test]
fn nobody_takes_an_address_by_arp_for_another_kind_of_network_that_linux_listens_to() {
    let mut lab = with_gateway(2);
    let mut claim = eth(mac(2), Mac::BROADCAST).arp_reply([10, 0, 0, 1].into(), [10, 0, 0, 1].into());
    claim.bytes[15] = 6;
    lab.refused(2, &claim, DropReason::SpoofedSource);
    claim.bytes[15] = 7;
    assert!(matches!(lab.send(2, &claim), Verdict::Flood(_)), "nobody hears what is of ARCNET");
}

#[test]
fn nobody_sends_packets_from_an_ip_address_that_was_given_to_another() {
    let mut lab = with_gateway(3);
    lab.set(|settings| settings.gateway_ips.push("fd00::1".parse().unwrap()));
    lab.set_port(1, |port| port.ips = ["10.0.0.2", "fd00::2"].map(|ip| ip.parse().unwrap()).to_vec());
    let packet = |port: u8, source: &str| {
        let to = if source.contains(':') { "[fd00::3]:80" } else { "10.0.0.3:80" };
        eth(mac(port), mac(3)).tcp((source.parse::<IpAddr>().unwrap(), 4000).into(), to.parse().unwrap(), TcpFields::default(), b"")
    };
    for taken in ["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"] {
        lab.refused(2, &packet(2, taken), DropReason::SpoofedSource);
    }
    assert!(matches!(lab.send(1, &packet(1, "10.0.0.2")), Verdict::Flood(_)), "its own");
    assert!(matches!(lab.send(1, &packet(1, "fd00::2")), Verdict::Flood(_)));
    assert!(matches!(lab.send(2, &packet(2, "10.9.9.9")), Verdict::Flood(_)), "an address of nobody's: a router's, or a VM's inside");
    lab.set(|settings| settings.port_security = false);
    assert!(matches!(lab.send(2, &packet(2, "10.0.0.2")), Verdict::Flood(_)), "unless the network allows it");
    lab.refused(2, &packet(2, "10.0.0.1"), DropReason::SpoofedSource);
}

/// An ICMPv6 message (its checksum is for hosts to look at) behind `before`, extension headers of which the first is `first`.
fn discovery(port: u8, source: &str, message: &[u8], (first, before): (u8, &[u8])) -> Built {
    let [l0, l1] = u16::try_from(before.len() + message.len()).unwrap().to_be_bytes();
    let address = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
    let header = [&[0x60, 0, 0, 0, l0, l1, first, 255][..], &address(source), &address("ff02::1")].concat();
    eth(mac(port), Mac([0x33, 0x33, 0, 0, 0, 1])).raw(0x86dd, &[&header[..], before, message].concat())
}

const PLAIN: (u8, &[u8]) = (58, &[]);

fn neighbour(kind: u8, target: &str) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target.parse::<Ipv6Addr>().unwrap().octets()].concat()
}

#[test]
fn nobody_takes_an_ipv6_address_that_is_the_gateways_or_was_given_to_another() {
    let mut lab = with_gateway(3);
    lab.set(|settings| settings.gateway_ips.extend(["fd00::1", "fe80::1"].map(|ip| ip.parse::<IpAddr>().unwrap())));
    lab.set_port(1, |port| port.ips = vec!["fd00::2".parse().unwrap()]);
    for taken in ["fd00::1", "fe80::1", "fd00::2"] {
        lab.refused(2, &discovery(2, "fd00::3", &neighbour(136, taken), PLAIN), DropReason::SpoofedSource);
        lab.refused(2, &discovery(2, taken, &neighbour(135, "fd00::9"), PLAIN), DropReason::SpoofedSource);
        lab.refused(2, &discovery(2, taken, &[133, 0, 0, 0, 0, 0, 0, 0], PLAIN), DropReason::SpoofedSource);
        lab.refused(2, &discovery(2, "::", &neighbour(135, taken), PLAIN), DropReason::SpoofedSource);
        let asks = discovery(2, "fd00::3", &neighbour(135, taken), PLAIN);
        assert!(matches!(lab.send(2, &asks), Verdict::Flood(_)), "who has {taken}?");
    }
    let options = (60, &[58, 0, 1, 4, 0, 0, 0, 0][..]);
    lab.refused(2, &discovery(2, "fd00::3", &neighbour(136, "fd00::2"), options), DropReason::SpoofedSource);
    assert!(matches!(lab.send(1, &discovery(1, "fd00::2", &neighbour(136, "fd00::2"), PLAIN)), Verdict::Flood(_)), "its own");
    assert!(matches!(lab.send(1, &discovery(1, "::", &neighbour(135, "fd00::2"), PLAIN)), Verdict::Flood(_)), "it makes sure");
    assert!(matches!(lab.send(2, &discovery(2, "fd00::3", &neighbour(136, "fd00::3"), PLAIN)), Verdict::Flood(_)), "nobody's");
    lab.set(|settings| settings.port_security = false);
    assert!(matches!(lab.send(2, &discovery(2, "fd00::3", &neighbour(136, "fd00::2"), PLAIN)), Verdict::Flood(_)));
    lab.refused(2, &discovery(2, "fd00::3", &neighbour(136, "fd00::1"), PLAIN), DropReason::SpoofedSource);
}

#[test]
pub(super) fn nobody_but_the_gateway_is_a_router() {
    let mut lab = with_gateway(3);
    let (advertisement, redirect) = ([134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0], neighbour(137, "fe80::9"));
    let options = [60, 0, 1, 4, 0, 0, 0, 0];
    let chain = [&options.repeat(20)[..], &[58, 0, 1, 4, 0, 0, 0, 0]].concat();
    for before in [PLAIN, (60, &[58, 0, 1, 4, 0, 0, 0, 0]), (60, &chain)] {
        lab.refused(2, &discovery(2, "fe80::9", &advertisement, before), DropReason::RogueAdvertisement);
        lab.refused(2, &discovery(2, "fe80::9", &redirect, before), DropReason::RogueAdvertisement);
    }
    let own = eth(GATEWAY, mac(2)).raw(0x86dd, &discovery(1, "fe80::1", &advertisement, PLAIN).bytes[14..]);
    assert!(!matches!(lab.send(0, &own), Verdict::Drop(_)));
    lab.set(|settings| settings.gateway = None);
    assert!(
        matches!(lab.send(2, &discovery(2, "fe80::9", &advertisement, PLAIN)), Verdict::Flood(_)),
        "where there is none, anyone may be"
    );
}

/// What a DHCP server sends to a client of IPv6, behind `before`.
fn dhcp6_answer(port: u8, before: (u8, &[u8])) -> Built {
    discovery(port, "fe80::9", &[2, 35, 2, 34, 0, 12, 0, 0, 7, 0, 0, 1], before)
}

#[test]
pub(super) fn nobody_but_the_gateway_answers_as_a_dhcp_server() {
    let mut lab = with_gateway(3);
    let (server, client) = ("10.0.0.9:67".parse().unwrap(), "255.255.255.255:68".parse().unwrap());
    let everyone = eth(mac(2), Mac::BROADCAST);
    let answer = everyone.udp(server, client, b"offer");
    lab.refused(2, &answer, DropReason::RogueDhcp);
    lab.refused(2, &eth(mac(2), Mac::BROADCAST).tag(5).udp(server, client, b"offer"), DropReason::RogueDhcp);
    let as_fragment = |flags_and_offset: [u8; 2]| {
        let mut frame = everyone.udp(server, client, b"offer");
        frame.bytes[20..22].copy_from_slice(&flags_and_offset);
        frame
    };
    lab.refused(2, &as_fragment([0x20, 0]), DropReason::RogueDhcp);
    assert!(matches!(lab.send(2, &as_fragment([0x20, 1])), Verdict::Flood(_)), "data of a later fragment may look like anything");
    let ask = everyone.udp("0.0.0.0:68".parse().unwrap(), "255.255.255.255:67".parse().unwrap(), b"discover");
    assert!(matches!(lab.send(2, &ask), Verdict::Flood(_)), "clients ask");
    let relayed = everyone.udp(server, "10.0.0.1:67".parse().unwrap(), b"relayed");
    assert!(matches!(lab.send(2, &relayed), Verdict::Flood(_)), "relays pass on");
    let from_gateway = eth(GATEWAY, mac(2)).udp("10.0.0.1:67".parse().unwrap(), client, b"offer");
    assert!(!matches!(lab.send(0, &from_gateway), Verdict::Drop(_)));
    lab.set(|settings| settings.port_security = false);
    assert!(matches!(lab.send(2, &answer), Verdict::Flood(_)));
    lab.set(|settings| (settings.gateway, settings.port_security) = (None, true));
    assert!(matches!(lab.send(2, &answer), Verdict::Flood(_)), "where there is no gateway, a container may serve");
}

#[test]
fn nobody_but_the_gateway_answers_as_a_dhcp_server_of_ipv6() {
    let mut lab = with_gateway(3);
    // A fragment header: the protocol behind it, the offset and whether more follow, an identification.
    let fragment = |next: u8, offset_and_more: u8| [next, 0, 0, offset_and_more, 0, 0, 0, 9];
    let (first, options) = (fragment(60, 1), [17, 0, 1, 4, 0, 0, 0, 0]);
    let behind_options = [&first[..], &options].concat();
    for before in [(17, &[][..]), (60, &options), (44, &fragment(17, 1)), (44, &behind_options), (44, &fragment(17, 0))] {
        lab.refused(2, &dhcp6_answer(2, before), DropReason::RogueDhcp);
    }
    lab.refused(2, &dhcp6_answer(2, (44, &[&fragment(60, 1)[..], &[17, 200, 1, 4, 0, 0, 0, 0]].concat())), DropReason::RogueAdvertisement);
    // The ports come in the second fragment.
    lab.refused(2, &discovery(2, "fe80::9", &options, (44, &fragment(60, 1))), DropReason::RogueAdvertisement);
    assert!(matches!(lab.send(2, &dhcp6_answer(2, (44, &fragment(17, 9)))), Verdict::Flood(_)), "data of a later fragment");
    let ask = discovery(2, "fe80::2", &[2, 34, 2, 35, 0, 12, 0, 0, 1, 0, 0, 1], (17, &[]));
    assert!(matches!(lab.send(2, &ask), Verdict::Flood(_)), "clients ask");
    lab.set(|settings| settings.port_security = false);
    assert!(matches!(lab.send(2, &dhcp6_answer(2, (17, &[]))), Verdict::Flood(_)));
}

#[test]
fn who_answers_a_dhcp_client_is_a_server_from_whatever_port() {
    let mut lab = with_gateway(3);
    let (anywhere, client) = ("10.0.0.9:4000".parse().unwrap(), "255.255.255.255:68".parse().unwrap());
    lab.refused(2, &eth(mac(2), Mac::BROADCAST).udp(anywhere, client, b"offer"), DropReason::RogueDhcp);
    let answer = [15, 160, 2, 34, 0, 12, 0, 0, 7, 0, 0, 1];
    for before in [(17, &[][..]), (60, &[17, 0, 1, 4, 0, 0, 0, 0]), (44, &[17, 0, 0, 1, 0, 0, 0, 9])] {
        lab.refused(2, &discovery(2, "fe80::9", &answer, before), DropReason::RogueDhcp);
    }
}

#[test]
fn nothing_hides_in_a_fragment_of_a_fragment() {
    let mut lab = with_gateway(3);
    let nested = [[44, 0, 0, 1, 0, 0, 0, 9], [60, 0, 0, 1, 0, 0, 0, 9], [17, 0, 1, 4, 0, 0, 0, 0]].concat();
    lab.refused(2, &dhcp6_answer(2, (44, &nested)), DropReason::RogueAdvertisement);
    let in_a_whole_one = [[44, 0, 0, 0, 0, 0, 0, 9], [17, 0, 0, 1, 0, 0, 0, 9]].concat();
    lab.refused(2, &dhcp6_answer(2, (44, &in_a_whole_one)), DropReason::RogueDhcp);
}

/// The frame with these tags between its addresses and its EtherType.
fn tagged(built: &Built, tags: &[[u8; 4]]) -> Built {
    let (addresses, rest) = built.bytes.split_at(12);
    Built::raw([addresses, &tags.concat(), rest].concat())
}

#[test]
fn nothing_hides_behind_tags_that_its_receiver_takes_off() {
    const PRIORITY: [u8; 4] = [0x81, 0, 0xe0, 0];
    const SERVICE_PRIORITY: [u8; 4] = [0x88, 0xa8, 0, 0];
    const VLAN: [u8; 4] = [0x81, 0, 0, 5];
    let mut lab = with_gateway(3);
    lab.set_port(1, |port| port.ips = vec![Ipv4Addr::new(10, 0, 0, 2).into(), "fd00::2".parse().unwrap()]);
    let (server, client) = ("10.0.0.9:67".parse().unwrap(), "255.255.255.255:68".parse().unwrap());
    let everyone = eth(mac(2), Mac::BROADCAST);
    let rogues = [
        (everyone.arp_reply([10, 0, 0, 2].into(), [10, 0, 0, 2].into()), DropReason::SpoofedSource),
        (everyone.udp(server, client, b"offer"), DropReason::RogueDhcp),
        (discovery(2, "fd00::3", &neighbour(136, "fd00::2"), PLAIN), DropReason::SpoofedSource),
        (discovery(2, "fe80::9", &[134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0], PLAIN), DropReason::RogueAdvertisement),
        (dhcp6_answer(2, (17, &[])), DropReason::RogueDhcp),
    ];
    let hidden: [&[[u8; 4]]; 6] = [
        &[PRIORITY, PRIORITY],
        &[SERVICE_PRIORITY, PRIORITY],
        &[SERVICE_PRIORITY; 3],
        &[PRIORITY, VLAN],
        &[VLAN, PRIORITY],
        &[PRIORITY, VLAN, SERVICE_PRIORITY],
    ];
    for (rogue, reason) in &rogues {
        hidden.iter().for_each(|tags| lab.refused(2, &tagged(rogue, tags), *reason));
        assert!(matches!(lab.send(2, &tagged(rogue, &[VLAN, VLAN])), Verdict::Flood(_)), "a VLAN in a VLAN is its owner's");
    }
    let own = eth(mac(1), Mac::BROADCAST).arp_reply([10, 0, 0, 2].into(), [10, 0, 0, 2].into());
    assert!(matches!(lab.send(1, &tagged(&own, &[PRIORITY, PRIORITY])), Verdict::Flood(_)));
    lab.refused(1, &tagged(&own, &[PRIORITY; 40]), DropReason::RogueAdvertisement);
}

#[test]
fn nothing_that_was_looked_at_is_written_over_by_who_finishes_the_checksum() {
    let mut lab = with_gateway(3);
    let left_to = |mut built: Built, start: u16, place: u16| {
        built.offload.checksum = Checksum::Partial { start, offset: place - start };
        built
    };
    let (own, to) = ("10.0.0.3:4000".parse().unwrap(), "10.0.0.9:80".parse().unwrap());
    let everyone = eth(mac(2), Mac::BROADCAST);
    let advertisement = discovery(2, "fd00::3", &neighbour(136, "fd00::3"), PLAIN);
    let router = discovery(2, "fe80::9", &[134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0], (60, &[59, 0, 1, 4, 0, 0, 0, 0]));
    let first_fragment = discovery(2, "fe80::9", &[2, 34, 2, 35, 0, 8, 0, 0], (44, &[17, 0, 0, 1, 0, 0, 0, 9]));
    let in_vlans = tagged(&hello(2, 3), &[[0x81, 0, 0, 5], [0x81, 0, 0, 6]]);
    for (built, start, place) in [
        (everyone.arp_reply([10, 0, 0, 3].into(), [10, 0, 0, 3].into()), 14, 30),
        (everyone.udp(own, to, b"source"), 14, 28),
        (everyone.clone().extra(1).udp(own, to, b"port"), 38, 40),
        (advertisement, 54, 76),
        (router, 54, 54),
        (first_fragment, 62, 64),
        (in_vlans, 18, 18),
    ] {
        assert!(matches!(lab.send(2, &built), Verdict::Flood(_)));
        lab.refused(2, &left_to(built, start, place), DropReason::BadOffload);
    }
    let (own6, to6) = ("[fd00::3]:4000".parse().unwrap(), "[fd00::9]:80".parse().unwrap());
    for (from, to) in [(own, to), (own6, to6)] {
        let behind_more = everyone.clone().extra(2).tcp_partial(from, to, TcpFields::default(), b"whole");
        assert!(matches!(lab.send(2, &behind_more), Verdict::Flood(_)), "where it belongs");
    }
    let echo = discovery(2, "fd00::3", &[128, 0, 0, 0, 0, 7, 0, 1], PLAIN);
    assert!(matches!(lab.send(2, &left_to(echo, 54, 56)), Verdict::Flood(_)));
    let tunnelled = discovery(2, "fd00::3", &[0; 60], (41, &[]));
    assert!(matches!(lab.send(2, &left_to(tunnelled, 94, 110)), Verdict::Flood(_)), "of a packet inside");
}
