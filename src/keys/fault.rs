//! Why a token was refused: a closed list of facts, safe to log and to show.

use std::fmt;

use crate::domain::excerpt::Excerpt;
use crate::domain::json::JsonFault;

/// Which of the three parts of a compact JWS is meant (RFC 7515 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The JOSE header.
    Header,
    /// The claims.
    Payload,
    /// The signature.
    Signature,
}

impl fmt::Display for Part {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Header => "header",
            Self::Payload => "payload",
            Self::Signature => "signature",
        })
    }
}

/// Why a compact JWS is not accepted. The text names no secret: a token's claims never appear in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwsFault {
    /// Longer than the cap, in bytes [JW-06].
    #[error("token has {len} bytes, more than the {max} allowed")]
    TooLong {
        /// Bytes received.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not `header.payload.signature` (RFC 7515 §7.1).
    #[error("token is not a compact JWS of three parts")]
    NotThreeParts,
    /// Padding, whitespace, a foreign character, or non-zero trailing bits (RFC 7515 §2) [JW-06].
    #[error("token {0} is not canonical base64url without padding")]
    Base64(Part),
    /// Header or payload is not a plain JSON object [JW-05].
    #[error("token {0}: {1}")]
    Json(Part, JsonFault),
    /// A header member is there but is not a string.
    #[error("token header member `{0}` is missing or not a string")]
    HeaderMember(&'static str),
    /// `alg` is `none`, symmetric, or unknown [JW-01].
    #[error("token algorithm {0} is not accepted")]
    Algorithm(Excerpt),
    /// `crit` is present: this server understands no critical extension (RFC 7515 §4.1.11) [JW-02].
    #[error("token header has `crit`, and no extension is supported")]
    Critical,
    /// The key does not serve the token's algorithm, by type, curve, or its own `alg` [JW-01].
    #[error("token algorithm does not fit the key")]
    KeyMismatch,
    /// No key of the set fits the token's `kid` and algorithm.
    #[error("token is signed with a key that is not known here")]
    UnknownKey,
    /// Without a usable `kid`, more keys would have to be tried than is allowed.
    #[error("token does not say which of {0} keys signed it")]
    Ambiguous(usize),
    /// The signature is not by this key over these bytes.
    #[error("token signature does not verify")]
    BadSignature,
}
