//! `/admin/v1/approvals`: what waits for people, and their answers.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, RawQuery, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::api::{RefusalCode, Refused};
use super::asker::Asker;
use crate::approvals::view::{ListedApproval, Wanted};
use crate::approvals::{Answer, Approvals, Ballot, Cast, NotCast, Proved};
use crate::domain::approval::Unmoved;
use crate::domain::ids::ApprovalId;
use crate::introspection::operator::Operator;

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
            NotCast::NoReason
            | NotCast::NarrowedDenial
            | NotCast::NoLifetime
            | NotCast::EnvelopeOfDenial
            | NotCast::EmptyEnvelope
            | NotCast::NoEnvelope
            | NotCast::LargeEnvelope { .. }
            | NotCast::Widens(_) => RefusalCode::BadRequest,
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
        Self::new(error, fault.to_string())
    }
}

/// The id in a path or on the command line.
pub fn id(text: &str) -> Result<ApprovalId, Refused> {
    text.parse().map_err(|bad| Refused::new(RefusalCode::BadRequest, format!("approval: {bad}")))
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

/// With `?all=true` also what is settled. Approvers see their own tenant's.
async fn list(
    State(approvals): State<Approvals>,
    asker: Asker,
    RawQuery(query): RawQuery,
) -> Result<Json<Vec<ListedApproval>>, Refused> {
    let all = query.as_deref() == Some("all=true");
    Ok(Json(approvals.list(&Wanted { all, tenant: asker.only_tenant().cloned() }).await?))
}

async fn show(
    State(approvals): State<Approvals>,
    asker: Asker,
    Path(text): Path<String>,
) -> Result<Json<ListedApproval>, Refused> {
    let id = id(&text)?;
    let approval = approvals.show(id).await?;
    let theirs = asker.only_tenant().is_none_or(|tenant| *tenant == approval.tenant);
    if theirs { Ok(Json(approval)) } else { Err(NotCast::Unknown(id).into()) }
}

type Sent<T> = Result<Json<T>, JsonRejection>;

async fn approve(
    State(approvals): State<Approvals>,
    asker: Asker,
    Path(text): Path<String>,
    sent: Sent<Value>,
) -> Result<Json<Cast>, Refused> {
    vote(&approvals, &asker, &text, true, sent).await
}

async fn deny(
    State(approvals): State<Approvals>,
    asker: Asker,
    Path(text): Path<String>,
    sent: Sent<Value>,
) -> Result<Json<Cast>, Refused> {
    vote(&approvals, &asker, &text, false, sent).await
}

/// Over the socket the session token in the body says who answers; over HTTPS the token of the request does.
async fn vote(
    approvals: &Approvals,
    asker: &Asker,
    text: &str,
    approves: bool,
    sent: Sent<Value>,
) -> Result<Json<Cast>, Refused> {
    let (id, account) = (id(text)?, asker.account());
    let cast = match asker {
        Asker::Account(_) => {
            let ballot = Ballot { approves, ..read(sent)? };
            approvals.vote(id, &ballot, &account).await?
        }
        Asker::Operator(operator) => {
            let answer = Answer { approves, ..read(sent)? };
            approvals.vote_as(id, &answer, &proved(operator), &account).await?
        }
    };
    Ok(Json(cast))
}

fn read<T: DeserializeOwned>(sent: Sent<Value>) -> Result<T, Refused> {
    let Json(value) = sent.map_err(Refused::unreadable)?;
    serde_json::from_value(value)
        .map_err(|why| Refused::new(RefusalCode::BadRequest, format!("the body: {why}")))
}

fn proved(operator: &Operator) -> Proved {
    let Operator { principal, tenant, auth_time, facts, killed_by, .. } = operator.clone();
    Proved { tenant, principal, facts, auth_time, killed_by }
}

async fn cancel(
    State(approvals): State<Approvals>,
    asker: Asker,
    Path(text): Path<String>,
    request: Sent<CancelApproval>,
) -> Result<Json<Cast>, Refused> {
    let Json(CancelApproval { reason }) = request.map_err(Refused::unreadable)?;
    Ok(Json(approvals.cancel(id(&text)?, &reason, &asker.account()).await?))
}
