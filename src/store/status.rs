//! What the publisher of status lists reads: which lists there are, what was revoked since, and whom it may have killed.
//!
//! The statements only find candidates, by the tasks that a revocation may touch: a token is never of another task than
//! what it inherits from. Who is dead is decided by [`TokenRecord::killed_by`] alone.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{query_as, query_scalar};

use super::batch::Sql;
use super::change::SpendKind;
use super::error::StoreError;
use super::ledger::forgotten_before;
use super::rows::{TokenRow, corrupt, instant, micros, parsed, to_json, token_columns};
use super::transaction::Conn;
use super::{Db, Store, on_db};
use crate::domain::ids::{Jti, StatusListId, TaskId, shown};
use crate::domain::record::{Bears, LONGEST_TASK, RevocationKey, RevocationKind, TokenRecord};

pub(super) const LIST: &str =
    "SELECT id, size, opened_at, keep_until FROM status_lists WHERE id = $1 AND keep_until > $2";
pub(super) const LISTS: &str =
    "SELECT id, size, opened_at, keep_until FROM status_lists WHERE keep_until > $1 ORDER BY id";
pub(super) const REVOKED_SINCE: &str = "SELECT epoch, kind, key, not_before FROM revocations \
     WHERE (epoch, kind, key) > ($1, $2, $3) AND keep_until > $4 ORDER BY epoch, kind, key LIMIT $5";
/// Hand-over tokens that were issued since and are spent: the instant of issue stands first in a `jti`.
pub(super) const HAND_OVERS: &str =
    "SELECT key FROM spent WHERE kind = $1 AND key > $2 AND keep_until > $3 ORDER BY key";
/// The last of the next so many tasks: what bounds one look at them.
pub(super) const TASKS_PAGE: &str =
    "SELECT max(id) FROM (SELECT id FROM tasks WHERE id > $1 ORDER BY id LIMIT $2) AS page";
pub(super) const TOKENS_PAGE: &str =
    "SELECT max(jti) FROM (SELECT jti FROM tokens WHERE jti > $1 ORDER BY jti LIMIT $2) AS page";

/// Live tasks between two ids that bear one of these names: of a principal, session, task type, issuer or tenant.
pub(super) const TASKS_NAMED: Sql = Sql {
    sqlite: "WITH n AS MATERIALIZED (SELECT value FROM json_each($4)) SELECT id FROM tasks \
             WHERE id > $1 AND id <= $2 AND deadline > $3 AND (principal_sub IN n OR session_sid IN n \
               OR session_hash IN n OR task_type IN n OR principal_iss IN n OR tenant IN n)",
    postgres: "SELECT id FROM tasks WHERE id > $1 AND id <= $2 AND deadline > $3 \
               AND (principal_sub = ANY($4::text[]) OR session_sid = ANY($4::text[]) \
                 OR session_hash = ANY($4::text[]) OR task_type = ANY($4::text[]) \
                 OR principal_iss = ANY($4::text[]) OR tenant = ANY($4::text[]))",
};
/// Tasks of live tokens between two ids in whose chain is one of these agents, or that one of these keys signed.
pub(super) const TOKENS_NAMED: Sql = Sql {
    sqlite: "WITH n AS MATERIALIZED (SELECT value FROM json_each($4)) SELECT DISTINCT task_id FROM tokens \
             WHERE jti > $1 AND jti <= $2 AND exp > $3 AND (kid IN n \
               OR EXISTS (SELECT 1 FROM json_each(chain_agents) a WHERE a.value IN n))",
    postgres: "SELECT DISTINCT task_id FROM tokens WHERE jti > $1 AND jti <= $2 AND exp > $3 \
               AND (kid = ANY($4::text[]) OR EXISTS (SELECT 1 \
                 FROM json_array_elements_text(chain_agents::json) a(id) WHERE a.id = ANY($4::text[])))",
};
/// Live tokens of these tasks that have a place in a list, from one on.
pub(super) const TOKENS_OF_TASKS: Sql = Sql {
    sqlite: concat!(
        "SELECT ",
        token_columns!(),
        " FROM tokens WHERE task_id IN (SELECT value FROM json_each($1)) AND jti > $2 AND exp > $3 \
         AND status_list IS NOT NULL ORDER BY jti LIMIT $4"
    ),
    postgres: concat!(
        "SELECT ",
        token_columns!(),
        " FROM tokens WHERE task_id = ANY($1::text[]) AND jti > $2 AND exp > $3 \
         AND status_list IS NOT NULL ORDER BY jti LIMIT $4"
    ),
};

