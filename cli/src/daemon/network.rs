//! One network as the daemon knows it: its settings on disk, its addresses, its number on the data plane.

use std::{collections::BTreeMap, net::Ipv4Addr, path::Path, time::Duration};

use ipnet::Ipv4Net;
use netloom_runtime::{
    fabric::{NetworkConfig, NetworkId},
    spec::{Attachment, Backend},
};
use netloom_switch::{
    Mac,
    ipam::{GatewayChoice, IpamError, Pool},
};
use serde::{Deserialize, Serialize};

use super::{
    dhcp::Dynamic,
    error::{Error, Result},
    events, lookup,
    store::{self, Durability},
};
use crate::api::Settings;

/// The network that always exists.
pub(crate) const BRIDGE: &str = "bridge";

/// The MTU of a network that asks for none.
pub(crate) const MTU: u16 = 1500;
/// What IPv4 needs at least (RFC 791), and what a TAP takes at most (the kernel's drivers/net/tun.c: 65,535 less the header).
pub(crate) const MTU_RANGE: std::ops::RangeInclusive<u16> = 68..=65_521;

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
    pub ip_range: Option<Ipv4Net>,
    pub internal: bool,
    pub isolated: bool,
    pub mtu: u16,
    pub host_loopback: bool,
    pub labels: BTreeMap<String, String>,
    pub options: Options,
    pub created: String,
}

/// The `-o` keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Options {
    pub ageing: Duration,
    pub fdb_max: usize,
    pub reserved_macs_transparent: bool,
    /// Of interfaces made from now on; `None`: whatever this machine can.
    #[serde(default)]
    pub backend: Option<Backend>,
}

impl Default for Options {
    fn default() -> Self {
        let defaults = netloom_switch::Settings::default();
        Self { ageing: defaults.ageing, fdb_max: defaults.fdb_max, reserved_macs_transparent: false, backend: None }
    }
}

/// The keys in the order of the manual.
pub(crate) const OPTION_KEYS: [&str; 4] = ["ageing", "backend", "fdb-max", "reserved-macs"];

/// What the setting `backend` says where it is left to the machine.
const AUTO: &str = "auto";

/// How many addresses a MAC table may hold: some 100 MB of them.
const FDB_MAX: usize = 1 << 20;

impl Options {
    /// Sets one key from its text.
    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let wrong = |what: &str| Error::invalid(format!("`{value}` is no value for `{key}`")).hint(what.to_owned());
        match key {
            "ageing" => {
                let ageing = humantime::parse_duration(value).map_err(|_| wrong("a time with a unit, such as 300s"))?;
                if !(Duration::from_secs(1)..=Duration::from_secs(1_000_000)).contains(&ageing) {
                    return Err(wrong("1s to 1000000s"));
                }
                self.ageing = ageing;
            }
            "backend" => {
                self.backend = match Backend::of_name(value) {
                    None if value != AUTO => return Err(wrong("tap, veth or auto")),
                    backend => backend,
                };
            }
            "fdb-max" => {
                let max = value.parse().ok().filter(|max| (1..=FDB_MAX).contains(max));
                self.fdb_max = max.ok_or_else(|| wrong("a number from 1 to 1048576"))?;
            }
            "reserved-macs" => {
                self.reserved_macs_transparent = match value {
                    "strict" => false,
                    "transparent" => true,
                    _ => return Err(wrong("strict or transparent")),
                };
            }
            _ => return Err(unknown_key("a network", key, &OPTION_KEYS)),
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
        let ageing = format!("{}s", self.ageing.as_secs_f64());
        let values = [ageing, self.backend_name().to_owned(), self.fdb_max.to_string(), reserved.to_owned()];
        OPTION_KEYS.into_iter().map(str::to_owned).zip(values).collect()
    }
}

