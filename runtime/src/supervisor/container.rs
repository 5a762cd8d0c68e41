//! The container's state: what it has while it runs, its end, and whether it begins again.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use super::{Supervisor, listen::Bound, now_rfc3339, restart::Restarts};
use crate::{
    cgroup::Cgroup,
    channel::Channel,
    fault::{Doing, Fault, OWN_FAILURE, Result},
    helper::start::Namespaces,
    init::ToInit,
    parts,
    protocol::{Failure, FromSupervisor, RequestId, SupervisorState, ToDaemon},
    spec::{Attachment, Plan, RestartPolicy},
    sys,
};

/// How often a control group whose last process is on its way out is tried again.
const SWEEP: Duration = Duration::from_millis(20);
/// How long a start may take, whatever it waits for. Even the first one on a loaded disk takes a tenth of it.
pub(super) const START_TIME: Duration = Duration::from_secs(25);
const KILLED: i32 = 128 + libc::SIGKILL;

/// Where the container stands; see the picture of [`super`].
#[derive(Debug)]
pub(super) enum Phase {
    Idle,
    Preparing,
    Building,
    /// The daemon has been given ports and listeners, or needs none once it is there.
    Attaching,
    Executing,
    Running,
    Delayed(Instant),
}

/// Who waits for what.
#[derive(Debug)]
pub(super) enum Waiter {
    Started(RequestId),
    Ended(RequestId),
    /// Ended, then started again.
    Restarted(RequestId),
}

/// PID 1 of the running container.
#[derive(Debug)]
pub(super) struct Init {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) control: Channel,
}

#[derive(Debug)]
pub(super) struct Container {
    pub(super) phase: Phase,
    pub(super) userns: Option<OwnedFd>,
    /// The mount namespace with the root and its writable layer.
    pub(super) layer: Option<OwnedFd>,
    /// Where that is on a disk: the lock that says that it is ours.
    pub(super) disk: Option<OwnedFd>,
    /// What of the root cannot be changed in place, and why.
    pub(super) read_only: Vec<String>,
    pub(super) plan: Option<Plan>,
    pub(super) namespaces: Option<Namespaces>,
    pub(super) init: Option<Init>,
    /// Our end of init's control connection while the helper works.
    pub(super) control: Option<Channel>,
    pub(super) streams: Option<u32>,
    pub(super) ports: Vec<(Attachment, OwnedFd)>,
    pub(super) listeners: Vec<Bound>,
    pub(super) cgroup: Cgroup,
    /// Processes of `exec` and the streams they have.
    pub(super) processes: BTreeMap<i32, u32>,
    pub(super) restarts: Restarts,
    /// The session whose `Open::Start` is under way.
    pub(super) starter: Option<u32>,
    pub(super) waiters: Vec<Waiter>,
    /// No restart follows.
    pub(super) stopping: bool,
    pub(super) removing: Option<RequestId>,
    kill_at: Option<Instant>,
    pub(super) sweep_at: Option<Instant>,
    /// A daemon that is not there by then fails the start that waits for it.
    pub(super) daemon_until: Option<Instant>,
    /// A start that is not done by then has failed.
    pub(super) start_until: Option<Instant>,
    pub(super) command: i32,
    pub(super) paused: bool,
    pub(super) started: Option<(Instant, String)>,
    pub(super) last: Option<Ending>,
}

/// How the container ended last, or why it did not start.
#[derive(Clone, Debug, Default)]
pub(super) struct Ending {
    pub(super) code: i32,
    pub(super) error: Option<String>,
    pub(super) oom_killed: bool,
}

