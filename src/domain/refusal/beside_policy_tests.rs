use std::collections::BTreeSet;

use super::*;

/// Reads the codes from the text of `code` above, so that a new one is put where it belongs.
#[test]
fn every_code_is_of_policy_or_beside_it() {
    let (text, approval) = (include_str!("../refusal.rs"), include_str!("../approval.rs"));
    let between =
        |text: &'static str, from: &str, to: &str| text.split_once(from).unwrap().1.split_once(to).unwrap().0;
    let codes = [
        between(text, "pub fn code(self) -> &'static str {", "\n    }"),
        between(approval, "pub fn code(self) -> &'static str {", "\n    }"),
        between(text, "pub fn code(&self) -> String {", "code.to_owned()"),
    ];
    let quoted = |line: &str| line.split('"').nth(1).filter(|c| !c.contains('{')).map(str::to_owned);
    let told: BTreeSet<String> = codes.iter().flat_map(|text| text.lines().filter_map(quoted)).collect();
    let of_policy = [
        "approval_impossible",
        "approval_insufficient",
        "approval_required",
        "policy_denied",
        "policy_left_nothing",
        "policy_unavailable",
    ];
    let known: BTreeSet<String> =
        BESIDE_POLICY.iter().chain(&of_policy).map(|code| (*code).to_owned()).collect();
    assert_eq!(told, known);
    assert!(known.iter().all(|code| Refusal::is_beside_policy(code) != of_policy.contains(&code.as_str())));
    assert!(BESIDE_POLICY.is_sorted());
}
