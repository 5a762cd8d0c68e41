//! What the switch promises, told with fake ports and a virtual clock.

mod admission;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use proptest::prelude::*;

use super::*;
use crate::{
    Checksum, Mac, ReservedMacs,
    frame::FRAME_MAX,
    testkit::{Built, Lab, Model, Op, TcpFields, eth, mac},
};

const GATEWAY: Mac = Mac([2, 0x42, 10, 0, 0, 1]);
const LLDP: Mac = Mac([1, 0x80, 0xc2, 0, 0, 0x0e]);
const HOUR: Duration = Duration::from_secs(3600);

fn with_gateway(ports: u16) -> Lab {
    let gateway_ips = vec![Ipv4Addr::new(10, 0, 0, 1).into()];
    Lab::with(Settings { gateway: Some(GATEWAY), gateway_ips, ..Settings::default() }, ports)
}

fn hello(from: u8, to: u8) -> Built {
    eth(mac(from), mac(to)).filler(60)
}

// a ──1┐
// b ──2┤ switch
// c ──3┘
#[test]
fn a_stranger_is_flooded_to_and_a_known_station_is_not() {
    let mut lab = Lab::new(3);
    let (ask, answer) = (hello(1, 2), hello(2, 1));
    assert_eq!(lab.send(1, &ask), Verdict::Flood([2, 3].map(PortId).into_iter().collect()));
    lab.expect(2, &[&ask]);
    lab.expect(3, &[&ask]);
    assert_eq!(lab.send(2, &answer), Verdict::Forward(PortId(1)));
    assert_eq!(lab.send(1, &ask), Verdict::Forward(PortId(2)));
    lab.expect(1, &[&answer]);
    lab.expect(2, &[&ask]);
    lab.nothing_on(3);
}

#[test]
fn a_broadcast_reaches_everyone_but_its_sender() {
    let mut lab = with_gateway(3);
    let who_has = eth(mac(2), Mac::BROADCAST).arp_request([10, 0, 0, 3].into(), [10, 0, 0, 1].into());
    let _ = lab.send(2, &who_has);
    for port in [0, 1, 3] {
        lab.expect(port, &[&who_has]);
    }
    lab.nothing_on(2);
}

#[test]
fn an_address_is_forgotten_after_its_ageing_time_and_not_before() {
    let mut lab = Lab::new(3);
    let _ = lab.send(2, &hello(2, 9));
    lab.advance(Duration::from_secs(300));
    assert_eq!(lab.send(1, &hello(1, 2)), Verdict::Forward(PortId(2)));
    lab.advance(Duration::from_nanos(1));
    assert!(matches!(lab.send(1, &hello(1, 2)), Verdict::Flood(_)), "without anyone calling age()");
    assert_eq!(lab.switch.fdb().learned(), 2);
    lab.switch.age(lab.now());
    assert_eq!(lab.switch.fdb().learned(), 1, "the sweep takes it out");
}

#[test]
fn a_station_that_speaks_is_not_forgotten() {
    let mut lab = Lab::new(3);
    for _ in 0..10 {
        let _ = lab.send(2, &hello(2, 9));
        lab.advance(Duration::from_secs(200));
        lab.switch.age(lab.now());
        assert_eq!(lab.send(1, &hello(1, 2)), Verdict::Forward(PortId(2)));
    }
}

#[test]
fn the_ageing_time_can_be_changed_while_it_runs() {
    let mut lab = Lab::new(3);
    let _ = lab.send(2, &hello(2, 9));
    lab.advance(Duration::from_secs(11));
    lab.set(|settings| settings.ageing = Duration::from_secs(10));
    assert!(matches!(lab.send(1, &hello(1, 2)), Verdict::Flood(_)));
}

#[test]
fn a_moved_mac_is_followed() {
    let mut lab = Lab::new(3);
    let _ = lab.send(1, &hello(7, 9));
    let _ = lab.send(2, &hello(7, 9));
    assert_eq!(lab.send(3, &hello(3, 7)), Verdict::Forward(PortId(2)));
    assert_eq!(lab.switch.fdb().learned(), 2);
}

