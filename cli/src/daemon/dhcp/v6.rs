//! Who gets which address over DHCPv6 (RFC 8415, 18.3). A client there has a name of its own and one for each association, which has one
//! address. Phases and times are those of DHCPv4.
//!
//! The interface of a container is known by the address that its frames come from, not by its DUID: programs of other interfaces in the
//! same namespace call themselves by the same one.

use std::{net::Ipv6Addr, time::Duration};

use netloom_switch::{
    gateway::{Associated, Association, LeaseStatus6, LeaseWish6},
    ipam::Address,
};

use super::{
    super::network::Leases,
    Phase, hex,
    table::{Holder, LEASED, Table},
};

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client6<'a> {
    pub(super) holder: Holder<'a>,
    pub(super) duid: &'a [u8],
    /// The address of the container, if this is its own MAC.
    pub(super) reserved: Option<Ipv6Addr>,
}

/// What a client is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Decision6 {
    pub(super) status: Option<LeaseStatus6>,
    pub(super) associations: Vec<Associated>,
}

impl Client6<'_> {
    /// The owner that the pool knows.
    fn owner(&self, association: u32) -> String {
        format!("dhcp6:{}:{}:{association:08x}", self.holder.container, hex(self.duid))
    }
}

impl Leases {
    /// Decides about one message, and does what follows for the pool; `now` in seconds since 1970. `None`: silence.
    pub(super) fn decide6(&mut self, client: &Client6<'_>, wish: LeaseWish6, asked: &[Association], now: u64) -> Option<Decision6> {
        let mut table = Table { pool: self.pool6.as_mut()?, notes: &mut self.notes6 };
        match wish {
            LeaseWish6::Information => Some(Decision6::default()),
            LeaseWish6::Confirm => confirmed(&table, asked),
            LeaseWish6::Release | LeaseWish6::Decline => Some(ended(&mut table, client, wish, asked, now)),
            LeaseWish6::Solicit { .. } | LeaseWish6::Request | LeaseWish6::Renew | LeaseWish6::Rebind => {
                let each = asked.iter().enumerate().map(|(at, association)| granted(&mut table, client, wish, (at, association), now));
                Some(Decision6 { status: None, associations: each.collect() })
            }
        }
    }
}

fn is_on_link(table: &Table<'_, Ipv6Addr>, address: Ipv6Addr) -> bool {
    let subnet = table.pool.subnet();
    (Ipv6Addr::first(subnet)..=Ipv6Addr::last(subnet)).contains(&address)
}

/// Without an address there is nothing to confirm (RFC 8415, 18.3.3).
fn confirmed(table: &Table<'_, Ipv6Addr>, asked: &[Association]) -> Option<Decision6> {
    let mut addresses = asked.iter().flat_map(|association| &association.addresses).peekable();
    addresses.peek()?;
    let status = if addresses.all(|address| is_on_link(table, *address)) { LeaseStatus6::Success } else { LeaseStatus6::NotOnLink };
    Some(Decision6 { status: Some(status), associations: Vec::new() })
}

/// What the client gives back; the container's own address is not the client's to give.
fn ended(table: &mut Table<'_, Ipv6Addr>, client: &Client6<'_>, wish: LeaseWish6, asked: &[Association], now: u64) -> Decision6 {
    let mut associations = Vec::new();
    for association in asked {
        let bound = table.bound(&client.owner(association.id));
        match bound {
            Some(address) if association.addresses.contains(&address) => match wish {
                LeaseWish6::Decline => table.decline(address, client.holder, now),
                _ => table.free(address),
            },
            _ if client.reserved.is_some_and(|own| association.addresses.contains(&own)) => (),
            _ => associations.push(Associated { id: association.id, addresses: Vec::new(), status: Some(LeaseStatus6::NoBinding) }),
        }
    }
    Decision6 { status: Some(LeaseStatus6::Success), associations }
}

/// An association's address: the one it has, one it would like, or the next. A client that renews what it cannot keep is told so by
/// a lifetime of zero.
fn granted(
    table: &mut Table<'_, Ipv6Addr>,
    client: &Client6<'_>,
    wish: LeaseWish6,
    (at, association): (usize, &Association),
    now: u64,
) -> Associated {
    let id = association.id;
    let refused = |status| Associated { id, addresses: Vec::new(), status: Some(status) };
    let address = match client.reserved {
        // It has one address, whatever it asks for.
        Some(own) => (at == 0).then_some(own),
        None if wish == LeaseWish6::Request && association.addresses.iter().any(|address| !is_on_link(table, *address)) => {
            return refused(LeaseStatus6::NotOnLink);
        }
        None => lease(table, client, wish, association, now),
    };
    let keeps = matches!(wish, LeaseWish6::Renew | LeaseWish6::Rebind);
    let gone = association.addresses.iter().copied().filter(|had| keeps && Some(*had) != address);
    let addresses: Vec<_> = address.map(|address| (address, LEASED)).into_iter().chain(gone.map(|had| (had, Duration::ZERO))).collect();
    if addresses.is_empty() { refused(LeaseStatus6::NoAddresses) } else { Associated { id, addresses, status: None } }
}

