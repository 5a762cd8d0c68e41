//! The switch as anyone would write it who had all the time in the world: lists, and a look at each of them.
//!
//! [`Op`] is what can happen to a switch. It is read from bytes, so the property tests and the fuzzer speak one language, and a
//! case that one of them finds can be replayed by the other.

use std::{collections::BTreeMap, time::Duration};

use super::{eth, mac};
use crate::{DropReason, FdbEntry, Mac, PortId, PortSet, PortSettings, ReservedMacs, Settings, Switch, Time, Verdict, frame::FRAME_MAX};

const GATEWAY: Mac = Mac([2, 0x42, 10, 0, 0, 1]);

/// What can happen to a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Advance(Duration),
    Age,
    Close(u16),
    Forget(Mac),
    Frame { port: u16, src: Mac, dst: Mac, len: usize },
    Open(u16, PortSettings),
    Pin(Mac, u16),
    Set(Settings),
}

impl Op {
    /// Bytes that [`read`](Self::read) takes for each operation.
    pub const LEN: usize = 5;

    /// The next operation of a script; `None` at its end.
    pub fn read(script: &mut &[u8]) -> Option<Self> {
        let ([kind, a, b, c, d], rest) = script.split_first_chunk::<{ Self::LEN }>()?;
        *script = rest;
        Some(match kind % 16 {
            0 => Self::Advance(Duration::from_secs(u64::from(*a))),
            1 => Self::Age,
            2 => Self::Close(port(*a)),
            3 => Self::Open(
                port(*a),
                PortSettings {
                    mtu: MTUS[usize::from(b % 4)],
                    isolated: c % 4 == 0,
                    mac: (d % 2 == 0).then(|| address(*d)),
                    ips: Vec::new(),
                },
            ),
            4 => Self::Pin(address(*a), port(*b)),
            5 => Self::Forget(address(*a)),
            6 => Self::Set(Settings {
                ageing: Duration::from_secs(if a & 1 == 0 { 300 } else { u64::from(a / 2) }),
                fdb_max: usize::from(b % 9),
                isolated: c & 1 != 0,
                reserved_macs: if c & 2 != 0 { ReservedMacs::Transparent } else { ReservedMacs::Strict },
                port_security: c & 4 == 0,
                gateway: (c & 8 == 0).then_some(GATEWAY),
                mtu: MTUS[usize::from(d % 4)],
                gateway_ips: Vec::new(),
            }),
            _ => Self::Frame { port: port(*a), src: address(*b), dst: address(*c), len: LENGTHS[usize::from(*d) % LENGTHS.len()] },
        })
    }
}

const MTUS: [u16; 4] = [1500, 576, 9000, u16::MAX];
const LENGTHS: [usize; 9] = [60, 13, 14, 590, 1514, 1515, 9014, FRAME_MAX, FRAME_MAX + 1];

fn port(byte: u8) -> u16 {
    u16::from(byte % 6)
}

fn address(byte: u8) -> Mac {
    match byte % 20 {
        0 => Mac::ZERO,
        1 => Mac::BROADCAST,
        2 => Mac([1, 0, 0x5e, 0, 0, 1]),
        3 => Mac([1, 0x80, 0xc2, 0, 0, 0x0e]),
        4 => GATEWAY,
        n => mac(n),
    }
}

/// The MAC table as a list.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub entries: Vec<FdbEntry>,
    pub max: usize,
    pub ageing: Duration,
}

impl Table {
    /// As [`Fdb::learn`](crate::Fdb::learn), for the address of a station.
    pub fn learn(&mut self, now: Time, mac: Mac, port: PortId) -> Result<(), DropReason> {
        match self.entries.iter_mut().find(|entry| entry.mac == mac) {
            Some(entry) if entry.is_static && entry.port != port => return Err(DropReason::SpoofedSource),
            Some(entry) => (entry.port, entry.seen) = (port, now),
            None if self.max == 0 => {}
            None => {
                if self.learned() >= self.max {
                    self.evict(self.victim(port));
                }
                self.entries.push(FdbEntry { mac, port, seen: now, is_static: false });
            }
        }
        Ok(())
    }

    pub fn lookup(&self, now: Time, mac: Mac) -> Option<PortId> {
        self.entries.iter().find(|entry| entry.mac == mac && self.is_alive(now, entry)).map(|entry| entry.port)
    }

    pub fn age(&mut self, now: Time) {
        let alive = self.list(now);
        self.entries = alive;
    }

