//! Everything that the daemon knows, as one value.

use std::collections::{BTreeMap, BTreeSet};

use netloom_runtime::fabric::NetworkId;

use super::{
    container::Container,
    error::{Error, Result},
    holders::Holder,
    lookup::{self, short},
    network::Network,
};

/// The state of one instance.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// By ID.
    pub containers: BTreeMap<String, Container>,
    /// By name.
    pub networks: BTreeMap<String, Network>,
    /// Interfaces in namespaces that are not ours, by the ID of their holder.
    pub holders: BTreeMap<String, Holder>,
    /// Containers that are removed but for their supervisor, which still has to end; by ID.
    pub leaving: BTreeMap<String, Container>,
    /// Containers whose supervisor a predecessor left, and holders, that have not come back yet.
    pub expected: BTreeSet<String>,
}

impl State {
    /// The container that `word` names.
    pub(crate) fn find(&self, word: &str) -> Result<&Container> {
        let id = lookup::container(word, self.containers.values().map(|container| (container.id(), container.name())))?;
        self.by_id(id)
    }

    pub(crate) fn by_id(&self, id: &str) -> Result<&Container> {
        self.containers.get(id).ok_or_else(|| Error::missing(format!("no such container: `{}`", short(id))))
    }

    pub(crate) fn by_id_mut(&mut self, id: &str) -> Result<&mut Container> {
        self.containers.get_mut(id).ok_or_else(|| Error::missing(format!("no such container: `{}`", short(id))))
    }

    pub(crate) fn network(&self, name: &str) -> Result<&Network> {
        self.networks.get(name).ok_or_else(|| lookup::no_such("network", name, self.networks.keys().map(String::as_str)))
    }

    /// Whether ports can be published on a network, which then leads out as well.
    pub(crate) fn publishes_on(&self, network: &str) -> bool {
        self.network(network).is_ok_and(|network| !network.record.internal && network.record.gateway.is_some())
    }

    pub(crate) fn network_mut(&mut self, name: &str) -> Result<&mut Network> {
        self.network(name)?;
        self.networks.get_mut(name).ok_or_else(|| Error::missing(format!("no such network: `{name}`")))
    }

    /// All the networks that a container has ports on.
    pub(crate) fn asks(&self, container: &Container) -> Vec<NetworkId> {
        container.ports.iter().filter_map(|port| self.networks.get(&port.attachment.network)).map(|network| network.plane).collect()
    }

    /// Whether nothing runs, starts or ends. Supervisors of stopped containers may live: they find the next daemon by themselves.
    pub(crate) fn is_idle(&self) -> bool {
        let rests = |container: &Container| !container.is_active() && container.leases.is_empty() && !container.is_asked();
        self.holders.is_empty() && self.leaving.is_empty() && self.expected.is_empty() && self.containers.values().all(rests)
    }
}
