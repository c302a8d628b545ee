//! The admin API over HTTPS: who gets a token for it, what that opens, and what keeps nobody out or in (DESIGN §9).

use serde_json::{Value, json};
use taskgrant::admin::revocations::RevokeRequest;
use taskgrant::lockdown::LockdownRequest;
use taskgrant::revocation::target::Target;

use crate::support::idp::{bend, claims};
use crate::support::platform::{CLI, CONSOLE, Platform};
use crate::support::server::{Answer, ID_TOKEN, ORDERS, basic};

/// Asserts that nobody gets in, and that RFC 6750 is kept.
#[track_caller]
fn locked_out(answer: &Answer, told: &str) {
    assert_eq!((answer.status, answer.body["error"].as_str()), (401, Some("invalid_token")), "{answer:#?}");
    assert_eq!(answer.headers["www-authenticate"], told, "{answer:#?}");
    assert_eq!(answer.headers["cache-control"], "no-store");
}

#[track_caller]
fn forbidden(answer: &Answer, scope: &str) {
    assert_eq!(
        (answer.status, answer.body["error"].as_str()),
        (403, Some("insufficient_scope")),
        "{answer:#?}"
    );
    let told = &answer.headers["www-authenticate"];
    assert!(told.contains("error=\"insufficient_scope\"") && told.contains(scope), "{told}");
}

const NO_TOKEN: &str = "Bearer realm=\"taskgrant\"";
const BAD_TOKEN: &str = "Bearer realm=\"taskgrant\", error=\"invalid_token\"";

#[tokio::test]
async fn each_role_opens_its_routes_and_no_other() {
    let platform = Platform::start().await;
    let (admin, approve, audit) =
        (platform.login("admin").await, platform.login("approve").await, platform.login("audit").await);
    for path in [
        "/admin/v1/objects",
        "/admin/v1/status",
        "/admin/v1/policy",
        "/admin/v1/keys",
        "/admin/v1/revocations",
        "/admin/v1/lockdown",
    ] {
        assert_eq!(platform.get(&admin, path).await.status, 200, "{path}");
        assert_eq!(platform.get(&audit, path).await.status, 200, "{path}");
        forbidden(&platform.get(&approve, path).await, "taskgrant.admin");
    }
    for token in [&admin, &approve, &audit] {
        assert_eq!(platform.get(token, "/admin/v1/approvals").await.status, 200);
    }
    let task = claims(&admin)["task_id"].as_str().unwrap().to_owned();
    let seen = platform.get(&audit, &format!("/admin/v1/tasks/{task}")).await;
    assert_eq!(seen.body["principal"]["sub"], "root", "{seen:?}");
    let lockdown = json!({"on": false, "reason": "none is on"});
    for token in [&approve, &audit] {
        forbidden(&platform.call(token, "POST", "/admin/v1/lockdown", &lockdown).await, "taskgrant.admin");
    }
    assert_eq!(platform.call(&admin, "POST", "/admin/v1/lockdown", &lockdown).await.status, 200);
    // Larger than what strangers may send anywhere, and read once it is known who sends it.
    let text = format!("kind: Tenant\ntenant: acme\nname: acme\nspec: {{}}\n# {}\n", "x".repeat(300_000));
    let files = json!({"documents": [{"file": "a.yaml", "text": text}], "options": {"dry_run": true}});
    let planned = platform.call(&admin, "POST", "/admin/v1/apply", &files).await;
    assert_eq!((planned.status, &planned.body["dry_run"]), (200, &json!(true)), "{planned:?}");
    forbidden(&platform.call(&audit, "POST", "/admin/v1/apply", &files).await, "taskgrant.admin");
    locked_out(&platform.send("POST", "/admin/v1/apply", &[], &files).await, NO_TOKEN);
    let answer = json!({"reason": "yes"});
    let path = "/admin/v1/approvals/01a1fc73-36e3-784e-a2a2-79d87dbf1517/approve";
    for token in [&admin, &audit] {
        forbidden(&platform.call(token, "POST", path, &answer).await, "taskgrant.approve");
    }
    assert_eq!(platform.call(&approve, "POST", path, &answer).await.status, 404);
    assert_eq!(platform.get(&admin, "/admin/v1/nothing").await.status, 404);
    assert_eq!(platform.call(&admin, "POST", "/admin/v1/bootstrap-admin", &json!({})).await.status, 404);
    locked_out(&platform.send("GET", "/admin/v1/nothing", &[], &Value::Null).await, NO_TOKEN);
}

