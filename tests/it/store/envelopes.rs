//! Envelopes: counted under the lock, whoever commits, and kept as long as they are good.

use std::sync::Arc;

use chrono::TimeDelta;
use serde_json::{Value, json};
use taskgrant::clock::Clock as _;
use taskgrant::domain::approval::{Narrowing, Vote};
use taskgrant::domain::claims::TokenClaims;
use taskgrant::domain::decision::{Kind, Outcome};
use taskgrant::domain::envelope::{EnvelopeLeft, EnvelopeTerms, EnvelopeUse, OpenEnvelope};
use taskgrant::domain::principal::Principal;
use taskgrant::domain::record::RevocationKey;
use taskgrant::store::change::{Committed, Defer, Issue, Settle, Settlement};
use taskgrant::store::pruning::Before;
use taskgrant::store::writer::Writer;

use super::{Deployment, on_both};

const ERIN: &str = "erin";

/// The claims of a token, as far as an envelope keeps them.
fn claims(issue: &Issue) -> TokenClaims {
    let token = &issue.token;
    let claims = json!({
        "iss": "https://tg", "sub": "alice", "sub_id": {"format": "iss_sub", "iss": "https://idp", "sub": "alice"},
        "aud": "https://orders", "exp": token.exp.timestamp(), "iat": token.iat.timestamp(),
        "nbf": token.iat.timestamp(), "jti": token.jti, "client_id": token.agent, "scope": "read",
        "act": {"sub": "agent", "iss": "https://tg"}, "tenant": token.tenant, "task_id": token.task_id,
        "task_type": "refund_order@3", "task_exp": token.exp.timestamp() + 3600, "depth_left": 1,
    });
    TokenClaims::read(claims.as_object().unwrap().clone()).unwrap()
}

/// A root, and an envelope for `exchanges` below it that erin gave.
async fn opened(d: &Deployment, exchanges: u32) -> (Issue, EnvelopeUse) {
    let root = d.root();
    d.done(root.clone()).await;
    let (child, now) = (d.child(&root), d.clock.now());
    let approval = d.approval(&child);
    let id = approval.id;
    d.done(Defer { would_be: child, approval }).await;
    let decision = d.decision(Kind::Approval, Outcome::Allow);
    let terms = EnvelopeTerms { exchanges, minutes: 10 };
    let vote = Vote {
        approver: Principal { iss: "https://idp.acme.example".into(), sub: ERIN.into() },
        named_as: "group:leads".into(),
        approves: true,
        narrowing: Narrowing::default(),
        envelope: Some(terms),
        reason: "seen".into(),
        at: now,
        decision_id: decision.id,
    };
    let how = Settlement::Vote(vote);
    d.done(Settle { approval: id, how, killed_by: Vec::new(), generation: None, decision }).await;
    let fetched = d.child(&root);
    let token = fetched.token.jti;
    let most = Some(Box::new(claims(&fetched)));
    let (task_id, task_deadline) = (root.token.task_id, root.task.as_ref().unwrap().deadline);
    let (reasons, told) = (["asks".to_owned()].into(), vec!["asks".to_owned()]);
    let envelope = OpenEnvelope { terms, since: now, task_id, task_deadline, reasons, told, most, used: 0 };
    d.done(Issue { redeems: Some(id), opens: Some(Box::new(envelope)), ..fetched }).await;
    let left = EnvelopeLeft { of: exchanges, until: terms.until(now) };
    (root, EnvelopeUse { approval: id, token, left })
}

fn using(d: &Deployment, root: &Issue, held: EnvelopeUse) -> Issue {
    Issue { uses: Some(held), ..d.child(root) }
}

async fn is_superseded(d: &Deployment, issue: Issue) -> bool {
    let size = d.store.head().await.unwrap().frontier.size();
    let committed = d.submit(issue.clone()).await.unwrap();
    let untouched = d.store.head().await.unwrap().frontier.size() == size
        && d.store.token(issue.token.jti).await.unwrap().is_none();
    matches!(committed, Committed::Superseded { .. }) && untouched
}

