//! Type confusion and JWT hygiene (STANDARDS §3): what must never pass as a subject or an actor token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

use crate::events::{logout_claims, revoked_claims};
use crate::support::idp::{bend, claims, compact, header};
use crate::support::keyed::Keyed;
use crate::support::server::{ACCESS_TOKEN, ID_TOKEN, JWT, ORDERS, Server};
use crate::support::signer::Signer;

const ROOT: [(&str, &str); 2] = [("task_type", "refund_order"), ("resource", ORDERS)];

/// Presents `token` as subject token of the declared type.
#[track_caller]
fn assert_refused(answer: &crate::support::server::Answer, what: &str) {
    assert_eq!(
        (answer.status, &answer.body["error"]),
        (400, &json!("invalid_request")),
        "{what}: {answer:?}"
    );
    assert!(answer.body.get("access_token").is_none());
}

async fn as_subject(server: &Server, token: &str, declared: &str) -> crate::support::server::Answer {
    let form = [&ROOT[..], &[("subject_token_type", declared)]].concat();
    server.exchange("support-agent", token, &form).await
}

async fn as_actor(server: &Server, token: &str) -> crate::support::server::Answer {
    let form = [&ROOT[..], &[("actor_token", token), ("actor_token_type", JWT)]].concat();
    server.exchange("support-agent", &server.session(json!({})), &form).await
}

