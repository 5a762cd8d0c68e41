//! What a container may ask for, before anything is made: combinations, addresses, networks, host ports.
//!
//! The command line checked the syntax; here is what needs the other containers and networks to be known.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use netloom_runtime::{
    channel::MESSAGE_MAX,
    protocol::Listener,
    spec::{Attachment, ContainerSpec, HostAddress, NetworkMode, NetworkRequest, NetworkSpec, Protocol, Publication},
};

use super::{
    Daemon,
    connect::check_overlap,
    container::Container,
    create::check_reserved,
    error::{Error, Result},
    networks::check_mtu,
    state::State,
};
use crate::words::{
    mount::{device, mount_target},
    quantity::MEMORY_LEAST,
};

impl Daemon {
    /// Whether a container of this kind can be created. `id` is its own, if it is there already.
    pub(crate) fn check_spec(&self, state: &State, spec: &ContainerSpec, id: Option<&str>) -> Result<()> {
        if spec.command.is_empty() {
            return Err(Error::invalid("a container needs a command"));
        }
        check_mode(spec)?;
        check_bounds(spec)?;
        check_size(&spec.network)?;
        match &spec.network.mode {
            NetworkMode::Bridge => {
                check_networks(state, &spec.network)?;
                // One that was taken off its networks since can start all the same.
                if id.is_none() {
                    check_ways(state, &spec.network)?;
                }
            }
            NetworkMode::Container { container } => check_joined(state, container)?,
            _ => {}
        }
        check_publications(state, &spec.network.publish, id)
    }

    /// Whether it can be started now.
    pub(crate) fn check_startable(&self, state: &State, container: &Container) -> Result<()> {
        self.check_spec(state, &container.record.spec, Some(container.id()))
    }

    /// Whether a network can be added to a container.
    pub(crate) fn check_connectable(&self, state: &State, container: &Container, wanted: &NetworkRequest) -> Result<()> {
        let name = container.name();
        if container.record.spec.network.mode != NetworkMode::Bridge {
            return Err(Error::conflict(format!("container `{name}` is in a network mode that has no networks"))
                .hint("only containers in bridge mode can be connected to networks"));
        }
        if container.is_on(&wanted.network) {
            return Err(Error::conflict(format!("container `{name}` is on network `{}` already", wanted.network))
                .hint(format!("to change how, first: netloom network disconnect {} {name}", wanted.network)));
        }
        // A connect under way holds a lease; the record says so only once it is done.
        if container.leases.iter().any(|lease| lease.network == wanted.network) {
            return Err(Error::conflict(format!("container `{name}` is being connected to network `{}` already", wanted.network)));
        }
        check_request(state, wanted)?;
        let mut networks: Vec<_> = container.networks_wanted().into_iter().map(|request| request.network).collect();
        let under_way = container.leases.iter().map(|lease| lease.network.clone()).filter(|network| !networks.contains(network));
        networks.extend(under_way.collect::<Vec<_>>());
        networks.push(wanted.network.clone());
        check_overlap(state, &networks)
    }
}

/// The longest network part of a specification, as JSON in bytes: with addresses added to it, it must fit into one message.
const NETWORK_MAX: usize = MESSAGE_MAX / 4 * 3;

/// This part of a specification travels in messages. The rest stays in the record, where the supervisor reads it, and so do the
/// publications: their listeners are told in as many messages as it takes.
fn check_size(spec: &NetworkSpec) -> Result<()> {
    let spec = NetworkSpec { publish: Vec::new(), ..spec.clone() };
    let length = serde_json::to_vec(&spec).map_err(|error| Error::internal(format!("a specification: {error}")))?.len();
    if length <= NETWORK_MAX {
        return Ok(());
    }
    Err(Error::invalid(format!("the container's network options come to {length} bytes, more than {NETWORK_MAX}"))
        .hint("give fewer --add-host, --net, --network-alias or --dns"))
}

