//! What every benchmark needs: a trusted issuer, objects, distinct session tokens, requests.

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use serde_json::json;
use taskgrant::clock::{Clock as _, SystemClock};
use taskgrant::configuration::documents::Source;
use taskgrant::domain::objects::SecretHash;
use taskgrant::keys::keyring::KeyRing;
use taskgrant::keys::signing::KeySpec;
use tokio::net::TcpListener;

/// A benchmark stops at the first surprise.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The agent and its secret.
pub(crate) const AGENT: &str = "support-agent";
pub(crate) const SECRET: &str = "tgs_benchmark-secret-that-only-loopback-sees";
/// The resource that tokens are for.
pub(crate) const RESOURCE: &str = "https://orders.acme.example/api";

/// What is asked for, and of what type the tokens are (RFC 8693 §2.1, §3).
pub(crate) const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub(crate) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// A trusted issuer on loopback.
pub(crate) struct Idp {
    pub(crate) issuer: String,
    pub(crate) keys: Arc<KeyRing>,
}

impl Idp {
    pub(crate) async fn start() -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let issuer = format!("http://{}", listener.local_addr()?);
        let keys = Arc::new(KeyRing::ephemeral(KeySpec::Es256, SystemRandom::new())?);
        let document = json!({
            "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/jwks"),
            "response_types_supported": ["code"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        });
        let jwks = keys.jwks().clone();
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(move || async move { Json(document) }))
            .route("/jwks", get(move || async move { Json(jwks) }));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { issuer, keys })
    }

    /// `count` bodies of root exchanges at `own`, each with a session token of its own.
    pub(crate) fn requests(&self, own: &str, count: usize) -> Outcome<Vec<String>> {
        let body = |n: usize| {
            Ok(form(&[
                ("grant_type", EXCHANGE),
                ("subject_token", &self.session(own, n)?),
                ("subject_token_type", ACCESS_TOKEN),
                ("task_type", "refund_order"),
                ("resource", RESOURCE),
                ("scope", "orders:read refunds:write"),
            ]))
        };
        (0..count).map(body).collect()
    }

    /// Session token number `n` for `own`.
    pub(crate) fn session(&self, own: &str, n: usize) -> Outcome<String> {
        let now = SystemClock.now().timestamp();
        let claims = json!({
            "iss": self.issuer, "sub": format!("user-{}", n % 1000), "aud": own, "client_id": "console",
            "azp": "console", "sid": format!("session-{n}"), "auth_time": now - 60, "iat": now, "exp": now + 3600,
            "org_id": "acme", "groups": ["support", "payments", "oncall"], "email": "alice@acme.example",
            "acr": "aal2", "amr": ["pwd", "otp"], "jti": format!("{n:032x}"),
        });
        Ok(self.keys.sign("at+jwt", &claims)?)
    }
}

/// The value of the `Authorization` header of every request.
pub(crate) fn authorization() -> String {
    authorization_of(AGENT)
}

/// That of another agent; all have one secret.
pub(crate) fn authorization_of(agent: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{agent}:{SECRET}")))
}

/// SHA-256 of the agent's secret.
pub(crate) fn secret_sha256() -> [u8; 32] {
    digest(&SHA256, SECRET.as_bytes()).as_ref().try_into().unwrap_or_default()
}

/// Form-encodes pairs.
pub(crate) fn form(pairs: &[(&str, &str)]) -> String {
    let text = |text: &str| {
        text.bytes().fold(String::new(), |mut out, b| {
            if b.is_ascii_alphanumeric() || b"-._".contains(&b) {
                out.push(char::from(b));
            } else {
                let _ = write!(out, "%{b:02X}");
            }
            out
        })
    };
    pairs.iter().map(|(k, v)| format!("{k}={}", text(v))).collect::<Vec<_>>().join("&")
}

/// A configuration for `own` on `listen`, with the signature cache off and nothing logged for each token.
pub(crate) fn toml(own: &str, listen: &str, data: &str) -> String {
    format!(
        "public_url = '{own}'\nlisten = '{listen}'\ndata = '{data}'\n[cache]\nverified_tokens = 0\n\
         [log]\nlevel = 'warn'\n[outbound]\nallow_http_loopback = true\n"
    )
}

/// Objects of one tenant with `task_types` task types; agents use `refund_order`.
pub(crate) fn objects(idp: &str, own: &str, task_types: usize) -> Vec<Source> {
    let base = format!(
        "kind: Tenant\ntenant: acme\nname: acme\nspec: {{labels: {{tier: gold}}}}\n---\n\
         kind: TrustedIssuer\ntenant: system\nname: idp\nspec:\n  issuer: {idp}\n  tenant_claim: org_id\n  \
         accept: [{{type: access_token, audience: '{own}', typ: [at+jwt]}}]\n  facts: [email]\n  entitlements:\n    \
         - {{when: {{claim: groups, contains: support}}, scopes: [orders:read, refunds:write, mail:send]}}\n---\n\
         kind: Resource\ntenant: acme\nname: orders\nspec: {{uri: '{RESOURCE}', scopes: [orders:read, refunds:write]}}\n---\n{}",
        agent("support", AGENT, "support", idp)
    );
    let mut sources = vec![Source { file: "base.yaml".to_owned(), text: base }];
    // A file may have at most 1 MiB.
    for from in (0..task_types).step_by(1000) {
        let types = (from..task_types.min(from + 1000)).map(task_type);
        let text = types.collect::<Vec<_>>().join("---\n");
        sources.push(Source { file: format!("task-types-{from}.yaml"), text });
    }
    sources
}

/// An agent of this class, which may spend sessions of the client `console`.
pub(crate) fn agent(name: &str, client_id: &str, class: &str, idp: &str) -> String {
    let hash = String::from(SecretHash::new(secret_sha256()));
    format!(
        "kind: Agent\ntenant: acme\nname: {name}\nspec:\n  client_id: {client_id}\n  class: {class}\n  \
         owner: group:support\n  contact: support@acme.example\n  auth: {{secret_sha256: [{hash}]}}\n  \
         upstream_clients: [{{issuer: '{idp}', client: console}}]\n"
    )
}

fn task_type(n: usize) -> String {
    let name = if n == 0 { "refund_order".to_owned() } else { format!("task_{n}") };
    format!(
        "kind: TaskType\ntenant: acme\nname: {name}\nspec:\n  description: Refund one order\n  owner: group:payments\n  \
         contact: payments@acme.example\n  review_by: 2099-01-01\n  labels: {{risk: medium}}\n  agents: [class:support]\n  \
         scopes: [orders:read, refunds:write]\n  default_scopes: [orders:read]\n  resources: [orders]\n  \
         lifetime: {{token: {{default: 180, max: 300}}, task: 3600}}\n"
    )
}

/// The middle value.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
