//! A container's place on its networks: its addresses for a start, ports and listeners on the data plane, connect and disconnect.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::OwnedFd,
    time::Duration,
};

use netloom_runtime::{
    fabric::ListenerConfig,
    protocol::{Listener, Request},
    spec::{Attachment, NetworkMode, NetworkRequest, Plan},
};
use netloom_switch::subnet;

use super::{
    Daemon,
    container::{AttachedPort, Container, Listening},
    error::{Error, Result},
    plan::plan,
    state::State,
    tenants::{Plug, Tenant, Wanted},
};
use crate::api::{ConnectNetwork, DisconnectNetwork, Disconnected};

/// How long a supervisor may take for a new interface.
const CONNECT_PATIENCE: Duration = Duration::from_secs(20);

impl Daemon {
    /// Decides one start of a container: its addresses are leased when this returns.
    pub(crate) fn prepare(&self, id: &str) -> Result<Plan> {
        let mut guard = self.state();
        let state = &mut *guard;
        self.check_startable(state, state.by_id(id)?)?;
        let requests = state.by_id(id)?.networks_wanted();
        let before = std::mem::take(&mut state.by_id_mut(id)?.leases);
        let mut leases = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            let kept = before.iter().find(|lease| lease.network == request.network);
            let kept = kept.map_or_else(|| Kept::last(state, id, &request.network), Kept::by);
            let wanted = Wanted { request, kept, ifname: format!("eth{index}") };
            match self.lease(state, id, wanted) {
                Ok(attachment) => leases.push(attachment),
                Err(error) => {
                    leases.iter().chain(&before).for_each(|lease| self.release(state, id, lease));
                    return Err(error);
                }
            }
        }
        for lease in before.iter().filter(|lease| !leases.iter().any(|new| new.network == lease.network)) {
            self.release(state, id, lease);
        }
        let container = state.by_id_mut(id)?;
        container.leases.clone_from(&leases);
        container.remember_addresses();
        let plan = plan(state, state.by_id(id)?, leases);
        tracing::info!(id, attachments = ?plan.attachments, join_pid = plan.join_pid, "a start is planned");
        Ok(plan)
    }

    /// Puts one port of a container on its switch.
    pub(crate) fn attach_port(&self, state: &mut State, id: &str, attachment: Attachment, link: OwnedFd) -> Result<()> {
        self.detach_ports(state, id, |network| network == attachment.network);
        let container = state.by_id(id)?;
        let request = container.record.spec.network.networks.iter().find(|request| request.network == attachment.network);
        let (name, isolated) = (container.record.name.clone(), request.is_some_and(|request| request.isolated));
        let (asks, host_loopback) = (state.asks(container), container.record.spec.network.host_loopback);
        let port = self.plug(state, Plug { id, name: &name, attachment: &attachment, link, asks, host_loopback, isolated })?;
        let container = state.by_id_mut(id)?;
        if !container.leases.iter().any(|lease| lease.network == attachment.network) {
            container.leases.push(attachment.clone());
        }
        let name = attachment.network.clone();
        container.ports.push(AttachedPort { attachment, port });
        self.allow_leased(state, &name, id);
        Ok(())
    }

    /// Lets a host socket lead to the port that the container publishes on.
    pub(crate) fn attach_listener(&self, state: &mut State, id: &str, listener: Listener, socket: OwnedFd) -> Result<()> {
        let container = state.by_id(id)?;
        let Some(target) = container.publishing_port(state) else {
            return Err(nowhere_to_publish(container));
        };
        // A client of IPv6 meets the container's IPv6, where it has one; a container without stands behind the gateway, as a proxy.
        let ip6 = target.attachment.ipv6.filter(|_| listener.host_ip.is_ipv6()).map(|ipv6| IpAddr::V6(ipv6.ip));
        let Some(ip) = ip6.or_else(|| target.attachment.ip.map(IpAddr::V4)) else {
            return Err(Error::conflict(format!("container `{}` has no address that ports can be published for", container.name())));
        };
        let (network, port) = (target.attachment.network.clone(), target.port);
        match container.listeners.iter().find(|listening| listening.listener == listener) {
            Some(listening) if (&listening.network, listening.port) == (&network, port) => return Ok(()),
            Some(_) => self.unlisten(state, id, |other| *other == listener),
            None => {}
        }
        let plane = state.network(&network)?.plane;
        let config = ListenerConfig { socket, protocol: listener.protocol, to: (ip, listener.container_port).into() };
        let listening = self.plane.listen(plane, port, config)?;
        state.by_id_mut(id)?.listeners.push(Listening { listener, network, port, id: listening });
        Ok(())
    }

    pub(crate) fn detach_ports(&self, state: &mut State, id: &str, which: impl Fn(&str) -> bool) {
        let Ok(container) = state.by_id_mut(id) else { return };
        let name = container.record.name.clone();
        let (gone, stay) = std::mem::take(&mut container.ports).into_iter().partition(|port| which(&port.attachment.network));
        container.ports = stay;
        // The listeners of a port go with it.
        container.listeners.retain(|listening| !which(&listening.network));
        let gone: Vec<AttachedPort> = gone;
        for port in &gone {
            self.unplug(state, Tenant { id, name: &name, lease: &port.attachment, port: Some(port.port) });
        }
    }

    pub(crate) fn unlisten(&self, state: &mut State, id: &str, which: impl Fn(&Listener) -> bool) {
        let Ok(container) = state.by_id_mut(id) else { return };
        // In place: there may be thousands, of which one goes at a time.
        let gone: Vec<_> = container.listeners.extract_if(.., |listening| which(&listening.listener)).collect();
        for listening in gone {
            if let Ok(network) = state.network(&listening.network)
                && let Err(error) = self.plane.unlisten(network.plane, listening.port, listening.id)
            {
                tracing::error!(id, %error, "a listener was not closed");
            }
        }
    }

    /// `network connect`
    pub(crate) async fn connect(&self, network: &str, request: ConnectNetwork) -> Result<()> {
        let wanted = NetworkRequest {
            network: network.to_owned(),
            ip: request.ip,
            ip6: request.ip6,
            aliases: request.aliases,
            ..NetworkRequest::default()
        };
        let (id, attachment) = {
            let mut guard = self.state();
            let state = &mut *guard;
            let container = state.find(&request.container)?;
            self.check_connectable(state, container, &wanted)?;
            let id = container.record.id.clone();
            let attachment = if container.runs() {
                let wanted = Wanted { request: &wanted, kept: Kept::default(), ifname: free_ifname(container) };
                let attachment = self.lease(state, &id, wanted)?;
                state.by_id_mut(&id)?.leases.push(attachment.clone());
                attachment
            } else {
                // With the check under one lock, so that a second connect finds it.
                return self.connected(state, &id, wanted);
            };
            (id, attachment)
        };
        let connected = self.request(&id, Request::Connect { attachment }, CONNECT_PATIENCE).await;
        if let Err(error) = connected.and_then(|()| self.check_attached(&id, network)) {
            self.undo_connect(&id, network).await;
            return Err(error);
        }
        if let Err(error) = self.follow(&id).await {
            self.undo_connect(&id, network).await;
            self.follow(&id).await.ok();
            return Err(error);
        }
        self.connected(&mut self.state(), &id, wanted)
    }

    /// An interface without a port would be a dead end.
    async fn undo_connect(&self, id: &str, network: &str) {
        self.request(id, Request::Disconnect { network: network.to_owned() }, CONNECT_PATIENCE).await.ok();
        self.forget_network(id, network);
    }

    /// Writes down that a container is on one more network.
    fn connected(&self, state: &mut State, id: &str, wanted: NetworkRequest) -> Result<()> {
        let network = wanted.network.clone();
        let container = state.by_id_mut(id)?;
        container.record.spec.network.networks.push(wanted);
        container.remember_addresses();
        self.write_record(container)?;
        self.write_status(container)?;
        self.refresh_names(state, &[network]);
        Ok(())
    }

    /// `network disconnect`
    pub(crate) async fn disconnect(&self, network: &str, request: DisconnectNetwork) -> Result<Disconnected> {
        let (id, runs) = {
            let state = self.state();
            state.network(network)?;
            let container = state.find(&request.container)?;
            if !container.is_on(network) {
                let name = container.name();
                return Err(Error::conflict(format!("container `{name}` is not on network `{network}`"))
                    .hint(format!("`netloom inspect {name}` tells its networks")));
            }
            (container.record.id.clone(), container.runs())
        };
        if runs {
            self.request(&id, Request::Disconnect { network: network.to_owned() }, CONNECT_PATIENCE).await?;
        }
        self.forget_network(&id, network);
        {
            let mut state = self.state();
            state.by_id_mut(&id)?.record.spec.network.networks.retain(|request| request.network != network);
            self.write_record(state.by_id(&id)?)?;
        }
        self.follow(&id).await?;
        let state = self.state();
        let container = state.by_id(&id)?;
        let note = (!container.record.spec.network.publish.is_empty() && !can_publish(&state, container)).then(|| silent_note(container));
        Ok(Disconnected { notes: note.into_iter().collect() })
    }

    fn check_attached(&self, id: &str, network: &str) -> Result<()> {
        match self.state().by_id(id)?.port_on(network) {
            Some(_) => Ok(()),
            None => Err(Error::failed(format!("the port on network `{network}` was not attached")).hint("see the daemon's log")),
        }
    }

    fn forget_network(&self, id: &str, network: &str) {
        let mut guard = self.state();
        let state = &mut *guard;
        self.detach_ports(state, id, |name| name == network);
        let Ok(container) = state.by_id_mut(id) else { return };
        let (gone, stay) = std::mem::take(&mut container.leases).into_iter().partition(|lease| lease.network == network);
        container.leases = stay;
        let gone: Vec<Attachment> = gone;
        gone.iter().for_each(|lease| self.release(state, id, lease));
        self.refresh_asks(state, id);
        self.refresh_names(state, &[network.to_owned()]);
    }
}

