//! The columns of every listing, and a sample of each row that names its keys.

use std::collections::BTreeMap;

use netloom_runtime::{
    probe::{Finding, Verdict},
    spec::Protocol,
};
use netloom_switch::Mac;
use serde::Serialize;

use super::{Row, View, human, template::ANY_KEY};
use crate::api::{Container, ContainerNetwork, Drop, Event, FdbEntry, Flow, Lease, Network, NetworkMember, Port, PortBinding, Stats};

fn any<T>(value: T) -> BTreeMap<String, T> {
    BTreeMap::from([(ANY_KEY.to_owned(), value)])
}

fn text() -> String {
    String::new()
}

fn number(number: impl ToString) -> String {
    number.to_string()
}

const fn address() -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::UNSPECIFIED
}

impl Row for Container {
    const HEADERS: &'static [&'static str] = &["CONTAINER ID", "NETWORK", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"];

    fn cells(&self, view: &View) -> Vec<String> {
        vec![
            view.id(&self.id),
            view.short(&self.network_mode, 24),
            format!("\"{}\"", view.short(&self.command.join(" "), 20)),
            human::since(&self.created, view.now).map(|age| format!("{age} ago")).unwrap_or_default(),
            human::status(self, view.now),
            human::ports(&self.ports),
            self.name.clone(),
        ]
    }

    fn sample() -> Self {
        Self {
            pid: Some(1),
            exit_code: Some(0),
            networks: any(ContainerNetwork {
                ip_address: Some(address()),
                ip6_address: Some(std::net::Ipv6Addr::UNSPECIFIED),
                prefix_len: 0,
                prefix6_len: Some(0),
                gateway: Some(address()),
                gateway6: Some(std::net::Ipv6Addr::UNSPECIFIED),
                mac_address: Mac::ZERO,
                port_id: 0,
                interface: text(),
                aliases: vec![text()],
            }),
            ports: vec![PortBinding::sample()],
            read_only: vec![text()],
            command: vec![text()],
            env: vec![text()],
            labels: any(text()),
            started: Some(text()),
            finished: Some(text()),
            backend: Some(text()),
            ..Self::default()
        }
    }
}

impl Row for Network {
    const HEADERS: &'static [&'static str] = &["NAME", "SUBNET", "GATEWAY", "IPV6 SUBNET", "MTU", "BACKEND", "CONTAINERS", "OPTIONS"];

    fn cells(&self, _: &View) -> Vec<String> {
        let flags = [(self.internal, "internal"), (self.isolated, "isolated"), (self.host_loopback, "host-loopback")];
        vec![
            self.name.clone(),
            self.subnet.clone(),
            self.gateway.map_or_else(|| "none".into(), number),
            self.subnet6.clone().unwrap_or_default(),
            number(self.mtu),
            self.backend.clone(),
            number(self.containers.len()),
            flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect::<Vec<_>>().join(","),
        ]
    }

    fn sample() -> Self {
        Self {
            gateway: Some(address()),
            subnet6: Some(text()),
            gateway6: Some(std::net::Ipv6Addr::UNSPECIFIED),
            ip_range: Some(ipnet::Ipv4Net::default()),
            ip_range6: Some(ipnet::Ipv6Net::default()),
            options: any(text()),
            labels: any(text()),
            containers: any(NetworkMember {
                name: text(),
                ip_address: Some(address()),
                ip6_address: Some(std::net::Ipv6Addr::UNSPECIFIED),
                mac_address: Mac::ZERO,
                port_id: 0,
            }),
            ..Self::default()
        }
    }
}

impl Row for Port {
    const HEADERS: &'static [&'static str] =
        &["PORT", "NETWORK", "CONTAINER", "LINK", "RX FRAMES", "RX BYTES", "TX FRAMES", "TX BYTES", "DROPS", "OFFLOADS", "BACKEND"];

    fn cells(&self, _: &View) -> Vec<String> {
        vec![
            number(self.id),
            self.network.clone(),
            self.container.clone(),
            self.link.clone(),
            number(self.rx_frames),
            number(self.rx_bytes),
            number(self.tx_frames),
            number(self.tx_bytes),
            number(self.drops.values().sum::<u64>()),
            self.offloads.join(","),
            self.backend.clone(),
        ]
    }

    fn sample() -> Self {
        Self { drops: any(0), offloads: vec![text()], impairment: Some(text()), ..Self::default() }
    }
}

