//! What a bundle would have decided: the end of an exchange as far as policy bears on it, and how two such ends differ.
//!
//! Nothing is counted as a change that policy does not bear on: limits that do not bite, and refusals that a ceiling or the
//! commit made.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::fault::PolicyFault;
use super::input::PolicyInput;
use super::judgement::{Judgement, Outcome};
use crate::domain::decision::Reason;
use crate::domain::refusal::Refusal;

/// Code of the refusal when the engine failed, and of the one when policy left nothing: as `Refusal` has them.
const FAULT: &str = "policy_unavailable";
const NOTHING_LEFT: &str = "policy_left_nothing";
/// Code of the reason when the task type itself wants approval.
pub const TASK_TYPE_APPROVAL: &str = "task_type_approval";
/// What a record names when policy shortened a lifetime.
const SHORTENED: &str = "expires_in";

/// A decision as the log tells it.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// How it ended: the word of the leaf.
    pub outcome: String,
    /// The codes of its reasons.
    pub reasons: Vec<String>,
    /// What was granted; none where nothing was, or the record is erased.
    pub granted: Option<GrantedRecord>,
    /// Whether the task type itself wants approval, of each root and each hand-over. A denial does not tell.
    pub always_asks: bool,
}

/// Of what was granted, what a policy can narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct GrantedRecord {
    /// When the token expires, in seconds since 1970 UTC.
    pub exp: u64,
    /// Its scopes.
    #[serde(default)]
    pub scope: String,
    /// What policy had narrowed.
    #[serde(default)]
    pub narrowed: Vec<String>,
}

/// What is granted, as far as policy narrows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grant {
    /// The scopes.
    pub scopes: BTreeSet<String>,
    /// Seconds that the token lives at most.
    pub lifetime: u64,
}

/// How an exchange ends by one bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The outcome.
    pub outcome: Outcome,
    /// Why it is no allow.
    pub reasons: BTreeSet<Reason>,
    /// What is granted, at once or when it is approved; none of a denial.
    pub grant: Option<Grant>,
    /// Marks for the log.
    pub tags: BTreeSet<String>,
    /// Why the bundle gave no answer, which is a denial: kind and place, nothing of the input.
    pub fault: Option<String>,
}

/// How two ends of one exchange differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The bundle fails on the input: the agent gets 503, and a denial is recorded.
    Fault,
    /// What was allowed is denied.
    AllowToDeny,
    /// What was allowed needs approval.
    AllowToApproval,
    /// What needed approval is denied.
    ApprovalToDeny,
    /// What was denied is allowed.
    DenyToAllow,
    /// What was denied needs approval.
    DenyToApproval,
    /// What needed approval is allowed.
    ApprovalToAllow,
    /// More is granted.
    Wider,
    /// Less is granted.
    Narrower,
    /// More of one thing is granted, and less of another.
    Otherwise,
    /// The same end for other reasons.
    Reasons,
    /// The same end with other marks in the log.
    Tags,
}

impl Change {
    /// Every change, the gravest first.
    pub const ALL: [Self; 12] = [
        Self::Fault,
        Self::AllowToDeny,
        Self::AllowToApproval,
        Self::ApprovalToDeny,
        Self::DenyToAllow,
        Self::DenyToApproval,
        Self::ApprovalToAllow,
        Self::Wider,
        Self::Narrower,
        Self::Otherwise,
        Self::Reasons,
        Self::Tags,
    ];

    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::AllowToDeny => "allow_to_deny",
            Self::AllowToApproval => "allow_to_approval",
            Self::ApprovalToDeny => "approval_to_deny",
            Self::DenyToAllow => "deny_to_allow",
            Self::DenyToApproval => "deny_to_approval",
            Self::ApprovalToAllow => "approval_to_allow",
            Self::Wider => "wider",
            Self::Narrower => "narrower",
            Self::Otherwise => "otherwise",
            Self::Reasons => "reasons",
            Self::Tags => "tags",
        }
    }
}

