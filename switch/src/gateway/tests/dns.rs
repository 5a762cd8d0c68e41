//! Names.

use std::{
    net::{IpAddr, SocketAddrV4},
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata},
};

use super::{
    super::{testkit::*, *},
    finished,
};
use crate::Checksum;

struct Lab {
    gateway: Gateway,
    world: World,
    now: Time,
}

const CLIENT: u16 = 45_678;

fn query(id: u16, name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

impl Lab {
    fn new(config: GatewayConfig) -> Self {
        Self { gateway: Gateway::new(view(config), 5), world: World::default(), now: Time::from_nanos(1_000_000_000) }
    }

    fn ask(&mut self, message: &[u8]) -> Result<(), DropReason> {
        let frame = udp(CLIENT, SocketAddrV4::new(GATEWAY, 53), message);
        self.gateway.frame(self.now, &finished(&frame), &mut self.world)
    }

    fn answer_to(&mut self, query: &Message) -> Message {
        self.ask(&query.to_vec().unwrap()).unwrap();
        self.answer().unwrap()
    }

    /// The next answer that the container gets.
    fn answer(&mut self) -> Option<Message> {
        let (mut bytes, offload) = self.world.emitted.pop_front()?;
        if let Checksum::Partial { start, offset } = offload.checksum {
            assert!(crate::checksum::finish(&mut bytes, start, offset));
        }
        let packet = Packet::parse(GATEWAY_MAC, &finished(&bytes)).unwrap();
        assert!(packet.transport_is_sound());
        assert_eq!((packet.source, packet::ports(packet.payload)), (GATEWAY.into(), Some((53, CLIENT))));
        Some(Message::from_vec(packet::udp_payload(&packet).unwrap()).unwrap())
    }

    /// The open host socket, and what was sent on it last.
    fn asked(&self) -> (SocketId, SocketAddr, Message) {
        let mut open = self.world.udp.iter().filter(|(_, udp)| !udp.closed);
        let (socket, udp) = open.next().unwrap();
        assert!(open.next().is_none());
        let (to, _, message) = udp.sent.last().unwrap();
        (*socket, *to, Message::from_vec(message).unwrap())
    }

    fn arrive(&mut self, socket: SocketId, from: SocketAddr, message: &Message) {
        let bytes = message.to_vec().unwrap();
        self.arrive_together(socket, from, &[bytes]);
    }

    /// These have come by one read.
    fn arrive_together(&mut self, socket: SocketId, from: SocketAddr, messages: &[Vec<u8>]) {
        let udp = self.world.udp.get_mut(&socket).unwrap();
        udp.each = messages.first().map(Vec::len);
        udp.inbox.push_back((from, None, messages.concat()));
        for (socket, what) in self.world.notices() {
            self.gateway.ready(self.now, socket, what, &mut self.world);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.gateway.timer(self.now, &mut self.world);
    }
}

fn response(to: &Message, address: [u8; 4]) -> Message {
    let mut message = to.clone().into_response();
    let name = to.queries[0].name().clone();
    message.add_answer(Record::from_rdata(name, 60, RData::A(rdata::A(address.into()))));
    message
}

fn addresses(message: &Message) -> Vec<IpAddr> {
    message.answers.iter().filter_map(|record| record.data.ip_addr()).collect()
}

#[test]
fn names_of_the_network_are_answered_here_in_any_case() {
    let mut lab = Lab::new(config());
    for (name, address) in [("web.", [10, 0, 0, 7]), ("WeB.", [10, 0, 0, 7]), ("db.blue.", [10, 0, 1, 9])] {
        let reply = lab.answer_to(&query(7, name, RecordType::A));
        assert_eq!((reply.metadata.id, reply.metadata.response_code), (7, ResponseCode::NoError));
        assert!(reply.metadata.authoritative && reply.metadata.recursion_desired);
        assert_eq!(addresses(&reply), [IpAddr::from(address)]);
        assert!(reply.answers[0].ttl <= 60 && reply.edns.is_none());
    }
    let reply = lab.answer_to(&query(8, "web.", RecordType::AAAA));
    assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::NoError, 0), "the name exists, without AAAA");
    let mut with_edns = query(9, "web.", RecordType::A);
    with_edns.set_edns(Edns::new());
    assert!(lab.answer_to(&with_edns).edns.is_some());
    assert!(lab.world.udp.is_empty(), "nothing of it goes out");
}

