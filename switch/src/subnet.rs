//! Choosing a subnet for the default network: one that no route of the host leads to.
//!
//! Pure: the caller lists the host's routes and the networks that exist.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The first candidate that overlaps none of the `taken` prefixes: 172.17.0.0/16 to 172.31.0.0/16, then the sixteen /20 of
/// 192.168.0.0/16, then the /16 of 10.0.0.0/8, as docker tries them. `None` if the host uses them all.
///
/// A default route takes no address, and neither do the two halves of one (0.0.0.0/1 and 128.0.0.0/1) that VPN clients set to
/// override it.
pub fn choose(taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    candidates().find(|candidate| taken.iter().filter(|net| net.prefix_len() > 1).all(|net| !overlaps(candidate, net)))
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
    fn default_routes_take_no_address() {
        assert_eq!(choose(&nets(&["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1"])), Some("172.17.0.0/16".parse().unwrap()));
    }

    #[test]
    fn a_host_that_uses_all_private_addresses_gets_none() {
        assert_eq!(choose(&nets(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"])), None);
        assert_eq!(choose(&candidates().collect::<Vec<_>>()), None);
    }
}
