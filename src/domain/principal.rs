//! The principal: the person or upstream workload on whose behalf work is done.

use serde::{Deserialize, Serialize};

/// Principal key: issuer and upstream subject together, since one subject may exist at two issuers (T34).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Principal {
    /// The trusted issuer's `iss`, compared code point by code point.
    pub iss: String,
    /// The upstream `sub`.
    pub sub: String,
}
