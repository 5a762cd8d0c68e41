//! The frames that a worker has in hand: read together, decided one after the other, written together.
//!
//! ```text
//!           read                      forward                      flush
//!   rooms ────────▶ held, one a room ─────────▶ writes, in order ─────────▶ (empty)
//! ```
//!
//! Where the kernel and the port allow it (io_uring, [`PortIo::way`]), one system call reads as many frames as there are rooms, and
//! one writes as many; elsewhere each is read and written by a call of its own. What goes to one port keeps its order, whichever
//! way it goes. Nothing here waits, and nothing decides.

use std::{
    fs::File,
    io,
    ops::Range,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{fs::OpenOptionsExt, net::UnixDatagram},
    },
};

use netloom_switch::{
    DropReason, Frame, Offload, PortCounters, PortId,
    vnet::{self, VNET_HEADER},
};
use rustix::io::{Errno, write};

use super::{
    egress::{Egress, EgressTable},
    packet_port::{self, HEADER_AT, to_native},
    port_io::{self, Held, PortIo, ROOM, RecvError, Room, Way},
};
use crate::{
    switches::Feature,
    sys::{packet, uring::Ring},
};

/// Frames that are read at once, at most.
pub(super) const ROOMS: usize = 16;

/// Writes that wait, at most: a flood has several a frame.
const WRITES: usize = 64;

/// A frame on its way to a port.
#[derive(Clone, Debug)]
struct Write {
    to: PortId,
    /// The frame behind its header, of all rooms' bytes.
    bytes: Range<usize>,
    len: usize,
}

/// Where frames are read into.
#[derive(Debug)]
enum Rooms {
    /// Of many.
    Ring(Box<Ring>),
    /// One alone.
    Single(Vec<u8>),
}

/// What became of a frame whose room is a broken ring's.
const GONE: i32 = -Errno::IO.raw_os_error();

#[derive(Debug)]
pub(super) struct Burst {
    rooms: Rooms,
    held: [Result<Held, RecvError>; ROOMS],
    writes: Vec<Write>,
    answers: [i32; WRITES],
}

impl Burst {
    /// Without a ring, which a thread makes for itself.
    pub(super) fn new() -> Self {
        Self::of(Rooms::single())
    }

    /// With a ring for the calling thread, if the system has one.
    pub(super) fn with_ring() -> Self {
        Self::of(ring(ROOMS).map_or_else(|_| Rooms::single(), |ring| Rooms::Ring(Box::new(ring))))
    }

    fn of(rooms: Rooms) -> Self {
        Self { rooms, held: [Err(RecvError::Empty); ROOMS], writes: Vec::with_capacity(WRITES), answers: [0; WRITES] }
    }

    /// Reads up to `count` frames, at least one, into as many rooms; gives the number of rooms that have something to say.
    pub(super) fn read(&mut self, io: &dyn PortIo, count: usize) -> usize {
        self.writes.clear();
        self.rooms.mend();
        let count = count.min(ROOMS);
        if count > 1 && self.read_together(io, count).is_some() {
            return count;
        }
        // If the ring failed just now, what it has read is lost, and what it has not must not wait for a notice that was given already.
        self.rooms.mend();
        if let ([held, ..], Some(room)) = (&mut self.held, self.rooms.get_mut(0)) {
            *held = io.recv(room);
        }
        1
    }

    /// `None`: there is no ring, or it has failed.
    fn read_together(&mut self, io: &dyn PortIo, count: usize) -> Option<()> {
        let (Rooms::Ring(ring), Some(way)) = (&mut self.rooms, io.way()) else { return None };
        let answers = self.answers.get_mut(..count)?;
        match way {
            Way::Tap(fd) => ring.read(fd, (0..count).map(|room| room * ROOM..(room + 1) * ROOM), answers),
            Way::Packet(fd) => ring.receive(fd, (0..count).map(|room| room * ROOM + HEADER_AT..(room + 1) * ROOM), answers),
        }
        if ring.is_broken() {
            return None;
        }
        for (room, (held, answer)) in self.held.iter_mut().zip(answers).enumerate() {
            *held = match way {
                Way::Tap(_) => ring.memory().as_chunks().0.get(room).map_or(Err(RecvError::Empty), |room| of_tap(room, *answer)),
                Way::Packet(_) => of_packet(ring, room, *answer),
            };
        }
        Some(())
    }

