//! The supervisor's children: helpers at work, and what became of those that ended.

use std::os::fd::{AsFd, OwnedFd};

use nix::{
    sys::wait::{Id, WaitPidFlag, waitid, waitpid},
    unistd::Pid,
};

use super::{
    Supervisor,
    listen::Bound,
    poll::{Interest, Token},
};
use crate::{
    cgroup,
    channel::Channel,
    fault::{Doing, Fault, Result},
    helper::{self, Report},
    init::code_of,
    protocol::{Failure, FromSupervisor, RequestId},
    spec::Plan,
};

/// What a helper works for.
#[derive(Debug)]
pub(super) enum Purpose {
    Start,
    /// The process of session N.
    Process {
        session: u32,
        streams: u32,
        detach: bool,
    },
    /// A network for the running container.
    Connect {
        request: RequestId,
    },
    /// A network taken from it.
    Disconnect {
        request: RequestId,
        network: String,
    },
    /// Routes and names after such a change. `bound` are the publications that could not listen before.
    Follow {
        request: RequestId,
        plan: Plan,
        bound: Vec<Bound>,
    },
}

/// A helper at work, or the process it left behind until that is executed.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) purpose: Purpose,
    report: Channel,
    /// The helper's, then its child's.
    pub(super) pid: i32,
    /// As the host sees the command, once it is about to be executed. It is the container's word, and init's child at most.
    pub(super) command: Option<i32>,
    told: bool,
}

impl Supervisor {
    /// Starts a helper and watches what it reports.
    pub(super) fn begin(&mut self, purpose: Purpose, work: impl FnOnce(&Self, &Channel) -> Result<()>) -> Result<u32> {
        let pair = || -> std::result::Result<_, crate::channel::ChannelError> {
            let (ours, theirs) = Channel::pair()?;
            ours.set_nonblocking(true)?;
            Ok((ours, theirs))
        };
        let (ours, theirs) = pair().map_err(helper::lost)?;
        let pid = helper::spawn(theirs, |report| work(self, report))?.as_raw();
        let number = self.number();
        self.poll.set(&ours, Token::Report(number), Interest::READ);
        self.tasks.insert(number, Task { purpose, report: ours, pid, command: None, told: false });
        Ok(number)
    }

    pub(super) fn report_ready(&mut self, number: u32) {
        loop {
            let Some(task) = self.tasks.get_mut(&number) else { return };
            match task.report.receive::<Report>() {
                Ok(Some((report, fds))) => self.reported(number, report, fds),
                Err(error) if error.would_block() => return,
                Ok(None) | Err(_) => {
                    if let Some(task) = self.tasks.remove(&number) {
                        self.report_ended(task);
                    }
                    return;
                }
            }
        }
    }

    fn reported(&mut self, number: u32, report: Report, fds: Vec<OwnedFd>) {
        if let Report::Ready { pid, .. } | Report::Child { pid, .. } = &report
            && !self.is_new_child(*pid)
        {
            let message = format!("the helper's report names process {pid}, which it did not start");
            self.tasks.entry(number).and_modify(|task| task.told = true);
            return self.task_failed(number, Failure { message, hint: None, code: crate::fault::OWN_FAILURE });
        }
        let Some(task) = self.tasks.get_mut(&number) else { return };
        match report {
            Report::Failed { failure } => {
                task.told = true;
                self.task_failed(number, failure);
            }
            // A command that has ended already has no number any more.
            Report::Executing => {
                let named = fds.first().and_then(pid_behind).filter(|pid| cgroup::parent(*pid) == Some(task.pid));
                task.command = Some(named.unwrap_or(task.pid));
            }
            Report::Ready { pid, layer, disk, terminal, ports, notes, read_only } => {
                task.pid = pid;
                // The root is made on the first start.
                if layer {
                    self.container.read_only = read_only;
                }
                self.container_ready(number, (layer, disk, terminal), ports, &notes, fds);
            }
            Report::Child { pid, terminal: _ } => {
                task.pid = pid;
                if let Purpose::Process { streams, session, .. } = task.purpose {
                    self.process_ready(session, streams, fds.into_iter().next());
                }
            }
            // What follows is that the helper ends.
            Report::Unlinked => {}
            Report::Followed => {
                task.told = true;
                if let Purpose::Follow { request, plan, bound } = &mut task.purpose {
                    let (request, plan, bound) = (*request, plan.clone(), std::mem::take(bound));
                    self.followed(request, plan, bound);
                }
            }
            // A holder's, and what comes before there is a supervisor.
            Report::Attached { .. } | Report::Bound => {}
            Report::Linked { attachment } => {
                task.told = true;
                if let (Purpose::Connect { request }, Some(fd)) = (&task.purpose, fds.into_iter().next()) {
                    let request = *request;
                    self.connected(request, attachment, fd);
                }
            }
        }
    }

