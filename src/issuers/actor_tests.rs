use serde_json::json;

use super::super::testing::{OWN, Signer, bend};
use super::*;
use crate::keys::fault::JwsFault;
use crate::keys::signing::KeySpec;

const NOW: i64 = 1_800_000_000;

fn good() -> Value {
    json!({"iss": "bot", "sub": "pod-7", "aud": OWN, "exp": NOW + 300, "iat": NOW, "jti": "1"})
}

fn keys(signers: &[&Signer]) -> JwkSet {
    let set = json!({"keys": signers.iter().map(|s| s.jwk()).collect::<Vec<_>>()});
    JwkSet::parse(set.to_string().as_bytes()).unwrap()
}

fn verify(token: &str, keys: &JwkSet) -> Result<String, ActorFault> {
    let now = DateTime::from_timestamp(NOW, 0).unwrap();
    verify_actor(Jws::parse(token).unwrap(), keys, &"bot".parse().unwrap(), OWN, now)
}

fn bent(patch: &Value) -> Result<String, ActorFault> {
    let signer = Signer::of(KeySpec::EdDsa);
    verify(&signer.sign(Some("actor+jwt"), &bend(good(), patch)), &keys(&[&signer]))
}

#[test]
fn an_actor_token_proves_an_instance() {
    assert_eq!(bent(&json!({})), Ok("pod-7".into()));
    assert_eq!(bent(&json!({"aud": [OWN], "jti": null, "iat": null})), Ok("pod-7".into()));
}

#[test]
fn jw_04_any_other_typ_is_refused() {
    let signer = Signer::new();
    for typ in [None, Some("JWT"), Some("at+jwt"), Some("client-authentication+jwt"), Some("actor+jwt+x")] {
        assert_eq!(verify(&signer.sign(typ, &good()), &keys(&[&signer])), Err(ActorFault::Typ), "{typ:?}");
    }
}

#[test]
fn t33_only_a_registered_key_of_the_agent_proves() {
    let (signer, other) = (Signer::new(), Signer::new());
    let token = signer.sign(Some("actor+jwt"), &good());
    for set in [keys(&[&other]), keys(&[])] {
        assert_eq!(verify(&token, &set), Err(ActorFault::Signature(JwsFault::UnknownKey)));
    }
    assert!(verify(&token, &keys(&[&other, &signer])).is_ok());
    let header = json!({"alg": "ES256", "typ": "actor+jwt", "kid": signer.jwk()["kid"]});
    let forged = other.sign_with(&header, &good());
    assert_eq!(verify(&forged, &keys(&[&signer])), Err(ActorFault::Signature(JwsFault::BadSignature)));
}

#[test]
fn tx_19_t12_a_token_of_another_agent_is_refused() {
    for iss in [json!("bot2"), json!(OWN), json!(["bot"]), json!("BOT"), json!(null)] {
        assert_eq!(bent(&json!({"iss": iss})), Err(ActorFault::OtherAgent), "{iss}");
    }
}

#[test]
fn t14_this_server_is_the_sole_audience() {
    let wrong = [json!("x"), json!([OWN, "x"]), json!([OWN, OWN]), json!([]), json!(null), json!(1)];
    for aud in wrong.into_iter().chain([json!(format!("{OWN}/"))]) {
        assert_eq!(bent(&json!({"aud": aud})), Err(ActorFault::Audience), "{aud}");
    }
}

#[test]
fn t25_exp_is_required_near_and_without_leeway() {
    assert_eq!(bent(&json!({"exp": null})), Err(ActorFault::Missing("exp")));
    assert_eq!(bent(&json!({"exp": NOW})), Err(ActorFault::Expired));
    assert_eq!(bent(&json!({"exp": NOW + 301})), Err(ActorFault::TooLong(300)));
    assert!(bent(&json!({"exp": NOW + 1})).is_ok());
}

#[test]
fn jw_05_dates_are_numbers_and_not_ahead() {
    for claim in ["exp", "nbf", "iat"] {
        let fault = bent(&json!({claim: NOW.to_string()}));
        assert!(matches!(fault, Err(ActorFault::Date(_))), "{claim}");
    }
    for claim in ["nbf", "iat"] {
        assert!(bent(&json!({claim: NOW + 30})).is_ok());
        assert_eq!(bent(&json!({claim: NOW + 31})), Err(ActorFault::NotYet(claim)));
    }
}

#[test]
fn an_instance_is_short_and_printable() {
    assert_eq!(bent(&json!({"sub": null})), Err(ActorFault::Missing("sub")));
    for sub in [json!(""), json!("a b"), json!("a\n"), json!("x".repeat(129)), json!("ü"), json!(7)] {
        assert!(
            matches!(bent(&json!({"sub": sub})), Err(ActorFault::Malformed { claim: "sub", .. })),
            "{sub}"
        );
    }
    assert!(bent(&json!({"sub": "x".repeat(128)})).is_ok());
    assert!(matches!(bent(&json!({"jti": 1})), Err(ActorFault::Malformed { claim: "jti", .. })));
}

#[test]
fn tx_17_claims_that_would_be_dropped_in_silence_are_refused() {
    for claim in UNSUPPORTED {
        assert_eq!(bent(&json!({claim: {}})), Err(ActorFault::Unsupported(claim)));
    }
}
