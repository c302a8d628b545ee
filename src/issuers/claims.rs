//! Readers of single claims: one short function each, strict about kind and size.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fault::SessionFault;
use crate::domain::chain::{Actor, foreign_actors};
use crate::domain::objects::SessionTokenKind;
use crate::domain::snapshot::Issuer;

/// Longest subject, client id, session id and the like, in bytes (OpenID Connect Core §2).
const MAX_TEXT: usize = 255;

/// Most authentication methods, and the longest of them.
const MAX_METHODS: usize = 16;

/// Most bytes of kept claims, as JSON: they lie in the task's row.
pub(super) const MAX_FACTS: usize = 8 * 1024;

/// Claims of a session token.
pub(super) type Claims = Map<String, Value>;

/// Who may spend the session token, by its `may_act` (RFC 8693 §4.4): the agent must match all of it [TX-15].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MayAct {
    /// The agent's client id.
    pub sub: String,
    /// Who knows `sub`; when present it must be this server's issuer.
    pub iss: Option<String>,
}

/// A text of 1 to 255 printable ASCII characters; none when absent.
pub(super) fn text<'c>(claims: &'c Claims, claim: &'static str) -> Result<Option<&'c str>, SessionFault> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    let legal =
        |t: &&str| !t.is_empty() && t.len() <= MAX_TEXT && t.bytes().all(|b| matches!(b, b' '..=b'~'));
    let wanted = "a text of 1 to 255 printable ASCII characters";
    value.as_str().filter(legal).map(Some).ok_or(SessionFault::Malformed { claim, wanted })
}

/// `aud`: one text or an array of texts, at least one (RFC 7519 §4.1.3).
pub(super) fn audiences(claims: &Claims) -> Option<Vec<&str>> {
    match claims.get("aud")? {
        Value::String(one) => Some(vec![one]),
        Value::Array(several) if !several.is_empty() => several.iter().map(Value::as_str).collect(),
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

/// The client that the token was issued to: `azp`, else `client_id`; where both are told they must agree.
///
/// An ID token that names neither was issued to its audience (OpenID Connect Core §2); one with several audiences
/// must name it by `azp` (T04).
pub(super) fn client(
    claims: &Claims,
    kind: SessionTokenKind,
    audiences: &[&str],
) -> Result<Option<String>, SessionFault> {
    let (azp, client_id) = (text(claims, "azp")?, text(claims, "client_id")?);
    if kind == SessionTokenKind::IdToken && azp.is_none() && audiences.len() > 1 {
        return Err(SessionFault::NoAuthorizedParty);
    }
    if azp.is_some() && client_id.is_some() && azp != client_id {
        return Err(SessionFault::TwoClients);
    }
    let audience = || audiences.first().copied().filter(|_| kind == SessionTokenKind::IdToken);
    Ok(azp.or(client_id).or_else(audience).map(str::to_owned))
}

/// `amr` (RFC 8176 §1); empty when absent.
pub(super) fn methods(claims: &Claims) -> Result<Vec<String>, SessionFault> {
    let malformed =
        SessionFault::Malformed { claim: "amr", wanted: "an array of at most 16 texts of at most 255 bytes" };
    let Some(value) = claims.get("amr") else { return Ok(Vec::new()) };
    let method = |v: &Value| v.as_str().filter(|m| m.len() <= MAX_TEXT).map(str::to_owned);
    value
        .as_array()
        .filter(|all| all.len() <= MAX_METHODS)
        .and_then(|all| all.iter().map(method).collect())
        .ok_or(malformed)
}

/// Actors that the issuer tells of, the current one first [T16, TX-17]; none when there is no `act`.
pub(super) fn actors(claims: &Claims, issuer: &str) -> Result<Vec<Actor>, SessionFault> {
    Ok(claims.get("act").map(|act| foreign_actors(act, issuer)).transpose()?.unwrap_or_default())
}

/// `may_act`. `exp`, `nbf` and `aud` have no meaning in it (RFC 8693 §4.4); any other member is an identity claim
/// that nobody here could match, so it refuses the token [TX-15].
pub(super) fn may_act(claims: &Claims) -> Result<Option<MayAct>, SessionFault> {
    let Some(value) = claims.get("may_act") else { return Ok(None) };
    let malformed = SessionFault::Malformed { claim: "may_act", wanted: "an object with a text `sub`" };
    let object = value.as_object().ok_or(malformed.clone())?;
    if object.keys().any(|k| !matches!(k.as_str(), "sub" | "iss" | "exp" | "nbf" | "aud")) {
        return Err(SessionFault::MayActMembers);
    }
    let member = |name| text(object, name).map_err(|_| malformed.clone());
    let sub = member("sub")?.ok_or(malformed.clone())?.to_owned();
    Ok(Some(MayAct { sub, iss: member("iss")?.map(str::to_owned) }))
}

/// The claims that the issuer's rules name, as in the token, so that each is found under the same name again.
pub(super) fn facts(issuer: &Issuer, claims: &Claims) -> Result<Claims, SessionFault> {
    let mut facts = Claims::new();
    for name in issuer.kept_claims() {
        keep(&mut facts, claims, name);
    }
    let length = serde_json::to_vec(&facts).map_or(usize::MAX, |json| json.len());
    if length > MAX_FACTS { Err(SessionFault::FactsTooLarge(MAX_FACTS)) } else { Ok(facts) }
}

/// Copies the claim called `name`, or the one that its dots lead to, looked up as `objects::claim` does.
fn keep(facts: &mut Claims, claims: &Claims, name: &str) {
    if let Some(value) = claims.get(name) {
        facts.insert(name.to_owned(), value.clone());
        return;
    }
    let Some((first, rest)) = name.split_once('.') else { return };
    let Some(inner) = claims.get(first).and_then(Value::as_object) else { return };
    let kept = facts.entry(first).or_insert_with(|| Value::Object(Claims::new()));
    if let Some(kept) = kept.as_object_mut() {
        keep(kept, inner, rest);
    }
}

#[cfg(test)]
#[path = "claims_tests.rs"]
mod tests;
