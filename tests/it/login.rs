//! The first administrator, `taskgrant login`, and commands that go to another machine's server (DESIGN §9).

mod rogue;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use taskgrant::cli::apply::Deployment;
use taskgrant::cli::{approvals, bootstrap_admin, lockdown, logout};
use taskgrant::clock::SystemClock;
use taskgrant::domain::proposal::TwoPersons;
use taskgrant::store::folder::Location;
use taskgrant::terminal::output::{Exit, Output};
use tokio::net::TcpStream;

use crate::support::console;
use crate::support::database::{location, on_postgres};
use crate::support::idp::{bend, claims};
use crate::support::process::free_port;
use crate::support::server::{Server, http};
use crate::support::tls::authority;

#[derive(Parser)]
struct Bootstrap {
    #[command(flatten)]
    args: bootstrap_admin::BootstrapArgs,
}

#[derive(Parser)]
struct Logout {
    #[command(flatten)]
    args: logout::LogoutArgs,
}

#[derive(Parser)]
struct Lockdown {
    #[command(flatten)]
    args: lockdown::LockdownArgs,
}

#[derive(Parser)]
struct Approvals {
    #[command(flatten)]
    args: approvals::ApprovalsArgs,
}

struct Site {
    server: Server,
    url: String,
    folder: tempfile::TempDir,
}

impl Site {
    async fn start() -> Self {
        Self::start_told(false).await
    }

    /// One that may be told by which URL it is administered.
    async fn start_told(is_told: bool) -> Self {
        let port = free_port();
        let url = format!("http://127.0.0.1:{port}");
        let told = if is_told { format!("public_url = '{url}'") } else { String::new() };
        let server = Server::start_with(&format!("[admin]\nlisten = '127.0.0.1:{port}'\n{told}")).await;
        while http().get(&url).send().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { server, url, folder: tempfile::tempdir().unwrap() }
    }

    /// One over TLS, whose certificate is of an authority that nobody else knows; and the file of that authority's own.
    async fn start_private() -> (Self, String) {
        let (data, port) = (Arc::new(tempfile::tempdir().unwrap()), free_port());
        let (authority, key) = (authority("Acme Private"), KeyPair::generate().unwrap());
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let files = data.path().to_owned();
        owned_file(&files.join("key.pem"), &key.serialize_pem());
        std::fs::write(files.join("cert.pem"), params.signed_by(&key, &authority).unwrap().pem()).unwrap();
        std::fs::write(files.join("ca.pem"), authority.pem()).unwrap();
        let toml = format!(
            "[tls]\ncert = '{0}/cert.pem'\nkey = '{0}/key.pem'\n[admin]\nlisten = '127.0.0.1:{port}'\n\
             public_url = 'https://127.0.0.1:{port}'",
            files.display()
        );
        let server = Server::start_tls(data, &toml).await;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let url = format!("https://127.0.0.1:{port}");
        let site = Self { server, url, folder: tempfile::tempdir().unwrap() };
        (site, files.join("ca.pem").display().to_string())
    }

    fn deployment(&self) -> Deployment {
        let data = self.server.data.path().join("data");
        Deployment {
            admin_socket: data.join("admin.sock"),
            location: Location::Folder(data),
            own_issuer: self.server.issuer.clone(),
            two_persons: TwoPersons::default(),
            remote: None,
        }
    }

    async fn bootstrap(&self, with: &[&str]) -> (Exit, String) {
        let (issuer, config) = (self.server.idp.issuer.clone(), "unread.toml".to_owned());
        let base = ["x", "--principal", &issuer, "root", "--config", &config];
        let args = Bootstrap::parse_from(base.iter().chain(with)).args;
        bootstrap(&args, &self.deployment()).await
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Keeps the console's secret in a file.
    fn keep(&self, secret: &str) {
        owned_file(&self.file("secret"), secret);
    }

    fn options(&self) -> Vec<String> {
        let path = |name: &str| self.file(name).display().to_string();
        ["--server", &self.url, "--client-secret-file", &path("secret"), "--token-file", &path("token")]
            .map(str::to_owned)
            .to_vec()
    }

    /// Somebody sits at the identity provider.
    fn seat(&self, with: Value) {
        let person = json!({"sub": "root", "sid": "sid-root", "auth_time": self.server.now()});
        let person = bend(bend(self.server.session_claims(), person), with);
        self.server.idp.people.seat(person);
    }

    /// Runs `login`, with a browser that goes where it is told to.
    async fn login(&self, with: &[&str]) -> (Exit, String, String) {
        let with = with.iter().map(|text| (*text).to_owned());
        console::login(self.options().into_iter().chain(with), async |page| {
            http().get(page).send().await.unwrap();
        })
        .await
    }

    fn stored(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.file("token")).unwrap()).unwrap()
    }

    async fn lockdown(&self, with: &[&str]) -> (Exit, String, String) {
        let file = self.file("token").display().to_string();
        let base = [&["x"][..], with, &["--server", &self.url, "--token-file", &file]].concat();
        let args = Lockdown::parse_from(base).args;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let output = &mut Output { out: &mut out, err: &mut err };
        let exit = lockdown::run(&args, Arc::new(SystemClock), output).await;
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }
}

