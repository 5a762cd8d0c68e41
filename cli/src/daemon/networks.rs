//! Making, changing and removing networks.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netloom_runtime::fabric::PortOptions;
use netloom_switch::{
    PortId,
    ipam::{self, IpamError, Pool},
    subnet,
};

use super::{
    Daemon,
    create::new_id,
    error::{Error, Result},
    events::now,
    lookup::{check_name, no_such},
    network::{BRIDGE, Ipv6Record, Leases, MTU, MTU_RANGE, Network, NetworkRecord, Options, file_of, unknown_key},
    state::State,
    store,
    tenants::Tenant,
};
use crate::api::{self, CreateNetwork, GatewayChoice, NetworkMember, Settings};

/// The version of a network's file.
const RECORD_VERSION: u32 = 1;

/// Names that mean something else where a network's name stands.
const RESERVED: [&str; 4] = [BRIDGE, "host", "none", "container"];

impl Daemon {
    /// `network create`. `routes` are the host's, which a subnet of our choice avoids.
    pub(crate) fn create_network(&self, request: CreateNetwork, routes: &[IpNet]) -> Result<api::CreatedNetwork> {
        let mut state = self.state();
        check_name("network", &request.name)?;
        if RESERVED.contains(&request.name.as_str()) {
            return Err(Error::conflict(format!("the network name `{}` is reserved", request.name)).hint("choose another name"));
        }
        if state.networks.contains_key(&request.name) {
            return Err(Error::conflict(format!("there is a network `{}` already", request.name))
                .hint("choose another name, or change that one: netloom network set"));
        }
        let record = new_record(&state, request, routes, &self.paths.root.to_string_lossy())?;
        let name = record.name.clone();
        let notes = overlaps(&state, record.subnet, routes);
        let leases = record.no_leases()?;
        let network = self.add_network(&mut state, record, leases)?;
        let kept = network.keep(&self.paths.networks());
        if let Err(error) = kept {
            self.drop_network(&mut state, &name)?;
            return Err(error);
        }
        let network = state.network(&name)?;
        self.events.tell("network", "create", &network.record.id, &name, &[("subnet", network.record.subnet.to_string())]);
        Ok(api::CreatedNetwork { network: view(&state, network), notes })
    }

