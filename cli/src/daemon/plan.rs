//! What a container's networks come to: default routes, resolvers, /etc/hosts, and whether it can be reached from outside. A start
//! makes it so, and a running container whose networks have changed follows.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use netloom_runtime::{
    protocol::Request,
    spec::{Attachment, HostAddress, NetworkMode, Plan, Publication},
};

use super::{
    Daemon,
    container::Container,
    error::{Error, Result},
    state::State,
};

/// How long a supervisor may take to follow.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a container with these attachments, in the order of its networks, is to have.
pub(crate) fn plan(state: &State, container: &Container, mut attachments: Vec<Attachment>) -> Plan {
    set_default_routes(state, &mut attachments);
    let network = &container.record.spec.network;
    let joined = match &network.mode {
        NetworkMode::Container { container } => state.find(container).ok(),
        _ => None,
    };
    let join_pid = joined.and_then(|joined| joined.status.pid);
    // Who shares a network shares its names: those of the joined container come first.
    let names = |joined: &Container| {
        let plan = plan(state, joined, joined.leases.clone());
        (plan.nameservers, plan.search, plan.hosts)
    };
    let (mut nameservers, mut search, mut hosts) = joined.map(names).unwrap_or_default();
    if !network.dns.is_empty() {
        nameservers.clone_from(&network.dns);
    } else if joined.is_none() {
        // That of a network without a way out knows no other names than its own.
        let by_default = attachments.iter().filter(|attachment| attachment.default_route);
        nameservers.extend(by_default.filter_map(|attachment| attachment.gateway).map(IpAddr::V4));
    }
    if network.dns_search.iter().any(|domain| domain == ".") {
        search.clear();
    }
    search.extend(network.dns_search.iter().cloned());
    hosts.extend(attachments.iter().flat_map(Attachment::addresses).map(|(ip, _)| (ip, vec![container.hostname().to_owned()])));
    let gateways = gateways(state, container, &attachments);
    for (name, address) in &network.add_host {
        let ips = match address {
            HostAddress::Ip(ip) => std::slice::from_ref(ip),
            HostAddress::Gateway => gateways.as_slice(),
        };
        hosts.extend(ips.iter().map(|ip| (*ip, vec![name.clone()])));
    }
    let publishes = attachments.iter().any(|attachment| state.publishes_on(&attachment.network));
    Plan { attachments, join_pid, nameservers, search, hosts, publishes }
}

/// Where the host is for a container with these attachments, whose default routes are set.
fn gateways(state: &State, container: &Container, attachments: &[Attachment]) -> Vec<IpAddr> {
    match &container.record.spec.network.mode {
        NetworkMode::Host => vec![Ipv4Addr::LOCALHOST.into()],
        NetworkMode::Container { container } => {
            let of_joined = |joined: &Container| {
                let mut attachments = joined.leases.clone();
                set_default_routes(state, &mut attachments);
                gateways(state, joined, &attachments)
            };
            state.find(container).map(of_joined).unwrap_or_default()
        }
        _ => attachments.iter().flat_map(Attachment::gateways).collect(),
    }
}

/// The default routes go by the first network that leads out, those of IPv4 and of IPv6 each; where none does, by the first with a gateway.
pub(crate) fn set_default_routes(state: &State, attachments: &mut [Attachment]) {
    let is_internal = |attachment: &Attachment| state.network(&attachment.network).is_ok_and(|network| network.record.internal);
    let best = |attachments: &[Attachment], has_gateway: fn(&Attachment) -> bool| {
        let candidates = attachments.iter().enumerate().filter(|(_, attachment)| has_gateway(attachment));
        candidates.min_by_key(|(place, attachment)| (is_internal(attachment), *place)).map(|(place, _)| place)
    };
    let ipv4 = best(attachments, |attachment| attachment.ip.and(attachment.gateway).is_some());
    let ipv6 = best(attachments, |attachment| attachment.ipv6.is_some_and(|ipv6| ipv6.gateway.is_some()));
    for (place, attachment) in attachments.iter_mut().enumerate() {
        attachment.default_route = ipv4 == Some(place);
        if let Some(of) = &mut attachment.ipv6 {
            of.default_route = ipv6 == Some(place);
        }
    }
}

impl Daemon {
    /// Has a running container, and those that share its network, become what its networks now come to. One change after the other, each
    /// by what is known then: so the last one stands.
    pub(crate) async fn follow(&self, id: &str) -> Result<()> {
        let turn = self.turn(id)?;
        let _turn = turn.lock().await;
        self.follow_alone(id).await?;
        let sharers = sharers(&self.state(), id);
        for sharer in sharers {
            if let Err(error) = self.follow_alone(&sharer).await {
                tracing::error!(id = sharer, error = error.message, "a container has the names of networks that it shared");
            }
        }
        check_listeners(&self.state(), id)
    }

    async fn follow_alone(&self, id: &str) -> Result<()> {
        let plan = {
            let state = self.state();
            let container = state.by_id(id)?;
            if !container.runs() {
                return Ok(());
            }
            // Not what is leased but still on its way.
            let attached = container.leases.iter().filter(|lease| container.port_on(&lease.network).is_some());
            plan(&state, container, attached.cloned().collect())
        };
        let followed = self.request(id, Request::Follow { plan }, PATIENCE).await;
        // One that has ended meanwhile starts with it.
        followed.or_else(|error| if self.state().by_id(id)?.runs() { Err(error) } else { Ok(()) })
    }
}

/// The running containers in the network of container `id`, and in theirs.
fn sharers(state: &State, id: &str) -> Vec<String> {
    let shares = |container: &&Container| match &container.record.spec.network.mode {
        NetworkMode::Container { container: joined } => joined == id && container.runs(),
        _ => false,
    };
    let direct = state.containers.values().filter(shares).map(|container| container.record.id.clone());
    direct.flat_map(|sharer| std::iter::once(sharer.clone()).chain(sharers(state, &sharer))).collect()
}

/// Whether the data plane took the listeners of all publications that have somewhere to lead.
fn check_listeners(state: &State, id: &str) -> Result<()> {
    let container = state.by_id(id)?;
    let listens = |publication: &Publication| container.listeners.iter().any(|listening| listening.listener.publication == *publication);
    if !container.runs() || container.publishing_port(state).is_none() || container.record.spec.network.publish.iter().all(listens) {
        return Ok(());
    }
    Err(Error::failed("the data plane did not take the listeners of published ports").hint("see the daemon's log"))
}
