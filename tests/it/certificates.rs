//! Clients that authenticate by a certificate: mutual TLS (RFC 8705, STANDARDS CA-05), X.509-SVIDs (CA-06), and what a proxy
//! says of one (RFC 9440).

mod fetched;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose,
    NameConstraints, SanType, date_time_ymd,
};
use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};

use crate::support::idp::{bend, claims};
use crate::support::server::{ACCESS_TOKEN, Answer, ORDERS, Server, TOKEN_EXCHANGE, encode, secret, sha256};
use crate::support::tls::{Authority, Client, Credential, Secured, authority, authority_params};

const ASKS: &str = "client_certificates = true\n[limits]\nfailure_rate = 50000";
const DOMAIN: &str = "spiffe://acme.example";
const SVID: &str = "spiffe://acme.example/agents/support-bot";

fn san_dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn san_uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().unwrap())
}

/// A certificate with these alternative names.
fn named(by: &Authority, names: &[SanType]) -> Credential {
    Credential::issued(by, |params| params.subject_alt_names = names.to_vec())
}

fn good(by: &Authority) -> Credential {
    named(by, &[san_dns("support-bot.acme.example")])
}

/// `CertificateAuthority corporate` of these.
fn declared(authorities: &[&Authority]) -> String {
    let pem: String = authorities.iter().map(|a| a.pem()).collect();
    format!(
        "kind: CertificateAuthority\ntenant: acme\nname: corporate\nspec: {}\n---\n",
        json!({"certificates": pem})
    )
}

/// `objects` with `auth` instead of the secret of `client`.
fn with_auth(objects: &str, client: &str, auth: &Value) -> String {
    let from = format!("auth: {{secret_sha256: [{}]}}", sha256(&secret(client)));
    assert!(objects.contains(&from), "{client}");
    objects.replace(&from, &format!("auth: {auth}"))
}

/// A server whose `support-agent` is who `corporate` calls `support-bot.acme.example`.
struct Corporate {
    secured: Secured,
    authority: Authority,
}

impl Corporate {
    async fn start() -> Self {
        Self::start_with("").await
    }

    async fn start_with(toml: &str) -> Self {
        let corporate =
            Self { secured: Secured::start(toml, ASKS).await, authority: authority("Acme Corporate") };
        corporate.register(&json!({"authority": "corporate", "san_dns": "support-bot.acme.example"})).await;
        corporate
    }

    fn server(&self) -> &Server {
        &self.secured.server
    }

    fn objects(&self, tls: &Value) -> String {
        let objects = self.server().objects();
        declared(&[&self.authority]) + &with_auth(&objects, "support-agent", &json!({"tls": tls}))
    }

    async fn register(&self, tls: &Value) {
        self.server().apply(&self.objects(tls)).await.unwrap();
    }

    /// A root exchange that shows `credential`.
    async fn exchange(&self, credential: &Credential) -> Answer {
        let client = self.secured.client(Some(credential));
        exchange(self.server(), &client, &[("client_id", "support-agent")]).await
    }

    #[track_caller]
    fn refused(answer: &Answer) {
        answer.refused(401, "invalid_client", "client_authentication_failed");
    }
}

async fn exchange(server: &Server, client: &Client, shown: &[(&str, &str)]) -> Answer {
    let session = server.session(json!({}));
    let base = [
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", session.as_str()),
        ("subject_token_type", ACCESS_TOKEN),
        ("task_type", "refund_order"),
        ("resource", ORDERS),
    ];
    client.post("/oauth/token", &[], &[&base[..], shown].concat()).await
}