impl Row for FdbEntry {
    const HEADERS: &'static [&'static str] = &["MAC", "NETWORK", "VLAN", "PORT", "CONTAINER", "AGE", "STATIC"];

    fn cells(&self, _: &View) -> Vec<String> {
        vec![
            number(self.mac),
            self.network.clone(),
            self.vlan.map(number).unwrap_or_default(),
            number(self.port),
            self.container.clone(),
            if self.is_static { text() } else { format!("{}s", self.age_seconds) },
            if self.is_static { "yes".into() } else { "no".into() },
        ]
    }

    fn sample() -> Self {
        Self { network: text(), mac: Mac::ZERO, vlan: Some(1), port: 0, container: text(), age_seconds: 0, is_static: false }
    }
}

impl Row for Lease {
    const HEADERS: &'static [&'static str] =
        &["IP ADDRESS", "NETWORK", "IPV6 ADDRESS", "MAC ADDRESS", "CONTAINER", "CONTAINER ID", "SINCE", "EXPIRES"];

    fn cells(&self, view: &View) -> Vec<String> {
        vec![
            self.ip_address.map(number).unwrap_or_default(),
            self.network.clone(),
            self.ip6_address.map(number).unwrap_or_default(),
            number(self.mac_address),
            self.container.clone(),
            view.id(&self.container_id),
            human::since(&self.since, view.now).map(|age| format!("{age} ago")).unwrap_or_default(),
            self.expires.clone().unwrap_or_default(),
        ]
    }

    fn sample() -> Self {
        Self {
            network: text(),
            ip_address: Some(address()),
            ip6_address: Some(std::net::Ipv6Addr::UNSPECIFIED),
            mac_address: Mac::ZERO,
            container: text(),
            container_id: text(),
            since: text(),
            expires: Some(text()),
        }
    }
}

impl Row for Flow {
    const HEADERS: &'static [&'static str] =
        &["PROTOCOL", "NETWORK", "CONTAINER", "PORT", "INSIDE", "DIRECTION", "OUTSIDE", "STATE", "IDLE"];

    fn cells(&self, _: &View) -> Vec<String> {
        vec![
            self.protocol.clone(),
            self.network.clone(),
            self.container.clone(),
            number(self.port),
            self.inside.clone(),
            self.direction.clone(),
            self.outside.clone(),
            self.state.clone(),
            format!("{}s", self.idle_seconds),
        ]
    }

    fn sample() -> Self {
        Self::default()
    }
}

impl Row for Drop {
    const HEADERS: &'static [&'static str] = &["REASON", "FRAMES", "NETWORK", "PORT", "CONTAINER", "MEANING"];

    fn cells(&self, _: &View) -> Vec<String> {
        vec![
            self.reason.clone(),
            number(self.frames),
            self.network.clone(),
            number(self.port),
            self.container.clone(),
            self.meaning.clone(),
        ]
    }

    fn sample() -> Self {
        Self::default()
    }
}

impl Row for Event {
    const HEADERS: &'static [&'static str] = &["TIME", "KIND", "ACTION", "NAME", "ID", "ATTRIBUTES"];

    fn cells(&self, view: &View) -> Vec<String> {
        let attributes = self.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
        vec![self.time.clone(), self.kind.clone(), self.action.clone(), self.name.clone(), view.id(&self.id), attributes.join(" ")]
    }

    fn sample() -> Self {
        Self { attributes: any(text()), ..Self::default() }
    }
}

impl Row for Stats {
    const HEADERS: &'static [&'static str] = &["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "NET RX / TX", "PIDS"];

    fn cells(&self, view: &View) -> Vec<String> {
        let limit = self.memory_limit_bytes.map_or_else(|| "-".into(), human::bytes);
        vec![
            view.id(&self.id),
            self.name.clone(),
            format!("{:.2}%", self.cpu_percent),
            format!("{} / {limit}", human::bytes(self.memory_bytes)),
            format!("{} / {}", human::bytes(self.rx_bytes), human::bytes(self.tx_bytes)),
            number(self.pids),
        ]
    }

    fn sample() -> Self {
        Self { memory_limit_bytes: Some(0), ..Self::default() }
    }
}

