//! Address management for one IPv4 subnet: who holds which address, and which is given next.
//!
//! ```text
//!             allocate, take                 release
//!  never used ───────────────▶ leased ─────────────────────▶ released
//!                                ▲    allocate when no never-used   │
//!                                └──── one is left: oldest first ───┘
//! ```
//!
//! An address is used again as late as possible: caches and old connections of its last holder have the longest time to die.
//! Pure bookkeeping with a serialisable state, so leases outlive the process. A subnet costs what is leased and released in it,
//! not what it could hold: a /8 is as cheap as a /24.

use std::{
    collections::{BTreeMap, VecDeque},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// The addresses of one subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "State", into = "State")]
pub struct Pool {
    subnet: Ipv4Net,
    gateway: Option<Ipv4Addr>,
    /// Where addresses are given from on their own; the whole subnet if `None`.
    range: Option<Ipv4Net>,
    leases: BTreeMap<Ipv4Addr, String>,
    /// Every address of the range below this was used at some time.
    cursor: u64,
    released: Released,
}

/// Which address the gateway has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GatewayChoice {
    /// The subnet's first.
    #[default]
    First,
    At(Ipv4Addr),
    None,
}

/// Why an address cannot be given, or a pool not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IpamError {
    #[error("{address} is not in {subnet}")]
    Outside { address: Ipv4Addr, subnet: Ipv4Net },
    #[error("{address} is the network address of {subnet}")]
    NetworkAddress { address: Ipv4Addr, subnet: Ipv4Net },
    #[error("{address} is the broadcast address of {subnet}")]
    BroadcastAddress { address: Ipv4Addr, subnet: Ipv4Net },
    #[error("{address} is the gateway's")]
    Gateway { address: Ipv4Addr },
    #[error("{address} is in use by {owner}")]
    InUse { address: Ipv4Addr, owner: String },
    #[error("no address is left in {range}")]
    Full { range: Ipv4Net },
    #[error("the range {range} is not in {subnet}")]
    RangeOutside { range: Ipv4Net, subnet: Ipv4Net },
    #[error("{subnet} has no room for a gateway and a container")]
    TooSmall { subnet: Ipv4Net },
    #[error("the saved state of {subnet} is not one that this version made: {what}")]
    BadState { subnet: Ipv4Net, what: &'static str },
}

impl Pool {
    /// A pool for `subnet` in which nothing was ever used. `range` bounds what [`allocate`](Self::allocate) gives, not what
    /// can be [taken](Self::take) by name. Of a /31 both addresses can be used (RFC 3021), of a /32 the one, without a gateway.
    pub fn new(subnet: Ipv4Net, gateway: GatewayChoice, range: Option<Ipv4Net>) -> Result<Self, IpamError> {
        let subnet = subnet.trunc();
        let range = range.map(|range| range.trunc());
        if let Some(range) = range.filter(|range| !subnet.contains(range)) {
            return Err(IpamError::RangeOutside { range, subnet });
        }
        let gateway = match gateway {
            GatewayChoice::None => None,
            GatewayChoice::First | GatewayChoice::At(_) if subnet.prefix_len() == 32 => return Err(IpamError::TooSmall { subnet }),
            GatewayChoice::First => Some(first_host(subnet)),
            GatewayChoice::At(address) => {
                usable(subnet, address)?;
                Some(address)
            }
        };
        let cursor = u64::from(range.unwrap_or(subnet).network().to_bits());
        Ok(Self { subnet, gateway, range, leases: BTreeMap::new(), cursor, released: Released::default() })
    }

    /// Leases an address to `owner`: the lowest that was never used, or the one whose release is longest ago.
    pub fn allocate(&mut self, owner: &str) -> Result<Ipv4Addr, IpamError> {
        let address = self.next_unused().or_else(|| self.oldest_released()).ok_or_else(|| IpamError::Full { range: self.range() })?;
        self.lease(address, owner);
        Ok(address)
    }

    /// Leases `address` to `owner`, whether it was used before or not.
    pub fn take(&mut self, address: Ipv4Addr, owner: &str) -> Result<(), IpamError> {
        usable(self.subnet, address)?;
        if self.gateway == Some(address) {
            return Err(IpamError::Gateway { address });
        }
        if let Some(holder) = self.leases.get(&address) {
            return Err(IpamError::InUse { address, owner: holder.clone() });
        }
        self.lease(address, owner);
        Ok(())
    }

    /// Ends a lease: who held it, or `None` if nobody did.
    pub fn release(&mut self, address: Ipv4Addr) -> Option<String> {
        let owner = self.leases.remove(&address)?;
        self.released.push(address);
        Some(owner)
    }

    /// Who holds `address`.
    pub fn owner(&self, address: Ipv4Addr) -> Option<&str> {
        self.leases.get(&address).map(String::as_str)
    }

    /// All leases, by address.
    pub fn leases(&self) -> impl Iterator<Item = (Ipv4Addr, &str)> {
        self.leases.iter().map(|(address, owner)| (*address, owner.as_str()))
    }

    pub fn subnet(&self) -> Ipv4Net {
        self.subnet
    }

    pub fn gateway(&self) -> Option<Ipv4Addr> {
        self.gateway
    }

    /// Where [`allocate`](Self::allocate) gives addresses from.
    pub fn range(&self) -> Ipv4Net {
        self.range.unwrap_or(self.subnet)
    }

    fn lease(&mut self, address: Ipv4Addr, owner: &str) {
        self.released.remove(address);
        self.leases.insert(address, owner.to_owned());
    }

