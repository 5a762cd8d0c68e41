//! DNS on the gateway's port 53, over UDP and TCP.
//!
//! A name of the networks that the asker is on is answered here (`answer.rs`); everything else goes to the host's resolvers
//! (`forward.rs`), but for an internal network, which forwards nothing. Nothing is cached: the resolvers do that.

mod answer;
mod forward;
mod stream;
mod upstream;

use std::{collections::HashMap, net::SocketAddr};

use hickory_proto::op::ResponseCode;

use self::{
    answer::Answer,
    forward::{Query, Silence},
    stream::Streams,
};
use super::{
    Core, Flow, Outside, Readiness, SocketId, View,
    arrivals::Arrival,
    packet::{self, Packet},
    tcp::FlowKey,
    udp::Outgoing,
};
use crate::{DropReason, Mac, Time};

/// RFC 1035, 4.2.
pub(super) const PORT: u16 = 53;

/// Who asked, and under which number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asker {
    inside: SocketAddr,
    way: Way,
    id: u16,
}

/// How the answer gets back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As a datagram to this MAC, from the gateway's address that was asked.
    Udp(Mac, SocketAddr),
    Tcp(SocketId),
}

/// The queries of one port that wait for a resolver, and its clients over TCP.
#[derive(Debug, Default)]
pub(super) struct Dns {
    queries: HashMap<SocketId, Query>,
    silence: Silence,
    pub(super) streams: Streams,
}

/// The flow of a segment to the gateway's port 53.
pub(super) fn stream_key(view: &View, packet: &Packet<'_>) -> Option<FlowKey> {
    let (source, destination) = packet::ports(packet.payload)?;
    let ours = destination == PORT && view.config.is_own(packet.destination);
    let (inside, outside) = (SocketAddr::new(packet.source, source), SocketAddr::new(packet.destination, destination));
    ours.then_some(FlowKey { inside, outside })
}

impl Dns {
    /// Takes a query of the container.
    pub(super) fn query(
        &mut self,
        core: &mut Core,
        now: Time,
        outgoing: &Outgoing<'_>,
        outside: &mut impl Outside,
    ) -> Result<(), DropReason> {
        let asker = Asker { inside: outgoing.inside, way: Way::Udp(outgoing.packet.mac, outgoing.outside), id: 0 };
        self.ask(core, now, asker, outgoing.payload, outside)
    }

    /// Answers a message or sends it on. `Err`: there will be no answer that helps.
    fn ask(&mut self, core: &mut Core, now: Time, asker: Asker, message: &[u8], outside: &mut impl Outside) -> Result<(), DropReason> {
        match answer::answer(&core.view, &mut core.random, message, asker.way).ok_or(DropReason::GatewayMalformed)? {
            Answer::Reply(reply) => {
                self.reply_to(core, now, &asker, &reply, outside);
                Ok(())
            }
            Answer::Forward { id, question } => {
                let asker = Asker { id, ..asker };
                if matches!(asker.way, Way::Udp(..)) && self.queries.values().any(|query| query.is(&asker, &question)) {
                    // Asked again while a resolver is being asked.
                    return Ok(());
                }
                if self.queries.len() >= core.view.config.limits.dns_queries {
                    let failure = answer::failure(message, ResponseCode::ServFail);
                    self.reply_to(core, now, &asker, &failure, outside);
                    return Err(DropReason::GatewayDnsLimit);
                }
                let resolvers = self.silence.last(&core.view.resolvers, now);
                self.forward(core, now, Query::new(asker, question, message, resolvers), outside);
                Ok(())
            }
        }
    }

    /// Asks what the next client over TCP that can go on has asked, and tells which flow can go on by
    /// that, or, as an error, is to be reset.
    pub(super) fn next_stream(&mut self, core: &mut Core, now: Time, outside: &mut impl Outside) -> Option<(FlowKey, Readiness)> {
        loop {
            let socket = self.streams.next_touched()?;
            while let Some((key, message)) = self.streams.message(socket, now) {
                let asker = Asker { inside: key.inside, way: Way::Tcp(socket), id: 0 };
                match self.ask(core, now, asker, &message, outside) {
                    Ok(()) => (),
                    Err(reason) => {
                        if reason == DropReason::GatewayMalformed {
                            self.streams.answer(socket, now, &[]);
                        }
                        outside.dropped(reason);
                    }
                }
            }
            self.streams.arm(core);
            if let Some(ready) = self.streams.readiness(socket) {
                return Some(ready);
            }
        }
    }

    /// The time of the streams has come.
    pub(super) fn expire_streams(&mut self, core: &mut Core, now: Time) {
        self.streams.expire(core, now);
    }

    /// A resolver's answer, or a notice that there will be none.
    pub(super) fn ready(&mut self, core: &mut Core, now: Time, socket: SocketId, what: Readiness, outside: &mut impl Outside) {
        if self.queries.get(&socket).is_some_and(|query| query.upstream.is_some()) {
            self.upstream_ready(core, now, socket, outside);
        } else if what.readable || what.error {
            self.receive(core, now, socket, outside);
        }
    }

    pub(super) fn flows(&self, now: Time) -> impl Iterator<Item = Flow> + '_ {
        self.queries.values().map(move |query| query.report(now))
    }

    /// Forgets every query; nobody waits for an answer any more.
    pub(super) fn close_all(&mut self, core: &mut Core, outside: &mut impl Outside) {
        for (socket, _) in self.queries.drain() {
            core.sockets.remove(socket);
            outside.close(socket);
        }
        self.streams.close_all(core);
    }

    /// Gives an asker its answer.
    fn reply_to(&mut self, core: &mut Core, now: Time, asker: &Asker, message: &[u8], outside: &mut impl Outside) {
        let container = match asker.way {
            Way::Udp(container, server) => (container, server),
            Way::Tcp(stream) => return self.streams.answer(stream, now, message),
        };
        if let Some(room) = core.builder.udp_payload().get_mut(..message.len()) {
            room.copy_from_slice(message);
            deliver(core, container, asker.inside, message.len(), outside);
        }
    }
}

/// Sends the message that stands in the builder to a client over UDP.
fn deliver(core: &mut Core, (container, server): (Mac, SocketAddr), inside: SocketAddr, len: usize, outside: &mut impl Outside) {
    core.deliver_udp(Arrival { to: container, source: server, inside, traffic_class: 0, len }, len, outside);
}
