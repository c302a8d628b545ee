//! `GET /admin/v1/login`: what `taskgrant login` has to know before it has a token. Nothing of it is a secret.

use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::configuration::active::Active;
use crate::domain::ids::ClientId;
use crate::domain::objects::SessionTokenKind;
use crate::domain::snapshot::{Agent, Snapshot};

/// Where and how admins sign in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginInfo {
    /// The server's `iss`: its metadata names the token endpoint.
    pub issuer: String,
    /// The resource that the token is for.
    pub resource: String,
    /// The clients that admins work through.
    pub consoles: Vec<Console>,
}

/// A client that admins work through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Console {
    /// Its client id here.
    pub client_id: ClientId,
    /// Where people sign in for it.
    pub sign_in: Vec<SignIn>,
}

/// A client of a trusted issuer through which people sign in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignIn {
    /// The trusted issuer.
    pub issuer: String,
    /// The client there.
    pub client: String,
    /// Which of its tokens are session tokens here.
    pub session_tokens: Vec<SessionTokenKind>,
}

/// The route; `own_issuer` is our `iss`.
pub(super) fn router(active: Active, own_issuer: String) -> Router {
    let told = async move || Json(info(&active.load().snapshot, own_issuer));
    Router::new().route("/admin/v1/login", get(told))
}

fn info(snapshot: &Snapshot, issuer: String) -> LoginInfo {
    let usable = snapshot.agents().filter(|agent| agent.spec.class.is_console() && !agent.spec.disabled);
    let mut consoles: Vec<Console> = usable.map(|agent| console(snapshot, agent)).collect();
    consoles.sort_by(|a, b| a.client_id.cmp(&b.client_id));
    let resource = snapshot.admin_api().map(|api| api.spec.uri.to_string()).unwrap_or_default();
    LoginInfo { issuer, resource, consoles }
}

fn console(snapshot: &Snapshot, agent: &Agent) -> Console {
    let sign_in = agent.spec.upstream_clients.iter().map(|upstream| {
        let trusted = snapshot.issuer(&upstream.issuer);
        // An ID token is for the client that people sign in with; an access token is for this server.
        let accepted = trusted.into_iter().flat_map(|issuer| &issuer.spec.accept);
        let fits = accepted.filter(|a| a.kind != SessionTokenKind::IdToken || a.audience == upstream.client);
        let (issuer, client) = (upstream.issuer.clone(), upstream.client.clone());
        SignIn { issuer, client, session_tokens: fits.map(|accept| accept.kind).collect() }
    });
    Console { client_id: agent.spec.client_id.clone(), sign_in: sign_in.collect() }
}
