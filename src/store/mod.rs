//! The store: all SQL, the single writer included.
//!
//! Reads go straight to the reader pool (`read.rs`); everything that changes something is a `Change` sent to the
//! `Writer`. SQLite and PostgreSQL run the same texts, but for the batch statements in `batch.rs`.

use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection, Postgres};
use sqlx::sqlite::{Sqlite, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection as _, Database, Executor as _, Pool};

mod batch;
pub mod change;
mod entry;
pub mod error;
pub mod folder;
pub mod health;
mod ledger;
pub mod read;
pub mod rows;
pub mod status;
mod transaction;
pub mod trees;
pub mod writer;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use error::StoreError;
use folder::{Location, OwnedFolder};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Readers of a SQLite file: more would only wait for the same disk.
const SQLITE_READERS: u32 = 4;
/// Reading connections of one process to PostgreSQL.
const POSTGRES_READERS: u32 = 8;
/// How long a reader waits for a connection before the answer is 503.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

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

    /// Opens the data at `location` and applies the migrations that it lacks.
    pub async fn migrate(location: &Location) -> Result<Self, StoreError> {
        let store = Self::connect(location).await?;
        on_db!(store.db(), pools => MIGRATIONS.run(&pools.write).await)?;
        Ok(store)
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        Ok(on_db!(self.db(), pools => pools.read.acquire().await?.ping().await)?)
    }

    /// Closes all connections; SQLite writes its WAL back into the file. Let the writer end first: one that has not
    /// keeps its connection, which is waited for only so long.
    pub async fn close(&self) {
        let closing =
            async { on_db!(self.db(), pools => tokio::join!(pools.read.close(), pools.write.close())) };
        let _ = tokio::time::timeout(ACQUIRE_TIMEOUT, closing).await;
    }

    pub(crate) fn db(&self) -> &Db {
        &self.0.db
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
        Ok(Self(Arc::new(Inner { db, _folder: folder })))
    }

    async fn check_schema(&self) -> Result<(), StoreError> {
        let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
        let latest = on_db!(self.db(), pools =>
            sqlx::query_scalar::<_, Option<i64>>(LATEST_MIGRATION).fetch_one(&pools.read).await);
        match latest {
            Ok(Some(version)) if version > known => Err(StoreError::SchemaNewer(version)),
            Ok(Some(version)) if version == known => Ok(()),
            Ok(_) => Err(StoreError::SchemaOlder(known)),
            Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code == UNDEFINED_TABLE) => {
                Err(StoreError::SchemaOlder(known))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// PostgreSQL's code for a table that does not exist.
const UNDEFINED_TABLE: &str = "42P01";

/// What a connection to SQLite is set to. There are no foreign keys: one writer keeps the tables consistent, and
/// parts of a decision are erased on their own.
fn sqlite_options() -> SqliteConnectOptions {
    SqliteConnectOptions::new().foreign_keys(false).busy_timeout(Duration::from_secs(4))
}

async fn sqlite_file(folder: &OwnedFolder) -> Result<Pools<Sqlite>, StoreError> {
    let options = sqlite_options().filename(folder.database());
    // L3: FULL syncs the WAL on every commit; NORMAL would lose the last ones on a power cut.
    let durable = options.clone().journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
    let write = single_connection().connect_with(durable).await?;
    let read = PoolOptions::new()
        .max_connections(SQLITE_READERS)
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
