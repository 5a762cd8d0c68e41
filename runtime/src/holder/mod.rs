//! The holder: one small single-threaded process for each interface of `network attach`, in the place of a supervisor.
//!
//! It owns the TAP, watches the target, and gives the TAP to the daemon, to the next one too. It enters no namespace itself (a
//! helper does), runs nothing and takes nothing else down: its end is the interface's end and no more.
//!
//! ```text
//!   preparing ──plan──▶ building ──TAP──▶ attaching ──attached──▶ held ──Remove──▶ leaving: the interface is deleted
//!       └──────────────────┴──────refused─────┘                    │                        │
//!                          ▼                                       ▼                        ▼
//!          the command that waits is told why        the target ends, --exit-fd hangs up:  end
//! ```

mod life;
mod place;
mod start;

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{Flock, FlockArg},
    sys::{
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use self::{
    life::Life,
    start::{Job, Outcome},
};
pub use self::{
    place::Place,
    start::{copy_inherited, start},
};
use crate::{
    channel::{Channel, ChannelError},
    fault::{Doing, Fault, Result},
    helper::{self, Report},
    protocol::{Failure, Request, RequestId, ToDaemon, ToSupervisor, VERSION},
    spec::{Attachment, HoldSpec, Plan},
    supervisor::{
        DaemonStarter,
        link::Link,
        poll::{Interest, Poll, Token},
    },
};

/// The first argument of the program that makes it a holder; the root follows.
pub const ARGUMENT: &str = "__holder";

/// How long a start may take, with a daemon to be started first.
const START_TIME: Duration = Duration::from_secs(20);

/// The holder that the program becomes when its first argument is [`ARGUMENT`]. `arguments` are those after it; standard input is a
/// channel to the command that started it.
pub fn main(arguments: impl IntoIterator<Item = OsString>, start_daemon: DaemonStarter) -> ExitCode {
    let Some(root) = arguments.into_iter().next() else { return ExitCode::from(2) };
    let Ok(starter) = start::detach() else { return ExitCode::FAILURE };
    let held = start::receive(&starter).and_then(|(job, fds)| Holder::new(Path::new(&root), job, fds, &starter, start_daemon));
    match held {
        Ok(mut holder) => {
            drop(starter);
            holder.run();
            ExitCode::SUCCESS
        }
        Err(fault) => {
            let _ = starter.send(&Outcome::Failed { failure: fault.into() }, &[]);
            ExitCode::FAILURE
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waits for an address.
    Preparing,
    /// A helper makes the interface.
    Building,
    /// Waits for the daemon to take the TAP.
    Attaching,
    Held,
    /// A helper deletes the interface.
    Leaving,
}

#[derive(Debug)]
struct Holder {
    id: String,
    dir: PathBuf,
    /// Held while this process lives, from the first hello on.
    lock: Option<Flock<File>>,
    spec: HoldSpec,
    network: OwnedFd,
    life: Life,
    exit: Option<OwnedFd>,
    poll: Poll,
    link: Link,
    signals: SignalFd,
    /// The command that waits until the interface is up.
    starter: Option<Channel>,
    phase: Phase,
    /// When a start has taken too long.
    until: Option<Instant>,
    tap: Option<(Attachment, OwnedFd)>,
    report: Option<Channel>,
    /// The request that wants it gone.
    removal: Option<RequestId>,
    finished: bool,
}

impl Holder {
    fn new(root: &Path, job: Job, fds: Vec<OwnedFd>, starter: &Channel, start_daemon: DaemonStarter) -> Result<Self> {
        let Job { spec, process, exit } = job;
        let mut fds = fds.into_iter();
        let mut next = || fds.next().ok_or_else(|| failure("the job lacks descriptors"));
        let network = next()?;
        let process = process.then(&mut next).transpose()?;
        let exit = exit.then(&mut next).transpose()?;
        let id = start::new_id()?;
        let mask = SigSet::from_iter([Signal::SIGCHLD]);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None).doing("wait for helpers")?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).doing("wait for helpers")?;
        let starter = starter.as_fd().try_clone_to_owned().doing("keep the way to the command")?;
        let mut holder = Self {
            dir: root.join("holders").join(&id),
            id,
            lock: None,
            life: Life::new(&spec.target, spec.namespace, process),
            spec,
            network,
            exit,
            poll: Poll::new().doing("make an epoll set")?,
            link: Link::new(root, start_daemon),
            signals,
            starter: Some(Channel::from(starter)),
            phase: Phase::Preparing,
            until: Some(Instant::now() + START_TIME),
            tap: None,
            report: None,
            removal: None,
            finished: false,
        };
        holder.watch()?;
        if holder.link.retry(&holder.poll, true) {
            holder.say_hello();
        }
        Ok(holder)
    }

    fn watch(&self) -> Result<()> {
        self.poll.set(&self.signals, Token::Signals, Interest::READ);
        self.life.watch(&self.poll);
        if let Some(starter) = &self.starter {
            self.poll.set(starter, Token::Starter, Interest::READ);
        }
        // It may have ended before anybody looked.
        if self.life.has_ended() {
            return Err(failure("the target ended"));
        }
        let Some(exit) = &self.exit else { return Ok(()) };
        self.poll.watch_end(exit, Token::Exit).map_err(|errno| {
            Fault::system("watch the descriptor of --exit-fd", errno)
                .with_hint("a pipe or a socket, whose other end is closed when it is time to end")
        })
    }

    fn run(&mut self) {
        while !self.finished {
            let deadline = [self.link.deadline(), self.until].into_iter().flatten().min();
            for ready in self.poll.wait(deadline.map(|at| at.saturating_duration_since(Instant::now()))) {
                match ready.token {
                    Token::Daemon => self.daemon_ready(ready.read),
                    Token::Directory if self.link.directory_changed(&self.poll) => self.say_hello(),
                    Token::Signals => self.reap(),
                    Token::Report(_) => self.report_ready(),
                    Token::Target if self.life.has_ended() => self.end(failure("the target ended")),
                    Token::Exit => self.end(failure("the other end of --exit-fd is closed")),
                    // The command was ended: nobody waits for the interface.
                    Token::Starter => self.finished |= self.phase != Phase::Held,
                    _ => {}
                }
            }
            self.time_passed();
        }
        self.link.drain(&self.poll);
        if self.lock.is_some() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }

    fn time_passed(&mut self) {
        let now = Instant::now();
        if self.link.deadline().is_some_and(|at| at <= now) && self.link.retry(&self.poll, true) {
            self.say_hello();
        }
        if self.until.is_some_and(|at| at <= now) {
            self.end(failure("the daemon did not answer").with_hint("see `daemon.log` under the root"));
        }
    }

    /// Ends, with a word to the command if it still waits.
    fn end(&mut self, why: impl Into<Failure>) {
        if let Some(starter) = self.starter.take() {
            let _ = starter.send(&Outcome::Failed { failure: why.into() }, &[]);
        }
        self.finished = true;
    }

    /// A new connection begins with everything that a daemon must know. The daemon waits for who holds a lock.
    fn say_hello(&mut self) {
        if self.lock.is_none() {
            match lock(&self.dir) {
                Ok(lock) => self.lock = Some(lock),
                Err(error) => return self.end(Fault::system(format!("lock {}", self.dir.display()), error)),
            }
        }
        let port = self.tap.as_ref().map(|(port, _)| port.clone());
        let hello = ToDaemon::Hold { version: VERSION, holder: self.id.clone(), what: self.spec.clone(), port };
        let fds: Vec<_> = self.tap.iter().map(|(_, tap)| tap.as_fd()).collect();
        let sent = self.link.send(&self.poll, hello, &fds);
        self.was_sent(sent);
    }

    /// What the daemon will never hear it will never answer: who waits for that ends.
    fn was_sent(&mut self, sent: std::result::Result<(), ChannelError>) {
        if let Err(error) = sent
            && matches!(self.phase, Phase::Preparing | Phase::Building | Phase::Attaching)
        {
            self.end(failure(&format!("the daemon cannot be told: {error}")));
        }
    }

    fn daemon_ready(&mut self, readable: bool) {
        let sent = self.link.flush(&self.poll);
        self.was_sent(sent);
        while readable && !self.finished {
            match self.link.receive() {
                Ok(Some((message, _))) => self.told(message),
                Ok(None) => return,
                Err(()) => return self.link.lose(&self.poll),
            }
        }
    }

    fn told(&mut self, message: ToSupervisor) {
        match message {
            ToSupervisor::Welcome { .. } => {
                self.link.welcome = true;
                match self.phase {
                    Phase::Preparing => {
                        let sent = self.link.send(&self.poll, ToDaemon::Prepare, &[]);
                        self.was_sent(sent);
                    }
                    // The hello carried what there was to attach.
                    Phase::Attaching => self.attached(),
                    Phase::Building | Phase::Held | Phase::Leaving => {}
                }
            }
            ToSupervisor::Plan { plan } => self.planned(plan),
            ToSupervisor::Attached => self.attached(),
            ToSupervisor::Refused { failure } => self.end(failure),
            ToSupervisor::Request { request, what: Request::Remove } => self.leave(request),
            ToSupervisor::Request { request, .. } => {
                let failure = failure("an interface does no such thing").into();
                let sent = self.link.send(&self.poll, ToDaemon::Done { request, error: Some(failure) }, &[]);
                self.was_sent(sent);
            }
        }
    }

    fn planned(&mut self, plan: Plan) {
        let Some(attachment) = plan.attachments.into_iter().next().filter(|_| self.phase == Phase::Preparing) else { return };
        self.phase = Phase::Building;
        let begun = self.begin(|holder, report| helper::link::attach(report, &holder.spec.target, &holder.network, &attachment));
        if let Err(fault) = begun {
            self.end(fault);
        }
    }

    fn leave(&mut self, request: RequestId) {
        self.removal = Some(request);
        self.phase = Phase::Leaving;
        let ifname = self.spec.ifname.clone();
        if self.begin(|holder, report| helper::link::detach(report, &holder.spec.target, &holder.network, &ifname)).is_err() {
            self.left();
        }
    }

    /// The interface goes with its TAP, even if it could not be deleted.
    fn left(&mut self) {
        self.tap = None;
        if let Some(request) = self.removal.take() {
            let sent = self.link.send(&self.poll, ToDaemon::Done { request, error: None }, &[]);
            self.was_sent(sent);
        }
        self.end(failure("it was detached"));
    }

    /// Starts a helper and watches what it reports.
    fn begin(&mut self, work: impl FnOnce(&Self, &Channel) -> Result<()>) -> Result<()> {
        let (ours, theirs) = Channel::pair().map_err(helper::lost)?;
        ours.set_nonblocking(true).map_err(helper::lost)?;
        helper::spawn(theirs, |report| work(self, report))?;
        self.poll.set(&ours, Token::Report(0), Interest::READ);
        self.report = Some(ours);
        Ok(())
    }

    fn report_ready(&mut self) {
        let Some(report) = &self.report else { return };
        let heard = match report.receive::<Report>() {
            Err(error) if error.would_block() => return,
            Ok(heard) => heard,
            Err(_) => None,
        };
        self.report = None;
        match (self.phase, heard) {
            (Phase::Leaving, _) => self.left(),
            (_, Some((Report::Attached { port }, fds))) => match <[OwnedFd; 2]>::try_from(fds) {
                Ok([tap, network]) => {
                    self.network = network;
                    self.built(port, tap);
                }
                Err(_) => self.end(failure("the helper's report lacks descriptors")),
            },
            (_, Some((Report::Failed { failure }, _))) => self.end(failure),
            _ => self.end(failure("the helper ended early")),
        }
    }

    /// The interface is there. A daemon that is away gets it with the next hello.
    fn built(&mut self, port: Attachment, tap: OwnedFd) {
        self.phase = Phase::Attaching;
        if self.link.welcome {
            let sent = self.link.send(
                &self.poll,
                ToDaemon::Attach { ports: vec![port.clone()], listeners: Vec::new(), more: false },
                &[tap.as_fd()],
            );
            self.was_sent(sent);
        }
        self.tap = Some((port, tap));
    }

    fn attached(&mut self) {
        if self.phase != Phase::Attaching {
            return;
        }
        (self.phase, self.until) = (Phase::Held, None);
        if let (Some(starter), Some((port, _))) = (self.starter.take(), &self.tap) {
            let _ = starter.send(&Outcome::Ready { port: port.clone() }, &[]);
        }
    }

    fn reap(&self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        while waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status != WaitStatus::StillAlive) {}
    }
}

/// Makes the directory that tells a new daemon of this holder, and holds its lock.
fn lock(dir: &Path) -> io::Result<Flock<File>> {
    fs::create_dir_all(dir)?;
    let file = File::options().write(true).create(true).truncate(false).open(dir.join("lock"))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.into())
}

fn failure(message: &str) -> Fault {
    Fault::Refused { message: message.to_owned(), hint: None }
}

impl From<Outcome> for std::result::Result<Attachment, Failure> {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ready { port } => Ok(port),
            Outcome::Failed { failure } => Err(failure),
        }
    }
}

/// How a broken channel reads to people.
fn broken(error: &ChannelError) -> Fault {
    failure(&format!("the holder's channel: {error}"))
}
