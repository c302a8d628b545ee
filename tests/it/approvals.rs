//! What waits for people: asked, answered, fetched once, and bounded by everything that bounds an exchange (STANDARDS §11, AP-01…05).

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use taskgrant::admin::api::RefusalCode;
use taskgrant::admin::approvals::CancelApproval;
use taskgrant::admin::revocations::RevokeRequest;
use taskgrant::approvals::Ballot;
use taskgrant::domain::approval::{ApprovalState, Narrowing};
use taskgrant::revocation::target::Target;
use taskgrant::terminal::output::Exit;
use tokio::task::JoinSet;

use crate::support::approvals::{
    DEFERRED, approve, ask_as, ballot, code, command, fetch, fetch_as, id, lead, state, vote, waiting,
};
use crate::support::database::on_postgres;
use crate::support::idp::claims;
use crate::support::replicas;
use crate::support::server::{Answer, ORDERS, Server};

const CLOSE: [(&str, &str); 3] =
    [("task_type", "close_account"), ("scope", "refunds:write"), ("completion_mode", "deferred")];

/// Asks for what needs a person, and waits.
async fn ask(server: &Server, form: &[(&str, &str)]) -> Answer {
    ask_as(server, "support-agent", &server.session(json!({})), form).await
}

#[tokio::test]
async fn ap_01_ap_04_what_is_approved_is_fetched_once_and_all_of_it_is_in_the_log() {
    let server = Server::start().await;
    let session = server.session(json!({}));
    let asked = ask_as(&server, "support-agent", &session, &CLOSE).await;
    assert_eq!(asked.headers["cache-control"], "no-store");
    assert_eq!(asked.body["interval"], 5);
    assert_eq!(asked.body["reasons"][0]["code"], "task_type_approval");
    assert!(asked.body["expires_in"].as_i64().unwrap() <= 3600);
    assert!(code(&asked).len() >= 4 + 43, "at least 128 bits");
    let asks = server.decision(&asked).await;
    assert_eq!((&asks.leaf["kind"], &asks.leaf["outcome"]), (&json!("exchange"), &json!("require_approval")));
    assert_eq!(asks.record["approval_id"], asked.body["approval_id"]);

    let listed = waiting(&server).await;
    let [one] = listed.as_slice() else { panic!("{listed:#?}") };
    assert_eq!((one.client_id.as_str(), one.state), ("support-agent", ApprovalState::Pending));
    assert_eq!(one.request["principal"]["sub"], "alice");
    assert_eq!(one.request["scope"], "refunds:write");
    assert_eq!(one.request["reasons"][0]["code"], "task_type_approval");
    let stored = format!("{:?}", server.store.approvals((None, None), 10).await.unwrap());
    assert!(
        stored.contains("close_account") && !stored.contains(code(&asked)),
        "only the code's hash is kept"
    );
    assert!(!stored.contains(session.rsplit('.').next().unwrap()), "no token is kept");

    server.clock.shift(6);
    fetch(&server, &asked).await.refused(400, "authorization_pending", "approval_pending");
    let cast = approve(&server, &asked).await;
    assert_eq!(cast.approval.state, ApprovalState::Approved);
    let voted = server.decision_of(cast.decision_id).await;
    assert_eq!((&voted.leaf["kind"], &voted.leaf["outcome"]), (&json!("approval"), &json!("allow")));
    assert_eq!(voted.record["asked"]["approver"]["sub"], "erin");
    assert!(waiting(&server).await.is_empty());

    let fetched = fetch(&server, &asked).await;
    let token = fetched.token();
    let granted = server.decision(&fetched).await;
    assert_eq!(granted.record["approval_id"], asked.body["approval_id"]);
    assert_eq!(granted.input["approval"]["reasons"], json!(["task_type_approval"]));
    assert!(granted.input["approval"]["approvers"][0].as_str().unwrap().ends_with(" erin"));
    let held = claims(&token);
    assert_eq!(held["approval"], json!({"id": asked.body["approval_id"], "reasons": ["task_type_approval"]}));
    assert_eq!(held["act"]["sub"], "support-agent");
    assert_eq!(server.introspect("orders-api", &token).await.body["active"], true);
    fetch(&server, &asked).await.refused(400, "invalid_grant", "deferral_code_used");
    assert_eq!(state(&server, &asked).await, ApprovalState::Redeemed);
}

#[tokio::test]
async fn ap_01_a_code_that_is_redeemed_twice_at_once_yields_one_token() {
    let server = Arc::new(Server::start().await);
    let asked = ask(&server, &CLOSE).await;
    approve(&server, &asked).await;
    let mut racing = JoinSet::new();
    for _ in 0..12 {
        let (server, code) = (server.clone(), code(&asked).to_owned());
        racing.spawn(async move { fetch_as(&server, "support-agent", &code).await });
    }
    let answers = racing.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        answer.refused(400, "invalid_grant", "deferral_code_used");
    }
}