impl Container {
    pub(super) fn new(policy: RestartPolicy) -> Self {
        Self {
            phase: Phase::Idle,
            userns: None,
            layer: None,
            disk: None,
            read_only: Vec::new(),
            plan: None,
            namespaces: None,
            init: None,
            control: None,
            streams: None,
            ports: Vec::new(),
            listeners: Vec::new(),
            cgroup: Cgroup::default(),
            processes: BTreeMap::new(),
            restarts: Restarts::new(policy),
            starter: None,
            waiters: Vec::new(),
            stopping: false,
            removing: None,
            kill_at: None,
            sweep_at: None,
            daemon_until: None,
            start_until: None,
            command: 0,
            paused: false,
            started: None,
            last: None,
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        !matches!(self.phase, Phase::Idle)
    }

    fn is_starting(&self) -> bool {
        matches!(self.phase, Phase::Preparing | Phase::Building | Phase::Attaching | Phase::Executing)
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let delayed = if let Phase::Delayed(until) = self.phase { Some(until) } else { None };
        let daemon = self.daemon_until.filter(|_| matches!(self.phase, Phase::Preparing));
        let start = self.start_until.filter(|_| self.is_starting());
        [delayed, daemon, start, self.kill_at, self.sweep_at].into_iter().flatten().min()
    }

    /// As the daemon is told it.
    pub(super) fn state(&self) -> SupervisorState {
        match (&self.phase, &self.last) {
            (Phase::Running, _) => {
                let started = self.started.as_ref().map(|(_, text)| text.clone()).unwrap_or_default();
                SupervisorState::Running { pid: self.command, paused: self.paused, started }
            }
            (Phase::Delayed(_), _) => SupervisorState::Restarting,
            (_, Some(Ending { code, error, oom_killed })) => {
                SupervisorState::Exited { code: *code, error: error.clone(), oom_killed: *oom_killed }
            }
            (_, None) => SupervisorState::Created,
        }
    }

    /// The number of its PID namespace.
    fn pid_namespace(&self) -> u64 {
        self.namespaces.as_ref().and_then(|namespaces| nix::sys::stat::fstat(&namespaces.pid).ok()).map_or(0, |found| found.st_ino)
    }

    /// Kills everything in it at once.
    pub(super) fn kill(&self) {
        if let Some(init) = &self.init {
            // One that has ended is as dead as wanted.
            let _ = sys::process::signal(init.pidfd.as_fd(), libc::SIGKILL);
        }
    }

    pub(super) fn signal(&self, signal: i32) -> Result<()> {
        let Some(init) = &self.init else { return Err(not_running()) };
        if signal == libc::SIGKILL {
            self.kill();
            return Ok(());
        }
        init.control.send(&ToInit::Signal(signal), &[]).map_err(crate::helper::lost)
    }

    pub(super) fn pause(&mut self, id: &str, pause: bool) -> Result<()> {
        let namespace = self.pid_namespace();
        let Some(init) = self.init.as_ref().filter(|_| matches!(self.phase, Phase::Running)) else { return Err(not_running()) };
        if self.paused == pause {
            let text = if pause { "the container is paused already" } else { "the container is not paused" };
            return Err(Fault::Refused { message: text.to_owned(), hint: None });
        }
        if pause { self.cgroup.freeze(id, init.pid, namespace) } else { self.cgroup.thaw(init.pid, namespace) }?;
        self.paused = pause;
        Ok(())
    }
}

pub(super) fn not_running() -> Fault {
    Fault::refused("the container is not running", "`netloom start` runs it")
}

impl Supervisor {
    /// SIGTERM now, SIGKILL after the grace; no restart follows.
    pub(super) fn stop(&mut self, grace: Duration, waiter: Waiter) {
        self.container.stopping = true;
        self.container.waiters.push(waiter);
        match self.container.phase {
            Phase::Idle => self.settle(),
            Phase::Delayed(_) => {
                self.container.phase = Phase::Idle;
                let Ending { code, error, oom_killed } = self.container.last.clone().unwrap_or_default();
                self.tell(ToDaemon::Exited { code, error, will_restart: false, oom_killed });
                self.settle();
            }
            Phase::Running => {
                self.unpause_quietly();
                // An init that is gone already needs no signal: its end is about to be noticed.
                let _ = self.container.signal(if grace.is_zero() { libc::SIGKILL } else { libc::SIGTERM });
                self.container.kill_at = Some(Instant::now() + grace);
            }
            Phase::Preparing | Phase::Building | Phase::Attaching | Phase::Executing => {
                self.start_failed(Failure {
                    message: "the container was stopped while it started".to_owned(),
                    hint: None,
                    code: OWN_FAILURE,
                });
            }
        }
    }

