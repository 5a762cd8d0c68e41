//! Without root: the layer that lets a container write where the host's files belong to others.
//!
//! In a user namespace the owners of the host's files do not exist, so the kernel lets nobody copy them up. This layer lies above the
//! host's directories, below every container's own: /etc as a copy, as far as it can be read, and the other trees' directories, so
//! that new files can be made in them. It belongs to the caller, who is the containers' root. It is made once for all containers of
//! the instance, under a name that says from which state of /etc.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access};

use crate::{
    fault::{Doing, Result},
    sys,
};

/// Trees whose directories are made, and how deep: a container that must write deeper than this has volumes. Making a directory
/// costs the first container some 50 µs.
const TREES: [(&str, usize); 9] =
    [("/home", 2), ("/media", 1), ("/mnt", 1), ("/opt", 2), ("/root", 1), ("/srv", 2), ("/usr", 2), ("/usr/local", 3), ("/var", 3)];
const DIRECTORIES_MAX: usize = 4000;
/// The tree whose files are copied, too.
const COPIED: &str = "/etc";
/// It is copied to this depth.
const ETC_DEPTH: usize = 8;
/// Files of it larger than this are read through, not copied.
const FILE_MAX: u64 = 4 * 1024 * 1024;

/// Whether the layer has the files of a directory of the host too, so that it can stand for it alone.
pub(super) fn has_files_of(path: &Path) -> bool {
    path == Path::new(COPIED)
}

/// The layer's directory below `root`, made if it is not there.
pub(crate) fn prepare(root: &Path) -> Result<PathBuf> {
    let etc = fs::metadata(COPIED).doing("read /etc")?;
    let parent = root.join("skeleton");
    let ready = parent.join(format!("{}.{}", etc.mtime(), etc.mtime_nsec()));
    if ready.is_dir() {
        return Ok(ready);
    }
    let what = format!("make {}", ready.display());
    fs::create_dir_all(&parent).doing(&what)?;
    let draft = parent.join(format!("draft.{}", std::process::id()));
    let _ = fs::remove_dir_all(&draft);
    let mut maker = Maker { directories: 0 };
    fs::create_dir(&draft).doing(&what)?;
    maker.directory(Path::new(COPIED), &draft.join("etc"), ETC_DEPTH, true).doing(&what)?;
    for (tree, depth) in TREES.map(|(tree, depth)| (Path::new(tree), depth)).iter().filter(|(tree, _)| tree.is_dir()) {
        let at = draft.join(tree.strip_prefix("/").unwrap_or(tree));
        maker.directory(tree, &at, *depth, false).doing(&what)?;
    }
    // Another container's start may have been faster; its layer is as good.
    if fs::rename(&draft, &ready).is_err() {
        let _ = fs::remove_dir_all(&draft);
    }
    Ok(ready)
}

struct Maker {
    directories: usize,
}

impl Maker {
    fn directory(&mut self, from: &Path, to: &Path, depth: usize, files: bool) -> io::Result<()> {
        let Ok(found) = fs::metadata(from) else { return Ok(()) };
        self.directories += 1;
        match fs::create_dir(to) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if access(from, AccessFlags::R_OK | AccessFlags::X_OK).is_err() {
            // What cannot be listed cannot be merged: only what the container makes is seen there. Without the attribute the
            // container would see an error instead.
            let _ = sys::mount::set_attribute(to, c"user.overlay.opaque", b"y");
        } else if depth > 0 {
            self.entries(from, to, depth, files)?;
        }
        fs::set_permissions(to, PermissionsExt::from_mode(found.mode() & 0o7777 | 0o700))
    }

    fn entries(&mut self, from: &Path, to: &Path, depth: usize, files: bool) -> io::Result<()> {
        for entry in fs::read_dir(from)?.flatten() {
            let (source, target) = (entry.path(), to.join(entry.file_name()));
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && self.directories < DIRECTORIES_MAX {
                self.directory(&source, &target, depth - 1, files)?;
            } else if files && kind.is_symlink() {
                symlink(fs::read_link(&source)?, &target)?;
            } else if files
                && kind.is_file()
                && entry.metadata().is_ok_and(|found| found.len() <= FILE_MAX)
                && access(&source, AccessFlags::R_OK).is_ok()
            {
                fs::copy(&source, &target)?;
            }
        }
        Ok(())
    }
}
