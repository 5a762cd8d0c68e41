//! Where the writable side of overlays in a user namespace lies: on the container's tmpfs, or on a disk.
//!
//! There an overlay keeps its marks in user attributes, which a tmpfs has since Linux 6.6. Before, a container's layers lie in a
//! directory of its own on a disk that has them. Whoever uses it holds its lock, by a descriptor that the supervisor keeps: so a
//! directory whose lock is free is nobody's, however its user ended, and anybody may sweep it away.
//!
//! ```text
//!   helper: made, locked ──descriptor──▶ supervisor ──ends──▶ free ──sweep──▶ gone
//! ```
//!
//! Files in it may belong to any user of the namespace, so only its root can remove them: a helper sweeps, from inside.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, MetadataExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    sys::statfs::{TMPFS_MAGIC, statfs},
    unistd::geteuid,
};

use crate::{helper, isolation::user::become_root, switches::Feature, sys};

/// The word that makes a helper sweep; the instance's root follows.
pub(crate) const SWEEP: &str = "sweep";

/// The directories in which a user's layers may lie, the best first. Asked outside of the user namespace; root needs none.
pub fn places(root: &Path) -> Vec<PathBuf> {
    let user = geteuid();
    if user.is_root() { Vec::new() } else { vec![root.join("layers"), format!("/var/tmp/netloom-{user}").into()] }
}

/// A container's directory on a disk, for as long as this is kept.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
    lock: File,
}

impl Disk {
    /// The first of `places` that is its owner's alone and has user attributes; the directory there is named `id` and empty.
    pub(crate) fn claim(places: &[PathBuf], id: &str) -> Option<Self> {
        places.iter().find_map(|place| {
            make_private(place).ok()?;
            if !has_user_attributes(place) {
                return None;
            }
            Self::claim_in(&place.join(id)).ok()
        })
    }

    fn claim_in(path: &Path) -> io::Result<Self> {
        loop {
            create_private(path)?;
            let lock = File::open(path)?;
            // Somebody who sweeps may have it, and then it is gone.
            lock.lock()?;
            let ours = lock.metadata()?;
            if fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (ours.dev(), ours.ino())) {
                // What a start left that failed.
                fs::read_dir(path)?.try_for_each(|entry| remove(&entry?.path()))?;
                return Ok(Self { path: path.to_owned(), lock });
            }
        }
    }

    /// The lock, which copies of the descriptor hold too.
    pub(crate) fn into_lock(self) -> OwnedFd {
        self.lock.into()
    }
}

/// Whether overlays in a user namespace can keep their marks here.
pub(crate) fn has_user_attributes(dir: &Path) -> bool {
    let older = || Feature::Userxattr.is_off() && statfs(dir).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC);
    !older() && sys::mount::set_attribute(dir, c"user.netloom", b"y").is_ok()
}

/// What lies on disks: the names of all layers, and whether one is nobody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    pub names: Vec<String>,
    pub unused: bool,
}

/// What lies in the places of this instance's user. Cheap where there is nothing.
pub fn survey(root: &Path) -> Layers {
    let places = places(root);
    let entries = places.iter().filter_map(|place| fs::read_dir(place).ok()).flatten().flatten();
    let names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let unused = !names.is_empty() && places.iter().any(|place| unused(place).next().is_some());
    Layers { names, unused }
}

/// Removes the layers that nobody uses, by a helper in the instance's user namespace.
pub fn sweep(root: &Path, namespace: OwnedFd) -> io::Result<()> {
    let mut helper = Command::new("/proc/self/exe");
    helper.args([helper::ARGUMENT, SWEEP]).arg(root).stdin(namespace).stdout(Stdio::null()).stderr(Stdio::null());
    if helper.status()?.success() { Ok(()) } else { Err(io::Error::other("layers that nobody uses could not be removed")) }
}

/// The helper's side, with the namespace as standard input.
pub(crate) fn serve_sweep(root: &Path) -> io::Result<()> {
    let unused: Vec<_> = places(root).iter().flat_map(|place| unused(place)).collect();
    setns(io::stdin(), CloneFlags::CLONE_NEWUSER)?;
    become_root().map_err(io::Error::other)?;
    unused.iter().try_for_each(|(path, _)| remove(path))
}

/// The directories in a place whose locks are free, with the locks.
fn unused(place: &Path) -> impl Iterator<Item = (PathBuf, File)> + use<> {
    let safe = is_private(place).then(|| fs::read_dir(place).ok()).flatten();
    safe.into_iter().flatten().flatten().filter_map(|entry| {
        let lock = entry.file_type().is_ok_and(|kind| kind.is_dir()).then(|| File::open(entry.path()).ok())??;
        lock.try_lock().is_ok().then(|| (entry.path(), lock))
    })
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn make_private(dir: &Path) -> io::Result<()> {
    create_private(dir)?;
    if is_private(dir) { Ok(()) } else { Err(Errno::EACCES.into()) }
}

fn create_private(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// A directory, not a link to one, that is ours and closed to others: /var/tmp is everybody's.
fn is_private(dir: &Path) -> bool {
    fs::symlink_metadata(dir).is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o077 == 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("netloom-upper-{}-{name}", std::process::id()));
        fs::remove_dir_all(&dir).ok();
        create_private(&dir).unwrap();
        dir
    }

    #[test]
    fn a_claimed_directory_is_nobody_elses_until_its_lock_is_dropped() {
        let place = scratch("claimed");
        let disk = Disk::claim_in(&place.join("a")).unwrap();
        assert_eq!(unused(&place).count(), 0);
        let lock = disk.into_lock();
        assert_eq!(unused(&place).count(), 0);
        drop(lock);
        assert_eq!(unused(&place).map(|(path, _)| path).collect::<Vec<_>>(), [place.join("a")]);
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn what_a_failed_start_left_is_cleared() {
        let place = scratch("cleared");
        fs::create_dir_all(place.join("a/0/upper")).unwrap();
        fs::write(place.join("a/file"), "x").unwrap();
        let disk = Disk::claim_in(&place.join("a")).unwrap();
        assert_eq!(fs::read_dir(&disk.path).unwrap().count(), 0);
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn a_place_that_is_a_link_or_open_to_others_is_no_place() {
        let dir = scratch("link");
        create_private(&dir.join("real")).unwrap();
        symlink(dir.join("real"), dir.join("link")).unwrap();
        create_private(&dir.join("open")).unwrap();
        fs::set_permissions(dir.join("open"), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Disk::claim(&[dir.join("link"), dir.join("open")], "a").is_none());
        assert!(unused(&dir.join("link")).next().is_none());
        assert!(!dir.join("real/a").exists() && !dir.join("open/a").exists());
        fs::remove_dir_all(dir).unwrap();
    }
}