/// What ends sessions, as a provider that is heard signs it.
fn events(server: &Server) -> [(&'static str, String); 2] {
    [
        ("a good logout token", server.idp.sign("logout+jwt", &logout_claims(server))),
        ("a good security event", server.idp.sign("secevent+jwt", &revoked_claims(server))),
    ]
}

/// JWTs of every other kind, each signed by the key that would make it believed.
pub(crate) async fn other_kinds(server: &Server) -> Vec<(&'static str, String)> {
    let session = server.session_claims();
    let own = claims(&server.root().await);
    let idp = |typ: &str, with: Value| server.idp.sign(typ, &bend(session.clone(), with));
    let events = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    let proof = json!({"jti": "1", "htm": "POST", "htu": format!("{}/oauth/token", server.issuer), "iat": server.now()});
    let proof_key = Signer::new("proof");
    let mut proof_header = proof_key.header("dpop+jwt");
    proof_header["jwk"] = proof_key.jwk();
    let assertion = json!({"iss": "support-agent", "sub": "support-agent", "jti": "1"});
    let by_us = |typ: &str, with: Value| server.own_keys().sign(typ, &bend(own.clone(), with)).unwrap();
    vec![
        ("an access token of another audience", idp("at+jwt", json!({"aud": "https://other.example"}))),
        ("an ID token of another client", idp("JWT", json!({"aud": "other-app", "azp": "other-app"}))),
        ("a logout token", idp("logout+jwt", json!({"events": events}))),
        (
            "a logout token as OpenID Connect first had it",
            idp("JWT", json!({"aud": "console", "events": events})),
        ),
        ("a logout token in at+jwt", idp("at+jwt", json!({"events": events}))),
        ("a security event", idp("secevent+jwt", json!({"events": events}))),
        ("an introspection answer", idp("token-introspection+jwt", json!({"token_introspection": {}}))),
        ("an untyped introspection answer", idp("at+jwt", json!({"token_introspection": {"active": true}}))),
        ("a DPoP proof by the issuer's key", idp("dpop+jwt", json!({}))),
        ("a DPoP proof", proof_key.sign(&proof_header, &proof)),
        ("a client assertion by the issuer's key", idp("client-authentication+jwt", json!({}))),
        ("a client assertion", server.actor_keys.sign("client-authentication+jwt", &assertion).unwrap()),
        ("an untyped client assertion", server.actor_keys.sign("JWT", &assertion).unwrap()),
        ("a status list", idp("statuslist+jwt", json!({"status_list": {"bits": 1, "lst": ""}}))),
        ("a request object", idp("oauth-authz-req+jwt", json!({}))),
        ("a transaction token", idp("txntoken+jwt", json!({}))),
        ("a refresh token", idp("at+jwt", json!({"typ": "Refresh"}))),
        ("an offline token", idp("at+jwt", json!({"typ": "Offline"}))),
        ("a token bound to a key", idp("at+jwt", json!({"cnf": {"jkt": "x"}}))),
        ("our key under another type", by_us("JWT", json!({}))),
        ("our log receipt", by_us("receipt+jwt", json!({}))),
        ("our introspection answer", by_us("token-introspection+jwt", json!({}))),
        ("our status list", by_us("statuslist+jwt", json!({}))),
        ("our key under another issuer", by_us("at+jwt", json!({"iss": server.idp.issuer}))),
        ("the issuer's key under our name", idp("at+jwt", json!({"iss": server.issuer}))),
        ("a token of ours with a claim of tomorrow", by_us("at+jwt", json!({"limit": 1}))),
    ]
}

#[tokio::test]
async fn jw_04_t18_no_other_kind_of_jwt_passes_as_subject_token() {
    let server = Server::start().await;
    let mut others = other_kinds(&server).await;
    others.extend(events(&server));
    others.push(("an actor token", server.actor_token("pod-1")));
    for (what, token) in others {
        for declared in [ACCESS_TOKEN, ID_TOKEN, JWT] {
            assert_refused(&as_subject(&server, &token, declared).await, what);
        }
        assert_eq!(server.introspect("orders-api", &token).await.body, json!({"active": false}), "{what}");
        assert_eq!(server.introspect("support-agent", &token).await.body, json!({"active": false}), "{what}");
    }
}

#[tokio::test]
async fn jw_04_no_other_kind_of_jwt_passes_as_actor_token() {
    let server = Server::start().await;
    let mut others = other_kinds(&server).await;
    others.extend(events(&server));
    let actor = server.actor_claims("support-agent", "pod-1");
    for typ in ["JWT", "at+jwt", "client-authentication+jwt", "dpop+jwt", "logout+jwt", "actor+jws"] {
        others.push(("the agent's own key under another type", server.actor_keys.sign(typ, &actor).unwrap()));
    }
    others.push(("a session token", server.session(json!({}))));
    others.push(("a token of ours", server.root().await));
    others.push(("a hand-over token", server.hand_over(&server.wide_root().await, "worker-agent").await));
    for (what, token) in others {
        let answer = as_actor(&server, &token).await;
        assert_refused(&answer, what);
        assert!(answer.body["reason_code"].as_str().unwrap().starts_with("actor_token_"), "{what}");
    }
    as_actor(&server, &server.actor_token("pod-1")).await.token();
}

#[tokio::test]
async fn jw_04_t18_no_other_kind_of_jwt_authenticates_a_client() {
    let keyed = Keyed::start().await;
    let server = &keyed.server;
    let mut others = other_kinds(server).await;
    others.extend(events(server));
    others.push(("a session token", server.session(json!({}))));
    others.push(("an actor token", server.actor_token("pod-1")));
    others.push(("a token of ours", server.root().await));
    others.push(("a hand-over token", server.hand_over(&server.wide_root().await, "worker-agent").await));
    let client = json!({"iss": "support-agent", "sub": "support-agent"});
    others.push(("our signature under the client's name", {
        server.own_keys().sign("client-authentication+jwt", &bend(keyed.claims("x"), client.clone())).unwrap()
    }));
    let by_issuer = bend(keyed.claims("x"), client);
    others.push(("an issuer's signature under the client's name", server.idp.sign("JWT", &by_issuer)));
    // By the client's own key: what it signs for another purpose says so, in `typ` or by a claim.
    let own = |typ: &str, with: Value| {
        let key = keyed.key("support-agent");
        key.sign(key.header(typ), bend(keyed.claims("support-agent"), with))
    };
    for typ in ["actor+jwt", "at+jwt", "dpop+jwt", "logout+jwt", "secevent+jwt", "token-introspection+jwt"] {
        others.push(("the client's own key under another type", own(typ, json!({}))));
    }
    others.push(("the client's own event", own("JWT", json!({"events": {}}))));
    others.push(("the client's own introspection answer", own("JWT", json!({"token_introspection": {}}))));
    others.push(("the client's own status list", own("JWT", json!({"status_list": {}}))));
    for (what, token) in others {
        for path in ["/oauth/token", "/oauth/introspect", "/oauth/revoke", "/task-types"] {
            let answer = keyed.post(path, &token, &[("token", &token)]).await;
            assert_eq!(
                (answer.status, &answer.body["error"]),
                (401, &json!("invalid_client")),
                "{what}: {answer:?}"
            );
        }
    }
    // And the reverse: a good assertion is no subject, no actor, and not introspected.
    let assertion = keyed.assertion("support-agent");
    for declared in [ACCESS_TOKEN, ID_TOKEN, JWT] {
        assert_refused(&as_subject(server, &assertion, declared).await, declared);
    }
    as_actor(server, &assertion).await.refused(400, "invalid_request", "actor_token_typ");
    assert_eq!(server.introspect("support-agent", &assertion).await.body, json!({"active": false}));
    keyed.exchange(&assertion).await.token();
}

#[tokio::test]
async fn tx_04_t18_a_token_that_is_not_of_its_declared_type_is_refused() {
    let server = Server::start().await;
    let access = server.session(json!({}));
    let id = json!({"aud": "console", "client_id": null, "azp": "console", "nonce": "n", "at_hash": "h"});
    let id = server.idp.sign("JWT", &bend(server.session_claims(), id));
    let own = server.root().await;
    for (token, right) in [(&access, ACCESS_TOKEN), (&id, ID_TOKEN), (&own, ACCESS_TOKEN)] {
        for declared in [ACCESS_TOKEN, ID_TOKEN, JWT] {
            let task_type = if token == &own { "" } else { "refund_order" };
            let form = [("subject_token_type", declared), ("task_type", task_type), ("resource", ORDERS)];
            let answer = server.exchange("support-agent", token, &form).await;
            if declared == right {
                answer.token();
            } else {
                assert_refused(&answer, declared);
            }
        }
    }
}

fn hs256(claims: &Value, kid: &Value, typ: &str, key: &[u8]) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = json!({"alg": "HS256", "typ": typ, "kid": kid});
    let input = format!("{}.{}", encode(&head), encode(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), input.as_bytes());
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag))
}

