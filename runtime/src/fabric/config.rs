//! What the data plane is told, and what it tells: the words between it and the daemon.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    time::Duration,
};

use ipnet::Ipv4Net;
use netloom_switch::{
    Mac, PinError, PortCounts, PortId,
    gateway::{GatewayIpv6, Limits},
};
use serde::Serialize;

use crate::spec::{Backend, Protocol};

/// A network of this fabric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId(pub u32);

/// A listener of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u32);

/// A network as the data plane knows it; all of it can be changed while it runs but the subnet, the gateway and the MAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    pub subnet: Ipv4Net,
    /// `None`: nobody answers at port 0.
    pub gateway: Option<Ipv4Addr>,
    /// The gateway's IPv6 side, where the network has IPv6 and a gateway.
    pub ipv6: Option<GatewayIpv6>,
    /// The gateway's; 02:42 and its address.
    pub mac: Mac,
    pub mtu: u16,
    pub internal: bool,
    pub isolated: bool,
    pub host_loopback: bool,
    pub ageing: Duration,
    pub fdb_max: usize,
    /// Forward the reserved addresses of IEEE 802.1Q too.
    pub reserved_macs_transparent: bool,
    /// What the IPAM gave to a port, no other port may use as its source.
    pub port_security: bool,
    /// What each port's gateway bears.
    pub limits: Limits,
}

/// A port to be attached.
#[derive(Debug)]
pub struct PortConfig {
    /// A TAP made by [`tap::open`](crate::tap::open), or the packet socket of a veth pair.
    pub link: OwnedFd,
    pub backend: Backend,
    /// Who it belongs to: a container's ID.
    pub owner: String,
    /// The addresses and the MAC that the IPAM gave it.
    pub ip: Option<Ipv4Addr>,
    pub ip6: Option<Ipv6Addr>,
    pub mac: Mac,
    pub mtu: u16,
    pub host_loopback: bool,
    /// The networks whose names it may ask for, its own among them.
    pub asks: Vec<NetworkId>,
    pub options: PortOptions,
}

/// A listening host socket that leads to a port.
#[derive(Debug)]
pub struct ListenerConfig {
    /// A listening TCP socket or a bound UDP socket, non-blocking.
    pub socket: OwnedFd,
    pub protocol: Protocol,
    pub to: SocketAddr,
}

/// Names of one network: `name → addresses`, lower case, without a final dot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub hosts: Vec<(String, Vec<IpAddr>)>,
}

/// One port as people see it.
#[derive(Clone, Debug)]
pub struct PortReport {
    pub port: PortId,
    /// Empty for the gateway.
    pub owner: String,
    pub counts: PortCounts,
    /// Which of the workers owns it; 0 for the gateway, a part of which belongs to every port.
    pub worker: usize,
    /// By its own setting, whatever its network's is.
    pub isolated: bool,
}

/// What can be changed of a port while frames flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortOptions {
    /// It reaches the gateway alone, and only the gateway reaches it.
    pub isolated: bool,
}

/// One learned or pinned address.
#[derive(Clone, Debug)]
pub struct FdbReport {
    pub mac: Mac,
    pub port: PortId,
    pub age: Duration,
    pub is_static: bool,
}

/// One flow through a gateway.
#[derive(Clone, Debug, Serialize)]
pub struct FlowReport {
    pub protocol: &'static str,
    pub inside: SocketAddr,
    pub outside: SocketAddr,
    /// `out` or `in` (a publication).
    pub direction: &'static str,
    pub state: &'static str,
    pub idle_seconds: u64,
}

/// Why the data plane would not do something.
#[derive(Debug, thiserror::Error)]
pub enum FabricError {
    #[error("network {0:?} is not part of the data plane")]
    NoSuchNetwork(NetworkId),
    #[error("port {0} is not attached")]
    NoSuchPort(PortId),
    #[error("the network has all of its {} ports in use", PortId::MAX - 1)]
    Full,
    #[error("{0} cannot be pinned: it is no station's address")]
    NotAStation(Mac),
    #[error("{0} is the gateway's: it stays on port 0")]
    Gateway(Mac),
    #[error("cannot {what}: {source}")]
    Io { what: &'static str, source: std::io::Error },
    /// A worker has ended before its time.
    #[error("the data plane has stopped")]
    Stopped,
}

impl From<PinError> for FabricError {
    fn from(error: PinError) -> Self {
        match error {
            PinError::NotAStation(refused) => Self::NotAStation(refused.0),
            PinError::Gateway(mac) => Self::Gateway(mac),
            PinError::NoSuchPort(port) => Self::NoSuchPort(port),
        }
    }
}