#[test]
fn a_pinned_mac_is_not_followed_and_does_not_age() {
    let mut lab = Lab::new(3);
    lab.switch.pin(lab.now(), mac(7), PortId(1)).unwrap();
    lab.refused(2, &hello(7, 9), DropReason::SpoofedSource);
    lab.advance(HOUR);
    lab.switch.age(lab.now());
    assert_eq!(lab.send(3, &hello(3, 7)), Verdict::Forward(PortId(1)));
    assert_eq!(lab.switch.forget(mac(7)), Ok(true));
    assert_eq!(lab.switch.forget(mac(7)), Ok(false));
    assert!(matches!(lab.send(3, &hello(3, 7)), Verdict::Flood(_)));
}

#[test]
fn an_address_is_anothers_once_it_was_given_to_it_or_heard_there() {
    let mut lab = with_gateway(2);
    let is_anothers = |lab: &Lab, of: Mac, port| lab.switch.is_anothers(lab.now(), of, PortId(port));
    lab.set_port(1, |port| port.mac = Some(mac(1)));
    let _ = lab.send(2, &hello(7, 9));
    for (mac, owner, other) in [(mac(1), 1, 2), (mac(7), 2, 1), (GATEWAY, 0, 1)] {
        assert!(is_anothers(&lab, mac, other) && !is_anothers(&lab, mac, owner), "{mac}");
    }
    assert!(!is_anothers(&lab, mac(8), 1), "nobody's");
    lab.advance(HOUR);
    assert!(!is_anothers(&lab, mac(7), 1), "forgotten");
}

#[test]
fn pins_are_refused_where_they_make_no_sense() {
    let lab = with_gateway(1);
    let pin = |mac, port| lab.switch.pin(Time::ZERO, mac, PortId(port));
    assert_eq!(pin(Mac::BROADCAST, 1), Err(PinError::NotAStation(NotAStation(Mac::BROADCAST))));
    assert_eq!(pin(Mac::ZERO, 1), Err(PinError::NotAStation(NotAStation(Mac::ZERO))));
    assert_eq!(pin(mac(1), 2), Err(PinError::NoSuchPort(PortId(2))));
    assert_eq!(pin(GATEWAY, 1), Err(PinError::Gateway(GATEWAY)));
    assert_eq!(lab.switch.forget(GATEWAY), Err(PinError::Gateway(GATEWAY)));
}

#[test]
fn a_closed_port_is_forgotten_with_all_that_lay_behind_it() {
    let mut lab = Lab::new(3);
    let _ = lab.send(2, &hello(2, 9));
    lab.switch.pin(lab.now(), mac(8), PortId(2)).unwrap();
    assert!(lab.switch.remove_port(PortId(2)) && !lab.switch.remove_port(PortId(2)));
    assert_eq!(lab.switch.fdb().list(lab.now()), []);
    assert_eq!(lab.send(2, &hello(2, 9)), Verdict::Drop(DropReason::PortClosed));
    assert_eq!(lab.send(1, &hello(1, 2)), Verdict::Flood([3].map(PortId).into_iter().collect()));
    assert_eq!(lab.switch.lowest_free_port(), Some(PortId(2)));
    lab.switch.add_port(PortId(2), PortSettings::default()).unwrap();
    assert_eq!(lab.counts(2), Default::default(), "a new port begins at zero");
}

#[test]
fn a_frame_on_its_way_to_a_port_that_closes_is_dropped() {
    let mut lab = Lab::new(2);
    lab.switch.remove_port(PortId(2));
    // What a worker leaves behind that learned with the snapshot from before.
    lab.switch.fdb().learn(lab.now(), mac(2), PortId(2)).unwrap();
    lab.refused(1, &hello(1, 2), DropReason::PortClosed);
    lab.switch.add_port(PortId(2), PortSettings::default()).unwrap();
    assert!(matches!(lab.send(1, &hello(1, 2)), Verdict::Flood(_)), "and the next owner of the number does not inherit it");
}

#[test]
fn ports_are_numbered_within_bounds() {
    let lab = Lab::new(0);
    let add = |port| lab.switch.add_port(PortId(port), PortSettings::default());
    assert_eq!(add(0), Err(PortError::Gateway));
    assert_eq!(add(1024), Err(PortError::OutOfRange(PortId(1024))));
    for port in 1..1024 {
        assert_eq!(lab.switch.lowest_free_port(), Some(PortId(port)));
        add(port).unwrap();
    }
    assert_eq!(lab.switch.lowest_free_port(), None);
    assert_eq!(add(5), Err(PortError::InUse(PortId(5))));
    assert!(!lab.switch.remove_port(PortId::GATEWAY));
}

