//! The gate of the admin API over HTTPS: a bearer token of a built-in task type (RFC 6750), and which routes it opens.

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use tracing::warn;

use super::api::{MAX_BODY, RefusalCode, Refused};
use crate::aggregates::Aggregates;
use crate::clock::{Clock, Random};
use crate::configuration::active::Active;
use crate::domain::decision::{Decision, Kind, Outcome, Reason, Record};
use crate::domain::objects::Role;
use crate::introspection::Introspection;
use crate::introspection::operator::{NotAdmitted, Operator};
use crate::store::change::Refuse;
use crate::store::writer::Writer;

/// Error code of a token for another role (RFC 6750 §3.1), and the reason code of its record.
const INSUFFICIENT_SCOPE: &str = "insufficient_scope";

/// What the gate is made of. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    /// Verifies tokens, and whether they live.
    pub introspection: Introspection,
    /// Who administers, as of now.
    pub active: Active,
    /// Refusals that are only counted.
    pub aggregates: Arc<Aggregates>,
    /// The one writer: who tried more than they may is in the log.
    pub writer: Writer,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids.
    pub random: Random,
}

/// `router` behind the gate. What it does not know is behind it too: nobody learns from outside which routes there are.
pub fn gated(router: Router, gate: Gate) -> Router {
    let nothing = || async { no_route() };
    router.fallback(nothing).layer(from_fn_with_state(gate, admit))
}

/// The roles in which a route may be called: answers are given by approvers alone, what is only read by auditors too, and all else
/// is an admin's. A route that is new is one of the latter.
fn roles(method: &Method, route: &str) -> &'static [Role] {
    let reads = reads(method);
    match route {
        // What is proposed in the role `admin` is confirmed in another one: two persons have two roles.
        "/admin/v1/approvals/{id}/approve"
        | "/admin/v1/approvals/{id}/deny"
        | "/admin/v1/proposals/{id}/confirm" => &[Role::Approve],
        "/admin/v1/proposals/{id}/reject" => &[Role::Approve, Role::Admin],
        // Who confirms looks at the bundles that are meant.
        "/admin/v1/approvals"
        | "/admin/v1/approvals/{id}"
        | "/admin/v1/proposals"
        | "/admin/v1/proposals/{id}"
        | "/admin/v1/policy/bundles/{version}"
            if reads =>
        {
            &Role::ALL
        }
        _ if reads => &[Role::Admin, Role::Audit],
        _ => &[Role::Admin],
    }
}

/// The largest body that a route takes, in bytes: only files are long, and only admins send them.
fn most(route: &str) -> usize {
    match route {
        "/admin/v1/apply"
        | "/admin/v1/policy/apply"
        | "/admin/v1/policy/candidate"
        | "/admin/v1/data/{document}" => MAX_BODY,
        _ => 64 << 10,
    }
}

/// Method and route of a call; the route is empty where nothing is served.
type Called = (Method, String);

async fn admit(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let called = (request.method().clone(), route.unwrap_or_default());
    let operator = match gate.operator(request.headers(), &called).await {
        Ok(operator) => operator,
        Err(response) => return no_store(response),
    };
    let opens = roles(&called.0, &called.1);
    if !opens.contains(&operator.role) {
        let wanted = opens.first().copied().unwrap_or(Role::Admin);
        let message = format!("this takes the role `{wanted}`, and the token is for `{}`", operator.role);
        return no_store(gate.forbid(&operator, &called, (wanted, message)).await);
    }
    if !reads(&called.0) {
        // A body may take its time: whoever has been taken out meanwhile changes nothing any more.
        let (head, body) = request.into_parts();
        let most = most(&called.1);
        let Ok(body) = axum::body::to_bytes(body, most).await else { return no_store(unread(most)) };
        match gate.operator(&head.headers, &called).await {
            Ok(_) => request = Request::from_parts(head, body.into()),
            Err(response) => return no_store(response),
        }
    }
    request.extensions_mut().insert(Arc::new(operator));
    no_store(next.run(request).await)
}

/// Whether a call only reads.
fn reads(method: &Method) -> bool {
    [Method::GET, Method::HEAD].contains(method)
}

/// The answer to a body that is too large, or broke off.
fn unread(most: usize) -> Response {
    let message = format!("the body has more than {most} bytes, or broke off");
    Refused::new(RefusalCode::BadRequest, message).into_response()
}

impl Gate {
    /// Who shows the token of the request. No other credential is looked at: neither a cookie nor a parameter.
    async fn operator(&self, headers: &HeaderMap, called: &Called) -> Result<Operator, Response> {
        let mut shown = headers.get_all(header::AUTHORIZATION).iter();
        let Some(first) = shown.next() else {
            return Err(Challenge::NoToken.answer("show a token of `taskgrant login`"));
        };
        let token = bearer(first).filter(|_| shown.next().is_none());
        let world = self.active.load();
        let admitted = match token {
            Some(token) => self.introspection.operator(&world, token).await,
            None => Err(NotAdmitted::Token),
        };
        match admitted {
            Ok(operator) => Ok(operator),
            Err(NotAdmitted::Token) => {
                self.aggregates.unauthenticated();
                let message =
                    "the token is none for this admin API, has expired, or is revoked: `taskgrant login`";
                Err(Challenge::BadToken.answer(message))
            }
            Err(NotAdmitted::Role(operator)) => {
                let message =
                    format!("no Administrator object gives you the role `{}` any more", operator.role);
                let role = operator.role;
                Err(self.forbid(&operator, called, (role, message)).await)
            }
            Err(NotAdmitted::Store(fault)) => {
                warn!(%fault, "whether a token for the admin API lives cannot be read");
                let message = "whether the token lives cannot be read now: try again".to_owned();
                Err(Refused::new(RefusalCode::Unavailable, message).into_response())
            }
        }
    }

