//! The typed request to the token endpoint: what the form says, before anything of it is believed. An exchange (RFC 8693 §2.1), or
//! the token of one that waited for a person (STANDARDS §11).

use std::fmt;

use serde::{Deserialize, Serialize};
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
/// The grant by which the token of a deferred exchange is fetched (draft-ietf-oauth-deferred-token-response).
pub const DEFERRED: &str = "urn:ietf:params:oauth:grant-type:deferred";
/// The completion mode of a client that waits for people.
const DEFERRED_MODE: &str = "deferred";
/// The token type of what it issues (RFC 8693 §3).
pub const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// A token as presented: `Debug` hides it, nothing prints it. As JSON it is sent over the admin socket, and nowhere else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Presented(String);

impl Presented {
    /// The token of this text.
    pub fn from_text(text: String) -> Self {
        Self(text)
    }

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

/// A code that stands for a deferred exchange: `Debug` hides it, nothing prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct DeferralCode(String);

impl DeferralCode {
    /// What it begins with, so that none is taken for another kind of secret (T35).
    pub const PREFIX: &str = "tgd_";

    /// The code of these 256 random bits, in Base64url.
    pub fn new(base64url: &str) -> Self {
        Self(format!("{}{base64url}", Self::PREFIX))
    }

    /// The code as the client sends it.
    pub fn sent(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text, for the client it belongs to and for hashing only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DeferralCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeferralCode(..)")
    }
}

/// A request to the token endpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenRequest {
    /// Exchange a token.
    Exchange(Box<ExchangeRequest>),
    /// Fetch the token of an exchange that was deferred.
    Deferred(DeferralCode),
}

impl TokenRequest {
    /// Reads decoded form parameters. Unknown ones are ignored, empty ones count as left out (RFC 6749 §3.2).
    pub fn parse(form: &[(String, String)]) -> Result<Self, Refusal> {
        if let Some(field) = repeated(form) {
            return Err(Refusal::malformed(field, "the parameter is sent more than once"));
        }
        match one(form, "grant_type") {
            Some(TOKEN_EXCHANGE) => ExchangeRequest::parse(form).map(|read| Self::Exchange(Box::new(read))),
            Some(DEFERRED) => deferral_code(form).map(Self::Deferred),
            Some(_) => Err(Refusal::GrantType),
            None => Err(Refusal::malformed("grant_type", "the parameter is missing")),
        }
    }
}

/// What was asked for is fixed: nothing of it may be said again (STANDARDS §11.3).
fn deferral_code(form: &[(String, String)]) -> Result<DeferralCode, Refusal> {
    if let Some(field) = FIXED.into_iter().find(|name| one(form, name).is_some()) {
        return Err(Refusal::malformed(field, "is fixed by the request that was deferred: leave it out"));
    }
    let code = one(form, "deferral_code").ok_or_else(|| missing("deferral_code"))?;
    Ok(DeferralCode::sent(code))
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// Whether the client waits where a person must approve: `completion_mode` holds `deferred` (STANDARDS §11.1).
    pub deferred: bool,
}

/// Parameters that this server reads once; `resource` and `audience` may repeat (TX-01).
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

/// What a deferred exchange has asked for already.
const FIXED: [&str; 15] = [
    "subject_token",
    "subject_token_type",
    "actor_token",
    "actor_token_type",
    "requested_token_type",
    "scope",
    "resource",
    "audience",
    "authorization_details",
    "task_type",
    "requested_expires_in",
    "delegate_to",
    "claimed",
    "dry_run",
    "completion_mode",
];

impl ExchangeRequest {
    /// Reads the parameters of an exchange, none of which is repeated.
    fn parse(form: &[(String, String)]) -> Result<Self, Refusal> {
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
                deferred: one(form, "completion_mode")
                    .is_some_and(|modes| modes.split(' ').any(|mode| mode == DEFERRED_MODE)),
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

    fn exchange(extra: &[(&str, &str)]) -> ExchangeRequest {
        match TokenRequest::parse(&form(extra)).unwrap() {
            TokenRequest::Exchange(read) => *read,
            TokenRequest::Deferred(_) => panic!("another grant"),
        }
    }

    fn refused(extra: &[(&str, &str)]) -> String {
        TokenRequest::parse(&form(extra)).unwrap_err().to_string()
    }

    #[test]
    fn tx_01_a_repeated_parameter_is_refused_and_an_empty_one_is_left_out() {
        assert!(refused(&[("scope", "a"), ("scope", "b")]).starts_with("scope: "));
        assert!(refused(&[("scope", "a"), ("scope", "")]).starts_with("scope: "));
        let read = exchange(&[("scope", ""), ("unknown", "x"), ("unknown", "y")]);
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
        let read = exchange(&[("resource", "https://a.example"), ("audience", "orders")]);
        assert_eq!(
            read.wish.targets,
            [Target::Uri("https://a.example".parse().unwrap()), Target::Audience("orders".into())]
        );
        assert!(matches!(
            TokenRequest::parse(&form(&[("resource", "https://a.example#f")])),
            Err(Refusal::UnknownTarget { .. })
        ));
    }

    #[test]
    fn a_lifetime_is_a_positive_whole_number() {
        for bad in ["0", "-1", "1.5", "+5", "1e3", "99999999999"] {
            assert!(refused(&[("requested_expires_in", bad)]).starts_with("requested_expires_in: "), "{bad}");
        }
        let read = exchange(&[("requested_expires_in", "9999999999")]);
        assert_eq!(read.wish.expires_in, Some(u32::MAX));
    }

    #[test]
    fn a_deferred_exchange_is_named_by_its_code_and_by_nothing_else() {
        let form = |extra: Option<(&str, &str)>| {
            let base = [("grant_type", DEFERRED), ("deferral_code", "tgd_x")];
            let all = base.into_iter().chain(extra);
            all.map(|(k, v)| (k.to_owned(), v.to_owned())).collect::<Vec<_>>()
        };
        let read = TokenRequest::parse(&form(Some(("unknown", "x")))).unwrap();
        assert_eq!(read, TokenRequest::Deferred(DeferralCode::sent("tgd_x")));
        assert!(!format!("{read:?}").contains("tgd_x"));
        for field in FIXED {
            let refused = TokenRequest::parse(&form(Some((field, "x")))).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("{field}: ")), "{refused}");
        }
        let twice = TokenRequest::parse(&form(Some(("deferral_code", "tgd_y")))).unwrap_err();
        assert!(twice.to_string().starts_with("deferral_code: "), "{twice}");
    }

    #[test]
    fn a_client_that_waits_says_so_among_its_modes() {
        assert!(exchange(&[("completion_mode", "callback deferred")]).wish.deferred);
        for modes in ["", "deferred2", "callback"] {
            assert!(!exchange(&[("completion_mode", modes)]).wish.deferred, "{modes}");
        }
    }
}
