//! UDP publications: host sockets that lead to a port of the container.
//!
//! The container sees each client under its own address, or, where that address means something else inside (loopback, link-local,
//! the container's own subnet, the other IP), under the gateway's with a port of its own. What the container answers to that endpoint
//! leaves by the publication's socket, from the host address that the client knows.

use std::{collections::HashMap, net::SocketAddr};

use super::{
    Core, Datagram, DatagramError, Direction, Flow, OWN_PORTS, Outside, OutsideError, Readiness, SocketId,
    arrivals::{Arrival, Arrivals},
    build::Link,
    clients::{Client, ClientKey, Clients},
    icmp, policy,
    sockets::Owner,
    udp::{BUDGET, ERRORS, Outgoing, is_own_too_long, not_sent, past_older},
};
use crate::{DropReason, Time};

#[derive(Debug)]
struct Publication {
    to: SocketAddr,
    /// The budget ran out before the socket was empty.
    more: bool,
    /// When clients that had been silent for too long were last looked for.
    swept: Time,
}

/// The UDP publications of one port, and their clients.
#[derive(Debug, Default)]
pub(super) struct Publications {
    sockets: HashMap<SocketId, Publication>,
    clients: Clients,
}

impl Publications {
    pub(super) fn add(&mut self, core: &mut Core, socket: SocketId, to: SocketAddr) {
        core.sockets.set_owner(socket, Owner::Published);
        self.sockets.insert(socket, Publication { to, more: false, swept: Time::ZERO });
    }

    pub(super) fn remove(&mut self, core: &mut Core, socket: SocketId) {
        core.sockets.remove(socket);
        self.sockets.remove(&socket);
        self.clients.retain(|client| client.socket != socket);
    }

    /// Reads what clients sent.
    fn receive(&mut self, core: &mut Core, now: Time, socket: SocketId, outside: &mut impl Outside) {
        let Some(publication) = self.sockets.get_mut(&socket) else { return };
        publication.more = false;
        let to = publication.to;
        let mut arrivals = Arrivals::default();
        let mut taken = 0;
        while taken < BUDGET {
            let heard = outside.udp_recv(socket, core.builder.udp_behind(arrivals.waiting()));
            taken += heard.map_or(1, |datagram| datagram.count());
            let datagram = match heard {
                Ok(datagram) => datagram,
                Err(OutsideError::WouldBlock | OutsideError::Failed) => return arrivals.end(core, outside),
                // Said once for each error that was reported; what has come stands behind it.
                Err(_) => {
                    arrivals.end(core, outside);
                    self.errors(core, now, socket, outside);
                    continue;
                }
            };
            let delivered = self.client(core, now, socket, to, datagram.from).and_then(|client| {
                let container = core.neighbours.mac(to.ip()).ok_or(DropReason::GatewayUnsupported)?;
                Ok((client, container))
            });
            match delivered {
                Ok((key, container)) => {
                    if let Some(client) = self.clients.get_mut(&key) {
                        client.active = now;
                        client.local = datagram.to;
                    }
                    let Datagram { traffic_class, len, each, .. } = datagram;
                    let arrival = Arrival { to: container, source: key.client, inside: to, traffic_class, len: each };
                    arrivals.take(core, arrival, len, outside);
                }
                Err(reason) => (0..datagram.count()).for_each(|_| outside.dropped(reason)),
            }
        }
        arrivals.end(core, outside);
        if let Some(publication) = self.sockets.get_mut(&socket) {
            publication.more = true;
            core.sockets.wake_by(socket, now);
        }
    }

    /// The client behind a peer of a publication, made on its first datagram.
    fn client(
        &mut self,
        core: &mut Core,
        now: Time,
        socket: SocketId,
        inside: SocketAddr,
        real: SocketAddr,
    ) -> Result<ClientKey, DropReason> {
        if let Some(key) = self.clients.key(socket, real) {
            return Ok(key);
        }
        let limits = &core.view.config.limits;
        if !self.clients.make_room(limits.udp_clients) {
            return Err(DropReason::GatewayLimit);
        }
        core.sockets.wake_by(socket, now + limits.udp_idle);
        let own = policy::client_keeps_address(&core.view, real.ip(), inside.ip())
            .map(|ip| ClientKey { inside, client: SocketAddr::new(ip, real.port()) })
            .filter(|key| real.port() != 0 && !self.clients.contains(key));
        let key = own.or_else(|| self.key_of_our_own(core, inside)).ok_or(DropReason::GatewayLimit)?;
        self.clients.insert(key, Client { socket, real, local: None, active: now, answered: false });
        Ok(key)
    }

