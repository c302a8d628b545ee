//! Authorization details (RFC 9396) and the registered rules by which one is ≤ another (RA-05).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::decimal::Decimal;
use super::ids::{Name, shown};
use super::json::JsonFault;
use super::resource::ResourceUri;

/// How a field of a child compares with the same field of its parent. There is no default: a field without a rule is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FieldRule {
    /// Array of strings; the child's members are among the parent's.
    Subset,
    /// String, boolean or number; the child's is the parent's.
    Equals,
    /// Number; the child's is ≤ the parent's.
    AtMost,
    /// Number; the child's is ≥ the parent's.
    AtLeast,
    /// Path; the child's begins with all `/` segments of the parent's. `%`, `\`, `;` (a segment's parameters, which some
    /// servers drop before they resolve `..`), control characters, and empty, `.` and `..` segments are refused.
    Prefix,
}

/// The field that RFC 9396 §2.2 reserves for the resources a detail is meant for.
pub const LOCATIONS: &str = "locations";

/// Field rules by type: what an `authorization_details` array may hold in one tenant.
pub type DetailRules = BTreeMap<Name, BTreeMap<String, FieldRule>>;

/// Most details in one request or token.
pub const MAX_DETAILS: usize = 64;

/// Why an `authorization_details` array is refused as such (RFC 9396 §5, RA-02).
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadDetails {
    /// Not a JSON array of objects, each with a `type`.
    #[error("authorization_details is not a JSON array of objects with a string `type`")]
    Shape,
    /// Not JSON that is accepted.
    #[error("authorization_details: {0}")]
    Json(JsonFault),
    /// No such type is registered.
    #[error("authorization_details type `{0}` is not registered")]
    UnknownType(String),
    /// The type has no such field.
    #[error("authorization_details type `{kind}` has no field `{field}`")]
    UnknownField {
        /// The type.
        kind: Name,
        /// The field.
        field: String,
    },
    /// The value is not of the kind that the field's rule compares.
    #[error("authorization_details field `{field}` of type `{kind}` must be {wanted}")]
    WrongKind {
        /// The type.
        kind: Name,
        /// The field.
        field: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// The type's JSON Schema refuses the object.
    #[error("authorization_details object of type `{kind}` does not fit its schema: {why}")]
    Schema {
        /// The type.
        kind: Name,
        /// The validator's words.
        why: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum FieldValue {
    Set(BTreeSet<String>),
    Text(String),
    Flag(bool),
    Exact(Decimal),
    AtMost(Decimal),
    AtLeast(Decimal),
    Path(Vec<String>),
}

impl FieldValue {
    fn read(rule: FieldRule, value: &Value) -> Result<Self, &'static str> {
        const NUMBER: &str = "a number of at most 15 digits";
        let number = || match value {
            Value::Number(n) => Decimal::from_number(n).ok_or(NUMBER),
            Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                Err(NUMBER)
            }
        };
        match (rule, value) {
            (FieldRule::Subset, Value::Array(items)) => strings(items).ok_or("an array of distinct strings"),
            (FieldRule::Subset, _) => Err("an array of distinct strings"),
            (FieldRule::Equals, Value::String(text)) => Ok(Self::Text(text.clone())),
            (FieldRule::Equals, Value::Bool(flag)) => Ok(Self::Flag(*flag)),
            (FieldRule::Equals, Value::Number(_)) => number().map(Self::Exact),
            (FieldRule::Equals, _) => Err("a string, a boolean or a number"),
            (FieldRule::AtMost, _) => number().map(Self::AtMost),
            (FieldRule::AtLeast, _) => number().map(Self::AtLeast),
            (FieldRule::Prefix, Value::String(text)) => {
                path(text).ok_or("a path without `%`, `;`, `\\`, and empty, `.` or `..` segments")
            }
            (FieldRule::Prefix, _) => Err("a path without `%`, `;`, `\\`, and empty, `.` or `..` segments"),
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Set(items) => items.iter().cloned().collect(),
            Self::Text(text) => Value::String(text.clone()),
            Self::Flag(flag) => Value::Bool(*flag),
            Self::Exact(n) | Self::AtMost(n) | Self::AtLeast(n) => Value::Number(n.to_number()),
            Self::Path(segments) if segments.len() == 1 && segments.iter().all(String::is_empty) => {
                Value::String("/".to_owned())
            }
            Self::Path(segments) => Value::String(segments.join("/")),
        }
    }

    /// Whether a child that holds `child` in this field stays within `self`.
    fn covers(&self, child: &Self) -> bool {
        match (self, child) {
            (Self::Set(parent), Self::Set(child)) => child.is_subset(parent),
            (Self::AtMost(parent), Self::AtMost(child)) => child <= parent,
            (Self::AtLeast(parent), Self::AtLeast(child)) => child >= parent,
            (Self::Path(parent), Self::Path(child)) => child.starts_with(parent),
            (parent, child) => parent == child,
        }
    }

    /// The widest value within both, or `None` where there is none.
    fn meet(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Set(a), Self::Set(b)) => {
                let both: BTreeSet<_> = a.intersection(b).cloned().collect();
                (!both.is_empty() || a.is_empty() || b.is_empty()).then_some(Self::Set(both))
            }
            (a, b) if b.covers(a) => Some(a.clone()),
            (a, b) if a.covers(b) => Some(b.clone()),
            _ => None,
        }
    }
}

