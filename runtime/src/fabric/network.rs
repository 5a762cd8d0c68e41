//! One network as its workers share it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use netloom_switch::{PortCounters, Switch};

use super::{NetworkId, budget::Budgets, egress::EgressTable, leases::Asks};

/// The switch of a network and the ways out of it. Workers read it without a lock; the control plane swaps the table.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) id: NetworkId,
    pub(super) switch: Switch,
    pub(super) table: ArcSwap<EgressTable>,
    /// Port 0's counters.
    pub(super) gateway: Arc<PortCounters>,
    /// Where questions about leases go.
    pub(super) asks: Asks,
    /// What its flows may hold, with everybody else's.
    pub(super) budgets: Budgets,
}
