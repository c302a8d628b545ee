//! `/admin/v1/…`: what it takes, what it answers, and the routes.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::asker::Asker;
use super::proposals::{self, answered};
use crate::configuration::active::Active;
use crate::configuration::apply::proposals::Content;
use crate::configuration::apply::secrets::{Added, Retired, SecretFault};
use crate::configuration::apply::{ApplyFault, Configuration, Options};
use crate::configuration::documents::Source;
use crate::configuration::fault::Fault;
use crate::domain::ids::ClientId;
use crate::domain::objects::{Object, ObjectRef};
use crate::issuers::keysets::{IssuerStatus, KeySets};

/// Largest request, in bytes.
pub const MAX_BODY: usize = 32 << 20;

/// `POST /admin/v1/apply`: files with their texts, and how to apply them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// The files.
    pub documents: Vec<Source>,
    /// How to apply them.
    #[serde(default)]
    pub options: Options,
}

/// `POST /admin/v1/agent-secrets/add`: whose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddSecret {
    /// The agent.
    pub client_id: ClientId,
}

/// `POST /admin/v1/agent-secrets/retire`: whose, and which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetireSecret {
    /// The agent.
    pub client_id: ClientId,
    /// The secret's id, or the beginning of it; the older of two when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_id: Option<String>,
}

/// Why a request was refused; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// The request itself is malformed.
    BadRequest,
    /// The documents are faulty: `faults` says where.
    ConfigurationFaulty,
    /// The change widens and the request does not allow it: `faults` says where.
    ConfigurationWidens,
    /// Somebody else changed the same object meanwhile: try again.
    Conflict,
    /// A key file cannot be read or written; the keys that serve go on serving.
    KeysFaulty,
    /// The signing keys are not in a state for this: the message says until when, or what to do instead.
    KeyNotReady,
    /// The policy bundle is not fit; the one in force stays in force.
    PolicyUnfit,
    /// The data document is not taken: the message says why.
    DataRefused,
    /// The agent's secrets stay as they are: the message says why.
    SecretRefused,
    /// No token of `taskgrant login` is shown over HTTPS, or none that lives (RFC 6750 §3.1).
    InvalidToken,
    /// The token shown over HTTPS is for another role (RFC 6750 §3.1).
    InsufficientScope,
    /// Who asks may not do this: the message says why.
    NotAllowed,
    /// One person may not do this here, and an account of the machine is none: an administrator proposes it over HTTPS.
    TwoPersonsNeeded,
    /// What was proposed would do something else by now, or its proposer counts no more: it has to be proposed again.
    ProposalSuperseded,
    /// What the request names is not there: the message says what to do instead.
    NotFound,
    /// The store does not answer: try again later.
    Unavailable,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why, for programs.
    pub error: RefusalCode,
    /// Why, for people.
    pub message: String,
    /// What is wrong where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
}

impl Refused {
    /// A refusal that names no places.
    pub fn new(error: RefusalCode, message: impl Into<String>) -> Self {
        Self { error, message: message.into(), faults: Vec::new() }
    }

    /// The refusal of faulty documents.
    pub fn faulty(faults: Vec<Fault>) -> Self {
        ApplyFault::Documents(faults).into()
    }

    /// The refusal of a request that is malformed.
    #[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` calls")]
    pub(super) fn unreadable(rejection: JsonRejection) -> Self {
        Self::new(RefusalCode::BadRequest, rejection.body_text())
    }
}

impl From<ApplyFault> for Refused {
    fn from(fault: ApplyFault) -> Self {
        let message = fault.to_string();
        let (error, faults) = match fault {
            ApplyFault::Documents(faults) => (RefusalCode::ConfigurationFaulty, faults),
            ApplyFault::Widens(faults) => (RefusalCode::ConfigurationWidens, faults),
            ApplyFault::Conflict => (RefusalCode::Conflict, Vec::new()),
            ApplyFault::Unagreed(unagreed) => (proposals::code(&unagreed), Vec::new()),
            ApplyFault::Unavailable(_) => (RefusalCode::Unavailable, Vec::new()),
        };
        Self { error, message, faults }
    }
}