    fn task_failed(&mut self, number: u32, failure: Failure) {
        let Some(task) = self.tasks.get(&number) else { return };
        match task.purpose {
            Purpose::Start => self.start_failed(failure),
            Purpose::Process { session, streams, .. } => {
                self.drop_streams(streams);
                self.close_session(session, Some(&FromSupervisor::Failed { failure }));
            }
            Purpose::Connect { request } | Purpose::Follow { request, .. } => self.done(request, Some(failure)),
            // Its owner may have removed the interface, or the container has ended.
            Purpose::Disconnect { request, ref network } => {
                let network = network.clone();
                self.disconnected(request, &network);
            }
        }
    }

    /// The connection ended: the command has been executed, or somebody was killed.
    fn report_ended(&mut self, task: Task) {
        let died = || {
            let what = format!("the helper (process {}) ended early", task.pid);
            Failure { message: what, hint: None, code: crate::fault::OWN_FAILURE }
        };
        match (&task.purpose, task.command) {
            _ if task.told => {}
            (Purpose::Start, Some(command)) => self.started(command),
            (Purpose::Start, None) => self.start_failed(died()),
            // A copy has no command; its helper's own end counts.
            (Purpose::Process { session, streams, detach }, _) => self.process_started(*session, *streams, task.pid, *detach),
            (Purpose::Disconnect { request, network }, _) => self.disconnected(*request, network),
            (Purpose::Connect { request } | Purpose::Follow { request, .. }, _) => self.done(*request, Some(died())),
        }
    }

    /// Whether a process is a child of this one that nobody knows yet. What is signalled by number later must be.
    fn is_new_child(&self, pid: i32) -> bool {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let is_child = pid > 0 && waitid(Id::Pid(Pid::from_raw(pid)), look).is_ok();
        let has_ended = self.early.iter().any(|(early, _)| *early == pid);
        let is_init = self.container.init.as_ref().is_some_and(|init| init.pid == pid);
        (is_child || has_ended)
            && !is_init
            && !self.container.processes.contains_key(&pid)
            && self.tasks.values().all(|task| task.pid != pid)
    }

    /// Takes note of every child that ended.
    pub(super) fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while let Some(pid) = waitid(Id::All, look).ok().and_then(|status| status.pid()) {
            // What it said before comes first, while its number is still its own.
            let reporting: Vec<_> = self.tasks.keys().copied().collect();
            reporting.into_iter().for_each(|number| self.report_ready(number));
            let Ok(status) = waitpid(pid, Some(WaitPidFlag::WNOHANG)) else { return };
            match code_of(status) {
                Some((pid, code)) => self.child_ended(pid.as_raw(), code),
                None if status.pid().is_none() => return,
                None => {}
            }
        }
    }

    fn child_ended(&mut self, pid: i32, code: i32) {
        // A command that ended was executed, even if its helper is still about to close the connection.
        let executed = self.tasks.iter().find(|(_, task)| task.pid == pid && task.command.is_some() && !task.told);
        if let Some(number) = executed.map(|(number, _)| *number)
            && let Some(task) = self.tasks.remove(&number)
        {
            self.report_ended(task);
        }
        if self.container.init.as_ref().is_some_and(|init| init.pid == pid) {
            self.container_ended(code);
        } else if let Some(streams) = self.container.processes.remove(&pid) {
            self.process_ended(streams, code);
        } else if !self.tasks.is_empty() {
            self.early.push((pid, code));
        }
        if self.tasks.is_empty() {
            self.early.clear();
        }
    }

    /// The code of a child that had ended before it was known.
    pub(super) fn early_end(&mut self, pid: i32) -> Option<i32> {
        let at = self.early.iter().position(|(early, _)| *early == pid)?;
        Some(self.early.swap_remove(at).1)
    }
}

/// The process that a pidfd stands for, as this process sees it.
fn pid_behind(pidfd: &OwnedFd) -> Option<i32> {
    use std::os::fd::AsRawFd;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok()).filter(|pid| *pid > 0)
}

/// Descriptors that a report promised and did not bring.
pub(super) fn missing() -> Fault {
    Fault::Refused { message: "the helper's report lacks descriptors".to_owned(), hint: None }
}

/// A copy of a descriptor for a helper or a message.
pub(super) fn copy(fd: &OwnedFd) -> Result<OwnedFd> {
    fd.try_clone().doing("copy a descriptor")
}