    /// A key with the gateway's address and a port that is free towards `inside`.
    fn key_of_our_own(&self, core: &mut Core, inside: SocketAddr) -> Option<ClientKey> {
        let gateway = core.view.config.own_towards(inside.ip())?;
        OWN_PORTS
            .starting_anywhere(&mut core.random)
            .map(|port| ClientKey { inside, client: SocketAddr::new(gateway, port) })
            .find(|key| !self.clients.contains(key))
    }

    /// A publication's socket can be read, or has an error to tell.
    pub(super) fn ready(&mut self, core: &mut Core, now: Time, socket: SocketId, what: Readiness, outside: &mut impl Outside) {
        if what.error {
            self.errors(core, now, socket, outside);
        }
        if what.readable || what.error {
            self.receive(core, now, socket, outside);
        }
    }

    /// Passes on what routers and clients reported, and returns what the host itself says of the newest that was too long.
    fn errors(&self, core: &mut Core, now: Time, socket: SocketId, outside: &mut impl Outside) -> Option<OutsideError> {
        let mut too_long = None;
        for _ in 0..ERRORS {
            let Some(DatagramError { to, error, report, quote }) = outside.udp_error(socket) else { break };
            if is_own_too_long(error, report) {
                too_long = Some(error);
                continue;
            }
            let Some(key) = self.clients.key(socket, to) else { continue };
            let Some(error) = icmp::Relayed::of(&core.view, key.inside.ip(), error, report) else { continue };
            let Some(to) = core.neighbours.mac(key.inside.ip()) else { continue };
            let link = Link { from: core.view.config.mac, to };
            icmp::error_about_datagram(core, now, link, (key.inside, key.client, quote), error, outside);
        }
        too_long
    }

    /// Sends what the container says to a client of a publication. `None`: it is to nobody's client.
    pub(super) fn reply(
        &mut self,
        core: &mut Core,
        now: Time,
        outgoing: &Outgoing<'_>,
        outside: &mut impl Outside,
    ) -> Option<Result<(), DropReason>> {
        let client = self.clients.get_mut(&ClientKey { inside: outgoing.inside, client: outgoing.outside })?;
        (client.active, client.answered) = (now, true);
        let (socket, real, local) = (client.socket, client.real, client.local);
        let mut result = Ok(());
        for datagram in outgoing.datagrams() {
            let sent = past_older(
                outside,
                |outside| outside.udp_send(socket, real, outgoing.departure(local), datagram),
                |outside| self.errors(core, now, socket, outside),
            );
            if let Err(error) = sent {
                result = Err(not_sent(core, now, outgoing.packet, error, outside));
            }
        }
        Some(result)
    }

    /// The time of a publication's socket has come: more to read, or clients that were silent for too long.
    pub(super) fn timer(&mut self, core: &mut Core, now: Time, socket: SocketId, outside: &mut impl Outside) {
        if self.sockets.get(&socket).is_some_and(|publication| publication.more) {
            self.receive(core, now, socket, outside);
        }
        let Some(publication) = self.sockets.get_mut(&socket) else { return };
        let idle = core.view.config.limits.udp_idle;
        // All clients are looked at each time, so neither at the end of each one's time nor in every turn of a flood.
        let (due, next) = (publication.swept + idle / 16, now + idle / 16);
        if due > now {
            return core.sockets.wake_by(socket, due);
        }
        publication.swept = now;
        self.clients.retain(|client| client.socket != socket || client.active + idle > now);
        let own = self.clients.iter().map(|(_, client)| client).filter(|client| client.socket == socket);
        if let Some(active) = own.map(|client| client.active).min() {
            core.sockets.wake_by(socket, (active + idle).max(next));
        }
    }

    pub(super) fn flows(&self, now: Time) -> impl Iterator<Item = Flow> + '_ {
        self.clients.iter().map(move |(key, client)| Flow {
            protocol: "udp",
            inside: key.inside,
            outside: key.client,
            direction: Direction::In,
            state: "published",
            idle: now.since(client.active),
        })
    }

    /// Forgets every publication; the sockets are the runtime's.
    pub(super) fn close_all(&mut self, core: &mut Core) {
        for socket in self.sockets.keys() {
            core.sockets.remove(*socket);
        }
        *self = Self::default();
    }
}