// a ──1┐        ┌0── gateway
//     switch ───┤
// b ──2┘        └3── c      all of them isolated: a, b and c may not talk
#[test]
fn an_isolated_network_reaches_the_gateway_alone() {
    let mut lab = with_gateway(3);
    lab.set(|settings| settings.isolated = true);
    let broadcast = eth(mac(1), Mac::BROADCAST).filler(60);
    assert_eq!(lab.send(1, &broadcast), Verdict::Flood([0].map(PortId).into_iter().collect()));
    assert_eq!(lab.send(0, &eth(GATEWAY, mac(1)).filler(60)), Verdict::Forward(PortId(1)));
    assert_eq!(lab.send(1, &eth(mac(1), GATEWAY).filler(60)), Verdict::Forward(PortId(0)));
    assert_eq!(lab.send(0, &eth(GATEWAY, Mac::BROADCAST).filler(60)), Verdict::Flood([1, 2, 3].map(PortId).into_iter().collect()));
    lab.refused(2, &hello(2, 1), DropReason::Isolated);
    lab.refused(2, &hello(2, 9), DropReason::NobodyElse);
}

#[test]
fn an_isolated_port_talks_with_none_of_the_others() {
    let mut lab = with_gateway(3);
    lab.set_port(1, |port| port.isolated = true);
    let _ = lab.send(1, &eth(mac(1), GATEWAY).filler(60));
    let _ = lab.send(2, &eth(mac(2), GATEWAY).filler(60));
    lab.refused(1, &hello(1, 2), DropReason::Isolated);
    lab.refused(2, &hello(2, 1), DropReason::Isolated);
    assert_eq!(lab.send(2, &eth(mac(2), Mac::BROADCAST).filler(60)), Verdict::Flood([0, 3].map(PortId).into_iter().collect()));
    lab.set_port(1, |port| port.isolated = false);
    assert_eq!(lab.send(2, &hello(2, 1)), Verdict::Forward(PortId(1)));
}

#[test]
fn what_is_unknown_is_not_flooded_to_the_gateway() {
    let mut lab = with_gateway(2);
    assert_eq!(lab.send(1, &hello(1, 9)), Verdict::Flood([2].map(PortId).into_iter().collect()));
}

#[test]
fn the_gateways_seat_follows_the_settings() {
    let mut lab = with_gateway(2);
    let _ = lab.send(1, &eth(mac(1), Mac::BROADCAST).filler(60));
    assert_eq!(lab.send(1, &eth(mac(1), GATEWAY).filler(60)), Verdict::Forward(PortId(0)));
    lab.set(|settings| settings.gateway = None);
    assert!(lab.switch.counters(PortId(0)).is_none());
    assert_eq!(lab.send(1, &eth(mac(1), GATEWAY).filler(60)), Verdict::Flood([2].map(PortId).into_iter().collect()));
    assert_eq!(lab.counts(1).rx_frames, 3, "the other ports keep their counters");
}

#[test]
fn reserved_addresses_are_flooded_only_where_the_network_is_transparent() {
    let mut lab = with_gateway(2);
    let lldp = eth(mac(1), LLDP).filler(60);
    lab.refused(1, &lldp, DropReason::ReservedAddress);
    lab.set(|settings| settings.reserved_macs = ReservedMacs::Transparent);
    assert!(matches!(lab.send(1, &lldp), Verdict::Flood(_)));
    lab.set(|settings| settings.reserved_macs = ReservedMacs::Strict);
    let beyond = Mac([1, 0x80, 0xc2, 0, 0, 0x10]);
    assert!(matches!(lab.send(1, &eth(mac(1), beyond).filler(60)), Verdict::Flood(_)), "0f is the last one");
}

