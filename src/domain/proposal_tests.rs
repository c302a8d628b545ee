use serde_json::json;

use super::*;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_900_000_000 + seconds, 0).unwrap()
}

fn principal(sub: &str) -> Principal {
    Principal { iss: "https://idp.example".to_owned(), sub: sub.to_owned() }
}

fn by(sub: &str) -> Answered {
    let decision_id = DecisionId::new(at(0), [2; 10]);
    Answered {
        account: sub.to_owned(),
        principal: Some(principal(sub)),
        reason: None,
        at: at(0),
        decision_id,
    }
}

fn proposal() -> Proposal {
    let proposer = Person {
        account: "ann".to_owned(),
        principal: principal("ann"),
        tenant: Name::system(),
        client_id: "console".parse().unwrap(),
        auth_time: Some(at(-60)),
        facts: json!({"groups": ["ops"]}).as_object().unwrap().clone(),
        killed_by: Vec::new(),
    };
    Proposal {
        id: ProposalId::new(at(0), [1; 10]),
        needs: [Guarded::Policy].into(),
        command: "policy promote".to_owned(),
        content: "{}".to_owned(),
        effect: json!({"policy": "b"}),
        digest: "sha256:d".to_owned(),
        proposer,
        created_at: at(0),
        expires_at: at(10),
        state: ProposalState::Pending,
        decision_id: DecisionId::new(at(0), [3; 10]),
        answered: None,
    }
}

type Way = fn(&mut Proposal, DateTime<Utc>) -> Result<(), Unsettled>;

#[test]
fn only_another_person_confirms_only_what_they_saw_in_time_and_once() {
    let confirm = |sub: &str, digest: &str, now| {
        let mut proposal = proposal();
        let before = proposal.clone();
        let outcome = proposal.carry_out(digest, by(sub), now);
        assert_eq!(outcome.is_err(), proposal == before);
        outcome
    };
    assert_eq!(confirm("bob", "sha256:d", at(9)), Ok(()));
    assert_eq!(confirm("ann", "sha256:d", at(9)), Err(Unsettled::SamePerson));
    assert_eq!(confirm("bob", "sha256:e", at(9)), Err(Unsettled::OtherDigest));
    assert_eq!(confirm("bob", "sha256:d", at(10)), Err(Unsettled::Is(ProposalState::Expired)));
    let nobody = Answered { principal: None, ..by("bob") };
    assert_eq!(proposal().carry_out("sha256:d", nobody, at(9)), Err(Unsettled::SamePerson));
    // The same subject of another issuer is another person.
    let other = Principal { iss: "https://other.example".to_owned(), sub: "ann".to_owned() };
    assert_eq!(proposal().may_be_confirmed(&other, "sha256:d", at(1)), Ok(()));
    let mut once = proposal();
    once.carry_out("sha256:d", by("bob"), at(1)).unwrap();
    let again = once.carry_out("sha256:d", by("eve"), at(2));
    assert_eq!(again, Err(Unsettled::Is(ProposalState::CarriedOut)));
    assert_eq!(once.answered.unwrap().account, "bob");
}

#[test]
fn what_is_settled_stays_so_and_what_the_session_said_is_forgotten() {
    let ways: [Way; 4] = [
        |p, now| p.carry_out("sha256:d", by("bob"), now),
        |p, now| p.reject(by("bob"), now),
        |p, now| p.supersede(by("bob"), now),
        |p, now| p.expire(by("bob"), now),
    ];
    for (first, way) in ways.iter().enumerate() {
        let mut settled = proposal();
        let when = if first == 3 { at(10) } else { at(1) };
        way(&mut settled, when).unwrap();
        assert!(settled.proposer.facts.is_empty() && settled.answered.is_some());
        let before = settled.clone();
        for again in ways {
            assert_eq!(again(&mut settled, when), Err(Unsettled::Is(before.state)));
        }
        assert_eq!(settled, before);
    }
    assert_eq!(proposal().expire(by("bob"), at(9)), Err(Unsettled::Is(ProposalState::Pending)));
    assert_eq!(proposal().reject(by("bob"), at(10)), Err(Unsettled::Is(ProposalState::Expired)));
}

#[test]
fn who_administers_is_guarded_as_soon_as_anything_is() {
    let none = TwoPersons::default();
    assert!(none.is_empty() && !none.guard(Guarded::Administrators));
    let policy: TwoPersons = [Guarded::Policy].into_iter().collect();
    assert!(policy.guard(Guarded::Policy) && policy.guard(Guarded::Administrators));
    let all = [Guarded::Widening, Guarded::Administrators].into();
    assert_eq!(policy.of(&all), [Guarded::Administrators].into());
    let read: TwoPersons = serde_json::from_value(json!(["widening", "exceptions"])).unwrap();
    assert!(read.guard(Guarded::Exceptions) && !read.guard(Guarded::Policy));
    let wrong = serde_json::from_value::<TwoPersons>(json!(["polcy"])).unwrap_err().to_string();
    assert!(wrong.contains("polcy"), "{wrong}");
}
