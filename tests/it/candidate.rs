//! A policy bundle that is tried beside the one in force: as a shadow, for some, and then for all (DESIGN §6).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskgrant::admin::api::{RefusalCode, Refused};
use taskgrant::admin::policy::{ApplyPolicy, DropCandidate, LoadCandidate, PromoteCandidate, RollbackPolicy};
use taskgrant::approvals::Ballot;
use taskgrant::configuration::apply::candidate::{CanaryOrder, CandidateChanged, CandidateStatus, Mode};
use taskgrant::configuration::apply::policy::{BundleFile, PolicyChanged, PolicyStatus};
use taskgrant::domain::approval::Narrowing;
use taskgrant::domain::ids::DecisionId;
use taskgrant::domain::objects::SessionTokenKind;
use taskgrant::domain::request::Presented;
use taskgrant::policy::bundle::Bundle;
use taskgrant::policy::candidate::Named;
use taskgrant::policy::comparison::Comparison;
use taskgrant::policy::replay::Change;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::document::Document;
use crate::support::process::{Site, free_port};
use crate::support::replicas;
use crate::support::server::{Answer, ORDERS, Server};

const STARTER: &str = include_str!("../../policies/base/ceilings.rego");
const ROOT: [(&str, &str); 2] = [("task_type", "refund_order"), ("resource", ORDERS)];
/// Far more than any bound of ours: tests share their machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Runs into a limit of the engine on every input.
const ENDLESS: &str = "deny contains {\"code\": \"x\", \"message\": \"m\"} if {\n\tsome a in xs; some b in xs; some c in xs; some d in xs; some e in xs\n\
    \tsome f in xs; some g in xs\n\ta + b + c + d + e + f + g == 0\n}\nxs := [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]";
/// Answers what is no judgement.
const FAULTY: &str = "limits contains {\"lifetime\": -1}";

fn deny(code: &str) -> String {
    format!("deny contains {{\"code\": \"{code}\", \"message\": \"m\", \"public\": true}}")
}

fn files(rules: &str) -> Vec<BundleFile> {
    let (path, text) = ("sent/rules.rego".to_owned(), format!("{STARTER}\n{rules}\n"));
    vec![BundleFile { path, text }]
}

fn load_order(rules: &str, shadow: bool) -> LoadCandidate {
    LoadCandidate { files: files(rules), shadow, reason: Some("to try it".to_owned()) }
}

async fn try_load(server: &Server, rules: &str, shadow: bool) -> Result<CandidateChanged, Refused> {
    server.admin().await.load_candidate(&load_order(rules, shadow)).await.unwrap()
}

/// Has a bundle of these rules tried, and tells its version.
async fn load(server: &Server, rules: &str) -> String {
    try_load(server, rules, false).await.unwrap().candidate.unwrap().version
}

async fn apply(server: &Server, rules: &str) -> PolicyChanged {
    server.admin().await.apply_policy(&ApplyPolicy { files: files(rules) }).await.unwrap().unwrap()
}

fn names(list: &[&str]) -> BTreeSet<Named> {
    list.iter().map(|named| named.parse().unwrap()).collect()
}

async fn set(server: &Server, order: CanaryOrder) -> Result<CandidateChanged, Refused> {
    server.admin().await.set_canary(&order).await.unwrap()
}

async fn canary(server: &Server, percent: u8) -> CandidateChanged {
    set(server, CanaryOrder { percent, ..CanaryOrder::default() }).await.unwrap()
}

async fn give_up(server: &Server) -> Result<CandidateChanged, Refused> {
    give_up_of(server, None).await
}

async fn give_up_of(server: &Server, version: Option<&str>) -> Result<CandidateChanged, Refused> {
    let request = DropCandidate { version: version.map(str::to_owned), reason: "enough".to_owned() };
    server.admin().await.drop_candidate(&request).await.unwrap()
}

async fn promote(server: &Server) -> Result<PolicyChanged, Refused> {
    let request = PromoteCandidate { version: None, reason: "it agrees".to_owned() };
    server.admin().await.promote_candidate(&request).await.unwrap()
}

async fn status(server: &Server) -> PolicyStatus {
    server.admin().await.policy().await.unwrap().unwrap()
}

async fn candidate(server: &Server) -> CandidateStatus {
    status(server).await.candidate.unwrap()
}

async fn seen(server: &Server) -> Comparison {
    candidate(server).await.seen.unwrap()
}

async fn ask_as(server: &Server, sub: &str) -> Answer {
    let session = server.session(json!({"sub": sub, "sid": format!("sid-of-{sub}")}));
    server.exchange("support-agent", &session, &ROOT).await
}

async fn ask(server: &Server) -> Answer {
    ask_as(server, "alice").await
}

/// The code of the reason for which policy denies; none where it allows.
#[track_caller]
fn code(answer: &Answer) -> Option<String> {
    if answer.status == 200 {
        return None;
    }
    answer.refused(400, "invalid_request", "policy_denied");
    Some(answer.body["reasons"][0]["code"].as_str().unwrap().to_owned())
}

async fn denied(server: &Server) -> Option<String> {
    code(&ask(server).await)
}

#[track_caller]
fn as_documented(path: &str, method: &str, answer: &impl serde::Serialize) {
    let body = serde_json::to_value(answer).unwrap();
    let faults = Document::read().faults_of_answer(path, method, 200, &body);
    assert!(faults.is_empty(), "{method} {path}: {faults:#?}\n{body:#}");
}

async fn soon(what: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !what().await {
        assert!(began.elapsed() < PATIENCE, "it does not happen");
        sleep(Duration::from_millis(20)).await;
    }
}

/// What does not change from one time to the next.
fn lasting(answer: Answer) -> (u16, Value) {
    let mut body = answer.body;
    for name in ["access_token", "decision_id", "task_id", "deferral_code", "approval_id"] {
        if let Some(members) = body.as_object_mut() {
            members.remove(name);
        }
    }
    (answer.status, body)
}

