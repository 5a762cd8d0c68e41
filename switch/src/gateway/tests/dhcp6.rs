//! DHCPv6: what is asked, and how it is answered.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use dhcproto::{
    Decodable, Decoder, Encodable, Encoder,
    v6::{DhcpOption, DhcpOptions, IAAddr, IANA, IAPD, IATA, Message, MessageType, OptionCode, Status, StatusCode},
};

use super::{
    super::{testkit::*, *},
    finished,
};
use crate::{Checksum, checksum};

const LINK_LOCAL: Ipv6Addr = CONTAINER_MAC.link_local();
const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const LEASED: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0xa, 0, 0, 0, 0x77);
const HOUR: Duration = Duration::from_secs(3600);
const DUID: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 9];

struct Lab {
    gateway: Gateway,
    world: World,
}

fn own() -> DhcpOption {
    DhcpOption::ServerId([&[0, 3, 0, 1][..], &GATEWAY_MAC.0].concat())
}

fn client() -> DhcpOption {
    DhcpOption::ClientId(DUID.to_vec())
}

fn associated(id: u32, addresses: &[Ipv6Addr]) -> DhcpOption {
    let address = |addr: &Ipv6Addr| DhcpOption::IAAddr(IAAddr { addr: *addr, preferred_life: 0, valid_life: 0, opts: DhcpOptions::new() });
    DhcpOption::IANA(IANA { id, t1: 0, t2: 0, opts: addresses.iter().map(address).collect() })
}

fn message(kind: MessageType, options: impl IntoIterator<Item = DhcpOption>) -> Vec<u8> {
    let mut message = Message::new_with_id(kind, [1, 2, 3]);
    message.set_opts(options.into_iter().collect());
    let mut bytes = Vec::new();
    message.encode(&mut Encoder::new(&mut bytes)).unwrap();
    bytes
}

fn datagram(from: Ipv6Addr, to: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let head = [546u16.to_be_bytes(), 547u16.to_be_bytes(), length.to_be_bytes()].concat();
    let pseudo = checksum::pseudo(from.into(), to.into(), 17, length);
    let sum = checksum::finished_nonzero(checksum::sum(payload, checksum::sum(&head, pseudo))).to_be_bytes();
    let mut frame = ipv6_from(from, to, 1, 17, &[&head[..], &sum, payload].concat());
    if to.is_multicast() {
        frame[..6].copy_from_slice(&Mac::of_ipv6_group(to).0);
    }
    frame
}

impl Lab {
    fn new() -> Self {
        Self { gateway: Gateway::new(view(config()), 9), world: World::default() }
    }

    fn say(&mut self, from: Ipv6Addr, to: Ipv6Addr, payload: &[u8]) -> Result<(), DropReason> {
        self.gateway.frame(Time::ZERO, &finished(&datagram(from, to, payload)), &mut self.world)
    }

    fn ask(&mut self, payload: &[u8]) -> LeaseAsk6 {
        self.say(LINK_LOCAL, ALL_SERVERS, payload).unwrap();
        self.world.asked6.pop().unwrap()
    }

    fn answer(&mut self, ask: &LeaseAsk6, status: Option<LeaseStatus6>, associations: Vec<Associated>) -> Message {
        let search = vec!["example.test".into(), "lab".into()];
        let answer = LeaseAnswer6 { exchange: ask.exchange.clone(), status, associations, search };
        self.gateway.lease_answered(&LeaseReply::V6(answer), &mut self.world);
        self.heard()
    }

    /// What the client gets, at its own address.
    fn heard(&mut self) -> Message {
        let (mut frame, offload) = self.world.emitted.pop_front().unwrap();
        if let Checksum::Partial { start, offset } = offload.checksum {
            assert!(checksum::finish(&mut frame, start, offset));
        }
        assert_eq!(frame[..6], CONTAINER_MAC.0);
        let packet = Packet::parse(GATEWAY_MAC, &finished(&frame)).unwrap();
        assert!(packet.transport_is_sound() && packet::ports(packet.payload) == Some((547, 546)));
        assert_eq!((packet.source, packet.destination), (IpAddr::V6(GATEWAY_MAC.link_local()), IpAddr::V6(LINK_LOCAL)));
        let message = Message::decode(&mut Decoder::new(packet::udp_payload(&packet).unwrap())).unwrap();
        assert_eq!((message.xid(), message.opts().get(OptionCode::ServerId)), ([1, 2, 3], Some(&own())));
        message
    }
}

fn given() -> Vec<Associated> {
    vec![Associated { id: 7, addresses: vec![(LEASED, HOUR)], status: None }]
}

fn address_of(message: &Message) -> IAAddr {
    let Some(DhcpOption::IANA(association)) = message.opts().get(OptionCode::IANA) else { panic!("{message:?}") };
    assert_eq!((association.id, association.t1, association.t2), (7, 1800, 2880));
    let Some(DhcpOption::IAAddr(address)) = association.opts.get(OptionCode::IAAddr) else { panic!("{association:?}") };
    address.clone()
}

