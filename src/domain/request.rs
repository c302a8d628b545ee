//! The typed exchange request (RFC 8693 §2.1): what the form says, before anything of it is believed.

use std::fmt;

use serde_json::{Map, Value};

use super::details::BadDetails;
use super::ids::{ClientId, Name, shown};
use super::json;
use super::objects::SessionTokenKind;
use super::refusal::Refusal;
use super::resource::ResourceUri;
use super::scope::ScopeSet;

/// The grant this server offers.
pub const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// The token type of what it issues (RFC 8693 §3).
pub const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// A token as presented: `Debug` hides it, nothing prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct Presented(String);

impl Presented {
    /// The compact text, for the verifier only.
    pub fn compact(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presented(..)")
    }
}

/// One `resource` or `audience` value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `resource`: an absolute URI (RFC 8707).
    Uri(ResourceUri),
    /// `audience`: a logical name, or a URI.
    Audience(String),
}

impl Target {
    /// The value as sent.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Uri(uri) => uri.as_str(),
            Self::Audience(name) => name,
        }
    }
}

/// A token-exchange request.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeRequest {
    /// The token of the party on whose behalf the request is made.
    pub subject_token: Presented,
    /// What the client says it is (TX-04).
    pub subject_token_type: SessionTokenKind,
    /// Proof of the agent's instance, of type `jwt`.
    pub actor_token: Option<Presented>,
    /// The task type of a root exchange.
    pub task_type: Option<Name>,
    /// What is wished for.
    pub wish: Wish,
}

/// What a request wishes for, without the tokens it presents: this part may be kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wish {
    /// `scope`.
    pub scope: Option<ScopeSet>,
    /// `resource` and `audience`, in the order sent.
    pub targets: Vec<Target>,
    /// `authorization_details`, as JSON (RFC 9396).
    pub details: Option<Value>,
    /// Wished lifetime in seconds, at least 1.
    pub expires_in: Option<u32>,
    /// The agent to hand over to.
    pub delegate_to: Option<ClientId>,
    /// What the client says of itself: reaches policy as `input.claimed` only (L11).
    pub claimed: Map<String, Value>,
    /// Whether to decide and record, and issue nothing.
    pub dry_run: bool,
}

/// Parameters that this server reads once; `resource` and `audience` may repeat (TX-01).
const SINGLE: [&str; 15] = [
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
    "client_id",
    "client_secret",
];

impl ExchangeRequest {
    /// Reads decoded form parameters. Unknown ones are ignored, empty ones count as left out (RFC 6749 §3.2).
    pub fn parse(form: &[(String, String)]) -> Result<Self, Refusal> {
        if let Some(field) = repeated(form) {
            return Err(Refusal::malformed(field, "the parameter is sent more than once"));
        }
        match one(form, "grant_type") {
            Some(TOKEN_EXCHANGE) => {}
            Some(_) => return Err(Refusal::GrantType),
            None => return Err(Refusal::malformed("grant_type", "the parameter is missing")),
        }
        if one(form, "requested_token_type").is_some_and(|t| t != ACCESS_TOKEN) {
            return Err(Refusal::malformed(
                "requested_token_type",
                format!("only `{ACCESS_TOKEN}` is issued"),
            ));
        }
        Ok(Self {
            subject_token: token(form, "subject_token").ok_or_else(|| missing("subject_token"))?,
            subject_token_type: subject_type(form)?,
            actor_token: actor_token(form)?,
            task_type: parsed(form, "task_type")?,
            wish: Wish {
                scope: one(form, "scope").map(|s| s.parse().map_err(Refusal::Scope)).transpose()?,
                targets: targets(form)?,
                details: details(form)?,
                expires_in: expires_in(form)?,
                delegate_to: parsed(form, "delegate_to")?,
                claimed: claimed(form)?,
                dry_run: flag(form, "dry_run")?,
            },
        })
    }

