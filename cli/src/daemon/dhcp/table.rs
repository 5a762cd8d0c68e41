//! One family's leases of DHCP clients: a pool, and a note beside each address. The same for both; who may have what is decided above.

use std::{collections::BTreeMap, time::Duration};

use netloom_switch::{
    Mac,
    ipam::{Address, Pool},
};

use super::{
    super::{events, network::LeaseNote},
    Dynamic, Phase,
};

pub(super) const LEASED: Duration = Duration::from_secs(3600);
const OFFERED: Duration = Duration::from_secs(60);
const DECLINED: Duration = Duration::from_secs(600);

/// Leases behind one port, where the pool has room for them.
pub(super) const PORT_MAX: usize = 64;
/// Of what is free for a port's clients, what they have among it, they may have one in so many,
const PORT_SHARE: u128 = 4;
/// and all ports' clients together of what there is. The rest is for containers.
const SHARE: u128 = 2;

/// Whose lease it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder<'a> {
    pub(super) mac: Mac,
    /// Behind whose port it is.
    pub(super) container: &'a str,
}

/// A pool with its notes.
pub(super) struct Table<'a, A: Address> {
    pub(super) pool: &'a mut Pool<A>,
    pub(super) notes: &'a mut BTreeMap<A, LeaseNote>,
}

impl<A: Address> Table<'_, A> {
    /// What `owner` has.
    pub(super) fn bound(&self, owner: &str) -> Option<A> {
        self.pool.leases().find(|(_, holder)| *holder == owner).map(|(address, _)| address)
    }

    /// An address for a new client: the first that it would like and that can be chosen, or the next.
    pub(super) fn find(&mut self, container: &str, owner: &str, wanted: impl IntoIterator<Item = A>) -> Option<A> {
        if !self.has_room(container) {
            return None;
        }
        let liked = wanted.into_iter().find(|address| self.is_for_clients(*address) && self.pool.take(*address, owner).is_ok());
        liked.or_else(|| self.pool.allocate(owner).ok())
    }

    /// Takes one address by name, if it is one that clients are given.
    pub(super) fn take(&mut self, container: &str, owner: &str, wanted: A) -> bool {
        self.is_for_clients(wanted) && self.has_room(container) && self.pool.take(wanted, owner).is_ok()
    }

    /// Those outside of the range are for whoever configures one by hand.
    fn is_for_clients(&self, address: A) -> bool {
        let range = self.pool.range();
        (A::first(range)..=A::last(range)).contains(&address)
    }

    /// Whether one more client behind `container` may have an address; the first may as long as the clients of all have their share.
    fn has_room(&self, container: &str) -> bool {
        let (held, of_all) = (behind(self.notes, container).count(), dynamic(self.notes).count());
        let most = ((self.pool.free() + held as u128) / PORT_SHARE).clamp(1, PORT_MAX as u128);
        (held as u128) < most && (of_all as u128) < self.pool.size() / SHARE
    }

    pub(super) fn is_leased(&self, address: A) -> bool {
        self.notes.get(&address).and_then(|note| note.dynamic.as_ref()).is_some_and(|dynamic| dynamic.phase == Phase::Leased)
    }

    pub(super) fn set(&mut self, address: A, holder: Holder<'_>, phase: Phase, now: u64) {
        let time = match phase {
            Phase::Offered => OFFERED,
            Phase::Leased => LEASED,
            Phase::Declined => DECLINED,
        };
        let dynamic = Dynamic { container: holder.container.to_owned(), expires: now + time.as_secs(), phase };
        let note = self.notes.entry(address).or_insert_with(|| LeaseNote { mac: holder.mac, since: events::now(), dynamic: None });
        note.dynamic = Some(dynamic);
    }

    pub(super) fn free(&mut self, address: A) {
        self.pool.release(address);
        self.notes.remove(&address);
    }

    /// Sets an address aside that somebody uses already.
    pub(super) fn decline(&mut self, address: A, holder: Holder<'_>, now: u64) {
        self.free(address);
        if self.pool.take(address, "dhcp:declined").is_ok() {
            self.set(address, holder, Phase::Declined, now);
        }
    }

    /// Ends what has come to its end; the containers behind whose ports it was.
    #[must_use]
    pub(super) fn expire(&mut self, now: u64) -> Vec<String> {
        let ended = |note: &LeaseNote| note.dynamic.as_ref().filter(|dynamic| dynamic.expires <= now).map(|d| d.container.clone());
        let ended: Vec<_> = self.notes.iter().filter_map(|(address, note)| Some((*address, ended(note)?))).collect();
        ended
            .into_iter()
            .map(|(address, container)| {
                self.free(address);
                container
            })
            .collect()
    }
}

/// The DHCP leases behind one container's port, those offered and declined among them.
pub(super) fn behind<'a, A: Address>(notes: &'a BTreeMap<A, LeaseNote>, container: &'a str) -> impl Iterator<Item = (A, &'a Dynamic)> {
    dynamic(notes).filter(move |(_, dynamic)| dynamic.container == container)
}

/// The same behind all ports.
fn dynamic<A: Address>(notes: &BTreeMap<A, LeaseNote>) -> impl Iterator<Item = (A, &Dynamic)> {
    notes.iter().filter_map(|(address, note)| Some((*address, note.dynamic.as_ref()?)))
}
