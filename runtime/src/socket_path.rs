//! Names for unix sockets whose path may be longer than an address has room for (107 bytes, unix(7)).

use std::{
    fs::File,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

/// The longest path that fits an address with its final zero byte.
const PATH_MAX: usize = 107;

/// A path to bind or connect to, for as long as this value lives.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    /// Keeps the directory's number valid while the path goes through it.
    _directory: Option<OwnedFd>,
}

impl SocketPath {
    /// The path itself if it is short enough, otherwise one that leads to its directory through /proc/self/fd. The directory must
    /// exist; the socket need not.
    ///
    /// Errors: those of opening the directory; `InvalidInput` for a path without a directory or a file name of over 70 bytes.
    pub fn new(path: &Path) -> io::Result<Self> {
        if path.as_os_str().as_bytes().len() <= PATH_MAX {
            return Ok(Self { path: path.to_owned(), _directory: None });
        }
        let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "the path of a socket is too long");
        let (directory, name) = path.parent().zip(path.file_name()).filter(|(_, name)| name.len() <= 70).ok_or_else(wrong)?;
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let directory: OwnedFd = File::options().read(true).custom_flags(flags).open(directory)?.into();
        let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _directory: Some(directory) })
    }

    /// What to bind or connect to; borrowed, because it leads nowhere once this value is gone.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_socket_far_down_the_tree_can_be_bound_and_reached() {
        let top = std::env::temp_dir().join(format!("netloom-path-{}", std::process::id()));
        let deep = top.join("d".repeat(120));
        std::fs::create_dir_all(&deep).unwrap();
        let path = deep.join("attach.sock");
        let listener = UnixListener::bind(SocketPath::new(&path).unwrap().path()).unwrap();
        UnixStream::connect(SocketPath::new(&path).unwrap().path()).unwrap();
        listener.accept().unwrap();
        assert!(path.exists());
        std::fs::remove_dir_all(&top).unwrap();
    }
}
