//! A minimal client of the admin API, over the Unix socket or over HTTPS.

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
use openidconnect::url::form_urlencoded;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixStream;

use super::api::{AddSecret, ApplyRequest, ListedObject, MAX_BODY, Refused, RetireSecret, ServerStatus};
use super::approvals::CancelApproval;
use super::keys::{RetireRequest, StopRequest};
use super::policy::{ApplyPolicy, DropCandidate, LoadCandidate, PromoteCandidate, RollbackPolicy};
use super::proposals::{ConfirmProposal, Proposed, RejectProposal};
use super::revocations::{ListedRevocation, RevokeRequest};
use super::socket::{SocketFault, check_length};
use crate::approvals::view::ListedApproval;
use crate::approvals::{Answer, Ballot, Cast};
use crate::configuration::apply::Applied;
use crate::configuration::apply::bootstrap::{BootstrapRequest, Bootstrapped};
use crate::configuration::apply::candidate::{CanaryOrder, CandidateChanged};
use crate::configuration::apply::data::{DataChanged, DataStatus, DataVersion, ShownDocument};
use crate::configuration::apply::mode::{ModeChanged, ModeOrder};
use crate::configuration::apply::policy::{BundleFile, PolicyChanged, PolicyStatus};
use crate::configuration::apply::proposals::{ListedProposal, ProposalSettled};
use crate::configuration::apply::secrets::{Added, Retired as RetiredSecret};
use crate::domain::ids::{ProposalId, shown};
use crate::domain::request::Presented;
use crate::lockdown::{LockdownRequest, LockdownState};
use crate::policy::data::DataPath;
use crate::revocation::order::Revoked;
use crate::rotation::{KeyInfo, Retired, Rotated, Stopped};
use crate::tasks::tree::TaskView;

/// What is wrong with a URL that is not [`safe_url`], and what mends it.
pub const UNSAFE: &str =
    "is neither https nor http on loopback, and nothing is sent there: give its https URL";

/// How long the server may take.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Why the server's answer is not known.
#[derive(Debug, Error)]
pub enum ClientFault {
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
    /// Nothing is done yet: it takes a second person.
    #[error("nothing is done yet: the proposal {} waits for a second person", .0.proposal.id)]
    Waits(Box<Waiting>),
    /// The answer is not one of ours.
    #[error("the server's answer (status {0}) is not understood: is it of the same version?")]
    Answer(u16),
}

/// A change that waits for a second person.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// What waits.
    pub proposal: ListedProposal,
    /// The admin API's URL; none where it was the socket.
    pub server: Option<String>,
}

/// The running server, as its admin API offers it.
#[derive(Clone)]
pub struct AdminClient(At);

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

impl fmt::Debug for AdminClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            At::Socket(path) => write!(f, "AdminClient({})", path.display()),
            At::Https(remote) => write!(f, "AdminClient({})", remote.url),
        }
    }
}

impl AdminClient {
    /// The server at `url`, without a trailing slash, to which `token` opens the admin API. Redirects are not followed, and the token goes
    /// to https, or to this machine.
    pub fn remote(url: &str, token: Presented) -> Result<Self, ClientFault> {
        // No effect if another caller has installed a provider first.
        rustls::crypto::ring::default_provider().install_default().ok();
        safe_url(url)?;
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(TIMEOUT)
            .user_agent(concat!("taskgrant/", env!("CARGO_PKG_VERSION")))
            .build();
        let http = http.map_err(|error| unreachable(url, &error))?;
        Ok(Self(At::Https(Remote { url: url.to_owned(), token, http })))
    }

    /// The server on the socket at `path`, or none if no server runs there.
    pub async fn find(path: &Path) -> Result<Option<Self>, ClientFault> {
        let client = Self(At::Socket(path.to_owned()));
        match connect(path).await {
            Ok(_) => Ok(Some(client)),
            Err(SocketFault::Io { why, .. }) if is_nobody(&why) => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }

    /// `POST /admin/v1/apply`.
    pub async fn apply(&self, request: &ApplyRequest) -> Result<Result<Applied, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/apply", Some(request)).await
    }

