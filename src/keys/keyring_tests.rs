use std::fs::{Permissions, metadata, set_permissions, write};
use std::os::unix::fs::PermissionsExt;

use super::super::jwks::JwkSet;
use super::*;
use crate::clock::ShiftedClock;

fn open(folder: &Path, spec: KeySpec) -> Result<KeyRing, KeyRingFault> {
    KeyRing::open(folder, spec, SystemRandom::new())
}

fn verified(ring: &KeyRing, compact: &str) -> Result<VerifiedJws, JwsFault> {
    ring.verify_own(Jws::parse(compact)?)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_first_start_makes_a_key_and_the_next_loads_it() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("keys");
    let first = open(&folder, KeySpec::Es256).unwrap();
    assert_eq!(names(&folder), ["0001-es256.pem"]);
    assert_eq!(metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let token = first.sign(ACCESS_TOKEN, &json!({"sub": "a"})).unwrap();
    let second = open(&folder, KeySpec::Es256).unwrap();
    assert_eq!(second.kid(), first.kid());
    assert_eq!(names(&folder).len(), 1);
    assert_eq!(verified(&second, &token).unwrap().claims()["sub"], "a");
}

#[test]
fn every_algorithm_signs_tokens_that_the_published_set_verifies() {
    for spec in [KeySpec::Es256, KeySpec::EdDsa, KeySpec::Rsa2048] {
        let ring = KeyRing::ephemeral(spec, SystemRandom::new()).unwrap();
        let token = ring.sign(ACCESS_TOKEN, &json!({"iss": "us", "n": 1})).unwrap();
        let set = JwkSet::parse(ring.jwks().to_string().as_bytes()).unwrap();
        let jws = Jws::parse(&token).unwrap();
        let keys = set.find(jws.unverified().kid, spec.algorithm());
        let verified = jws.verify_any(&keys).unwrap();
        assert_eq!(json!(verified.claims()), json!({"iss": "us", "n": 1}));
        assert!(verified.typ_is(ACCESS_TOKEN));
        assert_eq!((verified.kid(), verified.verified_by()), (Some(ring.kid()), ring.kid()));
    }
}

#[test]
fn the_published_keys_say_what_they_are_for_and_hold_nothing_private() {
    let ring = KeyRing::ephemeral(KeySpec::Es256, SystemRandom::new()).unwrap();
    let key = ring.jwks()["keys"][0].as_object().unwrap();
    let members: Vec<&str> = key.keys().map(String::as_str).collect();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
    assert_eq!((&key["alg"], &key["use"]), (&json!("ES256"), &json!("sig")));
    assert_eq!(key["kid"], ring.kid());
}

#[test]
fn a_change_of_algorithm_keeps_older_tokens_good() {
    let folder = tempfile::tempdir().unwrap();
    let old = open(folder.path(), KeySpec::Es256).unwrap();
    let token = old.sign(ACCESS_TOKEN, &json!({"sub": "a"})).unwrap();
    let new = open(folder.path(), KeySpec::EdDsa).unwrap();
    assert_eq!(names(folder.path()), ["0001-es256.pem", "0002-eddsa.pem"]);
    assert_eq!(new.algorithm(), Algorithm::EdDsa);
    assert_eq!(new.jwks()["keys"][0]["kid"], new.kid());
    assert_eq!(new.jwks()["keys"].as_array().unwrap().len(), 2);
    assert!(verified(&new, &token).is_ok());
    let back = open(folder.path(), KeySpec::Es256).unwrap();
    assert_eq!(back.kid(), old.kid());
}

#[test]
fn the_highest_number_signs() {
    let folder = tempfile::tempdir().unwrap();
    let old = open(folder.path(), KeySpec::Es256).unwrap();
    let (next, document) = SigningKey::generate(KeySpec::Es256, &SystemRandom::new()).unwrap();
    document.save(&folder.path().join("0010-es256.pem")).unwrap();
    let ring = open(folder.path(), KeySpec::Es256).unwrap();
    assert_eq!(ring.kid(), next.kid());
    assert_eq!(ring.jwks()["keys"][1]["kid"], old.kid());
}

#[test]
fn a_key_open_to_others_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path(), KeySpec::Es256).unwrap();
    let path = folder.path().join("0001-es256.pem");
    set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let text = open(folder.path(), KeySpec::Es256).unwrap_err().to_string();
    assert!(text.contains("0001-es256.pem") && text.contains("chmod 600"), "{text}");
}

#[test]
fn other_files_are_left_alone_and_a_damaged_key_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["README.md", "es256.pem", "x-es256.pem", "0001-es256.pem.bak"] {
        write(folder.path().join(name), "").unwrap();
    }
    open(folder.path(), KeySpec::Es256).unwrap();
    let short = folder.path().join("0002-es256.pem");
    write(&short, "-----BEGIN PRIVATE KEY-----\n").unwrap();
    set_permissions(&short, Permissions::from_mode(0o600)).unwrap();
    let text = open(folder.path(), KeySpec::Es256).unwrap_err().to_string();
    assert!(text.contains("0002-es256.pem"), "{text}");
}

#[test]
fn any_typ_is_written_as_json() {
    let ring = KeyRing::ephemeral(KeySpec::Es256, SystemRandom::new()).unwrap();
    let typ = r#"a","alg":"none"#;
    let token = ring.sign(typ, &json!({})).unwrap();
    assert_eq!(Jws::parse(&token).unwrap().unverified().typ, Some(typ));
    assert!(verified(&ring, &token).unwrap().typ_is(typ));
}

