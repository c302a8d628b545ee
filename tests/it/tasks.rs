//! Tasks: who sees what of the tree, and how the agent that started one ends it (T26 to T28).

use std::sync::Arc;

use serde_json::{Value, json};
use taskgrant::admin::api::RefusalCode;
use taskgrant::admin::revocations::RevokeRequest;
use taskgrant::domain::record::RevocationKind;
use taskgrant::revocation::target::Target;
use taskgrant::tasks::tree::State;

use crate::document::Document;
use crate::support::idp::claims;
use crate::support::process::Site;
use crate::support::server::{Answer, ORDERS, Server, basic, encode, secret};

const UNKNOWN: &str = "01a1fc73-36e3-7ac1-b6f6-5a51ff6afbb4";

fn text(token: &str, claim: &str) -> String {
    claims(token)[claim].as_str().unwrap().to_owned()
}

/// A task's root, a narrower child for its own agent, and the worker's token below that.
struct Tree {
    id: String,
    root: String,
    child: String,
    workers: String,
}

impl Tree {
    async fn grow(server: &Server) -> Self {
        let root = server.wide_root().await;
        let form = [("resource", ORDERS), ("scope", "orders:read"), ("requested_expires_in", "60")];
        let child = server.exchange("support-agent", &root, &form).await.token();
        let workers = server.exchange("worker-agent", &child, &[]).await.token();
        Self { id: text(&root, "task_id"), root, child, workers }
    }

    fn tokens(&self) -> [&str; 3] {
        [&self.root, &self.child, &self.workers]
    }
}

/// The task as `client_id` sees it, checked against the documentation, and the same by a form.
async fn seen(server: &Server, client_id: &str, id: &str) -> Answer {
    let path = format!("/tasks/{id}");
    let answer = server.get(&path, &[basic(client_id)]).await;
    let by_form = server.post(&path, client_id, &[]).await;
    assert_eq!(by_form.status, answer.status, "{by_form:?}");
    for method in ["get", "post"] {
        let faults = Document::read().faults_of_answer("/tasks/{id}", method, answer.status, &answer.body);
        assert!(faults.is_empty(), "{faults:#?}\n{:#}", answer.body);
    }
    answer
}

async fn complete(server: &Server, client_id: &str, id: &str, form: &[(&str, &str)]) -> Answer {
    let answer = server.post(&format!("/tasks/{id}/complete"), client_id, form).await;
    let documented = Document::read();
    let faults = documented.faults_of_answer("/tasks/{id}/complete", "post", answer.status, &answer.body);
    assert!(faults.is_empty(), "{faults:#?}\n{:#}", answer.body);
    answer
}

