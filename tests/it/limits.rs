//! Limits over real sockets: what is too large, too slow, too much or malformed gets an OAuth error in JSON or a closed
//! connection, and honest clients go on being served.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::support::process::Site;
use crate::support::server::{Answer, ORDERS, Server, basic, http};

const ROOT: [(&str, &str); 2] = [("task_type", "refund_order"), ("resource", ORDERS)];
const FORM: &str = "application/x-www-form-urlencoded";
/// Longer than anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.issuer.strip_prefix("http://").unwrap()).await.unwrap()
}

/// All that comes until the connection is closed, by whatever means.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the connection stays open");
    // A reset is a closed connection too.
    drop(read);
    String::from_utf8(bytes).unwrap()
}

/// Status and JSON body of the first answer in `text`; none if the connection was closed without one.
fn first(text: &str) -> Option<(u16, Value)> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).unwrap_or_default()))
}

async fn honest(server: &Server) {
    let began = Instant::now();
    server.exchange("support-agent", &server.session(json!({})), &ROOT).await.token();
    assert!(began.elapsed() < Duration::from_secs(5), "an honest client waited {:?}", began.elapsed());
}

#[track_caller]
fn an_oauth_error(answer: &Answer, what: &str) {
    assert!((400..500).contains(&answer.status), "{what}: {answer:?}");
    assert!(answer.body["error"].is_string() && answer.body["reason_code"].is_string(), "{what}: {answer:?}");
}

#[tokio::test]
async fn monstrous_bodies_get_an_oauth_error_and_nothing_else_happens() {
    let server = Server::start().await;
    let session = server.session(json!({}));
    let nested =
        |open: &str, close: &str, levels: usize| format!("{}{}", open.repeat(levels), close.repeat(levels));
    let arrays = nested("[", "]", 10_000);
    let objects = format!("[{}1{}]", "{\"a\":".repeat(4_000), "}".repeat(4_000));
    let twice = r#"[{"type":"tool_call","tools":["search_orders"],"tools":["refund_order"]}]"#;
    for details in [arrays.as_str(), &objects, &nested("[", "]", 33), twice, "[{", "\u{0}", "[\"\\ud800\"]"] {
        let form = [&ROOT[..], &[("authorization_details", details)]].concat();
        let answer = server.exchange("support-agent", &session, &form).await;
        an_oauth_error(&answer, "authorization_details");
    }
    for claimed in [nested("{\"a\":", "}", 1_000), nested("[", "]", 10_000), r#"{"a":1,"a":2}"#.to_owned()] {
        let form = [&ROOT[..], &[("claimed", claimed.as_str())]].concat();
        let answer = server.exchange("support-agent", &session, &form).await;
        answer.refused(400, "invalid_request", "malformed_request");
    }
    for (body, what) in [
        (b"scope=\xff\xfe".to_vec(), "not UTF-8"),
        (b"scope=%00".to_vec(), "NUL"),
        (b"scope=\0".to_vec(), "NUL in the clear"),
        (b"scope=a&scope=b".to_vec(), "twice"),
        ("a=b&".repeat(5_000).into_bytes(), "many parameters"),
        (b"scope=%".to_vec(), "cut"),
    ] {
        let answer = server.send("/oauth/token", &[basic("support-agent")], body, FORM).await;
        an_oauth_error(&answer, what);
    }
    honest(&server).await;
}

