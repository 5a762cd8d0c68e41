//! The hash of the MAC table: two multiplications, keyed.
//!
//! Multiply-mix with secret odd keys: whoever does not know them, and cannot see the hashes, finds no addresses that collide more
//! often than chance. Half a SipHash's cost was a tenth of a lookup's; this one does not show.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes hashers with keys of its own.
#[derive(Clone, Debug)]
pub(super) struct Keyed {
    keys: [u64; 2],
}

impl Default for Keyed {
    /// Keys from the standard library's random ones, different for every table of every process.
    fn default() -> Self {
        let random = || RandomState::new().build_hasher().finish();
        Self { keys: [random(), random() | 1] }
    }
}

impl BuildHasher for Keyed {
    type Hasher = Mixer;

    fn build_hasher(&self) -> Mixer {
        Mixer { state: self.keys[0], multiplier: self.keys[1] }
    }
}

/// The state between the parts of one key.
#[derive(Debug)]
pub(super) struct Mixer {
    state: u64,
    multiplier: u64,
}

impl Hasher for Mixer {
    /// Takes eight bytes at a time; the six of an address are one step.
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let word = part.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.write_u64(word);
        }
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.multiplier);
        self.state = (product >> 64) as u64 ^ product as u64;
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        // The low bits choose the place and the high ones the shard: both must hold all of the key.
        let product = u128::from(self.state) * u128::from(self.multiplier.rotate_left(32) | 1);
        (product >> 64) as u64 ^ product as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mac;

    /// How many of 4096 neighbouring addresses meet in the fullest of 256 places chosen by eight bits from `shift` on.
    fn fullest(keyed: &Keyed, shift: u32) -> usize {
        let mut places = [0; 256];
        for number in 0..4096_u32 {
            let [a, b, c, d] = number.to_be_bytes();
            places[(keyed.hash_one(Mac([2, 0x42, a, b, c, d])) >> shift) as usize & 255] += 1;
        }
        places.into_iter().max().unwrap_or(0)
    }

    #[test]
    fn neighbouring_addresses_spread_over_low_and_high_bits() {
        // 16 a place on average; with a random function the fullest of 256 has some 30.
        for _ in 0..20 {
            let keyed = Keyed::default();
            for shift in [0, 8, 24, 49, 56] {
                assert!(fullest(&keyed, shift) < 64, "bits from {shift} of {keyed:?}");
            }
        }
    }

    #[test]
    fn two_tables_do_not_hash_alike() {
        let mac = Mac([2, 0x42, 172, 17, 0, 2]);
        assert_ne!(Keyed::default().hash_one(mac), Keyed::default().hash_one(mac));
    }
}