#[test]
fn group_and_zero_sources_are_never_learned() {
    let mut lab = Lab::new(2);
    lab.refused(1, &eth(Mac([3, 0, 0, 0, 0, 1]), mac(2)).filler(60), DropReason::GroupSource);
    lab.refused(1, &eth(Mac::BROADCAST, mac(2)).filler(60), DropReason::GroupSource);
    lab.refused(1, &eth(Mac::ZERO, mac(2)).filler(60), DropReason::ZeroSource);
    assert_eq!(lab.switch.fdb().learned(), 0);
}

#[test]
fn runts_and_giants_are_dropped() {
    let mut lab = Lab::new(2);
    for len in [0, 1, 13] {
        lab.refused(1, &Built::raw(vec![2; len]), DropReason::Runt);
    }
    lab.refused(1, &Built::raw([&[2; 12][..], &[0x81, 0, 0, 1, 8]].concat()), DropReason::Runt);
    lab.refused(1, &hello(1, 2).to_len(FRAME_MAX + 1), DropReason::TooLong);
    assert_eq!(lab.switch.fdb().learned(), 0, "nothing is learned from them");
}

#[test]
fn a_frame_must_fit_the_link_it_goes_out_of() {
    let mut lab = Lab::new(3);
    lab.set_port(3, |port| port.mtu = 9000);
    for port in [2, 3] {
        let _ = lab.send(port, &hello(port as u8, 9));
    }
    assert_eq!(lab.send(1, &hello(1, 2).to_len(1514)), Verdict::Forward(PortId(2)));
    assert_eq!(lab.send(1, &eth(mac(1), mac(2)).tag(5).filler(1518)), Verdict::Forward(PortId(2)), "a tag is not counted");
    lab.refused(1, &hello(1, 2).to_len(1515), DropReason::TooLong);
    assert_eq!(lab.send(1, &hello(1, 3).to_len(9014)), Verdict::Forward(PortId(3)));
    let jumbo = eth(mac(1), Mac::BROADCAST).filler(9014);
    assert_eq!(lab.send(1, &jumbo), Verdict::Flood([3].map(PortId).into_iter().collect()), "a flood leaves out the short link");
    lab.refused(3, &eth(mac(3), Mac::BROADCAST).filler(9014), DropReason::TooLong);
}

#[test]
fn a_superframe_fits_if_its_segments_do() {
    let mut lab = Lab::new(2);
    let _ = lab.send(2, &hello(2, 9));
    let (a, b) = ("10.0.0.2:4000".parse().unwrap(), "10.0.0.3:80".parse().unwrap());
    let sized = |size| eth(mac(1), mac(2)).tcp_gso(a, b, TcpFields::default(), &[0; 60_000], size);
    assert_eq!(lab.send(1, &sized(1460)), Verdict::Forward(PortId(2)));
    lab.refused(1, &sized(1461), DropReason::TooLong);
}

#[test]
fn a_flood_from_one_port_costs_the_others_nothing() {
    let mut lab = Lab::new(4);
    lab.set(|settings| settings.fdb_max = 100);
    for n in 2..=4 {
        let _ = lab.send(u16::from(n), &hello(n, 99));
    }
    for n in 0..100_000u32 {
        let [a, b, c, d] = n.to_be_bytes();
        let _ = lab.send(1, &eth(Mac([6, 0, a, b, c, d]), mac(99)).filler(60));
    }
    assert_eq!(lab.switch.fdb().learned(), 100);
    for n in 2..=4 {
        assert_eq!(lab.switch.fdb().lookup(lab.now(), mac(n)), Some(PortId(u16::from(n))));
    }
}

