//! The use case: an agent revokes a token of its own and with it everything below (RFC 7009, RV-02).

use std::sync::Arc;

use chrono::{DateTime, TimeDelta};
use serde_json::json;

use crate::clock::{Clock, Random};
use crate::domain::claims::TokenClaims;
use crate::domain::decision::{Decision, Kind, Outcome, Reason, Record};
use crate::domain::record::RevocationKey;
use crate::domain::snapshot::Agent;
use crate::keys::live::LiveKeys;
use crate::store::change::{Change, Revoke};
use crate::store::writer::Writer;

/// Why a token was not revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRevoked {
    /// It was issued to another client (RFC 7009 §2.1).
    NotYours,
    /// The revocation could not be recorded.
    Unavailable,
}

/// The use case with what it needs. Cheap to clone.
#[derive(Clone)]
pub struct Revocation {
    keys: LiveKeys,
    writer: Writer,
    clock: Arc<dyn Clock>,
    random: Random,
}

impl Revocation {
    /// Wires the use case.
    pub fn new(keys: LiveKeys, writer: Writer, clock: Arc<dyn Clock>, random: Random) -> Self {
        Self { keys, writer, clock, random }
    }

    /// Revokes `token` if it was issued to `agent`. A text that is no token of ours, or one that has expired,
    /// counts as revoked already (RFC 7009 §2.2). Repeating it changes nothing.
    pub async fn revoke_own(&self, agent: &Agent, token: &str) -> Result<(), NotRevoked> {
        let Some(claims) = self.keys.own_claims(token) else { return Ok(()) };
        if claims.client_id != agent.spec.client_id {
            let refused = Reason {
                code: "not_the_holder".to_owned(),
                message: "the token was issued to another client".to_owned(),
                public: true,
            };
            let decision = self.decision(agent, &claims, Outcome::Deny, vec![refused]);
            self.submit(Change::from(decision)).await?;
            return Err(NotRevoked::NotYours);
        }
        let decision = self.decision(agent, &claims, Outcome::Allow, Vec::new());
        let task_end = DateTime::from_timestamp(claims.task_exp, 0).unwrap_or_else(|| self.clock.now());
        let revoke = Revoke {
            keys: vec![RevocationKey::token(claims.jti)],
            keep_until: task_end + TimeDelta::minutes(1),
            reason: "revoked by the agent that holds it".to_owned(),
            decision,
        };
        self.submit(Change::Revoke(Box::new(revoke))).await
    }

    async fn submit(&self, change: Change) -> Result<(), NotRevoked> {
        self.writer.submit(change).await.map(drop).map_err(|_| NotRevoked::Unavailable)
    }

    fn decision(
        &self,
        agent: &Agent,
        claims: &TokenClaims,
        outcome: Outcome,
        reasons: Vec<Reason>,
    ) -> Decision {
        let now = self.clock.now();
        Decision {
            id: self.random.decision(now),
            kind: Kind::Admin,
            at: now,
            tenant: Some(claims.tenant.clone()),
            outcome,
            policy: None,
            task_type: Some(claims.task_type.clone()),
            record: Record {
                actor: Some(agent.spec.client_id.to_string()),
                task_id: Some(claims.task_id),
                asked: json!({"revoke": claims.jti}),
                reasons,
                ..Record::default()
            },
            input: None,
        }
    }
}
