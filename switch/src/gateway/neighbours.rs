//! Which address on the link an IP address of the port has: told by the IPAM, corrected by what the port itself sends.

use std::{collections::HashMap, net::IpAddr};

use crate::Mac;

/// More than any container has addresses; a port that makes up sources teaches nothing beyond it.
const MOST: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Neighbours {
    known: HashMap<IpAddr, Mac>,
    /// What was learned last; most frames say the same again.
    last: Option<(IpAddr, Mac)>,
}

impl Neighbours {
    /// Takes the word of the IPAM, or of a frame whose source was checked.
    pub(super) fn learn(&mut self, ip: IpAddr, mac: Mac) {
        if mac.is_group() || mac.is_zero() || self.last == Some((ip, mac)) {
            return;
        }
        if self.known.len() < MOST || self.known.contains_key(&ip) {
            self.known.insert(ip, mac);
            self.last = Some((ip, mac));
        }
    }

    pub(super) fn mac(&self, ip: IpAddr) -> Option<Mac> {
        self.known.get(&ip).copied()
    }
}
