//! What has ended goes: trees of tokens after their task, revocations that can kill nothing any more, policy inputs past
//! their time. A bounded number of rows in a commit, found by when they ended; nothing that lives is looked at.
//!
//! Nothing comes to life by it (L4), nor can it be repeated:
//! - A tree goes as a whole, and only after its task's deadline, which no token outlives (L5): while anything of it can live
//!   or grow, all of it is there, its newest row too, which tells how far it has grown. A token without a row is dead to
//!   introspection, exchange and revocation alike; its `exp` alone would refuse it.
//! - The task's row goes last: it is there as long as any of its tokens.
//! - A revocation goes once all that it could kill is gone, hours after that may go, and never while trees wait to go. One of a
//!   login also stays while that login could still start something: issuers may have come to accept older ones since.
//! - Expired is what ended long before the greatest `iat` that was committed: the wall clock is not asked.
//!
//! What was spent is forgotten by the same measure, see `ledger.rs`. Decisions are never touched.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::query;

use super::batch::Sql;
use super::error::StoreError;
use super::ledger::forgotten_before;
use super::read::Head;
use super::rows::{instant, micros};
use super::transaction::{Batch, Conn};
use super::{Store, on_db};

/// Most rows of one table that go in one commit: what waits behind it waits a few milliseconds longer.
pub const MOST: u64 = 256;

/// What of each kind ended first. Inputs go in the order of the log.
pub(super) const OLDEST: &str = "SELECT (SELECT min(deadline) FROM tasks), (SELECT min(keep_until) FROM revocations), \
     (SELECT keep_until FROM decision_inputs ORDER BY idx LIMIT 1), \
     (SELECT min(expires_at) FROM approvals WHERE state <> 'pending'), \
     (SELECT min(expires_at) FROM proposals WHERE state <> 'pending')";
/// The `exp` says again what the deadline says: a token that is good is never taken out. PostgreSQL is given arrays, so that it
/// goes by the indexes whatever it believes of the tables.
pub(super) const PRUNE_TOKENS: Sql = Sql {
    sqlite: "DELETE FROM tokens WHERE jti IN (SELECT jti FROM tokens WHERE task_id IN \
             (SELECT id FROM tasks WHERE deadline < $1 ORDER BY deadline LIMIT $2) AND exp < $1 LIMIT $2)",
    postgres: "DELETE FROM tokens WHERE ctid = ANY(ARRAY(SELECT ctid FROM tokens WHERE task_id = ANY(ARRAY( \
               SELECT id FROM tasks WHERE deadline < $1 ORDER BY deadline LIMIT $2)) AND exp < $1 LIMIT $2))",
};
/// A `subject_prefix` is fixed once used, also when nothing is left of its use.
pub(super) const NOTE_ISSUERS: Sql = Sql {
    sqlite: "INSERT INTO settings (key, value) SELECT DISTINCT 'issuer_used ' || principal_iss, '' FROM tasks \
             WHERE id IN (SELECT id FROM tasks WHERE deadline < $1 ORDER BY deadline LIMIT $2) \
             ON CONFLICT (key) DO NOTHING",
    postgres: "INSERT INTO settings (key, value) SELECT DISTINCT 'issuer_used ' || principal_iss, '' FROM tasks \
               WHERE ctid = ANY(ARRAY(SELECT ctid FROM tasks WHERE deadline < $1 ORDER BY deadline LIMIT $2)) \
               ON CONFLICT (key) DO NOTHING",
};
pub(super) const PRUNE_TASKS: Sql = Sql {
    sqlite: "DELETE FROM tasks WHERE id IN (SELECT id FROM tasks WHERE deadline < $1 ORDER BY deadline LIMIT $2) \
             AND NOT EXISTS (SELECT 1 FROM tokens WHERE tokens.task_id = tasks.id)",
    postgres: "DELETE FROM tasks \
               WHERE ctid = ANY(ARRAY(SELECT ctid FROM tasks WHERE deadline < $1 ORDER BY deadline LIMIT $2)) \
               AND NOT EXISTS (SELECT 1 FROM tokens WHERE tokens.task_id = tasks.id)",
};

