//! Pools against a small model, and by example.

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
    let mut all = Pool::new(net("::/0"), GatewayChoice::<Ipv6Addr>::None, None).unwrap();
    assert_eq!((all.allocate("e"), all.free()), (Ok(Ipv6Addr::LOCALHOST), all.size() - 1));
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

    fn size_and_free(&self) -> (u128, u128) {
        let all = (self.range.network().to_bits()..=self.range.broadcast().to_bits()).map(Ipv4Addr::from_bits);
        let (leased, free): (Vec<_>, Vec<_>) = all.filter(|a| self.usable(*a)).partition(|a| self.leased.contains(a));
        ((leased.len() + free.len()) as u128, free.len() as u128)
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
            prop_assert_eq!((pool.size(), pool.free()), model.size_and_free());
        }
    }
}
