//! The start of a container: its namespaces, its network, its root, and then its init.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, open, openat},
    sched::{CloneFlags, setns, unshare},
    sys::stat::Mode,
    unistd::sethostname,
};

use super::{Report, enter_user_namespace, fail, net, route::Congestion};
use crate::{
    channel::Channel,
    fault::{Doing, Fault, Result},
    init,
    process::{Command, Stdio},
    rootfs::{self, Blueprint, Built, files::Contents, fresh, upper::Disk},
    spec::{ContainerSpec, NetworkMode, Plan},
    sys::process,
};

/// One start, as the supervisor asks for it.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) spec: &'a ContainerSpec,
    pub(crate) id: &'a str,
    pub(crate) plan: &'a Plan,
    pub(crate) userns: Option<&'a OwnedFd>,
    /// The mount namespace with the root, from the second start on.
    pub(crate) layer: Option<&'a OwnedFd>,
    /// The instance's root, and the container's empty directory to mount on.
    pub(crate) root: &'a Path,
    pub(crate) base: PathBuf,
    pub(crate) hidden: Vec<PathBuf>,
    /// Where a writable layer may lie that a tmpfs cannot hold.
    pub(crate) disks: Vec<PathBuf>,
    /// The `cgroup.procs` or `tasks` files to enter.
    pub(crate) cgroup: Vec<PathBuf>,
    pub(crate) stdio: Option<Stdio>,
    /// Where init is told to go on, and which signals to pass.
    pub(crate) control: Channel,
    /// How `ps` shows this process's arguments.
    pub(crate) arguments: (usize, usize),
}

/// The namespaces of a running container, in the order that `exec` enters them.
#[derive(Debug)]
pub(crate) struct Namespaces {
    pub(crate) mount: OwnedFd,
    pub(crate) uts: OwnedFd,
    pub(crate) ipc: OwnedFd,
    pub(crate) network: OwnedFd,
    pub(crate) cgroup: OwnedFd,
    pub(crate) pid: OwnedFd,
}

impl Namespaces {
    /// How many descriptors they are.
    pub(crate) const COUNT: usize = 6;

    /// Those of the calling process, before its root changes, and where to find the PID namespace of its children once it has one.
    fn current() -> Result<([OwnedFd; Self::COUNT - 1], OwnedFd)> {
        let all =
            [open_namespace("mnt")?, open_namespace("uts")?, open_namespace("ipc")?, open_namespace("net")?, open_namespace("cgroup")?];
        // To look up names in alone: it is root's and cannot be listed by a process that cannot be traced.
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let of_children = open("/proc/self/ns", flags, Mode::empty()).doing("open /proc/self/ns")?;
        Ok((all, of_children))
    }

    pub(crate) fn from_fds(fds: &mut impl Iterator<Item = OwnedFd>) -> Option<Self> {
        Some(Self { mount: fds.next()?, uts: fds.next()?, ipc: fds.next()?, network: fds.next()?, cgroup: fds.next()?, pid: fds.next()? })
    }

    pub(crate) fn fds(&self) -> [BorrowedFd<'_>; Self::COUNT] {
        [&self.mount, &self.uts, &self.ipc, &self.network, &self.cgroup, &self.pid].map(AsFd::as_fd)
    }
}

fn open_namespace(name: &str) -> Result<OwnedFd> {
    open_path(Path::new(&format!("/proc/self/ns/{name}")))
}

fn open_path(path: &Path) -> Result<OwnedFd> {
    open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).doing(format_args!("open {}", path.display()))
}

