//! What the control plane remembers, and how it reaches the workers: who sits where, and what each port is told.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, mpsc::Receiver},
};

use ipnet::IpNet;
use netloom_switch::{
    Mac, PortId, PortSettings, ReservedMacs, Settings,
    gateway::{GatewayConfig, HostAddresses, View},
    names,
};

use super::{
    Fabric, FabricError, ListenerId, Names, NetworkConfig, NetworkId, PortIo, PortOptions,
    budget::Budgets,
    egress::Egress,
    leases::{Asks, LeaseAsked},
    network::Network,
    port::{Port, PortKey},
};

/// Everything that is told from outside, behind one lock that no frame ever waits for.
#[derive(Debug)]
pub(super) struct State {
    pub(super) networks: BTreeMap<NetworkId, Site>,
    pub(super) resolvers: Arc<[SocketAddr]>,
    pub(super) host: Arc<HostAddresses>,
    /// The prefixes of all networks.
    prefixes: Arc<[IpNet]>,
    /// Ports of each worker.
    loads: Vec<usize>,
    networks_made: u32,
    listeners_made: u32,
    pub(super) asks: Asks,
    /// Of every network's flows together.
    pub(super) budgets: Budgets,
    /// The other end, until somebody takes it.
    pub(super) asked: Option<Receiver<LeaseAsked>>,
    /// Where workers ring that are crowded; the same.
    pub(super) rings: Option<Receiver<()>>,
}

/// A network and who is on it.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) config: NetworkConfig,
    pub(super) network: Arc<Network>,
    pub(super) names: Names,
    pub(super) ports: BTreeMap<PortId, Seat>,
}

/// A port as the control plane knows it.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) worker: usize,
    pub(super) owner: Arc<str>,
    pub(super) ip: Option<Ipv4Addr>,
    pub(super) ip6: Option<Ipv6Addr>,
    pub(super) mac: Mac,
    pub(super) mtu: u16,
    pub(super) host_loopback: bool,
    pub(super) asks: BTreeSet<NetworkId>,
    pub(super) options: PortOptions,
    /// What clients behind the port have leased.
    pub(super) leased: Vec<IpAddr>,
    pub(super) listeners: BTreeSet<ListenerId>,
}

/// Names merged for ports that ask the same networks, for as long as one call lasts.
type Merged = HashMap<BTreeSet<NetworkId>, Arc<names::Names>>;

impl NetworkConfig {
    pub(super) fn settings(&self) -> Settings {
        Settings {
            ageing: self.ageing,
            fdb_max: self.fdb_max,
            isolated: self.isolated,
            reserved_macs: if self.reserved_macs_transparent { ReservedMacs::Transparent } else { ReservedMacs::Strict },
            mtu: self.mtu,
            gateway: self.gateway.map(|_| self.mac),
            gateway_ips: self.gateway_ips(),
            port_security: self.port_security,
        }
    }
}

impl NetworkConfig {
    /// Every address of the gateway.
    fn gateway_ips(&self) -> Vec<IpAddr> {
        let ipv6 = self.ipv6.into_iter().flat_map(|ipv6| [ipv6.ip, self.mac.link_local()]);
        self.gateway.into_iter().map(IpAddr::V4).chain(ipv6.map(IpAddr::V6)).collect()
    }
}

impl Site {
    pub(super) fn new(config: NetworkConfig, network: Arc<Network>) -> Self {
        Self { config, network, names: Names::default(), ports: BTreeMap::new() }
    }
}

impl Seat {
    pub(super) fn settings(&self) -> PortSettings {
        PortSettings {
            mtu: self.mtu,
            isolated: self.options.isolated,
            mac: Some(self.mac),
            ips: self.ips().chain(self.leased.iter().copied()).collect(),
        }
    }

    /// Every address that is this port's alone: what the IPAM gave it, and the link-local one of its MAC.
    fn ips(&self) -> impl Iterator<Item = IpAddr> {
        let ipv6 = self.ip6.into_iter().chain([self.mac.link_local()]);
        self.ip.into_iter().map(IpAddr::V4).chain(ipv6.map(IpAddr::V6))
    }
}

impl State {
    pub(super) fn new(workers: usize, budgets: Budgets, rings: Receiver<()>) -> Self {
        let (asks, asked) = Asks::channel();
        Self {
            networks: BTreeMap::new(),
            resolvers: Arc::default(),
            host: Arc::default(),
            prefixes: Arc::default(),
            loads: vec![0; workers],
            networks_made: 0,
            listeners_made: 0,
            asks,
            asked: Some(asked),
            rings: Some(rings),
            budgets,
        }
    }