#[test]
fn a_client_is_offered_and_then_given_an_address_with_all_that_belongs_to_it() {
    let mut lab = Lab::new();
    let solicit = lab.ask(&message(MessageType::Solicit, [client(), associated(7, &[LEASED])]));
    assert_eq!(solicit.wish, LeaseWish6::Solicit { rapid: false });
    assert_eq!(solicit.associations, [Association { id: 7, addresses: vec![LEASED] }]);
    assert_eq!((solicit.exchange.client(), solicit.exchange.duid()), (CONTAINER_MAC, DUID));
    let advertise = lab.answer(&solicit, None, given());
    assert_eq!((advertise.msg_type(), address_of(&advertise).addr), (MessageType::Advertise, LEASED));
    for option in [client(), DhcpOption::Preference(255), DhcpOption::DomainNameServers(vec![GATEWAY6])] {
        assert_eq!(advertise.opts().get(OptionCode::from(&option)), Some(&option), "one server, so no waiting for others");
    }
    let Some(DhcpOption::DomainSearchList(search)) = advertise.opts().get(OptionCode::DomainSearchList) else { panic!("{advertise:?}") };
    assert_eq!(search.iter().map(ToString::to_string).collect::<Vec<_>>(), ["example.test.", "lab."]);

    let request = lab.ask(&message(MessageType::Request, [client(), own(), associated(7, &[LEASED])]));
    assert_eq!(request.wish, LeaseWish6::Request);
    let reply = lab.answer(&request, None, given());
    let address = address_of(&reply);
    assert_eq!((reply.msg_type(), address.preferred_life, address.valid_life), (MessageType::Reply, 3600, 3600));
    assert_eq!(reply.opts().get(OptionCode::Preference), None);
}

#[test]
fn rapid_commit_is_answered_by_a_reply_unless_there_is_nothing_to_give() {
    let mut lab = Lab::new();
    let ask = lab.ask(&message(MessageType::Solicit, [client(), DhcpOption::RapidCommit, associated(7, &[])]));
    assert_eq!(ask.wish, LeaseWish6::Solicit { rapid: true });
    let reply = lab.answer(&ask, None, given());
    assert_eq!((reply.msg_type(), reply.opts().get(OptionCode::RapidCommit)), (MessageType::Reply, Some(&DhcpOption::RapidCommit)));
    let none = vec![Associated { id: 7, addresses: Vec::new(), status: Some(LeaseStatus6::NoAddresses) }];
    let advertise = lab.answer(&ask, None, none);
    assert_eq!(advertise.msg_type(), MessageType::Advertise);
    let Some(DhcpOption::IANA(association)) = advertise.opts().get(OptionCode::IANA) else { panic!("{advertise:?}") };
    assert!(matches!(association.opts.get(OptionCode::StatusCode), Some(DhcpOption::StatusCode(s)) if s.status == Status::NoAddrsAvail));
}

#[test]
fn every_kind_of_message_is_understood_and_answered() {
    let mut lab = Lab::new();
    for (kind, wish, options) in [
        (MessageType::Renew, LeaseWish6::Renew, vec![client(), own()]),
        (MessageType::Rebind, LeaseWish6::Rebind, vec![client()]),
        (MessageType::Confirm, LeaseWish6::Confirm, vec![client()]),
        (MessageType::Release, LeaseWish6::Release, vec![client(), own()]),
        (MessageType::Decline, LeaseWish6::Decline, vec![client(), own()]),
    ] {
        let ask = lab.ask(&message(kind, options.into_iter().chain([associated(7, &[LEASED])])));
        assert_eq!((ask.wish, ask.associations.len()), (wish, 1));
        let reply = lab.answer(&ask, Some(LeaseStatus6::Success), Vec::new());
        assert_eq!(reply.msg_type(), MessageType::Reply);
        assert!(matches!(reply.opts().get(OptionCode::StatusCode), Some(DhcpOption::StatusCode(s)) if s.status == Status::Success));
    }
    let ask = lab.ask(&message(MessageType::InformationRequest, []));
    assert_eq!((ask.wish, ask.exchange.duid()), (LeaseWish6::Information, &[][..]));
    let reply = lab.answer(&ask, None, Vec::new());
    assert_eq!(reply.opts().get(OptionCode::DomainNameServers), Some(&DhcpOption::DomainNameServers(vec![GATEWAY6])));
    assert_eq!(reply.opts().get(OptionCode::ClientId), None);
}

