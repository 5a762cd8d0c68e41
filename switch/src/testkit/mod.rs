//! For tests: frames, a lab of fake ports under a virtual clock, reference models, and what the fuzzers run.
//!
//! Built for this crate's own tests and, with the feature `testkit`, for those of others. Here a failed expectation panics, as
//! in any test.

mod build;
pub mod fuzz;
mod lab;
mod model;
mod receiver;
mod wire;

pub use build::{Built, Eth, TcpFields, eth};
pub use lab::{Lab, mac};
pub use model::{Model, Op, Table};
pub use receiver::{Others, neighbourhood};
pub use wire::{is_right_on_a_wire, joined};
