//! A daemon without a kernel: a data plane that remembers, and supervisors that speak the protocol over a socket pair.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use netloom_runtime::{
    channel::{AsyncChannel, Channel},
    fabric::{
        FabricError, FdbReport, FlowReport, ListenerConfig, ListenerId, Names, NetworkConfig, NetworkId, PortConfig, PortOptions,
        PortReport,
    },
    protocol::{Failure, Listener, Request, RequestId, SupervisorState, ToDaemon, ToSupervisor, VERSION},
    rootfs::upper::Layers,
    spec::{
        Attachment, ContainerSpec, LimitSpec, NetworkMode, NetworkRequest, NetworkSpec, Plan, ProcessSpec, Protocol, Publication,
        RestartPolicy, RootSpec, SecuritySpec,
    },
};
use netloom_switch::{Mac, PortCounts, PortId, gateway::HostAddresses};

use super::{
    Daemon,
    error::Result,
    plane::{Launcher, Plane},
    supervisors,
};
use crate::{api::CreateContainer, paths::Paths};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A directory for one test, gone with it.
#[derive(Debug)]
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        let name = format!("netloom-daemon-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::remove_dir_all(&path).ok();
        Self(path)
    }

    /// A daemon on this directory, after what its predecessor left has been read.
    pub(crate) fn daemon(&self) -> Arc<Daemon> {
        self.daemon_on(&[])
    }

    /// The same on a host with these routes.
    pub(crate) fn daemon_on(&self, routes: &[ipnet::IpNet]) -> Arc<Daemon> {
        self.daemon_with(Box::new(Nobody), routes)
    }

    /// The same with this to start and to sweep.
    pub(crate) fn daemon_with(&self, launcher: Box<dyn Launcher>, routes: &[ipnet::IpNet]) -> Arc<Daemon> {
        self.daemon_over(Remembering::default(), launcher, routes)
    }

    /// A daemon, and what its data plane is told about leases.
    pub(crate) fn daemon_and_leased(&self) -> (Arc<Daemon>, Leased) {
        let plane = Remembering::default();
        let leased = Arc::clone(&plane.leased);
        (self.daemon_over(plane, Box::new(Nobody), &[]), leased)
    }

    fn daemon_over(&self, plane: Remembering, launcher: Box<dyn Launcher>, routes: &[ipnet::IpNet]) -> Arc<Daemon> {
        let paths = Paths::at(&self.0);
        paths.make_root().unwrap();
        let daemon = Daemon::new(paths, Box::new(plane), launcher, 1);
        daemon.restore(routes).unwrap();
        Arc::new(daemon)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Starts nothing.
#[derive(Debug)]
struct Nobody;

impl Launcher for Nobody {
    fn supervisor(&self, _: &str) -> Result<()> {
        Ok(())
    }

    fn sweep_groups(&self, _: &str) {}

    fn user_namespace(&self) -> Result<Option<OwnedFd>> {
        Ok(None)
    }

    fn layers(&self) -> Layers {
        Layers::default()
    }

    fn sweep_layers(&self, _: OwnedFd) {}
}

/// Finds these layers, look by look, and counts how often they are swept.
#[derive(Debug)]
pub(crate) struct Layered {
    seen: Mutex<VecDeque<Layers>>,
    namespace: fn() -> OwnedFd,
    sweeps: Arc<AtomicU32>,
}

impl Layered {
    pub(crate) fn new(seen: impl Into<VecDeque<Layers>>, namespace: fn() -> OwnedFd) -> (Self, Arc<AtomicU32>) {
        let sweeps = Arc::default();
        (Self { seen: Mutex::new(seen.into()), namespace, sweeps: Arc::clone(&sweeps) }, sweeps)
    }
}

impl Launcher for Layered {
    fn supervisor(&self, _: &str) -> Result<()> {
        Ok(())
    }

    fn sweep_groups(&self, _: &str) {}

    fn user_namespace(&self) -> Result<Option<OwnedFd>> {
        Ok(Some((self.namespace)()))
    }

    fn layers(&self) -> Layers {
        self.seen.lock().unwrap().pop_front().expect("it stops looking")
    }

    fn sweep_layers(&self, _: OwnedFd) {
        self.sweeps.fetch_add(1, Relaxed);
    }
}

/// A data plane that keeps what it was told; its port numbers are never used twice.
#[derive(Debug, Default)]
pub(crate) struct Remembering {
    told: Mutex<Told>,
    leased: Leased,
}

/// The leased addresses of ports as a data plane was told them, one after the other.
pub(crate) type Leased = Arc<Mutex<Vec<(PortId, Vec<IpAddr>)>>>;

#[derive(Debug, Default)]
struct Told {
    networks: u32,
    next: u16,
    ports: BTreeMap<(u32, u16), PortConfig>,
    listeners: BTreeMap<u32, (u32, u16)>,
}

impl Remembering {
    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Answer<T> = std::result::Result<T, FabricError>;

impl Plane for Remembering {
    fn add_network(&self, _: NetworkConfig) -> Answer<NetworkId> {
        let mut told = self.told();
        told.networks += 1;
        Ok(NetworkId(told.networks))
    }

    fn configure(&self, _: NetworkId, _: NetworkConfig) -> Answer<()> {
        Ok(())
    }

    fn remove_network(&self, _: NetworkId) -> Answer<()> {
        Ok(())
    }

    fn set_names(&self, _: NetworkId, _: Names) -> Answer<()> {
        Ok(())
    }

    fn set_asks(&self, network: NetworkId, port: PortId, asks: Vec<NetworkId>) -> Answer<()> {
        self.told().ports.get_mut(&(network.0, port.0)).ok_or(FabricError::NoSuchPort(port))?.asks = asks;
        Ok(())
    }

    fn answer_lease(&self, _: NetworkId, _: PortId, _: &str, _: netloom_switch::gateway::LeaseReply) -> Answer<()> {
        Ok(())
    }

    fn set_leased(&self, _: NetworkId, port: PortId, leased: Vec<IpAddr>) -> Answer<()> {
        self.leased.lock().unwrap().push((port, leased));
        Ok(())
    }

    fn set_resolvers(&self, _: Vec<SocketAddr>) {}

    fn set_host(&self, _: HostAddresses) {}

    fn attach(&self, network: NetworkId, port: PortConfig) -> Answer<PortId> {
        let mut told = self.told();
        told.next += 1;
        let id = told.next;
        told.ports.insert((network.0, id), port);
        Ok(PortId(id))
    }

    fn set_port(&self, network: NetworkId, port: PortId, options: PortOptions) -> Answer<()> {
        self.told().ports.get_mut(&(network.0, port.0)).ok_or(FabricError::NoSuchPort(port))?.options = options;
        Ok(())
    }

    fn detach(&self, network: NetworkId, port: PortId) -> Answer<()> {
        let mut told = self.told();
        told.listeners.retain(|_, at| *at != (network.0, port.0));
        told.ports.remove(&(network.0, port.0)).map(drop).ok_or(FabricError::NoSuchPort(port))
    }

    fn listen(&self, network: NetworkId, port: PortId, _: ListenerConfig) -> Answer<ListenerId> {
        let mut told = self.told();
        if !told.ports.contains_key(&(network.0, port.0)) {
            return Err(FabricError::NoSuchPort(port));
        }
        let id = u32::try_from(told.listeners.len()).unwrap() + 1000 * u32::from(port.0);
        told.listeners.insert(id, (network.0, port.0));
        Ok(ListenerId(id))
    }

    fn unlisten(&self, _: NetworkId, port: PortId, listener: ListenerId) -> Answer<()> {
        self.told().listeners.remove(&listener.0).map(drop).ok_or(FabricError::NoSuchPort(port))
    }

    fn ports(&self, network: NetworkId) -> Answer<Vec<PortReport>> {
        let report = |((_, id), port): (&(u32, u16), &PortConfig)| PortReport {
            port: PortId(*id),
            owner: port.owner.clone(),
            counts: PortCounts::default(),
            worker: 0,
            isolated: port.options.isolated,
        };
        Ok(self.told().ports.iter().filter(|((at, _), _)| *at == network.0).map(report).collect())
    }

    fn fdb(&self, _: NetworkId) -> Answer<Vec<FdbReport>> {
        Ok(Vec::new())
    }

    fn fdb_add(&self, _: NetworkId, _: Mac, _: PortId) -> Answer<()> {
        Ok(())
    }

    fn balance_by_load(&self) -> Answer<usize> {
        Ok(0)
    }

    fn fdb_del(&self, _: NetworkId, _: Mac) -> Answer<bool> {
        Ok(false)
    }

    fn flows(&self, _: NetworkId) -> Answer<Vec<(PortId, FlowReport)>> {
        Ok(Vec::new())
    }
}

/// A container's supervisor, played by the test.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) channel: AsyncChannel,
}

impl Supervisor {
    /// Says hello for a container that has not run yet.
    pub(crate) async fn new(daemon: &Arc<Daemon>, id: &str) -> Self {
        Self::back(daemon, id, SupervisorState::Created, Vec::new(), Vec::new()).await
    }

    /// Says hello for a container that was there before the daemon.
    pub(crate) async fn back(
        daemon: &Arc<Daemon>,
        id: &str,
        state: SupervisorState,
        ports: Vec<Attachment>,
        listeners: Vec<Listener>,
    ) -> Self {
        let (ours, theirs) = Channel::pair().unwrap();
        tokio::spawn(supervisors::serve(Arc::clone(daemon), theirs));
        let supervisor = Self { channel: ours.into_async().unwrap() };
        let count = ports.len() + listeners.len();
        supervisor.say(
            ToDaemon::Hello { version: VERSION, container: id.to_owned(), state, userns: false, ports, listeners, more: false },
            count,
        );
        assert!(matches!(supervisor.hear().await, Some(ToSupervisor::Welcome { version: VERSION, userns: false })));
        supervisor
    }

    pub(crate) fn say(&self, message: ToDaemon, descriptors: usize) {
        let null = fs::File::open("/dev/null").unwrap();
        self.channel.send(&message, &vec![null.as_fd(); descriptors]).unwrap();
    }

    pub(crate) async fn hear(&self) -> Option<ToSupervisor> {
        let heard = tokio::time::timeout(std::time::Duration::from_secs(10), self.channel.receive()).await;
        heard.expect("the daemon said nothing").unwrap().map(|(message, _)| message)
    }

    pub(crate) async fn prepare(&self) -> std::result::Result<Plan, Failure> {
        self.say(ToDaemon::Prepare, 0);
        match self.hear().await {
            Some(ToSupervisor::Plan { plan }) => Ok(plan),
            Some(ToSupervisor::Refused { failure }) => Err(failure),
            other => panic!("{other:?} is no answer to prepare"),
        }
    }

    pub(crate) async fn attach(&self, ports: Vec<Attachment>, listeners: Vec<Listener>) -> std::result::Result<(), Failure> {
        let count = ports.len() + listeners.len();
        self.say(ToDaemon::Attach { ports, listeners, more: false }, count);
        match self.hear().await {
            Some(ToSupervisor::Attached) => Ok(()),
            Some(ToSupervisor::Refused { failure }) => Err(failure),
            other => panic!("{other:?} is no answer to attach"),
        }
    }

    /// A whole start.
    pub(crate) async fn start(&self, listeners: Vec<Listener>) -> Plan {
        let plan = self.prepare().await.unwrap();
        self.attach(plan.attachments.clone(), listeners).await.unwrap();
        self.say(ToDaemon::Started { pid: 4242, read_only: vec!["/usr: fixed".to_owned()] }, 0);
        plan
    }

    pub(crate) fn exit(&self, code: i32, will_restart: bool) {
        self.say(ToDaemon::Exited { code, error: None, will_restart, oom_killed: false }, 0);
    }

    /// Follows a change of its networks, with these listeners; returns by which plan.
    pub(crate) async fn follow(&self, listeners: Vec<Listener>) -> Plan {
        let Some(ToSupervisor::Request { request, what: Request::Follow { plan } }) = self.hear().await else {
            panic!("it was not asked to follow a change of its networks")
        };
        if !listeners.is_empty() {
            self.attach(Vec::new(), listeners).await.unwrap();
        }
        self.done(request);
        plan
    }

    pub(crate) fn done(&self, request: RequestId) {
        self.say(ToDaemon::Done { request, error: None }, 0);
    }
}

/// Lets everything that was said be heard.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if is_so() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came about: {what}");
}

