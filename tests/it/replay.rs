//! `taskgrant policy replay` and `diff`: the log decided again by another bundle (DESIGN §6), over the real binary.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use taskgrant::policy::input::PolicyInput;

use crate::support::database;
use crate::support::postgres::Scratch;
use crate::support::process::{Process, Site};
use crate::support::server::{MAIL, ORDERS, secret};

const STARTER: &str = include_str!("../../policies/base/ceilings.rego");

/// One rule of each kind, one that fails on an input, one that asks what the agent claims.
const RULES: &str = r#"
deny contains {"code": "no_refunds_for_bob", "message": "not bob", "public": true} if {
	input.principal.sub == "bob"
	"refunds:write" in input.requested.scopes
}

require_approval contains {"code": "big_refund", "message": "a person looks", "public": true} if {
	input.principal.sub == "grace"
	some detail in input.requested.authorization_details
	detail.amount > 100
}

limits contains {"lifetime": 60} if input.actor.class == "worker"

limits contains {"scopes": ["orders:read"]} if input.principal.sub == "carol"

limits contains {"lifetime": "soon"} if input.principal.sub == "mallory"

deny contains {"code": "says_risky", "message": "it says so", "public": true} if input.claimed.risky

deny contains {"code": "unsafe", "message": "say that it is safe", "public": false} if {
	input.principal.sub == "dave"
	not input.claimed.safe
}

tags contains "refund" if "refunds:write" in input.requested.scopes
"#;

