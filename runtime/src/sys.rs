//! The system calls that no safe wrapper covers: the one file of netloom with unsafe code.
//!
//! Each function makes one call, states why that call is sound, and returns owned or plain values; no policy lives here, and what
//! nix, socket2 or std can do safely is not repeated. Sections go by topic, in alphabetical order.

/// What an interface's driver can do (the kernel's include/uapi/linux/ethtool.h).
pub(crate) mod ethtool {
    use std::{
        ffi::CStr,
        mem,
        os::fd::{AsRawFd, BorrowedFd},
    };

    use libc::{c_int, c_ulong};
    use nix::errno::Errno;

    const SIOCETHTOOL: c_ulong = 0x8946;
    const GSTRINGS: u32 = 0x1b;
    const GSSET_INFO: u32 = 0x37;
    const SFEATURES: u32 = 0x3b;
    /// ETH_SS_FEATURES and ETH_GSTRING_LEN.
    const FEATURES: u32 = 4;
    const NAME_LEN: usize = 32;

    /// The names of the kernel's features in the order of their bits; one without a name is empty.
    pub(crate) fn feature_names(socket: BorrowedFd<'_>, interface: &CStr) -> nix::Result<Vec<String>> {
        // ethtool_sset_info: command, reserved, a mask of 64 bits, one count.
        let mask = 1u64 << FEATURES;
        let mut info = [GSSET_INFO, 0, 0, 0, 0];
        for (word, bytes) in info.iter_mut().skip(2).zip(mask.to_ne_bytes().as_chunks().0) {
            *word = u32::from_ne_bytes(*bytes);
        }
        // SAFETY: the kernel writes one count for the one bit in the mask, into the last word.
        unsafe { command(socket, interface, &mut info) }?;
        let count = info.last().map_or(0, |count| *count as usize);
        // ethtool_gstrings: command, set, length, the strings.
        let mut strings = vec![0; 3 + count * NAME_LEN / size_of::<u32>()];
        for (word, value) in strings.iter_mut().zip([GSTRINGS, FEATURES]) {
            *word = value;
        }
        // SAFETY: the kernel writes as many strings as it has just said that it has.
        unsafe { command(socket, interface, &mut strings) }?;
        let bytes: Vec<u8> = strings.iter().skip(3).flat_map(|word| word.to_ne_bytes()).collect();
        Ok(bytes.chunks(NAME_LEN).map(|name| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned()).collect())
    }

    /// Turns off those of `count` features whose bits are given; what is fixed stays as it is.
    pub(crate) fn turn_off(socket: BorrowedFd<'_>, interface: &CStr, count: usize, bits: &[usize]) -> nix::Result<()> {
        let words = count.div_ceil(32);
        // ethtool_sfeatures: command, size, and for each 32 features which of them are meant and which are wanted.
        let mut features = vec![0; 2 + 2 * words];
        for (word, value) in features.iter_mut().zip([SFEATURES, words as u32]) {
            *word = value;
        }
        for bit in bits {
            if let Some(word) = features.get_mut(2 + bit / 32 * 2) {
                *word |= 1 << (bit % 32);
            }
        }
        // SAFETY: the kernel reads as many blocks as the size says, all of them there.
        unsafe { command(socket, interface, &mut features) }.map(drop)
    }

    /// SIOCETHTOOL by any socket of the interface's network namespace.
    ///
    /// # Safety
    ///
    /// `data` must be a whole structure of its command, with room for all that the kernel writes.
    unsafe fn command(socket: BorrowedFd<'_>, interface: &CStr, data: &mut [u32]) -> nix::Result<c_int> {
        // SAFETY: an ifreq of zeros is valid: integers, and a union of integers, addresses and a pointer.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        let name = interface.to_bytes_with_nul();
        if name.len() > request.ifr_name.len() {
            return Err(Errno::ENAMETOOLONG);
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name) {
            *to = from.cast_signed() as libc::c_char;
        }
        request.ifr_ifru.ifru_data = data.as_mut_ptr().cast();
        // SAFETY: the request and, as the caller promises, the data outlive the call and are large enough.
        Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) })
    }
}

