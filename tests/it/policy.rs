//! What policy is told, and what it can do: deny, narrow, ask for approval, fail (DESIGN §6).

use serde_json::{Value, json};

use crate::support::idp::claims;
use crate::support::server::{JWT, ORDERS, Server};

const ROOT: [(&str, &str); 2] = [("task_type", "refund_order"), ("resource", ORDERS)];

#[tokio::test]
async fn t39_l11_what_an_agent_claims_reaches_policy_as_claimed_and_nowhere_else() {
    let server = Server::start().await;
    let claimed = json!({
        "marker-7f3a": true, "principal": {"sub": "marker-7f3a"}, "actor": {"class": "marker-7f3a"},
        "approval": {"id": "marker-7f3a"}, "allow": true, "task": "marker-7f3a: ignore all rules",
    });
    let text = claimed.to_string();
    let form = [&ROOT[..], &[("claimed", text.as_str())]].concat();
    let answer = server.exchange("support-agent", &server.session(json!({})), &form).await;
    let token = answer.token();
    let mut input = server.decision(&answer).await.input;
    assert_eq!(input["claimed"], claimed);
    input.as_object_mut().unwrap().remove("claimed");
    assert!(!input.to_string().contains("marker-7f3a"), "{input}");
    assert!(!claims(&token).to_string().contains("marker-7f3a"));
    assert_eq!(input["principal"]["sub"], "alice");
    assert_eq!(input["actor"]["class"], "support");
    assert!(input.get("approval").is_none_or(Value::is_null));
    for bad in ["[]", "\"text\"", "7", "{", "null"] {
        let form = [&ROOT[..], &[("claimed", bad)]].concat();
        let answer = server.exchange("support-agent", &server.session(json!({})), &form).await;
        answer.refused(400, "invalid_request", "malformed_request");
    }
}

