//! The one table from refusals to OAuth errors (RFC 6749 §5.2, RFC 8693 §2.2.2, RFC 9396 §5).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::domain::approval::NotFetched;
use crate::domain::ceiling::Over;
use crate::domain::decision::Reason;
use crate::domain::ids::DecisionId;
use crate::domain::refusal::{Limited, Refusal};
use crate::exchange::NotIssued;
use crate::exchange::deferral::Waits;
use crate::issuers::event_fault::EventFault;
use crate::revocation::{NotRevoked, WhyNot};

/// Seconds after which a 503 may be tried again.
const RETRY_AFTER: u32 = 1;
/// The same under lockdown, which people end.
const LOCKDOWN_RETRY_AFTER: u32 = 30;

/// An error answer of an OAuth endpoint.
#[derive(Debug)]
pub(super) struct OAuthError {
    status: StatusCode,
    body: Map<String, Value>,
    challenge: bool,
    retry_after: u32,
}

impl OAuthError {
    fn new(status: StatusCode, error: &str, description: &str) -> Self {
        let mut body = Map::new();
        body.insert("error".to_owned(), error.into());
        body.insert("error_description".to_owned(), plain(description).into());
        Self { status, body, challenge: false, retry_after: RETRY_AFTER }
    }

    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.body.insert(key.to_owned(), value.into());
        self
    }

    fn decided(self, decision_id: Option<DecisionId>) -> Self {
        match decision_id {
            Some(id) => self.with("decision_id", id.to_string()),
            None => self,
        }
    }

    /// Client authentication failed: the same answer whatever was wrong (RFC 6749 §5.2, CA-02).
    pub(super) fn invalid_client() -> Self {
        let words =
            "client authentication failed: unknown client, wrong secret or key, used assertion, or disabled";
        let error = Self::new(StatusCode::UNAUTHORIZED, "invalid_client", words);
        Self { challenge: true, ..error }
            .with("reason_code", "client_authentication_failed")
            .with("retry", "never")
    }

    /// The assertion of a client that has shown its key is not acceptable (RFC 7521 §4.2.1) [CA-04].
    pub(super) fn bad_assertion(description: &str) -> Self {
        let error = Self::new(StatusCode::UNAUTHORIZED, "invalid_client", description);
        Self { challenge: true, ..error }
            .with("reason_code", "client_assertion_invalid")
            .with("retry", "never")
    }

    /// The client's keys are not at hand, so nobody can be believed to be it.
    pub(super) fn client_keys_unavailable() -> Self {
        let words = "the keys of the client, or of its platform, could not be fetched lately; try again";
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", words);
        error.with("reason_code", "client_keys_unavailable").with("retry", "later")
    }

    /// The request cannot be read at all, before any client is known.
    pub(super) fn invalid_request(description: &str) -> Self {
        let error = Self::new(StatusCode::BAD_REQUEST, "invalid_request", description);
        error.with("reason_code", "malformed_request").with("retry", "never")
    }

    /// A logout token is refused (OpenID Connect Back-Channel Logout 1.0 §2.8).
    pub(super) fn bad_logout_token(fault: &EventFault) -> Self {
        let words = format!("logout_token: {fault}");
        let error = Self::new(StatusCode::BAD_REQUEST, "invalid_request", &words);
        error.with("reason_code", "logout_token_refused").with("retry", "never")
    }

    /// The keys of who sent an event are not at hand, so that it cannot be believed yet.
    pub(super) fn sender_keys_unavailable() -> Self {
        let words = "the keys to verify it with could not be fetched lately; send it again";
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", words);
        error.with("reason_code", "sender_keys_unavailable").with("retry", "later")
    }

    /// `token_type_hint`s and tokens of other kinds (RFC 7009 §2.2.1).
    pub(super) fn method_not_allowed() -> Self {
        let error = Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "this endpoint takes POST");
        error.with("reason_code", "method_not_allowed").with("retry", "never")
    }

    /// The body is not a form.
    pub(super) fn not_a_form() -> Self {
        let words = "send application/x-www-form-urlencoded";
        let error = Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request", words);
        error.with("reason_code", "malformed_request").with("retry", "never")
    }

    /// The body is larger than the limit.
    pub(super) fn too_large() -> Self {
        let error = Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request", "the body is too large");
        error.with("reason_code", "malformed_request").with("retry", "never")
    }

    /// The body did not come in time (RFC 9110 §15.5.9).
    pub(super) fn too_slow() -> Self {
        let words = "the request did not come in time";
        let error = Self::new(StatusCode::REQUEST_TIMEOUT, "invalid_request", words);
        error.with("reason_code", "request_timeout").with("retry", "later")
    }

    /// We did not answer in time: what was decided may be recorded, and no token leaves (L3).
    pub(super) fn no_answer_in_time() -> Self {
        let words = "no answer was found in time; try again";
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", words);
        error.with("reason_code", "no_answer_in_time").with("retry", "later")
    }

    /// A fault of ours, which the log tells.
    pub(super) fn server_error() -> Self {
        let words = "a fault of the server, which its log tells; nothing was issued";
        let error = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", words);
        error.with("reason_code", "internal_fault").with("retry", "later")
    }

    /// A rate is used up, and nothing of it is recorded one by one (RFC 6585 §4).
    pub(super) fn limited(limited: Limited) -> Self {
        Self::refused(&Refusal::Limited(limited), None)
    }

    /// Nothing is served here.
    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "nothing is served at this path")
    }

    /// Status lists are kept as they are now, not as they were (SL-02).
    pub(super) fn no_past_lists() -> Self {
        let words = "time: only the present status list is served; leave the parameter out";
        let error = Self::new(StatusCode::NOT_IMPLEMENTED, "invalid_request", words);
        error.with("reason_code", "status_list_time").with("retry", "never")
    }

    /// `Accept` does not admit what there is.
    pub(super) fn not_acceptable(media_type: &str) -> Self {
        let words = format!("Accept: only {media_type} is served here");
        let error = Self::new(StatusCode::NOT_ACCEPTABLE, "invalid_request", &words);
        error.with("reason_code", "not_acceptable").with("retry", "never")
    }

    /// The bits of a status list are too old to be served.
    pub(super) fn list_unavailable() -> Self {
        let words = "the status list is not up to date; try again, and accept nothing by an older one";
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", words);
        error.with("reason_code", "status_list_stale").with("retry", "later")
    }

    /// No such task, as far as the caller may know: the same answer for what is not its business (L10).
    pub(super) fn task_unknown() -> Self {
        let words = "no such task, or nothing of it is this agent's";
        let error = Self::new(StatusCode::NOT_FOUND, "not_found", words);
        error.with("reason_code", "task_unknown").with("retry", "never")
    }

    /// The task is another agent's to complete.
    pub(super) fn task_not_yours(decision_id: Option<DecisionId>) -> Self {
        let words =
            "only the agent that started the task completes it; revoke what grew from your own tokens";
        let error = Self::new(StatusCode::BAD_REQUEST, "invalid_request", words).decided(decision_id);
        error.with("reason_code", "task_not_yours").with("retry", "never")
    }

    /// Not now: nothing was issued or changed as far as is known (TX-10).
    pub(super) fn unavailable() -> Self {
        let words = "the decision cannot be recorded now, so nothing is issued; try again";
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", words);
        error.with("reason_code", "not_recorded").with("retry", "later")
    }

    /// A person has not decided yet: the answer to the request that is deferred, and to every poll (STANDARDS §11.2).
    fn waits(waits: &Waits) -> Self {
        let words = "a person must approve the request: poll with the deferral_code";
        let pending = Self::new(StatusCode::BAD_REQUEST, "authorization_pending", words);
        let words = "polled too soon: wait for `interval` seconds from now on";
        let slow = Self::new(StatusCode::BAD_REQUEST, "slow_down", words);
        let error = if waits.slow_down { slow } else { pending };
        let error = error
            .with("deferral_code", waits.code.reveal())
            .with("approval_id", waits.approval_id.to_string())
            .with("expires_in", waits.expires_in)
            .with("interval", waits.interval)
            .with("decision_id", waits.decision_id.to_string())
            .with("reason_code", "approval_pending")
            .with("retry", "after_approval");
        let reasons = public_reasons(waits.reasons.iter());
        if reasons.is_empty() { error } else { error.with("reasons", reasons) }
    }

    /// A refusal after client authentication: all of it that the client may see. `decision_id` where it has a decision of its
    /// own.
    pub(super) fn refused(refusal: &Refusal, decision_id: Option<DecisionId>) -> Self {
        let (status, code) = oauth(refusal);
        let mut error = Self::new(status, code, &refusal.to_string())
            .decided(decision_id)
            .with("reason_code", refusal.code())
            .with("retry", json!(refusal.retry()));
        if let Refusal::Limited(limited) = refusal {
            error.retry_after = limited.retry_after;
        }
        if matches!(refusal, Refusal::Lockdown) {
            error.retry_after = LOCKDOWN_RETRY_AFTER;
        }
        if let Some(ceiling) = refusal.ceiling() {
            error = error.with("ceiling", json!(ceiling));
        }
        if let Some(grantable) = refusal.grantable() {
            error = error.with("grantable", grantable.to_json());
        }
        let reasons = public_reasons(refusal.public_reasons());
        if reasons.is_empty() { error } else { error.with("reasons", reasons) }
    }
}

