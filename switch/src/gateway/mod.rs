//! The gateway of a network as one port sees it.

mod outside;

pub use outside::{Datagram, Outside, OutsideError, Readiness, SocketId};
