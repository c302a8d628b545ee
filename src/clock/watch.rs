//! Watches the wall clock: a step of it stops issuing until it can be believed again (DESIGN §7 "Time").

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tracing::{info, warn};

use super::Clock;

/// By how much wall and steady clock may part, and by how much the wall may be behind what another replica issued.
pub const TOLERANCE: TimeDelta = TimeDelta::seconds(2);

/// How long the wall clock must have been steady after a step.
const CALM: Duration = Duration::from_mins(1);

/// Why no token is issued now: the wall clock cannot be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClockFault {
    /// It was set, by this many milliseconds, less than a minute ago.
    Stepped {
        /// Positive is forward.
        milliseconds: i64,
    },
    /// Tokens were issued in what is now the future.
    Behind {
        /// Greatest `iat` of a committed token.
        greatest_iat: DateTime<Utc>,
    },
    /// The database's clock and ours differ by this many milliseconds.
    Differs {
        /// Positive: the database's is ahead.
        milliseconds: i64,
    },
}

impl fmt::Display for ClockFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stepped { milliseconds } => {
                let seconds = (milliseconds + 500).div_euclid(1000);
                write!(f, "the clock was set by {seconds:+} s: it must be steady for {} s", CALM.as_secs())
            }
            Self::Behind { greatest_iat } => {
                write!(f, "the clock is behind the last token, which was issued at {greatest_iat}")
            }
            Self::Differs { milliseconds } => {
                let seconds = (milliseconds + 500).div_euclid(1000);
                write!(
                    f,
                    "the database's clock differs from this machine's by {seconds:+} s: synchronise them"
                )
            }
        }
    }
}

/// Compares the clocks; clones share what they saw.
#[derive(Clone)]
pub struct TimeWatch(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    /// Where both clocks stood when they were last taken to agree.
    wall: DateTime<Utc>,
    steady: Duration,
    greatest_iat: DateTime<Utc>,
    /// Why issuing is stopped; the baseline is then that of the step.
    fault: Option<ClockFault>,
    /// By how many milliseconds the database's clock is ahead of ours, where that is too much.
    differs: Option<i64>,
}

impl TimeWatch {
    /// Begins with the clocks as they stand, knowing the greatest `iat` of any committed token.
    pub fn new(clock: Arc<dyn Clock>, greatest_iat: DateTime<Utc>) -> Self {
        let (wall, steady) = (clock.now(), clock.steady());
        let state = Mutex::new(State { wall, steady, greatest_iat, fault: None, differs: None });
        Self(Arc::new(Inner { clock, state }))
    }

    /// Looks at both clocks: a fault as long as nothing may be issued. To be called at least every few seconds, so that
    /// a step is seen where it happens.
    pub fn check(&self) -> Result<(), ClockFault> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that no thread comes with an older look than the one before.
        let (wall, steady) = (self.0.clock.now(), self.0.clock.steady());
        state.look(wall, steady);
        let differs = state.differs.map(|milliseconds| ClockFault::Differs { milliseconds });
        state.fault.clone().or(differs).map_or(Ok(()), Err)
    }

    /// Takes in what the database's clock showed at some moment between `asked`, by ours, and now.
    pub fn database(&self, shown: DateTime<Utc>, asked: DateTime<Utc>) {
        let (shown, now) = (self.0.clock.elsewhere(shown), self.0.clock.now());
        let ahead = if shown > now { shown - now } else { (shown - asked).min(TimeDelta::zero()) };
        let differs = (ahead.abs() > TOLERANCE).then(|| ahead.num_milliseconds());
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        match (state.differs, differs) {
            (None, Some(milliseconds)) => {
                warn!(milliseconds, "the database's clock differs from ours: nothing is issued");
            }
            (Some(_), None) => info!("the database's clock agrees with ours again: tokens are issued"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        state.differs = differs;
    }

    /// Takes in that a token with this `iat` is committed.
    pub fn issued(&self, iat: DateTime<Utc>) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.greatest_iat = state.greatest_iat.max(iat);
    }
}

