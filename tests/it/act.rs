//! Who acts for whom: `sub`, `act`, `may_act`, `scope`, `client_id`, `actor_token` (STANDARDS §1.5).

use serde_json::json;

use crate::support::idp::{bend, claims};
use crate::support::server::{JWT, MAIL, ORDERS, Server};

const ROOT: [(&str, &str); 2] = [("task_type", "refund_order"), ("resource", ORDERS)];

#[tokio::test]
async fn tx_11_sub_is_the_principal_act_the_agent_and_the_tenant_a_claim_of_its_own() {
    let server = Server::start().await;
    let root = claims(&server.root().await);
    assert_eq!(root["sub"], "alice");
    assert_eq!(root["sub_id"], json!({"format": "iss_sub", "iss": server.idp.issuer, "sub": "alice"}));
    assert_eq!(root["act"]["sub"], "support-agent");
    assert_eq!(root["tenant"], "acme");
    assert!(!root["act"].to_string().contains("acme"));
}

#[tokio::test]
async fn tx_12_act_is_an_object_of_identity_claims_and_dates_in_it_are_dropped() {
    let server = Server::start().await;
    for bad in [json!("bot"), json!(["bot"]), json!({}), json!({"sub": 7}), json!({"sub": "a", "act": "b"})] {
        let session = server.session(json!({"act": bad}));
        let answer = server.exchange("support-agent", &session, &ROOT).await;
        answer.refused(400, "invalid_request", "subject_token_act");
    }
    let act = json!({"sub": "bot", "exp": 1, "nbf": 9_999_999_999_i64, "aud": "x", "role": "admin"});
    let token = server.exchange("support-agent", &server.session(json!({"act": act})), &ROOT).await.token();
    assert_eq!(claims(&token)["act"]["act"], json!({"sub": "bot", "iss": server.idp.issuer}));
}

#[tokio::test]
async fn tx_13_each_new_actor_is_outermost_and_the_first_is_deepest() {
    let server = Server::start().await;
    let root = server.wide_root().await;
    let worker = server.exchange("worker-agent", &server.hand_over(&root, "worker-agent").await, &[]).await;
    let second = server.exchange("worker-two", &worker.token(), &[]).await.token();
    let iss = &server.issuer;
    let support = json!({"sub": "support-agent", "iss": iss});
    let first = json!({"sub": "worker-agent", "iss": iss, "act": support});
    assert_eq!(claims(&second)["act"], json!({"sub": "worker-two", "iss": iss, "act": first}));
    assert_eq!(claims(&second)["client_id"], "worker-two");
    assert_eq!(claims(&second)["sub"], "alice");
}

#[tokio::test]
async fn tx_14_t41_an_actor_that_only_appears_nested_decides_nothing() {
    let server = Server::start().await;
    let root = server.wide_root().await;
    let hand_over = server.hand_over(&root, "worker-agent").await;
    let workers = server.exchange("worker-agent", &hand_over, &[]).await.token();
    assert_eq!(claims(&workers)["act"]["act"]["sub"], "support-agent");
    let back = server.exchange("support-agent", &workers, &[]).await;
    back.refused(400, "invalid_request", "delegation_not_allowed");
    let inactive = json!({"active": false});
    assert_eq!(server.introspect("support-agent", &workers).await.body, inactive);
    let refused = server.revoke("worker-two", &workers).await;
    assert_eq!((refused.status, &refused.body["error"]), (400, &json!("invalid_request")));
    assert_eq!(server.introspect("orders-api", &workers).await.body["active"], true);
    // No access, and only ever less of it: what grew from its own token it may end (DESIGN §9).
    assert_eq!(server.revoke("support-agent", &workers).await.status, 200);
    assert_eq!(server.introspect("orders-api", &workers).await.body, inactive);
}

