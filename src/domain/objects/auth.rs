//! How a client authenticates (STANDARDS §6): by secrets, by keys or a certificate of its own, or by what
//! its platform vouches for.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::BadField;
use super::certificate::TlsAuthSpec;
use super::trusted_issuer::default_algorithms;
use super::workload::WorkloadSpec;

/// How an agent or a resource authenticates. Each way that is declared is open to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthSpec {
    /// SHA-256 of each valid secret, in lower-case hex; at most two. `taskgrant secret` makes a secret and its hash.
    #[serde(default)]
    pub secret_sha256: Vec<SecretHash>,
    /// Hashes of the secrets that `taskgrant agent secret` has made. No file sets it: every apply keeps what is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub issued_sha256: Vec<SecretHash>,
    /// Public keys (a JWK set) that sign its assertions (`private_key_jwt`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<Value>,
    /// Where such keys are, instead of `jwks`: fetched like the keys of issuers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// Signature algorithms of its assertions.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<String>,
    /// Workloads that are this client: their platform's token is its assertion, or their X.509-SVID its certificate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workload: Vec<WorkloadSpec>,
    /// The certificate by which it authenticates in TLS (RFC 8705).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Box<TlsAuthSpec>>,
}

impl Default for AuthSpec {
    fn default() -> Self {
        Self {
            secret_sha256: Vec::new(),
            issued_sha256: Vec::new(),
            jwks: None,
            jwks_uri: None,
            algorithms: default_algorithms(),
            workload: Vec::new(),
            tls: None,
        }
    }
}

impl AuthSpec {
    /// The hashes of all secrets that are valid now.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretHash> {
        self.secret_sha256.iter().chain(&self.issued_sha256)
    }

    /// Whether it has keys of its own, so that it may authenticate by `private_key_jwt`.
    pub fn has_keys(&self) -> bool {
        self.jwks.is_some() || self.jwks_uri.is_some()
    }
}

/// SHA-256 of a client secret: 64 lower-case hex digits.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("pattern" = r"^[0-9a-f]{64}$"))]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// From the hash's bytes.
    pub fn new(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The hash's bytes, for a constant-time comparison.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

impl From<SecretHash> for String {
    fn from(hash: SecretHash) -> String {
        hex::encode(hash.0)
    }
}

impl TryFrom<String> for SecretHash {
    type Error = BadField;
    fn try_from(text: String) -> Result<Self, BadField> {
        let mut bytes = [0; 32];
        let read = hex::decode_to_slice(&text, &mut bytes);
        if read.is_err() || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(BadField::SecretHash);
        }
        Ok(Self(bytes))
    }
}