/// How the log and the bundle that decided agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The bundle's answer is what ended the exchange.
    Decided,
    /// Policy let it pass, and something after it refused: a ceiling, a limit, a revocation, the commit.
    RefusedElsewhere,
    /// The engine failed then, and does not now.
    FaultThen,
    /// The bundle answers otherwise now than the log says.
    Unlike,
}

/// One recorded exchange, to be ended by any bundle.
#[derive(Clone, Debug)]
pub struct Case {
    input: PolicyInput,
    recorded: Recorded,
}

impl Case {
    /// The exchange with this input, which ended as recorded.
    pub fn new(input: PolicyInput, recorded: Recorded) -> Self {
        Self { input, recorded }
    }

    /// The input.
    pub fn input(&self) -> &PolicyInput {
        &self.input
    }

    /// How it ends by what a bundle answers to its input.
    pub fn end(&self, judged: &Result<Judgement, PolicyFault>) -> End {
        let judgement = match judged {
            Ok(judgement) => judgement,
            Err(fault) => return End { fault: Some(fault.kind()), ..End::denied(code(FAULT)) },
        };
        let tags = judgement.tags.clone();
        if judgement.outcome() == Outcome::Deny {
            return End { tags, ..End::denied(judgement.deny.clone()) };
        }
        let grant = self.grant(judgement);
        let reasons = self.asks(judgement);
        if !reasons.is_empty() {
            return End { outcome: Outcome::RequireApproval, reasons, grant: Some(grant), tags, fault: None };
        }
        if grant.scopes.is_empty() || grant.lifetime == 0 {
            return End { tags, ..End::denied(code(NOTHING_LEFT)) };
        }
        End { outcome: Outcome::Allow, reasons: BTreeSet::new(), grant: Some(grant), tags, fault: None }
    }

    /// Whether the bundle that decided says now what the log says.
    pub fn standing(&self, decided: &End) -> Standing {
        let Recorded { outcome, reasons, granted, .. } = &self.recorded;
        let codes: BTreeSet<&str> = reasons.iter().map(String::as_str).collect();
        let same_codes = decided.reasons.iter().map(|r| r.code.as_str()).collect::<BTreeSet<_>>() == codes;
        match (outcome.as_str(), decided.outcome) {
            ("allow", Outcome::Allow) => {
                let same = granted.as_ref().zip(decided.grant.as_ref()).is_none_or(|(then, now)| {
                    let scopes: BTreeSet<&str> = then.scope.split_whitespace().collect();
                    scopes == now.scopes.iter().map(String::as_str).collect::<BTreeSet<_>>()
                });
                if same { Standing::Decided } else { Standing::Unlike }
            }
            ("deny", Outcome::Deny) | ("require_approval", Outcome::RequireApproval) if same_codes => {
                Standing::Decided
            }
            ("deny", _) if codes.contains(FAULT) && decided.fault.is_none() => Standing::FaultThen,
            ("deny", Outcome::Allow | Outcome::RequireApproval)
                if !codes.is_empty() && codes.iter().all(|code| Refusal::is_beside_policy(code)) =>
            {
                Standing::RefusedElsewhere
            }
            _ => Standing::Unlike,
        }
    }

    /// What must be approved first: policy's reasons that are not approved yet, and the task type's. Where it was reached, the
    /// log tells whether that asked; of a denial only the task type does.
    fn asks(&self, judgement: &Judgement) -> BTreeSet<Reason> {
        let approved = |code: &String| self.input.approval.as_ref().is_some_and(|a| a.reasons.contains(code));
        let mut asks: BTreeSet<Reason> =
            judgement.require_approval.iter().filter(|r| !approved(&r.code)).cloned().collect();
        let Recorded { outcome, reasons, always_asks, .. } = &self.recorded;
        let would_ask = outcome == "deny"
            && *always_asks
            && self.may_cross()
            && !approved(&TASK_TYPE_APPROVAL.to_owned());
        if would_ask || reasons.iter().any(|code| code == TASK_TYPE_APPROVAL) {
            asks.extend(code(TASK_TYPE_APPROVAL));
        }
        asks
    }

