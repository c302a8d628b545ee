//! Exchange-only tokens, hand-over both ways, dry runs, and task types that change under a live task.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::idp::claims;
use crate::support::server::{JWT, MAIL, ORDERS, Server};

const ROOT: [(&str, &str); 2] = [("task_type", "refund_order"), ("resource", ORDERS)];

#[tokio::test]
async fn an_exchange_only_token_is_for_us_and_no_service() {
    let server = Server::start().await;
    let root = server.wide_root().await;
    let told = claims(&root);
    assert_eq!(told["aud"], server.issuer);
    assert_eq!(told["resources"], json!([MAIL, ORDERS]));
    assert_eq!(told["exp"], told["task_exp"]);
    for resource in ["orders-api", "mail-api"] {
        assert_eq!(server.introspect(resource, &root).await.body, json!({"active": false}));
    }
    assert_eq!(server.introspect("support-agent", &root).await.body["active"], true);
    let form = [("audience", server.issuer.as_str()), ("resource", ORDERS)];
    let narrower = server.exchange("support-agent", &root, &form).await.token();
    assert_eq!(claims(&narrower)["resources"], json!([ORDERS]));
    let wider = server.exchange("support-agent", &narrower, &[("resource", MAIL)]).await;
    wider.refused(400, "invalid_target", "target_exceeds_ceiling");
    let service = server.exchange("support-agent", &narrower, &[]).await.token();
    assert_eq!(claims(&service)["aud"], ORDERS);
    assert!(claims(&service).get("resources").is_none());
    let back = server.exchange("support-agent", &service, &form).await;
    assert!(back.status == 200 && claims(&back.token())["exp"].as_i64() <= claims(&service)["exp"].as_i64());
}

#[tokio::test]
async fn a_hand_over_token_lives_a_minute_and_delegate_to_needs_our_audience() {
    let server = Server::start().await;
    let root = server.wide_root().await;
    let form =
        [("audience", server.issuer.as_str()), ("delegate_to", "worker-agent"), ("scope", "orders:read")];
    let long = [&form[..], &[("resource", ORDERS), ("requested_expires_in", "300")]].concat();
    let answer = server.exchange("support-agent", &root, &long).await;
    assert_eq!(answer.body["expires_in"], 60);
    let hand_over = answer.token();
    assert_eq!(claims(&hand_over)["may_act"], json!({"sub": "worker-agent", "iss": server.issuer}));
    let without = [("resource", ORDERS), ("delegate_to", "worker-agent")];
    let without = server.exchange("support-agent", &root, &without).await;
    without.refused(400, "invalid_request", "malformed_request");
    server.clock.shift(60);
    let late = server.exchange("worker-agent", &hand_over, &[]).await;
    late.refused(400, "invalid_request", "subject_token_expired");
}

#[tokio::test]
async fn a_redeemed_hand_over_lies_within_one_edge_and_drops_may_act() {
    let server = Server::start().await;
    let root = server.wide_root().await;
    let all = [("audience", server.issuer.as_str()), ("delegate_to", "worker-agent")];
    let hand_over = server.exchange("support-agent", &root, &all).await.token();
    let redeemed = server.exchange("worker-agent", &hand_over, &[]).await;
    assert_eq!(redeemed.body["scope"], "orders:read", "the edge lets no more through");
    let redeemed = redeemed.token();
    assert!(claims(&redeemed).get("may_act").is_none(), "may_act is not inherited");
    assert_eq!(claims(&redeemed)["depth_left"], 1);
    server.exchange("worker-agent", &redeemed, &[]).await.token();
    let session = server.session(json!({}));
    let form = [&[("task_type", "refund_order"), ("resource", ORDERS)], &all[..]].concat();
    let straight = server.exchange("support-agent", &session, &form).await.token();
    let wide = [("scope", "orders:read refunds:write")];
    let over = server.exchange("worker-agent", &straight, &wide).await;
    let over = over.refused(400, "invalid_scope", "scope_exceeds_ceiling");
    assert!(["delegation", "parent"].contains(&over.body["ceiling"].as_str().unwrap()), "{over:?}");
    server.exchange("worker-agent", &straight, &[]).await.token();
}

