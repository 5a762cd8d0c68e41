//! What processes of a host use of it.

use crate::Host;

impl Host {
    /// What processes have in memory of their own, in KiB.
    #[track_caller]
    pub fn memory(&self, processes: &[i64]) -> i64 {
        let anonymous = |pid: &i64| {
            let status = self.ok(&format!("cat /proc/{pid}/status"));
            let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("the kernel tells it");
            line.trim().trim_end_matches(" kB").parse::<i64>().expect("a number")
        };
        processes.iter().map(anonymous).sum()
    }

    /// The processor's hundredths of a second that a process has used.
    #[track_caller]
    pub fn ticks(&self, process: i64) -> u64 {
        let stat = self.ok(&format!("cat /proc/{process}/stat"));
        let fields = stat.rsplit_once(") ").map(|(_, fields)| fields.split(' ')).expect("a line of proc(5)");
        fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
    }
}
