use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::sleep;

use super::*;
use crate::clock::{Clock, SystemClock};
use crate::configuration::active::Active;
use crate::configuration::apply::policy::BundleFile;
use crate::configuration::apply::standing::ACTIVE;
use crate::configuration::apply::{Options, Order, load};
use crate::domain::decision::Outcome;
use crate::domain::proposal::TwoPersons;
use crate::policy::bundle::Bundle;
use crate::policy::candidate::Canary;
use crate::policy::engine::PolicyEngine;
use crate::store::Store;
use crate::store::change::Configure;
use crate::store::folder::Location;
use crate::store::rows::BundleRow;
use crate::store::writer::Writer;

const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;

fn timed(mode: Mode, minutes: i64) -> TimedMode {
    TimedMode { mode, since: NOW, until: NOW + TimeDelta::minutes(minutes) }
}

fn kept() -> KeptCandidate {
    KeptCandidate { version: "c".to_owned(), since: NOW, account: "a".to_owned(), canary: Canary::default() }
}

fn here() -> CandidateHere {
    let seen = Counts { compared: 3, agreed: 2, disagreed: 1, enforced: 1, faults: 0 };
    CandidateHere { version: "c".to_owned(), since: NOW, problem: None, paused: false, seen }
}

/// A server that is as the store says.
fn good() -> Told {
    Told {
        generation: Some(7),
        serving: Some("p".to_owned()),
        data: Some("d".to_owned()),
        mode: Some(timed(Mode::DryRun, 5)),
        candidate: Some(here()),
        ..Told::default()
    }
}

fn refused() -> RefusedBundle {
    RefusedBundle { at: NOW, problem: "a/a.rego:1:1: what".to_owned() }
}

fn differences(told: &Told, now: DateTime<Utc>) -> Vec<Difference> {
    let (mode, candidate) = (timed(Mode::DryRun, 5), kept());
    let (mode, candidate) = (Some(&mode), Some(&candidate));
    Wanted { generation: 7, policy: Some("p"), data: Some("d"), mode, candidate }.differences(told, now)
}

#[test]
fn each_difference_is_told_and_none_where_there_is_none() {
    assert_eq!(differences(&good(), NOW), []);
    let bent: [(Difference, Told); 9] = [
        (Difference::Generation, Told { generation: Some(6), ..good() }),
        (Difference::Serving, Told { serving: Some("q".to_owned()), ..good() }),
        (Difference::Data, Told { data: None, ..good() }),
        (Difference::Mode, Told { mode: None, ..good() }),
        (Difference::Refused, Told { refused: Some(refused()), ..good() }),
        (Difference::Candidate, Told { candidate: None, ..good() }),
        (Difference::Candidate, {
            let since = NOW + TimeDelta::seconds(1);
            Told { candidate: Some(CandidateHere { since, ..here() }), ..good() }
        }),
        (Difference::Candidate, {
            Told { candidate: Some(CandidateHere { problem: Some("why".to_owned()), ..here() }), ..good() }
        }),
        (Difference::Candidate, {
            Told { candidate: Some(CandidateHere { paused: true, ..here() }), ..good() }
        }),
    ];
    for (difference, told) in bent {
        assert_eq!(differences(&told, NOW), [difference], "{told:?}");
    }
}

#[test]
fn a_mode_whose_time_is_over_is_none() {
    assert_eq!(differences(&Told { mode: None, ..good() }, NOW + TimeDelta::minutes(5)), []);
    assert_eq!(differences(&good(), NOW + TimeDelta::minutes(5)), []);
}

#[test]
fn what_is_newer_than_what_was_read_is_not_compared_with_it() {
    let newer = Told { generation: Some(8), serving: None, data: None, mode: None, ..Told::default() };
    assert_eq!(differences(&newer, NOW), []);
    assert_eq!(
        differences(&Told { refused: Some(refused()), ..newer }, NOW),
        [Difference::Refused],
        "a problem is one of its own"
    );
}

