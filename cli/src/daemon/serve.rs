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
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
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

/// How long a client may take to say what it asks for, from its connection on and after each answer: as long as a supervisor for its
/// hello. One that never does would keep a descriptor, and the daemon. Answers take as long as they take.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

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
    let (count, router) = (Count::new(daemon), router.clone());
    tokio::spawn(async move {
        let _count = count;
        converse(router, stream, HEAD_PATIENCE).await;
    });
}

/// Answers what is asked on `stream`, until its other end closes it or has nothing to ask for longer than `patience`.
async fn converse(router: Router, stream: UnixStream, patience: Duration) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await {
        tracing::debug!(%error, "a client's connection broke");
    }
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::daemon::testkit::Scratch;

    const PATIENCE: Duration = Duration::from_millis(100);

    /// A client of a daemon that waits for [`PATIENCE`], which has said this.
    async fn client_that_says(daemon: &Arc<Daemon>, words: &[u8]) -> UnixStream {
        daemon.settled.send_replace(true);
        let (mut client, stream) = UnixStream::pair().unwrap();
        tokio::spawn(converse(api::router(Arc::clone(daemon)), stream, PATIENCE));
        client.write_all(words).await.unwrap();
        client
    }

    /// All that a client is told, until the daemon closes the connection.
    async fn told(client: &mut UnixStream) -> String {
        let mut said = Vec::new();
        timeout(Duration::from_secs(10), client.read_to_end(&mut said)).await.expect("it is not closed").unwrap();
        String::from_utf8(said).unwrap()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_client_that_asks_nothing_is_closed() {
        let scratch = Scratch::new();
        let daemon = scratch.daemon();
        for words in ["", "GET /v1/vers", "GET /v1/version HTTP/1.1\r\nHost: netloom\r\n"] {
            let mut client = client_that_says(&daemon, words.as_bytes()).await;
            assert_eq!(told(&mut client).await, "", "{words:?}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_client_that_asks_nothing_more_is_closed() {
        let scratch = Scratch::new();
        let daemon = scratch.daemon();
        let mut client = client_that_says(&daemon, b"GET /v1/version HTTP/1.1\r\nHost: netloom\r\n\r\n").await;
        let said = told(&mut client).await;
        assert!(said.starts_with("HTTP/1.1 200 OK"), "{said}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_is_not_http_is_a_bad_request() {
        let scratch = Scratch::new();
        let daemon = scratch.daemon();
        for words in [&b"hello, daemon\r\n\r\n"[..], b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", &[0xff; 100]] {
            let said = told(&mut client_that_says(&daemon, words).await).await;
            assert!(said.starts_with("HTTP/1.1 400 "), "{words:?}: {said}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_answer_takes_as_long_as_it_takes() {
        let scratch = Scratch::new();
        let daemon = scratch.daemon();
        let mut client = client_that_says(&daemon, b"GET /v1/events HTTP/1.1\r\nHost: netloom\r\n\r\n").await;
        sleep(PATIENCE * 5).await;
        daemon.events.tell("container", "start", "id", "the-late-one", &[]);
        let mut said = String::new();
        while !said.contains("the-late-one") {
            let mut bytes = [0; 1024];
            let count = timeout(Duration::from_secs(10), client.read(&mut bytes)).await.expect("it is not told").unwrap();
            assert_ne!(count, 0, "the answer was cut after {said}");
            said.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }

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
