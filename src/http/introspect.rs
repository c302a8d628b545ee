//! `POST /oauth/introspect` (RFC 7662) and `POST /oauth/revoke` (RFC 7009).

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tracing::warn;

use super::error::OAuthError;
use super::{Public, form, no_store, read_form};
use crate::authentication::Client;
use crate::domain::request::DeferralCode;
use crate::introspection::Caller;
use crate::revocation::WhyNot;

/// `POST /oauth/introspect`: what is not live, not known or not the caller's business is `{"active":false}` (IN-01).
pub(super) async fn introspect(
    State(public): State<Public>,
    request: axum::extract::Request,
) -> Result<Response, OAuthError> {
    let sent = read_form(request).await?;
    let world = public.active.load();
    let client = public.client(&world, &sent).await?;
    public.admit(&client)?;
    let token = token_parameter(&sent.form).map_err(|why| OAuthError::invalid_request(&why.to_string()))?;
    let caller = match &client {
        Client::Agent(agent) => Caller::Agent(agent),
        Client::Resource(resource) => Caller::Resource(resource),
    };
    let active = public.introspection.run(&world, caller, token).await.map_err(|fault| {
        warn!(%fault, "the state of a token cannot be read");
        OAuthError::unavailable()
    })?;
    let answer = active.map_or_else(|| json!({"active": false}), |claims| json!(claims));
    Ok(no_store(Json(answer).into_response()))
}

/// `POST /oauth/revoke`: 200 for a token that is revoked now or was never alive (RV-01). The code of a deferred exchange gives
/// that up (STANDARDS §11.4).
pub(super) async fn revoke(
    State(public): State<Public>,
    request: axum::extract::Request,
) -> Result<Response, OAuthError> {
    let sent = read_form(request).await?;
    let world = public.active.load();
    let client = public.client(&world, &sent).await?;
    let refuse = |why| public.revocation.refuse(client.id(), why);
    let Client::Agent(agent) = &client else { return Err(refuse(WhyNot::NotAnAgent).await.into()) };
    match token_parameter(&sent.form) {
        Ok(code) if code.starts_with(DeferralCode::PREFIX) => {
            let given_up = public.approvals.give_up(agent, &DeferralCode::sent(code)).await;
            given_up.map_err(|fault| {
                warn!(%fault, "a deferred exchange is not given up");
                OAuthError::unavailable()
            })?;
        }
        Ok(token) => public.revocation.revoke_own(&public.keys, agent, token).await?,
        Err(why) => return Err(refuse(why).await.into()),
    }
    Ok(no_store(StatusCode::OK.into_response()))
}

fn token_parameter(form: &[(String, String)]) -> Result<&str, WhyNot> {
    form::single(form, "token").map_err(WhyNot::Token)
}
