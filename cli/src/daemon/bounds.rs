//! What a network lets each of its containers hold in the gateway, and for how long: the `-o` keys of limits and timeouts.
//!
//! One table says for each key which field it is, and what it may be.

use std::{ops::RangeInclusive, time::Duration};

use netloom_switch::gateway::Limits;
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};

/// The bounds of one network, as its file keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Bounds {
    tcp_flows: usize,
    tcp_half_open: usize,
    tcp_idle: Duration,
    tcp_transitory: Duration,
    udp_mappings: usize,
    udp_idle: Duration,
    udp_dns_idle: Duration,
    udp_clients: usize,
    dns_queries: usize,
    fragments: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            tcp_flows: limits.tcp_flows,
            tcp_half_open: limits.tcp_half_open,
            tcp_idle: limits.tcp_established,
            tcp_transitory: limits.tcp_transitory,
            udp_mappings: limits.udp_mappings,
            udp_idle: limits.udp_idle,
            udp_dns_idle: limits.udp_dns_idle,
            udp_clients: limits.udp_clients,
            dns_queries: limits.dns_queries,
            fragments: limits.fragments,
        }
    }
}

#[derive(Clone, Copy)]
enum Field {
    /// So many, or none.
    Count(fn(&mut Bounds) -> &mut usize),
    Time(fn(&mut Bounds) -> &mut Duration),
}

const FIELDS: [(&str, Field); 10] = [
    ("dns-queries", Field::Count(|bounds| &mut bounds.dns_queries)),
    ("fragments", Field::Count(|bounds| &mut bounds.fragments)),
    ("tcp-flows", Field::Count(|bounds| &mut bounds.tcp_flows)),
    ("tcp-half-open", Field::Count(|bounds| &mut bounds.tcp_half_open)),
    ("tcp-idle", Field::Time(|bounds| &mut bounds.tcp_idle)),
    ("tcp-transitory", Field::Time(|bounds| &mut bounds.tcp_transitory)),
    ("udp-clients", Field::Count(|bounds| &mut bounds.udp_clients)),
    ("udp-dns-idle", Field::Time(|bounds| &mut bounds.udp_dns_idle)),
    ("udp-idle", Field::Time(|bounds| &mut bounds.udp_idle)),
    ("udp-mappings", Field::Count(|bounds| &mut bounds.udp_mappings)),
];

const COUNTS: RangeInclusive<usize> = 0..=1 << 20;
const TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(1_000_000);

impl Bounds {
    /// Sets one key from its text; `None`: this is no key of bounds.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Option<Result<()>> {
        let (_, field) = FIELDS.into_iter().find(|(name, _)| *name == key)?;
        Some(match field {
            Field::Count(of) => count(key, value, COUNTS).map(|count| *of(self) = count),
            Field::Time(of) => time(key, value, TIMES).map(|time| *of(self) = time),
        })
    }

    /// Every key with its value.
    pub(super) fn view(mut self) -> impl Iterator<Item = (&'static str, String)> {
        FIELDS.into_iter().map(move |(key, field)| match field {
            Field::Count(of) => (key, of(&mut self).to_string()),
            Field::Time(of) => (key, seconds(*of(&mut self))),
        })
    }

    pub(super) fn keys() -> impl Iterator<Item = &'static str> {
        FIELDS.into_iter().map(|(key, _)| key)
    }

    /// What each of the network's gateways is told.
    pub(crate) fn limits(self) -> Limits {
        Limits {
            tcp_flows: self.tcp_flows,
            tcp_half_open: self.tcp_half_open,
            tcp_established: self.tcp_idle,
            tcp_transitory: self.tcp_transitory,
            udp_mappings: self.udp_mappings,
            udp_idle: self.udp_idle,
            udp_dns_idle: self.udp_dns_idle,
            udp_clients: self.udp_clients,
            dns_queries: self.dns_queries,
            fragments: self.fragments,
            ..Limits::default()
        }
    }
}

/// A number from its text.
pub(super) fn count(key: &str, value: &str, range: RangeInclusive<usize>) -> Result<usize> {
    let may = || format!("a number from {} to {}", range.start(), range.end());
    value.parse().ok().filter(|count| range.contains(count)).ok_or_else(|| wrong(key, value, may()))
}

/// A time from its text.
pub(super) fn time(key: &str, value: &str, range: RangeInclusive<Duration>) -> Result<Duration> {
    let time = humantime::parse_duration(value).map_err(|_| wrong(key, value, "a time with a unit, such as 300s".to_owned()))?;
    let may = || format!("{} to {}", seconds(*range.start()), seconds(*range.end()));
    if range.contains(&time) { Ok(time) } else { Err(wrong(key, value, may())) }
}

pub(super) fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs_f64())
}

pub(super) fn wrong(key: &str, value: &str, may: String) -> Error {
    Error::invalid(format!("`{value}` is no value for `{key}`")).hint(may)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_reaches_the_gateway_and_is_shown_as_set() {
        let mut bounds = Bounds::default();
        assert_eq!(bounds.limits(), Limits::default());
        for (number, key) in (2..).zip(Bounds::keys()) {
            let before = bounds.limits();
            let value = if key.contains("idle") || key.contains("transitory") { format!("{number}s") } else { number.to_string() };
            bounds.set(key, &value).unwrap().unwrap();
            assert_ne!(bounds.limits(), before, "{key}");
            assert!(bounds.view().any(|(shown, text)| shown == key && text == value), "{key}");
        }
    }

    #[test]
    fn a_file_of_an_older_version_has_the_usual_bounds() {
        assert_eq!(serde_json::from_str::<Bounds>(r#"{"tcp_flows":7}"#).unwrap(), Bounds { tcp_flows: 7, ..Bounds::default() });
    }

    #[test]
    fn what_no_bound_can_be_is_refused_with_what_can() {
        for (key, value, hint) in [
            ("tcp-flows", "-1", "a number from 0 to 1048576"),
            ("tcp-flows", "1048577", "a number from 0 to 1048576"),
            ("udp-idle", "300", "a time with a unit, such as 300s"),
            ("tcp-idle", "0s", "1s to 1000000s"),
        ] {
            let error = Bounds::default().set(key, value).unwrap().unwrap_err();
            assert_eq!((error.message.contains(value), error.hint.as_deref()), (true, Some(hint)), "{key}={value}");
        }
        assert!(Bounds::default().set("ageing", "1s").is_none());
    }
}
