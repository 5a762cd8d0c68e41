//! netloom's Linux: TAP and veth ports, workers, namespaces, containers and host sockets.
//!
//! This crate never prints, never parses arguments and never decides what a frame's fate is. All its unsafe code stands in
//! `sys.rs`.
#![deny(unsafe_code)]

pub mod cgroup;
pub mod channel;
mod descriptors;
pub mod fabric;
mod fault;
pub mod heap;
pub mod helper;
pub mod holder;
pub mod host;
mod init;
mod isolation;
mod netlink;
mod parts;
pub mod probe;
mod process;
pub mod protocol;
pub mod rootfs;
mod shield;
pub mod socket_path;
pub mod sockets;
pub mod spec;
pub mod supervisor;
pub mod switches;
#[expect(unsafe_code, reason = "the one place for system calls that no safe wrapper covers")]
mod sys;
pub mod tap;
pub mod userns;
mod veth;
