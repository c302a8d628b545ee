//! A stopped deployment on SQLite, copied whole into an empty PostgreSQL database.
//!
//! One transaction: it is compared with its source and committed, or there is nothing. Tables and columns are those of the
//! schema that both have, so that a later migration needs no word here.

use std::path::{Path, PathBuf};

use sqlx::postgres::{PgArguments, PgConnection, Postgres};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _, SqlSafeStr as _};
use thiserror::Error;

use super::error::StoreError;
use super::folder::{Location, database};
use super::read::{HEAD, Head, HeadRow};
use super::{Db, Store};
use crate::log::tree::{Frontier, leaf_hash};

/// Rows of one statement.
const BATCH: usize = 500;

const TABLES: &str = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' \
     AND name <> '_sqlx_migrations' ORDER BY name";
const COLUMNS: &str = "SELECT name, type FROM pragma_table_info($1) ORDER BY cid";
/// The write lock, and whether anything was ever committed.
const CLAIM: &str = "UPDATE log_head SET epoch = epoch + 1 WHERE id = 1 RETURNING epoch";
const LEAVES: &str = "SELECT leaf FROM decisions WHERE idx >= $1 ORDER BY idx LIMIT 500";

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Every table with its number of rows.
    pub tables: Vec<(String, i64)>,
    /// The head of the log, on both sides.
    pub head: Head,
}

/// Why nothing was copied.
#[derive(Debug, Error)]
pub enum CopyFault {
    /// A database cannot be opened or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is nothing to copy.
    #[error("`{}` holds no database: name the data folder of a deployment", .0.display())]
    NoSource(PathBuf),
    /// The target is no server.
    #[error("the target is no PostgreSQL database: give its `postgres://` URL")]
    NoTarget,
    /// The target has been used.
    #[error("the target holds data already: copy into a database that was only migrated")]
    NotEmpty,
    /// A table cannot be read or written.
    #[error("table `{table}` cannot be copied, so nothing is: {why}")]
    Table {
        /// Which one.
        table: String,
        /// The database's words.
        why: sqlx::Error,
    },
    /// What was written is not what was read.
    #[error("the copy differs from its source in {0}, so nothing is copied")]
    Differs(String),
}

impl From<sqlx::Error> for CopyFault {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Copies the data folder `from`, whose server must be stopped, into the database `to`, which must be migrated and unused.
pub async fn copy(from: &Path, to: &Location) -> Result<Copied, CopyFault> {
    if !database(from).exists() {
        return Err(CopyFault::NoSource(from.to_owned()));
    }
    if !matches!(to, Location::Postgres(_)) {
        return Err(CopyFault::NoTarget);
    }
    // Its lock says that no server runs; its schema is brought to that of the target.
    let source = Store::open(&Location::Folder(from.to_owned())).await?;
    let copied = match Store::open(to).await {
        Ok(target) => {
            let copied = copy_all(&source, &target).await;
            target.close().await;
            copied
        }
        Err(fault) => Err(fault.into()),
    };
    source.close().await;
    copied
}

async fn copy_all(source: &Store, target: &Store) -> Result<Copied, CopyFault> {
    let (Db::Sqlite(from), Db::Postgres(to)) = (source.db(), target.db()) else {
        return Err(CopyFault::NoTarget);
    };
    let mut source = from.read.acquire().await?;
    let mut transaction = to.write.begin().await?;
    // A server that starts on the target meanwhile waits for this lock with its first commit.
    let epoch: i64 = sqlx::query_scalar(CLAIM).fetch_one(&mut *transaction).await?;
    if epoch != 1 {
        return Err(CopyFault::NotEmpty);
    }
    let names: Vec<String> = sqlx::query_scalar(TABLES).fetch_all(&mut *source).await?;
    let mut tables = Vec::with_capacity(names.len());
    for name in names {
        let copying = Table::read(&mut source, &name).await?.copy(&mut source, &mut transaction).await?;
        tables.push((name, copying));
    }
    let before: HeadRow = sqlx::query_as(HEAD).fetch_one(&mut *source).await?;
    let after: HeadRow = sqlx::query_as(HEAD).fetch_one(&mut *transaction).await?;
    let (before, head) = (Head::try_from(before)?, Head::try_from(after)?);
    if before != head || root_of(&mut transaction).await? != head.frontier {
        return Err(CopyFault::Differs("the head of the log".to_owned()));
    }
    transaction.commit().await.map_err(StoreError::CommitUnknown)?;
    Ok(Copied { tables, head })
}

/// The tree of the leaves that were written.
async fn root_of(target: &mut PgConnection) -> Result<Frontier, sqlx::Error> {
    let mut frontier = Frontier::default();
    loop {
        let next = i64::try_from(frontier.size()).unwrap_or(i64::MAX);
        let leaves: Vec<Vec<u8>> = sqlx::query_scalar(LEAVES).bind(next).fetch_all(&mut *target).await?;
        if leaves.is_empty() {
            return Ok(frontier);
        }
        for leaf in &leaves {
            frontier.append(leaf_hash(leaf));
        }
    }
}

/// What a column holds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Integer,
    Bytes,
    Boolean,
}

