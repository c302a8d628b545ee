use proptest::prelude::*;

use super::*;
use crate::policy::engine::RunLimits;
use crate::policy::judgement::Outcome;
use crate::policy::suite::patient;
use crate::policy::testing::{good_input, rules};

fn principal(iss: &str, sub: &str) -> PolicyInput {
    let mut input = good_input();
    (input.principal.iss, input.principal.sub) = (iss.to_owned(), sub.to_owned());
    input
}

fn names(list: &[&str]) -> BTreeSet<Named> {
    list.iter().map(|named| named.parse().unwrap()).collect()
}

fn canary(percent: u8, enforce_for: &[&str], never_for: &[&str]) -> Canary {
    Canary { percent, enforce_for: names(enforce_for), never_for: names(never_for) }
}

fn engine(body: &str) -> PolicyEngine {
    PolicyEngine::compile_with(rules(body), patient()).unwrap()
}

const ALLOW: &str = "allow if true";
const DENY: &str = "deny contains {\"code\": \"a\", \"message\": \"m\"}";

fn tried(active: &str, candidate: Result<PolicyEngine, PolicyFault>, canary: Canary) -> Policy {
    let version = candidate.as_ref().map_or("sha256:gone", PolicyEngine::version).to_owned();
    let candidate =
        Candidate::new(version, candidate, DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH).with(canary);
    Policy::new(engine(active), Some(candidate))
}

#[test]
fn a_principal_has_the_same_place_for_ever() {
    // Fixed: a change of these moves people from one bundle to the other in every canary that runs.
    for (sub, at) in PLACES_OF {
        assert_eq!(place(&principal("https://idp.example", sub).principal), at, "{sub}");
    }
}

const PLACES_OF: [(&str, u8); 3] = [("ada", 65), ("bob", 27), ("carol", 14)];

#[test]
fn where_the_issuer_ends_and_the_subject_begins_matters() {
    let moved = (0..50).filter(|n| {
        let (one, other) = (principal("a", &format!("b{n}")), principal("ab", &n.to_string()));
        place(&one.principal) != place(&other.principal)
    });
    assert!(moved.count() > 40);
}

#[test]
fn of_many_principals_a_canary_meets_about_its_share() {
    for percent in [1, 5, 50] {
        let met = (0..20_000)
            .filter(|n| canary(percent, &[], &[]).bites(&principal("https://idp.example", &n.to_string())))
            .count();
        let expected = 200 * usize::from(percent);
        assert!(met.abs_diff(expected) * 5 < expected, "{percent} %: {met} of 20000");
    }
}

proptest! {
    #[test]
    fn a_greater_share_holds_everybody_that_a_smaller_one_did(sub in "\\PC{0,12}", less in 0..=100_u8, more in 0..=100_u8) {
        let (less, more) = (less.min(more), less.max(more));
        let input = principal("https://idp.example", &sub);
        prop_assert!(!canary(less, &[], &[]).bites(&input) || canary(more, &[], &[]).bites(&input));
        prop_assert!(canary(100, &[], &[]).bites(&input));
        prop_assert!(!canary(0, &[], &[]).bites(&input));
    }

    #[test]
    fn never_wins_over_every_share_and_name(sub in "\\PC{0,12}", percent in 0..=100_u8, who in 0..3_usize) {
        let named = ["agent:support-bot", "group:support", "tenant:acme"][who];
        let input = principal("https://idp.example", &sub);
        prop_assert!(canary(percent, &[named], &[]).bites(&input));
        prop_assert!(!canary(percent, &["agent:support-bot", "group:support", "tenant:acme"], &[named]).bites(&input));
        let others = ["agent:other", "group:supp", "tenant:acme-two"][who];
        prop_assert_eq!(canary(percent, &[others], &[others]).bites(&input), canary(percent, &[], &[]).bites(&input));
    }
}

#[test]
fn names_are_read_and_written_alike_and_others_are_refused() {
    for text in ["agent:support-agent", "group:All Staff / EU", "tenant:acme"] {
        let named: Named = text.parse().unwrap();
        assert_eq!(named.to_string(), text);
        let json = serde_json::to_value(&named).unwrap();
        assert_eq!(serde_json::from_value::<Named>(json).unwrap(), named);
    }
    for text in ["support-agent", "class:support", "group:", "tenant:", "tenant:A b", "agent:", ":x", ""] {
        let told = text.parse::<Named>().unwrap_err().to_string();
        assert!(told.contains("agent:CLIENT_ID"), "{told}");
    }
}

