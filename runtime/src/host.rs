//! What an instance needs to know of the host it runs on, and the rights it gives up there. It changes nothing of the host.

use std::{
    collections::BTreeSet,
    env, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
};

use caps::{CapSet, Capability};
use futures_util::TryStreamExt;
use ipnet::{IpNet, Ipv4Net};
use netloom_switch::gateway::HostAddresses;
use nix::{
    ifaddrs::getifaddrs,
    net::if_::{InterfaceFlags, if_nametoindex},
    sys::{socket::SockaddrStorage, utsname::uname},
};
use rtnetlink::{
    RouteMessageBuilder,
    packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
};

use crate::{fabric::ping_sockets_are_allowed, spec::Backend, switches::Feature, sys};

/// The environment variable that names a backend.
pub(crate) const BACKEND: &str = "NETLOOM_BACKEND";

/// Since then virtio-net headers tell of UDP superframes.
const USO_SINCE: (u32, u32) = (6, 2);

/// Why the host would not tell, or not let go.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("cannot read the host's routes: {source}")]
    Netlink { source: io::Error },
    #[error("cannot read the host's routes: {source}")]
    Routes { source: rtnetlink::Error },
    #[error("cannot read the host's addresses: {source}")]
    Addresses { source: nix::Error },
    #[error("cannot give up capabilities: {source}")]
    Capabilities { source: caps::errors::CapsError },
}

/// The number of one of the host's interfaces, while it has it.
#[must_use]
pub fn interface_number(name: &str) -> Option<u32> {
    if_nametoindex(name).ok()
}

/// Every IPv4 destination that the host has a route to, of all tables, without the default route.
pub async fn routes() -> Result<Vec<IpNet>, HostError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|source| HostError::Netlink { source })?;
    let connection = tokio::spawn(connection);
    let request = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let all = handle.route().get(request).execute().try_collect::<Vec<_>>().await;
    connection.abort();
    let all = all.map_err(|source| HostError::Routes { source })?;
    Ok(all.iter().filter_map(destination).collect::<BTreeSet<_>>().into_iter().collect())
}

fn destination(route: &RouteMessage) -> Option<IpNet> {
    if matches!(route.header.kind, RouteType::Broadcast | RouteType::Multicast | RouteType::Anycast) {
        return None;
    }
    let prefix = route.header.destination_prefix_length;
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
        _ => None,
    })?;
    Ipv4Net::new(address, prefix).ok().filter(|net| net.prefix_len() > 0).map(|net| IpNet::V4(net.trunc()))
}

/// The host's own addresses: to the world it speaks from the one that its default route names, without one from the first that is up.
pub fn addresses() -> Result<HostAddresses, HostError> {
    let all = getifaddrs().map_err(|source| HostError::Addresses { source })?;
    let (lo, others): (Vec<_>, Vec<_>) = all.partition(|interface| interface.flags.contains(InterfaceFlags::IFF_LOOPBACK));
    let loopback: Vec<_> = lo.iter().filter_map(|interface| ip(&interface.address?)).collect();
    let own = |to: IpAddr| {
        let up = others.iter().filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP));
        let others = up.filter_map(|interface| ip(&interface.address?)).filter(|ip| ip.is_ipv4() == to.is_ipv4() && !is_link_local(*ip));
        speaks_from(to).into_iter().chain(others).find(|ip| !loopback.contains(ip))
    };
    let own = SOMEWHERE.into_iter().filter_map(own).collect();
    Ok(HostAddresses { loopback, own })
}

/// Addresses of nobody (RFC 5737 and RFC 3849), to which only a default route leads. Nothing is sent there.
const SOMEWHERE: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// The address that the kernel would speak from.
fn speaks_from(to: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((to, 9)).ok()?;
    socket.local_addr().ok().map(|from| from.ip())
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

/// Whether this kernel takes and gives UDP superframes with a virtio-net header.
pub fn has_uso() -> bool {
    let version = uname().ok().and_then(|name| version(&name.release().to_string_lossy()));
    version.is_none_or(|version| version >= USO_SINCE) && !Feature::Uso.is_off()
}

/// Major and minor number of a kernel's release.
pub(crate) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The backend of interfaces whose network leaves it open, as the environment says; `Err` is a word that names none.
pub(crate) fn default_backend() -> Result<Option<Backend>, String> {
    match env::var(BACKEND) {
        Err(_) => Ok(None),
        Ok(word) if word.is_empty() => Ok(None),
        Ok(word) => Backend::of_name(&word).map(Some).ok_or(word),
    }
}

/// Gives up the capabilities of the calling thread, and so of all threads that it starts; only CAP_NET_RAW stays where the host has
/// no ping sockets for us, since pings of containers then leave by raw ones. Root stays user 0: what it executes has the
/// capabilities of the bounding set again.
pub fn drop_capabilities() -> Result<(), HostError> {
    let failed = |source| HostError::Capabilities { source };
    let mut keep = caps::read(None, CapSet::Permitted).map_err(failed)?;
    keep.retain(|capability| *capability == Capability::CAP_NET_RAW && !ping_sockets_are_allowed());
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &keep).map_err(failed)?;
    }
    for set in [CapSet::Ambient, CapSet::Inheritable] {
        caps::clear(None, set).map_err(failed)?;
    }
    Ok(())
}

/// How many frames the kernel dropped that an interface in the network namespace of a process should have sent: proc_pid_net(5), `dev`.
/// `None` where there is no such process or interface.
pub fn transmit_drops(pid: i32, interface: &str) -> Option<u64> {
    drops_of(&fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?, interface)
}

/// Behind the interface's name stand eight numbers of what was received, then those of what was sent: bytes, packets, errors, drops.
fn drops_of(table: &str, interface: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
    line.split_whitespace().nth(8 + 3)?.parse().ok()
}

/// Lets no program that this one executes have its descriptors but the three standard ones.
pub fn close_inherited_on_exec() -> io::Result<()> {
    sys::fd::close_on_exec_from(3).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lo_has_the_address_that_every_host_gives_it() {
        assert!(addresses().unwrap().loopback.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }

    #[test]
    fn drops_are_those_of_what_was_sent_by_the_interface_of_that_name() {
        let table = "Inter-|   Receive  |  Transmit\n face |bytes packets\n  eth01: 1 1 1 1 1 1 1 1 2 2 2 2 2 2 2 2\n\
                     eth0: 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25\n";
        assert_eq!(drops_of(table, "eth0"), Some(21));
        assert_eq!(drops_of(table, "eth"), None);
    }

    #[test]
    fn releases_of_distributions_have_a_version() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("5.12+"), Some((5, 12)));
        assert_eq!(version("plan9"), None);
    }

    #[test]
    fn the_default_route_and_broadcasts_are_no_destinations() {
        let mut route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(Ipv4Addr::new(10, 1, 0, 0), 16).build();
        assert_eq!(destination(&route), Some("10.1.0.0/16".parse().unwrap()));
        route.header.kind = RouteType::Broadcast;
        assert_eq!(destination(&route), None);
        assert_eq!(destination(&RouteMessageBuilder::<Ipv4Addr>::new().build()), None);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_routes_of_this_host_can_be_read() {
        let routes = routes().await.unwrap();
        assert!(routes.iter().all(|net| net.prefix_len() > 0));
    }
}
