//! What the request path and the snapshot read, from the reader pool.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sqlx::pool::PoolConnection;
use sqlx::{FromRow, Postgres, Sqlite};

use super::change::{Loss, SpendKind};
use super::decided::unpack;
use super::error::StoreError;
use super::rows::{
    ObjectRow, StoredDecision, TaskRow, TokenRow, corrupt, instant, micros, parsed, task_columns,
    token_columns,
};
use super::transaction::Conn;
use super::{Db, Store, ledger, on_db};
use crate::domain::ids::{DecisionId, Jti, TaskId, shown};
use crate::domain::objects::{ObjectKind, ObjectRef};
use crate::domain::record::{LONGEST_TASK, RevocationKind, TaskRecord, TokenRecord, TreeLimits};
use crate::log::tree::Frontier;

pub(super) const TASK: &str = concat!("SELECT ", task_columns!(), " FROM tasks WHERE id = $1");
pub(super) const TASK_OF_ISSUER: &str = "SELECT key FROM settings WHERE key = 'issuer_used ' || CAST($1 AS TEXT) \
     UNION ALL SELECT id FROM tasks WHERE principal_iss = $1 LIMIT 1";
pub(super) const TOKEN: &str = concat!("SELECT ", token_columns!(), " FROM tokens WHERE jti = $1");
pub(super) const OBJECTS_CURRENT: &str = "SELECT tenant, kind, name, version, spec, digest, published_at \
     FROM objects WHERE is_current ORDER BY tenant, kind, name";
pub(super) const OBJECT_VERSIONS: &str = "SELECT tenant, kind, name, version, spec, digest, published_at \
     FROM objects WHERE kind = $1 ORDER BY tenant, name, version";
pub(super) const BUNDLE: &str = "SELECT content FROM bundles WHERE version = $1";
pub(super) const BUNDLES: &str = "SELECT version, in_force_at FROM bundles \
     ORDER BY COALESCE(in_force_at, created_at) DESC, version";
pub(super) const DECISION: &str = "SELECT d.idx, d.leaf, r.salt, r.record, i.input FROM decisions d \
     LEFT JOIN decision_records r ON r.idx = d.idx LEFT JOIN decision_inputs i ON i.idx = d.idx WHERE d.id = $1";
pub(super) const HEAD: &str = "SELECT size, frontier, greatest_iat, generation FROM log_head WHERE id = 1";
pub(super) const SETTING: &str = "SELECT value FROM settings WHERE key = $1";
pub(super) const STOPPED_KEYS: &str = "SELECT key FROM revocations WHERE kind = $1";
/// The instant of issue stands first in a `jti`, so that a range of the primary key is all that is read.
pub(super) const SIGNED_BY: &str = "SELECT COUNT(*), COUNT(CASE WHEN exp > $1 THEN 1 END), \
     COUNT(DISTINCT CASE WHEN exp > $1 THEN task_id END), MAX(exp) FROM tokens WHERE jti >= $2 AND kid = $3";

/// The head of the decision log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Size and root of the tree.
    pub frontier: Frontier,
    /// Greatest `iat` of any token committed.
    pub greatest_iat: DateTime<Utc>,
    /// Generation of the configuration: it grows with every change of an object.
    pub generation: i64,
}

impl Head {
    /// What began at or before this would be dead, if it were revoked at `now` (DESIGN §7).
    pub fn not_before(&self, now: DateTime<Utc>) -> i64 {
        micros(now.max(self.greatest_iat)).saturating_add(REVOCATION_MARGIN_US)
    }
}

/// A revocation also reaches tokens that a replica with a clock ahead by less than this has signed (DESIGN §7).
const REVOCATION_MARGIN_US: i64 = 2_000_000;

/// What a signing key of ours has signed, whether or not it was revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignedBy {
    /// How many tokens in the last [`LONGEST_TASK`], the expired ones included.
    pub ever: u64,
    /// How many tokens that have not expired.
    pub tokens: u64,
    /// Of how many tasks these are.
    pub tasks: u64,
    /// When the last of these expires; none if there is none.
    pub until: Option<DateTime<Utc>>,
}

/// The head as its row has it.
#[derive(Debug, FromRow)]
pub(super) struct HeadRow {
    size: i64,
    frontier: Vec<u8>,
    greatest_iat: i64,
    generation: i64,
}

impl TryFrom<HeadRow> for Head {
    type Error = StoreError;
    fn try_from(row: HeadRow) -> Result<Self, StoreError> {
        // A negative size has no frontier of its length either.
        let size = u64::try_from(row.size).unwrap_or(u64::MAX);
        let frontier = Frontier::from_bytes(size, &row.frontier)?;
        Ok(Self { frontier, greatest_iat: instant(row.greatest_iat)?, generation: row.generation })
    }
}