    /// Puts a network on the data plane.
    pub(crate) fn add_network<'a>(&self, state: &'a mut State, record: NetworkRecord, leases: Leases) -> Result<&'a Network> {
        let plane = self.plane.add_network(record.config())?;
        let name = record.name.clone();
        state.networks.insert(name.clone(), Network { record, plane, leases });
        state.network(&name)
    }

    /// The network that always exists, with a subnet that overlaps nothing.
    pub(crate) fn bridge_record(state: &State, routes: &[IpNet]) -> Result<NetworkRecord> {
        new_record(state, CreateNetwork { name: BRIDGE.to_owned(), ..CreateNetwork::default() }, routes, "")
    }

    pub(crate) fn list_networks(&self) -> Vec<api::Network> {
        let state = self.state();
        state.networks.values().map(|network| view(&state, network)).collect()
    }

    pub(crate) fn inspect_network(&self, name: &str) -> Result<api::Network> {
        let state = self.state();
        find(&state, name).map(|network| view(&state, network))
    }

    pub(crate) fn remove_network(&self, name: &str) -> Result<()> {
        let mut state = self.state();
        let name = find(&state, name)?.record.name.clone();
        if name == BRIDGE {
            return Err(Error::conflict("the network `bridge` always exists").hint("leave it: it costs nothing where nobody uses it"));
        }
        let members: Vec<_> = members(&state, &name).collect();
        if !members.is_empty() {
            return Err(Error::conflict(format!("network `{name}` is in use by {}", members.join(", ")))
                .hint("stop these containers, or take them off it: netloom network disconnect, netloom network detach"));
        }
        let id = state.network(&name)?.record.id.clone();
        self.drop_network(&mut state, &name)?;
        self.events.tell("network", "destroy", &id, &name, &[]);
        Ok(())
    }

    pub(crate) fn prune_networks(&self) -> Vec<String> {
        let unused: Vec<_> = {
            let state = self.state();
            // One that a stopped container asks for is in use, too.
            let wanted = |name: &str| state.containers.values().any(|container| container.is_on(name));
            state.networks.keys().filter(|name| *name != BRIDGE && !wanted(name)).cloned().collect()
        };
        unused.into_iter().filter(|name| self.remove_network(name).is_ok()).collect()
    }

    /// `network set`: all of the settings or none.
    pub(crate) fn set_network(&self, name: &str, settings: &Settings) -> Result<api::Network> {
        let mut state = self.state();
        let name = find(&state, name)?.record.name.clone();
        let network = state.network_mut(&name)?;
        let options = network.record.options.with(settings)?;
        let before = std::mem::replace(&mut network.record.options, options);
        let told = self.plane.configure(network.plane, network.record.config()).map_err(Error::from);
        if let Err(error) = told.and_then(|()| network.keep(&self.paths.networks())) {
            network.record.options = before;
            return Err(error);
        }
        let attributes: Vec<_> = settings.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        self.events.tell("network", "set", &network.record.id, &name, &attributes);
        let network = state.network(&name)?;
        Ok(view(&state, network))
    }

    /// `network port set`: it holds for its tenant's place on the network, so it outlives its next starts and this daemon.
    pub(crate) fn set_port(&self, name: &str, port: u16, settings: &Settings) -> Result<()> {
        let mut guard = self.state();
        let state = &mut *guard;
        let network = find(state, name)?;
        let (name, plane, network_id) = (network.record.name.clone(), network.plane, network.record.id.clone());
        if port == PortId::GATEWAY.0 {
            return Err(Error::invalid("port 0 is the gateway's and follows its network's settings").hint("netloom network set"));
        }
        let missing = || Error::missing(format!("network `{name}` has no port {port}")).hint(format!("netloom network port ls {name}"));
        let tenant = state.tenants_on(&name).find(|tenant| tenant.port == Some(PortId(port))).ok_or_else(missing)?;
        let (id, tenant) = (tenant.id.to_owned(), tenant.name.to_owned());
        let request = state.request_mut(&id, &name).ok_or_else(missing)?;
        let before = request.isolated;
        let options = port_options(PortOptions { isolated: before }, settings)?;
        request.isolated = options.isolated;
        let kept = self.keep_request(state, &id).and_then(|()| Ok(self.plane.set_port(plane, PortId(port), options)?));
        if let Err(error) = kept {
            if let Some(request) = state.request_mut(&id, &name) {
                request.isolated = before;
            }
            return Err(error);
        }
        let mut attributes = vec![("container", tenant), ("port_id", port.to_string())];
        attributes.extend(settings.iter().map(|(key, value)| (key.as_str(), value.clone())));
        self.events.tell("network", "set", &network_id, &name, &attributes);
        Ok(())
    }

    fn drop_network(&self, state: &mut State, name: &str) -> Result<()> {
        self.plane.remove_network(state.network(name)?.plane)?;
        state.networks.remove(name);
        store::remove_file(&file_of(&self.paths.networks(), name))?;
        store::remove_file(&file_of(&self.paths.leases(), name)).map_err(Error::from)
    }
}

/// A network by its name or its ID.
fn find<'a>(state: &'a State, word: &str) -> Result<&'a Network> {
    if let Some(network) = state.networks.get(word) {
        return Ok(network);
    }
    let is_prefix = word.len() >= 4 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut found = state.networks.values().filter(|network| is_prefix && network.record.id.starts_with(word));
    match (found.next(), found.next()) {
        (Some(network), None) => Ok(network),
        _ => Err(no_such("network", word, state.networks.keys().map(String::as_str))),
    }
}

fn members<'a>(state: &'a State, name: &'a str) -> impl Iterator<Item = &'a str> {
    state.tenants_on(name).map(|tenant| tenant.name)
}

/// `instance` is what a prefix of IPv6 follows from, beside the network's name.
fn new_record(state: &State, request: CreateNetwork, routes: &[IpNet], instance: &str) -> Result<NetworkRecord> {
    if request.internal && request.host_loopback {
        return Err(Error::invalid("--internal and --host-loopback exclude each other")
            .hint("nothing leads out of an internal network, to this machine's loopback neither"));
    }
    let chosen = request.subnet.is_none();
    let subnet = match request.subnet {
        Some(subnet) => check_subnet(subnet)?,
        None => choose(state, routes)?,
    };
    let gateway = match request.gateway {
        GatewayChoice::First => ipam::GatewayChoice::First,
        GatewayChoice::None => ipam::GatewayChoice::None,
        GatewayChoice::Address(address) => ipam::GatewayChoice::At(address),
    };
    let pool = Pool::new(subnet, gateway, request.ip_range).map_err(|error| no_pool(&error, chosen))?;
    let ipv6 = new_ipv6(state, &request, instance)?;
    let record = NetworkRecord {
        version: RECORD_VERSION,
        id: new_id()?,
        name: request.name,
        subnet,
        chosen,
        gateway: pool.gateway(),
        ipv6,
        ip_range: request.ip_range.map(|range| range.trunc()),
        internal: request.internal,
        isolated: request.isolated,
        mtu: request.mtu.unwrap_or(MTU),
        host_loopback: request.host_loopback,
        labels: request.labels,
        options: Options::default().with(&request.options)?,
        created: now(),
    };
    check_mtu(&record, record.mtu)?;
    Ok(record)
}

