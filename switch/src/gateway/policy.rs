//! Where a container may send: the one table of destinations.
//!
//! | destination | what happens |
//! |---|---|
//! | the gateway's address | the gateway answers; with `host_loopback` its TCP and UDP ports lead to the host's 127.0.0.1, as in slirp and docker's `host-gateway` |
//! | another address of the subnet | dropped: such a host is reached on the link or not at all |
//! | 0/8, multicast, 240/4, broadcast | never goes out (RFC 1122, 3.2.1.3) |
//! | 127/8, every address of the host's `lo` | only with `host_loopback`: connect() to any of these reaches loopback services |
//! | everything else | goes out, unless the network is internal |

use std::net::{IpAddr, Ipv4Addr};

use super::View;

/// What lies behind a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    Gateway,
    /// On the link, and so not the gateway's business.
    Subnet,
    Forbidden,
    /// The host's world, under the address that the host knows it by.
    Outside(IpAddr),
}

/// Classifies a destination; an IPv4 address in IPv6 clothes is the IPv4 address.
pub(super) fn destination(view: &View, address: IpAddr) -> Destination {
    let address = address.to_canonical();
    let config = &view.config;
    if config.ip.map(IpAddr::from) == Some(address) {
        return Destination::Gateway;
    }
    if matches!(address, IpAddr::V4(v4) if config.subnet.contains(&v4)) {
        return Destination::Subnet;
    }
    if config.internal || !is_host(address) || (is_host_loopback(view, address) && !config.host_loopback) {
        return Destination::Forbidden;
    }
    Destination::Outside(address)
}

/// What a TCP or UDP port of the gateway that the gateway does not serve itself leads to.
pub(super) fn gateway_port(view: &View) -> Option<IpAddr> {
    (view.config.host_loopback && !view.config.internal).then_some(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The address under which the container knows a peer that the host calls `peer`: the mirror of [`gateway_port`]. `None`: a peer
/// that may not send to the container.
pub(super) fn apparent(view: &View, peer: IpAddr) -> Option<Ipv4Addr> {
    match (peer.to_canonical(), gateway_port(view)) {
        (peer, Some(loopback)) if peer == loopback => view.config.ip,
        (peer, _) => match (peer, destination(view, peer)) {
            (IpAddr::V4(v4), Destination::Outside(_)) => Some(v4),
            _ => None,
        },
    }
}

/// Whether a publication's client may appear under its own address: not if that address means something else inside.
pub(super) fn client_keeps_address(view: &View, client: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V4(client) = client.to_canonical() else { return None };
    let own = view.config.subnet.contains(&client) || view.loopback.contains(&client.into());
    (!own && !client.is_loopback() && !client.is_link_local() && is_host(client.into())).then_some(client)
}

/// An address that one host can have.
fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !matches!(v4.octets(), [0 | 224..=255, ..]),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast(),
    }
}

fn is_host_loopback(view: &View, address: IpAddr) -> bool {
    address.is_loopback() || view.loopback.iter().any(|own| own.to_canonical() == address)
}
