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

async fn ids(d: &Deployment) -> Vec<String> {
    d.store.replicas().await.unwrap().into_iter().map(|row| row.id).collect()
}

#[tokio::test]
async fn a_replica_tells_of_itself_until_it_ends_and_the_log_has_none_of_it() {
    on_both(async |d| {
        d.done(d.refusal()).await;
        let epoch = d.raw().await.number("SELECT epoch FROM log_head").await;
        let (a, b) = (row(d, "a", "one:1"), row(d, "b", "another:1"));
        d.writer.tell(ReplicaNews::Started(a.clone())).await.unwrap();
        d.writer.tell(ReplicaNews::Started(b.clone())).await.unwrap();
        assert_eq!(d.store.replicas().await.unwrap(), [b.clone(), a.clone()], "by name");
        let later = ReplicaRow { seen_at: a.seen_at + TimeDelta::seconds(15), told: "{}".to_owned(), ..a };
        d.writer.tell(ReplicaNews::Runs(later.clone())).await.unwrap();
        assert_eq!(d.store.replicas().await.unwrap(), [b, later]);
        d.writer.tell(ReplicaNews::Ends("b".to_owned())).await.unwrap();
        d.writer.tell(ReplicaNews::Ends("unknown".to_owned())).await.unwrap();
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
            d.writer.tell(ReplicaNews::Runs(row(d, id, name))).await.unwrap();
        }
        assert_eq!(ids(d).await, ["killed", "twin", "other"], "two of one name may run");
        d.writer.tell(ReplicaNews::Started(row(d, "restarted", "one:1"))).await.unwrap();
        assert_eq!(ids(d).await, ["restarted", "other"], "where it listens now nobody else does");
        // Unless it runs all the same, elsewhere: it writes itself again, and both stay.
        d.writer.tell(ReplicaNews::Runs(row(d, "twin", "one:1"))).await.unwrap();
        d.writer.tell(ReplicaNews::Runs(row(d, "restarted", "one:1"))).await.unwrap();
        assert_eq!(ids(d).await.len(), 3);
        d.clock.shift(LOST_AFTER.num_seconds() + 1);
        d.writer.tell(ReplicaNews::Runs(row(d, "twin", "one:1"))).await.unwrap();
        assert_eq!(ids(d).await, ["twin", "other"], "the lost one of its name goes, no other");
        d.clock.shift(TimeDelta::days(1).num_seconds());
        d.writer.tell(ReplicaNews::Runs(row(d, "third", "three:1"))).await.unwrap();
        assert_eq!(ids(d).await, ["third"]);
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_told_fails_alone_and_leaves_the_writer_as_it_was() {
    on_both(async |d| {
        let mut raw: Raw = d.raw().await;
        raw.execute("ALTER TABLE replicas RENAME TO away").await;
        let tell = |id: &'static str| {
            let (writer, news) = (d.writer.clone(), ReplicaNews::Runs(row(d, id, "one:1")));
            tokio::spawn(async move { writer.tell(news).await })
        };
        // In one batch with what others wait for.
        let (first, second) = (tell("a"), tell("b"));
        let committed = d.together(vec![d.root().into(), d.refusal().into()]).await;
        assert!(committed.iter().all(Result::is_ok), "{committed:?}");
        for told in [first, second] {
            assert_eq!(told.await.unwrap(), Err(CommitFault::Unavailable));
        }
        assert!(!d.writer.is_failing());
        raw.execute("ALTER TABLE away RENAME TO replicas").await;
        tell("a").await.unwrap().unwrap();
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
        d.writer.tell(news()).await.unwrap();
    })
    .await;
}
