//! What an identity provider tells of sessions that have ended, once it is verified: the shape that logout tokens and
//! security event tokens share.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::claims::{Claims, text};
use super::event_fault::EventFault;
use super::session::LEEWAY;
use crate::domain::excerpt::Excerpt;
use crate::domain::snapshot::Issuer;
use crate::keys::jwks::JwkSet;
use crate::keys::jws::{Jws, VerifiedJws};

/// A verified event. It is not known yet whether it was heard before.
#[derive(Clone, Debug)]
pub struct Event {
    /// Whose sessions it may end.
    pub issuer: Arc<Issuer>,
    /// Who told it: its `iss`.
    pub sender: String,
    /// `jti`, unique for the sender.
    pub jti: String,
    /// What it tells of.
    pub about: About,
}

/// What an event tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// Sessions have ended.
    End {
        /// Which.
        sessions: Ended,
        /// When, by the sender's clock.
        at: DateTime<Utc>,
        /// Who or what ended them, where CAEP's `initiating_entity` tells.
        by: Option<&'static str>,
    },
    /// Something that nothing here hangs on: the types of its events, the first few.
    Other(Vec<Excerpt>),
}

/// Which sessions have ended: at least one of the two is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The one of this `sid`.
    pub sid: Option<String>,
    /// Without `sid` all of this principal; beside it, whose session it was.
    pub sub: Option<String>,
}

/// Most event types of one token that a record names.
pub(super) const MOST_TYPES: usize = 8;

/// The sender's word about itself, for messages.
pub(super) fn told_issuer(jws: &Jws<'_>) -> Excerpt {
    Excerpt::of(jws.unverified().issuer.unwrap_or_default())
}

/// Whether header `typ` is among `typs`; an empty text there stands for a token without one.
pub(super) fn is_typ(jws: &Jws<'_>, typs: &[String]) -> bool {
    let told = jws.unverified().typ.is_some();
    typs.iter().any(|typ| if typ.is_empty() { !told } else { jws.typ_is(typ) })
}

/// Refuses an algorithm that the issuer may not use [JW-01]: before any key is looked for.
pub(super) fn check_algorithm(issuer: &Issuer, jws: &Jws<'_>) -> Result<(), EventFault> {
    let told = jws.unverified().algorithm;
    let allowed = issuer.spec.algorithms.iter().any(|name| name == told.name());
    if allowed { Ok(()) } else { Err(EventFault::Algorithm(told)) }
}

pub(super) fn check_signature(jws: Jws<'_>, keys: &JwkSet) -> Result<VerifiedJws, EventFault> {
    let told = jws.unverified();
    let candidates = keys.find(told.kid, told.algorithm);
    Ok(jws.verify_any(&candidates)?)
}

/// A text claim; none when absent.
pub(super) fn told<'c>(claims: &'c Claims, claim: &'static str) -> Result<Option<&'c str>, EventFault> {
    let wanted = "a text of 1 to 255 printable ASCII characters";
    text(claims, claim).map_err(|_| EventFault::Malformed { claim, wanted })
}

/// A text claim that must be there.
pub(super) fn required(claims: &Claims, claim: &'static str) -> Result<String, EventFault> {
    Ok(told(claims, claim)?.ok_or(EventFault::Missing(claim))?.to_owned())
}

/// `events`: at least one, each with an object (RFC 8417 §2.2).
pub(super) fn events(claims: &Claims) -> Result<&Claims, EventFault> {
    let wanted = "an object of objects, at least one";
    let events = claims.get("events").ok_or(EventFault::Missing("events"))?.as_object();
    let whole = |events: &&Claims| !events.is_empty() && events.values().all(Value::is_object);
    events.filter(whole).ok_or(EventFault::Malformed { claim: "events", wanted })
}

/// Checks `iat` and `nbf` against `now`; the former is given back.
pub(super) fn issued_at(token: &VerifiedJws, now: DateTime<Utc>) -> Result<i64, EventFault> {
    let issued_at = token.issued_at()?.ok_or(EventFault::Missing("iat"))?;
    for (claim, at) in [("iat", Some(issued_at)), ("nbf", token.not_before()?)] {
        if at.is_some_and(|at| at > now.timestamp() + LEEWAY) {
            return Err(EventFault::NotYet(claim));
        }
    }
    Ok(issued_at)
}

/// The instant of a date that was read as one.
pub(super) fn instant(seconds: i64) -> Result<DateTime<Utc>, EventFault> {
    let wanted = "a date";
    DateTime::from_timestamp(seconds, 0).ok_or(EventFault::Malformed { claim: "iat", wanted })
}
