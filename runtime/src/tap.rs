//! TAP interfaces: made inside a container's network namespace, so that nothing appears on the host and only a descriptor comes
//! out.
//!
//! [`open`] works in the network namespace of its caller, a single-threaded helper that entered it; reading and writing frames
//! is [`TapPort`](crate::fabric::TapPort)'s, in the process that got the descriptor.
//!
//! The interface is driven by five ioctls of our own. The tun-tap crate (0.1.4) cannot ask for IFF_VNET_HDR, without which a
//! superframe cannot cross and TCP is seven times slower; tun-rs (2.8) sets up addresses, routes and DNS on six systems, brings
//! an async layer, and keeps its virtio-net header and offload flags for a cut of superframes on read that a switch must not
//! make: forwarding them whole is what makes it fast.

use std::{
    ffi::CString,
    fs::OpenOptions,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
};

use libc::{c_int, c_uint};

use netloom_switch::vnet::VNET_HEADER;

use crate::{host, switches::Feature, sys::tun};

/// The device that TAPs are made from.
pub const DEVICE: &str = "/dev/net/tun";

/// What the kernel may leave undone in a frame that it hands to the switch.
const OFFLOADS: c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
/// Since Linux 6.2, and both at once or neither.
const UDP_OFFLOADS: c_uint = libc::TUN_F_USO4 | libc::TUN_F_USO6;

/// How an interface is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Frames enter the namespace through NAPI: shorter latency, fewer small frames a second. Fixed for the interface's life.
    pub napi: bool,
}

/// Why an interface could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    #[error("cannot open {DEVICE}: {0}")]
    Device(io::Error),
    #[error("`{0}` is not an interface name: 1 to 15 bytes, no NUL")]
    Name(String),
    #[error("cannot make the interface `{name}`: {source}")]
    Interface { name: String, source: io::Error },
    #[error("the kernel's TAP does not do {what}: {source}")]
    Unable { what: &'static str, source: io::Error },
}

/// Makes the TAP `name` in the caller's network namespace and returns its descriptor, non-blocking and close-on-exec. The
/// interface is down and is gone once the descriptor's last copy is closed.
pub fn open(name: &str, options: Options) -> Result<OwnedFd, TapError> {
    let tap = open_device().map_err(TapError::Device)?;
    let wrong_name = || TapError::Name(name.to_owned());
    let c_name = CString::new(name).ok().filter(|name| (1..libc::IFNAMSIZ).contains(&name.count_bytes())).ok_or_else(wrong_name)?;
    let napi = if options.napi { libc::IFF_NAPI } else { 0 };
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | napi;
    tun::set_interface(tap.as_fd(), &c_name, flags).map_err(|errno| TapError::Interface { name: name.to_owned(), source: errno.into() })?;
    set_up(tap.as_fd())?;
    Ok(tap)
}

/// Opens the device: whether TAPs can be had at all.
pub(crate) fn open_device() -> io::Result<OwnedFd> {
    if Feature::Tun.is_off() {
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    }
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE).map(OwnedFd::from)
}

fn set_up(tap: BorrowedFd<'_>) -> Result<(), TapError> {
    let unable = |what| move |errno: nix::Error| TapError::Unable { what, source: errno.into() };
    tun::set_vnet_header_size(tap, VNET_HEADER as c_int).map_err(unable("virtio-net headers of 12 bytes"))?;
    tun::set_vnet_little_endian(tap).map_err(unable("little-endian virtio-net headers"))?;
    let wanted = if host::has_uso() { OFFLOADS | UDP_OFFLOADS } else { OFFLOADS };
    tun::set_offload(tap, wanted).or_else(|_| tun::set_offload(tap, OFFLOADS)).map_err(unable("checksum and TCP segmentation offload"))
}
