//! What supervisors say, and what becomes of it: hello, prepare, attach, started, exited, gone.
//!
//! Every step is one change of the state under its lock. What a container holds (leases, ports, listeners) is taken in `prepare`
//! and `attach` and given back in one place, [`Daemon::let_go`].

use std::os::fd::OwnedFd;

use netloom_runtime::{
    protocol::{Listener, Request, SupervisorState, ToDaemon, ToSupervisor},
    spec::{Attachment, RestartPolicy},
};

use super::{
    Daemon,
    container::{LOST, Link},
    error::{Error, Result},
    events::now,
    lookup::short,
    state::State,
    supervisors::{Wire, refuse},
};
use crate::api;

/// What a supervisor says first.
#[derive(Debug)]
pub(crate) struct Hello {
    pub container: String,
    pub state: SupervisorState,
    pub ports: Vec<Attachment>,
    pub listeners: Vec<Listener>,
    /// Of the ports, then of the listeners.
    pub fds: Vec<OwnedFd>,
}

/// How a container ended.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub code: i32,
    pub error: Option<String>,
    pub will_restart: bool,
    pub oom_killed: bool,
}

impl Daemon {
    /// Takes a supervisor in, with everything of its container that already is there.
    pub(crate) fn hello(&self, wire: &Wire, hello: Hello) -> Result<()> {
        let mut guard = self.state();
        let state = &mut *guard;
        let id = hello.container.clone();
        state.expected.remove(&id);
        let Some(container) = state.containers.get_mut(&id) else {
            // Removed while the daemon was away, or while it started: nobody needs it.
            wire.send(&ToSupervisor::Request { request: 0, what: Request::Remove }, &[]).ok();
            self.settle_if_all_are_back(state);
            return Err(Error::missing(format!("no such container: `{}`", short(&id))));
        };
        if container.link.is_some() {
            return Err(Error::conflict(format!("container `{}` has a supervisor already", container.record.name)));
        }
        container.link = Some(Link::new(wire.clone()));
        tracing::info!(id, state = ?hello.state, ports = hello.ports.len(), listeners = hello.listeners.len(), "a supervisor says hello");
        match hello.state {
            SupervisorState::Running { pid, paused, started } => {
                container.status.state = if paused { api::State::Paused } else { api::State::Running };
                container.status.pid = Some(pid);
                container.status.started = Some(started);
                container.status.exit_code = None;
                container.status.wanted = true;
            }
            SupervisorState::Restarting => container.status.state = api::State::Restarting,
            // One that was not yet known to run when the last daemon went has ended all the same; a start that failed was told.
            SupervisorState::Exited { code, error, oom_killed }
                if container.is_active() || (container.status.state == api::State::Created && error.is_none()) =>
            {
                self.exited_in(state, &id, Ending { code, error, will_restart: false, oom_killed });
            }
            SupervisorState::Created | SupervisorState::Exited { .. } => {}
        }
        // One whose start was under way when its daemon went brings ports, too.
        let attached = self.attach_to(state, &id, hello.ports, hello.listeners, hello.fds);
        if let Err(error) = attached {
            let container = state.by_id_mut(&id)?;
            tracing::error!(id, error = error.message, "a container that came back has lost its network");
            if !container.runs() {
                container.link = None;
                return Err(error);
            }
        }
        self.keep_status(state, &id);
        self.settle_if_all_are_back(state);
        Ok(())
    }

