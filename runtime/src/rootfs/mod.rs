//! The root filesystem of a container, made once and kept for all its starts.
//!
//! Everything lies on one tmpfs, mounted over an empty directory of the container's in a mount namespace of its own:
//!
//! ```text
//!   <root>/containers/<id>/root          the tmpfs; the host does not see it
//!     ├── root/                          what becomes `/` of the container: overlays, or the tree of --rootfs
//!     ├── layers/N/{upper,work}          the writable side of the overlays, unless it is on a disk (see [`upper`])
//!     └── files/{hosts,hostname,…}       ours, bound over those in /etc, written anew at each start
//! ```
//!
//! That namespace is kept by the supervisor as a descriptor. Each start works in a copy of it, where the container's init adds what
//! belongs to one start (/proc, /sys, …; see [`fresh`]) and makes `root/` its root. So the writable layer outlives a stop, and ends
//! with its supervisor.

pub(crate) mod beneath;
mod dev;
pub(crate) mod files;
mod fixed;
pub(crate) mod fresh;
pub(crate) mod mount;
pub(crate) mod mountinfo;
mod overlay;
pub(crate) mod skeleton;
pub mod upper;
mod view;
mod volumes;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::mount::{MsFlags, mount as mount_call};

use self::{fixed::Fixed, upper::Disk};
use crate::{
    fault::{Doing, Fault, Result},
    spec::RootSpec,
};

/// What a root is made from.
#[derive(Debug)]
pub(crate) struct Blueprint<'a> {
    pub(crate) spec: &'a RootSpec,
    pub(crate) privileged: bool,
    /// The empty directory that the tmpfs is mounted on.
    pub(crate) base: &'a Path,
    /// In a user namespace: the layer of directories that its owner may write in.
    pub(crate) skeleton: Option<&'a Path>,
    /// In a user namespace: the name of a directory on a disk, and the directories that may hold it.
    pub(crate) disk: (&'a str, &'a [PathBuf]),
    /// Whether more than one user is mapped there; always as root.
    pub(crate) many_users: bool,
    /// Directories of the instance, which must not be visible.
    pub(crate) hidden: &'a [PathBuf],
}

/// What people should know of a root that was made.
#[derive(Debug, Default)]
pub(crate) struct Built {
    /// For those who see the start.
    pub(crate) notes: Vec<String>,
    /// What cannot be changed in place, and why.
    pub(crate) read_only: Vec<String>,
    /// The writable layer's directory on a disk, if it is on one.
    pub(crate) disk: Option<Disk>,
}

/// Makes the root in the caller's mount namespace, which must be its own.
pub(crate) fn build(blueprint: &Blueprint<'_>) -> Result<Built> {
    let none: Option<&str> = None;
    // A slave, so that what the host unmounts is not kept busy by this copy.
    mount_call(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).doing("cut the mounts off from the host's")?;
    let base = blueprint.base;
    mount::fresh("tmpfs", base, MsFlags::MS_NODEV | MsFlags::MS_NOSUID, "mode=755")?;
    mount_call(none, base, none, MsFlags::MS_PRIVATE, none).doing("make the container's mounts private")?;
    let root = base.join("root");
    for dir in ["root", "layers", "files"] {
        fs::create_dir(base.join(dir)).doing("make the container's root")?;
    }
    let (views, mut built) = match &blueprint.spec.rootfs {
        Some(tree) => bind_tree(tree, &root)?,
        None => show_host(blueprint, &root)?,
    };
    for (at, options) in [("run", "mode=755"), ("tmp", "mode=1777")] {
        let at = place(&root, at)?;
        mount::fresh("tmpfs", &at, MsFlags::MS_NOSUID | MsFlags::MS_NODEV, options)?;
    }
    let lock = root.join("run/lock");
    fs::create_dir(&lock).and_then(|()| fs::set_permissions(&lock, PermissionsExt::from_mode(0o1777))).doing("make /run/lock")?;
    for at in ["proc", "sys"] {
        place(&root, at)?;
    }
    dev::build(blueprint, &root)?;
    files::bind_over(base, &root)?;
    volumes::mount_all(blueprint, &root)?;
    hide_instance(blueprint, &root)?;
    if blueprint.spec.read_only {
        views.iter().try_for_each(|view| mount::restrict(view, mount::READ_ONLY, false))?;
        built.read_only = Fixed::whole();
    }
    Ok(built)
}

/// A directory of the new root to mount upon.
fn place(root: &Path, path: &str) -> Result<PathBuf> {
    beneath::directory(root, Path::new(path)).doing(format_args!("make /{path} in the container's root"))
}

/// `--rootfs`: the tree itself, writable in place as far as its owners allow.
fn bind_tree(tree: &Path, root: &Path) -> Result<(Vec<PathBuf>, Built)> {
    let found = fs::metadata(tree).doing(format_args!("use --rootfs {}", tree.display()))?;
    if !found.is_dir() {
        return Err(Fault::Refused { message: format!("--rootfs {} is not a directory", tree.display()), hint: None });
    }
    // A locked mount below is refused a bind without it.
    mount::bind(tree, root, false).or_else(|_| mount::bind(tree, root, true))?;
    mount::restrict(root, mount::NO_DEVICES, true)?;
    let mut fixed = Fixed::default();
    if fixed::is_foreign(tree) {
        fixed.foreign_tree();
    }
    Ok((vec![root.to_owned()], Built { read_only: fixed.lines(), ..Built::default() }))
}

