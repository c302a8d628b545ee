//! The use case: one row, and everything that hangs on it is dead (RV-02). Here an agent revokes a token of its own
//! (RFC 7009); [`order`] is what admins do, [`events`] what identity providers tell.

pub mod events;
pub mod order;
pub mod target;

use std::sync::Arc;

use chrono::DateTime;
use serde_json::json;
use thiserror::Error;

use crate::aggregates::Aggregates;
use crate::clock::{Clock, Random};
use crate::configuration::active::Active;
use crate::domain::chain::Chain;
use crate::domain::claims::TokenClaims;
use crate::domain::decision::{Decision, Kind, Outcome, Reason, Record};
use crate::domain::ids::DecisionId;
use crate::domain::record::{KEPT_AFTER, RevocationKey, RevocationKind};
use crate::domain::snapshot::Agent;
use crate::keys::live::LiveKeys;
use crate::metrics::Metrics;
use crate::store::Store;
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
    /// It was issued to another client, and not below a token of this one (RFC 7009 §2.1).
    #[error("the token was issued to another client, and did not grow from a token of this one")]
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
    parts: Arc<Parts>,
}

/// What a revocation is made of.
pub struct Parts {
    /// For what is on record.
    pub store: Store,
    /// The one writer.
    pub writer: Writer,
    /// The issuers in force, for how old a session may be.
    pub active: Active,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids.
    pub random: Random,
    /// Counts what is refused too often.
    pub aggregates: Arc<Aggregates>,
    /// What operators watch.
    pub metrics: Arc<Metrics>,
}

impl Revocation {
    /// Wires the use case.
    pub fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    /// Revokes `token` if `agent` stands in its chain: it was issued to that agent, or grew from a token of its own. The
    /// agent that started a task stands in all of its chains. A text that is no token of ours, or one that has expired,
    /// counts as revoked already (RFC 7009 §2.2). Repeating it changes nothing.
    pub async fn revoke_own(&self, keys: &LiveKeys, agent: &Agent, token: &str) -> Result<(), NotRevoked> {
        let Some(claims) = keys.own_claims(token) else { return Ok(()) };
        let client_id = agent.spec.client_id.as_str();
        let held = claims.client_id == agent.spec.client_id;
        if !held && !stands_in_chain(&claims, client_id) {
            return Err(self.refused(about(self.decision(client_id), &claims), WhyNot::NotYours).await);
        }
        let decision = Decision { outcome: Outcome::Allow, ..about(self.decision(client_id), &claims) };
        let task_end = DateTime::from_timestamp(claims.task_exp, 0).unwrap_or_else(|| self.parts.clock.now());
        let whose = if held { "that holds it" } else { "that it was handed on by" };
        let revoke = Revoke {
            keys: vec![RevocationKey::token(claims.jti)],
            keep_until: task_end + KEPT_AFTER,
            reason: format!("revoked by the agent {whose}"),
            decision,
        };
        self.submit(Change::Revoke(Box::new(revoke))).await?;
        self.parts.metrics.revoked(RevocationKind::Token.as_str());
        Ok(())
    }

    /// Refuses, and records, what no token had to be looked at for.
    pub async fn refuse(&self, client_id: &str, why: WhyNot) -> NotRevoked {
        self.refused(self.decision(client_id), why).await
    }

    /// Revocations have no rate, so that a flood of refused ones is only counted.
    async fn refused(&self, mut decision: Decision, why: WhyNot) -> NotRevoked {
        let caller = decision.record.actor.as_deref().unwrap_or_default();
        if !self.parts.aggregates.is_first(decision.kind, caller, why.code()) {
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
        self.parts.writer.submit(change).await.map(drop).map_err(|_| NotRevoked::Unavailable)
    }

    /// A refusal, unless it is made something else.
    fn decision(&self, by: &str) -> Decision {
        let now = self.parts.clock.now();
        Decision {
            id: self.parts.random.decision(now),
            kind: Kind::Admin,
            at: now,
            tenant: None,
            outcome: Outcome::Deny,
            policy: None,
            task_type: None,
            record: Record {
                actor: Some(by.to_owned()),
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

/// Whether our agent `client_id` acts in the token's chain, or acted before.
fn stands_in_chain(claims: &TokenClaims, client_id: &str) -> bool {
    let chain = Chain::from_json(&claims.act);
    chain.is_ok_and(|chain| chain.actors().any(|actor| actor.iss == claims.iss && actor.sub == client_id))
}
