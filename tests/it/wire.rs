//! The wire format of the exchange: what is read and what is answered (STANDARDS §1.1 to §1.4).

use serde_json::json;

use crate::support::idp::claims;
use crate::support::server::{ACCESS_TOKEN, Answer, JWT, MAIL, ORDERS, Server, TOKEN_EXCHANGE, encode};

const FORM: &str = "application/x-www-form-urlencoded";

fn urn(kind: &str) -> String {
    format!("urn:ietf:params:oauth:token-type:{kind}")
}

fn basic() -> Vec<(String, String)> {
    use base64::Engine as _;
    let plain = format!("support-agent:{}", crate::support::server::secret("support-agent"));
    let encoded = base64::engine::general_purpose::STANDARD.encode(plain);
    vec![("authorization".to_owned(), format!("Basic {encoded}"))]
}

#[tokio::test]
async fn tx_01_a_parameter_sent_twice_is_refused() {
    let server = Server::start().await;
    let session = server.session(json!({}));
    for (name, value) in [
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", session.as_str()),
        ("subject_token_type", ACCESS_TOKEN),
        ("actor_token", "a.b.c"),
        ("actor_token_type", JWT),
        ("requested_token_type", ACCESS_TOKEN),
        ("scope", "orders:read"),
        ("authorization_details", "[]"),
        ("task_type", "refund_order"),
        ("requested_expires_in", "60"),
        ("delegate_to", "worker-agent"),
        ("claimed", "{}"),
        ("dry_run", "true"),
    ] {
        let twice = [(name, value), (name, value)];
        let answer = server.exchange("support-agent", &session, &twice).await;
        answer.refused(400, "invalid_request", "malformed_request");
        assert!(answer.body["error_description"].as_str().unwrap().starts_with(name), "{name}: {answer:?}");
        let one_empty = [(name, value), (name, "")];
        let answer = server.exchange("support-agent", &session, &one_empty).await;
        answer.refused(400, "invalid_request", "malformed_request");
    }
}

#[tokio::test]
async fn tx_01_resource_and_audience_repeat_and_may_be_mixed() {
    let server = Server::start().await;
    let session = server.session(json!({}));
    let form = [("task_type", "refund_order"), ("resource", ORDERS), ("audience", "mail")];
    let both = server.exchange("support-agent", &session, &form).await;
    both.refused(400, "invalid_target", "target_ambiguous");
    let form = [&form[..], &[("audience", server.issuer.as_str())]].concat();
    let wide = server.exchange("support-agent", &session, &form).await.token();
    assert_eq!(claims(&wide)["resources"], json!([MAIL, ORDERS]));
    for name in ["orders", "order-service", ORDERS] {
        let form = [("task_type", "refund_order"), ("audience", name)];
        let token = server.exchange("support-agent", &session, &form).await.token();
        assert_eq!(claims(&token)["aud"], ORDERS, "{name}");
    }
}

#[tokio::test]
async fn tx_01_an_empty_parameter_counts_as_left_out_and_an_unknown_one_is_ignored() {
    let server = Server::start().await;
    let form = [
        ("task_type", "refund_order"),
        ("resource", ORDERS),
        ("audience", ""),
        ("scope", ""),
        ("actor_token", ""),
        ("actor_token_type", ""),
        ("authorization_details", ""),
        ("flavour", "vanilla"),
        ("act", "{\"sub\":\"root\"}"),
    ];
    let answer = server.exchange("support-agent", &server.session(json!({})), &form).await;
    assert_eq!(answer.body["scope"], "orders:read", "{answer:?}");
    answer.token();
}

#[tokio::test]
async fn tx_02_a_get_a_query_string_and_json_never_issue_a_token() {
    let server = Server::start().await;
    let session = server.session(json!({}));
    let form = [
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", session.as_str()),
        ("subject_token_type", ACCESS_TOKEN),
        ("task_type", "refund_order"),
        ("resource", ORDERS),
    ];
    let query = format!("/oauth/token?{}", encode(&form));
    assert_eq!(server.get(&query, &basic()).await.status, 405);
    let in_query = server.send(&query, &basic(), "", FORM).await;
    in_query.refused(400, "invalid_request", "malformed_request");
    let partly = format!("/oauth/token?{}", encode(&form[1..2]));
    let partly = server.send(&partly, &basic(), encode(&[&form[..1], &form[2..]].concat()), FORM).await;
    partly.refused(400, "invalid_request", "malformed_request");
    let members = form.iter().map(|(k, v)| ((*k).to_owned(), json!(v)));
    let body = serde_json::Value::Object(members.collect()).to_string();
    for (kind, status) in [("application/json", 415), ("text/plain", 415), ("", 415), (FORM, 400)] {
        let answer = server.send("/oauth/token", &basic(), body.clone(), kind).await;
        assert_eq!(answer.status, status, "{kind}: {answer:?}");
        assert_eq!(answer.body["error"], "invalid_request");
    }
    let latin = server.send("/oauth/token", &basic(), "scope=%ff&grant_type=x", FORM).await;
    latin.refused(400, "invalid_request", "malformed_request");
    let long = format!("{}&pad={}", encode(&form), "x".repeat(70_000));
    assert_eq!(server.send("/oauth/token", &basic(), long, FORM).await.status, 413);
    server.send("/oauth/token", &basic(), encode(&form), &format!("{FORM}; charset=UTF-8")).await.token();
}

