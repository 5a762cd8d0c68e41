//! What the end-to-end tests stand on: a host of their own, the built binary in it, terminals, and a look at what was left behind.
//!
//! It never touches the machine's own network: every test has a [`Host`], which is a set of namespaces that die with one process.
//! It never sleeps for luck: every wait has a condition and a bound.
//!
//! ```text
//!            the machine (untouched)
//!   ┌─────────────────────────────────────────────────────┐
//!   │ Host: net, mount, pid, uts and ipc namespaces       │
//!   │   bash, PID 1: reaps; its end ends everything here  │
//!   │   eth0 10.99.0.2/24 ── veth ── 10.99.0.1 uplink0    │
//!   │   netloom, its daemon,         namespace `server`:  │
//!   │   its containers               the world outside    │
//!   └─────────────────────────────────────────────────────┘
//! ```
#![forbid(unsafe_code)]

mod both;
pub mod console;
mod dns;
mod host;
mod needs;
mod netloom;
mod process;
mod report;
mod snapshot;
mod terminal;
mod usage;
mod user;
mod wait;

pub use both::{for_each_case, run_case};
pub use dns::DnsServer;
pub use host::{CLIENT_IP, FAR_IP, FAR_IP6, HOST_IP, HOST_IP6, Host, Place, SERVER_IP, SERVER_IP6, backend};
pub use needs::{Need, can_run};
pub use netloom::{Netloom, at};
pub use process::{Finished, Running, words};
pub use report::report;
pub use snapshot::Snapshot;
pub use terminal::Terminal;
pub use user::{ORDINARY_USER, Who};
pub use wait::{DEADLINE, wait_for, wait_until};
