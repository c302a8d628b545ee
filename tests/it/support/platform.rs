//! A server with an admin API over HTTPS, administrators, and a console to sign in through.

use serde_json::{Value, json};

use super::idp::bend;
use super::process::free_port;
use super::server::{Answer, Server, answer_of, http, secret, sha256};

/// Client id of the console.
pub(crate) const CONSOLE: &str = "admin-console";
/// The upstream client that admins sign in with.
pub(crate) const CLI: &str = "admin-cli";

/// A server with an admin API over HTTP on loopback.
pub(crate) struct Platform {
    pub(crate) server: Server,
    /// Where the admin API is.
    pub(crate) url: String,
    http: reqwest::Client,
    toml: String,
}

impl Platform {
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    pub(crate) async fn start_with(toml: &str) -> Self {
        Self::start_as(toml, "").await
    }

    /// With more lines in `[admin]`.
    pub(crate) async fn start_as(toml: &str, admin: &str) -> Self {
        let port = free_port();
        let toml = format!("{toml}\n[admin]\nlisten = '127.0.0.1:{port}'\n{admin}");
        let server = Server::start_with(&toml).await;
        let this = Self { server, url: format!("http://127.0.0.1:{port}"), http: http(), toml };
        this.server.apply(&this.admins()).await.unwrap();
        this.up().await
    }

    /// The same server on the same data, stopped and started again.
    pub(crate) async fn restart(self) -> Self {
        let server = self.server.restart_with(&self.toml).await;
        Self { server, http: http(), ..self }.up().await
    }

    async fn up(self) -> Self {
        while self.http.get(&self.url).send().await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        self
    }

    pub(crate) fn admins(&self) -> String {
        let (issuer, hash) = (&self.server.idp.issuer, sha256(&secret(CONSOLE)));
        let head = "owner: group:platform\n  contact: platform@acme.example";
        format!(
            "kind: Agent\ntenant: system\nname: console\nspec:\n  client_id: {CONSOLE}\n  class: taskgrant:console\n  {head}\n  \
             auth: {{secret_sha256: [{hash}]}}\n  upstream_clients: [{{issuer: {issuer}, client: {CLI}}}]\n\
             ---\nkind: Administrator\ntenant: system\nname: root\nspec:\n  {head}\n  issuer: {issuer}\n  \
             subject: root\n  roles: [admin, approve, audit]\n\
             ---\nkind: Administrator\ntenant: system\nname: leads\nspec:\n  {head}\n  issuer: {issuer}\n  \
             group: support-leads\n  session_tenant: acme\n  roles: [approve]\n"
        )
    }

    /// A session of `root` through the client of the console, of a login just now, with members replaced.
    pub(crate) fn session(&self, with: Value) -> String {
        let base = json!({
            "sub": "root", "client_id": CLI, "azp": CLI, "sid": "sid-root", "auth_time": self.server.now(),
        });
        self.server.idp.sign("at+jwt", &bend(bend(self.server.session_claims(), base), with))
    }

    pub(crate) async fn exchange(&self, role: &str, session: &str) -> Answer {
        let task_type = format!("taskgrant.{role}");
        self.server.exchange(CONSOLE, session, &[("task_type", &task_type)]).await
    }

    pub(crate) async fn login(&self, role: &str) -> String {
        self.exchange(role, &self.session(json!({}))).await.token()
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.header("content-type", "application/json").body(body.to_string());
        answer_of(request.send().await.unwrap()).await
    }

    pub(crate) async fn call(&self, token: &str, method: &str, path: &str, body: &Value) -> Answer {
        self.send(method, path, &[("authorization", &format!("Bearer {token}"))], body).await
    }

    pub(crate) async fn get(&self, token: &str, path: &str) -> Answer {
        self.call(token, "GET", path, &Value::Null).await
    }
}
