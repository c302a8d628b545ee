//! The one write transaction, and how the batch statements get their rows.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgBindIterExt as _, PgConnection, Postgres};
use sqlx::sqlite::{Sqlite, SqliteConnection};
use sqlx::{Connection as _, Transaction, query, query_as};

use super::approvals::ApprovalRow;
use super::batch::{
    APPROVALS, BEGIN, CONFIGURE, LIFT, LOCK, PURGE, PURGE_LISTS, PUT_APPROVALS, PUT_LIST, REVOKE, REVOKED,
    SPENT, TOKENS, WRITE,
};
use super::change::SpendKind;
use super::entry::Entry;
use super::error::StoreError;
use super::ledger::{RevocationRow, Writes};
use super::policy_data::PUT_DATA;
use super::read::{Head, HeadRow};
use super::rows::{BundleRow, Bytes, Known, KnownRow, ObjectRow, as_array, as_hex, micros, to_json};
use super::status::StatusListRow;
use super::watch::NOTIFY;
use super::{Db, Pools};
use crate::domain::approval::Approval;
use crate::domain::objects::ObjectRef;
use crate::domain::record::RevocationKey;

/// The writer's own connection. To a server it is kept from commit to commit: a pool would ask the server whether it
/// is alive each time that it is given back, and without a time limit.
pub(super) enum WriteConnection {
    Sqlite { connection: PoolConnection<Sqlite>, in_memory: bool },
    Postgres(PoolConnection<Postgres>),
}

impl WriteConnection {
    pub(super) async fn open(db: &Db) -> Result<Self, StoreError> {
        Ok(match db {
            Db::Sqlite(Pools { write, in_memory, .. }) => {
                Self::Sqlite { connection: write.acquire().await?, in_memory: *in_memory }
            }
            Db::Postgres(Pools { write, .. }) => Self::Postgres(write.acquire().await?),
        })
    }

    /// Whether the database still answers on it.
    pub(super) async fn is_alive(&mut self) -> bool {
        match self {
            Self::Sqlite { connection, .. } => connection.ping().await.is_ok(),
            Self::Postgres(connection) => connection.ping().await.is_ok(),
        }
    }

    /// The connection, for a statement that stands alone.
    pub(super) fn conn(&mut self) -> Conn<'_> {
        match self {
            Self::Sqlite { connection, .. } => Conn::Sqlite(connection),
            Self::Postgres(connection) => Conn::Postgres(connection),
        }
    }

    /// Gives up a connection on which a commit failed: its state, and that of the thread behind it, is not known. Only
    /// that to memory stays, since the data would be lost with it.
    pub(super) fn give_up(mut self) {
        if let Self::Sqlite { connection, in_memory: false } = &mut self {
            connection.close_on_drop();
        }
    }

    /// What is kept for the next commit. The one to SQLite goes back: in memory, readers take turns with it.
    pub(super) fn kept(self) -> Option<Self> {
        matches!(self, Self::Postgres(_)).then_some(self)
    }

    pub(super) async fn begin(&mut self) -> Result<Batch<'_>, StoreError> {
        Ok(match self {
            Self::Sqlite { connection, .. } => Batch::Sqlite(connection.begin_with(BEGIN.sqlite).await?),
            Self::Postgres(connection) => Batch::Postgres(connection.begin_with(BEGIN.postgres).await?),
        })
    }
}

impl Drop for WriteConnection {
    /// One to a server is closed: nobody else shall meet it. That to SQLite goes back to its pool.
    fn drop(&mut self) {
        if let Self::Postgres(connection) = self {
            connection.close_on_drop();
        }
    }
}

