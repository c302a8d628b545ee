//! Approvals as people see them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::NotCast;
use crate::domain::approval::{Approval, ApprovalState, Vote};
use crate::domain::ids::{ApprovalId, ClientId, DecisionId, Jti, Name};
use crate::store::Store;

/// Most that are listed.
pub(super) const MOST: u32 = 200;

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
}

impl From<Approval> for ListedApproval {
    fn from(approval: Approval) -> Self {
        Self {
            id: approval.id,
            state: approval.state,
            tenant: approval.tenant,
            client_id: approval.client_id,
            created_at: approval.created_at,
            expires_at: approval.expires_at,
            quorum: approval.quorum,
            request: approval.shown,
            votes: approval.votes,
            decision_id: approval.decision_id,
            jti: approval.jti,
        }
    }
}

fn at(now: DateTime<Utc>, approval: Approval) -> ListedApproval {
    let state = approval.state_at(now);
    ListedApproval { state, ..approval.into() }
}

/// What waits at `now`, what ends first first; with `all` also what is settled, the newest first.
pub async fn list(store: &Store, now: DateTime<Utc>, all: bool) -> Result<Vec<ListedApproval>, NotCast> {
    let found = if all { store.approvals(MOST).await? } else { store.waiting(now, MOST).await? };
    Ok(found.into_iter().map(|approval| at(now, approval)).collect())
}

/// The same of one tenant: others do not crowd it out.
pub(super) async fn list_in(
    store: &Store,
    tenant: &Name,
    now: DateTime<Utc>,
    all: bool,
) -> Result<Vec<ListedApproval>, NotCast> {
    let found = if all {
        store.approvals_in(tenant, MOST).await?
    } else {
        store.waiting_in(tenant, now, MOST).await?
    };
    Ok(found.into_iter().map(|approval| at(now, approval)).collect())
}

/// One approval.
pub async fn show(store: &Store, now: DateTime<Utc>, id: ApprovalId) -> Result<ListedApproval, NotCast> {
    let found = store.approval(id).await?.ok_or(NotCast::Unknown(id))?;
    Ok(at(now, found))
}
