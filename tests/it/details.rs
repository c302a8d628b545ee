//! Rich authorization requests (RFC 9396, STANDARDS §4).

use serde_json::{Value, json};

use crate::support::idp::claims;
use crate::support::server::{Answer, MAIL, ORDERS, Server};

async fn root(server: &Server, details: &Value) -> Answer {
    let details = details.to_string();
    let form = [("task_type", "refund_order"), ("resource", ORDERS), ("authorization_details", &details)];
    server.exchange("support-agent", &server.session(json!({})), &form).await
}

async fn child(server: &Server, parent: &str, details: &Value) -> Answer {
    server.exchange("support-agent", parent, &[("authorization_details", &details.to_string())]).await
}

fn call(tools: &[&str], amount: u32) -> Value {
    json!({"type": "tool_call", "tools": tools, "amount": amount})
}

#[tokio::test]
async fn ra_01_details_are_an_array_of_typed_objects_and_a_type_may_repeat() {
    let server = Server::start().await;
    for bad in [
        json!({}),
        json!("tool_call"),
        json!([1]),
        json!([[]]),
        json!([{}]),
        json!([{"tools": ["refund_order"]}]),
        json!([{"type": 7, "tools": ["refund_order"]}]),
    ] {
        let answer = root(&server, &bad).await;
        answer.refused(400, "invalid_authorization_details", "authorization_details_invalid");
    }
    let form = [("task_type", "refund_order"), ("resource", ORDERS), ("authorization_details", "[{")];
    let broken = server.exchange("support-agent", &server.session(json!({})), &form).await;
    broken.refused(400, "invalid_authorization_details", "authorization_details_invalid");
    let two = json!([call(&["refund_order"], 10), call(&["search_orders"], 500)]);
    let answer = root(&server, &two).await;
    let granted = answer.body["authorization_details"].as_array().unwrap().clone();
    assert_eq!(granted.len(), 2, "objects of one type are not merged");
    assert!(two.as_array().unwrap().iter().all(|d| granted.contains(d)), "{granted:?}");
}

#[tokio::test]
async fn ra_02_one_bad_member_refuses_the_whole_request() {
    let server = Server::start().await;
    let good = call(&["refund_order"], 10);
    for bad in [
        json!({"type": "unheard_of", "tools": ["refund_order"]}),
        json!({"type": "TOOL_CALL", "tools": ["refund_order"]}),
        json!({"type": "tool_call", "tools": ["refund_order"], "amount": 10, "currency": "EUR"}),
        json!({"type": "tool_call", "amount": 10}),
        json!({"type": "tool_call", "tools": "refund_order", "amount": 10}),
        json!({"type": "tool_call", "tools": ["refund_order", 7], "amount": 10}),
        json!({"type": "tool_call", "tools": ["refund_order"], "amount": "10"}),
        json!({"type": "tool_call", "tools": ["refund_order"], "amount": -1}),
        json!({"type": "tool_call", "tools": ["refund_order"], "amount": null}),
        json!({"type": "tool_call", "tools": ["refund_order"], "amount": 10, "path": "/a/../b"}),
        json!({"type": "tool_call", "tools": ["refund_order"], "amount": 10, "path": "/a/%2e%2e/b"}),
    ] {
        for details in [json!([bad]), json!([good, bad]), json!([bad, good])] {
            let answer = root(&server, &details).await;
            answer.refused(400, "invalid_authorization_details", "authorization_details_invalid");
        }
    }
    root(&server, &json!([good])).await.token();
}

#[tokio::test]
async fn ra_03_what_is_granted_stands_in_answer_token_and_introspection() {
    let server = Server::start().await;
    let wanted = json!([call(&["refund_order"], 50)]);
    let answer = root(&server, &wanted).await;
    let token = answer.token();
    assert_eq!(answer.body["authorization_details"], wanted);
    assert_eq!(claims(&token)["authorization_details"], wanted);
    assert_eq!(server.introspect("orders-api", &token).await.body["authorization_details"], wanted);
    let form = [("task_type", "refund_order"), ("resource", ORDERS)];
    let left_out = server.exchange("support-agent", &server.session(json!({})), &form).await;
    let ceiling = json!([call(&["refund_order", "search_orders"], 500)]);
    assert_eq!(left_out.body["authorization_details"], ceiling, "left out: the task type's");
}

