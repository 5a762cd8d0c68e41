//! The MAC table (IEEE 802.1Q, 8.8: the filtering database): which port an address was last seen on.
//!
//! ```text
//!            learn            learn, same port: `seen` = now
//!   unknown ───────▶ learned ─────────────────────────────▶ learned
//!      ▲               │ ▲ │ learn, other port: moved at once
//!      └───────────────┘ └─┘
//!        `seen` more than `ageing` ago · evicted · deleted · its port went
//! ```
//! A static entry is put in by hand or by the switch, does not age, is never evicted, and nobody learns it elsewhere.
//!
//! - **Bound:** at most `max` learned entries; static ones are the operator's and do not count.
//! - **Expiry:** an entry that is older than `ageing` (300 s, IEEE 802.1Q table 8-6) counts as absent from then on;
//!   [`age`](Fdb::age) takes it out.
//! - **Eviction:** when the table is full, a port that holds its fair share (`max` over the ports that hold entries) or more
//!   gives up its own oldest entry for a new one; a port below its share takes the place of the oldest entry of the port that
//!   holds most.
//! - **The attack it resists:** one port that sends from ever new addresses to push out the others', so that their traffic is
//!   flooded to it. It only pushes out its own. The hash is keyed at random, so addresses cannot be chosen to
//!   collide; the key decides where an entry lies in memory and nothing that can be seen from outside.
//! - **Locking:** a lookup and the refresh of `seen` take a shard's read lock and store atomically. Whatever changes the set of
//!   entries holds the one mutex of the [`Books`], always taken before a shard's lock. No guard leaves this file.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, binary_heap::PeekMut},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use dashmap::DashMap;

use self::hash::Keyed;
use crate::{DropReason, Mac, PortId, Time};

mod hash;

/// The MAC table of one network, shared by its workers.
#[derive(Debug)]
pub struct Fdb {
    entries: DashMap<Mac, Entry, Keyed>,
    books: Mutex<Books>,
    /// Nanoseconds.
    ageing: AtomicU64,
}

/// A copy of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbEntry {
    pub mac: Mac,
    pub port: PortId,
    /// When a frame from it was last seen, or it was put in by hand.
    pub seen: Time,
    pub is_static: bool,
}

/// Why an address cannot be pinned to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not the address of one station: group addresses and zero cannot be pinned to a port")]
pub struct NotAStation(pub Mac);

#[derive(Debug)]
struct Entry {
    port: PortId,
    is_static: bool,
    /// The stamp of this entry's valid record in its port's heap: `seen` at some earlier time.
    stamp: u64,
    seen: AtomicU64,
}

/// Who holds how many learned entries, and which of them are oldest.
#[derive(Debug)]
struct Books {
    max: usize,
    learned: usize,
    ports: BTreeMap<PortId, Holding>,
}

/// One port's learned entries. Every one has a record that is no younger than the entry's `seen`: refreshing does not touch the
/// heap, and a record that turns out too old is put back with the right stamp when it comes up. So the oldest is found
/// exactly, and each refresh costs at most one step later.
#[derive(Debug, Default)]
struct Holding {
    count: usize,
    oldest: BinaryHeap<Reverse<(u64, Mac)>>,
}

impl Fdb {
    /// An empty table of at most `max` learned entries that expire after `ageing`.
    pub fn new(max: usize, ageing: Duration) -> Self {
        let fdb = Self {
            entries: DashMap::with_hasher_and_shard_amount(Keyed::default(), SHARDS),
            books: Mutex::new(Books { max, learned: 0, ports: BTreeMap::new() }),
            ageing: AtomicU64::new(0),
        };
        fdb.set_ageing(ageing);
        fdb
    }

