//! Who runs netloom in a test: root, or a user who is nobody special.

use std::path::Path;

use nix::unistd::{Gid, Uid, User};

/// The ordinary user, made by `tests/run` when missing.
pub const ORDINARY_USER: &str = "netloom-test";

/// Every end-to-end test runs once as each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Root,
    User,
}

impl Who {
    /// UID and GID; `None` where the machine has no such user.
    pub fn ids(self) -> Option<(Uid, Gid)> {
        match self {
            Self::Root => Some((Uid::from_raw(0), Gid::from_raw(0))),
            Self::User => User::from_name(ORDINARY_USER).ok().flatten().map(|user| (user.uid, user.gid)),
        }
    }

    pub fn is_root(self) -> bool {
        self == Self::Root
    }

    /// Words to put before a program so that it runs as this user.
    pub(crate) fn prefix(self) -> Vec<String> {
        let Some((uid, gid)) = self.ids().filter(|_| !self.is_root()) else { return Vec::new() };
        vec!["setpriv".into(), format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into(), "--".into()]
    }

    /// Makes `path` this user's.
    pub(crate) fn own(self, path: &Path) {
        let (uid, gid) = self.ids().expect("the user exists");
        nix::unistd::chown(path, Some(uid), Some(gid)).unwrap_or_else(|why| panic!("chown {}: {why}", path.display()));
    }
}
