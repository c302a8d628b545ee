//! The decision log's pure part: leaf and Merkle tree (RFC 6962).

pub mod leaf;
pub mod tree;
