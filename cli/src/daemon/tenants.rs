//! Whoever has a place on a network, containers and holders alike: addresses, MACs and ports are given and taken back here.

use std::{collections::HashMap, net::Ipv4Addr, os::fd::OwnedFd};

use netloom_runtime::{
    fabric::{NetworkId, PortConfig, PortOptions},
    spec::{Attachment, Ipv6Attachment, NetworkRequest},
};
use netloom_switch::{Mac, PortId};

use super::{
    Daemon,
    connect::Kept,
    error::{Error, Result},
    lookup::short,
    network::Network,
    state::State,
    store::{self, Durability},
};

/// One place on one network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tenant<'a> {
    pub id: &'a str,
    pub name: &'a str,
    pub lease: &'a Attachment,
    /// Once it is attached.
    pub port: Option<PortId>,
}

/// A place that somebody asks for.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub request: &'a NetworkRequest,
    /// Unless it asks for others.
    pub kept: Kept,
    pub ifname: String,
}

/// A port to be put on its switch.
#[derive(Debug)]
pub(crate) struct Plug<'a> {
    pub id: &'a str,
    pub name: &'a str,
    pub attachment: &'a Attachment,
    pub link: OwnedFd,
    /// The networks whose names it may ask for besides its own.
    pub asks: Vec<NetworkId>,
    pub host_loopback: bool,
    pub isolated: bool,
}

impl State {
    pub(crate) fn tenants(&self) -> impl Iterator<Item = Tenant<'_>> {
        let containers = self.containers.values().flat_map(|container| {
            container.leases.iter().map(move |planned| {
                // What was attached says more than what was planned: by which backend.
                let port = container.port_on(&planned.network);
                let lease = port.map_or(planned, |port| &port.attachment);
                Tenant { id: container.id(), name: container.name(), lease, port: port.map(|port| port.port) }
            })
        });
        let holders = self.holders.values().filter_map(|holder| {
            let lease = holder.lease.as_ref()?;
            Some(Tenant { id: &holder.id, name: &holder.name, lease, port: holder.port })
        });
        containers.chain(holders)
    }

    pub(crate) fn tenants_on<'a>(&'a self, network: &'a str) -> impl Iterator<Item = Tenant<'a>> {
        self.tenants().filter(move |tenant| tenant.lease.network == network)
    }

    /// What people call the owner of a lease.
    pub(crate) fn name_of(&self, id: &str) -> String {
        let container = self.containers.get(id).map(|container| container.record.name.clone());
        let holder = || self.holders.get(id).map(|holder| holder.name.clone());
        container.or_else(holder).unwrap_or_else(|| short(id).to_owned())
    }

    /// What the tenant `id` asked of `network`.
    pub(crate) fn request_mut(&mut self, id: &str, network: &str) -> Option<&mut NetworkRequest> {
        let of_holder = self.holders.get_mut(id).map(|holder| &mut holder.spec.request);
        let of_container = self.containers.get_mut(id).into_iter().flat_map(|container| &mut container.record.spec.network.networks);
        of_container.chain(of_holder).find(|request| request.network == network)
    }

    fn names(&self) -> HashMap<String, String> {
        let containers = self.containers.values().map(|container| (container.record.id.clone(), container.record.name.clone()));
        containers.chain(self.holders.values().map(|holder| (holder.id.clone(), holder.name.clone()))).collect()
    }
}

impl Daemon {
    /// Leases an address on one network, if one is wanted, and makes the attachment of it. Whether default routes go that way depends on
    /// its owner's other networks.
    pub(crate) fn lease(&self, state: &mut State, id: &str, wanted: Wanted<'_>) -> Result<Attachment> {
        let Wanted { request, kept, ifname } = wanted;
        let names = state.names();
        let name_of = |id: &str| names.get(id).cloned().unwrap_or_else(|| id.to_owned());
        let network = state.network_mut(&request.network)?;
        let (ip, ipv6) = if request.no_ip { (None, None) } else { addresses(network, id, request, kept, name_of)? };
        let attachment = Attachment {
            network: request.network.clone(),
            ifname,
            mac: request.mac.or_else(|| ip.map(Mac::from_ipv4)).unwrap_or_else(|| mac_of(id)),
            ip,
            prefix_len: network.record.subnet.prefix_len(),
            gateway: network.record.gateway,
            ipv6,
            default_route: false,
            mtu: request.mtu.unwrap_or(network.record.mtu),
            aliases: request.aliases.clone(),
            backend: network.record.options.backend,
        };
        network.note(&attachment);
        let kept = network.keep_leases(&self.paths.leases()).and_then(|()| check_mac(state, id, &attachment));
        match kept {
            Ok(()) => Ok(attachment),
            Err(error) => {
                self.release(state, id, &attachment);
                Err(error)
            }
        }
    }

