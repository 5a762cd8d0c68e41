//! The control group of a container (cgroups(7)), where the system lets us have one.
//!
//! - The unified hierarchy: one group for each container, below our own or the nearest ancestor that has been delegated to us.
//! - Version 1: entering a group waits for a grace period of the kernel, some 10 ms, so a group is made only for what was asked:
//!   `memory` and `pids` for limits at the start, `freezer` at the first pause.
//! - Neither: no limits, which is said when one is asked for; pause stops the processes by signal; usage comes from /proc.
//!
//! A group is removed once its last process is gone: by the supervisor, or by whoever finds it gone ([`ledger`]).

mod hierarchy;
pub mod ledger;
mod processes;
mod usage;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

pub use self::hierarchy::{Kind, Survey};
pub(crate) use self::processes::parent;
pub use self::usage::{Usage, usage};
use crate::{
    fault::{Doing, Fault, Result},
    spec::LimitSpec,
};

/// What the name of each of our groups begins with.
const PREFIX: &str = "netloom-";
/// How long a group may take to freeze, and how long before it is told once more.
const FREEZE_TIME: Duration = Duration::from_secs(2);
const FREEZE_AGAIN: Duration = Duration::from_millis(100);

/// The groups of one container.
#[derive(Debug, Default)]
pub(crate) struct Cgroup {
    /// The unified one.
    unified: Option<PathBuf>,
    /// Those of version 1 that processes enter at their start.
    entered: Vec<PathBuf>,
    freezer: Option<PathBuf>,
    stopped: bool,
    /// How many processes an earlier run in the same groups had lost to its memory limit.
    oom_kills_before: u64,
    /// The container's directory, where they are written down.
    dir: PathBuf,
}

impl Cgroup {
    /// Makes the groups for a start, with their limits; those of an earlier one that are still there are used again. They are written
    /// down in `dir` before they are made.
    ///
    /// Errors: a limit that cannot be enforced here, by name; what was made is for [`Self::remove`].
    pub(crate) fn create(&mut self, dir: &Path, id: &str, limits: &LimitSpec) -> Result<()> {
        dir.clone_into(&mut self.dir);
        let survey = Survey::read();
        match survey.kind() {
            Kind::Unified => self.create_unified(&survey, id, limits)?,
            Kind::Legacy => self.create_legacy(&survey, id, limits)?,
            Kind::None => refuse_limits(limits, "there are no control groups here")?,
        }
        self.oom_kills_before = self.oom_kills();
        Ok(())
    }

    /// Whether the kernel has killed a process of this run because a limit of memory was reached.
    pub(crate) fn oom_killed(&self) -> bool {
        self.oom_kills() > self.oom_kills_before
    }

    fn oom_kills(&self) -> u64 {
        self.all().map(|group| usage::oom_kills(group)).sum()
    }

    fn create_unified(&mut self, survey: &Survey, id: &str, limits: &LimitSpec) -> Result<()> {
        let Some(parent) = survey.unified_parent() else {
            return refuse_limits(limits, "no control group has been delegated to this user");
        };
        let group = parent.join(name(id));
        self.unified = Some(group.clone());
        self.write_down()?;
        if make(&group).is_err() {
            self.unified = None;
            self.write_down()?;
            return refuse_limits(limits, "the control group of this user cannot be divided");
        }
        for (option, controller, file, value) in wanted(limits, "memory.max", "pids.max") {
            survey.enable(&parent, controller);
            fs::write(group.join(file), value.to_string()).map_err(|error| unenforceable(option, &error.to_string()))?;
        }
        Ok(())
    }

    fn create_legacy(&mut self, survey: &Survey, id: &str, limits: &LimitSpec) -> Result<()> {
        for (option, controller, file, value) in wanted(limits, "memory.limit_in_bytes", "pids.max") {
            let group = survey.legacy(controller).map(|own| own.join(name(id)));
            let group = group.ok_or_else(|| unenforceable(option, "the controller is not mounted"))?;
            if !self.entered.contains(&group) {
                self.entered.push(group.clone());
                self.write_down()?;
            }
            make(&group).map_err(|error| unenforceable(option, &error.to_string()))?;
            fs::write(group.join(file), value.to_string()).map_err(|error| unenforceable(option, &error.to_string()))?;
        }
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.unified.iter().chain(&self.entered).chain(&self.freezer)
    }

    fn write_down(&self) -> Result<()> {
        let groups: Vec<_> = self.all().map(PathBuf::as_path).collect();
        ledger::write(&self.dir, &groups).doing("write down the container's control groups")
    }

    /// The files that a process enters the groups by.
    pub(crate) fn entries(&self) -> Vec<PathBuf> {
        self.unified.iter().chain(&self.entered).map(|group| group.join("cgroup.procs")).collect()
    }

    /// Stops all processes of the container; `init` is its PID 1, `namespace` the number of its PID namespace.
    pub(crate) fn freeze(&mut self, id: &str, init: i32, namespace: u64) -> Result<()> {
        let frozen = self.freeze_all(id, init, namespace);
        if frozen.is_err() {
            // One that freezes later, when it is told to be running, would never be thawed.
            let _ = self.thaw(init, namespace);
        }
        frozen
    }

