//! The token endpoint's form (RFC 6749 §3.2, RFC 8693 §2.1): read as it was meant, and no secret of it told on.

use serde_json::Value;
use taskgrant::domain::ids::{ClientId, Name};
use taskgrant::domain::refusal::Refusal;
use taskgrant::domain::request::{
    ACCESS_TOKEN, ExchangeRequest, Presented, TOKEN_EXCHANGE, Target, TokenRequest,
};
use taskgrant::http::form;

type Form = Vec<(String, String)>;

/// What every exchange must say; put in where the input does not, so that the rest is read too.
const REQUIRED: [(&str, &str); 3] =
    [("grant_type", TOKEN_EXCHANGE), ("subject_token", "a.b.c"), ("subject_token_type", ACCESS_TOKEN)];
const SECRET: [&str; 3] = ["subject_token", "actor_token", "client_secret"];
const SINGLE: [&str; 17] = [
    "grant_type",
    "subject_token",
    "subject_token_type",
    "actor_token",
    "actor_token_type",
    "requested_token_type",
    "scope",
    "authorization_details",
    "task_type",
    "requested_expires_in",
    "delegate_to",
    "claimed",
    "dry_run",
    "completion_mode",
    "deferral_code",
    "client_id",
    "client_secret",
];

pub(crate) fn body(input: &[u8]) {
    let read = form::parse(input).ok();
    assert_eq!(read, decoded(input), "the form as the standard decodes it");
    let Some(mut form) = read else { return };
    assert_eq!(form::parse(encoded(&form).as_bytes()).as_ref(), Ok(&form), "a form is read as it is written");
    asked(&form);
    for (name, value) in REQUIRED {
        if form.iter().all(|(key, _)| key != name) {
            form.push((name.to_owned(), value.to_owned()));
        }
    }
    asked(&form);
}

/// Decodes a form in the plainest way there is.
fn decoded(input: &[u8]) -> Option<Form> {
    let pairs: Vec<&[u8]> = input.split(|b| *b == b'&').filter(|pair| !pair.is_empty()).collect();
    if pairs.len() > 256 {
        return None;
    }
    let halves = |pair: &[u8]| match pair.iter().position(|b| *b == b'=') {
        Some(at) => Some((plain(&pair[..at])?, plain(&pair[at + 1..])?)),
        None => Some((plain(pair)?, String::new())),
    };
    pairs.into_iter().map(halves).collect()
}

fn plain(text: &[u8]) -> Option<String> {
    let spaced: Vec<u8> = text.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
    let mut pieces = spaced.split(|b| *b == b'%');
    let mut octets = pieces.next()?.to_vec();
    for piece in pieces {
        let digits = piece.get(..2).filter(|two| two.iter().all(u8::is_ascii_hexdigit))?;
        octets.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        octets.extend(&piece[2..]);
    }
    String::from_utf8(octets).ok().filter(|text| !text.contains('\0'))
}

fn encoded(form: &[(String, String)]) -> String {
    let octet = |b: u8| if b.is_ascii_alphanumeric() { char::from(b).into() } else { format!("%{b:02X}") };
    let text = |text: &str| text.bytes().map(octet).collect::<String>();
    form.iter().map(|(key, value)| format!("{}={}", text(key), text(value))).collect::<Vec<_>>().join("&")
}

/// What the form asks for, where that is an exchange.
fn exchange(form: &[(String, String)]) -> Result<ExchangeRequest, Refusal> {
    match TokenRequest::parse(form)? {
        TokenRequest::Exchange(request) => Ok(*request),
        TokenRequest::Deferred(code) => {
            assert!(!format!("{code:?}").contains(code.reveal()) || code.reveal().len() < 12);
            Err(Refusal::GrantType)
        }
    }
}

