//! The data plane without a kernel's TAPs: ports are ends of socket pairs, which keep messages whole as TAPs keep frames.

use std::{
    io::Read,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use netloom_switch::{
    DropReason, Frame,
    gateway::{Given, LeaseAnswer, LeaseQuestion, LeaseReply},
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair},
};

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

fn settings() -> NetworkConfig {
    NetworkConfig {
        subnet: "10.0.0.0/24".parse().unwrap(),
        gateway: Some([10, 0, 0, 1].into()),
        ipv6: None,
        mac: Mac::from_ipv4([10, 0, 0, 1].into()),
        mtu: 1500,
        internal: false,
        isolated: false,
        host_loopback: false,
        ageing: Duration::from_secs(300),
        fdb_max: 100,
        reserved_macs_transparent: false,
        port_security: true,
        limits: Default::default(),
    }
}

/// The far end of a port, where a container would be.
struct Container {
    wire: OwnedFd,
    port: PortId,
    mac: Mac,
}

fn wires() -> (OwnedFd, OwnedFd) {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap()
}

fn attach(fabric: &Fabric, network: NetworkId, host: u8) -> Container {
    let (link, wire) = wires();
    let ip = std::net::Ipv4Addr::from([10, 0, 0, host]);
    let mac = Mac::from_ipv4(ip);
    let (owner, options) = (format!("c{host}"), PortOptions::default());
    let asks = vec![network];
    let config =
        PortConfig { link, backend: Backend::Tap, owner, ip: Some(ip), ip6: None, mac, mtu: 1500, host_loopback: false, asks, options };
    Container { wire, port: fabric.attach(network, config).unwrap(), mac }
}

fn seat(mac: Mac) -> Seat {
    let (owner, asks, options, listeners) = (Arc::from(""), Default::default(), Default::default(), Default::default());
    Seat { worker: 0, owner, ip: None, ip6: None, mac, mtu: 1500, host_loopback: false, asks, options, leased: Vec::new(), listeners }
}

fn frame(to: Mac, from: Mac, text: &str) -> Vec<u8> {
    [&to.0[..], &from.0, &[0x88, 0xb5], text.as_bytes(), &[0; 46]].concat()
}

impl Container {
    fn send(&self, to: Mac, text: &str) {
        let message = [&[0; 12][..], &frame(to, self.mac, text)].concat();
        send(self.wire.as_raw_fd(), &message, MsgFlags::empty()).unwrap();
    }

    /// The next frame, without its header.
    fn receive(&self) -> Option<Vec<u8>> {
        let mut message = [0; 2048];
        let mut waiting = [PollFd::new(self.wire.as_fd(), PollFlags::POLLIN)];
        poll(&mut waiting, PollTimeout::try_from(PATIENCE).unwrap()).unwrap();
        match recv(self.wire.as_raw_fd(), &mut message, MsgFlags::empty()) {
            Ok(0) | Err(Errno::EAGAIN) => None,
            Ok(len) => Some(message[12..len].to_vec()),
            Err(errno) => panic!("{errno}"),
        }
    }

    /// All frames that are here by now.
    fn heard(&self) -> Vec<Vec<u8>> {
        let mut message = [0; 2048];
        let mut next = || recv(self.wire.as_raw_fd(), &mut message, MsgFlags::empty()).ok().map(|len| message[12..len].to_vec());
        std::iter::from_fn(&mut next).collect()
    }

    fn expect(&self, from: &Self, to: Mac, text: &str) {
        assert_eq!(self.receive(), Some(frame(to, from.mac, text)), "{text} from port {} at port {}", from.port, self.port);
    }

    fn expect_nothing(&self) {
        let mut message = [0; 2048];
        let got = recv(self.wire.as_raw_fd(), &mut message, MsgFlags::empty());
        assert_eq!(got, Err(Errno::EAGAIN), "port {} heard what was not for it", self.port);
    }
}

fn fabric(workers: usize) -> (Fabric, NetworkId) {
    let fabric = Fabric::start(NonZeroUsize::new(workers).unwrap()).unwrap();
    let network = fabric.add_network(settings()).unwrap();
    (fabric, network)
}

/// Waits until something holds; the reason is for the person who reads the failure.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        thread::yield_now();
    }
}

fn worker_of(fabric: &Fabric, network: NetworkId, port: PortId) -> usize {
    fabric.ports(network).unwrap().into_iter().find(|report| report.port == port).unwrap().worker
}

