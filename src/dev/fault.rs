//! Why the demo does not start, each with what would mend it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use thiserror::Error;

use crate::app::StartFault;
use crate::config::ConfigFault;
use crate::configuration::apply::ApplyFault;
use crate::keys::keyring::KeyRingFault;
use crate::policy::fault::PolicyFault;
use crate::store::error::StoreError;
use crate::terminal::http::Unreachable;

/// Why the demo does not start.
#[derive(Debug, Error)]
pub enum DevFault {
    /// It would be reachable from elsewhere, with passwords that lie in a file.
    #[error(
        "dev does not listen on {0}: its users and secrets are for this machine only; `taskgrant serve` is for others"
    )]
    NotLoopback(IpAddr),
    /// The folder belongs to another address: what is stored and signed names it.
    #[error(
        "the data in `{}` is for {stored}, not {asked}: use --port {}, or another folder with --data",
        data.display(), stored.port()
    )]
    OtherAddress {
        /// The folder.
        data: PathBuf,
        /// Where it was started first.
        stored: SocketAddr,
        /// What was asked for now.
        asked: SocketAddr,
    },
    /// The address is taken.
    #[error("cannot listen on {at}: {why}; {remedy}")]
    Listen {
        /// Where.
        at: SocketAddr,
        /// The system's words.
        why: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// Its provider belonged to the demo tenant, and an `iss` has one object.
    #[error(
        "the data folder is of an older demo, in which nobody could administer over HTTP: remove it, or use another one with --data"
    )]
    OlderDemo,
    /// A file or folder.
    #[error("cannot {action} `{}`: {why}", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// The system's words.
        why: io::Error,
    },
    /// The server itself.
    #[error(transparent)]
    Start(#[from] StartFault),
    /// The server ended by itself.
    #[error("the server has ended: {0}")]
    Ended(String),
    /// It does not answer.
    #[error("the server does not answer on {0}")]
    NotReady(String),
    /// The tour's or the readiness check's requests.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The demo identity provider's key.
    #[error(transparent)]
    Keys(#[from] KeyRingFault),
    /// The configuration that was made for it.
    #[error(transparent)]
    Config(#[from] ConfigFault),
    /// The demo policy.
    #[error("policy: {0}")]
    Policy(#[from] PolicyFault),
    /// The demo objects do not fit to what was changed in this folder meanwhile.
    #[error("the demo objects cannot be applied: {}; start afresh in another folder with --data", listed(.0))]
    Apply(#[from] ApplyFault),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The fault with all that it lists.
fn listed(fault: &ApplyFault) -> String {
    let faults = match fault {
        ApplyFault::Documents(faults) | ApplyFault::Widens(faults) => faults.as_slice(),
        ApplyFault::Conflict | ApplyFault::Unagreed(_) | ApplyFault::Unavailable(_) => &[],
    };
    std::iter::once(fault.to_string()).chain(faults.iter().map(|f| format!("\n  {f}"))).collect()
}
