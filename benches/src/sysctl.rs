//! The kernel's limits of socket buffers, raised for those who want that.
//!
//! net.core.rmem_max and wmem_max belong to the machine: in a network namespace of its own they can be read and not written. The guard
//! is a process outside; it raises and lowers them as it is told, and puts back what it found when nobody is left who could tell.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
};

use crate::error::{BenchError, Result};

const LIMITS: [&str; 2] = ["/proc/sys/net/core/rmem_max", "/proc/sys/net/core/wmem_max"];
const RAISED: &str = "134217728";
const RAISE: &str = "raise";
const LOWER: &str = "lower";

/// The limits are raised as long as it lives.
#[derive(Debug)]
pub struct Raised;

impl Raised {
    pub fn now() -> Result<Self> {
        tell(RAISE)?;
        Ok(Self)
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        // A guard that is gone has put the limits back.
        let _ = tell(LOWER);
    }
}

/// Says a word to the guard at the other end of standard input, and waits until it is done.
fn tell(word: &str) -> Result<()> {
    let failed = || BenchError::io(format!("asking the guard to {word} the limits of socket buffers"));
    let mut guard = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().map_err(failed())?);
    writeln!(guard, "{word}").map_err(failed())?;
    let mut answer = [0; 5];
    guard.read_exact(&mut answer).map_err(failed())?;
    if &answer == b"done\n" { Ok(()) } else { Err(failed()(io::ErrorKind::PermissionDenied.into())) }
}

/// The guard's life: until its standard input ends.
pub(crate) fn guard() -> Result<()> {
    let failed = || BenchError::io("guarding the limits of socket buffers");
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().map_err(failed())?);
    serve(&socket, &LIMITS.map(Into::into)).map_err(failed())
}

fn serve(socket: &UnixStream, limits: &[std::path::PathBuf]) -> io::Result<()> {
    let found = limits.iter().map(fs::read_to_string).collect::<io::Result<Vec<_>>>()?;
    let lower = || limits.iter().zip(&found).try_for_each(|(limit, value)| fs::write(limit, value));
    for word in BufReader::new(socket).lines() {
        // Whatever ends the talk, the limits are put back below.
        let Ok(word) = word else { break };
        let done = if word == RAISE { limits.iter().try_for_each(|limit| fs::write(limit, RAISED)) } else { lower() };
        let answer: &[u8] = if done.is_ok() { b"done\n" } else { b"fail\n" };
        if (&mut &*socket).write_all(answer).is_err() {
            break;
        }
    }
    lower()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_was_there_is_put_back_when_the_bench_is_gone() {
        let file = std::env::temp_dir().join(format!("netloom-bench-limit-{}", std::process::id()));
        fs::write(&file, "4096\n").unwrap();
        let (mut ours, its) = UnixStream::pair().unwrap();
        let limits = vec![file.clone()];
        let guard = thread::spawn(move || serve(&its, &limits));
        writeln!(ours, "{RAISE}").unwrap();
        ours.read_exact(&mut [0; 5]).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), RAISED);
        drop(ours);
        guard.join().unwrap().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "4096\n");
        fs::remove_file(&file).unwrap();
    }
}
