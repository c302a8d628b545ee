//! The mode of the policy: whether what it says bites (DESIGN §6). Ceilings, liveness and the log hold in every mode.

use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// So much may the clocks of two replicas differ: a mode that another one has just set holds here too.
const SKEW: TimeDelta = TimeDelta::seconds(2);

/// Whether what policy says bites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It does.
    #[default]
    Enforce,
    /// It is asked and recorded; denials, approvals, limits and faults of it do not bite.
    DryRun,
    /// It is not asked.
    Off,
}

/// A text that names no mode.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("write enforce, dry-run or off")]
pub struct NoMode;

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Enforce, Self::DryRun, Self::Off];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::DryRun => "dry-run",
            Self::Off => "off",
        }
    }
}

impl FromStr for Mode {
    type Err = NoMode;

    fn from_str(text: &str) -> Result<Self, NoMode> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text).ok_or(NoMode)
    }
}

/// A mode that holds for a time, and [`Mode::Enforce`] after it. No timer ends it: each decision compares the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedMode {
    /// The mode.
    pub mode: Mode,
    /// When it was set.
    pub since: DateTime<Utc>,
    /// From when on it does not hold any more.
    pub until: DateTime<Utc>,
}

impl TimedMode {
    /// The mode at this instant. Before it was set, as after a clock was set back, and at its end and later it is
    /// [`Mode::Enforce`] (L7).
    pub fn at(&self, now: DateTime<Utc>) -> Mode {
        let holds = self.since - SKEW <= now && now < self.until;
        if holds { self.mode } else { Mode::Enforce }
    }

    /// Whether its time is over.
    pub fn is_over(&self, now: DateTime<Utc>) -> bool {
        self.until <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_holds_from_when_it_was_set_until_its_end_and_no_longer() {
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        for mode in Mode::ALL {
            assert_eq!(mode.as_str().parse(), Ok(mode));
            let timed = TimedMode { mode, since: at(1000), until: at(2000) };
            for (now, holds) in [(0, false), (997, false), (998, true), (1000, true), (1999, true)] {
                assert_eq!(timed.at(at(now)) == mode, holds || mode == Mode::Enforce, "{mode:?} {now}");
            }
            for now in [2000, 2001, 9_000_000_000] {
                assert_eq!((timed.at(at(now)), timed.is_over(at(now))), (Mode::Enforce, true));
            }
        }
        assert_eq!("dry_run".parse::<Mode>(), Err(NoMode));
    }
}