#[tokio::test]
async fn ca_05_agents_and_resources_authenticate_by_certificate_at_every_endpoint() {
    let corporate = Corporate::start().await;
    let server = corporate.server();
    let tls = json!({"authority": "corporate", "san_dns": "orders.acme.example"});
    let objects =
        corporate.objects(&json!({"authority": "corporate", "san_dns": "support-bot.acme.example"}));
    server.apply(&with_auth(&objects, "orders-api", &json!({"tls": tls}))).await.unwrap();
    let agent = good(&corporate.authority);
    let root = corporate.exchange(&agent).await.token();
    assert_eq!(claims(&root)["client_id"], "support-agent");
    assert_eq!(claims(&root).get("cnf"), None, "tokens are not bound to the certificate");
    let resource = named(&corporate.authority, &[san_dns("orders.acme.example")]);
    for (credential, client, paths) in [
        (&resource, "orders-api", &["/oauth/introspect"][..]),
        (&agent, "support-agent", &["/task-types", "/oauth/introspect", "/oauth/revoke"]),
    ] {
        for path in paths {
            let form = [("client_id", client), ("token", root.as_str())];
            let answer = corporate.secured.client(Some(credential)).post(path, &[], &form).await;
            assert_eq!(answer.status, 200, "{client} {path}: {answer:?}");
            let (other, stranger) = (good(&authority("Acme Corporate")), corporate.secured.client(None));
            for caller in [&corporate.secured.client(Some(&other)), &stranger] {
                Corporate::refused(&caller.post(path, &[], &form).await);
            }
        }
    }
    let form = [("client_id", "orders-api"), ("token", root.as_str())];
    let client = corporate.secured.client(Some(&resource));
    let answer = client.post("/oauth/token", &[], &form).await;
    answer.refused(400, "unauthorized_client", "client_is_no_agent");
}

#[tokio::test]
async fn ca_05_a_certificate_is_its_clients_by_exactly_the_registered_name() {
    let corporate = Corporate::start().await;
    let email = |text: &str| SanType::Rfc822Name(text.try_into().unwrap());
    let ip = |text: &str| SanType::IpAddress(text.parse().unwrap());
    let other = san_dns("zzz.acme.example");
    for (member, registered, right, wrong) in [
        (
            "san_dns",
            "support-bot.acme.example",
            vec![san_dns("Support-Bot.acme.example")],
            vec![
                san_dns("*.acme.example"),
                san_dns("bot.acme.example"),
                san_dns("support-bot.acme.example.evil.example"),
                san_uri("support-bot.acme.example"),
                email("support-bot.acme.example"),
            ],
        ),
        (
            "san_uri",
            "https://acme.example/agents/1",
            vec![san_uri("https://acme.example/agents/1")],
            vec![san_uri("https://acme.example/agents/12"), san_uri("https://ACME.example/agents/1")],
        ),
        ("san_ip", "192.0.2.7", vec![ip("192.0.2.7")], vec![ip("192.0.2.8"), san_dns("192.0.2.7")]),
        ("san_ip", "2001:db8::7", vec![ip("2001:db8::7")], vec![ip("2001:db8::8"), ip("0.0.0.7")]),
        (
            "san_email",
            "bot@acme.example",
            vec![email("bot@ACME.example")],
            vec![email("Bot@acme.example"), email("bot@acme.example.evil.example")],
        ),
    ] {
        corporate.register(&json!({"authority": "corporate", member: registered})).await;
        for right in right {
            for names in [vec![right.clone()], vec![other.clone(), right.clone()]] {
                let answer = corporate.exchange(&named(&corporate.authority, &names)).await;
                assert_eq!(answer.status, 200, "{member} {right:?}: {answer:?}");
            }
        }
        for wrong in wrong {
            let answer =
                corporate.exchange(&named(&corporate.authority, &[other.clone(), wrong.clone()])).await;
            assert_eq!(answer.status, 401, "{member} {wrong:?}");
            Corporate::refused(&answer);
        }
        // A common name stands for no other name.
        let common = Credential::issued(&corporate.authority, |params| {
            params.distinguished_name.push(DnType::CommonName, registered);
        });
        Corporate::refused(&corporate.exchange(&common).await);
    }
}

#[tokio::test]
async fn ca_05_a_subject_is_compared_whole() {
    let corporate = Corporate::start().await;
    let subject = |names: &[(DnType, &str)]| {
        Credential::issued(&corporate.authority, |params| {
            for (kind, value) in names {
                params.distinguished_name.push(kind.clone(), *value);
            }
        })
    };
    let [country, organisation, name] = [DnType::CountryName, DnType::OrganizationName, DnType::CommonName];
    corporate
        .register(&json!({"authority": "corporate", "subject_dn": "CN=support-bot,O=Acme\\, Inc.,C=GB"}))
        .await;
    let right =
        [(country.clone(), "GB"), (organisation.clone(), "Acme, Inc."), (name.clone(), "support-bot")];
    corporate.exchange(&subject(&right)).await.token();
    for wrong in [
        vec![(name.clone(), "support-bot")],
        vec![(country.clone(), "GB"), (organisation.clone(), "Acme"), (name.clone(), "support-bot")],
        vec![(country.clone(), "GB"), (organisation.clone(), "Acme, Inc."), (name.clone(), "support-bot-2")],
        vec![(name.clone(), "support-bot"), (organisation.clone(), "Acme, Inc."), (country.clone(), "GB")],
        vec![(organisation, "Acme, Inc."), (name, "support-bot")],
        Vec::new(),
    ] {
        Corporate::refused(&corporate.exchange(&subject(&wrong)).await);
    }
}

