//! Authorization server metadata (RFC 8414) and the key set (RFC 7517).

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Public;
use super::client_auth::{JWT_BEARER, JWT_SPIFFE};
use crate::domain::built_in::ADMIN_ENDPOINT;
use crate::domain::request::{DEFERRED, TOKEN_EXCHANGE};
use crate::keys::algorithm::Algorithm;
use crate::keys::keyring::MAX_AGE;

/// `GET /.well-known/oauth-authorization-server`, and the `openid-configuration` alias that some clients try.
pub(super) async fn metadata(State(public): State<Public>) -> Response {
    cached(document(&public))
}

/// `GET /oauth/jwks`.
pub(super) async fn jwks(State(public): State<Public>) -> Response {
    cached(public.keys.ring().jwks().clone())
}

/// Clients may keep the metadata and the key set for as long as a new key waits before it signs.
fn cached(document: Value) -> Response {
    let cache_control = [(header::CACHE_CONTROL, format!("public, max-age={}", MAX_AGE.as_secs()))];
    (cache_control, Json(document)).into_response()
}

/// MD-01…03. There is no authorization endpoint, so `response_types_supported` is empty, which RFC 8414 requires
/// to be present; `taskgrant_*` members are ours.
fn document(public: &Public) -> Value {
    let at = |path: &str| format!("{}{path}", public.issuer);
    let mut methods = vec!["client_secret_basic", "client_secret_post", "private_key_jwt", "spiffe_jwt"];
    if public.takes_certificates {
        methods.extend(["tls_client_auth", "self_signed_tls_client_auth", "spiffe_x509"]);
    }
    let algorithms = Algorithm::ALL.map(Algorithm::name);
    let world = public.active.load();
    let platform = |reach: &crate::domain::snapshot::Reach| reach.tenant.is_system() && reach.only.is_none();
    let kinds = world.snapshot.detail_types().iter().filter(|t| platform(&t.reach));
    let mut kinds: Vec<&str> = kinds.map(|t| t.name.as_str()).collect();
    kinds.sort_unstable();
    let ring = public.keys.ring();
    let signing: BTreeSet<&str> =
        ring.published().iter().filter_map(|p| p.key.declared()).map(Algorithm::name).collect();
    let lists = public.status.enabled().then(|| at("/oauth/status"));
    let document = json!({
        "issuer": public.issuer,
        "token_endpoint": at("/oauth/token"),
        "jwks_uri": at("/oauth/jwks"),
        "introspection_endpoint": at("/oauth/introspect"),
        "revocation_endpoint": at("/oauth/revoke"),
        "grant_types_supported": [TOKEN_EXCHANGE, DEFERRED],
        "taskgrant_completion_modes_supported": ["deferred"],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
        "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
        "authorization_details_types_supported": kinds,
        "taskgrant_task_types_endpoint": at("/task-types"),
        "taskgrant_client_assertion_types_supported": [JWT_BEARER, JWT_SPIFFE],
        "taskgrant_subject_token_types_supported": [
            "urn:ietf:params:oauth:token-type:access_token",
            "urn:ietf:params:oauth:token-type:id_token",
            "urn:ietf:params:oauth:token-type:jwt",
        ],
        "taskgrant_requested_token_types_supported": ["urn:ietf:params:oauth:token-type:access_token"],
        "taskgrant_token_signing_alg_values_supported": signing,
    });
    let document = with(document, "status_list_aggregation_endpoint", lists);
    with(document, ADMIN_ENDPOINT, public.admin_url.as_deref().map(str::to_owned))
}

/// A member that is left out where there is nothing to name: lists that are switched off (SL-02), an admin API whose URL is not
/// configured.
fn with(mut document: Value, member: &str, at: Option<String>) -> Value {
    if let (Some(members), Some(at)) = (document.as_object_mut(), at) {
        members.insert(member.to_owned(), at.into());
    }
    document
}
