//! The Merkle tree over the leaves: hashing of RFC 6962 §2.1 (LG-03) and the frontier that the head row keeps.

use thiserror::Error;

use crate::hash::sha256;

/// One SHA-256 value of the tree.
pub type Hash = [u8; 32];

/// Hash of a leaf: SHA-256(0x00 ‖ entry). The prefix keeps a leaf from being passed off as a node.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    sha256(&[&[0x00], entry])
}

/// Hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[0x01], left, right])
}

/// Root of the tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    sha256(&[])
}

/// Why stored bytes are not a frontier.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a frontier of {size} leaves does not have {len} bytes")]
pub struct BadFrontier {
    size: u64,
    len: usize,
}

/// The roots of the perfect subtrees that the leaves fall into, the largest (leftmost) first: all that is needed
/// to append and to tell the root.
///
/// INVARIANT: there are as many roots as `size` has bits set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends one leaf by its hash; at most 64 node hashes.
    pub fn append(&mut self, leaf: Hash) {
        let mut peak = leaf;
        // Each bit set at the low end of `size` is a subtree as large as the one in hand: the two become one.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                peak = node_hash(&left, &peak);
            }
        }
        self.peaks.push(peak);
        self.size += 1;
    }

    /// Root of the whole tree (MTH of RFC 6962 §2.1).
    pub fn root(&self) -> Hash {
        let join = |right: Hash, left: &Hash| node_hash(left, &right);
        let mut peaks = self.peaks.iter().rev();
        peaks.next().map_or_else(empty_root, |last| peaks.fold(*last, join))
    }

    /// The subtree roots one after the other, 32 bytes each; the size is kept beside them.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.peaks.concat()
    }

    /// Reads what [`Frontier::to_bytes`] wrote for `size` leaves.
    pub fn from_bytes(size: u64, bytes: &[u8]) -> Result<Self, BadFrontier> {
        let (peaks, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() || peaks.len() != size.count_ones() as usize {
            return Err(BadFrontier { size, len: bytes.len() });
        }
        Ok(Self { size, peaks: peaks.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, word for word: k is the largest power of two smaller than n.
    fn mth(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            many => {
                let (left, right) = many.split_at(many.len().next_power_of_two() / 2);
                node_hash(&mth(left), &mth(right))
            }
        }
    }

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// Leaves and roots of the Certificate Transparency reference implementation's `merkle_tree_test`.
    const REFERENCE: [(&str, &str); 8] = [
        ("", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
        ("00", "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
        ("10", "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
        ("2021", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
        ("3031", "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
        ("40414243", "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"),
        ("5051525354555657", "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
        (
            "606162636465666768696a6b6c6d6e6f",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ),
    ];

    #[test]
    fn lg_03_the_reference_trees_have_the_reference_roots() {
        let mut frontier = Frontier::default();
        assert_eq!(
            frontier.root().to_vec(),
            unhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        );
        for (entry, root) in REFERENCE {
            frontier.append(leaf_hash(&unhex(entry)));
            assert_eq!(frontier.root().to_vec(), unhex(root), "size {}", frontier.size());
        }
    }

    #[test]
    fn bytes_that_do_not_fit_the_size_are_refused() {
        assert!(Frontier::from_bytes(3, &[0; 64]).is_ok());
        for (size, len) in [(3, 32), (3, 63), (0, 32), (4, 64)] {
            assert_eq!(Frontier::from_bytes(size, &vec![0; len]), Err(BadFrontier { size, len }));
        }
    }

    proptest! {
        #[test]
        fn the_frontier_has_the_root_of_the_definition(count in 0_usize..200, cut in 0_usize..200) {
            let leaves: Vec<Hash> = (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect();
            let mut frontier = Frontier::default();
            for (at, leaf) in leaves.iter().enumerate() {
                if at == cut {
                    frontier = Frontier::from_bytes(frontier.size(), &frontier.to_bytes()).unwrap();
                }
                frontier.append(*leaf);
            }
            prop_assert_eq!(frontier.root(), mth(&leaves));
            prop_assert_eq!(frontier.size(), count as u64);
        }
    }
}
