//! The use case: a bundle that is tried beside the one in force, first as a shadow, then for some (DESIGN §6). Stored and
//! followed like the bundle in force: each change begins a generation, so that all replicas try the same on the same people.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::kept::{is_named, of_bundle};
use super::policy::{BundleFile, PolicyChangeFault, TRIES, UNFIT};
use super::standing::{By, Standing};
use super::word::{Ready, Word, carrying};
use super::{ApplyFault, Configuration, Inner, LoadFault, Options, Order};
use crate::domain::decision::Outcome;
use crate::domain::ids::DecisionId;
use crate::domain::snapshot::Snapshot;
use crate::policy::bundle::Bundle;
use crate::policy::candidate::{Canary, Candidate, Named, Policy};
use crate::policy::comparison::{Comparison, Counts};
use crate::policy::data::Data;
use crate::policy::engine::PolicyEngine;
use crate::policy::fault::PolicyFault;
use crate::policy::suite::{self, Unfit};
use crate::store::change::{CANDIDATE, Configure};
use crate::store::error::StoreError;
use crate::store::rows::BundleRow;

/// Most names in a list of a canary.
pub(super) const MOST_NAMED: usize = 1000;

/// The candidate as the store has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptCandidate {
    /// Its version.
    pub version: String,
    /// Since when it is the candidate.
    pub since: DateTime<Utc>,
    /// Whose word it was.
    pub account: String,
    /// For whom it bites.
    #[serde(flatten)]
    pub canary: Canary,
}

impl KeptCandidate {
    /// The setting where there is none.
    pub(super) const NONE: &str = "null";
}

/// Whether a candidate bites for anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// For nobody.
    Shadow,
    /// For some, or all.
    Canary,
}

/// A candidate as one process knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateStatus {
    /// What the store says.
    #[serde(flatten)]
    pub kept: KeptCandidate,
    /// Whether it bites for anybody.
    pub mode: Mode,
    /// Why this process cannot run it, so that it fails on every input; none if it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Whether this process asks it no more where it does not bite, since it ran over its limits again and again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// What this process saw of it; none where nothing is served, or not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Comparison>,
    /// What all servers saw of it together, the lost ones too; none where none tries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Counts>,
}

impl CandidateStatus {
    /// What is `kept`, and `here` in this process.
    pub(super) fn new(kept: KeptCandidate, here: Option<&Candidate>) -> Self {
        let here = here.filter(|here| kept.is(here));
        Self {
            mode: if kept.canary.is_shadow() { Mode::Shadow } else { Mode::Canary },
            problem: here.and_then(Candidate::fault).map(ToString::to_string),
            paused: here.is_some_and(Candidate::is_paused),
            seen: here.map(|here| here.seen().told()),
            total: None,
            kept,
        }
    }
}

/// What a change of the candidate did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateChanged {
    /// The candidate from now on; none if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<KeptCandidate>,
    /// The one that was so until now, if that was another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<KeptCandidate>,
    /// The decision that records it; none if nothing has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<DecisionId>,
}

/// For whom the candidate shall bite.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryOrder {
    /// Version of the candidate that is meant, or the beginning of it; whichever it is when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Of a hundred principals, for how many: 0 to 100.
    pub percent: u8,
    /// For whom in any case. Left out, those who were; but with 0 percent nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforce_for: Option<BTreeSet<Named>>,
    /// For whom in no case. Left out, those who were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub never_for: Option<BTreeSet<Named>>,
    /// Why, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One change of the candidate.
#[derive(Clone)]
enum Change {
    /// This bundle is the candidate from now on, a shadow; also in place of one that bites, if that is said.
    Load(PolicyEngine, bool),
    /// It bites for others.
    Canary(CanaryOrder),
    /// There is none any more; a version guards against another one than is meant.
    Drop(Option<String>),
}