#[derive(FromRow)]
struct ObjectColumns {
    tenant: String,
    kind: String,
    name: String,
    version: i64,
    spec: Vec<u8>,
    digest: Vec<u8>,
    published_at: i64,
}

impl TryFrom<ObjectColumns> for ObjectRow {
    type Error = StoreError;
    fn try_from(row: ObjectColumns) -> Result<Self, StoreError> {
        let kind = ObjectKind::ALL.into_iter().find(|kind| kind.as_str() == row.kind);
        let id = ObjectRef {
            kind: kind.ok_or_else(|| corrupt("kind of object")(shown(&row.kind)))?,
            tenant: parsed(&row.tenant, "tenant")?,
            name: parsed(&row.name, "object name")?,
        };
        let published_at = instant(row.published_at)?;
        let object = Self { id, version: row.version, spec: row.spec, published_at };
        if object.digest() == row.digest {
            Ok(object)
        } else {
            Err(corrupt("object")(format!("`{}` differs from its digest", object.id)))
        }
    }
}

/// One reading connection. Each that is given back is asked first whether it is alive, and is not there for the read that
/// follows at once: that one would open another.
pub enum Reader {
    /// To SQLite.
    Sqlite(PoolConnection<Sqlite>),
    /// To PostgreSQL.
    Postgres(PoolConnection<Postgres>),
}

impl Reader {
    /// The token of this id.
    pub async fn token(&mut self, jti: Jti) -> Result<Option<TokenRecord>, StoreError> {
        let jti = jti.to_string();
        let row = match self {
            Self::Sqlite(conn) => {
                sqlx::query_as::<_, TokenRow>(TOKEN).bind(jti).fetch_optional(&mut **conn).await?
            }
            Self::Postgres(conn) => {
                sqlx::query_as::<_, TokenRow>(TOKEN).bind(jti).fetch_optional(&mut **conn).await?
            }
        };
        row.map(TokenRecord::try_from).transpose()
    }

    /// Whether nothing that is revoked kills `token`. Its expiry is not looked at.
    pub async fn is_alive(&mut self, token: &TokenRecord) -> Result<bool, StoreError> {
        let killed_by = token.killed_by();
        let keys: Vec<_> = killed_by.iter().map(|(key, _)| key).collect();
        let revoked = self.conn().revoked(&keys).await?;
        let kills = |(at, not_before): &(i64, i64)| {
            let bears = usize::try_from(*at).ok().and_then(|at| killed_by.get(at));
            bears.is_none_or(|(_, bears)| bears.kills(*not_before))
        };
        Ok(!revoked.iter().any(kills))
    }

    /// Whether what may be used once has been.
    pub async fn is_spent(&mut self, kind: SpendKind, key: &str) -> Result<bool, StoreError> {
        Ok(!self.conn().spent(&[(kind, key)]).await?.is_empty())
    }

    fn conn(&mut self) -> Conn<'_> {
        match self {
            Self::Sqlite(conn) => Conn::Sqlite(conn),
            Self::Postgres(conn) => Conn::Postgres(conn),
        }
    }
}

impl Store {
    /// The task of this id.
    pub async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>, StoreError> {
        let row = on_db!(self.db(), pools =>
            sqlx::query_as::<_, TaskRow>(TASK).bind(id.to_string()).fetch_optional(&pools.read).await?);
        row.map(TaskRecord::try_from).transpose()
    }

    /// Whether any task of a principal of the issuer `iss` is stored, or ever was. Reads all tasks where there is none.
    pub async fn has_had_tasks_of(&self, iss: &str) -> Result<bool, StoreError> {
        let found: Option<String> = on_db!(self.db(), pools =>
            sqlx::query_scalar(TASK_OF_ISSUER).bind(iss).fetch_optional(&pools.read).await?);
        Ok(found.is_some())
    }

    /// The token of this id.
    pub async fn token(&self, jti: Jti) -> Result<Option<TokenRecord>, StoreError> {
        self.reader().await?.token(jti).await
    }

    /// A connection for reads that follow each other.
    pub async fn reader(&self) -> Result<Reader, StoreError> {
        Ok(match self.db() {
            Db::Sqlite(pools) => Reader::Sqlite(pools.read.acquire().await?),
            Db::Postgres(pools) => Reader::Postgres(pools.read.acquire().await?),
        })
    }

    /// Whether nothing that is revoked kills `token`. Its expiry is not looked at.
    pub async fn is_alive(&self, token: &TokenRecord) -> Result<bool, StoreError> {
        self.reader().await?.is_alive(token).await
    }

