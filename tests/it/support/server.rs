//! A whole server over real HTTP on loopback, with a trusted issuer beside it and a clock that tests move.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use serde_json::{Value, json};
use taskgrant::admin::client::AdminClient;
use taskgrant::app::{App, StartFault};
use taskgrant::clock::{Clock as _, ShiftedClock, SystemClock};
use taskgrant::config::Config;
use taskgrant::configuration::apply::{Applied, ApplyFault, Options};
use taskgrant::configuration::documents::Source;
use taskgrant::domain::ids::DecisionId;
use taskgrant::keys::keyring::KeyRing;
use taskgrant::keys::signing::KeySpec;
use taskgrant::store::Store;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::database;
use super::idp::{Idp, bend};

/// Grant type of the main job.
pub(crate) const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// Token type URNs.
pub(crate) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
pub(crate) const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
pub(crate) const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// URIs of the resources in `objects.yaml`.
pub(crate) const ORDERS: &str = "https://orders.acme.example/api";
pub(crate) const MAIL: &str = "https://mail.acme.example";

/// A running server.
pub(crate) struct Server {
    /// Our `iss`.
    pub(crate) issuer: String,
    /// Where it answers: at its `iss`, unless it is another replica.
    url: String,
    /// The trusted issuer.
    pub(crate) idp: Arc<Idp>,
    /// Moves the server's time.
    pub(crate) clock: ShiftedClock,
    /// The store, to look at what was recorded.
    pub(crate) store: Store,
    /// The agent `support-agent`'s instance keys.
    pub(crate) actor_keys: KeyRing,
    configuration: taskgrant::configuration::apply::Configuration,
    http: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
    /// Holds the data folder `data`.
    pub(crate) data: Arc<TempDir>,
}

/// What a server under test is made of.
struct Place {
    issuer: String,
    data: Arc<TempDir>,
    idp: Arc<Idp>,
    clock: ShiftedClock,
}

impl Place {
    async fn serve(
        self,
        listener: TcpListener,
        toml: &str,
        extra: axum::Router,
    ) -> Result<Server, StartFault> {
        let Self { issuer, data, idp, clock } = self;
        let (folder, at) = (data.path().join("data"), listener.local_addr().unwrap());
        let database = database::of(data.path()).await;
        let base = format!(
            "public_url = '{issuer}'\nlisten = '{at}'\ndata = '{}'\nenvironment = 'test'\n{database}{toml}\n",
            folder.display(),
        );
        let app = App::build(Config::from_toml(&base).unwrap(), Arc::new(clock.clone())).await?;
        let (stop, stopped) = oneshot::channel::<()>();
        let (store, configuration) = (app.store.clone(), app.configuration());
        let serve = async move {
            app.serve_with(listener, extra, async { drop(stopped.await) }).await.unwrap();
        };
        let (scheme, path) = (issuer.split(':').next().unwrap_or_default(), issuer.splitn(4, '/').nth(3));
        let path = path.map(|path| format!("/{path}")).unwrap_or_default();
        Ok(Server {
            url: format!("{scheme}://{at}{path}"),
            issuer,
            idp,
            clock,
            store,
            actor_keys: KeyRing::ephemeral(KeySpec::Es256, SystemRandom::new()).unwrap(),
            configuration,
            http: http(),
            stop: Some(stop),
            task: Some(tokio::spawn(serve)),
            data,
        })
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    /// The issued token; panics with the whole answer when there is none.
    #[track_caller]
    pub(crate) fn token(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        self.body["access_token"].as_str().unwrap_or_else(|| panic!("no token: {self:?}")).to_owned()
    }

    /// Asserts an OAuth error and that nothing was issued; gives the answer back for more.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, error: &str, reason_code: &str) -> &Self {
        assert_eq!(
            (self.status, self.body["error"].as_str(), self.body["reason_code"].as_str()),
            (status, Some(error), Some(reason_code)),
            "{self:#?}"
        );
        assert!(self.body.get("access_token").is_none());
        self
    }
}