    /// One message of the supervisor of container `id`.
    pub(crate) fn hear(&self, id: &str, wire: &Wire, message: ToDaemon, fds: Vec<OwnedFd>) {
        let answer = match message {
            ToDaemon::Hello { .. } | ToDaemon::Hold { .. } => Some(refuse(Error::invalid("hello is said once"))),
            ToDaemon::Prepare => Some(self.prepare(id).map_or_else(refuse, |plan| ToSupervisor::Plan { plan })),
            ToDaemon::Attach { ports, listeners, more: _ } => {
                let attached = self.attach_to(&mut self.state(), id, ports, listeners, fds);
                Some(attached.map_or_else(refuse, |()| ToSupervisor::Attached))
            }
            ToDaemon::Detach { networks, publications, listeners } => {
                self.detach(id, &networks, |listener| publications.contains(&listener.publication) || listeners.contains(listener));
                None
            }
            ToDaemon::Started { pid, read_only } => {
                self.started(id, pid, read_only);
                None
            }
            ToDaemon::Exited { code, error, will_restart, oom_killed } => {
                self.exited_in(&mut self.state(), id, Ending { code, error, will_restart, oom_killed });
                None
            }
            ToDaemon::Paused { paused } => {
                self.paused(id, paused);
                None
            }
            ToDaemon::Done { request, error } => {
                let mut state = self.state();
                let link = state.containers.get_mut(id).and_then(|container| container.link.as_mut());
                if let Some(waiter) = link.and_then(|link| link.pending.remove(&request)) {
                    // Whoever asked may have given up.
                    waiter.send(error).ok();
                }
                None
            }
        };
        if let Some(answer) = answer {
            wire.answer(id, &answer);
        }
    }

    /// Puts ports and listeners of container `id` on the data plane; on failure none of them stay.
    pub(crate) fn attach_to(
        &self,
        state: &mut State,
        id: &str,
        ports: Vec<Attachment>,
        listeners: Vec<Listener>,
        fds: Vec<OwnedFd>,
    ) -> Result<()> {
        if fds.len() != ports.len() + listeners.len() {
            return Err(Error::invalid("attach came with the wrong number of descriptors"));
        }
        let mut fds = fds.into_iter();
        let networks: Vec<_> = ports.iter().map(|attachment| attachment.network.clone()).collect();
        let new = listeners.clone();
        let attached =
            ports.into_iter().zip(&mut fds).try_for_each(|(attachment, tap)| self.attach_port(state, id, attachment, tap)).and_then(|()| {
                listeners.into_iter().zip(&mut fds).try_for_each(|(listener, fd)| self.attach_listener(state, id, listener, fd))
            });
        if attached.is_err() {
            self.unlisten(state, id, |listener| new.contains(listener));
            self.detach_ports(state, id, |network| networks.iter().any(|name| name == network));
        }
        self.refresh_asks(state, id);
        self.refresh_names(state, &networks);
        attached
    }

    fn started(&self, id: &str, pid: i32, read_only: Vec<String>) {
        let mut state = self.state();
        let Ok(container) = state.by_id_mut(id) else { return };
        let again = container.status.state == api::State::Restarting;
        container.status.restart_count += u32::from(again);
        container.status.state = api::State::Running;
        container.status.pid = Some(pid);
        container.status.read_only = read_only;
        container.status.exit_code = None;
        container.status.oom_killed = false;
        container.status.error.clear();
        container.status.started = Some(now());
        container.status.finished = None;
        container.status.wanted = true;
        self.events.tell("container", if again { "restart" } else { "start" }, id, container.name(), &[("pid", pid.to_string())]);
        self.keep_status(&mut state, id);
    }

    /// Also said by requests once they are done: a change that is already known is no event.
    pub(crate) fn paused(&self, id: &str, paused: bool) {
        let mut state = self.state();
        let Ok(container) = state.by_id_mut(id) else { return };
        let (from, to, action) = match paused {
            true => (api::State::Running, api::State::Paused, "pause"),
            false => (api::State::Paused, api::State::Running, "unpause"),
        };
        if container.status.state == from {
            container.status.state = to;
            self.events.tell("container", action, id, container.name(), &[]);
            self.keep_status(&mut state, id);
        }
    }

