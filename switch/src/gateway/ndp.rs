//! Neighbour discovery (RFC 4861): the gateway answers for its own addresses and no other, and advertises itself as the router.
//!
//! Advertisements carry what a host without an address needs: the prefix to make one of (RFC 4862), the resolver (RFC 8106) and the
//! MTU; and that DHCPv6 has the same and an address besides. They go to the port's own stations, in a frame to one of them even where the packet is for all nodes (RFC 6085), so that
//! each port's gateway speaks to its port alone. A container of ours has its addresses already and listens to none of this.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use super::{
    Core, GatewayIpv6, Outside,
    build::{HOP_LIMIT, Ip, Link},
    icmp,
    packet::{ICMPV6, Packet},
};
use crate::{DropReason, Mac, Time};

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;

/// DHCPv6 has addresses, and the rest (RFC 4861, 4.2).
const MANAGED: u8 = 0x80;
const OTHER: u8 = 0x40;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Who sent it is on this link: a router would have counted down (RFC 4861, 3.1).
const FROM_THE_LINK: u8 = 255;
/// From when to when the next advertisement comes of its own (RFC 4861, 6.2.1).
const INTERVAL: std::ops::Range<Duration> = Duration::from_secs(200)..Duration::from_secs(600);
/// Three of the longest intervals, in seconds: how long the router and the resolver are believed in (RFC 4861, 6.2.1).
const LIFETIME: u16 = 1800;
/// How long an address of the prefix is valid, and how long it is preferred, in seconds.
const PREFIX_VALID: u32 = 86_400;
const PREFIX_PREFERRED: u32 = 14_400;
/// The prefix is on the link; hosts make their addresses of it (RFC 4861, 4.6.2).
const ON_LINK: u8 = 0x80;
const AUTONOMOUS: u8 = 0x40;
/// An address that hosts make themselves ends in 64 bits of their own (RFC 4291, 2.5.1).
const AUTONOMOUS_LEN: u8 = 64;
/// What every link of IPv6 takes (RFC 8200, 5).
const MTU_LEAST: u16 = 1280;

/// Whether a packet belongs to neighbour discovery.
pub(super) fn is_discovery(packet: &Packet<'_>) -> bool {
    packet.protocol == ICMPV6 && matches!(packet.payload.first(), Some(ROUTER_SOLICITATION..=REDIRECT))
}

/// Takes a packet of neighbour discovery. Who asks for another is none of our business, and what others say of themselves is not
/// for us either.
pub(super) fn packet(core: &mut Core, packet: &Packet<'_>, outside: &mut impl Outside) -> Result<(), DropReason> {
    let malformed = DropReason::GatewayMalformed;
    let (source, destination) = packet.ipv6().ok_or(malformed)?;
    if !icmp::is_sound(packet) {
        return Err(DropReason::GatewayChecksum);
    }
    if packet.ttl != FROM_THE_LINK || packet.payload.get(1) != Some(&0) {
        return Err(malformed);
    }
    match packet.payload.first().copied() {
        Some(NEIGHBOUR_SOLICITATION) => {
            let target = *packet.payload.get(8..).and_then(<[u8]>::first_chunk::<16>).ok_or(malformed)?;
            let (target, has_address) = (Ipv6Addr::from(target), has_option(packet.payload.get(24..).unwrap_or_default(), SOURCE_ADDRESS)?);
            // Whoever has no address yet asks a group, and says nothing of its link-layer address (RFC 4861, 7.1.1).
            if target.is_multicast() || (source.is_unspecified() && (has_address || !destination.is_multicast())) {
                return Err(malformed);
            }
            learn(core, packet);
            if core.view.config.is_own(target.into()) {
                advertise_self(core, packet.mac, target, source, outside);
            }
        }
        Some(ROUTER_SOLICITATION) => {
            let has_address = has_option(packet.payload.get(8..).ok_or(malformed)?, SOURCE_ADDRESS)?;
            if source.is_unspecified() && has_address {
                return Err(malformed);
            }
            learn(core, packet);
            advertise_router(core, packet.mac, if source.is_unspecified() { ALL_NODES } else { source }, outside);
        }
        _ => (),
    }
    Ok(())
}

/// Remembers where a host is that has an address of the link.
fn learn(core: &mut Core, packet: &Packet<'_>) {
    if packet.source_is_valid(&core.view.config) {
        core.neighbours.learn(packet.source, packet.mac);
    }
}

const SOURCE_ADDRESS: u8 = 1;
const TARGET_ADDRESS: u8 = 2;
const PREFIX_INFORMATION: u8 = 3;
const MTU: u8 = 5;
const RESOLVERS: u8 = 25;

/// Whether there is an option of this kind; an option without length ends everything (RFC 4861, 4.6).
fn has_option(mut options: &[u8], wanted: u8) -> Result<bool, DropReason> {
    let mut found = false;
    while let Some(&[kind, units]) = options.first_chunk() {
        found |= kind == wanted;
        let rest = if units == 0 { None } else { options.get(usize::from(units) * 8..) };
        options = rest.ok_or(DropReason::GatewayMalformed)?;
    }
    Ok(found)
}

