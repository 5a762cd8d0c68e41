//! What the gateway knows by itself: names of the networks, addresses of its subnet, and which questions are none.
//!
//! Only the header and the question are read before the decision; what else a query carries is the resolver's to judge.

use std::net::IpAddr;

use hickory_proto::{
    op::{Edns, Header, Message, MessageType, OpCode, Query as Question, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType, rdata},
    serialize::binary::{BinDecodable, BinDecoder},
};

use super::{
    super::{View, random::Random},
    Way,
};

/// Seconds an answer may be kept: containers come and go.
const TTL: u32 = 5;
/// The longest answer over UDP that no path cuts into fragments, as the DNS Flag Day 2020 has it.
const PAYLOAD_MAX: u16 = 1232;
/// What the host is called inside: as the gateway, which stands for it. Nobody outside knows these names.
const HOST: [&str; 2] = ["host.netloom.internal.", "host.docker.internal."];
/// A message's header (RFC 1035, 4.1.1).
const HEADER: usize = 12;

/// What becomes of a query.
#[derive(Debug)]
pub(super) enum Answer {
    Reply(Vec<u8>),
    Forward { id: u16, question: Question },
}

/// Reads a query. `None`: not even that.
pub(super) fn answer(view: &View, random: &mut Random, message: &[u8], way: Way) -> Option<Answer> {
    let fail = |code| Some(Answer::Reply(failure(message, code)));
    let (flags, _) = message.get(2..HEADER)?.split_first()?;
    if flags & 0x80 != 0 {
        // A response that nobody asked for.
        return None;
    }
    let mut decoder = BinDecoder::new(message);
    let Ok(header) = Header::read(&mut decoder) else { return fail(ResponseCode::FormErr) };
    if header.metadata.op_code != OpCode::Query {
        return fail(ResponseCode::NotImp);
    }
    let (1, Ok(question)) = (header.counts.queries, Question::read(&mut decoder)) else { return fail(ResponseCode::FormErr) };
    match local(view, random, &question) {
        Some(found) => Some(Answer::Reply(reply(message, &header, question, found, way))),
        None if view.config.internal => fail(ResponseCode::Refused),
        None => Some(Answer::Forward { id: header.metadata.id, question }),
    }
}

/// The records that answer a question about what we know: none at all for a known name without that type.
struct Found {
    records: Vec<RData>,
    code: ResponseCode,
}

fn local(view: &View, random: &mut Random, question: &Question) -> Option<Found> {
    if !matches!(question.query_class(), DNSClass::IN | DNSClass::ANY) {
        return None;
    }
    let kind = question.query_type();
    if kind == RecordType::PTR {
        return pointer(view, question.name());
    }
    let name = question.name().to_ascii();
    let host = HOST.iter().any(|known| name.eq_ignore_ascii_case(known)).then(|| gateway(view));
    let addresses = view.names.addresses(&name).or(host.as_deref())?;
    let mut records: Vec<RData> = addresses
        .iter()
        .filter(|address| match kind {
            RecordType::A => address.is_ipv4(),
            RecordType::AAAA => address.is_ipv6(),
            RecordType::ANY => true,
            _ => false,
        })
        .map(|address| match *address {
            IpAddr::V4(v4) => RData::A(rdata::A(v4)),
            IpAddr::V6(v6) => RData::AAAA(rdata::AAAA(v6)),
        })
        .collect();
    if !records.is_empty() {
        // Clients take the first: each of several gets its share.
        let turn = usize::from(random.next_u16()) % records.len();
        records.rotate_left(turn);
    }
    Some(Found { records, code: ResponseCode::NoError })
}

/// The gateway's addresses, both families.
fn gateway(view: &View) -> Vec<IpAddr> {
    let v6 = view.config.ipv6.map(|ipv6| IpAddr::V6(ipv6.ip));
    view.config.ip.map(IpAddr::V4).into_iter().chain(v6).collect()
}

/// Who has an address. The subnets are ours: nobody upstream knows their addresses (RFC 6303).
fn pointer(view: &View, name: &Name) -> Option<Found> {
    let network = name.parse_arpa_name().ok()?;
    let address = (network.prefix_len() == network.max_prefix_len()).then(|| network.addr())?;
    let host = HOST.first().filter(|_| gateway(view).contains(&address)).map(|name| name.trim_end_matches('.'));
    if let Some(target) = view.names.name(address).or(host) {
        let target = Name::from_ascii(format!("{target}.")).ok()?;
        return Some(Found { records: vec![RData::PTR(rdata::PTR(target))], code: ResponseCode::NoError });
    }
    let ours = match address {
        IpAddr::V4(v4) => view.config.subnet.contains(&v4),
        IpAddr::V6(v6) => view.config.ipv6.is_some_and(|ipv6| ipv6.subnet.contains(&v6)),
    };
    ours.then_some(Found { records: Vec::new(), code: ResponseCode::NXDomain })
}

fn reply(message: &[u8], header: &Header, question: Question, found: Found, way: Way) -> Vec<u8> {
    let mut reply = Message::response(header.metadata.id, OpCode::Query);
    reply.metadata.authoritative = true;
    reply.metadata.recursion_desired = header.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = found.code;
    for data in found.records {
        reply.add_answer(Record::from_rdata(question.name().clone(), TTL, data));
    }
    reply.add_query(question);
    let mut most = 512;
    if let Some(edns) = Message::from_vec(message).ok().and_then(|query| query.edns) {
        most = edns.max_payload().clamp(512, PAYLOAD_MAX);
        let mut own = Edns::new();
        own.set_max_payload(PAYLOAD_MAX);
        reply.set_edns(own);
    }
    if matches!(way, Way::Tcp(_)) {
        most = u16::MAX;
    }
    match reply.to_vec() {
        Ok(bytes) if bytes.len() <= usize::from(most) => bytes,
        Ok(_) => reply.truncate().to_vec().unwrap_or_else(|_| failure(message, ResponseCode::ServFail)),
        Err(_) => failure(message, ResponseCode::ServFail),
    }
}

/// The refusal of a query: its header and, where it can be read, its question, with a response code.
pub(super) fn failure(message: &[u8], code: ResponseCode) -> Vec<u8> {
    let [id0, id1] = message.first_chunk().copied().unwrap_or_default();
    let mut reply = Message::new(u16::from_be_bytes([id0, id1]), MessageType::Response, OpCode::Query);
    reply.metadata.response_code = code;
    let mut decoder = BinDecoder::new(message);
    if let Ok(header) = Header::read(&mut decoder) {
        reply.metadata.op_code = header.metadata.op_code;
        reply.metadata.recursion_desired = header.metadata.recursion_desired;
        if let (1, Ok(question)) = (header.counts.queries, Question::read(&mut decoder)) {
            reply.add_query(question);
        }
    }
    reply.to_vec().unwrap_or_default()
}
