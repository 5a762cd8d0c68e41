//! One container as the daemon knows it: what it is to be, where it stands, and what of it is on the data plane.

use std::{
    collections::{BTreeMap, HashMap},
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use netloom_runtime::{
    fabric::ListenerId,
    protocol::{Failure, Listener, RequestId},
    spec::{Attachment, Backend, NetworkMode, Record, RestartPolicy},
};
use netloom_switch::PortId;
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

use super::{lookup::short, stats::Sample, supervisors::Wire};
use crate::api::{self, ContainerNetwork, PortBinding, State};

/// The exit code of a container whose supervisor was lost: as one killed by SIGKILL, which it was.
pub(crate) const LOST: i32 = 137;

/// One container.
#[derive(Debug)]
pub(crate) struct Container {
    pub record: Record,
    pub status: Status,
    /// The living supervisor.
    pub link: Option<Link>,
    /// The addresses it holds: those of its last plan, until it has ended.
    pub leases: Vec<Attachment>,
    /// What of them is attached.
    pub ports: Vec<AttachedPort>,
    pub listeners: Vec<Listening>,
    /// Held by whoever changes what it publishes, and while it follows a change of its networks.
    pub turn: Arc<tokio::sync::Mutex<()>>,
    /// What it had used when `stats` looked last.
    pub sample: Option<Sample>,
    /// Follows `status` for those who wait.
    pub life: watch::Sender<Life>,
}

/// What is written down of where a container stands: `containers/<id>/state.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub state: State,
    pub pid: Option<i32>,
    pub exit_code: Option<i32>,
    pub error: String,
    #[serde(default)]
    pub oom_killed: bool,
    pub started: Option<String>,
    pub finished: Option<String>,
    pub restart_count: u32,
    /// Whether it is meant to run: started, and not stopped by hand since. Such a container with `--restart always` comes back.
    pub wanted: bool,
    /// Network → the address it had last there, which it gets again if nobody else has it by then.
    #[serde(default)]
    pub addresses: BTreeMap<String, Ipv4Addr>,
    /// The same of IPv6.
    #[serde(default)]
    pub addresses6: BTreeMap<String, Ipv6Addr>,
    /// What of its root cannot be changed in place, and why; known from its first start on.
    #[serde(default)]
    pub read_only: Vec<String>,
}

/// What waiters see of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub state: State,
    pub exit_code: Option<i32>,
    pub supervised: bool,
}

/// A connection to a supervisor.
#[derive(Debug)]
pub(crate) struct Link {
    pub wire: Wire,
    pub next_request: RequestId,
    /// Who waits for the answer to which request.
    pub pending: HashMap<RequestId, oneshot::Sender<Option<Failure>>>,
}

/// An attachment that is a port of a switch.
#[derive(Clone, Debug)]
pub(crate) struct AttachedPort {
    pub attachment: Attachment,
    pub port: PortId,
}

/// A listener that leads to one of the ports.
#[derive(Clone, Debug)]
pub(crate) struct Listening {
    pub listener: Listener,
    pub network: String,
    pub port: PortId,
    pub id: ListenerId,
}

