//! What each running server tells of itself: seen by all, beside the log, and in nobody's way.

use chrono::{TimeDelta, Timelike as _};
use taskgrant::clock::Clock as _;
use taskgrant::store::change::CommitFault;
use taskgrant::store::replicas::{LOST_AFTER, ReplicaNews, ReplicaRow};

use super::raw::Raw;
use super::{Deployment, on_both};

fn row(d: &Deployment, id: &str, name: &str) -> ReplicaRow {
    // The database keeps microseconds.
    let now = d.clock.now();
    let now = now.with_nanosecond(now.nanosecond() / 1000 * 1000).unwrap();
    let (id, name, program) = (id.to_owned(), name.to_owned(), "1.2.3".to_owned());
    ReplicaRow {
        id,
        name,
        program,
        started_at: now,
        seen_at: now,
        told: r#"{"problem":"a\u0000b ü"}"#.to_owned(),
    }
}

/// Seconds, and what makes all rows of a shared database so much older.
const MORE_THAN_A_MINUTE: (i64, &str) = (61, "UPDATE replicas SET seen_at = seen_at - 61000000");
const A_DAY: (i64, &str) = (86_400, "UPDATE replicas SET seen_at = seen_at - 86400000000");

/// So long nobody tells anything.
async fn passes(d: &Deployment, (seconds, in_database): (i64, &'static str)) {
    d.clock.shift(seconds);
    if d.store.is_shared() {
        d.raw().await.execute(in_database).await;
    }
}

/// Tells it: on a machine that many tests share, not each time in the time that it has.
async fn tell(d: &Deployment, news: ReplicaNews) {
    while d.writer.tell(news.clone()).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn ids(d: &Deployment) -> Vec<String> {
    d.store.replicas().await.unwrap().into_iter().map(|row| row.id).collect()
}

#[tokio::test]
async fn a_replica_tells_of_itself_until_it_ends_and_the_log_has_none_of_it() {
    on_both(async |d| {
        d.done(d.refusal()).await;
        let epoch = d.raw().await.number("SELECT epoch FROM log_head").await;
        let shared = d.store.is_shared();
        let (a, b) = (row(d, "a", "one:1"), row(d, "b", "another:1"));
        tell(d, ReplicaNews::Started(a.clone())).await;
        tell(d, ReplicaNews::Started(b.clone())).await;
        // A shared database says by its own clock when it was told.
        let by_clock = |row: ReplicaRow| ReplicaRow {
            seen_at: if shared { row.started_at } else { row.seen_at },
            ..row
        };
        let rows = async || {
            let rows = d.store.replicas().await.unwrap().into_iter();
            rows.map(by_clock).collect::<Vec<_>>()
        };
        assert_eq!(rows().await, [b.clone(), a.clone()], "by name");
        let later = ReplicaRow { seen_at: a.seen_at + TimeDelta::seconds(15), told: "{}".to_owned(), ..a };
        tell(d, ReplicaNews::Runs(later.clone())).await;
        assert_eq!(rows().await, [b, by_clock(later)]);
        tell(d, ReplicaNews::Ends("b".to_owned())).await;
        tell(d, ReplicaNews::Ends("unknown".to_owned())).await;
        assert_eq!(ids(d).await, ["a"]);
        assert_eq!(
            d.raw().await.number("SELECT epoch FROM log_head").await,
            epoch,
            "it takes no turn of the log"
        );
    })
    .await;
}

#[tokio::test]
async fn a_replica_takes_the_place_of_a_lost_one_of_its_name_and_the_others_stay_for_a_day() {
    on_both(async |d| {
        for (id, name) in [("killed", "one:1"), ("twin", "one:1"), ("other", "two:1")] {
            tell(d, ReplicaNews::Runs(row(d, id, name))).await;
        }
        assert_eq!(ids(d).await, ["killed", "twin", "other"], "two of one name may run");
        tell(d, ReplicaNews::Started(row(d, "restarted", "one:1"))).await;
        assert_eq!(ids(d).await, ["restarted", "other"], "where it listens now nobody else does");
        // Unless it runs all the same, elsewhere: it writes itself again, and both stay.
        tell(d, ReplicaNews::Runs(row(d, "twin", "one:1"))).await;
        tell(d, ReplicaNews::Runs(row(d, "restarted", "one:1"))).await;
        assert_eq!(ids(d).await.len(), 3);
        passes(d, MORE_THAN_A_MINUTE).await;
        tell(d, ReplicaNews::Runs(row(d, "twin", "one:1"))).await;
        assert_eq!(ids(d).await, ["twin", "other"], "the lost one of its name goes, no other");
        passes(d, A_DAY).await;
        tell(d, ReplicaNews::Runs(row(d, "third", "three:1"))).await;
        assert_eq!(ids(d).await, ["third"]);
    })
    .await;
}

#[tokio::test]
async fn in_a_shared_database_no_server_takes_another_out_by_a_clock_of_its_own() {
    on_both(async |d| {
        if !d.store.is_shared() {
            return;
        }
        for (id, name) in [("a", "one:1"), ("twin", "one:1"), ("b", "two:1")] {
            tell(d, ReplicaNews::Runs(row(d, id, name))).await;
        }
        for days in [2, -2] {
            let row = row(d, "twin", "one:1");
            let seen_at = row.seen_at + TimeDelta::days(days);
            tell(d, ReplicaNews::Runs(ReplicaRow { seen_at, ..row })).await;
            assert_eq!(ids(d).await, ["a", "twin", "b"], "{days}");
        }
        let now = d.store.shared_now().await.unwrap().unwrap();
        for row in d.store.replicas().await.unwrap() {
            assert!((now - row.seen_at).abs() < LOST_AFTER, "{row:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_told_fails_alone_and_leaves_the_writer_as_it_was() {
    on_both(async |d| {
        let mut raw: Raw = d.raw().await;
        raw.execute("ALTER TABLE replicas RENAME TO away").await;
        let telling = |id: &'static str| {
            let (writer, news) = (d.writer.clone(), ReplicaNews::Runs(row(d, id, "one:1")));
            tokio::spawn(async move { writer.tell(news).await })
        };
        // In one batch with what others wait for.
        let (first, second) = (telling("a"), telling("b"));
        let committed = d.together(vec![d.root().into(), d.refusal().into()]).await;
        assert!(committed.iter().all(Result::is_ok), "{committed:?}");
        for told in [first, second] {
            assert_eq!(told.await.unwrap(), Err(CommitFault::Unavailable));
        }
        assert!(!d.writer.is_failing());
        raw.execute("ALTER TABLE away RENAME TO replicas").await;
        tell(d, ReplicaNews::Runs(row(d, "a", "one:1"))).await;
        assert_eq!(ids(d).await, ["a"]);
    })
    .await;
}

#[tokio::test]
async fn while_commits_fail_nothing_is_told_and_afterwards_it_is() {
    on_both(async |d| {
        let mut raw = d.raw().await;
        raw.execute("ALTER TABLE decisions RENAME TO away").await;
        d.submit(d.refusal()).await.unwrap_err();
        assert!(d.writer.is_failing());
        let news = || ReplicaNews::Runs(row(d, "a", "one:1"));
        assert_eq!(d.writer.tell(news()).await, Err(CommitFault::Unavailable));
        raw.execute("ALTER TABLE away RENAME TO decisions").await;
        while d.writer.is_failing() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        tell(d, news()).await;
    })
    .await;
}
