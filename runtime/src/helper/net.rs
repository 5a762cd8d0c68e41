//! The links, addresses and routes of a container's network namespace, over rtnetlink from within it.

use std::{fs, net::Ipv4Addr, os::fd::OwnedFd};

use futures_util::TryStreamExt;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder, packet_route::route::RouteProtocol};

use crate::{
    fault::{Doing, Fault, Result},
    spec::Attachment,
    tap,
};

/// As docker's veth has none and a TAP would have 500: frames that wait here wait in the container, where its sender feels them.
const QUEUE_LEN: u32 = 1000;
const LOOPBACK: &str = "lo";

/// Sets `lo` up and makes an interface for each attachment, in the caller's network namespace. Returns the TAPs in their order.
pub(crate) fn configure(attachments: &[Attachment]) -> Result<Vec<OwnedFd>> {
    no_autoconfiguration();
    let taps = attachments.iter().map(open_tap).collect::<Result<Vec<_>>>()?;
    with_netlink(async |handle| {
        set_up(&handle, LinkUnspec::new_with_name(LOOPBACK), LOOPBACK).await?;
        for attachment in attachments {
            add(&handle, attachment).await?;
        }
        Ok(())
    })?;
    Ok(taps)
}

/// Makes one more interface.
pub(crate) fn connect(attachment: &Attachment) -> Result<OwnedFd> {
    let tap = open_tap(attachment)?;
    with_netlink(async |handle| add(&handle, attachment).await)?;
    Ok(tap)
}

fn open_tap(attachment: &Attachment) -> Result<OwnedFd> {
    let hint = match () {
        () if fs::metadata(tap::DEVICE).is_err() => "`modprobe tun` makes the device; `netloom doctor` tells more",
        () => "it must be readable and writable for you, as it is on most systems (mode 666); `netloom doctor` tells more",
    };
    tap::open(&attachment.ifname, tap::Options::default()).map_err(|error| match error {
        tap::TapError::Device(_) => Fault::refused(error.to_string(), hint),
        other => Fault::Refused { message: other.to_string(), hint: None },
    })
}

/// Addresses come from the IPAM alone. Where there is no IPv6 there is nothing to turn off.
fn no_autoconfiguration() {
    for setting in ["accept_ra", "autoconf"] {
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/default/{setting}"), "0");
    }
}

fn with_netlink(work: impl AsyncFnOnce(Handle) -> Result<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().doing("start netlink")?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().doing("open a netlink socket")?;
        let connection = tokio::spawn(connection);
        let done = work(handle).await;
        connection.abort();
        done
    })
}

async fn add(handle: &Handle, attachment: &Attachment) -> Result<()> {
    let Attachment { ifname, mac, ip, prefix_len, gateway, default_route, mtu, .. } = attachment;
    let link = LinkUnspec::new_with_name(ifname).address(mac.0.to_vec()).mtu(u32::from(*mtu)).txqueuelen(QUEUE_LEN);
    set_up(handle, link, ifname).await?;
    let index = index_of(handle, ifname).await?;
    let added = handle.address().add(index, (*ip).into(), *prefix_len).execute().await;
    added.map_err(|error| netlink(format!("give {ifname} the address {ip}/{prefix_len}"), error))?;
    if let Some(gateway) = gateway.filter(|_| *default_route) {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).output_interface(index).protocol(RouteProtocol::Boot).build();
        let added = handle.route().add(route).execute().await;
        added.map_err(|error| netlink(format!("set the default route to {gateway}"), error))?;
    }
    Ok(())
}

async fn set_up(handle: &Handle, link: LinkMessageBuilder<LinkUnspec>, name: &str) -> Result<()> {
    let set = handle.link().set(link.up().build()).execute().await;
    set.map_err(|error| netlink(format!("set {name} up"), error))
}

async fn index_of(handle: &Handle, name: &str) -> Result<u32> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    let link = links.try_next().await.map_err(|error| netlink(format!("find {name}"), error))?;
    link.map(|link| link.header.index).ok_or_else(|| Fault::Refused { message: format!("the interface {name} is gone"), hint: None })
}

fn netlink(what: String, error: rtnetlink::Error) -> Fault {
    match error {
        rtnetlink::Error::NetlinkError(message) => Fault::system(what, message.to_io()),
        other => Fault::Refused { message: format!("cannot {what}: {other}"), hint: None },
    }
}
