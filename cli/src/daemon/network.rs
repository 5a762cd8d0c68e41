//! One network as the daemon knows it: its settings on disk, its addresses, its number on the data plane.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
    time::Duration,
};

use ipnet::{Ipv4Net, Ipv6Net};
use netloom_runtime::{
    fabric::{NetworkConfig, NetworkId},
    spec::{Attachment, Backend},
};
use netloom_switch::{
    Mac,
    gateway::GatewayIpv6,
    ipam::{Address, GatewayChoice, IpamError, Pool},
};
use serde::{Deserialize, Serialize};

use super::{
    bounds::{self, Bounds},
    dhcp::Dynamic,
    error::{Error, Result},
    events,
    store::{self, Durability},
};
use crate::{api::Settings, words::nearest::nearest};

/// The network that always exists.
pub(crate) const BRIDGE: &str = "bridge";

/// The MTU of a network that asks for none.
pub(crate) const MTU: u16 = 1500;
/// What IPv4 needs at least (RFC 791), and what a TAP takes at most (the kernel's drivers/net/tun.c: 65,535 less the header).
pub(crate) const MTU_RANGE: std::ops::RangeInclusive<u16> = 68..=65_521;
/// What IPv6 needs at least (RFC 8200, 5).
pub(crate) const MTU_IPV6: u16 = 1280;

/// A network as its file keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetworkRecord {
    pub version: u32,
    pub id: String,
    pub name: String,
    pub subnet: Ipv4Net,
    /// Whether the subnet was chosen by us, so that another may be chosen.
    pub chosen: bool,
    pub gateway: Option<Ipv4Addr>,
    /// `None`: it has no IPv6.
    #[serde(default)]
    pub ipv6: Option<Ipv6Record>,
    pub ip_range: Option<Ipv4Net>,
    pub internal: bool,
    pub isolated: bool,
    pub mtu: u16,
    pub host_loopback: bool,
    pub labels: BTreeMap<String, String>,
    pub options: Options,
    pub created: String,
}

/// The IPv6 side of a network's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ipv6Record {
    pub subnet: Ipv6Net,
    pub gateway: Option<Ipv6Addr>,
    /// Where addresses are chosen from; the whole subnet if `None`.
    #[serde(default)]
    pub ip_range: Option<Ipv6Net>,
}

/// The `-o` keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Options {
    pub ageing: Duration,
    pub fdb_max: usize,
    pub reserved_macs_transparent: bool,
    /// Nobody may use what the IPAM gave to another.
    #[serde(default = "yes")]
    pub port_security: bool,
    /// Of interfaces made from now on; `None`: whatever this machine can.
    #[serde(default)]
    pub backend: Option<Backend>,
    #[serde(default)]
    pub bounds: Bounds,
}

impl Default for Options {
    fn default() -> Self {
        let defaults = netloom_switch::Settings::default();
        Self {
            ageing: defaults.ageing,
            fdb_max: defaults.fdb_max,
            reserved_macs_transparent: false,
            port_security: true,
            backend: None,
            bounds: Bounds::default(),
        }
    }
}

/// The keys that are not bounds.
const OPTION_KEYS: [&str; 5] = ["ageing", "backend", "fdb-max", "port-security", "reserved-macs"];

/// What the file of an older version means by saying nothing.
const fn yes() -> bool {
    true
}

/// What the setting `backend` says where it is left to the machine.
const AUTO: &str = "auto";

/// How many addresses a MAC table may hold: some 100 MB of them.
const FDB_MAX: usize = 1 << 20;