#[tokio::test]
async fn ap_05_two_writers_at_once_let_no_more_through_than_it_is_for() {
    on_both(async |d| {
        let (root, held) = opened(d, 7).await;
        let (other, task) = Writer::spawn(&d.store, Arc::new(d.clock.clone()), TimeDelta::days(7));
        let submit = |at: usize| {
            let writer = if at.is_multiple_of(2) { d.writer.clone() } else { other.clone() };
            let issue = using(d, &root, held);
            tokio::spawn(async move { (issue.decision.id, writer.submit(issue).await.unwrap()) })
        };
        let submitted: Vec<_> = (0..40).map(submit).collect();
        let mut numbers = Vec::new();
        for answer in submitted {
            let (id, committed) = answer.await.unwrap();
            match committed {
                Committed::Done(_) => {
                    let stored = d.store.decision(id).await.unwrap().unwrap();
                    let record: Value = serde_json::from_slice(&stored.record.unwrap()).unwrap();
                    assert_eq!(record["envelope"]["of"], 7);
                    numbers.push(record["envelope"]["use"].as_u64().unwrap());
                }
                Committed::Superseded { .. } => {}
                Committed::Lost(loss, _) => panic!("lost: {loss}"),
            }
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=7).collect::<Vec<_>>());
        drop(other);
        task.await.unwrap();
        let approval = d.store.approval(held.approval).await.unwrap().unwrap();
        assert_eq!(approval.envelope.unwrap().used, 7);
        let client = &root.token.agent;
        assert!(
            d.store.envelopes(root.token.task_id, client, 9).await.unwrap().is_empty(),
            "nothing is left"
        );
    })
    .await;
}

#[tokio::test]
async fn l4_a_use_is_not_committed_after_what_ends_the_envelope() {
    Box::pin(on_both(async |d| {
        let (root, held) = opened(d, 7).await;
        d.done(using(d, &root, held)).await;
        let open = d.store.envelopes(root.token.task_id, &root.token.agent, 9).await.unwrap();
        assert!(open.len() == 1 && d.store.is_envelope_alive(&open[0]).await.unwrap());
        // Another token than the one that was approved.
        assert!(is_superseded(d, using(d, &root, EnvelopeUse { token: root.token.jti, ..held })).await);
        // Fewer by the configuration that decided, or for less long.
        let left = EnvelopeLeft { of: 1, ..held.left };
        assert!(is_superseded(d, using(d, &root, EnvelopeUse { left, ..held })).await);
        let left = EnvelopeLeft { until: d.clock.now(), ..held.left };
        assert!(is_superseded(d, using(d, &root, EnvelopeUse { left, ..held })).await);
        // In one batch with what ends it.
        let erin = RevocationKey::principal("https://idp.acme.example", ERIN);
        let together = vec![d.revoke(vec![erin]).into(), using(d, &root, held).into()];
        let answers = d.together(together).await;
        assert!(matches!(answers[1], Ok(Committed::Superseded { .. })), "{answers:?}");
        assert!(!d.store.is_envelope_alive(&open[0]).await.unwrap());
        d.clock.shift(3);

        let (root, held) = opened(d, 7).await;
        d.done(d.revoke(vec![RevocationKey::token(held.token)])).await;
        assert!(is_superseded(d, using(d, &root, held)).await);

        let (root, held) = opened(d, 7).await;
        let decision = d.decision(Kind::Approval, Outcome::Allow);
        let how = Settlement::Cancel;
        d.done(Settle { approval: held.approval, how, killed_by: vec![], generation: None, decision }).await;
        assert!(is_superseded(d, using(d, &root, held)).await);
        // What would lose anyway loses, and says why.
        d.done(d.revoke(vec![RevocationKey::task(root.token.task_id)])).await;
        d.lost(using(d, &root, held)).await;
    }))
    .await;
}

#[tokio::test]
async fn an_approval_stays_as_long_as_its_envelope_is_good() {
    on_both(async |d| {
        let (_, held) = opened(d, 7).await;
        let prune = async |minutes| {
            let at = d.clock.now() + TimeDelta::minutes(minutes);
            let before = Before { trees: at, revocations: at, logins: at, inputs: at };
            d.writer.prune(before).await.unwrap().approvals
        };
        assert_eq!(prune(9).await, 0, "the request itself was over after a minute");
        assert!(d.store.approval(held.approval).await.unwrap().is_some());
        assert_eq!(prune(11).await, 1);
    })
    .await;
}