/// Why there can be no such subnet, which nobody may have asked for, gateway and range together.
fn no_pool(error: &IpamError, chosen: bool) -> Error {
    let hint = match error {
        IpamError::TooSmall { .. } => "give a larger subnet, or --gateway none",
        _ if chosen => "the subnet was chosen for it; say which one it is to be: --subnet",
        _ => "--gateway is an address and --ip-range a part of the network's subnet",
    };
    Error::invalid(error.to_string()).hint(hint)
}

/// Whether an interface on such a network can have this MTU.
pub(crate) fn check_mtu(record: &NetworkRecord, mtu: u16) -> Result<()> {
    if (record.mtu_least()..=*MTU_RANGE.end()).contains(&mtu) {
        return Ok(());
    }
    let what = if record.ipv6.is_some() { "no MTU for IPv6" } else { "no MTU" };
    Err(Error::invalid(format!("{mtu} is {what}")).hint(format!("from {} to {}", record.mtu_least(), MTU_RANGE.end())))
}

/// The IPv6 side of a network that asks for one.
fn new_ipv6(state: &State, request: &CreateNetwork, instance: &str) -> Result<Option<Ipv6Record>> {
    if !request.ipv6 && request.subnet6.is_none() && request.gateway6.is_none() && request.ip_range6.is_none() {
        return Ok(None);
    }
    let subnet = match request.subnet6 {
        Some(subnet) => check_subnet6(subnet)?,
        None => subnet::unique_local(instance, &request.name),
    };
    let gateway = match (request.gateway6, request.gateway) {
        (Some(address), GatewayChoice::None) => {
            return Err(Error::invalid(format!("{address} cannot be the gateway of a network without one"))
                .hint("--gateway none is about IPv4 and IPv6"));
        }
        (Some(address), _) => ipam::GatewayChoice::At(address),
        (None, GatewayChoice::None) => ipam::GatewayChoice::None,
        (None, _) => ipam::GatewayChoice::First,
    };
    let pool = Pool::new(subnet, gateway, request.ip_range6).map_err(|error| no_pool(&error, request.subnet6.is_none()))?;
    let overlaps = |other: &&Network| other.record.ipv6.is_some_and(|ipv6| ipv6.subnet == subnet) && request.subnet6.is_none();
    if let Some(other) = state.networks.values().find(overlaps) {
        return Err(Error::conflict(format!("{subnet} is the prefix of network `{}` already", other.record.name))
            .hint("name another with --subnet"));
    }
    Ok(Some(Ipv6Record { subnet: pool.subnet(), gateway: pool.gateway(), ip_range: request.ip_range6.map(|range| range.trunc()) }))
}

fn check_subnet6(subnet: Ipv6Net) -> Result<Ipv6Net> {
    let network = subnet.network();
    let reasons = [
        (subnet.prefix_len() < 16, "its prefix must have 16 bits or more"),
        (subnet.prefix_len() > 126, "it has too few addresses: a prefix has 126 bits or less"),
        (network.is_multicast(), "its addresses are those of groups (ff00::/8)"),
        (network.is_loopback() || network.is_unspecified(), "::/127 is every machine's own"),
        (network.is_unicast_link_local(), "fe80::/10 is on every link already"),
        (network.to_ipv4_mapped().is_some(), "its addresses stand for those of IPv4"),
    ];
    refuse_subnet(subnet, &reasons, "for example fd00:20::/64")?;
    if subnet != subnet.trunc() {
        return Err(Error::invalid(format!("{subnet} has bits beyond its prefix")).hint(format!("is it {}?", subnet.trunc())));
    }
    Ok(subnet)
}

