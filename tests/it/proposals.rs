//! Changes that take two persons of different roles, where the deployment says so (DESIGN §6).

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};
use taskgrant::admin::api::{ApplyRequest, RefusalCode};
use taskgrant::admin::policy::{ApplyPolicy, RollbackPolicy};
use taskgrant::admin::revocations::RevokeRequest;
use taskgrant::config::Config;
use taskgrant::configuration::apply::Options;
use taskgrant::configuration::apply::policy::BundleFile;
use taskgrant::configuration::documents::Source;
use taskgrant::domain::ids::DecisionId;
use taskgrant::lockdown::LockdownRequest;
use taskgrant::revocation::target::Target;

use crate::document::Document;
use crate::support::database::on_postgres;
use crate::support::platform::{CONSOLE, Platform};
use crate::support::server::{Answer, Server};

const STARTER: &str = include_str!("../../policies/base/ceilings.rego");
const ALL: &str = "two_persons = ['policy', 'widening', 'exceptions']";
const DAY: i64 = 24 * 60 * 60;

async fn start() -> Platform {
    Platform::start_as("", ALL).await
}

/// The second person: a lead with the role `approve` alone.
async fn lead(platform: &Platform) -> String {
    let erin = json!({"sub": "erin", "groups": ["support-leads"], "sid": "sid-erin"});
    platform.exchange("approve", &platform.session(erin)).await.token()
}

fn apply(text: &str) -> Value {
    json!({"documents": [{"file": "a.yaml", "text": text}], "options": {"allow_widening": true}})
}

/// A resource with these scopes beside its own: each that it did not have widens.
fn resource(more: &[&str]) -> Value {
    let scopes: String = more.iter().flat_map(|scope| [", ", scope]).collect();
    apply(&format!(
        "kind: Resource\ntenant: globex\nname: globex-orders\nspec: {{uri: \"https://orders.globex.example\", scopes: [orders:read{scopes}]}}\n"
    ))
}

fn files(code: &str) -> Value {
    let rule =
        format!("deny contains {{\"code\": \"{code}\", \"message\": \"m\", \"public\": true}} if false");
    let schema = r#"{"type": "array", "items": {"type": "string"}}"#;
    json!([
        {"path": "sent/rules.rego", "text": format!("{STARTER}\n{rule}\n")},
        {"path": "sent/schemas/blocked.json", "text": schema},
    ])
}

const APPLY: &str = "/admin/v1/apply";

/// Proposes it, and gives the proposal back.
async fn propose(platform: &Platform, token: &str, (method, path): (&str, &str), body: &Value) -> Value {
    let answer = platform.call(token, method, path, body).await;
    assert_eq!(answer.status, 202, "{path}: {answer:#?}");
    let documented = if path.contains("/data/") { "/admin/v1/data/{document}" } else { path };
    as_documented(documented, method, &answer);
    let proposal = answer.body["proposal"].clone();
    assert_eq!(proposal["state"], "pending", "{proposal}");
    proposal
}

async fn confirm(platform: &Platform, token: &str, proposal: &Value) -> Answer {
    let body = json!({"digest": proposal["digest"], "reason": "seen"});
    let answer = platform.call(token, "POST", &at(proposal, "/confirm"), &body).await;
    as_documented("/admin/v1/proposals/{id}/confirm", "post", &answer);
    answer
}

#[track_caller]
fn as_documented(path: &str, method: &str, answer: &Answer) {
    let method = method.to_ascii_lowercase();
    let faults = Document::read().faults_of_answer(path, &method, answer.status, &answer.body);
    assert!(faults.is_empty(), "{path}: {faults:?}\n{answer:#?}");
}

fn at(proposal: &Value, verb: &str) -> String {
    format!("/admin/v1/proposals/{}{verb}", proposal["id"].as_str().unwrap())
}

async fn state(platform: &Platform, token: &str, proposal: &Value) -> Value {
    platform.get(token, &at(proposal, "")).await.body["state"].clone()
}

async fn scopes(platform: &Platform, token: &str) -> Value {
    let objects = platform.get(token, "/admin/v1/objects").await.body;
    let of = |o: &&Value| o["name"] == "globex-orders" && o["kind"] == "Resource";
    objects.as_array().unwrap().iter().find(of).unwrap()["spec"]["scopes"].clone()
}

#[track_caller]
fn refused(answer: &Answer, status: u16, error: &str, said: &str) {
    assert_eq!((answer.status, answer.body["error"].as_str()), (status, Some(error)), "{answer:#?}");
    assert!(answer.body["message"].as_str().unwrap().contains(said), "{answer:#?}");
}

async fn recorded(server: &Server, id: &Value) -> Value {
    let id: DecisionId = id.as_str().unwrap().parse().unwrap();
    server.decision_of(id).await.record
}

