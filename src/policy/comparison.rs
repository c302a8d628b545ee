//! How a candidate's answers differ from those of the bundle in force: one exchange at a time, and all that this process saw.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Add;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::candidate::{Candidate, Ruling, Shadow};
use super::fault::PolicyFault;
use super::input::PolicyInput;
use super::judgement::{Judgement, Outcome};
use super::replay::{Case, Change, End, GrantedRecord, Recorded, TASK_TYPE_APPROVAL};
use crate::domain::decision::{self, CandidateRecord, ShadowRecord};
use crate::domain::ids::DecisionId;

/// Most rows of the table of disagreements. Codes, agents and task types are few, but a rule may compute a code.
const MOST_ROWS: usize = 1000;
/// Stands in the place of reason code, task type and agent where the table is full.
const MORE: &str = "~more";
/// Decisions that each row names, the newest.
const SAMPLES: usize = 5;

/// What the exchange would be without policy, as far as the input does not tell.
#[derive(Clone, Copy, Debug)]
pub struct Unjudged {
    /// Seconds that the token would live.
    pub lifetime: u64,
    /// Whether the task type itself asks people.
    pub asks: bool,
}

impl Unjudged {
    fn case(self, input: PolicyInput) -> Case {
        let exp = input.now.saturating_add(self.lifetime);
        let reasons = if self.asks { vec![TASK_TYPE_APPROVAL.to_owned()] } else { Vec::new() };
        let granted = Some(GrantedRecord { exp, ..GrantedRecord::default() });
        Case::new(input, Recorded { reasons, granted, ..Recorded::default() })
    }

    /// What a judgement that does not bite would have changed, and how the exchange would have ended by it; none where nothing.
    pub fn let_pass(
        self,
        input: PolicyInput,
        judged: &Result<Judgement, PolicyFault>,
    ) -> Option<(Change, End)> {
        let case = self.case(input);
        let unbound = judged.as_ref().map_or_else(|_| Judgement::unasked(), Judgement::unbound);
        let end = case.end(judged);
        let change = case.end(&Ok(unbound)).change_to(&end)?;
        Some((change, end))
    }
}

/// How both bundles end one exchange.
#[derive(Clone, Debug)]
pub struct Compared {
    candidate: Arc<Candidate>,
    canary: bool,
    change: Option<Change>,
    codes: BTreeSet<String>,
    fault: Option<String>,
    shadow: ShadowRecord,
}

/// Which exchange it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whose {
    /// Its decision.
    pub id: DecisionId,
    /// When it was made.
    pub at: DateTime<Utc>,
    /// Name of the task type.
    pub task_type: String,
    /// The agent.
    pub agent: String,
}

impl Shadow<'_> {
    /// Compares it with the answer that bites.
    pub fn compare(&self, bites: &Ruling<'_>, input: PolicyInput, unjudged: Unjudged) -> Compared {
        let case = unjudged.case(input);
        let (shadow, bites) = (case.end(&self.ruling.judgement), case.end(&bites.judgement));
        let (active, candidate) = if self.canary { (&shadow, &bites) } else { (&bites, &shadow) };
        let change = active.change_to(candidate);
        Compared {
            candidate: self.candidate.clone(),
            canary: self.canary,
            change,
            codes: if change.is_some() { differing(active, candidate) } else { BTreeSet::new() },
            fault: candidate.fault.clone(),
            shadow: ShadowRecord {
                version: self.ruling.version.to_owned(),
                outcome: match shadow.outcome {
                    Outcome::Allow => decision::Outcome::Allow,
                    Outcome::RequireApproval => decision::Outcome::RequireApproval,
                    Outcome::Deny => decision::Outcome::Deny,
                },
                reasons: codes(&shadow).into_iter().map(str::to_owned).collect(),
                fault: shadow.fault,
            },
        }
    }
}

fn codes(end: &End) -> BTreeSet<&str> {
    end.reasons.iter().map(|reason| reason.code.as_str()).collect()
}

/// The codes that only the candidate gives; if there are none, those that only the bundle in force does.
fn differing(active: &End, candidate: &End) -> BTreeSet<String> {
    let (before, after) = (codes(active), codes(candidate));
    let new: BTreeSet<_> = after.difference(&before).map(|code| (*code).to_owned()).collect();
    if new.is_empty() { before.difference(&after).map(|code| (*code).to_owned()).collect() } else { new }
}

impl Compared {
    /// How the candidate's end differs; none if it does not.
    pub fn change(&self) -> Option<Change> {
        self.change
    }

    /// Whether the candidate bit.
    pub fn canary(&self) -> bool {
        self.canary
    }

    /// Why the candidate gave no answer.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// What the decision keeps of it: nothing where a candidate that did not bite agrees.
    pub fn record(&self) -> Option<CandidateRecord> {
        let tells = self.change.is_some() || self.fault.is_some();
        (tells || self.canary).then(|| CandidateRecord {
            version: self.candidate.version().to_owned(),
            canary: self.canary,
            disagrees: self.change.map(|change| change.as_str().to_owned()),
            shadow: tells.then(|| self.shadow.clone()),
        })
    }

    /// Counts it, once the decision is made. Whether this is the candidate's first fault.
    pub fn count(&self, whose: &Whose) -> bool {
        self.candidate.seen().count(self, whose)
    }
}

/// What was seen of a candidate in this process: counts, and a bounded table.
#[derive(Debug)]
pub struct Comparisons(Mutex<Seen>);

