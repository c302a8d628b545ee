//! Changes that wait for a second person: confirmed with the change in one commit, once, or neither.

use chrono::{DateTime, TimeDelta, Timelike as _, Utc};
use serde_json::{Value, json};
use taskgrant::clock::Clock as _;
use taskgrant::domain::decision::{Decision, Kind, Outcome};
use taskgrant::domain::ids::{Name, ProposalId};
use taskgrant::domain::principal::Principal;
use taskgrant::domain::proposal::{Answered, Guarded, Person, Proposal, ProposalState, Unsettled};
use taskgrant::domain::record::{Bears, RevocationKey, RevocationKind};
use taskgrant::store::change::{CarriesOut, Change, Committed, Configure, Loss, Propose, Proposing};
use taskgrant::store::pruning::Before;

use super::{Deployment, on_both, unique};

const DIGEST: &str = "sha256:d1";

/// The database keeps microseconds.
fn now(d: &Deployment) -> DateTime<Utc> {
    let now = d.clock.now();
    now.with_nanosecond(now.nanosecond() / 1000 * 1000).unwrap()
}

fn principal(sub: &str) -> Principal {
    Principal { iss: "https://idp.acme.example".into(), sub: sub.into() }
}

fn killed_by(d: &Deployment, sub: &str) -> Vec<(RevocationKey, Bears)> {
    let Principal { iss, sub } = principal(sub);
    vec![(RevocationKey::principal(&iss, &sub), Bears::IfSince(now(d)))]
}

async fn proposed(d: &Deployment) -> Proposal {
    let at = now(d);
    let decision = d.decision(Kind::Admin, Outcome::RequireApproval);
    let proposal = Proposal {
        id: ProposalId::new(at, unique()),
        needs: [Guarded::Policy, Guarded::Widening].into(),
        command: "apply".into(),
        content: json!({"command": "apply", "text": "\u{0}\u{1b}é"}).to_string(),
        effect: json!({"plan": {"steps": []}, "amount": 500.1}),
        digest: DIGEST.into(),
        proposer: Person {
            account: "ann".into(),
            principal: principal("ann"),
            tenant: Name::system(),
            client_id: "console".parse().unwrap(),
            auth_time: Some(at),
            facts: json!({"groups": ["ops"]}).as_object().unwrap().clone(),
            killed_by: killed_by(d, "ann"),
        },
        created_at: at,
        expires_at: at + TimeDelta::hours(24),
        state: ProposalState::Pending,
        decision_id: decision.id,
        answered: None,
    };
    let how = Proposing::Make(Box::new(proposal.clone()));
    d.done(Propose { proposal: proposal.id, how, decision }).await;
    proposal
}

fn answered(d: &Deployment, sub: &str, decision: &Decision) -> Answered {
    let principal = Some(principal(sub));
    Answered { account: sub.into(), principal, reason: None, at: now(d), decision_id: decision.id }
}

/// A setting that `sub` has written by confirming `proposal`.
fn confirmed(d: &Deployment, proposal: &Proposal, (sub, digest): (&str, &str)) -> Configure {
    let decision = d.decision(Kind::Admin, Outcome::Allow);
    let carries = CarriesOut {
        proposal: proposal.id,
        digest: digest.into(),
        by: answered(d, sub, &decision),
        killed_by: killed_by(d, sub),
    };
    let settings = vec![("said".to_owned(), sub.to_owned())];
    Configure { settings, carries_out: Some(Box::new(carries)), ..Configure::only(decision) }
}

async fn said(d: &Deployment) -> Option<String> {
    d.store.setting("said").await.unwrap()
}

#[tokio::test]
async fn what_is_proposed_is_kept_as_it_is_and_found_while_it_waits() {
    on_both(async |d| {
        let proposal = proposed(d).await;
        assert_eq!(d.store.proposal(proposal.id).await.unwrap(), Some(proposal.clone()));
        let listed = Proposal { content: String::new(), effect: Value::Null, ..proposal.clone() };
        assert_eq!(d.store.proposals_pending(9).await.unwrap(), [listed]);
        let decision = d.decision(Kind::Admin, Outcome::Deny);
        let how = Proposing::Reject(answered(d, "bob", &decision));
        d.done(Propose { proposal: proposal.id, how, decision }).await;
        assert_eq!(d.store.proposals_pending(9).await.unwrap(), []);
        let kept = d.store.proposals(9).await.unwrap().remove(0);
        assert_eq!((kept.state, kept.answered.unwrap().account.as_str()), (ProposalState::Rejected, "bob"));
        assert!(kept.proposer.facts.is_empty(), "what the session said is forgotten");
        let unknown = Proposal { id: ProposalId::new(now(d), unique()), ..proposal };
        let loss = d.lost(confirmed(d, &unknown, ("bob", DIGEST))).await;
        assert_eq!(loss, Loss::Unsettled(Unsettled::Unknown));
    })
    .await;
}

