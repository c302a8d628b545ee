//! Every statement is prepared on both databases: what `query!` would have checked.

use sqlx::{AssertSqlSafe, Executor as _, SqlSafeStr as _};

use super::approvals::{
    APPROVAL, APPROVAL_LIKE, APPROVAL_OF_CODE, APPROVALS_COUNTED, APPROVALS_LATEST, APPROVALS_OPEN,
    APPROVALS_OVERDUE, APPROVALS_WAITING,
};
use super::batch::{
    APPROVALS, CONFIGURE, LIFT, LOCK, MARKS, PURGE, PURGE_LISTS, PUT_APPROVALS, PUT_LIST, REVOKE, REVOKED,
    SPENT, Sql, TOKENS, WRITE,
};
use super::decided::DECIDED;
use super::folder::Location;
use super::policy_data::{DATA, DATA_AT, PUT_DATA};
use super::proposals::{PROPOSAL, PROPOSALS_LATEST, PROPOSALS_PENDING, PUT_PROPOSAL};
use super::pruning::{
    NOTE_ISSUERS, OLDEST, PRUNE_APPROVALS, PRUNE_INPUTS, PRUNE_PROPOSALS, PRUNE_REVOCATIONS, PRUNE_TASKS,
    PRUNE_TOKENS,
};
use super::read::{
    BUNDLE, BUNDLES, DECISION, HEAD, OBJECT_VERSIONS, OBJECTS_CURRENT, SETTING, SIGNED_BY, STOPPED_KEYS,
    TASK, TASK_OF_ISSUER, TOKEN,
};
use super::replicas::{DROP_REPLICA, FORGET_REPLICAS, PUT_REPLICA, REPLICAS};
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
const SHARED: [&str; 50] = [
    PUT_REPLICA,
    FORGET_REPLICAS,
    DROP_REPLICA,
    REPLICAS,
    PROPOSAL,
    PROPOSALS_PENDING,
    PROPOSALS_LATEST,
    PUT_PROPOSAL,
    PUT_DATA,
    DATA,
    DATA_AT,
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
    DECIDED,
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
    OLDEST,
    APPROVAL,
    APPROVAL_OF_CODE,
    APPROVALS_LATEST,
    APPROVALS_OPEN,
    APPROVALS_OVERDUE,
    APPROVALS_WAITING,
    APPROVALS_COUNTED,
    APPROVAL_LIKE,
];
/// For a server only.
const SERVER: [&str; 4] = [POSTGRES_SESSION, CAN_NOTIFY, LOOK, NOTIFY];
/// Two dialects side by side.
const BATCH: [Sql; 20] = [
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
    PRUNE_TOKENS,
    NOTE_ISSUERS,
    PRUNE_TASKS,
    PRUNE_REVOCATIONS,
    PRUNE_INPUTS,
    PRUNE_APPROVALS,
    PRUNE_PROPOSALS,
    APPROVALS,
    PUT_APPROVALS,
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

/// How the database would run `sql`, a line for each step. PostgreSQL is told to avoid whole tables: small ones it would
/// read at once.
async fn plan(store: &Store, sql: &Sql) -> Vec<String> {
    match store.db() {
        Db::Sqlite(pools) => {
            let sql = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", sql.sqlite)).into_sql_str();
            let steps: Vec<(i64, i64, i64, String)> =
                sqlx::query_as(sql).fetch_all(&pools.write).await.unwrap();
            steps.into_iter().map(|step| step.3).collect()
        }
        Db::Postgres(pools) => {
            let mut connection = pools.write.acquire().await.unwrap();
            connection.execute("SET enable_seqscan = off").await.unwrap();
            let sql = ["$1", "$2", "$3"].iter().fold(sql.postgres.to_owned(), |sql, n| sql.replace(n, "256"));
            let sql = AssertSqlSafe(format!("EXPLAIN {sql}")).into_sql_str();
            let steps = sqlx::query_scalar(sql).fetch_all(&mut *connection).await.unwrap();
            connection.execute("RESET enable_seqscan").await.unwrap();
            steps
        }
    }
}

async fn reads_no_table_whole(store: &Store) {
    let oldest = Sql { sqlite: OLDEST, postgres: OLDEST };
    let pruning = [
        oldest,
        PRUNE_TOKENS,
        NOTE_ISSUERS,
        PRUNE_TASKS,
        PRUNE_REVOCATIONS,
        PRUNE_INPUTS,
        PRUNE_APPROVALS,
        PRUNE_PROPOSALS,
    ];
    for sql in pruning {
        let plan = plan(store, &sql).await;
        assert!(!plan.is_empty(), "{}", sql.sqlite);
        // Inputs lie in the order in which they go: the first of them are read, and no more.
        let first = ["SCAN CONSTANT ROW", "SCAN oldest", "SCAN decision_inputs USING INDEX"];
        let is_bounded = |step: &String| first.iter().any(|first| step.starts_with(first));
        let is_whole = |step: &String| {
            step.starts_with("SCAN") || step.contains("FOR ORDER BY") || step.contains("Seq Scan")
        };
        assert!(!plan.iter().any(|step| is_whole(step) && !is_bounded(step)), "{}\n{plan:#?}", sql.sqlite);
    }
}

#[tokio::test]
async fn pruning_reads_no_table_whole() {
    reads_no_table_whole(&Store::open(&Location::Memory).await.unwrap()).await;
    if let Some(scratch) = postgres::Scratch::new().await {
        let store = Store::migrate(&Location::Postgres(Box::new(scratch.options()))).await.unwrap();
        reads_no_table_whole(&store).await;
        store.close().await;
        scratch.remove().await;
    }
}

#[test]
fn no_statement_is_left_out_above() {
    let sources = [
        include_str!("approvals.rs"),
        include_str!("batch.rs"),
        include_str!("decided.rs"),
        include_str!("policy_data.rs"),
        include_str!("proposals.rs"),
        include_str!("read.rs"),
        include_str!("replicas.rs"),
        include_str!("status.rs"),
        include_str!("trees.rs"),
        include_str!("mod.rs"),
        include_str!("pruning.rs"),
        include_str!("schema.rs"),
        include_str!("watch.rs"),
    ];
    let sources = sources.concat();
    let declared =
        |kind: &str| sources.lines().filter(|line| line.contains("const ") && line.contains(kind)).count();
    // `BEGIN` cannot be prepared; `CHECKPOINT` is SQLite's alone; the error code `UNDEFINED_TABLE`, the name `CHANNEL` and
    // the number `SQLITE_WRITER_CACHE` are no statements.
    assert_eq!(declared(": &str"), SHARED.len() + SERVER.len() + 4);
    assert_eq!(declared(": Sql"), BATCH.len() + 1);
}

#[test]
fn only_the_writer_opens_a_transaction() {
    let others = [
        ("approvals.rs", include_str!("approvals.rs")),
        ("decided.rs", include_str!("decided.rs")),
        ("policy_data.rs", include_str!("policy_data.rs")),
        ("proposals.rs", include_str!("proposals.rs")),
        ("read.rs", include_str!("read.rs")),
        ("replicas.rs", include_str!("replicas.rs")),
        ("status.rs", include_str!("status.rs")),
        ("trees.rs", include_str!("trees.rs")),
        ("mod.rs", include_str!("mod.rs")),
        ("pruning.rs", include_str!("pruning.rs")),
        ("watch.rs", include_str!("watch.rs")),
    ];
    for (file, source) in others {
        for way in ["begin", "WriteConnection"] {
            assert!(!source.contains(way), "{file}: {way}");
        }
    }
    assert_eq!(include_str!("writer.rs").matches(".begin()").count(), 1);
}
