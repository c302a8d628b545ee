use proptest::prelude::*;
use ring::rand::SystemRandom;
use serde_json::json;

use super::super::keyring::KeyRing;
use super::super::public::Material;
use super::super::signing::KeySpec;
use super::*;
use crate::domain::excerpt::Excerpt;
use crate::domain::json::JsonFault;

/// RFC 7515 appendix A.3: ES256, its key and its token.
const A3_X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const A3_Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
const A3: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

/// RFC 7515 appendix A.2: RS256.
const A2_N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
const A2: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

fn key(jwk: &Value) -> PublicKey {
    PublicKey::from_jwk(jwk.as_object().unwrap()).unwrap()
}

fn ec_key() -> PublicKey {
    key(&json!({"kty": "EC", "crv": "P-256", "x": A3_X, "y": A3_Y}))
}

fn rsa_key() -> PublicKey {
    key(&json!({"kty": "RSA", "n": A2_N, "e": "AQAB"}))
}

fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// A token of these texts with a signature that nobody made.
fn token(header: &str, payload: &str) -> String {
    format!("{}.{}.{}", encode(header), encode(payload), encode([7; 64]))
}

fn refusal(compact: &str) -> JwsFault {
    Jws::parse(compact).err().unwrap()
}

fn header_refusal(header: &str) -> JwsFault {
    refusal(&token(header, "{}"))
}

fn verify(compact: &str, key: &PublicKey) -> Result<Map<String, Value>, JwsFault> {
    Jws::parse(compact)?.verify(key).map(VerifiedJws::into_claims)
}

#[test]
fn rfc_7515_a_3_es256_verifies() {
    let claims = verify(A3, &ec_key()).unwrap();
    let expected = json!({"iss": "joe", "exp": 1_300_819_380, "http://example.com/is_root": true});
    assert_eq!(Value::Object(claims), expected);
}

#[test]
fn rfc_7515_a_2_rs256_verifies() {
    let verified = Jws::parse(A2).unwrap().verify(&rsa_key()).unwrap();
    assert_eq!(verified.claims()["iss"], "joe");
    assert_eq!(verified.algorithm(), Algorithm::Rs256);
    assert_eq!(verified.verified_by(), rsa_key().thumbprint());
    assert_eq!(verified.expires_at(), Ok(Some(1_300_819_380)));
}

#[test]
fn a_change_of_any_one_byte_fails() {
    for (compact, key) in [(A3, ec_key()), (A2, rsa_key())] {
        for at in 0..compact.len() {
            let mut bytes = compact.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(verify(&changed, &key).is_err(), "byte {at}");
        }
    }
}

