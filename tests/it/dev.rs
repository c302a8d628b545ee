//! `taskgrant dev`: started in process in a folder of its own, used over real HTTP.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use clap::Parser;
use serde_json::Value;
use taskgrant::admin::api::ApplyRequest;
use taskgrant::admin::client::AdminClient;
use taskgrant::cli::{exchange, inspect, lockdown};
use taskgrant::clock::SystemClock;
use taskgrant::configuration::apply::Options;
use taskgrant::configuration::documents::Source;
use taskgrant::dev::file::Example;
use taskgrant::dev::{Args, Running};
use taskgrant::terminal::http::{Answer, Credentials, Http};
use taskgrant::terminal::output::{Exit, Output};
use tempfile::TempDir;

use crate::support::console;
use crate::support::server::{ACCESS_TOKEN, TOKEN_EXCHANGE, http};

fn args(data: &Path, port: u16) -> Args {
    Args {
        data: data.to_owned(),
        port: Some(port),
        host: "127.0.0.1".parse().unwrap(),
        no_tour: false,
        tour_only: true,
    }
}

async fn start(data: &TempDir) -> Running {
    let started = Running::start(&args(data.path(), 0), Arc::new(SystemClock)).await;
    started.unwrap_or_else(|fault| panic!("{fault}"))
}

/// What a command or the tour wrote to `out`.
async fn told(run: impl AsyncFnOnce(&mut Output<'_>)) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    run(&mut Output { out: &mut out, err: &mut err }).await;
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

async fn play(demo: &Running) -> (usize, String) {
    let mut surprises = usize::MAX;
    let program = env!("CARGO_BIN_EXE_taskgrant");
    let (script, _) = told(async |output| surprises = demo.tour(program, output).await.unwrap()).await;
    (surprises, script)
}

#[tokio::test]
async fn the_tour_ends_without_a_surprise() {
    let data = tempfile::tempdir().unwrap();
    let demo = start(&data).await;
    let (surprises, script) = play(&demo).await;
    assert_eq!(surprises, 0, "{script}");
    for word in
        ["scope_exceeds_ceiling", "analysts_only", "high_risk_task", "delegate_to", "\"active\": false"]
    {
        assert!(script.contains(word), "{word}\n{script}");
    }
    demo.stop().await.unwrap();
}

#[tokio::test]
async fn the_tour_does_the_same_when_pasted_into_a_fresh_shell() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("SKIPPED: no curl on this machine");
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let demo = start(&data).await;
    let (_, script) = play(&demo).await;
    let pasted =
        tokio::task::spawn_blocking(move || Command::new("sh").arg("-c").arg(script).output().unwrap());
    let pasted = pasted.await.unwrap();
    let (out, err) = (String::from_utf8(pasted.stdout).unwrap(), String::from_utf8(pasted.stderr).unwrap());
    for word in ["\"active\":true", "\"active\":false", "verified with http", "\"keys\":"] {
        assert!(out.contains(word), "{word}\n{out}\n{err}");
    }
    for word in ["scope_exceeds_ceiling", "policy_denied", "approval_required", "\"revoked\""] {
        assert!(err.contains(word), "{word}\n{out}\n{err}");
    }
    demo.stop().await.unwrap();
}

#[tokio::test]
async fn dev_json_is_private_complete_and_there_only_while_the_demo_is() {
    let data = tempfile::tempdir().unwrap();
    let stale = data.path().join("dev.json");
    std::fs::write(&stale, "{}").unwrap();
    let demo = start(&data).await;
    let path = demo.path().to_owned();
    assert_eq!(path, stale);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for member in ["issuer", "token_endpoint", "introspection_endpoint", "revocation_endpoint", "jwks_uri"] {
        assert!(file[member].as_str().unwrap().starts_with("http://127.0.0.1:"), "{member}");
    }
    assert_eq!((file["version"].as_u64(), file["tenant"].as_str()), (Some(1), Some("demo")));
    let socket = PathBuf::from(file["admin"]["socket"].as_str().unwrap());
    assert!(socket.is_absolute() && std::os::unix::net::UnixStream::connect(&socket).is_ok());
    for (list, members) in [
        ("principals", ["username", "password", "groups"].as_slice()),
        ("agents", &["client_id", "client_secret", "class"]),
        ("resources", &["name", "uri", "scopes", "client_id", "client_secret"]),
        (
            "task_types",
            &["name", "scopes", "default_scopes", "resources", "agents", "delegation", "approval"],
        ),
        ("examples", &["name", "client_id", "username", "task_type", "scope", "expect"]),
    ] {
        let items = file[list].as_array().unwrap();
        assert!(items.len() >= 3, "{list}");
        for item in items {
            assert!(members.iter().all(|member| !item[*member].is_null()), "{list}: {item}");
        }
    }
    for member in ["username", "password", "client_id", "client_secret"] {
        assert!(file["approver"][member].is_string(), "{member}");
    }
    assert!(file["admin"]["url"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    let secret = PathBuf::from(file["admin"]["console"]["client_secret_file"].as_str().unwrap());
    assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o7777, 0o600);
    let shell = data.path().join("dev.env");
    assert_eq!(std::fs::metadata(&shell).unwrap().permissions().mode() & 0o7777, 0o600);
    let support = &demo.file().agents[0];
    let line = format!("SUPPORT='{}:{}'\n", support.client_id, support.client_secret);
    assert!(std::fs::read_to_string(&shell).unwrap().contains(&line));
    let secrets = data.path().join("dev-secrets.json");
    assert_eq!(std::fs::metadata(secrets).unwrap().permissions().mode() & 0o7777, 0o600);
    demo.stop().await.unwrap();
    assert!(!path.exists() && !shell.exists() && !secret.exists());
}

/// Runs examples as a script would, from what dev.json says.
struct Script<'a> {
    demo: &'a Running,
    http: Http,
    tokens: BTreeMap<String, String>,
}

impl Script<'_> {
    async fn session(&self, user: &str) -> String {
        let file = self.demo.file();
        let user = file.principals.iter().find(|p| p.username == user).unwrap();
        let form = [("grant_type", "password"), ("username", &user.username), ("password", &user.password)];
        let answer = self.http.post(&file.identity_provider.token_endpoint, None, form).await.unwrap();
        answer.text("access_token").unwrap().to_owned()
    }

    async fn run(&mut self, example: &Example) -> Answer {
        let file = self.demo.file();
        let agent = file.agents.iter().find(|a| a.client_id == example.client_id).unwrap();
        let mut form = vec![
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token_type", ACCESS_TOKEN),
            ("scope", &example.scope),
        ];
        let subject = if let Some(parent) = &example.subject {
            self.tokens[parent].clone()
        } else {
            form.push(("task_type", &example.task_type));
            self.session(&example.username).await
        };
        form.push(("subject_token", &subject));
        let client = Credentials { id: &agent.client_id, secret: &agent.client_secret };
        let answer = self.http.post(&file.token_endpoint, Some(client), form).await.unwrap();
        self.tokens.extend(answer.text("access_token").map(|t| (example.name.clone(), t.to_owned())));
        answer
    }
}