#[tokio::test]
async fn who_polls_too_fast_is_slowed_down() {
    let server = Server::start().await;
    let asked = ask(&server, &CLOSE).await;
    let soon = fetch(&server, &asked).await;
    assert_eq!((soon.status, &soon.body["error"]), (400, &json!("slow_down")));
    assert_eq!(soon.body["interval"], 10);
    server.clock.shift(6);
    assert_eq!(fetch(&server, &asked).await.body["error"], "slow_down");
    server.clock.shift(16);
    let patient = fetch(&server, &asked).await;
    assert_eq!(
        (&patient.body["error"], &patient.body["interval"]),
        (&json!("authorization_pending"), &json!(15))
    );
    assert_eq!(patient.body["deferral_code"], asked.body["deferral_code"]);
}

#[tokio::test]
async fn a_denial_and_the_end_of_the_time_are_told_and_recorded() {
    let server = Server::start().await;
    let denied = ask(&server, &CLOSE).await;
    let cast = vote(&server, id(&denied), &ballot(false, lead(&server, json!({})))).await.unwrap();
    assert_eq!(server.decision_of(cast.decision_id).await.leaf["outcome"], "deny");
    let answer = fetch(&server, &denied).await;
    answer.refused(400, "access_denied", "approval_denied");
    assert_eq!(server.decision(&answer).await.record["approval_id"], denied.body["approval_id"]);

    // People who said no are not asked the same again at once (T38).
    let again = server.exchange("support-agent", &server.session(json!({})), &CLOSE).await;
    again.refused(400, "access_denied", "approval_denied");
    server.clock.shift(601);
    let late = ask(&server, &CLOSE).await;
    assert_ne!(id(&late), id(&denied), "later it may be asked again");
    server.clock.shift(3601);
    fetch(&server, &late).await.refused(400, "expired_token", "approval_expired");
    let refused = vote(&server, id(&late), &ballot(true, lead(&server, json!({})))).await.unwrap_err();
    assert_eq!(refused.error, RefusalCode::Conflict, "{refused:?}");
    // The server itself says so in the log, once.
    while server.count("SELECT count(*) FROM approvals WHERE state = 'expired'").await != 1 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(
        server.count("SELECT count(*) FROM decisions WHERE kind = 'approval' AND outcome = 'deny'").await,
        3
    );
}

#[tokio::test]
async fn t35_a_code_is_its_agents_alone_and_says_nothing_else() {
    let server = Server::start().await;
    let asked = ask(&server, &CLOSE).await;
    approve(&server, &asked).await;
    for (agent, wrong) in
        [("worker-agent", code(&asked)), ("support-agent", "tgd_nothing"), ("support-agent", id(&asked))]
    {
        fetch_as(&server, agent, wrong).await.refused(400, "invalid_grant", "deferral_code_unknown");
    }
    for (field, value) in
        [("scope", "refunds:write"), ("subject_token", "x"), ("resource", ORDERS), ("dry_run", "true")]
    {
        let form = [("grant_type", DEFERRED), ("deferral_code", code(&asked)), (field, value)];
        let answer = server.post("/oauth/token", "support-agent", &form).await;
        answer.refused(400, "invalid_request", "malformed_request");
        assert!(answer.body["error_description"].as_str().unwrap().starts_with(field), "{answer:?}");
    }
    // A code is no token, and a token no code.
    let as_token = server.exchange("support-agent", code(&asked), &[]).await;
    as_token.refused(400, "invalid_request", "subject_token_invalid");
    assert_eq!(server.introspect("support-agent", code(&asked)).await.body, json!({"active": false}));
    fetch(&server, &asked).await.token();
}

#[tokio::test]
async fn a_client_that_does_not_wait_is_told_and_a_dry_run_asks_nobody() {
    let server = Server::start().await;
    for more in
        [&[][..], &[("completion_mode", "other")], &[("completion_mode", "deferred"), ("dry_run", "true")]]
    {
        let form = [&CLOSE[..2], more].concat();
        let answer = server.exchange("support-agent", &server.session(json!({})), &form).await;
        answer.refused(400, "interaction_required", "approval_required");
    }
    assert!(waiting(&server).await.is_empty());
    // Nobody may approve: then nobody is asked.
    let policy = r#"require_approval contains {"code": "ask", "message": "ask", "public": true}"#;
    let server = Server::start_with_policy(policy).await;
    let form = [("task_type", "export_reports"), ("completion_mode", "deferred")];
    let answer = server.exchange("support-agent", &server.session(json!({})), &form).await;
    answer.refused(400, "interaction_required", "approval_impossible");
    assert!(waiting(&server).await.is_empty());
}