    pub(super) fn next_network(&mut self) -> NetworkId {
        self.networks_made += 1;
        NetworkId(self.networks_made)
    }

    pub(super) fn next_listener(&mut self) -> ListenerId {
        self.listeners_made += 1;
        ListenerId(self.listeners_made)
    }

    pub(super) fn site(&self, network: NetworkId) -> Result<&Site, FabricError> {
        self.networks.get(&network).ok_or(FabricError::NoSuchNetwork(network))
    }

    pub(super) fn site_mut(&mut self, network: NetworkId) -> Result<&mut Site, FabricError> {
        self.networks.get_mut(&network).ok_or(FabricError::NoSuchNetwork(network))
    }

    pub(super) fn seat(&self, key: PortKey) -> Result<&Seat, FabricError> {
        self.site(key.network)?.ports.get(&key.port).ok_or(FabricError::NoSuchPort(key.port))
    }

    pub(super) fn seat_mut(&mut self, key: PortKey) -> Result<&mut Seat, FabricError> {
        self.site_mut(key.network)?.ports.get_mut(&key.port).ok_or(FabricError::NoSuchPort(key.port))
    }

    fn seats(&self) -> impl Iterator<Item = (PortKey, &Site, &Seat)> {
        self.networks
            .iter()
            .flat_map(|(network, site)| site.ports.iter().map(move |(port, seat)| (PortKey { network: *network, port: *port }, site, seat)))
    }

    /// What a port's gateway is to know. The port's own settings narrow or widen the network's.
    fn view(&self, site: &Site, seat: &Seat, merged: &mut Merged) -> View {
        let config = GatewayConfig {
            mac: site.config.mac,
            ip: site.config.gateway,
            subnet: site.config.subnet,
            ipv6: site.config.ipv6,
            mtu: seat.mtu,
            internal: site.config.internal,
            host_loopback: site.config.host_loopback || seat.host_loopback,
            limits: site.config.limits.clone(),
        };
        let names = merged.entry(seat.asks.clone()).or_insert_with(|| Arc::new(self.merge(&seat.asks)));
        View {
            config: Arc::new(config),
            names: Arc::clone(names),
            resolvers: Arc::clone(&self.resolvers),
            host: Arc::clone(&self.host),
            networks: Arc::clone(&self.prefixes),
        }
    }

    /// Takes note that networks came, went or changed; the ports are to be told.
    pub(super) fn note_prefixes(&mut self) {
        let configs = self.networks.values().map(|site| &site.config);
        let of = |config: &NetworkConfig| [Some(config.subnet.into()), config.ipv6.map(|ipv6| ipv6.subnet.into())];
        let mut prefixes = IpNet::aggregate(&configs.flat_map(of).flatten().collect());
        prefixes.sort_by_key(IpNet::network);
        self.prefixes = prefixes.into();
    }

    fn merge(&self, asks: &BTreeSet<NetworkId>) -> names::Names {
        let sites = asks.iter().filter_map(|network| self.networks.get(network));
        names::Names::new(sites.flat_map(|site| &site.names.hosts).map(|(name, addresses)| (name, addresses.iter().copied())))
    }

    /// The worker with the fewest ports.
    fn idlest(&self) -> usize {
        (0..self.loads.len()).min_by_key(|worker| self.loads.get(*worker)).unwrap_or(0)
    }

    fn busiest(&self) -> usize {
        (0..self.loads.len()).max_by_key(|worker| self.loads.get(*worker)).unwrap_or(0)
    }

    fn load(&self, worker: usize) -> usize {
        self.loads.get(worker).copied().unwrap_or(0)
    }

    fn set_load(&mut self, worker: usize, change: impl FnOnce(usize) -> usize) {
        if let Some(load) = self.loads.get_mut(worker) {
            *load = change(*load);
        }
    }
}

