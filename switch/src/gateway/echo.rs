//! Echo of ICMP and ICMPv6 outward: a mapping for each identifier that the container pings with, whoever it pings (RFC 5508: endpoint-independent
//! mapping, REQ-1). One mapping is one host socket, whose identifier is the host's own; what answers it, or reports an error about
//! it, comes in under the container's.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use super::{
    Core, Direction, EchoError, EchoRequest, Flow, Outside, OutsideError, Readiness, SocketId,
    build::{HOP_LIMIT, Ip, Link},
    icmp,
    packet::Packet,
    policy,
    sockets::Owner,
    udp::{BUDGET, ERRORS, is_own_too_long, not_sent, past_older, unspecified},
};
use crate::{DropReason, Mac, Time};

/// Type, code, checksum, identifier and sequence number (RFC 792, and RFC 4443, 4.1).
pub(super) const HEADER: usize = 8;

/// The container's address and the identifier it pings with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct EchoKey {
    pub(super) inside: IpAddr,
    pub(super) id: u16,
}

#[derive(Debug)]
struct Mapping {
    socket: SocketId,
    container: Mac,
    active: Time,
    /// The budget ran out before the socket was empty.
    more: bool,
}

/// The mappings of one port.
#[derive(Debug, Default)]
pub(super) struct EchoTable(HashMap<EchoKey, Mapping>);

impl EchoTable {
    /// Takes an ICMP packet on its way to `to`, the host's name for its destination. Echo requests go out; nothing else does.
    pub(super) fn send(
        &mut self,
        core: &mut Core,
        now: Time,
        packet: &Packet<'_>,
        to: IpAddr,
        outside: &mut impl Outside,
    ) -> Result<(), DropReason> {
        if !icmp::is_sound(packet) {
            return Err(DropReason::GatewayChecksum);
        }
        let message = packet.payload.split_first_chunk::<HEADER>();
        let request = message.filter(|([kind, code, ..], _)| (*kind, *code) == (icmp::Types::of(packet.source).request, 0));
        let Some((&[_, _, _, _, id0, id1, sequence0, sequence1], payload)) = request else {
            icmp::error(core, now, packet, icmp::Error::Prohibited, outside);
            return Err(DropReason::GatewayUnsupported);
        };
        let Some(ttl) = packet.ttl.checked_sub(1).filter(|ttl| *ttl > 0) else {
            icmp::error(core, now, packet, icmp::Error::TimeExceeded, outside);
            return Ok(());
        };
        let key = EchoKey { inside: packet.source, id: u16::from_be_bytes([id0, id1]) };
        let socket = self.mapping(core, now, packet, (key, to), outside)?;
        let sequence = u16::from_be_bytes([sequence0, sequence1]);
        let request = EchoRequest { sequence, ttl, dont_fragment: packet.dont_fragment };
        let sent =
            past_older(outside, |outside| outside.echo_send(socket, to, request, payload), |outside| self.errors(core, now, key, outside));
        sent.map_err(|error| not_sent(core, now, packet, error, outside))
    }

    /// The socket of a mapping, which is made if there is none.
    fn mapping(
        &mut self,
        core: &mut Core,
        now: Time,
        packet: &Packet<'_>,
        (key, to): (EchoKey, IpAddr),
        outside: &mut impl Outside,
    ) -> Result<SocketId, DropReason> {
        let limits = &core.view.config.limits;
        let until = now + limits.echo_idle;
        let room = self.0.len() < limits.echo_mappings;
        if let Some(mapping) = self.0.get_mut(&key) {
            (mapping.container, mapping.active) = (packet.mac, now);
            core.sockets.wake_by(mapping.socket, until);
            return Ok(mapping.socket);
        }
        let socket = core.sockets.add(Owner::Echo(key));
        let opened = if room { outside.echo_open(socket, to) } else { Err(OutsideError::Exhausted) };
        if let Err(error) = opened {
            core.sockets.remove(socket);
            icmp::error(core, now, packet, icmp::Error::of(error).unwrap_or(icmp::Error::Prohibited), outside);
            return Err(match error {
                OutsideError::Exhausted => DropReason::GatewayLimit,
                OutsideError::Forbidden => DropReason::GatewayUnsupported,
                _ => DropReason::GatewayOutside,
            });
        }
        core.sockets.wake_by(socket, until);
        self.0.insert(key, Mapping { socket, container: packet.mac, active: now, more: false });
        Ok(socket)
    }

