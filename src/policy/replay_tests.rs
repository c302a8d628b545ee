use proptest::prelude::*;

use super::*;
use crate::policy::engine::PolicyEngine;
use crate::policy::input::ApprovalFacts;
use crate::policy::suite::patient;
use crate::policy::testing::{any_input, good_input, rules};

const ASK: &str = r#"require_approval contains {"code": "ask", "message": "m"}"#;

const ASK_TOO: &str = "allow if true\nrequire_approval contains {\"code\": \"ask\", \"message\": \"m\"}";

fn judged(body: &str, input: &PolicyInput) -> Result<Judgement, PolicyFault> {
    PolicyEngine::compile_with(rules(body), patient()).unwrap().judge(input)
}

fn case(recorded: Recorded) -> Case {
    Case::new(good_input(), recorded)
}

fn end_of(case: &Case, body: &str) -> End {
    case.end(&judged(body, case.input()))
}

/// How the good input, which was allowed for 180 s, ends otherwise by `after` than by `before`.
fn change(before: &str, after: &str) -> Option<Change> {
    let granted = GrantedRecord { exp: good_input().now + 180, ..GrantedRecord::default() };
    let case = case(Recorded { granted: Some(granted), ..Recorded::default() });
    let rules = |body: &str| format!("allow if true\n{body}");
    end_of(&case, &rules(before)).change_to(&end_of(&case, &rules(after)))
}

#[test]
fn each_change_is_told_by_its_kind() {
    let limit = |seconds: u32| format!("limits contains {{\"lifetime\": {seconds}}}");
    let none = r#"limits contains {"scopes": []}"#;
    let deny = |code: &str| format!("deny contains {{\"code\": \"{code}\", \"message\": \"m\"}}");
    for (before, after, expected) in [
        ("", "", None),
        ("", deny("a").as_str(), Some(Change::AllowToDeny)),
        (&deny("a"), "", Some(Change::DenyToAllow)),
        (&deny("a"), &deny("b"), Some(Change::Reasons)),
        ("", ASK, Some(Change::AllowToApproval)),
        (ASK, "", Some(Change::ApprovalToAllow)),
        (ASK, &deny("a"), Some(Change::ApprovalToDeny)),
        (&deny("a"), ASK, Some(Change::DenyToApproval)),
        ("", &limit(60), Some(Change::Narrower)),
        (&limit(60), &limit(90), Some(Change::Wider)),
        (&limit(200), &limit(290), None),
        ("", &limit(180), None),
        ("", none, Some(Change::AllowToDeny)),
        ("", &limit(0), Some(Change::AllowToDeny)),
        ("", "tags contains \"x\"", Some(Change::Tags)),
        ("", "limits contains {\"lifetime\": \"soon\"}", Some(Change::Fault)),
        (ASK, &format!("{ASK}\n{}", limit(60)), Some(Change::Narrower)),
    ] {
        assert_eq!(change(before, after), expected, "{before} -> {after}");
    }
    let mut all: Vec<&str> = Change::ALL.iter().map(|change| change.as_str()).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), Change::ALL.len());
}

#[test]
fn a_lifetime_that_policy_had_shortened_could_have_been_as_long_as_the_ceiling() {
    let narrowed = vec![SHORTENED.to_owned()];
    let granted = GrantedRecord { exp: good_input().now + 60, narrowed, ..GrantedRecord::default() };
    let case = case(Recorded { granted: Some(granted), ..Recorded::default() });
    let end = |body: &str| end_of(&case, &format!("allow if true\n{body}"));
    let shortened = end("limits contains {\"lifetime\": 60}");
    assert_eq!(shortened.change_to(&end("")), Some(Change::Wider));
    assert_eq!(shortened.change_to(&end("limits contains {\"lifetime\": 59}")), Some(Change::Narrower));
}

#[test]
fn what_was_approved_is_not_asked_again_and_what_the_task_type_asks_stays() {
    let mut input = good_input();
    let reasons = vec!["ask".to_owned()];
    input.approval = Some(ApprovalFacts { id: "a".into(), reasons, approvers: Vec::new(), envelope: None });
    let approved = Case::new(input, Recorded::default());
    assert_eq!(end_of(&approved, &format!("allow if true\n{ASK}")).outcome, Outcome::Allow);
    let always = case(Recorded { reasons: vec![TASK_TYPE_APPROVAL.to_owned()], ..Recorded::default() });
    assert_eq!(end_of(&always, "allow if true").outcome, Outcome::RequireApproval);
}

