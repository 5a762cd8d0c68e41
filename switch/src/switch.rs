//! The switch of one network: what becomes of a frame.
//!
//! [`Switch::handle`] is the whole of it: parse → admit → learn → decide. It takes `&self`, because every worker of the data
//! plane calls the one switch: the configuration is a snapshot, the MAC table and the counters are shared and do their own
//! locking. It never sends, never waits, never allocates once the tables are warm, and never looks at a clock.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;

use crate::{
    DropReason, Fdb, Frame, Mac, PortCounters, PortId, PortSet, Time, admit,
    config::{Config, Port, PortSettings, Settings},
    decide,
    fdb::NotAStation,
    parse::Ethernet,
};

/// What the caller must now do with the frame.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it to this port, which is open and not the ingress.
    Forward(PortId),
    /// Send it to each of these ports: at least one, never the ingress.
    Flood(PortSet),
    /// Nothing: it is counted already.
    Drop(DropReason),
}

/// A learning switch. Its ports are numbers; who listens at them is the caller's business.
#[derive(Debug)]
pub struct Switch {
    config: ArcSwap<Config>,
    fdb: Fdb,
    /// Held by whoever makes the next snapshot from the last.
    changing: Mutex<()>,
}

/// Why a port cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    #[error("port 0 is the gateway's: the settings say whether there is one")]
    Gateway,
    #[error("port {0} is in use")]
    InUse(PortId),
    #[error("port {0} is out of range: a network has ports up to {max}", max = PortId::MAX - 1)]
    OutOfRange(PortId),
}

/// Why an address cannot be pinned to a port, or not be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    #[error(transparent)]
    NotAStation(#[from] NotAStation),
    #[error("{0} is the gateway's and stays on port 0")]
    Gateway(Mac),
    #[error("port {0} is not open")]
    NoSuchPort(PortId),
}

impl Switch {
    /// A switch without ports but the gateway's, if `settings` name one.
    pub fn new(settings: Settings) -> Self {
        let switch = Self {
            fdb: Fdb::new(settings.fdb_max, settings.ageing),
            config: ArcSwap::from_pointee(Config::new(Settings { gateway: None, ..settings.clone() }, Vec::new())),
            changing: Mutex::new(()),
        };
        switch.set(settings);
        switch
    }

    /// The fate of a frame that came in at `ingress`.
    ///
    /// The ingress port's books are kept here, all of them: received, and then forwarded, flooded or dropped. What happens to
    /// the frame afterwards is its egress ports' ([`PortCounters::sent`], [`PortCounters::dropped`]) and the caller's to count.
    /// A frame from a port that is not open is [`DropReason::PortClosed`] and in nobody's books.
    pub fn handle(&self, now: Time, ingress: PortId, frame: &Frame<'_>) -> Verdict {
        let config = self.config.load();
        let Some(port) = config.port(ingress) else { return Verdict::Drop(DropReason::PortClosed) };
        let verdict = self.fate(&config, now, ingress, frame).unwrap_or_else(Verdict::Drop);
        port.counters.decided(frame.bytes.len(), &verdict);
        verdict
    }

    fn fate(&self, config: &Config, now: Time, ingress: PortId, frame: &Frame<'_>) -> Result<Verdict, DropReason> {
        let ethernet = Ethernet::parse(frame.bytes)?;
        admit::check(config, ingress, frame, &ethernet)?;
        self.fdb.learn(now, ethernet.src, ingress)?;
        let packet = decide::packet_len(frame, &ethernet)?;
        if ethernet.dst.is_group() {
            return decide::flood(config, ingress, true, packet);
        }
        match self.fdb.lookup(now, ethernet.dst) {
            Some(egress) => decide::forward(config, ingress, egress, packet),
            None => decide::flood(config, ingress, false, packet),
        }
    }

    /// A frame of `bytes` bytes came in at `ingress` and cannot be handled: its offload header was refused. Keeps the books as
    /// [`handle`](Self::handle) does.
    pub fn refuse(&self, ingress: PortId, bytes: usize, reason: DropReason) {
        if let Some(port) = self.config.load().port(ingress) {
            port.counters.decided(bytes, &Verdict::Drop(reason));
        }
    }

    /// Changes the settings. Port 0 comes and goes with [`Settings::gateway`], whose address is pinned to it.
    pub fn set(&self, settings: Settings) {
        let _changing = self.changing();
        let last = self.config.load_full();
        self.fdb.set_ageing(settings.ageing);
        self.fdb.set_max(settings.fdb_max);
        let gateway = settings.gateway;
        self.config.store(Arc::new(Config::new(settings, last.ports())));
        if last.settings.gateway != gateway {
            self.fdb.flush_port(PortId::GATEWAY);
            if let Some(mac) = gateway {
                // A group address would be refused here, and frames from it everywhere: such a gateway is never heard.
                let _ = self.fdb.add_static(Time::ZERO, mac, PortId::GATEWAY);
            }
        }
    }

