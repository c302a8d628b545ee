use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::domain::ids::DecisionId;
use crate::domain::principal::Principal;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn claims() -> TokenClaims {
    let now = at(0).timestamp();
    let claims = json!({
        "iss": "https://tg", "sub": "alice", "sub_id": {"format": "iss_sub", "iss": "https://idp", "sub": "alice"},
        "aud": "https://orders", "exp": now + 60, "iat": now, "nbf": now, "jti": Jti::new(at(0), [1; 10]),
        "client_id": "agent", "scope": "read", "act": {"sub": "agent", "iss": "https://tg"}, "tenant": "acme",
        "task_id": task(1), "task_type": "refund@1", "task_exp": now + 3600, "depth_left": 1,
    });
    TokenClaims::read(claims.as_object().unwrap().clone()).unwrap()
}

fn task(number: u8) -> TaskId {
    TaskId::new(at(0), [number; 10])
}

fn envelope(exchanges: u32, minutes: u32) -> OpenEnvelope {
    OpenEnvelope {
        terms: EnvelopeTerms { exchanges, minutes },
        since: at(0),
        task_id: task(1),
        task_deadline: at(3600),
        reasons: ["asks".to_owned(), "private".to_owned()].into(),
        told: vec!["asks".to_owned()],
        most: Some(Box::new(claims())),
        used: 0,
    }
}

fn vote(who: &str, second: i64, given: Option<(u32, u32)>) -> Vote {
    Vote {
        approver: Principal { iss: "https://idp".into(), sub: who.into() },
        named_as: "group:leads".into(),
        approves: true,
        narrowing: crate::domain::approval::Narrowing::default(),
        envelope: given.map(|(exchanges, minutes)| EnvelopeTerms { exchanges, minutes }),
        reason: "seen".into(),
        at: at(second),
        decision_id: DecisionId::new(at(second), [3; 10]),
    }
}

/// Redeemed, with this envelope.
fn redeemed(open: OpenEnvelope) -> Approval {
    let mut approval = Approval {
        id: ApprovalId::new(at(0), [1; 10]),
        tenant: "acme".parse().unwrap(),
        client_id: "agent".parse().unwrap(),
        code_sha256: "00".into(),
        likeness: "11".into(),
        state: ApprovalState::Redeemed,
        quorum: 1,
        created_at: at(-100),
        expires_at: at(60),
        decision_id: DecisionId::new(at(0), [2; 10]),
        request: Value::Null,
        shown: Value::Null,
        votes: vec![vote("dana", 0, Some((open.terms.exchanges, open.terms.minutes)))],
        jti: Some(Jti::new(at(0), [1; 10])),
        envelope: None,
    };
    approval.open(open);
    approval
}

fn spec(envelope: Option<(u32, u32)>) -> ApprovalSpec {
    ApprovalSpec {
        approvers: vec!["group:leads".to_owned().try_into().unwrap()],
        envelope: envelope.map(|(exchanges, minutes)| EnvelopeTerms { exchanges, minutes }),
        ..ApprovalSpec::default()
    }
}

#[test]
fn with_a_quorum_the_least_that_each_gives_is_given_and_nothing_if_one_gives_nothing() {
    let mut approval = redeemed(envelope(1, 1));
    let mut given = |votes| {
        approval.votes = votes;
        approval.envelope_given().map(|terms| (terms.exchanges, terms.minutes))
    };
    assert_eq!(given(vec![vote("dana", 0, Some((5, 10))), vote("erin", 1, Some((3, 20)))]), Some((3, 10)));
    assert_eq!(given(vec![vote("dana", 0, Some((5, 10))), vote("erin", 1, None)]), None);
    assert_eq!(given(vec![]), None);
}

#[test]
fn a_task_type_that_is_narrowed_narrows_what_was_given_and_nobody_is_missing() {
    let approval = redeemed(envelope(5, 10));
    let left = |spec: &ApprovalSpec| approval.envelope_left(spec, at(1)).unwrap();
    assert_eq!(left(&spec(Some((9, 90)))), Ok(EnvelopeLeft { of: 5, until: at(600) }));
    assert_eq!(left(&spec(Some((2, 3)))), Ok(EnvelopeLeft { of: 2, until: at(180) }));
    assert_eq!(left(&spec(None)), Err(EnvelopeEnd::NotAllowed));
    let others = ApprovalSpec { approvers: Vec::new(), ..spec(Some((9, 90))) };
    assert_eq!(left(&others), Err(EnvelopeEnd::OtherApprovers));
    assert_eq!(left(&ApprovalSpec { quorum: 2, ..spec(Some((9, 90))) }), Err(EnvelopeEnd::OtherApprovers));
    let long = redeemed(envelope(5, 1000));
    let left = long.envelope_left(&spec(Some((9, 1000))), at(1)).unwrap();
    assert_eq!(left.unwrap().until, at(3600), "it ends with its task");
    assert_eq!(long.expires_at, at(3600), "and is kept until then");
}

