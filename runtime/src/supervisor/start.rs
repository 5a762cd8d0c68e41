//! A start, step by step: a plan from the daemon, the helper's work, ports and listeners to the daemon, and the command.

use std::{
    os::fd::OwnedFd,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    Supervisor,
    container::{Phase, START_TIME},
    listen,
    process::{Purpose, copy, missing},
    streams::Streams,
};
use crate::{
    channel::Channel,
    fault::{Doing, Fault, Result},
    helper::{
        self,
        start::{Job, Namespaces},
    },
    init::ToInit,
    isolation,
    protocol::{FrameKind, ToDaemon},
    rootfs::{fresh::is_namespaced, upper},
    spec::{Attachment, ContainerSpec, NetworkMode, Plan},
};

/// How long a daemon that is being started may take.
const DAEMON_TIME: Duration = Duration::from_secs(20);

impl Supervisor {
    /// Asks the daemon for a plan; if it is not there, it is asked once it is.
    pub(super) fn begin_start(&mut self) {
        self.container.phase = Phase::Preparing;
        let now = Instant::now();
        (self.container.daemon_until, self.container.start_until) = (Some(now + DAEMON_TIME), Some(now + START_TIME));
        if let Err(fault) = check(&self.record.spec) {
            return self.start_failed(fault.into());
        }
        if self.link.welcome {
            self.tell(ToDaemon::Prepare);
        } else {
            self.link.want();
        }
    }

    /// The daemon has given addresses: the helper's turn.
    pub(super) fn planned(&mut self, plan: Plan) {
        if !matches!(self.container.phase, Phase::Preparing) {
            return;
        }
        self.container.plan = Some(plan);
        self.container.phase = Phase::Building;
        if let Err(fault) = self.build() {
            self.start_failed(fault.into());
        }
    }

    fn build(&mut self) -> Result<()> {
        let base = self.dir.join("root");
        std::fs::create_dir_all(&base).doing(format_args!("make {}", base.display()))?;
        // The groups of an earlier run that could not be removed yet are about to be entered again.
        self.container.sweep_at = None;
        self.container.cgroup.create(&self.dir, &self.id, &self.record.spec.limits)?;
        let (mut streams, stdio) = if self.record.spec.tty {
            (Streams::default(), None)
        } else {
            let (streams, stdio) = Streams::pipes(self.record.spec.interactive)?;
            (streams, Some(stdio))
        };
        streams.logged = true;
        let number = self.number();
        self.streams.insert(number, streams);
        self.container.streams = Some(number);
        let (control, init_control) = Channel::pair().map_err(helper::lost)?;
        let userns = self.container.userns.as_ref().map(copy).transpose()?;
        let disks = upper::places(&self.root);
        let hidden = self.hidden(&disks);
        self.begin(Purpose::Start, move |supervisor, report| {
            let container = &supervisor.container;
            let Some(plan) = &container.plan else { return Err(missing()) };
            let job = Job {
                spec: &supervisor.record.spec,
                id: &supervisor.id,
                plan,
                userns: userns.as_ref(),
                layer: container.layer.as_ref(),
                root: &supervisor.root,
                base,
                hidden,
                disks,
                cgroup: container.cgroup.entries(),
                stdio,
                control: init_control,
                arguments: supervisor.arguments,
            };
            helper::start::run(report, job)
        })?;
        self.container.control = Some(control);
        Ok(())
    }

    /// What must not be visible inside: this instance, and where instances keep their state by default.
    fn hidden(&self, disks: &[PathBuf]) -> Vec<PathBuf> {
        let home = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
        let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state")));
        let mut hidden = vec![self.root.clone(), "/var/lib/netloom".into(), "/run/netloom".into()];
        hidden.extend(home.map(|home| home.join("netloom")));
        hidden.extend_from_slice(disks);
        hidden.into_iter().map(|path| path.canonicalize().unwrap_or(path)).collect()
    }

