//! Revocation by order of an admin: every kind, what dies and what does not (RV-02, T02, T26 to T28).

use std::sync::Arc;

use serde_json::{Value, json};
use taskgrant::admin::api::{RefusalCode, Refused};
use taskgrant::admin::revocations::RevokeRequest;
use taskgrant::domain::record::RevocationKind;
use taskgrant::revocation::order::{Revoked, Toll};
use taskgrant::revocation::target::Target;

use crate::support::idp::{Idp, claims};
use crate::support::process::Site;
use crate::support::server::{ORDERS, Server, secret};

/// Gives the order, over the admin socket.
async fn order(server: &Server, target: &Target, dry_run: bool) -> Result<Revoked, Refused> {
    let request = RevokeRequest { target: target.clone(), reason: "lost laptop".to_owned(), dry_run };
    server.admin().await.revoke(&request).await.unwrap()
}

/// Two tasks: of the first its root, a child, the child's own child at another agent, and a sibling; and the root of the
/// second, which another principal started in another session.
struct Trees {
    root: String,
    child: String,
    workers: String,
    sibling: String,
    other: String,
}

/// The session of the other principal.
fn other_session(server: &Server) -> Value {
    json!({"sub": "bob", "sid": "sid-2", "iat": server.now(), "auth_time": server.now() - 60})
}

async fn start(server: &Server, session: Value, task_type: &str) -> String {
    let form = [("task_type", task_type), ("resource", ORDERS), ("scope", "orders:read")];
    server.exchange("support-agent", &server.session(session), &form).await.token()
}

impl Trees {
    async fn grow(server: &Server) -> Self {
        let root = server.root().await;
        let child = server.exchange("support-agent", &root, &[]).await.token();
        let workers = server.exchange("worker-agent", &child, &[]).await.token();
        let sibling = server.exchange("support-agent", &root, &[]).await.token();
        let other = start(server, other_session(server), "export_reports").await;
        Self { root, child, workers, sibling, other }
    }

    /// Which of them introspection calls active: root, child, the worker's, sibling, the other task's.
    async fn alive(&self, server: &Server) -> [bool; 5] {
        let mut alive = [false; 5];
        let tokens = [&self.root, &self.child, &self.workers, &self.sibling, &self.other];
        for (alive, token) in alive.iter_mut().zip(tokens) {
            let answer = server.introspect("orders-api", token).await;
            *alive = answer.body["active"] == true;
            assert!(*alive || answer.body == json!({"active": false}), "{answer:?}");
        }
        alive
    }

    /// What is dead starts nothing, at the agent that holds it.
    async fn dead_start_nothing(&self, server: &Server, alive: [bool; 5]) {
        let tokens = [&self.root, &self.child, &self.workers, &self.sibling, &self.other];
        for (token, alive) in tokens.into_iter().zip(alive) {
            let holder = claims(token)["client_id"].as_str().unwrap().to_owned();
            let answer = server.exchange(&holder, token, &[]).await;
            if alive {
                answer.token();
            } else {
                answer.refused(400, "invalid_request", "revoked");
                assert_eq!(answer.body["retry"], "new_session");
            }
        }
    }
}

/// Every kind with what it leaves alive of [`Trees`], and whether a fresh login is needed for the next root.
fn kinds(server: &Server, trees: &Trees) -> Vec<(Target, [bool; 5], bool)> {
    let iss = server.idp.issuer.clone();
    let id = |token: &str, claim: &str| claims(token)[claim].as_str().unwrap().to_owned();
    let acme = || "acme".parse().unwrap();
    let only_other = [false, false, false, false, true];
    let session = Target::Session { iss: iss.clone(), sid: "sid-1".to_owned() };
    vec![
        (
            Target::Token { jti: id(&trees.child, "jti").parse().unwrap() },
            [true, false, false, true, true],
            false,
        ),
        (Target::Token { jti: id(&trees.root, "jti").parse().unwrap() }, only_other, false),
        (Target::Task { id: id(&trees.root, "task_id").parse().unwrap() }, only_other, false),
        (session, only_other, true),
        (Target::Principal { iss: iss.clone(), sub: "alice".to_owned() }, only_other, true),
        (
            Target::Agent { client_id: "worker-agent".parse().unwrap() },
            [true, true, false, true, true],
            false,
        ),
        (Target::Agent { client_id: "support-agent".parse().unwrap() }, [false; 5], false),
        (Target::TaskType { tenant: acme(), name: "refund_order".parse().unwrap() }, only_other, false),
        (Target::Issuer { iss }, [false; 5], true),
        (Target::Tenant { name: acme() }, [false; 5], true),
    ]
}

