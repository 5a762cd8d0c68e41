//! Ethernet addresses.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// An EUI-48 address (IEEE 802-2014, 8.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// All ones: everyone.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// Nobody.
    pub const ZERO: Self = Self([0; 6]);

    /// The address a container gets: 02:42 and the four bytes of its IPv4 address, as docker makes them.
    pub const fn from_ipv4(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x42, a, b, c, d])
    }

    /// The link-local address that an interface with this MAC gives itself: fe80::/64 and the modified EUI-64 (RFC 4291, 2.5.6 and
    /// appendix A).
    pub const fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        Ipv6Addr::from_octets([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }

    /// Where a packet to a multicast group goes on an Ethernet: 33:33 and the group's last four bytes (RFC 2464, 7).
    pub const fn of_ipv6_group(group: Ipv6Addr) -> Self {
        let [.., a, b, c, d] = group.octets();
        Self([0x33, 0x33, a, b, c, d])
    }

    /// Broadcast and multicast addresses: the I/G bit is set.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// Nobody's address, as in the target field of an ARP request.
    pub const fn is_zero(self) -> bool {
        matches!(self.0, [0, 0, 0, 0, 0, 0])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is wrong with a text that should be a MAC address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a MAC address such as 02:42:ac:11:00:02")]
pub struct ParseMacError(String);

impl FromStr for Mac {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let wrong = || ParseMacError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(wrong)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = ParseMacError;

    fn try_from(text: String) -> Result<Self, ParseMacError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_mac_carries_its_ipv4_address() {
        assert_eq!(Mac::from_ipv4([172, 17, 0, 8].into()).to_string(), "02:42:ac:11:00:08");
    }

    #[test]
    fn the_ipv6_addresses_of_a_mac_are_those_that_linux_makes() {
        let mac = Mac::from_ipv4([172, 17, 0, 8].into());
        assert_eq!(mac.link_local().to_string(), "fe80::42:acff:fe11:8");
        assert_eq!(Mac::of_ipv6_group("ff02::1:ff11:8".parse().unwrap()).to_string(), "33:33:ff:11:00:08");
    }

    #[test]
    fn text_and_bytes_agree_and_nonsense_is_refused() {
        assert_eq!("02:42:AC:11:00:08".parse(), Ok(Mac([2, 0x42, 0xac, 0x11, 0, 8])));
        for wrong in ["", "02:42:ac:11:00", "02:42:ac:11:00:08:09", "2:42:ac:11:0:8", "0g:42:ac:11:00:08", "+2:42:ac:11:00:08"] {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong} was taken");
        }
    }
}