    /// A mapping's socket can be read, or has an error to tell.
    pub(super) fn ready(&mut self, core: &mut Core, now: Time, key: EchoKey, what: Readiness, outside: &mut impl Outside) {
        if what.error {
            self.errors(core, now, key, outside);
        }
        if what.readable || what.error {
            self.receive(core, now, key, outside);
        }
    }

    fn receive(&mut self, core: &mut Core, now: Time, key: EchoKey, outside: &mut impl Outside) {
        let Some(mapping) = self.0.get_mut(&key) else { return };
        mapping.more = false;
        let (socket, container) = (mapping.socket, mapping.container);
        for _ in 0..BUDGET {
            // Where the payload of a UDP datagram stands, that of an echo stands too: both headers have eight bytes.
            match outside.echo_recv(socket, core.builder.udp_payload()) {
                Ok(reply) => {
                    let Some(source) = policy::apparent(&core.view, reply.from, false) else {
                        outside.dropped(DropReason::GatewayForbidden);
                        continue;
                    };
                    // A router takes one; a reply that had only one left would have ended here.
                    let hop_limit = reply.ttl.map_or(HOP_LIMIT, |ttl| ttl.saturating_sub(1).max(1));
                    let types = icmp::Types::of(key.inside);
                    let ip = Ip { hop_limit, ..Ip::whole(source, key.inside, types.protocol) };
                    let (link, id) = (Link { from: core.view.config.mac, to: container }, core.random.next_u32());
                    let header = icmp::echo_header(types.reply, key.id, reply.sequence);
                    core.builder.send_echo(outside, link, ip, (header, reply.len), (id, core.view.config.mtu));
                }
                Err(OutsideError::WouldBlock | OutsideError::Failed) => return,
                // Said once for each error that was reported; what has come stands behind it.
                Err(_) => _ = self.errors(core, now, key, outside),
            }
        }
        // The socket is not known to be empty, and no notice will come.
        if let Some(mapping) = self.0.get_mut(&key) {
            mapping.more = true;
        }
        core.sockets.wake_by(socket, now);
    }

    /// Passes on what routers and peers reported, and returns what the host itself says of the newest that was too long.
    fn errors(&self, core: &mut Core, now: Time, key: EchoKey, outside: &mut impl Outside) -> Option<OutsideError> {
        let mapping = self.0.get(&key)?;
        let mut too_long = None;
        for _ in 0..ERRORS {
            let Some(EchoError { to, sequence, error, report }) = outside.echo_error(mapping.socket) else { break };
            if is_own_too_long(error, report) {
                too_long = Some(error);
                continue;
            }
            let Some(peer) = policy::apparent(&core.view, to, false) else { continue };
            let Some(what) = icmp::Relayed::of(&core.view, key.inside, error, report) else { continue };
            let link = Link { from: core.view.config.mac, to: mapping.container };
            icmp::error_about_echo(core, now, link, (key, peer, sequence), what, outside);
        }
        too_long
    }

    /// The time of a mapping's socket has come: more to read, or the end of its idle time.
    pub(super) fn timer(&mut self, core: &mut Core, now: Time, key: EchoKey, outside: &mut impl Outside) {
        if self.0.get(&key).is_some_and(|mapping| mapping.more) {
            self.receive(core, now, key, outside);
        }
        let Some(mapping) = self.0.get(&key) else { return };
        let (socket, until) = (mapping.socket, mapping.active + core.view.config.limits.echo_idle);
        if until > now {
            core.sockets.wake_by(socket, until);
        } else {
            self.0.remove(&key);
            core.sockets.remove(socket);
            outside.close(socket);
        }
    }

    /// The port of a flow's inside endpoint is the identifier.
    pub(super) fn flows(&self, now: Time) -> impl Iterator<Item = Flow> + '_ {
        self.0.iter().map(move |(key, mapping)| Flow {
            protocol: "icmp",
            inside: SocketAddr::new(key.inside, key.id),
            outside: SocketAddr::new(unspecified(key.inside), 0),
            direction: Direction::Out,
            state: "mapped",
            idle: now.since(mapping.active),
        })
    }

    pub(super) fn close_all(&mut self, core: &mut Core, outside: &mut impl Outside) {
        for (_, mapping) in self.0.drain() {
            core.sockets.remove(mapping.socket);
            outside.close(mapping.socket);
        }
    }
}
