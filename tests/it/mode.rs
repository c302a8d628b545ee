//! The mode of the policy (DESIGN §6): for a time what it says may not bite, and everything else holds.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskgrant::admin::api::{RefusalCode, Refused};
use taskgrant::admin::policy::{ApplyPolicy, LoadCandidate};
use taskgrant::configuration::apply::candidate::CanaryOrder;
use taskgrant::configuration::apply::mode::{ModeChanged, ModeOrder};
use taskgrant::configuration::apply::policy::{BundleFile, PolicyStatus};
use taskgrant::policy::mode::Mode;
use tokio::time::sleep;

use crate::document::Document;
use crate::support::idp::claims;
use crate::support::process::{Site, free_port};
use crate::support::replicas;
use crate::support::server::{Answer, ORDERS, Server, secret};

const STARTER: &str = include_str!("../../policies/base/ceilings.rego");
const ROOT: [(&str, &str); 2] = [("task_type", "refund_order"), ("resource", ORDERS)];
/// Far more than any bound of ours: tests share their machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// For each principal another thing that policy does.
const RULES: &str = r#"
deny contains {"code": "no_bob", "message": "not bob", "public": true} if input.principal.sub == "bob"
require_approval contains {"code": "look", "message": "a person looks", "public": true} if input.principal.sub == "erin"
limits contains {"lifetime": 60} if input.principal.sub == "carol"
limits contains {"lifetime": -1} if input.principal.sub == "mallory"
tags contains "seen"
"#;

fn files(rules: &str) -> Vec<BundleFile> {
    let (path, text) = ("sent/rules.rego".to_owned(), format!("{STARTER}\n{rules}\n"));
    vec![BundleFile { path, text }]
}

async fn under(rules: &str, toml: &str) -> Server {
    let server = Server::start_with(toml).await;
    apply(&server, rules).await;
    server
}

async fn apply(server: &Server, rules: &str) {
    let files = files(rules);
    server.admin().await.apply_policy(&ApplyPolicy { files }).await.unwrap().unwrap();
}

async fn try_set(server: &Server, order: &ModeOrder) -> Result<ModeChanged, Refused> {
    server.admin().await.set_policy_mode(order).await.unwrap()
}

fn order(mode: Mode, lasts: Option<u32>) -> ModeOrder {
    ModeOrder { mode, lasts, reason: "locked out".to_owned() }
}

async fn set(server: &Server, mode: Mode) -> ModeChanged {
    let lasts = (mode != Mode::Enforce).then_some(600);
    try_set(server, &order(mode, lasts)).await.unwrap()
}

async fn status(server: &Server) -> PolicyStatus {
    server.admin().await.policy().await.unwrap().unwrap()
}

async fn ask_with(server: &Server, sub: &str, form: &[(&str, &str)]) -> Answer {
    let session = server.session(json!({"sub": sub, "sid": format!("sid-of-{sub}")}));
    server.exchange("support-agent", &session, form).await
}

async fn ask(server: &Server, sub: &str) -> Answer {
    ask_with(server, sub, &ROOT).await
}

#[track_caller]
fn denied(answer: &Answer) {
    answer.refused(400, "invalid_request", "policy_denied");
}

