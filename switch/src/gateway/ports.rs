//! Ports that the gateway uses in its own name.

use super::random::Random;

/// A range of ports.
#[derive(Clone, Copy, Debug)]
pub(super) struct PortRange {
    first: u16,
    count: u16,
}

/// Linux's default range for connections (ip(7), ip_local_port_range).
pub(super) const OWN_PORTS: PortRange = PortRange { first: 32_768, count: 28_232 };

impl PortRange {
    /// Every port once, from a random one on.
    pub(super) fn starting_anywhere(self, random: &mut Random) -> impl Iterator<Item = u16> {
        let start = random.next_u16() % self.count;
        (0..self.count).map(move |step| self.first + ((u32::from(start) + u32::from(step)) % u32::from(self.count)) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_of_the_range_comes_once() {
        let mut ports: Vec<u16> = OWN_PORTS.starting_anywhere(&mut Random::new(7)).collect();
        assert_ne!(ports.first(), Some(&32_768));
        ports.sort_unstable();
        assert_eq!(ports, (32_768..=60_999).collect::<Vec<_>>());
    }
}
