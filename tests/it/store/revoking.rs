//! L4: no token from the dead, whichever way it died and whichever came first.

use chrono::TimeDelta;
use taskgrant::clock::Clock as _;
use taskgrant::domain::record::{RevocationKey, RevocationKind};
use taskgrant::store::change::{Committed, Hear, Issue, Loss, Spend, SpendKind};
use taskgrant::store::trees::Hanging;

use super::{Deployment, on_both};

/// All that kill; a lockdown does not.
const KINDS: [RevocationKind; 10] = [
    RevocationKind::Token,
    RevocationKind::Task,
    RevocationKind::Session,
    RevocationKind::Principal,
    RevocationKind::Agent,
    RevocationKind::TaskType,
    RevocationKind::Issuer,
    RevocationKind::Tenant,
    RevocationKind::SigningKey,
    RevocationKind::Completion,
];

/// A key of this kind that kills the token.
fn key(issue: &Issue, kind: RevocationKind) -> RevocationKey {
    issue.token.killed_by().into_iter().map(|(key, _)| key).find(|key| key.kind == kind).unwrap()
}

async fn is_alive(d: &Deployment, issue: &Issue) -> bool {
    let token = d.store.token(issue.token.jti).await.unwrap().unwrap();
    d.store.is_alive(&token).await.unwrap()
}