#[tokio::test]
async fn an_agent_that_the_task_type_names_may_present_an_ordinary_token() {
    let server = Server::start().await;
    let root = server.root().await;
    let token = server.exchange("worker-agent", &root, &[]).await;
    assert_eq!(token.body["scope"], "orders:read");
    let told = claims(&token.token());
    assert_eq!((&told["client_id"], &told["depth_left"]), (&json!("worker-agent"), &json!(1)));
    assert_eq!(told["act"]["act"]["sub"], "support-agent");
    let again = server.exchange("worker-agent", &root, &[]).await;
    assert_eq!(again.status, 200, "an ordinary token is not spent");
    let second = server.exchange("worker-two", &token.token(), &[]).await.token();
    let third = server.exchange("worker-agent", &second, &[]).await;
    third.refused(400, "invalid_request", "delegation_not_allowed");
}

#[tokio::test]
async fn t31_of_many_that_spend_a_hand_over_token_at_once_one_wins() {
    let server = Arc::new(Server::start().await);
    let root = server.wide_root().await;
    let hand_over = server.hand_over(&root, "worker-agent").await;
    let mut spending = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let (server, token) = (server.clone(), hand_over.clone());
        spending.spawn(async move { server.exchange("worker-agent", &token, &[]).await });
    }
    let answers = spending.join_all().await;
    assert_eq!(answers.iter().filter(|a| a.status == 200).count(), 1);
    for loser in answers.iter().filter(|a| a.status != 200) {
        loser.refused(400, "invalid_request", "hand_over_spent");
        assert_eq!(loser.body["retry"], "new_session");
    }
}

#[tokio::test]
async fn t31_a_refused_exchange_does_not_spend_a_hand_over_token() {
    let server = Server::start().await;
    let hand_over = server.hand_over(&server.wide_root().await, "worker-agent").await;
    let over = server.exchange("worker-agent", &hand_over, &[("scope", "admin")]).await;
    over.refused(400, "invalid_scope", "scope_exceeds_ceiling");
    server.exchange("worker-two", &hand_over, &[]).await.refused(
        400,
        "invalid_request",
        "subject_token_not_yours",
    );
    server.exchange("worker-agent", &hand_over, &[]).await.token();
}

#[tokio::test]
async fn a_dry_run_issues_and_spends_nothing_and_is_recorded() {
    let server = Server::start().await;
    let hand_over = server.hand_over(&server.wide_root().await, "worker-agent").await;
    let before = server.decisions().await;
    for _ in 0..2 {
        let dry = server.exchange("worker-agent", &hand_over, &[("dry_run", "true")]).await;
        assert_eq!(dry.status, 200, "{dry:?}");
        assert!(dry.body.get("access_token").is_none() && dry.body.get("token_type").is_none());
        assert_eq!((&dry.body["dry_run"], &dry.body["scope"]), (&json!(true), &json!("orders:read")));
        assert_eq!(dry.body["resource"], json!([ORDERS]));
        assert!(dry.body["expires_in"].as_i64().unwrap() <= 60);
        let recorded = server.decision(&dry).await;
        assert_eq!(recorded.record["dry_run"], true);
        assert_eq!(recorded.input["requested"]["dry_run"], true);
        assert!(recorded.record["jti"].is_null(), "no token was made");
    }
    assert_eq!(server.decisions().await, before + 2);
    server.exchange("worker-agent", &hand_over, &[]).await.token();
}

