//! The use case: data documents of the policy, which change without a bundle (DESIGN §6). Stored and followed like the bundle in
//! force: each change begins a generation, so that no exchange, on no replica, sees one document of before and one of after.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::kept::{is_named, kept_document, kept_documents};
use super::policy::{PolicyChangeFault, TRIES};
use super::standing::{By, Standing};
use super::word::{Ready, Word, carrying};
use super::{ApplyFault, Configuration, Inner, Options, Order};
use crate::domain::decision::Outcome;
use crate::domain::ids::DecisionId;
use crate::policy::candidate::Policy;
use crate::policy::data::{BadDocument, Data, DataPath, Document};
use crate::policy::engine::PolicyEngine;
use crate::policy::fault::PolicyFault;
use crate::store::change::{Configure, DATA};
use crate::store::error::StoreError;
use crate::store::policy_data::DataRow;

/// A document in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptDocument {
    /// Its version.
    pub version: String,
    /// Its length without white space.
    pub bytes: usize,
    /// Since when it is in force.
    pub since: DateTime<Utc>,
    /// Whose word it was.
    pub account: String,
}

/// All documents in force, as the store has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptDocuments {
    /// Version of all of them together; none where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Each of them.
    pub documents: BTreeMap<DataPath, KeptDocument>,
}

/// A document in force, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedDocument {
    /// Where it lies below `data`.
    pub path: DataPath,
    /// What the store says.
    #[serde(flatten)]
    pub kept: KeptDocument,
    /// Whether the bundle in force takes it: it has a schema for the path.
    pub used: bool,
}

/// The documents in force, and where there may be some.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataStatus {
    /// Version of all of them together; none where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Each of them.
    pub documents: Vec<ListedDocument>,
    /// Where the bundle in force takes documents.
    pub declared: Vec<DataPath>,
}

/// A version of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataVersion {
    /// The version.
    pub version: String,
    /// When it first came here.
    pub first_at: DateTime<Utc>,
}

/// A document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShownDocument {
    /// Where it lies below `data`.
    pub path: DataPath,
    /// Its version.
    pub version: String,
    /// What it says.
    pub document: Value,
}

/// What a change of the documents did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataChanged {
    /// Where.
    pub path: DataPath,
    /// Version of the document in force there from now on; none where it is the bundle's own, if that has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The one until now; none if there was none, or nothing has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Version of all documents together, as decisions name it; none where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The decision that records it; none if nothing has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<DecisionId>,
}

