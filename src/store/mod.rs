//! The store: all SQL, the single writer included.
//!
//! Reads go straight to the reader pool (`read.rs`); everything that changes something is a `Change` sent to the
//! `Writer`. SQLite and PostgreSQL run the same texts, but for the batch statements in `batch.rs`.

use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection, Postgres};
use sqlx::sqlite::{Sqlite, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection as _, Database, Executor as _, Pool};

pub mod approvals;
mod batch;
pub mod change;
pub mod copy;
pub mod decided;
mod entry;
pub mod error;
pub mod folder;
pub mod health;
mod ledger;
pub mod policy_data;
pub mod proposals;
pub mod pruning;
pub mod read;
pub mod replicas;
pub mod rows;
pub mod schema;
pub mod status;
mod transaction;
pub mod trees;
pub mod watch;
pub mod writer;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use error::StoreError;
use folder::{Location, OwnedFolder};

/// Readers of a SQLite file: more would only wait for the same disk.
const SQLITE_READERS: u32 = 4;
/// KiB of the file that the writer keeps at hand (SQLite's own default is 2,000): the upper pages of
/// the indices of a million tokens, so that a parent's record is few reads whatever its age.
const SQLITE_WRITER_CACHE: &str = "-16384";
/// Reading connections of one process to PostgreSQL.
const POSTGRES_READERS: u32 = 8;
/// How long a reader waits for a connection before the answer is 503.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the WAL may take to be written back at the end.
const WRITE_BACK_TIMEOUT: Duration = Duration::from_secs(10);

/// Two pools of one database. Only the writer and migrations use the writing one, over a single connection.
pub(crate) struct Pools<DB: Database> {
    pub(crate) write: Pool<DB>,
    pub(crate) read: Pool<DB>,
    /// Whether the data lives no longer than the writing connection.
    pub(crate) in_memory: bool,
}

/// The database in use.
pub(crate) enum Db {
    /// The embedded default.
    Sqlite(Pools<Sqlite>),
    /// For replicas.
    Postgres(Pools<Postgres>),
}

/// Runs one expression on whichever database is in use: the text is the same, the pool's type is not.
macro_rules! on_db {
    ($db:expr, $pools:ident => $body:expr) => {
        match $db {
            $crate::store::Db::Sqlite($pools) => $body,
            $crate::store::Db::Postgres($pools) => $body,
        }
    };
}
pub(crate) use on_db;

/// A handle to the stored state; clones share its connections and, in a data folder, its lock.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    db: Db,
    _folder: Option<OwnedFolder>,
    /// Whether commits that others should hear of can say so.
    notifies: bool,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

const LATEST_MIGRATION: &str = "SELECT max(version) FROM _sqlx_migrations";

impl Store {
    /// Opens the data at `location`. SQLite is brought to the present schema; PostgreSQL must have it already, since
    /// replicas of two versions may be running: see [`Store::migrate`].
    pub async fn open(location: &Location) -> Result<Self, StoreError> {
        match location {
            Location::Memory | Location::Folder(_) => Self::migrate(location).await,
            Location::Postgres(_) => {
                let store = Self::connect(location).await?;
                store.check_schema().await?;
                Ok(store)
            }
        }
    }

    /// Whether other processes may write the same data.
    pub fn is_shared(&self) -> bool {
        matches!(self.db(), Db::Postgres(_))
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        Ok(on_db!(self.db(), pools => pools.read.acquire().await?.ping().await)?)
    }

    /// Closes all connections, the readers first: SQLite's file then has on its own all that lay in the WAL. Let the
    /// writer end first. Whoever keeps a connection is waited for only so long; other handles to the store do not matter.
    pub async fn close(&self) {
        let reading = async { on_db!(self.db(), pools => pools.read.close().await) };
        let readers = tokio::time::timeout(ACQUIRE_TIMEOUT, reading).await;
        let writing = async {
            let written_back = self.write_back().await;
            on_db!(self.db(), pools => pools.write.close().await);
            written_back
        };
        let written_back = tokio::time::timeout(WRITE_BACK_TIMEOUT, writing).await;
        if readers.is_err() || !matches!(written_back, Ok(Ok(()))) {
            let why = written_back.map(Result::err);
            tracing::warn!(?why, "the WAL may not be written back: keep it with the database");
        }
    }

