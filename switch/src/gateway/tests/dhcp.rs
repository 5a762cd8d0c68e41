//! DHCP: what is asked, and how it is answered.

use std::{net::Ipv4Addr, time::Duration};

use dhcproto::{
    Decodable, Decoder, Encodable, Encoder,
    v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode},
};

use super::{
    super::{testkit::*, *},
    finished,
};
use crate::Checksum;

const LEASED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 77);
const HOUR: Duration = Duration::from_secs(3600);

struct Lab {
    gateway: Gateway,
    world: World,
    now: Time,
}

fn message(kind: MessageType, options: impl IntoIterator<Item = DhcpOption>) -> Message {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(0x1234_5678, none, none, none, none, &CONTAINER_MAC.0);
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    options.into_iter().for_each(|option| drop(message.opts_mut().insert(option)));
    message
}

fn bytes(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut Encoder::new(&mut bytes)).unwrap();
    bytes
}

/// A datagram from 0.0.0.0 to everybody.
fn broadcast(payload: &[u8]) -> Vec<u8> {
    let mut frame = udp(68, SocketAddr::from((Ipv4Addr::BROADCAST, 67)), payload);
    frame[..6].fill(0xff);
    // None (RFC 768).
    frame[40..42].fill(0);
    from(Ipv4Addr::UNSPECIFIED, frame)
}

/// The same datagram from `source`.
fn from(source: Ipv4Addr, mut frame: Vec<u8>) -> Vec<u8> {
    frame[24..26].fill(0);
    frame[26..30].copy_from_slice(&source.octets());
    let sum = crate::checksum::finished(crate::checksum::sum(&frame[14..34], 0)).to_be_bytes();
    frame[24..26].copy_from_slice(&sum);
    frame
}

impl Lab {
    fn new() -> Self {
        Self { gateway: Gateway::new(view(config()), 9), world: World::default(), now: Time::from_nanos(1_000_000_000) }
    }

    fn say(&mut self, payload: &[u8]) -> Result<(), DropReason> {
        self.gateway.frame(self.now, &finished(&broadcast(payload)), &mut self.world)
    }

    fn ask(&mut self, message: &Message) -> LeaseAsk {
        self.say(&bytes(message)).unwrap();
        self.world.asked.pop().unwrap()
    }

    /// The answer as the client reads it, and where it went.
    fn answer(&mut self, ask: &LeaseAsk, given: Option<Given>) -> Option<(Message, Mac, Ipv4Addr)> {
        let answer = LeaseAnswer { exchange: ask.exchange, given };
        self.gateway.lease_answered(&LeaseReply::V4(answer), &mut self.world);
        let (mut frame, offload) = self.world.emitted.pop_front()?;
        if let Checksum::Partial { start, offset } = offload.checksum {
            assert!(crate::checksum::finish(&mut frame, start, offset));
        }
        let to = Mac(*frame.first_chunk().unwrap());
        let packet = Packet::parse(GATEWAY_MAC, &finished(&frame)).unwrap();
        assert!(packet.transport_is_sound() && packet.source == GATEWAY && packet::ports(packet.payload) == Some((67, 68)));
        let payload = packet::udp_payload(&packet).unwrap();
        assert!(payload.len() >= 300);
        let IpAddr::V4(destination) = packet.destination else { panic!("IPv4") };
        Some((Message::decode(&mut Decoder::new(payload)).unwrap(), to, destination))
    }
}

fn given() -> Given {
    Given { address: Some((LEASED, HOUR)), hostname: Some("box".into()), search: vec!["example.test".into(), "lab".into()] }
}

#[test]
fn a_client_is_offered_and_then_given_an_address_with_all_that_belongs_to_it() {
    let mut lab = Lab::new();
    let list = DhcpOption::ParameterRequestList(vec![OptionCode::SubnetMask, OptionCode::ClasslessStaticRoute]);
    let discover = lab.ask(&message(MessageType::Discover, [DhcpOption::ClientIdentifier(vec![1, 2, 3]), list.clone()]));
    assert_eq!((discover.wish, discover.client), (LeaseWish::Discover { wanted: None }, CONTAINER_MAC));
    assert_eq!(discover.client_id, Some(vec![1, 2, 3]));
    let (offer, mac, to) = lab.answer(&discover, Some(given())).unwrap();
    assert_eq!((offer.opcode(), offer.xid(), offer.yiaddr()), (Opcode::BootReply, 0x1234_5678, LEASED));
    assert_eq!((mac, to, offer.chaddr()), (CONTAINER_MAC, LEASED, &CONTAINER_MAC.0[..]));
    let options = [
        DhcpOption::MessageType(MessageType::Offer),
        DhcpOption::SubnetMask([255, 255, 255, 0].into()),
        DhcpOption::Router(vec![GATEWAY]),
        DhcpOption::DomainNameServer(vec![GATEWAY]),
        DhcpOption::Hostname("box".into()),
        DhcpOption::DomainName("example.test".into()),
        DhcpOption::InterfaceMtu(1500),
        DhcpOption::AddressLeaseTime(3600),
        DhcpOption::ServerIdentifier(GATEWAY),
        DhcpOption::ClasslessStaticRoute(vec![(ipnet::Ipv4Net::default(), GATEWAY)]),
    ];
    for option in options {
        assert_eq!(offer.opts().get(OptionCode::from(&option)), Some(&option));
    }
    assert!(matches!(offer.opts().get(OptionCode::DomainSearch), Some(DhcpOption::DomainSearch(names)) if names.len() == 2));

    let taken = [DhcpOption::ServerIdentifier(GATEWAY), DhcpOption::RequestedIpAddress(LEASED)];
    let request = lab.ask(&message(MessageType::Request, taken));
    assert_eq!(request.wish, LeaseWish::Request { wanted: LEASED });
    let (ack, ..) = lab.answer(&request, Some(given())).unwrap();
    assert_eq!(ack.opts().msg_type(), Some(MessageType::Ack));
    assert!(ack.opts().get(OptionCode::ClasslessStaticRoute).is_none(), "it was not asked for this time");
}

