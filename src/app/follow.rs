//! What other replicas change, taken over: when they say so, and once a second all the same (DESIGN §7, §11).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::clock::Clock;
use crate::clock::watch::TimeWatch;
use crate::configuration::apply::Configuration;
use crate::http::standing::Standing;
use crate::keys::live::LiveKeys;
use crate::rotation::Rotation;
use crate::store::Store;
use crate::store::watch::{KeyMarks, Look};

/// How long a change of another replica may stay unseen if its notification is lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two looks: many notifications are answered by few.
const REST: Duration = Duration::from_millis(20);
/// For how long key files are read again after a change: a file goes after the commit that says so, and a shared folder may
/// show it late.
const SETTLE: Duration = Duration::from_secs(5);
/// After this long without a look a replica cannot know which key signs.
const LOST: Duration = Duration::from_secs(15);

/// Follows what others change.
pub(super) struct Follower {
    pub(super) configuration: Configuration,
    pub(super) rotation: Rotation,
    pub(super) keys: LiveKeys,
    pub(super) time: TimeWatch,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) standing: Standing,
}

/// What it has seen so far.
struct Seen {
    keys: Option<KeyMarks>,
    keys_changed: Instant,
    last: Instant,
}

impl Follower {
    /// Runs as long as the server does; at once over where there are no others.
    pub(super) async fn run(self, store: Store) {
        let Some(mut watch) = store.watch() else { return };
        let now = Instant::now();
        let mut seen = Seen { keys: None, keys_changed: now, last: now };
        loop {
            let asked = self.clock.now();
            match watch.look().await {
                Ok(look) => {
                    self.time.database(look.now, asked);
                    self.take(look, &mut seen).await;
                }
                // The log has it from whoever needs the database now.
                Err(_) if seen.last.elapsed() < LOST => {}
                Err(fault) => {
                    self.keys.withhold(true);
                    let why =
                        format!("what other replicas change has not been seen for {} s", LOST.as_secs());
                    self.standing.set(Err(format!("{why}: {fault}")));
                }
            }
            sleep(REST).await;
            tokio::select! {
                () = watch.heard() => {}
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn take(&self, look: Look, seen: &mut Seen) {
        seen.last = Instant::now();
        self.time.issued(look.greatest_iat);
        let objects = self.configuration.catch_up(look.generation).await;
        if seen.keys.as_ref() != Some(&look.keys) {
            seen.keys_changed = Instant::now();
            seen.keys = Some(look.keys);
        }
        let keys = if seen.keys_changed.elapsed() < SETTLE || self.standing.reason().is_some() {
            self.rotation.follow().await.map_err(|fault| fault.to_string())
        } else {
            Ok(())
        };
        self.keys.withhold(keys.is_err());
        self.standing.set(objects.map_err(|fault| fault.to_string()).and(keys));
    }
}
