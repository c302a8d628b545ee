//! Data documents of the policy, which change without a bundle (DESIGN §6).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::DateTime;
use serde_json::{Value, json};
use taskgrant::admin::api::{RefusalCode, Refused};
use taskgrant::admin::policy::{ApplyPolicy, LoadCandidate, RollbackPolicy};
use taskgrant::configuration::apply::candidate::CanaryOrder;
use taskgrant::configuration::apply::data::{DataChanged, DataStatus, ShownDocument};
use taskgrant::configuration::apply::mode::ModeOrder;
use taskgrant::configuration::apply::policy::{BundleFile, PolicyChanged};
use taskgrant::domain::ids::DecisionId;
use taskgrant::policy::data::{DataPath, MOST_BYTES};
use taskgrant::policy::mode::Mode;
use taskgrant::replay::{Order, Source, replay};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::document::Document;
use crate::support::idp::claims;
use crate::support::process::Site;
use crate::support::replicas;
use crate::support::server::{Answer, ORDERS, Server, secret};

const STARTER: &str = include_str!("../../policies/base/ceilings.rego");
const ROOT: [(&str, &str); 2] = [("task_type", "refund_order"), ("resource", ORDERS)];
/// Far more than any bound of ours: tests share their machine.
const PATIENCE: Duration = Duration::from_mins(1);
const RULES: &str = r#"
limits contains {"lifetime": data.bounds.most}
deny contains {"code": "blocked", "message": "m", "public": true} if input.principal.sub in data.people.blocked
"#;
const BOUNDS: &str =
    r#"{"type": "object", "required": ["most"], "properties": {"most": {"type": "integer", "minimum": 1}}}"#;
/// The bundle's own, by which it is tested.
const OWN: &str = r#"{"most": 90}"#;
const TEST: &str = "package taskgrant.exchange_test\nimport rego.v1\ntest_own if data.bounds.most == 90\n";

fn file(path: &str, text: &str) -> BundleFile {
    BundleFile { path: path.to_owned(), text: text.to_owned() }
}

/// A bundle with these files more.
fn bundle(files: &[(&str, &str)]) -> Vec<BundleFile> {
    let mut all = vec![
        file("sent/rules.rego", &format!("{STARTER}\n{RULES}\n")),
        file("sent/rules_test.rego", TEST),
        file("sent/data/bounds.json", OWN),
    ];
    all.extend(files.iter().map(|(path, text)| file(path, text)));
    all
}