#[tokio::test]
async fn tx_15_may_act_in_a_session_names_the_one_agent_that_may_spend_it() {
    let server = Server::start().await;
    let spend = async |agent: &str, may_act: serde_json::Value, client: &str| {
        let session = server.session(json!({"may_act": may_act, "azp": client, "client_id": client}));
        server.exchange(agent, &session, &ROOT).await
    };
    let own = json!({"sub": "support-agent", "iss": server.issuer});
    spend("support-agent", own.clone(), "unknown-app").await.token();
    spend("support-agent", json!({"sub": "support-agent"}), "unknown-app").await.token();
    for (agent, may_act) in [
        ("worker-agent", own),
        ("support-agent", json!({"sub": "worker-agent"})),
        ("support-agent", json!({"sub": "support-agent", "iss": "https://other.example"})),
        ("support-agent", json!({"sub": "support-agent", "iss": server.idp.issuer})),
        ("support-agent", json!({"sub": "Support-Agent"})),
    ] {
        // `console` is listed by the agent, and that does not help.
        let answer = spend(agent, may_act, "console").await;
        answer.refused(400, "invalid_request", "subject_token_not_yours");
    }
    for bad in [json!("support-agent"), json!({}), json!({"sub": "support-agent", "email": "a@b"})] {
        let answer = spend("support-agent", bad, "console").await;
        assert_eq!((answer.status, &answer.body["error"]), (400, &json!("invalid_request")), "{answer:?}");
    }
}

#[tokio::test]
async fn tx_15_a_token_without_may_act_goes_no_further_than_the_task_type_lets_it() {
    let server = Server::start().await;
    let form = [("task_type", "export_reports"), ("resource", ORDERS)];
    let root = server.exchange("support-agent", &server.session(json!({})), &form).await.token();
    assert_eq!(claims(&root)["depth_left"], 0);
    let answer = server.exchange("worker-agent", &root, &[]).await;
    answer.refused(400, "invalid_request", "delegation_not_allowed");
}

#[tokio::test]
async fn tx_16_without_an_actor_token_the_authenticated_agent_is_the_actor() {
    let server = Server::start().await;
    let root = server.root().await;
    for token in [root.clone(), server.exchange("support-agent", &root, &[]).await.token()] {
        assert_eq!(claims(&token)["act"], json!({"sub": "support-agent", "iss": server.issuer}));
    }
}

#[tokio::test]
async fn tx_17_t15_an_exchange_never_drops_act() {
    let server = Server::start().await;
    let act = json!({"sub": "gateway", "act": {"sub": "browser", "iss": "https://b.example"}});
    let session = server.session(json!({"act": act}));
    let root = server.exchange("support-agent", &session, &ROOT).await.token();
    let foreign = json!({"sub": "gateway", "iss": server.idp.issuer, "act": {"sub": "browser", "iss": "https://b.example"}});
    let expected = json!({"sub": "support-agent", "iss": server.issuer, "act": foreign});
    assert_eq!(claims(&root)["act"], expected);
    let mut token = root;
    for _ in 0..3 {
        token = server.exchange("support-agent", &token, &[]).await.token();
        assert_eq!(claims(&token)["act"], expected);
    }
}

#[tokio::test]
async fn tx_18_scope_is_one_text_and_the_four_claims_stand_at_the_top_of_introspection() {
    let server = Server::start().await;
    let root = server.wide_root().await;
    let hand_over = server.hand_over(&root, "worker-agent").await;
    let told = server.introspect("support-agent", &hand_over).await.body;
    assert_eq!(told["scope"], "orders:read");
    assert_eq!(told["client_id"], "support-agent");
    assert_eq!(told["may_act"]["sub"], "worker-agent");
    assert_eq!(told["act"]["sub"], "support-agent");
    assert_eq!(claims(&root)["scope"], "mail:send orders:read refunds:write");
    assert_eq!(claims(&root)["client_id"], "support-agent");
}

