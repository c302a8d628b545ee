//! Revocation by order of an admin, or of an event that an issuer sent: one row, whatever hangs on it (DESIGN §7, RV-02).

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use thiserror::Error;

use super::Revocation;
use super::target::Target;
use crate::domain::decision::{Decision, Outcome};
use crate::domain::ids::{ClientId, DecisionId, TaskId};
use crate::domain::principal::Principal;
use crate::domain::record::{KEPT_AFTER, LONGEST_TASK, RevocationKey, TaskRecord, TokenRecord};
use crate::store::change::{CommitFault, Revoke};
use crate::store::error::StoreError;
use crate::store::trees::Mark;

/// Longest reason, in bytes.
const LONGEST_REASON: usize = 1000;
/// Tokens read at once, and at most, to count what would die.
const PAGE: u32 = 1000;
const MOST_COUNTED: usize = 100_000;
/// Most revocations that are listed.
const MOST_LISTED: u32 = 1000;

/// What would die, or has died.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toll {
    /// Live tokens.
    pub tokens: usize,
    /// Of how many tasks.
    pub tasks: usize,
    /// Tokens by the agent that holds them.
    pub by_agent: BTreeMap<ClientId, usize>,
    /// Tokens by task type, as `tenant/name`.
    pub by_task_type: BTreeMap<String, usize>,
    /// Whether there are more: so many were looked at, and no further.
    pub at_least: bool,
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// What was meant.
    pub target: Target,
    /// Whether any token that has not expired hangs on it. One that is not known here may be revoked all the same: what it
    /// began before is refused when it comes.
    pub seen: bool,
    /// What would die; told by a dry run only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would_die: Option<Toll>,
    /// The decision; none for a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<DecisionId>,
    /// When nothing that it killed can live any more, so that the row may go; none for a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_until: Option<DateTime<Utc>>,
}

