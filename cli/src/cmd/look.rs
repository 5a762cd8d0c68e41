//! Looking inside the switches: `fdb ports leases flows drops events`.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use serde::de::{DeserializeOwned, IgnoredAny};

use super::{Context, network::port_number, network_path};
use crate::{
    api::{Drop, Event, FdbChange, FdbEntry, Flow, Lease, Port},
    args::{
        format::ListArgs,
        look::{DropsArgs, EventsArgs, FdbArgs, FdbCommand, FlowsArgs, LeasesArgs, PortsArgs},
    },
    client::segment,
    error::CliError,
    output::{self, Format, Row, View, rows::NewDrops, table::printable},
};

/// How often `drops -f` looks.
const PERIOD: Duration = Duration::from_secs(1);

pub fn fdb(args: FdbArgs, context: &Context) -> Result<(), CliError> {
    match args.command {
        None => listing::<FdbEntry>("fdb", args.network.as_deref(), &args.list, context),
        Some(FdbCommand::Add { network, mac, port }) => {
            let change = FdbChange { mac, port: Some(port_number(&network, &port, context)?) };
            context.client.post::<IgnoredAny>(&format!("{}/fdb", network_path(&network)), &change).map(|_| ())
        }
        Some(FdbCommand::Del { network, mac, port }) => {
            let port = port.map(|port| port_number(&network, &port, context)).transpose()?;
            let change = FdbChange { mac, port };
            context.client.delete_with::<IgnoredAny>(&format!("{}/fdb", network_path(&network)), &change).map(|_| ())
        }
    }
}

pub fn ports(args: &PortsArgs, context: &Context) -> Result<(), CliError> {
    listing::<Port>("ports", args.network.as_deref(), &args.list, context)
}

pub fn leases(args: &LeasesArgs, context: &Context) -> Result<(), CliError> {
    listing::<Lease>("leases", args.network.as_deref(), &args.list, context)
}

pub fn flows(args: &FlowsArgs, context: &Context) -> Result<(), CliError> {
    listing::<Flow>("flows", args.network.as_deref(), &args.list, context)
}

fn listing<R: Row + DeserializeOwned>(what: &str, network: Option<&str>, list: &ListArgs, context: &Context) -> Result<(), CliError> {
    let format = Format::of::<R>(&list.format)?;
    let rows: Vec<R> = context.client.get(&path(what, network))?;
    output::list(&rows, &format, list)
}

fn path(what: &str, network: Option<&str>) -> String {
    match network {
        Some(network) => format!("/v1/{what}?network={}", segment(network)),
        None => format!("/v1/{what}"),
    }
}

pub fn drops(args: &DropsArgs, context: &Context) -> Result<(), CliError> {
    if !args.follow {
        return listing::<Drop>("drops", args.network.as_deref(), &args.list, context);
    }
    let format = Format::of_stream::<NewDrops>(&args.list.format)?;
    let path = path("drops", args.network.as_deref());
    let mut before = Seen::new(context.client.get(&path)?);
    loop {
        std::thread::sleep(PERIOD);
        let now: Vec<Drop> = context.client.get(&path)?;
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        for drop in before.news(now) {
            let row = NewDrops { time: time.clone(), drop };
            output::stream_item(&row, &format, |row| {
                let drop = &row.drop;
                let (who, reason, frames) = (printable(&drop.container), &drop.reason, drop.frames);
                format!("{} {} port {} ({who}): {frames} {reason}: {}", row.time, drop.network, drop.port, drop.meaning)
            })?;
        }
    }
}

/// The drops of an earlier look, to tell what is new.
struct Seen(BTreeMap<(String, u16, String, String), u64>);

impl Seen {
    fn new(drops: Vec<Drop>) -> Self {
        let mut seen = Self(BTreeMap::new());
        seen.news(drops);
        seen
    }

    /// The growth since the last look. A counter that is smaller belongs to a new port of the same number: all of it is new.
    fn news(&mut self, now: Vec<Drop>) -> Vec<Drop> {
        let key = |drop: &Drop| (drop.network.clone(), drop.port, drop.container.clone(), drop.reason.clone());
        let counted = now.iter().map(|drop| (key(drop), drop.frames)).collect();
        let before = std::mem::replace(&mut self.0, counted);
        let grown = now.into_iter().map(|mut drop| {
            let earlier = before.get(&key(&drop)).copied().unwrap_or(0);
            drop.frames = drop.frames.checked_sub(earlier).unwrap_or(drop.frames);
            drop
        });
        grown.filter(|drop| drop.frames > 0).collect()
    }
}

pub fn events(args: &EventsArgs, context: &Context) -> Result<(), CliError> {
    let format = Format::of_stream::<Event>(&args.format)?;
    let now = SystemTime::now();
    let view = View { no_trunc: false, now };
    let mut path = format!("/v1/events?follow={}", args.follow);
    for (key, time) in [("since", args.since), ("until", args.until)] {
        if let Some(time) = time {
            path += &format!("&{key}={}", humantime::format_rfc3339_millis(time.resolve(now)));
        }
    }
    context.client.lines(&path, |line| {
        let event: Event = serde_json::from_slice(line).map_err(|error| CliError::failed(format!("an event makes no sense: {error}")))?;
        output::stream_item(&event, &format, |event| printable(event.cells(&view).join(" ").trim_end()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drop(port: u16, reason: &str, frames: u64) -> Drop {
        Drop { network: "bridge".into(), port, reason: reason.into(), frames, ..Drop::default() }
    }

    #[test]
    fn only_new_drops_are_news_and_a_reused_port_starts_anew() {
        let mut seen = Seen::new(vec![drop(1, "runt", 5), drop(2, "runt", 7)]);
        let frames = |drops: Vec<Drop>| drops.iter().map(|drop| (drop.port, drop.frames)).collect::<Vec<_>>();
        assert_eq!(frames(seen.news(vec![drop(1, "runt", 5), drop(2, "runt", 9), drop(2, "isolated", 1)])), [(2, 2), (2, 1)]);
        assert_eq!(frames(seen.news(vec![drop(2, "runt", 3)])), [(2, 3)]);
    }

    #[test]
    fn a_network_is_a_question_of_its_own() {
        assert_eq!(path("ports", None), "/v1/ports");
        assert_eq!(path("ports", Some("a b&c")), "/v1/ports?network=a%20b%26c");
    }
}
