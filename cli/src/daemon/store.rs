//! Files of the daemon: JSON, written whole, so that a reader or a crash never meets half of one.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

/// A file could not be kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} `{path}`: {source}")]
pub(crate) struct StoreError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl StoreError {
    fn of<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Self + use<'a> {
        move |source| Self { what, path: path.to_owned(), source }
    }
}

/// How much of a write must have happened when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// A crash of the process loses nothing.
    Process,
    /// Nor does a power cut.
    Power,
}

/// Writes `value` at `path`, whose directory exists.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T, durability: Durability) -> Result<(), StoreError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| StoreError::of("write", path)(error.into()))?;
    bytes.push(b'\n');
    let mut temporary = path.to_owned().into_os_string();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let put = || {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&bytes)?;
        if durability == Durability::Power {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)?;
        match path.parent().filter(|_| durability == Durability::Power) {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    };
    put().map_err(StoreError::of("write", path))
}

/// Reads the value at `path`; `None` where there is no file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(StoreError::of("read", path))?,
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| StoreError::of("read", path)(error.into()))
}

/// Makes a directory for our eyes only, with what leads to it.
pub(crate) fn make_directory(path: &Path) -> Result<(), StoreError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(StoreError::of("make", path))
}

/// Removes a file; that it is not there is as well.
pub(crate) fn remove_file(path: &Path) -> Result<(), StoreError> {
    absent_is_fine(fs::remove_file(path)).map_err(StoreError::of("remove", path))
}

/// Removes a directory with all that is in it; that it is not there is as well.
pub(crate) fn remove_directory(path: &Path) -> Result<(), StoreError> {
    absent_is_fine(fs::remove_dir_all(path)).map_err(StoreError::of("remove", path))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The names in a directory, sorted; none where there is no directory.
pub(crate) fn list(path: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(StoreError::of("read", path))?,
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<_> = names.collect::<io::Result<_>>().map_err(StoreError::of("read", path))?;
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_is_left_beside_it() {
        let dir = std::env::temp_dir().join(format!("netloom-store-{}", std::process::id()));
        make_directory(&dir).unwrap();
        let path = dir.join("numbers.json");
        assert_eq!(read::<Vec<u8>>(&path).unwrap(), None);
        write(&path, &vec![1, 2], Durability::Power).unwrap();
        write(&path, &vec![3], Durability::Process).unwrap();
        assert_eq!(read::<Vec<u8>>(&path).unwrap(), Some(vec![3]));
        assert_eq!(list(&dir).unwrap(), ["numbers.json"]);
        fs::write(&path, "[1,").unwrap();
        assert!(read::<Vec<u8>>(&path).unwrap_err().to_string().contains("numbers.json"));
        remove_directory(&dir).unwrap();
        remove_directory(&dir).unwrap();
        assert!(list(&dir).unwrap().is_empty());
    }
}
