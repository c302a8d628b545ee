//! The pure core: values and laws; no I/O, no clock.

pub mod approval;
pub mod build;
mod build_admin;
pub mod build_auth;
mod build_issuer;
mod build_logout;
pub mod built_in;
pub mod capability;
pub mod ceiling;
pub mod chain;
pub mod claims;
pub mod decimal;
pub mod decision;
pub mod details;
pub mod excerpt;
pub mod ids;
pub mod json;
pub mod objects;
pub mod principal;
pub mod record;
pub mod refusal;
pub mod request;
pub mod resource;
pub mod scope;
pub mod snapshot;
pub mod status;
pub mod widening;
