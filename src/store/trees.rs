//! What people and agents ask about trees of tokens: who holds what, what is dead by which row, and what a revocation
//! would kill. Read from the reader pool; the commit needs none of it.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::FromRow;

use super::batch::{MARKS, Sql};
use super::change::SpendKind;
use super::error::StoreError;
use super::rows::{TokenRow, corrupt, instant, micros, parsed, to_json, token_columns};
use super::transaction::Conn;
use super::{Db, Store, on_db};
use crate::domain::decision::Record;
use crate::domain::ids::{DecisionId, Jti, Name, TaskId};
use crate::domain::record::{Bears, LONGEST_TASK, RevocationKey, RevocationKind, TokenRecord};

/// The parent's id is the older one: a tree comes from the root down.
pub(super) const TOKENS_OF_TASK: &str =
    concat!("SELECT ", token_columns!(), " FROM tokens WHERE task_id = $1 ORDER BY jti LIMIT $2");
pub(super) const RECORDS_OF_TASK: &str = "SELECT t.jti, r.record FROM tokens t \
     JOIN decisions d ON d.id = t.decision_id JOIN decision_records r ON r.idx = d.idx \
     WHERE t.task_id = $1 ORDER BY t.jti LIMIT $2";
/// The instant of issue stands first in a `jti`, so that a range of the primary key is all that is read. What is null
/// does not limit. Agents are found too often by their pattern, never too seldom.
pub(super) const LIVE_TOKENS: &str = concat!(
    "SELECT ",
    token_columns!(),
    " FROM tokens WHERE jti > $1 AND exp > $2 AND (CAST($3 AS TEXT) IS NULL OR tenant = $3) \
       AND (CAST($4 AS TEXT) IS NULL OR principal_iss = $4) AND (CAST($5 AS TEXT) IS NULL OR principal_sub = $5) \
       AND (CAST($6 AS TEXT) IS NULL OR session_sid = $6) AND (CAST($7 AS TEXT) IS NULL OR session_hash = $7) \
       AND (CAST($8 AS TEXT) IS NULL OR task_type = $8) AND (CAST($9 AS TEXT) IS NULL OR chain_agents LIKE $9) \
     ORDER BY jti LIMIT $10"
);
/// The newest first. Rows from before their decision was erased have no time.
pub(super) const REVOCATIONS: &str = "SELECT r.kind, r.key, r.not_before, r.keep_until, r.tenant, r.reason, \
     r.decision_id, d.at FROM revocations r LEFT JOIN decisions d ON d.id = r.decision_id \
     WHERE r.kind <> $1 AND r.kind <> $2 AND r.keep_until > $3 ORDER BY d.at DESC LIMIT $4";
pub(super) const REVOCATIONS_OF_KIND: &str = "SELECT r.kind, r.key, r.not_before, r.keep_until, r.tenant, \
     r.reason, r.decision_id, d.at FROM revocations r LEFT JOIN decisions d ON d.id = r.decision_id \
     WHERE r.kind = $1 ORDER BY r.key";

/// A row of the set of what is revoked, completed or under lockdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What.
    pub key: RevocationKey,
    /// What began at or before this is dead, where that is compared.
    pub not_before: DateTime<Utc>,
    /// When the row may go.
    pub keep_until: DateTime<Utc>,
    /// Whose decision it was; none for what is not of one tenant.
    pub tenant: Option<String>,
    /// Why, for people.
    pub reason: String,
    /// The decision.
    pub decision_id: DecisionId,
    /// When it was decided.
    pub at: Option<DateTime<Utc>>,
}

#[derive(FromRow)]
pub(super) struct MarkRow {
    kind: String,
    key: String,
    not_before: i64,
    keep_until: i64,
    tenant: Option<String>,
    reason: String,
    decision_id: String,
    at: Option<i64>,
}