    /// What was asked for, for the record: no token in it.
    pub fn asked(&self) -> Value {
        let wish = &self.wish;
        let targets = || wish.targets.iter().map(|t| shown(t.as_str())).collect::<Value>();
        let members = [
            ("task_type", self.task_type.as_ref().map(|t| t.as_str().into())),
            ("scope", wish.scope.as_ref().map(|s| s.to_string().into())),
            ("targets", (!wish.targets.is_empty()).then(targets)),
            ("authorization_details", wish.details.clone()),
            ("requested_expires_in", wish.expires_in.map(Value::from)),
            ("delegate_to", wish.delegate_to.as_ref().map(|a| a.as_str().into())),
        ];
        let sent = members.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        Value::Object(sent.collect())
    }
}

fn repeated(form: &[(String, String)]) -> Option<&'static str> {
    SINGLE.into_iter().find(|name| form.iter().filter(|(key, _)| key == name).count() > 1)
}

fn one<'a>(form: &'a [(String, String)], name: &str) -> Option<&'a str> {
    form.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
}

fn missing(field: &'static str) -> Refusal {
    Refusal::malformed(field, "the parameter is missing")
}

fn parsed<T: std::str::FromStr<Err: fmt::Display>>(
    form: &[(String, String)],
    field: &'static str,
) -> Result<Option<T>, Refusal> {
    one(form, field)
        .map(|v| v.parse().map_err(|e: T::Err| Refusal::malformed(field, e.to_string())))
        .transpose()
}

fn token(form: &[(String, String)], field: &'static str) -> Option<Presented> {
    one(form, field).map(|text| Presented(text.to_owned()))
}

fn subject_type(form: &[(String, String)]) -> Result<SessionTokenKind, Refusal> {
    match one(form, "subject_token_type").ok_or_else(|| missing("subject_token_type"))? {
        ACCESS_TOKEN => Ok(SessionTokenKind::AccessToken),
        ID_TOKEN => Ok(SessionTokenKind::IdToken),
        JWT => Ok(SessionTokenKind::Jwt),
        other => Err(Refusal::malformed(
            "subject_token_type",
            format!(
                "`{}` is not accepted: use access_token, id_token or jwt (RFC 8693 section 3)",
                shown(other)
            ),
        )),
    }
}

/// `actor_token` and its type come together, and the type is `jwt` (TX-03, TX-08).
fn actor_token(form: &[(String, String)]) -> Result<Option<Presented>, Refusal> {
    match (token(form, "actor_token"), one(form, "actor_token_type")) {
        (None, None) => Ok(None),
        (Some(token), Some(JWT)) => Ok(Some(token)),
        (Some(_), Some(_)) => {
            Err(Refusal::malformed("actor_token_type", format!("only `{JWT}` is accepted")))
        }
        (Some(_), None) => Err(missing("actor_token_type")),
        (None, Some(_)) => Err(Refusal::malformed("actor_token_type", "sent without actor_token")),
    }
}

fn targets(form: &[(String, String)]) -> Result<Vec<Target>, Refusal> {
    let mut targets = Vec::new();
    for (key, value) in form.iter().filter(|(_, value)| !value.is_empty()) {
        match key.as_str() {
            "resource" => {
                let uri = value.parse().map_err(|_| Refusal::UnknownTarget { asked: shown(value) })?;
                targets.push(Target::Uri(uri));
            }
            "audience" => targets.push(Target::Audience(value.clone())),
            _ => {}
        }
    }
    if targets.len() > 64 {
        return Err(Refusal::malformed("resource", "more than 64 resources and audiences"));
    }
    Ok(targets)
}

fn details(form: &[(String, String)]) -> Result<Option<Value>, Refusal> {
    let Some(text) = one(form, "authorization_details") else { return Ok(None) };
    let read = json::value(text.as_bytes()).map_err(|fault| Refusal::Details(BadDetails::Json(fault)))?;
    Ok(Some(read))
}

