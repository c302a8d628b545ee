//! Taskgrant: an OAuth 2.0 authorization server that turns a user's session into short-lived, task-scoped
//! capability tokens for agents, and from there authority only ever narrows (RFC 8693).
//!
//! # Reading order
//! One exchange, from the wire to the answer, is six files:
//! 1. `http/token.rs`: the form, client authentication, the answer;
//! 2. `exchange.rs`: the use case, DESIGN §4 from top to bottom;
//! 3. `issuers/`: how a session token is verified;
//! 4. `domain/capability.rs`: the order `child ≤ parent` and the ceilings;
//! 5. `policy/`: what the Rego bundle is asked;
//! 6. `store/writer.rs`: the one writer that commits, and refuses what died meanwhile.
//!
//! # Layers
//! `domain` ← `log` ← `policy`, `keys`, `issuers`, `store` ← `exchange` and the other use cases ← `http`,
//! `admin` ← `app` ← `dev` ← `cli`. Arrows point inward only; `tests/architecture.rs` guards them.

pub mod admin;
pub mod aggregates;
pub mod app;
pub mod approvals;
pub mod authentication;
pub mod cli;
pub mod clock;
pub mod config;
pub mod configuration;
pub mod dev;
pub mod domain;
pub mod exchange;
pub mod hash;
pub mod http;
pub mod introspection;
pub mod issuers;
pub mod keys;
pub mod limits;
pub mod lockdown;
pub mod log;
pub mod metrics;
pub mod notify;
pub mod policy;
pub mod pruning;
pub mod recent;
pub mod replay;
pub mod revocation;
pub mod rotation;
pub mod status;
pub mod store;
pub mod tasks;
pub mod terminal;