impl Configuration {
    /// Has the bundle of `files` tried, as a shadow. It must compile and pass its own tests. One that bites gives way only if
    /// `shadow` says that nobody is to be bitten any more.
    pub async fn load_candidate(
        &self,
        files: Vec<BundleFile>,
        shadow: bool,
        (why, word): (Option<&str>, impl Into<Word>),
    ) -> Result<CandidateChanged, PolicyChangeFault> {
        let word = word.into();
        let by = By::new("policy candidate load", &word, why);
        let files = files.into_iter().map(|file| (file.path, file.text));
        let read = move || Bundle::from_files(files).map_err(Unfit::from).and_then(suite::admit);
        let read = spawn_blocking(read).await;
        match read.map_err(|ended| PolicyChangeFault::Unavailable(ended.to_string()))? {
            Ok(engine) => self.change_candidate(Change::Load(engine, shadow), by).await,
            Err(unfit) => {
                let problem = unfit.to_string();
                warn!(problem, "a candidate is not fit: nothing has changed");
                self.0.record_refusal((UNFIT, &problem), by).await?;
                Err(unfit.into())
            }
        }
    }

    /// Ends the candidate: the bundle in force decides alone. `version`, or the beginning of it, guards against another one
    /// than is meant. Without a candidate nothing changes.
    pub async fn drop_candidate(
        &self,
        version: Option<String>,
        why: &str,
        word: impl Into<Word>,
    ) -> Result<CandidateChanged, PolicyChangeFault> {
        if why.trim().is_empty() {
            return Err(PolicyChangeFault::NoReason);
        }
        let word = word.into();
        let by = By::new("policy candidate drop", &word, Some(why));
        self.change_candidate(Change::Drop(version), by).await
    }

    /// Says for whom the candidate bites.
    pub async fn set_canary(
        &self,
        order: CanaryOrder,
        word: impl Into<Word>,
    ) -> Result<CandidateChanged, PolicyChangeFault> {
        order.check(&self.0.active.load().snapshot)?;
        let (why, word) = (order.reason.clone(), word.into());
        let by = By::new("policy canary", &word, why.as_deref());
        self.change_candidate(Change::Canary(order), by).await
    }

    /// Runs to its end also if the caller goes away.
    async fn change_candidate(
        &self,
        change: Change,
        by: By<'_>,
    ) -> Result<CandidateChanged, PolicyChangeFault> {
        let (inner, command) = (self.0.clone(), by.command);
        let (word, why) = (by.word.clone(), by.reason.map(str::to_owned));
        let run = tokio::spawn(async move {
            inner.change_candidate(&change, By::new(command, &word, why.as_deref())).await
        });
        run.await.unwrap_or_else(|error| Err(PolicyChangeFault::Unavailable(error.to_string())))
    }
}

impl Inner {
    /// The candidate that the store names; inside, why what it holds names none.
    pub(super) async fn kept_candidate(&self) -> Result<Result<Option<KeptCandidate>, String>, StoreError> {
        let Some(text) = self.store.setting(CANDIDATE).await? else { return Ok(Ok(None)) };
        Ok(serde_json::from_str(&text).map_err(|why| why.to_string()))
    }

    /// What is `kept`, to judge with beside `active`: what was compiled here `now` goes on, and what was seen too as long as
    /// the same bundle is in force. One that does not compile here is a candidate that fails, and no reason to stop.
    pub(super) async fn candidate(
        &self,
        kept: KeptCandidate,
        (now, active): (&Policy, &str),
        data: &Data,
    ) -> Result<Candidate, LoadFault> {
        if let Some(here) = now.candidate().filter(|here| kept.is(here)) {
            let here = here.clone().with(kept.canary);
            let here = if now.version() == active { here } else { here.anew(self.clock.now()) };
            if here.is_under(data) {
                return Ok(here);
            }
            let engine = self.candidate_engine(&kept.version, now, data).await?;
            return Ok(here.run_by(engine, data));
        }
        let engine = self.candidate_engine(&kept.version, now, data).await?;
        let KeptCandidate { version, since, canary, .. } = kept;
        Ok(Candidate::new(version, engine.clone(), since, self.clock.now()).with(canary).run_by(engine, data))
    }

    async fn candidate_engine(
        &self,
        version: &str,
        now: &Policy,
        data: &Data,
    ) -> Result<Result<PolicyEngine, PolicyFault>, LoadFault> {
        if let Some(engine) = now.engine(version, data) {
            return Ok(Ok(engine.clone()));
        }
        match super::kept::kept(&self.store, version, data).await {
            Ok(engine) => Ok(Ok(engine)),
            Err(fault) => {
                let fault = of_bundle(fault)?;
                warn!(version, %fault, "the candidate does not run here");
                Ok(Err(fault))
            }
        }
    }