#[tokio::test]
async fn ap_02_what_has_ended_meanwhile_is_not_fetched() {
    let server = Server::start().await;
    let approved = async || {
        let asked = ask(&server, &CLOSE).await;
        approve(&server, &asked).await;
        asked
    };
    let asked = approved().await;
    server
        .reapply(
            "  approval: {when: always, approvers: [group:support-leads], quorum: 1}\n",
            "  approval: {when: always, approvers: [group:support-leads], quorum: 2}\n",
        )
        .await;
    let answer = fetch(&server, &asked).await;
    answer.refused(400, "access_denied", "approval_insufficient");
    assert_eq!(answer.body["reasons"][0]["code"], "quorum_raised");
    server.apply(&server.objects()).await.unwrap();

    server.reapply("  scopes: [refunds:write]\n", "  scopes: [orders:read]\n").await;
    fetch(&server, &asked).await.refused(400, "invalid_scope", "scope_exceeds_ceiling");
    server.apply(&server.objects()).await.unwrap();

    server
        .reapply(
            "  upstream_clients: [{issuer: ISSUER, client: console}]\n"
                .replace("ISSUER", &server.idp.issuer)
                .as_str(),
            "",
        )
        .await;
    fetch(&server, &asked).await.refused(400, "invalid_request", "subject_token_not_yours");
    server.apply(&server.objects()).await.unwrap();

    let target = Target::Session { iss: server.idp.issuer.clone(), sid: "sid-1".to_owned() };
    let revoke = RevokeRequest { target, reason: "logout".to_owned(), dry_run: false };
    server.admin().await.revoke(&revoke).await.unwrap().unwrap();
    fetch(&server, &asked).await.refused(400, "invalid_request", "revoked");
    assert_eq!(state(&server, &asked).await, ApprovalState::Approved, "nothing was fetched");
}

#[tokio::test]
async fn ap_02_a_reason_that_people_did_not_see_is_not_approved() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle");
    std::fs::create_dir(&bundle).unwrap();
    let rules = bundle.join("rules.rego");
    let starter = include_str!("../../policies/base/ceilings.rego");
    let asks = |code: &str| {
        format!(
            "require_approval contains {{\"code\": \"{code}\", \"message\": \"look\", \"public\": true}}\n"
        )
    };
    std::fs::write(&rules, format!("{starter}\n{}", asks("first"))).unwrap();
    let server = Server::start_with(&format!("[policy]\nbundles = ['{}']", bundle.display())).await;
    let asked = ask(&server, &CLOSE).await;
    approve(&server, &asked).await;
    std::fs::write(&rules, format!("{starter}\n{}{}", asks("first"), asks("second"))).unwrap();
    server.admin().await.reload_policy().await.unwrap().unwrap();
    let answer = fetch(&server, &asked).await;
    answer.refused(400, "access_denied", "approval_insufficient");
    assert_eq!(answer.body["reasons"], json!([{"code": "second", "message": "look"}]));
    std::fs::write(
        &rules,
        format!("{starter}\ndeny contains {{\"code\": \"no\", \"message\": \"no\", \"public\": true}}"),
    )
    .unwrap();
    server.admin().await.reload_policy().await.unwrap().unwrap();
    fetch(&server, &asked).await.refused(400, "invalid_request", "policy_denied");
    std::fs::write(&rules, format!("{starter}\n# Again.\n{}", asks("first"))).unwrap();
    server.admin().await.reload_policy().await.unwrap().unwrap();
    let token = fetch(&server, &asked).await.token();
    assert_eq!(claims(&token)["approval"]["reasons"], json!(["first", "task_type_approval"]));
}

#[tokio::test]
async fn ap_02_an_approver_takes_away_and_never_adds() {
    let policy = r#"require_approval contains {"code": "ask", "message": "ask", "public": true}"#;
    let server = Server::start_with_policy(policy).await;
    server
        .reapply(
            "  labels: {risk: medium}\n",
            "  labels: {risk: medium}\n  approval: {approvers: [group:support-leads]}\n",
        )
        .await;
    let form = [
        ("task_type", "refund_order"),
        ("resource", ORDERS),
        ("scope", "orders:read refunds:write"),
        ("completion_mode", "deferred"),
    ];
    let asked = ask(&server, &form).await;
    let narrowed = |scopes: Option<&str>, lifetime| Ballot {
        narrowing: Narrowing { scopes: scopes.map(|s| s.parse().unwrap()), lifetime },
        ..ballot(true, lead(&server, json!({})))
    };
    for (ballot, word) in [
        (narrowed(Some("orders:read mail:send"), None), "mail:send"),
        (narrowed(None, Some(100_000)), "lifetime"),
    ] {
        let refused = vote(&server, id(&asked), &ballot).await.unwrap_err();
        assert!(refused.error == RefusalCode::BadRequest && refused.message.contains(word), "{refused:?}");
    }
    vote(&server, id(&asked), &narrowed(Some("orders:read"), Some(30))).await.unwrap();
    let answer = fetch(&server, &asked).await;
    let held = claims(&answer.token());
    assert_eq!((&held["scope"], &answer.body["expires_in"]), (&json!("orders:read"), &json!(30)));
    assert_eq!(answer.body["narrowed"], json!(["scope", "expires_in"]));
}

