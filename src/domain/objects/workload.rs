//! The declared workload issuer: a platform that vouches for workloads, and for nobody else (CA-06, CA-07).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::trusted_issuer::default_algorithms;
use crate::domain::ids::Name;

/// A Kubernetes cluster or a SPIFFE trust domain. Its tokens authenticate clients and prove instances of agents; none is
/// ever a session (T33).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkloadIssuerSpec {
    /// What its tokens are.
    #[serde(rename = "type")]
    pub kind: WorkloadKind,
    /// Its `iss`, compared code point by code point; for SPIFFE the trust domain, `spiffe://acme.example`.
    pub issuer: String,
    /// Its public keys (a JWK set), where they are not fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<Value>,
    /// Where its keys are; for Kubernetes found by discovery when neither is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// Signature algorithms it may use.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<String>,
    /// Oldest token that is accepted, in seconds: such tokens lie in files and are used many times.
    #[serde(default = "default_max_age")]
    pub max_age: u32,
    /// Tenants that a platform issuer serves; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<Vec<Name>>,
}

fn default_max_age() -> u32 {
    3600
}

/// What the tokens of a workload issuer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkloadKind {
    /// Projected tokens of Kubernetes service accounts.
    Kubernetes,
    /// JWT-SVIDs of one SPIFFE trust domain.
    Spiffe,
}

/// A workload that is the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkloadSpec {
    /// The workload issuer's `issuer`.
    pub issuer: String,
    /// The token's `sub`, compared code point by code point.
    pub subject: String,
    /// Kubernetes: the service account's uid, so that one made anew under the same name is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}
