//! What this machine lets netloom do, for `doctor`: each finding with how to mend what is missing. Nothing is changed.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::{
        utsname::uname,
        wait::{WaitStatus, waitpid},
    },
    unistd::{User, geteuid},
};

use serde::{Deserialize, Serialize};

use crate::{
    cgroup::{Kind, Survey},
    fabric::{ping_sockets_are_allowed, rings_are_allowed},
    helper, host,
    isolation::user::become_root,
    rootfs::{
        self, mount as mounts,
        upper::{self, Disk},
    },
    spec::Backend,
    sys, tap,
    userns::{self, Mapping, UserNamespace},
    veth,
};

/// How a finding is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Good,
    /// Containers run, but something that people may want does not.
    Limited,
    /// Containers do not run.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable, for scripts: `kernel`, `tun`, …
    pub name: String,
    pub verdict: Verdict,
    /// What was found: lower case, no full stop.
    pub detail: String,
    /// How to mend it.
    pub hint: Option<String>,
}

/// Linux 5.12 has mount_setattr(2), and 5.11 overlays in user namespaces.
const KERNEL_MIN: (u32, u32) = (5, 12);

impl Finding {
    fn good(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), verdict: Verdict::Good, detail: detail.into(), hint: None }
    }

    fn limited(name: &str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name: name.to_owned(), verdict: Verdict::Limited, detail: detail.into(), hint: Some(hint.into()) }
    }

    fn bad(name: &str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { verdict: Verdict::Bad, ..Self::limited(name, detail, hint) }
    }
}

/// Looks at everything that matters to the instance at `root`, in a helper, since this process may have threads. Takes some ten
/// milliseconds.
pub fn all(root: &Path) -> io::Result<Vec<Finding>> {
    let mut helper = Command::new("/proc/self/exe");
    let helper = helper.args([helper::ARGUMENT, helper::PROBE]).arg(root).stdin(Stdio::null()).stderr(Stdio::null()).output()?;
    serde_json::from_slice(&helper.stdout).map_err(io::Error::other)
}

/// The helper's side: the findings as JSON on standard output.
pub(crate) fn serve(root: &Path) -> io::Result<()> {
    let json = serde_json::to_vec(&look(root))?;
    io::stdout().write_all(&json)
}

fn look(root: &Path) -> Vec<Finding> {
    let places = upper::places(root);
    let mut findings = vec![kernel(), tun()];
    if geteuid().is_root() {
        findings.push(backend(None));
        findings.push(Finding::good("user-namespaces", "not needed as root"));
        findings.push(proc_mount(None));
        findings.push(overlay(None, &places));
    } else {
        match userns::create() {
            Ok(namespace) => {
                findings.push(backend(Some(&namespace)));
                findings.extend([Finding::good("user-namespaces", "allowed"), mapping(namespace.mapping)]);
                findings.push(proc_mount(Some(&namespace)));
                findings.push(overlay(Some(&namespace), &places));
            }
            Err(error) => findings.push(Finding::bad("user-namespaces", error.to_string(), error.hint().unwrap_or("run netloom as root"))),
        }
    }
    findings.push(cgroups());
    findings.push(ping());
    findings.push(io_uring());
    findings
}

/// How frames are read and written.
fn io_uring() -> Finding {
    if rings_are_allowed() {
        Finding::good("io-uring", "one system call moves many frames")
    } else {
        let hint =
            "Linux 6.5 or newer has it; sysctl kernel.io_uring_disabled=0 allows it, and so does the container around netloom, if any";
        Finding::limited("io-uring", "each small frame takes two system calls", hint)
    }
}

/// How pings of containers go out.
fn ping() -> Finding {
    if ping_sockets_are_allowed() {
        Finding::good("ping", "goes out by ping sockets")
    } else if geteuid().is_root() {
        Finding::good("ping", "goes out by raw sockets, as root")
    } else {
        let hint = "as root: sysctl -w net.ipv4.ping_group_range='0 2147483647', as most systems have it";
        Finding::limited("ping", "containers' pings to the outside are answered \"packet filtered\"", hint)
    }
}

fn kernel() -> Finding {
    let release = uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    match host::version(&release) {
        Some(version) if version < KERNEL_MIN => {
            let (major, minor) = KERNEL_MIN;
            Finding::bad("kernel", format!("Linux {release}"), format!("Linux {major}.{minor} or newer is needed"))
        }
        _ => Finding::good("kernel", format!("Linux {release}")),
    }
}

fn tun() -> Finding {
    match tap::open_device() {
        Ok(_) => Finding::good("tun", format!("{} can be opened", tap::DEVICE)),
        Err(error) => {
            let hint = match error.kind() {
                io::ErrorKind::PermissionDenied => "as root: chmod 666 /dev/net/tun, as most systems have it, or a udev rule that does",
                _ => "as root: modprobe tun; inside a container, let it have the device (--device /dev/net/tun)",
            };
            Finding::limited("tun", format!("{} cannot be opened: {error}", tap::DEVICE), hint)
        }
    }
}