fn strings(items: &[Value]) -> Option<FieldValue> {
    let set: BTreeSet<String> = items.iter().map(|i| i.as_str().map(str::to_owned)).collect::<Option<_>>()?;
    (set.len() == items.len()).then_some(FieldValue::Set(set))
}

fn path(text: &str) -> Option<FieldValue> {
    let segments: Vec<String> = text.trim_end_matches('/').split('/').map(str::to_owned).collect();
    let plain = |s: &String| {
        s != "." && s != ".." && !s.contains(['%', '\\', ';']) && !s.chars().any(char::is_control)
    };
    let hollow = segments.iter().skip(1).any(String::is_empty);
    (!text.is_empty() && !hollow && segments.iter().all(plain)).then_some(FieldValue::Path(segments))
}

/// One authorization detail of a registered type, its fields read by the type's rules.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Detail {
    kind: Name,
    fields: BTreeMap<String, FieldValue>,
}

impl Detail {
    /// The registered type's name.
    pub fn kind(&self) -> &Name {
        &self.kind
    }

    fn read(object: &Map<String, Value>, rules: &DetailRules) -> Result<Self, BadDetails> {
        let kind = object.get("type").and_then(Value::as_str).ok_or(BadDetails::Shape)?;
        let unknown = || BadDetails::UnknownType(shown(kind));
        let kind: Name = kind.parse().map_err(|_| unknown())?;
        let rules = rules.get(&kind).ok_or_else(unknown)?;
        let mut fields = BTreeMap::new();
        for (field, value) in object.iter().filter(|(field, _)| *field != "type") {
            let Some(rule) = rules.get(field) else {
                return Err(BadDetails::UnknownField { kind, field: shown(field) });
            };
            let value = FieldValue::read(*rule, value).map_err(|wanted| BadDetails::WrongKind {
                kind: kind.clone(),
                field: field.clone(),
                wanted,
            })?;
            fields.insert(field.clone(), value);
        }
        Ok(Self { kind, fields })
    }

    /// As the JSON object of RFC 9396 §2.
    pub fn to_json(&self) -> Map<String, Value> {
        let kind = ("type".to_owned(), Value::String(self.kind.to_string()));
        let fields = self.fields.iter().map(|(field, value)| (field.clone(), value.to_json()));
        std::iter::once(kind).chain(fields).collect()
    }

    /// Whether `child` is of the same type and within `self` in every field that `self` limits.
    ///
    /// A field that `self` lacks is not limited by it; a type for which that must not be lists the field
    /// under `required` in its schema.
    pub fn covers(&self, child: &Self) -> bool {
        let within =
            |(field, limit): (&String, &FieldValue)| child.fields.get(field).is_some_and(|v| limit.covers(v));
        self.kind == child.kind && self.fields.iter().all(within)
    }

    /// The widest detail within both, or `None` where they share nothing.
    fn meet(&self, other: &Self) -> Option<Self> {
        if self.kind != other.kind {
            return None;
        }
        let mut fields = self.fields.clone();
        for (field, limit) in &other.fields {
            let met = match fields.get(field) {
                Some(mine) => mine.meet(limit)?,
                None => limit.clone(),
            };
            fields.insert(field.clone(), met);
        }
        Some(Self { kind: self.kind.clone(), fields })
    }

    /// Whether this detail may be used at `resource`: it names no locations, or this one (RA-06).
    pub fn is_for(&self, resource: &ResourceUri) -> bool {
        self.is_for_any(&[resource.key()].into())
    }