/// Does everything, in the helper.
pub(crate) fn run(report: &Channel, mut job: Job<'_>) -> Result<()> {
    let spec = job.spec;
    // With the caller's own permissions: in the user namespace they mean nothing outside.
    let foreign = foreign_network(&spec.network.mode)?;
    let host_files = HostFiles::read(&spec.network.mode);
    let skeleton = skeleton(&job)?;
    for procs in &job.cgroup {
        fs::write(procs, "0").doing(format_args!("enter the cgroup {}", procs.display()))?;
    }
    enter_user_namespace(job.userns)?;
    enter_namespaces(&job, foreign)?;
    let hostname = hostname(spec, job.id);
    if owns_network(&spec.network.mode) || spec.hostname.is_some() {
        sethostname(&hostname).doing("set the host name")?;
    }
    let links = match spec.network.mode {
        NetworkMode::Bridge => net::configure(&job.plan.attachments, Congestion::of(&spec.sysctls))?,
        NetworkMode::None => net::configure(&[], Congestion::Inherited)?,
        _ => Vec::new(),
    };
    let (kept, built) = enter_layer(&job, skeleton.as_deref())?;
    contents(job.plan, spec, job.id, host_files).write(&job.base)?;
    let terminal = job.stdio.is_none().then(|| open_terminal(&job.base)).transpose()?;
    let stdio = match (job.stdio.take(), &terminal) {
        (Some(stdio), _) => stdio,
        (None, Some(terminal)) => Stdio::terminal(process::open_peer(terminal.as_fd()).doing("open the terminal")?)?,
        (None, None) => return Err(Fault::Refused { message: "a container without streams".to_owned(), hint: None }),
    };
    let (namespaces, of_children) = Namespaces::current()?;
    let Some(pid) = process::fork_sibling().doing("start the container's init")? else { be_init(report, job, stdio, &hostname) };
    // Init is about to change the root of this process too.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let pid_namespace = openat(&of_children, "pid_for_children", flags, Mode::empty()).doing("open the container's PID namespace")?;
    let Built { notes, read_only, disk } = built;
    let disk = disk.map(Disk::into_lock);
    let mut fds: Vec<_> = kept.iter().chain(&disk).map(AsFd::as_fd).collect();
    fds.extend(namespaces.iter().chain([&pid_namespace]).map(AsFd::as_fd));
    fds.extend(terminal.iter().map(AsFd::as_fd));
    fds.extend(links.iter().map(|(_, fd)| fd.as_fd()));
    let ports = links.iter().map(|(attachment, _)| attachment.clone()).collect();
    let (layer, disk) = (kept.is_some(), disk.is_some());
    let ready = Report::Ready { pid: pid.as_raw(), layer, disk, terminal: terminal.is_some(), ports, notes, read_only };
    report.send(&ready, &fds).map_err(super::lost)
}

/// What a container's files of names say. The caller is in its UTS namespace.
pub(super) fn contents(plan: &Plan, spec: &ContainerSpec, id: &str, host: HostFiles) -> Contents {
    Contents::new(plan, &hostname(spec, id), host.hosts, host.resolv_conf)
}

/// The files of the host that a container may get a copy of.
pub(super) struct HostFiles {
    hosts: Option<String>,
    resolv_conf: String,
}

impl HostFiles {
    pub(super) fn read(mode: &NetworkMode) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self { hosts: (*mode == NetworkMode::Host).then(|| read("/etc/hosts")), resolv_conf: read("/etc/resolv.conf") }
    }
}

/// Whether the network namespace was made for this container. Only then has it a host name of its own, as with docker.
fn owns_network(mode: &NetworkMode) -> bool {
    matches!(mode, NetworkMode::Bridge | NetworkMode::None)
}

