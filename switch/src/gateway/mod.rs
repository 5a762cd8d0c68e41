//! The gateway of a network as one port sees it: what answers at port 0, and the way out.
//!
//! ```text
//!   container ── frames ──▶ frame() ─┬─ arp, ndp       answers for its own addresses; router advertisements
//!                                    ├─ icmp           ping of the gateway; errors for what cannot go out
//!                                    ├─ dns            names of the networks; the rest to the host's resolvers
//!                                    ├─ tcp  ─┐
//!                                    ├─ udp  ─┤
//!                                    └─ echo ─┴──────▶ Outside: host sockets
//!   container ◀── emit() ──────────── ready(), timer() ◀── what the sockets and the clock say
//! ```
//!
//! Flows belong to the port whose container opened them, so there is one [`Gateway`] value for each port of a container, owned by
//! one worker: no locks. It sees the frames of that port that the switch forwarded or flooded to port 0. It never reads a clock,
//! never opens a socket itself, and holds back nothing that the bounds of [`Limits`] do not cover.

mod arp;
mod arrivals;
mod build;
mod clients;
mod config;
mod dhcp;
mod dhcp6;
mod dns;
mod echo;
mod extensions;
mod fragments;
mod icmp;
mod ndp;
mod neighbours;
mod outside;
mod packet;
mod policy;
mod ports;
mod publish;
mod random;
mod sockets;
mod tcp;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
#[cfg(test)]
mod tests;
mod udp;

use std::net::{IpAddr, SocketAddr};

pub use config::{Direction, Flow, GatewayConfig, GatewayIpv6, HostAddresses, Limits, View};
pub use dhcp::{Exchange, Given, LeaseAnswer, LeaseAsk, LeaseWish};
pub use dhcp6::{Associated, Association, Exchange6, LeaseAnswer6, LeaseAsk6, LeaseStatus6, LeaseWish6};
pub use outside::{
    Datagram, DatagramError, Departure, EchoError, EchoReply, EchoRequest, Outside, OutsideError, Quote, Readiness, Report, SocketId,
};

use self::{
    build::Builder,
    dhcp::Dhcp,
    dhcp6::Dhcp6,
    dns::Dns,
    echo::EchoTable,
    fragments::{Fragment, Fragments},
    icmp::RateLimit,
    ndp::Advertiser,
    neighbours::Neighbours,
    packet::Packet,
    policy::Destination,
    ports::OWN_PORTS,
    publish::Publications,
    random::Random,
    sockets::{Owner, Sockets},
    tcp::TcpTable,
    udp::{Outgoing, UdpTable},
};
use crate::{DropReason, Frame, Mac, Offload, Time, frame::ETHERNET_HEADER, parse::ethertype};

/// What a DHCP client asks, of either family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseQuestion {
    V4(LeaseAsk),
    V6(LeaseAsk6),
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseReply {
    V4(LeaseAnswer),
    V6(LeaseAnswer6),
}

/// What every part of a gateway works with.
#[derive(Debug)]
struct Core {
    view: View,
    sockets: Sockets,
    neighbours: Neighbours,
    random: Random,
    builder: Builder,
    errors: RateLimit,
}

/// The gateway as one port sees it.
#[derive(Debug)]
pub struct Gateway {
    core: Core,
    tcp: TcpTable,
    udp: UdpTable,
    echo: EchoTable,
    fragments: Fragments,
    publications: Publications,
    dns: Dns,
    dhcp: Dhcp,
    dhcp6: Dhcp6,
    advertiser: Advertiser,
    /// Sockets whose time has come, while they are looked at.
    due: Vec<SocketId>,
}

impl Gateway {
    /// `seed` is the source of all that must not be guessed (sequence numbers, query ids, ports): draw it at random.
    pub fn new(view: View, seed: u64) -> Self {
        let core = Core {
            view,
            sockets: Sockets::default(),
            neighbours: Neighbours::default(),
            random: Random::new(seed),
            builder: Builder::new(),
            errors: RateLimit::default(),
        };
        Self {
            core,
            tcp: TcpTable::default(),
            udp: UdpTable::default(),
            echo: EchoTable::default(),
            fragments: Fragments::default(),
            publications: Publications::default(),
            dns: Dns::default(),
            dhcp: Dhcp::default(),
            dhcp6: Dhcp6::default(),
            advertiser: Advertiser::default(),
            due: Vec::new(),
        }
    }