    /// The helper is done: everything but the command is there.
    pub(super) fn container_ready(
        &mut self,
        task: u32,
        kinds: (bool, bool, bool),
        ports: Vec<Attachment>,
        notes: &[String],
        fds: Vec<OwnedFd>,
    ) {
        if !matches!(self.container.phase, Phase::Building) {
            return;
        }
        let pid = self.tasks.get(&task).map_or(0, |task| task.pid);
        match self.take_ready(pid, kinds, ports, fds.into_iter()) {
            Ok(()) => self.tell_notes(notes),
            Err(fault) => return self.start_failed(fault.into()),
        }
        if let Err(fault) = self.attach() {
            self.start_failed(fault.into());
        }
    }

    fn take_ready(
        &mut self,
        pid: i32,
        (layer, disk, terminal): (bool, bool, bool),
        ports: Vec<Attachment>,
        mut fds: impl Iterator<Item = OwnedFd>,
    ) -> Result<()> {
        let control = self.container.control.take().ok_or_else(missing)?;
        self.watch_init(pid, control)?;
        if layer {
            self.container.layer = Some(fds.next().ok_or_else(missing)?);
        }
        if disk {
            self.container.disk = Some(fds.next().ok_or_else(missing)?);
        }
        self.container.namespaces = Some(Namespaces::from_fds(&mut fds).ok_or_else(missing)?);
        if let Some(number) = self.container.streams {
            let master = if terminal { Some(fds.next().ok_or_else(missing)?) } else { None };
            let size = self.container.starter.and_then(|session| self.sessions.get(&session)?.size);
            if let (Some(streams), Some(master)) = (self.streams.get_mut(&number), master) {
                streams.set_terminal(master, size)?;
            }
            self.watch_streams(number);
        }
        self.container.ports = ports.into_iter().zip(fds).collect();
        Ok(())
    }

    /// What people should know, for those who see the start.
    fn tell_notes(&mut self, notes: &[String]) {
        let Some(session) = self.container.starter.and_then(|session| self.sessions.get_mut(&session)) else { return };
        for note in notes {
            session.push(FrameKind::Stderr, format!("netloom: {note}\n").as_bytes());
        }
    }

    /// Binds the publications and gives everything to the daemon.
    fn attach(&mut self) -> Result<()> {
        self.container.phase = Phase::Attaching;
        let silent = self.container.plan.as_ref().map(|plan| self.silent(plan)).unwrap_or_default();
        self.container.listeners.extend(listen::bind_all(&silent)?);
        let leads_nowhere = self.container.plan.as_ref().is_some_and(|plan| !plan.publishes);
        if leads_nowhere && !self.record.spec.network.publish.is_empty() {
            self.tell_notes(&["published ports do not listen: none of the container's networks leads in".to_owned()]);
        }
        if self.container.ports.is_empty() && self.container.listeners.is_empty() {
            self.attached();
        } else if self.link.welcome {
            self.tell_all(ToDaemon::Attach { ports: Vec::new(), listeners: Vec::new(), more: false });
        }
        // A daemon that is away gets them with the next Hello.
        Ok(())
    }

    /// Frames flow: the command's turn.
    pub(super) fn attached(&mut self) {
        if !matches!(self.container.phase, Phase::Attaching) {
            return;
        }
        self.container.phase = Phase::Executing;
        let gone = self.container.init.as_ref().is_none_or(|init| init.control.send(&ToInit::Go, &[]).is_err());
        if gone {
            // Its report says why, or that it was killed.
            self.container.kill();
        }
    }
}

/// What can be refused before anything is made.
fn check(spec: &ContainerSpec) -> Result<()> {
    isolation::caps::wanted(&spec.security)?;
    let network = matches!(spec.network.mode, NetworkMode::Bridge | NetworkMode::None);
    match spec.sysctls.iter().find(|(key, _)| !is_namespaced(key, network)) {
        Some((key, _)) => {
            let hint = "only those of the container's own namespaces can be set: net.* of its own network, kernel.msg*, kernel.sem, kernel.shm*, fs.mqueue.*";
            Err(Fault::refused(format!("the sysctl `{key}` belongs to the host"), hint))
        }
        None => Ok(()),
    }
}
