//! The admin API: thin over the use cases, on a Unix socket that only the server's own account may open.

pub mod api;
pub mod client;
pub mod socket;