    /// `POST /admin/v1/agent-secrets/add`.
    pub async fn add_secret(&self, request: &AddSecret) -> Result<Result<Added, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/agent-secrets/add", Some(request)).await
    }

    /// `POST /admin/v1/agent-secrets/retire`.
    pub async fn retire_secret(
        &self,
        request: &RetireSecret,
    ) -> Result<Result<RetiredSecret, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/agent-secrets/retire", Some(request)).await
    }

    /// `GET /admin/v1/objects`.
    pub async fn objects(&self) -> Result<Result<Vec<ListedObject>, Refused>, ClientFault> {
        self.call(Method::GET, "/admin/v1/objects", None::<&()>).await
    }

    /// `GET /admin/v1/keys`.
    pub async fn keys(&self) -> Result<Result<Vec<KeyInfo>, Refused>, ClientFault> {
        self.call(Method::GET, "/admin/v1/keys", None::<&()>).await
    }

    /// `POST /admin/v1/keys/rotate`.
    pub async fn rotate_keys(&self) -> Result<Result<Rotated, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/keys/rotate", None::<&()>).await
    }

    /// `POST /admin/v1/keys/stop`.
    pub async fn stop_keys(&self, request: &StopRequest) -> Result<Result<Stopped, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/keys/stop", Some(request)).await
    }

    /// `POST /admin/v1/keys/retire`.
    pub async fn retire_keys(
        &self,
        request: &RetireRequest,
    ) -> Result<Result<Retired, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/keys/retire", Some(request)).await
    }

    /// `POST /admin/v1/keys/reload`.
    pub async fn reload_keys(&self) -> Result<Result<Vec<KeyInfo>, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/keys/reload", None::<&()>).await
    }

    /// `GET /admin/v1/status`.
    pub async fn status(&self) -> Result<Result<ServerStatus, Refused>, ClientFault> {
        self.call(Method::GET, "/admin/v1/status", None::<&()>).await
    }

    /// `GET /admin/v1/policy`.
    pub async fn policy(&self) -> Result<Result<PolicyStatus, Refused>, ClientFault> {
        self.call(Method::GET, "/admin/v1/policy", None::<&()>).await
    }

    /// `POST /admin/v1/policy/reload`.
    pub async fn reload_policy(&self) -> Result<Result<PolicyChanged, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/policy/reload", None::<&()>).await
    }

    /// `POST /admin/v1/policy/apply`.
    pub async fn apply_policy(
        &self,
        request: &ApplyPolicy,
    ) -> Result<Result<PolicyChanged, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/policy/apply", Some(request)).await
    }

    /// `POST /admin/v1/policy/rollback`.
    pub async fn roll_back_policy(
        &self,
        request: &RollbackPolicy,
    ) -> Result<Result<PolicyChanged, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/policy/rollback", Some(request)).await
    }

    /// `POST /admin/v1/policy/candidate`.
    pub async fn load_candidate(
        &self,
        request: &LoadCandidate,
    ) -> Result<Result<CandidateChanged, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/policy/candidate", Some(request)).await
    }

    /// `POST /admin/v1/policy/candidate/drop`.
    pub async fn drop_candidate(
        &self,
        request: &DropCandidate,
    ) -> Result<Result<CandidateChanged, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/policy/candidate/drop", Some(request)).await
    }

    /// `POST /admin/v1/policy/canary`.
    pub async fn set_canary(
        &self,
        request: &CanaryOrder,
    ) -> Result<Result<CandidateChanged, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/policy/canary", Some(request)).await
    }

    /// `POST /admin/v1/policy/promote`.
    pub async fn promote_candidate(
        &self,
        request: &PromoteCandidate,
    ) -> Result<Result<PolicyChanged, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/policy/promote", Some(request)).await
    }

    /// `POST /admin/v1/policy/mode`.
    pub async fn set_policy_mode(
        &self,
        request: &ModeOrder,
    ) -> Result<Result<ModeChanged, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/policy/mode", Some(request)).await
    }

    /// `GET /admin/v1/policy/bundles/{version}`; `version` must be fit for a path.
    pub async fn policy_files(&self, version: &str) -> Result<Result<Vec<BundleFile>, Refused>, ClientFault> {
        self.call(Method::GET, &format!("/admin/v1/policy/bundles/{version}"), None::<&()>).await
    }

    /// `GET /admin/v1/data`.
    pub async fn data(&self) -> Result<Result<DataStatus, Refused>, ClientFault> {
        self.call(Method::GET, "/admin/v1/data", None::<&()>).await
    }

    /// `GET /admin/v1/data/{document}`.
    pub async fn show_data(
        &self,
        path: &DataPath,
        version: Option<&str>,
    ) -> Result<Result<ShownDocument, Refused>, ClientFault> {
        self.call(Method::GET, &data_target(path, ("version", version)), None::<&()>).await
    }

    /// `GET /admin/v1/data/{document}/versions`.
    pub async fn data_versions(
        &self,
        path: &DataPath,
    ) -> Result<Result<Vec<DataVersion>, Refused>, ClientFault> {
        self.call(Method::GET, &format!("/admin/v1/data/{path}/versions"), None::<&()>).await
    }

    /// `PUT /admin/v1/data/{document}`.
    pub async fn put_data(
        &self,
        path: &DataPath,
        document: Vec<u8>,
        reason: Option<&str>,
    ) -> Result<Result<DataChanged, Refused>, ClientFault> {
        self.send(Method::PUT, &data_target(path, ("reason", reason)), document).await
    }

    /// `DELETE /admin/v1/data/{document}`.
    pub async fn drop_data(
        &self,
        path: &DataPath,
        reason: Option<&str>,
    ) -> Result<Result<DataChanged, Refused>, ClientFault> {
        self.call(Method::DELETE, &data_target(path, ("reason", reason)), None::<&()>).await
    }

    /// `POST /admin/v1/revocations`.
    pub async fn revoke(&self, request: &RevokeRequest) -> Result<Result<Revoked, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/revocations", Some(request)).await
    }

    /// `GET /admin/v1/revocations`.
    pub async fn revocations(&self) -> Result<Result<Vec<ListedRevocation>, Refused>, ClientFault> {
        self.call(Method::GET, "/admin/v1/revocations", None::<&()>).await
    }

    /// `POST /admin/v1/lockdown`.
    pub async fn lock_down(
        &self,
        request: &LockdownRequest,
    ) -> Result<Result<LockdownState, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/lockdown", Some(request)).await
    }

    /// `GET /admin/v1/lockdown`.
    pub async fn lockdown(&self) -> Result<Result<LockdownState, Refused>, ClientFault> {
        self.call(Method::GET, "/admin/v1/lockdown", None::<&()>).await
    }

    /// `GET /admin/v1/tasks/{id}`; `id` must be fit for a path.
    pub async fn task(&self, id: &str) -> Result<Result<TaskView, Refused>, ClientFault> {
        self.call(Method::GET, &format!("/admin/v1/tasks/{id}"), None::<&()>).await
    }

    /// `GET /admin/v1/approvals`.
    pub async fn approvals(&self, all: bool) -> Result<Result<Vec<ListedApproval>, Refused>, ClientFault> {
        self.call(Method::GET, &format!("/admin/v1/approvals?all={all}"), None::<&()>).await
    }

    /// `GET /admin/v1/approvals/{id}`; `id` must be fit for a path.
    pub async fn approval(&self, id: &str) -> Result<Result<ListedApproval, Refused>, ClientFault> {
        self.call(Method::GET, &format!("/admin/v1/approvals/{id}"), None::<&()>).await
    }

    /// `POST /admin/v1/approvals/{id}/approve` or `…/deny`; `id` must be fit for a path.
    pub async fn vote(&self, id: &str, ballot: &Ballot) -> Result<Result<Cast, Refused>, ClientFault> {
        let verb = if ballot.approves { "approve" } else { "deny" };
        self.call(Method::POST, &format!("/admin/v1/approvals/{id}/{verb}"), Some(ballot)).await
    }

    /// The same over HTTPS, where the token says who answers.
    pub async fn answer(&self, id: &str, answer: &Answer) -> Result<Result<Cast, Refused>, ClientFault> {
        let verb = if answer.approves { "approve" } else { "deny" };
        self.call(Method::POST, &format!("/admin/v1/approvals/{id}/{verb}"), Some(answer)).await
    }

    /// `GET /admin/v1/proposals`.
    pub async fn proposals(&self, all: bool) -> Result<Result<Vec<ListedProposal>, Refused>, ClientFault> {
        self.call(Method::GET, &format!("/admin/v1/proposals?all={all}"), None::<&()>).await
    }

    /// `GET /admin/v1/proposals/{id}`.
    pub async fn proposal(&self, id: ProposalId) -> Result<Result<ListedProposal, Refused>, ClientFault> {
        self.call(Method::GET, &format!("/admin/v1/proposals/{id}"), None::<&()>).await
    }

    /// `POST /admin/v1/proposals/{id}/confirm`.
    pub async fn confirm_proposal(
        &self,
        id: ProposalId,
        request: &ConfirmProposal,
    ) -> Result<Result<ProposalSettled, Refused>, ClientFault> {
        self.call(Method::POST, &format!("/admin/v1/proposals/{id}/confirm"), Some(request)).await
    }

    /// `POST /admin/v1/proposals/{id}/reject`.
    pub async fn reject_proposal(
        &self,
        id: ProposalId,
        request: &RejectProposal,
    ) -> Result<Result<ProposalSettled, Refused>, ClientFault> {
        self.call(Method::POST, &format!("/admin/v1/proposals/{id}/reject"), Some(request)).await
    }

    /// `POST /admin/v1/bootstrap-admin`, on the socket only.
    pub async fn bootstrap_admin(
        &self,
        request: &BootstrapRequest,
    ) -> Result<Result<Bootstrapped, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/bootstrap-admin", Some(request)).await
    }

    /// `POST /admin/v1/approvals/{id}/cancel`; `id` must be fit for a path.
    pub async fn cancel_approval(
        &self,
        id: &str,
        request: &CancelApproval,
    ) -> Result<Result<Cast, Refused>, ClientFault> {
        self.call(Method::POST, &format!("/admin/v1/approvals/{id}/cancel"), Some(request)).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Result<T, Refused>, ClientFault> {
        // Texts, flags and lists of them: writing these to memory cannot fail.
        let body = body.and_then(|b| serde_json::to_vec(b).ok()).unwrap_or_default();
        self.send(method, path, body).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Result<T, Refused>, ClientFault> {
        let exchange = self.exchange(method, path, body);
        let (status, body) =
            tokio::time::timeout(TIMEOUT, exchange).await.map_err(|_| ClientFault::Slow)??;
        let foreign = |_| ClientFault::Answer(status.as_u16());
        if status == StatusCode::ACCEPTED {
            let Proposed { proposal } = serde_json::from_slice(&body).map_err(foreign)?;
            return Err(ClientFault::Waits(Box::new(Waiting { proposal, server: self.url() })));
        }
        if status == StatusCode::OK {
            serde_json::from_slice(&body).map(Ok).map_err(foreign)
        } else {
            serde_json::from_slice(&body).map(Err).map_err(foreign)
        }
    }

    fn url(&self) -> Option<String> {
        match &self.0 {
            At::Https(remote) => Some(remote.url.clone()),
            At::Socket(_) => None,
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), ClientFault> {
        match &self.0 {
            At::Socket(socket) => over_socket(socket, method, path, body).await,
            At::Https(remote) => remote.exchange(method, path, body).await,
        }
    }
}

impl Remote {
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), ClientFault> {
        let url = format!("{}{path}", self.url);
        let request = self.http.request(method, &url).bearer_auth(self.token.compact());
        let request = request.header("content-type", "application/json").body(body);
        let answer = request.send().await.map_err(|error| unreachable(&self.url, &error))?;
        let status = answer.status();
        match body_of(answer).await {
            Ok(body) => Ok((status, body.into())),
            Err(Unread::TooLong) => Err(ClientFault::Answer(status.as_u16())),
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

/// `url`, if tokens and secrets may be sent there: to https, or to http on loopback. The one check of all commands that
/// administer from elsewhere.
pub fn safe_url(url: &str) -> Result<reqwest::Url, ClientFault> {
    let parsed = reqwest::Url::parse(url).map_err(|_| ClientFault::Url(shown(url)))?;
    let host = parsed.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let own = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if parsed.scheme() != "https" && !(parsed.scheme() == "http" && own) {
        return Err(ClientFault::Url(shown(url)));
    }
    Ok(parsed)
}

async fn over_socket(
    socket: &Path,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<(StatusCode, Bytes), ClientFault> {
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
    let unread = |_| ClientFault::Answer(status.as_u16());
    let body = Limited::new(answer.into_body(), MAX_BODY).collect().await.map_err(unread)?;
    connection.abort();
    Ok((status, body.to_bytes()))
}

async fn connect(path: &Path) -> Result<UnixStream, SocketFault> {
    check_length(path)?;
    let failed = |why| SocketFault::Io { path: path.to_owned(), why };
    UnixStream::connect(path).await.map_err(failed)
}

fn unreachable(url: &str, error: &dyn std::error::Error) -> ClientFault {
    ClientFault::Unreachable { url: url.to_owned(), why: innermost(error) }
}

/// The innermost cause: the outer ones only say that sending failed.
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// A document's path with one parameter.
fn data_target(path: &DataPath, (name, value): (&str, Option<&str>)) -> String {
    let Some(value) = value else { return format!("/admin/v1/data/{path}") };
    let value: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
    format!("/admin/v1/data/{path}?{name}={value}")
}

/// No socket, or a left-over on which nobody answers.
fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
