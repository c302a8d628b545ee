//! Forged and malformed JWTs (STANDARDS §3.2, JW-05 and JW-06), and what our own say (§3.1).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::idp::{bend, claims, header};
use crate::support::server::{Answer, JWT, MAIL, ORDERS, Server};

const ROOT: [(&str, &str); 2] = [("task_type", "refund_order"), ("resource", ORDERS)];

async fn spend(server: &Server, token: &str) -> Answer {
    server.exchange("support-agent", token, &ROOT).await
}

#[track_caller]
fn assert_refused(answer: &Answer, what: &str) {
    assert_eq!(
        (answer.status, &answer.body["error"]),
        (400, &json!("invalid_request")),
        "{what}: {answer:?}"
    );
    assert!(answer.body.get("access_token").is_none());
}

/// `claims` as JSON text with another member of the same name put before its end.
fn twice(claims: &Value, member: &str) -> String {
    let text = claims.to_string();
    format!("{},{member}}}", &text[..text.len() - 1])
}

#[tokio::test]
async fn jw_05_a_member_that_occurs_twice_refuses_the_token_although_it_is_signed() {
    let server = Server::start().await;
    let (signer, session) = (&server.idp.signer, server.session_claims());
    for member in [
        "\"sub\":\"mallory\"",
        "\"sub\":\"alice\"",
        "\"\\u0073ub\":\"mallory\"",
        "\"exp\":99999999999",
        "\"act\":{\"sub\":\"a\",\"sub\":\"b\"}",
    ] {
        let token = signer.sign(signer.header("at+jwt"), twice(&session, member));
        let answer = spend(&server, &token).await;
        answer.refused(400, "invalid_request", "subject_token_invalid");
    }
    let header = twice(&signer.header("at+jwt"), "\"alg\":\"none\"");
    spend(&server, &signer.sign(header, &session)).await.refused(
        400,
        "invalid_request",
        "subject_token_invalid",
    );
    let doubled = twice(&server.actor_claims("support-agent", "a"), "\"sub\":\"b\"");
    let actor = server.idp.signer.sign(json!({"alg": "ES256", "typ": "actor+jwt"}), doubled);
    let form = [&ROOT[..], &[("actor_token", actor.as_str()), ("actor_token_type", JWT)]].concat();
    let answer = server.exchange("support-agent", &server.session(json!({})), &form).await;
    assert_refused(&answer, "actor token with a member twice");
}

#[tokio::test]
async fn jw_05_dates_are_numbers_and_exp_is_required() {
    let server = Server::start().await;
    let now = server.now();
    for (with, reason) in [
        (json!({"exp": null}), "subject_token_malformed"),
        (json!({"exp": (now + 600).to_string()}), "subject_token_malformed"),
        (json!({"exp": [now + 600]}), "subject_token_malformed"),
        (json!({"exp": 1e300}), "subject_token_malformed"),
        (json!({"iat": "now"}), "subject_token_malformed"),
        (json!({"nbf": true}), "subject_token_malformed"),
        (json!({"exp": -1}), "subject_token_malformed"),
        (json!({"exp": now}), "subject_token_expired"),
        (json!({"nbf": now + 90}), "subject_token_not_yet_valid"),
        (json!({"iat": now + 90}), "subject_token_not_yet_valid"),
        (json!({"auth_time": now + 90}), "subject_token_not_yet_valid"),
        (json!({"auth_time": now - 13 * 3600}), "subject_token_session_too_old"),
    ] {
        let answer = spend(&server, &server.session(with.clone())).await;
        assert_eq!(answer.body["reason_code"], reason, "{with}: {answer:?}");
        assert_refused(&answer, reason);
    }
    let fraction = 0.75 + f64::from(i32::try_from(now + 600).unwrap());
    spend(&server, &server.session(json!({"exp": fraction}))).await.token();
    spend(&server, &server.session(json!({"nbf": now + 20, "iat": now + 20}))).await.token();
}

#[tokio::test]
async fn jw_05_t04_issuer_and_audience_are_compared_code_point_by_code_point() {
    let server = Server::start().await;
    let own = &server.issuer;
    for aud in [
        json!(format!("{own}/")),
        json!(own.to_uppercase()),
        json!(format!("{own}/oauth/token")),
        json!(format!(" {own}")),
        json!(["console"]),
        json!([]),
        json!([7]),
        json!(7),
        Value::Null,
    ] {
        assert_refused(&spend(&server, &server.session(json!({"aud": aud}))).await, &aud.to_string());
    }
    spend(&server, &server.session(json!({"aud": ["x", own]}))).await.token();
    let iss = &server.idp.issuer;
    for iss in [json!(format!("{iss}/")), json!(iss.to_uppercase()), json!([iss]), json!(""), Value::Null] {
        let answer = spend(&server, &server.session(json!({"iss": iss}))).await;
        answer.refused(400, "invalid_request", "subject_token_unknown_issuer");
    }
}

