//! People who sign in at the trusted issuer of the tests: authorization code with PKCE, and on another device. Nobody types a
//! password: whoever was named last is who sits there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::url::form_urlencoded;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use taskgrant::keys::keyring::KeyRing;

use super::idp::bend;

type Parameters = HashMap<String, String>;

/// Who signs in, and what was asked for.
#[derive(Clone)]
pub(crate) struct People(Arc<Inner>);

struct Inner {
    issuer: String,
    keys: Arc<KeyRing>,
    person: Mutex<Value>,
    asked: Mutex<Parameters>,
    polls: Mutex<usize>,
    nameless: AtomicBool,
}

impl People {
    pub(super) fn new(issuer: String, keys: Arc<KeyRing>) -> Self {
        let (person, asked, polls) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { issuer, keys, person, asked, polls, nameless: AtomicBool::new(false) }))
    }

    /// From now on answers do not say whose they are, although the metadata says that they do (RFC 9207).
    pub(crate) fn leave_issuer_out(&self) {
        self.0.nameless.store(true, Ordering::SeqCst);
    }

    /// Whose tokens, with these claims, the next sign-in gives.
    pub(crate) fn seat(&self, claims: Value) {
        *self.0.person.lock().unwrap() = claims;
    }

    /// What the authorization endpoint was asked last.
    pub(crate) fn asked(&self) -> Parameters {
        self.0.asked.lock().unwrap().clone()
    }

    pub(super) fn router(&self) -> Router {
        Router::new()
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .route("/device", post(device))
            .with_state(self.clone())
    }

    fn tokens(&self, client: &str, nonce: Option<&String>) -> Response {
        let claims = self.0.person.lock().unwrap().clone();
        let access = bend(claims.clone(), json!({"client_id": client, "azp": client}));
        let identity = bend(claims, json!({"aud": client, "azp": client, "nonce": nonce, "client_id": null}));
        let sign = |typ: &str, claims: &Value| self.0.keys.sign(typ, claims).unwrap();
        Json(json!({
            "access_token": sign("at+jwt", &access), "id_token": sign("JWT", &identity),
            "token_type": "Bearer", "expires_in": 300,
        }))
        .into_response()
    }
}

fn refused(error: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({"error": error}))).into_response()
}

fn read(text: &str) -> Parameters {
    form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

async fn authorize(State(People(inner)): State<People>, RawQuery(query): RawQuery) -> Response {
    let asked = read(&query.unwrap_or_default());
    let is = |name: &str, wanted: &str| asked.get(name).is_some_and(|value| value == wanted);
    if !is("response_type", "code") || !is("code_challenge_method", "S256") {
        return refused("invalid_request");
    }
    let iss =
        if inner.nameless.load(Ordering::SeqCst) { String::new() } else { format!("&iss={}", inner.issuer) };
    let to = format!("{}?code=the-code&state={}{iss}", asked["redirect_uri"], asked["state"]);
    *inner.asked.lock().unwrap() = asked;
    (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
}

async fn token(State(people): State<People>, body: String) -> Response {
    let (form, asked) = (read(&body), people.asked());
    match form["grant_type"].as_str() {
        "authorization_code" => {
            let proof = digest(&SHA256, form["code_verifier"].as_bytes());
            let proved = URL_SAFE_NO_PAD.encode(proof) == asked["code_challenge"];
            if form["code"] != "the-code" || form["redirect_uri"] != asked["redirect_uri"] || !proved {
                return refused("invalid_grant");
            }
            people.tokens(&asked["client_id"], asked.get("nonce"))
        }
        "urn:ietf:params:oauth:grant-type:device_code" => {
            let mut polls = people.0.polls.lock().unwrap();
            *polls += 1;
            if *polls == 1 {
                refused("authorization_pending")
            } else {
                people.tokens(&form["client_id"], None)
            }
        }
        _ => refused("unsupported_grant_type"),
    }
}

async fn device(State(People(inner)): State<People>) -> Response {
    Json(json!({
        "device_code": "the-device", "user_code": "WDJB-MJHT", "expires_in": 60, "interval": 1,
        "verification_uri": format!("{}/activate", inner.issuer),
    }))
    .into_response()
}
