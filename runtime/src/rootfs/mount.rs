//! The few kinds of mounts that a container's root is made of.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::Path,
};

use nix::{
    mount::{MsFlags, mount},
    sys::stat::{Mode, SFlag, mknod},
};

use crate::{
    fault::{Doing, Result},
    sys,
};

pub(crate) const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;
pub(crate) const NO_DEVICES: u64 = libc::MOUNT_ATTR_NODEV;
const NO_SUID: u64 = libc::MOUNT_ATTR_NOSUID;
const NO_EXEC: u64 = libc::MOUNT_ATTR_NOEXEC;

const NONE: Option<&str> = None;

/// nosuid, nodev, noexec: for what holds no programs.
pub(crate) fn inert() -> MsFlags {
    MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC
}

/// A new file system of `kind` at `at`.
pub(crate) fn fresh(kind: &str, at: &Path, flags: MsFlags, options: &str) -> Result<()> {
    let options = Some(options).filter(|options| !options.is_empty());
    mount(Some(kind), at, Some(kind), flags, options).doing(format_args!("mount {kind} at {}", at.display()))
}

/// The tree or file `source` at `target`, with the mounts below it if `recursive`.
pub(crate) fn bind(source: &Path, target: &Path, recursive: bool) -> Result<()> {
    let rec = if recursive { MsFlags::MS_REC } else { MsFlags::empty() };
    let what = format_args!("bind {} at {}", source.display(), target.display()).to_string();
    mount(Some(source), target, NONE, MsFlags::MS_BIND | rec, NONE).doing(&what)?;
    mount(NONE, target, NONE, MsFlags::MS_PRIVATE | rec, NONE).doing(what)
}

/// Adds attributes to a mount.
pub(crate) fn restrict(at: &Path, attributes: u64, recursive: bool) -> Result<()> {
    sys::mount::add_attributes(at, attributes, recursive).doing(format_args!("restrict the mount at {}", at.display()))
}

/// Binds a tree or file of the container's own over itself, read-only; nothing to do if it does not exist.
pub(crate) fn make_read_only(path: &Path) -> Result<()> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    bind(path, path, true)?;
    restrict(path, READ_ONLY | NO_SUID | NO_DEVICES | NO_EXEC, true)
}

/// Hides a file behind `null`, or a directory behind an empty one; nothing to do if it does not exist.
pub(crate) fn mask(path: &Path, null: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(found) if found.is_dir() => fresh("tmpfs", path, inert() | MsFlags::MS_RDONLY, "size=0k,mode=755"),
        Ok(_) => bind(null, path, false),
    }
}

/// The device node `source` of the host at `target`: a node of its own where the kernel lets us, else the very one bound.
pub(crate) fn device(source: &Path, target: &Path) -> Result<()> {
    let what = format_args!("show the device {}", source.display()).to_string();
    let found =
        fs::metadata(source).doing(&what).map_err(|fault| fault.with_hint("`--device` takes the path of a device node of this machine"))?;
    let kind = match found.file_type() {
        kind if kind.is_char_device() => SFlag::S_IFCHR,
        kind if kind.is_block_device() => SFlag::S_IFBLK,
        _ => return Err(io::Error::other("it is not a device node")).doing(what),
    };
    match mknod(target, kind, Mode::empty(), found.rdev()) {
        Ok(()) => {
            fs::set_permissions(target, PermissionsExt::from_mode(found.mode() & 0o777)).doing(&what)?;
            std::os::unix::fs::lchown(target, Some(found.uid()), Some(found.gid())).doing(what)
        }
        Err(_) => {
            fs::File::create(target).doing(&what)?;
            bind(source, target, false)
        }
    }
}
