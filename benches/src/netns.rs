//! Network namespaces by name, as `ip netns` keeps them, and the links in them.

use std::{net::Ipv4Addr, path::PathBuf, process::Command};

use serde_json::Value;

use crate::{
    error::{BenchError, Result},
    process::{run, sh},
};

/// A named network namespace. Dropping it removes the name; the namespace ends with its last process.
#[derive(Debug)]
pub struct Netns {
    name: String,
    is_alias: bool,
}

impl Netns {
    /// A new namespace whose `lo` is up.
    pub fn new(name: String) -> Result<Self> {
        sh(&format!("ip netns add {name}"))?;
        let made = Self { name, is_alias: false };
        made.ip("link set lo up")?;
        Ok(made)
    }

    /// A name for the namespace that a process is in.
    pub fn of_process(name: String, pid: u32) -> Result<Self> {
        sh(&format!("ip netns attach {name} {pid}"))?;
        Ok(Self { name, is_alias: false })
    }

    /// The same namespace once more, for one who does not keep it.
    #[must_use]
    pub fn alias(&self) -> Self {
        Self { name: self.name.clone(), is_alias: true }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// `ip` with these words, in this namespace.
    pub fn ip(&self, words: &str) -> Result<String> {
        sh(&format!("ip -n {} {words}", self.name))
    }

    /// A command whose process will be in this namespace, with the process ID that `spawn` returns.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// As [`Netns::command`], from a line of words that contain no blanks.
    #[must_use]
    pub fn command_line(&self, line: &str) -> Command {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().unwrap_or_default());
        command.args(words);
        command
    }

    /// A pair of links: `outer` here, `inner` in the namespace `guest` with an address; both up.
    pub fn add_veth(&self, outer: &str, guest: &Self, inner: &str, address: Ipv4Addr) -> Result<()> {
        self.ip(&format!("link add {outer} type veth peer name {inner} netns {}", guest.name))?;
        self.ip(&format!("link set {outer} up"))?;
        guest.ip(&format!("addr add {address}/24 dev {inner}"))?;
        guest.ip(&format!("link set {inner} up"))?;
        Ok(())
    }

    /// Makes `name` what new TCP sockets of this namespace begin with, as long as the value lives.
    pub fn with_congestion_control(&self, name: &str) -> Result<CongestionControl> {
        let mut read = self.command("cat");
        read.arg(CONGESTION_CONTROL);
        let made = CongestionControl { netns: self.alias(), found: run(read)?.trim().to_owned() };
        made.set(name)?;
        Ok(made)
    }

    pub fn link(&self, device: &str) -> Result<Link> {
        let command = format!("ip -n {} -s -j link show {device}", self.name);
        Link::parse(&command, &run(crate::process::command(&command))?)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // The mount namespace of the bench is the last holder of the name; a failure here leaves nothing behind either.
        if !self.is_alias {
            let _ = sh(&format!("ip netns del {}", self.name));
        }
    }
}

/// Of the network namespace of whoever opens it.
const CONGESTION_CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

/// The congestion control of a namespace is another; dropping this puts back what it was.
#[derive(Debug)]
pub struct CongestionControl {
    netns: Netns,
    found: String,
}

impl CongestionControl {
    fn set(&self, name: &str) -> Result<()> {
        let mut write = self.netns.command("sh");
        write.args(["-c", "printf %s \"$0\" > \"$1\"", name, CONGESTION_CONTROL]);
        run(write).map(drop)
    }
}

impl Drop for CongestionControl {
    fn drop(&mut self) {
        // A namespace that is gone has none.
        let _ = self.set(&self.found);
    }
}

/// What `ip -s -j link show` says about one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// As text: `02:00:00:00:00:01`.
    pub mac: String,
    pub received_frames: u64,
    /// Of those that came, what this end's kernel would not take.
    pub receive_dropped: u64,
    pub sent_frames: u64,
    /// What the device's own queue had no room for: of a TAP, its ring.
    pub send_dropped: u64,
}

impl Link {
    fn parse(command: &str, json: &str) -> Result<Self> {
        let lacks = |lacks| BenchError::Answer { program: command.to_owned(), answer: json.chars().take(200).collect(), lacks };
        let value: Value = serde_json::from_str(json).map_err(|_| lacks("JSON"))?;
        let mac = value.pointer("/0/address").and_then(Value::as_str).ok_or_else(|| lacks("an address"))?;
        let counter = |name: &str| {
            let counter = value.pointer(&format!("/0/stats64/{name}")).and_then(Value::as_u64);
            counter.ok_or_else(|| lacks("counters"))
        };
        Ok(Self {
            mac: mac.to_owned(),
            received_frames: counter("rx/packets")?,
            receive_dropped: counter("rx/dropped")?,
            sent_frames: counter("tx/packets")?,
            send_dropped: counter("tx/dropped")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_links_address_and_counter_are_read() {
        let json = r#"[{"ifname":"eth0","address":"02:00:00:00:00:07","stats64":{"rx":{"bytes":9,"packets":42,"dropped":3},
            "tx":{"packets":1,"dropped":2}}}]"#;
        let link = Link { mac: "02:00:00:00:00:07".into(), received_frames: 42, receive_dropped: 3, sent_frames: 1, send_dropped: 2 };
        assert_eq!(Link::parse("ip", json).unwrap(), link);
    }

    #[test]
    fn a_link_without_counters_is_an_error_that_says_so() {
        let error = Link::parse("ip", r#"[{"address":"02:00:00:00:00:07"}]"#).unwrap_err();
        assert!(error.to_string().contains("lacks counters"), "{error}");
    }
}
