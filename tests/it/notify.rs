//! People are told that something waits for them: signed, once, again where it did not arrive, and with nothing in it that redeems.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::support::server::{Answer, Server};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const ASK: [(&str, &str); 3] =
    [("task_type", "close_account"), ("scope", "refunds:write"), ("completion_mode", "deferred")];

/// What came, and how often it is refused before it is taken.
#[derive(Default)]
struct Inbox {
    came: Mutex<Vec<(HeaderMap, String)>>,
    refuse: Mutex<usize>,
}

async fn receive(State(inbox): State<Arc<Inbox>>, headers: HeaderMap, body: String) -> StatusCode {
    inbox.came.lock().unwrap().push((headers, body));
    let mut refuse = inbox.refuse.lock().unwrap();
    if *refuse == 0 {
        return StatusCode::NO_CONTENT;
    }
    *refuse -= 1;
    StatusCode::SERVICE_UNAVAILABLE
}

impl Inbox {
    async fn open() -> (Arc<Self>, String) {
        let (inbox, listener) = (Arc::new(Self::default()), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().route("/hook", post(receive)).with_state(inbox.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (inbox, url)
    }

    /// The messages, as soon as there are so many.
    async fn messages(&self, wanted: usize) -> Vec<(HeaderMap, String)> {
        loop {
            let came = self.came.lock().unwrap().clone();
            if came.len() >= wanted {
                return came;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn secret_file(folder: &Path) -> String {
    let file = folder.join("secret");
    fs::write(&file, SECRET).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    file.display().to_string()
}

fn channel(folder: &TempDir, url: &str, more: &str) -> String {
    format!("[notify.leads]\nurl = '{url}'\nsecret_file = '{}'\n{more}\n", secret_file(folder.path()))
}

/// A server whose task type `close_account` names the channel `leads`.
async fn server(toml: &str) -> Server {
    let server = Server::start_with(toml).await;
    server
        .reapply(
            "approvers: [group:support-leads], quorum: 1}",
            "approvers: [group:support-leads], quorum: 1, notify: leads}",
        )
        .await;
    server
}

async fn ask(server: &Server, form: &[(&str, &str)]) -> Answer {
    let answer = server.exchange("support-agent", &server.session(json!({})), form).await;
    answer.refused(400, "authorization_pending", "approval_pending");
    answer
}

fn is_signed((headers, body): &(HeaderMap, String)) -> bool {
    let text = |name: &str| headers[name].to_str().unwrap();
    let signed = format!("{}.{}.{body}", text("webhook-id"), text("webhook-timestamp"));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = STANDARD.decode(text("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
    hmac::verify(&key, signed.as_bytes(), &signature).is_ok()
}

#[tokio::test]
async fn people_are_told_once_and_again_where_it_did_not_arrive() {
    let (folder, (inbox, url)) = (tempfile::tempdir().unwrap(), Inbox::open().await);
    *inbox.refuse.lock().unwrap() = 1;
    let toml = channel(&folder, &url, "link = 'https://look.example/{id}'");
    let server = server(&toml).await;
    let asked = ask(&server, &[&ASK[..], &[("claimed", r#"{"query": "click here"}"#)]].concat()).await;
    ask(&server, &[&ASK[..], &[("claimed", r#"{"query": "click here"}"#)]].concat()).await;
    let came = inbox.messages(2).await;
    assert!(came.iter().all(is_signed), "{came:?}");
    assert_eq!(came[0].1, came[1].1, "the same message, after it was refused");
    let message: Value = serde_json::from_str(&came[1].1).unwrap();
    assert_eq!(
        (&message["approval_id"], &message["type"]),
        (&asked.body["approval_id"], &json!("approval.pending"))
    );
    assert_eq!(
        message["link"],
        format!("https://look.example/{}", asked.body["approval_id"].as_str().unwrap())
    );
    assert_eq!((&message["principal"]["sub"], &message["scope"]), (&json!("alice"), &json!("refunds:write")));
    for secret in [asked.body["deferral_code"].as_str().unwrap(), "click here", "eyJ"] {
        assert!(!came[1].1.contains(secret), "{secret}");
    }
    // What still waits is told again after a restart, and what is settled is not.
    let server = server.restart_with(&toml).await;
    let again = inbox.messages(3).await;
    assert_eq!((again.len(), &again[2].1), (3, &came[0].1));
    server.revoke("support-agent", asked.body["deferral_code"].as_str().unwrap()).await;
}

#[tokio::test]
async fn a_channel_that_is_not_there_or_not_public_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // No such channel, and one at an address that outbound requests may not go to (T37).
    for toml in [String::new(), channel(&folder, "https://10.0.0.1/hook", "")] {
        let server = server(&toml).await;
        let asked = ask(&server, &ASK).await;
        assert_eq!(
            server.revoke("support-agent", asked.body["deferral_code"].as_str().unwrap()).await.status,
            200
        );
    }
}

#[tokio::test]
async fn the_example_turns_signed_messages_into_mail_and_refuses_others() {
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let at = format!("127.0.0.1:{port}");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/notify/mail.py");
    let started = Command::new("python3")
        .args([script, &at])
        .env("WEBHOOK_SECRET_FILE", secret_file(folder.path()))
        .envs([("MAIL_FROM", "tg@acme.example"), ("MAIL_TO", "leads@acme.example"), ("SMTP_HOST", "-")])
        .stdout(Stdio::from(fs::File::create(folder.path().join("out")).unwrap()))
        .spawn();
    let Ok(mut script) = started else {
        eprintln!("SKIPPED: no python3 on this machine");
        return;
    };
    while tokio::net::TcpStream::connect(&at).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let http = crate::support::server::http();
    let forged = http.post(format!("http://{at}")).header("webhook-id", "x").body("{}").send().await.unwrap();
    assert_eq!(forged.status().as_u16(), 401);
    let server = server(&channel(&folder, &format!("http://{at}"), "")).await;
    let asked = ask(&server, &ASK).await;
    let wanted = format!("taskgrant approvals show {}", asked.body["approval_id"].as_str().unwrap());
    loop {
        let mail = fs::read_to_string(folder.path().join("out")).unwrap();
        if mail.contains(&wanted) {
            assert!(mail.contains("Subject: Approval needed: close_account by support-agent"), "{mail}");
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    script.kill().unwrap();
}
