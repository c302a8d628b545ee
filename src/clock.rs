//! Time and randomness as arguments: the only place that reads the machine's clocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use ring::rand::{SecureRandom, SystemRandom};

use crate::domain::ids::{DecisionId, Jti, TaskId};

/// Wall-clock time in UTC. Frozen in tests, the machine's own in production.
pub trait Clock: Send + Sync {
    /// The present instant.
    fn now(&self) -> DateTime<Utc>;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of the machine's clock")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// The machine's clock moved by a settable offset: lets a test step time without sleeping.
#[derive(Clone, Debug, Default)]
pub struct ShiftedClock(Arc<AtomicI64>);

impl ShiftedClock {
    /// Moves this clock, and all clones of it, by whole seconds; negative goes back.
    pub fn shift(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for ShiftedClock {
    fn now(&self) -> DateTime<Utc> {
        SystemClock.now() + TimeDelta::seconds(self.0.load(Ordering::SeqCst))
    }
}

/// Randomness from the operating system, and the ids made of it.
#[derive(Clone, Debug)]
pub struct Random(SystemRandom);

impl Default for Random {
    fn default() -> Self {
        Self(SystemRandom::new())
    }
}

impl Random {
    /// Random bytes. Aborts the process when the operating system has none to give: nothing safe can follow.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        if self.0.fill(&mut bytes).is_err() {
            std::process::abort();
        }
        bytes
    }

    /// A fresh token id.
    pub fn jti(&self, now: DateTime<Utc>) -> Jti {
        Jti::new(now, self.bytes())
    }

    /// A fresh task id.
    pub fn task(&self, now: DateTime<Utc>) -> TaskId {
        TaskId::new(now, self.bytes())
    }

    /// A fresh decision id.
    pub fn decision(&self, now: DateTime<Utc>) -> DecisionId {
        DecisionId::new(now, self.bytes())
    }
}
