//! UDP outward: a mapping for each endpoint of the container, whoever it talks to (RFC 4787: endpoint-independent mapping, REQ-1,
//! and filtering, REQ-8). One mapping is one host socket; what any peer sends there comes in from that peer's address.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use super::{
    Core, Datagram, DatagramError, Departure, Direction, Flow, Limits, Outside, OutsideError, Readiness, Report, SocketId, View,
    arrivals::{Arrival, Arrivals},
    build::{HOP_LIMIT, Link},
    dns, icmp,
    packet::{self, Packet},
    policy,
    sockets::Owner,
};
use crate::{DropReason, GsoKind, Mac, Time};

/// Datagrams that one socket may bring in before the others get their turn.
pub(super) const BUDGET: usize = 128;
/// ICMP errors that one socket may report in a turn.
pub(super) const ERRORS: usize = 16;

/// A datagram of the container, or several of one size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) packet: &'a Packet<'a>,
    pub(super) inside: SocketAddr,
    /// Who it is for, as the container sees it.
    pub(super) outside: SocketAddr,
    pub(super) payload: &'a [u8],
}

impl<'a> Outgoing<'a> {
    pub(super) fn parse(packet: &'a Packet<'a>) -> Result<Self, DropReason> {
        let malformed = DropReason::GatewayMalformed;
        if !packet.transport_is_sound() {
            return Err(DropReason::GatewayChecksum);
        }
        let (source, destination) = packet::ports(packet.payload).ok_or(malformed)?;
        // A source port of zero says that no answer is wanted (RFC 768), but it is no endpoint to map.
        if source == 0 || destination == 0 {
            return Err(malformed);
        }
        Ok(Self {
            packet,
            inside: SocketAddr::new(packet.source, source),
            outside: SocketAddr::new(packet.destination, destination),
            payload: packet::udp_payload(packet).ok_or(malformed)?,
        })
    }

    /// What it leaves the host with. A router's hop is taken off a time to live that someone chose (traceroute); one that hosts
    /// choose by themselves becomes this host's.
    pub(super) fn departure(&self, from: Option<IpAddr>) -> Departure {
        let ttl = (self.packet.ttl < HOP_LIMIT).then(|| self.packet.ttl.saturating_sub(1).max(1));
        Departure { from, ttl, traffic_class: self.packet.traffic_class, dont_fragment: self.packet.dont_fragment }
    }

    /// The datagrams of a superframe, or the only one. An empty datagram is one too.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> {
        let size = match self.packet.gso {
            Some(gso) if gso.kind == GsoKind::Udp => usize::from(gso.size.get()),
            _ => self.payload.len().max(1),
        };
        let empty = self.payload.is_empty().then_some(self.payload);
        empty.into_iter().chain(self.payload.chunks(size))
    }
}

#[derive(Debug)]
struct Mapping {
    socket: SocketId,
    container: Mac,
    active: Time,
    /// Only name servers were asked: short-lived, one mapping for each query of a resolver.
    only_dns: bool,
    /// The budget ran out before the socket was empty.
    more: bool,
    by_gateway: ByGateway,
}

/// The host's ports that a container has asked by the gateway's address: what comes from there comes from the gateway, as it expects.
/// It knows the newest of them; others appear under the host's address.
#[derive(Debug, Default)]
struct ByGateway(VecDeque<u16>);

impl ByGateway {
    const MOST: usize = 64;

    /// A datagram goes to this port of the host, by the gateway's address or by the host's.
    fn learn(&mut self, port: u16, by_gateway: bool) {
        match self.0.iter().position(|known| *known == port) {
            Some(at) if !by_gateway => drop(self.0.remove(at)),
            None if by_gateway => {
                self.0.truncate(Self::MOST - 1);
                self.0.push_front(port);
            }
            _ => (),
        }
    }

    fn has(&self, port: u16) -> bool {
        self.0.contains(&port)
    }
}

impl Mapping {
    /// The address under which the container knows whoever the host calls `peer`.
    fn apparent(&self, view: &View, peer: SocketAddr) -> Option<IpAddr> {
        policy::apparent(view, peer.ip(), self.by_gateway.has(peer.port()))
    }

    fn idle(&self, limits: &Limits) -> Duration {
        if self.only_dns { limits.udp_dns_idle } else { limits.udp_idle }
    }
}

/// The mappings of one port, by the container's endpoint.
#[derive(Debug, Default)]
pub(super) struct UdpTable(HashMap<SocketAddr, Mapping>);

