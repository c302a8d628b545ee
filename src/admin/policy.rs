//! `/admin/v1/policy…`: the bundle in force, and others in its place.

use std::path::PathBuf;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::api::{MAX_BODY, RefusalCode, Refused};
use super::asker::Asker;
use super::proposals::{self, answered};
use crate::configuration::apply::Configuration;
use crate::configuration::apply::candidate::{CanaryOrder, CandidateChanged};
use crate::configuration::apply::mode::ModeOrder;
use crate::configuration::apply::policy::{BundleFile, PolicyChangeFault, PolicyStatus};
use crate::configuration::apply::proposals::Content;

/// `POST /admin/v1/policy/apply`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyPolicy {
    /// The files of the bundle.
    pub files: Vec<BundleFile>,
}

/// `POST /admin/v1/policy/rollback`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RollbackPolicy {
    /// Version to go back to, or the beginning of it; the one before the one in force when left out.
    pub version: Option<String>,
}

/// `POST /admin/v1/policy/candidate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadCandidate {
    /// The files of the bundle.
    pub files: Vec<BundleFile>,
    /// Whether nobody is to be bitten by any candidate from then on, also where the one so far does.
    #[serde(default)]
    pub shadow: bool,
    /// Why, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `POST /admin/v1/policy/candidate/drop`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropCandidate {
    /// Version of the candidate that is meant, or the beginning of it; whichever it is when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why, for the record.
    pub reason: String,
}

/// `POST /admin/v1/policy/promote`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromoteCandidate {
    /// Version of the candidate that is meant, or the beginning of it; whichever it is when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why, for the record.
    pub reason: String,
}

impl From<PolicyChangeFault> for Refused {
    fn from(fault: PolicyChangeFault) -> Self {
        let error = match &fault {
            PolicyChangeFault::Unfit(_) => RefusalCode::PolicyUnfit,
            PolicyChangeFault::Data(_) => RefusalCode::DataRefused,
            PolicyChangeFault::Stale(_)
            | PolicyChangeFault::Conflict
            | PolicyChangeFault::InForce(_)
            | PolicyChangeFault::Bites(_)
            | PolicyChangeFault::OtherCandidate(_) => RefusalCode::Conflict,
            PolicyChangeFault::Unknown(_)
            | PolicyChangeFault::NoDocument(_)
            | PolicyChangeFault::NoDataVersion(..)
            | PolicyChangeFault::NothingBefore
            | PolicyChangeFault::NoCandidate => RefusalCode::NotFound,
            PolicyChangeFault::NoReason
            | PolicyChangeFault::NoTime
            | PolicyChangeFault::NoEnd
            | PolicyChangeFault::TooMany(_)
            | PolicyChangeFault::TooManyNamed(_)
            | PolicyChangeFault::NotDeclared(_) => RefusalCode::BadRequest,
            PolicyChangeFault::Unagreed(unagreed) => proposals::code(unagreed),
            PolicyChangeFault::Unavailable(_) => RefusalCode::Unavailable,
        };
        Self::new(error, fault.to_string())
    }
}

#[derive(Clone)]
struct Policies {
    configuration: Configuration,
    folders: Vec<PathBuf>,
}

/// The routes over `configuration`, whose bundle folders are `folders`.
pub(super) fn router(configuration: Configuration, folders: Vec<PathBuf>) -> Router {
    Router::new()
        .route("/admin/v1/policy", get(status))
        .route("/admin/v1/policy/reload", post(reload))
        .route("/admin/v1/policy/apply", post(apply))
        .route("/admin/v1/policy/rollback", post(rollback))
        .route("/admin/v1/policy/bundles/{version}", get(files))
        .route("/admin/v1/policy/candidate", post(load_candidate))
        .route("/admin/v1/policy/candidate/drop", post(drop_candidate))
        .route("/admin/v1/policy/canary", post(canary))
        .route("/admin/v1/policy/promote", post(promote))
        .route("/admin/v1/policy/mode", post(mode))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Policies { configuration, folders })
}

