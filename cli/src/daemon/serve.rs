//! The daemon's sockets, and when it ends.
//!
//! ```text
//!   sockets bound ─▶ serving ─▶ nothing runs, nobody asks for IDLE ─▶ lock daemon.lock ─▶ sockets removed ─▶ anybody late? ─▶ end
//!        ▲                                                                                                    │ yes
//!        └────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Whoever starts a daemon holds daemon.lock, so a daemon that holds it knows that nobody waits for it to accept. A daemon whose root
//! was removed meanwhile cannot be reached any more: it ends without the lock, and what another has put in its place is not its own.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use netloom_runtime::{channel, socket_path::SocketPath};
use nix::fcntl::{Flock, FlockArg};
use tokio::{
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
    time::{Instant, interval, sleep, timeout},
};

use super::{Daemon, MainError, api, start, store, supervisors};

/// How long the daemon stays with nothing to do: longer than a person needs between two commands of a script.
const IDLE: Duration = Duration::from_secs(3);

/// How often the daemon asks itself whether it has something to do.
const TICK: Duration = Duration::from_millis(250);

/// How long a caller that has just connected may need to be seen.
const LATE: Duration = Duration::from_millis(20);

/// Serves until there is nothing to do, or SIGTERM. `ready` is called once, when both sockets accept.
pub(super) async fn until_idle(daemon: &Arc<Daemon>, ready: impl FnOnce() -> Result<(), MainError>) -> Result<(), MainError> {
    let router = api::router(Arc::clone(daemon));
    let mut terminate = signal(SignalKind::terminate()).map_err(MainError::io("watch for signals"))?;
    let mut sockets = Sockets::bind(daemon)?;
    ready()?;
    tokio::spawn(Arc::clone(daemon).come_back());
    loop {
        let lock = tokio::select! {
            () = sockets.serve(daemon, &router) => return Ok(()),
            lock = idle(daemon) => lock,
            _ = terminate.recv() => None,
        };
        let were_in_place = sockets.unlink()?;
        let (Some(_lock), true) = (lock, were_in_place) else { return Ok(()) };
        let late = sockets.late(daemon, &router).await;
        if !late {
            return Ok(());
        }
        sockets = Sockets::bind(daemon)?;
    }
}

struct Sockets {
    api: UnixListener,
    supervisors: channel::Listener,
    places: [Place; 2],
}

impl Sockets {
    /// Binds both; what a predecessor left at their paths is nobody's, since we hold daemon.pid.
    fn bind(daemon: &Daemon) -> Result<Self, MainError> {
        let paths = &daemon.paths;
        // Bound beside their place and moved there: whoever sees a socket can connect to it.
        let [new_supervisors, new_api] = [paths.supervisor_socket(), paths.socket()].map(|path| path.with_extension("new"));
        for path in [&new_supervisors, &new_api] {
            store::remove_file(path).map_err(|error| MainError::Restore(error.into()))?;
        }
        let supervisors = channel::Listener::bind(&new_supervisors)?;
        let path = SocketPath::new(&new_api).map_err(MainError::io("name the API's socket"))?;
        let api = UnixListener::bind(path.path()).map_err(MainError::io("listen for the API"))?;
        let places = [
            Place::take(&new_supervisors, paths.supervisor_socket()).map_err(MainError::io("put supervisor.sock in its place"))?,
            Place::take(&new_api, paths.socket()).map_err(MainError::io("put netloom.sock in its place"))?,
        ];
        Ok(Self { api, supervisors, places })
    }

    /// Removes both, as far as they are in their places; whether they were.
    fn unlink(&self) -> Result<bool, MainError> {
        let ours = self.places.each_ref().map(Place::is_ours);
        for (place, _) in self.places.iter().zip(ours).filter(|(_, is_ours)| *is_ours) {
            store::remove_file(&place.path).map_err(|error| MainError::Restore(error.into()))?;
        }
        Ok(ours == [true; 2])
    }

