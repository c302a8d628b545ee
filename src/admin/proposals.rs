//! `/admin/v1/proposals`: changes that wait for a second person, and the answer to one that begins to.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::api::{RefusalCode, Refused};
use super::asker::Asker;
use crate::configuration::apply::Configuration;
use crate::configuration::apply::proposals::{
    ChangeFault, Content, ListedProposal, ProposalFault, ProposalSettled,
};
use crate::configuration::apply::word::Unagreed;
use crate::domain::ids::ProposalId;
use crate::domain::proposal::{Person, Unsettled};
use crate::introspection::operator::Operator;

/// The answer 202 to a change that takes two persons: it waits for the second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proposed {
    /// What waits.
    pub proposal: ListedProposal,
}

/// `POST /admin/v1/proposals/{id}/confirm`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfirmProposal {
    /// The digest that was shown with it.
    pub digest: String,
    /// Why, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `POST /admin/v1/proposals/{id}/reject`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RejectProposal {
    /// Why, for the record.
    pub reason: String,
}

impl From<ChangeFault> for Refused {
    fn from(fault: ChangeFault) -> Self {
        match fault {
            ChangeFault::Apply(fault) => fault.into(),
            ChangeFault::Policy(fault) => fault.into(),
        }
    }
}

impl From<ProposalFault> for Refused {
    fn from(fault: ProposalFault) -> Self {
        let message = fault.to_string();
        let error = match fault {
            ProposalFault::Change(fault) => return fault.into(),
            ProposalFault::TooLong(_) | ProposalFault::Reason => RefusalCode::BadRequest,
            ProposalFault::TooMany | ProposalFault::Meanwhile => RefusalCode::Conflict,
            ProposalFault::Unsettled(unsettled) => of(unsettled),
            ProposalFault::NoPerson(_) | ProposalFault::NotYou(_) => RefusalCode::NotAllowed,
            ProposalFault::Superseded(_) => RefusalCode::ProposalSuperseded,
            ProposalFault::Unreadable(_) | ProposalFault::Unavailable(_) => RefusalCode::Unavailable,
        };
        Self::new(error, message)
    }
}

fn of(unsettled: Unsettled) -> RefusalCode {
    match unsettled {
        Unsettled::Unknown => RefusalCode::NotFound,
        Unsettled::SamePerson => RefusalCode::NotAllowed,
        Unsettled::Is(_) | Unsettled::OtherDigest => RefusalCode::Conflict,
        Unsettled::ProposerRevoked => RefusalCode::ProposalSuperseded,
    }
}

/// How it is told that a change was not agreed on.
pub(super) fn code(unagreed: &Unagreed) -> RefusalCode {
    match unagreed {
        Unagreed::Needed(_) => RefusalCode::TwoPersonsNeeded,
        Unagreed::Superseded | Unagreed::NoProposer => RefusalCode::ProposalSuperseded,
        Unagreed::NoConfirmer => RefusalCode::NotAllowed,
        Unagreed::Lost(_) => RefusalCode::Conflict,
        Unagreed::Unavailable(_) => RefusalCode::Unavailable,
    }
}

/// The answer to a change that may take two persons: what it did, or 202 and what waits of it. `content` is the request, asked for
/// only where it is to be kept.
pub(super) async fn answered<T: Serialize>(
    configuration: &Configuration,
    asker: &Asker,
    done: Result<T, impl Into<ChangeFault>>,
    content: impl Future<Output = Result<Content, Refused>> + Send,
) -> Result<Response, Refused> {
    let fault = match done {
        Ok(done) => return Ok(Json(done).into_response()),
        Err(fault) => fault.into(),
    };
    let (Some(needed), Asker::Operator(operator)) = (fault.needed(), asker) else { return Err(fault.into()) };
    let proposal = configuration.propose(&content.await?, needed.clone(), person(operator)).await?;
    Ok((StatusCode::ACCEPTED, Json(Proposed { proposal })).into_response())
}

fn person(operator: &Operator) -> Person {
    let account = operator.account();
    let Operator { principal, tenant, client, auth_time, facts, killed_by, .. } = operator.clone();
    Person { account, principal, tenant, client_id: client, auth_time, facts, killed_by }
}

/// The id in a path or on the command line.
pub fn id(text: &str) -> Result<ProposalId, Refused> {
    text.parse().map_err(|bad| Refused::new(RefusalCode::BadRequest, format!("proposal: {bad}")))
}

pub(super) fn router(configuration: Configuration) -> Router {
    Router::new()
        .route("/admin/v1/proposals", get(list))
        .route("/admin/v1/proposals/{id}", get(show))
        .route("/admin/v1/proposals/{id}/confirm", post(confirm))
        .route("/admin/v1/proposals/{id}/reject", post(reject))
        .with_state(configuration)
}

/// With `?all=true` also what is settled.
async fn list(
    State(configuration): State<Configuration>,
    RawQuery(query): RawQuery,
) -> Result<Json<Vec<ListedProposal>>, Refused> {
    Ok(Json(configuration.proposals(query.as_deref() == Some("all=true")).await?))
}

async fn show(
    State(configuration): State<Configuration>,
    Path(text): Path<String>,
) -> Result<Json<ListedProposal>, Refused> {
    Ok(Json(configuration.proposal(id(&text)?).await?))
}

/// An account of the machine is no person: the socket confirms nothing.
async fn confirm(
    State(configuration): State<Configuration>,
    asker: Asker,
    Path(text): Path<String>,
    sent: Result<Json<ConfirmProposal>, JsonRejection>,
) -> Result<Json<ProposalSettled>, Refused> {
    let (id, Json(ConfirmProposal { digest, reason })) = (id(&text)?, sent.map_err(Refused::unreadable)?);
    let Asker::Operator(operator) = asker else { return Err(no_person()) };
    Ok(Json(configuration.confirm(id, (&digest, reason.as_deref()), person(&operator)).await?))
}

fn no_person() -> Refused {
    let message = "an account of the machine is no person, and confirms nothing: sign in with `taskgrant login --role approve` and \
                   say --server";
    Refused::new(RefusalCode::NotAllowed, message)
}

async fn reject(
    State(configuration): State<Configuration>,
    asker: Asker,
    Path(text): Path<String>,
    sent: Result<Json<RejectProposal>, JsonRejection>,
) -> Result<Json<ProposalSettled>, Refused> {
    let (id, Json(RejectProposal { reason })) = (id(&text)?, sent.map_err(Refused::unreadable)?);
    let principal = match &asker {
        Asker::Operator(operator) => Some(operator.principal.clone()),
        Asker::Account(_) => None,
    };
    Ok(Json(configuration.reject_proposal(id, &reason, (&asker.account(), principal)).await?))
}
