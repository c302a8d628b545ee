//! The use case: documents in, one change committed, the new snapshot in force before the answer. All or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use serde_json::json;
use thiserror::Error;
use tokio::sync::Mutex;

use self::policy::RefusedBundle;
use self::replicas::Replica;
use self::standing::By;
use self::word::{Ready, Unagreed, Word, carrying, needs};
use super::active::{Active, InForce};
use super::documents::{self, Document, Source};
use super::fault::Fault;
use super::past::{Past, Published};
use super::plan::{self, Action, Before, Plan, Step};
use super::registered_keys;
use super::schemas::DetailSchemas;
use crate::clock::Clock;
use crate::domain::build::{self, build};
use crate::domain::decision::{Decision, Kind, Outcome, Reason, Record};
use crate::domain::ids::{DecisionId, Name};
use crate::domain::objects::{Object, ObjectKind, ObjectRef, Spec};
use crate::domain::proposal::TwoPersons;
use crate::domain::snapshot::Snapshot;
use crate::hash::sha256;
use crate::metrics::Metrics;
use crate::policy::candidate::Policy;
use crate::policy::fault::PolicyFault;
use crate::store::Store;
use crate::store::change::{CarriesOut, Change, CommitFault, Committed, Configure, Receipt};
use crate::store::error::StoreError;
use crate::store::rows::ObjectRow;
use crate::store::writer::Writer;

pub mod bootstrap;
pub mod candidate;
pub mod data;
pub mod kept;
pub mod mode;
pub mod policy;
pub mod proposals;
pub mod replicas;
pub mod secrets;
mod standing;
pub mod word;

/// Most names of files that the log keeps of one apply.
const KEPT_FILES: usize = 100;
/// Most faults that the log keeps of one refusal.
const KEPT_FAULTS: usize = 20;

/// How to apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Whether a change may widen what is allowed.
    pub allow_widening: bool,
    /// Whether to tell the plan only. Nothing is changed and nothing is recorded.
    pub dry_run: bool,
    /// Whether to retire the objects in force that no document declares.
    pub prune: bool,
}

/// What an apply did, or for a dry run would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The plan that was carried out.
    #[serde(flatten)]
    pub plan: Plan,
    /// Whether it was a dry run.
    pub dry_run: bool,
    /// The decision that records it; none for a dry run, or where nothing changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<DecisionId>,
}

/// Why nothing was applied.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ApplyFault {
    /// The documents are faulty, or do not fit to one another or to what is in force.
    #[error("the documents are faulty: nothing is applied")]
    Documents(Vec<Fault>),
    /// The change widens what is allowed, and that was not asked for.
    #[error("the change widens what is allowed: nothing is applied")]
    Widens(Vec<Fault>),
    /// Somebody else published meanwhile.
    #[error("the configuration was changed by somebody else meanwhile: apply again")]
    Conflict,
    /// One person's word is not enough, or that of two no longer is.
    #[error("{0}")]
    Unagreed(#[from] Unagreed),
    /// The store does not answer. If a commit's outcome is unknown, the change may yet stand: apply again.
    #[error("the store is not available: {0}")]
    Unavailable(String),
}

impl From<LoadFault> for ApplyFault {
    fn from(fault: LoadFault) -> Self {
        Self::Unavailable(fault.to_string())
    }
}

