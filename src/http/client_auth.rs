//! What a request shows of its client: `client_secret_basic` and `client_secret_post` (RFC 6749 §2.3.1), assertions
//! (RFC 7521 §4.2), and certificates (RFC 8705 §2).

use axum::http::header;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::OAuthError;
use super::{Sent, form};
use crate::authentication::{AssertionKind, NotAuthenticated, Shown};

/// A JWT as client assertion (RFC 7523 §2.2).
pub(super) const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// A JWT-SVID as client assertion (draft-ietf-oauth-spiffe-client-auth §3.1).
pub(super) const JWT_SPIFFE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";

/// Reads the one way in which the client authenticates (CA-01).
pub(super) fn shown(sent: &Sent) -> Result<Shown<'_>, OAuthError> {
    let Sent { headers, form, certificate } = sent;
    for name in ["client_id", "client_secret", "client_assertion", "client_assertion_type"] {
        if form.iter().filter(|(key, _)| key == name).count() > 1 {
            return Err(OAuthError::invalid_request(&format!(
                "{name}: the parameter is sent more than once"
            )));
        }
    }
    if let Some(Err(why)) = &certificate.0 {
        return Err(OAuthError::invalid_request(&why.to_string()));
    }
    let mut authorization = headers.get_all(header::AUTHORIZATION).iter();
    let basic = authorization.next();
    if authorization.next().is_some() {
        return Err(OAuthError::invalid_request("more than one Authorization header"));
    }
    let [id, secret, assertion, kind] =
        ["client_id", "client_secret", "client_assertion", "client_assertion_type"]
            .map(|name| form::value(form, name));
    match (basic, secret, assertion, kind) {
        (Some(header), None, None, None) => {
            let (sent, secret) =
                basic_credentials(header.as_bytes()).ok_or_else(OAuthError::invalid_client)?;
            if id.is_some_and(|id| id != sent) {
                return Err(OAuthError::invalid_request("client_id: differs from the Authorization header"));
            }
            Ok(Shown::Secret { id: sent, secret })
        }
        (None, Some(secret), None, None) => {
            let id = id.ok_or_else(OAuthError::invalid_client)?;
            Ok(Shown::Secret { id: id.to_owned(), secret: secret.to_owned() })
        }
        (None, None, Some(compact), Some(kind)) => {
            Ok(Shown::Assertion { kind: assertion_kind(kind)?, compact, client_id: id })
        }
        (None, None, Some(_), None) => {
            Err(OAuthError::invalid_request("client_assertion_type: the parameter is missing"))
        }
        (None, None, None, Some(_)) => {
            Err(OAuthError::invalid_request("client_assertion: the parameter is missing"))
        }
        // A certificate comes with the connection, whoever calls over it: it is looked at where nothing else is shown.
        (None, None, None, None) => match (id, &certificate.0) {
            (Some(id), Some(Ok(chain))) => Ok(Shown::Certificate { id, chain }),
            _ => Err(OAuthError::invalid_client()),
        },
        _ => Err(OAuthError::invalid_request(
            "more than one way of client authentication (RFC 6749 section 2.3)",
        )),
    }
}

fn assertion_kind(kind: &str) -> Result<AssertionKind, OAuthError> {
    match kind {
        JWT_BEARER => Ok(AssertionKind::Jwt),
        JWT_SPIFFE => Ok(AssertionKind::Spiffe),
        _ => Err(OAuthError::bad_assertion(&format!(
            "client_assertion_type: neither `{JWT_BEARER}` nor `{JWT_SPIFFE}`"
        ))),
    }
}

impl From<NotAuthenticated> for OAuthError {
    fn from(why: NotAuthenticated) -> Self {
        match why {
            NotAuthenticated::Refused => Self::invalid_client(),
            NotAuthenticated::Assertion(fault) => Self::bad_assertion(&format!("client_assertion: {fault}")),
            NotAuthenticated::Workload(fault) => Self::bad_assertion(&format!("client_assertion: {fault}")),
            NotAuthenticated::OtherClientId => {
                Self::invalid_request("client_id: differs from the client that the assertion is of")
            }
            NotAuthenticated::KeysUnavailable => Self::client_keys_unavailable(),
            NotAuthenticated::Unavailable => Self::unavailable(),
        }
    }
}

/// `Basic` credentials: id and secret are form-encoded each, joined by the first colon, then Base64 (CA-02).
fn basic_credentials(header: &[u8]) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let joined = STANDARD.decode(encoded).ok()?;
    let colon = joined.iter().position(|b| *b == b':')?;
    let (id, secret) = joined.split_at(colon);
    Some((form::decode(id).ok()?, form::decode(secret.get(1..)?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ca_02_basic_credentials_are_form_decoded_after_the_first_colon() {
        let read = |plain: &str| basic_credentials(format!("Basic {}", STANDARD.encode(plain)).as_bytes());
        let (id, secret) = read("a%3Ab+c%25:s%3A%2B:x%C3%A4").unwrap();
        assert_eq!((id.as_str(), secret.as_str()), ("a:b c%", "s:+:xä"));
        assert!(read("no-colon").is_none());
        assert!(read("a:%zz").is_none());
        assert!(basic_credentials(b"Bearer abcdef").is_none());
        assert!(basic_credentials(b"basic !!!").is_none());
    }
}
