//! `/admin/v1/keys…`: the signing keys.

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::api::{RefusalCode, Refused};
use super::asker::Asker;
use crate::rotation::{KeyInfo, Retired, Rotated, Rotation, RotationFault, Stopped};

/// `POST /admin/v1/keys/stop`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StopRequest {
    /// `kid` of the keys to stop; the one that signs if none is named.
    pub kids: Vec<String>,
    /// Whether to do it; else only what would die is told.
    pub confirmed: bool,
}

/// `POST /admin/v1/keys/retire`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetireRequest {
    /// `kid` of the key to remove; every one that nothing needs any more if it is left out.
    pub kid: Option<String>,
}

impl From<RotationFault> for Refused {
    fn from(fault: RotationFault) -> Self {
        let error = match &fault {
            RotationFault::Keys(_) => RefusalCode::KeysFaulty,
            RotationFault::Waiting { .. }
            | RotationFault::Unknown(_)
            | RotationFault::InUse(_)
            | RotationFault::Needed { .. } => RefusalCode::KeyNotReady,
            RotationFault::Store(_) | RotationFault::Commit(_) => RefusalCode::Unavailable,
        };
        Self::new(error, fault.to_string())
    }
}

pub(super) fn router(rotation: Rotation) -> Router {
    Router::new()
        .route("/admin/v1/keys", get(list))
        .route("/admin/v1/keys/rotate", post(rotate))
        .route("/admin/v1/keys/stop", post(stop))
        .route("/admin/v1/keys/retire", post(retire))
        .route("/admin/v1/keys/reload", post(reload))
        .with_state(rotation)
}

async fn list(State(rotation): State<Rotation>) -> Result<Json<Vec<KeyInfo>>, Refused> {
    Ok(Json(rotation.list().await?))
}

async fn rotate(State(rotation): State<Rotation>, asker: Asker) -> Result<Json<Rotated>, Refused> {
    Ok(Json(rotation.rotate(&asker.account()).await?))
}

async fn stop(
    State(rotation): State<Rotation>,
    asker: Asker,
    request: Result<Json<StopRequest>, JsonRejection>,
) -> Result<Json<Stopped>, Refused> {
    let Json(StopRequest { kids, confirmed }) = request.map_err(Refused::unreadable)?;
    Ok(Json(rotation.stop(&kids, confirmed, &asker.account()).await?))
}

async fn retire(
    State(rotation): State<Rotation>,
    asker: Asker,
    request: Result<Json<RetireRequest>, JsonRejection>,
) -> Result<Json<Retired>, Refused> {
    let Json(RetireRequest { kid }) = request.map_err(Refused::unreadable)?;
    Ok(Json(rotation.retire(kid.as_deref(), &asker.account()).await?))
}

async fn reload(State(rotation): State<Rotation>, asker: Asker) -> Result<Json<Vec<KeyInfo>>, Refused> {
    rotation.reload(&asker.account()).await?;
    list(State(rotation)).await
}
