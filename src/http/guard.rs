//! What surrounds every request of the public listener, and of the admin API over HTTPS: its source's rate, its size, its time, and our own faults.

use std::net::{IpAddr, Ipv4Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::{Instant, timeout_at};
use tracing::error;

use super::error::OAuthError;
use super::link::Link;
use super::source::Forwarding;
use super::{HEALTHZ, MAX_BODY, READYZ};
use crate::limits::Limits;
use crate::metrics::Metrics;

/// What the guard needs. Cheap to clone.
#[derive(Clone)]
pub struct Guard {
    /// The limits in force.
    pub limits: Arc<Limits>,
    /// What operators watch.
    pub metrics: Arc<Metrics>,
    /// Whom to believe where a request comes from.
    pub forwarding: Arc<Forwarding>,
    /// When bodies are read.
    pub bodies: Bodies,
}

/// When the body of a request is read, and how long its answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bodies {
    /// At once: it is small. The answer takes `limits.request_timeout` at most.
    First,
    /// By the route, once it is known who asks: it may be large. The answer takes this long at most.
    Later(Duration),
}

/// `router` with the guard around all of its routes.
pub fn guarded(router: Router, guard: Guard) -> Router {
    router.layer(from_fn_with_state(guard, surround))
}

async fn surround(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let link = request.extensions().get::<Arc<Link>>().cloned();
    let peer = link.as_ref().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |link| link.peer().ip());
    let source = guard.forwarding.source(peer, request.headers());
    let certificate = guard.forwarding.certificate(link.as_deref(), request.headers());
    request.extensions_mut().insert(certificate);
    // What asks whether we are well is not refused for what others at its address do, nor they for it.
    let is_probe = guard.bodies == Bodies::First && is_probe(request.uri().path());
    let admitted = if is_probe { Ok(()) } else { guard.limits.address(source) };
    let answered = match admitted {
        Ok(()) => guard.answer(request, next, link.as_deref()).await,
        Err(limited) => Err(OAuthError::limited(limited)),
    };
    let response = answered.unwrap_or_else(OAuthError::into_response);
    guard.count(source, response)
}

impl Guard {
    /// Reads the whole request, unless its route does, and has it answered, both within one time limit.
    async fn answer(
        &self,
        request: Request,
        next: Next,
        link: Option<&Link>,
    ) -> Result<Response, OAuthError> {
        let limit = match self.bodies {
            Bodies::First => Duration::from_secs(self.limits.config().request_timeout.into()),
            Bodies::Later(limit) => limit,
        };
        let deadline = Instant::now() + limit;
        let (head, mut body) = request.into_parts();
        if self.bodies == Bodies::First {
            let read = timeout_at(deadline, read(body)).await.map_err(|_| OAuthError::too_slow())??;
            body = Body::from(read);
        }
        // From here on the connection is not cut to make room.
        if !link.is_none_or(Link::works) {
            return Err(OAuthError::too_slow());
        }
        let answer = caught(next.run(Request::from_parts(head, body)));
        match timeout_at(deadline, answer).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(Panicked)) => {
                // Its place is in the log by the panic hook. Its words are not: they may quote what was sent.
                self.metrics.panicked();
                error!("a request panicked");
                Err(OAuthError::server_error())
            }
            Err(_) => Err(OAuthError::no_answer_in_time()),
        }
    }

    /// Failed client authentications have a rate of their own, and events that are refused count to it: beyond it they
    /// are told to come later, while those of the same address that are accepted go on (L12).
    fn count(&self, source: IpAddr, response: Response) -> Response {
        if response.status() == StatusCode::UNAUTHORIZED {
            self.metrics.authentication_failed();
        } else if response.extensions().get::<RefusedEvent>().is_none() {
            return response;
        }
        match self.limits.failure(source) {
            Ok(()) => response,
            Err(limited) => OAuthError::limited(limited).into_response(),
        }
    }
}

/// Whether a path is one of those for orchestrators and load balancers.
fn is_probe(path: &str) -> bool {
    [HEALTHZ, READYZ].contains(&path)
}

/// Marks the answer to an event that was refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct RefusedEvent;

/// Reads a body of at most [`MAX_BODY`] bytes.
async fn read(body: Body) -> Result<Bytes, OAuthError> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(fault) if fault.is::<LengthLimitError>() => Err(OAuthError::too_large()),
        Err(_) => Err(OAuthError::invalid_request("the body broke off, or is not framed as HTTP/1.1 says")),
    }
}

/// A fault of our own code.
struct Panicked;

/// Runs `answer` to its end, or to its panic.
async fn caught<T>(answer: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut answer = pin!(answer);
    // What the future holds is dropped after a panic, and nobody looks at it again.
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Err(_) => Poll::Ready(Err(Panicked)),
    })
    .await
}
