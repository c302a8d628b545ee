//! Lockdown: no new token of a tenant, or of any; everything else goes on (L4).

use std::sync::Arc;

use serde_json::json;
use taskgrant::admin::api::RefusalCode;
use taskgrant::lockdown::{LockdownRequest, LockdownState};

use crate::support::server::{ORDERS, Server};

const START: [(&str, &str); 3] =
    [("task_type", "refund_order"), ("resource", ORDERS), ("scope", "orders:read")];

async fn set(server: &Server, on: bool, tenant: Option<&str>) -> LockdownState {
    let tenant = tenant.map(|name| name.parse().unwrap());
    let request = LockdownRequest { on, tenant, reason: "an incident".to_owned() };
    server.admin().await.lock_down(&request).await.unwrap().unwrap()
}

#[tokio::test]
async fn l4_a_lockdown_refuses_every_new_token_and_nothing_else() {
    let server = Server::start().await;
    let (root, doomed) = (server.root().await, server.root().await);
    for tenant in [Some("acme"), None] {
        assert_eq!(set(&server, true, tenant).await.lockdowns.len(), 1);
        let session = server.session(json!({}));
        for (subject, form) in [(&session, &START[..]), (&root, &[])] {
            for dry_run in [&[][..], &[("dry_run", "true")]] {
                let answer = server.exchange("support-agent", subject, &[form, dry_run].concat()).await;
                answer.refused(503, "temporarily_unavailable", "lockdown");
                assert_eq!(
                    (&answer.body["retry"], answer.headers["retry-after"].as_str()),
                    (&json!("later"), "30")
                );
                let recorded = server.decision(&answer).await;
                assert_eq!(recorded.record["reasons"][0]["code"], "lockdown");
                assert_eq!(recorded.leaf["tenant"], "acme");
            }
        }
        assert_eq!(server.introspect("orders-api", &root).await.body["active"], true);
        assert_eq!(server.get("/readyz", &[]).await.status, 200);
        let told = json!({"all": tenant.is_none(), "tenants": usize::from(tenant.is_some())});
        assert_eq!(server.get("/readyz", &[]).await.body["lockdown"], told);
        assert!(set(&server, false, tenant).await.lockdowns.is_empty());
        server.exchange("support-agent", &root, &[]).await.token();
    }
    set(&server, true, None).await;
    assert_eq!(server.revoke("support-agent", &doomed).await.status, 200);
    assert_eq!(server.introspect("orders-api", &doomed).await.body, json!({"active": false}));
}

#[tokio::test]
async fn l10_the_lockdown_of_one_tenant_leaves_the_others() {
    let server = Server::start().await;
    set(&server, true, Some("globex")).await;
    server.root().await;
    let form = [("task_type", "globex_task")];
    let globex = server.session(json!({"org_id": "globex"}));
    let answer = server.exchange("globex-agent", &globex, &form).await;
    answer.refused(503, "temporarily_unavailable", "lockdown");
    set(&server, false, None).await;
    let answer = server.exchange("globex-agent", &globex, &form).await;
    answer.refused(503, "temporarily_unavailable", "lockdown");
    set(&server, false, Some("globex")).await;
    server.exchange("globex-agent", &globex, &form).await.token();
}

#[tokio::test]
async fn l4_t26_the_commit_refuses_what_an_exchange_began_before_the_lockdown() {
    let server = Arc::new(Server::start().await);
    let root = server.root().await;
    let mut racing = tokio::task::JoinSet::new();
    for turn in 0..24 {
        let (server, root) = (server.clone(), root.clone());
        racing.spawn(async move {
            if turn == 8 {
                set(&server, true, None).await;
                return;
            }
            let answer = server.exchange("support-agent", &root, &[]).await;
            if answer.status != 200 {
                answer.refused(503, "temporarily_unavailable", "lockdown");
            }
        });
    }
    racing.join_all().await;
    // A row that only the database knows of: what is kept in memory spares work, and decides nothing.
    set(&server, false, None).await;
    server
        .sql(
            "INSERT INTO revocations (kind, key, not_before, keep_until, reason, decision_id) \
             VALUES ('lockdown', 'acme', 0, 0, 'x', '01a1fc73-36e3-7ac1-b6f6-5a51ff6afbb4')",
        )
        .await;
    let answer = server.exchange("support-agent", &root, &[]).await;
    answer.refused(503, "temporarily_unavailable", "lockdown");
}

#[tokio::test]
async fn a_lockdown_is_recorded_and_holds_after_a_restart() {
    let server = Server::start().await;
    let told = set(&server, true, Some("acme")).await;
    let recorded = server.decision_of(told.decision_id.unwrap()).await;
    let asked = json!({"command": "lockdown", "on": true, "tenant": "acme", "reason": "an incident"});
    assert_eq!((&recorded.record["asked"], &recorded.leaf["tenant"]), (&asked, &json!("acme")));
    assert!(recorded.record["actor"].as_str().unwrap().starts_with("uid "));
    let admin = server.admin().await;
    let request = |tenant: Option<&str>, reason: &str| {
        let tenant = tenant.map(|name| name.parse().unwrap());
        LockdownRequest { on: true, tenant, reason: reason.to_owned() }
    };
    let unknown = admin.lock_down(&request(Some("acne"), "x")).await.unwrap().unwrap_err();
    assert_eq!(unknown.error, RefusalCode::NotFound);
    assert!(unknown.message.contains("acme, globex"), "{}", unknown.message);
    let silent = admin.lock_down(&request(None, " ")).await.unwrap().unwrap_err();
    assert_eq!(silent.error, RefusalCode::BadRequest);
    let standing = admin.lockdown().await.unwrap().unwrap();
    assert_eq!((standing.lockdowns.len(), standing.decision_id), (1, None));
    drop(admin);
    let data = server.data.clone();
    server.stop().await;
    let server = Server::start_in(data, crate::support::idp::Idp::start().await, "").await;
    assert_eq!(server.get("/readyz", &[]).await.body["lockdown"], json!({"all": false, "tenants": 1}));
}