#[tokio::test]
async fn what_widens_waits_and_is_carried_out_by_a_second_person() {
    let platform = start().await;
    let (admin, second) = (platform.login("admin").await, lead(&platform).await);
    let wider = platform.call(&admin, "POST", APPLY, &resource(&["orders:list"])).await;
    assert_eq!(wider.status, 202, "{wider:?}");
    let reject = json!({"reason": "a mistake"});
    let rejected = platform.call(&admin, "POST", &at(&wider.body["proposal"], "/reject"), &reject).await;
    assert_eq!(rejected.body["proposal"]["state"], "rejected", "its proposer takes it back: {rejected:?}");

    let unsaid = json!({"documents": resource(&["orders:write"])["documents"]});
    let unsaid = platform.call(&admin, "POST", APPLY, &unsaid).await;
    refused(&unsaid, 422, "configuration_widens", "widens");
    let before = scopes(&platform, &admin).await;
    let proposal = propose(&platform, &admin, ("POST", APPLY), &resource(&["orders:write"])).await;
    assert_eq!(scopes(&platform, &admin).await, before, "nothing has changed yet");
    assert_eq!((&proposal["command"], &proposal["needs"]), (&json!("apply"), &json!(["widening"])));
    let record = recorded(&platform.server, &proposal["decision_id"]).await;
    assert_eq!(record["asked"]["proposal"], proposal["id"], "{record}");
    let object = &record["asked"]["effect"]["objects"][0];
    assert_eq!(object["object"], "Resource globex/globex-orders", "{record}");

    let audit = platform.login("audit").await;
    for token in [&admin, &second, &audit] {
        let listed = platform.get(token, "/admin/v1/proposals").await.body;
        assert_eq!((listed.as_array().unwrap().len(), &listed[0]["id"]), (1, &proposal["id"]));
        assert!(listed[0].get("request").is_none() && listed[0].get("effect").is_none());
        assert_eq!(listed[0]["command"], "apply");
        let answer = platform.get(token, &at(&proposal, "")).await;
        as_documented("/admin/v1/proposals/{id}", "get", &answer);
        let shown = answer.body;
        assert_eq!(shown["digest"], proposal["digest"]);
        let text = shown["request"]["documents"][0]["text"].as_str().unwrap();
        assert!(text.contains("orders:write") && !shown.to_string().contains("groups"), "{shown}");
        let widens = shown["effect"]["plan"]["steps"][0]["widenings"][0]["message"].as_str().unwrap();
        assert!(widens.contains("adds `orders:write`"), "{shown}");
    }
    let confirmed = confirm(&platform, &second, &proposal).await;
    assert_eq!(confirmed.status, 200, "{confirmed:#?}");
    assert_eq!(confirmed.body["proposal"]["state"], "carried_out");
    assert_eq!(confirmed.body["proposal"]["answered"]["principal"]["sub"], "erin");
    assert_eq!(scopes(&platform, &admin).await, json!(["orders:read", "orders:write"]));
    let record = recorded(&platform.server, &confirmed.body["decision_id"]).await;
    let actor = record["actor"].as_str().unwrap();
    assert!(actor.contains(" root through ") && actor.contains("confirmed by principal:"), "{actor}");
    assert_eq!(record["asked"]["confirmed_by"]["sub"], "erin", "{record}");
    assert_eq!(record["asked"]["proposal"], proposal["id"]);
    assert_eq!(confirmed.body["done"]["decision_id"], confirmed.body["decision_id"]);
    let again = confirm(&platform, &second, &proposal).await;
    refused(&again, 409, "conflict", "carried_out");
    assert_eq!(platform.get(&admin, "/admin/v1/proposals").await.body, json!([]));
    let all = platform.get(&admin, "/admin/v1/proposals?all=true").await.body;
    assert_eq!(all.as_array().unwrap().len(), 2, "{all}");
    // What takes away, or changes nothing that counts, takes one.
    let fine = platform.call(&admin, "POST", APPLY, &resource(&[])).await;
    assert_eq!(fine.status, 200, "{fine:?}");
}

#[tokio::test]
async fn exceptions_and_who_administers_wait_and_to_retire_them_takes_one() {
    let platform = Platform::start_as("", "two_persons = ['exceptions']").await;
    let (admin, second) = (platform.login("admin").await, lead(&platform).await);
    let at = |seconds: i64| {
        let at = DateTime::from_timestamp(platform.server.now() + seconds, 0).unwrap();
        at.to_rfc3339_opts(SecondsFormat::Secs, true)
    };
    let exception = format!(
        "kind: Exception\ntenant: acme\nname: sale\nspec:\n  reason: sale\n  owner: group:payments\n  \
         approvers: [group:security, group:finance]\n  not_before: {}\n  expires_at: {}\n",
        at(-60),
        at(600)
    );
    let proposal = propose(&platform, &admin, ("POST", APPLY), &apply(&exception)).await;
    assert_eq!(proposal["needs"], json!(["exceptions"]), "widening is not listed: {proposal}");
    assert_eq!(confirm(&platform, &second, &proposal).await.status, 200);
    // What only widens takes one here.
    let wide = platform.call(&admin, "POST", APPLY, &resource(&["orders:write"])).await;
    assert_eq!(wide.status, 200, "{wide:?}");
    // But nobody makes the second person alone, nor a console through which to be one.
    let admins = platform.admins();
    let more = admins.replace("subject: root", "subject: mallory").replace("name: root", "name: mallory");
    let proposal = propose(&platform, &admin, ("POST", APPLY), &apply(&more)).await;
    assert_eq!(proposal["needs"], json!(["administrators"]), "{proposal}");
    let console = admins.split("---").next().unwrap().replace("name: console", "name: other");
    let console = console.replace("client_id: admin-console", "client_id: other-console");
    let proposal = propose(&platform, &admin, ("POST", APPLY), &apply(&console)).await;
    assert_eq!(proposal["needs"], json!(["administrators"]), "{proposal}");
    // Without the exception and the leads: whoever they were, they are no longer.
    let kept: Vec<&str> = admins.split("---").filter(|part| !part.contains("name: leads")).collect();
    let all = format!("{}\n---\n{}", platform.server.objects(), kept.join("---"));
    let mut less = apply(&all);
    less["options"] = json!({"prune": true, "allow_widening": true});
    let retired = platform.call(&admin, "POST", APPLY, &less).await;
    assert_eq!(retired.status, 200, "{retired:?}");
    let steps = retired.body["steps"].as_array().unwrap().iter();
    let gone = steps.filter(|step| step["action"] == "retire").map(|step| step["name"].as_str().unwrap());
    assert_eq!(gone.collect::<BTreeSet<_>>(), BTreeSet::from(["leads", "sale"]));
}

