//! The ways out of a network: which port leads where, as one immutable table that is swapped whole.
//!
//! A worker loads the table once for each port that it serves in a turn and never keeps it while it waits, so a descriptor is
//! closed as soon as its port is detached and no frame is on its way to it.

use std::sync::Arc;

use netloom_switch::{DropReason, Frame, Offload, PortCounters, PortId};

use super::port_io::{PortIo, Way, transmit};

/// One port's way out.
#[derive(Clone, Debug)]
pub(super) struct Egress {
    pub(super) io: Arc<dyn PortIo>,
    pub(super) counters: Arc<PortCounters>,
}

impl Egress {
    /// Sends a frame; every outcome is counted.
    pub(super) fn send(&self, frame: &Frame<'_>) {
        self.done(frame.bytes.len(), transmit(&*self.io, frame));
    }

    /// The way of such a frame, if many may be written by one call.
    pub(super) fn way(&self, offload: Offload) -> Option<Way<'_>> {
        self.io.way().filter(|_| self.io.caps().fit(offload))
    }

    /// Counts what became of a frame.
    pub(super) fn done(&self, len: usize, sent: Result<(), DropReason>) {
        match sent {
            Ok(()) => self.counters.sent(len),
            Err(reason) => self.counters.dropped(reason),
        }
    }
}

/// All ways out of one network.
#[derive(Clone, Debug, Default)]
pub(super) struct EgressTable(Vec<Option<Egress>>);

impl EgressTable {
    /// The same table with one more port.
    pub(super) fn with(&self, port: PortId, egress: Egress) -> Self {
        let mut ports = self.0.clone();
        ports.resize(ports.len().max(port.index() + 1), None);
        if let Some(place) = ports.get_mut(port.index()) {
            *place = Some(egress);
        }
        Self(ports)
    }

    /// The same table without a port.
    pub(super) fn without(&self, port: PortId) -> Self {
        let mut ports = self.0.clone();
        if let Some(place) = ports.get_mut(port.index()) {
            *place = None;
        }
        Self(ports)
    }

    pub(super) fn get(&self, port: PortId) -> Option<&Egress> {
        self.0.get(port.index())?.as_ref()
    }

    /// Sends a frame to one port. A port that was closed meanwhile is the ingress port's drop, since it has no counters left.
    pub(super) fn egress(&self, port: PortId, frame: &Frame<'_>, ingress: &PortCounters) {
        match self.get(port) {
            Some(egress) => egress.send(frame),
            None => ingress.dropped(DropReason::PortClosed),
        }
    }
}
