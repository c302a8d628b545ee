//! What was only counted comes into the log, once a minute.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tracing::warn;

use super::{Aggregates, Refused};
use crate::clock::{Clock, Random};
use crate::domain::decision::{Decision, Kind, Outcome, Reason, Record};
use crate::store::writer::Writer;

/// How often it is recorded what was only counted (L12).
const EVERY: Duration = Duration::from_mins(1);

/// Records the counts. It holds the writer: drop it before the end is waited for.
pub struct Recorder {
    /// The counts.
    pub aggregates: Arc<Aggregates>,
    /// The one writer.
    pub writer: Writer,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids.
    pub random: Random,
}

impl Recorder {
    /// Records what was counted as one decision a minute for each client and reason: it costs the log nothing else (L12).
    pub async fn record_every_minute(self: Arc<Self>) {
        let mut every = tokio::time::interval(EVERY);
        loop {
            every.tick().await;
            self.record().await;
        }
    }

    /// Records what was counted since it last was. What cannot be recorded is counted on.
    pub async fn record(&self) {
        for (refused, count) in self.aggregates.take() {
            if self.writer.submit(self.decision(&refused, count)).await.is_err() {
                warn!(count, "refusals that were counted could not be recorded yet");
                self.aggregates.put_back(refused, count);
            }
        }
    }

    fn decision(&self, refused: &Refused, count: u64) -> Decision {
        let what = match (&refused.client, refused.kind) {
            (Some(_), _) => "more requests were refused for this",
            (None, Kind::Exchange | Kind::Approval) => "requests failed client authentication",
            (None, Kind::Admin) => "events were refused that no identity provider is known to have sent",
        };
        let message = format!("{count} {what} since the last such record");
        let reason = Reason { code: refused.code.clone(), message, public: false };
        let (actor, asked) = (refused.client.clone(), json!({ "count": count }));
        let now = self.clock.now();
        Decision {
            id: self.random.decision(now),
            kind: refused.kind,
            at: now,
            tenant: None,
            outcome: Outcome::Deny,
            policy: None,
            task_type: None,
            record: Record { actor, asked, reasons: vec![reason], ..Record::default() },
            input: None,
        }
    }
}
