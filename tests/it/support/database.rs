//! The database of a server under test: SQLite, or PostgreSQL where `TASKGRANT_TEST_DATABASE=postgres` asks for it.
//!
//! So the same tests over HTTP run on both. On PostgreSQL each test gets a schema of its own on the server that
//! `TEST_DATABASE_URL` names; a restart on the same data finds it again. The schemas stay behind: it is a throw-away server.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};
use taskgrant::store::Store;
use taskgrant::store::folder::Location;

use super::postgres::Scratch;

/// Whether servers under test run on PostgreSQL.
pub(crate) fn on_postgres() -> bool {
    let asked = std::env::var_os("TASKGRANT_TEST_DATABASE").unwrap_or_default();
    let asked = asked.to_str().unwrap();
    assert!(["", "sqlite", "postgres"].contains(&asked), "TASKGRANT_TEST_DATABASE={asked}");
    asked == "postgres"
}

fn url_file(data: &Path) -> PathBuf {
    data.join("database-url")
}

/// The lines of a configuration that name the database of `data`, which is made if need be.
pub(crate) async fn of(data: &Path) -> String {
    if !url_file(data).exists() {
        if !on_postgres() {
            return String::new();
        }
        let scratch = Scratch::new().await.expect("TASKGRANT_TEST_DATABASE=postgres needs TEST_DATABASE_URL");
        migrate(data, &scratch.url()).await;
    }
    format!("database_file = '{}'\n", url_file(data).display())
}

/// Where the server of `data` keeps its data.
pub(crate) fn location(data: &Path) -> Location {
    match fs::read_to_string(url_file(data)) {
        Ok(url) => url.parse().unwrap(),
        Err(_) => Location::Folder(data.join("data")),
    }
}

/// Has `data` use the empty schema behind `url`, migrated as an operator would.
pub(crate) async fn migrate(data: &Path, url: &str) {
    Store::migrate(&url.parse().unwrap()).await.unwrap().close().await;
    write(&url_file(data), url);
}

/// Has the server of `other` use the database of `data`.
pub(crate) fn share(data: &Path, other: &Path) {
    write(&url_file(other), &fs::read_to_string(url_file(data)).unwrap());
}

/// Writes a file with a URL, for its owner only.
pub(crate) fn write(file: &Path, url: &str) {
    fs::write(file, url).unwrap();
    fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
}

fn sqlite(data: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(data.join("data/taskgrant.db")).foreign_keys(false)
}

/// Changes the database of `data` past its server.
pub(crate) async fn execute(data: &Path, on_sqlite: String, on_postgres: String) {
    match location(data) {
        Location::Postgres(options) => {
            let mut connection = options.connect().await.unwrap();
            connection.execute(AssertSqlSafe(on_postgres)).await.unwrap();
            connection.close().await.unwrap();
        }
        Location::Memory | Location::Folder(_) => {
            let mut connection = sqlite(data).connect().await.unwrap();
            connection.execute(AssertSqlSafe(on_sqlite)).await.unwrap();
            connection.close().await.unwrap();
        }
    }
}

/// What `sql` counts in the database of `data`.
pub(crate) async fn count(data: &Path, sql: &'static str) -> i64 {
    match location(data) {
        Location::Postgres(options) => {
            let mut connection = options.connect().await.unwrap();
            let count = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            count
        }
        Location::Memory | Location::Folder(_) => {
            let mut connection = sqlite(data).connect().await.unwrap();
            let count = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            count
        }
    }
}

/// Leaf and record of the last decision in the database of `data`.
pub(crate) async fn last_decision(data: &Path) -> (Vec<u8>, Vec<u8>) {
    let sql = "SELECT d.leaf, r.record FROM decisions d JOIN decision_records r ON r.idx = d.idx \
               ORDER BY d.idx DESC LIMIT 1";
    match location(data) {
        Location::Postgres(options) => {
            let mut connection = options.connect().await.unwrap();
            let found = sqlx::query_as(sql).fetch_one(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            found
        }
        Location::Memory | Location::Folder(_) => {
            let mut connection = sqlite(data).connect().await.unwrap();
            let found = sqlx::query_as(sql).fetch_one(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            found
        }
    }
}