#[test]
fn a_token_without_kid_or_with_anothers_is_not_ours() {
    let ring = KeyRing::ephemeral(KeySpec::Es256, SystemRandom::new()).unwrap();
    let token = ring.sign(ACCESS_TOKEN, &json!({})).unwrap();
    let rest = token.split_once('.').unwrap().1;
    for header in [json!({"alg": "ES256"}), json!({"alg": "ES256", "kid": "other"})] {
        let forged = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()));
        assert_eq!(verified(&ring, &forged).err(), Some(JwsFault::UnknownKey));
    }
    let header = json!({"alg": "RS256", "kid": ring.kid()});
    let forged = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()));
    assert_eq!(verified(&ring, &forged).err(), Some(JwsFault::KeyMismatch));
}

#[test]
fn claims_that_are_no_json_object_cannot_be_read_back_as_a_token() {
    let ring = KeyRing::ephemeral(KeySpec::EdDsa, SystemRandom::new()).unwrap();
    let bad = std::collections::BTreeMap::from([((1, 2), 3)]);
    assert!(matches!(ring.sign("jwt", &bad), Err(SignFault::Claims(_))));
    assert!(Jws::parse(&ring.sign("jwt", &7).unwrap()).is_err());
}

#[test]
fn a_key_ring_does_not_print_private_parts() {
    let ring = KeyRing::ephemeral(KeySpec::Es256, SystemRandom::new()).unwrap();
    assert!(format!("{ring:?}").contains("private part redacted"));
}

/// Loads knowing that `signer` has signed so far.
fn load(folder: &Path, signer: &str, clock: &ShiftedClock) -> KeyRing {
    let known = Known { signer: Some(signer.to_owned()), ..Known::default() };
    KeyRing::load(folder, KeySpec::Es256, SystemRandom::new(), &known, clock).unwrap()
}

#[test]
fn a_key_takes_over_from_a_known_one_only_after_everybody_could_know_it() {
    assert!(TAKEOVER.to_std().unwrap() > MAX_AGE);
    let folder = tempfile::tempdir().unwrap();
    let clock = ShiftedClock::default();
    let old = open(folder.path(), KeySpec::Es256).unwrap();
    let fresh = Fresh::make(folder.path(), KeySpec::Es256, &SystemRandom::new()).unwrap();
    let ring = load(folder.path(), old.kid(), &clock);
    let (next, not_before) = ring.next().unwrap();
    assert_eq!((ring.kid(), next), (old.kid(), fresh.kid()));
    assert!(not_before > clock.now() + TimeDelta::seconds(359));
    assert_eq!(ring.jwks()["keys"].as_array().unwrap().len(), 2);
    // Setting the clock does not shorten the wait.
    clock.step(86_400);
    clock.shift(350);
    assert!(ring.promoted(&clock).is_none());
    // Reading the folder again goes on with it.
    let again = |known: &Known| {
        KeyRing::load(folder.path(), KeySpec::Es256, SystemRandom::new(), known, &clock).unwrap()
    };
    assert_eq!(again(&ring.known()).next(), ring.next());
    clock.shift(10);
    let promoted = again(&ring.known()).promoted(&clock).unwrap();
    assert_eq!((promoted.kid(), promoted.next(), promoted.since().is_some()), (fresh.kid(), None, true));
    assert_eq!(promoted.jwks()["keys"][0]["kid"], fresh.kid());
    let token = old.sign(ACCESS_TOKEN, &json!({})).unwrap();
    assert!(verified(&promoted, &token).is_ok());
    assert_eq!(again(&promoted.known()).kid(), fresh.kid());
}

#[test]
fn a_signer_whose_file_is_gone_leaves_the_wanted_key_to_sign_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let only = open(folder.path(), KeySpec::Es256).unwrap();
    let ring = load(folder.path(), "gone", &ShiftedClock::default());
    assert_eq!((ring.kid(), ring.next()), (only.kid(), None));
}

#[test]
fn a_stopped_key_is_never_published_again_and_another_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let old = open(folder.path(), KeySpec::Es256).unwrap();
    let token = old.sign(ACCESS_TOKEN, &json!({})).unwrap();
    let stopped = BTreeSet::from([old.kid().to_owned()]);
    let known = Known { signer: Some(old.kid().to_owned()), stopped: stopped.clone(), ..Known::default() };
    let ring = KeyRing::load(folder.path(), KeySpec::Es256, SystemRandom::new(), &known, &SystemClock);
    let ring = ring.unwrap();
    assert_ne!(ring.kid(), old.kid());
    assert_eq!(verified(&ring, &token).err(), Some(JwsFault::UnknownKey));
    let fresh = Fresh::make(folder.path(), KeySpec::Es256, &SystemRandom::new()).unwrap();
    let (made, now) = (fresh.kid().to_owned(), DateTime::from_timestamp(1, 0).unwrap());
    let after = ring.without(&BTreeSet::from([ring.kid().to_owned()]), true, Some((fresh, now)));
    assert_eq!((after.kid(), after.published().len()), (&*made, 1));
    assert_eq!(after.known().stopped, BTreeSet::from([ring.kid().to_owned(), old.kid().to_owned()]));
}