#[tokio::test]
async fn jw_06_padding_whitespace_and_other_spellings_are_refused() {
    let server = Server::start().await;
    let (signer, session) = (&server.idp.signer, server.session_claims());
    let good = signer.sign(signer.header("at+jwt"), &session);
    let parts: Vec<&str> = good.split('.').collect();
    let [head, body, signature] = parts[..] else { panic!("three parts") };
    let flattened = json!({"protected": head, "payload": body, "signature": signature}).to_string();
    let last = signature.chars().last().unwrap();
    let other = if last == 'A' { 'B' } else { 'A' };
    let spelled = format!("{head}.{body}.{}{other}", &signature[..signature.len() - 1]);
    for (what, token) in [
        ("padding of the header", signer.seal(&format!("{head}=.{body}"))),
        ("padding of the payload", signer.seal(&format!("{head}.{body}=="))),
        ("padding of the signature", format!("{good}==")),
        ("a space before", format!(" {good}")),
        ("a newline after", format!("{good}\n")),
        ("a space inside", signer.seal(&format!("{head}.{} {}", &body[..8], &body[8..]))),
        ("a newline inside", signer.seal(&format!("{head}.{}\n{}", &body[..8], &body[8..]))),
        ("the standard alphabet", signer.seal(&format!("{head}.{body}+/"))),
        ("another last character", spelled),
        ("two parts", format!("{head}.{body}")),
        ("no signature", format!("{head}.{body}.")),
        ("four parts", format!("{good}.")),
        ("five parts", format!("{good}.x.y")),
        ("the JSON serialisation", flattened),
        ("half a signature", format!("{head}.{body}.{}", &signature[..43])),
        ("an array", signer.sign(signer.header("at+jwt"), "[]")),
        ("a text", signer.sign(signer.header("at+jwt"), "\"alice\"")),
        ("nothing", signer.sign(signer.header("at+jwt"), "")),
        ("two objects", signer.sign(signer.header("at+jwt"), format!("{session}{session}"))),
        ("a byte order mark", signer.sign(signer.header("at+jwt"), format!("\u{feff}{session}"))),
    ] {
        let answer = spend(&server, &token).await;
        assert_refused(&answer, what);
        assert!(answer.body["reason_code"].as_str().unwrap().starts_with("subject_token_"), "{what}");
    }
    spend(&server, &good).await.token();
}

#[tokio::test]
async fn jw_06_t21_deep_and_large_tokens_are_refused_before_they_cost_anything() {
    let server = Server::start().await;
    let signer = &server.idp.signer;
    let session = server.session_claims().to_string();
    let with = |member: String| format!("{},{member}}}", &session[..session.len() - 1]);
    let array = |depth: usize| format!("\"x\":{}{}", "[".repeat(depth), "]".repeat(depth));
    let act = |depth: usize| format!("\"act\":{}1{}", "{\"act\":".repeat(depth), "}".repeat(depth));
    for payload in [
        with(array(10_000)),
        with(array(5_000)),
        with(array(40)),
        with(act(1_000)),
        with(act(40)),
        "[".repeat(10_000),
        with(format!("\"pad\":\"{}\"", "x".repeat(16 * 1024))),
    ] {
        let answer = spend(&server, &signer.sign(signer.header("at+jwt"), &payload)).await;
        answer.refused(400, "invalid_request", "subject_token_invalid");
    }
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let session = server.session(json!({}));
    let form = [&ROOT[..], &[("authorization_details", deep.as_str())]].concat();
    let answer = server.exchange("support-agent", &session, &form).await;
    answer.refused(400, "invalid_authorization_details", "authorization_details_invalid");
    let claimed = format!("{{\"a\":{}{}}}", "[".repeat(4_000), "]".repeat(4_000));
    let form = [&ROOT[..], &[("claimed", claimed.as_str())]].concat();
    let answer = server.exchange("support-agent", &session, &form).await;
    answer.refused(400, "invalid_request", "malformed_request");
}