impl From<SecretFault> for Refused {
    fn from(fault: SecretFault) -> Self {
        let message = fault.to_string();
        match fault {
            SecretFault::Apply(fault) => fault.into(),
            SecretFault::NoAgent(_) | SecretFault::Full | SecretFault::NoSecret | SecretFault::Which(_) => {
                Self::new(RefusalCode::SecretRefused, message)
            }
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self.error {
            RefusalCode::BadRequest => StatusCode::BAD_REQUEST,
            RefusalCode::ConfigurationFaulty
            | RefusalCode::ConfigurationWidens
            | RefusalCode::KeysFaulty
            | RefusalCode::DataRefused
            | RefusalCode::PolicyUnfit => StatusCode::UNPROCESSABLE_ENTITY,
            RefusalCode::Conflict
            | RefusalCode::KeyNotReady
            | RefusalCode::SecretRefused
            | RefusalCode::ProposalSuperseded => StatusCode::CONFLICT,
            RefusalCode::InvalidToken => StatusCode::UNAUTHORIZED,
            RefusalCode::InsufficientScope | RefusalCode::NotAllowed | RefusalCode::TwoPersonsNeeded => {
                StatusCode::FORBIDDEN
            }
            RefusalCode::NotFound => StatusCode::NOT_FOUND,
            RefusalCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(self)).into_response()
    }
}

/// One object in force, as `GET /admin/v1/objects` lists it. Of secrets only hashes are stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListedObject {
    /// Which object.
    #[serde(flatten)]
    pub id: ObjectRef,
    /// Its version.
    pub version: i64,
    /// What it says.
    pub spec: Value,
}

impl From<Object> for ListedObject {
    fn from(object: Object) -> Self {
        let spec = serde_json::to_value(&object.spec).unwrap_or_default();
        Self { id: object.id, version: object.version, spec }
    }
}

/// The routes of the admin API.
pub fn router(configuration: Configuration) -> Router {
    Router::new()
        .route("/admin/v1/apply", post(apply))
        .route("/admin/v1/objects", get(objects))
        .route("/admin/v1/agent-secrets/add", post(add_secret))
        .route("/admin/v1/agent-secrets/retire", post(retire_secret))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(configuration)
}

/// What operators see of a running server, as `GET /admin/v1/status` tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Version of the active policy bundle.
    pub policy: String,
    /// The keys of each trusted issuer, and those at each `jwks_uri` of clients.
    pub key_sets: Vec<IssuerStatus>,
}

/// The route that tells the state of the running server.
pub fn status_router(active: Active, key_sets: Arc<KeySets>) -> Router {
    let status = async move || {
        let policy = active.load().policy.version().to_owned();
        Json(ServerStatus { policy, key_sets: key_sets.status() })
    };
    Router::new().route("/admin/v1/status", get(status))
}

async fn apply(
    State(configuration): State<Configuration>,
    asker: Asker,
    request: Result<Json<ApplyRequest>, JsonRejection>,
) -> Result<Response, Refused> {
    let Json(ApplyRequest { documents, options }) = request.map_err(Refused::unreadable)?;
    let documents: Arc<[Source]> = documents.into();
    let applied = configuration.apply(documents.clone(), options, asker.word()).await;
    let content = async { Ok(Content::Apply { documents: documents.to_vec(), options }) };
    answered(&configuration, &asker, applied, content).await
}

async fn add_secret(
    State(configuration): State<Configuration>,
    asker: Asker,
    request: Result<Json<AddSecret>, JsonRejection>,
) -> Result<Json<Added>, Refused> {
    let Json(AddSecret { client_id }) = request.map_err(Refused::unreadable)?;
    Ok(Json(configuration.add_secret(&client_id, &asker.account()).await?))
}

async fn retire_secret(
    State(configuration): State<Configuration>,
    asker: Asker,
    request: Result<Json<RetireSecret>, JsonRejection>,
) -> Result<Json<Retired>, Refused> {
    let Json(RetireSecret { client_id, secret_id }) = request.map_err(Refused::unreadable)?;
    let id = secret_id.as_deref();
    Ok(Json(configuration.retire_secret(&client_id, id, &asker.account()).await?))
}

async fn objects(State(configuration): State<Configuration>) -> Result<Json<Vec<ListedObject>>, Refused> {
    let objects = configuration.objects().await.map_err(ApplyFault::from)?;
    Ok(Json(objects.into_iter().map(ListedObject::from).collect()))
}