/// Waiting for many descriptors.
pub(crate) mod epoll {
    use std::{
        os::fd::{AsRawFd, BorrowedFd},
        ptr,
        time::Duration,
    };

    use libc::c_int;
    use nix::{
        errno::Errno,
        sys::{epoll::EpollEvent, time::TimeSpec},
    };

    /// The kernel's timespec of this call has 64 bits twice, everywhere.
    const _: () = assert!(size_of::<libc::timespec>() == 16);

    /// Waits (epoll_pwait2(2), Linux 5.11), without a timeout for as long as it takes, else to the nanosecond and the thread's timer slack;
    /// gives the number of events.
    ///
    /// Errors: EINTR; ENOSYS or EPERM where a seccomp filter does not know the call.
    pub(crate) fn wait(epoll: BorrowedFd<'_>, events: &mut [EpollEvent], timeout: Option<Duration>) -> nix::Result<usize> {
        let timeout = timeout.map(TimeSpec::from_duration);
        let timeout = timeout.as_ref().map_or(ptr::null(), |timeout| ptr::from_ref(timeout.as_ref()));
        let (events, room) = (events.as_mut_ptr(), c_int::try_from(events.len()).unwrap_or(c_int::MAX));
        // SAFETY: the kernel writes at most `room` events into as many (each is an epoll_event and nothing else), and reads a timespec
        // that outlives the call, or none; no signal mask is given.
        let count = unsafe { libc::syscall(libc::SYS_epoll_pwait2, epoll.as_raw_fd(), events, room, timeout, ptr::null::<u8>(), 0_usize) };
        Errno::result(count).map(|count| count as usize)
    }
}

/// Descriptors as such.
pub(crate) mod fd {
    use libc::c_uint;
    use nix::errno::Errno;

    /// Marks every descriptor from `first` on as close-on-exec (close_range(2), Linux 5.11).
    pub(crate) fn close_on_exec_from(first: c_uint) -> nix::Result<()> {
        // SAFETY: the arguments are numbers, and with this flag nothing is closed now: every owner keeps what it owns.
        Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) }).map(drop)
    }
}

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

/// Mounts, where nix has no call.
pub(crate) mod mount {
    use std::{
        ffi::CString,
        os::{
            fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
            unix::ffi::OsStrExt,
        },
        path::Path,
    };

    use libc::c_uint;
    use nix::errno::Errno;

    use super::process::own;

    /// A mount of what lies at `path` alone, in no namespace, for as long as the descriptor is open (open_tree(2), Linux 5.2).
    /// Close-on-exec.
    pub(crate) fn clone_of(path: &Path) -> nix::Result<OwnedFd> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
        let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
        // SAFETY: the path is a C string that outlives the call.
        let fd = Errno::result(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })?;
        Ok(own(fd as RawFd))
    }

    /// Lets nothing be written by this mount, not even a file's attributes (mount_setattr(2), Linux 5.12).
    pub(crate) fn make_read_only(mount: BorrowedFd<'_>) -> nix::Result<()> {
        let attr = libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
        let (size, flags) = (size_of_val(&attr), libc::AT_EMPTY_PATH as c_uint);
        // SAFETY: an empty C string and a whole mount_attr of the size beside it; both outlive the call.
        let done = unsafe { libc::syscall(libc::SYS_mount_setattr, mount.as_raw_fd(), c"".as_ptr(), flags, &raw const attr, size) };
        Errno::result(done).map(drop)
    }

    /// mount_setattr(2): adds attributes (MOUNT_ATTR_) to the mount at `path`, and to those below it if `recursive`. What the
    /// kernel has locked stays as it is.
    pub(crate) fn add_attributes(path: &Path, attributes: u64, recursive: bool) -> nix::Result<()> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
        let attr = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
        let flags = if recursive { libc::AT_RECURSIVE as c_uint } else { 0 };
        let size = size_of_val(&attr);
        // SAFETY: the path is a C string and the attributes a whole mount_attr of the size beside it; both outlive the call.
        let done = unsafe { libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, path.as_ptr(), flags, &raw const attr, size) };
        Errno::result(done).map(drop)
    }

    /// Sets an extended attribute of a file, not of what a link leads to (lsetxattr(2)).
    pub(crate) fn set_attribute(path: &Path, name: &std::ffi::CStr, value: &[u8]) -> nix::Result<()> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
        // SAFETY: both names are C strings, and the value is a slice of the length beside it.
        Errno::result(unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) }).map(drop)
    }
}

