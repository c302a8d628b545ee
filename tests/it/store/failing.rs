//! L3 when things fail: nobody is told that a token is good unless its record is durable.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use taskgrant::clock::SystemClock;
use taskgrant::store::Store;
use taskgrant::store::change::{Change, CommitFault, Committed};
use taskgrant::store::folder::Location;
use taskgrant::store::writer::Writer;

use super::raw::Raw;
use super::{Deployment, on_both, on_postgres};

fn all_unavailable(answers: &[Result<Committed, CommitFault>]) -> bool {
    answers.iter().all(|answer| *answer == Err(CommitFault::Unavailable))
}

/// Three changes of different kinds.
fn three(d: &Deployment) -> Vec<Change> {
    vec![d.root().into(), d.refusal().into(), d.revoke(vec![]).into()]
}

#[tokio::test]
async fn l3_a_commit_that_fails_fails_for_all_of_its_batch_and_the_next_one_works() {
    on_both(async |d| {
        d.done(d.root()).await;
        let mut raw = d.raw().await;
        raw.execute("ALTER TABLE tokens RENAME TO away").await;
        for _ in 0..3 {
            assert!(all_unavailable(&d.together(three(d)).await));
        }
        raw.execute("ALTER TABLE away RENAME TO tokens").await;
        assert!(d.together(three(d)).await.iter().all(Result::is_ok));
        assert_eq!(d.store.head().await.unwrap().frontier.size(), 4);
    })
    .await;
}

#[tokio::test]
async fn l3_a_commit_refused_at_the_very_end_counts_as_unknown() {
    on_postgres(async |d| {
        let mut raw = d.raw().await;
        raw.execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE unique_violation; END $$; \
             CREATE CONSTRAINT TRIGGER late AFTER INSERT ON tokens DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION fail()",
        )
        .await;
        assert!(all_unavailable(&d.together(three(d)).await));
        raw.execute("DROP TRIGGER late ON tokens").await;
        assert!(d.together(three(d)).await.iter().all(Result::is_ok));
    })
    .await;
}

#[tokio::test]
async fn a_lost_connection_is_replaced() {
    on_postgres(async |d| {
        d.done(d.refusal()).await;
        let mut raw = d.raw().await;
        raw.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE application_name = current_schema() AND pid <> pg_backend_pid()",
        )
        .await;
        // The first commit may meet the dead connection, the next one must not.
        let first = d.submit(d.refusal()).await;
        assert!(matches!(first, Ok(_) | Err(CommitFault::Unavailable)), "{first:?}");
        d.done(d.refusal()).await;
        assert!(d.store.ping().await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn a_change_that_the_database_refuses_fails_alone() {
    on_both(async |d| {
        let before = d.refusal();
        d.done(before.clone()).await;
        let mut changes: Vec<Change> = (0..20).map(|_| d.root().into()).collect();
        changes[13] = before.into();
        let answers = d.together(changes).await;
        for (at, answer) in answers.iter().enumerate() {
            match answer {
                Err(fault) => assert_eq!((at, *fault), (13, CommitFault::Rejected)),
                Ok(committed) => assert!(matches!(committed, Committed::Done(_)) && at != 13),
            }
        }
        assert_eq!(d.store.head().await.unwrap().frontier.size(), 20);
    })
    .await;
}

#[tokio::test]
async fn a_nul_that_postgresql_cannot_store_fails_alone() {
    on_postgres(async |d| {
        let mut poison = d.root();
        poison.token.principal.sub = "a\0b".into();
        let answers = d.together(vec![d.root().into(), poison.into(), d.root().into()]).await;
        assert!(matches!(answers[0], Ok(Committed::Done(_))));
        assert_eq!(answers[1], Err(CommitFault::Rejected));
        assert!(matches!(answers[2], Ok(Committed::Done(_))));
    })
    .await;
}

#[tokio::test]
async fn without_a_database_the_answer_is_unavailable() {
    on_both(async |d| {
        // A second handle, so that the first can still be verified.
        let memory = Deployment::new(Location::Memory).await;
        memory.store.close().await;
        assert!(all_unavailable(&memory.together(three(d)).await));
        assert!(memory.store.head().await.unwrap_err().is_unavailable());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l3_a_writer_killed_at_any_moment_leaves_nothing_half_written() {
    on_both(async |d| {
        let mut acknowledged = 0;
        for round in 0..8 {
            let (writer, task) = Writer::spawn(&d.store, Arc::new(SystemClock), TimeDelta::days(1));
            let mut callers = tokio::task::JoinSet::new();
            for _ in 0..32 {
                let (writer, roots) = (writer.clone(), (0..50).map(|_| d.root()).collect::<Vec<_>>());
                callers.spawn(async move {
                    let mut good = 0_u64;
                    for root in roots {
                        good += u64::from(writer.submit(root).await.is_ok());
                    }
                    good
                });
            }
            tokio::time::sleep(Duration::from_millis(2 + round * 3)).await;
            task.abort();
            acknowledged += callers.join_all().await.into_iter().sum::<u64>();
            let _ = task.await;
            d.verify().await;
        }
        // What was acknowledged is there; of what was not, something may be.
        assert!(d.store.head().await.unwrap().frontier.size() >= acknowledged);
        d.done(d.refusal()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_on_postgresql_share_one_log() {
    on_postgres(async |d| {
        let other = Store::open(&d.location).await.unwrap();
        let (second, task) = Writer::spawn(&other, Arc::new(d.clock.clone()), TimeDelta::days(1));
        let parent = d.root();
        d.done(parent.clone()).await;
        let mut callers = tokio::task::JoinSet::new();
        for at in 0..64 {
            let writer = if at % 2 == 0 { d.writer.clone() } else { second.clone() };
            let issues: Vec<_> = (0..8).map(|_| d.child(&parent)).collect();
            callers.spawn(async move {
                let mut indexes = Vec::new();
                for issue in issues {
                    match writer.submit(issue).await.unwrap() {
                        Committed::Done(receipt) => indexes.push(receipt.index),
                        other @ (Committed::Lost(..) | Committed::Superseded { .. }) => panic!("{other:?}"),
                    }
                }
                indexes
            });
        }
        let mut indexes: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
        indexes.sort_unstable();
        assert!(indexes.into_iter().eq(1..=512));
        // A revocation through one is seen by the other at once.
        let (key, _) = parent.token.killed_by().remove(0);
        d.done(d.revoke(vec![key])).await;
        assert!(matches!(second.submit(d.child(&parent)).await, Ok(Committed::Lost(..))));
        Raw::connect(&d.location).await.verify(&other.head().await.unwrap()).await;
        drop(second);
        task.await.unwrap();
        other.close().await;
    })
    .await;
}
