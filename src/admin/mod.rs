//! The admin API: thin over the use cases, on a Unix socket that only the server's own account may open.

pub mod api;
pub mod client;
pub mod keys;
pub mod socket;

use axum::Router;

use crate::configuration::apply::Configuration;
use crate::rotation::Rotation;

/// All routes of the admin API.
pub fn router(configuration: Configuration, rotation: Rotation) -> Router {
    api::router(configuration).merge(keys::router(rotation))
}
