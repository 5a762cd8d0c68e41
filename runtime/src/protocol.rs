//! What the processes of an instance say to each other.
//!
//! ```text
//!   netloom run ──HTTP──▶ daemon ◀──supervisor.sock (SEQPACKET, JSON, descriptors)── supervisor ──spawns──▶ helper ─▶ init
//!        └──────────────── containers/<id>/attach.sock (STREAM, frames) ─────────────────▲
//! ```
//!
//! - A supervisor speaks first: [`ToDaemon::Hello`]. A daemon that comes back after a crash learns everything it needs from
//!   these: which containers run, their descriptors, and the instance's user namespace.
//! - A session on `attach.sock` is one `run`, `start -a`, `attach`, `exec` or `cp`: an [`Open`], then data frames both ways, then
//!   [`FromSupervisor::Exited`].
//!
//! The version is that of the whole protocol; a supervisor outlives an upgrade of the daemon, so fields are only ever added.

use serde::{Deserialize, Serialize};

use crate::spec::{Attachment, ExecSpec, HoldSpec, Plan, Protocol, Publication};

pub const VERSION: u32 = 1;

/// A request to a supervisor, numbered by the daemon.
pub type RequestId = u64;

/// From a supervisor to the daemon. Descriptors travel beside the message, in the order that the message lists things.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum ToDaemon {
    /// Descriptors: the user namespace if `userns`, then `ports`, then `listeners`.
    Hello {
        version: u32,
        container: String,
        state: SupervisorState,
        userns: bool,
        ports: Vec<Attachment>,
        listeners: Vec<Listener>,
        /// An `Attach` follows with more of them.
        #[serde(default)]
        more: bool,
    },
    /// What a holder says in the place of `Hello`. Descriptor: the TAP if `port`. `Prepare`, `Attach` and `Done` follow as from a
    /// supervisor; of the requests it knows `Remove`.
    Hold {
        version: u32,
        /// 64 hex digits.
        holder: String,
        what: HoldSpec,
        port: Option<Attachment>,
    },
    /// A start begins: addresses are wanted. Answered by `Plan` or `Refused`.
    Prepare,
    /// Ports and listeners are there. Descriptors: `ports`, then `listeners`. Answered by `Attached` or `Refused`, once the last part
    /// has come.
    Attach {
        ports: Vec<Attachment>,
        listeners: Vec<Listener>,
        /// Another `Attach` follows with more of them.
        #[serde(default)]
        more: bool,
    },
    /// Interfaces or listeners were closed; the daemon closes its own descriptors.
    Detach {
        networks: Vec<String>,
        /// All of each, and of those equal to it.
        publications: Vec<Publication>,
        /// These alone.
        #[serde(default)]
        listeners: Vec<Listener>,
    },
    /// The command has been executed; `pid` is the command itself as the host sees it. Init, its parent, cannot be traced, so without
    /// root its namespaces could not be joined by others.
    Started {
        pid: i32,
        /// What of the root cannot be changed in place, and why, in words for people.
        #[serde(default)]
        read_only: Vec<String>,
    },
    /// The container ended, or a start failed (`error` says how).
    Exited {
        code: i32,
        error: Option<String>,
        will_restart: bool,
        /// Whether the kernel killed a process of it because its memory limit was reached.
        #[serde(default)]
        oom_killed: bool,
    },
    Paused {
        paused: bool,
    },
    /// The answer to a numbered request.
    Done {
        request: RequestId,
        error: Option<Failure>,
    },
}

/// From the daemon to a supervisor.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum ToSupervisor {
    /// Descriptor: the instance's user namespace if `userns`.
    Welcome {
        version: u32,
        userns: bool,
    },
    Plan {
        plan: Plan,
    },
    Attached,
    Refused {
        failure: Failure,
    },
    Request {
        request: RequestId,
        what: Request,
    },
}

/// What the daemon asks of a running supervisor; each is answered by [`ToDaemon::Done`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Request {
    Start,
    /// SIGTERM, then SIGKILL after `grace_seconds`; done when the container has ended. No restart follows.
    Stop {
        grace_seconds: u32,
    },
    Restart {
        grace_seconds: u32,
    },
    Signal {
        signal: i32,
    },
    Pause,
    Unpause,
    Connect {
        attachment: Attachment,
    },
    Disconnect {
        network: String,
    },
    /// Its networks have changed: default routes, the files of names and publications become what a start by this plan would make.
    Follow {
        plan: Plan,
    },
    Publish {
        publication: Publication,
    },
    Unpublish {
        publication: Publication,
        /// The port it got, which tells it from equal ones; none means all of them.
        #[serde(default)]
        host_port: Option<u16>,
    },
    /// Ends the container if it runs, then the supervisor itself.
    Remove,
}

/// Where a container stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum SupervisorState {
    Created,
    Running {
        pid: i32,
        paused: bool,
        started: String,
    },
    Restarting,
    Exited {
        code: i32,
        error: Option<String>,
        #[serde(default)]
        oom_killed: bool,
    },
}

/// A host socket that listens for a publication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// As the user asked for it.
    pub publication: Publication,
    /// The address it listens on; a publication without a host address has two listeners.
    pub host_ip: std::net::IpAddr,
    /// The port it got.
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: Protocol,
}

/// A failure as people will read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What failed and why: lower case, no full stop.
    pub message: String,
    pub hint: Option<String>,
    /// The exit code that `run` and `exec` end with: 125, 126 or 127.
    pub code: i32,
}

/// How a session on `attach.sock` begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "open")]
pub enum Open {
    /// Start the container; with `attach`, its streams follow and the session ends with it.
    Start { attach: bool, size: Option<WindowSize> },
    /// The streams of the running container.
    Attach { size: Option<WindowSize> },
    /// One more process in the container. `detach`: the session ends once it runs.
    Exec { exec: ExecSpec, detach: bool, size: Option<WindowSize> },
    /// A tar archive of `path` follows from the supervisor.
    CopyOut { path: std::path::PathBuf },
    /// A tar archive follows from the caller, unpacked in directory `path`.
    CopyIn { path: std::path::PathBuf },
}

/// A terminal's size in character cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    pub rows: u16,
    pub cols: u16,
}

/// Control words from a session's caller.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum ToSession {
    Resize {
        size: WindowSize,
    },
    Signal {
        signal: i32,
    },
    /// No more standard input.
    StdinClosed,
}

/// Control words to a session's caller.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum FromSupervisor {
    /// The command has been executed.
    Started {
        pid: i32,
    },
    Failed {
        failure: Failure,
    },
    /// The process ended, as the shell numbers it: 128+N for signal N.
    Exited {
        code: i32,
    },
}

/// The kinds of frames in a session: one byte of kind, four of length (big endian), the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// JSON: [`Open`] first, then [`ToSession`] or [`FromSupervisor`].
    Control = 0,
    Stdin = 1,
    Stdout = 2,
    Stderr = 3,
}

/// The longest payload of a session's frame.
pub const FRAME_PAYLOAD_MAX: usize = 64 * 1024;