/// The allocator (mallopt(3), malloc_trim(3)).
pub(crate) mod memory {
    /// Gives back to the kernel what is free, also between what is not.
    pub(crate) fn trim() {
        // SAFETY: it works under the allocator's own locks, on what nobody has.
        #[cfg(target_env = "gnu")]
        unsafe {
            libc::malloc_trim(0);
        }
    }

    /// From now on what is allocated with `bytes` bytes or more has pages of its own, which cost nothing until they are written and go
    /// back to the kernel as soon as they are freed. Without this the C library raises that bound with what is freed.
    #[cfg(target_env = "gnu")]
    pub(crate) fn map_from(bytes: i32) {
        const MAPPINGS: i32 = i32::MAX;
        // SAFETY: both set a number under the allocator's own lock. What it does not take it leaves as it was.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, bytes);
            libc::mallopt(libc::M_MMAP_MAX, MAPPINGS);
        }
    }

    /// Other allocators have bounds of their own.
    #[cfg(not(target_env = "gnu"))]
    pub(crate) fn map_from(_: i32) {}
}

/// Packet sockets (packet(7)).
pub(crate) mod packet {
    use std::{
        mem,
        os::fd::{AsRawFd, BorrowedFd},
        ptr,
    };

    use libc::{c_int, c_uint, c_ushort, socklen_t};
    use nix::errno::Errno;

    /// Bytes of the virtio-net header that PACKET_VNET_HDR puts before a frame.
    pub(crate) const HEADER: usize = size_of::<[u16; 5]>();

