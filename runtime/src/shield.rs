//! The program's own file as supervisors execute it: through a mount that nothing can be written by.
//!
//! Whatever a container has executed begins as a copy of its supervisor, so a script whose interpreter is `/proc/self/exe` executes this
//! program once more, inside, where its file can be opened. Were it the host's own, root in a container could change its mode and
//! attributes, and its content as soon as nobody executes it. So a supervisor runs from a clone of the file's mount that is
//! read-only, lies in no mount namespace and is gone with its last user; nobody can make it writable again. Where there can be none,
//! it runs from a sealed copy in memory (memfd_create(2)), which costs as much memory as the file is long.
//!
//! ```text
//!   root:  caller: open_tree, mount_setattr ──exec──▶ supervisor
//!   else:  caller ──exec──▶ supervisor ──fork──▶ helper: new user and mount namespace, open_tree, mount_setattr
//!                              ▲ ◀── descriptor ────┘
//!                              └── exec: itself
//! ```

use std::{
    convert::Infallible,
    ffi::OsString,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::Command,
};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sched::{CloneFlags, unshare},
    sys::{
        memfd::{MFdFlags, memfd_create},
        stat::{fstat, stat},
        statvfs::{FsFlags, fstatvfs},
        wait::waitpid,
    },
};

use crate::{
    channel::Channel,
    fault::{Doing, Fault, Result},
    helper::{self, Report},
    sys,
};

const SELF: &str = "/proc/self/exe";

/// The program as a command line that executes it through such a mount, if the caller has the right to make one. Otherwise it is for
/// [`ensure`] to do.
pub(crate) fn command() -> (Command, Option<OwnedFd>) {
    let mount = bind().ok();
    let program = mount.as_ref().map_or_else(|| SELF.to_owned(), path_of);
    (Command::new(program), mount)
}

/// Returns once this process runs from such a mount; until then it executes itself anew, with the same arguments. `last`: it has done
/// so before.
pub(crate) fn ensure(arguments: &[OsString], last: bool) -> io::Result<()> {
    if is_shielded()? {
        return Ok(());
    }
    if last {
        return Err(io::Error::other("its file is not the read-only one that was executed"));
    }
    let program = match bind() {
        Ok(mount) => mount,
        Err(_) => bind_in_namespace().or_else(|_| copy())?,
    };
    match Err::<Infallible, _>(Command::new(path_of(&program)).arg0(SELF).args(arguments).exec()) {
        Err(error) => Err(error),
        Ok(never) => match never {},
    }
}

fn path_of(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// A sealed copy, or a read-only mount that is in no namespace: one that is in a namespace may be made writable there.
fn is_shielded() -> io::Result<bool> {
    let file = File::open(SELF)?;
    let seals = fcntl(&file, FcntlArg::F_GET_SEALS).map_or(SealFlag::empty(), SealFlag::from_bits_retain);
    if seals.contains(SealFlag::F_SEAL_WRITE) {
        return Ok(true);
    }
    if !fstatvfs(&file)?.flags().contains(FsFlags::ST_RDONLY) {
        return Ok(false);
    }
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim);
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(!mounts.lines().any(|line| line.split(' ').next() == mount))
}

/// Needs CAP_SYS_ADMIN over the mount namespace of the caller.
fn bind() -> io::Result<OwnedFd> {
    bind_at(Path::new(SELF))
}

fn bind_at(path: &Path) -> io::Result<OwnedFd> {
    let mount = sys::mount::clone_of(path)?;
    sys::mount::make_read_only(mount.as_fd())?;
    Ok(mount)
}

/// In namespaces of a helper's own, where anybody may mount.
fn bind_in_namespace() -> io::Result<OwnedFd> {
    let (ours, theirs) = Channel::pair().map_err(io::Error::other)?;
    let work = |report: &Channel| -> Result<()> {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).doing("make namespaces")?;
        // The link leads to the mount of the namespace that was left, which cannot be cloned here: its copy is found by name.
        let path = fs::read_link(SELF).doing("find the program's file")?;
        let mount = bind_at(&path).doing("bind the program's file")?;
        let (bound, own) = (fstat(&mount), stat(SELF));
        if !matches!((bound, own), (Ok(bound), Ok(own)) if (bound.st_dev, bound.st_ino) == (own.st_dev, own.st_ino)) {
            return Err(Fault::Refused { message: "another file has the program's name".to_owned(), hint: None });
        }
        report.send(&Report::Bound, &[mount.as_fd()]).map_err(helper::lost)
    };
    let helper = helper::spawn(theirs, work).map_err(io::Error::other)?;
    let told = ours.receive::<Report>();
    waitpid(helper, None)?;
    let (_, fds) = told.map_err(io::Error::other)?.ok_or_else(|| io::Error::other("the helper ended early"))?;
    fds.into_iter().next().ok_or_else(|| io::Error::other("the program's file cannot be bound"))
}

fn copy() -> io::Result<OwnedFd> {
    let copy = memfd_create(c"netloom", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut copy = File::from(copy);
    io::copy(&mut File::open(SELF)?, &mut copy)?;
    let seals = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
    // A file that is open for writing cannot be executed.
    let writable = OwnedFd::from(copy);
    File::open(path_of(&writable)).map(OwnedFd::from)
}