/// Which revocations may go. Those that are kept for ever, lockdowns among them, lie beyond every instant.
macro_rules! ended_revocations {
    () => {
        "FROM revocations WHERE keep_until < $1 AND kind <> 'lockdown' \
           AND (kind IN ('token', 'task', 'completion', 'agent', 'task_type') OR not_before < $2) \
         ORDER BY keep_until LIMIT $3"
    };
}
pub(super) const PRUNE_REVOCATIONS: Sql = Sql {
    sqlite: concat!(
        "DELETE FROM revocations WHERE (kind, key) IN (SELECT kind, key ",
        ended_revocations!(),
        ")"
    ),
    postgres: concat!(
        "DELETE FROM revocations WHERE ctid = ANY(ARRAY(SELECT ctid ",
        ended_revocations!(),
        "))"
    ),
};
pub(super) const PRUNE_INPUTS: Sql = Sql {
    sqlite: "DELETE FROM decision_inputs WHERE idx IN (SELECT idx FROM \
             (SELECT idx, keep_until FROM decision_inputs ORDER BY idx LIMIT $2) AS oldest WHERE keep_until < $1)",
    postgres: "DELETE FROM decision_inputs WHERE idx = ANY(ARRAY(SELECT idx FROM \
               (SELECT idx, keep_until FROM decision_inputs ORDER BY idx LIMIT $2) AS oldest WHERE keep_until < $1))",
};

/// What nobody decided is first told to have expired.
pub(super) const PRUNE_APPROVALS: Sql = Sql {
    sqlite: "DELETE FROM approvals WHERE id IN (SELECT id FROM approvals \
             WHERE state <> 'pending' AND expires_at < $1 ORDER BY expires_at LIMIT $2)",
    postgres: "DELETE FROM approvals WHERE ctid = ANY(ARRAY(SELECT ctid FROM approvals \
               WHERE state <> 'pending' AND expires_at < $1 ORDER BY expires_at LIMIT $2))",
};

/// What nobody answered is first told to have expired, as an approval is.
pub(super) const PRUNE_PROPOSALS: Sql = Sql {
    sqlite: "DELETE FROM proposals WHERE id IN (SELECT id FROM proposals \
             WHERE state <> 'pending' AND expires_at < $1 ORDER BY expires_at LIMIT $2)",
    postgres: "DELETE FROM proposals WHERE ctid = ANY(ARRAY(SELECT ctid FROM proposals \
               WHERE state <> 'pending' AND expires_at < $1 ORDER BY expires_at LIMIT $2))",
};

/// What ended before these instants may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// The deadline of a task, and the expiry of an approval or a proposal.
    pub trees: DateTime<Utc>,
    /// The `keep_until` of a revocation.
    pub revocations: DateTime<Utc>,
    /// The `not_before` of one, too, if it is of logins.
    pub logins: DateTime<Utc>,
    /// The `keep_until` of policy inputs.
    pub inputs: DateTime<Utc>,
}

impl Before {
    /// `passed` is what has passed for certain since the last token of `head` was issued, `retention` for how long ended
    /// tasks stay, `longest_login` the age of the oldest login that still starts a task.
    ///
    /// To revocations what has passed does not count: a clock that was set back to where tokens are issued again meets
    /// them all.
    pub fn of(head: &Head, passed: TimeDelta, retention: TimeDelta, longest_login: TimeDelta) -> Self {
        let certain = forgotten_before(head);
        // What killed a token is told as long as its tree is.
        let revocations = certain - retention;
        Self {
            trees: head.greatest_iat + passed - retention,
            revocations,
            logins: revocations - longest_login,
            inputs: certain + passed,
        }
    }
}