    /// One received frame.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Received {
        /// Bytes of the frame that were written.
        pub(crate) len: usize,
        /// It was longer than its room.
        pub(crate) is_cut: bool,
        /// The VLAN tag that the kernel took out of the data: protocol and control information.
        pub(crate) tag: Option<(u16, u16)>,
    }

    /// How many frames did not fit into the socket's buffer since this was last asked (packet(7), PACKET_STATISTICS).
    pub(crate) fn overruns(socket: BorrowedFd<'_>) -> nix::Result<c_uint> {
        // SAFETY: a tpacket_stats of zeros is valid: integers.
        let mut stats: libc::tpacket_stats = unsafe { mem::zeroed() };
        let mut len = size_of_val(&stats) as socklen_t;
        let (at, level, option) = ((&raw mut stats).cast(), libc::SOL_PACKET, libc::PACKET_STATISTICS);
        // SAFETY: the kernel writes at most `len` bytes, which is the size of the structure.
        Errno::result(unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, at, &raw mut len) })?;
        Ok(stats.tp_drops)
    }

    /// Ties the socket to one interface, whose frames of all protocols it gets from now on.
    pub(crate) fn bind(socket: BorrowedFd<'_>, interface: c_uint) -> nix::Result<()> {
        // SAFETY: a sockaddr_ll of zeros is valid: integers.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as c_ushort;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = interface as c_int;
        let len = size_of_val(&address) as socklen_t;
        // SAFETY: the address is a whole sockaddr_ll of the length beside it and outlives the call.
        Errno::result(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) }).map(drop)
    }

    /// What recvmsg(2) wants for one frame.
    pub(super) struct Message {
        header: libc::msghdr,
        slice: libc::iovec,
        space: Space,
    }

    // SAFETY: its pointers lead into itself, or to memory that whoever uses them owns.
    unsafe impl Send for Message {}

    impl Message {
        pub(super) fn new() -> Self {
            // SAFETY: both are valid as zeros: integers and null pointers.
            let (header, slice) = unsafe { (mem::zeroed(), mem::zeroed()) };
            Self { header, slice, space: Space([0; SPACE]) }
        }

        /// Made ready for one frame, which is to come to `room` behind its header. What is given leads into `self` and `room`.
        pub(super) fn aimed(&mut self, room: &mut [u8]) -> *mut libc::msghdr {
            self.slice = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
            self.header.msg_iov = &raw mut self.slice;
            self.header.msg_iovlen = 1;
            self.header.msg_control = self.space.0.as_mut_ptr().cast();
            self.header.msg_controllen = SPACE as _;
            self.header.msg_flags = 0;
            &raw mut self.header
        }

        /// What has come, if so many bytes did. To be asked before the message is moved.
        pub(super) fn received(&self, bytes: usize) -> Received {
            let is_cut = self.header.msg_flags & libc::MSG_TRUNC != 0;
            Received { len: bytes.saturating_sub(HEADER), is_cut, tag: tag(&self.header) }
        }
    }

    /// Receives one frame from a socket with PACKET_VNET_HDR and PACKET_AUXDATA: the header as the kernel has it in memory, and behind it
    /// the frame without a VLAN tag.
    pub(crate) fn receive(socket: BorrowedFd<'_>, room: &mut [u8]) -> nix::Result<Received> {
        let mut message = Message::new();
        let aimed = message.aimed(room);
        // SAFETY: every pointer in the message leads to a live buffer of the length beside it. Not by the C library's own function,
        // which is a point of cancellation.
        let len = Errno::result(unsafe { libc::syscall(libc::SYS_recvmsg, socket.as_raw_fd(), aimed, 0) })? as usize;
        Ok(message.received(len))
    }

    // SAFETY: the macro only calculates.
    const SPACE: usize = unsafe { libc::CMSG_SPACE(size_of::<libc::tpacket_auxdata>() as c_uint) } as usize;

    /// Control messages begin at the alignment of their header.
    #[repr(C, align(16))]
    struct Space([u8; SPACE]);

    /// The tag in the auxiliary data of a message that recvmsg(2) has just filled in.
    fn tag(message: &libc::msghdr) -> Option<(u16, u16)> {
        // SAFETY: the kernel has set the control buffer's length to what it wrote; the macro stays within it.
        let first = unsafe { libc::CMSG_FIRSTHDR(message) };
        // SAFETY: a non-null header points at a whole cmsghdr in the control buffer.
        let header = unsafe { first.as_ref() }?;
        if (header.cmsg_level, header.cmsg_type) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
            return None;
        }
        // SAFETY: such a message holds one tpacket_auxdata, integers all of it, and the buffer has room for a whole one.
        let data = unsafe { ptr::read_unaligned(libc::CMSG_DATA(first).cast::<libc::tpacket_auxdata>()) };
        let says = |status| data.tp_status & status != 0;
        let protocol = if says(libc::TP_STATUS_VLAN_TPID_VALID) { data.tp_vlan_tpid } else { libc::ETH_P_8021Q as u16 };
        says(libc::TP_STATUS_VLAN_VALID).then_some((protocol, data.tp_vlan_tci))
    }
}

/// Processes, namespaces and terminals.
pub(crate) mod process {
    use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

    use libc::{c_int, c_uint, c_ulong};
    use nix::{errno::Errno, unistd::Pid};

    mod ioctl {
        nix::ioctl_write_int_bad!(tiocsctty, libc::TIOCSCTTY);
        nix::ioctl_write_ptr_bad!(tiocswinsz, libc::TIOCSWINSZ, libc::winsize);
        nix::ioctl_write_int_bad!(tiocgptpeer, libc::TIOCGPTPEER);
        nix::ioctl_write_ptr_bad!(tiocsptlck, libc::TIOCSPTLCK, libc::c_int);
        nix::ioctl_none_bad!(ns_get_userns, libc::NS_GET_USERNS);
        nix::ioctl_none_bad!(ns_get_nstype, libc::NS_GET_NSTYPE);
    }

    /// The user namespace that owns another namespace (ioctl_ns(2), NS_GET_USERNS), close-on-exec.
    ///
    /// Errors: EPERM when it is not the caller's own or one made within it.
    pub(crate) fn owning_user_namespace(namespace: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
        // SAFETY: the call takes no argument and returns a descriptor for us alone.
        unsafe { ioctl::ns_get_userns(namespace.as_raw_fd()) }.map(own)
    }

