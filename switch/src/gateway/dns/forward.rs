//! Queries for the host's resolvers, one after the other.
//!
//! Each attempt has a socket of its own, and so a source port that the host's kernel chose, and a fresh random id: an answer is taken
//! only from the resolver that was asked, with that id and the same question (RFC 5452). A resolver that fails or says nothing in
//! time makes room for the next; after the last comes SERVFAIL. One that said nothing is asked last for a while.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hickory_proto::{
    op::{Header, MessageType, Query as Question, ResponseCode},
    serialize::binary::{BinDecodable, BinDecoder},
};

use super::{
    super::{Core, Datagram, Departure, Direction, Flow, Outside, OutsideError, Readiness, SocketId, sockets::Owner},
    Asker, Dns, PORT, Way, answer, deliver,
    upstream::Upstream,
};
use crate::{DropReason, Time};

/// Datagrams read from a socket in one turn: one is the answer, the rest can only be forged.
const BUDGET: usize = 16;

/// How long a resolver that said nothing is asked after the others.
const SILENCE: Duration = Duration::from_secs(30);

/// The resolvers that said nothing when they were asked, and until when that counts.
#[derive(Debug, Default)]
pub(super) struct Silence(Vec<(SocketAddr, Time)>);

impl Silence {
    fn begin(&mut self, resolver: SocketAddr, now: Time) {
        self.end(resolver);
        self.0.push((resolver, now + SILENCE));
    }

    fn end(&mut self, resolver: SocketAddr) {
        self.0.retain(|(silent, _)| *silent != resolver);
    }

    /// The resolvers in the order in which they are asked: the silent ones last.
    pub(super) fn last(&mut self, resolvers: &Arc<[SocketAddr]>, now: Time) -> Arc<[SocketAddr]> {
        self.0.retain(|(_, until)| now < *until);
        if self.0.is_empty() {
            return Arc::clone(resolvers);
        }
        let mut order = resolvers.to_vec();
        order.sort_by_key(|resolver| self.0.iter().any(|(silent, _)| silent == resolver));
        order.into()
    }
}

/// A query on its way.
#[derive(Debug)]
pub(super) struct Query {
    asker: Asker,
    question: Question,
    /// As the container sent it, but for the id.
    pub(super) message: Vec<u8>,
    resolvers: Arc<[SocketAddr]>,
    /// The resolvers asked so far; the last of them is being waited for.
    asked: usize,
    id: u16,
    since: Time,
    pub(super) until: Time,
    /// The resolver is being asked over TCP.
    pub(super) upstream: Option<Upstream>,
}

/// What a datagram on a query's socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Of this length, to be passed on.
    Answer(usize),
    /// As an answer, but cut short, for an asker who takes a long one.
    Truncated(usize),
    /// The resolver will not do it.
    Failed,
    Nothing,
}

impl Query {
    pub(super) fn new(asker: Asker, question: Question, message: &[u8], resolvers: Arc<[SocketAddr]>) -> Self {
        let message = message.to_vec();
        Self { asker, question, message, resolvers, asked: 0, id: 0, since: Time::ZERO, until: Time::ZERO, upstream: None }
    }

    pub(super) fn is(&self, asker: &Asker, question: &Question) -> bool {
        self.asker == *asker && self.question == *question
    }

    pub(super) fn report(&self, now: Time) -> Flow {
        let outside = self.resolver().unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], PORT)));
        let inside = self.asker.inside;
        Flow { protocol: "dns", inside, outside, direction: Direction::Out, state: "forwarded", idle: now.since(self.since) }
    }

    /// The resolver that is being asked.
    pub(super) fn resolver(&self) -> Option<SocketAddr> {
        self.resolvers.get(self.asked.checked_sub(1)?).copied()
    }

    /// Judges a message that came from `from`.
    pub(super) fn hear(&self, from: SocketAddr, message: &[u8]) -> Heard {
        let expected = self.resolver().map(|resolver| (resolver.ip().to_canonical(), resolver.port()));
        if expected != Some((from.ip().to_canonical(), from.port())) {
            return Heard::Nothing;
        }
        let mut decoder = BinDecoder::new(message);
        let Ok(header) = Header::read(&mut decoder) else { return Heard::Nothing };
        let ours = header.metadata.id == self.id
            && header.metadata.message_type == MessageType::Response
            && header.counts.queries == 1
            && Question::read(&mut decoder).is_ok_and(|question| question == self.question);
        let unable = matches!(header.metadata.response_code, ResponseCode::ServFail | ResponseCode::NotImp | ResponseCode::Refused);
        match ours {
            true if unable && self.asked < self.resolvers.len() => Heard::Failed,
            true if header.metadata.truncation && matches!(self.asker.way, Way::Tcp(_)) => Heard::Truncated(message.len()),
            true => Heard::Answer(message.len()),
            false => Heard::Nothing,
        }
    }
}

