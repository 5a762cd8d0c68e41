//! A program that a test runs: its words, its output as it comes, its end. Every wait for it has a bound, and it does not outlive
//! the value that stands for it.

use std::{
    fmt,
    io::{Read, Write},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::wait::DEADLINE;

/// How long a stream may stay open after its program has ended.
const LINGER: Duration = Duration::from_secs(3);

/// Splits a command line into words at spaces; '…' and "…" keep what they enclose together.
pub fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote) = (None::<String>, None);
    for c in line.chars() {
        match quote {
            Some(q) if q == c => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    assert!(quote.is_none(), "a quote is open in: {line}");
    words.extend(word);
    words
}

/// Bytes that arrive on a stream, gathered by a thread of their own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gathered(Arc<(Mutex<Stream>, Condvar)>);

#[derive(Debug, Default)]
struct Stream {
    bytes: Vec<u8>,
    ended: bool,
}

impl Gathered {
    pub(crate) fn from(mut source: impl Read + Send + 'static) -> Self {
        let gathered = Self::default();
        let sink = gathered.clone();
        std::thread::spawn(move || {
            let mut piece = [0; 65536];
            while let Ok(n @ 1..) = source.read(&mut piece) {
                sink.change(|stream| stream.bytes.extend_from_slice(&piece[..n]));
            }
            sink.change(|stream| stream.ended = true);
        });
        gathered
    }

    fn change(&self, change: impl FnOnce(&mut Stream)) {
        change(&mut self.0.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.1.notify_all();
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).bytes.clone()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// Waits until `found` gives a value of the bytes so far; `None` after `limit`, or when the stream ended without it.
    pub(crate) fn wait<T>(&self, limit: Duration, mut found: impl FnMut(&[u8]) -> Option<T>) -> Option<T> {
        let end = Instant::now() + limit;
        let mut stream = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(value) = found(&stream.bytes) {
                return Some(value);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || stream.ended {
                return None;
            }
            stream = self.0.1.wait_timeout(stream, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether the stream ends within `limit`.
    fn ends(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut stream = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !stream.ended {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            stream = self.0.1.wait_timeout(stream, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// A program on its way.
#[derive(Debug)]
pub struct Running {
    line: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Gathered,
    stderr: Gathered,
    done: Option<ExitStatus>,
}

impl Running {
    /// Starts `command` with its three streams as pipes; `line` names it in messages.
    #[track_caller]
    pub(crate) fn start(mut command: Command, line: &str) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|why| panic!("cannot start `{line}`: {why}"));
        Self {
            line: line.into(),
            stdin: child.stdin.take(),
            stdout: Gathered::from(child.stdout.take().expect("a pipe")),
            stderr: Gathered::from(child.stderr.take().expect("a pipe")),
            child,
            done: None,
        }
    }

    /// Writes to its standard input.
    #[track_caller]
    pub fn type_in(&mut self, text: &str) {
        let pipe = self.stdin.as_mut().expect("standard input is open");
        pipe.write_all(text.as_bytes()).and_then(|()| pipe.flush()).unwrap_or_else(|why| panic!("writing to `{}`: {why}", self.line));
    }

    /// Ends its standard input.
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Feeds `input` from a thread, then ends standard input. A program that stops reading is no error here.
    pub fn feed(&mut self, input: Vec<u8>) {
        let mut pipe = self.stdin.take().expect("standard input is open");
        std::thread::spawn(move || pipe.write_all(&input).is_ok());
    }

    /// Waits until its standard output holds `text`.
    #[track_caller]
    pub fn expect(&self, text: &str) {
        let seen = self.stdout.wait(DEADLINE, |bytes| find(bytes, text.as_bytes()));
        assert!(seen.is_some(), "`{}` never said `{text}`; it said:\n{}\n{}", self.line, self.stdout.text(), self.stderr.text());
    }

    /// What it has written to standard output so far.
    pub fn stdout_so_far(&self) -> String {
        self.stdout.text()
    }

    /// The program's own PID, past the wrappers that put it into its namespaces.
    #[track_caller]
    pub fn pid(&self) -> Pid {
        crate::wait::wait_for(&format!("the program of `{}` runs", self.line), || {
            let wrapper = self.child.id();
            let leaf = children(wrapper).first().copied()?;
            let name = std::fs::read_to_string(format!("/proc/{leaf}/comm")).ok()?;
            (!["nsenter", "setpriv", "env"].contains(&name.trim())).then(|| Pid::from_raw(leaf.cast_signed()))
        })
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap_or_else(|why| panic!("{signal} to `{}`: {why}", self.line));
    }

    pub fn is_running(&mut self) -> bool {
        self.done.is_none() && matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end, which must come within [`DEADLINE`].
    #[track_caller]
    pub fn finish(self) -> Finished {
        self.finish_within(DEADLINE)
    }

    #[track_caller]
    pub fn finish_within(mut self, limit: Duration) -> Finished {
        self.stdin = None;
        let end = Instant::now() + limit;
        let mut pause = Duration::from_micros(500);
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                break status;
            }
            if Instant::now() > end {
                let (out, err) = (self.stdout.text(), self.stderr.text());
                panic!("`{}` did not end within {limit:?}; it said:\n{out}\n{err}", self.line);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        };
        self.done = Some(status);
        for (name, stream) in [("standard output", &self.stdout), ("standard error", &self.stderr)] {
            assert!(stream.ends(LINGER), "`{}` has ended, but another process holds its {name}", self.line);
        }
        Finished { line: self.line.clone(), code: code(status), stdout: self.stdout.bytes(), stderr: self.stderr.text() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.done.is_some() || !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        for pid in children(self.child.id()) {
            // An error says that it has ended by itself.
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a program ended and what it said.
#[derive(Clone, PartialEq, Eq)]
pub struct Finished {
    pub line: String,
    /// 128 + N for signal N.
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Finished {
    /// Standard output, without the white space at its end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Itself, after asserting the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "wrong exit code of {self:?}");
        self
    }
}

impl fmt::Debug for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |text: &str| text.chars().rev().take(4000).collect::<Vec<_>>().into_iter().rev().collect::<String>();
        write!(f, "`{}`: exit {}\n--- stdout\n{}\n--- stderr\n{}", self.line, self.code, end(&self.text()), end(&self.stderr))
    }
}

pub(crate) fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

pub(crate) fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
