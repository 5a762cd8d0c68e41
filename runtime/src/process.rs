//! The last steps of a command: streams, user, limits, capabilities, system call filter, and exec.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::{ffi::OsStrExt, fs::PermissionsExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{SigSet, SigmaskHow, sigprocmask},
        stat::{Mode, umask},
    },
    unistd::{chdir, execve, fchown, setsid},
};

use crate::{
    channel::Channel,
    descriptors,
    fault::{Doing, Fault, Result},
    helper::{self, Report},
    isolation::{
        caps,
        limits::{self, Limit},
        seccomp::Filters,
        user::{Identity, look_up},
    },
    spec::{ProcessSpec, SecuritySpec},
    sys,
};

/// The standard streams of a process to be.
#[derive(Debug)]
pub(crate) struct Stdio {
    pub(crate) input: OwnedFd,
    pub(crate) output: OwnedFd,
    pub(crate) error: OwnedFd,
}

impl Stdio {
    /// All three on one terminal.
    pub(crate) fn terminal(terminal: OwnedFd) -> Result<Self> {
        let copy = || terminal.try_clone().doing("copy the terminal");
        Ok(Self { input: copy()?, error: copy()?, output: terminal })
    }
}

/// A command to be executed in the container that the calling process is in.
#[derive(Debug)]
pub(crate) struct Command<'a> {
    pub(crate) argv: &'a [String],
    pub(crate) process: &'a ProcessSpec,
    /// What an exec adds to the container's own.
    pub(crate) added: Option<&'a ProcessSpec>,
    pub(crate) security: &'a SecuritySpec,
    pub(crate) ulimits: &'a [Limit],
    pub(crate) hostname: &'a str,
    pub(crate) tty: bool,
    /// Whether the root is the host's: people who expect images get a hint.
    pub(crate) host_view: bool,
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