#[tokio::test]
async fn jw_01_none_and_hmac_with_a_public_key_are_refused() {
    let server = Server::start().await;
    let session = server.session_claims();
    let own_token = server.root().await;
    let (own, own_kid) = (claims(&own_token), header(&own_token)["kid"].clone());
    let own_jwks = server.get("/oauth/jwks", &[]).await;
    let signer = &server.idp.signer;
    for alg in ["none", "None", "NONE", "nOnE", "", "ES256K", "RSA1_5", "HS256"] {
        for (claims, kid) in [(&session, json!(signer.kid)), (&own, own_kid.clone())] {
            for signature in ["", "AA", own_token.rsplit('.').next().unwrap()] {
                let token = compact(&json!({"alg": alg, "typ": "at+jwt", "kid": kid}), claims, signature);
                let answer = server.exchange("support-agent", &token, &[]).await;
                answer.refused(400, "invalid_request", "subject_token_invalid");
            }
        }
    }
    let jwk = signer.jwk();
    let x = URL_SAFE_NO_PAD.decode(jwk["x"].as_str().unwrap()).unwrap();
    let secrets = [
        jwk.to_string().into_bytes(),
        jwk["x"].as_str().unwrap().as_bytes().to_vec(),
        x,
        signer.point(),
        own_jwks.text.clone().into_bytes(),
        own_jwks.body["keys"][0]["x"].as_str().unwrap().as_bytes().to_vec(),
        Vec::new(),
    ];
    for key in secrets {
        for (claims, kid) in [(&session, json!(signer.kid)), (&own, own_kid.clone())] {
            let token = hs256(claims, &kid, "at+jwt", &key);
            let answer = server.exchange("support-agent", &token, &[]).await;
            answer.refused(400, "invalid_request", "subject_token_invalid");
        }
    }
}

