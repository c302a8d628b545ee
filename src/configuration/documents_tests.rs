use super::*;

const TASK_TYPE: &str = "\
kind: TaskType
tenant: acme
name: refund_order
spec:
  description: Refund one order
  owner: group:payments
  contact: payments@acme.example
  review_by: 2027-03-01
  agents: [class:support]
  scopes: [orders:read, refunds:write]
  resources: [orders]
  lifetime:
    token: {default: 180, max: 300}
    task: 3600
";

fn source(text: &str) -> Source {
    Source { file: "a.yaml".into(), text: text.into() }
}

fn faults(text: &str) -> Vec<Fault> {
    read(&[source(text)]).unwrap_err()
}

/// The faults of the good task type with `from` replaced by `to`, as they are printed.
fn bent(from: &str, to: &str) -> (String, String) {
    assert!(TASK_TYPE.contains(from), "{from}");
    let fault = faults(&TASK_TYPE.replacen(from, to, 1)).remove(0);
    (fault.to_string(), fault.suggestion.unwrap_or_default())
}

fn mean(word: &str) -> String {
    format!("did you mean `{word}`?")
}

#[test]
fn a_document_is_read_with_its_places() {
    let text =
        format!("# head\n---\n{TASK_TYPE}---\n---\nkind: Tenant\ntenant: acme\nname: acme\nspec: {{}}\n");
    let documents = read(&[source(&text)]).unwrap();
    assert_eq!(documents.len(), 2);
    assert_eq!(documents[0].id.to_string(), "TaskType acme/refund_order");
    assert_eq!(documents[0].place, Place { line: 3, column: 1 });
    assert_eq!(documents[0].locate("spec.scopes[1]"), Place { line: 12, column: 25 });
    assert_eq!(documents[1].id.to_string(), "Tenant acme/acme");
}

#[test]
fn an_unknown_key_is_refused_with_place_and_suggestion() {
    assert_eq!(
        bent("scopes:", "scope:"),
        ("a.yaml:10:3: unknown key `scope` in TaskType spec".into(), mean("scopes"))
    );
    assert_eq!(
        bent("default: 180", "defualt: 180"),
        ("a.yaml:13:13: unknown key `defualt` in TaskType spec.lifetime.token".into(), mean("default"))
    );
    assert_eq!(bent("kind:", "knd:"), ("a.yaml:1:1: unknown key `knd`".into(), mean("kind")));
}

#[test]
fn an_unknown_word_is_refused_with_a_suggestion() {
    assert_eq!(
        bent("kind: TaskType", "kind: TaskTyp"),
        ("a.yaml:1:7: `kind`: unknown value `TaskTyp`".into(), mean("TaskType"))
    );
    let (text, suggestion) = bent("  resources:", "  approval: {when: allways}\n  resources:");
    assert_eq!(text, "a.yaml:11:20: `spec.approval.when`: unknown value `allways`");
    assert_eq!(suggestion, mean("always"));
}

#[test]
fn a_value_of_the_wrong_kind_names_the_field() {
    let cases = [
        (
            "task: 3600",
            "task: soon",
            "a.yaml:14:11: `spec.lifetime.task`: expected a whole number that is not negative and not too large, found a text",
        ),
        (
            "task: 3600",
            "task: -1",
            "a.yaml:14:11: `spec.lifetime.task`: expected a whole number that is not negative and not too large, found the number `-1`",
        ),
        ("[orders]", "orders", "a.yaml:11:14: `spec.resources`: expected a list, found a text"),
        (
            "[orders]",
            "[orders, 7]",
            "a.yaml:11:23: `spec.resources[1]`: expected a text, found the number `7`",
        ),
        (
            "[orders]",
            "[Orders]",
            "a.yaml:11:15: `spec.resources[0]`: `Orders` is not a name (1 to 64 of `a-z 0-9 _ - .`, beginning with a letter or digit)",
        ),
        (
            "group:payments",
            "payments",
            "a.yaml:6:10: `spec.owner`: `payments` is neither `group:NAME` nor `principal:ISSUER SUBJECT`",
        ),
        (
            "{default: 180, max: 300}",
            "300",
            "a.yaml:13:12: `spec.lifetime.token`: expected a mapping, found a number",
        ),
        (
            "  resources:",
            "  tenants:\n  resources:",
            "a.yaml:11:10: `spec.tenants`: expected a value, found nothing: write one, or leave the key out",
        ),
        ("tenant: acme", "tenant: [acme]", "a.yaml:2:9: `tenant`: expected a text, found a list"),
    ];
    for (from, to, expected) in cases {
        assert_eq!(bent(from, to).0, expected);
    }
}

#[test]
fn a_missing_key_is_told_where_it_belongs() {
    assert_eq!(
        bent("  scopes: [orders:read, refunds:write]\n", "").0,
        "a.yaml:4:1: missing key `scopes` in TaskType spec"
    );
    assert_eq!(bent("    task: 3600\n", "").0, "a.yaml:12:3: missing key `task` in TaskType spec.lifetime");
    assert_eq!(bent("name: refund_order\n", "").0, "a.yaml:1:1: missing key `name`");
}

#[test]
fn a_secret_in_the_place_of_its_hash_is_not_repeated() {
    let text = "kind: Agent\ntenant: acme\nname: a\nspec:\n  auth: {secret_sha256: [hunter2]}\n";
    let fault = faults(text).remove(0);
    assert!(fault.to_string().starts_with("a.yaml:5:26: `spec.auth.secret_sha256[0]`: "), "{fault}");
    assert!(!fault.to_string().contains("hunter2"));
}

#[test]
fn two_documents_for_one_object_are_refused_with_both_places() {
    let other = Source { file: "b.yaml".into(), text: format!("\n{TASK_TYPE}") };
    let faults = read(&[source(TASK_TYPE), other]).unwrap_err();
    assert_eq!(
        faults[0].to_string(),
        "b.yaml:2:1: TaskType acme/refund_order is already declared at a.yaml:1:1"
    );
}

#[test]
fn every_faulty_document_is_told_at_once() {
    let text = format!("{}---\nkind: Tenant\n---\n- a\n", TASK_TYPE.replace("owner:", "ownr:"));
    let told: Vec<String> = faults(&text).iter().map(Fault::to_string).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(told[2], "a.yaml:18:1: expected a mapping, found a list");
}
