//! What has ended goes, nothing that lives does, and nothing comes to life by it.

use chrono::{DateTime, TimeDelta, Utc};
use taskgrant::clock::Clock as _;
use taskgrant::domain::record::{RevocationKey, RevocationKind, TreeLimits};
use taskgrant::store::change::{Issue, Loss, Revoke, Spend, SpendKind};
use taskgrant::store::error::StoreError;
use taskgrant::store::pruning::{Before, MOST, Pruned};
use taskgrant::store::status::Since;

use super::{Deployment, on_both};

const MINUTE: TimeDelta = TimeDelta::minutes(1);
const HOUR: i64 = 3600;
const TOKENS: &str = "SELECT count(*) FROM tokens";
const INPUTS: &str = "SELECT count(*) FROM decision_inputs";
const REVOCATIONS: &str = "SELECT count(*) FROM revocations";

async fn before(d: &Deployment, passed: TimeDelta, retention: TimeDelta) -> Before {
    Before::of(&d.store.head().await.unwrap(), passed, retention, TimeDelta::hours(12))
}

/// One batch for all that ended so long before the last token.
async fn prune(d: &Deployment, retention: TimeDelta) -> Pruned {
    let before = before(d, TimeDelta::zero(), retention).await;
    let (due, pruned) = (d.store.due(&before).await.unwrap(), d.writer.prune(before).await.unwrap());
    assert!(due.any || pruned == Pruned::default(), "{due:?} {pruned:?}");
    pruned
}

async fn has(d: &Deployment, issue: &Issue) -> bool {
    d.store.token(issue.token.jti).await.unwrap().is_some()
}

/// Issues one more token, so that it is certain that it is as late as that.
async fn go_on(d: &Deployment) -> Issue {
    let root = d.root();
    d.done(root.clone()).await;
    root
}

fn keep(d: &Deployment, keys: Vec<RevocationKey>, keep_until: DateTime<Utc>) -> Revoke {
    Revoke { keep_until, ..d.revoke(keys) }
}

#[tokio::test]
async fn an_ended_tree_goes_as_a_whole_after_its_retention_and_its_decisions_stay() {
    on_both(async |d| {
        let root = go_on(d).await;
        let child = d.child(&root);
        d.done(child.clone()).await;
        d.clock.shift(HOUR + 50);
        let late = go_on(d).await;
        assert_eq!(prune(d, MINUTE).await, Pruned::default(), "it ended 50 s ago");
        assert!(d.store.task(root.token.task_id).await.unwrap().is_some());
        d.clock.shift(15);
        let later = go_on(d).await;
        assert_eq!(prune(d, TimeDelta::days(1)).await, Pruned::default());
        assert_eq!(prune(d, MINUTE).await, Pruned { tokens: 2, tasks: 1, ..Pruned::default() });
        assert_eq!(d.store.task(root.token.task_id).await.unwrap(), None);
        for (issue, stays) in [(&root, false), (&child, false), (&late, true), (&later, true)] {
            assert_eq!(has(d, issue).await, stays);
            assert!(d.store.decision(issue.decision.id).await.unwrap().unwrap().record.is_some());
        }
        assert_eq!(prune(d, MINUTE).await, Pruned::default());
    })
    .await;
}

#[tokio::test]
async fn of_a_living_task_nothing_goes_and_its_tree_stays_counted() {
    on_both(async |d| {
        let mut root = d.root();
        root.token.exp = root.task.as_ref().unwrap().deadline;
        d.done(root.clone()).await;
        let limits = TreeLimits { task_tokens: 3, token_children: 2, task_rate: 0 };
        let child = |parent: &Issue| Issue { limits, ..d.child(parent) };
        let children = [child(&root), child(&root)];
        for child in &children {
            d.done(child.clone()).await;
        }
        // The children are long expired; their parent is not.
        d.clock.shift(HOUR - 5);
        let mut last = d.root();
        last.token.exp = root.token.exp;
        d.done(last).await;
        assert_eq!(prune(d, MINUTE).await, Pruned::default());
        assert!(has(d, &children[0]).await && has(d, &children[1]).await);
        assert!(matches!(d.lost(child(&root)).await, Loss::TreeLimit(_)), "the limits were forgotten");
    })
    .await;
}

