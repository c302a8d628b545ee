//! Status lists over HTTP (SL-01…03): who verifies offline learns of a revocation within the published bound (T27).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use miniz_oxide::inflate::decompress_to_vec_zlib;
use serde_json::{Value, json};
use taskgrant::admin::keys::StopRequest;
use taskgrant::keys::jwks::JwkSet;
use taskgrant::keys::jws::Jws;
use tokio::time::sleep;

use crate::support::idp::{Idp, claims, header};
use crate::support::server::{Answer, ORDERS, Server};

/// Entries of a list.
const SIZE: u64 = 1 << 17;
/// Longer than a round of the publisher may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The `status_list` member of a token's `status`.
fn place(token: &str) -> (String, u64) {
    let list = &claims(token)["status"]["status_list"];
    (list["uri"].as_str().unwrap().to_owned(), list["idx"].as_u64().unwrap())
}

/// A list as it is served, once it is.
async fn fetch(server: &Server, uri: &str) -> Answer {
    let began = Instant::now();
    loop {
        let answer = server.get_url(uri).await;
        if answer.status != 503 || began.elapsed() > PATIENCE {
            assert_eq!(answer.status, 200, "{answer:?}");
            return answer;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn bytes(list: &str) -> Vec<u8> {
    let packed = claims(list)["status_list"]["lst"].as_str().unwrap().to_owned();
    decompress_to_vec_zlib(&URL_SAFE_NO_PAD.decode(packed).unwrap()).unwrap()
}

/// The token's bit in its list.
async fn is_invalid(server: &Server, token: &str) -> bool {
    let (uri, idx) = place(token);
    let bytes = bytes(&fetch(server, &uri).await.text);
    bytes[usize::try_from(idx / 8).unwrap()] >> (idx % 8) & 1 == 1
}

/// Waits until the token's bit is set.
async fn dies(server: &Server, token: &str) {
    let began = Instant::now();
    while !is_invalid(server, token).await {
        assert!(began.elapsed() < PATIENCE, "still valid");
        sleep(Duration::from_millis(20)).await;
    }
}

/// As any service would: the key that `kid` names in the published set verifies it.
async fn verifies(server: &Server, token: &str) -> bool {
    let set = JwkSet::parse(server.get("/oauth/jwks", &[]).await.text.as_bytes()).unwrap();
    let jws = Jws::parse(token).unwrap();
    let keys = set.find(jws.unverified().kid, "ES256".parse().unwrap());
    !keys.is_empty() && jws.verify_any(&keys).is_ok()
}

#[tokio::test]
async fn sl_01_a_token_says_where_its_status_stands_and_the_list_is_served_there() {
    let server = Server::start().await;
    let root = server.root().await;
    let (uri, idx) = place(&root);
    assert!(uri.starts_with(&format!("{}/oauth/status/", server.issuer)) && idx < SIZE, "{uri} {idx}");
    let answer = fetch(&server, &uri).await;
    assert_eq!(answer.headers["content-type"], "application/statuslist+jwt");
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    assert_eq!(header(&answer.text)["typ"], "statuslist+jwt");
    assert!(verifies(&server, &answer.text).await);
    let told = claims(&answer.text);
    let (iat, now) = (told["iat"].as_i64().unwrap(), server.now());
    assert_eq!((&told["sub"], &told["ttl"]), (&json!(uri), &json!(15)));
    assert_eq!(told["exp"], iat + 60);
    assert!((now - 10..=now).contains(&iat), "{iat} {now}");
    assert_eq!(told["status_list"]["bits"], 1);
    assert_eq!(told.as_object().unwrap().len(), 5, "{told}");
    let bytes = bytes(&answer.text);
    assert!(u64::try_from(bytes.len()).unwrap() * 8 == SIZE && bytes.iter().all(|byte| *byte == 0));
    // What may be kept is what is left of `ttl`.
    let cache = answer.headers["cache-control"].strip_prefix("public, max-age=").unwrap();
    assert!((0..=15).contains(&cache.parse::<i64>().unwrap()), "{cache}");
    // A child has a place of its own; introspection shows what the token says.
    let child = server.exchange("support-agent", &root, &[("scope", "orders:read")]).await.token();
    assert_ne!(place(&child), place(&root));
    let shown = server.introspect("orders-api", &child).await.body;
    assert_eq!(shown["status"], claims(&child)["status"]);
}

#[tokio::test]
async fn sl_01_accept_is_minded_and_a_list_that_is_known_is_not_sent_again() {
    let server = Server::start_with("[status]\nttl = 600").await;
    let (uri, _) = place(&server.root().await);
    let first = fetch(&server, &uri).await;
    let path = uri.strip_prefix(&server.issuer).unwrap();
    let get = |name: &str, value: &str| {
        let headers = [(name.to_owned(), value.to_owned())];
        let server = &server;
        async move { server.get(path, &headers).await }
    };
    for good in ["application/statuslist+jwt", "*/*", "application/statuslist+cwt, application/*;q=0.2"] {
        assert_eq!(get("accept", good).await.text, first.text, "{good}");
    }
    let refused = get("accept", "application/statuslist+cwt").await;
    refused.refused(406, "invalid_request", "not_acceptable");
    let etag = first.headers["etag"].clone();
    let known = get("if-none-match", &format!("\"x\", {etag}")).await;
    assert_eq!((known.status, known.text.as_str(), &known.headers["etag"]), (304, "", &etag));
    assert_eq!(get("if-none-match", "\"x\"").await.status, 200);
    for (query, status) in [("?time=1700000000", 501), ("?time", 501), ("?other=1", 200)] {
        assert_eq!(server.get(&format!("{path}{query}"), &[]).await.status, status, "{query}");
    }
    let answer = server.get(&format!("{path}?time=1"), &[]).await;
    answer.refused(501, "invalid_request", "status_list_time");
}

#[tokio::test]
async fn sl_02_an_unknown_list_is_not_found_and_the_aggregation_names_the_others() {
    let server = Server::start().await;
    let (uri, _) = place(&server.root().await);
    fetch(&server, &uri).await;
    for unknown in ["019a0000-0000-7000-8000-000000000000", "x", "..", "019A0000-0000-7000-8000-000000000000"]
    {
        for query in ["", "?time=1"] {
            let answer = server.get(&format!("/oauth/status/{unknown}{query}"), &[]).await;
            assert_eq!(answer.status, 404, "{unknown}{query}: {answer:?}");
        }
    }
    let metadata = server.get("/.well-known/oauth-authorization-server", &[]).await.body;
    let aggregation = metadata["status_list_aggregation_endpoint"].as_str().unwrap();
    let answer = server.get_url(aggregation).await;
    assert_eq!(answer.body, json!({"status_lists": [uri]}));
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
}

#[tokio::test]
async fn sl_02_places_are_never_the_same_and_tell_nothing_of_the_order() {
    let server = Server::start().await;
    let root = server.root().await;
    let mut drawn = Vec::new();
    for _ in 0..60 {
        drawn.push(place(&server.exchange("support-agent", &root, &[]).await.token()).1);
    }
    assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), drawn.len());
    let rising = drawn.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!((10..50).contains(&rising), "{drawn:?}");
    let near = drawn.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 64).count();
    assert!(near < 5, "{drawn:?}");
}

