//! `/healthz` without dependencies, `/readyz` with reasons.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Public;

/// `GET /healthz`: the process answers.
pub(super) async fn healthz() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

/// `GET /readyz`: 200 when exchanges can be decided and recorded, else 503 with every reason.
pub(super) async fn readyz(State(public): State<Public>) -> Response {
    let mut reasons = Vec::new();
    if public.store.ping().await.is_err() {
        reasons.push("the store does not answer".to_owned());
    }
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "ready": reasons.is_empty(),
        "reasons": reasons,
        "policy": public.active.load().policy.version(),
        "issuers": public.key_sets.status(),
    });
    (status, Json(body)).into_response()
}