impl Options {
    /// Sets one key from its text.
    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        if let Some(set) = self.bounds.set(key, value) {
            return set;
        }
        let wrong = |what: &str| bounds::wrong(key, value, what.to_owned());
        match key {
            "ageing" => self.ageing = bounds::time(key, value, Duration::from_secs(1)..=Duration::from_secs(1_000_000))?,
            "backend" => {
                self.backend = match Backend::of_name(value) {
                    None if value != AUTO => return Err(wrong("tap, veth or auto")),
                    backend => backend,
                };
            }
            "fdb-max" => self.fdb_max = bounds::count(key, value, 1..=FDB_MAX)?,
            "port-security" => {
                self.port_security = match value {
                    "on" => true,
                    "off" => false,
                    _ => return Err(wrong("on or off")),
                };
            }
            "reserved-macs" => {
                self.reserved_macs_transparent = match value {
                    "strict" => false,
                    "transparent" => true,
                    _ => return Err(wrong("strict or transparent")),
                };
            }
            _ => {
                let mut keys: Vec<_> = OPTION_KEYS.into_iter().chain(Bounds::keys()).collect();
                keys.sort_unstable();
                return Err(unknown_key("a network", key, &keys));
            }
        }
        Ok(())
    }

    /// These options with `settings` put in; all or nothing.
    pub(crate) fn with(mut self, settings: &Settings) -> Result<Self> {
        settings.iter().try_for_each(|(key, value)| self.set(key, value)).map(|()| self)
    }

    pub(crate) fn backend_name(&self) -> &'static str {
        self.backend.map_or(AUTO, Backend::name)
    }

    /// Every key with its value.
    pub(crate) fn view(&self) -> Settings {
        let reserved = if self.reserved_macs_transparent { "transparent" } else { "strict" };
        let ageing = bounds::seconds(self.ageing);
        let security = if self.port_security { "on" } else { "off" };
        let values = [ageing, self.backend_name().to_owned(), self.fdb_max.to_string(), security.to_owned(), reserved.to_owned()];
        OPTION_KEYS.into_iter().zip(values).chain(self.bounds.view()).map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// The error for a setting that there is none of.
pub(crate) fn unknown_key(of: &str, key: &str, valid: &[&str]) -> Error {
    let error = Error::invalid(format!("`{key}` is not a setting of {of}"));
    match nearest(key, valid.iter().copied()) {
        Some(near) => error.hint(format!("did you mean `{near}`? there are: {}", valid.join(", "))),
        None => error.hint(format!("there are: {}", valid.join(", "))),
    }
}

impl NetworkRecord {
    /// What the data plane is told.
    pub(crate) fn config(&self) -> NetworkConfig {
        NetworkConfig {
            subnet: self.subnet,
            gateway: self.gateway,
            ipv6: self.ipv6.and_then(|ipv6| Some(GatewayIpv6 { ip: ipv6.gateway?, subnet: ipv6.subnet })),
            mac: Mac::from_ipv4(self.gateway.unwrap_or_else(|| self.subnet.network())),
            mtu: self.mtu,
            internal: self.internal,
            isolated: self.isolated,
            host_loopback: self.host_loopback,
            ageing: self.options.ageing,
            fdb_max: self.options.fdb_max,
            reserved_macs_transparent: self.options.reserved_macs_transparent,
            port_security: self.options.port_security,
            limits: self.options.bounds.limits(),
        }
    }

    /// The smallest MTU of its interfaces.
    pub(crate) fn mtu_least(&self) -> u16 {
        if self.ipv6.is_some() { MTU_IPV6 } else { *MTU_RANGE.start() }
    }

    /// Leases of which none was ever given.
    pub(crate) fn no_leases(&self) -> Result<Leases> {
        let refused = |error| refused(&self.name, &error, str::to_owned);
        let pool = Pool::new(self.subnet, choice(self.gateway), self.ip_range).map_err(refused)?;
        let pool6 = self.ipv6.map(|ipv6| Pool::new(ipv6.subnet, choice(ipv6.gateway), ipv6.ip_range)).transpose().map_err(refused)?;
        Ok(Leases { pool, pool6, notes: BTreeMap::new(), notes6: BTreeMap::new() })
    }
}

fn choice<A>(gateway: Option<A>) -> GatewayChoice<A> {
    gateway.map_or(GatewayChoice::None, GatewayChoice::At)
}

/// A lease as `leases` shows it and as the file keeps it beside the pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaseNote {
    pub mac: Mac,
    pub since: String,
    /// Of a DHCP client, not of a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic: Option<Dynamic>,
}

/// The addresses of one network, as its file keeps them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leases {
    pub pool: Pool,
    /// `None`: the network has no IPv6.
    #[serde(default)]
    pub pool6: Option<Pool<Ipv6Addr>>,
    pub notes: BTreeMap<Ipv4Addr, LeaseNote>,
    /// Of IPv6, those of DHCP clients alone: a container's is the note of its IPv4 address.
    #[serde(default)]
    pub notes6: BTreeMap<Ipv6Addr, LeaseNote>,
}

impl Leases {
    /// Whether these can be the leases of such a network.
    pub(crate) fn fit(&self, record: &NetworkRecord) -> bool {
        let of = |pool: &Pool| (pool.subnet(), pool.gateway(), pool.range());
        let of6 = |pool: &Pool<Ipv6Addr>| (pool.subnet(), pool.gateway(), pool.range());
        of(&self.pool) == (record.subnet, record.gateway, record.ip_range.unwrap_or(record.subnet))
            && self.pool6.as_ref().map(of6) == record.ipv6.map(|ipv6| (ipv6.subnet, ipv6.gateway, ipv6.ip_range.unwrap_or(ipv6.subnet)))
    }

