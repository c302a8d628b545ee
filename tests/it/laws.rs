//! The laws of DESIGN §2, over HTTP.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use taskgrant::store::Store;

use crate::support::database::{location, on_postgres};
use crate::support::idp::{bend, claims};
use crate::support::server::{JWT, MAIL, ORDERS, Server, secret};

const ROOT: [(&str, &str); 2] = [("task_type", "refund_order"), ("resource", ORDERS)];

#[tokio::test]
async fn l2_the_sessions_scope_claim_neither_grants_nor_limits() {
    let server = Server::start().await;
    for scope in [Value::Null, json!(""), json!("openid"), json!("orders:read refunds:write admin")] {
        let form = [&ROOT[..], &[("scope", "refunds:write")]].concat();
        let session = server.session(json!({"scope": scope, "client_id": null}));
        let answer = server.exchange("support-agent", &session, &form).await;
        assert_eq!(answer.body["scope"], "refunds:write", "{scope}: {answer:?}");
    }
}

#[tokio::test]
async fn l3_once_the_store_is_closed_the_answer_is_503_and_no_token() {
    if on_postgres() {
        eprintln!("skipped on PostgreSQL: its writer keeps a connection of its own when the pools close");
        return;
    }
    let server = Server::start().await;
    let (root, wide) = (server.root().await, server.wide_root().await);
    server.store.close().await;
    let session = server.session(json!({}));
    for (subject, form) in [(&session, &ROOT[..]), (&root, &[]), (&wide, &ROOT[1..])] {
        let answer = server.exchange("support-agent", subject, form).await;
        assert_eq!((answer.status, &answer.body["error"]), (503, &json!("temporarily_unavailable")));
        assert_eq!(answer.headers["retry-after"], "1");
        assert!(answer.body.get("access_token").is_none());
        assert_eq!(answer.body["retry"], "later");
    }
    let refusal = server.exchange("support-agent", "not-a-token", &[]).await;
    assert_eq!(refusal.status, 503, "a refusal that cannot be recorded is not answered as one");
    assert_eq!(server.introspect("orders-api", &root).await.status, 503);
    let revoked = server.revoke("support-agent", &root).await;
    assert_eq!((revoked.status, revoked.headers["retry-after"].as_str()), (503, "1"));
    assert_eq!(server.get("/readyz", &[]).await.status, 503);
    assert_eq!(server.get("/healthz", &[]).await.status, 200);
}

#[tokio::test]
async fn l3_a_commit_that_fails_hands_out_nothing_and_the_next_one_works() {
    let server = Server::start().await;
    let root = server.root().await;
    server.refuse_rows("decision_records").await;
    for _ in 0..2 {
        let answer = server.exchange("support-agent", &root, &[]).await;
        assert_eq!((answer.status, answer.body.get("access_token")), (503, None), "{answer:?}");
        assert_eq!(answer.headers["retry-after"], "1");
    }
    server.take_rows("decision_records").await;
    let answer = server.exchange("support-agent", &root, &[]).await;
    let token = answer.token();
    let jti = claims(&token)["jti"].as_str().unwrap().parse().unwrap();
    assert!(server.store.token(jti).await.unwrap().is_some());
    assert_eq!(server.decision(&answer).await.record["jti"], claims(&token)["jti"]);
}

