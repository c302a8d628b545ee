//! The public HTTP surface; with `admin` the only layer that knows axum.

mod certificate;
mod client_auth;
mod discovery;
mod error;
mod events;
pub mod form;
pub mod guard;
pub mod health;
mod introspect;
pub mod link;
pub mod source;
pub mod standing;
mod status;
mod task_types;
mod tasks;
mod token;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{FromRequest as _, Request};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};

use crate::aggregates::Aggregates;
use crate::approvals::Approvals;
use crate::authentication::{Authenticated, Authentication, Client};
use crate::configuration::active::{Active, InForce};
use crate::exchange::Exchange;
use crate::introspection::Introspection;
use crate::keys::live::LiveKeys;
use crate::limits::Limits;
use crate::revocation::Revocation;
use crate::revocation::events::Events;
use crate::status::StatusLists;
use crate::tasks::Tasks;
use certificate::ShownCertificate;
use error::OAuthError;
use health::{Ops, Readiness};

/// Most bytes of a request body.
const MAX_BODY: usize = 64 * 1024;

/// For liveness. Neither probe counts against the rate of its address.
const HEALTHZ: &str = "/healthz";
/// For readiness.
const READYZ: &str = "/readyz";

/// What the public endpoints need. Cheap to clone.
#[derive(Clone)]
pub struct Public {
    /// Our `iss`, the base of all published URLs.
    pub issuer: Arc<str>,
    /// Objects and policy in force.
    pub active: Active,
    /// Published keys.
    pub keys: LiveKeys,
    /// Client authentication.
    pub authentication: Authentication,
    /// The main use case.
    pub exchange: Exchange,
    /// Introspection.
    pub introspection: Introspection,
    /// Revocation.
    pub revocation: Revocation,
    /// What identity providers tell.
    pub events: Events,
    /// Tasks.
    pub tasks: Tasks,
    /// Approvals.
    pub approvals: Approvals,
    /// For `/readyz`.
    pub readiness: Arc<Readiness>,
    /// Failed client authentications and refused events, recorded as aggregates.
    pub aggregates: Arc<Aggregates>,
    /// Status lists.
    pub status: StatusLists,
    /// Rates of callers.
    pub limits: Arc<Limits>,
    /// Whether a client can show a certificate, here or to a proxy.
    pub takes_certificates: bool,
    /// URL that administrators reach the admin API by, where it is configured.
    pub admin_url: Option<Arc<str>>,
}

impl Public {
    /// Authenticates the caller of an endpoint that commits its answer; a failure is counted for the aggregate, at
    /// every endpoint alike (L12).
    async fn authenticate(&self, world: &InForce, sent: &Sent) -> Result<Authenticated, OAuthError> {
        let shown = client_auth::shown(sent).inspect_err(|_| self.aggregates.unauthenticated())?;
        let authenticated = self.authentication.authenticate(world, &shown).await;
        Ok(authenticated.inspect_err(|_| self.aggregates.unauthenticated())?)
    }

    /// The same for an endpoint that commits nothing by itself: an assertion is spent before it answers.
    async fn client(&self, world: &InForce, sent: &Sent) -> Result<Client, OAuthError> {
        let shown = client_auth::shown(sent).inspect_err(|_| self.aggregates.unauthenticated())?;
        let authenticated = self.authentication.authenticate_and_spend(world, &shown).await;
        Ok(authenticated.inspect_err(|_| self.aggregates.unauthenticated())?)
    }

    /// Counts a request that decides nothing against its client's rate. Exchanges count themselves, since their refusal
    /// is recorded; revocations are never held up.
    fn admit(&self, client: &Client) -> Result<(), OAuthError> {
        self.limits.client(client.id()).map_err(OAuthError::limited)
    }
}

