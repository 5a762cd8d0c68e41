//! A switch with fake ports under a virtual clock.
//!
//! ```text
//! let mut lab = Lab::new(3);                       // ports 1, 2, 3
//! lab.send(1, &eth(mac(1), mac(2)).filler(60));    // unknown: flooded
//! lab.expect(2, &[..]);  lab.expect(3, &[..]);     // exactly these frames came out
//! lab.nothing_on(1);
//! lab.advance(Duration::from_secs(301));
//! ```
//! A failed expectation prints the ports with their counters and what they hold, and the MAC table. When the lab ends, the books
//! of every port must balance.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use super::Built;
use crate::{DropReason, Mac, PortCounts, PortId, PortSettings, Settings, Switch, Time, Verdict};

/// The switch, its clock, and what came out of its ports.
#[derive(Debug)]
pub struct Lab {
    pub switch: Switch,
    now: Time,
    came_out: BTreeMap<PortId, Vec<Built>>,
}

/// The address of station `n`: 02:00:00:00:00:n.
pub const fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

impl Lab {
    /// Ports 1 to `ports` with an MTU of 1500, no gateway.
    pub fn new(ports: u16) -> Self {
        Self::with(Settings::default(), ports)
    }

    /// Ports 1 to `ports`, and port 0 if the settings name a gateway.
    pub fn with(settings: Settings, ports: u16) -> Self {
        let lab = Self { switch: Switch::new(settings), now: Time::ZERO, came_out: BTreeMap::new() };
        for port in 1..=ports {
            lab.switch.add_port(PortId(port), PortSettings::default()).unwrap();
        }
        lab
    }

    pub fn now(&self) -> Time {
        self.now
    }

    pub fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
    }

    /// Changes the switch's settings.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        let mut settings = self.switch.settings();
        change(&mut settings);
        self.switch.set(settings);
    }

    /// Changes a port's settings.
    pub fn set_port(&self, port: u16, change: impl FnOnce(&mut PortSettings)) {
        let mut settings = self.switch.port_settings(PortId(port)).unwrap();
        change(&mut settings);
        assert!(self.switch.set_port(PortId(port), settings));
    }

    /// A frame comes in at `port`, and goes out where the verdict says.
    pub fn send(&mut self, port: u16, built: &Built) -> Verdict {
        let verdict = self.switch.handle(self.now, PortId(port), &built.frame());
        match verdict {
            Verdict::Forward(egress) => self.deliver(egress, built),
            Verdict::Flood(set) => set.iter().for_each(|egress| self.deliver(egress, built)),
            Verdict::Drop(_) => {}
        }
        verdict
    }

    /// Exactly these frames came out of `port`, in this order, since it was last asked.
    #[track_caller]
    pub fn expect(&mut self, port: u16, frames: &[&Built]) {
        let came = self.came_out.remove(&PortId(port)).unwrap_or_default();
        assert!(came.iter().eq(frames.iter().copied()), "port {port} gave {came:02x?}\nand not {frames:02x?}\n{}", self.report());
    }

    /// Nothing came out of `port` since it was last asked.
    #[track_caller]
    pub fn nothing_on(&mut self, port: u16) {
        self.expect(port, &[]);
    }

    /// A frame from `port` is dropped for this reason, is in its books as that, and comes out nowhere.
    #[track_caller]
    pub fn refused(&mut self, port: u16, built: &Built, reason: DropReason) {
        let count = |lab: &Self| lab.counts(port).drops.iter().find(|(drop, _)| *drop == reason).map_or(0, |(_, count)| *count);
        let before = count(self);
        let verdict = self.send(port, built);
        assert_eq!(verdict, Verdict::Drop(reason), "{}", self.report());
        assert_eq!(count(self), before + 1, "{}", self.report());
    }

    /// The counters of `port`.
    #[track_caller]
    pub fn counts(&self, port: u16) -> PortCounts {
        self.switch.counters(PortId(port)).expect("the port is open").snapshot()
    }

    /// The ports with their counters and what came out of them, and the MAC table.
    pub fn report(&self) -> String {
        let mut text = format!("at {:?}\n", self.now.since(Time::ZERO));
        for port in self.switch.ports().iter() {
            let held = self.came_out.get(&port).map_or(0, Vec::len);
            let _ = writeln!(text, "port {port}: {:?}, {held} frames came out and were not asked for", self.counts(port.0));
        }
        for entry in self.switch.fdb().list(self.now) {
            let _ = writeln!(text, "{entry:?}");
        }
        text
    }

    fn deliver(&mut self, egress: PortId, built: &Built) {
        if let Some(counters) = self.switch.counters(egress) {
            counters.sent(built.bytes.len());
        }
        self.came_out.entry(egress).or_default().push(built.clone());
    }
}

impl Drop for Lab {
    /// received = forwarded + flooded + dropped, at every port.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for port in self.switch.ports().iter() {
            let counts = self.counts(port.0);
            let dropped: u64 = counts.drops.iter().filter(|(reason, _)| reason.is_verdict()).map(|(_, count)| count).sum();
            assert_eq!(counts.rx_frames, counts.forwarded + counts.flooded + dropped, "the books of port {port}\n{}", self.report());
        }
    }
}
