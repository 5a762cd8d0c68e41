//! The supervisor: one small single-threaded process for each container, from its creation to its removal.
//!
//! It is the parent of the container's init and owns the TAPs, the published listeners, the terminal or pipes, the log and the mount
//! namespace with the writable layer. It enters no namespace itself (helpers do), and it decides nothing about networks (the daemon
//! does); while there is no daemon, sessions, terminals and logs go on.
//!
//! ```text
//!                    ┌──────────────── start fails, or ends without a restart ───────────────┐
//!                    ▼                                                                        │
//!   created ───▶   idle ──start──▶ preparing ──plan──▶ building ──ready──▶ attaching ──▶ executing ──▶ running
//!                    ▲                 ▲            (helper)           (daemon)        (init, command)    │
//!                    │                 └────────────── delayed ◀──────────── the policy says again ───────┤
//!                    └────────────────────────────────────────────────────────────────────────────────────┘
//! ```

mod container;
mod daemon;
pub(crate) mod link;
mod listen;
mod log;
mod occupant;
pub(crate) mod poll;
mod process;
mod restart;
mod session;
mod sessions;
mod start;
mod streams;

use std::{
    collections::BTreeMap,
    ffi::{CStr, OsString},
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant, SystemTime},
};

use nix::{
    fcntl::{Flock, FlockArg},
    sys::{
        prctl,
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
        stat::{Mode, umask},
    },
    unistd::{chdir, dup2_stdin, setsid},
};

pub use self::link::{DaemonStarter, SOCKET};
use self::{
    container::Container,
    link::Link,
    log::Log,
    poll::{Interest, Poll, Token},
    process::Task,
    session::Session,
    streams::Streams,
};
use crate::{
    cgroup::ledger,
    descriptors,
    protocol::{Failure, FromSupervisor},
    shield,
    sockets::{self, listen_for_sessions},
    spec::Record,
};

/// The first argument of the program that makes it a supervisor; the root and the container's ID follow.
pub const ARGUMENT: &str = "__supervisor";

/// The word after them when the supervisor has executed itself once more.
const AGAIN: &str = "again";

/// How long no session is accepted once one could not be.
const ACCEPT_DELAY: Duration = Duration::from_millis(100);

/// Starts the supervisor of a container whose record is on disk, and returns its first session. It inherits the caller's limits.
pub fn spawn(root: &Path, id: &str) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let (mut command, _mount) = command(root, id, theirs);
    command.spawn()?;
    Ok(ours)
}

/// As [`spawn`], for the daemon: it will most likely outlive the supervisor, whose end its tokio runtime takes note of. The first
/// session is not needed.
pub fn spawn_by_daemon(root: &Path, id: &str) -> io::Result<()> {
    let (_, theirs) = UnixStream::pair()?;
    let (command, _mount) = command(root, id, theirs);
    tokio::process::Command::from(command).spawn().map(drop)
}

/// The command, and what must be open until it is spawned.
fn command(root: &Path, id: &str, first: UnixStream) -> (Command, Option<OwnedFd>) {
    let (mut command, mount) = shield::command();
    let limit = descriptors::first().unwrap_or_default().to_string();
    command.arg(ARGUMENT).arg(root).arg(id).arg(limit).stdin(OwnedFd::from(first)).stdout(Stdio::null()).stderr(Stdio::null());
    (command, mount)
}

/// The supervisor that the program becomes when its first argument is [`ARGUMENT`]. `arguments` are those after it; standard input
/// is the first session.
pub fn main(arguments: impl IntoIterator<Item = OsString>, start_daemon: DaemonStarter) -> ExitCode {
    name_process(c"netloom-sv");
    let mut arguments = arguments.into_iter();
    let (Some(root), Some(id)) = (arguments.next(), arguments.next().and_then(|id| id.into_string().ok())) else {
        return ExitCode::from(2);
    };
    let limit = arguments.next().unwrap_or_default();
    let again = [ARGUMENT.into(), root.clone(), (&id).into(), limit.clone(), AGAIN.into()];
    let shielded = shield::ensure(&again, arguments.next().is_some_and(|word| word == AGAIN));
    descriptors::raise(limit.to_str().and_then(|limit| limit.parse().ok()).filter(|limit| *limit > 0));
    let Ok(first) = detach() else { return ExitCode::FAILURE };
    let Ok(mut first) = Session::new(first) else { return ExitCode::FAILURE };
    match shielded.and_then(|()| Supervisor::new(Path::new(&root), &id, start_daemon)) {
        Ok(mut supervisor) => {
            supervisor.adopt(first);
            supervisor.run();
            ExitCode::SUCCESS
        }
        Err(error) => {
            let failure =
                Failure { message: format!("cannot supervise the container: {error}"), hint: None, code: crate::fault::OWN_FAILURE };
            first.say(&FromSupervisor::Failed { failure });
            let _ = first.flush();
            ExitCode::FAILURE
        }
    }
}

/// What ps(1) and top(1) call this process: it would be `exe` after the link it was started by. At most 15 bytes.
pub fn name_process(name: &CStr) {
    // It only helps people.
    let _ = prctl::set_name(name);
}

/// Leaves the caller's session, terminal and directory; returns what was standard input.
fn detach() -> io::Result<UnixStream> {
    let first = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    dup2_stdin(File::open("/dev/null")?)?;
    setsid()?;
    chdir("/")?;
    umask(Mode::from_bits_truncate(0o077));
    Ok(first)
}

