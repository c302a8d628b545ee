//! The Token Status List: which token of a list is dead, one bit each (draft-ietf-oauth-status-list) [SL-01].

use serde::{Deserialize, Serialize};

/// Where a token's bit stands: the `status` claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusClaim {
    /// The one mechanism there is here.
    pub status_list: StatusListRef,
}

/// A place in a status list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusListRef {
    /// The index in the list, from 0.
    pub idx: u32,
    /// Where the list is served; its `sub` says the same.
    pub uri: String,
}

/// A fixed number of bits, all 0 (VALID) at first; 1 is INVALID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bits {
    bytes: Vec<u8>,
    set: u32,
}

impl Bits {
    /// `size` bits, rounded up to whole bytes.
    pub fn new(size: u32) -> Self {
        let bytes = usize::try_from(size.div_ceil(8)).unwrap_or_default();
        Self { bytes: vec![0; bytes], set: 0 }
    }

    /// Sets a bit; whether it was 0 and within the list.
    pub fn set(&mut self, index: u32) -> bool {
        let (at, mask) = place(index);
        match self.bytes.get_mut(at) {
            Some(byte) if *byte & mask == 0 => {
                *byte |= mask;
                self.set += 1;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Whether a bit is set; none outside of the list.
    pub fn get(&self, index: u32) -> Option<bool> {
        let (at, mask) = place(index);
        self.bytes.get(at).map(|byte| byte & mask != 0)
    }

    /// How many are set.
    pub fn count(&self) -> u32 {
        self.set
    }

    /// The bytes, each filled from the least significant bit (SL-01).
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The byte of an index, and its bit in it.
fn place(index: u32) -> (usize, u8) {
    (usize::try_from(index / 8).unwrap_or(usize::MAX), 1 << (index % 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the draft, section 4.1: 16 tokens of one bit each.
    #[test]
    fn sl_01_bits_are_packed_from_the_least_significant_one() {
        let mut bits = Bits::new(16);
        for index in [0, 3, 4, 5, 7, 8, 9, 13, 15] {
            assert!(bits.set(index), "{index}");
        }
        assert_eq!(bits.as_bytes(), [0xB9, 0xA3]);
        assert_eq!(bits.count(), 9);
    }

    #[test]
    fn a_bit_is_set_once_and_none_beyond_the_end() {
        let mut bits = Bits::new(12);
        assert!(bits.set(11) && !bits.set(11));
        assert!(!bits.set(16) && !bits.set(u32::MAX));
        assert_eq!(
            (bits.get(11), bits.get(10), bits.get(16), bits.count()),
            (Some(true), Some(false), None, 1)
        );
    }
}