impl From<NotRevoked> for OAuthError {
    fn from(not_revoked: NotRevoked) -> Self {
        let NotRevoked::Refused { decision_id, why } = not_revoked else { return Self::unavailable() };
        let code = match why {
            WhyNot::NotYours | WhyNot::Token(_) => "invalid_request",
            WhyNot::NotAnAgent => "unauthorized_client",
        };
        let error = Self::new(StatusCode::BAD_REQUEST, code, &why.to_string());
        let error = error.decided(decision_id);
        error.with("reason_code", why.code()).with("retry", "never")
    }
}

impl From<NotIssued> for OAuthError {
    fn from(not_issued: NotIssued) -> Self {
        match not_issued {
            NotIssued::Refused { decision_id, refusal } => Self::refused(&refusal, decision_id),
            NotIssued::Waits(waits) => Self::waits(&waits),
            NotIssued::Unauthenticated => Self::invalid_client(),
            NotIssued::Unavailable => Self::unavailable(),
        }
    }
}

/// Reasons as the client sees them: the public ones (TX-09).
fn public_reasons<'r>(reasons: impl Iterator<Item = &'r Reason>) -> Vec<Value> {
    reasons.filter(|r| r.public).map(|r| json!({"code": r.code, "message": r.message})).collect()
}

/// Which OAuth error a refusal is. Invalid subject and actor tokens are `invalid_request`, never `invalid_grant`
/// (RFC 8693 §2.2.2, TX-09).
pub(super) fn oauth(refusal: &Refusal) -> (StatusCode, &'static str) {
    let code = match refusal {
        Refusal::Scope(_) => "invalid_scope",
        Refusal::UnknownTarget { .. } => "invalid_target",
        Refusal::Details(_) => "invalid_authorization_details",
        Refusal::Excess(excess) => match excess.over {
            Over::Scopes { .. } => "invalid_scope",
            Over::Resources { .. } | Over::NotOneResource { .. } => "invalid_target",
            Over::Details { .. } => "invalid_authorization_details",
        },
        Refusal::GrantType => "unsupported_grant_type",
        Refusal::NotAnAgent => "unauthorized_client",
        Refusal::Approval { .. } | Refusal::NoApprovers { .. } => "interaction_required",
        Refusal::NotCovered { .. } | Refusal::NotFetched(NotFetched::Denied) => "access_denied",
        Refusal::NotFetched(NotFetched::Expired) => "expired_token",
        Refusal::NotFetched(NotFetched::Unknown | NotFetched::Used | NotFetched::Cancelled) => {
            "invalid_grant"
        }
        Refusal::PolicyFault { .. } | Refusal::StoreFault | Refusal::Clock { .. } | Refusal::Lockdown => {
            return (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable");
        }
        Refusal::Limited(_) => return (StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable"),
        Refusal::Malformed { .. }
        | Refusal::AgentNotServed
        | Refusal::Subject(_)
        | Refusal::Actor(_)
        | Refusal::NotYours { .. }
        | Refusal::Instance
        | Refusal::TaskTypeMissing { .. }
        | Refusal::TaskType { .. }
        | Refusal::NoRole { .. }
        | Refusal::NoEdge { .. }
        | Refusal::Depth { .. }
        | Refusal::TooLarge
        | Refusal::Chain(_)
        | Refusal::Expired
        | Refusal::Policy { .. }
        | Refusal::NarrowedToNothing
        | Refusal::Widens(_)
        | Refusal::Revoked { .. }
        | Refusal::TaskEnded
        | Refusal::Spent
        | Refusal::TooHigh
        | Refusal::UnknownParent => "invalid_request",
    };
    (StatusCode::BAD_REQUEST, code)
}

/// How RFC 8935 §2.4 calls what is wrong with a security event token [SE-03].
pub(super) fn event_error(fault: &EventFault) -> &'static str {
    match fault {
        EventFault::UnknownIssuer(_) => "invalid_issuer",
        EventFault::Audience => "invalid_audience",
        EventFault::Unauthorized => "authentication_failed",
        EventFault::Algorithm(_) | EventFault::Signature(_) | EventFault::Keys(_) => "invalid_key",
        EventFault::NotAJws(_)
        | EventFault::Typ
        | EventFault::Missing(_)
        | EventFault::Malformed { .. }
        | EventFault::Date(_)
        | EventFault::Forbidden(_)
        | EventFault::Expired
        | EventFault::NotYet(_)
        | EventFault::NoLogout
        | EventFault::Nobody
        | EventFault::Subject(_) => BAD_EVENT,
    }
}

/// A body that is no security event token.
pub(super) const BAD_EVENT: &str = "invalid_request";

/// `text` in the character set of `error_description` (RFC 6749 §5.2): printable ASCII without `"` and `\`.
pub(super) fn plain(text: &str) -> String {
    let mask = |c: char| match c {
        '"' => '\'',
        '\\' => '/',
        ' '..='~' => c,
        _ => '?',
    };
    text.chars().take(1000).map(mask).collect()
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(Value::Object(self.body))).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
        if self.challenge {
            let basic = HeaderValue::from_static("Basic realm=\"taskgrant\", charset=\"UTF-8\"");
            headers.insert(header::WWW_AUTHENTICATE, basic);
        }
        if [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&self.status) {
            headers.insert(header::RETRY_AFTER, self.retry_after.into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_keeps_to_the_character_set_of_rfc_6749() {
        assert_eq!(plain("a \"b\" \\ ä\n`c`"), "a 'b' / ??`c`");
    }
}
