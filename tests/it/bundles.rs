//! Another policy bundle in place of the one in force: from folders, from an admin, and back (DESIGN §6).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskgrant::admin::api::RefusalCode;
use taskgrant::admin::policy::{ApplyPolicy, RollbackPolicy};
use taskgrant::configuration::apply::policy::{BundleFile, PolicyStatus};
use taskgrant::domain::ids::DecisionId;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::idp::Idp;
use crate::support::process::Site;
use crate::support::replicas;
use crate::support::server::{Answer, ORDERS, Server};

const STARTER: &str = include_str!("../../policies/base/ceilings.rego");
const ROOT: [(&str, &str); 2] = [("task_type", "refund_order"), ("resource", ORDERS)];
/// Far more than any bound of ours: tests share their machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A rule that denies everything for a reason of this code.
fn deny(code: &str) -> String {
    format!("deny contains {{\"code\": \"{code}\", \"message\": \"m\", \"public\": true}}")
}

/// A folder of rules that a test edits.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::create_dir(folder.path()).unwrap();
        folder.write("");
        folder
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("rules")
    }

    /// Makes it hold the starter and `rules`.
    fn write(&self, rules: &str) {
        fs::write(self.path().join("rules.rego"), format!("{STARTER}\n{rules}\n")).unwrap();
    }

    fn toml(&self) -> String {
        format!("[policy]\nbundles = ['{}']", self.path().display())
    }

    async fn server(&self) -> Server {
        Server::start_with(&self.toml()).await
    }
}

/// A bundle as an admin sends it.
fn bundle(rules: &str) -> ApplyPolicy {
    let (path, text) = ("sent/rules.rego".to_owned(), format!("{STARTER}\n{rules}\n"));
    ApplyPolicy { files: vec![BundleFile { path, text }] }
}

async fn ask(server: &Server) -> Answer {
    server.exchange("support-agent", &server.session(json!({})), &ROOT).await
}

/// The code of the first public reason for which policy denies now; none where it allows.
async fn denied(server: &Server) -> Option<String> {
    let answer = ask(server).await;
    if answer.status == 200 {
        return None;
    }
    answer.refused(400, "invalid_request", "policy_denied");
    Some(answer.body["reasons"][0]["code"].as_str().unwrap().to_owned())
}

async fn status(server: &Server) -> PolicyStatus {
    server.admin().await.policy().await.unwrap().unwrap()
}

