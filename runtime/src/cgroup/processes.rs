//! The processes of a container, found by their PID namespace.

use std::{collections::BTreeMap, fs, io, os::unix::ffi::OsStrExt};

use nix::unistd::Pid;

use crate::sys::process;

/// Every process in the PID namespace with this number, and `init`, whose namespace only root may see.
pub(crate) fn of(init: i32, namespace: u64) -> Vec<i32> {
    let link = format!("pid:[{namespace}]");
    let inside = |pid: &i32| {
        *pid == init || fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|found| found.as_os_str().as_bytes() == link.as_bytes())
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(inside).collect()
}

/// Every process of the container in which `command` is the child of an init that is the child of a supervisor: those below the
/// supervisor that are deeper in PID namespaces than it is. It takes no privilege to see; none if the process is gone.
pub(crate) fn family(command: i32) -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let parents: BTreeMap<i32, i32> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let supervisor = parents.get(&command).and_then(|init| parents.get(init)).copied();
    let Some((supervisor, depth)) = supervisor.and_then(|pid| Some((pid, depth(pid)?))) else { return Vec::new() };
    let is_below = |mut pid: i32| {
        // A process has few ancestors; the bound is against a table that changed while it was read.
        (0..parents.len()).any(|_| {
            pid = parents.get(&pid).copied().unwrap_or_default();
            pid == supervisor
        })
    };
    let inside = |pid: &i32| is_below(*pid) && self::depth(*pid).is_some_and(|own| own > depth);
    parents.keys().copied().filter(inside).collect()
}

/// The parent of a process (proc_pid_stat(5), field 4).
pub(crate) fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// In how many nested PID namespaces a process is, as we see it (proc_pid_status(5), NSpid).
fn depth(pid: i32) -> Option<usize> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_whitespace().count())
}

/// Signals all of them but `init`, which has nothing to do but wait for them; twice, for those made while the first went round.
pub(crate) fn signal_all(init: i32, namespace: u64, signal: i32) -> io::Result<()> {
    for _ in 0..2 {
        for pid in of(init, namespace).into_iter().filter(|pid| *pid != init) {
            match process::kill(Pid::from_raw(pid), signal) {
                Ok(()) | Err(nix::Error::ESRCH) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    Ok(())
}

/// The number of the PID namespace of a process.
pub(crate) fn namespace_of(pid: i32) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{pid}/ns/pid")).ok()?;
    link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}
