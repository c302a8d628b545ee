//! From a presented session token to a [`Session`]: who the principal is, in which tenant, for how long (DESIGN §4
//! step 4). Who may spend it is decided later, from `may_act` and `client`.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::cache::{Remembered, SignatureCache};
use super::claims::{self, Claims, MayAct};
use super::fault::{ActorFault, SessionFault};
use super::keysets::KeySets;
use super::kind::{Token, accept, refuse_other_claims, refuse_other_typ, told_kind};
use super::workload::{Workload, verify_workload};
use crate::domain::chain::Actor;
use crate::domain::excerpt::Excerpt;
use crate::domain::ids::Name;
use crate::domain::objects::{self, SessionEnd, SessionTokenKind};
use crate::domain::principal::Principal;
use crate::domain::record::SessionKey;
use crate::domain::snapshot::{Issuer, Snapshot, WorkloadIssuer};
use crate::keys::dates::{BadDate, Rounding, numeric_date, seconds};
use crate::keys::jws::{Jws, VerifiedJws};

/// How far an upstream issuer's clock may be ahead of ours, in seconds. `exp` has no leeway.
pub const LEEWAY: i64 = 30;

/// What a verified session token says. Immutable facts; nothing in it has been authorised yet.
#[derive(Clone, Debug)]
pub struct Session {
    /// Who vouches for it.
    pub issuer: Arc<Issuer>,
    /// Whose principal it is.
    pub tenant: Name,
    /// On whose behalf.
    pub principal: Principal,
    /// The principal's `sub` in our tokens: the issuer's prefix and the upstream `sub`.
    pub subject: String,
    /// What the token is.
    pub kind: SessionTokenKind,
    /// What revocation calls the session.
    pub key: SessionKey,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// When the person logged in, where the token tells.
    pub auth_time: Option<DateTime<Utc>>,
    /// How strongly (RFC 9470), where the token tells.
    pub acr: Option<String>,
    /// By which methods (RFC 8176).
    pub amr: Vec<String>,
    /// The one agent that may spend it, where the token tells.
    pub may_act: Option<MayAct>,
    /// The upstream client that the token was issued to, where the token tells.
    pub client: Option<String>,
    /// Actors that the issuer tells of, the current one first.
    pub foreign_actors: Vec<Actor>,
    /// The claims that the issuer's rules name: what entitlements and policy may read, now and later.
    pub facts: Claims,
}

/// Verifies session tokens.
pub struct Issuers {
    key_sets: Arc<KeySets>,
    cache: SignatureCache,
}

impl Issuers {
    /// With the keys to verify with. `cached_tokens` verified signatures are remembered, none if 0.
    pub fn new(key_sets: Arc<KeySets>, cached_tokens: usize) -> Self {
        Self { key_sets, cache: SignatureCache::new(cached_tokens) }
    }

    /// Verifies `jws` as a session token that the client declared to be `declared`, at `now`.
    ///
    /// May fetch the issuer's keys, if the token is signed with one not seen before.
    pub async fn verify_session(
        &self,
        snapshot: &Snapshot,
        jws: Jws<'_>,
        declared: SessionTokenKind,
        now: DateTime<Utc>,
    ) -> Result<Session, SessionFault> {
        let issuer = trusted_issuer(snapshot, &jws)?;
        refuse_other_typ(&jws)?;
        let name = jws.sha256();
        let (token, verified) = self.verify_signature(&issuer, jws, &name).await?;
        let claims = token.jws.claims();
        refuse_other_claims(claims)?;
        let audiences = accept(&issuer, &token, declared)?;
        let dates = Dates::read(&token.jws)?;
        let since = dates.check(&issuer, now)?;
        let seen = Seen { claims, declared, audiences, dates, since, token_sha256: hex::encode(token.hash) };
        let session = read(snapshot, issuer, &seen)?;
        if session.expires_at <= now {
            return Err(SessionFault::Ended);
        }
        if let Some(verified) = verified {
            self.cache.put(name, verified);
        }
        Ok(session)
    }

    /// Verifies `jws` as the token of a workload that `issuer` vouches for.
    pub async fn verify_workload(
        &self,
        issuer: &WorkloadIssuer,
        jws: Jws<'_>,
        own_issuer: &str,
        now: DateTime<Utc>,
    ) -> Result<Workload, ActorFault> {
        verify_workload(&self.key_sets, issuer, jws, own_issuer, now).await
    }

