//! A logout token: an OpenID provider tells one of its clients that a session has ended (OpenID Connect Back-Channel
//! Logout 1.0 §2.4, §2.6).

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::claims::{Claims, audiences};
use super::event::{
    About, Ended, Event, check_algorithm, check_signature, instant, is_typ, issued_at, required, told,
    told_issuer,
};
use super::event_fault::EventFault;
use super::keysets::KeySets;
use crate::domain::objects::BackchannelSpec;
use crate::domain::snapshot::{Issuer, Snapshot};
use crate::keys::jws::{Jws, VerifiedJws};

/// The member of `events` that makes it a logout token.
const LOGOUT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Verifies `jws` as a logout token of a trusted issuer whose `logout.backchannel` is declared. May fetch its keys.
///
/// `sid` alone or beside `sub` ends that session; `sub` alone ends all of the principal (§2.7).
pub async fn verify_logout_token(
    key_sets: &KeySets,
    snapshot: &Snapshot,
    jws: Jws<'_>,
    now: DateTime<Utc>,
) -> Result<Event, EventFault> {
    let iss = jws.unverified().issuer.unwrap_or_default();
    let issuer = snapshot.issuer(iss).filter(|issuer| backchannel(issuer).is_some());
    let unknown = || EventFault::UnknownIssuer(told_issuer(&jws));
    let issuer = issuer.ok_or_else(unknown)?.clone();
    let spec = backchannel(&issuer).ok_or_else(unknown)?;
    if !is_typ(&jws, &spec.typ) {
        return Err(EventFault::Typ);
    }
    check_algorithm(&issuer, &jws)?;
    let told = jws.unverified();
    let keys = key_sets.keys_for(&issuer, told.kid, told.algorithm).await?;
    let token = check_signature(jws, &keys)?;
    let claims = token.claims();
    check_audience(claims, spec)?;
    check_kind(claims)?;
    let at = instant(check_dates(&token, now)?)?;
    let (jti, sessions) = (required(claims, "jti")?, ended(claims)?);
    let sender = issuer.spec.issuer.clone();
    Ok(Event { sender, issuer, jti, about: About::End { sessions, at, by: None } })
}

fn backchannel(issuer: &Issuer) -> Option<&BackchannelSpec> {
    issuer.spec.logout.as_ref()?.backchannel.as_ref()
}

/// As for an ID token: it names a client that is ours, and nobody else (OpenID Connect Core §3.1.3.7).
fn check_audience(claims: &Claims, spec: &BackchannelSpec) -> Result<(), EventFault> {
    let ours = |aud: &&str| spec.clients.iter().any(|client| client == aud);
    let all = audiences(claims).unwrap_or_default();
    if !all.is_empty() && all.iter().all(ours) { Ok(()) } else { Err(EventFault::Audience) }
}

/// `nonce` would make it an ID token, and only `events` makes it a logout token (§2.4).
fn check_kind(claims: &Claims) -> Result<(), EventFault> {
    if claims.contains_key("nonce") {
        return Err(EventFault::Forbidden("nonce"));
    }
    let logout = claims.get("events").and_then(|events| events.get(LOGOUT));
    if logout.is_some_and(Value::is_object) { Ok(()) } else { Err(EventFault::NoLogout) }
}

/// `iat`, once all dates are checked as those of an ID token are.
fn check_dates(token: &VerifiedJws, now: DateTime<Utc>) -> Result<i64, EventFault> {
    let expires_at = token.expires_at()?.ok_or(EventFault::Missing("exp"))?;
    if expires_at <= now.timestamp() {
        return Err(EventFault::Expired);
    }
    issued_at(token, now)
}

fn ended(claims: &Claims) -> Result<Ended, EventFault> {
    let (sid, sub) = (told(claims, "sid")?, told(claims, "sub")?);
    if sid.is_none() && sub.is_none() {
        return Err(EventFault::Nobody);
    }
    Ok(Ended { sid: sid.map(str::to_owned), sub: sub.map(str::to_owned) })
}
