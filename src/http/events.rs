//! What identity providers send: `POST /events` (RFC 8935) and `POST /backchannel-logout` (OpenID Connect Back-Channel
//! Logout 1.0).

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::error::{BAD_EVENT, OAuthError, event_error, plain};
use super::guard::RefusedEvent;
use super::{Public, form, is_of_type, no_store, read_form};
use crate::issuers::event_fault::EventFault;
use crate::revocation::events::{NotHeard, Sent};

/// `POST /backchannel-logout`: 200 once the sessions are over, whether by this logout token or before (§2.8).
pub(super) async fn backchannel_logout(State(public): State<Public>, request: Request) -> Response {
    let form = match read_form(request).await {
        Ok(sent) => sent.form,
        Err(unread) => return refused(&public, unread, None),
    };
    let token = match form::single(&form, "logout_token") {
        Ok(token) => token,
        Err(why) => {
            let words = format!("logout_token: the parameter {why}");
            return refused(&public, OAuthError::invalid_request(&words), None);
        }
    };
    match public.events.hear(&public.active.load(), Sent::LogoutToken(token)).await {
        Ok(_) => no_store(StatusCode::OK.into_response()),
        Err(NotHeard::Unavailable) => OAuthError::unavailable().into_response(),
        Err(NotHeard::Refused(EventFault::Keys(_))) => OAuthError::sender_keys_unavailable().into_response(),
        Err(NotHeard::Refused(fault)) => refused(&public, OAuthError::bad_logout_token(&fault), Some(&fault)),
    }
}

/// An answer that refuses, marked for the rate of its source. What anybody may have sent is counted here; the rest is recorded.
fn refused(public: &Public, answer: impl IntoResponse, fault: Option<&EventFault>) -> Response {
    if !fault.is_some_and(EventFault::is_proved) {
        public.aggregates.unproved_event();
    }
    let mut response = answer.into_response();
    response.extensions_mut().insert(RefusedEvent);
    response
}

/// `POST /events`: one security event token, pushed. 202 once it is acted upon, or was before; what is no fault of its
/// own is answered 503 and may be sent again [SE-03].
pub(super) async fn events(State(public): State<Public>, request: Request) -> Response {
    let headers = request.headers().clone();
    if !is_of_type(&headers, "application/secevent+jwt") {
        return refused(&public, bad_event(BAD_EVENT, "send application/secevent+jwt"), None);
    }
    // The guard has read and bounded it.
    let Ok(body) = Bytes::from_request(request, &()).await else {
        return OAuthError::too_large().into_response();
    };
    // What is no text is no token either.
    let compact = std::str::from_utf8(&body).unwrap_or_default();
    let sent = Sent::SecurityEvent(compact, bearer(&headers));
    match public.events.hear(&public.active.load(), sent).await {
        Ok(_) => StatusCode::ACCEPTED.into_response(),
        Err(NotHeard::Unavailable) => OAuthError::unavailable().into_response(),
        Err(NotHeard::Refused(EventFault::Keys(_))) => OAuthError::sender_keys_unavailable().into_response(),
        Err(NotHeard::Refused(fault)) => {
            refused(&public, bad_event(event_error(&fault), &fault.to_string()), Some(&fault))
        }
    }
}

/// RFC 8935 §2.3.
fn bad_event(err: &str, description: &str) -> Response {
    let language = [(header::CONTENT_LANGUAGE, HeaderValue::from_static("en"))];
    let body = Json(json!({"err": err, "description": plain(description)}));
    no_store((StatusCode::BAD_REQUEST, language, body).into_response())
}

/// The one bearer credential of a request (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(one), None) = (all.next(), all.next()) else { return None };
    let (scheme, credential) = one.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(credential)
}