/// Every reason that the core can give, and how a frame comes by it.
const PRODUCED: &[(DropReason, fn())] = &[
    (DropReason::BackToIngress, || {
        let mut lab = Lab::new(2);
        let _ = lab.send(1, &hello(1, 2));
        lab.refused(1, &hello(3, 1), DropReason::BackToIngress);
    }),
    (DropReason::BadOffload, || {
        let lab = Lab::new(1);
        let mut header = [0; crate::vnet::VNET_HEADER];
        header[1] = 3;
        let frame = hello(1, 2).bytes;
        let why = crate::vnet::decode(&header, &frame).unwrap_err();
        lab.switch.refuse(PortId(1), frame.len(), why);
        assert_eq!(lab.counts(1).drops, [(DropReason::BadOffload, 1)]);
    }),
    (DropReason::PortClosed, a_frame_on_its_way_to_a_port_that_closes_is_dropped),
    (DropReason::TooLong, a_frame_must_fit_the_link_it_goes_out_of),
    (DropReason::Runt, runts_and_giants_are_dropped),
    (DropReason::GroupSource, group_and_zero_sources_are_never_learned),
    (DropReason::ZeroSource, group_and_zero_sources_are_never_learned),
    (DropReason::SpoofedSource, admission::nobody_takes_the_gateways_address),
    (DropReason::RogueAdvertisement, admission::nobody_but_the_gateway_is_a_router),
    (DropReason::RogueDhcp, admission::nobody_but_the_gateway_answers_as_a_dhcp_server),
    (DropReason::ReservedAddress, reserved_addresses_are_flooded_only_where_the_network_is_transparent),
    (DropReason::Isolated, an_isolated_port_talks_with_none_of_the_others),
    (DropReason::NobodyElse, an_isolated_network_reaches_the_gateway_alone),
];

/// Reasons that come about elsewhere, and where they are tested.
const ELSEWHERE: &[(DropReason, &str)] = &[
    (DropReason::EgressFull, "runtime: the ports"),
    (DropReason::EgressRefused, "runtime: the ports"),
    (DropReason::RingOverflow, "the tests of the built binary"),
    (DropReason::GatewayUnsupported, "switch::gateway"),
    (DropReason::GatewayMalformed, "switch::gateway"),
    (DropReason::GatewayFragment, "switch::gateway"),
    (DropReason::GatewayFragmentLimit, "switch::gateway"),
    (DropReason::GatewayFragmentTimeout, "switch::gateway"),
    (DropReason::GatewayChecksum, "switch::gateway"),
    (DropReason::GatewayLimit, "switch::gateway"),
    (DropReason::GatewayFlowLimit, "switch::gateway"),
    (DropReason::GatewayHalfOpenLimit, "switch::gateway"),
    (DropReason::GatewayMappingLimit, "switch::gateway"),
    (DropReason::GatewayDnsLimit, "switch::gateway"),
    (DropReason::GatewayForbidden, "switch::gateway"),
    (DropReason::GatewayTooBig, "switch::gateway"),
    (DropReason::GatewayOutside, "switch::gateway"),
];

#[test]
fn every_drop_reason_is_produced_by_a_test() {
    for reason in DropReason::ALL {
        let produced: Vec<_> = PRODUCED.iter().filter(|(which, _)| which == reason).collect();
        let elsewhere = ELSEWHERE.iter().filter(|(which, _)| which == reason).count();
        assert_eq!(produced.len() + elsewhere, 1, "{reason:?}");
        assert!(!reason.is_verdict() || elsewhere == 0, "{reason:?} is the switch's own");
        produced.iter().for_each(|(_, how)| how());
    }
}

#[test]
fn many_workers_keep_one_table() {
    let lab = Lab::new(8);
    let switch = &lab.switch;
    std::thread::scope(|scope| {
        for port in 1..=8u8 {
            scope.spawn(move || {
                for round in 0..2000u64 {
                    let now = Time::from_nanos(round);
                    let own = hello(port, port % 8 + 1);
                    let roaming = eth(Mac([2, 9, 0, 0, 0, (round % 50) as u8]), mac(port)).filler(60);
                    let _ = switch.handle(now, PortId(u16::from(port)), &own.frame());
                    let _ = switch.handle(now, PortId(u16::from(port)), &roaming.frame());
                    if round % 100 == 0 {
                        switch.age(now);
                    }
                }
            });
        }
    });
    let now = Time::from_nanos(2000);
    assert_eq!(switch.fdb().learned(), switch.fdb().list(now).len());
    assert_eq!(switch.fdb().learned(), 8 + 50);
    for port in 1..=8 {
        switch.remove_port(PortId(port));
    }
    assert_eq!((switch.fdb().learned(), switch.fdb().list(now).len()), (0, 0), "the books agree with the table");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_switch_does_what_its_model_does(script in prop::collection::vec(any::<[u8; Op::LEN]>(), 0..120)) {
        let bytes = script.concat();
        let mut rest = &bytes[..];
        let mut model = Model::new();
        while let Some(op) = Op::read(&mut rest) {
            model.step(&op);
        }
    }
}
