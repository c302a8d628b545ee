//! What operators rely on: probes, metrics, an orderly end, faults of ours that stay ours.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use taskgrant::clock::{Clock, Random, SystemClock};
use taskgrant::domain::decision::{Decision, Kind, Outcome, Record};
use taskgrant::store::Store;
use taskgrant::store::folder::Location;
use taskgrant::store::writer::Writer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::support::process::{Site, free_port};
use crate::support::server::{ORDERS, Server, http};

const ROOT: [(&str, &str); 2] = [("task_type", "refund_order"), ("resource", ORDERS)];
/// Longer than anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

async fn text(url: &str) -> String {
    http().get(url).send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn a_panic_in_a_request_is_a_500_in_json_and_the_connection_goes_on() {
    let broken = Router::new().route("/broken", get(async || -> String { panic!("this is the test's own") }));
    let server = Server::start_with_routes(broken).await;
    for _ in 0..3 {
        let answer = server.get("/broken", &[]).await;
        answer.refused(500, "server_error", "internal_fault");
        assert!(!answer.text.contains("the test's own"), "{answer:?}");
    }
    server.exchange("support-agent", &server.session(json!({})), &ROOT).await.token();
}

/// A clock on which the writer panics.
struct Broken;

impl Clock for Broken {
    fn now(&self) -> DateTime<Utc> {
        panic!("the clock is broken");
    }

    fn steady(&self) -> Duration {
        SystemClock.steady()
    }
}

const CHILD: &str = "TEST_CHILD_OF_THE_WRITER";

/// Run by the test below in a process of its own, which it ends.
#[tokio::test]
#[ignore = "ends its process"]
async fn child_in_which_the_writer_panics() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let store = Store::open(&Location::Memory).await.unwrap();
    let (writer, _task) = Writer::spawn(&store, Arc::new(Broken), TimeDelta::zero());
    let decision = Decision {
        id: Random::default().decision(SystemClock.now()),
        kind: Kind::Exchange,
        at: SystemClock.now(),
        tenant: None,
        outcome: Outcome::Deny,
        policy: None,
        task_type: None,
        record: Record::default(),
        input: None,
    };
    let _ = writer.submit(decision).await;
    sleep(PATIENCE).await;
}

#[test]
fn a_panic_in_the_writer_ends_the_process() {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "ops::child_in_which_the_writer_panics", "--ignored"]).env(CHILD, "1");
    let began = Instant::now();
    let output = child.output().unwrap();
    assert_eq!(output.status.signal(), Some(6), "SIGABRT: {output:?}");
    assert!(began.elapsed() < PATIENCE);
}

#[tokio::test]
async fn metrics_count_what_happened_and_hold_no_secret() {
    let port = free_port();
    let server = Server::start_with(&format!("[metrics]\nlisten = '127.0.0.1:{port}'")).await;
    let session = server.session(json!({}));
    let token = server.exchange("support-agent", &session, &ROOT).await.token();
    server.exchange("support-agent", &session, &[&ROOT[..], &[("dry_run", "true")]].concat()).await;
    let over = [&ROOT[..], &[("scope", "mail:send")]].concat();
    server.exchange("support-agent", &session, &over).await.refused(
        400,
        "invalid_scope",
        "scope_exceeds_ceiling",
    );
    server.exchange("support-agent", "a.b.c", &ROOT).await;
    server.send("/oauth/token", &[], "", "application/x-www-form-urlencoded").await;

    let metrics = text(&format!("http://127.0.0.1:{port}/metrics")).await;
    for line in [
        r#"taskgrant_exchanges_total{outcome="issued",reason_code="",task_type="refund_order"} 1"#,
        r#"taskgrant_exchanges_total{outcome="dry_run",reason_code="",task_type="refund_order"} 1"#,
        r#"taskgrant_exchanges_total{outcome="refused",reason_code="scope_exceeds_ceiling",task_type="refund_order"} 1"#,
        r#"taskgrant_exchanges_total{outcome="refused",reason_code="subject_token_invalid",task_type=""} 1"#,
        r#"taskgrant_exchange_duration_seconds_count{outcome="refused"} 2"#,
        r#"taskgrant_key_set_fetches_total{result="ok"} "#,
        r#"taskgrant_commits_total{result="ok"} "#,
        "taskgrant_commit_changes_sum ",
        "taskgrant_policy_evaluation_seconds_count 2",
        "taskgrant_authentication_failures_total 1",
        "taskgrant_writer_queue 0",
        "taskgrant_connections 1",
        "taskgrant_ready 1",
    ] {
        assert!(metrics.contains(line), "no `{line}` in {metrics}");
    }
    for secret in [token.as_str(), &session, "alice", "support-agent"] {
        assert!(!metrics.contains(secret), "{metrics}");
    }
    assert_eq!(server.get("/metrics", &[]).await.status, 404, "not on the public listener");
    let ready: Value = serde_json::from_str(&text(&format!("http://127.0.0.1:{port}/readyz")).await).unwrap();
    assert_eq!(ready["ready"], true);
}

