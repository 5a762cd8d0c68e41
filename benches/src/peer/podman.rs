//! podman with `--network=bridge`, as root and as an ordinary user, and as that user with slirp4netns: containers whose root is busybox
//! alone, so no image is needed.

use std::{fs, path::PathBuf, process::Command};

use serde_json::Value;

use super::{End, Kind, Peer, SERVICE, Setting, TearDown, host, netloom::USER};
use crate::{
    error::{BenchError, Result},
    netns::Netns,
    process::{find, make_folder, run, sh},
};

const FOLDERS: [&str; 7] = ["bin", "dev", "etc", "proc", "run", "sys", "tmp"];
const PROGRAMS: [&str; 2] = ["sleep", "true"];

#[derive(Debug)]
pub(super) struct Podman {
    host: Netns,
    /// Its state, its user's home, and the root of its containers.
    folder: PathBuf,
    user: Option<u32>,
    network: Network,
}

/// What podman's `--network` takes, and the device that a container gets from it.
#[derive(Clone, Copy, Debug)]
struct Network(&'static str, &'static str);

const BRIDGE: Network = Network("bridge", "eth0");

pub(super) fn by_root(setting: &Setting) -> Result<Peer> {
    made(setting, None, BRIDGE)
}

pub(super) fn by_a_user(setting: &Setting) -> Result<Peer> {
    made(setting, Some(USER), BRIDGE)
}

/// Each container has a slirp4netns of its own: there is no way from one to another but a published port.
pub(super) fn by_a_user_with_slirp4netns(setting: &Setting) -> Result<Peer> {
    made(setting, Some(USER), Network("slirp4netns", "tap0"))
}

fn made(setting: &Setting, user: Option<u32>, network: Network) -> Result<Peer> {
    let host = host(format!("{}h", setting.tag))?;
    let podman = Podman { host: host.alias(), folder: PathBuf::from("/run").join(&setting.tag), user, network };
    podman.make_root()?;
    let on = |netns: Netns, device: &str| End { netns, device: device.into() };
    let a = podman.container(&setting.tag, "a")?;
    let mut peer = match setting.kind {
        Kind::Nat => Peer::between(setting, on(a, network.1), on(host, "svc0"), SERVICE),
        Kind::Start => {
            let peer = Peer::between(setting, on(host.alias(), "lo"), on(host, "lo"), std::net::Ipv4Addr::LOCALHOST);
            Peer { between: vec![(a, Vec::new())], ..peer }
        }
        _ => {
            let b = podman.container(&setting.tag, "b")?;
            let target = address(&b)?;
            Peer { between: vec![(host, Vec::new())], ..Peer::between(setting, on(a, network.1), on(b, network.1), target) }
        }
    };
    peer.tear_down = TearDown(Some(podman.podman(&["rm", "-f", "-t", "0", "-a"])));
    peer.podman = Some(podman);
    Ok(peer)
}

impl Podman {
    fn make_root(&self) -> Result<()> {
        let root = self.folder.join("rootfs");
        FOLDERS.iter().try_for_each(|name| make_folder(&root.join(name)))?;
        let failed = || BenchError::io("making a root of busybox for podman");
        let busybox =
            find("busybox").ok_or_else(|| BenchError::Unknown { kind: "program", name: "busybox".into(), known: "none".into() })?;
        fs::copy(busybox, root.join("bin/busybox")).map_err(failed())?;
        for program in PROGRAMS {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(program)).map_err(failed())?;
        }
        let user = self.user.unwrap_or(0);
        sh(&format!("chown -R {user}:{user} {}", self.folder.display())).map(|_| ())
    }

    /// Starts one that idles, and names its network namespace.
    fn container(&self, tag: &str, name: &str) -> Result<Netns> {
        run(self.run(&["-d", "--name", name], &["sleep", "1000000"]))?;
        let said = run(self.podman(&["inspect", "--format", "{{.State.Pid}}", name]))?;
        let lacks = "a process";
        let pid = said.trim().parse().map_err(|_| BenchError::Answer { program: "podman inspect".into(), answer: said, lacks })?;
        Netns::of_process(format!("{tag}{name}"), pid)
    }

    pub(super) fn start(&self) -> Command {
        self.run(&["--rm"], &["true"])
    }

    fn run(&self, options: &[&str], command: &[&str]) -> Command {
        let root = self.folder.join("rootfs").display().to_string();
        // Without an init system there is nobody to make groups.
        let fixed = ["--network", self.network.0, "--cgroups=disabled", "--rootfs", &root];
        self.podman(&[&["run"], options, &fixed, command].concat())
    }

    fn podman(&self, words: &[&str]) -> Command {
        let mut command = match self.user {
            None => self.host.command("podman"),
            Some(user) => {
                let mut command = self.host.command("setpriv");
                command.args(["--reuid", &user.to_string(), "--regid", &user.to_string(), "--clear-groups", "podman"]);
                command.env("XDG_RUNTIME_DIR", &self.folder).env("HOME", &self.folder);
                command
            }
        };
        command.current_dir("/").args(words);
        command
    }
}

/// The first IPv4 address of a container's `eth0`.
fn address(netns: &Netns) -> Result<std::net::Ipv4Addr> {
    let said = netns.ip("-4 -j addr show eth0")?;
    let value: Option<Value> = serde_json::from_str(&said).ok();
    let address = value.as_ref().and_then(|value| value.pointer("/0/addr_info/0/local")?.as_str()?.parse().ok());
    address.ok_or_else(|| BenchError::Answer { program: "ip addr".into(), answer: said, lacks: "an address" })
}
