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
    fn recv<'b>(&self, buffer: &'b mut Buffer) -> Result<Frame<'b>, RecvError>;

    /// Writes one frame whole or not at all; the reason is the egress port's drop.
    fn send(&self, frame: &Frame<'_>) -> Result<(), DropReason>;

    /// Becomes readable when frames have come.
    fn readiness(&self) -> BorrowedFd<'_>;

    fn caps(&self) -> Caps;

    /// Frames from the port that the kernel dropped because they were not read in time, as far as it tells us here.
    fn overruns(&self) -> u64;
}

/// What a port can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// `send` may be called by the worker that read the frame; otherwise only by the port's owner, who gets a copy.
    pub direct: bool,
    /// It takes UDP superframes; those of TCP every port takes.
    pub uso: bool,
}

/// Sends a frame as the port can take it: a superframe that it cannot is cut.
pub(super) fn transmit(io: &dyn PortIo, frame: &Frame<'_>) -> Result<(), DropReason> {
    match frame.offload.gso {
        Some(gso) if gso.kind == GsoKind::Udp && !io.caps().uso => cut(io, frame),
        _ => io.send(frame),
    }
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

/// Room for the largest frame and its header; a worker has one.
pub struct Buffer(Box<[u8; VNET_HEADER + FRAME_MAX]>);

impl Buffer {
    pub fn new() -> Self {
        Self(Box::new([0; VNET_HEADER + FRAME_MAX]))
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        self.0.as_mut_slice()
    }

    /// The room for the frame alone.
    pub fn frame(&mut self) -> &mut [u8] {
        self.0.get_mut(VNET_HEADER..).unwrap_or_default()
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").finish_non_exhaustive()
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
    fn recv<'b>(&self, buffer: &'b mut Buffer) -> Result<Frame<'b>, RecvError> {
        let bytes = buffer.bytes();
        let len = match read(&self.tap, &mut *bytes) {
            Ok(0) => return Err(RecvError::Closed),
            Ok(len) => len,
            Err(errno) => return Err(recv_error(errno)),
        };
        let (header, frame) =
            bytes.get(..len).and_then(<[u8]>::split_first_chunk).ok_or(RecvError::Unfit { len, reason: DropReason::Runt })?;
        let offload = vnet::decode(header, frame).map_err(|reason| RecvError::Unfit { len: frame.len(), reason })?;
        Ok(Frame { bytes: frame, offload })
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
        Caps { direct: true, uso: self.uso }
    }

    /// The kernel counts them at the interface, which is in the container's network namespace.
    fn overruns(&self) -> u64 {
        0
    }
}

/// EBADFD is what a TAP says whose interface was deleted, or whose namespace was torn down.
fn recv_error(errno: Errno) -> RecvError {
    match errno {
        Errno::AGAIN => RecvError::Empty,
        Errno::BADFD | Errno::BADF | Errno::NODEV => RecvError::Closed,
        // EINVAL: the kernel could not describe the frame in a virtio-net header, and has consumed it.
        _ => RecvError::Unfit { len: 0, reason: DropReason::BadOffload },
    }
}

fn send_error(errno: Errno) -> DropReason {
    match errno {
        Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM => DropReason::EgressFull,
        Errno::BADFD | Errno::BADF | Errno::NODEV => DropReason::PortClosed,
        // EIO: the interface is down. EINVAL: a header that the kernel does not take.
        _ => DropReason::EgressRefused,
    }
}