    /// The IPv6 address of who has an address here.
    pub(crate) fn ip6_of(&self, id: &str) -> Option<Ipv6Addr> {
        self.pool6.as_ref()?.leases().find(|(_, owner)| *owner == id).map(|(address, _)| address)
    }

    /// Everyone who has an address here, each once.
    pub(crate) fn owners(&self) -> std::collections::BTreeSet<String> {
        let of6 = self.pool6.iter().flat_map(|pool| pool.leases().map(|(_, owner)| owner));
        self.pool.leases().map(|(_, owner)| owner).chain(of6).map(str::to_owned).collect()
    }
}

/// One network.
#[derive(Debug)]
pub(crate) struct Network {
    pub record: NetworkRecord,
    pub plane: NetworkId,
    pub leases: Leases,
}

impl Network {
    /// Leases an address to the container `id`: `wanted`, or the next one.
    pub(crate) fn lease(&mut self, id: &str, wanted: Option<Ipv4Addr>, name_of: impl Fn(&str) -> String) -> Result<Ipv4Addr> {
        lease(&mut self.leases.pool, id, wanted).map_err(|error| refused(&self.record.name, &error, name_of))
    }

    /// The same of IPv6; `None` where the network has none.
    pub(crate) fn lease6(&mut self, id: &str, wanted: Option<Ipv6Addr>, name_of: impl Fn(&str) -> String) -> Result<Option<Ipv6Addr>> {
        let name = &self.record.name;
        match (&mut self.leases.pool6, wanted) {
            (Some(pool), wanted) => lease(pool, id, wanted).map(Some).map_err(|error| refused(name, &error, name_of)),
            (None, None) => Ok(None),
            (None, Some(address)) => Err(no_ipv6(name, address)),
        }
    }

    /// Whether `address` is one of this network's that nobody has.
    pub(crate) fn is_free(&self, address: Ipv4Addr) -> bool {
        self.check(address, str::to_owned).is_ok()
    }

    pub(crate) fn is_free6(&self, address: Ipv6Addr) -> bool {
        self.check6(address, str::to_owned).is_ok()
    }

    /// Whether an address could be leased now; the pool stays as it is.
    pub(crate) fn check(&self, wanted: Ipv4Addr, name_of: impl Fn(&str) -> String) -> Result<()> {
        self.leases.pool.clone().take(wanted, "").map_err(|error| refused(&self.record.name, &error, name_of))
    }

    pub(crate) fn check6(&self, wanted: Ipv6Addr, name_of: impl Fn(&str) -> String) -> Result<()> {
        let pool = self.leases.pool6.clone().ok_or_else(|| no_ipv6(&self.record.name, wanted));
        pool?.take(wanted, "").map_err(|error| refused(&self.record.name, &error, name_of))
    }

    /// Notes whose lease it is and since when; the MAC is told by `leases`.
    pub(crate) fn note(&mut self, attachment: &Attachment) {
        let Some(ip) = attachment.ip else { return };
        let note = LeaseNote { mac: attachment.mac, since: events::now(), dynamic: None };
        self.leases.notes.entry(ip).or_insert(note);
    }

    /// Ends the leases of an attachment that is `id`'s.
    pub(crate) fn release(&mut self, id: &str, attachment: &Attachment) {
        self.release_of(id, |ip| Some(ip) == attachment.ip, |ip6| attachment.ipv6.is_some_and(|ipv6| ipv6.ip == ip6));
    }

    /// Ends the leases of `id` that are meant; false if there was none.
    pub(crate) fn release_of(&mut self, id: &str, which: impl Fn(Ipv4Addr) -> bool, which6: impl Fn(Ipv6Addr) -> bool) -> bool {
        let Leases { pool, pool6, notes, notes6 } = &mut self.leases;
        let of4 = held(pool, id, which);
        for address in &of4 {
            pool.release(*address);
            notes.remove(address);
        }
        let of6 = pool6.as_mut().map(|pool| {
            let of6 = held(pool, id, which6);
            for address in &of6 {
                pool.release(*address);
                notes6.remove(address);
            }
            of6.len()
        });
        of4.len() + of6.unwrap_or(0) > 0
    }