/// Credentials that no authority vouches for, for this purpose, now.
fn untrusted(by: &Authority) -> Vec<(&'static str, Credential)> {
    let issued = |bend: &dyn Fn(&mut CertificateParams)| {
        Credential::issued(by, |params| {
            params.subject_alt_names = vec![san_dns("support-bot.acme.example")];
            bend(params);
        })
    };
    let intermediate = |bend: &dyn Fn(&mut CertificateParams)| {
        let mut params = authority_params("Acme Agents");
        bend(&mut params);
        Authority::signed_by(params, KeyPair::generate().unwrap(), by).unwrap()
    };
    let through = |by: Authority| {
        let mut leaf = good(&by);
        leaf.chain.push(by.der().clone());
        leaf
    };
    let elsewhere = GeneralSubtree::DnsName("globex.example".to_owned());
    let constraints = NameConstraints { permitted_subtrees: vec![elsewhere], excluded_subtrees: Vec::new() };
    vec![
        ("another authority of the same name", good(&authority("Acme Corporate"))),
        ("expired", issued(&|params| params.not_after = date_time_ymd(2021, 1, 1))),
        ("not yet valid", issued(&|params| params.not_before = date_time_ymd(2090, 1, 1))),
        (
            "another purpose",
            issued(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        ),
        (
            "an authority's own",
            issued(&|params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
        ),
        (
            "self-signed",
            Credential::self_signed(|params| {
                params.subject_alt_names = vec![san_dns("support-bot.acme.example")];
            }),
        ),
        ("an intermediate that is left out", good(&intermediate(&|_| {}))),
        (
            "an intermediate that is no authority",
            through(intermediate(&|params| params.is_ca = IsCa::ExplicitNoCa)),
        ),
        (
            "an expired intermediate",
            through(intermediate(&|params| params.not_after = date_time_ymd(2021, 1, 1))),
        ),
        (
            "a name beyond its authority's",
            through(intermediate(&|params| params.name_constraints = Some(constraints.clone()))),
        ),
    ]
}

#[tokio::test]
async fn ca_05_the_chain_leads_to_the_clients_own_authorities_at_our_time_for_this_purpose() {
    let corporate = Corporate::start().await;
    for (what, credential) in untrusted(&corporate.authority) {
        let answer = corporate.exchange(&credential).await;
        assert_eq!(answer.status, 401, "{what}: {answer:?}");
        Corporate::refused(&answer);
    }
    let params = authority_params("Acme Agents");
    let between = Authority::signed_by(params, KeyPair::generate().unwrap(), &corporate.authority).unwrap();
    let mut through = good(&between);
    through.chain.push(between.der().clone());
    corporate.exchange(&through).await.token();
    through.chain.extend(std::iter::repeat_n(between.der().clone(), 8));
    Corporate::refused(&corporate.exchange(&through).await);
    let unpurposed = Credential::issued(&corporate.authority, |params| {
        params.subject_alt_names = vec![san_dns("support-bot.acme.example")];
        params.extended_key_usages = Vec::new();
    });
    corporate.exchange(&unpurposed).await.token();
    // Valid by the machine's clock, and no longer by ours.
    let brief = Credential::issued(&corporate.authority, |params| {
        params.subject_alt_names = vec![san_dns("support-bot.acme.example")];
        params.not_after = date_time_ymd(2080, 1, 1);
    });
    corporate.exchange(&brief).await.token();
    corporate.server().clock.shift(60 * 366 * 86400);
    let form = [("client_id", "support-agent"), ("token", "x")];
    let client = corporate.secured.client(Some(&brief));
    Corporate::refused(&client.post("/oauth/introspect", &[], &form).await);
}

#[tokio::test]
async fn ca_05_new_authorities_are_in_force_at_once_and_old_ones_no_more() {
    let corporate = Corporate::start().await;
    let next = authority("Acme Corporate 2");
    let tls = json!({"authority": "corporate", "san_dns": "support-bot.acme.example"});
    let rest = corporate.objects(&tls).replacen(&declared(&[&corporate.authority]), "", 1);
    for (declared, served) in [
        (declared(&[&corporate.authority]), [true, false]),
        (declared(&[&corporate.authority, &next]), [true, true]),
        (declared(&[&next]), [false, true]),
    ] {
        corporate.server().apply(&format!("{declared}{rest}")).await.unwrap();
        for (by, served) in [&corporate.authority, &next].into_iter().zip(served) {
            assert_eq!(corporate.exchange(&good(by)).await.status == 200, served);
        }
    }
}

/// The JWK of a credential's key, with members replaced.
fn jwk(credential: &Credential, with: Value) -> Value {
    let point = credential.key.public_key_raw();
    let [x, y] = [&point[1..33], &point[33..]].map(|half| URL_SAFE_NO_PAD.encode(half));
    bend(json!({"kty": "EC", "crv": "P-256", "kid": "1", "x": x, "y": y}), with)
}

fn x5c(credential: &Credential) -> Value {
    json!({"x5c": [STANDARD.encode(&credential.chain[0])]})
}

#[tokio::test]
async fn ca_05_a_certificate_of_its_own_is_the_registered_one_or_has_the_registered_key() {
    let corporate = Corporate::start().await;
    let own = Credential::self_signed(|_| {});
    let again = |bend: &dyn Fn(&mut CertificateParams)| {
        let mut params = crate::support::tls::client_params();
        bend(&mut params);
        let cert = params.self_signed(&*own.key).unwrap();
        Credential { chain: vec![cert.der().clone()], key: own.key.clone() }
    };
    let renewed = again(&|params| params.not_after = date_time_ymd(2095, 1, 1));
    let expired = again(&|params| params.not_after = date_time_ymd(2021, 1, 1));
    let mut copied = named(&corporate.authority, &[san_dns("support-bot.acme.example")]);
    let register = async |key: Value| {
        let auth = json!({"tls": {"self_signed": true}, "jwks": {"keys": [key]}});
        let objects = with_auth(&corporate.server().objects(), "support-agent", &auth);
        corporate.server().apply(&objects).await.unwrap();
    };
    register(jwk(&own, json!({}))).await;
    for shown in [&own, &renewed] {
        corporate.exchange(shown).await.token();
    }
    for shown in [&expired, &copied, &Credential::self_signed(|_| {})] {
        Corporate::refused(&corporate.exchange(shown).await);
    }
    register(jwk(&own, x5c(&own))).await;
    corporate.exchange(&own).await.token();
    Corporate::refused(&corporate.exchange(&renewed).await);
    register(jwk(&own, x5c(&expired))).await;
    Corporate::refused(&corporate.exchange(&expired).await);
    // Whoever only has the certificate does not get through a handshake.
    copied.chain.clone_from(&own.chain);
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        let client = corporate.secured.client_by(Some(&copied), versions);
        let form = [("client_id", "support-agent"), ("token", "x")];
        assert!(client.try_post("/oauth/introspect", &[], &form).await.is_err(), "{versions:?}");
    }
    let auth = json!({"tls": {"self_signed": true}, "jwks": {"keys": [jwk(&own, x5c(&good(&corporate.authority)))]}});
    let objects = with_auth(&corporate.server().objects(), "support-agent", &auth);
    let fault = corporate.server().apply(&objects).await.unwrap_err();
    assert!(format!("{fault:?}").contains("is not that key's"), "{fault:?}");
}

#[tokio::test]
async fn ca_01_ca_02_every_failure_looks_alike_and_the_registered_method_decides() {
    let corporate = Corporate::start().await;
    let (right, server) = (good(&corporate.authority), corporate.server());
    let client = corporate.secured.client(Some(&right));
    let unknown = exchange(server, &client, &[("client_id", "nobody")]).await;
    Corporate::refused(&unknown);
    let own = secret("worker-agent");
    for (what, client, shown) in [
        (
            "another certificate",
            &corporate.secured.client(Some(&good(&authority("x")))),
            vec![("client_id", "support-agent")],
        ),
        ("no certificate", &corporate.secured.client(None), vec![("client_id", "support-agent")]),
        ("no client_id", &client, Vec::new()),
        ("a client of another method", &client, vec![("client_id", "worker-agent")]),
        (
            "a secret it does not have",
            &client,
            vec![("client_id", "support-agent"), ("client_secret", own.as_str())],
        ),
        ("a client_id that is none", &client, vec![("client_id", "a b")]),
    ] {
        let answer = exchange(server, client, &shown).await;
        assert_eq!((answer.status, &answer.body), (401, &unknown.body), "{what}");
        assert_eq!(answer.headers["www-authenticate"], unknown.headers["www-authenticate"]);
    }
    let form = [("client_id", "support-agent"), ("token", "x")];
    let query = client.post("/oauth/introspect?client_id=support-agent", &[], &[("token", "x")]).await;
    assert_eq!(query.body, unknown.body, "a client_id in the query is not looked at");
    assert_eq!(client.post("/oauth/introspect", &[], &form).await.status, 200);
    // Whoever has another method is not held up by a certificate that its connection happens to show.
    let worker = [("client_id", "worker-agent"), ("client_secret", own.as_str()), ("token", "x")];
    assert_eq!(client.post("/oauth/introspect", &[], &worker).await.status, 200);
    let disabled =
        corporate.objects(&json!({"authority": "corporate", "san_dns": "support-bot.acme.example"}));
    let disabled =
        disabled.replace("client_id: support-agent\n", "client_id: support-agent\n  disabled: true\n");
    server.apply(&disabled).await.unwrap();
    assert_eq!(client.post("/oauth/introspect", &[], &form).await.body, unknown.body);
}

#[tokio::test]
async fn ca_05_no_certificate_however_bad_breaks_clients_of_other_methods() {
    let corporate = Corporate::start().await;
    let own = secret("worker-agent");
    let form = [("client_id", "worker-agent"), ("client_secret", own.as_str()), ("token", "x")];
    let mut credentials = untrusted(&corporate.authority);
    let garbage = CertificateDer::from(b"0\x82no certificate".to_vec());
    credentials.push(("garbage", Credential { chain: vec![garbage], ..good(&corporate.authority) }));
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        for (what, credential) in &credentials {
            let client = corporate.secured.client_by(Some(credential), versions);
            let answer = client.post("/oauth/introspect", &[], &form).await;
            assert_eq!(answer.status, 200, "{what}: {answer:?}");
            let mtls =
                client.post("/oauth/introspect", &[], &[("client_id", "support-agent"), ("token", "x")]);
            Corporate::refused(&mtls.await);
        }
        let without = corporate.secured.client_by(None, versions);
        assert_eq!(without.post("/oauth/introspect", &[], &form).await.status, 200);
    }
}