#[tokio::test]
async fn a_mebibyte_is_not_read_to_its_end() {
    let server = Server::start().await;
    for chunked in [false, true] {
        let mut stream = connect(&server).await;
        let framing = if chunked { "transfer-encoding: chunked" } else { "content-length: 1048576" };
        let head =
            format!("POST /oauth/token HTTP/1.1\r\nhost: x\r\ncontent-type: {FORM}\r\n{framing}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let piece = if chunked { format!("4000\r\n{}\r\n", "a".repeat(0x4000)) } else { "a".repeat(0x4000) };
        let mut sent = 0;
        // Writing fails once the server has closed.
        while sent < 1 << 20 && stream.write_all(piece.as_bytes()).await.is_ok() {
            sent += 0x4000;
        }
        let answer = first(&rest(&mut stream).await);
        assert!(answer.is_none_or(|(status, body)| status == 413 && body["error"] == "invalid_request"));
    }
    honest(&server).await;
}

#[tokio::test]
async fn what_is_not_http_is_answered_without_a_body_or_not_at_all_and_closed() {
    let server = Server::start().await;
    let large = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-pad: {}\r\n\r\n", "a".repeat(20_000));
    let many = format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{}\r\n", "x-pad: a\r\n".repeat(200));
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(70_000));
    let twice = "POST /oauth/token HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\na";
    for (text, statuses) in [
        (large.as_str(), &[431][..]),
        (&many, &[431]),
        (&long, &[414, 431]),
        (twice, &[400]),
        ("\u{0}\u{0}\u{0}\r\n\r\n", &[400]),
        ("GET / HTTP/1.1\r\nbad header\r\n\r\n", &[400]),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\u{3}\u{3}", &[400]),
    ] {
        let mut stream = connect(&server).await;
        let _ = stream.write_all(text.as_bytes()).await;
        let answer = first(&rest(&mut stream).await);
        assert!(answer.as_ref().is_none_or(|(status, _)| statuses.contains(status)), "{answer:?}");
    }
    honest(&server).await;
}