    /// Whether it began a task or handed one over, as far as the input tells: an agent that narrows what another one handed to
    /// it looks like one that it is handed to.
    fn may_cross(&self) -> bool {
        let PolicyInput { parent, requested, chain, .. } = &self.input;
        let hands_over = requested.exchange_only && requested.delegate_to.is_some();
        parent.is_none() || hands_over || chain.len() > 1
    }

    fn grant(&self, judgement: &Judgement) -> Grant {
        let asked: BTreeSet<String> = self.input.requested.scopes.iter().cloned().collect();
        let limits = &judgement.limits;
        Grant { scopes: limits.narrow_scopes(&asked), lifetime: limits.narrow_lifetime(self.longest()) }
    }

    /// Seconds that the token would live without policy. What the task type gives who asks for none is not in the input: it
    /// is what was granted, unless policy had shortened that, or the record is erased; then the ceiling, which is as much or more.
    fn longest(&self) -> u64 {
        let PolicyInput { now, requested, ceiling, .. } = &self.input;
        let most = requested.lifetime.unwrap_or(u64::MAX).min(ceiling.lifetime);
        match &self.recorded.granted {
            Some(granted) if !granted.narrowed.iter().any(|what| what == SHORTENED) => {
                granted.exp.saturating_sub(*now)
            }
            Some(_) | None => most,
        }
    }
}

fn code(code: &str) -> BTreeSet<Reason> {
    BTreeSet::from([Reason { code: code.to_owned(), message: String::new(), public: true }])
}

impl End {
    fn denied(reasons: BTreeSet<Reason>) -> Self {
        Self { outcome: Outcome::Deny, reasons, grant: None, tags: BTreeSet::new(), fault: None }
    }

    /// How `other` differs from this; none if it does not.
    pub fn change_to(&self, other: &Self) -> Option<Change> {
        use Outcome::{Allow, Deny, RequireApproval};
        if other.fault.is_some() && self.fault.is_none() {
            return Some(Change::Fault);
        }
        match (self.outcome, other.outcome) {
            (Allow, Deny) => return Some(Change::AllowToDeny),
            (Allow, RequireApproval) => return Some(Change::AllowToApproval),
            (RequireApproval, Deny) => return Some(Change::ApprovalToDeny),
            (RequireApproval, Allow) => return Some(Change::ApprovalToAllow),
            (Deny, Allow) => return Some(Change::DenyToAllow),
            (Deny, RequireApproval) => return Some(Change::DenyToApproval),
            (Allow, Allow) | (RequireApproval, RequireApproval) | (Deny, Deny) => {}
        }
        let grants = self.grant.as_ref().zip(other.grant.as_ref());
        if let Some(change) = grants.and_then(|(mine, theirs)| mine.change_to(theirs)) {
            return Some(change);
        }
        if self.reasons != other.reasons {
            return Some(Change::Reasons);
        }
        (self.tags != other.tags).then_some(Change::Tags)
    }
}

impl Grant {
    fn change_to(&self, other: &Self) -> Option<Change> {
        let is_less = !self.scopes.is_subset(&other.scopes) || other.lifetime < self.lifetime;
        let is_more = !other.scopes.is_subset(&self.scopes) || other.lifetime > self.lifetime;
        match (is_less, is_more) {
            (false, false) => None,
            (true, false) => Some(Change::Narrower),
            (false, true) => Some(Change::Wider),
            (true, true) => Some(Change::Otherwise),
        }
    }
}

/// An end as a report shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// The outcome.
    pub outcome: Outcome,
    /// Codes of the reasons.
    pub reasons: BTreeSet<String>,
    /// What is granted.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Grant>,
    /// Marks for the log.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// Why the bundle gave no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

impl From<&End> for Told {
    fn from(end: &End) -> Self {
        Self {
            outcome: end.outcome,
            reasons: end.reasons.iter().map(|reason| reason.code.clone()).collect(),
            grant: end.grant.clone(),
            tags: end.tags.clone(),
            fault: end.fault.clone(),
        }
    }
}

