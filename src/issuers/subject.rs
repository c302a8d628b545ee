//! Subject identifiers of security events (RFC 9493; OpenID Shared Signals Framework 1.0 §3): whose sessions they name.

use super::claims::Claims;
use super::event::{Ended, told};
use super::event_fault::EventFault;
use crate::domain::objects::{CaepSpec, OpaqueSubject};
use crate::domain::snapshot::Issuer;

/// The sessions that `sub_id` names.
///
/// Of a complex subject `session` and `user` count: the session, and whose it is. Its other members narrow the sessions
/// down further than they can be told apart here, so they are passed over, and more may end than was told, never less.
/// A tenant, a device or the like alone names no session here.
pub(super) fn ended(sub_id: &Claims, issuer: &Issuer, spec: &CaepSpec) -> Result<Ended, EventFault> {
    let alone = |sub: String| Ended { sid: None, sub: Some(sub) };
    match format(sub_id)? {
        "complex" => complex(sub_id, issuer, spec),
        "iss_sub" => user(sub_id, issuer).map(alone),
        "opaque" => match spec.opaque {
            Some(OpaqueSubject::Session) => Ok(Ended { sid: Some(id(sub_id)?), sub: None }),
            Some(OpaqueSubject::Principal) => id(sub_id).map(alone),
            None => Err(EventFault::Subject("say in `logout.caep.opaque` what an opaque subject names")),
        },
        _ => Err(UNKNOWN),
    }
}

const UNKNOWN: EventFault = EventFault::Subject("of the formats `iss_sub`, `opaque` and `complex` alone");

/// Any session that matches all of its members. A member of a format that is not known leaves the other one to go by;
/// one that names another issuer's principal refuses the whole.
fn complex(sub_id: &Claims, issuer: &Issuer, spec: &CaepSpec) -> Result<Ended, EventFault> {
    let sid = match member(sub_id, "session")? {
        Some(session) if format(session)? == "opaque" => Some(id(session)?),
        Some(_) | None => None,
    };
    let sub = match member(sub_id, "user")? {
        Some(who) => match (format(who)?, spec.opaque) {
            ("iss_sub", _) => Some(user(who, issuer)?),
            ("opaque", Some(OpaqueSubject::Principal)) => Some(id(who)?),
            _ => None,
        },
        None => None,
    };
    if sid.is_none() && sub.is_none() {
        return Err(EventFault::Subject("no `session` of the format `opaque` and no `user` of `iss_sub`"));
    }
    Ok(Ended { sid, sub })
}

fn member<'c>(sub_id: &'c Claims, name: &str) -> Result<Option<&'c Claims>, EventFault> {
    let malformed = EventFault::Malformed { claim: "sub_id", wanted: "an object of subject identifiers" };
    sub_id.get(name).map(|member| member.as_object().ok_or(malformed)).transpose()
}

fn format(subject: &Claims) -> Result<&str, EventFault> {
    let malformed = EventFault::Malformed { claim: "sub_id", wanted: "an object with a text `format`" };
    told(subject, "format").map_err(|_| malformed.clone())?.ok_or(malformed)
}

/// The principal's upstream `sub`. An issuer tells of its own principals alone.
fn user(subject: &Claims, issuer: &Issuer) -> Result<String, EventFault> {
    if told(subject, "iss")? != Some(issuer.spec.issuer.as_str()) {
        return Err(EventFault::Subject("`iss` is not the issuer whose sessions these events are about"));
    }
    Ok(told(subject, "sub")?.ok_or(EventFault::Subject("`sub` is missing"))?.to_owned())
}

fn id(subject: &Claims) -> Result<String, EventFault> {
    Ok(told(subject, "id")?.ok_or(EventFault::Subject("`id` is missing"))?.to_owned())
}