#[derive(Debug)]
struct Seen {
    since: DateTime<Utc>,
    compared: u64,
    disagreed: u64,
    enforced: u64,
    faults: u64,
    last_fault: Option<FaultSeen>,
    rows: BTreeMap<Row, (u64, VecDeque<DecisionId>)>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    kind: Change,
    reason_code: String,
    task_type: String,
    agent: String,
}

/// A candidate's fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultSeen {
    /// When.
    pub at: DateTime<Utc>,
    /// In which decision.
    pub decision_id: DecisionId,
    /// Kind and place; nothing of the input.
    pub problem: String,
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disagreement {
    /// How the candidate's end differs, in the words of `policy replay`.
    pub kind: Change,
    /// Code of a reason that only one of both gives, the candidate's if it gives one; empty where the reasons are the same. A
    /// decision stands in one row for each.
    pub reason_code: String,
    /// Name of the task type.
    pub task_type: String,
    /// The agent.
    pub agent: String,
    /// How often.
    pub count: u64,
    /// The newest decisions of these, the oldest first: five at most.
    pub decision_ids: Vec<DecisionId>,
}

/// How often both bundles were compared, and how that went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Exchanges that both bundles judged.
    pub compared: u64,
    /// Those that both would end alike.
    pub agreed: u64,
    /// Those that they would not.
    pub disagreed: u64,
    /// Those for which the candidate bit.
    pub enforced: u64,
    /// Those to which the candidate gave no answer.
    pub faults: u64,
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            compared: self.compared.saturating_add(other.compared),
            agreed: self.agreed.saturating_add(other.agreed),
            disagreed: self.disagreed.saturating_add(other.disagreed),
            enforced: self.enforced.saturating_add(other.enforced),
            faults: self.faults.saturating_add(other.faults),
        }
    }
}

/// What was seen, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Since when this process has counted.
    pub since: DateTime<Utc>,
    /// Exchanges that both bundles judged.
    pub compared: u64,
    /// Those that both would end alike.
    pub agreed: u64,
    /// Those that they would not.
    pub disagreed: u64,
    /// Those for which the candidate bit.
    pub enforced: u64,
    /// Those to which the candidate gave no answer: it failed, or ran over its limits.
    pub faults: u64,
    /// The newest of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_fault: Option<FaultSeen>,
    /// How they disagreed, the most frequent first.
    pub disagreements: Vec<Disagreement>,
}

impl From<&Comparison> for Counts {
    fn from(seen: &Comparison) -> Self {
        let Comparison { compared, agreed, disagreed, enforced, faults, .. } = *seen;
        Self { compared, agreed, disagreed, enforced, faults }
    }
}

impl Comparisons {
    /// Nothing seen yet, from `since` on.
    pub fn new(since: DateTime<Utc>) -> Self {
        Self(Mutex::new(Seen {
            since,
            compared: 0,
            disagreed: 0,
            enforced: 0,
            faults: 0,
            last_fault: None,
            rows: BTreeMap::new(),
        }))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, compared: &Compared, whose: &Whose) -> bool {
        let mut seen = self.seen();
        seen.compared += 1;
        seen.enforced += u64::from(compared.canary);
        if let Some(kind) = compared.change {
            seen.disagreed += 1;
            seen.disagree(kind, &compared.codes, whose);
        }
        let Some(problem) = compared.fault.clone() else { return false };
        seen.faults += 1;
        seen.last_fault = Some(FaultSeen { at: whose.at, decision_id: whose.id, problem });
        seen.faults == 1
    }

    /// The numbers alone.
    pub fn counts(&self) -> Counts {
        self.seen().counts()
    }

    /// All of it.
    pub fn told(&self) -> Comparison {
        let seen = self.seen();
        let told = |(row, (count, samples)): (&Row, &(u64, VecDeque<DecisionId>))| Disagreement {
            kind: row.kind,
            reason_code: row.reason_code.clone(),
            task_type: row.task_type.clone(),
            agent: row.agent.clone(),
            count: *count,
            decision_ids: samples.iter().copied().collect(),
        };
        let mut disagreements: Vec<_> = seen.rows.iter().map(told).collect();
        disagreements.sort_by_key(|row| std::cmp::Reverse(row.count));
        let Counts { compared, agreed, disagreed, enforced, faults } = seen.counts();
        Comparison {
            since: seen.since,
            compared,
            agreed,
            disagreed,
            enforced,
            faults,
            last_fault: seen.last_fault.clone(),
            disagreements,
        }
    }
}

impl Seen {
    fn counts(&self) -> Counts {
        let Self { compared, disagreed, enforced, faults, .. } = *self;
        Counts { compared, agreed: compared - disagreed, disagreed, enforced, faults }
    }

    fn disagree(&mut self, kind: Change, codes: &BTreeSet<String>, whose: &Whose) {
        let none = BTreeSet::from([String::new()]);
        for code in if codes.is_empty() { &none } else { codes } {
            let mut row = Row {
                kind,
                reason_code: code.clone(),
                task_type: whose.task_type.clone(),
                agent: whose.agent.clone(),
            };
            if self.rows.len() >= MOST_ROWS && !self.rows.contains_key(&row) {
                let more = || MORE.to_owned();
                row = Row { kind, reason_code: more(), task_type: more(), agent: more() };
            }
            let (count, samples) = self.rows.entry(row).or_default();
            *count += 1;
            if samples.len() >= SAMPLES {
                samples.pop_front();
            }
            samples.push_back(whose.id);
        }
    }
}

#[cfg(test)]
#[path = "comparison_tests.rs"]
mod tests;
