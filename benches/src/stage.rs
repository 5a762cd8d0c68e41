//! The namespaces that a bench runs in: network, mount and process, so that nothing of it is left whatever ends it.
//!
//! ```text
//!  Outside ──unshare──▶ Init (process 1 of its namespace: mounts, waits) ──▶ Inside (measures)
//! ```
//!
//! Init is a process of its own because the kernel shields process 1 from Ctrl-C, and because its end is everybody's end.

use std::{
    env,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use nix::unistd::Uid;

use crate::{
    error::{BenchError, Result},
    process::{ourselves, sh},
};

const STAGE: &str = "NETLOOM_BENCH_STAGE";

/// Goes on with `measure` once this process is in namespaces of its own. Loads and benches call this first.
pub fn enter(measure: impl FnOnce() -> Result<()>) -> Result<ExitCode> {
    match env::var(STAGE).as_deref() {
        Ok("inside") => measure().map(|()| ExitCode::SUCCESS),
        Ok("init") => init(),
        _ => outside(),
    }
}

fn outside() -> Result<ExitCode> {
    if !Uid::effective().is_root() {
        return Err(BenchError::NotRoot);
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    let source = command.arg(ourselves()?).args(env::args_os().skip(1)).env(STAGE, "init").exec();
    Err(BenchError::Io { what: "unshare".into(), source })
}

fn init() -> Result<ExitCode> {
    sh("mount -t tmpfs -o mode=755 tmpfs /run")?;
    let status = Command::new(ourselves()?).args(env::args_os().skip(1)).env(STAGE, "inside").status();
    let status = status.map_err(BenchError::io("starting the bench in its namespaces"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