#[tokio::test]
async fn a_token_for_the_admin_api_is_short_has_one_scope_and_leads_nowhere_else() {
    let platform = Platform::start().await;
    let session = platform.session(json!({}));
    let answer = platform.exchange("admin", &session).await;
    let token = answer.token();
    let held = claims(&token);
    assert_eq!(held["aud"], format!("{}/admin", platform.server.issuer));
    assert_eq!(
        (&held["scope"], &held["task_type"]),
        (&json!("taskgrant.admin"), &json!("taskgrant.admin@1"))
    );
    assert_eq!((&held["depth_left"], &held["act"]["sub"]), (&json!(0), &json!(CONSOLE)));
    let life = |name: &str| held[name].as_i64().unwrap() - held["iat"].as_i64().unwrap();
    assert!(life("exp") <= 600 && life("task_exp") <= 900, "{held}");
    let recorded = platform.server.decision(&answer).await;
    assert_eq!(recorded.record["principal"]["sub"], "root");
    assert_eq!(recorded.input, Value::Null, "no bundle is asked");

    let server = &platform.server;
    let more = |with: &[(&str, &str)]| {
        let form: Vec<(String, String)> =
            with.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let session = session.clone();
        async move {
            let form: Vec<(&str, &str)> = form.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let base = [("task_type", "taskgrant.admin")];
            server.exchange(CONSOLE, &session, &[&base[..], &form].concat()).await
        }
    };
    more(&[("scope", "taskgrant.audit")]).await.refused(400, "invalid_scope", "scope_exceeds_ceiling");
    more(&[("scope", "orders:read")]).await.refused(400, "invalid_scope", "scope_exceeds_ceiling");
    more(&[("resource", ORDERS)]).await.refused(400, "invalid_target", "target_exceeds_ceiling");
    let handed = [("audience", server.issuer.as_str()), ("delegate_to", "support-agent")];
    more(&handed).await.refused(400, "invalid_request", "malformed_request");
    server.exchange("support-agent", &token, &[]).await.refused(
        400,
        "invalid_request",
        "delegation_not_allowed",
    );
    // The same client may shorten it, and it stays what it is.
    let shorter = server.exchange(CONSOLE, &token, &[("requested_expires_in", "30")]).await.token();
    assert_eq!(platform.get(&shorter, "/admin/v1/objects").await.status, 200);
}

#[tokio::test]
async fn t02_an_agent_that_holds_an_admins_session_reaches_nothing() {
    let platform = Platform::start().await;
    let server = &platform.server;
    // Through the agent's own application: like any task type that is not its own.
    let held = server.session(json!({"sub": "root", "auth_time": server.now()}));
    let foreign = server.exchange("support-agent", &held, &[("task_type", "globex_task")]).await;
    for name in ["taskgrant.admin", "taskgrant.approve", "taskgrant.audit"] {
        let answer = server.exchange("support-agent", &held, &[("task_type", name)]).await;
        answer.refused(400, "invalid_request", "task_type_unavailable");
        assert_eq!(answer.body["grantable"], foreign.body["grantable"]);
    }
    // Through the client of the console: not its own to spend.
    let form = [("task_type", "taskgrant.admin")];
    let stolen = server.exchange("support-agent", &platform.session(json!({})), &form).await;
    stolen.refused(400, "invalid_request", "subject_token_not_yours");
    // Nor may the console spend what agents hold.
    let theirs = server.exchange(CONSOLE, &held, &form).await;
    theirs.refused(400, "invalid_request", "subject_token_not_yours");
    // What the admin may delegate as a user opens no admin API, and no scope of it is to be had so.
    let held = server.session(json!({"sub": "root", "groups": ["support"]}));
    let uri = format!("{}/admin", server.issuer);
    let form = [("task_type", "refund_order"), ("resource", uri.as_str())];
    let reached = server.exchange("support-agent", &held, &form).await;
    reached.refused(400, "invalid_target", "target_exceeds_ceiling");
}

