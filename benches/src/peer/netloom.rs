//! Netloom itself: an instance of its own, whose containers are the ends.

use std::{path::PathBuf, process::Command};

use super::{End, Kind, Peer, SERVICE, Setting, host};
use crate::{
    error::{BenchError, Result},
    machine::processes,
    netns::Netns,
    process::run,
};

const A: &str = "end-a";
const B: &str = "end-b";
const LARGEST_MTU: u32 = 65520;

/// One `--root` in the namespace that plays its host.
struct Instance<'a> {
    setting: &'a Setting,
    host: &'a Netns,
    root: PathBuf,
}

pub(super) fn set_up(setting: &Setting) -> Result<Peer> {
    let host = host(format!("{}h", setting.tag))?;
    let instance = Instance { setting, host: &host, root: PathBuf::from("/run").join(&setting.tag) };
    let a = instance.container(A)?;
    let (b, target) = match setting.kind {
        Kind::Nat => (None, SERVICE),
        Kind::Switch => (Some(instance.container(B)?), instance.inspect(B, "{{.networks.bridge.ip_address}}")?),
    };
    let root = instance.root.display().to_string();
    let forwarders = processes("netloom", |words| words.contains(&root) && words.iter().any(|word| word == "__daemon"));
    let tear_down = Some(instance.netloom(&["rm", "-f", A, B]));
    let (b, between) = match b {
        Some(b) => (End { netns: b, device: "eth0".into() }, vec![(host, Vec::new())]),
        None => (End { netns: host, device: "svc0".into() }, Vec::new()),
    };
    Ok(Peer {
        name: setting.name.clone(),
        kind: setting.kind,
        a: End { netns: a, device: "eth0".into() },
        b,
        target,
        forwarders,
        between,
        largest_mtu: LARGEST_MTU,
        processes: Vec::new(),
        tear_down,
    })
}

impl Instance<'_> {
    /// Starts a container that idles, and names its network namespace.
    ///
    /// One on a switch may use the largest MTU that a work asks for; what it uses is set for each work.
    fn container(&self, name: &str) -> Result<Netns> {
        let mtu = if self.setting.kind == Kind::Switch { LARGEST_MTU } else { 1500 };
        run(self.netloom(&["run", "-d", "--name", name, "--mtu", &mtu.to_string(), "sleep", "1000000"]))?;
        let pid = self.inspect(name, "{{.pid}}")?;
        Netns::of_process(format!("{}{name}", self.setting.tag), pid)
    }

    fn inspect<T: std::str::FromStr>(&self, name: &str, template: &str) -> Result<T> {
        let said = run(self.netloom(&["inspect", name, "--format", template]))?;
        let lacks = "a value of the right kind";
        said.trim().parse().map_err(|_| BenchError::Answer { program: format!("netloom inspect {template}"), answer: said, lacks })
    }

    fn netloom(&self, words: &[&str]) -> Command {
        let mut command = self.host.command(&self.setting.netloom);
        command.arg("--root").arg(&self.root).args(words);
        command
    }
}