    /// Which kind of namespace a descriptor is of, as its CLONE_ flag (ioctl_ns(2), NS_GET_NSTYPE).
    ///
    /// Errors: ENOTTY for what is no namespace.
    pub(crate) fn namespace_kind(namespace: BorrowedFd<'_>) -> nix::Result<c_int> {
        // SAFETY: the call takes no argument and returns a number.
        unsafe { ioctl::ns_get_nstype(namespace.as_raw_fd()) }
    }

    /// A copy of a descriptor that this process inherited under a number that its caller named, close-on-exec.
    ///
    /// Errors: EBADF where there is none. One that is close-on-exec would not have been inherited: it is one of our own.
    pub(crate) fn copy_inherited(raw: RawFd) -> nix::Result<OwnedFd> {
        // SAFETY: the arguments are numbers.
        let flags = Errno::result(unsafe { libc::fcntl(raw, libc::F_GETFD) })?;
        if flags & libc::FD_CLOEXEC != 0 {
            return Err(Errno::EBADF);
        }
        // SAFETY: the arguments are numbers; what the number stands for stays whose it is, and the copy is ours.
        Errno::result(unsafe { libc::fcntl(raw, libc::F_DUPFD_CLOEXEC, 3) }).map(own)
    }

    /// Owns a descriptor that a system call has just returned, or that was inherited under a number given for it.
    pub(crate) fn own(raw: RawFd) -> OwnedFd {
        // SAFETY: each caller got the number from the kernel or its parent for itself alone, and drops it here.
        unsafe { OwnedFd::from_raw_fd(raw) }
    }

    /// fork(2) of a single-threaded process: everything is usable in the child. `None` in the child.
    pub(crate) fn fork() -> nix::Result<Option<Pid>> {
        // SAFETY: supervisors and helpers have one thread, so no lock is held by a thread that the child lacks.
        match unsafe { nix::unistd::fork() }? {
            nix::unistd::ForkResult::Parent { child } => Ok(Some(child)),
            nix::unistd::ForkResult::Child => Ok(None),
        }
    }