#[tokio::test]
async fn ca_05_a_resumed_session_has_the_certificate_that_began_it_and_no_other() {
    let corporate = Corporate::start().await;
    let server = corporate.server();
    let tls = json!({"authority": "corporate", "san_dns": "support-bot.acme.example"});
    let worker = json!({"tls": {"authority": "corporate", "san_dns": "worker.acme.example"}});
    server.apply(&with_auth(&corporate.objects(&tls), "worker-agent", &worker)).await.unwrap();
    let (agent, worker) =
        (good(&corporate.authority), named(&corporate.authority, &[san_dns("worker.acme.example")]));
    let as_agent = [("client_id", "support-agent"), ("token", "x")];
    let as_worker = [("client_id", "worker-agent"), ("token", "x")];
    let path = "/oauth/introspect";
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        let first = corporate.secured.client_by(Some(&agent), versions).remembering();
        let (kind, answer) = first.try_post(path, &[], &as_agent).await.unwrap();
        assert_eq!((kind, answer.status), (HandshakeKind::Full, 200));
        let (kind, answer) = first.try_post(path, &[], &as_agent).await.unwrap();
        assert_eq!((kind, answer.status), (HandshakeKind::Resumed, 200));
        // Whatever it would show now, the session has what began it.
        first.changes(&worker);
        for (form, status) in [(&as_worker, 401), (&as_agent, 200)] {
            let (kind, answer) = first.try_post(path, &[], form).await.unwrap();
            assert_eq!((kind, answer.status), (HandshakeKind::Resumed, status));
        }
        let fresh = corporate.secured.client_by(Some(&worker), versions).remembering();
        let (kind, answer) = fresh.try_post(path, &[], &as_worker).await.unwrap();
        assert_eq!((kind, answer.status), (HandshakeKind::Full, 200));
        let none = corporate.secured.client_by(None, versions).remembering();
        for _ in 0..2 {
            Corporate::refused(&none.post(path, &[], &as_agent).await);
        }
    }
}

