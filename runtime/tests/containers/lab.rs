//! One instance with its daemon and containers, and sessions with them.

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use netloom_runtime::{
    protocol::{Failure, FrameKind, FromSupervisor, Open, Request, ToDaemon, ToSession, WindowSize},
    sockets,
    spec::{
        ContainerSpec, ExecSpec, LimitSpec, NetworkMode, NetworkSpec, Plan, ProcessSpec, Record, RestartPolicy, RootSpec, SecuritySpec,
    },
    supervisor,
};

use crate::daemon::{self, Daemon};

pub(crate) struct Lab {
    pub(crate) root: PathBuf,
    pub(crate) daemon: Option<Daemon>,
    containers: Vec<String>,
    plan: Plan,
}

/// What came of a session.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) failure: Option<Failure>,
}

static NEXT: AtomicU32 = AtomicU32::new(1);

pub(crate) fn plan() -> Plan {
    Plan { attachments: Vec::new(), join_pid: None, nameservers: Vec::new(), search: Vec::new(), hosts: Vec::new(), publishes: true }
}

/// A container of no network that runs `command` by sh.
pub(crate) fn spec(command: &str) -> ContainerSpec {
    ContainerSpec {
        command: ["sh", "-c", command].map(str::to_owned).to_vec(),
        process: ProcessSpec { umask: 0o022, ..ProcessSpec::default() },
        hostname: None,
        tty: false,
        interactive: false,
        auto_remove: false,
        restart: RestartPolicy::No,
        labels: BTreeMap::new(),
        network: NetworkSpec {
            mode: NetworkMode::None,
            networks: Vec::new(),
            publish: Vec::new(),
            dns: Vec::new(),
            dns_search: Vec::new(),
            add_host: Vec::new(),
            host_loopback: false,
        },
        root: RootSpec::default(),
        sysctls: Vec::new(),
        security: SecuritySpec { no_new_privileges: true, ..SecuritySpec::default() },
        limits: LimitSpec::default(),
    }
}

pub(crate) fn exec(command: &str) -> ExecSpec {
    ExecSpec {
        command: ["sh", "-c", command].map(str::to_owned).to_vec(),
        process: ProcessSpec { umask: 0o022, ..ProcessSpec::default() },
        tty: false,
        interactive: false,
        privileged: false,
    }
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with(plan())
    }

    pub(crate) fn with(plan: Plan) -> Self {
        let root = daemon::root(&format!("lab{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let daemon = Some(Daemon::start(&root, plan.clone()));
        Self { root, daemon, containers: Vec::new(), plan }
    }

    pub(crate) fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    pub(crate) fn crash_daemon(&mut self) {
        self.daemon.take().unwrap().crash();
    }

    pub(crate) fn restart_daemon(&mut self) {
        self.daemon = Some(Daemon::start(&self.root, self.plan.clone()));
    }

    pub(crate) fn dir(&self, id: &str) -> PathBuf {
        self.root.join("containers").join(id)
    }

    /// The container made last.
    pub(crate) fn last(&self) -> &str {
        self.containers.last().unwrap()
    }

    /// The supervisor, which listens for sessions.
    pub(crate) fn supervisor(&self, id: &str) -> i32 {
        nix::sys::socket::getsockopt(&self.session(id).0, nix::sys::socket::sockopt::PeerCredentials).unwrap().pid()
    }

    /// A container whose supervisor is gone.
    pub(crate) fn forget(&mut self, id: &str) {
        self.containers.retain(|other| other != id);
    }

    /// Writes a record and spawns the supervisor.
    pub(crate) fn create(&mut self, spec: ContainerSpec) -> (String, Session) {
        let id = format!("{:064x}", 0xabc0_0000_u64 + u64::from(NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(self.dir(&id)).unwrap();
        let record = Record { version: 1, id: id.clone(), name: "test".to_owned(), spec, created: "2024-01-01T00:00:00Z".to_owned() };
        fs::write(self.dir(&id).join("record.json"), serde_json::to_vec(&record).unwrap()).unwrap();
        let first = supervisor::spawn(&self.root, &id).unwrap();
        self.containers.push(id.clone());
        (id, Session(first))
    }

    /// Starts a container and returns once its command runs.
    pub(crate) fn start(&mut self, spec: ContainerSpec) -> (String, Session) {
        let (id, mut session) = self.create(spec);
        session.open(&Open::Start { attach: true, size: None });
        session.started();
        (id, session)
    }

    /// Runs a container to its end.
    pub(crate) fn run(&mut self, spec: ContainerSpec) -> Outcome {
        let (_, mut session) = self.create(spec);
        session.open(&Open::Start { attach: true, size: None });
        session.finish()
    }

    pub(crate) fn session(&self, id: &str) -> Session {
        Session(sockets::connect_session(&self.dir(id)).unwrap())
    }

    pub(crate) fn exec(&self, id: &str, exec: ExecSpec) -> Outcome {
        let mut session = self.session(id);
        session.open(&Open::Exec { exec, detach: false, size: None });
        session.finish()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.daemon.is_none() {
            self.restart_daemon();
        }
        for id in self.containers.clone() {
            if std::thread::panicking() {
                // Whatever state it is in: its supervisor takes it along.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    self.daemon().wait(&id, "hello", |message| matches!(message, ToDaemon::Hello { .. }).then_some(()));
                    let _ = self.daemon().ask(&id, Request::Remove);
                }));
            } else {
                self.daemon().wait(&id, "hello", |message| matches!(message, ToDaemon::Hello { .. }).then_some(()));
                self.daemon().ask(&id, Request::Remove).unwrap();
            }
        }
        fs::remove_dir_all(&self.root).unwrap();
    }
}