    /// clone(2) with CLONE_PARENT: a child of the caller's parent, which gets its SIGCHLD. `None` in the child.
    ///
    /// Errors: EINVAL when the caller is PID 1 of a namespace, else clone(2)'s.
    pub(crate) fn fork_sibling() -> nix::Result<Option<Pid>> {
        let flags = (libc::CLONE_PARENT | libc::SIGCHLD) as c_ulong;
        let zero: c_ulong = 0;
        // SAFETY: without CLONE_VM and a new stack this is a fork; a helper has one thread. On s390 the stack comes first.
        #[cfg(not(target_arch = "s390x"))]
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, zero, zero, zero, zero) };
        // SAFETY: as above.
        #[cfg(target_arch = "s390x")]
        let pid = unsafe { libc::syscall(libc::SYS_clone, zero, flags, zero, zero, zero) };
        match Errno::result(pid)? {
            0 => Ok(None),
            pid => Ok(Some(Pid::from_raw(pid as libc::pid_t))),
        }
    }

    /// Ends this process at once: nothing is flushed, no destructor runs.
    pub(crate) fn exit(code: i32) -> ! {
        // SAFETY: the call has no preconditions and does not return.
        unsafe { libc::_exit(code) }
    }

    /// Closes every descriptor from `first` to `last`, both included.
    pub(crate) fn close_range(first: RawFd, last: RawFd) -> nix::Result<()> {
        // SAFETY: the caller is a fresh child that owns no descriptor in this range any more.
        Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first as c_uint, last as c_uint, 0 as c_uint) }).map(drop)
    }

    /// Makes `terminal` the controlling terminal of the calling session leader.
    pub(crate) fn set_controlling_terminal(terminal: BorrowedFd<'_>) -> nix::Result<()> {
        // SAFETY: the argument is a number.
        unsafe { ioctl::tiocsctty(terminal.as_raw_fd(), 0) }.map(drop)
    }

    /// Sets a terminal's size in character cells; its foreground process group gets SIGWINCH.
    pub(crate) fn set_window_size(terminal: BorrowedFd<'_>, rows: u16, cols: u16) -> nix::Result<()> {
        let size = libc::winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the kernel reads one winsize that outlives the call.
        unsafe { ioctl::tiocswinsz(terminal.as_raw_fd(), &raw const size) }.map(drop)
    }

    /// The other end of a pseudo-terminal's master, whatever is mounted where (ioctl_tty(2), TIOCGPTPEER), close-on-exec.
    pub(crate) fn open_peer(master: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
        let unlocked: c_int = 0;
        // SAFETY: the kernel reads one int that outlives the call.
        unsafe { ioctl::tiocsptlck(master.as_raw_fd(), &raw const unlocked) }?;
        // SAFETY: the argument is a number.
        unsafe { ioctl::tiocgptpeer(master.as_raw_fd(), libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) }.map(own)
    }

    /// A descriptor of process `pid`, readable once it has ended, close-on-exec.
    pub(crate) fn open_pid(pid: Pid) -> nix::Result<OwnedFd> {
        // SAFETY: the arguments are numbers.
        let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0 as c_uint) })?;
        Ok(own(fd as RawFd))
    }

    /// Sends a signal to the very process that `pidfd` stands for.
    pub(crate) fn signal(pidfd: BorrowedFd<'_>, signal: c_int) -> nix::Result<()> {
        let no_info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a null siginfo asks the kernel to fill it in as kill(2) does.
        Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0 as c_uint) }).map(drop)
    }

    /// kill(2) with any number, the real-time signals among them.
    pub(crate) fn kill(pid: Pid, signal: c_int) -> nix::Result<()> {
        // SAFETY: the arguments are numbers.
        Errno::result(unsafe { libc::kill(pid.as_raw(), signal) }).map(drop)
    }

    /// Takes back what was done to signals: Rust's runtime ignores SIGPIPE, nohup(1) SIGHUP, a shell SIGINT and SIGQUIT for what it
    /// runs behind. Signals that may not be changed stay as they are.
    pub(crate) fn default_signals() {
        for signal in 1..=libc::SIGRTMAX() {
            // SAFETY: the default action runs no code of ours; a number that is refused changes nothing.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }

    /// Gives the caller a session keyring of its own, so that it cannot see its parent's keys.
    pub(crate) fn new_session_keyring() -> nix::Result<()> {
        const JOIN_SESSION_KEYRING: c_int = 1;
        let anonymous = std::ptr::null::<libc::c_char>();
        // SAFETY: a null name asks for an anonymous keyring.
        Errno::result(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, anonymous) }).map(drop)
    }

    /// Overwrites this process's arguments as `ps` shows them. `start..end` is where they lie (proc_pid_stat(5), fields 48 and 49).
    pub(crate) fn overwrite_arguments(start: usize, end: usize, title: &[u8]) {
        let Some(room) = end.checked_sub(start).filter(|room| *room > 0) else { return };
        let len = title.len().min(room - 1);
        // SAFETY: the kernel says that the arguments of this process lie in this range, which is writable memory of its stack; the
        // strings in it are only read through std::env::args, which no child of a supervisor does.
        unsafe {
            std::ptr::write_bytes(start as *mut u8, 0, room);
            std::ptr::copy_nonoverlapping(title.as_ptr(), start as *mut u8, len);
        }
    }
}

/// Options of sockets that nix and socket2 do not know (setsockopt(2)).
pub(crate) mod socket {
    use std::os::fd::{AsRawFd, BorrowedFd};

    use libc::c_int;
    use nix::errno::Errno;

    /// Sets an option that is an int.
    pub(crate) fn set(socket: BorrowedFd<'_>, level: c_int, option: c_int, value: c_int) -> nix::Result<()> {
        let (value, len) = (&raw const value, size_of::<c_int>() as libc::socklen_t);
        // SAFETY: the kernel reads one int that outlives the call.
        Errno::result(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value.cast(), len) }).map(drop)
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
}

/// Reads and writes of many frames by one system call (io_uring(7)).
pub(crate) mod uring {
    use std::{
        fmt, io,
        mem::{forget, take},
        ops::Range,
        os::fd::{AsRawFd, BorrowedFd},
    };

    use io_uring::{IoUring, opcode, squeue::Entry, types::Fd};
    use libc::{EAGAIN, EINVAL};

    use super::packet::{Message, Received};