async fn soon(what: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !what().await {
        assert!(began.elapsed() < PATIENCE, "it does not happen");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_edited_folder_decides_without_a_restart_and_rollback_takes_it_back() {
    let folder = Folder::new();
    let server = folder.server().await;
    assert_eq!(denied(&server).await, None);
    let first = status(&server).await;
    folder.write(&deny("edited"));
    let changed = server.admin().await.reload_policy().await.unwrap().unwrap();
    assert_eq!(changed.before, first.policy);
    assert_eq!(denied(&server).await.as_deref(), Some("edited"));
    let recorded = server.decision_of(changed.decision_id.unwrap()).await;
    assert_eq!((&recorded.leaf["kind"], &recorded.leaf["policy"]), (&json!("admin"), &json!(changed.policy)));
    assert_eq!(recorded.record["asked"]["before"], json!(first.policy));
    let again = server.admin().await.reload_policy().await.unwrap().unwrap();
    assert_eq!((again.policy, again.decision_id), (changed.policy.clone(), None), "nothing has changed");

    let admin = server.admin().await;
    let back = admin.roll_back_policy(&RollbackPolicy::default()).await.unwrap().unwrap();
    assert_eq!(Some(back.policy), first.policy);
    assert_eq!(denied(&server).await, None);
    // The folder still holds the other one, and has not changed since: nothing brings that back but a change, or an admin.
    assert_eq!(admin.reload_policy().await.unwrap().unwrap().decision_id, None);
    assert_eq!(denied(&server).await, None);
    let listed: Vec<String> = status(&server).await.bundles.into_iter().map(|kept| kept.version).collect();
    assert_eq!(listed, [changed.policy.clone(), first.policy.unwrap()]);
    let named = RollbackPolicy { version: Some(changed.policy["sha256:".len()..][..12].to_owned()) };
    admin.roll_back_policy(&named).await.unwrap().unwrap();
    assert_eq!(denied(&server).await.as_deref(), Some("edited"));
}

#[tokio::test]
async fn a_change_of_the_folder_is_taken_by_itself() {
    let folder = Folder::new();
    let server = folder.server().await;
    folder.write("this is no Rego");
    soon(async || status(&server).await.refused.is_some()).await;
    assert_eq!(denied(&server).await, None);
    folder.write(&deny("watched"));
    soon(async || denied(&server).await.as_deref() == Some("watched")).await;
    assert_eq!(status(&server).await.refused, None);
}

#[tokio::test]
async fn a_bundle_that_is_not_fit_leaves_the_old_one_and_says_where() {
    let folder = Folder::new();
    let server = folder.server().await;
    let before = status(&server).await.policy;
    let admin = server.admin().await;
    let failing = BundleFile {
        path: "sent/rules_test.rego".to_owned(),
        text: "package taskgrant.exchange_test.sent\n\nimport rego.v1\n\ntest_of_mine if 1 == 2\n".to_owned(),
    };
    let with_test = ApplyPolicy { files: [bundle("").files, vec![failing]].concat() };
    for (request, where_) in [
        (bundle("deny contains {"), "sent/rules.rego:"),
        (with_test, "sent/rules_test.rego:5:1: test `test_of_mine`"),
    ] {
        let refused = admin.apply_policy(&request).await.unwrap().unwrap_err();
        assert_eq!(refused.error, RefusalCode::PolicyUnfit);
        assert!(refused.message.contains(where_), "{}", refused.message);
        let told = status(&server).await;
        assert!(told.refused.unwrap().problem.contains(where_));
        assert_eq!((told.policy, told.serving), (before.clone(), before.clone()));
        assert_eq!(denied(&server).await, None);
    }
    let (outside, nothing) = ("x.rego".to_owned(), String::new());
    let outside = ApplyPolicy { files: vec![BundleFile { path: outside, text: nothing }] };
    let refused = admin.apply_policy(&outside).await.unwrap().unwrap_err();
    assert!(refused.message.contains("`x.rego`"), "{}", refused.message);
    // One that is fit ends the complaint, also where it changes nothing.
    admin.apply_policy(&bundle("")).await.unwrap().unwrap();
    assert_eq!(status(&server).await.refused, None);
}

#[tokio::test]
async fn a_restart_keeps_what_an_admin_put_in_force_unless_the_folder_has_changed() {
    let folder = Folder::new();
    let server = folder.server().await;
    let (data, idp) = (server.data.clone(), Idp::start().await);
    let sent = server.admin().await.apply_policy(&bundle(&deny("sent"))).await.unwrap().unwrap();
    server.stop().await;
    let server = Server::start_in(data.clone(), idp, &folder.toml()).await;
    assert_eq!(status(&server).await.serving, Some(sent.policy));
    assert_eq!(denied(&server).await.as_deref(), Some("sent"));
    server.stop().await;
    folder.write(&deny("edited"));
    let server = Server::start_in(data, Idp::start().await, &folder.toml()).await;
    assert_eq!(denied(&server).await.as_deref(), Some("edited"));
}

#[tokio::test]
async fn a_start_without_folders_keeps_what_an_admin_put_in_force() {
    let folder = Folder::new();
    let server = folder.server().await;
    let data = server.data.clone();
    server.admin().await.apply_policy(&bundle(&deny("sent"))).await.unwrap().unwrap();
    server.stop().await;
    // The starter that a program brings was never in force here, as after an upgrade.
    let server = Server::start_in(data, Idp::start().await, "").await;
    assert_eq!(denied(&server).await.as_deref(), Some("sent"));
    assert_eq!(server.admin().await.reload_policy().await.unwrap().unwrap().decision_id, None);
    assert_eq!(denied(&server).await.as_deref(), Some("sent"));
}

/// Where the log has the decision `id`, and by which bundle it was made.
async fn placed(server: &Server, id: DecisionId) -> (i64, String) {
    let stored = server.store.decision(id).await.unwrap().unwrap();
    let leaf: Value = serde_json::from_slice(&stored.leaf).unwrap();
    (stored.index, leaf["policy"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_a_storm_of_changes_no_exchange_is_lost_and_each_is_decided_by_the_bundle_in_force() {
    let folder = Folder::new();
    let server = Arc::new(folder.server().await);
    let mut asking = JoinSet::new();
    for _ in 0..4 {
        let server = server.clone();
        asking.spawn(async move {
            let mut decided = Vec::new();
            for _ in 0..25 {
                let answer = ask(&server).await;
                assert_eq!(answer.status, 200, "{answer:?}");
                let id = answer.body["decision_id"].as_str().unwrap().parse().unwrap();
                decided.push((placed(&server, id).await, answer.body["expires_in"].clone()));
            }
            decided
        });
    }
    let (admin, first) = (server.admin().await, status(&server).await.policy.unwrap());
    let mut rule = BTreeMap::from([(0, (first, None))]);
    for lifetime in [20, 30].into_iter().cycle().take(30) {
        // Two rules that only together give what is expected: half of a bundle would show.
        let rules =
            format!("limits contains {{\"lifetime\": {lifetime}}} if half == {lifetime}\nhalf := {lifetime}");
        let changed = admin.apply_policy(&bundle(&rules)).await.unwrap().unwrap();
        let (idx, policy) = placed(&server, changed.decision_id.unwrap()).await;
        rule.insert(idx, (policy, Some(json!(lifetime))));
        // An exchange that four changes overtake, one after the other, is answered 503: the others get time between two.
        ask(&server).await;
    }
    while let Some(decided) = asking.join_next().await {
        for ((idx, policy), expires_in) in decided.unwrap() {
            let (_, (in_force, lifetime)) = rule.range(..idx).next_back().unwrap();
            assert_eq!(*in_force, policy, "decision {idx}");
            assert!(
                lifetime.as_ref().is_none_or(|lifetime| *lifetime == expires_in),
                "{policy}: {expires_in}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_changes_the_policy_with_and_without_a_server_and_sighup_reads_the_folders() {
    let (site, folder) = (Site::new().await, Folder::new());
    site.configure(&folder.toml());
    let process = site.start().await;
    let in_force = async || {
        let (code, told) = site.told(&["policy", "status", "--json"]).await;
        assert!(code == 0 || code == 1, "{told}");
        serde_json::from_str::<Value>(&told).unwrap()["policy"].as_str().unwrap().to_owned()
    };
    let first = in_force().await;
    folder.write(&deny("edited"));
    process.hang_up();
    soon(async || in_force().await != first).await;
    let edited = in_force().await;
    let (code, told) = site.told(&["policy", "rollback"]).await;
    assert!(code == 0 && told.contains(&first), "{told}");
    let (_, told) = site.told(&["policy", "show", &edited, "--file", "rules/rules.rego"]).await;
    assert!(told.contains("edited") && !told.contains("==="), "{told}");
    fs::write(folder.path().join("broken.rego"), "package taskgrant.exchange\n\nallow if {").unwrap();
    let path = folder.path().display().to_string();
    let (code, told) = site.told(&["policy", "apply", &path]).await;
    assert!(code == 1 && told.contains("rules/broken.rego:3:"), "{told}");
    fs::remove_file(folder.path().join("broken.rego")).unwrap();
    assert_eq!(process.terminate().await.code(), Some(0), "{}", site.log());

    assert_eq!(in_force().await, first);
    let (code, told) = site.told(&["policy", "apply", &path]).await;
    assert!(code == 0 && told.contains(&edited) && told.contains("decision"), "{told}");
    let (code, told) = site.told(&["policy", "rollback", "sha256:0000000000"]).await;
    assert!(code == 1 && told.contains("policy status"), "{told}");
    let (code, told) = site.told(&["policy", "show", "../objects"]).await;
    assert!(code == 2 && told.contains("no version"), "{told}");
    let (_, told) = site.told(&["policy", "status"]).await;
    assert!(
        told.contains(&format!("in force:    {edited}")) && told.contains(&format!("before:      {first}")),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_decide_by_one_bundle_and_old_folders_take_nothing_back() {
    let (old, new) = (Folder::new(), Folder::new());
    new.write(&deny("new"));
    let Some(one) = replicas::first(&old.toml()).await else { return };
    let keys = replicas::keys_of(&one);
    assert_eq!(denied(&one).await, None);
    // A rollout: the first replica with the new folder has all decide by it.
    let two = one.replica(&format!("{}\n{keys}", new.toml())).await.unwrap();
    assert_eq!(denied(&two).await.as_deref(), Some("new"));
    assert_eq!(denied(&one).await.as_deref(), Some("new"), "at once: the commit sees to it");
    assert_eq!(status(&one).await.serving, status(&two).await.serving);
    // One that starts late, or again, with the old folder takes nothing back; nor does a reload there.
    let three = one.replica(&format!("{}\n{keys}", old.toml())).await.unwrap();
    assert_eq!(denied(&three).await.as_deref(), Some("new"));
    let stale = three.admin().await.reload_policy().await.unwrap().unwrap_err();
    assert_eq!(stale.error, RefusalCode::Conflict);
    assert!(stale.message.contains("policy rollback"), "{}", stale.message);
    assert_eq!(status(&three).await.refused.map(|refused| refused.problem), Some(stale.message));
    three.admin().await.roll_back_policy(&RollbackPolicy::default()).await.unwrap().unwrap();
    // A refusal may come a moment late, by the bundle that was; a token never does.
    for server in [&one, &two, &three] {
        soon(async || denied(server).await.is_none()).await;
    }
}
