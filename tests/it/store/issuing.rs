//! Issuing: trees of tokens, spent ids, losses.

use std::sync::Arc;

use chrono::TimeDelta;
use taskgrant::clock::Clock as _;
use taskgrant::domain::ids::ApprovalId;
use taskgrant::domain::record::{MAX_HEIGHT, TreeLimits};
use taskgrant::domain::refusal::LimitedBy;
use taskgrant::store::change::{Change, CommitFault, Committed, Issue, Loss, Refuse, Spend, SpendKind};
use taskgrant::store::writer::Writer;

use super::{Deployment, on_both};

const EPOCH: &str = "SELECT epoch FROM log_head";

fn spend(deployment: &Deployment, kind: SpendKind, key: &str) -> Spend {
    Spend { kind, key: key.into(), keep_until: deployment.clock.now() + TimeDelta::minutes(6) }
}

#[tokio::test]
async fn nothing_is_issued_by_a_clock_behind_the_last_token() {
    on_both(async |d| {
        d.done(d.root()).await;
        d.clock.step(-1);
        d.done(d.root()).await;
        d.clock.step(-4);
        assert_eq!(d.lost(d.root()).await, Loss::ClockBehind);
        d.clock.shift(5);
        d.done(d.root()).await;
    })
    .await;
}

