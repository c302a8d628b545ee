//! The declared trusted issuer: whose sessions count, and what their principals may delegate.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::logout::LogoutSpec;
use crate::domain::ids::Name;
use crate::domain::scope::Scope;

/// An upstream OIDC provider or JWT issuer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustedIssuerSpec {
    /// Its `iss`, compared code point by code point.
    pub issuer: String,
    /// Where its keys are; found by discovery when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// Platform issuers: the claim that holds the tenant's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_claim: Option<String>,
    /// Platform issuers: the one tenant of all its principals, instead of `tenant_claim`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_tenant: Option<Name>,
    /// Tenants that a platform issuer serves; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<Vec<Name>>,
    /// Put before the upstream `sub` to make ours; fixed once used.
    #[serde(default)]
    pub subject_prefix: String,
    /// Which of its tokens are session tokens.
    pub accept: Vec<AcceptSpec>,
    /// Signature algorithms it may use.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<String>,
    /// What its subjects are.
    #[serde(default)]
    pub principals: PrincipalClass,
    /// When its sessions end.
    #[serde(default)]
    pub session_end: SessionEnd,
    /// How the server hears that they have ended before; not at all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logout: Option<LogoutSpec>,
    /// Oldest login (`auth_time`, else `iat`) that is still a session, in seconds.
    #[serde(default = "default_max_session_age")]
    pub max_session_age: u32,
    /// What its principals may delegate at all; no match = nothing.
    #[serde(default)]
    pub entitlements: Vec<EntitlementSpec>,
    /// Whether any agent of the tenant may spend its tokens without `may_act` or `upstream_clients`.
    #[serde(default)]
    pub any_agent: bool,
    /// Claims kept with the task besides those that entitlements name.
    #[serde(default)]
    pub facts: Vec<String>,
    /// Claim that lists the principal's groups for policy.
    #[serde(default = "default_groups_claim")]
    pub groups_claim: String,
    /// Claim that lists the principal's roles for policy.
    #[serde(default = "default_roles_claim")]
    pub roles_claim: String,
}

impl TrustedIssuerSpec {
    /// The `iss` of the security events that end its sessions, where such are heard.
    pub fn event_issuer(&self) -> Option<&str> {
        let caep = self.logout.as_ref()?.caep.as_ref()?;
        Some(caep.issuer.as_deref().unwrap_or(&self.issuer))
    }
}

/// The algorithms of whoever declares none.
pub(super) fn default_algorithms() -> Vec<String> {
    ["ES256", "RS256", "PS256", "EdDSA"].map(str::to_owned).into()
}

fn default_max_session_age() -> u32 {
    12 * 3600
}

fn default_groups_claim() -> String {
    "groups".to_owned()
}

fn default_roles_claim() -> String {
    "roles".to_owned()
}

/// A kind of token that an issuer's sessions come as.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptSpec {
    /// What it is, and so which `subject_token_type` may declare it.
    #[serde(rename = "type")]
    pub kind: SessionTokenKind,
    /// The value that its `aud` must hold.
    pub audience: String,
    /// Accepted `typ` headers; an empty text stands for a token without `typ`.
    #[serde(default = "default_typ")]
    pub typ: Vec<String>,
}

fn default_typ() -> Vec<String> {
    vec!["at+jwt".to_owned()]
}

/// What a session token is (RFC 8693 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionTokenKind {
    /// `urn:ietf:params:oauth:token-type:access_token`.
    AccessToken,
    /// `urn:ietf:params:oauth:token-type:id_token`.
    IdToken,
    /// `urn:ietf:params:oauth:token-type:jwt`.
    Jwt,
}

impl SessionTokenKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::AccessToken, Self::IdToken, Self::Jwt];

    /// The URN's last word (RFC 8693 §3).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::IdToken => "id_token",
            Self::Jwt => "jwt",
        }
    }
}

impl FromStr for SessionTokenKind {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or("access_token, id_token or jwt")
    }
}

/// What the subjects of an issuer are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalClass {
    /// People.
    #[default]
    Human,
    /// Upstream workloads.
    Workload,
}

/// When a session ends. Only an issuer whose logouts are heard may have sessions that outlast their token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// With the session token's `exp`.
    #[default]
    Token,
    /// At the instant that this claim tells, in seconds since 1970; dots lead into nested objects.
    Claim(String),
    /// This many seconds after `auth_time`.
    AfterAuthTime(u32),
}

/// What principals that match may delegate. A dimension left out is not limited; matching rules add up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntitlementSpec {
    /// Whom it is for; every principal of the issuer when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<ConditionSpec>,
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

/// A condition on one claim of the session token: exactly one of `contains` and `equals`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConditionSpec {
    /// The claim's name, or names joined by dots into nested objects.
    pub claim: String,
    /// Holds when the claim is an array with this text, or this text itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// Holds when the claim is this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<Value>,
}

impl ConditionSpec {
    /// Whether the condition holds for `facts`; a missing claim never does (L7).
    pub fn holds(&self, facts: &Map<String, Value>) -> bool {
        let Some(value) = claim(facts, &self.claim) else { return false };
        match (&self.contains, &self.equals) {
            (Some(wanted), None) => {
                value.as_str() == Some(wanted)
                    || value.as_array().is_some_and(|items| items.iter().any(|i| i.as_str() == Some(wanted)))
            }
            (None, Some(wanted)) => value == wanted,
            (None, None) | (Some(_), Some(_)) => false,
        }
    }
}

/// A claim that lists texts: an array of them, or one.
pub fn listed(facts: &Map<String, Value>, name: &str) -> Vec<String> {
    match claim(facts, name) {
        Some(Value::Array(items)) => items.iter().filter_map(|i| i.as_str().map(str::to_owned)).collect(),
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
    }
}

/// The claim called `name`, or, where there is none, the one that dots in `name` lead to.
pub fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    claims.get(first)?.as_object().and_then(|inner| claim(inner, rest))
}
