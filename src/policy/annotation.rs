//! What a rule says of itself in the comment above it (`# METADATA`, as OPA has it): title, owner, and when it is looked at
//! again. What the rule leaves out, the annotation of its package says for all rules of the file.

use chrono::NaiveDate;

use super::fault::Location;
use super::syntax::{ModuleFacts, RuleFacts};

/// Lines that one annotation may take.
const MAX_LINES: usize = 60;
const MARK: &str = "METADATA";

/// An annotation, as far as it matters here. Empty texts count as absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Annotation {
    /// What the rule is for.
    pub(super) title: Option<String>,
    /// Who answers for it (`custom.owner`).
    pub(super) owner: Option<String>,
    /// When it is looked at again (`custom.review_by`), as it is written.
    pub(super) review_by: Option<String>,
    /// `rule`, or `document` for all definitions of its name; a package's is always for all.
    scope: Option<String>,
}

impl Annotation {
    /// The annotation of `rule`, completed by those of its document and of its package.
    pub(super) fn of(text: &str, module: &ModuleFacts, rule: &RuleFacts) -> Self {
        let own = Self::above(text, &rule.at);
        let namesakes = module.rules.iter().filter(|other| other.name == rule.name);
        let documents = namesakes.map(|other| Self::above(text, &other.at));
        let document = documents.filter(|one| one.scope.as_deref() == Some("document"));
        let package = Self { title: None, ..Self::above(text, &module.at) };
        document.chain([package]).fold(own, Self::or)
    }

    /// The date by which the rule is looked at again; what is written there if it is none.
    pub(super) fn review_date(&self) -> Option<Result<NaiveDate, &str>> {
        let text = self.review_by.as_deref()?;
        Some(text.parse().map_err(|_| text))
    }

    fn or(self, other: Self) -> Self {
        Self {
            title: self.title.or(other.title),
            owner: self.owner.or(other.owner),
            review_by: self.review_by.or(other.review_by),
            scope: self.scope,
        }
    }

    /// The annotation in the comment right above a line.
    fn above(text: &str, at: &Location) -> Self {
        let above: Vec<&str> = text.lines().take((at.line as usize).saturating_sub(1)).collect();
        let comment = above.iter().rev().map_while(|line| line.strip_prefix('#')).take(MAX_LINES);
        let mut block: Vec<&str> = comment.take_while(|line| line.trim() != MARK).collect();
        // Without a mark it is a comment and nothing more.
        let is_marked = above.iter().rev().nth(block.len()).is_some_and(|line| is_mark(line));
        if !is_marked {
            return Self::default();
        }
        block.reverse();
        Self::read(&block)
    }

    /// Reads the YAML of a block as far as it is a map of texts, and a map of them below `custom`.
    fn read(block: &[&str]) -> Self {
        let mut found = Self::default();
        let (mut outer, mut inner, mut section) = (None, None, "");
        for line in block.iter().filter(|line| !line.trim().is_empty()) {
            let indent = line.len() - line.trim_start().len();
            let Some((key, value)) = line.trim().split_once(':') else { continue };
            let value = plain(value);
            if indent <= *outer.get_or_insert(indent) {
                (section, inner) = (key, None);
                match key {
                    "title" => found.title = value,
                    "scope" => found.scope = value,
                    _ => {}
                }
            } else if section == "custom" && indent == *inner.get_or_insert(indent) {
                match key {
                    "owner" => found.owner = value,
                    "review_by" => found.review_by = value,
                    _ => {}
                }
            }
        }
        found
    }
}

fn is_mark(line: &str) -> bool {
    line.strip_prefix('#').is_some_and(|comment| comment.trim() == MARK)
}

/// A scalar without its quotes; nothing if it is empty.
fn plain(value: &str) -> Option<String> {
    let value = value.trim();
    let quoted = ['"', '\''].iter().find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q));
    let value = quoted.unwrap_or(value).trim();
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn above(comment: &str) -> Annotation {
        let line = u32::try_from(comment.lines().count()).unwrap() + 1;
        Annotation::above(
            &format!("{comment}\nallow if true\n"),
            &Location { path: "x".into(), line, col: 1 },
        )
    }

    fn read(comment: &str) -> [Option<String>; 3] {
        let Annotation { title, owner, review_by, .. } = above(comment);
        [title, owner, review_by]
    }

    #[test]
    fn title_owner_and_review_are_read_where_opa_has_them() {
        let told = |texts: [&str; 3]| texts.map(|text| Some(text.to_owned()));
        let block =
            "# METADATA\n# title: Short lives\n# custom:\n#   owner: group:a\n#   review_by: 2027-01-31";
        assert_eq!(read(block), told(["Short lives", "group:a", "2027-01-31"]));
        let quoted = "#METADATA\n#title: \"a: b\"\n#custom:\n# owner: 'group:a'\n# review_by: \"2027-01-31\"";
        assert_eq!(read(quoted), told(["a: b", "group:a", "2027-01-31"]));
    }

    #[test]
    fn what_stands_elsewhere_is_no_owner() {
        for comment in [
            "# owner: group:a",
            "# METADATA\n# owner: group:a",
            "# METADATA\n# description: >-\n#   owner: group:a",
            "# METADATA\n# custom:\n#   other:\n#     owner: group:a",
            "# METADATA\n# custom:\n#   owner: \"\"",
            "# METADATA\n# custom:\n#   owner: group:a\n ",
            "# METADATA\n# custom:\n#   owner: group:a\nx := 1",
        ] {
            assert_eq!(above(comment).owner, None, "{comment}");
        }
    }
}
