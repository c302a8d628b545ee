//! `POST /oauth/token`: the form, client authentication, the answer (RFC 8693 §2).

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use super::error::OAuthError;
use super::{Public, no_store, read_form, trace};
use crate::authentication::{Authenticated, Client};
use crate::domain::request::ACCESS_TOKEN;
use crate::exchange::{Asked, Issued};

/// `POST /oauth/token` (RFC 8693 §2.1).
pub(super) async fn token(
    State(public): State<Public>,
    request: axum::extract::Request,
) -> Result<Response, OAuthError> {
    let sent = read_form(request).await?;
    let world = public.active.load();
    let Authenticated { client, assertion } = public.authenticate(&world, &sent).await?;
    let trace = trace(&sent.headers);
    let agent = match client {
        Client::Agent(agent) => agent,
        Client::Resource(_) => {
            return Err(public
                .exchange
                .refuse_resource((client.id(), "/oauth/token"), trace, assertion)
                .await
                .into());
        }
    };
    let asked = Asked { agent, form: &sent.form, trace, assertion };
    let issued = public.exchange.run(asked).await?;
    Ok(no_store(Json(answer(issued)).into_response()))
}

/// The members of a success answer (RFC 8693 §2.2.1): `scope` always, a refresh token never.
fn answer(issued: Issued) -> Value {
    let mut body = Map::new();
    let mut put = |key: &str, value: Value| drop(body.insert(key.to_owned(), value));
    if let Some(token) = issued.token {
        put("access_token", token.into());
        put("issued_token_type", ACCESS_TOKEN.into());
        put("token_type", "Bearer".into());
    } else {
        put("dry_run", true.into());
        put("resource", issued.resources.into());
    }
    put("expires_in", issued.expires_in.into());
    put("scope", issued.scope.into());
    if let Some(details) = issued.authorization_details {
        put("authorization_details", details);
    }
    if !issued.narrowed.is_empty() {
        put("narrowed", issued.narrowed.into());
    }
    put("decision_id", issued.decision_id.to_string().into());
    if let Some(task_id) = issued.task_id {
        put("task_id", task_id.to_string().into());
    }
    Value::Object(body)
}