/// Why a document is not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DataFault {
    /// No bundle that is asked has a schema for its path.
    #[error(
        "nothing may be put at `data.{path}`: the bundle in force has no schema for it; add `schemas/{file}.json`, a JSON Schema, to \
         a folder of the bundle and put that in force",
        path = .0, file = .0.as_str().replace('.', "/")
    )]
    NotDeclared(DataPath),
    /// It cannot be read, or is too large.
    #[error("{0}")]
    Bad(#[from] BadDocument),
    /// It does not fit.
    #[error("{0}")]
    Misfit(#[from] PolicyFault),
}

/// One change of the documents.
#[derive(Clone, Debug)]
enum Change {
    /// This one lies at its path.
    Put(Document),
    /// None lies there.
    Drop(DataPath),
}

impl Change {
    fn path(&self) -> &DataPath {
        match self {
            Self::Put(document) => document.path(),
            Self::Drop(path) => path,
        }
    }

    fn after(&self, data: &Data) -> Result<Data, BadDocument> {
        match self {
            Self::Put(document) => data.with(document.clone()),
            Self::Drop(path) => data.without(path),
        }
    }
}

impl Configuration {
    /// Puts the document `text` at `path`, in the place of the bundle's own, on all replicas. The bundle in force must have a schema
    /// for the path, or else the candidate; the document must fit it.
    pub async fn put_data(
        &self,
        path: DataPath,
        text: Vec<u8>,
        (why, word): (Option<&str>, impl Into<Word>),
    ) -> Result<DataChanged, PolicyChangeFault> {
        let word = word.into();
        let by = By::new("policy data put", &word, why);
        let read = spawn_blocking(move || Document::read(path, &text)).await;
        let read = read.map_err(|ended| PolicyChangeFault::Unavailable(ended.to_string()))?;
        match read {
            Ok(document) => self.change_data(Change::Put(document), by).await,
            Err(bad) => Err(self.0.refuse_data(bad.into(), by).await?),
        }
    }

    /// Takes the document at `path` away: the bundle's own lies there again, if it has one.
    pub async fn drop_data(
        &self,
        path: DataPath,
        (why, word): (Option<&str>, impl Into<Word>),
    ) -> Result<DataChanged, PolicyChangeFault> {
        self.change_data(Change::Drop(path), By::new("policy data drop", &word.into(), why)).await
    }

    /// The documents in force.
    pub async fn data_status(&self) -> Result<DataStatus, PolicyChangeFault> {
        let kept = self.0.kept_data().await?;
        let policy = self.0.standing_policy().await?;
        let declared: Vec<DataPath> = policy.active().declared().cloned().collect();
        let listed = |(path, kept): (DataPath, KeptDocument)| {
            let used = declared.contains(&path);
            ListedDocument { path, kept, used }
        };
        let documents = kept.documents.into_iter().map(listed).collect();
        Ok(DataStatus { version: kept.version, documents, declared })
    }

    /// The document in force at `path`, or the one of a version that ever was; the beginning of a version stands for it.
    pub async fn show_data(
        &self,
        path: DataPath,
        version: Option<&str>,
    ) -> Result<ShownDocument, PolicyChangeFault> {
        let version = match version {
            Some(named) => {
                let versions = self.data_versions(path.clone()).await?;
                let mut found = versions.iter().filter(|kept| is_named(&kept.version, named));
                match (found.next(), found.next()) {
                    (Some(kept), None) => kept.version.clone(),
                    _ => return Err(PolicyChangeFault::NoDataVersion(path, named.to_owned())),
                }
            }
            None => match self.0.kept_data().await?.documents.remove(&path) {
                Some(kept) => kept.version,
                None => return Err(PolicyChangeFault::NoDocument(path)),
            },
        };
        let document = kept_document(&self.0.store, &version).await?;
        let document = serde_json::from_slice(document.content())
            .map_err(|why| PolicyChangeFault::Unavailable(why.to_string()))?;
        Ok(ShownDocument { path, version, document })
    }

    /// Every version that was ever in force at `path`, the newest first; empty if none was.
    pub async fn data_versions(&self, path: DataPath) -> Result<Vec<DataVersion>, PolicyChangeFault> {
        let versions = self.0.store.policy_data_at(path.as_str()).await?.into_iter();
        Ok(versions.map(|(version, first_at)| DataVersion { version, first_at }).collect())
    }

    /// Runs to its end also if the caller goes away.
    async fn change_data(&self, change: Change, by: By<'_>) -> Result<DataChanged, PolicyChangeFault> {
        let (inner, command) = (self.0.clone(), by.command);
        let (word, why) = (by.word.clone(), by.reason.map(str::to_owned));
        let run =
            tokio::spawn(
                async move { inner.change_data(&change, By::new(command, &word, why.as_deref())).await },
            );
        run.await.unwrap_or_else(|error| Err(PolicyChangeFault::Unavailable(error.to_string())))
    }
}

impl Inner {
    /// What the store says of the documents. Of documents that cannot be told nothing is assumed (L7).
    pub(super) async fn kept_data(&self) -> Result<KeptDocuments, StoreError> {
        let Some(text) = self.store.setting(DATA).await? else { return Ok(KeptDocuments::default()) };
        let garbled =
            |why: serde_json::Error| StoreError::Corrupt { what: "policy data", why: why.to_string() };
        serde_json::from_str(&text).map_err(garbled)
    }

    /// All documents in force. What is in memory `now` is not read again.
    pub(super) async fn standing_data(&self, now: &Data) -> Result<Data, StoreError> {
        match self.kept_data().await?.version {
            None => Ok(Data::default()),
            Some(version) if now.version() == Some(version.as_str()) => Ok(now.clone()),
            Some(version) => {
                let gone =
                    || StoreError::Corrupt { what: "policy data", why: format!("`{version}` is not kept") };
                kept_documents(&self.store, &version).await?.ok_or_else(gone)
            }
        }
    }

    async fn change_data(&self, change: &Change, by: By<'_>) -> Result<DataChanged, PolicyChangeFault> {
        let path = change.path();
        let _turn = self.turn.lock().await;
        for _ in 0..TRIES {
            let standing = self.standing().await?;
            let policy = self.standing_policy().await?;
            let before = policy.data().get(path).map(|document| document.version().to_owned());
            if before.is_none() && matches!(change, Change::Drop(_)) {
                return Err(PolicyChangeFault::NoDocument(path.clone()));
            }
            let data = match prepared(&policy, change).await? {
                Ok(data) => data,
                Err(fault) => return Err(self.refuse_data(fault, by).await?),
            };
            let version = data.get(path).map(|document| document.version().to_owned());
            let told = data.version().map(str::to_owned);
            if version == before {
                let (path, before) = (path.clone(), None);
                return Ok(DataChanged { path, version, before, data: told, decision_id: None });
            }
            let effect = json!({
                "path": path, "version": version, "before": before, "policy": standing.active,
            });
            // It may stand in the way of a rollback, which the machine's account may always do.
            let guarded = version.is_some() || !by.word.is_of_machine();
            let agreed = self.agreed(by, Ready::policy(guarded, effect, standing.generation)).await?;
            let configure = carrying(self.configure_data(&data, change, &standing, by)?, agreed);
            let decision_id = configure.decision.id;
            if !self.is_recorded(configure).await? {
                continue;
            }
            // From here on nothing is issued by what was before, in any replica. What cannot be read now is read when needed.
            if let Err(fault) = self.take_stored().await {
                warn!(%fault, "the policy's data is changed, but cannot be read yet");
            }
            info!(%path, version, data = told, %decision_id, command = by.command, "the policy's data is changed");
            let (path, decision_id) = (path.clone(), Some(decision_id));
            return Ok(DataChanged { path, version, before, data: told, decision_id });
        }
        Err(PolicyChangeFault::Conflict)
    }

    fn configure_data(
        &self,
        data: &Data,
        change: &Change,
        standing: &Standing,
        by: By<'_>,
    ) -> Result<Configure, ApplyFault> {
        let path = change.path();
        let put = data.get(path);
        let before = standing.data.documents.get(path).map(|kept| &kept.version);
        let version = put.map(Document::version);
        let mut asked = json!({
            "command": by.command, "path": path, "version": version, "before": before, "data": data.version(),
        });
        by.tell_reason(&mut asked);
        let order = Order { options: Options::default(), actor: by.account, asked };
        let mut decision = self.decision(&order, Outcome::Allow)?;
        decision.policy.clone_from(&standing.active);
        let mut kept = standing.data.documents.clone();
        kept.remove(path);
        kept.extend(put.map(|document| {
            let (version, bytes) = (document.version().to_owned(), document.content().len());
            let (since, account) = (decision.at, by.account.to_owned());
            (path.clone(), KeptDocument { version, bytes, since, account })
        }));
        let kept = KeptDocuments { version: data.version().map(str::to_owned), documents: kept };
        let kept =
            serde_json::to_string(&kept).map_err(|error| ApplyFault::Unavailable(error.to_string()))?;
        let row = |path: &str, version: &str, content: Vec<u8>| DataRow {
            version: version.to_owned(),
            path: path.to_owned(),
            content,
            created_at: decision.at,
        };
        let document = put.map(|d| row(path.as_str(), d.version(), d.content().to_vec()));
        let all = data.version().map(|version| row("", version, data.names()));
        Ok(Configure {
            documents: document.into_iter().chain(all).collect(),
            settings: vec![(DATA.to_owned(), kept)],
            base: Some(standing.generation),
            ..Configure::only(decision)
        })
    }

    /// Records that a document is not taken, and gives the fault back.
    async fn refuse_data(&self, fault: DataFault, by: By<'_>) -> Result<PolicyChangeFault, ApplyFault> {
        let problem = fault.to_string();
        warn!(problem, command = by.command, "a data document is not taken: nothing has changed");
        self.record_refusal(("data_refused", &problem), by).await?;
        Ok(PolicyChangeFault::Data(fault))
    }
}

/// The documents after the change; inside, why a bundle does not take that. Large ones take their time: off the threads that serve.
async fn prepared(policy: &Policy, change: &Change) -> Result<Result<Data, DataFault>, PolicyChangeFault> {
    let (active, data, change) = (policy.active().clone(), policy.data().clone(), change.clone());
    let candidate = policy.candidate().and_then(|candidate| candidate.engine()).cloned();
    let bites = policy.candidate().is_some_and(|candidate| !candidate.canary().is_shadow());
    let run = move || {
        let next = change.after(&data)?;
        if let Change::Put(document) = &change {
            let taken = taken(&active, document)?;
            let tried = match &candidate {
                Some(candidate) if !taken => self::taken(candidate, document)?,
                Some(_) | None => false,
            };
            if !taken && !tried {
                return Err(DataFault::NotDeclared(document.path().clone()));
            }
        }
        // The rules have to run on it too: those of every bundle that bites.
        for engine in [&active].into_iter().chain(candidate.iter().filter(|_| bites)) {
            engine.fits(&next)?;
        }
        Ok(next)
    };
    spawn_blocking(run).await.map_err(|ended| PolicyChangeFault::Unavailable(ended.to_string()))
}

/// Whether the bundle takes documents at that path; a fault if it does, and not this one.
fn taken(engine: &PolicyEngine, document: &Document) -> Result<bool, DataFault> {
    let declared = engine.declared().any(|path| path == document.path());
    if declared {
        engine.check_document(document)?;
    }
    Ok(declared)
}