impl From<StoreError> for ApplyFault {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Why the stored objects cannot be put into force.
#[derive(Debug, Error)]
pub enum LoadFault {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stored objects do not build, for instance since `public_url` has changed.
    #[error("the stored objects do not fit to one another: {}", .0.first().map(ToString::to_string).unwrap_or_default())]
    Objects(Vec<Fault>),
    /// The policy bundle in force does not run in this program.
    #[error("the policy in force does not run here, put another in force: {version}: {fault}")]
    Policy {
        /// Its version.
        version: String,
        /// Why.
        fault: PolicyFault,
    },
}

/// Reads all objects and puts them, with `policy`, into a value that can be put into force.
pub async fn load(store: &Store, own_issuer: &str, policy: impl Into<Policy>) -> Result<InForce, LoadFault> {
    // First: objects that are newer than the generation told with them are read again, older ones would be believed.
    let generation = store.head().await?.generation;
    let current = objects(store.objects_current().await?)?;
    let earlier = earlier(store, &current).await?;
    let fit = |faults: Vec<build::Fault>| LoadFault::Objects(documents::place(&faults, &[]));
    let snapshot = build(&current, &earlier, own_issuer).map_err(fit)?;
    let schemas = DetailSchemas::compile(&snapshot).map_err(fit)?;
    let (snapshot, schemas, policy) = (Arc::new(snapshot), Arc::new(schemas), policy.into());
    Ok(InForce { generation, snapshot, schemas, policy })
}

/// Fits objects to one another as an apply does: references, rules, schemas, registered keys.
pub fn fit(
    objects: &[Object],
    earlier: &[Object],
    own_issuer: &str,
) -> Result<(Snapshot, DetailSchemas), Vec<build::Fault>> {
    let snapshot = build(objects, earlier, own_issuer)?;
    let schemas = DetailSchemas::compile(&snapshot)?;
    let keys = registered_keys::faults(&snapshot);
    if keys.is_empty() { Ok((snapshot, schemas)) } else { Err(keys) }
}

/// Applies documents; clones share one turn, so that applies follow one another.
#[derive(Clone)]
pub struct Configuration(Arc<Inner>);

struct Inner {
    store: Store,
    writer: Writer,
    active: Active,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    own_issuer: String,
    two_persons: TwoPersons,
    random: SystemRandom,
    /// The bundle that this process refused last, as long as no fit one was offered and no other one came into force since.
    refused: std::sync::Mutex<Option<RefusedBundle>>,
    /// As which server of the deployment this process is told of; none where it serves nothing.
    replica: std::sync::Mutex<Option<Replica>>,
    /// The generation that could not be put in force here last, and why.
    behind: std::sync::Mutex<Option<(i64, String)>>,
    /// Held from reading what is in force until what replaces it is in force.
    turn: Mutex<()>,
}

/// What is in force, what is declared, and whether anything else goes.
struct Wanted<'a> {
    before: &'a Before,
    documents: &'a [Document],
    prune: bool,
}

/// What would be in force.
struct Next {
    plan: Plan,
    put: Vec<Object>,
    retire: Vec<ObjectRef>,
    snapshot: Snapshot,
    schemas: DetailSchemas,
}

impl Configuration {
    /// `own_issuer` is this server's `iss`; `two_persons` which changes take two persons.
    pub fn new(
        store: Store,
        writer: Writer,
        active: Active,
        (clock, metrics): (Arc<dyn Clock>, Arc<Metrics>),
        (own_issuer, two_persons): (String, TwoPersons),
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            writer,
            active,
            clock,
            metrics,
            own_issuer,
            two_persons,
            random: SystemRandom::new(),
            refused: std::sync::Mutex::default(),
            replica: std::sync::Mutex::default(),
            behind: std::sync::Mutex::default(),
            turn: Mutex::new(()),
        }))
    }

    /// Applies `sources` on somebody's word.
    ///
    /// Runs to its end also if the caller goes away: between the commit and the new snapshot nothing may be lost.
    pub async fn apply(
        &self,
        sources: impl Into<Arc<[Source]>>,
        options: Options,
        word: impl Into<Word>,
    ) -> Result<Applied, ApplyFault> {
        let (inner, sources, word) = (self.0.clone(), sources.into(), word.into());
        let run = tokio::spawn(async move { inner.apply(sources, options, &word).await });
        run.await.unwrap_or_else(|error| Err(ApplyFault::Unavailable(error.to_string())))
    }

    /// Sees to it that at least the generation `stored` is in force, which the store was seen to hold: another replica
    /// published it, or a commit here whose outcome was unknown. What is in force stays where the store cannot be read.
    pub async fn catch_up(&self, stored: i64) -> Result<(), LoadFault> {
        let inner = &self.0;
        if inner.active.load().generation >= stored {
            return Ok(());
        }
        // An apply that has committed puts its own objects into force; of many that wait here only the first one reads.
        let _turn = inner.turn.lock().await;
        if inner.active.load().generation < stored {
            let taken = inner.take_stored().await;
            let generation = taken.inspect_err(|why| inner.falls_behind(stored, why))?;
            tracing::info!(generation, "the configuration was read again: the store's was newer");
        }
        Ok(())
    }

    /// The objects in force, as they are stored.
    pub async fn objects(&self) -> Result<Vec<Object>, StoreError> {
        objects(self.0.store.objects_current().await?)
    }
}

