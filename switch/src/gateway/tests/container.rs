//! A container with a TCP of its own (smoltcp's), and the run of a network between it, the gateway and the world.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy::{Checksum as Compute, Device, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken},
    socket::tcp::{Socket, SocketBuffer, State},
    time::Instant,
    wire::{HardwareAddress, IpCidr},
};

use super::super::{testkit::*, *};
use crate::{Checksum, Gso, GsoKind, Offload, checksum, frame::FRAME_MAX};

/// The container's link: packets without their Ethernet header.
#[derive(Default)]
struct Link {
    superframes: bool,
    arrived: VecDeque<Vec<u8>>,
    sent: VecDeque<(Vec<u8>, Offload)>,
}

struct Rx(Vec<u8>);
struct Tx<'a>(&'a mut Link, Option<std::num::NonZeroU16>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        let mut offload = Offload::default();
        if self.0.superframes {
            let header = if is_v4(&packet) { 20 } else { 40 };
            let parsed = Packet::from_bytes(CONTAINER_MAC, &packet, offload).unwrap();
            let pseudo = checksum::pseudo(parsed.source, parsed.destination, 6, (len - header) as u16);
            packet[header + 16..header + 18].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
            offload.checksum = Checksum::Partial { start: 14 + header as u16, offset: 16 };
            let kind = if is_v4(&packet) { GsoKind::TcpV4 } else { GsoKind::TcpV6 };
            offload.gso = self.1.map(|size| Gso { kind, size, ecn: false });
        }
        self.0.sent.push_back((ethernet(if is_v4(&packet) { 0x0800 } else { 0x86dd }, &packet), offload));
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.1 = meta.segmentation_offload_size;
    }
}

/// The frame with a destination-options header of eight bytes between its IPv6 header and its segment.
fn extended(bytes: Vec<u8>, offload: Offload) -> (Vec<u8>, Offload) {
    let length = u16::from_be_bytes([bytes[18], bytes[19]]) + 8;
    let [high, low] = length.to_be_bytes();
    let header = [&bytes[..18], &[high, low, 60], &bytes[21..54]].concat();
    let checksum = match offload.checksum {
        Checksum::Partial { start, offset } => Checksum::Partial { start: start + 8, offset },
        other => other,
    };
    ([&header[..], &[bytes[20], 0, 1, 4, 0, 0, 0, 0], &bytes[54..]].concat(), Offload { checksum, ..offload })
}

fn is_v4(packet: &[u8]) -> bool {
    packet[0] >> 4 == 4
}

impl Device for Link {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        Some((Rx(self.arrived.pop_front()?), Tx(self, None)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(self, None))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        if self.superframes {
            capabilities.checksum.tcp = Compute::Rx;
            capabilities.segmentation.tcpv4 = std::num::NonZeroUsize::new(65_535);
        }
        capabilities
    }
}

/// What happens to a frame on the link.
pub(super) type Mischief = Box<dyn FnMut(u64) -> bool>;

/// A frame on the link.
struct Travelling {
    outward: bool,
    bytes: Vec<u8>,
    offload: Offload,
}

/// A container, its gateway and the world, on one clock.
pub(super) struct Lab {
    pub(super) gateway: Gateway,
    pub(super) world: World,
    pub(super) now: Time,
    interface: Interface,
    sockets: SocketSet<'static>,
    link: Link,
    /// Called with the number of each frame, either way; true loses it.
    pub(super) lose: Mischief,
    /// Every so many frames, either way, one is overtaken by the next.
    pub(super) overtake: Option<u64>,
    overtaken: Option<Travelling>,
    pub(super) frames: u64,
    /// The longest frame from the gateway.
    pub(super) longest: usize,
    /// What the gateway dropped.
    pub(super) drops: Vec<DropReason>,
    /// The container puts an extension header into its IPv6 packets.
    pub(super) extend_headers: bool,
    /// The ICMP errors that the container saw: type and code.
    pub(super) icmp: Vec<(u8, u8)>,
}

