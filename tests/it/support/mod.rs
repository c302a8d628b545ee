//! What several capabilities need to be tested.

pub(crate) mod approvals;
pub(crate) mod console;
pub(crate) mod database;
pub(crate) mod idp;
pub(crate) mod keyed;
pub(crate) mod people;
pub(crate) mod platform;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod replicas;
pub(crate) mod server;
pub(crate) mod signer;
pub(crate) mod tls;