    /// Whether a candidate that is to bite more runs here, under the documents in force: else it would refuse whomever it bites.
    async fn check_bites(&self, kept: &KeptCandidate, by: By<'_>) -> Result<(), PolicyChangeFault> {
        let now = self.active.load().policy.clone();
        let data = self.standing_data(now.data()).await?;
        match self.candidate_engine(&kept.version, &now, &data).await? {
            Ok(_) => Ok(()),
            Err(fault) => Err(self.refuse_unfit(fault.into(), by).await?),
        }
    }

    async fn change_candidate(
        &self,
        change: &Change,
        by: By<'_>,
    ) -> Result<CandidateChanged, PolicyChangeFault> {
        let _turn = self.turn.lock().await;
        for _ in 0..TRIES {
            let standing = self.standing().await?;
            let candidate = self.next_candidate(change, &standing, by)?;
            match (change, &candidate) {
                (Change::Load(engine, _), _) => self.check_data(engine, by).await?,
                (Change::Canary(_), Some(kept)) if bites_beyond(&standing, kept) => {
                    self.check_bites(kept, by).await?;
                }
                (Change::Canary(_) | Change::Drop(_), _) => {}
            }
            if candidate == standing.candidate && !standing.garbled {
                return Ok(CandidateChanged { candidate, ended: None, decision_id: None });
            }
            let agreed = self.agreed(by, ready(&standing, candidate.as_ref())).await?;
            let configure = self.configure_candidate(change, (&standing, candidate.as_ref()), by)?;
            let configure = carrying(configure, agreed);
            let decision_id = configure.decision.id;
            if !self.is_recorded(configure).await? {
                continue;
            }
            // From here on nothing is issued by what was before, in any replica. What cannot be read now is read when needed.
            if let Err(fault) = self.take_stored().await {
                warn!(%fault, "the candidate is changed, but cannot be read yet");
            }
            let version = candidate.as_ref().map(|candidate| candidate.version.as_str());
            info!(candidate = version, %decision_id, command = by.command, "the candidate is changed");
            let goes_on = |before: &KeptCandidate| version == Some(before.version.as_str());
            let ended = standing.candidate.filter(|before| !goes_on(before));
            return Ok(CandidateChanged { candidate, ended, decision_id: Some(decision_id) });
        }
        Err(PolicyChangeFault::Conflict)
    }

    /// The candidate after the change; none where there is none then.
    fn next_candidate(
        &self,
        change: &Change,
        standing: &Standing,
        by: By<'_>,
    ) -> Result<Option<KeptCandidate>, PolicyChangeFault> {
        let before = standing.candidate.as_ref();
        match change {
            Change::Load(engine, shadow) => {
                let version = engine.version();
                if standing.active.as_deref() == Some(version) {
                    return Err(PolicyChangeFault::InForce(version.to_owned()));
                }
                let same = before.filter(|before| before.version == version);
                match before {
                    Some(before) if !before.canary.is_shadow() && !shadow => match same {
                        Some(same) => Ok(Some(same.clone())),
                        None => Err(PolicyChangeFault::Bites(before.version.clone())),
                    },
                    Some(_) | None => Ok(Some(KeptCandidate {
                        version: version.to_owned(),
                        since: same.map_or_else(|| self.clock.now(), |same| same.since),
                        account: same.map_or(by.account, |same| &same.account).to_owned(),
                        // Who is kept out of one canary is not to be met by the one in its place. A drop forgets them.
                        canary: Canary {
                            never_for: before.map(|b| b.canary.never_for.clone()).unwrap_or_default(),
                            ..Canary::default()
                        },
                    })),
                }
            }
            Change::Canary(order) => {
                let before = before.ok_or(PolicyChangeFault::NoCandidate)?;
                before.guard(order.version.as_deref())?;
                Ok(Some(KeptCandidate { canary: order.canary(&before.canary), ..before.clone() }))
            }
            Change::Drop(version) => {
                before.map_or(Ok(()), |before| before.guard(version.as_deref()))?;
                Ok(None)
            }
        }
    }

