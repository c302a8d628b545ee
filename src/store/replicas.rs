//! What each running server tells of itself: one row, which it alone writes, and takes out at its end.
//!
//! No decision stands on it, so it is written beside the log: no lock of the log is taken, and each statement stands alone.
//!
//! Who is lost is told by one clock for all: a shared database's own. A data folder is of one machine, whose clock it is.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{FromRow, query, query_as, query_scalar};

use super::error::StoreError;
use super::health::SERVER_NOW;
use super::rows::{instant, micros};
use super::transaction::Conn;
use super::{Db, Store, on_db};

/// After so long without a word a server counts as lost: three of its signs of life may fail before.
pub const LOST_AFTER: TimeDelta = TimeDelta::minutes(1);
/// So long the row of a lost one stays: a night, and the morning in which people ask.
const KEPT_FOR: TimeDelta = TimeDelta::days(1);

/// A server that writes again keeps its name and start.
pub(super) const PUT_REPLICA: &str = "INSERT INTO replicas (id, name, program, started_at, seen_at, told) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, told = excluded.told";
/// Those that were lost long ago, and those in whose place another one of the same name is.
pub(super) const FORGET_REPLICAS: &str =
    "DELETE FROM replicas WHERE seen_at < $1 OR (name = $2 AND id <> $3 AND seen_at < $4)";
pub(super) const DROP_REPLICA: &str = "DELETE FROM replicas WHERE id = $1";
pub(super) const REPLICAS: &str =
    "SELECT id, name, program, started_at, seen_at, told FROM replicas ORDER BY name, started_at, id";

/// A server, and what it tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaRow {
    /// Id of the process, drawn at its start.
    pub id: String,
    /// Its name, for people: two may have the same.
    pub name: String,
    /// Version of its program.
    pub program: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When it told this: by its own clock as it is told, and in a shared database by that of the database.
    pub seen_at: DateTime<Utc>,
    /// What it tells, as JSON.
    pub told: String,
}

/// What a server has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaNews {
    /// It has started: whatever has its name is in its place no more. One that runs all the same writes itself again.
    Started(ReplicaRow),
    /// It runs.
    Runs(ReplicaRow),
    /// It ends: the server of this id.
    Ends(String),
}

#[derive(FromRow)]
struct Columns {
    id: String,
    name: String,
    program: String,
    started_at: i64,
    seen_at: i64,
    told: String,
}

impl TryFrom<Columns> for ReplicaRow {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        let Columns { id, name, program, started_at, seen_at, told } = row;
        let (started_at, seen_at) = (instant(started_at)?, instant(seen_at)?);
        Ok(Self { id, name, program, started_at, seen_at, told })
    }
}

impl Store {
    /// What every server has told, sorted by name: the lost ones too, for a day.
    pub async fn replicas(&self) -> Result<Vec<ReplicaRow>, StoreError> {
        let rows: Vec<Columns> = on_db!(self.db(), pools => query_as(REPLICAS).fetch_all(&pools.read).await?);
        rows.into_iter().map(ReplicaRow::try_from).collect()
    }

    /// The time of day by a shared database's clock; none where the data are of one machine.
    pub async fn shared_now(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        match self.db() {
            Db::Sqlite(_) => Ok(None),
            Db::Postgres(pools) => instant(query_scalar(SERVER_NOW).fetch_one(&pools.read).await?).map(Some),
        }
    }
}

/// Runs the same on whichever connection it is.
macro_rules! on_connection {
    ($conn:expr, $connection:ident => $body:expr) => {
        match $conn {
            Conn::Sqlite($connection) => $body,
            Conn::Postgres($connection) => $body,
        }
    };
}

impl Conn<'_> {
    /// Writes the row of a server, or takes it out. Not in a transaction: what was written before a failure may stay.
    pub(super) async fn tell(self, news: &ReplicaNews) -> Result<(), StoreError> {
        match news {
            ReplicaNews::Started(row) => self.put_replica(row, TimeDelta::zero()).await,
            ReplicaNews::Runs(row) => self.put_replica(row, LOST_AFTER).await,
            ReplicaNews::Ends(id) => {
                on_connection!(self, conn => query(DROP_REPLICA).bind(id).execute(conn).await.map(drop)?);
                Ok(())
            }
        }
    }

    /// Another one of its name that has told nothing for so long goes.
    async fn put_replica(mut self, row: &ReplicaRow, silent_for: TimeDelta) -> Result<(), StoreError> {
        let now = match &mut self {
            Self::Sqlite(_) => row.seen_at,
            // By a clock of its own a server could take those who run for lost, and their rows out.
            Self::Postgres(conn) => instant(query_scalar(SERVER_NOW).fetch_one(&mut **conn).await?)?,
        };
        let ReplicaRow { id, name, program, started_at, told, .. } = row;
        on_connection!(self, conn => {
            let put = query(PUT_REPLICA).bind(id).bind(name).bind(program).bind(micros(*started_at));
            put.bind(micros(now)).bind(told).execute(&mut *conn).await?;
            let forget = query(FORGET_REPLICAS).bind(micros(now - KEPT_FOR)).bind(name).bind(id);
            forget.bind(micros(now - silent_for)).execute(conn).await?;
        });
        Ok(())
    }
}
