//! Whether a replica has taken over what the others changed: readiness hangs on it.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::{info, warn};

/// Whether this replica has taken over what the others changed; clones share it.
#[derive(Clone, Default)]
pub struct Standing(Arc<Mutex<Option<String>>>);

impl Standing {
    /// Takes in how the last attempt went. The log tells what is new.
    pub fn set(&self, outcome: Result<(), String>) {
        let mut reason = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*reason, &outcome) {
            (before, Err(fault)) if before.as_ref() != Some(fault) => {
                warn!(fault, "this replica does not follow the others");
            }
            (Some(_), Ok(())) => info!("this replica follows the others again"),
            (_, Err(_)) | (None, Ok(())) => {}
        }
        *reason = outcome.err();
    }

    /// Why it has not; none if it has.
    pub fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
