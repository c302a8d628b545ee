//! Certificates that are registered elsewhere: keys at a client's `jwks_uri`, the bundle of a trust domain, and RSA keys in
//! any of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::routing::get;
use axum::{Json, Router};
use rcgen::PKCS_RSA_SHA256;
use rsa::pkcs8::EncodePrivateKey as _;
use rsa::traits::PublicKeyParts as _;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::TcpListener;

use super::*;
use crate::support::tls::client_params;

/// A key set on loopback that can be replaced.
struct Published {
    url: String,
    keys: Arc<Mutex<Value>>,
    fetches: Arc<AtomicUsize>,
}

impl Published {
    async fn start(keys: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let published = Self { url, keys: Arc::new(Mutex::new(keys)), fetches: Arc::default() };
        let (keys, fetches) = (published.keys.clone(), published.fetches.clone());
        let answer = move || async move {
            fetches.fetch_add(1, Ordering::SeqCst);
            Json(json!({"keys": *keys.lock().unwrap()}))
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/keys", get(answer))).await });
        published
    }

    fn replace(&self, keys: Value) {
        *self.keys.lock().unwrap() = keys;
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

/// An RSA key, with the members of its JWK.
struct Rsa {
    document: Vec<u8>,
    key: Arc<KeyPair>,
    jwk: Value,
}

impl Rsa {
    fn new() -> Self {
        let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
        let [n, e] = [key.n(), key.e()].map(|number| URL_SAFE_NO_PAD.encode(number.to_bytes_be()));
        let document = key.to_pkcs8_der().unwrap().as_bytes().to_vec();
        let key = Arc::new(Self::pair_of(&document));
        Self { document, key, jwk: json!({"kty": "RSA", "kid": "r", "n": n, "e": e}) }
    }

    /// The key once more: one pair cannot be cloned.
    fn pair(&self) -> KeyPair {
        Self::pair_of(&self.document)
    }

    fn pair_of(document: &[u8]) -> KeyPair {
        let der = PrivatePkcs8KeyDer::from(document);
        KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_RSA_SHA256).unwrap()
    }

    fn self_signed(&self) -> Credential {
        let cert = client_params().self_signed(&*self.key).unwrap();
        Credential { chain: vec![cert.der().clone()], key: self.key.clone() }
    }

    fn issued(&self, by: &Authority, name: SanType) -> Credential {
        let mut params = client_params();
        params.subject_alt_names = vec![name];
        let cert = params.signed_by(&*self.key, by).unwrap();
        Credential { chain: vec![cert.der().clone()], key: self.key.clone() }
    }
}

#[tokio::test]
async fn ca_05_certificates_registered_at_jwks_uri_are_fetched_and_a_new_one_is_taken_when_it_comes() {
    let corporate = Corporate::start().await;
    let (own, next) = (Credential::self_signed(|_| {}), Credential::self_signed(|_| {}));
    let site = Published::start(json!([jwk(&own, json!({}))])).await;
    let auth = json!({"tls": {"self_signed": true}, "jwks_uri": site.url});
    let objects = with_auth(&corporate.server().objects(), "support-agent", &auth);
    corporate.server().apply(&objects).await.unwrap();
    for _ in 0..3 {
        corporate.exchange(&own).await.token();
        Corporate::refused(&corporate.exchange(&next).await);
    }
    assert_eq!(site.fetches(), 1, "fetches are at least 10 s apart");
    // The certificate itself, and no other with its key.
    site.replace(json!([jwk(&next, x5c(&next))]));
    let renewed = client_params().self_signed(&*next.key).unwrap();
    let renewed = Credential { chain: vec![renewed.der().clone()], key: next.key.clone() };
    corporate.server().clock.shift(11);
    corporate.exchange(&next).await.token();
    for shown in [&own, &renewed] {
        Corporate::refused(&corporate.exchange(shown).await);
    }
    assert_eq!(site.fetches(), 2);
}

#[tokio::test]
async fn ca_05_a_jwks_uri_that_cannot_be_fetched_is_503_for_its_client_and_nobody_else() {
    let corporate = Corporate::start().await;
    let own = Credential::self_signed(|_| {});
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let auth = json!({"tls": {"self_signed": true}, "jwks_uri": format!("http://{gone}/keys")});
    let objects = with_auth(&corporate.server().objects(), "support-agent", &auth);
    corporate.server().apply(&objects).await.unwrap();
    let answer = corporate.exchange(&own).await;
    answer.refused(503, "temporarily_unavailable", "client_keys_unavailable");
    let secret = secret("worker-agent");
    let form = [("client_id", "worker-agent"), ("client_secret", secret.as_str()), ("token", "x")];
    let client = corporate.secured.client(Some(&own));
    assert_eq!(client.post("/oauth/introspect", &[], &form).await.status, 200);
}

#[tokio::test]
async fn ca_05_certificates_of_rsa_keys_authenticate_in_either_version_of_tls() {
    let corporate = Corporate::start().await;
    let (rsa, other) = (Rsa::new(), Rsa::new());
    let form = [("client_id", "support-agent"), ("token", "x")];
    let post = async |credential: &Credential| {
        let mut statuses = Vec::new();
        for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
            let client = corporate.secured.client_by(Some(credential), versions);
            statuses.push(client.post("/oauth/introspect", &[], &form).await.status);
        }
        statuses
    };
    let name = || san_dns("support-bot.acme.example");
    assert_eq!(post(&rsa.issued(&corporate.authority, name())).await, [200, 200]);
    assert_eq!(post(&rsa.issued(&corporate.authority, san_dns("x.acme.example"))).await, [401, 401]);
    let by_rsa = Authority::self_signed(authority_params("Acme RSA"), other.pair()).unwrap();
    assert_eq!(post(&good(&by_rsa)).await, [401, 401], "another authority");
    let tls = json!({"authority": "corporate", "san_dns": "support-bot.acme.example"});
    let objects = with_auth(&corporate.server().objects(), "support-agent", &json!({"tls": tls}));
    corporate.server().apply(&(declared(&[&by_rsa]) + &objects)).await.unwrap();
    assert_eq!(post(&good(&by_rsa)).await, [200, 200]);
    assert_eq!(post(&rsa.issued(&by_rsa, name())).await, [200, 200]);

    let auth = json!({"tls": {"self_signed": true}, "jwks": {"keys": [rsa.jwk]}});
    let objects = with_auth(&corporate.server().objects(), "support-agent", &auth);
    corporate.server().apply(&objects).await.unwrap();
    assert_eq!(post(&rsa.self_signed()).await, [200, 200]);
    assert_eq!(post(&other.self_signed()).await, [401, 401]);
}

#[tokio::test]
async fn ca_06_the_bundle_of_a_trust_domain_is_fetched_and_its_next_authority_taken_in_time() {
    let spiffe = Spiffe::start().await;
    let (server, next) = (&spiffe.secured.server, authority("acme.example"));
    let member = |by: &Authority| {
        let key = json!({"kty": "EC", "crv": "P-256", "use": "x509-svid", "x": "AA", "y": "AA"});
        bend(key, json!({"x5c": [STANDARD.encode(by.der())]}))
    };
    let site = Published::start(json!([member(&spiffe.domain)])).await;
    let objects = spiffe.objects();
    let (_, rest) = objects.split_once("---\n").unwrap();
    let domain = format!(
        "kind: WorkloadIssuer\ntenant: acme\nname: domain\n\
         spec: {{type: spiffe, issuer: '{DOMAIN}', jwks_uri: '{}'}}\n---\n",
        site.url
    );
    server.apply(&(domain + rest)).await.unwrap();
    let svid = |by: &Authority| named(by, &[san_uri(SVID)]);
    assert_eq!(spiffe.introspect(SVID, &svid(&spiffe.domain)).await.status, 200);
    Corporate::refused(&spiffe.introspect(SVID, &svid(&next)).await);
    assert_eq!(site.fetches(), 1);
    // A bundle is looked at again every few minutes: its new authorities stand there before they sign.
    site.replace(json!([member(&spiffe.domain), member(&next)]));
    server.clock.shift(301);
    for _ in 0..500 {
        if spiffe.introspect(SVID, &svid(&next)).await.status == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for by in [&spiffe.domain, &next] {
        assert_eq!(spiffe.introspect(SVID, &svid(by)).await.status, 200);
    }
}
