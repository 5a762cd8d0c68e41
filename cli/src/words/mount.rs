//! Files: volumes, tmpfs mounts, devices, paths in and out of containers.

use std::path::{Component, Path, PathBuf};

use netloom_runtime::spec::Volume;

use super::{WordError, not};

/// `SRC:DST[:ro|:rw]`; a relative SRC stays relative here.
pub fn volume(word: &str) -> Result<Volume, WordError> {
    let mut parts = word.split(':');
    let source = parts.next().unwrap_or_default();
    let target = parts.next().ok_or_else(|| WordError::Lacks { word: word.to_owned(), missing: "a `:` and the path in the container" })?;
    let read_only = match parts.next() {
        None | Some("rw") => false,
        Some("ro") => true,
        Some(option) => return Err(not(option, "a volume option: ro or rw")),
    };
    if let Some(rest) = parts.next() {
        return Err(not(rest, "part of SRC:DST[:ro]"));
    }
    if !source.contains('/') {
        return Err(not(source, "a path with a `/`: volumes are directories or files of the host, not names"));
    }
    Ok(Volume { source: PathBuf::from(source), target: mount_target(target)?, read_only })
}

/// A path inside the container.
pub fn absolute(word: &str) -> Result<PathBuf, WordError> {
    if word.starts_with('/') { Ok(PathBuf::from(word)) } else { Err(not(word, "an absolute path in the container")) }
}

/// Where a volume or a tmpfs goes: anywhere but over the container's own root, /proc, /sys and /dev.
pub fn mount_target(word: &str) -> Result<PathBuf, WordError> {
    let target = absolute(word)?;
    let place = plain(&target);
    let kept = ["/", "/proc", "/sys", "/dev"].into_iter().any(|kept| place == Path::new(kept)) || place.starts_with("/proc");
    if kept { Err(not(word, "a place for a mount: /, /proc, /sys and /dev are made for each container")) } else { Ok(target) }
}

/// An absolute path without `.`, `..` and doubled slashes, as it stands: links are the container's.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    plain
}

/// `--device`: one of the host's device nodes, under its own name.
pub fn device(word: &str) -> Result<PathBuf, WordError> {
    let is_node = word.starts_with("/dev/") && !word.contains(':') && !word.split('/').any(|part| part == "..");
    if is_node { Ok(PathBuf::from(word)) } else { Err(not(word, "a device node such as /dev/fuse")) }
}

/// One side of `cp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyPath {
    /// `-`: a tar archive on stdin or stdout.
    Stream,
    Local(String),
    Container {
        container: String,
        path: String,
    },
}

/// `CONTAINER:PATH`, a local path, or `-`. A local name with a colon is written `./a:b`.
pub fn copy_path(word: &str) -> Result<CopyPath, WordError> {
    match word.split_once(':') {
        _ if word == "-" => Ok(CopyPath::Stream),
        _ if word.is_empty() => Err(not(word, "a path")),
        Some((container, path)) if !container.contains('/') && !container.starts_with('.') => {
            if path.is_empty() {
                return Err(WordError::Lacks { word: word.to_owned(), missing: "a path after the `:`" });
            }
            Ok(CopyPath::Container { container: super::network::name(container)?, path: path.to_owned() })
        }
        _ => Ok(CopyPath::Local(word.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::testing::{refuses, takes};

    #[test]
    fn a_volume_is_a_path_of_the_host_and_one_of_the_container() {
        let volume_of = |source: &str, target: &str, read_only| Volume { source: source.into(), target: target.into(), read_only };
        takes(
            volume,
            &[
                ("/srv:/data", volume_of("/srv", "/data", false)),
                ("./www:/www:ro", volume_of("./www", "/www", true)),
                ("a/b:/b:rw", volume_of("a/b", "/b", false)),
            ],
        );
        refuses(
            volume,
            &[
                ("/srv", "`/srv` lacks a `:` and the path in the container"),
                ("data:/data", "`data` is not a path with a `/`: volumes are directories or files of the host, not names"),
                ("/srv:data", "`data` is not an absolute path in the container"),
                ("/srv:/data:z", "`z` is not a volume option: ro or rw"),
                ("/srv:/data:ro:x", "`x` is not part of SRC:DST[:ro]"),
            ],
        );
    }

    #[test]
    fn what_every_container_has_of_its_own_is_not_mounted_over() {
        for wrong in ["/", "//", "/.", "/srv/..", "/proc", "/proc/", "/proc/sys/kernel", "/sys", "/sys/.", "/dev", "/x/../dev"] {
            let refused = not(wrong, "a place for a mount: /, /proc, /sys and /dev are made for each container");
            assert_eq!(mount_target(wrong), Err(refused.clone()));
            assert_eq!(volume(&format!("/srv:{wrong}")), Err(refused));
        }
        for fine in ["/data", "/dev/shm", "/sys/fs/bpf", "/process", "/srv/proc"] {
            assert_eq!(mount_target(fine), Ok(PathBuf::from(fine)));
        }
    }

    #[test]
    fn a_device_is_a_node_under_dev() {
        takes(device, &[("/dev/fuse", PathBuf::from("/dev/fuse"))]);
        for wrong in ["fuse", "/etc/passwd", "/dev/../etc/passwd", "/dev/a:/dev/b"] {
            assert_eq!(device(wrong), Err(not(wrong, "a device node such as /dev/fuse")));
        }
    }

    #[test]
    fn the_sides_of_a_copy_are_told_apart() {
        let inside = |path: &str| CopyPath::Container { container: "web".into(), path: path.into() };
        takes(
            copy_path,
            &[
                ("-", CopyPath::Stream),
                ("web:/etc/hosts", inside("/etc/hosts")),
                ("web:etc", inside("etc")),
                ("web:/a:b", inside("/a:b")),
                ("./web:x", CopyPath::Local("./web:x".into())),
                ("/tmp/a:b", CopyPath::Local("/tmp/a:b".into())),
                ("file", CopyPath::Local("file".into())),
            ],
        );
        refuses(copy_path, &[("web:", "`web:` lacks a path after the `:`"), ("", "`` is not a path")]);
    }
}