#[tokio::test]
async fn every_example_behaves_as_it_says() {
    let data = tempfile::tempdir().unwrap();
    let demo = start(&data).await;
    let mut script = Script { demo: &demo, http: Http::new().unwrap(), tokens: BTreeMap::new() };
    for example in &demo.file().examples {
        let answer = script.run(example).await;
        if example.expect == "granted" {
            assert_eq!(answer.status, 200, "{example:?}: {answer:?}");
            assert_eq!(answer.text("scope"), Some(example.scope.as_str()), "{example:?}");
        } else {
            assert_eq!(answer.status, 400, "{example:?}: {answer:?}");
            assert_eq!(answer.text("error"), Some(example.expect.as_str()), "{example:?}: {answer:?}");
            assert_eq!(answer.text("reason_code"), example.reason_code.as_deref(), "{example:?}");
        }
    }
    demo.stop().await.unwrap();
}

#[tokio::test]
async fn every_task_type_can_be_started_as_a_stock_client_would() {
    let data = tempfile::tempdir().unwrap();
    let demo = start(&data).await;
    let script = Script { demo: &demo, http: Http::new().unwrap(), tokens: BTreeMap::new() };
    let session = script.session("alice").await;
    for agent in ["support-agent", "order-worker"] {
        let agent = demo.file().agents.iter().find(|a| a.client_id == agent).unwrap();
        let client = Credentials { id: &agent.client_id, secret: &agent.client_secret };
        let form = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token_type", ACCESS_TOKEN),
            ("subject_token", &session),
        ];
        let answer = script.http.post(&demo.file().token_endpoint, Some(client), form).await.unwrap();
        assert_eq!((answer.status, answer.text("scope")), (200, Some("orders:read")), "{answer:?}");
    }
    demo.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_start_continues_and_another_port_is_refused_with_the_remedy() {
    let data = tempfile::tempdir().unwrap();
    let first = start(&data).await;
    assert!(first.is_new());
    let script = Script { demo: &first, http: Http::new().unwrap(), tokens: BTreeMap::new() };
    let session = script.session("alice").await;
    let before = serde_json::to_value(first.file()).unwrap();
    let beside = Running::start(&args(data.path(), 0), Arc::new(SystemClock)).await.map(drop).unwrap_err();
    assert!(beside.to_string().contains("running on this data folder"), "{beside}");
    assert!(first.path().exists());
    first.stop().await.unwrap();

    let second = start(&data).await;
    assert!(!second.is_new());
    assert_eq!(serde_json::to_value(second.file()).unwrap(), before);
    // Keys and sessions of the first are those of the second.
    let agent = &second.file().agents[0];
    let client = Credentials { id: &agent.client_id, secret: &agent.client_secret };
    let form =
        [("grant_type", TOKEN_EXCHANGE), ("subject_token_type", ACCESS_TOKEN), ("subject_token", &session)];
    let answer = Http::new().unwrap().post(&second.file().token_endpoint, Some(client), form).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let port: u16 = second.file().issuer.rsplit_once(':').unwrap().1.parse().unwrap();
    second.stop().await.unwrap();

    let other = if port == 1024 { 1025 } else { port - 1 };
    let refused =
        Running::start(&args(data.path(), other), Arc::new(SystemClock)).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains(&format!("use --port {port}")), "{refused}");
}

