//! What a container's processes may do: capabilities, system calls, users and limits.

pub(crate) mod caps;
pub(crate) mod limits;
pub(crate) mod seccomp;
mod syscalls;
pub(crate) mod user;