#[tokio::test]
async fn rv_02_t28_every_kind_kills_all_that_hangs_on_it_and_nothing_else() {
    let count = kinds(&Server::start().await, &Trees::grow(&Server::start().await).await).len();
    for index in 0..count {
        let server = Server::start().await;
        let trees = Trees::grow(&server).await;
        let (target, left, login) = kinds(&server, &trees).swap_remove(index);
        assert_eq!(trees.alive(&server).await, [true; 5], "{target:?}");
        let told = order(&server, &target, false).await.unwrap();
        assert!(told.seen && told.would_die.is_none(), "{told:?}");
        assert_eq!(trees.alive(&server).await, left, "{target:?}");
        trees.dead_start_nothing(&server, left).await;
        // The same login starts nothing more where the login is what died, refreshed or not; a later one does.
        let again = json!({"auth_time": server.now() - 60, "iat": server.now()});
        let form = [("task_type", "refund_order"), ("resource", ORDERS), ("scope", "orders:read")];
        server.clock.shift(5);
        let refreshed = json!({"auth_time": again["auth_time"], "iat": server.now(), "jti": "refreshed"});
        let answer = server.exchange("support-agent", &server.session(refreshed), &form).await;
        if login {
            answer.refused(400, "invalid_request", "revoked");
        } else {
            answer.token();
        }
        let fresh = json!({"auth_time": server.now(), "iat": server.now()});
        let fresh = server.exchange("support-agent", &server.session(fresh), &form).await.token();
        assert_eq!(server.introspect("orders-api", &fresh).await.body["active"], true, "{target:?}");
        assert_eq!(trees.alive(&server).await, left, "a fresh login revives nothing");
    }
}

#[tokio::test]
async fn rv_02_a_session_without_a_sid_dies_by_its_token() {
    let server = Server::start().await;
    let session = server.session(json!({"sid": null}));
    let form = [("task_type", "refund_order"), ("resource", ORDERS), ("scope", "orders:read")];
    let token = server.exchange("support-agent", &session, &form).await.token();
    let (signed, _) = session.rsplit_once('.').unwrap();
    let token_sha256 = crate::support::server::sha256(signed);
    let target = Target::SessionToken { iss: server.idp.issuer.clone(), token_sha256 };
    assert!(order(&server, &target, false).await.unwrap().seen);
    assert_eq!(server.introspect("orders-api", &token).await.body, json!({"active": false}));
    let again = server.exchange("support-agent", &session, &form).await;
    again.refused(400, "invalid_request", "revoked");
}

#[tokio::test]
async fn rv_02_a_dry_run_counts_what_would_die_and_changes_nothing() {
    let server = Server::start().await;
    let trees = Trees::grow(&server).await;
    let before = server.decisions().await;
    let counts = async |target: &Target| {
        let told = order(&server, target, true).await.unwrap();
        assert!(told.seen && told.decision_id.is_none() && told.keep_until.is_none(), "{told:?}");
        told.would_die.unwrap()
    };
    for (target, left, _) in kinds(&server, &trees) {
        let toll = counts(&target).await;
        let dead = left.iter().filter(|alive| !**alive).count();
        let tasks = if dead == 5 { 2 } else { 1 };
        assert_eq!((toll.tokens, toll.tasks, toll.at_least), (dead, tasks, false), "{target:?}");
        assert_eq!(toll.by_agent.values().sum::<usize>(), dead, "{target:?}");
    }
    let (all, ..) = kinds(&server, &trees).pop().unwrap();
    let Toll { by_agent, by_task_type, .. } = counts(&all).await;
    assert_eq!(json!(by_agent), json!({"support-agent": 4, "worker-agent": 1}));
    assert_eq!(json!(by_task_type), json!({"acme/refund_order": 4, "acme/export_reports": 1}));
    assert_eq!((server.decisions().await, trees.alive(&server).await), (before, [true; 5]));
    // What is dead already does not die again, nor what has expired.
    let (child, ..) = kinds(&server, &trees).swap_remove(0);
    order(&server, &child, false).await.unwrap();
    assert_eq!(counts(&all).await.tokens, 3);
    server.clock.shift(61);
    assert_eq!(counts(&all).await.tokens, 2, "the other task's token lives for a minute");
}

