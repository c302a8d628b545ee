//! Declarative configuration as a use case: documents in, checked and compared, one snapshot in force.

pub mod documents;
pub mod fault;
mod fit;
mod node;