/// `Client-Cert` or one member of its chain.
fn byte_sequence(der: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(der))
}

#[tokio::test]
async fn ca_05_a_listed_proxy_names_the_certificate_of_its_client() {
    let proxy = "behind_proxy = ['127.0.0.1']\nproxy_client_cert = true";
    let corporate = Corporate::start_with(proxy).await;
    let params = authority_params("Acme Agents");
    let between = Authority::signed_by(params, KeyPair::generate().unwrap(), &corporate.authority).unwrap();
    let (right, through) = (good(&corporate.authority), good(&between));
    let (right_value, through_value) = (byte_sequence(&right.chain[0]), byte_sequence(&through.chain[0]));
    let chain = byte_sequence(between.der());
    let padded = format!(" {chain} , {chain}");
    let form = [("client_id", "support-agent"), ("token", "x")];
    // What the proxy shows of itself is never its client's.
    let callers = [corporate.secured.client(None), corporate.secured.client(Some(&right))];
    for caller in &callers {
        let post = async |headers: &[(&str, &str)]| caller.post("/oauth/introspect", headers, &form).await;
        for headers in [
            vec![("client-cert", right_value.as_str())],
            vec![("client-cert", through_value.as_str()), ("client-cert-chain", chain.as_str())],
            vec![("client-cert", through_value.as_str()), ("Client-Cert-Chain", padded.as_str())],
            vec![
                ("client-cert", through_value.as_str()),
                ("client-cert-chain", &right_value),
                ("client-cert-chain", &chain),
            ],
        ] {
            assert_eq!(post(&headers).await.status, 200, "{headers:?}");
        }
        let other = byte_sequence(&good(&authority("x")).chain[0]);
        for headers in
            [vec![], vec![("client-cert", through_value.as_str())], vec![("client-cert", other.as_str())]]
        {
            Corporate::refused(&post(&headers).await);
        }
        let bare = right_value.trim_matches(':').to_owned();
        let (list, parameter) = (format!("{right_value}, {right_value}"), format!("{right_value};a=1"));
        for headers in [
            vec![("client-cert", right_value.as_str()), ("client-cert", &right_value)],
            vec![("client-cert", other.as_str()), ("client-cert", &right_value)],
            vec![("client-cert", list.as_str())],
            vec![("client-cert", parameter.as_str())],
            vec![("client-cert", bare.as_str())],
            vec![("client-cert", "::")],
            vec![("client-cert", "")],
            vec![("client-cert", ":no base64:")],
            vec![("client-cert", right_value.as_str()), ("client-cert-chain", "x")],
            vec![("client-cert-chain", chain.as_str())],
        ] {
            post(&headers).await.refused(400, "invalid_request", "malformed_request");
        }
    }
}

