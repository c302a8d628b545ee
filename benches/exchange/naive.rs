//! V, the naive ceiling: parses the form, authenticates, verifies, signs, answers. No policy, no limits, no record. It
//! lives here only: the product has no way past policy and record.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;
use taskgrant::clock::{Clock as _, Random, SystemClock};
use taskgrant::keys::jwks::JwkSet;
use taskgrant::keys::jws::Jws;
use taskgrant::keys::keyring::{ACCESS_TOKEN, KeyRing};
use taskgrant::keys::signing::KeySpec;

use crate::world::{AGENT, Outcome, secret_sha256};

struct Naive {
    issuer: String,
    keys: KeyRing,
    trusted: JwkSet,
    secret_sha256: [u8; 32],
    random: Random,
}

/// The one route.
pub(crate) fn router(issuer: &str, trusted: &Value) -> Outcome<Router> {
    let naive = Naive {
        issuer: issuer.to_owned(),
        keys: KeyRing::ephemeral(KeySpec::Es256, SystemRandom::new())?,
        trusted: JwkSet::parse(trusted.to_string().as_bytes())?,
        secret_sha256: secret_sha256(),
        random: Random::default(),
    };
    Ok(Router::new().route("/oauth/token", post(token)).with_state(Arc::new(naive)))
}

async fn token(State(naive): State<Arc<Naive>>, headers: HeaderMap, body: Bytes) -> Response {
    match naive.exchange(&headers, &body) {
        Some(answer) => ([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response(),
        None => StatusCode::BAD_REQUEST.into_response(),
    }
}

impl Naive {
    fn exchange(&self, headers: &HeaderMap, body: &[u8]) -> Option<Value> {
        let form = parse(body)?;
        let value = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        self.authenticate(headers)?;
        let jws = Jws::parse(value("subject_token")?).ok()?;
        let keys = self.trusted.find(jws.unverified().kid, jws.unverified().algorithm);
        let session = jws.verify_any(&keys).ok()?;
        let claims = session.claims();
        let now = SystemClock.now();
        (claims.get("exp")?.as_i64()? > now.timestamp()).then_some(())?;
        let iat = now.timestamp();
        let (aud, scope) = (value("resource")?, value("scope")?);
        let task_id = self.random.task(now).to_string();
        let token = json!({
            "iss": self.issuer, "sub": claims.get("sub")?, "aud": aud, "exp": iat + 180, "iat": iat, "nbf": iat,
            "jti": self.random.jti(now).to_string(), "client_id": AGENT, "scope": scope,
            "sub_id": {"format": "iss_sub", "iss": claims.get("iss")?, "sub": claims.get("sub")?},
            "act": {"sub": AGENT, "iss": self.issuer}, "tenant": claims.get("org_id")?, "task_id": task_id,
            "task_type": "refund_order@1", "task_exp": iat + 3600, "depth_left": 0,
            "auth_time": claims.get("auth_time"), "acr": claims.get("acr"), "amr": claims.get("amr"),
        });
        let compact = self.keys.sign(ACCESS_TOKEN, &token).ok()?;
        Some(json!({
            "access_token": compact, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer", "expires_in": 180, "scope": scope,
            "decision_id": self.random.decision(now).to_string(), "task_id": task_id,
        }))
    }

    fn authenticate(&self, headers: &HeaderMap) -> Option<()> {
        let basic = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
        let plain = String::from_utf8(STANDARD.decode(basic).ok()?).ok()?;
        let (id, secret) = plain.split_once(':')?;
        let known = digest(&SHA256, secret.as_bytes()).as_ref().ct_eq(&self.secret_sha256);
        (id == AGENT && bool::from(known)).then_some(())
    }
}

fn parse(body: &[u8]) -> Option<Vec<(String, String)>> {
    let pairs = body.split(|b| *b == b'&').map(|pair| {
        let (key, value) = pair.split_at(pair.iter().position(|b| *b == b'=')?);
        Some((decode(key)?, decode(value.get(1..)?)?))
    });
    pairs.collect()
}

fn decode(text: &[u8]) -> Option<String> {
    let hex = |b: &u8| char::from(*b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.iter());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => (hex(rest.next()?)? << 4) | hex(rest.next()?)?,
            plain => *plain,
        });
    }
    String::from_utf8(bytes).ok()
}
