//! The authorization endpoint (RFC 6749 §4.1) with PKCE (RFC 7636): a page on which somebody is chosen, and the code that comes of it.
//!
//! One client is registered, that of `taskgrant login`, whose redirect URIs lie on loopback (RFC 8252 §7.3). Another site can neither
//! send the form, nor read the page, nor show it: its token is good once, its origin and the name of the host are compared, no frame
//! takes it.

use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::url::form_urlencoded;

use super::super::cast;
use super::sign_in::{Fault, Form, SignIn, Wanted, one, required, text};
use super::{Parts, Provider, form, page};
use crate::hash::sha256;

/// Characters of an S256 challenge (RFC 7636 §4.2).
const CHALLENGE: usize = 43;
/// What a browser says of where a request comes from (Fetch Metadata).
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What a client asks for, and where the answer goes.
pub(super) struct Asked {
    back: Back,
    challenge: String,
    wanted: Wanted,
}

/// Where the answer goes.
struct Back {
    redirect: String,
    state: Option<String>,
}

/// A sign-in that waits for its client, and what this must show.
pub(super) struct Coded {
    signed_in: SignIn,
    redirect: String,
    challenge: String,
}

impl Back {
    /// Reads whom to answer. Whatever is wrong with it is told to the person: who else would be told is not known (RFC 6749 §4.1.2.1).
    fn read(query: &Form) -> Result<Self, String> {
        let said = |fault: Fault| fault.to_string();
        if required(query, "client_id").map_err(said)? != cast::ADMIN_APP {
            return Err(format!("client_id: only {} signs people in here", cast::ADMIN_APP));
        }
        let redirect = required(query, "redirect_uri").map_err(said)?;
        if !cast::ADMIN_REDIRECTS.iter().any(|registered| is_registered(redirect, registered)) {
            return Err(format!(
                "redirect_uri: not registered; {} are, each on any port",
                cast::ADMIN_REDIRECTS.join(" and ")
            ));
        }
        let state = text(query, "state").map_err(said)?.map(str::to_owned);
        Ok(Self { redirect: redirect.to_owned(), state })
    }

    /// Sends the browser back with `told`, and says who does (RFC 9207 §2).
    fn answer(&self, issuer: &str, told: &[(&str, &str)]) -> Response {
        let state = self.state.as_deref().map(|state| ("state", state));
        let parameters = told.iter().copied().chain(state).chain([("iss", issuer)]);
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        let Ok(location) = HeaderValue::from_str(&format!("{}?{query}", self.redirect)) else {
            return page::refusal(StatusCode::BAD_REQUEST, "redirect_uri: it fits into no header");
        };
        super::no_store((StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response())
    }

    /// Scheme, host and port of where it goes.
    fn origin(&self) -> &str {
        let path = self.redirect.rfind('/').unwrap_or_default();
        self.redirect.get(..path).unwrap_or_default()
    }
}

/// Whether `uri` is the `registered` one, character by character, but for the port (RFC 8252 §7.3).
fn is_registered(uri: &str, registered: &str) -> bool {
    let Some((host, path)) = registered.rsplit_once('/') else { return false };
    let between = uri.strip_prefix(host).and_then(|rest| rest.strip_suffix(path)?.strip_suffix('/'));
    match between.map(|port| port.strip_prefix(':')) {
        Some(Some(port)) => port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port),
        Some(None) => uri == registered,
        None => false,
    }
}

/// What else is asked for; else the error and what is told of it.
fn read(query: &Form) -> Result<(String, Wanted), (&'static str, String)> {
    let invalid = |fault: Fault| ("invalid_request", fault.to_string());
    let must_be = |name: &str, value: &str| ("invalid_request", format!("{name}: only {value} is offered"));
    if required(query, "response_type").map_err(invalid)? != "code" {
        return Err(("unsupported_response_type", "response_type: only code is offered".to_owned()));
    }
    if one(query, "response_mode").map_err(invalid)?.is_some_and(|mode| mode != "query") {
        return Err(must_be("response_mode", "query"));
    }
    if required(query, "code_challenge_method").map_err(invalid)? != "S256" {
        return Err(must_be("code_challenge_method", "S256"));
    }
    let challenge = required(query, "code_challenge").map_err(invalid)?;
    let is_base64url = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if challenge.len() != CHALLENGE || !challenge.bytes().all(is_base64url) {
        return Err(("invalid_request", "code_challenge: 43 characters of base64url are taken".to_owned()));
    }
    // Nobody is ever signed in already (OpenID Connect Core §3.1.2.6).
    if one(query, "prompt").map_err(invalid)? == Some("none") {
        return Err(("login_required", "prompt: somebody must choose".to_owned()));
    }
    Ok((challenge.to_owned(), Wanted::read(query).map_err(invalid)?))
}

