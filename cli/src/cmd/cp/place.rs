//! Where a copy ends up: docker's rules, which turn on whether the destination is there, what it is, and a trailing `/` or `/.`.
//!
//! | source | destination missing | a directory | anything else |
//! |---|---|---|---|
//! | file | made under that name, unless it ends in `/` | copied into it | replaced |
//! | directory | made, and filled with what is in the source | copied into it | refused |
//! | directory/. | as above | filled with what is in the source | refused |

use std::path::{Path, PathBuf};

use crate::error::CliError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory,
    Other,
}

/// A directory that is there, and the name that the source gets in it; `.` is the directory itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub directory: PathBuf,
    pub name: PathBuf,
}

/// The place on this machine for something from a container.
pub fn local(source: &str, kind: Kind, to: &str) -> Result<PathBuf, CliError> {
    let target = target(source, kind, to, |path| Ok(local_kind(path)))?;
    Ok(if target.name == Path::new(".") { target.directory } else { target.directory.join(target.name) })
}

/// The place in a container for something from here; `look` tells what stands there.
pub fn inside(source: &str, kind: Kind, to: &str, look: impl FnMut(&Path) -> Result<Option<Kind>, CliError>) -> Result<Target, CliError> {
    target(source, kind, to, look)
}

fn local_kind(path: &Path) -> Option<Kind> {
    std::fs::metadata(path).ok().map(|found| if found.is_dir() { Kind::Directory } else { Kind::Other })
}

fn target(source: &str, kind: Kind, to: &str, mut look: impl FnMut(&Path) -> Result<Option<Kind>, CliError>) -> Result<Target, CliError> {
    let place = PathBuf::from(plain(to));
    match (look(&place)?, kind) {
        (Some(Kind::Directory), Kind::Directory) if contents_only(source) => Ok(Target { directory: place, name: ".".into() }),
        (Some(Kind::Directory), _) => Ok(Target { directory: place, name: own_name(source)? }),
        (Some(Kind::Other), Kind::Directory) => Err(CliError::failed(format!("cannot copy a directory onto `{to}`, which is none"))),
        (Some(Kind::Other), Kind::Other) if to.ends_with('/') => Err(CliError::failed(format!("`{to}` is not a directory"))),
        (None, Kind::Other) if to.ends_with('/') => Err(CliError::failed(format!("there is no directory `{to}`"))),
        (None | Some(Kind::Other), _) => {
            let name = place.file_name().map(PathBuf::from).ok_or_else(|| CliError::failed(format!("there is no `{to}`")))?;
            let directory = match place.parent() {
                Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
                Some(parent) => parent.to_owned(),
                None => PathBuf::from("/"),
            };
            match look(&directory)? {
                Some(Kind::Directory) => Ok(Target { directory, name }),
                _ => Err(CliError::failed(format!("there is no directory `{}`", directory.display()))),
            }
        }
    }
}

/// `DIR/.`, `.` and `/` mean what is in the directory.
fn contents_only(source: &str) -> bool {
    source == "." || source.ends_with("/.") || source.chars().all(|letter| letter == '/')
}

/// A path without its trailing `/` and `/.`.
pub fn plain(path: &str) -> &str {
    let mut rest = path;
    while let Some(shorter) = rest.strip_suffix("/.").or_else(|| rest.strip_suffix('/')) {
        rest = shorter;
    }
    if rest.is_empty() { "/" } else { rest }
}

/// The last name of a source, also of `..`.
fn own_name(source: &str) -> Result<PathBuf, CliError> {
    let path = Path::new(plain(source));
    let name = path.file_name().map(PathBuf::from).or_else(|| Some(path.canonicalize().ok()?.file_name()?.into()));
    name.ok_or_else(|| CliError::failed(format!("`{source}` has no name to copy it under")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/dir` is a directory, `/dir/file` is a file, all else is missing.
    fn place(source: &str, kind: Kind, to: &str) -> Result<(String, String), String> {
        let look = |path: &Path| {
            Ok(match path.to_str() {
                Some("/" | "/dir") => Some(Kind::Directory),
                Some("/dir/file") => Some(Kind::Other),
                _ => None,
            })
        };
        let found = target(source, kind, to, look).map_err(|error| error.message)?;
        Ok((found.directory.display().to_string(), found.name.display().to_string()))
    }

    #[test]
    fn files_and_directories_land_where_dockers_do() {
        use Kind::{Directory, Other};
        let good = [
            ("/a/f", Other, "/dir", "/dir", "f"),
            ("/a/f", Other, "/dir/", "/dir", "f"),
            ("/a/f", Other, "/dir/new", "/dir", "new"),
            ("/a/f", Other, "/dir/file", "/dir", "file"),
            ("/a/d", Directory, "/dir", "/dir", "d"),
            ("/a/d/", Directory, "/dir", "/dir", "d"),
            ("/a/d/.", Directory, "/dir", "/dir", "."),
            (".", Directory, "/dir", "/dir", "."),
            ("/", Directory, "/dir", "/dir", "."),
            ("/a/d", Directory, "/dir/new", "/dir", "new"),
            ("/a/d", Directory, "/dir/new/", "/dir", "new"),
            ("/a/d/.", Directory, "/dir/new", "/dir", "new"),
            ("/a/f", Other, "/", "/", "f"),
        ];
        for (source, kind, to, directory, name) in good {
            assert_eq!(place(source, kind, to), Ok((directory.into(), name.into())), "for `{source}` to `{to}`");
        }
    }

    #[test]
    fn what_docker_refuses_is_refused() {
        use Kind::{Directory, Other};
        let bad = [
            ("/a/f", Other, "/dir/new/", "there is no directory `/dir/new/`"),
            ("/a/f", Other, "/dir/file/", "`/dir/file/` is not a directory"),
            ("/a/d", Directory, "/dir/file", "cannot copy a directory onto `/dir/file`, which is none"),
            ("/a/f", Other, "/nowhere/f", "there is no directory `/nowhere`"),
            ("/a/d", Directory, "/nowhere/d", "there is no directory `/nowhere`"),
        ];
        for (source, kind, to, message) in bad {
            assert_eq!(place(source, kind, to), Err(message.into()), "for `{source}` to `{to}`");
        }
    }

    #[test]
    fn a_plain_path_has_no_tail() {
        for (path, expected) in [("/", "/"), ("/.", "/"), ("/a/", "/a"), ("/a/.", "/a"), ("/a/./", "/a"), ("a.", "a."), (".", ".")] {
            assert_eq!(plain(path), expected);
        }
    }
}