    /// The settings now.
    pub fn settings(&self) -> Settings {
        self.config.load().settings.clone()
    }

    /// Opens a port. Its counters start at zero.
    pub fn add_port(&self, port: PortId, settings: PortSettings) -> Result<(), PortError> {
        if port == PortId::GATEWAY {
            return Err(PortError::Gateway);
        }
        if port.index() >= PortId::MAX {
            return Err(PortError::OutOfRange(port));
        }
        self.change(|ports| {
            if ports.len() <= port.index() {
                ports.resize_with(port.index() + 1, || None);
            }
            match ports.get_mut(port.index()) {
                Some(seat @ None) => {
                    // A worker that still had the snapshot with the last port of this number may have learned after it was flushed.
                    self.fdb.flush_port(port);
                    *seat = Some(Port { settings, counters: Arc::default() });
                    Ok(())
                }
                _ => Err(PortError::InUse(port)),
            }
        })
    }

    /// Changes an open port's settings; false if it is not open. The gateway's follow from [`Settings`].
    pub fn set_port(&self, port: PortId, settings: PortSettings) -> bool {
        self.change(|ports| match ports.get_mut(port.index()) {
            Some(Some(open)) => {
                open.settings = settings;
                true
            }
            _ => false,
        })
    }

    /// Closes a port and forgets what lay behind it; false if it was not open. Frames that are being handled may still be
    /// forwarded to it.
    pub fn remove_port(&self, port: PortId) -> bool {
        if port == PortId::GATEWAY {
            return false;
        }
        let was_open = self.change(|ports| ports.get_mut(port.index()).is_some_and(|seat| seat.take().is_some()));
        if was_open {
            self.fdb.flush_port(port);
        }
        was_open
    }

    /// An open port's counters.
    pub fn counters(&self, port: PortId) -> Option<Arc<PortCounters>> {
        self.config.load().port(port).map(|port| Arc::clone(&port.counters))
    }

    /// An open port's settings.
    pub fn port_settings(&self, port: PortId) -> Option<PortSettings> {
        self.config.load().port(port).map(|port| port.settings.clone())
    }

    /// The open ports, the gateway's among them.
    pub fn ports(&self) -> PortSet {
        self.config.load().members
    }

    /// The number to give to the next port; `None` when all are in use.
    pub fn lowest_free_port(&self) -> Option<PortId> {
        let config = self.config.load();
        (1..).take(PortId::MAX - 1).map(PortId).find(|port| config.port(*port).is_none())
    }

    /// Whether `mac` is another port's and not `port`'s: given to it by the IPAM, pinned to it or heard there.
    pub fn is_anothers(&self, now: Time, mac: Mac, port: PortId) -> bool {
        self.config.load().is_anothers_mac(mac, port) || self.fdb.lookup(now, mac).is_some_and(|behind| behind != port)
    }

    /// Pins `mac` to an open port: it does not age, and frames from it are taken nowhere else.
    pub fn pin(&self, now: Time, mac: Mac, port: PortId) -> Result<(), PinError> {
        // No port is closed, and its addresses flushed, between the look and the entry.
        let _changing = self.changing();
        let config = self.config.load();
        if config.settings.gateway == Some(mac) {
            return Err(PinError::Gateway(mac));
        }
        config.port(port).ok_or(PinError::NoSuchPort(port))?;
        Ok(self.fdb.add_static(now, mac, port)?)
    }

    /// Forgets an address, learned or pinned; false if it was not there.
    pub fn forget(&self, mac: Mac) -> Result<bool, PinError> {
        if self.config.load().settings.gateway == Some(mac) { Err(PinError::Gateway(mac)) } else { Ok(self.fdb.delete(mac)) }
    }

    /// The MAC table, to be read. What is put in or taken out by hand goes through [`pin`](Self::pin) and
    /// [`forget`](Self::forget), which know the gateway and the ports.
    pub fn fdb(&self) -> &Fdb {
        &self.fdb
    }

    /// Takes expired addresses out of the MAC table. To be called every [`AGE_EVERY`] or so; lookups do not depend on it.
    pub fn age(&self, now: Time) {
        self.fdb.age(now);
    }

    fn change<R>(&self, how: impl FnOnce(&mut Vec<Option<Port>>) -> R) -> R {
        let _changing = self.changing();
        let last = self.config.load_full();
        let mut ports = last.ports();
        let result = how(&mut ports);
        self.config.store(Arc::new(Config::new(last.settings.clone(), ports)));
        result
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often [`Switch::age`] is worth calling.
pub const AGE_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
