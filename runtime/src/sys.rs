//! The system calls that no safe wrapper covers: the one file of netloom with unsafe code.
//!
//! Each function makes one call, states why that call is sound, and returns owned or plain values; no policy lives here, and what
//! nix, socket2 or std can do safely is not repeated. Sections go by topic, in alphabetical order.

/// Descriptors that a tokio runtime watches.
pub(crate) mod readiness {
    use std::{io, os::fd::OwnedFd};

    use tokio::io::unix::AsyncFd;

    /// Registers `fd` with the runtime of the calling task.
    pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
        // SAFETY: an OwnedFd stays open and the same descriptor for as long as the AsyncFd owns it.
        unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
    }
}

/// Descriptors as ancillary data (unix(7), SCM_RIGHTS).
pub(crate) mod rights {
    use std::{
        io::IoSlice,
        mem,
        os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        ptr,
    };

    use nix::{
        errno::Errno,
        sys::socket::{ControlMessage, MsgFlags, cmsg_space, sendmsg},
    };

    /// The most descriptors that one message can carry (SCM_MAX_FD in the kernel's include/net/scm.h).
    pub(crate) const MAX: usize = 253;

    /// Sends `bytes` with copies of `fds` as one message. The number of bytes sent is less than `bytes.len()` only on a stream.
    ///
    /// Errors: E2BIG for more than [`MAX`] descriptors, else sendmsg(2)'s.
    pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> nix::Result<usize> {
        if fds.len() > MAX {
            return Err(Errno::E2BIG);
        }
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let ancillary = if raw.is_empty() { &[][..] } else { &rights[..] };
        sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], ancillary, MsgFlags::MSG_NOSIGNAL, None)
    }

    /// Receives one message into `into`, and the descriptors that came with it, close-on-exec. No bytes is the end.
    ///
    /// Errors: EMSGSIZE when the message did not fit `into` or its descriptors did not fit this process's limit (those that came
    /// are closed), else recvmsg(2)'s.
    pub(crate) fn receive(socket: BorrowedFd<'_>, into: &mut [u8]) -> nix::Result<(usize, Vec<OwnedFd>)> {
        let mut space = Space([0; SPACE]);
        let mut slice = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
        // SAFETY: a msghdr of zeros is valid: integers and null pointers.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut slice;
        message.msg_iovlen = 1;
        message.msg_control = space.0.as_mut_ptr().cast();
        message.msg_controllen = SPACE as _;
        // SAFETY: every pointer in the message leads to a live buffer of the length beside it.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        // Taken even from a cut message, where nix would leave them open for ever.
        let fds = if received >= 0 { take(&message) } else { Vec::new() };
        let len = Errno::result(received)? as usize;
        if message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
            return Err(Errno::EMSGSIZE);
        }
        Ok((len, fds))
    }

    const SPACE: usize = cmsg_space::<[RawFd; MAX]>();

    /// Control messages begin at the alignment of their header.
    #[repr(C, align(16))]
    struct Space([u8; SPACE]);

    /// Owns the descriptors of a message that recvmsg(2) has just filled in.
    fn take(message: &libc::msghdr) -> Vec<OwnedFd> {
        let mut fds = Vec::new();
        // SAFETY: the kernel has set the control buffer's length to what it wrote; the macros stay within it.
        let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
        while !header.is_null() {
            // SAFETY: a non-null header points at a whole cmsghdr in the control buffer.
            let (level, kind, len) = unsafe { ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len as usize) };
            if (level, kind) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                // SAFETY: as above; an empty control message's length.
                let empty = unsafe { libc::CMSG_LEN(0) } as usize;
                let count = len.saturating_sub(empty) / size_of::<RawFd>();
                // SAFETY: `count` descriptors follow the header, and the kernel has just made them for this process: nobody else
                // knows their numbers.
                fds.extend(
                    (0..count)
                        .map(|i| unsafe { OwnedFd::from_raw_fd(ptr::read_unaligned(libc::CMSG_DATA(header).cast::<RawFd>().add(i))) }),
                );
            }
            // SAFETY: `header` came from the macros and `message`.
            header = unsafe { libc::CMSG_NXTHDR(message, header) };
        }
        fds
    }
}

/// TUN/TAP devices (the kernel's Documentation/networking/tuntap.rst and include/uapi/linux/if_tun.h).
pub(crate) mod tun {
    use std::{
        ffi::CStr,
        mem,
        os::fd::{AsRawFd, BorrowedFd},
    };

    use libc::{c_int, c_short, c_uint};
    use nix::errno::Errno;

