//! Resource indicators (RFC 8707) as this server registers and compares them.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::ids::shown;

/// A text that is no acceptable resource URI.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{shown}` is not a resource URI: {why}")]
pub struct BadResource {
    shown: String,
    why: &'static str,
}

/// Canonical URI of a resource: absolute, without fragment (RFC 8707 §2) and without user information.
///
/// Holds the registered spelling, which is what `aud` carries. [`ResourceUri::key`] compares.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("pattern" = r"^[A-Za-z][A-Za-z0-9+.-]*:[^#]+$"))]
pub struct ResourceUri(Box<str>);

impl ResourceUri {
    /// The URI in its registered spelling.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form in which two URIs are compared: scheme and host in lower case, all else as written (DESIGN §3).
    pub fn key(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once(':') else { return self.0.to_string() };
        let scheme = scheme.to_ascii_lowercase();
        let Some(after) = rest.strip_prefix("//") else { return format!("{scheme}:{rest}") };
        let end = after.find(['/', '?']).unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        format!("{scheme}://{}{tail}", authority.to_ascii_lowercase())
    }
}

impl FromStr for ResourceUri {
    type Err = BadResource;
    fn from_str(text: &str) -> Result<Self, BadResource> {
        let bad = |why| Err(BadResource { shown: shown(text), why });
        if text.len() > 2048 || !text.bytes().all(is_uri_byte) {
            return bad("it holds a character that RFC 3986 does not allow, or is longer than 2048");
        }
        if text.contains('#') {
            return bad("a fragment is not allowed (RFC 8707 section 2)");
        }
        let Some((scheme, rest)) = text.split_once(':') else {
            return bad("it is not absolute (RFC 8707 section 2)");
        };
        let first = scheme.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        if !first || !scheme.bytes().all(legal) || rest.is_empty() {
            return bad("it is not absolute (RFC 8707 section 2)");
        }
        if let Some(after) = rest.strip_prefix("//") {
            let authority = after.split(['/', '?']).next().unwrap_or_default();
            if authority.is_empty() || authority.starts_with(':') || authority.contains('@') {
                return bad("it needs a host and no user information");
            }
        }
        Ok(Self(text.into()))
    }
}

fn is_uri_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&b)
}

impl TryFrom<String> for ResourceUri {
    type Error = BadResource;
    fn try_from(text: String) -> Result<Self, BadResource> {
        text.parse()
    }
}

impl From<ResourceUri> for String {
    fn from(uri: ResourceUri) -> String {
        uri.0.into()
    }
}

impl fmt::Display for ResourceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ResourceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mc_02_only_scheme_and_host_are_folded() {
        let key = |text: &str| text.parse::<ResourceUri>().unwrap().key();
        assert_eq!(key("HTTPS://API.Example/Orders"), "https://api.example/Orders");
        assert_ne!(key("https://api.example/orders"), key("https://api.example/Orders"));
        assert_ne!(key("https://api.example"), key("https://api.example/"));
        assert_ne!(key("https://api.example:443"), key("https://api.example"));
        assert_eq!(key("URN:x:Y"), "urn:x:Y");
    }

    #[test]
    fn what_is_not_an_absolute_uri_is_refused() {
        for bad in [
            "",
            "orders",
            "/orders",
            "https://",
            "https://:443",
            "https://a#b",
            "https://u@a",
            "ht tp://a",
            "1a:b",
            "a:",
            "https://ä",
        ] {
            assert!(bad.parse::<ResourceUri>().is_err(), "{bad}");
        }
    }
}