impl Row for Finding {
    const HEADERS: &'static [&'static str] = &["NAME", "VERDICT", "DETAIL", "HINT"];

    fn cells(&self, _: &View) -> Vec<String> {
        vec![self.name.clone(), format!("{:?}", self.verdict).to_lowercase(), self.detail.clone(), self.hint.clone().unwrap_or_default()]
    }

    fn sample() -> Self {
        Self { name: text(), verdict: Verdict::Good, detail: text(), hint: Some(text()) }
    }
}

impl Row for PortBinding {
    const HEADERS: &'static [&'static str] = &["CONTAINER PORT", "HOST"];

    fn cells(&self, _: &View) -> Vec<String> {
        let host = human::host(self.host_ip, &self.host_port.to_string());
        vec![format!("{}/{}", self.container_port, human::protocol(self.protocol)), host]
    }

    fn sample() -> Self {
        Self { host_ip: address().into(), host_port: 0, container_port: 0, protocol: Protocol::Tcp }
    }
}

/// What of a port's drops happened since it was looked at before: a line of `drops -f`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NewDrops {
    pub time: String,
    #[serde(flatten)]
    pub drop: Drop,
}

impl Row for NewDrops {
    const HEADERS: &'static [&'static str] = &["TIME", "REASON", "FRAMES", "NETWORK", "PORT", "CONTAINER", "MEANING"];

    fn cells(&self, view: &View) -> Vec<String> {
        std::iter::once(self.time.clone()).chain(self.drop.cells(view)).collect()
    }

    fn sample() -> Self {
        Self::default()
    }
}

/// `version`
#[derive(Clone, Debug, Default, Serialize)]
pub struct Versions {
    pub version: String,
    pub protocol_version: u32,
    /// Null where no daemon runs.
    pub daemon: Option<crate::api::Version>,
}

impl Row for Versions {
    const HEADERS: &'static [&'static str] = &["", "VERSION", "PID", "STARTED"];

    fn cells(&self, _: &View) -> Vec<String> {
        vec!["netloom".into(), self.version.clone(), text(), text()]
    }

    fn sample() -> Self {
        Self { daemon: Some(crate::api::Version::default()), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::api::State;

    /// Keys whose values would be null or empty hide what is below them.
    fn assert_full(value: &Value, path: &str) {
        match value {
            Value::Null => panic!("`{path}` is null in the sample"),
            Value::Object(keys) if keys.is_empty() => panic!("`{path}` is empty in the sample"),
            Value::Object(keys) => keys.iter().for_each(|(key, below)| assert_full(below, &format!("{path}.{key}"))),
            Value::Array(items) => assert_full(items.first().unwrap_or_else(|| panic!("`{path}` is empty in the sample")), path),
            _ => {}
        }
    }

    fn check<R: Row>() {
        let sample = R::sample();
        assert_full(&serde_json::to_value(&sample).expect("JSON"), "");
        let view = View { no_trunc: false, now: std::time::SystemTime::UNIX_EPOCH };
        assert_eq!(sample.cells(&view).len(), R::HEADERS.len(), "{:?}", R::HEADERS);
    }

    #[test]
    fn every_row_has_a_full_sample_and_a_cell_for_each_header() {
        check::<Container>();
        check::<Network>();
        check::<Port>();
        check::<FdbEntry>();
        check::<Lease>();
        check::<Flow>();
        check::<Drop>();
        check::<NewDrops>();
        check::<Event>();
        check::<Stats>();
        check::<PortBinding>();
        check::<Versions>();
        check::<Finding>();
    }

    #[test]
    fn ps_shows_a_container_as_docker_does() {
        let container = Container {
            id: "0123456789abcdef".repeat(4),
            name: "serene_hopper".into(),
            state: State::Created,
            network_mode: "bridge".into(),
            command: ["busybox", "httpd", "-f", "-p", "80"].map(str::to_owned).to_vec(),
            created: "1970-01-01T00:00:00Z".into(),
            ..Container::default()
        };
        let now = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(300);
        let short = container.cells(&View { no_trunc: false, now });
        assert_eq!(short, ["0123456789ab", "bridge", "\"busybox httpd -f -p…\"", "5 minutes ago", "Created", "", "serene_hopper"]);
        let long = container.cells(&View { no_trunc: true, now });
        assert_eq!((long[0].len(), long[2].as_str()), (64, "\"busybox httpd -f -p 80\""));
    }
}