/// A decision, for people who look for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// Its id.
    pub decision_id: String,
    /// When it was made: RFC 3339.
    pub at: String,
    /// The agent.
    pub agent: String,
    /// The task type, as `name@version`.
    pub task_type: String,
    /// Version of all data documents that it had in the place of a bundle's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// A decision that would end otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Example {
    /// Which.
    #[serde(flatten)]
    pub subject: Subject,
    /// How it ends by the one.
    pub before: Told,
    /// How it ends by the other.
    pub after: Told,
}

/// Why a recorded decision was not decided again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Skip {
    /// It was refused before policy was asked, or is of what opens the admin API: no bundle bears on it.
    BeforePolicy,
    /// The input is no longer kept (`log.keep_inputs`).
    InputGone,
    /// The input is of another version of the schema.
    OtherSchema,
    /// The input cannot be read.
    Unreadable,
    /// The bundle that decided is not kept, or does not compile by this program.
    BundleGone,
    /// The data documents that it had are not kept, or damaged.
    DataGone,
    /// The data documents that it had do not fit the schema of a bundle that is asked.
    DataUnfit,
    /// The engine failed then and does not now: no bundle is to blame.
    FaultThen,
    /// The bundle that decided answers otherwise now than the log says.
    Unlike,
}

impl Skip {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BeforePolicy => "before_policy",
            Self::InputGone => "input_gone",
            Self::OtherSchema => "other_schema",
            Self::Unreadable => "unreadable",
            Self::BundleGone => "bundle_gone",
            Self::DataGone => "data_gone",
            Self::DataUnfit => "data_unfit",
            Self::FaultThen => "fault_then",
            Self::Unlike => "unlike",
        }
    }

    /// What it means, for people.
    pub fn why(self) -> &'static str {
        match self {
            Self::BeforePolicy => "refused before policy was asked, or a login to the admin API",
            Self::InputGone => "the input is no longer kept",
            Self::OtherSchema => "the input is of another version of its schema",
            Self::Unreadable => "the input cannot be read",
            Self::BundleGone => "the bundle that decided is not kept, or does not compile any more",
            Self::DataGone => "the data documents that it had are not kept any more",
            Self::DataUnfit => "the data documents that it had do not fit the schema of the bundle",
            Self::FaultThen => "the policy engine failed then, and does not now",
            Self::Unlike => "the bundle that decided answers otherwise now than the log says",
        }
    }

    /// Whether no bundle could have made a difference, so that nothing is missed.
    pub fn is_no_loss(self) -> bool {
        matches!(self, Self::BeforePolicy)
    }
}

/// Most different keys that one table counts apart: codes, agents and task types are few, but nothing here is unbounded.
const MOST_KEYS: usize = 1000;
/// Stands for the keys beyond.
const MORE: &str = "~more";

/// How often each key came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Counts(BTreeMap<String, u64>);

impl Counts {
    fn add(&mut self, key: &str, count: u64) {
        let is_room = self.0.len() < MOST_KEYS || self.0.contains_key(key);
        let key = if is_room { key } else { MORE };
        *self.0.entry(key.to_owned()).or_default() += count;
    }

    fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(key, count)| self.add(key, *count));
    }

    /// Keys and counts, the greatest first.
    pub fn greatest(&self) -> Vec<(&str, u64)> {
        let mut all: Vec<_> = self.0.iter().map(|(key, count)| (key.as_str(), *count)).collect();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        all
    }
}

/// How many, and the newest of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(bound(serialize = "T: Serialize"))]
pub struct Tallied<T> {
    /// How many.
    pub count: u64,
    /// The newest of them, as many as were asked for, the oldest of these first.
    #[serde(serialize_with = "values")]
    pub examples: BTreeMap<String, T>,
}

fn values<T: Serialize, S: serde::Serializer>(
    examples: &BTreeMap<String, T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(examples.values())
}

impl<T> Default for Tallied<T> {
    fn default() -> Self {
        Self { count: 0, examples: BTreeMap::new() }
    }
}

impl<T> Tallied<T> {
    fn merge(&mut self, other: Self, most: usize) {
        self.count += other.count;
        self.examples.extend(other.examples);
        while self.examples.len() > most {
            self.examples.pop_first();
        }
    }
}