#[tokio::test]
async fn rv_02_an_order_is_recorded_with_who_what_and_why_and_listed() {
    let server = Server::start().await;
    let trees = Trees::grow(&server).await;
    for (target, ..) in kinds(&server, &trees) {
        let told = order(&server, &target, false).await.unwrap();
        let id = told.decision_id.unwrap();
        let recorded = server.decision_of(id).await;
        assert!(recorded.record["actor"].as_str().unwrap().starts_with("uid "), "{recorded:?}");
        let asked = json!({"command": "revoke", "target": target, "reason": "lost laptop"});
        assert_eq!((&recorded.record["asked"], &recorded.leaf["outcome"]), (&asked, &json!("allow")));
        assert!(!recorded.text().contains("eyJ"), "a token is in the log");
        // Nothing that it kills can live when the row goes: a task, and the oldest session that could start one.
        let kept = told.keep_until.unwrap().timestamp() - server.now();
        let of_a_task = matches!(target, Target::Token { .. } | Target::Task { .. });
        let lives = if of_a_task { 3500 } else { 30 * 86_400 };
        assert!(kept >= lives, "{target:?}: {kept}");
    }
    let listed = server.admin().await.revocations().await.unwrap().unwrap();
    assert_eq!(listed.len(), kinds(&server, &trees).len());
    let newest = listed.first().unwrap();
    assert_eq!(
        (newest.kind, newest.key.as_slice()),
        (RevocationKind::Tenant, ["acme".to_owned()].as_slice())
    );
    assert_eq!((newest.reason.as_str(), newest.tenant.as_deref()), ("lost laptop", Some("acme")));
    assert!(newest.at.is_some());
}

#[tokio::test]
async fn rv_02_an_unknown_token_or_task_is_told_and_an_unknown_principal_is_stopped_before_it_comes() {
    let server = Server::start().await;
    let before = server.decisions().await;
    let unknown = "01a1fc73-36e3-7ac1-b6f6-5a51ff6afbb4";
    for target in
        [Target::Token { jti: unknown.parse().unwrap() }, Target::Task { id: unknown.parse().unwrap() }]
    {
        for dry_run in [true, false] {
            let refused = order(&server, &target, dry_run).await.unwrap_err();
            assert_eq!(refused.error, RefusalCode::NotFound);
            assert!(refused.message.contains("taskgrant task tree"), "{}", refused.message);
        }
    }
    let iss = server.idp.issuer.clone();
    for target in [
        Target::Principal { iss: iss.clone(), sub: "a\nb".to_owned() },
        Target::Principal { iss: iss.clone(), sub: String::new() },
        Target::Session { iss: "x\u{0}".to_owned(), sid: "s".to_owned() },
    ] {
        assert_eq!(order(&server, &target, false).await.unwrap_err().error, RefusalCode::BadRequest);
    }
    let admin = server.admin().await;
    let target = Target::Principal { iss, sub: "alice".to_owned() };
    for reason in [" ".to_owned(), "x".repeat(1001)] {
        let request = RevokeRequest { target: target.clone(), reason, dry_run: false };
        let refused = admin.revoke(&request).await.unwrap().unwrap_err();
        assert_eq!(refused.error, RefusalCode::BadRequest);
        assert!(refused.message.contains("reason"), "{}", refused.message);
    }
    assert_eq!(server.decisions().await, before, "what is refused here changes nothing");
    assert!(!order(&server, &target, false).await.unwrap().seen);
    let form = [("task_type", "refund_order"), ("resource", ORDERS), ("scope", "orders:read")];
    let first = server.exchange("support-agent", &server.session(json!({})), &form).await;
    first.refused(400, "invalid_request", "revoked");
}

