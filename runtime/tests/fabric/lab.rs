//! A host and its containers, each a network namespace that lives in a thread of this process.
//!
//! ```text
//!   host: 198.51.100.1 on `out`, the Fabric's sockets         container 10.0.0.N: eth0 is a TAP
//!         Fabric ── descriptors of the containers' TAPs ─────────┘
//! ```
//!
//! The machine's own network is never touched: all of it happens in namespaces that are gone with their threads.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    num::NonZeroUsize,
    process::Command,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use netloom_runtime::{
    fabric::{Fabric, NetworkConfig, NetworkId, PortConfig},
    spec::Backend,
    tap,
};
use netloom_switch::{Mac, PortId};
use nix::sched::{CloneFlags, unshare};

/// Nothing here takes longer when it works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// The host's address, and that of every server "outside".
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace and the thread that is in it.
pub(crate) struct Namespace(Sender<Job>);

impl Namespace {
    pub(crate) fn new() -> Self {
        let (jobs, todo): (_, Receiver<Job>) = channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip("link set lo up");
            todo.into_iter().for_each(|job| job());
        });
        Self(jobs)
    }

    /// Does something in the namespace and waits for it. Threads and processes that it starts are in the namespace too.
    pub(crate) fn run<R: Send + 'static>(&self, what: impl FnOnce() -> R + Send + 'static) -> R {
        let (result, results) = channel();
        let job: Job = Box::new(move || result.send(what()).unwrap());
        self.0.send(job).unwrap();
        results.recv().expect("it panicked in its namespace")
    }

    /// Starts something in the namespace.
    pub(crate) fn spawn<R: Send + 'static>(&self, what: impl FnOnce() -> R + Send + 'static) -> thread::JoinHandle<R> {
        self.run(|| thread::spawn(what))
    }
}

/// Runs `test` on a host of its own, if this machine can make one.
pub(crate) fn on_a_host(name: &str, test: impl FnOnce() + Send + 'static) {
    if !netloom_tests::can_run(&format!("fabric::{name}")) {
        return println!("SKIP: fabric::{name}: root, /dev/net/tun, ip and busybox are required");
    }
    let host = thread::Builder::new().name(name.into()).spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        ip("link add out type veth peer name far");
        ip("addr add 198.51.100.1/24 dev out");
        ip("link set out up");
        ip("link set far up");
        test();
    });
    if let Err(panic) = host.unwrap().join() {
        std::panic::resume_unwind(panic);
    }
}

pub(crate) fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A data plane with one network.
pub(crate) struct Lab {
    pub(crate) fabric: Arc<Fabric>,
    pub(crate) network: NetworkId,
}

impl Lab {
    pub(crate) fn new(workers: usize) -> Self {
        let fabric = Arc::new(Fabric::start(NonZeroUsize::new(workers).unwrap()).unwrap());
        let network = fabric.add_network(settings()).unwrap();
        Self { fabric, network }
    }

    /// A container with the address 10.0.0.`number`.
    pub(crate) fn container(&self, number: u8) -> Container {
        let namespace = Namespace::new();
        let ip = Ipv4Addr::new(10, 0, 0, number);
        let mac = Mac::from_ipv4(ip);
        let tap = namespace.run(move || {
            let tap = tap::open("eth0", tap::Options::default()).unwrap();
            self::ip(&format!("link set eth0 address {mac} txqueuelen 10000"));
            self::ip(&format!("addr add {ip}/24 dev eth0"));
            self::ip("link set eth0 up");
            self::ip("route add default via 10.0.0.1");
            tap
        });
        let config = PortConfig {
            link: tap,
            backend: Backend::Tap,
            owner: format!("c{number}"),
            ip: Some(ip),
            ip6: None,
            mac,
            mtu: 1500,
            host_loopback: false,
            asks: vec![self.network],
            options: Default::default(),
        };
        Container { namespace, ip, port: self.fabric.attach(self.network, config).unwrap() }
    }

    /// All drops of all ports, for the person who reads a failure.
    pub(crate) fn drops(&self) -> String {
        let reports = self.fabric.ports(self.network).unwrap();
        reports.iter().map(|report| format!("port {}: {:?}\n", report.port, report.counts)).collect()
    }
}

pub(crate) fn settings() -> NetworkConfig {
    NetworkConfig {
        subnet: "10.0.0.0/24".parse().unwrap(),
        gateway: Some(GATEWAY),
        ipv6: None,
        mac: Mac::from_ipv4(GATEWAY),
        mtu: 1500,
        internal: false,
        isolated: false,
        host_loopback: false,
        ageing: Duration::from_secs(300),
        fdb_max: 1024,
        reserved_macs_transparent: false,
        port_security: true,
        limits: Default::default(),
    }
}

pub(crate) struct Container {
    pub(crate) namespace: Namespace,
    pub(crate) ip: Ipv4Addr,
    pub(crate) port: PortId,
}

impl Container {
    /// Pings three times; what ping said, if any answer was missing.
    pub(crate) fn ping(&self, to: Ipv4Addr) -> Result<(), String> {
        self.namespace.run(move || {
            let output = Command::new("busybox").args(["ping", "-c", "3", "-i", "0.1", "-W", "5", &to.to_string()]).output().unwrap();
            if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stdout).into_owned()) }
        })
    }

    /// A listening socket of the container's.
    pub(crate) fn listen(&self, port: u16) -> TcpListener {
        let address = SocketAddrV4::new(self.ip, port);
        self.namespace.run(move || TcpListener::bind(address).unwrap())
    }

    /// A connection from the container.
    pub(crate) fn connect(&self, to: impl Into<SocketAddr>) -> std::io::Result<TcpStream> {
        let to = to.into();
        let stream = self.namespace.run(move || TcpStream::connect_timeout(&to, PATIENCE))?;
        bounded(&stream);
        Ok(stream)
    }
}

pub(crate) fn bounded(stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
}

/// `len` bytes that follow from `seed` and repeat nowhere that a shifted or repeated segment would fit.
pub(crate) fn payload(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // xorshift64 (Marsaglia, 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Sends one payload and receives another at the same time, each to its end, and compares every byte.
pub(crate) fn exchange(stream: TcpStream, send: u64, receive: u64, len: usize) {
    bounded(&stream);
    let mut writer = stream.try_clone().unwrap();
    let sending = thread::spawn(move || {
        writer.write_all(&payload(send, len))?;
        writer.shutdown(std::net::Shutdown::Write)
    });
    let mut received = Vec::with_capacity(len);
    let mut reader = stream;
    let end = reader.read_to_end(&mut received);
    assert_eq!(received.len(), len, "the stream ended early: {end:?}");
    let expected = payload(receive, len);
    if let Some(at) = received.iter().zip(&expected).position(|(a, b)| a != b) {
        panic!("byte {at} of {len} is wrong");
    }
    sending.join().unwrap().unwrap();
}

/// Accepts one connection, or fails after [`PATIENCE`].
pub(crate) fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut waiting = [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(listener), nix::poll::PollFlags::POLLIN)];
    let bound = nix::poll::PollTimeout::try_from(PATIENCE).unwrap();
    assert_eq!(nix::poll::poll(&mut waiting, bound), Ok(1), "nobody connected");
    let (stream, peer) = listener.accept().unwrap();
    bounded(&stream);
    (stream, peer)
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
