//! What `login` and `logout` do with a server that is not what it should be: nothing, and before they have sent anything there.

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::{Json, Router};
use openidconnect::url::Url;
use serde_json::{Value, json};
use taskgrant::admin::api::MAX_BODY;
use taskgrant::terminal::output::Exit;

use super::{Site, log_out, nobody, owned_file};
use crate::support::console;
use crate::support::idp::bend;
use crate::support::server::http;

/// One server that says what it likes: admin API, authorization server and identity provider at once.
#[derive(Clone)]
struct Rogue {
    url: String,
    /// The same server, under a URL that is neither https nor one of loopback.
    plain: String,
    said: Arc<Mutex<Value>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Rogue {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // The unspecified address is this machine as well, to whoever connects.
        let (url, plain) = (format!("http://127.0.0.1:{port}"), format!("http://0.0.0.0:{port}"));
        let rogue = Self { url, plain, said: Arc::default(), asked: Arc::default() };
        rogue.say(json!({}));
        let router = Router::new().fallback(answer).with_state(rogue.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        rogue
    }

    /// From now on it says what an honest server would, with these members replaced.
    fn say(&self, with: Value) {
        let url = &self.url;
        let sign_in = json!([{"issuer": url, "client": "admin-cli", "session_tokens": ["id_token"]}]);
        let honest = json!({
            "issuer": url,
            "resource": format!("{url}/admin"),
            "consoles": [{"client_id": "console", "sign_in": sign_in}],
            "authorization_endpoint": format!("{url}/authorize"),
            "token_endpoint": format!("{url}/token"),
            "revocation_endpoint": format!("{url}/revoke"),
            "device_authorization_endpoint": format!("{url}/device"),
            "verification_uri": format!("{url}/activate"),
            "jwks_uri": format!("{url}/jwks"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "keys": [],
            "device_code": "d", "user_code": "u", "expires_in": 60, "interval": 1,
        });
        *self.said.lock().unwrap() = bend(honest, with);
        self.asked.lock().unwrap().clear();
    }

    /// Which paths were asked for, since it said something else.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// What `login` and `logout` need for this server.
fn options(folder: &Path, server: &str) -> Vec<String> {
    owned_file(&folder.join("secret"), "tgs_secret");
    let path = |name: &str| folder.join(name).display().to_string();
    ["--server", server, "--client-secret-file", &path("secret"), "--token-file", &path("token")]
        .map(str::to_owned)
        .to_vec()
}

async fn answer(State(rogue): State<Rogue>, request: Request) -> Json<Value> {
    rogue.asked.lock().unwrap().push(request.uri().path().to_owned());
    // One document answers everything: who asks takes what they know of it.
    Json(rogue.said.lock().unwrap().clone())
}

/// Somebody signs in: the browser brings a code.
async fn signs_in(page: String) {
    let page = Url::parse(&page).unwrap();
    let of = |name: &str| page.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
    let back = format!("{}?code=c&state={}", of("redirect_uri"), of("state"));
    http().get(back).send().await.unwrap();
}

const REMEDY: &str = "neither https nor http on loopback, and nothing is sent there: give its https URL";

#[tokio::test]
async fn a_server_in_plain_http_elsewhere_is_asked_nothing() {
    let (rogue, folder) = (Rogue::start().await, tempfile::tempdir().unwrap());
    let options = options(folder.path(), &rogue.plain);
    let (exit, out, err) = console::login(&options, nobody).await;
    assert!(
        exit == Exit::Usage && err.contains(&format!("--server: `{}` is {REMEDY}", rogue.plain)),
        "{err}"
    );
    let (exit, err) = log_out(&options).await;
    assert!(exit == Exit::Refused && err.contains(&rogue.plain) && err.contains(REMEDY), "{err}");
    assert_eq!((rogue.asked(), out.as_str()), (Vec::new(), ""));
}

#[tokio::test]
async fn no_url_that_a_server_names_is_asked_in_plain_http_elsewhere() {
    let (rogue, folder) = (Rogue::start().await, tempfile::tempdir().unwrap());
    let options = options(folder.path(), &rogue.url);
    let plain = |path: &str| format!("{}{path}", rogue.plain);
    let elsewhere = json!([{"client_id": "console", "sign_in": [{"issuer": plain(""), "client": "c", "session_tokens": []}]}]);
    for (member, value, more, last) in [
        ("issuer", json!(plain("")), ["--issuer", &rogue.plain].as_slice(), "/admin/v1/login"),
        ("token_endpoint", json!(plain("/token")), &[], "/.well-known/oauth-authorization-server"),
        ("consoles", elsewhere, &[], "/.well-known/oauth-authorization-server"),
        ("jwks_uri", json!(plain("/jwks")), &[], "/.well-known/openid-configuration"),
        ("authorization_endpoint", json!(plain("/authorize")), &[], "/jwks"),
        ("device_authorization_endpoint", json!(plain("/device")), &["--device"], "/jwks"),
        ("verification_uri", json!(plain("/activate")), &["--device"], "/device"),
    ] {
        rogue.say(json!({member: value}));
        let with = options.iter().map(String::as_str).chain(more.iter().copied());
        let (exit, out, err) = console::login(with, signs_in).await;
        assert_eq!(exit, Exit::Usage, "{member}: {out}");
        assert!(err.contains(&rogue.plain) && err.contains(REMEDY), "{member}: {err}");
        assert!(!out.contains(&rogue.plain) || member == "issuer", "{member}: {out}");
        assert_eq!(rogue.asked().last().map(String::as_str), Some(last), "{member}");
    }
}

#[tokio::test]
async fn no_code_and_no_token_is_sent_in_plain_http_elsewhere() {
    let (rogue, folder) = (Rogue::start().await, tempfile::tempdir().unwrap());
    // The identity provider of an honest server.
    let site = Site::start().await;
    let issuer = &site.server.issuer;
    let sign_in = json!([{"issuer": rogue.url, "client": "admin-cli", "session_tokens": ["id_token"]}]);
    let consoles = json!([{"client_id": "console", "sign_in": sign_in}]);
    let plain = format!("{}/token", rogue.plain);
    rogue.say(json!({"token_endpoint": plain}));
    let honest = Rogue::start().await;
    honest.say(json!({"issuer": issuer, "resource": format!("{issuer}/admin"), "consoles": consoles}));
    let (exit, out, err) = console::login(options(folder.path(), &honest.url), signs_in).await;
    assert!(exit == Exit::Usage && out.contains("/authorize?"), "{out}{err}");
    assert!(err.contains(&plain) && err.contains(REMEDY), "{err}");
    assert_eq!(rogue.asked(), ["/.well-known/openid-configuration", "/jwks"], "no code is sent");

    rogue.say(json!({"revocation_endpoint": format!("{}/revoke", rogue.plain)}));
    let login = json!({
        "server": rogue.url, "issuer": rogue.url, "client_id": "console", "role": "admin", "access_token": "a.b.c",
        "expires_at": 5,
    });
    owned_file(&folder.path().join("token"), &login.to_string());
    let (exit, err) = log_out(&options(folder.path(), &rogue.url)).await;
    assert!(exit == Exit::Refused && err.contains(REMEDY), "{err}");
    assert_eq!(rogue.asked(), ["/.well-known/oauth-authorization-server"], "no token is sent");
    assert!(folder.path().join("token").exists());
}

#[tokio::test]
async fn a_server_that_says_it_is_another_gets_no_token_for_that_one() {
    let (rogue, folder) = (Rogue::start().await, tempfile::tempdir().unwrap());
    let real = "https://taskgrant.example";
    let real_api = format!("{real}/admin");
    let own = rogue.url.clone();
    for (says, more, why) in [
        (json!({"issuer": real, "resource": real_api}), [].as_slice(), "--issuer"),
        (json!({"issuer": real, "resource": real_api}), &["--issuer", &own], "as --issuer has it"),
        (json!({}), &["--issuer", real], "as --issuer has it"),
        (json!({"resource": real_api}), &[], "its own admin API is"),
        (json!({"resource": real_api}), &["--issuer", &own], "its own admin API is"),
        (json!({"resource": format!("{own}/admin/")}), &[], "its own admin API is"),
        (json!({"issuer": format!("{own}/#"), "resource": ""}), &[], "its own admin API is"),
    ] {
        rogue.say(says.clone());
        let options = options(folder.path(), &own);
        let with = options.iter().map(String::as_str).chain(more.iter().copied());
        let (exit, out, err) = console::login(with, nobody).await;
        assert!(exit == Exit::Usage && err.contains(why), "{says} {more:?}: {err}");
        assert_eq!((rogue.asked(), out.as_str()), (vec!["/admin/v1/login".to_owned()], ""), "{says}");
    }
}

#[tokio::test]
async fn a_server_that_passes_on_what_another_says_is_sent_nothing_for_that_one() {
    let site = Site::start_told(true).await;
    let (rogue, folder) = (Rogue::start().await, tempfile::tempdir().unwrap());
    let honest = site.server.get_url(&format!("{}/admin/v1/login", site.url)).await.body;
    let console = json!([{"client_id": "console", "sign_in": [{"issuer": rogue.url, "client": "c", "session_tokens": []}]}]);
    rogue.say(json!({"issuer": honest["issuer"], "resource": honest["resource"], "consoles": console}));
    let options = options(folder.path(), &rogue.url);
    for more in [[].as_slice(), &["--issuer", &site.server.issuer]] {
        let with = options.iter().map(String::as_str).chain(more.iter().copied());
        let (exit, out, err) = console::login(with, signs_in).await;
        assert!(exit == Exit::Usage && err.contains(&site.url) && err.contains(&rogue.url), "{err}");
        assert_eq!(out, "");
    }
    assert_eq!(rogue.asked(), ["/admin/v1/login"; 2], "neither sign-in nor token");
}

/// What a terminal would take for a command.
const ESCAPE: &str = "\u{1b}[2J\u{202e}";

#[tokio::test]
async fn what_a_server_says_reaches_the_terminal_masked() {
    let (rogue, folder) = (Rogue::start().await, tempfile::tempdir().unwrap());
    let options = options(folder.path(), &rogue.url);
    let file = folder.path().join("session");
    owned_file(&file, "eyJ.a.b");
    let session = ["--session-token", file.to_str().unwrap()];
    let sign_in = |issuers: &[String]| {
        let all: Vec<_> = issuers
            .iter()
            .map(|issuer| json!({"issuer": issuer, "client": "c", "session_tokens": []}))
            .collect();
        json!([{"client_id": "console", "sign_in": all}])
    };
    let bad = |url: &str| format!("{url}/{ESCAPE}");
    let own = rogue.url.clone();
    let pages = json!({"verification_uri": bad(&own), "user_code": ESCAPE, "error": ESCAPE, "error_description": ESCAPE});
    for (says, more) in [
        (json!({"error_description": ESCAPE, "reason_code": ESCAPE}), session.as_slice()),
        (json!({"consoles": sign_in(&[bad(&own), bad("https://other")])}), &[]),
        (json!({"consoles": sign_in(&[bad(&own)])}), &[]),
        (json!({"issuer": bad(&own), "resource": ""}), &[]),
        (json!({"token_endpoint": bad(&own), "error_description": ESCAPE}), &session),
        (json!({"token_endpoint": bad("http://elsewhere")}), &[]),
        (json!({"taskgrant_admin_endpoint": bad(&own)}), &[]),
        (json!({"response_types_supported": ESCAPE}), &[]),
        (pages, &["--device"]),
    ] {
        rogue.say(says.clone());
        let with = options.iter().map(String::as_str).chain(more.iter().copied());
        let (exit, out, err) = console::login(with, nobody).await;
        let told = format!("{out}{err}");
        assert!(exit != Exit::Done && !err.is_empty(), "{says}: {told}");
        assert!(told.chars().all(|c| c == '\n' || c.is_ascii_graphic() || c == ' '), "{says}: {told:?}");
    }
}

#[tokio::test]
async fn a_lifetime_without_end_and_an_answer_without_end_do_no_harm() {
    let (rogue, folder) = (Rogue::start().await, tempfile::tempdir().unwrap());
    let mut options = options(folder.path(), &rogue.url);
    owned_file(&folder.path().join("session"), "eyJ.a.b");
    options.extend(["--session-token".to_owned(), folder.path().join("session").display().to_string()]);
    for (lives, fits) in [(i64::MAX, (|at| at == i64::MAX) as fn(i64) -> bool), (i64::MIN, |at| at < 0)] {
        rogue.say(json!({"access_token": "a.b.c", "expires_in": lives}));
        let (exit, out, err) = console::login(&options, nobody).await;
        assert_eq!(exit, Exit::Done, "{out}{err}");
        let stored: Value =
            serde_json::from_slice(&std::fs::read(folder.path().join("token")).unwrap()).unwrap();
        let expires_at = stored["expires_at"].as_i64().unwrap();
        assert!(fits(expires_at), "{expires_at}");
    }
    rogue.say(json!({"padding": "x".repeat(MAX_BODY)}));
    let (exit, _, err) = console::login(&options, nobody).await;
    assert!(exit == Exit::Usage && err.contains("the answer has more than"), "{err}");
}
