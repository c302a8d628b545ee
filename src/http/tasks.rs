//! `GET /tasks/{id}` and `POST /tasks/{id}/complete`: a task's tokens, and its end.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};

use super::certificate::ShownCertificate;
use super::error::OAuthError;
use super::{Public, Sent, form, no_store, read_form, trace};
use crate::authentication::Client;
use crate::domain::ids::TaskId;
use crate::domain::snapshot::Agent;
use crate::tasks::{ClaimedOutcome, NotCompleted, Viewer};

type Id = Result<Path<String>, PathRejection>;

/// `GET /tasks/{id}`, with client authentication in the `Authorization` header.
pub(super) async fn task(
    State(public): State<Public>,
    id: Id,
    headers: HeaderMap,
) -> Result<Response, OAuthError> {
    let sent = Sent { headers, form: Vec::new(), certificate: ShownCertificate::default() };
    shown(&public, &sent, id).await
}

/// `POST /tasks/{id}`, for clients that authenticate in a form: by an assertion, by `client_secret_post`, or by a certificate.
pub(super) async fn task_by_form(
    State(public): State<Public>,
    id: Id,
    request: Request,
) -> Result<Response, OAuthError> {
    shown(&public, &read_form(request).await?, id).await
}

async fn shown(public: &Public, sent: &Sent, id: Id) -> Result<Response, OAuthError> {
    let world = public.active.load();
    let client = public.client(&world, sent).await?;
    public.admit(&client)?;
    let agent = agent(public, client, &sent.headers).await?;
    let id = task_id(id)?;
    let view = public.tasks.view(Viewer::Agent(&agent), id).await.map_err(|_| OAuthError::unavailable())?;
    let view = view.ok_or_else(OAuthError::task_unknown)?;
    Ok(no_store(Json(view).into_response()))
}

/// `POST /tasks/{id}/complete`: like a revocation, it is never held up by a rate.
pub(super) async fn complete(
    State(public): State<Public>,
    id: Id,
    request: Request,
) -> Result<Response, OAuthError> {
    let sent = read_form(request).await?;
    let world = public.active.load();
    let client = public.client(&world, &sent).await?;
    let agent = agent(&public, client, &sent.headers).await?;
    let (id, outcome) = (task_id(id)?, outcome(&sent.form)?);
    match public.tasks.complete(&agent, id, outcome).await {
        Ok(completed) => Ok(no_store(Json(completed).into_response())),
        Err(NotCompleted::Unknown) => Err(OAuthError::task_unknown()),
        Err(NotCompleted::NotYours { decision_id }) => Err(OAuthError::task_not_yours(decision_id)),
        Err(NotCompleted::Unavailable) => Err(OAuthError::unavailable()),
    }
}

/// The caller, which must be an agent.
async fn agent(public: &Public, client: Client, headers: &HeaderMap) -> Result<Arc<Agent>, OAuthError> {
    match client {
        Client::Agent(agent) => Ok(agent),
        Client::Resource(_) => {
            let (caller, trace) = ((client.id(), "/tasks"), trace(headers));
            Err(public.exchange.refuse_resource(caller, trace, None).await.into())
        }
    }
}

/// What is no id at all is the id of no task.
fn task_id(id: Id) -> Result<TaskId, OAuthError> {
    id.ok().and_then(|Path(id)| id.parse().ok()).ok_or_else(OAuthError::task_unknown)
}

fn outcome(form: &[(String, String)]) -> Result<Option<ClaimedOutcome>, OAuthError> {
    if form.iter().filter(|(key, _)| key == "outcome").count() > 1 {
        return Err(OAuthError::invalid_request("outcome: the parameter is sent more than once"));
    }
    let Some(word) = form::value(form, "outcome") else { return Ok(None) };
    let unknown = || OAuthError::invalid_request(&format!("outcome: one of {}", ClaimedOutcome::WORDS));
    ClaimedOutcome::parse(word).map(Some).ok_or_else(unknown)
}
