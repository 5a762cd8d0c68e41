//! The daemon's sockets, and when it ends.
//!
//! ```text
//!   sockets bound ─▶ serving ─▶ nothing runs, nobody asks for IDLE ─▶ lock daemon.lock ─▶ sockets removed ─▶ anybody late? ─▶ end
//!        ▲                                                                                                    │ yes
//!        └────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Whoever starts a daemon holds daemon.lock, so a daemon that holds it knows that nobody waits for it to accept.

use std::{
    fs::{self, File},
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
            lock = idle(daemon) => Some(lock),
            _ = terminate.recv() => None,
        };
        sockets.unlink(daemon)?;
        let Some(_lock) = lock else { return Ok(()) };
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
        fs::rename(&new_supervisors, paths.supervisor_socket()).map_err(MainError::io("put supervisor.sock in its place"))?;
        fs::rename(&new_api, paths.socket()).map_err(MainError::io("put netloom.sock in its place"))?;
        Ok(Self { api, supervisors })
    }

    fn unlink(&self, daemon: &Daemon) -> Result<(), MainError> {
        for path in [daemon.paths.socket(), daemon.paths.supervisor_socket()] {
            store::remove_file(&path).map_err(|error| MainError::Restore(error.into()))?;
        }
        Ok(())
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

/// Returns, with daemon.lock, when there has been nothing to do for long enough.
async fn idle(daemon: &Daemon) -> Flock<File> {
    let mut tick = interval(TICK);
    let mut since = Instant::now();
    loop {
        tick.tick().await;
        daemon.bury_the_silent();
        let busy = daemon.clients.load(Relaxed) > 0 || !*daemon.settled.borrow() || !daemon.state().is_idle();
        if busy {
            since = Instant::now();
        } else if since.elapsed() >= IDLE {
            let file = start::open_lock(&daemon.paths.start_lock()).ok();
            match file.map(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock)) {
                Some(Ok(lock)) => return lock,
                // Somebody is about to come.
                _ => since = Instant::now(),
            }
        }
    }
}