/// Those who work on the policy.
struct Two {
    platform: Platform,
    admin: String,
    second: String,
}

impl Two {
    async fn start(toml: &str) -> Self {
        let platform = Platform::start_as(toml, "two_persons = ['policy']").await;
        let (admin, second) = (platform.login("admin").await, lead(&platform).await);
        Self { platform, admin, second }
    }

    async fn policy(&self) -> Value {
        self.platform.get(&self.admin, "/admin/v1/policy").await.body
    }

    /// Has one propose it and the other confirm it, and gives back what was done.
    async fn two(&self, method: &str, path: &str, body: &Value) -> Value {
        let (platform, path) = (&self.platform, format!("/admin/v1/{path}"));
        let before = self.policy().await;
        let proposal = propose(platform, &self.admin, (method, &path), body).await;
        assert_eq!(proposal["needs"], json!(["policy"]), "{path}");
        let now = self.policy().await;
        for member in ["policy", "candidate", "mode", "data"] {
            assert_eq!(now[member], before[member], "{path}: {member}");
        }
        let confirmed = confirm(platform, &self.second, &proposal).await;
        assert_eq!(confirmed.status, 200, "{path}: {confirmed:#?}");
        let record = recorded(&platform.server, &confirmed.body["decision_id"]).await;
        assert!(record["actor"].as_str().unwrap().contains(", confirmed by "), "{path}: {record}");
        assert_eq!(record["asked"]["proposal"], proposal["id"], "{path}: {record}");
        confirmed.body["done"].clone()
    }

    /// Has one do it alone.
    async fn one(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.platform.call(&self.admin, method, &format!("/admin/v1/{path}"), body).await;
        assert_eq!(answer.status, 200, "{path}: {answer:#?}");
        answer.body
    }
}

#[tokio::test]
async fn each_way_to_another_bundle_or_data_waits_and_what_takes_back_does_not() {
    let d = Two::start("").await;
    let first = d.policy().await["policy"].clone();
    // Another bundle.
    let applied = d.two("POST", "policy/apply", &json!({"files": files("a")})).await;
    assert_eq!((&applied["before"], &applied["policy"]), (&first, &d.policy().await["policy"]));
    // A data document, and its end.
    let put = d.two("PUT", "data/blocked?reason=fraud", &json!(["mallory"])).await;
    assert_eq!(put["path"], "blocked", "{put}");
    let shown = d.one("GET", "data/blocked", &Value::Null).await;
    assert_eq!(shown["document"], json!(["mallory"]), "{shown}");
    d.two("DELETE", "data/blocked", &Value::Null).await;
    // A candidate is tried by one, and bites for nobody until two say so.
    d.one("POST", "policy/candidate", &json!({"files": files("b")})).await;
    let canary = d.two("POST", "policy/canary", &json!({"percent": 20})).await;
    assert_eq!(canary["candidate"]["percent"], 20, "{canary}");
    d.two("POST", "policy/canary", &json!({"percent": 10, "enforce_for": ["tenant:acme"]})).await;
    d.one("POST", "policy/canary", &json!({"percent": 5})).await;
    d.one("POST", "policy/canary", &json!({"percent": 5, "never_for": ["tenant:globex"]})).await;
    d.two("POST", "policy/canary", &json!({"percent": 5, "never_for": []})).await;
    d.one("POST", "policy/canary", &json!({"percent": 0})).await;
    let promoted = d.two("POST", "policy/promote", &json!({"reason": "seen for a week"})).await;
    assert_eq!(promoted["policy"], d.policy().await["policy"]);
    d.one("POST", "policy/candidate", &json!({"files": files("c")})).await;
    d.one("POST", "policy/candidate/drop", &json!({"reason": "not this one"})).await;
    // The way back, also over the socket.
    let back = d.one("POST", "policy/rollback", &json!({})).await;
    assert_eq!(back["policy"], applied["policy"]);
    // To one from before that takes two, but not the machine's account; nor does what may stand in its way.
    let older = json!({"version": first});
    d.two("POST", "policy/rollback", &older).await;
    assert_eq!(d.policy().await["policy"], first);
    d.one("POST", "policy/rollback", &json!({})).await;
    let socket = d.platform.server.admin().await;
    d.two("PUT", "data/blocked", &json!(["mallory"])).await;
    socket.drop_data(&"blocked".parse().unwrap(), None).await.unwrap().unwrap();
    let version = first.as_str().map(str::to_owned);
    socket.roll_back_policy(&RollbackPolicy { version }).await.unwrap().unwrap();
    assert_eq!(d.policy().await["policy"], first);
    // Who confirms sees the rules that a proposal names.
    let path = format!("/admin/v1/policy/bundles/{}", first.as_str().unwrap());
    assert_eq!(d.platform.get(&d.second, &path).await.status, 200);
}

