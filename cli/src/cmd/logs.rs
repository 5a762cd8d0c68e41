//! `logs`: what a container wrote, read from its log without asking anybody; `-f` follows it through rotations.

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufRead, BufReader, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use serde::Deserialize;

use super::{Context, container_path};
use crate::{
    api::{Container, State, Waited},
    args::container::LogsArgs,
    client::Client,
    error::CliError,
    output,
    words::quantity::Tail,
};

/// How often `-f` looks for more.
const PERIOD: Duration = Duration::from_millis(100);

/// One piece of output, as the supervisor writes it to the log.
#[derive(Debug, Deserialize)]
struct Entry {
    time: String,
    stream: String,
    log: String,
}

pub fn logs(args: &LogsArgs, context: &Context) -> Result<(), CliError> {
    let container = context.container(&args.container)?;
    let path = match container.log_path.as_str() {
        "" => context.client.paths.container(&container.id).join("log"),
        path => PathBuf::from(path),
    };
    let mut printer = Printer { since: args.since.map(|since| since.resolve(SystemTime::now())), timestamps: args.timestamps };
    let ended = args.follow.then(|| watch_end(&container, context)).transpose()?;
    let mut log = Follower { rotated: rotated(&path), path, open: None };
    print_tail(&mut log, args.tail, &mut printer)?;
    let Some(ended) = ended else { return Ok(()) };
    loop {
        // What was written before the end is there once the end is known.
        let last = ended.load(Relaxed);
        while let Some(line) = log.next_line()? {
            printer.print(&line)?;
        }
        if last {
            return Ok(());
        }
        std::thread::sleep(PERIOD);
    }
}

/// Becomes true when the container has ended.
fn watch_end(container: &Container, context: &Context) -> Result<Arc<AtomicBool>, CliError> {
    let runs = matches!(container.state, State::Running | State::Paused | State::Restarting);
    let ended = Arc::new(AtomicBool::new(!runs));
    if runs {
        let client = Client::new(context.client.paths.clone(), context.client.workers)?;
        let (path, ended) = (format!("{}/wait", container_path(&container.id)), ended.clone());
        std::thread::spawn(move || {
            // A container that cannot be waited for any more is gone.
            let _: Result<Waited, _> = client.get(&path);
            ended.store(true, Relaxed);
        });
    }
    Ok(ended)
}

fn print_tail(log: &mut Follower, tail: Tail, printer: &mut Printer) -> Result<(), CliError> {
    let Some(count) = tail.0 else {
        while let Some(line) = log.next_line()? {
            printer.print(&line)?;
        }
        return Ok(());
    };
    let mut kept = VecDeque::with_capacity(count.min(1024));
    while let Some(line) = log.next_line()? {
        if kept.len() >= count {
            kept.pop_front();
        }
        if count > 0 {
            kept.push_back(line);
        }
    }
    kept.iter().try_for_each(|line| printer.print(line))
}

/// The older part of the log, after its rotation.
fn rotated(path: &Path) -> Option<PathBuf> {
    let mut name = path.file_name()?.to_owned();
    name.push(".1");
    Some(path.with_file_name(name)).filter(|path| path.exists())
}

/// The lines of a log, the older file's first, then those of the file that stands at the path, whichever that is by then.
struct Follower {
    path: PathBuf,
    /// The older file, until it has been read.
    rotated: Option<PathBuf>,
    open: Option<Reading>,
}

struct Reading {
    file: BufReader<File>,
    inode: u64,
    /// A line whose end has not been written yet.
    partial: Vec<u8>,
}

impl Follower {
    /// The next whole line; none if there is no more for now.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, CliError> {
        loop {
            if self.open.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let Some(reading) = &mut self.open else { return Ok(None) };
            reading.file.read_until(b'\n', &mut reading.partial).map_err(|error| self_error(&self.path, &error))?;
            if reading.partial.ends_with(b"\n") {
                return Ok(Some(std::mem::take(&mut reading.partial)));
            }
            // At its end: go on only if another file has taken its place, and nothing was added in between.
            let inode = reading.inode;
            if std::fs::metadata(&self.path).map(|found| found.ino()).ok().is_none_or(|now| now == inode) {
                return Ok(None);
            }
            let Some(reading) = &mut self.open else { return Ok(None) };
            let more = reading.file.read_until(b'\n', &mut reading.partial).map_err(|error| self_error(&self.path, &error))?;
            if more == 0 {
                self.open = None;
            } else if reading.partial.ends_with(b"\n") {
                return Ok(Some(std::mem::take(&mut reading.partial)));
            }
        }
    }

    fn open_next(&mut self) -> Result<bool, CliError> {
        let path = self.rotated.take().unwrap_or_else(|| self.path.clone());
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(self_error(&path, &error)),
        };
        let inode = file.metadata().map_err(|error| self_error(&path, &error))?.ino();
        self.open = Some(Reading { file: BufReader::with_capacity(1 << 16, file), inode, partial: Vec::new() });
        Ok(true)
    }
}

fn self_error(path: &Path, error: &std::io::Error) -> CliError {
    CliError::io(format!("cannot read the log `{}`", path.display()), error)
}

struct Printer {
    since: Option<SystemTime>,
    timestamps: bool,
}

impl Printer {
    /// A line that is no entry is damaged: one that the supervisor was killed in the middle of.
    fn print(&mut self, line: &[u8]) -> Result<(), CliError> {
        let Ok(entry) = serde_json::from_slice::<Entry>(line) else { return Ok(()) };
        if let Some(since) = self.since
            && humantime::parse_rfc3339_weak(&entry.time).is_ok_and(|time| time < since)
        {
            return Ok(());
        }
        let text = if self.timestamps { format!("{} {}", entry.time, entry.log) } else { entry.log };
        if entry.stream == "stderr" {
            // Without a stderr there is no place to complain.
            let _ = std::io::stderr().write_all(text.as_bytes());
            return Ok(());
        }
        output::print(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("netloom-logs-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a directory");
        dir.join("log")
    }

    fn append(path: &Path, text: &str) {
        File::options().create(true).append(true).open(path).and_then(|mut file| file.write_all(text.as_bytes())).expect("appended");
    }

    fn all(log: &mut Follower) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = log.next_line().expect("readable") {
            lines.push(String::from_utf8(line).expect("text").trim_end().to_owned());
        }
        lines
    }

    #[test]
    fn a_log_is_followed_through_its_rotation_and_no_line_is_lost() {
        let path = scratch("rotation");
        let mut log = Follower { rotated: rotated(&path), path: path.clone(), open: None };
        assert_eq!(all(&mut log), Vec::<String>::new());
        append(&path, "a\nb");
        assert_eq!(all(&mut log), ["a"]);
        append(&path, "\nc\n");
        std::fs::rename(&path, path.with_file_name("log.1")).expect("rotated");
        append(&path, "d\n");
        assert_eq!(all(&mut log), ["b", "c", "d"]);
        append(&path, "e\n");
        assert_eq!(all(&mut log), ["e"]);
        std::fs::remove_dir_all(path.parent().expect("a directory")).expect("removed");
    }

    #[test]
    fn an_older_file_is_read_first() {
        let path = scratch("older");
        append(&path.with_file_name("log.1"), "a\n");
        append(&path, "b\n");
        let mut log = Follower { rotated: rotated(&path), path: path.clone(), open: None };
        assert_eq!(all(&mut log), ["a", "b"]);
        std::fs::remove_dir_all(path.parent().expect("a directory")).expect("removed");
    }
}