impl Fabric {
    /// Opens a port of the switch for `io` and gives it to the worker with the fewest.
    pub(super) fn seat(&self, network: NetworkId, mut seat: Seat, io: Arc<dyn PortIo>) -> Result<PortId, FabricError> {
        let mut state = self.lock();
        let site = state.site(network)?;
        let shared = Arc::clone(&site.network);
        let port = shared.switch.lowest_free_port().ok_or(FabricError::Full)?;
        let key = PortKey { network, port };
        let seed = getrandom::u64().map_err(|error| FabricError::Io { what: "draw a random number", source: error.into() })?;
        let gateway = (state.view(site, &seat, &mut Merged::new()), seat.ips().map(|ip| (ip, seat.mac)).collect(), seed);
        seat.worker = state.idlest();
        let inbox = &self.worker(seat.worker)?.inbox;
        // The control plane's lock is held: nobody else takes the number meanwhile.
        shared.switch.add_port(port, seat.settings()).map_err(|_| FabricError::Full)?;
        let counters = shared.switch.counters(port).unwrap_or_default();
        let egress = Egress { io: Arc::clone(&io), counters: Arc::clone(&counters) };
        shared.table.store(Arc::new(shared.table.load().with(port, egress)));

        let value = Box::new(Port::new((key, Arc::clone(&seat.owner)), Arc::clone(&shared), counters, io, gateway));
        let given = inbox.ask(move |worker| worker.give(value).map_err(|(_, errno)| errno));
        let settled = given.map_err(FabricError::from).and_then(|given| given.map_err(super::io("watch a port")));
        if let Err(error) = settled {
            self.close(&shared, port);
            return Err(error);
        }
        state.set_load(seat.worker, |load| load + 1);
        state.site_mut(network)?.ports.insert(port, seat);
        Ok(port)
    }

    /// Ends a port: flows, listeners, frames, in this order, and then its number is free.
    pub(super) fn retire(&self, state: &mut State, key: PortKey) -> Result<(), FabricError> {
        let site = state.site_mut(key.network)?;
        let seat = site.ports.remove(&key.port).ok_or(FabricError::NoSuchPort(key.port))?;
        let shared = Arc::clone(&site.network);
        state.set_load(seat.worker, |load| load.saturating_sub(1));
        let retired = self.worker(seat.worker)?.inbox.ask(move |worker| worker.retire(key));
        self.close(&shared, key.port);
        retired?;
        Ok(())
    }

    fn close(&self, network: &Network, port: PortId) {
        network.table.store(Arc::new(network.table.load().without(port)));
        network.switch.remove_port(port);
    }

    /// Moves ports from the worker with the most to the one with the fewest until none has two more than another.
    pub(super) fn balance(&self, state: &mut State) -> Result<(), FabricError> {
        loop {
            let (from, to) = (state.busiest(), state.idlest());
            if state.load(from) < state.load(to) + 2 {
                return Ok(());
            }
            let Some(key) = state.seats().find(|(_, _, seat)| seat.worker == from).map(|(key, ..)| key) else { return Ok(()) };
            self.move_port(state, key, to)?;
        }
    }

    /// Moves a port with all that belongs to it. Its frames wait in its ring meanwhile, its flows notice nothing.
    pub(super) fn move_port(&self, state: &mut State, key: PortKey, to: usize) -> Result<(), FabricError> {
        let from = state.seat(key)?.worker;
        let (old, new) = (&self.worker(from)?.inbox, &self.worker(to)?.inbox);
        let port = old.ask(move |worker| worker.take(key))?.ok_or(FabricError::NoSuchPort(key.port))?;
        match new.ask(move |worker| worker.give(port))? {
            Ok(()) => {
                state.seat_mut(key)?.worker = to;
                state.set_load(from, |load| load.saturating_sub(1));
                state.set_load(to, |load| load + 1);
                Ok(())
            }
            // It was at home where it came from a moment ago.
            Err((port, errno)) => {
                if old.ask(move |worker| worker.give(port).is_err())? {
                    // Nobody would hear it any more.
                    self.retire(state, key)?;
                }
                Err(super::io("watch a port")(errno))
            }
        }
    }

    /// Tells the ports that `which` names what they are to know, one message to each worker, and waits until they know.
    pub(super) fn push_views(&self, state: &State, which: impl Fn(PortKey, &Seat) -> bool) -> Result<(), FabricError> {
        let mut merged = Merged::new();
        let mut views: Vec<Vec<(PortKey, View)>> = self.workers.iter().map(|_| Vec::new()).collect();
        for (key, site, seat) in state.seats().filter(|(key, _, seat)| which(*key, seat)) {
            let view = state.view(site, seat, &mut merged);
            if let Some(views) = views.get_mut(seat.worker) {
                views.push((key, view));
            }
        }
        let told = views.into_iter().zip(&self.workers).filter(|(views, _)| !views.is_empty());
        let calls: Vec<_> = told.map(|(views, running)| running.inbox.call(move |worker| worker.set_views(views))).collect();
        for call in calls {
            call?.recv().map_err(|_| FabricError::Stopped)?;
        }
        Ok(())
    }
}
