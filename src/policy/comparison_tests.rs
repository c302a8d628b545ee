use super::*;
use crate::policy::candidate::{Canary, Judged, Policy};
use crate::policy::engine::PolicyEngine;
use crate::policy::suite::patient;
use crate::policy::testing::{good_input, rules};

fn engine(body: &str) -> PolicyEngine {
    PolicyEngine::compile_with(rules(body), patient()).unwrap()
}

const UNJUDGED: Unjudged = Unjudged { lifetime: 300, asks: false };

fn compared_of(active: &str, candidate: &str, percent: u8, unjudged: Unjudged) -> Compared {
    let candidate = engine(candidate);
    let version = candidate.version().to_owned();
    let canary = Canary { percent, ..Canary::default() };
    let candidate = Candidate::new(version, Ok(candidate), DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH);
    let policy = Policy::new(engine(active), Some(candidate.with(canary)));
    let Judged { bites, shadow, .. } = policy.judge(&good_input());
    shadow.unwrap().compare(&bites, good_input(), unjudged)
}

fn compared(active: &str, candidate: &str) -> Compared {
    compared_of(active, candidate, 0, UNJUDGED)
}

const ALLOW: &str = "allow if true";

fn reason(set: &str, code: &str) -> String {
    format!("{ALLOW}\n{set} contains {{\"code\": \"{code}\", \"message\": \"m\"}}")
}

fn whose(n: usize) -> Whose {
    let id = DecisionId::new(DateTime::UNIX_EPOCH, [u8::try_from(n % 256).unwrap(); 10]);
    Whose { id, at: DateTime::UNIX_EPOCH, task_type: format!("task_{n}"), agent: "support-agent".to_owned() }
}

#[test]
fn each_kind_of_disagreement_is_told_in_the_words_of_replay() {
    let (deny, ask) = (reason("deny", "d"), reason("require_approval", "r"));
    let shorter = format!("{ALLOW}\nlimits contains {{\"lifetime\": 60}}");
    let idle = format!("{ALLOW}\nlimits contains {{\"lifetime\": 600}}");
    let faulty = format!("{ALLOW}\nlimits contains {{\"lifetime\": -1}}");
    for (active, candidate, change, codes) in [
        (ALLOW, deny.as_str(), Some(Change::AllowToDeny), vec!["d"]),
        (&deny, ALLOW, Some(Change::DenyToAllow), vec!["d"]),
        (ALLOW, &ask, Some(Change::AllowToApproval), vec!["r"]),
        (&ask, &deny, Some(Change::ApprovalToDeny), vec!["d"]),
        (ALLOW, &shorter, Some(Change::Narrower), vec![]),
        (&shorter, ALLOW, Some(Change::Wider), vec![]),
        (ALLOW, &faulty, Some(Change::Fault), vec!["policy_unavailable"]),
        (ALLOW, &idle, None, vec![]),
        (&deny, &reason("deny", "e"), Some(Change::Reasons), vec!["e"]),
    ] {
        let told = compared(active, candidate);
        assert_eq!(
            (told.change, told.codes.iter().map(String::as_str).collect()),
            (change, codes),
            "{candidate}"
        );
    }
}

#[test]
fn the_direction_is_the_same_whichever_bites() {
    let (shadow, canary) =
        (compared(ALLOW, &reason("deny", "d")), compared_of(ALLOW, &reason("deny", "d"), 100, UNJUDGED));
    assert_eq!((shadow.change, canary.change), (Some(Change::AllowToDeny), Some(Change::AllowToDeny)));
    let told = shadow.record().unwrap();
    assert!(!told.canary);
    let seen = told.shadow.unwrap();
    assert_eq!((seen.version == told.version, seen.outcome), (true, decision::Outcome::Deny));
    assert_eq!(seen.reasons, ["d"]);
    let told = canary.record().unwrap();
    assert!(told.canary);
    let seen = told.shadow.unwrap();
    assert_eq!((seen.version == told.version, seen.outcome), (false, decision::Outcome::Allow));
}

#[test]
fn a_candidate_that_agrees_is_recorded_only_where_it_bites() {
    let tagged = format!("{ALLOW}\n\n# another text\n");
    assert_eq!(compared(ALLOW, &tagged).record(), None);
    let record = compared_of(ALLOW, &tagged, 100, UNJUDGED).record().unwrap();
    assert_eq!((record.canary, record.disagrees, record.shadow), (true, None, None));
}

#[test]
fn a_fault_is_recorded_also_where_both_have_it() {
    let faulty = format!("{ALLOW}\nlimits contains {{\"lifetime\": -1}}");
    let told = compared(&faulty, &format!("{faulty}\n# another text"));
    assert_eq!(told.change, None);
    assert!(told.record().unwrap().shadow.unwrap().fault.is_some());
    assert!(told.count(&whose(1)), "the first");
    assert!(!told.count(&whose(2)));
    let seen = told.candidate.seen().told();
    assert_eq!((seen.compared, seen.agreed, seen.faults), (2, 2, 2));
    assert_eq!(seen.last_fault.unwrap().decision_id, whose(2).id);
}

#[test]
fn what_the_task_type_asks_is_no_difference() {
    let asks = Unjudged { asks: true, ..UNJUDGED };
    assert_eq!(compared_of(ALLOW, &format!("{ALLOW}\n# other"), 0, asks).change, None);
    let told = compared_of(ALLOW, &reason("deny", "d"), 0, asks);
    assert_eq!(told.change, Some(Change::ApprovalToDeny));
}

#[test]
fn the_table_names_the_newest_decisions_and_the_counts_add_up() {
    let told = compared(ALLOW, &reason("deny", "d"));
    for n in 0..9 {
        told.count(&Whose { task_type: "refund".to_owned(), ..whose(n) });
    }
    let seen = told.candidate.seen().told();
    assert_eq!((seen.compared, seen.agreed, seen.disagreed, seen.enforced), (9, 0, 9, 0));
    let [row] = &seen.disagreements[..] else { panic!("{seen:?}") };
    assert_eq!((row.kind, row.reason_code.as_str(), row.count), (Change::AllowToDeny, "d", 9));
    assert_eq!(row.decision_ids, (4..9).map(|n| whose(n).id).collect::<Vec<_>>());
}

#[test]
fn the_table_is_bounded() {
    let told = compared(ALLOW, &reason("deny", "d"));
    for n in 0..3 * MOST_ROWS {
        told.count(&whose(n));
    }
    let seen = told.candidate.seen().told();
    assert_eq!(seen.disagreed, 3 * MOST_ROWS as u64);
    assert_eq!(seen.disagreements.len(), MOST_ROWS + 1);
    let more = &seen.disagreements[0];
    assert_eq!((more.reason_code.as_str(), more.count), (MORE, 2 * MOST_ROWS as u64));
    assert_eq!(more.decision_ids.len(), SAMPLES);
}
