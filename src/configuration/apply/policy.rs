//! The use case: which policy bundle decides, and how another takes its place. Only one that compiles and passes its own
//! tests, recorded, and on all replicas at once (DESIGN §6).
//!
//! The store names the bundle in force and keeps each that ever was. The folders of the configuration are where bundles come
//! from: what they hold comes into force when it has changed, so that a restart takes nothing back that came another way.

mod fault;

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

pub use self::fault::PolicyChangeFault;
use self::fault::unfit;
use super::candidate::{CandidateStatus, KeptCandidate};
use super::kept::{admitted, bundle, bundle_version, kept};
use super::mode::KeptMode;
use super::replicas::{self, ReplicaStatus};
use super::standing::{ACTIVE, BEFORE, By, FOLDER, Standing};
use super::word::{Ready, Unagreed, Word, carrying, warn_of_two};
use super::{ApplyFault, Configuration, Inner, Options, Order, reason};
use crate::domain::decision::Outcome;
use crate::domain::ids::DecisionId;
use crate::policy::bundle::Bundle;
use crate::policy::candidate::Canary;
use crate::policy::data::Data;
use crate::policy::engine::PolicyEngine;
use crate::policy::mode::Mode;
use crate::policy::suite::{self, Unfit};
use crate::store::change::{CANDIDATE, Change, CommitFault, Committed, Configure};
use crate::store::error::StoreError;
use crate::store::rows::BundleRow;

/// Another replica may take its turn in between, but hardly again and again.
pub(super) const TRIES: usize = 5;
/// Code of the reason for which a bundle is refused.
pub(super) const UNFIT: &str = "policy_unfit";

/// What a change of the policy did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChanged {
    /// Version of the bundle in force.
    pub policy: String,
    /// Version of the one before it; none if there was none, or nothing has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The decision that records it; none if nothing has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<DecisionId>,
    /// The candidate, where it bites all the same for some; else none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<StillBites>,
}

/// A candidate that a change of the bundle in force leaves as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StillBites {
    /// Its version.
    pub version: String,
    /// That it bites.
    pub bites: bool,
    /// For whom.
    #[serde(flatten)]
    pub canary: Canary,
}

/// A bundle that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedBundle {
    /// When.
    pub at: DateTime<Utc>,
    /// What is wrong with it: file, line and column, or the test that fails.
    pub problem: String,
}

/// A bundle that is or was in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptBundle {
    /// Its version.
    pub version: String,
    /// When it first came into force.
    pub first_at: DateTime<Utc>,
}

/// The policy of a deployment, and how each of its servers stands to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// Generation of the configuration, as the store has it: each change of objects or policy begins one.
    #[serde(default)]
    pub generation: i64,
    /// Version of the bundle in force, as the store names it; none before the first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Version of the bundle by which this process decides: for a moment it may lag behind, and then issues nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<String>,
    /// Version of the one that `rollback` would put in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Version of the bundle that was last taken from the folders of a configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// The bundle that this process refused last, unless a fit one was offered, or another one came into force here, since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedBundle>,
    /// The mode that the policy is in for a time; none where what it says bites.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<KeptMode>,
    /// Version of all data documents that were put; none where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The bundle that is tried beside the one in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<CandidateStatus>,
    /// Every server of the deployment, sorted by name; also those that were lost within a day.
    #[serde(default)]
    pub replicas: Vec<ReplicaStatus>,
    /// Every bundle ever in force, the newest first.
    pub bundles: Vec<KeptBundle>,
}

/// One file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleFile {
    /// Its path in the bundle, `FOLDER/…`.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Where a bundle comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The folders of the configuration.
    Folders,
    /// The starter that comes with the program, where no folders are configured.
    Starter,
    /// An admin.
    Admin,
    /// An admin, who names the candidate.
    Candidate,
    /// An admin, who names one that was in force before: the way back, which one person may always take to the last one.
    Kept,
}

impl Origin {
    fn of(folders: &[PathBuf]) -> Self {
        if folders.is_empty() { Self::Starter } else { Self::Folders }
    }

    fn is_admin(self) -> bool {
        matches!(self, Self::Admin | Self::Candidate | Self::Kept)
    }
}

impl Configuration {
    /// Begins with the policy that a server found in its folders, or with the one in force where the folders hold nothing
    /// new. What is in force is whole only after it.
    pub async fn begin_policy(
        &self,
        found: &PolicyEngine,
        folders: &[PathBuf],
    ) -> Result<(), PolicyChangeFault> {
        let word = Word::from("the server");
        match self.change_policy(found, Origin::of(folders), By::new("serve", &word, None)).await {
            // What is in force goes on.
            Err(left @ (PolicyChangeFault::Stale(_) | PolicyChangeFault::Unfit(Unfit::Data(_)))) => {
                warn!("{left}");
            }
            Err(PolicyChangeFault::Unagreed(Unagreed::Needed(_))) => warn_of_two(found.version()),
            begun => drop(begun?),
        }
        let _turn = self.0.turn.lock().await;
        let taken = self.0.take_stored().await;
        taken.map(drop).map_err(|fault| PolicyChangeFault::Unavailable(fault.to_string()))
    }