/// The same with every kind of change.
fn changed() -> String {
    let rules = [
        // Alice's refunds are denied, bob's are not; approval from 1000 on.
        (r#"input.principal.sub == "bob""#, r#"input.principal.sub == "alice""#),
        ("detail.amount > 100", "detail.amount > 1000"),
        // Workers live shorter, carol gets all, and dave is denied for another reason.
        (r#"{"lifetime": 60}"#, r#"{"lifetime": 30}"#),
        (r#"input.principal.sub == "carol""#, r#"input.principal.sub == "nobody""#),
        (r#""code": "unsafe""#, r#""code": "unsafer""#),
    ];
    rules.iter().fold(RULES.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    })
}

fn write(folder: &Path, rules: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("rules.rego"), format!("{STARTER}\n{rules}\n")).unwrap();
}

/// A site whose policy is `rules`, with a server on it.
async fn serve(site: &Site, rules: &str) -> Process {
    write(&site.path("rules"), rules);
    site.configure("[policy]\nbundles = ['rules']\n[limits]\ntoken_children = 1");
    let process = site.start().await;
    site.apply().await;
    process
}

/// Exchanges of every end, and the ids of their decisions by name.
struct Corpus(BTreeMap<&'static str, String>);

impl Corpus {
    async fn record(site: &Site) -> Self {
        let mut corpus = Self(BTreeMap::new());
        let refund = ("scope", "orders:read refunds:write");
        let (read, task) = (("resource", ORDERS), ("task_type", "refund_order"));
        let details = |amount: u32| {
            json!([{"type": "tool_call", "tools": ["refund_order"], "amount": amount}]).to_string()
        };
        let (small, big) = (details(50), details(200));
        let root = corpus.root(site, "allowed", "alice", &[task, read]).await;
        corpus.root(site, "refund", "alice", &[task, read, refund]).await;
        corpus.root(site, "dry", "alice", &[task, read, refund, ("dry_run", "true")]).await;
        corpus.root(site, "bob", "bob", &[task, read, refund]).await;
        corpus.root(site, "small", "grace", &[task, read, ("authorization_details", &small)]).await;
        corpus.root(site, "big", "grace", &[task, read, ("authorization_details", &big)]).await;
        corpus.root(site, "carol", "carol", &[task, read, refund]).await;
        corpus.root(site, "mallory", "mallory", &[task, read]).await;
        corpus.root(site, "risky", "erin", &[task, read, ("claimed", r#"{"risky": true}"#)]).await;
        corpus.root(site, "unsafe", "dave", &[task, read, ("claimed", r#"{"safe": true}"#)]).await;
        corpus
            .root(site, "always", "erin", &[("task_type", "close_account"), ("scope", "refunds:write")])
            .await;
        // Denied, where the task type itself would have asked for approval.
        corpus
            .root(site, "always_bob", "bob", &[("task_type", "close_account"), ("scope", "refunds:write")])
            .await;
        corpus.root(site, "over", "erin", &[task, read, ("scope", "reports:export")]).await;
        corpus.root(site, "mail", "erin", &[task, ("resource", MAIL), ("scope", "mail:send")]).await;
        corpus.root(site, "export", "erin", &[("task_type", "export_reports")]).await;
        corpus.child(site, "worker", "worker-agent", &root).await;
        // One child is as many as a token may have here: the commit refuses.
        corpus.child(site, "second", "worker-agent", &root).await;
        corpus
    }

    async fn root(&mut self, site: &Site, name: &'static str, sub: &str, form: &[(&str, &str)]) -> String {
        let claims = json!({"sub": sub, "org_id": "acme", "groups": ["support"]});
        let answer = site.start_task(("support-agent", &secret("support-agent")), claims, form).await;
        self.keep(name, &answer)
    }

    async fn child(&mut self, site: &Site, name: &'static str, agent: &str, parent: &str) {
        let answer = site.exchange_session((agent, &secret(agent)), parent, &[("resource", ORDERS)]).await;
        assert!(name == "second" || answer["access_token"].is_string(), "{name}: {answer}");
        self.keep(name, &answer);
    }

    fn keep(&mut self, name: &'static str, answer: &Value) -> String {
        let id = answer["decision_id"].as_str().unwrap_or_else(|| panic!("{name}: {answer}"));
        self.0.insert(name, id.to_owned());
        answer["access_token"].as_str().unwrap_or_default().to_owned()
    }

    fn id(&self, name: &str) -> &str {
        &self.0[name]
    }

    /// The names of the decisions that a report shows below each kind of change.
    fn named(&self, report: &Value) -> BTreeMap<String, BTreeSet<&str>> {
        let name = |id: &Value| {
            let found = self.0.iter().find(|(_, known)| *id == **known);
            *found.unwrap_or_else(|| panic!("{id} is none of ours")).0
        };
        let names = |change: &Value| {
            let examples = change["examples"].as_array().unwrap();
            assert_eq!(change["count"], json!(examples.len()));
            examples.iter().map(|one| name(&one["decision_id"])).collect()
        };
        report["changes"].as_object().unwrap().iter().map(|(kind, c)| (kind.clone(), names(c))).collect()
    }
}

/// What the command tells as JSON, and its exit status.
async fn report(site: &Site, args: &[&str]) -> (i32, Value) {
    let output = site.run(&[args, &["--json", "--examples", "100"]].concat()).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let report = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{:?}", output.stderr));
    (output.status.code().unwrap(), report)
}

fn expected(kinds: &[(&str, &[&'static str])]) -> BTreeMap<String, BTreeSet<&'static str>> {
    kinds.iter().map(|(kind, names)| ((*kind).to_owned(), names.iter().copied().collect())).collect()
}

async fn the_changed_ones_and_no_others(site: &Site) {
    let process = serve(site, RULES).await;
    let corpus = Corpus::record(site).await;
    let replay = ["policy", "replay", "--candidate", "rules"];
    let (code, same) = report(site, &replay).await;
    assert_eq!((code, &same["changed"], &same["changes"]), (0, &json!(0), &json!({})), "{same:#}");
    assert_eq!((&same["recorded"], &same["replayed"]), (&json!(17), &json!(16)), "{same:#}");
    assert_eq!(same["refused_elsewhere"], 1, "the second child");
    let over = json!({"before_policy": {"count": 1, "examples": [corpus.id("over")]}});
    assert_eq!(same["skipped"], over);

    write(&site.path("new/rules"), &changed());
    let (code, told) = report(site, &["policy", "replay", "--candidate", "new/rules"]).await;
    let kinds = expected(&[
        ("allow_to_deny", &["refund", "dry"]),
        ("approval_to_allow", &["big"]),
        ("deny_to_allow", &["bob"]),
        ("deny_to_approval", &["always_bob"]),
        ("narrower", &["worker"]),
        ("wider", &["carol"]),
        ("reasons", &["unsafe"]),
    ]);
    assert_eq!((code, corpus.named(&told)), (1, kinds.clone()), "{told:#}");
    assert_eq!(told["changed"], 8);
    assert_eq!(told["reasons_new"], json!({"no_refunds_for_bob": 2, "task_type_approval": 1, "unsafer": 1}));
    assert_eq!(told["reasons_gone"], json!({"big_refund": 1, "no_refunds_for_bob": 2, "unsafe": 1}));
    assert_eq!(told["task_types"], json!({"close_account": 1, "refund_order": 7}));
    assert_eq!(told["agents"], json!({"support-agent": 7, "worker-agent": 1}));
    let worker = &told["changes"]["narrower"]["examples"][0];
    assert_eq!((&worker["before"]["lifetime"], &worker["after"]["lifetime"]), (&json!(60), &json!(30)));
    let carol = &told["changes"]["wider"]["examples"][0];
    assert_eq!(carol["after"]["scopes"], json!(["orders:read", "refunds:write"]));

    let (code, words) = site.told(&["policy", "replay", "--candidate", "new/rules", "--examples", "1"]).await;
    assert!(code == 1 && words.contains("allow_to_deny: 2") && words.contains(corpus.id("dry")), "{words}");
    assert!(!words.contains(corpus.id("refund")), "one example is asked for, the newest: {words}");
    the_filters(site).await;

    // In force, the other bundle is one that `diff` can name; the corpus is still that of the first.
    let first = same["candidate"].as_str().unwrap();
    let (code, applied) = site.told(&["policy", "apply", "new/rules"]).await;
    assert_eq!(code, 0, "{applied}");
    let second = told["candidate"].as_str().unwrap();
    let (code, diff) = report(site, &["policy", "diff", first, &second["sha256:".len()..][..12]]).await;
    assert_eq!((code, corpus.named(&diff)), (1, kinds), "{diff:#}");
    assert_eq!((&diff["base"], &diff["candidate"]), (&json!(first), &json!(second)));
    let (code, diff) = report(site, &["policy", "diff", first, "rules"]).await;
    assert_eq!((code, &diff["changed"]), (0, &json!(0)), "{diff:#}");
    assert_eq!(process.terminate().await.code(), Some(0), "{}", site.log());

    // Without a server too: of the same decisions the same is told.
    let (code, alone) = report(site, &["policy", "replay", "--candidate", "new/rules"]).await;
    assert_eq!((code, alone), (1, told));
}

/// Each filter takes its part of the log.
async fn the_filters(site: &Site) {
    let replay = ["policy", "replay", "--candidate", "rules"];
    for (filter, recorded) in [
        (["--task-type", "export_reports"], 1),
        (["--since", "2099-01-01"], 0),
        (["--until", "1h"], 0),
        (["--since", "1h"], 17),
    ] {
        let (code, told) = report(site, &[&replay[..], &filter[..]].concat()).await;
        assert_eq!((code, &told["recorded"]), (0, &json!(recorded)), "{filter:?}: {told:#}");
    }
    // A filter that nothing is of may be misspelt.
    for filter in [["--tenant", "globex"], ["--task-type", "refund_ordr"]] {
        let (code, words) = site.told(&[&replay[..], &filter[..]].concat()).await;
        let problem = format!("no decision is one of {} `{}`", filter[0], filter[1]);
        assert!(code == 2 && words.contains(&problem), "{filter:?}: {code} {words}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_lists_what_would_end_otherwise_and_nothing_else_beside_a_server_and_without() {
    the_changed_ones_and_no_others(&Site::new().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_reads_postgresql_too() {
    let Some(scratch) = Scratch::new().await else { return };
    let site = Site::new().await;
    site.reconfigure("data = 'data'", "data = 'data'\ndatabase_file = 'url'");
    database::write(&site.path("url"), &scratch.url());
    let (code, migrated) = site.told(&["migrate"]).await;
    assert_eq!(code, 0, "{migrated}");
    the_changed_ones_and_no_others(&site).await;
    scratch.remove().await;
}

/// Replaces the input of a decision in the data folder of a site.
async fn replace_input(site: &Site, id: &str, input: &[u8]) {
    let packed = hex::encode(lz4_flex::compress_prepend_size(input));
    let sql = format!(
        "UPDATE decision_inputs SET input = X'{packed}' WHERE idx = (SELECT idx FROM decisions WHERE id = '{id}')"
    );
    database::execute(&site.path(""), sql, String::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_decided_again_is_named_with_its_reason() {
    let site = Site::new().await;
    let process = serve(&site, RULES).await;
    let corpus = Corpus::record(&site).await;
    let rules = site.path("rules");
    write(&rules, "");
    let reloaded = site.told(&["policy", "reload"]).await;
    assert_eq!(reloaded.0, 0, "{}", reloaded.1);
    let mut later = Corpus(BTreeMap::new());
    later.root(&site, "later", "erin", &[("task_type", "refund_order"), ("resource", ORDERS)]).await;
    assert_eq!(process.terminate().await.code(), Some(0), "{}", site.log());

    let gone = format!(
        "DELETE FROM decision_inputs WHERE idx = (SELECT idx FROM decisions WHERE id = '{}')",
        corpus.id("refund")
    );
    database::execute(&site.path(""), gone, String::new()).await;
    replace_input(&site, corpus.id("dry"), br#"{"version": 2, "more": "than is known"}"#).await;
    replace_input(&site, corpus.id("bob"), b"{").await;
    let store = taskgrant::store::Store::look_at(&site.path("data")).await.unwrap().unwrap();
    let stored = store.decision(corpus.id("carol").parse().unwrap()).await.unwrap().unwrap();
    let mut input: PolicyInput = serde_json::from_slice(&stored.input.unwrap()).unwrap();
    input.principal.sub = "bob".to_owned();
    replace_input(&site, corpus.id("carol"), &serde_json::to_vec(&input).unwrap()).await;

    let replay = ["policy", "replay", "--candidate", "rules"];
    let (_, told) = report(&site, &replay).await;
    let one = |name: &str| json!({"count": 1, "examples": [corpus.id(name)]});
    assert_eq!(
        told["skipped"],
        json!({
            "before_policy": one("over"), "input_gone": one("refund"), "other_schema": one("dry"),
            "unreadable": one("bob"), "unlike": one("carol"),
        })
    );
    let line = format!("1 input_gone (the input is no longer kept): {}", corpus.id("refund"));
    for (most, expected) in [(&[][..], 2), (&["--max-skipped", "20"], 2), (&["--max-skipped", "30"], 1)] {
        let (code, words) = site.told(&[&replay[..], most].concat()).await;
        assert!(code == expected && words.contains(&line), "{most:?}: {code} {words}");
        assert_eq!(words.contains("4 of 17 decisions were skipped"), expected == 2, "{words}");
    }
    let (code, words) = site.told(&[&replay[..], &["--max-skipped", "101"]].concat()).await;
    assert!(code == 2 && words.contains("--max-skipped"), "{words}");

    // Nothing is compared with a bundle that is not kept; where that is all, nothing is known.
    database::execute(&site.path(""), "DELETE FROM bundles".to_owned(), String::new()).await;
    let (code, told) = report(&site, &replay).await;
    assert_eq!((code, &told["replayed"]), (2, &json!(0)), "{told:#}");
    assert_eq!(told["skipped"]["bundle_gone"]["count"], 14);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_that_can_tell_nothing_ends_with_two_and_says_why() {
    let site = Site::new().await;
    let (code, told) = site.told(&["policy", "replay", "--candidate", "rules"]).await;
    assert!(code == 2 && told.contains("there is no log"), "{told}");
    let process = serve(&site, "").await;
    write(&site.path("broken"), "allow if {");
    for (args, problem) in [
        (&["replay", "--candidate", "broken"][..], "broken/rules.rego:"),
        (&["replay", "--candidate", "sha256:0123456789"], "policy status"),
        (&["replay", "--candidate", "nowhere"], "`nowhere`"),
        (&["replay", "--candidate", "rules", "--since", "soon"], "--since `soon` is no time"),
        (&["replay"], "--candidate"),
        (&["diff", "rules"], "<B>"),
        (&["diff", "rules", "broken"], "broken/rules.rego:"),
    ] {
        let (code, told) = site.told(&[&["policy"], args].concat()).await;
        assert!(code == 2 && told.contains(problem), "{args:?}: {code} {told}");
    }
    let (code, told) = site.told(&["policy", "replay", "--candidate", "rules"]).await;
    assert!(code == 0 && told.contains("0 recorded"), "an empty log is no fault: {told}");
    drop(process);
}