#[tokio::test]
async fn t27_a_revoked_token_and_all_below_it_are_invalid_in_the_list() {
    let server = Server::start().await;
    let (wide, other) = (server.wide_root().await, server.root().await);
    let form = [("resource", ORDERS), ("scope", "orders:read")];
    let child = server.exchange("support-agent", &wide, &form).await.token();
    let grandchild = server.exchange("support-agent", &child, &[]).await.token();
    let sibling = server.exchange("support-agent", &wide, &form).await.token();
    let family = [&wide, &child, &grandchild, &sibling, &other];
    for token in family {
        assert!(!is_invalid(&server, token).await);
    }
    assert_eq!(server.revoke("support-agent", &child).await.status, 200);
    dies(&server, &child).await;
    let mut invalid = Vec::new();
    for token in family {
        invalid.push(is_invalid(&server, token).await);
    }
    assert_eq!(invalid, [false, true, true, false, false], "what is below dies with it, and nothing else");
    assert_eq!(server.revoke("support-agent", &wide).await.status, 200);
    dies(&server, &sibling).await;
    assert!(is_invalid(&server, &wide).await && !is_invalid(&server, &other).await);
}

#[tokio::test]
async fn l4_t27_what_was_revoked_while_the_clock_was_ahead_is_invalid_once_it_is_right() {
    let server = Server::start_with("[status]\nttl = 5").await;
    let (dead, live) = (server.root().await, server.root().await);
    assert!(!is_invalid(&server, &dead).await);
    server.clock.step(3600);
    // By this clock the token has ended: a round passes it over.
    assert_eq!(server.revoke("support-agent", &dead).await.status, 200);
    let (uri, _) = place(&dead);
    let ahead = server.now();
    let began = Instant::now();
    while claims(&fetch(&server, &uri).await.text)["iat"].as_i64().unwrap() <= ahead {
        assert!(began.elapsed() < PATIENCE, "no round by the clock that is ahead");
        sleep(Duration::from_millis(20)).await;
    }
    server.clock.step(-3600);
    dies(&server, &dead).await;
    assert!(!is_invalid(&server, &live).await);
}

