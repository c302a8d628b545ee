//! The running server answers as `openapi.yaml` says.

use serde_json::{Value, json};

use crate::document::Document;
use crate::support::idp::claims;
use crate::support::server::{Answer, ORDERS, Server, basic};

#[track_caller]
fn as_documented(path: &str, method: &str, answer: &Answer) {
    let faults = Document::read().faults_of_answer(path, method, answer.status, &answer.body);
    assert!(faults.is_empty(), "{method} {path} {}: {faults:#?}\n{:#}", answer.status, answer.body);
}

#[tokio::test]
async fn answers_of_the_public_endpoints_are_as_documented() {
    let server = Server::start().await;
    for path in [
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/oauth/jwks",
        "/healthz",
        "/readyz",
    ] {
        let answer = server.get(path, &[]).await;
        assert_eq!(answer.status, 200, "{path}");
        as_documented(path, "get", &answer);
    }
    for client in ["support-agent", "orders-api", "nobody"] {
        as_documented("/task-types", "get", &server.get("/task-types", &[basic(client)]).await);
    }
    as_documented("/oauth/token", "post", &server.send("/oauth/token", &[], "{}", "application/json").await);
    let large = format!("a={}", "x".repeat(70_000));
    let form = "application/x-www-form-urlencoded";
    let answer = server.send("/oauth/token", &[], large, form).await;
    assert_eq!(answer.status, 413);
    as_documented("/oauth/token", "post", &answer);
}

#[tokio::test]
async fn answers_to_exchanges_are_as_documented() {
    let server = Server::start().await;
    let session = server.session(json!({}));
    let start = [("task_type", "refund_order"), ("resource", ORDERS), ("scope", "orders:read refunds:write")];
    let over = [start[0], start[1], ("scope", "orders:read mail:send")];
    let details = r#"[{"type": "tool_call", "tools": ["search_orders"], "amount": 501}]"#;
    let forms: [(&str, &[(&str, &str)]); 9] = [
        ("support-agent", &start),
        ("support-agent", &[start[0], start[1], ("dry_run", "true")]),
        ("support-agent", &over),
        ("support-agent", &[start[0]]),
        ("support-agent", &[]),
        ("support-agent", &[start[0], start[1], ("authorization_details", details)]),
        ("support-agent", &[("task_type", "close_account")]),
        ("support-agent", &[("scope", "\u{e4}")]),
        ("orders-api", &start),
    ];
    for (client, form) in forms {
        as_documented("/oauth/token", "post", &server.exchange(client, &session, form).await);
    }
    let root = server.wide_root().await;
    let form =
        [("audience", server.issuer.as_str()), ("delegate_to", "worker-agent"), ("scope", "orders:read")];
    let hand_over = server.exchange("support-agent", &root, &form).await.token();
    for (client, token) in [("support-agent", &root), ("worker-agent", &hand_over), ("orders-api", &root)] {
        as_documented("/oauth/introspect", "post", &server.introspect(client, token).await);
        as_documented("/oauth/revoke", "post", &server.revoke(client, token).await);
    }
    let empty: Value = Value::Null;
    assert_eq!(server.revoke("support-agent", &root).await.body, empty);
}

#[tokio::test]
async fn answers_about_status_lists_are_as_documented() {
    let server = Server::start().await;
    as_documented("/oauth/status", "get", &server.get("/oauth/status", &[]).await);
    let uri = claims(&server.root().await)["status"]["status_list"]["uri"].as_str().unwrap().to_owned();
    let path = uri.strip_prefix(&server.issuer).unwrap();
    let accept = |value: &str| vec![("accept".to_owned(), value.to_owned())];
    let mut statuses = std::collections::BTreeSet::new();
    for (path, headers) in [
        (path.to_owned(), accept("*/*")),
        (path.to_owned(), accept("text/html")),
        (format!("{path}?time=1"), accept("*/*")),
        (format!("{path}x"), accept("*/*")),
    ] {
        let answer = server.get(&path, &headers).await;
        as_documented("/oauth/status/{list}", "get", &answer);
        statuses.insert(answer.status);
    }
    assert!(statuses.contains(&406) && statuses.contains(&404) && statuses.contains(&501), "{statuses:?}");
}

#[tokio::test]
async fn answers_beyond_a_limit_are_as_documented() {
    let server = Server::start_with("[limits]\nclient_rate = 1\naddress_rate = 3").await;
    let mut codes = std::collections::BTreeSet::new();
    let ask = || server.exchange("support-agent", "a.b.c", &[]);
    // At once, and until it bites: a slow machine spreads them.
    for _ in 0..100 {
        let answers: [_; 8] = tokio::join!(ask(), ask(), ask(), ask(), ask(), ask(), ask(), ask()).into();
        for answer in answers {
            as_documented("/oauth/token", "post", &answer);
            codes.insert(answer.body["reason_code"].as_str().unwrap().to_owned());
        }
        if codes.len() == 3 {
            break;
        }
    }
    assert!(codes.contains("rate_limited_client") && codes.contains("rate_limited_address"), "{codes:?}");
    for path in ["/.well-known/oauth-authorization-server", "/oauth/jwks"] {
        as_documented(path, "get", &server.get(path, &[]).await);
    }
}