/// Rows that one statement looks at: what else the database has to do waits for no more.
const PAGE: i64 = 4096;
/// Revocations that are taken in at once.
const REVOCATIONS: i64 = 8192;
/// Tasks whose tokens are read at once, and tokens of one answer.
const TASKS: usize = 64;
const TOKENS: i64 = 1024;
/// Clocks of replicas differ by less.
const SKEW: TimeDelta = TimeDelta::minutes(1);

/// A status list as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusListRow {
    /// Which list.
    pub id: StatusListId,
    /// Its number of entries.
    pub size: u32,
    /// When it was opened: no token of it is older.
    pub opened_at: DateTime<Utc>,
    /// No token of it lives longer.
    pub keep_until: DateTime<Utc>,
}

type ListColumns = (String, i64, i64, i64);

fn list((id, size, opened_at, keep_until): ListColumns) -> Result<StatusListRow, StoreError> {
    let size = u32::try_from(size).map_err(|_| corrupt("size of a list")(size.to_string()))?;
    let (opened_at, keep_until) = (instant(opened_at)?, instant(keep_until)?);
    Ok(StatusListRow { id: parsed(&id, "list id")?, size, opened_at, keep_until })
}

/// How far the revocations have been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since {
    epoch: i64,
    kind: String,
    key: String,
}

impl Default for Since {
    /// Nothing yet.
    fn default() -> Self {
        Self { epoch: -1, kind: String::new(), key: String::new() }
    }
}

/// Revocations that were read together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked {
    not_before: HashMap<RevocationKey, i64>,
    /// Whether there may be more.
    pub more: bool,
}

impl Revoked {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.not_before.is_empty()
    }

    /// Whether one of them kills `token`.
    pub fn kills(&self, token: &TokenRecord) -> bool {
        let dead = |(key, bears): &(RevocationKey, Bears)| {
            self.not_before.get(key).is_some_and(|not_before| bears.kills(*not_before))
        };
        token.killed_by().iter().any(dead)
    }

    /// What the keys that are looked for there end in: the name that is a column of its own.
    fn names(&self, found_by: FoundBy) -> Vec<String> {
        let keys = self.not_before.keys().filter(|key| found_by_of(key.kind) == Some(found_by));
        keys.filter_map(|key| key.key.rsplit('\n').next()).map(str::to_owned).collect()
    }
}

/// How the tasks are found that a revocation may touch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FoundBy {
    /// The key is the task's.
    Task,
    /// The key is that of a token of it.
    Token,
    /// The task bears the name.
    TaskName,
    /// A token of it bears the name.
    TokenName,
}

/// None for what kills nothing that was issued.
fn found_by_of(kind: RevocationKind) -> Option<FoundBy> {
    use RevocationKind as Kind;
    match kind {
        Kind::Task | Kind::Completion => Some(FoundBy::Task),
        Kind::Token => Some(FoundBy::Token),
        Kind::Principal | Kind::Session | Kind::TaskType | Kind::Issuer | Kind::Tenant => {
            Some(FoundBy::TaskName)
        }
        Kind::Agent | Kind::SigningKey => Some(FoundBy::TokenName),
        Kind::Lockdown => None,
    }
}

/// One look at a part of a table: the range of ids, and the time.
struct Look<'a> {
    after: &'a str,
    until: &'a str,
    now: i64,
}