/// What carries the frames of a network that leaves it open.
fn backend(namespace: Option<&UserNamespace>) -> Finding {
    let flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    let attempt = |_: &Path| veth::open("probe").map(drop).map_err(|fault| fault.to_string());
    let chosen = match host::default_backend() {
        Ok(chosen) => chosen,
        Err(word) => return Finding::bad("backend", format!("{} is `{word}`", host::BACKEND), "tap or veth"),
    };
    let (wanted, why) = match (chosen, tap::open_device()) {
        (Some(chosen), _) => (chosen, format!(", as {} says", host::BACKEND)),
        (None, Ok(_)) => (Backend::Tap, String::new()),
        (None, Err(_)) => (Backend::Veth, ", since there are no TAPs".to_owned()),
    };
    match (wanted, attempt_in_child(namespace, flags, attempt)) {
        (Backend::Tap, Ok(())) => Finding::good("backend", format!("tap{why}; veth would do too")),
        (Backend::Tap, Err(_)) => Finding::good("backend", format!("tap{why}")),
        (Backend::Veth, Ok(())) => Finding::good("backend", format!("veth{why}")),
        (Backend::Veth, Err(error)) => Finding::bad(
            "backend",
            format!("veth{why}, and that does not work: {error}"),
            "as root: modprobe veth af_packet, or modprobe tun",
        ),
    }
}

fn mapping(mapping: Mapping) -> Finding {
    match mapping {
        Mapping::Ranges { users, groups } if groups > 0 => {
            Finding::good("subuids", format!("{users} users and {groups} groups besides root"))
        }
        Mapping::Ranges { .. } | Mapping::One => {
            let name = User::from_uid(geteuid()).ok().flatten().map_or_else(|| geteuid().to_string(), |user| user.name);
            let missing = ["newuidmap", "newgidmap"].into_iter().find(|program| !is_program(program));
            let hint = match missing {
                Some(program) => format!("as root: apt install uidmap, which has {program}"),
                None => format!("as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"),
            };
            Finding::limited("subuids", "containers have no user but root", hint)
        }
    }
}

fn is_program(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
}

fn cgroups() -> Finding {
    let survey = Survey::read();
    let name = "cgroups";
    match survey.kind() {
        Kind::Unified => match survey.unified_parent() {
            Some(parent) => {
                let controllers = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
                let missing: Vec<_> =
                    ["memory", "pids"].into_iter().filter(|name| !controllers.split_whitespace().any(|has| has == *name)).collect();
                if missing.is_empty() {
                    return Finding::good(name, format!("version 2 at {}", parent.display()));
                }
                let hint = "systemd delegates them to users with Delegate=memory pids in user@.service";
                Finding::limited(
                    name,
                    format!("version 2 at {}, without {}: no such limits", parent.display(), missing.join(" and ")),
                    hint,
                )
            }
            None => Finding::limited(
                name,
                "version 2, with no group delegated to this user: no limits",
                "run it under `systemd-run --user --scope -p Delegate=yes`",
            ),
        },
        Kind::Legacy => {
            let ours = |controller| {
                survey.legacy(controller).is_some_and(|group| nix::unistd::access(group, nix::unistd::AccessFlags::W_OK).is_ok())
            };
            let missing: Vec<_> = ["memory", "pids", "freezer"].into_iter().filter(|controller| !ours(*controller)).collect();
            if missing.is_empty() {
                Finding::good(name, "version 1")
            } else {
                Finding::limited(
                    name,
                    format!("version 1, without {}", missing.join(", ")),
                    "run netloom as root, or boot with systemd.unified_cgroup_hierarchy=1",
                )
            }
        }
        Kind::None => Finding::limited(name, "none: no limits, and pause works by signals", "mount cgroup2 at /sys/fs/cgroup"),
    }
}

/// Whether a fresh /proc can be mounted, as every container needs.
fn proc_mount(namespace: Option<&UserNamespace>) -> Finding {
    let attempt = |dir: &Path| mounts::fresh("proc", dir, mounts::inert(), "").map_err(|fault| fault.to_string());
    let flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    match attempt_in_child(namespace, flags, attempt) {
        Ok(()) => Finding::good("proc", "a fresh /proc can be mounted"),
        Err(error) => {
            let hint = "inside another container parts of /proc are hidden, and then no new one is allowed: run that container with --privileged or \
                        --security-opt systempaths=unconfined";
            Finding::bad("proc", format!("a fresh /proc cannot be mounted: {error}"), hint)
        }
    }
}