    /// Zero: every entry is forgotten at the next instant, and the switch floods as a hub does.
    pub fn set_ageing(&self, ageing: Duration) {
        self.ageing.store(u64::try_from(ageing.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Changes the bound; what is over it is evicted, from whoever holds most.
    pub fn set_max(&self, max: usize) {
        let mut books = self.books();
        books.max = max;
        while books.learned > max {
            let Some(port) = books.largest() else { break };
            self.evict(&mut books, port);
        }
    }

    /// A frame from `mac` came in at `port`. [`DropReason::SpoofedSource`] if the address is pinned to another port;
    /// addresses that are no station's are refused under their own names.
    pub fn learn(&self, now: Time, mac: Mac, port: PortId) -> Result<(), DropReason> {
        if let Some(entry) = self.entries.get(&mac) {
            if entry.port == port {
                entry.seen.store(now.as_nanos(), Relaxed);
                return Ok(());
            }
            if entry.is_static {
                return Err(DropReason::SpoofedSource);
            }
        }
        self.enter(now, mac, port)
    }

    /// The port that `mac` lies behind, if that is known and not too long ago.
    pub fn lookup(&self, now: Time, mac: Mac) -> Option<PortId> {
        let entry = self.entries.get(&mac)?;
        (entry.is_static || !self.is_expired(now, entry.seen.load(Relaxed))).then_some(entry.port)
    }

    /// Takes out what has expired. Costs as much as there is to take out, and at most one step for each entry refreshed since.
    pub fn age(&self, now: Time) {
        let mut books = self.books();
        let ports: Vec<PortId> = books.ports.keys().copied().collect();
        for port in ports {
            while let Some((seen, mac)) = self.oldest(&mut books, port).filter(|(seen, _)| self.is_expired(now, *seen)) {
                // It may speak at this very moment; then it stays.
                if let Some((_, old)) = self.entries.remove_if(&mac, |_, entry| entry.seen.load(Relaxed) == seen) {
                    books.leave(&old);
                }
            }
        }
    }

    /// Pins `mac` to `port`, whatever was known about it.
    pub fn add_static(&self, now: Time, mac: Mac, port: PortId) -> Result<(), NotAStation> {
        if mac.is_group() || mac.is_zero() {
            return Err(NotAStation(mac));
        }
        let mut books = self.books();
        let entry = Entry { port, is_static: true, stamp: 0, seen: AtomicU64::new(now.as_nanos()) };
        if let Some(old) = self.entries.insert(mac, entry) {
            books.leave(&old);
        }
        Ok(())
    }

    /// Forgets `mac`, learned or pinned; false if it was not there.
    pub fn delete(&self, mac: Mac) -> bool {
        let mut books = self.books();
        self.entries.remove(&mac).map(|(_, old)| books.leave(&old)).is_some()
    }

    /// Forgets all that lies behind `port`, learned or pinned.
    pub fn flush_port(&self, port: PortId) {
        let mut books = self.books();
        self.entries.retain(|_, entry| entry.port != port);
        books.learned -= books.ports.remove(&port).map_or(0, |holding| holding.count);
    }

    /// What is known at `now`, by address.
    pub fn list(&self, now: Time) -> Vec<FdbEntry> {
        let copy = |mac: &Mac, entry: &Entry| FdbEntry {
            mac: *mac,
            port: entry.port,
            seen: Time::from_nanos(entry.seen.load(Relaxed)),
            is_static: entry.is_static,
        };
        let mut list: Vec<_> = self.entries.iter().map(|item| copy(item.key(), item.value())).collect();
        list.retain(|entry| entry.is_static || !self.is_expired(now, entry.seen.as_nanos()));
        list.sort_unstable_by_key(|entry| entry.mac);
        list
    }

    /// Learned entries, with those that have expired and were not yet taken out.
    pub fn learned(&self) -> usize {
        self.books().learned
    }

    /// The slow way of learning: the address is new, or moved.
    fn enter(&self, now: Time, mac: Mac, port: PortId) -> Result<(), DropReason> {
        if mac.is_group() {
            return Err(DropReason::GroupSource);
        }
        if mac.is_zero() {
            return Err(DropReason::ZeroSource);
        }
        let mut books = self.books();
        // Another worker may have been here in the meantime.
        match self.entries.get(&mac).map(|entry| (entry.is_static, entry.port)) {
            Some((true, pinned)) if pinned != port => return Err(DropReason::SpoofedSource),
            Some((true, _)) => return Ok(()),
            Some((false, _)) => {}
            None if books.max == 0 => return Ok(()),
            None if books.learned >= books.max => {
                let from = books.victim(port);
                self.evict(&mut books, from);
            }
            None => {}
        }
        let stamp = now.as_nanos();
        let entry = Entry { port, is_static: false, stamp, seen: AtomicU64::new(stamp) };
        if let Some(old) = self.entries.insert(mac, entry) {
            books.leave(&old);
        }
        books.learned += 1;
        let holding = books.ports.entry(port).or_default();
        holding.count += 1;
        holding.oldest.push(Reverse((stamp, mac)));
        self.compact(port, holding);
        Ok(())
    }

    /// Takes out the oldest entry of `port`.
    fn evict(&self, books: &mut Books, port: PortId) {
        if let Some((_, mac)) = self.oldest(books, port)
            && let Some((_, old)) = self.entries.remove(&mac)
        {
            books.leave(&old);
        }
    }

    /// The oldest entry of `port` and when it was seen; its record is then on top of the heap.
    fn oldest(&self, books: &mut Books, port: PortId) -> Option<(u64, Mac)> {
        let heap = &mut books.ports.get_mut(&port)?.oldest;
        // Refreshes go on meanwhile, so this has an end: once round the heap, and then any entry will do.
        let mut rounds = heap.len();
        loop {
            let mut top = heap.peek_mut()?;
            let Reverse((stamp, mac)) = *top;
            let Some(mut entry) = self.entries.get_mut(&mac).filter(|entry| entry.records(port, stamp)) else {
                PeekMut::pop(top);
                continue;
            };
            let seen = entry.seen.load(Relaxed);
            if seen == stamp || rounds == 0 {
                return Some((seen, mac));
            }
            rounds -= 1;
            entry.stamp = seen;
            *top = Reverse((seen, mac));
        }
    }

    /// Keeps the heap of a port at the size of its entries: moved and deleted ones leave records behind.
    fn compact(&self, port: PortId, holding: &mut Holding) {
        if holding.oldest.len() > 2 * holding.count + 16 {
            holding.oldest.retain(|Reverse((stamp, mac))| self.entries.get(mac).is_some_and(|entry| entry.records(port, *stamp)));
        }
    }

    fn is_expired(&self, now: Time, seen: u64) -> bool {
        now.as_nanos().saturating_sub(seen) > self.ageing.load(Relaxed)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing that holds it panics; if it ever did, the table is still a table.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Whether a record with this stamp in the heap of `port` is this entry's.
    fn records(&self, port: PortId, stamp: u64) -> bool {
        self.port == port && !self.is_static && self.stamp == stamp
    }
}

impl Books {
    /// An entry is no longer where it was.
    fn leave(&mut self, entry: &Entry) {
        if entry.is_static {
            return;
        }
        self.learned -= 1;
        if let Some(holding) = self.ports.get_mut(&entry.port) {
            holding.count -= 1;
        }
    }

    /// Who gives up an entry so that `port` can have a new one in a full table.
    fn victim(&self, port: PortId) -> PortId {
        let held = |port| self.ports.get(&port).map_or(0, |holding: &Holding| holding.count);
        let others = self.ports.iter().filter(|(other, holding)| **other != port && holding.count > 0).count();
        let share = (self.max / (others + 1)).max(1);
        if held(port) >= share { port } else { self.largest().unwrap_or(port) }
    }

    /// The port that holds most; of equals, the lowest.
    fn largest(&self) -> Option<PortId> {
        let most = self.ports.iter().max_by_key(|(port, holding)| (holding.count, Reverse(**port)));
        most.map(|(port, _)| *port)
    }
}

/// Locks that the entries are spread over, the same on every machine: more than workers, so that two rarely meet.
const SHARDS: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testkit::{Table, mac};

    const AGEING: Duration = Duration::from_secs(300);

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_port_over_its_share_gives_up_its_own_oldest() {
        let fdb = Fdb::new(4, AGEING);
        fdb.learn(at(0), mac(1), PortId(1)).unwrap();
        for n in 2..=4 {
            fdb.learn(at(u64::from(n)), mac(n), PortId(2)).unwrap();
        }
        fdb.learn(at(5), mac(2), PortId(2)).unwrap();
        fdb.learn(at(6), mac(5), PortId(2)).unwrap();
        let left: Vec<Mac> = fdb.list(at(6)).iter().map(|entry| entry.mac).collect();
        assert_eq!(left, [1, 2, 4, 5].map(mac), "3 was the oldest of port 2: 2 had spoken since, and 1 is another's");
    }

    #[test]
    fn a_port_below_its_share_takes_from_the_one_that_holds_most() {
        let fdb = Fdb::new(4, AGEING);
        for n in 1..=4 {
            fdb.learn(at(u64::from(n)), mac(n), PortId(2)).unwrap();
        }
        fdb.learn(at(5), mac(5), PortId(1)).unwrap();
        fdb.learn(at(6), mac(6), PortId(1)).unwrap();
        fdb.learn(at(7), mac(7), PortId(1)).unwrap();
        let left: Vec<Mac> = fdb.list(at(7)).iter().map(|entry| entry.mac).collect();
        assert_eq!(left, [3, 4, 6, 7].map(mac), "two of four each, then its own");
    }

    #[test]
    fn a_smaller_bound_holds_at_once() {
        let fdb = Fdb::new(100, AGEING);
        for n in 0..50 {
            fdb.learn(at(0), mac(n + 1), PortId(u16::from(n % 5))).unwrap();
        }
        fdb.set_max(5);
        assert_eq!(fdb.list(at(0)).iter().map(|entry| entry.port.0).collect::<std::collections::BTreeSet<_>>().len(), 5, "one each");
        fdb.set_max(0);
        fdb.learn(at(0), mac(99), PortId(1)).unwrap();
        assert_eq!(fdb.learned(), 0);
    }

    #[test]
    fn static_entries_do_not_count_and_are_not_evicted() {
        let fdb = Fdb::new(1, AGEING);
        fdb.add_static(at(0), mac(1), PortId(1)).unwrap();
        fdb.add_static(at(0), mac(2), PortId(1)).unwrap();
        fdb.learn(at(0), mac(3), PortId(1)).unwrap();
        fdb.learn(at(0), mac(4), PortId(1)).unwrap();
        assert_eq!(fdb.list(at(0)).iter().map(|entry| entry.mac).collect::<Vec<_>>(), [1, 2, 4].map(mac));
        assert_eq!(fdb.add_static(at(0), Mac::BROADCAST, PortId(1)), Err(NotAStation(Mac::BROADCAST)));
    }

    #[test]
    fn records_of_moved_entries_do_not_pile_up() {
        let fdb = Fdb::new(10, AGEING);
        for round in 0..10_000 {
            fdb.learn(at(round), mac(1), PortId((round % 2) as u16)).unwrap();
        }
        let books = fdb.books();
        assert!(books.ports.values().map(|holding| holding.oldest.len()).sum::<usize>() < 50);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Learn(u8, u16),
        Lookup(u8),
        Static(u8, u16),
        Delete(u8),
        Flush(u16),
        Age,
        Advance(u64),
        Max(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        let (mac, port) = (1u8..40, 0u16..5);
        prop_oneof![
            20 => (mac.clone(), port.clone()).prop_map(|(mac, port)| Op::Learn(mac, port)),
            5 => mac.clone().prop_map(Op::Lookup),
            1 => (mac.clone(), port.clone()).prop_map(|(mac, port)| Op::Static(mac, port)),
            1 => mac.prop_map(Op::Delete),
            1 => port.prop_map(Op::Flush),
            1 => Just(Op::Age),
            3 => (0u64..150).prop_map(Op::Advance),
            1 => (0usize..20).prop_map(Op::Max),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn the_table_does_what_its_model_does(ops in prop::collection::vec(op(), 0..200)) {
            let fdb = Fdb::new(12, AGEING);
            let mut model = Table { max: 12, ageing: AGEING, entries: Vec::new() };
            let mut now = Time::ZERO;
            for op in ops {
                match op {
                    Op::Learn(n, port) => prop_assert_eq!(fdb.learn(now, mac(n), PortId(port)), model.learn(now, mac(n), PortId(port))),
                    Op::Lookup(n) => prop_assert_eq!(fdb.lookup(now, mac(n)), model.lookup(now, mac(n))),
                    Op::Static(n, port) => {
                        prop_assert_eq!(fdb.add_static(now, mac(n), PortId(port)), Ok(()));
                        model.add_static(now, mac(n), PortId(port));
                    }
                    Op::Delete(n) => prop_assert_eq!(fdb.delete(mac(n)), model.delete(mac(n))),
                    Op::Flush(port) => {
                        fdb.flush_port(PortId(port));
                        model.flush_port(PortId(port));
                    }
                    Op::Age => {
                        fdb.age(now);
                        model.age(now);
                    }
                    Op::Advance(seconds) => now = now + Duration::from_secs(seconds),
                    Op::Max(max) => {
                        fdb.set_max(max);
                        model.set_max(max);
                    }
                }
                prop_assert_eq!(fdb.list(now), model.list(now));
                prop_assert_eq!(fdb.learned(), model.learned());
                prop_assert!(fdb.learned() <= model.max);
            }
        }
    }
}
