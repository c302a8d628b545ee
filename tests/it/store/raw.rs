//! The database seen past the store: to verify what was written, and to break it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Executor as _};
use taskgrant::log::tree::{Hash, empty_root, leaf_hash, node_hash};
use taskgrant::store::folder::Location;
use taskgrant::store::read::Head;

/// A connection of its own.
pub(crate) enum Raw {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

macro_rules! on_raw {
    ($raw:expr, $conn:ident => $body:expr) => {
        match $raw {
            Raw::Sqlite($conn) => $body,
            Raw::Postgres($conn) => $body,
        }
    };
}

const LOG: &str = "SELECT d.idx, d.id, d.outcome, d.leaf, r.salt, r.record FROM decisions d \
     LEFT JOIN decision_records r ON r.idx = d.idx ORDER BY d.idx";
const TOKENS_WITHOUT_DECISION: &str = "SELECT count(*) FROM tokens t \
     LEFT JOIN decisions d ON d.id = t.decision_id AND d.outcome = 'allow' WHERE d.id IS NULL";
const TOKENS_WITHOUT_TASK: &str =
    "SELECT count(*) FROM tokens t LEFT JOIN tasks k ON k.id = t.task_id WHERE k.id IS NULL";
const TASKS_WITHOUT_TOKEN: &str =
    "SELECT count(*) FROM tasks k LEFT JOIN tokens t ON t.task_id = k.id WHERE t.jti IS NULL";

type LogRow = (i64, String, String, Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>);

impl Raw {
    pub(crate) async fn connect(location: &Location) -> Self {
        match location {
            Location::Memory => panic!("memory cannot be reached from outside"),
            Location::Folder(folder) => {
                let options = SqliteConnectOptions::new().filename(folder.join("taskgrant.db"));
                Self::Sqlite(options.foreign_keys(false).connect().await.unwrap())
            }
            Location::Postgres(options) => {
                let options = options.as_ref().clone().application_name("raw");
                Self::Postgres(options.connect().await.unwrap())
            }
        }
    }

    pub(crate) async fn execute(&mut self, sql: &'static str) {
        on_raw!(self, conn => conn.execute(sql).await.map(drop).unwrap());
    }

    pub(crate) async fn number(&mut self, sql: &'static str) -> i64 {
        on_raw!(self, conn => sqlx::query_scalar(sql).fetch_one(conn).await.unwrap())
    }

    async fn log(&mut self) -> Vec<LogRow> {
        on_raw!(self, conn => sqlx::query_as(LOG).fetch_all(conn).await.unwrap())
    }

    /// Outcomes in the order of the log.
    pub(crate) async fn outcomes(&mut self) -> Vec<String> {
        self.log().await.into_iter().map(|row| row.2).collect()
    }

    /// All leaves in the order of the log.
    pub(crate) async fn leaves(&mut self) -> Vec<Vec<u8>> {
        self.log().await.into_iter().map(|row| row.3).collect()
    }

    /// The index is dense, the head is the tree of all leaves by the definition of RFC 6962, each record is the one
    /// that its leaf binds, and no token stands without its decision and task.
    pub(crate) async fn verify(&mut self, head: &Head) {
        let log = self.log().await;
        let mut leaves = Vec::new();
        for (expected, (idx, id, outcome, leaf, salt, record)) in log.iter().enumerate() {
            assert_eq!(usize::try_from(*idx).unwrap(), expected);
            let told: Value = serde_json::from_slice(leaf).unwrap();
            assert_eq!((told["id"].as_str(), told["outcome"].as_str()), (Some(&**id), Some(&**outcome)));
            let bound = [salt.as_deref().unwrap(), record.as_deref().unwrap()].concat();
            assert_eq!(told["record"], URL_SAFE_NO_PAD.encode(digest(&SHA256, &bound)));
            leaves.push(leaf_hash(leaf));
        }
        assert_eq!(usize::try_from(head.frontier.size()).unwrap(), leaves.len());
        assert_eq!(head.frontier.root(), mth(&leaves));
        for orphans in [TOKENS_WITHOUT_DECISION, TOKENS_WITHOUT_TASK, TASKS_WITHOUT_TOKEN] {
            assert_eq!(self.number(orphans).await, 0, "{orphans}");
        }
    }
}

/// MTH of RFC 6962 §2.1, word for word.
fn mth(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [one] => *one,
        many => {
            let (left, right) = many.split_at(many.len().next_power_of_two() / 2);
            node_hash(&mth(left), &mth(right))
        }
    }
}
