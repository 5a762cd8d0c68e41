//! Where a port's frames come from and go to.
//!
//! A [`PortIo`] moves whole frames with their offloads and says how that went; what becomes of a frame is the switch's business.
//! Nothing here waits: a ring that is full is a drop with a reason, an empty one is [`RecvError::Empty`].

use std::{
    fmt,
    io::IoSlice,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use netloom_switch::{
    DropReason, Frame, GsoKind, Offload,
    frame::FRAME_MAX,
    gso::Segments,
    vnet::{self, VNET_HEADER},
};
// Not nix's: the C library makes every read and write of a program with threads a point of cancellation, twice per frame.
use rustix::io::{Errno, read, writev};

use super::closer::Deferred;

/// One attachment point's way in and out. Any worker may call it, whichever owns the port.
pub trait PortIo: fmt::Debug + Send + Sync {
    /// Reads the next frame.
    fn recv(&self, room: &mut Room) -> Result<Held, RecvError>;

    /// Writes one frame whole or not at all, from whichever worker's thread read it; the reason is the egress port's drop.
    fn send(&self, frame: &Frame<'_>) -> Result<(), DropReason>;

    /// Becomes readable when frames have come.
    fn readiness(&self) -> BorrowedFd<'_>;

    fn caps(&self) -> Caps;

    /// The descriptor, if frames are read and written in a way of which one system call can do many.
    fn way(&self) -> Option<Way<'_>>;

    /// Frames from the port that the kernel dropped because they were not read in time, as far as it tells us here.
    fn overruns(&self) -> u64;
}

/// A descriptor of which each call moves one whole frame.
#[derive(Clone, Copy, Debug)]
pub enum Way<'a> {
    /// read(2) and write(2), with the virtio-net header before the frame.
    Tap(BorrowedFd<'a>),
    /// recvmsg(2), which tells the VLAN tag, and write(2), with the header as a packet socket has it.
    Packet(BorrowedFd<'a>),
}

/// What a port can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// It takes UDP superframes; those of TCP every port takes.
    pub uso: bool,
}

impl Caps {
    /// Whether it takes a frame as it is.
    pub(super) fn fit(self, offload: Offload) -> bool {
        self.uso || offload.gso.is_none_or(|gso| gso.kind != GsoKind::Udp)
    }
}

/// Sends a frame as the port can take it: a superframe that it cannot is cut.
pub(super) fn transmit(io: &dyn PortIo, frame: &Frame<'_>) -> Result<(), DropReason> {
    if io.caps().fit(frame.offload) { io.send(frame) } else { cut(io, frame) }
}

/// Apart from the rest, so that only who cuts pays for the room.
#[cold]
#[inline(never)]
fn cut(io: &dyn PortIo, frame: &Frame<'_>) -> Result<(), DropReason> {
    let mut room = [0; FRAME_MAX];
    let mut segments = Segments::new(frame, &mut room)?;
    while let Some(bytes) = segments.next() {
        io.send(&Frame { bytes, offload: Offload::default() })?;
    }
    Ok(())
}

/// Why no frame was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvError {
    /// Nothing waits; readiness will tell.
    Empty,
    /// One of `len` bytes was read and is unfit to be switched.
    Unfit { len: usize, reason: DropReason },
    /// There will be no more.
    Closed,
}

/// Bytes for the largest frame and its header; a whole number of cache lines, so that neighbours share none.
pub(super) const ROOM: usize = (VNET_HEADER + FRAME_MAX).next_multiple_of(64);

/// Where a frame is read into.
pub type Room = [u8; ROOM];

/// Where in its room a frame stands. There are always [`VNET_HEADER`] bytes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub start: usize,
    pub len: usize,
    pub offload: Offload,
}

impl Held {
    /// What a read of a TAP has put into its room.
    pub(super) fn of_tap(room: &Room, len: usize) -> Result<Self, RecvError> {
        let (header, frame) =
            room.get(..len).and_then(<[u8]>::split_first_chunk).ok_or(RecvError::Unfit { len, reason: DropReason::Runt })?;
        let offload = vnet::decode(header, frame).map_err(|reason| RecvError::Unfit { len: frame.len(), reason })?;
        Ok(Self { start: VNET_HEADER, len: frame.len(), offload })
    }

    pub fn frame<'r>(&self, room: &'r Room) -> Frame<'r> {
        Frame { bytes: room.get(self.start..self.start + self.len).unwrap_or_default(), offload: self.offload }
    }
}

/// A TAP made by [`tap::open`](crate::tap::open), in whatever network namespace it lies.
#[derive(Debug)]
pub struct TapPort {
    tap: Deferred,
    uso: bool,
}

impl TapPort {
    /// `uso`: the kernel knows UDP superframes.
    pub fn new(tap: OwnedFd, uso: bool) -> Self {
        Self { tap: Deferred::new(tap), uso }
    }
}

impl PortIo for TapPort {
    fn recv(&self, room: &mut Room) -> Result<Held, RecvError> {
        match read(&self.tap, &mut *room) {
            Ok(0) => Err(RecvError::Closed),
            Ok(len) => Held::of_tap(room, len),
            Err(errno) => Err(recv_error(errno)),
        }
    }

    fn send(&self, frame: &Frame<'_>) -> Result<(), DropReason> {
        let header = vnet::encode(&frame.offload, frame.bytes);
        match writev(&self.tap, &[IoSlice::new(&header), IoSlice::new(frame.bytes)]) {
            Ok(_) => Ok(()),
            Err(errno) => Err(send_error(errno)),
        }
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        self.tap.as_fd()
    }

    fn caps(&self) -> Caps {
        Caps { uso: self.uso }
    }

    fn way(&self) -> Option<Way<'_>> {
        Some(Way::Tap(self.tap.as_fd()))
    }

    /// The kernel counts them at the interface, which is in the container's network namespace.
    fn overruns(&self) -> u64 {
        0
    }
}

/// Why a TAP gave no frame. EBADFD is what it says when its interface was deleted, or its namespace torn down.
pub(super) fn recv_error(errno: Errno) -> RecvError {
    match errno {
        Errno::AGAIN => RecvError::Empty,
        Errno::BADFD | Errno::BADF | Errno::NODEV => RecvError::Closed,
        // EINVAL: the kernel could not describe the frame in a virtio-net header, and has consumed it.
        _ => RecvError::Unfit { len: 0, reason: DropReason::BadOffload },
    }
}

/// Why a port took no frame, of either kind.
pub(super) fn send_error(errno: Errno) -> DropReason {
    match errno {
        Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM => DropReason::EgressFull,
        Errno::BADFD | Errno::BADF | Errno::NODEV | Errno::NETDOWN | Errno::NXIO => DropReason::PortClosed,
        // EIO: a TAP is down. EINVAL: a header that the kernel does not take. EMSGSIZE: longer than the MTU.
        _ => DropReason::EgressRefused,
    }
}
