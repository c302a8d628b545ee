//! What a server looks after by itself, once a second.

use std::time::Duration;

use tracing::error;

use crate::clock::watch::TimeWatch;
use crate::configuration::apply::Configuration;
use crate::lockdown::Lockdowns;
use crate::rotation::Rotation;
use crate::store::Store;

/// How often clocks and signing keys are looked after.
const TEND_EVERY: Duration = Duration::from_secs(1);

/// What is looked after: the clocks, the lockdowns, the signing keys, and that the stored configuration is
/// the one in force.
pub(super) struct Tended {
    pub(super) rotation: Rotation,
    pub(super) time: TimeWatch,
    pub(super) lockdowns: Lockdowns,
    pub(super) store: Store,
    pub(super) configuration: Configuration,
}

/// Looks after all of it for as long as the server runs.
pub(super) async fn tend(tended: Tended) {
    let Tended { rotation, time, lockdowns, store, configuration } = tended;
    let mut every = tokio::time::interval(TEND_EVERY);
    loop {
        every.tick().await;
        if let Ok(head) = store.head().await {
            // Another replica may have issued by a clock that is ahead of ours.
            time.issued(head.greatest_iat);
            // And published; or a commit of ours has come to stand although nobody heard of it.
            if let Err(fault) = configuration.catch_up(head.generation).await {
                error!(%fault, "the stored configuration is newer than the one in force, and cannot be read");
            }
        }
        configuration.end_policy_mode().await;
        configuration.tend_proposals().await;
        // Or have begun or ended a lockdown. One that cannot be read now is read at the next turn.
        lockdowns.refresh().await.ok();
        // The watch itself tells the log. By a wrong clock a key might seem to have outlived its tokens.
        if time.check().is_ok() {
            rotation.tend().await;
        }
    }
}