    async fn serve(&self, daemon: &Arc<Daemon>, router: &Router) {
        let clients = async {
            loop {
                match self.api.accept().await {
                    Ok((stream, _)) => client(daemon, router, stream),
                    Err(error) => {
                        tracing::warn!(%error, "a client could not be accepted");
                        sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        };
        tokio::join!(clients, supervisors::accept(daemon, &self.supervisors));
    }

    /// Whether somebody had connected before the sockets were removed; they are served.
    async fn late(&self, daemon: &Arc<Daemon>, router: &Router) -> bool {
        let mut late = false;
        while let Ok(Ok((stream, _))) = timeout(LATE, self.api.accept()).await {
            client(daemon, router, stream);
            late = true;
        }
        while let Ok(Ok(channel)) = timeout(LATE, self.supervisors.accept()).await {
            tokio::spawn(supervisors::serve(Arc::clone(daemon), channel));
            late = true;
        }
        late
    }
}

/// The path of a socket of ours, where another daemon's may lie by now: a root that was removed can be made again while we run.
struct Place {
    path: PathBuf,
    file: FileNumber,
}

/// A file's device and inode. It is no other file's while somebody has it open, as we have a socket that we listen on.
type FileNumber = (u64, u64);

impl Place {
    /// Moves the socket at `bound` to `path`.
    fn take(bound: &Path, path: PathBuf) -> io::Result<Self> {
        let file = number(bound)?;
        fs::rename(bound, &path)?;
        Ok(Self { path, file })
    }

    fn is_ours(&self) -> bool {
        number(&self.path).is_ok_and(|found| found == self.file)
    }
}

fn number(path: &Path) -> io::Result<FileNumber> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Serves one connection; it counts as a client while it is open.
fn client(daemon: &Arc<Daemon>, router: &Router, stream: UnixStream) {
    let service = TowerToHyperService::new(router.clone());
    let count = Count::new(daemon);
    tokio::spawn(async move {
        let _count = count;
        if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
            tracing::debug!(%error, "a client's connection broke");
        }
    });
}

struct Count(Arc<Daemon>);

impl Count {
    fn new(daemon: &Arc<Daemon>) -> Self {
        daemon.clients.fetch_add(1, Relaxed);
        Self(Arc::clone(daemon))
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Relaxed);
    }
}

/// Returns, with daemon.lock, when there has been nothing to do for long enough; without it where there is no root any more.
async fn idle(daemon: &Daemon) -> Option<Flock<File>> {
    let mut tick = interval(TICK);
    let mut since = Instant::now();
    loop {
        tick.tick().await;
        daemon.bury_the_silent();
        let busy = daemon.clients.load(Relaxed) > 0 || !*daemon.settled.borrow() || !daemon.state().is_idle();
        if busy {
            since = Instant::now();
        } else if since.elapsed() >= IDLE {
            match start::open_lock(&daemon.paths.start_lock()).map(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock)) {
                Ok(Ok(lock)) => return Some(lock),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
                // Somebody is about to come.
                _ => since = Instant::now(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::testkit::Scratch;

    #[tokio::test(flavor = "current_thread")]
    async fn the_sockets_that_another_daemon_has_put_there_stay() {
        let scratch = Scratch::new();
        let daemon = scratch.daemon();
        let paths = [daemon.paths.socket(), daemon.paths.supervisor_socket()];
        let first = Sockets::bind(&daemon).unwrap();
        fs::remove_dir_all(&daemon.paths.root).unwrap();
        assert!(!first.unlink().unwrap(), "nothing is there");
        daemon.paths.make_root().unwrap();
        let second = Sockets::bind(&daemon).unwrap();
        assert!(!first.unlink().unwrap() && paths.iter().all(|path| path.exists()));
        assert!(second.unlink().unwrap() && !paths.iter().any(|path| path.exists()));
    }
}
