//! One approval: what a person is asked, who has answered, and what became of it (STANDARDS §11). A state machine without
//! time or storage of its own.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::envelope::{EnvelopeTerms, OpenEnvelope};
use super::ids::{ApprovalId, ClientId, DecisionId, Jti, Name};
use super::principal::Principal;
use super::record::{Bears, RevocationKey};
use super::scope::ScopeSet;

/// How an approval stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// It waits for people.
    Pending,
    /// Enough people have approved: the agent may fetch its token.
    Approved,
    /// Somebody has denied it.
    Denied,
    /// Nobody decided, or nobody fetched the token, in time.
    Expired,
    /// The agent gave it up, or an admin took it back.
    Cancelled,
    /// The token was fetched.
    Redeemed,
}

impl ApprovalState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Approved, Self::Denied, Self::Expired, Self::Cancelled, Self::Redeemed];

    /// The word in the database and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Redeemed => "redeemed",
        }
    }
}

impl FromStr for ApprovalState {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let state = Self::ALL.into_iter().find(|state| state.as_str() == text);
        state.ok_or("pending, approved, denied, expired, cancelled or redeemed")
    }
}

impl fmt::Display for ApprovalState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an approver takes away from what was asked for: never anything that is added (AP-02).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Narrowing {
    /// Only these scopes; all that were asked for when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<ScopeSet>,
    /// At most so many seconds; as long as was asked for when left out. At least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<u32>,
}

impl Narrowing {
    /// Both at once: what several approvers take away adds up.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let scopes = match (&self.scopes, &other.scopes) {
            (Some(a), Some(b)) => Some(a.intersection(b)),
            (one, None) | (None, one) => one.clone(),
        };
        Self { scopes, lifetime: self.lifetime.into_iter().chain(other.lifetime).min() }
    }
}

/// One person's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    /// Who.
    pub approver: Principal,
    /// As whom the task type named them, such as `group:leads`: when the token is fetched it must still do so.
    pub named_as: String,
    /// Whether they approve; else they deny.
    pub approves: bool,
    /// What they take away.
    #[serde(default)]
    pub narrowing: Narrowing,
    /// How many more exchanges like it they approve with it; none if only this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<EnvelopeTerms>,
    /// Why, in their words.
    pub reason: String,
    /// When.
    pub at: DateTime<Utc>,
    /// The decision in the log.
    pub decision_id: DecisionId,
}

impl Vote {
    /// What revokes who gave it, and since when.
    pub fn killed_by(&self) -> (RevocationKey, Bears) {
        let Principal { iss, sub } = &self.approver;
        (RevocationKey::principal(iss, sub), Bears::IfSince(self.at))
    }
}

/// An approval.
#[derive(Clone, Debug, PartialEq)]
pub struct Approval {
    /// Its id, told to the agent and to approvers. It redeems nothing.
    pub id: ApprovalId,
    /// The tenant.
    pub tenant: Name,
    /// The agent that asked, which alone may redeem it.
    pub client_id: ClientId,
    /// SHA-256 of the code that redeems it, in lower-case hex (AP-01).
    pub code_sha256: String,
    /// SHA-256 of what was asked, in lower-case hex: an agent that asks the same again gets no second approval (T38).
    pub likeness: String,
    /// How it stands. [`Approval::state_at`] also knows what time has done.
    pub state: ApprovalState,
    /// How many people must approve.
    pub quorum: u32,
    /// When it was first asked for.
    pub created_at: DateTime<Utc>,
    /// When it is over, approved or not, and its envelope with it.
    pub expires_at: DateTime<Utc>,
    /// The decision that asked for it.
    pub decision_id: DecisionId,
    /// From what the exchange goes on: verified facts, no token. Null once it is settled.
    pub request: Value,
    /// What a person is shown.
    pub shown: Value,
    /// The answers, the oldest first.
    pub votes: Vec<Vote>,
    /// The token that it was redeemed for.
    pub jti: Option<Jti>,
    /// The envelope that opened with that token.
    pub envelope: Option<OpenEnvelope>,
}

/// Why an approval stays as it is.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Unmoved {
    /// There is none of this id.
    #[error("there is no such approval")]
    Unknown,
    /// It is settled, or not approved yet.
    #[error("the approval is {0}")]
    Is(ApprovalState),
    /// One person has one vote.
    #[error("this person has voted already")]
    Voted,
}

/// Why a deferred exchange gives no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFetched {
    /// No deferred exchange of this client has this code.
    Unknown,
    /// A person has denied it.
    Denied,
    /// Nobody decided, or the client did not fetch the token, in time.
    Expired,
    /// The token was fetched.
    Used,
    /// It was given up or taken back.
    Cancelled,
}

impl NotFetched {
    /// The reason code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unknown => "deferral_code_unknown",
            Self::Denied => "approval_denied",
            Self::Expired => "approval_expired",
            Self::Used => "deferral_code_used",
            Self::Cancelled => "approval_cancelled",
        }
    }

    /// For people: what is wrong, and with which parameter.
    pub fn what(self) -> &'static str {
        match self {
            Self::Unknown => "deferral_code: no deferred exchange of this client has this code",
            Self::Denied => "a person has denied the request",
            Self::Expired => "nobody approved the request in time, or its token was not fetched in time",
            Self::Used => "deferral_code: its token was fetched already",
            Self::Cancelled => "deferral_code: the request was given up or taken back",
        }
    }
}

