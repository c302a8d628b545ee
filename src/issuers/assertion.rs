//! A client assertion: a JWT by which a client authenticates with a key of its own (`private_key_jwt`, RFC 7523 §3,
//! rfc7523bis) [CA-03, CA-04].

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::claims::{Claims, audiences, text};
use super::fault::AssertionFault;
use super::kind::refuse_other_claims;
use super::session::LEEWAY;
use crate::domain::ids::ClientId;
use crate::keys::jwks::JwkSet;
use crate::keys::jws::{Jws, VerifiedJws};

/// Longest life that an assertion may have left, and greatest age, in seconds.
pub const MAX_AHEAD: i64 = 300;

/// The explicit type of assertions (rfc7523bis); one that says only `JWT`, or nothing, is accepted too [CA-04].
const TYPS: [&str; 2] = ["client-authentication+jwt", "JWT"];

/// What a good assertion says. It authenticates only who spends its id (T31).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// `jti`, unique for the client.
    pub jti: String,
    /// `exp`.
    pub expires_at: DateTime<Utc>,
}

/// Verifies `jws` as an assertion of `client`, by one of its `keys` and under one of its `algorithms` [JW-01].
///
/// The signature is checked before anything else is told: only who has the key learns what is wrong with the rest.
/// `aud` must be `own_issuer` alone, compared code point by code point: not the token endpoint, which a hostile server
/// could name as its own audience (T30).
pub fn verify_assertion(
    jws: Jws<'_>,
    (client, keys, algorithms): (&ClientId, &JwkSet, &[String]),
    own_issuer: &str,
    now: DateTime<Utc>,
) -> Result<Assertion, AssertionFault> {
    let told = jws.unverified();
    if !algorithms.iter().any(|name| name == told.algorithm.name()) {
        return Err(AssertionFault::Algorithm(told.algorithm));
    }
    let untyped = told.typ.is_none();
    let candidates = keys.find(told.kid, told.algorithm);
    let verified = jws.verify_any(&candidates)?;
    if !untyped && !TYPS.iter().any(|typ| verified.typ_is(typ)) {
        return Err(AssertionFault::Typ);
    }
    let claims = verified.claims();
    refuse_other_claims(claims).map_err(|_| AssertionFault::OtherKind)?;
    for claim in ["iss", "sub"] {
        if claims.get(claim).and_then(Value::as_str) != Some(client.as_str()) {
            return Err(AssertionFault::OtherClient(claim));
        }
    }
    if audiences(claims).is_none_or(|all| all != [own_issuer]) {
        return Err(AssertionFault::Audience);
    }
    let expires_at = check_dates(&verified, now.timestamp())?;
    Ok(Assertion { jti: jti(claims)?, expires_at })
}

fn check_dates(token: &VerifiedJws, now: i64) -> Result<DateTime<Utc>, AssertionFault> {
    let expires_at = token.expires_at()?.ok_or(AssertionFault::Missing("exp"))?;
    if expires_at <= now {
        return Err(AssertionFault::Expired);
    }
    let issued_at = token.issued_at()?;
    if expires_at > now + MAX_AHEAD || issued_at.is_some_and(|at| at < now - MAX_AHEAD - LEEWAY) {
        return Err(AssertionFault::TooLong(MAX_AHEAD));
    }
    for (claim, at) in [("nbf", token.not_before()?), ("iat", issued_at)] {
        if at.is_some_and(|at| at > now + LEEWAY) {
            return Err(AssertionFault::NotYet(claim));
        }
    }
    DateTime::from_timestamp(expires_at, 0).ok_or(AssertionFault::Missing("exp"))
}

fn jti(claims: &Claims) -> Result<String, AssertionFault> {
    let jti = text(claims, "jti").map_err(|_| AssertionFault::Jti)?;
    Ok(jti.ok_or(AssertionFault::Missing("jti"))?.to_owned())
}

#[cfg(test)]
#[path = "assertion_tests.rs"]
mod tests;
