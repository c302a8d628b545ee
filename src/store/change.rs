//! What may be changed, and what the writer answers: closed enums (DESIGN §7).

use chrono::{DateTime, Utc};
use thiserror::Error;

use super::policy_data::DataRow;
use super::rows::{BundleRow, ObjectRow};
use crate::domain::approval::{Approval, NotFetched, Unmoved, Vote};
use crate::domain::decision::{Decision, Reason};
use crate::domain::envelope::{EnvelopeUse, OpenEnvelope};
use crate::domain::ids::{ApprovalId, DecisionId, Name, ProposalId};
use crate::domain::objects::ObjectRef;
use crate::domain::proposal::{Answered, Proposal, Unsettled};
use crate::domain::record::{Bears, RevocationKey, RevocationKind, TaskRecord, TokenRecord, TreeLimits};
use crate::domain::refusal::Limited;

/// The setting that tells which policy bundle is tried, and for whom it bites.
pub const CANDIDATE: &str = "policy_candidate";
/// The setting that tells the mode of the policy.
pub const MODE: &str = "policy_mode";
/// The setting that tells which data documents the policy has.
pub const DATA: &str = "policy_data";
/// Of all settings those that decisions hang on by themselves.
const DECIDING: [&str; 3] = [CANDIDATE, MODE, DATA];

/// Everything that changes liveness, configuration or the log. What is spent without a decision goes to the same
/// writer by [`Writer::spend`](super::writer::Writer::spend).
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A token is issued, if it can live.
    Issue(Box<Issue>),
    /// Nothing changes but the log and what is spent: a refusal, or a dry run.
    Refuse(Box<Refuse>),
    /// A token that could be issued waits for a person.
    Defer(Box<Defer>),
    /// What waits is answered, given up, or over.
    Settle(Box<Settle>),
    /// Something is revoked.
    Revoke(Box<Revoke>),
    /// A lockdown begins or ends.
    Lockdown(Box<Lockdown>),
    /// An event that an issuer told is acted upon, once.
    Hear(Box<Hear>),
    /// The configuration changes.
    Configure(Box<Configure>),
    /// A change of the configuration waits for a second person, or no longer does.
    Propose(Box<Propose>),
}

/// A token to issue.
#[derive(Clone, Debug, PartialEq)]
pub struct Issue {
    /// The task that begins with it: given exactly when the token has no parent.
    pub task: Option<TaskRecord>,
    /// The token. The ancestors of a child, and its session, are taken from its parent's record.
    pub token: TokenRecord,
    /// SHA-256 of the claims that the parent showed: they must be those that were issued. None for a root.
    pub parent_digest: Option<[u8; 32]>,
    /// How far the tree may have grown with it.
    pub limits: TreeLimits,
    /// What it uses up. All of it, or nothing if the issue loses.
    pub spend: Vec<Spend>,
    /// The assertion that authenticated the client. It is spent also if the issue loses; one that was spent before
    /// makes it lose, whatever else holds.
    pub assertion: Option<Spend>,
    /// The approval that it redeems, if it does: that must be approved, and then is redeemed.
    pub redeems: Option<ApprovalId>,
    /// The envelope that opens with it, where it redeems an approval.
    pub opens: Option<Box<OpenEnvelope>>,
    /// The envelope under which it was decided. Where that has no use left for it nothing is written:
    /// [`Committed::Superseded`].
    pub uses: Option<EnvelopeUse>,
    /// The generation of the configuration that it was decided by. Under another one nothing of it is written:
    /// [`Committed::Superseded`].
    pub generation: i64,
    /// The decision that allowed it.
    pub decision: Decision,
}

/// A token that waits. What is checked of an issue is checked of it, and what that would spend is spent; no token or task is
/// written (DESIGN §4 step 8).
#[derive(Clone, Debug, PartialEq)]
pub struct Defer {
    /// The token as it would be issued now, and the decision to ask.
    pub would_be: Issue,
    /// What waits. One of this id that waits already stays, and only takes over the code.
    pub approval: Approval,
}