#[test]
fn a_renewal_by_unicast_is_answered_by_unicast_and_a_refusal_by_broadcast_to_the_client_alone() {
    let mut lab = Lab::new();
    let mut renew = message(MessageType::Request, []);
    renew.set_ciaddr(CONTAINER);
    let frame = udp(68, SocketAddr::from((GATEWAY, 67)), &bytes(&renew));
    lab.gateway.frame(lab.now, &finished(&frame), &mut lab.world).unwrap();
    let ask = lab.world.asked.pop().unwrap();
    assert_eq!(ask.wish, LeaseWish::Request { wanted: CONTAINER });
    let given = Given { address: Some((CONTAINER, HOUR)), ..Given::default() };
    let (ack, mac, to) = lab.answer(&ask, Some(given)).unwrap();
    assert_eq!((ack.ciaddr(), mac, to), (CONTAINER, CONTAINER_MAC, CONTAINER));
    let (nak, mac, to) = lab.answer(&ask, None).unwrap();
    assert_eq!((nak.opts().msg_type(), nak.yiaddr(), nak.flags().broadcast()), (Some(MessageType::Nak), Ipv4Addr::UNSPECIFIED, true));
    assert_eq!((mac, to, nak.opts().get(OptionCode::SubnetMask)), (CONTAINER_MAC, Ipv4Addr::BROADCAST, None));
}

#[test]
fn a_client_that_cannot_hear_its_address_yet_is_answered_by_broadcast_in_a_frame_of_its_own() {
    let mut lab = Lab::new();
    let mut discover = message(MessageType::Discover, [DhcpOption::RequestedIpAddress(LEASED)]);
    discover.set_flags(Flags::default().set_broadcast());
    let ask = lab.ask(&discover);
    assert_eq!(ask.wish, LeaseWish::Discover { wanted: Some(LEASED) });
    let (offer, mac, to) = lab.answer(&ask, Some(given())).unwrap();
    assert_eq!((offer.flags().broadcast(), mac, to), (true, CONTAINER_MAC, Ipv4Addr::BROADCAST));
}

#[test]
fn another_interface_asks_for_the_host_s_own_and_for_none_behind_another_port() {
    let interface = Mac([2, 0, 0, 0, 0, 99]);
    let mut lab = Lab::new();
    let mut renew = message(MessageType::Request, []);
    renew.set_ciaddr(CONTAINER).set_chaddr(&interface.0);
    let unicast = udp(68, SocketAddr::from((GATEWAY, 67)), &bytes(&renew));
    let broadcast = from(CONTAINER, broadcast(&bytes(&renew)));
    for frame in [&unicast, &broadcast] {
        lab.gateway.frame(lab.now, &finished(frame), &mut lab.world).unwrap();
        let ask = lab.world.asked.pop().unwrap();
        let (_, mac, _) = lab.answer(&ask, None).unwrap();
        assert_eq!(mac, interface, "which listens for the answer");
    }
    lab.world.anothers.push(interface);
    for frame in [&unicast, &broadcast] {
        assert_eq!(lab.gateway.frame(lab.now, &finished(frame), &mut lab.world), Err(DropReason::SpoofedSource));
    }
}

#[test]
fn an_address_that_no_host_of_the_link_has_speaks_for_no_other_interface() {
    let mut lab = Lab::new();
    for address in [GATEWAY, [192, 0, 2, 1].into(), [10, 0, 0, 255].into(), Ipv4Addr::UNSPECIFIED] {
        let mut renew = message(MessageType::Request, [DhcpOption::RequestedIpAddress(LEASED)]);
        renew.set_ciaddr(address);
        let own = from(address, broadcast(&bytes(&renew)));
        assert_eq!(lab.gateway.frame(lab.now, &finished(&own), &mut lab.world), Ok(()), "who was elsewhere is told so: {address}");
        renew.set_chaddr(&[2, 0, 0, 0, 0, 99]);
        let other = from(address, broadcast(&bytes(&renew)));
        assert_eq!(lab.gateway.frame(lab.now, &finished(&other), &mut lab.world), Err(DropReason::SpoofedSource), "{address}");
    }
}

