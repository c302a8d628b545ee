//! JWTs from outside (RFC 7515, RFC 8725): read in one way or not at all, believed by the signature alone, and what is
//! believed means what it says.

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Map, Value, json};
use taskgrant::clock::ShiftedClock;
use taskgrant::configuration::apply::fit;
use taskgrant::domain::capability::never_wider;
use taskgrant::domain::chain::{Actor, Chain, MAX_CHAIN};
use taskgrant::domain::claims::{Envelope, TokenClaims};
use taskgrant::domain::ids::ClientId;
use taskgrant::domain::json;
use taskgrant::domain::snapshot::Snapshot;
use taskgrant::issuers::actor::verify_actor;
use taskgrant::issuers::assertion::{MAX_AHEAD, verify_assertion};
use taskgrant::issuers::keyset::Freshness;
use taskgrant::issuers::keysets::KeySets;
use taskgrant::issuers::outbound::{Outbound, OutboundPolicy};
use taskgrant::issuers::session::{self, Issuers, LEEWAY};
use taskgrant::issuers::workload::{Workload, workload_issuer};
use taskgrant::keys::algorithm::Algorithm;
use taskgrant::keys::jwks::{JwkSet, MAX_KEYS};
use taskgrant::keys::jws::{Jws, MAX_COMPACT};
use taskgrant::keys::public::PublicKey;
use taskgrant::metrics::Metrics;
use tokio::runtime::Runtime;

use super::{KEY, OWN, public_x, world};

/// What verifies: the key that signs here beside two that signed elsewhere (RFC 7517, appendix A.1).
static KEYS: LazyLock<JwkSet> = LazyLock::new(|| {
    let ec = json!({"kty": "EC", "crv": "P-256", "kid": "ec", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"});
    let rsa = json!({"kty": "RSA", "kid": "rsa", "e": "AQAB", "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"});
    let own = json!({"kty": "OKP", "crv": "Ed25519", "kid": "k1", "alg": "EdDSA", "x": public_x()});
    JwkSet::parse(json!({"keys": [ec, rsa, own]}).to_string().as_bytes()).unwrap()
});

static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| fit(&world(), &[], OWN).unwrap().0);

/// Who verifies the tokens of platforms: their keys are declared, so that nothing is fetched.
static PLATFORMS: LazyLock<(Runtime, Issuers)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let platforms: Vec<_> = world().into_iter().filter(|o| o.id.kind.as_str() != "TrustedIssuer").collect();
    let platforms: Vec<_> = platforms.into_iter().filter(|o| o.id.kind.as_str() != "Agent").collect();
    let (snapshot, _) = fit(&platforms, &[], OWN).unwrap();
    let outbound = Outbound::new(OutboundPolicy::default()).unwrap();
    let issuers = {
        let _within = runtime.enter();
        let clock = Arc::new(ShiftedClock::default());
        let key_sets = KeySets::start(outbound, Freshness::default(), clock, Arc::new(Metrics::default()));
        key_sets.follow(&snapshot);
        Issuers::new(Arc::new(key_sets), 0)
    };
    (runtime, issuers)
});

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).unwrap()
}

/// A compact JWT as it comes; or a header and claims, one after the other with a line break between, to be signed; or keys.
pub(crate) fn body(input: &[u8]) {
    key_set(input);
    let Ok(text) = std::str::from_utf8(input) else { return };
    presented(text);
    if let Some((header, claims)) = text.split_once('\n') {
        let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let signature = URL_SAFE_NO_PAD.encode(KEY.sign(signed.as_bytes()));
        presented(&format!("{signed}.{signature}"));
    }
}

/// Keys from outside (RFC 7517): bounded, public, and written as they are read.
fn key_set(input: &[u8]) {
    let Ok(keys) = JwkSet::parse(input) else { return };
    assert!(keys.keys().len() + keys.skipped().len() <= MAX_KEYS);
    for key in keys.keys() {
        let written = serde_json::to_value(key.jwk()).unwrap();
        let again = PublicKey::from_jwk(written.as_object().unwrap()).unwrap();
        // A certificate is read and not written.
        let told =
            |key: &PublicKey| (key.thumbprint().to_owned(), key.kid().map(str::to_owned), key.declared());
        assert_eq!(told(&again), told(key), "{written}");
        assert_eq!(serde_json::to_value(again.jwk()).unwrap(), written);
        assert!(key.certificate().is_some() || again == *key, "{written}");
        assert!(Algorithm::ALL.into_iter().any(|algorithm| key.permits(algorithm)));
        let found = |algorithm| keys.find(key.kid(), algorithm).contains(&key);
        assert!(Algorithm::ALL.into_iter().all(|algorithm| found(algorithm) == key.permits(algorithm)));
        assert!(key.verify(Algorithm::EdDsa, b"message", &[0; 64]).is_err());
    }
}

