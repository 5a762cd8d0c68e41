//! The data plane of one instance: its workers, its networks' switches and gateways, its ports.
//!
//! ```text
//!                      Fabric (the daemon's calls)
//!                        │ calls, new tables
//!        ┌───────────────┴───────────────┐
//!        ▼                               ▼
//!   inbox ▸ Worker::turn            inbox ▸ Worker::turn          one thread each, nothing shared but
//!     ├ Port ── Burst::read           ├ Port                        the switches and the ways out
//!     │   │      Switch::handle       └ Port
//!     │   │      Burst::flush (to any port, from this thread)
//!     │   └ Gateway, host sockets, listeners
//!     └ Port
//! ```
//!
//! The daemon calls [`Fabric`] from its own threads; every call is a message to workers or a new snapshot, never a lock that a
//! frame waits for.

mod balance;
mod budget;
mod burst;
mod closer;
mod config;
mod control;
mod datagrams;
mod echo;
mod egress;
mod inbox;
mod ingress;
mod leases;
mod listeners;
mod moderation;
mod network;
mod outside;
mod pace;
mod packet_port;
mod patience;
mod port;
mod port_io;
mod reports;
mod run;
mod sockets;
mod sources;
#[cfg(test)]
mod tests;
mod timers;
mod worker;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use self::{
    balance::Bell,
    budget::Budgets,
    control::{Seat, Site, State},
    inbox::{Closed, Inbox},
    network::Network,
    port::PortKey,
    worker::{Clock, Worker},
};
pub(crate) use self::{burst::rings_are_allowed, echo::ping_sockets_are_allowed};
pub use self::{
    config::{
        FabricError, FdbReport, FlowReport, ListenerConfig, ListenerId, Names, NetworkConfig, NetworkId, PortConfig, PortOptions,
        PortReport,
    },
    leases::LeaseAsked,
    packet_port::PacketPort,
    port_io::{Caps, Held, PortIo, RecvError, Room, TapPort, Way},
};
use crate::{descriptors, host, spec::Backend, sys};
use netloom_switch::{DropReason, Mac, PortId, Switch, gateway::HostAddresses};

/// Allocations as large as the smallest buffer of a flow: tens of thousands of them come and go.
const MAPPED: i32 = 16 * 1024;

/// The data plane. Dropping it stops its workers, and with them every flow.
#[derive(Debug)]
pub struct Fabric {
    clock: Clock,
    workers: Vec<Running>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct Running {
    inbox: Arc<Inbox>,
    thread: Option<thread::JoinHandle<()>>,
}

impl From<Closed> for FabricError {
    fn from(_: Closed) -> Self {
        Self::Stopped
    }
}

fn io(what: &'static str) -> impl FnOnce(nix::Error) -> FabricError {
    move |errno| FabricError::Io { what, source: errno.into() }
}

impl Fabric {
    /// Starts the workers, and raises the process's limit of descriptors as far as it may: every flow has one.
    pub fn start(workers: NonZeroUsize) -> Result<Self, FabricError> {
        sys::memory::map_from(MAPPED);
        let budgets = Budgets::of(descriptors::raise(None));
        let clock = Clock::start();
        let (bell, rings) = Bell::new();
        let mut fabric = Self { clock, workers: Vec::new(), state: Mutex::new(State::new(workers.get(), budgets, rings)) };
        for index in 0..workers.get() {
            fabric.workers.push(start_worker(index, clock, bell.clone())?);
        }
        Ok(fabric)
    }

    pub fn add_network(&self, config: NetworkConfig) -> Result<NetworkId, FabricError> {
        let mut state = self.lock();
        let switch = Switch::new(config.settings());
        let gateway = switch.counters(PortId::GATEWAY).unwrap_or_default();
        let id = state.next_network();
        let network = Arc::new(Network {
            id,
            switch,
            table: arc_swap::ArcSwap::default(),
            gateway,
            asks: state.asks.clone(),
            budgets: state.budgets.clone(),
        });
        state.networks.insert(id, Site::new(config, Arc::clone(&network)));
        state.note_prefixes();
        // One worker ages the tables of all networks.
        if let Some(first) = self.workers.first() {
            first.inbox.ask(move |worker| worker.age(network))?;
        }
        self.push_views(&state, |_, _| true)?;
        Ok(id)
    }

