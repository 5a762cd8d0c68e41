//! The veth backend: a pair of interfaces, one end for a container, the other heard and spoken to through a packet socket.
//!
//! ```text
//!   container's namespace            ports namespace: nothing but this
//!   ┌──────────────────┐             ┌──────────────────────────────┐
//!   │ eth0 ════════════╪═════════════╪═ port   AF_PACKET ───────────╪──▶ descriptor, a port of the switch
//!   └──────────────────┘             └──────────────────────────────┘
//! ```
//!
//! For machines whose /dev/net/tun is missing or closed. The far end lies in a network namespace that no process is in: the packet
//! socket alone keeps it, so both ends are gone once the descriptor's last copy is closed, as with a TAP. The far end has no
//! address, no IPv6 and no ARP; it sends only what the switch sends.
//!
//! [`open`] works in the network namespace of its caller, a single-threaded helper that entered it; reading and writing frames is
//! [`PacketPort`](crate::fabric::PacketPort)'s, in the process that got the descriptor.

use std::{
    ffi::CString,
    fs,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use nix::{
    fcntl::{OFlag, open as open_file},
    net::if_::if_nametoindex,
    sched::{CloneFlags, setns, unshare},
    sys::{
        socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt},
        stat::Mode,
    },
};
use rtnetlink::{
    LinkUnspec, LinkVeth,
    packet_route::link::{InfoData, InfoVeth},
};

use crate::{
    fault::{Doing, Result},
    host,
    netlink::{self, with_netlink},
    sys::{self, ethtool, packet},
};

/// What the far end is called; it is alone where it lies.
const FAR: &str = "port";

/// Of the far end: the most that there is, so that the container's end alone decides.
const FAR_MTU: u32 = 65_535;

/// Bytes of frames from the container that may wait for a worker: as many superframes as a TAP's queue has while TCP is well
/// behaved. An ordinary user gets what net.core.rmem_max allows.
const RECEIVE_BUFFER: usize = 8 * 1024 * 1024;

/// Bytes of frames from the switch that may wait for the namespace's stack to take them.
const SEND_BUFFER: usize = 8 * 1024 * 1024;

/// Makes a pair whose near end is `name` in the caller's network namespace, down, and returns the far end's packet socket,
/// non-blocking and close-on-exec. The interface is gone once its last copy is closed.
pub(crate) fn open(name: &str) -> Result<OwnedFd> {
    let own = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let here = open_file("/proc/self/ns/net", own, Mode::empty()).doing("open the container's network namespace")?;
    unshare(CloneFlags::CLONE_NEWNET).doing("make a network namespace for a port")?;
    let socket = make_pair(name, &here).and_then(|()| hear());
    setns(&here, CloneFlags::CLONE_NEWNET).doing("enter the container's network again")?;
    let socket = socket?;
    limit_offloads(name)?;
    Ok(socket)
}

/// In the ports namespace: the far end, up, and the near one, away.
fn make_pair(name: &str, near: &OwnedFd) -> Result<()> {
    // Where there is no IPv6 there is nothing to turn off.
    let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    let peer = LinkUnspec::new_with_name(name).setns_by_fd(near.as_raw_fd()).build();
    let pair = LinkVeth::new(FAR, name).set_info_data(InfoData::Veth(InfoVeth::Peer(peer))).mtu(FAR_MTU).arp(false).up().build();
    with_netlink(async |handle| {
        let made = handle.link().add(pair).execute().await;
        made.map_err(|error| netlink::refused(format!("make the veth pair of {name}"), error))
    })
}

/// The socket that hears the far end. Everything is set before the first frame can come. A pair hands over every frame, whoever it
/// is for, so no promiscuous mode is needed, of which the kernel's log would tell; and it has no queue that PACKET_QDISC_BYPASS
/// could go round, which would only drop what the kernel has to cut.
fn hear() -> Result<OwnedFd> {
    let what = "open a packet socket";
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None).doing(what)?;
    for option in [libc::PACKET_VNET_HDR, libc::PACKET_AUXDATA, libc::PACKET_IGNORE_OUTGOING] {
        sys::socket::set(socket.as_fd(), libc::SOL_PACKET, option, 1).doing(what)?;
    }
    let receive = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
    receive.or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)).doing(what)?;
    let send = setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER);
    send.or_else(|_| setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER)).doing(what)?;
    let index = if_nametoindex(FAR).doing("find the far end of a veth pair")?;
    packet::bind(socket.as_fd(), index).doing(what)?;
    Ok(socket)
}

/// Has the container's kernel do itself what a virtio-net header cannot say: tunnels' superframes and SCTP's checksum.
fn limit_offloads(name: &str) -> Result<()> {
    let what = || format!("limit the offloads of {name}");
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).doing(what())?;
    let interface = CString::new(name).doing(what())?;
    let names = ethtool::feature_names(socket.as_fd(), &interface).doing(what())?;
    let has_uso = host::has_uso();
    let off: Vec<_> = names.iter().enumerate().filter(|(_, name)| !can_be_said(name, has_uso)).map(|(bit, _)| bit).collect();
    ethtool::turn_off(socket.as_fd(), &interface, names.len(), &off).doing(what())
}

/// Whether what a frame looks like with this feature of its sender's device fits into a virtio-net header.
fn can_be_said(feature: &str, has_uso: bool) -> bool {
    match feature {
        "tx-generic-segmentation" | "tx-tcp-segmentation" | "tx-tcp6-segmentation" => true,
        "tx-tcp-ecn-segmentation" | "tx-tcp-mangleid-segmentation" => true,
        "tx-udp-segmentation" => has_uso,
        "tx-checksum-sctp" | "tx-gso-list" | "tx-gso-partial" => false,
        other => !(other.starts_with("tx-") && other.ends_with("-segmentation")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_header_can_say_is_left_to_others() {
        for feature in ["tx-checksum-ip-generic", "tx-generic-segmentation", "tx-tcp6-segmentation", "tx-scatter-gather", "rx-gro", ""] {
            assert!(can_be_said(feature, false), "{feature}");
        }
        for feature in ["tx-udp_tnl-csum-segmentation", "tx-sctp-segmentation", "tx-checksum-sctp", "tx-udp-segmentation"] {
            assert!(!can_be_said(feature, false), "{feature}");
        }
        assert!(can_be_said("tx-udp-segmentation", true));
    }
}