#[test]
fn the_host_is_called_by_its_two_names_and_the_gateway_s_address_by_the_first() {
    let mut lab = Lab::new(config());
    for name in ["host.netloom.internal.", "HOST.docker.internal."] {
        assert_eq!(addresses(&lab.answer_to(&query(7, name, RecordType::A))), [IpAddr::from(GATEWAY)]);
        assert_eq!(addresses(&lab.answer_to(&query(7, name, RecordType::AAAA))), [IpAddr::from(GATEWAY6)]);
    }
    let reply = lab.answer_to(&query(1, "1.0.0.10.in-addr.arpa.", RecordType::PTR));
    assert!(matches!(&reply.answers[0].data, RData::PTR(rdata::PTR(name)) if name.to_ascii() == "host.netloom.internal."));
    assert!(lab.world.udp.is_empty());
}

#[test]
fn addresses_of_the_network_have_names_and_the_rest_of_the_subnet_has_none() {
    let mut lab = Lab::new(config());
    let reply = lab.answer_to(&query(1, "7.0.0.10.in-addr.arpa.", RecordType::PTR));
    assert!(matches!(&reply.answers[0].data, RData::PTR(rdata::PTR(name)) if name.to_ascii() == "web."));
    let reply = lab.answer_to(&query(2, "99.0.0.10.in-addr.arpa.", RecordType::PTR));
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    assert!(lab.world.udp.is_empty());
    lab.ask(&query(3, "1.2.0.192.in-addr.arpa.", RecordType::PTR).to_vec().unwrap()).unwrap();
    assert_eq!(lab.asked().1, SocketAddr::from(([192, 0, 2, 53], 53)));
}

#[test]
fn other_names_go_to_the_first_resolver_under_another_id() {
    let mut lab = Lab::new(config());
    let mut question = query(77, "example.com.", RecordType::A);
    question.set_edns(Edns::new());
    lab.ask(&question.to_vec().unwrap()).unwrap();
    let (socket, resolver, asked) = lab.asked();
    assert_eq!((resolver, &asked.queries, &asked.edns), (SocketAddr::from(([192, 0, 2, 53], 53)), &question.queries, &question.edns));
    lab.ask(&question.to_vec().unwrap()).unwrap();
    assert_eq!(lab.world.udp.len(), 1, "asked again, it is still one query");
    let mut reply = response(&asked, [93, 184, 216, 34]);
    reply.metadata.truncation = true;
    lab.arrive(socket, resolver, &reply);
    let answer = lab.answer().unwrap();
    assert_eq!((answer.metadata.id, answer.metadata.truncation), (77, true));
    assert_eq!(addresses(&answer), [IpAddr::from([93, 184, 216, 34])]);
    assert!(lab.world.udp[&socket].closed && lab.gateway.flows(lab.now).is_empty() && lab.gateway.next_timer().is_none());
}

#[test]
fn ids_are_not_to_be_guessed_from_one_another() {
    let mut lab = Lab::new(config());
    let mut ids = std::collections::HashSet::new();
    for at in 0..100 {
        lab.ask(&query(at, "example.com.", RecordType::A).to_vec().unwrap()).unwrap();
    }
    ids.extend(lab.world.udp.values().map(|udp| udp.sent[0].2[..2].to_vec()));
    assert!(ids.len() > 95 && lab.world.udp.len() == 100, "each query has an id and a socket of its own");
}

#[test]
fn forged_answers_are_not_taken() {
    let mut lab = Lab::new(config());
    lab.ask(&query(77, "example.com.", RecordType::A).to_vec().unwrap()).unwrap();
    let (socket, resolver, asked) = lab.asked();
    let honest = response(&asked, [1, 1, 1, 1]);
    let mut wrong_id = honest.clone();
    wrong_id.metadata.id = wrong_id.metadata.id.wrapping_add(1);
    let mut wrong_question = honest.clone();
    wrong_question.queries = query(0, "example.org.", RecordType::A).queries;
    let mut no_response = honest.clone();
    no_response.metadata.message_type = MessageType::Query;
    let stranger = SocketAddr::from(([192, 0, 2, 54], 53));
    let wrong_port = SocketAddr::from(([192, 0, 2, 53], 54));
    for (from, message) in
        [(stranger, &honest), (wrong_port, &honest), (resolver, &wrong_id), (resolver, &wrong_question), (resolver, &no_response)]
    {
        lab.arrive(socket, from, message);
    }
    assert!(lab.answer().is_none());
    assert_eq!(lab.world.drops, [DropReason::GatewayForbidden; 5]);
    lab.arrive(socket, resolver, &honest);
    assert_eq!(addresses(&lab.answer().unwrap()), [IpAddr::from([1, 1, 1, 1])]);
}

