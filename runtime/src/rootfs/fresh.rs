//! What belongs to one start: /proc, /sys, /dev/mqueue and the console, mounted by the container's init in its own namespaces, the
//! parts of them that are hidden, and the change of root.

use std::{
    fs,
    os::fd::{AsRawFd, BorrowedFd},
    path::Path,
};

use nix::{
    mount::{MntFlags, MsFlags, umount2},
    unistd::{chdir, pivot_root},
};

use super::{mount, mountinfo};
use crate::fault::{Doing, Fault, Result};

/// How one start differs from another.
#[derive(Debug)]
pub(crate) struct Fresh<'a> {
    /// The tmpfs of the container's root.
    pub(crate) base: &'a Path,
    pub(crate) privileged: bool,
    /// Whether the network namespace was made for this container: its settings may be changed, and it may have a fresh /sys.
    pub(crate) own_network: bool,
    /// Whether the instance has a user namespace.
    pub(crate) user_namespace: bool,
    /// `--sysctl`, written before /proc/sys becomes read-only.
    pub(crate) sysctls: &'a [(String, String)],
}

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/kernel/debug",
];

/// Mounts, hides, and makes the new root the root. The caller is PID 1 of its namespace; `terminal` is the command's.
pub(crate) fn enter(fresh: &Fresh<'_>, terminal: Option<BorrowedFd<'_>>) -> Result<()> {
    let root = fresh.base.join("root");
    mount_proc(&root.join("proc"))?;
    mount_sys(fresh, &root.join("sys"))?;
    mount::fresh("mqueue", &root.join("dev/mqueue"), mount::inert(), "").or_else(|fault| ignore(fault, libc::ENODEV))?;
    if let Some(terminal) = terminal {
        let device = format!("/proc/self/fd/{}", terminal.as_raw_fd());
        mount::bind(Path::new(&device), &root.join("dev/console"), false)?;
    }
    change_root(&root)?;
    if fresh.own_network {
        network_defaults();
    }
    for (key, value) in fresh.sysctls {
        set_sysctl(key, value)?;
    }
    if !fresh.privileged {
        READ_ONLY.iter().try_for_each(|path| mount::make_read_only(Path::new(path)))?;
        MASKED.iter().try_for_each(|path| mount::mask(Path::new(path), Path::new("/dev/null")))?;
    }
    Ok(())
}

fn ignore(fault: Fault, errno: i32) -> Result<()> {
    if fault.errno() == errno { Ok(()) } else { Err(fault) }
}

fn mount_proc(at: &Path) -> Result<()> {
    mount::fresh("proc", at, mount::inert(), "").map_err(|fault| match fault.errno() {
        libc::EPERM => fault.with_hint(
            "parts of /proc are hidden here, as inside another container, and then the kernel allows no new one: let that container run \
             with --privileged or --security-opt systempaths=unconfined; `netloom doctor` tells more",
        ),
        _ => fault,
    })
}

fn mount_sys(fresh: &Fresh<'_>, at: &Path) -> Result<()> {
    let mut flags = mount::inert();
    flags.set(MsFlags::MS_RDONLY, !fresh.privileged);
    let bound = || {
        mount::bind(Path::new("/sys"), at, true)?;
        mount::restrict(at, mount::READ_ONLY, true)
    };
    if fresh.user_namespace && !fresh.own_network {
        return bound();
    }
    mount::fresh("sysfs", at, flags, "").or_else(|fault| if fresh.user_namespace { bound() } else { Err(fault) })?;
    show_cgroups(&at.join("fs/cgroup"));
    Ok(())
}

/// The container's own part of the unified hierarchy, where the host has that alone; no container depends on it.
fn show_cgroups(at: &Path) {
    let Ok(text) = fs::read_to_string("/proc/self/mountinfo") else { return };
    let unified = mountinfo::parse(&text).iter().any(|mount| mount.kind == "cgroup2" && mount.point == Path::new("/sys/fs/cgroup"));
    if unified {
        let _ = mount::fresh("cgroup2", at, mount::inert() | MsFlags::MS_RDONLY, "");
    }
}

