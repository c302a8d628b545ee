//! The bits of a status list against a list of booleans (SL-01).

use std::collections::BTreeSet;

use proptest::prelude::*;
use taskgrant::domain::status::Bits;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn sl_01_what_is_packed_reads_back_bit_by_bit(
        size in 1..3000_u32,
        wanted in proptest::collection::vec(0..4000_u32, 0..200),
    ) {
        let mut bits = Bits::new(size);
        let room = u32::try_from(bits.as_bytes().len()).unwrap() * 8;
        prop_assert!(room >= size && room < size + 8);
        let mut set = BTreeSet::new();
        for index in wanted {
            prop_assert_eq!(bits.set(index), index < room && set.insert(index), "{}", index);
        }
        set.retain(|index| *index < room);
        // As a verifier reads it: the bits of each byte from the right, one after another.
        let text: String =
            bits.as_bytes().iter().flat_map(|byte| format!("{byte:08b}").chars().rev().collect::<Vec<_>>()).collect();
        for (index, bit) in (0..).zip(text.chars()) {
            prop_assert_eq!(bit == '1', set.contains(&index), "{}", index);
            prop_assert_eq!(bits.get(index), Some(bit == '1'));
        }
        prop_assert_eq!(bits.get(room), None);
        prop_assert_eq!(usize::try_from(bits.count()).unwrap(), set.len());
    }
}
