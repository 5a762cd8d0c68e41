//! TCP flows of one port.

use std::net::SocketAddr;

/// What tells one flow from another: the container's endpoint and the one it talks to, as the container sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FlowKey {
    pub(super) inside: SocketAddr,
    pub(super) outside: SocketAddr,
}