impl Container {
    /// The networks it asks for, eth0's first; none but in bridge mode.
    pub(crate) fn networks_wanted(&self) -> Vec<NetworkRequest> {
        match self.record.spec.network.mode {
            NetworkMode::Bridge => self.record.spec.network.networks.clone(),
            _ => Vec::new(),
        }
    }

    /// So that its next start gives it the same again.
    fn remember_addresses(&mut self) {
        let (leases, status) = (&self.leases, &mut self.status);
        status.addresses.extend(leases.iter().filter_map(|lease| Some((lease.network.clone(), lease.ip?))));
        status.addresses6.extend(leases.iter().filter_map(|lease| Some((lease.network.clone(), lease.ipv6?.ip))));
    }

    /// The port that publications lead to: that of the network by which the default route goes, if it leads out.
    pub(crate) fn publishing_port(&self, state: &State) -> Option<&AttachedPort> {
        let mut ports = self.leases.iter().filter_map(|lease| self.port_on(&lease.network));
        ports.find(|port| state.publishes_on(&port.attachment.network))
    }
}

/// Whether ports can be published on one of the networks that a container asks for.
pub(crate) fn can_publish(state: &State, container: &Container) -> bool {
    container.networks_wanted().iter().any(|wanted| state.publishes_on(&wanted.network))
}

