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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_short_and_printable() {
        let nasty = format!("a`b\"c\\d\u{1b}[31m\u{e9}\n{}", "x".repeat(500));
        let shown = Excerpt::of(&nasty).to_string();
        assert!(shown.starts_with("`a?b?c?d?[31m??xxx"));
        assert!(shown.ends_with("xxx...`"));
        assert_eq!(shown.len(), 80 + 3 + 2);
    }
}
