//! Tar archives: made of local files, and unpacked into them.
//!
//! What comes from a container is hostile: nothing is written through a symbolic link that the archive brought, nor outside the
//! place that it is unpacked to.

use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

use tar::{Archive, Builder, Entry, EntryType, Header, HeaderMode};

use super::place::Kind;
use crate::{error::CliError, output};

/// What an archive holds at its top; none if it is empty.
pub fn first_kind(archive: &mut impl Read) -> Result<Option<Kind>, CliError> {
    let mut archive = Archive::new(archive);
    let mut entries = archive.entries().map_err(|error| unreadable(&error))?;
    let first = entries.next().transpose().map_err(|error| unreadable(&error))?;
    Ok(first.map(|entry| kind(&entry)))
}

fn kind(entry: &Entry<'_, impl Read>) -> Kind {
    if entry.header().entry_type().is_dir() { Kind::Directory } else { Kind::Other }
}

/// What a local source is. A symbolic link is copied as one, unless a `/` behind it asks for its target.
pub fn local_kind(path: &str) -> Result<Kind, CliError> {
    let found = if path.ends_with('/') { fs::metadata(path) } else { fs::symlink_metadata(path) };
    let found = found.map_err(|error| CliError::io(format!("cannot copy `{path}`"), &error))?;
    Ok(if found.is_dir() { Kind::Directory } else { Kind::Other })
}

/// Passes an archive on to stdout as it is.
pub fn pass(archive: &mut impl Read) -> Result<(), CliError> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match archive.read(&mut buffer).map_err(|error| unreadable(&error))? {
            0 => return Ok(()),
            read => output::bytes(buffer.get(..read).unwrap_or_default())?,
        }
    }
}

/// Unpacks an archive; `place` says where its top goes, once it is known what that is.
pub fn unpack(archive: &mut impl Read, place: impl FnOnce(Kind) -> Result<PathBuf, CliError>) -> Result<(), CliError> {
    let mut archive = Archive::new(archive);
    let mut unpacker: Option<Unpacker> = None;
    let mut place = Some(place);
    for entry in archive.entries().map_err(|error| unreadable(&error))? {
        let mut entry = entry.map_err(|error| unreadable(&error))?;
        if let Some(place) = place.take() {
            let depth = names(&path_of(&entry)?)?.len();
            unpacker = Some(Unpacker { top: place(kind(&entry))?, depth, directories: BTreeMap::new() });
        }
        if let Some(unpacker) = &mut unpacker {
            unpacker.entry(&mut entry)?;
        }
    }
    unpacker.map_or(Ok(()), Unpacker::finish)
}

struct Unpacker {
    /// Where the archive's top goes.
    top: PathBuf,
    /// How many names of each path are the top's own.
    depth: usize,
    /// Directories get their modes at the end: one that may not be written is filled first.
    directories: BTreeMap<PathBuf, u32>,
}

impl Unpacker {
    fn entry(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), CliError> {
        let path = path_of(entry)?;
        let below: PathBuf = names(&path)?.into_iter().skip(self.depth).collect();
        let target = if below.as_os_str().is_empty() { self.top.clone() } else { self.top.join(&below) };
        self.refuse_links(&below)?;
        let failed = |error: io::Error| CliError::io(format!("cannot write `{}`", target.display()), &error);
        match entry.header().entry_type() {
            EntryType::Directory => {
                if !target.is_dir() {
                    fs::create_dir(&target).map_err(failed)?;
                    self.directories.insert(target.clone(), entry.header().mode().unwrap_or(0o755) & 0o7777);
                }
                Ok(())
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse | EntryType::Symlink => {
                entry.set_preserve_permissions(true);
                entry.unpack(&target).map(|_| ()).map_err(failed)
            }
            EntryType::Link => {
                let link = entry.link_name().ok().flatten().map(|link| link.into_owned()).unwrap_or_default();
                let below: PathBuf = names(&link)?.into_iter().skip(self.depth).collect();
                self.refuse_links(&below)?;
                fs::hard_link(self.top.join(below), &target).map_err(failed)
            }
            _ => {
                output::aside(format_args!("left out `{}`: neither a file, nor a directory, nor a link\n", path.display()));
                Ok(())
            }
        }
    }

    /// No directory on the way may be a link.
    fn refuse_links(&self, below: &Path) -> Result<(), CliError> {
        let mut at = self.top.clone();
        for name in below.parent().into_iter().flat_map(Path::components) {
            at.push(name);
            if fs::symlink_metadata(&at).is_ok_and(|found| found.is_symlink()) {
                return Err(CliError::failed(format!("the archive leads through the link `{}`", at.display())));
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<(), CliError> {
        for (path, mode) in self.directories.iter().rev() {
            let set = fs::set_permissions(path, Permissions::from_mode(*mode));
            set.map_err(|error| CliError::io(format!("cannot set the mode of `{}`", path.display()), &error))?;
        }
        Ok(())
    }
}

fn path_of(entry: &Entry<'_, impl Read>) -> Result<PathBuf, CliError> {
    entry.path().map(|path| path.into_owned()).map_err(|error| unreadable(&error))
}

/// The names of a path in an archive; one that climbs is refused.
fn names(path: &Path) -> Result<Vec<&std::ffi::OsStr>, CliError> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => names.push(name),
            Component::CurDir | Component::RootDir => {}
            _ => return Err(CliError::failed(format!("the archive has a path that climbs: `{}`", path.display()))),
        }
    }
    Ok(names)
}

/// Writes an archive of a local file or directory, under `name`. All of it belongs to root, as docker has it.
pub fn pack(source: &Path, name: &Path, into: &mut dyn Write) -> io::Result<()> {
    let mut builder = Builder::new(into);
    let mut waiting = vec![(source.to_owned(), name.to_owned())];
    while let Some((path, name)) = waiting.pop() {
        let found = if waiting.is_empty() && path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            fs::metadata(&path)?
        } else {
            fs::symlink_metadata(&path)?
        };
        append(&mut builder, &path, &name, &found)
            .map_err(|error| io::Error::new(error.kind(), format!("`{}`: {error}", path.display())))?;
        if found.is_dir() {
            for entry in fs::read_dir(&path)? {
                let entry = entry?;
                waiting.push((entry.path(), name.join(entry.file_name())));
            }
        }
    }
    builder.finish()
}

