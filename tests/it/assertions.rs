//! Clients that authenticate by a key of their own: `private_key_jwt` (STANDARDS CA-03, CA-04; T30, T31, T33, T35, T36).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::idp::bend;
use crate::support::keyed::{ASSERTION_TYPE, JWT_BEARER, Keyed};
use crate::support::server::{Answer, ORDERS, Server, encode, secret, sha256};
use crate::support::signer::Signer;

const FORM: &str = "application/x-www-form-urlencoded";
const ENDPOINTS: [&str; 4] = ["/oauth/token", "/oauth/introspect", "/oauth/revoke", "/task-types"];

#[tokio::test]
async fn ca_03_agents_and_resources_authenticate_by_key_at_every_endpoint() {
    let keyed = Keyed::start().await;
    let root = keyed.root("support-agent").await;
    let root = root.token();
    for (client, path, with) in [
        ("orders-api", "/oauth/introspect", vec![("token", root.as_str())]),
        ("support-agent", "/oauth/introspect", vec![("token", root.as_str())]),
        ("support-agent", "/task-types", vec![]),
        ("support-agent", "/task-types", vec![("client_id", "support-agent")]),
        ("support-agent", "/oauth/revoke", vec![("token", root.as_str())]),
    ] {
        let answer = keyed.post(path, &keyed.assertion(client), &with).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    assert_eq!(keyed.server.introspect("orders-api", &root).await.body, json!({"active": false}));
    let listed = keyed.post("/task-types", &keyed.assertion("support-agent"), &[]).await;
    assert!(listed.body["task_types"].as_array().unwrap().len() > 1);
    keyed.server.exchange("support-agent", &keyed.server.session(json!({})), &Keyed::ROOT).await.token();
}

#[tokio::test]
async fn ca_03_an_assertion_is_short_lived_has_an_id_and_names_its_client_twice() {
    let keyed = Keyed::start().await;
    // Told by the second in which each is sent: on a slow machine the first seconds pass before the last is.
    let bent = |now: i64| {
        [
            json!({"exp": null}),
            json!({"exp": now}),
            json!({"exp": now + 301}),
            json!({"exp": "soon"}),
            json!({"jti": null}),
            json!({"jti": ""}),
            json!({"jti": 7}),
            json!({"jti": "a\nb"}),
            json!({"sub": null}),
            json!({"sub": "worker-agent"}),
            json!({"iat": now + 90}),
            json!({"iat": now - 3600}),
            json!({"nbf": now + 90}),
            json!({"events": {}}),
            json!({"cnf": {"jkt": "x"}}),
        ]
    };
    for at in 0..bent(0).len() {
        let with = bent(keyed.server.now())[at].clone();
        let assertion = keyed.bent("support-agent", with.clone());
        let answer = keyed.exchange(&assertion).await;
        assert_eq!(answer.body["reason_code"], "client_assertion_invalid", "{with}: {answer:?}");
        answer.refused(401, "invalid_client", "client_assertion_invalid");
        assert!(answer.headers.contains_key("www-authenticate"));
    }
    let latest = json!({"exp": keyed.server.now() + 300, "iat": null});
    keyed.exchange(&keyed.bent("support-agent", latest)).await.token();
    // `iss` says whose keys are asked for: with another client there, it is that client's key that is missing.
    for iss in [json!("worker-agent"), json!("nobody"), json!(["support-agent"]), Value::Null] {
        let answer = keyed.exchange(&keyed.bent("support-agent", json!({"iss": iss}))).await;
        answer.refused(401, "invalid_client", "client_authentication_failed");
    }
}

#[tokio::test]
async fn ca_04_t30_the_audience_of_an_assertion_is_our_issuer_and_nothing_else() {
    let keyed = Keyed::start().await;
    let own = keyed.server.issuer.clone();
    for aud in [
        json!(format!("{own}/oauth/token")),
        json!([own, format!("{own}/oauth/token")]),
        json!([own, own]),
        json!(format!("{own}/")),
        json!(own.to_uppercase()),
        json!([]),
        json!(7),
        Value::Null,
    ] {
        for path in ENDPOINTS {
            let answer = keyed.post(path, &keyed.bent("support-agent", json!({"aud": aud})), &[]).await;
            let answer = answer.refused(401, "invalid_client", "client_assertion_invalid");
            assert!(
                answer.body["error_description"]
                    .as_str()
                    .unwrap()
                    .contains("`aud` is not this server's issuer")
            );
        }
    }
    keyed.exchange(&keyed.bent("support-agent", json!({"aud": [own]}))).await.token();
}

#[tokio::test]
async fn ca_04_an_assertion_may_be_typed_or_untyped_but_not_typed_as_something_else() {
    let keyed = Keyed::start().await;
    for typ in [json!("client-authentication+jwt"), json!("JWT"), Value::Null] {
        keyed.exchange(&keyed.typed("support-agent", &typ)).await.token();
    }
    for typ in
        ["at+jwt", "actor+jwt", "dpop+jwt", "secevent+jwt", "logout+jwt", "token-introspection+jwt", "x"]
    {
        let answer = keyed.exchange(&keyed.typed("support-agent", &json!(typ))).await;
        answer.refused(401, "invalid_client", "client_assertion_invalid");
    }
}

#[tokio::test]
async fn t31_an_assertion_is_spent_once_across_all_endpoints_and_restarts() {
    let keyed = Keyed::start().await;
    let root = keyed.root("support-agent").await.token();
    let form = [("token", root.as_str())];
    let refused = |answer: &Answer| {
        answer.refused(401, "invalid_client", "client_authentication_failed");
    };
    for first in ENDPOINTS {
        let assertion = keyed.assertion("support-agent");
        let answer = if first == "/oauth/token" {
            keyed.exchange(&assertion).await
        } else if first == "/oauth/revoke" {
            keyed.post(first, &assertion, &[("token", "unknown")]).await
        } else {
            keyed.post(first, &assertion, &form).await
        };
        assert_eq!(answer.status, 200, "{first}: {answer:?}");
        let before = keyed.server.decisions().await;
        for again in ENDPOINTS {
            refused(&keyed.post(again, &assertion, &form).await);
        }
        refused(&keyed.exchange(&assertion).await);
        assert_eq!(keyed.server.decisions().await, before, "a replay is a failed authentication (L12)");
    }
    assert_eq!(keyed.server.introspect("orders-api", &root).await.body["active"], true);
    let named = json!({"jti": "the-same"});
    keyed.exchange(&keyed.bent("support-agent", named.clone())).await.token();
    let keyed = keyed.restart().await;
    refused(&keyed.exchange(&keyed.bent("support-agent", named)).await);
    keyed.exchange(&keyed.assertion("support-agent")).await.token();
}

#[tokio::test]
async fn t31_a_clock_set_an_hour_forward_and_back_revives_no_assertion() {
    let keyed = Keyed::start().await;
    let root = keyed.root("support-agent").await.token();
    let ask = async |assertion: &str| keyed.post("/oauth/introspect", assertion, &[("token", &root)]).await;
    let spent = keyed.assertion("support-agent");
    assert_eq!(ask(&spent).await.status, 200);
    keyed.server.clock.step(3600);
    for _ in 0..2 {
        // What is spent is purged once a second.
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        assert_eq!(ask(&keyed.assertion("support-agent")).await.status, 200);
    }
    keyed.server.clock.step(-3600);
    ask(&spent).await.refused(401, "invalid_client", "client_authentication_failed");
}

#[tokio::test]
async fn t31_a_clock_set_far_forward_and_back_revives_no_assertion() {
    let until_purged = || tokio::time::sleep(std::time::Duration::from_millis(1100));
    for issues in [false, true] {
        let keyed = Keyed::start().await;
        let ask = async |assertion: &str| keyed.post("/task-types", assertion, &[]).await;
        let spent = keyed.bent("support-agent", json!({"exp": keyed.server.now() + 300}));
        assert_eq!(ask(&spent).await.status, 200);
        keyed.server.clock.step(3 * 3600);
        if issues {
            // Once the clock has been steady for a minute, the server can but believe it.
            keyed.root("support-agent").await.refused(503, "temporarily_unavailable", "clock_unsteady");
            keyed.server.clock.shift(61);
            keyed.root("support-agent").await.token();
        }
        until_purged().await;
        assert_eq!(ask(&keyed.assertion("support-agent")).await.status, 200);
        keyed.server.clock.step(-3 * 3600);
        ask(&spent).await.refused(401, "invalid_client", "client_authentication_failed");
    }
}

#[tokio::test]
async fn t31_a_refused_exchange_and_a_dry_run_spend_their_assertion() {
    let keyed = Keyed::start().await;
    for with in [
        vec![("scope", "admin")],
        vec![("grant_type", "password")],
        vec![("dry_run", "true")],
        vec![("subject_token", "x")],
    ] {
        let assertion = keyed.assertion("support-agent");
        let first = keyed.exchange_with(&assertion, &with).await;
        assert_ne!(first.status, 401, "{first:?}");
        let again = keyed.exchange(&assertion).await;
        again.refused(401, "invalid_client", "client_authentication_failed");
    }
    let assertion = keyed.assertion("orders-api");
    keyed.exchange(&assertion).await.refused(400, "unauthorized_client", "client_is_no_agent");
    keyed.exchange(&assertion).await.refused(401, "invalid_client", "client_authentication_failed");
}

#[tokio::test]
async fn t31_of_many_that_present_one_assertion_at_once_one_wins() {
    let keyed = Arc::new(Keyed::start().await);
    let root = keyed.root("support-agent").await.token();
    for path in ENDPOINTS {
        let assertion = keyed.assertion("support-agent");
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..12 {
            let (keyed, assertion, root) = (keyed.clone(), assertion.clone(), root.clone());
            running.spawn(async move {
                match path {
                    "/oauth/token" => keyed.exchange(&assertion).await,
                    "/oauth/revoke" => keyed.post(path, &assertion, &[("token", "unknown")]).await,
                    _ => keyed.post(path, &assertion, &[("token", &root)]).await,
                }
            });
        }
        let answers = running.join_all().await;
        assert_eq!(answers.iter().filter(|a| a.status == 200).count(), 1, "{path}");
        for lost in answers.iter().filter(|a| a.status != 200) {
            lost.refused(401, "invalid_client", "client_authentication_failed");
        }
    }
}

#[tokio::test]
async fn t35_single_use_ids_of_two_clients_and_of_two_kinds_do_not_meet() {
    let keyed = Keyed::start().await;
    let wide = keyed.server.wide_root().await;
    let hand_over = keyed.server.hand_over(&wide, "worker-agent").await;
    let jti = crate::support::idp::claims(&hand_over)["jti"].clone();
    let same = json!({"jti": jti});
    keyed.exchange(&keyed.bent("support-agent", same.clone())).await.token();
    let answer = keyed.post("/oauth/introspect", &keyed.bent("orders-api", same), &[("token", &wide)]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    keyed.server.exchange("worker-agent", &hand_over, &[]).await.token();
    // What a line feed would join, none may hold.
    let answer = keyed.exchange(&keyed.bent("support-agent", json!({"jti": format!("x\n{jti}")}))).await;
    answer.refused(401, "invalid_client", "client_assertion_invalid");
}

#[tokio::test]
async fn ca_02_an_unknown_client_a_wrong_key_and_a_disabled_agent_look_alike() {
    let keyed = Keyed::start().await;
    let wrong = keyed
        .exchange(&keyed.server.idp.signer.sign(json!({"alg": "ES256"}), keyed.claims("support-agent")))
        .await;
    wrong.refused(401, "invalid_client", "client_authentication_failed");
    let good = keyed.assertion("support-agent");
    let parts: Vec<&str> = good.split('.').collect();
    let [head, body, signature] = parts[..] else { panic!("three parts") };
    let mut altered = signature.to_owned();
    altered.replace_range(..1, if signature.starts_with('A') { "B" } else { "A" });
    let header = |kid: &str, alg: &str| json!({"alg": alg, "kid": kid});
    for assertion in [
        keyed.bent("support-agent", json!({"iss": "nobody", "sub": "nobody"})),
        // Registered, without keys.
        keyed.bent("support-agent", json!({"iss": "worker-two", "sub": "worker-two"})),
        // The key of another client (T33).
        keyed.bent("support-agent", json!({"iss": "orders-api", "sub": "orders-api"})),
        keyed.key("support-agent").sign(header("no-such-key", "ES256"), keyed.claims("support-agent")),
        keyed
            .key("support-agent")
            .sign(header(&keyed.key("support-agent").kid, "RS256"), keyed.claims("support-agent")),
        keyed
            .key("support-agent")
            .sign(header(&keyed.key("support-agent").kid, "none"), keyed.claims("support-agent")),
        keyed
            .key("support-agent")
            .sign(header(&keyed.key("support-agent").kid, "HS256"), keyed.claims("support-agent")),
        // T36: truncated and altered.
        format!("{head}.{body}."),
        format!("{head}.{body}"),
        format!("{head}.{body}.{}", &signature[..signature.len() - 4]),
        format!("{head}.{body}.{altered}"),
        format!("{good}="),
        "x".to_owned(),
        "a.b.c".to_owned(),
    ] {
        let answer = keyed.exchange(&assertion).await;
        assert_eq!((answer.status, &answer.body), (401, &wrong.body), "{assertion}");
        assert_eq!(answer.headers["www-authenticate"], wrong.headers["www-authenticate"]);
    }
    keyed.exchange(&good).await.token();
    keyed
        .server
        .apply(
            &keyed
                .objects()
                .replace("client_id: support-agent\n", "client_id: support-agent\n  disabled: true\n"),
        )
        .await
        .unwrap();
    let disabled = keyed.exchange(&keyed.assertion("support-agent")).await;
    assert_eq!((disabled.status, &disabled.body), (401, &wrong.body));
}

#[tokio::test]
async fn ca_01_an_assertion_comes_with_its_type_alone_and_agrees_with_client_id() {
    let keyed = Keyed::start().await;
    let server = &keyed.server;
    let assertion = keyed.assertion("support-agent");
    let (sent, kind) = (("client_assertion", assertion.as_str()), (ASSERTION_TYPE, JWT_BEARER));
    let own = secret("support-agent");
    for form in [
        vec![sent],
        vec![kind],
        vec![sent, kind, ("client_secret", own.as_str())],
        vec![kind, ("client_id", "support-agent"), ("client_secret", own.as_str())],
        vec![sent, kind, ("client_id", "worker-agent")],
        vec![sent, sent, kind],
        vec![sent, kind, kind],
    ] {
        for path in ENDPOINTS {
            let answer = server.send(path, &[], encode(&form), FORM).await;
            answer.refused(400, "invalid_request", "malformed_request");
        }
    }
    for other in ["urn:ietf:params:oauth:client-assertion-type:saml2-bearer", "jwt-bearer"] {
        let form = [sent, (ASSERTION_TYPE, other)];
        let answer = server.send("/oauth/token", &[], encode(&form), FORM).await;
        answer.refused(401, "invalid_client", "client_assertion_invalid");
    }
    keyed.exchange_with(&assertion, &[("client_id", "support-agent")]).await.token();
}

#[tokio::test]
async fn jw_01_an_assertion_uses_an_algorithm_that_the_client_has_registered() {
    let keyed = Keyed::start().await;
    let only = keyed.objects().replace(", jwks: ", ", algorithms: [EdDSA, RS256], jwks: ");
    keyed.server.apply(&only).await.unwrap();
    let answer = keyed.exchange(&keyed.assertion("support-agent")).await;
    answer.refused(401, "invalid_client", "client_authentication_failed");
    for bad in [
        ", algorithms: [], jwks: ",
        ", algorithms: [HS256], jwks: ",
        ", algorithms: [none], jwks: ",
        ", jwks_uri: 'https://x.example', jwks: ",
    ] {
        let objects = keyed.objects().replacen(", jwks: ", bad, 1);
        assert!(keyed.server.apply(&objects).await.is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_key_set_of_a_client_holds_only_usable_public_keys() {
    let keyed = Keyed::start().await;
    let key = keyed.key("support-agent").jwk();
    for jwks in [
        json!({"keys": [bend(key.clone(), json!({"d": "AAAA"}))]}),
        json!({"keys": [bend(key.clone(), json!({"use": "enc"}))]}),
        json!({"keys": []}),
        json!([key]),
    ] {
        let objects = keyed.objects().replace(&json!({"keys": [key]}).to_string(), &jwks.to_string());
        let fault = keyed.server.apply(&objects).await.unwrap_err();
        let told = format!("{fault:?}");
        assert!(told.contains("spec.auth.jwks"), "{told}");
    }
}

/// A listener that counts connections, answers one body, or redirects.
struct Listener {
    url: String,
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Listener {
    async fn start(head: String, body: String) -> Self {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = connections.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                let answer = format!(
                    "HTTP/1.1 {head}content-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                tokio::spawn(async move {
                    let _ = stream.read(&mut [0; 4096]).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { url: format!("http://127.0.0.1:{port}/jwks"), port, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn agent_with(jwks_uri: &str) -> String {
    format!(
        "kind: Agent\ntenant: acme\nname: remote\nspec:\n  client_id: remote-agent\n  class: support\n  owner: group:g\n  \
         contact: c\n  auth: {{jwks_uri: '{jwks_uri}'}}\n"
    )
}

#[tokio::test]
async fn ca_03_jw_03_keys_at_jwks_uri_are_fetched_once_for_a_flood_and_anew_for_an_unknown_kid() {
    let keyed = Keyed::start().await;
    let signer = Signer::new("remote-key");
    let site = Listener::start("200 OK\r\n".to_owned(), json!({"keys": [signer.jwk()]}).to_string()).await;
    keyed.server.apply(&agent_with(&site.url)).await.unwrap();
    let sign = |signer: &Signer| keyed.signed(signer, "remote-agent", json!({}));
    for _ in 0..3 {
        let answer = keyed.post("/task-types", &sign(&signer), &[]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let stranger = Signer::new("another-key");
    for _ in 0..5 {
        let answer = keyed.post("/task-types", &sign(&stranger), &[]).await;
        answer.refused(401, "invalid_client", "client_authentication_failed");
    }
    assert_eq!(site.connections(), 1, "fetches are at least 10 s apart");
    keyed.server.clock.shift(11);
    keyed.post("/task-types", &sign(&stranger), &[]).await.refused(
        401,
        "invalid_client",
        "client_authentication_failed",
    );
    assert_eq!(site.connections(), 2);
}

#[tokio::test]
async fn t37_a_jwks_uri_that_redirects_or_is_private_reaches_nothing() {
    let keyed = Keyed::start().await;
    let signer = Signer::new("remote-key");
    let target = Listener::start("200 OK\r\n".to_owned(), json!({"keys": [signer.jwk()]}).to_string()).await;
    let redirect = Listener::start(format!("302 Found\r\nlocation: {}\r\n", target.url), String::new()).await;
    keyed.server.apply(&agent_with(&redirect.url)).await.unwrap();
    let answer = keyed.post("/task-types", &keyed.signed(&signer, "remote-agent", json!({})), &[]).await;
    answer.refused(503, "temporarily_unavailable", "client_keys_unavailable");
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!((redirect.connections(), target.connections()), (1, 0));

    let server = Server::start_closed().await;
    let port = target.port;
    for uri in [
        format!("http://127.0.0.1:{port}/jwks"),
        format!("https://127.0.0.1:{port}/jwks"),
        format!("https://localhost:{port}/jwks"),
        format!("https://2130706433:{port}/jwks"),
        format!("https://0x7f.1:{port}/jwks"),
        format!("https://[::1]:{port}/jwks"),
        format!("https://[::ffff:127.0.0.1]:{port}/jwks"),
        format!("https://user@127.0.0.1:{port}/jwks"),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        "file:///etc/passwd".to_owned(),
    ] {
        server.apply(&agent_with(&uri)).await.unwrap();
        let now = server.now();
        let claims = json!({"iss": "remote-agent", "sub": "remote-agent", "aud": server.issuer, "exp": now + 60, "jti": uri});
        let assertion = signer.sign(signer.header("JWT"), claims);
        let form = encode(&[("client_assertion", assertion.as_str()), (ASSERTION_TYPE, JWT_BEARER)]);
        let answer = server.send("/task-types", &[], form, FORM).await;
        answer.refused(503, "temporarily_unavailable", "client_keys_unavailable");
        let status = server.admin().await.status().await.unwrap().unwrap();
        let listed = status.key_sets.iter().find(|set| set.issuer == *uri).unwrap();
        assert!(listed.last_error.is_some(), "{uri}: {status:?}");
    }
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn t33_an_agent_of_another_tenant_is_that_agent_and_no_other() {
    let keyed = Keyed::start().await;
    let signer = Signer::new("globex-key");
    let with_key = format!("auth: {{jwks: {}}}", json!({"keys": [signer.jwk()]}));
    let secret = format!("auth: {{secret_sha256: [{}]}}", sha256(&secret("globex-agent")));
    keyed.server.apply(&keyed.objects().replace(&secret, &with_key)).await.unwrap();
    let answer = keyed.exchange(&keyed.signed(&signer, "globex-agent", json!({}))).await;
    answer.refused(400, "invalid_request", "agent_not_of_tenant");
    let posing = keyed.signed(&signer, "support-agent", json!({}));
    keyed.exchange(&posing).await.refused(401, "invalid_client", "client_authentication_failed");
    assert_eq!(ORDERS, "https://orders.acme.example/api");
}
