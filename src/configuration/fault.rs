//! What is wrong with documents, told with file, line and a suggestion.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A place in a file; both count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

/// Longest message, in characters.
const LONGEST: usize = 1_000;

/// Something wrong with what was to be applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The file; absent when the object is not in the documents but in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line and column in it.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// Which object, as `TaskType acme/refund_order`, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Where in the object: `spec.resources[0]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What would mend it, where that can be guessed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

impl Fault {
    /// A fault of no file in particular.
    pub fn of_nothing(message: String) -> Self {
        Self { file: None, ..Self::of_file("", None, message) }
    }

    /// A fault of a whole file.
    pub fn of_file(file: &str, place: Option<Place>, message: impl Into<String>) -> Self {
        Self {
            file: Some(printable(file)),
            place,
            object: None,
            path: None,
            message: printable(&message.into()),
            suggestion: None,
        }
    }
}

/// Cut to a length that people read, and without control characters: what a file holds must not steer a terminal.
fn printable(text: &str) -> String {
    let safe = |c: char| if c.is_control() { '?' } else { c };
    let mut short: String = text.chars().take(LONGEST).map(safe).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push_str("...");
    }
    short
}

/// `file:line:col: message`; for an object that no document holds, the object and path stand in for the place.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.place, &self.object) {
            (Some(file), Some(at), _) => write!(f, "{file}:{}:{}: ", at.line, at.column)?,
            (Some(file), None, _) => write!(f, "{file}: ")?,
            (None, _, Some(object)) => match &self.path {
                Some(path) => write!(f, "{object} (in force), {path}: ")?,
                None => write!(f, "{object} (in force): ")?,
            },
            (None, _, None) => {}
        }
        f.write_str(&self.message)
    }
}

/// What `written` was probably meant to be: the nearest of `choices`, else all of them if they are few.
pub fn suggest<'a>(written: &str, choices: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut choices: Vec<&str> = choices.into_iter().collect();
    choices.sort_unstable();
    choices.dedup();
    let distance = |choice: &&str| strsim::damerau_levenshtein(written, choice);
    let near = |choice: &&&str| distance(choice) <= (written.chars().count() / 3).max(1);
    if let Some(best) = choices.iter().filter(near).min_by_key(|c| distance(c)) {
        return Some(printable(&format!("did you mean `{best}`?")));
    }
    if choices.is_empty() || choices.len() > 12 {
        return None;
    }
    let quoted: Vec<String> = choices.iter().map(|c| format!("`{c}`")).collect();
    Some(printable(&format!("known: {}", quoted.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_choice_is_suggested_else_the_few_there_are() {
        assert_eq!(suggest("scope", ["scopes", "agents"]).as_deref(), Some("did you mean `scopes`?"));
        assert_eq!(suggest("x", ["orders", "mail"]).as_deref(), Some("known: `mail`, `orders`"));
        assert_eq!(suggest("x", []), None);
    }

    #[test]
    fn what_a_file_holds_does_not_steer_the_terminal() {
        let fault = Fault::of_file("a\u{1b}[31m", None, format!("key `\u{7}{}`", "x".repeat(2_000)));
        assert!(!fault.to_string().contains(char::is_control) && fault.to_string().len() < 1_200);
    }

    #[test]
    fn a_fault_of_an_object_in_force_names_the_object() {
        let fault = Fault {
            object: Some("TaskType acme/t".into()),
            path: Some("spec.scopes[0]".into()),
            file: None,
            ..Fault::of_file("", None, "gone")
        };
        assert_eq!(fault.to_string(), "TaskType acme/t (in force), spec.scopes[0]: gone");
    }
}
