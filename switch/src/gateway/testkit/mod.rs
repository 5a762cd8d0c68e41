//! A fake outside world and a fake container, for tests and fuzzing of the gateway: nothing here touches a socket or a clock.

#[cfg_attr(
    not(test),
    expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failed expectation of a test panics")
)]
pub mod script;

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use super::{
    Datagram, DatagramError, Departure, EchoError, EchoReply, EchoRequest, GatewayConfig, GatewayIpv6, HostAddresses, LeaseAsk, LeaseAsk6,
    LeaseQuestion, Limits, Outside, OutsideError, Readiness, SocketId, View,
};
use crate::{DropReason, Frame, Mac, Offload, checksum, names::Names};

/// The gateway's and the container's addresses in every test.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const CONTAINER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub const GATEWAY_MAC: Mac = Mac::from_ipv4(GATEWAY);
pub const CONTAINER_MAC: Mac = Mac::from_ipv4(CONTAINER);

/// And those of IPv6.
const SUBNET6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0xa, 0, 0, 0, 0);
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0xa, 0, 0, 0, 1);
pub const CONTAINER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0xa, 0, 0, 0, 2);

/// The host's own.
pub const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 100);
pub const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100);

/// The container's address that talks to `to`.
pub const fn container(to: IpAddr) -> IpAddr {
    if to.is_ipv4() { IpAddr::V4(CONTAINER) } else { IpAddr::V6(CONTAINER6) }
}

/// Settings of a network 10.0.0.0/24 and fd00:0:0:a::/64 with MTU 1500.
pub fn config() -> GatewayConfig {
    GatewayConfig {
        mac: GATEWAY_MAC,
        ip: Some(GATEWAY),
        subnet: ipnet::Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 24),
        ipv6: Some(GatewayIpv6 { ip: GATEWAY6, subnet: ipnet::Ipv6Net::new_assert(SUBNET6, 64) }),
        mtu: 1500,
        internal: false,
        host_loopback: false,
        limits: Limits::default(),
    }
}

/// A view with two resolvers, a loopback address beyond 127/8, two other networks, and the names `web`, `db.blue` and, of both
/// families, `six`.
pub fn view(config: GatewayConfig) -> View {
    View {
        config: Arc::new(config),
        names: Arc::new(Names::new([
            ("web", vec![IpAddr::from([10, 0, 0, 7])]),
            ("db.blue", vec![IpAddr::from([10, 0, 1, 9])]),
            ("six", vec![IpAddr::from([10, 0, 0, 6]), IpAddr::from([0xfd00, 0, 0, 0xa, 0, 0, 0, 6])]),
        ])),
        resolvers: Arc::new([SocketAddr::from(([192, 0, 2, 53], 53)), SocketAddr::from(([198, 51, 100, 53], 53))]),
        host: Arc::new(HostAddresses {
            loopback: vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([203, 0, 113, 200])],
            own: vec![HOST.into(), HOST6.into()],
        }),
        networks: Arc::new([
            ipnet::Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 24).into(),
            ipnet::Ipv4Net::new_assert(Ipv4Addr::new(10, 99, 0, 0), 16).into(),
            ipnet::Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0, 0, 0xb, 0, 0, 0, 0), 64).into(),
        ]),
    }
}

/// A host TCP socket as the world keeps it.
#[derive(Debug, Default)]
pub struct FakeTcp {
    pub to: Option<SocketAddr>,
    /// How the connect ends; `None` while it has not.
    pub outcome: Option<Result<(), OutsideError>>,
    /// What the peer sent and the gateway has not read.
    pub inbox: VecDeque<u8>,
    pub inbox_fin: bool,
    /// What the gateway wrote.
    pub outbox: Vec<u8>,
    /// How much more the socket takes.
    pub room: usize,
    /// What every write fails with from now on, and every read once the inbox is empty.
    pub broken: Option<OutsideError>,
    pub finished: bool,
    pub reset: bool,
    pub closed: bool,
    /// The gateway was told `WouldBlock` and waits for a notice.
    waits: Readiness,
}

/// A host UDP socket as the world keeps it.
#[derive(Debug, Default)]
pub struct FakeUdp {
    pub sent: Vec<(SocketAddr, Option<IpAddr>, Vec<u8>)>,
    /// What the newest of them left with.
    pub departure: Departure,
    pub inbox: VecDeque<(SocketAddr, Option<IpAddr>, Vec<u8>)>,
    /// The traffic class of everything that comes in.
    pub traffic_class: u8,
    /// What is in the inbox are runs of datagrams of so many bytes.
    pub each: Option<usize>,
    pub errors: VecDeque<DatagramError>,
    /// What the next sends fail with.
    pub send_errors: VecDeque<OutsideError>,
    /// After so many more datagrams a read fails once, with this.
    pub read_error_after: Option<(usize, OutsideError)>,
    pub closed: bool,
    waits: bool,
}