impl TryFrom<MarkRow> for Mark {
    type Error = StoreError;
    fn try_from(row: MarkRow) -> Result<Self, StoreError> {
        let kind = RevocationKind::ALL.into_iter().find(|kind| kind.as_str() == row.kind);
        let kind = kind.ok_or_else(|| corrupt("kind of revocation")(row.kind))?;
        // A row that is kept for ever lies beyond what an instant can be.
        let time = |micros| instant(micros).unwrap_or(DateTime::<Utc>::MAX_UTC);
        Ok(Self {
            key: RevocationKey { kind, key: row.key },
            not_before: time(row.not_before),
            keep_until: time(row.keep_until),
            tenant: row.tenant,
            reason: row.reason,
            decision_id: parsed(&row.decision_id, "decision id")?,
            at: row.at.map(instant).transpose()?,
        })
    }
}

/// What was marked of all that could kill some tokens.
#[derive(Clone, Debug, Default)]
pub struct Marks(BTreeMap<RevocationKey, Mark>);

impl Marks {
    /// What kills `token`; none if it is alive. Its expiry is not looked at.
    pub fn killer(&self, token: &TokenRecord) -> Option<&Mark> {
        let killed = token.killed_by();
        killed
            .into_iter()
            .find_map(|(key, bears)| self.0.get(&key).filter(|mark| bears.kills(micros(mark.not_before))))
    }
}

/// Which live tokens to look for; what is none does not limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hanging {
    /// Their tenant.
    pub tenant: Option<String>,
    /// Their principal's issuer.
    pub iss: Option<String>,
    /// Their principal's subject.
    pub sub: Option<String>,
    /// Their session's id.
    pub sid: Option<String>,
    /// The hash of their session's token.
    pub token_sha256: Option<String>,
    /// Their task type.
    pub task_type: Option<Name>,
    /// A client id in their chain.
    pub agent: Option<String>,
}

impl Store {
    /// The first `most` tokens of a task, from the root down.
    pub async fn tokens_of_task(&self, id: TaskId, most: u32) -> Result<Vec<TokenRecord>, StoreError> {
        let rows = on_db!(self.db(), pools => sqlx::query_as::<_, TokenRow>(TOKENS_OF_TASK)
            .bind(id.to_string()).bind(i64::from(most)).fetch_all(&pools.read).await?);
        rows.into_iter().map(TokenRecord::try_from).collect()
    }

    /// The records of the decisions that granted them, but for those that were erased.
    pub async fn records_of_task(&self, id: TaskId, most: u32) -> Result<BTreeMap<Jti, Record>, StoreError> {
        let rows: Vec<(String, Vec<u8>)> = on_db!(self.db(), pools => sqlx::query_as(RECORDS_OF_TASK)
            .bind(id.to_string()).bind(i64::from(most)).fetch_all(&pools.read).await?);
        let read = |(jti, record): (String, Vec<u8>)| {
            let record = serde_json::from_slice(&record).map_err(|why| corrupt("record")(why.to_string()))?;
            Ok((parsed(&jti, "jti")?, record))
        };
        rows.into_iter().map(read).collect()
    }

    /// The next `most` tokens after `after` that have not expired at `now`, in the order of their ids. Reads what was
    /// issued within the longest life of a task.
    pub async fn live_tokens(
        &self,
        hanging: &Hanging,
        after: Option<Jti>,
        now: DateTime<Utc>,
        most: u32,
    ) -> Result<Vec<TokenRecord>, StoreError> {
        let after = after.unwrap_or_else(|| Jti::new(now - LONGEST_TASK, [0; 10])).to_string();
        let agent = hanging.agent.as_ref().map(|id| format!("%{}%", to_json(id)));
        let rows = on_db!(self.db(), pools => sqlx::query_as::<_, TokenRow>(LIVE_TOKENS)
            .bind(after).bind(micros(now))
            .bind(&hanging.tenant).bind(&hanging.iss).bind(&hanging.sub).bind(&hanging.sid)
            .bind(&hanging.token_sha256).bind(hanging.task_type.as_ref().map(Name::as_str)).bind(agent)
            .bind(i64::from(most)).fetch_all(&pools.read).await?);
        rows.into_iter().map(TokenRecord::try_from).collect()
    }