#[test]
fn of_a_denial_the_task_type_tells_whether_it_would_have_asked() {
    let deny = "allow if true\ndeny contains {\"code\": \"a\", \"message\": \"m\"}";
    let change = |bend: fn(&mut PolicyInput), outcome: &str, always_asks: bool| {
        let mut input = good_input();
        bend(&mut input);
        let recorded = Recorded { outcome: outcome.to_owned(), always_asks, ..Recorded::default() };
        let case = Case::new(input, recorded);
        end_of(&case, deny).change_to(&end_of(&case, "allow if true"))
    };
    let approve = |input: &mut PolicyInput| {
        let reasons = vec![TASK_TYPE_APPROVAL.to_owned()];
        input.approval =
            Some(ApprovalFacts { id: "a".into(), reasons, approvers: Vec::new(), envelope: None });
    };
    let narrow = |input: &mut PolicyInput| {
        let parent = serde_json::json!({"jti": "j", "scopes": [], "resources": [], "authorization_details": [],
            "depth_left": 1, "expires_in": 300, "exchange_only": false});
        input.parent = Some(serde_json::from_value(parent).unwrap());
    };
    let hand = |input: &mut PolicyInput| {
        let before = input.chain[0].clone();
        input.chain.push(before);
    };
    assert_eq!(change(|_| {}, "deny", true), Some(Change::DenyToApproval));
    assert_eq!(change(|_| {}, "deny", false), Some(Change::DenyToAllow));
    assert_eq!(
        change(|_| {}, "allow", true),
        Some(Change::DenyToAllow),
        "what was let through asks for nothing"
    );
    assert_eq!(change(approve, "deny", true), Some(Change::DenyToAllow));
    assert_eq!(change(narrow, "deny", true), Some(Change::DenyToAllow));
    assert_eq!(change(hand, "deny", true), Some(Change::DenyToApproval));
}

#[test]
fn an_erased_record_of_a_grant_is_decided_again_under_the_ceiling() {
    let erased = case(Recorded { outcome: "allow".to_owned(), ..Recorded::default() });
    let end = end_of(&erased, "allow if true");
    assert_eq!(erased.standing(&end), Standing::Decided);
    assert_eq!(end.grant.unwrap().lifetime, good_input().ceiling.lifetime);
}

#[test]
fn a_fault_tells_its_kind_and_place_and_nothing_of_the_input() {
    let mut input = good_input();
    input.principal.sub = "secret-sub".to_owned();
    for (body, told) in [
        ("allow if true\nlimits contains input.principal.sub", "the policy's output is refused"),
        (
            "allow if true\nx := to_number(input.principal.sub) if { input.now with input.now as 1 }\ntags contains x",
            "the policy failed at own/rules.rego:4:31",
        ),
    ] {
        let fault = judged(body, &input).unwrap_err();
        if let PolicyFault::Output(text) = &fault {
            assert!(text.contains("secret-sub"), "the log has the words: {text}");
        }
        let case = Case::new(input.clone(), Recorded::default());
        assert_eq!(case.end(&Err(fault)).fault.as_deref(), Some(told), "{body}");
    }
    let limit = PolicyFault::Limit("time");
    assert_eq!(limit.kind(), limit.to_string());
    let odd = PolicyFault::Evaluation("secret-sub: of: no place".to_owned());
    assert_eq!(odd.kind(), "the policy failed");
}

#[test]
fn too_much_that_is_skipped_tells_too_little() {
    let tally = |replayed: u32, lost: u32, before: u32| {
        let mut tally = Tally::new(0);
        (0..replayed).for_each(|_| tally.refused_elsewhere());
        (0..lost).for_each(|_| tally.skip(Skip::InputGone, "a"));
        (0..before).for_each(|_| tally.skip(Skip::BeforePolicy, "b"));
        tally
    };
    for (replayed, lost, before, most, expected) in [
        (0, 0, 0, 0, false),
        (0, 0, 50, 0, false),
        (0, 1, 0, 100, true),
        (9, 1, 0, 10, false),
        (9, 1, 90, 9, true),
        (89, 11, 0, 10, true),
        (1, 9, 0, 100, false),
        (1, 0, 99, 0, false),
    ] {
        let told = tally(replayed, lost, before).tells_too_little(most);
        assert_eq!(told, expected, "{replayed} {lost} {before} {most}");
    }
}

