//! Configuration: objects with their versions, bundles, settings.

use chrono::TimeDelta;
use taskgrant::clock::Clock as _;
use taskgrant::domain::decision::{Kind, Outcome};
use taskgrant::domain::objects::{ObjectKind, ObjectRef};
use taskgrant::store::change::{CommitFault, Committed, Configure, Issue, Spend, SpendKind};
use taskgrant::store::rows::{BundleRow, ObjectRow};

use super::{Deployment, on_both};

fn object(d: &Deployment, kind: ObjectKind, name: &str, version: i64) -> ObjectRow {
    let published_at = chrono::DateTime::from_timestamp_micros(d.clock.now().timestamp_micros()).unwrap();
    let id = ObjectRef { kind, tenant: "acme".parse().unwrap(), name: name.parse().unwrap() };
    ObjectRow { id, version, spec: format!(r#"{{"version":{version}}}"#).into_bytes(), published_at }
}

fn configure(d: &Deployment, put: Vec<ObjectRow>) -> Configure {
    let decision = d.decision(Kind::Admin, Outcome::Allow);
    Configure { put, ..Configure::only(decision) }
}

#[tokio::test]
async fn the_newest_version_is_current_and_the_earlier_ones_stay() {
    on_both(async |d| {
        let task_type = |version| object(d, ObjectKind::TaskType, "refund", version);
        let agent = object(d, ObjectKind::Agent, "bot", 1);
        d.done(configure(d, vec![task_type(1), agent.clone()])).await;
        // Two versions in one batch: the later one is current.
        let (two, three) = (configure(d, vec![task_type(2)]), configure(d, vec![task_type(3)]));
        let newest = three.put.clone();
        assert!(d.together(vec![two.into(), three.into()]).await.iter().all(Result::is_ok));
        assert_eq!(d.store.objects_current().await.unwrap(), [agent.clone(), newest[0].clone()]);
        let versions = d.store.object_versions(ObjectKind::TaskType).await.unwrap();
        assert_eq!(versions.iter().map(|row| row.version).collect::<Vec<_>>(), [1, 2, 3]);

        let mut retire = configure(d, vec![]);
        retire.retire = vec![agent.id];
        d.done(retire).await;
        assert_eq!(d.store.objects_current().await.unwrap(), newest);
        assert_eq!(d.store.object_versions(ObjectKind::Agent).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_version_that_somebody_else_published_is_rejected_alone() {
    on_both(async |d| {
        let first = object(d, ObjectKind::Agent, "bot", 1);
        let mut second = first.clone();
        second.spec = b"{}".to_vec();
        let changes = vec![
            configure(d, vec![first.clone()]).into(),
            configure(d, vec![second]).into(),
            d.refusal().into(),
        ];
        let answers = d.together(changes).await;
        assert!(matches!(answers[0], Ok(Committed::Done(_))));
        assert_eq!(answers[1], Err(CommitFault::Rejected));
        assert!(matches!(answers[2], Ok(Committed::Done(_))));
        assert_eq!(d.store.objects_current().await.unwrap(), [first]);
    })
    .await;
}

#[tokio::test]
async fn bundles_stay_as_they_are_and_settings_are_written_over() {
    on_both(async |d| {
        for (content, value) in [(vec![0, 255, 1], "one"), (vec![2], "two")] {
            let mut change = configure(d, vec![]);
            let created_at = d.clock.now();
            change.bundle =
                Some(BundleRow { version: "sha256:ab".into(), content, created_at, in_force_at: None });
            change.settings = vec![("issuer".into(), value.into()), ("generation\n".into(), "7".into())];
            d.done(change).await;
        }
        assert_eq!(d.store.bundle("sha256:ab").await.unwrap(), Some(vec![0, 255, 1]));
        assert_eq!(d.store.bundle("sha256:cd").await.unwrap(), None);
        assert_eq!(d.store.setting("issuer").await.unwrap().as_deref(), Some("two"));
        assert_eq!(d.store.setting("generation\n").await.unwrap().as_deref(), Some("7"));
        assert_eq!(d.store.setting("port").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn what_was_decided_by_an_older_configuration_is_neither_written_nor_spent() {
    on_both(async |d| {
        let agent = |version| object(d, ObjectKind::Agent, "bot", version);
        let by = |generation, key: &str| {
            let keep_until = d.clock.now() + TimeDelta::minutes(1);
            let spend = Spend { kind: SpendKind::ClientAssertion, key: key.into(), keep_until };
            Issue { generation, assertion: Some(spend), ..d.root() }
        };
        // What changes no object is no new generation.
        let mut settings = configure(d, vec![]);
        settings.settings = vec![("issuer".into(), "one".into())];
        assert_eq!(d.done(settings).await.generation, 0);
        let changes = vec![
            by(0, "a").into(),
            configure(d, vec![agent(1)]).into(),
            by(0, "b").into(),
            by(1, "c").into(),
        ];
        let answers = d.together(changes).await;
        let won: Vec<_> = answers.iter().map(|a| matches!(a, Ok(Committed::Done(_)))).collect();
        assert_eq!(won, [true, true, false, true]);
        assert_eq!(answers[2], Ok(Committed::Superseded { generation: 1 }));
        assert_eq!(d.submit(by(0, "b")).await, Ok(Committed::Superseded { generation: 1 }));
        assert_eq!(d.store.head().await.unwrap().frontier.size(), 4, "nothing of it is in the log");
        d.done(by(1, "b")).await;

        let publish = |base, version| Configure { base: Some(base), ..configure(d, vec![agent(version)]) };
        assert_eq!(d.submit(publish(0, 2)).await, Ok(Committed::Superseded { generation: 1 }));
        assert_eq!(d.done(publish(1, 2)).await.generation, 2);
        let mut retire = configure(d, vec![]);
        retire.retire = vec![agent(2).id];
        assert_eq!(d.done(retire).await.generation, 3);
        assert_eq!(d.store.head().await.unwrap().generation, 3);
    })
    .await;
}
