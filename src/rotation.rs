//! The use case: signing keys come, wait, sign, rest and go, without a token that cannot be verified (DESIGN §4, §9).
//!
//! A key is published before it signs, for as long as others may keep our key set, and published after it signed,
//! until the last token it signed has expired. An emergency ends a key at once, and what it signed with it.

mod follow;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::clock::{Clock, Random};
use crate::domain::decision::{Decision, Kind, Outcome, Record};
use crate::domain::ids::DecisionId;
use crate::domain::record::RevocationKey;
use crate::keys::algorithm::Algorithm;
use crate::keys::file::PrivateDocument;
use crate::keys::keyring::{Fresh, KeyRing, KeyRingFault, Known, MAX_AGE, Published};
use crate::keys::live::LiveKeys;
use crate::store::Store;
use crate::store::change::{CommitFault, Configure, Revoke};
use crate::store::error::StoreError;
use crate::store::writer::Writer;

/// The setting that tells which key signs: a restart goes on with it, so that no key signs that nobody could know.
const SIGNER: &str = "signing_key";
/// The setting that names the decision of the last change of the published keys: it has other replicas look.
const CHANGED: &str = "signing_keys_changed";
/// After it stopped signing a key rests at least this long: what it signed last is committed by then, or never.
const REST: TimeDelta = TimeDelta::minutes(1);
/// A key that is about to take over counts as signing: it may do so while it is being stopped.
const SOON: Duration = Duration::from_secs(30);
/// Who changes keys where nobody in particular does: by a signal, or because nothing needs a key any more.
pub const BY_ITSELF: &str = "the server";

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// It signs.
    Signing,
    /// It is published and waits to sign.
    Waiting,
    /// It signs no more, and verifies what it signed.
    Retiring,
}

/// One published key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// Its `kid`.
    pub kid: String,
    /// Its `alg`.
    pub algorithm: String,
    /// What it does.
    pub state: KeyState,
    /// The file of its private half.
    pub file: String,
    /// When it begins to sign; only of the one that waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<DateTime<Utc>>,
    /// Tokens it signed that have not expired, the revoked ones included.
    pub tokens: u64,
    /// Of how many tasks they are.
    pub tasks: u64,
    /// When the last of them expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}

/// What `rotate` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotated {
    /// The new key.
    pub kid: String,
    /// When it begins to sign, if the server goes on running; a restart begins the wait anew.
    pub not_before: DateTime<Utc>,
    /// The decision that records it.
    pub decision_id: DecisionId,
}

/// What an emergency did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// The keys, with what they signed that has not expired: that dies.
    pub stopped: Vec<KeyInfo>,
    /// The key that signs after it; none if that is still to be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<String>,
    /// For how many seconds services that keep our key set may still believe the stopped keys.
    pub max_age: u64,
    /// The decision that records it; none as long as it is not confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<DecisionId>,
}

/// What `retire` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// The keys that are not published any more, their files removed.
    pub retired: Vec<String>,
    /// The keys that are still needed, and until when at least.
    pub kept: Vec<KeyInfo>,
}

