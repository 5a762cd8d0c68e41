//! The default routes of a container's network namespace: to the gateway, which ends every stream that comes to it.
//!
//! It adds routes, and takes away those that it added. One of somebody else's making is never changed.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures_util::TryStreamExt;
use rtnetlink::{
    Handle, RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        route::{RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteType},
    },
};

use super::net::index_of;
use crate::{
    fault::{Fault, Result},
    netlink,
    rootfs::fresh,
    spec::Attachment,
};

/// Whether somebody chose the congestion control of a container's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Congestion {
    /// `--sysctl net.ipv4.tcp_congestion_control=NAME`.
    Chosen,
    /// It is the host's.
    Inherited,
}

impl Congestion {
    /// What the sysctls say that a container was created with.
    pub(crate) fn of(sysctls: &[(String, String)]) -> Self {
        let chosen = sysctls.iter().any(|(key, _)| fresh::sysctl_path(key) == "net/ipv4/tcp_congestion_control");
        if chosen { Self::Chosen } else { Self::Inherited }
    }

    /// What a stream to the gateway begins with instead, if anything.
    ///
    /// BBR sends at the rate that it saw acknowledged, which is right on a path and only waits where the next hop is a process on the
    /// same machine: what leaves the host does so from the host's own sockets, with the host's own choice.
    fn towards_gateway(self) -> Option<&'static str> {
        let default = || fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap_or_default();
        match self {
            Self::Chosen => None,
            Self::Inherited => default().starts_with("bbr").then_some("cubic"),
        }
    }
}

/// Adds a default route to each of `gateways` by the interface.
pub(super) async fn add_default(handle: &Handle, ifname: &str, gateways: &[IpAddr], congestion: Congestion) -> Result<()> {
    let index = index_of(handle, ifname).await?;
    for gateway in gateways {
        add_one(handle, *gateway, index, congestion).await?;
    }
    Ok(())
}

async fn add_one(handle: &Handle, gateway: IpAddr, index: u32, congestion: Congestion) -> Result<()> {
    let congestion = congestion.towards_gateway();
    let mut added = handle.route().add(default_to(gateway, index, congestion)).execute().await;
    if added.is_err() && congestion.is_some() {
        // A kernel without that congestion control.
        added = handle.route().add(default_to(gateway, index, None)).execute().await;
    }
    added.map_err(|error| netlink::refused(format!("set the default route to {gateway}"), error))
}

/// Takes away the default routes that were planned `before` and are not `now`, and adds those that are. Where somebody in the container
/// has set one that is in the way, that one stays.
pub(super) async fn follow(handle: &Handle, before: &[Attachment], now: &[Attachment], congestion: Congestion) -> Result<()> {
    let (before, now) = (ways(before), ways(now));
    for (ifname, gateway) in before.difference(&now) {
        remove_default(handle, ifname, *gateway).await?;
    }
    for (ifname, gateway) in now {
        let index = index_of(handle, ifname).await?;
        add_one(handle, gateway, index, congestion).await.or_else(|fault| unless(fault, libc::EEXIST))?;
    }
    Ok(())
}

/// The planned default routes: by which interface, and to where.
fn ways(attachments: &[Attachment]) -> BTreeSet<(&str, IpAddr)> {
    attachments.iter().flat_map(|attachment| attachment.gateways().map(|gateway| (attachment.ifname.as_str(), gateway))).collect()
}

/// The route may have gone with its interface, or by the hand of somebody in the container.
async fn remove_default(handle: &Handle, ifname: &str, gateway: IpAddr) -> Result<()> {
    let Ok(index) = index_of(handle, ifname).await else { return Ok(()) };
    let removed = handle.route().del(default_to(gateway, index, None)).execute().await;
    let removed = removed.map_err(|error| netlink::refused(format!("take away the default route to {gateway}"), error));
    removed.or_else(|fault| unless(fault, libc::ESRCH))
}

/// The fault, unless it is this error.
fn unless(fault: Fault, errno: i32) -> Result<()> {
    if fault.errno() == errno { Ok(()) } else { Err(fault) }
}

fn default_to(gateway: IpAddr, index: u32, congestion: Option<&str>) -> RouteMessage {
    let protocol = RouteProtocol::Boot;
    let mut route = match gateway {
        IpAddr::V4(gateway) => RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).output_interface(index).protocol(protocol).build(),
        IpAddr::V6(gateway) => RouteMessageBuilder::<Ipv6Addr>::new().gateway(gateway).output_interface(index).protocol(protocol).build(),
    };
    let metric = congestion.map(|name| RouteAttribute::Metrics(vec![RouteMetric::CcAlgo(name.to_owned())]));
    route.attributes.extend(metric);
    route
}

/// Whether the main table has a way to everywhere, of `gateway`'s family.
pub(super) async fn has_default(handle: &Handle, gateway: IpAddr) -> Result<bool> {
    let (family, all) = match gateway {
        IpAddr::V4(_) => (AddressFamily::Inet, RouteMessageBuilder::<Ipv4Addr>::new().build()),
        IpAddr::V6(_) => (AddressFamily::Inet6, RouteMessageBuilder::<Ipv6Addr>::new().build()),
    };
    let mut routes = handle.route().get(all).execute();
    while let Some(route) = routes.try_next().await.map_err(|error| netlink::refused("read the routes".to_owned(), error))? {
        let header = &route.header;
        let to_all = header.address_family == family && header.destination_prefix_length == 0;
        if to_all && header.table == RouteHeader::RT_TABLE_MAIN && header.kind == RouteType::Unicast {
            return Ok(true);
        }
    }
    Ok(false)
}
