//! Introspection (RFC 7662) and revocation (RFC 7009), STANDARDS §8.

use serde_json::json;

use crate::support::idp::claims;
use crate::support::server::{ORDERS, Server, encode};

const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test]
async fn in_01_the_caller_authenticates_and_learns_nothing_about_what_is_not_active() {
    let server = Server::start().await;
    let root = server.root().await;
    let anonymous = server.send("/oauth/introspect", &[], encode(&[("token", &root)]), FORM).await;
    anonymous.refused(401, "invalid_client", "client_authentication_failed");
    assert_eq!(server.get("/oauth/introspect", &[]).await.status, 405);
    let inactive = json!({"active": false});
    let expired = server.root().await;
    for unknown in ["x", "a.b.c", &server.session(json!({})), &server.actor_token("p"), &root[1..]] {
        let answer = server.introspect("orders-api", unknown).await;
        assert_eq!((answer.status, &answer.body), (200, &inactive));
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
    let missing = server.post("/oauth/introspect", "orders-api", &[]).await;
    missing.refused(400, "invalid_request", "malformed_request");
    let twice = server.post("/oauth/introspect", "orders-api", &[("token", &root), ("token", &root)]).await;
    twice.refused(400, "invalid_request", "malformed_request");
    for hint in ["refresh_token", "access_token", "nonsense"] {
        let form = [("token", root.as_str()), ("token_type_hint", hint)];
        assert_eq!(
            server.post("/oauth/introspect", "orders-api", &form).await.body["active"],
            true,
            "{hint}"
        );
    }
    server.clock.shift(181);
    assert_eq!(server.introspect("orders-api", &expired).await.body, inactive);
}

#[tokio::test]
async fn in_01_an_active_answer_holds_the_claims_of_the_token() {
    let server = Server::start().await;
    let root = server.root().await;
    let told = server.introspect("orders-api", &root).await.body;
    let claims = claims(&root);
    for claim in [
        "scope",
        "client_id",
        "exp",
        "iat",
        "nbf",
        "sub",
        "aud",
        "iss",
        "jti",
        "act",
        "authorization_details",
        "tenant",
    ] {
        assert_eq!(told[claim], claims[claim], "{claim}");
    }
    assert_eq!((&told["active"], &told["token_type"]), (&json!(true), &json!("Bearer")));
    assert!(!told.to_string().contains("alice@acme.example"), "the task's facts are not for services");
}

#[tokio::test]
async fn in_02_t29_only_the_audience_and_the_agent_see_claims() {
    let server = Server::start().await;
    let root = server.root().await;
    let wide = server.wide_root().await;
    let hand_over = server.hand_over(&wide, "worker-agent").await;
    let active = async |caller: &str, token: &str| {
        let answer = server.introspect(caller, token).await;
        let active = answer.body["active"] == true;
        assert!(active || answer.body == json!({"active": false}), "{answer:?}");
        active
    };
    for (caller, sees_root, sees_wide, sees_hand_over) in [
        ("orders-api", true, false, false),
        ("mail-api", false, false, false),
        ("support-agent", true, true, true),
        ("worker-agent", false, false, true),
        ("worker-two", false, false, false),
        ("stranger-agent", false, false, false),
        ("globex-agent", false, false, false),
    ] {
        assert_eq!(active(caller, &root).await, sees_root, "{caller}");
        assert_eq!(active(caller, &wide).await, sees_wide, "{caller}");
        assert_eq!(active(caller, &hand_over).await, sees_hand_over, "{caller}");
    }
}

#[tokio::test]
async fn in_02_t28_below_a_revoked_ancestor_nothing_is_active() {
    let server = Server::start().await;
    let wide = server.wide_root().await;
    let child = server.exchange("support-agent", &wide, &[("resource", ORDERS)]).await.token();
    let grandchild = server.exchange("support-agent", &child, &[]).await.token();
    let workers = server.exchange("worker-agent", &grandchild, &[]).await.token();
    let sibling = server.exchange("support-agent", &wide, &[("resource", ORDERS)]).await.token();
    assert_eq!(server.revoke("support-agent", &child).await.status, 200);
    for dead in [&child, &grandchild, &workers] {
        assert_eq!(server.introspect("orders-api", dead).await.body, json!({"active": false}));
    }
    for (agent, dead) in
        [("support-agent", &child), ("support-agent", &grandchild), ("worker-agent", &workers)]
    {
        let answer = server.exchange(agent, dead, &[]).await;
        answer.refused(400, "invalid_request", "revoked");
        assert_eq!(answer.body["retry"], "new_session");
    }
    assert_eq!(server.introspect("orders-api", &sibling).await.body["active"], true);
    assert_eq!(server.introspect("support-agent", &wide).await.body["active"], true);
}

#[tokio::test]
async fn rv_01_revocation_is_200_for_own_unknown_and_dead_tokens_and_idempotent() {
    let server = Server::start().await;
    let root = server.root().await;
    let anonymous = server.send("/oauth/revoke", &[], encode(&[("token", &root)]), FORM).await;
    anonymous.refused(401, "invalid_client", "client_authentication_failed");
    assert_eq!(server.get("/oauth/revoke", &[]).await.status, 405);
    for unknown in ["x", "a.b.c", &server.session(json!({}))] {
        assert_eq!(server.revoke("support-agent", unknown).await.status, 200);
    }
    let missing = server.post("/oauth/revoke", "support-agent", &[]).await;
    missing.refused(400, "invalid_request", "malformed_request");
    assert_eq!(server.decision(&missing).await.record["actor"], "support-agent");
    for _ in 0..3 {
        assert_eq!(server.revoke("support-agent", &root).await.status, 200);
        assert_eq!(server.introspect("orders-api", &root).await.body, json!({"active": false}));
    }
    let old = server.root().await;
    server.clock.shift(7200);
    assert_eq!(server.revoke("support-agent", &old).await.status, 200);
}

#[tokio::test]
async fn rv_01_a_foreign_token_is_not_revoked_and_a_resource_may_not_revoke() {
    let server = Server::start().await;
    let root = server.root().await;
    let hand_over = server.hand_over(&server.wide_root().await, "worker-agent").await;
    for (agent, token) in [("stranger-agent", &root), ("globex-agent", &root), ("worker-agent", &hand_over)] {
        let answer = server.revoke(agent, token).await;
        answer.refused(400, "invalid_request", "token_not_yours");
        let recorded = server.decision(&answer).await;
        assert_eq!((&recorded.leaf["outcome"], &recorded.leaf["tenant"]), (&json!("deny"), &json!("acme")));
        assert_eq!(recorded.record["asked"], json!({"revoke": claims(token)["jti"]}));
    }
    let resource = server.revoke("orders-api", &root).await;
    resource.refused(400, "unauthorized_client", "client_not_allowed");
    let recorded = server.decision(&resource).await;
    assert_eq!(recorded.record["reasons"][0]["code"], "client_not_allowed");
    assert!(!recorded.text().contains("eyJ"), "a token is in the log");
    assert_eq!(server.introspect("orders-api", &root).await.body["active"], true);
    server.exchange("worker-agent", &hand_over, &[]).await.token();
}

#[tokio::test]
async fn rv_02_revoking_a_child_leaves_the_parent_and_its_siblings() {
    let server = Server::start().await;
    let root = server.root().await;
    let child = server.exchange("support-agent", &root, &[]).await.token();
    let sibling = server.exchange("support-agent", &root, &[]).await.token();
    let workers = server.exchange("worker-agent", &root, &[]).await.token();
    assert_eq!(server.revoke("support-agent", &child).await.status, 200);
    for (caller, token, active) in [
        ("orders-api", &child, false),
        ("orders-api", &root, true),
        ("orders-api", &sibling, true),
        ("orders-api", &workers, true),
    ] {
        assert_eq!(server.introspect(caller, token).await.body["active"], active);
    }
    server.exchange("support-agent", &root, &[]).await.token();
}