/// What becomes of something that waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Settle {
    /// Which.
    pub approval: ApprovalId,
    /// What happens.
    pub how: Settlement,
    /// What, if it is revoked, stops it: what the session of a person who votes hangs on.
    pub killed_by: Vec<(RevocationKey, Bears)>,
    /// The generation of the configuration by which a person may vote; none where nobody does.
    pub generation: Option<i64>,
    /// The decision.
    pub decision: Decision,
}

/// How something that waits goes on.
#[derive(Clone, Debug, PartialEq)]
pub enum Settlement {
    /// A person answers.
    Vote(Vote),
    /// Its time is over. Where it is settled already, nothing is written: [`Committed::Superseded`].
    Expire,
    /// It is given up, or taken back.
    Cancel,
}

/// A decision that issues nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Refuse {
    /// The decision.
    pub decision: Decision,
    /// The assertion that authenticated the client. One that was spent before makes the refusal lose: the answer is
    /// then that of a failed authentication.
    pub assertion: Option<Spend>,
}

/// Something to revoke.
#[derive(Clone, Debug, PartialEq)]
pub struct Revoke {
    /// What dies. An empty list only writes the decision.
    pub keys: Vec<RevocationKey>,
    /// When nothing that it kills can live any more, so that the rows may go.
    pub keep_until: DateTime<Utc>,
    /// Why, for people.
    pub reason: String,
    /// The decision; its tenant is the rows' tenant.
    pub decision: Decision,
}

/// A lockdown to begin or end.
#[derive(Clone, Debug, PartialEq)]
pub struct Lockdown {
    /// Whose; of all tenants if none is named.
    pub tenant: Option<Name>,
    /// Whether it begins.
    pub on: bool,
    /// Why, for people.
    pub reason: String,
    /// The decision.
    pub decision: Decision,
}

/// An event to act upon.
#[derive(Clone, Debug, PartialEq)]
pub struct Hear {
    /// The event. One that was heard before makes it lose: it was acted upon then.
    pub event: Spend,
    /// What dies of it for good, and the decision.
    pub revoke: Revoke,
    /// What else dies of it, but only as far as it began at or before an instant: a login after the event lives on,
    /// however late the event comes.
    pub until: Vec<(RevocationKey, DateTime<Utc>)>,
}

/// What becomes of a change that waits for a second person, as long as it is not carried out: that is a [`Configure`].
#[derive(Clone, Debug, PartialEq)]
pub struct Propose {
    /// Which.
    pub proposal: ProposalId,
    /// What happens.
    pub how: Proposing,
    /// The decision.
    pub decision: Decision,
}

/// How a change begins to wait, or ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Proposing {
    /// It is proposed.
    Make(Box<Proposal>),
    /// Somebody rejects it, or takes it back.
    Reject(Answered),
    /// Its time is over. Where it is settled already, nothing is written: [`Committed::Superseded`].
    Expire(Answered),
    /// It would not do any more what was shown; else as for its expiry.
    Supersede(Answered),
}

/// The proposal that a change of the configuration carries out: confirmed with it, or neither is written.
#[derive(Clone, Debug, PartialEq)]
pub struct CarriesOut {
    /// Which.
    pub proposal: ProposalId,
    /// Its digest, as the second person said it.
    pub digest: String,
    /// Who confirms.
    pub by: Answered,
    /// What, if it is revoked, ends the second person's word.
    pub killed_by: Vec<(RevocationKey, Bears)>,
}

