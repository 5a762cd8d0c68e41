//! The limit of open descriptors: as high as may be for what netloom holds itself, and as it was for what it executes.
//!
//! Supervisors and the daemon hold a descriptor for each listener and flow. A command gets the soft limit that its caller had: some
//! programs still use select(2), or close every descriptor there could be.

use std::sync::OnceLock;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// The soft limit that this process began with, or was told of.
static FIRST: OnceLock<u64> = OnceLock::new();

/// Raises the soft limit of this process to the hard one; `first` is the soft limit that commands are to get, by default the present
/// one. Returns the limit now; `None` where there is none.
pub(crate) fn raise(first: Option<u64>) -> Option<u64> {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        FIRST.get_or_init(|| first.unwrap_or(soft).min(hard));
        // With the limit as it was, fewer fit; each that does not is refused and told.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft).filter(|soft| *soft != RLIM_INFINITY)
}

/// The soft limit for a command.
pub(crate) fn first() -> Option<u64> {
    FIRST.get().copied().or_else(|| getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft))
}

/// Sets the limit for a command, in the process that becomes it.
pub(crate) fn restore() {
    if let (Some(first), Ok((_, hard))) = (FIRST.get(), getrlimit(Resource::RLIMIT_NOFILE)) {
        // Lowering a soft limit is always allowed.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, (*first).min(hard), hard);
    }
}