#[tokio::test]
async fn jw_01_the_algorithm_must_be_the_keys_and_one_that_the_issuer_may_use() {
    let server = Server::start().await;
    let (signer, session) = (&server.idp.signer, server.session_claims());
    as_subject(&server, &signer.sign(signer.header("at+jwt"), &session), ACCESS_TOKEN).await.token();
    for alg in ["RS256", "PS256", "EdDSA", "ES384", "ES512"] {
        let header = json!({"alg": alg, "typ": "at+jwt", "kid": signer.kid});
        assert_refused(&as_subject(&server, &signer.sign(&header, &session), ACCESS_TOKEN).await, alg);
    }
    server.reapply("  tenant_claim: org_id\n", "  tenant_claim: org_id\n  algorithms: [RS256]\n").await;
    let answer = as_subject(&server, &server.session(json!({})), ACCESS_TOKEN).await;
    answer.refused(400, "invalid_request", "subject_token_algorithm");
}

#[tokio::test]
async fn jw_02_a_token_does_not_choose_its_own_key() {
    let server = Server::start().await;
    let (signer, session) = (&server.idp.signer, server.session_claims());
    let attacker = Signer::new(&signer.kid);
    let evil = format!("{}/jwks", server.idp.issuer);
    let with = |key: &str, value: Value| bend(signer.header("at+jwt"), json!({ key: value }));
    for header in [
        signer.header("at+jwt"),
        with("jwk", attacker.jwk()),
        with("jku", json!(evil)),
        with("x5u", json!(evil)),
        with("x5c", json!(["MIIB"])),
        with("kid", json!("attacker")),
        bend(with("kid", json!("attacker")), json!({"jwk": attacker.jwk()})),
        bend(with("kid", Value::Null), json!({"jwk": attacker.jwk()})),
        with("kid", json!("../../../../dev/null")),
        with("kid", json!("x' OR '1'='1")),
        with("kid", json!("")),
        with("kid", json!(7)),
    ] {
        let answer = as_subject(&server, &attacker.sign(&header, &session), ACCESS_TOKEN).await;
        assert_refused(&answer, &header.to_string());
    }
    for header in [with("jwk", attacker.jwk()), with("jku", json!(evil)), with("x5u", json!(evil))] {
        as_subject(&server, &signer.sign(&header, &session), ACCESS_TOKEN).await.token();
    }
    for crit in [json!(["exp"]), json!(["b64"]), json!(["unheard"]), json!([]), json!("exp")] {
        let answer = as_subject(&server, &signer.sign(with("crit", crit), &session), ACCESS_TOKEN).await;
        answer.refused(400, "invalid_request", "subject_token_invalid");
    }
}

#[tokio::test]
async fn jw_03_unknown_kids_cause_at_most_one_fetch_of_keys() {
    let server = Server::start().await;
    as_subject(&server, &server.session(json!({})), ACCESS_TOKEN).await.token();
    let (signer, before) = (&server.idp.signer, server.idp.fetches());
    for turn in 0..20 {
        let header = bend(signer.header("at+jwt"), json!({"kid": format!("unknown-{turn}")}));
        let answer = as_subject(&server, &signer.sign(&header, server.session_claims()), ACCESS_TOKEN).await;
        assert_refused(&answer, "unknown kid");
    }
    assert!(server.idp.fetches() <= before + 1, "{} fetches", server.idp.fetches() - before);
}
