//! What of a container's root cannot be changed in place, and why, in words for people.
//!
//! Nothing here forbids anything: it tells what the kernel or `--read-only` does.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The user that the kernel shows for one whom a user namespace does not have, unless it was told another (user_namespaces(7)).
const OVERFLOW_UID: u32 = 65_534;

/// What was found while a root was made.
#[derive(Debug, Default)]
pub(crate) struct Fixed {
    lines: Vec<String>,
    /// Files shown by themselves, by their directories.
    files: BTreeMap<PathBuf, Vec<String>>,
}

impl Fixed {
    /// `--read-only` says it all.
    pub(crate) fn whole() -> Vec<String> {
        vec!["/: read-only, as --read-only asks; /run, /tmp, /dev and volumes are not".to_owned()]
    }

    /// An overlay of `path`, whose files belong to users that its user namespace does not have.
    pub(crate) fn foreign(&mut self, path: &Path) {
        self.lines.push(format!("{}: files of the host's root stay as they are; new ones can be made", path.display()));
    }

    /// The tree of `--rootfs`, which belongs to such a user.
    pub(crate) fn foreign_tree(&mut self) {
        self.lines.push("/: what belongs to other users of the host stays as it is".to_owned());
    }

    /// A directory that the kernel would not overlay.
    pub(crate) fn refused(&mut self, path: &Path) {
        self.lines.push(format!("{}: read-only, as this kernel refuses overlays in a user namespace", path.display()));
    }

    /// A directory with mounted files, of which there can be no overlay.
    pub(crate) fn covered(&mut self, path: &Path) {
        self.lines.push(format!("{}: read-only, as files are mounted in it on the host", path.display()));
    }

    /// A file that is shown by itself.
    pub(crate) fn file(&mut self, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.files.entry(path.parent().unwrap_or_else(|| Path::new("/")).to_owned()).or_default().push(name);
    }

    /// One line for each thing, sorted.
    pub(crate) fn lines(self) -> Vec<String> {
        let files = self.files.into_iter().map(|(directory, names)| {
            format!("{}: read-only, as their directory cannot be overlaid: {}", directory.display(), names.join(", "))
        });
        let mut lines: Vec<_> = self.lines.into_iter().chain(files).collect();
        lines.sort();
        lines
    }
}

/// Whether the owner of `path` is a user that the caller's user namespace does not have: the kernel lets nobody change such files.
pub(crate) fn is_foreign(path: &Path) -> bool {
    let overflow = fs::read_to_string("/proc/sys/kernel/overflowuid").ok().and_then(|text| text.trim().parse().ok());
    fs::metadata(path).is_ok_and(|found| found.uid() == overflow.unwrap_or(OVERFLOW_UID))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_their_directory_and_everything_in_order() {
        let mut fixed = Fixed::default();
        fixed.foreign(Path::new("/usr"));
        for path in ["/home/anna/note", "/home/anna/.profile", "/vmlinuz"] {
            fixed.file(Path::new(path));
        }
        assert_eq!(
            fixed.lines(),
            [
                "/: read-only, as their directory cannot be overlaid: vmlinuz",
                "/home/anna: read-only, as their directory cannot be overlaid: note, .profile",
                "/usr: files of the host's root stay as they are; new ones can be made",
            ]
        );
    }
}