/// What waits to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Whether there is anything.
    pub any: bool,
    /// For how long the tree has waited that could have gone first.
    pub behind: TimeDelta,
}

/// How many rows went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Of `tokens`.
    pub tokens: u64,
    /// Of `tasks`.
    pub tasks: u64,
    /// Of `revocations`.
    pub revocations: u64,
    /// Of `decision_inputs`.
    pub inputs: u64,
    /// Of `approvals`.
    pub approvals: u64,
    /// Of `proposals`.
    pub proposals: u64,
}

impl Pruned {
    /// Every table with its number.
    pub fn tables(self) -> [(&'static str, u64); 6] {
        let Self { tokens, tasks, revocations, inputs, approvals, proposals } = self;
        [
            ("tokens", tokens),
            ("tasks", tasks),
            ("revocations", revocations),
            ("decision_inputs", inputs),
            ("approvals", approvals),
            ("proposals", proposals),
        ]
    }

    /// Whether as many rows of a table went as may at once, so that more may wait.
    pub fn is_full(self) -> bool {
        self.tables().iter().any(|(_, rows)| *rows >= MOST)
    }
}

impl Store {
    /// What waits to go of what ended before `before`.
    pub async fn due(&self, before: &Before) -> Result<Due, StoreError> {
        type Oldest = (Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>);
        let (tree, revocation, input, approval, proposal): Oldest =
            on_db!(self.db(), pools => sqlx::query_as(OLDEST).fetch_one(&pools.read).await?);
        let is_due = |oldest: Option<i64>, before| oldest.is_some_and(|oldest| oldest < micros(before));
        let behind = match tree {
            Some(deadline) => (before.trees - instant(deadline)?).max(TimeDelta::zero()),
            None => TimeDelta::zero(),
        };
        let any = is_due(tree, before.trees)
            || is_due(revocation, before.revocations)
            || is_due(input, before.inputs)
            || is_due(approval, before.trees)
            || is_due(proposal, before.trees);
        Ok(Due { any, behind })
    }
}

/// Takes out what ended before `before`, as much as goes in one commit.
pub(super) async fn prune(tx: &mut Batch<'_>, before: &Before) -> Result<Pruned, StoreError> {
    let most = i64::try_from(MOST).unwrap_or(i64::MAX);
    let trees = [micros(before.trees), most];
    let mut pruned = Pruned { tokens: tx.conn().run(&PRUNE_TOKENS, &trees).await?, ..Pruned::default() };
    tx.conn().run(&NOTE_ISSUERS, &trees).await?;
    pruned.tasks = tx.conn().run(&PRUNE_TASKS, &trees).await?;
    // While trees wait, so does what killed them.
    if !pruned.is_full() {
        let revocations = [micros(before.revocations), micros(before.logins), most];
        pruned.revocations = tx.conn().run(&PRUNE_REVOCATIONS, &revocations).await?;
    }
    pruned.inputs = tx.conn().run(&PRUNE_INPUTS, &[micros(before.inputs), most]).await?;
    pruned.approvals = tx.conn().run(&PRUNE_APPROVALS, &trees).await?;
    pruned.proposals = tx.conn().run(&PRUNE_PROPOSALS, &trees).await?;
    Ok(pruned)
}

impl Conn<'_> {
    /// Runs a statement that takes these numbers; how many rows it changed.
    async fn run(self, sql: &Sql, numbers: &[i64]) -> Result<u64, StoreError> {
        Ok(match self {
            Self::Sqlite(conn) => {
                let query = numbers.iter().fold(query(sql.sqlite), |query, number| query.bind(*number));
                query.execute(conn).await?.rows_affected()
            }
            Self::Postgres(conn) => {
                let query = numbers.iter().fold(query(sql.postgres), |query, number| query.bind(*number));
                query.execute(conn).await?.rows_affected()
            }
        })
    }
}