/// Names the objects in force beside which a plan creates something: what is new rests on them, and the plan does not tell them.
fn beside(before: &Before, next: &Next) -> Option<String> {
    next.plan.changes().find(|step| step.action == Action::Create)?;
    let all: Vec<_> = before.current.iter().map(|object| (&object.id, object.version)).collect();
    Some(format!("sha256:{}", hex::encode(sha256(&[json!(all).to_string().as_bytes()]))))
}

impl Inner {
    async fn apply(
        &self,
        sources: Arc<[Source]>,
        options: Options,
        word: &Word,
    ) -> Result<Applied, ApplyFault> {
        let asked = json!({
            "command": "apply",
            "allow_widening": options.allow_widening,
            "prune": options.prune,
            "files": sources.iter().take(KEPT_FILES).map(|s| &s.file).collect::<Vec<_>>(),
        });
        let order = Order { options, actor: word.account(), asked };
        let mut read = match read(sources).await {
            Ok(documents) => documents,
            Err(faults) => return self.refuse(&order, ApplyFault::Documents(faults)).await,
        };
        let _turn = self.turn.lock().await;
        let mut generation = self.store.head().await?.generation;
        let policy = self.standing_policy().await?;
        let before = self.before(&read).await?;
        plan::carry(&before, &mut read);
        let next = match self.prepare(&before, &read, options.prune).await? {
            Ok(next) => next,
            Err(faults) => return self.refuse(&order, ApplyFault::Documents(faults)).await,
        };
        if options.dry_run {
            return Ok(Applied { plan: next.plan, dry_run: true, decision_id: None });
        }
        let wider: Vec<Fault> = next.plan.widenings().cloned().collect();
        if !wider.is_empty() && !options.allow_widening {
            return self.refuse(&order, ApplyFault::Widens(wider)).await;
        }
        let ready = Ready {
            needs: needs(&before, &next),
            effect: json!({"plan": next.plan, "prune": options.prune, "beside": beside(&before, &next)}),
            base: generation,
        };
        let agreed = self.agreed(By::new("apply", word, None), ready).await?;
        let mut decision_id = None;
        if !next.plan.is_empty() {
            let receipt = self.commit(&order, &next, (generation, agreed)).await?;
            decision_id = Some(receipt.decision_id);
            generation = receipt.generation;
        }
        // Also where nothing changed: a commit whose outcome was unknown is in force from here on.
        let Next { plan, snapshot, schemas, .. } = next;
        let (snapshot, schemas) = (Arc::new(snapshot), Arc::new(schemas));
        self.put_in_force(InForce { generation, snapshot, schemas, policy });
        Ok(Applied { plan, dry_run: false, decision_id })
    }

    /// Puts in force what is stored, and says of which generation that is. Only for the holder of the turn.
    async fn take_stored(&self) -> Result<i64, LoadFault> {
        // First: what is newer than the generation told with it is read again, older would be believed.
        let generation = self.store.head().await?.generation;
        let policy = self.standing_policy().await?;
        let stored = load(&self.store, &self.own_issuer, policy).await?;
        self.put_in_force(InForce { generation, ..stored });
        Ok(generation)
    }

    async fn before(&self, documents: &[Document]) -> Result<Before, StoreError> {
        let current = objects(self.store.objects_current().await?)?;
        let mut versions = Vec::new();
        for kind in documents.iter().map(|d| d.id.kind).collect::<BTreeSet<ObjectKind>>() {
            versions.extend(self.store.object_versions(kind).await?);
        }
        let published = |row: ObjectRow| {
            let ObjectRow { id, version, spec, published_at } = row;
            Published { id, version, at: published_at, spec }
        };
        Ok(Before { current, past: Past::new(versions.into_iter().map(published)) })
    }