#[tokio::test]
async fn tx_19_t12_an_actor_token_proves_an_instance_of_the_caller_and_nobody_else() {
    let server = Server::start().await;
    let session = server.session(json!({}));
    let exchange = async |actor: &str| {
        let form = [&ROOT[..], &[("actor_token", actor), ("actor_token_type", JWT)]].concat();
        server.exchange("support-agent", &session, &form).await
    };
    let token = exchange(&server.actor_token("pod-1")).await.token();
    let act = json!({"sub": "support-agent", "iss": server.issuer, "instance": "pod-1"});
    assert_eq!(claims(&token)["act"], act);
    let good = server.actor_claims("support-agent", "pod-1");
    let now = server.now();
    for (with, reason) in [
        // The same key is registered for worker-agent too: only `iss` tells them apart.
        (json!({"iss": "worker-agent"}), "actor_token_other_agent"),
        (json!({"iss": server.idp.issuer}), "actor_token_other_agent"),
        (json!({"iss": null}), "actor_token_other_agent"),
        (json!({"aud": "https://other.example"}), "actor_token_audience"),
        (json!({"aud": [server.issuer, "https://other.example"]}), "actor_token_audience"),
        (json!({"aud": format!("{}/oauth/token", server.issuer)}), "actor_token_audience"),
        (json!({"exp": now + 400}), "actor_token_too_long"),
        (json!({"exp": null}), "actor_token_malformed"),
        (json!({"sub": null}), "actor_token_malformed"),
        (json!({"sub": ""}), "actor_token_malformed"),
        (json!({"act": {"sub": "x"}}), "actor_token_unsupported"),
        (json!({"nbf": now + 120}), "actor_token_not_yet_valid"),
    ] {
        let actor = server.actor_keys.sign("actor+jwt", &bend(good.clone(), with)).unwrap();
        exchange(&actor).await.refused(400, "invalid_request", reason);
    }
    let forged = server.idp.sign("actor+jwt", &good);
    exchange(&forged).await.refused(400, "invalid_request", "actor_token_signature");
}

#[tokio::test]
async fn t25_an_expired_actor_token_refuses_although_the_subject_is_fresh() {
    let server = Server::start().await;
    let actor = server.actor_token("pod-1");
    let form = [&ROOT[..], &[("actor_token", actor.as_str()), ("actor_token_type", JWT)]].concat();
    server.exchange("support-agent", &server.session(json!({})), &form).await.token();
    server.clock.shift(121);
    let answer = server.exchange("support-agent", &server.session(json!({})), &form).await;
    answer.refused(400, "invalid_request", "actor_token_expired");
    assert_eq!(answer.body["retry"], "later");
}

#[tokio::test]
async fn an_instance_is_added_once_and_afterwards_only_it_may_spend_the_token() {
    let server = Server::start().await;
    let root = server.wide_root().await;
    let as_instance = async |subject: &str, instance: &str| {
        let actor = server.actor_token(instance);
        let form = [("actor_token", actor.as_str()), ("actor_token_type", JWT), ("resource", ORDERS)];
        server.exchange("support-agent", subject, &form).await
    };
    let bound = as_instance(&root, "pod-1").await.token();
    assert_eq!(claims(&bound)["act"]["instance"], "pod-1");
    as_instance(&bound, "pod-1").await.token();
    as_instance(&bound, "pod-2").await.refused(400, "invalid_request", "instance_not_proved");
    let unproved = server.exchange("support-agent", &bound, &[]).await;
    unproved.refused(400, "invalid_request", "instance_not_proved");
    let other = server.exchange("worker-agent", &bound, &[]).await;
    other.refused(400, "invalid_request", "instance_not_proved");
    // The parent is bound to no instance, and stays so.
    server.exchange("support-agent", &root, &[("resource", MAIL), ("scope", "mail:send")]).await.token();
}

#[tokio::test]
async fn tx_19_an_agent_without_registered_keys_proves_no_instance() {
    let server = Server::start().await;
    let root = server.wide_root().await;
    let form = [("audience", server.issuer.as_str()), ("resource", ORDERS), ("scope", "orders:read")];
    let form = [&form[..], &[("delegate_to", "worker-two")]].concat();
    let straight = server.exchange("support-agent", &root, &form).await.token();
    let claims = server.actor_claims("worker-two", "pod-1");
    let actor = server.actor_keys.sign("actor+jwt", &claims).unwrap();
    let form = [("actor_token", actor.as_str()), ("actor_token_type", JWT)];
    let answer = server.exchange("worker-two", &straight, &form).await;
    answer.refused(400, "invalid_request", "actor_token_keys_missing");
}
