//! How the demo talks: commands as they are pasted, everything else behind `#`, so that the whole is a shell script.

use serde_json::Value;

use crate::terminal::http::Answer;
use crate::terminal::output::Output;

/// Texts longer than this that look like a token are shortened.
const LONGEST_TOKEN: usize = 40;

/// Where it is written.
pub(super) struct Paper<'p, 'o> {
    pub(super) output: &'p mut Output<'o>,
    /// Whether a terminal reads along.
    pub(super) colour: bool,
}

/// Escape sequences of the styles.
#[derive(Clone, Copy)]
enum Style {
    Bold,
    Dim,
    Good,
    Bad,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Bad => "31",
        }
    }
}

impl Paper<'_, '_> {
    /// An empty line.
    pub(super) fn gap(&mut self) {
        self.output.line("");
    }

    /// The head of a step or a section.
    pub(super) fn title(&mut self, text: &str) {
        self.styled(Style::Bold, &format!("# {text}"));
    }

    /// A remark.
    pub(super) fn note(&mut self, text: &str) {
        self.styled(Style::Dim, &format!("#    {text}"));
    }

    /// A command to paste.
    pub(super) fn command(&mut self, text: &str) {
        self.output.line(text);
    }

    /// What a step was answered, and whether that is what it should be.
    pub(super) fn answer(&mut self, answer: &Answer, expected: bool) {
        let style = if expected { Style::Good } else { Style::Bad };
        let empty = if answer.body.is_null() { ", no body" } else { "" };
        self.styled(style, &format!("# -> {}{empty}", answer.status));
        self.members(&answer.body);
    }

    /// A JSON object, a line for each member, tokens shortened.
    pub(super) fn members(&mut self, value: &Value) {
        let Some(members) = value.as_object().filter(|m| !m.is_empty()) else { return };
        let widest = members.keys().map(String::len).max().unwrap_or(0) + 3;
        for (index, (name, value)) in members.iter().enumerate() {
            let name = format!("\"{name}\":");
            let (open, close) =
                (if index == 0 { '{' } else { ' ' }, if index + 1 == members.len() { "}" } else { "," });
            self.styled(Style::Dim, &format!("#    {open}{name:widest$} {}{close}", shortened(value)));
        }
    }

    /// Something that should not have happened.
    pub(super) fn surprise(&mut self, text: &str) {
        self.styled(Style::Bad, &format!("#    SURPRISE: {text}"));
    }

    /// A closing line that all went well.
    pub(super) fn success(&mut self, text: &str) {
        self.styled(Style::Good, &format!("# {text}"));
    }

    fn styled(&mut self, style: Style, text: &str) {
        if self.colour {
            self.output.line(&format!("\u{1b}[{}m{text}\u{1b}[0m", style.code()));
        } else {
            self.output.line(text);
        }
    }
}

/// Compact JSON with every token in it cut down to what lets one tell it from another.
fn shortened(value: &Value) -> String {
    match value.as_str() {
        Some(text) if is_token(text) => {
            let tail: String = text.chars().skip(text.chars().count().saturating_sub(6)).collect();
            let head: String = text.chars().take(8).collect();
            format!("\"{head}...{tail}\" ({} characters)", text.len())
        }
        Some(_) | None => value.to_string(),
    }
}

fn is_token(text: &str) -> bool {
    text.len() > LONGEST_TOKEN && text.starts_with("ey") && text.matches('.').count() == 2
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(colour: bool) -> String {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut paper = Paper { output: &mut Output { out: &mut out, err: &mut err }, colour };
        paper.title("1. A step");
        paper.command("curl -s $TG/oauth/jwks; echo");
        let body = json!({"access_token": format!("eyJ0eXAi.{}.abcdefghi", "x".repeat(60)), "scope": "a b"});
        paper.answer(&Answer { status: 200, body }, true);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn all_but_commands_is_a_comment_and_tokens_are_shortened() {
        let expected = "\
# 1. A step
curl -s $TG/oauth/jwks; echo
# -> 200
#    {\"access_token\": \"eyJ0eXAi...defghi\" (79 characters),
#     \"scope\":        \"a b\"}
";
        assert_eq!(written(false), expected);
    }

    #[test]
    fn colours_are_for_terminals_only() {
        assert!(!written(false).contains('\u{1b}'));
        assert!(written(true).contains("\u{1b}[1m# 1. A step\u{1b}[0m"));
    }
}