#[test]
fn the_log_and_the_bundle_that_decided_are_held_against_each_other() {
    let standing = |outcome: &str, codes: &[&str], body: &str| {
        let reasons = codes.iter().map(|code| (*code).to_owned()).collect();
        let case = case(Recorded { outcome: outcome.to_owned(), reasons, ..Recorded::default() });
        case.standing(&end_of(&case, body))
    };
    let deny = r#"deny contains {"code": "a", "message": "m"}"#;
    let fault = "allow if true\nlimits contains {\"lifetime\": \"soon\"}";
    for (outcome, codes, body, expected) in [
        ("allow", &[][..], "allow if true", Standing::Decided),
        ("allow", &[], "", Standing::Unlike),
        ("deny", &["a", "policy_default_deny"], deny, Standing::Decided),
        ("deny", &["a"], deny, Standing::Unlike),
        ("deny", &["revoked"], "allow if true", Standing::RefusedElsewhere),
        ("deny", &["revoked", "a"], "allow if true", Standing::Unlike),
        ("deny", &["a"], "allow if true", Standing::Unlike),
        ("deny", &["a"], ASK_TOO, Standing::Unlike),
        ("deny", &[], "allow if true", Standing::Unlike),
        ("deny", &[NOTHING_LEFT], "allow if true", Standing::Unlike),
        ("deny", &["token_children_exhausted"], ASK_TOO, Standing::RefusedElsewhere),
        ("deny", &[FAULT], fault, Standing::Decided),
        ("deny", &[FAULT], "allow if true", Standing::FaultThen),
        ("deny", &[NOTHING_LEFT], "allow if true\nlimits contains {\"scopes\": []}", Standing::Decided),
        ("require_approval", &[TASK_TYPE_APPROVAL], "allow if true", Standing::Decided),
        ("require_approval", &["ask"], "allow if true", Standing::Unlike),
    ] {
        assert_eq!(standing(outcome, codes, body), expected, "{outcome} {codes:?} {body}");
    }
    let granted = |scope: &str| {
        let (exp, scope) = (good_input().now + 60, scope.to_owned());
        let granted = Some(GrantedRecord { exp, scope, ..GrantedRecord::default() });
        let case = case(Recorded { outcome: "allow".to_owned(), granted, ..Recorded::default() });
        case.standing(&end_of(&case, "allow if true"))
    };
    assert_eq!(granted("orders:read"), Standing::Decided);
    assert_eq!(granted("orders:read refunds:write"), Standing::Unlike);
}

/// A tally of these decisions: by number how each ends, 0 as before.
fn tally(ends: &[(u32, u8)]) -> Tally {
    let mut tally = Tally::new(2);
    for (number, kind) in ends {
        let id = format!("{number:04}");
        let reason = |code: &str| super::code(code);
        let end = |reasons| End::denied(reasons);
        let subject = Subject {
            decision_id: id.clone(),
            at: String::new(),
            agent: format!("agent-{}", number % 3),
            task_type: "t@1".to_owned(),
            data: None,
        };
        match kind {
            0 => tally.compare(&end(reason("a")), &end(reason("a")), || subject),
            1 => tally.compare(&end(reason("a")), &end(reason("b")), || subject),
            2 => tally.skip(Skip::InputGone, &id),
            _ => tally.refused_elsewhere(),
        }
    }
    tally
}

proptest! {
    #[test]
    fn parts_add_up_to_the_whole_in_any_order(
        ends in proptest::collection::btree_map(0_u32..1000, 0_u8..4, 0..20), cut in 0_usize..20,
    ) {
        let ends: Vec<(u32, u8)> = ends.into_iter().collect();
        let (one, other) = ends.split_at(cut.min(ends.len()));
        let mut merged = tally(other);
        merged.merge(tally(one));
        let whole = tally(&ends);
        prop_assert_eq!(&merged, &whole);
        prop_assert!(whole.changes.values().all(|changed| changed.examples.len() <= 2));
        prop_assert_eq!(whole.recorded, ends.len() as u64);
    }

    #[test]
    fn the_same_answer_is_no_change(input in any_input()) {
        let judged = judged("allow if input.requested.exchange_only\ntags contains input.actor.id", &input);
        let case = Case::new(input, Recorded::default());
        prop_assert_eq!(case.end(&judged).change_to(&case.end(&judged)), None);
    }
}

#[test]
fn a_table_of_counts_is_bounded() {
    let mut counts = Counts::default();
    for number in 0..MOST_KEYS + 50 {
        counts.add(&format!("key-{number}"), 1);
    }
    assert_eq!(counts.0.len(), MOST_KEYS + 1);
    assert_eq!(counts.greatest()[0], (MORE, 50));
}