    /// Moves the cursor to the lowest address of the range that was never used.
    fn next_unused(&mut self) -> Option<Ipv4Addr> {
        let end = u64::from(self.range().broadcast().to_bits());
        while self.cursor <= end {
            let address = Ipv4Addr::from_bits(u32::try_from(self.cursor).ok()?);
            if usable(self.subnet, address).is_ok() && self.gateway != Some(address) && !self.leases.contains_key(&address) {
                // One step over a run of addresses that were taken by name and released, however long it is.
                match self.released.run_end(address) {
                    None => return Some(address),
                    Some(last) => self.cursor = u64::from(last.to_bits()),
                }
            }
            self.cursor += 1;
        }
        None
    }

    fn oldest_released(&self) -> Option<Ipv4Addr> {
        self.released.oldest_in(self.range())
    }
}

/// Whether a station may have `address`.
fn usable(subnet: Ipv4Net, address: Ipv4Addr) -> Result<(), IpamError> {
    if !subnet.contains(&address) {
        return Err(IpamError::Outside { address, subnet });
    }
    if subnet.prefix_len() < 31 && address == subnet.network() {
        return Err(IpamError::NetworkAddress { address, subnet });
    }
    if subnet.prefix_len() < 31 && address == subnet.broadcast() {
        return Err(IpamError::BroadcastAddress { address, subnet });
    }
    Ok(())
}

fn first_host(subnet: Ipv4Net) -> Ipv4Addr {
    let offset = u32::from(subnet.prefix_len() < 31);
    Ipv4Addr::from_bits(subnet.network().to_bits() + offset)
}

/// Released addresses in the order of their release, as runs of consecutive ones. Addresses are mostly given and given back in
/// order, so a pool that went round many times still has a short state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Released {
    runs: VecDeque<(Ipv4Addr, Ipv4Addr)>,
}

impl Released {
    fn push(&mut self, address: Ipv4Addr) {
        match self.runs.back_mut() {
            Some((_, last)) if last.to_bits().checked_add(1) == Some(address.to_bits()) => *last = address,
            _ => self.runs.push_back((address, address)),
        }
    }

    fn remove(&mut self, address: Ipv4Addr) {
        let Some(at) = self.runs.iter().position(|(first, last)| (*first..=*last).contains(&address)) else { return };
        let Some((first, last)) = self.runs.remove(at) else { return };
        // What is left of the run keeps its place, its lower part first.
        if address < last {
            self.runs.insert(at, (Ipv4Addr::from_bits(address.to_bits() + 1), last));
        }
        if first < address {
            self.runs.insert(at, (first, Ipv4Addr::from_bits(address.to_bits() - 1)));
        }
    }

    /// The last address of the run that `address` is in.
    fn run_end(&self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        self.runs.iter().find(|(first, last)| (*first..=*last).contains(&address)).map(|(_, last)| *last)
    }

    fn oldest_in(&self, range: Ipv4Net) -> Option<Ipv4Addr> {
        let cut = |(first, last): &(Ipv4Addr, Ipv4Addr)| (*first.max(&range.network()), *last.min(&range.broadcast()));
        self.runs.iter().map(cut).find(|(first, last)| first <= last).map(|(first, _)| first)
    }
}

/// The pool as it is written down.
#[derive(Serialize, Deserialize)]
struct State {
    subnet: Ipv4Net,
    gateway: Option<Ipv4Addr>,
    range: Option<Ipv4Net>,
    leases: BTreeMap<Ipv4Addr, String>,
    /// The lowest address of the range that was never used; `None` when all were.
    next: Option<Ipv4Addr>,
    released: Released,
}

impl From<Pool> for State {
    fn from(pool: Pool) -> Self {
        let Pool { subnet, gateway, range, leases, cursor, released } = pool;
        let past = cursor > u64::from(range.unwrap_or(subnet).broadcast().to_bits());
        let next = u32::try_from(cursor).ok().filter(|_| !past).map(Ipv4Addr::from_bits);
        Self { subnet, gateway, range, leases, next, released }
    }
}

impl TryFrom<State> for Pool {
    type Error = IpamError;

    /// Takes a state only if it could have come about: a file that was edited by hand must not give one address to two.
    fn try_from(state: State) -> Result<Self, IpamError> {
        let State { subnet, gateway, range, leases, next, released } = state;
        let bad = |what| IpamError::BadState { subnet, what };
        let choice = gateway.map_or(GatewayChoice::None, GatewayChoice::At);
        let mut pool = Self::new(subnet, choice, range)?;
        let within = pool.range();
        if next.is_some_and(|next| !within.contains(&next)) {
            return Err(bad("`next` is outside of the range"));
        }
        let mut last: Vec<_> = released.runs.iter().copied().collect();
        last.sort_unstable();
        if last.iter().any(|(first, last)| first > last || !subnet.contains(first) || !subnet.contains(last))
            || last.windows(2).any(|pair| matches!(pair, [(_, end), (start, _)] if start <= end))
        {
            return Err(bad("`released` has runs that overlap or lie outside of the subnet"));
        }
        for (address, owner) in leases {
            if released.run_end(address).is_some() {
                return Err(bad("an address is both leased and released"));
            }
            pool.take(address, &owner)?;
        }
        pool.cursor = next.map_or_else(|| u64::from(within.broadcast().to_bits()) + 1, |next| u64::from(next.to_bits()));
        pool.released = released;
        Ok(pool)
    }
}