/// A change of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Configure {
    /// New versions of objects; each becomes the current one. A version that exists already makes the change
    /// [`CommitFault::Rejected`]: somebody else published meanwhile.
    pub put: Vec<ObjectRow>,
    /// Objects that shall have no current version any more.
    pub retire: Vec<ObjectRef>,
    /// The policy bundle that comes into force or is tried from now on; one that is kept already stays as it is.
    pub bundle: Option<BundleRow>,
    /// Data documents of the policy; one that is kept already stays as it is.
    pub documents: Vec<DataRow>,
    /// Settings to write over.
    pub settings: Vec<(String, String)>,
    /// The generation of the configuration that it was computed from, as for an issue. None where it stands on none.
    pub base: Option<i64>,
    /// The proposal that it carries out, if it does. One that does not wait any more makes it lose.
    pub carries_out: Option<Box<CarriesOut>>,
    /// The decision.
    pub decision: Decision,
}

impl Configure {
    /// A change that says only that something was done.
    pub fn only(decision: Decision) -> Self {
        let (put, retire, bundle, documents) = (Vec::new(), Vec::new(), None, Vec::new());
        let (settings, base, carries_out) = (Vec::new(), None, None);
        Self { put, retire, bundle, documents, settings, base, carries_out, decision }
    }

    /// Whether decisions may be others after it: then it begins a generation.
    pub(super) fn decides(&self) -> bool {
        let decides = self.settings.iter().any(|(key, _)| DECIDING.contains(&key.as_str()));
        !self.put.is_empty() || !self.retire.is_empty() || self.bundle.is_some() || decides
    }
}

/// Whose single use is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SpendKind {
    /// A client assertion (RFC 7523 §3, `jti`); key: client id and jti, with a line feed between, which neither holds.
    ClientAssertion,
    /// An actor token that proves an instance; key: its issuer and jti.
    ActorToken,
    /// A hand-over token; key: its jti.
    HandOver,
    /// A security event token; key: its issuer and jti.
    SecurityEvent,
    /// A logout token; key: its issuer and jti.
    LogoutToken,
}

impl SpendKind {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientAssertion => "client_assertion",
            Self::ActorToken => "actor_token",
            Self::HandOver => "hand_over",
            Self::SecurityEvent => "security_event",
            Self::LogoutToken => "logout_token",
        }
    }
}

/// One thing that may be used once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    /// What it is.
    pub kind: SpendKind,
    /// Which one.
    pub key: String,
    /// Its expiry plus the verifier's leeway: before that, forgetting it would allow a replay.
    pub keep_until: DateTime<Utc>,
}

/// Proof that a decision is durable: the price of releasing a token (L3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Index of the leaf in the decision log.
    pub index: u64,
    /// The decision.
    pub decision_id: DecisionId,
    /// The writer's time under the lock.
    pub committed_at: DateTime<Utc>,
    /// Where in its tree the token stands that was issued; none for any other change.
    pub place: Option<Place>,
    /// Generation of the configuration after it.
    pub generation: i64,
}

/// Where in the tree of its task a token stands, in the order of commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The how-manieth token of its task, from 1.
    pub task_serial: u64,
    /// The how-manieth child of its parent, from 1; 0 for a root.
    pub sibling: u64,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It is done, and its decision is in the log.
    Done(Receipt),
    /// It lost: the log tells its refusal, and but for an assertion that is spent nothing else was written.
    Lost(Loss, Receipt),
    /// It was decided by a configuration that is no longer in force, or under an envelope that has ended. Nothing was written or
    /// spent: decide again.
    Superseded {
        /// The generation in force.
        generation: i64,
    },
}

