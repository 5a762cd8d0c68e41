//! Who may send what: the checks that a frame passes before anything is learned from it or done with it.
//!
//! Policy, in order: length, source, reserved destinations, addresses of others. Says yes or names the reason; changes nothing.

use crate::{
    DropReason, Frame, Mac, PortId,
    config::{Config, ReservedMacs},
    frame::FRAME_MAX,
    parse::{Ethernet, ethertype},
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
    Ok(())
}

/// Sent from an address that the IPAM gave to another port, or claiming its IPv4 address by ARP. The gateway's own are its own
/// whatever the settings are: who takes them takes all traffic to the outside.
fn is_spoofed(config: &Config, ingress: PortId, frame: &Frame<'_>, ethernet: &Ethernet) -> bool {
    if ingress != PortId::GATEWAY && config.settings.gateway == Some(ethernet.src) {
        return true;
    }
    if !config.settings.port_security {
        return false;
    }
    config.is_anothers_mac(ethernet.src, ingress)
        || (ethernet.ethertype == ethertype::ARP
            && arp_sender(frame.bytes, ethernet.len).is_some_and(|ip| config.is_anothers_ip(ip, ingress)))
}

/// The sender's protocol address of an ARP packet for IPv4 over Ethernet (RFC 826).
fn arp_sender(frame: &[u8], start: usize) -> Option<std::net::Ipv4Addr> {
    const IPV4_OVER_ETHERNET: [u8; 6] = [0, 1, 8, 0, 6, 4];
    let packet = frame.get(start..)?.first_chunk::<28>()?;
    let sender = packet.get(14..18)?.first_chunk::<4>()?;
    packet.starts_with(&IPV4_OVER_ETHERNET).then(|| (*sender).into())
}

/// 01:80:c2:00:00:00 to 0f (IEEE 802.1Q, table 8-1).
const fn is_reserved(mac: Mac) -> bool {
    matches!(mac.0, [0x01, 0x80, 0xc2, 0, 0, 0..=0x0f])
}