fn append(builder: &mut Builder<&mut dyn Write>, path: &Path, name: &Path, found: &fs::Metadata) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_metadata_in_mode(found, HeaderMode::Complete);
    header.set_uid(0);
    header.set_gid(0);
    let kind = found.file_type();
    if kind.is_symlink() {
        header.set_size(0);
        builder.append_link(&mut header, name, fs::read_link(path)?)
    } else if kind.is_dir() {
        header.set_size(0);
        builder.append_data(&mut header, name, io::empty())
    } else if kind.is_file() {
        // A file that grows or shrinks meanwhile must not spoil the archive.
        let file = File::open(path)?;
        let size = found.size();
        builder.append_data(&mut header, name, file.take(size).chain(io::repeat(0)).take(size))
    } else {
        output::aside(format_args!("left out `{}`: neither a file, nor a directory, nor a link\n", path.display()));
        Ok(())
    }
}

fn unreadable(error: &io::Error) -> CliError {
    CliError::io("cannot read the archive", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("netloom-cp-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a directory");
        dir
    }

    fn packed(source: &Path, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        pack(source, Path::new(name), &mut bytes).expect("packed");
        bytes
    }

    #[test]
    fn a_tree_is_the_same_after_a_copy() {
        let dir = scratch("tree");
        let source = dir.join("source");
        fs::create_dir_all(source.join("sub/empty")).expect("directories");
        fs::write(source.join("sub/file"), b"\0\xff data").expect("a file");
        fs::set_permissions(source.join("sub/file"), Permissions::from_mode(0o750)).expect("a mode");
        fs::set_permissions(source.join("sub"), Permissions::from_mode(0o555)).expect("a mode");
        std::os::unix::fs::symlink("sub/file", source.join("link")).expect("a link");
        let archive = packed(&source, "any");
        let target = dir.join("target");
        let kind_and_place = |kind| {
            assert_eq!(kind, Kind::Directory);
            Ok(target.clone())
        };
        unpack(&mut archive.as_slice(), kind_and_place).expect("unpacked");
        assert_eq!(fs::read(target.join("sub/file")).expect("read"), b"\0\xff data");
        assert_eq!(fs::metadata(target.join("sub/file")).expect("there").mode() & 0o7777, 0o750);
        assert_eq!(fs::metadata(target.join("sub")).expect("there").mode() & 0o7777, 0o555);
        assert!(target.join("sub/empty").is_dir());
        assert_eq!(fs::read_link(target.join("link")).expect("a link"), Path::new("sub/file"));
        for path in [source.join("sub"), target.join("sub")] {
            fs::set_permissions(path, Permissions::from_mode(0o755)).expect("a mode");
        }
        fs::remove_dir_all(dir).expect("removed");
    }

    #[test]
    fn one_file_and_what_is_in_a_directory_go_where_they_are_sent() {
        let dir = scratch("place");
        fs::write(dir.join("a"), "a").expect("a file");
        unpack(&mut packed(&dir.join("a"), "a").as_slice(), |_| Ok(dir.join("b"))).expect("unpacked");
        assert_eq!(fs::read_to_string(dir.join("b")).expect("read"), "a");
        fs::create_dir(dir.join("into")).expect("a directory");
        unpack(&mut packed(&dir, ".").as_slice(), |_| Ok(dir.join("into"))).expect("unpacked");
        assert_eq!(fs::read_to_string(dir.join("into/b")).expect("read"), "a");
        fs::remove_dir_all(dir).expect("removed");
    }

    #[test]
    fn an_archive_can_neither_climb_nor_write_through_its_own_link() {
        let dir = scratch("hostile");
        let victim = dir.join("victim");
        fs::create_dir(&victim).expect("a directory");
        let mut builder = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(0);
        header.set_entry_type(EntryType::Directory);
        builder.append_data(&mut header, "top", io::empty()).expect("a directory");
        header.set_entry_type(EntryType::Symlink);
        builder.append_link(&mut header, "top/x", &victim).expect("a link");
        header.set_entry_type(EntryType::Regular);
        header.set_size(3);
        builder.append_data(&mut header, "top/x/evil", &b"bad"[..]).expect("a file");
        let archive = builder.into_inner().expect("an archive");
        let error = unpack(&mut archive.as_slice(), |_| Ok(dir.join("out"))).expect_err("a link");
        assert!(error.message.starts_with("the archive leads through the link"), "{}", error.message);
        assert_eq!(fs::read_dir(&victim).expect("a directory").count(), 0);
        assert!(names(Path::new("a/../../b")).is_err());
        fs::remove_dir_all(dir).expect("removed");
    }

    #[test]
    fn the_top_tells_what_was_copied() {
        let dir = scratch("kind");
        fs::write(dir.join("file"), "").expect("a file");
        assert_eq!(first_kind(&mut packed(&dir, "d").as_slice()), Ok(Some(Kind::Directory)));
        assert_eq!(first_kind(&mut packed(&dir.join("file"), "f").as_slice()), Ok(Some(Kind::Other)));
        assert_eq!(first_kind(&mut [0_u8; 1024].as_slice()), Ok(None));
        fs::remove_dir_all(dir).expect("removed");
    }
}