    /// Changes a running network's settings.
    pub fn configure(&self, network: NetworkId, config: NetworkConfig) -> Result<(), FabricError> {
        let mut state = self.lock();
        let site = state.site_mut(network)?;
        site.network.switch.set(config.settings());
        let prefixes = |config: &NetworkConfig| (config.subnet, config.ipv6);
        let is_moved = prefixes(&site.config) != prefixes(&config);
        site.config = config;
        state.note_prefixes();
        self.push_views(&state, |key, _| is_moved || key.network == network)
    }

    /// Removes a network and every port that is left on it.
    pub fn remove_network(&self, network: NetworkId) -> Result<(), FabricError> {
        let mut state = self.lock();
        let ports: Vec<PortId> = state.site(network)?.ports.keys().copied().collect();
        for port in ports {
            self.retire(&mut state, PortKey { network, port })?;
        }
        state.networks.remove(&network);
        state.note_prefixes();
        if let Some(first) = self.workers.first() {
            first.inbox.ask(move |worker| worker.age_no_more(network))?;
        }
        self.push_views(&state, |_, _| true)
    }

    /// The names that askers on this network get.
    pub fn set_names(&self, network: NetworkId, names: Names) -> Result<(), FabricError> {
        let mut state = self.lock();
        state.site_mut(network)?.names = names;
        self.push_views(&state, |_, seat| seat.asks.contains(&network))
    }

    /// Which networks' names a port may ask for, after a connect or disconnect.
    pub fn set_asks(&self, network: NetworkId, port: PortId, asks: Vec<NetworkId>) -> Result<(), FabricError> {
        let mut state = self.lock();
        let changed = PortKey { network, port };
        state.seat_mut(changed)?.asks = asks.into_iter().collect();
        self.push_views(&state, |key, _| key == changed)
    }

    /// The host's resolvers, in order.
    pub fn set_resolvers(&self, resolvers: Vec<SocketAddr>) {
        let mut state = self.lock();
        state.resolvers = resolvers.into();
        // Workers that have stopped ask nobody.
        let _ = self.push_views(&state, |_, _| true);
    }

    /// The host's own addresses.
    pub fn set_host(&self, addresses: HostAddresses) {
        let mut state = self.lock();
        state.host = addresses.into();
        // Workers that have stopped reach nobody.
        let _ = self.push_views(&state, |_, _| true);
    }

    /// Attaches a port; frames flow once this returns.
    pub fn attach(&self, network: NetworkId, port: PortConfig) -> Result<PortId, FabricError> {
        let PortConfig { link, backend, owner, ip, ip6, mac, mtu, host_loopback, asks, options } = port;
        let (owner, asks) = (owner.into(), asks.into_iter().collect());
        let seat =
            Seat { worker: 0, owner, ip, ip6, mac, mtu, host_loopback, asks, options, leased: Vec::new(), listeners: BTreeSet::new() };
        let uso = host::has_uso();
        let io: Arc<dyn PortIo> = match backend {
            Backend::Tap => Arc::new(TapPort::new(link, uso)),
            Backend::Veth => Arc::new(PacketPort::new(link, uso)),
        };
        self.seat(network, seat, io)
    }

    /// Changes a port's settings; frames that are on their way may still go by the old ones.
    pub fn set_port(&self, network: NetworkId, port: PortId, options: PortOptions) -> Result<(), FabricError> {
        let mut state = self.lock();
        let seat = state.seat_mut(PortKey { network, port })?;
        seat.options = options;
        let settings = seat.settings();
        if state.site(network)?.network.switch.set_port(port, settings) { Ok(()) } else { Err(FabricError::NoSuchPort(port)) }
    }

    /// Detaches a port, with its flows and listeners; its descriptor is closed when no worker can use it any more.
    pub fn detach(&self, network: NetworkId, port: PortId) -> Result<(), FabricError> {
        let mut state = self.lock();
        self.retire(&mut state, PortKey { network, port })?;
        // It is detached, however the others are spread.
        let _ = self.balance(&mut state);
        Ok(())
    }

