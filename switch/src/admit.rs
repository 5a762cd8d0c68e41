//! Who may send what: the checks that a frame passes before anything is learned from it or done with it.
//!
//! Policy, in order: length, source, reserved destinations, addresses of others, neighbour discovery in the name of others. Says yes or names the reason; changes nothing.

use crate::{
    DropReason, Frame, Mac, PortId,
    config::{Config, ReservedMacs},
    frame::FRAME_MAX,
    parse::{Ethernet, Headers, Network, ethertype, protocol},
};

/// May `frame` come in at `ingress`?
pub(crate) fn check(config: &Config, ingress: PortId, frame: &Frame<'_>, ethernet: &Ethernet) -> Result<(), DropReason> {
    if frame.bytes.len() > FRAME_MAX {
        return Err(DropReason::TooLong);
    }
    if ethernet.src.is_group() {
        return Err(DropReason::GroupSource);
    }
    if ethernet.src.is_zero() {
        return Err(DropReason::ZeroSource);
    }
    if is_reserved(ethernet.dst) && config.settings.reserved_macs == ReservedMacs::Strict {
        return Err(DropReason::ReservedAddress);
    }
    if is_spoofed(config, ingress, frame, ethernet) {
        return Err(DropReason::SpoofedSource);
    }
    if ethernet.ethertype == ethertype::IPV6 {
        return check_discovery(config, ingress, frame, ethernet);
    }
    Ok(())
}

/// Sent from an address that is another port's, or claiming its IPv4 address by ARP.
fn is_spoofed(config: &Config, ingress: PortId, frame: &Frame<'_>, ethernet: &Ethernet) -> bool {
    config.is_anothers_mac(ethernet.src, ingress)
        || (ethernet.ethertype == ethertype::ARP
            && arp_sender(frame.bytes, ethernet.len).is_some_and(|ip| config.is_anothers_ip(ip.into(), ingress)))
}

/// The sender's protocol address of an ARP packet for IPv4 over Ethernet (RFC 826).
fn arp_sender(frame: &[u8], start: usize) -> Option<std::net::Ipv4Addr> {
    const IPV4_OVER_ETHERNET: [u8; 6] = [0, 1, 8, 0, 6, 4];
    let packet = frame.get(start..)?.first_chunk::<28>()?;
    let sender = packet.get(14..18)?.first_chunk::<4>()?;
    packet.starts_with(&IPV4_OVER_ETHERNET).then(|| (*sender).into())
}

/// Neighbour discovery (RFC 4861) in the name of others: of a host, of the gateway, or of any router where there is a gateway, as
/// RFC 6105 has it. What is in fragments need not be looked into: no host listens to it (RFC 6980).
fn check_discovery(config: &Config, ingress: PortId, frame: &Frame<'_>, ethernet: &Ethernet) -> Result<(), DropReason> {
    const NEXT_HEADER: usize = 6;
    const TARGET: std::ops::Range<usize> = 8..24;
    const ROUTER_SOLICITATION: u8 = 133;
    const ROUTER_ADVERTISEMENT: u8 = 134;
    const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    const REDIRECT: u8 = 137;
    // Nearly all that comes is one of these, and needs no second look.
    if matches!(frame.bytes.get(ethernet.len + NEXT_HEADER), Some(&(protocol::TCP | protocol::UDP))) {
        return Ok(());
    }
    let may_advertise = ingress == PortId::GATEWAY || config.settings.gateway.is_none() || !config.settings.port_security;
    let ip = match Headers::parse(frame.bytes)?.network {
        Network::Ipv6(ip) if ip.protocol == protocol::ICMPV6 && !ip.fragment => ip,
        // Among them are chains of headers that are too long to follow, which a host might (RFC 7113, 3).
        Network::Malformed if !may_advertise => return Err(DropReason::RogueAdvertisement),
        _ => return Ok(()),
    };
    let message = frame.bytes.get(ip.payload..ip.end).unwrap_or_default();
    let is_anothers = |address: std::net::Ipv6Addr| config.is_anothers_ip(address.into(), ingress);
    let target = || message.get(TARGET).and_then(<[u8]>::first_chunk::<16>).is_some_and(|target| is_anothers((*target).into()));
    match message.first() {
        Some(&(ROUTER_ADVERTISEMENT | REDIRECT)) if !may_advertise => Err(DropReason::RogueAdvertisement),
        Some(&NEIGHBOUR_ADVERTISEMENT) if target() => Err(DropReason::SpoofedSource),
        Some(ROUTER_SOLICITATION..=REDIRECT) if is_anothers(ip.src) => Err(DropReason::SpoofedSource),
        _ => Ok(()),
    }
}

/// 01:80:c2:00:00:00 to 0f (IEEE 802.1Q, table 8-1).
const fn is_reserved(mac: Mac) -> bool {
    matches!(mac.0, [0x01, 0x80, 0xc2, 0, 0, 0..=0x0f])
}
