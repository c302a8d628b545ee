//! Watches the folders of the policy: a rule that was edited decides seconds later.

use std::path::PathBuf;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tracing::warn;

use crate::configuration::apply::Configuration;
use crate::configuration::apply::policy::PolicyChangeFault;
use crate::configuration::apply::word::{Unagreed, warn_of_two};
use crate::policy::bundle::Bundle;

/// How often the folders are looked at. What they hold must be the same at two looks: of files that are written one after
/// the other only the last state counts.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Who changes the policy then.
const BY_ITSELF: &str = "the server, as its folders changed";

/// What the folders hold: a version, or why none can be told.
type Seen = Result<String, String>;

/// Looks after `folders`, which held the bundle `found` at the start, for ever; at once over where there are none.
pub(super) async fn watch(configuration: Configuration, folders: Vec<PathBuf>, found: String) {
    if folders.is_empty() {
        return;
    }
    let mut tried: Seen = Ok(found);
    let mut last = tried.clone();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        let now = look(&folders).await;
        let is_settled = now == last;
        last = now;
        if is_settled && last != tried {
            match configuration.reload_policy(folders.clone(), BY_ITSELF).await {
                // Of a bundle that is not fit log, metric and `policy status` tell.
                Ok(_) | Err(PolicyChangeFault::Unfit(_)) => tried.clone_from(&last),
                // Said once: whoever may write to the folders is not two persons.
                Err(PolicyChangeFault::Unagreed(Unagreed::Needed(_))) => {
                    warn_of_two(last.as_deref().unwrap_or_default());
                    tried.clone_from(&last);
                }
                Err(fault @ PolicyChangeFault::Stale(_)) => {
                    warn!(%fault, "the changed policy folders were not taken");
                    tried.clone_from(&last);
                }
                // The store does not answer, or others were faster: the next look tries again.
                Err(fault) => warn!(%fault, "the changed policy folders could not be taken yet"),
            }
        }
    }
}

async fn look(folders: &[PathBuf]) -> Seen {
    let folders = folders.to_vec();
    let read = spawn_blocking(move || Bundle::of_folders(&folders)).await;
    let bundle = read.map_err(|ended| ended.to_string())?.map_err(|fault| fault.to_string())?;
    Ok(bundle.version().to_owned())
}
