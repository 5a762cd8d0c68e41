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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn pool(subnet: &str) -> Pool {
        Pool::new(net(subnet), GatewayChoice::First, None).unwrap()
    }

    #[test]
    fn the_lowest_never_used_address_comes_first_and_the_oldest_release_last() {
        let mut pool = pool("10.0.0.0/29");
        assert_eq!(pool.gateway(), Some(ip("10.0.0.1")));
        let next = |pool: &mut Pool| pool.allocate("web").map(|address| address.octets()[3]);
        assert_eq!((next(&mut pool), next(&mut pool)), (Ok(2), Ok(3)));
        assert_eq!(pool.release(ip("10.0.0.3")), Some("web".into()));
        assert_eq!(pool.release(ip("10.0.0.2")), Some("web".into()));
        assert_eq!([(); 3].map(|()| next(&mut pool)), [Ok(4), Ok(5), Ok(6)], "never used before released");
        assert_eq!([(); 2].map(|()| next(&mut pool)), [Ok(3), Ok(2)], "in the order of their release");
        assert_eq!(next(&mut pool), Err(IpamError::Full { range: net("10.0.0.0/29").into() }));
        assert_eq!(pool.release(ip("10.0.0.7")), None);
    }

    #[test]
    fn an_address_asked_for_is_given_or_refused_by_name() {
        let mut pool = pool("10.0.0.0/24");
        pool.take(ip("10.0.0.9"), "db").unwrap();
        let refused = |pool: &mut Pool, address| pool.take(ip(address), "web").unwrap_err().to_string();
        assert_eq!(refused(&mut pool, "10.0.0.9"), "10.0.0.9 is in use by db");
        assert_eq!(refused(&mut pool, "10.0.0.1"), "10.0.0.1 is the gateway's");
        assert_eq!(refused(&mut pool, "10.0.0.0"), "10.0.0.0 is the network address of 10.0.0.0/24");
        assert_eq!(refused(&mut pool, "10.0.0.255"), "10.0.0.255 is the broadcast address of 10.0.0.0/24");
        assert_eq!(refused(&mut pool, "10.0.1.9"), "10.0.1.9 is not in 10.0.0.0/24");
        assert_eq!(pool.owner(ip("10.0.0.9")), Some("db"));
        assert_eq!(pool.leases().collect::<Vec<_>>(), [(ip("10.0.0.9"), "db")]);
    }

    #[test]
    fn an_address_that_was_taken_by_name_counts_as_used() {
        let mut pool = pool("10.0.0.0/29");
        for address in ["10.0.0.2", "10.0.0.3", "10.0.0.5"] {
            pool.take(ip(address), "db").unwrap();
        }
        pool.release(ip("10.0.0.2"));
        pool.release(ip("10.0.0.3"));
        assert_eq!(pool.allocate("a"), Ok(ip("10.0.0.4")));
        assert_eq!(pool.allocate("b"), Ok(ip("10.0.0.6")));
        assert_eq!(pool.allocate("c"), Ok(ip("10.0.0.2")));
    }

    #[test]
    fn the_range_bounds_what_is_given_and_not_what_is_asked_for() {
        let range = Some(net("10.0.1.0/30"));
        let mut pool = Pool::new(net("10.0.0.0/16"), GatewayChoice::At(ip("10.0.1.1")), range).unwrap();
        pool.take(ip("10.0.9.9"), "db").unwrap();
        pool.release(ip("10.0.9.9"));
        let given: Vec<_> = std::iter::from_fn(|| pool.allocate("web").ok()).collect();
        assert_eq!(given, ["10.0.1.0", "10.0.1.2", "10.0.1.3"].map(ip), "the range's edges are ordinary addresses, the gateway's is not");
        assert_eq!(pool.allocate("web"), Err(IpamError::Full { range: net("10.0.1.0/30").into() }), "what was released lies outside");
        pool.take(ip("10.0.9.9"), "db").unwrap();
    }

    #[test]
    fn small_and_large_subnets_make_sense() {
        let all = |mut pool: Pool| std::iter::from_fn(|| pool.allocate("x").ok()).map(|a| a.to_string()).collect::<Vec<_>>();
        let with = |subnet, gateway| Pool::new(net(subnet), gateway, None);
        assert_eq!(all(with("10.0.0.0/30", GatewayChoice::First).unwrap()), ["10.0.0.2"]);
        assert_eq!(all(with("10.0.0.0/30", GatewayChoice::None).unwrap()), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(all(with("10.0.0.0/31", GatewayChoice::First).unwrap()), ["10.0.0.1"]);
        assert_eq!(all(with("10.0.0.0/31", GatewayChoice::None).unwrap()), ["10.0.0.0", "10.0.0.1"]);
        assert_eq!(all(with("10.0.0.5/32", GatewayChoice::None).unwrap()), ["10.0.0.5"]);
        assert_eq!(with("10.0.0.5/32", GatewayChoice::First), Err(IpamError::TooSmall { subnet: net("10.0.0.5/32").into() }));
        assert_eq!(all(with("255.255.255.254/31", GatewayChoice::None).unwrap()), ["255.255.255.254", "255.255.255.255"]);
        let mut large = pool("10.0.0.0/8");
        assert_eq!(large.allocate("x"), Ok(ip("10.0.0.2")));
        large.take(ip("10.255.255.254"), "y").unwrap();
    }

    #[test]
    fn a_pool_that_makes_no_sense_is_refused() {
        let new = |subnet, gateway, range: Option<&str>| Pool::new(net(subnet), gateway, range.map(net)).unwrap_err().to_string();
        let at = |address| GatewayChoice::At(ip(address));
        assert_eq!(new("10.0.0.0/24", at("10.0.1.1"), None), "10.0.1.1 is not in 10.0.0.0/24");
        assert_eq!(new("10.0.0.0/24", at("10.0.0.255"), None), "10.0.0.255 is the broadcast address of 10.0.0.0/24");
        assert_eq!(new("10.0.0.0/24", GatewayChoice::First, Some("10.0.0.0/23")), "the range 10.0.0.0/23 is not in 10.0.0.0/24");
    }

    #[test]
    fn ipv6_is_counted_alike_up_to_the_last_address_there_is() {
        let net = |text: &str| text.parse::<Ipv6Net>().unwrap();
        let ip = |text: &str| text.parse::<Ipv6Addr>().unwrap();
        let mut pool = Pool::new(net("fd00:1::/64"), GatewayChoice::First, None).unwrap();
        assert_eq!(pool.gateway(), Some(ip("fd00:1::1")));
        assert_eq!([(); 2].map(|()| pool.allocate("a").unwrap()), ["fd00:1::2", "fd00:1::3"].map(ip));
        let refused = |pool: &mut Pool<Ipv6Addr>, address| pool.take(ip(address), "b").unwrap_err().to_string();
        assert_eq!(refused(&mut pool, "fd00:1::"), "fd00:1:: is the network address of fd00:1::/64");
        assert_eq!(refused(&mut pool, "fd00:2::1"), "fd00:2::1 is not in fd00:1::/64");
        pool.take(ip("fd00:1::ffff:ffff:ffff:ffff"), "b").unwrap();
        assert_eq!(serde_json::from_str::<Pool<Ipv6Addr>>(&serde_json::to_string(&pool).unwrap()).unwrap(), pool);

        let mut last: Pool<Ipv6Addr> = Pool::new(net("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126"), GatewayChoice::First, None).unwrap();
        let given: Vec<_> = std::iter::from_fn(|| last.allocate("c").ok()).collect();
        let end = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:";
        assert_eq!(given, [ip(&format!("{end}fffe")), ip(&format!("{end}ffff"))], "there is no broadcast address");
        last.release(given[0]);
        assert_eq!(last.allocate("d"), Ok(given[0]));
        let all = Pool::new(net("::/0"), GatewayChoice::<Ipv6Addr>::None, None).unwrap().allocate("e");
        assert_eq!(all, Ok(Ipv6Addr::LOCALHOST));
    }

    #[test]
    fn a_subnet_given_by_one_of_its_addresses_is_that_subnet() {
        assert_eq!(pool("10.0.0.77/24").subnet(), net("10.0.0.0/24"));
        assert_eq!(pool("10.0.0.77/24").gateway(), Some(ip("10.0.0.1")));
    }

    #[test]
    fn a_pool_that_went_round_many_times_has_a_short_state() {
        let mut pool = pool("10.0.0.0/20");
        for _ in 0..20_000 {
            let address = pool.allocate("web").unwrap();
            pool.release(address);
        }
        assert!(serde_json::to_string(&pool).unwrap().len() < 400);
    }

    #[test]
    fn the_state_reads_as_what_it_means() {
        let mut pool = Pool::new(net("10.0.0.0/24"), GatewayChoice::First, Some(net("10.0.0.0/25"))).unwrap();
        for owner in ["a", "b", "c"] {
            pool.allocate(owner).unwrap();
        }
        pool.release(ip("10.0.0.2"));
        pool.release(ip("10.0.0.3"));
        let text = r#"{"subnet":"10.0.0.0/24","gateway":"10.0.0.1","range":"10.0.0.0/25","leases":{"10.0.0.4":"c"},"next":"10.0.0.4","released":[["10.0.0.2","10.0.0.3"]]}"#;
        assert_eq!(serde_json::to_string(&pool).unwrap(), text);
        assert_eq!(serde_json::from_str::<Pool>(text).unwrap(), pool);
    }

    #[test]
    fn a_state_that_could_not_have_come_about_is_refused() {
        let good = r#"{"subnet":"10.0.0.0/24","gateway":"10.0.0.1","range":null,"leases":{"10.0.0.4":"c"},"next":"10.0.0.5","released":[["10.0.0.2","10.0.0.3"]]}"#;
        assert!(serde_json::from_str::<Pool>(good).is_ok());
        for (from, to) in [
            (r#""10.0.0.4":"c""#, r#""10.0.0.1":"c""#),
            (r#""10.0.0.4":"c""#, r#""10.0.0.3":"c""#),
            (r#""10.0.0.4":"c""#, r#""10.0.4.4":"c""#),
            (r#""10.0.0.5""#, r#""10.0.1.5""#),
            (r#"["10.0.0.2","10.0.0.3"]"#, r#"["10.0.0.3","10.0.0.2"]"#),
            (r#"["10.0.0.2","10.0.0.3"]"#, r#"["10.0.0.2","10.0.1.3"]"#),
            (r#"["10.0.0.2","10.0.0.3"]"#, r#"["10.0.0.2","10.0.0.3"],["10.0.0.3","10.0.0.3"]"#),
            (r#"["10.0.0.2","10.0.0.3"]"#, r#"["10.0.0.0","10.0.0.0"]"#),
            (r#"["10.0.0.2","10.0.0.3"]"#, r#"["10.0.0.200","10.0.0.255"]"#),
            (r#""gateway":"10.0.0.1""#, r#""gateway":"10.0.0.2""#),
        ] {
            let bad = good.replacen(from, to, 1);
            assert!(bad != good && serde_json::from_str::<Pool>(&bad).is_err(), "{bad}");
        }
    }

    /// The rules of the command line, with a list of every address.
    struct Model {
        subnet: Ipv4Net,
        gateway: Option<Ipv4Addr>,
        range: Ipv4Net,
        leased: Vec<Ipv4Addr>,
        released: Vec<Ipv4Addr>,
    }

    impl Model {
        fn usable(&self, address: Ipv4Addr) -> bool {
            let edge = self.subnet.prefix_len() < 31 && (address == self.subnet.network() || address == self.subnet.broadcast());
            self.subnet.contains(&address) && !edge && self.gateway != Some(address)
        }

        fn allocate(&mut self) -> Option<Ipv4Addr> {
            let mut range = (self.range.network().to_bits()..=self.range.broadcast().to_bits()).map(Ipv4Addr::from_bits);
            let unused = range.find(|a| self.usable(*a) && !self.leased.contains(a) && !self.released.contains(a));
            let address = unused.or_else(|| self.released.iter().copied().find(|a| self.range.contains(a)))?;
            self.lease(address);
            Some(address)
        }

        fn take(&mut self, address: Ipv4Addr) -> bool {
            let can = self.usable(address) && !self.leased.contains(&address);
            if can {
                self.lease(address);
            }
            can
        }

        fn lease(&mut self, address: Ipv4Addr) {
            self.released.retain(|other| *other != address);
            self.leased.push(address);
        }

        fn release(&mut self, address: Ipv4Addr) -> bool {
            let held = self.leased.contains(&address);
            self.leased.retain(|other| *other != address);
            if held {
                self.released.push(address);
            }
            held
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Allocate,
        Take(u32),
        Release(u32),
        /// Written down, and read by the next daemon.
        Restart,
    }

    fn op() -> impl Strategy<Value = Op> {
        let address = 0u32..40;
        prop_oneof![
            4 => Just(Op::Allocate),
            2 => address.clone().prop_map(Op::Take),
            4 => address.prop_map(Op::Release),
            1 => Just(Op::Restart),
        ]
    }

    fn shape() -> impl Strategy<Value = (Ipv4Net, GatewayChoice, Option<Ipv4Net>)> {
        let subnet = (27u8..=31).prop_map(|len| Ipv4Net::new(ip("10.0.0.0"), len).unwrap());
        let gateway = prop_oneof![Just(GatewayChoice::First), Just(GatewayChoice::None)];
        (subnet, gateway, prop::option::of((0u32..32, 0u8..3))).prop_map(|(subnet, gateway, range)| {
            let range = range.map(|(at, longer)| {
                let len = (subnet.prefix_len() + longer).min(32);
                Ipv4Net::new(Ipv4Addr::from_bits(subnet.network().to_bits() + at % (1 << (32 - subnet.prefix_len()))), len).unwrap()
            });
            (subnet, gateway, range)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn the_pool_does_what_its_model_does((subnet, gateway, range) in shape(), ops in prop::collection::vec(op(), 0..120)) {
            let mut pool = Pool::new(subnet, gateway, range).unwrap();
            let mut model = Model { subnet, gateway: pool.gateway(), range: pool.range(), leased: Vec::new(), released: Vec::new() };
            for op in ops {
                let at = |n: u32| Ipv4Addr::from_bits(subnet.network().to_bits() + n);
                match op {
                    Op::Allocate => prop_assert_eq!(pool.allocate("x").ok(), model.allocate()),
                    Op::Take(n) => prop_assert_eq!(pool.take(at(n), "x").is_ok(), model.take(at(n))),
                    Op::Release(n) => prop_assert_eq!(pool.release(at(n)).is_some(), model.release(at(n))),
                    Op::Restart => {
                        let again: Pool = serde_json::from_str(&serde_json::to_string(&pool).unwrap()).unwrap();
                        prop_assert_eq!(&again, &pool);
                        pool = again;
                    }
                }
                model.leased.sort_unstable();
                prop_assert_eq!(pool.leases().map(|(address, _)| address).collect::<Vec<_>>(), model.leased.clone());
            }
        }
    }
}