    /// Flows that are open go on as they are; what comes next, and when they end, obeys the new view.
    pub fn set_view(&mut self, view: View) {
        if view.config.limits != self.core.view.config.limits {
            self.core.sockets.wake_all();
        }
        self.core.view = view;
    }

    /// Takes a frame of this gateway's port. `Err`: it went no further, for the caller to count; the container may have been told so
    /// by ICMP or RST. A frame that the link carried past us and that is none of our business is `Ok`.
    pub fn frame(&mut self, now: Time, frame: &Frame<'_>, outside: &mut impl Outside) -> Result<(), DropReason> {
        let malformed = DropReason::GatewayMalformed;
        let Some((header, _)) = frame.bytes.split_first_chunk::<14>() else { return Err(malformed) };
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *header;
        let (to, from) = (Mac([d0, d1, d2, d3, d4, d5]), Mac([s0, s1, s2, s3, s4, s5]));
        let config = &self.core.view.config;
        let for_us = to == config.mac;
        if !(for_us || to.is_group()) {
            return Ok(());
        }
        let (ipv4, ipv6) = (config.ip.is_some(), config.ipv6.is_some());
        match u16::from_be_bytes([t0, t1]) {
            _ if !ipv4 && !ipv6 => Ok(()),
            _ if from.is_group() || from.is_zero() => Err(malformed),
            ethertype::ARP => arp::frame(&mut self.core, from, frame, outside),
            ethertype::IPV6 if ipv6 => self.ipv6(now, for_us, from, frame, outside),
            ethertype::IPV4 if ipv4 && !for_us && dhcp::is_broadcast_to_server(frame) => {
                self.dhcp.broadcast(&self.core, now, &Packet::parse(from, frame)?, outside)
            }
            // A broadcast or multicast packet is for the hosts of the link (RFC 1122, 3.3.6).
            _ if !for_us => Ok(()),
            ethertype::IPV4 if ipv4 => match Packet::parse(from, frame) {
                Err(DropReason::GatewayFragment) => self.fragment(now, from, frame, outside),
                packet => self.packet(now, &packet?, outside),
            },
            _ => Err(DropReason::GatewayUnsupported),
        }
    }

    /// A packet of IPv6: of those to a group, neighbour discovery and DHCP alone are our business.
    fn ipv6(&mut self, now: Time, for_us: bool, from: Mac, frame: &Frame<'_>, outside: &mut impl Outside) -> Result<(), DropReason> {
        let packet = match Packet::parse(from, frame) {
            Err(_) if !for_us => return Ok(()),
            Err(DropReason::GatewayFragment) => return self.fragment(now, from, frame, outside),
            packet => packet?,
        };
        self.advertiser.heard(&mut self.core, now, from);
        if ndp::is_discovery(&packet) {
            return ndp::packet(&mut self.core, &packet, outside);
        }
        if !for_us && dhcp6::is_for_servers(&packet) {
            return self.dhcp6.message(&mut self.core, now, &Outgoing::parse(&packet)?, outside);
        }
        if for_us { self.packet(now, &packet, outside) } else { Ok(()) }
    }

    /// A fragment of a packet, which goes its way once it is whole. Neighbour discovery in fragments is none (RFC 6980, 5).
    fn fragment(&mut self, now: Time, from: Mac, frame: &Frame<'_>, outside: &mut impl Outside) -> Result<(), DropReason> {
        if frame.offload.gso.is_some() {
            return Err(DropReason::GatewayMalformed);
        }
        let fragment = Fragment::parse(frame.bytes.get(ETHERNET_HEADER..).unwrap_or_default())?;
        if !packet::is_valid_source(fragment.source(), &self.core.view.config) {
            return Err(DropReason::SpoofedSource);
        }
        let Some(whole) = self.fragments.take(now, from, &fragment, self.core.view.config.limits.fragments)? else { return Ok(()) };
        let packet = Packet::from_bytes(from, whole.bytes(), Offload::default());
        // What its sender has cut may be cut again.
        let packet = packet.map(|packet| Packet { dont_fragment: false, ..packet });
        let result = packet.and_then(|packet| self.packet(now, &packet, outside));
        self.fragments.give_back(whole);
        result
    }

    fn packet(&mut self, now: Time, packet: &Packet<'_>, outside: &mut impl Outside) -> Result<(), DropReason> {
        if !packet.source_is_valid(&self.core.view.config) {
            return Err(DropReason::SpoofedSource);
        }
        self.core.neighbours.learn(packet.source, packet.mac);
        match packet.protocol {
            packet::TCP => self.tcp(now, packet, outside),
            packet::UDP => self.udp(now, packet, outside),
            _ => self.other(now, packet, outside),
        }
    }

