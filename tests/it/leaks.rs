//! No secret in any output: a whole run at the most talkative, and everything it wrote searched for all it used (L12).

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::support::process::Site;
use crate::support::server::{ACCESS_TOKEN, ORDERS, TOKEN_EXCHANGE, encode, http, now, secret};

/// What a run used, and what it wrote where everybody may look.
struct Run {
    site: Site,
    client: reqwest::Client,
    /// Name and text of what must be nowhere.
    secrets: Vec<(String, String)>,
    /// Where it was written, and the bytes.
    written: Vec<(String, Vec<u8>)>,
}

impl Run {
    async fn new() -> Self {
        let site = Site::new().await;
        site.reconfigure("level = 'warn'", "level = 'trace'");
        Self { site, client: http(), secrets: Vec::new(), written: Vec::new() }
    }

    /// A token must not be there whole, nor the parts that would make it whole again.
    fn is_secret(&mut self, name: &str, token: &str) {
        self.secrets.push((name.to_owned(), token.to_owned()));
        let parts = token.split('.').skip(1).filter(|part| part.len() > 20);
        self.secrets.extend(parts.map(|part| (format!("a part of {name}"), part.to_owned())));
    }

    fn session(&mut self, name: &str, bend: &Value) -> String {
        let now = now();
        let mut claims = json!({
            "iss": self.site.idp.issuer, "sub": "alice", "aud": self.site.issuer, "client_id": "console",
            "azp": "console", "sid": name, "auth_time": now - 60, "iat": now, "exp": now + 3600, "org_id": "acme",
            "groups": ["support"],
        });
        claims.as_object_mut().unwrap().extend(bend.as_object().unwrap().clone());
        let token = self.site.idp.sign("at+jwt", &claims);
        self.is_secret(name, &token);
        token
    }

    /// Posts a form as a client; the answer counts as written unless it hands out a token.
    async fn post(&mut self, path: &str, client: &str, password: &str, form: &[(&str, &str)]) -> Value {
        let basic = STANDARD.encode(format!("{client}:{password}"));
        let request = self.client.post(format!("{}{path}", self.site.issuer));
        let request = request.header("authorization", format!("Basic {basic}"));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(encode(form));
        self.secrets.push((format!("the credentials of {client}"), basic));
        self.answer(path, request).await
    }

    async fn answer(&mut self, path: &str, request: reqwest::RequestBuilder) -> Value {
        let text = request.send().await.unwrap().text().await.unwrap();
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        match body["access_token"].as_str() {
            Some(token) => self.is_secret("an issued token", token),
            None => self.written.push((format!("the answer of {path}"), text.into_bytes())),
        }
        body
    }

    async fn exchange(&mut self, client: &str, subject: &str, with: &[(&str, &str)]) -> Value {
        let base = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", subject),
            ("subject_token_type", ACCESS_TOKEN),
        ];
        self.post("/oauth/token", client, &secret(client), &[&base[..], with].concat()).await
    }

    /// Runs a command of the binary; what it prints counts as written.
    async fn command(&mut self, args: &[&str]) {
        let output = self.site.run(args).await;
        self.written.push((format!("{args:?}"), [output.stdout, output.stderr].concat()));
    }

    /// Every file of the run; `skip` says which hold secrets by their purpose.
    fn collect(&mut self, folder: &Path, skip: &dyn Fn(&Path) -> bool) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.collect(&path, skip);
            } else if !skip(&path) {
                self.written.push((path.display().to_string(), fs::read(&path).unwrap_or_default()));
            }
        }
    }

    fn leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        for (place, bytes) in &self.written {
            let found = |text: &String| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            let here = self.secrets.iter().filter(|(_, text)| found(text));
            leaks.extend(here.map(|(name, _)| format!("{name} in {place}")));
        }
        leaks
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_and_no_token_is_in_anything_that_a_whole_run_wrote() {
    let mut run = Run::new().await;
    for client in ["support-agent", "worker-agent", "orders-api"] {
        let plain = secret(client);
        run.secrets.push((format!("the secret of {client}"), plain.clone()));
        run.secrets.push(("a secret in base64url".to_owned(), URL_SAFE_NO_PAD.encode(plain)));
    }
    run.command(&["apply", "-f", "objects.yaml", "--allow-widening"]).await;
    let process = run.site.start().await;
    exchanges(&mut run).await;
    refusals(&mut run).await;
    for path in ["/healthz", "/readyz", "/oauth/jwks", "/.well-known/oauth-authorization-server", "/nothing"]
    {
        let request = run.client.get(format!("{}{path}", run.site.issuer));
        run.answer(path, request).await;
    }
    run.command(&["keys", "rotate", "--emergency", "--yes"]).await;
    run.command(&["keys", "list", "--json"]).await;
    assert_eq!(process.terminate().await.code(), Some(0), "{}", run.site.log());

    // The key files are to hold the private keys; nothing else is.
    let pem = fs::read_dir(run.site.path("data/keys")).unwrap().next().unwrap().unwrap().path();
    let key = fs::read_to_string(&pem).unwrap().lines().nth(1).unwrap().to_owned();
    assert!(key.len() > 40);
    run.secrets.push(("a private key".to_owned(), key));
    let root = run.site.path("");
    run.collect(&root, &|path| path.extension().is_some_and(|e| e == "pem"));
    let log = run.site.log();
    assert!(log.contains("TRACE") && log.contains("token issued") && log.contains("exchange refused"));
    let database = run.written.iter().filter(|(place, _)| place.contains("taskgrant.db"));
    assert!(database.map(|(_, bytes)| bytes.len()).sum::<usize>() > 50_000, "with its write-ahead log");
    assert_eq!(run.leaks(), Vec::<String>::new());

    // The search finds what is there.
    run.collect(&root, &|path| path != pem);
    assert_eq!(run.leaks(), [format!("a private key in {}", pem.display())]);
}

