use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::Request;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::url::{Url, form_urlencoded};
use tower::ServiceExt as _;

use super::*;
use crate::clock::ShiftedClock;
use crate::hash::sha256;
use crate::keys::jwks::JwkSet;
use crate::keys::jws::{Jws, VerifiedJws};

const US: &str = "http://127.0.0.1:8080";

/// The host of the same.
const HOST: &str = "127.0.0.1:8080";

struct Demo {
    router: Router,
    password: String,
    clock: ShiftedClock,
    _data: tempfile::TempDir,
}

fn demo() -> Demo {
    let data = tempfile::tempdir().unwrap();
    let mut secrets = Secrets::new("127.0.0.1:8080".parse().unwrap());
    secrets.complete(&Random::default());
    let password = secrets.password("bob").to_owned();
    let clock = ShiftedClock::default();
    let provider = Provider::open(data.path(), US, secrets, Arc::new(clock.clone())).unwrap();
    Demo { router: provider.router(), password, clock, _data: data }
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
    assert_eq!(metadata["grant_types_supported"], json!(["authorization_code", "password"]));
    assert_eq!(metadata["code_challenge_methods_supported"], json!(["S256"]));
    assert_eq!(metadata["authorization_response_iss_parameter_supported"], true);
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

const REDIRECT: &str = "http://127.0.0.1:5555/callback";
const VERIFIER: &str = "a-verifier-of-at-least-43-characters-0123456789";

type Pairs = BTreeMap<String, String>;

/// Parameters as a form has them: each of `with` replaces the one of its name, or removes it where it is empty.
fn form_of(base: &[(&str, &str)], with: &[(&str, &str)]) -> String {
    let kept = base.iter().filter(|(name, _)| !with.iter().any(|(other, _)| other == name));
    let all = kept.chain(with).filter(|(_, value)| !value.is_empty());
    form_urlencoded::Serializer::new(String::new()).extend_pairs(all).finish()
}

/// A page or a redirect.
struct Shown {
    status: u16,
    headers: axum::http::HeaderMap,
    text: String,
}

impl Shown {
    /// Where the browser is sent, and with which parameters.
    fn sent_to(&self) -> (String, Pairs) {
        assert_eq!(self.status, 303, "{}", self.text);
        let url = Url::parse(self.headers["location"].to_str().unwrap()).unwrap();
        let pairs = url.query_pairs().into_owned().collect();
        (url.as_str().split('?').next().unwrap().to_owned(), pairs)
    }

    /// The token of the form on the page.
    fn form(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.text);
        let (_, rest) = self.text.split_once("name=\"form\" value=\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    }
}

impl Demo {
    async fn show(&self, request: Request<Body>) -> Shown {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Shown { status, headers, text: String::from_utf8(body.to_vec()).unwrap() }
    }

    async fn ask_as(&self, host: &str, query: &str) -> Shown {
        let request = Request::get(format!("/idp/authorize?{query}")).header(header::HOST, host);
        self.show(request.body(Body::empty()).unwrap()).await
    }

    /// The authorization request of a stock client, with these parameters replaced.
    async fn ask(&self, with: &[(&str, &str)]) -> Shown {
        let challenge = URL_SAFE_NO_PAD.encode(sha256(&[VERIFIER.as_bytes()]));
        let base = [
            ("response_type", "code"),
            ("client_id", "demo-admin"),
            ("redirect_uri", REDIRECT),
            ("scope", "openid"),
            ("state", "s & t"),
            ("nonce", "n1"),
            ("prompt", "login"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        self.ask_as(HOST, &form_of(&base, with)).await
    }

    async fn choose(&self, headers: &[(&str, &str)], form: &str) -> Shown {
        let mut request = Request::post("/idp/authorize")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::HOST, HOST);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.show(request.body(Body::from(form.to_owned())).unwrap()).await
    }

    /// A code for somebody who was chosen.
    async fn code(&self, person: &str) -> String {
        let form = self.ask(&[]).await.form();
        let chosen = self.choose(&[], &form_of(&[("form", &form), ("person", person)], &[])).await;
        let (url, sent) = chosen.sent_to();
        assert_eq!((url.as_str(), sent["state"].as_str()), (REDIRECT, "s & t"));
        assert_eq!(sent["iss"], format!("{US}/idp"));
        sent["code"].clone()
    }

    async fn redeem(&self, code: &str, with: &[(&str, &str)]) -> (u16, Value) {
        let base = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("client_id", "demo-admin"),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
        ];
        self.post(&form_of(&base, with)).await
    }
}

#[tokio::test]
async fn somebody_is_chosen_on_a_page_and_the_client_fetches_their_tokens_once() {
    let demo = demo();
    let code = demo.code("carol").await;
    demo.clock.shift(59);
    let (status, answer) = demo.redeem(&code, &[]).await;
    assert_eq!(status, 200, "{answer}");
    let token = demo.verify(&answer["id_token"]).await;
    let claims = Value::Object(token.into_claims());
    assert_eq!((&claims["sub"], &claims["aud"]), (&json!("carol"), &json!("demo-admin")));
    assert_eq!((&claims["nonce"], &claims["acr"], claims.get("amr")), (&json!("n1"), &json!("0"), None));
    let age = claims["iat"].as_i64().unwrap() - claims["auth_time"].as_i64().unwrap();
    assert!((59..=61).contains(&age), "the login is when the choice was made: {claims}");
    assert_eq!(answer["scope"], "openid");
    let (status, again) = demo.redeem(&code, &[]).await;
    assert_eq!((status, &again["error"]), (400, &json!("invalid_grant")));
}

#[tokio::test]
async fn a_code_is_good_for_a_minute_and_for_the_request_that_it_answers() {
    let demo = demo();
    let other = format!("{VERIFIER}x");
    for with in [
        ("client_id", "demo-app"),
        ("redirect_uri", "http://127.0.0.1:5556/callback"),
        ("code_verifier", other.as_str()),
        ("code", "unknown"),
    ] {
        let code = demo.code("dana").await;
        let (status, answer) = demo.redeem(&code, &[with]).await;
        assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")), "{with:?}");
        // Whoever shows a code has spent it; one that was not shown is not.
        let spent = demo.redeem(&code, &[]).await.0;
        assert_eq!(spent, if with.0 == "code" { 200 } else { 400 }, "{with:?}");
    }
    for missing in ["client_id", "redirect_uri", "code_verifier", "code"] {
        let (status, answer) = demo.redeem(&demo.code("dana").await, &[(missing, "")]).await;
        assert_eq!((status, &answer["error"]), (400, &json!("invalid_request")), "{missing}");
    }
    let code = demo.code("dana").await;
    demo.clock.shift(61);
    assert_eq!(demo.redeem(&code, &[]).await.0, 400);
}

#[tokio::test]
async fn whom_to_answer_is_registered_or_the_browser_goes_nowhere() {
    let demo = demo();
    for (with, why) in [
        (("client_id", "demo-app"), "client_id"),
        (("client_id", ""), "client_id"),
        (("redirect_uri", ""), "redirect_uri"),
        (("redirect_uri", "http://127.0.0.1:5555/other"), "redirect_uri"),
        (("redirect_uri", "https://evil.example/callback"), "redirect_uri"),
        (("state", "\u{7}"), "state"),
    ] {
        let shown = demo.ask(&[with]).await;
        assert!(shown.status == 400 && shown.text.contains(why), "{with:?}: {}", shown.text);
        assert!(!shown.headers.contains_key("location"), "{with:?}");
    }
    for (with, code) in [
        (("response_type", "token"), "unsupported_response_type"),
        (("response_type", ""), "invalid_request"),
        (("response_mode", "fragment"), "invalid_request"),
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge", "short"), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("code_challenge_method", ""), "invalid_request"),
        (("prompt", "none"), "login_required"),
        (("nonce", "\u{7}"), "invalid_request"),
    ] {
        let (url, sent) = demo.ask(&[with]).await.sent_to();
        assert_eq!((url.as_str(), sent["error"].as_str()), (REDIRECT, code), "{with:?}");
        assert_eq!((sent["state"].as_str(), sent["iss"].as_str()), ("s & t", "http://127.0.0.1:8080/idp"));
        assert!(
            !sent.contains_key("code") && sent["error_description"].contains(with.0),
            "{with:?}: {sent:?}"
        );
    }
    let twice = demo.ask(&[("nonce", "a"), ("nonce", "b")]).await.sent_to().1;
    assert!(twice["error_description"].contains("more than once"), "{twice:?}");
}

#[tokio::test]
async fn no_other_site_reads_the_page_frames_it_or_sends_its_form() {
    let demo = demo();
    let page = demo.ask(&[]).await;
    assert!(page.text.contains("demo without passwords") && !page.text.contains("<script"), "{}", page.text);
    for name in ["alice", "bob", "carol", "dana"] {
        assert!(page.text.contains(&format!("name=\"person\" value=\"{name}\"")), "{name}");
    }
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    for part in ["default-src 'none'", "frame-ancestors 'none'", "form-action 'self' http://127.0.0.1:5555"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(page.headers["cache-control"] == "no-store" && page.headers["x-frame-options"] == "DENY");
    assert_eq!(page.headers["referrer-policy"], "same-origin", "or the form would have no Origin");

    // The name of another host that points here.
    assert_eq!(demo.ask_as("evil.example:8080", "").await.status, 403);
    let form = form_of(&[("form", &page.form()), ("person", "carol")], &[]);
    for headers in [
        [("origin", "https://evil.example")].as_slice(),
        &[("origin", "null")],
        &[("origin", US), ("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
    ] {
        let refused = demo.choose(headers, &form).await;
        assert!(refused.status == 403 && refused.text.contains("another site"), "{headers:?}");
    }
    for (form, why) in [
        (form_of(&[("person", "carol")], &[]), "form: the parameter is missing"),
        (form_of(&[("form", "guessed"), ("person", "carol")], &[]), "start again"),
        (form_of(&[("form", &page.form())], &[]), "person: the parameter is missing"),
    ] {
        let refused = demo.choose(&[], &form).await;
        assert!(refused.status == 400 && refused.text.contains(why), "{form}: {}", refused.text);
    }
    let ours = [("origin", US), ("sec-fetch-site", "same-origin")];
    demo.choose(&ours, &form).await.sent_to();
    assert_eq!(demo.choose(&ours, &form).await.status, 400, "a page is good once");

    let nobody = form_of(&[("form", &demo.ask(&[]).await.form()), ("person", "mallory")], &[]);
    assert_eq!(demo.choose(&ours, &nobody).await.status, 400);
    let late = form_of(&[("form", &demo.ask(&[]).await.form()), ("person", "carol")], &[]);
    demo.clock.shift(601);
    assert_eq!(demo.choose(&ours, &late).await.status, 400);
}