#[test]
fn jw_01_alg_none_is_refused() {
    for name in ["none", "None", "nOnE"] {
        let header = format!(r#"{{"alg":"{name}"}}"#);
        assert_eq!(header_refusal(&header), JwsFault::Algorithm(Excerpt::of(name)));
        let unsigned = format!("{}.{}.", encode(&header), encode("{}"));
        assert_eq!(refusal(&unsigned), JwsFault::Algorithm(Excerpt::of(name)));
    }
    assert_eq!(header_refusal("{}"), JwsFault::HeaderMember("alg"));
    assert_eq!(header_refusal(r#"{"alg":null}"#), JwsFault::HeaderMember("alg"));
    assert_eq!(header_refusal(r#"{"alg":["ES256"]}"#), JwsFault::HeaderMember("alg"));
}

#[test]
fn jw_01_hs256_with_the_bytes_of_a_public_key_is_refused() {
    let input = format!("{}.{}", encode(r#"{"alg":"HS256"}"#), encode(r#"{"iss":"joe"}"#));
    let secret = URL_SAFE_NO_PAD.decode(A2_N).unwrap();
    let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret), input.as_bytes());
    let forged = format!("{input}.{}", encode(tag.as_ref()));
    assert_eq!(refusal(&forged), JwsFault::Algorithm(Excerpt::of("HS256")));
}

#[test]
fn jw_01_a_header_algorithm_of_another_key_type_is_refused() {
    for (name, key) in [("RS256", ec_key()), ("EdDSA", ec_key()), ("ES384", ec_key()), ("ES256", rsa_key())] {
        let forged = token(&format!(r#"{{"alg":"{name}"}}"#), "{}");
        assert_eq!(verify(&forged, &key).unwrap_err(), JwsFault::KeyMismatch, "{name}");
    }
}

#[test]
fn jw_01_an_algorithm_other_than_that_of_the_jwk_is_refused() {
    let ps256 = key(&json!({"kty": "RSA", "n": A2_N, "e": "AQAB", "alg": "PS256"}));
    assert_eq!(verify(A2, &ps256).unwrap_err(), JwsFault::KeyMismatch);
}

#[test]
fn jw_02_crit_is_refused() {
    for crit in [r#"["exp"]"#, r#"["b64"]"#, "[]", "null"] {
        assert_eq!(header_refusal(&format!(r#"{{"alg":"ES256","crit":{crit}}}"#)), JwsFault::Critical);
    }
}

#[test]
fn jw_02_keys_named_in_the_header_are_ignored() {
    let ring = KeyRing::ephemeral(KeySpec::Es256, SystemRandom::new()).unwrap();
    let ours = ring.sign("jwt", &json!({"iss": "mallory"})).unwrap();
    let header = json!({
        "alg": "ES256", "jwk": ring.jwks()["keys"][0], "jku": "https://mallory.example/jwks",
        "x5u": "https://mallory.example/x5u", "x5c": ["AAAA"],
    });
    let rest = ours.split_once('.').unwrap().1;
    let forged = format!("{}.{rest}", encode(header.to_string()));
    assert_eq!(verify(&forged, &ec_key()).unwrap_err(), JwsFault::BadSignature);
}

#[test]
fn jw_02_a_kid_is_any_string_and_nothing_else() {
    let header = r#"{"alg":"ES256","kid":"../../etc/passwd' OR 1=1 --"}"#;
    let hostile = token(header, "{}");
    assert_eq!(Jws::parse(&hostile).unwrap().unverified().kid, Some("../../etc/passwd' OR 1=1 --"));
    assert_eq!(header_refusal(r#"{"alg":"ES256","kid":7}"#), JwsFault::HeaderMember("kid"));
}

#[test]
fn at_01_only_the_wanted_typ_is_that_typ() {
    let is = |typ: &str, expected: &str| {
        let compact = token(&json!({"alg": "ES256", "typ": typ}).to_string(), "{}");
        Jws::parse(&compact).unwrap().typ_is(expected)
    };
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        assert!(is(typ, "at+jwt"), "{typ}");
        assert!(is(typ, "application/at+jwt"), "{typ}");
    }
    for typ in ["jwt", "at+jwt ", "", "text/at+jwt", "application/application/at+jwt", "at+jwt;x=1"] {
        assert!(!is(typ, "at+jwt"), "{typ}");
    }
    assert!(!Jws::parse(A3).unwrap().typ_is("jwt"));
    assert_eq!(header_refusal(r#"{"alg":"ES256","typ":1}"#), JwsFault::HeaderMember("typ"));
}

#[test]
fn a_token_of_another_issuers_key_does_not_verify() {
    let ours = KeyRing::ephemeral(KeySpec::Es256, SystemRandom::new()).unwrap();
    let other = KeyRing::ephemeral(KeySpec::Es256, SystemRandom::new()).unwrap();
    let foreign = other.sign("at+jwt", &json!({"iss": "us"})).unwrap();
    let fault = ours.verify_own(Jws::parse(&foreign).unwrap()).err();
    assert_eq!(fault, Some(JwsFault::UnknownKey));
}

#[test]
fn jw_05_a_member_twice_is_refused_in_header_and_payload() {
    let twice = |name| JsonFault::Duplicate(Excerpt::of(name));
    let header = header_refusal(r#"{"alg":"none","alg":"ES256"}"#);
    assert_eq!(header, JwsFault::Json(Part::Header, twice("alg")));
    for (payload, name) in [
        (r#"{"sub":"a","sub":"b"}"#, "sub"),
        (r#"{"act":{"sub":"a","sub":"b"}}"#, "sub"),
        (r#"{"a":[{"b":{"c":1,"c":1}}]}"#, "c"),
    ] {
        let fault = refusal(&token(r#"{"alg":"ES256"}"#, payload));
        assert_eq!(fault, JwsFault::Json(Part::Payload, twice(name)));
    }
}

#[test]
fn jw_05_header_and_payload_must_be_objects() {
    assert_eq!(header_refusal("[]"), JwsFault::Json(Part::Header, JsonFault::NotAnObject));
    let fault = refusal(&token(r#"{"alg":"ES256"}"#, "\"text\""));
    assert_eq!(fault, JwsFault::Json(Part::Payload, JsonFault::NotAnObject));
    let fault = refusal(&token(r#"{"alg":"ES256"}"#, "not json"));
    assert_eq!(fault, JwsFault::Json(Part::Payload, JsonFault::Syntax));
}

#[test]
fn jw_06_padding_is_refused() {
    let (input, signature) = A3.rsplit_once('.').unwrap();
    let (header, payload) = input.split_once('.').unwrap();
    let padded = [
        (format!("{header}=.{payload}.{signature}"), Part::Header),
        (format!("{header}.{payload}==.{signature}"), Part::Payload),
        (format!("{header}.{payload}.{signature}=="), Part::Signature),
    ];
    for (compact, part) in padded {
        assert_eq!(refusal(&compact), JwsFault::Base64(part));
    }
}

#[test]
fn jw_06_whitespace_and_foreign_characters_are_refused() {
    let bent = [
        format!(" {A3}"),
        format!("{A3}\n"),
        A3.replacen("FUzI1", "FUz\nI1", 1),
        A2.replacen('_', "/", 1),
        A2.replacen('-', "+", 1),
    ];
    for compact in bent {
        assert!(compact != A3 && compact != A2);
        assert!(matches!(refusal(&compact), JwsFault::Base64(_)), "{compact}");
    }
}

#[test]
fn jw_06_nonzero_trailing_bits_are_refused() {
    // 64 bytes end in a character of two used bits: `Q` is canonical, `R` to `f` decode alike where bits are ignored.
    assert!(A3.ends_with('Q'));
    for last in ['R', 'S', 'Z', 'f'] {
        let spelled = format!("{}{last}", A3.strip_suffix('Q').unwrap());
        assert_eq!(refusal(&spelled), JwsFault::Base64(Part::Signature));
    }
}

#[test]
fn jw_06_only_three_parts_are_a_token() {
    for compact in ["", ".", "a", "a.b", "a.b.c.d", "a.b.c.d.e", "{\"payload\":\"\"}"] {
        assert_eq!(refusal(compact), JwsFault::NotThreeParts, "{compact}");
    }
}

#[test]
fn jw_06_a_token_over_16_kib_is_not_looked_at() {
    let sized = |len: usize| {
        let frame = token(r#"{"alg":"ES256"}"#, "").len();
        format!("{}{}", token(r#"{"alg":"ES256"}"#, ""), "A".repeat(len - frame))
    };
    assert_eq!(refusal(&sized(MAX_COMPACT + 1)), JwsFault::TooLong { len: 16_385, max: 16_384 });
    assert!(!matches!(refusal(&sized(MAX_COMPACT)), JwsFault::TooLong { .. }));
}

#[test]
fn jw_06_a_depth_bomb_is_refused_without_using_the_stack() {
    let deep = |levels: usize| format!("{}1{}", r#"{"act":"#.repeat(levels), "}".repeat(levels));
    let at_cap = token(r#"{"alg":"ES256"}"#, &deep(32));
    assert!(Jws::parse(&at_cap).is_ok());
    let fault = refusal(&token(r#"{"alg":"ES256"}"#, &deep(33)));
    assert_eq!(fault, JwsFault::Json(Part::Payload, JsonFault::TooDeep));
    let bomb = token(r#"{"alg":"ES256"}"#, &format!(r#"{{"a":{}"#, "[".repeat(10_000)));
    assert_eq!(refusal(&bomb), JwsFault::Json(Part::Payload, JsonFault::TooDeep));
}

#[test]
fn an_unverified_token_shows_its_issuer_and_no_more() {
    let shown = Jws::parse(A3).unwrap().unverified().issuer.map(str::to_owned);
    assert_eq!(shown.as_deref(), Some("joe"));
    let odd = token(r#"{"alg":"ES256"}"#, r#"{"iss":["joe"]}"#);
    assert_eq!(Jws::parse(&odd).unwrap().unverified().issuer, None);
}

#[test]
fn of_several_keys_the_one_that_signed_verifies_and_is_named() {
    let (ec, rsa) = (ec_key(), rsa_key());
    let wrong = PublicKey::new(Material::p256(&[4; 65]).unwrap(), None, None);
    let verified = Jws::parse(A3).unwrap().verify_any(&[&wrong, &rsa, &ec]).unwrap();
    assert_eq!(verified.verified_by(), ec.thumbprint());
    assert_eq!(Jws::parse(A3).unwrap().verify_any(&[]).err(), Some(JwsFault::UnknownKey));
    let many = [&wrong; MAX_TRIALS + 1];
    assert_eq!(Jws::parse(A3).unwrap().verify_any(&many).err(), Some(JwsFault::Ambiguous(9)));
}

#[test]
fn a_refusal_shows_input_cut_and_clean() {
    let name = format!("none`\u{1b}\\\"{}", "x".repeat(1000));
    let text = header_refusal(&json!({ "alg": name }).to_string()).to_string();
    assert!(text.starts_with("token algorithm `none????xxx"), "{text}");
    assert!(text.len() < 120, "{text}");
}

proptest! {
    #[test]
    fn parse_never_panics(text in any::<String>()) {
        let _ = Jws::parse(&text).is_ok();
    }

    #[test]
    fn parse_never_panics_on_three_parts(header in any::<Vec<u8>>(), payload in any::<Vec<u8>>(), tail in "[A-Za-z0-9_.=-]{0,90}") {
        let compact = format!("{}.{}.{tail}", encode(header), encode(payload));
        let _ = Jws::parse(&compact).is_ok();
    }

    #[test]
    fn parse_never_panics_on_a_token_with_a_hole(at in 0..A2.len(), with in any::<char>()) {
        let damaged = format!("{}{with}{}", &A2[..at], &A2[at + 1..]);
        if let Ok(jws) = Jws::parse(&damaged) {
            prop_assert!(jws.verify(&rsa_key()).is_err() || damaged == A2);
        }
    }
}
