use serde_json::json;

use super::*;

const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

/// A good EC key with one member changed; `null` removes it.
fn bent(name: &str, value: Value) -> Result<PublicKey, JwkFault> {
    let mut jwk =
        json!({"kty": "EC", "crv": "P-256", "x": X, "y": Y, "kid": "1", "use": "sig", "alg": "ES256"});
    let members = jwk.as_object_mut().unwrap();
    if value.is_null() {
        members.remove(name);
    } else {
        members.insert(name.to_owned(), value);
    }
    PublicKey::from_jwk(members)
}

fn rsa_of(bits: usize, exponent: &[u8]) -> Result<PublicKey, JwkFault> {
    let mut modulus = vec![0xff; bits.div_ceil(8)];
    modulus[0] >>= (8 - bits % 8) % 8;
    let (n, e) = (URL_SAFE_NO_PAD.encode(modulus), URL_SAFE_NO_PAD.encode(exponent));
    PublicKey::from_jwk(json!({"kty": "RSA", "n": n, "e": e}).as_object().unwrap())
}

#[test]
fn a_good_key_is_read_and_unknown_members_are_ignored() {
    assert_eq!(bent("x5c", json!(["AAAA"])).unwrap().kid(), Some("1"));
    assert!(bent("use", Value::Null).is_ok());
    assert!(bent("alg", Value::Null).is_ok());
    assert!(bent("key_ops", json!(["verify"])).is_ok());
}

#[test]
fn a_private_member_refuses_the_key() {
    for name in PRIVATE {
        assert_eq!(bent(name, json!("AAAA")), Err(JwkFault::Private(name)));
        assert_eq!(bent(name, json!("")), Err(JwkFault::Private(name)));
    }
}

#[test]
fn a_key_for_another_purpose_is_unsuitable() {
    for (name, value) in [
        ("use", json!("enc")),
        ("key_ops", json!(["encrypt"])),
        ("kty", json!("oct")),
        ("crv", json!("P-521")),
        ("alg", json!("ECDH-ES")),
        ("alg", json!("RS256")),
        ("alg", json!("HS256")),
        ("alg", json!("none")),
    ] {
        let fault = bent(name, value.clone()).unwrap_err();
        assert!(matches!(fault, JwkFault::Unsuitable(member, _) if member == name), "{name} {value}");
    }
}

#[test]
fn a_malformed_member_is_named() {
    let short = URL_SAFE_NO_PAD.encode([1; 31]);
    for (name, value) in [
        ("kty", Value::Null),
        ("crv", Value::Null),
        ("x", json!(1)),
        ("y", Value::Null),
        ("x", json!(short)),
        ("y", json!(format!("{Y}="))),
        ("kid", json!(1)),
        ("alg", json!(1)),
    ] {
        assert_eq!(bent(name, value.clone()).unwrap_err(), JwkFault::Malformed(name), "{value}");
    }
}

#[test]
fn an_rsa_key_under_2048_or_over_8192_bits_is_refused() {
    assert!(rsa_of(2048, &[1, 0, 1]).is_ok());
    assert!(rsa_of(8192, &[3]).is_ok());
    for bits in [0, 1024, 2047, 8193] {
        assert_eq!(rsa_of(bits.max(1), &[1, 0, 1]), Err(JwkFault::RsaSize(bits.max(1))));
    }
}

#[test]
fn an_rsa_exponent_that_protects_nothing_is_refused() {
    for exponent in [&[][..], &[0], &[1], &[0, 1], &[2], &[1, 0, 0], &[1, 0, 0, 0, 1]] {
        assert_eq!(rsa_of(2048, exponent), Err(JwkFault::Malformed("e")), "{exponent:?}");
    }
}