impl UdpTable {
    /// Sends datagrams of the container to `to`, the host's name for their destination.
    pub(super) fn send(
        &mut self,
        core: &mut Core,
        now: Time,
        outgoing: &Outgoing<'_>,
        to: SocketAddr,
        outside: &mut impl Outside,
    ) -> Result<(), DropReason> {
        if outgoing.packet.expires(&core.view.config) {
            icmp::error(core, now, outgoing.packet, icmp::Error::TimeExceeded, outside);
            return Ok(());
        }
        let mapping = match self.0.get_mut(&outgoing.inside) {
            Some(mapping) => mapping,
            None => self.open(core, now, outgoing, to, outside)?,
        };
        mapping.container = outgoing.packet.mac;
        mapping.active = now;
        mapping.only_dns &= outgoing.outside.port() == dns::PORT;
        let of_host = core.view.host.own(to.ip()) == Some(to.ip());
        if of_host {
            mapping.by_gateway.learn(to.port(), to.ip() != outgoing.outside.ip());
        }
        let socket = mapping.socket;
        core.sockets.wake_by(socket, now + mapping.idle(&core.view.config.limits));
        let mut result = Ok(());
        for datagram in outgoing.datagrams() {
            let sent = self.send_one(core, now, outgoing, (socket, to), datagram, outside);
            result = result.and(sent);
        }
        result
    }

    fn open(
        &mut self,
        core: &mut Core,
        now: Time,
        outgoing: &Outgoing<'_>,
        to: SocketAddr,
        outside: &mut impl Outside,
    ) -> Result<&mut Mapping, DropReason> {
        if self.0.len() >= core.view.config.limits.udp_mappings {
            icmp::error(core, now, outgoing.packet, icmp::Error::Prohibited, outside);
            return Err(DropReason::GatewayMappingLimit);
        }
        let socket = core.sockets.add(Owner::Udp(outgoing.inside));
        if let Err(error) = outside.udp_open(socket, to.ip()) {
            core.sockets.remove(socket);
            if let Some(error) = icmp::Error::of(error) {
                icmp::error(core, now, outgoing.packet, error, outside);
            }
            return Err(if error == OutsideError::Exhausted { DropReason::GatewayLimit } else { DropReason::GatewayOutside });
        }
        let mapping =
            Mapping { socket, container: outgoing.packet.mac, active: now, only_dns: true, more: false, by_gateway: ByGateway::default() };
        Ok(self.0.entry(outgoing.inside).or_insert(mapping))
    }

    fn send_one(
        &self,
        core: &mut Core,
        now: Time,
        outgoing: &Outgoing<'_>,
        (socket, to): (SocketId, SocketAddr),
        datagram: &[u8],
        outside: &mut impl Outside,
    ) -> Result<(), DropReason> {
        let with = outgoing.departure(None);
        let sent = past_older(
            outside,
            |outside| outside.udp_send(socket, to, with, datagram),
            |outside| self.errors(core, now, outgoing.inside, outside),
        );
        sent.map_err(|error| not_sent(core, now, outgoing.packet, error, outside))
    }

    /// A mapping's socket can be read, or has an error to tell.
    pub(super) fn ready(&mut self, core: &mut Core, now: Time, inside: SocketAddr, what: Readiness, outside: &mut impl Outside) {
        if what.error {
            self.errors(core, now, inside, outside);
        }
        if what.readable || what.error {
            self.receive(core, now, inside, outside);
        }
    }

    fn receive(&mut self, core: &mut Core, now: Time, inside: SocketAddr, outside: &mut impl Outside) {
        let Some(mapping) = self.0.get_mut(&inside) else { return };
        mapping.more = false;
        let (socket, container) = (mapping.socket, mapping.container);
        let mut arrivals = Arrivals::default();
        let mut taken = 0;
        while taken < BUDGET {
            let heard = outside.udp_recv(socket, core.builder.udp_behind(arrivals.waiting()));
            taken += heard.map_or(1, |datagram| datagram.count());
            match heard {
                Ok(datagram) => {
                    let Some(source) = self.0.get(&inside).and_then(|mapping| mapping.apparent(&core.view, datagram.from)) else {
                        (0..datagram.count()).for_each(|_| outside.dropped(DropReason::GatewayForbidden));
                        continue;
                    };
                    if let Some(mapping) = self.0.get_mut(&inside) {
                        mapping.active = now;
                    }
                    let source = SocketAddr::new(source, datagram.from.port());
                    let Datagram { traffic_class, len, each, .. } = datagram;
                    arrivals.take(core, Arrival { to: container, source, inside, traffic_class, len: each }, len, outside);
                }
                Err(OutsideError::WouldBlock | OutsideError::Failed) => return arrivals.end(core, outside),
                // Said once for each error that was reported; what has come stands behind it.
                Err(_) => {
                    arrivals.end(core, outside);
                    self.errors(core, now, inside, outside);
                }
            }
        }
        arrivals.end(core, outside);
        // The socket is not known to be empty, and no notice will come.
        if let Some(mapping) = self.0.get_mut(&inside) {
            mapping.more = true;
        }
        core.sockets.wake_by(socket, now);
    }

