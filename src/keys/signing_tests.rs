use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;

use super::*;

fn generated(spec: KeySpec) -> (SigningKey, PrivateDocument) {
    SigningKey::generate(spec, &SystemRandom::new()).unwrap()
}

#[test]
fn every_kind_of_key_signs_what_its_public_half_verifies_and_survives_its_document() {
    let rng = SystemRandom::new();
    for spec in [KeySpec::Es256, KeySpec::EdDsa, KeySpec::Rsa2048] {
        let (key, document) = generated(spec);
        assert_eq!(key.algorithm(), spec.algorithm());
        let again = SigningKey::from_pkcs8(&document, &rng).unwrap();
        assert_eq!(again.kid(), key.kid());
        let signature = again.sign(b"message", &rng).unwrap();
        assert_eq!(key.public().verify(spec.algorithm(), b"message", &signature), Ok(()), "{spec:?}");
        assert!(key.public().verify(spec.algorithm(), b"massage", &signature).is_err(), "{spec:?}");
    }
}

#[test]
fn rfc_8037_a_4_ed25519_signs() {
    let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
    // PKCS#8 version 1, as `openssl genpkey -algorithm ed25519` writes it (RFC 8410 §10.3).
    let mut der =
        vec![0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    der.extend(seed);
    let rng = SystemRandom::new();
    let key = SigningKey::from_der(&der, &rng).unwrap();
    assert_eq!(key.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let expected = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert_eq!(URL_SAFE_NO_PAD.encode(key.sign(message, &rng).unwrap()), expected);
}

#[test]
fn a_key_of_another_kind_is_unsupported() {
    let rng = SystemRandom::new();
    let p384 = EcdsaKeyPair::generate_pkcs8(&ring::signature::ECDSA_P384_SHA384_FIXED_SIGNING, &rng).unwrap();
    assert_eq!(SigningKey::from_der(p384.as_ref(), &rng).unwrap_err(), SigningFault::Unsupported);
}

#[test]
fn a_damaged_key_is_rejected() {
    let rng = SystemRandom::new();
    let (_, document) = generated(KeySpec::Es256);
    let mut der = document.as_bytes().to_vec();
    *der.last_mut().unwrap() ^= 1;
    assert_eq!(SigningKey::from_der(&der, &rng).unwrap_err(), SigningFault::Rejected);
    assert_eq!(SigningKey::from_der(&[], &rng).unwrap_err(), SigningFault::Rejected);
}

#[test]
fn a_signing_key_does_not_print_its_private_part() {
    let (key, document) = generated(KeySpec::Es256);
    let shown = format!("{key:?}");
    assert_eq!(shown, format!("SigningKey(ES256, {}, private part redacted)", key.kid()));
    assert!(!shown.contains(&URL_SAFE_NO_PAD.encode(document.as_bytes())));
}

#[test]
fn names_of_specs_read_as_documented() {
    assert_eq!("ES256".parse(), Ok(KeySpec::Es256));
    assert_eq!("EdDSA".parse(), Ok(KeySpec::EdDsa));
    assert_eq!("RS256".parse(), Ok(KeySpec::Rsa2048));
    assert_eq!("RS256-3072".parse(), Ok(KeySpec::Rsa3072));
    assert_eq!("HS256".parse::<KeySpec>(), Err(UnknownAlgorithm));
    assert_eq!(KeySpec::default(), KeySpec::Es256);
}
