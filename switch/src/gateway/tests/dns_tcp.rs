//! Names over TCP.

use std::{net::IpAddr, time::Duration};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata},
};
use smoltcp::{iface::SocketHandle, socket::tcp::State};

use super::{
    super::{testkit::*, *},
    container::Lab,
};

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(GATEWAY), 53);

fn query(id: u16, name: &str) -> Message {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message
}

/// As it stands on a stream.
fn framed(message: &Message) -> Vec<u8> {
    let bytes = message.to_vec().unwrap();
    [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()
}

fn response(to: &Message, addresses: u8) -> Message {
    let mut message = to.clone().into_response();
    for last in 0..addresses {
        message.add_answer(Record::from_rdata(to.queries[0].name().clone(), 60, RData::A(rdata::A([192, 0, 2, last].into()))));
    }
    message
}

fn connected(config: GatewayConfig) -> (Lab, SocketHandle) {
    let mut lab = Lab::new(config, true);
    let handle = lab.connect(SERVER, 40_000);
    lab.settle();
    assert_eq!(lab.state(handle), State::Established);
    (lab, handle)
}

fn say(lab: &mut Lab, handle: SocketHandle, bytes: &[u8]) {
    assert_eq!(lab.socket(handle).send_slice(bytes), Ok(bytes.len()));
    // A few bytes are acknowledged within a millisecond, before which the container sends no more of them (RFC 9293, 3.7.4).
    lab.pass(Duration::from_millis(1));
}

/// The messages that have come.
fn heard(lab: &mut Lab, handle: SocketHandle) -> Vec<Message> {
    let mut bytes = Vec::new();
    while lab.socket(handle).can_recv() {
        lab.socket(handle).recv(|some| (some.len(), bytes.extend_from_slice(some))).unwrap();
    }
    lab.settle();
    let (mut rest, mut messages) = (&bytes[..], Vec::new());
    while let Some(([a, b], tail)) = rest.split_first_chunk() {
        let (message, tail) = tail.split_at(usize::from(u16::from_be_bytes([*a, *b])));
        messages.push(Message::from_vec(message).unwrap());
        rest = tail;
    }
    messages
}

/// The open UDP socket, and what was sent on it.
fn asked(lab: &Lab) -> (SocketId, SocketAddr, Message) {
    let (socket, udp) = lab.world.udp.iter().find(|(_, udp)| !udp.closed).unwrap();
    (*socket, udp.sent[0].0, Message::from_vec(&udp.sent[0].2).unwrap())
}

fn arrive(lab: &mut Lab, socket: SocketId, from: SocketAddr, message: &Message) {
    lab.world.udp.get_mut(&socket).unwrap().inbox.push_back((from, None, message.to_vec().unwrap()));
    lab.settle();
}

#[test]
fn names_are_answered_over_tcp_as_over_udp_however_the_questions_are_cut() {
    let (mut lab, handle) = connected(config());
    let both = [framed(&query(1, "web.")), framed(&query(2, "db.blue."))].concat();
    for byte in &both[..20] {
        say(&mut lab, handle, &[*byte]);
    }
    say(&mut lab, handle, &both[20..]);
    let answers = heard(&mut lab, handle);
    assert_eq!(answers.iter().map(|answer| answer.metadata.id).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(answers[0].answers[0].data.ip_addr(), Some(IpAddr::from([10, 0, 0, 7])));
    assert!(lab.world.udp.is_empty() && lab.world.tcp.is_empty(), "nothing of it goes out");
    lab.socket(handle).close();
    lab.settle();
    assert!(lab.gateway.flows(lab.now).is_empty(), "{:?}", lab.gateway.flows(lab.now));
    lab.pass(Duration::from_secs(70));
    assert_eq!(lab.gateway.next_timer(), None);
}

#[test]
fn an_answer_that_is_cut_over_udp_is_whole_over_tcp() {
    let (mut lab, handle) = connected(config());
    let many = (0..200).map(|at| IpAddr::from([10, 0, 0, at])).collect::<Vec<_>>();
    lab.gateway.set_view(View { names: crate::names::Names::new([("many", many)]).into(), ..view(config()) });
    say(&mut lab, handle, &framed(&query(1, "many.")));
    let answers = heard(&mut lab, handle);
    assert!(!answers[0].metadata.truncation && answers[0].answers.len() == 200);
}

#[test]
fn a_resolver_s_short_answer_is_asked_for_again_over_tcp() {
    let (mut lab, handle) = connected(config());
    say(&mut lab, handle, &framed(&query(7, "example.com.")));
    let (socket, resolver, question) = asked(&lab);
    let mut short = response(&question, 1);
    short.metadata.truncation = true;
    arrive(&mut lab, socket, resolver, &short);
    assert!(lab.world.udp[&socket].closed && heard(&mut lab, handle).is_empty());
    let host = lab.host();
    assert_eq!(host.to, Some(resolver));
    host.outcome = Some(Ok(()));
    host.room = 5;
    lab.settle();
    lab.host().room = 10_000;
    lab.settle();
    let sent = lab.host().outbox.clone();
    assert_eq!(Message::from_vec(&sent[2..]).unwrap(), question);
    let answer = framed(&response(&question, 250));
    for part in answer.chunks(1000) {
        lab.host().inbox.extend(part);
        lab.settle();
    }
    let answers = heard(&mut lab, handle);
    assert_eq!((answers[0].metadata.id, answers[0].answers.len()), (7, 250));
    assert!(lab.host().closed);
}

#[test]
fn a_resolver_that_refuses_tcp_makes_room_for_the_next() {
    let (mut lab, handle) = connected(config());
    say(&mut lab, handle, &framed(&query(7, "example.com.")));
    for failure in [Some(OutsideError::Refused), None] {
        let (socket, resolver, question) = asked(&lab);
        let mut short = response(&question, 1);
        short.metadata.truncation = true;
        arrive(&mut lab, socket, resolver, &short);
        if let Some(error) = failure {
            lab.host().outcome = Some(Err(error));
            lab.settle();
            lab.world.tcp.clear();
        }
    }
    lab.pass(Duration::from_secs(3));
    let answers = heard(&mut lab, handle);
    assert_eq!((answers[0].metadata.id, answers[0].metadata.response_code), (7, ResponseCode::ServFail), "the second said nothing");
}

#[test]
fn a_client_that_reads_nothing_is_no_longer_read_from_and_hung_up_on_while_others_are_served() {
    let (mut lab, slow) = connected(config());
    let many = (0..200).map(|at| IpAddr::from([10, 0, 0, at])).collect::<Vec<_>>();
    lab.gateway.set_view(View { names: crate::names::Names::new([("many", many)]).into(), ..view(config()) });
    let questions = framed(&query(1, "many.")).repeat(10_000);
    for _ in 0..50 {
        let socket = lab.socket(slow);
        let _ = socket.send_slice(&questions[..questions.len() / 24 * 24]);
        lab.settle();
    }
    assert!(!lab.socket(slow).can_send(), "its questions pile up on its own side");
    let other = lab.connect(SERVER, 40_001);
    lab.settle();
    say(&mut lab, other, &framed(&query(2, "many.")));
    assert_eq!(heard(&mut lab, other).len(), 1);
    lab.pass(Duration::from_secs(25));
    assert_ne!(lab.state(slow), State::Established);
    assert_ne!(lab.state(other), State::Established, "and so is one that asks nothing more");
    lab.pass(Duration::from_secs(300));
    assert!(lab.gateway.flows(lab.now).is_empty(), "{:?}", lab.gateway.flows(lab.now));
}

#[test]
fn clients_and_queries_over_tcp_are_bounded() {
    let limits = Limits { dns_streams: 1, dns_queries: 2, ..Limits::default() };
    let (mut lab, handle) = connected(GatewayConfig { limits, ..config() });
    let second = lab.connect(SERVER, 40_001);
    lab.settle();
    assert_eq!((lab.state(second), &lab.drops[..]), (State::Closed, &[DropReason::GatewayLimit][..]));
    let questions: Vec<u8> = (1..=3).flat_map(|id| framed(&query(id, "example.com."))).collect();
    say(&mut lab, handle, &questions);
    let answers = heard(&mut lab, handle);
    assert_eq!((answers.len(), answers[0].metadata.id, answers[0].metadata.response_code), (1, 3, ResponseCode::ServFail));
    assert_eq!(lab.world.drops, [DropReason::GatewayDnsLimit]);
    lab.gateway.close_all(lab.now, &mut lab.world);
    lab.settle();
    assert!(lab.gateway.next_timer().is_none() && lab.gateway.flows(lab.now).is_empty() && lab.state(handle) == State::Closed);
}

#[test]
fn what_is_asked_before_the_fin_is_still_answered() {
    let (mut lab, handle) = connected(config());
    say(&mut lab, handle, &framed(&query(7, "example.com.")));
    lab.socket(handle).close();
    lab.settle();
    assert_eq!(lab.state(handle), State::FinWait2);
    let (socket, resolver, question) = asked(&lab);
    arrive(&mut lab, socket, resolver, &response(&question, 1));
    assert_eq!(heard(&mut lab, handle).len(), 1);
    assert!(lab.gateway.flows(lab.now).is_empty());
}

#[test]
fn a_gateway_on_an_internal_network_answers_names_over_tcp_and_forwards_none() {
    let (mut lab, handle) = connected(GatewayConfig { internal: true, host_loopback: true, ..config() });
    say(&mut lab, handle, &[framed(&query(1, "web.")), framed(&query(2, "example.com."))].concat());
    let codes: Vec<_> = heard(&mut lab, handle).iter().map(|answer| answer.metadata.response_code).collect();
    assert_eq!(codes, [ResponseCode::NoError, ResponseCode::Refused]);
    assert!(lab.world.udp.is_empty() && lab.world.tcp.is_empty());
}
