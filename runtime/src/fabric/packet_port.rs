//! A port behind a packet socket: the far end of a veth pair that [`veth`](crate::veth) made.
//!
//! The kernel gives a frame's VLAN tag beside the data and the virtio-net header in the machine's own byte order; here both become
//! what the switch knows. The socket outlives its interface, so a port whose container is gone says so once and is silent then.

use std::{
    io::IoSlice,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use netloom_switch::{
    DropReason, Frame,
    vnet::{self, VNET_HEADER},
};
use rustix::io::{Errno, writev};

use super::{
    closer::Deferred,
    port_io::{Caps, Held, PortIo, RecvError, Room, Way, send_error},
};
use crate::sys::packet::{self, Received};

/// Bytes of a VLAN tag, and of the addresses before it.
const TAG: usize = 4;
const ADDRESSES: usize = 12;

/// Where in a room a socket's header stands: right before the frame, which leaves room for a tag before it.
pub(super) const HEADER_AT: usize = VNET_HEADER + TAG - packet::HEADER;

/// The socket of a veth pair's far end.
#[derive(Debug)]
pub struct PacketPort {
    socket: Deferred,
    uso: bool,
    overruns: AtomicU64,
}

impl PacketPort {
    /// `uso`: the kernel knows UDP superframes.
    pub fn new(socket: OwnedFd, uso: bool) -> Self {
        Self { socket: Deferred::new(socket), uso, overruns: AtomicU64::new(0) }
    }
}

impl PortIo for PacketPort {
    fn recv(&self, room: &mut Room) -> Result<Held, RecvError> {
        let whole = room.get_mut(HEADER_AT..).unwrap_or_default();
        let received = packet::receive(self.socket.as_fd(), whole).map_err(|errno| recv_error(Errno::from_raw_os_error(errno as i32)))?;
        held(room, received)
    }

    fn send(&self, frame: &Frame<'_>) -> Result<(), DropReason> {
        let header = to_native(vnet::encode(&frame.offload, frame.bytes));
        match writev(&self.socket, &[IoSlice::new(&header), IoSlice::new(frame.bytes)]) {
            Ok(_) => Ok(()),
            Err(errno) => Err(send_error(errno)),
        }
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn caps(&self) -> Caps {
        Caps { uso: self.uso }
    }

    fn way(&self) -> Option<Way<'_>> {
        Some(Way::Packet(self.socket.as_fd()))
    }

    fn overruns(&self) -> u64 {
        // What the kernel tells, it forgets.
        let new = packet::overruns(self.socket.as_fd()).unwrap_or(0);
        self.overruns.fetch_add(new.into(), Relaxed) + u64::from(new)
    }
}

/// What was received into a room from [`HEADER_AT`] on.
pub(super) fn held(room: &mut Room, received: Received) -> Result<Held, RecvError> {
    let len = received.len;
    if received.is_cut {
        return Err(RecvError::Unfit { len, reason: DropReason::TooLong });
    }
    let Some(header) = room.get(HEADER_AT..).and_then(<[u8]>::first_chunk).copied() else { return Err(RecvError::Empty) };
    let room = room.get_mut(VNET_HEADER..).unwrap_or_default();
    let start = received.tag.map_or(TAG, |tag| put_tag(room, tag));
    let frame = room.get(start..TAG + len).unwrap_or_default();
    let offload = vnet::decode(&to_wire(header, TAG - start), frame).map_err(|reason| RecvError::Unfit { len, reason })?;
    Ok(Held { start: VNET_HEADER + start, len: frame.len(), offload })
}

/// Puts the tag between the addresses and the EtherType of a frame that begins at [`TAG`]. Gives where it begins now.
fn put_tag(room: &mut [u8], (protocol, control): (u16, u16)) -> usize {
    if let Some(head) = room.first_chunk_mut::<{ ADDRESSES + TAG }>() {
        head.copy_within(TAG.., 0);
        let ([p0, p1], [c0, c1]) = (protocol.to_be_bytes(), control.to_be_bytes());
        if let Some(tag) = head.last_chunk_mut() {
            *tag = [p0, p1, c0, c1];
        }
    }
    0
}

/// The kernel's header as virtio writes it, for a frame that has got `added` bytes at its front.
fn to_wire(header: [u8; packet::HEADER], added: usize) -> [u8; VNET_HEADER] {
    let [flags, kind, l0, l1, s0, s1, c0, c1, o0, o1] = header;
    let word = |a, b| u16::from_ne_bytes([a, b]);
    // Without a checksum to be finished its start says nothing.
    let start = word(c0, c1).saturating_add(added as u16);
    let [[l0, l1], [s0, s1], [c0, c1], [o0, o1]] = [word(l0, l1), word(s0, s1), start, word(o0, o1)].map(u16::to_le_bytes);
    [flags, kind, l0, l1, s0, s1, c0, c1, o0, o1, 0, 0]
}

/// A header as the kernel reads it from a packet socket.
pub(super) fn to_native(header: [u8; VNET_HEADER]) -> [u8; packet::HEADER] {
    let [flags, kind, l0, l1, s0, s1, c0, c1, o0, o1, _, _] = header;
    let word = |a, b| u16::from_le_bytes([a, b]).to_ne_bytes();
    let [[l0, l1], [s0, s1], [c0, c1], [o0, o1]] = [word(l0, l1), word(s0, s1), word(c0, c1), word(o0, o1)];
    [flags, kind, l0, l1, s0, s1, c0, c1, o0, o1]
}

pub(super) fn recv_error(errno: Errno) -> RecvError {
    match errno {
        Errno::AGAIN => RecvError::Empty,
        // The far end is down, which it is only on its way to be deleted.
        Errno::NETDOWN | Errno::NODEV | Errno::NXIO | Errno::BADF => RecvError::Closed,
        // EINVAL: the kernel could not describe the frame in a virtio-net header, and has consumed it.
        _ => RecvError::Unfit { len: 0, reason: DropReason::BadOffload },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_stands_between_the_addresses_and_the_ethertype() {
        let mut room: Vec<u8> = vec![0; TAG];
        room.extend((1..=12).chain([0x08, 0x00, 0x45]));
        assert_eq!(put_tag(&mut room, (0x8100, 0x6007)), 0);
        assert_eq!(room[..12], (1..=12).collect::<Vec<u8>>()[..]);
        assert_eq!(room[12..], [0x81, 0, 0x60, 7, 8, 0, 0x45]);
    }

    #[test]
    fn a_checksum_moves_with_the_bytes_that_were_put_before_it() {
        let native = |words: [u16; 4]| words.map(u16::to_ne_bytes).concat();
        let header: [u8; 10] = [vec![1, 1], native([54, 1460, 34, 16])].concat().try_into().unwrap();
        assert_eq!(to_wire(header, 0), [1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0]);
        assert_eq!(to_wire(header, 4), [1, 1, 54, 0, 0xb4, 5, 38, 0, 16, 0, 0, 0]);
        assert_eq!(to_native(to_wire(header, 0)), header);
    }
}
