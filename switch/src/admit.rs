//! Who may send what: the checks that a frame passes before anything is learned from it or done with it.
//!
//! Policy, in order: length, source, reserved destinations, addresses of others, neighbour discovery in the name of others, DHCP in the
//! gateway's place. Says yes or names the reason; changes nothing. A packet is looked for where its receiver finds it, behind priority
//! tags too, and no checksum is left to be written over what is looked at.

use std::net::IpAddr;

use crate::{
    Checksum, DropReason, Frame, Mac, PortId,
    config::{Config, ReservedMacs},
    frame::FRAME_MAX,
    parse::{Ethernet, Ipv6, ethertype, protocol},
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
    // Whatever could hide behind tags without end; nobody sends as many.
    let ethernet = ethernet.behind_priority_tags(frame.bytes).ok_or(DropReason::RogueAdvertisement)?;
    if is_unsettled(frame, &ethernet) {
        return Err(DropReason::BadOffload);
    }
    if is_spoofed(config, ingress, frame, &ethernet) {
        return Err(DropReason::SpoofedSource);
    }
    match ethernet.ethertype {
        ethertype::IPV4 => check_dhcp(config, ingress, frame, &ethernet),
        ethertype::IPV6 => check_ipv6(config, ingress, frame, &ethernet),
        _ => Ok(()),
    }
}

/// Whether the checksum, once somebody finishes it, stands in what is looked at here. No kernel leaves one so.
fn is_unsettled(frame: &Frame<'_>, ethernet: &Ethernet) -> bool {
    const TAG: usize = 4;
    const ARP: usize = 28;
    const PORTS: usize = 4;
    const DISCOVERY: usize = 24;
    const ICMPV6_CHECKSUM: usize = 2;
    let Checksum::Partial { start, offset } = frame.offload.checksum else { return false };
    let (begin, place) = (ethernet.len, usize::from(start) + usize::from(offset));
    match ethernet.ethertype {
        ethertype::VLAN | ethertype::SERVICE_VLAN => place < begin + TAG,
        ethertype::ARP => place < begin + ARP,
        ethertype::IPV4 => place < begin + ipv4_header(frame.bytes.get(begin..).unwrap_or_default()) + PORTS,
        ethertype::IPV6 => Ipv6::parse(frame.bytes, begin).is_none_or(|ip| match ip.protocol {
            // Which has none of its own, and more headers in what it carries.
            _ if ip.fragment => true,
            protocol::ICMPV6 => place < ip.payload + DISCOVERY && place != ip.payload + ICMPV6_CHECKSUM,
            _ => place < ip.payload + PORTS,
        }),
        _ => place < begin,
    }
}

/// Whether a port may say what hosts believe of routers and DHCP servers: the gateway may, and where there is none, anyone.
fn may_direct_hosts(config: &Config, ingress: PortId) -> bool {
    ingress == PortId::GATEWAY || config.settings.gateway.is_none() || !config.settings.port_security
}

/// Sent from a MAC or IP address that is another port's, or claiming its IPv4 address by ARP.
fn is_spoofed(config: &Config, ingress: PortId, frame: &Frame<'_>, ethernet: &Ethernet) -> bool {
    let sender = || match ethernet.ethertype {
        ethertype::ARP => arp_sender(frame.bytes, ethernet.len).map(IpAddr::from),
        // It answers in the name of whoever was asked, outside.
        _ if ingress == PortId::GATEWAY => None,
        ethertype::IPV4 => address::<4>(frame.bytes, ethernet.len + 12).map(IpAddr::from),
        ethertype::IPV6 => address::<16>(frame.bytes, ethernet.len + 8).map(IpAddr::from),
        _ => None,
    };
    config.is_anothers_mac(ethernet.src, ingress) || sender().is_some_and(|ip| config.is_anothers_ip(ip, ingress))
}

fn address<const N: usize>(frame: &[u8], start: usize) -> Option<[u8; N]> {
    frame.get(start..)?.first_chunk().copied()
}

/// The sender's protocol address of an ARP packet for IPv4 over Ethernet (RFC 826), which Linux takes under the number of all IEEE 802
/// networks too.
fn arp_sender(frame: &[u8], start: usize) -> Option<std::net::Ipv4Addr> {
    const ETHERNET: u8 = 1;
    const IEEE_802: u8 = 6;
    let packet = frame.get(start..)?.first_chunk::<28>()?;
    let sender = packet.get(14..18)?.first_chunk::<4>()?;
    matches!(packet, [0, ETHERNET | IEEE_802, 8, 0, 6, 4, ..]).then(|| (*sender).into())
}

