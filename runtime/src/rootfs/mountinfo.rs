//! The mounts that a process sees (proc_pid_mountinfo(5)).

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

/// One mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) point: PathBuf,
    /// `ext4`, `tmpfs`, …
    pub(crate) kind: String,
    pub(crate) nosuid: bool,
    pub(crate) noexec: bool,
}

/// The mounts in `text`, in the order of the file; of those on one another only the last, which hides the others.
pub(crate) fn parse(text: &str) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    for mount in text.lines().filter_map(parse_line) {
        mounts.retain(|earlier| earlier.point != mount.point);
        mounts.push(mount);
    }
    mounts
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &str) -> Option<Mount> {
    let (fixed, kind) = line.split_once(" - ")?;
    let mut fields = fixed.split(' ').skip(4);
    let point = unescape(fields.next()?);
    let options: Vec<_> = fields.next()?.split(',').collect();
    let kind = kind.split(' ').next()?.to_owned();
    Some(Mount { point, kind, nosuid: options.contains(&"nosuid"), noexec: options.contains(&"noexec") })
}

/// Space, tab, newline and backslash are written as `\` and three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(value) => {
                bytes.push(value);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

impl Mount {
    /// Whether its files belong to the machine's root as people see it, rather than to the kernel or to another container.
    pub(crate) fn is_shown(&self) -> bool {
        const NOT_FILES: [&str; 26] = [
            "autofs",
            "binfmt_misc",
            "bpf",
            "cgroup",
            "cgroup2",
            "configfs",
            "debugfs",
            "devpts",
            "devtmpfs",
            "efivarfs",
            "fusectl",
            "hugetlbfs",
            "mqueue",
            "nfsd",
            "nsfs",
            "overlay",
            "proc",
            "pstore",
            "ramfs",
            "rpc_pipefs",
            "securityfs",
            "selinuxfs",
            "squashfs",
            "sysfs",
            "tracefs",
            "none",
        ];
        let own = ["/dev", "/proc", "/run", "/sys", "/tmp"];
        !NOT_FILES.contains(&self.kind.as_str()) && !self.kind.starts_with("fuse.") && !own.iter().any(|top| self.point.starts_with(top))
    }

    /// Whether it lies in `dir`, below it.
    pub(crate) fn is_below(&self, dir: &Path) -> bool {
        self.point != dir && self.point.starts_with(dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
24 27 0:6 / /dev rw,nosuid - devtmpfs devtmpfs rw
30 27 8:1 / /mnt/my\\040disk ro,nosuid,noexec shared:7 - xfs /dev/sda1 rw
31 27 8:2 / /mnt/my\\040disk rw - ext4 /dev/sda2 rw
";

    #[test]
    fn names_are_unescaped_and_the_mount_on_top_wins() {
        let mounts = parse(TEXT);
        let disk = mounts.iter().find(|mount| mount.point == Path::new("/mnt/my disk")).unwrap();
        assert_eq!((disk.kind.as_str(), disk.nosuid), ("ext4", false));
        assert_eq!(mounts.len(), 3);
    }

    #[test]
    fn kernel_interfaces_are_not_files_of_the_machine() {
        let shown: Vec<_> = parse(TEXT).into_iter().filter(Mount::is_shown).map(|mount| mount.kind).collect();
        assert_eq!(shown, ["ext4", "ext4"]);
    }
}
