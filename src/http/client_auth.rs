//! Client authentication at the OAuth endpoints: `client_secret_basic` and `client_secret_post` (RFC 6749 §2.3.1).

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq as _;

use super::error::OAuthError;
use super::form;
use crate::domain::ids::ClientId;
use crate::domain::objects::AuthSpec;
use crate::domain::snapshot::{Agent, Resource, Snapshot};
use crate::hash::sha256;

/// An authenticated client.
#[derive(Clone, Debug)]
pub(super) enum Client {
    /// An agent.
    Agent(Arc<Agent>),
    /// A resource.
    Resource(Arc<Resource>),
}

impl Client {
    /// Its client id.
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Agent(agent) => agent.spec.client_id.as_str(),
            Self::Resource(resource) => resource.spec.client_id.as_ref().map_or("", ClientId::as_str),
        }
    }
}

struct Credentials {
    id: String,
    secret: String,
}

/// Authenticates the caller by exactly one method (CA-01). An unknown client, a wrong secret and a disabled agent
/// get the same answer after the same work (CA-02).
pub(super) fn authenticate(
    snapshot: &Snapshot,
    headers: &HeaderMap,
    form: &[(String, String)],
) -> Result<Client, OAuthError> {
    let credentials = credentials(headers, form)?;
    let presented = sha256(&[credentials.secret.as_bytes()]);
    let client = credentials.id.parse().ok().and_then(|id| find(snapshot, &id));
    let registered = client.as_ref().map(|(_, auth)| auth.secret_sha256.as_slice()).unwrap_or_default();
    let nobody = [0; 32];
    let hashes = registered.iter().map(crate::domain::objects::SecretHash::bytes).chain([&nobody]);
    let mut matches = false;
    for hash in hashes {
        matches |= bool::from(presented.as_ref().ct_eq(hash));
    }
    match client {
        Some((client, _)) if matches => Ok(client),
        Some(_) | None => Err(OAuthError::invalid_client()),
    }
}

fn find(snapshot: &Snapshot, id: &ClientId) -> Option<(Client, AuthSpec)> {
    if let Some(agent) = snapshot.agent(id).filter(|a| !a.spec.disabled) {
        return Some((Client::Agent(agent.clone()), agent.spec.auth.clone()));
    }
    let resource = snapshot.resource_client(id)?;
    Some((Client::Resource(resource.clone()), resource.spec.auth.clone()))
}

fn credentials(headers: &HeaderMap, form: &[(String, String)]) -> Result<Credentials, OAuthError> {
    for name in ["client_id", "client_secret", "client_assertion", "client_assertion_type"] {
        if form.iter().filter(|(key, _)| key == name).count() > 1 {
            return Err(OAuthError::invalid_request(&format!(
                "{name}: the parameter is sent more than once"
            )));
        }
    }
    let mut authorization = headers.get_all(header::AUTHORIZATION).iter();
    let basic = authorization.next();
    if authorization.next().is_some() {
        return Err(OAuthError::invalid_request("more than one Authorization header"));
    }
    let secret = form::value(form, "client_secret");
    let assertion = form::value(form, "client_assertion");
    match (basic, secret, assertion) {
        (Some(header), None, None) => {
            let credentials = basic_credentials(header.as_bytes()).ok_or_else(OAuthError::invalid_client)?;
            if form::value(form, "client_id").is_some_and(|id| id != credentials.id) {
                return Err(OAuthError::invalid_request("client_id: differs from the Authorization header"));
            }
            Ok(credentials)
        }
        (None, Some(secret), None) => {
            let id = form::value(form, "client_id").ok_or_else(OAuthError::invalid_client)?;
            Ok(Credentials { id: id.to_owned(), secret: secret.to_owned() })
        }
        (None, None, _) => Err(OAuthError::invalid_client()),
        _ => Err(OAuthError::invalid_request(
            "more than one way of client authentication (RFC 6749 section 2.3)",
        )),
    }
}

/// `Basic` credentials: id and secret are form-encoded each, joined by the first colon, then Base64 (CA-02).
fn basic_credentials(header: &[u8]) -> Option<Credentials> {
    let (scheme, encoded) = header.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let joined = STANDARD.decode(encoded).ok()?;
    let colon = joined.iter().position(|b| *b == b':')?;
    let (id, secret) = joined.split_at(colon);
    Some(Credentials { id: form::decode(id).ok()?, secret: form::decode(secret.get(1..)?).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ca_02_basic_credentials_are_form_decoded_after_the_first_colon() {
        let read = |plain: &str| basic_credentials(format!("Basic {}", STANDARD.encode(plain)).as_bytes());
        let credentials = read("a%3Ab+c%25:s%3A%2B:x%C3%A4").unwrap();
        assert_eq!(credentials.id, "a:b c%");
        assert_eq!(credentials.secret, "s:+:xä");
        assert!(read("no-colon").is_none());
        assert!(read("a:%zz").is_none());
        assert!(basic_credentials(b"Bearer abcdef").is_none());
        assert!(basic_credentials(b"basic !!!").is_none());
    }
}