#[test]
fn a_broadcast_reaches_all_others_and_an_answer_only_its_asker() {
    let (fabric, network) = fabric(2);
    let [a, b, c] = [2, 3, 4].map(|host| attach(&fabric, network, host));
    a.send(Mac::BROADCAST, "who");
    b.expect(&a, Mac::BROADCAST, "who");
    c.expect(&a, Mac::BROADCAST, "who");
    b.send(a.mac, "me");
    a.expect(&b, a.mac, "me");
    a.send(b.mac, "thanks");
    b.expect(&a, b.mac, "thanks");
    c.expect_nothing();
    let reports = fabric.ports(network).unwrap();
    assert_eq!(reports.iter().map(|report| report.port.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
    // A frame is counted once it is written, and by then its receiver may have it.
    eventually("the books say what was heard", || {
        let reports = fabric.ports(network).unwrap();
        let counts = reports[1..].iter().map(|report| (report.counts.rx_frames, report.counts.tx_frames));
        counts.eq([(2, 1), (1, 2), (0, 1)])
    });
}

#[test]
fn the_gateway_answers_arp_on_every_port() {
    let (fabric, network) = fabric(1);
    let a = attach(&fabric, network, 2);
    let gateway = settings().mac;
    let arp = |op: u8, from: Mac, from_ip: u8, to: Mac, to_ip: u8| {
        [&[0, 1, 8, 0, 6, 4, 0, op][..], &from.0, &[10, 0, 0, from_ip], &to.0, &[10, 0, 0, to_ip]].concat()
    };
    let ask = [&[0; 12][..], &Mac::BROADCAST.0, &a.mac.0, &[8, 6], &arp(1, a.mac, 2, Mac::ZERO, 1)].concat();
    send(a.wire.as_raw_fd(), &ask, MsgFlags::empty()).unwrap();
    let answer = a.receive().unwrap();
    assert_eq!(answer[..14], [&a.mac.0[..], &gateway.0, &[8, 6]].concat());
    assert_eq!(answer[14..42], arp(2, gateway, 1, a.mac, 2));
    eventually("the gateway's books say so", || {
        let counts = &fabric.ports(network).unwrap()[0].counts;
        (counts.rx_frames, counts.tx_frames) == (1, 1)
    });
}

#[test]
fn a_detached_port_is_closed_and_its_number_used_again() {
    let (fabric, network) = fabric(2);
    let [a, b] = [2, 3].map(|host| attach(&fabric, network, host));
    a.send(Mac::BROADCAST, "hello");
    b.expect(&a, Mac::BROADCAST, "hello");
    fabric.detach(network, b.port).unwrap();
    let mut end = [0; 1];
    UnixStream::from(b.wire.try_clone().unwrap()).set_nonblocking(false).unwrap();
    assert_eq!(UnixStream::from(b.wire).read(&mut end).unwrap(), 0, "the descriptor is still open somewhere");
    assert!(matches!(fabric.detach(network, b.port), Err(FabricError::NoSuchPort(_))));
    a.send(b.mac, "gone");
    let c = attach(&fabric, network, 4);
    assert_eq!(c.port, b.port);
    c.send(a.mac, "here");
    a.expect(&c, a.mac, "here");
}

#[test]
fn new_ports_go_where_the_fewest_are_and_detaching_evens_them_out() {
    let (fabric, network) = fabric(2);
    let ports = [2, 3, 4, 5].map(|host| attach(&fabric, network, host));
    let workers = ports.each_ref().map(|port| worker_of(&fabric, network, port.port));
    assert_eq!(workers, [0, 1, 0, 1]);
    fabric.detach(network, ports[1].port).unwrap();
    assert_eq!(worker_of(&fabric, network, ports[3].port), 1);
    fabric.detach(network, ports[3].port).unwrap();
    let left = [&ports[0], &ports[2]];
    assert_ne!(worker_of(&fabric, network, left[0].port), worker_of(&fabric, network, left[1].port));
    left[0].send(Mac::BROADCAST, "after the move");
    left[1].expect(left[0], Mac::BROADCAST, "after the move");
    left[1].send(left[0].mac, "and back");
    left[0].expect(left[1], left[0].mac, "and back");
}

#[test]
fn frames_that_came_while_a_port_was_moved_are_neither_lost_nor_reordered() {
    let (fabric, network) = fabric(2);
    let [a, b] = [2, 3].map(|host| attach(&fabric, network, host));
    b.send(a.mac, "known");
    a.expect(&b, a.mac, "known");
    for round in 0..50 {
        let texts = || (0..20).map(|number| format!("frame {number} of {round}"));
        texts().for_each(|text| a.send(b.mac, &text));
        let key = PortKey { network, port: a.port };
        fabric.move_port(&mut fabric.lock(), key, round % 2).unwrap();
        texts().for_each(|text| b.expect(&a, b.mac, &text));
    }
}

/// A port that does something of its own with each frame it receives.
#[derive(Debug)]
struct Odd {
    tap: TapPort,
    oddity: fn(&Frame<'_>),
}

impl PortIo for Odd {
    fn recv(&self, room: &mut Room) -> Result<Held, RecvError> {
        let held = self.tap.recv(room)?;
        (self.oddity)(&held.frame(room));
        Ok(held)
    }

    fn send(&self, frame: &Frame<'_>) -> Result<(), DropReason> {
        self.tap.send(frame)
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        self.tap.readiness()
    }

    fn caps(&self) -> Caps {
        self.tap.caps()
    }

    fn way(&self) -> Option<Way<'_>> {
        None
    }

    fn overruns(&self) -> u64 {
        self.tap.overruns()
    }
}

fn attach_odd(fabric: &Fabric, network: NetworkId, host: u8, oddity: fn(&Frame<'_>)) -> Container {
    let (link, wire) = wires();
    let mac = Mac::from_ipv4([10, 0, 0, host].into());
    let port = fabric.seat(network, seat(mac), Arc::new(Odd { tap: TapPort::new(link, true), oddity })).unwrap();
    Container { wire, port, mac }
}

#[test]
fn busy_ports_that_share_a_worker_are_parted_and_lose_no_frame() {
    /// So many fit in a wire, and keep a worker busy for longer than the time over which it adds up.
    const UNDERWAY: usize = 128;
    let (fabric, network) = fabric(2);
    let rings = fabric.rings().unwrap();
    // They take their worker's time, whatever else the machine has to do.
    let slow = |host| attach_odd(&fabric, network, host, |_| thread::sleep(Duration::from_millis(10)));
    let (one, sink, other) = (slow(2), attach(&fabric, network, 3), slow(4));
    fabric.fdb_add(network, sink.mac, sink.port).unwrap();
    let share = || worker_of(&fabric, network, one.port) == worker_of(&fabric, network, other.port);
    assert!(share());
    let (start, mut sent, mut heard) = (Instant::now(), 0, Vec::new());
    while share() {
        assert!(start.elapsed() < 12 * PATIENCE, "two busy ports share a worker while the other one idles");
        while 2 * sent < heard.len() + UNDERWAY {
            one.send(sink.mac, &format!("frame {sent}"));
            other.send(sink.mac, &format!("frame {sent}"));
            sent += 1;
        }
        if rings.recv_timeout(Duration::from_millis(10)).is_ok() {
            fabric.balance_by_load().unwrap();
        }
        heard.extend(sink.heard());
    }
    while heard.len() < 2 * sent {
        heard.push(sink.receive().expect("a frame got lost"));
    }
    for sender in [&one, &other] {
        let of_it = heard.iter().filter(|frame| frame[6..12] == sender.mac.0).cloned();
        let all = (0..sent).map(|number| frame(sink.mac, sender.mac, &format!("frame {number}")));
        assert!(of_it.eq(all), "frames of port {} are missing or out of order", sender.port);
    }
}

#[test]
fn a_panic_stops_neither_its_port_nor_the_others() {
    let (fabric, network) = fabric(1);
    let [a, b] = [2, 3].map(|host| attach(&fabric, network, host));
    let fragile = attach_odd(&fabric, network, 4, |frame| {
        assert!(!frame.bytes.windows(5).any(|text| text == b"break"), "a bug that a certain frame uncovers");
    });
    for _ in 0..3 {
        fragile.send(Mac::BROADCAST, "break");
        a.send(Mac::BROADCAST, "still here");
        b.expect(&a, Mac::BROADCAST, "still here");
        fragile.expect(&a, Mac::BROADCAST, "still here");
        fragile.send(b.mac, "me too");
        // Nobody has heard of b yet: a flood.
        a.expect(&fragile, b.mac, "me too");
        b.expect(&fragile, b.mac, "me too");
    }
}

#[test]
fn whoever_asks_a_worker_that_ends_is_told_so() {
    let inbox = Arc::new(Inbox::new().unwrap());
    let worker = Worker::new(Arc::clone(&inbox), Clock::start(), Bell::new().0).unwrap();
    let asked = inbox.call(|worker| worker.stop()).unwrap();
    drop(worker);
    assert!(asked.recv().is_err());
}

/// A worker without a thread, which turns when it is told to, with these ports of the first one's.
fn turned_by_hand(fabric: &Fabric, network: NetworkId, ports: &[PortId]) -> Worker {
    let mut worker = Worker::new(Arc::new(Inbox::new().unwrap()), Clock::start(), Bell::new().0).unwrap();
    for port in ports {
        let key = PortKey { network, port: *port };
        let port = fabric.workers[0].inbox.ask(move |worker| worker.take(key)).unwrap().unwrap();
        worker.give(port).map_err(|(_, errno)| errno).unwrap();
    }
    worker
}

#[test]
fn a_busy_port_leaves_a_quiet_one_its_turn() {
    let (fabric, network) = fabric(1);
    let [busy, quiet, sink] = [2, 3, 4].map(|host| attach(&fabric, network, host));
    sink.send(Mac::BROADCAST, "here I am");
    busy.expect(&sink, Mac::BROADCAST, "here I am");
    quiet.expect(&sink, Mac::BROADCAST, "here I am");
    let mut worker = turned_by_hand(&fabric, network, &[busy.port, quiet.port]);
    for _ in 0..200 {
        busy.send(sink.mac, "noise");
    }
    quiet.send(sink.mac, "signal");
    assert!(worker.turn().is_continue());
    let heard = sink.heard();
    assert!(heard.contains(&frame(sink.mac, quiet.mac, "signal")), "starved");
    assert!((2..200).contains(&heard.len()), "a turn without a budget: {} frames", heard.len());
    // The rest is served without a further event.
    let mut rest = heard.len();
    eventually("all frames arrive", || {
        assert!(worker.turn().is_continue());
        rest += sink.heard().len();
        rest == 201
    });
}

#[test]
fn a_port_that_moves_while_its_frames_gather_is_heard() {
    const BACKLOG: usize = 600;
    const AHEAD: usize = 100;
    const TURN: usize = 32;
    let (fabric, network) = fabric(1);
    let [busy, sink] = [2, 3].map(|host| attach(&fabric, network, host));
    sink.send(Mac::BROADCAST, "here I am");
    busy.expect(&sink, Mac::BROADCAST, "here I am");
    let mut worker = turned_by_hand(&fabric, network, &[busy.port]);
    let mut heard = 0;
    for backlog in 1..=5 {
        (0..AHEAD).for_each(|_| busy.send(sink.mac, "noise"));
        // What a turn takes comes again: the queue is never empty.
        for _ in 0..BACKLOG / TURN {
            assert!(worker.turn().is_continue());
            heard += sink.heard().len();
            (0..TURN).for_each(|_| busy.send(sink.mac, "noise"));
        }
        eventually("all frames arrive", || {
            assert!(worker.turn().is_continue());
            heard += sink.heard().len();
            heard == backlog * (AHEAD + BACKLOG / TURN * TURN)
        });
    }
    let key = PortKey { network, port: busy.port };
    let port = worker.take(key).unwrap();
    busy.send(sink.mac, "on the way");
    let mut next = turned_by_hand(&fabric, network, &[]);
    next.give(port).map_err(|(_, errno)| errno).unwrap();
    assert!(next.turn().is_continue());
    assert_eq!(sink.heard(), [frame(sink.mac, busy.mac, "on the way")]);
}

#[test]
fn a_frame_to_many_ports_counts_as_many_against_its_turn() {
    let (fabric, network) = fabric(1);
    let all = [2, 3, 4, 5, 6, 7].map(|host| attach(&fabric, network, host));
    let [busy, sink, ..] = &all;
    let mut worker = turned_by_hand(&fabric, network, &[busy.port]);
    for _ in 0..100 {
        busy.send(Mac::BROADCAST, "noise");
    }
    assert!(worker.turn().is_continue());
    let heard = sink.heard().len();
    // Five others hear each; a port that talks to one alone has 32 frames a turn.
    assert!((1..=16).contains(&heard), "{heard} frames");
}

#[test]
fn a_socket_that_is_never_empty_leaves_the_others_their_turn() {
    const ALL: usize = 1000;
    let (fabric, network) = fabric(1);
    let a = attach(&fabric, network, 2);
    let [published, sender] = [0, 1].map(|_| std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap());
    let socket = published.try_clone().unwrap().into();
    let listener = ListenerConfig { socket, protocol: crate::spec::Protocol::Udp, to: ([10, 0, 0, 2], 7000).into() };
    fabric.listen(network, a.port, listener).unwrap();
    let mut worker = turned_by_hand(&fabric, network, &[a.port]);
    for _ in 0..ALL {
        sender.send_to(b"noise", published.local_addr().unwrap()).unwrap();
    }
    assert!(worker.turn().is_continue());
    let left = std::iter::from_fn(|| published.recv(&mut [0; 16]).ok()).count();
    assert!(left > 0, "a turn without an end");
    assert!(left < ALL, "nothing was read");
}

#[test]
fn a_full_port_loses_frames_and_counts_them() {
    let (fabric, network) = fabric(1);
    let [a, b] = [2, 3].map(|host| attach(&fabric, network, host));
    b.send(a.mac, "known");
    a.expect(&b, a.mac, "known");
    eventually("the ring of a container that reads nothing is full", || {
        for _ in 0..10 {
            let message = [&[0; 12][..], &frame(b.mac, a.mac, "more")].concat();
            // EAGAIN: the worker has not read them yet.
            let _ = send(a.wire.as_raw_fd(), &message, MsgFlags::empty());
        }
        let counts = fabric.ports(network).unwrap()[2].counts.clone();
        counts.drops.iter().any(|(reason, count)| *reason == DropReason::EgressFull && *count > 0)
    });
}

#[test]
fn what_is_no_frame_is_refused_and_counted_at_its_port() {
    let (fabric, network) = fabric(1);
    let a = attach(&fabric, network, 2);
    for (message, reason) in [(&[0; 12][..], DropReason::Runt), (&[0; 20], DropReason::Runt), (&[0; 5], DropReason::Runt)] {
        let before = fabric.ports(network).unwrap()[1].counts.clone();
        send(a.wire.as_raw_fd(), message, MsgFlags::empty()).unwrap();
        let count = |counts: &netloom_switch::PortCounts| {
            counts.drops.iter().find(|(dropped, _)| *dropped == reason).map_or(0, |(_, count)| *count)
        };
        eventually("counted", || count(&fabric.ports(network).unwrap()[1].counts) == count(&before) + 1);
        assert_eq!(fabric.ports(network).unwrap()[1].counts.rx_frames, before.rx_frames + 1);
    }
}

#[test]
fn settings_of_what_does_not_exist_are_refused_by_name() {
    let (fabric, network) = fabric(1);
    let nowhere = NetworkId(99);
    assert!(matches!(fabric.configure(nowhere, settings()), Err(FabricError::NoSuchNetwork(id)) if id == nowhere));
    assert!(matches!(fabric.set_asks(network, PortId(7), vec![]), Err(FabricError::NoSuchPort(PortId(7)))));
    for port in [PortId::GATEWAY, PortId(7)] {
        assert!(matches!(fabric.set_port(network, port, PortOptions::default()), Err(FabricError::NoSuchPort(refused)) if refused == port));
    }
    assert!(matches!(fabric.fdb_add(network, Mac::BROADCAST, PortId::GATEWAY), Err(FabricError::NotAStation(_))));
    assert!(matches!(fabric.fdb_add(network, Mac([2, 0, 0, 0, 0, 1]), PortId(7)), Err(FabricError::NoSuchPort(_))));
    fabric.remove_network(network).unwrap();
    assert!(matches!(fabric.ports(network), Err(FabricError::NoSuchNetwork(_))));
}

#[test]
fn isolated_ports_reach_the_gateway_but_not_each_other() {
    let (fabric, network) = fabric(1);
    let [a, b, c] = [2, 3, 4].map(|host| attach(&fabric, network, host));
    for port in [&a, &b] {
        fabric.set_port(network, port.port, PortOptions { isolated: true }).unwrap();
    }
    let isolated = |port: &Container| fabric.ports(network).unwrap()[port.port.index()].isolated;
    assert_eq!([&a, &b, &c].map(isolated), [true, true, false]);
    for port in [&a, &b, &c] {
        fabric.fdb_add(network, port.mac, port.port).unwrap();
    }
    // It takes what is not IP, drops it and counts it.
    let to_gateway = || fabric.ports(network).unwrap()[0].counts.drops.iter().map(|(_, count)| count).sum::<u64>();
    for (from, to) in [(&a, &b), (&b, &a), (&a, &c), (&c, &a)] {
        from.send(to.mac, "hello");
    }
    for from in [&a, &b, &c] {
        from.send(settings().mac, "gateway");
    }
    // One worker takes a port's frames in order: those before have met their fate.
    eventually("the gateway hears all three", || to_gateway() == 3);
    for port in [&a, &b, &c] {
        port.expect_nothing();
    }
    for port in [&a, &b] {
        fabric.set_port(network, port.port, PortOptions::default()).unwrap();
    }
    a.send(b.mac, "again");
    b.expect(&a, b.mac, "again");
}

#[test]
fn a_pinned_address_is_shown_and_forgotten() {
    let (fabric, network) = fabric(1);
    let a = attach(&fabric, network, 2);
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    fabric.fdb_add(network, mac, a.port).unwrap();
    let entries = fabric.fdb(network).unwrap();
    assert!(entries.iter().any(|entry| entry.mac == mac && entry.port == a.port && entry.is_static));
    assert!(fabric.fdb_del(network, mac).unwrap());
    assert!(!fabric.fdb_del(network, mac).unwrap());
}

#[test]
fn the_gateways_address_is_neither_moved_nor_forgotten_by_hand() {
    let (fabric, network) = fabric(1);
    let a = attach(&fabric, network, 2);
    let gateway = settings().mac;
    assert!(matches!(fabric.fdb_add(network, gateway, a.port), Err(FabricError::Gateway(mac)) if mac == gateway));
    assert!(matches!(fabric.fdb_del(network, gateway), Err(FabricError::Gateway(mac)) if mac == gateway));
    assert!(fabric.fdb(network).unwrap().iter().any(|entry| entry.mac == gateway && entry.port == PortId::GATEWAY && entry.is_static));
}

/// DHCPDISCOVER (RFC 2131) in a frame to everybody.
fn discover(from: Mac) -> Vec<u8> {
    let mut message = vec![0; 300];
    message[..3].copy_from_slice(&[1, 1, 6]);
    message[28..34].copy_from_slice(&from.0);
    // The cookie, the type of the message, the end of the options.
    message[236..244].copy_from_slice(&[99, 130, 83, 99, 53, 1, 1, 255]);
    let datagram = [&[0, 68, 0, 67, 1, 52, 0, 0][..], &message].concat();
    let packet = [&[0x45, 0, 1, 72, 0, 0, 0, 0, 64, 17, 0x79, 0xa6][..], &[0; 4], &[255; 4], &datagram].concat();
    [&[255; 6][..], &from.0, &[8, 0], &packet].concat()
}

#[test]
fn an_answer_about_a_lease_is_its_asker_s_alone_and_not_the_next_one_s_at_its_port() {
    let (fabric, network) = fabric(1);
    let asked = fabric.lease_asks().unwrap();
    let [a, b] = [2, 3].map(|host| attach(&fabric, network, host));
    send(a.wire.as_raw_fd(), &[&[0; 12][..], &discover(a.mac)].concat(), MsgFlags::empty()).unwrap();
    assert_eq!(b.receive(), Some(discover(a.mac)), "a broadcast like any other");
    let asked = asked.recv_timeout(PATIENCE).unwrap();
    assert_eq!((asked.port, &*asked.owner), (a.port, "c2"));
    let LeaseQuestion::V4(ask) = asked.question else { panic!("IPv4") };
    let given = Some(Given { address: Some(([10, 0, 0, 9].into(), PATIENCE)), ..Given::default() });
    let answer = LeaseReply::V4(LeaseAnswer { exchange: ask.exchange, given });
    fabric.answer_lease(network, a.port, "c2", answer.clone()).unwrap();
    assert_eq!(a.receive().unwrap()[..6], a.mac.0);

    fabric.detach(network, a.port).unwrap();
    let next = attach(&fabric, network, 4);
    assert_eq!(next.port, a.port);
    assert!(matches!(fabric.answer_lease(network, next.port, "c2", answer), Err(FabricError::NoSuchPort(_))));
    next.expect_nothing();
    b.expect_nothing();
}
