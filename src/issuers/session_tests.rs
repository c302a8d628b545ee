use serde_json::json;

use super::super::keyset::Freshness;
use super::super::testing::{Declared, OWN, Reply, Signer, Site, bend, dev_client, snapshot};
use super::*;
use crate::clock::SystemClock;
use crate::domain::chain::BadChain;
use crate::domain::objects::ObjectKind;
use crate::domain::refusal::{Retry, TokenFault};
use crate::keys::fault::JwsFault;
use crate::keys::signing::KeySpec;
use SessionTokenKind::{AccessToken, IdToken};

const ISS: &str = "https://idp.example";
const NOW: i64 = 1_800_000_000;

/// An issuer with its key set on a listener, trusted by the platform, and one token that is accepted.
pub(super) struct World {
    pub(super) site: Site,
    pub(super) signer: Signer,
    issuers: Issuers,
    snapshot: Snapshot,
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW, 0).unwrap()
}

fn issuer_spec(jwks_uri: &str) -> Value {
    json!({
        "issuer": ISS, "jwks_uri": jwks_uri, "tenant_claim": "org_id",
        "accept": [
            {"type": "access_token", "audience": OWN, "typ": ["at+jwt", "JWT", ""]},
            {"type": "id_token", "audience": "portal", "typ": ["JWT"]},
        ],
        "entitlements": [{"when": {"claim": "groups", "contains": "support"}}],
        "facts": ["realm.roles", "dept"],
    })
}

pub(super) fn claims() -> Value {
    json!({
        "iss": ISS, "sub": "alice", "aud": OWN, "exp": NOW + 600, "iat": NOW - 10,
        "org_id": "acme", "groups": ["support"], "client_id": "app", "jti": "1",
    })
}

