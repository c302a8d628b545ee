//! Setting up by the real binary: `config check`, `init`, `doctor` and `schema`, each as an operator and as CI use them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::routing::get;
use figment::Figment;
use figment::providers::{Format as _, Toml};
use jsonschema::Validator;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::process::Site;
use crate::support::signer::Signer;

impl Site {
    fn rewrite(&self, file: &str, from: &str, to: &str) {
        let path = self.path(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "`{from}` is not in {file}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    /// `config check --json` with further arguments: its status and its findings.
    async fn findings(&self, more: &[&str]) -> (i32, Vec<Value>) {
        let base = ["config", "check", "-f", "objects.yaml", "--json"];
        let (status, text) = self.told(&[&base[..], more].concat()).await;
        let report: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        assert_eq!(report["ok"], status == 0, "{text}");
        (status, report["findings"].as_array().unwrap().clone())
    }

    /// `doctor --json` with further arguments: its status and its lines.
    async fn lines(&self, more: &[&str]) -> (i32, Vec<Value>) {
        let (status, text) = self.told(&[&["doctor", "--json"][..], more].concat()).await;
        let report: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        (status, report["checks"].as_array().unwrap().clone())
    }
}

fn codes(findings: &[Value], severity: &str) -> Vec<String> {
    let of = findings.iter().filter(|f| f["severity"] == severity);
    of.map(|f| f["code"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_is_fine_for_a_trial_fails_for_production_with_line_and_remedy() {
    let site = Site::new().await;
    let (status, trial) = site.findings(&[]).await;
    assert_eq!((status, codes(&trial, "error")), (0, vec![]), "{trial:#?}");
    let (status, strict) = site.findings(&["--production"]).await;
    assert_eq!(status, 1);
    let errors = codes(&strict, "error");
    for code in
        ["public_url_http", "environment_name", "no_tls", "outbound_http_loopback", "http", "reserved_name"]
    {
        assert!(errors.iter().any(|c| c == code), "{code}: {errors:?}");
        assert!(codes(&trial, "warning").iter().any(|c| c == code), "{code}: {trial:#?}");
    }
    for finding in &strict {
        assert!(finding["suggestion"].is_string() && finding["path"].is_string(), "{finding}");
        assert!(finding["file"].is_string() && finding["line"].is_u64(), "{finding}");
    }
    let at = |code: &str| strict.iter().find(|f| f["code"] == code).unwrap()["line"].clone();
    assert_eq!(
        (at("public_url_http"), at("environment_name"), at("outbound_http_loopback")),
        (1.into(), 4.into(), 8.into())
    );

    let (_, text) = site.told(&["config", "check", "--production"]).await;
    assert!(text.contains("error: taskgrant.toml:1:1: `public_url`: "), "{text}");
    assert!(text.contains("no objects were checked: name them with -f\nnot ok for production: "), "{text}");
}

#[tokio::test]
async fn a_deployment_for_production_passes() {
    let site = Site::new().await;
    let toml =
        "public_url = 'https://tokens.acme.com'\nlisten = '0.0.0.0:8080'\nbehind_proxy = ['10.0.0.1']\n";
    fs::write(site.path("taskgrant.toml"), toml).unwrap();
    let objects = fs::read_to_string(site.path("objects.yaml")).unwrap();
    let objects = objects
        .replace(&site.idp.issuer, "https://id.acme.com")
        .replace(&site.issuer, "https://tokens.acme.com");
    fs::write(site.path("objects.yaml"), objects.replace(".example", ".com")).unwrap();
    let (status, findings) = site.findings(&["--production"]).await;
    assert_eq!((status, codes(&findings, "warning")), (0, vec!["plain_listen".to_owned()]), "{findings:#?}");
}

#[tokio::test]
async fn a_deployment_in_which_nobody_could_be_the_second_person_is_told() {
    let site = Site::new().await;
    let file = site.path("taskgrant.toml");
    let toml = fs::read_to_string(&file).unwrap();
    let objects = fs::read_to_string(site.path("objects.yaml")).unwrap();
    let administrator = |name: &str, who: &str, roles: &str| {
        format!(
            "---\nkind: Administrator\ntenant: system\nname: {name}\nspec:\n  owner: group:platform\n  contact: a@acme.com\n  \
             issuer: {}\n  {who}\n  roles: [{roles}]\n",
            site.idp.issuer
        )
    };
    let root = administrator("root", "subject: root", "admin, approve");
    let told = async |two: &str, more: &[String]| {
        fs::write(&file, format!("{toml}\n[admin]\nlisten = '127.0.0.1:8444'\ntwo_persons = [{two}]\n"))
            .unwrap();
        fs::write(site.path("objects.yaml"), format!("{objects}\n{root}{}", more.concat())).unwrap();
        let (status, findings) = site.findings(&[]).await;
        assert_eq!(status, 0, "{findings:#?}");
        codes(&findings, "warning").contains(&"no_second_person".to_owned())
    };
    assert!(told("'policy'", &[]).await);
    assert!(!told("", &[]).await, "nothing takes two");
    assert!(told("'policy'", &[administrator("again", "subject: root", "approve")]).await);
    assert!(told("'policy'", &[administrator("auditor", "subject: eve", "audit")]).await);
    assert!(!told("'policy'", &[administrator("second", "subject: eve", "approve")]).await);
    let group = administrator("leads", "group: leads\n  session_tenant: acme", "approve");
    assert!(!told("'policy'", &[group]).await);
}

#[tokio::test]
async fn each_fault_is_told_under_its_code_and_fails_or_not() {
    for (file, from, to, severity, code) in [
        (
            "taskgrant.toml",
            "allow_http_loopback = true",
            "allow_private = ['*.acme.com']",
            "error",
            "outbound_pattern",
        ),
        ("taskgrant.toml", "allow_http_loopback", "allow_http_loopbak", "error", "config"),
        ("taskgrant.toml", "'warn'", "'taskgrant=trace'", "warning", "log_level"),
        ("taskgrant.toml", "listen = '127.0.0.1", "listen = '0.0.0.0", "error", "config"),
        (
            "taskgrant.toml",
            "[log]",
            "[admin]\nlisten = '127.0.0.1:8444'\n[log]",
            "warning",
            "admin_not_named",
        ),
        ("objects.yaml", "review_by: 2099-01-01", "review_by: 2024-01-01", "error", "review_overdue"),
        ("objects.yaml", "agents: [class:support]", "agents: [class:supprot]", "warning", "no_starter"),
        ("objects.yaml", "{default: 180, max: 300}", "{default: 59, max: 300}", "warning", "status_ttl"),
        ("objects.yaml", "resources: [orders, mail]", "resources: [ordres, mail]", "error", "objects"),
        ("objects.yaml", "  facts: [email]", "  any_agent: true", "warning", "any_agent"),
        ("objects.yaml", "  facts: [email]", "  max_session_age: 604800", "warning", "session_age"),
        ("objects.yaml", "  facts: [email]", "  session_end: {claim: x}", "error", "objects"),
        ("objects.yaml", "audience: console", "audience: account", "warning", "shared_audience"),
        (
            "objects.yaml",
            "{when: {claim: groups, contains: analysts}, ",
            "{",
            "warning",
            "entitles_everybody",
        ),
        (
            "objects.yaml",
            ", scopes: [reports:export, orders:read]}",
            "}",
            "warning",
            "entitles_to_everything",
        ),
    ] {
        let site = Site::new().await;
        site.rewrite(file, from, to);
        let (status, findings) = site.findings(&[]).await;
        assert_eq!(status, i32::from(severity == "error"), "{to}: {findings:#?}");
        let found = findings.iter().find(|f| f["code"] == code && f["severity"] == severity);
        let found = found.unwrap_or_else(|| panic!("{to}: {findings:#?}"));
        assert!(found["file"].is_string() && found["message"].is_string(), "{found}");
        assert!(code == "config" || found["line"].is_u64(), "{found}");
    }
}

#[tokio::test]
async fn an_admin_api_that_the_metadata_name_is_not_warned_of() {
    for (admin, line) in [
        ("", None),
        ("[admin]\nlisten = '127.0.0.1:8444'\npublic_url = 'https://admin.acme.com'\n", None),
        ("[admin]\npublic_url = 'https://admin.acme.com'\n", None),
        ("[admin]\nlisten = '127.0.0.1:8444'\n", Some("admin.listen")),
    ] {
        let site = Site::new().await;
        site.rewrite("taskgrant.toml", "[log]", &format!("{admin}[log]"));
        let (status, findings) = site.findings(&[]).await;
        assert_eq!(status, 0, "{admin}: {findings:#?}");
        let found = findings.iter().find(|f| f["code"] == "admin_not_named");
        assert_eq!(found.map(|f| f["path"].as_str().unwrap()), line, "{admin}: {findings:#?}");
        assert!(found.is_none_or(|f| f["suggestion"].as_str().unwrap().contains("admin.public_url")));
    }
}

#[tokio::test]
async fn the_variable_of_the_authorities_is_read_by_what_goes_elsewhere_and_is_no_key() {
    let site = Site::new().await;
    let with = ("TASKGRANT_CA_FILE", "none.pem");
    let (status, text) = site.told_with(with, &["config", "check"]).await;
    assert!(status == 0 && !text.contains("ca_file"), "{text}");
    let login = ["login", "--server", "https://tg.acme.example", "--client-secret-env", "TASKGRANT_CA_FILE"];
    let (status, text) = site.told_with(with, &login).await;
    assert!(status == 2 && text.contains("login: TASKGRANT_CA_FILE: `none.pem` cannot be read"), "{text}");
    let (status, text) = site.told_with(("TASKGRANT_CA_FILES", "none.pem"), &["config", "check"]).await;
    assert!(status == 1 && text.contains("ca_files"), "{text}");
    // Without another server there is nobody to trust.
    assert_eq!(site.told(&["lockdown", "status", "--ca-file", "ca.pem"]).await.0, 2);
}

#[tokio::test]
async fn a_database_that_anybody_could_be_is_told() {
    let server = |host: &str, mode: &str| format!("postgres://taskgrant:hush-hush@{host}/taskgrant{mode}");
    for (url, code) in [
        (server("db.acme.com", ""), Some("database_unverified")),
        (server("db.acme.com:5433", "?sslmode=require"), Some("database_unverified")),
        (server("10.0.0.7", "?sslmode=verify-ca"), Some("database_unverified")),
        (server("db.acme.com", "?sslmode=verify-full"), None),
        (server("127.0.0.1:5433", ""), None),
        (server("[::1]", ""), None),
        (server("localhost", "?sslmode=disable"), None),
        (server("%2Frun%2Fpostgresql", ""), None),
        (server("db.acme.com", "?sslmode=verify-fully"), Some("database")),
    ] {
        let site = Site::new().await;
        site.reconfigure("listen = ", &format!("database = '{url}'\nlisten = "));
        let (status, findings) = site.findings(&[]).await;
        let found = findings.iter().find(|f| f["code"].as_str().unwrap().starts_with("database"));
        assert_eq!(found.map(|f| f["code"].as_str().unwrap()), code, "{url}: {findings:#?}");
        assert_eq!(status, i32::from(code == Some("database")), "{url}");
        assert!(found.is_none_or(|f| f["line"] == 2 && !f.to_string().contains("hush")), "{found:#?}");
    }
}

#[tokio::test]
async fn secrets_that_can_be_guessed_shared_or_read_in_the_documentation_are_told() {
    use crate::support::server::{secret, sha256};
    let site = Site::new().await;
    let (first, second) = (sha256(&secret("support-agent")), sha256(&secret("worker-agent")));
    let objects = fs::read_to_string(site.path("objects.yaml")).unwrap();
    assert!(objects.contains(&first), "the support agent has another secret");
    for (hash, code, status) in [
        (sha256("changeme"), "secret_guessable", 1),
        (sha256("support-agent"), "secret_guessable", 1),
        (second, "secret_shared", 1),
        (
            "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752".to_owned(),
            "secret_published",
            0,
        ),
    ] {
        fs::write(site.path("objects.yaml"), objects.replace(&first, &hash)).unwrap();
        let (ended, findings) = site.findings(&[]).await;
        let found =
            findings.iter().find(|f| f["code"] == code).unwrap_or_else(|| panic!("{code}: {findings:#?}"));
        assert_eq!(ended, status, "{findings:#?}");
        assert!(!found.to_string().contains(&hash), "{found}");
    }
}

#[tokio::test]
async fn modes_and_policy_are_checked_without_a_start() {
    let site = Site::new().await;
    let keys = site.path("data/keys");
    fs::create_dir_all(&keys).unwrap();
    fs::set_permissions(site.path("data"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(keys.join("0001-es256.pem"), "x").unwrap();
    fs::set_permissions(keys.join("0001-es256.pem"), fs::Permissions::from_mode(0o640)).unwrap();
    let (status, findings) = site.findings(&[]).await;
    assert_eq!((status, codes(&findings, "error")), (1, vec!["file_mode".to_owned()]), "{findings:#?}");
    assert!(
        findings
            .iter()
            .any(|f| f["suggestion"].as_str().unwrap().starts_with("run `chmod 600 data/keys/0001"))
    );
    fs::remove_dir_all(site.path("data")).unwrap();

    let bundle = site.path("bundle");
    fs::create_dir(&bundle).unwrap();
    let rules = "package taskgrant.exchange\n\nimport rego.v1\n\nallow if { input.tenant.id == \"acme\" }\n";
    let test = "package taskgrant.exchange_test\n\nimport rego.v1\n\nimport data.taskgrant.exchange\n\ntest_never if { 1 == 2 }\n";
    fs::write(bundle.join("rules.rego"), rules).unwrap();
    fs::write(bundle.join("rules_test.rego"), test).unwrap();
    site.rewrite("taskgrant.toml", "[log]", "[policy]\nbundles = ['bundle']\n[log]");
    let (status, findings) = site.findings(&[]).await;
    assert_eq!(status, 1, "{findings:#?}");
    assert!(codes(&findings, "error").contains(&"policy_test".to_owned()), "{findings:#?}");
    fs::write(bundle.join("rules.rego"), "package taskgrant.exchange\n\nallow if {\n").unwrap();
    let (status, findings) = site.findings(&[]).await;
    assert_eq!(status, 1);
    let broken = findings.iter().find(|f| f["code"] == "policy").unwrap_or_else(|| panic!("{findings:#?}"));
    assert!(broken["file"].as_str().unwrap().ends_with("rules.rego") && broken["line"].is_u64(), "{broken}");
}

#[tokio::test]
async fn a_configuration_that_is_not_there_is_told_and_a_wrong_call_is_2() {
    let site = Site::new().await;
    let (status, text) = site.told(&["config", "check", "--config", "none.toml"]).await;
    assert!(status == 1 && text.contains("none.toml") && text.contains("--config"), "{text}");
    assert_eq!(site.told(&["config", "check", "--prodution"]).await.0, 2);
    assert_eq!(site.told(&["config", "check", "--as", "claims.json"]).await.0, 2);
}

#[tokio::test]
async fn t37_init_asks_the_provider_as_the_server_would_and_writes_nothing_otherwise() {
    let site = Site::new().await;
    let idp = site.idp.issuer.clone();
    let slash = format!("{idp}/");
    for (args, told) in [
        (vec!["--issuer", idp.as_str()], "--allow-http-loopback"),
        (vec!["--issuer", "https://127.0.0.1:1"], "--allow-private"),
        (vec!["--issuer", "https://169.254.169.254"], "is not at a public address"),
        (vec!["--issuer", slash.as_str(), "--allow-http-loopback"], "give --issuer http://127.0.0.1"),
        (vec!["--issuer", "http://127.0.0.1:1", "--allow-http-loopback"], "--offline"),
        (vec!["--issuer", idp.as_str(), "--offline", "--public-url", "http://tokens.acme.com"], "public_url"),
        (vec!["--issuer", idp.as_str(), "--offline", "--tenant", "Acme Corp"], "objects/tenant.yaml"),
    ] {
        let (status, text) = site.told(&[&["init", "--dir", "new"][..], &args].concat()).await;
        assert!(status == 1 && text.contains(told), "{args:?}: {text}");
        assert!(!site.path("new").exists(), "{args:?} wrote something");
    }
    let strange = "x\"\n  evil: [";
    let args = ["init", "--dir", "new", "--issuer", "https://id.acme.com", "--offline", "--client", strange];
    let (status, text) = site.told(&args).await;
    assert_eq!(status, 0, "{text}");
    let (status, text) = site.told(&args).await;
    assert!(status == 1 && text.contains("nothing is overwritten"), "{text}");
}

#[tokio::test]
async fn what_init_writes_passes_config_check_apply_and_a_first_exchange() {
    let site = Site::new().await;
    fs::remove_file(site.path("taskgrant.toml")).unwrap();
    let init = [
        "init",
        "--dir",
        ".",
        "--issuer",
        &site.idp.issuer,
        "--allow-http-loopback",
        "--public-url",
        &site.issuer,
        "--client",
        "console",
        "--group",
        "support",
    ];
    let (status, text) = site.told(&init).await;
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("2 usable keys at "), "{text}");
    let next = "taskgrant config check -f objects\ntaskgrant apply -f objects\ntaskgrant serve\n";
    assert!(text.ends_with(next), "{text}");
    let secret = text.lines().find(|line| line.starts_with("tgs_")).unwrap();
    assert_eq!(text.matches(secret).count(), 1);
    for file in files(&site.path(".")) {
        assert!(!fs::read_to_string(&file).unwrap().contains(secret), "{} holds the secret", file.display());
    }

    let (status, text) = site.told(&["config", "check", "-f", "objects"]).await;
    assert_eq!(status, 0, "{text}");
    let (status, text) = site.told(&["policy", "test", "policies/base"]).await;
    assert_eq!(status, 0, "{text}");
    let (status, text) = site.told(&["apply", "-f", "objects"]).await;
    assert_eq!(status, 0, "{text}");
    let server = site.start().await;
    let answer = site.start_task(("first-agent", secret), json!({"groups": ["support"]}), &[]).await;
    assert_eq!(answer["scope"], "orders:read", "{answer}");
    let answer = site.start_task(("first-agent", secret), json!({"groups": ["sales"]}), &[]).await;
    assert_eq!(answer["ceiling"], "entitlement", "{answer}");
    assert_eq!(site.told(&["plan", "-f", "objects", "--prune"]).await.0, 0);
    let (status, lines) = site.lines(&[]).await;
    assert_eq!(status, 0, "{lines:#?}");
    assert!(server.terminate().await.success());
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn state(lines: &[Value], check: &str) -> String {
    let line = lines.iter().find(|line| line["check"] == check);
    line.unwrap_or_else(|| panic!("no line `{check}`: {lines:#?}"))["state"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_doctor_finds_a_served_deployment_well_and_a_fresh_one_only_empty() {
    let site = Site::new().await;
    let (status, lines) = site.lines(&[]).await;
    assert_eq!(status, 0, "{lines:#?}");
    assert!(!site.path("data").exists(), "the doctor made the data folder");
    for check in ["keys", "database", "server", "issuer"] {
        assert_eq!(state(&lines, check), "warn", "{check}");
    }
    let server = site.start().await;
    site.apply().await;
    let (status, lines) = site.lines(&[]).await;
    assert_eq!(status, 0, "{lines:#?}");
    for check in [
        "configuration",
        "file modes",
        "keys",
        "policy",
        "database",
        "schema",
        "database clock",
        "log",
        "server",
        "issuer",
        "issuer clock",
    ] {
        assert_eq!(state(&lines, check), "ok", "{check}: {lines:#?}");
    }
    assert!(server.terminate().await.success());
    let (status, lines) = site.lines(&[]).await;
    assert_eq!((status, state(&lines, "server"), state(&lines, "issuer")), (0, "warn".into(), "ok".into()));
    let (_, text) = site.told(&["doctor", "--offline"]).await;
    assert!(text.contains("ok    schema") && text.ends_with("\nwell\n"), "{text}");
}

#[tokio::test]
async fn the_doctor_names_what_is_ill_and_what_mends_it() {
    let site = Site::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let late = format!("http://{}/jwks", listener.local_addr().unwrap());
    let keys = json!({"keys": [Signer::new("late").jwk()]}).to_string();
    let answer = move || async move { ([("date", "Mon, 01 Jan 2024 00:00:00 GMT")], keys) };
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/jwks", get(answer))).await });
    site.rewrite("objects.yaml", "  facts: [email]", &format!("  facts: [email]\n  jwks_uri: {late}"));
    site.apply().await;
    let (status, lines) = site.lines(&[]).await;
    assert_eq!(
        (status, state(&lines, "issuer"), state(&lines, "issuer clock")),
        (1, "ok".into(), "fail".into())
    );

    site.rewrite("objects.yaml", &late, "http://127.0.0.1:1/jwks");
    site.apply().await;
    let (status, lines) = site.lines(&[]).await;
    assert_eq!((status, state(&lines, "issuer")), (1, "fail".into()));
    assert!(lines.iter().filter(|l| l["state"] == "fail").all(|l| l["remedy"].is_string()), "{lines:#?}");

    let database = site.path("data/taskgrant.db");
    fs::set_permissions(&database, fs::Permissions::from_mode(0o644)).unwrap();
    let (status, lines) = site.lines(&["--offline"]).await;
    assert_eq!((status, state(&lines, "file modes")), (1, "fail".into()));
    fs::set_permissions(&database, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(site.lines(&["--offline"]).await.0, 0);

    // What the write-ahead log still holds would stand for the damaged pages.
    let _ = fs::remove_file(site.path("data/taskgrant.db-wal"));
    let _ = fs::remove_file(site.path("data/taskgrant.db-shm"));
    let mut bytes = fs::read(&database).unwrap();
    let (from, to) = (4096, bytes.len().min(4096 * 6));
    bytes[from..to].iter_mut().for_each(|byte| *byte = 0xA5);
    fs::write(&database, bytes).unwrap();
    let (status, lines) = site.lines(&["--offline"]).await;
    assert_eq!((status, state(&lines, "database")), (1, "fail".into()), "{lines:#?}");

    site.rewrite("taskgrant.toml", "public_url", "public_uri");
    let (status, text) = site.told(&["doctor"]).await;
    assert!(status == 1 && text.starts_with("fail  configuration"), "{text}");
}

async fn schema(site: &Site, of: &str) -> Validator {
    let (status, text) = site.told(&["schema", of]).await;
    assert_eq!(status, 0, "{text}");
    jsonschema::options().build(&serde_json::from_str(&text).unwrap()).unwrap()
}

fn told(validator: &Validator, value: &Value) -> String {
    validator.iter_errors(value).map(|error| error.to_string()).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn the_schemas_take_what_the_server_takes_and_name_a_wrong_key() {
    let site = Site::new().await;
    let (objects, config) = (schema(&site, "objects").await, schema(&site, "config").await);
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut texts: Vec<String> =
        ["objects/acme.yaml", "issuers/keycloak.yaml", "issuers/auth0.yaml", "issuers/entra.yaml"]
            .map(|file| fs::read_to_string(root.join("examples").join(file)).unwrap())
            .into();
    texts.push(fs::read_to_string(site.path("objects.yaml")).unwrap());
    let reference = fs::read_to_string(root.join("docs/reference/objects.md")).unwrap();
    texts.extend(
        reference.split("```yaml\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned()),
    );
    let mut kinds = std::collections::BTreeSet::new();
    for text in texts {
        for document in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            assert!(objects.is_valid(&document), "{document:#}\n{}", told(&objects, &document));
            kinds.insert(document["kind"].as_str().unwrap().to_owned());
            let mut wrong = document.clone();
            wrong["spec"]["no_such_key"] = json!(1);
            assert!(!objects.is_valid(&wrong), "{wrong:#}");
        }
    }
    assert_eq!(kinds.len(), taskgrant::domain::objects::ObjectKind::ALL.len(), "{kinds:?}");
    let read = |text: &str| Figment::new().merge(Toml::string(text)).extract::<Value>().unwrap();
    let toml = read(&fs::read_to_string(site.path("taskgrant.toml")).unwrap());
    assert!(config.is_valid(&toml), "{}", told(&config, &toml));
    assert!(!config.is_valid(&read("public_url = 'https://a'\n[keys]\nalgorythm = 'ES256'")));
    assert!(!config.is_valid(&read("listen = '127.0.0.1:1'")), "public_url is required");
}