    async fn prepare(
        &self,
        before: &Before,
        documents: &[Document],
        prune: bool,
    ) -> Result<Result<Next, Vec<Fault>>, StoreError> {
        let fixed = self.changed_prefixes(documents).await?;
        if !fixed.is_empty() {
            return Ok(Err(fixed));
        }
        let after = plan::merge(before, documents, prune);
        let earlier = earlier(&self.store, &after).await?;
        Ok(self.checked(&Wanted { before, documents, prune }, after, &earlier))
    }

    /// A `subject_prefix` is fixed once a task of the issuer's principals was stored, however long ago: under another one the same person
    /// would be somebody else, and perhaps somebody else the same person (DESIGN §4). The issuer is known by its `iss`,
    /// also where its object was retired or has another name.
    async fn changed_prefixes(&self, documents: &[Document]) -> Result<Vec<Fault>, StoreError> {
        let mut versions = self.store.object_versions(ObjectKind::TrustedIssuer).await?;
        versions.sort_by_key(|row| row.published_at);
        let mut last = BTreeMap::new();
        for object in objects(versions)? {
            let Spec::TrustedIssuer(spec) = object.spec else { continue };
            last.insert(spec.issuer, spec.subject_prefix);
        }
        let mut faults = Vec::new();
        for document in documents {
            let Spec::TrustedIssuer(spec) = &document.spec else { continue };
            let Some(was) = last.get(&spec.issuer).filter(|was| **was != spec.subject_prefix) else {
                continue;
            };
            if self.store.has_had_tasks_of(&spec.issuer).await? {
                let message = "it is fixed once used, and there have been tasks of this issuer's principals";
                let remedy =
                    format!("keep `{was}`; another prefix needs an issuer of its own, with another `iss`");
                faults.push(document.fault("spec.subject_prefix", message.to_owned(), Some(remedy)));
            }
        }
        Ok(faults)
    }

    fn checked(
        &self,
        wanted: &Wanted<'_>,
        after: Vec<Object>,
        earlier: &[Object],
    ) -> Result<Next, Vec<Fault>> {
        let Wanted { before, documents, prune } = *wanted;
        let fitted = fit(&after, earlier, &self.own_issuer);
        let (snapshot, schemas) = fitted.map_err(|faults| documents::place(&faults, documents))?;
        let old = build(&before.current, &[], &self.own_issuer).ok();
        let plan = plan::plan(before, documents, prune, old.as_ref(), &snapshot);
        let changed: BTreeSet<_> = plan.changes().map(|step| step.object.clone()).collect();
        let put = after.into_iter().filter(|o| changed.contains(&o.id)).collect();
        let retired = plan.changes().filter(|step| step.action == Action::Retire);
        let retire = retired.map(|step| step.object.clone()).collect();
        Ok(Next { plan, put, retire, snapshot, schemas })
    }

    /// The point of no return lies in `submit`: before it nothing has happened, after it the change stands. `base` is the
    /// generation that `next` was computed from.
    async fn commit(
        &self,
        order: &Order<'_>,
        next: &Next,
        (base, agreed): (i64, Option<CarriesOut>),
    ) -> Result<Receipt, ApplyFault> {
        let mut decision = self.decision(order, Outcome::Allow)?;
        let tenants: BTreeSet<&Name> = next.plan.changes().map(|step| &step.object.tenant).collect();
        decision.tenant = tenants.first().filter(|_| tenants.len() == 1).copied().cloned();
        decision.record.granted = json!({ "objects": next.plan.told().map(recorded).collect::<Vec<_>>() });
        if next.plan.widenings().next().is_some() {
            decision
                .record
                .reasons
                .push(reason("widening_allowed", "the operator allowed the change to widen"));
        }
        let at = decision.at;
        let row = |object: &Object| {
            let spec =
                serde_json::to_vec(&object.spec).map_err(|e| ApplyFault::Unavailable(e.to_string()))?;
            Ok(ObjectRow { id: object.id.clone(), version: object.version, spec, published_at: at })
        };
        let put = next.put.iter().map(row).collect::<Result<_, ApplyFault>>()?;
        let (retire, base) = (next.retire.clone(), Some(base));
        let change = carrying(Configure { put, retire, base, ..Configure::only(decision) }, agreed);
        match self.writer.submit(change).await {
            Ok(Committed::Done(receipt)) => Ok(receipt),
            Ok(Committed::Superseded { .. }) | Err(CommitFault::Rejected) => Err(ApplyFault::Conflict),
            Ok(Committed::Lost(loss, _)) => Err(Unagreed::Lost(loss).into()),
            Err(fault @ (CommitFault::Full | CommitFault::Unavailable)) => {
                Err(ApplyFault::Unavailable(fault.to_string()))
            }
        }
    }

