//! Why a server does not start: everything that stops it, with the words to mend it by.

use std::io;

use thiserror::Error;

use super::tls::TlsFault;
use crate::admin::socket::SocketFault;
use crate::config::ConfigFault;
use crate::configuration::apply::LoadFault;
use crate::configuration::apply::policy::PolicyChangeFault;
use crate::issuers::outbound::FetchFault;
use crate::keys::keyring::KeyRingFault;
use crate::policy::suite::Unfit;
use crate::store::change::CommitFault;

use crate::store::error::StoreError;

/// Why the server does not start.
#[derive(Debug, Error)]
pub enum StartFault {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigFault),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The signing keys.
    #[error(transparent)]
    Keys(#[from] KeyRingFault),
    /// A policy bundle that does not compile, or a test of it fails.
    #[error(transparent)]
    Policy(#[from] Unfit),
    /// The first change cannot be committed.
    #[error("the first changes cannot be committed: {0}")]
    Commit(#[from] CommitFault),
    /// The policy in force cannot be told or recorded.
    #[error("policy: {0}")]
    Standing(#[from] PolicyChangeFault),
    /// The admin socket.
    #[error(transparent)]
    Admin(#[from] SocketFault),
    /// The stored objects no longer fit together.
    #[error(transparent)]
    Objects(#[from] LoadFault),
    /// The client for outbound requests.
    #[error("outbound requests: {0}")]
    Outbound(#[from] FetchFault),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsFault),
    /// A listener.
    #[error("cannot listen on {at}: {source}")]
    Listen {
        /// Where.
        at: String,
        /// The system's words.
        source: io::Error,
    },
}
