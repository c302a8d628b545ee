use axum::body::Body;
use axum::http::Request;
use tower::ServiceExt as _;

use super::*;
use crate::clock::SystemClock;
use crate::keys::jwks::JwkSet;
use crate::keys::jws::{Jws, VerifiedJws};

const US: &str = "http://127.0.0.1:8080";

struct Demo {
    router: Router,
    password: String,
    _data: tempfile::TempDir,
}

fn demo() -> Demo {
    let data = tempfile::tempdir().unwrap();
    let mut secrets = Secrets::new("127.0.0.1:8080".parse().unwrap());
    secrets.complete(&Random::default());
    let password = secrets.password("bob").to_owned();
    let provider = Provider::open(data.path(), US, secrets, Arc::new(SystemClock)).unwrap();
    Demo { router: provider.router(), password, _data: data }
}

impl Demo {
    async fn call(&self, request: Request<Body>) -> (u16, Value) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(status, 200, "{path}");
        body
    }

    async fn post(&self, form: &str) -> (u16, Value) {
        let request = Request::post("/idp/token")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form.to_owned()));
        self.call(request.unwrap()).await
    }

    async fn signed_in(&self, extra: &str) -> Value {
        let form = format!("grant_type=password&username=bob&password={}{extra}", self.password);
        let (status, body) = self.post(&form).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    async fn verify(&self, token: &Value) -> VerifiedJws {
        let keys = JwkSet::parse(self.get("/idp/jwks").await.to_string().as_bytes()).unwrap();
        let jws = Jws::parse(token.as_str().unwrap()).unwrap();
        let told = jws.unverified();
        let found = keys.find(told.kid, told.algorithm);
        jws.verify_any(&found).unwrap()
    }
}

#[tokio::test]
async fn discovery_names_the_issuer_and_absolute_urls() {
    let metadata = demo().get("/idp/.well-known/openid-configuration").await;
    assert_eq!(metadata["issuer"], format!("{US}/idp"));
    for member in ["authorization_endpoint", "token_endpoint", "jwks_uri"] {
        assert!(metadata[member].as_str().unwrap().starts_with(US), "{member}");
    }
}

#[tokio::test]
async fn the_access_token_is_a_session_token_for_this_server() {
    let demo = demo();
    let answer = demo.signed_in("").await;
    assert_eq!((answer["token_type"].as_str(), answer["expires_in"].as_i64()), (Some("Bearer"), Some(3600)));
    let token = demo.verify(&answer["access_token"]).await;
    assert!(token.typ_is("at+jwt"));
    let claims = Value::Object(token.into_claims());
    assert_eq!(
        (claims["iss"].as_str(), claims["aud"].as_str()),
        (Some("http://127.0.0.1:8080/idp"), Some(US))
    );
    assert_eq!((claims["sub"].as_str(), claims["azp"].as_str()), (Some("bob"), Some("demo-app")));
    assert_eq!(claims["groups"], json!(["support", "support-leads", "analysts"]));
    assert_eq!(claims["exp"].as_i64(), claims["auth_time"].as_i64().map(|t| t + 3600));
    for member in ["client_id", "sid", "iat", "jti", "roles", "email", "acr", "amr", "scope"] {
        assert!(!claims[member].is_null(), "{member}");
    }
}

#[tokio::test]
async fn the_id_token_is_for_the_client_and_carries_the_nonce() {
    let demo = demo();
    let answer = demo.signed_in("&client_id=other-app&nonce=n1").await;
    let token = demo.verify(&answer["id_token"]).await;
    assert!(token.typ_is("JWT"));
    let claims = Value::Object(token.into_claims());
    assert_eq!((claims["aud"].as_str(), claims["azp"].as_str()), (Some("other-app"), Some("other-app")));
    assert_eq!(claims["nonce"], "n1");
    assert!(claims.get("scope").is_none() && claims.get("client_id").is_none());
    let without = demo.verify(&demo.signed_in("").await["id_token"]).await;
    assert!(!without.claims().contains_key("nonce"));
}

#[tokio::test]
async fn a_wrong_sign_in_gets_an_oauth_error_that_says_what_is_wrong() {
    let demo = demo();
    let right = &demo.password;
    for (form, code, word) in [
        (String::new(), "invalid_request", "grant_type"),
        ("grant_type=password&password=x".to_owned(), "invalid_request", "username"),
        ("grant_type=client_credentials".to_owned(), "unsupported_grant_type", "password"),
        ("grant_type=password&username=bob&password=x".to_owned(), "invalid_grant", "dev.json"),
        ("grant_type=password&username=nobody&password=".to_owned(), "invalid_request", "password"),
        (format!("grant_type=password&username=alice&password={right}"), "invalid_grant", "dev.json"),
        (
            format!("grant_type=password&username=bob&username=bob&password={right}"),
            "invalid_request",
            "more than once",
        ),
        (format!("grant_type=password&username=bob&password={right}&nonce=%0a"), "invalid_request", "nonce"),
    ] {
        let (status, body) = demo.post(&form).await;
        assert_eq!((status, body["error"].as_str()), (400, Some(code)), "{form}");
        assert!(body["error_description"].as_str().unwrap().contains(word), "{form}: {body}");
    }
    let json = Request::post("/idp/token").body(Body::from("{}")).unwrap();
    assert_eq!(demo.call(json).await.0, 415);
    let get = Request::get("/idp/token").body(Body::empty()).unwrap();
    assert_eq!(demo.call(get).await.0, 405);
}
