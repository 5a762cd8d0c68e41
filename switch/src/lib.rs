//! netloom's switch: bytes and time, nothing else.
//!
//! This crate decides what happens to every frame and answers what a network answers. It never opens a socket or a file, never
//! reads a clock, draws no random number but the keys of its hash tables, and has no unsafe code: time and randomness are arguments,
//! and the outside world is the trait [`gateway::Outside`].
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod admit;
pub mod checksum;
mod config;
pub mod count;
mod decide;
pub mod fdb;
pub mod frame;
pub mod gateway;
pub mod gso;
pub mod ipam;
pub mod mac;
pub mod names;
pub mod parse;
pub mod port;
pub mod subnet;
pub mod switch;
#[cfg(any(test, feature = "testkit"))]
#[cfg_attr(
    not(test),
    expect(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "a failed expectation of a test panics"
    )
)]
pub mod testkit;
pub mod time;
pub mod vnet;

pub use config::{PortSettings, ReservedMacs, Settings};
pub use count::{DropReason, PortCounters, PortCounts};
pub use fdb::{Fdb, FdbEntry};
pub use frame::{Checksum, Frame, Gso, GsoKind, Offload};
pub use mac::Mac;
pub use parse::{Ethernet, Headers};
pub use port::{PortId, PortSet};
pub use switch::{PinError, Switch, Verdict};
pub use time::Time;
