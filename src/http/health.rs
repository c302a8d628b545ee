//! `/healthz` without dependencies, `/readyz` with reasons, `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::standing::Standing;
use crate::clock::Clock;
use crate::clock::watch::TimeWatch;
use crate::config::OnError;
use crate::configuration::active::Active;
use crate::issuers::keysets::KeySets;
use crate::lockdown::Lockdowns;
use crate::metrics::{Metrics, Now};
use crate::policy::mode::Mode;
use crate::status::StatusLists;
use crate::store::Store;
use crate::store::writer::Writer;

/// How long it is believed that the store answered, or did not: probes have no rate, and shall cost the store nothing.
const PING_EVERY: Duration = Duration::from_millis(250);
/// How long the store may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the store answers, asked once for all who want to know.
pub struct StoreProbe {
    store: Store,
    last: Mutex<Option<(Instant, bool)>>,
}

impl StoreProbe {
    /// A probe that has not asked yet.
    pub fn new(store: Store) -> Self {
        Self { store, last: Mutex::default() }
    }

    async fn answers(&self) -> bool {
        // Held while the store is asked: who comes meanwhile waits for that answer.
        let mut last = self.last.lock().await;
        if let Some((_, answers)) = last.filter(|(at, _)| at.elapsed() < PING_EVERY) {
            return answers;
        }
        let answers = timeout(PING_TIMEOUT, self.store.ping()).await.is_ok_and(|pinged| pinged.is_ok());
        *last = Some((Instant::now(), answers));
        answers
    }
}

/// What readiness hangs on.
pub struct Readiness {
    /// Whether the server is about to end.
    pub stopping: AtomicBool,
    /// It must answer.
    pub store: StoreProbe,
    /// Its last commit must not have failed.
    pub writer: Writer,
    /// The time must be one that can be believed.
    pub time: TimeWatch,
    /// Among replicas, it must follow the others.
    pub standing: Standing,
    /// Told for information.
    pub active: Active,
    /// Warned of, where it lets faults of policy pass.
    pub on_error: OnError,
    /// By which a mode of the policy ends.
    pub clock: Arc<dyn Clock>,
    /// Told for information: what is issued lives on under lockdown, and may be asked about.
    pub lockdowns: Lockdowns,
    /// Told for information: one issuer that is down makes nothing unready.
    pub key_sets: Arc<KeySets>,
}

impl Readiness {
    /// Why exchanges cannot be decided and recorded; empty when they can.
    async fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.stopping.load(Ordering::Relaxed) {
            reasons.push("the server is stopping".to_owned());
        }
        if self.writer.is_failing() {
            reasons.push("the last commit failed".to_owned());
        }
        if !self.store.answers().await {
            reasons.push("the store does not answer".to_owned());
        }
        reasons.extend(self.time.check().err().map(|fault| fault.to_string()));
        reasons.extend(self.standing.reason());
        reasons
    }
}

impl Readiness {
    fn policy_mode(&self) -> Mode {
        self.active.load().policy.mode(self.clock.now())
    }

    /// What is not as it should be, and makes nothing unready. Why, and whose word it was, is the admin API's.
    fn warnings(&self) -> Vec<String> {
        let mode = match self.policy_mode() {
            Mode::Enforce => None,
            mode @ (Mode::DryRun | Mode::Off) => Some(format!("policy mode `{}`", mode.as_str())),
        };
        let faults =
            (self.on_error != OnError::Deny).then(|| format!("policy.on_error `{}`", self.on_error.as_str()));
        [mode, faults]
            .into_iter()
            .flatten()
            .map(|what| format!("what policy says may not bite: {what}"))
            .collect()
    }
}

/// What the listener for operators needs. Cheap to clone.
#[derive(Clone)]
pub struct Ops {
    /// For `/readyz`.
    pub readiness: Arc<Readiness>,
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// How old the lists are.
    pub status: StatusLists,
    /// How many connections the public listener has open.
    pub connections: Arc<dyn Fn() -> usize + Send + Sync>,
}

/// `GET /healthz`: the process answers.
pub(super) async fn healthz() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

/// `GET /readyz`: 200 when exchanges can be decided and recorded, else 503 with every reason.
pub(super) async fn readyz(State(readiness): State<Arc<Readiness>>) -> Response {
    let reasons = readiness.reasons().await;
    // Counts only: names, addresses and errors are other people's business here, and the admin API's (L10).
    let (usable, unusable): (Vec<_>, Vec<_>) =
        readiness.key_sets.status().into_iter().partition(|set| set.ok);
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "ready": reasons.is_empty(),
        "reasons": reasons,
        "warnings": readiness.warnings(),
        "policy": readiness.active.load().policy.version(),
        "lockdown": readiness.lockdowns.count(),
        "key_sets": {"usable": usable.len(), "unusable": unusable.len()},
    });
    (status, Json(body)).into_response()
}

/// `GET /metrics`, in the text format of OpenMetrics 1.0.
pub(super) async fn metrics(State(ops): State<Ops>) -> Response {
    let lockdown = ops.readiness.lockdowns.count();
    let status = ops.status.state();
    let now = Now {
        policy_mode: ops.readiness.policy_mode().as_str(),
        lockdowns: lockdown.tenants + usize::from(lockdown.all),
        queue: ops.readiness.writer.waiting(),
        connections: (ops.connections)(),
        ready: ops.readiness.reasons().await.is_empty(),
        status_age: status.age,
        status_lists: status.lists,
        status_revoked: status.revoked,
    };
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], ops.metrics.text(now)).into_response()
}