    /// What a room holds.
    pub(super) fn held(&self, room: usize) -> Result<Held, RecvError> {
        self.held.get(room).copied().unwrap_or(Err(RecvError::Empty))
    }

    /// A room's frame; an empty one if it holds none.
    pub(super) fn frame(&self, room: usize) -> Frame<'_> {
        match (self.held(room), self.rooms.get(room)) {
            (Ok(held), Some(bytes)) => held.frame(bytes),
            _ => Frame { bytes: &[], offload: Offload::default() },
        }
    }

    /// Has a room's frame sent to a port with the next [`flush`](Self::flush), or at once. A port that was closed meanwhile is the
    /// ingress port's drop, since it has no counters left.
    pub(super) fn forward(&mut self, room: usize, to: PortId, table: &EgressTable, ingress: &PortCounters) {
        let Ok(held) = self.held(room) else { return };
        let Some(egress) = table.get(to) else { return ingress.dropped(DropReason::PortClosed) };
        let Some(way) = egress.way(held.offload) else {
            self.flush(table, ingress);
            return egress.send(&self.frame(room));
        };
        let start = room * ROOM + held.start;
        let bytes = start - header_len(way)..start + held.len;
        // Another header of the same frame stands in the same place.
        let is_in_the_way = self.writes.last().is_some_and(|last| last.bytes.end == bytes.end && last.bytes != bytes);
        if is_in_the_way || self.writes.len() == WRITES {
            self.flush(table, ingress);
        }
        if self.writes.last().is_none_or(|last| last.bytes != bytes)
            && let Some(room) = self.rooms.get_mut(room)
        {
            seal(room, &held, way);
        }
        self.writes.push(Write { to, bytes, len: held.len });
    }

    /// Sends what waits. Every outcome is counted.
    pub(super) fn flush(&mut self, table: &EgressTable, ingress: &PortCounters) {
        let Self { rooms, writes, answers, .. } = self;
        match rooms {
            Rooms::Ring(ring) if writes.len() > 1 => {
                let ways = writes.iter().map_while(|write| Some((descriptor(table.get(write.to)?)?, write.bytes.clone())));
                ring.write(ways, answers.get_mut(..writes.len()).unwrap_or_default());
            }
            _ => {
                for (one, answer) in writes.iter().zip(&mut *answers) {
                    let way = table.get(one.to).and_then(descriptor).zip(rooms.bytes().get(one.bytes.clone()));
                    *answer = way.map_or(GONE, |(fd, bytes)| write(fd, bytes).map_or_else(|errno| -errno.raw_os_error(), |_| 0));
                }
            }
        }
        for (write, answer) in writes.drain(..).zip(answers) {
            match table.get(write.to) {
                Some(egress) => egress.done(write.len, written(*answer)),
                None => ingress.dropped(DropReason::PortClosed),
            }
        }
    }
}

/// Whether this process may have rings.
pub(crate) fn rings_are_allowed() -> bool {
    ring(0).is_ok()
}

fn ring(rooms: usize) -> io::Result<Ring> {
    if Feature::Uring.is_off() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut ring = Ring::new(WRITES as u32, vec![0; rooms * ROOM])?;
    let (socket, _) = UnixDatagram::pair()?;
    let tun = File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun").ok();
    let files = std::iter::once(socket.as_fd()).chain(tun.as_ref().map(File::as_fd));
    if files.into_iter().all(|file| never_waits(&mut ring, file)) { Ok(ring) } else { Err(io::ErrorKind::Unsupported.into()) }
}

/// Whether the kernel reads this kind of file without waiting if it is told to (preadv2(2), RWF_NOWAIT): TUN since Linux 6.4, sockets since
/// 6.5. One of no interface has nothing to read, and that is not the question.
fn never_waits(ring: &mut Ring, file: BorrowedFd<'_>) -> bool {
    let mut answer = [0];
    ring.read(file, std::iter::once(0..0), &mut answer);
    let [answer] = answer;
    answer != -Errno::OPNOTSUPP.raw_os_error()
}

impl Rooms {
    fn single() -> Self {
        Self::Single(vec![0; ROOM])
    }

    /// Those of a ring that has failed are not its any more.
    fn mend(&mut self) {
        if let Self::Ring(ring) = self
            && ring.is_broken()
        {
            *self = Self::single();
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Ring(ring) => ring.memory(),
            Self::Single(room) => room,
        }
    }

