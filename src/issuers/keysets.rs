//! The key sets of all trusted issuers, fetched in the background: one that is down holds up no other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Serialize;
use thiserror::Error;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

use super::keyset::{Freshness, Keeper, Means, Source};
use super::outbound::Outbound;
use crate::clock::Clock;
use crate::domain::ids::Name;
use crate::domain::snapshot::{Issuer, Snapshot};
use crate::keys::algorithm::Algorithm;
use crate::keys::jwks::JwkSet;

/// How often the background task looks for what is due.
const TICK: Duration = Duration::from_secs(1);

/// The keys of an issuer are not known, or too old to be believed. Why, [`KeySets::status`] tells operators; clients
/// do not learn it, since it speaks of the network.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the keys of issuer `{issuer}` could not be fetched lately; try again, the operator sees why")]
pub struct KeysUnavailable {
    /// Its object's name.
    pub issuer: Name,
}

/// The state of one issuer's keys, for `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IssuerStatus {
    /// The object's name.
    pub name: Name,
    /// Its `iss`.
    pub issuer: String,
    /// Whether its tokens can be verified now.
    pub ok: bool,
    /// Seconds since the last successful fetch; none if there was none.
    pub age: Option<u64>,
    /// How many usable keys it has.
    pub keys: usize,
    /// Why the last fetch failed; none if it did not.
    pub last_error: Option<String>,
}

/// Key sets of the issuers that it was last told to [follow](Self::follow). Dropping it ends its background task.
pub struct KeySets {
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    means: Arc<Means>,
    /// By `iss`.
    kept: ArcSwap<HashMap<String, Kept>>,
    changed: Notify,
}

#[derive(Clone)]
struct Kept {
    name: Name,
    keeper: Arc<Keeper>,
}

impl KeySets {
    /// Starts the background task, with no issuers yet. Must be called within a tokio runtime.
    pub fn start(outbound: Outbound, freshness: Freshness, clock: Arc<dyn Clock>) -> Self {
        let means = Arc::new(Means { outbound, freshness, clock });
        let shared = Arc::new(Shared { means, kept: ArcSwap::default(), changed: Notify::new() });
        let task = tokio::spawn(keep_fresh(shared.clone())).abort_handle();
        Self { shared, task }
    }

    /// Keeps the key sets of exactly the issuers of `snapshot`, and fetches new ones at once. To be called by one
    /// caller at a time, before the snapshot is put in force. What was fetched stays, unless its source has changed.
    pub fn follow(&self, snapshot: &Snapshot) {
        let before = self.shared.kept.load();
        let keep = |issuer: &Arc<Issuer>| {
            let old = before.get(&issuer.spec.issuer).filter(|kept| is_of(&kept.keeper, issuer));
            let keeper =
                old.map_or_else(|| Arc::new(Keeper::new(source(issuer))), |kept| kept.keeper.clone());
            (issuer.spec.issuer.clone(), Kept { name: issuer.name.clone(), keeper })
        };
        self.shared.kept.store(Arc::new(snapshot.issuers().map(keep).collect()));
        self.shared.changed.notify_one();
    }

    /// The keys of `issuer`, fetched anew if none of them may have signed with `kid` and `algorithm`. Such fetches
    /// are at least 10 s apart, however many tokens ask [JW-03].
    pub async fn keys_for(
        &self,
        issuer: &Issuer,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Arc<JwkSet>, KeysUnavailable> {
        let unavailable = || KeysUnavailable { issuer: issuer.name.clone() };
        let keeper = self.keeper(issuer).ok_or_else(unavailable)?;
        let (means, clock) = (&self.shared.means, self.shared.means.clock.as_ref());
        if let Some(keys) = keeper.keys(means).filter(|keys| !keys.find(kid, algorithm).is_empty()) {
            return Ok(keys);
        }
        if let Some(flight) = keeper.claim_on_demand(clock).await {
            // A task of its own: a caller who goes away does not break off what others wait for.
            tokio::spawn(keeper.clone().refresh(flight, means.clone())).await.ok();
        }
        keeper.keys(means).ok_or_else(unavailable)
    }

    fn keeper(&self, issuer: &Issuer) -> Option<Arc<Keeper>> {
        let kept = self.shared.kept.load();
        Some(kept.get(&issuer.spec.issuer).filter(|kept| is_of(&kept.keeper, issuer))?.keeper.clone())
    }

    /// The state of every issuer, by name.
    pub fn status(&self) -> Vec<IssuerStatus> {
        let means = &self.shared.means;
        let kept = self.shared.kept.load();
        let mut all: Vec<_> = kept.values().map(|kept| status(kept, means)).collect();
        all.sort_by(|a, b| (&a.name, &a.issuer).cmp(&(&b.name, &b.issuer)));
        all
    }
}

impl Drop for KeySets {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn status(kept: &Kept, means: &Means) -> IssuerStatus {
    let report = kept.keeper.report(means.clock.as_ref());
    IssuerStatus {
        name: kept.name.clone(),
        issuer: kept.keeper.source.issuer.clone(),
        ok: report.usable_keys > 0 && report.age.is_some_and(|age| age <= means.freshness.max_stale),
        age: report.age.map(|age| age.as_secs()),
        keys: report.usable_keys,
        last_error: report.last_error.map(|e| e.to_string()),
    }
}

fn source(issuer: &Issuer) -> Source {
    Source { issuer: issuer.spec.issuer.clone(), jwks_uri: issuer.spec.jwks_uri.clone() }
}

fn is_of(keeper: &Keeper, issuer: &Issuer) -> bool {
    keeper.source.issuer == issuer.spec.issuer && keeper.source.jwks_uri == issuer.spec.jwks_uri
}

/// The background task. It owns the scheduled fetches; each is a task of its own.
async fn keep_fresh(shared: Arc<Shared>) {
    let mut flights = JoinSet::new();
    loop {
        shared.launch_due(&mut flights);
        tokio::select! {
            () = shared.changed.notified() => {}
            () = tokio::time::sleep(TICK) => {}
            Some(_) = flights.join_next() => {}
        }
    }
}

impl Shared {
    fn launch_due(&self, flights: &mut JoinSet<()>) {
        for kept in self.kept.load().values() {
            if let Some(flight) = kept.keeper.claim_if_due(self.means.clock.as_ref()) {
                flights.spawn(kept.keeper.clone().refresh(flight, self.means.clone()));
            }
        }
    }
}

#[cfg(test)]
#[path = "keysets_tests.rs"]
mod tests;