#[tokio::test]
async fn ap_03_t38_who_may_approve() {
    let server = Server::start().await;
    let asked = ask(&server, &CLOSE).await;
    let now = server.now();
    for (who, error, words) in [
        (json!({"groups": ["support"]}), RefusalCode::NotAllowed, "group:support-leads"),
        (json!({"sub": "alice"}), RefusalCode::NotAllowed, "on whose behalf"),
        (
            json!({"groups": ["support-leads", "support-platform"]}),
            RefusalCode::NotAllowed,
            "an owner of the agent `support-agent`",
        ),
        (json!({"client_id": "console", "azp": "console"}), RefusalCode::NotAllowed, "upstream_clients"),
        (json!({"may_act": {"sub": "support-agent"}}), RefusalCode::NotAllowed, "upstream_clients"),
        (json!({"auth_time": now - 1000}), RefusalCode::NotAllowed, "sign in again"),
        (json!({"auth_time": null}), RefusalCode::NotAllowed, "auth_time"),
        (json!({"org_id": "globex"}), RefusalCode::NotAllowed, "tenant"),
        (json!({"exp": now - 1}), RefusalCode::NotAllowed, "`exp`"),
    ] {
        let refused = vote(&server, id(&asked), &ballot(true, lead(&server, who.clone()))).await.unwrap_err();
        assert!(refused.error == error && refused.message.contains(words), "{who}: {refused:?}");
    }
    let silent = Ballot { reason: "  ".into(), ..ballot(true, lead(&server, json!({}))) };
    assert_eq!(vote(&server, id(&asked), &silent).await.unwrap_err().error, RefusalCode::BadRequest);
    // A token of ours is no session of a person.
    let own = ballot(true, server.root().await);
    assert_eq!(vote(&server, id(&asked), &own).await.unwrap_err().error, RefusalCode::NotAllowed);
    assert_eq!(state(&server, &asked).await, ApprovalState::Pending);
    // Who tried and is known is in the log.
    let tried =
        server.count("SELECT count(*) FROM decisions WHERE kind = 'approval' AND outcome = 'deny'").await;
    assert_eq!(tried, 8);
    approve(&server, &asked).await;
}

#[tokio::test]
async fn a_quorum_is_of_different_people() {
    let server = Server::start().await;
    server
        .reapply(
            "approvers: [group:support-leads], quorum: 1}",
            "approvers: [group:support-leads], quorum: 2}",
        )
        .await;
    let asked = ask(&server, &CLOSE).await;
    assert_eq!(approve(&server, &asked).await.approval.state, ApprovalState::Pending);
    let again = vote(&server, id(&asked), &ballot(true, lead(&server, json!({"sid": "another"})))).await;
    assert_eq!(again.unwrap_err().error, RefusalCode::Conflict);
    server.clock.shift(60);
    fetch(&server, &asked).await.refused(400, "authorization_pending", "approval_pending");
    let second = ballot(true, lead(&server, json!({"sub": "frank"})));
    assert_eq!(vote(&server, id(&asked), &second).await.unwrap().approval.state, ApprovalState::Approved);
    fetch(&server, &asked).await.token();
}

#[tokio::test]
async fn ap_05_an_approval_holds_for_its_agent_and_not_beyond_a_hand_over() {
    let server = Server::start().await;
    server.reapply("  labels: {risk: medium}\n", "  labels: {risk: medium}\n  approval: {when: always, approvers: [group:support-leads], quorum: 1}\n").await;
    let form = [
        ("task_type", "refund_order"),
        ("resource", ORDERS),
        ("scope", "orders:read"),
        ("completion_mode", "deferred"),
    ];
    let asked = ask(&server, &form).await;
    approve(&server, &asked).await;
    let root = fetch(&server, &asked).await.token();
    // The same agent goes on without being asked again.
    let child = server.exchange("support-agent", &root, &[]).await.token();
    assert_eq!(claims(&child)["approval"]["id"], asked.body["approval_id"]);
    // Another one is asked for anew: when it is handed the token, and the people see to whom.
    server.exchange("worker-agent", &root, &[]).await.refused(
        400,
        "interaction_required",
        "approval_required",
    );
    let handing = [
        ("audience", server.issuer.as_str()),
        ("delegate_to", "worker-agent"),
        ("resource", ORDERS),
        ("completion_mode", "deferred"),
    ];
    let handing = ask_as(&server, "support-agent", &root, &handing).await;
    assert_eq!(waiting(&server).await[0].request["delegate_to"], "worker-agent");
    approve(&server, &handing).await;
    let hand_over = fetch(&server, &handing).await.token();
    let worker = server.exchange("worker-agent", &hand_over, &[]).await.token();
    assert_eq!(claims(&worker)["approval"]["id"], handing.body["approval_id"]);
    server.exchange("worker-agent", &worker, &[]).await.token();
    // And a hand-over token waits and is spent once, also where its exchange waits.
    server.exchange("worker-agent", &hand_over, &[]).await.refused(400, "invalid_request", "hand_over_spent");
}