    fn get(&self, room: usize) -> Option<&Room> {
        self.bytes().as_chunks().0.get(room)
    }

    fn get_mut(&mut self, room: usize) -> Option<&mut Room> {
        let bytes = match self {
            Self::Ring(ring) => ring.memory_mut(),
            Self::Single(room) => room,
        };
        bytes.as_chunks_mut().0.get_mut(room)
    }
}

fn descriptor(egress: &Egress) -> Option<BorrowedFd<'_>> {
    let (Way::Tap(fd) | Way::Packet(fd)) = egress.io.way()?;
    Some(fd)
}

const fn header_len(way: Way<'_>) -> usize {
    match way {
        Way::Tap(_) => VNET_HEADER,
        Way::Packet(_) => packet::HEADER,
    }
}

/// Puts the header before a frame that goes out as it came in.
fn seal(room: &mut Room, held: &Held, way: Way<'_>) {
    let header = vnet::encode(&held.offload, held.frame(room).bytes);
    let place = room.get_mut(held.start - header_len(way)..held.start);
    match (way, place) {
        (Way::Tap(_), Some(place)) => place.copy_from_slice(&header),
        (Way::Packet(_), Some(place)) => place.copy_from_slice(&to_native(header)),
        _ => (),
    }
}

/// What the ring has read from a TAP into a room.
fn of_tap(room: &Room, answer: i32) -> Result<Held, RecvError> {
    match usize::try_from(answer) {
        Ok(0) => Err(RecvError::Closed),
        Ok(len) => Held::of_tap(room, len),
        Err(_) => Err(port_io::recv_error(Errno::from_raw_os_error(-answer))),
    }
}

/// What it has received from a packet socket.
fn of_packet(ring: &mut Ring, room: usize, answer: i32) -> Result<Held, RecvError> {
    let bytes = usize::try_from(answer).map_err(|_| packet_port::recv_error(Errno::from_raw_os_error(-answer)))?;
    let received = ring.received(room, bytes).ok_or(RecvError::Empty)?;
    let room = ring.memory_mut().as_chunks_mut().0.get_mut(room).ok_or(RecvError::Empty)?;
    packet_port::held(room, received)
}

