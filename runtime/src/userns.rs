//! The user namespace of an instance without root: made once by the daemon, shared by its containers, kept as a descriptor.
//!
//! A helper unshares it and waits, its maps are written from outside, and then only the descriptor stays:
//!
//! ```text
//!   daemon ──runs──▶ netloom __helper: unshare, "ready" ──▶ daemon: newuidmap, newgidmap, or one line of its own
//!     ◀── /proc/PID/ns/user ──┘ is its root one? "ready" ◀──┘    ends when its standard input does
//! ```
//! The second question is for security modules that let anybody make a user namespace and then deny its root every capability, as
//! AppArmor does on Ubuntu.

use std::{
    fs,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    unistd::{User, getegid, geteuid},
};

use crate::{helper, switches::Feature};

/// Which users exist in a user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// Root alone, who is the caller.
    One,
    /// Root, who is the caller, and this many more from /etc/subuid and /etc/subgid.
    Ranges { users: u32, groups: u32 },
}

/// The user namespace of an instance.
#[derive(Debug)]
pub struct UserNamespace {
    pub fd: OwnedFd,
    pub mapping: Mapping,
}

/// Why there is no user namespace.
#[derive(Debug, thiserror::Error)]
pub enum UserNamespaceError {
    /// The kernel's configuration or the system's settings forbid them.
    #[error("user namespaces are forbidden here: {reason}")]
    Forbidden { reason: String, hint: String },
    #[error("cannot make a user namespace: {0}")]
    Io(#[from] io::Error),
}

impl UserNamespaceError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Forbidden { hint, .. } => Some(hint),
            Self::Io(_) => None,
        }
    }
}

const READY: u8 = b'r';

/// Makes a user namespace in which the caller is root, with the ranges of /etc/subuid and /etc/subgid where newuidmap(1) gives them.
pub fn create() -> Result<UserNamespace, UserNamespaceError> {
    let mut helper =
        Command::new("/proc/self/exe").arg(helper::ARGUMENT).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let made = wait_ready(&mut helper, forbidden).and_then(|()| take(helper.id()));
    let made = made.and_then(|made| ask(&mut helper).map(|()| made));
    drop(helper.stdin.take());
    helper.wait()?;
    made
}

/// The helper's side, on standard input and output.
pub(crate) fn serve() -> io::Result<()> {
    answer(unshare(CloneFlags::CLONE_NEWUSER))?;
    while io::stdin().read(&mut [0])? > 0 {
        // Whatever needs a capability and leaves nothing behind.
        answer(unshare(CloneFlags::CLONE_NEWUTS))?;
    }
    Ok(())
}

fn answer(done: nix::Result<()>) -> io::Result<()> {
    let errno = done.err().map_or(0, |errno| errno as i32);
    let [a, b, c, d] = errno.to_be_bytes();
    let mut out = io::stdout();
    out.write_all(&[if done.is_ok() { READY } else { b'e' }, a, b, c, d])?;
    out.flush()
}

/// Whether the root of the namespace may do what a root may.
fn ask(helper: &mut Child) -> Result<(), UserNamespaceError> {
    helper.stdin.as_mut().ok_or_else(|| io::Error::other("the helper has no input"))?.write_all(b"?")?;
    wait_ready(helper, powerless)
}

fn wait_ready(helper: &mut Child, failed: impl FnOnce(Errno) -> UserNamespaceError) -> Result<(), UserNamespaceError> {
    let mut answer = [0; 5];
    let out = helper.stdout.as_mut().ok_or_else(|| io::Error::other("the helper has no output"))?;
    out.read_exact(&mut answer)?;
    let [kind, a, b, c, d] = answer;
    if kind == READY {
        return Ok(());
    }
    Err(failed(Errno::from_raw(i32::from_be_bytes([a, b, c, d]))))
}

fn take(pid: u32) -> Result<UserNamespace, UserNamespaceError> {
    let ranges = if Feature::Subuids.is_off() { None } else { map_ranges(pid) };
    let mapping = match ranges {
        Some(mapping) => mapping,
        None => map_one(pid)?,
    };
    let fd = fs::File::open(format!("/proc/{pid}/ns/user"))?.into();
    Ok(UserNamespace { fd, mapping })
}

