//! /dev: a few nodes that are safe to share, and file systems of the container's own.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, symlink},
    path::Path,
};

use nix::mount::MsFlags;

use super::{Blueprint, beneath, mount, place};
use crate::fault::{Doing, Result};

const NODES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];
const LINKS: [(&str, &str); 6] = [
    ("core", "/proc/kcore"),
    ("fd", "/proc/self/fd"),
    ("ptmx", "pts/ptmx"),
    ("stderr", "/proc/self/fd/2"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
];
/// The group `tty`, by convention everywhere.
const TTY_GROUP: u32 = 5;
/// How deep --privileged looks for the host's devices.
const DEPTH_MAX: usize = 3;

/// Makes /dev in the new root.
pub(super) fn build(blueprint: &Blueprint<'_>, root: &Path) -> Result<()> {
    let dev = place(root, "dev")?;
    // No `nodev` here alone.
    mount::fresh("tmpfs", &dev, MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, "mode=755,size=65536k")?;
    for name in NODES {
        mount::device(&Path::new("/dev").join(name), &dev.join(name))?;
    }
    for (name, target) in LINKS {
        symlink(target, dev.join(name)).doing(format_args!("make /dev/{name}"))?;
    }
    for name in ["pts", "shm", "mqueue"] {
        fs::create_dir(dev.join(name)).doing(format_args!("make /dev/{name}"))?;
    }
    let group = if blueprint.many_users { format!(",gid={TTY_GROUP}") } else { String::new() };
    let options = format!("newinstance,ptmxmode=0666,mode=0620{group}");
    mount::fresh("devpts", &dev.join("pts"), MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, &options)?;
    mount::fresh("tmpfs", &dev.join("shm"), mount::inert(), "mode=1777,size=65536k")?;
    fs::File::create(dev.join("console")).doing("make /dev/console")?;
    if blueprint.privileged {
        show_all(Path::new("/dev"), &dev, 0);
    }
    for device in &blueprint.spec.devices {
        let at = beneath::resolve(root, device).doing(format_args!("find {}", device.display()))?;
        if let Some(parent) = at.parent() {
            fs::create_dir_all(parent).doing(format_args!("make {}", parent.display()))?;
        }
        if fs::symlink_metadata(&at).is_err() {
            mount::device(device, &at)?;
        }
    }
    Ok(())
}

/// The host's device nodes, as far as they can be shown: one that cannot is no reason to refuse the rest.
fn show_all(from: &Path, to: &Path, depth: usize) {
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let Ok(kind) = entry.file_type() else { continue };
        if fs::symlink_metadata(&target).is_ok() {
            continue;
        }
        if kind.is_char_device() || kind.is_block_device() {
            let _ = mount::device(&source, &target);
        } else if kind.is_dir() && depth < DEPTH_MAX && fs::create_dir(&target).is_ok() {
            show_all(&source, &target, depth + 1);
        }
    }
}
