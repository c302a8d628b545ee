//! What a token is: a session token of the declared type, or something else that is signed alike [JW-04, T18].

use std::sync::Arc;

use super::claims::{self, Claims};
use super::fault::SessionFault;
use crate::domain::excerpt::Excerpt;
use crate::domain::objects::{AcceptSpec, SessionTokenKind};
use crate::domain::snapshot::Issuer;
use crate::keys::jws::{Jws, VerifiedJws};

/// JWTs that are never session tokens, whatever an issuer's `typ` list says [JW-04].
pub(super) const OTHER_TYPS: [&str; 8] = [
    "logout+jwt",
    "secevent+jwt",
    "dpop+jwt",
    "token-introspection+jwt",
    "client-authentication+jwt",
    "actor+jwt",
    "statuslist+jwt",
    "oauth-authz-req+jwt",
];

/// Claims that only such JWTs have: they may come without a `typ` of their own.
const OTHER_CLAIMS: [&str; 3] = ["events", "token_introspection", "status_list"];

/// A token whose signature has been verified.
pub(super) struct Token {
    pub(super) jws: Arc<VerifiedJws>,
    pub(super) hash: [u8; 32],
    /// Header `typ`, for a message, and to know that there is none.
    pub(super) typ: Option<Excerpt>,
}

/// Looked at before the signature: a token of another kind shall not even cause a fetch of keys.
pub(super) fn refuse_other_typ(jws: &Jws<'_>) -> Result<(), SessionFault> {
    if OTHER_TYPS.iter().any(|typ| jws.typ_is(typ)) {
        return Err(SessionFault::OtherTyp(Excerpt::of(jws.unverified().typ.unwrap_or_default())));
    }
    Ok(())
}

pub(super) fn refuse_other_claims(claims: &Claims) -> Result<(), SessionFault> {
    if let Some(claim) = OTHER_CLAIMS.into_iter().find(|c| claims.contains_key(*c)) {
        return Err(SessionFault::OtherKind(claim));
    }
    if claims.contains_key("cnf") {
        return Err(SessionFault::Bound);
    }
    Ok(())
}

/// Finds which accepted kinds the token matches by `typ` and `aud`, compared code point by code point [JW-05, T04];
/// the declared one must be among them (T18). Returns the token's audiences.
pub(super) fn accept<'t>(
    issuer: &Issuer,
    token: &'t Token,
    declared: SessionTokenKind,
) -> Result<Vec<&'t str>, SessionFault> {
    let claims = token.jws.claims();
    let audiences = claims::audiences(claims)
        .ok_or(SessionFault::Malformed { claim: "aud", wanted: "a text or an array of texts" })?;
    let has_typ = |a: &&AcceptSpec| a.typ.iter().any(|typ| is_typ(token, typ));
    let has_audience = |a: &AcceptSpec| audiences.contains(&a.audience.as_str());
    let by_typ: Vec<&AcceptSpec> = issuer.spec.accept.iter().filter(has_typ).collect();
    if by_typ.is_empty() {
        let typ = token.typ.clone().unwrap_or_else(|| Excerpt::of(""));
        return Err(SessionFault::Typ(typ));
    }
    let kinds: Vec<SessionTokenKind> =
        by_typ.into_iter().filter(|a| has_audience(a)).map(|a| a.kind).collect();
    if kinds.is_empty() {
        return Err(SessionFault::Audience);
    }
    check_kind(&kinds, claims, token.jws.typ_is("at+jwt"), declared)?;
    Ok(audiences)
}

/// What claims without a header are, at the best: the first accepted kind that has their audience and that they do
/// not contradict. Returns their audiences too.
pub(super) fn told_kind<'c>(
    issuer: &Issuer,
    claims: &'c Claims,
) -> Result<(SessionTokenKind, Vec<&'c str>), SessionFault> {
    let audiences = claims::audiences(claims)
        .ok_or(SessionFault::Malformed { claim: "aud", wanted: "a text or an array of texts" })?;
    let mut fault = SessionFault::Audience;
    for accept in issuer.spec.accept.iter().filter(|a| audiences.contains(&a.audience.as_str())) {
        match check_kind(&[accept.kind], claims, false, accept.kind) {
            Ok(()) => return Ok((accept.kind, audiences)),
            Err(other) => fault = other,
        }
    }
    Err(fault)
}

/// An empty `typ` in the settings stands for a token without one.
fn is_typ(token: &Token, typ: &str) -> bool {
    if typ.is_empty() { token.typ.is_none() } else { token.jws.typ_is(typ) }
}

/// Whether the token is what it was declared to be, by the settings and by its own marks (T18).
fn check_kind(
    kinds: &[SessionTokenKind],
    claims: &Claims,
    is_at_jwt: bool,
    declared: SessionTokenKind,
) -> Result<(), SessionFault> {
    use SessionTokenKind::{AccessToken, IdToken, Jwt};
    if kinds.contains(&AccessToken) && kinds.contains(&IdToken) {
        return Err(SessionFault::AmbiguousKind);
    }
    let marked_otherwise = match declared {
        AccessToken => marks_id_token(claims),
        IdToken => is_at_jwt || marks_access_token(claims),
        Jwt => false,
    };
    if !kinds.contains(&declared) || marked_otherwise || marks_refresh_token(claims) {
        return Err(SessionFault::Kind(declared));
    }
    Ok(())
}

/// Hashes of what an ID token came with (OpenID Connect Core §3.1.3.6), or the word that some products put in.
fn marks_id_token(claims: &Claims) -> bool {
    claims.contains_key("at_hash") || claims.contains_key("c_hash") || product_says(claims, &["id"])
}

fn marks_access_token(claims: &Claims) -> bool {
    claims.contains_key("scope") && claims.contains_key("client_id")
        || product_says(claims, &["bearer", "access"])
}

fn marks_refresh_token(claims: &Claims) -> bool {
    product_says(claims, &["refresh", "offline"])
}

/// Some products sign tokens of several kinds alike and tell them apart by a claim `typ` or `token_use`.
fn product_says(claims: &Claims, words: &[&str]) -> bool {
    let told = ["typ", "token_use"].into_iter().filter_map(|c| claims.get(c)?.as_str());
    told.into_iter().any(|told| words.iter().any(|word| told.eq_ignore_ascii_case(word)))
}