/// The error for a setting that there is none of.
pub(crate) fn unknown_key(of: &str, key: &str, valid: &[&str]) -> Error {
    let error = Error::invalid(format!("`{key}` is not a setting of {of}"));
    match lookup::nearest(key, valid.iter().copied()) {
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
            ipv6: None,
            mac: Mac::from_ipv4(self.gateway.unwrap_or_else(|| self.subnet.network())),
            mtu: self.mtu,
            internal: self.internal,
            isolated: self.isolated,
            host_loopback: self.host_loopback,
            ageing: self.options.ageing,
            fdb_max: self.options.fdb_max,
            reserved_macs_transparent: self.options.reserved_macs_transparent,
        }
    }

    fn gateway_choice(&self) -> GatewayChoice {
        self.gateway.map_or(GatewayChoice::None, GatewayChoice::At)
    }

    /// A pool in which nothing was ever given.
    pub(crate) fn empty_pool(&self) -> Result<Pool> {
        Pool::new(self.subnet, self.gateway_choice(), self.ip_range).map_err(|error| refused(&self.name, &error, |id| id.to_owned()))
    }
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
    pub notes: BTreeMap<Ipv4Addr, LeaseNote>,
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
        let given = match wanted {
            None => self.leases.pool.allocate(id),
            // Taken back by its holder, after a daemon's crash.
            Some(address) if self.leases.pool.owner(address) == Some(id) => Ok(address),
            Some(address) => self.leases.pool.take(address, id).map(|()| address),
        };
        given.map_err(|error| refused(&self.record.name, &error, name_of))
    }

    /// Whether `address` is one of this network's that nobody has.
    pub(crate) fn is_free(&self, address: Ipv4Addr) -> bool {
        self.check(Some(address), str::to_owned).is_ok()
    }

    /// Whether an address could be leased now; the pool stays as it is.
    pub(crate) fn check(&self, wanted: Option<Ipv4Addr>, name_of: impl Fn(&str) -> String) -> Result<()> {
        let mut pool = self.leases.pool.clone();
        let given = match wanted {
            None => pool.allocate("").map(drop),
            Some(address) => pool.take(address, ""),
        };
        given.map_err(|error| refused(&self.record.name, &error, name_of))
    }

    /// Notes whose lease it is and since when; the MAC is told by `leases`.
    pub(crate) fn note(&mut self, attachment: &Attachment) {
        let note = LeaseNote { mac: attachment.mac, since: events::now(), dynamic: None };
        self.leases.notes.entry(attachment.ip).or_insert(note);
    }

    pub(crate) fn release(&mut self, id: &str, address: Ipv4Addr) {
        if self.leases.pool.owner(address) == Some(id) {
            self.leases.pool.release(address);
            self.leases.notes.remove(&address);
        }
    }

    /// Writes the leases down: the address of a container that runs is never given twice, whatever becomes of the daemon.
    pub(crate) fn keep_leases(&self, directory: &Path) -> Result<()> {
        store::write(&file_of(directory, &self.record.name), &self.leases, Durability::Process).map_err(Error::from)
    }

    pub(crate) fn keep(&self, directory: &Path) -> Result<()> {
        store::write(&file_of(directory, &self.record.name), &self.record, Durability::Power).map_err(Error::from)
    }
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
        let wanted = settings(&[("ageing", "60s"), ("backend", "veth"), ("fdb-max", "100"), ("reserved-macs", "transparent")]);
        assert_eq!(Options::default().with(&wanted).unwrap().view(), wanted);
        let usual = [("ageing", "300s"), ("backend", "auto"), ("fdb-max", "8192"), ("reserved-macs", "strict")];
        assert_eq!(Options::default().view(), settings(&usual));
    }

    #[test]
    fn a_value_that_makes_no_sense_is_refused_with_what_would() {
        for (key, value) in [("ageing", "300"), ("ageing", "0s"), ("fdb-max", "0"), ("fdb-max", "-1"), ("reserved-macs", "on")] {
            let error = Options::default().with(&settings(&[(key, value)])).unwrap_err();
            assert!(error.message.contains(value) && error.hint.is_some(), "{key}={value}");
        }
    }

    #[test]
    fn an_unknown_setting_names_those_there_are() {
        let error = Options::default().with(&settings(&[("agein", "1s")])).unwrap_err();
        assert_eq!(error.hint.unwrap(), "did you mean `ageing`? there are: ageing, backend, fdb-max, reserved-macs");
        assert_eq!(error.exit_code, 2);
    }
}
