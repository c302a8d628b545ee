//! A server whose `support-agent` and `orders-api` authenticate by a key of their own, and their assertions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::idp::{Idp, bend};
use super::server::{ACCESS_TOKEN, Answer, ORDERS, Server, TOKEN_EXCHANGE, encode, secret, sha256};
use super::signer::Signer;

/// Parameter and value that go with an assertion (RFC 7523 §2.2).
pub(crate) const ASSERTION_TYPE: &str = "client_assertion_type";
pub(crate) const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// For tests that fail to authenticate on purpose, many times a second.
pub(crate) const MANY_FAILURES: &str = "[limits]\nfailure_rate = 50000";

/// Unique across restarts: an id that is used twice is a replay.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// The server and the keys.
pub(crate) struct Keyed {
    pub(crate) server: Server,
    keys: Keys,
}

#[derive(Clone)]
struct Keys {
    agent: Arc<Signer>,
    resource: Arc<Signer>,
}

impl Keyed {
    /// A good root exchange but for the token.
    pub(crate) const ROOT: [(&str, &str); 2] = [("task_type", "refund_order"), ("resource", ORDERS)];

    pub(crate) async fn start() -> Self {
        Self::start_with(MANY_FAILURES).await
    }

    /// The same with these lines in its TOML.
    pub(crate) async fn start_with(toml: &str) -> Self {
        let keys =
            Keys { agent: Arc::new(Signer::new("agent-key")), resource: Arc::new(Signer::new("api-key")) };
        Self::on(Server::start_with(toml).await, keys).await
    }

    /// The same on the same data, after an orderly end.
    pub(crate) async fn restart(self) -> Self {
        let data = self.server.data.clone();
        self.server.stop().await;
        Self::on(Server::start_in(data, Idp::start().await, MANY_FAILURES).await, self.keys).await
    }

    async fn on(server: Server, keys: Keys) -> Self {
        let keyed = Self { server, keys };
        keyed.server.apply(&keyed.objects()).await.unwrap();
        keyed
    }

    /// `objects.yaml` with the keys beside the secrets.
    pub(crate) fn objects(&self) -> String {
        let mut objects = self.server.objects();
        for client in ["support-agent", "orders-api"] {
            let from = format!("auth: {{secret_sha256: [{}]}}", sha256(&secret(client)));
            let jwks = json!({"keys": [self.key(client).jwk()]});
            let to = format!("{}, jwks: {jwks}}}", from.trim_end_matches('}'));
            assert!(objects.contains(&from));
            objects = objects.replace(&from, &to);
        }
        objects
    }

    pub(crate) fn key(&self, client: &str) -> &Signer {
        if client == "orders-api" { &self.keys.resource } else { &self.keys.agent }
    }

    /// The claims of a good assertion.
    pub(crate) fn claims(&self, client: &str) -> Value {
        let now = self.server.now();
        let jti = format!("{now}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        json!({"iss": client, "sub": client, "aud": self.server.issuer, "iat": now, "exp": now + 60, "jti": jti})
    }

    pub(crate) fn assertion(&self, client: &str) -> String {
        self.bent(client, json!({}))
    }

    /// An assertion with members of the good claims replaced; `null` removes one.
    pub(crate) fn bent(&self, client: &str, with: Value) -> String {
        self.signed(self.key(client), client, with)
    }

    pub(crate) fn signed(&self, key: &Signer, client: &str, with: Value) -> String {
        key.sign(key.header("client-authentication+jwt"), bend(self.claims(client), with))
    }

    /// A good assertion under another `typ`; without one if it is `null`.
    pub(crate) fn typed(&self, client: &str, typ: &Value) -> String {
        let key = self.key(client);
        key.sign(bend(key.header("x"), json!({"typ": typ})), self.claims(client))
    }

    /// Posts a form with an assertion.
    pub(crate) async fn post(&self, path: &str, assertion: &str, with: &[(&str, &str)]) -> Answer {
        let shown = [("client_assertion", assertion), (ASSERTION_TYPE, JWT_BEARER)];
        let form = encode(&[&shown[..], with].concat());
        self.server.send(path, &[], form, "application/x-www-form-urlencoded").await
    }

    /// A good root exchange with this assertion.
    pub(crate) async fn exchange(&self, assertion: &str) -> Answer {
        self.exchange_with(assertion, &[]).await
    }

    /// The same with parameters added or replaced.
    pub(crate) async fn exchange_with(&self, assertion: &str, with: &[(&str, &str)]) -> Answer {
        let session = self.server.session(json!({}));
        let base = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", session.as_str()),
            ("subject_token_type", ACCESS_TOKEN),
        ];
        let kept = base.into_iter().chain(Self::ROOT).filter(|(key, _)| !with.iter().any(|(k, _)| k == key));
        let form: Vec<(&str, &str)> = kept.chain(with.iter().copied()).collect();
        self.post("/oauth/token", assertion, &form).await
    }

    /// A root exchange by `client`.
    pub(crate) async fn root(&self, client: &str) -> Answer {
        self.exchange(&self.assertion(client)).await
    }
}
