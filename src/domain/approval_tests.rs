use chrono::TimeDelta;

use super::*;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn pending(quorum: u32) -> Approval {
    Approval {
        id: ApprovalId::new(at(0), [1; 10]),
        tenant: "acme".parse().unwrap(),
        client_id: "agent".parse().unwrap(),
        code_sha256: "00".into(),
        likeness: "11".into(),
        state: ApprovalState::Pending,
        quorum,
        created_at: at(0),
        expires_at: at(600),
        decision_id: DecisionId::new(at(0), [2; 10]),
        request: Value::Bool(true),
        shown: Value::Null,
        votes: Vec::new(),
        jti: None,
        envelope: None,
    }
}

fn vote(who: &str, approves: bool, scopes: Option<&str>, lifetime: Option<u32>) -> Vote {
    Vote {
        approver: Principal { iss: "https://idp".into(), sub: who.into() },
        named_as: "group:leads".into(),
        approves,
        narrowing: Narrowing { scopes: scopes.map(|s| s.parse().unwrap()), lifetime },
        envelope: None,
        reason: "seen".into(),
        at: at(1),
        decision_id: DecisionId::new(at(1), [3; 10]),
    }
}

#[test]
fn a_quorum_approves_one_person_counts_once_and_one_denial_denies() {
    let mut one = pending(2);
    one.cast(vote("dana", true, None, None), at(1)).unwrap();
    assert_eq!(one.state, ApprovalState::Pending);
    assert_eq!(one.cast(vote("dana", true, None, None), at(2)), Err(Unmoved::Voted));
    one.cast(vote("erin", true, None, None), at(2)).unwrap();
    assert_eq!(one.state, ApprovalState::Approved);
    let late = one.cast(vote("frank", false, None, None), at(3));
    assert_eq!(late, Err(Unmoved::Is(ApprovalState::Approved)));

    let mut denied = pending(2);
    denied.cast(vote("dana", true, None, None), at(1)).unwrap();
    denied.cast(vote("erin", false, None, None), at(1)).unwrap();
    assert_eq!(denied.state, ApprovalState::Denied);
}

#[test]
fn ap_02_what_approvers_take_away_adds_up() {
    let mut both = pending(2);
    both.cast(vote("dana", true, Some("a b"), Some(60)), at(1)).unwrap();
    both.cast(vote("erin", true, Some("b c"), None), at(1)).unwrap();
    let narrowing = both.narrowing();
    assert_eq!((narrowing.scopes, narrowing.lifetime), (Some("b".parse().unwrap()), Some(60)));
    assert_eq!(pending(1).narrowing(), Narrowing::default());
}

#[test]
fn ap_01_a_token_is_fetched_once_and_only_in_time() {
    let jti = Jti::new(at(0), [4; 10]);
    let mut approval = pending(1);
    assert_eq!(approval.redeem(jti, at(1)), Err(Unmoved::Is(ApprovalState::Pending)));
    approval.cast(vote("dana", true, None, None), at(1)).unwrap();
    assert_eq!(approval.clone().redeem(jti, at(600)), Err(Unmoved::Is(ApprovalState::Expired)));
    approval.redeem(jti, at(599)).unwrap();
    assert_eq!(approval.request, Value::Null, "what the session told is not kept");
    assert_eq!(approval.redeem(jti, at(599)), Err(Unmoved::Is(ApprovalState::Redeemed)));
    assert_eq!(approval.cancel(at(599)), Err(Unmoved::Is(ApprovalState::Redeemed)));
}

#[test]
fn what_nobody_decides_expires_and_a_vote_comes_too_late() {
    let mut approval = pending(1);
    assert_eq!(approval.expire(at(599)), Err(Unmoved::Is(ApprovalState::Pending)));
    let late = approval.clone().cast(vote("dana", true, None, None), at(600));
    assert_eq!(late, Err(Unmoved::Is(ApprovalState::Expired)));
    approval.expire(at(600)).unwrap();
    assert_eq!(approval.state, ApprovalState::Expired);
    assert!(approval.cancel(at(0) + TimeDelta::seconds(601)).is_err());
}

#[test]
fn what_is_taken_back_is_not_fetched() {
    let mut approval = pending(1);
    approval.cast(vote("dana", true, None, None), at(1)).unwrap();
    approval.cancel(at(2)).unwrap();
    let fetched = approval.redeem(Jti::new(at(0), [4; 10]), at(3));
    assert_eq!(fetched, Err(Unmoved::Is(ApprovalState::Cancelled)));
}

#[test]
fn every_state_is_read_back_from_its_word() {
    for state in ApprovalState::ALL {
        assert_eq!(state.as_str().parse(), Ok(state));
    }
}