/// All public routes, under the path of the issuer; well-known documents go before that path (RFC 8414 §3.1, MD-01).
pub fn router(public: Public) -> Router {
    let path = issuer_path(&public.issuer).to_owned();
    let wrong_method = || async { OAuthError::method_not_allowed() };
    let endpoints = Router::new()
        .route("/oauth/token", post(token::token).fallback(wrong_method))
        .route("/oauth/introspect", post(introspect::introspect).fallback(wrong_method))
        .route("/oauth/revoke", post(introspect::revoke).fallback(wrong_method))
        .route("/oauth/jwks", get(discovery::jwks))
        .route("/events", post(events::events).fallback(wrong_method))
        .route("/backchannel-logout", post(events::backchannel_logout).fallback(wrong_method))
        .route("/oauth/status", get(status::lists))
        .route("/oauth/status/{list}", get(status::list))
        .route("/task-types", get(task_types::task_types).post(task_types::task_types_by_form))
        .route("/tasks/{id}", get(tasks::task).post(tasks::task_by_form))
        .route("/tasks/{id}/complete", post(tasks::complete).fallback(wrong_method))
        .route("/.well-known/openid-configuration", get(discovery::metadata));
    let mut router = Router::new()
        .route(&format!("/.well-known/oauth-authorization-server{path}"), get(discovery::metadata))
        .route(HEALTHZ, get(health::healthz))
        .route(READYZ, get(health::readyz).with_state(public.readiness.clone()));
    router = if path.is_empty() {
        router.merge(endpoints)
    } else {
        let alias = format!("/.well-known/openid-configuration{path}");
        router.route(&alias, get(discovery::metadata)).nest(&path, endpoints)
    };
    router.fallback(|| async { OAuthError::not_found() }).with_state(public)
}

/// The routes of the listener for operators.
pub fn ops_router(ops: Ops) -> Router {
    Router::new()
        .route("/metrics", get(health::metrics))
        .route(HEALTHZ, get(health::healthz))
        .route(READYZ, get(health::readyz).with_state(ops.readiness.clone()))
        .with_state(ops)
}

/// The path of the issuer URL, without a trailing slash: empty for `https://host`.
fn issuer_path(issuer: &str) -> &str {
    let after = issuer.split_once("://").map_or(issuer, |(_, rest)| rest);
    after.find('/').and_then(|at| after.get(at..)).unwrap_or_default()
}

/// What of a request is looked at.
struct Sent {
    headers: HeaderMap,
    /// The parameters of the body, in order; none where there is no body.
    form: Vec<(String, String)>,
    /// The certificate of the client.
    certificate: ShownCertificate,
}

/// Whether the body says that it is of this media type.
fn is_of_type(headers: &HeaderMap, wanted: &str) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(wanted)
}

/// Reads a form body: media type, size and encoding are checked before anything is believed (TX-02).
async fn read_form(request: Request) -> Result<Sent, OAuthError> {
    let headers = request.headers().clone();
    let certificate = request.extensions().get().cloned().unwrap_or_default();
    if !is_of_type(&headers, "application/x-www-form-urlencoded") {
        return Err(OAuthError::not_a_form());
    }
    // The guard has read and bounded it.
    let body = Bytes::from_request(request, &()).await.map_err(|_| OAuthError::too_large())?;
    let form = form::parse(&body).map_err(|bad| OAuthError::invalid_request(&bad.to_string()))?;
    Ok(Sent { headers, form, certificate })
}

/// A well-formed `traceparent` (W3C Trace Context §3.2): 55 characters of the version-00 shape, ids not all zero.
fn trace(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, span, flags] = parts.as_slice() else { return None };
    let hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let real = |part: &str| part.bytes().any(|b| b != b'0');
    let well_formed = hex(version, 2) && *version != "ff" && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    (well_formed && real(trace) && real(span)).then(|| text.to_owned())
}

/// Marks an answer that holds tokens or claims (RFC 6749 §5.1).
fn no_store(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response.into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md_01_the_issuer_path_is_what_follows_the_host() {
        assert_eq!(issuer_path("https://tg.example"), "");
        assert_eq!(issuer_path("https://tg.example/tenant1"), "/tenant1");
    }

    #[test]
    fn tr_01_a_malformed_traceparent_is_dropped() {
        let read = |text: &str| {
            let headers =
                [(header::HeaderName::from_static("traceparent"), HeaderValue::from_str(text).unwrap())];
            trace(&headers.into_iter().collect())
        };
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(read(good).as_deref(), Some(good));
        assert_eq!(read("00-00000000000000000000000000000000-00f067aa0ba902b7-01"), None);
        assert_eq!(read(&good.to_uppercase()), None);
        assert_eq!(read("00-short-00f067aa0ba902b7-01"), None);
    }
}
