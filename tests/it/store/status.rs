//! What the publisher of status lists reads: exactly what a revocation kills, whichever way it does.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use taskgrant::clock::Clock as _;
use taskgrant::domain::ids::{ClientId, StatusListId};
use taskgrant::domain::record::{RevocationKey, RevocationKind};
use taskgrant::store::change::{Issue, Spend, SpendKind};
use taskgrant::store::status::{Since, StatusListRow};

use super::{Deployment, on_both, unique};

/// The places of what was revoked after `since`, as the publisher finds them.
async fn places(d: &Deployment, since: &mut Since) -> BTreeSet<i64> {
    let now = d.clock.now();
    let revoked = d.store.revoked_since(since, now).await.unwrap();
    let tasks = d.store.tasks_touched(&revoked, now, now - TimeDelta::hours(1)).await.unwrap();
    let places = d.store.places_of_dead(&revoked, &tasks, now).await.unwrap();
    places.into_iter().map(|(_, index)| index).collect()
}

fn placed(mut issue: Issue, index: i64) -> Issue {
    issue.token.status = Some(("list".into(), index));
    issue
}

/// A tree of three generations, the last by another agent, and one that shares nothing with it.
async fn forest(d: &Deployment) -> Vec<Issue> {
    let root = placed(d.root(), 1);
    let child = placed(d.child(&root), 2);
    let mut grandchild = placed(d.child(&child), 3);
    let worker: ClientId = "worker".parse().unwrap();
    grandchild.token.chain_agents.insert(0, worker.clone());
    grandchild.token.agent = worker;
    grandchild.token.kid = "key-2".into();
    let mut stranger = placed(d.root(), 4);
    stranger.token.principal.sub = "bob".into();
    stranger.token.session.sid = Some("s2".into());
    stranger.token.session.token_sha256 = "cd".repeat(32);
    stranger.token.task_type = "other".parse().unwrap();
    stranger.token.agent = "other-agent".parse().unwrap();
    stranger.token.chain_agents = vec!["other-agent".parse().unwrap()];
    stranger.token.kid = "key-3".into();
    let task = stranger.task.as_mut().unwrap();
    task.principal = stranger.token.principal.clone();
    task.session = stranger.token.session.clone();
    task.task_type = stranger.token.task_type.clone();
    let all = vec![root, child, grandchild, stranger];
    for issue in &all {
        d.done(issue.clone()).await;
    }
    all
}

/// The places of those that are dead by the store's own judgement, which introspection asks too.
async fn dead(d: &Deployment, issues: &[Issue]) -> BTreeSet<i64> {
    let mut dead = BTreeSet::new();
    for issue in issues {
        let token = d.store.token(issue.token.jti).await.unwrap().unwrap();
        if !d.store.is_alive(&token).await.unwrap() {
            dead.insert(token.status.unwrap().1);
        }
    }
    dead
}

