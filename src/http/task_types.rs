//! `GET /task-types`: what an agent may start, and whom it may hand over to.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::error::OAuthError;
use super::{Public, no_store, read_form};
use crate::authentication::Client;
use crate::domain::ids::Name;
use crate::domain::snapshot::{Agent, Edge, Snapshot, TaskType};

/// `GET /task-types`, with client authentication in the `Authorization` header.
pub(super) async fn task_types(
    State(public): State<Public>,
    headers: HeaderMap,
) -> Result<Response, OAuthError> {
    listed(&public, &headers, &[]).await
}

/// `POST /task-types`, for clients that authenticate in a form: by an assertion, or by `client_secret_post`.
pub(super) async fn task_types_by_form(
    State(public): State<Public>,
    request: axum::extract::Request,
) -> Result<Response, OAuthError> {
    let (headers, form) = read_form(request).await?;
    listed(&public, &headers, &form).await
}

async fn listed(
    public: &Public,
    headers: &HeaderMap,
    form: &[(String, String)],
) -> Result<Response, OAuthError> {
    let world = public.active.load();
    let client = public.client(&world, headers, form).await?;
    public.admit(&client)?;
    let Client::Agent(agent) = client else {
        return Err(OAuthError::unauthorized_client("a resource starts no tasks"));
    };
    let snapshot = &world.snapshot;
    let tenants = snapshot.tenants().filter(|tenant| agent.reach.serves(tenant));
    let listed: Vec<Value> = tenants.flat_map(|tenant| of_tenant(snapshot, tenant, &agent)).collect();
    Ok(no_store(Json(json!({ "task_types": listed })).into_response()))
}

fn of_tenant(snapshot: &Snapshot, tenant: &Name, agent: &Agent) -> Vec<Value> {
    let startable = snapshot.startable(tenant, agent);
    startable.into_values().map(|task_type| describe(snapshot, tenant, agent, task_type)).collect()
}

fn describe(snapshot: &Snapshot, tenant: &Name, agent: &Agent, task_type: &TaskType) -> Value {
    let spec = &task_type.spec;
    let resources: Vec<Value> = task_type
        .listed
        .keys()
        .filter_map(|uri| snapshot.resource(tenant, uri))
        .map(|r| json!({"name": r.name, "uri": r.spec.uri, "scopes": r.scopes}))
        .collect();
    let from_here =
        |e: &&Edge| e.from.as_ref().is_none_or(|s| s.selects(&agent.spec.client_id, &agent.spec.class));
    let edges: Vec<Value> = task_type
        .edges
        .iter()
        .filter(from_here)
        .map(|e| json!({"to": e.to, "scopes": e.bound.scopes, "resources": e.bound.resources}))
        .collect();
    json!({
        "tenant": tenant,
        "name": task_type.name,
        "version": task_type.version,
        "description": spec.description,
        "scope": task_type.bound.scopes,
        "default_scope": (!task_type.default_scopes.is_empty()).then_some(&task_type.default_scopes),
        "resources": resources,
        "authorization_details": spec.authorization_details,
        "lifetime": spec.lifetime,
        "delegation": {"max_depth": spec.delegation.max_depth, "edges": edges},
        "approval": spec.approval.when,
        "default": agent.spec.default_task_type.as_ref() == Some(&task_type.name),
    })
}
