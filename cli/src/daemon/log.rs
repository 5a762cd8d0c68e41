//! The daemon's log: one line per change of state, in a file that is bounded.
//!
//! A full file becomes `daemon.log.1`, in place of the one before; standard error goes to the current one, so that a panic's words
//! are kept too.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use nix::unistd::dup2_stderr;
use tracing_subscriber::fmt::MakeWriter;

/// The longest that one of the two files gets, in bytes.
const FILE_MAX: u64 = 4 << 20;

/// Sends every line of `tracing` and standard error to the file at `path`.
pub(super) fn start(path: &Path) -> io::Result<()> {
    let log = BoundedLog::open(path, FILE_MAX)?;
    dup2_stderr(&log.0.lock().unwrap_or_else(PoisonError::into_inner).file)?;
    tracing_subscriber::fmt().with_writer(log).with_ansi(false).with_target(false).init();
    Ok(())
}

#[derive(Debug)]
struct BoundedLog(Mutex<Open>);

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    len: u64,
    max: u64,
}

impl BoundedLog {
    fn open(path: &Path, max: u64) -> io::Result<Self> {
        let file = append(path)?;
        let len = file.metadata()?.len();
        Ok(Self(Mutex::new(Open { path: path.to_owned(), file, len, max })))
    }
}

fn append(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).mode(0o600).open(path)
}

impl Open {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.len + line.len() as u64 > self.max && self.len > 0 {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            fs::rename(&self.path, old)?;
            self.file = append(&self.path)?;
            self.len = 0;
            dup2_stderr(&self.file)?;
        }
        self.file.write_all(line)?;
        self.len += line.len() as u64;
        Ok(())
    }
}

impl Write for &BoundedLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(line).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for BoundedLog {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_never_outgrows_two_files() {
        let dir = std::env::temp_dir().join(format!("netloom-log-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("daemon.log");
        let stderr = std::os::fd::AsFd::as_fd(&io::stderr()).try_clone_to_owned().unwrap();
        let log = BoundedLog::open(&path, 100).unwrap();
        for _ in 0..50 {
            (&log).write_all(&[b'x'; 30]).unwrap();
        }
        dup2_stderr(&stderr).unwrap();
        assert!(fs::metadata(&path).unwrap().len() <= 100);
        assert!(fs::metadata(dir.join("daemon.log.1")).unwrap().len() <= 100);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
        fs::remove_dir_all(dir).unwrap();
    }
}