/// A decision as the log keeps it.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) leaf: Value,
    pub(crate) record: Value,
    /// Null when policy was not asked.
    pub(crate) input: Value,
}

impl Recorded {
    /// All of it as one text, to look for what must not be there.
    pub(crate) fn text(&self) -> String {
        format!("{}\n{}\n{}", self.leaf, self.record, self.input)
    }
}

/// The secret of a client in `objects.yaml`.
pub(crate) fn secret(client_id: &str) -> String {
    format!("tgs_test-secret-of-{client_id}")
}

/// A client's secret as `client_secret_basic`.
pub(crate) fn basic(client_id: &str) -> (String, String) {
    let pair = STANDARD.encode(format!("{client_id}:{}", secret(client_id)));
    ("authorization".to_owned(), format!("Basic {pair}"))
}

/// SHA-256 in hexadecimal, as objects register secrets.
pub(crate) fn sha256(text: &str) -> String {
    let hex = |mut hex: String, byte: &u8| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    };
    digest(&SHA256, text.as_bytes()).as_ref().iter().fold(String::new(), hex)
}

impl Server {
    /// A server with `objects.yaml` in force and the starter policy.
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same with more lines in its TOML.
    pub(crate) async fn start_with(toml: &str) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), Idp::start().await, toml).await
    }

    /// The same under a policy that adds `rules` to the starter's.
    pub(crate) async fn start_with_policy(rules: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("bundle");
        std::fs::create_dir(&bundle).unwrap();
        let starter = include_str!("../../../policies/base/ceilings.rego");
        std::fs::write(bundle.join("rules.rego"), format!("{starter}\n{rules}\n")).unwrap();
        Self::start_with(&format!("[policy]\nbundles = ['{}']", bundle.display())).await
    }

    /// The same with a path in `public_url`.
    pub(crate) async fn start_at(path: &str) -> Self {
        Self::start_at_in(path, Arc::new(tempfile::tempdir().unwrap()), Idp::start().await, "").await
    }

    /// The same in a data folder that may hold data already.
    pub(crate) async fn start_in(data: Arc<TempDir>, idp: Idp, toml: &str) -> Self {
        Self::start_at_in("", data, idp, toml).await
    }

    /// The same with more routes beside the public ones.
    pub(crate) async fn start_with_routes(extra: axum::Router) -> Self {
        let (data, idp) = (Arc::new(tempfile::tempdir().unwrap()), Idp::start().await);
        Self::launch(("http", ""), data, idp, "[outbound]\nallow_http_loopback = true", extra).await
    }

    /// A server that may not reach loopback addresses: its trusted issuer is out of reach too.
    pub(crate) async fn start_closed() -> Self {
        let (data, idp) = (Arc::new(tempfile::tempdir().unwrap()), Idp::start().await);
        Self::launch(("http", ""), data, idp, "", axum::Router::new()).await
    }

    async fn start_at_in(path: &str, data: Arc<TempDir>, idp: Idp, toml: &str) -> Self {
        let toml = format!("{toml}\n[outbound]\nallow_http_loopback = true\n");
        Self::launch(("http", path), data, idp, &toml, axum::Router::new()).await
    }

    /// The same over TLS, with a `[tls]` among the lines.
    pub(crate) async fn start_tls(data: Arc<TempDir>, toml: &str) -> Self {
        let toml = format!("{toml}\n[outbound]\nallow_http_loopback = true\n");
        Self::launch(("https", ""), data, Idp::start().await, &toml, axum::Router::new()).await
    }

    async fn launch(
        (scheme, path): (&str, &str),
        data: Arc<TempDir>,
        idp: Idp,
        toml: &str,
        extra: axum::Router,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("{scheme}://{}{path}", listener.local_addr().unwrap());
        let place = Place { issuer, data, idp: Arc::new(idp), clock: ShiftedClock::default() };
        let server = place.serve(listener, toml, extra).await.unwrap();
        server.apply(&server.objects()).await.unwrap();
        server
    }

    /// Another replica beside this one, with a data folder of its own: the same `iss`, database and clock.
    pub(crate) async fn replica(&self, toml: &str) -> Result<Self, StartFault> {
        let (listener, data) =
            (TcpListener::bind("127.0.0.1:0").await.unwrap(), tempfile::tempdir().unwrap());
        database::share(self.data.path(), data.path());
        let (issuer, data, idp) = (self.issuer.clone(), Arc::new(data), self.idp.clone());
        let place = Place { issuer, data, idp, clock: self.clock.clone() };
        let toml = format!("{toml}\n[outbound]\nallow_http_loopback = true\n");
        place.serve(listener, &toml, axum::Router::new()).await
    }

    /// Where it answers.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The server's admin API.
    pub(crate) async fn admin(&self) -> AdminClient {
        AdminClient::find(&self.data.path().join("data/admin.sock")).await.unwrap().unwrap()
    }

    /// Stops the server as SIGTERM would, and waits for its last commit.
    pub(crate) async fn stop(self) {
        // The writer ends with its last handle, and the data folder is free after that.
        let Self { stop, task, store, configuration, .. } = self;
        drop((stop, store, configuration));
        task.unwrap().await.unwrap();
    }

    /// `objects.yaml` with this server's values filled in.
    pub(crate) fn objects(&self) -> String {
        objects(&self.idp.issuer, &self.issuer, self.actor_keys.jwks())
    }

    /// Applies YAML documents, widenings allowed.
    pub(crate) async fn apply(&self, yaml: &str) -> Result<Applied, ApplyFault> {
        let source = Source { file: "test.yaml".to_owned(), text: yaml.to_owned() };
        let options = Options { allow_widening: true, ..Options::default() };
        self.configuration.apply(vec![source], options, "test").await
    }

    /// Applies `objects.yaml` with one text replaced in it.
    pub(crate) async fn reapply(&self, from: &str, to: &str) {
        let objects = self.objects();
        assert!(objects.contains(from), "`{from}` is not in objects.yaml");
        self.apply(&objects.replacen(from, to, 1)).await.unwrap();
    }

    /// The server's time, in seconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        self.clock.now().timestamp()
    }

    /// The claims of a good session of `alice`, in group `support` of tenant `acme`, for the client `console`.
    pub(crate) fn session_claims(&self) -> Value {
        let now = self.clock.now().timestamp();
        json!({
            "iss": self.idp.issuer, "sub": "alice", "aud": self.issuer, "client_id": "console", "azp": "console",
            "sid": "sid-1", "auth_time": now - 60, "iat": now, "exp": now + 3600, "org_id": "acme",
            "groups": ["support"], "email": "alice@acme.example", "acr": "aal2", "amr": ["pwd", "otp"],
        })
    }

    /// A session token with members of the good claims replaced; `null` removes one.
    pub(crate) fn session(&self, with: Value) -> String {
        self.idp.sign("at+jwt", &bend(self.session_claims(), with))
    }

    /// Exchanges a session or capability token as `client_id`.
    pub(crate) async fn exchange(&self, client_id: &str, subject: &str, with: &[(&str, &str)]) -> Answer {
        let base = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", subject),
            ("subject_token_type", ACCESS_TOKEN),
        ];
        let kept = base.into_iter().filter(|(key, _)| !with.iter().any(|(k, _)| k == key));
        let form: Vec<(&str, &str)> = kept.chain(with.iter().copied()).collect();
        self.post("/oauth/token", client_id, &form).await
    }

    /// A root token for the orders service: scopes `orders:read refunds:write`.
    pub(crate) async fn root(&self) -> String {
        let form =
            [("task_type", "refund_order"), ("resource", ORDERS), ("scope", "orders:read refunds:write")];
        self.exchange("support-agent", &self.session(json!({})), &form).await.token()
    }

    /// An exchange-only root token that carries all that the ceilings allow.
    pub(crate) async fn wide_root(&self) -> String {
        let scope = "orders:read refunds:write mail:send";
        let form = [("task_type", "refund_order"), ("audience", self.issuer.as_str()), ("scope", scope)];
        self.exchange("support-agent", &self.session(json!({})), &form).await.token()
    }

    /// A token for `to` alone, narrowed by support-agent from `parent`.
    pub(crate) async fn hand_over(&self, parent: &str, to: &str) -> String {
        let form = [("audience", self.issuer.as_str()), ("delegate_to", to), ("scope", "orders:read")];
        let form = [&form[..], &[("resource", ORDERS)]].concat();
        self.exchange("support-agent", parent, &form).await.token()
    }

    /// The claims of a good actor token of an instance of `agent`.
    pub(crate) fn actor_claims(&self, agent: &str, instance: &str) -> Value {
        let now = self.clock.now().timestamp();
        json!({"iss": agent, "sub": instance, "aud": self.issuer, "iat": now, "exp": now + 120})
    }

    /// An actor token that proves `instance` of support-agent.
    pub(crate) fn actor_token(&self, instance: &str) -> String {
        self.actor_keys.sign("actor+jwt", &self.actor_claims("support-agent", instance)).unwrap()
    }

    /// The server's own keys, to sign with them what it never would.
    pub(crate) fn own_keys(&self) -> KeyRing {
        KeyRing::open(&self.data.path().join("data/keys"), KeySpec::Es256, SystemRandom::new()).unwrap()
    }

    /// The decision that an answer names, as the log keeps it.
    pub(crate) async fn decision(&self, answer: &Answer) -> Recorded {
        let id = answer.body["decision_id"].as_str().unwrap_or_else(|| panic!("no decision: {answer:?}"));
        self.decision_of(id.parse().unwrap()).await
    }

    /// The decision of this id.
    pub(crate) async fn decision_of(&self, id: DecisionId) -> Recorded {
        let stored = self.store.decision(id).await.unwrap().expect("the decision is stored");
        let read = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap();
        Recorded {
            leaf: read(&stored.leaf),
            record: read(&stored.record.unwrap()),
            input: stored.input.as_deref().map(read).unwrap_or_default(),
        }
    }

    /// How many decisions the log holds.
    pub(crate) async fn decisions(&self) -> u64 {
        self.store.head().await.unwrap().frontier.size()
    }

    /// Changes the database past the server.
    pub(crate) async fn sql(&self, sql: &str) {
        database::execute(self.data.path(), sql.to_owned(), sql.to_owned()).await;
    }

    /// What `sql` counts.
    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        database::count(self.data.path(), sql).await
    }

    /// The same server on the same data, stopped and started again.
    pub(crate) async fn restart(self) -> Self {
        self.restart_with("").await
    }

    /// The same with more lines in its TOML, in place of those that it had.
    pub(crate) async fn restart_with(self, toml: &str) -> Self {
        let (issuer, data) = (self.issuer.clone(), self.data.clone());
        let (idp, clock) = (self.idp.clone(), self.clock.clone());
        let at = issuer.split_once("://").unwrap().1.to_owned();
        self.stop().await;
        let listener = TcpListener::bind(at).await.unwrap();
        let place = Place { issuer, data, idp, clock };
        let toml = format!("{toml}\n[outbound]\nallow_http_loopback = true\n");
        let server = place.serve(listener, &toml, axum::Router::new()).await.unwrap();
        assert_eq!(server.get("/healthz", &[]).await.status, 200);
        server
    }

    /// Has the database refuse new rows of `table`, as it would refuse their data.
    pub(crate) async fn refuse_rows(&self, table: &str) {
        let on_sqlite =
            format!("CREATE TRIGGER fail BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no room'); END");
        let on_postgres = format!(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS \
               $$BEGIN RAISE 'no room' USING ERRCODE = 'check_violation'; END$$; \
             CREATE TRIGGER fail BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION fail()"
        );
        database::execute(self.data.path(), on_sqlite, on_postgres).await;
    }

    /// Has the database take rows of `table` again.
    pub(crate) async fn take_rows(&self, table: &str) {
        let (on_sqlite, on_postgres) =
            ("DROP TRIGGER fail".to_owned(), format!("DROP TRIGGER fail ON {table}"));
        database::execute(self.data.path(), on_sqlite, on_postgres).await;
    }

    /// Leaf and record of the last decision.
    pub(crate) async fn last_decision(&self) -> (Value, Value) {
        let (leaf, record) = database::last_decision(self.data.path()).await;
        (serde_json::from_slice(&leaf).unwrap(), serde_json::from_slice(&record).unwrap())
    }

    /// Makes the next request over a connection of its own.
    pub(crate) fn hang_up(&mut self) {
        self.http = http();
    }

    /// Posts a form with the client's secret by `client_secret_basic`.
    pub(crate) async fn post(&self, path: &str, client_id: &str, form: &[(&str, &str)]) -> Answer {
        self.send(path, &[basic(client_id)], encode(form), "application/x-www-form-urlencoded").await
    }

    /// Posts any body with any headers.
    pub(crate) async fn send(
        &self,
        path: &str,
        headers: &[(String, String)],
        body: impl Into<reqwest::Body>,
        content_type: &str,
    ) -> Answer {
        let mut request = self.http.post(format!("{}{path}", self.url)).header("content-type", content_type);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        answer(request.body(body).send().await.unwrap()).await
    }

    /// Gets a path with any headers.
    pub(crate) async fn get(&self, path: &str, headers: &[(String, String)]) -> Answer {
        let mut request = self.http.get(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        answer(request.send().await.unwrap()).await
    }

    /// Gets any URL.
    pub(crate) async fn get_url(&self, url: &str) -> Answer {
        answer(self.http.get(url).send().await.unwrap()).await
    }

    /// Introspects as `client_id`.
    pub(crate) async fn introspect(&self, client_id: &str, token: &str) -> Answer {
        self.post("/oauth/introspect", client_id, &[("token", token)]).await
    }

    /// Revokes as `client_id`.
    pub(crate) async fn revoke(&self, client_id: &str, token: &str) -> Answer {
        self.post("/oauth/revoke", client_id, &[("token", token)]).await
    }
}

