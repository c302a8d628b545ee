//! A clock that is set stops issuing, and nothing else, until it can be believed again (DESIGN §7 "Time").

use serde_json::{Value, json};

use crate::support::idp::Idp;
use crate::support::server::{Answer, ORDERS, Server};

const START: [(&str, &str); 3] =
    [("task_type", "refund_order"), ("resource", ORDERS), ("scope", "orders:read")];

async fn exchange(server: &Server) -> Answer {
    server.exchange("support-agent", &server.session(json!({})), &START).await
}

/// Nothing is issued, the refusal is on record, and `/readyz` says why.
async fn is_stopped(server: &Server, why: &str) {
    let refused = exchange(server).await;
    refused.refused(503, "temporarily_unavailable", "clock_unsteady");
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(server.decision(&refused).await.leaf["outcome"], "deny");
    let dry = server
        .exchange("support-agent", &server.session(json!({})), &[&START[..], &[("dry_run", "true")]].concat())
        .await;
    dry.refused(503, "temporarily_unavailable", "clock_unsteady");
    let ready = server.get("/readyz", &[]).await;
    assert_eq!((ready.status, &ready.body["ready"]), (503, &json!(false)));
    let reasons = ready.body["reasons"].as_array().unwrap();
    assert!(reasons.iter().filter_map(Value::as_str).any(|reason| reason.contains(why)), "{reasons:?}");
}

async fn is_going(server: &Server) {
    exchange(server).await.token();
    assert_eq!(server.get("/readyz", &[]).await.status, 200);
}

#[tokio::test]
async fn a_clock_set_an_hour_forward_stops_issuing_for_a_minute() {
    let server = Server::start().await;
    let wide = server.wide_root().await;
    server.clock.step(3600);
    is_stopped(&server, "the clock was set by +3600 s").await;
    // What needs no new token goes on.
    assert_eq!(server.introspect("support-agent", &wide).await.status, 200);
    assert_eq!(server.revoke("support-agent", &wide).await.status, 200);
    server.clock.shift(58);
    is_stopped(&server, "the clock was set").await;
    server.clock.shift(3);
    is_going(&server).await;
}

#[tokio::test]
async fn a_clock_set_an_hour_back_stops_issuing_until_it_has_caught_up_with_the_last_token() {
    let server = Server::start().await;
    is_going(&server).await;
    server.clock.step(-3600);
    is_stopped(&server, "the clock was set by -3600 s").await;
    server.clock.shift(61);
    is_stopped(&server, "behind the last token").await;
    server.clock.shift(3600 - 70);
    is_stopped(&server, "behind the last token").await;
    server.clock.shift(12);
    is_going(&server).await;
}

#[tokio::test]
async fn a_start_with_the_clock_behind_the_last_token_issues_nothing_yet() {
    let server = Server::start().await;
    server.clock.shift(3600);
    is_going(&server).await;
    let data = server.data.clone();
    server.stop().await;
    // The new server's clock is the machine's, an hour behind.
    let server = Server::start_in(data, Idp::start().await, "").await;
    is_stopped(&server, "behind the last token").await;
    server.clock.shift(3605);
    is_going(&server).await;
}

#[tokio::test]
async fn a_correction_by_a_second_and_time_that_passes_stop_nothing() {
    let server = Server::start().await;
    is_going(&server).await;
    server.clock.step(1);
    is_going(&server).await;
    server.clock.shift(120);
    is_going(&server).await;
    server.clock.step(-1);
    is_going(&server).await;
}
