//! The network namespace that an interface goes into: found and checked in the caller's own context, kept as a descriptor.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{errno::Errno, sys::stat::fstat, unistd::Pid};

use crate::{
    fault::{Fault, Result},
    protocol::Failure,
    spec::{NamespaceId, Target},
    sys::process,
};

/// A network namespace of anybody's.
#[derive(Debug)]
pub struct Place {
    pub target: Target,
    pub namespace: NamespaceId,
    pub(super) network: OwnedFd,
    /// Whose end is the interface's: the process of `--pid`, or the one whose namespace file was named.
    pub(super) process: Option<OwnedFd>,
}

impl Place {
    /// Finds the namespace of `target`. Errors name the process or the file.
    pub fn open(target: Target) -> std::result::Result<Self, Failure> {
        find(target).map_err(Failure::from)
    }

    /// As [`Place::open`], for an interface to be put there. The namespace that the caller itself is in must be named by a path: a
    /// slip in a process number must not put an interface on the host.
    pub fn open_for_attach(target: Target) -> std::result::Result<Self, Failure> {
        let place = Self::open(target)?;
        let own = File::open("/proc/self/ns/net").and_then(|file| identity(&file)).ok();
        match place.target {
            Target::Pid { pid } if own == Some(place.namespace) => Err(Fault::refused(
                format!("process {pid} is in the network that netloom itself runs in"),
                format!("to put an interface there all the same, name it by its path: --netns /proc/{pid}/ns/net"),
            )
            .into()),
            _ => Ok(place),
        }
    }
}

fn find(target: Target) -> Result<Place> {
    let (path, process) = match &target {
        Target::Pid { pid } => (PathBuf::from(format!("/proc/{pid}/ns/net")), Some(open_process(*pid)?)),
        Target::Path { path } => (path.clone(), named_process(path).map(open_process).transpose()?),
    };
    let file = File::open(&path).map_err(|error| unopened(&target, error))?;
    if process::namespace_kind(file.as_fd()) != Ok(libc::CLONE_NEWNET) {
        return Err(Fault::refused(
            format!("{} is not a network namespace", path.display()),
            "a file of `ip netns add` under /run/netns, or /proc/PID/ns/net",
        ));
    }
    let namespace = identity(&file).map_err(|error| unopened(&target, error))?;
    Ok(Place { target, namespace, network: file.into(), process })
}

fn open_process(pid: i32) -> Result<OwnedFd> {
    process::open_pid(Pid::from_raw(pid)).map_err(|errno| match errno {
        Errno::ESRCH | Errno::EINVAL => Fault::refused(format!("there is no process {pid}"), "`ps ax` lists the processes"),
        other => Fault::system(format!("watch process {pid}"), other),
    })
}

fn unopened(target: &Target, error: io::Error) -> Fault {
    let hint = match (target, error.kind()) {
        (Target::Pid { pid }, io::ErrorKind::NotFound) => {
            return Fault::refused(format!("there is no process {pid}"), "`ps ax` lists the processes");
        }
        (Target::Pid { .. }, _) => "without root it must be a process of your own",
        (Target::Path { .. }, _) => "a file of `ip netns add` under /run/netns, or /proc/PID/ns/net",
    };
    let what = match target {
        Target::Pid { pid } => format!("open the network namespace of process {pid}"),
        Target::Path { path } => format!("open {}", path.display()),
    };
    Fault::system(what, error).with_hint(hint)
}

/// The process that a path through /proc leads through. The caller itself does not count: it is about to end.
fn named_process(path: &Path) -> Option<i32> {
    let first = path.strip_prefix("/proc").ok()?.components().next()?;
    let pid = first.as_os_str().to_str()?.parse::<i32>().ok()?;
    (pid > 0 && pid.unsigned_abs() != std::process::id()).then_some(pid)
}

/// Which namespace an open file of it stands for.
pub(super) fn identity(file: &impl AsFd) -> io::Result<NamespaceId> {
    let found = fstat(file)?;
    Ok(NamespaceId { device: found.st_dev, inode: found.st_ino })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(target: Target) -> (String, String) {
        let failure = Place::open(target).unwrap_err();
        (failure.message, failure.hint.unwrap_or_default())
    }

    #[test]
    fn one_namespace_is_one_by_whatever_name() {
        let me = std::process::id().cast_signed();
        let by_pid = Place::open(Target::Pid { pid: me }).unwrap();
        let by_path = Place::open(Target::Path { path: "/proc/self/ns/net".into() }).unwrap();
        assert_eq!(by_pid.namespace, by_path.namespace);
        assert!(by_pid.process.is_some() && by_path.process.is_none(), "whose end is awaited");
    }

    #[test]
    fn the_callers_own_network_must_be_named_by_its_path() {
        let me = std::process::id().cast_signed();
        let failure = Place::open_for_attach(Target::Pid { pid: me }).unwrap_err();
        assert!(failure.hint.unwrap().contains(&format!("/proc/{me}/ns/net")));
        Place::open_for_attach(Target::Path { path: "/proc/self/ns/net".into() }).unwrap();
    }

    #[test]
    fn what_is_no_network_namespace_is_named() {
        assert_eq!(refused(Target::Pid { pid: i32::MAX }).0, format!("there is no process {}", i32::MAX));
        for path in ["/proc/self/ns/uts", "/dev/null"] {
            assert_eq!(refused(Target::Path { path: path.into() }).0, format!("{path} is not a network namespace"));
        }
        assert!(refused(Target::Path { path: "/run/no/such".into() }).0.starts_with("cannot open /run/no/such: "));
    }

    #[test]
    fn a_path_through_proc_names_a_process_and_self_names_none() {
        for (path, pid) in [("/proc/1/ns/net", Some(1)), ("/proc/self/ns/net", None), ("/run/netns/1", None), ("/proc/net", None)] {
            assert_eq!(named_process(Path::new(path)), pid, "{path}");
        }
    }
}