/// A table and how its rows go over.
struct Table {
    name: String,
    columns: Vec<(String, Kind)>,
}

impl Table {
    async fn read(source: &mut SqliteConnection, name: &str) -> Result<Self, CopyFault> {
        let declared: Vec<(String, String)> = sqlx::query_as(COLUMNS).bind(name).fetch_all(source).await?;
        let column = |(column, kind): (String, String)| {
            let kind = match kind.as_str() {
                "TEXT" => Kind::Text,
                "BIGINT" => Kind::Integer,
                "BYTEA" => Kind::Bytes,
                "BOOLEAN" => Kind::Boolean,
                _ => return Err(CopyFault::Differs(format!("the kind of `{name}.{column}`"))),
            };
            Ok((column, kind))
        };
        let columns = declared.into_iter().map(column).collect::<Result<_, _>>()?;
        Ok(Self { name: name.to_owned(), columns })
    }

    /// Copies all rows in place of those that a migration has put there; how many they are, on both sides.
    async fn copy(&self, source: &mut SqliteConnection, target: &mut PgConnection) -> Result<i64, CopyFault> {
        let failed = |why| CopyFault::Table { table: self.name.clone(), why };
        let name = &self.name;
        let list =
            self.columns.iter().map(|(column, _)| format!("\"{column}\"")).collect::<Vec<_>>().join(", ");
        let arrays = self.columns.iter().zip(1..).map(|((_, kind), n)| format!("${n}::{}[]", kind.word()));
        let arrays = arrays.collect::<Vec<_>>().join(", ");
        let read = format!(
            "SELECT {list}, rowid AS place FROM \"{name}\" WHERE rowid > $1 ORDER BY rowid LIMIT {BATCH}"
        );
        let (read, write) = (
            AssertSqlSafe(read).into_sql_str(),
            AssertSqlSafe(format!("INSERT INTO \"{name}\" ({list}) SELECT * FROM UNNEST({arrays})"))
                .into_sql_str(),
        );
        let clear = AssertSqlSafe(format!("DELETE FROM \"{name}\"")).into_sql_str();
        sqlx::query(clear).execute(&mut *target).await.map_err(failed)?;
        let (mut place, mut copied) = (i64::MIN, 0);
        loop {
            let rows = sqlx::query(read.clone()).bind(place).fetch_all(&mut *source).await.map_err(failed)?;
            let Some(end_of_batch) = rows.last() else { break };
            place = end_of_batch.try_get("place").map_err(failed)?;
            copied += i64::try_from(rows.len()).unwrap_or(i64::MAX);
            self.write(write.clone(), &rows, target).await.map_err(failed)?;
        }
        let count = AssertSqlSafe(format!("SELECT count(*) FROM \"{name}\"")).into_sql_str();
        let before: i64 = sqlx::query_scalar(count.clone()).fetch_one(source).await.map_err(failed)?;
        let after: i64 = sqlx::query_scalar(count).fetch_one(target).await.map_err(failed)?;
        if (before, after) == (copied, copied) {
            Ok(after)
        } else {
            Err(CopyFault::Differs(format!("the number of rows of `{name}`")))
        }
    }

    async fn write(
        &self,
        sql: sqlx::SqlStr,
        rows: &[SqliteRow],
        target: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        let mut query = sqlx::query(sql);
        for (at, (_, kind)) in self.columns.iter().enumerate() {
            query = match kind {
                Kind::Text => bind::<String>(query, rows, at)?,
                Kind::Integer => bind::<i64>(query, rows, at)?,
                Kind::Bytes => bind::<Vec<u8>>(query, rows, at)?,
                Kind::Boolean => bind::<bool>(query, rows, at)?,
            };
        }
        query.execute(target).await.map(drop)
    }
}

impl Kind {
    /// PostgreSQL's word for it.
    fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "bigint",
            Self::Bytes => "bytea",
            Self::Boolean => "boolean",
        }
    }
}

/// Binds one column of all rows as an array.
fn bind<'q, T>(
    query: Query<'q, Postgres, PgArguments>,
    rows: &[SqliteRow],
    at: usize,
) -> Result<Query<'q, Postgres, PgArguments>, sqlx::Error>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite> + Send + 'q,
    Vec<Option<T>>: sqlx::Encode<'q, Postgres> + sqlx::Type<Postgres>,
{
    let values = rows.iter().map(|row| row.try_get_unchecked::<Option<T>, _>(at));
    Ok(query.bind(values.collect::<Result<Vec<_>, _>>()?))
}
