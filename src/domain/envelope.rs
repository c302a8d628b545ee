//! Envelopes: several exchanges of one task approved at once, each within what people saw (STANDARDS AP-05). What is approved
//! is one token; the envelope lets its agent have more like it, or narrower, for so many exchanges and so many minutes.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::approval::{Approval, ApprovalState, Vote};
use super::claims::TokenClaims;
use super::ids::{ApprovalId, Jti, TaskId};
use super::objects::ApprovalSpec;

/// How much an envelope is for. Both limits hold together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvelopeTerms {
    /// How many exchanges after the one that was approved; at least 1.
    pub exchanges: u32,
    /// For how many minutes after the last approval; at least 1.
    pub minutes: u32,
}

impl EnvelopeTerms {
    /// The smaller number of each.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { exchanges: self.exchanges.min(other.exchanges), minutes: self.minutes.min(other.minutes) }
    }

    /// When its minutes are over, counted from `since`.
    pub fn until(self, since: DateTime<Utc>) -> DateTime<Utc> {
        since + TimeDelta::minutes(i64::from(self.minutes))
    }
}

/// An envelope from when its approval's token was fetched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenEnvelope {
    /// What people gave: the least of what each of them did.
    pub terms: EnvelopeTerms,
    /// The last approval: its minutes count from there.
    pub since: DateTime<Utc>,
    /// The one task in which it is good.
    pub task_id: TaskId,
    /// When that task ends; it ends with it.
    pub task_deadline: DateTime<Utc>,
    /// Codes of the reasons that people saw.
    pub reasons: BTreeSet<String>,
    /// Those that tokens tell: the public ones.
    pub told: Vec<String>,
    /// The token that people saw, less what they took away: no use is wider. None once the envelope is taken back.
    pub most: Option<Box<TokenClaims>>,
    /// How many exchanges used it.
    #[serde(default)]
    pub used: u32,
}

/// Why an envelope lets nothing more through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvelopeEnd {
    /// An admin took it back.
    Cancelled,
    /// All its exchanges were made.
    UsedUp,
    /// Its minutes are over, or its task is.
    Over,
    /// The task type allows none any more.
    NotAllowed,
    /// The task type names other approvers, or asks for more of them.
    OtherApprovers,
    /// Its task is completed, or something that it hangs on is revoked: the token that was approved, its agent or principal,
    /// an approver.
    Revoked,
}

impl EnvelopeEnd {
    /// For people.
    pub fn why(self) -> &'static str {
        match self {
            Self::Cancelled => "taken back",
            Self::UsedUp => "used up",
            Self::Over => "its time is over",
            Self::NotAllowed => "the task type allows none any more",
            Self::OtherApprovers => "the task type asks for other approvers now",
            Self::Revoked => "its task is completed, or what it hangs on is revoked",
        }
    }
}

/// What is left of an envelope by what is in force now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeLeft {
    /// How many exchanges it is for.
    pub of: u32,
    /// Until when.
    pub until: DateTime<Utc>,
}

/// A use of an envelope, as the commit checks and counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeUse {
    /// The approval that it belongs to.
    pub approval: ApprovalId,
    /// The token that was approved: while it and all that it hangs on is not revoked, the envelope is good.
    pub token: Jti,
    /// How far it reaches by the configuration that decided.
    pub left: EnvelopeLeft,
}

impl OpenEnvelope {
    /// What is left of it at `now`, where an approver may give `allowed`: a task type that is narrowed narrows what was given.
    pub fn left(
        &self,
        allowed: Option<EnvelopeTerms>,
        now: DateTime<Utc>,
    ) -> Result<EnvelopeLeft, EnvelopeEnd> {
        if self.most.is_none() {
            return Err(EnvelopeEnd::Cancelled);
        }
        let terms = self.terms.and(allowed.ok_or(EnvelopeEnd::NotAllowed)?);
        let left = EnvelopeLeft { of: terms.exchanges, until: self.ends(terms) };
        self.is_within(left, now).map(|()| left)
    }

    /// When it ends, for so many minutes: with its task at the latest.
    pub fn ends(&self, terms: EnvelopeTerms) -> DateTime<Utc> {
        terms.until(self.since).min(self.task_deadline)
    }

    /// Whether no configuration or time lets anything more through: it is taken back or used up.
    pub fn is_exhausted(&self) -> bool {
        self.most.is_none() || self.used >= self.terms.exchanges
    }