/// What the command line refuses by its words, for those who speak to the API themselves.
fn check_bounds(spec: &ContainerSpec) -> Result<()> {
    if spec.limits.memory.is_some_and(|bytes| bytes < MEMORY_LEAST) {
        return Err(Error::invalid("the memory limit is not enough for a container: 6m is the least"));
    }
    let refused = |place: &Path, what: &str| Error::invalid(format!("`{}` is not {what}", place.display()));
    for place in spec.root.volumes.iter().map(|volume| &volume.target).chain(&spec.root.tmpfs) {
        mount_target(&place.to_string_lossy()).map_err(|error| Error::invalid(error.to_string()))?;
    }
    if let Some(volume) = spec.root.volumes.iter().find(|volume| !volume.source.is_absolute()) {
        return Err(refused(&volume.source, "an absolute path of the host"));
    }
    for node in &spec.root.devices {
        device(&node.to_string_lossy()).map_err(|error| Error::invalid(error.to_string()))?;
    }
    Ok(())
}

/// Options that mean nothing in a network mode are refused by name.
fn check_mode(spec: &ContainerSpec) -> Result<()> {
    let mode = match &spec.network.mode {
        NetworkMode::Bridge => return Ok(()),
        NetworkMode::None => "none",
        NetworkMode::Host => "host",
        NetworkMode::Container { .. } | NetworkMode::Pid { .. } => "container",
        NetworkMode::Path { .. } => "ns",
    };
    let has_interface = |check: fn(&NetworkRequest) -> bool| spec.network.networks.iter().any(check);
    let own_namespace = spec.network.mode == NetworkMode::None;
    let names_host = spec.network.add_host.iter().any(|(_, address)| *address == HostAddress::Gateway);
    let refused = [
        ("--publish", !spec.network.publish.is_empty()),
        ("--ip", has_interface(|request| request.ip.is_some())),
        ("--ip6", has_interface(|request| request.ip6.is_some())),
        ("--mac-address", has_interface(|request| request.mac.is_some())),
        ("--mtu", has_interface(|request| request.mtu.is_some())),
        ("--network-alias", has_interface(|request| !request.aliases.is_empty())),
        ("--dns", !own_namespace && !spec.network.dns.is_empty()),
        ("--dns-search", spec.network.mode.has_hosts_resolver() && !spec.network.dns_search.is_empty()),
        ("--add-host NAME:host-gateway", !spec.network.mode.knows_host() && names_host),
        ("--sysctl net.*", !own_namespace && spec.sysctls.iter().any(|(key, _)| key.starts_with("net."))),
    ];
    match refused.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((option, _)) => {
            let why = if own_namespace { "the container has no interface" } else { "the network is not the container's own" };
            Err(Error::invalid(format!("{option} cannot be used with --net={mode}")).hint(format!("in {mode} mode {why}")))
        }
    }
}

fn check_networks(state: &State, spec: &NetworkSpec) -> Result<()> {
    spec.networks.iter().try_for_each(|request| check_request(state, request))?;
    let names: Vec<_> = spec.networks.iter().map(|request| request.network.clone()).collect();
    check_overlap(state, &names)
}

/// Whether its networks lead in and out as far as its options need it.
fn check_ways(state: &State, spec: &NetworkSpec) -> Result<()> {
    let open = spec.networks.iter().any(|request| state.publishes_on(&request.network));
    let needs_a_way = [
        ("--publish", !spec.publish.is_empty(), "so nothing from outside reaches it"),
        ("--host-loopback", spec.host_loopback, "so nothing of this machine is reached from it"),
    ];
    match (needs_a_way.iter().find(|(_, given, _)| *given), spec.networks.first()) {
        (Some((option, _, why)), Some(first)) if !open => {
            Err(Error::invalid(format!("{option} cannot be used on network `{}`", first.network))
                .hint(format!("it is internal or has no gateway, {why}")))
        }
        _ => Ok(()),
    }
}