    fn configure_candidate(
        &self,
        change: &Change,
        (standing, candidate): (&Standing, Option<&KeptCandidate>),
        by: By<'_>,
    ) -> Result<Configure, ApplyFault> {
        let version = |kept: Option<&KeptCandidate>| kept.map(|kept| kept.version.clone());
        let (before, is) = (version(standing.candidate.as_ref()), version(candidate));
        let mut asked = json!({ "command": by.command, "candidate": is, "before": before });
        if let Some(asked) = asked.as_object_mut() {
            let canary = candidate.map(|candidate| json!(candidate.canary));
            asked.extend(canary.map(|canary| ("canary".to_owned(), canary)));
        }
        by.tell_reason(&mut asked);
        let order = Order { options: Options::default(), actor: by.account, asked };
        let mut decision = self.decision(&order, Outcome::Allow)?;
        decision.policy.clone_from(&standing.active);
        let bundle = match change {
            Change::Load(engine, _) => Some(BundleRow {
                version: engine.version().to_owned(),
                content: engine.bundle().to_bytes(),
                created_at: decision.at,
                in_force_at: None,
            }),
            Change::Canary(_) | Change::Drop(_) => None,
        };
        let kept = serde_json::to_string(&candidate);
        let kept = kept.map_err(|error| ApplyFault::Unavailable(error.to_string()))?;
        let settings = vec![(CANDIDATE.to_owned(), kept)];
        Ok(Configure { bundle, settings, base: Some(standing.generation), ..Configure::only(decision) })
    }
}

/// Whether a candidate may bite for somebody for whom the one so far, if it is the same, does not.
fn bites_beyond(standing: &Standing, candidate: &KeptCandidate) -> bool {
    let was = standing.candidate.as_ref().filter(|before| before.version == candidate.version);
    let none = Canary::default();
    candidate.canary.bites_beyond(was.map_or(&none, |before| &before.canary))
}

/// To bite for somebody for whom it did not takes two persons, where the policy does: it may allow what the bundle in force denies.
fn ready(standing: &Standing, candidate: Option<&KeptCandidate>) -> Ready {
    let before = standing.candidate.as_ref();
    let more = candidate.is_some_and(|candidate| bites_beyond(standing, candidate));
    let effect = json!({
        "candidate": candidate.map(|candidate| &candidate.version),
        "canary": candidate.map(|candidate| &candidate.canary),
        "before": before.map(|before| &before.canary),
        "policy": standing.active,
    });
    Ready::policy(more, effect, standing.generation)
}

impl KeptCandidate {
    /// Whether it is the one that is meant: of version `named`, if one is named.
    fn guard(&self, named: Option<&str>) -> Result<(), PolicyChangeFault> {
        let other = || PolicyChangeFault::OtherCandidate(self.version.clone());
        if named.is_none_or(|named| is_named(&self.version, named)) { Ok(()) } else { Err(other()) }
    }

    /// Whether it is the one that is known here.
    fn is(&self, here: &Candidate) -> bool {
        self.version == here.version() && self.since == here.since()
    }
}

impl CanaryOrder {
    /// A misspelt name in a list would protect nobody, or meet nobody: agents and tenants have to be there.
    fn check(&self, snapshot: &Snapshot) -> Result<(), PolicyChangeFault> {
        if self.percent > 100 {
            return Err(PolicyChangeFault::TooMany(self.percent));
        }
        for (list, named) in [("enforce_for", &self.enforce_for), ("never_for", &self.never_for)] {
            if named.as_ref().is_some_and(|named| named.len() > MOST_NAMED) {
                return Err(PolicyChangeFault::TooManyNamed(list));
            }
            for named in named.iter().flatten() {
                let is_there = match named {
                    Named::Agent(id) => snapshot.agent(id).is_some(),
                    Named::Tenant(name) => snapshot.tenant(name).is_some(),
                    // Only tokens tell which groups there are.
                    Named::Group(_) => true,
                };
                if !is_there {
                    return Err(PolicyChangeFault::NotDeclared(named.to_string()));
                }
            }
        }
        Ok(())
    }

    fn canary(&self, before: &Canary) -> Canary {
        let kept = if self.percent == 0 { BTreeSet::new() } else { before.enforce_for.clone() };
        Canary {
            percent: self.percent,
            enforce_for: self.enforce_for.clone().unwrap_or(kept),
            never_for: self.never_for.clone().unwrap_or_else(|| before.never_for.clone()),
        }
    }
}
