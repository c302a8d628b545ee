//! Outbound HTTP with a guard against server-side request forgery [T37, JW-03]: the only door to the network.
//!
//! An address is judged when the connection is made, not when the URL is read: between the two a name may change its
//! mind (DNS rebinding). Redirects are refused, so the URL that was judged is the URL that is fetched.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use openidconnect::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, DATE, HeaderName};
use openidconnect::url::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;

use super::address::is_public;
use crate::domain::ids::shown;

/// Longest answer read, in bytes; what the peer says in `Content-Length` does not count.
pub const MAX_BODY: usize = 1024 * 1024;

/// Longest wait for a whole answer.
pub const TOTAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for a connection, the name's resolution included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Where outbound requests may go besides public addresses by https.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboundPolicy {
    /// Hosts and addresses, as they stand in a URL, that may be private: an identity provider in the own network.
    pub allow_private: Vec<String>,
    /// Whether `localhost` and literal loopback addresses may be reached, also by plain http. For `dev` only.
    pub allow_http_loopback: bool,
}

/// Why nothing was fetched.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FetchFault {
    /// Not an absolute URL, or one with a user name in it.
    #[error("`{0}` is not an absolute https URL without user name and password")]
    BadUrl(String),
    /// Not https.
    #[error("`{0}` is not https")]
    NotHttps(String),
    /// The host is, or resolves to, an address that is not public.
    #[error("`{0}` is not at a public address; list it under `allow_private` if it is meant to be reached")]
    NotPublic(String),
    /// The host has no address.
    #[error("`{0}` does not resolve")]
    Unresolved(String),
    /// No connection, or none that TLS trusts; the innermost cause.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// Too slow.
    #[error("no connection within {} s, or no complete answer within {} s", CONNECT_TIMEOUT.as_secs(), TOTAL_TIMEOUT.as_secs())]
    Timeout,
    /// The answer redirects; it is not followed.
    #[error("the answer is a redirect, which is not followed: configure the final URL")]
    Redirect,
    /// The answer is not 200.
    #[error("the answer has status {0}")]
    Status(u16),
    /// The answer is longer than [`MAX_BODY`].
    #[error("the answer is longer than {MAX_BODY} bytes")]
    TooLong,
    /// The connection broke within the answer.
    #[error("the answer broke off")]
    BrokenOff,
    /// The HTTP client could not be built.
    #[error("cannot set up the HTTP client: {0}")]
    Setup(String),
}

/// An answer with status 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The body, at most [`MAX_BODY`] bytes.
    pub body: Vec<u8>,
    /// `Content-Type`, if there is one in ASCII.
    pub content_type: Option<String>,
    /// `Cache-Control`, if there is one in ASCII.
    pub cache_control: Option<String>,
    /// `Date`, if there is one in ASCII: the peer's clock.
    pub date: Option<String>,
}

/// The guarded client. Cheap to clone.
#[derive(Clone)]
pub struct Outbound {
    client: reqwest::Client,
    guard: Arc<Guard>,
}

impl Outbound {
    /// A client that resolves names as the machine does.
    pub fn new(policy: OutboundPolicy) -> Result<Self, FetchFault> {
        Self::with_resolver(policy, Arc::new(SystemResolver))
    }

    pub(super) fn with_resolver(policy: OutboundPolicy, inner: Arc<dyn Resolve>) -> Result<Self, FetchFault> {
        // No effect if another caller has installed a provider first.
        rustls::crypto::ring::default_provider().install_default().ok();
        let guard = Arc::new(Guard { policy });
        let resolver = GuardedResolver { guard: guard.clone(), inner };
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(resolver))
            .https_only(!guard.policy.allow_http_loopback)
            .timeout(TOTAL_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            // A kept connection would outlive a change of the name's address, and of the policy.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("taskgrant/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| FetchFault::Setup(cause(&e)))?;
        Ok(Self { client, guard })
    }

    /// Fetches `url` as JSON.
    pub async fn get(&self, url: &str) -> Result<Fetched, FetchFault> {
        let url = self.guard.read(url)?;
        let request = self.client.get(url).header(ACCEPT, "application/json, application/jwk-set+json");
        let answer = request.send().await.map_err(|e| classify(&e))?;
        match answer.status().as_u16() {
            200 => read(answer).await,
            300..=399 => Err(FetchFault::Redirect),
            status => Err(FetchFault::Status(status)),
        }
    }
}