/// Why an issue that was allowed is refused by the commit (L4).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Loss {
    /// The parent has no record, or is of another task; or a token without parent starts no task.
    #[error("the parent token has no record")]
    ParentUnknown,
    /// The parent has expired meanwhile.
    #[error("the parent token has expired")]
    ParentExpired,
    /// It, its parent or what they hang on has been revoked.
    #[error("revoked: {}", kind.as_str())]
    Revoked {
        /// What was revoked.
        kind: RevocationKind,
    },
    /// Its tenant, or every one, is under lockdown.
    #[error("new tokens are stopped: lockdown")]
    LockedDown,
    /// Something that may be used once has been, or ended so long before the last token was issued that nobody knows.
    #[error("used before: {}", kind.as_str())]
    AlreadySpent {
        /// What was used.
        kind: SpendKind,
    },
    /// The tree of tokens would be higher than `MAX_HEIGHT`.
    #[error("the tree of tokens would be too high")]
    TreeTooHigh,
    /// The tree has grown as far as it may, or too fast.
    #[error("{}", .0.by.what())]
    TreeLimit(Limited),
    /// Tokens were issued in what is now the future: the clock was set back (DESIGN §7 "Time").
    #[error("the clock is behind the last token that was issued")]
    ClockBehind,
    /// A token of this id has been issued.
    #[error("a token of this id exists")]
    Duplicate,
    /// The approval stays as it is.
    #[error("{0}")]
    Unmoved(Unmoved),
    /// The proposal stays as it is.
    #[error("{0}")]
    Unsettled(Unsettled),
}

impl Loss {
    /// As the log tells it, under the code that the client is told too.
    pub fn reason(self) -> Reason {
        let code = match self {
            Self::ParentUnknown => "parent_unknown",
            Self::ParentExpired => "nothing_left",
            Self::Revoked { kind: RevocationKind::Completion } => "task_ended",
            Self::Revoked { .. } => "revoked",
            Self::LockedDown => "lockdown",
            Self::AlreadySpent { kind: SpendKind::HandOver } => "hand_over_spent",
            Self::AlreadySpent { kind: SpendKind::ActorToken } => "actor_token_replayed",
            Self::AlreadySpent { kind: SpendKind::ClientAssertion } => "client_assertion_replayed",
            Self::AlreadySpent { kind: SpendKind::SecurityEvent | SpendKind::LogoutToken } => "event_seen",
            Self::TreeTooHigh => "token_tree_too_high",
            Self::TreeLimit(limited) => limited.by.code(),
            Self::ClockBehind => "clock_unsteady",
            Self::Duplicate => "duplicate_token_id",
            Self::Unmoved(Unmoved::Voted) => "already_voted",
            Self::Unmoved(unmoved) => NotFetched::from(unmoved).code(),
            Self::Unsettled(unsettled) => unsettled.code(),
        };
        Reason { code: code.to_owned(), message: self.to_string(), public: true }
    }
}

/// Why nothing is known to have been written: the caller answers 503 and hands out no token (L3).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CommitFault {
    /// Too many changes wait already.
    #[error("the writer's queue is full")]
    Full,
    /// The commit failed or its outcome is unknown: something may have been written, the caller may not rely on it.
    #[error("the commit failed or its outcome is unknown")]
    Unavailable,
    /// The database refuses this change's data, alone: trying again does not help.
    #[error("the database refuses this change")]
    Rejected,
}

impl Change {
    /// The decision that it records.
    pub fn decision(&self) -> &Decision {
        match self {
            Self::Issue(issue) => &issue.decision,
            Self::Refuse(refuse) => &refuse.decision,
            Self::Defer(defer) => &defer.would_be.decision,
            Self::Settle(settle) => &settle.decision,
            Self::Revoke(revoke) => &revoke.decision,
            Self::Lockdown(lockdown) => &lockdown.decision,
            Self::Hear(hear) => &hear.revoke.decision,
            Self::Configure(configure) => &configure.decision,
            Self::Propose(propose) => &propose.decision,
        }
    }

    /// All that it spends if it is done, the assertion or event first.
    pub(super) fn spends(&self) -> impl Iterator<Item = &Spend> {
        let (first, rest) = match self {
            Self::Issue(issue) => (issue.assertion.as_ref(), issue.spend.as_slice()),
            Self::Refuse(refuse) => (refuse.assertion.as_ref(), [].as_slice()),
            Self::Defer(defer) => (defer.would_be.assertion.as_ref(), defer.would_be.spend.as_slice()),
            Self::Hear(hear) => (Some(&hear.event), [].as_slice()),
            Self::Revoke(_) | Self::Lockdown(_) | Self::Configure(_) | Self::Propose(_) | Self::Settle(_) => {
                (None, [].as_slice())
            }
        };
        first.into_iter().chain(rest)
    }

