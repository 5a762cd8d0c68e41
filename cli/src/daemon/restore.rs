//! Coming back: networks and containers from their files, supervisors by their locks, and who is to run again.
//!
//! ```text
//!   files read ─▶ supervisors' sockets open ─▶ every container whose lock is held has said hello, or 3 s ─▶ settled
//! ```
//!
//! Requests wait until it has settled. A supervisor that is silent for longer keeps its container and its addresses until its
//! lock is free: then it is lost.

use std::{
    collections::BTreeSet,
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use netloom_runtime::spec::Record;
use netloom_switch::subnet;
use nix::fcntl::{Flock, FlockArg};

use super::{
    Daemon,
    container::{Container, Status},
    create::Revenant,
    error::Result,
    network::{BRIDGE, Leases, NetworkRecord, file_of},
    state::State,
    store,
};
use crate::api;

/// How long a container that always runs is left alone when its supervisor was lost.
const AGAIN: Duration = Duration::from_secs(1);

/// How long supervisors may take to come back; they notice at once that their daemon has gone.
const COME_BACK: Duration = Duration::from_secs(3);

impl Daemon {
    /// Reads everything that a predecessor left. Files that cannot be read are told to the log and left alone.
    pub(crate) fn restore(&self, routes: &[IpNet]) -> Result<()> {
        for directory in [self.paths.containers(), self.paths.holders(), self.paths.leases(), self.paths.networks(), self.paths.revenants()]
        {
            store::make_directory(&directory)?;
        }
        let mut guard = self.state();
        let state = &mut *guard;
        self.restore_containers(state)?;
        self.expect_holders(state)?;
        self.restore_networks(state, routes)?;
        let lost: Vec<_> = state.containers.keys().filter(|id| !state.expected.contains(*id)).cloned().collect();
        lost.iter().for_each(|id| self.supervisor_lost(state, id));
        self.settle_if_all_are_back(state);
        Ok(())
    }

    fn restore_containers(&self, state: &mut State) -> Result<()> {
        let mut known = BTreeSet::new();
        for id in store::list(&self.paths.containers())? {
            let directory = self.paths.container(&id);
            match store::read::<Record>(&directory.join("record.json")) {
                Ok(Some(record)) => {
                    let status: Status = store::read(&directory.join("state.json")).ok().flatten().unwrap_or_default();
                    if is_locked(&directory) {
                        state.expected.insert(id.clone());
                    }
                    known.insert(id.clone());
                    state.containers.insert(id, Container::new(record, status));
                }
                Ok(None) => {
                    self.launcher.sweep_groups(&id);
                    store::remove_directory(&directory).unwrap_or_else(|error| tracing::error!(%error, "left behind"));
                }
                Err(error) => tracing::error!(%error, "a container cannot be read"),
            }
        }
        for file in store::list(&self.paths.revenants())? {
            match store::read::<Revenant>(&self.paths.revenants().join(&file)) {
                Ok(Some(Revenant { record, wanted })) if !known.contains(&record.id) => self.rise(state, record, wanted)?,
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "a container cannot be read"),
            }
        }
        Ok(())
    }

    /// Holders come back by themselves; of those that have ended nothing is needed.
    fn expect_holders(&self, state: &mut State) -> Result<()> {
        for id in store::list(&self.paths.holders())? {
            if is_locked(&self.paths.holder(&id)) {
                state.expected.insert(id);
            } else {
                store::remove_directory(&self.paths.holder(&id)).unwrap_or_else(|error| tracing::error!(%error, "left behind"));
            }
        }
        Ok(())
    }

    /// A container that was there before the reboot.
    fn rise(&self, state: &mut State, record: Record, wanted: bool) -> Result<()> {
        let status = Status { state: api::State::Exited, exit_code: Some(0), wanted, ..Status::default() };
        let container = Container::new(record, status);
        store::make_directory(&self.paths.container(container.id()))?;
        self.write_record(&container)?;
        self.write_status(&container)?;
        state.containers.insert(container.record.id.clone(), container);
        Ok(())
    }

    fn restore_networks(&self, state: &mut State, routes: &[IpNet]) -> Result<()> {
        let mut bridge = None;
        for file in store::list(&self.paths.networks())?.iter().filter(|file| file.ends_with(".json")) {
            match store::read::<NetworkRecord>(&self.paths.networks().join(file)) {
                Ok(Some(record)) if record.name == BRIDGE => bridge = Some(record),
                Ok(Some(record)) => self.restore_network(state, record)?,
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "a network cannot be read"),
            }
        }
        // The host may have new routes; with nothing running, nobody minds another subnet.
        let stale = |record: &NetworkRecord| {
            let clashes = |route: &IpNet| matches!(route, IpNet::V4(net) if subnet::overlaps(net, &record.subnet));
            record.chosen && state.expected.is_empty() && routes.iter().any(clashes)
        };
        match bridge.filter(|record| !stale(record)) {
            Some(record) => self.restore_network(state, record),
            None => {
                let record = Self::bridge_record(state, routes)?;
                store::remove_file(&file_of(&self.paths.leases(), BRIDGE))?;
                self.restore_network(state, record)?;
                state.network(BRIDGE)?.keep(&self.paths.networks())
            }
        }
    }

    fn restore_network(&self, state: &mut State, record: NetworkRecord) -> Result<()> {
        let kept = store::read::<Leases>(&file_of(&self.paths.leases(), &record.name)).unwrap_or_else(|error| {
            tracing::error!(%error, "leases cannot be read; those of running containers come back with them");
            None
        });
        let leases = match kept.filter(|leases| leases.fit(&record)) {
            Some(leases) => leases,
            None => record.no_leases()?,
        };
        self.add_network(state, record, leases).map(drop)
    }

    /// Once nobody is missing any more: addresses that nobody holds are free again.
    pub(crate) fn settle_if_all_are_back(&self, state: &mut State) {
        if state.expected.is_empty() {
            self.settle(state);
        }
    }

    fn settle(&self, state: &mut State) {
        if self.settled.send_replace(true) {
            return;
        }
        let held: BTreeSet<(String, IpAddr)> =
            state.tenants().flat_map(|tenant| tenant.lease.addresses().map(|(ip, _)| (tenant.lease.network.clone(), ip))).collect();
        for (name, network) in &mut state.networks {
            let held = |ip: IpAddr| held.contains(&(name.clone(), ip));
            // Those of DHCP clients end in their own time.
            let dynamic: BTreeSet<Ipv4Addr> =
                network.leases.notes.iter().filter(|(_, note)| note.dynamic.is_some()).map(|(ip, _)| *ip).collect();
            let dynamic6: BTreeSet<Ipv6Addr> = network.leases.notes6.keys().copied().collect();
            let mut changed = false;
            for owner in network.leases.owners().iter().filter(|owner| !state.expected.contains(*owner)) {
                let is_over = |ip| !held(IpAddr::V4(ip)) && !dynamic.contains(&ip);
                changed |= network.release_of(owner, is_over, |ip6| !held(ip6.into()) && !dynamic6.contains(&ip6));
            }
            if changed && let Err(error) = network.keep_leases(&self.paths.leases()) {
                tracing::error!(network = name, error = error.message, "leases are not on disk");
            }
        }
    }

    /// Ends the wait for supervisors in bounded time, then starts what is to run again.
    pub(crate) async fn come_back(self: Arc<Self>) {
        let mut settled = self.settled.subscribe();
        if tokio::time::timeout(COME_BACK, settled.wait_for(|settled| *settled)).await.is_err() {
            let mut state = self.state();
            tracing::warn!(missing = ?state.expected, "supervisors hold their locks but are silent");
            self.settle(&mut state);
        }
        let again: Vec<_> = {
            let state = self.state();
            let idle = state.containers.values().filter(|container| container.link.is_none() && !state.expected.contains(container.id()));
            idle.filter(|container| container.comes_back() && container.status.wanted).map(|c| c.record.id.clone()).collect()
        };
        for id in again {
            self.start_again(&id).await;
        }
    }

    /// A container that always runs and has lost its supervisor gets another one.
    pub(crate) async fn run_again(&self, id: &str) {
        let is_due = || {
            let state = self.state();
            state.containers.get(id).is_some_and(|c| c.link.is_none() && c.status.wanted && c.comes_back())
        };
        if is_due() {
            // One that is lost again and again must not keep the machine busy.
            tokio::time::sleep(AGAIN).await;
            if is_due() {
                self.start_again(id).await;
            }
        }
    }

    async fn start_again(&self, id: &str) {
        if let Err(error) = self.start(id).await {
            tracing::error!(id, error = error.message, "a container that always runs did not start");
            let mut state = self.state();
            if let Ok(container) = state.by_id_mut(id) {
                container.status.error = error.message;
            }
            self.keep_status(&mut state, id);
        }
    }

    /// Supervisors that never came back and have ended since.
    pub(crate) fn bury_the_silent(&self) {
        let mut guard = self.state();
        let state = &mut *guard;
        let lives = |id: &String| is_locked(&self.paths.container(id)) || is_locked(&self.paths.holder(id));
        let gone: Vec<_> = state.expected.iter().filter(|id| !lives(id)).cloned().collect();
        for id in gone {
            state.expected.remove(&id);
            self.supervisor_lost(state, &id);
            // It may have held addresses that only the pool knows.
            self.release_all_of(state, &id);
            // A container's files are its own matter; of a holder nothing is needed.
            store::remove_directory(&self.paths.holder(&id)).unwrap_or_else(|error| tracing::error!(%error, "left behind"));
        }
        self.settle_if_all_are_back(state);
    }

    fn release_all_of(&self, state: &mut State, id: &str) {
        for network in state.networks.values_mut() {
            if network.release_of(id, |_| true, |_| true)
                && let Err(error) = network.keep_leases(&self.paths.leases())
            {
                tracing::error!(error = error.message, "leases are not on disk");
            }
        }
    }
}

/// Whether a supervisor or a holder lives that has this directory.
fn is_locked(directory: &Path) -> bool {
    let Ok(file) = File::open(directory.join("lock")) else { return false };
    Flock::lock(file, FlockArg::LockSharedNonblock).is_err()
}
