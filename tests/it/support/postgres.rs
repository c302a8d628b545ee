//! A PostgreSQL schema of its own for each test, on the server that `TEST_DATABASE_URL` names.
//!
//! Without that variable the PostgreSQL half of a test is skipped with one line, or fails if
//! `REQUIRE_POSTGRES=1`.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};

/// An empty schema; [`Scratch::remove`] drops it. A test that fails leaves it behind to be looked at.
pub(crate) struct Scratch {
    url: String,
    schema: String,
}

impl Scratch {
    /// A fresh schema, or none where there is no server to test on.
    pub(crate) async fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let Some(url) = std::env::var_os("TEST_DATABASE_URL") else {
            let required = std::env::var_os("REQUIRE_POSTGRES").is_some_and(|value| value == "1");
            assert!(!required, "REQUIRE_POSTGRES=1, but TEST_DATABASE_URL is not set");
            eprintln!("skipped on PostgreSQL: TEST_DATABASE_URL is not set");
            return None;
        };
        let url = url.into_string().unwrap();
        let schema = format!("t_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let scratch = Self { url, schema };
        scratch.admin(format!("DROP SCHEMA IF EXISTS {0} CASCADE; CREATE SCHEMA {0}", scratch.schema)).await;
        Some(scratch)
    }

    /// The URL of the schema; its name is also the application name.
    pub(crate) fn url(&self) -> String {
        let (url, schema) = (&self.url, &self.schema);
        let and = if url.contains('?') { '&' } else { '?' };
        format!("{url}{and}options[search_path]={schema}&application_name={schema}")
    }

    /// How to connect to the schema.
    pub(crate) fn options(&self) -> PgConnectOptions {
        self.url().parse().unwrap()
    }

    /// Drops the schema.
    pub(crate) async fn remove(self) {
        self.admin(format!("DROP SCHEMA {} CASCADE", self.schema)).await;
    }

    async fn admin(&self, sql: String) {
        let server: PgConnectOptions = self.url.parse().unwrap();
        let mut connection: PgConnection = server.connect().await.unwrap();
        connection.execute(AssertSqlSafe(sql)).await.unwrap();
    }
}
