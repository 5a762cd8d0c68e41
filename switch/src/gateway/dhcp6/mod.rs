//! DHCPv6 on the gateway (RFC 8415): messages on this side, leases on the other, as with DHCPv4.
//!
//! ```text
//!   client ── SOLICIT, REQUEST … ──▶ read ── LeaseAsk6 ──▶ Outside::ask_lease ──▶ whoever keeps the addresses
//!   client ◀── ADVERTISE, REPLY ── write ◀── LeaseAnswer6 ◀── Gateway::lease_answered ◀── in its own time
//! ```
//!
//! Nothing is remembered between the two. There is one server on the link, so a client need not wait for others (preference 255).
//! Addresses are all there is to be had: no temporary ones, no prefixes. Relays are not served: the gateway is on the link.

mod message;

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use self::message::Reply;
use super::{Core, LeaseQuestion, Outside, arrivals::Arrival, icmp::RateLimit, packet::Packet, udp::Outgoing};
use crate::{DropReason, Mac, Time};

/// UDP ports of the two sides (RFC 8415, 7.2).
pub(super) const SERVER_PORT: u16 = 547;
const CLIENT_PORT: u16 = 546;
/// All_DHCP_Relay_Agents_and_Servers (RFC 8415, 7.1).
pub(super) const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// What a client wants (RFC 8415, 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseWish6 {
    /// An offer, or with rapid commit the lease at once.
    Solicit {
        rapid: bool,
    },
    Request,
    /// Is the client still on the link of its addresses?
    Confirm,
    Renew,
    Rebind,
    Release,
    /// Somebody uses these addresses already.
    Decline,
    /// Only what belongs to an address.
    Information,
}

impl LeaseWish6 {
    /// What it may say to one server it knows, by unicast, if the server had allowed that.
    const fn names_a_server(self) -> bool {
        matches!(self, Self::Request | Self::Renew | Self::Release | Self::Decline)
    }
}

/// An identity association for addresses (RFC 8415, 21.4): the client's name for a place of one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Association {
    pub id: u32,
    /// Those that it has, or would like.
    pub addresses: Vec<Ipv6Addr>,
}

/// A client's message as whoever keeps the addresses needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseAsk6 {
    pub wish: LeaseWish6,
    pub associations: Vec<Association>,
    pub exchange: Exchange6,
}

/// What the answer to a message repeats of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange6 {
    client: Mac,
    address: Ipv6Addr,
    transaction: [u8; 3],
    duid: Vec<u8>,
    wish: LeaseWish6,
    /// What it asked for besides that nobody gets here.
    others: Vec<Other>,
}

impl Exchange6 {
    /// The client's address on the link.
    pub fn client(&self) -> Mac {
        self.client
    }

    /// What it calls itself (RFC 8415, 11); empty for nothing but information.
    pub fn duid(&self) -> &[u8] {
        &self.duid
    }
}

/// An association for what is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    /// IA_TA.
    Temporary(u32),
    /// IA_PD.
    Prefix(u32),
}

/// How it went (RFC 8415, 21.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseStatus6 {
    Success,
    NoAddresses,
    NoBinding,
    NotOnLink,
    /// The client is to ask everybody, not us alone.
    UseMulticast,
}

/// What became of an association.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Associated {
    pub id: u32,
    /// Each with the time that it is valid for; none at all: it is to be given up.
    pub addresses: Vec<(Ipv6Addr, Duration)>,
    pub status: Option<LeaseStatus6>,
}

/// The answer to a [`LeaseAsk6`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseAnswer6 {
    pub exchange: Exchange6,
    /// Of the whole message.
    pub status: Option<LeaseStatus6>,
    pub associations: Vec<Associated>,
    /// Where names without a dot are looked for.
    pub search: Vec<String>,
}

/// The server of one port.
#[derive(Debug, Default)]
pub(super) struct Dhcp6 {
    asks: RateLimit,
}

/// Whether a packet is for the DHCP servers of the link.
pub(super) fn is_for_servers(packet: &Packet<'_>) -> bool {
    packet.protocol == super::packet::UDP
        && packet.destination == IpAddr::V6(ALL_SERVERS)
        && super::packet::ports(packet.payload).is_some_and(|(_, to)| to == SERVER_PORT)
}

impl Dhcp6 {
    /// Takes a message of a client, to all servers or to this one.
    pub(super) fn message(
        &mut self,
        core: &mut Core,
        now: Time,
        outgoing: &Outgoing<'_>,
        outside: &mut impl Outside,
    ) -> Result<(), DropReason> {
        let packet = outgoing.packet;
        let (source, destination) = packet.ipv6().ok_or(DropReason::GatewayMalformed)?;
        if !packet.source_is_valid(&core.view.config) {
            return Err(DropReason::SpoofedSource);
        }
        let ask = message::read(outgoing.payload, packet.mac, source, core.view.config.mac)?;
        if !self.asks.allow(now, core.view.config.limits.dhcp_asks) {
            return Err(DropReason::GatewayLimit);
        }
        if destination.is_multicast() {
            return outside.ask_lease(LeaseQuestion::V6(ask));
        }
        // We invite nobody to ask by unicast, so who does is told how (RFC 8415, 18.3.2), or nothing (16).
        if !ask.wish.names_a_server() {
            return Err(DropReason::GatewayUnsupported);
        }
        let status = Some(LeaseStatus6::UseMulticast);
        let answer = LeaseAnswer6 { exchange: ask.exchange, status, associations: Vec::new(), search: Vec::new() };
        Self::answered(core, &answer, outside);
        Ok(())
    }

    /// Gives a client its answer.
    pub(super) fn answered(core: &mut Core, answer: &LeaseAnswer6, outside: &mut impl Outside) {
        let config = core.view.config.clone();
        let Some(ipv6) = config.ipv6 else { return };
        let reply = Reply { answer, server: config.mac, resolver: ipv6.ip };
        let Some(bytes) = reply.write() else { return outside.dropped(DropReason::GatewayOutside) };
        let to = answer.exchange.address;
        let Some(own) = config.own_towards(IpAddr::V6(to)) else { return };
        if let Some(room) = core.builder.udp_payload().get_mut(..bytes.len()) {
            room.copy_from_slice(&bytes);
            let (from, to) = (SocketAddr::new(own, SERVER_PORT), SocketAddr::new(IpAddr::V6(to), CLIENT_PORT));
            let (to, inside) = (answer.exchange.client, to);
            core.deliver_udp(Arrival { to, source: from, inside, traffic_class: 0, len: bytes.len() }, bytes.len(), outside);
        }
    }
}