#[tokio::test]
async fn what_policy_is_told_of_an_object_takes_two_as_policy_does() {
    let d = Two::start("").await;
    let labels = |risk: &str| {
        let all = d.platform.server.objects();
        let from = "labels: {risk: medium}";
        assert!(all.contains(from));
        apply(&format!(
            "{}\n---\n{}",
            all.replace(from, &format!("labels: {{risk: {risk}}}")),
            d.platform.admins()
        ))
    };
    let proposal = propose(&d.platform, &d.admin, ("POST", APPLY), &labels("low")).await;
    assert_eq!(proposal["needs"], json!(["policy"]), "{proposal}");
    assert_eq!(confirm(&d.platform, &d.second, &proposal).await.status, 200);
}

#[tokio::test]
async fn another_name_or_a_declaration_anew_is_no_way_around() {
    let platform = start().await;
    let (admin, second) = (platform.login("admin").await, lead(&platform).await);
    let all = format!("{}\n---\n{}", platform.server.objects(), platform.admins());
    let extra = |name: &str, scopes: &str| {
        format!(
            "kind: Resource\ntenant: globex\nname: {name}\nspec: {{uri: \"https://extra.globex.example\", scopes: [{scopes}]}}\n"
        )
    };
    let alone = async |text: &str, options: Value| {
        let body = json!({"documents": [{"file": "a.yaml", "text": text}], "options": options});
        platform.call(&admin, "POST", APPLY, &body).await
    };
    let prune = json!({"prune": true});
    assert_eq!(alone(&extra("extra", "a:read"), json!({})).await.status, 200, "what is new takes one");
    // The same URI by another name is the same resource.
    let renamed = format!("{all}\n---\n{}", extra("other", "a:read, a:write"));
    refused(&alone(&renamed, prune.clone()).await, 422, "configuration_widens", "widens");
    let waits = alone(&renamed, json!({"prune": true, "allow_widening": true})).await;
    let needs = &waits.body["proposal"]["needs"];
    assert_eq!((waits.status, needs), (202, &json!(["widening"])), "{needs}");
    let owned = "name: stranger\nspec:\n  client_id: stranger-agent\n  class: stranger\n  owner: group:support-platform";
    assert!(all.contains(owned));
    let another =
        all.replace(owned, &owned.replace("name: stranger", "name: guest").replace("platform", "desk"));
    let another = format!("{another}\n---\n{}", extra("extra", "a:read"));
    let waits = alone(&another, json!({"prune": true, "allow_widening": true})).await;
    let needs = &waits.body["proposal"]["needs"];
    assert_eq!(
        (waits.status, needs),
        (202, &json!(["policy", "widening"])),
        "rules and approvals go by its owner: {needs}"
    );
    let renamed = format!("{all}\n---\n{}", extra("other", "a:read"));
    assert_eq!(alone(&renamed, prune.clone()).await.status, 200, "it says what it said");
    // Retired by one, it comes back by two, by whatever name and however its URI is spelled.
    assert_eq!(alone(&all, prune).await.status, 200);
    let spelled = extra("third", "a:read").replace("https://extra", "HTTPS://Extra");
    for anew in [extra("extra", "a:read"), extra("other", "a:read"), spelled] {
        let plain = json!({"documents": [{"file": "a.yaml", "text": anew}], "options": {}});
        let told = platform.call(&admin, "POST", APPLY, &plain).await;
        refused(&told, 422, "configuration_widens", "widens");
        let proposal = propose(&platform, &admin, ("POST", APPLY), &apply(&anew)).await;
        assert_eq!(proposal["needs"], json!(["widening"]), "{}", proposal["needs"]);
    }
    let proposal = propose(&platform, &admin, ("POST", APPLY), &apply(&extra("other", "a:read"))).await;
    assert_eq!(confirm(&platform, &second, &proposal).await.status, 200);
}