    /// Has SQLite write the WAL back into its file and empty it. Without readers it does, whatever closes last.
    async fn write_back(&self) -> Result<(), StoreError> {
        if let Db::Sqlite(Pools { write, in_memory: false, .. }) = self.db()
            && !write.is_closed()
        {
            write.acquire().await?.execute(CHECKPOINT).await?;
        }
        Ok(())
    }

    pub(crate) fn db(&self) -> &Db {
        &self.0.db
    }

    pub(crate) fn notifies(&self) -> bool {
        self.0.notifies
    }

    async fn connect(location: &Location) -> Result<Self, StoreError> {
        let (db, folder) = match location {
            Location::Memory => (Db::Sqlite(sqlite_memory().await?), None),
            Location::Folder(path) => {
                let folder = OwnedFolder::take(path)?;
                (Db::Sqlite(sqlite_file(&folder).await?), Some(folder))
            }
            Location::Postgres(options) => (Db::Postgres(postgres(options).await?), None),
        };
        let notifies = match &db {
            Db::Sqlite(_) => false,
            Db::Postgres(pools) => can_notify(&pools.read).await?,
        };
        Ok(Self(Arc::new(Inner { db, _folder: folder, notifies })))
    }
}

/// SQLite: the whole WAL into the file, and the WAL emptied.
const CHECKPOINT: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// What a connection to SQLite is set to. There are no foreign keys: one writer keeps the tables consistent, and
/// parts of a decision are erased on their own.
fn sqlite_options() -> SqliteConnectOptions {
    SqliteConnectOptions::new().foreign_keys(false).busy_timeout(Duration::from_secs(4))
}

async fn sqlite_file(folder: &OwnedFolder) -> Result<Pools<Sqlite>, StoreError> {
    let options = sqlite_options().filename(folder.database());
    // L3: FULL syncs the WAL on every commit; NORMAL would lose the last ones on a power cut.
    let durable = options.clone().journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
    let write = single_connection().connect_with(durable.pragma("cache_size", SQLITE_WRITER_CACHE)).await?;
    // A connection to a file does not break while it rests: to ask first would double the round trips of each read.
    let read = PoolOptions::new()
        .max_connections(SQLITE_READERS)
        .test_before_acquire(false)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(options.read_only(true))
        .await?;
    Ok(Pools { write, read, in_memory: false })
}

/// In memory, the database is its one connection: readers take turns with the writer.
async fn sqlite_memory() -> Result<Pools<Sqlite>, StoreError> {
    let write = single_connection().connect_with(sqlite_options().in_memory(true)).await?;
    Ok(Pools { read: write.clone(), write, in_memory: true })
}

/// A pool of one connection that is never given up for age.
fn single_connection<DB: Database>() -> PoolOptions<DB> {
    PoolOptions::new()
        .max_connections(1)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .acquire_timeout(ACQUIRE_TIMEOUT)
}

/// L3: a server that is set to answer before the WAL is on disk is overruled. And a replica that vanished in the
/// middle of a commit must not keep the lock until TCP gives up.
const POSTGRES_SESSION: &str = "SELECT set_config('idle_in_transaction_session_timeout', '10s', false), \
     CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END";

/// An engine that only speaks PostgreSQL's protocol may not even know the function.
async fn can_notify(pool: &Pool<Postgres>) -> Result<bool, StoreError> {
    match sqlx::query_scalar(watch::CAN_NOTIFY).fetch_one(pool).await {
        Err(sqlx::Error::Database(_)) => Ok(false),
        can => Ok(can?),
    }
}

async fn postgres(options: &PgConnectOptions) -> Result<Pools<Postgres>, StoreError> {
    // The second place is for the successor of a connection that is being given up.
    let write = PoolOptions::new()
        .max_connections(2)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(|connection: &mut PgConnection, _meta| {
            Box::pin(async move { connection.execute(POSTGRES_SESSION).await.map(drop) })
        })
        .connect_with(options.clone())
        .await?;
    let read = PoolOptions::new()
        .max_connections(POSTGRES_READERS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(options.clone())
        .await?;
    Ok(Pools { write, read, in_memory: false })
}