#[tokio::test]
async fn l3_after_a_stop_every_token_that_was_answered_has_its_record_and_its_decision() {
    let server = Server::start().await;
    let wide = server.wide_root().await;
    let hand_over = server.hand_over(&wide, "worker-agent").await;
    let redeemed = server.exchange("worker-agent", &hand_over, &[]).await.token();
    let tokens = [wide, hand_over, redeemed, server.root().await];
    let data = server.data.clone();
    server.stop().await;
    let folder = location(data.path());
    // The last connections let go of the folder in their own time.
    let reopened = async {
        loop {
            match Store::open(&folder).await {
                Ok(store) => return store,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let store = tokio::time::timeout(Duration::from_secs(10), reopened).await.expect("the folder is free");
    for token in tokens {
        let jti = claims(&token)["jti"].as_str().unwrap().parse().unwrap();
        let record = store.token(jti).await.unwrap().expect("the token has its record");
        assert!(store.decision(record.decision_id).await.unwrap().is_some());
        assert!(store.task(record.task_id).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn l4_t26_no_child_outlives_a_revocation_that_it_raced() {
    let server = Arc::new(Server::start().await);
    let root = server.root().await;
    let mut racing = tokio::task::JoinSet::new();
    for turn in 0..24 {
        let (server, root) = (server.clone(), root.clone());
        racing.spawn(async move {
            if turn == 8 {
                assert_eq!(server.revoke("support-agent", &root).await.status, 200);
                return None;
            }
            let answer = server.exchange("support-agent", &root, &[]).await;
            if answer.status == 200 {
                return Some(answer.token());
            }
            answer.refused(400, "invalid_request", "revoked");
            None
        });
    }
    let children: Vec<String> = racing.join_all().await.into_iter().flatten().collect();
    for child in children {
        assert_eq!(server.introspect("orders-api", &child).await.body, json!({"active": false}));
        let below = server.exchange("support-agent", &child, &[]).await;
        below.refused(400, "invalid_request", "revoked");
    }
    let late = server.exchange("support-agent", &root, &[]).await;
    late.refused(400, "invalid_request", "revoked");
}

#[tokio::test]
async fn l5_every_life_ends_with_the_one_above_it() {
    let server = Server::start().await;
    let (start, session_end) = (server.now(), server.now() + 250);
    let short = server.session(json!({"exp": session_end}));
    let form = [("task_type", "refund_order"), ("audience", server.issuer.as_str())];
    let wide = server.exchange("support-agent", &short, &form).await.token();
    assert_eq!(claims(&wide)["task_exp"], session_end);
    assert_eq!(claims(&wide)["exp"], session_end, "exchange-only: until the task's deadline");
    let ask = async |subject: &str, seconds: &str| {
        let form = [("resource", ORDERS), ("requested_expires_in", seconds)];
        server.exchange("support-agent", subject, &form).await
    };
    let first = ask(&wide, "120").await;
    assert_eq!(first.body["expires_in"], 120);
    server.clock.shift(100);
    let second = ask(&first.token(), "86400").await;
    assert_eq!(claims(&second.token())["exp"], claims(&first.token())["exp"]);
    assert!(second.body["expires_in"].as_i64().unwrap() <= 20);
    let third = ask(&wide, "86400").await.token();
    assert_eq!(claims(&third)["exp"], session_end, "no longer than the session");
    assert!(claims(&third)["exp"].as_i64().unwrap() - start <= 250);
    server.clock.shift(20);
    let dead = server.exchange("support-agent", &second.token(), &[]).await;
    dead.refused(400, "invalid_request", "subject_token_expired");
    assert_eq!(dead.body["retry"], "new_session");
    server.clock.shift(130);
    ask(&wide, "10").await.refused(400, "invalid_request", "subject_token_expired");
}

#[tokio::test]
async fn l5_an_exchange_only_token_ends_with_its_task_and_policy_is_told_so() {
    let server = Server::start().await;
    let long = server.session(json!({"exp": server.now() + 4 * 3600}));
    let form = [("task_type", "refund_order"), ("audience", server.issuer.as_str())];
    let answer = server.exchange("support-agent", &long, &form).await;
    let token = claims(&answer.token());
    assert_eq!(answer.body["expires_in"], 3600, "the task's lifetime, not the session's");
    assert_eq!(token["exp"], token["task_exp"]);
    let told = async |answer| server.decision(answer).await.input["ceiling"]["lifetime"].as_i64().unwrap();
    assert!((3599..=3600).contains(&told(&answer).await), "{}", told(&answer).await);
    let root = server.exchange("support-agent", &long, &ROOT).await;
    assert_eq!(told(&root).await, 300);
    server.clock.shift(3500);
    let narrowed = server.exchange("support-agent", &answer.token(), &[("resource", ORDERS)]).await;
    assert!(told(&narrowed).await <= 100, "what is left of the task");
}

#[tokio::test]
async fn l5_token_lifetimes_are_the_task_types() {
    let server = Server::start().await;
    let session = server.session(json!({}));
    for (asked, given) in [("", 180), ("60", 60), ("300", 300), ("301", 300), ("4000000000", 300), ("1", 1)] {
        let form = [&ROOT[..], &[("requested_expires_in", asked)]].concat();
        let answer = server.exchange("support-agent", &session, &form).await;
        assert_eq!(answer.body["expires_in"], given, "{asked}");
        assert!(answer.body.get("narrowed").is_none(), "shortened, not narrowed by policy");
    }
    let task = claims(&server.wide_root().await);
    assert_eq!(task["task_exp"].as_i64().unwrap() - task["iat"].as_i64().unwrap(), 3600);
}

#[tokio::test]
async fn l6_a_chain_is_appended_to_whoever_exchanges() {
    let server = Server::start().await;
    let session = server.session(json!({"act": {"sub": "gateway"}}));
    let form = [("task_type", "refund_order"), ("audience", server.issuer.as_str())];
    let root = server.exchange("support-agent", &session, &form).await.token();
    let hand_over = server.hand_over(&root, "worker-agent").await;
    assert_eq!(claims(&hand_over)["act"], claims(&root)["act"]);
    let redeemed = server.exchange("worker-agent", &hand_over, &[]).await.token();
    assert_eq!(claims(&redeemed)["act"]["act"], claims(&root)["act"]);
    let again = server.exchange("worker-agent", &redeemed, &[]).await.token();
    assert_eq!(claims(&again)["act"], claims(&redeemed)["act"]);
}

#[tokio::test]
async fn l8_over_asking_names_the_excess_and_what_is_grantable_really_is() {
    let server = Server::start().await;
    let (session, root) = (server.session(json!({})), server.wide_root().await);
    let exchange =
        async |agent: &str, subject: &str, form: &[(&str, &str)]| server.exchange(agent, subject, form).await;
    let all = ("scope", "orders:read refunds:write mail:send reports:export");
    for (agent, subject, form) in [
        ("support-agent", &session, [&ROOT[..], &[all]].concat()),
        ("support-agent", &root, vec![("resource", ORDERS), all]),
        ("support-agent", &root, vec![("resource", MAIL), all]),
        ("worker-agent", &root, vec![("resource", ORDERS), all]),
        ("support-agent", &session, vec![("task_type", "export_reports"), all]),
    ] {
        let refused = exchange(agent, subject, &form).await;
        let refused = refused.refused(400, "invalid_scope", "scope_exceeds_ceiling");
        assert_eq!(refused.body["retry"], "narrower");
        assert!(refused.body["ceiling"].is_string());
        let grantable = refused.body["grantable"]["scope"].as_str().unwrap();
        let mut form = form;
        form.iter_mut().filter(|(key, _)| *key == "scope").for_each(|pair| pair.1 = grantable);
        let granted = exchange(agent, subject, &form).await;
        assert_eq!(granted.body["scope"], grantable, "{granted:?}");
        granted.token();
    }
    let refused = exchange("support-agent", &root, &[]).await;
    let choices =
        refused.refused(400, "invalid_target", "target_ambiguous").body["grantable"]["resource"].clone();
    for choice in choices.as_array().unwrap() {
        exchange("support-agent", &root, &[("resource", choice.as_str().unwrap())]).await.token();
    }
    let far = exchange("worker-agent", &root, &[("resource", MAIL)]).await;
    let far = far.refused(400, "invalid_target", "target_exceeds_ceiling");
    assert_eq!(
        (&far.body["ceiling"], &far.body["grantable"]),
        (&json!("delegation"), &json!({"resource": [ORDERS]}))
    );
    let details =
        json!([{"type": "tool_call", "tools": ["refund_order", "drop_table"], "amount": 900}]).to_string();
    let form = [&ROOT[..], &[("authorization_details", details.as_str())]].concat();
    let over = exchange("support-agent", &session, &form).await;
    let code = "authorization_details_exceed_ceiling";
    let over = over.refused(400, "invalid_authorization_details", code);
    let grantable = over.body["grantable"]["authorization_details"].to_string();
    let form = [&ROOT[..], &[("authorization_details", grantable.as_str())]].concat();
    exchange("support-agent", &session, &form).await.token();
}

#[tokio::test]
async fn l8_a_missing_task_type_is_refused_with_those_the_agent_may_start() {
    let server = Server::start().await;
    let session = server.session(json!({}));
    let choices = json!({"task_type": ["close_account", "export_reports", "refund_order"]});
    let missing = server.exchange("support-agent", &session, &ROOT[1..]).await;
    let missing = missing.refused(400, "invalid_request", "task_type_missing");
    assert_eq!(missing.body["grantable"], choices);
    let form = [("task_type", "no_such"), ("resource", ORDERS)];
    let unknown = server.exchange("support-agent", &session, &form).await;
    let unknown = unknown.refused(400, "invalid_request", "task_type_unavailable");
    assert_eq!(unknown.body["grantable"], choices);
    let form = [("task_type", "export_reports"), ("scope", "orders:read")];
    server.exchange("support-agent", &session, &form).await.token();
    let mine = server.session(json!({"may_act": {"sub": "worker-agent"}}));
    let not_mine = server.exchange("worker-agent", &mine, &ROOT).await;
    not_mine.refused(400, "invalid_request", "task_type_unavailable");
}

#[tokio::test]
async fn l8_a_left_out_parameter_means_what_the_ceilings_leave_and_nothing_is_a_refusal() {
    let server = Server::start().await;
    let analyst = server.session(json!({"groups": ["analysts"]}));
    let answer = server.exchange("support-agent", &analyst, &ROOT).await;
    assert_eq!(answer.body["scope"], "orders:read");
    let root = server.wide_root().await;
    let mail = server.exchange("support-agent", &root, &[("resource", MAIL)]).await;
    assert_eq!(mail.body["scope"], "mail:send orders:read", "what the parent holds and the resource lists");
    let form = [&ROOT[..], &[("scope", "refunds:write")]].concat();
    let writes = server.exchange("support-agent", &server.session(json!({})), &form).await.token();
    let nothing = server.exchange("worker-agent", &writes, &[]).await;
    let nothing = nothing.refused(400, "invalid_scope", "scope_exceeds_ceiling");
    assert_eq!(nothing.body["ceiling"], "delegation");
}

#[tokio::test]
async fn l10_an_issuer_names_the_tenant_and_the_request_cannot() {
    let server = Server::start().await;
    let form = [&ROOT[..], &[("tenant", "globex"), ("org_id", "globex")]].concat();
    let token = server.exchange("support-agent", &server.session(json!({})), &form).await.token();
    assert_eq!(claims(&token)["tenant"], "acme");
}

#[tokio::test]
async fn l12_every_refusal_is_in_the_log_with_its_reasons_and_without_any_secret() {
    let server = Server::start().await;
    let session = server.session(json!({}));
    let expired = server.session(json!({"exp": server.now() - 5}));
    let root = server.wide_root().await;
    let actor = server.actor_token("pod-1");
    let bad_actor =
        server.actor_keys.sign("JWT", &bend(server.actor_claims("support-agent", "x"), json!({}))).unwrap();
    let bad_proof = [&ROOT[..], &[("actor_token", &*bad_actor), ("actor_token_type", JWT)]].concat();
    let proof = [&ROOT[..], &[("actor_token", &*actor), ("actor_token_type", JWT)]].concat();
    let wide_scope = [&ROOT[..], &[("scope", "orders:read admin")]].concat();
    let approval = [("task_type", "close_account"), ("scope", "refunds:write")];
    for (agent, subject, form) in [
        ("support-agent", session.as_str(), &proof[..]),
        ("support-agent", &session, &bad_proof),
        ("support-agent", &expired, &ROOT),
        ("support-agent", &session, &wide_scope),
        ("support-agent", &session, &approval),
        ("support-agent", &root, &[]),
        ("stranger-agent", &session, &ROOT),
        ("stranger-agent", &root, &[]),
        ("orders-api", &session, &ROOT),
        ("support-agent", "not.a.token", &ROOT),
        ("support-agent", &session, &[("grant_type", "password"), ("password", "hunter2")]),
    ] {
        let answer = server.exchange(agent, subject, form).await;
        let recorded = server.decision(&answer).await;
        assert_eq!(recorded.record["actor"], agent);
        assert_eq!(recorded.leaf["id"], answer.body["decision_id"]);
        if answer.status == 200 {
            assert_eq!(recorded.leaf["outcome"], "allow");
            assert!(recorded.record["reasons"].is_null());
        } else {
            let codes: Vec<&str> = recorded.record["reasons"]
                .as_array()
                .unwrap()
                .iter()
                .map(|r| r["code"].as_str().unwrap())
                .collect();
            let said = answer.body["reason_code"].as_str().unwrap();
            assert!(codes.contains(&said) || said == "approval_required", "{said}: {codes:?}");
            assert_ne!(recorded.leaf["outcome"], "allow");
        }
        let text = recorded.text();
        let own = secret(agent);
        let issued = answer.body["access_token"].as_str().unwrap_or("hunter2");
        for hidden in [&session, &expired, &root, &actor, &bad_actor, &own, issued, "hunter2"] {
            for part in hidden.split('.').filter(|part| part.len() > 6) {
                assert!(!text.contains(part), "{agent}: a token or secret is in the log");
            }
        }
        assert!(!recorded.leaf.to_string().contains("alice"), "the leaf holds personal data");
    }
}