/// A container in bridge mode on `networks`; none is the default one.
pub(crate) fn spec(networks: &[&str]) -> ContainerSpec {
    let request = |name: &&str| NetworkRequest { network: (*name).to_owned(), ..NetworkRequest::default() };
    ContainerSpec {
        command: vec!["sleep".to_owned(), "100".to_owned()],
        process: ProcessSpec::default(),
        hostname: None,
        tty: false,
        interactive: false,
        auto_remove: false,
        restart: RestartPolicy::No,
        labels: BTreeMap::new(),
        network: NetworkSpec {
            mode: NetworkMode::Bridge,
            networks: networks.iter().map(request).collect(),
            publish: Vec::new(),
            dns: Vec::new(),
            dns_search: Vec::new(),
            add_host: Vec::new(),
            host_loopback: false,
        },
        root: RootSpec::default(),
        sysctls: Vec::new(),
        security: SecuritySpec::default(),
        limits: LimitSpec::default(),
    }
}

pub(crate) fn named(name: &str, spec: ContainerSpec) -> CreateContainer {
    CreateContainer { name: Some(name.to_owned()), spec }
}

pub(crate) fn tcp(host_port: u16, container_port: u16) -> Publication {
    Publication { host_ip: None, host_port, container_port, protocol: Protocol::Tcp }
}

/// The listener of a publication on 0.0.0.0.
pub(crate) fn listener(publication: &Publication) -> Listener {
    Listener {
        publication: publication.clone(),
        host_ip: publication.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        host_port: publication.host_port,
        container_port: publication.container_port,
        protocol: publication.protocol,
    }
}
