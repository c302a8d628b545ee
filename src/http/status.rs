//! `GET /oauth/status/{list}` and the list of them: for anybody, in browsers too (SL-01, SL-02).

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::error::OAuthError;
use super::{Public, form};
use crate::status::{NotServed, Served};

/// The one form in which lists are served.
const MEDIA_TYPE: &str = "application/statuslist+jwt";
/// Nothing here is secret: pages of other origins may read it.
const OPEN: (HeaderName, &str) = (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");

/// `GET /oauth/status/{list}`: the list as it is now; those of another `time` are not kept.
pub(super) async fn list(
    State(public): State<Public>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, OAuthError> {
    let id = id.parse().map_err(|_| OAuthError::not_found())?;
    let served = public.status.list(id).await?;
    let query = form::parse(query.unwrap_or_default().as_bytes());
    if query.is_ok_and(|query| query.iter().any(|(name, _)| name == "time")) {
        return Err(OAuthError::no_past_lists());
    }
    if !accepts(&headers) {
        return Err(OAuthError::not_acceptable(MEDIA_TYPE));
    }
    Ok(answer(served, &headers))
}

/// `GET /oauth/status`: where all lists are (Status List Aggregation).
pub(super) async fn lists(State(public): State<Public>) -> Response {
    let cache_control = (header::CACHE_CONTROL, "public, max-age=60");
    ([OPEN, cache_control], Json(json!({"status_lists": public.status.uris()}))).into_response()
}

fn answer(served: Served, headers: &HeaderMap) -> Response {
    let Served { compact, etag, max_age } = served;
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let known = known.flat_map(|value| value.split(',')).any(|tag| tag.trim() == &*etag);
    let about = [
        (OPEN.0, OPEN.1.to_owned()),
        (header::CACHE_CONTROL, format!("public, max-age={max_age}")),
        (header::ETAG, etag.to_string()),
    ];
    if known {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    (about, [(header::CONTENT_TYPE, MEDIA_TYPE)], compact.to_string()).into_response()
}

/// Whether `Accept` admits the one form there is (RFC 9110 §12.5.1): it is named, or covered by a wildcard, and its
/// weight is not 0; nothing asked is anything.
fn accepts(headers: &HeaderMap) -> bool {
    let mut asked = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    asked.peek().is_none() || asked.flat_map(|value| value.split(',')).any(admits)
}

fn admits(range: &str) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let named = [MEDIA_TYPE, "application/*", "*/*"].iter().any(|known| name.eq_ignore_ascii_case(known));
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    named && weight.is_none_or(|q| q.parse::<f32>().is_ok_and(|q| q > 0.0))
}

impl From<NotServed> for OAuthError {
    fn from(not_served: NotServed) -> Self {
        match not_served {
            NotServed::Unknown => Self::not_found(),
            NotServed::NotNow => Self::list_unavailable(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sl_01_accept_decides_by_name_wildcard_and_weight() {
        let asked = |value: &str| accepts(&[(header::ACCEPT, value.parse().unwrap())].into_iter().collect());
        assert!(accepts(&HeaderMap::new()));
        for good in [
            "application/statuslist+jwt",
            "application/statuslist+cwt, application/statuslist+jwt;q=0.5",
            "APPLICATION/*",
            "text/html, */*;q=0.1",
        ] {
            assert!(asked(good), "{good}");
        }
        for bad in ["application/statuslist+cwt", "text/*", "application/statuslist+jwt;q=0", ""] {
            assert!(!asked(bad), "{bad}");
        }
    }
}
