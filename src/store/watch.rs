//! What other processes change in a shared database: notified, and one row to ask for it (DESIGN §7, §11).
//!
//! A notification says nothing but "look": what was changed is always read. So one that is lost, or a server that has none,
//! delays a replica until it asks by itself, and nothing more.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgListener};

use super::error::StoreError;
use super::rows::instant;
use super::{ACQUIRE_TIMEOUT, Db, Store};

/// The channel of all notifications.
pub(super) const CHANNEL: &str = "taskgrant";
/// Sent with the commit of a revocation or of a change of the configuration.
pub(super) const NOTIFY: &str = "SELECT pg_notify('taskgrant', '')";
/// Whether the server has notifications, and lets this account send them.
pub(super) const CAN_NOTIFY: &str =
    "SELECT coalesce(has_function_privilege(to_regprocedure('pg_notify(text,text)'), 'execute'), false)";
/// All that others may have changed, in one row by primary keys, and the server's time of day.
pub(super) const LOOK: &str = "SELECT generation, greatest_iat, \
     (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, \
     (SELECT value FROM settings WHERE key = 'signing_key'), \
     (SELECT value FROM settings WHERE key = 'signing_keys_changed'), \
     (SELECT count(*) FROM revocations WHERE kind = 'signing_key') FROM log_head WHERE id = 1";

/// How long a look may take before its connection counts as broken.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// What stood in the database at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The generation of the objects.
    pub generation: i64,
    /// What the signing keys hang on.
    pub keys: KeyMarks,
    /// Greatest `iat` of any token committed.
    pub greatest_iat: DateTime<Utc>,
    /// The database's time of day.
    pub now: DateTime<Utc>,
}

/// Differs whenever a replica has changed the signing keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyMarks {
    /// Which key signs.
    pub signer: Option<String>,
    /// The decision of the last change of the published keys.
    pub changed: Option<String>,
    /// How many keys were stopped for ever.
    pub stopped: i64,
}

#[derive(FromRow)]
struct LookRow(i64, i64, i64, Option<String>, Option<String>, i64);

impl TryFrom<LookRow> for Look {
    type Error = StoreError;
    fn try_from(row: LookRow) -> Result<Self, StoreError> {
        let LookRow(generation, greatest_iat, now, signer, changed, stopped) = row;
        let keys = KeyMarks { signer, changed, stopped };
        Ok(Self { generation, keys, greatest_iat: instant(greatest_iat)?, now: instant(now)? })
    }
}

/// Looks at a shared database over a connection of its own, which hears its notifications.
pub struct Watch {
    options: Arc<PgConnectOptions>,
    /// None before the first look and after a failure.
    connection: Option<PgListener>,
    /// Whether a server without notifications was told to the log.
    is_deaf: bool,
}

impl Store {
    /// A watch over the changes of other processes; none where there are no others.
    pub fn watch(&self) -> Option<Watch> {
        let Db::Postgres(pools) = self.db() else { return None };
        Some(Watch { options: pools.read.connect_options(), connection: None, is_deaf: false })
    }
}

impl Watch {
    /// What stands in the database now.
    pub async fn look(&mut self) -> Result<Look, StoreError> {
        let slow = StoreError::Database(sqlx::Error::PoolTimedOut);
        let look = tokio::time::timeout(LOOK_TIMEOUT, self.try_look()).await.unwrap_or(Err(slow));
        if look.is_err() {
            self.connection = None;
        }
        look
    }

    /// Ends when another process says that it has changed something. For ever where nothing can be heard.
    pub async fn heard(&mut self) {
        let Some(connection) = &mut self.connection else { return pending().await };
        if let Ok(Some(_)) = connection.try_recv().await {
            // Those that came together are answered by one look.
            while connection.next_buffered().is_some() {}
        } else {
            // The connection is gone: the next look opens another.
            self.connection = None;
            pending::<()>().await;
        }
    }

    async fn try_look(&mut self) -> Result<Look, StoreError> {
        if self.connection.is_none() {
            // Heard from before the look on, so that nothing falls between the two.
            self.connection = Some(self.connect().await?);
        }
        let Some(connection) = &mut self.connection else { return Err(sqlx::Error::WorkerCrashed.into()) };
        sqlx::query_as::<_, LookRow>(LOOK).fetch_one(connection).await?.try_into()
    }

    async fn connect(&mut self) -> Result<PgListener, StoreError> {
        let alone = PoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(ACQUIRE_TIMEOUT);
        let mut connection =
            PgListener::connect_with(&alone.connect_lazy_with(self.options.as_ref().clone())).await?;
        connection.ignore_pool_close_event(true);
        connection.eager_reconnect(false);
        if let Err(error) = connection.listen(CHANNEL).await
            && !self.is_deaf
        {
            self.is_deaf = true;
            tracing::warn!(%error, "the database sends no notifications: other replicas' changes come by polling alone");
        }
        Ok(connection)
    }
}
