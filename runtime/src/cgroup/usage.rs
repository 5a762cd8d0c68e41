//! What a container uses: from its control groups where it has them, else summed over its processes.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::{SysconfVar, sysconf};

use super::{PREFIX, processes};
use crate::rootfs::mountinfo;

/// A container's use of the machine at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes; from control groups without the inactive part of the page cache, as docker counts, else the resident sets.
    pub memory: u64,
    /// Bytes, where there is a limit.
    pub memory_limit: Option<u64>,
    /// Time on a processor since the start, of all processes that still run or were counted by a group.
    pub cpu: Duration,
    pub pids: u64,
}

/// The use of the container that process `pid` is in.
///
/// Errors: NotFound if the process is gone.
pub fn usage(pid: i32) -> io::Result<Usage> {
    let mut usage = from_processes(pid)?;
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let mounts = mountinfo::parse(&fs::read_to_string("/proc/self/mountinfo")?);
    for group in groups(&own, &mounts) {
        from_group(&group, &mut usage);
    }
    Ok(usage)
}

/// The groups of ours that a process is in.
fn groups(own: &str, mounts: &[mountinfo::Mount]) -> Vec<PathBuf> {
    let group = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let ours = Path::new(path).file_name()?.to_str()?.starts_with(PREFIX);
        let first = controllers.split(',').next()?;
        let mounted = |mount: &&mountinfo::Mount| match first {
            "" => mount.kind == "cgroup2",
            name => {
                mount.kind == "cgroup"
                    && mount.point.file_name().is_some_and(|file| file.to_string_lossy().split(',').any(|part| part == name))
            }
        };
        let mount = mounts.iter().find(mounted)?;
        ours.then(|| mount.point.join(path.trim_start_matches('/')))
    };
    own.lines().filter_map(group).collect()
}

/// How many processes of a group the kernel has killed because its memory was used up: since the group was made.
pub(super) fn oom_kills(group: &Path) -> u64 {
    line(group, "memory.events", "oom_kill ").or_else(|| line(group, "memory.oom_control", "oom_kill ")).unwrap_or(0)
}

/// The number after `key` in a file of a group that has one key and number a line.
fn line(group: &Path, file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(group.join(file)).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}

fn from_group(group: &Path, usage: &mut Usage) {
    let number = |file: &str| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
    let line = |file: &str, key: &str| line(group, file, key);
    if let Some(bytes) = number("memory.current").or_else(|| number("memory.usage_in_bytes")) {
        let cache = line("memory.stat", "inactive_file ").or_else(|| line("memory.stat", "total_inactive_file ")).unwrap_or(0);
        usage.memory = bytes.saturating_sub(cache);
    }
    // Version 1 has a very large number for no limit.
    let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes")).filter(|bytes| *bytes < 1 << 62);
    usage.memory_limit = usage.memory_limit.or(limit);
    if let Some(micros) = line("cpu.stat", "usage_usec ") {
        usage.cpu = Duration::from_micros(micros);
    }
    if let Some(pids) = number("pids.current") {
        usage.pids = pids;
    }
}

fn from_processes(pid: i32) -> io::Result<Usage> {
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    let processes = match processes::namespace_of(pid) {
        Some(namespace) => processes::of(pid, namespace),
        // Without capabilities the namespaces of those who have some are not to be seen.
        None => processes::family(pid),
    };
    if processes.is_empty() {
        return Err(gone());
    }
    let ticks = sysconf(SysconfVar::CLK_TCK)?.and_then(|ticks| u64::try_from(ticks).ok()).unwrap_or(100);
    let page = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(4096);
    let mut usage = Usage::default();
    for pid in processes {
        let Some((cpu, pages)) = fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|stat| times(&stat)) else { continue };
        usage.pids += 1;
        usage.cpu += Duration::from_millis(cpu * 1000 / ticks);
        usage.memory += pages * page;
    }
    Ok(usage)
}

/// Ticks of user and system time, and resident pages (proc_pid_stat(5), fields 14, 15 and 24).
fn times(stat: &str) -> Option<(u64, u64)> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some((number(14)? + number(15)?, number(24)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 30 12 0 0 20 0 1 0 100 1000 55 18446744073709551615";
        assert_eq!(times(stat), Some((42, 55)));
    }

    #[test]
    fn this_process_uses_memory() {
        let usage = usage(std::process::id() as i32).unwrap();
        assert!(usage.memory > 0 && usage.pids > 0);
    }
}
