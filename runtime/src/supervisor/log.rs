//! A container's output on disk: `<root>/containers/<id>/log`, in the form of docker's json-file.
//!
//! One JSON object a line, `{"log":"text\n","stream":"stdout","time":"2024-01-01T00:00:00.000000000Z"}`; a line without its newline was
//! longer than [`LINE_MAX`]. At [`SIZE_MAX`] bytes the file becomes `log.1`, replacing the one before, so a container's log has at
//! most twice that. An error while writing loses
//! log lines and nothing else: what was written of them is taken back.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::Serialize;

/// Bytes of output in one object.
const LINE_MAX: usize = 16 * 1024;
/// Bytes of a log file.
const SIZE_MAX: u64 = 16 * 1024 * 1024;

/// Which of a command's streams a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

#[derive(Serialize)]
struct Line<'a> {
    log: std::borrow::Cow<'a, str>,
    stream: Stream,
    time: &'a str,
}

/// The log of one container.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    size_max: u64,
    /// Lines whose end has not come yet: stdout, stderr.
    partial: [Vec<u8>; 2],
}

impl Log {
    /// Opens the log in a container's directory; what is there stays.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join("log");
        let file = File::options().append(true).create(true).open(&path)?;
        let size = file.metadata()?.len();
        Ok(Self { path, file, size, size_max: SIZE_MAX, partial: [Vec::new(), Vec::new()] })
    }

    /// Takes output as it comes and writes the lines that are whole.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let mut pending = std::mem::take(self.partial_of(stream));
        pending.extend_from_slice(bytes);
        // One instant for what came together: writing it down costs more than a short line does.
        let now = rfc3339(SystemTime::now());
        // Escapes and the words around a line double what is written of most texts.
        let mut out = Vec::with_capacity(2 * bytes.len() + 128);
        let mut rest = &pending[..];
        while let Some(len) = line_len(rest) {
            let (line, after) = rest.split_at(len);
            encode(&mut out, stream, line, &now);
            rest = after;
        }
        *self.partial_of(stream) = rest.to_vec();
        self.append(&out);
    }

    /// Writes what has no end: the command has ended.
    pub(crate) fn finish(&mut self) {
        let mut out = Vec::new();
        let now = rfc3339(SystemTime::now());
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(self.partial_of(stream));
            if !rest.is_empty() {
                encode(&mut out, stream, &rest, &now);
            }
        }
        self.append(&out);
    }

    fn partial_of(&mut self, stream: Stream) -> &mut Vec<u8> {
        let [out, err] = &mut self.partial;
        if stream == Stream::Stdout { out } else { err }
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.size > 0 && self.size + bytes.len() as u64 > self.size_max {
            self.rotate();
        }
        if bytes.is_empty() {
            return;
        }
        match self.file.write_all(bytes) {
            Ok(()) => self.size += bytes.len() as u64,
            // Half a line would swallow the next one. A truncation that fails leaves just that.
            Err(_) => {
                let _ = self.file.set_len(self.size);
            }
        }
    }

    fn rotate(&mut self) {
        let renamed = fs::rename(&self.path, self.path.with_extension("1"));
        if let Ok(file) = renamed.and_then(|()| File::options().append(true).create_new(true).open(&self.path)) {
            self.file = file;
            self.size = 0;
        }
    }
}

/// The length of the first line that can be written: up to its newline, or as long as one may be.
fn line_len(bytes: &[u8]) -> Option<usize> {
    let newline = bytes.iter().take(LINE_MAX).position(|byte| *byte == b'\n');
    newline.map(|at| at + 1).or_else(|| (bytes.len() >= LINE_MAX).then_some(LINE_MAX))
}

fn encode(out: &mut Vec<u8>, stream: Stream, text: &[u8], time: &str) {
    let line = Line { log: String::from_utf8_lossy(text), stream, time };
    if serde_json::to_writer(&mut *out, &line).is_ok() {
        out.push(b'\n');
    }
}

/// `2024-01-01T00:00:00.000000000Z`
pub(crate) fn rfc3339(at: SystemTime) -> String {
    humantime::format_rfc3339_nanos(at).to_string()
}

#[cfg(test)]
mod tests {
    use nix::{
        fcntl::{FcntlArg, SealFlag, fcntl},
        sys::memfd::{MFdFlags, memfd_create},
    };

    use super::*;

    fn lines(dir: &Path, name: &str) -> Vec<(String, String)> {
        let text = fs::read_to_string(dir.join(name)).unwrap_or_default();
        let parse = |line: &str| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            (value["stream"].as_str().unwrap().to_owned(), value["log"].as_str().unwrap().to_owned())
        };
        text.lines().map(parse).collect()
    }

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("netloom-log-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn lines_are_put_together_however_they_come() {
        let dir = dir("lines");
        let mut log = Log::open(&dir).unwrap();
        log.write(Stream::Stdout, b"one\ntw");
        log.write(Stream::Stderr, b"oops\n");
        log.write(Stream::Stdout, b"o\nrest");
        log.finish();
        let got = lines(&dir, "log");
        let want = [("stdout", "one\n"), ("stderr", "oops\n"), ("stdout", "two\n"), ("stdout", "rest")];
        assert_eq!(got, want.map(|(stream, text)| (stream.to_owned(), text.to_owned())));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn the_log_is_bounded_and_one_old_file_is_kept() {
        let dir = dir("bound");
        let mut log = Log::open(&dir).unwrap();
        log.size_max = 1000;
        for number in 0..100 {
            log.write(Stream::Stdout, format!("line {number}\n").as_bytes());
        }
        let sizes: Vec<_> = ["log", "log.1"].iter().map(|name| fs::metadata(dir.join(name)).unwrap().len()).collect();
        assert!(sizes.iter().all(|size| *size > 0 && *size <= 1000), "{sizes:?}");
        assert_eq!(lines(&dir, "log").last().unwrap().1, "line 99\n");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_a_full_disk_took_of_a_line_is_taken_back() {
        let dir = dir("full");
        let mut log = Log::open(&dir).unwrap();
        // A file that cannot grow: the first page of a longer line fits, the rest does not.
        let name = c"netloom-log";
        let file = File::from(memfd_create(name, MFdFlags::MFD_ALLOW_SEALING).unwrap());
        file.set_len(4096).unwrap();
        fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW)).unwrap();
        log.file = file;
        log.write(Stream::Stdout, &[&[b'x'; 6000], &b"\n"[..]].concat());
        assert_eq!((log.size, log.file.metadata().unwrap().len()), (0, 0));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_line_without_end_does_not_grow_in_memory() {
        let dir = dir("long");
        let mut log = Log::open(&dir).unwrap();
        log.write(Stream::Stdout, &vec![b'x'; 3 * LINE_MAX + 5]);
        assert_eq!(log.partial[0].len(), 5);
        assert_eq!(lines(&dir, "log").len(), 3);
        fs::remove_dir_all(&dir).unwrap();
    }
}