    /// Whether it names no locations, or one whose key is among `keys`.
    fn is_for_any(&self, keys: &BTreeSet<String>) -> bool {
        match self.fields.get(LOCATIONS) {
            None => true,
            Some(FieldValue::Set(places)) => {
                places.iter().any(|p| p.parse::<ResourceUri>().is_ok_and(|p| keys.contains(&p.key())))
            }
            Some(_) => false,
        }
    }
}

/// A set of authorization details; the order of the request does not matter, a repetition counts once.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Details(BTreeSet<Detail>);

impl Details {
    /// Reads an `authorization_details` array by `rules`; the whole array is refused for one bad object (RA-02).
    pub fn read(value: &Value, rules: &DetailRules) -> Result<Self, BadDetails> {
        let items = value.as_array().filter(|items| items.len() <= MAX_DETAILS).ok_or(BadDetails::Shape)?;
        let read =
            |item: &Value| item.as_object().ok_or(BadDetails::Shape).and_then(|o| Detail::read(o, rules));
        items.iter().map(read).collect()
    }

    /// As a JSON array.
    pub fn to_json(&self) -> Value {
        self.0.iter().map(|d| Value::Object(d.to_json())).collect()
    }

    /// Whether no detail is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The details, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = &Detail> {
        self.0.iter()
    }

    /// Whether each detail of `child` is covered by *one* detail of `self`: two parents never add up (RA-05).
    pub fn covers(&self, child: &Self) -> bool {
        child.uncovered_by(self).is_empty()
    }

    /// The details of `self` that no single detail of `parent` covers.
    pub fn uncovered_by(&self, parent: &Self) -> Self {
        self.0.iter().filter(|child| !parent.0.iter().any(|p| p.covers(child))).cloned().collect()
    }

    /// The widest set within both: what each pair of details has in common.
    ///
    /// A detail that one of the other set covers stands as it is, and its pairs could add nothing: so a request
    /// within its ceiling costs one pass over the pairs, not one over the pairs of pairs.
    pub fn meet(&self, other: &Self) -> Self {
        let (mine, others) = (self.uncovered_by(other), other.uncovered_by(self));
        let covered = self.0.difference(&mine.0).chain(other.0.difference(&others.0)).cloned();
        let pairs = mine.0.iter().flat_map(|a| others.0.iter().filter_map(|b| a.meet(b)));
        Self(covered.chain(pairs).collect()).without_redundant()
    }

    fn without_redundant(self) -> Self {
        let redundant = |d: &Detail| self.0.iter().any(|other| other != d && other.covers(d));
        self.0.iter().filter(|d| !redundant(d)).cloned().collect()
    }

    /// Those that may be used at one of `resources` (RA-06).
    pub fn for_any(&self, resources: &BTreeSet<ResourceUri>) -> Self {
        let keys = resources.iter().map(ResourceUri::key).collect();
        self.0.iter().filter(|d| d.is_for_any(&keys)).cloned().collect()
    }
}