/// Why the keys stay as they are.
#[derive(Debug, Error)]
pub enum RotationFault {
    /// A key file cannot be read or written.
    #[error("{0}; the keys that serve go on serving")]
    Keys(#[from] KeyRingFault),
    /// One is under way.
    #[error("the key `{kid}` waits already, and signs from {at}: rotate again after that")]
    Waiting {
        /// The key that waits.
        kid: String,
        /// When it begins to sign.
        at: DateTime<Utc>,
    },
    /// No such key is published.
    #[error("no key `{0}` is published; `taskgrant keys list` shows them")]
    Unknown(String),
    /// It is in use.
    #[error(
        "the key `{0}` signs or is about to: rotate first, or stop it with `rotate --emergency --kid {0}`"
    )]
    InUse(String),
    /// Tokens that it signed still live.
    #[error("the key `{kid}` is needed until {until}: {tokens} tokens that it signed have not expired")]
    Needed {
        /// The key.
        kid: String,
        /// How many tokens need it.
        tokens: u64,
        /// When it may go at the earliest.
        until: DateTime<Utc>,
    },
    /// The store does not answer.
    #[error("the store is not available: {0}")]
    Store(#[from] StoreError),
    /// The change cannot be recorded, or its record is unknown.
    #[error("the change cannot be recorded, so the keys stay as they are: {0}")]
    Commit(#[from] CommitFault),
}

/// The use case with what it needs; clones share one turn, so that changes follow one another.
#[derive(Clone)]
pub struct Rotation(Arc<Inner>);

struct Inner {
    keys: LiveKeys,
    store: Store,
    writer: Writer,
    clock: Arc<dyn Clock>,
    random: Random,
    turn: Mutex<Turn>,
}

/// What only the holder of the turn touches.
#[derive(Default)]
struct Turn {
    /// When a retiring key is worth another look, by `kid`.
    look_again: BTreeMap<String, DateTime<Utc>>,
    /// Keys that have signed while this process ran, with tokens to show for it or not.
    have_signed: BTreeSet<String>,
}

/// What the store remembers of the signing keys.
pub async fn known(store: &Store) -> Result<Known, StoreError> {
    let (signer, stopped) = (store.setting(SIGNER).await?, store.stopped_keys().await?);
    Ok(Known { signer, stopped, shared: store.is_shared(), ..Known::default() })
}

impl Rotation {
    /// Wires the use case.
    pub fn new(keys: LiveKeys, store: Store, writer: Writer, clock: Arc<dyn Clock>) -> Self {
        let (random, turn) = (Random::default(), Mutex::default());
        Self(Arc::new(Inner { keys, store, writer, clock, random, turn }))
    }

    /// Every published key: the signer first, then the one that waits, then the others from the newest on.
    pub async fn list(&self) -> Result<Vec<KeyInfo>, RotationFault> {
        let ring = self.0.keys.ring();
        let mut all = Vec::with_capacity(ring.published().len());
        for published in ring.published() {
            all.push(self.info(&ring, published).await?);
        }
        Ok(all)
    }

    /// Publishes a new key, which signs once others had time to learn it. One at a time.
    pub async fn rotate(&self, account: &str) -> Result<Rotated, RotationFault> {
        let mut turn = self.0.turn.lock().await;
        // A key that somebody placed there counts too; a bad folder is told before anything is made.
        let ring = self.read_again().await?;
        self.remember(&mut turn).await?;
        if let Some((kid, at)) = ring.next() {
            return Err(RotationFault::Waiting { kid: kid.to_owned(), at });
        }
        let fresh = self.make().await?;
        let asked = json!({"command": "keys rotate", "kid": fresh.kid(), "signing_key": ring.kid()});
        let decision_id = match self.change(account, asked, []).await {
            Ok(decision_id) => decision_id,
            Err(fault) => {
                discard(&fresh);
                return Err(fault.into());
            }
        };
        let ring = self.read_again().await?;
        drop(turn);
        let not_before = ring.next().map_or_else(|| self.0.clock.now(), |(_, at)| at);
        info!(kid = fresh.kid(), %not_before, "a new signing key is published");
        Ok(Rotated { kid: fresh.kid().to_owned(), not_before, decision_id })
    }

    /// Stops the keys `kids` at once and for ever, the signing key if none is named: they are not published, verify
    /// nothing, and what they signed is dead in every layer. Where the signing key is among them a fresh one signs from
    /// now on. Unless `confirmed` it only tells what would die.
    pub async fn stop(
        &self,
        kids: &[String],
        confirmed: bool,
        account: &str,
    ) -> Result<Stopped, RotationFault> {
        let mut turn = self.0.turn.lock().await;
        let ring = self.0.keys.ring();
        let mut kids: BTreeSet<String> = kids.iter().cloned().collect();
        if kids.is_empty() {
            kids.insert(ring.kid().to_owned());
        }
        let mut stopped = Vec::with_capacity(kids.len());
        for kid in &kids {
            stopped.push(self.info(&ring, find(&ring, kid)?).await?);
        }
        let max_age = MAX_AGE.as_secs();
        if !confirmed {
            let signing = (!kids.contains(ring.kid())).then(|| ring.kid().to_owned());
            return Ok(Stopped { stopped, signing, max_age, decision_id: None });
        }
        let is_soon = ring.is_due(self.0.clock.as_ref(), SOON);
        let next = ring.next().map(|(kid, _)| kid).filter(|_| is_soon);
        let signs = |kid: &String| kid == ring.kid() || next == Some(kid);
        let fresh = if kids.iter().any(signs) { Some(self.make().await?) } else { None };
        let decision_id = self.revoke(&stopped, fresh.as_ref(), account).await?;
        // From here on the keys are dead, also for a restart: the store says so, whatever files are left.
        let signs = self.0.keys.drop_keys(&kids, true, fresh);
        remove(ring.published().iter().filter(|p| kids.contains(p.key.thumbprint())));
        warn!(signing = signs.kid(), %decision_id, "signing keys were stopped at once");
        self.remembered(&mut turn).await;
        Ok(Stopped {
            stopped,
            signing: Some(signs.kid().to_owned()),
            max_age,
            decision_id: Some(decision_id),
        })
    }

    /// Removes the key `kid`, or every retiring key that nothing needs any more. The signing key, the one that waits and
    /// a key with living tokens stay.
    pub async fn retire(&self, kid: Option<&str>, account: &str) -> Result<Retired, RotationFault> {
        let _turn = self.0.turn.lock().await;
        let ring = self.0.keys.ring();
        let mut retired = Retired { retired: Vec::new(), kept: Vec::new() };
        if let Some(kid) = kid {
            let info = self.info(&ring, find(&ring, kid)?).await?;
            self.retire_one(&ring, &info, account).await?;
            retired.retired.push(info.kid);
            return Ok(retired);
        }
        for info in self.list().await?.into_iter().filter(|info| info.state == KeyState::Retiring) {
            match self.retire_one(&ring, &info, account).await {
                Ok(()) => retired.retired.push(info.kid),
                Err(RotationFault::Needed { until, .. }) => {
                    retired.kept.push(KeyInfo { until: Some(until), ..info });
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(retired)
    }

    /// Reads the key folder again, at the word of `account`. On a fault the keys that serve go on serving.
    pub async fn reload(&self, account: &str) -> Result<(), RotationFault> {
        let mut turn = self.0.turn.lock().await;
        let before = self.0.keys.ring();
        let ring = self.read_again().await?;
        self.remembered(&mut turn).await;
        let kids = |ring: &KeyRing| ring.published().iter().map(|p| p.key.thumbprint().to_owned()).collect();
        let (before, now): (BTreeSet<String>, BTreeSet<String>) = (kids(&before), kids(&ring));
        if before != now {
            let asked = json!({"command": "keys reload", "before": before, "published": now});
            if let Err(fault) = self.change(account, asked, []).await {
                warn!(%fault, "other replicas could not be told of the keys: reload them too");
            }
        }
        info!(signing = ring.kid(), published = ring.published().len(), "signing keys read again");
        Ok(())
    }

    /// What is to be done from time to time: lets a key that waited take over, notes which one signs, and removes
    /// retiring keys that nothing needs any more. A key that never signed was put there by somebody, and stays.
    pub async fn tend(&self) {
        let mut turn = self.0.turn.lock().await;
        self.remembered(&mut turn).await;
        let (ring, now) = (self.0.keys.ring(), self.0.clock.now());
        for published in ring.published().iter().filter(|p| state(&ring, p) == KeyState::Retiring) {
            let kid = published.key.thumbprint();
            if turn.look_again.get(kid).is_some_and(|at| now < *at) || self.is_gone(published) {
                continue;
            }
            let has_signed = turn.have_signed.contains(kid);
            let look_again = match self.retire_unneeded(&ring, published, has_signed).await {
                Ok(true) => continue,
                Ok(false) => now + TimeDelta::hours(1),
                Err(RotationFault::Needed { until, .. }) => until,
                Err(fault) => {
                    warn!(kid, %fault, "a retired signing key is not removed");
                    now + TimeDelta::hours(1)
                }
            };
            turn.look_again.insert(kid.to_owned(), look_again);
        }
    }

    /// Whether another replica has removed the key already: this one follows.
    fn is_gone(&self, published: &Published) -> bool {
        self.0.store.is_shared() && published.path.as_ref().is_some_and(|path| !path.exists())
    }

    async fn retire_unneeded(
        &self,
        ring: &KeyRing,
        published: &Published,
        has_signed: bool,
    ) -> Result<bool, RotationFault> {
        let now = self.0.clock.now();
        if !has_signed && self.0.store.signed_by(published.key.thumbprint(), now).await?.ever == 0 {
            return Ok(false);
        }
        let info = self.info(ring, published).await?;
        self.retire_one(ring, &info, BY_ITSELF).await.map(|()| true)
    }

    async fn retire_one(&self, ring: &KeyRing, info: &KeyInfo, account: &str) -> Result<(), RotationFault> {
        let (kid, tokens) = (info.kid.clone(), info.tokens);
        if info.state != KeyState::Retiring {
            return Err(RotationFault::InUse(kid));
        }
        let rested = ring.since().map(|since| since + REST).filter(|at| *at > self.0.clock.now());
        if let Some(until) = info.until.max(rested) {
            return Err(RotationFault::Needed { kid, tokens, until });
        }
        self.change(account, json!({"command": "keys retire", "kid": info.kid}), []).await?;
        PrivateDocument::remove(info.file.as_ref()).map_err(KeyRingFault::from)?;
        self.0.keys.drop_keys(&BTreeSet::from([kid]), false, None);
        info!(kid = info.kid, account, "a signing key that nothing needs any more is removed");
        Ok(())
    }

    /// Commits the end of the keys; without it nothing has happened.
    async fn revoke(
        &self,
        stopped: &[KeyInfo],
        fresh: Option<&Fresh>,
        account: &str,
    ) -> Result<DecisionId, RotationFault> {
        let kids: Vec<&str> = stopped.iter().map(|info| info.kid.as_str()).collect();
        let asked = json!({
            "command": "keys rotate --emergency",
            "stop": kids,
            "tokens": stopped.iter().map(|info| info.tokens).sum::<u64>(),
            "signing_key": fresh.map(Fresh::kid),
        });
        let decision = self.decision(account, asked);
        let decision_id = decision.id;
        let revoke = Revoke {
            keys: kids.into_iter().map(RevocationKey::signing_key).collect(),
            // Whoever has the key can sign for ever.
            keep_until: DateTime::<Utc>::MAX_UTC,
            reason: "the signing key was stopped".to_owned(),
            decision,
        };
        if let Err(fault) = self.0.writer.submit(revoke).await {
            fresh.into_iter().for_each(discard);
            return Err(fault.into());
        }
        Ok(decision_id)
    }

    /// Notes in the store which key signs, if that has changed: a restart goes on with it.
    async fn remember(&self, turn: &mut Turn) -> Result<(), RotationFault> {
        let ring = self.0.keys.ring();
        let before = self.0.store.setting(SIGNER).await?;
        if before.as_deref().is_some_and(|before| before == ring.kid() || !self.supersedes(&ring, before)) {
            return Ok(());
        }
        let asked = json!({"command": "keys", "signing_key": ring.kid(), "before": before});
        turn.have_signed.extend(before);
        self.change(BY_ITSELF, asked, [(SIGNER.to_owned(), ring.kid().to_owned())]).await?;
        Ok(())
    }

    /// Whether our signer may be noted in place of `before`. Among replicas only by the one where it took over, or for a
    /// key that was stopped: two that note their own would never agree.
    fn supersedes(&self, ring: &KeyRing, before: &str) -> bool {
        !self.0.store.is_shared() || ring.took_over_from(before) || ring.has_stopped(before)
    }

    /// Commits a change of the keys, with the settings that go with it, so that other replicas look at them.
    async fn change<const N: usize>(
        &self,
        account: &str,
        asked: Value,
        settings: [(String, String); N],
    ) -> Result<DecisionId, CommitFault> {
        let decision = self.decision(account, asked);
        let decision_id = decision.id;
        let changed = (CHANGED.to_owned(), decision_id.to_string());
        let settings = settings.into_iter().chain([changed]).collect();
        let change = Configure { settings, ..Configure::only(decision) };
        self.0.writer.submit(change).await?;
        Ok(decision_id)
    }

    /// The same where it comes too late to be refused. What is not noted makes the next start wait, no more.
    async fn remembered(&self, turn: &mut Turn) {
        if let Err(fault) = self.remember(turn).await {
            warn!(%fault, "the signing key cannot be noted");
        }
    }

    async fn info(&self, ring: &KeyRing, published: &Published) -> Result<KeyInfo, RotationFault> {
        let kid = published.key.thumbprint();
        let signed = self.0.store.signed_by(kid, self.0.clock.now()).await?;
        let state = state(ring, published);
        Ok(KeyInfo {
            kid: kid.to_owned(),
            algorithm: published.key.declared().map(Algorithm::name).unwrap_or_default().to_owned(),
            state,
            file: published.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            not_before: ring.next().filter(|_| state == KeyState::Waiting).map(|(_, at)| at),
            tokens: signed.tokens,
            tasks: signed.tasks,
            until: signed.until,
        })
    }

    async fn read_again(&self) -> Result<Arc<KeyRing>, KeyRingFault> {
        let keys = self.0.keys.clone();
        on_a_thread(move || keys.reload()).await
    }

    async fn make(&self) -> Result<Fresh, KeyRingFault> {
        let keys = self.0.keys.clone();
        on_a_thread(move || keys.make()).await
    }

    fn decision(&self, account: &str, asked: Value) -> Decision {
        let now = self.0.clock.now();
        Decision {
            id: self.0.random.decision(now),
            kind: Kind::Admin,
            at: now,
            tenant: None,
            outcome: Outcome::Allow,
            policy: None,
            task_type: None,
            record: Record { actor: Some(account.to_owned()), asked, ..Record::default() },
            input: None,
        }
    }
}

fn state(ring: &KeyRing, published: &Published) -> KeyState {
    let kid = published.key.thumbprint();
    if kid == ring.kid() {
        KeyState::Signing
    } else if ring.next().is_some_and(|(next, _)| next == kid) {
        KeyState::Waiting
    } else {
        KeyState::Retiring
    }
}

fn find<'r>(ring: &'r KeyRing, kid: &str) -> Result<&'r Published, RotationFault> {
    let found = ring.published().iter().find(|published| published.key.thumbprint() == kid);
    found.ok_or_else(|| RotationFault::Unknown(kid.to_owned()))
}

/// Removes the files of keys that are dead already: what cannot be removed is told, and does no harm here.
fn remove<'p>(keys: impl Iterator<Item = &'p Published>) {
    for path in keys.filter_map(|published| published.path.as_ref()) {
        if let Err(error) = PrivateDocument::remove(path) {
            warn!(%error, "the file of a stopped key is left: remove it");
        }
    }
}

/// Takes back a key that was made for nothing.
fn discard(fresh: &Fresh) {
    if let Err(error) = PrivateDocument::remove(fresh.path()) {
        warn!(%error, "a new key that is not used is left");
    }
}

/// Runs what reads files or computes for long where it holds up no request.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeyRingFault> + Send + 'static,
) -> Result<T, KeyRingFault> {
    let failed = |_| KeyRingFault::Generate(crate::keys::signing::SigningFault::Failed);
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|gone| Err(failed(gone)))
}