/// What a DHCP server sends to a client (RFC 2131, 4.1), whole or as the first fragment, without which the others are nothing. From
/// which port it comes clients do not ask.
fn check_dhcp(config: &Config, ingress: PortId, frame: &Frame<'_>, ethernet: &Ethernet) -> Result<(), DropReason> {
    const FLAGS_AND_OFFSET: usize = 6;
    const OFFSET: u16 = 0x1fff;
    const PROTOCOL: usize = 9;
    const CLIENT: u16 = 68;
    let packet = frame.bytes.get(ethernet.len..).unwrap_or_default();
    if packet.get(PROTOCOL) != Some(&protocol::UDP) || may_direct_hosts(config, ingress) {
        return Ok(());
    }
    let header = ipv4_header(packet);
    let flags_and_offset = packet.get(FLAGS_AND_OFFSET..).and_then(<[u8]>::first_chunk::<2>);
    let is_later = flags_and_offset.is_some_and(|field| u16::from_be_bytes(*field) & OFFSET != 0);
    let is_answer = packet.get(header..).is_some_and(|datagram| is_to_port(datagram, CLIENT));
    if is_answer && !is_later { Err(DropReason::RogueDhcp) } else { Ok(()) }
}

/// How long the header says that it is.
fn ipv4_header(packet: &[u8]) -> usize {
    usize::from(packet.first().map_or(0, |first| first & 0xf)) * 4
}

fn is_to_port(datagram: &[u8], port: u16) -> bool {
    datagram.get(2..4) == Some(&port.to_be_bytes())
}

/// Neighbour discovery (RFC 4861) in the name of others: of a host, of the gateway, or of any router where there is a gateway, as
/// RFC 6105 has it; and what a DHCP server sends to a client, as RFC 7610 has it.
fn check_ipv6(config: &Config, ingress: PortId, frame: &Frame<'_>, ethernet: &Ethernet) -> Result<(), DropReason> {
    const NEXT_HEADER: usize = 6;
    const HEADER: usize = 40;
    const CLIENT: u16 = 546;
    // Nearly all that comes is one of these, and needs no second look.
    let packet = frame.bytes.get(ethernet.len..).unwrap_or_default();
    match packet.get(NEXT_HEADER) {
        Some(&protocol::TCP) => return Ok(()),
        Some(&protocol::UDP) if !is_to_port(packet.get(HEADER..).unwrap_or_default(), CLIENT) => return Ok(()),
        _ => {}
    }
    let directs = may_direct_hosts(config, ingress);
    let ip = match Ipv6::parse(frame.bytes, ethernet.len) {
        Some(ip) => ip,
        // Among them are chains of headers that are too long to follow, which a host might (RFC 7113, 3).
        None if !directs => return Err(DropReason::RogueAdvertisement),
        None => return Ok(()),
    };
    match ip.upper(frame.bytes) {
        // No host listens to neighbour discovery in fragments (RFC 6980).
        Some((protocol::ICMPV6, message)) if !ip.fragment => check_discovery(config, ingress, ip.src, message),
        Some((protocol::UDP, datagram)) if !directs && is_to_port(datagram, CLIENT) => Err(DropReason::RogueDhcp),
        None if !directs => Err(DropReason::RogueAdvertisement),
        _ => Ok(()),
    }
}

/// `message`: an ICMPv6 message, whatever it is, from `source`.
fn check_discovery(config: &Config, ingress: PortId, source: std::net::Ipv6Addr, message: &[u8]) -> Result<(), DropReason> {
    const TARGET: std::ops::Range<usize> = 8..24;
    const ROUTER_SOLICITATION: u8 = 133;
    const ROUTER_ADVERTISEMENT: u8 = 134;
    const NEIGHBOUR_SOLICITATION: u8 = 135;
    const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    const REDIRECT: u8 = 137;
    let is_anothers = |address: std::net::Ipv6Addr| config.is_anothers_ip(address.into(), ingress);
    let target = || message.get(TARGET).and_then(<[u8]>::first_chunk::<16>).is_some_and(|target| is_anothers((*target).into()));
    match message.first() {
        Some(&(ROUTER_ADVERTISEMENT | REDIRECT)) if !may_direct_hosts(config, ingress) => Err(DropReason::RogueAdvertisement),
        Some(&NEIGHBOUR_ADVERTISEMENT) if target() => Err(DropReason::SpoofedSource),
        // It is about to take the address; who has it and has not yet made sure gives it up then (RFC 4862, 5.4.3).
        Some(&NEIGHBOUR_SOLICITATION) if source.is_unspecified() && target() => Err(DropReason::SpoofedSource),
        Some(ROUTER_SOLICITATION..=REDIRECT) if is_anothers(source) => Err(DropReason::SpoofedSource),
        _ => Ok(()),
    }
}

/// 01:80:c2:00:00:00 to 0f (IEEE 802.1Q, table 8-1).
const fn is_reserved(mac: Mac) -> bool {
    matches!(mac.0, [0x01, 0x80, 0xc2, 0, 0, 0..=0x0f])
}
