//! Why the policy stays as it is.

use thiserror::Error;

use super::super::data::DataFault;
use super::super::kept::of_bundle;
use super::super::word::Unagreed;
use super::super::{ApplyFault, LoadFault};
use crate::policy::data::DataPath;
use crate::policy::suite::Unfit;
use crate::store::error::StoreError;

/// Why the policy stays as it is.
#[derive(Debug, Error)]
pub enum PolicyChangeFault {
    /// The bundle is not fit to decide.
    #[error("{0}; the bundle in force stays in force")]
    Unfit(#[from] Unfit),
    /// The folders hold what another replica has moved on from.
    #[error(
        "the folders hold {0}, which was in force before and was replaced: bring them up to date, or put it in force \
         again with `taskgrant policy rollback {0}`"
    )]
    Stale(String),
    /// It is in force already.
    #[error("{0} is in force already: there is nothing to try")]
    InForce(String),
    /// Another candidate bites.
    #[error(
        "the candidate {0} bites for some principals: say `--shadow` to have another one in its place, which then bites for \
         nobody; `taskgrant policy candidate drop` ends it, and also forgets for whom it is never to bite"
    )]
    Bites(String),
    /// There is no candidate.
    #[error("there is no candidate: `taskgrant policy candidate load` makes one")]
    NoCandidate,
    /// The candidate is another one.
    #[error(
        "the candidate is {0}, which is not the one that is meant: look at it with `taskgrant policy status`, and name it by \
         eight characters or more"
    )]
    OtherCandidate(String),
    /// A mode other than `enforce` without a time, or with one that is too long.
    #[error(
        "for: say for how many seconds, at most {longest} (a day): it ends by itself",
        longest = super::super::mode::LONGEST
    )]
    NoTime,
    /// A time for `enforce`.
    #[error("for: `enforce` has no end: leave the time out")]
    NoEnd,
    /// The reason is empty.
    #[error("reason: say why, for the record")]
    NoReason,
    /// More than all.
    #[error("percent: {0} is more than 100")]
    TooMany(u8),
    /// A list of a canary names too many.
    #[error("{0}: at most {most} names", most = super::super::candidate::MOST_NAMED)]
    TooManyNamed(&'static str),
    /// A canary names somebody that is not declared.
    #[error("`{0}` is not declared: a canary names agents and tenants that there are")]
    NotDeclared(String),
    /// A data document is not taken.
    #[error("{0}; nothing has changed")]
    Data(DataFault),
    /// No document is in force at this path.
    #[error("no document was put at `data.{0}`: `taskgrant policy data list` lists those that were")]
    NoDocument(DataPath),
    /// No such version of a document is kept.
    #[error(
        "no version `{1}` of `data.{0}` was ever in force, or several begin so; `taskgrant policy data list {0}` lists them"
    )]
    NoDataVersion(DataPath, String),
    /// No such bundle is kept.
    #[error("no bundle `{0}` was ever in force, or several begin so; `taskgrant policy status` lists them")]
    Unknown(String),
    /// There is none to go back to.
    #[error("no other bundle was in force before this one")]
    NothingBefore,
    /// Somebody else changed the configuration meanwhile, again and again.
    #[error("the configuration was changed by somebody else meanwhile: try again")]
    Conflict,
    /// One person's word is not enough, or that of two no longer is.
    #[error("{0}")]
    Unagreed(#[from] Unagreed),
    /// The store does not answer. If a commit's outcome is unknown, the change may yet stand: try again.
    #[error("the store is not available: {0}")]
    Unavailable(String),
}

impl From<StoreError> for PolicyChangeFault {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<LoadFault> for PolicyChangeFault {
    fn from(fault: LoadFault) -> Self {
        Self::Unavailable(fault.to_string())
    }
}

impl From<ApplyFault> for PolicyChangeFault {
    fn from(fault: ApplyFault) -> Self {
        match fault {
            ApplyFault::Unagreed(unagreed) => Self::Unagreed(unagreed),
            ApplyFault::Conflict
            | ApplyFault::Documents(_)
            | ApplyFault::Widens(_)
            | ApplyFault::Unavailable(_) => Self::Unavailable(fault.to_string()),
        }
    }
}

/// Why a kept bundle cannot be put in force.
pub(super) fn unfit(fault: LoadFault) -> PolicyChangeFault {
    of_bundle(fault).map_or_else(
        |fault| PolicyChangeFault::Unavailable(fault.to_string()),
        |fault| PolicyChangeFault::Unfit(fault.into()),
    )
}
