//! What routers and peers report about packets of ours: the kernel's error queue (ip(7), IP_RECVERR, and ipv6(7), IPV6_RECVERR).

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    os::fd::RawFd,
};

use netloom_switch::gateway::{OutsideError, Report};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, cmsg_space, recvmsg};

use super::sockets;

/// An error from the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported {
    /// Where the packet went.
    pub(super) to: SocketAddr,
    pub(super) error: OutsideError,
    /// The ICMP message that said so; `None` if the host found out by itself.
    pub(super) report: Option<Report>,
    /// How much of the packet's payload was read.
    pub(super) quoted: usize,
}

/// Takes the oldest error of a socket that tells whose it is, and the beginning of the packet's payload; `None`: there is none.
pub(super) fn next(fd: RawFd, payload: &mut [u8]) -> Option<Reported> {
    const ERROR: usize = cmsg_space::<(libc::sock_extended_err, libc::sockaddr_in6)>();
    const OTHERS: usize = 4 * cmsg_space::<libc::in6_pktinfo>();
    loop {
        let mut space = [0; ERROR + OTHERS];
        let mut slices = [IoSliceMut::new(payload)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut space), flags).ok()?;
        let told = message.cmsgs().ok()?.find_map(|ancillary| match ancillary {
            ControlMessageOwned::Ipv4RecvErr(error, offender) => {
                Some((error, offender.map(|offender| IpAddr::from(offender.sin_addr.s_addr.to_ne_bytes()))))
            }
            ControlMessageOwned::Ipv6RecvErr(error, offender) => {
                Some((error, offender.map(|offender| IpAddr::from(offender.sin6_addr.s6_addr).to_canonical())))
            }
            _ => None,
        });
        let (Some((error, offender)), Some(to)) = (told, message.address.as_ref().and_then(address)) else { continue };
        let by_icmp = matches!(error.ee_origin, libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6);
        let report = offender.filter(|_| by_icmp).map(|from| Report {
            from,
            kind: error.ee_type,
            code: error.ee_code,
            mtu: u16::try_from(error.ee_info).unwrap_or_default(),
        });
        let error = match sockets::error(&io::Error::from_raw_os_error(i32::try_from(error.ee_errno).unwrap_or_default())) {
            OutsideError::MessageTooLong(_) => OutsideError::MessageTooLong(u16::try_from(error.ee_info).unwrap_or_default()),
            other => other,
        };
        return Some(Reported { to, error, report, quoted: message.bytes });
    }
}

/// A peer's address, without the disguise that a socket of both families gives one of IPv4.
pub(super) fn address(peer: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = peer.as_sockaddr_in().map(|peer| SocketAddr::from((peer.ip(), peer.port())));
    v4.or_else(|| peer.as_sockaddr_in6().map(|peer| sockets::canonical(SocketAddr::V6((*peer).into()))))
}