#[tokio::test]
async fn rv_02_t26_no_root_outlives_the_revocation_that_it_raced() {
    let iss = |server: &Server| server.idp.issuer.clone();
    for kind in ["principal", "session", "tenant", "agent"] {
        let server = Arc::new(Server::start().await);
        let target = match kind {
            "principal" => Target::Principal { iss: iss(&server), sub: "alice".to_owned() },
            "session" => Target::Session { iss: iss(&server), sid: "sid-1".to_owned() },
            "tenant" => Target::Tenant { name: "acme".parse().unwrap() },
            _ => Target::Agent { client_id: "support-agent".parse().unwrap() },
        };
        let mut racing = tokio::task::JoinSet::new();
        for turn in 0..16 {
            let (server, target) = (server.clone(), target.clone());
            racing.spawn(async move {
                if turn == 6 {
                    order(&server, &target, false).await.unwrap();
                    return None;
                }
                let form = [("task_type", "refund_order"), ("resource", ORDERS), ("scope", "orders:read")];
                let answer = server.exchange("support-agent", &server.session(json!({})), &form).await;
                if answer.status == 200 {
                    return Some(answer.token());
                }
                answer.refused(400, "invalid_request", "revoked");
                None
            });
        }
        for root in racing.join_all().await.into_iter().flatten() {
            let told = server.introspect("orders-api", &root).await.body;
            assert_eq!(told, json!({"active": false}), "{kind}");
            let below = server.exchange("support-agent", &root, &[]).await;
            below.refused(400, "invalid_request", "revoked");
        }
    }
}

#[tokio::test]
async fn rv_02_t26_no_child_outlives_any_kind_of_revocation_that_it_raced() {
    let count = kinds(&Server::start().await, &Trees::grow(&Server::start().await).await).len();
    for index in 0..count {
        let server = Arc::new(Server::start().await);
        let trees = Trees::grow(&server).await;
        let (target, ..) = kinds(&server, &trees).swap_remove(index);
        let mut racing = tokio::task::JoinSet::new();
        for turn in 0..12 {
            let (server, target, parent) = (server.clone(), target.clone(), trees.workers.clone());
            racing.spawn(async move {
                if turn == 4 {
                    order(&server, &target, false).await.unwrap();
                    return None;
                }
                let answer = server.exchange("worker-agent", &parent, &[]).await;
                (answer.status == 200).then(|| answer.token())
            });
        }
        for child in racing.join_all().await.into_iter().flatten() {
            let told = server.introspect("orders-api", &child).await.body;
            assert_eq!(told, json!({"active": false}), "{target:?}");
        }
        let late = server.exchange("worker-agent", &trees.workers, &[]).await;
        late.refused(400, "invalid_request", "revoked");
    }
}

#[tokio::test]
async fn rv_01_t02_an_agent_revokes_what_grew_from_its_own_tokens_and_nothing_above() {
    let server = Server::start().await;
    let root = server.root().await;
    let workers = server.exchange("worker-agent", &root, &[]).await.token();
    let seconds = server.exchange("worker-two", &workers, &[]).await.token();
    let active = async |token: &str| server.introspect("orders-api", token).await.body["active"] == true;
    for (agent, token) in [
        ("worker-two", &workers),
        ("worker-two", &root),
        ("worker-agent", &root),
        ("stranger-agent", &seconds),
        ("globex-agent", &seconds),
    ] {
        server.revoke(agent, token).await.refused(400, "invalid_request", "token_not_yours");
    }
    assert!(active(&seconds).await && active(&workers).await);
    assert_eq!(server.revoke("worker-agent", &seconds).await.status, 200);
    assert!(!active(&seconds).await && active(&workers).await);
    assert_eq!(server.revoke("support-agent", &workers).await.status, 200);
    assert!(
        !active(&workers).await && active(&root).await,
        "the agent that started the task revokes any of it"
    );
}

#[tokio::test]
async fn rv_02_a_revocation_holds_after_a_restart() {
    let server = Server::start().await;
    let trees = Trees::grow(&server).await;
    let target = Target::Principal { iss: server.idp.issuer.clone(), sub: "alice".to_owned() };
    order(&server, &target, false).await.unwrap();
    let data = server.data.clone();
    server.stop().await;
    let server = Server::start_in(data, Idp::start().await, "").await;
    // The address is another one, and with it the issuer: what is on record is what counts.
    let jti = claims(&trees.root)["jti"].as_str().unwrap().parse().unwrap();
    let token = server.store.token(jti).await.unwrap().unwrap();
    assert!(!server.store.is_alive(&token).await.unwrap());
}

