//! Netloom's data path alone: the example `join` of netloom-runtime, which puts namespaces on one switch with its gateway.

use std::net::Ipv4Addr;

use super::{End, Kind, Peer, SERVICE, Setting, host};
use crate::{error::Result, netns::Netns, process::Process};

/// As the example has it.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const A: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const B: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 3);
const WORKERS: usize = 2;

pub(super) fn set_up(setting: &Setting) -> Result<Peer> {
    joined(setting, "")
}

pub(super) fn with_napi(setting: &Setting) -> Result<Peer> {
    joined(setting, "napi")
}

fn joined(setting: &Setting, napi: &str) -> Result<Peer> {
    let new = |part: &str| Netns::new(format!("{}{part}", setting.tag));
    let (host, a) = (host(format!("{}h", setting.tag))?, new("a")?);
    let b = if setting.kind == Kind::Switch { Some(new("b")?) } else { None };
    let ends = || std::iter::once((&a, A)).chain(b.as_ref().map(|b| (b, B)));
    let words: Vec<String> = ends().map(|(end, address)| format!("{}={address}", end.name())).collect();
    let example = setting.netloom.with_file_name("examples").join("join");
    let line = format!("{} {napi} {WORKERS} {}", example.display(), words.join(" "));
    // It prints a line for each port, in order.
    let last = b.as_ref().unwrap_or(&a).name();
    let process = Process::start_until(host.command_line(&line), &format!("{last}: port"))?;
    for (end, address) in ends() {
        end.ip(&format!("addr add {address}/24 dev eth0"))?;
        end.ip("link set eth0 up")?;
        end.ip(&format!("route add default via {GATEWAY}"))?;
    }
    let target = if b.is_some() { B } else { SERVICE };
    let (b, between) = match b {
        Some(b) => (End { netns: b, device: "eth0".into() }, vec![(host, Vec::new())]),
        None => (End { netns: host, device: "svc0".into() }, Vec::new()),
    };
    let a = End { netns: a, device: "eth0".into() };
    // The example makes its ports for Ethernet's MTU.
    Ok(Peer { forwarders: vec![process.pid()], between, processes: vec![process], ..Peer::between(setting, a, b, target) })
}
