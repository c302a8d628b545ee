//! `/admin/v1/approvals`: what waits for people, and their answers.

use std::collections::BTreeSet;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, RawQuery, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use openidconnect::url::form_urlencoded;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::api::{RefusalCode, Refused};
use super::asker::Asker;
use crate::approvals::view::{ListedApproval, Wanted};
use crate::approvals::{Answer, Approvals, Ballot, Cast, NotCast, Proved};
use crate::domain::approval::Unmoved;
use crate::domain::ids::{ApprovalId, BadId, shown};
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

/// Approvers see their own tenant's.
async fn list(
    State(approvals): State<Approvals>,
    asker: Asker,
    RawQuery(query): RawQuery,
) -> Result<Json<Vec<ListedApproval>>, Refused> {
    let tenant = asker.only_tenant().cloned();
    Ok(Json(approvals.list(&Wanted { tenant, ..wanted(query.as_deref().unwrap_or_default())? }).await?))
}

/// With `all=true` also what is settled; with `after` only what is behind that approval.
fn wanted(query: &str) -> Result<Wanted, Refused> {
    let bad = |why: String| Refused::new(RefusalCode::BadRequest, why);
    let (mut wanted, mut said) = (Wanted::default(), BTreeSet::new());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match (name.as_ref(), value.as_ref()) {
            ("all", "true") => wanted.all = true,
            ("all", "false") => wanted.all = false,
            ("all", _) => return Err(bad("`all`: say `true` or `false`".to_owned())),
            ("after", id) => {
                wanted.after = Some(id.parse().map_err(|why: BadId| bad(format!("`after`: {why}")))?);
            }
            (other, _) => return Err(bad(format!("`{}`: only `all` and `after` may be said", shown(other)))),
        }
        if !said.insert(name.clone()) {
            return Err(bad(format!("`{name}` is said twice")));
        }
    }
    Ok(wanted)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_said_once_and_by_its_name() {
        let id = "01a1fc73-3aba-7d10-b8a3-5a51ff6afbb4";
        let of =
            |query: &str| wanted(query).map(|wanted| (wanted.all, wanted.after.map(|id| id.to_string())));
        assert_eq!(of("").unwrap(), (false, None));
        assert_eq!(of("all=false").unwrap(), (false, None));
        assert_eq!(of(&format!("after={id}&all=true")).unwrap(), (true, Some(id.to_owned())));
        for (query, told) in [
            ("all=1", "`all`: say `true` or `false`"),
            ("after=x", "`after`: "),
            ("after=", "`after`: "),
            ("all=true&all=true", "`all` is said twice"),
            ("page=2", "`page`: only `all` and `after` may be said"),
        ] {
            let refused = of(query).unwrap_err();
            assert_eq!(refused.error, RefusalCode::BadRequest);
            assert!(refused.message.starts_with(told), "{query}: {}", refused.message);
        }
    }
}
