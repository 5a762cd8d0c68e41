//! Which control groups a container has, written down before they are made, and their end when its supervisor cannot see to it.
//!
//! A group is a directory, and no descriptor owns a directory: it outlives a supervisor that was killed, and a frozen one keeps its
//! processes from dying. So the names lie in the container's directory, and whoever finds the supervisor gone sweeps them:
//!
//! ```text
//!   supervisor: names ─▶ file ─▶ groups made … groups removed ─▶ no file
//!   killed before that:    daemon ──runs──▶ netloom __sweep (the open file is its standard input)
//!                          or the container's next supervisor, before it makes anything
//! ```
//!
//! Both may come at once: the file is locked meanwhile, and emptied once its groups are gone. Who gets the lock and reads nothing has
//! nothing to do, even if a new supervisor has written a new file under the old name.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{Flock, FlockArg},
    unistd::Pid,
};

use super::PREFIX;
use crate::sys::process;

/// The first argument of the program that makes it sweep the groups named in the file that is its standard input.
pub const ARGUMENT: &str = "__sweep";

/// The file's name in a container's directory: a list of paths.
const FILE: &str = "groups";
/// How long the processes of a group may take to end.
const END_TIME: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(2);

/// Writes down which groups there are or will be; none leaves no file.
pub(super) fn write(dir: &Path, groups: &[&Path]) -> io::Result<()> {
    let file = dir.join(FILE);
    if groups.is_empty() {
        return fs::remove_file(&file).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) });
    }
    let whole = dir.join("groups.new");
    fs::write(&whole, serde_json::to_vec(groups)?)?;
    fs::rename(whole, file)
}

/// Has a process of its own end what a lost supervisor left in its groups and remove them. It has the rights to, which the caller may
/// have given up, and the tokio runtime that calls this takes note of its end. `false`: there are none.
pub fn sweep_later(dir: &Path) -> io::Result<bool> {
    let Some(file) = open(dir)? else { return Ok(false) };
    let mut command = Command::new("/proc/self/exe");
    command.arg(ARGUMENT).stdin(OwnedFd::from(file)).stdout(Stdio::null()).stderr(Stdio::null());
    tokio::process::Command::from(command).spawn()?;
    Ok(true)
}

/// What the program does when its first argument is [`ARGUMENT`].
pub fn main() -> ExitCode {
    crate::supervisor::name_process(c"netloom-sweep");
    let file = io::stdin().as_fd().try_clone_to_owned().map(File::from);
    if file.and_then(sweep).is_ok_and(|gone| gone) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Sweeps what an earlier supervisor of this container left.
pub(crate) fn sweep_left(dir: &Path) -> io::Result<()> {
    let Some(file) = open(dir)? else { return Ok(()) };
    if sweep(file)? {
        write(dir, &[])?;
    }
    Ok(())
}

fn open(dir: &Path) -> io::Result<Option<File>> {
    match File::options().read(true).write(true).open(dir.join(FILE)) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// `false` if a process in them cannot be ended.
fn sweep(file: File) -> io::Result<bool> {
    let mut file = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| io::Error::from(errno))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    if text.is_empty() {
        return Ok(true);
    }
    let groups: Vec<PathBuf> = serde_json::from_slice(&text)?;
    let until = Instant::now() + END_TIME;
    // Every one is tried, whatever became of the others.
    let left = groups.iter().filter(|group| is_ours(group) && !end(group, until)).count();
    let gone = left == 0;
    if gone {
        file.set_len(0)?;
    }
    Ok(gone)
}

/// Whether this is a control group that a container of ours may have.
fn is_ours(group: &Path) -> bool {
    group.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX)) && group.join("cgroup.procs").exists()
}

fn end(group: &Path, until: Instant) -> bool {
    loop {
        thaw(group);
        kill(group);
        match fs::remove_dir(group) {
            Ok(()) => return true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return true,
            Err(_) if Instant::now() > until => return false,
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// In version 1 a frozen process does not even end by SIGKILL.
pub(super) fn thaw(group: &Path) {
    for (file, value) in [("cgroup.freeze", "0"), ("freezer.state", "THAWED")] {
        // A group has one of them, or none.
        let _ = set(group, file, value);
    }
}

/// Writes to a file of a group, which must be there: none is made.
fn set(group: &Path, file: &str, value: &str) -> io::Result<()> {
    File::options().write(true).open(group.join(file))?.write_all(value.as_bytes())
}

/// Kills every process of a group: at once where the kernel can (`cgroup.kill`, Linux 5.14), else one by one.
fn kill(group: &Path) {
    if set(group, "cgroup.kill", "1").is_ok() {
        return;
    }
    let inside = || {
        let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect::<Vec<i32>>()
    };
    let held: Vec<_> = inside().into_iter().filter_map(|pid| Some((pid, process::open_pid(Pid::from_raw(pid)).ok()?))).collect();
    // Whoever is still inside under its number is the one that is held, and no later process with the same number.
    let still = inside();
    for (_, pidfd) in held.iter().filter(|(pid, _)| still.contains(pid)) {
        // One that has ended is as dead as wanted.
        let _ = process::signal(pidfd.as_fd(), libc::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("netloom-ledger-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_group_of_version_2_is_thawed_and_killed_as_a_whole() {
        let group = scratch("unified");
        for file in ["cgroup.freeze", "cgroup.kill", "cgroup.procs"] {
            fs::write(group.join(file), "").unwrap();
        }
        thaw(&group);
        kill(&group);
        let read = |file: &str| fs::read_to_string(group.join(file)).unwrap();
        assert_eq!((read("cgroup.freeze"), read("cgroup.kill")), ("0".to_owned(), "1".to_owned()));
        assert!(!group.join("freezer.state").exists(), "a file was made in a control group");
        fs::remove_dir_all(group).unwrap();
    }

    #[test]
    fn the_processes_of_a_frozen_group_of_version_1_are_thawed_and_killed_each() {
        let group = scratch("legacy");
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(group.join("freezer.state"), "FROZEN").unwrap();
        fs::write(group.join("cgroup.procs"), format!("{}\n", child.id())).unwrap();
        thaw(&group);
        kill(&group);
        assert!(fs::read_to_string(group.join("freezer.state")).unwrap().starts_with("THAWED"));
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
        fs::remove_dir_all(group).unwrap();
    }

    #[test]
    fn whoever_sweeps_second_finds_nothing_to_do() {
        let dir = scratch("twice");
        let group = dir.join("netloom-gone");
        write(&dir, &[&group]).unwrap();
        let second = open(&dir).unwrap().unwrap();
        sweep_left(&dir).unwrap();
        assert!(!dir.join(FILE).exists());
        // A new supervisor's groups lie under the same names, and are not those of the second's file.
        write(&dir, &[&group]).unwrap();
        assert_eq!(second.metadata().unwrap().len(), 0);
        assert!(sweep(second).unwrap());
        assert!(dir.join(FILE).exists());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_is_no_control_group_of_ours_is_left_alone() {
        let dir = scratch("foreign");
        let (plain, named) = (dir.join("netloom-x"), dir.join("other"));
        fs::create_dir_all(&plain).unwrap();
        fs::create_dir_all(&named).unwrap();
        fs::write(named.join("cgroup.procs"), "").unwrap();
        write(&dir, &[&plain, &named]).unwrap();
        sweep_left(&dir).unwrap();
        assert!(plain.exists() && named.exists());
        fs::remove_dir_all(dir).unwrap();
    }
}
