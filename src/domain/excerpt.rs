//! Somebody's input in our words: how much of it a message may show.

use std::fmt;

use super::ids::shown;

/// A piece of somebody's input, fit to stand in a message: at most 80 characters, printable ASCII, and without
/// the `"` and `\` that RFC 6749 §5.2 keeps out of `error_description`. What does not fit shows as `?`, a cut as `...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt(Box<str>);

impl Excerpt {
    /// Cuts and cleans `text`; any input is fine, the empty one included.
    pub fn of(text: &str) -> Self {
        Self(shown(text).replace('`', "?").into())
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "`{}`", self.0)
    }
}
