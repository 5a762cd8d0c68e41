//! The links, addresses and routes of a container's network namespace, over rtnetlink from within it.

use std::{fs, net::IpAddr, os::fd::OwnedFd};

use futures_util::TryStreamExt;
use nix::net::if_::if_nametoindex;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, packet_route::address::AddressHeaderFlags};

use super::route::{self, Congestion};
use crate::{
    fault::{Fault, Result},
    host,
    netlink::{self, with_netlink},
    spec::{Attachment, Backend},
    tap, veth,
};

/// As docker's veth has none and a TAP would have 500: frames that wait here wait in the container, where its sender feels them.
const QUEUE_LEN: u32 = 1000;
const LOOPBACK: &str = "lo";

/// An interface as it was made, and the descriptor that it hangs on.
pub(crate) type Link = (Attachment, OwnedFd);

/// Sets `lo` up and makes an interface for each attachment, in the caller's network namespace. Returns them in their order.
pub(crate) fn configure(attachments: &[Attachment], congestion: Congestion) -> Result<Vec<Link>> {
    no_autoconfiguration();
    let links = attachments.iter().map(open).collect::<Result<Vec<_>>>()?;
    with_netlink(async |handle| {
        set_up(&handle, LinkUnspec::new_with_name(LOOPBACK), LOOPBACK).await?;
        for attachment in attachments {
            add_with_routes(&handle, attachment, congestion).await?;
        }
        Ok(())
    })?;
    Ok(links)
}

/// Makes one more interface. Where the default routes go from then on is for [`follow`] to set.
pub(crate) fn connect(attachment: &Attachment) -> Result<Link> {
    let link = open(attachment)?;
    with_netlink(async |handle| add(&handle, attachment).await)?;
    Ok(link)
}

/// Moves the default routes from where they were planned `before` to where they are `now`.
pub(crate) fn follow(before: &[Attachment], now: &[Attachment], congestion: Congestion) -> Result<()> {
    with_netlink(async |handle| route::follow(&handle, before, now, congestion).await)
}

/// As [`connect`], among links and routes that are not ours: `lo` is set up, for without it an address does not answer itself, and
/// a default route is set only where there is none. Returns the attachment as it came to be.
pub(crate) fn attach(attachment: &Attachment) -> Result<Link> {
    check_free(&attachment.ifname).map_err(|fault| fault.with_hint("choose another name with --ifname"))?;
    let (mut port, fd) = open(attachment)?;
    with_netlink(async |handle| {
        if port.addresses().next().is_some() {
            static_addresses_only(&port);
            set_up(&handle, LinkUnspec::new_with_name(LOOPBACK), LOOPBACK).await?;
        }
        let mut ways = Vec::new();
        for gateway in port.gateways() {
            if !route::has_default(&handle, gateway).await? {
                ways.push(gateway);
            }
        }
        add(&handle, &port).await?;
        route::add_default(&handle, &port.ifname, &ways, Congestion::Inherited).await?;
        port.default_route = ways.iter().any(IpAddr::is_ipv4);
        if let Some(ipv6) = &mut port.ipv6 {
            ipv6.default_route = ways.iter().any(IpAddr::is_ipv6);
        }
        Ok(())
    })?;
    Ok((port, fd))
}

/// Removes an interface.
pub(crate) fn remove(ifname: &str) -> Result<()> {
    with_netlink(async |handle| {
        let index = index_of(&handle, ifname).await?;
        let removed = handle.link().del(index).execute().await;
        removed.map_err(|error| netlink::refused(format!("remove {ifname}"), error))
    })
}

/// Makes an interface by the backend that was asked for; if none was, a TAP where they can be had, else a veth pair.
fn open(attachment: &Attachment) -> Result<Link> {
    let name = &attachment.ifname;
    check_free(name)?;
    let (backend, fd) = match attachment.backend.map_or_else(of_environment, |backend| Ok(Some(backend)))? {
        Some(Backend::Tap) => (Backend::Tap, open_tap(name).map_err(device_fault)?),
        Some(Backend::Veth) => (Backend::Veth, veth::open(name)?),
        None => match open_tap(name) {
            Ok(tap) => (Backend::Tap, tap),
            Err(error @ tap::TapError::Device(_)) => {
                let pair = veth::open(name);
                (
                    Backend::Veth,
                    pair.map_err(|fault| fault.with_hint(format!("a TAP cannot be had either: {error}; see `netloom doctor`")))?,
                )
            }
            Err(error) => return Err(device_fault(error)),
        },
    };
    Ok((Attachment { backend: Some(backend), ..attachment.clone() }, fd))
}