#[test]
fn what_nobody_gets_here_is_refused_in_its_own_place() {
    let mut lab = Lab::new();
    let (prefix, temporary) = (
        DhcpOption::IAPD(IAPD { id: 3, t1: 0, t2: 0, opts: DhcpOptions::new() }),
        DhcpOption::IATA(IATA { id: 4, opts: DhcpOptions::new() }),
    );
    let ask = lab.ask(&message(MessageType::Solicit, [client(), prefix, temporary]));
    let advertise = lab.answer(&ask, None, Vec::new());
    let Some(DhcpOption::IAPD(prefix)) = advertise.opts().get(OptionCode::IAPD) else { panic!("{advertise:?}") };
    assert!(
        prefix.id == 3
            && matches!(prefix.opts.get(OptionCode::StatusCode), Some(DhcpOption::StatusCode(s)) if s.status == Status::NoPrefixAvail)
    );
    let Some(DhcpOption::IATA(temporary)) = advertise.opts().get(OptionCode::IATA) else { panic!("{advertise:?}") };
    assert!(temporary.id == 4 && temporary.opts.get(OptionCode::StatusCode).is_some());
}

#[test]
fn who_asks_by_unicast_is_told_to_ask_everybody() {
    let mut lab = Lab::new();
    let renew = message(MessageType::Renew, [client(), own(), associated(7, &[LEASED])]);
    lab.say(LINK_LOCAL, GATEWAY_MAC.link_local(), &renew).unwrap();
    let reply = lab.heard();
    assert!(matches!(reply.opts().get(OptionCode::StatusCode), Some(DhcpOption::StatusCode(s)) if s.status == Status::UseMulticast));
    assert!(reply.opts().get(OptionCode::IANA).is_none() && reply.opts().get(OptionCode::DomainNameServers).is_none());
    let solicit = message(MessageType::Solicit, [client(), associated(7, &[])]);
    assert_eq!(lab.say(LINK_LOCAL, GATEWAY_MAC.link_local(), &solicit), Err(DropReason::GatewayUnsupported));
    assert!(lab.world.asked6.is_empty() && lab.world.emitted.is_empty());
}

#[test]
fn messages_for_others_or_without_sense_are_dropped_with_a_reason() {
    let mut lab = Lab::new();
    let other = DhcpOption::ServerId(vec![0, 3, 0, 1, 9, 9, 9, 9, 9, 9]);
    let many: Vec<_> = (0..9).map(|id| associated(id, &[])).chain([client()]).collect();
    let status = |at: &[u8]| [&[1, 1, 2, 3][..], at].concat();
    for (bad, reason) in [
        (message(MessageType::Request, [client(), other, associated(7, &[])]), DropReason::GatewayUnsupported),
        (message(MessageType::Solicit, [associated(7, &[])]), DropReason::GatewayMalformed),
        (message(MessageType::Solicit, [client(), own()]), DropReason::GatewayMalformed),
        (message(MessageType::Request, [client()]), DropReason::GatewayMalformed),
        (message(MessageType::InformationRequest, [associated(7, &[])]), DropReason::GatewayMalformed),
        (message(MessageType::Solicit, many), DropReason::GatewayMalformed),
        (message(MessageType::Solicit, [DhcpOption::ClientId(vec![1; 131])]), DropReason::GatewayMalformed),
        (message(MessageType::Reply, [client(), own()]), DropReason::GatewayUnsupported),
        (vec![12; 60], DropReason::GatewayUnsupported),
        (vec![1, 1, 2], DropReason::GatewayMalformed),
        // An option that ends early, and an association that is too short.
        (status(&[0, 1, 0, 200, 0]), DropReason::GatewayMalformed),
        (status(&[0, 3, 0, 4, 0, 0, 0, 1]), DropReason::GatewayMalformed),
    ] {
        assert_eq!(lab.say(LINK_LOCAL, ALL_SERVERS, &bad), Err(reason), "{bad:?}");
    }
    let stranger = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let solicit =
        message(MessageType::Solicit, [client(), DhcpOption::StatusCode(StatusCode { status: Status::Success, msg: String::new() })]);
    assert_eq!(lab.say(stranger, ALL_SERVERS, &solicit), Err(DropReason::SpoofedSource));
    assert!(lab.world.asked6.is_empty() && lab.world.emitted.is_empty());
}

#[test]
fn questions_are_rationed_and_a_network_without_ipv6_has_no_server() {
    let mut lab = Lab::new();
    let solicit = message(MessageType::Solicit, [client(), associated(7, &[])]);
    let passed = (0..100).filter(|_| lab.say(LINK_LOCAL, ALL_SERVERS, &solicit).is_ok()).count();
    assert_eq!(passed, Limits::default().dhcp_asks as usize);
    assert_eq!(lab.say(LINK_LOCAL, ALL_SERVERS, &solicit), Err(DropReason::GatewayLimit));
    lab.world.asked6.clear();
    lab.gateway.set_view(view(GatewayConfig { ipv6: None, ..config() }));
    assert_eq!(lab.say(LINK_LOCAL, ALL_SERVERS, &solicit), Ok(()));
    assert!(lab.world.asked6.is_empty());
}