#[tokio::test]
async fn records_come_back_as_they_went_in() {
    on_both(async |d| {
        let (mut root, mut child) = (d.root(), d.child(&d.root()));
        root.token.key_thumbprint = Some("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I".into());
        root.token.session.sid = None;
        child.token.task_id = root.token.task_id;
        child.token.parent = Some(root.token.jti);
        child.token.audience = None;
        child.token.status = None;
        child.token.approval_id = Some(ApprovalId::new(d.clock.now(), [9; 10]));
        let receipt = d.done(root.clone()).await;
        d.done(child.clone()).await;
        assert_eq!((receipt.index, receipt.decision_id), (0, root.decision.id));
        assert_eq!(d.store.token(root.token.jti).await.unwrap().unwrap(), root.token);
        assert_eq!(d.store.task(root.token.task_id).await.unwrap(), root.task);
        child.token.ancestors = vec![root.token.jti];
        child.token.session = root.token.session.clone();
        assert_eq!(d.store.token(child.token.jti).await.unwrap().unwrap(), child.token);
        assert_eq!(d.store.token(d.root().token.jti).await.unwrap(), None);
        assert_eq!(d.store.task(d.root().token.task_id).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_whole_branch_is_issued_in_one_commit() {
    on_both(async |d| {
        let root = d.root();
        let child = d.child(&root);
        let grandchild = d.child(&child);
        let changes = vec![root.clone().into(), child.clone().into(), grandchild.clone().into()];
        for answer in d.together(changes).await {
            assert!(matches!(answer, Ok(Committed::Done(_))), "{answer:?}");
        }
        assert_eq!(d.raw().await.number(EPOCH).await, 1, "one commit");
        let stored = d.store.token(grandchild.token.jti).await.unwrap().unwrap();
        assert_eq!(stored.ancestors, [root.token.jti, child.token.jti]);
        assert_eq!(stored.session, root.token.session);
    })
    .await;
}

#[tokio::test]
async fn a_child_without_a_parent_of_its_task_is_refused() {
    on_both(async |d| {
        let root = d.root();
        assert_eq!(d.lost(d.child(&root)).await, Loss::ParentUnknown);
        d.done(root.clone()).await;
        let mut stranger = d.child(&root);
        stranger.token.task_id = d.root().token.task_id;
        assert_eq!(d.lost(stranger).await, Loss::ParentUnknown);
        let mut rootless = d.root();
        rootless.task = None;
        assert_eq!(d.lost(rootless).await, Loss::ParentUnknown);
        assert_eq!(d.raw().await.outcomes().await, ["deny", "allow", "deny", "deny"]);
    })
    .await;
}

#[tokio::test]
async fn a_child_of_a_loser_in_the_same_batch_loses_too() {
    on_both(async |d| {
        let root = d.root();
        d.done(root.clone()).await;
        let mut child = d.child(&root);
        child.spend = vec![spend(d, SpendKind::HandOver, "a"), spend(d, SpendKind::HandOver, "b")];
        let mut first = d.child(&root);
        first.spend = vec![spend(d, SpendKind::HandOver, "b")];
        let grandchild = d.child(&child);
        let answers = d.together(vec![first.into(), child.into(), grandchild.into()]).await;
        assert!(matches!(answers[0], Ok(Committed::Done(_))));
        let kind = SpendKind::HandOver;
        assert!(matches!(answers[1], Ok(Committed::Lost(Loss::AlreadySpent { kind: k }, _)) if k == kind));
        assert!(matches!(answers[2], Ok(Committed::Lost(Loss::ParentUnknown, _))));
        // The loser spent nothing: `a` is still good.
        let mut again = d.child(&root);
        again.spend = vec![spend(d, SpendKind::HandOver, "a")];
        d.done(again).await;
    })
    .await;
}

#[tokio::test]
async fn t31_an_assertion_is_spent_by_whatever_comes_of_it_and_refuses_what_comes_after() {
    on_both(async |d| {
        let lost = Loss::AlreadySpent { kind: SpendKind::ClientAssertion };
        let one = |key: &str| Some(spend(d, SpendKind::ClientAssertion, key));
        let refuse = |key: &str| Refuse { decision: d.refusal(), assertion: one(key) };
        d.done(refuse("a\n1")).await;
        assert_eq!(d.lost(refuse("a\n1")).await, lost);
        let mut root = d.root();
        root.assertion = one("a\n1");
        assert_eq!(d.lost(root).await, lost);
        let mut orphan = d.child(&d.root());
        orphan.assertion = one("a\n2");
        assert_eq!(d.lost(orphan).await, Loss::ParentUnknown);
        assert_eq!(d.lost(refuse("a\n2")).await, lost, "the loser has spent its assertion");
        let alone = spend(d, SpendKind::ClientAssertion, "a\n3");
        assert_eq!(d.writer.spend(alone.clone()).await, Ok(Ok(())));
        assert_eq!(d.writer.spend(alone).await, Ok(Err(lost)));
        assert_eq!(d.lost(refuse("a\n3")).await, lost);
        // In one batch the first wins.
        let both = d.together(vec![refuse("a\n4").into(), refuse("a\n4").into()]).await;
        assert!(matches!(both[..], [Ok(Committed::Done(_)), Ok(Committed::Lost(..))]), "{both:?}");
        assert_eq!(d.raw().await.outcomes().await.len(), 8, "what is spent alone is no decision");
    })
    .await;
}

#[tokio::test]
async fn what_was_spent_is_forgotten_some_time_after_its_expiry() {
    const KEPT: &str = "SELECT count(*) FROM spent";
    on_both(async |d| {
        let alone = |key: &str| spend(d, SpendKind::ClientAssertion, key);
        d.writer.spend(alone("a\n1")).await.unwrap().unwrap();
        d.clock.shift(125 * 60);
        d.done(d.root()).await;
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        d.writer.spend(alone("a\n2")).await.unwrap().unwrap();
        assert_eq!(d.raw().await.number(KEPT).await, 2, "expired for 119 minutes: a clock may go back");
        d.clock.shift(120);
        d.done(d.root()).await;
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        d.writer.spend(alone("a\n3")).await.unwrap().unwrap();
        assert_eq!(d.raw().await.number(KEPT).await, 2, "the first is gone");
    })
    .await;
}

#[tokio::test]
async fn t31_no_step_of_the_clock_revives_what_was_spent_nor_does_a_restart_in_it() {
    const KEPT: &str = "SELECT count(*) FROM spent";
    let until_purged = || tokio::time::sleep(std::time::Duration::from_millis(1100));
    on_both(async |d| {
        let one = |key: &str| spend(d, SpendKind::ClientAssertion, key);
        let spent = Ok(Err(Loss::AlreadySpent { kind: SpendKind::ClientAssertion }));
        let before = one("a\n1");
        assert_eq!(d.writer.spend(before.clone()).await, Ok(Ok(())));
        d.clock.step(5 * 3600);
        // The writer of a server that starts in the step knows no other time.
        let (restarted, task) = Writer::spawn(&d.store, Arc::new(d.clock.clone()), TimeDelta::zero());
        let ahead = one("a\n2");
        assert_eq!(restarted.spend(ahead.clone()).await, Ok(Ok(())));
        until_purged().await;
        assert_eq!(restarted.spend(one("a\n3")).await, Ok(Ok(())));
        assert_eq!(d.raw().await.number(KEPT).await, 3, "the clock alone forgets nothing");
        assert!(matches!(restarted.submit(d.root()).await, Ok(Committed::Done(_))));
        until_purged().await;
        assert_eq!(restarted.spend(one("a\n4")).await, Ok(Ok(())));
        assert_eq!(d.raw().await.number(KEPT).await, 3, "the first is forgotten");
        drop(restarted);
        task.await.unwrap();

        d.clock.step(-5 * 3600);
        for replayed in [before.clone(), ahead, one("a\n5")] {
            assert_eq!(d.writer.spend(replayed).await, spent);
        }
        let mut root = d.root();
        root.assertion = Some(before);
        assert_eq!(Ok(Err(d.lost(root).await)), spent);
        d.clock.shift(5 * 3600);
        assert_eq!(d.writer.spend(one("a\n5")).await, Ok(Ok(())));
    })
    .await;
}

#[tokio::test]
async fn what_is_spent_is_spent_once_across_batches_and_kinds_do_not_mix() {
    on_both(async |d| {
        for (kind, wins) in [
            (SpendKind::ClientAssertion, true),
            (SpendKind::ClientAssertion, false),
            (SpendKind::ActorToken, true),
        ] {
            let mut root = d.root();
            root.spend = vec![spend(d, kind, "agent\nj1")];
            match d.submit(root).await.unwrap() {
                Committed::Done(_) => assert!(wins),
                Committed::Lost(loss, _) => assert!(!wins && loss == Loss::AlreadySpent { kind }),
                Committed::Superseded { generation } => panic!("superseded by {generation}"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn the_tree_is_at_most_this_high_also_in_one_batch() {
    on_both(async |d| {
        let mut path = vec![d.root()];
        for at in 0..MAX_HEIGHT {
            path.push(d.child(&path[at]));
        }
        let answers = d.together(path.iter().cloned().map(Into::into).collect()).await;
        let (last, lower) = answers.split_last().unwrap();
        assert!(lower.iter().all(|answer| matches!(answer, Ok(Committed::Done(_)))));
        assert!(matches!(last, Ok(Committed::Lost(Loss::TreeTooHigh, _))), "{last:?}");
        assert_eq!(d.lost(d.child(&path[MAX_HEIGHT - 1])).await, Loss::TreeTooHigh);
    })
    .await;
}

#[tokio::test]
async fn an_expired_parent_has_no_more_children() {
    on_both(async |d| {
        let root = d.root();
        d.done(root.clone()).await;
        d.clock.shift(300);
        assert_eq!(d.lost(d.child(&root)).await, Loss::ParentExpired);
    })
    .await;
}

#[tokio::test]
async fn a_token_id_is_issued_once() {
    on_both(async |d| {
        let root = d.root();
        let mut twin = d.root();
        twin.token.jti = root.token.jti;
        let mut late = d.root();
        late.token.jti = root.token.jti;
        let answers = d.together(vec![root.into(), twin.into()]).await;
        assert!(matches!(answers[1], Ok(Committed::Lost(Loss::Duplicate, _))));
        assert_eq!(d.lost(late).await, Loss::Duplicate);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_callers_at_once_share_one_log() {
    on_both(async |d| {
        // Plain values go into the tasks; the deployment itself stays here.
        let branches: Vec<_> = (0..64)
            .map(|_| {
                let root = d.root();
                let child = d.child(&root);
                let refusal = d.refusal();
                (root, child, refusal)
            })
            .collect();
        let writer = Arc::new(d.writer.clone());
        let mut running = tokio::task::JoinSet::new();
        for (root, child, refusal) in branches {
            let writer = writer.clone();
            running.spawn(async move {
                let issued = [writer.submit(root).await, writer.submit(child).await];
                let refused = writer.submit(refusal).await;
                issued.into_iter().chain([refused]).all(|a| matches!(a, Ok(Committed::Done(_))))
            });
        }
        assert!(running.join_all().await.into_iter().all(|good| good));
        let commits = d.raw().await.number(EPOCH).await;
        assert!(commits < 192, "nothing was batched: {commits} commits for 192 changes");
    })
    .await;
}

#[tokio::test]
async fn a_full_queue_is_a_fault_at_once() {
    on_both(async |d| {
        // Nothing of this runs before the first await: the queue fills up.
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..=taskgrant::store::writer::MAX_QUEUE {
            let (writer, refusal) = (d.writer.clone(), d.refusal());
            waiting.spawn(async move { writer.submit(refusal).await });
        }
        let answers = waiting.join_all().await;
        assert_eq!(answers.iter().filter(|a| **a == Err(CommitFault::Full)).count(), 1);
    })
    .await;
}

fn place(committed: &Result<Committed, CommitFault>) -> Option<(u64, u64)> {
    let Ok(Committed::Done(receipt)) = committed else { return None };
    receipt.place.map(|place| (place.task_serial, place.sibling))
}

fn limited(committed: &Result<Committed, CommitFault>) -> Option<(LimitedBy, u32)> {
    let Ok(Committed::Lost(Loss::TreeLimit(limited), _)) = committed else { return None };
    Some((limited.by, limited.retry_after))
}

#[tokio::test]
async fn t11_tokens_of_a_task_and_children_of_a_token_are_counted_in_the_commit() {
    on_both(async |d| {
        let root = d.root();
        let below = |parent: &Issue, limits| Issue { limits, ..d.child(parent) };
        let five = TreeLimits { task_tokens: 5, ..TreeLimits::default() };
        let two = TreeLimits { token_children: 2, ..TreeLimits::default() };
        let first = below(&root, two);
        let batch = [root.clone(), first.clone(), below(&root, two), below(&root, two), below(&first, five)];
        let answers = d.together(batch.map(Change::from).to_vec()).await;
        let places: Vec<_> = answers.iter().map(place).collect();
        assert_eq!(places, [Some((1, 0)), Some((2, 1)), Some((3, 2)), None, Some((4, 1))]);
        assert_eq!(limited(&answers[3]), Some((LimitedBy::TokenChildren, 300)), "until the parent is dead");

        let third = d.submit(below(&root, two)).await;
        assert_eq!(limited(&third).unwrap().0, LimitedBy::TokenChildren, "and from what is stored");
        assert_eq!(place(&d.submit(below(&first, five)).await), Some((5, 2)));
        let sixth = [below(&first, five), below(&root, five)].map(Change::from).to_vec();
        for answer in d.together(sixth).await {
            assert_eq!(limited(&answer).unwrap().0, LimitedBy::TaskTokens);
        }
        d.done(below(&root, TreeLimits::default())).await;
        d.done(d.root()).await;
    })
    .await;
}

#[tokio::test]
async fn t11_a_tasks_exchanges_in_a_minute_are_counted_in_the_commit() {
    on_both(async |d| {
        let root = d.root();
        let limits = TreeLimits { task_rate: 3, ..TreeLimits::default() };
        let child = || Change::from(Issue { limits, ..d.child(&root) });
        d.done(Issue { limits, ..root.clone() }).await;
        d.done(child()).await;
        let answers = d.together(vec![child(), child()]).await;
        assert!(place(&answers[0]).is_some(), "{answers:?}");
        let (by, wait) = limited(&answers[1]).unwrap();
        assert!(by == LimitedBy::TaskRate && (15..=20).contains(&wait), "{wait}");
        d.clock.shift(21);
        d.done(child()).await;
        assert!(limited(&d.submit(child()).await).is_some(), "one came back, not all");
        let other = d.root();
        d.done(Issue { limits, ..other }).await;
        d.clock.shift(61);
        for _ in 0..3 {
            d.done(child()).await;
        }
        assert!(limited(&d.submit(child()).await).is_some());
    })
    .await;
}