/// What the command that started the container says.
fn of_environment() -> Result<Option<Backend>> {
    let refused = |word: String| Fault::refused(format!("{} is `{word}`, which is no backend", host::BACKEND), "tap or veth");
    host::default_backend().map_err(refused)
}

fn open_tap(name: &str) -> std::result::Result<OwnedFd, tap::TapError> {
    tap::open(name, tap::Options::default())
}

fn device_fault(error: tap::TapError) -> Fault {
    let hint = match fs::exists(tap::DEVICE) {
        Ok(true) => "it must be readable and writable for you, as on most systems (mode 666); a network of `--backend veth` needs none",
        _ => "`modprobe tun` makes the device; a network of `--backend veth` needs none",
    };
    match error {
        tap::TapError::Device(_) => Fault::refused(error.to_string(), hint),
        other => Fault::Refused { message: other.to_string(), hint: None },
    }
}

/// The kernel would attach to a lasting TAP of that name, and says little of any other interface.
fn check_free(ifname: &str) -> Result<()> {
    match exists(ifname) {
        true => Err(Fault::Refused { message: format!("there is an interface `{ifname}` already"), hint: None }),
        false => Ok(()),
    }
}

pub(crate) fn exists(ifname: &str) -> bool {
    if_nametoindex(ifname).is_ok()
}

/// Addresses come from the IPAM alone, which gives none twice: they are not asked for on the network before they are used. Where
/// there is no IPv6 there is nothing to turn off.
fn no_autoconfiguration() {
    for setting in ["accept_ra", "autoconf", "accept_dad", "disable_ipv6"] {
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/default/{setting}"), "0");
    }
}

/// The same for one interface, where the namespace's own settings are not ours to change.
fn static_addresses_only(attachment: &Attachment) {
    let also = attachment.ipv6.map(|_| "disable_ipv6");
    for setting in ["accept_ra", "autoconf"].into_iter().chain(also) {
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{}/{setting}", attachment.ifname), "0");
    }
}

/// The interface with its addresses, up.
async fn add(handle: &Handle, attachment: &Attachment) -> Result<()> {
    let Attachment { ifname, mac, mtu, .. } = attachment;
    let link = LinkUnspec::new_with_name(ifname).address(mac.0.to_vec()).mtu(u32::from(*mtu)).txqueuelen(QUEUE_LEN);
    set_up(handle, link, ifname).await?;
    let index = index_of(handle, ifname).await?;
    for (ip, prefix_len) in attachment.addresses() {
        let mut request = handle.address().add(index, ip, prefix_len);
        if ip.is_ipv6() {
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        let added = request.execute().await;
        added.map_err(|error| netlink::refused(format!("give {ifname} the address {ip}/{prefix_len}"), error))?;
    }
    Ok(())
}

async fn add_with_routes(handle: &Handle, attachment: &Attachment, congestion: Congestion) -> Result<()> {
    add(handle, attachment).await?;
    route::add_default(handle, &attachment.ifname, &attachment.gateways().collect::<Vec<_>>(), congestion).await
}

async fn set_up(handle: &Handle, link: LinkMessageBuilder<LinkUnspec>, name: &str) -> Result<()> {
    let set = handle.link().set(link.up().build()).execute().await;
    set.map_err(|error| netlink::refused(format!("set {name} up"), error))
}

pub(super) async fn index_of(handle: &Handle, name: &str) -> Result<u32> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    let link = links.try_next().await.map_err(|error| netlink::refused(format!("find {name}"), error))?;
    link.map(|link| link.header.index).ok_or_else(|| Fault::Refused { message: format!("the interface {name} is gone"), hint: None })
}
