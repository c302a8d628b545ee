//! The admin API: thin over the use cases, on a Unix socket that only the server's own account may open, and over HTTPS for
//! administrators with a token of ours.

pub mod api;
pub mod approvals;
pub mod asker;
pub mod authorities;
pub mod bootstrap;
pub mod client;
mod data;
pub mod gate;
pub mod keys;
pub mod login;
pub mod policy;
pub mod proposals;
pub mod revocations;
pub mod socket;
pub mod tasks;
pub mod transport;

use std::path::PathBuf;

use axum::Router;

use crate::approvals::Approvals;
use crate::configuration::active::Active;
use crate::configuration::apply::Configuration;
use crate::lockdown::Lockdowns;
use crate::revocation::Revocation;
use crate::rotation::Rotation;
use crate::tasks::Tasks;

/// The use cases that admins call.
pub struct Desk {
    /// Declarative objects.
    pub configuration: Configuration,
    /// Folders that the policy comes from.
    pub policy_folders: Vec<PathBuf>,
    /// Signing keys.
    pub rotation: Rotation,
    /// Revocation.
    pub revocation: Revocation,
    /// Lockdown.
    pub lockdowns: Lockdowns,
    /// Tasks.
    pub tasks: Tasks,
    /// Approvals.
    pub approvals: Approvals,
}

/// The admin API over HTTPS, of the server whose `iss` is `own_issuer`: `routes` behind the gate, and before it what a login has to
/// know.
pub fn over_https(routes: Router, gate: gate::Gate, (active, own_issuer): (Active, String)) -> Router {
    gate::gated(routes, gate).merge(login::router(active, own_issuer))
}

/// All routes of the admin API, for whoever is let in.
pub fn router(desk: Desk) -> Router {
    api::router(desk.configuration.clone())
        .merge(data::router(desk.configuration.clone()))
        .merge(proposals::router(desk.configuration.clone()))
        .merge(policy::router(desk.configuration, desk.policy_folders))
        .merge(keys::router(desk.rotation))
        .merge(revocations::router(desk.revocation))
        .merge(revocations::lockdown_router(desk.lockdowns))
        .merge(tasks::router(desk.tasks))
        .merge(approvals::router(desk.approvals))
}
