//! Leases between gateways, which hear clients, and the control plane, which keeps the addresses.
//!
//! A gateway's question goes into one bounded channel for the whole data plane and is forgotten there; the answer comes as a call to the
//! port's worker. A worker never waits for either, and a question too many is a counted drop: clients ask again.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use netloom_switch::{
    DropReason, PortId,
    gateway::{LeaseQuestion, LeaseReply},
};

use super::{Fabric, FabricError, NetworkId, port::PortKey};

/// Questions that may wait for the control plane.
const WAITING: usize = 256;

/// A question, and where it came from.
#[derive(Debug)]
pub struct LeaseAsked {
    pub network: NetworkId,
    pub port: PortId,
    /// Whose port that was when it asked: the next one of its number may be another's.
    pub owner: Arc<str>,
    pub question: LeaseQuestion,
}

/// Where the workers leave their questions.
#[derive(Clone, Debug)]
pub(super) struct Asks(SyncSender<LeaseAsked>);

impl Asks {
    pub(super) fn channel() -> (Self, Receiver<LeaseAsked>) {
        let (asks, asked) = sync_channel(WAITING);
        (Self(asks), asked)
    }

    pub(super) fn ask(&self, key: PortKey, owner: &Arc<str>, question: LeaseQuestion) -> Result<(), DropReason> {
        let PortKey { network, port } = key;
        self.0.try_send(LeaseAsked { network, port, owner: Arc::clone(owner), question }).map_err(|_| DropReason::GatewayLimit)
    }
}

impl Fabric {
    /// The questions of all gateways, for the one who answers them; `None` once somebody has them.
    pub fn lease_asks(&self) -> Option<Receiver<LeaseAsked>> {
        self.lock().asked.take()
    }

    /// Has a port's gateway send the answer to a question, if the port is still its asker's.
    pub fn answer_lease(&self, network: NetworkId, port: PortId, owner: &str, answer: LeaseReply) -> Result<(), FabricError> {
        let state = self.lock();
        let key = PortKey { network, port };
        let seat = state.seat(key)?;
        if *seat.owner != *owner {
            return Err(FabricError::NoSuchPort(port));
        }
        let inbox = &self.worker(seat.worker)?.inbox;
        inbox.ask(move |worker| worker.port(key, |port, at| port.lease_answered(&answer, at)))?.ok_or(FabricError::NoSuchPort(port))
    }

    /// The addresses that clients behind a port have leased: they are this port's alone, as the one that the IPAM gave it is.
    pub fn set_leased(&self, network: NetworkId, port: PortId, leased: Vec<IpAddr>) -> Result<(), FabricError> {
        let mut state = self.lock();
        let seat = state.seat_mut(PortKey { network, port })?;
        seat.leased = leased;
        let settings = seat.settings();
        if state.site(network)?.network.switch.set_port(port, settings) { Ok(()) } else { Err(FabricError::NoSuchPort(port)) }
    }
}