const DECLARED: [(&str, &str); 2] = [
    ("sent/schemas/bounds.json", BOUNDS),
    ("sent/schemas/people/blocked.json", r#"{"type": "array", "items": {"type": "string"}}"#),
];

async fn try_apply(server: &Server, files: Vec<BundleFile>) -> Result<PolicyChanged, Refused> {
    server.admin().await.apply_policy(&ApplyPolicy { files }).await.unwrap()
}

async fn start() -> Server {
    let server = Server::start().await;
    try_apply(&server, bundle(&DECLARED)).await.unwrap();
    server
}

fn path(text: &str) -> DataPath {
    text.parse().unwrap()
}

async fn try_put(server: &Server, at: &str, document: &str) -> Result<DataChanged, Refused> {
    let put = document.as_bytes().to_vec();
    server.admin().await.put_data(&path(at), put, Some("the feed & more")).await.unwrap()
}

async fn put(server: &Server, at: &str, document: &str) -> DataChanged {
    try_put(server, at, document).await.unwrap()
}

async fn take_away(server: &Server, at: &str) -> Result<DataChanged, Refused> {
    server.admin().await.drop_data(&path(at), None).await.unwrap()
}

async fn list(server: &Server) -> DataStatus {
    server.admin().await.data().await.unwrap().unwrap()
}

async fn show(server: &Server, at: &str, version: Option<&str>) -> Result<ShownDocument, Refused> {
    server.admin().await.show_data(&path(at), version).await.unwrap()
}

async fn ask(server: &Server) -> Answer {
    server.exchange("support-agent", &server.session(json!({})), &ROOT).await
}

/// Seconds that a token lives now.
async fn lifetime(server: &Server) -> i64 {
    let answer = ask(server).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["expires_in"].as_i64().unwrap()
}

async fn soon(what: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !what().await {
        assert!(began.elapsed() < PATIENCE, "it does not happen");
        sleep(Duration::from_millis(20)).await;
    }
}

#[track_caller]
fn as_documented(path: &str, method: &str, status: u16, answer: &impl serde::Serialize) {
    let body = serde_json::to_value(answer).unwrap();
    let faults = Document::read().faults_of_answer(path, method, status, &body);
    assert!(faults.is_empty(), "{method} {path}: {faults:#?}\n{body:#}");
}

#[tokio::test]
async fn a_document_decides_from_its_put_on_and_each_decision_names_it() {
    let server = start().await;
    let own = ask(&server).await;
    assert_eq!(own.body["expires_in"], 90);
    let told = server.decision(&own).await;
    assert_eq!((told.leaf.get("data"), told.record.get("data")), (None, None));

    let changed = put(&server, "bounds", "{\"most\": 60,\n \"note\": \"x\"}").await;
    as_documented("/admin/v1/data/{document}", "put", 200, &changed);
    assert_eq!(changed.before, None);
    let recorded = server.decision_of(changed.decision_id.unwrap()).await;
    let asked = &recorded.record["asked"];
    assert_eq!((&asked["command"], &asked["path"]), (&json!("policy data put"), &json!("bounds")));
    assert_eq!((&asked["version"], &asked["reason"]), (&json!(changed.version), &json!("the feed & more")));
    assert!(!recorded.text().contains("note"), "the log has no content of documents");
    let answer = ask(&server).await;
    assert_eq!(answer.body["expires_in"], 60);
    let told = server.decision(&answer).await;
    assert_eq!(told.leaf["data"], json!(changed.data));
    let documents = json!({"bounds": changed.version});
    assert_eq!(told.record["data"], json!({"version": changed.data, "documents": documents}));

    // The same again, however it is written, is nothing to change.
    let again = put(&server, "bounds", r#"{"note":"x","most":60}"#).await;
    assert_eq!((again.decision_id, &again.version), (None, &changed.version));
    let next = put(&server, "people.blocked", r#"["alice"]"#).await;
    ask(&server).await.refused(400, "invalid_request", "policy_denied");
    assert_ne!(next.data, changed.data);
    let status = list(&server).await;
    as_documented("/admin/v1/data", "get", 200, &status);
    assert_eq!(status.version, next.data);
    assert_eq!(
        status.documents.iter().map(|d| d.path.as_str()).collect::<Vec<_>>(),
        ["bounds", "people.blocked"]
    );
    assert!(status.documents.iter().all(|d| d.used && d.kept.account.starts_with("uid ")));
    assert_eq!(server.admin().await.policy().await.unwrap().unwrap().data, next.data);

    let dropped = take_away(&server, "people.blocked").await.unwrap();
    as_documented("/admin/v1/data/{document}", "delete", 200, &dropped);
    assert_eq!((&dropped.version, &dropped.before, &dropped.data), (&None, &next.version, &changed.data));
    assert_eq!(lifetime(&server).await, 60);
    take_away(&server, "bounds").await.unwrap();
    assert_eq!(lifetime(&server).await, 90, "the bundle's own again");
    assert_eq!(list(&server).await.version, None);
    assert_eq!(take_away(&server, "bounds").await.unwrap_err().error, RefusalCode::NotFound);

    // What was in force stays readable.
    let versions = server.admin().await.data_versions(&path("bounds")).await.unwrap().unwrap();
    as_documented("/admin/v1/data/{document}/versions", "get", 200, &versions);
    assert_eq!(versions.len(), 1);
    let named = &versions[0].version["sha256:".len()..][..12];
    let shown = show(&server, "bounds", Some(named)).await.unwrap();
    as_documented("/admin/v1/data/{document}", "get", 200, &shown);
    assert_eq!(shown.document, json!({"most": 60, "note": "x"}));
    assert_eq!(show(&server, "bounds", None).await.unwrap_err().error, RefusalCode::NotFound);
    assert_eq!(show(&server, "bounds", Some("0123456789")).await.unwrap_err().error, RefusalCode::NotFound);
}

#[tokio::test]
async fn l7_nothing_is_put_where_the_bundle_has_no_schema_and_nothing_that_does_not_fit() {
    let server = start().await;
    put(&server, "bounds", r#"{"most": 60}"#).await;
    let before = server.decisions().await;
    for (at, document, about) in [
        ("elsewhere", "{}", "add `schemas/elsewhere.json`"),
        ("people", "{}", "add `schemas/people.json`"),
        ("bounds.most", "1", "add `schemas/bounds/most.json`"),
        ("bounds", r#"{"most": "secret-word"}"#, "`sent/schemas/bounds.json`: at `/most`"),
        ("bounds", r#"{"more": 1}"#, "`sent/schemas/bounds.json`"),
        ("people.blocked", "{}", "`sent/schemas/people/blocked.json`"),
        ("bounds", r#"{"most": 1, "most": 2}"#, "occurs twice"),
        ("bounds", "{", "not valid JSON"),
    ] {
        let refused = try_put(&server, at, document).await.unwrap_err();
        as_documented("/admin/v1/data/{document}", "put", 422, &refused);
        assert_eq!(refused.error, RefusalCode::DataRefused);
        assert!(refused.message.contains(about), "{at}: {}", refused.message);
        assert!(!refused.message.contains("secret-word"), "{}", refused.message);
    }
    assert_eq!(server.decisions().await, before + 8, "each is recorded");
    assert_eq!(lifetime(&server).await, 60);
    let socket = server.data.path().join("data/admin.sock");
    for (target, status) in
        [("/admin/v1/data/a%2Fb", 400), ("/admin/v1/data/taskgrant", 400), ("/admin/v1/data/bounds?x=1", 400)]
    {
        assert_eq!(raw(&socket, target).await, status, "{target}");
    }
}

/// The status of a GET on the admin socket.
async fn raw(socket: &Path, target: &str) -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn no_agent_can_put_a_document() {
    let server = start().await;
    let document = json!({"most": 3600}).to_string();
    for target in ["/admin/v1/data/bounds", "/data/bounds"] {
        let answer = server.send(target, &[], document.clone(), "application/json").await;
        assert_eq!(answer.status, 404, "{target}: {answer:?}");
    }
    assert_eq!(lifetime(&server).await, 90);
}

#[tokio::test]
async fn a_bundle_whose_schema_refuses_the_document_in_force_is_refused_and_so_is_a_rollback() {
    let server = start().await;
    let tight = r#"{"type": "object", "properties": {"most": {"type": "integer", "minimum": 80}}}"#;
    let other = bundle(&[("sent/schemas/bounds.json", tight)]);
    let tight = try_apply(&server, other.clone()).await.unwrap();
    put(&server, "bounds", r#"{"most": 85}"#).await;
    try_apply(&server, bundle(&DECLARED)).await.unwrap();
    put(&server, "bounds", r#"{"most": 60}"#).await;
    let refused = try_apply(&server, other.clone()).await.unwrap_err();
    assert_eq!(refused.error, RefusalCode::PolicyUnfit);
    for part in ["`bounds`", "sent/schemas/bounds.json", "at `/most`", "taskgrant policy data drop"] {
        assert!(refused.message.contains(part), "{}", refused.message);
    }
    let refused = server.admin().await.policy().await.unwrap().unwrap().refused.unwrap();
    assert!(refused.problem.contains("`bounds`"), "{refused:?}");
    let version = Some(tight.policy.clone());
    let rolled = server.admin().await.roll_back_policy(&RollbackPolicy { version }).await.unwrap();
    assert_eq!(rolled.unwrap_err().error, RefusalCode::PolicyUnfit);
    let load = LoadCandidate { files: other.clone(), shadow: false, reason: None };
    let loaded = server.admin().await.load_candidate(&load).await.unwrap();
    assert_eq!(loaded.unwrap_err().error, RefusalCode::PolicyUnfit);
    assert_eq!(lifetime(&server).await, 60);
    take_away(&server, "bounds").await.unwrap();
    assert_eq!(try_apply(&server, other).await.unwrap().policy, tight.policy);
    assert_eq!(lifetime(&server).await, 90);
}

#[tokio::test]
async fn a_bundle_without_a_schema_goes_by_its_own_and_can_always_be_gone_back_to() {
    let server = Server::start().await;
    let plain = try_apply(&server, bundle(&[])).await.unwrap();
    try_apply(&server, bundle(&DECLARED)).await.unwrap();
    put(&server, "bounds", r#"{"most": 60}"#).await;
    let back = server.admin().await.roll_back_policy(&RollbackPolicy::default()).await.unwrap().unwrap();
    assert_eq!(back.policy, plain.policy);
    let answer = ask(&server).await;
    assert_eq!(answer.body["expires_in"], 90);
    let told = server.decision(&answer).await;
    assert!(
        told.leaf["data"].is_string() && told.record["data"]["documents"] == json!({}),
        "{}",
        told.record
    );
    let status = list(&server).await;
    assert!(!status.documents[0].used && status.declared.is_empty(), "{status:?}");
    assert_eq!(
        try_put(&server, "bounds", r#"{"most": 50}"#).await.unwrap_err().error,
        RefusalCode::DataRefused
    );
    server.admin().await.roll_back_policy(&RollbackPolicy::default()).await.unwrap().unwrap();
    assert_eq!(lifetime(&server).await, 60, "what was put is in force again with its bundle");
}

#[tokio::test]
async fn documents_last_over_a_restart_and_damaged_ones_are_not_assumed() {
    let server = start().await;
    put(&server, "bounds", r#"{"most": 60}"#).await;
    let server = server.restart().await;
    assert_eq!(lifetime(&server).await, 60);
    let changed = put(&server, "bounds", r#"{"most": 50}"#).await;
    assert_eq!(lifetime(&server).await, 50);
    // Past the server: it has them in memory, and a start finds that they are other ones.
    server.sql("UPDATE policy_data SET content = '{\"most\":3600}' WHERE path = 'bounds'").await;
    assert_eq!(lifetime(&server).await, 50);
    assert!(changed.version.is_some());
    let refused = show(&server, "bounds", None).await.unwrap_err();
    assert!(refused.message.contains("its content is another"), "{}", refused.message);
}

#[tokio::test]
async fn a_candidate_takes_the_documents_that_it_declares_and_one_that_cannot_fails() {
    let server = Server::start().await;
    try_apply(&server, bundle(&[])).await.unwrap();
    let load = LoadCandidate { files: bundle(&DECLARED), shadow: false, reason: None };
    let loaded = server.admin().await.load_candidate(&load).await.unwrap().unwrap();
    // Only the candidate declares it: it may be put, and only the candidate takes it.
    put(&server, "bounds", r#"{"most": 30}"#).await;
    let answer = ask(&server).await;
    assert_eq!(answer.body["expires_in"], 90);
    let told = server.decision(&answer).await;
    assert_eq!(told.record["candidate"]["disagrees"], "narrower");
    // Which documents there were is told all the same: a replay of the candidate goes by them.
    assert!(
        told.leaf["data"].is_string() && told.record["data"]["documents"] == json!({}),
        "{}",
        told.record
    );
    let until = DateTime::from_timestamp(server.now() + 60, 0).unwrap();
    let (base, since, tenant, task_type) = (None, None, None, None);
    let candidate = Source::Version(loaded.candidate.unwrap().version);
    let order = Order { base, candidate, since, until, tenant, task_type, examples: 1 };
    let told = replay(&server.store, &order).await.unwrap().tally;
    assert_eq!((told.replayed, told.changed), (1, 1), "{told:?}");
    let status = async || server.admin().await.policy().await.unwrap().unwrap().candidate.unwrap();
    assert_eq!(status().await.problem, None);
    // A bundle in force that takes another document than the candidate can: the candidate is what fails.
    let loose = [("sent/schemas/bounds.json", "{}")];
    take_away(&server, "bounds").await.unwrap();
    try_apply(&server, bundle(&loose)).await.unwrap();
    put(&server, "bounds", r#"{"most": 45, "more": true}"#).await;
    assert_eq!(status().await.problem, None);
    put(&server, "bounds", r#"{"most": 0}"#).await;
    let told = status().await.problem.unwrap();
    assert!(told.contains("`bounds`") && told.contains("schemas/bounds.json"), "{told}");
    let answer = ask(&server).await;
    assert_eq!(server.decision(&answer).await.record["candidate"]["disagrees"], "fault");
    put(&server, "bounds", r#"{"most": 20}"#).await;
    assert_eq!((status().await.problem, lifetime(&server).await), (None, 20));
}

#[tokio::test]
async fn a_decision_that_no_policy_was_asked_about_names_the_documents_of_then_too() {
    let server = start().await;
    let data = put(&server, "bounds", r#"{"most": 60}"#).await.data;
    let order = ModeOrder { mode: Mode::Off, lasts: Some(600), reason: "locked out".to_owned() };
    server.admin().await.set_policy_mode(&order).await.unwrap().unwrap();
    let answer = ask(&server).await;
    answer.token();
    let told = server.decision(&answer).await;
    assert_eq!((&told.leaf["mode"], &told.leaf["data"]), (&json!("off"), &json!(data)));
    assert_eq!(told.record["data"]["version"], json!(data));
}

#[tokio::test]
async fn no_document_is_taken_that_would_stop_a_candidate_that_bites_and_no_stopped_one_gets_to_bite() {
    let server = start().await;
    let tight = r#"{"type": "object", "properties": {"most": {"type": "integer", "minimum": 80}}}"#;
    let files = bundle(&[DECLARED[1], ("sent/schemas/bounds.json", tight)]);
    let load = LoadCandidate { files, shadow: false, reason: None };
    server.admin().await.load_candidate(&load).await.unwrap().unwrap();
    let canary = async |percent| {
        let order = CanaryOrder { percent, ..CanaryOrder::default() };
        server.admin().await.set_canary(&order).await.unwrap()
    };
    canary(100).await.unwrap();
    let refused = try_put(&server, "bounds", r#"{"most": 60}"#).await.unwrap_err();
    assert_eq!(refused.error, RefusalCode::DataRefused);
    assert!(refused.message.contains("`bounds`"), "{}", refused.message);
    assert_eq!(lifetime(&server).await, 90);
    put(&server, "bounds", r#"{"most": 85}"#).await;
    assert_eq!(lifetime(&server).await, 85);
    // A shadow may fail: then it does not get to bite.
    canary(0).await.unwrap();
    put(&server, "bounds", r#"{"most": 60}"#).await;
    let refused = canary(100).await.unwrap_err();
    assert_eq!(refused.error, RefusalCode::PolicyUnfit);
    assert!(refused.message.contains("`bounds`"), "{}", refused.message);
    assert_eq!(lifetime(&server).await, 60);
}

#[tokio::test]
async fn folders_that_do_not_fit_the_documents_in_force_do_not_keep_a_server_from_starting() {
    let site = tempfile::tempdir().unwrap();
    let folder = site.path().join("sent");
    write(site.path(), bundle(&DECLARED));
    let toml = format!("[policy]\nbundles = ['{}']", folder.display());
    let server = Server::start_with(&toml).await;
    put(&server, "bounds", r#"{"most": 60}"#).await;
    let tight = r#"{"type": "object", "properties": {"most": {"type": "integer", "minimum": 80}}}"#;
    write(site.path(), bundle(&[("sent/schemas/bounds.json", tight)]));
    let server = server.restart_with(&toml).await;
    assert_eq!(lifetime(&server).await, 60, "the bundle in force goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_document_is_taken_and_one_that_is_too_large_is_refused_with_figures() {
    let server = start().await;
    // Names of 10 MB, and the last of them.
    let long = (0..10_000).map(|n| format!("{n:05}{}", "x".repeat(1000)));
    let people: Vec<String> = long.chain(["mallory".to_owned()]).collect();
    let text = json!(people).to_string();
    assert!(text.len() > 10_000_000);
    let began = Instant::now();
    let putting = put(&server, "people.blocked", &text);
    let asking = async {
        let mut longest = Duration::ZERO;
        while began.elapsed() < Duration::from_secs(2) {
            let asked = Instant::now();
            ask(&server).await.token();
            longest = longest.max(asked.elapsed());
        }
        longest
    };
    let (changed, longest) = tokio::join!(putting, asking);
    assert!(began.elapsed() < PATIENCE && longest < PATIENCE, "{longest:?}");
    assert_eq!(server.decision(&ask(&server).await).await.leaf["data"], json!(changed.data));
    let session = server.session(json!({"sub": "mallory", "sid": "sid-mallory"}));
    let blocked = server.exchange("support-agent", &session, &ROOT).await;
    blocked.refused(400, "invalid_request", "policy_denied");
    let most = json!(["x".repeat(MOST_BYTES)]).to_string();
    let refused = try_put(&server, "people.blocked", &most).await.unwrap_err();
    assert_eq!(refused.error, RefusalCode::DataRefused);
    assert!(refused.message.contains(&MOST_BYTES.to_string()), "{}", refused.message);
}

/// Where a decision stands in the log, how long its token may live, and which document it had.
async fn placed(server: &Server, id: DecisionId) -> (i64, Value) {
    let stored = server.store.decision(id).await.unwrap().unwrap();
    (stored.index, serde_json::from_slice::<Value>(&stored.record.unwrap()).unwrap()["data"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_of_puts_each_token_is_decided_by_the_documents_in_force_at_its_commit() {
    let server = Arc::new(start().await);
    let first = put(&server, "bounds", r#"{"most": 30}"#).await;
    let mut asking = JoinSet::new();
    for _ in 0..3 {
        let server = server.clone();
        asking.spawn(async move {
            let mut seen = Vec::new();
            while seen.len() < 20 {
                let answer = ask(&server).await;
                if answer.status == 503 {
                    // Overtaken by one change after the other: nothing is issued, and that is said.
                    assert_eq!(answer.body["reason_code"], "not_recorded");
                    continue;
                }
                let claims = claims(&answer.token());
                let lives = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
                let id: DecisionId = answer.body["decision_id"].as_str().unwrap().parse().unwrap();
                seen.push((id, lives));
            }
            seen
        });
    }
    let mut versions = vec![(first, 30)];
    for most in 31..=50 {
        versions.push((put(&server, "bounds", &json!({"most": most}).to_string()).await, most));
        // Gives the others time between two changes.
        ask(&server).await;
    }
    let mut by_place = BTreeMap::new();
    for (changed, most) in versions {
        by_place.insert(placed(&server, changed.decision_id.unwrap()).await.0, (changed, most));
    }
    while let Some(seen) = asking.join_next().await {
        for (id, lives) in seen.unwrap() {
            let (index, data) = placed(&server, id).await;
            let (_, (changed, most)) = by_place.range(..index).next_back().unwrap();
            assert_eq!(lives, *most, "decision {index}");
            assert_eq!(data["documents"]["bounds"], json!(changed.version));
            assert_eq!(data["version"], json!(changed.data));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_have_the_same_documents() {
    let Some([one, two]) = replicas::two().await else { return };
    try_apply(&one, bundle(&DECLARED)).await.unwrap();
    let changed = put(&one, "bounds", r#"{"most": 60}"#).await;
    // A token is never issued by what was.
    assert_eq!(lifetime(&two).await, 60);
    let answer = ask(&two).await;
    assert_eq!(two.decision(&answer).await.leaf["data"], json!(changed.data));
    // Both put at once: none is lost.
    let (one_put, two_put) = tokio::join!(
        try_put(&one, "bounds", r#"{"most": 40}"#),
        try_put(&two, "people.blocked", r#"["bob"]"#)
    );
    assert!(one_put.is_ok() && two_put.is_ok(), "{one_put:?} {two_put:?}");
    for server in [&one, &two] {
        assert_eq!(lifetime(server).await, 40);
        let session = server.session(json!({"sub": "bob", "sid": "sid-bob"}));
        server.exchange("support-agent", &session, &ROOT).await.refused(
            400,
            "invalid_request",
            "policy_denied",
        );
        soon(async || list(server).await.documents.len() == 2).await;
    }
    let three = one.replica(&replicas::keys_of(&one)).await.unwrap();
    assert_eq!(lifetime(&three).await, 40);
}

fn write(folder: &Path, files: Vec<BundleFile>) {
    for BundleFile { path, text } in files {
        let file = folder.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_puts_shows_and_drops_and_replay_decides_by_the_documents_of_then() {
    let site = Site::new().await;
    let rules = site.path("sent");
    write(&site.path(""), bundle(&DECLARED));
    site.configure("[policy]\nbundles = ['sent']");
    let process = site.start().await;
    site.apply().await;
    let told = async |status: i32, args: &[&str], parts: &[&str]| {
        let (exit, told) = site.told(&[&["policy"], args].concat()).await;
        assert_eq!(exit, status, "{args:?}: {told}");
        for part in parts {
            assert!(told.contains(part), "{args:?}: no `{part}` in {told}");
        }
    };
    let (file, folder) = (site.path("bounds.json").display().to_string(), rules.display().to_string());
    let agent = ("support-agent", &*secret("support-agent"));
    let claims = json!({"org_id": "acme", "groups": ["support"]});
    told(0, &["data", "list"], &["all data: the bundle's own", "data.bounds, data.people.blocked"]).await;
    for most in [60, 40] {
        fs::write(&file, json!({"most": most}).to_string()).unwrap();
        told(
            0,
            &["data", "put", "bounds", &file, "--reason", "feed"],
            &["data.bounds: sha256:", "all data: sha256:"],
        )
        .await;
        let exchanged = site.start_task(agent, claims.clone(), &ROOT).await;
        assert_eq!(exchanged["expires_in"], most);
    }
    told(0, &["data", "put", "bounds", &file], &["nothing to change"]).await;
    told(0, &["data", "list"], &["data.bounds  sha256:", "11 bytes"]).await;
    told(0, &["data", "show", "bounds"], &["40"]).await;
    told(2, &["data", "put", "a/b", &file], &["teams.eu"]).await;
    told(1, &["data", "put", "elsewhere", &file], &["schemas/elsewhere.json"]).await;
    told(0, &["data", "drop", "bounds", "--reason", "enough"], &["data.bounds: the bundle's own"]).await;
    let exchanged = site.start_task(agent, claims, &ROOT).await;
    assert_eq!(exchanged["expires_in"], 90);
    // Each with the documents of its own decision: nothing would end otherwise.
    told(
        0,
        &["replay", "--candidate", &folder],
        &["3 decided again", "1 of these with the documents sha256:", "otherwise: 0"],
    )
    .await;
    // A candidate that takes no documents goes by its own.
    let other = site.path("other/sent");
    write(&site.path("other"), bundle(&[]));
    let folder = other.display().to_string();
    told(1, &["replay", "--candidate", &folder], &["3 decided again", "otherwise: 2", "wider: 2"]).await;
    // One whose schema refuses one of them says so.
    fs::create_dir_all(other.join("schemas")).unwrap();
    let tight = r#"{"properties": {"most": {"minimum": 50}}}"#;
    fs::write(other.join("schemas/bounds.json"), tight).unwrap();
    told(2, &["replay", "--candidate", &folder], &["1 data_unfit", "2 decided again"]).await;
    assert_eq!(process.terminate().await.code(), Some(0), "{}", site.log());
    told(0, &["data", "put", "bounds", &file], &["data.bounds: sha256:"]).await;
    told(0, &["data", "list", "bounds"], &["sha256:"]).await;
}