#[tokio::test]
async fn t27_what_is_published_as_dead_is_what_is_dead_for_every_kind_of_revocation() {
    for kind in RevocationKind::ALL {
        on_both(async |d| {
            let forest = forest(d).await;
            let mut since = Since::default();
            assert_eq!(places(d, &mut since).await, BTreeSet::new());
            let mut seen = BTreeSet::new();
            // Every key of this kind that bears on the grandchild, one by one; only the stranger shares none.
            let grandchild = d.store.token(forest[2].token.jti).await.unwrap().unwrap();
            let keys = grandchild.killed_by().into_iter().map(|(key, _)| key).filter(|key| key.kind == kind);
            let keys: Vec<_> = keys.collect();
            // A lockdown kills nothing that was issued.
            assert_eq!(keys.is_empty(), kind == RevocationKind::Lockdown, "{kind:?}");
            for key in keys {
                d.done(d.revoke(vec![key.clone()])).await;
                seen.extend(places(d, &mut since).await);
                assert_eq!(seen, dead(d, &forest).await, "{key:?}");
                assert!(seen.contains(&3), "{key:?}");
            }
            let all = matches!(kind, RevocationKind::Issuer | RevocationKind::Tenant);
            assert_eq!(seen.contains(&4), all, "{kind:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn t27_many_revocations_are_read_once_and_one_that_comes_again_is_read_again() {
    on_both(async |d| {
        let forest = forest(d).await;
        let task = RevocationKey::task(forest[0].token.task_id);
        let agent = RevocationKey::agent(&"other-agent".parse().unwrap());
        d.done(d.revoke(vec![task, agent.clone()])).await;
        let mut since = Since::default();
        assert_eq!(places(d, &mut since).await, BTreeSet::from([1, 2, 3, 4]));
        assert!(d.store.revoked_since(&mut since, d.clock.now()).await.unwrap().is_empty());
        // A later revocation of the same agent reaches what began since.
        d.clock.shift(5);
        let mut later = placed(d.root(), 5);
        later.token.agent = "other-agent".parse().unwrap();
        later.token.chain_agents = vec!["other-agent".parse().unwrap()];
        d.done(later).await;
        assert_eq!(places(d, &mut since).await, BTreeSet::new());
        d.done(d.revoke(vec![agent])).await;
        assert_eq!(places(d, &mut since).await, BTreeSet::from([4, 5]));
        // Whoever begins anew reads all that still matters, and nothing that has no more to kill.
        assert_eq!(places(d, &mut Since::default()).await, BTreeSet::from([1, 2, 3, 4, 5]));
        d.clock.shift(301);
        assert_eq!(places(d, &mut Since::default()).await, BTreeSet::new(), "the dead have expired");
        d.clock.shift(7200);
        let revoked = d.store.revoked_since(&mut Since::default(), d.clock.now()).await.unwrap();
        assert!(revoked.is_empty(), "the rows have nothing more to kill");
    })
    .await;
}

#[tokio::test]
async fn t27_more_dead_than_one_answer_holds_are_all_found() {
    on_both(async |d| {
        let root = placed(d.root(), 0);
        d.done(root.clone()).await;
        let children: Vec<_> = (1..2100).map(|index| placed(d.child(&root), index).into()).collect();
        for answer in d.together(children).await {
            answer.unwrap();
        }
        d.done(d.revoke(vec![RevocationKey::token(root.token.jti)])).await;
        let found = places(d, &mut Since::default()).await;
        assert_eq!((found.len(), found.first(), found.last()), (2100, Some(&0), Some(&2099)));
    })
    .await;
}

#[tokio::test]
async fn t27_spent_hand_over_tokens_are_found_until_they_expire() {
    on_both(async |d| {
        let hand_over = placed(d.root(), 9);
        d.done(hand_over.clone()).await;
        let mut child = d.child(&hand_over);
        let (kind, key) = (SpendKind::HandOver, hand_over.token.jti.to_string());
        child.spend = vec![Spend { kind, key, keep_until: hand_over.token.exp }];
        d.done(child).await;
        let (now, minute) = (d.clock.now(), TimeDelta::minutes(1));
        let spent = d.store.hand_overs_spent(now - minute, now).await.unwrap();
        assert_eq!(spent, [hand_over.token.jti]);
        assert_eq!(d.store.places_of(&spent).await.unwrap(), [("list".to_owned(), 9)]);
        let after = hand_over.token.exp + minute;
        assert_eq!(d.store.hand_overs_spent(now - minute, after).await.unwrap(), []);
        assert_eq!(d.store.hand_overs_spent(now + minute, now).await.unwrap(), []);
    })
    .await;
}

fn list(d: &Deployment, keep_until: DateTime<Utc>) -> StatusListRow {
    let opened_at = DateTime::from_timestamp(d.clock.now().timestamp(), 0).unwrap();
    StatusListRow { id: StatusListId::new(opened_at, unique()), size: 1 << 17, opened_at, keep_until }
}

#[tokio::test]
async fn sl_02_a_list_is_known_until_its_last_token_has_died() {
    on_both(async |d| {
        let now = DateTime::from_timestamp(d.clock.now().timestamp(), 0).unwrap();
        let (open, full) = (list(d, now + TimeDelta::days(31)), list(d, now + TimeDelta::days(31)));
        for row in [&open, &full] {
            d.writer.put_list(row.clone()).await.unwrap();
        }
        let full = StatusListRow { keep_until: now + TimeDelta::minutes(5), ..full };
        d.writer.put_list(full.clone()).await.unwrap();
        let mut both = vec![open.clone(), full.clone()];
        both.sort_by_key(|row| row.id);
        assert_eq!(d.store.status_lists(now).await.unwrap(), both);
        assert_eq!(d.store.status_list(full.id, now).await.unwrap(), Some(full.clone()));
        let after = now + TimeDelta::minutes(5);
        assert_eq!(d.store.status_lists(after).await.unwrap(), [open]);
        assert_eq!(d.store.status_list(full.id, after).await.unwrap(), None);
        // With a new list, those that are long gone are forgotten.
        d.clock.shift(3 * 3600);
        d.writer.put_list(list(d, d.clock.now() + TimeDelta::days(31))).await.unwrap();
        assert_eq!(d.raw().await.number("SELECT count(*) FROM status_lists").await, 2);
    })
    .await;
}
