//! Why nothing was proposed, confirmed or rejected, and why a change was not made.

use thiserror::Error;

use super::{LONGEST, LONGEST_REASON, MOST_OF_ONE, MOST_PENDING};
use crate::configuration::apply::ApplyFault;
use crate::configuration::apply::policy::PolicyChangeFault;
use crate::configuration::apply::word::{Needed, Unagreed};
use crate::domain::proposal::Unsettled;
use crate::issuers::person::NoPerson;
use crate::store::change::CommitFault;
use crate::store::error::StoreError;

/// Why a change was not made.
#[derive(Debug, Error)]
pub enum ChangeFault {
    /// Of the objects.
    #[error(transparent)]
    Apply(#[from] ApplyFault),
    /// Of the policy.
    #[error(transparent)]
    Policy(#[from] PolicyChangeFault),
}

impl ChangeFault {
    /// What one person's word was not enough for, if that is it.
    pub fn needed(&self) -> Option<&Needed> {
        match self.unagreed() {
            Some(Unagreed::Needed(needed)) => Some(needed),
            Some(_) | None => None,
        }
    }

    pub(super) fn unagreed(&self) -> Option<&Unagreed> {
        match self {
            Self::Apply(ApplyFault::Unagreed(unagreed))
            | Self::Policy(PolicyChangeFault::Unagreed(unagreed)) => Some(unagreed),
            Self::Apply(_) | Self::Policy(_) => None,
        }
    }

    /// Whether another change came first.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Apply(ApplyFault::Conflict) | Self::Policy(PolicyChangeFault::Conflict))
    }

    /// Whether the same may yet be carried out, by the same word or another one.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Apply(ApplyFault::Unavailable(_) | ApplyFault::Conflict)
            | Self::Policy(PolicyChangeFault::Unavailable(_) | PolicyChangeFault::Conflict) => true,
            Self::Apply(_) | Self::Policy(_) => self.unagreed().is_some_and(|unagreed| !unagreed.is_final()),
        }
    }
}

/// Why nothing was proposed, confirmed or rejected.
#[derive(Debug, Error)]
pub enum ProposalFault {
    /// The request is too long to be kept.
    #[error("a proposal holds at most {LONGEST} bytes, and this request has {0}: propose it in parts")]
    TooLong(usize),
    /// Too many wait.
    #[error(
        "{MOST_PENDING} proposals wait already, or {MOST_OF_ONE} of yours: have some confirmed or rejected first"
    )]
    TooMany,
    /// There is none of this id, or it does not wait any more, or not for this person.
    #[error("{0}")]
    Unsettled(#[from] Unsettled),
    /// The login of who confirms is old.
    #[error("{0}")]
    NoPerson(#[from] NoPerson),
    /// The reason is missing or too long.
    #[error("reason: say why, for the record, in at most {LONGEST_REASON} bytes")]
    Reason,
    /// It would not do what was shown any more, and is over.
    #[error("nothing was done, and the proposal is superseded: {0}")]
    Superseded(String),
    /// The word of who confirms does not count any more.
    #[error("{0}")]
    NotYou(String),
    /// Something else was changed meanwhile; it waits as before.
    #[error("something else was changed meanwhile, and the proposal still waits: confirm it again")]
    Meanwhile,
    /// The change could not be made now.
    #[error("{0}")]
    Change(#[from] ChangeFault),
    /// What is stored of it does not parse.
    #[error("what is stored of the proposal is unreadable: {0}")]
    Unreadable(String),
    /// The store does not answer. If a commit's outcome is unknown, look at the proposal again.
    #[error("the store is not available: {0}")]
    Unavailable(String),
}

impl From<StoreError> for ProposalFault {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<CommitFault> for ProposalFault {
    fn from(fault: CommitFault) -> Self {
        Self::Unavailable(fault.to_string())
    }
}

impl From<ApplyFault> for ProposalFault {
    fn from(fault: ApplyFault) -> Self {
        Self::Change(fault.into())
    }
}

impl ProposalFault {
    /// The reason code in the log, of one who may not confirm.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Unsettled(unsettled) => unsettled.code(),
            Self::NoPerson(_) => "proposal_login_old",
            Self::NotYou(_)
            | Self::TooLong(_)
            | Self::TooMany
            | Self::Reason
            | Self::Superseded(_)
            | Self::Meanwhile
            | Self::Change(_)
            | Self::Unreadable(_)
            | Self::Unavailable(_) => "proposal_not_yours",
        }
    }
}