    /// A ring that is empty between calls, and the memory that its reads and writes are about.
    pub(crate) struct Ring {
        /// Dropped before the memory.
        ring: IoUring,
        memory: Vec<u8>,
        /// Of packet sockets, one for each frame that is received at once.
        messages: Vec<Message>,
        /// The kernel knows the memory beforehand, which saves it the way there for each frame.
        is_registered: bool,
        /// What the kernel may still be at. Not zero only once `is_broken`.
        in_flight: usize,
        is_broken: bool,
    }

    impl Ring {
        /// At most `entries` reads or writes at once, for the calling thread alone. Fails before Linux 6.1, and where the system
        /// forbids it. Whether the kernel will read a file without waiting is another question: before 6.5 most cannot.
        pub(crate) fn new(entries: u32, mut memory: Vec<u8>) -> io::Result<Self> {
            let ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(entries)?;
            let all = libc::iovec { iov_base: memory.as_mut_ptr().cast(), iov_len: memory.len() };
            // SAFETY: the memory is one allocation that never moves or grows, and outlives the ring. The kernel writes into it only
            // what an entry asks for.
            let is_registered = unsafe { ring.submitter().register_buffers(&[all]) }.is_ok();
            let messages = (0..entries).map(|_| Message::new()).collect();
            Ok(Self { ring, memory, messages, is_registered, in_flight: 0, is_broken: false })
        }

        /// Nothing while the kernel may still be at it.
        pub(crate) fn memory(&self) -> &[u8] {
            if self.in_flight == 0 { &self.memory } else { &[] }
        }

        pub(crate) fn memory_mut(&mut self) -> &mut [u8] {
            if self.in_flight == 0 { &mut self.memory } else { &mut [] }
        }

        /// It has failed: from now on nothing is read or written.
        pub(crate) const fn is_broken(&self) -> bool {
            self.is_broken
        }

        /// Has it fail from now on.
        #[cfg(test)]
        pub(crate) fn spoil(&self) {
            let null = std::fs::File::open("/dev/null").expect("there is one");
            // SAFETY: the ring's descriptor stays open and the ring's, and is closed by it. What the kernel has mapped for it stays too.
            assert!(unsafe { libc::dup2(null.as_raw_fd(), self.ring.as_raw_fd()) } >= 0);
        }

        /// Reads once into each of these ranges, without waiting. An answer is what read(2) would give, an error as `-errno`.
        pub(crate) fn read(&mut self, fd: BorrowedFd<'_>, ranges: impl Iterator<Item = Range<usize>>, answers: &mut [i32]) {
            let fd = Fd(fd.as_raw_fd());
            let is_registered = self.is_registered;
            self.each(ranges.map(|range| (fd, range)), answers, |fd, bytes, _| {
                let (start, len) = (bytes.as_mut_ptr(), bytes.len() as u32);
                match is_registered {
                    true => opcode::ReadFixed::new(fd, start, len, 0).rw_flags(libc::RWF_NOWAIT).build(),
                    false => opcode::Read::new(fd, start, len).rw_flags(libc::RWF_NOWAIT).build(),
                }
            });
        }

