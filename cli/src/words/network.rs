//! Networks: `--net` in all its forms, subnets and gateways.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    str::FromStr,
};

use ipnet::IpNet;
use netloom_runtime::spec::{Backend, NetworkMode, NetworkRequest};

use super::{WordError, is_name, not, split};

const NAME: &str = "a name: letters, digits and _.- after a letter or digit";
const ADDRESS: &str = "an IPv4 address";

/// One `--net` word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetWord {
    /// One of the modes that have no network of ours.
    Mode(NetworkMode),
    /// A network, `bridge` among them, with what the long form says.
    Network(NetworkRequest),
}

impl FromStr for NetWord {
    type Err = WordError;

    fn from_str(word: &str) -> Result<Self, WordError> {
        if let Some(path) = word.strip_prefix("ns:") {
            return if path.starts_with('/') {
                Ok(Self::Mode(NetworkMode::Path { path: PathBuf::from(path) }))
            } else {
                Err(not(path, "the absolute path of a network namespace"))
            };
        }
        if let Some(target) = word.strip_prefix("container:") {
            return container(target).map(Self::Mode);
        }
        match word {
            "host" => Ok(Self::Mode(NetworkMode::Host)),
            "none" => Ok(Self::Mode(NetworkMode::None)),
            _ if word.contains('=') => long_form(word).map(Self::Network),
            _ => Ok(Self::Network(NetworkRequest { network: name(word)?, ..NetworkRequest::default() })),
        }
    }
}

/// `container:NAME|ID` and `container:pid:PID`, after the first colon.
fn container(target: &str) -> Result<NetworkMode, WordError> {
    if let Some(pid) = target.strip_prefix("pid:") {
        return self::pid(pid).map(|pid| NetworkMode::Pid { pid });
    }
    Ok(NetworkMode::Container { container: name(target)? })
}

/// `name=N,ip=A,ip6=A,alias=X`; the keys that a network interface has of its own may stand here too.
fn long_form(word: &str) -> Result<NetworkRequest, WordError> {
    let mut request = NetworkRequest::default();
    for part in word.split(',') {
        let (key, value) = split(part, '=', "a `=`")?;
        let twice = match key {
            "name" => !std::mem::replace(&mut request.network, name(value)?).is_empty(),
            "ip" => request.ip.replace(ipv4(value)?).is_some(),
            "ip6" => request.ip6.replace(ipv6(value)?).is_some(),
            "mac-address" => request.mac.replace(mac(value)?).is_some(),
            "mtu" => request.mtu.replace(mtu(value)?).is_some(),
            "alias" => {
                request.aliases.push(name(value)?);
                false
            }
            _ => {
                return Err(WordError::Key { word: word.to_owned(), key: key.to_owned(), keys: "name, ip, ip6, alias, mac-address, mtu" });
            }
        };
        if twice {
            return Err(WordError::Twice { word: word.to_owned(), key: key.to_owned() });
        }
    }
    if request.network.is_empty() {
        return Err(WordError::Lacks { word: word.to_owned(), missing: "`name=NETWORK`" });
    }
    match request.network.as_str() {
        "host" | "none" => Err(not(&request.network, "a network that takes addresses and aliases")),
        _ => Ok(request),
    }
}

pub fn pid(word: &str) -> Result<i32, WordError> {
    word.parse().ok().filter(|pid| *pid > 0).ok_or_else(|| not(word, "a process ID"))
}

/// The name of an interface as the kernel takes it (net/core/dev.c, dev_valid_name): 1 to 15 bytes. `%` would be filled in there.
pub fn ifname(word: &str) -> Result<String, WordError> {
    let taken = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '/' | ':' | '%');
    let good = (1..=15).contains(&word.len()) && !matches!(word, "." | "..") && word.chars().all(taken);
    if good { Ok(word.to_owned()) } else { Err(not(word, "the name of an interface: 1 to 15 bytes, no space and none of / : %")) }
}

