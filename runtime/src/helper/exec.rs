//! `exec`: one more process in a running container.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::{
    fcntl::{OFlag, open},
    sched::{CloneFlags, setns},
    sys::stat::{Mode, fstat, stat},
    unistd::fchdir,
};

use super::{Report, enter_user_namespace, fail, start::Namespaces};
use crate::{
    channel::Channel,
    fault::{Doing, Fault, OWN_FAILURE, Result},
    process::{self, Command, Stdio},
    spec::{ContainerSpec, ExecSpec, SecuritySpec},
    sys,
};

/// One exec, as the supervisor asks for it.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) container: &'a ContainerSpec,
    pub(crate) exec: &'a ExecSpec,
    pub(crate) userns: Option<&'a OwnedFd>,
    pub(crate) namespaces: &'a Namespaces,
    pub(crate) cgroup: Vec<std::path::PathBuf>,
    pub(crate) stdio: Option<Stdio>,
    pub(crate) arguments: (usize, usize),
}

/// Enters the container and starts the process, the supervisor's child.
pub(crate) fn run(report: &Channel, mut job: Job<'_>) -> Result<()> {
    for procs in &job.cgroup {
        std::fs::write(procs, "0").doing(format_args!("enter the cgroup {}", procs.display()))?;
    }
    enter(job.userns, job.namespaces)?;
    let terminal = job.stdio.is_none().then(|| {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        open("/dev/pts/ptmx", flags, Mode::empty()).doing("open a terminal")
    });
    let terminal = terminal.transpose()?;
    let stdio = match (job.stdio.take(), &terminal) {
        (Some(stdio), _) => stdio,
        (None, Some(terminal)) => Stdio::terminal(sys::process::open_peer(terminal.as_fd()).doing("open the terminal")?)?,
        (None, None) => return Err(Fault::Refused { message: "an exec without streams".to_owned(), hint: None }),
    };
    let Some(pid) = sys::process::fork_sibling().doing("start the process")? else {
        drop(terminal);
        sys::process::overwrite_arguments(job.arguments.0, job.arguments.1, b"netloom-exec");
        let fault = execute(report, &job, stdio);
        let code = if let Fault::Command { code, .. } = &fault { *code } else { OWN_FAILURE };
        fail(report, fault);
        sys::process::exit(code)
    };
    let fds: Vec<_> = terminal.iter().map(AsFd::as_fd).collect();
    report.send(&Report::Child { pid: pid.as_raw(), terminal: terminal.is_some() }, &fds).map_err(super::lost)
}

/// Enters all namespaces of a container, whose root becomes this process's.
pub(crate) fn enter(userns: Option<&OwnedFd>, namespaces: &Namespaces) -> Result<()> {
    enter_user_namespace(userns)?;
    let kinds = [
        CloneFlags::CLONE_NEWNS,
        CloneFlags::CLONE_NEWUTS,
        CloneFlags::CLONE_NEWIPC,
        CloneFlags::CLONE_NEWNET,
        CloneFlags::CLONE_NEWCGROUP,
        CloneFlags::CLONE_NEWPID,
    ];
    // That of the host's network is not a user's to enter, nor need it be.
    let own = stat("/proc/self/ns/net").doing("look at the own network namespace")?;
    let joined = fstat(&namespaces.network).doing("look at the container's network namespace")?;
    let there = (own.st_dev, own.st_ino) == (joined.st_dev, joined.st_ino);
    for (fd, kind) in namespaces.fds().into_iter().zip(kinds) {
        if there && kind == CloneFlags::CLONE_NEWNET {
            continue;
        }
        setns(fd, kind).doing("enter the container's namespaces")?;
    }
    let root = open("/", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).doing("enter the container's root")?;
    fchdir(root.as_fd()).doing("enter the container's root")
}

fn execute(report: &Channel, job: &Job<'_>, stdio: Stdio) -> Fault {
    process::close_others(&[report.as_fd().as_raw_fd()], &stdio);
    let security = if job.exec.privileged {
        SecuritySpec { privileged: true, no_new_privileges: false, ..SecuritySpec::default() }
    } else {
        job.container.security.clone()
    };
    let hostname = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let command = Command {
        argv: &job.exec.command,
        process: &job.container.process,
        added: Some(&job.exec.process),
        security: &security,
        ulimits: &job.container.limits.ulimits,
        hostname: &hostname,
        tty: job.exec.tty,
        host_view: job.container.root.rootfs.is_none(),
    };
    command.execute(report, stdio)
}