#[tokio::test]
async fn t27_a_hand_over_token_that_is_spent_is_invalid() {
    let server = Server::start().await;
    let hand_over = server.hand_over(&server.wide_root().await, "worker-agent").await;
    let unspent = server.hand_over(&server.wide_root().await, "worker-agent").await;
    assert!(!is_invalid(&server, &hand_over).await);
    let work = server.exchange("worker-agent", &hand_over, &[("resource", ORDERS)]).await.token();
    dies(&server, &hand_over).await;
    assert!(!is_invalid(&server, &work).await, "what it was spent on lives");
    assert!(!is_invalid(&server, &unspent).await);
}

#[tokio::test]
async fn t27_every_signature_of_a_stopped_key_is_invalid_and_lists_are_signed_by_the_next() {
    let server = Server::start().await;
    let root = server.root().await;
    let (uri, _) = place(&root);
    let before = fetch(&server, &uri).await.text;
    let stop = StopRequest { kids: Vec::new(), confirmed: true };
    server.admin().await.stop_keys(&stop).await.unwrap().unwrap();
    let after = fetch(&server, &uri).await.text;
    assert_ne!(header(&after)["kid"], header(&before)["kid"]);
    assert!(verifies(&server, &after).await && !verifies(&server, &before).await);
    dies(&server, &root).await;
    assert!(!is_invalid(&server, &server.root().await).await);
}

#[tokio::test]
async fn sl_03_a_list_is_signed_once_in_its_ttl_unless_a_bit_changes() {
    let server = Server::start_with("[status]\nttl = 600").await;
    let root = server.root().await;
    let (uri, _) = place(&root);
    let first = fetch(&server, &uri).await;
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(fetch(&server, &uri).await.text, first.text, "two rounds of the publisher later");
    server.revoke("support-agent", &root).await;
    dies(&server, &root).await;
    let changed = fetch(&server, &uri).await;
    assert_ne!(changed.text, first.text);
    server.clock.shift(601);
    let began = Instant::now();
    while fetch(&server, &uri).await.headers["cache-control"] == "public, max-age=0" {
        assert!(began.elapsed() < PATIENCE);
        sleep(Duration::from_millis(20)).await;
    }
    let fresh = claims(&fetch(&server, &uri).await.text);
    assert!(fresh["iat"].as_i64() > claims(&changed.text)["iat"].as_i64());
    assert_eq!(fresh["status_list"], claims(&changed.text)["status_list"], "the bit stays");
}