    /// Passes on what routers and peers reported, and returns what the host itself says of the newest that was too long.
    fn errors(&self, core: &mut Core, now: Time, inside: SocketAddr, outside: &mut impl Outside) -> Option<OutsideError> {
        let mapping = self.0.get(&inside)?;
        let mut too_long = None;
        for _ in 0..ERRORS {
            let Some(DatagramError { to, error, report, quote }) = outside.udp_error(mapping.socket) else { break };
            if is_own_too_long(error, report) {
                too_long = Some(error);
                continue;
            }
            let Some(peer) = mapping.apparent(&core.view, to) else { continue };
            let Some(what) = icmp::Relayed::of(&core.view, inside.ip(), error, report) else { continue };
            let link = Link { from: core.view.config.mac, to: mapping.container };
            icmp::error_about_datagram(core, now, link, (inside, SocketAddr::new(peer, to.port()), quote), what, outside);
        }
        too_long
    }

    /// The time of a mapping's socket has come: more to read, or the end of its idle time.
    pub(super) fn timer(&mut self, core: &mut Core, now: Time, inside: SocketAddr, outside: &mut impl Outside) {
        let Some(mapping) = self.0.get(&inside) else { return };
        if mapping.more {
            self.receive(core, now, inside, outside);
        }
        let Some(mapping) = self.0.get(&inside) else { return };
        let until = mapping.active + mapping.idle(&core.view.config.limits);
        let socket = mapping.socket;
        if until > now {
            core.sockets.wake_by(socket, until);
        } else {
            self.0.remove(&inside);
            core.sockets.remove(socket);
            outside.close(socket);
        }
    }

    pub(super) fn flows(&self, now: Time) -> impl Iterator<Item = Flow> + '_ {
        self.0.iter().map(move |(inside, mapping)| Flow {
            protocol: "udp",
            inside: *inside,
            outside: SocketAddr::new(unspecified(inside.ip()), 0),
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

/// Sends by `send`, past what the kernel has to say of older packets: it tells an ICMP error once, on the next call. `report` passes
/// on all of that, and returns what the host itself says of a packet that was too long, which is none but this one.
pub(super) fn past_older<O: Outside>(
    outside: &mut O,
    mut send: impl FnMut(&mut O) -> Result<(), OutsideError>,
    mut report: impl FnMut(&mut O) -> Option<OutsideError>,
) -> Result<(), OutsideError> {
    let mut sent = send(outside);
    if sent.is_err_and(OutsideError::may_be_older) {
        sent = report(outside).map_or_else(|| send(outside), Err);
        if sent == Err(OutsideError::MessageTooLong(0)) {
            sent = report(outside).map_or(sent, Err);
        }
    }
    sent
}

/// Whether the host itself found a packet too long for the way out.
pub(super) fn is_own_too_long(error: OutsideError, report: Option<Report>) -> bool {
    report.is_none() && matches!(error, OutsideError::MessageTooLong(_))
}

/// Tells the container why its packet was not sent, as far as ICMP has a word for it.
pub(super) fn not_sent(core: &mut Core, now: Time, packet: &Packet<'_>, error: OutsideError, outside: &mut impl Outside) -> DropReason {
    let told = icmp::Error::of(error);
    if let Some(error) = told {
        icmp::error(core, now, packet, error, outside);
    }
    if matches!(told, Some(icmp::Error::TooBig(_))) { DropReason::GatewayTooBig } else { DropReason::GatewayOutside }
}

/// No address, of the same family.
pub(super) const fn unspecified(of: IpAddr) -> IpAddr {
    if of.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) }
}
