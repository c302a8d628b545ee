//! Lockdown: no new token of a tenant, or of any. What is issued lives on; introspection, revocation and the completion
//! of tasks go on.
//!
//! The commit decides by the row that it reads under the lock (L4). What is kept in memory here spares work, and tells
//! operators.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use thiserror::Error;

use crate::clock::{Clock, Random};
use crate::domain::decision::{Decision, Kind, Outcome, Record};
use crate::domain::ids::{DecisionId, Name};
use crate::domain::objects::ObjectKind;
use crate::domain::record::ALL_TENANTS;
use crate::store::Store;
use crate::store::change::{CommitFault, Lockdown};
use crate::store::error::StoreError;
use crate::store::trees::Mark;
use crate::store::writer::Writer;

/// One lockdown in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// Whose; of all tenants if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Name>,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Why.
    pub reason: String,
    /// Who, in the log.
    pub decision_id: DecisionId,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockdownRequest {
    /// Whether it begins or ends.
    pub on: bool,
    /// Whose; of all tenants if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Name>,
    /// Why.
    pub reason: String,
}

/// What holds after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockdownState {
    /// All lockdowns in force.
    pub lockdowns: Vec<Standing>,
    /// The decision that brought this about; none where it was only asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<DecisionId>,
}

/// Why nothing has changed.
#[derive(Debug, Error)]
pub enum LockdownFault {
    /// The reason is empty.
    #[error("reason: say why, for the record")]
    NoReason,
    /// No such tenant.
    #[error("tenant: no tenant `{name}` is declared, only {known}; leave it out for all tenants")]
    NoTenant {
        /// As asked.
        name: Name,
        /// Those there are.
        known: String,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The decision cannot be recorded.
    #[error(
        "the decision is not recorded, so nothing has changed as far as is known: {0}; look at `lockdown status`"
    )]
    Commit(#[from] CommitFault),
}

/// How many there are, for those who may not know whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Whether all tenants are under lockdown.
    pub all: bool,
    /// How many tenants are by their own name.
    pub tenants: usize,
}

/// The lockdowns in force, and how they change. Cheap to clone.
#[derive(Clone)]
pub struct Lockdowns {
    in_force: Arc<ArcSwap<BTreeSet<Option<Name>>>>,
    store: Store,
    writer: Writer,
    clock: Arc<dyn Clock>,
}

impl Lockdowns {
    /// Knows those in the store.
    pub async fn load(store: Store, writer: Writer, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let lockdowns = Self { in_force: Arc::default(), store, writer, clock };
        lockdowns.refresh().await?;
        Ok(lockdowns)
    }

    /// Reads them again: another replica may have changed them.
    pub async fn refresh(&self) -> Result<Vec<Standing>, StoreError> {
        let standing: Vec<_> = self.store.lockdowns().await?.into_iter().filter_map(standing).collect();
        let held: BTreeSet<_> = standing.iter().map(|lockdown| lockdown.tenant.clone()).collect();
        if **self.in_force.load() != held {
            tracing::warn!(lockdowns = held.len(), "the lockdowns in force have changed");
            self.in_force.store(Arc::new(held));
        }
        Ok(standing)
    }

    /// Whether new tokens of `tenant` are stopped, as far as is known here.
    pub fn hold(&self, tenant: &Name) -> bool {
        let held = self.in_force.load();
        held.contains(&None) || held.contains(&Some(tenant.clone()))
    }

    /// How many are in force.
    pub fn count(&self) -> Counted {
        let held = self.in_force.load();
        Counted { all: held.contains(&None), tenants: held.iter().flatten().count() }
    }

    /// Begins or ends one, by the word of `account`. What holds already is recorded again.
    pub async fn set(
        &self,
        request: &LockdownRequest,
        account: &str,
    ) -> Result<LockdownState, LockdownFault> {
        let LockdownRequest { on, tenant, reason } = request;
        if reason.trim().is_empty() {
            return Err(LockdownFault::NoReason);
        }
        if let Some(tenant) = tenant.as_ref().filter(|_| *on) {
            self.check_tenant(tenant).await?;
        }
        let decision = self.decision(request, account);
        let decision_id = decision.id;
        let lockdown = Lockdown { tenant: tenant.clone(), on: *on, reason: reason.clone(), decision };
        self.writer.submit(lockdown).await?;
        Ok(LockdownState { lockdowns: self.refresh().await?, decision_id: Some(decision_id) })
    }

    /// Those in force.
    pub async fn state(&self) -> Result<LockdownState, LockdownFault> {
        Ok(LockdownState { lockdowns: self.refresh().await?, decision_id: None })
    }

    async fn check_tenant(&self, name: &Name) -> Result<(), LockdownFault> {
        let objects = self.store.objects_current().await?;
        let tenants = objects.into_iter().filter(|object| object.id.kind == ObjectKind::Tenant);
        let known: Vec<Name> = tenants.map(|object| object.id.name).collect();
        if known.contains(name) {
            return Ok(());
        }
        let known = known.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
        Err(LockdownFault::NoTenant { name: name.clone(), known })
    }

    fn decision(&self, request: &LockdownRequest, account: &str) -> Decision {
        let now = self.clock.now();
        let LockdownRequest { on, tenant, reason } = request;
        let asked = json!({"command": "lockdown", "on": on, "tenant": tenant, "reason": reason});
        Decision {
            id: Random::default().decision(now),
            kind: Kind::Admin,
            at: now,
            tenant: tenant.clone(),
            outcome: Outcome::Allow,
            policy: None,
            task_type: None,
            record: Record { actor: Some(account.to_owned()), asked, ..Record::default() },
            input: None,
        }
    }
}

fn standing(mark: Mark) -> Option<Standing> {
    let tenant = match mark.key.key.as_str() {
        ALL_TENANTS => None,
        name => Some(name.parse().ok()?),
    };
    Some(Standing { tenant, since: mark.not_before, reason: mark.reason, decision_id: mark.decision_id })
}
