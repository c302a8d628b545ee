//! A decision made ready for the log: all that can be computed before the lock is taken.

use chrono::TimeDelta;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::rows::micros;
use crate::domain::decision::Decision;
use crate::log::leaf::{Leaf, Salt};

/// The three parts of a decision (DESIGN §8), lacking only the index.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) tenant: Option<String>,
    pub(super) kind: &'static str,
    pub(super) at: i64,
    pub(super) outcome: &'static str,
    pub(super) leaf: Leaf,
    pub(super) salt: Salt,
    pub(super) record: Vec<u8>,
    pub(super) input: Option<Input>,
}

/// The policy's input, packed, and how long it stays.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) packed: Vec<u8>,
    pub(super) keep_until: i64,
}

impl Entry {
    /// Makes `decision` ready. Its input is kept for `keep_inputs` after it.
    pub(super) fn new(decision: &Decision, salt: Salt, keep_inputs: TimeDelta) -> Self {
        // Texts, numbers and maps of texts: writing them to memory cannot fail.
        let record = serde_json::to_vec(&decision.record).unwrap_or_default();
        let input = decision.input.as_deref().map(|input| Input {
            packed: lz4_flex::compress_prepend_size(input),
            keep_until: micros(decision.at)
                .saturating_add(keep_inputs.num_microseconds().unwrap_or(i64::MAX)),
        });
        Self {
            id: decision.id.to_string(),
            tenant: decision.tenant.as_ref().map(ToString::to_string),
            kind: decision.kind.as_str(),
            at: micros(decision.at),
            outcome: decision.outcome.as_str(),
            leaf: Leaf::new(decision, &salt, &record),
            salt,
            record,
            input,
        }
    }

    /// The same entry telling of `refused`, the decision after the commit refused it.
    pub(super) fn retold(self, refused: &Decision) -> Self {
        let told = Self::new(&Decision { input: None, ..refused.clone() }, self.salt, TimeDelta::zero());
        Self { input: self.input, ..told }
    }
}

/// A fresh salt; none if the system has no randomness to give.
pub(super) fn salt(random: &SystemRandom) -> Option<Salt> {
    let mut salt = Salt::default();
    random.fill(&mut salt).ok().map(|()| salt)
}