    /// Reads `folders` again, and puts what they hold in force if it has changed since they were last read.
    pub async fn reload_policy(
        &self,
        folders: Vec<PathBuf>,
        word: impl Into<Word>,
    ) -> Result<PolicyChanged, PolicyChangeFault> {
        let (origin, word) = (Origin::of(&folders), word.into());
        let read = move || Bundle::of_folders(&folders).map_err(Unfit::from).and_then(suite::admit);
        self.offer(read, origin, By::new("policy reload", &word, None)).await
    }

    /// Puts the bundle of `files` in force.
    pub async fn apply_policy(
        &self,
        files: Vec<BundleFile>,
        word: impl Into<Word>,
    ) -> Result<PolicyChanged, PolicyChangeFault> {
        self.offer(admitted(files), Origin::Admin, By::new("policy apply", &word.into(), None)).await
    }

    /// Puts the bundle `version` in force again, or the one before if none is named; the beginning of a version stands for
    /// it. Its tests are not run: what was in force may be gone back to at any time.
    pub async fn roll_back_policy(
        &self,
        version: Option<&str>,
        word: impl Into<Word>,
    ) -> Result<PolicyChanged, PolicyChangeFault> {
        let version = match version {
            Some(version) => bundle_version(&self.0.store, version, true).await?,
            None => self.0.standing().await?.before.ok_or(PolicyChangeFault::NothingBefore)?,
        };
        let engine = kept(&self.0.store, &version, &Data::default()).await.map_err(unfit)?;
        self.change_policy(&engine, Origin::Kept, By::new("policy rollback", &word.into(), None)).await
    }

    /// Puts the candidate in force, for all; `version`, or the beginning of it, guards against another one than is meant. Its
    /// tests are not run again. A `version` that is in force already is nothing to change.
    pub async fn promote_candidate(
        &self,
        version: Option<&str>,
        why: &str,
        word: impl Into<Word>,
    ) -> Result<PolicyChanged, PolicyChangeFault> {
        if why.trim().is_empty() {
            return Err(PolicyChangeFault::NoReason);
        }
        let standing = self.0.standing().await?;
        let named = match version {
            Some(version) => Some(bundle_version(&self.0.store, version, false).await?),
            None => None,
        };
        let version = match named {
            Some(named) if standing.is_in_force(&named) || standing.tries(&named) => named,
            Some(_) => return Err(standing.other_candidate()),
            None => standing.candidate.ok_or(PolicyChangeFault::NoCandidate)?.version,
        };
        let engine = kept(&self.0.store, &version, &Data::default()).await.map_err(unfit)?;
        let word = word.into();
        let by = By::new("policy promote", &word, Some(why));
        self.change_policy(&engine, Origin::Candidate, by).await
    }

    /// What this process decides by, and what it could go back to.
    pub async fn policy_status(&self) -> Result<PolicyStatus, PolicyChangeFault> {
        let inner = &self.0;
        let standing = inner.standing().await?;
        let mode = inner.kept_mode().await?.unwrap_or(None);
        let replicas = inner.replicas(&standing, mode.as_ref()).await?;
        let Standing { generation, active, before, folder, candidate, data, .. } = standing;
        let kept = inner.store.bundles().await?.into_iter();
        let bundles = kept.filter_map(|(version, at)| Some(KeptBundle { version, first_at: at? })).collect();
        let (refused, serving) = (inner.refused().clone(), inner.active.load());
        let now = inner.clock.now();
        let candidate = candidate.map(|kept| {
            let total = replicas::total(&kept, &replicas);
            CandidateStatus { total, ..CandidateStatus::new(kept, serving.policy.candidate()) }
        });
        Ok(PolicyStatus {
            generation,
            data: data.version,
            mode: mode.filter(|kept| kept.timed.at(now) != Mode::Enforce),
            policy: active,
            serving: Some(serving.policy.version().to_owned()),
            candidate,
            before,
            folder,
            refused,
            replicas,
            bundles,
        })
    }

    /// The files of a bundle that is or was in force or a candidate; the beginning of a version stands for it.
    pub async fn policy_files(&self, version: &str) -> Result<Vec<BundleFile>, PolicyChangeFault> {
        let version = bundle_version(&self.0.store, version, false).await?;
        let bundle = bundle(&self.0.store, &version).await;
        let bundle = bundle.map_err(|fault| PolicyChangeFault::Unavailable(fault.to_string()))?;
        let file = |(path, text): (&str, &str)| BundleFile { path: path.to_owned(), text: text.to_owned() };
        Ok(bundle.files().map(file).collect())
    }

