use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Header, Validation, decode, encode};
use serde_json::{Value, json};

use super::super::jws::Jws;
use super::super::keyring::KeyRing;
use super::super::signing::KeySpec;
use super::*;

const SPECS: [KeySpec; 3] = [KeySpec::Es256, KeySpec::EdDsa, KeySpec::Rsa2048];

fn validation(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm.into());
    validation.validate_exp = false;
    validation.required_spec_claims.clear();
    validation
}

fn encoding_key(spec: KeySpec) -> (EncodingKey, SigningKey) {
    let (key, document) = SigningKey::generate(spec, &SystemRandom::new()).unwrap();
    let der = document.as_bytes();
    let encoding = match spec {
        KeySpec::Es256 => EncodingKey::from_ec_der(der),
        KeySpec::EdDsa => EncodingKey::from_ed_der(der),
        KeySpec::Rsa2048 | KeySpec::Rsa3072 => EncodingKey::from_rsa_der(der),
    };
    (encoding, key)
}

#[test]
fn installing_twice_is_harmless() {
    install();
    install();
}

#[test]
fn an_independent_reader_accepts_our_tokens() {
    install();
    for spec in SPECS {
        let ring = KeyRing::ephemeral(spec, SystemRandom::new()).unwrap();
        let token = ring.sign("at+jwt", &json!({"sub": "a"})).unwrap();
        let jwk: Jwk = serde_json::from_value(ring.jwks()["keys"][0].clone()).unwrap();
        let key = DecodingKey::from_jwk(&jwk).unwrap();
        let data = decode::<Value>(&token, &key, &validation(spec.algorithm())).unwrap();
        assert_eq!(data.claims, json!({"sub": "a"}));
        assert_eq!(data.header.typ.as_deref(), Some("at+jwt"));
        assert_eq!(jwk.thumbprint(ThumbprintHash::SHA256).unwrap(), ring.kid());
    }
}

#[test]
fn we_accept_the_tokens_of_an_independent_writer() {
    install();
    for spec in SPECS {
        let (encoding, key) = encoding_key(spec);
        let token = encode(&Header::new(spec.algorithm().into()), &json!({"sub": "a"}), &encoding).unwrap();
        assert_eq!(Jws::parse(&token).unwrap().verify(key.public()).unwrap().claims()["sub"], "a");
        let jwk = Jwk::from_encoding_key(&encoding, spec.algorithm().into());
        if spec != KeySpec::EdDsa {
            // For Ed25519 the crate wants PKCS#8 version 1, of 48 bytes; ring writes version 2.
            assert_eq!(jwk.unwrap().algorithm, key.public().jwk().algorithm);
        }
    }
}

#[test]
fn jw_01_the_provider_knows_no_shared_secret() {
    install();
    let secret = EncodingKey::from_secret(b"secret");
    assert!(encode(&Header::default(), &json!({}), &secret).is_err());
    assert!(verifier_factory(&jsonwebtoken::Algorithm::HS256, &DecodingKey::from_secret(b"secret")).is_err());
    assert!(verifier_factory(&jsonwebtoken::Algorithm::ES256, &DecodingKey::from_secret(b"secret")).is_err());
}

#[test]
fn jw_01_a_key_of_another_kind_is_refused() {
    let (encoding, _) = encoding_key(KeySpec::Es256);
    assert!(signer_factory(&jsonwebtoken::Algorithm::ES384, &encoding).is_err());
    assert!(signer_factory(&jsonwebtoken::Algorithm::EdDSA, &encoding).is_err());
}