#[tokio::test]
async fn t27_a_publisher_that_cannot_go_on_lets_its_lists_run_out() {
    let server = Server::start().await;
    let (uri, _) = place(&server.root().await);
    fetch(&server, &uri).await;
    server.sql("ALTER TABLE revocations RENAME TO gone").await;
    // A round that is under way may still end well.
    sleep(Duration::from_millis(1500)).await;
    let last = claims(&fetch(&server, &uri).await.text);
    server.clock.shift(50);
    let answer = fetch(&server, &uri).await;
    assert_eq!(claims(&answer.text)["iat"], last["iat"], "old news is never dated anew");
    assert_eq!(answer.headers["cache-control"], "public, max-age=0");
    server.clock.shift(11);
    let answer = server.get_url(&uri).await;
    answer.refused(503, "temporarily_unavailable", "status_list_stale");
    assert_eq!(answer.headers["retry-after"], "1");
    server.sql("ALTER TABLE gone RENAME TO revocations").await;
    assert!(claims(&fetch(&server, &uri).await.text)["iat"].as_i64() > last["iat"].as_i64());
}

#[tokio::test]
async fn sl_02_after_a_restart_old_lists_are_served_and_new_tokens_come_from_another() {
    let server = Server::start().await;
    let (dead, live) = (server.root().await, server.root().await);
    server.revoke("support-agent", &dead).await;
    let data: Arc<_> = server.data.clone();
    let issuer = server.issuer.clone();
    server.stop().await;
    let server = Server::start_in(data, Idp::start().await, "").await;
    // The test's server has another port, and so its lists another address.
    let moved = |token: &str| {
        let (uri, idx) = place(token);
        (uri.replacen(&issuer, &server.issuer, 1), usize::try_from(idx).unwrap())
    };
    let bit = |list: &str, idx: usize| bytes(list)[idx / 8] >> (idx % 8) & 1 == 1;
    let (uri, idx) = moved(&dead);
    assert!(bit(&fetch(&server, &uri).await.text, idx), "revoked before the restart");
    let (uri, idx) = moved(&live);
    assert!(!bit(&fetch(&server, &uri).await.text, idx));
    let (new, _) = place(&server.root().await);
    assert_ne!(new, uri);
    let listed = server.get("/oauth/status", &[]).await.body;
    let listed: BTreeSet<&str> =
        listed["status_lists"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(listed, BTreeSet::from([uri.as_str(), new.as_str()]));
    // The last token of the old list has died.
    server.clock.shift(301);
    let began = Instant::now();
    while server.get_url(&uri).await.status != 404 {
        assert!(began.elapsed() < PATIENCE);
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn sl_03_lists_can_be_switched_off_and_a_token_without_status_stays_good() {
    let server = Server::start_with("[status]\nenabled = false").await;
    let root = server.wide_root().await;
    assert_eq!(claims(&root).get("status"), None);
    let metadata = server.get("/.well-known/oauth-authorization-server", &[]).await.body;
    assert_eq!(metadata.get("status_list_aggregation_endpoint"), None);
    let form = [("resource", ORDERS), ("scope", "orders:read")];
    server.exchange("support-agent", &root, &form).await.token();
    assert_eq!(server.get("/oauth/status", &[]).await.body, json!({"status_lists": []}));
    // And the claim that an older server did not know is none that may be put there by hand.
    let forged =
        crate::support::idp::bend(claims(&root), json!({"status": {"status_list": {"idx": 1, "uri": "x"}}}));
    let forged = server.own_keys().sign("at+jwt", &forged).unwrap();
    server.exchange("support-agent", &forged, &form).await.refused(400, "invalid_request", "parent_unknown");
}
