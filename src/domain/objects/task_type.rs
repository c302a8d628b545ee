//! The declared task type: the ceiling for one kind of task.

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Labels, Owner, Selector};
use crate::domain::envelope::EnvelopeTerms;
use crate::domain::ids::Name;
use crate::domain::scope::Scope;

/// The ceiling for one kind of task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskTypeSpec {
    /// For people: agents, approvers, auditors.
    pub description: String,
    /// Who answers for it.
    pub owner: Owner,
    /// How to reach them.
    pub contact: String,
    /// When it is to be looked at again; overdue is a warning.
    pub review_by: NaiveDate,
    /// Readable by policy.
    #[serde(default)]
    pub labels: Labels,
    /// Who may start it.
    pub agents: Vec<Selector>,
    /// Scopes.
    pub scopes: Vec<Scope>,
    /// Scopes when a root request names none.
    #[serde(default)]
    pub default_scopes: Vec<Scope>,
    /// Registered resources, by name.
    pub resources: Vec<Name>,
    /// Authorization details.
    #[serde(default)]
    pub authorization_details: Vec<Map<String, Value>>,
    /// How long tokens and the task live.
    pub lifetime: LifetimeSpec,
    /// Who may be handed a token; nobody when left out.
    #[serde(default)]
    pub delegation: DelegationSpec,
    /// When a person must approve.
    #[serde(default)]
    pub approval: ApprovalSpec,
    /// Whether it is refused everywhere.
    #[serde(default)]
    pub disabled: bool,
    /// Tenants that a platform task type serves; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<Vec<Name>>,
}

/// Lifetimes of a task type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LifetimeSpec {
    /// Of tokens for a service, and of hand-over tokens.
    pub token: TokenLifetimeSpec,
    /// Of the whole task, in seconds.
    pub task: u32,
}

/// Lifetime of a token, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenLifetimeSpec {
    /// When nothing is asked for.
    pub default: u32,
    /// The most.
    pub max: u32,
}

/// Who may be handed a token of the task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DelegationSpec {
    /// How many hand-overs a root token allows.
    #[serde(default)]
    pub max_depth: u32,
    /// The allowed hand-overs.
    #[serde(default)]
    pub edges: Vec<EdgeSpec>,
}

/// One allowed hand-over. A dimension left out is not limited; a token lies within one single edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EdgeSpec {
    /// From whom; anybody in the task when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Selector>,
    /// To whom.
    pub to: Selector,
    /// Scopes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<Scope>>,
    /// Registered resources, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<Name>>,
    /// Authorization details.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_details: Option<Vec<Map<String, Value>>>,
}

/// When a person must approve, and who may.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalSpec {
    /// When.
    #[serde(default)]
    pub when: ApprovalWhen,
    /// Who may approve.
    #[serde(default)]
    pub approvers: Vec<Owner>,
    /// How many of them must.
    #[serde(default = "one")]
    pub quorum: u32,
    /// Seconds that a request waits for them; nobody's answer is a denial. At most a week.
    #[serde(default = "an_hour", skip_serializing_if = "is_an_hour")]
    pub expires_in: u32,
    /// The most that an approver may approve beyond the one request; only that request when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<EnvelopeTerms>,
    /// Channel that is told of a pending request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<String>,
}

fn one() -> u32 {
    1
}

fn an_hour() -> u32 {
    3600
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde calls")]
fn is_an_hour(seconds: &u32) -> bool {
    *seconds == an_hour()
}

impl Default for ApprovalSpec {
    fn default() -> Self {
        Self {
            when: ApprovalWhen::default(),
            approvers: Vec::new(),
            quorum: 1,
            expires_in: an_hour(),
            envelope: None,
            notify: None,
        }
    }
}

/// When a person must approve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalWhen {
    /// When policy asks for it.
    #[default]
    Policy,
    /// At each root exchange and each hand-over.
    Always,
}