fn presented(compact: &str) {
    let Ok(jws) = Jws::parse(compact) else { return };
    let parts: Vec<&str> = compact.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("{compact}") };
    assert!(compact.len() <= MAX_COMPACT);
    let bytes = [header, payload, signature].map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
    for (part, bytes) in [header, payload, signature].iter().zip(&bytes) {
        assert_eq!(URL_SAFE_NO_PAD.encode(bytes), *part, "one spelling");
    }
    let [header_json, claims, signature] = bytes;
    let object = |json: &[u8]| serde_json::from_slice::<Map<String, Value>>(json).unwrap();
    let (header_json, claims) = (object(&header_json), object(&claims));
    let text =
        |object: &Map<String, Value>, name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
    let told = jws.unverified();
    assert_eq!(text(&header_json, "alg").as_deref(), Some(told.algorithm.name()), "one of the closed list");
    assert_eq!(text(&header_json, "kid").as_deref(), told.kid);
    assert_eq!(text(&header_json, "typ").as_deref(), told.typ);
    assert_eq!(text(&claims, "iss").as_deref(), told.issuer);
    assert!(!header_json.contains_key("crit"));
    let signed = &compact[..header.len() + 1 + payload.len()];
    let is_ours = told.algorithm == Algorithm::EdDsa && is_genuine(&KEY, signed.as_bytes(), &signature);
    let is_named = told.kid.is_none_or(|kid| kid == "k1");
    let (algorithm, kid) = (told.algorithm, told.kid.map(str::to_owned));
    doors(compact, is_ours, &claims);
    let verified = jws.verify_any(&KEYS.find(kid.as_deref(), algorithm));
    assert_eq!(verified.is_ok(), is_ours && is_named, "believed by the signature, and by nothing else");
    if let Ok(verified) = verified {
        assert_eq!(verified.claims(), &claims);
        own_claims(verified.into_claims());
    }
    if is_ours {
        session(&claims);
    }
}

/// Whether the key has made this very signature; Ed25519 makes one only (RFC 8032 §5.1.6).
fn is_genuine(key: &Ed25519KeyPair, signed: &[u8], signature: &[u8]) -> bool {
    assert_eq!(key.public_key().as_ref().len(), 32);
    key.sign(signed).as_ref() == signature
}

/// Each place that takes a JWT takes none that is not signed, not meant for this server alone, or not of its time.
fn doors(compact: &str, is_ours: bool, claims: &Map<String, Value>) {
    let parse = || Jws::parse(compact).unwrap();
    let agent: ClientId = "support-agent".parse().unwrap();
    let for_us = || claims.get("aud").is_some_and(|aud| aud == OWN || *aud == json!([OWN]));
    let at = now().timestamp();
    let assertion = verify_assertion(parse(), (&agent, &KEYS, &["EdDSA".to_owned()]), OWN, now());
    if let Ok(assertion) = assertion {
        assert!(is_ours && for_us() && claims["iss"] == "support-agent" && claims["sub"] == "support-agent");
        assert!((1..=MAX_AHEAD).contains(&(assertion.expires_at.timestamp() - at)));
        assert_eq!(claims["jti"], *assertion.jti);
        assert!(!claims.contains_key("cnf") && !claims.contains_key("events"));
    }
    if let Ok(instance) = verify_actor(parse(), &KEYS, &agent, OWN, now()) {
        assert!(is_ours && for_us() && claims["iss"] == "support-agent" && claims["sub"] == *instance);
        assert!(instance.len() <= 128 && instance.bytes().all(|b| b.is_ascii_graphic()));
        assert!(!claims.contains_key("act") && !claims.contains_key("may_act"));
        assert!(parse().typ_is("actor+jwt"));
    }
    let jws = parse();
    if let Some(issuer) = workload_issuer(&SNAPSHOT, &jws).cloned() {
        let (runtime, issuers) = &*PLATFORMS;
        if let Ok(workload) = runtime.block_on(issuers.verify_workload(&issuer, jws, OWN, now())) {
            assert!(is_ours && for_us() && claims["sub"] == *workload.subject);
            is_as_told(&workload, claims);
        }
    }
}

