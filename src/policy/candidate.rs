//! A candidate beside the bundle in force: for whom it bites, and what both say (DESIGN §6).
//!
//! Both judge the same input; of one of them the judgement bites, and the other one is the shadow, which changes no answer,
//! whatever it says or does.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::comparison::Comparisons;
use super::data::Data;
use super::engine::PolicyEngine;
use super::fault::PolicyFault;
use super::input::{PolicyInput, PrincipalFacts};
use super::judgement::Judgement;
use super::mode::{Mode, TimedMode};
use crate::domain::decision::DataRecord;
use crate::domain::ids::{ClientId, Name};
use crate::hash::sha256;

/// Heads what is hashed for a principal's place: another use of the hash gives other places.
const PLACES: &[u8] = b"taskgrant canary\n";
/// So many answers in a row that run over a limit are enough: a shadow that costs that much each time is asked no more.
const MOST_OVERRUNS: u32 = 20;
/// Longest name of a group, in bytes.
const LONGEST_GROUP: usize = 256;

/// Somebody whom a canary names: `agent:ID`, `group:NAME` or `tenant:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Named {
    /// The agent that acts, by its client id.
    Agent(ClientId),
    /// The principals of a group, as their issuer states it.
    Group(String),
    /// The principals of a tenant.
    Tenant(Name),
}

/// A text that names nobody.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{0}` names nobody: write agent:CLIENT_ID, group:NAME or tenant:NAME")]
pub struct NamesNobody(String);

impl FromStr for Named {
    type Err = NamesNobody;

    fn from_str(text: &str) -> Result<Self, NamesNobody> {
        let nobody = || NamesNobody(crate::domain::ids::shown(text));
        let (kind, name) = text.split_once(':').ok_or_else(nobody)?;
        match kind {
            "agent" => name.parse().map(Self::Agent).map_err(|_| nobody()),
            "tenant" => name.parse().map(Self::Tenant).map_err(|_| nobody()),
            "group" if !name.is_empty() && name.len() <= LONGEST_GROUP => Ok(Self::Group(name.to_owned())),
            _ => Err(nobody()),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(id) => write!(out, "agent:{id}"),
            Self::Group(name) => write!(out, "group:{name}"),
            Self::Tenant(name) => write!(out, "tenant:{name}"),
        }
    }
}

impl TryFrom<String> for Named {
    type Error = NamesNobody;
    fn try_from(text: String) -> Result<Self, NamesNobody> {
        text.parse()
    }
}

impl From<Named> for String {
    fn from(named: Named) -> Self {
        named.to_string()
    }
}

impl Named {
    fn is_of(&self, input: &PolicyInput) -> bool {
        match self {
            Self::Agent(id) => input.actor.id == id.as_str(),
            Self::Group(name) => input.principal.groups.contains(name),
            Self::Tenant(name) => input.tenant.id == name.as_str(),
        }
    }
}

/// For whom a candidate bites. For nobody it is a shadow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Canary {
    /// Of a hundred principals, for how many: 0 to 100; beyond that is 100.
    pub percent: u8,
    /// For whom in any case.
    pub enforce_for: BTreeSet<Named>,
    /// For whom in no case, whatever else says so.
    pub never_for: BTreeSet<Named>,
}

impl Canary {
    /// Whether the candidate bites for whom the input tells of.
    pub fn bites(&self, input: &PolicyInput) -> bool {
        let names = |list: &BTreeSet<Named>| list.iter().any(|named| named.is_of(input));
        if self.is_shadow() || names(&self.never_for) {
            return false;
        }
        place(&input.principal) < self.percent || names(&self.enforce_for)
    }

    /// Whether it may bite for somebody for whom `other` does not.
    pub fn bites_beyond(&self, other: &Self) -> bool {
        let within = self.percent <= other.percent
            && self.enforce_for.is_subset(&other.enforce_for)
            && self.never_for.is_superset(&other.never_for);
        !self.is_shadow() && !within
    }

    /// Whether it bites for nobody.
    pub fn is_shadow(&self) -> bool {
        self.percent == 0 && self.enforce_for.is_empty()
    }
}

/// The place of a principal among a hundred, from 0 to 99: the same on every replica, after a restart, and for every candidate.
/// It hangs on `iss` and `sub` alone, so that a greater share of the same canary holds everybody that a smaller one did.
fn place(PrincipalFacts { iss, sub, .. }: &PrincipalFacts) -> u8 {
    let length = (iss.len() as u64).to_be_bytes();
    let hash = sha256(&[PLACES, &length, iss.as_bytes(), sub.as_bytes()]);
    let first = hash.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
    u8::try_from((u128::from(first) * 100) >> 64).unwrap_or(u8::MAX)
}