#[tokio::test]
async fn a_dry_run_is_refused_as_the_real_exchange_would_be() {
    let server = Server::start().await;
    let root = server.wide_root().await;
    let spent = server.hand_over(&root, "worker-agent").await;
    server.exchange("worker-agent", &spent, &[]).await.token();
    let revoked = server.root().await;
    let below = server.exchange("support-agent", &revoked, &[]).await.token();
    server.revoke("support-agent", &revoked).await;
    let session = server.session(json!({}));
    let wide = [&ROOT[..], &[("scope", "admin")]].concat();
    let approval = [("task_type", "close_account"), ("scope", "refunds:write")];
    for (agent, subject, form) in [
        ("support-agent", &session, &wide[..]),
        ("support-agent", &session, &approval),
        ("stranger-agent", &session, &ROOT),
        ("support-agent", &root, &[]),
        ("support-agent", &revoked, &[]),
        ("support-agent", &below, &[]),
        ("worker-agent", &spent, &[]),
        ("worker-two", &spent, &[]),
    ] {
        let real = server.exchange(agent, subject, form).await;
        let dry = server.exchange(agent, subject, &[form, &[("dry_run", "true")]].concat()).await;
        let without_id = |body: &Value| {
            let mut body = body.clone();
            body.as_object_mut().unwrap().remove("decision_id");
            body
        };
        assert_ne!(real.status, 200);
        assert_eq!((dry.status, without_id(&dry.body)), (real.status, without_id(&real.body)));
        assert_eq!(server.decision(&dry).await.record["dry_run"], true);
    }
    let odd = server.exchange("support-agent", &root, &[("dry_run", "yes")]).await;
    odd.refused(400, "invalid_request", "malformed_request");
}

#[tokio::test]
async fn a_foreign_chain_counts_as_depth() {
    let server = Server::start().await;
    for (act, left) in [(json!({"sub": "a"}), 1), (json!({"sub": "a", "act": {"sub": "b"}}), 0)] {
        let session = server.session(json!({"act": act}));
        let root = server.exchange("support-agent", &session, &ROOT).await.token();
        assert_eq!(claims(&root)["depth_left"], left);
        let next = server.exchange("worker-agent", &root, &[]).await;
        assert_eq!(next.status == 200, left > 0, "{next:?}");
        if left == 0 {
            next.refused(400, "invalid_request", "delegation_depth_exhausted");
        }
    }
}

#[tokio::test]
async fn a_live_tasks_ceiling_is_its_own_version_and_the_current_one() {
    let server = Server::start().await;
    let form = [&ROOT[..], &[("scope", "orders:read refunds:write")]].concat();
    let root = server.exchange("support-agent", &server.session(json!({})), &form).await.token();
    let narrow =
        "scopes: [orders:read, mail:send]\n  default_scopes: [orders:read]\n  resources: [orders, mail]";
    let as_it_is = "scopes: [orders:read, refunds:write, mail:send]\n  default_scopes: [orders:read]\n  resources: [orders, mail]";
    server.reapply(as_it_is, narrow).await;
    let cut = server.exchange("support-agent", &root, &[("scope", "refunds:write")]).await;
    let cut = cut.refused(400, "invalid_scope", "scope_exceeds_ceiling");
    assert_eq!(cut.body["ceiling"], "task_type");
    let kept = server.exchange("support-agent", &root, &[]).await;
    assert_eq!(kept.body["scope"], "orders:read");
    assert_eq!(claims(&kept.token())["task_type"], "refund_order@1");
    let fresh = server.exchange("support-agent", &server.session(json!({})), &ROOT).await.token();
    assert_eq!(claims(&fresh)["task_type"], "refund_order@2");
    server.apply(&server.objects()).await.unwrap();
    let again = server.exchange("support-agent", &root, &[("scope", "refunds:write")]).await;
    assert_eq!(again.status, 200, "{again:?}");
    let below = server.exchange("support-agent", &fresh, &[("scope", "refunds:write")]).await;
    below.refused(400, "invalid_scope", "scope_exceeds_ceiling");
}