#[tokio::test]
async fn tx_03_a_missing_or_unpaired_token_parameter_is_refused() {
    let server = Server::start().await;
    let session = server.session(json!({}));
    let actor = server.actor_token("one");
    let base = [("task_type", "refund_order"), ("resource", ORDERS)];
    let with = |more: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
        base.iter().chain(more).map(|(k, v)| (*k, (*v).to_owned())).collect()
    };
    for (missing, form) in [
        ("grant_type", with(&[("grant_type", "")])),
        ("subject_token", with(&[("subject_token", "")])),
        ("subject_token_type", with(&[("subject_token_type", "")])),
        ("actor_token_type", with(&[("actor_token", &actor)])),
        ("actor_token_type", with(&[("actor_token", &actor), ("actor_token_type", "")])),
        ("actor_token_type", with(&[("actor_token_type", JWT)])),
        ("actor_token_type", with(&[("actor_token", ""), ("actor_token_type", JWT)])),
    ] {
        let form: Vec<(&str, &str)> = form.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let answer = server.exchange("support-agent", &session, &form).await;
        answer.refused(400, "invalid_request", "malformed_request");
        assert!(answer.body["error_description"].as_str().unwrap().starts_with(missing), "{answer:?}");
    }
}

#[tokio::test]
async fn t03_a_dropped_subject_token_never_falls_back_to_another_grant() {
    let server = Server::start().await;
    let session = server.session(json!({}));
    for grant in ["client_credentials", "refresh_token", "authorization_code", "password", "Token-Exchange"] {
        let form = [("grant_type", grant), ("scope", "orders:read"), ("resource", ORDERS)];
        let answer = server.exchange("support-agent", &session, &form).await;
        answer.refused(400, "unsupported_grant_type", "grant_type_unsupported");
    }
    for blank in ["", " ", "\t", "null", "undefined", "..", "a.b.c"] {
        let form = [("subject_token", blank), ("task_type", "refund_order"), ("resource", ORDERS)];
        let answer = server.exchange("support-agent", "", &form).await;
        assert_eq!((answer.status, &answer.body["error"]), (400, &json!("invalid_request")), "{blank:?}");
    }
}

#[tokio::test]
async fn tx_05_every_scope_must_be_allowable_at_the_target() {
    let server = Server::start().await;
    let session = server.session(json!({}));
    let ask = async |resource: &str, scope: &str| {
        let form = [("task_type", "refund_order"), ("resource", resource), ("scope", scope)];
        server.exchange("support-agent", &session, &form).await
    };
    let elsewhere = ask(MAIL, "refunds:write").await;
    let elsewhere = elsewhere.refused(400, "invalid_scope", "scope_exceeds_ceiling");
    assert_eq!(elsewhere.body["ceiling"], "resource");
    assert_eq!(elsewhere.body["grantable"], json!({"scope": "mail:send orders:read"}));
    ask(MAIL, "mail:send refunds:write").await.refused(400, "invalid_scope", "scope_exceeds_ceiling");
    ask(MAIL, "mail:send orders:read").await.token();
}

