//! Where an instance keeps its things: one directory for what runs, one for what outlives a reboot.
//!
//! | place | when | what |
//! |---|---|---|
//! | root | `--root`, `NETLOOM_ROOT`; /run/netloom for root; `$XDG_RUNTIME_DIR/netloom`; /tmp/netloom-UID | sockets, locks, containers, leases, the log |
//! | state | /var/lib/netloom; `$XDG_STATE_HOME/netloom`; ~/.local/state/netloom; ROOT/state where the root was named or there is no home | networks, containers that come back |
//!
//! The root is the one thing that keeps other users out, so it is 0700 and ours, and no symbolic link is followed to it in /tmp.

use std::{
    env, fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

use nix::unistd::{Uid, geteuid};

/// The directories of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    pub root: PathBuf,
    pub state: PathBuf,
}

/// Why the root cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PathsError {
    #[error("cannot {what} `{path}`: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("`{0}` is not a directory")]
    NotADirectory(PathBuf),
    #[error("`{path}` belongs to user {owner}, not to user {us}")]
    NotOurs { path: PathBuf, owner: u32, us: u32 },
    #[error("`{path}` is open to others (mode {mode:o})")]
    TooOpen { path: PathBuf, mode: u32 },
}

impl PathsError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::TooOpen { path, .. } => format!("chmod 700 {}", path.display()),
            _ => "name another directory with --root or NETLOOM_ROOT".to_owned(),
        }
    }
}

impl Paths {
    /// The instance that `--root` names, or `NETLOOM_ROOT`, or this user's own. Nothing is made yet.
    pub fn resolve(root: Option<&Path>) -> Result<Self, PathsError> {
        let named = root.map(Path::to_owned).or_else(|| env::var_os("NETLOOM_ROOT").filter(|value| !value.is_empty()).map(PathBuf::from));
        let root = named.unwrap_or_else(|| default_root(geteuid(), env_path("XDG_RUNTIME_DIR")));
        let absolute = std::path::absolute(&root).map_err(|source| PathsError::Io { what: "find", path: root, source })?;
        Ok(Self::at(&absolute))
    }

    /// The instance whose root is the absolute path `root`, as a supervisor or the daemon itself knows it.
    pub fn at(root: &Path) -> Self {
        let root: PathBuf = root.components().filter(|part| *part != Component::CurDir).collect();
        let state = if is_default(&root) { default_state(&root) } else { root.join("state") };
        Self { root, state }
    }

    /// Makes the root if it is missing, and checks that it is a directory of ours that is closed to others.
    pub fn make_root(&self) -> Result<(), PathsError> {
        let path = &self.root;
        let io = |what| move |source| PathsError::Io { what, path: path.clone(), source };
        if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
            fs::create_dir_all(parent).map_err(io("make"))?;
        }
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io("make")(error)),
            _ => {}
        }
        check(path, geteuid())
    }

    pub fn socket(&self) -> PathBuf {
        self.root.join("netloom.sock")
    }

    pub fn supervisor_socket(&self) -> PathBuf {
        self.root.join("supervisor.sock")
    }

    /// Held by whoever starts the daemon, and by the daemon while it decides to end.
    pub fn start_lock(&self) -> PathBuf {
        self.root.join("daemon.lock")
    }

    /// Held by the daemon for life; its PID is inside.
    pub fn life_lock(&self) -> PathBuf {
        self.root.join("daemon.pid")
    }

    pub fn log(&self) -> PathBuf {
        self.root.join("daemon.log")
    }

    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    pub fn container(&self, id: &str) -> PathBuf {
        self.containers().join(id)
    }

    /// The holders of interfaces in namespaces that are not ours, one directory each.
    pub fn holders(&self) -> PathBuf {
        self.root.join("holders")
    }

    pub fn holder(&self, id: &str) -> PathBuf {
        self.holders().join(id)
    }

    pub fn leases(&self) -> PathBuf {
        self.root.join("leases")
    }

    /// The networks, one file each.
    pub fn networks(&self) -> PathBuf {
        self.state.join("networks")
    }

    /// The containers that come back after a reboot, one file each.
    pub fn revenants(&self) -> PathBuf {
        self.state.join("containers")
    }
}

