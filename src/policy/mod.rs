//! Rego policy (DESIGN §6): what a bundle is, what it is asked, what it may answer, and how it is run.
//!
//! Reading order: `input` (the question), `judgement` (the answer), `entry.rego` (the one built-in module),
//! `bundle` and `folder` (where the rules come from), `syntax` and `rules` (what is refused before it runs), `exact` (what the virtual machine may decide), `guards` (which of it for which task type), `engine`
//! (how it runs), `mode` (whether it bites), `data`, `schema` and `declared` (documents that change without it), `candidate` and `comparison` (another bundle beside it), `check`, `suite`, `coverage` and `explain` (what an admin sees before it goes live), `replay` (what it
//! would have decided); `foreign` is Rego that is no bundle.

mod annotation;
pub mod bundle;
pub mod candidate;
pub mod check;
pub mod comparison;
pub mod coverage;
pub mod data;
pub mod declared;
pub mod engine;
mod exact;
pub mod explain;
pub mod fault;
mod folder;
pub mod foreign;
mod guards;
pub mod input;
pub mod judgement;
mod machine;
pub mod mode;
pub mod replay;
mod rules;
pub mod schema;
pub mod suite;
mod syntax;
#[cfg(test)]
mod testing;
mod value;
