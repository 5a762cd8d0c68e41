//! What a host has: everything that netloom must leave as it found it.

use std::collections::{BTreeMap, BTreeSet};

use crate::host::Host;

/// Keys whose values move by themselves, or that the machine's other work moves.
const RESTLESS: &[&str] = &[
    "fs.",
    "kernel.random.",
    "kernel.ns_last_pid",
    "kernel.pty.nr",
    "kernel.perf_event",
    "kernel.tainted",
    "net.netfilter.nf_conntrack_count",
    "kernel.sched",
    "vm.stat",
    "debug.",
    "dev.",
];

/// The lines of each kind of thing, as the kernel's own tools write them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<&'static str, BTreeSet<String>>);

impl Snapshot {
    /// Processes, namespaces, mounts and links: what a crash might leave.
    #[track_caller]
    pub fn of(host: &Host) -> Self {
        let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", host.init())).expect("the host's mounts");
        let mut all = BTreeMap::from([
            ("mount", mounts.lines().map(Into::into).collect()),
            ("link", lines(&host.ok("ip -o link"))),
            ("address", lines(&host.ok("ip -o addr"))),
            ("route", lines(&host.ok("ip route show table all"))),
            ("IPv6 route", lines(&host.ok("ip -6 route show table all"))),
            ("rule", lines(&host.ok("ip rule"))),
            ("named namespace", lines(&host.ok("ip netns"))),
        ]);
        all.insert("process", host.processes().into_iter().map(|(pid, line)| format!("{pid} {line}")).collect());
        Self(all)
    }

    /// As [`Snapshot::of`], with packet filter rules and sysctls.
    #[track_caller]
    pub fn of_everything(host: &Host) -> Self {
        let mut all = Self::of(host);
        all.0.insert("nft rule", lines(&host.ok("nft list ruleset")));
        let sysctls = lines(&host.try_run("sysctl -a").text());
        assert!(sysctls.len() > 100, "sysctl -a says little");
        all.0.insert("sysctl", sysctls.into_iter().filter(|line| !RESTLESS.iter().any(|key| line.starts_with(key))).collect());
        all
    }

    /// What there is now and was not before (`+`), and what is gone (`-`).
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let none = BTreeSet::new();
        let mut changes = Vec::new();
        for (kind, now) in &self.0 {
            let then = before.0.get(kind).unwrap_or(&none);
            changes.extend(now.difference(then).map(|line| format!("+ {kind}: {line}")));
            changes.extend(then.difference(now).map(|line| format!("- {kind}: {line}")));
        }
        changes
    }
}

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(Into::into).collect()
}