#[test]
fn an_answer_is_found_behind_a_forgery_that_came_together_with_it() {
    let mut lab = Lab::new(config());
    lab.ask(&query(77, "example.com.", RecordType::A).to_vec().unwrap()).unwrap();
    let (socket, resolver, asked) = lab.asked();
    let honest = response(&asked, [1, 1, 1, 1]);
    let mut forged = response(&asked, [6, 6, 6, 6]);
    forged.metadata.id = forged.metadata.id.wrapping_add(1);
    let messages = [forged, honest].map(|message| message.to_vec().unwrap());
    lab.arrive_together(socket, resolver, &messages);
    assert_eq!(addresses(&lab.answer().unwrap()), [IpAddr::from([1, 1, 1, 1])]);
}

#[test]
fn a_silent_resolver_makes_room_for_the_next_and_the_last_for_servfail() {
    let mut lab = Lab::new(config());
    lab.ask(&query(77, "example.com.", RecordType::A).to_vec().unwrap()).unwrap();
    let (first, _, asked) = lab.asked();
    lab.pass(Duration::from_millis(1999));
    assert!(!lab.world.udp[&first].closed && lab.world.udp[&first].sent.len() == 1);
    lab.pass(Duration::from_millis(1));
    let (second, resolver, again) = lab.asked();
    assert_eq!(resolver, SocketAddr::from(([198, 51, 100, 53], 53)));
    assert_ne!(asked.metadata.id, again.metadata.id);
    lab.arrive(second, SocketAddr::from(([192, 0, 2, 53], 53)), &response(&asked, [6, 6, 6, 6]));
    assert!(lab.answer().is_none(), "the first had its time");
    lab.pass(Duration::from_secs(2));
    let answer = lab.answer().unwrap();
    assert_eq!((answer.metadata.id, answer.metadata.response_code), (77, ResponseCode::ServFail));
    assert_eq!(answer.queries, query(77, "example.com.", RecordType::A).queries);
    assert!(lab.gateway.next_timer().is_none() && lab.gateway.flows(lab.now).is_empty());
}

#[test]
fn a_silent_resolver_is_asked_last_for_a_while() {
    let (first, second) = (SocketAddr::from(([192, 0, 2, 53], 53)), SocketAddr::from(([198, 51, 100, 53], 53)));
    let mut lab = Lab::new(config());
    lab.ask(&query(1, "a.example.", RecordType::A).to_vec().unwrap()).unwrap();
    lab.pass(Duration::from_secs(2));
    for id in 1..3 {
        let (socket, resolver, asked) = lab.asked();
        assert_eq!(resolver, second, "query {id}");
        lab.arrive(socket, resolver, &response(&asked, [1, 1, 1, 1]));
        assert!(lab.answer().is_some());
        lab.ask(&query(id + 1, "a.example.", RecordType::A).to_vec().unwrap()).unwrap();
    }
    // Where nobody else answers it is asked all the same.
    lab.pass(Duration::from_secs(2));
    assert_eq!(lab.asked().1, first);
    lab.pass(Duration::from_secs(2));
    lab.answer().unwrap();
    lab.pass(Duration::from_secs(30));
    lab.ask(&query(9, "a.example.", RecordType::A).to_vec().unwrap()).unwrap();
    assert_eq!(lab.asked().1, first);
}

#[test]
fn a_resolver_that_cannot_is_passed_over_at_once() {
    let mut lab = Lab::new(config());
    lab.ask(&query(77, "example.com.", RecordType::A).to_vec().unwrap()).unwrap();
    let (socket, resolver, asked) = lab.asked();
    let mut unable = asked.clone().into_response();
    unable.metadata.response_code = ResponseCode::ServFail;
    lab.arrive(socket, resolver, &unable);
    let (socket, resolver, asked) = lab.asked();
    assert_eq!(resolver, SocketAddr::from(([198, 51, 100, 53], 53)));
    let mut unable = asked.clone().into_response();
    unable.metadata.response_code = ResponseCode::Refused;
    lab.arrive(socket, resolver, &unable);
    assert_eq!(lab.answer().unwrap().metadata.response_code, ResponseCode::Refused, "the last one's word is passed on");
}

#[test]
fn an_internal_network_forwards_nothing_and_none_to_ask_is_servfail() {
    let mut lab = Lab::new(GatewayConfig { internal: true, ..config() });
    assert_eq!(addresses(&lab.answer_to(&query(1, "web.", RecordType::A))).len(), 1);
    assert_eq!(lab.answer_to(&query(2, "example.com.", RecordType::A)).metadata.response_code, ResponseCode::Refused);
    let mut lab = Lab::new(config());
    lab.gateway.set_view(View { resolvers: [].into(), ..view(config()) });
    assert_eq!(lab.answer_to(&query(3, "example.com.", RecordType::A)).metadata.response_code, ResponseCode::ServFail);
    assert!(lab.world.udp.is_empty());
}