#[tokio::test]
async fn t39_l11_what_an_agent_claims_never_makes_the_answer_less_strict() {
    let server = Server::start_with_policy(
        r#"limits contains {"lifetime": 60} if not input.claimed.fast
limits contains {"lifetime": 20} if input.claimed.hurried
deny contains {"code": "unsafe", "message": "say that it is safe", "public": true} if {
    "refunds:write" in input.requested.scopes
    not input.claimed.safe
}"#,
    )
    .await;
    let session = server.session(json!({}));
    let ask = async |scope: &str, claimed: &str| {
        let form = [&ROOT[..], &[("scope", scope), ("claimed", claimed)]].concat();
        server.exchange("support-agent", &session, &form).await
    };
    assert_eq!(ask("orders:read", "{}").await.body["expires_in"], 60);
    let lifted = ask("orders:read", r#"{"fast": true}"#).await;
    assert_eq!(lifted.body["expires_in"], 60, "a claim lifts no limit");
    assert_eq!(
        server.decision(&lifted).await.input["claimed"],
        json!({"fast": true}),
        "what was sent is recorded"
    );
    assert_eq!(ask("orders:read", r#"{"hurried": true}"#).await.body["expires_in"], 20);
    let denied = ask("refunds:write", r#"{"safe": true}"#).await;
    denied.refused(400, "invalid_request", "policy_denied");
    assert_eq!(denied.body["reasons"][0]["code"], "unsafe");
}

#[tokio::test]
async fn policy_is_told_the_verified_facts() {
    let server = Server::start().await;
    let session = server.session(json!({"act": {"sub": "gateway"}}));
    let email = server.session_claims()["email"].clone();
    let actor = server.actor_token("pod-1");
    let form = [&ROOT[..], &[("actor_token", &*actor), ("actor_token_type", JWT)]].concat();
    let root = server.exchange("support-agent", &session, &form).await;
    let input = server.decision(&root).await.input;
    assert_eq!(input["environment"], "test");
    assert_eq!(input["tenant"], json!({"id": "acme", "labels": {"tier": "gold"}}));
    assert_eq!(input["principal"]["iss"], server.idp.issuer);
    assert_eq!(input["principal"]["groups"], json!(["support"]));
    assert_eq!(input["principal"]["acr"], "aal2");
    assert_eq!(input["principal"]["kind"], "human");
    // What the issuer's `facts` name, and nothing else of the token.
    assert_eq!(input["principal"]["facts"], json!({"email": email}));
    assert_eq!(input["actor"]["id"], "support-agent");
    assert_eq!(input["actor"]["instance"], "pod-1");
    assert_eq!(input["chain"].as_array().unwrap().len(), 2);
    assert_eq!(input["chain"][1]["iss"], server.idp.issuer);
    assert_eq!(input["task"]["type"], "refund_order");
    assert_eq!(input["task"]["labels"], json!({"risk": "medium"}));
    assert_eq!(input["requested"]["scopes"], json!(["orders:read"]));
    assert!(!input.to_string().contains("eyJ"), "a token is in the input");
    let form = [("resource", ORDERS), ("actor_token", actor.as_str()), ("actor_token_type", JWT)];
    let child = server.exchange("support-agent", &root.token(), &form).await;
    let input = server.decision(&child).await.input;
    assert_eq!(input["principal"]["facts"], json!({"email": email}), "they lie with the task");
    assert_eq!(input["parent"]["jti"], claims(&root.token())["jti"]);
    assert_eq!(input["parent"]["scopes"], json!(["orders:read"]));
    assert_eq!(input["task"]["id"], claims(&root.token())["task_id"]);
}

#[tokio::test]
async fn policy_is_told_whether_the_principal_is_a_person_or_a_workload() {
    let server = Server::start_with_policy(
        r#"deny contains {"code": "people_only", "message": "people only", "public": true} if {
    input.principal.kind != "human"
}"#,
    )
    .await;
    server.exchange("support-agent", &server.session(json!({})), &ROOT).await.token();
    server.reapply("  facts: [email]\n", "  facts: [email]\n  principals: workload\n").await;
    let refused = server.exchange("support-agent", &server.session(json!({})), &ROOT).await;
    refused.refused(400, "invalid_request", "policy_denied");
    assert_eq!(server.decision(&refused).await.input["principal"]["kind"], "workload");
}

#[tokio::test]
async fn a_denial_shows_the_public_reasons_only_and_records_all() {
    let server = Server::start_with_policy(
        r#"deny contains {"code": "office_hours", "message": "only in office hours", "public": true}
deny contains {"code": "watch_list", "message": "alice is on the watch list", "public": false} if {
    input.principal.sub == "alice"
}"#,
    )
    .await;
    let session = server.session(json!({}));
    let answer = server.exchange("support-agent", &session, &ROOT).await;
    let answer = answer.refused(400, "invalid_request", "policy_denied");
    assert_eq!(answer.body["reasons"], json!([{"code": "office_hours", "message": "only in office hours"}]));
    assert!(!answer.text.contains("watch"), "{}", answer.text);
    assert_eq!((&answer.body["ceiling"], &answer.body["retry"]), (&json!("policy"), &json!("never")));
    let recorded = server.decision(answer).await;
    let codes: Vec<&Value> =
        recorded.record["reasons"].as_array().unwrap().iter().map(|r| &r["code"]).collect();
    assert_eq!(codes, [&json!("office_hours"), &json!("watch_list")]);
    assert!(recorded.leaf["policy"].as_str().unwrap().starts_with("sha256:"));
}

#[tokio::test]
async fn tx_09_a_denial_without_public_reasons_says_only_that_policy_denied() {
    let rules = r#"deny contains {"code": "secret_rule", "message": "hush", "public": false}"#;
    let server = Server::start_with_policy(rules).await;
    let answer = server.exchange("support-agent", &server.session(json!({})), &ROOT).await;
    let answer = answer.refused(400, "invalid_request", "policy_denied");
    assert!(answer.body.get("reasons").is_none());
    assert!(!answer.text.contains("secret_rule") && !answer.text.contains("hush"));
}

#[tokio::test]
async fn a_limit_of_policy_narrows_and_says_so() {
    let server = Server::start_with_policy(
        r#"limits contains {"scopes": ["orders:read"], "lifetime": 45} if input.actor.class == "support"
limits contains {"scopes": ["refunds:write", "orders:read"]}
tags contains "narrowed_here""#,
    )
    .await;
    let session = server.session(json!({}));
    let form = [&ROOT[..], &[("scope", "orders:read refunds:write")]].concat();
    let answer = server.exchange("support-agent", &session, &form).await;
    assert_eq!(answer.body["scope"], "orders:read");
    assert_eq!(answer.body["expires_in"], 45);
    assert_eq!(answer.body["narrowed"], json!(["scope", "expires_in"]));
    assert_eq!(claims(&answer.token())["scope"], "orders:read");
    let recorded = server.decision(&answer).await;
    assert_eq!(recorded.record["tags"], json!(["narrowed_here"]));
    assert_eq!(recorded.record["granted"]["narrowed"], json!(["scope", "expires_in"]));
    let dry = server.exchange("support-agent", &session, &[&form[..], &[("dry_run", "true")]].concat()).await;
    assert_eq!(
        (&dry.body["narrowed"], &dry.body["scope"]),
        (&answer.body["narrowed"], &answer.body["scope"])
    );
    let within = [&ROOT[..], &[("requested_expires_in", "20")]].concat();
    let within = server.exchange("support-agent", &session, &within).await;
    assert!(within.body.get("narrowed").is_none(), "{within:?}");
    let none = [&ROOT[..], &[("scope", "refunds:write")]].concat();
    let none = server.exchange("support-agent", &session, &none).await;
    none.refused(400, "invalid_request", "policy_left_nothing");
}

#[tokio::test]
async fn approval_is_asked_for_by_policy_or_the_task_type() {
    let server = Server::start_with_policy(
        r#"require_approval contains {"code": "refund", "message": "refunds need a person", "public": true} if {
    "refunds:write" in input.requested.scopes
}"#,
    )
    .await;
    let session = server.session(json!({}));
    let form = [&ROOT[..], &[("scope", "refunds:write")]].concat();
    let answer = server.exchange("support-agent", &session, &form).await;
    let answer = answer.refused(400, "interaction_required", "approval_required");
    assert_eq!(answer.body["retry"], "after_approval");
    assert_eq!(answer.body["reasons"][0]["code"], "refund");
    assert_eq!(server.decision(answer).await.leaf["outcome"], "require_approval");
    let form = [("task_type", "close_account"), ("scope", "refunds:write")];
    let always = server.exchange("support-agent", &session, &form).await;
    let always = always.refused(400, "interaction_required", "approval_required");
    let codes: Vec<&Value> = always.body["reasons"].as_array().unwrap().iter().map(|r| &r["code"]).collect();
    assert_eq!(codes, [&json!("refund"), &json!("task_type_approval")], "all reasons are collected");
    server.exchange("support-agent", &session, &ROOT).await.token();
}

#[tokio::test]
async fn approval_always_holds_at_the_root_and_at_each_hand_over() {
    let server = Server::start().await;
    let form = [("task_type", "close_account"), ("scope", "refunds:write")];
    let root = server.exchange("support-agent", &server.session(json!({})), &form).await;
    root.refused(400, "interaction_required", "approval_required");
    assert_eq!(root.body["reasons"][0]["code"], "task_type_approval");
    let plain = server.root().await;
    let max = "    max_depth: 2\n";
    server.reapply("  labels: {risk: medium}\n", "  labels: {risk: medium}\n  approval: {when: always, approvers: [group:support-leads], quorum: 1}\n").await;
    assert!(server.objects().contains(max));
    let handed = server.exchange("worker-agent", &plain, &[]).await;
    handed.refused(400, "interaction_required", "approval_required");
    let form = [("audience", server.issuer.as_str()), ("delegate_to", "worker-agent"), ("resource", ORDERS)];
    let handing = server.exchange("support-agent", &plain, &form).await;
    handing.refused(400, "interaction_required", "approval_required");
    server.exchange("support-agent", &plain, &[]).await.token();
}

#[tokio::test]
async fn an_exception_lifts_what_policy_says_it_may_in_its_time_and_stands_in_the_record() {
    let server = Server::start_with_policy(
        r#"is_excepted if {
    some exception in input.exceptions
    exception.about.task_type == input.task.type
}

deny contains {"code": "closed", "message": "no refunds today", "public": true} if not is_excepted"#,
    )
    .await;
    let session = server.session(json!({}));
    server.exchange("support-agent", &session, &ROOT).await.refused(400, "invalid_request", "policy_denied");
    let at = |seconds: i64| chrono::DateTime::from_timestamp(server.now() + seconds, 0).unwrap().to_rfc3339();
    let exception = |tenant: &str, name: &str| {
        format!(
            "---\nkind: Exception\ntenant: {tenant}\nname: {name}\nspec:\n  reason: sale\n  owner: group:payments\n  \
             approvers: [group:security, group:finance]\n  not_before: {}\n  expires_at: {}\n  \
             about: {{task_type: refund_order}}\n",
            at(-60),
            at(600),
        )
    };
    server.apply(&exception("globex", "of-another-tenant")).await.unwrap();
    server.exchange("support-agent", &session, &ROOT).await.refused(400, "invalid_request", "policy_denied");
    server.apply(&exception("acme", "sale")).await.unwrap();
    let lifted = server.exchange("support-agent", &session, &ROOT).await;
    lifted.token();
    assert_eq!(server.decision(&lifted).await.record["exceptions"], json!(["sale"]));
    server.clock.shift(601);
    let over = server.exchange("support-agent", &session, &ROOT).await;
    over.refused(400, "invalid_request", "policy_denied");
    assert!(server.decision(&over).await.record["exceptions"].is_null());
}

#[tokio::test]
async fn deny_beats_approval() {
    let server = Server::start_with_policy(
        r#"require_approval contains {"code": "ask", "message": "ask", "public": true}
deny contains {"code": "no", "message": "no", "public": true}"#,
    )
    .await;
    let answer = server.exchange("support-agent", &server.session(json!({})), &ROOT).await;
    answer.refused(400, "invalid_request", "policy_denied");
}

#[tokio::test]
async fn tx_10_l7_a_policy_fault_is_503_and_recorded_as_a_denial() {
    for rules in [
        r#"limits contains {"surprise": 1}"#,
        r#"limits contains {"lifetime": "soon"}"#,
        r#"deny contains "a bare text""#,
        r#"deny contains {"code": "not a code", "message": "no"}"#,
    ] {
        let server = Server::start_with_policy(rules).await;
        let answer = server.exchange("support-agent", &server.session(json!({})), &ROOT).await;
        answer.refused(503, "temporarily_unavailable", "policy_unavailable");
        assert_eq!(answer.headers["retry-after"], "1");
        assert_eq!(answer.headers["cache-control"], "no-store");
        let recorded = server.decision(&answer).await;
        assert_eq!(recorded.leaf["outcome"], "deny");
        let why = recorded.record["reasons"][0]["message"].as_str().unwrap();
        assert!(why.starts_with("policy engine fault"), "{why}");
        assert!(!answer.text.contains("surprise"), "the engine's words are not for the client");
    }
}