#[tokio::test]
async fn a_token_that_lives_beyond_its_task_stays_and_the_task_with_it() {
    on_both(async |d| {
        let mut root = d.root();
        root.task.as_mut().unwrap().deadline = root.token.iat + MINUTE;
        root.token.exp = root.token.iat + TimeDelta::hours(3);
        let short = Issue { token: d.child(&root).token, ..d.child(&root) };
        d.done(root.clone()).await;
        d.done(short.clone()).await;
        d.clock.shift(2 * HOUR);
        go_on(d).await;
        assert_eq!(prune(d, MINUTE).await, Pruned { tokens: 1, ..Pruned::default() });
        assert!(has(d, &root).await && !has(d, &short).await);
        assert!(d.store.task(root.token.task_id).await.unwrap().is_some());
        d.done(d.child(&root)).await;
    })
    .await;
}

#[tokio::test]
async fn large_trees_go_in_small_batches_and_their_tasks_last() {
    on_both(async |d| {
        let root = go_on(d).await;
        let revoked = keep(d, vec![RevocationKey::token(root.token.jti)], d.clock.now());
        let most = usize::try_from(MOST).unwrap();
        let children = (1..2 * most + 10).map(|_| d.child(&root).into()).collect();
        for answer in d.together(children).await {
            answer.unwrap();
        }
        d.done(revoked).await;
        d.clock.shift(20 * HOUR);
        go_on(d).await;
        let full = Pruned { tokens: MOST, ..Pruned::default() };
        for _ in 0..2 {
            assert_eq!(prune(d, MINUTE).await, full, "what killed it stays with it");
            assert!(d.store.task(root.token.task_id).await.unwrap().is_some());
        }
        let rest = Pruned { tokens: 10, tasks: 1, revocations: 1, inputs: 0, approvals: 0, proposals: 0 };
        assert_eq!(prune(d, MINUTE).await, rest);
        assert!(full.is_full() && !rest.is_full());
        assert_eq!(d.raw().await.number(TOKENS).await, 1);
    })
    .await;
}

#[tokio::test]
async fn the_wall_clock_alone_prunes_nothing_and_one_that_ran_ahead_for_an_hour_loses_nothing_that_lives() {
    on_both(async |d| {
        let mut root = d.root();
        root.token.exp = root.task.as_ref().unwrap().deadline;
        d.done(root.clone()).await;
        d.clock.step(100 * HOUR);
        assert_eq!(prune(d, MINUTE).await, Pruned::default(), "no token says that it is so late");
        d.clock.step(-99 * HOUR);
        let ahead = go_on(d).await;
        assert_eq!(prune(d, TimeDelta::hours(2)).await, Pruned::default());
        d.clock.step(-HOUR);
        assert!(has(d, &root).await && has(d, &ahead).await);
        let token = d.store.token(root.token.jti).await.unwrap().unwrap();
        assert!(d.store.is_alive(&token).await.unwrap() && token.exp > d.clock.now());
    })
    .await;
}

#[tokio::test]
async fn what_has_passed_for_certain_has_trees_and_inputs_go_of_a_store_at_rest_but_no_revocation() {
    on_both(async |d| {
        let root = go_on(d).await;
        d.done(keep(d, vec![RevocationKey::token(root.token.jti)], d.clock.now())).await;
        let at_rest = before(d, TimeDelta::days(8), MINUTE).await;
        assert!(d.store.due(&at_rest).await.unwrap().any);
        let pruned = d.writer.prune(at_rest).await.unwrap();
        assert_eq!(
            pruned,
            Pruned { tokens: 1, tasks: 1, revocations: 0, inputs: 2, approvals: 0, proposals: 0 }
        );
        assert!(!d.store.due(&at_rest).await.unwrap().any);
    })
    .await;
}

