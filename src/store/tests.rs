//! Every statement is prepared on both databases: what `query!` would have checked.

use sqlx::{AssertSqlSafe, Executor as _, SqlSafeStr as _};

use super::batch::{
    CONFIGURE, LIFT, LOCK, MARKS, PURGE, PURGE_LISTS, PUT_LIST, REVOKE, REVOKED, SPENT, Sql, TOKENS, WRITE,
};
use super::folder::Location;
use super::read::{
    BUNDLE, BUNDLES, DECISION, HEAD, OBJECT_VERSIONS, OBJECTS_CURRENT, SETTING, SIGNED_BY, STOPPED_KEYS,
    TASK, TASK_OF_ISSUER, TOKEN,
};
use super::schema::APPLIED;
use super::status::{
    HAND_OVERS, LIST, LISTS, REVOKED_SINCE, TASKS_NAMED, TASKS_PAGE, TOKENS_NAMED, TOKENS_OF_TASKS,
    TOKENS_PAGE,
};
use super::trees::{LIVE_TOKENS, RECORDS_OF_TASK, REVOCATIONS, REVOCATIONS_OF_KIND, TOKENS_OF_TASK};
use super::watch::{CAN_NOTIFY, LOOK, NOTIFY};
use super::{Db, LATEST_MIGRATION, POSTGRES_SESSION, Store};

#[path = "../../tests/it/support/postgres.rs"]
mod postgres;

/// One text for both databases.
const SHARED: [&str; 29] = [
    LOCK,
    PURGE,
    PUT_LIST,
    PURGE_LISTS,
    LIST,
    LISTS,
    REVOKED_SINCE,
    HAND_OVERS,
    TASKS_PAGE,
    TOKENS_PAGE,
    TASK,
    TASK_OF_ISSUER,
    TOKEN,
    OBJECTS_CURRENT,
    OBJECT_VERSIONS,
    BUNDLE,
    BUNDLES,
    DECISION,
    HEAD,
    SETTING,
    STOPPED_KEYS,
    SIGNED_BY,
    TOKENS_OF_TASK,
    RECORDS_OF_TASK,
    LIVE_TOKENS,
    REVOCATIONS,
    REVOCATIONS_OF_KIND,
    LATEST_MIGRATION,
    APPLIED,
];
/// For a server only.
const SERVER: [&str; 4] = [POSTGRES_SESSION, CAN_NOTIFY, LOOK, NOTIFY];
/// Two dialects side by side.
const BATCH: [Sql; 11] = [
    TOKENS,
    REVOKED,
    MARKS,
    SPENT,
    WRITE,
    REVOKE,
    LIFT,
    CONFIGURE,
    TASKS_NAMED,
    TOKENS_NAMED,
    TOKENS_OF_TASKS,
];

async fn prepare_all(store: &Store) {
    match store.db() {
        Db::Sqlite(pools) => {
            let texts = SHARED.into_iter().chain(BATCH.map(|sql| sql.sqlite));
            // SQLite checks the later statements of one text only when it gets there.
            for text in texts.flat_map(|text| text.split("; ")) {
                let prepared =
                    pools.write.acquire().await.unwrap().prepare(AssertSqlSafe(text).into_sql_str()).await;
                assert!(prepared.is_ok(), "{text}: {:?}", prepared.err());
            }
        }
        Db::Postgres(pools) => {
            let texts = SHARED.into_iter().chain(BATCH.map(|sql| sql.postgres)).chain(SERVER);
            for text in texts {
                let prepared =
                    pools.write.acquire().await.unwrap().prepare(AssertSqlSafe(text).into_sql_str()).await;
                assert!(prepared.is_ok(), "{text}: {:?}", prepared.err());
            }
        }
    }
}

#[tokio::test]
async fn every_statement_prepares_on_both_databases() {
    prepare_all(&Store::open(&Location::Memory).await.unwrap()).await;
    if let Some(scratch) = postgres::Scratch::new().await {
        let store = Store::migrate(&Location::Postgres(Box::new(scratch.options()))).await.unwrap();
        prepare_all(&store).await;
        store.close().await;
        scratch.remove().await;
    }
}

#[test]
fn no_statement_is_left_out_above() {
    let sources = [
        include_str!("batch.rs"),
        include_str!("read.rs"),
        include_str!("status.rs"),
        include_str!("trees.rs"),
        include_str!("mod.rs"),
        include_str!("schema.rs"),
        include_str!("watch.rs"),
    ];
    let sources = sources.concat();
    let declared =
        |kind: &str| sources.lines().filter(|line| line.contains("const ") && line.contains(kind)).count();
    // `BEGIN` cannot be prepared; `CHECKPOINT` is SQLite's alone; the error code `UNDEFINED_TABLE` and the name `CHANNEL` are no
    // statements.
    assert_eq!(declared(": &str"), SHARED.len() + SERVER.len() + 3);
    assert_eq!(declared(": Sql"), BATCH.len() + 1);
}

#[test]
fn only_the_writer_opens_a_transaction() {
    let others = [
        ("read.rs", include_str!("read.rs")),
        ("status.rs", include_str!("status.rs")),
        ("trees.rs", include_str!("trees.rs")),
        ("mod.rs", include_str!("mod.rs")),
        ("watch.rs", include_str!("watch.rs")),
    ];
    for (file, source) in others {
        for way in ["begin", "WriteConnection"] {
            assert!(!source.contains(way), "{file}: {way}");
        }
    }
    assert_eq!(include_str!("writer.rs").matches(".begin()").count(), 1);
}