/// Tokens of every kind, presented wherever one may be.
async fn exchanges(run: &mut Run) {
    let issuer = run.site.issuer.clone();
    let session = run.session("the session", &json!({}));
    let wide = [("task_type", "refund_order"), ("audience", issuer.as_str())];
    let wide = run.exchange("support-agent", &session, &wide).await;
    let wide = wide["access_token"].as_str().unwrap_or_else(|| panic!("{wide}")).to_owned();
    let form = [("resource", ORDERS), ("scope", "orders:read")];
    let narrow =
        run.exchange("support-agent", &wide, &form).await["access_token"].as_str().unwrap().to_owned();
    let hand_over =
        [("audience", issuer.as_str()), ("delegate_to", "worker-agent"), ("scope", "orders:read")];
    let hand_over = run.exchange("support-agent", &wide, &[&hand_over[..], &form[..1]].concat()).await;
    let hand_over = hand_over["access_token"].as_str().unwrap_or_else(|| panic!("{hand_over}")).to_owned();
    for _ in 0..2 {
        // The second time it is spent.
        run.exchange("worker-agent", &hand_over, &form).await;
    }
    run.post("/oauth/introspect", "orders-api", &secret("orders-api"), &[("token", &narrow)]).await;
    run.post("/oauth/introspect", "orders-api", &secret("orders-api"), &[("token", &session)]).await;
    run.post("/oauth/revoke", "support-agent", &secret("support-agent"), &[("token", &narrow)]).await;
    run.exchange("support-agent", &wide, &[&form[..], &[("dry_run", "true")]].concat()).await;
}

/// Secrets where they are refused: in every parameter, in the query, as a password, as a token that is none.
async fn refusals(run: &mut Run) {
    let session = run.session("a refused session", &json!({"exp": now() - 10}));
    run.exchange("support-agent", &session, &[]).await;
    let good = run.session("another session", &json!({}));
    run.exchange("support-agent", &good[..good.len() - 2], &[]).await;
    run.exchange("support-agent", &good, &[("actor_token", &good), ("actor_token_type", ACCESS_TOKEN)]).await;
    for parameter in ["claimed", "task_type", "scope", "resource", "audience", "authorization_details"] {
        run.exchange("support-agent", &good, &[(parameter, &good)]).await;
    }
    run.secrets.push(("a wrong secret".to_owned(), "tgs_a-wrong-secret-of-somebody".to_owned()));
    run.post("/oauth/token", "support-agent", "tgs_a-wrong-secret-of-somebody", &[]).await;
    let form = [
        ("client_id", "support-agent"),
        ("client_secret", "tgs_a-wrong-secret-of-somebody"),
        ("token", &good),
    ];
    let url = format!("{}/oauth/introspect?token={good}", run.site.issuer);
    let request = run.client.post(url).header("content-type", "application/x-www-form-urlencoded");
    let request = request.header("traceparent", good.as_str()).body(encode(&form));
    run.answer("/oauth/introspect", request).await;
    let request = run
        .client
        .get(format!("{}/{good}", run.site.issuer))
        .header("authorization", format!("Bearer {good}"));
    run.answer("a path that is a token", request).await;
}
