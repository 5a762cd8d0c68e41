//! The daemon of an instance: who runs, on which network, with which address, and the HTTP API that tells and changes it.
//!
//! It owns no container: supervisors do. It keeps the records, leases the addresses, and hands the descriptors that supervisors
//! send to the data plane. It never enters a namespace, needs no capability but that for pings, and can be killed at any moment:
//! what it must know again is in files, and in what the supervisors say when they come back.
//!
//! ```text
//!               Prepare, Attach           Started                Paused
//!   created ─────────────────────▶ · ───────────────▶ running ◀─────────▶ paused
//!      ▲                           │ start failed        │                  │
//!      │ never ran before          ▼                     │ Exited           │
//!      └───────────────────────────●◀────────────────────┴──────────────────┘
//!                                  │           Exited, will restart: restarting ──Started──▶ running
//!                                  ▼
//!                               exited ──start──▶ ·            any ──rm──▶ dead ──supervisor gone──▶ nothing
//!
//!   a supervisor that is lost without Exited: exited, 137
//! ```
//!
//! One thread serves the API and the supervisors; all state is one value behind a mutex that is never held across an await
//! ([`Daemon::state`]). A change is made whole under the lock, told to the data plane there, and then to the listeners.

mod api;
mod balance;
mod bounds;
mod checks;
mod connect;
mod container;
mod create;
mod dhcp;
mod error;
mod events;
mod holders;
mod lifecycle;
mod listings;
mod log;
mod lookup;
mod names;
mod naming;
mod network;
mod networks;
mod plan;
mod plane;
mod publish;
mod remove;
mod requests;
mod resolvers;
mod restore;
mod serve;
mod start;
mod state;
mod stats;
mod store;
mod supervisors;
mod tenants;
#[cfg(test)]
mod testkit;
#[cfg(test)]
mod tests;

use std::{
    env, io,
    os::fd::OwnedFd,
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
    time::Duration,
};

use netloom_runtime::{fabric::Fabric, heap::Heap, host};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::stat::{Mode, umask},
    unistd::{dup2_stdout, geteuid, setsid},
};
use tokio::sync::watch;

pub use self::start::{StartError, ensure};
use self::{
    events::Events,
    plane::{Launcher, Plane},
    state::State,
};
use crate::{
    paths::Paths,
    words::{WordError, quantity},
};

/// One instance's daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) paths: Paths,
    pub(crate) plane: Box<dyn Plane>,
    pub(crate) launcher: Box<dyn Launcher>,
    pub(crate) events: Events,
    pub(crate) started: String,
    pub(crate) workers: usize,
    state: Mutex<State>,
    /// Whether the supervisors that a predecessor left have come back; requests wait for it.
    pub(crate) settled: watch::Sender<bool>,
    /// Without root: the user namespace of all containers, made once or taken over.
    pub(crate) user_namespace: tokio::sync::Mutex<Option<OwnedFd>>,
    /// Open connections to the API.
    pub(crate) clients: AtomicUsize,
}

impl Daemon {
    pub(crate) fn new(paths: Paths, plane: Box<dyn Plane>, launcher: Box<dyn Launcher>, workers: usize) -> Self {
        Self {
            paths,
            plane,
            launcher,
            events: Events::new(),
            started: events::now(),
            workers,
            state: Mutex::default(),
            settled: watch::Sender::new(false),
            user_namespace: tokio::sync::Mutex::default(),
            clients: AtomicUsize::new(0),
        }
    }

