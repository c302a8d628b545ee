use serde_json::json;

use super::*;

const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
const ED: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

fn ec(kid: &str) -> Value {
    json!({"kty": "EC", "crv": "P-256", "x": X, "y": Y, "kid": kid})
}

fn ed(kid: &str) -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "x": ED, "kid": kid})
}

fn parse(keys: &[Value]) -> Result<JwkSet, JwkFault> {
    JwkSet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

#[test]
fn keys_that_cannot_verify_are_skipped_and_the_others_kept() {
    let mut for_encryption = ec("enc");
    for_encryption["use"] = json!("enc");
    let weak = json!({"kty": "RSA", "n": format!("{}8", "_".repeat(170)), "e": "AQAB"});
    let unknown = json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"});
    let secret = json!({"kty": "oct", "k": "AAAA"});
    let set = parse(&[for_encryption, weak, unknown, secret, json!("text"), ec("good")]).unwrap();
    assert_eq!(set.keys().len(), 1);
    assert_eq!(set.skipped().len(), 5);
    assert!(matches!(set.skipped()[1], JwkFault::RsaSize(1024)), "{:?}", set.skipped());
}

#[test]
fn one_private_key_refuses_the_whole_set() {
    let mut leaked = ed("leaked");
    leaked["d"] = json!("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A");
    assert_eq!(parse(&[ec("good"), leaked]).unwrap_err(), JwkFault::Private("d"));
}

#[test]
fn more_than_100_keys_are_refused() {
    let many: Vec<Value> = (0..101).map(|n| ec(&n.to_string())).collect();
    assert_eq!(parse(&many).unwrap_err(), JwkFault::TooMany { len: 101, max: 100 });
    assert_eq!(parse(&many[..100]).unwrap().keys().len(), 100);
}

#[test]
fn the_same_key_twice_counts_once() {
    assert_eq!(parse(&[ec("a"), ec("a"), ec("b")]).unwrap().keys().len(), 2);
}

#[test]
fn two_keys_under_one_kid_are_told_apart_by_algorithm() {
    let set = parse(&[ec("a"), ed("a")]).unwrap();
    assert_eq!(set.find(Some("a"), Algorithm::Es256).len(), 1);
    assert_eq!(set.find(Some("a"), Algorithm::EdDsa).len(), 1);
    assert!(set.find(Some("a"), Algorithm::Rs256).is_empty());
}

#[test]
fn jw_03_an_unknown_kid_finds_nothing_and_no_kid_matches_by_algorithm() {
    let set = parse(&[ec("a"), ec("b"), ed("c")]).unwrap();
    assert_eq!(set.find(None, Algorithm::Es256).len(), 2);
    for kid in ["A", "a ", "", "c"] {
        assert!(set.find(Some(kid), Algorithm::Es256).is_empty(), "{kid}");
    }
}

#[test]
fn jw_05_a_set_that_can_be_read_in_two_ways_is_refused() {
    let twice = br#"{"keys":[],"keys":[]}"#;
    assert!(matches!(JwkSet::parse(twice), Err(JwkFault::Json(_))));
}

#[test]
fn what_is_no_key_set_is_refused() {
    for text in ["{}", r#"{"keys":{}}"#, r#"{"keys":null}"#] {
        assert_eq!(JwkSet::parse(text.as_bytes()).unwrap_err(), JwkFault::NoKeys);
    }
    assert!(matches!(JwkSet::parse(b"<html>"), Err(JwkFault::Json(_))));
    let long = vec![b' '; MAX_BYTES + 1];
    assert!(matches!(JwkSet::parse(&long), Err(JwkFault::TooLong { .. })));
}

#[test]
fn an_empty_set_has_no_keys() {
    assert!(parse(&[]).unwrap().find(None, Algorithm::Es256).is_empty());
}