    /// What is marked of all that could kill `tokens`.
    pub async fn marks(&self, tokens: &[TokenRecord]) -> Result<Marks, StoreError> {
        let keys: HashSet<RevocationKey> =
            tokens.iter().flat_map(TokenRecord::killed_by).map(|(key, _)| key).collect();
        let marks = self.marks_of(keys.iter()).await?;
        Ok(Marks(marks.into_iter().map(|mark| (mark.key.clone(), mark)).collect()))
    }

    /// Whether one of these is revoked.
    pub(super) async fn is_any_revoked(&self, keys: &[(RevocationKey, Bears)]) -> Result<bool, StoreError> {
        let marks = self.marks_of(keys.iter().map(|(key, _)| key)).await?;
        let kills = |mark: &Mark| {
            keys.iter().any(|(key, bears)| *key == mark.key && bears.kills(micros(mark.not_before)))
        };
        Ok(marks.iter().any(kills))
    }

    /// The row of `key`.
    pub async fn mark(&self, key: &RevocationKey) -> Result<Option<Mark>, StoreError> {
        Ok(self.marks_of(std::iter::once(key)).await?.pop())
    }

    async fn marks_of(&self, keys: impl Iterator<Item = &RevocationKey>) -> Result<Vec<Mark>, StoreError> {
        let pairs: Vec<_> = keys.map(|key| (key.kind.as_str(), key.key.as_str())).collect();
        let Sql { sqlite, postgres } = MARKS;
        let rows: Vec<MarkRow> = match self.db() {
            Db::Sqlite(pools) => sqlx::query_as(sqlite).bind(to_json(&pairs)).fetch_all(&pools.read).await?,
            Db::Postgres(pools) => {
                let (kinds, keys): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
                sqlx::query_as(postgres).bind(kinds).bind(keys).fetch_all(&pools.read).await?
            }
        };
        rows.into_iter().map(Mark::try_from).collect()
    }

    /// The latest `most` revocations that are kept at `now`. Completed tasks and lockdowns are none.
    pub async fn revocations(&self, now: DateTime<Utc>, most: u32) -> Result<Vec<Mark>, StoreError> {
        let [completion, lockdown] = [RevocationKind::Completion, RevocationKind::Lockdown];
        let rows = on_db!(self.db(), pools => sqlx::query_as::<_, MarkRow>(REVOCATIONS)
            .bind(completion.as_str()).bind(lockdown.as_str()).bind(micros(now)).bind(i64::from(most))
            .fetch_all(&pools.read).await?);
        rows.into_iter().map(Mark::try_from).collect()
    }

    /// The lockdowns in force.
    pub async fn lockdowns(&self) -> Result<Vec<Mark>, StoreError> {
        let kind = RevocationKind::Lockdown.as_str();
        let rows = on_db!(self.db(), pools => sqlx::query_as::<_, MarkRow>(REVOCATIONS_OF_KIND)
            .bind(kind).fetch_all(&pools.read).await?);
        rows.into_iter().map(Mark::try_from).collect()
    }

    /// Which of these hand-over tokens are spent.
    pub async fn spent_hand_overs(&self, jtis: &[Jti]) -> Result<HashSet<Jti>, StoreError> {
        let texts: Vec<String> = jtis.iter().map(Jti::to_string).collect();
        let keys: Vec<_> = texts.iter().map(|jti| (SpendKind::HandOver, jti.as_str())).collect();
        let spent = match self.db() {
            Db::Sqlite(pools) => Conn::Sqlite(&mut *pools.read.acquire().await?).spent(&keys).await?,
            Db::Postgres(pools) => Conn::Postgres(&mut *pools.read.acquire().await?).spent(&keys).await?,
        };
        let at = |(at,): (i64,)| usize::try_from(at).ok().and_then(|at| jtis.get(at)).copied();
        Ok(spent.into_iter().filter_map(at).collect())
    }
}