fn env_path(name: &str) -> Option<PathBuf> {
    env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn default_root(user: Uid, runtime_dir: Option<PathBuf>) -> PathBuf {
    if user.is_root() {
        return "/run/netloom".into();
    }
    runtime_dir.map_or_else(|| format!("/tmp/netloom-{user}").into(), |dir| dir.join("netloom"))
}

/// Whether nobody named this root. The environment is not asked alone: a supervisor's may differ from that of the first command.
fn is_default(root: &Path) -> bool {
    let user = geteuid();
    let usual = [Some(PathBuf::from(format!("/run/user/{user}"))), None, env_path("XDG_RUNTIME_DIR")];
    usual.into_iter().any(|dir| default_root(user, dir) == root)
}

/// Where the default instance's state lies; without a home of one's own, as daemons' users have none, beside everything else.
fn default_state(root: &Path) -> PathBuf {
    let user = geteuid();
    if user.is_root() {
        return "/var/lib/netloom".into();
    }
    let is_ours = |home: &PathBuf| fs::metadata(home).is_ok_and(|found| found.is_dir() && found.uid() == user.as_raw());
    let home = || env_path("HOME").filter(is_ours).map(|home| home.join(".local/state"));
    env_path("XDG_STATE_HOME").or_else(home).map_or_else(|| root.join("state"), |dir| dir.join("netloom"))
}

fn check(path: &Path, us: Uid) -> Result<(), PathsError> {
    let found = fs::symlink_metadata(path).map_err(|source| PathsError::Io { what: "look at", path: path.to_owned(), source })?;
    if !found.is_dir() {
        return Err(PathsError::NotADirectory(path.to_owned()));
    }
    if found.uid() != us.as_raw() {
        return Err(PathsError::NotOurs { path: path.to_owned(), owner: found.uid(), us: us.as_raw() });
    }
    let mode = found.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(PathsError::TooOpen { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = env::temp_dir().join(format!("netloom-paths-{}-{name}", std::process::id()));
        fs::remove_dir_all(&dir).ok();
        dir
    }

    #[test]
    fn each_user_has_a_root_of_their_own() {
        assert_eq!(default_root(Uid::from_raw(0), Some("/run/user/0".into())), Path::new("/run/netloom"));
        assert_eq!(default_root(Uid::from_raw(7), Some("/run/user/7".into())), Path::new("/run/user/7/netloom"));
        assert_eq!(default_root(Uid::from_raw(7), None), Path::new("/tmp/netloom-7"));
    }

    #[test]
    fn a_named_root_keeps_its_state_inside() {
        assert_eq!(Paths::at(Path::new("/srv/x/./lab")).state, Path::new("/srv/x/lab/state"));
    }

    #[test]
    fn a_root_that_others_can_enter_or_that_is_a_link_is_refused() {
        let dir = scratch("open");
        let paths = Paths::at(&dir.join("root"));
        paths.make_root().unwrap();
        paths.make_root().unwrap();
        fs::set_permissions(&paths.root, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(paths.make_root(), Err(PathsError::TooOpen { mode: 0o755, .. })));
        fs::set_permissions(&paths.root, fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink(&paths.root, dir.join("link")).unwrap();
        assert!(matches!(Paths::at(&dir.join("link")).make_root(), Err(PathsError::NotADirectory(_))));
        fs::write(dir.join("file"), "").unwrap();
        assert!(matches!(Paths::at(&dir.join("file")).make_root(), Err(PathsError::NotADirectory(_))));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn another_users_root_is_refused() {
        let dir = scratch("other");
        Paths::at(&dir).make_root().unwrap();
        let stranger = Uid::from_raw(geteuid().as_raw() + 1);
        assert!(matches!(check(&dir, stranger), Err(PathsError::NotOurs { .. })));
        fs::remove_dir_all(dir).unwrap();
    }
}
