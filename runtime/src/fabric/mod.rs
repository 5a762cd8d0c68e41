//! The data plane of one instance: its workers, its networks' switches and gateways, its ports.
//!
//! The daemon calls [`Fabric`] from its own threads; every call is a message to workers or a new snapshot, never a lock that a
//! frame waits for.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    num::NonZeroUsize,
    os::fd::OwnedFd,
    time::Duration,
};

use ipnet::Ipv4Net;
use netloom_switch::{Mac, PortCounts, PortId};
use serde::Serialize;

use crate::spec::Protocol;

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
}

/// A port to be attached.
#[derive(Debug)]
pub struct PortConfig {
    /// A TAP with IFF_VNET_HDR and a header of 12 bytes, non-blocking.
    pub tap: OwnedFd,
    /// Who it belongs to: a container's ID.
    pub owner: String,
    /// The addresses and the MAC that the IPAM gave it.
    pub ip: Option<Ipv4Addr>,
    pub mac: Mac,
    pub mtu: u16,
    pub host_loopback: bool,
    /// The networks whose names it may ask for, its own among them.
    pub asks: Vec<NetworkId>,
}

/// A listening host socket that leads to a port.
#[derive(Debug)]
pub struct ListenerConfig {
    /// A listening TCP socket or a bound UDP socket, non-blocking.
    pub socket: OwnedFd,
    pub protocol: Protocol,
    pub to: SocketAddrV4,
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
    /// Frames that the kernel dropped at the port's own ring, where it tells.
    pub kernel_drops: u64,
    pub worker: usize,
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
    #[error("cannot {what}: {source}")]
    Io { what: &'static str, source: std::io::Error },
}

/// The data plane. Dropping it stops its workers.
#[derive(Debug)]
pub struct Fabric {}

#[expect(unused_variables, reason = "the signatures come first")]
impl Fabric {
    /// Starts the workers.
    pub fn start(workers: NonZeroUsize) -> Result<Self, FabricError> {
        todo!()
    }

    pub fn add_network(&self, config: NetworkConfig) -> Result<NetworkId, FabricError> {
        todo!()
    }

    /// Changes a running network's settings.
    pub fn configure(&self, network: NetworkId, config: NetworkConfig) -> Result<(), FabricError> {
        todo!()
    }

    /// Removes a network and every port that is left on it.
    pub fn remove_network(&self, network: NetworkId) -> Result<(), FabricError> {
        todo!()
    }

    /// The names that askers on this network get.
    pub fn set_names(&self, network: NetworkId, names: Names) -> Result<(), FabricError> {
        todo!()
    }

    /// Which networks' names a port may ask for, after a connect or disconnect.
    pub fn set_asks(&self, network: NetworkId, port: PortId, asks: Vec<NetworkId>) -> Result<(), FabricError> {
        todo!()
    }

    /// The host's resolvers, in order.
    pub fn set_resolvers(&self, resolvers: Vec<SocketAddr>) {
        todo!()
    }

    /// The host's loopback addresses beyond 127.0.0.0/8: every address of its `lo`.
    pub fn set_loopback(&self, addresses: Vec<IpAddr>) {
        todo!()
    }

    /// Attaches a port; frames flow once this returns.
    pub fn attach(&self, network: NetworkId, port: PortConfig) -> Result<PortId, FabricError> {
        todo!()
    }

    /// Detaches a port, with its flows and listeners; its descriptor is closed when no worker can use it any more.
    pub fn detach(&self, network: NetworkId, port: PortId) -> Result<(), FabricError> {
        todo!()
    }

    pub fn listen(&self, network: NetworkId, port: PortId, listener: ListenerConfig) -> Result<ListenerId, FabricError> {
        todo!()
    }

    /// Stops a listener; established flows live on.
    pub fn unlisten(&self, network: NetworkId, port: PortId, listener: ListenerId) -> Result<(), FabricError> {
        todo!()
    }

    /// All ports in order, the gateway first.
    pub fn ports(&self, network: NetworkId) -> Result<Vec<PortReport>, FabricError> {
        todo!()
    }

    pub fn fdb(&self, network: NetworkId) -> Result<Vec<FdbReport>, FabricError> {
        todo!()
    }

    /// Pins an address to a port.
    pub fn fdb_add(&self, network: NetworkId, mac: Mac, port: PortId) -> Result<(), FabricError> {
        todo!()
    }

    /// Forgets an address, learned or pinned; false if it was not there.
    pub fn fdb_del(&self, network: NetworkId, mac: Mac) -> Result<bool, FabricError> {
        todo!()
    }

    /// The flows of every port, asked of the workers that own them.
    pub fn flows(&self, network: NetworkId) -> Result<Vec<(PortId, FlowReport)>, FabricError> {
        todo!()
    }
}
