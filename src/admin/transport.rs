//! How a call reaches a server's admin API: over its Unix socket or over HTTPS; and where tokens and secrets may be sent at all.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::UnixStream;

use super::api::MAX_BODY;
use super::authorities::Authorities;
use super::socket::{SocketFault, check_length};
use crate::domain::ids::shown;
use crate::domain::request::Presented;

/// What is wrong with a URL that is not [`safe_url`], and what mends it.
pub const UNSAFE: &str =
    "is neither https nor http on loopback, and nothing is sent there: give its https URL";

/// How long the server may take.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Why the server's answer is not known.
#[derive(Debug, Error)]
pub enum TransportFault {
    /// The socket cannot be used.
    #[error(transparent)]
    Socket(#[from] SocketFault),
    /// The server went away or does not speak HTTP.
    #[error("the server did not answer: {0}")]
    Http(#[from] hyper::Error),
    /// The server took too long.
    #[error("the server did not answer within {} s", TIMEOUT.as_secs())]
    Slow,
    /// The server cannot be reached, or nobody vouches for it.
    #[error("cannot reach {url}: {why}")]
    Unreachable {
        /// Its URL.
        url: String,
        /// Why.
        why: String,
    },
    /// A URL that tokens are not sent to.
    #[error("`{0}` {UNSAFE}")]
    Url(String),
    /// The answer is not one of ours.
    #[error("the server's answer (status {0}) is not understood: is it of the same version?")]
    Answer(u16),
}

/// The way to one server.
#[derive(Clone)]
pub struct Transport(At);

#[derive(Clone)]
enum At {
    Socket(PathBuf),
    Https(Remote),
}

/// A server on another machine, and the token for it.
#[derive(Clone)]
struct Remote {
    url: String,
    token: Presented,
    http: reqwest::Client,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            At::Socket(path) => write!(f, "Transport({})", path.display()),
            At::Https(remote) => write!(f, "Transport({})", remote.url),
        }
    }
}

impl Transport {
    /// To the server at `url`, without a trailing slash, to which `token` opens the admin API, and whose certificate may be of `more`
    /// authorities. Redirects are not followed, and the token goes to https, or to this machine.
    pub fn https(url: &str, token: Presented, more: &Authorities) -> Result<Self, TransportFault> {
        safe_url(url)?;
        let http = client(TIMEOUT, more).map_err(|error| unreachable(url, &error))?;
        Ok(Self(At::Https(Remote { url: url.to_owned(), token, http })))
    }

    /// To the server on the socket at `path`; none if no server runs there.
    pub async fn socket(path: &Path) -> Result<Option<Self>, TransportFault> {
        let transport = Self(At::Socket(path.to_owned()));
        match connect(path).await {
            Ok(_) => Ok(Some(transport)),
            Err(SocketFault::Io { why, .. }) if is_nobody(&why) => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }

    /// The server's URL; none where it is reached by its socket.
    pub fn url(&self) -> Option<&str> {
        match &self.0 {
            At::Https(remote) => Some(&remote.url),
            At::Socket(_) => None,
        }
    }

    /// Sends a request, and waits for its answer.
    pub async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), TransportFault> {
        let exchange = async {
            match &self.0 {
                At::Socket(socket) => over_socket(socket, method, path, body).await,
                At::Https(remote) => remote.exchange(method, path, body).await,
            }
        };
        tokio::time::timeout(TIMEOUT, exchange).await.map_err(|_| TransportFault::Slow)?
    }
}

impl Remote {
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), TransportFault> {
        let url = format!("{}{path}", self.url);
        let request = self.http.request(method, &url).bearer_auth(self.token.compact());
        let request = request.header("content-type", "application/json").body(body);
        let answer = request.send().await.map_err(|error| unreachable(&self.url, &error))?;
        let status = answer.status();
        match body_of(answer).await {
            Ok(body) => Ok((status, body.into())),
            Err(Unread::TooLong) => Err(TransportFault::Answer(status.as_u16())),
            Err(Unread::Broken(error)) => Err(unreachable(&self.url, &error)),
        }
    }
}

/// Why the body of an answer is not known.
#[derive(Debug, Error)]
pub enum Unread {
    /// It is longer than any answer of ours.
    #[error("the answer has more than {MAX_BODY} bytes")]
    TooLong,
    /// The connection broke.
    #[error("{}", innermost(.0))]
    Broken(reqwest::Error),
}

/// The body of an answer, which a server cannot make longer than [`MAX_BODY`].
pub async fn body_of(mut answer: reqwest::Response) -> Result<Vec<u8>, Unread> {
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(Unread::Broken)? {
        if body.len() + piece.len() > MAX_BODY {
            return Err(Unread::TooLong);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// A client that trusts the public certificate authorities and `more`, and waits for an answer no longer than `patience`. Redirects
/// are not followed: a secret goes where its owner sent it, and nowhere else.
pub fn client(patience: Duration, more: &Authorities) -> Result<reqwest::Client, reqwest::Error> {
    // No effect if another caller has installed a provider first.
    rustls::crypto::ring::default_provider().install_default().ok();
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(patience)
        .user_agent(concat!("taskgrant/", env!("CARGO_PKG_VERSION")));
    more.trusted_by(client).build()
}

/// `url`, if tokens and secrets may be sent there: to https, or to http on loopback. The one check of all commands that
/// administer from elsewhere.
pub fn safe_url(url: &str) -> Result<reqwest::Url, TransportFault> {
    let parsed = reqwest::Url::parse(url).map_err(|_| TransportFault::Url(shown(url)))?;
    let host = parsed.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let own = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if parsed.scheme() != "https" && !(parsed.scheme() == "http" && own) {
        return Err(TransportFault::Url(shown(url)));
    }
    Ok(parsed)
}

async fn over_socket(
    socket: &Path,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<(StatusCode, Bytes), TransportFault> {
    let stream = connect(socket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert("host", hyper::header::HeaderValue::from_static("localhost"));
    headers.insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let unread = |_| TransportFault::Answer(status.as_u16());
    let body = Limited::new(answer.into_body(), MAX_BODY).collect().await.map_err(unread)?;
    connection.abort();
    Ok((status, body.to_bytes()))
}

async fn connect(path: &Path) -> Result<UnixStream, SocketFault> {
    check_length(path)?;
    let failed = |why| SocketFault::Io { path: path.to_owned(), why };
    UnixStream::connect(path).await.map_err(failed)
}

fn unreachable(url: &str, error: &dyn std::error::Error) -> TransportFault {
    TransportFault::Unreachable { url: url.to_owned(), why: innermost(error) }
}

/// The innermost cause: the outer ones only say that sending failed.
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// No socket, or a left-over on which nobody answers.
fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