#[tokio::test]
async fn a_console_starts_no_other_task_and_is_handed_none() {
    let platform = Platform::start().await;
    let server = &platform.server;
    let session = platform.session(json!({"groups": ["support"]}));
    for name in ["refund_order", "export_reports"] {
        let answer = server.exchange(CONSOLE, &session, &[("task_type", name)]).await;
        answer.refused(400, "invalid_request", "task_type_unavailable");
    }
    let unnamed = server.exchange(CONSOLE, &session, &[]).await;
    unnamed.refused(400, "invalid_request", "task_type_missing");
    let names = json!(["taskgrant.admin", "taskgrant.approve", "taskgrant.audit"]);
    assert_eq!(unnamed.body["grantable"]["task_type"], names);
    let root = server.wide_root().await;
    let form = [("audience", server.issuer.as_str()), ("delegate_to", CONSOLE), ("scope", "orders:read")];
    let answer = server.exchange("support-agent", &root, &form).await;
    answer.refused(400, "invalid_request", "delegation_not_allowed");
    let answer = server.exchange(CONSOLE, &root, &[]).await;
    answer.refused(400, "invalid_request", "delegation_not_allowed");
}

#[tokio::test]
async fn only_a_person_who_signed_in_just_now_and_administers_gets_a_token() {
    let platform = Platform::start().await;
    let now = platform.server.now();
    for (with, code) in [
        (json!({"auth_time": now - 16 * 60}), "subject_token_login_old"),
        (json!({"auth_time": null}), "subject_token_login_unknown"),
        (json!({"may_act": {"sub": CONSOLE}}), "subject_token_session_of_agent"),
        (json!({"sub": "alice"}), "administrator_role_missing"),
        (json!({"sub": "erin", "groups": ["support-leads"]}), "administrator_role_missing"),
        (json!({"act": {"sub": "bot"}}), "subject_token_session_of_agent"),
    ] {
        platform.exchange("admin", &platform.session(with)).await.refused(400, "invalid_request", code);
    }
    platform.exchange("admin", &platform.session(json!({"auth_time": now - 14 * 60}))).await.token();
    // A group counts in the tenant that was named: another tenant of the same issuer could call one so.
    let lead = |tenant: &str| {
        platform.session(json!({"sub": "erin", "groups": ["support-leads"], "org_id": tenant}))
    };
    platform.exchange("approve", &lead("acme")).await.token();
    let other = platform.exchange("approve", &lead("globex")).await;
    other.refused(400, "invalid_request", "administrator_role_missing");
}

/// A login may be 15 minutes old when it is exchanged, and the token lives for ten: 25 minutes after it, everything is over.
#[tokio::test]
async fn a_login_is_good_for_calls_until_25_minutes_after_it() {
    let platform = Platform::start().await;
    let login = platform.server.now() - 14 * 60 - 50;
    let session = platform.session(json!({"auth_time": login}));
    let token = platform.exchange("admin", &session).await.token();
    platform.server.clock.shift(9 * 60 + 50);
    assert_eq!(platform.get(&token, "/admin/v1/objects").await.status, 200);
    // What the token itself is exchanged for ends with it.
    let renewed = platform.server.exchange(CONSOLE, &token, &[]).await.token();
    assert_eq!(claims(&renewed)["exp"], claims(&token)["exp"]);
    platform.server.clock.shift(20);
    for token in [&token, &renewed] {
        locked_out(&platform.get(token, "/admin/v1/objects").await, BAD_TOKEN);
    }
}

/// The head of a request lets nobody in for as long as its body takes.
#[tokio::test]
async fn l4_who_is_revoked_while_the_body_is_on_its_way_changes_nothing() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let platform = Platform::start().await;
    let token = platform.login("admin").await;
    let body = json!({"on": true, "reason": "stolen"}).to_string();
    let (first, rest) = body.split_at(5);
    let at = platform.url.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
    let head = format!(
        "POST /admin/v1/lockdown HTTP/1.1\r\nhost: {at}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{first}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // Long enough for the head to have been let in: if it is not yet, the test says less, and not otherwise.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(platform.server.revoke(CONSOLE, &token).await.status, 200);
    stream.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("invalid_token"), "{answer}");
}

