//! DNS on the gateway's port 53, over UDP.
//!
//! A name of the networks that the asker is on is answered here (`answer.rs`); everything else goes to the host's resolvers
//! (`forward.rs`), but for an internal network, which forwards nothing. Nothing is cached: the resolvers do that.

mod answer;
mod forward;

use std::{collections::HashMap, net::SocketAddr};

use hickory_proto::op::ResponseCode;

use self::{answer::Answer, forward::Query};
use super::{Core, Flow, Outside, Readiness, SocketId, udp::Outgoing};
use crate::{DropReason, Mac, Time};

/// RFC 1035, 4.2.
pub(super) const PORT: u16 = 53;

/// Who asked, and under which number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asker {
    inside: SocketAddr,
    /// The gateway's address that was asked.
    server: SocketAddr,
    container: Mac,
    id: u16,
}

/// The queries of one port that wait for a resolver.
#[derive(Debug, Default)]
pub(super) struct Dns(HashMap<SocketId, Query>);

impl Dns {
    /// Takes a query of the container.
    pub(super) fn query(
        &mut self,
        core: &mut Core,
        now: Time,
        outgoing: &Outgoing<'_>,
        outside: &mut impl Outside,
    ) -> Result<(), DropReason> {
        let (inside, server, container, message) = (outgoing.inside, outgoing.outside, outgoing.packet.mac, outgoing.payload);
        match answer::answer(&core.view, &mut core.random, message).ok_or(DropReason::GatewayMalformed)? {
            Answer::Reply(reply) => {
                reply_to(core, &Asker { inside, server, container, id: 0 }, &reply, outside);
                Ok(())
            }
            Answer::Forward { id, question } => {
                let asker = Asker { inside, server, container, id };
                if self.0.values().any(|query| query.is(&asker, &question)) {
                    // Asked again while a resolver is being asked.
                    return Ok(());
                }
                if self.0.len() >= core.view.config.limits.dns_queries {
                    let failure = answer::failure(message, ResponseCode::ServFail);
                    reply_to(core, &asker, &failure, outside);
                    return Err(DropReason::GatewayLimit);
                }
                self.forward(core, now, Query::new(asker, question, message, core.view.resolvers.clone()), outside);
                Ok(())
            }
        }
    }

    /// A resolver's answer, or a notice that there will be none.
    pub(super) fn ready(&mut self, core: &mut Core, now: Time, socket: SocketId, what: Readiness, outside: &mut impl Outside) {
        if what.readable || what.error {
            self.receive(core, now, socket, outside);
        }
    }

    pub(super) fn flows(&self, now: Time) -> impl Iterator<Item = Flow> + '_ {
        self.0.values().map(move |query| query.report(now))
    }

    /// Forgets every query; nobody waits for an answer any more.
    pub(super) fn close_all(&mut self, core: &mut Core, outside: &mut impl Outside) {
        for (socket, _) in self.0.drain() {
            core.sockets.remove(socket);
            outside.close(socket);
        }
    }
}

/// Sends a message from the gateway's port 53.
fn reply_to(core: &mut Core, asker: &Asker, message: &[u8], outside: &mut impl Outside) {
    if let Some(room) = core.builder.udp_payload().get_mut(..message.len()) {
        room.copy_from_slice(message);
        core.deliver_udp(asker.container, asker.server, asker.inside, message.len(), outside);
    }
}
