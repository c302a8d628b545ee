//! `GET /task-types`: what an agent may start, and whom it may hand over to.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::certificate::ShownCertificate;
use super::error::OAuthError;
use super::{Public, Sent, no_store, read_form, trace};
use crate::authentication::Client;
use crate::domain::ids::{ClientId, Name};
use crate::domain::objects::Selector;
use crate::domain::snapshot::{Agent, Edge, Snapshot, TaskType};

/// `GET /task-types`, with client authentication in the `Authorization` header.
pub(super) async fn task_types(
    State(public): State<Public>,
    headers: HeaderMap,
) -> Result<Response, OAuthError> {
    listed(&public, &Sent { headers, form: Vec::new(), certificate: ShownCertificate::default() }).await
}

/// `POST /task-types`, for clients that authenticate in a form: by an assertion, by `client_secret_post`, or by a certificate,
/// which takes a `client_id` in the body.
pub(super) async fn task_types_by_form(
    State(public): State<Public>,
    request: axum::extract::Request,
) -> Result<Response, OAuthError> {
    listed(&public, &read_form(request).await?).await
}

async fn listed(public: &Public, sent: &Sent) -> Result<Response, OAuthError> {
    let world = public.active.load();
    let client = public.client(&world, sent).await?;
    public.admit(&client)?;
    let Client::Agent(agent) = client else {
        let (caller, trace) = ((client.id(), "/task-types"), trace(&sent.headers));
        return Err(public.exchange.refuse_resource(caller, trace, None).await.into());
    };
    let snapshot = &world.snapshot;
    let tenants: Vec<&Name> = snapshot.tenants().filter(|tenant| agent.reach.serves(tenant)).collect();
    let startable: Vec<Value> =
        tenants.iter().flat_map(|tenant| of_tenant(snapshot, tenant, &agent)).collect();
    let hand_overs: Vec<Value> =
        tenants.iter().flat_map(|tenant| hand_overs(snapshot, tenant, &agent)).collect();
    Ok(no_store(Json(json!({ "task_types": startable, "hand_overs": hand_overs })).into_response()))
}

/// The task types in which this agent may hand over, whether it starts the task or is handed it, and to whom. Other
/// agents are told by client id, and only those that serve the tenant too (L10).
fn hand_overs(snapshot: &Snapshot, tenant: &Name, agent: &Agent) -> Vec<Value> {
    let selects = |s: &Selector, a: &Agent| s.selects(&a.spec.client_id, &a.spec.class);
    let others = snapshot.agents().filter(|a| !a.spec.disabled && a.reach.serves(tenant));
    let others: Vec<&Agent> =
        others.map(AsRef::as_ref).filter(|a| a.spec.client_id != agent.spec.client_id).collect();
    let mut listed = Vec::new();
    for task_type in snapshot.task_types().filter(|t| !t.spec.disabled && t.reach.serves(tenant)) {
        let handed = task_type.edges.iter().any(|e| selects(&e.to, agent));
        let hops = match (task_type.may_start(agent), handed) {
            (true, _) => 1,
            (false, true) => 2,
            (false, false) => continue,
        };
        let edge = |e: &Edge| {
            let to: BTreeSet<&ClientId> =
                others.iter().filter(|a| selects(&e.to, a)).map(|a| &a.spec.client_id).collect();
            let (scopes, resources) = (&e.bound.scopes, &e.bound.resources);
            let told = json!({"to": e.to, "agents": to, "scopes": scopes, "resources": resources});
            (!to.is_empty()).then_some(told)
        };
        let edges: Vec<Value> = from_here(task_type, agent).filter_map(edge).collect();
        if task_type.spec.delegation.max_depth >= hops && !edges.is_empty() {
            let start = hops == 1;
            listed
                .push(json!({"tenant": tenant, "task_type": task_type.name, "start": start, "edges": edges}));
        }
    }
    listed
}

/// The edges along which `agent` may hand over.
fn from_here<'a>(task_type: &'a TaskType, agent: &'a Agent) -> impl Iterator<Item = &'a Edge> {
    let selects = |s: &Selector| s.selects(&agent.spec.client_id, &agent.spec.class);
    task_type.edges.iter().filter(move |e| e.from.as_ref().is_none_or(selects))
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
    let edges: Vec<Value> = from_here(task_type, agent)
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