fn states(view: &Value) -> Vec<&str> {
    view["tokens"].as_array().unwrap().iter().map(|token| token["state"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_task_shows_every_token_what_it_can_do_and_what_was_given_up() {
    let server = Server::start().await;
    let tree = Tree::grow(&server).await;
    let answer = seen(&server, "support-agent", &tree.id).await;
    assert_eq!((answer.status, answer.headers["cache-control"].as_str()), (200, "no-store"));
    let view = &answer.body;
    assert_eq!((&view["state"], &view["task_type"]), (&json!("active"), &json!("refund_order@1")));
    assert_eq!(view["principal"], json!({"iss": server.idp.issuer, "sub": "alice"}));
    let tokens = view["tokens"].as_array().unwrap();
    for (told, token) in tokens.iter().zip(tree.tokens()) {
        let claims = claims(token);
        for claim in ["jti", "client_id", "iat", "exp", "act"] {
            assert_eq!(told[claim], claims[claim], "{claim}");
        }
        assert_eq!(told.get("parent_jti"), claims.get("parent_jti"));
        for claim in ["aud", "scope", "depth_left"] {
            assert_eq!(told["capability"][claim], claims[claim], "{claim}");
        }
        for claim in ["resources", "authorization_details"] {
            assert_eq!(told["capability"].get(claim), claims.get(claim), "{claim}");
        }
        assert_eq!(told["state"], "active");
        assert!(told["expires_in"].as_i64().unwrap() > 30);
    }
    assert_eq!(tokens.len(), 3);
    assert!(tokens[0].get("given_up").is_none());
    let child = &tokens[1]["given_up"];
    assert_eq!(child["scope"], json!(["mail:send", "refunds:write"]));
    assert_eq!(child["resource"], json!(["https://mail.acme.example"]));
    assert!(child["seconds"].as_i64().unwrap() > 3000 && child["depth"] == 0, "{child}");
    assert_eq!(tokens[2]["given_up"]["depth"], 1);
    assert!(!answer.text.contains("eyJ") && !answer.text.contains("alice@acme.example"), "{}", answer.text);
}

#[tokio::test]
async fn t29_an_agent_sees_below_its_own_tokens_and_a_foreign_one_what_an_unknown_id_gets() {
    let server = Server::start().await;
    let tree = Tree::grow(&server).await;
    let below = seen(&server, "worker-agent", &tree.id).await.body;
    assert_eq!(states(&below), ["active"]);
    assert_eq!(below["tokens"][0]["jti"], claims(&tree.workers)["jti"]);
    assert!(below["tokens"][0].get("given_up").is_none(), "it tells what the parent had: {below}");
    let unknown = seen(&server, "support-agent", UNKNOWN).await;
    unknown.refused(404, "not_found", "task_unknown");
    for (agent, id) in [
        ("worker-two", tree.id.as_str()),
        ("stranger-agent", &tree.id),
        ("globex-agent", &tree.id),
        ("support-agent", "x"),
    ] {
        let foreign = seen(&server, agent, id).await;
        assert_eq!((foreign.status, &foreign.body), (404, &unknown.body), "{agent}");
        let ended = complete(&server, agent, id, &[]).await;
        assert_eq!((ended.status, &ended.body), (404, &unknown.body), "{agent}");
    }
    let hand_over = server.hand_over(&tree.root, "worker-two").await;
    let meant = seen(&server, "worker-two", &tree.id).await.body;
    assert_eq!(meant["tokens"][0]["jti"], claims(&hand_over)["jti"], "{meant}");
    seen(&server, "orders-api", &tree.id).await.refused(400, "unauthorized_client", "client_is_no_agent");
    let anonymous = server.get(&format!("/tasks/{}", tree.id), &[]).await;
    anonymous.refused(401, "invalid_client", "client_authentication_failed");
}

#[tokio::test]
async fn rv_02_t27_a_task_shows_what_is_dead_and_by_what() {
    let server = Server::start().await;
    let tree = Tree::grow(&server).await;
    assert_eq!(server.revoke("support-agent", &tree.child).await.status, 200);
    let hand_over = server.hand_over(&tree.root, "worker-agent").await;
    server.exchange("worker-agent", &hand_over, &[]).await.token();
    let view = seen(&server, "support-agent", &tree.id).await.body;
    assert_eq!(states(&view), ["active", "revoked", "revoked", "spent", "active"]);
    let ended = json!({"kind": "token", "jti": claims(&tree.child)["jti"]});
    for token in [&view["tokens"][1], &view["tokens"][2]] {
        assert_eq!((&token["ended"]["kind"], &token["ended"]["jti"]), (&ended["kind"], &ended["jti"]));
        assert!(token["ended"].get("reason").is_none() && token["expires_in"] == 0, "{token}");
    }
    let hidden = seen(&server, "worker-agent", &tree.id).await.body;
    let workers = &hidden["tokens"][0];
    assert_eq!((&workers["state"], workers["ended"].get("jti")), (&json!("revoked"), None), "{workers}");

    let admin = server.admin().await;
    let told = admin.task(&tree.id).await.unwrap().unwrap();
    let reason = told.tokens[1].ended.as_ref().unwrap().reason.as_deref().unwrap();
    assert_eq!((told.tokens.len(), reason), (5, "revoked by the agent that holds it"));
    assert_eq!(admin.task(UNKNOWN).await.unwrap().unwrap_err().error, RefusalCode::NotFound);
    assert_eq!(admin.task("x").await.unwrap().unwrap_err().error, RefusalCode::BadRequest);
    server.reapply("class: worker\n", "class: worker\n  disabled: true\n").await;
    let told = admin.task(&tree.id).await.unwrap().unwrap();
    assert_eq!(told.tokens[4].state, State::Disabled);
    let target = Target::Agent { client_id: "support-agent".parse().unwrap() };
    let request = RevokeRequest { target, reason: "it behaves oddly".to_owned(), dry_run: false };
    admin.revoke(&request).await.unwrap().unwrap();
    let told = admin.task(&tree.id).await.unwrap().unwrap();
    let ended = told.tokens[0].ended.as_ref().unwrap();
    assert_eq!((told.state, ended.kind), (State::Revoked, RevocationKind::Agent));
    assert_eq!(ended.reason.as_deref(), Some("it behaves oddly"));
    drop(admin);
    server.clock.shift(5);
    let fresh = text(&server.root().await, "task_id");
    server.clock.shift(7300);
    let late = seen(&server, "support-agent", &fresh).await.body;
    assert_eq!((&late["state"], states(&late)), (&json!("expired"), vec!["expired"]));
}

#[tokio::test]
async fn rv_02_t28_a_completed_task_is_dead_at_once_and_says_so() {
    let server = Server::start().await;
    let (tree, bystander) = (Tree::grow(&server).await, Tree::grow(&server).await);
    let first = complete(&server, "support-agent", &tree.id, &[("outcome", "verified")]).await;
    assert_eq!((first.status, &first.body["outcome"]), (200, &json!("verified")));
    let recorded = server.decision(&first).await;
    let asked = json!({"complete": tree.id, "claimed": {"outcome": "verified"}});
    assert_eq!((&recorded.record["asked"], &recorded.leaf["outcome"]), (&asked, &json!("allow")));
    for (caller, token) in
        [("support-agent", &tree.root), ("orders-api", &tree.child), ("orders-api", &tree.workers)]
    {
        assert_eq!(server.introspect(caller, token).await.body, json!({"active": false}));
    }
    for (agent, token) in
        [("support-agent", &tree.root), ("support-agent", &tree.child), ("worker-agent", &tree.workers)]
    {
        let narrow = [("resource", ORDERS), ("scope", "orders:read")];
        for form in [&narrow[..], &[narrow[0], narrow[1], ("dry_run", "true")]] {
            let answer = server.exchange(agent, token, form).await;
            answer.refused(400, "invalid_request", "task_ended");
            assert_eq!(answer.body["retry"], "new_session");
        }
    }
    let view = seen(&server, "support-agent", &tree.id).await.body;
    assert_eq!((&view["state"], states(&view)), (&json!("completed"), vec!["completed"; 3]));
    server.clock.shift(3);
    let again = complete(&server, "support-agent", &tree.id, &[("outcome", "failed")]).await;
    assert_eq!((again.status, &again.body), (200, &first.body), "what was said first stays");
    assert_eq!(server.introspect("orders-api", &bystander.child).await.body["active"], true);
    server.root().await;
    assert!(server.admin().await.revocations().await.unwrap().unwrap().is_empty());
}

#[tokio::test]
async fn only_the_agent_that_started_a_task_completes_it_with_an_outcome_of_the_list() {
    let server = Server::start().await;
    let tree = Tree::grow(&server).await;
    let refused = complete(&server, "worker-agent", &tree.id, &[]).await;
    refused.refused(400, "invalid_request", "task_not_yours");
    let recorded = server.decision(&refused).await;
    assert_eq!((&recorded.leaf["outcome"], &recorded.record["task_id"]), (&json!("deny"), &json!(tree.id)));
    let resource = complete(&server, "orders-api", &tree.id, &[]).await;
    resource.refused(400, "unauthorized_client", "client_is_no_agent");
    for form in [&[("outcome", "great")][..], &[("outcome", "done"), ("outcome", "done")]] {
        let answer = complete(&server, "support-agent", &tree.id, form).await;
        answer.refused(400, "invalid_request", "malformed_request");
        assert!(answer.body["error_description"].as_str().unwrap().starts_with("outcome:"));
    }
    let path = format!("/tasks/{}/complete", tree.id);
    let form = "application/x-www-form-urlencoded";
    let anonymous = server.send(&path, &[], encode(&[("outcome", "done")]), form).await;
    anonymous.refused(401, "invalid_client", "client_authentication_failed");
    assert_eq!(server.get(&path, &[basic("support-agent")]).await.status, 405);
    assert_eq!(server.introspect("orders-api", &tree.child).await.body["active"], true);
    for outcome in ["verified", "done", "failed", "rolled_back", "abandoned"] {
        let id = text(&server.root().await, "task_id");
        let answer = complete(&server, "support-agent", &id, &[("outcome", outcome)]).await;
        assert_eq!((answer.status, &answer.body["outcome"]), (200, &json!(outcome)));
    }
    let silent = complete(&server, "support-agent", &tree.id, &[]).await;
    assert!(silent.status == 200 && silent.body.get("outcome").is_none(), "{silent:?}");
}

#[tokio::test]
async fn rv_02_t26_no_child_outlives_the_completion_that_it_raced() {
    let server = Arc::new(Server::start().await);
    let root = server.root().await;
    let id = text(&root, "task_id");
    let mut racing = tokio::task::JoinSet::new();
    for turn in 0..16 {
        let (server, root, id) = (server.clone(), root.clone(), id.clone());
        racing.spawn(async move {
            if turn == 6 {
                assert_eq!(complete(&server, "support-agent", &id, &[]).await.status, 200);
                return None;
            }
            let answer = server.exchange("support-agent", &root, &[]).await;
            if answer.status == 200 {
                return Some(answer.token());
            }
            answer.refused(400, "invalid_request", "task_ended");
            None
        });
    }
    for child in racing.join_all().await.into_iter().flatten() {
        assert_eq!(server.introspect("orders-api", &child).await.body, json!({"active": false}));
    }
}

#[tokio::test]
async fn the_command_shows_a_tree_to_admins_and_agents_and_completes_a_task() {
    let site = Site::new().await;
    site.apply().await;
    let server = site.start().await;
    let own = secret("support-agent");
    let session = json!({"org_id": "acme", "groups": ["support"]});
    let form = [("task_type", "refund_order"), ("resource", ORDERS), ("scope", "orders:read refunds:write")];
    let root = site.start_task(("support-agent", &own), session, &form).await;
    let (token, id) = (root["access_token"].as_str().unwrap(), root["task_id"].as_str().unwrap().to_owned());
    let child = site.exchange_session(("support-agent", &own), token, &[("scope", "orders:read")]).await;
    let child = claims(child["access_token"].as_str().unwrap())["jti"].as_str().unwrap().to_owned();
    let (status, told) = site.told(&["task", "tree", &id]).await;
    assert_eq!(status, 0, "{told}");
    for part in [
        "(refund_order@1) of tenant acme: active, ",
        &format!("└─ support-agent  {child}  active, "),
        "gave up: refunds:write",
    ] {
        assert!(told.contains(part), "`{part}` is not in:\n{told}");
    }
    let agent = ("support-agent", own.as_str());
    for named in [id.as_str(), token] {
        let (status, told) = site.told_as(agent, &["task", "tree", named]).await;
        assert!(status == 0 && told.contains(&child), "{named}: {told}");
    }
    let (status, told) = site.told_as(agent, &["task", "tree", &site.idp.sign("at+jwt", &json!({}))]).await;
    assert!(status == 2 && told.contains("task_id"), "{told}");
    let (status, told) = site.told_as(agent, &["task", "tree", UNKNOWN]).await;
    assert!(status == 1 && told.contains("no such task"), "{told}");
    assert_eq!(site.told_as(agent, &["task", "complete", &id, "--outcome", "great"]).await.0, 2);
    let (status, told) = site.told_as(agent, &["task", "complete", token, "--outcome", "verified"]).await;
    assert!(status == 0 && told.contains("is completed, claimed verified"), "{told}");
    server.terminate().await;
    let (status, told) = site.told(&["task", "tree", &id]).await;
    assert!(status == 0 && told.contains("ended by completion at "), "{told}");
    let (status, told) = site.told(&["task", "tree", &id, "--json"]).await;
    let view: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((status, states(&view)), (0, vec!["completed"; 2]));
    let (status, told) = site.told(&["task", "tree", UNKNOWN]).await;
    assert!(status == 1 && told.contains("is on record"), "{told}");
}