/// A scraper rests between two requests longer than a head may take.
#[tokio::test]
async fn a_scraper_keeps_its_connection_and_is_not_counted_as_late() {
    let port = free_port();
    let server =
        Server::start_with(&format!("[metrics]\nlisten = '127.0.0.1:{port}'\n[limits]\nheader_timeout = 1"))
            .await;
    let mut scraper = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    for _ in 0..2 {
        scraper.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        while !answer.ends_with("# EOF\n") {
            let mut piece = [0; 4096];
            let read = scraper.read(&mut piece).await.unwrap();
            assert!(read > 0, "the connection was closed: {answer}");
            answer.push_str(std::str::from_utf8(&piece[..read]).unwrap());
        }
        assert!(!answer.contains(r#"taskgrant_connections_closed_total{by="late"}"#), "{answer}");
        sleep(Duration::from_secs(3)).await;
    }
    let mut halting = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    halting.write_all(b"GET /metr").await.unwrap();
    assert_eq!(halting.read(&mut [0; 64]).await.unwrap_or(0), 0, "half a head has its time there too");
    drop(server);
}

/// A table is renamed under the running server, and back: commits fail meanwhile, `/readyz` says so, and both recover.
#[tokio::test]
async fn a_writer_whose_commits_fail_says_so_and_recovers_by_itself() {
    let server = Server::start().await;
    server.root().await;
    for table in ["tokens", "decisions"] {
        let (gone, back) = match table {
            "tokens" => ("ALTER TABLE tokens RENAME TO gone", "ALTER TABLE gone RENAME TO tokens"),
            _ => ("ALTER TABLE decisions RENAME TO gone", "ALTER TABLE gone RENAME TO decisions"),
        };
        server.sql(gone).await;
        for _ in 0..3 {
            let answer = server.exchange("support-agent", &server.session(json!({})), &ROOT).await;
            assert_eq!(
                (answer.status, &answer.body["reason_code"]),
                (503, &json!("not_recorded")),
                "{answer:?}"
            );
            assert_eq!(answer.headers["retry-after"], "1");
        }
        let ready = server.get("/readyz", &[]).await;
        assert_eq!(
            (ready.status, &ready.body["reasons"]),
            (503, &json!(["the last commit failed"])),
            "{table}"
        );
        server.sql(back).await;
        let began = Instant::now();
        while server.get("/readyz", &[]).await.status != 200 {
            assert!(began.elapsed() < PATIENCE, "{table}: not ready again, though nobody asked for anything");
            sleep(Duration::from_millis(50)).await;
        }
        server.root().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_turns_readyz_red_refuses_new_connections_and_answers_what_is_under_way() {
    let (site, port) = (Site::new().await, free_port());
    site.configure(&format!("[metrics]\nlisten = '127.0.0.1:{port}'"));
    let process = site.start().await;
    let address = site.issuer.strip_prefix("http://").unwrap();
    let mut idle = TcpStream::connect(address).await.unwrap();
    let mut under_way = TcpStream::connect(address).await.unwrap();
    let head = "POST /oauth/token HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\
                content-type: application/x-www-form-urlencoded\r\n\r\nscope";
    under_way.write_all(head.as_bytes()).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(idle.read(&mut [0; 512]).await.unwrap() > 0);
    process.signal("TERM");
    let began = Instant::now();
    loop {
        let ready: Value =
            serde_json::from_str(&text(&format!("http://127.0.0.1:{port}/readyz")).await).unwrap();
        if ready["reasons"] == json!(["the server is stopping"]) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{ready}");
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(idle.read(&mut [0; 512]).await.unwrap_or(0), 0, "idle connections are closed");
    let began = Instant::now();
    while TcpStream::connect(address).await.is_ok() {
        assert!(began.elapsed() < PATIENCE, "still accepts");
        sleep(Duration::from_millis(10)).await;
    }
    under_way.write_all(b"=a&b").await.unwrap();
    let mut answer = String::new();
    under_way.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 401 ") && answer.contains("client_authentication_failed"),
        "{answer}"
    );
    assert_eq!(process.terminate().await.code(), Some(0), "{}", site.log());
}

#[tokio::test]
async fn logs_are_json_when_asked_for() {
    let site = Site::new().await;
    let output = site.run(&["serve", "--config", "missing.toml", "--log-format", "json"]).await;
    assert_eq!(output.status.code(), Some(2));
    let line: Value = serde_json::from_slice(output.stderr.trim_ascii()).unwrap();
    assert!(line["fields"]["message"].as_str().unwrap().contains("missing.toml"), "{line}");
}

#[tokio::test]
async fn a_start_that_is_refused_names_the_file_in_plain_text() {
    let site = Site::new().await;
    std::fs::create_dir_all(site.path("data/taskgrant.db")).unwrap();
    // `told` refuses colour, which the log has on terminals only.
    let (status, said) = site.told(&["serve"]).await;
    assert_eq!(status, 1);
    assert!(said.contains("the data folder cannot be used: `data/taskgrant.db`: "), "{said}");
}
