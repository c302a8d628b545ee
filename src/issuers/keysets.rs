//! The key sets of all trusted issuers and clients, fetched in the background: one that is down holds up no other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{AbortHandle, JoinSet};

use super::keyset::{Freshness, Keeper, MOST_WAITING_FOR_ALL, Means, Source};
use super::outbound::Outbound;
use crate::clock::Clock;
use crate::domain::ids::{ClientId, Name};
use crate::domain::objects::AuthSpec;
use crate::domain::snapshot::{Issuer, Snapshot, WorkloadIssuer};
use crate::keys::algorithm::Algorithm;
use crate::keys::jwks::JwkSet;
use crate::keys::public::PublicKey;
use crate::metrics::Metrics;

/// How often the background task looks for what is due.
const TICK: Duration = Duration::from_secs(1);

/// The keys of an issuer or client are not known, or too old to be believed. Why, [`KeySets::status`] tells operators; clients
/// do not learn it, since it speaks of the network.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the keys to verify it with could not be fetched lately; try again, the operator sees why")]
pub struct KeysUnavailable {
    /// Its object's name.
    pub owner: Name,
}

/// The state of one issuer's keys, or of those at the `jwks_uri` of clients, for operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerStatus {
    /// The object's name.
    pub name: Name,
    /// Its `iss`; for a client its `jwks_uri`.
    pub issuer: String,
    /// Whether what it signs can be verified now.
    pub ok: bool,
    /// Seconds since the last successful fetch; none if there was none.
    pub age: Option<u64>,
    /// How many usable keys it has.
    pub keys: usize,
    /// Why the last fetch failed; none if it did not.
    pub last_error: Option<String>,
}

/// Key sets of the issuers and clients that it was last told to [follow](Self::follow). Dropping it ends its background task.
pub struct KeySets {
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    means: Arc<Means>,
    kept: ArcSwap<HashMap<Owner, Kept>>,
    changed: Notify,
}

/// Whose keys are kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Owner {
    /// A trusted issuer's, by `iss`.
    Issuer(String),
    /// A workload issuer's, by its `issuer`.
    Workload(String),
    /// Those of who transmits events of a trusted issuer, by the `iss` of the events.
    Transmitter(String),
    /// A client's own, declared whole.
    Client(ClientId),
    /// Those at an address, of all clients that name it: fetched once for all.
    Address(String),
}

#[derive(Clone)]
struct Kept {
    name: Name,
    keeper: Arc<Keeper>,
}

/// What is to be kept: for whom, under which object's name, from where.
type Wanted = (Owner, Name, Source);

/// A client: its id, its object's name, and what it has registered.
type Registered<'a> = (&'a ClientId, &'a Name, &'a AuthSpec);

impl KeySets {
    /// Starts the background task, with nothing to keep yet. Must be called within a tokio runtime.
    pub fn start(
        outbound: Outbound,
        freshness: Freshness,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let waiting = Semaphore::new(MOST_WAITING_FOR_ALL);
        let means = Arc::new(Means { outbound, freshness, clock, metrics, waiting });
        let shared = Arc::new(Shared { means, kept: ArcSwap::default(), changed: Notify::new() });
        let task = tokio::spawn(keep_fresh(shared.clone())).abort_handle();
        Self { shared, task }
    }

    /// Keeps the key sets of exactly the issuers and clients of `snapshot`, and fetches new ones at once. To be called
    /// by one caller at a time, before the snapshot is put in force. What was fetched stays, unless its source has
    /// changed.
    pub fn follow(&self, snapshot: &Snapshot) {
        let before = self.shared.kept.load();
        let keep = |(owner, name, source): Wanted| {
            let old = before.get(&owner).filter(|kept| kept.keeper.source == source);
            let keeper = old.map_or_else(|| Arc::new(Keeper::new(source)), |kept| kept.keeper.clone());
            (owner, Kept { name, keeper })
        };
        let issuers = snapshot.issuers().map(|i| wanted_of_issuer(i));
        let transmitters = snapshot.issuers().filter_map(|i| wanted_of_transmitter(i));
        let platforms = snapshot.workload_issuers().map(|i| wanted_of_workload_issuer(i));
        let agents = snapshot.agents().map(|a| (&a.spec.client_id, &a.name, &a.spec.auth));
        let resources =
            snapshot.resources().filter_map(|r| Some((r.spec.client_id.as_ref()?, &r.name, &r.spec.auth)));
        let clients = agents.chain(resources).filter_map(|(id, name, auth)| wanted_of_client(id, name, auth));
        self.shared
            .kept
            .store(Arc::new(issuers.chain(transmitters).chain(platforms).chain(clients).map(keep).collect()));
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
        self.keys(wanted_of_issuer(issuer), |set| signs(set, kid, algorithm)).await
    }

