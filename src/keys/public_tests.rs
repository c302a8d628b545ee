use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use serde_json::{Value, json};

use super::super::signing::{KeySpec, SigningKey};
use super::*;

fn key(jwk: &Value) -> PublicKey {
    PublicKey::from_jwk(jwk.as_object().unwrap()).unwrap()
}

/// RFC 8037 appendix A.2.
fn rfc_8037() -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
}

/// RFC 7638 §3.1.
fn rfc_7638() -> Value {
    json!({"kty": "RSA", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29", "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"})
}

#[test]
fn rfc_8037_a_5_ed25519_verifies() {
    let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = URL_SAFE_NO_PAD
        .decode("hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg")
        .unwrap();
    let key = key(&rfc_8037());
    assert_eq!(key.verify(Algorithm::EdDsa, message, &signature), Ok(()));
    assert_eq!(key.verify(Algorithm::EdDsa, b"other", &signature), Err(JwsFault::BadSignature));
    assert_eq!(key.verify(Algorithm::EdDsa, message, &[]), Err(JwsFault::BadSignature));
    assert_eq!(key.verify(Algorithm::Es256, message, &signature), Err(JwsFault::KeyMismatch));
}

#[test]
fn rfc_7638_3_1_and_rfc_8037_a_3_thumbprints_are_right() {
    assert_eq!(key(&rfc_7638()).thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    assert_eq!(key(&rfc_8037()).thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn an_ec_thumbprint_is_that_of_the_canonical_text() {
    let (x, y) =
        ("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
    let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    let expected = URL_SAFE_NO_PAD.encode(sha256(&[canonical.as_bytes()]));
    assert_eq!(key(&json!({"y": y, "x": x, "crv": "P-256", "kty": "EC"})).thumbprint(), expected);
}

#[test]
fn a_key_written_as_jwk_reads_back_equal() {
    for jwk in [rfc_7638(), rfc_8037()] {
        let read = key(&jwk);
        let written = json!(read.jwk());
        assert_eq!(written["use"], "sig");
        assert_eq!(key(&written), read);
    }
}

#[test]
fn jw_01_a_key_permits_its_own_algorithms_only() {
    let permitted =
        |key: &PublicKey| -> Vec<_> { Algorithm::ALL.into_iter().filter(|one| key.permits(*one)).collect() };
    assert_eq!(permitted(&key(&rfc_8037())), [Algorithm::EdDsa]);
    assert_eq!(permitted(&key(&rfc_7638())), [Algorithm::Rs256]);
    let mut undeclared = rfc_7638();
    undeclared.as_object_mut().unwrap().remove("alg");
    assert_eq!(permitted(&key(&undeclared)).len(), 6);
    let p384 = PublicKey::new(Material::p384(&[4; 97]).unwrap(), None, None);
    assert_eq!(permitted(&p384), [Algorithm::Es384]);
}

#[test]
fn a_point_off_the_curve_verifies_nothing() {
    let off = PublicKey::new(Material::p256(&[4; 65]).unwrap(), None, None);
    assert_eq!(off.verify(Algorithm::Es256, b"", &[1; 64]), Err(JwsFault::BadSignature));
}

#[test]
fn es384_verifies() {
    let rng = SystemRandom::new();
    let algorithm = &ECDSA_P384_SHA384_FIXED_SIGNING;
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &rng).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &rng).unwrap();
    let key = PublicKey::new(Material::p384(pair.public_key().as_ref()).unwrap(), None, None);
    let signature = pair.sign(&rng, b"message").unwrap();
    assert_eq!(key.verify(Algorithm::Es384, b"message", signature.as_ref()), Ok(()));
    assert_eq!(key.verify(Algorithm::Es384, b"massage", signature.as_ref()), Err(JwsFault::BadSignature));
}

#[test]
fn an_rsa_signature_verifies_under_its_own_algorithm_only() {
    let rng = SystemRandom::new();
    let (_, document) = SigningKey::generate(KeySpec::Rsa2048, &rng).unwrap();
    let pair = RsaKeyPair::from_pkcs8(document.as_bytes()).unwrap();
    let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
    let key = PublicKey::new(Material::rsa(&public.n, &public.e), None, None);
    let encodings: [(Algorithm, &'static dyn RsaEncoding); 6] = [
        (Algorithm::Rs256, &RSA_PKCS1_SHA256),
        (Algorithm::Rs384, &RSA_PKCS1_SHA384),
        (Algorithm::Rs512, &RSA_PKCS1_SHA512),
        (Algorithm::Ps256, &RSA_PSS_SHA256),
        (Algorithm::Ps384, &RSA_PSS_SHA384),
        (Algorithm::Ps512, &RSA_PSS_SHA512),
    ];
    for (signed, encoding) in encodings {
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(encoding, &rng, b"message", &mut signature).unwrap();
        for (read, _) in encodings {
            let expected = if read == signed { Ok(()) } else { Err(JwsFault::BadSignature) };
            assert_eq!(key.verify(read, b"message", &signature), expected, "{signed} as {read}");
        }
    }
}