/// A bundle that is tried.
#[derive(Clone, Debug)]
pub struct Candidate {
    version: String,
    /// The fault is why this program cannot run it: then that is its answer to everything.
    engine: Result<PolicyEngine, PolicyFault>,
    /// Version of all documents that were put, as it was compiled or failed to.
    under: Option<String>,
    /// Since when it is the candidate.
    since: DateTime<Utc>,
    canary: Canary,
    seen: Arc<Comparisons>,
    overruns: Arc<Overruns>,
}

/// How often in a row a candidate ran over its limits in this process, up to the most.
#[derive(Debug, Default)]
struct Overruns(AtomicU32);

impl Overruns {
    /// Whether it is asked no more where it does not bite.
    fn are_enough(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= MOST_OVERRUNS
    }

    /// Counts an answer. Whether it is the one that was too much.
    fn count(&self, judgement: &Result<Judgement, PolicyFault>) -> bool {
        let overran = judgement.as_ref().is_err_and(PolicyFault::is_overrun);
        let next = |so_far| (so_far < MOST_OVERRUNS).then_some(if overran { so_far + 1 } else { 0 });
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        overran && before == Ok(MOST_OVERRUNS - 1)
    }
}

impl Candidate {
    /// The candidate of this version, of whose answers nothing is known here before `now`.
    pub fn new(
        version: String,
        engine: Result<PolicyEngine, PolicyFault>,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Self {
        let (canary, seen) = (Canary::default(), Arc::new(Comparisons::new(now)));
        Self { version, engine, under: None, since, canary, seen, overruns: Arc::default() }
    }

    /// The same, run by `engine` under these documents. One that is paused is asked again.
    pub fn run_by(self, engine: Result<PolicyEngine, PolicyFault>, data: &Data) -> Self {
        let under = data.version().map(str::to_owned);
        Self { engine, under, overruns: Arc::default(), ..self }
    }

    /// The same for others. If these are others, one that is paused is asked again.
    pub fn with(self, canary: Canary) -> Self {
        let overruns = if canary == self.canary { self.overruns } else { Arc::default() };
        Self { canary, overruns, ..self }
    }

    /// The same, of whose answers nothing is known before `now`: it is compared with another bundle from then on.
    pub fn anew(self, now: DateTime<Utc>) -> Self {
        Self { seen: Arc::new(Comparisons::new(now)), ..self }
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Since when it is the candidate.
    pub fn since(&self) -> DateTime<Utc> {
        self.since
    }

    /// Why this program cannot run it; none if it can.
    pub fn fault(&self) -> Option<&PolicyFault> {
        self.engine.as_ref().err()
    }

    /// Whether this process asks it no more where it does not bite, since it ran over its limits again and again.
    pub fn is_paused(&self) -> bool {
        self.overruns.are_enough()
    }

    /// For whom it bites.
    pub fn canary(&self) -> &Canary {
        &self.canary
    }

    /// What was seen of it in this process.
    pub fn seen(&self) -> &Comparisons {
        &self.seen
    }

    /// Whether it decides as if it had been compiled under all these documents.
    pub fn is_under(&self, data: &Data) -> bool {
        match &self.engine {
            Ok(engine) => engine.is_under(data),
            Err(_) => self.under.as_deref() == data.version(),
        }
    }

    /// What runs it; none where this program cannot.
    pub fn engine(&self) -> Option<&PolicyEngine> {
        self.engine.as_ref().ok()
    }

    /// Its version, and the documents that were put beside it.
    fn named(&self) -> (&str, Option<&DataRecord>) {
        (&self.version, self.engine().and_then(PolicyEngine::data))
    }
}

/// What judges: the bundle in force, and the candidate if there is one.
#[derive(Clone, Debug)]
pub struct Policy {
    active: PolicyEngine,
    candidate: Option<Arc<Candidate>>,
    data: Data,
    mode: Option<TimedMode>,
}

impl From<PolicyEngine> for Policy {
    fn from(active: PolicyEngine) -> Self {
        Self::new(active, None)
    }
}

/// The answer of one bundle.
#[derive(Debug)]
pub struct Ruling<'policy> {
    /// Its version.
    pub version: &'policy str,
    /// The documents that were put beside it.
    pub data: Option<&'policy DataRecord>,
    /// What it says; of a fault, why it says nothing.
    pub judgement: Result<Judgement, PolicyFault>,
    /// How long it took.
    pub took: Duration,
}

/// What both bundles say to one input.
#[derive(Debug)]
pub struct Judged<'policy> {
    /// The answer that bites.
    pub bites: Ruling<'policy>,
    /// The one that does not; none without a candidate, or where one that is paused does not bite.
    pub shadow: Option<Shadow<'policy>>,
    /// Whether the candidate ran over its limits once too often, with this input.
    pub pauses: bool,
}

