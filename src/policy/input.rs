//! What a policy is asked: verified facts, the request, its ceilings, and apart from them what the agent claims.
//!
//! The published JSON Schema (`policies/schema/input.json`) is generated from these types.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};

/// The shape described here; a policy may refuse a version that it does not know.
pub const INPUT_VERSION: u64 = 1;

/// Names and values that an admin attached to an object.
pub type Labels = BTreeMap<String, String>;

/// The whole question (`input` in Rego). An optional member that is absent is undefined in Rego, never null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyInput {
    /// Version of this shape: 1.
    pub version: u64,
    /// The deployment's name for itself, such as `production`.
    pub environment: String,
    /// The instant of the decision, in whole seconds since 1970 UTC; policies have no other clock.
    pub now: u64,
    /// The tenant that the session belongs to.
    pub tenant: TenantFacts,
    /// On whose behalf work is done.
    pub principal: PrincipalFacts,
    /// The agent that authenticated and acts now.
    pub actor: ActorFacts,
    /// The actors of the capability asked for, the present actor first and the one that started the task last.
    pub chain: Vec<ChainLink>,
    /// The task that this capability is part of.
    pub task: TaskFacts,
    /// The capability that is narrowed; absent for the root of a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentFacts>,
    /// What is asked for, defaults filled in. It lies within `ceiling`.
    pub requested: RequestedFacts,
    /// The most that could be granted: task type ∩ entitlements ∩ session or parent ∩ delegation.
    pub ceiling: CeilingFacts,
    /// Counters that may lag behind: `task_tokens`, the tokens of this task that were ever issued, and `token_children`, those
    /// below the parent. Exact limits are the configuration's.
    #[serde(default)]
    pub stats: BTreeMap<String, u64>,
    /// Time-boxed exceptions in force now that touch this request.
    #[serde(default)]
    pub exceptions: Vec<ExceptionFacts>,
    /// The approval that this request redeems, has inherited, or of whose envelope it would be a use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalFacts>,
    /// What the agent says of itself: untrusted, may only make a decision stricter.
    #[serde(default)]
    pub claimed: BTreeMap<String, serde_json::Value>,
}

/// The tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantFacts {
    /// Its id.
    pub id: String,
    /// Its labels.
    #[serde(default)]
    pub labels: Labels,
}

/// The principal, as its issuer's verified session token tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrincipalFacts {
    /// Issuer of the session token.
    pub iss: String,
    /// Subject at that issuer, without prefix.
    pub sub: String,
    /// What its issuer's subjects are, as the admin registered the issuer.
    pub kind: PrincipalKind,
    /// Roles that the issuer states.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Groups that the issuer states.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Authentication context class of the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// When the principal authenticated, in seconds since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<u64>,
    /// The claims that the trusted issuer's `facts` name, as far as the session token has them: of any kind, so look before you compare.
    #[serde(default)]
    pub facts: BTreeMap<String, serde_json::Value>,
}

/// What a principal is: `principals` of its trusted issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// A person.
    Human,
    /// An upstream workload: nobody who could be asked or who logged in.
    Workload,
}

/// The agent acting now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActorFacts {
    /// Its client id.
    pub id: String,
    /// Its class.
    pub class: String,
    /// Its labels.
    #[serde(default)]
    pub labels: Labels,
    /// The instance that it proved with an actor token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

/// One actor of the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChainLink {
    /// Client id, or the upstream subject of a foreign actor.
    pub sub: String,
    /// Issuer of a foreign actor; absent for our own agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// The instance that it proved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

/// The task and its type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskFacts {
    /// Name of the task type.
    pub r#type: String,
    /// Version of the task type.
    pub version: u64,
    /// Id of the task; absent while its root is decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Labels of the task type, such as `risk` and `data_class`.
    #[serde(default)]
    pub labels: Labels,
    /// Owner of the task type.
    pub owner: String,
}

/// The capability that is narrowed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParentFacts {
    /// Id of the parent token.
    pub jti: String,
    /// Its scopes.
    pub scopes: Vec<String>,
    /// Its resources, by URI.
    pub resources: Vec<String>,
    /// Its authorization details.
    #[serde(default)]
    pub authorization_details: Vec<serde_json::Value>,
    /// Hand-overs that it still allows.
    pub depth_left: u64,
    /// Seconds until it expires.
    pub expires_in: u64,
    /// Whether no service accepts it.
    pub exchange_only: bool,
    /// The agent that alone may spend it, when it is a hand-over token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_act: Option<String>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestedFacts {
    /// Scopes.
    pub scopes: Vec<String>,
    /// Resources, by URI.
    pub resources: Vec<String>,
    /// Authorization details.
    #[serde(default)]
    pub authorization_details: Vec<serde_json::Value>,
    /// Seconds that the token shall live, if the agent said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<u64>,
    /// The agent that the token is handed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegate_to: Option<String>,
    /// Whether a token is asked for that can only be narrowed further.
    pub exchange_only: bool,
    /// Whether nothing is issued, whatever the answer.
    pub dry_run: bool,
}

/// The most that could be granted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CeilingFacts {
    /// Scopes.
    pub scopes: Vec<String>,
    /// Resources, by URI.
    pub resources: Vec<String>,
    /// Authorization details.
    #[serde(default)]
    pub authorization_details: Vec<serde_json::Value>,
    /// Seconds that a token could live from now: by the task type, the parent or session, and the task's deadline.
    pub lifetime: u64,
    /// Hand-overs left after this one.
    pub depth: u64,
}

/// A time-boxed exception that two people approved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExceptionFacts {
    /// Its name.
    pub name: String,
    /// Who answers for it.
    pub owner: String,
    /// When it ends, in seconds since 1970 UTC.
    pub expires_at: u64,
    /// What it is about, as declared.
    #[serde(default)]
    pub about: BTreeMap<String, serde_json::Value>,
}

/// An approval that people gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalFacts {
    /// Its id.
    pub id: String,
    /// Codes of the reasons that were approved.
    pub reasons: Vec<String>,
    /// Who approved, as `ISS SUB`.
    #[serde(default)]
    pub approvers: Vec<String>,
    /// The envelope of it that would be used; absent where none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<EnvelopeFacts>,
}

/// An envelope that people gave with an approval: so many exchanges like the one that they saw, or narrower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvelopeFacts {
    /// How many exchanges used it before; others may at the same time.
    pub used: u64,
    /// How many may.
    pub of: u64,
}

/// The JSON Schema of [`PolicyInput`] as policies see it: the text of `policies/schema/input.json`.
pub fn schema_text() -> String {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let schema = settings.into_generator().into_root_schema_for::<PolicyInput>();
    format!("{:#}\n", schema.to_value())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set this variable to rewrite the file instead of comparing.
    const UPDATE: &str = "UPDATE_SCHEMA";

    #[test]
    fn the_published_schema_is_that_of_the_types() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/policies/schema/input.json");
        if std::env::var_os(UPDATE).is_some() {
            std::fs::write(path, schema_text()).unwrap();
        }
        let published = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            published == schema_text(),
            "policies/schema/input.json is out of date: run `{UPDATE}=1 cargo test policy::input`"
        );
    }

    #[test]
    fn an_unknown_member_of_the_input_is_refused() {
        let mut input = serde_json::to_value(crate::policy::testing::good_input()).unwrap();
        input["actor"]["colour"] = "red".into();
        assert!(serde_json::from_value::<PolicyInput>(input).is_err());
    }
}