impl From<Unmoved> for NotFetched {
    fn from(unmoved: Unmoved) -> Self {
        match unmoved {
            Unmoved::Is(ApprovalState::Denied) => Self::Denied,
            Unmoved::Is(ApprovalState::Expired) => Self::Expired,
            Unmoved::Is(ApprovalState::Cancelled) => Self::Cancelled,
            Unmoved::Is(ApprovalState::Redeemed) => Self::Used,
            Unmoved::Unknown
            | Unmoved::Voted
            | Unmoved::Is(ApprovalState::Pending | ApprovalState::Approved) => Self::Unknown,
        }
    }
}

impl Approval {
    /// How it stands at `now`: what nobody settled, or fetched, in time is expired.
    pub fn state_at(&self, now: DateTime<Utc>) -> ApprovalState {
        let open = matches!(self.state, ApprovalState::Pending | ApprovalState::Approved);
        if open && self.expires_at <= now { ApprovalState::Expired } else { self.state }
    }

    /// The name of the task type that it is of.
    pub fn task_type_name(&self) -> Option<Name> {
        self.shown.pointer("/task_type/name")?.as_str()?.parse().ok()
    }

    /// `name@version` of that task type, as it was when it was asked.
    pub fn task_type(&self) -> Option<String> {
        let version = self.shown.pointer("/task_type/version")?;
        Some(format!("{}@{version}", self.task_type_name()?))
    }

    /// Who has approved, and when.
    pub fn approvals(&self) -> impl Iterator<Item = &Vote> {
        self.votes.iter().filter(|vote| vote.approves)
    }

    /// Who has approved.
    pub fn approvers(&self) -> impl Iterator<Item = &Principal> {
        self.votes.iter().filter(|vote| vote.approves).map(|vote| &vote.approver)
    }

    /// What the approvers take away, all of them together.
    pub fn narrowing(&self) -> Narrowing {
        let approved = self.votes.iter().filter(|vote| vote.approves);
        approved.fold(Narrowing::default(), |all, vote| all.and(&vote.narrowing))
    }

    /// Takes in an answer: one denial denies, `quorum` approvals approve.
    pub fn cast(&mut self, vote: Vote, now: DateTime<Utc>) -> Result<(), Unmoved> {
        self.must_be(ApprovalState::Pending, now)?;
        if self.votes.iter().any(|cast| cast.approver == vote.approver) {
            return Err(Unmoved::Voted);
        }
        let denied = !vote.approves;
        self.votes.push(vote);
        let reached = u32::try_from(self.approvers().count()).unwrap_or(u32::MAX) >= self.quorum;
        if denied {
            self.settle(ApprovalState::Denied);
        } else if reached {
            self.state = ApprovalState::Approved;
        }
        Ok(())
    }

    /// Asked for again by the same agent before the token is fetched: the new code is the one that redeems it.
    pub fn ask_again(&mut self, code_sha256: &str, now: DateTime<Utc>) -> Result<(), Unmoved> {
        self.must_be_open(now)?;
        code_sha256.clone_into(&mut self.code_sha256);
        Ok(())
    }

    /// Its time is over, and nobody decided: that is a denial.
    pub fn expire(&mut self, now: DateTime<Utc>) -> Result<(), Unmoved> {
        if self.state != ApprovalState::Pending || self.expires_at > now {
            return Err(Unmoved::Is(self.state));
        }
        self.settle(ApprovalState::Expired);
        Ok(())
    }

    /// Given up or taken back before the token is fetched; after that what is left of its envelope.
    pub fn cancel(&mut self, now: DateTime<Utc>) -> Result<(), Unmoved> {
        if self.close_envelope(now) {
            return Ok(());
        }
        self.must_be_open(now)?;
        self.settle(ApprovalState::Cancelled);
        Ok(())
    }

    /// The token is fetched, once.
    pub fn redeem(&mut self, jti: Jti, now: DateTime<Utc>) -> Result<(), Unmoved> {
        self.must_be(ApprovalState::Approved, now)?;
        self.settle(ApprovalState::Redeemed);
        self.jti = Some(jti);
        Ok(())
    }

    /// Nothing goes on from here: the session's facts are not needed any more.
    fn settle(&mut self, state: ApprovalState) {
        self.state = state;
        self.request = Value::Null;
    }

    /// Whether it waits for people, or for its token to be fetched.
    pub fn must_be_open(&self, now: DateTime<Utc>) -> Result<(), Unmoved> {
        match self.state_at(now) {
            ApprovalState::Pending | ApprovalState::Approved => Ok(()),
            state @ (ApprovalState::Denied
            | ApprovalState::Expired
            | ApprovalState::Cancelled
            | ApprovalState::Redeemed) => Err(Unmoved::Is(state)),
        }
    }

    /// Whether it stands so at `now`.
    pub fn must_be(&self, wanted: ApprovalState, now: DateTime<Utc>) -> Result<(), Unmoved> {
        let state = self.state_at(now);
        if state == wanted { Ok(()) } else { Err(Unmoved::Is(state)) }
    }
}

#[cfg(test)]
#[path = "approval_tests.rs"]
mod tests;
