//! A change that waits for a second person: what it would do, who proposed it, and how it ends. A state machine without time
//! or storage of its own.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::ids::{ClientId, DecisionId, Name, ProposalId};
use super::principal::Principal;
use super::record::{Bears, RevocationKey};

/// How long a proposal waits.
pub const WAITS: TimeDelta = TimeDelta::hours(24);

/// What one person alone may not do, where the deployment says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Guarded {
    /// To put another bundle or other data documents in force, to let a candidate bite, or to keep what policy says from biting.
    Policy,
    /// To apply what widens.
    Widening,
    /// To declare or change an exception.
    Exceptions,
    /// To say who administers, or how they prove it. Guarded as soon as anything is: else one person could make the second.
    Administrators,
}

impl Guarded {
    /// The word in the configuration and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Widening => "widening",
            Self::Exceptions => "exceptions",
            Self::Administrators => "administrators",
        }
    }
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What takes two persons of different roles; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct TwoPersons(BTreeSet<Guarded>);

impl TwoPersons {
    /// Whether nothing does.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this does.
    pub fn guard(&self, what: Guarded) -> bool {
        self.0.contains(&what) || (what == Guarded::Administrators && !self.is_empty())
    }

    /// Those of `all` that do.
    pub fn of(&self, all: &BTreeSet<Guarded>) -> BTreeSet<Guarded> {
        all.iter().copied().filter(|what| self.guard(*what)).collect()
    }
}

impl FromIterator<Guarded> for TwoPersons {
    fn from_iter<I: IntoIterator<Item = Guarded>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

/// How a proposal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProposalState {
    /// It waits for a second person.
    Pending,
    /// A second person has confirmed it, and it is done.
    CarriedOut,
    /// Somebody has rejected it, or its proposer has taken it back.
    Rejected,
    /// Nobody answered in time.
    Expired,
    /// It would not do any more what it was shown to do, or its proposer counts no more.
    Superseded,
}

impl ProposalState {
    /// Every state.
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::CarriedOut, Self::Rejected, Self::Expired, Self::Superseded];

    /// The word in the database and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::CarriedOut => "carried_out",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
        }
    }
}

impl FromStr for ProposalState {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let state = Self::ALL.into_iter().find(|state| state.as_str() == text);
        state.ok_or("pending, carried_out, rejected, expired or superseded")
    }
}

impl fmt::Display for ProposalState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Somebody who administers, as they proved it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// As the log names them.
    pub account: String,
    /// Who.
    pub principal: Principal,
    /// The tenant of their session.
    pub tenant: Name,
    /// The console that they work through.
    pub client_id: ClientId,
    /// When they signed in.
    pub auth_time: Option<DateTime<Utc>>,
    /// What their session said. A proposer's is forgotten once the proposal is settled.
    pub facts: Map<String, Value>,
    /// What, if it is revoked, ends their word.
    pub killed_by: Vec<(RevocationKey, Bears)>,
}

/// How a proposal ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// Who answered, as the log names them; the server, where nobody did.
    pub account: String,
    /// The person; none for an account of the machine, and for the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<Principal>,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
    /// The decision in the log.
    pub decision_id: DecisionId,
}

/// A proposal.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// Its id.
    pub id: ProposalId,
    /// Why it takes two.
    pub needs: BTreeSet<Guarded>,
    /// What is to be done, in a word: the command.
    pub command: String,
    /// The same, exactly: a request as JSON.
    pub content: String,
    /// What that would have done when it was proposed. Only this is ever done.
    pub effect: Value,
    /// Names what is to be done, its effect and its proposer: `sha256:` and lower-case hex. Who confirms says it, so that nobody confirms what they
    /// were not shown.
    pub digest: String,
    /// Who proposed it.
    pub proposer: Person,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When it is over; that instant is too late.
    pub expires_at: DateTime<Utc>,
    /// How it stands. [`Proposal::state_at`] also knows what time has done.
    pub state: ProposalState,
    /// The decision that made it.
    pub decision_id: DecisionId,
    /// How it ended; none while it waits.
    pub answered: Option<Answered>,
}