/// The one write transaction. Dropped without a commit, it rolls back.
pub(super) enum Batch<'c> {
    Sqlite(Transaction<'c, Sqlite>),
    Postgres(Transaction<'c, Postgres>),
}

impl Batch<'_> {
    /// The connection, for a statement inside of the transaction.
    pub(super) fn conn(&mut self) -> Conn<'_> {
        match self {
            Self::Sqlite(tx) => Conn::Sqlite(tx),
            Self::Postgres(tx) => Conn::Postgres(tx),
        }
    }

    /// Commits. An error leaves the outcome unknown.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await,
            Self::Postgres(tx) => tx.commit().await,
        }
        .map_err(StoreError::CommitUnknown)
    }
}

/// A connection of either database, inside or outside of a transaction.
pub(super) enum Conn<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

/// Binds one array per field, in this order.
macro_rules! bind_columns {
    ($query:expr, $rows:expr; $($field:ident)+) => {
        $query$(.bind($rows.iter().map(|row| &row.$field).bind_iter()))+
    };
}

impl Conn<'_> {
    pub(super) async fn lock(self) -> Result<Head, StoreError> {
        let row: HeadRow = match self {
            Self::Sqlite(conn) => query_as(LOCK).fetch_one(conn).await?,
            Self::Postgres(conn) => query_as(LOCK).fetch_one(conn).await?,
        };
        row.try_into()
    }

    pub(super) async fn tokens(self, jtis: &[String]) -> Result<Vec<Known>, StoreError> {
        let rows: Vec<KnownRow> = match self {
            Self::Sqlite(conn) => query_as(TOKENS.sqlite).bind(to_json(jtis)).fetch_all(conn).await?,
            Self::Postgres(conn) => query_as(TOKENS.postgres).bind(jtis).fetch_all(conn).await?,
        };
        rows.into_iter().map(Known::try_from).collect()
    }

    /// Position in `keys` and `not_before` of those that are revoked.
    pub(super) async fn revoked(self, keys: &[&RevocationKey]) -> Result<Vec<(i64, i64)>, StoreError> {
        let pairs: Vec<_> = keys.iter().map(|key| (key.kind.as_str(), key.key.as_str())).collect();
        Ok(match self {
            Self::Sqlite(conn) => query_as(REVOKED.sqlite).bind(to_json(&pairs)).fetch_all(conn).await?,
            Self::Postgres(conn) => {
                let (kinds, keys): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
                query_as(REVOKED.postgres).bind(kinds).bind(keys).fetch_all(conn).await?
            }
        })
    }

    /// The approvals of these ids.
    pub(super) async fn approvals(self, ids: &[String]) -> Result<Vec<Approval>, StoreError> {
        let rows: Vec<ApprovalRow> = match self {
            Self::Sqlite(conn) => query_as(APPROVALS.sqlite).bind(to_json(ids)).fetch_all(conn).await?,
            Self::Postgres(conn) => query_as(APPROVALS.postgres).bind(ids).fetch_all(conn).await?,
        };
        rows.into_iter().map(Approval::try_from).collect()
    }

    /// Writes approvals, new ones and changed ones.
    pub(super) async fn put_approvals(self, writes: &Writes<'_>) -> Result<(), StoreError> {
        let rows = to_json(&writes.approvals.values().map(ApprovalRow::from).collect::<Vec<_>>());
        match self {
            Self::Sqlite(conn) => query(PUT_APPROVALS.sqlite).bind(rows).execute(conn).await.map(drop)?,
            Self::Postgres(conn) => query(PUT_APPROVALS.postgres).bind(rows).execute(conn).await.map(drop)?,
        }
        Ok(())
    }

    /// Position in `keys` of those that are spent.
    pub(super) async fn spent(self, keys: &[(SpendKind, &str)]) -> Result<Vec<(i64,)>, StoreError> {
        let pairs: Vec<_> = keys.iter().map(|(kind, key)| (kind.as_str(), *key)).collect();
        Ok(match self {
            Self::Sqlite(conn) => query_as(SPENT.sqlite).bind(to_json(&pairs)).fetch_all(conn).await?,
            Self::Postgres(conn) => {
                let (kinds, keys): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
                query_as(SPENT.postgres).bind(kinds).bind(keys).fetch_all(conn).await?
            }
        })
    }

    /// Writes the log entries, what the issues need, and the head.
    pub(super) async fn write(self, writes: &Writes<'_>, head: &Head) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(conn) => write_sqlite(conn, writes, head).await?,
            Self::Postgres(conn) => write_postgres(conn, writes, head).await?,
        }
        Ok(())
    }

    /// Forgets ids that were spent and expired before `before`; how many.
    pub(super) async fn purge_spent(self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        let before = micros(before);
        Ok(match self {
            Self::Sqlite(conn) => query(PURGE).bind(before).execute(conn).await?.rows_affected(),
            Self::Postgres(conn) => query(PURGE).bind(before).execute(conn).await?.rows_affected(),
        })
    }

    /// Has other processes look once this is committed. SQLite has no others.
    pub(super) async fn notify(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(conn) => Ok(query(NOTIFY).execute(conn).await.map(drop)?),
        }
    }

    /// Records a status list.
    pub(super) async fn put_list(self, list: &StatusListRow) -> Result<(), StoreError> {
        let (id, size) = (list.id.to_string(), i64::from(list.size));
        let (opened_at, keep_until) = (micros(list.opened_at), micros(list.keep_until));
        match self {
            Self::Sqlite(conn) => {
                let query = query(PUT_LIST).bind(id).bind(size).bind(opened_at).bind(keep_until);
                query.execute(conn).await.map(drop)?;
            }
            Self::Postgres(conn) => {
                let query = query(PUT_LIST).bind(id).bind(size).bind(opened_at).bind(keep_until);
                query.execute(conn).await.map(drop)?;
            }
        }
        Ok(())
    }

    /// Forgets status lists of which no token has lived since `before`.
    pub(super) async fn purge_lists(self, before: DateTime<Utc>) -> Result<(), StoreError> {
        let before = micros(before);
        match self {
            Self::Sqlite(conn) => query(PURGE_LISTS).bind(before).execute(conn).await.map(drop)?,
            Self::Postgres(conn) => query(PURGE_LISTS).bind(before).execute(conn).await.map(drop)?,
        }
        Ok(())
    }

    pub(super) async fn revoke(self, writes: &Writes<'_>) -> Result<(), StoreError> {
        let row = |(key, row): (&RevocationKey, &RevocationRow)| {
            let RevocationRow { not_before, keep_until, tenant, reason, decision_id } = row.clone();
            (key.kind.as_str(), key.key.clone(), not_before, keep_until, tenant, reason, decision_id)
        };
        let rows = to_json(&writes.revocations.iter().map(row).collect::<Vec<_>>());
        match self {
            Self::Sqlite(conn) => query(REVOKE.sqlite).bind(rows).execute(conn).await.map(drop)?,
            Self::Postgres(conn) => query(REVOKE.postgres).bind(rows).execute(conn).await.map(drop)?,
        }
        Ok(())
    }

    /// Ends lockdowns.
    pub(super) async fn lift(self, writes: &Writes<'_>) -> Result<(), StoreError> {
        let keys: Vec<_> = writes.lifted.iter().map(|key| (key.kind.as_str(), key.key.as_str())).collect();
        let keys = to_json(&keys);
        match self {
            Self::Sqlite(conn) => query(LIFT.sqlite).bind(keys).execute(conn).await.map(drop)?,
            Self::Postgres(conn) => query(LIFT.postgres).bind(keys).execute(conn).await.map(drop)?,
        }
        Ok(())
    }

    pub(super) async fn configure(self, writes: &Writes<'_>) -> Result<(), StoreError> {
        let name = |id: &ObjectRef| (id.tenant.clone(), id.kind.as_str(), id.name.clone());
        let touched = to_json(&writes.current.keys().map(name).collect::<Vec<_>>());
        let is_current = |object: &ObjectRow| writes.current.get(&object.id) == Some(&Some(object.version));
        let objects = writes.objects.iter().map(|object| ObjectJson::new(object, is_current(object)));
        let objects = to_json(&objects.collect::<Vec<_>>());
        let bundles = to_json(&writes.bundles.iter().map(BundleJson::from).collect::<Vec<_>>());
        let settings = to_json(&writes.settings);
        match self {
            Self::Sqlite(conn) => {
                for row in &writes.documents {
                    let put = query(PUT_DATA).bind(&row.version).bind(&row.path).bind(&row.content);
                    put.bind(micros(row.created_at)).execute(&mut *conn).await?;
                }
                let query = query(CONFIGURE.sqlite).bind(touched).bind(objects).bind(bundles).bind(settings);
                query.execute(conn).await.map(drop)?;
            }
            Self::Postgres(conn) => {
                for row in &writes.documents {
                    let put = query(PUT_DATA).bind(&row.version).bind(&row.path).bind(&row.content);
                    put.bind(micros(row.created_at)).execute(&mut *conn).await?;
                }
                let query =
                    query(CONFIGURE.postgres).bind(touched).bind(objects).bind(bundles).bind(settings);
                query.execute(conn).await.map(drop)?;
            }
        }
        Ok(())
    }
}