/// Whether the host's root can be shown copy-on-write: by overlays whose writable side is on a tmpfs, or else in one of `places`.
fn overlay(namespace: Option<&UserNamespace>, places: &[PathBuf]) -> Finding {
    let user = namespace.is_some();
    let in_memory = move |dir: &Path| try_overlay(dir, dir, user).map_err(|error| error.to_string());
    let error = match attempt_in_child(namespace, CloneFlags::CLONE_NEWNS, in_memory) {
        Ok(()) => return covered(user).unwrap_or_else(|| Finding::good("overlay", "the host's root can be shown copy-on-write")),
        Err(error) => error,
    };
    let on_disk = |place: &&PathBuf| {
        let attempt = |dir: &Path| try_overlay_on_disk(dir, place).map_err(|error| error.to_string());
        attempt_in_child(namespace, CloneFlags::CLONE_NEWNS, attempt).is_ok()
    };
    match places.iter().find(on_disk) {
        Some(place) => {
            let text = "the host's root can be shown copy-on-write; a tmpfs has no user attributes here, so what changes lies in";
            covered(user).unwrap_or_else(|| Finding::good("overlay", format!("{text} {}", place.display())))
        }
        None => {
            let hint = "as root: modprobe overlay; in user namespaces it needs Linux 5.11, and 6.6 or a /var/tmp with user attributes";
            Finding::limited("overlay", format!("no copy-on-write: {error}; the host's files are read-only in containers"), hint)
        }
    }
}

/// Directories that no overlay of a user's can show, for the kernel uncovers nothing that something is mounted on.
fn covered(user: bool) -> Option<Finding> {
    let covered = user.then(|| rootfs::covered().ok()).flatten().filter(|covered| !covered.is_empty())?;
    let paths = covered.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    let text = format!("files are mounted in {paths}, which is therefore read-only in containers; the rest is shown copy-on-write");
    Some(Finding::limited("overlay", text, "unmount these files (see /proc/self/mountinfo), or run netloom as root"))
}

fn try_overlay_on_disk(dir: &Path, place: &Path) -> io::Result<()> {
    let name = format!("probe-{}", std::process::id());
    let disk = Disk::claim(&[place.to_owned()], &name).ok_or(io::ErrorKind::Unsupported)?;
    let tried = try_overlay(dir, &disk.path, true);
    fs::remove_dir_all(&disk.path)?;
    tried
}

/// An overlay in `dir`, with its writable side in `layers`.
fn try_overlay(dir: &Path, layers: &Path, user: bool) -> io::Result<()> {
    let none: Option<&str> = None;
    mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), none)?;
    if user && !upper::has_user_attributes(layers) {
        return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
    }
    let (lower, at, upper, work) = (dir.join("lower"), dir.join("at"), layers.join("upper"), layers.join("work"));
    [&lower, &at, &upper, &work].into_iter().try_for_each(fs::create_dir)?;
    let extra = if user { ",userxattr" } else { "" };
    let options = format!("lowerdir={},upperdir={},workdir={}{extra}", lower.display(), upper.display(), work.display());
    mount(Some("overlay"), &at, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
    let probe = upper.join("probe");
    fs::create_dir(&probe)?;
    let name = if user { c"user.overlay.opaque" } else { c"trusted.overlay.opaque" };
    let marked = sys::mount::set_attribute(&probe, name, b"y");
    umount2(&at, MntFlags::MNT_DETACH)?;
    Ok(marked?)
}

/// Tries something on a directory, in namespaces of its own.
fn attempt_in_child(
    namespace: Option<&UserNamespace>,
    flags: CloneFlags,
    attempt: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (reader, writer) = nix::unistd::pipe().map_err(|errno| text(&errno))?;
    let Some(child) = sys::process::fork().map_err(|errno| text(&errno))? else {
        let trial = || -> Result<(), String> {
            enter(namespace, flags).map_err(|error| text(&error))?;
            // A PID namespace is that of children only.
            let Some(inner) = sys::process::fork().map_err(|errno| text(&errno))? else {
                let told = attempt(&std::env::temp_dir()).err().unwrap_or_default();
                let code = i32::from(File::from(writer).write_all(told.as_bytes()).is_err());
                sys::process::exit(code)
            };
            match waitpid(inner, None) {
                Ok(WaitStatus::Exited(_, 0)) => Ok(()),
                other => Err(format!("the trial ended early: {other:?}")),
            }
        };
        let code = match trial() {
            Ok(()) => 0,
            Err(error) => i32::from(io::stderr().write_all(error.as_bytes()).is_err()) + 1,
        };
        sys::process::exit(code)
    };
    drop(writer);
    let told = io::read_to_string(File::from(reader)).map_err(|error| text(&error))?;
    match waitpid(child, None) {
        Ok(WaitStatus::Exited(_, 0)) if told.is_empty() => Ok(()),
        Ok(WaitStatus::Exited(_, 0)) => Err(told),
        _ => Err("its namespaces cannot be made".to_owned()),
    }
}

fn enter(namespace: Option<&UserNamespace>, flags: CloneFlags) -> io::Result<()> {
    if let Some(namespace) = namespace {
        setns(&namespace.fd, CloneFlags::CLONE_NEWUSER)?;
        become_root().map_err(io::Error::other)?;
    }
    unshare(flags)?;
    let none: Option<&str> = None;
    Ok(mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?)
}