    /// A frozen process hears no signal, not even SIGKILL.
    pub(super) fn unpause_quietly(&mut self) {
        if self.container.paused && self.container.pause(&self.id, false).is_ok() {
            self.tell(ToDaemon::Paused { paused: false });
        }
    }

    pub(super) fn container_time_passed(&mut self, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.container.kill_at) {
            self.container.kill_at = None;
            self.container.kill();
        }
        if due(self.container.sweep_at) {
            self.sweep();
        }
        if matches!(self.container.phase, Phase::Delayed(until) if until <= now) {
            self.begin_start();
        }
        if matches!(self.container.phase, Phase::Preparing) && due(self.container.daemon_until) && !self.link.welcome {
            let hint = Some("its log is `daemon.log` in the instance's root".to_owned());
            self.start_failed(Failure { message: "the daemon does not answer".to_owned(), hint, code: OWN_FAILURE });
        }
        if self.container.is_starting() && due(self.container.start_until) {
            self.start_takes_too_long();
        }
    }

    /// A helper that was stopped, a file that never opens: whoever asked for the start is not to wait for them.
    fn start_takes_too_long(&mut self) {
        let doing = match self.container.phase {
            Phase::Preparing => "the daemon gave no addresses",
            Phase::Building => "its namespaces and files were not made",
            Phase::Attaching => "the daemon did not take its interfaces",
            _ => "its command was not executed",
        };
        let message = format!("the container did not start within {} s: {doing}", START_TIME.as_secs());
        let hint = Some("a file system that it needs may not answer, or a process of netloom may be stopped".to_owned());
        self.start_failed(Failure { message, hint, code: OWN_FAILURE });
    }

    fn sweep(&mut self) {
        self.container.sweep_at = (!self.container.cgroup.remove()).then(|| Instant::now() + SWEEP);
    }

    /// PID 1 has ended, and everything in the container with it.
    pub(super) fn container_ended(&mut self, code: i32) {
        match self.container.phase {
            Phase::Running => {}
            Phase::Idle => return drop(self.let_go()),
            _ => {
                let message = format!("the container's init ended while it started, with code {code}");
                return self.start_failed(Failure { message, hint: None, code: OWN_FAILURE });
            }
        }
        let ran = self.container.started.take().map_or(Duration::ZERO, |(at, _)| at.elapsed());
        let again = if self.container.stopping { None } else { self.container.restarts.after(code, ran) };
        let streams = self.container.streams.take();
        self.container.phase = again.map_or(Phase::Idle, |delay| Phase::Delayed(Instant::now() + delay));
        let oom_killed = self.container.cgroup.oom_killed();
        self.container.last = Some(Ending { code, error: None, oom_killed });
        // The kernel takes its time to close a TAP, so whoever waits for the end hears of it first.
        let interfaces = self.let_go();
        // The daemon before the session: who has seen the end may ask at once.
        self.tell(ToDaemon::Exited { code, error: None, will_restart: again.is_some(), oom_killed });
        if let Some(streams) = streams {
            self.process_ended(streams, code);
        }
        self.log.finish();
        if again.is_none() {
            self.settle();
        }
        drop(interfaces);
    }

    /// Closes what belonged to one run but its interfaces, which the caller is to close. The daemon closes its copies.
    #[must_use]
    fn let_go(&mut self) -> Vec<(Attachment, OwnedFd)> {
        let container = &mut self.container;
        (container.init, container.namespaces, container.control, container.kill_at) = (None, None, None, None);
        container.paused = false;
        let ports = std::mem::take(&mut container.ports);
        self.close_listeners();
        if !ports.is_empty() {
            let networks = ports.iter().map(|(attachment, _)| attachment.network.clone()).collect();
            self.tell(ToDaemon::Detach { networks, publications: Vec::new(), listeners: Vec::new() });
        }
        self.sweep();
        ports
    }

    /// Closes the host sockets of all publications, here and at the daemon.
    pub(super) fn close_listeners(&mut self) {
        let listeners = std::mem::take(&mut self.container.listeners);
        let mut publications: Vec<_> = listeners.iter().map(|(listener, _)| listener.publication.clone()).collect();
        publications.dedup();
        drop(listeners);
        for some in publications.chunks(parts::PART) {
            self.tell(ToDaemon::Detach { networks: Vec::new(), publications: some.to_vec(), listeners: Vec::new() });
        }
    }