#[test]
fn it_is_taken_back_once_and_only_while_something_is_left_of_it() {
    let mut open = redeemed(envelope(2, 10));
    open.cancel(at(1)).unwrap();
    assert_eq!(open.envelope_left(&spec(Some((2, 10))), at(1)), Some(Err(EnvelopeEnd::Cancelled)));
    assert!(open.cancel(at(1)).is_err() && open.state == ApprovalState::Redeemed);
    assert!(redeemed(envelope(2, 10)).cancel(at(600)).is_err(), "its time is over");
}

#[test]
fn ap_05_it_is_for_the_same_actors_task_receiver_and_reasons() {
    let (open, asked) = (envelope(1, 1), claims());
    let is_for = |asked: &TokenClaims| open.is_for(asked, ["asks", "private"].into_iter(), true);
    assert!(is_for(&asked));
    assert!(open.is_for(&asked, std::iter::empty(), false));
    assert!(!open.is_for(&asked, ["asks", "new"].into_iter(), true), "a new reason");
    let mine = |instance: &str| json!({"sub": "agent", "iss": "https://tg", "instance": instance});
    let handed = serde_json::from_value(json!({"sub": "worker", "iss": "https://tg"})).unwrap();
    for (what, other) in [
        ("task", TokenClaims { task_id: task(2), ..asked.clone() }),
        ("tenant", TokenClaims { tenant: "globex".parse().unwrap(), ..asked.clone() }),
        ("agent", TokenClaims { client_id: "worker".parse().unwrap(), ..asked.clone() }),
        ("instance", TokenClaims { act: mine("pod-1"), ..asked.clone() }),
        ("hand-over", TokenClaims { may_act: Some(handed), ..asked.clone() }),
        ("kind", TokenClaims { resources: Some(Vec::new()), ..asked.clone() }),
        ("lifetime", TokenClaims { exp: asked.exp + 1, ..asked.clone() }),
    ] {
        assert!(!is_for(&other), "another {what}");
    }
    // Lifetimes are lengths; one that was left to a default is cut later on.
    let later = TokenClaims { iat: asked.iat + 500, exp: asked.exp + 500, ..asked.clone() };
    assert!(is_for(&later));
    assert!(open.is_for(&TokenClaims { exp: asked.exp + 1, ..asked.clone() }, ["asks"].into_iter(), false));
    let closed = OpenEnvelope { most: None, ..open.clone() };
    assert!(!closed.is_for(&asked, std::iter::empty(), false));
}

proptest! {
    /// However uses, other configurations and time follow one another: never more than what was given, nor later, and each has
    /// its own number.
    #[test]
    fn ap_05_it_is_used_at_most_so_often_and_so_long(
        (exchanges, minutes) in (1u32..6, 1u32..4),
        steps in prop::collection::vec((1u32..9, 1u32..5, 0i64..40), 0..30),
    ) {
        let mut approval = redeemed(envelope(exchanges, minutes));
        let (mut second, mut numbers) = (0, Vec::new());
        for (of, for_minutes, wait) in steps {
            second += wait;
            let Some(Ok(left)) = approval.envelope_left(&spec(Some((of, for_minutes))), at(second)) else { continue };
            prop_assert!(left.of <= exchanges.min(of));
            let held = EnvelopeUse { approval: approval.id, token: approval.jti.unwrap(), left };
            let number = approval.use_envelope(&held, at(second)).unwrap();
            prop_assert!(number <= of && second < i64::from(minutes.min(for_minutes)) * 60);
            numbers.push(number);
        }
        prop_assert!(numbers.len() <= usize::try_from(exchanges).unwrap());
        let expected: Vec<u32> = (1..).take(numbers.len()).collect();
        prop_assert_eq!(numbers, expected);
    }

    /// Many that were decided before any of them was committed.
    #[test]
    fn ap_05_what_was_decided_at_once_is_counted_one_by_one(exchanges in 1u32..6, racing in 0usize..20) {
        let mut approval = redeemed(envelope(exchanges, 10));
        let left = EnvelopeLeft { of: exchanges, until: at(600) };
        let held = EnvelopeUse { approval: approval.id, token: approval.jti.unwrap(), left };
        let won = (0..racing).filter(|_| approval.use_envelope(&held, at(1)).is_ok()).count();
        prop_assert_eq!(won, racing.min(usize::try_from(exchanges).unwrap()));
        prop_assert_eq!(approval.may_use(&held, at(600)).is_ok(), false);
    }
}