#[tokio::test]
async fn a_wider_edge_does_not_reach_a_task_that_began_under_a_narrower_one() {
    let server = Server::start().await;
    let root = server.root().await;
    let edge = "{from: class:support, to: class:worker, scopes: [orders:read], resources: [orders]}";
    server.reapply(edge, "{from: class:support, to: class:worker}").await;
    let over = server.exchange("worker-agent", &root, &[("scope", "orders:read refunds:write")]).await;
    let over = over.refused(400, "invalid_scope", "scope_exceeds_ceiling");
    assert_eq!(
        (&over.body["ceiling"], &over.body["grantable"]["scope"]),
        (&json!("delegation"), &json!("orders:read"))
    );
    let left_out = server.exchange("worker-agent", &root, &[]).await;
    assert_eq!(left_out.body["scope"], "orders:read");
    let fresh = server.root().await;
    let wide = server.exchange("worker-agent", &fresh, &[("scope", "orders:read refunds:write")]).await;
    assert_eq!(wide.status, 200, "{wide:?}");
}

#[tokio::test]
async fn t20_a_disabled_task_type_or_agent_refuses_every_exchange_below_it() {
    let server = Server::start().await;
    let root = server.root().await;
    let workers = server.exchange("worker-agent", &root, &[]).await.token();
    let name = "name: refund_order\nspec:\n";
    server.reapply(name, "name: refund_order\nspec:\n  disabled: true\n").await;
    for (agent, subject) in [("support-agent", &root), ("worker-agent", &workers)] {
        let answer = server.exchange(agent, subject, &[]).await;
        answer.refused(400, "invalid_request", "task_type_unavailable");
    }
    let fresh = server.exchange("support-agent", &server.session(json!({})), &ROOT).await;
    fresh.refused(400, "invalid_request", "task_type_unavailable");
    assert_eq!(server.introspect("orders-api", &root).await.body, json!({"active": false}));
    server.reapply("client_id: support-agent\n", "client_id: support-agent\n  disabled: true\n").await;
    let own = server.exchange("support-agent", &root, &[]).await;
    own.refused(401, "invalid_client", "client_authentication_failed");
    let held = server.exchange("worker-agent", &root, &[]).await;
    held.refused(400, "invalid_request", "subject_token_holder_disabled");
    let below = server.exchange("worker-agent", &workers, &[]).await;
    below.refused(400, "invalid_request", "subject_token_actor_disabled");
    assert_eq!(server.introspect("orders-api", &workers).await.body, json!({"active": false}));
    assert_eq!(server.introspect("orders-api", &root).await.body, json!({"active": false}));
    server.apply(&server.objects()).await.unwrap();
    server.exchange("support-agent", &root, &[]).await.token();
}

#[tokio::test]
async fn l2_an_edge_taken_away_or_lowered_bites_below_the_hand_overs_that_used_it() {
    let server = Server::start().await;
    let handed = server.hand_over(&server.wide_root().await, "worker-agent").await;
    let form = [("audience", server.issuer.as_str())];
    let workers = server.exchange("worker-agent", &handed, &form).await.token();
    let last = server.exchange("worker-two", &workers, &form).await.token();
    let edge = "- {from: class:support, to: class:worker, scopes: [orders:read], resources: [orders]}";
    server
        .reapply(edge, "- {from: class:support, to: class:worker, scopes: [mail:send], resources: [mail]}")
        .await;
    for (agent, subject) in [("worker-agent", &workers), ("worker-two", &last)] {
        let answer = server.exchange(agent, subject, &[]).await;
        assert_eq!((answer.status, &answer.body["ceiling"]), (400, &json!("delegation")), "{answer:?}");
    }
    server.reapply(edge, "- {from: class:support, to: agent:worker-two, scopes: [orders:read]}").await;
    for (agent, subject) in [("worker-agent", &workers), ("worker-two", &last)] {
        let answer = server.exchange(agent, subject, &[]).await;
        answer.refused(400, "invalid_request", "delegation_not_allowed");
    }
    server.apply(&server.objects()).await.unwrap();
    server.exchange("worker-two", &last, &[]).await.token();
}

