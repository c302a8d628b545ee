//! What the store says of the policy: the bundle in force, the one before it, and the candidate.

use serde_json::Value;
use tracing::warn;

use super::candidate::KeptCandidate;
use super::data::KeptDocuments;
use super::kept::kept;
use super::policy::{PolicyChangeFault, PolicyChanged, StillBites};
use super::word::Word;
use super::{Inner, LoadFault};
use crate::configuration::active::InForce;
use crate::policy::candidate::Policy;
use crate::store::error::StoreError;

/// The setting that names the bundle in force.
pub(super) const ACTIVE: &str = "policy";
/// The setting that names the one before it.
pub(super) const BEFORE: &str = "policy_before";
/// The setting that names the bundle that was last taken from folders.
pub(super) const FOLDER: &str = "policy_folder";

/// Who changes the policy, how, and why if that is said.
#[derive(Clone, Copy, Debug)]
pub(super) struct By<'a> {
    pub(super) command: &'static str,
    pub(super) word: &'a Word,
    pub(super) account: &'a str,
    pub(super) reason: Option<&'a str>,
}

impl<'a> By<'a> {
    pub(super) fn new(command: &'static str, word: &'a Word, reason: Option<&'a str>) -> Self {
        Self { command, word, account: word.account(), reason }
    }

    /// Adds the reason, if there is one.
    pub(super) fn tell_reason(&self, asked: &mut Value) {
        if let (Some(reason), Some(asked)) = (self.reason, asked.as_object_mut()) {
            asked.insert("reason".to_owned(), reason.into());
        }
    }
}

/// What the settings say.
pub(super) struct Standing {
    pub(super) generation: i64,
    pub(super) active: Option<String>,
    pub(super) before: Option<String>,
    pub(super) folder: Option<String>,
    pub(super) candidate: Option<KeptCandidate>,
    pub(super) data: KeptDocuments,
    /// Whether what is stored of a candidate does not parse: then there is none.
    pub(super) garbled: bool,
}

impl Standing {
    pub(super) fn unchanged(&self) -> PolicyChanged {
        let policy = self.active.clone().unwrap_or_default();
        let candidate = self.still_bites(&policy);
        PolicyChanged { policy, before: None, decision_id: None, candidate }
    }

    /// The candidate, if it bites also beside `active`.
    pub(super) fn still_bites(&self, active: &str) -> Option<StillBites> {
        let candidate = self.candidate.as_ref()?;
        let KeptCandidate { version, canary, .. } = candidate.clone();
        let bites = !canary.is_shadow() && version != active;
        bites.then_some(StillBites { version, bites, canary })
    }

    pub(super) fn is_in_force(&self, version: &str) -> bool {
        self.active.as_deref() == Some(version)
    }

    pub(super) fn tries(&self, version: &str) -> bool {
        self.candidate.as_ref().is_some_and(|candidate| candidate.version == version)
    }

    pub(super) fn other_candidate(self) -> PolicyChangeFault {
        self.candidate
            .map_or(PolicyChangeFault::NoCandidate, |other| PolicyChangeFault::OtherCandidate(other.version))
    }
}

impl Inner {
    pub(super) async fn standing(&self) -> Result<Standing, StoreError> {
        // First: settings that are newer than the generation make the commit fail, older ones would be believed.
        let generation = self.store.head().await?.generation;
        let (active, before) = (self.store.setting(ACTIVE).await?, self.store.setting(BEFORE).await?);
        let (folder, candidate) = (self.store.setting(FOLDER).await?, self.kept_candidate().await?);
        let (garbled, data) = (candidate.is_err(), self.kept_data().await?);
        let candidate = candidate.unwrap_or(None);
        Ok(Standing { generation, active, before, folder, candidate, data, garbled })
    }

    /// Puts `next` in force in this process. Where it decides by another bundle than before, whichever way that came, the one that was
    /// refused last matters no more.
    pub(super) fn put_in_force(&self, next: InForce) {
        let is_other = self.active.load().policy.version() != next.policy.version();
        self.active.replace(next);
        if is_other {
            self.forget_refused();
        }
    }

    /// No bundle counts as refused here any more.
    pub(super) fn forget_refused(&self) {
        *self.refused() = None;
        self.metrics.policy_fits();
    }

    /// The policy that the store says is in force. What is not compiled here yet is.
    pub(super) async fn standing_policy(&self) -> Result<Policy, LoadFault> {
        let now = self.active.load().policy.clone();
        let data = self.standing_data(now.data()).await?;
        let active = match self.store.setting(ACTIVE).await? {
            Some(version) => match now.engine(&version, &data) {
                Some(engine) => engine.clone(),
                None => kept(&self.store, &version, &data).await?,
            },
            None => now.active().clone(),
        };
        let candidate = match self.kept_candidate().await? {
            Ok(Some(candidate)) => Some(self.candidate(candidate, (&now, active.version()), &data).await?),
            Ok(None) => None,
            Err(why) => {
                warn!(
                    why,
                    "what is stored of the policy candidate is unreadable: none is tried; load one, or drop it"
                );
                None
            }
        };
        Ok(Policy::new(active, candidate).under(data).in_mode(self.standing_mode().await?))
    }
}