fn hostname(spec: &ContainerSpec, id: &str) -> String {
    let own = || match &spec.network.mode {
        mode if owns_network(mode) => id.chars().take(12).collect(),
        _ => nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    spec.hostname.clone().unwrap_or_else(own)
}

/// The network namespace of a mode that names one by a process or a path.
fn foreign_network(mode: &NetworkMode) -> Result<Option<OwnedFd>> {
    let of = |path: PathBuf, hint: String| open_path(&path).map(Some).map_err(|fault| fault.with_hint(hint));
    match mode {
        NetworkMode::Pid { pid } => of(format!("/proc/{pid}/ns/net").into(), format!("process {pid} must exist and be yours")),
        NetworkMode::Path { path } => {
            of(path.clone(), "the path of a network namespace that you may open, such as /run/netns/NAME".to_owned())
        }
        _ => Ok(None),
    }
}

fn skeleton(job: &Job<'_>) -> Result<Option<PathBuf>> {
    let wanted = job.userns.is_some() && job.layer.is_none() && job.spec.root.rootfs.is_none();
    wanted.then(|| rootfs::skeleton::prepare(job.root)).transpose()
}

fn enter_namespaces(job: &Job<'_>, foreign: Option<OwnedFd>) -> Result<()> {
    let mode = &job.spec.network.mode;
    let network = match (mode, job.plan.join_pid) {
        (NetworkMode::Container { .. }, Some(pid)) => {
            // The host name as well, as with docker: a new namespace copies it.
            let uts = open_path(Path::new(&format!("/proc/{pid}/ns/uts")))?;
            setns(uts, CloneFlags::CLONE_NEWUTS).doing("take the host name of the container to join")?;
            Some(open_path(Path::new(&format!("/proc/{pid}/ns/net")))?)
        }
        (NetworkMode::Container { container }, None) => {
            return Err(Fault::refused(
                format!("the container {container} is not running"),
                "only a running container's network can be joined",
            ));
        }
        _ => foreign,
    };
    if let Some(network) = network {
        setns(network, CloneFlags::CLONE_NEWNET).map_err(|errno| {
            let which = if let NetworkMode::Path { path } = mode { format!(" {}", path.display()) } else { String::new() };
            let fault = Fault::system(format!("join the network namespace{which}"), errno);
            if job.userns.is_some() {
                fault.with_hint("without root, only the network of a process in the same user namespace can be joined")
            } else {
                fault.with_hint("name a network namespace: a file of `ip netns add` under /run/netns, or /proc/PID/ns/net")
            }
        })?;
    }
    let mut flags = CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWCGROUP;
    flags.set(CloneFlags::CLONE_NEWNET, matches!(mode, NetworkMode::Bridge | NetworkMode::None));
    unshare(flags).doing("make the container's namespaces")
}

/// Enters the mount namespace of this start: a copy of the container's own, which is made on the first one.
fn enter_layer(job: &Job<'_>, skeleton: Option<&Path>) -> Result<(Option<OwnedFd>, Built)> {
    if let Some(layer) = job.layer {
        setns(layer, CloneFlags::CLONE_NEWNS).doing("enter the container's mounts")?;
        unshare(CloneFlags::CLONE_NEWNS).doing("copy the container's mounts")?;
        return Ok((None, Built::default()));
    }
    unshare(CloneFlags::CLONE_NEWNS).doing("make the container's mount namespace")?;
    let many_users = job.userns.is_none() || fs::read_to_string("/proc/self/gid_map").is_ok_and(|map| map.lines().count() > 1);
    let built = rootfs::build(&Blueprint {
        spec: &job.spec.root,
        privileged: job.spec.security.privileged,
        base: &job.base,
        skeleton,
        disk: (job.id, &job.disks),
        many_users,
        hidden: &job.hidden,
    })?;
    let kept = open_namespace("mnt")?;
    unshare(CloneFlags::CLONE_NEWNS).doing("copy the container's mounts")?;
    Ok((Some(kept), built))
}

/// The master of a new terminal in the container's /dev/pts.
fn open_terminal(base: &Path) -> Result<OwnedFd> {
    let path = base.join("root/dev/pts/ptmx");
    open(&path, OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC, Mode::empty()).doing("open a terminal")
}

/// The rest of a start, in the container's PID 1.
fn be_init(report: &Channel, job: Job<'_>, stdio: Stdio, hostname: &str) -> ! {
    let spec = job.spec;
    let fresh = fresh::Fresh {
        base: &job.base,
        privileged: spec.security.privileged,
        own_network: owns_network(&spec.network.mode),
        user_namespace: job.userns.is_some(),
        sysctls: &spec.sysctls,
    };
    let command = Command {
        argv: &spec.command,
        process: &spec.process,
        added: None,
        security: &spec.security,
        ulimits: &spec.limits.ulimits,
        hostname,
        tty: spec.tty,
        host_view: spec.root.rootfs.is_none(),
    };
    let fault = init::run(report, job.control, job.arguments, &fresh, &command, stdio);
    fail(report, fault);
    process::exit(crate::fault::OWN_FAILURE)
}