impl State {
    fn look(&mut self, wall: DateTime<Utc>, steady: Duration) {
        let passed = steady.saturating_sub(self.steady);
        let parted = (wall - self.wall) - TimeDelta::from_std(passed).unwrap_or(TimeDelta::MAX);
        if parted.abs() > TOLERANCE {
            let milliseconds = parted.num_milliseconds();
            warn!(milliseconds, "the clock was set: nothing is issued until it has been steady");
            (self.wall, self.steady) = (wall, steady);
            self.fault = Some(ClockFault::Stepped { milliseconds });
            return;
        }
        let greatest_iat = self.greatest_iat;
        let behind = wall + TOLERANCE < greatest_iat;
        match &self.fault {
            Some(ClockFault::Stepped { .. }) if passed < CALM => {}
            None if !behind => {}
            Some(_) if wall >= greatest_iat => {
                info!("the clock is believed again: tokens are issued");
                (self.wall, self.steady, self.fault) = (wall, steady, None);
            }
            Some(ClockFault::Behind { .. } | ClockFault::Differs { .. }) => {}
            Some(ClockFault::Stepped { .. }) | None => {
                warn!(%greatest_iat, "the clock is behind the last token: nothing is issued");
                self.fault = Some(ClockFault::Behind { greatest_iat });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ShiftedClock, SystemClock};

    fn watch() -> (ShiftedClock, TimeWatch) {
        let clock = ShiftedClock::default();
        let watch = TimeWatch::new(Arc::new(clock.clone()), DateTime::UNIX_EPOCH);
        (clock, watch)
    }

    #[test]
    fn time_that_passes_and_small_corrections_are_no_step() {
        let (clock, watch) = watch();
        for (passes, set) in [(0, 0), (86_400, 0), (1, 1), (5, -2), (0, 1)] {
            clock.shift(passes);
            clock.step(set);
            assert_eq!(watch.check(), Ok(()), "{passes} {set}");
        }
    }

    #[test]
    fn small_corrections_one_way_are_a_step_together() {
        let (clock, watch) = watch();
        clock.step(1);
        assert_eq!(watch.check(), Ok(()));
        clock.step(2);
        assert!(matches!(watch.check(), Err(ClockFault::Stepped { .. })));
    }

    #[test]
    fn another_step_begins_the_wait_anew() {
        let (clock, watch) = watch();
        clock.step(3600);
        assert!(watch.check().is_err());
        clock.shift(50);
        clock.step(-3600);
        assert!(watch.check().is_err());
        clock.shift(59);
        assert!(watch.check().is_err());
        clock.shift(2);
        assert_eq!(watch.check(), Ok(()));
    }

    #[test]
    fn a_clock_behind_the_last_token_waits_for_it_without_a_step() {
        let clock = ShiftedClock::default();
        let greatest_iat = clock.now() + TimeDelta::hours(1);
        let watch = TimeWatch::new(Arc::new(clock.clone()), greatest_iat);
        clock.shift(3590);
        assert_eq!(watch.check(), Err(ClockFault::Behind { greatest_iat }));
        clock.shift(10);
        assert_eq!(watch.check(), Ok(()));
    }
    #[test]
    fn a_database_whose_clock_differs_stops_issuing_until_it_agrees_again() {
        let (clock, watch) = watch();
        let fault = |seconds: i64| {
            let asked = clock.now();
            watch.database(SystemClock.now() + TimeDelta::seconds(seconds), asked);
            watch.check().err()
        };
        for seconds in [0, 1, -1] {
            assert_eq!(fault(seconds), None, "{seconds}");
        }
        for seconds in [4, -4, 3600] {
            let Some(ClockFault::Differs { milliseconds }) = fault(seconds) else { panic!("{seconds}") };
            assert!((milliseconds - seconds * 1000).abs() < 1000, "{seconds} {milliseconds}");
        }
        assert_eq!(fault(0), None);
        // Time that passes, passes for the database too.
        clock.shift(3600);
        assert_eq!(fault(0), None);
        // An answer that took long says less: any moment of the wait may be the one that was shown.
        let (shown, asked) = (SystemClock.now() - TimeDelta::seconds(5), clock.now() - TimeDelta::seconds(9));
        watch.database(shown, asked);
        assert_eq!(watch.check(), Ok(()));
    }
}
