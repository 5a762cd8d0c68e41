//! The namespaces that a bench runs in: network, mount and process, so that nothing of it is left whatever ends it.
//!
//! ```text
//!  Outside ──unshare──▶ Init (process 1 of its namespace: mounts, waits) ──▶ Inside (measures)
//! ```
//!
//! The limits of socket buffers are the whole machine's, whatever the namespace. So a guard stays outside, who raises them while it is
//! asked to and writes back what was there when its last listener is gone; see [`sysctl`].
//!
//! Init is a process of its own because the kernel shields process 1 from Ctrl-C, and because its end is everybody's end.

use std::{
    env, fs,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use nix::unistd::Uid;

use crate::{
    error::{BenchError, Result},
    process::{ourselves, sh},
    sysctl,
};

/// Of root, for rootlesskit, and of the user that `netloom-user` is.
const SUBORDINATE_IDS: &str = "root:100000:65536\n1000:200000:65536\n";
const STAGE: &str = "NETLOOM_BENCH_STAGE";

/// Goes on with `measure` once this process is in namespaces of its own. Loads and benches call this first.
/// `guarded`: the bench will ask for larger socket buffers.
pub fn enter(guarded: bool, measure: impl FnOnce() -> Result<()>) -> Result<ExitCode> {
    match env::var(STAGE).as_deref() {
        Ok("inside") => measure().map(|()| ExitCode::SUCCESS),
        Ok("init") => init(),
        Ok("guard") => sysctl::guard().map(|()| ExitCode::SUCCESS),
        _ => outside(guarded),
    }
}

fn outside(guarded: bool) -> Result<ExitCode> {
    if !Uid::effective().is_root() {
        return Err(BenchError::NotRoot);
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    if guarded {
        command.stdin(Stdio::from(start_guard()?));
    }
    let source = command.arg(ourselves()?).args(env::args_os().skip(1)).env(STAGE, "init").exec();
    Err(BenchError::Io { what: "unshare".into(), source })
}

/// What ordinary users find on a stock distribution and may miss on a bare machine: the TUN device open to all, control groups of
/// version 2 alone, shared mounts, and subordinate IDs.
fn as_distributions_have_it() -> Result<()> {
    if Path::new("/dev/net").is_dir() {
        sh("mount -t tmpfs -o mode=755 tmpfs /dev/net")?;
        sh("mknod -m 666 /dev/net/tun c 10 200")?;
    }
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        sh("umount -R /sys/fs/cgroup")?;
        sh("mount -t cgroup2 cgroup2 /sys/fs/cgroup")?;
    }
    sh("mount --make-rshared /")?;
    let path = "/run/subids";
    fs::write(path, SUBORDINATE_IDS).map_err(BenchError::io("writing the subordinate IDs"))?;
    for file in ["/etc/subuid", "/etc/subgid"].iter().filter(|file| Path::new(file).is_file()) {
        sh(&format!("mount --bind {path} {file}"))?;
    }
    Ok(())
}

/// In a process group of its own, so that what ends the bench does not end it. The bench's standard input leads to it.
fn start_guard() -> Result<OwnedFd> {
    let failed = || BenchError::io("starting the guard of the kernel's limits");
    let (ours, its) = UnixStream::pair().map_err(failed())?;
    let mut guard = Command::new(ourselves()?);
    guard.args(env::args_os().skip(1)).env(STAGE, "guard").stdin(Stdio::from(OwnedFd::from(its))).stdout(Stdio::null());
    guard.process_group(0).spawn().map_err(failed())?;
    Ok(ours.into())
}

fn init() -> Result<ExitCode> {
    sh("mount -t tmpfs -o mode=755 tmpfs /run")?;
    as_distributions_have_it()?;
    let status = Command::new(ourselves()?).args(env::args_os().skip(1)).env(STAGE, "inside").status();
    let status = status.map_err(BenchError::io("starting the bench in its namespaces"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
