//! Paths inside a root that is not this process's own: links are followed as a process inside would follow them, never out of it.

use std::{
    ffi::OsString,
    fs, io,
    path::{Component, Path, PathBuf},
};

/// As the kernel's own limit (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Where `path` of the tree at `root` really lies, as a path of ours. What does not exist yet is taken as it is written.
///
/// Errors: ELOOP for too many links.
pub(crate) fn resolve(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let mut todo: Vec<OsString> = names(path);
    let mut inside = PathBuf::new();
    let mut links = 0;
    while let Some(name) = todo.pop() {
        if name == ".." {
            inside.pop();
            continue;
        }
        match fs::read_link(root.join(&inside).join(&name)) {
            Ok(_) if links == LINKS_MAX => return Err(io::Error::from_raw_os_error(libc::ELOOP)),
            Ok(target) => {
                links += 1;
                if target.is_absolute() {
                    inside.clear();
                }
                todo.extend(names(&target));
            }
            Err(_) => inside.push(name),
        }
    }
    Ok(root.join(inside))
}

/// The names of a path, last first; no `.`, no root.
fn names(path: &Path) -> Vec<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().rev().filter_map(name).collect()
}

/// A directory at `path` of the tree at `root`, made with its parents if it is missing.
pub(crate) fn directory(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let real = resolve(root, path)?;
    fs::create_dir_all(&real)?;
    Ok(real)
}

/// A file at `path` of the tree at `root` to mount upon, made empty with its parents if it is missing.
pub(crate) fn file(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let real = resolve(root, path)?;
    if fs::symlink_metadata(&real).is_err() {
        if let Some(parent) = real.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::File::create(&real)?;
    }
    Ok(real)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_never_lead_out_of_the_root() {
        let root = std::env::temp_dir().join(format!("netloom-beneath-{}", std::process::id()));
        fs::create_dir_all(root.join("etc")).unwrap();
        symlink("/run/resolv.conf", root.join("etc/resolv.conf")).unwrap();
        symlink("../../../../..", root.join("etc/up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        assert_eq!(resolve(&root, Path::new("/etc/resolv.conf")).unwrap(), root.join("run/resolv.conf"));
        assert_eq!(resolve(&root, Path::new("/etc/up/etc/x")).unwrap(), root.join("etc/x"));
        assert_eq!(resolve(&root, Path::new("/../../x")).unwrap(), root.join("x"));
        assert_eq!(resolve(&root, Path::new("/loop")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        file(&root, Path::new("/etc/resolv.conf")).unwrap();
        assert!(root.join("run/resolv.conf").is_file());
        fs::remove_dir_all(&root).unwrap();
    }
}