/// Makes `root` the root, and lets go of everything else. The old root is stacked on the new one for a moment, which needs no
/// directory for it (pivot_root(2), "pivot_root(".", ".")").
fn change_root(root: &Path) -> Result<()> {
    chdir(root).doing("enter the container's root")?;
    pivot_root(".", ".").doing("change to the container's root")?;
    umount2(".", MntFlags::MNT_DETACH).doing("let go of the host's root")?;
    chdir("/").doing("enter the container's root")
}

/// As docker sets them: ping and low ports for everyone in the container's own network. Without IPv4 there are no such files, and
/// nobody misses them.
fn network_defaults() {
    // The last group that can be named is one below the largest number; a user namespace with fewer takes as many as it has.
    let groups = fs::read_to_string("/proc/self/gid_map").map_or(0, |map| last_group(&map));
    let _ = fs::write("/proc/sys/net/ipv4/ping_group_range", format!("0 {groups}"));
    let _ = fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
}

/// The end of the unbroken range of groups that begins with 0, at most 2147483647, in a gid_map (user_namespaces(7)).
fn last_group(map: &str) -> u64 {
    let numbers = |line: &str| line.split_whitespace().map(str::parse).collect::<std::result::Result<Vec<u64>, _>>().unwrap_or_default();
    let mut ranges: Vec<_> = map.lines().map(numbers).filter_map(|line| Some((*line.first()?, *line.get(2)?))).collect();
    ranges.sort_unstable();
    let end = ranges.into_iter().fold(0, |end, (first, count)| if first <= end { end.max(first + count) } else { end });
    end.saturating_sub(1).min(i32::MAX as u64)
}

fn set_sysctl(key: &str, value: &str) -> Result<()> {
    fs::write(Path::new("/proc/sys").join(sysctl_path(key)), value).map_err(|error| {
        let hint = "only sysctls of the container's own namespaces can be set: net.*, kernel.msg*, kernel.sem, kernel.shm*, fs.mqueue.*";
        Fault::system(format!("set the sysctl {key} to `{value}`"), error).with_hint(hint)
    })
}

/// `net.ipv4.conf.eth0/1.forwarding` has its separators exchanged in an interface's name (sysctl.d(5)).
pub(crate) fn sysctl_path(key: &str) -> String {
    match key.chars().find(|c| matches!(c, '.' | '/')) {
        Some('.') => key
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        _ => key.to_owned(),
    }
}

/// Whether a sysctl belongs to namespaces that are a container's own; `network` says whether its network is.
pub(crate) fn is_namespaced(key: &str, network: bool) -> bool {
    let key = sysctl_path(key);
    let safe = !key.split('/').any(|part| part == "..");
    let ipc = [
        "kernel/msgmax",
        "kernel/msgmnb",
        "kernel/msgmni",
        "kernel/sem",
        "kernel/shmall",
        "kernel/shmmax",
        "kernel/shmmni",
        "kernel/shm_rmid_forced",
    ];
    safe && (ipc.contains(&key.as_str()) || key.starts_with("fs/mqueue/") || (network && key.starts_with("net/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctls_of_the_host_are_told_from_the_containers_own() {
        assert!(is_namespaced("net.ipv4.ip_forward", true) && !is_namespaced("net.ipv4.ip_forward", false));
        assert!(is_namespaced("kernel.shmmax", false) && is_namespaced("fs.mqueue.msg_max", false));
        assert!(!is_namespaced("kernel.core_pattern", true) && !is_namespaced("net/../kernel/core_pattern", true));
        assert_eq!(sysctl_path("net.ipv4.conf.eth0/1.forwarding"), "net/ipv4/conf/eth0.1/forwarding");
    }

    #[test]
    fn ping_is_for_every_group_that_exists() {
        assert_eq!(last_group("         0          0 4294967295\n"), i32::MAX as u64);
        assert_eq!(last_group("0 1000 1\n1 100000 65536\n"), 65536);
        assert_eq!(last_group("0 1000 1\n"), 0);
    }
}
