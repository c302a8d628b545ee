//! The HTTP client of the commands that call a server: forms out, JSON back.

use std::time::Duration;

use openidconnect::url::form_urlencoded;
use openidconnect::{HttpRequest, HttpResponse};
use serde_json::Value;
use thiserror::Error;

use crate::admin::authorities::Authorities;
use crate::admin::transport::{UNSAFE, Unread, body_of, client, innermost, safe_url};
use crate::domain::ids::{shown, shown_up_to};

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Longest URL that is told, in characters: another server may have named it.
const LONGEST_URL: usize = 300;

/// A client. Redirects are not followed: a secret goes where its owner sent it, and nowhere else.
#[derive(Clone)]
pub struct Http {
    client: reqwest::Client,
    /// Whether it asks nobody in plain HTTP, but on loopback.
    safe: bool,
}

/// A client's id and secret.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// Client id.
    pub id: &'a str,
    /// Client secret.
    pub secret: &'a str,
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body as JSON; null when it is none.
    pub body: Value,
}

/// Why there is no answer.
#[derive(Debug, Error)]
#[error("cannot reach {url}: {why}")]
pub struct Unreachable {
    url: String,
    why: String,
}

impl Answer {
    /// A text member of the body.
    pub fn text(&self, member: &str) -> Option<&str> {
        self.body.get(member).and_then(Value::as_str)
    }
}

impl Http {
    /// A client that trusts the public certificate authorities, and speaks plain HTTP too where a URL says so.
    pub fn new() -> Result<Self, Unreachable> {
        Self::build(&Authorities::default(), false)
    }

    /// The same, for what administers: it trusts `more` authorities; and every URL that is not https, nor http on loopback, is refused before anything is sent to it,
    /// whoever has named it.
    pub fn safe(more: &Authorities) -> Result<Self, Unreachable> {
        Self::build(more, true)
    }

    fn build(more: &Authorities, safe: bool) -> Result<Self, Unreachable> {
        let client = client(TIMEOUT, more).map_err(|error| unreachable("the network", &error))?;
        Ok(Self { client, safe })
    }

    fn check(&self, url: &str) -> Result<(), Unreachable> {
        if self.safe && safe_url(url).is_err() {
            return Err(Unreachable { url: shown(url), why: format!("it {UNSAFE}") });
        }
        Ok(())
    }

    /// `GET url`.
    pub async fn get(&self, url: &str) -> Result<Answer, Unreachable> {
        self.check(url)?;
        answer(url, self.client.get(url)).await
    }

    /// Sends a request of `openidconnect` as it is.
    pub async fn send(&self, request: HttpRequest) -> Result<HttpResponse, Unreachable> {
        let url = request.uri().to_string();
        self.check(&url)?;
        let (head, body) = request.into_parts();
        let sent = self.client.request(head.method, &url).headers(head.headers).body(body).send().await;
        let answer = sent.map_err(|error| unreachable(&url, &error))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = body_of(answer).await.map_err(|why| why.at(&url))?;
        let mut response = HttpResponse::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// `POST url` with a form, and client authentication by `client_secret_basic` if `client` is given.
    pub async fn post<K: AsRef<str>, V: AsRef<str>>(
        &self,
        url: &str,
        client: Option<Credentials<'_>>,
        form: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Answer, Unreachable> {
        self.check(url)?;
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let mut request = self.client.post(url);
        if let Some(client) = client {
            // Both parts are form-encoded before they are joined (RFC 6749 §2.3.1).
            request = request.basic_auth(encoded(client.id), Some(encoded(client.secret)));
        }
        let media_type = "application/x-www-form-urlencoded";
        answer(url, request.header(reqwest::header::CONTENT_TYPE, media_type).body(body)).await
    }
}

async fn answer(url: &str, request: reqwest::RequestBuilder) -> Result<Answer, Unreachable> {
    let response = request.send().await.map_err(|error| unreachable(url, &error))?;
    let status = response.status().as_u16();
    let body = body_of(response).await.map_err(|why| why.at(url))?;
    Ok(Answer { status, body: serde_json::from_slice(&body).unwrap_or_default() })
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn unreachable(url: &str, error: &dyn std::error::Error) -> Unreachable {
    Unreachable { url: shown_up_to(url, LONGEST_URL), why: innermost(error) }
}

impl Unread {
    fn at(self, url: &str) -> Unreachable {
        Unreachable { url: shown_up_to(url, LONGEST_URL), why: self.to_string() }
    }
}