    /// The keys that sign the security events of `issuer`: its own, unless others are declared for them.
    pub async fn event_keys(
        &self,
        issuer: &Issuer,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Arc<JwkSet>, KeysUnavailable> {
        let wanted = wanted_of_transmitter(issuer).unwrap_or_else(|| wanted_of_issuer(issuer));
        self.keys(wanted, |set| signs(set, kid, algorithm)).await
    }

    /// The keys of the workload issuer `issuer`, fetched anew like those of trusted issuers.
    pub async fn workload_keys(
        &self,
        issuer: &WorkloadIssuer,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Arc<JwkSet>, KeysUnavailable> {
        self.keys(wanted_of_workload_issuer(issuer), |set| signs(set, kid, algorithm)).await
    }

    /// The bundle of the workload issuer `issuer`, for those in it who vouch for X.509-SVIDs; fetched anew if it has none.
    pub async fn workload_authorities(
        &self,
        issuer: &WorkloadIssuer,
    ) -> Result<Arc<JwkSet>, KeysUnavailable> {
        self.keys(wanted_of_workload_issuer(issuer), |set| !set.authorities().is_empty()).await
    }

    /// The keys that a client has registered, fetched anew if none of them is that of the certificate that it shows.
    pub async fn client_certificates(
        &self,
        registered: Registered<'_>,
        shown: impl Fn(&PublicKey) -> bool,
    ) -> Result<Arc<JwkSet>, KeysUnavailable> {
        self.keys(of_client(registered)?, |set| set.keys().iter().any(&shown)).await
    }

    /// The keys that a client has registered, fetched anew like those of issuers. A client without keys has none that are
    /// available.
    pub async fn client_keys(
        &self,
        registered: Registered<'_>,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Arc<JwkSet>, KeysUnavailable> {
        self.keys(of_client(registered)?, |set| signs(set, kid, algorithm)).await
    }

    /// The set that is wanted, fetched anew if it does not `serve`.
    async fn keys(
        &self,
        (owner, name, source): Wanted,
        serves: impl Fn(&JwkSet) -> bool,
    ) -> Result<Arc<JwkSet>, KeysUnavailable> {
        let unavailable = || KeysUnavailable { owner: name.clone() };
        let kept = self.shared.kept.load().get(&owner).cloned();
        // Of another source: the caller's snapshot is not the one that is followed.
        let keeper = kept.filter(|kept| kept.keeper.source == source).ok_or_else(unavailable)?.keeper;
        let means = &self.shared.means;
        if let Some(keys) = keeper.keys(means).filter(|keys| serves(keys)) {
            return Ok(keys);
        }
        let is_over = keeper.await_fetch(means).await;
        // A key that may yet come is not one that the issuer does not have.
        keeper.keys(means).filter(|keys| is_over || serves(keys)).ok_or_else(unavailable)
    }

    /// The state of every issuer, and of every address with keys of clients, by name.
    pub fn status(&self) -> Vec<IssuerStatus> {
        let means = &self.shared.means;
        let kept = self.shared.kept.load();
        let fetched = kept.iter().filter(|(owner, _)| !matches!(owner, Owner::Client(_)));
        let mut all: Vec<_> = fetched.map(|(_, kept)| status(kept, means)).collect();
        all.sort_by(|a, b| (&a.name, &a.issuer).cmp(&(&b.name, &b.issuer)));
        all
    }
}

impl Drop for KeySets {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether a key of `set` may have signed with `kid` and `algorithm`.
fn signs(set: &JwkSet, kid: Option<&str>, algorithm: Algorithm) -> bool {
    !set.find(kid, algorithm).is_empty()
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

fn wanted_of_issuer(issuer: &Issuer) -> Wanted {
    let (iss, jwks_uri) = (issuer.spec.issuer.clone(), issuer.spec.jwks_uri.clone());
    (
        Owner::Issuer(iss.clone()),
        issuer.name.clone(),
        Source { issuer: iss, jwks_uri, jwks: None, is_bundle: false },
    )
}

/// None where the issuer's own keys sign its events, or none are heard.
fn wanted_of_transmitter(issuer: &Issuer) -> Option<Wanted> {
    let jwks_uri = issuer.spec.logout.as_ref()?.caep.as_ref()?.jwks_uri.clone();
    let iss = jwks_uri.is_some().then(|| issuer.spec.event_issuer()).flatten()?.to_owned();
    let source = Source { issuer: iss.clone(), jwks_uri, jwks: None, is_bundle: false };
    Some((Owner::Transmitter(iss), issuer.name.clone(), source))
}

fn wanted_of_workload_issuer(issuer: &WorkloadIssuer) -> Wanted {
    let spec = &issuer.spec;
    let (jwks_uri, jwks) = (spec.jwks_uri.clone(), spec.jwks.clone());
    let source = Source { issuer: spec.issuer.clone(), jwks_uri, jwks, is_bundle: true };
    (Owner::Workload(spec.issuer.clone()), issuer.name.clone(), source)
}

fn of_client((id, name, auth): Registered<'_>) -> Result<Wanted, KeysUnavailable> {
    wanted_of_client(id, name, auth).ok_or_else(|| KeysUnavailable { owner: name.clone() })
}

/// None for a client without keys. One address is one source, whoever names it.
fn wanted_of_client(id: &ClientId, name: &Name, auth: &AuthSpec) -> Option<Wanted> {
    let (owner, issuer) = match (&auth.jwks, &auth.jwks_uri) {
        (Some(_), _) => (Owner::Client(id.clone()), id.to_string()),
        (None, Some(uri)) => (Owner::Address(uri.clone()), uri.clone()),
        (None, None) => return None,
    };
    let source =
        Source { issuer, jwks_uri: auth.jwks_uri.clone(), jwks: auth.jwks.clone(), is_bundle: false };
    Some((owner, name.clone(), source))
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
