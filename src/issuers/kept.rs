//! A verified session as it is kept while its exchange waits for a person: facts, never the token (STANDARDS §11).

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::claims::{Claims, MayAct};
use super::fault::SessionFault;
use super::session::Session;
use crate::domain::chain::Actor;
use crate::domain::excerpt::Excerpt;
use crate::domain::ids::Name;
use crate::domain::objects::SessionTokenKind;
use crate::domain::principal::Principal;
use crate::domain::record::SessionKey;
use crate::domain::snapshot::Snapshot;

/// The members of a [`Session`] but for its issuer, which is looked up again by the principal's `iss`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptSession {
    tenant: Name,
    principal: Principal,
    subject: String,
    kind: SessionTokenKind,
    key: SessionKey,
    expires_at: DateTime<Utc>,
    auth_time: Option<DateTime<Utc>>,
    acr: Option<String>,
    amr: Vec<String>,
    may_act: Option<MayAct>,
    client: Option<String>,
    foreign_actors: Vec<Actor>,
    facts: Claims,
}

impl From<Session> for KeptSession {
    fn from(session: Session) -> Self {
        let Session { tenant, principal, subject, kind, key, expires_at, auth_time, acr, amr, .. } = session;
        let Session { may_act, client, foreign_actors, facts, .. } = session;
        Self {
            tenant,
            principal,
            subject,
            kind,
            key,
            expires_at,
            auth_time,
            acr,
            amr,
            may_act,
            client,
            foreign_actors,
            facts,
        }
    }
}

impl KeptSession {
    /// The session again, if its issuer still serves its tenant with such tokens and it has not ended meanwhile (AP-02).
    /// Whether it was revoked, the commit decides. Its signature and the claims that were not kept are not looked at again.
    pub fn resume(self, snapshot: &Snapshot, now: DateTime<Utc>) -> Result<Session, SessionFault> {
        let unknown = || SessionFault::UnknownIssuer(Excerpt::of(&self.principal.iss));
        let issuer = snapshot.issuer(&self.principal.iss).ok_or_else(unknown)?.clone();
        let fixed = issuer.spec.fixed_tenant.as_ref().is_none_or(|fixed| *fixed == self.tenant);
        if snapshot.tenant(&self.tenant).is_none() || !issuer.reach.serves(&self.tenant) || !fixed {
            return Err(SessionFault::Tenant(self.tenant));
        }
        if !issuer.spec.accept.iter().any(|accept| accept.kind == self.kind) {
            return Err(SessionFault::Kind(self.kind));
        }
        if snapshot.is_client(&self.subject) {
            return Err(SessionFault::SubjectIsClient);
        }
        let oldest = issuer.spec.max_session_age;
        if (now - self.key.since).num_seconds() > i64::from(oldest) {
            return Err(SessionFault::TooOld(oldest));
        }
        if self.expires_at <= now {
            return Err(SessionFault::Ended);
        }
        Ok(Session {
            issuer,
            tenant: self.tenant,
            principal: self.principal,
            subject: self.subject,
            kind: self.kind,
            key: self.key,
            expires_at: self.expires_at,
            auth_time: self.auth_time,
            acr: self.acr,
            amr: self.amr,
            may_act: self.may_act,
            client: self.client,
            foreign_actors: self.foreign_actors,
            facts: self.facts,
        })
    }
}
