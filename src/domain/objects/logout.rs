//! How the server hears that sessions of a trusted issuer have ended (STANDARDS SE-01, SE-04).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretHash;

/// What is heard of an issuer's logouts; at least one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogoutSpec {
    /// Logout tokens at `/backchannel-logout` (OpenID Connect Back-Channel Logout 1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backchannel: Option<BackchannelSpec>,
    /// Security events at `/events` (RFC 8935), of which CAEP `session-revoked` ends sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caep: Option<CaepSpec>,
}

/// The provider's logout tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackchannelSpec {
    /// Client ids at the provider for which `/backchannel-logout` is registered there: `aud` holds no others.
    pub clients: Vec<String>,
    /// Accepted `typ` headers, of `logout+jwt`, `JWT` and an empty text for a token without `typ`.
    #[serde(default = "default_typ")]
    pub typ: Vec<String>,
}

fn default_typ() -> Vec<String> {
    vec!["logout+jwt".to_owned()]
}

/// A transmitter's security event tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaepSpec {
    /// The value that their `aud` must hold: the stream's.
    pub audience: String,
    /// Their `iss`, where it is not the issuer's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Where the transmitter's keys are; the issuer's keys when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// SHA-256 of each secret of which one must come as `Authorization: Bearer`, in lower-case hex; any or no header will
    /// do when there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bearer_sha256: Vec<SecretHash>,
    /// What a subject of the format `opaque` names; refused when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opaque: Option<OpaqueSubject>,
}

/// What an opaque subject identifier names (RFC 9493 §3.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OpaqueSubject {
    /// A session: the `sid` of its tokens.
    Session,
    /// A principal: the `sub` of its tokens.
    Principal,
}