/// A log entry as `WRITE` reads it on SQLite: the long bytes lie in one BLOB, at these places (from 1).
struct EntryJson<'e> {
    idx: i64,
    id: &'e str,
    tenant: Option<&'e str>,
    kind: &'static str,
    at: i64,
    outcome: &'static str,
    leaf_at: usize,
    leaf_len: usize,
    salt: Bytes,
    record_at: usize,
    record_len: usize,
    input_at: usize,
    input_len: usize,
    keep_until: Option<i64>,
}

as_array!(EntryJson<'_>; idx id tenant kind at outcome leaf_at leaf_len salt record_at record_len input_at input_len
    keep_until);

/// Appends `bytes` to `heap`; where they begin, from 1, and how many they are.
fn put(heap: &mut Vec<u8>, bytes: &[u8]) -> (usize, usize) {
    let at = heap.len() + 1;
    heap.extend_from_slice(bytes);
    (at, bytes.len())
}

impl<'e> EntryJson<'e> {
    fn new((idx, entry): &'e (i64, Cow<'_, Entry>), heap: &mut Vec<u8>) -> Self {
        let (leaf_at, leaf_len) = put(heap, entry.leaf.as_bytes());
        let (record_at, record_len) = put(heap, &entry.record);
        let (input_at, input_len) = put(heap, entry.input.as_ref().map_or(&[], |input| &input.packed));
        Self {
            idx: *idx,
            id: &entry.id,
            tenant: entry.tenant.as_deref(),
            kind: entry.kind,
            at: entry.at,
            outcome: entry.outcome,
            leaf_at,
            leaf_len,
            salt: Bytes(entry.salt.to_vec()),
            record_at,
            record_len,
            input_at,
            input_len,
            keep_until: entry.input.as_ref().map(|input| input.keep_until),
        }
    }
}