#[tokio::test]
async fn ca_05_a_header_of_anybody_else_names_nobody() {
    let not_its_task = "behind_proxy = ['127.0.0.1']";
    let stranger = "behind_proxy = ['192.0.2.1']\nproxy_client_cert = true";
    for (toml, own_counts) in [("", true), (stranger, true), (not_its_task, false)] {
        let corporate = Corporate::start_with(toml).await;
        let right = good(&corporate.authority);
        let value = byte_sequence(&right.chain[0]);
        let form = [("client_id", "support-agent"), ("token", "x")];
        for headers in
            [vec![("client-cert", value.as_str())], vec![("client-cert", "x"), ("client-cert", "y")]]
        {
            let answer = corporate.secured.client(None).post("/oauth/introspect", &headers, &form).await;
            Corporate::refused(&answer);
            let own = corporate.secured.client(Some(&right)).post("/oauth/introspect", &headers, &form).await;
            assert_eq!(own.status == 200, own_counts, "{toml}");
        }
    }
}

/// A server that knows one trust domain, whose workload `SVID` is `support-agent`.
struct Spiffe {
    secured: Secured,
    domain: Authority,
}

impl Spiffe {
    async fn start() -> Self {
        let spiffe = Self { secured: Secured::start("", ASKS).await, domain: authority("acme.example") };
        spiffe.secured.server.apply(&spiffe.objects()).await.unwrap();
        spiffe
    }