impl Conn<'_> {
    async fn named(self, sql: &Sql, look: Look<'_>, names: &[String]) -> Result<Vec<String>, StoreError> {
        let Look { after, until, now } = look;
        Ok(match self {
            Self::Sqlite(conn) => {
                let query = query_scalar(sql.sqlite).bind(after).bind(until).bind(now);
                query.bind(to_json(names)).fetch_all(conn).await?
            }
            Self::Postgres(conn) => {
                let query = query_scalar(sql.postgres).bind(after).bind(until).bind(now);
                query.bind(names).fetch_all(conn).await?
            }
        })
    }

    async fn tokens_of(
        self,
        tasks: &[String],
        after: &str,
        now: i64,
    ) -> Result<Vec<TokenRecord>, StoreError> {
        let rows: Vec<TokenRow> = match self {
            Self::Sqlite(conn) => {
                let query = query_as(TOKENS_OF_TASKS.sqlite).bind(to_json(tasks)).bind(after);
                query.bind(now).bind(TOKENS).fetch_all(conn).await?
            }
            Self::Postgres(conn) => {
                let query = query_as(TOKENS_OF_TASKS.postgres).bind(tasks).bind(after);
                query.bind(now).bind(TOKENS).fetch_all(conn).await?
            }
        };
        rows.into_iter().map(TokenRecord::try_from).collect()
    }
}

/// Runs one statement of [`Conn`] on a connection of the reader pool.
macro_rules! on_reader {
    ($store:expr, $conn:ident => $body:expr) => {
        match $store.db() {
            Db::Sqlite(pools) => {
                let mut reader = pools.read.acquire().await?;
                let $conn = Conn::Sqlite(&mut reader);
                $body
            }
            Db::Postgres(pools) => {
                let mut reader = pools.read.acquire().await?;
                let $conn = Conn::Postgres(&mut reader);
                $body
            }
        }
    };
}

impl Store {
    /// The list `id`, if a token of it may live at `now`.
    pub async fn status_list(
        &self,
        id: StatusListId,
        now: DateTime<Utc>,
    ) -> Result<Option<StatusListRow>, StoreError> {
        let row: Option<ListColumns> = on_db!(self.db(), pools =>
            query_as(LIST).bind(id.to_string()).bind(micros(now)).fetch_optional(&pools.read).await?);
        row.map(list).transpose()
    }

    /// All lists of which a token may live at `now`.
    pub async fn status_lists(&self, now: DateTime<Utc>) -> Result<Vec<StatusListRow>, StoreError> {
        let rows: Vec<ListColumns> = on_db!(self.db(), pools =>
            query_as(LISTS).bind(micros(now)).fetch_all(&pools.read).await?);
        rows.into_iter().map(list).collect()
    }

    /// What was revoked after `since`, which moves on: all of it, or as much as is good to take in at once. A fault by a
    /// clock that was set back to where what is pruned would still kill (L7).
    pub async fn revoked_since(&self, since: &mut Since, now: DateTime<Utc>) -> Result<Revoked, StoreError> {
        if now < forgotten_before(&self.head().await?) {
            return Err(StoreError::Forgotten);
        }
        let rows: Vec<(i64, String, String, i64)> = on_db!(self.db(), pools =>
            query_as(REVOKED_SINCE)
                .bind(since.epoch)
                .bind(&since.kind)
                .bind(&since.key)
                .bind(micros(now))
                .bind(REVOCATIONS)
                .fetch_all(&pools.read)
                .await?);
        let more = i64::try_from(rows.len()).is_ok_and(|read| read == REVOCATIONS);
        if let Some((epoch, kind, key, _)) = rows.last().cloned() {
            *since = Since { epoch, kind, key };
        }
        let row = |(_, kind, key, not_before): (i64, String, String, i64)| {
            let known = RevocationKind::ALL.into_iter().find(|known| known.as_str() == kind);
            let kind = known.ok_or_else(|| corrupt("kind of revocation")(shown(&kind)))?;
            Ok((RevocationKey { kind, key }, not_before))
        };
        let not_before = rows.into_iter().map(row).collect::<Result<_, StoreError>>()?;
        Ok(Revoked { not_before, more })
    }

