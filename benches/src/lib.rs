//! What the benchmarks share: netloom and its peers, the work they are given, the programs that do the work, and the arithmetic.
//!
//! ```text
//!  benches/peers.rs ── plan: who runs after whom ──▶ work ──▶ load (this binary again, inside a namespace) ──▶ one Sample
//!                                                     │
//!                                                     └─ on a Peer: two ends A and B, and the switch or NAT between them
//!  samples ──▶ report: medians and paired ratios (stats), with the machine's facts, as a table and as JSON
//! ```
//!
//! Everything happens in network, mount and process namespaces that [`stage`] makes; whatever ends the bench ends all of it.
#![forbid(unsafe_code)]

pub mod error;
pub mod figures;
pub mod load;
pub mod machine;
pub mod netns;
pub mod peer;
pub mod plan;
pub mod process;
pub mod report;
pub mod stage;
pub mod stats;
pub mod suites;
pub mod sysctl;
pub mod table;
pub mod targets;
pub mod work;

pub use error::{BenchError, Result};