    pub fn listen(&self, network: NetworkId, port: PortId, listener: ListenerConfig) -> Result<ListenerId, FabricError> {
        let mut state = self.lock();
        let key = PortKey { network, port };
        let id = state.next_listener();
        let inbox = &self.worker(state.seat(key)?.worker)?.inbox;
        let listening = inbox.ask(move |worker| worker.port(key, |port, at| port.listen(id, listener, at)))?;
        listening.ok_or(FabricError::NoSuchPort(port))?.map_err(|source| FabricError::Io { what: "watch a listener", source })?;
        state.seat_mut(key)?.listeners.insert(id);
        Ok(id)
    }

    /// Stops a listener; established flows live on.
    pub fn unlisten(&self, network: NetworkId, port: PortId, listener: ListenerId) -> Result<(), FabricError> {
        let mut state = self.lock();
        let key = PortKey { network, port };
        let seat = state.seat_mut(key)?;
        if seat.listeners.remove(&listener) {
            self.worker(seat.worker)?.inbox.ask(move |worker| worker.port(key, |port, at| port.unlisten(listener, at)))?;
        }
        Ok(())
    }

    /// All ports in order, the gateway first.
    pub fn ports(&self, network: NetworkId) -> Result<Vec<PortReport>, FabricError> {
        let state = self.lock();
        let site = state.site(network)?;
        let switch = &site.network.switch;
        let open = switch.ports();
        let table = site.network.table.load();
        let reports = open.iter().filter_map(|port| {
            let mut counts = switch.counters(port)?.snapshot();
            counts.add(DropReason::RingOverflow, table.get(port).map_or(0, |egress| egress.io.overruns()));
            let seat = site.ports.get(&port);
            let owner = seat.map(|seat| seat.owner.to_string()).unwrap_or_default();
            let (worker, options) = seat.map_or_else(Default::default, |seat| (seat.worker, seat.options));
            Some(PortReport { port, owner, counts, worker, isolated: options.isolated })
        });
        Ok(reports.collect())
    }

    pub fn fdb(&self, network: NetworkId) -> Result<Vec<FdbReport>, FabricError> {
        let now = self.clock.now();
        let state = self.lock();
        let entries = state.site(network)?.network.switch.fdb().list(now);
        let report = |entry: netloom_switch::FdbEntry| FdbReport {
            mac: entry.mac,
            port: entry.port,
            age: now.since(entry.seen),
            is_static: entry.is_static,
        };
        Ok(entries.into_iter().map(report).collect())
    }

    /// Pins an address, but the gateway's, to an open port.
    pub fn fdb_add(&self, network: NetworkId, mac: Mac, port: PortId) -> Result<(), FabricError> {
        Ok(self.lock().site(network)?.network.switch.pin(self.clock.now(), mac, port)?)
    }

    /// Forgets an address, learned or pinned, but the gateway's; false if it was not there.
    pub fn fdb_del(&self, network: NetworkId, mac: Mac) -> Result<bool, FabricError> {
        Ok(self.lock().site(network)?.network.switch.forget(mac)?)
    }

    /// The flows of every port, asked of the workers that own them.
    pub fn flows(&self, network: NetworkId) -> Result<Vec<(PortId, FlowReport)>, FabricError> {
        let state = self.lock();
        state.site(network)?;
        let calls: Vec<_> = self.workers.iter().map(|running| running.inbox.call(move |worker| worker.flows(network))).collect();
        let mut flows = Vec::new();
        for call in calls {
            flows.extend(call?.recv().map_err(|_| FabricError::Stopped)?);
        }
        flows.sort_by_key(|(port, _)| *port);
        Ok(flows)
    }

    fn worker(&self, index: usize) -> Result<&Running, FabricError> {
        self.workers.get(index).ok_or(FabricError::Stopped)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        for running in &self.workers {
            // A worker that has ended is stopped.
            let _ = running.inbox.call(Worker::stop);
        }
        for running in &mut self.workers {
            if let Some(thread) = running.thread.take() {
                // A panic was reported by its thread.
                let _ = thread.join();
            }
        }
    }
}

fn start_worker(index: usize, clock: Clock, crowded: Bell) -> Result<Running, FabricError> {
    let inbox = Arc::new(Inbox::new().map_err(io("make a worker's inbox"))?);
    let worker = Worker::new(Arc::clone(&inbox), clock, crowded).map_err(io("make a worker's epoll set"))?;
    let thread = thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(move || worker.run())
        .map_err(|source| FabricError::Io { what: "start a worker", source })?;
    Ok(Running { inbox, thread: Some(thread) })
}