#[tokio::test]
async fn slow_heads_are_closed_in_time_however_they_drip_and_idle_connections_are_not() {
    let server = Server::start_with("[limits]\nheader_timeout = 1\nidle_timeout = 60").await;
    let mut idle = connect(&server).await;
    let get = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    idle.write_all(get).await.unwrap();
    let mut answer = [0; 512];
    assert!(idle.read(&mut answer).await.unwrap() > 0);

    let began = Instant::now();
    let mut silent = connect(&server).await;
    let mut halting = connect(&server).await;
    halting.write_all(b"POST /oauth/token HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    let mut dripping = connect(&server).await;
    for byte in "GET /healthz HTTP/1.1\r\nx-slow: ".bytes().chain(std::iter::repeat(b'a')) {
        if began.elapsed() > PATIENCE || dripping.write_all(&[byte]).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    for stream in [&mut silent, &mut halting, &mut dripping] {
        let text = rest(stream).await;
        assert!(first(&text).is_none_or(|(status, _)| status >= 400), "{text}");
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(began.elapsed() > Duration::from_secs(1));

    idle.write_all(get).await.unwrap();
    assert!(idle.read(&mut answer).await.unwrap() > 0, "between two requests a connection may rest");
    idle.write_all(&get[..10]).await.unwrap();
    assert_eq!(rest(&mut idle).await, "", "the head of a further request has its time too");
    honest(&server).await;
}

#[tokio::test]
async fn a_slow_body_is_answered_408_in_json_and_closed() {
    let server = Server::start_with("[limits]\nrequest_timeout = 1").await;
    let mut stream = connect(&server).await;
    let head = format!(
        "POST /oauth/token HTTP/1.1\r\nhost: x\r\ncontent-type: {FORM}\r\ncontent-length: 100\r\n\r\nscope="
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let text = rest(&mut stream).await;
    let (status, body) = first(&text).unwrap();
    assert_eq!(
        (status, &body["error"], &body["reason_code"]),
        (408, &json!("invalid_request"), &json!("request_timeout"))
    );
    honest(&server).await;
}

#[tokio::test]
async fn clients_that_vanish_half_way_leave_nothing_behind() {
    let server = Server::start().await;
    let head = "POST /oauth/token HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nscope=";
    for cut in [1, 20, 40, head.len()] {
        let mut closed = connect(&server).await;
        closed.write_all(&head.as_bytes()[..cut]).await.unwrap();
        drop(closed);
        let mut half = connect(&server).await;
        half.write_all(&head.as_bytes()[..cut]).await.unwrap();
        half.shutdown().await.unwrap();
        let answer = first(&rest(&mut half).await);
        assert!(answer.as_ref().is_none_or(|(status, _)| *status == 400), "{cut}: {answer:?}");
    }
    honest(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_connections_push_out_their_own_and_honest_clients_are_served() {
    let mut server = Server::start_with("[limits]\nconnections = 64").await;
    let body = "POST /oauth/token HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nscope=";
    let mut held = Vec::new();
    for count in 0..400 {
        let mut stream = connect(&server).await;
        // Silent ones, halting heads, and slow bodies.
        let sent = ["", "POST /oauth/token HT", body][count % 3];
        let _ = stream.write_all(sent.as_bytes()).await;
        held.push(stream);
        if count % 100 == 99 {
            let fresh = http();
            let answer = fresh.get(format!("{}/healthz", server.issuer)).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            // One that rested since the last turn gives way like the others: its client finds it closed, or not yet.
            server.hang_up();
            honest(&server).await;
        }
    }
    let mut open = 0;
    for stream in &mut held {
        let closed = timeout(Duration::from_millis(2), stream.read(&mut [0; 64])).await;
        open += usize::from(closed.is_err());
    }
    assert!(open <= 64, "{open} are still open");
}

fn retry_after(answer: &Answer) -> u64 {
    answer.headers["retry-after"].parse().unwrap()
}

#[tokio::test]
async fn a_clients_rate_is_its_own_and_its_refusal_is_recorded() {
    let server = Server::start_with("[limits]\nclient_rate = 1").await;
    let session = server.session(json!({}));
    let mut last = server.exchange("support-agent", &session, &ROOT).await;
    for _ in 0..30 {
        if last.status == 429 {
            break;
        }
        last.token();
        last = server.exchange("support-agent", &session, &ROOT).await;
    }
    last.refused(429, "temporarily_unavailable", "rate_limited_client");
    assert_eq!((&last.body["retry"], retry_after(&last)), (&json!("later"), 1));
    let recorded = server.decision(&last).await;
    assert_eq!(recorded.record["actor"], "support-agent");
    assert_eq!(recorded.record["reasons"][0]["code"], "rate_limited_client");

    let tasks = server.get("/task-types", &[basic("support-agent")]).await;
    assert_eq!((tasks.status, &tasks.body["reason_code"]), (429, &json!("rate_limited_client")));
    let other = server.exchange("worker-agent", &session, &ROOT).await;
    assert_ne!(other.status, 429, "another client");
    assert_eq!(server.revoke("support-agent", "whatever").await.status, 200, "revoking is never held up");
    let mut introspected = server.introspect("orders-api", "whatever").await;
    for _ in 0..30 {
        introspected = server.introspect("orders-api", "whatever").await;
    }
    assert_eq!(introspected.status, 429);
}

#[tokio::test]
async fn a_principals_rate_is_its_own_whoever_asks() {
    let server = Server::start_with("[limits]\nprincipal_rate = 1").await;
    let alice = server.session(json!({}));
    let mut last = server.exchange("support-agent", &alice, &ROOT).await;
    for _ in 0..30 {
        if last.status == 429 {
            break;
        }
        last = server.exchange("support-agent", &alice, &ROOT).await;
    }
    last.refused(429, "temporarily_unavailable", "rate_limited_principal");
    let recorded = server.decision(&last).await;
    assert_eq!(recorded.record["principal"]["sub"], "alice");
    let bob = server.session(json!({"sub": "bob", "sid": "sid-2"}));
    server.exchange("support-agent", &bob, &ROOT).await.token();
}

#[tokio::test]
async fn l12_of_refusals_that_cost_nothing_to_repeat_the_first_is_recorded_and_the_rest_are_counted() {
    let server = Server::start_with("[limits]\nclient_rate = 1").await;
    let (session, token) = (server.session(json!({})), server.root().await);
    let rated = async || server.exchange("support-agent", &session, &ROOT).await;
    while rated().await.status != 429 {}
    let before = server.decisions().await;
    let limited = async || loop {
        let answer = rated().await;
        if answer.status == 429 {
            break answer;
        }
    };
    let mut with_decision = 0;
    for _ in 0..10 {
        let answers = [
            limited().await,
            server.revoke("worker-agent", &token).await,
            server.revoke("worker-agent", "").await,
            server.revoke("orders-api", &token).await,
            server.exchange("orders-api", &session, &ROOT).await,
        ];
        let codes = answers.each_ref().map(|answer| answer.body["reason_code"].as_str().unwrap());
        let expected = ["token_not_yours", "malformed_request", "client_not_allowed", "client_is_no_agent"];
        assert!(codes[0] == "rate_limited_client" && codes[1..] == expected, "{codes:?}");
        with_decision += answers.iter().filter(|answer| answer.body.get("decision_id").is_some()).count();
    }
    assert_eq!(with_decision, 4, "that of the rate was the first of its like already");
    let admitted = server.decisions().await - before - 4;
    assert!(admitted <= 10, "{admitted} more decisions than those of exchanges that the rate let through");

    let data = server.data.clone();
    server.stop().await;
    let counted = counted(&data).await;
    for (actor, code) in [
        ("support-agent", "rate_limited_client"),
        ("worker-agent", "token_not_yours"),
        ("worker-agent", "malformed_request"),
        ("orders-api", "client_not_allowed"),
        ("orders-api", "client_is_no_agent"),
    ] {
        let of = counted.iter().filter(|(who, why, _)| (who.as_str(), why.as_str()) == (actor, code));
        let count: u64 = of.map(|(_, _, count)| count).sum();
        assert_eq!(count, if actor == "support-agent" { 10 } else { 9 }, "{actor} {code}: {counted:?}");
    }
}

/// Client, code and count of every aggregate in a log.
async fn counted(data: &TempDir) -> Vec<(String, String, u64)> {
    let options = SqliteConnectOptions::new().filename(data.path().join("data/taskgrant.db"));
    let mut connection = options.connect().await.unwrap();
    let records = sqlx::query_scalar("SELECT record FROM decision_records").fetch_all(&mut connection);
    let records: Vec<Vec<u8>> = records.await.unwrap();
    let read = |record: &Vec<u8>| {
        let record: Value = serde_json::from_slice(record).unwrap();
        let count = record["asked"]["count"].as_u64()?;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Some((text(&record["actor"]), text(&record["reasons"][0]["code"]), count))
    };
    records.iter().filter_map(read).collect()
}

#[tokio::test]
async fn a_flood_from_the_address_of_a_probe_does_not_refuse_it_nor_the_reverse() {
    let server = Server::start_with("[limits]\naddress_rate = 1").await;
    let get = async |path: &str| server.get(path, &[]).await.status;
    for _ in 0..30 {
        assert_eq!([get("/healthz").await, get("/readyz").await], [200, 200]);
    }
    assert_eq!(get("/oauth/jwks").await, 200, "the probes have used up nothing");
    let mut statuses = Vec::new();
    for _ in 0..30 {
        statuses.push(get("/oauth/jwks").await);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!([get("/healthz").await, get("/readyz").await], [200, 200]);
    assert_eq!(get("/healthz/").await, 429, "no other path is a probe");
}

#[tokio::test]
async fn t11_a_tree_grows_only_so_far_and_so_fast_and_a_dry_run_says_so() {
    let server = Server::start_with("[limits]\ntask_tokens = 5\ntoken_children = 3\ntask_rate = 1000").await;
    let child = async |parent: &str| server.exchange("support-agent", parent, &[]).await;
    let root = server.root().await;
    let first = child(&root).await.token();
    child(&root).await.token();
    child(&root).await.token();
    let fourth = child(&root).await;
    fourth.refused(429, "temporarily_unavailable", "token_children_exhausted");
    assert_eq!(fourth.body["retry"], "new_session");
    assert!((1..=300).contains(&retry_after(&fourth)), "the parent's life: {fourth:?}");
    let recorded = server.decision(&fourth).await;
    assert_eq!(recorded.record["reasons"][0]["code"], "token_children_exhausted");
    assert_eq!(recorded.input["stats"], json!({"task_tokens": 4, "token_children": 3}));
    child(&first).await.token();
    child(&first).await.refused(429, "temporarily_unavailable", "task_tokens_exhausted");
    let dry = server.exchange("support-agent", &first, &[("dry_run", "true")]).await;
    dry.refused(429, "temporarily_unavailable", "task_tokens_exhausted");
    child(&server.root().await).await.token();
}

#[tokio::test]
async fn t11_a_tasks_rate_is_its_own_and_recovers() {
    let server = Server::start_with("[limits]\ntask_rate = 2").await;
    let (root, other) = (server.root().await, server.root().await);
    server.exchange("support-agent", &root, &[]).await.token();
    let third = server.exchange("support-agent", &root, &[]).await;
    third.refused(429, "temporarily_unavailable", "rate_limited_task");
    assert_eq!(third.body["retry"], "later");
    assert!((20..=30).contains(&retry_after(&third)), "{third:?}");
    server.exchange("support-agent", &other, &[]).await.token();
    server.clock.shift(31);
    server.exchange("support-agent", &root, &[]).await.token();
}

#[tokio::test]
async fn a_source_address_has_its_rate_and_only_listed_proxies_may_name_it() {
    let get = async |server: &Server, source: &str| {
        server.get("/oauth/jwks", &[("x-forwarded-for".to_owned(), source.to_owned())]).await.status
    };
    let direct = Server::start_with("[limits]\naddress_rate = 1").await;
    let mut statuses = Vec::new();
    for count in 0..30 {
        statuses.push(get(&direct, &format!("192.0.2.{count}")).await);
    }
    assert!(statuses.contains(&429), "a client that names a new source each time: {statuses:?}");

    let proxied = Server::start_with("behind_proxy = ['127.0.0.0/8']\n[limits]\naddress_rate = 1").await;
    for count in 0..30 {
        assert_eq!(get(&proxied, &format!("192.0.2.{count}")).await, 200);
    }
    let mut last = 200;
    for count in 0..30 {
        last = get(&proxied, &format!("203.0.113.{count}, 192.0.2.200")).await;
    }
    assert_eq!(last, 429, "what the client wrote before the proxy's entry counts for nothing");
    let answer =
        proxied.get("/oauth/jwks", &[("x-forwarded-for".to_owned(), "192.0.2.200".to_owned())]).await;
    answer.refused(429, "temporarily_unavailable", "rate_limited_address");
    assert!(retry_after(&answer) >= 1);
}

#[tokio::test]
async fn guessing_is_slowed_down_and_does_not_lock_out_those_who_know() {
    let server = Server::start_with("[limits]\nfailure_rate = 1").await;
    let wrong = [("authorization".to_owned(), "Basic c3VwcG9ydC1hZ2VudDp3cm9uZw==".to_owned())];
    let mut last = server.get("/task-types", &wrong).await;
    last.refused(401, "invalid_client", "client_authentication_failed");
    for _ in 0..30 {
        last = server.get("/task-types", &wrong).await;
    }
    last.refused(429, "temporarily_unavailable", "rate_limited_failures");
    assert!(!last.headers.contains_key("www-authenticate"));
    honest(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_change_without_a_restart_and_a_bad_file_changes_nothing() {
    let site = Site::new().await;
    site.configure("[limits]\naddress_rate = 100000");
    let process = site.start().await;
    let client = http();
    let limited = async || {
        let mut limited = false;
        for _ in 0..40 {
            limited |=
                client.get(format!("{}/oauth/jwks", site.issuer)).send().await.unwrap().status() == 429;
        }
        limited
    };
    assert!(!limited().await);
    site.configure("client_rate = 1\nnonsense = 1");
    process.signal("HUP");
    site.logged("was not reloaded").await;
    assert!(!limited().await && site.log().contains("nonsense"));
    site.reconfigure("address_rate = 100000\nclient_rate = 1\nnonsense = 1", "address_rate = 2");
    process.signal("HUP");
    let began = Instant::now();
    while !limited().await {
        assert!(began.elapsed() < PATIENCE, "{}", site.log());
    }
    assert_eq!(process.terminate().await.code(), Some(0), "{}", site.log());
}