#[tokio::test]
async fn a_hand_over_token_is_spent_when_its_exchange_waits_and_the_parent_may_not_end() {
    let policy = r#"require_approval contains {"code": "worker", "message": "a worker", "public": true} if {
    input.actor.class == "worker"
}"#;
    let server = Server::start_with_policy(policy).await;
    server
        .reapply(
            "  labels: {risk: medium}\n",
            "  labels: {risk: medium}\n  approval: {approvers: [group:support-leads]}\n",
        )
        .await;
    let root = server.root().await;
    let hand_over = server.hand_over(&root, "worker-agent").await;
    let asked = ask_as(&server, "worker-agent", &hand_over, &[("completion_mode", "deferred")]).await;
    assert!(asked.body["expires_in"].as_i64().unwrap() <= 60, "never longer than its parent: {asked:?}");
    let again = server.exchange("worker-agent", &hand_over, &[("completion_mode", "deferred")]).await;
    again.refused(400, "invalid_request", "hand_over_spent");
    approve(&server, &asked).await;
    let token = fetch_as(&server, "worker-agent", code(&asked)).await.token();
    assert_eq!(claims(&token)["act"]["act"]["sub"], "support-agent");

    let doomed = server.hand_over(&root, "worker-agent").await;
    let doomed = ask_as(&server, "worker-agent", &doomed, &[("completion_mode", "deferred")]).await;
    approve(&server, &doomed).await;
    server.revoke("support-agent", &root).await;
    fetch_as(&server, "worker-agent", code(&doomed)).await.refused(400, "invalid_request", "revoked");
}

#[tokio::test]
async fn t38_the_same_question_is_asked_once_and_not_too_many_wait() {
    let server = Server::start_with("[limits]\nwaiting_approvals = 2").await;
    let first = ask(&server, &CLOSE).await;
    let again = ask(&server, &CLOSE).await;
    assert_eq!(id(&first), id(&again));
    assert_eq!(waiting(&server).await.len(), 1);
    fetch(&server, &first).await.refused(400, "invalid_grant", "deferral_code_unknown");
    ask(&server, &[&CLOSE[..], &[("requested_expires_in", "10")]].concat()).await;
    let third = [&CLOSE[..], &[("requested_expires_in", "11")]].concat();
    let full = server.exchange("support-agent", &server.session(json!({})), &third).await;
    full.refused(429, "temporarily_unavailable", "approvals_waiting");
    assert!(full.headers["retry-after"].parse::<u32>().unwrap() > 60);
    let same = ask(&server, &CLOSE).await;
    assert_eq!(id(&same), id(&first));
    approve(&server, &same).await;
    fetch(&server, &same).await.token();
    ask(&server, &third).await;
}

#[tokio::test]
async fn what_waits_is_given_up_by_its_agent_and_taken_back_by_an_admin() {
    let server = Server::start().await;
    let asked = ask(&server, &CLOSE).await;
    assert_eq!(server.revoke("worker-agent", code(&asked)).await.status, 200);
    assert_eq!(state(&server, &asked).await, ApprovalState::Pending, "not another agent's to give up");
    assert_eq!(server.revoke("support-agent", code(&asked)).await.status, 200);
    assert_eq!(state(&server, &asked).await, ApprovalState::Cancelled);
    assert_eq!(server.revoke("support-agent", code(&asked)).await.status, 200);
    fetch(&server, &asked).await.refused(400, "invalid_grant", "approval_cancelled");

    let asked = ask(&server, &CLOSE).await;
    approve(&server, &asked).await;
    let request = CancelApproval { reason: "a mistake".to_owned() };
    let cancelled = server.admin().await.cancel_approval(id(&asked), &request).await.unwrap().unwrap();
    assert_eq!(server.decision_of(cancelled.decision_id).await.record["asked"]["reason"], "a mistake");
    fetch(&server, &asked).await.refused(400, "invalid_grant", "approval_cancelled");
    let twice = server.admin().await.cancel_approval(id(&asked), &request).await.unwrap().unwrap_err();
    assert_eq!(twice.error, RefusalCode::Conflict);
}

