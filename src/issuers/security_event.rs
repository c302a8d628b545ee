//! A security event token (RFC 8417) as the Shared Signals Framework has it, and the one CAEP event that ends sessions
//! [SE-01].

use chrono::{DateTime, Utc};
use serde_json::Value;
use subtle::ConstantTimeEq as _;

use super::claims::{Claims, audiences};
use super::event::{
    About, Event, MOST_TYPES, check_algorithm, check_signature, events, instant, issued_at, required,
    told_issuer,
};
use super::event_fault::EventFault;
use super::keysets::KeySets;
use super::session::LEEWAY;
use super::subject::ended;
use crate::domain::excerpt::Excerpt;
use crate::domain::objects::{CaepSpec, SecretHash};
use crate::domain::snapshot::{Issuer, Snapshot};
use crate::hash::sha256;
use crate::keys::dates::{Rounding, seconds};
use crate::keys::jws::{Jws, VerifiedJws};

/// CAEP 1.0 §3.1.
const SESSION_REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";

/// How far before `iat` an `event_timestamp` may lie and be believed, in seconds.
const LONGEST_DELAY: i64 = 24 * 3600;

/// What CAEP's `initiating_entity` may say (CAEP 1.0 §2).
const INITIATORS: [&str; 4] = ["admin", "user", "policy", "system"];

/// Verifies `jws` as an event of a transmitter that a trusted issuer declares in `logout.caep`. `bearer` is the credential
/// that came with it. May fetch the transmitter's keys, once who has to show a secret has shown it.
pub async fn verify_security_event(
    key_sets: &KeySets,
    snapshot: &Snapshot,
    (jws, bearer): (Jws<'_>, Option<&str>),
    now: DateTime<Utc>,
) -> Result<Event, EventFault> {
    let sender = jws.unverified().issuer.unwrap_or_default().to_owned();
    let unknown = || EventFault::UnknownIssuer(told_issuer(&jws));
    let issuer = snapshot.transmitter(&sender).ok_or_else(unknown)?.clone();
    let spec = caep(&issuer).ok_or_else(unknown)?;
    if !may_send(&spec.bearer_sha256, bearer) {
        return Err(EventFault::Unauthorized);
    }
    if !jws.typ_is("secevent+jwt") {
        return Err(EventFault::Typ);
    }
    check_algorithm(&issuer, &jws)?;
    let told = jws.unverified();
    let keys = key_sets.event_keys(&issuer, told.kid, told.algorithm).await?;
    let token = check_signature(jws, &keys)?;
    let claims = token.claims();
    if !audiences(claims).unwrap_or_default().contains(&spec.audience.as_str()) {
        return Err(EventFault::Audience);
    }
    // An access or ID token has these, an event never (SSF 1.0 §4.1).
    if let Some(claim) = ["sub", "exp", "nonce"].into_iter().find(|claim| claims.contains_key(*claim)) {
        return Err(EventFault::Forbidden(claim));
    }
    let jti = required(claims, "jti")?;
    let about = about(&token, &issuer, spec, now)?;
    Ok(Event { issuer, sender, jti, about })
}

fn caep(issuer: &Issuer) -> Option<&CaepSpec> {
    issuer.spec.logout.as_ref()?.caep.as_ref()
}

/// Whether `bearer` is one of the `secrets`, where there are any. All are looked at.
fn may_send(secrets: &[SecretHash], bearer: Option<&str>) -> bool {
    let shown = sha256(&[bearer.unwrap_or_default().as_bytes()]);
    let mut matches = secrets.is_empty();
    for secret in secrets {
        matches |= bool::from(shown.ct_eq(secret.bytes()));
    }
    matches
}

/// Events of other types are none of ours: their subjects are not even read.
fn about(
    token: &VerifiedJws,
    issuer: &Issuer,
    spec: &CaepSpec,
    now: DateTime<Utc>,
) -> Result<About, EventFault> {
    let claims = token.claims();
    let issued_at = issued_at(token, now)?;
    let events = events(claims)?;
    let Some(revoked) = events.get(SESSION_REVOKED).and_then(Value::as_object) else {
        return Ok(About::Other(events.keys().take(MOST_TYPES).map(|name| Excerpt::of(name)).collect()));
    };
    let malformed = EventFault::Malformed { claim: "sub_id", wanted: "a subject identifier (RFC 9493)" };
    let sub_id = claims.get("sub_id").ok_or(EventFault::Missing("sub_id"))?;
    let sessions = ended(sub_id.as_object().ok_or(malformed)?, issuer, spec)?;
    let at = instant(happened_at(revoked, issued_at))?;
    let told = revoked.get("initiating_entity").and_then(Value::as_str);
    let by = INITIATORS.into_iter().find(|by| Some(*by) == told);
    Ok(About::End { sessions, at, by })
}

/// When it happened, by the sender's clock: `event_timestamp`, if that is a date not long before `iat` and not after it,
/// else `iat`. The later of two instants ends more, so that is what holds in doubt.
fn happened_at(event: &Claims, issued_at: i64) -> i64 {
    let told = event.get("event_timestamp").and_then(|at| seconds(at, Rounding::Earlier));
    told.filter(|at| (issued_at - LONGEST_DELAY..=issued_at + LEEWAY).contains(at)).unwrap_or(issued_at)
}