/// Why a proposal stays as it is.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Unsettled {
    /// There is none of this id.
    #[error("there is no such proposal")]
    Unknown,
    /// It does not wait any more.
    #[error("the proposal is {0}")]
    Is(ProposalState),
    /// It is not what was shown.
    #[error("digest: it is not that of this proposal: look at it again with `taskgrant proposals show`")]
    OtherDigest,
    /// One person is not two.
    #[error("you have proposed this yourself: it takes a second person")]
    SamePerson,
    /// What the proposer's word hangs on was revoked.
    #[error("who proposed this was signed out or revoked since: it has to be proposed again")]
    ProposerRevoked,
}

impl Unsettled {
    /// The reason code in the log.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unknown => "proposal_unknown",
            Self::Is(_) => "proposal_settled",
            Self::OtherDigest => "proposal_digest_other",
            Self::SamePerson => "proposal_same_person",
            Self::ProposerRevoked => "proposal_proposer_revoked",
        }
    }
}

impl Proposal {
    /// How it stands at `now`: what nobody answered in time is expired.
    pub fn state_at(&self, now: DateTime<Utc>) -> ProposalState {
        let is_over = self.state == ProposalState::Pending && self.expires_at <= now;
        if is_over { ProposalState::Expired } else { self.state }
    }

    /// Whether it waits at `now`.
    pub fn must_wait(&self, now: DateTime<Utc>) -> Result<(), Unsettled> {
        match self.state_at(now) {
            ProposalState::Pending => Ok(()),
            state @ (ProposalState::CarriedOut
            | ProposalState::Rejected
            | ProposalState::Expired
            | ProposalState::Superseded) => Err(Unsettled::Is(state)),
        }
    }

    /// Whether `principal` may confirm at `now` what is named `digest`.
    pub fn may_be_confirmed(
        &self,
        principal: &Principal,
        digest: &str,
        now: DateTime<Utc>,
    ) -> Result<(), Unsettled> {
        self.must_wait(now)?;
        if self.proposer.principal == *principal {
            return Err(Unsettled::SamePerson);
        }
        if self.digest == digest { Ok(()) } else { Err(Unsettled::OtherDigest) }
    }

    /// A second person has confirmed it: once.
    pub fn carry_out(&mut self, digest: &str, by: Answered, now: DateTime<Utc>) -> Result<(), Unsettled> {
        let person = by.principal.as_ref().ok_or(Unsettled::SamePerson)?;
        self.may_be_confirmed(person, digest, now)?;
        self.settle(ProposalState::CarriedOut, by);
        Ok(())
    }

    /// Somebody rejects it, or its proposer takes it back.
    pub fn reject(&mut self, by: Answered, now: DateTime<Utc>) -> Result<(), Unsettled> {
        self.must_wait(now)?;
        self.settle(ProposalState::Rejected, by);
        Ok(())
    }

    /// It cannot be carried out any more as it was shown.
    pub fn supersede(&mut self, by: Answered, now: DateTime<Utc>) -> Result<(), Unsettled> {
        self.must_wait(now)?;
        self.settle(ProposalState::Superseded, by);
        Ok(())
    }

    /// Its time is over, and nobody answered.
    pub fn expire(&mut self, by: Answered, now: DateTime<Utc>) -> Result<(), Unsettled> {
        if self.state != ProposalState::Pending || self.expires_at > now {
            return Err(Unsettled::Is(self.state));
        }
        self.settle(ProposalState::Expired, by);
        Ok(())
    }

    /// Nothing goes on from here: what the proposer's session said is not needed any more.
    fn settle(&mut self, state: ProposalState, by: Answered) {
        self.state = state;
        self.answered = Some(by);
        self.proposer.facts = Map::new();
    }
}

#[cfg(test)]
#[path = "proposal_tests.rs"]
mod tests;