/// What is to be said of publications that have nowhere to lead.
fn silent_note(container: &Container) -> String {
    let name = container.name();
    format!("the published ports of `{name}` lead nowhere, and listen again once it is connected to a network that is not internal")
}

/// Why a container none of whose networks publishes can have no ports published.
pub(crate) fn nowhere_to_publish(container: &Container) -> Error {
    Error::conflict(format!("container `{}` is on no network that ports can be published on", container.name()))
        .hint("connect it to one that is not internal: netloom network connect")
}

/// Refuses networks that share addresses: a container could not tell which way an address is.
pub(crate) fn check_overlap(state: &State, networks: &[String]) -> Result<()> {
    for (index, one) in networks.iter().enumerate() {
        for other in networks.iter().skip(index + 1) {
            let (a, b) = (state.network(one)?.record.subnet, state.network(other)?.record.subnet);
            if one == other {
                return Err(Error::invalid(format!("network `{one}` is named twice")).hint("a container has one interface on a network"));
            }
            let (a6, b6) = (state.network(one)?.record.ipv6, state.network(other)?.record.ipv6);
            if let Some((a, b)) = a6.zip(b6).map(|(a, b)| (a.subnet, b.subnet)).filter(|(a, b)| a.contains(b) || b.contains(a)) {
                return Err(Error::conflict(format!("networks `{one}` ({a}) and `{other}` ({b}) overlap"))
                    .hint("one container cannot be on both: it could not tell which way an address is"));
            }
            if subnet::overlaps(&a, &b) {
                return Err(Error::conflict(format!("networks `{one}` ({a}) and `{other}` ({b}) overlap"))
                    .hint("one container cannot be on both: it could not tell which way an address is"));
            }
        }
    }
    Ok(())
}

fn free_ifname(container: &Container) -> String {
    let taken = |name: &String| container.leases.iter().any(|lease| lease.ifname == *name);
    (0u32..).map(|index| format!("eth{index}")).find(|name| !taken(name)).unwrap_or_default()
}

/// Addresses that a tenant is to have again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kept {
    pub ip: Option<Ipv4Addr>,
    pub ip6: Option<Ipv6Addr>,
}

impl Kept {
    /// Those that it has.
    fn by(lease: &Attachment) -> Self {
        Self { ip: lease.ip, ip6: lease.ipv6.map(|ipv6| ipv6.ip) }
    }

    /// Those that it had when it last ran, if they are free.
    fn last(state: &State, id: &str, network: &str) -> Self {
        let (Ok(container), Ok(of)) = (state.by_id(id), state.network(network)) else { return Self::default() };
        let (ip, ip6) = (container.status.addresses.get(network), container.status.addresses6.get(network));
        Self { ip: ip.copied().filter(|ip| of.is_free(*ip)), ip6: ip6.copied().filter(|ip6| of.is_free6(*ip6)) }
    }
}
