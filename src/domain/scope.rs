//! Scope tokens and sets of them (RFC 6749 §3.3).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::ids::shown;

/// A text that is no scope token, or a list with a token twice.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadScope {
    /// Not of the grammar `1*( %x21 / %x23-5B / %x5D-7E )`.
    #[error("`{0}` is not a scope token (RFC 6749 section 3.3)")]
    Malformed(String),
    /// The same token twice in one list: ambiguous, so refused (STANDARDS T10).
    #[error("scope `{0}` is listed twice")]
    Repeated(String),
}

/// One scope token (RFC 6749 §3.3): printable ASCII, at least one character, no space, `"` or `\`.
///
/// Compared octet by octet: no wildcard, no prefix, no case folding.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("pattern" = r"^[!#-\[\]-~]+$"))]
pub struct Scope(Box<str>);

impl Scope {
    /// The token as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Scope {
    type Err = BadScope;
    fn from_str(text: &str) -> Result<Self, BadScope> {
        let legal = |b: u8| matches!(b, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
        if text.is_empty() || text.len() > 256 || !text.bytes().all(legal) {
            return Err(BadScope::Malformed(shown(text)));
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for Scope {
    type Error = BadScope;
    fn try_from(text: String) -> Result<Self, BadScope> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> String {
        scope.0.into()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A set of scope tokens; printed and parsed as the `scope` parameter, one space between tokens.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeSet(BTreeSet<Scope>);

impl ScopeSet {
    /// Whether no token is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `scope` is in the set.
    pub fn contains(&self, scope: &Scope) -> bool {
        self.0.contains(scope)
    }

    /// The tokens, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    /// Whether every token of `self` is in `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    /// What both hold.
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).cloned().collect())
    }

    /// What `self` holds and `other` does not.
    pub fn difference(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).cloned().collect())
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(tokens: I) -> Self {
        Self(tokens.into_iter().collect())
    }
}

impl FromStr for ScopeSet {
    type Err = BadScope;
    /// Parses a `scope` parameter: tokens with one space between them; the empty text is refused.
    fn from_str(text: &str) -> Result<Self, BadScope> {
        let mut set = BTreeSet::new();
        for token in text.split(' ') {
            if !set.insert(token.parse::<Scope>()?) {
                return Err(BadScope::Repeated(shown(token)));
            }
        }
        Ok(Self(set))
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(&scope.0)?;
        }
        Ok(())
    }
}

impl fmt::Debug for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

/// As the one space-delimited string of RFC 8693 §4.2 [TX-18].
impl Serialize for ScopeSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ScopeSet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t10_look_alikes_are_other_scopes_or_no_scopes() {
        let held: ScopeSet = "orders:read".parse().unwrap();
        for other in ["Orders:read", "orders:*", "orders", "orders:read:all"] {
            assert!(!other.parse::<ScopeSet>().unwrap().is_subset(&held), "{other}");
        }
        for bad in ["", " ", "a  b", " a", "a ", "a\tb", "a\"b", "a\\b", "ordërs", "a\u{0}"] {
            assert!(bad.parse::<ScopeSet>().is_err(), "{bad:?}");
        }
        assert_eq!("a a".parse::<ScopeSet>(), Err(BadScope::Repeated("a".into())));
    }

    #[test]
    fn a_set_prints_as_it_parses() {
        let set: ScopeSet = "b a c".parse().unwrap();
        assert_eq!(set.to_string(), "a b c");
        assert_eq!(set.to_string().parse::<ScopeSet>().unwrap(), set);
    }
}