/// The caller alone (user_namespaces(7), "Defining user and group ID mappings").
fn map_one(pid: u32) -> Result<Mapping, UserNamespaceError> {
    let write = |file: &str, text: String| {
        fs::write(format!("/proc/{pid}/{file}"), text).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => forbidden(Errno::EPERM),
            _ => error.into(),
        })
    };
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("0 {} 1", geteuid()))?;
    write("gid_map", format!("0 {} 1", getegid()))?;
    Ok(Mapping::One)
}

/// With the ranges of the system's files, through the two programs that may map them; `None` if there are none or they refuse.
fn map_ranges(pid: u32) -> Option<Mapping> {
    let name = User::from_uid(geteuid()).ok().flatten().map(|user| user.name);
    let range = |path: &str, id: u32| sub_range(&fs::read_to_string(path).ok()?, name.as_deref(), id);
    let users = range("/etc/subuid", geteuid().as_raw())?;
    let groups = range("/etc/subgid", getegid().as_raw())?;
    let map = |program: &str, own: u32, (first, count): (u32, u32)| {
        let words = [pid, 0, own, 1, 1, first, count].map(|number| number.to_string());
        Command::new(program)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    // A failure of the second leaves the first written, and then the group alone can still be mapped to one.
    if !map("newuidmap", geteuid().as_raw(), users) {
        return None;
    }
    if !map("newgidmap", getegid().as_raw(), groups) {
        fs::write(format!("/proc/{pid}/setgroups"), "deny").ok()?;
        fs::write(format!("/proc/{pid}/gid_map"), format!("0 {} 1", getegid())).ok()?;
        return Some(Mapping::Ranges { users: users.1, groups: 0 });
    }
    Some(Mapping::Ranges { users: users.1, groups: groups.1 })
}

/// The first range of `name` or `id` in a subuid(5) file: first, count.
pub(crate) fn sub_range(text: &str, name: Option<&str>, id: u32) -> Option<(u32, u32)> {
    let id = id.to_string();
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next().filter(|owner| Some(*owner) == name || *owner == id)?;
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (!owner.is_empty() && count > 0).then_some((first, count))
    })
}

/// Finds out which setting is in the way.
pub(crate) fn forbidden(errno: Errno) -> UserNamespaceError {
    let setting = |path: &str| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<i64>().ok());
    let known = |reason: &str, hint: &str| UserNamespaceError::Forbidden { reason: reason.to_owned(), hint: hint.to_owned() };
    if setting("/proc/sys/user/max_user_namespaces") == Some(0) {
        return known("user.max_user_namespaces is 0", "as root: sysctl -w user.max_user_namespaces=28633");
    }
    if setting("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        return known("kernel.unprivileged_userns_clone is 0", "as root: sysctl -w kernel.unprivileged_userns_clone=1");
    }
    if apparmor_restricts() {
        return apparmor();
    }
    match errno {
        Errno::ENOSYS | Errno::EINVAL => known("this kernel has none", "a kernel with CONFIG_USER_NS, or run netloom as root"),
        Errno::ENOSPC => known("there are too many already", "as root: raise user.max_user_namespaces"),
        Errno::EPERM => {
            known("the kernel says EPERM", "another container or a security module may forbid them; run netloom as root, or outside of it")
        }
        other => UserNamespaceError::Io(other.into()),
    }
}

/// Finds out why the root of a user namespace is none.
fn powerless(errno: Errno) -> UserNamespaceError {
    if errno == Errno::EPERM && apparmor_restricts() {
        return apparmor();
    }
    let hint = "a security module or a limit of user.max_*_namespaces is in the way; run netloom as root, or outside of it";
    UserNamespaceError::Forbidden { reason: format!("their root may make no namespace: {}", errno.desc()), hint: hint.to_owned() }
}

fn apparmor_restricts() -> bool {
    fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").is_ok_and(|text| text.trim() == "1")
}

fn apparmor() -> UserNamespaceError {
    let hint = "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for netloom with `userns,`";
    UserNamespaceError::Forbidden { reason: "kernel.apparmor_restrict_unprivileged_userns is 1".to_owned(), hint: hint.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_found_by_name_or_number() {
        let text = "root:1000:1\nanna:100000:65536\n1001:200000:10\nbert:5:0\n";
        assert_eq!(sub_range(text, Some("anna"), 1000), Some((100_000, 65_536)));
        assert_eq!(sub_range(text, None, 1001), Some((200_000, 10)));
        assert_eq!(sub_range(text, Some("bert"), 7), None);
    }
}
