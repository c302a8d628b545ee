//! An `actor_token` proves an instance of the authenticated agent, and nothing else (DESIGN §4 step 5).

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::claims::{Claims, audiences};
use super::fault::ActorFault;
use super::session::LEEWAY;
use crate::domain::ids::ClientId;
use crate::keys::jwks::JwkSet;
use crate::keys::jws::{Jws, VerifiedJws};

/// Longest life that an actor token may have left, in seconds.
pub const MAX_AHEAD: i64 = 300;

/// Longest instance, in bytes.
const MAX_INSTANCE: usize = 128;

/// Claims that would be dropped in silence, though each says that the token is not plainly "I am this instance": a
/// key to prove, a chain, a limit [T12, TX-17].
const UNSUPPORTED: [&str; 4] = ["cnf", "act", "may_act", "events"];

/// Verifies `jws` as an actor token of the authenticated agent `agent`, whose registered `actor_jwks` are `keys`, and
/// returns the instance it proves.
///
/// It must name that agent, so a token of another delegation cannot be spliced in [TX-19, T12], and `own_issuer`, this
/// server, as its sole audience (T14). `iat`, `nbf` and `jti` are optional; there is no replay check, since the
/// token only adds to what the client's own authentication proves.
pub fn verify_actor(
    jws: Jws<'_>,
    keys: &JwkSet,
    agent: &ClientId,
    own_issuer: &str,
    now: DateTime<Utc>,
) -> Result<String, ActorFault> {
    if !jws.typ_is("actor+jwt") {
        return Err(ActorFault::Typ);
    }
    let told = jws.unverified();
    let candidates = keys.find(told.kid, told.algorithm);
    let verified = jws.verify_any(&candidates)?;
    let claims = verified.claims();
    if claims.get("iss").and_then(Value::as_str) != Some(agent.as_str()) {
        return Err(ActorFault::OtherAgent);
    }
    if audiences(claims).is_none_or(|all| all != [own_issuer]) {
        return Err(ActorFault::Audience);
    }
    if let Some(claim) = UNSUPPORTED.into_iter().find(|c| claims.contains_key(*c)) {
        return Err(ActorFault::Unsupported(claim));
    }
    check_dates(&verified, now.timestamp())?;
    if claims.get("jti").is_some_and(|jti| !jti.is_string()) {
        return Err(ActorFault::Malformed { claim: "jti", wanted: "a text" });
    }
    instance(claims)
}

fn check_dates(token: &VerifiedJws, now: i64) -> Result<(), ActorFault> {
    let expires_at = token.expires_at()?.ok_or(ActorFault::Missing("exp"))?;
    if expires_at <= now {
        return Err(ActorFault::Expired);
    }
    if expires_at > now + MAX_AHEAD {
        return Err(ActorFault::TooLong(MAX_AHEAD));
    }
    for (claim, at) in [("nbf", token.not_before()?), ("iat", token.issued_at()?)] {
        if at.is_some_and(|at| at > now + LEEWAY) {
            return Err(ActorFault::NotYet(claim));
        }
    }
    Ok(())
}

fn instance(claims: &Claims) -> Result<String, ActorFault> {
    let legal =
        |t: &&str| (1..=MAX_INSTANCE).contains(&t.len()) && t.bytes().all(|b| matches!(b, b'!'..=b'~'));
    let wanted = "a text of 1 to 128 printable ASCII characters without space";
    let sub = claims.get("sub").ok_or(ActorFault::Missing("sub"))?;
    let instance = sub.as_str().filter(legal).ok_or(ActorFault::Malformed { claim: "sub", wanted })?;
    Ok(instance.to_owned())
}

#[cfg(test)]
#[path = "actor_tests.rs"]
mod tests;