#[tokio::test]
async fn inputs_go_after_their_time_in_the_order_of_the_log() {
    on_both(async |d| {
        let root = go_on(d).await;
        d.done(d.refusal()).await;
        // Kept for seven days, and two hours for a clock that ran ahead.
        d.clock.shift(7 * 24 * HOUR + 2 * HOUR - 60);
        go_on(d).await;
        assert_eq!(prune(d, TimeDelta::days(30)).await, Pruned::default());
        assert_eq!(d.raw().await.number(INPUTS).await, 3);
        d.clock.shift(120);
        go_on(d).await;
        assert_eq!(prune(d, TimeDelta::days(30)).await, Pruned { inputs: 2, ..Pruned::default() });
        let decision = d.store.decision(root.decision.id).await.unwrap().unwrap();
        assert!(decision.input.is_none() && decision.record.is_some());
        assert_eq!(d.raw().await.number(INPUTS).await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_revocation_goes_after_its_time_a_lockdown_and_what_is_for_ever_never() {
    on_both(async |d| {
        let root = d.root();
        let ever = DateTime::<Utc>::MAX_UTC;
        let (token, stopped) = (RevocationKey::token(root.token.jti), RevocationKey::signing_key("key-0"));
        let ended = d.clock.now() + TimeDelta::hours(1);
        d.done(root.clone()).await;
        d.done(keep(d, vec![token.clone()], ended)).await;
        d.done(keep(d, vec![stopped.clone()], ever)).await;
        d.done(d.lockdown(Some("globex"), true)).await;
        // Its time, two hours for a clock that ran ahead, and as long as its tree stays.
        d.clock.shift(3 * HOUR + 50);
        go_on(d).await;
        assert_eq!(prune(d, MINUTE).await.revocations, 0);
        d.clock.shift(20);
        go_on(d).await;
        assert_eq!(prune(d, TimeDelta::hours(1)).await.revocations, 0);
        assert_eq!(prune(d, MINUTE).await.revocations, 1);
        assert_eq!(d.store.mark(&token).await.unwrap(), None);
        assert!(!has(d, &root).await, "what it killed went before");
        d.clock.shift(400 * 24 * HOUR);
        go_on(d).await;
        prune(d, MINUTE).await;
        assert!(d.store.mark(&stopped).await.unwrap().is_some());
        assert_eq!(d.store.lockdowns().await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_revocation_that_comes_again_stays_for_longer() {
    on_both(async |d| {
        let key = RevocationKey::agent(&"agent-9".parse().unwrap());
        d.done(keep(d, vec![key.clone()], d.clock.now())).await;
        d.clock.shift(5 * HOUR);
        d.done(keep(d, vec![key.clone()], d.clock.now())).await;
        go_on(d).await;
        assert_eq!(prune(d, MINUTE).await.revocations, 0);
        assert!(d.store.mark(&key).await.unwrap().is_some());
    })
    .await;
}

#[tokio::test]
async fn l4_what_revokes_logins_stays_while_one_of_them_could_begin_anything() {
    on_both(async |d| {
        let root = d.root();
        let keys: Vec<_> = root.token.killed_by().into_iter().map(|(key, _)| key).collect();
        d.done(keep(d, keys, d.clock.now())).await;
        let kept = async || {
            let mut kept = Vec::new();
            for kind in RevocationKind::ALL {
                let mut keys = root.token.killed_by().into_iter().map(|(key, _)| key);
                let Some(key) = keys.find(|key| key.kind == kind) else { continue };
                kept.extend(d.store.mark(&key).await.unwrap().map(|_| kind));
            }
            kept
        };
        // Logins are good for twelve hours; the rows say that they may go at once.
        d.clock.shift(3 * HOUR);
        let mut other = d.root();
        other.token.session.since = d.clock.now();
        other.token.kid = "key-2".into();
        d.done(other).await;
        prune(d, MINUTE).await;
        let of_logins = [
            RevocationKind::Session,
            RevocationKind::Principal,
            RevocationKind::Issuer,
            RevocationKind::Tenant,
            RevocationKind::SigningKey,
        ];
        assert_eq!(kept().await, of_logins);
        let mut again = d.root();
        (again.token.session.since, again.token.kid) = (root.token.session.since, "key-2".into());
        assert!(matches!(d.lost(again).await, Loss::Revoked { .. }));
        d.clock.shift(12 * HOUR);
        let mut other = d.root();
        other.token.kid = "key-2".into();
        d.done(other).await;
        prune(d, MINUTE).await;
        assert_eq!(kept().await, []);
    })
    .await;
}

#[tokio::test]
async fn l4_a_revocation_by_a_clock_behind_the_last_token_is_kept_for_what_that_one_may_become() {
    on_both(async |d| {
        d.clock.step(5 * HOUR);
        let ahead = go_on(d).await;
        d.clock.step(-5 * HOUR);
        let key = RevocationKey::agent(&ahead.token.agent);
        let revoke = d.revoke(vec![key.clone()]);
        let asked = revoke.keep_until;
        d.done(revoke).await;
        let kept = d.store.mark(&key).await.unwrap().unwrap().keep_until;
        assert!((kept - asked - TimeDelta::hours(5)).abs() < MINUTE, "{kept} {asked}");
    })
    .await;
}

#[tokio::test]
async fn t27_by_a_clock_set_back_behind_what_is_forgotten_nothing_is_told_to_live() {
    on_both(async |d| {
        d.clock.step(5 * HOUR);
        go_on(d).await;
        let since = async |now| d.store.revoked_since(&mut Since::default(), now).await;
        assert!(since(d.clock.now()).await.is_ok());
        d.clock.step(-HOUR);
        assert!(since(d.clock.now()).await.is_ok(), "what matters by it is there");
        d.clock.step(-4 * HOUR);
        assert!(matches!(since(d.clock.now()).await, Err(StoreError::Forgotten)));
    })
    .await;
}

#[tokio::test]
async fn t31_what_was_spent_stays_spent_when_the_trees_are_gone() {
    on_both(async |d| {
        let hand_over = go_on(d).await;
        let spend = |d: &Deployment| Spend {
            kind: SpendKind::HandOver,
            key: hand_over.token.jti.to_string(),
            keep_until: d.clock.now().min(hand_over.token.exp),
        };
        let mut child = d.child(&hand_over);
        child.spend = vec![spend(d)];
        d.done(child).await;
        d.clock.shift(HOUR + 70);
        go_on(d).await;
        assert_eq!(prune(d, MINUTE).await.tokens, 2);
        assert!(d.store.is_spent(SpendKind::HandOver, &spend(d).key).await.unwrap());
        assert_eq!(d.lost(d.child(&hand_over)).await, Loss::ParentUnknown);
        let kind = SpendKind::HandOver;
        assert_eq!(d.writer.spend(spend(d)).await.unwrap(), Err(Loss::AlreadySpent { kind }));
    })
    .await;
}

#[tokio::test]
async fn t34_an_issuer_stays_used_when_its_tasks_are_gone() {
    on_both(async |d| {
        let root = go_on(d).await;
        let iss = &root.token.principal.iss;
        d.clock.shift(HOUR + 70);
        let mut other = d.root();
        other.task.as_mut().unwrap().principal.iss = "https://other.example".into();
        d.done(other).await;
        assert_eq!(prune(d, MINUTE).await.tasks, 1);
        assert!(d.store.has_had_tasks_of(iss).await.unwrap());
        assert!(d.store.has_had_tasks_of("https://other.example").await.unwrap());
        assert!(!d.store.has_had_tasks_of("https://third.example").await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn two_replicas_may_prune_at_once_and_exchanges_go_on_beside() {
    on_both(async |d| {
        for _ in 0..20 {
            go_on(d).await;
        }
        d.clock.shift(HOUR + 70);
        go_on(d).await;
        let before = before(d, TimeDelta::zero(), MINUTE).await;
        let (twice, one, root) = (d.writer.clone(), d.writer.clone(), d.root());
        let prune = async |writer: taskgrant::store::writer::Writer| writer.prune(before).await.unwrap();
        let (a, b, issued) = tokio::join!(prune(twice), prune(one), d.submit(root));
        issued.unwrap();
        assert_eq!((a.tasks + b.tasks, a.tokens + b.tokens), (20, 20));
        assert_eq!(d.raw().await.number(TOKENS).await, 2);
        assert_eq!(d.raw().await.number(REVOCATIONS).await, 0);
    })
    .await;
}
