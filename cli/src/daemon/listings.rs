//! What there is to see of the data plane: ports, addresses, leases, flows, drops, with the containers' names.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use netloom_runtime::{
    fabric::{FabricError, FdbReport, NetworkId, PortReport},
    host,
    spec::Backend,
};
use netloom_switch::{DropReason, Mac, PortId};

use super::{
    Daemon,
    dhcp::Dynamic,
    error::{Error, Result},
    lookup::no_such,
    network::LeaseNote,
    state::State,
    tenants::Tenant,
};
use crate::api::{Drop, FdbEntry, Flow, Lease, Port};

/// What port 0 is called.
const GATEWAY: &str = "gateway";

impl Daemon {
    /// Calls `each` with every network, or the one that is named.
    fn on_networks<T>(&self, only: Option<&str>, mut each: impl FnMut(&State, &str, NetworkId) -> Result<Vec<T>>) -> Result<Vec<T>> {
        let state = self.state();
        if let Some(name) = only
            && !state.networks.contains_key(name)
        {
            return Err(no_such("network", name, state.networks.keys().map(String::as_str)));
        }
        let wanted = state.networks.iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
        let mut rows = Vec::new();
        for (name, network) in wanted {
            rows.extend(each(&state, name, network.plane)?);
        }
        Ok(rows)
    }

    pub(crate) fn ports(&self, only: Option<&str>) -> Result<Vec<Port>> {
        self.on_networks(only, |state, name, plane| {
            let owners = owners(state, name);
            let isolated = state.network(name)?.record.isolated;
            Ok(self.reports(state, &owners, plane)?.into_iter().map(|report| port_row(&owners, name, isolated, report)).collect())
        })
    }

    /// The ports of a network, with what only the containers' kernels have counted: the frames that did not fit into a TAP's ring.
    fn reports(&self, state: &State, owners: &BTreeMap<PortId, Tenant<'_>>, plane: NetworkId) -> Result<Vec<PortReport>> {
        let mut reports = self.plane.ports(plane)?;
        for report in &mut reports {
            let Some(tenant) = owners.get(&report.port).filter(|tenant| tenant.lease.backend != Some(Backend::Veth)) else { continue };
            let pid = state.containers.get(tenant.id).and_then(|container| container.status.pid);
            let lost = pid.and_then(|pid| host::transmit_drops(pid, &tenant.lease.ifname));
            report.counts.add(DropReason::RingOverflow, lost.unwrap_or(0));
        }
        Ok(reports)
    }

    pub(crate) fn fdb(&self, only: Option<&str>) -> Result<Vec<FdbEntry>> {
        self.on_networks(only, |state, name, plane| {
            let owners = owners(state, name);
            let row = |entry: FdbReport| FdbEntry {
                network: name.to_owned(),
                mac: entry.mac,
                vlan: None,
                port: entry.port.0,
                container: owner(&owners, entry.port),
                age_seconds: entry.age.as_secs(),
                is_static: entry.is_static,
            };
            Ok(self.plane.fdb(plane)?.into_iter().map(row).collect())
        })
    }

    pub(crate) fn fdb_add(&self, network: &str, mac: Mac, port: Option<u16>) -> Result<()> {
        let port = port.ok_or_else(|| Error::invalid("no port was given"))?;
        let plane = self.state().network(network)?.plane;
        self.plane.fdb_add(plane, mac, PortId(port)).map_err(|error| unpinned(error, network))
    }

    /// `port`: only if it is there.
    pub(crate) fn fdb_del(&self, network: &str, mac: Mac, port: Option<u16>) -> Result<()> {
        let plane = self.state().network(network)?.plane;
        let elsewhere = |entry: &FdbReport| entry.mac == mac && port.is_some_and(|port| entry.port != PortId(port));
        if let Some(entry) = self.plane.fdb(plane)?.iter().find(|entry| elsewhere(entry)) {
            return Err(Error::missing(format!("{mac} is at port {} of network `{network}`", entry.port)).hint("name that port, or none"));
        }
        if self.plane.fdb_del(plane, mac).map_err(|error| unpinned(error, network))? {
            return Ok(());
        }
        Err(Error::missing(format!("{mac} is not in the table of network `{network}`")).hint(format!("see `netloom fdb {network}`")))
    }

    pub(crate) fn leases(&self, only: Option<&str>) -> Result<Vec<Lease>> {
        self.on_networks(only, |state, name, _| {
            let leases = &state.network(name)?.leases;
            let of4 = leases.pool.leases().map(|(ip, id)| {
                let note = leases.notes.get(&ip);
                let mac_address = note.map_or_else(|| Mac::from_ipv4(ip), |note| note.mac);
                Lease { ip_address: Some(ip), ip6_address: leases.ip6_of(id), ..lease_row(state, name, id, note, mac_address) }
            });
            // A container's address of IPv6 stands beside that of IPv4.
            let of6 = leases.pool6.iter().flat_map(|pool| pool.leases()).filter_map(|(ip6, id)| {
                let note = leases.notes6.get(&ip6)?;
                Some(Lease { ip6_address: Some(ip6), ..lease_row(state, name, id, Some(note), note.mac) })
            });
            Ok(of4.chain(of6).collect())
        })
    }