    /// Tasks of which a live token may be killed by `revoked`; none of its tokens was issued before `oldest`.
    pub async fn tasks_touched(
        &self,
        revoked: &Revoked,
        now: DateTime<Utc>,
        oldest: DateTime<Utc>,
    ) -> Result<BTreeSet<String>, StoreError> {
        let mut tasks: BTreeSet<String> = revoked.names(FoundBy::Task).into_iter().collect();
        let tokens = revoked.names(FoundBy::Token);
        for jtis in tokens.chunks(TASKS) {
            let found = on_reader!(self, conn => conn.tokens(jtis).await?);
            tasks.extend(found.iter().map(|known| known.token.task_id.to_string()));
        }
        let first = TaskId::new(now - LONGEST_TASK - SKEW, [0; 10]).to_string();
        let names = revoked.names(FoundBy::TaskName);
        tasks.extend(self.walk((TASKS_PAGE, &TASKS_NAMED), first, now, &names).await?);
        let first = Jti::new(oldest - SKEW, [0; 10]).to_string();
        let names = revoked.names(FoundBy::TokenName);
        tasks.extend(self.walk((TOKENS_PAGE, &TOKENS_NAMED), first, now, &names).await?);
        Ok(tasks)
    }

    /// Looks through a table in bounded steps for tasks that bear one of `names`.
    async fn walk(
        &self,
        (page, sql): (&'static str, &Sql),
        mut after: String,
        now: DateTime<Utc>,
        names: &[String],
    ) -> Result<BTreeSet<String>, StoreError> {
        let mut tasks = BTreeSet::new();
        if names.is_empty() {
            return Ok(tasks);
        }
        loop {
            let last: Option<String> = on_db!(self.db(), pools =>
                query_scalar(page).bind(&after).bind(PAGE).fetch_one(&pools.read).await?);
            let Some(until) = last else { return Ok(tasks) };
            let look = Look { after: &after, until: &until, now: micros(now) };
            tasks.extend(on_reader!(self, conn => conn.named(sql, look, names).await?));
            after = until;
        }
    }

    /// The places in status lists of the live tokens of `tasks` that `revoked` kills.
    pub async fn places_of_dead(
        &self,
        revoked: &Revoked,
        tasks: &BTreeSet<String>,
        now: DateTime<Utc>,
    ) -> Result<Vec<(String, i64)>, StoreError> {
        let mut places = Vec::new();
        let tasks: Vec<String> = tasks.iter().cloned().collect();
        for tasks in tasks.chunks(TASKS) {
            let mut after = String::new();
            loop {
                let page = on_reader!(self, conn => conn.tokens_of(tasks, &after, micros(now)).await?);
                let dead = page.iter().filter(|token| revoked.kills(token));
                places.extend(dead.filter_map(|token| token.status.clone()));
                match page.last() {
                    Some(last) if i64::try_from(page.len()).is_ok_and(|read| read == TOKENS) => {
                        after = last.jti.to_string();
                    }
                    Some(_) | None => break,
                }
            }
        }
        Ok(places)
    }

    /// Live hand-over tokens that were issued after `since` and are spent.
    pub async fn hand_overs_spent(
        &self,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Jti>, StoreError> {
        let kind = SpendKind::HandOver.as_str();
        let since = Jti::new(since, [0; 10]).to_string();
        let keys: Vec<String> = on_db!(self.db(), pools =>
            query_scalar(HAND_OVERS).bind(kind).bind(since).bind(micros(now)).fetch_all(&pools.read).await?);
        keys.iter().map(|key| parsed(key, "jti")).collect()
    }

    /// The places in status lists of these tokens.
    pub async fn places_of(&self, jtis: &[Jti]) -> Result<Vec<(String, i64)>, StoreError> {
        let mut places = Vec::new();
        for jtis in jtis.chunks(TASKS) {
            let jtis: Vec<String> = jtis.iter().map(Jti::to_string).collect();
            let tokens = on_reader!(self, conn => conn.tokens(&jtis).await?);
            places.extend(tokens.into_iter().filter_map(|known| known.token.status));
        }
        Ok(places)
    }
}
