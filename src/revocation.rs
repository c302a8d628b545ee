//! The use case: an agent revokes a token of its own and with it everything below (RFC 7009, RV-02).

use std::sync::Arc;

use chrono::{DateTime, TimeDelta};
use serde_json::json;
use thiserror::Error;

use crate::aggregates::Aggregates;
use crate::clock::{Clock, Random};
use crate::domain::claims::TokenClaims;
use crate::domain::decision::{Decision, Kind, Outcome, Reason, Record};
use crate::domain::ids::DecisionId;
use crate::domain::record::RevocationKey;
use crate::domain::snapshot::Agent;
use crate::keys::live::LiveKeys;
use crate::store::change::{Change, Revoke};
use crate::store::writer::Writer;

/// Why nothing was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRevoked {
    /// Refused, and the refusal is in the log or counted for it (L12).
    Refused {
        /// Its decision; none for one of many that are recorded together.
        decision_id: Option<DecisionId>,
        /// Why.
        why: WhyNot,
    },
    /// The decision could not be recorded.
    Unavailable,
}

/// Why a revocation is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WhyNot {
    /// It was issued to another client (RFC 7009 §2.1).
    #[error("the token was issued to another client")]
    NotYours,
    /// A resource asked.
    #[error("a resource may not revoke tokens")]
    NotAnAgent,
    /// `token` is missing, or sent more than once.
    #[error("token: the parameter {0}")]
    Token(&'static str),
}

impl WhyNot {
    /// A stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotYours => "token_not_yours",
            Self::NotAnAgent => "client_not_allowed",
            Self::Token(_) => "malformed_request",
        }
    }
}

/// The use case with what it needs. Cheap to clone.
#[derive(Clone)]
pub struct Revocation {
    keys: LiveKeys,
    writer: Writer,
    clock: Arc<dyn Clock>,
    random: Random,
    aggregates: Arc<Aggregates>,
}

impl Revocation {
    /// Wires the use case.
    pub fn new(
        keys: LiveKeys,
        writer: Writer,
        (clock, random): (Arc<dyn Clock>, Random),
        aggregates: Arc<Aggregates>,
    ) -> Self {
        Self { keys, writer, clock, random, aggregates }
    }

    /// Revokes `token` if it was issued to `agent`. A text that is no token of ours, or one that has expired,
    /// counts as revoked already (RFC 7009 §2.2). Repeating it changes nothing.
    pub async fn revoke_own(&self, agent: &Agent, token: &str) -> Result<(), NotRevoked> {
        let Some(claims) = self.keys.own_claims(token) else { return Ok(()) };
        let client_id = agent.spec.client_id.as_str();
        if claims.client_id != agent.spec.client_id {
            return Err(self.refused(about(self.decision(client_id), &claims), WhyNot::NotYours).await);
        }
        let decision = Decision { outcome: Outcome::Allow, ..about(self.decision(client_id), &claims) };
        let task_end = DateTime::from_timestamp(claims.task_exp, 0).unwrap_or_else(|| self.clock.now());
        let revoke = Revoke {
            keys: vec![RevocationKey::token(claims.jti)],
            keep_until: task_end + TimeDelta::minutes(1),
            reason: "revoked by the agent that holds it".to_owned(),
            decision,
        };
        self.submit(Change::Revoke(Box::new(revoke))).await
    }

    /// Refuses, and records, what no token had to be looked at for.
    pub async fn refuse(&self, client_id: &str, why: WhyNot) -> NotRevoked {
        self.refused(self.decision(client_id), why).await
    }

    /// Revocations have no rate, so that a flood of refused ones is only counted.
    async fn refused(&self, mut decision: Decision, why: WhyNot) -> NotRevoked {
        let caller = decision.record.actor.as_deref().unwrap_or_default();
        if !self.aggregates.is_first(decision.kind, caller, why.code()) {
            return NotRevoked::Refused { decision_id: None, why };
        }
        let reason = Reason { code: why.code().to_owned(), message: why.to_string(), public: true };
        decision.record.reasons.push(reason);
        let decision_id = decision.id;
        match self.submit(Change::from(decision)).await {
            Ok(()) => NotRevoked::Refused { decision_id: Some(decision_id), why },
            Err(unavailable) => unavailable,
        }
    }

    async fn submit(&self, change: Change) -> Result<(), NotRevoked> {
        self.writer.submit(change).await.map(drop).map_err(|_| NotRevoked::Unavailable)
    }

    /// A refusal, unless it is made something else.
    fn decision(&self, client_id: &str) -> Decision {
        let now = self.clock.now();
        Decision {
            id: self.random.decision(now),
            kind: Kind::Admin,
            at: now,
            tenant: None,
            outcome: Outcome::Deny,
            policy: None,
            task_type: None,
            record: Record {
                actor: Some(client_id.to_owned()),
                asked: json!({"revoke": null}),
                ..Record::default()
            },
            input: None,
        }
    }
}

/// The decision, upon this token.
fn about(mut decision: Decision, claims: &TokenClaims) -> Decision {
    decision.tenant = Some(claims.tenant.clone());
    decision.task_type = Some(claims.task_type.clone());
    decision.record.task_id = Some(claims.task_id);
    decision.record.asked = json!({"revoke": claims.jti});
    decision
}
