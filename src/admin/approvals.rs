//! `/admin/v1/approvals`: what waits for people, and their answers.

use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::api::{RefusalCode, Refused};
use super::socket::Peer;
use crate::approvals::view::ListedApproval;
use crate::approvals::{Approvals, Ballot, Cast, NotCast};
use crate::domain::approval::Unmoved;
use crate::domain::ids::ApprovalId;

/// `POST /admin/v1/approvals/{id}/cancel`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelApproval {
    /// Why, for the record.
    pub reason: String,
}

impl From<NotCast> for Refused {
    fn from(fault: NotCast) -> Self {
        let error = match &fault {
            NotCast::Unknown(_) | NotCast::Unmoved(Unmoved::Unknown) => RefusalCode::NotFound,
            NotCast::NoReason | NotCast::NarrowedDenial | NotCast::NoLifetime | NotCast::Widens(_) => {
                RefusalCode::BadRequest
            }
            NotCast::Session(_)
            | NotCast::NoPerson(_)
            | NotCast::IssuerGone
            | NotCast::Acts
            | NotCast::Dead(_)
            | NotCast::OtherTenant(_)
            | NotCast::IsPrincipal
            | NotCast::OwnsAgent(_)
            | NotCast::NotApprover(_) => RefusalCode::NotAllowed,
            NotCast::NoTaskType | NotCast::Unreadable | NotCast::Unmoved(Unmoved::Voted | Unmoved::Is(_)) => {
                RefusalCode::Conflict
            }
            NotCast::Store(_) | NotCast::Commit(_) => RefusalCode::Unavailable,
        };
        Self { error, message: fault.to_string(), faults: Vec::new() }
    }
}

/// The id in a path or on the command line.
pub fn id(text: &str) -> Result<ApprovalId, Refused> {
    text.parse().map_err(|bad| Refused {
        error: RefusalCode::BadRequest,
        message: format!("approval: {bad}"),
        faults: Vec::new(),
    })
}

pub(super) fn router(approvals: Approvals) -> Router {
    Router::new()
        .route("/admin/v1/approvals", get(list))
        .route("/admin/v1/approvals/{id}", get(show))
        .route("/admin/v1/approvals/{id}/approve", post(approve))
        .route("/admin/v1/approvals/{id}/deny", post(deny))
        .route("/admin/v1/approvals/{id}/cancel", post(cancel))
        .with_state(approvals)
}

/// With `?all=true` also what is settled.
async fn list(
    State(approvals): State<Approvals>,
    RawQuery(query): RawQuery,
) -> Result<Json<Vec<ListedApproval>>, Refused> {
    Ok(Json(approvals.list(query.as_deref() == Some("all=true")).await?))
}

async fn show(
    State(approvals): State<Approvals>,
    Path(text): Path<String>,
) -> Result<Json<ListedApproval>, Refused> {
    Ok(Json(approvals.show(id(&text)?).await?))
}

type Sent<T> = Result<Json<T>, JsonRejection>;

async fn approve(
    State(approvals): State<Approvals>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(text): Path<String>,
    ballot: Sent<Ballot>,
) -> Result<Json<Cast>, Refused> {
    vote(&approvals, &peer, &text, true, ballot).await
}

async fn deny(
    State(approvals): State<Approvals>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(text): Path<String>,
    ballot: Sent<Ballot>,
) -> Result<Json<Cast>, Refused> {
    vote(&approvals, &peer, &text, false, ballot).await
}

async fn vote(
    approvals: &Approvals,
    peer: &Peer,
    text: &str,
    approves: bool,
    ballot: Sent<Ballot>,
) -> Result<Json<Cast>, Refused> {
    let Json(ballot) = ballot.map_err(Refused::unreadable)?;
    let ballot = Ballot { approves, ..ballot };
    Ok(Json(approvals.vote(id(text)?, &ballot, &peer.account()).await?))
}

async fn cancel(
    State(approvals): State<Approvals>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(text): Path<String>,
    request: Sent<CancelApproval>,
) -> Result<Json<Cast>, Refused> {
    let Json(CancelApproval { reason }) = request.map_err(Refused::unreadable)?;
    Ok(Json(approvals.cancel(id(&text)?, &reason, &peer.account()).await?))
}