/// Why an order is not carried out; nothing has changed as far as is known.
#[derive(Debug, Error)]
pub enum OrderFault {
    /// No reason, or a long one.
    #[error("reason: say why, for the record, in at most {LONGEST_REASON} bytes")]
    Reason,
    /// A part of the target is empty, or holds control characters.
    #[error("{0}: is empty, or holds control characters")]
    Text(&'static str),
    /// No such token or task.
    #[error(
        "no {what} `{id}` is on record: `taskgrant task tree` lists a task's tokens; what issued it may have been \
         another deployment, else revoke the session, principal or agent that it hangs on"
    )]
    Unknown {
        /// `token` or `task`.
        what: &'static str,
        /// As asked.
        id: String,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The decision cannot be recorded.
    #[error("the decision is not recorded, or nobody knows: {0}; give the order again")]
    Commit(#[from] CommitFault),
}

impl Revocation {
    /// Revokes `target`, by the word of `by`, for the record. Repeating it moves the moment before which all is dead.
    pub async fn order(&self, target: &Target, reason: &str, by: &str) -> Result<Revoked, OrderFault> {
        check(target, reason)?;
        let task = self.task_of(target).await?;
        let keep_until = self.keep_until(target, task.as_ref());
        let decision = self.ordered(target, task.as_ref(), reason, by);
        let decision_id = decision.id;
        let revoke = Revoke { keys: vec![target.key()], keep_until, reason: reason.to_owned(), decision };
        self.parts.writer.submit(revoke).await?;
        self.parts.metrics.revoked(target.key().kind.as_str());
        // After the commit: nobody waits for this but the one who asked.
        let seen = task.is_some() || self.is_seen(target).await?;
        let (decision_id, keep_until) = (Some(decision_id), Some(keep_until));
        Ok(Revoked { target: target.clone(), seen, would_die: None, decision_id, keep_until })
    }

    /// Counts what [`order`](Self::order) would kill now, and changes nothing.
    pub async fn dry_run(&self, target: &Target, reason: &str) -> Result<Revoked, OrderFault> {
        check(target, reason)?;
        let task = self.task_of(target).await?;
        let toll = self.count(target, task.as_ref()).await?;
        let seen = task.is_some() || toll.tokens > 0;
        let target = target.clone();
        Ok(Revoked { target, seen, would_die: Some(toll), decision_id: None, keep_until: None })
    }

    /// The latest revocations that are kept, the newest first.
    pub async fn latest(&self) -> Result<Vec<Mark>, OrderFault> {
        Ok(self.parts.store.revocations(self.parts.clock.now(), MOST_LISTED).await?)
    }

    /// The task that a token or task is of; none for any other target.
    async fn task_of(&self, target: &Target) -> Result<Option<TaskRecord>, OrderFault> {
        let store = &self.parts.store;
        let id = match target {
            Target::Token { jti } => {
                let unknown = || OrderFault::Unknown { what: "token", id: jti.to_string() };
                store.token(*jti).await?.ok_or_else(unknown)?.task_id
            }
            Target::Task { id } => *id,
            Target::Session { .. }
            | Target::SessionToken { .. }
            | Target::Principal { .. }
            | Target::Agent { .. }
            | Target::TaskType { .. }
            | Target::Issuer { .. }
            | Target::Tenant { .. } => return Ok(None),
        };
        let unknown = || OrderFault::Unknown { what: "task", id: id.to_string() };
        Ok(Some(store.task(id).await?.ok_or_else(unknown)?))
    }

    fn keep_until(&self, target: &Target, task: Option<&TaskRecord>) -> DateTime<Utc> {
        let age = |seconds: u32| TimeDelta::seconds(i64::from(seconds));
        let world = self.parts.active.load();
        let ages = world.snapshot.issuers().map(|issuer| age(issuer.spec.max_session_age));
        // Which issuers a tenant or session is of may change: the oldest session of any is waited for.
        let longest_login = ages.max().unwrap_or_default();
        kept_until(target, task.map(|task| task.deadline), longest_login, self.parts.clock.now())
    }

    async fn count(&self, target: &Target, task: Option<&TaskRecord>) -> Result<Toll, OrderFault> {
        let (store, now) = (&self.parts.store, self.parts.clock.now());
        let death = Death { key: target.key(), not_before: store.head().await?.not_before(now) };
        let mut tally = Tally::default();
        if let Some(task) = task {
            let most = u32::try_from(MOST_COUNTED).unwrap_or(u32::MAX);
            let mut tokens = store.tokens_of_task(task.id, most).await?;
            tally.toll.at_least = tokens.len() == MOST_COUNTED;
            tokens.retain(|token| token.exp > now);
            for page in tokens.chunks(PAGE as usize) {
                tally.add(page, &death, self).await?;
            }
            return Ok(tally.toll());
        }
        let (hanging, mut after, mut looked_at) = (target.hanging(), None, 0);
        loop {
            let page = store.live_tokens(&hanging, after, now, PAGE).await?;
            tally.add(&page, &death, self).await?;
            looked_at += page.len();
            after = page.last().map(|token| token.jti);
            tally.toll.at_least = looked_at >= MOST_COUNTED;
            if page.len() < PAGE as usize || tally.toll.at_least {
                return Ok(tally.toll());
            }
        }
    }

    async fn is_seen(&self, target: &Target) -> Result<bool, OrderFault> {
        let now = self.parts.clock.now();
        Ok(!self.parts.store.live_tokens(&target.hanging(), None, now, 1).await?.is_empty())
    }

    fn ordered(&self, target: &Target, task: Option<&TaskRecord>, reason: &str, by: &str) -> Decision {
        let mut decision = Decision { outcome: Outcome::Allow, ..self.decision(by) };
        decision.tenant = task.map(|task| &task.tenant).or_else(|| target.tenant()).cloned();
        decision.task_type = task.map(|task| format!("{}@{}", task.task_type, task.task_type_version));
        let record = &mut decision.record;
        record.asked = json!({"command": "revoke", "target": target, "reason": reason});
        record.task_id = task.map(|task| task.id);
        if let Target::Principal { iss, sub } = target {
            record.principal = Some(Principal { iss: iss.clone(), sub: sub.clone() });
        }
        decision
    }
}

/// When nothing can live any more that the row kills: what began before has ended, and no session of before is young enough
/// to begin anything.
fn kept_until(
    target: &Target,
    deadline: Option<DateTime<Utc>>,
    longest_login: TimeDelta,
    now: DateTime<Utc>,
) -> DateTime<Utc> {
    let ends = deadline.unwrap_or_else(|| match target {
        Target::Agent { .. } | Target::TaskType { .. } => now + LONGEST_TASK,
        Target::Token { .. }
        | Target::Task { .. }
        | Target::Session { .. }
        | Target::SessionToken { .. }
        | Target::Principal { .. }
        | Target::Issuer { .. }
        | Target::Tenant { .. } => now + longest_login.max(LONGEST_TASK),
    });
    ends + KEPT_AFTER
}

fn check(target: &Target, reason: &str) -> Result<(), OrderFault> {
    if reason.trim().is_empty() || reason.len() > LONGEST_REASON {
        return Err(OrderFault::Reason);
    }
    // The parts of a key are joined with a line feed.
    let unfit = |(_, text): &(&str, &str)| text.is_empty() || text.chars().any(char::is_control);
    match target.texts().into_iter().find(unfit) {
        Some((field, _)) => Err(OrderFault::Text(field)),
        None => Ok(()),
    }
}

/// The row that a revocation would write.
struct Death {
    key: RevocationKey,
    not_before: i64,
}

impl Death {
    fn strikes(&self, token: &TokenRecord) -> bool {
        token.killed_by().iter().any(|(key, bears)| *key == self.key && bears.kills(self.not_before))
    }
}

#[derive(Default)]
struct Tally {
    toll: Toll,
    tasks: BTreeSet<TaskId>,
}

impl Tally {
    /// Adds those of `tokens` that would die and are not dead already.
    async fn add(
        &mut self,
        tokens: &[TokenRecord],
        death: &Death,
        revocation: &Revocation,
    ) -> Result<(), OrderFault> {
        let marks = revocation.parts.store.marks(tokens).await?;
        for token in tokens.iter().filter(|token| death.strikes(token) && marks.killer(token).is_none()) {
            self.toll.tokens += 1;
            self.tasks.insert(token.task_id);
            *self.toll.by_agent.entry(token.agent.clone()).or_default() += 1;
            let task_type = format!("{}/{}", token.task_type_tenant, token.task_type);
            *self.toll.by_task_type.entry(task_type).or_default() += 1;
        }
        Ok(())
    }

    fn toll(self) -> Toll {
        Toll { tasks: self.tasks.len(), ..self.toll }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::ids::Jti;

    const LONGEST: i64 = LONGEST_TASK.num_seconds();
    /// A revocation reaches what a clock ahead by less has signed.
    const MARGIN: i64 = 2;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn targets() -> Vec<(Target, bool)> {
        let (iss, id) = ("https://idp.example".to_owned(), TaskId::new(at(0), [0; 10]));
        let name = || "acme".parse().unwrap();
        vec![
            (Target::Token { jti: Jti::new(at(0), [0; 10]) }, false),
            (Target::Task { id }, false),
            (Target::Agent { client_id: "agent".parse().unwrap() }, false),
            (Target::TaskType { tenant: name(), name: name() }, false),
            (Target::Session { iss: iss.clone(), sid: "s".to_owned() }, true),
            (Target::SessionToken { iss: iss.clone(), token_sha256: "ab".repeat(32) }, true),
            (Target::Principal { iss: iss.clone(), sub: "alice".to_owned() }, true),
            (Target::Issuer { iss }, true),
            (Target::Tenant { name: name() }, true),
        ]
    }

    proptest! {
        /// L4: the row of every kind is there for as long as a token lives that it kills, and as long as a login that it
        /// kills is young enough to begin another.
        #[test]
        fn l4_a_row_is_kept_for_longer_than_anything_that_it_kills(
            now in 1_000_000_000..4_000_000_000_i64,
            ago in -MARGIN..LONGEST,
            lives in 1..=LONGEST,
            oldest in 1..=10 * LONGEST,
        ) {
            // A task of before, the moment that its tokens are dead at the latest, and the login of that moment.
            let (began, longest_login) = (now - ago, TimeDelta::seconds(oldest));
            let deadline = at(began + lives);
            for (target, is_of_logins) in targets() {
                let task = matches!(target, Target::Token { .. } | Target::Task { .. }).then_some(deadline);
                let kept = kept_until(&target, task, longest_login, at(now));
                prop_assert!(kept >= deadline + KEPT_AFTER - TimeDelta::seconds(MARGIN), "{target:?}");
                if is_of_logins {
                    prop_assert!(kept >= at(began) + longest_login + KEPT_AFTER - TimeDelta::seconds(MARGIN), "{target:?}");
                }
            }
        }
    }
}