#[test]
fn queries_in_flight_are_bounded() {
    let mut lab = Lab::new(GatewayConfig { limits: Limits { dns_queries: 1, ..Limits::default() }, ..config() });
    lab.ask(&query(1, "a.example.", RecordType::A).to_vec().unwrap()).unwrap();
    assert_eq!(lab.ask(&query(2, "b.example.", RecordType::A).to_vec().unwrap()), Err(DropReason::GatewayDnsLimit));
    assert_eq!(lab.answer().unwrap().metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn hostile_queries_get_an_error_or_nothing() {
    let mut lab = Lab::new(config());
    let header = [0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let hostile: [&[u8]; 6] =
        [&[0xc0, 0x0c, 0, 1, 0, 1], &[3, b'w', b'e', b'b', 0xc0, 0x0c, 0, 1, 0, 1], &[63, b'x'], &[0xff; 20], &[0], &[]];
    for question in hostile {
        lab.ask(&[&header[..], question].concat()).unwrap();
        assert_eq!(lab.answer().unwrap().metadata.response_code, ResponseCode::FormErr, "{question:02x?}");
    }
    let mut two = query(1, "web.", RecordType::A);
    two.add_query(two.queries[0].clone());
    assert_eq!(lab.answer_to(&two).metadata.response_code, ResponseCode::FormErr);
    let mut notify = query(1, "web.", RecordType::A);
    notify.metadata.op_code = OpCode::Notify;
    assert_eq!(lab.answer_to(&notify).metadata.response_code, ResponseCode::NotImp);
    for junk in [&b""[..], b"short", &query(1, "web.", RecordType::A).into_response().to_vec().unwrap()] {
        assert_eq!(lab.ask(junk), Err(DropReason::GatewayMalformed));
        assert!(lab.answer().is_none());
    }
}

#[test]
fn a_resolver_that_says_nothing_keeps_nobody_else_waiting() {
    let mut lab = Lab::new(config());
    lab.ask(&query(1, "slow.example.", RecordType::A).to_vec().unwrap()).unwrap();
    let (slow, ..) = lab.asked();
    assert_eq!(addresses(&lab.answer_to(&query(2, "web.", RecordType::A))).len(), 1);
    lab.ask(&query(3, "fast.example.", RecordType::A).to_vec().unwrap()).unwrap();
    let (fast, to, message) = lab
        .world
        .udp
        .iter()
        .find(|(socket, _)| **socket != slow)
        .map(|(socket, udp)| {
            let (to, _, message) = udp.sent.last().unwrap();
            (*socket, *to, Message::from_vec(message).unwrap())
        })
        .unwrap();
    lab.arrive(fast, to, &response(&message, [192, 0, 2, 80]));
    assert_eq!(lab.answer().unwrap().metadata.id, 3);
    assert!(!lab.world.udp[&slow].closed, "the other is still being waited for");
}

#[test]
fn names_of_spaces_newlines_and_dots_are_no_names_of_ours_and_go_on_byte_for_byte() {
    let mut lab = Lab::new(config());
    for label in [&b"web "[..], b"web\nnameserver 192.0.2.9", b"db.blue", b"web\0", b"\xff\xfe"] {
        let header = [0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let message = [&header[..], &[label.len() as u8], label, &[0, 0, 1, 0, 1]].concat();
        lab.ask(&message).unwrap();
        assert!(lab.answer().is_none(), "{label:?} is nobody's here");
        let (socket, _) = lab.world.udp.iter().find(|(_, udp)| !udp.closed).unwrap();
        assert_eq!(lab.world.udp[socket].sent.last().unwrap().2[2..], message[2..]);
        lab = Lab::new(config());
    }
    // 255 bytes are the most (RFC 1035, 3.1).
    let long = [&[0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[&[63][..], &[b'x'; 63]].concat().repeat(4), &[0, 0, 1, 0, 1]].concat();
    lab.ask(&long).unwrap();
    assert_eq!(lab.answer().unwrap().metadata.response_code, ResponseCode::FormErr);
}

#[test]
fn an_answer_that_does_not_fit_is_truncated() {
    let mut lab = Lab::new(config());
    let many = (0..100).map(|at| IpAddr::from([10, 0, 0, at])).collect::<Vec<_>>();
    lab.gateway.set_view(View { names: crate::names::Names::new([("many", many)]).into(), ..view(config()) });
    let reply = lab.answer_to(&query(1, "many.", RecordType::A));
    assert!(reply.metadata.truncation && reply.answers.is_empty());
}
