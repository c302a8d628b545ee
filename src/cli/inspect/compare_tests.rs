use serde_json::json;

use super::*;

fn parent() -> Value {
    json!({
        "iss": "https://tg.example", "sub": "alice", "aud": "https://orders.example",
        "sub_id": {"format": "iss_sub", "iss": "https://idp.example", "sub": "alice"},
        "exp": 2_000_000_300, "iat": 2_000_000_000, "nbf": 2_000_000_000,
        "jti": "01a1fc70-e484-723f-9783-7330731f3bd5", "client_id": "a", "scope": "r w",
        "authorization_details": [{"type": "tool_call", "tools": ["x", "y"], "amount": 500}],
        "act": {"sub": "a", "iss": "https://tg.example"}, "tenant": "demo",
        "task_id": "01a1fc70-e484-7c76-a0e9-9ea354c6b115", "task_type": "t@1", "task_exp": 2_000_003_600,
        "depth_left": 1,
    })
}

fn bent(claims: &[(&str, Value)]) -> Value {
    let mut child = parent();
    for (name, value) in claims {
        child[*name] = value.clone();
    }
    child
}

fn against(parent: &Value, child: &Value) -> Comparison {
    compare(parent.as_object().unwrap(), child.as_object().unwrap()).unwrap()
}

fn verdict(comparison: &Comparison, name: &str) -> Verdict {
    comparison.dimensions.iter().find(|d| d.name == name).unwrap().verdict
}

#[test]
fn a_token_is_the_same_as_itself() {
    let compared = against(&parent(), &parent());
    assert!(!compared.wider && compared.unknown_types.is_empty());
    assert!(compared.dimensions.iter().all(|d| d.verdict == Verdict::Same), "{compared:?}");
}

#[test]
fn a_child_of_another_agent_is_narrower_and_continues_the_chain() {
    let child = bent(&[
        ("client_id", json!("b")),
        ("act", json!({"sub": "b", "iss": "https://tg.example", "act": parent()["act"]})),
        ("scope", json!("r")),
        ("exp", json!(2_000_000_060)),
        ("depth_left", json!(0)),
        ("authorization_details", json!([{"type": "tool_call", "tools": ["x"], "amount": 5}])),
    ]);
    let compared = against(&parent(), &child);
    assert!(!compared.wider, "{compared:?}");
    for name in ["scopes", "expiry", "depth", "details"] {
        assert_eq!(verdict(&compared, name), Verdict::Narrower, "{name}");
    }
    assert_eq!(verdict(&compared, "chain"), Verdict::Continued);
    assert_eq!(verdict(&compared, "tenant"), Verdict::Same);
}

#[test]
fn each_dimension_that_is_wider_is_named_and_no_other() {
    let other_task = "01a1fc70-e484-7c76-a0e9-9ea354c6b116";
    let cases = [
        ("tenant", "tenant", json!("other")),
        ("principal", "sub_id", json!({"format": "iss_sub", "iss": "https://idp.example", "sub": "bob"})),
        ("task", "task_id", json!(other_task)),
        ("scopes", "scope", json!("r w x")),
        ("resources", "aud", json!("https://mail.example")),
        ("details", "authorization_details", json!([{"type": "tool_call", "tools": ["x"], "amount": 501}])),
        ("expiry", "exp", json!(2_000_000_301)),
        ("depth", "depth_left", json!(2)),
        ("chain", "act", json!({"sub": "a", "iss": "https://tg.example", "act": {"sub": "z", "iss": "i"}})),
    ];
    for (name, claim, value) in cases {
        let compared = against(&parent(), &bent(&[(claim, value)]));
        let wider: Vec<_> = compared.dimensions.iter().filter(|d| d.verdict == Verdict::Wider).collect();
        assert!(compared.wider && wider.len() == 1 && wider[0].name == name, "{name}: {compared:?}");
        assert!(wider[0].why.is_some());
    }
    let bound = bent(&[("cnf", json!({"jkt": "k"}))]);
    assert_eq!(verdict(&against(&bound, &parent()), "sender key"), Verdict::Wider);
    assert_eq!(verdict(&against(&parent(), &bound), "sender key"), Verdict::Narrower);
}

#[test]
fn an_unknown_type_is_compared_for_equality_and_said_so() {
    let details = |n: i64| ("authorization_details", json!([{"type": "other", "limit": n}]));
    let compared = against(&bent(&[details(5)]), &bent(&[details(4)]));
    assert_eq!((compared.wider, compared.unknown_types.as_slice()), (true, ["other".to_owned()].as_slice()));
    assert!(!against(&bent(&[details(5)]), &bent(&[details(5)])).wider);
}

#[test]
fn what_is_no_token_of_ours_cannot_be_compared() {
    let other = json!({"iss": "https://idp.example", "sub": "alice"});
    assert!(compare(other.as_object().unwrap(), parent().as_object().unwrap()).is_err());
}