/// The name of a network, a container or an alias.
pub fn name(word: &str) -> Result<String, WordError> {
    if is_name(word) { Ok(word.to_owned()) } else { Err(not(word, NAME)) }
}

pub fn ipv4(word: &str) -> Result<Ipv4Addr, WordError> {
    word.parse().map_err(|_| not(word, ADDRESS))
}

pub fn ipv6(word: &str) -> Result<Ipv6Addr, WordError> {
    word.parse().map_err(|_| not(word, "an IPv6 address"))
}

pub fn ip(word: &str) -> Result<IpAddr, WordError> {
    word.parse().map_err(|_| not(word, "an IP address"))
}

/// The address of one interface: not a group address, not all zeros.
pub fn mac(word: &str) -> Result<netloom_switch::Mac, WordError> {
    let mac = word.parse::<netloom_switch::Mac>().map_err(|_| not(word, "a MAC address such as 02:42:ac:11:00:02"))?;
    if mac.is_group() || mac.is_zero() { Err(not(word, "the MAC address of one interface")) } else { Ok(mac) }
}

/// An MTU as IPv4 and a TAP allow it: 68 (RFC 791) to 65,535 bytes.
pub fn mtu(word: &str) -> Result<u16, WordError> {
    word.parse().ok().filter(|mtu| *mtu >= 68).ok_or_else(|| not(word, "an MTU from 68 to 65535 bytes"))
}

/// `--backend`
pub fn backend(word: &str) -> Result<Backend, WordError> {
    Backend::of_name(word).ok_or_else(|| not(word, "a backend: tap or veth"))
}

/// The address of a network of either family.
pub fn subnet(word: &str) -> Result<IpNet, WordError> {
    let net = word.parse::<IpNet>().map_err(|_| not(word, "a network such as 10.1.0.0/24 or fd00:1::/64"))?;
    if net.trunc() == net { Ok(net) } else { Err(WordError::HostBits { word: word.to_owned(), network: net.trunc().to_string() }) }
}

/// One `--gateway` word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayWord {
    None,
    At(IpAddr),
}

