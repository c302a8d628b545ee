//! The use case: what has ended goes by itself, in small batches beside all else, through the one writer.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use thiserror::Error;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::clock::Clock;
use crate::configuration::active::Active;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::store::change::CommitFault;
use crate::store::error::StoreError;
use crate::store::pruning::Before;
use crate::store::writer::Writer;

/// How often it is looked whether anything has to go.
const EVERY: Duration = Duration::from_secs(5);
/// The shortest rest between two batches.
const SHORTEST: Duration = Duration::from_millis(5);
/// How often a failure is told.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// What pruning is made of.
pub struct Parts {
    /// Where it is looked.
    pub store: Store,
    /// The one writer.
    pub writer: Writer,
    /// The issuers in force, for how old a login may be.
    pub active: Active,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What operators watch.
    pub metrics: Arc<Metrics>,
    /// How long ended tasks stay.
    pub retention: TimeDelta,
}

/// The use case of one process. Replicas may all do it: what is gone is gone.
pub struct Pruning {
    parts: Parts,
    since: Since,
}

/// Why a round came to nothing. The next one tries again.
#[derive(Debug, Error)]
pub enum PruningFault {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The writer does not commit, or has no room.
    #[error(transparent)]
    Commit(#[from] CommitFault),
}

/// Since when, by the steady clock, the greatest `iat` has been what it is. What has passed since then has passed for
/// certain, so that also what a server at rest issued last goes in time; no step of the wall clock counts.
#[derive(Debug, Default)]
struct Since {
    greatest_iat: DateTime<Utc>,
    steady: Duration,
}

impl Since {
    fn passed(&mut self, greatest_iat: DateTime<Utc>, steady: Duration) -> TimeDelta {
        if self.greatest_iat != greatest_iat {
            *self = Self { greatest_iat, steady };
        }
        TimeDelta::from_std(steady.saturating_sub(self.steady)).unwrap_or_default()
    }
}

impl Pruning {
    /// Wires the use case.
    pub fn new(parts: Parts) -> Self {
        Self { parts, since: Since::default() }
    }

    /// Goes on until it is aborted. While more waits, it rests as long as the last batch took, so that most commits are of
    /// others; how many rows go in a second follows how fast the database is, as what is issued does.
    pub async fn run(mut self) {
        let mut told: Option<Instant> = None;
        loop {
            let began = Instant::now();
            let rest = match self.round().await {
                Ok(true) => began.elapsed().max(SHORTEST),
                Ok(false) => EVERY,
                Err(error) => {
                    if told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
                        warn!(%error, "what has ended could not be pruned");
                        told = Some(Instant::now());
                    }
                    EVERY
                }
            };
            sleep(rest).await;
        }
    }

    /// Has one batch go, if there is anything; whether more waits.
    pub async fn round(&mut self) -> Result<bool, PruningFault> {
        let Parts { store, writer, active, clock, metrics, retention } = &self.parts;
        let head = store.head().await?;
        let passed = self.since.passed(head.greatest_iat, clock.steady());
        let logins = active.load().snapshot.issuers().map(|issuer| issuer.spec.max_session_age).max();
        let longest_login = TimeDelta::seconds(i64::from(logins.unwrap_or_default()));
        let before = Before::of(&head, passed, *retention, longest_login);
        let due = store.due(&before).await?;
        metrics.pruning_behind(due.behind);
        Ok(due.any && writer.prune(before).await?.is_full())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_since_the_last_token_counts_by_the_steady_clock_alone() {
        let (mut since, at) = (Since::default(), |seconds| DateTime::from_timestamp(seconds, 0).unwrap());
        let steady = Duration::from_secs;
        assert_eq!(since.passed(at(1_000_000), steady(70)), TimeDelta::zero());
        assert_eq!(since.passed(at(1_000_000), steady(100)), TimeDelta::seconds(30));
        assert_eq!(since.passed(at(1_000_020), steady(110)), TimeDelta::zero());
        assert_eq!(since.passed(at(1_000_020), steady(111)), TimeDelta::seconds(1));
    }
}
