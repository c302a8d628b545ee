//! `/admin/v1/revocations` and `/admin/v1/lockdown`: what admins stop.

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::routing::get;
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::api::{RefusalCode, Refused};
use super::asker::Asker;
use crate::domain::ids::DecisionId;
use crate::domain::record::RevocationKind;
use crate::lockdown::{LockdownFault, LockdownRequest, LockdownState, Lockdowns};
use crate::revocation::Revocation;
use crate::revocation::order::{OrderFault, Revoked};
use crate::revocation::target::Target;
use crate::store::trees::Mark;

/// `POST /admin/v1/revocations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// What to revoke.
    pub target: Target,
    /// Why, for the record.
    pub reason: String,
    /// Whether to count only what would die.
    #[serde(default)]
    pub dry_run: bool,
}

/// One revocation, as `GET /admin/v1/revocations` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedRevocation {
    /// What is revoked.
    pub kind: RevocationKind,
    /// Which one: the parts of its key.
    pub key: Vec<String>,
    /// Why.
    pub reason: String,
    /// The tenant that it lies in, where it lies in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// When it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<DateTime<Utc>>,
    /// What began at or before this is dead, where that is compared.
    pub not_before: DateTime<Utc>,
    /// When the row may go.
    pub keep_until: DateTime<Utc>,
    /// The decision.
    pub decision_id: DecisionId,
}

impl From<Mark> for ListedRevocation {
    fn from(mark: Mark) -> Self {
        Self {
            kind: mark.key.kind,
            key: mark.key.key.split('\n').map(str::to_owned).collect(),
            reason: mark.reason,
            tenant: mark.tenant,
            at: mark.at,
            not_before: mark.not_before,
            keep_until: mark.keep_until,
            decision_id: mark.decision_id,
        }
    }
}

impl From<OrderFault> for Refused {
    fn from(fault: OrderFault) -> Self {
        let error = match &fault {
            OrderFault::Reason | OrderFault::Text(_) => RefusalCode::BadRequest,
            OrderFault::Unknown { .. } => RefusalCode::NotFound,
            OrderFault::Store(_) | OrderFault::Commit(_) => RefusalCode::Unavailable,
        };
        Self::new(error, fault.to_string())
    }
}

impl From<LockdownFault> for Refused {
    fn from(fault: LockdownFault) -> Self {
        let error = match &fault {
            LockdownFault::NoReason => RefusalCode::BadRequest,
            LockdownFault::NoTenant { .. } => RefusalCode::NotFound,
            LockdownFault::Store(_) | LockdownFault::Commit(_) => RefusalCode::Unavailable,
        };
        Self::new(error, fault.to_string())
    }
}

/// Carries a request out, by the word of `account`: what both the socket and a command without a server do.
pub async fn carry_out(
    revocation: &Revocation,
    request: &RevokeRequest,
    account: &str,
) -> Result<Revoked, Refused> {
    let RevokeRequest { target, reason, dry_run } = request;
    Ok(match dry_run {
        true => revocation.dry_run(target, reason).await?,
        false => revocation.order(target, reason, account).await?,
    })
}

/// The latest revocations, as they are listed.
pub async fn listed(revocation: &Revocation) -> Result<Vec<ListedRevocation>, Refused> {
    Ok(revocation.latest().await?.into_iter().map(ListedRevocation::from).collect())
}

pub(super) fn router(revocation: Revocation) -> Router {
    Router::new().route("/admin/v1/revocations", get(list).post(revoke)).with_state(revocation)
}

pub(super) fn lockdown_router(lockdowns: Lockdowns) -> Router {
    Router::new().route("/admin/v1/lockdown", get(state).post(set)).with_state(lockdowns)
}

async fn list(State(revocation): State<Revocation>) -> Result<Json<Vec<ListedRevocation>>, Refused> {
    Ok(Json(listed(&revocation).await?))
}

async fn revoke(
    State(revocation): State<Revocation>,
    asker: Asker,
    request: Result<Json<RevokeRequest>, JsonRejection>,
) -> Result<Json<Revoked>, Refused> {
    let Json(request) = request.map_err(Refused::unreadable)?;
    Ok(Json(carry_out(&revocation, &request, &asker.account()).await?))
}

async fn state(State(lockdowns): State<Lockdowns>) -> Result<Json<LockdownState>, Refused> {
    Ok(Json(lockdowns.state().await?))
}

async fn set(
    State(lockdowns): State<Lockdowns>,
    asker: Asker,
    request: Result<Json<LockdownRequest>, JsonRejection>,
) -> Result<Json<LockdownState>, Refused> {
    let Json(request) = request.map_err(Refused::unreadable)?;
    Ok(Json(lockdowns.set(&request, &asker.account()).await?))
}
