//! YAML with a place for every key and value, read within bounds: a file is never a surprise in size or meaning.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::options::MergeKeyPolicy;
use serde_saphyr::{DuplicateKeyPolicy, Location, MessageFormatter, Spanned, UserMessageFormatter};

use super::documents::MAX_FILE;
use super::fault::Place;

/// What a YAML node is, once its scalars are resolved (YAML 1.2: `yes` and `on` are texts).
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Null,
    Flag(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One node and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) kind: Kind,
}

/// One entry of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) key: String,
    pub(super) value: Node,
}

impl Node {
    /// What the node is, for an error.
    pub(super) fn what(&self) -> &'static str {
        match self.kind {
            Kind::Null => "nothing",
            Kind::Flag(_) => "a boolean",
            Kind::Number(_) => "a number",
            Kind::Text(_) => "a text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }

    /// The node one step down, and the place of its key or of itself in a list.
    fn step(&self, step: &str) -> Option<(&Self, Place)> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|e| e.key == step).map(|e| (&e.value, e.place)),
            Kind::List(items) => step.parse::<usize>().ok().and_then(|i| items.get(i)).map(|n| (n, n.place)),
            Kind::Null | Kind::Flag(_) | Kind::Number(_) | Kind::Text(_) => None,
        }
    }

    /// The text at `path`, if there is one.
    pub(super) fn text_at(&self, path: &str) -> Option<&str> {
        match &steps(path).try_fold(self, |at, step| at.step(step).map(|(node, _)| node))?.kind {
            Kind::Text(text) => Some(text),
            Kind::Null | Kind::Flag(_) | Kind::Number(_) | Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// Where `path` (`scopes[2]`, `lifetime.token.max`) leads, or the deepest place on the way that exists.
    pub(super) fn locate(&self, path: &str) -> Place {
        let mut at = self;
        let mut place = self.place;
        for step in steps(path) {
            let Some((node, key)) = at.step(step) else { break };
            let collection = matches!(node.kind, Kind::List(_) | Kind::Map(_) | Kind::Null);
            place = if collection { key } else { node.place };
            at = node;
        }
        place
    }
}

fn steps(path: &str) -> impl Iterator<Item = &str> {
    path.split(['.', '[']).map(|s| s.trim_end_matches(']')).filter(|s| !s.is_empty())
}

/// Why a text is no YAML that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadYaml {
    pub(super) place: Option<Place>,
    pub(super) message: String,
}

/// Reads all documents of `text`; empty ones are skipped.
///
/// Refused: duplicate keys, merge keys (`<<`), unknown tags, non-finite numbers, and whatever is large, deep or
/// expands too far by aliases.
pub(super) fn read(text: &str) -> Result<Vec<Node>, BadYaml> {
    if text.len() > MAX_FILE {
        let message = format!("the file is larger than {MAX_FILE} bytes");
        return Err(BadYaml { place: None, message });
    }
    serde_saphyr::from_multiple_with_options(text, options()).map_err(|error| {
        let message = UserMessageFormatter.format_message(error.without_snippet()).into_owned();
        BadYaml { place: error.location().map(place), message }
    })
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 200_000,
            max_nodes: 100_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_depth: 32,
            flow_nesting_limit: 32,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 20_000,
            max_replay_stack_depth: 8,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
        emit_comments: false,
    }
}

fn place(location: Location) -> Place {
    Place { line: location.line(), column: location.column() }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Kind>::deserialize(deserializer)?;
        Ok(Self { place: place(spanned.referenced), kind: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        Kind::deserialize(deserializer)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Kind, E> {
        Ok(Kind::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Kind, E> {
        Ok(Kind::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Kind, E> {
        Ok(Kind::Number(number.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Kind, E> {
        Number::from_f64(number).map(Kind::Number).ok_or_else(|| E::custom("the number is not finite"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Kind, E> {
        Ok(Kind::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kind, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Kind::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Kind, A::Error> {
        let mut map: Vec<Entry> = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<Kind>>()? {
            let Kind::Text(text) = key.value else {
                let line = key.referenced.line();
                return Err(A::Error::custom(format!(
                    "line {line}: a key must be a text: put it into quotes"
                )));
            };
            map.push(Entry { place: place(key.referenced), key: text, value: entries.next_value()? });
        }
        Ok(Kind::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Node {
        read(text).unwrap().remove(0)
    }

    fn at(line: u64, column: u64) -> Place {
        Place { line, column }
    }

    #[test]
    fn a_path_leads_to_its_line() {
        let node = one("name: x\nspec:\n  scopes: [a, b,\n    c]\n  lifetime:\n    token: {max: 3}\n");
        assert_eq!(node.locate("spec.scopes[2]"), at(4, 5));
        assert_eq!(node.locate("spec.scopes"), at(3, 3));
        assert_eq!(node.locate("spec.lifetime"), at(5, 3));
        assert_eq!(node.locate("spec.lifetime.token.max"), at(6, 18));
        assert_eq!(node.locate("spec.lifetime.task"), at(5, 3), "the deepest place that exists");
        assert_eq!(node.locate("name"), at(1, 7));
    }

    #[test]
    fn a_second_document_keeps_the_lines_of_the_file() {
        let nodes = read("a: 1\n---\n# comment\nb: 2\n---\n").unwrap();
        assert_eq!(nodes.len(), 2);
        assert_eq!(nodes[1].locate("b"), at(4, 4));
    }

    #[test]
    fn yes_is_a_text_and_a_date_too() {
        let node = one("a: yes\nb: 2027-03-01\nc: true\nd: 1.5\n");
        let Kind::Map(entries) = node.kind else { panic!("no map") };
        let kinds: Vec<_> = entries.into_iter().map(|e| e.value.kind).collect();
        assert_eq!(kinds[0], Kind::Text("yes".into()));
        assert_eq!(kinds[1], Kind::Text("2027-03-01".into()));
        assert_eq!(kinds[2], Kind::Flag(true));
    }

    #[test]
    fn what_could_surprise_is_refused_with_its_place() {
        for (text, line) in [
            ("a: 1\na: 2\n", 2),
            ("a: &x {b: 1}\nc:\n  <<: *x\n", 3),
            ("a: .nan\n", 1),
            ("a: [1\n", 1),
            ("a: !custom 1\n", 1),
        ] {
            let bad = read(text).unwrap_err();
            assert_eq!(bad.place.map(|p| p.line), Some(line), "{text} {bad:?}");
        }
        assert!(read("a: 0\n1: a\n").unwrap_err().message.starts_with("line 2: "));
    }

    #[test]
    fn a_bomb_of_aliases_or_of_depth_does_not_go_off() {
        let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (from, to) in [('a', 'b'), ('b', 'c'), ('c', 'd'), ('d', 'e'), ('e', 'f')] {
            let nine = vec![format!("*{from}"); 9].join(", ");
            bomb = format!("{bomb}{to}: &{to} [{nine}]\n");
        }
        assert!(read(&bomb).is_err());
        assert!(read(&"[".repeat(10_000)).is_err());
        assert!(read(&format!("a: {}", "x".repeat(MAX_FILE))).is_err());
    }
}