    /// A container ended, or its start failed.
    pub(crate) fn exited_in(&self, state: &mut State, id: &str, ending: Ending) {
        let Ok(container) = state.by_id_mut(id) else { return };
        let ran = container.status.pid.take().is_some() || container.is_active();
        container.status.exit_code = Some(ending.code);
        container.status.error = ending.error.unwrap_or_default();
        container.status.oom_killed = ending.oom_killed;
        container.status.wanted &= ending.will_restart;
        if ran {
            container.status.finished = Some(now());
        }
        container.status.state = match container.status.state {
            api::State::Dead => api::State::Dead,
            _ if ending.will_restart => api::State::Restarting,
            // As docker: what never ran has not exited.
            api::State::Created => api::State::Created,
            _ => api::State::Exited,
        };
        if ending.oom_killed {
            self.events.tell("container", "oom", id, container.name(), &[]);
        }
        let attributes = [("exit_code", ending.code.to_string()), ("error", container.status.error.clone())];
        self.events.tell("container", if ran { "die" } else { "start_failed" }, id, container.name(), &attributes);
        let removed = container.record.spec.auto_remove && !ending.will_restart && container.status.state != api::State::Dead;
        if !ending.will_restart {
            self.let_go(state, id);
        } else {
            // The addresses stay its own for the next start.
            self.detach_all(state, id);
        }
        self.keep_status(state, id);
        if removed {
            self.leave(state, id);
        }
    }

    /// The connection of a supervisor has ended, and with it its container.
    pub(crate) fn supervisor_gone(&self, id: &str, wire: &Wire) {
        let mut guard = self.state();
        let state = &mut *guard;
        if state.leaving.get(id).and_then(|container| container.link.as_ref()).is_some_and(|link| link.wire.is(wire)) {
            if let Some(container) = state.leaving.remove(id) {
                self.launcher.sweep_groups(id);
                self.bury(container);
            }
            return;
        }
        let Some(container) = state.containers.get_mut(id) else { return };
        if !container.link.as_ref().is_some_and(|link| link.wire.is(wire)) {
            return;
        }
        container.link = None;
        tracing::info!(id, "a supervisor is gone");
        self.supervisor_lost(state, id);
    }

    /// Settles a container that has no supervisor any more, whatever it was doing.
    pub(crate) fn supervisor_lost(&self, state: &mut State, id: &str) {
        // Before anybody may start another one, whose groups have the same names.
        self.launcher.sweep_groups(id);
        let Some(container) = state.containers.get_mut(id) else { return };
        let again = container.status.wanted && container.record.spec.restart == RestartPolicy::Always;
        if container.is_active() {
            container.status.state = api::State::Exited;
            container.status.exit_code = Some(LOST);
            container.status.error = "its supervisor was lost, and the container with it".to_owned();
            container.status.pid = None;
            container.status.finished = Some(now());
            // It did not stop by anybody's will.
            container.status.wanted = again;
            let attributes = [("exit_code", LOST.to_string()), ("error", container.status.error.clone())];
            self.events.tell("container", "die", id, container.name(), &attributes);
        }
        let dead = container.status.state == api::State::Dead;
        let removed = dead || container.record.spec.auto_remove;
        self.let_go(state, id);
        self.keep_status(state, id);
        if removed && let Some(container) = state.containers.remove(id) {
            self.bury(container);
        }
    }

    /// Closes what the supervisor has closed.
    fn detach(&self, id: &str, networks: &[String], which: impl Fn(&Listener) -> bool) {
        let mut state = self.state();
        self.unlisten(&mut state, id, which);
        self.detach_ports(&mut state, id, |network| networks.iter().any(|name| name == network));
        self.refresh_asks(&state, id);
        self.refresh_names(&state, networks);
    }

    /// Gives back all that a container holds: ports, listeners, addresses.
    pub(crate) fn let_go(&self, state: &mut State, id: &str) {
        self.detach_all(state, id);
        let Some(container) = state.containers.get_mut(id) else { return };
        for attachment in std::mem::take(&mut container.leases) {
            self.release(state, id, &attachment);
        }
    }

    /// Takes ports and listeners off the data plane; the addresses stay leased.
    fn detach_all(&self, state: &mut State, id: &str) {
        let Some(container) = state.containers.get(id) else { return };
        let networks: Vec<_> = container.ports.iter().map(|port| port.attachment.network.clone()).collect();
        self.unlisten(state, id, |_| true);
        self.detach_ports(state, id, |_| true);
        self.refresh_names(state, &networks);
    }

    /// Writes down where a container stands and tells those who wait for it.
    pub(crate) fn keep_status(&self, state: &mut State, id: &str) {
        let Some(container) = state.containers.get(id) else { return };
        container.publish_life();
        if let Err(error) = self.write_status(container) {
            tracing::error!(id, error = error.message, "the status of a container is not on disk");
        }
    }
}