#[tokio::test]
async fn only_files_may_be_long() {
    let platform = Platform::start().await;
    let admin = platform.login("admin").await;
    let long = json!({"on": true, "reason": "x".repeat(70_000)});
    let told = platform.call(&admin, "POST", "/admin/v1/lockdown", &long).await;
    assert_eq!((told.status, &told.body["error"]), (400, &json!("bad_request")), "{}", told.text);
    assert!(told.text.contains("more than 65536 bytes"), "{}", told.text);
    let rules = format!("# {}\npackage taskgrant.exchange\nallow if true\n", "x".repeat(70_000));
    let files = json!({"files": [{"path": "own/rules.rego", "text": rules}]});
    let loaded = platform.call(&admin, "POST", "/admin/v1/policy/candidate", &files).await;
    assert_eq!(loaded.status, 200, "{}", loaded.text);
}

#[tokio::test]
async fn a_bundle_without_rules_is_none() {
    let platform = Platform::start().await;
    let admin = platform.login("admin").await;
    let tests = json!([{"path": "own/own_test.rego", "text": "package taskgrant.exchange\n"}]);
    for files in [json!([]), tests] {
        for path in ["/admin/v1/policy/apply", "/admin/v1/policy/candidate"] {
            let told = platform.call(&admin, "POST", path, &json!({"files": files})).await;
            assert_eq!((told.status, &told.body["error"]), (422, &json!("policy_unfit")), "{}", told.text);
            assert!(told.text.contains("no rules"), "{}", told.text);
        }
    }
}

#[tokio::test]
async fn t18_what_is_no_live_token_for_the_admin_api_opens_nothing() {
    let platform = Platform::start().await;
    let server = &platform.server;
    let path = "/admin/v1/objects";
    locked_out(&platform.send("GET", path, &[], &Value::Null).await, NO_TOKEN);
    let good = platform.login("admin").await;
    let (orders, wide) = (server.root().await, server.wide_root().await);
    let session = platform.session(json!({}));
    let assertion = server.idp.sign("JWT", &json!({"iss": CONSOLE, "sub": CONSOLE, "aud": server.issuer}));
    let own = server.own_keys();
    let retyped = own.sign("JWT", &claims(&good)).unwrap();
    let mut forged = claims(&good);
    forged["jti"] = json!("01a1fc73-36e3-7ac1-b6f6-5a51ff6afbb4");
    let forged = own.sign("at+jwt", &forged).unwrap();
    let cut = &good[..good.len() - 2];
    let exchange_only = [("task_type", "taskgrant.admin"), ("audience", server.issuer.as_str())];
    let exchange_only = server.exchange(CONSOLE, &session, &exchange_only).await;
    exchange_only.refused(400, "invalid_request", "malformed_request");
    for bad in [&orders, &wide, &session, &assertion, &retyped, &forged, cut, "x", ""] {
        locked_out(&platform.get(bad, path).await, BAD_TOKEN);
    }
    let bearer = format!("Bearer {good}");
    let twice = [("authorization", bearer.as_str()), ("authorization", bearer.as_str())];
    locked_out(&platform.send("GET", path, &twice, &Value::Null).await, BAD_TOKEN);
    let basic = basic(CONSOLE);
    locked_out(&platform.send("GET", path, &[("authorization", &basic.1)], &Value::Null).await, BAD_TOKEN);
    // Neither a cookie nor a parameter is a credential (RFC 6750 §2.2, §2.3), and no other site is let in.
    let cookie = format!("access_token={good}; token={good}");
    locked_out(&platform.send("GET", path, &[("cookie", &cookie)], &Value::Null).await, NO_TOKEN);
    let query = format!("{path}?access_token={good}");
    locked_out(&platform.send("GET", &query, &[], &Value::Null).await, NO_TOKEN);
    let preflight = [("origin", "https://evil.example"), ("access-control-request-method", "POST")];
    let preflight = platform.send("OPTIONS", path, &preflight, &Value::Null).await;
    assert!(!preflight.headers.keys().any(|name| name.starts_with("access-control")), "{preflight:?}");
    let fine = platform.get(&good, path).await;
    assert_eq!((fine.status, fine.headers["cache-control"].as_str()), (200, "no-store"));
    // The public listener serves none of it.
    assert_eq!(server.get(path, &[("authorization".to_owned(), bearer)]).await.status, 404);
    server.clock.shift(601);
    locked_out(&platform.get(&good, path).await, BAD_TOKEN);
}