/// The answer that does not bite.
#[derive(Debug)]
pub struct Shadow<'policy> {
    pub(super) candidate: &'policy Arc<Candidate>,
    /// See [`Self::is_canary`].
    pub(super) canary: bool,
    pub(crate) ruling: Ruling<'policy>,
}

impl Shadow<'_> {
    /// Whether the candidate bites, and this is the answer of the bundle in force.
    pub fn is_canary(&self) -> bool {
        self.canary
    }

    /// How long the candidate took, whichever of both bites.
    pub fn candidate_took(&self, bites: &Ruling<'_>) -> Duration {
        if self.canary { bites.took } else { self.ruling.took }
    }
}

impl Policy {
    /// The bundle in force with this candidate beside it.
    pub fn new(active: PolicyEngine, candidate: Option<Candidate>) -> Self {
        Self { active, candidate: candidate.map(Arc::new), data: Data::default(), mode: None }
    }

    /// The same, where these are all documents that were put: its bundles were compiled under them.
    pub fn under(self, data: Data) -> Self {
        Self { data, ..self }
    }

    /// All documents that were put.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The same in this mode; in none it bites.
    pub fn in_mode(self, mode: Option<TimedMode>) -> Self {
        Self { mode, ..self }
    }

    /// The mode at this instant.
    pub fn mode(&self, now: DateTime<Utc>) -> Mode {
        self.mode.as_ref().map_or(Mode::Enforce, |mode| mode.at(now))
    }

    /// The mode that was set for a time, also where that is over.
    pub fn timed_mode(&self) -> Option<&TimedMode> {
        self.mode.as_ref()
    }

    /// Version of the bundle in force.
    pub fn version(&self) -> &str {
        self.active.version()
    }

    /// The bundle in force.
    pub fn active(&self) -> &PolicyEngine {
        &self.active
    }

    /// The candidate, if there is one.
    pub fn candidate(&self) -> Option<&Candidate> {
        self.candidate.as_deref()
    }

    /// The bundle of this version under these documents, if it is one of both and runs.
    pub fn engine(&self, version: &str, data: &Data) -> Option<&PolicyEngine> {
        let candidate = self.candidate.iter().filter_map(|candidate| candidate.engine());
        candidate.chain([&self.active]).find(|engine| engine.version() == version && engine.is_under(data))
    }

    /// Asks the bundle that bites, then the other one.
    pub fn judge(&self, input: &PolicyInput) -> Judged<'_> {
        self.ask(input, |candidate| candidate.canary.bites(input))
    }

    /// The same where nothing bites: a candidate is a shadow for everybody.
    pub fn observe(&self, input: &PolicyInput) -> Judged<'_> {
        self.ask(input, |_| false)
    }

    fn ask(&self, input: &PolicyInput, canary: impl Fn(&Candidate) -> bool) -> Judged<'_> {
        let active = || self.active.judge(input);
        let tried = |candidate: &Candidate| candidate.engine.as_ref().map_err(Clone::clone)?.judge(input);
        let named = (self.version(), self.active.data());
        let Some(candidate) = &self.candidate else {
            return Judged { bites: timed(named, active), shadow: None, pauses: false };
        };
        let canary = canary(candidate);
        if !canary && candidate.is_paused() {
            return Judged { bites: timed(named, active), shadow: None, pauses: false };
        }
        let (bites, ruling) = if canary {
            let bites = timed(candidate.named(), || tried(candidate));
            (bites, timed(named, active))
        } else {
            let bites = timed(named, active);
            (bites, timed(candidate.named(), || tried(candidate)))
        };
        let pauses = candidate.overruns.count(if canary { &bites.judgement } else { &ruling.judgement });
        Judged { bites, shadow: Some(Shadow { candidate, canary, ruling }), pauses }
    }
}

fn timed<'policy>(
    (version, data): (&'policy str, Option<&'policy DataRecord>),
    judge: impl FnOnce() -> Result<Judgement, PolicyFault>,
) -> Ruling<'policy> {
    let began = Instant::now();
    let judgement = judge();
    Ruling { version, data, judgement, took: began.elapsed() }
}

#[cfg(test)]
#[path = "candidate_tests.rs"]
mod tests;
