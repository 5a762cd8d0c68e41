//! Copy-on-write overlays of the host's directories.

use std::{
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount as mount_call},
    unistd::{AccessFlags, access},
};

use super::{
    fixed::{Fixed, is_foreign},
    mount, skeleton,
    upper::has_user_attributes,
    within,
};
use crate::fault::{Doing, Fault, Result};

/// The overlays of one container.
#[derive(Debug)]
pub(crate) struct Overlays<'a> {
    /// Where their writable sides lie.
    layers: PathBuf,
    skeleton: Option<&'a Path>,
    count: usize,
    refused: bool,
    covered: Vec<PathBuf>,
    pub(crate) fixed: Fixed,
}

/// How one overlay differs from another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flags {
    pub(crate) nosuid: bool,
    pub(crate) noexec: bool,
    /// The host's own directory is left out, as the layer above it has its files.
    pub(crate) copy_alone: bool,
}

impl<'a> Overlays<'a> {
    pub(crate) fn new(layers: PathBuf, skeleton: Option<&'a Path>) -> Self {
        Self { layers, skeleton, count: 0, refused: false, covered: Vec::new(), fixed: Fixed::default() }
    }

    /// What people should know.
    pub(crate) fn notes(&self) -> Vec<String> {
        let refused = "this kernel refuses overlays in a user namespace: the host's files are read-only in the container".to_owned();
        let covered = |path: &PathBuf| format!("{} is read-only in the container: files are mounted in it on the host", path.display());
        self.refused.then_some(refused).into_iter().chain(self.covered.iter().map(covered)).collect()
    }

    /// The host's directory itself, read-only, as an overlay of it would show what the files mounted in it cover.
    pub(crate) fn show_covered(&mut self, path: &Path, at: &Path) -> Result<()> {
        self.covered.push(path.to_owned());
        self.fixed.covered(path);
        show_fixed(path, at)
    }

    /// An overlay of the host's directory `path` at `at`; where the kernel refuses one, the directory itself, read-only.
    pub(crate) fn mount(&mut self, path: &Path, at: &Path, how: Flags) -> Result<()> {
        let layer = self.layers.join(self.count.to_string());
        self.count += 1;
        self.writable_side(path, &layer)?;
        let lower = self.lower(path, how.copy_alone);
        if lower.is_empty() {
            return mount::bind(&layer.join("upper"), at, false).and_then(|()| mount::restrict(at, mount::NO_DEVICES, false));
        }
        let mut options = b"lowerdir=".to_vec();
        options.extend(lower.iter().map(|dir| escape(dir)).collect::<Vec<_>>().join(&b':'));
        for (key, dir) in [("upperdir", "upper"), ("workdir", "work")] {
            options.extend(format!(",{key}=").bytes().chain(escape(&layer.join(dir))));
        }
        if self.skeleton.is_some() {
            options.extend(b",userxattr");
        }
        let mut flags = MsFlags::MS_NODEV;
        flags.set(MsFlags::MS_NOSUID, how.nosuid);
        flags.set(MsFlags::MS_NOEXEC, how.noexec);
        // Without attributes for its marks the kernel would mount it, and refuse to remove a file that lies below.
        let mounted = if self.skeleton.is_some() && !has_user_attributes(&self.layers) {
            Err(Errno::EOPNOTSUPP)
        } else {
            mount_call(Some("overlay"), at, Some("overlay"), flags, Some(&options[..]))
        };
        match mounted.doing(format_args!("mount an overlay of {}", path.display())) {
            Err(fault) if self.skeleton.is_some() && is_refusal(&fault) => {
                self.refused = true;
                self.fixed.refused(path);
                show_fixed(path, at)
            }
            mounted => {
                // The layer of directories has the files of /etc themselves.
                if self.skeleton.is_some() && !skeleton::has_files_of(path) && lower.iter().any(|dir| dir == path) && is_foreign(path) {
                    self.fixed.foreign(path);
                }
                mounted
            }
        }
    }

    /// The root of an overlay looks as its upper directory does.
    fn writable_side(&self, path: &Path, layer: &Path) -> Result<()> {
        let what = format_args!("make the writable layer of {}", path.display()).to_string();
        let upper = layer.join("upper");
        fs::create_dir(layer).and_then(|()| fs::create_dir(&upper)).and_then(|()| fs::create_dir(layer.join("work"))).doing(&what)?;
        let Ok(found) = fs::metadata(path) else { return Ok(()) };
        // In a user namespace the host's owners do not exist; there the container's root owns it.
        if self.skeleton.is_none() && (found.uid(), found.gid()) != (0, 0) {
            std::os::unix::fs::chown(&upper, Some(found.uid()), Some(found.gid())).doing(&what)?;
        }
        fs::set_permissions(&upper, PermissionsExt::from_mode(found.mode() & 0o7777)).doing(what)
    }

    /// The layers below, the topmost first: what the caller may write in, then the host's own as far as it can be read.
    fn lower(&self, path: &Path, copy_alone: bool) -> Vec<PathBuf> {
        let skeleton = self.skeleton.map(|skeleton| within(skeleton, path)).filter(|dir| dir.is_dir());
        let readable = self.skeleton.is_none() || access(path, AccessFlags::R_OK | AccessFlags::X_OK).is_ok();
        skeleton.into_iter().chain((readable && !copy_alone).then(|| path.to_owned())).collect()
    }
}

/// The directory itself, with what is mounted in it.
fn show_fixed(path: &Path, at: &Path) -> Result<()> {
    mount::bind(path, at, true)?;
    mount::restrict(at, mount::READ_ONLY | mount::NO_DEVICES, true)
}

fn is_refusal(fault: &Fault) -> bool {
    [libc::EPERM, libc::EINVAL, libc::ENODEV, libc::EOPNOTSUPP].contains(&fault.errno())
}

/// A path as overlayfs reads it: colons part layers, commas part options, and a backslash takes that away.
fn escape(path: &Path) -> Vec<u8> {
    let escaped = |&byte: &u8| if matches!(byte, b'\\' | b':' | b',') { vec![b'\\', byte] } else { vec![byte] };
    path.as_os_str().as_bytes().iter().flat_map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_in_a_path_does_not_part_layers() {
        assert_eq!(escape(Path::new("/a:b,c\\d")), b"/a\\:b\\,c\\\\d");
    }
}
