//! One decision as the log keeps it: the clear, erasable record and what the leaf says of it (DESIGN §8).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ids::{ApprovalId, DecisionId, Jti, Name, TaskId};
use super::principal::Principal;

/// What was decided upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A token exchange.
    #[serde(rename = "exchange")]
    Exchange,
    /// A person's answer to what waits for one, or that none came (AP-04).
    #[serde(rename = "approval")]
    Approval,
    /// A revocation or a change of configuration.
    #[serde(rename = "admin")]
    Admin,
}

impl Kind {
    /// The word that stands in the leaf.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Approval => "approval",
            Self::Admin => "admin",
        }
    }
}

/// How it was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Granted.
    Allow,
    /// Refused, by whatever rule or fault.
    Deny,
    /// Held for a person's approval.
    RequireApproval,
}

impl Outcome {
    /// The word that stands in the leaf.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::RequireApproval => "require_approval",
        }
    }
}

/// One reason: a stable code for programs, a sentence for people, and whether the client may see it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Stable code: 1 to 64 of `A–Z a–z 0–9 _ . : -`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// Whether the client is told; a reason that is not public stands in the record only (TX-09).
    pub public: bool,
}

/// The record of a decision: clear text, personal data included, erasable. Never a token or a secret (L12).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Client id of the caller, once authenticated; the operator's account for a local admin change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The principal, once verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<Principal>,
    /// SHA-256 of the session token presented, without its signature, in hex; once its signature and tenant stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_sha256: Option<String>,
    /// The chain of actors as it stands in the token, once established.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<Value>,
    /// The task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<TaskId>,
    /// The token presented, when it was one of ours and valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_jti: Option<Jti>,
    /// The token issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<Jti>,
    /// The approval that was asked for, answered, or under which the token stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_id: Option<ApprovalId>,
    /// Which use of the envelope of that approval it is; absent where none was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<EnvelopeRecord>,
    /// What was asked for, without the tokens.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub asked: Value,
    /// What was granted; absent unless a token was issued (or would have been, in a dry run).
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub granted: Value,
    /// All reasons with their messages, the policy's private ones included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// Tags that the policy put on the decision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Names of the exceptions in force that policy was told of: what it decided, it decided with these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<String>,
    /// The candidate that was tried beside the bundle in force, if it bit, failed, or would have ended otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<CandidateRecord>,
    /// The data documents that policy had in the place of the bundle's own; absent where it had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataRecord>,
    /// That policy did not bite, or a fault of it did not; absent where it did, or was not reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<ModeRecord>,
    /// What the task type is labelled with under `data_class`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_class: Option<String>,
    /// Whether this was a dry run: decided and recorded, nothing issued.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Time from the request's arrival to the decision, in microseconds.
    #[serde(default)]
    pub duration_us: i64,
    /// The caller's `traceparent`, if it was well-formed; never used to decide (TR-03).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

/// A use of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeRecord {
    /// The how-manieth, from 1. A dry run tells the one that it would be.
    #[serde(rename = "use")]
    pub number: u32,
    /// Of how many.
    pub of: u32,
}

/// The data documents of one decision. The leaf has the version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataRecord {
    /// Version of all documents in force: a hash of their paths and versions.
    pub version: String,
    /// Those that the bundle takes: version by path.
    pub documents: BTreeMap<String, String>,
}

/// That policy did not bite in one decision, and what it would have done. The leaf has the word of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeRecord {
    /// `dry-run`; `off`, where policy was not asked; or `allow-within-ceiling`, where a fault of it was let pass.
    pub mode: String,
    /// What it would have changed, in the words of `taskgrant policy replay`; absent where nothing, or it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// Why it would have denied, or asked people; with what the task type itself asks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// What it would have left, if it would have narrowed.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub limits: Value,
    /// Why it gave no answer, which would have been a denial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// What became of a candidate bundle in one decision. The decision itself names the bundle that bit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateRecord {
    /// Its version.
    pub version: String,
    /// Whether it was the one that bit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub canary: bool,
    /// How its end differs from that of the bundle in force, in the words of `taskgrant policy replay`; absent where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disagrees: Option<String>,
    /// The bundle that did not bite; absent where both agree and neither failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowRecord>,
}

/// How the bundle that did not bite would have ended the exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowRecord {
    /// Its version.
    pub version: String,
    /// How.
    pub outcome: Outcome,
    /// Codes of its reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Why it gave no answer, which is a denial: kind and place, nothing of the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// A decision on its way into the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Opaque id, also told to the client.
    pub id: DecisionId,
    /// What was decided upon.
    pub kind: Kind,
    /// When.
    pub at: DateTime<Utc>,
    /// The tenant, once known.
    pub tenant: Option<Name>,
    /// How.
    pub outcome: Outcome,
    /// Version of the policy bundle, where one was consulted.
    pub policy: Option<String>,
    /// Task type as `name@version`, once resolved.
    pub task_type: Option<String>,
    /// The clear part. Its reasons are the decision's.
    pub record: Record,
    /// The whole policy input as JSON, where policy was consulted, or would have been in another mode.
    pub input: Option<Vec<u8>>,
}

impl Decision {
    /// The same decision after the commit refused what it allowed: the log then tells the refusal.
    pub fn refused(mut self, reason: Reason) -> Self {
        self.outcome = Outcome::Deny;
        self.record.jti = None;
        self.record.granted = Value::Null;
        self.record.envelope = None;
        self.record.reasons.push(reason);
        self
    }
}