impl FromIterator<Detail> for Details {
    fn from_iter<I: IntoIterator<Item = Detail>>(details: I) -> Self {
        Self(details.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rules() -> DetailRules {
        use FieldRule::{AtLeast, AtMost, Equals, Prefix, Subset};
        let fields = [
            ("tools", Subset),
            ("operation", Equals),
            ("amount", AtMost),
            ("floor", AtLeast),
            ("path", Prefix),
            (LOCATIONS, Subset),
        ];
        let fields = fields.map(|(f, r)| (f.to_owned(), r)).into();
        [("tool_call".parse().unwrap(), fields)].into()
    }

    fn read(value: &Value) -> Details {
        Details::read(value, &rules()).unwrap()
    }

    fn detail(mut fields: Value) -> Value {
        fields["type"] = json!("tool_call");
        json!([fields])
    }

    #[test]
    fn ra_05_each_rule_narrows_and_never_widens() {
        let cases = [
            (json!({"tools": ["a", "b"]}), json!({"tools": ["a"]}), true),
            (json!({"tools": ["a"]}), json!({"tools": ["a", "b"]}), false),
            (json!({"amount": 500}), json!({"amount": 499.99}), true),
            (json!({"amount": 500}), json!({"amount": 500.01}), false),
            (json!({"amount": 500}), json!({}), false),
            (json!({}), json!({"amount": 1}), true),
            (json!({"floor": 5}), json!({"floor": 4}), false),
            (json!({"operation": "read"}), json!({"operation": "write"}), false),
            (json!({"path": "/a/b"}), json!({"path": "/a/b/c"}), true),
            (json!({"path": "/a/b"}), json!({"path": "/a/bc"}), false),
        ];
        for (parent, child, expected) in cases {
            assert_eq!(
                read(&detail(parent.clone())).covers(&read(&detail(child.clone()))),
                expected,
                "{parent} {child}"
            );
        }
    }

    #[test]
    fn t09_two_parents_do_not_cover_a_cross_product() {
        let parent = read(&json!([
            {"type": "tool_call", "tools": ["a"], "amount": 500},
            {"type": "tool_call", "tools": ["b"], "amount": 5},
        ]));
        assert!(!parent.covers(&read(&detail(json!({"tools": ["b"], "amount": 500})))));
        assert!(!parent.covers(&read(&detail(json!({"tools": ["a", "b"], "amount": 5})))));
        assert!(parent.covers(&read(&detail(json!({"tools": ["b"], "amount": 5})))));
    }

    #[test]
    fn ra_02_unknown_or_misshapen_details_are_refused_whole() {
        let read = |value: Value| Details::read(&value, &rules());
        assert_eq!(read(json!({})), Err(BadDetails::Shape));
        assert_eq!(read(json!(["x"])), Err(BadDetails::Shape));
        assert_eq!(read(json!([{"type": "other"}])), Err(BadDetails::UnknownType("other".into())));
        assert!(matches!(read(detail(json!({"cmd": "x"}))), Err(BadDetails::UnknownField { .. })));
        let wrong = [
            json!({"tools": "a"}),
            json!({"tools": ["a", "a"]}),
            json!({"amount": "500"}),
            json!({"amount": null}),
            json!({"operation": []}),
            json!({"path": "/a/../b"}),
            json!({"path": "/a/%2e"}),
            json!({"path": "/a//b"}),
            json!({"path": "/a/..;/b"}),
            json!({"path": "/a;x=1/b"}),
        ];
        for fields in wrong {
            assert!(matches!(read(detail(fields.clone())), Err(BadDetails::WrongKind { .. })), "{fields}");
        }
    }

    #[test]
    fn a_meet_is_within_both() {
        let a = read(&detail(json!({"tools": ["a", "b"], "amount": 500})));
        let b = read(&detail(json!({"tools": ["b", "c"], "amount": 900, "operation": "read"})));
        let expected = read(&detail(json!({"tools": ["b"], "amount": 500, "operation": "read"})));
        assert_eq!(a.meet(&b), expected);
        assert!(a.covers(&expected) && b.covers(&expected));
        assert!(a.meet(&read(&detail(json!({"tools": ["z"]})))).is_empty());
    }

    #[test]
    fn a_meet_of_many_details_with_their_own_ceiling_stays_small() {
        let many = |amount: i64| {
            (0..64)
                .map(move |tool| json!({"type": "tool_call", "tools": [tool.to_string()], "amount": amount}))
        };
        let ceiling = read(&many(500).collect());
        let held = read(&many(5).collect());
        assert_eq!(held.meet(&ceiling), held);
        assert_eq!(ceiling.meet(&held), held);
    }

    #[test]
    fn the_root_path_prints_as_it_parses() {
        let root = read(&detail(json!({"path": "/"})));
        assert_eq!(root.to_json(), detail(json!({"path": "/"})));
        assert_eq!(read(&root.to_json()), root);
        assert!(root.covers(&read(&detail(json!({"path": "/a"})))));
        assert!(!root.covers(&read(&detail(json!({"path": "a"})))));
    }

    #[test]
    fn ra_06_locations_bind_a_detail_to_its_resource() {
        let here: ResourceUri = "https://api.example/orders".parse().unwrap();
        let there: ResourceUri = "https://api.example/mail".parse().unwrap();
        let bound = read(&detail(json!({"locations": ["HTTPS://api.example/orders"]})));
        assert_eq!(bound.for_any(&[here].into()), bound);
        assert!(bound.for_any(&[there.clone()].into()).is_empty());
        let rules = [("odd".parse().unwrap(), [(LOCATIONS.to_owned(), FieldRule::Equals)].into())].into();
        let text = json!([{"type": "odd", "locations": "https://api.example/orders"}]);
        let odd = Details::read(&text, &rules).unwrap();
        assert!(odd.for_any(&[there].into()).is_empty(), "locations of another kind bind nowhere");
    }
}
