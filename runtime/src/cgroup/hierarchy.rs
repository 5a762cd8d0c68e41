//! Which control groups this system has, and which of them are ours to divide.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access};

use crate::{rootfs::mountinfo, switches::Feature};

/// Which version of control groups is in charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Unified,
    Legacy,
    None,
}

/// The hierarchies as this process sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Where the unified hierarchy is mounted, and this process's group in it, below the mount.
    unified: Option<(PathBuf, PathBuf)>,
    /// Controller and this process's group.
    legacy: Vec<(String, PathBuf)>,
    kind: Kind,
}

impl Survey {
    pub fn read() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let mut survey = Self::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        let controllers =
            survey.unified.as_ref().map(|(mount, _)| fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default());
        if survey.legacy.is_empty() && controllers.is_none_or(|controllers| controllers.trim().is_empty()) {
            survey.kind = Kind::None;
        }
        survey
    }

    fn parse(mountinfo: &str, own: &str) -> Self {
        let mounts = mountinfo::parse(mountinfo);
        let mut survey = Self { unified: None, legacy: Vec::new(), kind: Kind::None };
        for line in own.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            let below = path.trim_start_matches('/');
            if controllers.is_empty() {
                if Feature::Cgroup2.is_off() {
                    continue;
                }
                let mount = mounts.iter().find(|mount| mount.kind == "cgroup2");
                survey.unified = mount.map(|mount| (mount.point.clone(), mount.point.join(below)));
                continue;
            }
            for controller in controllers.split(',').filter(|name| !name.starts_with("name=")) {
                let mounted = |mount: &&mountinfo::Mount| {
                    mount.kind == "cgroup"
                        && mount.point.file_name().is_some_and(|name| name.to_string_lossy().split(',').any(|part| part == controller))
                };
                if let Some(mount) = mounts.iter().find(mounted) {
                    survey.legacy.push((controller.to_owned(), mount.point.join(below)));
                }
            }
        }
        survey.kind = match (&survey.unified, survey.legacy.is_empty()) {
            (_, false) => Kind::Legacy,
            (Some(_), true) => Kind::Unified,
            (None, true) => Kind::None,
        };
        survey
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// This process's group in the hierarchy of version 1 that has `controller`.
    pub fn legacy(&self, controller: &str) -> Option<&Path> {
        self.legacy.iter().find(|(name, _)| name == controller).map(|(_, group)| group.as_path())
    }

    /// The group of the unified hierarchy to make ours in: the nearest one above this process that we may write and that holds no
    /// processes itself (cgroups(7), "no internal processes"), or the root.
    pub fn unified_parent(&self) -> Option<PathBuf> {
        let (mount, own) = self.unified.as_ref()?;
        let mut group = own.as_path();
        loop {
            let ours = access(group, AccessFlags::W_OK).is_ok() && access(&group.join("cgroup.procs"), AccessFlags::W_OK).is_ok();
            let empty = fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|procs| procs.trim().is_empty());
            if ours && (empty || group == mount) {
                return Some(group.to_owned());
            }
            if group == mount {
                return None;
            }
            group = group.parent()?;
        }
    }

    /// Lets the children of `group` have a controller; what cannot be is found out when its files are missing.
    pub fn enable(&self, group: &Path, controller: &str) {
        let _ = fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_legacy_system_has_a_group_for_each_controller() {
        let mounts = "1 0 0:1 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu\n2 0 0:2 / /sys/fs/cgroup/memory rw - cgroup cgroup rw\n3 0 0:3 / /sys/fs/cgroup/unified rw - cgroup2 c rw\n";
        let survey = Survey::parse(mounts, "4:memory:/a/b\n3:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n");
        assert_eq!(survey.kind(), Kind::Legacy);
        assert_eq!(survey.legacy("memory"), Some(Path::new("/sys/fs/cgroup/memory/a/b")));
        assert_eq!(survey.legacy("cpuacct"), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct/")));
        assert_eq!(survey.legacy("pids"), None);
    }

    #[test]
    fn a_unified_system_is_known_by_having_nothing_else() {
        let survey = Survey::parse("3 0 0:3 / /sys/fs/cgroup rw - cgroup2 c rw\n", "0::/user.slice/x.scope\n");
        assert_eq!(survey.kind(), Kind::Unified);
        assert_eq!(survey.unified, Some(("/sys/fs/cgroup".into(), "/sys/fs/cgroup/user.slice/x.scope".into())));
    }
}