    /// The state, for one whole change. A panic while it was held has ended one request, and each change leaves it usable.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there is no daemon; [`ensure`] reads it from the daemon's standard output.
#[derive(Debug, thiserror::Error)]
enum MainError {
    #[error(transparent)]
    Paths(#[from] crate::paths::PathsError),
    #[error("cannot {what}: {source}")]
    Io { what: &'static str, source: io::Error },
    #[error("{0}")]
    Fabric(#[from] netloom_runtime::fabric::FabricError),
    #[error("{0}")]
    Host(#[from] host::HostError),
    #[error("{}", .0.message)]
    Restore(error::Error),
    #[error("NETLOOM_WORKERS: {0}")]
    Workers(WordError),
    #[error("{0}")]
    Channel(#[from] netloom_runtime::channel::ChannelError),
}

impl MainError {
    fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// `netloom __daemon`: the first one detaches and starts the second, which stays until nothing runs and nobody asks.
pub fn main(root: &Path) -> ExitCode {
    netloom_runtime::supervisor::name_process(c"netloom");
    let paths = Paths::at(root);
    let result = if env::var_os(start::DETACHED).is_some() { run(&paths) } else { detach(&paths) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the daemon ends");
            // Nobody may be listening any more.
            io::Write::write_all(&mut io::stdout(), format!("{error}\n").as_bytes()).ok();
            ExitCode::FAILURE
        }
    }
}

/// Leaves the caller's session and has a child that is nobody's once we end.
fn detach(paths: &Paths) -> Result<(), MainError> {
    setsid().map_err(|errno| MainError::io("leave the session")(errno.into()))?;
    // Whoever waits for the end of a pipe of our caller's must not wait for us.
    host::close_inherited_on_exec().map_err(MainError::io("let go of the caller's files"))?;
    let spawned = start::command(&paths.root).env(start::DETACHED, "1").spawn();
    spawned.map(drop).map_err(MainError::io("start the daemon"))
}

fn run(paths: &Paths) -> Result<(), MainError> {
    umask(Mode::from_bits_truncate(0o077));
    paths.make_root()?;
    let Some(_life) = live(paths)? else { return say(start::READY) };
    log::start(&paths.log()).map_err(MainError::io("open the log"))?;
    // Before any thread is there: a thread has the capabilities of the one that made it.
    host::drop_capabilities()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(MainError::io("start the runtime"))?;
    runtime.block_on(serve_instance(paths))
}

/// The lock that says that this process is the daemon; `None` if another one is.
fn live(paths: &Paths) -> Result<Option<Flock<std::fs::File>>, MainError> {
    let failed = MainError::io("lock daemon.pid");
    let file = start::open_lock(&paths.life_lock()).map_err(&failed)?;
    let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Ok(None),
        Err((_, errno)) => return Err(failed(errno.into())),
    };
    lock.set_len(0).and_then(|()| io::Write::write_all(&mut *lock, format!("{}\n", std::process::id()).as_bytes())).map_err(failed)?;
    Ok(Some(lock))
}

/// Tells whoever started us, and lets go of the pipe.
fn say(word: &str) -> Result<(), MainError> {
    let null = std::fs::File::options().write(true).open("/dev/null").map_err(MainError::io("open /dev/null"))?;
    let mut stdout = io::stdout();
    // A caller that was killed meanwhile is no reason to end.
    io::Write::write_all(&mut stdout, word.as_bytes()).and_then(|()| io::Write::flush(&mut stdout)).ok();
    dup2_stdout(&null).map_err(|errno| MainError::io("leave the pipe")(errno.into()))
}

async fn give_memory_back() {
    const EVERY: Duration = Duration::from_secs(10);
    let mut heap = Heap::default();
    loop {
        tokio::time::sleep(EVERY).await;
        let looked = tokio::task::spawn_blocking(move || {
            heap.look();
            heap
        });
        let Ok(looked) = looked.await else { return };
        heap = looked;
    }
}

async fn serve_instance(paths: &Paths) -> Result<(), MainError> {
    let said = env::var(start::WORKERS).ok().filter(|said| !said.is_empty());
    let workers = said.map_or_else(|| Ok(quantity::default_workers()), |said| quantity::workers(&said)).map_err(MainError::Workers)?;
    let fabric = Fabric::start(workers)?;
    let launcher = supervisors::Processes::new(&paths.root, geteuid().is_root());
    let (asked, rings) = (fabric.lease_asks(), fabric.rings());
    let daemon = Arc::new(Daemon::new(paths.clone(), Box::new(fabric), Box::new(launcher), workers.get()));
    let routes = host::routes().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "subnets are chosen without a look at the host's routes");
        Vec::new()
    });
    daemon.restore(&routes).map_err(MainError::Restore)?;
    resolvers::follow(&daemon);
    let sweeper = Arc::clone(&daemon);
    tokio::spawn(async move { sweeper.sweep_layers().await });
    tokio::spawn(give_memory_back());
    if let Some(asked) = asked {
        dhcp::serve(&daemon, asked).map_err(MainError::io("start the thread for DHCP"))?;
    }
    if let Some(rings) = rings {
        balance::serve(&daemon, rings).map_err(MainError::io("start the thread that spreads the load"))?;
    }
    tracing::info!(pid = std::process::id(), root = %paths.root.display(), workers, "the daemon starts");
    serve::until_idle(&daemon, || say(start::READY)).await?;
    tracing::info!("the daemon ends: nothing runs and nobody asks");
    Ok(())
}
