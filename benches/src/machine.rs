//! The machine: the facts that a figure means nothing without, and what processes and processors have used.

use std::{collections::BTreeMap, fs};

use nix::{
    sys::utsname::uname,
    unistd::{SysconfVar, sysconf},
};
use serde::Serialize;

/// Settings of the kernel that move the figures. Read in the bench's own network namespace, where the loads run under them too.
const SYSCTLS: [&str; 9] = [
    "net.core.default_qdisc",
    "net.core.netdev_budget",
    "net.core.netdev_max_backlog",
    "net.core.rmem_max",
    "net.core.wmem_max",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.ip_local_port_range",
];

/// What stands above the table.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    pub kernel: String,
    pub architecture: String,
    pub processor: String,
    pub processors: usize,
    /// Runs in a virtual machine, as far as the processor says.
    pub virtual_machine: bool,
    pub memory_mib: u64,
    /// One minute's load average before the first measurement: over about 0.3 something else is running.
    pub load_before: f64,
    pub sysctls: BTreeMap<String, String>,
}

impl Facts {
    #[must_use]
    pub fn read() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim())
        };
        let (kernel, architecture) = uname().map_or_else(
            |_| Default::default(),
            |name| (name.release().to_string_lossy().into_owned(), name.machine().to_string_lossy().into_owned()),
        );
        Self {
            kernel,
            architecture,
            processor: field("model name").to_owned(),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            virtual_machine: field("flags").split(' ').any(|flag| flag == "hypervisor"),
            memory_mib: kib_of(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemTotal:") / 1024,
            load_before: first_number(&fs::read_to_string("/proc/loadavg").unwrap_or_default()),
            sysctls: SYSCTLS.iter().filter_map(|name| Some(((*name).to_owned(), sysctl(name)?))).collect(),
        }
    }
}

/// Processor time used so far, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuTime {
    /// The whole machine, interrupts included: all that is not idle.
    pub machine: f64,
    /// The processes that forward; zero where the kernel does it.
    pub forwarders: f64,
}

impl CpuTime {
    #[must_use]
    pub fn now(forwarders: &[u32]) -> Self {
        let ticks = ticks_per_second();
        let machine = busy_ticks(&fs::read_to_string("/proc/stat").unwrap_or_default());
        let own = |pid: &u32| process_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default());
        Self { machine: machine as f64 / ticks, forwarders: forwarders.iter().map(own).sum::<u64>() as f64 / ticks }
    }

    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { machine: self.machine - earlier.machine, forwarders: self.forwarders - earlier.forwarders }
    }
}

/// Resident memory of some processes together, in KiB.
#[must_use]
pub fn resident_kib(pids: &[u32]) -> u64 {
    pids.iter().map(|pid| kib_of(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default(), "VmRSS:")).sum()
}

/// The processes of this namespace whose program is `program` and whose arguments satisfy `wanted`.
#[must_use]
pub fn processes(program: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<String> = line.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        words.first().is_some_and(|first| first.rsplit('/').next() == Some(program)) && wanted(&words)
    })
    .collect()
}

fn sysctl(name: &str) -> Option<String> {
    let value = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
    Some(value.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn ticks_per_second() -> f64 {
    sysconf(SysconfVar::CLK_TCK).ok().flatten().map_or(100.0, |ticks| ticks as f64)
}

/// Of `/proc/stat`, proc(5): user nice system idle iowait irq softirq steal; the first line adds up all processors.
fn busy_ticks(stat: &str) -> u64 {
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    ticks.iter().take(8).enumerate().filter(|(index, _)| !matches!(index, 3 | 4 | 7)).map(|(_, ticks)| ticks).sum()
}

/// Of `/proc/PID/stat`: fields 14 and 15, user and system time of all threads. The name in field 2 may contain anything.
fn process_ticks(stat: &str) -> u64 {
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    after_name.split(' ').skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum()
}

fn kib_of(text: &str, field: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|value| value.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn first_number(text: &str) -> f64 {
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_waiting_and_stolen_time_is_not_busy() {
        assert_eq!(busy_ticks("cpu  10 20 30 1000 500 4 5 600 7 8\ncpu0 1 1 1 1\n"), 10 + 20 + 30 + 4 + 5);
    }

    #[test]
    fn a_process_name_with_blanks_and_brackets_does_not_shift_the_fields() {
        let stat = "42 (a) b (c) S 1 1 1 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 3 0 100 1000 10";
        assert_eq!(process_ticks(stat), 200);
    }

    #[test]
    fn memory_is_read_in_kib() {
        assert_eq!(kib_of("Name:\tx\nVmRSS:\t    2048 kB\n", "VmRSS:"), 2048);
        assert_eq!(kib_of("Name:\tx\n", "VmRSS:"), 0);
    }
}