/// `GET /idp/authorize`: the page, or why there is none.
pub(super) async fn ask(
    State(Provider(parts)): State<Provider>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    if let Err(why) = parts.is_asked_here(&headers, &uri) {
        return page::refusal(StatusCode::FORBIDDEN, why);
    }
    let query = query.unwrap_or_default();
    let query: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let back = match Back::read(&query) {
        Ok(back) => back,
        Err(why) => return page::refusal(StatusCode::BAD_REQUEST, &why),
    };
    match read(&query) {
        Ok((challenge, wanted)) => {
            let (name, origin) = (parts.secret_name(), back.origin().to_owned());
            parts.pages.put(parts.clock.steady(), name.clone(), Asked { back, challenge, wanted });
            page::choice(&format!("{}/authorize", super::PATH), &name, &origin)
        }
        Err((code, why)) => back.answer(&parts.issuer, &[("error", code), ("error_description", &why)]),
    }
}

/// `POST /idp/authorize`: the form of the page; the browser goes back with a code.
pub(super) async fn choose(State(Provider(parts)): State<Provider>, request: Request) -> Response {
    let here = parts.is_asked_here(request.headers(), request.uri());
    if let Err(why) = here.and_then(|()| parts.is_same_origin(request.headers())) {
        return page::refusal(StatusCode::FORBIDDEN, why);
    }
    let form = form(request).await;
    let sent = form.as_ref().map_err(Clone::clone).and_then(|form| {
        let person = required(form, "person")?;
        Ok((required(form, "form")?, person))
    });
    let (name, person) = match sent {
        Ok(sent) => sent,
        Err(fault) => return page::refusal(StatusCode::BAD_REQUEST, &fault.to_string()),
    };
    let Some(asked) = parts.pages.take(parts.clock.steady(), name) else {
        let why = "this page was used, or is too old: start again with `taskgrant login`";
        return page::refusal(StatusCode::BAD_REQUEST, why);
    };
    let Some(person) = cast::people().find(|known| known.name == person) else {
        let why = "person: nobody of the demo is called so; start again with `taskgrant login`";
        return page::refusal(StatusCode::BAD_REQUEST, why);
    };
    let Asked { back, challenge, wanted } = asked;
    let signed_in = SignIn::by_choice(person, cast::ADMIN_APP, wanted, parts.clock.now());
    let (code, redirect) = (parts.secret_name(), back.redirect.clone());
    parts.codes.put(parts.clock.steady(), code.clone(), Coded { signed_in, redirect, challenge });
    back.answer(&parts.issuer, &[("code", &code)])
}

/// The sign-in whose code is shown at the token endpoint (RFC 6749 §4.1.3, RFC 7636 §4.6). A code is spent by whoever shows it.
pub(super) fn redeem(parts: &Parts, form: &Form) -> Result<SignIn, Fault> {
    let code = required(form, "code")?;
    let (client, redirect) = (required(form, "client_id")?, required(form, "redirect_uri")?);
    let verifier = required(form, "code_verifier")?;
    let coded = parts.codes.take(parts.clock.steady(), code).ok_or(Fault::Code)?;
    let proof = URL_SAFE_NO_PAD.encode(sha256(&[verifier.as_bytes()]));
    let fits = coded.signed_in.client() == client && coded.redirect == redirect && coded.challenge == proof;
    fits.then_some(coded.signed_in).ok_or(Fault::Code)
}

impl Parts {
    /// 256 bits as text.
    fn secret_name(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.random.bytes::<32>())
    }

    /// Whether the browser knows this server by its own name: under another one, which its owner has point to this machine, that
    /// owner's pages could read ours.
    fn is_asked_here(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), &'static str> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| uri.authority().map(axum::http::uri::Authority::as_str));
        let own = self.audience.split_once("://").map(|(_, own)| own);
        (host.is_some() && host == own)
            .then_some(())
            .ok_or("the page was asked for under another name than this server's own: open it by the URL that `taskgrant login` prints")
    }

    /// Whether the form comes from our own page, as far as the browser says: no other site signs anybody in.
    fn is_same_origin(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        let all_are = |name: HeaderName, wanted: &str| {
            headers.get_all(name).iter().all(|value| value.as_bytes() == wanted.as_bytes())
        };
        let ours = all_are(header::ORIGIN, &self.audience) && all_are(SITE, "same-origin");
        ours.then_some(()).ok_or("the form was sent by another site: start again with `taskgrant login`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_uri_is_the_registered_one_on_any_port() {
        let is = |uri: &str| cast::ADMIN_REDIRECTS.iter().any(|registered| is_registered(uri, registered));
        for uri in [
            "http://127.0.0.1/callback",
            "http://127.0.0.1:1/callback",
            "http://127.0.0.1:65535/callback",
            "http://[::1]:8000/callback",
        ] {
            assert!(is(uri), "{uri}");
        }
        for uri in [
            "http://127.0.0.1:/callback",
            "http://127.0.0.1:0/callback",
            "http://127.0.0.1:080/callback",
            "http://127.0.0.1:65536/callback",
            "http://127.0.0.1:+80/callback",
            "http://127.0.0.1:80/callback/",
            "http://127.0.0.1:80/callback?x=y",
            "http://127.0.0.1:80//callback",
            "http://127.0.0.1:80@evil.example/callback",
            "http://127.0.0.1.evil.example/callback",
            "https://127.0.0.1:80/callback",
            "http://localhost:80/callback",
            "http://127.0.0.1callback",
            "http://127.0.0.1:80",
            "",
        ] {
            assert!(!is(uri), "{uri}");
        }
    }
}