    fn objects(&self) -> String {
        let key = json!({"kty": "EC", "crv": "P-256", "use": "x509-svid", "x": "AA", "y": "AA"});
        let bundle = json!({"keys": [bend(key, json!({"x5c": [STANDARD.encode(self.domain.der())]}))]});
        let domain = format!(
            "kind: WorkloadIssuer\ntenant: acme\nname: domain\nspec: {{type: spiffe, issuer: '{DOMAIN}', jwks: {bundle}}}\n---\n"
        );
        let workload = |subject: &str| json!({"workload": [{"issuer": DOMAIN, "subject": subject}]});
        let objects = with_auth(&self.secured.server.objects(), "support-agent", &workload(SVID));
        domain + &with_auth(&objects, "orders-api", &workload("spiffe://acme.example/orders"))
    }

    async fn introspect(&self, client_id: &str, credential: &Credential) -> Answer {
        let client = self.secured.client(Some(credential));
        client.post("/oauth/introspect", &[], &[("client_id", client_id), ("token", "x")]).await
    }
}

#[tokio::test]
async fn ca_06_an_x509_svid_authenticates_the_workload_that_its_trust_domain_names() {
    let spiffe = Spiffe::start().await;
    let svid = named(&spiffe.domain, &[san_uri(SVID)]);
    for id in ["support-agent", SVID] {
        let client = spiffe.secured.client(Some(&svid));
        let answer = exchange(&spiffe.secured.server, &client, &[("client_id", id)]).await;
        assert_eq!(claims(&answer.token())["client_id"], "support-agent", "{id}");
    }
    let orders =
        named(&spiffe.domain, &[san_dns("orders.acme.example"), san_uri("spiffe://acme.example/orders")]);
    assert_eq!(spiffe.introspect("orders-api", &orders).await.status, 200);
    for (id, credential) in [
        ("support-agent", orders.clone()),
        (SVID, orders),
        ("orders-api", svid.clone()),
        ("spiffe://acme.example/orders", svid.clone()),
        ("spiffe://acme.example/agents/support-bot/", svid.clone()),
        (DOMAIN, svid.clone()),
        ("worker-agent", svid),
    ] {
        Corporate::refused(&spiffe.introspect(id, &credential).await);
    }
    let issued = |bend: &dyn Fn(&mut CertificateParams)| {
        Credential::issued(&spiffe.domain, |params| {
            params.subject_alt_names = vec![san_uri(SVID)];
            bend(params);
        })
    };
    for (what, credential) in [
        ("two URIs", named(&spiffe.domain, &[san_uri(SVID), san_uri("spiffe://acme.example/other")])),
        ("its URI twice", named(&spiffe.domain, &[san_uri(SVID), san_uri(SVID)])),
        ("no URI", named(&spiffe.domain, &[san_dns("support-bot.acme.example")])),
        ("another workload", named(&spiffe.domain, &[san_uri("spiffe://acme.example/agents/other")])),
        (
            "another trust domain",
            named(&spiffe.domain, &[san_uri("spiffe://other.example/agents/support-bot")]),
        ),
        ("the trust domain itself", named(&spiffe.domain, &[san_uri(DOMAIN)])),
        ("another authority", named(&authority("acme.example"), &[san_uri(SVID)])),
        ("expired", issued(&|params| params.not_after = date_time_ymd(2021, 1, 1))),
        ("signs others", issued(&|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign))),
        ("signs revocations", issued(&|params| params.key_usages.push(KeyUsagePurpose::CrlSign))),
        (
            "another purpose",
            issued(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        ),
    ] {
        for id in ["support-agent", SVID] {
            let answer = spiffe.introspect(id, &credential).await;
            assert_eq!(answer.status, 401, "{what}: {answer:?}");
            Corporate::refused(&answer);
        }
    }
}

