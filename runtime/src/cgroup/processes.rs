//! The processes of a container, found by their PID namespace.

use std::{fs, io, os::unix::ffi::OsStrExt};

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