    pub fn add_static(&mut self, now: Time, mac: Mac, port: PortId) {
        self.delete(mac);
        self.entries.push(FdbEntry { mac, port, seen: now, is_static: true });
    }

    pub fn delete(&mut self, mac: Mac) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.mac != mac);
        self.entries.len() < before
    }

    pub fn flush_port(&mut self, port: PortId) {
        self.entries.retain(|entry| entry.port != port);
    }

    pub fn set_max(&mut self, max: usize) {
        self.max = max;
        while self.learned() > max {
            self.evict(self.largest());
        }
    }

    pub fn list(&self, now: Time) -> Vec<FdbEntry> {
        let mut list = self.entries.clone();
        list.retain(|entry| self.is_alive(now, entry));
        list.sort_by_key(|entry| entry.mac);
        list
    }

    pub fn learned(&self) -> usize {
        self.entries.iter().filter(|entry| !entry.is_static).count()
    }

    fn is_alive(&self, now: Time, entry: &FdbEntry) -> bool {
        entry.is_static || now.since(entry.seen) <= self.ageing
    }

    fn held(&self, port: PortId) -> usize {
        self.entries.iter().filter(|entry| !entry.is_static && entry.port == port).count()
    }

    fn victim(&self, port: PortId) -> PortId {
        let holders = (0..1024).map(PortId).filter(|other| *other == port || self.held(*other) > 0).count();
        if self.held(port) >= (self.max / holders).max(1) { port } else { self.largest() }
    }

    fn largest(&self) -> PortId {
        (0..1024).rev().map(PortId).max_by_key(|port| self.held(*port)).unwrap()
    }

    fn evict(&mut self, port: PortId) {
        let mine = self.entries.iter().filter(|entry| !entry.is_static && entry.port == port);
        let oldest = mine.min_by_key(|entry| (entry.seen, entry.mac)).unwrap().mac;
        self.delete(oldest);
    }
}

/// A switch and its model, side by side.
#[derive(Debug)]
pub struct Model {
    switch: Switch,
    now: Time,
    settings: Settings,
    ports: BTreeMap<u16, PortSettings>,
    table: Table,
}

impl Default for Model {
    fn default() -> Self {
        Self::new()
    }
}

impl Model {
    /// Ports 1 to 4 and a gateway, as the default settings have it, and a small table.
    pub fn new() -> Self {
        let settings = Settings { fdb_max: 6, gateway: Some(GATEWAY), ..Settings::default() };
        let mut model = Self {
            switch: Switch::new(Settings::default()),
            now: Time::ZERO,
            settings: Settings::default(),
            ports: BTreeMap::new(),
            table: Table::default(),
        };
        model.step(&Op::Set(settings));
        for port in 1..=4 {
            model.step(&Op::Open(port, PortSettings::default()));
        }
        model
    }

    /// Does it to both, and compares all that can be seen.
    pub fn step(&mut self, op: &Op) {
        match op {
            Op::Advance(by) => self.now = self.now + *by,
            Op::Age => {
                self.switch.age(self.now);
                self.table.age(self.now);
            }
            Op::Close(port) => {
                let was_open = *port != 0 && self.ports.remove(port).is_some();
                assert_eq!(self.switch.remove_port(PortId(*port)), was_open, "{op:?}");
                if was_open {
                    self.table.flush_port(PortId(*port));
                }
            }
            Op::Forget(mac) => {
                let gone = (self.settings.gateway != Some(*mac)).then(|| self.table.delete(*mac));
                assert_eq!(self.switch.forget(*mac).ok(), gone, "{op:?}");
            }
            Op::Frame { port, src, dst, len } => self.frame(*port, *src, *dst, *len),
            Op::Open(port, settings) => {
                let is_new = *port != 0 && !self.ports.contains_key(port);
                assert_eq!(self.switch.add_port(PortId(*port), settings.clone()).is_ok(), is_new, "{op:?}");
                if is_new {
                    self.ports.insert(*port, settings.clone());
                }
            }
            Op::Pin(mac, port) => {
                let can = !mac.is_group() && !mac.is_zero() && self.settings.gateway != Some(*mac) && self.ports.contains_key(port);
                assert_eq!(self.switch.pin(self.now, *mac, PortId(*port)).is_ok(), can, "{op:?}");
                if can {
                    self.table.add_static(self.now, *mac, PortId(*port));
                }
            }
            Op::Set(settings) => self.set(settings),
        }
        assert_eq!(self.switch.fdb().list(self.now), self.table.list(self.now), "after {op:?}");
        assert_eq!(self.switch.fdb().learned(), self.table.learned(), "after {op:?}");
        assert_eq!(self.switch.ports(), self.ports.keys().copied().map(PortId).collect(), "after {op:?}");
    }

