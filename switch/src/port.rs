//! Names of attachment points, and sets of them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An attachment point of one network. Port 0 is the network's gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortId(pub u16);

impl PortId {
    /// The gateway is a port like any other: what it sends is switched and counted as all else.
    pub const GATEWAY: Self = Self(0);

    /// Ports of one network, the gateway among them: as many as a Linux bridge has.
    pub const MAX: usize = 1024;

    /// The number, to index with.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of ports, small enough to be returned by value: a flood allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PortSet([u64; PortId::MAX / 64]);

impl PortSet {
    /// No port.
    pub const EMPTY: Self = Self([0; PortId::MAX / 64]);

    /// Puts a port in; one beyond [`PortId::MAX`] is nobody's and left out.
    pub fn insert(&mut self, port: PortId) {
        if let Some(word) = self.0.get_mut(port.index() / 64) {
            *word |= 1 << (port.index() % 64);
        }
    }

    /// Takes a port out, if it is in.
    pub fn remove(&mut self, port: PortId) {
        if let Some(word) = self.0.get_mut(port.index() / 64) {
            *word &= !(1 << (port.index() % 64));
        }
    }

    /// Whether the port is in.
    pub fn contains(&self, port: PortId) -> bool {
        self.0.get(port.index() / 64).is_some_and(|word| word >> (port.index() % 64) & 1 == 1)
    }

    /// Whether no port is in.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many ports are in.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The ports in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = PortId> + '_ {
        (0u16..).zip(self.0.iter()).flat_map(|(base, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = u16::try_from(rest.trailing_zeros()).ok().filter(|bit| *bit < 64)?;
                rest &= rest - 1;
                Some(PortId(base * 64 + bit))
            })
        })
    }
}

impl fmt::Debug for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|port| port.0)).finish()
    }
}

impl FromIterator<PortId> for PortSet {
    fn from_iter<I: IntoIterator<Item = PortId>>(ports: I) -> Self {
        let mut set = Self::EMPTY;
        for port in ports {
            set.insert(port);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_lists_what_was_put_in_and_no_more() {
        let mut set: PortSet = [0, 63, 64, 1023].map(PortId).into_iter().collect();
        set.insert(PortId(1024));
        set.remove(PortId(63));
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 64, 1023].map(PortId));
        assert_eq!(set.len(), 3);
        assert!(set.contains(PortId(64)) && !set.contains(PortId(63)) && !set.contains(PortId(1024)));
    }
}
