use serde_json::json;

use super::super::testing::{OWN, Signer, bend};
use super::*;
use crate::keys::fault::JwsFault;
use crate::keys::signing::KeySpec;

const NOW: i64 = 1_800_000_000;

fn good() -> Value {
    json!({"iss": "bot", "sub": "bot", "aud": OWN, "exp": NOW + 300, "iat": NOW, "jti": "1"})
}

fn verify(token: &str, signers: &[&Signer], algorithms: &[&str]) -> Result<Assertion, AssertionFault> {
    let set = json!({"keys": signers.iter().map(|s| s.jwk()).collect::<Vec<_>>()});
    let keys = JwkSet::parse(set.to_string().as_bytes()).unwrap();
    let algorithms: Vec<String> = algorithms.iter().map(|&a| a.to_owned()).collect();
    let now = DateTime::from_timestamp(NOW, 0).unwrap();
    let client = "bot".parse().unwrap();
    verify_assertion(Jws::parse(token).unwrap(), (&client, &keys, &algorithms), OWN, now)
}

fn bent(patch: &Value) -> Result<Assertion, AssertionFault> {
    let signer = Signer::of(KeySpec::EdDsa);
    let token = signer.sign(Some("client-authentication+jwt"), &bend(good(), patch));
    verify(&token, &[&signer], &["EdDSA"])
}

#[test]
fn ca_03_a_good_assertion_tells_its_id_and_its_end() {
    let expected = Assertion { jti: "1".into(), expires_at: DateTime::from_timestamp(NOW + 300, 0).unwrap() };
    assert_eq!(bent(&json!({})), Ok(expected));
    assert!(bent(&json!({"iat": null, "aud": [OWN], "nbf": NOW + 30})).is_ok());
}

#[test]
fn ca_03_iss_and_sub_are_the_client_id() {
    for claim in ["iss", "sub"] {
        for other in [json!("bot2"), json!("BOT"), json!(["bot"]), json!(null), json!(OWN)] {
            assert_eq!(bent(&json!({claim: other})), Err(AssertionFault::OtherClient(claim)), "{other}");
        }
    }
}

#[test]
fn ca_04_t30_aud_is_the_issuer_alone() {
    let endpoint = format!("{OWN}/oauth/token");
    for aud in [json!(endpoint), json!([OWN, "x"]), json!([OWN, OWN]), json!([]), json!(null), json!(1)] {
        assert_eq!(bent(&json!({"aud": aud})), Err(AssertionFault::Audience), "{aud}");
    }
}

#[test]
fn ca_03_dates_are_near() {
    assert_eq!(bent(&json!({"exp": null})), Err(AssertionFault::Missing("exp")));
    assert_eq!(bent(&json!({"exp": NOW})), Err(AssertionFault::Expired));
    assert_eq!(bent(&json!({"exp": NOW + 301})), Err(AssertionFault::TooLong(300)));
    assert_eq!(bent(&json!({"iat": NOW - 331})), Err(AssertionFault::TooLong(300)));
    assert!(bent(&json!({"iat": NOW - 330})).is_ok());
    for claim in ["nbf", "iat"] {
        assert_eq!(bent(&json!({claim: NOW + 31})), Err(AssertionFault::NotYet(claim)));
        assert!(matches!(bent(&json!({claim: "now"})), Err(AssertionFault::Date(_))));
    }
}

#[test]
fn ca_03_jti_is_a_text_that_can_be_kept() {
    assert_eq!(bent(&json!({"jti": null})), Err(AssertionFault::Missing("jti")));
    for jti in [json!(""), json!(7), json!("a\nb"), json!("x".repeat(256)), json!("\u{e4}")] {
        assert_eq!(bent(&json!({"jti": jti})), Err(AssertionFault::Jti), "{jti}");
    }
}

#[test]
fn ca_04_jw_04_an_untyped_assertion_is_accepted_and_any_other_type_is_not() {
    let signer = Signer::new();
    let verify = |typ| verify(&signer.sign(typ, &good()), &[&signer], &["ES256"]);
    for typ in [None, Some("JWT"), Some("jwt"), Some("application/client-authentication+jwt")] {
        assert!(verify(typ).is_ok(), "{typ:?}");
    }
    for typ in ["at+jwt", "actor+jwt", "dpop+jwt", "secevent+jwt", "client-authentication+jwt+x", ""] {
        assert_eq!(verify(Some(typ)), Err(AssertionFault::Typ), "{typ}");
    }
    for claim in ["events", "token_introspection", "status_list", "cnf"] {
        assert_eq!(bent(&json!({claim: {}})), Err(AssertionFault::OtherKind), "{claim}");
    }
}

#[test]
fn t33_jw_01_only_a_registered_key_under_a_registered_algorithm_proves() {
    let (signer, other) = (Signer::new(), Signer::new());
    let token = signer.sign(None, &good());
    let unknown = Err(AssertionFault::Signature(JwsFault::UnknownKey));
    assert_eq!(verify(&token, &[&other], &["ES256"]), unknown);
    assert_eq!(verify(&token, &[], &["ES256"]), unknown);
    assert!(matches!(verify(&token, &[&signer], &["RS256", "EdDSA"]), Err(AssertionFault::Algorithm(_))));
    let forged = other.sign_with(&json!({"alg": "ES256", "kid": signer.jwk()["kid"]}), &good());
    let bad = Err(AssertionFault::Signature(JwsFault::BadSignature));
    assert_eq!(verify(&forged, &[&signer], &["ES256"]), bad);
}