async fn soon(what: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !what().await {
        assert!(began.elapsed() < PATIENCE, "it does not happen");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn generation(server: &Server) -> i64 {
    server.store.head().await.unwrap().generation
}

async fn warnings(server: &Server) -> Vec<Value> {
    let ready = server.get("/readyz", &[]).await;
    assert_eq!((ready.status, &ready.body["ready"]), (200, &json!(true)), "a mode makes nothing unready");
    ready.body["warnings"].as_array().unwrap().clone()
}

/// The mode, as `policy status` and `/readyz` tell it.
async fn status_tells(server: &Server) {
    let told = status(server).await;
    let body = serde_json::to_value(&told).unwrap();
    let faults = Document::read().faults_of_answer("/admin/v1/policy", "get", 200, &body);
    assert!(faults.is_empty(), "{faults:#?}");
    let mode = told.mode.unwrap();
    assert_eq!((mode.timed.mode, mode.reason.as_str()), (Mode::DryRun, "locked out"));
    assert!(mode.account.starts_with("uid "), "{mode:?}");
    let [warning] = &warnings(server).await[..] else { panic!() };
    assert!(warning.as_str().unwrap().contains("`dry-run`") && !warning.to_string().contains("locked"));
}

#[tokio::test]
async fn in_a_dry_run_nothing_that_policy_says_bites_and_all_of_it_is_recorded() {
    let port = free_port();
    let server = under(RULES, &format!("[metrics]\nlisten = '127.0.0.1:{port}'")).await;
    denied(&ask(&server, "bob").await);
    ask(&server, "erin").await.refused(400, "interaction_required", "approval_required");
    assert_eq!(ask(&server, "carol").await.body["expires_in"], 60);
    assert_eq!(ask(&server, "mallory").await.status, 503);
    let plain = ask(&server, "alice").await;
    assert_eq!(server.decision(&plain).await.record.get("mode"), None);
    let whole = plain.body["expires_in"].clone();

    let changed = set(&server, Mode::DryRun).await;
    let recorded = server.decision_of(changed.decision_id.unwrap()).await;
    assert_eq!(recorded.leaf["kind"], "admin");
    let asked = &recorded.record["asked"];
    assert_eq!((&asked["mode"], &asked["before"]), (&json!("dry-run"), &json!("enforce")));
    assert_eq!((&asked["reason"], asked["until"].is_string()), (&json!("locked out"), true));
    let policy = status(&server).await.policy;
    for (sub, change, code) in [
        ("alice", None, None),
        ("bob", Some("allow_to_deny"), Some("no_bob")),
        ("erin", Some("allow_to_approval"), Some("look")),
        ("carol", Some("narrower"), None),
        ("mallory", Some("fault"), Some("policy_unavailable")),
    ] {
        let answer = ask(&server, sub).await;
        answer.token();
        assert_eq!(answer.body["expires_in"], whole, "{sub}");
        assert_eq!(answer.body.get("narrowed"), plain.body.get("narrowed"), "{sub}");
        let told = server.decision(&answer).await;
        assert_eq!((&told.leaf["mode"], &told.leaf["outcome"]), (&json!("dry-run"), &json!("allow")));
        assert_eq!(told.leaf["policy"], json!(policy));
        let mode = &told.record["mode"];
        assert_eq!(mode.get("change").and_then(Value::as_str), change, "{sub}: {mode}");
        assert_eq!(mode["reasons"][0]["code"].as_str(), code, "{sub}: {mode}");
        assert_eq!(mode["limits"]["lifetime"].as_u64(), (sub == "carol").then_some(60), "{mode}");
        assert_eq!(mode["fault"].is_string(), sub == "mallory", "{mode}");
        assert_eq!(told.record.get("tags").is_some(), sub != "mallory");
        assert_eq!(told.input["principal"]["sub"], sub);
    }
    let metrics = server.get_url(&format!("http://127.0.0.1:{port}/metrics")).await.text;
    for line in [
        r#"taskgrant_policy_mode{mode="dry-run"} 1"#,
        r#"taskgrant_policy_let_pass_total{mode="dry-run",change="allow_to_deny"} 1"#,
        r#"taskgrant_policy_let_pass_total{mode="dry-run",change="fault"} 1"#,
        r#"taskgrant_policy_let_pass_total{mode="dry-run",change="none"} 1"#,
    ] {
        assert!(metrics.contains(line), "no `{line}` in {metrics}");
    }
    assert!(!metrics.contains(r#"mode="enforce"} 1"#));
    status_tells(&server).await;

    set(&server, Mode::Enforce).await;
    denied(&ask(&server, "bob").await);
    assert_eq!(status(&server).await.mode, None);
    assert!(warnings(&server).await.is_empty());
    let again = set(&server, Mode::Enforce).await;
    assert_eq!((again.mode, again.decision_id), (None, None), "nothing to change");
}

#[tokio::test]
async fn off_asks_no_policy_and_keeps_its_input() {
    let server = under(RULES, "").await;
    set(&server, Mode::Off).await;
    for sub in ["alice", "bob", "erin", "carol", "mallory"] {
        let answer = ask(&server, sub).await;
        answer.token();
        let told = server.decision(&answer).await;
        assert_eq!((&told.leaf["mode"], told.leaf.get("policy")), (&json!("off"), None));
        assert_eq!(told.record["mode"], json!({"mode": "off"}));
        assert_eq!(told.input["principal"]["sub"], sub);
    }
}

/// What is refused whatever policy says.
async fn ceilings_hold(server: &Server) {
    let session = server.session(json!({}));
    let start = |with: &[(&'static str, &'static str)]| [&ROOT[..], with].concat();
    let over = server.exchange("support-agent", &session, &start(&[("scope", "reports:export")])).await;
    over.refused(400, "invalid_scope", "scope_exceeds_ceiling");
    let details = r#"[{"type": "tool_call", "tools": ["search_orders"], "amount": 501}]"#;
    let over =
        server.exchange("support-agent", &session, &start(&[("authorization_details", details)])).await;
    assert_eq!((over.status, over.body["error"].as_str()), (400, Some("invalid_authorization_details")));
    let stranger = server.exchange("stranger-agent", &session, &ROOT).await;
    assert_eq!(stranger.status, 400, "{stranger:?}");
    // No entitlement: nothing.
    let nobody = server.session(json!({"groups": [], "sid": "sid-nobody"}));
    assert_eq!(server.exchange("support-agent", &nobody, &ROOT).await.status, 400);
    let long = server.exchange("support-agent", &session, &start(&[("requested_expires_in", "86400")])).await;
    assert!(long.body["expires_in"].as_i64().unwrap() <= 300, "{long:?}");
    // L1: a child is never wider than its parent, and L4: nothing comes of the dead.
    let narrow =
        server.exchange("support-agent", &session, &start(&[("scope", "orders:read")])).await.token();
    let wider = server.exchange("support-agent", &narrow, &[("scope", "refunds:write")]).await;
    wider.refused(400, "invalid_scope", "scope_exceeds_ceiling");
    let child = server.exchange("support-agent", &narrow, &[("scope", "orders:read")]).await;
    assert!(claims(&child.token())["exp"].as_i64() <= claims(&narrow)["exp"].as_i64());
    server.revoke("support-agent", &narrow).await;
    server.exchange("support-agent", &narrow, &[]).await.refused(400, "invalid_request", "revoked");
    // A task type that always asks does so.
    let always = [("task_type", "close_account"), ("scope", "refunds:write")];
    server.exchange("support-agent", &session, &always).await.refused(
        400,
        "interaction_required",
        "approval_required",
    );
}

#[tokio::test]
async fn l1_l2_l4_ceilings_liveness_and_approvals_of_task_types_hold_in_each_mode() {
    let server = under(RULES, "").await;
    ceilings_hold(&server).await;
    for mode in [Mode::DryRun, Mode::Off] {
        set(&server, mode).await;
        ceilings_hold(&server).await;
    }
    let lenient =
        under("limits contains {\"lifetime\": -1}", "[policy]\non_error = 'allow-within-ceiling'").await;
    ceilings_hold(&lenient).await;
}

#[tokio::test]
async fn a_fault_is_let_pass_within_the_ceilings_where_the_configuration_says_so() {
    let port = free_port();
    let toml = format!("[policy]\non_error = 'allow-within-ceiling'\n[metrics]\nlisten = '127.0.0.1:{port}'");
    let server = under(RULES, &toml).await;
    let answer = ask(&server, "mallory").await;
    answer.token();
    let told = server.decision(&answer).await;
    assert_eq!(told.leaf["mode"], "allow-within-ceiling");
    let mode = &told.record["mode"];
    assert_eq!((&mode["change"], mode["fault"].is_string()), (&json!("fault"), true), "{mode}");
    denied(&ask(&server, "bob").await);
    assert_eq!(ask(&server, "carol").await.body["expires_in"], 60);
    let metrics = server.get_url(&format!("http://127.0.0.1:{port}/metrics")).await.text;
    let line = r#"taskgrant_policy_let_pass_total{mode="allow-within-ceiling",change="fault"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
    let [warning] = &warnings(&server).await[..] else { panic!() };
    assert!(warning.to_string().contains("policy.on_error"), "{warning}");
}

#[tokio::test]
async fn l11_t39_no_claim_brings_a_fault_about_that_lifts_what_policy_says() {
    let faults = "limits contains {\"lifetime\": -1} if input.claimed.broken";
    let server = under(&format!("{RULES}\n{faults}"), "[policy]\non_error = 'allow-within-ceiling'").await;
    let form = [&ROOT[..], &[("claimed", r#"{"broken": true}"#)]].concat();
    for sub in ["bob", "carol", "erin", "alice"] {
        let answer = ask_with(&server, sub, &form).await;
        assert_eq!(answer.status, 503, "{sub}: {answer:?}");
        let told = server.decision(&answer).await;
        assert_eq!(told.record.get("mode"), None, "{sub}: nothing is lifted");
    }
    ask(&server, "alice").await.token();
    // What fails without the claim too is lifted as before.
    ask_with(&server, "mallory", &form).await.token();
}

#[tokio::test]
async fn a_fault_of_a_candidate_lifts_nothing_that_the_bundle_in_force_says() {
    let server = under(RULES, "[policy]\non_error = 'allow-within-ceiling'").await;
    let rules = "limits contains {\"lifetime\": -1}";
    let load = LoadCandidate { files: files(rules), shadow: false, reason: None };
    server.admin().await.load_candidate(&load).await.unwrap().unwrap();
    ask(&server, "alice").await.token();
    let all = CanaryOrder { percent: 100, ..CanaryOrder::default() };
    server.admin().await.set_canary(&all).await.unwrap().unwrap();
    for sub in ["bob", "alice"] {
        let answer = ask(&server, sub).await;
        assert_eq!(answer.status, 503, "{sub}: {answer:?}");
    }
}

#[tokio::test]
async fn a_mode_ends_by_itself_at_its_instant_and_that_is_recorded_once() {
    let server = under(RULES, "").await;
    set(&server, Mode::DryRun).await;
    let before = generation(&server).await;
    server.clock.shift(595);
    ask(&server, "bob").await.token();
    assert_eq!(generation(&server).await, before);
    // At once: no timer is waited for.
    server.clock.shift(6);
    denied(&ask(&server, "bob").await);
    assert_eq!(status(&server).await.mode, None);
    soon(async || generation(&server).await == before + 1).await;
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(generation(&server).await, before + 1, "once");
    let ended = "SELECT count(*) FROM decisions d JOIN settings s ON s.key = 'policy_mode' \
        WHERE d.kind = 'admin' AND s.value = 'null'";
    assert!(server.count(ended).await > 0);
    // Set back, the clock brings no mode back that has ended.
    server.clock.step(-300);
    assert_ne!(ask(&server, "bob").await.status, 200);
}

#[tokio::test]
async fn a_mode_lasts_over_a_restart_and_one_that_ended_meanwhile_does_not() {
    let server = under(RULES, "").await;
    set(&server, Mode::Off).await;
    let server = server.restart().await;
    ask(&server, "bob").await.token();
    assert_eq!(warnings(&server).await.len(), 1);
    let before = generation(&server).await;
    server.clock.shift(601);
    let server = server.restart().await;
    denied(&ask(&server, "bob").await);
    assert_eq!(status(&server).await.mode, None);
    soon(async || generation(&server).await == before + 1).await;
    denied(&ask(&server, "bob").await);
}

#[tokio::test]
async fn what_is_stored_of_a_mode_and_unreadable_is_none() {
    let server = under(RULES, "").await;
    set(&server, Mode::Off).await;
    server.sql("UPDATE settings SET value = '{\"mode\": \"lenient\"}' WHERE key = 'policy_mode'").await;
    let server = server.restart().await;
    denied(&ask(&server, "bob").await);
    assert!(set(&server, Mode::Enforce).await.decision_id.is_some(), "it is overwritten");
}

#[tokio::test]
async fn a_mode_needs_a_reason_and_a_time_of_a_day_at_most() {
    let server = under(RULES, "").await;
    let day = 24 * 60 * 60;
    for (bad, about) in [
        (order(Mode::Off, None), "for"),
        (order(Mode::DryRun, Some(0)), "for"),
        (order(Mode::DryRun, Some(day + 1)), "for"),
        (order(Mode::Enforce, Some(60)), "for"),
        (ModeOrder { reason: " ".to_owned(), ..order(Mode::Off, Some(60)) }, "reason"),
    ] {
        let refused = try_set(&server, &bad).await.unwrap_err();
        assert_eq!(refused.error, RefusalCode::BadRequest);
        assert!(refused.message.starts_with(&format!("{about}: ")), "{}", refused.message);
    }
    denied(&ask(&server, "bob").await);
    let changed = try_set(&server, &order(Mode::Off, Some(day))).await.unwrap();
    let body = serde_json::to_value(&changed).unwrap();
    let faults = Document::read().faults_of_answer("/admin/v1/policy/mode", "post", 200, &body);
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(changed.mode.unwrap().timed.until.timestamp() > server.now());
}

#[tokio::test]
async fn no_agent_can_set_a_mode() {
    let server = under(RULES, "").await;
    let session = server.session(json!({"sub": "bob"}));
    for (name, value) in [("mode", "off"), ("policy_mode", "off"), ("claimed", r#"{"mode": "off"}"#)] {
        let form = [&ROOT[..], &[(name, value)]].concat();
        denied(&server.exchange("support-agent", &session, &form).await);
    }
    let asked = json!({"mode": "off", "for": 60, "reason": "x"}).to_string();
    for path in ["/admin/v1/policy/mode", "/policy/mode"] {
        let answer = server.send(path, &[], asked.clone(), "application/json").await;
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
    }
    denied(&ask(&server, "bob").await);
}

#[tokio::test]
async fn a_canary_bites_nobody_in_a_dry_run_and_is_compared() {
    let server = under("", "").await;
    let rules = r#"deny contains {"code": "canary", "message": "m", "public": true}"#;
    let load = LoadCandidate { files: files(rules), shadow: false, reason: None };
    let version =
        server.admin().await.load_candidate(&load).await.unwrap().unwrap().candidate.unwrap().version;
    let all = CanaryOrder { percent: 100, ..CanaryOrder::default() };
    server.admin().await.set_canary(&all).await.unwrap().unwrap();
    denied(&ask(&server, "bob").await);
    set(&server, Mode::DryRun).await;
    let answer = ask(&server, "bob").await;
    answer.token();
    let told = server.decision(&answer).await;
    assert_eq!(told.record["mode"], json!({"mode": "dry-run"}));
    let shadow = json!({"version": version, "outcome": "deny", "reasons": ["canary"]});
    let candidate = json!({"version": version, "disagrees": "allow_to_deny", "shadow": shadow});
    assert_eq!(told.record["candidate"], candidate);
    set(&server, Mode::Off).await;
    let answer = ask(&server, "bob").await;
    answer.token();
    assert_eq!(server.decision(&answer).await.record.get("candidate"), None, "nobody is asked");
    set(&server, Mode::Enforce).await;
    denied(&ask(&server, "bob").await);
    let seen = status(&server).await.candidate.unwrap().seen.unwrap();
    assert_eq!((seen.compared, seen.enforced), (3, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_in_the_same_mode_and_record_its_end_once() {
    let Some([one, two]) = replicas::two().await else { return };
    apply(&one, RULES).await;
    soon(async || ask(&two, "bob").await.status == 400).await;
    set(&one, Mode::DryRun).await;
    for server in [&one, &two] {
        soon(async || ask(server, "bob").await.status == 200).await;
        assert_eq!(status(server).await.mode.unwrap().timed.mode, Mode::DryRun);
    }
    set(&two, Mode::Enforce).await;
    // No token is issued by the mode that was, on any replica.
    assert_ne!(ask(&one, "bob").await.status, 200);
    set(&two, Mode::Off).await;
    let before = generation(&one).await;
    one.clock.shift(601);
    for server in [&one, &two] {
        assert_ne!(ask(server, "bob").await.status, 200);
    }
    soon(async || generation(&one).await > before).await;
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(generation(&two).await, before + 1, "once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_sets_a_mode_and_replay_tells_what_it_let_pass() {
    let site = Site::new().await;
    let rules = site.path("rules");
    fs::create_dir_all(&rules).unwrap();
    fs::write(rules.join("rules.rego"), format!("{STARTER}\n{RULES}\n")).unwrap();
    site.configure("[policy]\nbundles = ['rules']");
    let process = site.start().await;
    site.apply().await;
    let told = async |status: i32, args: &[&str], parts: &[&str]| {
        let (exit, told) = site.told(&[&["policy"], args].concat()).await;
        assert_eq!(exit, status, "{args:?}: {told}");
        for part in parts {
            assert!(told.contains(part), "{args:?}: no `{part}` in {told}");
        }
    };
    told(2, &["mode", "lenient", "--reason", "x"], &["enforce, dry-run or off"]).await;
    told(2, &["mode", "off", "--for", "soon", "--reason", "x"], &["30m"]).await;
    told(1, &["mode", "off", "--reason", "x"], &["for: say for how many seconds"]).await;
    told(0, &["mode", "dry-run", "--for", "30m", "--reason", "locked out"], &["policy mode: dry-run until "])
        .await;
    told(0, &["status"], &["policy mode: dry-run until ", "locked out"]).await;
    let agent = ("support-agent", &*secret("support-agent"));
    let bob = json!({"sub": "bob", "org_id": "acme", "groups": ["support"]});
    let exchanged = site.start_task(agent, bob.clone(), &ROOT).await;
    assert!(exchanged["access_token"].is_string(), "{exchanged}");
    told(0, &["mode", "off", "--for", "1h", "--reason", "worse"], &["policy mode: off until "]).await;
    let exchanged = site.start_task(agent, bob, &ROOT).await;
    assert!(exchanged["access_token"].is_string(), "{exchanged}");
    told(0, &["mode", "enforce", "--reason", "mended"], &["policy mode: enforce (decision "]).await;
    told(0, &["mode", "enforce", "--reason", "mended"], &["policy mode: enforce: nothing to change"]).await;
    let path = rules.display().to_string();
    told(1, &["replay", "--candidate", &path], &["2 decided again", "allow_to_deny: 2", "no_bob"]).await;
    assert_eq!(process.terminate().await.code(), Some(0), "{}", site.log());
    told(0, &["mode", "off", "--for", "10m", "--reason", "before the start"], &["policy mode: off"]).await;
    let process = site.start().await;
    site.logged("what policy says does not bite").await;
    assert_eq!(process.terminate().await.code(), Some(0), "{}", site.log());
}