#[tokio::test]
async fn tx_06_t01_without_client_authentication_nothing_is_issued() {
    let server = Server::start().await;
    let session = server.session(json!({}));
    let form = [
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", session.as_str()),
        ("subject_token_type", ACCESS_TOKEN),
        ("task_type", "refund_order"),
        ("resource", ORDERS),
    ];
    let named = [&form[..], &[("client_id", "support-agent")]].concat();
    for form in [encode(&form), encode(&named)] {
        let answer = server.send("/oauth/token", &[], form, FORM).await;
        answer.refused(401, "invalid_client", "client_authentication_failed");
        assert!(answer.headers["www-authenticate"].starts_with("Basic "));
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
    let bearer = [("authorization".to_owned(), format!("Bearer {session}"))];
    let answer = server.send("/oauth/token", &bearer, encode(&form), FORM).await;
    answer.refused(401, "invalid_client", "client_authentication_failed");
}

#[tokio::test]
async fn tx_07_an_exchange_leaves_its_input_as_it_was() {
    let server = Server::start().await;
    let root = server.root().await;
    let before = server.introspect("orders-api", &root).await;
    let child = server.exchange("support-agent", &root, &[("scope", "orders:read")]).await.token();
    assert_eq!(server.introspect("orders-api", &root).await.body, before.body);
    assert_eq!(server.revoke("support-agent", &child).await.status, 200);
    assert_eq!(server.introspect("orders-api", &root).await.body, before.body);
    server.exchange("support-agent", &root, &[]).await.token();
}

#[tokio::test]
async fn tx_08_t19_only_the_listed_token_types_are_taken_or_issued() {
    let server = Server::start().await;
    let session = server.session(json!({}));
    let actor = server.actor_token("one");
    let base = [("task_type", "refund_order"), ("resource", ORDERS)];
    let refused = async |more: &[(&str, &str)]| {
        let form = [&base[..], more].concat();
        let answer = server.exchange("support-agent", &session, &form).await;
        answer.refused(400, "invalid_request", "malformed_request");
    };
    for kind in ["refresh_token", "saml1", "saml2", "unsigned_json", "self_signed", "txn_token", "id-jag"] {
        let kind = urn(kind);
        refused(&[("subject_token_type", &kind)]).await;
        refused(&[("requested_token_type", &kind)]).await;
        refused(&[("actor_token", &actor), ("actor_token_type", &kind)]).await;
    }
    for kind in [urn("id_token"), urn("jwt"), "access_token".to_owned(), ACCESS_TOKEN.to_uppercase()] {
        refused(&[("requested_token_type", &kind)]).await;
    }
    refused(&[("subject_token_type", "access_token")]).await;
    let form = [&base[..], &[("requested_token_type", ACCESS_TOKEN)]].concat();
    server.exchange("support-agent", &session, &form).await.token();
}

#[tokio::test]
async fn tx_09_a_bad_subject_token_is_invalid_request_never_invalid_grant() {
    let server = Server::start().await;
    let now = server.now();
    let revoked = server.root().await;
    server.revoke("support-agent", &revoked).await;
    for (subject, reason) in [
        (server.session(json!({"exp": now - 1})), "subject_token_expired"),
        (server.session(json!({"aud": "https://other.example"})), "subject_token_audience"),
        (server.session(json!({"iss": "https://other.example"})), "subject_token_unknown_issuer"),
        (revoked, "revoked"),
        ("not-a-token".to_owned(), "subject_token_invalid"),
    ] {
        let form = [("resource", ORDERS)];
        let named = [&form[..], &[("task_type", "refund_order")]].concat();
        let form = if reason == "revoked" { &form[..] } else { &named[..] };
        let answer = server.exchange("support-agent", &subject, form).await;
        answer.refused(400, "invalid_request", reason);
        let text = answer.body["error_description"].as_str().unwrap();
        assert!(text.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\'), "{text}");
        assert!(!answer.text.contains(&subject), "the answer repeats the token");
        assert!(answer.body["decision_id"].is_string());
    }
}

#[tokio::test]
async fn every_answer_of_the_token_endpoint_says_no_store_and_holds_no_refresh_token() {
    let server = Server::start().await;
    let root = server.wide_root().await;
    let orders = [("resource", ORDERS)];
    let hand_over = server.hand_over(&root, "worker-agent").await;
    let dry = [&orders[..], &[("dry_run", "true")]].concat();
    let answers: [Answer; 4] = [
        server.exchange("support-agent", &root, &orders).await,
        server.exchange("support-agent", &root, &dry).await,
        server.exchange("worker-agent", &hand_over, &[]).await,
        server.exchange("worker-agent", &hand_over, &[]).await,
    ];
    for answer in answers {
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(answer.headers["pragma"], "no-cache");
        assert!(answer.headers["content-type"].starts_with("application/json"));
        assert!(!answer.text.contains("refresh_token"), "{answer:?}");
        assert_eq!(answer.status == 200, answer.body["scope"].is_string(), "{answer:?}");
    }
    let offline = [("scope", "orders:read offline_access"), ("resource", ORDERS)];
    let offline = server.exchange("support-agent", &root, &offline).await;
    offline.refused(400, "invalid_scope", "scope_exceeds_ceiling");
}

#[tokio::test]
async fn tr_01_tr_03_trace_headers_are_recorded_and_decide_nothing() {
    let server = Server::start().await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let session = server.session(json!({}));
    let form = [
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", session.as_str()),
        ("subject_token_type", ACCESS_TOKEN),
        ("task_type", "refund_order"),
        ("resource", ORDERS),
    ];
    for (sent, kept) in [(parent, json!(parent)), ("00-0-0-00", json!(null)), ("task_id=root", json!(null))] {
        let mut headers = basic();
        headers.push(("traceparent".to_owned(), sent.to_owned()));
        headers.push(("tracestate".to_owned(), "vendor=marker-7f3a".to_owned()));
        headers.push(("baggage".to_owned(), "principal=marker-7f3a,task_id=marker-7f3a".to_owned()));
        let answer = server.send("/oauth/token", &headers, encode(&form), FORM).await;
        let (told, recorded) = (claims(&answer.token()), server.decision(&answer).await);
        assert_eq!(recorded.record["trace"], kept);
        assert!(!format!("{answer:?}{told}{}", recorded.text()).contains("marker-7f3a"), "reflected");
        assert!(!recorded.input.to_string().contains("4bf92f35"), "policy is told of the trace");
        assert!(!answer.headers.contains_key("traceparent"));
    }
}