fn is_as_told(workload: &Workload, claims: &Map<String, Value>) {
    let uid = |object: &str| claims.get("kubernetes.io")?.get(object)?.get("uid")?.as_str();
    let is_platform = !workload.subject.starts_with("spiffe://");
    assert!(workload.uid.is_none() || is_platform && workload.uid.as_deref() == uid("serviceaccount"));
    let instance = &workload.instance;
    assert!(*instance == workload.subject || is_platform && uid("pod") == Some(instance));
    let seconds = |claim: &str| claims.get(claim).and_then(Value::as_f64);
    let at = 1_790_000_000.0;
    assert!(seconds("exp").unwrap() > at && seconds("iat").is_none_or(|iat| iat < at + 31.0));
    assert!(!claims.contains_key("cnf") && LEEWAY == 30);
}

/// The claims of a token of ours: kept as they were issued, and no token wider than itself (L1).
fn own_claims(claims: Map<String, Value>) {
    let Ok(claims) = TokenClaims::read(claims) else { return };
    let again = TokenClaims::read(json::object(&claims.canonical()).unwrap());
    assert_eq!(again.as_ref(), Ok(&claims), "the canonical form is read as it is written");
    assert_eq!(again.unwrap().canonical(), claims.canonical());
    if let Ok((name, version)) = claims.task_type() {
        assert!(claims.task_type.starts_with(&format!("{name}@")) && version.to_string().len() < 21);
    }
    let rules = SNAPSHOT.detail_rules(&claims.tenant);
    let Ok(grant) = claims.grant(&rules) else { return };
    if claims.exp <= claims.task_exp {
        assert_eq!(never_wider(&grant, &grant), Ok(()), "nothing is wider than itself");
    }
    let envelope = Envelope {
        issuer: claims.iss.clone(),
        jti: claims.jti,
        parent: claims.parent_jti,
        iat: now(),
        subject: claims.sub.clone(),
        task_type: claims.task_type.clone(),
        login: claims.login(),
        approval: claims.approval.clone(),
        status: None,
    };
    let issued = TokenClaims::new(&grant, envelope);
    assert_eq!(issued.grant(&rules).as_ref(), Ok(&grant), "what a token says is what is said of it");
}

/// The claims of a session token: principal, tenant and end are the issuer's word, and nothing else is taken along (L10).
fn session(claims: &Map<String, Value>) {
    let Ok(told) = session::unverified(&SNAPSHOT, claims) else { return };
    let session = told.as_if_verified();
    let spec = &session.issuer.spec;
    assert_eq!(claims["iss"], *spec.issuer);
    assert_eq!(claims["sub"], *session.principal.sub);
    assert_eq!(session.subject, format!("{}{}", spec.subject_prefix, session.principal.sub));
    assert!(!SNAPSHOT.is_client(&session.subject), "no principal is a client");
    assert!(SNAPSHOT.tenant(&session.tenant).is_some() && !session.tenant.is_system());
    assert!(session.issuer.reach.serves(&session.tenant), "tenants never meet");
    assert!(spec.tenant_claim.is_none() || claims["org_id"] == *session.tenant.as_str());
    assert!(!claims.contains_key("cnf") && session.amr.len() <= 16);
    let audiences = claims["aud"].as_array().cloned().unwrap_or_else(|| vec![claims["aud"].clone()]);
    let takes =
        |audience: &Value| spec.accept.iter().any(|a| a.kind == session.kind && *audience == *a.audience);
    assert!(audiences.iter().any(takes));
    let kept: Vec<&str> = session.issuer.kept_claims().collect();
    let is_kept = |name: &String| kept.iter().any(|k| k == name || k.split('.').next() == Some(name));
    assert!(session.facts.keys().all(is_kept), "{:?}", session.facts);
    chain(&session.foreign_actors);
}

/// What an issuer tells of actors lies under the agent, and is read again as it was written (L6).
fn chain(foreign: &[Actor]) {
    let agent = Actor { sub: "support-agent".into(), iss: OWN.into(), instance: None };
    let Ok(chain) = Chain::root(agent.clone(), foreign.to_vec()) else { return };
    assert!(chain.len() == foreign.len() + 1 && chain.len() <= MAX_CHAIN);
    assert_eq!(chain.current(), &agent);
    assert_eq!(Chain::from_json(&chain.to_json()).as_ref(), Ok(&chain));
    let other = Actor { sub: "worker".into(), ..agent };
    if let Ok(next) = chain.hand_over(other) {
        assert!(next.extends(&chain) && !next.continues(&chain) && next.actors().skip(1).eq(chain.actors()));
    }
}
