//! One sign-in: with a password or by a choice on the page, and the claims of the tokens that come of it.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use super::super::cast::{self, Person};
use super::super::secrets::Secrets;
use crate::clock::Random;
use crate::hash::sha256;

/// How long its tokens live, in seconds.
pub(super) const LIFETIME: i64 = 3600;

/// `acr` of a sign-in with a password (RFC 9470 leaves the words to the provider).
const ACR: &str = "urn:demo:password";

/// `acr` of one that proves nothing (OpenID Connect Core §2).
const NO_ACR: &str = "0";

/// `scope` when none is asked for.
const SCOPE: &str = "openid profile email";

/// Longest parameter that ends up in a token.
const MAX_TEXT: usize = 255;

/// Why nobody is signed in (RFC 6749 §5.2).
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not a form.
    #[error("send application/x-www-form-urlencoded of at most 16 KiB")]
    NotAForm,
    /// Another method.
    #[error("this endpoint takes POST")]
    NotPost,
    /// A parameter is missing.
    #[error("{0}: the parameter is missing")]
    Missing(&'static str),
    /// A parameter is sent twice.
    #[error("{0}: the parameter is sent more than once")]
    Repeated(&'static str),
    /// A parameter does not fit into a token.
    #[error("{0}: 1 to 255 printable ASCII characters are taken")]
    Unprintable(&'static str),
    /// Another grant.
    #[error("only grant_type=authorization_code and grant_type=password are offered")]
    Grant,
    /// No such code, or not for this request.
    #[error("the code is unknown, used, too old, or of another client, redirect_uri or code_verifier")]
    Code,
    /// Nobody of that name with that password.
    #[error("unknown user or wrong password: dev.json lists both under `principals`")]
    WrongPassword,
    /// No signature.
    #[error("the token could not be signed")]
    Unsigned,
}

impl Fault {
    /// Status and OAuth error code.
    pub(super) fn oauth(&self) -> (u16, &'static str) {
        match self {
            Self::NotAForm => (415, "invalid_request"),
            Self::NotPost => (405, "invalid_request"),
            Self::Missing(_) | Self::Repeated(_) | Self::Unprintable(_) => (400, "invalid_request"),
            Self::Grant => (400, "unsupported_grant_type"),
            Self::Code | Self::WrongPassword => (400, "invalid_grant"),
            Self::Unsigned => (500, "server_error"),
        }
    }
}

/// A person who signed in.
pub(super) struct SignIn {
    person: &'static Person,
    client: String,
    nonce: Option<String>,
    scope: String,
    at: DateTime<Utc>,
    /// Whether a password was asked for.
    proved: bool,
}

/// The parameters of a form or query.
pub(super) type Form = [(String, String)];

impl SignIn {
    /// Reads the form and checks the password. A name that nobody has costs the same comparison.
    pub(super) fn by_password(form: &Form, secrets: &Secrets, at: DateTime<Utc>) -> Result<Self, Fault> {
        let name = required(form, "username")?;
        let password = required(form, "password")?;
        let person = cast::people().find(|p| p.name == name);
        let known = secrets.password(name);
        let (given, kept) = (sha256(&[password.as_bytes()]), sha256(&[known.as_bytes()]));
        let right = bool::from(given.ct_eq(&kept)) && !known.is_empty();
        let person = person.filter(|_| right).ok_or(Fault::WrongPassword)?;
        let client = text(form, "client_id")?.unwrap_or(cast::APP).to_owned();
        let Wanted { nonce, scope } = Wanted::read(form)?;
        Ok(Self { person, client, nonce, scope, at, proved: true })
    }

    /// Somebody who was chosen on the page for `client`, at the instant `at`.
    pub(super) fn by_choice(
        person: &'static Person,
        client: &str,
        wanted: Wanted,
        at: DateTime<Utc>,
    ) -> Self {
        let Wanted { nonce, scope } = wanted;
        Self { person, client: client.to_owned(), nonce, scope, at, proved: false }
    }

    /// The client that the tokens are for.
    pub(super) fn client(&self) -> &str {
        &self.client
    }

    /// The granted `scope`.
    pub(super) fn scope(&self) -> &str {
        &self.scope
    }

    /// The claims of the access token (RFC 9068 §2.2) and of the ID token (OpenID Connect Core §2).
    pub(super) fn claims(
        &self,
        issuer: &str,
        audience: &str,
        now: DateTime<Utc>,
        random: &Random,
    ) -> (Value, Value) {
        let mut shared = self.shared(issuer, now, random);
        let mut identity = shared.clone();
        identity.insert("aud".to_owned(), self.client.as_str().into());
        identity.insert("name".to_owned(), self.person.full_name.into());
        if let Some(nonce) = &self.nonce {
            identity.insert("nonce".to_owned(), nonce.as_str().into());
        }
        shared.insert("aud".to_owned(), audience.into());
        shared.insert("client_id".to_owned(), self.client.as_str().into());
        shared.insert("jti".to_owned(), random.jti(now).to_string().into());
        shared.insert("scope".to_owned(), self.scope.as_str().into());
        (shared.into(), identity.into())
    }

    fn shared(&self, issuer: &str, now: DateTime<Utc>, random: &Random) -> Map<String, Value> {
        let (person, now) = (self.person, (now, now.timestamp()));
        let claims = json!({
            "iss": issuer,
            "sub": person.name,
            "azp": self.client,
            "sid": random.jti(now.0).to_string(),
            "auth_time": self.at.timestamp(),
            "iat": now.1,
            "exp": now.1 + LIFETIME,
            "groups": person.groups,
            "email": person.email(),
            "acr": if self.proved { ACR } else { NO_ACR },
        });
        let mut claims = claims.as_object().cloned().unwrap_or_default();
        if self.proved {
            claims.insert("amr".to_owned(), json!(["pwd"]));
        }
        if !person.roles.is_empty() {
            claims.insert("roles".to_owned(), json!(person.roles));
        }
        claims
    }
}

/// What of an authorization request comes back in the tokens.
#[derive(Clone)]
pub(super) struct Wanted {
    /// `nonce`.
    pub(super) nonce: Option<String>,
    /// `scope`.
    pub(super) scope: String,
}

impl Wanted {
    /// Reads both.
    pub(super) fn read(form: &Form) -> Result<Self, Fault> {
        let nonce = text(form, "nonce")?.map(str::to_owned);
        Ok(Self { nonce, scope: text(form, "scope")?.unwrap_or(SCOPE).to_owned() })
    }
}

/// A parameter that comes exactly once.
pub(super) fn required<'f>(form: &'f Form, name: &'static str) -> Result<&'f str, Fault> {
    one(form, name)?.ok_or(Fault::Missing(name))
}

/// A parameter that may come once; an empty one counts as left out (RFC 6749 §3.2).
pub(super) fn one<'f>(form: &'f Form, name: &'static str) -> Result<Option<&'f str>, Fault> {
    let mut values = form.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let value = values.next().filter(|v| !v.is_empty());
    if values.next().is_some() { Err(Fault::Repeated(name)) } else { Ok(value) }
}

/// The same, for what is repeated in a token.
pub(super) fn text<'f>(form: &'f Form, name: &'static str) -> Result<Option<&'f str>, Fault> {
    let legal = |v: &str| v.len() <= MAX_TEXT && v.bytes().all(|b| matches!(b, b' '..=b'~'));
    match one(form, name)? {
        Some(value) if !legal(value) => Err(Fault::Unprintable(name)),
        value => Ok(value),
    }
}
