//! A daemon that gives every container the plan it was told, and remembers what supervisors say.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use netloom_runtime::{
    channel::{Channel, Listener},
    protocol::{Failure, Request, ToDaemon, ToSupervisor, VERSION},
    spec::Plan,
    userns,
};
use nix::unistd::geteuid;
use tokio::sync::oneshot;

/// What a supervisor said, and what it has been given.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) messages: Vec<ToDaemon>,
    pub(crate) fds: Vec<OwnedFd>,
}

type Shared = Arc<Mutex<State>>;

#[derive(Default)]
struct State {
    plan: Option<Plan>,
    refuse: Option<Failure>,
    heard: HashMap<String, Heard>,
    connections: HashMap<String, Arc<Channel>>,
    next: u64,
}

pub(crate) struct Daemon {
    state: Shared,
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

/// The supervisors' way to start a daemon: a file says that one was wanted; the test itself starts it.
pub(crate) fn restart(root: &Path) -> io::Result<()> {
    std::fs::write(root.join("daemon-wanted"), "")
}

impl Daemon {
    pub(crate) fn start(root: &Path, plan: Plan) -> Self {
        let socket = root.join(netloom_runtime::supervisor::SOCKET);
        let _ = std::fs::remove_file(&socket);
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = tokio.block_on(async { Listener::bind(&socket).unwrap() });
        let state: Shared = Arc::new(Mutex::new(State { plan: Some(plan), ..State::default() }));
        let userns = (!geteuid().is_root()).then(|| userns::create().unwrap().fd).map(Arc::new);
        let (stop, mut stopped) = oneshot::channel();
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || {
            tokio.block_on(async move {
                while let Some(channel) = tokio::select! {
                    accepted = listener.accept() => Some(accepted.unwrap()),
                    _ = &mut stopped => None,
                } {
                    let (shared, userns) = (Arc::clone(&shared), userns.clone());
                    thread::spawn(move || serve(Arc::new(channel), &shared, userns));
                }
            });
        });
        Self { state, stop, thread }
    }

    /// The next starts are refused.
    pub(crate) fn refuse(&self, failure: Failure) {
        self.state.lock().unwrap().refuse = Some(failure);
    }

    /// Closes the socket and every connection, as the end of a daemon does.
    pub(crate) fn crash(self) {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap();
        for channel in self.state.lock().unwrap().connections.values() {
            nix::sys::socket::shutdown(std::os::fd::AsRawFd::as_raw_fd(&channel.as_fd()), nix::sys::socket::Shutdown::Both).unwrap();
        }
    }

    /// Waits until something said satisfies `wanted`, and returns what it gives.
    pub(crate) fn wait<T>(&self, id: &str, what: &str, wanted: impl Fn(&ToDaemon) -> Option<T>) -> T {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(found) = self.state.lock().unwrap().heard.get(id).and_then(|heard| heard.messages.iter().rev().find_map(&wanted)) {
                return found;
            }
            assert!(Instant::now() < until, "no {what} from {id}: {:?}", self.state.lock().unwrap().heard.get(id));
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn count(&self, id: &str, wanted: impl Fn(&ToDaemon) -> bool) -> usize {
        self.state.lock().unwrap().heard.get(id).map_or(0, |heard| heard.messages.iter().filter(|message| wanted(message)).count())
    }

    pub(crate) fn descriptors(&self, id: &str) -> usize {
        self.state.lock().unwrap().heard.get(id).map_or(0, |heard| heard.fds.len())
    }

    /// Closes what a supervisor has given.
    pub(crate) fn forget_descriptors(&self, id: &str) {
        self.state.lock().unwrap().heard.get_mut(id).unwrap().fds.clear();
    }

    /// Asks a supervisor and waits for its answer.
    pub(crate) fn ask(&self, id: &str, what: Request) -> Result<(), Failure> {
        let (request, channel) = {
            let mut state = self.state.lock().unwrap();
            state.next += 1;
            (state.next, Arc::clone(&state.connections[id]))
        };
        channel.send(&ToSupervisor::Request { request, what }, &[]).unwrap();
        self.wait(id, "answer", |message| match message {
            ToDaemon::Done { request: answered, error } if *answered == request => Some(error.clone().map_or(Ok(()), Err)),
            _ => None,
        })
    }
}

fn serve(channel: Arc<Channel>, state: &Shared, userns: Option<Arc<OwnedFd>>) {
    let mut id = String::new();
    while let Ok(Some((message, fds))) = channel.receive::<ToDaemon>() {
        if let ToDaemon::Hello { container, .. } = &message {
            id.clone_from(container);
            state.lock().unwrap().connections.insert(id.clone(), Arc::clone(&channel));
        }
        let answer = {
            let mut state = state.lock().unwrap();
            let answer = match (&message, &state.refuse) {
                (ToDaemon::Hello { .. }, _) => Some(ToSupervisor::Welcome { version: VERSION, userns: userns.is_some() }),
                (ToDaemon::Prepare, Some(failure)) => Some(ToSupervisor::Refused { failure: failure.clone() }),
                (ToDaemon::Prepare, None) => Some(ToSupervisor::Plan { plan: state.plan.clone().unwrap() }),
                (ToDaemon::Attach { .. }, _) => Some(ToSupervisor::Attached),
                _ => None,
            };
            let heard = state.heard.entry(id.clone()).or_default();
            heard.messages.push(message);
            heard.fds.extend(fds);
            answer
        };
        let Some(answer) = answer else { continue };
        let fds: Vec<_> = userns.iter().filter(|_| matches!(answer, ToSupervisor::Welcome { .. })).map(|fd| fd.as_fd()).collect();
        if channel.send(&answer, &fds).is_err() {
            return;
        }
    }
}

/// A root directory for one test.
pub(crate) fn root(name: &str) -> PathBuf {
    let dir = Path::new("/dev/shm").join(format!("netloom-{name}-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("containers")).unwrap();
    dir
}