fn expires_in(form: &[(String, String)]) -> Result<Option<u32>, Refusal> {
    let Some(text) = one(form, "requested_expires_in") else { return Ok(None) };
    let digits = !text.is_empty() && text.len() <= 10 && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u64>() {
        Ok(seconds) if digits && seconds > 0 => Ok(Some(u32::try_from(seconds).unwrap_or(u32::MAX))),
        _ => Err(Refusal::malformed("requested_expires_in", "must be a whole number of seconds, at least 1")),
    }
}

fn claimed(form: &[(String, String)]) -> Result<Map<String, Value>, Refusal> {
    let Some(text) = one(form, "claimed") else { return Ok(Map::new()) };
    if text.len() > 8192 {
        return Err(Refusal::malformed("claimed", "longer than 8192 bytes"));
    }
    json::object(text.as_bytes()).map_err(|fault| Refusal::malformed("claimed", fault.to_string()))
}

fn flag(form: &[(String, String)], field: &'static str) -> Result<bool, Refusal> {
    match one(form, field) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Refusal::malformed(field, "must be `true` or `false`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(extra: &[(&str, &str)]) -> Vec<(String, String)> {
        let base = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", "a.b.c"),
            ("subject_token_type", ACCESS_TOKEN),
        ];
        let kept = base.iter().filter(|(key, _)| !extra.iter().any(|(k, _)| k == key && *key != "scope"));
        kept.chain(extra).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn refused(extra: &[(&str, &str)]) -> String {
        ExchangeRequest::parse(&form(extra)).unwrap_err().to_string()
    }

    #[test]
    fn tx_01_a_repeated_parameter_is_refused_and_an_empty_one_is_left_out() {
        assert!(refused(&[("scope", "a"), ("scope", "b")]).starts_with("scope: "));
        assert!(refused(&[("scope", "a"), ("scope", "")]).starts_with("scope: "));
        let read =
            ExchangeRequest::parse(&form(&[("scope", ""), ("unknown", "x"), ("unknown", "y")])).unwrap();
        assert_eq!(read.wish.scope, None);
    }

    #[test]
    fn t03_tx_03_a_blank_or_missing_subject_token_is_refused() {
        assert!(refused(&[("subject_token", "")]).starts_with("subject_token: "));
        assert!(refused(&[("subject_token_type", "")]).starts_with("subject_token_type: "));
        assert!(refused(&[("actor_token", "a.b.c")]).starts_with("actor_token_type: "));
        assert!(refused(&[("actor_token_type", JWT)]).starts_with("actor_token_type: "));
    }

    #[test]
    fn tx_08_t19_refresh_and_foreign_token_types_are_refused() {
        for kind in ["refresh_token", "saml2", "unsigned_json"] {
            let urn = format!("urn:ietf:params:oauth:token-type:{kind}");
            assert!(refused(&[("subject_token_type", &urn)]).starts_with("subject_token_type: "));
            assert!(refused(&[("requested_token_type", &urn)]).starts_with("requested_token_type: "));
        }
    }

    #[test]
    fn resources_and_audiences_repeat_and_stay_apart() {
        let read =
            ExchangeRequest::parse(&form(&[("resource", "https://a.example"), ("audience", "orders")]))
                .unwrap();
        assert_eq!(
            read.wish.targets,
            [Target::Uri("https://a.example".parse().unwrap()), Target::Audience("orders".into())]
        );
        assert!(matches!(
            ExchangeRequest::parse(&form(&[("resource", "https://a.example#f")])),
            Err(Refusal::UnknownTarget { .. })
        ));
    }

    #[test]
    fn a_lifetime_is_a_positive_whole_number() {
        for bad in ["0", "-1", "1.5", "+5", "1e3", "99999999999"] {
            assert!(refused(&[("requested_expires_in", bad)]).starts_with("requested_expires_in: "), "{bad}");
        }
        let read = ExchangeRequest::parse(&form(&[("requested_expires_in", "9999999999")])).unwrap();
        assert_eq!(read.wish.expires_in, Some(u32::MAX));
    }
}