        /// Writes each of these ranges, in this order and without waiting. Answers are those of write(2).
        pub(crate) fn write<'a>(&mut self, writes: impl Iterator<Item = (BorrowedFd<'a>, Range<usize>)>, answers: &mut [i32]) {
            let writes = writes.map(|(fd, range)| (Fd(fd.as_raw_fd()), range));
            let is_registered = self.is_registered;
            self.each(writes, answers, |fd, bytes, _| {
                let (start, len) = (bytes.as_mut_ptr(), bytes.len() as u32);
                match is_registered {
                    true => opcode::WriteFixed::new(fd, start, len, 0).rw_flags(libc::RWF_NOWAIT).build(),
                    false => opcode::Write::new(fd, start, len).rw_flags(libc::RWF_NOWAIT).build(),
                }
            });
        }

        /// Receives once into each of these ranges, as [`packet::receive`](super::packet::receive) does. Answers are those of recvmsg(2).
        pub(crate) fn receive(&mut self, fd: BorrowedFd<'_>, ranges: impl Iterator<Item = Range<usize>>, answers: &mut [i32]) {
            let fd = Fd(fd.as_raw_fd());
            self.each(ranges.map(|range| (fd, range)), answers, |fd, bytes, message| {
                opcode::RecvMsg::new(fd, message.aimed(bytes)).flags(libc::MSG_DONTWAIT.cast_unsigned()).build()
            });
        }

        /// What the last [`receive`](Self::receive) was told with the answer `bytes` of this place.
        pub(crate) fn received(&self, index: usize, bytes: usize) -> Option<Received> {
            self.messages.get(index).map(|message| message.received(bytes))
        }

        fn each(
            &mut self,
            what: impl Iterator<Item = (Fd, Range<usize>)>,
            answers: &mut [i32],
            entry: impl Fn(Fd, &mut [u8], &mut Message) -> Entry,
        ) {
            answers.fill(-EAGAIN);
            if self.is_broken {
                return;
            }
            for (index, (((fd, range), answer), message)) in what.zip(&mut *answers).zip(&mut self.messages).enumerate() {
                let Some(bytes) = self.memory.get_mut(range) else {
                    *answer = -EINVAL;
                    continue;
                };
                let entry = entry(fd, bytes, message).user_data(index as u64);
                // SAFETY: the bytes and the message are this ring's, and neither vector grows. Nobody touches them before `finish` has
                // seen that the kernel is through with them; if it cannot, they are never freed (`Drop`) and, as the ring takes nothing
                // more then, never touched by a later entry. The caller's borrow keeps the descriptor open until then.
                if unsafe { self.ring.submission().push(&entry) }.is_err() {
                    // The queue is full: the answer stays EAGAIN.
                    break;
                }
                self.in_flight += 1;
            }
            self.finish(answers);
        }

        fn finish(&mut self, answers: &mut [i32]) {
            while self.in_flight > 0 && !self.is_broken {
                let entered = self.ring.submit_and_wait(self.in_flight);
                self.is_broken = entered.is_err_and(|error| error.kind() != io::ErrorKind::Interrupted);
                for done in self.ring.completion() {
                    self.in_flight -= 1;
                    if let Some(answer) = answers.get_mut(done.user_data() as usize) {
                        *answer = done.result();
                    }
                }
            }
        }
    }

    impl fmt::Debug for Ring {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Ring").field("in_flight", &self.in_flight).field("is_broken", &self.is_broken).finish_non_exhaustive()
        }
    }

    impl Drop for Ring {
        fn drop(&mut self) {
            if self.in_flight > 0 {
                forget((take(&mut self.memory), take(&mut self.messages)));
            }
        }
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

    use super::{rights, uring::Ring};

    #[test]
    fn a_ring_reads_what_there_is_says_what_there_is_not_and_writes_in_order() {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        // Before Linux 6.1, and where the system forbids it, there is nothing to be tested.
        let Ok(mut ring) = Ring::new(4, vec![0; 64]) else { return };
        for text in [b"one", b"two"] {
            nix::unistd::write(&a, text).unwrap();
        }
        let mut answers = [0; 3];
        ring.read(b.as_fd(), [0..16, 16..32, 32..48].into_iter(), &mut answers);
        assert_eq!(answers, [3, 3, -libc::EAGAIN]);
        assert_eq!((&ring.memory()[..3], &ring.memory()[16..19]), (&b"one"[..], &b"two"[..]));

        ring.memory_mut()[32..37].copy_from_slice(b"three");
        ring.write([(b.as_fd(), 32..37), (b.as_fd(), 0..3), (b.as_fd(), 60..70)].into_iter(), &mut answers);
        assert_eq!(answers, [5, 3, -libc::EINVAL]);
        for text in [&b"three"[..], b"one"] {
            let mut bytes = [0; 16];
            let len = nix::unistd::read(&a, &mut bytes).unwrap();
            assert_eq!(&bytes[..len], text);
        }
        // More than the queue holds: the rest is told as not done.
        let mut answers = [0; 6];
        ring.write((0..6).map(|_| (b.as_fd(), 0..3)), &mut answers);
        assert_eq!(answers, [3, 3, 3, 3, -libc::EAGAIN, -libc::EAGAIN]);
        assert!(!ring.is_broken());
    }

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
