//! NAT by host sockets: slirp4netns and pasta, between a guest and a namespace that plays the host.

use super::{End, Peer, SERVICE, Setting, host};
use crate::{error::Result, netns::Netns, process::Process};

/// The largest that both take, and the best for both.
const BEST_MTU: u32 = 65520;

pub(super) fn slirp4netns(setting: &Setting) -> Result<Peer> {
    slirp4netns_at(setting, BEST_MTU)
}

pub(super) fn slirp4netns_1500(setting: &Setting) -> Result<Peer> {
    slirp4netns_at(setting, 1500)
}

pub(super) fn pasta(setting: &Setting) -> Result<Peer> {
    pasta_at(setting, BEST_MTU)
}

pub(super) fn pasta_1500(setting: &Setting) -> Result<Peer> {
    pasta_at(setting, 1500)
}

fn slirp4netns_at(setting: &Setting, mtu: u32) -> Result<Peer> {
    between(setting, "tap0", |guest| format!("slirp4netns --configure --mtu={mtu} --netns-type=path {} tap0", guest.path().display()))
}

fn pasta_at(setting: &Setting, mtu: u32) -> Result<Peer> {
    between(setting, "up0", |guest| {
        let path = guest.path();
        format!("pasta --config-net -f -m {mtu} -t none -u none -T none -U none --runas 0 --netns {}", path.display())
    })
}

/// A guest, a host, and the program that the line starts in the host.
fn between(setting: &Setting, device: &str, line: impl Fn(&Netns) -> String) -> Result<Peer> {
    let guest = Netns::new(format!("{}a", setting.tag))?;
    let host = host(format!("{}h", setting.tag))?;
    let program = Process::start(host.command_line(&line(&guest)))?;
    let (a, b) = (End { netns: guest, device: device.into() }, End { netns: host, device: "svc0".into() });
    Ok(Peer { forwarders: vec![program.pid()], processes: vec![program], ..Peer::between(setting, a, b, SERVICE) })
}