#[tokio::test]
async fn ra_05_t09_every_way_to_widen_a_detail_is_refused() {
    let server = Server::start().await;
    let parent = root(&server, &json!([call(&["refund_order"], 50)])).await.token();
    for wider in [
        json!([call(&["refund_order"], 51)]),
        json!([{"type": "tool_call", "tools": ["refund_order"], "amount": 50.000_001}]),
        json!([call(&["refund_order", "search_orders"], 50)]),
        json!([call(&["search_orders"], 50)]),
        json!([{"type": "tool_call", "tools": ["refund_order"]}]),
        json!([call(&["refund_order"], 50), call(&["search_orders"], 1)]),
        json!([call(&["Refund_Order"], 50)]),
        json!([call(&["*"], 50)]),
        json!([]),
    ] {
        let answer = child(&server, &parent, &wider).await;
        let refused = "authorization_details_exceed_ceiling";
        let answer = answer.refused(400, "invalid_authorization_details", refused);
        assert_eq!(answer.body["ceiling"], "parent", "{wider}");
    }
    for narrower in [
        json!([call(&["refund_order"], 50)]),
        json!([call(&["refund_order"], 1)]),
        json!([call(&[], 50)]),
        json!([{"type": "tool_call", "tools": ["refund_order"], "amount": 50, "path": "/eu"}]),
        json!([call(&["refund_order"], 10), call(&["refund_order"], 20)]),
    ] {
        let answer = child(&server, &parent, &narrower).await;
        assert_eq!(answer.status, 200, "{narrower}: {answer:?}");
    }
    let same = server.exchange("support-agent", &parent, &[]).await;
    assert_eq!(same.body["authorization_details"], json!([call(&["refund_order"], 50)]));
}

#[tokio::test]
async fn ra_05_t09_two_parent_objects_do_not_cover_their_cross_product() {
    let server = Server::start().await;
    let details = json!([call(&["refund_order"], 10), call(&["search_orders"], 500)]);
    let parent = root(&server, &details).await.token();
    for cross in [call(&["refund_order"], 500), call(&["refund_order", "search_orders"], 10)] {
        let answer = child(&server, &parent, &json!([cross])).await;
        let code = "authorization_details_exceed_ceiling";
        answer.refused(400, "invalid_authorization_details", code);
    }
    child(&server, &parent, &json!([call(&["search_orders"], 400)])).await.token();
}

#[tokio::test]
async fn ra_05_a_path_narrows_by_whole_segments() {
    let server = Server::start().await;
    let at =
        |path: &str| json!([{"type": "tool_call", "tools": ["refund_order"], "amount": 1, "path": path}]);
    let parent = root(&server, &at("/eu/orders")).await.token();
    child(&server, &parent, &at("/eu/orders/7")).await.token();
    for outside in ["/eu", "/eu/orders-archive", "/eu/order", "/EU/orders", "/", "eu/orders"] {
        let answer = child(&server, &parent, &at(outside)).await;
        assert_eq!(answer.body["error"], "invalid_authorization_details", "{outside}: {answer:?}");
    }
}

#[tokio::test]
async fn ra_05_a_path_that_a_service_could_resolve_elsewhere_is_refused() {
    let server = Server::start().await;
    let at =
        |path: &str| json!([{"type": "tool_call", "tools": ["refund_order"], "amount": 1, "path": path}]);
    let parent = root(&server, &at("/eu/orders")).await.token();
    for tricky in [
        "/eu/orders/../b",
        "/eu/orders/..;/b",
        "/eu/orders/..;x=1/b",
        "/eu/orders/%2e%2e/b",
        "/eu/orders/..\\b",
    ] {
        let answer = child(&server, &parent, &at(tricky)).await;
        answer.refused(400, "invalid_authorization_details", "authorization_details_invalid");
    }
}

#[tokio::test]
async fn ra_06_details_for_another_resource_are_refused_when_asked_and_dropped_when_left_out() {
    let server = Server::start().await;
    let at = |place: &str| json!([{"type": "tool_call", "tools": ["refund_order"], "amount": 1, "locations": [place]}]);
    let answer = root(&server, &at(MAIL)).await;
    answer.refused(400, "invalid_authorization_details", "authorization_details_exceed_ceiling");
    root(&server, &at(ORDERS)).await.token();
    let both = json!([at(ORDERS)[0], at(MAIL)[0]]).to_string();
    let form = [
        ("task_type", "refund_order"),
        ("audience", server.issuer.as_str()),
        ("authorization_details", both.as_str()),
    ];
    let wide = server.exchange("support-agent", &server.session(json!({})), &form).await.token();
    let narrow = server.exchange("support-agent", &wide, &[("resource", ORDERS)]).await;
    assert_eq!(narrow.body["authorization_details"], at(ORDERS));
    assert_eq!(claims(&narrow.token())["authorization_details"], at(ORDERS));
}

#[tokio::test]
async fn ra_06_scope_and_details_are_enforced_each_for_itself() {
    let server = Server::start().await;
    let parent = root(&server, &json!([call(&["refund_order"], 50)])).await.token();
    assert_eq!(claims(&parent)["scope"], "orders:read", "a detail brings no scope");
    let answer = server.exchange("support-agent", &parent, &[("scope", "refunds:write")]).await;
    answer.refused(400, "invalid_scope", "scope_exceeds_ceiling");
}
