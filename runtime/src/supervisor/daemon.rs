//! What the daemon asks, and what it is told.

use std::{
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use super::{
    Supervisor,
    container::{Phase, Waiter, not_running},
    listen::{self, Bound},
    process::Purpose,
};
use crate::{
    channel::ChannelError,
    fault::{Fault, OWN_FAILURE, Result},
    helper::{self, follow::Job},
    init::is_signal,
    parts,
    protocol::{Failure, Request, RequestId, ToDaemon, ToSupervisor, VERSION},
    spec::{Attachment, NetworkMode, Plan, Publication},
};

impl Supervisor {
    pub(super) fn tell(&mut self, message: ToDaemon) {
        let sent = self.link.send(&self.poll, message, &[]);
        self.was_sent(sent);
    }

    /// What the daemon will never hear it will never answer: a start that waits for that has failed.
    pub(super) fn was_sent(&mut self, sent: std::result::Result<(), ChannelError>) {
        if let Err(error) = sent {
            self.start_failed(failure(format!("the daemon cannot be told: {error}")));
        }
    }

    pub(super) fn done(&mut self, request: RequestId, error: Option<Failure>) {
        self.tell(ToDaemon::Done { request, error });
    }

    /// A new connection begins with everything that a daemon must know.
    pub(super) fn say_hello(&mut self) {
        let container = &self.container;
        let (userns, state) = (container.userns.as_ref(), container.state());
        let hello = ToDaemon::Hello {
            version: VERSION,
            container: self.id.clone(),
            state,
            userns: userns.is_some(),
            ports: Vec::new(),
            listeners: Vec::new(),
            more: false,
        };
        self.tell_all(hello);
    }

    /// Says `first` with all ports and listeners, in as many parts as it takes. A `Hello` brings the user namespace, if it says so.
    pub(super) fn tell_all(&mut self, first: ToDaemon) {
        self.tell_parts(first, true);
    }

    fn tell_parts(&mut self, first: ToDaemon, with_ports: bool) {
        let container = &self.container;
        let told_ports = if with_ports { container.ports.as_slice() } else { &[] };
        let ports = told_ports.iter().map(|(attachment, _)| attachment.clone()).collect();
        let parts = parts::split(ports, container.listeners.iter().map(|(listener, _)| listener.clone()).collect());
        let namespace = container.userns.as_ref().filter(|_| matches!(first, ToDaemon::Hello { userns: true, .. }));
        let of_ports = told_ports.iter().map(|(_, fd)| fd.as_fd());
        let mut fds = of_ports.chain(container.listeners.iter().map(|(_, fd)| fd.as_fd()));
        let mut namespace = namespace.map(AsFd::as_fd);
        let mut first = Some(first);
        let last = parts.len();
        let mut sent = Ok(());
        for (number, (ports, listeners)) in (1..).zip(parts) {
            let count = ports.len() + listeners.len();
            let part = ToDaemon::Attach { ports, listeners, more: number < last };
            let message = match first.take() {
                Some(mut first) => {
                    first.take(part);
                    first
                }
                None => part,
            };
            let fds: Vec<_> = namespace.take().into_iter().chain(fds.by_ref().take(count)).collect();
            sent = sent.and_then(|()| self.link.send(&self.poll, message, &fds));
        }
        self.was_sent(sent);
    }

    pub(super) fn daemon_ready(&mut self, readable: bool) {
        let sent = self.link.flush(&self.poll);
        self.was_sent(sent);
        if !readable {
            return;
        }
        loop {
            match self.link.receive() {
                Ok(Some((message, fds))) => self.told(message, fds),
                Ok(None) => return,
                Err(()) => return self.link.lose(&self.poll),
            }
        }
    }

    fn told(&mut self, message: ToSupervisor, fds: Vec<OwnedFd>) {
        match message {
            ToSupervisor::Welcome { userns, .. } => {
                self.link.welcome = true;
                if userns && self.container.userns.is_none() {
                    self.container.userns = fds.into_iter().next();
                }
                match self.container.phase {
                    Phase::Preparing => self.tell(ToDaemon::Prepare),
                    // The Hello carried what there was to attach.
                    Phase::Attaching => self.attached(),
                    _ => {}
                }
            }
            ToSupervisor::Plan { plan } => self.planned(plan),
            ToSupervisor::Attached => self.attached(),
            ToSupervisor::Refused { failure } => self.start_failed(failure),
            ToSupervisor::Request { request, what } => {
                if let Err(fault) = self.requested(request, what) {
                    self.done(request, Some(fault.into()));
                }
            }
        }
    }

    /// Does what is asked; what is done at once is answered at once, the rest when it is.
    fn requested(&mut self, request: RequestId, what: Request) -> Result<()> {
        match what {
            Request::Start => return self.start_requested(request),
            Request::Stop { grace_seconds } => {
                self.stop(Duration::from_secs(grace_seconds.into()), Waiter::Ended(request));
                return Ok(());
            }
            Request::Restart { grace_seconds } => {
                self.stop(Duration::from_secs(grace_seconds.into()), Waiter::Restarted(request));
                return Ok(());
            }
            Request::Remove => {
                self.remove(request);
                return Ok(());
            }
            Request::Connect { attachment } => return self.connect(request, attachment),
            Request::Disconnect { network } => return self.disconnect(request, network),
            Request::Follow { plan } => return self.follow(request, plan),
            Request::Signal { signal } => self.signal_requested(signal)?,
            Request::Pause => self.pause_requested(true)?,
            Request::Unpause => self.pause_requested(false)?,
            Request::Publish { publication } => self.publish(&publication)?,
            Request::Unpublish { publication, host_port } => self.unpublish(&publication, host_port)?,
        }
        self.done(request, None);
        Ok(())
    }

    fn start_requested(&mut self, request: RequestId) -> Result<()> {
        match self.container.phase {
            Phase::Running => self.done(request, None),
            Phase::Idle | Phase::Delayed(_) => {
                self.container.waiters.push(Waiter::Started(request));
                self.container.restarts.reset();
                self.begin_start();
            }
            _ => self.container.waiters.push(Waiter::Started(request)),
        }
        Ok(())
    }

    fn signal_requested(&mut self, signal: i32) -> Result<()> {
        if !is_signal(signal) {
            return Err(Fault::Refused { message: format!("{signal} is no signal"), hint: None });
        }
        if !self.container.is_running() {
            return Err(not_running());
        }
        self.container.signal(signal)
    }

    fn pause_requested(&mut self, pause: bool) -> Result<()> {
        let id = self.id.clone();
        self.container.pause(&id, pause)?;
        self.tell(ToDaemon::Paused { paused: pause });
        Ok(())
    }

    fn connect(&mut self, request: RequestId, attachment: Attachment) -> Result<()> {
        if !self.container.is_running() {
            return Err(not_running());
        }
        let purpose = Purpose::Connect { request };
        self.begin(purpose, |supervisor, report| {
            let container = &supervisor.container;
            let namespaces = container.namespaces.as_ref().ok_or_else(not_running)?;
            helper::link::connect(report, container.userns.as_ref(), &namespaces.network, &attachment)
        })?;
        Ok(())
    }

    /// The helper has made the interface. The daemon gets its port first, then the answer.
    pub(super) fn connected(&mut self, request: RequestId, attachment: Attachment, fd: OwnedFd) {
        if !self.container.is_running() {
            return self.done(request, Some(not_running().into()));
        }
        let message = ToDaemon::Attach { ports: vec![attachment.clone()], listeners: Vec::new(), more: false };
        let sent = self.link.send(&self.poll, message, &[fd.as_fd()]);
        if let Err(error) = sent {
            return self.done(request, Some(failure(format!("the daemon cannot be told: {error}"))));
        }
        self.container.ports.push((attachment, fd));
        self.done(request, None);
    }

    fn disconnect(&mut self, request: RequestId, network: String) -> Result<()> {
        let Some((attachment, _)) = self.container.ports.iter().find(|(attachment, _)| attachment.network == network) else {
            return Err(Fault::Refused { message: format!("the container is not on the network `{network}`"), hint: None });
        };
        let ifname = attachment.ifname.clone();
        self.begin(Purpose::Disconnect { request, network }, |supervisor, report| {
            let container = &supervisor.container;
            let namespaces = container.namespaces.as_ref().ok_or_else(not_running)?;
            helper::link::disconnect(report, container.userns.as_ref(), &namespaces.network, &ifname)
        })?;
        Ok(())
    }

    /// The interface is gone; what is left is its descriptor, here and at the daemon.
    pub(super) fn disconnected(&mut self, request: RequestId, network: &str) {
        self.container.ports.retain(|(attachment, _)| attachment.network != network);
        self.tell(ToDaemon::Detach { networks: vec![network.to_owned()], publications: Vec::new(), listeners: Vec::new() });
        self.done(request, None);
    }

    /// Publications are bound before anything is changed: a host port may have been taken since it was closed.
    fn follow(&mut self, request: RequestId, plan: Plan) -> Result<()> {
        if !self.container.is_running() {
            return Err(not_running());
        }
        let bound = listen::bind_all(&self.silent(&plan))?;
        let purpose = Purpose::Follow { request, plan: plan.clone(), bound };
        self.begin(purpose, |supervisor, report| {
            let container = &supervisor.container;
            let job = Job {
                spec: &supervisor.record.spec,
                id: &supervisor.id,
                userns: container.userns.as_ref(),
                namespaces: container.namespaces.as_ref().ok_or_else(not_running)?,
                layer: container.layer.as_ref().ok_or_else(not_running)?,
                base: &supervisor.dir.join("root"),
                before: container.plan.as_ref().ok_or_else(not_running)?,
                now: &plan,
            };
            helper::follow::run(report, &job)
        })?;
        Ok(())
    }

    /// The publications that are to listen by `plan` and do not.
    pub(super) fn silent(&self, plan: &Plan) -> Vec<Publication> {
        let network = &self.record.spec.network;
        if network.mode != NetworkMode::Bridge || !plan.publishes {
            return Vec::new();
        }
        let listens = |publication: &Publication| self.container.listeners.iter().any(|(listener, _)| listener.publication == *publication);
        network.publish.iter().filter(|publication| !listens(publication)).cloned().collect()
    }

    /// Routes and names are those of `plan`. The daemon gets all listeners anew, for they may lead to another port now.
    pub(super) fn followed(&mut self, request: RequestId, plan: Plan, bound: Vec<Bound>) {
        if !self.container.is_running() {
            return self.done(request, Some(not_running().into()));
        }
        self.container.listeners.extend(bound);
        if !plan.publishes {
            self.close_listeners();
        } else if !self.container.listeners.is_empty() {
            self.tell_parts(ToDaemon::Attach { ports: Vec::new(), listeners: Vec::new(), more: false }, false);
        }
        self.container.plan = Some(plan);
        self.done(request, None);
    }

    fn publish(&mut self, publication: &Publication) -> Result<()> {
        if !self.container.is_running() {
            return Err(not_running());
        }
        let bound = listen::bind(publication)?;
        let listeners = bound.iter().map(|(listener, _)| listener.clone()).collect();
        let fds: Vec<_> = bound.iter().map(|(_, fd)| fd.as_fd()).collect();
        self.link.send(&self.poll, ToDaemon::Attach { ports: Vec::new(), listeners, more: false }, &fds).map_err(helper::lost)?;
        self.container.listeners.extend(bound);
        self.record.spec.network.publish.push(publication.clone());
        Ok(())
    }

    fn unpublish(&mut self, publication: &Publication, host_port: Option<u16>) -> Result<()> {
        let is_meant =
            |(listener, _): &mut Bound| listener.publication == *publication && host_port.is_none_or(|port| port == listener.host_port);
        // Their sockets are closed when the daemon hears of it.
        let gone: Vec<_> = self.container.listeners.extract_if(.., is_meant).map(|(listener, _)| listener).collect();
        if gone.is_empty() {
            let port = publication.container_port;
            return Err(Fault::Refused { message: format!("the container does not publish port {port} like this"), hint: None });
        }
        let publish = &mut self.record.spec.network.publish;
        match host_port.and_then(|_| publish.iter().position(|other| other == publication)) {
            Some(at) => drop(publish.remove(at)),
            None => publish.retain(|other| other != publication),
        }
        self.tell(ToDaemon::Detach { networks: Vec::new(), publications: Vec::new(), listeners: gone });
        Ok(())
    }
}

/// A failure of our own with these words.
pub(super) fn failure(message: impl Into<String>) -> Failure {
    Failure { message: message.into(), hint: None, code: OWN_FAILURE }
}