fn asked(form: &[(String, String)]) {
    let read = exchange(form);
    keeps_secrets(form, read.is_ok());
    ignores_what_it_does_not_know(form, &read);
    let Ok(request) = read else { return };
    says_what_was_sent(form, &request);
    for name in SINGLE {
        let is_sent = form.iter().any(|(key, _)| key == name);
        let again = [form, &[(name.to_owned(), String::new())]].concat();
        assert_eq!(is_sent, exchange(&again).is_err(), "{name} twice");
    }
    let mut backwards: Form = form.to_vec();
    backwards.reverse();
    let mut turned = exchange(&backwards).unwrap();
    turned.wish.targets.reverse();
    assert_eq!(turned, request, "parameters have no order, but that of the targets");
}

/// With other secrets of the same names the request means the same, and nothing that is told holds one (L12).
fn keeps_secrets(form: &[(String, String)], is_read: bool) {
    const MARK: &str = "S3cr3t.0f.Th1s.T0k3n";
    if form.iter().any(|(_, value)| value.contains(MARK)) {
        return;
    }
    let hide = |(key, value): &(String, String)| {
        let is_secret = SECRET.contains(&key.as_str()) && !value.is_empty();
        (key.clone(), if is_secret { MARK.to_owned() } else { value.clone() })
    };
    let marked = exchange(&form.iter().map(hide).collect::<Form>());
    assert_eq!(marked.is_ok(), is_read, "a token is looked into by its verifier alone");
    let told = match marked {
        Ok(request) => format!("{request:?} {}", request.asked()),
        Err(refusal) => format!("{refusal:?} {refusal}"),
    };
    assert!(!told.contains(MARK), "{told}");
}

/// RFC 6749 §3.2: unknown parameters are ignored, and those without a value are as good as left out.
fn ignores_what_it_does_not_know(form: &[(String, String)], read: &Result<ExchangeRequest, Refusal>) {
    let unknown = ("x_unknown".to_owned(), "1".to_owned());
    let more = [std::slice::from_ref(&unknown), form, std::slice::from_ref(&unknown)].concat();
    assert_eq!(&exchange(&more), read);
    if read.is_ok() {
        let full: Form = form.iter().filter(|(_, value)| !value.is_empty()).cloned().collect();
        assert_eq!(&exchange(&full), read);
    }
}

fn says_what_was_sent(form: &[(String, String)], request: &ExchangeRequest) {
    let sent =
        |name: &str| form.iter().find(|(key, v)| key == name && !v.is_empty()).map(|(_, v)| v.as_str());
    let json = |name: &str| sent(name).map(|text| serde_json::from_str::<Value>(text).unwrap());
    let wish = &request.wish;
    assert_eq!(sent("grant_type"), Some(TOKEN_EXCHANGE));
    assert_eq!(sent("subject_token"), Some(request.subject_token.compact()));
    assert_eq!(sent("actor_token"), request.actor_token.as_ref().map(Presented::compact));
    assert_eq!(sent("task_type"), request.task_type.as_ref().map(Name::as_str));
    assert_eq!(sent("delegate_to"), wish.delegate_to.as_ref().map(ClientId::as_str));
    assert_eq!(json("authorization_details"), wish.details);
    assert_eq!(
        json("claimed").unwrap_or_else(|| Value::Object(serde_json::Map::new())),
        Value::Object(wish.claimed.clone())
    );
    assert_eq!(sent("dry_run") == Some("true"), wish.dry_run);
    let seconds = sent("requested_expires_in").map(|text| text.parse::<u64>().unwrap());
    assert_eq!(seconds.map(|s| s.min(u64::from(u32::MAX))), wish.expires_in.map(u64::from));
    assert_ne!(wish.expires_in, Some(0));
    let mut scopes: Vec<&str> = sent("scope").map(|text| text.split(' ').collect()).unwrap_or_default();
    scopes.sort_unstable();
    let read = wish.scope.as_ref().map(ToString::to_string).unwrap_or_default();
    assert_eq!(scopes.join(" "), read);
    let is_target = |key: &str| matches!(key, "resource" | "audience");
    let named = form.iter().filter(|(key, value)| is_target(key) && !value.is_empty());
    let kept = wish.targets.iter().map(|target| {
        let key = if matches!(target, Target::Uri(_)) { "resource" } else { "audience" };
        (key, target.as_str())
    });
    assert!(named.map(|(key, value)| (key.as_str(), value.as_str())).eq(kept));
}