/// A task's root by a site's server, as the client knows it.
async fn start_at(site: &Site) -> Value {
    let form = [("task_type", "refund_order"), ("resource", ORDERS), ("scope", "orders:read")];
    let client = ("support-agent", secret("support-agent"));
    let claims = json!({"sid": "sid-1", "org_id": "acme", "groups": ["support"]});
    site.start_task((client.0, &client.1), claims, &form).await
}

#[tokio::test]
async fn rv_02_the_command_revokes_through_the_server_and_in_process_without_one() {
    let site = Site::new().await;
    site.apply().await;
    let server = site.start().await;
    let root = start_at(&site).await;
    let token = root["access_token"].as_str().unwrap().to_owned();
    let task = root["task_id"].as_str().unwrap();
    std::fs::write(site.path("token"), &token).unwrap();
    let dry_run = ["revoke", "--task", task, "--reason", "a test", "--dry-run"];
    let (status, told) = site.told(&dry_run).await;
    assert_eq!(status, 0, "{told}");
    for line in [
        "1 live tokens of 1 tasks",
        "agent support-agent: 1",
        "task type acme/refund_order: 1",
        "nothing is revoked",
    ] {
        assert!(told.contains(line), "{told}");
    }
    let (status, told) = site.told(&["revoke", "--token", "token", "--reason", "a test"]).await;
    assert!(status == 0 && told.contains("revoked: token ") && told.contains("(decision "), "{told}");
    let (_, told) = site.told(&dry_run).await;
    assert!(told.contains("0 live tokens of 0 tasks"), "{told}");
    let iss = site.idp.issuer.clone();
    let (status, told) = site.told(&["revoke", "--session", &iss, "sid-1", "--reason", "a test"]).await;
    assert!(status == 0 && told.contains(&format!("revoked: session {iss} sid sid-1")), "{told}");
    let refused = start_at(&site).await;
    assert_eq!(refused["reason_code"], "revoked", "{refused}");
    let (status, told) = site.told(&["revoke", "--principal", &iss, "nobody", "--reason", "a test"]).await;
    assert!(status == 0 && told.contains("no live token hangs on it"), "{told}");
    let unknown = "01a1fc73-36e3-7ac1-b6f6-5a51ff6afbb4";
    let (status, told) = site.told(&["revoke", "--task", unknown, "--reason", "a test"]).await;
    assert!(status == 1 && told.contains("no task `01a1fc73"), "{told}");
    for wrong in [
        &["revoke", "--task", task][..],
        &["revoke", "--reason", "a test"],
        &["revoke", "--task", "x", "--reason", "a test"],
        &["revoke", "--task-type", "refund_order", "--reason", "a test"],
        &["revoke", "--task", task, "--tenant", "acme", "--reason", "a test"],
        &["lockdown", "on"],
        &["lockdown", "on", "--tenant", "ACME", "--reason", "a test"],
    ] {
        assert_eq!(site.told(wrong).await.0, 2, "{wrong:?}");
    }
    server.terminate().await;

    let (status, told) = site.told(&["revoke", "--tenant", "acme", "--reason", "a test"]).await;
    assert!(status == 0 && told.contains("revoked: tenant acme"), "{told}");
    let (status, told) = site.told(&["lockdown", "on", "--tenant", "acme", "--reason", "a test"]).await;
    assert!(status == 0 && told.contains("no new tokens for tenant acme since "), "{told}");
    let (_, told) = site.told(&["revoke", "--list"]).await;
    let kinds: Vec<_> = told.lines().filter_map(|line| line.split("Z  ").nth(1)?.split(' ').next()).collect();
    assert_eq!(kinds, ["tenant", "principal", "session", "token"], "{told}");
    let _server = site.start().await;
    let (_, told) = site.told(&["lockdown", "status"]).await;
    assert!(told.contains("a test"), "{told}");
    assert_eq!(start_at(&site).await["reason_code"], "lockdown");
    let (status, told) = site.told(&["lockdown", "off", "--tenant", "acme", "--reason", "over"]).await;
    assert!(status == 0 && told.contains("no lockdown: new tokens are issued"), "{told}");
    assert_eq!(start_at(&site).await["reason_code"], "revoked", "the tenant's logins of before");
}
