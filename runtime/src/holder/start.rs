//! Starting a holder, from both sides: the command that wants an interface, and the process that will hold it.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd, RawFd},
    path::Path,
    process::{Command, Stdio},
};

use nix::{
    sys::stat::{Mode, umask},
    unistd::{chdir, dup2_stdin, setsid},
};
use serde::{Deserialize, Serialize};

use super::{ARGUMENT, Place, broken, failure};
use crate::{
    channel::Channel,
    fault::{Doing, Fault, Result},
    protocol::Failure,
    spec::{Attachment, HoldSpec},
    sys,
};

/// What a holder is to do. Descriptors: the network namespace, the target's process if `process`, that of `--exit-fd` if `exit`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) spec: HoldSpec,
    pub(super) process: bool,
    pub(super) exit: bool,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub(super) enum Outcome {
    /// Frames flow.
    Ready {
        port: Attachment,
    },
    Failed {
        failure: Failure,
    },
}

/// Starts a holder and waits until the interface is up and frames flow; it stays when this process ends. It has none of the
/// caller's descriptors but `exit`, on whose hang-up it ends.
pub fn start(root: &Path, place: &Place, spec: HoldSpec, exit: Option<&OwnedFd>) -> std::result::Result<Attachment, Failure> {
    try_start(root, place, spec, exit).map_err(Failure::from)?.into()
}

fn try_start(root: &Path, place: &Place, spec: HoldSpec, exit: Option<&OwnedFd>) -> Result<Outcome> {
    let (ours, theirs) = Channel::pair().map_err(|error| broken(&error))?;
    sys::fd::close_on_exec_from(3).doing("keep descriptors from the holder")?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(ARGUMENT).arg(root).stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().doing("start a holder")?;
    // It has the other end to itself: its end is heard.
    drop(command);
    let job = Job { spec, process: place.process.is_some(), exit: exit.is_some() };
    let fds: Vec<_> = [Some(&place.network), place.process.as_ref(), exit].into_iter().flatten().map(AsFd::as_fd).collect();
    ours.send(&job, &fds).map_err(|error| broken(&error))?;
    match ours.receive().map_err(|error| broken(&error))? {
        Some((outcome, _)) => Ok(outcome),
        None => Err(failure("the holder ended early")),
    }
}

/// A copy of a descriptor that the caller of this program opened and named by its number.
pub fn copy_inherited(raw: RawFd) -> io::Result<OwnedFd> {
    sys::process::copy_inherited(raw).map_err(io::Error::from)
}

/// Leaves the caller's session, terminal and directory; returns the channel that was standard input.
pub(super) fn detach() -> io::Result<Channel> {
    let starter = io::stdin().as_fd().try_clone_to_owned()?;
    dup2_stdin(File::open("/dev/null")?)?;
    setsid()?;
    chdir("/")?;
    umask(Mode::from_bits_truncate(0o077));
    Ok(Channel::from(starter))
}

pub(super) fn receive(starter: &Channel) -> Result<(Job, Vec<OwnedFd>)> {
    starter.receive().map_err(|error| broken(&error))?.ok_or_else(|| failure("there is no job"))
}

/// 64 random hex digits, as containers have.
pub(super) fn new_id() -> Result<String> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| Fault::Refused { message: format!("no random numbers: {error}"), hint: None })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
