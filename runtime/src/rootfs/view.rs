//! Which overlays, directories and links make a copy-on-write view of the host's root.
//!
//! An overlay of a directory shows what every mount below it covers, and in a user namespace the kernel refuses that. So a directory
//! without mounts below becomes one overlay, and one with mounts is descended into:
//!
//! ```text
//!   /usr                    overlay
//!   /home                   directory        (a disk is mounted on /home/anna/disk)
//!   /home/anna              directory
//!   /home/anna/.profile     the file itself, read-only
//!   /home/anna/src          overlay
//!   /home/anna/disk         overlay of the disk
//! ```
//!
//! Of /etc there is a [copy](super::skeleton), mounts and all, which is overlaid in its place. As root nothing is refused: there an
//! overlay of /home and one of the disk over it do.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{mountinfo::Mount, skeleton};

/// One thing to make in the new root, at the path it has on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Directory {
        path: PathBuf,
    },
    Symlink {
        path: PathBuf,
        target: PathBuf,
    },
    /// `covers`: there are mounts below it, over which the kernel refuses an overlay of the directory itself.
    Overlay {
        path: PathBuf,
        nosuid: bool,
        noexec: bool,
        covers: bool,
    },
    File {
        path: PathBuf,
    },
}

/// What a directory entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Directory,
    Symlink(PathBuf),
    File,
    Other,
}

/// Directories of the host as far as they can be read; a trait so that plans can be tested.
pub(crate) trait Tree {
    /// Names and kinds; empty if the directory cannot be read.
    fn entries(&self, dir: &Path) -> BTreeMap<PathBuf, Entry>;

    /// Whether `path` is no directory: a single file may be mounted on another, as engines do with /etc/resolv.conf.
    fn is_file(&self, path: &Path) -> bool {
        let name = |path: &Path| path.file_name().map(PathBuf::from);
        let (Some(parent), Some(name)) = (path.parent(), name(path)) else { return false };
        self.entries(parent).get(&name).is_some_and(|entry| *entry != Entry::Directory)
    }
}

/// Made fresh for every container, never shown.
const FRESH: [&str; 6] = ["dev", "lost+found", "proc", "run", "sys", "tmp"];
/// A directory that must be descended into and has more entries than this stays empty: each would be a mount.
const ENTRIES_MAX: usize = 64;

/// Plans the view. `covered_is_refused`: whether an overlay may have mounts below it, as it may not in a user namespace.
pub(crate) fn plan(mounts: &[Mount], tree: &impl Tree, covered_is_refused: bool) -> Vec<Piece> {
    let mut planner = Planner { mounts, tree, covered_is_refused, pieces: Vec::new() };
    for (name, entry) in tree.entries(Path::new("/")) {
        if !FRESH.iter().any(|fresh| name == Path::new(fresh)) {
            planner.entry(Path::new("/").join(name), entry);
        }
    }
    planner.pieces
}

struct Planner<'a, T> {
    mounts: &'a [Mount],
    tree: &'a T,
    covered_is_refused: bool,
    pieces: Vec<Piece>,
}