#[test]
fn without_a_candidate_there_is_no_shadow() {
    let policy = Policy::from(engine(ALLOW));
    let judged = policy.judge(&good_input());
    assert!(judged.shadow.is_none());
    assert_eq!(judged.bites.version, policy.version());
}

#[test]
fn a_shadow_never_bites_whatever_it_does() {
    let endless = "allow if {\n\tsome a in xs; some b in xs; some c in xs; some d in xs; some e in xs; some f in xs\n\
        \ta + b + c + d + e + f == 0\n}\nxs := [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]";
    let faulty = "allow if true\ndeny contains {\"code\": \"a\", \"message\": \"m\", \"level\": 2}";
    let gone = Err(PolicyFault::Compile("of another program".to_owned()));
    for candidate in [Ok(engine(DENY)), Ok(engine(endless)), Ok(engine(faulty)), gone] {
        let policy = tried(ALLOW, candidate, Canary::default());
        let judged = policy.judge(&good_input());
        assert_eq!(judged.bites.version, policy.version());
        assert_eq!(judged.bites.judgement.unwrap().outcome(), Outcome::Allow);
        let shadow = judged.shadow.unwrap();
        assert_ne!(shadow.ruling.version, policy.version());
        assert!(shadow.ruling.judgement.map_or(true, |judged| judged.outcome() == Outcome::Deny));
    }
}

#[test]
fn a_candidate_that_bites_and_fails_is_no_answer() {
    let gone = Err(PolicyFault::Compile("of another program".to_owned()));
    let policy = tried(ALLOW, gone, canary(100, &[], &[]));
    let judged = policy.judge(&good_input());
    assert!(judged.bites.judgement.is_err());
    assert_eq!(judged.shadow.unwrap().ruling.judgement.unwrap().outcome(), Outcome::Allow);
}

/// Runs into the limit of instructions on every input.
fn overrunning() -> PolicyEngine {
    let body = format!(
        "{ALLOW}\n{DENY} if {{ some a in xs; some b in xs; some c in xs; a + b + c == 0 }}\nxs := [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]"
    );
    let limits = RunLimits { instructions: 500, time: Duration::from_mins(1) };
    PolicyEngine::compile_with(rules(&body), limits).unwrap()
}

#[test]
fn a_shadow_that_overruns_again_and_again_is_asked_no_more_until_the_canary_changes() {
    let policy = tried(ALLOW, Ok(overrunning()), Canary::default());
    for n in 1..=MOST_OVERRUNS {
        let judged = policy.judge(&good_input());
        assert_eq!(judged.shadow.unwrap().ruling.judgement, Err(PolicyFault::Limit("instruction")));
        assert_eq!(judged.pauses, n == MOST_OVERRUNS, "{n}");
    }
    let judged = policy.judge(&good_input());
    assert!(judged.shadow.is_none() && !judged.pauses && policy.candidate().unwrap().is_paused());
    let again = |canary| policy.candidate().unwrap().clone().with(canary);
    assert!(again(Canary::default()).is_paused(), "the same for the same");
    // Where it bites it is asked all the same.
    let everybody = Canary { percent: 100, ..Canary::default() };
    assert!(!again(everybody.clone()).is_paused());
    let bites = Policy::new(engine(ALLOW), Some(again(everybody)));
    for _ in 0..=MOST_OVERRUNS {
        assert!(bites.judge(&good_input()).bites.judgement.is_err());
    }
    let judged = bites.judge(&good_input());
    assert!(judged.bites.judgement.is_err() && judged.shadow.is_some());
}

#[test]
fn only_overruns_in_a_row_are_counted() {
    let overruns = Overruns::default();
    let (over, failed) = (Err(PolicyFault::Limit("time")), Err(PolicyFault::Panic));
    for _ in 1..MOST_OVERRUNS {
        assert!(!overruns.count(&over));
    }
    assert!(!overruns.count(&failed) && !overruns.count(&over) && !overruns.are_enough());
}