/// The host's root, copy-on-write. Returns the mounts that make it up.
fn show_host(blueprint: &Blueprint<'_>, root: &Path) -> Result<(Vec<PathBuf>, Built)> {
    mount::bind(root, root, false)?;
    mount::restrict(root, mount::NO_DEVICES, false)?;
    let text = fs::read_to_string("/proc/self/mountinfo").doing("read /proc/self/mountinfo")?;
    let user = blueprint.skeleton.is_some();
    let (name, places) = blueprint.disk;
    let disk = if user && !upper::has_user_attributes(blueprint.base) { Disk::claim(places, name) } else { None };
    // Our own tmpfs is no part of the host.
    let mut mounts: Vec<_> = mountinfo::parse(&text).into_iter().filter(|mount| !mount.point.starts_with(blueprint.base)).collect();
    // No layer of an overlay may lie below another (ELOOP): a directory that holds one of ours is walked around like a mount.
    let layers: Vec<_> = blueprint.skeleton.into_iter().chain(disk.as_ref().map(|disk| disk.path.as_path())).collect();
    let holders = blueprint.hidden.iter().filter(|dir| layers.iter().any(|layer| layer.starts_with(dir)));
    mounts.extend(holders.map(|dir| mountinfo::Mount { point: dir.clone(), kind: "none".into(), nosuid: false, noexec: false }));
    let layers = disk.as_ref().map_or_else(|| blueprint.base.join("layers"), |disk| disk.path.clone());
    let mut overlays = overlay::Overlays::new(layers, blueprint.skeleton);
    let mut views = vec![root.to_owned()];
    for piece in view::plan(&mounts, &HostTree, user) {
        views.extend(show_piece(&piece, root, &mut overlays)?);
    }
    Ok((views, Built { notes: overlays.notes(), read_only: overlays.fixed.lines(), disk }))
}

fn show_piece(piece: &view::Piece, root: &Path, overlays: &mut overlay::Overlays<'_>) -> Result<Option<PathBuf>> {
    match piece {
        view::Piece::Directory { path } => {
            let at = within(root, path);
            fs::create_dir_all(&at).doing(format_args!("make {}", path.display()))?;
            let mode = fs::metadata(path).map_or(0o755, |found| found.mode() & 0o7777);
            fs::set_permissions(&at, PermissionsExt::from_mode(mode)).doing(format_args!("make {}", path.display()))?;
            Ok(None)
        }
        view::Piece::Symlink { path, target } => {
            std::os::unix::fs::symlink(target, within(root, path)).doing(format_args!("make {}", path.display()))?;
            Ok(None)
        }
        view::Piece::File { path } => {
            let at = within(root, path);
            fs::File::create(&at).doing(format_args!("make {}", path.display()))?;
            if mount::bind(path, &at, false).is_ok() {
                mount::restrict(&at, mount::READ_ONLY | mount::NO_DEVICES, false)?;
                overlays.fixed.file(path);
            }
            Ok(None)
        }
        view::Piece::Overlay { path, nosuid, noexec, covers } => {
            let at = within(root, path);
            fs::create_dir_all(&at).doing(format_args!("make {}", path.display()))?;
            let mounted = match *covers && !skeleton::has_files_of(path) {
                true => overlays.show_covered(path, &at),
                false => overlays.mount(path, &at, overlay::Flags { nosuid: *nosuid, noexec: *noexec, copy_alone: *covers }),
            };
            match mounted {
                // Gone since it was listed: somebody's temporary directory.
                Err(_) if fs::symlink_metadata(path).is_err() => Ok(None),
                mounted => mounted.map(|()| Some(at)),
            }
        }
    }
}

/// The directories of the host that cannot be changed in a container of a user, as files are mounted in them.
pub(crate) fn covered() -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo").doing("read /proc/self/mountinfo")?;
    let covered = |piece| match piece {
        view::Piece::Overlay { path, covers: true, .. } if !skeleton::has_files_of(&path) => Some(path),
        _ => None,
    };
    Ok(view::plan(&mountinfo::parse(&text), &HostTree, true).into_iter().filter_map(covered).collect())
}

/// The host's path as a path below the new root.
fn within(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Lays an empty read-only directory over the instance's own directories wherever something shown contains them.
fn hide_instance(blueprint: &Blueprint<'_>, root: &Path) -> Result<()> {
    for hidden in blueprint.hidden {
        let mut places = Vec::new();
        match &blueprint.spec.rootfs {
            Some(tree) => places.extend(hidden.strip_prefix(tree).ok().map(|rest| root.join(rest))),
            None if fs::metadata(hidden).is_ok() => places.push(within(root, hidden)),
            None => {}
        }
        for volume in &blueprint.spec.volumes {
            let source = fs::canonicalize(&volume.source).unwrap_or_else(|_| volume.source.clone());
            if let Ok(rest) = hidden.strip_prefix(&source) {
                let at = beneath::resolve(root, &volume.target).doing(format_args!("find {}", volume.target.display()))?;
                places.push(at.join(rest));
            }
        }
        for at in places.iter().filter(|at| fs::symlink_metadata(at).is_ok_and(|found| found.is_dir())) {
            mount::fresh("tmpfs", at, mount::inert() | MsFlags::MS_RDONLY, "size=0k,mode=000")?;
        }
    }
    Ok(())
}

/// The host's own directories.
struct HostTree;

impl view::Tree for HostTree {
    fn entries(&self, dir: &Path) -> std::collections::BTreeMap<PathBuf, view::Entry> {
        let Ok(entries) = fs::read_dir(dir) else { return std::collections::BTreeMap::new() };
        let kind = |entry: &fs::DirEntry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => view::Entry::Directory,
            Ok(kind) if kind.is_symlink() => fs::read_link(entry.path()).map_or(view::Entry::Other, view::Entry::Symlink),
            Ok(kind) if kind.is_file() => view::Entry::File,
            _ => view::Entry::Other,
        };
        entries.flatten().map(|entry| (PathBuf::from(entry.file_name()), kind(&entry))).collect()
    }
}
