//! Unix sockets in a container's directory, whose path is longer than a socket's address may be.
//!
//! An address has 108 bytes, and the directory of a container has 76 below the root alone: sockets are named through a descriptor
//! of their directory.

use std::{
    fs::File,
    io,
    os::{
        fd::AsRawFd,
        unix::{
            fs::OpenOptionsExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

/// The socket of a container's sessions, in its directory.
pub const SESSIONS: &str = "attach.sock";

/// Connects to the sessions of the container whose directory is `dir`; blocking.
pub fn connect_session(dir: &Path) -> io::Result<UnixStream> {
    let short = ShortPath::new(dir, SESSIONS)?;
    UnixStream::connect(&short.path)
}

/// Listens for sessions in `dir`, non-blocking; a socket left by a supervisor that is gone is replaced.
pub(crate) fn listen_for_sessions(dir: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(dir.join(SESSIONS)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let short = ShortPath::new(dir, SESSIONS)?;
    let listener = UnixListener::bind(&short.path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A name for `dir/name` that is short enough, good as long as this value lives.
pub(crate) struct ShortPath {
    pub(crate) path: PathBuf,
    _dir: File,
}

impl ShortPath {
    pub(crate) fn new(dir: &Path, name: &str) -> io::Result<Self> {
        let dir = File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(dir)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()));
        Ok(Self { path, _dir: dir })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_a_long_path_can_hold_a_socket() {
        let base = std::env::temp_dir().join(format!("netloom-sockets-{}", std::process::id()));
        let dir = base.join("d".repeat(120));
        std::fs::create_dir_all(&dir).unwrap();
        let listener = listen_for_sessions(&dir).unwrap();
        let _client = connect_session(&dir).unwrap();
        listener.accept().unwrap();
        std::fs::remove_dir_all(&base).unwrap();
    }
}
