//! The `taskgrant` binary.

fn main() {}