/// Whether a network can give what is asked of it.
pub(crate) fn check_request(state: &State, request: &NetworkRequest) -> Result<()> {
    request.aliases.iter().try_for_each(|alias| check_reserved("network alias", alias))?;
    let network = state.network(&request.network)?;
    // An address that its own container holds is no clash.
    let own = |owner: Option<&str>| owner.and_then(|owner| state.containers.get(owner)).is_some_and(|c| c.asks_for(request));
    if let Some(ip) = request.ip.filter(|ip| !own(network.leases.pool.owner(*ip))) {
        network.check(ip, |id| state.name_of(id))?;
    }
    let owner6 = |ip6| network.leases.pool6.as_ref().and_then(|pool| pool.owner(ip6));
    if let Some(ip6) = request.ip6.filter(|ip6| !own(owner6(*ip6))) {
        network.check6(ip6, |id| state.name_of(id))?;
    }
    if let Some(mac) = request.mac.filter(|mac| mac.is_group() || mac.is_zero()) {
        return Err(Error::invalid(format!("{mac} cannot be the address of an interface")).hint("the first byte of a MAC must be even"));
    }
    request.mtu.map_or(Ok(()), |mtu| check_mtu(&network.record, mtu))
}

impl Container {
    fn asks_for(&self, request: &NetworkRequest) -> bool {
        let holds = |lease: &Attachment| {
            let same = request.ip.is_none_or(|ip| lease.ip == Some(ip));
            let same6 = request.ip6.is_none_or(|ip6| lease.ipv6.is_some_and(|ipv6| ipv6.ip == ip6));
            lease.network == request.network && same && same6
        };
        self.leases.iter().any(holds) && self.record.spec.network.networks.contains(request)
    }
}

fn check_joined(state: &State, word: &str) -> Result<()> {
    let joined = state.find(word)?;
    if joined.runs() {
        return Ok(());
    }
    Err(Error::conflict(format!("container `{}` is not running, so its network cannot be joined", joined.name()))
        .hint(format!("start it first: netloom start {}", joined.name())))
}

/// Refuses host ports that a container holds, or that are asked for twice.
pub(crate) fn check_publications(state: &State, publications: &[Publication], id: Option<&str>) -> Result<()> {
    let mut wanted: BTreeMap<(u16, Protocol), Vec<&Publication>> = BTreeMap::new();
    for one in publications.iter().filter(|publication| publication.host_port != 0) {
        let same_port = wanted.entry((one.host_port, one.protocol)).or_default();
        if same_port.iter().any(|other| overlap(one.host_ip, other.host_ip)) {
            return Err(Error::invalid(format!("host port {} is published twice", text(one))).hint("give each -p a host port of its own"));
        }
        same_port.push(one);
    }
    let held = |listener: &Listener| {
        let mut same_port = wanted.get(&(listener.host_port, listener.protocol))?.iter();
        same_port.find(|one| overlap(one.host_ip, Some(listener.host_ip)))
    };
    for holder in state.containers.values().filter(|other| Some(other.id()) != id) {
        if let Some(one) = holder.listeners.iter().find_map(|listening| held(&listening.listener)) {
            return Err(Error::conflict(format!("host port {} is taken", text(one)))
                .hint(format!("container `{}` publishes it; choose another, or take it back: netloom publish rm", holder.name())));
        }
    }
    Ok(())
}

/// Whether sockets at both cannot have one port. No address is every address of both families.
fn overlap(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return true };
    a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()))
}

/// A host port as messages name it.
pub(crate) fn text(publication: &Publication) -> String {
    let protocol = match publication.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    match publication.host_ip {
        None => format!("{}/{protocol}", publication.host_port),
        Some(IpAddr::V4(ip)) => format!("{ip}:{}/{protocol}", publication.host_port),
        Some(IpAddr::V6(ip)) => format!("[{ip}]:{}/{protocol}", publication.host_port),
    }
}
