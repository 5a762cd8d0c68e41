//! Address management for one subnet of IPv4 or IPv6: who holds which address, and which is given next.
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
    fmt::{Debug, Display},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// An address that a pool can count: of IPv4 or of IPv6.
pub trait Address: Copy + Ord + Debug + Display + Into<IpAddr> + Serialize + DeserializeOwned {
    /// A subnet of such addresses.
    type Net: Copy + Eq + Debug + Display + Into<IpNet> + Serialize + DeserializeOwned;
    /// Bits of an address.
    const BITS: u8;
    /// Whether a subnet's last address means everyone on it.
    const HAS_BROADCAST: bool;

    fn bits(self) -> u128;
    /// The lowest [`BITS`](Self::BITS) of `bits` as an address.
    fn from_bits(bits: u128) -> Self;
    fn prefix_len(net: Self::Net) -> u8;
    fn first(net: Self::Net) -> Self;
    fn last(net: Self::Net) -> Self;
    /// The subnet by its own address, if it was named by another.
    fn trunc(net: Self::Net) -> Self::Net;
}

impl Address for Ipv4Addr {
    type Net = Ipv4Net;
    const BITS: u8 = 32;
    const HAS_BROADCAST: bool = true;

    fn bits(self) -> u128 {
        self.to_bits().into()
    }

    fn from_bits(bits: u128) -> Self {
        Self::from_bits(bits as u32)
    }

    fn prefix_len(net: Ipv4Net) -> u8 {
        net.prefix_len()
    }

    fn first(net: Ipv4Net) -> Self {
        net.network()
    }

    fn last(net: Ipv4Net) -> Self {
        net.broadcast()
    }

    fn trunc(net: Ipv4Net) -> Ipv4Net {
        net.trunc()
    }
}

impl Address for Ipv6Addr {
    type Net = Ipv6Net;
    const BITS: u8 = 128;
    const HAS_BROADCAST: bool = false;

    fn bits(self) -> u128 {
        self.to_bits()
    }

    fn from_bits(bits: u128) -> Self {
        Self::from_bits(bits)
    }

    fn prefix_len(net: Ipv6Net) -> u8 {
        net.prefix_len()
    }

    fn first(net: Ipv6Net) -> Self {
        net.network()
    }

    fn last(net: Ipv6Net) -> Self {
        net.broadcast()
    }

    fn trunc(net: Ipv6Net) -> Ipv6Net {
        net.trunc()
    }
}

/// The addresses of one subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "State<A>", into = "State<A>", bound = "")]
pub struct Pool<A: Address = Ipv4Addr> {
    subnet: A::Net,
    gateway: Option<A>,
    /// Where addresses are given from on their own; the whole subnet if `None`.
    range: Option<A::Net>,
    leases: BTreeMap<A, String>,
    /// Every address of the range below this was used at some time; `None`: all of them were.
    next: Option<A>,
    released: Released<A>,
}

/// Which address the gateway has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GatewayChoice<A = Ipv4Addr> {
    /// The subnet's first.
    #[default]
    First,
    /// This one.
    At(A),
    /// There is no gateway: every address can be leased.
    None,
}

/// Why an address cannot be given, or a pool not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IpamError {
    #[error("{address} is not in {subnet}")]
    Outside { address: IpAddr, subnet: IpNet },
    #[error("{address} is the network address of {subnet}")]
    NetworkAddress { address: IpAddr, subnet: IpNet },
    #[error("{address} is the broadcast address of {subnet}")]
    BroadcastAddress { address: IpAddr, subnet: IpNet },
    #[error("{address} is the gateway's")]
    Gateway { address: IpAddr },
    #[error("{address} is in use by {owner}")]
    InUse { address: IpAddr, owner: String },
    #[error("no address is left in {range}")]
    Full { range: IpNet },
    #[error("the range {range} is not in {subnet}")]
    RangeOutside { range: IpNet, subnet: IpNet },
    #[error("{subnet} has no room for a gateway and a container")]
    TooSmall { subnet: IpNet },
    #[error("the saved state of {subnet} is not one that this version made: {what}")]
    BadState { subnet: IpNet, what: &'static str },
}

