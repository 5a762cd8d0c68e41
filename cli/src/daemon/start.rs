//! Bringing the daemon up, from any process and without a runtime: commands and supervisors both call [`ensure`].
//!
//! ```text
//!   ensure ──locks daemon.lock──▶ first `__daemon` ──setsid──▶ second `__daemon`: the daemon, nobody's child
//!      ▲                                                             │
//!      └────────────── a pipe: "ready", or why it failed ────────────┘
//! ```
//!
//! Fifty commands at once wait for one lock; the first starts the daemon, the others find its socket.

use std::{
    fs::File,
    io::{self, Read},
    num::NonZeroUsize,
    os::{
        fd::AsFd,
        unix::{fs::OpenOptionsExt, net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use netloom_runtime::socket_path::SocketPath;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::paths::{Paths, PathsError};

/// How long a daemon may take to start; it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Marks the second `__daemon`, the one that stays.
pub(super) const DETACHED: &str = "NETLOOM_DETACHED";

/// How many workers the daemon is to have.
pub(super) const WORKERS: &str = "NETLOOM_WORKERS";

/// What the daemon writes to its standard output once its sockets accept.
pub(super) const READY: &str = "ready\n";

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Paths(#[from] PathsError),
    #[error("cannot {what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("the daemon did not start: {0}")]
    Failed(String),
    #[error("the daemon did not start within {} s", PATIENCE.as_secs())]
    TimedOut,
}

impl StartError {
    /// What to do about it.
    pub fn hint(&self, root: &Path) -> String {
        match self {
            Self::Paths(error) => error.hint(),
            _ => format!("see {}", Paths::at(root).log().display()),
        }
    }
}

/// Returns once a daemon of this root accepts connections, starting it where there is none: with `workers`, if it is said.
pub fn ensure(root: &Path, workers: Option<NonZeroUsize>) -> Result<(), StartError> {
    let paths = Paths::at(root);
    if accepts(&paths.socket()) {
        return Ok(());
    }
    paths.make_root()?;
    let _lock = lock(&paths.start_lock())?;
    if accepts(&paths.socket()) {
        return Ok(());
    }
    spawn(&paths.root, workers)
}

/// Whether somebody listens on the socket at `path`.
pub(super) fn accepts(path: &Path) -> bool {
    SocketPath::new(path).and_then(|path| UnixStream::connect(path.path())).is_ok()
}

fn lock(path: &Path) -> Result<Flock<File>, StartError> {
    let failed = |source: io::Error| StartError::Io { what: format!("lock `{}`", path.display()), source };
    let mut file = open_lock(path).map_err(failed)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) if Instant::now() < deadline => file,
            Err((_, Errno::EWOULDBLOCK)) => return Err(StartError::TimedOut),
            Err((_, errno)) => return Err(failed(errno.into())),
        };
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Opens a lock file, which holds nothing and is never removed.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// The daemon's command line; standard error is for what is said before the log is open.
pub(super) fn command(root: &Path) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("netloom").arg("--root").arg(root).arg("__daemon").current_dir("/").stdin(Stdio::null()).stderr(Stdio::null());
    command
}

fn spawn(root: &Path, workers: Option<NonZeroUsize>) -> Result<(), StartError> {
    let io = |what: &str| {
        let what = what.to_owned();
        move |source| StartError::Io { what, source }
    };
    let (mut said, saying) = io::pipe().map_err(io("make a pipe"))?;
    let mut command = command(root);
    command.stdout(saying).env_remove(DETACHED).envs(workers.map(|workers| (WORKERS, workers.to_string())));
    let mut child = command.spawn().map_err(io("start the daemon"))?;
    // It holds the end of the pipe that the daemon is to be the last to hold.
    drop(command);
    let answer = answer(&mut said);
    child.wait().map_err(io("start the daemon"))?;
    match answer?.as_str() {
        READY => Ok(()),
        "" => Err(StartError::Failed("it ended without a word".to_owned())),
        reason => Err(StartError::Failed(reason.trim_end().to_owned())),
    }
}

/// What the daemon says before it closes its end of the pipe.
fn answer(said: &mut io::PipeReader) -> Result<String, StartError> {
    let failed = |source| StartError::Io { what: "hear from the daemon".to_owned(), source };
    let deadline = Instant::now() + PATIENCE;
    let mut text = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(said.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(StartError::TimedOut),
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(failed(errno.into())),
            Ok(_) => {}
        }
        let mut bytes = [0; 1024];
        match said.read(&mut bytes).map_err(failed)? {
            0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
            count => text.extend_from_slice(bytes.get(..count).unwrap_or_default()),
        }
    }
}