    /// The container has come to rest: whoever waited for that is told.
    pub(super) fn settle(&mut self) {
        self.container.stopping = false;
        for waiter in std::mem::take(&mut self.container.waiters) {
            match waiter {
                Waiter::Ended(request) => self.done(request, None),
                Waiter::Restarted(request) => {
                    self.container.waiters.push(Waiter::Started(request));
                    self.container.restarts.reset();
                }
                Waiter::Started(request) => {
                    let message = "the container was stopped".to_owned();
                    self.done(request, Some(Failure { message, hint: None, code: OWN_FAILURE }));
                }
            }
        }
        if let Some(request) = self.container.removing {
            self.done(request, None);
            self.finished = true;
        } else if self.container.waiters.iter().any(|waiter| matches!(waiter, Waiter::Started(_))) {
            self.begin_start();
        }
    }

    /// A start failed: what was made ends with its processes and descriptors.
    pub(super) fn start_failed(&mut self, failure: Failure) {
        if !self.container.is_busy() || self.container.is_running() {
            return;
        }
        self.container.phase = Phase::Idle;
        self.container.kill();
        let helpers: Vec<_> = self
            .tasks
            .iter()
            .filter(|(_, task)| matches!(task.purpose, super::process::Purpose::Start))
            .map(|(number, _)| *number)
            .collect();
        for number in helpers {
            if let Some(task) = self.tasks.remove(&number) {
                // It is our child and unreaped, so the number is still its own.
                let _ = sys::process::kill(nix::unistd::Pid::from_raw(task.pid), libc::SIGKILL);
            }
        }
        if let Some(streams) = self.container.streams.take() {
            self.drop_streams(streams);
        }
        drop(self.let_go());
        self.container.last = Some(Ending { code: failure.code, error: Some(failure.message.clone()), oom_killed: false });
        let error = Some(failure.message.clone());
        self.tell(ToDaemon::Exited { code: failure.code, error, will_restart: false, oom_killed: false });
        if let Some(session) = self.container.starter.take() {
            self.close_session(session, Some(&FromSupervisor::Failed { failure: failure.clone() }));
        }
        for waiter in std::mem::take(&mut self.container.waiters) {
            match waiter {
                Waiter::Started(request) => self.done(request, Some(failure.clone())),
                other => self.container.waiters.push(other),
            }
        }
        self.settle();
    }

    /// The command runs.
    pub(super) fn started(&mut self, command: i32) {
        let container = &mut self.container;
        container.phase = Phase::Running;
        container.command = command;
        container.started = Some((Instant::now(), now_rfc3339()));
        let read_only = container.read_only.clone();
        self.tell(ToDaemon::Started { pid: command, read_only });
        if let Some(session) = self.container.starter.take() {
            self.start_answered(session, command);
        }
        if let Some(streams) = self.container.streams {
            self.let_flow(streams);
        }
        for waiter in std::mem::take(&mut self.container.waiters) {
            match waiter {
                Waiter::Started(request) => self.done(request, None),
                other => self.container.waiters.push(other),
            }
        }
        let init = self.container.init.as_ref().map_or(0, |init| init.pid);
        if let Some(code) = self.early_end(init) {
            self.container_ended(code);
        }
    }

    /// The container is to go, with its supervisor.
    pub(super) fn remove(&mut self, request: RequestId) {
        self.container.removing = Some(request);
        self.container.last.get_or_insert_with(|| Ending { code: KILLED, ..Ending::default() });
        match self.container.phase {
            Phase::Running => {
                self.container.stopping = true;
                self.unpause_quietly();
                self.container.kill();
            }
            _ => self.stop(Duration::ZERO, Waiter::Ended(request)),
        }
    }

    /// A pidfd of init, which is this process's own child.
    pub(super) fn watch_init(&mut self, pid: i32, control: Channel) -> Result<()> {
        let pidfd = sys::process::open_pid(nix::unistd::Pid::from_raw(pid)).doing("watch the container's init")?;
        self.container.init = Some(Init { pid, pidfd, control });
        Ok(())
    }
}
