//! A session with a supervisor: this terminal, or these pipes, at a process of a container.
//!
//! ```text
//!   stdin ──▶ input thread ──┐                       ┌──▶ stdout, stderr
//!                            ├──▶ attach.sock ──▶ output thread
//!   signals ─▶ signal thread ┘ (through the conductor)   │ Started, Failed, Exited
//!                   └───────────▶ conductor ◀────────────┘
//! ```
//!
//! Every thread blocks on one thing, so a slow reader of our output holds back the container and nothing else. The conductor
//! alone owns the terminal's mode and gives it back however the session ends. Data is never looked at, but for the detach keys.

mod frames;
mod keys;
mod pump;
pub mod terminal;

use std::{
    io,
    os::unix::net::UnixStream,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    time::{Duration, Instant},
};

use netloom_runtime::protocol::{FromSupervisor, Open, ToSession};
use nix::sys::signal::{SigSet, Signal};

pub use frames::{FrameReader, FrameWriter, Incoming};
pub use keys::{DEFAULT_DETACH_KEYS, DetachKeys};
use terminal::RawTerminal;
pub use terminal::{stdin_is_terminal, window_size};

use crate::error::CliError;

/// How long a supervisor may take to say whether the process runs: more than it gives a start itself. One that is stopped or hangs
/// would say nothing for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a session is held.
#[derive(Debug)]
pub struct Options {
    /// The process is on a terminal of its own.
    pub tty: bool,
    /// Standard input is sent.
    pub stdin: bool,
    pub detach_keys: DetachKeys,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The process ended; 128+N for signal N.
    Exited(u8),
    /// The caller left; the process runs on.
    Detached,
}

/// What the threads tell the conductor.
#[derive(Debug)]
enum Event {
    Started,
    Failed(CliError),
    Exited(i32),
    /// The supervisor is gone.
    Lost(io::Error),
    Signal(Signal),
    /// Nobody reads our stdout any more.
    StdoutClosed,
    /// Our stdout takes no more for another reason, such as a full disk.
    StdoutFailed(io::Error),
    Detach,
}

/// A way to reach the process besides the session, for signals that must not wait behind its input.
pub type SendSignal<'a> = &'a dyn Fn(i32) -> Result<(), CliError>;