pub(super) fn id_claims() -> Value {
    bend(claims(), &json!({"aud": "portal", "client_id": null, "azp": "portal"}))
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(&json!({}), &[]).await
    }

    /// With members of the issuer's spec replaced, and further objects.
    pub(super) async fn with(patch: &Value, more: &[Declared<'_>]) -> Self {
        let (site, signer) = (Site::start().await, Signer::new());
        site.set("/jwks", Reply::keys(&[&signer]));
        let spec = bend(issuer_spec(&site.url("/jwks")), patch);
        let declared = [&[(ObjectKind::TrustedIssuer, "system", "idp", spec)], more].concat();
        Self::of(site, signer, snapshot(&declared))
    }

    fn of(site: Site, signer: Signer, snapshot: Snapshot) -> Self {
        let key_sets =
            KeySets::start(dev_client(), Freshness::default(), Arc::new(SystemClock), Arc::default());
        key_sets.follow(&snapshot);
        Self { site, signer, issuers: Issuers::new(Arc::new(key_sets), 0), snapshot }
    }

    pub(super) async fn compact(
        &self,
        compact: &str,
        declared: SessionTokenKind,
    ) -> Result<Session, SessionFault> {
        let jws = Jws::parse(compact).unwrap();
        self.issuers.verify_session(&self.snapshot, jws, declared, now()).await
    }

    /// The good access token with claims replaced.
    pub(super) async fn bent(&self, patch: &Value) -> Result<Session, SessionFault> {
        self.compact(&self.signer.sign(Some("at+jwt"), &bend(claims(), patch)), AccessToken).await
    }

    pub(super) async fn fault(&self, patch: &Value) -> SessionFault {
        self.bent(patch).await.unwrap_err()
    }

    pub(super) async fn id_token(&self, patch: &Value) -> Result<Session, SessionFault> {
        self.compact(&self.signer.sign(Some("JWT"), &bend(id_claims(), patch)), IdToken).await
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn prefixed(issuer: &str, prefix: &str, tenants: &Value) -> Value {
    json!({
        "issuer": issuer, "tenant_claim": "org_id", "subject_prefix": prefix, "tenants": tenants,
        "accept": [{"type": "access_token", "audience": OWN}],
    })
}

#[tokio::test]
async fn a_good_token_is_a_session() {
    let world = World::new().await;
    let patch = json!({"auth_time": NOW - 60, "acr": "gold", "amr": ["pwd", "otp"], "sid": "s1", "x": 1});
    let token = world.signer.sign(Some("at+jwt"), &bend(claims(), &patch));
    let session = world.compact(&token, AccessToken).await.unwrap();
    assert_eq!(session.issuer.name, name("idp"));
    assert_eq!(session.tenant, name("acme"));
    assert_eq!(session.principal, Principal { iss: ISS.into(), sub: "alice".into() });
    assert_eq!(session.subject, "alice");
    assert_eq!(session.kind, AccessToken);
    assert_eq!(session.expires_at.timestamp(), NOW + 600);
    assert_eq!(session.auth_time.unwrap().timestamp(), NOW - 60);
    assert_eq!((session.acr.as_deref(), session.amr), (Some("gold"), vec!["pwd".into(), "otp".into()]));
    assert_eq!((session.client.as_deref(), session.may_act), (Some("app"), None));
    assert_eq!(Value::Object(session.facts), json!({"groups": ["support"]}));
    assert_eq!((session.key.iss.as_str(), session.key.sid.as_deref()), (ISS, Some("s1")));
    assert_eq!(session.key.since.timestamp(), NOW - 60);
    let signed = token.rsplit_once('.').unwrap().0;
    let digest = ring::digest::digest(&ring::digest::SHA256, signed.as_bytes());
    assert_eq!(session.key.token_sha256, hex::encode(digest));
}

#[tokio::test]
async fn t04_an_unknown_issuer_is_refused_by_exact_comparison() {
    let world = World::new().await;
    for iss in
        [json!("https://idp.example/"), json!("HTTPS://idp.example"), json!(OWN), json!(""), json!([ISS])]
    {
        let fault = world.fault(&json!({"iss": iss})).await;
        assert!(matches!(fault, SessionFault::UnknownIssuer(_)), "{iss}: {fault}");
    }
    assert!(matches!(world.fault(&json!({"iss": null})).await, SessionFault::UnknownIssuer(_)));
}

#[tokio::test]
async fn jw_01_an_algorithm_that_the_issuer_does_not_list_is_refused() {
    let world = World::with(&json!({"algorithms": ["EdDSA"]}), &[]).await;
    let refused = SessionFault::Algorithm("ES256".parse().unwrap());
    assert_eq!(world.fault(&json!({})).await, refused);
}

#[tokio::test]
async fn t33_a_token_by_another_key_is_refused() {
    let world = World::new().await;
    let (stranger, edwards) = (Signer::new(), Signer::of(KeySpec::EdDsa));
    for other in [&stranger, &edwards] {
        let fault = world.compact(&other.sign(Some("at+jwt"), &claims()), AccessToken).await.unwrap_err();
        assert_eq!(fault, SessionFault::Signature(JwsFault::UnknownKey));
    }
    let named = json!({"alg": "ES256", "typ": "at+jwt", "kid": world.signer.jwk()["kid"]});
    let forged = stranger.sign_with(&named, &claims());
    let fault = world.compact(&forged, AccessToken).await.unwrap_err();
    assert_eq!(fault, SessionFault::Signature(JwsFault::BadSignature));
    let nameless = world.signer.sign_with(&json!({"alg": "ES256", "typ": "at+jwt"}), &claims());
    assert!(world.compact(&nameless, AccessToken).await.is_ok(), "`kid` is optional");
}

#[tokio::test]
async fn an_issuer_whose_keys_are_out_of_reach_is_refused_for_now() {
    let world = World::new().await;
    world.site.set("/jwks", Reply::new(500, "", ""));
    let fault = world.fault(&json!({})).await;
    assert!(matches!(fault, SessionFault::Keys(_)), "{fault}");
    let told = TokenFault::from(fault);
    assert_eq!((told.code, told.retry), ("issuer_unavailable", Retry::Later));
}

#[tokio::test]
async fn exp_is_required_and_has_no_leeway() {
    let world = World::new().await;
    assert_eq!(world.fault(&json!({"exp": null})).await, SessionFault::Missing("exp"));
    for exp in [NOW, NOW - 1, 0] {
        assert_eq!(world.fault(&json!({"exp": exp})).await, SessionFault::Expired);
    }
    assert_eq!(world.fault(&json!({"exp": 1_800_000_000.9})).await, SessionFault::Expired);
    assert!(world.bent(&json!({"exp": NOW + 1})).await.is_ok());
    assert_eq!(TokenFault::from(SessionFault::Expired).retry, Retry::NewSession);
}

#[tokio::test]
async fn nbf_iat_and_auth_time_may_be_30_s_ahead() {
    let world = World::new().await;
    for claim in ["nbf", "iat", "auth_time"] {
        assert!(world.bent(&json!({claim: NOW + 30})).await.is_ok(), "{claim}");
        assert_eq!(world.fault(&json!({claim: NOW + 31})).await, SessionFault::NotYet(claim));
    }
    let ahead = world.bent(&json!({"iat": NOW + 30})).await.unwrap();
    assert_eq!(ahead.key.since, now(), "a revocation made now bears on it");
}

#[tokio::test]
async fn jw_05_a_text_is_no_date() {
    let world = World::new().await;
    for claim in ["exp", "nbf", "iat", "auth_time"] {
        for value in [json!("1800000100"), json!(true), json!(-1), json!(1e300), json!([NOW])] {
            let fault = world.fault(&json!({claim: value})).await;
            assert!(matches!(fault, SessionFault::Date(_)), "{claim} {value}: {fault}");
        }
    }
}

#[tokio::test]
async fn a_login_older_than_max_session_age_is_refused() {
    let world = World::with(&json!({"max_session_age": 3600}), &[]).await;
    assert!(world.bent(&json!({"iat": NOW - 3600})).await.is_ok());
    assert_eq!(world.fault(&json!({"iat": NOW - 3601})).await, SessionFault::TooOld(3600));
    let refreshed = json!({"auth_time": NOW - 3601});
    assert_eq!(world.fault(&refreshed).await, SessionFault::TooOld(3600), "a refresh does not revive it");
    assert!(world.bent(&json!({"iat": NOW - 9999, "auth_time": NOW - 3600})).await.is_ok());
    assert_eq!(world.fault(&json!({"iat": null})).await, SessionFault::Missing("iat"));
    let only_login = world.bent(&json!({"iat": null, "auth_time": NOW - 5})).await.unwrap();
    assert_eq!(only_login.key.since.timestamp(), NOW - 5);
}

#[tokio::test]
async fn sub_is_required_short_and_printable() {
    let world = World::new().await;
    assert_eq!(world.fault(&json!({"sub": null})).await, SessionFault::Missing("sub"));
    let long = "x".repeat(256);
    for sub in [json!(""), json!(long), json!("a\nb"), json!("a\u{0}"), json!("äb"), json!(7), json!(["a"])]
    {
        let fault = world.fault(&json!({"sub": sub})).await;
        assert!(matches!(fault, SessionFault::Malformed { claim: "sub", .. }), "{sub}: {fault}");
    }
    assert!(world.bent(&json!({"sub": "x".repeat(255)})).await.is_ok());
}

#[tokio::test]
async fn other_texts_are_short_and_printable_too() {
    let world = World::new().await;
    for claim in ["sid", "acr", "client_id"] {
        for value in [json!(""), json!("a\nb"), json!(1), json!("x".repeat(256))] {
            let fault = world.fault(&json!({claim: value})).await;
            assert!(
                matches!(fault, SessionFault::Malformed { claim: c, .. } if c == claim),
                "{claim}: {fault}"
            );
        }
    }
    for amr in [json!("pwd"), json!([1]), json!(vec!["x"; 17]), json!({})] {
        let fault = world.fault(&json!({"amr": amr})).await;
        assert!(matches!(fault, SessionFault::Malformed { claim: "amr", .. }), "{amr}: {fault}");
    }
}

#[tokio::test]
async fn a_sender_constrained_token_is_refused() {
    let world = World::new().await;
    for cnf in [json!({"jkt": "x"}), json!({"x5t#S256": "x"}), json!({}), json!("x")] {
        assert_eq!(world.fault(&json!({"cnf": cnf})).await, SessionFault::Bound);
    }
    let null = claims().to_string().replace("\"jti\":\"1\"", "\"cnf\":null");
    let token = world.signer.sign(Some("at+jwt"), &serde_json::from_str(&null).unwrap());
    assert_eq!(world.compact(&token, AccessToken).await.unwrap_err(), SessionFault::Bound);
}

#[tokio::test]
async fn t42_a_platform_issuer_names_a_tenant_that_exists_and_that_it_serves() {
    let world = World::with(&json!({"tenants": ["acme"]}), &[]).await;
    assert!(world.bent(&json!({})).await.is_ok());
    for tenant in ["other", "system", "nowhere"] {
        assert_eq!(world.fault(&json!({"org_id": tenant})).await, SessionFault::Tenant(name(tenant)));
    }
    for value in [json!(7), json!(["acme"]), json!("ACME"), json!(""), json!(null)] {
        assert_eq!(world.fault(&json!({"org_id": value})).await, SessionFault::NoTenant, "{value}");
    }
    let world = World::with(&json!({}), &[]).await;
    assert_eq!(world.fault(&json!({"org_id": "system"})).await, SessionFault::Tenant(Name::system()));
    assert_eq!(world.bent(&json!({"org_id": "other"})).await.unwrap().tenant, name("other"));
}

#[tokio::test]
async fn a_tenant_claim_may_be_nested() {
    let world = World::with(&json!({"tenant_claim": "org.name"}), &[]).await;
    assert_eq!(world.bent(&json!({"org": {"name": "other"}})).await.unwrap().tenant, name("other"));
    assert_eq!(world.fault(&json!({"org": "other"})).await, SessionFault::NoTenant);
}

#[tokio::test]
async fn t42_a_fixed_tenant_and_a_tenants_own_issuer_ignore_the_claim() {
    let fixed = World::with(&json!({"tenant_claim": null, "fixed_tenant": "other"}), &[]).await;
    assert_eq!(fixed.bent(&json!({})).await.unwrap().tenant, name("other"));
    let (site, signer) = (Site::start().await, Signer::new());
    site.set("/jwks", Reply::keys(&[&signer]));
    let spec = bend(issuer_spec(&site.url("/jwks")), &json!({"tenant_claim": null}));
    let own = snapshot(&[(ObjectKind::TrustedIssuer, "other", "idp", spec)]);
    let own = World::of(site, signer, own);
    assert_eq!(own.bent(&json!({"org_id": "acme"})).await.unwrap().tenant, name("other"));
}

#[tokio::test]
async fn t34_subjects_of_two_issuers_never_meet() {
    let others = [
        (ObjectKind::TrustedIssuer, "system", "all", prefixed("https://all.example", "all:", &json!(null))),
        (
            ObjectKind::TrustedIssuer,
            "system",
            "one",
            prefixed("https://one.example", "one:", &json!(["acme"])),
        ),
        (
            ObjectKind::TrustedIssuer,
            "other",
            "two",
            bend(prefixed("https://two.example", "two:", &json!(null)), &json!({"tenant_claim": null})),
        ),
    ];
    let world = World::with(&json!({}), &others).await;
    for (sub, org, refused) in [
        ("all:bob", "acme", true),
        ("all:bob", "other", true),
        ("all:", "acme", true),
        ("one:bob", "acme", true),
        ("one:bob", "other", false),
        ("two:bob", "other", true),
        ("two:bob", "acme", false),
        ("al:bob", "acme", false),
        ("ALL:bob", "acme", false),
    ] {
        let verdict = world.bent(&json!({"sub": sub, "org_id": org})).await.map(|s| s.subject);
        let wanted = if refused { Err(SessionFault::ForeignPrefix) } else { Ok(sub.to_owned()) };
        assert_eq!(verdict, wanted, "{sub} in {org}");
    }
    let world = World::with(&json!({"subject_prefix": "idp:"}), &others).await;
    let session = world.bent(&json!({"sub": "all:bob"})).await.unwrap();
    assert_eq!((session.subject.as_str(), session.principal.sub.as_str()), ("idp:all:bob", "all:bob"));
}

#[tokio::test]
async fn at_05_t17_a_subject_is_never_a_client_id() {
    let agent = json!({"client_id": "bot", "class": "worker", "owner": "group:x", "contact": "x"});
    let resource = json!({"uri": "https://api.example", "scopes": ["a"], "client_id": "api"});
    let clients =
        [(ObjectKind::Agent, "acme", "bot", agent), (ObjectKind::Resource, "system", "api", resource)];
    let world = World::with(&json!({}), &clients).await;
    for sub in ["bot", "api"] {
        assert_eq!(world.fault(&json!({"sub": sub})).await, SessionFault::SubjectIsClient);
    }
    assert!(world.bent(&json!({"sub": "bot2"})).await.is_ok());
    let world = World::with(&json!({"subject_prefix": "b"}), &clients).await;
    assert_eq!(world.fault(&json!({"sub": "ot"})).await, SessionFault::SubjectIsClient);
    assert!(world.bent(&json!({"sub": "bot"})).await.is_ok());
}

#[tokio::test]
async fn t16_act_of_the_issuer_is_kept_with_its_issuer() {
    let world = World::new().await;
    let act = json!({"sub": "svc", "exp": 1, "act": {"sub": "first", "iss": "https://else.example"}});
    let actors = world.bent(&json!({"act": act})).await.unwrap().foreign_actors;
    let actors: Vec<_> = actors.iter().map(|a| (a.sub.as_str(), a.iss.as_str())).collect();
    assert_eq!(actors, [("svc", ISS), ("first", "https://else.example")]);
}

#[tokio::test]
async fn tx_12_a_malformed_act_is_refused() {
    let world = World::new().await;
    for act in [json!("svc"), json!([]), json!({}), json!({"sub": 1}), json!({"sub": "a", "act": "b"})] {
        assert_eq!(world.fault(&json!({"act": act})).await, SessionFault::Act(BadChain::Malformed), "{act}");
    }
    let deep = (0..16).fold(json!({"sub": "a"}), |inner, _| json!({"sub": "a", "act": inner}));
    assert_eq!(world.fault(&json!({"act": deep})).await, SessionFault::Act(BadChain::TooLong));
}

#[tokio::test]
async fn tx_15_may_act_names_an_agent_and_nothing_that_cannot_be_matched() {
    let world = World::new().await;
    let told = world.bent(&json!({"may_act": {"sub": "bot", "exp": 1, "aud": "x"}})).await.unwrap().may_act;
    assert_eq!(told, Some(MayAct { sub: "bot".into(), iss: None }));
    let told = world.bent(&json!({"may_act": {"sub": "bot", "iss": OWN}})).await.unwrap().may_act;
    assert_eq!(told, Some(MayAct { sub: "bot".into(), iss: Some(OWN.into()) }));
    for more in ["email", "client_id", "act", "tenant"] {
        let fault = world.fault(&json!({"may_act": {"sub": "bot", more: "x"}})).await;
        assert_eq!(fault, SessionFault::MayActMembers, "{more}");
    }
    for bad in
        [json!("bot"), json!([]), json!({}), json!({"iss": OWN}), json!({"sub": 1}), json!({"sub": ""})]
    {
        let fault = world.fault(&json!({"may_act": bad})).await;
        assert!(matches!(fault, SessionFault::Malformed { claim: "may_act", .. }), "{bad}: {fault}");
    }
}

#[tokio::test]
async fn facts_are_the_claims_that_rules_name_and_bounded() {
    let world = World::new().await;
    let patch = json!({"realm": {"roles": ["r"], "x": 1}, "dept": 7, "roles": "a", "email": "a@b.example"});
    let facts = world.bent(&patch).await.unwrap().facts;
    let wanted = json!({"groups": ["support"], "realm": {"roles": ["r"]}, "dept": 7, "roles": "a"});
    assert_eq!(Value::Object(facts), wanted);
    let overhead = json!({"groups": ["support"], "dept": ""}).to_string().len();
    let fits = "x".repeat(claims::MAX_FACTS - overhead);
    assert!(world.bent(&json!({"dept": fits})).await.is_ok());
    let fault = world.fault(&json!({"dept": format!("{fits}x")})).await;
    assert_eq!(fault, SessionFault::FactsTooLarge(claims::MAX_FACTS));
}

#[tokio::test]
async fn a_fault_shows_nothing_of_the_token_but_iss_and_typ() {
    let world = World::new().await;
    let secret = "s3cr3t-value";
    for patch in [
        json!({"aud": secret}),
        json!({"exp": secret}),
        json!({"sub": format!("{secret}\n")}),
        json!({"amr": secret}),
        json!({"act": secret}),
        json!({"may_act": {"sub": secret, "x": secret}}),
        json!({"azp": secret}),
        json!({"dept": secret.repeat(800)}),
    ] {
        let fault = world.fault(&patch).await.to_string();
        assert!(!fault.contains(secret), "{fault}");
        assert!(fault.chars().next().is_some_and(|c| !c.is_uppercase()) && !fault.ends_with('.'), "{fault}");
    }
}

#[tokio::test]
async fn the_cache_remembers_the_signature_only() {
    let mut world = World::new().await;
    let key_sets = KeySets::start(dev_client(), Freshness::default(), Arc::new(SystemClock), Arc::default());
    key_sets.follow(&world.snapshot);
    let key_sets = Arc::new(key_sets);
    world.issuers = Issuers::new(key_sets.clone(), 4);
    let token = world.signer.sign(Some("at+jwt"), &claims());
    for _ in 0..3 {
        assert!(world.compact(&token, AccessToken).await.is_ok());
    }
    let jws = || Jws::parse(&token).unwrap();
    let later = now() + chrono::TimeDelta::seconds(600);
    let late = world.issuers.verify_session(&world.snapshot, jws(), AccessToken, later).await;
    assert_eq!(late.unwrap_err(), SessionFault::Expired);
    assert_eq!(world.compact(&token, IdToken).await.unwrap_err(), SessionFault::Kind(IdToken));
    let tampered = format!("{}A", &token[..token.len() - 1]);
    if let Ok(jws) = Jws::parse(&tampered).map_err(drop) {
        let refused = world.issuers.verify_session(&world.snapshot, jws, AccessToken, now()).await;
        assert!(tampered == token || refused.is_err());
    }
    for _ in 0..20 {
        let other = world.signer.sign(Some("at+jwt"), &claims());
        assert!(world.compact(&other, AccessToken).await.is_ok(), "a full cache forgets and goes on");
    }
}

#[tokio::test]
async fn the_cache_remembers_no_token_that_is_refused_and_no_large_one() {
    let mut world = World::new().await;
    let key_sets = KeySets::start(dev_client(), Freshness::default(), Arc::new(SystemClock), Arc::default());
    key_sets.follow(&world.snapshot);
    world.issuers = Issuers::new(Arc::new(key_sets), 1000);
    let filler = "x".repeat(4_000);
    for refused in
        [json!({"aud": "other"}), json!({"exp": NOW - 1}), json!({"sub": null}), json!({"cnf": {}})]
    {
        assert!(world.bent(&bend(refused.clone(), &json!({"filler": filler}))).await.is_err());
        assert_eq!(world.issuers.cache.bytes(), 0, "{refused}");
    }
    let many_members: Value = (0..1_200).map(|_| json!({"": 0})).collect();
    assert!(world.bent(&json!({"filler": many_members})).await.is_ok());
    assert_eq!(world.issuers.cache.bytes(), 0, "a megabyte of claims is verified each time");
    assert!(world.bent(&json!({})).await.is_ok());
    assert!(world.issuers.cache.bytes() > 0);
}

#[tokio::test]
async fn the_cache_forgets_what_a_withdrawn_key_signed() {
    let mut world = World::new().await;
    let clock = crate::clock::ShiftedClock::default();
    let key_sets =
        KeySets::start(dev_client(), Freshness::default(), Arc::new(clock.clone()), Arc::default());
    key_sets.follow(&world.snapshot);
    world.issuers = Issuers::new(Arc::new(key_sets), 100);
    // Without `kid` a token is not even looked up by key: only the cache could let it through.
    let token = world.signer.sign_with(&json!({"alg": "ES256", "typ": "at+jwt"}), &claims());
    assert!(world.compact(&token, AccessToken).await.is_ok());
    assert!(world.compact(&token, AccessToken).await.is_ok());
    let (before, new) = (world.site.hits("/jwks"), Signer::new());
    world.site.set("/jwks", Reply::keys(&[&new]));
    clock.shift(300);
    // The new key's token makes the set be fetched again now.
    assert!(world.compact(&new.sign(Some("at+jwt"), &claims()), AccessToken).await.is_ok());
    assert!(world.site.hits("/jwks") > before);
    let refused = world.compact(&token, AccessToken).await.unwrap_err();
    assert_eq!(refused, SessionFault::Signature(JwsFault::BadSignature));
}
