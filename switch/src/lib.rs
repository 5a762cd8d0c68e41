//! netloom's switch: bytes and time, nothing else.
//!
//! This crate decides what happens to every frame and answers what a network answers. It never opens a socket or a file, never
//! reads a clock, never draws a random number and has no unsafe code: time and randomness are arguments, and the outside world
//! is the trait [`gateway::Outside`].
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod checksum;
pub mod count;
pub mod frame;
pub mod gateway;
pub mod mac;
pub mod names;
pub mod port;
pub mod time;

pub use count::{DropReason, PortCounters, PortCounts};
pub use frame::{Checksum, Frame, Gso, GsoKind, Offload};
pub use mac::Mac;
pub use port::{PortId, PortSet};
pub use time::Time;
