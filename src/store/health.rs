//! What `taskgrant doctor` asks of a database, beside a running server and without its lock: nothing is written.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::pool::PoolOptions;

use super::error::StoreError;
use super::folder::database;
use super::rows::instant;
use super::schema::known_schema;
use super::{ACQUIRE_TIMEOUT, Db, Inner, LATEST_MIGRATION, Pools, Store, sqlite_options};

const INTEGRITY: &str = "PRAGMA integrity_check(1)";
const NOW: &str = "SELECT CAST(strftime('%s', 'now') AS INTEGER) * 1000000";
/// The server's time of day, in microseconds.
pub(super) const SERVER_NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// The state of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Schema of the data, none before the first start.
    pub schema: Option<i64>,
    /// Schema that this program knows.
    pub known_schema: i64,
    /// What SQLite found wrong with the file; none if it is sound.
    pub damage: Option<String>,
    /// The database's clock.
    pub now: DateTime<Utc>,
}

impl Store {
    /// Opens the data in `folder` to look at it: no lock is taken, no schema changed, nothing can be written. None
    /// where there is no database yet.
    pub async fn look_at(folder: &Path) -> Result<Option<Self>, StoreError> {
        let file = database(folder);
        if !file.exists() {
            return Ok(None);
        }
        let options = sqlite_options().filename(file).read_only(true);
        let pool =
            PoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT).connect_with(options);
        let read = pool.await?;
        let db = Db::Sqlite(Pools { write: read.clone(), read, in_memory: false });
        Ok(Some(Self(Arc::new(Inner { db, _folder: None, notifies: false }))))
    }

    /// Looks the database over. Reads all of a file: seconds for a large one. A server looks after its own files.
    pub async fn health(&self) -> Result<Health, StoreError> {
        let known_schema = known_schema();
        let pools = match self.db() {
            Db::Sqlite(pools) => pools,
            Db::Postgres(pools) => {
                let schema =
                    sqlx::query_scalar::<_, Option<i64>>(LATEST_MIGRATION).fetch_one(&pools.read).await?;
                let now: i64 = sqlx::query_scalar(SERVER_NOW).fetch_one(&pools.read).await?;
                return Ok(Health { schema, known_schema, damage: None, now: instant(now)? });
            }
        };
        let schema = sqlx::query_scalar::<_, Option<i64>>(LATEST_MIGRATION).fetch_one(&pools.read).await?;
        let found: String = sqlx::query_scalar(INTEGRITY).fetch_one(&pools.read).await?;
        let now: i64 = sqlx::query_scalar(NOW).fetch_one(&pools.read).await?;
        Ok(Health { schema, known_schema, damage: (found != "ok").then_some(found), now: instant(now)? })
    }
}