#[tokio::test]
async fn rv_02_a_token_dies_with_itself_its_session_its_principal_and_its_console() {
    let platform = Platform::start().await;
    let (server, path) = (&platform.server, "/admin/v1/objects");
    let own = platform.login("admin").await;
    assert_eq!(server.revoke(CONSOLE, &own).await.status, 200);
    locked_out(&platform.get(&own, path).await, BAD_TOKEN);

    let ended = platform.login("admin").await;
    let revoke = async |target: Target| {
        let request = RevokeRequest { target, reason: "logout".to_owned(), dry_run: false };
        server.admin().await.revoke(&request).await.unwrap().unwrap();
    };
    let iss = server.idp.issuer.clone();
    revoke(Target::Session { iss: iss.clone(), sid: "sid-root".to_owned() }).await;
    locked_out(&platform.get(&ended, path).await, BAD_TOKEN);
    server.clock.shift(5);

    let gone = platform.login("admin").await;
    assert_eq!(platform.get(&gone, path).await.status, 200);
    revoke(Target::Principal { iss, sub: "root".to_owned() }).await;
    locked_out(&platform.get(&gone, path).await, BAD_TOKEN);
    server.clock.shift(5);

    let typed = platform.login("admin").await;
    let (tenant, name) = ("system".parse().unwrap(), "taskgrant.admin".parse().unwrap());
    revoke(Target::TaskType { tenant, name }).await;
    locked_out(&platform.get(&typed, path).await, BAD_TOKEN);
    server.clock.shift(5);

    let orphan = platform.login("admin").await;
    let disabled = platform.admins().replacen("  class:", "  disabled: true\n  class:", 1);
    server.apply(&disabled).await.unwrap();
    locked_out(&platform.get(&orphan, path).await, BAD_TOKEN);
}

#[tokio::test]
async fn who_administers_is_looked_at_again_on_each_call_and_told_in_the_log() {
    let platform = Platform::start().await;
    let (server, path) = (&platform.server, "/admin/v1/objects");
    let token = platform.login("admin").await;
    assert_eq!(platform.get(&token, path).await.status, 200);
    server
        .apply(&platform.admins().replace("roles: [admin, approve, audit]", "roles: [audit]"))
        .await
        .unwrap();
    let before = server.decisions().await;
    forbidden(&platform.get(&token, path).await, "taskgrant.admin");
    let (leaf, record) = server.last_decision().await;
    assert_eq!((&leaf["kind"], &leaf["outcome"]), (&json!("admin"), &json!("deny")));
    assert_eq!(record["principal"]["sub"], "root");
    let account = format!("principal:{} root through {CONSOLE}", server.idp.issuer);
    assert_eq!(record["actor"], json!(account));
    forbidden(&platform.get(&token, path).await, "taskgrant.admin");
    assert_eq!(server.decisions().await, before + 1, "further ones are counted");
    let again = platform.exchange("admin", &platform.session(json!({}))).await;
    again.refused(400, "invalid_request", "administrator_role_missing");
    server.apply(&platform.admins()).await.unwrap();
    let lockdown = json!({"on": true, "tenant": "globex", "reason": "an incident"});
    let done = platform.call(&token, "POST", "/admin/v1/lockdown", &lockdown).await;
    let recorded = server.decision(&done).await;
    assert_eq!(recorded.record["actor"], json!(account));
}