#[tokio::test]
async fn l4_what_is_revoked_has_no_more_children_and_is_dead() {
    for kind in KINDS {
        on_both(async |d| {
            let (root, bystander) = (d.root(), d.root());
            let child = d.child(&root);
            for issue in [&root, &bystander, &child] {
                d.done(issue.clone()).await;
            }
            assert!(is_alive(d, &root).await);
            d.done(d.revoke(vec![key(&root, kind)])).await;
            for parent in [&root, &child] {
                assert!(!is_alive(d, parent).await, "{kind:?}");
                assert_eq!(d.lost(d.child(parent)).await, Loss::Revoked { kind });
            }
            let of_one_tree =
                matches!(kind, RevocationKind::Token | RevocationKind::Task | RevocationKind::Completion);
            assert_eq!(is_alive(d, &bystander).await, of_one_tree, "{kind:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn l4_a_revocation_that_comes_first_refuses_until_a_fresh_beginning() {
    for kind in KINDS {
        on_both(async |d| {
            let root = d.root();
            d.done(d.revoke(vec![key(&root, kind)])).await;
            assert_eq!(d.lost(root.clone()).await, Loss::Revoked { kind });
            assert_eq!(d.store.token(root.token.jti).await.unwrap(), None);
            assert_eq!(d.raw().await.outcomes().await, ["allow", "deny"]);
            // A fresh login and a fresh token are another thing; the margin is over by then.
            d.clock.shift(5);
            let mut fresh = d.root();
            if kind == RevocationKind::SigningKey {
                assert_eq!(d.lost(fresh).await, Loss::Revoked { kind });
                fresh = d.root();
                fresh.token.kid = "key-2".into();
            }
            d.done(fresh).await;
        })
        .await;
    }
}

#[tokio::test]
async fn l4_a_revocation_earlier_in_the_batch_refuses_and_a_later_one_kills() {
    on_both(async |d| {
        let (early, late) = (d.root(), d.root());
        let revoke_early = d.revoke(vec![key(&early, RevocationKind::Task)]);
        let revoke_late = d.revoke(vec![key(&late, RevocationKind::Task)]);
        let after = d.child(&late);
        let changes =
            vec![revoke_early.into(), early.into(), late.clone().into(), revoke_late.into(), after.into()];
        let answers = d.together(changes).await;
        let won: Vec<_> = answers.iter().map(|a| matches!(a, Ok(Committed::Done(_)))).collect();
        assert_eq!(won, [true, false, true, true, false]);
        assert!(!is_alive(d, &late).await);
    })
    .await;
}

#[tokio::test]
async fn l4_a_younger_child_does_not_outlive_the_revocation_of_its_parents_agent() {
    on_both(async |d| {
        let root = d.root();
        d.done(root.clone()).await;
        d.done(d.revoke(vec![key(&root, RevocationKind::Agent)])).await;
        // The child's own `iat` is after the revocation; the parent's is not.
        d.clock.shift(10);
        let kind = RevocationKind::Agent;
        assert_eq!(d.lost(d.child(&root)).await, Loss::Revoked { kind });
    })
    .await;
}

#[tokio::test]
async fn l4_what_grew_from_a_stopped_keys_token_dies_with_it() {
    on_both(async |d| {
        let by = |mut issue: Issue, kid: &str| {
            issue.token.kid = kid.into();
            issue.token.signers = vec!["not to be believed".into()];
            issue
        };
        let root = by(d.root(), "key-1");
        let child = by(d.child(&root), "key-2");
        let (same, next) = (by(d.child(&child), "key-2"), by(d.child(&child), "key-3"));
        d.done(root).await;
        for answer in d.together([&child, &same, &next].map(|issue| issue.clone().into()).into()).await {
            assert!(matches!(answer, Ok(Committed::Done(_))), "{answer:?}");
        }
        let signers = async |issue: &Issue| d.store.token(issue.token.jti).await.unwrap().unwrap().signers;
        assert_eq!(signers(&same).await, ["key-1"]);
        assert_eq!(signers(&next).await, ["key-1", "key-2"]);
        let other = d.root();
        d.done(by(other.clone(), "key-3")).await;
        d.done(d.revoke(vec![RevocationKey::signing_key("key-1")])).await;
        for issue in [&child, &same, &next] {
            assert!(!is_alive(d, issue).await);
            let kind = RevocationKind::SigningKey;
            assert_eq!(d.lost(by(d.child(issue), "key-3")).await, Loss::Revoked { kind });
        }
        assert!(is_alive(d, &other).await);
    })
    .await;
}

#[tokio::test]
async fn a_refreshed_token_of_the_same_login_stays_dead() {
    on_both(async |d| {
        let root = d.root();
        d.done(d.revoke(vec![key(&root, RevocationKind::Principal)])).await;
        d.clock.shift(10);
        let mut refreshed = d.root();
        refreshed.token.session.since = root.token.session.since;
        let kind = RevocationKind::Principal;
        assert_eq!(d.lost(refreshed).await, Loss::Revoked { kind });
    })
    .await;
}

#[tokio::test]
async fn a_revocation_reaches_tokens_from_a_clock_ahead_and_is_idempotent() {
    const ROWS: &str = "SELECT count(*) FROM revocations";
    const NOT_BEFORE: &str = "SELECT not_before FROM revocations";
    const KEEP_UNTIL: &str = "SELECT keep_until FROM revocations";
    on_both(async |d| {
        let mut ahead = d.root();
        ahead.token.iat += TimeDelta::seconds(30);
        d.done(ahead.clone()).await;
        let revoke = d.revoke(vec![key(&ahead, RevocationKind::Agent)]);
        let mut shorter = d.revoke(revoke.keys.clone());
        shorter.keep_until -= TimeDelta::hours(1);
        d.done(revoke.clone()).await;
        assert!(!is_alive(d, &ahead).await);
        let mut raw = d.raw().await;
        let not_before = raw.number(NOT_BEFORE).await;
        assert_eq!(not_before, (ahead.token.iat + TimeDelta::seconds(2)).timestamp_micros());
        d.clock.shift(-60);
        let twice = d.together(vec![shorter.into(), d.revoke(revoke.keys.clone()).into()]).await;
        assert!(twice.iter().all(|answer| matches!(answer, Ok(Committed::Done(_)))));
        assert_eq!((raw.number(ROWS).await, raw.number(NOT_BEFORE).await), (1, not_before));
        // As long as the caller said, and as much longer as what dies was ahead of its clock.
        let ahead = raw.number(KEEP_UNTIL).await - revoke.keep_until.timestamp_micros();
        assert!((29_000_000..=30_000_000).contains(&ahead), "{ahead}");
    })
    .await;
}

#[tokio::test]
async fn l4_a_lockdown_stops_what_comes_and_leaves_what_there_is() {
    for all in [false, true] {
        on_both(async |d| {
            let root = d.root();
            d.done(root.clone()).await;
            let other = d.lockdown(Some("globex"), true);
            d.done(other).await;
            d.done(d.child(&root)).await;
            let whose = (!all).then_some("acme");
            d.done(d.lockdown(whose, true)).await;
            for issue in [d.child(&root), d.root()] {
                assert_eq!(d.lost(issue).await, Loss::LockedDown);
            }
            assert!(is_alive(d, &root).await);
            assert_eq!(d.store.lockdowns().await.unwrap().len(), 2);
            // One that ends and one that begins in the same batch are taken in their order.
            let (off, again) = (d.lockdown(whose, false), d.lockdown(whose, true));
            let changes = vec![off.into(), d.root().into(), again.into(), d.root().into()];
            let answers = d.together(changes).await;
            let won: Vec<_> = answers.iter().map(|a| matches!(a, Ok(Committed::Done(_)))).collect();
            assert_eq!(won, [true, true, true, false]);
            assert_eq!(d.lost(d.root()).await, Loss::LockedDown);
            d.done(d.lockdown(whose, false)).await;
            d.done(d.child(&root)).await;
            assert_eq!(d.store.lockdowns().await.unwrap().len(), 1);
        })
        .await;
    }
}

#[tokio::test]
async fn what_killed_a_token_is_told_from_its_row_and_live_ones_are_found_by_what_they_hang_on() {
    on_both(async |d| {
        let mut root = d.root();
        root.token.chain_agents = vec!["agent_%".parse().unwrap()];
        d.done(root.clone()).await;
        let child = d.child(&root);
        d.done(child.clone()).await;
        let tree = d.store.tokens_of_task(root.token.task_id, 10).await.unwrap();
        assert_eq!(tree.iter().map(|t| t.jti).collect::<Vec<_>>(), [root.token.jti, child.token.jti]);
        assert_eq!(d.store.tokens_of_task(root.token.task_id, 1).await.unwrap().len(), 1);
        let records = d.store.records_of_task(root.token.task_id, 10).await.unwrap();
        assert_eq!(records[&child.token.jti].granted["scope"], "orders:read");
        d.done(d.revoke(vec![RevocationKey::token(child.token.jti)])).await;
        let marks = d.store.marks(&tree).await.unwrap();
        assert!(marks.killer(&tree[0]).is_none());
        let killer = marks.killer(&tree[1]).unwrap();
        assert_eq!((killer.key.kind, killer.reason.as_str()), (RevocationKind::Token, "lost laptop"));
        let now = d.clock.now();
        let found =
            async |hanging: Hanging| d.store.live_tokens(&hanging, None, now, 10).await.unwrap().len();
        let text = |text: &str| Some(text.to_owned());
        let all = Hanging::default;
        for (hanging, count) in [
            (all(), 2),
            (Hanging { tenant: text("acme"), ..all() }, 2),
            (Hanging { tenant: text("acm"), ..all() }, 0),
            (Hanging { iss: text("https://idp.acme.example"), sub: text("alice ü"), ..all() }, 2),
            (Hanging { sub: text("alice"), ..all() }, 0),
            (Hanging { sid: text("s1"), ..all() }, 2),
            (Hanging { token_sha256: text(&"ab".repeat(32)), ..all() }, 2),
            (Hanging { task_type: Some("refund_order".parse().unwrap()), ..all() }, 2),
            // Too often, as its pattern says, and never too seldom.
            (Hanging { agent: text("agent_%"), ..all() }, 2),
            (Hanging { agent: text("agen"), ..all() }, 0),
            (Hanging { agent: text("first"), ..all() }, 1),
        ] {
            assert_eq!(found(hanging.clone()).await, count, "{hanging:?}");
        }
        let first = d.store.live_tokens(&all(), None, now, 1).await.unwrap();
        let rest = d.store.live_tokens(&all(), Some(first[0].jti), now, 10).await.unwrap();
        assert_eq!(rest.len(), 1);
        assert_eq!(d.store.revocations(now, 10).await.unwrap().len(), 1);
    })
    .await;
}

/// An event about alice's logins up to `until`, under an id of its own.
fn event(d: &Deployment, jti: &str, issue: &Issue, until: chrono::DateTime<chrono::Utc>) -> Hear {
    let principal = &issue.token.principal;
    let keep_until = until + TimeDelta::days(7);
    Hear {
        event: Spend { kind: SpendKind::SecurityEvent, key: format!("{}\n{jti}", principal.iss), keep_until },
        revoke: d.revoke(vec![]),
        until: vec![(RevocationKey::principal(&principal.iss, &principal.sub), until)],
    }
}

#[tokio::test]
async fn se_04_an_event_kills_what_began_by_its_own_time_and_is_heard_once() {
    on_both(async |d| {
        let (before, after) = (d.root(), {
            d.clock.shift(60);
            d.root()
        });
        for issue in [&before, &after] {
            d.done(issue.clone()).await;
        }
        let at = before.token.session.since;
        let none = event(d, "1", &before, at - TimeDelta::seconds(1));
        d.done(none.clone()).await;
        assert!(is_alive(d, &before).await, "it began later");
        d.done(event(d, "2", &before, at)).await;
        assert!(!is_alive(d, &before).await && is_alive(d, &after).await);
        assert_eq!(
            d.lost(d.child(&before)).await,
            Loss::Revoked { kind: RevocationKind::Principal },
            "the lock's own look agrees"
        );
        d.done(d.child(&after)).await;
        // An older event takes nothing back, and one that was heard is not acted upon again.
        d.done(event(d, "3", &before, at - TimeDelta::days(1))).await;
        assert!(!is_alive(d, &before).await);
        let again = Hear { event: none.event, ..event(d, "", &after, after.token.session.since) };
        assert_eq!(d.lost(again).await, Loss::AlreadySpent { kind: SpendKind::SecurityEvent });
        assert!(is_alive(d, &after).await);
        // A time to come is cut to the present, like any revocation.
        d.done(event(d, "4", &after, d.clock.now() + TimeDelta::hours(1))).await;
        assert!(!is_alive(d, &after).await);
        d.clock.shift(10);
        d.done(d.root()).await;
    })
    .await;
}

#[tokio::test]
async fn rv_02_one_row_kills_ten_descendants_and_a_thousand() {
    const ROWS: &str = "SELECT count(*) FROM revocations";
    on_both(async |d| {
        for (turn, count) in [10, 1000].into_iter().enumerate() {
            let root = d.root();
            d.done(root.clone()).await;
            let children: Vec<Issue> = (0..count).map(|_| d.child(&root)).collect();
            let issued = d.together(children.iter().cloned().map(Into::into).collect()).await;
            assert!(issued.iter().all(|answer| matches!(answer, Ok(Committed::Done(_)))));
            let size = d.store.head().await.unwrap().frontier.size();
            d.done(d.revoke(vec![RevocationKey::token(root.token.jti)])).await;
            let written = d.store.head().await.unwrap().frontier.size() - size;
            assert_eq!((d.raw().await.number(ROWS).await, written), (i64::try_from(turn).unwrap() + 1, 1));
            let tree = d.store.tokens_of_task(root.token.task_id, 10_000).await.unwrap();
            let marks = d.store.marks(&tree).await.unwrap();
            assert_eq!(tree.len(), count + 1);
            assert!(tree.iter().all(|token| marks.killer(token).is_some()));
        }
    })
    .await;
}