#[tokio::test]
async fn one_person_does_not_keep_others_from_proposing() {
    let platform = start().await;
    let admin = platform.login("admin").await;
    for n in 0..10 {
        propose(&platform, &admin, ("POST", APPLY), &resource(&[&format!("orders:n{n}")])).await;
    }
    let more = platform.call(&admin, "POST", APPLY, &resource(&["orders:more"])).await;
    refused(&more, 409, "conflict", "10 of yours");
}

#[tokio::test]
async fn to_keep_policy_from_biting_waits_and_to_have_it_bite_does_not() {
    let d = Two::start("").await;
    for mode in ["dry-run", "off"] {
        let order = json!({"mode": mode, "for": 600, "reason": "an incident"});
        let set = d.two("POST", "policy/mode", &order).await;
        assert_eq!(set["mode"]["mode"], mode, "{set}");
        let back = d.one("POST", "policy/mode", &json!({"mode": "enforce", "reason": "over"})).await;
        assert_eq!(back["before"]["mode"], mode, "{back}");
    }
}

#[tokio::test]
async fn the_folders_are_no_way_around_neither_while_the_server_runs_nor_at_its_start() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("bundle/rules.rego");
    std::fs::create_dir(folder.path().join("bundle")).unwrap();
    std::fs::write(&rules, STARTER).unwrap();
    let toml = format!("[policy]\nbundles = ['{}']", folder.path().join("bundle").display());
    let platform = Platform::start_as(&toml, ALL).await;
    let admin = platform.login("admin").await;
    let first = platform.get(&admin, "/admin/v1/policy").await.body["policy"].clone();
    std::fs::write(&rules, format!("{STARTER}\nallow if")).unwrap();
    while platform.get(&admin, "/admin/v1/policy").await.body["refused"].is_null() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let before = platform.server.decisions().await;
    std::fs::write(&rules, format!("{STARTER}\n# another\n")).unwrap();
    // The watch has looked once it is told that it takes two.
    while platform.server.decisions().await == before {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let (leaf, record) = platform.server.last_decision().await;
    assert_eq!(
        (&leaf["outcome"], &record["reasons"][0]["code"]),
        (&json!("deny"), &json!("two_persons_needed"))
    );
    let status = platform.get(&admin, "/admin/v1/policy").await.body;
    assert_eq!((&status["policy"], &status["refused"]), (&first, &Value::Null), "what waits is fit");
    let platform = platform.restart().await;
    let admin = platform.login("admin").await;
    assert_eq!(platform.get(&admin, "/admin/v1/policy").await.body["policy"], first);
    let proposal = propose(&platform, &admin, ("POST", "/admin/v1/policy/reload"), &Value::Null).await;
    let text = platform.get(&admin, &at(&proposal, "")).await.body["request"]["files"][0]["text"].clone();
    assert!(text.as_str().unwrap().ends_with("# another\n"), "{text}");
    assert_eq!(confirm(&platform, &lead(&platform).await, &proposal).await.status, 200);
    let platform = platform.restart().await;
    let admin = platform.login("admin").await;
    let now = platform.get(&admin, "/admin/v1/policy").await.body["policy"].clone();
    assert_eq!(now, proposal["effect"]["policy"]);
}

#[tokio::test]
async fn one_person_is_not_two_and_an_account_of_the_machine_is_none() {
    let platform = start().await;
    let server = &platform.server;
    let (admin, own) = (platform.login("admin").await, platform.login("approve").await);
    let proposal = propose(&platform, &admin, ("POST", APPLY), &resource(&["orders:write"])).await;
    let before = scopes(&platform, &admin).await;
    // The same person in the other role, and others in the same role.
    let same = confirm(&platform, &own, &proposal).await;
    refused(&same, 403, "not_allowed", "second person");
    let (leaf, record) = server.last_decision().await;
    assert_eq!(
        (&leaf["outcome"], &record["reasons"][0]["code"]),
        (&json!("deny"), &json!("proposal_same_person"))
    );
    for role in ["admin", "audit"] {
        let token = platform.login(role).await;
        refused(&confirm(&platform, &token, &proposal).await, 403, "insufficient_scope", "`approve`");
    }
    // An approver proposes nothing.
    let second = lead(&platform).await;
    let theirs = platform.call(&second, "POST", APPLY, &resource(&["orders:write"])).await;
    refused(&theirs, 403, "insufficient_scope", "`admin`");
    // What was not shown.
    let other = json!({"id": proposal["id"], "digest": format!("sha256:{}", "0".repeat(64))});
    refused(&confirm(&platform, &second, &other).await, 409, "conflict", "digest");
    // The socket.
    let socket = server.admin().await;
    let source = Source {
        file: "a.yaml".to_owned(),
        text: resource(&["orders:write"])["documents"][0]["text"].as_str().unwrap().to_owned(),
    };
    let options = Options { allow_widening: true, ..Options::default() };
    let request = ApplyRequest { documents: vec![source.clone()], options };
    let alone = socket.apply(&request).await.unwrap().unwrap_err();
    assert_eq!(alone.error, RefusalCode::TwoPersonsNeeded);
    assert!(alone.message.contains("taskgrant login") && alone.message.contains("widening"), "{alone:?}");
    assert_eq!(server.last_decision().await.1["reasons"][0]["code"], "two_persons_needed");
    let bundle = serde_json::from_value::<Vec<BundleFile>>(files("a")).unwrap();
    let alone = socket.apply_policy(&ApplyPolicy { files: bundle }).await.unwrap().unwrap_err();
    assert_eq!(alone.error, RefusalCode::TwoPersonsNeeded);
    let id = proposal["id"].as_str().unwrap().parse().unwrap();
    let digest = proposal["digest"].as_str().unwrap().to_owned();
    let request = taskgrant::admin::proposals::ConfirmProposal { digest, reason: None };
    let none = socket.confirm_proposal(id, &request).await.unwrap().unwrap_err();
    assert!(none.message.contains("taskgrant login --role approve"), "{none:?}");
    assert_eq!(scopes(&platform, &admin).await, before);
    // What nobody may have to wait for, one does alone; and whoever owns the machine looks and rejects.
    let lockdown = LockdownRequest { on: false, tenant: None, reason: "none".to_owned() };
    socket.lock_down(&lockdown).await.unwrap().unwrap();
    let listed = socket.proposals(false).await.unwrap().unwrap();
    assert_eq!(listed.len(), 1);
    let request = taskgrant::admin::proposals::RejectProposal { reason: "not now".to_owned() };
    let rejected = socket.reject_proposal(id, &request).await.unwrap().unwrap();
    assert!(rejected.proposal.answered.unwrap().account.starts_with("uid "));
    refused(&confirm(&platform, &second, &proposal).await, 409, "conflict", "rejected");
}