/// Its identity provider belonged to the demo tenant then, and one `iss` has one object.
#[tokio::test]
async fn a_folder_of_an_older_demo_is_refused_with_the_remedy() {
    let data = tempfile::tempdir().unwrap();
    let demo = start(&data).await;
    let text = format!(
        "kind: Tenant\ntenant: demo\nname: demo\nspec: {{}}\n---\nkind: TrustedIssuer\ntenant: demo\nname: demo-idp\nspec:\n  \
         issuer: {}\n  accept: [{{type: id_token, audience: demo-app}}]\n",
        demo.file().identity_provider.issuer
    );
    let request = ApplyRequest {
        documents: vec![Source { file: "older.yaml".to_owned(), text }],
        options: Options { allow_widening: true, prune: true, ..Options::default() },
    };
    let admin = AdminClient::find(&demo.file().admin.socket).await.unwrap().unwrap();
    admin.apply(&request).await.unwrap().unwrap();
    demo.stop().await.unwrap();
    let file = data.path().join("dev-secrets.json");
    let mut secrets: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    secrets["applied"] = "an older version's".into();
    std::fs::write(&file, secrets.to_string()).unwrap();
    let refused =
        Running::start(&args(data.path(), 0), Arc::new(SystemClock)).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("older demo") && refused.contains("--data"), "{refused}");
}

#[derive(Parser)]
struct ExchangeLine {
    #[command(flatten)]
    args: exchange::Args,
}

#[derive(Parser)]
struct InspectLine {
    #[command(flatten)]
    args: inspect::Args,
}

#[derive(Parser)]
struct LockdownLine {
    #[command(flatten)]
    args: lockdown::LockdownArgs,
}

/// A shell whose commands use the demo's dev.json.
struct Shell(PathBuf);

impl Shell {
    fn line<'l>(&'l self, command: &'l [&'l str]) -> impl Iterator<Item = &'l str> {
        let file = self.0.to_str().unwrap();
        ["taskgrant", "--dev-file", file].into_iter().chain(command.iter().copied())
    }

    async fn exchange(&self, command: &[&str], stdin: &str) -> (Exit, String, String) {
        let args = ExchangeLine::parse_from(self.line(command)).args;
        let mut exit = Exit::Usage;
        let (out, err) =
            told(async |output| exit = exchange::run(&args, &mut stdin.as_bytes(), output).await).await;
        (exit, out.trim().to_owned(), err)
    }

    async fn inspect(&self, command: &[&str], stdin: &str) -> (Exit, String, String) {
        let args = InspectLine::parse_from(self.line(command)).args;
        let mut exit = Exit::Usage;
        let run = async |output: &mut Output<'_>| {
            exit = inspect::run(&args, &SystemClock, &mut stdin.as_bytes(), output).await;
        };
        let (out, err) = told(run).await;
        (exit, out, err)
    }
}