    /// The generation of the configuration without which it does not stand, if it stands on one.
    pub(super) fn decided_by(&self) -> Option<i64> {
        match self {
            Self::Issue(issue) => Some(issue.generation),
            Self::Defer(defer) => Some(defer.would_be.generation),
            Self::Settle(settle) => settle.generation,
            Self::Configure(configure) => configure.base,
            Self::Refuse(_) | Self::Revoke(_) | Self::Lockdown(_) | Self::Hear(_) | Self::Propose(_) => None,
        }
    }

    /// The token that it issues, or would if nobody had to be asked.
    pub(super) fn issue(&self) -> Option<&Issue> {
        match self {
            Self::Issue(issue) => Some(issue),
            Self::Defer(defer) => Some(&defer.would_be),
            Self::Refuse(_)
            | Self::Revoke(_)
            | Self::Lockdown(_)
            | Self::Hear(_)
            | Self::Configure(_)
            | Self::Propose(_)
            | Self::Settle(_) => None,
        }
    }

    /// The approval that it changes or makes.
    pub(super) fn approval(&self) -> Option<ApprovalId> {
        match self {
            Self::Issue(issue) => issue.redeems.or(issue.uses.map(|uses| uses.approval)),
            Self::Defer(defer) => Some(defer.approval.id),
            Self::Settle(settle) => Some(settle.approval),
            Self::Refuse(_)
            | Self::Revoke(_)
            | Self::Lockdown(_)
            | Self::Hear(_)
            | Self::Configure(_)
            | Self::Propose(_) => None,
        }
    }

    /// The proposal that it makes, settles or carries out.
    pub(super) fn proposal(&self) -> Option<ProposalId> {
        match self {
            Self::Configure(configure) => configure.carries_out.as_ref().map(|carries| carries.proposal),
            Self::Propose(propose) => Some(propose.proposal),
            Self::Issue(_)
            | Self::Refuse(_)
            | Self::Defer(_)
            | Self::Settle(_)
            | Self::Revoke(_)
            | Self::Lockdown(_)
            | Self::Hear(_) => None,
        }
    }
}

impl From<Issue> for Change {
    fn from(issue: Issue) -> Self {
        Self::Issue(Box::new(issue))
    }
}

impl From<Decision> for Change {
    fn from(refusal: Decision) -> Self {
        Self::Refuse(Box::new(Refuse { decision: refusal, assertion: None }))
    }
}

impl From<Refuse> for Change {
    fn from(refuse: Refuse) -> Self {
        Self::Refuse(Box::new(refuse))
    }
}

impl From<Defer> for Change {
    fn from(defer: Defer) -> Self {
        Self::Defer(Box::new(defer))
    }
}

impl From<Settle> for Change {
    fn from(settle: Settle) -> Self {
        Self::Settle(Box::new(settle))
    }
}

impl From<Revoke> for Change {
    fn from(revoke: Revoke) -> Self {
        Self::Revoke(Box::new(revoke))
    }
}

impl From<Lockdown> for Change {
    fn from(lockdown: Lockdown) -> Self {
        Self::Lockdown(Box::new(lockdown))
    }
}

impl From<Hear> for Change {
    fn from(hear: Hear) -> Self {
        Self::Hear(Box::new(hear))
    }
}

impl From<Configure> for Change {
    fn from(configure: Configure) -> Self {
        Self::Configure(Box::new(configure))
    }
}

impl From<Propose> for Change {
    fn from(propose: Propose) -> Self {
        Self::Propose(Box::new(propose))
    }
}