#[tokio::test]
async fn what_waits_outlives_a_restart() {
    let server = Server::start().await;
    let asked = ask(&server, &CLOSE).await;
    let server = server.restart().await;
    approve(&server, &asked).await;
    let server = server.restart().await;
    fetch(&server, &asked).await.token();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_outlives_the_loss_of_its_replica_and_is_fetched_once_from_all_of_them() {
    let Some([one, two]) = replicas::two().await else { return };
    let asked = ask(&one, &CLOSE).await;
    approve(&two, &asked).await;
    let servers = [one, two].map(Arc::new);
    let mut racing = JoinSet::new();
    for n in 0..12 {
        let (server, code) = (servers[n % 2].clone(), code(&asked).to_owned());
        racing.spawn(async move { fetch_as(&server, "support-agent", &code).await });
    }
    let answers = racing.join_all().await;
    let (issued, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!(issued.len(), 1);
    for answer in refused {
        answer.refused(400, "invalid_grant", "deferral_code_used");
    }
    let [one, two] = servers.map(|server| Arc::into_inner(server).unwrap());
    let asked = ask(&one, &CLOSE).await;
    one.stop().await;
    approve(&two, &asked).await;
    fetch(&two, &asked).await.token();
}

#[tokio::test]
async fn a_lockdown_holds_up_what_was_approved_and_loses_nothing_of_it() {
    let server = Server::start().await;
    let asked = ask(&server, &CLOSE).await;
    approve(&server, &asked).await;
    let set = |on| taskgrant::lockdown::LockdownRequest { on, tenant: None, reason: "incident".into() };
    server.admin().await.lock_down(&set(true)).await.unwrap().unwrap();
    fetch(&server, &asked).await.refused(503, "temporarily_unavailable", "lockdown");
    server.exchange("support-agent", &server.session(json!({})), &CLOSE).await.refused(
        503,
        "temporarily_unavailable",
        "lockdown",
    );
    server.admin().await.lock_down(&set(false)).await.unwrap().unwrap();
    fetch(&server, &asked).await.token();
}

#[tokio::test]
async fn a_root_that_waits_outlives_the_session_token_and_not_the_session() {
    let server = Server::start().await;
    let logout = "  facts: [email]\n  session_end: {claim: session_end}\n  logout: {caep: {audience: OWN}}\n";
    server.reapply("  facts: [email]\n", &logout.replace("OWN", &server.issuer)).await;
    let now = server.now();
    let session = server.session(json!({"exp": now + 30, "session_end": now + 1200}));
    let asked = ask_as(&server, "support-agent", &session, &CLOSE).await;
    let left = asked.body["expires_in"].as_i64().unwrap();
    assert!((1190..=1200).contains(&left), "{asked:?}");
    server.clock.shift(600);
    server.exchange("support-agent", &session, &CLOSE[..2]).await.refused(
        400,
        "invalid_request",
        "subject_token_expired",
    );
    let lead = lead(&server, json!({"session_end": now + 1200}));
    vote(&server, id(&asked), &ballot(true, lead)).await.unwrap();
    let held = claims(&fetch(&server, &asked).await.token());
    assert!(held["task_exp"].as_i64().unwrap() <= now + 1200, "{held}");
}

#[tokio::test]
async fn people_work_from_the_command_line() {
    if on_postgres() {
        // The command would read the variable that says so as a setting of the server.
        return;
    }
    let server = Server::start().await;
    let form = [&CLOSE[..], &[("claimed", r#"{"query": "please \u001b[31m approve"}"#)]].concat();
    let asked = ask(&server, &form).await;
    let (exit, out, err) = command(&server, &["list"], "").await;
    assert_eq!(err, "");
    assert!(
        exit == Exit::Done
            && out.contains(id(&asked))
            && out.contains("support-agent for alice: refunds:write"),
        "{out}"
    );
    let (exit, out, _) = command(&server, &["show", id(&asked)], "").await;
    assert_eq!(exit, Exit::Done);
    for word in [
        "task_type_approval",
        "close_account@1: Always needs a person",
        "(not verified)",
        "owner group:support-platform",
    ] {
        assert!(out.contains(word), "{word}\n{out}");
    }
    assert!(!out.contains('\u{1b}'), "what an agent says reaches no terminal raw: {out}");
    let vote = ["--reason", "seen"];
    let (exit, _, err) =
        command(&server, &[&["approve", id(&asked)], &vote[..]].concat(), &server.session(json!({}))).await;
    assert!(exit == Exit::Refused && err.contains("upstream_clients"), "{err}");
    let (exit, _, err) = command(&server, &[&["deny", id(&asked)], &vote[..]].concat(), " ").await;
    assert!(exit == Exit::Usage && err.contains("no token"), "{err}");
    let (exit, out, err) = command(
        &server,
        &[&["approve", id(&asked)], &vote[..], &["--lifetime", "20"]].concat(),
        &lead(&server, json!({})),
    )
    .await;
    assert!(exit == Exit::Done && out.contains("is approved (1 of 1 approve)"), "{out}{err}");
    assert_eq!(fetch(&server, &asked).await.body["expires_in"], 20);
    let (_, out, _) = command(&server, &["list"], "").await;
    assert_eq!(out, "nothing waits for approval\n");
    let (_, out, _) = command(&server, &["list", "--all", "--json"], "").await;
    let all: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&all[0]["state"], &all[0]["votes"][0]["reason"]), (&json!("redeemed"), &json!("seen")));
    let (exit, _, err) = command(&server, &["cancel", id(&asked), "--reason", "late"], "").await;
    assert!(exit == Exit::Refused && err.contains("redeemed"), "{err}");
    let (exit, _, err) = command(&server, &["show", "nothing"], "").await;
    assert!(exit == Exit::Refused && err.contains("is not an id"), "{err}");
}

#[tokio::test]
async fn a_list_that_is_longer_than_a_page_goes_on_behind_the_last_one() {
    if on_postgres() {
        // As above.
        return;
    }
    let server = Server::start_with("[limits]\nwaiting_approvals = 300").await;
    let session = server.session(json!({}));
    let mut asked = BTreeSet::new();
    for at in 0..203 {
        let claimed = json!({"ticket": at}).to_string();
        let form = [&CLOSE[..], &[("claimed", claimed.as_str())]].concat();
        asked.insert(id(&ask_as(&server, "support-agent", &session, &form).await).to_owned());
    }
    assert_eq!(asked.len(), 203, "each is another approval");
    for more in [&[][..], &["--all"]] {
        let (exit, first, err) = command(&server, &[&["list"], more].concat(), "").await;
        let ids = |out: &str| out.lines().map(|row| row[..36].to_owned()).collect::<Vec<_>>();
        let mut seen = ids(&first);
        assert_eq!((exit, seen.len()), (Exit::Done, 200));
        let last = seen.last().unwrap().clone();
        assert_eq!(err, format!("there may be more: say the same with --after {last}\n"));
        let behind = [&["list", "--after", &last], more].concat();
        let (exit, rest, err) = command(&server, &behind, "").await;
        assert_eq!((exit, err.as_str()), (Exit::Done, ""));
        seen.extend(ids(&rest));
        assert_eq!(seen.len(), 203);
        assert_eq!(BTreeSet::from_iter(seen.clone()), asked);
        let (_, out, _) =
            command(&server, &[&["list", "--after", seen.last().unwrap()], more].concat(), "").await;
        assert_eq!(out, "nothing more\n");
    }
    let nobody = "01a1fc73-36e3-784e-a2a2-79d87dbf1517";
    let (exit, _, err) = command(&server, &["list", "--after", nobody], "").await;
    assert!(exit == Exit::Refused && err.contains(nobody), "{err}");
}

#[tokio::test]
async fn ap_02_what_people_did_not_see_is_not_fetched_however_it_came_about() {
    let server = Server::start().await;
    let objects = server.objects();
    let asks = "  labels: {risk: medium}\n  approval: {when: always, approvers: [group:support-leads]}\n";
    let objects = objects.replacen("  labels: {risk: medium}\n", asks, 1);
    server.apply(&objects).await.unwrap();
    // Everything is left to defaults: people see one scope, an amount of 500, a lifetime and a depth.
    let form = [("task_type", "refund_order"), ("resource", ORDERS), ("completion_mode", "deferred")];
    let asked = ask(&server, &form).await;
    let seen = waiting(&server).await.remove(0).request;
    assert_eq!(
        (&seen["scope"], &seen["depth_left"], &seen["expires_in"]),
        (&json!("orders:read"), &json!(2), &json!(180))
    );
    approve(&server, &asked).await;
    let wider = objects
        .replacen("default_scopes: [orders:read]", "default_scopes: [orders:read, refunds:write]", 1)
        .replacen("amount: 500", "amount: 5000", 1)
        .replacen(
            "token: {default: 180, max: 300}, task: 3600",
            "token: {default: 300, max: 300}, task: 7200",
            1,
        )
        .replacen("max_depth: 2", "max_depth: 3", 1);
    server.apply(&wider).await.unwrap();
    let fetched = fetch(&server, &asked).await;
    let held = claims(&fetched.token());
    assert_eq!(
        (&held["scope"], &held["depth_left"], &fetched.body["expires_in"]),
        (&json!("orders:read"), &json!(2), &json!(180))
    );
    assert_eq!(held["authorization_details"], seen["authorization_details"]);
    assert!(held["task_exp"].as_i64().unwrap() - held["iat"].as_i64().unwrap() <= 3600, "{held}");
}

#[tokio::test]
async fn ap_02_what_policy_limits_when_it_asks_it_limits_when_it_is_fetched() {
    let policy = r#"require_approval contains {"code": "ask", "message": "ask", "public": false}
limits contains {"scopes": ["orders:read"], "lifetime": 30} if not input.approval"#;
    let server = Server::start_with_policy(policy).await;
    server
        .reapply(
            "  labels: {risk: medium}\n",
            "  labels: {risk: medium}\n  approval: {approvers: [group:support-leads]}\n",
        )
        .await;
    let form = [
        ("task_type", "refund_order"),
        ("resource", ORDERS),
        ("scope", "orders:read refunds:write"),
        ("completion_mode", "deferred"),
    ];
    let asked = ask(&server, &form).await;
    assert!(asked.body.get("reasons").is_none(), "a private reason is not told: {asked:?}");
    approve(&server, &asked).await;
    let fetched = fetch(&server, &asked).await;
    let held = claims(&fetched.token());
    assert_eq!((&held["scope"], &fetched.body["expires_in"]), (&json!("orders:read"), &json!(30)));
    assert_eq!(held["approval"]["reasons"], json!([]), "nor does the token tell it");
}

#[tokio::test]
async fn what_is_revoked_while_it_waits_is_not_fetched_nor_approved() {
    let server = Server::start().await;
    let revoke = async |target| {
        let request = RevokeRequest { target, reason: "an incident".to_owned(), dry_run: false };
        server.admin().await.revoke(&request).await.unwrap().unwrap();
        // Logins from then on are good again.
        server.clock.shift(3);
    };
    let erin = || Target::Principal { iss: server.idp.issuer.clone(), sub: "erin".to_owned() };
    // Who approved it was revoked since.
    let asked = ask(&server, &CLOSE).await;
    approve(&server, &asked).await;
    revoke(erin()).await;
    fetch(&server, &asked).await.refused(400, "invalid_request", "revoked");
    server.revoke("support-agent", code(&asked)).await;
    // Whose session is revoked does not approve; a fresh login does.
    let asked = ask(&server, &CLOSE).await;
    let stolen = lead(&server, json!({}));
    server.clock.shift(3);
    revoke(erin()).await;
    let refused = vote(&server, id(&asked), &ballot(true, stolen)).await.unwrap_err();
    assert!(refused.error == RefusalCode::NotAllowed && refused.message.contains("revoked"), "{refused:?}");
    approve(&server, &asked).await;
    // The agent was revoked while it waited.
    revoke(Target::Agent { client_id: "support-agent".parse().unwrap() }).await;
    fetch(&server, &asked).await.refused(400, "invalid_request", "revoked");
}

#[tokio::test]
async fn another_session_asks_for_itself_and_others_must_be_named_still() {
    let server = Server::start().await;
    let first = ask(&server, &CLOSE).await;
    let other = ask_as(&server, "support-agent", &server.session(json!({"sid": "sid-2"})), &CLOSE).await;
    assert_ne!(id(&first), id(&other));
    // A person who acts upstream for the principal does not approve what they began.
    let acting = json!({"sid": "sid-3", "act": {"sub": "erin", "iss": server.idp.issuer}});
    let asks = "  labels: {risk: medium}\n  approval: {when: always, approvers: [group:support-leads]}\n";
    server.reapply("  labels: {risk: medium}\n", asks).await;
    let form = [("task_type", "refund_order"), ("resource", ORDERS), ("completion_mode", "deferred")];
    let acted = ask_as(&server, "support-agent", &server.session(acting), &form).await;
    let refused = vote(&server, id(&acted), &ballot(true, lead(&server, json!({})))).await.unwrap_err();
    assert!(refused.message.contains("acts"), "{refused:?}");
    // Whoever approved is named by another group now.
    approve(&server, &first).await;
    server
        .reapply("approvers: [group:support-leads], quorum: 1}", "approvers: [group:security], quorum: 1}")
        .await;
    let answer = fetch(&server, &first).await;
    answer.refused(400, "access_denied", "approval_insufficient");
    // Where any agent may spend sessions, none of them proves a person.
    server.reapply("  facts: [email]\n", "  facts: [email]\n  any_agent: true\n").await;
    let refused = vote(&server, id(&other), &ballot(true, lead(&server, json!({})))).await.unwrap_err();
    assert!(refused.message.contains("any_agent"), "{refused:?}");
}