pub(crate) struct Session(pub(crate) UnixStream);

impl Session {
    fn send(&mut self, kind: FrameKind, payload: &[u8]) {
        let mut frame = vec![kind as u8];
        frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
        frame.extend(payload);
        // Whoever has all it needs may be done by now: what it said then is read.
        self.0.write_all(&frame).or_else(|error| if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }).unwrap();
    }

    pub(crate) fn open(&mut self, open: &Open) {
        self.send(FrameKind::Control, &serde_json::to_vec(open).unwrap());
    }

    pub(crate) fn say(&mut self, word: &ToSession) {
        self.send(FrameKind::Control, &serde_json::to_vec(word).unwrap());
    }

    pub(crate) fn input(&mut self, bytes: &[u8]) {
        bytes.chunks(60_000).for_each(|chunk| self.send(FrameKind::Stdin, chunk));
    }

    pub(crate) fn resize(&mut self, rows: u16, cols: u16) {
        self.say(&ToSession::Resize { size: WindowSize { rows, cols } });
    }

    /// The next frame; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        self.0.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut header = [0; 5];
        self.0.read_exact(&mut header).ok()?;
        let mut payload = vec![0; u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize];
        self.0.read_exact(&mut payload).ok()?;
        Some((header[0], payload))
    }

    /// Waits until the command runs; returns its PID.
    pub(crate) fn started(&mut self) -> i32 {
        loop {
            let (kind, payload) = self.next().expect("the session ended before the command ran");
            if kind != FrameKind::Control as u8 {
                continue;
            }
            match serde_json::from_slice(&payload).unwrap() {
                FromSupervisor::Started { pid } => return pid,
                other => panic!("not started: {other:?}"),
            }
        }
    }

    /// Reads output until it contains `text`.
    pub(crate) fn expect(&mut self, text: &str) -> String {
        let mut all = String::new();
        while !all.contains(text) {
            let (kind, payload) = self.next().unwrap_or_else(|| panic!("the session ended without {text:?}: {all:?}"));
            assert_ne!(kind, FrameKind::Control as u8, "{}, after {all:?}", String::from_utf8_lossy(&payload));
            all.push_str(&String::from_utf8_lossy(&payload));
        }
        all
    }

    /// Everything until the session ends.
    pub(crate) fn finish(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        while let Some((kind, payload)) = self.next() {
            let text = String::from_utf8_lossy(&payload);
            match kind {
                2 => outcome.stdout.push_str(&text),
                3 => outcome.stderr.push_str(&text),
                _ => match serde_json::from_slice(&payload).unwrap() {
                    FromSupervisor::Exited { code } => outcome.code = Some(code),
                    FromSupervisor::Failed { failure } => outcome.failure = Some(failure),
                    FromSupervisor::Started { .. } => {}
                },
            }
        }
        outcome
    }
}

/// Waits for a condition with a bound.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a process exists and is no zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