    fn tcp(&mut self, now: Time, packet: &Packet<'_>, outside: &mut impl Outside) -> Result<(), DropReason> {
        let core = &mut self.core;
        let Some(key) = dns::stream_key(&core.view, packet) else { return self.tcp.frame(core, now, packet, outside) };
        let most = core.view.config.limits.dns_streams;
        let result = self.tcp.frame(core, now, packet, &mut self.dns.streams.serve(now, key, most, outside));
        self.serve_streams(now, outside);
        result
    }

    /// Lets the flows of those go on who ask for names over TCP, as far as they can.
    fn serve_streams(&mut self, now: Time, outside: &mut impl Outside) {
        let core = &mut self.core;
        while let Some((key, what)) = self.dns.next_stream(core, now, outside) {
            let mut served = self.dns.streams.serve(now, key, 0, outside);
            match what.error {
                true => self.tcp.reset(core, now, key, &mut served),
                false => self.tcp.ready(core, now, key, what, &mut served),
            }
        }
    }

    fn udp(&mut self, now: Time, packet: &Packet<'_>, outside: &mut impl Outside) -> Result<(), DropReason> {
        let core = &mut self.core;
        let outgoing = Outgoing::parse(packet)?;
        if let Some(result) = self.publications.reply(core, now, &outgoing, outside) {
            return result;
        }
        let to = match policy::destination(&core.view, packet.destination) {
            Destination::Gateway if outgoing.outside.port() == dns::PORT => return self.dns.query(core, now, &outgoing, outside),
            Destination::Gateway if outgoing.outside.port() == dhcp::SERVER_PORT && outgoing.outside.is_ipv4() => {
                return self.dhcp.message(core, now, &outgoing, outside);
            }
            Destination::Gateway if outgoing.outside.port() == dhcp6::SERVER_PORT && outgoing.outside.is_ipv6() => {
                return self.dhcp6.message(core, now, &outgoing, outside);
            }
            Destination::Gateway => policy::gateway_port(&core.view, packet.destination),
            Destination::Outside(to) => Some(to),
            Destination::Subnet => return Err(DropReason::GatewayUnsupported),
            Destination::Forbidden => {
                icmp::error(core, now, packet, icmp::Error::Prohibited, outside);
                return Err(DropReason::GatewayForbidden);
            }
        };
        match to {
            Some(to) => self.udp.send(core, now, &outgoing, SocketAddr::new(to, outgoing.outside.port()), outside),
            None => {
                icmp::error(core, now, packet, icmp::Error::PortUnreachable, outside);
                Ok(())
            }
        }
    }

    /// ICMP, and protocols that no ordinary socket speaks: never silence, but for the answers that RFC 1122 forbids.
    fn other(&mut self, now: Time, packet: &Packet<'_>, outside: &mut impl Outside) -> Result<(), DropReason> {
        let core = &mut self.core;
        let reason = match policy::destination(&core.view, packet.destination) {
            Destination::Gateway if packet.is_icmp() => return icmp::to_gateway(core, packet, outside),
            Destination::Outside(to) if packet.is_icmp() => return self.echo.send(core, now, packet, to, outside),
            Destination::Subnet => return Err(DropReason::GatewayUnsupported),
            Destination::Gateway | Destination::Outside(_) => DropReason::GatewayUnsupported,
            Destination::Forbidden => DropReason::GatewayForbidden,
        };
        icmp::error(core, now, packet, icmp::Error::Prohibited, outside);
        Err(reason)
    }

    /// A socket can go on. A notice for a socket that is no more, or that has nothing to say, does no harm.
    pub fn ready(&mut self, now: Time, socket: SocketId, what: Readiness, outside: &mut impl Outside) {
        let core = &mut self.core;
        match core.sockets.owner(socket) {
            Some(Owner::Tcp(key)) => self.tcp.ready(core, now, key, what, outside),
            Some(Owner::Udp(inside)) => self.udp.ready(core, now, inside, what, outside),
            Some(Owner::Echo(key)) => self.echo.ready(core, now, key, what, outside),
            Some(Owner::Published) => self.publications.ready(core, now, socket, what, outside),
            Some(Owner::Dns) => {
                self.dns.ready(core, now, socket, what, outside);
                self.serve_streams(now, outside);
            }
            Some(Owner::DnsStreams | Owner::Reserved) | None => (),
        }
    }

