//! What has ended goes by itself, and whoever kept a token of it learns nothing from that: it is as dead as before.

use std::time::{Duration, Instant};

use serde_json::json;
use taskgrant::domain::ids::{Jti, TaskId};

use crate::support::idp::claims;
use crate::support::keyed::{Keyed, MANY_FAILURES};
use crate::support::server::{Answer, ORDERS, Server, basic};

/// Longer than it takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until the server has taken out the record of `token`.
async fn pruned(server: &Server, token: &str) {
    let jti: Jti = claims(token)["jti"].as_str().unwrap().parse().unwrap();
    let began = Instant::now();
    while server.store.token(jti).await.unwrap().is_some() {
        assert!(began.elapsed() < PATIENCE, "it is still there");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Status and all of an answer but what is of one request alone.
fn told(answer: &Answer) -> (u16, serde_json::Value) {
    let mut body = answer.body.clone();
    body.as_object_mut().unwrap().remove("decision_id");
    (answer.status, body)
}

#[tokio::test]
async fn l4_t31_what_is_pruned_stays_dead_and_is_answered_as_what_has_expired() {
    let keyed = Keyed::start_with(&format!("[retention]\nended_tasks = 60\n{MANY_FAILURES}")).await;
    let server = &keyed.server;
    server.apply(&keyed.objects().replacen("task: 3600}", "task: 600}", 1)).await.unwrap();
    let wide = server.wide_root().await;
    let narrowed = server.exchange("support-agent", &wide, &[("resource", ORDERS)]).await;
    let (child, id) = (narrowed.token(), claims(&wide)["task_id"].as_str().unwrap().to_owned());
    let hand_over = server.hand_over(&wide, "worker-agent").await;
    server.exchange("worker-agent", &hand_over, &[]).await.token();
    let assertion = keyed.assertion("support-agent");
    keyed.exchange(&assertion).await.token();
    let tokens = [("support-agent", &wide), ("support-agent", &child), ("worker-agent", &hand_over)];

    server.clock.shift(610);
    let mut expired = Vec::new();
    for (agent, token) in tokens {
        expired.push(told(&server.exchange(agent, token, &[("resource", ORDERS)]).await));
    }
    assert_eq!(server.get(&format!("/tasks/{id}"), &[basic("support-agent")]).await.body["state"], "expired");
    let replayed = told(&keyed.exchange(&assertion).await);

    server.clock.shift(70);
    server.root().await;
    pruned(server, &wide).await;
    for ((agent, token), expired) in tokens.into_iter().zip(expired) {
        pruned(server, token).await;
        let answer = server.exchange(agent, token, &[("resource", ORDERS)]).await;
        assert_eq!((told(&answer), answer.status), (expired, 400));
        for caller in [agent, "orders-api"] {
            assert_eq!(server.introspect(caller, token).await.body, json!({"active": false}));
        }
        // Who narrowed it holds it, also the one for another.
        assert_eq!(server.revoke("support-agent", token).await.status, 200);
    }
    assert_eq!((told(&keyed.exchange(&assertion).await), replayed.0), (replayed, 401));
    let task: TaskId = id.parse().unwrap();
    assert_eq!(server.store.task(task).await.unwrap(), None);
    let path = format!("/tasks/{id}");
    server.get(&path, &[basic("support-agent")]).await.refused(404, "not_found", "task_unknown");
    let completed = server.post(&format!("{path}/complete"), "support-agent", &[]).await;
    completed.refused(404, "not_found", "task_unknown");
    assert_eq!(server.decision(&narrowed).await.record["task_id"], json!(id), "the log is for ever");
}