    mod ioctl {
        nix::ioctl_write_ptr_bad!(tunsetiff, libc::TUNSETIFF, libc::ifreq);
        nix::ioctl_write_int_bad!(tunsetoffload, libc::TUNSETOFFLOAD);
        nix::ioctl_write_ptr_bad!(tunsetvnethdrsz, libc::TUNSETVNETHDRSZ, libc::c_int);
        nix::ioctl_write_ptr_bad!(tunsetvnetle, libc::TUNSETVNETLE, libc::c_int);
        nix::ioctl_write_ptr_bad!(tunsetsndbuf, libc::TUNSETSNDBUF, libc::c_int);
    }

    /// TUNSETIFF: makes the interface, or attaches to it, in the network namespace of the calling thread. `flags` are IFF_TAP and
    /// its companions. The interface lives as long as the descriptor.
    ///
    /// Errors: ENAMETOOLONG for a name of more than 15 bytes; EPERM, EBUSY, EINVAL from the kernel.
    pub(crate) fn set_interface(tun: BorrowedFd<'_>, name: &CStr, flags: c_int) -> nix::Result<()> {
        // SAFETY: an ifreq of zeros is valid: integers, and a union of integers, addresses and a pointer that is not read.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        let name = name.to_bytes_with_nul();
        if name.len() > request.ifr_name.len() {
            return Err(Errno::ENAMETOOLONG);
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name) {
            *to = from.cast_signed() as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = flags as c_short;
        // SAFETY: the request is a whole ifreq that outlives the call, and the kernel keeps no pointer to it.
        unsafe { ioctl::tunsetiff(tun.as_raw_fd(), &raw const request) }.map(drop)
    }

    /// TUNSETOFFLOAD: which TUN_F_ offloads the reader takes from the interface. EINVAL: the kernel does not know one of them.
    pub(crate) fn set_offload(tun: BorrowedFd<'_>, flags: c_uint) -> nix::Result<()> {
        // SAFETY: the argument is a number, not a pointer.
        unsafe { ioctl::tunsetoffload(tun.as_raw_fd(), flags.cast_signed()) }.map(drop)
    }

    /// TUNSETVNETHDRSZ: the length of the virtio-net header before each frame, in bytes.
    pub(crate) fn set_vnet_header_size(tun: BorrowedFd<'_>, size: c_int) -> nix::Result<()> {
        // SAFETY: the kernel reads one int that outlives the call.
        unsafe { ioctl::tunsetvnethdrsz(tun.as_raw_fd(), &raw const size) }.map(drop)
    }

    /// TUNSETVNETLE: the header's numbers are little-endian, on a machine of either order.
    pub(crate) fn set_vnet_little_endian(tun: BorrowedFd<'_>) -> nix::Result<()> {
        let yes: c_int = 1;
        // SAFETY: the kernel reads one int that outlives the call.
        unsafe { ioctl::tunsetvnetle(tun.as_raw_fd(), &raw const yes) }.map(drop)
    }

    /// TUNSETSNDBUF: how many bytes written to the descriptor may wait unread in the interface's namespace.
    pub(crate) fn set_send_buffer(tun: BorrowedFd<'_>, bytes: c_int) -> nix::Result<()> {
        // SAFETY: the kernel reads one int that outlives the call.
        unsafe { ioctl::tunsetsndbuf(tun.as_raw_fd(), &raw const bytes) }.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Seek, Write},
        os::fd::AsFd,
    };

    use nix::{
        errno::Errno,
        sys::socket::{AddressFamily, SockFlag, SockType, socketpair},
    };

    use super::rights;

    #[test]
    fn a_descriptor_arrives_beside_its_message_and_is_the_same_file() {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let mut file = std::fs::File::from(nix::sys::memfd::memfd_create(c"rights", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap());
        file.write_all(b"the same").unwrap();
        rights::send(a.as_fd(), b"one", &[file.as_fd(), file.as_fd()]).unwrap();
        rights::send(a.as_fd(), b"none", &[]).unwrap();

        let mut bytes = [0; 16];
        let (len, fds) = rights::receive(b.as_fd(), &mut bytes).unwrap();
        assert_eq!((&bytes[..len], fds.len()), (&b"one"[..], 2));
        let mut received = std::fs::File::from(fds.into_iter().next().unwrap());
        received.rewind().unwrap();
        let mut text = String::new();
        received.read_to_string(&mut text).unwrap();
        assert_eq!(text, "the same");
        let (len, fds) = rights::receive(b.as_fd(), &mut bytes).unwrap();
        assert_eq!((&bytes[..len], fds.len()), (&b"none"[..], 0));
    }

    #[test]
    fn a_message_longer_than_its_buffer_is_an_error_not_a_short_message() {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        rights::send(a.as_fd(), &[1; 32], &[]).unwrap();
        assert_eq!(rights::receive(b.as_fd(), &mut [0; 16]).unwrap_err(), Errno::EMSGSIZE);
        let too_many = vec![a.as_fd(); rights::MAX + 1];
        assert_eq!(rights::send(a.as_fd(), b"x", &too_many).unwrap_err(), Errno::E2BIG);
    }
}
