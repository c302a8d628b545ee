//! What is in force: one immutable value that every request loads once, replaced whole (DESIGN §7).

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::schemas::DetailSchemas;
use crate::domain::snapshot::Snapshot;
use crate::policy::engine::PolicyEngine;

/// Everything declared that a decision stands on.
#[derive(Clone, Debug)]
pub struct InForce {
    /// All declarative objects.
    pub snapshot: Arc<Snapshot>,
    /// The schemas of their authorization-detail types.
    pub schemas: Arc<DetailSchemas>,
    /// The policy.
    pub policy: PolicyEngine,
}

/// Holds what is in force; clones share it.
///
/// Objects and policy change by different ways at the same time, so each way replaces its own part of the value that
/// stands at that moment: neither loses the other's change.
#[derive(Clone, Debug)]
pub struct Active(Arc<ArcSwap<InForce>>);

impl Active {
    /// Puts `first` into force.
    pub fn new(first: InForce) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(first)))
    }

    /// What is in force. A request loads it once and decides by that one value.
    pub fn load(&self) -> Arc<InForce> {
        self.0.load_full()
    }

    /// Replaces everything.
    pub fn replace(&self, next: InForce) {
        self.0.store(Arc::new(next));
    }

    /// Replaces the objects; the policy stays.
    pub fn replace_objects(&self, snapshot: Snapshot, schemas: DetailSchemas) {
        let (snapshot, schemas) = (Arc::new(snapshot), Arc::new(schemas));
        self.0.rcu(|now| InForce {
            snapshot: snapshot.clone(),
            schemas: schemas.clone(),
            policy: now.policy.clone(),
        });
    }

    /// Replaces the policy; the objects stay.
    pub fn replace_policy(&self, policy: &PolicyEngine) {
        self.0.rcu(|now| InForce { policy: policy.clone(), ..InForce::clone(now) });
    }
}