    /// The answer to somebody known who may not; the first of its like is recorded, further ones are counted (L12).
    async fn forbid(
        &self,
        operator: &Operator,
        (method, route): &Called,
        (wanted, message): (Role, String),
    ) -> Response {
        let code = INSUFFICIENT_SCOPE;
        if self.aggregates.is_first(Kind::Admin, &operator.account(), code) {
            let now = self.clock.now();
            let reasons = vec![Reason { code: code.to_owned(), message: message.clone(), public: true }];
            let record = Record {
                actor: Some(operator.account()),
                principal: Some(operator.principal.clone()),
                asked: json!({"method": method.as_str(), "route": route, "role": operator.role}),
                reasons,
                ..Record::default()
            };
            let decision = Decision {
                id: self.random.decision(now),
                kind: Kind::Admin,
                at: now,
                tenant: None,
                outcome: Outcome::Deny,
                policy: None,
                task_type: None,
                record,
                input: None,
            };
            if let Err(fault) = self.writer.submit(Refuse { decision, assertion: None }).await {
                warn!(%fault, "a refusal of the admin API could not be recorded");
            }
        }
        Challenge::OtherRole(wanted).answer(&message)
    }
}

/// The token after `Bearer` (RFC 6750 §2.1).
fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.bytes().all(legal)).then_some(token)
}

/// What is wrong with the credential of a request, as `WWW-Authenticate` tells it (RFC 6750 §3).
#[derive(Clone, Copy)]
enum Challenge {
    /// None was shown: no error is named then.
    NoToken,
    /// It is no token for this, or none that lives.
    BadToken,
    /// It is for another role than this one.
    OtherRole(Role),
}

impl Challenge {
    /// The refusal that tells it.
    fn answer(self, message: &str) -> Response {
        let realm = "Bearer realm=\"taskgrant\"";
        let (error, value) = match self {
            Self::NoToken => (RefusalCode::InvalidToken, realm.to_owned()),
            Self::BadToken => (RefusalCode::InvalidToken, format!("{realm}, error=\"invalid_token\"")),
            Self::OtherRole(wanted) => {
                let scope = wanted.task_type();
                let value = format!("{realm}, error=\"{INSUFFICIENT_SCOPE}\", scope=\"{scope}\"");
                (RefusalCode::InsufficientScope, value)
            }
        };
        let mut response = Refused::new(error, message).into_response();
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        }
        response
    }
}

fn no_route() -> Response {
    let message = "nothing is served at this path".to_owned();
    let refused = Refused::new(RefusalCode::NotFound, message);
    (StatusCode::NOT_FOUND, refused).into_response()
}

fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_that_nobody_listed_is_an_admins_and_what_is_read_an_auditors_too() {
        let of = |method: Method, route: &str| roles(&method, route).to_vec();
        assert_eq!(of(Method::POST, "/admin/v1/anything"), [Role::Admin]);
        assert_eq!(of(Method::PUT, "/admin/v1/objects"), [Role::Admin]);
        assert_eq!(of(Method::GET, "/admin/v1/anything"), [Role::Admin, Role::Audit]);
        assert_eq!(of(Method::GET, "/admin/v1/approvals/{id}"), Role::ALL);
        assert_eq!(of(Method::POST, "/admin/v1/approvals/{id}/approve"), [Role::Approve]);
        assert_eq!(of(Method::POST, "/admin/v1/approvals/{id}/deny"), [Role::Approve]);
        assert_eq!(of(Method::POST, "/admin/v1/approvals/{id}/cancel"), [Role::Admin]);
        assert_eq!(of(Method::POST, ""), [Role::Admin]);
        assert_eq!(of(Method::GET, "/admin/v1/proposals/{id}"), Role::ALL);
        assert_eq!(of(Method::POST, "/admin/v1/proposals/{id}/confirm"), [Role::Approve]);
        assert_eq!(of(Method::POST, "/admin/v1/proposals/{id}/reject"), [Role::Approve, Role::Admin]);
    }

    #[test]
    fn a_challenge_names_an_error_only_of_a_credential_that_was_shown() {
        let of = |challenge: Challenge| {
            let response = challenge.answer("why");
            let told = response.headers().get(header::WWW_AUTHENTICATE).unwrap().to_str().unwrap().to_owned();
            (response.status(), told)
        };
        let realm = "Bearer realm=\"taskgrant\"";
        assert_eq!(of(Challenge::NoToken), (StatusCode::UNAUTHORIZED, realm.to_owned()));
        let bad = format!("{realm}, error=\"invalid_token\"");
        assert_eq!(of(Challenge::BadToken), (StatusCode::UNAUTHORIZED, bad));
        let other = format!("{realm}, error=\"insufficient_scope\", scope=\"taskgrant.approve\"");
        assert_eq!(of(Challenge::OtherRole(Role::Approve)), (StatusCode::FORBIDDEN, other));
    }

    #[test]
    fn the_token_follows_the_scheme_of_rfc_6750() {
        let read = |text: &'static str| bearer(&HeaderValue::from_static(text)).map(str::to_owned);
        assert_eq!(read("Bearer a.b-c").as_deref(), Some("a.b-c"));
        assert_eq!(read("bearer  a.b").as_deref(), Some("a.b"));
        for bad in ["Bearer", "Bearer ", "Basic abc", "Bearer a b", "Bearer a,b", "a.b.c"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