fn lease(table: &mut Table<'_, Ipv6Addr>, client: &Client6<'_>, wish: LeaseWish6, association: &Association, now: u64) -> Option<Ipv6Addr> {
    let (owner, container) = (client.owner(association.id), client.holder.container);
    let is_offer = wish == (LeaseWish6::Solicit { rapid: false });
    let known = table.bound(&owner).or_else(|| {
        // Known to an earlier life of this network, or away for long: it may keep what is free.
        let mut wanted = association.addresses.iter().copied();
        if is_offer { None } else { wanted.find(|address| table.take(container, &owner, *address)) }
    });
    let address = known.or_else(|| table.find(container, &owner, association.addresses.iter().copied()))?;
    if !is_offer {
        table.set(address, client.holder, Phase::Leased, now);
    } else if !table.is_leased(address) {
        table.set(address, client.holder, Phase::Offered, now);
    }
    Some(address)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use netloom_switch::{
        Mac,
        ipam::{GatewayChoice, Pool},
    };

    use super::{super::table::PORT_MAX, *};

    const NOW: u64 = 1_000_000;
    const SOLICIT: LeaseWish6 = LeaseWish6::Solicit { rapid: false };

    fn ip(last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 5, 0, 0, 0, 0, 0, last)
    }

    fn leases() -> Leases {
        let pool = Pool::new("10.5.0.0/24".parse().unwrap(), GatewayChoice::First, None).unwrap();
        let mut pool6 = Pool::new("fd00:5::/64".parse().unwrap(), GatewayChoice::First, None).unwrap();
        pool6.take(ip(2), "web").unwrap();
        Leases { pool, pool6: Some(pool6), notes: BTreeMap::new(), notes6: BTreeMap::new() }
    }

    fn client(duid: &[u8]) -> Client6<'_> {
        Client6 { holder: Holder { mac: Mac([2, 0, 0, 0, 0, 1]), container: "web" }, duid, reserved: None }
    }

    fn association(id: u32, addresses: &[Ipv6Addr]) -> Association {
        Association { id, addresses: addresses.to_vec() }
    }

    impl Leases {
        /// What a client with one association is told about it.
        fn one(&mut self, client: &Client6<'_>, wish: LeaseWish6, addresses: &[Ipv6Addr], now: u64) -> Associated {
            let decision = self.decide6(client, wish, &[association(7, addresses)], now).unwrap();
            decision.associations.into_iter().next().unwrap()
        }
    }

    fn given(addresses: &[(Ipv6Addr, Duration)]) -> Associated {
        Associated { id: 7, addresses: addresses.to_vec(), status: None }
    }

    #[test]
    fn an_offer_becomes_a_lease_that_is_renewed_and_that_a_new_name_cannot_take() {
        let mut leases = leases();
        assert_eq!(leases.one(&client(b"one"), SOLICIT, &[], NOW), given(&[(ip(3), LEASED)]));
        assert!(leases.leased_behind("web").is_empty(), "an offer is nobody's address yet");
        assert_eq!(leases.one(&client(b"one"), LeaseWish6::Request, &[ip(3)], NOW), given(&[(ip(3), LEASED)]));
        assert_eq!(leases.leased_behind("web"), [std::net::IpAddr::V6(ip(3))]);
        assert_eq!(leases.one(&client(b"two"), LeaseWish6::Request, &[ip(3)], NOW), given(&[(ip(4), LEASED)]));
        assert_eq!(leases.one(&client(b"one"), LeaseWish6::Renew, &[ip(3)], NOW + 1800), given(&[(ip(3), LEASED)]));
        assert_eq!(leases.expire(NOW + 3600), ["web"], "what was not renewed");
        assert_eq!(leases.expire(NOW + 1800 + 3600), ["web"]);
        assert!(leases.notes6.is_empty() && leases.pool6.as_ref().unwrap().leases().count() == 1);
    }

    #[test]
    fn rapid_commit_leases_at_once() {
        let mut leases = leases();
        assert_eq!(leases.one(&client(b"one"), LeaseWish6::Solicit { rapid: true }, &[], NOW), given(&[(ip(3), LEASED)]));
        assert_eq!(leases.leased_behind("web").len(), 1);
    }

    #[test]
    fn a_container_s_own_mac_has_the_container_s_address_and_no_other() {
        let mut leases = leases();
        let own = Client6 { reserved: Some(ip(2)), ..client(b"one") };
        for wish in [SOLICIT, LeaseWish6::Request] {
            assert_eq!(leases.one(&own, wish, &[ip(9)], NOW), given(&[(ip(2), LEASED)]));
        }
        let renewed = leases.one(&own, LeaseWish6::Renew, &[ip(9)], NOW);
        assert_eq!(renewed, given(&[(ip(2), LEASED), (ip(9), Duration::ZERO)]), "another is to be given up");
        let both = leases.decide6(&own, SOLICIT, &[association(7, &[]), association(8, &[])], NOW).unwrap();
        assert_eq!(both.associations[1].status, Some(LeaseStatus6::NoAddresses));
        let released = leases.decide6(&own, LeaseWish6::Release, &[association(7, &[ip(2)])], NOW).unwrap();
        assert_eq!(released, Decision6 { status: Some(LeaseStatus6::Success), associations: Vec::new() });
        assert_eq!(leases.pool6.as_ref().unwrap().owner(ip(2)), Some("web"), "what the IPAM gave is not the client's to give back");
    }

    #[test]
    fn a_client_that_comes_back_keeps_what_is_free_and_gives_up_what_is_not() {
        let mut leases = leases();
        assert_eq!(leases.one(&client(b"one"), LeaseWish6::Rebind, &[ip(77)], NOW), given(&[(ip(77), LEASED)]));
        let off_link = Ipv6Addr::new(0xfd00, 6, 0, 0, 0, 0, 0, 9);
        let moved = leases.one(&client(b"two"), LeaseWish6::Renew, &[off_link, ip(2)], NOW);
        assert_eq!(moved, given(&[(ip(3), LEASED), (off_link, Duration::ZERO), (ip(2), Duration::ZERO)]));
        let refused = leases.one(&client(b"three"), LeaseWish6::Request, &[off_link], NOW);
        assert_eq!((refused.addresses.len(), refused.status), (0, Some(LeaseStatus6::NotOnLink)));
    }

    #[test]
    fn release_frees_and_decline_sets_aside_and_only_the_holder_can() {
        let mut leases = leases();
        leases.one(&client(b"one"), LeaseWish6::Request, &[ip(3)], NOW);
        for wish in [LeaseWish6::Release, LeaseWish6::Decline] {
            let refused = leases.one(&client(b"two"), wish, &[ip(3)], NOW);
            assert_eq!(refused.status, Some(LeaseStatus6::NoBinding));
            let elsewhere = Client6 { holder: Holder { container: "db", ..client(b"").holder }, ..client(b"one") };
            leases.one(&elsewhere, wish, &[ip(3)], NOW);
            assert_eq!(leases.leased_behind("web").len(), 1);
        }
        leases.decide6(&client(b"one"), LeaseWish6::Decline, &[association(7, &[ip(3)])], NOW).unwrap();
        assert_eq!(leases.one(&client(b"one"), SOLICIT, &[ip(3)], NOW), given(&[(ip(4), LEASED)]));
        leases.decide6(&client(b"one"), LeaseWish6::Release, &[association(7, &[ip(4)])], NOW).unwrap();
        assert_eq!(leases.expire(NOW + 600), ["web"]);
        assert_eq!(leases.pool6.as_ref().unwrap().leases().count(), 1);
    }

    #[test]
    fn confirm_says_whether_the_addresses_are_of_this_link() {
        let mut leases = leases();
        let mut confirm = |addresses: &[Ipv6Addr]| {
            leases.decide6(&client(b"one"), LeaseWish6::Confirm, &[association(7, addresses)], NOW).map(|decision| decision.status)
        };
        assert_eq!(confirm(&[ip(9)]), Some(Some(LeaseStatus6::Success)));
        assert_eq!(confirm(&[ip(9), Ipv6Addr::LOCALHOST]), Some(Some(LeaseStatus6::NotOnLink)));
        assert_eq!(confirm(&[]), None);
    }

    #[test]
    fn one_port_cannot_take_the_whole_pool_and_a_network_without_ipv6_says_nothing() {
        let mut leases = leases();
        let given = (0..200u8).filter(|n| leases.one(&client(&[*n]), SOLICIT, &[], NOW).status.is_none()).count();
        assert_eq!(given, PORT_MAX);
        assert_eq!(leases.one(&client(b"late"), LeaseWish6::Request, &[ip(900)], NOW).status, Some(LeaseStatus6::NoAddresses));
        leases.pool6 = None;
        assert_eq!(leases.decide6(&client(b"one"), LeaseWish6::Information, &[], NOW), None);
    }
}