impl Container {
    pub(crate) fn new(record: Record, status: Status) -> Self {
        let life = Life { state: status.state, exit_code: status.exit_code, supervised: false };
        Self {
            record,
            status,
            link: None,
            leases: Vec::new(),
            ports: Vec::new(),
            listeners: Vec::new(),
            turn: Arc::default(),
            sample: None,
            life: watch::Sender::new(life),
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.record.id
    }

    pub(crate) fn name(&self) -> &str {
        &self.record.name
    }

    /// Whether there are processes in it.
    pub(crate) fn runs(&self) -> bool {
        matches!(self.status.state, State::Running | State::Paused)
    }

    /// Whether it runs or will without anybody's doing.
    pub(crate) fn is_active(&self) -> bool {
        self.runs() || self.status.state == State::Restarting
    }

    /// Whether somebody waits for an answer of its supervisor.
    pub(crate) fn is_asked(&self) -> bool {
        self.link.as_ref().is_some_and(|link| !link.pending.is_empty())
    }

    pub(crate) fn comes_back(&self) -> bool {
        self.record.spec.restart == RestartPolicy::Always
    }

    /// Tells waiters where it stands now.
    pub(crate) fn publish_life(&self) {
        let life = Life { state: self.status.state, exit_code: self.status.exit_code, supervised: self.link.is_some() };
        self.life.send_if_modified(|old| std::mem::replace(old, life) != life);
    }

    pub(crate) fn port_on(&self, network: &str) -> Option<&AttachedPort> {
        self.ports.iter().find(|port| port.attachment.network == network)
    }

    pub(crate) fn is_on(&self, network: &str) -> bool {
        self.record.spec.network.mode == NetworkMode::Bridge && self.record.spec.network.networks.iter().any(|n| n.network == network)
    }

    /// The name its processes see.
    pub(crate) fn hostname(&self) -> &str {
        self.record.spec.hostname.as_deref().unwrap_or_else(|| short(&self.record.id))
    }

    /// The domains in which its processes are to look for short names.
    pub(crate) fn search(&self) -> Vec<String> {
        self.record.spec.network.dns_search.iter().filter(|domain| *domain != ".").cloned().collect()
    }

    /// Under which names others find it on `network`: its name first.
    pub(crate) fn names_on(&self, network: &str) -> Vec<String> {
        let requests = self.record.spec.network.networks.iter().filter(|request| request.network == network);
        let aliases = requests.flat_map(|request| request.aliases.iter().cloned());
        let own = [self.record.name.clone(), short(&self.record.id).to_owned()];
        own.into_iter().chain(aliases).chain(self.record.spec.hostname.clone()).collect()
    }

    /// As `inspect` shows it.
    pub(crate) fn view(&self, log_path: String) -> api::Container {
        let (record, status, spec) = (&self.record, &self.status, &self.record.spec);
        api::Container {
            id: record.id.clone(),
            name: record.name.clone(),
            state: status.state,
            pid: status.pid,
            exit_code: status.exit_code,
            error: status.error.clone(),
            oom_killed: status.oom_killed,
            network_mode: network_mode(record),
            networks: self.networks_view(),
            ports: self.bindings(),
            hostname: self.hostname().to_owned(),
            rootfs: spec.root.rootfs.as_ref().map_or_else(|| "host".to_owned(), |dir| dir.display().to_string()),
            read_only: status.read_only.clone(),
            command: spec.command.clone(),
            env: spec.process.env.clone(),
            workdir: spec.process.workdir.as_ref().map_or_else(|| "/".to_owned(), |dir| dir.display().to_string()),
            user: spec.process.user.clone().unwrap_or_default(),
            tty: spec.tty,
            labels: spec.labels.clone(),
            restart_policy: restart_policy(spec.restart),
            restart_count: status.restart_count,
            auto_remove: spec.auto_remove,
            privileged: spec.security.privileged,
            created: record.created.clone(),
            started: status.started.clone(),
            finished: status.finished.clone(),
            backend: self.backend().map(|backend| backend.name().to_owned()),
            log_path,
        }
    }

    /// That of its first interface, while it has one.
    fn backend(&self) -> Option<Backend> {
        self.ports
            .iter()
            .min_by(|a, b| a.attachment.ifname.cmp(&b.attachment.ifname))
            .map(|port| port.attachment.backend.unwrap_or_default())
    }

    fn networks_view(&self) -> BTreeMap<String, ContainerNetwork> {
        let row = |port: &AttachedPort| {
            let a = &port.attachment;
            let network = ContainerNetwork {
                ip_address: a.ip,
                ip6_address: a.ipv6.map(|ipv6| ipv6.ip),
                prefix_len: a.prefix_len,
                prefix6_len: a.ipv6.map(|ipv6| ipv6.prefix_len),
                gateway: a.gateway,
                gateway6: a.ipv6.and_then(|ipv6| ipv6.gateway),
                mac_address: a.mac,
                port_id: port.port.0,
                interface: a.ifname.clone(),
                aliases: a.aliases.clone(),
            };
            (a.network.clone(), network)
        };
        self.ports.iter().map(row).collect()
    }

    /// The publications that listen, in order.
    pub(crate) fn bindings(&self) -> Vec<PortBinding> {
        bindings(self.listeners.iter().map(|listening| &listening.listener))
    }
}

/// Where listeners are reached, in order.
pub(crate) fn bindings<'a>(listeners: impl IntoIterator<Item = &'a Listener>) -> Vec<PortBinding> {
    let binding = |listener: &Listener| {
        let Listener { host_ip, host_port, container_port, protocol, .. } = *listener;
        PortBinding { host_ip, host_port, container_port, protocol }
    };
    let mut bindings: Vec<_> = listeners.into_iter().map(binding).collect();
    bindings.sort_by_key(|binding| (binding.container_port, binding.protocol, binding.host_ip, binding.host_port));
    bindings
}

fn network_mode(record: &Record) -> String {
    match &record.spec.network.mode {
        // One that was taken off all its networks has none.
        NetworkMode::Bridge => record.spec.network.networks.first().map_or("none", |first| &first.network).to_owned(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Container { container } => format!("container:{container}"),
        NetworkMode::Pid { pid } => format!("container:pid:{pid}"),
        NetworkMode::Path { path } => format!("ns:{}", path.display()),
    }
}

fn restart_policy(policy: RestartPolicy) -> String {
    match policy {
        RestartPolicy::No => "no".to_owned(),
        RestartPolicy::Always => "always".to_owned(),
        RestartPolicy::OnFailure { retries: None } => "on-failure".to_owned(),
        RestartPolicy::OnFailure { retries: Some(retries) } => format!("on-failure:{retries}"),
    }
}
