//! Time and randomness as arguments: the only place that reads the machine's clocks.

pub mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ring::rand::{SecureRandom, SystemRandom};
use rustix::time::{ClockId, clock_gettime};

use crate::domain::ids::{ApprovalId, DecisionId, Jti, ProposalId, TaskId};

/// The time of day, which somebody may set, and a steady time, which nobody can. Movable in tests.
pub trait Clock: Send + Sync {
    /// The present instant, in UTC.
    fn now(&self) -> DateTime<Utc>;
    /// Time since an instant that stays the same while the process runs. It never goes back, and goes on while the
    /// machine sleeps.
    fn steady(&self) -> Duration;
    /// The time of day that another machine has shown: as it was read, but where a test lets time pass for all.
    fn elsewhere(&self, shown: DateTime<Utc>) -> DateTime<Utc> {
        shown
    }
}

/// A clock that nobody sets and that counts suspension (clock_gettime(2)).
#[cfg(target_os = "linux")]
const STEADY: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const STEADY: ClockId = ClockId::Monotonic;

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of the machine's clock")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn steady(&self) -> Duration {
        let time = clock_gettime(STEADY);
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or_default(),
            u32::try_from(time.tv_nsec).unwrap_or_default(),
        )
    }
}

/// The machine's clocks moved by settable offsets: lets a test pass time without sleeping.
#[derive(Clone, Debug, Default)]
pub struct ShiftedClock(Arc<Offsets>);

#[derive(Debug, Default)]
struct Offsets {
    wall: AtomicI64,
    steady: AtomicU64,
}

impl ShiftedClock {
    /// Lets whole seconds pass, for all clones. Negative is [`Self::step`]: steady time does not go back.
    pub fn shift(&self, seconds: i64) {
        self.step(seconds);
        self.0.steady.fetch_add(u64::try_from(seconds).unwrap_or_default(), Ordering::SeqCst);
    }

    /// Sets the wall clock, for all clones, as an operator or a time service would; negative sets it back.
    pub fn step(&self, seconds: i64) {
        self.0.wall.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for ShiftedClock {
    fn now(&self) -> DateTime<Utc> {
        SystemClock.now() + TimeDelta::seconds(self.0.wall.load(Ordering::SeqCst))
    }

    fn steady(&self) -> Duration {
        SystemClock.steady() + Duration::from_secs(self.0.steady.load(Ordering::SeqCst))
    }

    /// What passed, passed there too; what was set, was set here.
    fn elsewhere(&self, shown: DateTime<Utc>) -> DateTime<Utc> {
        shown + TimeDelta::seconds(i64::try_from(self.0.steady.load(Ordering::SeqCst)).unwrap_or(i64::MAX))
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

    /// A fresh approval id.
    pub fn approval(&self, now: DateTime<Utc>) -> ApprovalId {
        ApprovalId::new(now, self.bytes())
    }

    /// A fresh proposal id.
    pub fn proposal(&self, now: DateTime<Utc>) -> ProposalId {
        ProposalId::new(now, self.bytes())
    }

    /// A fresh decision id.
    pub fn decision(&self, now: DateTime<Utc>) -> DecisionId {
        DecisionId::new(now, self.bytes())
    }
}
