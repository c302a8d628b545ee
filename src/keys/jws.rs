//! Reading a compact JWS strictly (RFC 7515 §7.1, RFC 8725), and the step from unverified to verified.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::fault::{JwsFault, Part};
use super::public::PublicKey;
use crate::domain::excerpt::Excerpt;
use crate::domain::json;
use crate::hash::sha256;

/// Longest compact JWS that is looked at, in bytes [JW-06].
pub const MAX_COMPACT: usize = 16 * 1024;

/// Most keys tried for one token: bounds the work that a token without `kid` can cause.
pub const MAX_TRIALS: usize = 8;

/// A well-formed token whose signature nobody has checked. It shows only what is needed to find the key.
///
/// No `Debug`: what it holds may be a live credential.
pub struct Jws<'t> {
    compact: &'t str,
    signing_input: &'t str,
    signature: Vec<u8>,
    header: Header,
    claims: Map<String, Value>,
}

/// What may be read before the signature is checked: enough to choose the issuer and its key, and no more.
///
/// Every field is the sender's word. `kid` is any string at all: never part of a path or of SQL [JW-02].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnverifiedClaims<'j> {
    /// `iss`; none when absent or not a string.
    pub issuer: Option<&'j str>,
    /// `sub`; none when absent or not a string. A SPIFFE ID in it names the trust domain.
    pub subject: Option<&'j str>,
    /// Header `kid` (RFC 7515 §4.1.4).
    pub kid: Option<&'j str>,
    /// Header `typ`, as written (RFC 7515 §4.1.9).
    pub typ: Option<&'j str>,
    /// Header `alg`.
    pub algorithm: Algorithm,
}

/// A token whose signature has been verified; the only door to its claims.
///
/// Verified means "signed by that key": dates, audience, `typ` and revocation are still the caller's to check.
#[derive(Clone)]
pub struct VerifiedJws {
    header: Header,
    claims: Map<String, Value>,
    key: Box<str>,
}

#[derive(Clone)]
struct Header {
    algorithm: Algorithm,
    typ: Option<Box<str>>,
    kid: Option<Box<str>>,
}

impl<'t> Jws<'t> {
    /// Reads a compact JWS whose payload is a JSON object.
    ///
    /// Refuses what could be read in two ways: see [`JwsFault`]. `jku`, `x5u`, `jwk` and `x5c` are ignored, since a
    /// token must not choose its own key [JW-02]; so are header members without meaning here.
    pub fn parse(compact: &'t str) -> Result<Self, JwsFault> {
        if compact.len() > MAX_COMPACT {
            return Err(JwsFault::TooLong { len: compact.len(), max: MAX_COMPACT });
        }
        let (signing_input, signature) = compact.rsplit_once('.').ok_or(JwsFault::NotThreeParts)?;
        let (header, payload) = signing_input.split_once('.').ok_or(JwsFault::NotThreeParts)?;
        if payload.contains('.') {
            return Err(JwsFault::NotThreeParts);
        }
        let header = Header::read(&object(Part::Header, header)?)?;
        let claims = object(Part::Payload, payload)?;
        let signature = decode(Part::Signature, signature)?;
        Ok(Self { compact, signing_input, signature, header, claims })
    }

