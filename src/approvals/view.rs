//! Approvals as people see them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::NotCast;
use crate::domain::approval::{Approval, ApprovalState, Vote};
use crate::domain::envelope::{EnvelopeEnd, EnvelopeTerms};
use crate::domain::ids::{ApprovalId, ClientId, DecisionId, Jti, Name, TaskId};
use crate::domain::objects::ApprovalSpec;
use crate::store::Store;

/// Most that are listed at once.
pub const MOST: u32 = 200;

/// An approval, without what only the server needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListedApproval {
    /// Its id.
    pub id: ApprovalId,
    /// How it stands.
    pub state: ApprovalState,
    /// The tenant.
    pub tenant: Name,
    /// The agent that waits.
    pub client_id: ClientId,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// Until when.
    pub expires_at: DateTime<Utc>,
    /// How many people must approve.
    pub quorum: u32,
    /// What is asked: what the token would be, why a person is asked (`reasons`), and apart from it what the agent says of
    /// itself (`claimed`, untrusted).
    pub request: Value,
    /// The answers.
    pub votes: Vec<Vote>,
    /// The decision that asks.
    pub decision_id: DecisionId,
    /// The token that it was redeemed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<Jti>,
    /// What is approved beyond that token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<ListedEnvelope>,
    /// The most that an approver may give; none where the task type allows no envelope, or nobody can approve any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_give: Option<EnvelopeTerms>,
}

/// An envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedEnvelope {
    /// How many exchanges it is for; where the server shows it alone, by the task type in force.
    pub exchanges: u32,
    /// For how many minutes after the last approval.
    pub minutes: u32,
    /// How many exchanges used it.
    pub used: u32,
    /// Until when.
    pub until: DateTime<Utc>,
    /// The task in which it is good; none before the approval's token is fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<TaskId>,
    /// Why nothing more may use it; none while something may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<EnvelopeEnd>,
}

/// As far as it can be told without the objects in force.
fn envelope(approval: &Approval, now: DateTime<Utc>) -> Option<ListedEnvelope> {
    let Some(open) = &approval.envelope else {
        // Before people have decided, what some of them gave stands in their votes.
        let fetchable = approval.state_at(now) == ApprovalState::Approved;
        let given = approval.envelope_given().filter(|_| fetchable)?;
        let EnvelopeTerms { exchanges, minutes } = given;
        let until = given.until(approval.approved_at()?);
        return Some(ListedEnvelope { exchanges, minutes, used: 0, until, task_id: None, ended: None });
    };
    let EnvelopeTerms { exchanges, minutes } = open.terms;
    Some(ListedEnvelope {
        exchanges,
        minutes,
        used: open.used,
        until: open.ends(open.terms),
        task_id: Some(open.task_id),
        ended: open.left(Some(open.terms), now).err(),
    })
}

impl ListedApproval {
    fn new(now: DateTime<Utc>, approval: Approval) -> Self {
        let (state, envelope) = (approval.state_at(now), envelope(&approval, now));
        Self {
            id: approval.id,
            state,
            tenant: approval.tenant,
            client_id: approval.client_id,
            created_at: approval.created_at,
            expires_at: approval.expires_at,
            quorum: approval.quorum,
            request: approval.shown,
            votes: approval.votes,
            decision_id: approval.decision_id,
            jti: approval.jti,
            envelope,
            may_give: None,
        }
    }
}

/// Which approvals are listed.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Also what is settled, the newest first; else what waits, what ends first first.
    pub all: bool,
    /// Only those behind this one, in that order.
    pub after: Option<ApprovalId>,
    /// Only those of this tenant: others do not crowd it out.
    pub tenant: Option<Name>,
}

/// What is `wanted`, at most [`MOST`], as it stands at `now`. Nothing is behind an approval that is not on record, or of another
/// tenant: that is an error.
pub async fn list(
    store: &Store,
    now: DateTime<Utc>,
    wanted: &Wanted,
) -> Result<Vec<ListedApproval>, NotCast> {
    let tenant = wanted.tenant.as_ref();
    let after = match wanted.after {
        Some(id) => {
            let last = store.approval(id).await?;
            Some(
                last.filter(|last| tenant.is_none_or(|only| *only == last.tenant))
                    .ok_or(NotCast::Unknown(id))?,
            )
        }
        None => None,
    };
    let found = if wanted.all {
        store.approvals((tenant, wanted.after), MOST).await?
    } else {
        store.waiting(now, (tenant, after.as_ref()), MOST).await?
    };
    Ok(found.into_iter().map(|approval| ListedApproval::new(now, approval)).collect())
}

/// The approval behind which more may be listed; none where the list has come to its end.
pub fn goes_on(listed: &[ListedApproval]) -> Option<ApprovalId> {
    let is_full = u32::try_from(listed.len()).is_ok_and(|count| count >= MOST);
    listed.last().filter(|_| is_full).map(|last| last.id)
}

/// One approval.
pub async fn show(store: &Store, now: DateTime<Utc>, id: ApprovalId) -> Result<ListedApproval, NotCast> {
    let found = store.approval(id).await?.ok_or(NotCast::Unknown(id))?;
    Ok(ListedApproval::new(now, found))
}

/// The same with what `spec`, the task type's in force, and revocations mean to envelopes.
pub(super) async fn in_force(
    store: &Store,
    now: DateTime<Utc>,
    approval: Approval,
    spec: &ApprovalSpec,
) -> Result<ListedApproval, NotCast> {
    let left = match approval.envelope_left(spec, now) {
        Some(Ok(_)) if !store.is_envelope_alive(&approval).await? => Some(Err(EnvelopeEnd::Revoked)),
        left => left,
    };
    let mut listed = ListedApproval::new(now, approval);
    listed.may_give = spec.envelope.filter(|_| listed.state == ApprovalState::Pending);
    match (&mut listed.envelope, left) {
        (Some(envelope), Some(Ok(left))) => (envelope.exchanges, envelope.until) = (left.of, left.until),
        (Some(envelope), Some(Err(ended))) => envelope.ended = envelope.ended.or(Some(ended)),
        (_, None) | (None, _) => {}
    }
    Ok(listed)
}