    /// Ends a lease and writes that down.
    pub(crate) fn release(&self, state: &mut State, id: &str, attachment: &Attachment) {
        let Ok(network) = state.network_mut(&attachment.network) else { return };
        network.release(id, attachment);
        if let Err(error) = network.keep_leases(&self.paths.leases()) {
            tracing::error!(network = attachment.network, error = error.message, "leases are not on disk");
        }
    }

    /// Puts one port on its switch. Its address is leased here if it is not yet: after a crash its owner knows better.
    pub(crate) fn plug(&self, state: &mut State, plug: Plug<'_>) -> Result<PortId> {
        let Plug { id, name, attachment, link, mut asks, host_loopback, isolated } = plug;
        let network = state.network_mut(&attachment.network)?;
        if let Some(ip) = attachment.ip {
            network.lease(id, Some(ip), |_| name.to_owned())?;
        }
        if let Some(ipv6) = attachment.ipv6 {
            network.lease6(id, Some(ipv6.ip), |_| name.to_owned())?;
        }
        network.note(attachment);
        asks.push(network.plane);
        let config = PortConfig {
            link,
            backend: attachment.backend.unwrap_or_default(),
            owner: id.to_owned(),
            ip: attachment.ip,
            ip6: attachment.ipv6.map(|ipv6| ipv6.ip),
            mac: attachment.mac,
            mtu: attachment.mtu,
            host_loopback: network.record.host_loopback || host_loopback,
            asks,
            options: PortOptions { isolated },
        };
        let port = self.plane.attach(network.plane, config)?;
        let mut attributes = vec![("container", name.to_owned()), ("port_id", port.to_string())];
        attributes.extend(attachment.ip.map(|ip| ("ip_address", ip.to_string())));
        self.events.tell("network", "connect", id, &attachment.network, &attributes);
        Ok(port)
    }

    /// Takes one port off its switch.
    pub(crate) fn unplug(&self, state: &State, tenant: Tenant<'_>) {
        let Tenant { id, name, lease, port } = tenant;
        let Some(port) = port else { return };
        if let Ok(network) = state.network(&lease.network)
            && let Err(error) = self.plane.detach(network.plane, port)
        {
            tracing::error!(id, %error, "a port was not detached");
        }
        self.events.tell("network", "disconnect", id, &lease.network, &[("container", name.to_owned())]);
    }

    /// Writes down what a tenant asks for, after a change of it.
    pub(crate) fn keep_request(&self, state: &State, id: &str) -> Result<()> {
        match state.holders.get(id) {
            None => self.write_record(state.by_id(id)?),
            Some(holder) => {
                store::write(&self.paths.holder(id).join("request.json"), &holder.spec.request, Durability::Process).map_err(Error::from)
            }
        }
    }
}

/// Leases what an interface is to have of both families, or nothing.
fn addresses(
    network: &mut Network,
    id: &str,
    request: &NetworkRequest,
    kept: Kept,
    name_of: impl Fn(&str) -> String,
) -> Result<(Option<Ipv4Addr>, Option<Ipv6Attachment>)> {
    let ip = network.lease(id, request.ip.or(kept.ip), &name_of)?;
    let ipv6 = match network.lease6(id, request.ip6.or(kept.ip6), &name_of) {
        Ok(ip6) => ip6.zip(network.record.ipv6),
        Err(error) => {
            network.release_of(id, |held| held == ip, |_| false);
            return Err(error);
        }
    };
    Ok((
        Some(ip),
        ipv6.map(|(ip, of)| Ipv6Attachment { ip, prefix_len: of.subnet.prefix_len(), gateway: of.gateway, default_route: false }),
    ))
}

/// The MAC of an interface that has neither an address nor one of its choice: locally administered (IEEE 802, 8.4), of its owner's
/// random ID.
fn mac_of(id: &str) -> Mac {
    let mut bytes = [0x06; 6];
    let digits = id.as_bytes().chunks_exact(2).filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    bytes.iter_mut().skip(1).zip(digits).for_each(|(byte, random)| *byte = random);
    Mac(bytes)
}

/// Two ports with one MAC would take each other's frames.
fn check_mac(state: &State, id: &str, wanted: &Attachment) -> Result<()> {
    let network = state.network(&wanted.network)?;
    if network.record.gateway.is_some() && network.record.config().mac == wanted.mac {
        return Err(Error::conflict(format!("{} is the gateway's on network `{}`", wanted.mac, wanted.network)));
    }
    let mut others = state.tenants_on(&wanted.network).filter(|tenant| tenant.id != id);
    match others.find(|tenant| tenant.lease.mac == wanted.mac) {
        None => Ok(()),
        Some(other) => {
            Err(Error::conflict(format!("{} is in use on network `{}`", wanted.mac, wanted.network))
                .hint(format!("`{}` has it", other.name)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_mac_is_that_of_one_interface_and_nobodys_address() {
        let mac = mac_of(&"fe".repeat(32));
        assert_eq!(mac, Mac([0x06, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe]));
        assert!(!mac.is_group() && mac != Mac::from_ipv4(Ipv4Addr::new(0xfe, 0xfe, 0xfe, 0xfe)));
    }
}