    /// Records the refusal and gives it back. It stands also where it cannot be recorded.
    async fn refuse(&self, order: &Order<'_>, fault: ApplyFault) -> Result<Applied, ApplyFault> {
        if !order.options.dry_run {
            let (code, faults) = match &fault {
                ApplyFault::Widens(faults) => ("configuration_widens", faults.as_slice()),
                ApplyFault::Documents(faults) => ("configuration_faulty", faults.as_slice()),
                ApplyFault::Conflict | ApplyFault::Unagreed(_) | ApplyFault::Unavailable(_) => {
                    ("configuration_not_written", [].as_slice())
                }
            };
            let told: Vec<String> = faults.iter().take(KEPT_FAULTS).map(ToString::to_string).collect();
            let mut decision = self.decision(order, Outcome::Deny)?;
            decision.record.reasons.push(reason(code, &told.join("\n")));
            if let Err(error) = self.writer.submit(Change::from(decision)).await {
                tracing::warn!(%error, "a refused apply could not be recorded");
            }
        }
        Err(fault)
    }

    fn decision(&self, order: &Order<'_>, outcome: Outcome) -> Result<Decision, ApplyFault> {
        let mut random = [0; 10];
        let drawn = self.random.fill(&mut random);
        drawn.map_err(|_| ApplyFault::Unavailable("the system has no randomness".to_owned()))?;
        let at = self.clock.now();
        Ok(Decision {
            id: DecisionId::new(at, random),
            kind: Kind::Admin,
            at,
            tenant: None,
            outcome,
            policy: None,
            task_type: None,
            record: Record {
                actor: Some(order.actor.to_owned()),
                asked: order.asked.clone(),
                ..Record::default()
            },
            input: None,
        })
    }
}

/// A step as the log keeps it: which fields, but no values; the store keeps every version.
fn recorded(step: &Step) -> serde_json::Value {
    let changed: BTreeSet<&str> = step.differences.iter().map(|d| d.path.as_str()).collect();
    let widens: Vec<&str> = step.widenings.iter().map(|w| w.message.as_str()).collect();
    let object = step.object.to_string();
    json!({
        "object": object, "action": step.action, "version": step.version, "changed": changed, "widens": widens,
    })
}

/// Who asks for what.
struct Order<'a> {
    options: Options,
    actor: &'a str,
    asked: serde_json::Value,
}

fn reason(code: &str, message: &str) -> Reason {
    Reason { code: code.to_owned(), message: message.to_owned(), public: true }
}

/// Parses off the threads that serve requests: a large directory takes a while.
async fn read(sources: Arc<[Source]>) -> Result<Vec<Document>, Vec<Fault>> {
    let parsed = tokio::task::spawn_blocking(move || documents::read(&sources)).await;
    let documents = parsed.unwrap_or_else(|error| Err(vec![Fault::of_nothing(error.to_string())]))?;
    if documents.is_empty() {
        return Err(vec![Fault::of_nothing("no object is declared in any of the files".to_owned())]);
    }
    Ok(documents)
}

fn objects(rows: Vec<ObjectRow>) -> Result<Vec<Object>, StoreError> {
    let object = |row: ObjectRow| {
        let spec = Spec::from_json(row.id.kind, &row.spec)
            .map_err(|why| StoreError::Corrupt { what: "object", why: format!("`{}`: {why}", row.id) })?;
        Ok(Object { id: row.id, version: row.version, spec })
    };
    rows.into_iter().map(object).collect()
}

/// The versions of task types that are not in force in `current`: tasks may still stand on them.
async fn earlier(store: &Store, current: &[Object]) -> Result<Vec<Object>, StoreError> {
    let standing: BTreeSet<_> = current.iter().map(|o| (&o.id, o.version)).collect();
    let mut rows = store.object_versions(ObjectKind::TaskType).await?;
    rows.retain(|row| !standing.contains(&(&row.id, row.version)));
    objects(rows)
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