impl<A: Address> Pool<A> {
    /// A pool for `subnet` in which nothing was ever used. `range` bounds what [`allocate`](Self::allocate) gives, not what
    /// can be [taken](Self::take) by name. Of a /31 both addresses can be used (RFC 3021), and of a /127 (RFC 6164); of a /32 or
    /// /128 the one, without a gateway.
    pub fn new(subnet: A::Net, gateway: GatewayChoice<A>, range: Option<A::Net>) -> Result<Self, IpamError> {
        let subnet = A::trunc(subnet);
        let range = range.map(A::trunc);
        if let Some(range) = range.filter(|range| !contains(subnet, A::first(*range)) || !contains(subnet, A::last(*range))) {
            return Err(IpamError::RangeOutside { range: range.into(), subnet: subnet.into() });
        }
        let gateway = match gateway {
            GatewayChoice::None => None,
            GatewayChoice::First | GatewayChoice::At(_) if A::prefix_len(subnet) == A::BITS => {
                return Err(IpamError::TooSmall { subnet: subnet.into() });
            }
            GatewayChoice::First => Some(first_host(subnet)),
            GatewayChoice::At(address) => {
                usable(subnet, address)?;
                Some(address)
            }
        };
        let next = Some(A::first(range.unwrap_or(subnet)));
        Ok(Self { subnet, gateway, range, leases: BTreeMap::new(), next, released: Released::default() })
    }

    /// Leases an address to `owner`: the lowest that was never used, or the one whose release is longest ago.
    pub fn allocate(&mut self, owner: &str) -> Result<A, IpamError> {
        let address = self.next_unused().or_else(|| self.oldest_released());
        let address = address.ok_or_else(|| IpamError::Full { range: self.range().into() })?;
        self.lease(address, owner);
        Ok(address)
    }

    /// Leases `address` to `owner`, whether it was used before or not.
    pub fn take(&mut self, address: A, owner: &str) -> Result<(), IpamError> {
        usable(self.subnet, address)?;
        if self.gateway == Some(address) {
            return Err(IpamError::Gateway { address: address.into() });
        }
        if let Some(holder) = self.leases.get(&address) {
            return Err(IpamError::InUse { address: address.into(), owner: holder.clone() });
        }
        self.lease(address, owner);
        Ok(())
    }

    /// Ends a lease: who held it, or `None` if nobody did.
    pub fn release(&mut self, address: A) -> Option<String> {
        let owner = self.leases.remove(&address)?;
        self.released.push(address);
        Some(owner)
    }

    /// Who holds `address`.
    pub fn owner(&self, address: A) -> Option<&str> {
        self.leases.get(&address).map(String::as_str)
    }

    /// All leases, by address.
    pub fn leases(&self) -> impl Iterator<Item = (A, &str)> {
        self.leases.iter().map(|(address, owner)| (*address, owner.as_str()))
    }

    /// The whole subnet.
    pub fn subnet(&self) -> A::Net {
        self.subnet
    }

    /// The gateway's address, if there is a gateway.
    pub fn gateway(&self) -> Option<A> {
        self.gateway
    }

    /// Where [`allocate`](Self::allocate) gives addresses from.
    pub fn range(&self) -> A::Net {
        self.range.unwrap_or(self.subnet)
    }

    /// How many addresses [`allocate`](Self::allocate) chooses from, leased or not.
    pub fn size(&self) -> u128 {
        let range = self.range();
        let is_chosen = |address: &A| contains(range, *address);
        let edges = [A::first(self.subnet), A::last(self.subnet)].into_iter().filter(|edge| usable(self.subnet, *edge).is_err());
        let others = edges.chain(self.gateway).filter(is_chosen).count();
        (A::last(range).bits() - A::first(range).bits()).saturating_add(1).saturating_sub(others as u128)
    }

    /// How many of them nobody has.
    pub fn free(&self) -> u128 {
        let range = self.range();
        self.size().saturating_sub(self.leases.range(A::first(range)..=A::last(range)).count() as u128)
    }

    fn lease(&mut self, address: A, owner: &str) {
        self.released.remove(address);
        self.leases.insert(address, owner.to_owned());
    }

    /// Moves on to the lowest address of the range that was never used.
    fn next_unused(&mut self) -> Option<A> {
        let end = A::last(self.range());
        while let Some(address) = self.next {
            let mut used_to = address;
            if usable(self.subnet, address).is_ok() && self.gateway != Some(address) && !self.leases.contains_key(&address) {
                // One step over a run of addresses that were taken by name and released, however long it is.
                match self.released.run_end(address) {
                    None => return Some(address),
                    Some(last) => used_to = last,
                }
            }
            self.next = (used_to < end).then(|| A::from_bits(used_to.bits() + 1));
        }
        None
    }

    fn oldest_released(&self) -> Option<A> {
        self.released.oldest_in(self.range())
    }
}

fn contains<A: Address>(subnet: A::Net, address: A) -> bool {
    (A::first(subnet)..=A::last(subnet)).contains(&address)
}