/// `--gateway IP|none`
pub fn gateway(word: &str) -> Result<GatewayWord, WordError> {
    match word {
        "none" => Ok(GatewayWord::None),
        _ => word.parse().map(GatewayWord::At).map_err(|_| not(word, "an IP address or `none`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::testing::{refuses, takes};

    fn parse(word: &str) -> Result<NetWord, WordError> {
        word.parse()
    }

    fn network(name: &str) -> NetworkRequest {
        NetworkRequest { network: name.to_owned(), ..NetworkRequest::default() }
    }

    #[test]
    fn every_mode_and_the_long_form_are_taken() {
        let long = NetworkRequest {
            ip: Some([10, 1, 0, 9].into()),
            ip6: Some("fd00:1::9".parse().expect("an address")),
            mac: Some(netloom_switch::Mac([2, 0, 0, 0, 0, 1])),
            mtu: Some(1400),
            aliases: vec!["web".into(), "www".into()],
            ..network("blue")
        };
        takes(
            parse,
            &[
                ("bridge", NetWord::Network(network("bridge"))),
                ("blue", NetWord::Network(network("blue"))),
                ("none", NetWord::Mode(NetworkMode::None)),
                ("host", NetWord::Mode(NetworkMode::Host)),
                ("container:web", NetWord::Mode(NetworkMode::Container { container: "web".into() })),
                ("container:pid:42", NetWord::Mode(NetworkMode::Pid { pid: 42 })),
                ("ns:/run/netns/x", NetWord::Mode(NetworkMode::Path { path: "/run/netns/x".into() })),
                ("name=blue,ip=10.1.0.9,ip6=fd00:1::9,alias=web,alias=www,mac-address=02:00:00:00:00:01,mtu=1400", NetWord::Network(long)),
            ],
        );
    }

    #[test]
    fn a_bad_network_is_refused_by_its_wrong_part() {
        refuses(
            parse,
            &[
                ("", "`` is not a name: letters, digits and _.- after a letter or digit"),
                ("-x", "`-x` is not a name: letters, digits and _.- after a letter or digit"),
                ("container:", "`` is not a name: letters, digits and _.- after a letter or digit"),
                ("container:pid:x", "`x` is not a process ID"),
                ("container:pid:-1", "`-1` is not a process ID"),
                ("ns:netns/x", "`netns/x` is not the absolute path of a network namespace"),
                ("bridge:x", "`bridge:x` is not a name: letters, digits and _.- after a letter or digit"),
                ("ip=10.0.0.1", "`ip=10.0.0.1` lacks `name=NETWORK`"),
                ("name=a,ip=10.0.0", "`10.0.0` is not an IPv4 address"),
                ("name=a,name=b", "`name` stands twice in `name=a,name=b`"),
                ("name=a,colour=red", "`colour` in `name=a,colour=red` is not one of name, ip, ip6, alias, mac-address, mtu"),
                ("name=a,ip", "`ip` lacks a `=`"),
                ("name=host,ip=10.0.0.1", "`host` is not a network that takes addresses and aliases"),
            ],
        );
    }

    #[test]
    fn an_interface_is_named_as_the_kernel_takes_it() {
        takes(ifname, &[("eth0", "eth0".to_owned()), ("a", "a".to_owned()), ("lab-r1.eth-1_x", "lab-r1.eth-1_x".to_owned())]);
        for wrong in ["", ".", "..", "a/b", "a b", "a:1", "tap%d", "sixteen-bytes-ab", "a\n"] {
            assert!(ifname(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn addresses_are_checked_before_anything_is_asked_for() {
        takes(subnet, &[("10.1.0.0/16", "10.1.0.0/16".parse().expect("a network"))]);
        refuses(
            subnet,
            &[
                ("10.1.0.0", "`10.1.0.0` is not a network such as 10.1.0.0/24 or fd00:1::/64"),
                ("10.1.0.0/33", "`10.1.0.0/33` is not a network such as 10.1.0.0/24 or fd00:1::/64"),
                ("10.1.0.7/24", "`10.1.0.7/24` has host bits set; the network is `10.1.0.0/24`"),
            ],
        );
        takes(
            gateway,
            &[
                ("none", GatewayWord::None),
                ("10.1.0.1", GatewayWord::At([10, 1, 0, 1].into())),
                ("fd00:1::1", GatewayWord::At("fd00:1::1".parse().expect("an address"))),
            ],
        );
        refuses(gateway, &[("first", "`first` is not an IP address or `none`")]);
        takes(
            subnet,
            &[("10.1.0.0/16", "10.1.0.0/16".parse().expect("a network")), ("fd00:1::/64", "fd00:1::/64".parse().expect("a network"))],
        );
        refuses(
            subnet,
            &[
                ("fd00:1::", "`fd00:1::` is not a network such as 10.1.0.0/24 or fd00:1::/64"),
                ("fd00:1::7/64", "`fd00:1::7/64` has host bits set; the network is `fd00:1::/64`"),
            ],
        );
        refuses(ipv6, &[("10.0.0.1", "`10.0.0.1` is not an IPv6 address")]);
        refuses(
            mac,
            &[
                ("02:42", "`02:42` is not a MAC address such as 02:42:ac:11:00:02"),
                ("01:00:5e:00:00:01", "`01:00:5e:00:00:01` is not the MAC address of one interface"),
                ("00:00:00:00:00:00", "`00:00:00:00:00:00` is not the MAC address of one interface"),
            ],
        );
        takes(mtu, &[("68", 68), ("65535", 65535)]);
        refuses(mtu, &[("67", "`67` is not an MTU from 68 to 65535 bytes"), ("65536", "`65536` is not an MTU from 68 to 65535 bytes")]);
        takes(backend, &[("tap", Backend::Tap), ("veth", Backend::Veth)]);
        refuses(backend, &[("pigeon", "`pigeon` is not a backend: tap or veth")]);
        refuses(ip, &[("localhost", "`localhost` is not an IP address")]);
    }
}