fn check_subnet(subnet: Ipv4Net) -> Result<Ipv4Net> {
    let network = subnet.network();
    let reasons = [
        (network.is_multicast(), "its addresses are those of groups (224.0.0.0/4)"),
        (subnet.prefix_len() < 4, "its prefix must have 4 bits or more"),
        (subnet.prefix_len() > 30, "it has too few addresses: a prefix has 30 bits or less"),
        (network.is_loopback(), "127.0.0.0/8 is every machine's own loopback"),
        (network.is_broadcast(), "its address is that of everyone"),
        (network.is_unspecified(), "0.0.0.0 is no machine's address"),
    ];
    refuse_subnet(subnet, &reasons, "for example 10.20.0.0/24")?;
    if subnet != subnet.trunc() {
        return Err(Error::invalid(format!("{subnet} has bits beyond its prefix")).hint(format!("is it {}?", subnet.trunc())));
    }
    Ok(subnet)
}

/// Refuses a subnet for the first reason that holds.
fn refuse_subnet(subnet: impl std::fmt::Display, reasons: &[(bool, &str)], example: &str) -> Result<()> {
    match reasons.iter().find(|(holds, _)| *holds) {
        Some((_, why)) => Err(Error::invalid(format!("{subnet} cannot be the subnet of a network: {why}")).hint(example)),
        None => Ok(()),
    }
}

/// What a subnet takes the place of: other networks' subnets, and what the host has routes to, of which the widest are named.
fn overlaps(state: &State, subnet: Ipv4Net, routes: &[IpNet]) -> Vec<String> {
    let overlap = |other: &Ipv4Net| subnet.contains(other) || other.contains(&subnet);
    let networks = state.networks.values().map(|network| &network.record).filter(|record| overlap(&record.subnet));
    let networks = networks.map(|record| format!("network `{}` has {}, too: a container cannot be on both", record.name, record.subnet));
    let of_host: Vec<_> = of_ipv4(routes).filter(overlap).collect();
    let widest = of_host.iter().filter(|net| !of_host.iter().any(|other| other != *net && other.contains(*net)));
    let of_host = widest.map(|net| format!("the host has a route to {net}: no container reaches what of it is in {subnet}"));
    networks.chain(of_host).collect()
}

fn of_ipv4(routes: &[IpNet]) -> impl Iterator<Item = Ipv4Net> {
    routes.iter().filter_map(|route| if let IpNet::V4(net) = route { Some(*net) } else { None })
}

fn choose(state: &State, routes: &[IpNet]) -> Result<Ipv4Net> {
    let taken: Vec<_> = of_ipv4(routes).chain(state.networks.values().map(|network| network.record.subnet)).collect();
    subnet::choose(&taken)
        .ok_or_else(|| Error::conflict("no subnet is free: the host has routes to all of them").hint("name one with --subnet"))
}

/// As `network inspect` shows it.
fn view(state: &State, network: &Network) -> api::Network {
    let record = &network.record;
    let member = |tenant: Tenant<'_>| {
        let member = NetworkMember {
            name: tenant.name.to_owned(),
            ip_address: tenant.lease.ip,
            ip6_address: tenant.lease.ipv6.map(|ipv6| ipv6.ip),
            mac_address: tenant.lease.mac,
            port_id: tenant.port?.0,
        };
        Some((tenant.id.to_owned(), member))
    };
    api::Network {
        name: record.name.clone(),
        id: record.id.clone(),
        subnet: record.subnet.to_string(),
        gateway: record.gateway,
        subnet6: record.ipv6.map(|ipv6| ipv6.subnet.to_string()),
        gateway6: record.ipv6.and_then(|ipv6| ipv6.gateway),
        ip_range: record.ip_range,
        ip_range6: record.ipv6.and_then(|ipv6| ipv6.ip_range),
        internal: record.internal,
        isolated: record.isolated,
        mtu: record.mtu,
        backend: record.options.backend_name().to_owned(),
        host_loopback: record.host_loopback,
        options: record.options.view(),
        labels: record.labels.clone(),
        created: record.created.clone(),
        containers: state.tenants_on(&record.name).filter_map(member).collect(),
    }
}

/// What `network port set` can set.
const PORT_KEYS: [&str; 1] = ["isolated"];

/// The options of a port with `settings` put in; all or nothing.
fn port_options(mut options: PortOptions, settings: &Settings) -> Result<PortOptions> {
    if settings.is_empty() {
        return Err(Error::invalid("no setting was given").hint(format!("there are: {}", PORT_KEYS.join(", "))));
    }
    for (key, value) in settings {
        match (key.as_str(), value.as_str()) {
            ("isolated", "on") => options.isolated = true,
            ("isolated", "off") => options.isolated = false,
            ("isolated", _) => return Err(Error::invalid(format!("`{value}` is no value for `{key}`")).hint("on or off")),
            _ => return Err(unknown_key("a port", key, &PORT_KEYS)),
        }
    }
    Ok(options)
}