    /// Why no token can be added below `parent`, as far as the size of its tree goes.
    pub async fn outgrown(
        &self,
        parent: Jti,
        limits: TreeLimits,
        now: DateTime<Utc>,
    ) -> Result<Option<Loss>, StoreError> {
        let jtis = [parent.to_string()];
        let known = match self.db() {
            Db::Sqlite(pools) => Conn::Sqlite(&mut *pools.read.acquire().await?).tokens(&jtis).await?,
            Db::Postgres(pools) => Conn::Postgres(&mut *pools.read.acquire().await?).tokens(&jtis).await?,
        };
        let known = known.into_iter().next();
        let below = known
            .map(|parent| ledger::below((parent.token.exp, parent.children), parent.growth, limits, now));
        Ok(below.and_then(Result::err))
    }

    /// Whether what may be used once has been.
    pub async fn is_spent(&self, kind: SpendKind, key: &str) -> Result<bool, StoreError> {
        self.reader().await?.is_spent(kind, key).await
    }

    /// The current version of every object that has one.
    pub async fn objects_current(&self) -> Result<Vec<ObjectRow>, StoreError> {
        let rows = on_db!(self.db(), pools =>
            sqlx::query_as::<_, ObjectColumns>(OBJECTS_CURRENT).fetch_all(&pools.read).await?);
        rows.into_iter().map(ObjectRow::try_from).collect()
    }

    /// All versions of all objects of one kind, the oldest version of each first.
    pub async fn object_versions(&self, kind: ObjectKind) -> Result<Vec<ObjectRow>, StoreError> {
        let rows = on_db!(self.db(), pools =>
            sqlx::query_as::<_, ObjectColumns>(OBJECT_VERSIONS).bind(kind.as_str()).fetch_all(&pools.read).await?);
        rows.into_iter().map(ObjectRow::try_from).collect()
    }

    /// Content of the policy bundle of this version.
    pub async fn bundle(&self, version: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(on_db!(self.db(), pools =>
            sqlx::query_scalar(BUNDLE).bind(version).fetch_optional(&pools.read).await?))
    }

    /// Every policy bundle that is kept, the newest first, with the time when it first came into force: none of one that was
    /// only tried.
    pub async fn bundles(&self) -> Result<Vec<(String, Option<DateTime<Utc>>)>, StoreError> {
        let rows: Vec<(String, Option<i64>)> =
            on_db!(self.db(), pools => sqlx::query_as(BUNDLES).fetch_all(&pools.read).await?);
        rows.into_iter().map(|(version, at)| Ok((version, at.map(instant).transpose()?))).collect()
    }

    /// The decision of this id, with its input unpacked.
    pub async fn decision(&self, id: DecisionId) -> Result<Option<StoredDecision>, StoreError> {
        let row = on_db!(self.db(), pools =>
            sqlx::query_as::<_, StoredDecision>(DECISION).bind(id.to_string()).fetch_optional(&pools.read).await?);
        let Some(mut decision) = row else { return Ok(None) };
        let unpacked = decision.input.as_deref().map(unpack).transpose();
        decision.input = unpacked.map_err(|why| corrupt("input")(why))?;
        Ok(Some(decision))
    }

    /// The head of the decision log.
    pub async fn head(&self) -> Result<Head, StoreError> {
        on_db!(self.db(), pools => sqlx::query_as::<_, HeadRow>(HEAD).fetch_one(&pools.read).await?)
            .try_into()
    }

    /// What the key `kid` has signed, as of `now`. Reads what was issued within the longest life of a task.
    pub async fn signed_by(&self, kid: &str, now: DateTime<Utc>) -> Result<SignedBy, StoreError> {
        let oldest = Jti::new(now - LONGEST_TASK, [0; 10]).to_string();
        let (ever, tokens, tasks, until): (i64, i64, i64, Option<i64>) = on_db!(self.db(), pools =>
            sqlx::query_as(SIGNED_BY).bind(micros(now)).bind(oldest).bind(kid).fetch_one(&pools.read).await?);
        let count = |n: i64| u64::try_from(n).unwrap_or_default();
        let until = until.map(instant).transpose()?.filter(|until| *until > now);
        Ok(SignedBy { ever: count(ever), tokens: count(tokens), tasks: count(tasks), until })
    }

    /// `kid` of every signing key of ours that was stopped for ever.
    pub async fn stopped_keys(&self) -> Result<BTreeSet<String>, StoreError> {
        let kind = RevocationKind::SigningKey.as_str();
        let kids: Vec<String> = on_db!(self.db(), pools =>
            sqlx::query_scalar(STOPPED_KEYS).bind(kind).fetch_all(&pools.read).await?);
        Ok(kids.into_iter().collect())
    }

    /// A fact of the deployment.
    pub async fn setting(&self, key: &str) -> Result<Option<String>, StoreError> {
        Ok(on_db!(self.db(), pools =>
            sqlx::query_scalar(SETTING).bind(key).fetch_optional(&pools.read).await?))
    }
}