/// What became of a write, by the ring or alone.
fn written(answer: i32) -> Result<(), DropReason> {
    if answer < 0 { Err(port_io::send_error(Errno::from_raw_os_error(-answer))) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU16, os::fd::OwnedFd, sync::Arc};

    use netloom_switch::{Gso, GsoKind, frame::Checksum};
    use nix::{
        sys::socket::{AddressFamily, SockFlag, SockType, socketpair},
        unistd::{read, write},
    };

    use super::{
        super::{PacketPort, port_io::TapPort},
        *,
    };

    /// One network, as its worker sees it.
    struct Bench {
        burst: Burst,
        ingress: Arc<dyn PortIo>,
        from: OwnedFd,
        table: EgressTable,
        counters: PortCounters,
    }

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap()
    }

    fn wires(uso: bool) -> (Arc<dyn PortIo>, OwnedFd) {
        let (link, wire) = pair();
        (Arc::new(TapPort::new(link, uso)), wire)
    }

    /// Both ways of doing it; where the system has no ring, the same twice.
    fn benches() -> [Bench; 2] {
        [Burst::new(), Burst::with_ring()].map(|burst| {
            let (ingress, from) = wires(true);
            Bench { burst, ingress, from, table: EgressTable::default(), counters: PortCounters::default() }
        })
    }

    impl Bench {
        /// One more port: its far end and its books.
        fn port(&mut self, number: u16, uso: bool) -> (OwnedFd, Arc<PortCounters>) {
            let ((io, wire), counters) = (wires(uso), Arc::<PortCounters>::default());
            self.table = self.table.with(PortId(number), Egress { io, counters: Arc::clone(&counters) });
            (wire, counters)
        }

        fn comes(&self, offload: Offload, frame: &[u8]) {
            write(&self.from, &[&vnet::encode(&offload, frame)[..], frame].concat()).unwrap();
        }

        /// Reads until there is no more and sends each frame to all of these. Gives what was not a frame.
        fn turn(&mut self, rooms: usize, to: &[u16]) -> Vec<RecvError> {
            let mut others = Vec::new();
            loop {
                for room in 0..self.burst.read(&*self.ingress, rooms) {
                    match self.burst.held(room) {
                        Ok(_) => to.iter().for_each(|to| self.burst.forward(room, PortId(*to), &self.table, &self.counters)),
                        Err(other) => others.push(other),
                    }
                }
                self.burst.flush(&self.table, &self.counters);
                if others.iter().any(|other| !matches!(other, RecvError::Unfit { .. })) {
                    return others;
                }
            }
        }
    }

    fn went(wire: &OwnedFd) -> Vec<Vec<u8>> {
        let mut bytes = vec![0; ROOM];
        std::iter::from_fn(|| read(wire, &mut bytes).ok().map(|len| bytes[..len].to_vec())).collect()
    }

    fn frames(wire: &OwnedFd) -> Vec<Vec<u8>> {
        went(wire).into_iter().map(|bytes| bytes[VNET_HEADER..].to_vec()).collect()
    }

    fn numbered(count: u8) -> Vec<Vec<u8>> {
        (0..count).map(|number| vec![number; 60 + usize::from(number)]).collect()
    }

    #[test]
    fn frames_leave_in_the_order_in_which_they_came_to_all_who_get_them() {
        for rooms in [1, 7, ROOMS] {
            for mut bench in benches() {
                let [(two, books), (three, _)] = [2, 3].map(|port| bench.port(port, true));
                let came = numbered(40);
                came.iter().for_each(|frame| bench.comes(Offload::default(), frame));
                bench.turn(rooms, &[2, 3]);
                assert_eq!([frames(&two), frames(&three)], [came.clone(), came]);
                assert_eq!(books.snapshot().tx_frames, 40);
            }
        }
    }

    #[test]
    fn each_kind_of_port_reads_and_gets_its_own_header() {
        let offload = Offload { checksum: Checksum::Partial { start: 14, offset: 6 }, gso: None };
        for mut bench in benches() {
            // A packet socket's header has two bytes less, in the machine's own order.
            let native = |frame: &[u8]| [&to_native(vnet::encode(&offload, frame))[..], frame].concat();
            let wire = |frame: &[u8]| [&vnet::encode(&offload, frame)[..], frame].concat();
            let [(two, _), (four, _)] = [2, 4].map(|port| bench.port(port, true));
            let ((socket, three), books) = (pair(), Arc::<PortCounters>::default());
            bench.table = bench.table.with(PortId(3), Egress { io: Arc::new(PacketPort::new(socket, true)), counters: books });
            let (socket, from) = pair();
            (bench.ingress, bench.from) = (Arc::new(PacketPort::new(socket, true)), from);
            let came = numbered(20);
            for frame in &came {
                write(&bench.from, &native(frame)).unwrap();
            }
            bench.turn(ROOMS, &[2, 3, 4]);
            assert_eq!([went(&two), went(&four)], [0, 1].map(|_| came.iter().map(|frame| wire(frame)).collect::<Vec<_>>()));
            assert_eq!(went(&three), came.iter().map(|frame| native(frame)).collect::<Vec<_>>());
        }
    }

    /// A bench whose ring fails when it is told to; `None` where the system has none.
    fn spoiled() -> Option<(Bench, impl Fn(&Burst))> {
        let [_, bench] = benches();
        let spoil = |burst: &Burst| match &burst.rooms {
            Rooms::Ring(ring) => ring.spoil(),
            Rooms::Single(_) => panic!("it has failed before"),
        };
        matches!(bench.burst.rooms, Rooms::Ring(_)).then_some((bench, spoil))
    }

    #[test]
    fn a_ring_that_fails_before_it_reads_leaves_every_frame_to_the_slow_way() {
        let Some((mut bench, spoil)) = spoiled() else { return };
        let (two, books) = bench.port(2, true);
        let came = numbered(40);
        came.iter().for_each(|frame| bench.comes(Offload::default(), frame));
        spoil(&bench.burst);
        bench.turn(ROOMS, &[2]);
        assert_eq!(frames(&two), came);
        assert_eq!(books.snapshot().tx_frames, 40);
    }

    #[test]
    fn of_a_ring_that_fails_in_between_every_frame_is_counted() {
        let Some((mut bench, spoil)) = spoiled() else { return };
        let [(two, books), (three, others)] = [2, 3].map(|port| bench.port(port, true));
        numbered(10).iter().for_each(|frame| bench.comes(Offload::default(), frame));
        let rooms = bench.burst.read(&*bench.ingress, ROOMS);
        spoil(&bench.burst);
        for room in 0..rooms.min(10) {
            [2, 3].iter().for_each(|to| bench.burst.forward(room, PortId(*to), &bench.table, &bench.counters));
            bench.burst.flush(&bench.table, &bench.counters);
        }
        assert_eq!((frames(&two).len(), frames(&three).len()), (0, 0));
        for books in [books, others].map(|books| books.snapshot()) {
            assert_eq!((books.tx_frames, books.drops.iter().map(|(_, count)| count).sum::<u64>()), (0, 10));
        }
        let later = numbered(20);
        later.iter().for_each(|frame| bench.comes(Offload::default(), frame));
        bench.turn(ROOMS, &[2]);
        assert_eq!(frames(&two), later);
    }

    #[test]
    fn a_kind_of_file_that_would_wait_is_found_out() {
        let Ok(mut ring) = Ring::new(4, vec![0; 64]) else { return };
        let (socket, _) = pair();
        assert!(never_waits(&mut ring, socket.as_fd()));
        assert!(!never_waits(&mut ring, File::open("/proc/self/status").unwrap().as_fd()));
    }

    #[test]
    fn what_is_no_frame_stands_in_nobodys_way() {
        for mut bench in benches() {
            let (two, _) = bench.port(2, true);
            let came = numbered(3);
            bench.comes(Offload::default(), &came[0]);
            write(&bench.from, b"short").unwrap();
            // Segments of no length (a header that no kernel writes).
            write(&bench.from, &[&[0, 1][..], &[0; 70]].concat()).unwrap();
            bench.comes(Offload::default(), &came[1]);
            bench.comes(Offload::default(), &came[2]);
            let others = bench.turn(ROOMS, &[2]);
            assert_eq!(others[0], RecvError::Unfit { len: 5, reason: DropReason::Runt });
            assert_eq!(others[1], RecvError::Unfit { len: 60, reason: DropReason::BadOffload });
            assert_eq!(frames(&two), came);
        }
    }

    #[test]
    fn a_superframe_keeps_its_header_and_one_that_must_be_cut_its_place() {
        let udp = |payload: &[u8]| {
            let mut frame = [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0][..], &[0x45; 1], &[0; 19], &[0; 8], payload].concat();
            let (total, datagram) = (28 + payload.len() as u16, 8 + payload.len() as u16);
            frame[16..18].copy_from_slice(&total.to_be_bytes());
            (frame[22], frame[23]) = (64, 17);
            frame[38..40].copy_from_slice(&datagram.to_be_bytes());
            frame
        };
        let gso = Gso { kind: GsoKind::Udp, size: NonZeroU16::new(100).unwrap(), ecn: false };
        let offload = Offload { checksum: Checksum::Partial { start: 34, offset: 6 }, gso: Some(gso) };
        for mut bench in benches() {
            let [(two, _), (three, _)] = [(2, true), (3, false)].map(|(port, uso)| bench.port(port, uso));
            let superframe = udp(&[7; 300]);
            let [before, after] = [udp(&[1; 50]), udp(&[2; 50])];
            bench.comes(Offload::default(), &before);
            bench.comes(offload, &superframe);
            bench.comes(Offload::default(), &after);
            bench.turn(ROOMS, &[2, 3]);
            let whole = went(&two);
            assert_eq!(whole[1], [&vnet::encode(&offload, &superframe)[..], &superframe].concat());
            let lens: Vec<_> = frames(&three).iter().map(Vec::len).collect();
            assert_eq!(lens, [92, 142, 142, 142, 92], "the pieces stand between what came before and after");
        }
    }

    #[test]
    fn what_a_port_does_not_take_is_its_drop_and_what_no_port_takes_the_senders() {
        for mut bench in benches() {
            let (two, books) = bench.port(2, true);
            drop(two);
            let came = numbered(5);
            came.iter().for_each(|frame| bench.comes(Offload::default(), frame));
            bench.turn(ROOMS, &[2, 9]);
            let (counts, own) = (books.snapshot(), bench.counters.snapshot());
            assert_eq!((counts.tx_frames, counts.drops.iter().map(|drop| drop.1).sum::<u64>()), (0, 5));
            assert_eq!(own.drops, [(DropReason::PortClosed, 5)]);
        }
    }
}