    fn set(&mut self, settings: &Settings) {
        self.switch.set(settings.clone());
        self.table.ageing = settings.ageing;
        self.table.set_max(settings.fdb_max);
        if settings.gateway != self.settings.gateway {
            self.table.flush_port(PortId(0));
            if let Some(mac) = settings.gateway {
                self.table.add_static(Time::ZERO, mac, PortId(0));
            }
        }
        self.ports.remove(&0);
        if let Some(mac) = settings.gateway {
            self.ports.insert(0, PortSettings { mtu: settings.mtu, isolated: false, mac: Some(mac), ips: Vec::new() });
        }
        self.settings = settings.clone();
    }

    fn frame(&mut self, port: u16, src: Mac, dst: Mac, len: usize) {
        let built = eth(src, dst).filler(len).to_len(len);
        let before = self.books(port);
        let expected = self.fate(port, src, dst, len).unwrap_or_else(Verdict::Drop);
        let got = self.switch.handle(self.now, PortId(port), &built.frame());
        assert_eq!(got, expected, "{src} > {dst}, {len} bytes from port {port}\n{self:#?}");
        let (received, accounted) = self.books(port);
        let is_open = u64::from(self.ports.contains_key(&port));
        assert_eq!((received, accounted), (before.0 + is_open, before.1 + is_open), "the books of port {port}");
    }

    /// Frames received, and what became of them.
    fn books(&self, port: u16) -> (u64, u64) {
        let Some(counts) = self.switch.counters(PortId(port)).map(|counters| counters.snapshot()) else { return (0, 0) };
        let dropped: u64 = counts.drops.iter().map(|(_, count)| count).sum();
        (counts.rx_frames, counts.forwarded + counts.flooded + dropped)
    }

    /// The rules, one after the other.
    fn fate(&mut self, port: u16, src: Mac, dst: Mac, len: usize) -> Result<Verdict, DropReason> {
        let is_reserved = dst.0[..5] == [1, 0x80, 0xc2, 0, 0] && dst.0[5] < 16;
        let owners: Vec<u16> = self.ports.iter().filter(|(_, settings)| settings.mac == Some(src)).map(|(port, _)| *port).collect();
        let refused = [
            (!self.ports.contains_key(&port), DropReason::PortClosed),
            (len < 14, DropReason::Runt),
            (len > FRAME_MAX, DropReason::TooLong),
            (src.is_group(), DropReason::GroupSource),
            (src.is_zero(), DropReason::ZeroSource),
            (is_reserved && self.settings.reserved_macs == ReservedMacs::Strict, DropReason::ReservedAddress),
            (self.settings.gateway == Some(src) && port != 0, DropReason::SpoofedSource),
            (self.settings.port_security && !owners.is_empty() && !owners.contains(&port), DropReason::SpoofedSource),
        ];
        if let Some((_, reason)) = refused.into_iter().find(|(applies, _)| *applies) {
            return Err(reason);
        }
        self.table.learn(self.now, src, PortId(port))?;
        let is_isolated = |port: &u16| self.settings.isolated || self.ports[port].isolated;
        let may_pass = |to: &u16| port == 0 || *to == 0 || !(is_isolated(&port) || is_isolated(to));
        let fits = |to: &u16| len - 14 <= usize::from(self.ports[to].mtu);
        if !dst.is_group()
            && let Some(egress) = self.table.lookup(self.now, dst).map(|egress| egress.0)
        {
            let refused = [
                (!self.ports.contains_key(&egress), DropReason::PortClosed),
                (egress == port, DropReason::BackToIngress),
                (!may_pass(&egress), DropReason::Isolated),
                (!fits(&egress), DropReason::TooLong),
            ];
            let refused = refused.into_iter().find(|(applies, _)| *applies);
            return refused.map_or(Ok(Verdict::Forward(PortId(egress))), |(_, reason)| Err(reason));
        }
        let hears = |to: &&u16| **to != port && may_pass(to) && (dst.is_group() || **to != 0);
        let heard: Vec<u16> = self.ports.keys().filter(hears).copied().collect();
        let set: PortSet = heard.iter().copied().filter(fits).map(PortId).collect();
        match (heard.is_empty(), set.is_empty()) {
            (true, _) => Err(DropReason::NobodyElse),
            (false, true) => Err(DropReason::TooLong),
            (false, false) => Ok(Verdict::Flood(set)),
        }
    }
}