#[test]
fn what_is_for_another_server_or_gives_back_is_passed_on_and_not_answered() {
    let mut lab = Lab::new();
    let (other, own) = (DhcpOption::ServerIdentifier([10, 0, 0, 9].into()), DhcpOption::ServerIdentifier(GATEWAY));
    let wanted = DhcpOption::RequestedIpAddress(LEASED);
    let mut release = message(MessageType::Release, [own.clone()]);
    release.set_ciaddr(LEASED);
    for (message, wish) in [
        (message(MessageType::Request, [other.clone(), wanted.clone()]), LeaseWish::Refuse),
        (message(MessageType::Decline, [own, wanted]), LeaseWish::Decline { address: LEASED }),
        (release, LeaseWish::Release { address: LEASED }),
    ] {
        let ask = lab.ask(&message);
        assert_eq!(ask.wish, wish);
        assert!(lab.answer(&ask, Some(given())).is_none());
    }
    assert_eq!(lab.say(&bytes(&message(MessageType::Release, [other]))), Err(DropReason::GatewayUnsupported));
    let mut inform = message(MessageType::Inform, []);
    inform.set_ciaddr(CONTAINER);
    let ask = lab.ask(&inform);
    let (ack, ..) = lab.answer(&ask, Some(Given::default())).unwrap();
    assert_eq!((ack.yiaddr(), ack.opts().get(OptionCode::AddressLeaseTime)), (Ipv4Addr::UNSPECIFIED, None));
}

#[test]
fn messages_in_another_s_name_from_relays_or_without_sense_are_dropped_with_a_reason() {
    let mut lab = Lab::new();
    let good = bytes(&message(MessageType::Discover, []));
    let change = |at: usize, value: u8| {
        let mut bad = good.clone();
        bad[at] = value;
        bad
    };
    for (bad, reason) in [
        (change(33, 9), DropReason::SpoofedSource),
        (change(24, 10), DropReason::GatewayUnsupported),
        (change(0, 2), DropReason::GatewayMalformed),
        (change(2, 255), DropReason::GatewayMalformed),
        (change(28, 1), DropReason::GatewayMalformed),
        (good[..200].to_vec(), DropReason::GatewayMalformed),
        (bytes(&message(MessageType::Request, [])), DropReason::GatewayMalformed),
        (bytes(&message(MessageType::Offer, [])), DropReason::GatewayUnsupported),
    ] {
        assert_eq!(lab.say(&bad), Err(reason));
    }
    assert!(lab.world.asked.is_empty() && lab.world.emitted.is_empty());
}

#[test]
fn an_option_of_any_length_ends_no_worker() {
    let fixed = &bytes(&message(MessageType::Discover, []))[..240];
    for code in 0..=255 {
        for length in 0..=9 {
            let option = [&[53, 1, 1, code, length][..], &vec![7; usize::from(length)], &[255]].concat();
            let mut lab = Lab::new();
            let _ = lab.say(&[fixed, &option].concat());
            let _ = lab.say(&[fixed, &option[..option.len() - 1]].concat());
        }
    }
}

#[test]
fn options_in_the_fields_for_names_are_read_too() {
    let mut lab = Lab::new();
    let mut discover = bytes(&message(MessageType::Discover, []))[..240].to_vec();
    discover[108..115].copy_from_slice(&[50, 4, 10, 0, 0, 77, 255]);
    discover[44..48].copy_from_slice(&[53, 1, 1, 255]);
    lab.say(&[&discover[..], &[52, 1, 3, 255]].concat()).unwrap();
    assert_eq!(lab.world.asked.pop().unwrap().wish, LeaseWish::Discover { wanted: Some(LEASED) });
}

#[test]
fn questions_are_rationed_and_other_broadcasts_are_none_of_ours() {
    let mut lab = Lab::new();
    let discover = bytes(&message(MessageType::Discover, []));
    let passed = (0..100).filter(|_| lab.say(&discover).is_ok()).count();
    assert_eq!(passed, Limits::default().dhcp_asks as usize);
    assert_eq!(lab.say(&discover), Err(DropReason::GatewayLimit));
    let mut other = broadcast(&discover);
    other[37] = 68;
    assert_eq!(lab.gateway.frame(lab.now, &finished(&other), &mut lab.world), Ok(()));
    let off = GatewayConfig { ip: None, ..config() };
    lab.gateway.set_view(view(off));
    assert_eq!(lab.say(&discover), Ok(()), "a network without a gateway has no server");
}