    pub(crate) fn flows(&self, only: Option<&str>) -> Result<Vec<Flow>> {
        self.on_networks(only, |state, name, plane| {
            let owners = owners(state, name);
            let row = |(port, flow): (PortId, netloom_runtime::fabric::FlowReport)| Flow {
                network: name.to_owned(),
                container: owner(&owners, port),
                port: port.0,
                protocol: flow.protocol.to_owned(),
                inside: flow.inside.to_string(),
                outside: flow.outside.to_string(),
                direction: flow.direction.to_owned(),
                state: flow.state.to_owned(),
                idle_seconds: flow.idle_seconds,
            };
            Ok(self.plane.flows(plane)?.into_iter().map(row).collect())
        })
    }

    pub(crate) fn drops(&self, only: Option<&str>) -> Result<Vec<Drop>> {
        self.on_networks(only, |state, name, plane| {
            let owners = owners(state, name);
            let mut rows = Vec::new();
            for report in self.reports(state, &owners, plane)? {
                let of = |reason: &str, frames, meaning: &str| Drop {
                    network: name.to_owned(),
                    port: report.port.0,
                    container: owner(&owners, report.port),
                    reason: reason.to_owned(),
                    frames,
                    meaning: meaning.to_owned(),
                };
                rows.extend(report.counts.drops.iter().map(|(reason, frames)| of(reason.name(), *frames, reason.meaning())));
            }
            Ok(rows)
        })
    }

    /// What a container's ports have seen, together: received and sent as the container sees it.
    pub(crate) fn traffic(&self, word: &str) -> Result<Traffic> {
        let state = self.state();
        let container = state.find(word)?;
        let mut traffic = Traffic::default();
        for port in &container.ports {
            let reports = self.plane.ports(state.network(&port.attachment.network)?.plane)?;
            for report in reports.iter().filter(|report| report.port == port.port) {
                // What the switch received, the container sent.
                traffic.tx_bytes += report.counts.rx_bytes;
                traffic.tx_frames += report.counts.rx_frames;
                traffic.rx_bytes += report.counts.tx_bytes;
                traffic.rx_frames += report.counts.tx_frames;
            }
        }
        Ok(traffic)
    }
}

/// What is to be said of a lease of either family, without its address.
/// Why an address cannot be pinned, or not be forgotten.
fn unpinned(error: FabricError, network: &str) -> Error {
    let hint = match error {
        FabricError::NoSuchPort(_) => format!("`netloom ports {network}` lists its ports"),
        FabricError::NotAStation(_) => "the first byte of a station's MAC is even".to_owned(),
        _ => return error.into(),
    };
    Error::from(error).hint(hint)
}

fn lease_row(state: &State, network: &str, owner: &str, note: Option<&LeaseNote>, mac_address: Mac) -> Lease {
    let dynamic = note.and_then(|note| note.dynamic.as_ref());
    let holder = dynamic.map_or(owner, |dynamic| dynamic.container.as_str());
    let end = |dynamic: &Dynamic| SystemTime::UNIX_EPOCH + Duration::from_secs(dynamic.expires);
    Lease {
        network: network.to_owned(),
        ip_address: None,
        ip6_address: None,
        mac_address,
        container: state.name_of(holder),
        container_id: holder.to_owned(),
        since: note.map(|note| note.since.clone()).unwrap_or_default(),
        expires: dynamic.map(|dynamic| humantime::format_rfc3339_seconds(end(dynamic)).to_string()),
    }
}

/// Bytes and frames from a container's point of view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub rx_bytes: u64,
    pub rx_frames: u64,
    pub tx_bytes: u64,
    pub tx_frames: u64,
}

fn owners<'a>(state: &'a State, network: &'a str) -> BTreeMap<PortId, Tenant<'a>> {
    state.tenants_on(network).filter_map(|tenant| Some((tenant.port?, tenant))).collect()
}

fn owner(owners: &BTreeMap<PortId, Tenant<'_>>, port: PortId) -> String {
    match owners.get(&port) {
        Some(tenant) => tenant.name.to_owned(),
        None if port == PortId::GATEWAY => GATEWAY.to_owned(),
        None => String::new(),
    }
}

fn port_row(owners: &BTreeMap<PortId, Tenant<'_>>, network: &str, isolated: bool, report: PortReport) -> Port {
    let attachment = owners.get(&report.port).map(|tenant| tenant.lease);
    let drops = report.counts.drops.iter().map(|(reason, frames)| (reason.name().to_owned(), *frames)).collect();
    let is_gateway = report.port == PortId::GATEWAY;
    Port {
        id: report.port.0,
        network: network.to_owned(),
        container: owner(owners, report.port),
        link: attachment.map(|attachment| attachment.ifname.clone()).unwrap_or_default(),
        rx_frames: report.counts.rx_frames,
        rx_bytes: report.counts.rx_bytes,
        tx_frames: report.counts.tx_frames,
        tx_bytes: report.counts.tx_bytes,
        forwarded: report.counts.forwarded,
        flooded: report.counts.flooded,
        drops,
        offloads: if is_gateway { Vec::new() } else { ["checksum", "tso4", "tso6"].map(str::to_owned).to_vec() },
        impairment: None,
        backend: match attachment {
            Some(attachment) => attachment.backend.unwrap_or_default().name().to_owned(),
            None => GATEWAY.to_owned(),
        },
        worker: report.worker,
        isolated: !is_gateway && (report.isolated || isolated),
    }
}