/// Says that `target` is ours, to who asked, or to all nodes if who asked has no address yet and wants to know whether it may take
/// this one (RFC 4861, 7.2.4).
fn advertise_self(core: &mut Core, to: Mac, target: Ipv6Addr, asker: Ipv6Addr, outside: &mut impl Outside) {
    const ROUTER: u8 = 0x80;
    const SOLICITED: u8 = 0x40;
    const OVERRIDE: u8 = 0x20;
    let (destination, solicited) = if asker.is_unspecified() { (ALL_NODES, 0) } else { (asker, SOLICITED) };
    let own = core.view.config.mac;
    let mut message = Message::default();
    message.put(&[NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, ROUTER | solicited | OVERRIDE, 0, 0, 0]);
    message.put(&target.octets());
    message.put(&[TARGET_ADDRESS, 1]);
    message.put(&own.0);
    message.send(core, to, (target, destination), outside);
}

/// Sends a router advertisement (RFC 4861, 4.2) to the station `to`.
fn advertise_router(core: &mut Core, to: Mac, destination: Ipv6Addr, outside: &mut impl Outside) {
    let Some(GatewayIpv6 { ip, subnet }) = core.view.config.ipv6 else { return };
    let (own, mtu) = (core.view.config.mac, core.view.config.mtu.max(MTU_LEAST));
    let [life_high, life_low] = LIFETIME.to_be_bytes();
    let mut message = Message::default();
    message.put(&[ROUTER_ADVERTISEMENT, 0, 0, 0, HOP_LIMIT, MANAGED | OTHER, life_high, life_low, 0, 0, 0, 0, 0, 0, 0, 0]);
    message.put(&[SOURCE_ADDRESS, 1]);
    message.put(&own.0);
    message.put(&[MTU, 1, 0, 0, 0, 0]);
    message.put(&mtu.to_be_bytes());
    let flags = ON_LINK | if subnet.prefix_len() == AUTONOMOUS_LEN { AUTONOMOUS } else { 0 };
    message.put(&[PREFIX_INFORMATION, 4, subnet.prefix_len(), flags]);
    message.put(&PREFIX_VALID.to_be_bytes());
    message.put(&PREFIX_PREFERRED.to_be_bytes());
    message.put(&[0; 4]);
    message.put(&subnet.network().octets());
    message.put(&[RESOLVERS, 3, 0, 0, 0, 0, life_high, life_low]);
    message.put(&ip.octets());
    message.send(core, to, (own.link_local(), destination), outside);
}

/// A message as it is put together; what does not fit is left out, and all of ours fit.
struct Message {
    bytes: [u8; 96],
    len: usize,
}

impl Default for Message {
    fn default() -> Self {
        Self { bytes: [0; 96], len: 0 }
    }
}

impl Message {
    fn put(&mut self, bytes: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            room.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    fn send(&self, core: &mut Core, to: Mac, (source, destination): (Ipv6Addr, Ipv6Addr), outside: &mut impl Outside) {
        let link = Link { from: core.view.config.mac, to };
        let ip = Ip { hop_limit: FROM_THE_LINK, ..Ip::whole(IpAddr::V6(source), IpAddr::V6(destination), ICMPV6) };
        let Some(message @ &[kind, code, ..]) = self.bytes.get(..self.len) else { return };
        core.builder.send_ip(outside, link, ip, message.len(), |bytes| {
            bytes.copy_from_slice(message);
            icmp::finish(bytes, ip, (kind, code));
        });
    }
}

/// The advertisements that nobody asked for, which keep the router and the prefix alive in its hosts.
#[derive(Debug, Default)]
pub(super) struct Advertiser {
    /// Who on this port speaks IPv6, and when it hears from us again.
    next: Option<(Time, Mac)>,
}

impl Advertiser {
    /// A station of the port said something over IPv6.
    pub(super) fn heard(&mut self, core: &mut Core, now: Time, station: Mac) {
        match &mut self.next {
            Some((_, known)) => *known = station,
            None => self.next = Some((now + interval(core), station)),
        }
    }

    pub(super) fn timer(&mut self, core: &mut Core, now: Time, outside: &mut impl Outside) {
        let Some((_, station)) = self.next.take_if(|(at, _)| *at <= now) else { return };
        if core.view.config.ipv6.is_some() {
            advertise_router(core, station, ALL_NODES, outside);
            self.next = Some((now + interval(core), station));
        }
    }

    pub(super) fn next_timer(&self) -> Option<Time> {
        self.next.map(|(at, _)| at)
    }
}

fn interval(core: &mut Core) -> Duration {
    let spread = (INTERVAL.end - INTERVAL.start).as_secs();
    INTERVAL.start + Duration::from_secs(core.random.next() % spread)
}