    /// Writes the leases down: the address of a container that runs is never given twice, whatever becomes of the daemon.
    pub(crate) fn keep_leases(&self, directory: &Path) -> Result<()> {
        store::write(&file_of(directory, &self.record.name), &self.leases, Durability::Process).map_err(Error::from)
    }

    pub(crate) fn keep(&self, directory: &Path) -> Result<()> {
        store::write(&file_of(directory, &self.record.name), &self.record, Durability::Power).map_err(Error::from)
    }
}

/// What `id` holds of a pool.
fn held<A: Address>(pool: &Pool<A>, id: &str, which: impl Fn(A) -> bool) -> Vec<A> {
    pool.leases().filter(|(address, owner)| *owner == id && which(*address)).map(|(address, _)| address).collect()
}

fn lease<A: Address>(pool: &mut Pool<A>, id: &str, wanted: Option<A>) -> std::result::Result<A, IpamError> {
    match wanted {
        None => pool.allocate(id),
        // Taken back by its holder, after a daemon's crash.
        Some(address) if pool.owner(address) == Some(id) => Ok(address),
        Some(address) => pool.take(address, id).map(|()| address),
    }
}

fn no_ipv6(network: &str, address: Ipv6Addr) -> Error {
    Error::invalid(format!("network `{network}` has no IPv6, and so no {address}")).hint("networks made with --ipv6 have")
}

/// The file of network `name` in a directory of such files.
pub(crate) fn file_of(directory: &Path, name: &str) -> std::path::PathBuf {
    directory.join(format!("{name}.json"))
}

/// The words for an address that cannot be given.
fn refused(network: &str, error: &IpamError, name_of: impl Fn(&str) -> String) -> Error {
    match error {
        IpamError::InUse { address, owner } => Error::conflict(format!("{address} is in use on network `{network}`"))
            .hint(format!("`{}` has it; see `netloom leases {network}`", name_of(owner))),
        IpamError::Full { range } => Error::conflict(format!("network `{network}` has no address left in {range}"))
            .hint("remove containers that are not needed, or make a network with a larger subnet"),
        IpamError::Gateway { address } => Error::conflict(format!("{address} is the gateway of network `{network}`"))
            .hint("without an address the next free one is given"),
        IpamError::TooSmall { .. } => Error::invalid(error.to_string()).hint("give a subnet of /31 or larger, or --gateway none"),
        IpamError::BadState { .. } => Error::internal(format!("the leases of network `{network}` cannot be used: {error}")),
        _ => Error::invalid(format!("network `{network}`: {error}")).hint("without an address the next free one is given"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn settings_are_read_and_shown_alike() {
        let wanted = settings(&[
            ("ageing", "60s"),
            ("backend", "veth"),
            ("fdb-max", "100"),
            ("port-security", "off"),
            ("reserved-macs", "transparent"),
        ]);
        let view = Options::default().with(&wanted).unwrap().view();
        assert!(wanted.iter().all(|(key, value)| view.get(key) == Some(value)), "{view:?}");
        let usual = [
            ("ageing", "300s"),
            ("backend", "auto"),
            ("dns-queries", "256"),
            ("fdb-max", "8192"),
            ("fragments", "64"),
            ("port-security", "on"),
            ("reserved-macs", "strict"),
            ("tcp-flows", "16384"),
            ("tcp-half-open", "1024"),
            ("tcp-idle", "7440s"),
            ("tcp-transitory", "240s"),
            ("udp-clients", "4096"),
            ("udp-dns-idle", "5s"),
            ("udp-idle", "300s"),
            ("udp-mappings", "4096"),
        ];
        assert_eq!(Options::default().view(), settings(&usual));
    }

    #[test]
    fn a_value_that_makes_no_sense_is_refused_with_what_would() {
        for (key, value) in
            [("ageing", "300"), ("ageing", "0s"), ("fdb-max", "0"), ("fdb-max", "-1"), ("reserved-macs", "on"), ("port-security", "yes")]
        {
            let error = Options::default().with(&settings(&[(key, value)])).unwrap_err();
            assert!(error.message.contains(value) && error.hint.is_some(), "{key}={value}");
        }
    }

    #[test]
    fn an_unknown_setting_names_those_there_are() {
        let error = Options::default().with(&settings(&[("agein", "1s")])).unwrap_err();
        assert!(error.hint.unwrap().starts_with("did you mean `ageing`? there are: ageing, backend, dns-queries, fdb-max, "));
        assert_eq!(error.exit_code, 2);
    }
}