#[tokio::test]
async fn without_the_setting_one_person_is_enough() {
    let platform = Platform::start().await;
    let admin = platform.login("admin").await;
    assert_eq!(platform.call(&admin, "POST", APPLY, &resource(&["orders:write"])).await.status, 200);
    let applied =
        platform.call(&admin, "POST", "/admin/v1/policy/apply", &json!({"files": files("a")})).await;
    assert_eq!(applied.status, 200, "{applied:?}");
    assert_eq!(platform.get(&admin, "/admin/v1/proposals?all=true").await.body, json!([]));
}

#[tokio::test]
async fn what_would_do_something_else_by_now_is_not_done() {
    let platform = start().await;
    let (admin, second) = (platform.login("admin").await, lead(&platform).await);
    // The object is another one by now.
    let proposal = propose(&platform, &admin, ("POST", APPLY), &resource(&["orders:write"])).await;
    let other = propose(&platform, &admin, ("POST", APPLY), &resource(&["orders:list"])).await;
    assert_eq!(confirm(&platform, &second, &other).await.status, 200);
    let stale = confirm(&platform, &second, &proposal).await;
    refused(&stale, 409, "proposal_superseded", "propose it again");
    assert_eq!(scopes(&platform, &admin).await, json!(["orders:read", "orders:list"]));
    assert_eq!(state(&platform, &admin, &proposal).await, "superseded");
    refused(&confirm(&platform, &second, &proposal).await, 409, "conflict", "superseded");
    // What changes elsewhere does not matter.
    let proposal = propose(&platform, &admin, ("POST", APPLY), &resource(&["orders:write"])).await;
    let text =
        "kind: Tenant\ntenant: acme\nname: acme\nspec: {description: Another text, labels: {tier: gold}}\n";
    assert_eq!(platform.call(&admin, "POST", APPLY, &apply(text)).await.status, 200);
    assert_eq!(confirm(&platform, &second, &proposal).await.status, 200);
    // But to what is new, which rests on what it does not tell.
    let until = DateTime::from_timestamp(platform.server.now() + 600, 0).unwrap();
    let exception = format!(
        "kind: Exception\ntenant: acme\nname: sale\nspec:\n  reason: sale\n  owner: group:payments\n  \
         approvers: [group:security, group:finance]\n  not_before: {}\n  expires_at: {}\n",
        (until - chrono::TimeDelta::minutes(20)).to_rfc3339_opts(SecondsFormat::Secs, true),
        until.to_rfc3339_opts(SecondsFormat::Secs, true)
    );
    let proposal = propose(&platform, &admin, ("POST", APPLY), &apply(&exception)).await;
    let text = "kind: Tenant\ntenant: acme\nname: acme\nspec: {description: A text, labels: {tier: gold}}\n";
    assert_eq!(platform.call(&admin, "POST", APPLY, &apply(text)).await.status, 200);
    refused(&confirm(&platform, &second, &proposal).await, 409, "proposal_superseded", "");
    // Another bundle is in force than the one that was to be replaced; what was proposed is there already.
    let path = ("POST", "/admin/v1/policy/apply");
    let a = propose(&platform, &admin, path, &json!({"files": files("a")})).await;
    let b = propose(&platform, &admin, path, &json!({"files": files("b")})).await;
    let twin = propose(&platform, &admin, path, &json!({"files": files("a")})).await;
    assert_eq!(confirm(&platform, &second, &a).await.status, 200);
    refused(&confirm(&platform, &second, &b).await, 409, "proposal_superseded", "");
    refused(&confirm(&platform, &second, &twin).await, 409, "proposal_superseded", "");
    let policy = platform.get(&admin, "/admin/v1/policy").await.body["policy"].clone();
    assert_eq!(policy, a["effect"]["policy"]);
    // Another candidate is tried than the one that was to bite.
    let load = async |code: &str| {
        let body = json!({"files": files(code)});
        platform.call(&admin, "POST", "/admin/v1/policy/candidate", &body).await
    };
    assert_eq!(load("c").await.status, 200);
    let path = ("POST", "/admin/v1/policy/promote");
    let promote = propose(&platform, &admin, path, &json!({"reason": "good"})).await;
    assert_eq!(load("d").await.status, 200);
    refused(&confirm(&platform, &second, &promote).await, 409, "proposal_superseded", "");
    let after = platform.get(&admin, "/admin/v1/policy").await.body["policy"].clone();
    assert_eq!(after, policy);
}