/// `objects.yaml` for a trusted issuer, a server and the keys of an agent's instances.
pub(crate) fn objects(idp: &str, own: &str, actor_jwks: &Value) -> String {
    let mut text = include_str!("objects.yaml").replace("ISSUER", idp).replace("OWN", own);
    text = text.replace("ACTOR_JWKS", &actor_jwks.to_string());
    for (name, client) in [
        ("HASH_ORDERS", "orders-api"),
        ("HASH_MAIL", "mail-api"),
        ("HASH_SUPPORT", "support-agent"),
        ("HASH_WORKER_TWO", "worker-two"),
        ("HASH_WORKER", "worker-agent"),
        ("HASH_STRANGER", "stranger-agent"),
        ("HASH_GLOBEX", "globex-agent"),
    ] {
        text = text.replace(name, &sha256(&secret(client)));
    }
    text
}

/// `name=value` pairs, form-encoded.
pub(crate) fn encode(form: &[(&str, &str)]) -> String {
    let octet = |b: u8| {
        if b.is_ascii_alphanumeric() || b"-._".contains(&b) {
            char::from(b).to_string()
        } else {
            format!("%{b:02X}")
        }
    };
    let text = |s: &str| s.bytes().map(octet).collect::<String>();
    form.iter().map(|(k, v)| format!("{}={}", text(k), text(v))).collect::<Vec<_>>().join("&")
}

/// A client of its own, without a proxy.
pub(crate) fn http() -> reqwest::Client {
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// What an answer of any server says.
pub(crate) async fn answer_of(response: reqwest::Response) -> Answer {
    answer(response).await
}

async fn answer(response: reqwest::Response) -> Answer {
    let status = response.status().as_u16();
    let header = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
        (name.to_string(), value.to_str().unwrap_or_default().to_owned())
    };
    let headers = response.headers().iter().map(header).collect();
    let text = response.text().await.unwrap();
    Answer { status, headers, body: serde_json::from_str(&text).unwrap_or_default(), text }
}

/// Whole seconds of the machine's clock.
pub(crate) fn now() -> i64 {
    SystemClock.now().timestamp()
}