impl<T: Tree> Planner<'_, T> {
    fn entry(&mut self, path: PathBuf, entry: Entry) {
        match entry {
            Entry::Directory => self.directory(path),
            Entry::Symlink(target) => self.pieces.push(Piece::Symlink { path, target }),
            Entry::File => self.pieces.push(Piece::File { path }),
            Entry::Other => {}
        }
    }

    fn directory(&mut self, path: PathBuf) {
        let mounted = self.mounts.iter().find(|mount| mount.point == path);
        if mounted.is_some_and(|mount| !mount.is_shown()) {
            return self.pieces.push(Piece::Directory { path });
        }
        let mut below: Vec<_> = self.mounts.iter().filter(|mount| mount.is_below(&path)).collect();
        if below.is_empty() {
            return self.overlay(path, false);
        }
        if self.covered_is_refused {
            // What has mounted files alone is shown in one piece: it may have more entries than there can be mounts.
            let files_only = below.iter().all(|mount| self.tree.is_file(&mount.point));
            let whole = files_only || skeleton::has_files_of(&path);
            return if whole { self.overlay(path, true) } else { self.descend(path) };
        }
        self.overlay(path, false);
        below.sort_by(|a, b| a.point.cmp(&b.point));
        for mount in below.into_iter().filter(|mount| mount.is_shown()) {
            if self.tree.is_file(&mount.point) {
                self.pieces.push(Piece::File { path: mount.point.clone() });
            } else {
                self.overlay(mount.point.clone(), false);
            }
        }
    }

    fn descend(&mut self, path: PathBuf) {
        let entries = self.tree.entries(&path);
        self.pieces.push(Piece::Directory { path: path.clone() });
        if entries.len() <= ENTRIES_MAX {
            for (name, entry) in entries {
                self.entry(path.join(name), entry);
            }
        }
    }

    fn overlay(&mut self, path: PathBuf, covers: bool) {
        let mount = self.mounts.iter().filter(|mount| path.starts_with(&mount.point)).max_by_key(|mount| mount.point.components().count());
        let (nosuid, noexec) = mount.map_or((false, false), |mount| (mount.nosuid, mount.noexec));
        self.pieces.push(Piece::Overlay { path, nosuid, noexec, covers });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(&'static [(&'static str, Entry)]);

    impl Tree for Fake {
        fn entries(&self, dir: &Path) -> BTreeMap<PathBuf, Entry> {
            let here = self.0.iter().filter(|(path, _)| Path::new(path).parent() == Some(dir));
            here.map(|(path, entry)| (Path::new(path).strip_prefix(dir).unwrap().to_owned(), entry.clone())).collect()
        }
    }

    const TREE: Fake = Fake(&[
        ("/bin", Entry::Symlink(PathBuf::new())),
        ("/home", Entry::Directory),
        ("/home/anna", Entry::Directory),
        ("/home/anna/disk", Entry::Directory),
        ("/home/anna/note", Entry::File),
        ("/home/anna/src", Entry::Directory),
        ("/proc", Entry::Directory),
        ("/usr", Entry::Directory),
    ]);

    fn mount(point: &str, kind: &str, noexec: bool) -> Mount {
        Mount { point: point.into(), kind: kind.into(), nosuid: false, noexec }
    }

    fn show(pieces: &[Piece]) -> Vec<String> {
        let show = |piece: &Piece| match piece {
            Piece::Directory { path } => format!("dir {}", path.display()),
            Piece::Symlink { path, .. } => format!("link {}", path.display()),
            Piece::Overlay { path, noexec: true, .. } => format!("overlay {} noexec", path.display()),
            Piece::Overlay { path, covers: true, .. } => format!("overlay {} over mounts", path.display()),
            Piece::Overlay { path, .. } => format!("overlay {}", path.display()),
            Piece::File { path } => format!("file {}", path.display()),
        };
        pieces.iter().map(show).collect()
    }

    #[test]
    fn in_a_user_namespace_only_the_way_to_a_mount_is_descended() {
        let mounts = [mount("/", "ext4", false), mount("/home/anna/disk", "xfs", true), mount("/proc", "proc", false)];
        let want = [
            "link /bin",
            "dir /home",
            "dir /home/anna",
            "overlay /home/anna/disk noexec",
            "file /home/anna/note",
            "overlay /home/anna/src",
            "overlay /usr",
        ];
        assert_eq!(show(&plan(&mounts, &TREE, true)), want);
    }

    #[test]
    fn as_root_a_mount_is_an_overlay_over_an_overlay() {
        let mounts = [mount("/", "ext4", false), mount("/home/anna/disk", "xfs", false)];
        assert_eq!(show(&plan(&mounts, &TREE, false)), ["link /bin", "overlay /home", "overlay /home/anna/disk", "overlay /usr"]);
    }

    #[test]
    fn a_file_mounted_on_a_file_is_shown_as_one() {
        let mounts = [mount("/", "ext4", false), mount("/home/anna/note", "ext4", false)];
        assert_eq!(show(&plan(&mounts, &TREE, false)), ["link /bin", "overlay /home", "file /home/anna/note", "overlay /usr"]);
        assert_eq!(show(&plan(&mounts, &TREE, true)), ["link /bin", "overlay /home over mounts", "overlay /usr"]);
    }

    #[test]
    fn etc_is_one_overlay_whatever_is_mounted_in_it() {
        const ETC: Fake = Fake(&[
            ("/etc", Entry::Directory),
            ("/etc/keys", Entry::Directory),
            ("/etc/passwd", Entry::File),
            ("/etc/resolv.conf", Entry::File),
        ]);
        for point in ["/etc/resolv.conf", "/etc/keys"] {
            let mounts = [mount("/", "ext4", false), mount(point, "ext4", false)];
            assert_eq!(show(&plan(&mounts, &ETC, true)), ["overlay /etc over mounts"], "{point}");
        }
    }

    #[test]
    fn a_mount_that_is_not_files_is_an_empty_directory() {
        let mounts = [mount("/", "ext4", false), mount("/home", "autofs", false)];
        assert_eq!(show(&plan(&mounts, &TREE, true)), ["link /bin", "dir /home", "overlay /usr"]);
    }
}
