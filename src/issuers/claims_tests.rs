use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::objects::claim;

fn kept(claims: &Value, names: &[&str]) -> Value {
    let mut facts = Claims::new();
    for name in names {
        keep(&mut facts, claims.as_object().unwrap(), name);
    }
    Value::Object(facts)
}

#[test]
fn a_nested_claim_is_kept_where_it_stands() {
    let claims = json!({"a": {"b": {"c": 1, "d": 2}, "b.x": 3}, "a.e": 4, "s": "text"});
    assert_eq!(kept(&claims, &["a.b.c"]), json!({"a": {"b": {"c": 1}}}));
    assert_eq!(kept(&claims, &["a.b.x"]), json!({"a": {"b.x": 3}}));
    assert_eq!(kept(&claims, &["a.e", "s"]), json!({"a.e": 4, "s": "text"}));
    assert_eq!(kept(&claims, &["a.b.c", "a.b.d"]), json!({"a": {"b": {"c": 1, "d": 2}}}));
    assert_eq!(kept(&claims, &["s.x", "none", "none.x", ""]), json!({}));
}

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(json!(1)), Just(json!("x")), Just(json!(null))];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop::collection::btree_map("[ab](\\.[ab])?", inner, 0..4).prop_map(|m| json!(m))
    })
}

proptest! {
    /// What rules see later is what they would have seen in the token.
    #[test]
    fn a_kept_claim_is_found_under_the_same_name(
        claims in prop::collection::btree_map("[ab](\\.[ab])?", tree(), 0..4),
        names in prop::collection::vec("[ab](\\.[ab]){0,3}", 0..5),
    ) {
        let claims = json!(claims);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let facts = kept(&claims, &names);
        for name in names {
            let (now, later) = (claim(claims.as_object().unwrap(), name), claim(facts.as_object().unwrap(), name));
            prop_assert_eq!(now, later, "{}", name);
        }
    }
}
