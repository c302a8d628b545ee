//! Trusted issuers: discovery, key sets, session tokens.
//!
//! A session token is read in [`session`], with a key from [`keysets`]; those are fetched in the background, where
//! [`discovery`] says, through [`outbound`], the only door to the network. [`actor`] reads `actor_token`s, [`assertion`] and [`certificate`] what
//! clients authenticate with, [`workload`] what platforms say of workloads, [`logout_token`] and [`security_event`] what tells
//! that sessions have ended, and [`person`] whether a session is a person's of just now.

pub mod actor;
mod address;
pub mod assertion;
pub mod cache;
pub mod certificate;
mod claims;
pub mod discovery;
pub mod event;
pub mod event_fault;
pub mod fault;
pub mod kept;
pub mod keyset;
pub mod keysets;
mod kind;
pub mod logout_token;
pub mod outbound;
pub mod person;
pub mod security_event;
pub mod session;
mod subject;
pub mod workload;

#[cfg(test)]
mod testing;
