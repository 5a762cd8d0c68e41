//! What the daemon asks of the data plane and of the rest of the runtime, as traits: tests play both without a kernel.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
};

use netloom_runtime::{
    fabric::{
        Fabric, FabricError, FdbReport, FlowReport, ListenerConfig, ListenerId, Names, NetworkConfig, NetworkId, PortConfig, PortOptions,
        PortReport,
    },
    rootfs::upper::Layers,
};
use netloom_switch::{
    Mac, PortId,
    gateway::{HostAddresses, LeaseReply},
};

type Result<T> = std::result::Result<T, FabricError>;

/// The data plane, [`Fabric`], call by call.
pub(crate) trait Plane: fmt::Debug + Send + Sync {
    fn add_network(&self, config: NetworkConfig) -> Result<NetworkId>;
    fn configure(&self, network: NetworkId, config: NetworkConfig) -> Result<()>;
    fn remove_network(&self, network: NetworkId) -> Result<()>;
    fn set_names(&self, network: NetworkId, names: Names) -> Result<()>;
    fn set_asks(&self, network: NetworkId, port: PortId, asks: Vec<NetworkId>) -> Result<()>;
    fn set_resolvers(&self, resolvers: Vec<SocketAddr>);
    fn set_host(&self, addresses: HostAddresses);
    fn attach(&self, network: NetworkId, port: PortConfig) -> Result<PortId>;
    fn set_port(&self, network: NetworkId, port: PortId, options: PortOptions) -> Result<()>;
    fn detach(&self, network: NetworkId, port: PortId) -> Result<()>;
    fn listen(&self, network: NetworkId, port: PortId, listener: ListenerConfig) -> Result<ListenerId>;
    fn unlisten(&self, network: NetworkId, port: PortId, listener: ListenerId) -> Result<()>;
    fn ports(&self, network: NetworkId) -> Result<Vec<PortReport>>;
    fn fdb(&self, network: NetworkId) -> Result<Vec<FdbReport>>;
    fn fdb_add(&self, network: NetworkId, mac: Mac, port: PortId) -> Result<()>;
    fn fdb_del(&self, network: NetworkId, mac: Mac) -> Result<bool>;
    fn flows(&self, network: NetworkId) -> Result<Vec<(PortId, FlowReport)>>;
    fn answer_lease(&self, network: NetworkId, port: PortId, owner: &str, answer: LeaseReply) -> Result<()>;
    fn balance_by_load(&self) -> Result<usize>;
    fn set_leased(&self, network: NetworkId, port: PortId, leased: Vec<IpAddr>) -> Result<()>;
}

impl Plane for Fabric {
    fn add_network(&self, config: NetworkConfig) -> Result<NetworkId> {
        Self::add_network(self, config)
    }

    fn configure(&self, network: NetworkId, config: NetworkConfig) -> Result<()> {
        Self::configure(self, network, config)
    }

    fn remove_network(&self, network: NetworkId) -> Result<()> {
        Self::remove_network(self, network)
    }

    fn set_names(&self, network: NetworkId, names: Names) -> Result<()> {
        Self::set_names(self, network, names)
    }

    fn set_asks(&self, network: NetworkId, port: PortId, asks: Vec<NetworkId>) -> Result<()> {
        Self::set_asks(self, network, port, asks)
    }

    fn set_resolvers(&self, resolvers: Vec<SocketAddr>) {
        Self::set_resolvers(self, resolvers);
    }

    fn set_host(&self, addresses: HostAddresses) {
        Self::set_host(self, addresses);
    }

    fn attach(&self, network: NetworkId, port: PortConfig) -> Result<PortId> {
        Self::attach(self, network, port)
    }

    fn set_port(&self, network: NetworkId, port: PortId, options: PortOptions) -> Result<()> {
        Self::set_port(self, network, port, options)
    }

    fn detach(&self, network: NetworkId, port: PortId) -> Result<()> {
        Self::detach(self, network, port)
    }

    fn listen(&self, network: NetworkId, port: PortId, listener: ListenerConfig) -> Result<ListenerId> {
        Self::listen(self, network, port, listener)
    }

    fn unlisten(&self, network: NetworkId, port: PortId, listener: ListenerId) -> Result<()> {
        Self::unlisten(self, network, port, listener)
    }

    fn ports(&self, network: NetworkId) -> Result<Vec<PortReport>> {
        Self::ports(self, network)
    }

    fn fdb(&self, network: NetworkId) -> Result<Vec<FdbReport>> {
        Self::fdb(self, network)
    }

    fn fdb_add(&self, network: NetworkId, mac: Mac, port: PortId) -> Result<()> {
        Self::fdb_add(self, network, mac, port)
    }

    fn fdb_del(&self, network: NetworkId, mac: Mac) -> Result<bool> {
        Self::fdb_del(self, network, mac)
    }

    fn flows(&self, network: NetworkId) -> Result<Vec<(PortId, FlowReport)>> {
        Self::flows(self, network)
    }

    fn answer_lease(&self, network: NetworkId, port: PortId, owner: &str, answer: LeaseReply) -> Result<()> {
        Self::answer_lease(self, network, port, owner, answer)
    }

    fn balance_by_load(&self) -> Result<usize> {
        Self::balance_by_load(self)
    }

    fn set_leased(&self, network: NetworkId, port: PortId, leased: Vec<IpAddr>) -> Result<()> {
        Self::set_leased(self, network, port, leased)
    }
}

/// Processes that the daemon starts.
pub(crate) trait Launcher: fmt::Debug + Send + Sync {
    /// Starts the supervisor of a container whose record is on disk; it says hello on its own.
    fn supervisor(&self, id: &str) -> super::error::Result<()>;

    /// Ends and removes what the lost supervisor of a container left in control groups, in a process of its own.
    fn sweep_groups(&self, id: &str);

    /// Makes the user namespace of the instance; `None` where containers need none (root).
    fn user_namespace(&self) -> super::error::Result<Option<OwnedFd>>;

    /// Which writable layers of containers lie on disks.
    fn layers(&self) -> Layers;

    /// Removes those that nobody uses, meanwhile.
    fn sweep_layers(&self, namespace: OwnedFd);
}
