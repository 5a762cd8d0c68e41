//! The programs that do the work, run by the bench inside a namespace as subcommands of its own binary. Each prints one JSON line.
//!
//! TCP streams are iperf3's; what it does not measure is here.

use std::net::SocketAddr;

use clap::Subcommand;
use serde::Serialize;

use crate::error::{BenchError, Result};

pub mod flows;
pub mod frames;
pub mod relay;
pub mod requests;
pub mod stamps;
pub mod udp;

/// One program.
#[derive(Clone, Debug, Subcommand)]
pub enum Load {
    /// Sends Ethernet frames as fast as a packet socket takes them
    Frames(frames::Frames),
    /// Opens TCP connections, sends on each, and keeps them until its standard input ends
    HoldFlows(flows::Hold),
    /// Carries frames between two devices with a delay and loss until its standard input ends
    Relay(relay::Relay),
    /// Sends frames that carry the time
    StampSend(stamps::Send),
    /// Tells how long stamped frames took, until its standard input ends
    StampReceive { device: String },
    /// Takes what comes over any number of TCP connections; ends with its standard input
    Swallow { port: u16 },
    /// Answers what `ping-pong` and `connects` ask; ends with its standard input
    Serve { on: SocketAddr },
    /// A byte there and a byte back over one TCP connection, again and again
    PingPong { server: SocketAddr, seconds: f64 },
    /// TCP connections: connect, one byte, close
    Connects { server: SocketAddr, seconds: f64 },
    /// Sends datagrams at a steady rate
    UdpSend(udp::UdpSend),
    /// Counts datagrams until its standard input ends
    UdpReceive(udp::UdpReceive),
}

/// What a server prints once it can be reached.
pub const READY: &str = "ready";

impl Load {
    /// Does the work to its end and prints its result.
    pub fn run(&self) -> Result<()> {
        match self {
            Self::Connects { server, seconds } => print(&requests::connects(*server, *seconds)?),
            Self::Frames(frames) => print(&frames.run()?),
            Self::HoldFlows(hold) => hold.run(),
            Self::Relay(relay) => relay.run(),
            Self::StampSend(send) => print(&send.run()?),
            Self::StampReceive { device } => print(&stamps::receive(device)?),
            Self::Swallow { port } => flows::swallow(*port),
            Self::PingPong { server, seconds } => print(&requests::ping_pong(*server, *seconds)?),
            Self::Serve { on } => requests::serve(*on),
            Self::UdpReceive(receive) => print(&receive.run()?),
            Self::UdpSend(send) => print(&send.run()?),
        }
    }
}

fn print(result: &impl Serialize) -> Result<()> {
    let line = serde_json::to_string(result).map_err(|error| BenchError::io("writing a result")(error.into()))?;
    println!("{line}");
    Ok(())
}
