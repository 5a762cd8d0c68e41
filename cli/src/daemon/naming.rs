//! The names of each network, as its gateway answers them: whole tables, made anew at every change.

use std::net::IpAddr;

use netloom_runtime::fabric::Names;

use super::{Daemon, state::State};

impl Daemon {
    /// Tells the data plane who is on `networks` now.
    pub(crate) fn refresh_names(&self, state: &State, networks: &[String]) {
        for name in networks {
            let Some(network) = state.networks.get(name) else { continue };
            if let Err(error) = self.plane.set_names(network.plane, names_on(state, name)) {
                tracing::error!(network = name, %error, "names were not told");
            }
        }
    }

    /// Tells the data plane which networks' names a container may ask for, on each of its ports.
    pub(crate) fn refresh_asks(&self, state: &State, id: &str) {
        let Some(container) = state.containers.get(id) else { return };
        let asks = state.asks(container);
        for port in &container.ports {
            let Some(network) = state.networks.get(&port.attachment.network) else { continue };
            if let Err(error) = self.plane.set_asks(network.plane, port.port, asks.clone()) {
                tracing::error!(id, %error, "a port may ask for the wrong networks' names");
            }
        }
    }
}

/// The names on one network. All containers' own names come before any alias: an address is called by the first name it has, and
/// several containers may share an alias.
fn names_on(state: &State, network: &str) -> Names {
    let mut hosts: Vec<(String, Vec<IpAddr>)> = Vec::new();
    let mut place = std::collections::HashMap::new();
    let all = || state.containers.values().filter_map(|container| Some((container.port_on(network)?, container.names_on(network))));
    let own = all().map(|(port, names)| (port, names.into_iter().take(1).collect::<Vec<_>>()));
    let others = all().map(|(port, names)| (port, names.into_iter().skip(1).collect()));
    for (port, names) in own.chain(others) {
        let addresses: Vec<IpAddr> = port.attachment.addresses().map(|(ip, _)| ip).collect();
        for name in names {
            let name = name.to_ascii_lowercase();
            let index = *place.entry(name.clone()).or_insert_with(|| {
                hosts.push((name, Vec::new()));
                hosts.len() - 1
            });
            if let Some((_, known)) = hosts.get_mut(index) {
                let new: Vec<_> = addresses.iter().filter(|address| !known.contains(address)).copied().collect();
                known.extend(new);
            }
        }
    }
    Names { hosts }
}