/// What came of deciding a corpus again. Tallies of parts add up to that of the whole, in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Decisions that were read.
    pub recorded: u64,
    /// Those that were decided again.
    pub replayed: u64,
    /// Of these, those that a ceiling or the commit refused, whatever policy says.
    pub refused_elsewhere: u64,
    /// Those that end otherwise.
    pub changed: u64,
    /// These by how they differ.
    pub changes: BTreeMap<Change, Tallied<Example>>,
    /// By the code of each reason that is new.
    pub reasons_new: Counts,
    /// By the code of each reason that is gone.
    pub reasons_gone: Counts,
    /// By task type.
    pub task_types: Counts,
    /// By agent.
    pub agents: Counts,
    /// What was not decided again, and why.
    pub skipped: BTreeMap<Skip, Tallied<String>>,
    #[serde(skip)]
    examples: usize,
}

impl Tally {
    /// An empty one that keeps so many examples of each change.
    pub fn new(examples: usize) -> Self {
        Self { examples, ..Self::default() }
    }

    /// A decision that was not decided again.
    pub fn skip(&mut self, why: Skip, id: &str) {
        self.recorded += 1;
        let one = Tallied { count: 1, examples: BTreeMap::from([(id.to_owned(), id.to_owned())]) };
        self.skipped.entry(why).or_default().merge(one, self.examples);
    }

    /// A decision that something else than policy made.
    pub fn refused_elsewhere(&mut self) {
        self.recorded += 1;
        self.replayed += 1;
        self.refused_elsewhere += 1;
    }

    /// A decision, and how it ends by the one and by the other.
    pub fn compare(&mut self, before: &End, after: &End, told: impl FnOnce() -> Subject) {
        self.recorded += 1;
        self.replayed += 1;
        let Some(change) = before.change_to(after) else { return };
        let subject = told();
        self.changed += 1;
        for reason in after.reasons.difference(&before.reasons) {
            self.reasons_new.add(&reason.code, 1);
        }
        for reason in before.reasons.difference(&after.reasons) {
            self.reasons_gone.add(&reason.code, 1);
        }
        self.task_types.add(subject.task_type.split('@').next().unwrap_or_default(), 1);
        self.agents.add(&subject.agent, 1);
        let id = subject.decision_id.clone();
        let example = Example { subject, before: before.into(), after: after.into() };
        let one = Tallied { count: 1, examples: BTreeMap::from([(id, example)]) };
        self.changes.entry(change).or_default().merge(one, self.examples);
    }

    /// Both together.
    pub fn merge(&mut self, other: Self) {
        let Self { recorded, replayed, refused_elsewhere, changed, examples, .. } = other;
        self.recorded += recorded;
        self.replayed += replayed;
        self.refused_elsewhere += refused_elsewhere;
        self.changed += changed;
        self.examples = self.examples.max(examples);
        for (change, tallied) in other.changes {
            self.changes.entry(change).or_default().merge(tallied, self.examples);
        }
        for (why, tallied) in other.skipped {
            self.skipped.entry(why).or_default().merge(tallied, self.examples);
        }
        self.reasons_new.merge(&other.reasons_new);
        self.reasons_gone.merge(&other.reasons_gone);
        self.task_types.merge(&other.task_types);
        self.agents.merge(&other.agents);
    }

    /// Decisions that a bundle bears on, and how many of them could not be decided again.
    pub fn missed(&self) -> (u64, u64) {
        let lost = self.skipped.iter().filter(|(why, _)| !why.is_no_loss());
        let lost = lost.map(|(_, skipped)| skipped.count).sum();
        (lost, self.replayed + lost)
    }

    /// Whether there were decisions that a bundle bears on, and none of them could be decided again, or fewer than all but
    /// `most` in a hundred.
    pub fn tells_too_little(&self, most: u8) -> bool {
        let (lost, all) = self.missed();
        lost > 0 && (self.replayed == 0 || u128::from(lost) * 100 > u128::from(all) * u128::from(most))
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
