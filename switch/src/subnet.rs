//! Choosing the subnets of a network: of IPv4 one that no route of the host leads to, of IPv6 one that follows from its name.
//!
//! Pure: the caller lists the host's routes and the networks that exist.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// The first candidate that overlaps none of the `taken` prefixes: 172.17.0.0/16 to 172.31.0.0/16, then the sixteen /20 of
/// 192.168.0.0/16, then the /16 of 10.0.0.0/8, as docker tries them. `None` if the host uses them all.
///
/// A default route takes no address, and neither do the two halves of one (0.0.0.0/1 and 128.0.0.0/1) that VPN clients set to
/// override it.
pub fn choose(taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    candidates().find(|candidate| taken.iter().filter(|net| net.prefix_len() > 1).all(|net| !overlaps(candidate, net)))
}

/// The unique local prefix (RFC 4193) of a network: fd00::/8, and 56 bits that follow from the instance it is in and its name, so that
/// a network that is made anew has its old addresses, and two instances that meet do not have the same.
///
/// The hash is FNV-1a (draft-eastlake-fnv) with its bits mixed once more: it need not resist anyone, only spread.
pub fn unique_local(instance: &str, name: &str) -> Ipv6Net {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = instance.bytes().chain([0]).chain(name.bytes());
    let mut hash = bytes.fold(BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    hash = (hash ^ (hash >> 32)).wrapping_mul(PRIME);
    let prefix = (0xfd << 56) | (hash >> 8);
    Ipv6Net::new_assert(Ipv6Addr::from_bits(u128::from(prefix) << 64), 64)
}

/// Two prefixes overlap if one holds the other.
pub fn overlaps(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

fn candidates() -> impl Iterator<Item = Ipv4Net> {
    let docker = (17..=31).map(|n| (Ipv4Addr::new(172, n, 0, 0), 16));
    let home = (0..16).map(|n| (Ipv4Addr::new(192, 168, n * 16, 0), 20));
    let private = (0..=255).map(|n| (Ipv4Addr::new(10, n, 0, 0), 16));
    docker.chain(home).chain(private).filter_map(|(address, len)| Ipv4Net::new(address, len).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(text: &[&str]) -> Vec<Ipv4Net> {
        text.iter().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn the_default_network_overlaps_no_route_of_the_host() {
        for (taken, chosen) in [
            (&[][..], "172.17.0.0/16"),
            (&["172.17.0.0/16"], "172.18.0.0/16"),
            (&["172.18.5.0/24", "172.17.255.255/32"], "172.19.0.0/16"),
            (&["172.16.0.0/12"], "192.168.0.0/20"),
            (&["172.16.0.0/12", "192.168.1.0/24"], "192.168.16.0/20"),
            (&["172.16.0.0/12", "192.168.0.0/16", "10.0.0.0/15"], "10.2.0.0/16"),
        ] {
            assert_eq!(choose(&nets(taken)), Some(chosen.parse().unwrap()), "{taken:?}");
        }
    }

    #[test]
    fn every_network_has_a_prefix_of_its_own_and_keeps_it() {
        let names = || (0..10_000).map(|number| format!("net{number}"));
        let all: std::collections::BTreeSet<_> = names().map(|name| unique_local("here", &name)).collect();
        assert_eq!(all.len(), 10_000);
        assert!(all.iter().all(|net| net.network().octets()[0] == 0xfd && net.prefix_len() == 64 && *net == net.trunc()));
        assert_eq!(unique_local("here", "lab"), unique_local("here", "lab"));
        assert_ne!(unique_local("here", "lab"), unique_local("there", "lab"));
        assert_ne!(unique_local("a", "bc"), unique_local("ab", "c"));
    }

    #[test]
    fn default_routes_take_no_address() {
        assert_eq!(choose(&nets(&["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1"])), Some("172.17.0.0/16".parse().unwrap()));
    }

    #[test]
    fn a_host_that_uses_all_private_addresses_gets_none() {
        assert_eq!(choose(&nets(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"])), None);
        assert_eq!(choose(&candidates().collect::<Vec<_>>()), None);
    }
}