/// A host socket for ICMP echo as the world keeps it.
#[derive(Debug, Default)]
pub struct FakeEcho {
    /// Destination, sequence number, time to live and payload.
    pub sent: Vec<(IpAddr, u16, u8, Vec<u8>)>,
    /// Whether the newest of them must not be cut.
    pub dont_fragment: bool,
    pub inbox: VecDeque<(IpAddr, u16, Option<u8>, Vec<u8>)>,
    pub errors: VecDeque<EchoError>,
    /// What the next sends, and the next reads, fail with.
    pub send_errors: VecDeque<OutsideError>,
    pub read_errors: VecDeque<OutsideError>,
    pub closed: bool,
    waits: bool,
}

/// The outside world, and the memory of what the gateway did to it.
#[derive(Debug)]
pub struct World {
    pub emitted: VecDeque<(Vec<u8>, Offload)>,
    pub tcp: HashMap<SocketId, FakeTcp>,
    pub udp: HashMap<SocketId, FakeUdp>,
    pub echo: HashMap<SocketId, FakeEcho>,
    /// What was asked about leases.
    pub asked: Vec<LeaseAsk>,
    pub asked6: Vec<LeaseAsk6>,
    /// What lies behind other ports.
    pub anothers: Vec<Mac>,
    pub drops: Vec<DropReason>,
    /// The answer to the next calls that open a socket.
    pub open: Result<(), OutsideError>,
    /// How much a new TCP socket takes.
    pub room: usize,
}

impl Default for World {
    fn default() -> Self {
        Self {
            emitted: VecDeque::new(),
            tcp: HashMap::new(),
            udp: HashMap::new(),
            echo: HashMap::new(),
            asked: Vec::new(),
            asked6: Vec::new(),
            anothers: Vec::new(),
            drops: Vec::new(),
            open: Ok(()),
            room: usize::MAX,
        }
    }
}

impl World {
    /// Puts an accepted connection into the world.
    pub fn add_tcp(&mut self, socket: SocketId) {
        self.tcp.insert(socket, FakeTcp { outcome: Some(Ok(())), room: self.room, ..FakeTcp::default() });
    }

    /// Puts a bound UDP socket into the world.
    pub fn add_udp(&mut self, socket: SocketId) {
        self.udp.insert(socket, FakeUdp { waits: true, ..FakeUdp::default() });
    }

    /// The notices that an edge-triggered poll would give: one for each `WouldBlock` whose reason is gone.
    pub fn notices(&mut self) -> Vec<(SocketId, Readiness)> {
        let tcp = self.tcp.iter_mut().filter(|(_, tcp)| !tcp.closed && !tcp.reset).map(|(socket, tcp)| {
            let readable = tcp.waits.readable && (!tcp.inbox.is_empty() || tcp.inbox_fin || tcp.broken.is_some());
            let writable = tcp.waits.writable && tcp.outcome.is_some() && (tcp.room > 0 || tcp.broken.is_some());
            tcp.waits.readable &= !readable;
            tcp.waits.writable &= !writable;
            (*socket, Readiness { readable, writable, error: false })
        });
        let udp = self.udp.iter_mut().filter(|(_, udp)| !udp.closed).map(|(socket, udp)| {
            let readable = udp.waits && !udp.inbox.is_empty();
            udp.waits &= !readable;
            (*socket, Readiness { readable, writable: false, error: !udp.errors.is_empty() })
        });
        let echo = self.echo.iter_mut().filter(|(_, echo)| !echo.closed).map(|(socket, echo)| {
            let readable = echo.waits && !echo.inbox.is_empty();
            echo.waits &= !readable;
            (*socket, Readiness { readable, writable: false, error: !echo.errors.is_empty() })
        });
        tcp.chain(udp).chain(echo).filter(|(_, what)| *what != Readiness::default()).collect()
    }

    fn open_tcp(&mut self, socket: SocketId) -> Result<&mut FakeTcp, OutsideError> {
        self.tcp.get_mut(&socket).filter(|tcp| !tcp.closed && !tcp.reset).ok_or(OutsideError::Failed)
    }

    fn open_udp(&mut self, socket: SocketId) -> Result<&mut FakeUdp, OutsideError> {
        self.udp.get_mut(&socket).filter(|udp| !udp.closed).ok_or(OutsideError::Failed)
    }

    fn open_echo(&mut self, socket: SocketId) -> Result<&mut FakeEcho, OutsideError> {
        self.echo.get_mut(&socket).filter(|echo| !echo.closed).ok_or(OutsideError::Failed)
    }
}