#[tokio::test]
async fn exchange_and_inspect_work_from_the_command_line() {
    let data = tempfile::tempdir().unwrap();
    let demo = start(&data).await;
    let shell = Shell(demo.path().to_owned());
    let command = ["--user", "alice", "--task-type", "refund_order", "--scope", "orders:read refunds:write"];
    let (exit, root, err) = shell.exchange(&command, "").await;
    assert_eq!((exit, err.as_str()), (Exit::Done, ""));

    let command = ["--subject-token", "-", "--delegate-to", "order-worker", "--scope", "orders:read"];
    let (exit, handed, _) = shell.exchange(&command, &root).await;
    assert_eq!(exit, Exit::Done);
    let (exit, work, _) =
        shell.exchange(&["--subject-token", "-", "--client-id", "order-worker"], &handed).await;
    assert_eq!(exit, Exit::Done);

    let (exit, out, _) = shell.inspect(&["-", "--parent", &root], &work).await;
    assert_eq!(exit, Exit::Done, "{out}");
    for line in ["verified with http", "order-worker", "handed over", "narrower", "wider than the parent? no"]
    {
        assert!(out.contains(line), "{line}\n{out}");
    }
    let (exit, out, _) = shell.inspect(&["-", "--parent", &work, "--json"], &root).await;
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, report["parent"]["wider"].as_bool()), (Exit::Refused, Some(true)), "{out}");

    let forged = format!("{}AAAA", &work[..work.len() - 4]);
    let (exit, out, _) = shell.inspect(&["-"], &forged).await;
    assert!(exit == Exit::Refused && out.contains("WRONG"), "{out}");
    demo.stop().await.unwrap();
    let (exit, out, _) = shell.inspect(&["-"], &work).await;
    assert!(exit == Exit::Done && out.contains("NOT VERIFIED"), "{out}");
}

#[tokio::test]
async fn a_refused_command_says_why_and_what_would_be_granted() {
    let data = tempfile::tempdir().unwrap();
    let demo = start(&data).await;
    let shell = Shell(demo.path().to_owned());
    let (exit, out, err) =
        shell.exchange(&["--user", "alice", "--scope", "orders:read customers:export"], "").await;
    assert_eq!((exit, out.as_str()), (Exit::Refused, ""));
    assert!(err.contains("invalid_scope") && err.contains("grantable  scope: orders:read"), "{err}");

    let (exit, out, _) = shell.exchange(&["--user", "alice", "--dry-run"], "").await;
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, answer["dry_run"].as_bool()), (Exit::Done, Some(true)));

    for (command, word) in [
        (["--task-type", "refund_order"].as_slice(), "alice, bob, carol"),
        (&["--user", "mallory"], "alice, bob, carol"),
        (&["--user", "alice", "--client-id", "nobody"], "support-agent"),
        (&["--issuer", "http://127.0.0.1:1", "--subject-token", "-"], "cannot reach"),
    ] {
        let (exit, _, err) = shell.exchange(command, "eyJ.a.b").await;
        assert!(exit == Exit::Usage && err.contains(word), "{command:?}: {err}");
    }
    demo.stop().await.unwrap();
}

/// A browser on this machine: opens the page that `login` prints, and sends its form as the page would have it sent.
async fn choose(page: String, person: &str) {
    let shown = http().get(&page).send().await.unwrap();
    let origin = shown.url().origin().ascii_serialization();
    let html = shown.text().await.unwrap();
    let (_, action) = html.split_once("action=\"").unwrap();
    let (_, form) = html.split_once("name=\"form\" value=\"").unwrap();
    let [action, form] = [action, form].map(|rest| rest.split('"').next().unwrap());
    let body = format!("form={form}&person={person}");
    let form = http().post(format!("{origin}{action}")).header("origin", &origin).body(body);
    // The answer leads the browser on, to the port of `login`.
    form.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
}

#[tokio::test]
async fn admins_of_the_demo_sign_in_on_its_page_and_each_does_what_their_role_allows() {
    let data = tempfile::tempdir().unwrap();
    let demo = start(&data).await;
    let admin = &demo.file().admin;
    let url = admin.url.clone().unwrap();
    let secret = admin.console.as_ref().unwrap().client_secret_file.display().to_string();
    let token = data.path().join("login.json").display().to_string();
    let options = ["--server", &url, "--client-secret-file", &secret, "--token-file", &token];
    let login = async |person: &str, role: &str| {
        let with = options.iter().copied().chain(["--role", role]);
        console::login(with, async |page| choose(page, person).await).await
    };
    let status = async || {
        let args = LockdownLine::parse_from(["x", "status", "--server", &url, "--token-file", &token]).args;
        let mut exit = Exit::Usage;
        let told =
            told(async |output| exit = lockdown::run(&args, Arc::new(SystemClock), output).await).await;
        (exit, told)
    };
    for administrator in &admin.administrators {
        for role in &administrator.roles {
            let (exit, out, err) = login(&administrator.username, role.as_str()).await;
            assert_eq!(exit, Exit::Done, "{out}\n{err}");
        }
        // The last role of both is the auditors'.
        assert_eq!(status().await.0, Exit::Done, "{}", administrator.username);
    }
    for (person, role) in [("carol", "approve"), ("dana", "admin"), ("alice", "audit")] {
        let (exit, _, err) = login(person, role).await;
        assert!(exit == Exit::Refused && err.contains("administrator_role_missing"), "{person}: {err}");
    }
    demo.stop().await.unwrap();
}