#[tokio::test]
async fn neither_a_lockdown_nor_a_policy_keeps_an_admin_out() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle");
    std::fs::create_dir(&bundle).unwrap();
    let starter = include_str!("../../policies/base/ceilings.rego");
    let rules =
        format!("{starter}\ndeny contains {{\"code\": \"no\", \"message\": \"no\", \"public\": true}}\n");
    std::fs::write(bundle.join("rules.rego"), rules).unwrap();
    let platform = Platform::start_with(&format!("[policy]\nbundles = ['{}']", bundle.display())).await;
    let server = &platform.server;
    let form = [("task_type", "refund_order"), ("resource", ORDERS)];
    let denied = server.exchange("support-agent", &server.session(json!({})), &form).await;
    denied.refused(400, "invalid_request", "policy_denied");
    for tenant in [Some("acme"), None] {
        let tenant = tenant.map(|name| name.parse().unwrap());
        let request = LockdownRequest { on: true, tenant, reason: "an incident".to_owned() };
        server.admin().await.lock_down(&request).await.unwrap().unwrap();
        let held = server.exchange("support-agent", &server.session(json!({})), &form).await;
        held.refused(503, "temporarily_unavailable", "lockdown");
        platform.login("audit").await;
    }
    let token = platform.login("admin").await;
    for tenant in [Value::Null, json!("acme")] {
        let off = json!({"on": false, "tenant": tenant, "reason": "over"});
        let done = platform.call(&token, "POST", "/admin/v1/lockdown", &off).await;
        assert_eq!(done.status, 200, "{done:?}");
    }
    // A bundle that fails on every input, until somebody replaces it.
    let broken = format!("{starter}\ndeny contains \"a bare text\"\n");
    std::fs::write(bundle.join("rules.rego"), broken).unwrap();
    let reloaded = platform.call(&token, "POST", "/admin/v1/policy/reload", &json!({})).await;
    assert_eq!(reloaded.status, 200, "{reloaded:?}");
    let fault = server.exchange("support-agent", &server.session(json!({})), &form).await;
    fault.refused(503, "temporarily_unavailable", "policy_unavailable");
    let token = platform.login("admin").await;
    let answer = platform.call(&token, "POST", "/admin/v1/policy/rollback", &json!({})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn ap_03_over_https_the_token_says_who_answers_and_duties_stay_apart() {
    let platform = Platform::start().await;
    let server = &platform.server;
    let close = [("task_type", "close_account"), ("scope", "refunds:write"), ("completion_mode", "deferred")];
    let asked = server.exchange("support-agent", &server.session(json!({})), &close).await;
    let id = asked.body["approval_id"].as_str().unwrap().to_owned();
    let path = |verb: &str| format!("/admin/v1/approvals/{id}/{verb}");
    let yes = json!({"reason": "seen with the customer"});
    let vote = async |token: &str| platform.call(token, "POST", &path("approve"), &yes).await;
    let as_person = async |with: Value| platform.exchange("approve", &platform.session(with)).await.token();

    // An administrator who is no approver of this task type, the principal, and somebody of another tenant.
    let root = platform.login("approve").await;
    let refused = vote(&root).await;
    assert_eq!((refused.status, refused.body["error"].as_str()), (403, Some("not_allowed")), "{refused:?}");
    assert!(refused.body["message"].as_str().unwrap().contains("group:support-leads"));
    let recorded = server.last_decision().await;
    assert_eq!(recorded.1["reasons"][0]["code"], "approver_not_named");
    assert!(recorded.1["actor"].as_str().unwrap().starts_with("principal:"), "{recorded:?}");
    let own = as_person(json!({"sub": "alice", "groups": ["support-leads"]})).await;
    assert!(vote(&own).await.body["message"].as_str().unwrap().contains("on whose behalf"));
    let globex = as_person(json!({"org_id": "globex"})).await;
    for path in ["/admin/v1/approvals", "/admin/v1/approvals?all=true"] {
        assert_eq!(platform.get(&globex, path).await.body, json!([]), "not their tenant's");
        assert_eq!(platform.get(&root, path).await.body[0]["id"], json!(id));
    }
    assert_eq!(platform.get(&globex, &format!("/admin/v1/approvals/{id}")).await.status, 404);
    // What others have is nothing to go on behind either.
    let behind = format!("/admin/v1/approvals?after={id}");
    assert_eq!(platform.get(&globex, &behind).await.status, 404);
    assert!(vote(&globex).await.body["message"].as_str().unwrap().contains("tenant"));

    // No session token beside the token, and a login that was fresh when the token was issued is fresh still.
    let erin = json!({"sub": "erin", "groups": ["support-leads"], "sid": "sid-erin"});
    let lead = as_person(erin.clone()).await;
    let both = json!({"reason": "yes", "session_token": platform.session(json!({}))});
    assert_eq!(platform.call(&lead, "POST", &path("approve"), &both).await.status, 400);
    let stale = bend(erin.clone(), json!({"auth_time": server.now() - 14 * 60}));
    let stale = as_person(stale).await;
    server.clock.shift(120);
    let late = vote(&stale).await;
    assert!(late.body["message"].as_str().unwrap().contains("sign in again"), "{late:?}");

    assert_eq!(platform.get(&lead, "/admin/v1/approvals").await.body[0]["id"], json!(id));
    assert_eq!(platform.get(&lead, &behind).await.body, json!([]), "it is the last one");
    assert_eq!(platform.get(&lead, "/admin/v1/approvals?after=last").await.status, 400);
    let cast = vote(&lead).await;
    assert_eq!(cast.body["approval"]["state"], "approved", "{cast:?}");
    let decision = server.decision(&cast).await;
    assert_eq!(decision.record["asked"]["approver"]["sub"], "erin");
    assert_eq!(
        decision.record["actor"],
        json!(format!("principal:{} erin through {CONSOLE}", server.idp.issuer))
    );
    let code = asked.body["deferral_code"].as_str().unwrap();
    let grant = "urn:ietf:params:oauth:grant-type:deferred";
    let fetch = [("grant_type", grant), ("deferral_code", code)];
    server.post("/oauth/token", "support-agent", &fetch).await.token();
}

#[tokio::test]
async fn ap_03_an_approver_of_the_console_may_also_answer_over_the_socket() {
    use taskgrant::approvals::Ballot;
    use taskgrant::domain::approval::Narrowing;
    use taskgrant::domain::objects::SessionTokenKind;
    use taskgrant::domain::request::Presented;
    let platform = Platform::start().await;
    let server = &platform.server;
    let close = [("task_type", "close_account"), ("scope", "refunds:write"), ("completion_mode", "deferred")];
    let asked = server.exchange("support-agent", &server.session(json!({})), &close).await;
    let ballot = Ballot {
        approves: true,
        reason: "seen".to_owned(),
        narrowing: Narrowing::default(),
        envelope: None,
        session_token: Presented::from_text(
            platform.session(json!({"sub": "erin", "groups": ["support-leads"]})),
        ),
        session_token_type: SessionTokenKind::AccessToken,
    };
    let id = asked.body["approval_id"].as_str().unwrap();
    server.admin().await.vote(id, &ballot).await.unwrap().unwrap();
    // An agent that is given the console's client would hold such sessions: it is not taken.
    let shared = format!("client: console}}, {{issuer: {}, client: {CLI}}}]", server.idp.issuer);
    let fault = server.apply(&server.objects().replacen("client: console}]", &shared, 1)).await.unwrap_err();
    assert!(format!("{fault:?}").contains("no agent may hold its sessions"), "{fault:?}");
}

#[tokio::test]
async fn what_a_login_has_to_know_is_told_to_everybody() {
    let platform = Platform::start().await;
    let told = platform.send("GET", "/admin/v1/login", &[], &Value::Null).await;
    let server = &platform.server;
    let sign_in = json!([{"issuer": server.idp.issuer, "client": CLI, "session_tokens": ["access_token"]}]);
    let wanted = json!({
        "issuer": server.issuer, "resource": format!("{}/admin", server.issuer),
        "consoles": [{"client_id": CONSOLE, "sign_in": sign_in}],
    });
    assert_eq!(told.body, wanted);
    let as_id_token = [("task_type", "taskgrant.admin"), ("subject_token_type", ID_TOKEN)];
    let answer = server.exchange(CONSOLE, &platform.session(json!({})), &as_id_token).await;
    answer.refused(400, "invalid_request", "subject_token_wrong_type");
}