async fn status(State(policies): State<Policies>) -> Result<Json<PolicyStatus>, Refused> {
    Ok(Json(policies.configuration.policy_status().await?))
}

async fn reload(State(policies): State<Policies>, asker: Asker) -> Result<Response, Refused> {
    let Policies { configuration, folders } = policies;
    let reloaded = configuration.reload_policy(folders.clone(), asker.word()).await;
    let content = async { Ok(configuration.folder_content(folders).await?) };
    answered(&configuration, &asker, reloaded, content).await
}

async fn apply(
    State(policies): State<Policies>,
    asker: Asker,
    request: Result<Json<ApplyPolicy>, JsonRejection>,
) -> Result<Response, Refused> {
    let Json(ApplyPolicy { files }) = request.map_err(Refused::unreadable)?;
    let applied = policies.configuration.apply_policy(files.clone(), asker.word()).await;
    answered(&policies.configuration, &asker, applied, async { Ok(Content::Policy { files }) }).await
}

async fn rollback(
    State(policies): State<Policies>,
    asker: Asker,
    request: Result<Json<RollbackPolicy>, JsonRejection>,
) -> Result<Response, Refused> {
    let Json(RollbackPolicy { version }) = request.map_err(Refused::unreadable)?;
    let back = policies.configuration.roll_back_policy(version.as_deref(), asker.word()).await;
    // Without a version it is the last one, which takes nobody else.
    let content = async { Ok(Content::Rollback { version: version.unwrap_or_default() }) };
    answered(&policies.configuration, &asker, back, content).await
}

async fn files(
    State(policies): State<Policies>,
    Path(version): Path<String>,
) -> Result<Json<Vec<BundleFile>>, Refused> {
    Ok(Json(policies.configuration.policy_files(&version).await?))
}

async fn load_candidate(
    State(policies): State<Policies>,
    asker: Asker,
    request: Result<Json<LoadCandidate>, JsonRejection>,
) -> Result<Json<CandidateChanged>, Refused> {
    let Json(LoadCandidate { files, shadow, reason }) = request.map_err(Refused::unreadable)?;
    let (why, account) = (reason.as_deref(), asker.account());
    Ok(Json(policies.configuration.load_candidate(files, shadow, (why, &account)).await?))
}

async fn drop_candidate(
    State(policies): State<Policies>,
    asker: Asker,
    request: Result<Json<DropCandidate>, JsonRejection>,
) -> Result<Json<CandidateChanged>, Refused> {
    let Json(DropCandidate { version, reason }) = request.map_err(Refused::unreadable)?;
    Ok(Json(policies.configuration.drop_candidate(version, &reason, &asker.account()).await?))
}

async fn canary(
    State(policies): State<Policies>,
    asker: Asker,
    request: Result<Json<CanaryOrder>, JsonRejection>,
) -> Result<Response, Refused> {
    let Json(order) = request.map_err(Refused::unreadable)?;
    let set = policies.configuration.set_canary(order.clone(), asker.word()).await;
    answered(&policies.configuration, &asker, set, async { Ok(Content::Canary(order)) }).await
}

async fn mode(
    State(policies): State<Policies>,
    asker: Asker,
    request: Result<Json<ModeOrder>, JsonRejection>,
) -> Result<Response, Refused> {
    let Json(order) = request.map_err(Refused::unreadable)?;
    let set = policies.configuration.set_policy_mode(order.clone(), asker.word()).await;
    answered(&policies.configuration, &asker, set, async { Ok(Content::Mode(order)) }).await
}

async fn promote(
    State(policies): State<Policies>,
    asker: Asker,
    request: Result<Json<PromoteCandidate>, JsonRejection>,
) -> Result<Response, Refused> {
    let Json(PromoteCandidate { version, reason }) = request.map_err(Refused::unreadable)?;
    let Policies { configuration, .. } = policies;
    let promoted = configuration.promote_candidate(version.as_deref(), &reason, asker.word()).await;
    answered(&configuration, &asker, promoted, async { Ok(Content::Promote { version, reason }) }).await
}
