//! What is in force: one immutable value that every request loads once, replaced whole (DESIGN §7).

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::schemas::DetailSchemas;
use crate::domain::snapshot::Snapshot;
use crate::issuers::keysets::KeySets;
use crate::policy::candidate::Policy;

/// Everything declared that a decision stands on.
#[derive(Clone, Debug)]
pub struct InForce {
    /// Generation of all of it, by which the commit knows whether it is still in force.
    pub generation: i64,
    /// All declarative objects.
    pub snapshot: Arc<Snapshot>,
    /// The schemas of their authorization-detail types.
    pub schemas: Arc<DetailSchemas>,
    /// The policy: the bundle in force, and the candidate beside it.
    pub policy: Policy,
}

/// Holds what is in force; clones share it. Whoever replaces it holds the turn of the configuration.
#[derive(Clone)]
pub struct Active {
    value: Arc<ArcSwap<InForce>>,
    key_sets: Option<Arc<KeySets>>,
}

impl Active {
    /// Puts `first` into force where no session tokens are verified.
    pub fn new(first: InForce) -> Self {
        Self { value: Arc::new(ArcSwap::from_pointee(first)), key_sets: None }
    }

    /// Puts `first` into force in a server: `key_sets` follow the trusted issuers of every snapshot.
    pub fn serving(first: InForce, key_sets: Arc<KeySets>) -> Self {
        key_sets.follow(&first.snapshot);
        Self { key_sets: Some(key_sets), ..Self::new(first) }
    }

    /// What is in force. A request loads it once and decides by that one value.
    pub fn load(&self) -> Arc<InForce> {
        self.value.load_full()
    }

    /// Puts `next` in force in place of what is.
    pub fn replace(&self, next: InForce) {
        if let Some(key_sets) = &self.key_sets {
            key_sets.follow(&next.snapshot);
        }
        self.value.store(Arc::new(next));
    }
}
