//! What operators can watch (Prometheus text format). Labels are closed lists, or names that admins gave: callers never
//! make a new series.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Most task types with series of their own; later ones count as `other`.
const MOST_TASK_TYPES: usize = 256;
/// Upper ends of the buckets of a latency, in seconds.
const LATENCIES: [f64; 12] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0];
/// Upper ends of the buckets of a number of changes.
const BATCHES: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Exchanged {
    outcome: &'static str,
    reason_code: String,
    task_type: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tried {
    change: &'static str,
    bites: &'static str,
    task_type: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LetPass {
    mode: String,
    change: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InMode {
    mode: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Result {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct What {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Heard {
    kind: &'static str,
    outcome: &'static str,
    reason_code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct By {
    by: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct In {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    table: &'static str,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A token was issued.
    Issued,
    /// It would have been, but for `dry_run`.
    DryRun,
    /// It waits for a person: deferred just now, or polled.
    Waits,
    /// Refused, and recorded.
    Refused,
    /// It could not be recorded.
    Unavailable,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::DryRun => "dry_run",
            Self::Waits => "waits",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What is read at the moment of asking.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Changes that wait to be committed.
    pub queue: usize,
    /// Open connections of the public listener.
    pub connections: usize,
    /// Whether `/readyz` says so.
    pub ready: bool,
    /// The mode of the policy.
    pub policy_mode: &'static str,
    /// Lockdowns in force.
    pub lockdowns: usize,
    /// Seconds since the moment that the served status lists tell of.
    pub status_age: i64,
    /// Status lists that are served.
    pub status_lists: usize,
    /// Bits that are set in them.
    pub status_revoked: u64,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// All metrics of one process.
pub struct Metrics {
    registry: Registry,
    task_types: Mutex<BTreeSet<String>>,
    exchanges: Family<Exchanged, Counter>,
    exchange_seconds: Histograms<Ended>,
    policy_seconds: Histogram,
    policy_changes: Family<Result, Counter>,
    policy_refused: Gauge,
    policy_mode: Family<InMode, Gauge>,
    policy_let_pass: Family<LetPass, Counter>,
    candidate_compared: Family<Tried, Counter>,
    candidate_faults: Counter,
    candidate_pauses: Counter,
    candidate_seconds: Histogram,
    commits: Family<Result, Counter>,
    commit_seconds: Histogram,
    commit_changes: Histogram,
    key_fetches: Family<Result, Counter>,
    rate_limited: Family<By, Counter>,
    approvals: Family<By, Counter>,
    proposals: Family<By, Counter>,
    notifications: Family<Result, Counter>,
    authentication_failures: Counter,
    events: Family<Heard, Counter>,
    panics: Counter,
    revocations: Family<What, Counter>,
    pruned: Family<Of, Counter>,
    pruning_behind: Gauge,
    lockdowns: Gauge,
    replicas: Family<In, Gauge>,
    replica_reports: Family<Result, Counter>,
    connections_closed: Family<By, Counter>,
    queue: Gauge,
    connections: Gauge,
    ready: Gauge,
    status_age: Gauge,
    status_lists: Gauge,
    status_revoked: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn result(ok: bool) -> &'static str {
    if ok { "ok" } else { "failed" }
}

fn latency() -> Histogram {
    Histogram::new(LATENCIES)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("taskgrant"),
            task_types: Mutex::default(),
            exchanges: Family::default(),
            exchange_seconds: Family::new_with_constructor(latency),
            policy_seconds: latency(),
            policy_changes: Family::default(),
            policy_refused: Gauge::default(),
            policy_mode: Family::default(),
            policy_let_pass: Family::default(),
            candidate_compared: Family::default(),
            candidate_faults: Counter::default(),
            candidate_pauses: Counter::default(),
            candidate_seconds: latency(),
            commits: Family::default(),
            commit_seconds: latency(),
            commit_changes: Histogram::new(BATCHES),
            key_fetches: Family::default(),
            rate_limited: Family::default(),
            approvals: Family::default(),
            proposals: Family::default(),
            notifications: Family::default(),
            authentication_failures: Counter::default(),
            events: Family::default(),
            panics: Counter::default(),
            revocations: Family::default(),
            pruned: Family::default(),
            pruning_behind: Gauge::default(),
            lockdowns: Gauge::default(),
            replicas: Family::default(),
            replica_reports: Family::default(),
            connections_closed: Family::default(),
            queue: Gauge::default(),
            connections: Gauge::default(),
            ready: Gauge::default(),
            status_age: Gauge::default(),
            status_lists: Gauge::default(),
            status_revoked: Gauge::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    /// The names that `docs/reference/metrics.md` describes, each under the prefix `taskgrant_`.
    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("exchanges", "Exchanges by outcome, reason code and task type", self.exchanges.clone());
        r.register("exchange_duration_seconds", "Time of an exchange", self.exchange_seconds.clone());
        r.register("policy_evaluation_seconds", "Time of one policy evaluation", self.policy_seconds.clone());
        r.register("policy_changes", "Policy bundles offered, by result", self.policy_changes.clone());
        let refused = self.policy_refused.clone();
        r.register("policy_refused", "1 when the bundle offered last is not fit", refused);
        r.register("policy_mode", "1 for the mode that the policy is in", self.policy_mode.clone());
        let let_pass = self.policy_let_pass.clone();
        r.register("policy_let_pass", "Exchanges in which policy, or a fault of it, did not bite", let_pass);
        let compared = self.candidate_compared.clone();
        r.register(
            "policy_candidate_compared",
            "Exchanges that a candidate judged too, by how it differs",
            compared,
        );
        let (faults, pauses) = (self.candidate_faults.clone(), self.candidate_pauses.clone());
        r.register("policy_candidate_faults", "Exchanges to which a candidate gave no answer", faults);
        r.register(
            "policy_candidate_pauses",
            "Candidates that are asked no more where they do not bite",
            pauses,
        );
        let took = self.candidate_seconds.clone();
        r.register("policy_candidate_evaluation_seconds", "Time of one evaluation by a candidate", took);
        r.register("commits", "Commits of the writer by result", self.commits.clone());
        r.register("commit_duration_seconds", "Time of one commit", self.commit_seconds.clone());
        r.register("commit_changes", "Changes in one commit", self.commit_changes.clone());
        r.register("key_set_fetches", "Fetches of issuers' keys by result", self.key_fetches.clone());
        r.register("rate_limited", "Requests beyond a rate, by whose rate", self.rate_limited.clone());
        r.register("approvals", "Approvals that were asked for and settled, by how", self.approvals.clone());
        r.register("proposals", "Changes for a second person, by how they go on", self.proposals.clone());
        let told = self.notifications.clone();
        r.register("notifications", "Messages to people that something waits for them, by result", told);
        let failures = self.authentication_failures.clone();
        r.register("authentication_failures", "Failed client authentications", failures);
        r.register("events", "Events of identity providers by kind and outcome", self.events.clone());
        r.register("panics", "Requests that ended in a fault of ours", self.panics.clone());
        r.register("revocations", "Revocations and completed tasks, by what", self.revocations.clone());
        r.register(
            "pruned_rows",
            "Rows of what has ended that were taken out, by table",
            self.pruned.clone(),
        );
        let behind = self.pruning_behind.clone();
        r.register("pruning_behind_seconds", "For how long a task has waited to be taken out", behind);
        let lockdowns = self.lockdowns.clone();
        r.register("lockdowns", "Lockdowns in force: one of all tenants counts as one", lockdowns);
        r.register("replicas", "Servers of the deployment by state", self.replicas.clone());
        r.register("replica_reports", "Reports of this server by result", self.replica_reports.clone());
        let closed = self.connections_closed.clone();
        r.register("connections_closed", "Connections closed for others or for waiting too long", closed);
        r.register("writer_queue", "Changes that wait to be committed", self.queue.clone());
        r.register("connections", "Open connections of the public listener", self.connections.clone());
        r.register("ready", "1 when /readyz says so", self.ready.clone());
        let age = self.status_age.clone();
        r.register("status_list_age_seconds", "How old the news in the status lists is", age);
        r.register("status_lists", "Status lists that are served", self.status_lists.clone());
        r.register("status_list_revoked", "Bits that are set in status lists", self.status_revoked.clone());
    }

    /// All of it in the text format that Prometheus scrapes.
    pub fn text(&self, now: Now) -> String {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.queue.set(number(now.queue));
        self.connections.set(number(now.connections));
        self.ready.set(now.ready.into());
        self.policy_mode.clear();
        self.policy_mode.get_or_create(&InMode { mode: now.policy_mode }).set(1);
        self.lockdowns.set(number(now.lockdowns));
        self.status_age.set(now.status_age);
        self.status_lists.set(number(now.status_lists));
        self.status_revoked.set(i64::try_from(now.status_revoked).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing to a text does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// An exchange has ended. `reason_code` is empty where nothing was refused, `task_type` where it is not known.
    pub fn exchanged(&self, outcome: Outcome, reason_code: String, task_type: &str, took: Duration) {
        let labels = Exchanged { outcome: outcome.name(), reason_code, task_type: self.bounded(task_type) };
        self.exchanges.get_or_create(&labels).inc();
        let labels = Ended { outcome: outcome.name() };
        self.exchange_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Policy was evaluated.
    pub fn judged(&self, took: Duration) {
        self.policy_seconds.observe(took.as_secs_f64());
    }

    /// Policy did not bite in this mode, or a fault of it did not: what it would have changed, in the words of `policy replay`;
    /// none where nothing, or it was not asked.
    pub fn policy_let_pass(&self, mode: &str, change: Option<&str>) {
        let change = change.unwrap_or("none").to_owned();
        self.policy_let_pass.get_or_create(&LetPass { mode: mode.to_owned(), change }).inc();
    }

    /// A candidate judged too.
    pub fn candidate_judged(&self, took: Duration) {
        self.candidate_seconds.observe(took.as_secs_f64());
    }

    /// A candidate ran over its limits too often in a row.
    pub fn candidate_paused(&self) {
        self.candidate_pauses.inc();
    }

    /// How a candidate's answer differs is known: `change` in the words of `policy replay`, none where it does not; whether it
    /// bites, and whether it failed.
    pub fn candidate_compared(
        &self,
        change: Option<&'static str>,
        (bites, failed): (bool, bool),
        task_type: &str,
    ) {
        let labels = Tried {
            change: change.unwrap_or("none"),
            bites: if bites { "candidate" } else { "active" },
            task_type: self.bounded(task_type),
        };
        self.candidate_compared.get_or_create(&labels).inc();
        self.candidate_faults.inc_by(failed.into());
    }

    /// A policy bundle was offered: whether it is fit.
    pub fn policy_offered(&self, ok: bool) {
        self.policy_changes.get_or_create(&Result { result: result(ok) }).inc();
        self.policy_refused.set((!ok).into());
    }

    /// No bundle counts as refused any more.
    pub fn policy_fits(&self) {
        self.policy_refused.set(0);
    }

    /// A batch of `changes` was committed.
    pub fn committed(&self, changes: usize, took: Duration) {
        self.commits.get_or_create(&Result { result: "ok" }).inc();
        self.commit_seconds.observe(took.as_secs_f64());
        self.commit_changes.observe(f64::from(u32::try_from(changes).unwrap_or(u32::MAX)));
    }

    /// A batch was not committed, or nobody knows.
    pub fn commit_failed(&self) {
        self.commits.get_or_create(&Result { result: "failed" }).inc();
    }

    /// An issuer's keys were fetched, or could not be.
    pub fn keys_fetched(&self, ok: bool) {
        self.key_fetches.get_or_create(&Result { result: result(ok) }).inc();
    }

    /// A request went beyond a rate; `by` is whose: `client`, `principal`, `address`, `failures`.
    pub fn rate_limited(&self, by: &'static str) {
        self.rate_limited.get_or_create(&By { by }).inc();
    }

    /// An approval was asked for or settled; `by` is how: `ask`, `approve`, `deny`, `expire`, `cancel`, `give_up`,
    /// `redeem`; or its envelope was used: `use`.
    pub fn approval(&self, by: &'static str) {
        self.approvals.get_or_create(&By { by }).inc();
    }

    /// A change that takes two persons was proposed or settled; `by` is how: `propose`, `confirm`, `reject`, `expire`, `supersede`,
    /// or `refused`, where somebody may not confirm it.
    pub fn proposal(&self, by: &'static str) {
        self.proposals.get_or_create(&By { by }).inc();
    }

    /// People were told that something waits for them, or not: `sent`, `failed` (tried again), `given_up`, `dropped`,
    /// `unconfigured`.
    pub fn notified(&self, result: &'static str) {
        self.notifications.get_or_create(&Result { result }).inc();
    }

    /// A client could not be authenticated.
    pub fn authentication_failed(&self) {
        self.authentication_failures.inc();
    }

    /// An identity provider's event has come, or what passes for one. `reason_code` is empty where it is accepted.
    pub fn heard(&self, kind: &'static str, outcome: &'static str, reason_code: &'static str) {
        self.events.get_or_create(&Heard { kind, outcome, reason_code }).inc();
    }

    /// A request panicked.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// Something was revoked, or a task completed; `kind` is the word in the database.
    pub fn revoked(&self, kind: &'static str) {
        self.revocations.get_or_create(&What { kind }).inc();
    }

    /// Rows of `table` were taken out.
    pub fn pruned(&self, table: &'static str, rows: u64) {
        self.pruned.get_or_create(&Of { table }).inc_by(rows);
    }

    /// For how long a task has waited that could have been taken out first.
    pub fn pruning_behind(&self, behind: TimeDelta) {
        self.pruning_behind.set(behind.num_seconds());
    }

    /// So many servers there are in each state: `same` as what the store says, `differs`, `lost`.
    pub fn replicas(&self, states: [(&'static str, usize); 3]) {
        for (state, count) in states {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.replicas.get_or_create(&In { state }).set(count);
        }
    }

    /// Whether what this server tells of itself was written.
    pub fn replica_told(&self, ok: bool) {
        self.replica_reports.get_or_create(&Result { result: result(ok) }).inc();
    }

    /// A connection was closed to make room (`crowded`) or for keeping us waiting (`late`).
    pub fn connections_closed(&self, by: &'static str, count: usize) {
        self.connections_closed.get_or_create(&By { by }).inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    fn bounded(&self, task_type: &str) -> String {
        let mut known = self.task_types.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(task_type) {
            return task_type.to_owned();
        }
        if known.len() >= MOST_TASK_TYPES {
            return "other".to_owned();
        }
        known.insert(task_type.to_owned());
        task_type.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_do_not_grow_with_the_number_of_task_types() {
        let metrics = Metrics::default();
        for n in 0..1000 {
            metrics.exchanged(Outcome::Issued, String::new(), &format!("task_{n}"), Duration::from_millis(1));
        }
        let text = metrics.text(Now::default());
        let series = text.lines().filter(|line| line.starts_with("taskgrant_exchanges_total{")).count();
        assert_eq!(series, MOST_TASK_TYPES + 1);
        assert!(text.contains("task_type=\"other\"} 744"), "{text}");
    }
}
