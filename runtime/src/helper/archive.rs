//! `cp`: files of a container as a tar archive (the POSIX form with GNU's long names), out of it and into it.
//!
//! The helper's root is the container's, so no link in a path or in an archive leads anywhere else.

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use nix::{
    sched::{CloneFlags, setns},
    unistd::{chdir, chroot},
};

use super::{enter_user_namespace, start::Namespaces};
use crate::fault::{Doing, Fault, Result};

/// Where a container's files are found.
#[derive(Debug)]
pub(crate) enum Place<'a> {
    /// In the mount namespace of the running container.
    Running(&'a Namespaces),
    /// In the kept one of a container that does not run, at this directory.
    Stopped { layer: &'a OwnedFd, root: PathBuf },
}

/// Makes the container's root this process's own.
pub(crate) fn enter(userns: Option<&OwnedFd>, place: &Place<'_>) -> Result<()> {
    enter_user_namespace(userns)?;
    let what = "enter the container's root";
    match place {
        Place::Running(namespaces) => setns(&namespaces.mount, CloneFlags::CLONE_NEWNS).doing(what)?,
        Place::Stopped { layer, root } => {
            setns(layer, CloneFlags::CLONE_NEWNS).doing(what)?;
            chroot(root).doing(what)?;
        }
    }
    chdir("/").doing(what)
}

/// Writes `path` and everything below it as an archive, under its last name.
pub(crate) fn pack(path: &Path, output: OwnedFd) -> Result<()> {
    let what = format!("copy {} from the container", path.display());
    let found = fs::symlink_metadata(path).doing(&what)?;
    let name = path.file_name().map_or_else(|| PathBuf::from("."), PathBuf::from);
    let mut archive = tar::Builder::new(BufWriter::new(File::from(output)));
    archive.follow_symlinks(false);
    let packed = if found.is_dir() { archive.append_dir_all(name, path) } else { archive.append_path_with_name(path, name) };
    packed.and_then(|()| archive.into_inner()?.flush()).doing(what)
}

/// Unpacks an archive in the directory `path`, with modes and times; as root of the container, with owners too.
pub(crate) fn unpack(path: &Path, input: OwnedFd) -> Result<()> {
    if !path.is_dir() {
        return Err(Fault::Refused { message: format!("{} is not a directory of the container", path.display()), hint: None });
    }
    let mut archive = tar::Archive::new(BufReader::new(File::from(input)));
    archive.set_preserve_permissions(true);
    archive.unpack(path).doing(format_args!("copy into {} of the container", path.display()))
}
