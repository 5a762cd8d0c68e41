//! Joins network namespaces to one switch and carries their traffic until standard input ends.
//!
//! `ip netns add a; ip netns add b; cargo run --release -p netloom-runtime --example join -- 2 a=10.9.0.2 b=10.9.0.3`
//!
//! The first argument is the number of workers; `napi` before it makes TAPs that deliver through NAPI. Each namespace gets an
//! interface `eth0`, which is gone when this ends; its address and link are the caller's to set. The gateway is 10.9.0.1.

use std::{fs::File, io::Read, net::Ipv4Addr, num::NonZeroUsize, os::fd::OwnedFd, thread, time::Duration};

use netloom_runtime::{
    fabric::{Fabric, NetworkConfig, NetworkId, PortConfig},
    spec::Backend,
    tap,
};
use netloom_switch::Mac;
use nix::sched::{CloneFlags, setns};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).peekable();
    let napi = arguments.next_if_eq("napi").is_some();
    let workers: NonZeroUsize = arguments.next().ok_or("how many workers?")?.parse()?;
    let fabric = Fabric::start(workers)?;
    let network = fabric.add_network(settings())?;
    for argument in arguments {
        let (namespace, ip) = argument.split_once('=').ok_or("NAMESPACE=ADDRESS")?;
        let tap = tap_in(namespace, tap::Options { napi })?;
        let port = fabric.attach(network, port(network, namespace, ip.parse()?, tap))?;
        println!("{namespace}: port {port}, {}", Mac::from_ipv4(ip.parse()?));
    }
    std::io::stdin().read_to_end(&mut Vec::new())?;
    for report in fabric.ports(network)? {
        println!("{} {:?} {:?}", report.port, report.owner, report.counts);
    }
    Ok(())
}

/// A thread that enters another namespace must not be used for anything else.
fn tap_in(namespace: &str, options: tap::Options) -> Result<OwnedFd, Failure> {
    let path = format!("/run/netns/{namespace}");
    let made = thread::spawn(move || -> Result<OwnedFd, Failure> {
        setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?;
        Ok(tap::open("eth0", options)?)
    });
    made.join().map_err(|_| "the thread that made the interface panicked")?
}

fn port(network: NetworkId, owner: &str, ip: Ipv4Addr, tap: OwnedFd) -> PortConfig {
    PortConfig {
        link: tap,
        backend: Backend::Tap,
        owner: owner.to_owned(),
        ip: Some(ip),
        ip6: None,
        mac: Mac::from_ipv4(ip),
        mtu: 1500,
        host_loopback: true,
        asks: vec![network],
        options: Default::default(),
    }
}

fn settings() -> NetworkConfig {
    let gateway = Ipv4Addr::new(10, 9, 0, 1);
    NetworkConfig {
        subnet: ipnet::Ipv4Net::new_assert(gateway, 24),
        gateway: Some(gateway),
        ipv6: None,
        mac: Mac::from_ipv4(gateway),
        mtu: 1500,
        internal: false,
        isolated: false,
        host_loopback: true,
        ageing: Duration::from_secs(300),
        fdb_max: 8192,
        reserved_macs_transparent: false,
        port_security: true,
        limits: Default::default(),
    }
}