#[tokio::test]
async fn ca_05_ca_06_methods_are_published_where_a_certificate_can_be_shown() {
    let secrets = json!(["client_secret_basic", "client_secret_post", "private_key_jwt", "spiffe_jwt"]);
    let all = json!([
        "client_secret_basic",
        "client_secret_post",
        "private_key_jwt",
        "spiffe_jwt",
        "tls_client_auth",
        "self_signed_tls_client_auth",
        "spiffe_x509",
    ]);
    for (toml, methods) in [
        ("", &secrets),
        ("behind_proxy = ['127.0.0.1']", &secrets),
        ("behind_proxy = ['127.0.0.1']\nproxy_client_cert = true", &all),
    ] {
        let server = Server::start_with(toml).await;
        let document = server.get("/.well-known/oauth-authorization-server", &[]).await.body;
        for endpoint in ["token", "introspection", "revocation"] {
            assert_eq!(document[format!("{endpoint}_endpoint_auth_methods_supported")], *methods, "{toml}");
        }
        assert_eq!(document.get("tls_client_certificate_bound_access_tokens"), None);
        assert_eq!(document.get("mtls_endpoint_aliases"), None);
    }
    // Plain HTTP beside a proxy: the header is all there is.
    let server = Server::start_with("behind_proxy = ['127.0.0.1']\nproxy_client_cert = true").await;
    let corporate = authority("Acme Corporate");
    let tls = json!({"tls": {"authority": "corporate", "san_dns": "support-bot.acme.example"}});
    let objects = declared(&[&corporate]) + &with_auth(&server.objects(), "support-agent", &tls);
    server.apply(&objects).await.unwrap();
    let headers = [("client-cert".to_owned(), byte_sequence(&good(&corporate).chain[0]))];
    let form = encode(&[("client_id", "support-agent"), ("token", "x")]);
    let answer = server.send("/oauth/introspect", &headers, form, "application/x-www-form-urlencoded").await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn ca_05_t42_what_could_never_match_or_is_another_tenants_is_not_applied() {
    let corporate = Corporate::start().await;
    let objects = |tls: &Value| corporate.objects(tls);
    let by = |name: &str, value: &str| json!({"authority": "corporate", name: value});
    let leaf = good(&corporate.authority);
    let pem = |der: &[u8]| {
        json!(format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der)))
    };
    let own = json!(corporate.authority.pem());
    let replaced =
        |with: Value| objects(&by("san_dns", "a.example")).replace(&own.to_string(), &with.to_string());
    for (yaml, told) in [
        (objects(&json!({"authority": "corporate"})), "exactly one of"),
        (
            objects(&json!({"authority": "corporate", "san_dns": "a.example", "san_uri": "a:b"})),
            "exactly one of",
        ),
        (objects(&json!({"san_dns": "a.example"})), "self_signed: true"),
        (
            objects(&json!({"authority": "corporat", "san_dns": "a.example"})),
            "no certificate authority `corporat`",
        ),
        (objects(&json!({"self_signed": true})), "auth.jwks"),
        (objects(&json!({"self_signed": true, "san_dns": "a.example"})), "without an authority"),
        (objects(&by("san_dns", "*.acme.example")), "no patterns"),
        (objects(&by("san_uri", "acme")), "a URI"),
        (objects(&by("san_ip", "192.0.2")), "san_ip"),
        (objects(&by("san_email", "acme.example")), "a mailbox"),
        (objects(&by("subject_dn", "support-bot")), "RFC 4514"),
        (
            objects(&json!({"authority": "abroad", "san_dns": "a.example"}))
                .replace("tenant: acme\nname: corporate", "tenant: globex\nname: abroad"),
            "no certificate authority `abroad`",
        ),
        (replaced(json!("no PEM")), "no certificate in PEM"),
        (replaced(pem(b"no DER")), "cannot be read"),
        (replaced(pem(&leaf.chain[0])), "not that of an authority"),
        (replaced(json!(corporate.authority.pem() + &leaf.key.serialize_pem())), "a private key"),
    ] {
        let fault = corporate.server().apply(&yaml).await.unwrap_err();
        assert!(format!("{fault:?}").contains(told), "{told}: {fault:?}");
    }
}