impl Lab {
    pub(super) fn new(config: GatewayConfig, superframes: bool) -> Self {
        let mut gateway = Gateway::new(view(config), 42);
        gateway.set_neighbour(CONTAINER.into(), CONTAINER_MAC);
        gateway.set_neighbour(CONTAINER6.into(), CONTAINER_MAC);
        let mut link = Link { superframes, ..Link::default() };
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut link, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(CONTAINER.into(), 24)).unwrap();
            addresses.push(IpCidr::new(CONTAINER6.into(), 64)).unwrap();
        });
        interface.routes_mut().add_default_ipv4_route(GATEWAY).unwrap();
        interface.routes_mut().add_default_ipv6_route(GATEWAY6).unwrap();
        Self {
            gateway,
            world: World::default(),
            now: Time::from_nanos(1_000_000_000),
            interface,
            sockets: SocketSet::new(Vec::new()),
            link,
            lose: Box::new(|_| false),
            overtake: None,
            overtaken: None,
            frames: 0,
            longest: 0,
            drops: Vec::new(),
            extend_headers: false,
            icmp: Vec::new(),
        }
    }

    /// A socket of the container that connects to `to`.
    pub(super) fn connect(&mut self, to: impl Into<SocketAddr>, port: u16) -> SocketHandle {
        let (handle, to) = (self.sockets.add(socket()), to.into());
        self.socket_with(handle, |socket, context| socket.connect(context, to, port).unwrap());
        handle
    }

    /// A socket of the container that waits for a connection.
    pub(super) fn listen(&mut self, port: u16) -> SocketHandle {
        let handle = self.sockets.add(socket());
        self.socket(handle).listen(port).unwrap();
        handle
    }

    /// The container knows nothing more of a connection, and tells nobody.
    pub(super) fn forget(&mut self, handle: SocketHandle) {
        self.sockets.remove(handle);
    }

    fn socket_with<R>(&mut self, handle: SocketHandle, f: impl FnOnce(&mut Socket<'static>, &mut smoltcp::iface::Context) -> R) -> R {
        f(self.sockets.get_mut(handle), self.interface.context())
    }

    pub(super) fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub(super) fn state(&mut self, handle: SocketHandle) -> State {
        self.socket(handle).state()
    }

    /// The only host socket there is.
    pub(super) fn host(&mut self) -> &mut FakeTcp {
        assert_eq!(self.world.tcp.len(), 1);
        self.world.tcp.values_mut().next().unwrap()
    }

    /// Lets everything happen that happens at this moment. True: something did.
    pub(super) fn step(&mut self) -> bool {
        let now = Instant::from_micros((self.now.as_nanos() / 1000) as i64);
        self.interface.poll(now, &mut self.link, &mut self.sockets);
        let mut busy = false;
        while let Some((bytes, offload)) = self.link.sent.pop_front() {
            busy = true;
            let (bytes, offload) = if self.extend_headers { extended(bytes, offload) } else { (bytes, offload) };
            self.travel(Travelling { outward: true, bytes, offload });
        }
        for (socket, what) in self.world.notices() {
            busy = true;
            self.gateway.ready(self.now, socket, what, &mut self.world);
        }
        if self.gateway.next_timer().is_some_and(|at| at <= self.now) {
            self.gateway.timer(self.now, &mut self.world);
        }
        while let Some((bytes, offload)) = self.world.emitted.pop_front() {
            busy = true;
            self.travel(Travelling { outward: false, bytes, offload });
        }
        if !busy && let Some(late) = self.overtaken.take() {
            self.deliver(late);
            return true;
        }
        busy
    }

    /// A frame passes the link, where it may be lost or overtaken.
    fn travel(&mut self, frame: Travelling) {
        self.frames += 1;
        if (self.lose)(self.frames) {
            return;
        }
        if self.overtaken.is_none() && self.overtake.is_some_and(|every| self.frames.is_multiple_of(every)) {
            self.overtaken = Some(frame);
            return;
        }
        self.deliver(frame);
        if let Some(late) = self.overtaken.take() {
            self.deliver(late);
        }
    }

    fn deliver(&mut self, frame: Travelling) {
        match frame.outward {
            true => self.send(&frame.bytes, frame.offload),
            false => self.arrive(frame.bytes, frame.offload),
        }
    }

    /// A frame of the container's reaches the gateway.
    pub(super) fn send(&mut self, bytes: &[u8], offload: Offload) {
        if let Err(reason) = self.gateway.frame(self.now, &Frame { bytes, offload }, &mut self.world) {
            self.drops.push(reason);
        }
    }

    fn arrive(&mut self, mut bytes: Vec<u8>, offload: Offload) {
        assert!(bytes.len() <= FRAME_MAX);
        assert!(offload.gso.is_some() || bytes.len() <= 1514, "a frame of {} bytes is no superframe", bytes.len());
        assert_eq!((&bytes[..6], &bytes[6..12]), (&CONTAINER_MAC.0[..], &GATEWAY_MAC.0[..]));
        self.longest = self.longest.max(bytes.len());
        if let Checksum::Partial { start, offset } = offload.checksum {
            assert!(checksum::finish(&mut bytes, start, offset));
        }
        let packet = Packet::parse(GATEWAY_MAC, &Frame { bytes: &bytes, offload }).unwrap();
        if packet.is_icmp() {
            self.icmp.push((packet.payload[0], packet.payload[1]));
        }
        self.link.arrived.push_back(bytes.split_off(14));
    }

    /// The payloads of the segments that the gateway's superframes are to be cut into, each length once; nothing arrives.
    pub(super) fn sizes_of_segments(&mut self) -> Vec<usize> {
        let mut sizes = std::collections::BTreeSet::new();
        for (socket, _) in self.world.notices() {
            self.gateway.ready(self.now, socket, Readiness { readable: true, ..Readiness::default() }, &mut self.world);
        }
        for (_, offload) in self.world.emitted.drain(..) {
            sizes.extend(offload.gso.map(|gso| usize::from(gso.size.get())));
        }
        sizes.into_iter().collect()
    }

    /// Runs until `done`, moving the clock to the next timer whenever nothing happens; fails after too much of either.
    pub(super) fn run_until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..200_000 {
            if done(self) {
                return;
            }
            if !self.step() && !done(self) {
                self.now = self.next_timer().expect("it is not done, and nothing will ever happen");
            }
        }
        panic!("it did not come to an end");
    }

    /// Runs until nothing more happens at this moment.
    pub(super) fn settle(&mut self) {
        for _ in 0..100_000 {
            if !self.step() {
                return;
            }
        }
        panic!("it did not come to rest");
    }

    /// When the container or the gateway has something to do, after now.
    fn next_timer(&mut self) -> Option<Time> {
        let now = Instant::from_micros((self.now.as_nanos() / 1000) as i64);
        let container = self.interface.poll_at(now, &self.sockets);
        let container = container.map(|at| Time::ZERO + Duration::from_micros(at.total_micros() as u64));
        let next = [container, self.gateway.next_timer()].into_iter().flatten().min();
        next.map(|at| at.max(self.now + Duration::from_micros(1)))
    }

    /// Moves the clock and lets everything happen that falls due on the way.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        while let Some(at) = self.next_timer().filter(|at| *at <= end) {
            self.now = at;
            self.settle();
        }
        self.now = end;
    }
}

fn socket() -> Socket<'static> {
    let mut socket = Socket::new(SocketBuffer::new(vec![0; 300_000]), SocketBuffer::new(vec![0; 300_000]));
    socket.set_ack_delay(None);
    socket
}
