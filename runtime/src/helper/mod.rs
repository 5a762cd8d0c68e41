//! The helper: a single-threaded process that enters namespaces, does one list of things there, hands descriptors back and ends.
//!
//! Nobody else enters a namespace: a multi-threaded process cannot enter a user namespace, and a process that must go on must not be
//! left in another network. A supervisor, which has one thread, forks its helpers and so saves an exec; the daemon, which has many,
//! runs the program again as `netloom __helper` (see [`main`]).
//!
//! ```text
//!   supervisor ──fork──▶ helper ──clone(CLONE_PARENT)──▶ init, or the command of an exec: the supervisor's children
//!        ◀──── Report: Ready with descriptors, or Failed ────┘
//! ```
//!
//! What a helper makes belongs to its descriptors and its child, so one that is killed midway leaves nothing.

pub(crate) mod archive;
pub(crate) mod exec;
pub(crate) mod follow;
pub(crate) mod link;
pub(crate) mod net;
pub(crate) mod route;
pub(crate) mod start;

use std::{os::fd::AsFd, process::ExitCode};

use nix::{
    sched::{CloneFlags, setns},
    sys::{
        prctl,
        signal::Signal,
        stat::{Mode, umask},
    },
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::{
    channel::Channel,
    fault::{Doing, Fault, Result},
    isolation::user::become_root,
    protocol::Failure,
    rootfs::upper,
    spec::Attachment,
    sys::process,
    userns,
};

/// The first argument of the program that makes it a helper.
pub const ARGUMENT: &str = "__helper";

/// The word after it that makes it look at what the machine can do, for the instance whose root follows. Without a word it makes a user
/// namespace.
pub(crate) const PROBE: &str = "probe";

/// The helper that the program becomes when its first argument is [`ARGUMENT`].
pub fn main() -> ExitCode {
    crate::supervisor::name_process(c"netloom-helper");
    let mut words = std::env::args_os().skip(2);
    let (word, root) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let served = match word.to_str() {
        Some(PROBE) => crate::probe::serve(root.as_ref()),
        Some(upper::SWEEP) => upper::serve_sweep(root.as_ref()),
        _ => userns::serve(),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// What helpers, inits and commands about to run tell the supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "report")]
pub(crate) enum Report {
    /// The namespaces are there. Descriptors: the mount namespace to keep if `layer`, the lock of its writable layer on a disk if `disk`,
    /// the six of [`Namespaces`], the terminal's
    /// master if `terminal`, then those of the interfaces.
    Ready { pid: i32, layer: bool, disk: bool, terminal: bool, ports: Vec<Attachment>, notes: Vec<String>, read_only: Vec<String> },
    /// An exec's process is there. Descriptor: the terminal's master if `terminal`.
    Child { pid: i32, terminal: bool },
    /// An interface was added. Descriptor: its own.
    Linked { attachment: Attachment },
    /// An interface was removed.
    Unlinked,
    /// Routes and names are those of the new plan.
    Followed,
    /// An interface was added to a namespace that is not ours. Descriptors: its own, the namespace.
    Attached { port: Attachment },
    /// The program's own file was bound. Descriptor: the mount.
    Bound,
    /// The command is about to be executed; the end of the connection says that it was. Descriptor: its pidfd.
    Executing,
    /// Nothing more will come of it.
    Failed { failure: Failure },
}

/// Tells the supervisor, which may be gone.
pub(crate) fn fail(report: &Channel, fault: Fault) {
    let _ = report.send(&Report::Failed { failure: fault.into() }, &[]);
}

/// Forks a helper that does `work` and ends; what it returns is reported. The caller has one thread.
pub(crate) fn spawn(report: Channel, work: impl FnOnce(&Channel) -> Result<()>) -> Result<Pid> {
    if let Some(pid) = process::fork().doing("start a helper")? {
        return Ok(pid);
    }
    // What it makes in a container is for everybody there; what a supervisor makes is its user's alone.
    umask(Mode::from_bits_truncate(0o022));
    let code = match protect().and_then(|()| die_with_parent()).and_then(|()| work(&report)) {
        Ok(()) => 0,
        Err(fault) => {
            fail(&report, fault);
            1
        }
    };
    process::exit(code)
}

/// The supervisor is gone.
pub(crate) fn lost(error: crate::channel::ChannelError) -> Fault {
    Fault::Refused { message: error.to_string(), hint: None }
}

/// From now on this process is killed when its parent ends. Credential changes undo it.
pub(crate) fn die_with_parent() -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).doing("tie a process to its supervisor")
}

/// From now on no process of a container may trace this one and those that it forks, read their memory or find a file through them,
/// whatever they share with it. Credential changes may undo it (proc_sys_fs(5), `suid_dumpable`), an exec does.
pub(crate) fn protect() -> Result<()> {
    prctl::set_dumpable(false).doing("protect a process of netloom")
}

/// Enters the instance's user namespace and becomes root there; nothing to do as root.
pub(crate) fn enter_user_namespace(namespace: Option<&impl AsFd>) -> Result<()> {
    let Some(namespace) = namespace else { return Ok(()) };
    setns(namespace, CloneFlags::CLONE_NEWUSER).doing("enter the instance's user namespace")?;
    become_root()?;
    protect()?;
    die_with_parent()
}