    fn freeze_all(&mut self, id: &str, init: i32, namespace: u64) -> Result<()> {
        let until = Instant::now() + FREEZE_TIME;
        if let Some(group) = &self.unified {
            write_freezer(group, "cgroup.freeze", "1")?;
            return if says(&group.join("cgroup.events"), "frozen 1", until)? { Ok(()) } else { Err(unfreezable()) };
        }
        if self.freezer.is_none() {
            self.make_freezer(id);
        }
        let Some(group) = &self.freezer else {
            self.stopped = true;
            return processes::signal_all(init, namespace, libc::SIGSTOP).doing("stop the container's processes");
        };
        // Processes that are being made while we look are found by looking again.
        let procs = group.join("cgroup.procs");
        while Instant::now() < until {
            let inside = fs::read_to_string(&procs).doing("freeze the container")?;
            let inside: Vec<i32> = inside.lines().filter_map(|line| line.parse().ok()).collect();
            let outside: Vec<_> = processes::of(init, namespace).into_iter().filter(|pid| !inside.contains(pid)).collect();
            if outside.is_empty() {
                break;
            }
            for pid in outside {
                // One that has ended need not be frozen.
                let _ = fs::write(&procs, pid.to_string());
            }
        }
        // Version 1 can overlook a process that is made just then, and is told once more.
        while Instant::now() < until {
            write_freezer(group, "freezer.state", "FROZEN")?;
            if says(&group.join("freezer.state"), "FROZEN", until.min(Instant::now() + FREEZE_AGAIN))? {
                return Ok(());
            }
            ledger::thaw(group);
        }
        Err(unfreezable())
    }

    /// Where there can be none, there is none.
    fn make_freezer(&mut self, id: &str) {
        self.freezer = Survey::read().legacy("freezer").map(|own| own.join(name(id)));
        let made = |group: &PathBuf| self.write_down().is_ok() && make(group).is_ok();
        if !self.freezer.as_ref().is_some_and(made) {
            self.freezer = None;
            // A name too many is no harm.
            let _ = self.write_down();
        }
    }

    /// Lets them go on.
    pub(crate) fn thaw(&mut self, init: i32, namespace: u64) -> Result<()> {
        if std::mem::take(&mut self.stopped) {
            return processes::signal_all(init, namespace, libc::SIGCONT).doing("continue the container's processes");
        }
        if let Some(group) = &self.unified {
            return fs::write(group.join("cgroup.freeze"), "0").doing("thaw the container");
        }
        match &self.freezer {
            Some(group) => fs::write(group.join("freezer.state"), "THAWED").doing("thaw the container"),
            None => Ok(()),
        }
    }

    /// Removes the groups; `false` while some process is still on its way out.
    pub(crate) fn remove(&mut self) -> bool {
        if self.all().next().is_none() {
            return true;
        }
        let gone = |group: &PathBuf| match fs::remove_dir(group) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        self.entered.retain(|group| !gone(group));
        self.unified.take_if(|group| gone(group));
        self.freezer.take_if(|group| gone(group));
        let none = self.all().next().is_none();
        if none {
            // A name too many is no harm.
            let _ = self.write_down();
        }
        none
    }

    /// Kills what is left in them and removes them, in bounded time.
    pub(crate) fn end(&mut self) {
        if !self.remove() {
            // Whoever looks after this container next finds what could not be ended.
            let _ = ledger::sweep_left(&self.dir);
        }
    }
}

/// Makes a group, or takes the one that is there.
fn make(group: &Path) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            ledger::thaw(group);
            Ok(())
        }
        other => other,
    }
}

fn name(id: &str) -> String {
    format!("{PREFIX}{id}")
}

/// The limits asked for: option, controller, file, value.
fn wanted(limits: &LimitSpec, memory: &'static str, pids: &'static str) -> Vec<(&'static str, &'static str, &'static str, u64)> {
    let memory = limits.memory.map(|value| ("--memory", "memory", memory, value));
    let pids = limits.pids.map(|value| ("--pids-limit", "pids", pids, value));
    memory.into_iter().chain(pids).collect()
}

fn refuse_limits(limits: &LimitSpec, why: &str) -> Result<()> {
    match wanted(limits, "", "").first() {
        Some((option, ..)) => Err(unenforceable(option, why)),
        None => Ok(()),
    }
}

fn unenforceable(option: &str, why: &str) -> Fault {
    Fault::refused(format!("{option} cannot be enforced: {why}"), "`netloom doctor` says which controllers can be used here")
}

fn write_freezer(group: &Path, file: &str, word: &str) -> Result<()> {
    fs::write(group.join(file), word).doing("freeze the container")
}

/// Whether a file of a group says something, before that instant.
fn says(file: &Path, text: &str, until: Instant) -> Result<bool> {
    loop {
        if fs::read_to_string(file).doing("freeze the container")?.lines().any(|line| line == text) {
            return Ok(true);
        }
        if Instant::now() > until {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn unfreezable() -> Fault {
    Fault::Refused { message: "the container does not freeze: a process cannot be interrupted".to_owned(), hint: None }
}
