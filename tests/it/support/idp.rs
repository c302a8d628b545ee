//! A trusted issuer of the tests: real discovery and keys over loopback HTTP, tokens bent at will.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use serde_json::{Map, Value, json};
use taskgrant::keys::keyring::KeyRing;
use taskgrant::keys::signing::KeySpec;
use tokio::net::TcpListener;

use super::people::People;
use super::signer::Signer;

/// The provider: dropping it stops nothing, the runtime's end does.
pub(crate) struct Idp {
    /// Its `iss`.
    pub(crate) issuer: String,
    /// A second key that it publishes, to sign what no honest library would.
    pub(crate) signer: Signer,
    /// Where people sign in.
    pub(crate) people: People,
    keys: Arc<KeyRing>,
    fetches: Arc<AtomicUsize>,
}

impl Idp {
    /// Starts it on a free loopback port.
    pub(crate) async fn start() -> Self {
        Self::start_with(KeySpec::Es256).await
    }

    /// The same with a key of this kind.
    pub(crate) async fn start_with(spec: KeySpec) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let keys = Arc::new(KeyRing::ephemeral(spec, SystemRandom::new()).unwrap());
        let document = json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/jwks"),
            "device_authorization_endpoint": format!("{issuer}/device"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "authorization_response_iss_parameter_supported": true,
        });
        let signer = Signer::new("raw-key");
        let mut jwks = keys.jwks().clone();
        jwks["keys"].as_array_mut().unwrap().push(signer.jwk());
        let fetches = Arc::new(AtomicUsize::new(0));
        let counter = fetches.clone();
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(move || async move { Json(document) }))
            .route(
                "/jwks",
                get(move || async move {
                    counter.fetch_add(1, Ordering::SeqCst);
                    Json(jwks)
                }),
            );
        let people = People::new(issuer.clone(), keys.clone());
        let router = router.merge(people.router());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { issuer, signer, people, keys, fetches }
    }

    /// Signs any claims under any `typ`.
    pub(crate) fn sign(&self, typ: &str, claims: &Value) -> String {
        self.keys.sign(typ, claims).unwrap()
    }

    /// How often its keys were fetched.
    pub(crate) fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

/// Replaces members of `claims`; `null` removes one.
pub(crate) fn bend(mut claims: Value, with: Value) -> Value {
    let members: &mut Map<String, Value> = claims.as_object_mut().unwrap();
    let Value::Object(with) = with else { panic!("not members: {with}") };
    for (key, value) in with {
        if value.is_null() {
            members.remove(&key)
        } else {
            members.insert(key, value)
        };
    }
    claims
}

/// The unverified claims of a compact token.
pub(crate) fn claims(token: &str) -> Value {
    part(token, 1)
}

/// The unverified header of a compact token.
pub(crate) fn header(token: &str) -> Value {
    part(token, 0)
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// A compact token with its parts as given, whatever they say.
pub(crate) fn compact(header: &Value, claims: &Value, signature: &str) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", encode(header), encode(claims))
}