    /// Does what is due; call it when [`next_timer`](Self::next_timer) has come.
    pub fn timer(&mut self, now: Time, outside: &mut impl Outside) {
        let core = &mut self.core;
        self.advertiser.timer(core, now, outside);
        while let Some(expired) = self.fragments.expired(now) {
            outside.dropped(DropReason::GatewayFragmentTimeout);
            icmp::error_about_fragments(core, now, &expired, outside);
        }
        // Taken out first: a socket that has more to read asks for `now` again, which is the next turn.
        self.due.extend(std::iter::from_fn(|| core.sockets.due(now)));
        for socket in self.due.drain(..) {
            match core.sockets.owner(socket) {
                Some(Owner::Tcp(key)) if self.dns.streams.has(socket) => {
                    self.tcp.timer(core, now, key, &mut self.dns.streams.serve(now, key, 0, outside));
                }
                Some(Owner::Tcp(key)) => self.tcp.timer(core, now, key, outside),
                Some(Owner::Udp(inside)) => self.udp.timer(core, now, inside, outside),
                Some(Owner::Echo(key)) => self.echo.timer(core, now, key, outside),
                Some(Owner::Published) => self.publications.timer(core, now, socket, outside),
                Some(Owner::Dns) => self.dns.timer(core, now, socket, outside),
                Some(Owner::DnsStreams) => self.dns.expire_streams(core, now),
                Some(Owner::Reserved) | None => (),
            }
        }
        self.serve_streams(now, outside);
    }

    /// When [`timer`](Self::timer) wants to be called; not in the future: in the worker's next turn.
    pub fn next_timer(&self) -> Option<Time> {
        [self.core.sockets.next_timer(), self.advertiser.next_timer(), self.fragments.next_timer()].into_iter().flatten().min()
    }

    /// A number under which the runtime registers a socket of its own making, to hand it in with [`accepted`](Self::accepted) or
    /// [`publish_udp`](Self::publish_udp).
    pub fn new_socket_id(&mut self) -> SocketId {
        self.core.sockets.add(Owner::Reserved)
    }

    /// Takes an accepted connection, connected and non-blocking, from `peer`, for the container's `to`. The gateway reads, writes and
    /// closes it from here on.
    pub fn accepted(&mut self, now: Time, socket: SocketId, peer: SocketAddr, to: SocketAddr, outside: &mut impl Outside) {
        self.tcp.accepted(&mut self.core, now, socket, peer, to, outside);
    }

    /// Takes datagrams from a bound socket to the container's `to`. The socket remains the runtime's, which closes it.
    pub fn publish_udp(&mut self, socket: SocketId, to: SocketAddr) {
        self.publications.add(&mut self.core, socket, to);
    }

    /// Forgets a UDP publication and its clients.
    pub fn unpublish_udp(&mut self, socket: SocketId) {
        self.publications.remove(&mut self.core, socket);
    }

    /// The answer to a lease that was asked about by [`Outside::ask_lease`].
    pub fn lease_answered(&mut self, answer: &LeaseReply, outside: &mut impl Outside) {
        match answer {
            LeaseReply::V4(answer) => Dhcp::answered(&mut self.core, answer, outside),
            LeaseReply::V6(answer) => Dhcp6::answered(&mut self.core, answer, outside),
        }
    }

    /// What the IPAM gave this port: where inbound connections go before the container has spoken.
    pub fn set_neighbour(&mut self, ip: IpAddr, mac: Mac) {
        self.core.neighbours.learn(ip, mac);
    }

    /// The flows of this port.
    pub fn flows(&self, now: Time) -> Vec<Flow> {
        let published = self.publications.flows(now);
        self.tcp.flows(now).chain(self.udp.flows(now)).chain(self.echo.flows(now)).chain(published).chain(self.dns.flows(now)).collect()
    }

    /// Ends every flow, with a RST to both sides where the protocol has one, and closes every socket that the gateway opened or was
    /// given by [`accepted`](Self::accepted).
    pub fn close_all(&mut self, now: Time, outside: &mut impl Outside) {
        self.tcp.close_all(&mut self.core, now, outside);
        self.udp.close_all(&mut self.core, outside);
        self.echo.close_all(&mut self.core, outside);
        self.publications.close_all(&mut self.core);
        self.dns.close_all(&mut self.core, outside);
        self.advertiser = Advertiser::default();
        self.fragments = Fragments::default();
    }
}