    fn is_within(&self, left: EnvelopeLeft, now: DateTime<Utc>) -> Result<(), EnvelopeEnd> {
        if self.most.is_none() {
            Err(EnvelopeEnd::Cancelled)
        } else if self.used >= left.of {
            Err(EnvelopeEnd::UsedUp)
        } else if now >= left.until {
            Err(EnvelopeEnd::Over)
        } else {
            Ok(())
        }
    }

    /// Whether `asked`, for which people would be asked by the reasons of these `codes`, may be one of its uses, as far as
    /// the order of capabilities does not say so: the same task, actors and receiver of a hand-over, no new reason and, where
    /// the request names a lifetime, none that is longer. Lifetimes are compared as lengths.
    pub fn is_for<'c>(
        &self,
        asked: &TokenClaims,
        mut codes: impl Iterator<Item = &'c str>,
        names_lifetime: bool,
    ) -> bool {
        let Some(most) = &self.most else { return false };
        let same = asked.task_id == self.task_id
            && asked.tenant == most.tenant
            && asked.client_id == most.client_id
            && asked.act == most.act
            && asked.may_act == most.may_act;
        // People saw a token for a service: one that is narrowed again and again is another thing.
        let of_kind = most.resources.is_some() || asked.resources.is_none();
        let short = !names_lifetime || asked.exp - asked.iat <= most.exp - most.iat;
        same && of_kind && short && codes.all(|code| self.reasons.contains(code))
    }
}

impl Approval {
    /// What all who have approved give together: nothing unless each of them gives something.
    pub fn envelope_given(&self) -> Option<EnvelopeTerms> {
        let given: Option<Vec<_>> = self.approvals().map(|vote| vote.envelope).collect();
        given?.into_iter().reduce(EnvelopeTerms::and)
    }

    /// When the last of them approved.
    pub fn approved_at(&self) -> Option<DateTime<Utc>> {
        self.approvals().map(|vote| vote.at).max()
    }

    /// Those who have approved and whom `spec` still names.
    pub fn still_named(&self, spec: &ApprovalSpec) -> impl Iterator<Item = &Vote> {
        let named: BTreeSet<String> = spec.approvers.iter().cloned().map(String::from).collect();
        self.approvals().filter(move |vote| named.contains(&vote.named_as))
    }

    /// What is left of its envelope at `now`, by the task type in force; none if there is none.
    pub fn envelope_left(
        &self,
        spec: &ApprovalSpec,
        now: DateTime<Utc>,
    ) -> Option<Result<EnvelopeLeft, EnvelopeEnd>> {
        let envelope = self.envelope.as_ref()?;
        let named = self.still_named(spec).count();
        let enough = u32::try_from(named).unwrap_or(u32::MAX) >= spec.quorum;
        let left = envelope.left(spec.envelope, now);
        Some(match left {
            Ok(_) if !enough || named != self.approvals().count() => Err(EnvelopeEnd::OtherApprovers),
            left => left,
        })
    }

    /// Its token is fetched, and with that the envelope is open. It is kept for as long as that.
    pub fn open(&mut self, envelope: OpenEnvelope) {
        self.expires_at = self.expires_at.max(envelope.ends(envelope.terms));
        self.envelope = Some(envelope);
    }

    /// Whether one more exchange may use the envelope.
    pub fn may_use(&self, held: &EnvelopeUse, now: DateTime<Utc>) -> Result<(), EnvelopeEnd> {
        let envelope = self.envelope.as_ref().filter(|_| self.jti == Some(held.token));
        envelope.ok_or(EnvelopeEnd::Cancelled)?.is_within(held.left, now)
    }

    /// One more exchange has used it; the how-manieth.
    pub fn use_envelope(&mut self, held: &EnvelopeUse, now: DateTime<Utc>) -> Result<u32, EnvelopeEnd> {
        self.may_use(held, now)?;
        let envelope = self.envelope.as_mut().ok_or(EnvelopeEnd::Cancelled)?;
        envelope.used += 1;
        Ok(envelope.used)
    }

    /// Takes the envelope back; whether there was one to take back.
    pub(super) fn close_envelope(&mut self, now: DateTime<Utc>) -> bool {
        let redeemed = self.state == ApprovalState::Redeemed;
        let Some(envelope) = self.envelope.as_mut().filter(|_| redeemed) else { return false };
        let open = envelope.left(Some(envelope.terms), now).is_ok();
        if open {
            envelope.most = None;
        }
        open
    }
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