#[derive(Debug)]
struct Supervisor {
    root: PathBuf,
    id: String,
    dir: PathBuf,
    record: Record,
    /// Held while this process lives.
    _lock: Flock<File>,
    /// Where this process's arguments lie in its memory.
    arguments: (usize, usize),
    poll: Poll,
    link: Link,
    signals: SignalFd,
    listener: UnixListener,
    sessions: BTreeMap<u32, Session>,
    streams: BTreeMap<u32, Streams>,
    tasks: BTreeMap<u32, Task>,
    container: Container,
    log: Log,
    /// Children that ended before their helper could tell of them.
    early: Vec<(i32, i32)>,
    next: u32,
    /// When the listener is looked at again, after it could not be.
    accept_again: Option<Instant>,
    /// Ends once everything is said.
    finished: bool,
}

impl Supervisor {
    fn new(root: &Path, id: &str, start_daemon: DaemonStarter) -> io::Result<Self> {
        let dir = root.join("containers").join(id);
        let lock = File::options().write(true).create(true).truncate(false).open(dir.join("lock"))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            nix::Error::EAGAIN => io::Error::other("it has a supervisor already"),
            other => other.into(),
        })?;
        // What cannot be swept now is named there still.
        let _ = ledger::sweep_left(&dir);
        let record: Record = serde_json::from_slice(&fs::read(dir.join("record.json"))?)?;
        let mask = SigSet::from_iter([Signal::SIGCHLD]);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None)?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let poll = Poll::new()?;
        let listener = listen_for_sessions(&dir)?;
        poll.set(&signals, Token::Signals, Interest::READ);
        poll.set(&listener, Token::Sessions, Interest::READ);
        let mut supervisor = Self {
            root: root.to_owned(),
            id: id.to_owned(),
            _lock: lock,
            arguments: argument_range().unwrap_or((0, 0)),
            link: Link::new(root, start_daemon),
            container: Container::new(record.spec.restart),
            log: Log::open(&dir)?,
            dir,
            record,
            poll,
            signals,
            listener,
            sessions: BTreeMap::new(),
            streams: BTreeMap::new(),
            tasks: BTreeMap::new(),
            early: Vec::new(),
            next: 0,
            accept_again: None,
            finished: false,
        };
        if supervisor.link.retry(&supervisor.poll, true) {
            supervisor.say_hello();
        }
        Ok(supervisor)
    }

    fn number(&mut self) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    fn run(&mut self) {
        while !self.finished {
            let timeout = self.deadline().map(|at| at.saturating_duration_since(Instant::now()));
            for ready in self.poll.wait(timeout) {
                match ready.token {
                    Token::Daemon => self.daemon_ready(ready.read),
                    Token::Directory => {
                        if self.link.directory_changed(&self.poll) {
                            self.say_hello();
                        }
                    }
                    Token::Signals => self.reap(),
                    Token::Sessions => self.accept(),
                    Token::Session(number) => self.session_ready(number, ready.read),
                    Token::Report(number) => self.report_ready(number),
                    Token::Output(number) => self.stream_ready(number, crate::protocol::FrameKind::Stdout, ready.write),
                    Token::Error(number) => self.stream_ready(number, crate::protocol::FrameKind::Stderr, false),
                    Token::Input(number) => self.stream_ready(number, crate::protocol::FrameKind::Stdin, true),
                    // A holder's.
                    Token::Starter | Token::Target | Token::Exit => {}
                }
            }
            self.time_passed();
        }
        self.farewell();
    }

    /// The next moment at which something is due without being told.
    fn deadline(&self) -> Option<Instant> {
        let link = self.link.deadline();
        [link, self.container.deadline(), self.accept_again].into_iter().flatten().min()
    }

    fn time_passed(&mut self) {
        let now = Instant::now();
        if self.link.deadline().is_some_and(|at| at <= now) {
            let needed = self.container.is_busy();
            if self.link.retry(&self.poll, needed) {
                self.say_hello();
            }
        }
        if self.accept_again.is_some_and(|at| at <= now) {
            self.accept_again = None;
            self.poll.set(&self.listener, Token::Sessions, Interest::READ);
        }
        self.container_time_passed(now);
    }

    fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if let Ok(session) = Session::new(stream) {
                        self.adopt(session);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {}
                Err(_) => {
                    // Without a free descriptor the listener would stay ready, and this process would turn for nothing.
                    self.poll.set(&self.listener, Token::Sessions, Interest::NONE);
                    self.accept_again = Some(Instant::now() + ACCEPT_DELAY);
                    return;
                }
            }
        }
    }

    fn adopt(&mut self, session: Session) {
        let number = self.number();
        self.poll.set(&session.stream, Token::Session(number), Interest::READ);
        self.sessions.insert(number, session);
        self.session_ready(number, true);
    }

    /// The last words, to whoever still listens.
    fn farewell(&mut self) {
        self.link.drain(&self.poll);
        // The daemon takes the end of our connection for the end of everything.
        self.container.cgroup.end();
        for session in self.sessions.values_mut() {
            let _ = session.stream.set_nonblocking(false);
            let _ = session.stream.set_write_timeout(Some(Duration::from_secs(1)));
            let _ = session.flush();
        }
        let _ = fs::remove_file(self.dir.join(sockets::SESSIONS));
    }
}

/// Where the arguments of this process lie (proc_pid_stat(5), fields 48 and 49).
fn argument_range() -> Option<(usize, usize)> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(45);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn now_rfc3339() -> String {
    log::rfc3339(SystemTime::now())
}
