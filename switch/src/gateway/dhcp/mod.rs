//! DHCPv4 on the gateway (RFC 2131): messages on this side, leases on the other.
//!
//! ```text
//!   client ── DISCOVER, REQUEST … ──▶ read ── LeaseAsk ──▶ Outside::ask_lease ──▶ whoever keeps the addresses
//!   client ◀── OFFER, ACK, NAK ── write ◀── LeaseAnswer ◀── Gateway::lease_answered ◀── in its own time
//! ```
//!
//! Nothing is remembered between the two: an ask carries all that its answer needs ([`Exchange`]), so a flood of requests fills no table
//! here, and an answer that is never given costs nothing. Relays are not served: the gateway is on the link.

mod message;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use self::message::Reply;
use super::{Core, LeaseQuestion, Outside, arrivals::Arrival, icmp::RateLimit, packet::Packet, udp::Outgoing};
use crate::{DropReason, Frame, Mac, Time, frame::ETHERNET_HEADER};

/// UDP ports of the two sides (RFC 2131, 4.1).
pub(super) const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseWish {
    /// DHCPDISCOVER: an offer, of this address if it can be.
    Discover { wanted: Option<Ipv4Addr> },
    /// DHCPREQUEST in any of its states: this address and no other.
    Request { wanted: Ipv4Addr },
    /// DHCPREQUEST for another server's offer: ours is free again.
    Refuse,
    /// DHCPDECLINE: somebody uses this address already.
    Decline { address: Ipv4Addr },
    /// DHCPRELEASE.
    Release { address: Ipv4Addr },
    /// DHCPINFORM: only what belongs to an address.
    Inform,
}

/// A client's message as whoever keeps the addresses needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseAsk {
    pub wish: LeaseWish,
    pub client: Mac,
    /// What it calls itself (option 61); its MAC if nothing.
    pub client_id: Option<Vec<u8>>,
    pub exchange: Exchange,
}

/// What the answer to a message repeats of it (RFC 2131, table 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    client: Mac,
    xid: u32,
    ciaddr: Ipv4Addr,
    broadcast: bool,
    /// It asked for classless routes, which then stand in the router's place (RFC 3442).
    routes: bool,
    kind: Kind,
}

/// Which messages may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Offer,
    Ack,
    Inform,
    None,
}

/// The answer to a [`LeaseAsk`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseAnswer {
    pub exchange: Exchange,
    /// `None`: DHCPNAK.
    pub given: Option<Given>,
}

/// What goes with an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// `None` in the answer to [`LeaseWish::Inform`].
    pub address: Option<(Ipv4Addr, Duration)>,
    pub hostname: Option<String>,
    /// Where names without a dot are looked for.
    pub search: Vec<String>,
}

/// The server of one port.
#[derive(Debug, Default)]
pub(super) struct Dhcp {
    asks: RateLimit,
}

/// Whether a frame that is for everybody on the link is for a DHCP server. A client without an address sends from 0.0.0.0, so this is
/// seen before the source is judged.
pub(super) fn is_broadcast_to_server(frame: &Frame<'_>) -> bool {
    const PROTOCOL: usize = ETHERNET_HEADER + 9;
    let Some(first) = frame.bytes.get(ETHERNET_HEADER) else { return false };
    let transport = ETHERNET_HEADER + usize::from(first & 0xf) * 4;
    let port = frame.bytes.get(transport + 2..transport + 4);
    frame.bytes.get(PROTOCOL) == Some(&super::packet::UDP) && port == Some(&SERVER_PORT.to_be_bytes())
}

impl Dhcp {
    /// Takes a packet that was sent to everybody.
    pub(super) fn broadcast(&mut self, core: &Core, now: Time, packet: &Packet<'_>, outside: &mut impl Outside) -> Result<(), DropReason> {
        self.message(core, now, &Outgoing::parse(packet)?, outside)
    }

    /// Takes a message of a client.
    pub(super) fn message(
        &mut self,
        core: &Core,
        now: Time,
        outgoing: &Outgoing<'_>,
        outside: &mut impl Outside,
    ) -> Result<(), DropReason> {
        let Some(own) = core.view.config.ip else { return Ok(()) };
        let ask = message::read(outgoing.payload, own)?;
        if ask.client != outgoing.packet.mac && !is_by_address(core, &ask, outgoing.packet, outside) {
            return Err(DropReason::SpoofedSource);
        }
        if !self.asks.allow(now, core.view.config.limits.dhcp_asks) {
            return Err(DropReason::GatewayLimit);
        }
        outside.ask_lease(LeaseQuestion::V4(ask))
    }

    /// Gives a client its answer.
    pub(super) fn answered(core: &mut Core, answer: &LeaseAnswer, outside: &mut impl Outside) {
        let config = core.view.config.clone();
        let Some(own) = config.ip else { return };
        let reply = Reply { answer, server: own, subnet: config.subnet, mtu: config.mtu };
        let Some(bytes) = reply.write() else { return outside.dropped(DropReason::GatewayOutside) };
        let (to, mac) = (address_of(answer), answer.exchange.client);
        if let Some(room) = core.builder.udp_payload().get_mut(..bytes.len()) {
            room.copy_from_slice(&bytes);
            let (from, to) = (SocketAddr::new(IpAddr::V4(own), SERVER_PORT), SocketAddr::new(IpAddr::V4(to), CLIENT_PORT));
            core.deliver_udp(Arrival { to: mac, source: from, inside: to, traffic_class: 0, len: bytes.len() }, bytes.len(), outside);
        }
    }
}

/// A host with several interfaces may renew and release by another one, from the address that it is about. Its answer goes to the
/// interface that has the address, which must not be one behind another port.
fn is_by_address(core: &Core, ask: &LeaseAsk, packet: &Packet<'_>, outside: &impl Outside) -> bool {
    let is_from = packet.source == IpAddr::V4(ask.exchange.ciaddr);
    is_from && packet.source_is_valid(&core.view.config) && !outside.is_anothers(ask.client)
}

/// The address that an answer goes to (RFC 2131, 4.1): the one that the client uses, that of everybody where it cannot be reached
/// otherwise, else the one that it is just getting. The frame is for the client alone in any case: one for everybody would reach the
/// other ports, whose clients it is not for.
fn address_of(answer: &LeaseAnswer) -> Ipv4Addr {
    let Exchange { ciaddr, broadcast, .. } = answer.exchange;
    match answer.given.as_ref() {
        Some(_) if !ciaddr.is_unspecified() => ciaddr,
        Some(Given { address: Some((address, _)), .. }) if !broadcast => *address,
        _ => Ipv4Addr::BROADCAST,
    }
}