    /// Checks the signature with the issuer's keys, or remembers that it was checked with these keys before. What is
    /// checked anew is given back too, to be remembered once it has become a session.
    async fn verify_signature(
        &self,
        issuer: &Issuer,
        jws: Jws<'_>,
        name: &[u8; 32],
    ) -> Result<(Token, Option<Remembered>), SessionFault> {
        let told = jws.unverified();
        let (typ, hash) = (told.typ.map(Excerpt::of), jws.signed_sha256());
        let keys = self.key_sets.keys_for(issuer, told.kid, told.algorithm).await?;
        if let Some(jws) = self.cache.get(name, issuer, &keys) {
            return Ok((Token { jws, hash, typ }, None));
        }
        let verified = {
            let candidates = keys.find(told.kid, told.algorithm);
            Arc::new(jws.verify_any(&candidates)?)
        };
        let remembered = Remembered::new(verified.clone(), issuer, keys);
        Ok((Token { jws: verified, hash, typ }, Some(remembered)))
    }
}

/// What is known of a token before its claims are mapped.
struct Seen<'c> {
    claims: &'c Claims,
    declared: SessionTokenKind,
    audiences: Vec<&'c str>,
    dates: Dates,
    since: DateTime<Utc>,
    token_sha256: String,
}

/// Maps the claims of a session token.
fn read(snapshot: &Snapshot, issuer: Arc<Issuer>, seen: &Seen<'_>) -> Result<Session, SessionFault> {
    let Seen { claims, declared, audiences, dates, since, token_sha256 } = seen;
    let principal = principal(&issuer, claims)?;
    let tenant = tenant(snapshot, &issuer, claims)?;
    let subject = subject(snapshot, &issuer, &tenant, &principal.sub)?;
    Ok(Session {
        tenant,
        subject,
        kind: *declared,
        key: SessionKey {
            iss: principal.iss.clone(),
            sid: claims::text(claims, "sid")?.map(str::to_owned),
            token_sha256: token_sha256.clone(),
            since: *since,
        },
        expires_at: end(&issuer, claims, dates)?,
        auth_time: dates.auth_time.map(|at| instant(at, "auth_time")).transpose()?,
        acr: claims::text(claims, "acr")?.map(str::to_owned),
        amr: claims::methods(claims)?,
        may_act: claims::may_act(claims)?,
        client: claims::client(claims, *declared, audiences)?,
        foreign_actors: claims::actors(claims, &principal.iss)?,
        facts: claims::facts(&issuer, claims)?,
        principal,
        issuer,
    })
}

/// Claims mapped as those of a session token would be. Nobody has signed them: fit to explain a configuration, and
/// for nothing else.
pub struct UnverifiedSession(Session);

impl UnverifiedSession {
    /// The session that a token with these claims would make, if it were signed and in time.
    pub fn as_if_verified(&self) -> &Session {
        &self.0
    }
}

/// Maps `claims` as [`Issuers::verify_session`] does, without signature, header and dates.
pub fn unverified(snapshot: &Snapshot, claims: &Claims) -> Result<UnverifiedSession, SessionFault> {
    let iss = claims::text(claims, "iss")?.unwrap_or_default();
    let issuer = snapshot.issuer(iss).ok_or_else(|| SessionFault::UnknownIssuer(Excerpt::of(iss)))?;
    refuse_other_claims(claims)?;
    let (declared, audiences) = told_kind(issuer, claims)?;
    let date = |claim| numeric_date(claims, claim, Rounding::Earlier);
    let (issued_at, auth_time) = (date("iat")?, date("auth_time")?);
    let expires_at = date("exp")?.ok_or(SessionFault::Missing("exp"))?;
    let since = auth_time.or(issued_at).ok_or(SessionFault::Missing("iat"))?;
    let dates = Dates { expires_at, not_before: None, issued_at, auth_time };
    let since = instant(since, "iat")?;
    let seen = Seen { claims, declared, audiences, dates, since, token_sha256: String::new() };
    read(snapshot, issuer.clone(), &seen).map(UnverifiedSession)
}

/// The issuer that the token names, if it is trusted and may use the token's algorithm [JW-01].
fn trusted_issuer(snapshot: &Snapshot, jws: &Jws<'_>) -> Result<Arc<Issuer>, SessionFault> {
    let told = jws.unverified();
    let iss = told.issuer.unwrap_or_default();
    let unknown = || SessionFault::UnknownIssuer(Excerpt::of(iss));
    let issuer = snapshot.issuer(iss).ok_or_else(unknown)?;
    if issuer.spec.algorithms.iter().any(|a| a == told.algorithm.name()) {
        return Ok(issuer.clone());
    }
    Err(SessionFault::Algorithm(told.algorithm))
}

/// The token's dates, in seconds since 1970.
struct Dates {
    expires_at: i64,
    not_before: Option<i64>,
    issued_at: Option<i64>,
    auth_time: Option<i64>,
}