    /// Compiles and tests off the threads that serve; a bundle that is not fit is told to log, metric and record.
    pub(super) async fn offer(
        &self,
        read: impl FnOnce() -> Result<PolicyEngine, Unfit> + Send + 'static,
        from: Origin,
        by: By<'_>,
    ) -> Result<PolicyChanged, PolicyChangeFault> {
        let read = spawn_blocking(read).await;
        let read = read.map_err(|ended| PolicyChangeFault::Unavailable(ended.to_string()))?;
        let outcome = match read {
            Ok(engine) => self.change_policy(&engine, from, by).await,
            Err(unfit) => {
                let problem = unfit.to_string();
                error!(problem, "a policy bundle is not fit: the one in force stays in force");
                self.0.metrics.policy_offered(false);
                let at = self.0.record_refusal((UNFIT, &problem), by).await?;
                *self.0.refused() = Some(RefusedBundle { at, problem });
                return Err(unfit.into());
            }
        };
        match &outcome {
            Ok(_) => {
                self.0.metrics.policy_offered(true);
                self.0.forget_refused();
            }
            // It is fit, and waits for a second person.
            Err(PolicyChangeFault::Unagreed(_)) => self.0.forget_refused(),
            Err(refused @ (PolicyChangeFault::Stale(_) | PolicyChangeFault::Unfit(_))) => {
                let (at, problem) = (self.0.clock.now(), refused.to_string());
                *self.0.refused() = Some(RefusedBundle { at, problem });
                self.0.metrics.policy_offered(false);
            }
            // Whether the bundle would be taken is not known.
            Err(_) => {}
        }
        outcome
    }

    /// Runs to its end also if the caller goes away.
    async fn change_policy(
        &self,
        engine: &PolicyEngine,
        from: Origin,
        by: By<'_>,
    ) -> Result<PolicyChanged, PolicyChangeFault> {
        let (inner, engine, command) = (self.0.clone(), engine.clone(), by.command);
        let (word, why) = (by.word.clone(), by.reason.map(str::to_owned));
        let run = tokio::spawn(async move {
            inner.change_policy(&engine, from, By::new(command, &word, why.as_deref())).await
        });
        run.await.unwrap_or_else(|error| Err(PolicyChangeFault::Unavailable(error.to_string())))
    }
}

impl Inner {
    pub(super) fn refused(&self) -> std::sync::MutexGuard<'_, Option<RefusedBundle>> {
        self.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn change_policy(
        &self,
        engine: &PolicyEngine,
        from: Origin,
        by: By<'_>,
    ) -> Result<PolicyChanged, PolicyChangeFault> {
        let version = engine.version();
        let _turn = self.turn.lock().await;
        for _ in 0..TRIES {
            let standing = self.standing().await?;
            let unchanged = standing.unchanged();
            let (is_active, tries) = (standing.is_in_force(version), standing.tries(version));
            if from == Origin::Candidate && !tries && !is_active {
                return Err(standing.other_candidate());
            }
            let is_noted = from.is_admin() || standing.folder.as_deref() == Some(version);
            // What is in force is no candidate: a setting that says so is cleared.
            if is_noted && (is_active || !from.is_admin()) && !(is_active && tries) {
                return Ok(unchanged);
            }
            if from == Origin::Starter && self.outranks_starter(&standing) {
                return Ok(unchanged);
            }
            if !from.is_admin() && !is_active && self.is_stale(version).await? {
                return Err(PolicyChangeFault::Stale(version.to_owned()));
            }
            if !is_active {
                self.check_data(engine, by).await?;
            }
            let goes_back = from == Origin::Kept
                && (by.word.is_of_machine() || standing.before.as_deref() == Some(version));
            // The first bundle of all takes nothing's place.
            let guarded = !is_active && !goes_back && standing.active.is_some();
            let effect = json!({"policy": version, "before": standing.active});
            let agreed = self.agreed(by, Ready::policy(guarded, effect, standing.generation)).await?;
            let change = carrying(self.change_of(engine, from, &standing, by)?, agreed);
            let decision_id = change.decision.id;
            if !self.is_recorded(change).await? {
                continue;
            }
            // From here on nothing is issued by another bundle, in any replica. What cannot be read now is read when it is
            // needed.
            if let Err(fault) = self.take_stored().await {
                warn!(%fault, "the policy is changed, but cannot be read yet");
            }
            if is_active {
                return Ok(unchanged);
            }
            info!(policy = version, before = standing.active, %decision_id, "another policy is in force");
            let candidate = standing.still_bites(version);
            let (policy, before) = (version.to_owned(), standing.active);
            return Ok(PolicyChanged { policy, before, decision_id: Some(decision_id), candidate });
        }
        Err(PolicyChangeFault::Conflict)
    }