/// Opens the session and waits until the process runs.
pub fn open_detached(stream: UnixStream, open: &Open) -> Result<(), CliError> {
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| lost(&error))?;
    let writer = FrameWriter::new(stream.try_clone().map_err(|error| lost(&error))?);
    writer.control(open).map_err(|error| lost(&error))?;
    let mut reader = FrameReader::new(stream);
    loop {
        match reader.read_frame().map_err(|error| lost(&error))? {
            Some(Incoming::Control(FromSupervisor::Started { .. } | FromSupervisor::Exited { .. })) => return Ok(()),
            Some(Incoming::Control(FromSupervisor::Failed { failure })) => return Err(failure.into()),
            Some(_) => {}
            None => return Err(lost(&io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

/// Opens the session and holds it until the process ends or the caller leaves.
pub fn hold(stream: UnixStream, open: &Open, options: Options, send_signal: SendSignal<'_>) -> Result<Ended, CliError> {
    let reader = FrameReader::new(stream.try_clone().map_err(|error| lost(&error))?);
    let writer = FrameWriter::new(stream);
    let starts = matches!(open, Open::Start { .. });
    let terminal = if options.tty && options.stdin && stdin_is_terminal() { Some(RawTerminal::enter(starts)?) } else { None };
    writer.control(open).map_err(|error| lost(&error))?;

    let (events, inbox) = channel();
    watch_signals(events.clone())?;
    let output = events.clone();
    std::thread::spawn(move || pump::output(reader, &output));
    let mut conductor = Conductor { writer, options, events, terminal, send_signal, starts, started: false };
    conductor.run(&inbox)
}

/// The one that decides; everything else only moves bytes.
struct Conductor<'a> {
    writer: FrameWriter,
    options: Options,
    events: Sender<Event>,
    terminal: Option<RawTerminal>,
    send_signal: SendSignal<'a>,
    /// The session is there to start the container, so until that is done a signal is about the start.
    starts: bool,
    started: bool,
}

impl Conductor<'_> {
    fn run(&mut self, inbox: &Receiver<Event>) -> Result<Ended, CliError> {
        let until = Instant::now() + PATIENCE;
        while let Some(event) = self.next(inbox, until)? {
            match event {
                Event::Started => self.start()?,
                Event::Failed(error) => return Err(error),
                Event::Exited(code) => return Ok(Ended::Exited(u8::try_from(code & 0xff).unwrap_or(u8::MAX))),
                Event::Lost(error) => return Err(lost(&error)),
                Event::Signal(signal) => self.signal(signal)?,
                // As if the process itself wrote to the pipe that broke.
                Event::StdoutClosed => self.deliver(Signal::SIGPIPE),
                // What the command says is being lost, and only we know.
                Event::StdoutFailed(error) => {
                    return Err(CliError { exit_code: 125, ..CliError::io("cannot write to standard output", &error) });
                }
                Event::Detach => return Ok(Ended::Detached),
            }
        }
        Err(lost(&io::ErrorKind::UnexpectedEof.into()))
    }

    /// What happens next; `None` once nothing can. By `until` the process must run.
    fn next(&self, inbox: &Receiver<Event>, until: Instant) -> Result<Option<Event>, CliError> {
        if self.started {
            return Ok(inbox.recv().ok());
        }
        match inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(silent()),
        }
    }

    /// Input is read only once there is somebody to read it: a command that cannot start eats nothing.
    fn start(&mut self) -> Result<(), CliError> {
        if std::mem::replace(&mut self.started, true) || !self.options.stdin {
            return Ok(());
        }
        if let Some(terminal) = &self.terminal {
            terminal.apply(false)?;
        }
        let keys = self.terminal.is_some().then(|| self.options.detach_keys.clone());
        let (writer, events) = (self.writer.clone(), self.events.clone());
        std::thread::spawn(move || {
            if pump::input(&writer, keys) {
                // The conductor is gone only if the session is over.
                let _ = events.send(Event::Detach);
            }
        });
        Ok(())
    }

    /// Whoever starts the container wants it no more. The supervisor is told, but not waited for: it may be what hangs.
    fn give_up(&self, signal: Signal) -> CliError {
        self.say(&ToSession::Signal { signal: signal as i32 });
        // One more signal ends this process at once, whatever is still to be tidied up.
        let watched: SigSet = WATCHED.iter().copied().collect();
        let _ = watched.thread_unblock();
        let exit_code = u8::try_from(128 + signal as i32).unwrap_or(u8::MAX);
        CliError { message: format!("the start was ended by {signal}"), hint: None, exit_code }
    }

    fn signal(&self, signal: Signal) -> Result<(), CliError> {
        match signal {
            Signal::SIGWINCH | Signal::SIGCONT => {
                if signal == Signal::SIGCONT
                    && let Some(terminal) = &self.terminal
                {
                    terminal.apply(self.starts && !self.started)?;
                }
                if let Some(size) = window_size().filter(|_| self.options.tty) {
                    self.say(&ToSession::Resize { size });
                }
                Ok(())
            }
            signal if self.starts && !self.started && ENDS_A_START.contains(&signal) => Err(self.give_up(signal)),
            signal => {
                self.deliver(signal);
                Ok(())
            }
        }
    }

    /// A signal must not wait behind input that the process does not read.
    fn deliver(&self, signal: Signal) {
        if !self.options.stdin || (self.send_signal)(signal as i32).is_err() {
            self.say(&ToSession::Signal { signal: signal as i32 });
        }
    }

    /// A supervisor that is gone is noticed by the output thread.
    fn say(&self, word: &ToSession) {
        let _ = self.writer.control(word);
    }
}

/// The signals that are the process's, not ours, and those about the terminal.
const WATCHED: &[Signal] = &[
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGCONT,
];

/// Those that end a start, since there is no command yet to have them.
const ENDS_A_START: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// Blocks the watched signals for this thread and all that it starts, and lets one more thread wait for them.
fn watch_signals(events: Sender<Event>) -> Result<(), CliError> {
    let watched: SigSet = WATCHED.iter().copied().collect();
    watched.thread_block().map_err(|error| CliError::io("cannot watch signals", &error.into()))?;
    std::thread::spawn(move || {
        while let Ok(signal) = watched.wait() {
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn silent() -> CliError {
    let message = format!("the container's supervisor did not answer within {} s", PATIENCE.as_secs());
    CliError { message, hint: Some("it may be stopped or hung; `netloom rm -f` ends it".to_owned()), exit_code: 125 }
}

fn lost(error: &io::Error) -> CliError {
    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
        return silent();
    }
    let why = match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => "it ended".to_owned(),
        _ => crate::error::io_reason(error),
    };
    CliError { message: format!("lost the container's supervisor: {why}"), hint: None, exit_code: 125 }
}

#[cfg(test)]
mod tests;
