//! What sessions ask, and the streams between them and the container's processes.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::{
    Supervisor,
    container::{Phase, not_running},
    daemon::failure,
    log::Stream,
    poll::{Interest, Token},
    process::Purpose,
    session::{Frame, Role},
    streams::{Chunk, Streams},
};
use crate::{
    fault::{Fault, Result},
    helper::{self, archive::Place},
    init::is_signal,
    process::Stdio,
    protocol::{Failure, FrameKind, FromSupervisor, Open, ToSession, WindowSize},
    spec::ExecSpec,
};

/// How many times a stream of an ended command is read before others get their turn.
const DRAIN_MAX: usize = 64;

/// The signals that end a start: there is no command yet that could have an opinion on them.
const ENDS_A_START: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

impl Supervisor {
    pub(super) fn session_ready(&mut self, number: u32, readable: bool) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let mut alive = session.flush().is_ok();
        if readable && alive && !session.closing {
            alive = session.fill().unwrap_or(false);
            while let Some(next) = self.sessions.get_mut(&number).map(super::session::Session::next_frame) {
                match next {
                    Ok(Some(frame)) => self.frame(number, frame),
                    Ok(None) => break,
                    Err(_) => {
                        alive = false;
                        break;
                    }
                }
            }
        }
        let streams = self.sessions.get(&number).and_then(|session| session.streams);
        if alive {
            self.watch_session(number);
        } else {
            self.drop_session(number);
        }
        // What an ended command left may have waited for this session.
        if let Some(streams) = streams {
            self.drain(streams);
        }
    }

    /// Waits for what a session can do next; one that has said everything ends, and what waited for it goes on.
    pub(super) fn watch_session(&mut self, number: u32) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        if session.flush().is_err() || session.is_lost() || (session.closing && !session.wants_write()) {
            return self.drop_session(number);
        }
        let streams = session.streams;
        let full = streams.and_then(|streams| self.streams.get(&streams)).is_some_and(|streams| !streams.takes_input());
        let interest = Interest { read: !full && !session.closing, write: session.wants_write() };
        self.poll.set(&session.stream, Token::Session(number), interest);
        if let Some(streams) = streams {
            self.watch_streams(streams);
        }
    }

    fn drop_session(&mut self, number: u32) {
        let Some(session) = self.sessions.remove(&number) else { return };
        self.poll.set(&session.stream, Token::Session(number), Interest { read: false, write: false });
        if self.container.starter == Some(number) {
            self.container.starter = None;
        }
        let Some(streams) = session.streams else { return };
        if let Some(found) = self.streams.get_mut(&streams) {
            found.sessions.retain(|other| *other != number);
            // Who gave the input gives no more; a terminal can be attached to again.
            if matches!(session.role, Role::Starter { .. } | Role::Process) && !found.is_terminal() {
                found.end_input();
            }
        }
        self.watch_streams(streams);
    }

    /// Ends a session with a last word.
    pub(super) fn close_session(&mut self, number: u32, word: Option<&FromSupervisor>) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        if let Some(word) = word {
            session.say(word);
        }
        session.closing = true;
        self.watch_session(number);
    }

    fn frame(&mut self, number: u32, frame: Frame) {
        let Some(session) = self.sessions.get(&number) else { return };
        let streams = session.streams;
        if frame.kind == FrameKind::Stdin as u8 {
            if let Some(streams) = streams.and_then(|streams| self.streams.get_mut(&streams)) {
                streams.push_input(&frame.payload);
            }
        } else if session.role == Role::New {
            let opened = serde_json::from_slice(&frame.payload).map_err(|error| failure(format!("a session that begins wrongly: {error}")));
            let opened = opened.and_then(|open| self.open(number, open).map_err(Failure::from));
            if let Err(failure) = opened {
                self.close_session(number, Some(&FromSupervisor::Failed { failure }));
            }
        } else if let Ok(word) = serde_json::from_slice(&frame.payload) {
            self.word(number, streams, word);
        }
    }

    fn word(&mut self, session: u32, streams: Option<u32>, word: ToSession) {
        if let ToSession::Signal { signal } = word
            && self.container.starter == Some(session)
            && ENDS_A_START.contains(&signal)
        {
            let message = format!("the start was ended by signal {signal}");
            return self.start_failed(Failure { message, hint: None, code: 128 + signal });
        }
        let Some(number) = streams else { return };
        let Some(found) = self.streams.get_mut(&number) else { return };
        match word {
            ToSession::Resize { size } => found.resize(size),
            ToSession::StdinClosed => found.end_input(),
            ToSession::Signal { signal } if is_signal(signal) => {
                if self.container.streams == Some(number) {
                    // A container that has just ended needs no signal.
                    let _ = self.container.signal(signal);
                } else if let Some((pid, _)) = self.container.processes.iter().find(|(_, streams)| **streams == number) {
                    // Our own child, not reaped yet.
                    let _ = crate::sys::process::kill(nix::unistd::Pid::from_raw(*pid), signal);
                }
            }
            ToSession::Signal { .. } => {}
        }
    }

    fn open(&mut self, number: u32, open: Open) -> Result<()> {
        match open {
            Open::Start { attach, size } => self.open_start(number, attach, size),
            Open::Attach { size } => {
                if !self.container.is_running() {
                    return Err(not_running());
                }
                self.set_role(number, Role::Attached, size);
                self.join(number, self.container.streams, size);
                if let Some(session) = self.sessions.get_mut(&number) {
                    session.say(&FromSupervisor::Started { pid: self.container.command });
                }
                Ok(())
            }
            Open::Exec { exec, detach, size } => self.open_exec(number, exec, detach, size),
            Open::CopyOut { path } => self.open_copy(number, move |stdio| helper::archive::pack(&path, stdio.output)),
            Open::CopyIn { path } => self.open_copy(number, move |stdio| {
                // Only the supervisor may hold the other ends, or the archive would not end.
                drop((stdio.output, stdio.error));
                helper::archive::unpack(&path, stdio.input)
            }),
        }
    }

    /// A copy is a helper with streams; its end is the session's.
    fn open_copy(&mut self, number: u32, work: impl FnOnce(Stdio) -> Result<()>) -> Result<()> {
        self.set_role(number, Role::Process, None);
        let (streams, stdio) = Streams::pipes(true)?;
        let streams = self.add_streams(number, streams);
        self.begin(Purpose::Process { session: number, streams, detach: false }, move |supervisor, report| {
            let container = &supervisor.container;
            let place = match (&container.namespaces, &container.layer) {
                (Some(namespaces), _) => Place::Running(namespaces),
                (None, Some(layer)) => Place::Stopped { layer, root: supervisor.dir.join("root/root") },
                (None, None) => {
                    return Err(Fault::refused("the container has no files yet", "they are made when it is started for the first time"));
                }
            };
            helper::archive::enter(container.userns.as_ref(), &place)?;
            crate::process::close_others(&[report.as_fd().as_raw_fd()], &stdio);
            work(stdio)
        })?;
        self.let_flow(streams);
        Ok(())
    }

    fn set_role(&mut self, number: u32, role: Role, size: Option<WindowSize>) {
        if let Some(session) = self.sessions.get_mut(&number) {
            (session.role, session.size) = (role, size);
        }
    }

    /// Connects a session to streams.
    fn join(&mut self, number: u32, streams: Option<u32>, size: Option<WindowSize>) {
        let Some(streams) = streams else { return };
        if let Some(session) = self.sessions.get_mut(&number) {
            session.streams = Some(streams);
        }
        if let Some(found) = self.streams.get_mut(&streams) {
            found.sessions.push(number);
            if let Some(size) = size {
                found.resize(size);
            }
        }
    }

    fn open_start(&mut self, number: u32, attach: bool, size: Option<WindowSize>) -> Result<()> {
        self.set_role(number, Role::Starter { attach }, size);
        match self.container.phase {
            Phase::Idle | Phase::Delayed(_) => {
                self.container.starter = Some(number);
                self.container.restarts.reset();
                self.begin_start();
            }
            Phase::Running => self.start_answered(number, self.container.command),
            _ => return Err(Fault::Refused { message: "the container is being started already".to_owned(), hint: None }),
        }
        Ok(())
    }

    /// The container runs: the session that started it is told, and stays if it wants the streams.
    pub(super) fn start_answered(&mut self, number: u32, command: i32) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        session.say(&FromSupervisor::Started { pid: command });
        let (role, size) = (session.role, session.size);
        if role == (Role::Starter { attach: true }) {
            self.join(number, self.container.streams, size);
            self.watch_session(number);
        } else {
            self.close_session(number, None);
        }
        if let Some(streams) = self.container.streams {
            // Nobody is there to give input.
            if role == (Role::Starter { attach: false })
                && self.streams.get(&streams).is_some_and(|streams| !streams.is_terminal() && streams.sessions.is_empty())
                && !self.record.spec.interactive
            {
                self.streams.get_mut(&streams).into_iter().for_each(Streams::end_input);
            }
            self.watch_streams(streams);
        }
    }

    fn open_exec(&mut self, number: u32, exec: ExecSpec, detach: bool, size: Option<WindowSize>) -> Result<()> {
        if !self.container.is_running() {
            return Err(not_running());
        }
        if self.container.paused {
            return Err(Fault::refused("the container is paused", "`netloom unpause` lets it go on"));
        }
        self.set_role(number, Role::Process, size);
        let (streams, stdio) = if exec.tty {
            (Streams::default(), None)
        } else {
            let (streams, stdio) = Streams::pipes(exec.interactive)?;
            (streams, Some(stdio))
        };
        let streams = self.add_streams(number, streams);
        self.begin(Purpose::Process { session: number, streams, detach }, move |supervisor, report| {
            let namespaces = supervisor.container.namespaces.as_ref().ok_or_else(not_running)?;
            let job = helper::exec::Job {
                container: &supervisor.record.spec,
                exec: &exec,
                userns: supervisor.container.userns.as_ref(),
                namespaces,
                cgroup: supervisor.container.cgroup.entries(),
                stdio,
                arguments: supervisor.arguments,
            };
            helper::exec::run(report, job)
        })?;
        Ok(())
    }

    pub(super) fn add_streams(&mut self, session: u32, streams: Streams) -> u32 {
        let number = self.number();
        self.streams.insert(number, streams);
        self.join(session, Some(number), None);
        number
    }

    /// The process of an exec is there; its terminal, if it has one, is the session's.
    pub(super) fn process_ready(&mut self, session: u32, streams: u32, terminal: Option<OwnedFd>) {
        let size = self.sessions.get(&session).and_then(|session| session.size);
        if let (Some(found), Some(master)) = (self.streams.get_mut(&streams), terminal)
            && let Err(fault) = found.set_terminal(master, size)
        {
            self.close_session(session, Some(&FromSupervisor::Failed { failure: fault.into() }));
        }
        self.watch_streams(streams);
    }

    /// The process of an exec or a copy runs.
    pub(super) fn process_started(&mut self, session: u32, streams: u32, pid: i32, detach: bool) {
        if let Some(found) = self.sessions.get_mut(&session) {
            found.say(&FromSupervisor::Started { pid });
        }
        if detach {
            self.close_session(session, None);
        }
        self.container.processes.insert(pid, streams);
        self.let_flow(streams);
        if let Some(code) = self.early_end(pid) {
            self.container.processes.remove(&pid);
            self.process_ended(streams, code);
        } else {
            self.watch_session(session);
        }
    }

    /// The command behind streams has ended: what it wrote is still to be read.
    pub(super) fn process_ended(&mut self, streams: u32, code: i32) {
        if let Some(found) = self.streams.get_mut(&streams) {
            found.code = Some(code);
        }
        self.drain(streams);
    }

    pub(super) fn stream_ready(&mut self, number: u32, kind: FrameKind, writable: bool) {
        if writable && let Some(streams) = self.streams.get_mut(&number) {
            streams.flush_input();
            for session in streams.sessions.clone() {
                self.watch_session(session);
            }
        }
        if kind != FrameKind::Stdin {
            self.pump(number, kind);
        }
        self.drain(number);
    }

    /// Reads once and passes on what came. `false`: nothing did.
    fn pump(&mut self, number: u32, kind: FrameKind) -> bool {
        if self.is_paused(number) {
            return false;
        }
        let Some(streams) = self.streams.get_mut(&number) else { return false };
        let Chunk::Bytes(bytes) = streams.read(kind) else { return false };
        let (logged, sessions) = (streams.logged, streams.sessions.clone());
        if logged {
            self.log.write(if kind == FrameKind::Stderr { Stream::Stderr } else { Stream::Stdout }, &bytes);
        }
        for session in sessions {
            if let Some(session) = self.sessions.get_mut(&session) {
                session.push(kind, &bytes);
            }
            self.watch_session(session);
        }
        true
    }

    /// Of an ended command, passes on everything that is left, then tells its sessions.
    fn drain(&mut self, number: u32) {
        let ended = |supervisor: &Self| supervisor.streams.get(&number).and_then(|streams| streams.code);
        for _ in 0..DRAIN_MAX {
            let Some(code) = ended(self) else { break };
            if self.is_paused(number) {
                break;
            }
            let (output, error) = (self.pump(number, FrameKind::Stdout), self.pump(number, FrameKind::Stderr));
            if !output && !error {
                let sessions = self.streams.remove(&number).map(|streams| streams.sessions).unwrap_or_default();
                for session in sessions {
                    self.close_session(session, Some(&FromSupervisor::Exited { code }));
                }
            }
        }
        self.watch_streams(number);
    }

    /// Whether output must wait: nobody knows yet that the command runs, or a session that must get everything is behind.
    fn is_paused(&self, number: u32) -> bool {
        let behind = |session: &u32| self.sessions.get(session).is_some_and(super::session::Session::is_behind);
        self.streams.get(&number).is_some_and(|streams| !streams.flowing || streams.sessions.iter().any(behind))
    }

    /// The command runs, and whoever waited for that has been told.
    pub(super) fn let_flow(&mut self, number: u32) {
        if let Some(streams) = self.streams.get_mut(&number) {
            streams.flowing = true;
        }
        self.watch_streams(number);
    }

    pub(super) fn watch_streams(&mut self, number: u32) {
        let paused = self.is_paused(number);
        if let Some(streams) = self.streams.get(&number) {
            streams.watch(&self.poll, number, paused);
        }
    }

    /// Streams of a process that never ran.
    pub(super) fn drop_streams(&mut self, number: u32) {
        self.streams.remove(&number);
    }
}