impl Outside for World {
    fn emit(&mut self, frame: &Frame<'_>) {
        self.emitted.push_back((frame.bytes.to_vec(), frame.offload));
    }

    fn tcp_connect(&mut self, socket: SocketId, to: SocketAddr) -> Result<(), OutsideError> {
        self.open?;
        let waits = Readiness { writable: true, ..Readiness::default() };
        self.tcp.insert(socket, FakeTcp { to: Some(to), room: self.room, waits, ..FakeTcp::default() });
        Ok(())
    }

    fn tcp_outcome(&mut self, socket: SocketId) -> Result<(), OutsideError> {
        let tcp = self.open_tcp(socket)?;
        tcp.waits.writable |= tcp.outcome.is_none();
        tcp.outcome.unwrap_or(Err(OutsideError::WouldBlock))
    }

    fn tcp_recv(&mut self, socket: SocketId, into: &mut [u8]) -> Result<usize, OutsideError> {
        let tcp = self.open_tcp(socket)?;
        if let Some(error) = tcp.broken.filter(|_| tcp.inbox.is_empty()) {
            return Err(error);
        }
        if tcp.inbox.is_empty() {
            tcp.waits.readable = !tcp.inbox_fin;
            return if tcp.inbox_fin { Ok(0) } else { Err(OutsideError::WouldBlock) };
        }
        std::io::Read::read(&mut tcp.inbox, into).map_err(|_| OutsideError::Failed)
    }

    fn tcp_send(&mut self, socket: SocketId, bytes: &[u8]) -> Result<usize, OutsideError> {
        let tcp = self.open_tcp(socket)?;
        if let Some(error) = tcp.broken {
            return Err(error);
        }
        let taken = bytes.get(..tcp.room).unwrap_or(bytes);
        if taken.is_empty() {
            tcp.waits.writable = true;
            return Err(OutsideError::WouldBlock);
        }
        tcp.room -= taken.len();
        tcp.outbox.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn tcp_finish(&mut self, socket: SocketId) {
        if let Ok(tcp) = self.open_tcp(socket) {
            tcp.finished = true;
        }
    }

    fn tcp_reset(&mut self, socket: SocketId) {
        if let Ok(tcp) = self.open_tcp(socket) {
            tcp.reset = true;
        }
    }

    fn udp_open(&mut self, socket: SocketId, _of: IpAddr) -> Result<(), OutsideError> {
        self.open?;
        self.udp.insert(socket, FakeUdp { waits: true, ..FakeUdp::default() });
        Ok(())
    }

    fn udp_send(&mut self, socket: SocketId, to: SocketAddr, with: Departure, bytes: &[u8]) -> Result<(), OutsideError> {
        let udp = self.open_udp(socket)?;
        if let Some(error) = udp.send_errors.pop_front() {
            return Err(error);
        }
        udp.departure = with;
        udp.sent.push((to, with.from, bytes.to_vec()));
        Ok(())
    }

    fn udp_recv(&mut self, socket: SocketId, into: &mut [u8]) -> Result<Datagram, OutsideError> {
        let udp = self.open_udp(socket)?;
        match udp.read_error_after {
            Some((0, error)) => {
                udp.read_error_after = None;
                return Err(error);
            }
            ref mut after => *after = after.map(|(left, error)| (left - 1, error)),
        }
        udp.waits = udp.inbox.is_empty();
        let (from, to, bytes) = udp.inbox.pop_front().ok_or(OutsideError::WouldBlock)?;
        let len = std::io::Read::read(&mut bytes.as_slice(), into).map_err(|_| OutsideError::Failed)?;
        Ok(Datagram { len, each: udp.each.map_or(len, |each| each.min(len)), from, to, traffic_class: udp.traffic_class })
    }

    fn udp_error(&mut self, socket: SocketId) -> Option<DatagramError> {
        self.open_udp(socket).ok()?.errors.pop_front()
    }

    fn echo_open(&mut self, socket: SocketId, _of: IpAddr) -> Result<(), OutsideError> {
        self.open?;
        self.echo.insert(socket, FakeEcho { waits: true, ..FakeEcho::default() });
        Ok(())
    }

    fn echo_send(&mut self, socket: SocketId, to: IpAddr, request: EchoRequest, payload: &[u8]) -> Result<(), OutsideError> {
        let echo = self.open_echo(socket)?;
        if let Some(error) = echo.send_errors.pop_front() {
            return Err(error);
        }
        echo.dont_fragment = request.dont_fragment;
        echo.sent.push((to, request.sequence, request.ttl, payload.to_vec()));
        Ok(())
    }

    fn echo_recv(&mut self, socket: SocketId, into: &mut [u8]) -> Result<EchoReply, OutsideError> {
        let echo = self.open_echo(socket)?;
        if let Some(error) = echo.read_errors.pop_front() {
            return Err(error);
        }
        echo.waits = echo.inbox.is_empty();
        let (from, sequence, ttl, bytes) = echo.inbox.pop_front().ok_or(OutsideError::WouldBlock)?;
        let len = std::io::Read::read(&mut bytes.as_slice(), into).map_err(|_| OutsideError::Failed)?;
        Ok(EchoReply { len, from, sequence, ttl })
    }

    fn echo_error(&mut self, socket: SocketId) -> Option<EchoError> {
        self.open_echo(socket).ok()?.errors.pop_front()
    }

    fn ask_lease(&mut self, question: LeaseQuestion) -> Result<(), DropReason> {
        match question {
            LeaseQuestion::V4(ask) => self.asked.push(ask),
            LeaseQuestion::V6(ask) => self.asked6.push(ask),
        }
        Ok(())
    }

    fn is_anothers(&self, mac: Mac) -> bool {
        self.anothers.contains(&mac)
    }

    fn close(&mut self, socket: SocketId) {
        if let Some(echo) = self.echo.get_mut(&socket) {
            echo.closed = true;
        }
        if let Some(tcp) = self.tcp.get_mut(&socket) {
            tcp.closed = true;
        }
        if let Some(udp) = self.udp.get_mut(&socket) {
            udp.closed = true;
        }
    }

    fn dropped(&mut self, reason: DropReason) {
        self.drops.push(reason);
    }
}

/// An Ethernet frame from the container to the gateway.
pub fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&GATEWAY_MAC.0[..], &CONTAINER_MAC.0, &ethertype.to_be_bytes(), payload].concat()
}