#[test]
fn a_program_that_tells_more_or_less_is_understood() {
    let read = |text: &str| serde_json::from_str::<Told>(text).unwrap();
    assert_eq!(read("{}"), Told::default());
    assert_eq!(
        read(r#"{"generation": 3, "of_a_later_one": [1]}"#),
        Told { generation: Some(3), ..Told::default() }
    );
    let text = serde_json::to_string(&Told { runs: Some(Runs::Vm), ..good() }).unwrap();
    assert_eq!(read(&text), Told { runs: Some(Runs::Vm), ..good() });
}

#[test]
fn long_problems_are_cut_at_a_character() {
    let long = short(&"ü".repeat(LONGEST_PROBLEM + 1));
    assert_eq!((long.chars().count(), long.ends_with("ü…")), (LONGEST_PROBLEM + 1, true));
    let fits = "ü".repeat(LONGEST_PROBLEM);
    assert_eq!(short(&fits), fits);
}

#[test]
fn counts_alone_are_no_news() {
    let counted = Told {
        candidate: Some(CandidateHere {
            seen: Counts { compared: 9, agreed: 9, ..Counts::default() },
            ..here()
        }),
        ..good()
    };
    assert_ne!(counted, good());
    assert_eq!(counted.at_rest(), good().at_rest());
    assert_ne!(Told { refused: Some(refused()), ..good() }.at_rest(), good().at_rest());
}

#[test]
fn what_was_seen_of_the_same_candidate_adds_up() {
    let replica = |candidate| ReplicaStatus {
        name: String::new(),
        id: String::new(),
        program: String::new(),
        started_at: NOW,
        seen_at: NOW,
        lost: false,
        differs: Vec::new(),
        told: Told { candidate, ..Told::default() },
    };
    let other = CandidateHere { version: "other".to_owned(), ..here() };
    assert_eq!(total(&kept(), &[replica(None), replica(Some(other.clone()))]), None);
    let all = [replica(Some(here())), replica(None), replica(Some(other)), replica(Some(here()))];
    let sum = Counts { compared: 6, agreed: 4, disagreed: 2, enforced: 2, faults: 0 };
    assert_eq!(total(&kept(), &all), Some(sum));
}

/// A server's configuration, whose store is in memory.
async fn bench() -> (Store, Configuration) {
    let store = Store::open(&Location::Memory).await.unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (writer, _task) = Writer::spawn(&store, clock.clone(), TimeDelta::zero());
    let policy = PolicyEngine::compile(Bundle::embedded_base().unwrap()).unwrap();
    let active = Active::new(load(&store, "https://us.example", policy).await.unwrap());
    let own = ("https://us.example".to_owned(), TwoPersons::default());
    let configuration = Configuration::new(store.clone(), writer, active, (clock, Arc::default()), own);
    (store, configuration)
}

fn replica() -> Replica {
    Replica { id: "id".to_owned(), name: "host:1".to_owned(), started_at: NOW }
}

#[tokio::test]
async fn why_what_the_store_has_is_not_taken_is_told_until_it_is() {
    let (_store, configuration) = bench().await;
    drop(configuration.tell_as(replica()));
    let own = async || configuration.policy_status().await.unwrap().replicas.remove(0);
    // Another program has put in force what this one cannot run.
    let put = async |bundle: &Bundle| {
        let order = Order { options: Options::default(), actor: "other", asked: serde_json::Value::Null };
        let decision = configuration.0.decision(&order, Outcome::Allow).unwrap();
        let (version, content, created_at) = (bundle.version().to_owned(), bundle.to_bytes(), decision.at);
        let settings = vec![(ACTIVE.to_owned(), version.clone())];
        let bundle = Some(BundleRow { version, content, created_at, in_force_at: Some(created_at) });
        let change = Configure { bundle, settings, ..Configure::only(decision) };
        configuration.0.writer.submit(change).await.unwrap();
        configuration.0.store.head().await.unwrap().generation
    };
    let bad = [("bad/bad.rego".to_owned(), "package taskgrant.exchange\nallow if".to_owned())];
    let stored = put(&Bundle::from_files(bad).unwrap()).await;
    configuration.catch_up(stored).await.unwrap_err();
    let behind = own().await;
    assert_eq!(behind.differs, [Difference::Generation, Difference::Serving]);
    let why = behind.told.behind.unwrap();
    assert!(why.contains("bad/bad.rego:2:"), "{why}");

    let stored = put(&Bundle::embedded_base().unwrap()).await;
    configuration.catch_up(stored).await.unwrap();
    let own = own().await;
    assert_eq!((own.differs, own.told.behind), (vec![], None));
}

/// The row of the one process.
async fn row(store: &Store) -> ReplicaRow {
    for _ in 0..1000 {
        if let Some(row) = store.replicas().await.unwrap().pop() {
            return row;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("it tells nothing");
}

#[tokio::test]
async fn a_server_writes_when_there_is_news_and_rests_when_there_is_none() {
    let (store, configuration) = bench().await;
    assert_eq!(configuration.policy_status().await.unwrap().replicas, [], "it serves nothing");
    let telling = tokio::spawn(configuration.tell_as(replica()));

    let first = row(&store).await;
    sleep(LOOK_EVERY * 2 + LOOK_EVERY / 2).await;
    assert_eq!(row(&store).await, first, "nothing has changed");
    let bad = BundleFile {
        path: "bad/bad.rego".to_owned(),
        text: "package taskgrant.exchange\nallow if".to_owned(),
    };
    configuration.apply_policy(vec![bad], "somebody").await.unwrap_err();
    let status = configuration.policy_status().await.unwrap();
    let problem = status.refused.clone().unwrap().problem;
    assert!(problem.contains("bad/bad.rego:2:"), "{problem}");
    assert_eq!(status.replicas.len(), 1);
    assert_eq!(status.replicas[0].differs, [Difference::Refused], "of this moment, before it is written");
    let mut told = row(&store).await.told;
    for _ in 0..1000 {
        if told != first.told {
            break;
        }
        sleep(Duration::from_millis(10)).await;
        told = row(&store).await.told;
    }
    let told: Told = serde_json::from_str(&told).unwrap();
    assert_eq!(told.refused.unwrap().problem, problem);

    telling.abort();
    assert!(telling.await.unwrap_err().is_cancelled());
    configuration.leave().await;
    assert_eq!(store.replicas().await.unwrap(), []);
    assert_eq!(configuration.policy_status().await.unwrap().replicas, []);
}