    /// Whether this change is committed; else another took its turn in between, and it is to be made again from what stands then.
    pub(super) async fn is_recorded(&self, change: Configure) -> Result<bool, PolicyChangeFault> {
        match self.writer.submit(change).await {
            Ok(Committed::Done(_)) => Ok(true),
            Ok(Committed::Superseded { .. }) => Ok(false),
            Ok(Committed::Lost(loss, _)) => Err(Unagreed::Lost(loss).into()),
            Err(CommitFault::Rejected) => Err(PolicyChangeFault::Conflict),
            Err(fault @ (CommitFault::Full | CommitFault::Unavailable)) => {
                Err(PolicyChangeFault::Unavailable(fault.to_string()))
            }
        }
    }

    /// Whether the folders of one replica hold what others have moved on from: a replica that starts late, or again, takes
    /// nothing back. Where one process is alone its folders say what is wanted.
    async fn is_stale(&self, version: &str) -> Result<bool, StoreError> {
        let was_in_force = |(kept, at): (String, Option<_>)| kept == version && at.is_some();
        Ok(self.store.is_shared() && self.store.bundles().await?.into_iter().any(was_in_force))
    }

    /// Whether what is in force stays where no folders are configured: nobody asked for the starter, and another program
    /// brings another one. It gives way to what an admin put in force, and beside replicas to anything: theirs may have folders.
    fn outranks_starter(&self, standing: &Standing) -> bool {
        standing.active.is_some() && (self.store.is_shared() || standing.active != standing.folder)
    }

    fn change_of(
        &self,
        engine: &PolicyEngine,
        from: Origin,
        standing: &Standing,
        by: By<'_>,
    ) -> Result<Configure, ApplyFault> {
        let version = engine.version().to_owned();
        let mut asked = json!({ "command": by.command, "policy": version, "before": standing.active });
        by.tell_reason(&mut asked);
        let order = Order { options: Options::default(), actor: by.account, asked };
        let mut decision = self.decision(&order, Outcome::Allow)?;
        decision.policy = Some(version.clone());
        let mut settings = Vec::new();
        if !from.is_admin() {
            settings.push((FOLDER.to_owned(), version.clone()));
        }
        if standing.active.as_ref() != Some(&version) {
            settings.extend(standing.active.clone().map(|before| (BEFORE.to_owned(), before)));
            settings.push((ACTIVE.to_owned(), version.clone()));
        }
        if standing.tries(&version) {
            // It is no longer tried: it decides.
            settings.push((CANDIDATE.to_owned(), KeptCandidate::NONE.to_owned()));
        }
        let (created_at, in_force_at) = (decision.at, Some(decision.at));
        let bundle = BundleRow { version, content: engine.bundle().to_bytes(), created_at, in_force_at };
        Ok(Configure {
            bundle: Some(bundle),
            settings,
            base: Some(standing.generation),
            ..Configure::only(decision)
        })
    }

    /// Whether the documents in force fit a bundle that is to decide, or to be tried: it would fail on every input, or decide by
    /// what its schema rules out. One that they do not is refused.
    pub(super) async fn check_data(
        &self,
        engine: &PolicyEngine,
        by: By<'_>,
    ) -> Result<(), PolicyChangeFault> {
        let data = self.standing_data(self.active.load().policy.data()).await?;
        let engine = engine.clone();
        let fits = spawn_blocking(move || engine.fits(&data)).await;
        let fits = fits.map_err(|ended| PolicyChangeFault::Unavailable(ended.to_string()))?;
        match fits {
            Ok(()) => Ok(()),
            Err(fault) => Err(self.refuse_unfit(Unfit::Data(fault), by).await?),
        }
    }

    /// Records that a bundle is not fit, and gives the fault back.
    pub(super) async fn refuse_unfit(
        &self,
        unfit: Unfit,
        by: By<'_>,
    ) -> Result<PolicyChangeFault, ApplyFault> {
        self.record_refusal((UNFIT, &unfit.to_string()), by).await?;
        Ok(unfit.into())
    }

    /// Records why something is not done, and tells when that was.
    pub(super) async fn record_refusal(
        &self,
        (code, problem): (&str, &str),
        by: By<'_>,
    ) -> Result<DateTime<Utc>, ApplyFault> {
        let mut asked = json!({ "command": by.command });
        by.tell_reason(&mut asked);
        let order = Order { options: Options::default(), actor: by.account, asked };
        let mut decision = self.decision(&order, Outcome::Deny)?;
        let at = decision.at;
        decision.record.reasons.push(reason(code, problem));
        if let Err(error) = self.writer.submit(Change::from(decision)).await {
            warn!(%error, "a refused change of the policy could not be recorded");
        }
        Ok(at)
    }
}
