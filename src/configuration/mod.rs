//! Declarative configuration as a use case: documents in, checked and compared, one snapshot in force.
//!
//! Reading order: `apply` (the use case), `documents` (from YAML to objects, with places), `plan` (what would change),
//! `active` (what is in force).

pub mod active;
pub mod apply;
pub mod check;
pub mod documents;
pub mod fault;
mod fit;
mod node;
pub mod past;
pub mod plan;
mod registered_keys;
pub mod schemas;

#[cfg(test)]
mod reference_tests;