/// A version of an object as `CONFIGURE` reads it.
#[derive(Serialize)]
struct ObjectJson<'o> {
    tenant: &'o str,
    kind: &'o str,
    name: &'o str,
    version: i64,
    #[serde(serialize_with = "as_hex")]
    spec: &'o [u8],
    #[serde(serialize_with = "as_hex")]
    digest: Vec<u8>,
    published_at: i64,
    is_current: bool,
}

impl<'o> ObjectJson<'o> {
    fn new(object: &'o ObjectRow, is_current: bool) -> Self {
        Self {
            tenant: object.id.tenant.as_str(),
            kind: object.id.kind.as_str(),
            name: object.id.name.as_str(),
            version: object.version,
            spec: &object.spec,
            digest: object.digest(),
            published_at: micros(object.published_at),
            is_current,
        }
    }
}

/// A bundle as `CONFIGURE` reads it.
#[derive(Serialize)]
struct BundleJson<'b> {
    version: &'b str,
    #[serde(serialize_with = "as_hex")]
    content: &'b [u8],
    created_at: i64,
    in_force_at: Option<i64>,
}

impl<'b> From<&'b BundleRow> for BundleJson<'b> {
    fn from(bundle: &'b BundleRow) -> Self {
        Self {
            version: &bundle.version,
            content: &bundle.content,
            created_at: micros(bundle.created_at),
            in_force_at: bundle.in_force_at.map(micros),
        }
    }
}

