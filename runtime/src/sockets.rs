//! The sockets of sessions with a container, in its directory.

use std::{
    io,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
};

use crate::socket_path::SocketPath;

/// The socket of a container's sessions, in its directory.
pub const SESSIONS: &str = "attach.sock";

/// Connects to the sessions of the container whose directory is `dir`; blocking.
pub fn connect_session(dir: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(SocketPath::new(&dir.join(SESSIONS))?.path())
}

/// Listens for sessions in `dir`, non-blocking; a socket left by a supervisor that is gone is replaced.
pub(crate) fn listen_for_sessions(dir: &Path) -> io::Result<UnixListener> {
    let path = dir.join(SESSIONS);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(SocketPath::new(&path)?.path())?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