impl Command<'_> {
    /// Becomes the command; returns only with what went wrong. The caller is a fresh child with no descriptor that the command must
    /// not have, except `report`, which closes on exec.
    pub(crate) fn execute(&self, report: &Channel, stdio: Stdio) -> Fault {
        match self.try_execute(report, stdio) {
            Err(fault) => fault,
            Ok(never) => match never {},
        }
    }

    fn try_execute(&self, report: &Channel, stdio: Stdio) -> Result<std::convert::Infallible> {
        setsid().doing("start a session")?;
        if self.tty {
            sys::process::set_controlling_terminal(stdio.output.as_fd()).doing("take the terminal")?;
        }
        // Without keys of our caller; a kernel without keyrings has none to leak.
        let _ = sys::process::new_session_keyring();
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let user = self.added.and_then(|added| added.user.as_deref()).or(self.process.user.as_deref());
        let identity = look_up(user, &read("/etc/passwd"), &read("/etc/group"))?;
        let capabilities = caps::wanted(self.security)?;
        let filters = (!self.security.privileged && !self.security.seccomp_unconfined).then(|| Filters::new(&capabilities)).transpose()?;
        let environment = self.environment(&identity);
        descriptors::restore();
        limits::set(self.ulimits)?;
        umask(Mode::from_bits_truncate(self.added.unwrap_or(self.process).umask));
        self.arrange(&stdio, &identity)?;
        caps::bound(&capabilities)?;
        let no_new_privileges = self.security.no_new_privileges && !self.security.privileged;
        // Without no_new_privs a filter needs CAP_SYS_ADMIN, which is about to go.
        if !no_new_privileges {
            filters.iter().try_for_each(Filters::install)?;
        }
        self.make_workdir();
        identity.assume()?;
        helper::protect()?;
        self.enter_workdir()?;
        let program = self.find(&environment)?;
        let pidfd = sys::process::open_pid(nix::unistd::getpid()).doing("name the process")?;
        report.send(&Report::Executing, &[pidfd.as_fd()]).map_err(helper::lost)?;
        drop(pidfd);
        restore_signals()?;
        caps::limit(&capabilities)?;
        if no_new_privileges {
            prctl::set_no_new_privs().doing("set no_new_privs")?;
            filters.iter().try_for_each(Filters::install)?;
        }
        Err(self.exec(&program, &environment))
    }

    /// Streams to 0, 1 and 2; they belong to the user, who may open /dev/stdout.
    fn arrange(&self, stdio: &Stdio, identity: &Identity) -> Result<()> {
        for stream in [&stdio.input, &stdio.output, &stdio.error] {
            if identity.uid != 0 {
                // /dev/null and what is no pipe of ours cannot be given away, nor need it.
                let owner = nix::unistd::Uid::from_raw(identity.uid);
                let own = nix::sys::stat::fstat(stream).is_ok_and(|found| found.st_rdev == 0 || self.tty);
                let _ = own.then(|| fchown(stream, Some(owner), None));
            }
        }
        nix::unistd::dup2_stdin(&stdio.input).doing("set standard input")?;
        nix::unistd::dup2_stdout(&stdio.output).doing("set standard output")?;
        nix::unistd::dup2_stderr(&stdio.error).doing("set standard error")
    }

    fn workdir(&self) -> &Path {
        let workdir = self.added.and_then(|added| added.workdir.as_deref()).or(self.process.workdir.as_deref());
        workdir.unwrap_or_else(|| Path::new("/"))
    }

    /// As docker does for `-w`, whoever the command's user is. What is in the way shows when the directory is entered.
    fn make_workdir(&self) {
        let dir = self.workdir();
        if self.added.is_none() && !dir.exists() {
            let _ = fs::create_dir_all(dir);
        }
    }

    fn enter_workdir(&self) -> Result<()> {
        let dir = self.workdir();
        chdir(dir).doing(format_args!("enter the working directory {}", dir.display()))
    }

    /// What was asked for over what is usual; later words win.
    fn environment(&self, identity: &Identity) -> Vec<String> {
        let mut usual = vec![PATH.to_owned(), format!("HOSTNAME={}", self.hostname), format!("HOME={}", identity.home.display())];
        if self.tty {
            usual.push("TERM=xterm".to_owned());
        }
        let asked = self.process.env.iter().chain(self.added.into_iter().flat_map(|added| &added.env));
        let mut order = Vec::new();
        let mut values = BTreeMap::new();
        for word in usual.iter().chain(asked) {
            let key = word.split('=').next().unwrap_or_default();
            if values.insert(key.to_owned(), word.clone()).is_none() {
                order.push(key.to_owned());
            }
        }
        order.iter().filter_map(|key| values.remove(key)).collect()
    }

    fn name(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    /// The program's path: as given if it has a slash, else along PATH, as execvp(3) does.
    fn find(&self, environment: &[String]) -> Result<PathBuf> {
        let name = self.name();
        if name.contains('/') {
            return Ok(name.into());
        }
        let path = environment.iter().find_map(|word| word.strip_prefix("PATH=")).unwrap_or_default();
        let mut refused = None;
        for dir in path.split(':').filter(|_| !name.is_empty()) {
            let candidate = Path::new(if dir.is_empty() { "." } else { dir }).join(name);
            match fs::metadata(&candidate) {
                Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => return Ok(candidate),
                Ok(found) if found.is_file() => refused = Some(Errno::EACCES),
                _ => {}
            }
        }
        Err(self.failed(refused.unwrap_or(Errno::ENOENT)))
    }

    fn exec(&self, program: &Path, environment: &[String]) -> Fault {
        let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno::EINVAL);
        let execute = || -> nix::Result<std::convert::Infallible> {
            let argv = self.argv.iter().map(|word| text(word.as_bytes())).collect::<nix::Result<Vec<_>>>()?;
            let env = environment.iter().map(|word| text(word.as_bytes())).collect::<nix::Result<Vec<_>>>()?;
            execve(&text(program.as_os_str().as_bytes())?, &argv, &env)
        };
        match execute() {
            Err(errno) => self.failed(errno),
            Ok(never) => match never {},
        }
    }

    fn failed(&self, errno: Errno) -> Fault {
        let name = self.name();
        let (why, code) = match errno {
            Errno::ENOENT | Errno::ENOTDIR => ("it is not there".to_owned(), NOT_FOUND),
            other => (io::Error::from(other).to_string(), NOT_EXECUTABLE),
        };
        let hint = match errno {
            Errno::ENOENT if self.host_view && !name.contains('/') => Some(
                "containers run the host's own programs; for the files of an image, unpack it and give its directory to --rootfs"
                    .to_owned(),
            ),
            Errno::ENOENT if name.contains('/') && Path::new(name).exists() => Some("its interpreter is missing".to_owned()),
            Errno::EACCES => Some("it must be a file with execute permission for this user, or its directory is closed to them".to_owned()),
            Errno::ENOEXEC => Some("a script begins with #! and its interpreter; a program is for this kind of machine".to_owned()),
            _ => None,
        };
        Fault::Command { message: format!("cannot execute `{name}`: {why}"), hint, code }
    }
}

/// Signals as a command expects them: none blocked, none ignored.
fn restore_signals() -> Result<()> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).doing("unblock signals")?;
    sys::process::default_signals();
    Ok(())
}

/// Closes every descriptor but the standard ones, `keep` and those of `stdio`.
pub(crate) fn close_others(keep: &[RawFd], stdio: &Stdio) {
    let streams = [&stdio.input, &stdio.output, &stdio.error].map(AsRawFd::as_raw_fd);
    keep_only(&[keep, &streams].concat());
}

/// Closes every descriptor but the standard ones and `keep`, whoever owns it: for a process that ends without destructors.
pub(crate) fn keep_only(keep: &[RawFd]) {
    let mut keep = keep.to_vec();
    keep.sort_unstable();
    let mut first = 3;
    for fd in keep.into_iter().filter(|fd| *fd >= 3) {
        if fd > first {
            let _ = sys::process::close_range(first, fd - 1);
        }
        first = fd + 1;
    }
    let _ = sys::process::close_range(first, RawFd::MAX);
}