/// Whether a station may have `address`.
fn usable<A: Address>(subnet: A::Net, address: A) -> Result<(), IpamError> {
    let [has_edges, is_first, is_last] =
        [A::prefix_len(subnet) < A::BITS - 1, address == A::first(subnet), A::HAS_BROADCAST && address == A::last(subnet)];
    let (subnet_net, address_ip) = (subnet.into(), address.into());
    if !contains(subnet, address) {
        return Err(IpamError::Outside { address: address_ip, subnet: subnet_net });
    }
    // Of IPv6 it is the anycast address of all routers (RFC 4291, 2.6.1).
    if has_edges && is_first {
        return Err(IpamError::NetworkAddress { address: address_ip, subnet: subnet_net });
    }
    if has_edges && is_last {
        return Err(IpamError::BroadcastAddress { address: address_ip, subnet: subnet_net });
    }
    Ok(())
}

fn first_host<A: Address>(subnet: A::Net) -> A {
    let offset = u128::from(A::prefix_len(subnet) < A::BITS - 1);
    A::from_bits(A::first(subnet).bits() + offset)
}

/// Released addresses in the order of their release, as runs of consecutive ones. Addresses are mostly given and given back in
/// order, so a pool that went round many times still has a short state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent, bound = "")]
struct Released<A: Address> {
    runs: VecDeque<(A, A)>,
}

impl<A: Address> Default for Released<A> {
    fn default() -> Self {
        Self { runs: VecDeque::new() }
    }
}

impl<A: Address> Released<A> {
    fn push(&mut self, address: A) {
        match self.runs.back_mut() {
            Some((_, last)) if last.bits().checked_add(1) == Some(address.bits()) => *last = address,
            _ => self.runs.push_back((address, address)),
        }
    }

    fn remove(&mut self, address: A) {
        let Some(at) = self.runs.iter().position(|(first, last)| (*first..=*last).contains(&address)) else { return };
        let Some((first, last)) = self.runs.remove(at) else { return };
        // What is left of the run keeps its place, its lower part first.
        if address < last {
            self.runs.insert(at, (A::from_bits(address.bits() + 1), last));
        }
        if first < address {
            self.runs.insert(at, (first, A::from_bits(address.bits() - 1)));
        }
    }

    /// The last address of the run that `address` is in.
    fn run_end(&self, address: A) -> Option<A> {
        self.runs.iter().find(|(first, last)| (*first..=*last).contains(&address)).map(|(_, last)| *last)
    }

    /// Whether every run is one, and none has an address that another has or that no station may have.
    fn is_sound(&self, subnet: A::Net, gateway: Option<A>) -> bool {
        let mut runs: Vec<_> = self.runs.iter().copied().collect();
        runs.sort_unstable();
        // The subnet's own addresses are its edges, so they could only be the edge of a run.
        let stations = runs.iter().all(|(first, last)| first <= last && usable(subnet, *first).is_ok() && usable(subnet, *last).is_ok());
        let apart = runs.windows(2).all(|pair| matches!(pair, [(_, end), (start, _)] if end < start));
        stations && apart && gateway.is_none_or(|gateway| self.run_end(gateway).is_none())
    }

    fn oldest_in(&self, range: A::Net) -> Option<A> {
        let cut = |(first, last): &(A, A)| (*first.max(&A::first(range)), *last.min(&A::last(range)));
        self.runs.iter().map(cut).find(|(first, last)| first <= last).map(|(first, _)| first)
    }
}

/// The pool as it is written down.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
struct State<A: Address> {
    subnet: A::Net,
    gateway: Option<A>,
    range: Option<A::Net>,
    leases: BTreeMap<A, String>,
    /// The lowest address of the range that was never used; `None` when all were.
    next: Option<A>,
    released: Released<A>,
}

impl<A: Address> From<Pool<A>> for State<A> {
    fn from(pool: Pool<A>) -> Self {
        let Pool { subnet, gateway, range, leases, next, released } = pool;
        Self { subnet, gateway, range, leases, next, released }
    }
}

impl<A: Address> TryFrom<State<A>> for Pool<A> {
    type Error = IpamError;

    /// Takes a state only if it could have come about: a file that was edited by hand must not give one address to two.
    fn try_from(state: State<A>) -> Result<Self, IpamError> {
        let State { subnet, gateway, range, leases, next, released } = state;
        let bad = |what| IpamError::BadState { subnet: subnet.into(), what };
        let choice = gateway.map_or(GatewayChoice::None, GatewayChoice::At);
        let mut pool = Self::new(subnet, choice, range)?;
        if next.is_some_and(|next| !contains(pool.range(), next)) {
            return Err(bad("`next` is outside of the range"));
        }
        if !released.is_sound(subnet, gateway) {
            return Err(bad("`released` has runs that overlap, or addresses that nobody can have had"));
        }
        for (address, owner) in leases {
            if released.run_end(address).is_some() {
                return Err(bad("an address is both leased and released"));
            }
            pool.take(address, &owner)?;
        }
        (pool.next, pool.released) = (next, released);
        Ok(pool)
    }
}

#[cfg(test)]
mod tests;
