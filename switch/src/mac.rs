//! Ethernet addresses.

use std::{fmt, net::Ipv4Addr, str::FromStr};

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
    fn text_and_bytes_agree_and_nonsense_is_refused() {
        assert_eq!("02:42:AC:11:00:08".parse(), Ok(Mac([2, 0x42, 0xac, 0x11, 0, 8])));
        for wrong in ["", "02:42:ac:11:00", "02:42:ac:11:00:08:09", "2:42:ac:11:0:8", "0g:42:ac:11:00:08", "+2:42:ac:11:00:08"] {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong} was taken");
        }
    }
}
