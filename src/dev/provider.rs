//! The demo identity provider under `/idp` of the same listener: it signs people in with a password, or by a choice on a page, and
//! hands out real, signed session tokens. For this machine only: no registration of clients, no refresh.

mod authorize;
mod page;
mod shelf;
mod sign_in;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::BodyExt as _;
use ring::rand::SystemRandom;
use serde_json::{Value, json};

use self::authorize::{Asked, Coded};
use self::shelf::Shelf;
use self::sign_in::{Fault, Form, SignIn, required};
use super::fault::DevFault;
use super::secrets::Secrets;
use crate::clock::{Clock, Random};
use crate::keys::keyring::KeyRing;
use crate::keys::signing::KeySpec;

/// Its path below the server's URL.
pub const PATH: &str = "/idp";

/// Folder of its key, in the data folder.
const KEYS: &str = "idp-keys";

/// How long a page waits for a choice.
const PAGE_LIFETIME: Duration = Duration::from_mins(10);

/// How long a code waits for its client (RFC 6749 §4.1.2 allows ten minutes).
const CODE_LIFETIME: Duration = Duration::from_mins(1);

/// Most bytes of a request body.
const MAX_BODY: usize = 16 * 1024;

/// The demo identity provider. Cheap to clone.
#[derive(Clone)]
pub struct Provider(Arc<Parts>);

struct Parts {
    issuer: String,
    /// `aud` of its access tokens: this server.
    audience: String,
    keys: KeyRing,
    secrets: Secrets,
    clock: Arc<dyn Clock>,
    random: Random,
    /// Pages that were shown, by the token of their form.
    pages: Shelf<Asked>,
    /// Sign-ins that no client has fetched yet, by their code.
    codes: Shelf<Coded>,
}

impl Provider {
    /// The provider of the server at `public_url`; its key lies in the data folder and is made at the first start.
    pub(super) fn open(
        data: &Path,
        public_url: &str,
        secrets: Secrets,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, DevFault> {
        let keys = KeyRing::open(&data.join(KEYS), KeySpec::Es256, SystemRandom::new())?;
        let (issuer, audience) = (format!("{public_url}{PATH}"), public_url.to_owned());
        let random = Random::default();
        let (pages, codes) = (Shelf::new(PAGE_LIFETIME), Shelf::new(CODE_LIFETIME));
        Ok(Self(Arc::new(Parts { issuer, audience, keys, secrets, clock, random, pages, codes })))
    }

    /// Its routes, with their path.
    pub fn router(&self) -> Router {
        let post_only = || async { refused(&Fault::NotPost) };
        let endpoints = Router::new()
            .route("/.well-known/openid-configuration", get(metadata))
            .route("/jwks", get(jwks))
            .route("/authorize", get(authorize::ask).post(authorize::choose))
            .route("/token", post(token).fallback(post_only));
        Router::new().nest(PATH, endpoints.with_state(self.clone()))
    }
}

/// `GET /idp/.well-known/openid-configuration` (OpenID Connect Discovery 1.0 §3).
async fn metadata(State(Provider(parts)): State<Provider>) -> Json<Value> {
    let at = |path: &str| format!("{}{path}", parts.issuer);
    Json(json!({
        "issuer": parts.issuer,
        "authorization_endpoint": at("/authorize"),
        "token_endpoint": at("/token"),
        "jwks_uri": at("/jwks"),
        "grant_types_supported": ["authorization_code", "password"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "scopes_supported": ["openid", "profile", "email"],
        "claims_supported": ["sub", "auth_time", "sid", "groups", "roles", "email", "name", "acr", "amr"],
    }))
}

/// `GET /idp/jwks`.
async fn jwks(State(Provider(parts)): State<Provider>) -> Json<Value> {
    Json(parts.keys.jwks().clone())
}

/// `POST /idp/token`: `grant_type=authorization_code` and `password` (RFC 6749 §4.1, §4.3), of public clients.
async fn token(State(Provider(parts)): State<Provider>, request: Request) -> Response {
    let answer = match form(request).await {
        Ok(form) => sign_in(&parts, &form).and_then(|sign_in| answer(&parts, &sign_in)),
        Err(fault) => Err(fault),
    };
    answer.map_or_else(|fault| refused(&fault), |body| no_store(Json(body).into_response()))
}

fn sign_in(parts: &Parts, form: &Form) -> Result<SignIn, Fault> {
    match required(form, "grant_type")? {
        "password" => SignIn::by_password(form, &parts.secrets, parts.clock.now()),
        "authorization_code" => authorize::redeem(parts, form),
        _ => Err(Fault::Grant),
    }
}

fn answer(parts: &Parts, sign_in: &SignIn) -> Result<Value, Fault> {
    let (access, identity) = sign_in.claims(&parts.issuer, &parts.audience, parts.clock.now(), &parts.random);
    let sign = |typ, claims: &Value| parts.keys.sign(typ, claims).map_err(|_| Fault::Unsigned);
    Ok(json!({
        "access_token": sign("at+jwt", &access)?,
        "id_token": sign("JWT", &identity)?,
        "token_type": "Bearer",
        "expires_in": sign_in::LIFETIME,
        "scope": sign_in.scope(),
    }))
}

async fn form(request: Request) -> Result<Vec<(String, String)>, Fault> {
    let media_type = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let essence = media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Fault::NotAForm);
    }
    let body = http_body_util::Limited::new(request.into_body(), MAX_BODY).collect().await;
    let body = body.map_err(|_| Fault::NotAForm)?.to_bytes();
    Ok(openidconnect::url::form_urlencoded::parse(&body).into_owned().collect())
}

fn refused(fault: &Fault) -> Response {
    let (status, code) = fault.oauth();
    let body = json!({"error": code, "error_description": fault.to_string()});
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    no_store((status, Json(body)).into_response())
}

fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
#[path = "provider_tests.rs"]
mod tests;
