//! The main job over HTTP: root, narrower child, hand-over, refusals.

use serde_json::json;

use crate::support::idp::{claims, header};
use crate::support::server::{MAIL, ORDERS, Server};

#[tokio::test]
async fn a_session_becomes_a_task_token() {
    let server = Server::start().await;
    let session = server.session(json!({}));
    let form = [("task_type", "refund_order"), ("resource", ORDERS), ("scope", "orders:read")];
    let answer = server.exchange("support-agent", &session, &form).await;
    let token = answer.token();
    assert_eq!(answer.body["token_type"], "Bearer");
    assert_eq!(answer.body["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token");
    assert_eq!(answer.body["scope"], "orders:read");
    assert_eq!(answer.body["expires_in"], 180);
    assert!(answer.body.get("refresh_token").is_none());
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(header(&token)["typ"], "at+jwt");
    let claims = claims(&token);
    assert_eq!(claims["sub"], "alice");
    assert_eq!(claims["aud"], ORDERS);
    assert_eq!(claims["act"], json!({"sub": "support-agent", "iss": server.issuer}));
    assert_eq!(claims["tenant"], "acme");
    assert_eq!(claims["task_type"], "refund_order@1");
    assert_eq!(claims["depth_left"], 2);
}

#[tokio::test]
async fn a_child_is_narrower_and_never_wider() {
    let server = Server::start().await;
    let root = server.wide_root().await;
    let child =
        server.exchange("support-agent", &root, &[("resource", ORDERS), ("scope", "orders:read")]).await;
    let child = child.token();
    assert_eq!(claims(&child)["scope"], "orders:read");
    assert_eq!(claims(&child)["parent_jti"], claims(&root)["jti"]);
    let wider = server.exchange("support-agent", &child, &[("scope", "orders:read refunds:write")]).await;
    let wider = wider.refused(400, "invalid_scope", "scope_exceeds_ceiling");
    assert_eq!(wider.body["ceiling"], "parent");
    assert_eq!(wider.body["grantable"], json!({"scope": "orders:read"}));
    assert_eq!(wider.body["retry"], "narrower");
    let elsewhere = server.exchange("support-agent", &child, &[("resource", MAIL)]).await;
    elsewhere.refused(400, "invalid_target", "target_exceeds_ceiling");
}

#[tokio::test]
async fn a_hand_over_token_is_spent_once_by_the_agent_it_names() {
    let server = Server::start().await;
    let root = server.wide_root().await;
    let form = [
        ("audience", server.issuer.as_str()),
        ("delegate_to", "worker-agent"),
        ("resource", ORDERS),
        ("scope", "orders:read"),
    ];
    let answer = server.exchange("support-agent", &root, &form).await;
    let hand_over = answer.token();
    assert_eq!(answer.body["expires_in"], 60);
    assert_eq!(claims(&hand_over)["may_act"]["sub"], "worker-agent");
    let other = server.exchange("worker-two", &hand_over, &[]).await;
    other.refused(400, "invalid_request", "subject_token_not_yours");
    let redeemed = server.exchange("worker-agent", &hand_over, &[]).await.token();
    let act = &claims(&redeemed)["act"];
    assert_eq!(act["sub"], "worker-agent");
    assert_eq!(act["act"]["sub"], "support-agent");
    assert_eq!(claims(&redeemed)["depth_left"], 1);
    let again = server.exchange("worker-agent", &hand_over, &[]).await;
    again.refused(400, "invalid_request", "hand_over_spent");
}

#[tokio::test]
async fn introspection_and_revocation_of_ones_own_token() {
    let server = Server::start().await;
    let root = server.root().await;
    assert_eq!(server.introspect("orders-api", &root).await.body["active"], true);
    assert_eq!(server.introspect("mail-api", &root).await.body, json!({"active": false}));
    let child = server.exchange("support-agent", &root, &[("scope", "orders:read")]).await.token();
    assert_eq!(server.revoke("support-agent", &root).await.status, 200);
    assert_eq!(server.introspect("orders-api", &child).await.body, json!({"active": false}));
    let below = server.exchange("support-agent", &child, &[]).await;
    below.refused(400, "invalid_request", "revoked");
}