impl Dates {
    fn read(jws: &VerifiedJws) -> Result<Self, SessionFault> {
        Ok(Self {
            expires_at: jws.expires_at()?.ok_or(SessionFault::Missing("exp"))?,
            not_before: jws.not_before()?,
            issued_at: jws.issued_at()?,
            auth_time: jws.authenticated_at()?,
        })
    }

    /// Checks them against `now` and returns when the person logged in: `auth_time`, else `iat`, at most `now`, so
    /// that a revocation made now always bears on it.
    fn check(&self, issuer: &Issuer, now: DateTime<Utc>) -> Result<DateTime<Utc>, SessionFault> {
        let present = now.timestamp();
        if self.expires_at <= present {
            return Err(SessionFault::Expired);
        }
        let dates = [("nbf", self.not_before), ("iat", self.issued_at), ("auth_time", self.auth_time)];
        if let Some((claim, _)) = dates.into_iter().find(|(_, at)| at.is_some_and(|at| at > present + LEEWAY))
        {
            return Err(SessionFault::NotYet(claim));
        }
        let since = self.auth_time.or(self.issued_at).ok_or(SessionFault::Missing("iat"))?;
        if present - since > i64::from(issuer.spec.max_session_age) {
            return Err(SessionFault::TooOld(issuer.spec.max_session_age));
        }
        Ok(instant(since, "iat")?.min(now))
    }
}

/// When the session ends: with its token, unless the issuer's `session_end` says otherwise (DESIGN §5).
fn end(issuer: &Issuer, claims: &Claims, dates: &Dates) -> Result<DateTime<Utc>, SessionFault> {
    match &issuer.spec.session_end {
        SessionEnd::Token => Ok(instant(dates.expires_at, "exp")?),
        SessionEnd::Claim(name) => {
            let told = objects::claim(claims, name).and_then(|value| seconds(value, Rounding::Earlier));
            Ok(instant(told.ok_or(SessionFault::NoEnd)?, "exp")?)
        }
        SessionEnd::AfterAuthTime(after) => {
            let since = dates.auth_time.ok_or(SessionFault::Missing("auth_time"))?;
            Ok(instant(since + i64::from(*after), "auth_time")?)
        }
    }
}

fn instant(seconds: i64, claim: &'static str) -> Result<DateTime<Utc>, BadDate> {
    DateTime::from_timestamp(seconds, 0).ok_or(BadDate(claim))
}

/// The principal: issuer and subject together, since one subject may exist at two issuers (T34).
fn principal(issuer: &Issuer, claims: &Claims) -> Result<Principal, SessionFault> {
    let sub = claims::text(claims, "sub")?.ok_or(SessionFault::Missing("sub"))?.to_owned();
    Ok(Principal { iss: issuer.spec.issuer.clone(), sub })
}

/// The tenant, never from the request: an issuer of a tenant yields that tenant only, a platform issuer the one that
/// it is fixed to or that its claim names, among those it serves (L10) (T42).
fn tenant(snapshot: &Snapshot, issuer: &Issuer, claims: &Claims) -> Result<Name, SessionFault> {
    let named = |claim: &String| objects::claim(claims, claim).and_then(Value::as_str)?.parse().ok();
    let spec = &issuer.spec;
    let tenant = match (&spec.fixed_tenant, &spec.tenant_claim) {
        _ if !issuer.reach.tenant.is_system() => issuer.reach.tenant.clone(),
        (Some(fixed), _) => fixed.clone(),
        (None, claim) => claim.as_ref().and_then(named).ok_or(SessionFault::NoTenant)?,
    };
    if tenant.is_system() || snapshot.tenant(&tenant).is_none() || !issuer.reach.serves(&tenant) {
        return Err(SessionFault::Tenant(tenant));
    }
    Ok(tenant)
}

/// The `sub` of our tokens: prefix and upstream `sub`. It may be neither another issuer's to give nor a client's id
/// [T34, AT-05]. Prefixes never begin one another, so only an issuer with an empty one can meet another's.
fn subject(
    snapshot: &Snapshot,
    issuer: &Issuer,
    tenant: &Name,
    upstream: &str,
) -> Result<String, SessionFault> {
    let prefix = issuer.spec.subject_prefix.as_str();
    if prefix.is_empty() && snapshot.subject_prefixes(tenant).any(|other| upstream.starts_with(other)) {
        return Err(SessionFault::ForeignPrefix);
    }
    let subject = format!("{prefix}{upstream}");
    if snapshot.is_client(&subject) {
        return Err(SessionFault::SubjectIsClient);
    }
    Ok(subject)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "kind_tests.rs"]
mod kind_tests;