async fn bootstrap(args: &bootstrap_admin::BootstrapArgs, deployment: &Deployment) -> (Exit, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let output = &mut Output { out: &mut out, err: &mut err };
    let exit = bootstrap_admin::run(args, deployment, Arc::new(SystemClock), output).await;
    (exit, String::from_utf8([out, err].concat()).unwrap())
}

/// Runs `logout`; what it complains about.
async fn log_out(options: &[String]) -> (Exit, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let output = &mut Output { out: &mut out, err: &mut err };
    let args = Logout::parse_from(["x"].into_iter().chain(options.iter().map(String::as_str))).args;
    let exit = logout::run(&args, output).await;
    (exit, String::from_utf8(err).unwrap())
}

/// A file that is its owner's only.
fn owned_file(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Nobody sits at the browser.
async fn nobody(_: String) {}

const CLI: [&str; 2] = ["--console-client", "admin-cli"];

fn secret_in(told: &str) -> &str {
    told.lines().find_map(|line| line.strip_prefix("# tgs_")).unwrap().trim()
}

#[tokio::test]
async fn the_first_administrator_is_let_in_once_by_the_machines_account_and_recorded() {
    let site = Site::start().await;
    let (exit, told) = site.bootstrap(&[]).await;
    assert!(exit == Exit::Refused && told.contains("--console-client"), "{told}");
    let (exit, told) = site.bootstrap(&["--console-client", ""]).await;
    assert_eq!(exit, Exit::Refused, "{told}");
    let (exit, told) = site.bootstrap(&CLI).await;
    assert_eq!(exit, Exit::Done, "{told}");
    assert!(secret_in(&told).len() == 43 && told.contains("kind: Administrator"), "{told}");
    let (leaf, record) = site.server.last_decision().await;
    assert_eq!((&leaf["kind"], &leaf["outcome"]), (&json!("admin"), &json!("allow")));
    assert_eq!(record["asked"]["command"], "bootstrap-admin");
    assert!(record["actor"].as_str().unwrap().starts_with("uid "), "{record}");
    assert!(!record.to_string().contains(secret_in(&told)), "no secret is recorded");

    // What it prints can be kept with the other objects: nothing changes by it, and the secret stays.
    let documents: Vec<&str> = told.lines().filter(|line| !line.starts_with('#')).collect();
    let applied = site.server.apply(&documents.join("\n")).await.unwrap();
    assert!(applied.plan.is_empty() && applied.plan.steps.len() == 2, "{applied:?}");

    let (exit, told) = site.bootstrap(&[]).await;
    assert!(exit == Exit::Refused && told.contains("--again"), "{told}");
    let (leaf, record) = site.server.last_decision().await;
    assert_eq!(
        (&leaf["outcome"], &record["reasons"][0]["code"]),
        (&json!("deny"), &json!("bootstrap_refused"))
    );
    let (exit, told) = site.bootstrap(&["--again"]).await;
    assert!(exit == Exit::Done && told.contains("name: first-2") && !told.contains("tgs_"), "{told}");
    let (exit, told) = site.bootstrap(&["--again", "--console-client", "other"]).await;
    assert!(exit == Exit::Refused && told.contains("there is a console already"), "{told}");
}

/// A console in YAML, of the upstream client `admin-cli` of `issuer`.
fn console_object(name: &str, issuer: &str, more: &str) -> String {
    format!(
        "kind: Agent\ntenant: system\nname: {name}\nspec:\n  client_id: {name}\n  class: taskgrant:console\n  owner: group:platform\n  \
         contact: platform@acme.example\n  upstream_clients: [{{issuer: {issuer}, client: admin-cli}}]\n{more}"
    )
}

#[tokio::test]
async fn bootstrap_names_a_console_that_lets_them_in_and_a_client_id_that_is_free() {
    let site = Site::start().await;
    let other = "kind: TrustedIssuer\ntenant: system\nname: other\nspec:\n  issuer: https://other.example\n  subject_prefix: 'o:'\n  \
                 fixed_tenant: acme\n  accept: [{type: id_token, audience: x}]\n";
    let taken = "kind: Agent\ntenant: acme\nname: taken\nspec:\n  client_id: taskgrant-console\n  class: worker\n  \
                 owner: group:platform\n  contact: platform@acme.example\n";
    let issuer = site.server.idp.issuer.clone();
    let objects = [
        console_object("a-disabled", &issuer, "  disabled: true\n"),
        console_object("b-elsewhere", "https://other.example", ""),
        other.to_owned(),
        taken.to_owned(),
    ];
    site.server.apply(&objects.join("---\n")).await.unwrap();
    let (exit, told) = site.bootstrap(&[]).await;
    assert_eq!(exit, Exit::Refused, "{told}");
    for why in ["`a-disabled` is disabled", "`b-elsewhere` has no upstream client of it", "--console-client"]
    {
        assert!(told.contains(why), "{told}");
    }
    let (exit, told) = site.bootstrap(&[&CLI[..], &["--client-id", "taskgrant-console"]].concat()).await;
    assert!(exit == Exit::Refused && told.contains("acme/taken") && told.contains("--client-id"), "{told}");
    let (exit, told) = site.bootstrap(&CLI).await;
    assert!(
        exit == Exit::Done
            && told.contains("login --server URL --client-id taskgrant-console-2 --client-secret-file FILE"),
        "{told}"
    );
    let (_, record) = site.server.last_decision().await;
    let objects = record["granted"]["objects"].as_array().unwrap();
    let administrator = objects.iter().find(|o| o["object"] == "Administrator system/first").unwrap();
    assert_eq!(administrator["widens"], json!(["widens `spec`: a new administrator"]), "{record}");
    assert_eq!(record["reasons"][0]["code"], "widening_allowed");

    // One that is usable is named, whatever comes before it.
    let (exit, told) = site.bootstrap(&["--again"]).await;
    assert!(exit == Exit::Done && told.contains("--client-id taskgrant-console-2"), "{told}");
    let usable = console_object("c-usable", &issuer, "");
    site.server.apply(&usable).await.unwrap();
    let (exit, told) = site.bootstrap(&["--again"]).await;
    assert!(exit == Exit::Done && told.contains("--client-id c-usable"), "{told}");
}

#[tokio::test]
async fn bootstrap_works_in_the_data_where_no_server_answers_and_not_for_an_unknown_issuer() {
    let site = Site::start().await;
    let Site { server, folder: _folder, .. } = &site;
    let issuer = server.idp.issuer.clone();
    let deployment = site.deployment();
    let parse =
        |issuer: &str| Bootstrap::parse_from(["x", "--principal", issuer, "root", CLI[0], CLI[1]]).args;
    let (exit, told) = bootstrap(&parse("https://nobody.example"), &deployment).await;
    assert!(exit == Exit::Refused && told.contains("no trusted issuer"), "{told}");
    if on_postgres() {
        // From a machine on which no server runs: those that run look for it.
        let location = location(server.data.path());
        let elsewhere = Deployment { admin_socket: site.file("none.sock"), location, ..deployment };
        let (exit, told) = bootstrap(&parse(&issuer), &elsewhere).await;
        assert_eq!(exit, Exit::Done, "{told}");
        while !server
            .get_url(&format!("{}/admin/v1/login", site.url))
            .await
            .text
            .contains("taskgrant-console")
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        return;
    }
    let data = server.data.clone();
    let Site { server, .. } = site;
    server.stop().await;
    let (exit, told) = bootstrap(&parse(&issuer), &deployment).await;
    assert_eq!(exit, Exit::Done, "{told}");
    let (exit, told) = bootstrap(&parse(&issuer), &deployment).await;
    assert!(exit == Exit::Refused && told.contains("--again"), "{told}");
    drop(data);
}

#[tokio::test]
async fn an_admin_signs_in_in_a_browser_and_works_on_another_machines_server() {
    let site = Site::start().await;
    let (_, told) = site.bootstrap(&CLI).await;
    site.keep(&format!("tgs_{}\n", secret_in(&told)));
    site.seat(json!({}));
    let (exit, out, err) = site.login(&[]).await;
    assert_eq!(exit, Exit::Done, "{out}\n{err}");
    let asked = site.server.idp.people.asked();
    assert_eq!((asked["client_id"].as_str(), asked["prompt"].as_str()), ("admin-cli", "login"));
    assert_eq!((asked["max_age"].as_str(), asked["code_challenge_method"].as_str()), ("0", "S256"));
    assert!(asked["redirect_uri"].starts_with("http://127.0.0.1:") && asked["scope"].contains("openid"));
    assert!(!asked["state"].is_empty() && !asked["nonce"].is_empty());
    let mode = std::fs::metadata(site.file("token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let stored = site.stored();
    assert_eq!((&stored["server"], &stored["role"]), (&json!(site.url), &json!("admin")));
    let token = stored["access_token"].as_str().unwrap().to_owned();
    assert_eq!(claims(&token)["task_type"], "taskgrant.admin@1");
    assert!(!out.contains(&token) && !err.contains(&token), "the token is in the file alone");

    let (exit, told, err) = site.lockdown(&["on", "--reason", "an incident"]).await;
    assert!(exit == Exit::Done && told.contains("all tenants"), "{told}{err}");
    let (_, record) = site.server.last_decision().await;
    let who = format!("principal:{} root through taskgrant-console", site.server.idp.issuer);
    assert_eq!(record["actor"], json!(who));

    let (exit, err) = log_out(&site.options()).await;
    assert_eq!(exit, Exit::Done, "{err}");
    assert!(!site.file("token").exists());
    let (exit, _, err) = site.lockdown(&["status"]).await;
    assert!(exit == Exit::Refused && err.contains("--client-secret-file FILE"), "{err}");
    let request = http().get(format!("{}/admin/v1/objects", site.url)).bearer_auth(&token);
    assert_eq!(request.send().await.unwrap().status(), 401, "it is revoked");
}

#[tokio::test]
async fn a_server_of_a_private_authority_is_administered_by_whoever_names_the_authority() {
    let (site, ca) = Site::start_private().await;
    let (_, told) = site.bootstrap(&CLI).await;
    site.keep(&format!("tgs_{}\n", secret_in(&told)));
    site.seat(json!({}));
    let named = ["--ca-file", ca.as_str()];
    let (exit, out, err) = console::login(site.options(), nobody).await;
    assert!(exit == Exit::Usage && err.contains("UnknownIssuer"), "{out}{err}");
    let (exit, out, err) = site.login(&named).await;
    assert_eq!(exit, Exit::Done, "{out}\n{err}");

    let (exit, _, err) = site.lockdown(&["status"]).await;
    assert!(exit == Exit::Refused && err.contains("UnknownIssuer"), "{err}");
    let (exit, told, err) = site.lockdown(&[&["status"][..], &named].concat()).await;
    assert!(exit == Exit::Done && told.contains("no lockdown"), "{told}{err}");
    // Another authority, although of the same name, and files that hold none.
    let file = site.file("other.pem").display().to_string();
    for (text, why) in [
        (authority("Acme Private").pem(), "invalid peer certificate"),
        ("nothing".to_owned(), "holds no certificate in PEM"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(), "certificate 1 in `"),
    ] {
        std::fs::write(&file, text).unwrap();
        let (exit, _, err) = site.lockdown(&["status", "--ca-file", &file]).await;
        assert!(exit == Exit::Refused && err.contains(why), "{why}: {err}");
    }
    let (exit, _, err) = site.lockdown(&["status", "--ca-file", "none.pem"]).await;
    assert!(exit == Exit::Refused && err.starts_with("--ca-file: `none.pem` cannot be read: "), "{err}");
    let (exit, _, err) =
        console::login(site.options().iter().map(String::as_str).chain(["--ca-file", &file]), nobody).await;
    assert!(exit == Exit::Usage && err.starts_with("taskgrant login: --ca-file: "), "{err}");

    let (exit, err) = log_out(&site.options()).await;
    assert!(exit == Exit::Refused && err.contains("UnknownIssuer") && site.file("token").exists(), "{err}");
    let (exit, err) = log_out(&[site.options(), named.map(str::to_owned).to_vec()].concat()).await;
    assert!(exit == Exit::Done && !site.file("token").exists(), "{err}");
}

#[tokio::test]
async fn the_issuer_is_named_where_its_host_is_another_and_told_before_the_sign_in() {
    let mut site = Site::start().await;
    let (_, told) = site.bootstrap(&CLI).await;
    site.keep(&format!("tgs_{}", secret_in(&told)));
    site.seat(json!({}));
    site.url = site.url.replace("127.0.0.1", "localhost");
    let (exit, out, err) = site.login(&[]).await;
    assert!(exit == Exit::Usage && err.contains("--issuer") && err.contains(&site.server.issuer), "{err}");
    assert_eq!(out, "");
    let (exit, out, err) = site.login(&["--issuer", &format!("{}/", site.server.issuer)]).await;
    assert_eq!(exit, Exit::Done, "{out}\n{err}");
    let first = format!("signing in to administer the Taskgrant server {}", site.server.issuer);
    assert_eq!(out.lines().next(), Some(first.as_str()));
}

#[tokio::test]
async fn a_server_is_proven_by_the_metadata_of_its_issuer_or_is_said_not_to_be() {
    let unproven = "it is not proven that ";
    let mut site = Site::start().await;
    let (_, told) = site.bootstrap(&CLI).await;
    site.keep(&format!("tgs_{}", secret_in(&told)));
    site.seat(json!({}));
    let (exit, out, err) = site.login(&[]).await;
    assert_eq!(exit, Exit::Done, "{out}\n{err}");
    let second = out.lines().nth(1).unwrap();
    assert!(second.starts_with(unproven) && second.contains(&site.url), "{out}");
    // Its host alone proves nothing, and neither does who names the issuer.
    site.url = site.url.replace("127.0.0.1", "localhost");
    let (exit, out, _) = site.login(&["--issuer", &site.server.issuer]).await;
    assert!(exit == Exit::Done && out.contains(unproven), "{out}");

    let mut site = Site::start_told(true).await;
    let url = format!("{}/", site.url);
    let metadata = site.server.get("/.well-known/oauth-authorization-server", &[]).await.body;
    assert_eq!(metadata["taskgrant_admin_endpoint"], json!(site.url));
    let (_, told) = site.bootstrap(&CLI).await;
    site.keep(&format!("tgs_{}", secret_in(&told)));
    site.seat(json!({}));
    for same in [site.url.clone(), url] {
        site.url = same;
        let (exit, out, err) = site.login(&[]).await;
        assert!(exit == Exit::Done && !out.contains(unproven), "{out}\n{err}");
    }
}

#[tokio::test]
async fn an_answer_without_iss_is_refused_where_the_provider_says_that_it_sends_one() {
    let site = Site::start().await;
    let (_, told) = site.bootstrap(&CLI).await;
    site.keep(&format!("tgs_{}", secret_in(&told)));
    site.seat(json!({}));
    site.server.idp.people.leave_issuer_out();
    let (exit, _, err) = site.login(&[]).await;
    assert!(exit == Exit::Usage && err.contains("has no `iss`"), "{err}");
}

#[tokio::test]
async fn an_id_token_is_taken_where_the_issuer_accepts_one_and_roles_are_asked_for() {
    let site = Site::start().await;
    let (_, told) = site.bootstrap(&CLI).await;
    site.keep(&format!("tgs_{}", secret_in(&told)));
    let accepted = "audience: console, typ: [JWT]}";
    site.server
        .reapply(accepted, &format!("{accepted}\n    - {{type: id_token, audience: admin-cli, typ: [JWT]}}"))
        .await;
    site.seat(json!({}));
    let (exit, out, err) = site.login(&["--role", "audit"]).await;
    assert_eq!(exit, Exit::Done, "{out}\n{err}");
    assert_eq!(site.stored()["role"], "audit");
    let (exit, _, err) = site.lockdown(&["on", "--reason", "x"]).await;
    assert!(exit == Exit::Refused && err.contains("role `admin`"), "{err}");
    // One that is there already is taken for what a sign-in would give.
    let root = json!({"sub": "root", "aud": "admin-cli", "azp": "admin-cli", "client_id": null});
    let session = bend(bend(site.server.session_claims(), root), json!({"auth_time": site.server.now()}));
    std::fs::write(site.file("session"), site.server.idp.sign("JWT", &session)).unwrap();
    let file = site.file("session").display().to_string();
    let (exit, out, err) = site.login(&["--session-token", &file]).await;
    assert_eq!(exit, Exit::Done, "{out}\n{err}");
    let (exit, _, err) =
        site.login(&["--session-token", &file, "--session-token-type", "access_token"]).await;
    assert_eq!(exit, Exit::Refused, "{err}");
    // Of a login that the provider did not renew, or of somebody who does not administer.
    for (with, why) in [
        (json!({"auth_time": site.server.now() - 1000}), "subject_token_login_old"),
        (json!({"sub": "alice"}), "administrator_role_missing"),
    ] {
        site.seat(with);
        let (exit, _, err) = site.login(&[]).await;
        assert!(exit == Exit::Refused && err.contains(why), "{err}");
    }
}

#[tokio::test]
async fn an_admin_may_sign_in_on_another_device_or_with_a_session_that_is_there() {
    let site = Site::start().await;
    let (_, told) = site.bootstrap(&CLI).await;
    site.keep(&format!("tgs_{}", secret_in(&told)));
    site.seat(json!({}));
    let (exit, out, err) = site.login(&["--device"]).await;
    assert!(exit == Exit::Done && out.contains("WDJB-MJHT"), "{out}\n{err}");

    let with =
        json!({"sub": "root", "client_id": "admin-cli", "azp": "admin-cli", "auth_time": site.server.now()});
    std::fs::write(site.file("session"), site.server.session(with)).unwrap();
    let (exit, out, err) =
        site.login(&["--session-token", &site.file("session").display().to_string()]).await;
    assert_eq!(exit, Exit::Done, "{out}\n{err}");
    let secret = site.file("secret").display().to_string();
    let wrong = ["--server", &site.server.issuer, "--client-secret-file", &secret];
    let (exit, _, err) = console::login(wrong, nobody).await;
    assert!(exit == Exit::Usage && err.contains("is no admin API"), "{err}");
}

#[tokio::test]
async fn an_approver_answers_from_another_machine_by_the_login_alone() {
    let site = Site::start().await;
    let (_, told) = site.bootstrap(&CLI).await;
    site.keep(&format!("tgs_{}", secret_in(&told)));
    site.seat(json!({"groups": ["support-leads"]}));
    let (exit, out, err) = site.login(&["--role", "approve"]).await;
    assert_eq!(exit, Exit::Done, "{out}\n{err}");
    let close = [("task_type", "close_account"), ("scope", "refunds:write"), ("completion_mode", "deferred")];
    let asked = site.server.exchange("support-agent", &site.server.session(json!({})), &close).await;
    let id = asked.body["approval_id"].as_str().unwrap().to_owned();
    let file = site.file("token").display().to_string();
    let run = async |with: &[&str]| {
        let args = [&["x"][..], with, &["--server", &site.url, "--token-file", &file]].concat();
        let args = Approvals::parse_from(args).args;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let output = &mut Output { out: &mut out, err: &mut err };
        let exit = approvals::run(&args, Arc::new(SystemClock), &mut std::io::empty(), output).await;
        (exit, String::from_utf8([out, err].concat()).unwrap())
    };
    let (exit, told) = run(&["list"]).await;
    assert!(exit == Exit::Done && told.contains(&id), "{told}");
    let (exit, told) = run(&["approve", &id, "--reason", "seen", "--session-token", "a.token"]).await;
    assert!(exit == Exit::Usage && told.contains("--session-token"), "{told}");
    let (exit, told) = run(&["approve", &id, "--reason", "seen", "--lifetime", "30"]).await;
    assert!(exit == Exit::Done && told.contains("is approved"), "{told}");
    let (exit, told) = run(&["cancel", &id, "--reason", "a mistake"]).await;
    assert!(exit == Exit::Refused && told.contains("role `admin`"), "{told}");
}

#[tokio::test]
async fn a_token_is_sent_to_https_or_to_this_machine_alone() {
    use taskgrant::admin::authorities::Authorities;
    use taskgrant::admin::client::AdminClient;
    use taskgrant::domain::request::Presented;
    let token = || Presented::from_text("secret-token".to_owned());
    let opens = |url: &str| AdminClient::remote(url, token(), &Authorities::default());
    for url in ["https://tg.example:8444", "http://127.0.0.1:8444", "http://[::1]:1", "http://localhost:1"] {
        let client = opens(url).unwrap();
        assert!(!format!("{client:?}").contains("secret-token"), "{client:?}");
    }
    for url in ["http://tg.example", "http://127.0.0.1.evil.example", "ftp://tg.example", "tg.example", ""] {
        assert!(opens(url).is_err(), "{url}");
    }
}