fn size(head: &Head) -> i64 {
    // The column is signed; 2^63 leaves will not be reached.
    i64::try_from(head.frontier.size()).unwrap_or(i64::MAX)
}

async fn write_sqlite(conn: &mut SqliteConnection, writes: &Writes<'_>, head: &Head) -> sqlx::Result<()> {
    let mut bytes = Vec::new();
    let entries: Vec<_> = writes.entries.iter().map(|entry| EntryJson::new(entry, &mut bytes)).collect();
    let spent: Vec<_> = writes.spent.iter().map(|row| (row.kind, &row.key, row.keep_until)).collect();
    let query = query(WRITE.sqlite)
        .bind(to_json(&entries))
        .bind(bytes)
        .bind(to_json(&spent))
        .bind(to_json(&writes.tasks))
        .bind(to_json(&writes.tokens))
        .bind(size(head))
        .bind(head.frontier.to_bytes())
        .bind(micros(head.greatest_iat))
        .bind(head.generation);
    query.execute(conn).await.map(drop)
}

async fn write_postgres(conn: &mut PgConnection, writes: &Writes<'_>, head: &Head) -> sqlx::Result<()> {
    let entries = || writes.entries.iter().map(|(_, entry)| entry.as_ref());
    let inputs = || writes.entries.iter().filter_map(|(idx, entry)| Some((*idx, entry.input.as_ref()?)));
    let (tasks, tokens) = (&writes.tasks, &writes.tokens);
    let query = query(WRITE.postgres).bind(writes.entries.iter().map(|(idx, _)| *idx).bind_iter());
    let query = query
        .bind(entries().map(|entry| &entry.id).bind_iter())
        .bind(entries().map(|entry| &entry.tenant).bind_iter())
        .bind(entries().map(|entry| entry.kind).bind_iter())
        .bind(entries().map(|entry| entry.at).bind_iter())
        .bind(entries().map(|entry| entry.outcome).bind_iter())
        .bind(entries().map(|entry| entry.leaf.as_bytes()).bind_iter())
        .bind(entries().map(|entry| entry.salt.as_slice()).bind_iter())
        .bind(entries().map(|entry| &entry.record).bind_iter())
        .bind(inputs().map(|(idx, _)| idx).bind_iter())
        .bind(inputs().map(|(_, input)| &input.packed).bind_iter())
        .bind(inputs().map(|(_, input)| input.keep_until).bind_iter());
    let query = query
        .bind(writes.spent.iter().map(|row| row.kind).bind_iter())
        .bind(writes.spent.iter().map(|row| &row.key).bind_iter())
        .bind(writes.spent.iter().map(|row| row.keep_until).bind_iter());
    let query = bind_columns!(query, tasks; id tenant principal_iss principal_sub session_iss session_sid
        session_hash session_since started_by task_type_tenant task_type task_type_version created_at deadline
        facts);
    let query = bind_columns!(query, tokens; jti task_id tenant parent ancestors principal_iss principal_sub
        session_iss session_sid session_hash session_since agent chain_agents chain task_type_tenant task_type
        task_type_version capability_digest audience iat exp key_thumbprint status_list status_index
        approval_id decision_id kid task_serial sibling paced_until
        signers);
    let query = query
        .bind(size(head))
        .bind(head.frontier.to_bytes())
        .bind(micros(head.greatest_iat))
        .bind(head.generation);
    query.execute(conn).await.map(drop)
}
