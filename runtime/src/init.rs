//! PID 1 of a container: mounts what belongs to one start, runs the command, passes signals on and reaps.
//!
//! It is forked from the helper without an exec and belongs to the supervisor, with which it dies. It has no descriptor but its two
//! channels, cannot be traced, and ends with the command's code, at which the kernel kills what is left in the container.

use std::os::fd::{AsFd, AsRawFd};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::{
    channel::Channel,
    fault::{Doing, Fault, OWN_FAILURE, Result},
    helper::{die_with_parent, fail, protect},
    isolation::caps,
    process::{Command, Stdio, close_others, keep_only},
    rootfs::fresh::{self, Fresh},
    sys::process,
};

/// What the supervisor tells init.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToInit {
    /// The network is ready: run the command.
    Go,
    /// A signal for the command.
    Signal(i32),
}

/// Does everything and never returns, except with what went wrong before the command ran.
pub(crate) fn run(
    report: &Channel,
    control: Channel,
    arguments: (usize, usize),
    fresh: &Fresh<'_>,
    command: &Command<'_>,
    stdio: Stdio,
) -> Fault {
    match start(report, &control, arguments, fresh, command, stdio) {
        Err(fault) => fault,
        Ok((child, signals)) => watch(&control, &signals, child),
    }
}

fn start(
    report: &Channel,
    control: &Channel,
    arguments: (usize, usize),
    fresh: &Fresh<'_>,
    command: &Command<'_>,
    stdio: Stdio,
) -> Result<(Pid, SignalFd)> {
    close_others(&[report.as_fd().as_raw_fd(), control.as_fd().as_raw_fd()], &stdio);
    protect()?;
    process::overwrite_arguments(arguments.0, arguments.1, b"netloom-init");
    let _ = prctl::set_name(c"netloom-init");
    fresh::enter(fresh, command.tty.then(|| stdio.output.as_fd()))?;
    let mask = SigSet::all();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&mask), None).doing("block signals")?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).doing("watch signals")?;
    die_with_parent()?;
    // A supervisor that ended before that is found out here: its end of the connection is closed.
    match control.receive::<ToInit>() {
        Ok(Some((ToInit::Go, _))) => {}
        _ => process::exit(OWN_FAILURE),
    }
    let Some(child) = process::fork().doing("start the command")? else {
        drop(signals);
        close_others(&[report.as_fd().as_raw_fd()], &stdio);
        let fault = command.execute(report, stdio);
        let code = if let Fault::Command { code, .. } = &fault { *code } else { OWN_FAILURE };
        fail(report, fault);
        process::exit(code)
    };
    keep_only_kill(command)?;
    // Changing capabilities may have cleared it.
    die_with_parent()?;
    // The command alone has its streams, and only it keeps the connection whose end says that it runs.
    keep_only(&[control.as_fd().as_raw_fd(), signals.as_raw_fd()]);
    Ok((child, signals))
}

/// From here on init only signals and reaps. What it could gain by an exec, which it never does, is no more than the container's.
fn keep_only_kill(command: &Command<'_>) -> Result<()> {
    caps::bound(&caps::wanted(command.security)?)?;
    caps::limit(&[::caps::Capability::CAP_KILL].into_iter().collect())
}

/// Passes signals to the command and reaps, until the command ends.
fn watch(control: &Channel, signals: &SignalFd, child: Pid) -> ! {
    let mut told = true;
    loop {
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if told {
            fds.push(PollFd::new(control.as_fd(), PollFlags::POLLIN));
        }
        let _ = poll(&mut fds, PollTimeout::NONE);
        let asked = fds.get(1).and_then(PollFd::revents).is_some_and(|events| !events.is_empty());
        drop(fds);
        if asked {
            match control.receive::<ToInit>() {
                Ok(Some((ToInit::Signal(signal), _))) => pass(child, signal),
                Ok(Some((ToInit::Go, _))) => {}
                Ok(None) | Err(_) => told = false,
            }
        }
        while let Ok(Some(info)) = signals.read_signal() {
            match i32::try_from(info.ssi_signo) {
                Ok(libc::SIGCHLD) => reap(child),
                Ok(signal) => pass(child, signal),
                Err(_) => {}
            }
        }
    }
}

/// Real-time signals have no name in nix, so the number goes as it is.
fn pass(child: Pid, signal: i32) {
    let _ = process::kill(child, signal);
}

/// Reaps whoever has ended, and ends with the command.
fn reap(child: Pid) {
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => process::exit(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => process::exit(128 + signal as i32),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
            Ok(_) | Err(_) => {}
        }
    }
}

/// The code of a process that has ended, as the shell numbers it.
pub(crate) fn code_of(status: WaitStatus) -> Option<(Pid, i32)> {
    match status {
        WaitStatus::Exited(pid, code) => Some((pid, code)),
        WaitStatus::Signaled(pid, signal, _) => Some((pid, 128 + signal as i32)),
        _ => None,
    }
}

/// The number of a signal that can be named.
pub(crate) fn is_signal(number: i32) -> bool {
    Signal::try_from(number).is_ok() || (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number)
}