    /// The sender's unproved word about who signed.
    pub fn unverified(&self) -> UnverifiedClaims<'_> {
        UnverifiedClaims {
            issuer: self.claims.get("iss").and_then(Value::as_str),
            subject: self.claims.get("sub").and_then(Value::as_str),
            kid: self.header.kid.as_deref(),
            typ: self.header.typ.as_deref(),
            algorithm: self.header.algorithm,
        }
    }

    /// Whether header `typ` is the media type `expected`; see [`VerifiedJws::typ_is`].
    pub fn typ_is(&self, expected: &str) -> bool {
        self.header.typ_is(expected)
    }

    /// SHA-256 of what is signed, without the signature: the same for every signature of one token, so that a
    /// holder cannot give it another name by another valid signature (ECDSA signatures are malleable).
    pub fn signed_sha256(&self) -> [u8; 32] {
        sha256(&[self.signing_input.as_bytes()])
    }

    /// SHA-256 of the compact form, signature included: names the token where the token itself must not stand.
    pub fn sha256(&self) -> [u8; 32] {
        sha256(&[self.compact.as_bytes()])
    }

    /// Checks the signature with one key: [`JwsFault::KeyMismatch`] or [`JwsFault::BadSignature`] if it fails.
    pub fn verify(self, key: &PublicKey) -> Result<VerifiedJws, JwsFault> {
        self.verify_any(&[key])
    }

    /// Checks the signature with each of `keys` until one fits, as [`super::jwks::JwkSet::find`] offers them.
    ///
    /// None at all is [`JwsFault::UnknownKey`]; more than [`MAX_TRIALS`] is [`JwsFault::Ambiguous`]; otherwise the
    /// fault of the last key tried.
    pub fn verify_any(self, keys: &[&PublicKey]) -> Result<VerifiedJws, JwsFault> {
        if keys.len() > MAX_TRIALS {
            return Err(JwsFault::Ambiguous(keys.len()));
        }
        let mut fault = JwsFault::UnknownKey;
        for key in keys {
            match key.verify(self.header.algorithm, self.signing_input.as_bytes(), &self.signature) {
                Ok(()) => {
                    let key = key.thumbprint().into();
                    return Ok(VerifiedJws { header: self.header, claims: self.claims, key });
                }
                Err(refused) => fault = refused,
            }
        }
        Err(fault)
    }
}

impl VerifiedJws {
    /// All claims, as signed.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// All claims, without copying.
    pub fn into_claims(self) -> Map<String, Value> {
        self.claims
    }

    /// The algorithm that verified it.
    pub fn algorithm(&self) -> Algorithm {
        self.header.algorithm
    }

    /// Header `kid`, if any.
    pub fn kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// RFC 7638 thumbprint of the key that verified it: what a cache must forget when the key is withdrawn.
    pub fn verified_by(&self) -> &str {
        &self.key
    }

    /// Whether header `typ` is the media type `expected`, such as `at+jwt`: case does not count, nor a leading
    /// `application/` (RFC 7515 §4.1.9, RFC 9068 §4) [AT-01]. A token without `typ` is of no type.
    pub fn typ_is(&self, expected: &str) -> bool {
        self.header.typ_is(expected)
    }
}

impl Header {
    fn read(members: &Map<String, Value>) -> Result<Self, JwsFault> {
        if members.contains_key("crit") {
            return Err(JwsFault::Critical);
        }
        let name = text(members, "alg")?.ok_or(JwsFault::HeaderMember("alg"))?;
        let algorithm = name.parse().map_err(|_| JwsFault::Algorithm(Excerpt::of(name)))?;
        let typ = text(members, "typ")?.map(Box::from);
        let kid = text(members, "kid")?.map(Box::from);
        Ok(Self { algorithm, typ, kid })
    }

    fn typ_is(&self, expected: &str) -> bool {
        self.typ.as_deref().is_some_and(|typ| short(typ).eq_ignore_ascii_case(short(expected)))
    }
}

/// A media type without its `application/`, unless a further `/` follows (RFC 7515 §4.1.9).
fn short(typ: &str) -> &str {
    match typ.split_once('/') {
        Some((top, rest)) if top.eq_ignore_ascii_case("application") && !rest.contains('/') => rest,
        Some(_) | None => typ,
    }
}

/// A string member; none when absent, a fault when of another kind.
fn text<'m>(members: &'m Map<String, Value>, name: &'static str) -> Result<Option<&'m str>, JwsFault> {
    match members.get(name) {
        None => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or(JwsFault::HeaderMember(name)),
    }
}

fn object(part: Part, encoded: &str) -> Result<Map<String, Value>, JwsFault> {
    json::object(&decode(part, encoded)?).map_err(|fault| JwsFault::Json(part, fault))
}

/// The engine refuses padding, whitespace and non-zero trailing bits: one byte string has one spelling [JW-06].
fn decode(part: Part, encoded: &str) -> Result<Vec<u8>, JwsFault> {
    URL_SAFE_NO_PAD.decode(encoded).map_err(|_| JwsFault::Base64(part))
}

#[cfg(test)]
#[path = "jws_tests.rs"]
mod tests;
