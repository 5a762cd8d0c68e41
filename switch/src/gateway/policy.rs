//! Where a container may send: the one table of destinations.
//!
//! | destination | what happens |
//! |---|---|
//! | the gateway's addresses | the gateway answers; its other TCP and UDP ports lead to the host's own address, as docker's `host-gateway`, and with `host_loopback` to 127.0.0.1 or ::1, as in slirp; of an internal network nowhere |
//! | another address of the subnets, fe80::/10 | dropped: such a host is reached on the link or not at all |
//! | 0/8, multicast, 240/4, broadcast, ::, ff00::/8 | never goes out (RFC 1122, 3.2.1.3, and RFC 4291, 2.5.2) |
//! | ::ffff:0:0/96 | never goes out: on a wire such an address means nothing, to connect() it is the IPv4 address in it |
//! | 127/8, ::1, every address of the host's `lo` | only with `host_loopback`: connect() to any of these reaches loopback services |
//! | the prefixes of other networks | never goes out: their containers are not there, and what is sent to them is nobody else's business |
//! | everything else | goes out, unless the network is internal |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

/// Classifies a destination.
pub(super) fn destination(view: &View, address: IpAddr) -> Destination {
    let config = &view.config;
    if config.is_own(address) {
        return Destination::Gateway;
    }
    if is_on_link(view, address) {
        return Destination::Subnet;
    }
    if config.internal || is_on_another(view, address) || !is_host(address) || (is_host_loopback(view, address) && !config.host_loopback) {
        return Destination::Forbidden;
    }
    Destination::Outside(address)
}

/// What a TCP or UDP port of the gateway's address `own` that the gateway does not serve itself leads to. Its link-local address
/// leads nowhere: a datagram from ::1 could not tell which of two addresses it answers for.
pub(super) fn gateway_port(view: &View, own: IpAddr) -> Option<IpAddr> {
    match own {
        _ if view.config.internal => None,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => None,
        _ if view.config.host_loopback => Some(loopback(own)),
        _ => view.host.own(own).filter(|own| !is_host_loopback(view, *own)),
    }
}

const fn loopback(of: IpAddr) -> IpAddr {
    match of {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}

/// The address under which the container knows a peer that the host calls `peer`: the mirror of [`gateway_port`]. `by_gateway`: of the
/// host's two names for itself the container has used the gateway's. `None`: a peer that may not send to the container.
pub(super) fn apparent(view: &View, peer: IpAddr, by_gateway: bool) -> Option<IpAddr> {
    let peer = peer.to_canonical();
    if gateway_port(view, peer) == Some(peer) && (by_gateway || peer == loopback(peer)) {
        return view.config.own_towards(peer);
    }
    matches!(destination(view, peer), Destination::Outside(_)).then_some(peer)
}

/// Whether a client of a publication that leads to the container's address `inside` may appear under its own address: not if that
/// address means something else inside, or is of the other IP.
pub(super) fn client_keeps_address(view: &View, client: IpAddr, inside: IpAddr) -> Option<IpAddr> {
    let client = client.to_canonical();
    let elsewhere = matches!(client, IpAddr::V4(v4) if v4.is_link_local()) || is_on_link(view, client) || is_host_loopback(view, client);
    (client.is_ipv4() == inside.is_ipv4() && !elsewhere && is_host(client)).then_some(client)
}

/// Whether the container looks for such an address on its own link.
fn is_on_link(view: &View, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => view.config.subnet.contains(&v4),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || view.config.ipv6.is_some_and(|ipv6| ipv6.subnet.contains(&v6)),
    }
}

/// Whether it is one of another network.
fn is_on_another(view: &View, address: IpAddr) -> bool {
    let behind = view.networks.partition_point(|prefix| prefix.network() <= address);
    behind.checked_sub(1).and_then(|at| view.networks.get(at)).is_some_and(|prefix| prefix.contains(&address))
}

/// An address that one host can have.
fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !matches!(v4.octets(), [0 | 224..=255, ..]),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast() && v6.to_ipv4_mapped().is_none(),
    }
}

fn is_host_loopback(view: &View, address: IpAddr) -> bool {
    address.is_loopback() || view.host.loopback.iter().any(|own| own.to_canonical() == address)
}