impl Dns {
    /// Asks the first resolver.
    pub(super) fn forward(&mut self, core: &mut Core, now: Time, mut query: Query, outside: &mut impl Outside) {
        query.since = now;
        let socket = core.sockets.add(Owner::Dns);
        self.queries.insert(socket, query);
        self.ask_next(core, now, socket, outside);
    }

    /// Asks the next resolver that can be asked, or gives up.
    pub(super) fn ask_next(&mut self, core: &mut Core, now: Time, socket: SocketId, outside: &mut impl Outside) {
        let Some(query) = self.queries.get_mut(&socket) else { return };
        query.upstream = None;
        if query.asked > 0 {
            outside.close(socket);
        }
        while let Some(resolver) = query.resolvers.get(query.asked).copied() {
            query.asked += 1;
            query.id = core.random.next_u16();
            if let Some(id) = query.message.first_chunk_mut() {
                *id = query.id.to_be_bytes();
            }
            if outside.udp_open(socket, resolver.ip()).is_err() {
                continue;
            }
            if outside.udp_send(socket, resolver, Departure::default(), &query.message).is_ok() {
                query.until = now + core.view.config.limits.dns_timeout;
                core.sockets.wake_by(socket, query.until);
                return;
            }
            outside.close(socket);
        }
        core.sockets.remove(socket);
        if let Some(Query { asker, mut message, .. }) = self.queries.remove(&socket) {
            if let Some(id) = message.first_chunk_mut() {
                *id = asker.id.to_be_bytes();
            }
            self.reply_to(core, now, &asker, &answer::failure(&message, ResponseCode::ServFail), outside);
        }
    }

    pub(super) fn receive(&mut self, core: &mut Core, now: Time, socket: SocketId, outside: &mut impl Outside) {
        for _ in 0..BUDGET {
            let Some(query) = self.queries.get(&socket) else { return };
            let room = core.builder.udp_payload();
            let heard = match outside.udp_recv(socket, room) {
                Ok(Datagram { len, each, from, .. }) => {
                    let messages = room.get(..len).unwrap_or_default().chunks(each.max(1));
                    let mut heard = messages.map(|message| query.hear(from, message)).enumerate();
                    let (place, heard) = heard.find(|(_, heard)| *heard != Heard::Nothing).unwrap_or((0, Heard::Nothing));
                    core.builder.move_udp(place * each, each);
                    heard
                }
                Err(OutsideError::WouldBlock) => return,
                Err(_) => Heard::Failed,
            };
            match heard {
                Heard::Answer(len) => return self.pass_on(core, now, socket, len, outside),
                Heard::Truncated(_) => return self.ask_over_tcp(core, now, socket, outside),
                Heard::Failed => return self.ask_next(core, now, socket, outside),
                Heard::Nothing => outside.dropped(DropReason::GatewayForbidden),
            }
        }
        // A flood of forgeries; the answer may stand behind it.
        core.sockets.wake_by(socket, now);
    }

    /// Gives the container the answer that stands in the builder.
    pub(super) fn pass_on(&mut self, core: &mut Core, now: Time, socket: SocketId, len: usize, outside: &mut impl Outside) {
        core.sockets.remove(socket);
        outside.close(socket);
        let Some(query) = self.queries.remove(&socket) else { return };
        query.resolver().into_iter().for_each(|resolver| self.silence.end(resolver));
        if let Some(id) = core.builder.udp_payload().first_chunk_mut() {
            *id = query.asker.id.to_be_bytes();
        }
        match query.asker.way {
            Way::Udp(container, server) => deliver(core, (container, server), query.asker.inside, len, outside),
            Way::Tcp(stream) => self.streams.answer(stream, now, core.builder.udp_payload().get(..len).unwrap_or_default()),
        }
    }

    /// The time of a query's socket has come: its resolver's is over, or there is more to read.
    pub(in super::super) fn timer(&mut self, core: &mut Core, now: Time, socket: SocketId, outside: &mut impl Outside) {
        let Some(query) = self.queries.get(&socket) else { return };
        let until = query.until;
        if now < until {
            core.sockets.wake_by(socket, until);
            self.ready(core, now, socket, Readiness { readable: true, ..Readiness::default() }, outside);
        } else {
            // One that is asked over TCP has said something.
            query.resolver().filter(|_| query.upstream.is_none()).into_iter().for_each(|resolver| self.silence.begin(resolver, now));
            self.ask_next(core, now, socket, outside);
        }
    }
}
