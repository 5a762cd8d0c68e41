//! Whether the target of a holder is still there: its process by a pidfd, a name such as /run/netns/lab by what happens around it.
//!
//! A name goes in two ways: the file is removed, which its directory tells, or what is mounted on it is unmounted, which the table of
//! mounts tells. Both only say that something changed; whether the name still means the namespace is looked up.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};

use crate::{
    spec::{NamespaceId, Target},
    supervisor::poll::{Interest, Poll, Token},
};

#[derive(Debug)]
pub(super) enum Life {
    /// Readable once it has ended.
    Process(OwnedFd),
    Name {
        path: PathBuf,
        namespace: NamespaceId,
        directory: Option<Inotify>,
        mounts: Option<File>,
    },
    /// A path through /proc that leads to no process: until it is detached.
    Unbounded,
}

impl Life {
    pub(super) fn new(target: &Target, namespace: NamespaceId, process: Option<OwnedFd>) -> Self {
        match (process, target) {
            (Some(process), _) => Self::Process(process),
            (None, Target::Path { path }) if !path.starts_with("/proc") => Self::Name {
                directory: watch_directory(path),
                mounts: File::open("/proc/self/mountinfo").ok(),
                path: path.clone(),
                namespace,
            },
            (None, _) => Self::Unbounded,
        }
    }

    /// Looks out for what may end it, under [`Token::Target`].
    pub(super) fn watch(&self, poll: &Poll) {
        match self {
            Self::Process(process) => poll.set(process, Token::Target, Interest::READ),
            Self::Name { directory, mounts, .. } => {
                if let Some(directory) = directory {
                    poll.set(directory, Token::Target, Interest::READ);
                }
                // A change is an error condition of this file (proc_pid_mountinfo(5)); it can be watched, being one of /proc.
                mounts.iter().for_each(|mounts| poll.watch_end(mounts, Token::Target).unwrap_or_default());
            }
            Self::Unbounded => {}
        }
    }

    /// Something was heard: is the target gone?
    pub(super) fn has_ended(&self) -> bool {
        match self {
            Self::Process(process) => {
                nix::poll::poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).is_ok_and(|count| count > 0)
            }
            Self::Name { path, namespace, directory, .. } => {
                while directory.as_ref().is_some_and(|directory| directory.read_events().is_ok()) {}
                !means(path, *namespace)
            }
            Self::Unbounded => false,
        }
    }
}

fn watch_directory(path: &Path) -> Option<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?;
    let removed = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE | AddWatchFlags::IN_CREATE;
    let itself = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_UNMOUNT;
    inotify.add_watch(path.parent()?, removed | itself).ok()?;
    Some(inotify)
}

/// Whether a path still leads to the namespace. Without opening it: that may be forbidden by now.
fn means(path: &Path, namespace: NamespaceId) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).is_ok_and(|found| NamespaceId { device: found.dev(), inode: found.ino() } == namespace)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, time::Duration};

    use super::*;
    use crate::holder::place::identity;

    #[test]
    fn a_name_lives_until_it_means_something_else() {
        let dir = std::env::temp_dir().join(format!("netloom-life-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (name, other) = (dir.join("lab"), dir.join("other"));
        symlink("/proc/self/ns/net", &name).unwrap();
        let namespace = identity(&File::open(&name).unwrap()).unwrap();
        let life = Life::new(&Target::Path { path: name.clone() }, namespace, None);
        let poll = Poll::new().unwrap();
        life.watch(&poll);
        let heard = || poll.wait(Some(Duration::from_secs(10))).iter().any(|ready| ready.token == Token::Target);
        std::fs::write(&other, "").unwrap();
        assert!(heard() && !life.has_ended(), "another file came");
        std::fs::rename(&other, &name).unwrap();
        assert!(heard() && life.has_ended(), "its name means a file now");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_has_no_end_of_its_own_lasts() {
        let path = PathBuf::from("/proc/self/ns/net");
        let namespace = identity(&File::open(&path).unwrap()).unwrap();
        assert!(matches!(Life::new(&Target::Path { path }, namespace, None), Life::Unbounded));
    }
}