#[tokio::test]
async fn of_two_who_confirm_at_once_one_has_it_carried_out() {
    let platform = start().await;
    let (admin, second) = (platform.login("admin").await, lead(&platform).await);
    let third = json!({"sub": "frank", "groups": ["support-leads"], "sid": "sid-frank"});
    let third = platform.exchange("approve", &platform.session(third)).await.token();
    for round in ["orders:a", "orders:b", "orders:c"] {
        let proposal = propose(&platform, &admin, ("POST", APPLY), &resource(&[round])).await;
        let version = async || {
            let objects = platform.get(&admin, "/admin/v1/objects").await.body;
            let of = |o: &&Value| o["name"] == "globex-orders";
            objects.as_array().unwrap().iter().find(of).unwrap()["version"].as_i64().unwrap()
        };
        let before = version().await;
        let both = tokio::join!(
            confirm(&platform, &second, &proposal),
            confirm(&platform, &third, &proposal),
            confirm(&platform, &second, &proposal)
        );
        let statuses = [both.0.status, both.1.status, both.2.status];
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{both:#?}");
        assert!(statuses.iter().all(|status| [200, 409].contains(status)), "{both:#?}");
        assert_eq!(version().await, before + 1);
        assert_eq!(state(&platform, &admin, &proposal).await, "carried_out");
    }
}

#[tokio::test]
async fn a_proposal_outlives_a_restart_and_ends_after_a_day() {
    let platform = start().await;
    let admin = platform.login("admin").await;
    let kept = propose(&platform, &admin, ("POST", APPLY), &resource(&["orders:write"])).await;
    let platform = platform.restart().await;
    // The tokens of before have ended long since, and the word stands.
    platform.server.clock.shift(DAY - 60);
    let second = lead(&platform).await;
    let confirmed = confirm(&platform, &second, &kept).await;
    assert_eq!(confirmed.status, 200, "{confirmed:#?}");
    let admin = platform.login("admin").await;
    let late = propose(&platform, &admin, ("POST", APPLY), &resource(&["orders:list"])).await;
    platform.server.clock.shift(DAY);
    let second = lead(&platform).await;
    refused(&confirm(&platform, &second, &late).await, 409, "conflict", "expired");
    assert_eq!(state(&platform, &second, &late).await, "expired");
    assert_eq!(platform.get(&second, "/admin/v1/proposals").await.body, json!([]));
    // And the log tells so, without anybody asking.
    while platform.get(&second, &at(&late, "")).await.body["answered"].is_null() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let ended = platform.get(&second, &at(&late, "")).await.body["answered"].clone();
    let record = recorded(&platform.server, &ended["decision_id"]).await;
    assert_eq!(record["reasons"][0]["code"], "proposal_expired", "{record}");
}

#[tokio::test]
async fn the_word_of_who_was_signed_out_or_administers_no_more_does_not_count() {
    let platform = start().await;
    let server = &platform.server;
    let second = lead(&platform).await;
    // The token with which it was proposed is revoked.
    let admin = platform.login("admin").await;
    let proposal = propose(&platform, &admin, ("POST", APPLY), &resource(&["orders:write"])).await;
    assert_eq!(server.revoke(CONSOLE, &admin).await.status, 200);
    let dead = confirm(&platform, &second, &proposal).await;
    assert_eq!(dead.status, 409, "{dead:#?}");
    while state(&platform, &second, &proposal).await == "pending" {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(state(&platform, &second, &proposal).await, "superseded");
    // Nobody confirms: it ends by itself all the same.
    let admin = platform.login("admin").await;
    let proposal = propose(&platform, &admin, ("POST", APPLY), &resource(&["orders:write"])).await;
    let principal = Target::Principal { iss: server.idp.issuer.clone(), sub: "root".to_owned() };
    let request = RevokeRequest { target: principal, reason: "gone".to_owned(), dry_run: false };
    server.admin().await.revoke(&request).await.unwrap().unwrap();
    while state(&platform, &second, &proposal).await == "pending" {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    server.clock.shift(5);
    // Who no longer administers.
    let admin = platform.login("admin").await;
    let proposal = propose(&platform, &admin, ("POST", APPLY), &resource(&["orders:write"])).await;
    let less = platform.admins().replace("roles: [admin, approve, audit]", "roles: [audit]");
    assert_eq!(platform.call(&admin, "POST", APPLY, &apply(&less)).await.status, 200);
    let second = lead(&platform).await;
    refused(&confirm(&platform, &second, &proposal).await, 409, "proposal_superseded", "administrator");
    assert_eq!(scopes(&platform, &platform.login("audit").await).await, json!(["orders:read"]));
}

#[tokio::test]
async fn no_command_without_a_server_is_a_way_around() {
    if on_postgres() {
        // There nothing is changed without a server.
        return;
    }
    let platform = start().await;
    let folder = platform.server.data.clone();
    let issuer = platform.server.issuer.clone();
    let data = folder.path().join("data");
    platform.server.stop().await;
    let config = folder.path().join("taskgrant.toml");
    let text = format!(
        "public_url = '{issuer}'\ndata = '{}'\n[admin]\nlisten = '127.0.0.1:1'\n{ALL}\n",
        data.display()
    );
    Config::from_toml(&text).unwrap();
    std::fs::write(&config, text).unwrap();
    let objects = folder.path().join("a.yaml");
    let yaml = resource(&["orders:write"])["documents"][0]["text"].as_str().unwrap().to_owned();
    std::fs::write(&objects, yaml).unwrap();
    let bundle = folder.path().join("bundle");
    std::fs::create_dir(&bundle).unwrap();
    std::fs::write(bundle.join("rules.rego"), format!("{STARTER}\n# another\n")).unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taskgrant"));
        let output = command.args(args).arg("--config").arg(&config).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (objects, bundle) = (objects.display().to_string(), bundle.display().to_string());
    for args in [
        &["apply", "--allow-widening", "-f", &objects][..],
        &["policy", "apply", &bundle],
        &["policy", "mode", "off", "--for", "10m", "--reason", "x"],
    ] {
        let (code, said) = run(args);
        assert!(code == Some(1) && said.contains("taskgrant login"), "{args:?}: {code:?} {said}");
    }
    assert_eq!(run(&["proposals", "list"]), (Some(0), String::new()));
}

#[tokio::test]
async fn the_commands_say_what_waits_and_what_the_second_person_says() {
    let platform = start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let login = |role: &str, token: &str| {
        let stored = json!({
            "server": platform.url, "issuer": platform.server.issuer, "client_id": CONSOLE, "role": role,
            "access_token": token, "expires_at": platform.server.now() + 600,
        });
        file(&format!("{role}.json"), &stored.to_string())
    };
    let admin = login("admin", &platform.login("admin").await);
    let second = login("approve", &lead(&platform).await);
    let yaml = resource(&["orders:write"])["documents"][0]["text"].as_str().unwrap().to_owned();
    let objects = file("a.yaml", &format!("{yaml}# \u{202e}\n"));
    let run = async |args: &[&str], token: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taskgrant"));
        command.args(args).args(["--server", &platform.url, "--token-file", token]);
        // The server answers on this thread.
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let apply = ["apply", "--allow-widening", "-f", &objects];
    let (code, said) = run(&apply, &admin).await;
    assert!(code == Some(4) && said.contains("nothing has changed yet"), "{code:?} {said}");
    let show = said.lines().find(|line| line.contains("taskgrant proposals show ")).unwrap();
    let id = show.split_whitespace().nth(3).unwrap().to_owned();
    assert!(show.ends_with(&format!("{id} --server {}", platform.url)), "{show}");
    let (code, listed) = run(&["proposals", "list"], &second).await;
    assert!(code == Some(0) && listed.contains(&id) && listed.contains("apply, by root"), "{listed}");
    let (code, shown) = run(&["proposals", "show", &id], &second).await;
    assert_eq!(code, Some(0), "{shown}");
    for told in ["root of ", "adds `orders:write`", "name: globex-orders", "takes two    widening"] {
        assert!(shown.contains(told), "{told}: {shown}");
    }
    assert!(shown.contains("# \\u{202e}") && !shown.contains('\u{202e}'), "{shown}");
    let confirm = shown.lines().find(|line| line.contains("taskgrant proposals confirm ")).unwrap();
    let digest = confirm.split_whitespace().nth(5).unwrap().to_owned();
    let confirm = ["proposals", "confirm", &id, "--digest", &digest, "--reason", "seen"];
    let (code, said) = run(&confirm, &second).await;
    assert!(code == Some(0) && said.contains("is carried_out (decision "), "{code:?} {said}");
    let (code, said) = run(&confirm, &second).await;
    assert!(code == Some(1) && said.contains("the proposal is carried_out"), "{code:?} {said}");
    let mode = ["policy", "mode", "off", "--for", "10m", "--reason", "x", "--json"];
    let (code, said) = run(&mode, &admin).await;
    let waits: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &waits["proposal"]["command"]), (Some(4), &json!("policy mode")), "{said}");
    let id = waits["proposal"]["id"].as_str().unwrap();
    let (code, said) = run(&["proposals", "reject", id, "--reason", "no"], &admin).await;
    assert!(code == Some(0) && said.contains("is rejected"), "{code:?} {said}");
}