/// serde_json reads the text under this name with a fresh parser, which has a depth limit of its own.
#[tokio::test]
async fn t21_a_parser_within_the_parser_is_refused_in_every_json_parameter() {
    let server = Server::start().await;
    let session = server.session(json!({}));
    let mut inner = "1".to_owned();
    for _ in 0..12 {
        let nested = format!("{}{inner}{}", "[".repeat(120), "]".repeat(120));
        let escaped = nested.replace('\\', r"\u005c").replace('"', r"\u0022");
        inner = format!(r#"{{"$serde_json::private::RawValue":"{escaped}"}}"#);
    }
    let details = format!("[{inner}]");
    let form = [&ROOT[..], &[("authorization_details", details.as_str())]].concat();
    let answer = server.exchange("support-agent", &session, &form).await;
    answer.refused(400, "invalid_authorization_details", "authorization_details_invalid");
    let form = [&ROOT[..], &[("claimed", inner.as_str())]].concat();
    let answer = server.exchange("support-agent", &session, &form).await;
    answer.refused(400, "invalid_request", "malformed_request");
    for (twice, name) in [
        (r#"[{"type":"tool_call","tools":["a"],"tools":["b"]}]"#, "authorization_details"),
        (r#"{"a":1,"a":2}"#, "claimed"),
    ] {
        let answer =
            server.exchange("support-agent", &session, &[&ROOT[..], &[(name, twice)]].concat()).await;
        assert_eq!(answer.status, 400, "{name}: {answer:?}");
    }
}

#[tokio::test]
async fn jw_06_t21_a_foreign_chain_of_more_than_sixteen_is_refused() {
    let server = Server::start().await;
    let mut act = json!({"sub": "a0"});
    for turn in 1..17 {
        act = json!({"sub": format!("a{turn}"), "act": act});
    }
    let answer = spend(&server, &server.session(json!({"act": act}))).await;
    answer.refused(400, "invalid_request", "subject_token_act");
}

#[tokio::test]
async fn at_01_typ_is_at_jwt_whatever_its_case_and_alg_is_asymmetric() {
    let server = Server::start().await;
    let root = server.root().await;
    assert_eq!(header(&root)["typ"], "at+jwt");
    assert_eq!(header(&root)["alg"], "ES256");
    assert!(header(&root)["kid"].is_string());
    for typ in ["application/at+jwt", "AT+JWT", "Application/At+Jwt"] {
        spend(&server, &server.idp.sign(typ, &server.session_claims())).await.token();
    }
    for typ in ["JWT", "at+jwt+x", "text/at+jwt", "application/x/at+jwt", "at", ""] {
        let answer = spend(&server, &server.idp.sign(typ, &server.session_claims())).await;
        assert_refused(&answer, typ);
    }
    let untyped = bend(server.idp.signer.header("x"), json!({"typ": null}));
    let answer = spend(&server, &server.idp.signer.sign(untyped, server.session_claims())).await;
    assert_refused(&answer, "no typ");
}

#[tokio::test]
async fn at_02_our_token_has_the_required_claims_and_the_login_unchanged() {
    let server = Server::start().await;
    let auth_time = server.now() - 1000;
    let session = server.session(json!({"auth_time": auth_time}));
    let root = server.exchange("support-agent", &session, &ROOT).await.token();
    server.clock.shift(30);
    let child = server.exchange("support-agent", &root, &[]).await.token();
    for token in [&root, &child] {
        let claims = claims(token);
        for claim in ["iss", "exp", "aud", "sub", "client_id", "iat", "jti", "scope", "tenant", "task_id"] {
            assert!(!claims[claim].is_null(), "{claim}");
        }
        assert_eq!(claims["iss"], server.issuer);
        assert_eq!(claims["auth_time"], auth_time);
        assert_eq!(claims["acr"], "aal2");
        assert_eq!(claims["amr"], json!(["pwd", "otp"]));
    }
    assert_ne!(claims(&root)["jti"], claims(&child)["jti"]);
    let silent = server.session(json!({"auth_time": null, "acr": null, "amr": null}));
    let root = claims(&server.exchange("support-agent", &silent, &ROOT).await.token());
    assert!(["auth_time", "acr", "amr"].iter().all(|claim| root.get(claim).is_none()));
}

#[tokio::test]
async fn at_03_a_token_has_one_audience() {
    let server = Server::start().await;
    assert_eq!(claims(&server.root().await)["aud"], ORDERS);
    assert_eq!(claims(&server.wide_root().await)["aud"], server.issuer);
    let form = [("task_type", "refund_order"), ("scope", "orders:read mail:send")];
    let answer = server.exchange("support-agent", &server.session(json!({})), &form).await;
    let answer = answer.refused(400, "invalid_target", "target_ambiguous");
    assert_eq!(answer.body["grantable"], json!({"resource": [MAIL, ORDERS]}));
}

#[tokio::test]
async fn at_04_a_token_of_ours_is_refused_once_any_part_of_it_is_changed() {
    let server = Server::start().await;
    let (root, other) = (server.root().await, server.wide_root().await);
    let parts: Vec<&str> = root.split('.').collect();
    let [head, body, signature] = parts[..] else { panic!("three parts") };
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let wider = encode(bend(claims(&root), json!({"scope": "orders:read refunds:write mail:send"})));
    let longer = encode(bend(claims(&root), json!({"exp": 99_999_999_999_i64})));
    let kid = encode(bend(header(&root), json!({"kid": server.idp.signer.kid})));
    let signed_elsewhere = server.idp.signer.sign(header(&root), claims(&root));
    for token in [
        format!("{head}.{wider}.{signature}"),
        format!("{head}.{longer}.{signature}"),
        format!("{kid}.{body}.{signature}"),
        format!("{head}.{body}.{}", other.rsplit('.').next().unwrap()),
        format!("{head}.{body}."),
        signed_elsewhere,
    ] {
        let answer = server.exchange("support-agent", &token, &[]).await;
        answer.refused(400, "invalid_request", "subject_token_invalid");
        assert_eq!(server.introspect("orders-api", &token).await.body, json!({"active": false}));
    }
}

#[tokio::test]
async fn at_05_a_principal_is_never_called_like_a_client() {
    let server = Server::start().await;
    for sub in ["support-agent", "worker-agent", "orders-api", "globex-agent"] {
        let answer = spend(&server, &server.session(json!({"sub": sub}))).await;
        answer.refused(400, "invalid_request", "subject_token_subject");
    }
}