impl Outbound {
    /// Sends JSON to `url`; what is answered is not read, any 2xx is well.
    pub async fn post(
        &self,
        url: &str,
        headers: &[(&'static str, String)],
        body: &str,
    ) -> Result<(), FetchFault> {
        let url = self.guard.read(url)?;
        let request = self.client.post(url).header(CONTENT_TYPE, "application/json").body(body.to_owned());
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        match request.send().await.map_err(|e| classify(&e))?.status().as_u16() {
            200..=299 => Ok(()),
            300..=399 => Err(FetchFault::Redirect),
            status => Err(FetchFault::Status(status)),
        }
    }
}

/// Reads the body piece by piece, so that a peer cannot make us hold more than the cap.
async fn read(mut answer: reqwest::Response) -> Result<Fetched, FetchFault> {
    let header = |name: HeaderName| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
    let (content_type, cache_control, date) = (header(CONTENT_TYPE), header(CACHE_CONTROL), header(DATE));
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|e| classify(&e))? {
        if body.len() + piece.len() > MAX_BODY {
            return Err(FetchFault::TooLong);
        }
        body.extend_from_slice(&piece);
    }
    Ok(Fetched { body, content_type, cache_control, date })
}

/// The rules about URLs and addresses.
struct Guard {
    policy: OutboundPolicy,
}

impl Guard {
    /// Reads a URL and judges what can be judged without resolving its host. The parser has brought every spelling of
    /// an IPv4 address (decimal, hexadecimal, octal, short) to dotted form, which the resolver never sees.
    fn read(&self, text: &str) -> Result<Url, FetchFault> {
        let bad = || FetchFault::BadUrl(shown(text));
        let url = Url::parse(text).map_err(|_| bad())?;
        let host = url.host_str().filter(|h| !h.is_empty()).ok_or_else(bad)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FetchFault::BadUrl(format!("{}://...@{}", url.scheme(), shown(host))));
        }
        let plain_loopback =
            url.scheme() == "http" && self.policy.allow_http_loopback && is_loopback_host(host);
        if url.scheme() != "https" && !plain_loopback {
            return Err(FetchFault::NotHttps(shown(text)));
        }
        if let Some(address) = literal(host)
            && !self.permits(host, address)
        {
            return Err(FetchFault::NotPublic(shown(host)));
        }
        Ok(url)
    }

    /// Whether a connection to `host` may go to `address`.
    fn permits(&self, host: &str, address: IpAddr) -> bool {
        if self.policy.allow_http_loopback && is_loopback_host(host) {
            return address.is_loopback();
        }
        let named = |listed: &String| {
            same_host(listed, host) || listed.parse::<IpAddr>().is_ok_and(|listed| listed == address)
        };
        is_public(address) || self.policy.allow_private.iter().any(named)
    }
}

/// The address that a host of a parsed URL is; none for a name.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn same_host(one: &str, other: &str) -> bool {
    one.trim_end_matches('.').eq_ignore_ascii_case(other.trim_end_matches('.'))
}

fn is_loopback_host(host: &str) -> bool {
    same_host(host, "localhost") || literal(host).is_some_and(|address| address.is_loopback())
}

/// Resolves and lets only permitted addresses through. The connector asks it for every connection to a name.
struct GuardedResolver {
    guard: Arc<Guard>,
    inner: Arc<dyn Resolve>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let (guard, found) = (self.guard.clone(), self.inner.resolve(name));
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                found.await.map_err(|_| FetchFault::Unresolved(shown(&host)))?.collect();
            if found.is_empty() {
                return Err(FetchFault::Unresolved(shown(&host)).into());
            }
            let permitted: Vec<_> = found.into_iter().filter(|a| guard.permits(&host, a.ip())).collect();
            if permitted.is_empty() {
                return Err(FetchFault::NotPublic(shown(&host)).into());
            }
            let addresses: Addrs = Box::new(permitted.into_iter());
            Ok(addresses)
        })
    }
}

/// The machine's resolver.
struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let addresses: Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}

/// A client error as one of ours: the guard's own verdict travels inside it.
fn classify(error: &reqwest::Error) -> FetchFault {
    if let Some(verdict) = sources(error).find_map(|e| e.downcast_ref::<FetchFault>()) {
        return verdict.clone();
    }
    if error.is_timeout() {
        FetchFault::Timeout
    } else if error.is_connect() {
        FetchFault::Connect(cause(error))
    } else {
        FetchFault::BrokenOff
    }
}

/// The innermost cause, masked: the outer ones only repeat the URL.
fn cause(error: &reqwest::Error) -> String {
    sources(error).last().map_or_else(String::new, |e| shown(&e.to_string()))
}

fn sources<'e>(error: &'e reqwest::Error) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    let first: &'e (dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |e| e.source())
}

#[cfg(test)]
#[path = "outbound_tests.rs"]
mod tests;