#[tokio::test]
async fn l8_of_several_edges_the_nearest_one_tells_what_is_grantable() {
    let server = Server::start().await;
    let edge = "- {from: class:support, to: class:worker, scopes: [orders:read], resources: [orders]}";
    let two = format!(
        "{edge}\n      - {{from: class:support, to: class:worker, scopes: [refunds:write], resources: [orders]}}"
    );
    server.reapply(edge, &two).await;
    let root = server.root().await;
    let ask = async |scope: &str| server.exchange("worker-agent", &root, &[("scope", scope)]).await;
    ask("refunds:write").await.token();
    let answer = ask("refunds:write mail:send").await;
    answer.refused(400, "invalid_scope", "scope_exceeds_ceiling");
    assert_eq!(answer.body["grantable"], json!({"scope": "refunds:write"}));
    let answer = ask("refunds:write orders:read").await;
    assert_eq!(answer.body["ceiling"], "delegation");
}

#[tokio::test]
async fn t28_a_spent_hand_over_token_is_not_active() {
    let server = Server::start().await;
    let handed = server.hand_over(&server.wide_root().await, "worker-agent").await;
    assert_eq!(server.introspect("worker-agent", &handed).await.body["active"], true);
    server.exchange("worker-agent", &handed, &[]).await.token();
    for agent in ["worker-agent", "support-agent"] {
        assert_eq!(server.introspect(agent, &handed).await.body, json!({"active": false}));
    }
}

#[tokio::test]
async fn a_tree_is_at_most_sixteen_high() {
    let server = Server::start().await;
    let mut token = server.root().await;
    for _ in 1..16 {
        token = server.exchange("support-agent", &token, &[]).await.token();
    }
    let dry = server.exchange("support-agent", &token, &[("dry_run", "true")]).await;
    dry.refused(400, "invalid_request", "token_tree_too_high");
    let answer = server.exchange("support-agent", &token, &[]).await;
    answer.refused(400, "invalid_request", "token_tree_too_high");
}

#[tokio::test]
async fn an_instance_takes_part_in_a_hand_over() {
    let server = Server::start().await;
    let hand_over = server.hand_over(&server.wide_root().await, "worker-agent").await;
    let actor = server.actor_keys.sign("actor+jwt", &server.actor_claims("worker-agent", "w-7")).unwrap();
    let form = [("actor_token", actor.as_str()), ("actor_token_type", JWT)];
    let token = server.exchange("worker-agent", &hand_over, &form).await.token();
    assert_eq!(claims(&token)["act"]["instance"], "w-7");
    assert!(claims(&token)["act"]["act"].get("instance").is_none());
    let other = server.exchange("worker-agent", &token, &[]).await;
    other.refused(400, "invalid_request", "instance_not_proved");
}

#[tokio::test]
async fn an_agent_learns_in_which_tasks_it_may_hand_over_and_to_whom() {
    let server = Server::start().await;
    let listed = async |agent: &str| server.post("/task-types", agent, &[]).await.body["hand_overs"].clone();
    let item = |start: bool, edge: Value| json!([{"tenant": "acme", "task_type": "refund_order", "start": start, "edges": [edge]}]);
    let worker = json!({
        "to": "class:worker", "agents": ["worker-agent", "worker-two"], "scopes": "orders:read", "resources": [ORDERS],
    });
    assert_eq!(listed("support-agent").await, item(true, worker));
    let two = json!({"to": "agent:worker-two", "agents": ["worker-two"], "scopes": "orders:read", "resources": null});
    assert_eq!(listed("worker-agent").await, item(false, two), "it may be handed the task, and hand it on");
    for agent in ["worker-two", "stranger-agent", "globex-agent"] {
        assert_eq!(listed(agent).await, json!([]), "{agent}");
    }
    server.reapply("    max_depth: 2\n", "    max_depth: 1\n").await;
    assert_eq!(listed("worker-agent").await, json!([]), "no depth is left when it is handed the task");
    let resource = server.post("/task-types", "orders-api", &[]).await;
    resource.refused(400, "unauthorized_client", "client_is_no_agent");
    assert_eq!(server.decision(&resource).await.record["asked"], json!({"endpoint": "/task-types"}));
}