/// An IPv4 frame from the container's address to `to`, by way of the gateway; the header checksum is right, the transport's is
/// as given.
pub fn ipv4(to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    let head = [&[0x45, 0][..], &length, &[0, 0, 0x40, 0, 64, protocol]].concat();
    let addresses = [CONTAINER.octets(), to.octets()].concat();
    let sum = checksum::finished(checksum::sum(&addresses, checksum::sum(&head, 0))).to_be_bytes();
    ethernet(0x0800, &[&head[..], &sum, &addresses, payload].concat())
}

/// An IPv6 frame from the container's address to `to`, by way of the gateway.
pub fn ipv6(to: Ipv6Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv6_from(CONTAINER6, to, 64, protocol, payload)
}

/// An IPv6 frame to the gateway's MAC that says anything of its sender.
pub fn ipv6_from(from: Ipv6Addr, to: Ipv6Addr, hop_limit: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let [l0, l1] = u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    ethernet(0x86dd, &[&[0x60, 0, 0, 0, l0, l1, protocol, hop_limit][..], &from.octets(), &to.octets(), payload].concat())
}

/// A fragment of the packet `id` from the container to `to`: what stands at `start` of its payload.
pub fn fragment(to: IpAddr, protocol: u8, id: u16, start: usize, more: bool, payload: &[u8]) -> Vec<u8> {
    let place = start as u16;
    if to.is_ipv6() {
        let [o0, o1] = (place & !7 | u16::from(more)).to_be_bytes();
        let [i0, i1] = id.to_be_bytes();
        return ip(to, 44, &[&[protocol, 0, o0, o1, 0, 0, i0, i1][..], payload].concat());
    }
    let mut frame = ip(to, protocol, payload);
    if let Some(header) = frame.get_mut(14..34).and_then(|header| header.first_chunk_mut::<20>()) {
        [header[4], header[5]] = id.to_be_bytes();
        [header[6], header[7]] = (place >> 3 | u16::from(more) << 13).to_be_bytes();
        [header[10], header[11]] = [0, 0];
        [header[10], header[11]] = checksum::finished(checksum::sum(header, 0)).to_be_bytes();
    }
    frame
}

/// A frame of either family.
pub fn ip(to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match to {
        IpAddr::V4(to) => ipv4(to, protocol, payload),
        IpAddr::V6(to) => ipv6(to, protocol, payload),
    }
}

/// A UDP frame from the container's `from` to `to`, with a right checksum.
pub fn udp(from: u16, to: impl Into<SocketAddr>, payload: &[u8]) -> Vec<u8> {
    let to = to.into();
    let length = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    let head = [from.to_be_bytes(), to.port().to_be_bytes(), length.to_be_bytes()].concat();
    let pseudo = checksum::pseudo(container(to.ip()), to.ip(), 17, length);
    let sum = checksum::finished_nonzero(checksum::sum(payload, checksum::sum(&head, pseudo))).to_be_bytes();
    ip(to.ip(), 17, &[&head[..], &sum, payload].concat())
}
