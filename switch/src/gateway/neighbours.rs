//! Which address on the link an IPv4 address of the port has: told by the IPAM, corrected by what the port itself sends.

use std::{collections::HashMap, net::Ipv4Addr};

use crate::Mac;

/// More than any container has addresses; a port that makes up sources teaches nothing beyond it.
const MOST: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Neighbours(HashMap<Ipv4Addr, Mac>);

impl Neighbours {
    /// Takes the word of the IPAM, or of a frame whose source was checked.
    pub(super) fn learn(&mut self, ip: Ipv4Addr, mac: Mac) {
        if mac.is_group() || mac.is_zero() {
            return;
        }
        if let Some(known) = self.0.get_mut(&ip) {
            *known = mac;
        } else if self.0.len() < MOST {
            self.0.insert(ip, mac);
        }
    }

    pub(super) fn mac(&self, ip: Ipv4Addr) -> Option<Mac> {
        self.0.get(&ip).copied()
    }
}