type Form<'a> = &'a [(&'a str, &'a str)];

/// Requests of many kinds, answered.
async fn answers(server: &Server) -> Vec<(u16, Value)> {
    let (session, other) = (server.session(json!({})), server.session(json!({"sub": "bob", "groups": []})));
    let (scope, wide) = (("scope", "orders:read refunds:write"), ("audience", server.issuer.as_str()));
    let claimed = ("claimed", r#"{"fast": true}"#);
    let forms: [(&str, &str, Form<'_>); 9] = [
        ("support-agent", &session, &ROOT),
        ("support-agent", &session, &[ROOT[0], ROOT[1], scope]),
        ("support-agent", &session, &[ROOT[0], ROOT[1], ("dry_run", "true")]),
        ("support-agent", &session, &[ROOT[0], ROOT[1], claimed]),
        ("support-agent", &session, &[ROOT[0], ROOT[1], ("scope", "mail:send")]),
        ("support-agent", &session, &[ROOT[0], wide, ("requested_expires_in", "600")]),
        ("support-agent", &session, &[("task_type", "close_account"), ("scope", "refunds:write")]),
        ("support-agent", &other, &ROOT),
        ("stranger-agent", &session, &ROOT),
    ];
    let mut told = Vec::new();
    for (client, subject, form) in forms {
        told.push(lasting(server.exchange(client, subject, form).await));
    }
    let root = server.exchange("support-agent", &session, &[ROOT[0], wide]).await.token();
    for (client, form) in [
        ("support-agent", [("resource", ORDERS), ("scope", "orders:read")]),
        ("support-agent", [("resource", ORDERS), ("scope", "refunds:write")]),
        ("worker-agent", [("resource", ORDERS), ("scope", "orders:read")]),
    ] {
        told.push(lasting(server.exchange(client, &root, &form).await));
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_changes_no_answer_whatever_it_says_or_does() {
    let server = Server::start().await;
    let active = r#"deny contains {"code": "no_refunds", "message": "m", "public": true} if {
    "refunds:write" in input.requested.scopes
    input.task.type == "refund_order"
}
limits contains {"lifetime": 90} if input.claimed.fast"#;
    apply(&server, active).await;
    let without = answers(&server).await;
    assert!(without.iter().any(|(status, _)| *status == 200));
    assert!(without.iter().any(|(_, body)| body["reason_code"] == "policy_denied"));
    for rules in [&deny("stricter"), "", FAULTY, ENDLESS, "limits contains {\"scopes\": []}"] {
        let version = load(&server, rules).await;
        assert_eq!(answers(&server).await, without, "{rules}");
        let told = candidate(&server).await;
        assert_eq!((&told.kept.version, told.mode), (&version, Mode::Shadow));
        let seen = told.seen.unwrap();
        assert!(seen.compared >= 9 && seen.disagreed > 0 && seen.enforced == 0, "{rules}: {seen:?}");
        assert_eq!(seen.agreed + seen.disagreed, seen.compared);
        let fails = rules == FAULTY || rules == ENDLESS;
        assert_eq!(seen.faults == seen.compared, fails, "{rules}: {seen:?}");
        assert_eq!(status(&server).await.serving, status(&server).await.policy);
    }
    give_up(&server).await.unwrap();
    assert_eq!(status(&server).await.candidate, None);
    assert_eq!(answers(&server).await, without);
}

#[tokio::test]
async fn a_disagreement_stands_in_the_record_the_status_and_the_metrics() {
    let port = free_port();
    let server = Server::start_with(&format!("[metrics]\nlisten = '127.0.0.1:{port}'")).await;
    let before = status(&server).await.policy.unwrap();
    let version = load(&server, &format!("{}{}", deny("night"), " if input.principal.sub == \"bob\"")).await;
    let (alice, bob) = (ask(&server).await, ask_as(&server, "bob").await);
    bob.token();
    let agreed = server.decision(&alice).await;
    assert_eq!(agreed.record.get("candidate"), None, "both agree, and the candidate does not bite");
    let told = server.decision(&bob).await;
    assert_eq!(told.leaf["policy"], json!(before));
    let shadow = json!({"version": version, "outcome": "deny", "reasons": ["night"]});
    assert_eq!(
        told.record["candidate"],
        json!({"version": version, "disagrees": "allow_to_deny", "shadow": shadow})
    );

    let status = status(&server).await;
    as_documented("/admin/v1/policy", "get", &status);
    let seen = status.candidate.unwrap().seen.unwrap();
    assert_eq!((seen.compared, seen.agreed, seen.disagreed, seen.faults), (2, 1, 1, 0));
    let [row] = &seen.disagreements[..] else { panic!("{seen:?}") };
    assert_eq!((row.kind, row.reason_code.as_str(), row.count), (Change::AllowToDeny, "night", 1));
    assert_eq!((row.task_type.as_str(), row.agent.as_str()), ("refund_order", "support-agent"));
    assert_eq!(row.decision_ids, [bob.body["decision_id"].as_str().unwrap().parse().unwrap()]);

    let metrics = server.get_url(&format!("http://127.0.0.1:{port}/metrics")).await.text;
    for line in [
        r#"taskgrant_policy_candidate_compared_total{change="none",bites="active",task_type="refund_order"} 1"#,
        r#"taskgrant_policy_candidate_compared_total{change="allow_to_deny",bites="active",task_type="refund_order"} 1"#,
        "taskgrant_policy_candidate_faults_total 0",
        "taskgrant_policy_candidate_evaluation_seconds_count 2",
    ] {
        assert!(metrics.contains(line), "no `{line}` in {metrics}");
    }
    // What is refused before policy is asked, no bundle has seen.
    server.exchange("support-agent", "a.b.c", &ROOT).await;
    assert_eq!(candidate(&server).await.seen.unwrap().compared, 2);
}

#[tokio::test]
async fn a_fault_of_a_shadow_is_recorded_and_one_that_bites_denies() {
    let server = Server::start().await;
    let version = load(&server, FAULTY).await;
    let answer = ask(&server).await;
    answer.token();
    let told = server.decision(&answer).await.record["candidate"].clone();
    assert_eq!(told["disagrees"], "fault");
    assert_eq!(told["shadow"]["fault"], "the policy's output is refused");
    let told = seen(&server).await;
    assert_eq!((told.faults, told.disagreed), (1, 1));
    let fault = told.last_fault.unwrap();
    assert_eq!(fault.decision_id.to_string(), answer.body["decision_id"].as_str().unwrap());

    canary(&server, 100).await;
    let answer = ask(&server).await;
    assert_eq!((answer.status, answer.body["reason_code"].as_str()), (503, Some("policy_unavailable")));
    let told = server.decision(&answer).await;
    assert_eq!((&told.leaf["policy"], &told.leaf["outcome"]), (&json!(version), &json!("deny")));
    assert_eq!(told.record["candidate"]["canary"], true);
    assert_eq!(told.record["candidate"]["shadow"]["outcome"], "allow");
    canary(&server, 0).await;
    ask(&server).await.token();
}

/// Of these principals those whom the candidate bites.
async fn bitten(server: &Server) -> BTreeSet<usize> {
    let mut bitten = BTreeSet::new();
    for n in 0..40 {
        let answer = ask_as(server, &format!("principal-{n}")).await;
        let (bit, told) = (code(&answer).is_some(), server.decision(&answer).await);
        assert_eq!(told.record["candidate"]["canary"] == true, bit, "{told:?}");
        let (active, kept) = (status(server).await.policy.unwrap(), candidate(server).await.kept.version);
        assert_eq!(told.leaf["policy"], json!(if bit { &kept } else { &active }));
        let shadow = told.record["candidate"]["shadow"]["version"].as_str().unwrap();
        assert_eq!(shadow, if bit { &active } else { &kept });
        if bit {
            bitten.insert(n);
        }
    }
    bitten
}

#[tokio::test]
async fn a_canary_bites_for_its_share_which_stays_over_restarts_and_candidates() {
    let server = Server::start().await;
    load(&server, &deny("canary")).await;
    assert!(bitten(&server).await.is_empty());
    canary(&server, 100).await;
    assert_eq!(bitten(&server).await.len(), 40);
    canary(&server, 30).await;
    let some = bitten(&server).await;
    assert!((3..=25).contains(&some.len()), "{some:?}");
    let told = candidate(&server).await;
    assert_eq!((told.mode, told.kept.canary.percent), (Mode::Canary, 30));
    assert!(told.seen.unwrap().enforced >= 40);

    let server = server.restart().await;
    let told = candidate(&server).await;
    assert_eq!((told.mode, told.kept.canary.percent, told.seen.unwrap().compared), (Mode::Canary, 30, 0));
    assert_eq!(bitten(&server).await, some);
    // A share that grows keeps whom it has, and another candidate meets the same people.
    canary(&server, 60).await;
    let more = bitten(&server).await;
    assert!(more.is_superset(&some) && more.len() > some.len(), "{some:?} {more:?}");
    try_load(&server, &deny("next"), true).await.unwrap();
    assert!(bitten(&server).await.is_empty(), "a new candidate begins as a shadow");
    canary(&server, 30).await;
    assert_eq!(bitten(&server).await, some);
    canary(&server, 0).await;
    assert_eq!(candidate(&server).await.mode, Mode::Shadow);
    assert!(bitten(&server).await.is_empty());
}

#[tokio::test]
async fn named_agents_groups_and_tenants_are_met_or_spared() {
    let server = Server::start().await;
    load(&server, &deny("canary")).await;
    let order = |percent, enforce_for: Option<&[&str]>, never_for: Option<&[&str]>| CanaryOrder {
        percent,
        enforce_for: enforce_for.map(names),
        never_for: never_for.map(names),
        ..CanaryOrder::default()
    };
    let nobody = || Some([].as_slice());
    for named in ["agent:support-agent", "group:support", "tenant:acme"] {
        set(&server, order(0, Some(&[named]), nobody())).await.unwrap();
        assert_eq!(denied(&server).await.as_deref(), Some("canary"), "{named}");
        set(&server, order(100, Some(&[named]), Some(&[named]))).await.unwrap();
        assert_eq!(denied(&server).await, None, "never for {named}");
    }
    for other in ["agent:worker-agent", "group:analysts", "tenant:globex"] {
        set(&server, order(0, Some(&[other]), nobody())).await.unwrap();
        assert_eq!(denied(&server).await, None, "{other}");
        set(&server, order(100, nobody(), Some(&[other]))).await.unwrap();
        assert_eq!(denied(&server).await.as_deref(), Some("canary"), "never for {other}");
    }
    // A list that is left out stays: who is spared at 5 % is not met at 100 %.
    set(&server, order(5, None, Some(&["group:support"]))).await.unwrap();
    canary(&server, 100).await;
    assert_eq!(denied(&server).await, None);
    let told = candidate(&server).await.kept.canary;
    assert_eq!((told.never_for, told.percent), (names(&["group:support"]), 100));
    // 0 % alone is a shadow.
    set(&server, order(0, Some(&["tenant:acme"]), nobody())).await.unwrap();
    canary(&server, 0).await;
    assert_eq!((candidate(&server).await.mode, denied(&server).await), (Mode::Shadow, None));

    for (order, part) in [
        (order(101, None, None), "101"),
        (order(5, Some(&["agent:suport-agent"]), None), "agent:suport-agent"),
        (order(5, None, Some(&["tenant:acmee"])), "tenant:acmee"),
    ] {
        let refused = set(&server, order).await.unwrap_err();
        assert_eq!(refused.error, RefusalCode::BadRequest);
        assert!(refused.message.contains(part), "{}", refused.message);
    }
}

#[tokio::test]
async fn what_bites_for_some_widens_nothing_and_lifts_no_approval() {
    let server = Server::start().await;
    apply(&server, &deny("active")).await;
    load(&server, "limits contains {\"lifetime\": 100000, \"scopes\": [\"orders:read\", \"refunds:write\", \"mail:send\"]}").await;
    canary(&server, 100).await;
    let granted = ask(&server).await;
    granted.token();
    assert_eq!((&granted.body["scope"], &granted.body["expires_in"]), (&json!("orders:read"), &json!(180)));
    let told = server.decision(&granted).await;
    assert_eq!(told.record["candidate"]["disagrees"], "deny_to_allow");
    assert_eq!(told.record["candidate"]["shadow"]["reasons"], json!(["active"]));
    let session = server.session(json!({}));
    let over = [ROOT[0], ROOT[1], ("scope", "orders:read mail:send")];
    server.exchange("support-agent", &session, &over).await.refused(
        400,
        "invalid_scope",
        "scope_exceeds_ceiling",
    );
    let always = [("task_type", "close_account"), ("scope", "refunds:write")];
    let asked = server.exchange("support-agent", &session, &always).await;
    assert_eq!(asked.body["reason_code"], "approval_required", "{asked:?}");
    let told = server.decision(&asked).await;
    assert_eq!(told.leaf["reasons"], json!(["task_type_approval"]));
    assert_eq!(told.record["candidate"]["disagrees"], "deny_to_approval");
}

#[tokio::test]
async fn what_people_have_approved_holds_whichever_bundle_bites() {
    let server = Server::start().await;
    server
        .reapply(
            "  delegation:\n",
            "  approval: {when: policy, approvers: [group:support-leads]}\n  delegation:\n",
        )
        .await;
    let asks = r#"require_approval contains {"code": "ask", "message": "m", "public": true}"#;
    apply(&server, asks).await;
    load(&server, &format!("{asks}\nlimits contains {{\"lifetime\": 100}}")).await;
    let form = [ROOT[0], ROOT[1], ("completion_mode", "deferred")];
    let asked = server.exchange("support-agent", &server.session(json!({})), &form).await;
    asked.refused(400, "authorization_pending", "approval_pending");
    let lead = json!({
        "sub": "erin", "client_id": "back-office", "azp": "back-office", "groups": ["support-leads"],
        "sid": "sid-of-erin", "auth_time": server.now(),
    });
    let ballot = Ballot {
        approves: true,
        reason: "seen".to_owned(),
        narrowing: Narrowing::default(),
        envelope: None,
        session_token: Presented::from_text(server.session(lead)),
        session_token_type: SessionTokenKind::AccessToken,
    };
    let id = asked.body["approval_id"].as_str().unwrap();
    server.admin().await.vote(id, &ballot).await.unwrap().unwrap();
    canary(&server, 100).await;
    let code = asked.body["deferral_code"].as_str().unwrap();
    let fetched = [("grant_type", "urn:ietf:params:oauth:grant-type:deferred"), ("deferral_code", code)];
    let granted = server.post("/oauth/token", "support-agent", &fetched).await;
    granted.token();
    assert_eq!(granted.body["expires_in"], 100, "by the candidate");
    let told = server.decision(&granted).await.record["candidate"].clone();
    assert_eq!((&told["canary"], &told["disagrees"]), (&json!(true), &json!("narrower")));
    assert_eq!(told["shadow"]["outcome"], "allow", "it does not ask again either: {told}");
}

#[tokio::test]
async fn a_candidate_that_this_program_does_not_compile_stops_no_start_and_fails() {
    let server = Server::start().await;
    let version = load(&server, &deny("x")).await;
    let bundle = Bundle::from_files([("sent/rules.rego".to_owned(), "this is no Rego".to_owned())]).unwrap();
    let (gone, content) = (bundle.version(), hex::encode(bundle.to_bytes()));
    server
        .sql(&format!(
            "INSERT INTO bundles (version, content, created_at) VALUES ('{gone}', x'{content}', 1)"
        ))
        .await;
    server.sql(&format!("UPDATE settings SET value = replace(value, '{version}', '{gone}')")).await;
    let server = server.restart().await;
    let told = candidate(&server).await;
    assert!(told.kept.version == gone && told.problem.unwrap().contains("sent/rules.rego:1"));
    ask(&server).await.token();
    assert_eq!(seen(&server).await.faults, 1);
    let bites = set(&server, CanaryOrder { percent: 100, ..CanaryOrder::default() }).await.unwrap_err();
    for refused in [bites, promote(&server).await.unwrap_err()] {
        assert!(refused.error == RefusalCode::PolicyUnfit && refused.message.contains("sent/rules.rego:1"));
    }
    ask(&server).await.token();
    give_up(&server).await.unwrap();
    ask(&server).await.token();
}

#[tokio::test]
async fn a_candidate_whose_bytes_are_none_stops_no_start_and_fails() {
    let server = Server::start().await;
    let version = load(&server, &deny("x")).await;
    canary(&server, 100).await;
    server.sql(&format!("UPDATE bundles SET content = x'00' WHERE version = '{version}'")).await;
    let server = server.restart().await;
    let told = candidate(&server).await;
    assert!(told.problem.as_ref().is_some_and(|problem| problem.contains(&version)), "{told:?}");
    assert_eq!(ask(&server).await.status, 503);
    assert_eq!(promote(&server).await.unwrap_err().error, RefusalCode::PolicyUnfit);
    canary(&server, 0).await;
    ask(&server).await.token();
}

#[tokio::test]
async fn a_setting_that_is_no_candidate_stops_no_start_and_is_overwritten() {
    let server = Server::start().await;
    let garble = "UPDATE settings SET value = '{\"of\": \"another program\"}' WHERE key = 'policy_candidate'";
    load(&server, &deny("x")).await;
    server.sql(garble).await;
    let server = server.restart().await;
    ask(&server).await.token();
    assert_eq!(status(&server).await.candidate, None);
    assert_eq!(set(&server, CanaryOrder::default()).await.unwrap_err().error, RefusalCode::NotFound);
    assert!(give_up(&server).await.unwrap().decision_id.is_some(), "what nobody can read is gone");
    assert_eq!(give_up(&server).await.unwrap().decision_id, None);
    load(&server, &deny("x")).await;
    server.sql(garble).await;
    let server = server.restart().await;
    let version = load(&server, &deny("y")).await;
    assert_eq!(candidate(&server).await.kept.version, version);
}

#[tokio::test]
async fn a_shadow_that_overruns_again_and_again_is_asked_no_more() {
    let port = free_port();
    let server = Server::start_with(&format!("[metrics]\nlisten = '127.0.0.1:{port}'")).await;
    load(&server, ENDLESS).await;
    for n in 0..22 {
        assert_eq!(candidate(&server).await.paused, n >= 20, "{n}");
        ask(&server).await.token();
    }
    let status = status(&server).await;
    as_documented("/admin/v1/policy", "get", &status);
    let told = status.candidate.unwrap();
    assert!(told.paused);
    assert_eq!(told.seen.unwrap().compared, 20);
    let metrics = server.get_url(&format!("http://127.0.0.1:{port}/metrics")).await.text;
    assert!(metrics.contains("taskgrant_policy_candidate_pauses_total 1"), "{metrics}");
    // Other changes of the configuration do not wake it, one of the canary does.
    server.reapply("description: Refund one order", "description: Refund an order").await;
    assert!(candidate(&server).await.paused);
    canary(&server, 100).await;
    assert!(!candidate(&server).await.paused);
    assert_eq!(ask(&server).await.status, 503);
}

#[tokio::test]
async fn what_is_not_recorded_as_a_decision_of_its_own_is_not_counted() {
    let server = Server::start_with("[limits]\ntoken_children = 1").await;
    load(&server, "# agrees").await;
    let wide = [ROOT[0], ("audience", server.issuer.as_str())];
    let root = server.exchange("support-agent", &server.session(json!({})), &wide).await.token();
    let child = [("resource", ORDERS), ("scope", "orders:read")];
    server.exchange("support-agent", &root, &child).await.token();
    let dry = [child[0], child[1], ("dry_run", "true")];
    for is_recorded in [true, false] {
        let refused = server.exchange("support-agent", &root, &dry).await;
        assert_eq!(
            (refused.status, refused.body["decision_id"].is_string()),
            (429, is_recorded),
            "{refused:?}"
        );
        assert_eq!(seen(&server).await.compared, 3);
    }
}

#[tokio::test]
async fn a_version_guards_against_another_candidate_than_is_meant() {
    let server = Server::start().await;
    let first = load(&server, &deny("first")).await;
    let second = load(&server, &deny("second")).await;
    let order = |version: &str| CanaryOrder {
        version: Some(version.to_owned()),
        percent: 100,
        ..CanaryOrder::default()
    };
    for named in [first.as_str(), &first["sha256:".len()..][..12], &second[.."sha256:".len() + 4], "sha256:"]
    {
        for refused in [
            set(&server, order(named)).await.unwrap_err(),
            give_up_of(&server, Some(named)).await.unwrap_err(),
        ] {
            assert_eq!(refused.error, RefusalCode::Conflict);
            assert!(refused.message.contains(&second), "{}", refused.message);
        }
    }
    assert_eq!(candidate(&server).await.mode, Mode::Shadow);
    let short = &second["sha256:".len()..][..8];
    set(&server, order(short)).await.unwrap();
    assert_eq!(denied(&server).await.as_deref(), Some("second"));
    let dropped = give_up_of(&server, Some(&second)).await.unwrap();
    as_documented("/admin/v1/policy/candidate/drop", "post", &dropped);
    let ended = dropped.ended.unwrap();
    assert_eq!((ended.version, ended.canary.percent), (second, 100));
}

#[tokio::test]
async fn another_bundle_in_force_tells_that_the_candidate_still_bites() {
    let server = Server::start().await;
    let first = status(&server).await.policy.unwrap();
    let version = load(&server, &deny("canary")).await;
    assert_eq!(apply(&server, "# one").await.candidate, None, "a shadow does not");
    let order =
        CanaryOrder { percent: 5, enforce_for: Some(names(&["tenant:acme"])), ..CanaryOrder::default() };
    set(&server, order).await.unwrap();
    let applied = apply(&server, "# two").await;
    as_documented("/admin/v1/policy/apply", "post", &applied);
    let back = RollbackPolicy { version: Some(first) };
    let undone = server.admin().await.roll_back_policy(&back).await.unwrap().unwrap();
    let again = server.admin().await.roll_back_policy(&back).await.unwrap().unwrap();
    assert_eq!(again.decision_id, None);
    for changed in [applied, undone, again] {
        let still = changed.candidate.unwrap();
        assert_eq!((&still.version, still.bites, still.canary.percent), (&version, true, 5));
    }
    assert_eq!(denied(&server).await.as_deref(), Some("canary"));
    assert_eq!(promote(&server).await.unwrap().candidate, None);
}

#[tokio::test]
async fn a_promotion_is_a_change_of_policy_and_is_rolled_back_like_one() {
    let server = Server::start().await;
    let first = status(&server).await.policy.unwrap();
    let refused = promote(&server).await.unwrap_err();
    assert_eq!(refused.error, RefusalCode::NotFound);
    let another = load(&server, &deny("another")).await;
    let version = load(&server, &deny("promoted")).await;
    let (admin, short) = (server.admin().await, version["sha256:".len()..][..12].to_owned());
    // It was never in force, so that nothing goes back to it; but it can be read.
    let back = RollbackPolicy { version: Some(short.clone()) };
    assert_eq!(admin.roll_back_policy(&back).await.unwrap().unwrap_err().error, RefusalCode::NotFound);
    assert!(!status(&server).await.bundles.iter().any(|kept| kept.version == version));
    assert_eq!(admin.policy_files(&short).await.unwrap().unwrap(), files(&deny("promoted")));

    let other = PromoteCandidate { version: Some(another), reason: "x".to_owned() };
    assert_eq!(admin.promote_candidate(&other).await.unwrap().unwrap_err().error, RefusalCode::Conflict);
    let without = PromoteCandidate { version: None, reason: " ".to_owned() };
    assert_eq!(admin.promote_candidate(&without).await.unwrap().unwrap_err().error, RefusalCode::BadRequest);
    assert_eq!(denied(&server).await, None);
    let kept = serde_json::to_string(&candidate(&server).await.kept).unwrap();
    let named = PromoteCandidate { version: Some(short.clone()), reason: "it agrees".to_owned() };
    let promoted = admin.promote_candidate(&named).await.unwrap().unwrap();
    assert_eq!((&promoted.policy, promoted.before.as_ref()), (&version, Some(&first)));
    let told = server.decision_of(promoted.decision_id.unwrap()).await;
    assert_eq!((&told.leaf["kind"], &told.leaf["policy"]), (&json!("admin"), &json!(version)));
    assert_eq!(told.record["asked"]["command"], "policy promote");
    assert_eq!(told.record["asked"]["reason"], "it agrees");
    assert!(told.record["actor"].as_str().unwrap().starts_with("uid "));
    assert_eq!(denied(&server).await.as_deref(), Some("promoted"));
    let now = status(&server).await;
    assert_eq!(
        (now.candidate, now.serving.as_ref(), now.before.as_ref()),
        (None, Some(&version), Some(&first))
    );
    assert_eq!(now.bundles[0].version, version);
    let again = admin.promote_candidate(&named).await.unwrap().unwrap();
    assert_eq!((&again.policy, again.decision_id), (&version, None), "it is in force already");
    // Another program may have left it as a candidate all the same.
    server.sql(&format!("UPDATE settings SET value = '{kept}' WHERE key = 'policy_candidate'")).await;
    let cleared = admin.promote_candidate(&named).await.unwrap().unwrap();
    assert_eq!((&cleared.policy, cleared.decision_id), (&version, None));
    assert_eq!(status(&server).await.candidate, None);

    let server = server.restart().await;
    assert_eq!(denied(&server).await.as_deref(), Some("promoted"));
    let admin = server.admin().await;
    let undone = admin.roll_back_policy(&RollbackPolicy::default()).await.unwrap().unwrap();
    assert_eq!((undone.policy, denied(&server).await), (first, None));
    admin.roll_back_policy(&back).await.unwrap().unwrap();
    assert_eq!(denied(&server).await.as_deref(), Some("promoted"), "it was in force meanwhile");
}

#[tokio::test]
async fn a_candidate_that_is_applied_is_a_candidate_no_more() {
    let server = Server::start().await;
    let version = load(&server, &deny("both")).await;
    assert_eq!(apply(&server, &deny("both")).await.policy, version);
    assert_eq!(status(&server).await.candidate, None);
    assert_eq!(denied(&server).await.as_deref(), Some("both"));
    let refused = try_load(&server, &deny("both"), false).await.unwrap_err();
    assert_eq!(refused.error, RefusalCode::Conflict);
    assert!(refused.message.contains("in force already"), "{}", refused.message);
}

#[tokio::test]
async fn a_bad_candidate_is_refused_with_its_place_and_what_was_stays() {
    let server = Server::start().await;
    let version = load(&server, &deny("good")).await;
    canary(&server, 100).await;
    let failing = BundleFile {
        path: "sent/rules_test.rego".to_owned(),
        text: "package taskgrant.exchange_test.sent\n\nimport rego.v1\n\ntest_of_mine if 1 == 2\n".to_owned(),
    };
    let with_test = LoadCandidate { files: [files(""), vec![failing]].concat(), ..load_order("", true) };
    let before = server.decisions().await;
    for (request, place) in [
        (load_order("deny contains {", true), "sent/rules.rego:"),
        (with_test, "sent/rules_test.rego:5:1: test `test_of_mine`"),
    ] {
        let refused = server.admin().await.load_candidate(&request).await.unwrap().unwrap_err();
        assert_eq!(refused.error, RefusalCode::PolicyUnfit);
        assert!(refused.message.contains(place), "{}", refused.message);
        let (leaf, record) = server.last_decision().await;
        assert_eq!((&leaf["outcome"], &leaf["reasons"]), (&json!("deny"), &json!(["policy_unfit"])));
        assert_eq!(record["asked"]["command"], "policy candidate load");
        assert_eq!(record["asked"]["reason"], "to try it");
    }
    assert_eq!(server.decisions().await, before + 2);
    let told = status(&server).await;
    assert_eq!(told.refused, None, "it was no offer to decide");
    assert_eq!(told.candidate.unwrap().kept.version, version);
    assert_eq!(denied(&server).await.as_deref(), Some("good"));
}

#[tokio::test]
async fn a_candidate_that_bites_does_not_go_unseen() {
    let server = Server::start().await;
    assert_eq!(give_up(&server).await.unwrap().decision_id, None, "nothing to change");
    assert_eq!(set(&server, CanaryOrder::default()).await.unwrap_err().error, RefusalCode::NotFound);
    let first = load(&server, &deny("first")).await;
    let again = try_load(&server, &deny("first"), false).await.unwrap();
    assert_eq!(again.decision_id, None, "nothing has changed");
    let order = CanaryOrder {
        percent: 100,
        never_for: Some(names(&["agent:worker-agent"])),
        ..CanaryOrder::default()
    };
    let changed = set(&server, CanaryOrder { reason: Some("now".to_owned()), ..order }).await.unwrap();
    let told = server.decision_of(changed.decision_id.unwrap()).await.record["asked"].clone();
    assert_eq!((&told["command"], &told["reason"]), (&json!("policy canary"), &json!("now")));
    as_documented("/admin/v1/policy/canary", "post", &changed);
    assert_eq!(
        told["canary"],
        json!({"percent": 100, "enforce_for": [], "never_for": ["agent:worker-agent"]})
    );
    let refused = try_load(&server, &deny("second"), false).await.unwrap_err();
    assert_eq!(refused.error, RefusalCode::Conflict);
    assert!(refused.message.contains(&first) && refused.message.contains("--shadow"), "{}", refused.message);
    assert_eq!(denied(&server).await.as_deref(), Some("first"));
    let second = try_load(&server, &deny("second"), true).await.unwrap().candidate.unwrap();
    assert!(second.canary.is_shadow());
    assert_eq!(second.canary.never_for, names(&["agent:worker-agent"]), "who is spared stays spared");
    assert_eq!(denied(&server).await, None);
    let reason = DropCandidate { version: None, reason: String::new() };
    let refused = server.admin().await.drop_candidate(&reason).await.unwrap().unwrap_err();
    assert_eq!(refused.error, RefusalCode::BadRequest);
    let dropped = give_up(&server).await.unwrap();
    let told = server.decision_of(dropped.decision_id.unwrap()).await.record["asked"].clone();
    assert_eq!((&told["reason"], &told["before"]), (&json!("enough"), &json!(second.version)));
}

#[tokio::test]
async fn counts_go_on_while_objects_and_shares_change_and_begin_anew_with_a_candidate() {
    let server = Server::start().await;
    load(&server, &deny("one")).await;
    ask(&server).await.token();
    server.reapply("description: Refund one order", "description: Refund an order").await;
    canary(&server, 100).await;
    denied(&server).await;
    let told = seen(&server).await;
    assert_eq!((told.compared, told.disagreed, told.enforced), (2, 2, 1));
    assert_eq!(told.disagreements[0].count, 2, "in one direction, whichever bites");
    try_load(&server, &deny("two"), true).await.unwrap();
    assert_eq!(seen(&server).await.compared, 0);
    // Beside another bundle in force it disagrees otherwise.
    ask(&server).await.token();
    assert_eq!(seen(&server).await.disagreed, 1);
    apply(&server, &deny("two_also")).await;
    let told = seen(&server).await;
    assert_eq!((told.compared, told.disagreements), (0, vec![]));
    denied(&server).await;
    assert_eq!(seen(&server).await.compared, 1);
}

/// Where the log has the decision `id`, and by which bundle it was made.
async fn placed(server: &Server, id: DecisionId) -> (i64, String) {
    let stored = server.store.decision(id).await.unwrap().unwrap();
    let leaf: Value = serde_json::from_slice(&stored.leaf).unwrap();
    (stored.index, leaf["policy"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_a_storm_of_canaries_each_token_is_decided_by_the_bundle_that_bit_at_its_commit() {
    let server = Arc::new(Server::start().await);
    let active = status(&server).await.policy.unwrap();
    let version = load(&server, "limits contains {\"lifetime\": 20}").await;
    let mut asking = JoinSet::new();
    for _ in 0..3 {
        let server = server.clone();
        asking.spawn(async move {
            let mut decided = Vec::new();
            while decided.len() < 20 {
                let answer = ask(&server).await;
                if answer.status == 503 {
                    // Overtaken by one change after the other: nothing is issued, and that is said.
                    assert_eq!(answer.body["reason_code"], "not_recorded");
                    continue;
                }
                assert_eq!(answer.status, 200, "{answer:?}");
                let id = answer.body["decision_id"].as_str().unwrap().parse().unwrap();
                decided.push((placed(&server, id).await, answer.body["expires_in"].clone()));
            }
            decided
        });
    }
    let mut rule = BTreeMap::from([(0, &active)]);
    for percent in [100, 0].into_iter().cycle().take(20) {
        let changed = canary(&server, percent).await;
        let (idx, _) = placed(&server, changed.decision_id.unwrap()).await;
        rule.insert(idx, if percent == 100 { &version } else { &active });
        // Gives the others time between two changes.
        ask(&server).await;
    }
    while let Some(decided) = asking.join_next().await {
        for ((idx, policy), expires_in) in decided.unwrap() {
            let (_, bit) = rule.range(..idx).next_back().unwrap();
            assert_eq!(**bit, policy, "decision {idx}");
            assert_eq!(expires_in == json!(20), policy == version, "{policy}: {expires_in}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_try_the_same_candidate_on_the_same_people() {
    let Some([one, two]) = replicas::two().await else { return };
    let version = load(&one, &deny("canary")).await;
    canary(&one, 30).await;
    // A refusal may come a moment late, by what was; a token never does.
    for server in [&one, &two] {
        soon(async || {
            let told = status(server).await.candidate;
            told.is_some_and(|told| told.kept.canary.percent == 30 && told.seen.is_some())
        })
        .await;
    }
    let some = bitten(&one).await;
    assert!(!some.is_empty() && some.len() < 40, "{some:?}");
    assert_eq!(bitten(&two).await, some);
    let three = one.replica(&replicas::keys_of(&one)).await.unwrap();
    assert_eq!(bitten(&three).await, some);
    let promoted = promote(&two).await.unwrap();
    assert_eq!(promoted.policy, version);
    for server in [&one, &two, &three] {
        soon(async || denied(server).await.as_deref() == Some("canary")).await;
        assert_eq!(status(server).await.candidate, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_that_hold_a_promoted_or_tried_bundle_are_taken_beside_replicas() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("sent");
    fs::create_dir(&rules).unwrap();
    fs::write(rules.join("rules.rego"), files("")[0].text.clone()).unwrap();
    let toml = format!("[policy]\nbundles = ['{}']", rules.display());
    let Some(server) = replicas::first(&toml).await else { return };
    let version = load(&server, &deny("tried")).await;
    give_up(&server).await.unwrap();
    // It is kept, but nobody has moved on from it: it was never in force.
    fs::write(rules.join("rules.rego"), files(&deny("tried"))[0].text.clone()).unwrap();
    soon(async || status(&server).await.policy.as_ref() == Some(&version)).await;
    assert_eq!(denied(&server).await.as_deref(), Some("tried"));
}

/// A place for a server, and a folder of rules beside it.
struct Rules {
    site: Site,
    folder: TempDir,
}

impl Rules {
    async fn new() -> Self {
        let rules = Self { site: Site::new().await, folder: tempfile::tempdir().unwrap() };
        fs::create_dir(rules.folder.path().join("night")).unwrap();
        rules
    }

    fn path(&self) -> String {
        self.folder.path().join("night").display().to_string()
    }

    fn write(&self, text: &str) {
        fs::write(format!("{}/rules.rego", self.path()), format!("{STARTER}\n{text}\n")).unwrap();
    }

    /// Runs `taskgrant policy`; its output holds every one of `parts`, and its status is `status`.
    async fn told(&self, status: i32, args: &[&str], parts: &[&str]) -> String {
        let (exit, told) = self.site.told(&[&["policy"], args].concat()).await;
        assert_eq!(exit, status, "{args:?}: {told}");
        for part in parts {
            assert!(told.contains(part), "{args:?}: no `{part}` in {told}");
        }
        told
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_tries_a_bundle_on_a_server_and_shows_what_it_does() {
    let rules = Rules::new().await;
    let (process, path) = (rules.site.start().await, rules.path());
    rules.write("deny contains {");
    rules.told(1, &["candidate", "load", &path], &["night/rules.rego:"]).await;
    rules.write(&deny("night"));
    let loaded = ["candidate: sha256:", "mode:      shadow: bites for nobody", "(decision "];
    rules.told(0, &["candidate", "load", &path, "--reason", "to see"], &loaded).await;
    let undeclared = ["canary", "5%", "--enforce-for", "group:support, tenant:acme"];
    rules.told(1, &undeclared, &["tenant:acme", "is not declared"]).await;
    let nobody = ["canary", "5%", "--enforce-for", "support"];
    rules.told(2, &nobody, &["--enforce-for", "agent:CLIENT_ID"]).await;
    rules.told(2, &["canary", "105%"], &["from 0% to 100%"]).await;
    let lists = ["canary", "5", "--enforce-for", "group:a,group:b", "--never-for", "group:c"];
    let mode = "canary: bites for 5 % of the principals; always for group:a, group:b; never for group:c";
    rules.told(0, &lists, &[mode]).await;
    let counts = "0 compared, 0 agreed, 0 disagreed, 0 faults";
    rules.told(0, &["status"], &["candidate:   sha256:", mode, counts]).await;
    rules.write(&deny("day"));
    rules.told(1, &["candidate", "load", &path], &["--shadow"]).await;
    let still = [
        "warning: the candidate sha256:",
        "still bites for 5 % of",
        "`taskgrant policy canary 0%` ends that",
    ];
    rules.told(0, &["apply", &path], &still).await;
    rules.told(1, &["canary", "6%", "--version", "0123456789"], &["not the one that is meant"]).await;
    assert_eq!(process.terminate().await.code(), Some(0), "{}", rules.site.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_tries_promotes_and_ends_without_a_server() {
    let rules = Rules::new().await;
    let path = rules.path();
    assert_eq!(rules.site.start().await.terminate().await.code(), Some(0), "{}", rules.site.log());
    rules.write(&deny("night"));
    rules.told(0, &["candidate", "load", &path], &["shadow"]).await;
    rules.told(0, &["canary", "5%", "--never-for", "group:c"], &["5 %"]).await;
    let status: Value = serde_json::from_str(&rules.told(0, &["status", "--json"], &[]).await).unwrap();
    let candidate = &status["candidate"];
    assert_eq!((&candidate["mode"], &candidate["percent"]), (&json!("canary"), &json!(5)));
    assert_eq!(candidate.get("seen"), None, "nothing is served from a folder: {candidate}");
    let version = candidate["version"].as_str().unwrap();
    rules.told(0, &["canary", "0%"], &["shadow", "never for group:c"]).await;
    let in_force = format!("in force: {version}");
    rules.told(0, &["promote", version, "--reason", "it agrees"], &[&in_force]).await;
    rules.write(&deny("day"));
    let told = rules.told(0, &["candidate", "load", &path, "--shadow"], &["candidate: sha256:"]).await;
    assert!(!told.contains(version), "{told}");
    let drop = ["candidate", "drop", "--reason", "no need"];
    rules.told(1, &[&drop[..], &["--version", version]].concat(), &["not the one that is meant"]).await;
    let forgotten = ["no candidate (decision", "ended:     sha256:", "forgotten: shadow: bites for nobody"];
    rules.told(0, &drop, &forgotten).await;
    rules.told(0, &drop, &["no candidate: nothing to change"]).await;
    rules.told(1, &["promote", "--reason", "x"], &["there is no candidate"]).await;
}