#[tokio::test]
async fn a_change_is_written_with_its_confirmation_once_or_not_at_all() {
    on_both(async |d| {
        let proposal = proposed(d).await;
        for (who, why) in
            [(("ann", DIGEST), Unsettled::SamePerson), (("bob", "sha256:d2"), Unsettled::OtherDigest)]
        {
            assert_eq!(d.lost(confirmed(d, &proposal, who)).await, Loss::Unsettled(why));
            assert_eq!(said(d).await, None, "{who:?}");
        }
        // Two in one batch, and one after it.
        let both = ["bob", "eve"].map(|sub| Change::from(confirmed(d, &proposal, (sub, DIGEST))));
        let answers = d.together(both.into()).await;
        assert!(matches!(answers[0], Ok(Committed::Done(_))), "{answers:?}");
        let settled = Loss::Unsettled(Unsettled::Is(ProposalState::CarriedOut));
        assert!(matches!(answers[1], Ok(Committed::Lost(loss, _)) if loss == settled), "{answers:?}");
        assert_eq!(d.lost(confirmed(d, &proposal, ("eve", DIGEST))).await, settled);
        assert_eq!(said(d).await.as_deref(), Some("bob"));
        let kept = d.store.proposal(proposal.id).await.unwrap().unwrap();
        assert_eq!((kept.state, kept.answered.unwrap().account.as_str()), (ProposalState::CarriedOut, "bob"));
        // What nobody says is said once, and not of what is settled.
        let decision = d.decision(Kind::Admin, Outcome::Deny);
        let how = Proposing::Supersede(answered(d, "the server", &decision));
        let late = d.submit(Propose { proposal: proposal.id, how, decision }).await.unwrap();
        assert!(matches!(late, Committed::Superseded { .. }), "{late:?}");
    })
    .await;
}

#[tokio::test]
async fn l4_whose_word_was_revoked_before_the_commit_changes_nothing() {
    on_both(async |d| {
        let (first, second) = (proposed(d).await, proposed(d).await);
        let Principal { iss, sub } = principal("bob");
        // In the same batch, and first.
        let batch = vec![
            Change::from(d.revoke(vec![RevocationKey::principal(&iss, &sub)])),
            confirmed(d, &first, ("bob", DIGEST)).into(),
        ];
        let answers = d.together(batch).await;
        let revoked = Loss::Revoked { kind: RevocationKind::Principal };
        assert!(matches!(answers[1], Ok(Committed::Lost(loss, _)) if loss == revoked), "{answers:?}");
        d.done(confirmed(d, &first, ("eve", DIGEST))).await;
        let Principal { iss, sub } = principal("ann");
        d.done(d.revoke(vec![RevocationKey::principal(&iss, &sub)])).await;
        assert!(!d.store.is_proposer_alive(&second).await.unwrap());
        let loss = d.lost(confirmed(d, &second, ("eve", DIGEST))).await;
        assert_eq!(loss, Loss::Unsettled(Unsettled::ProposerRevoked));
        // Nor does it begin to wait.
        let decision = d.decision(Kind::Admin, Outcome::RequireApproval);
        let id = ProposalId::new(now(d), unique());
        let again = Proposal { id, decision_id: decision.id, ..second };
        let how = Proposing::Make(Box::new(again));
        assert_eq!(d.lost(Propose { proposal: id, how, decision }).await, revoked);
        assert_eq!(d.store.proposal(id).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn what_is_settled_goes_after_its_time_and_what_waits_stays() {
    on_both(async |d| {
        let (settled, waits) = (proposed(d).await, proposed(d).await);
        d.done(confirmed(d, &settled, ("bob", DIGEST))).await;
        let before = |trees| Before { trees, revocations: trees, logins: trees, inputs: trees };
        let prune = async |trees| d.writer.prune(before(trees)).await.unwrap().proposals;
        assert!(!d.store.due(&before(settled.expires_at)).await.unwrap().any);
        assert_eq!(prune(settled.expires_at).await, 0);
        let after = waits.expires_at + TimeDelta::seconds(1);
        assert!(d.store.due(&before(after)).await.unwrap().any);
        assert_eq!(prune(after).await, 1);
        let left = d.store.proposals(9).await.unwrap();
        assert_eq!(left.iter().map(|left| left.id).collect::<Vec<_>>(), [waits.id]);
    })
    .await;
}
