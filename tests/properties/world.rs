//! The universe of the properties, and naive models of authorization details on plain JSON.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};
use taskgrant::domain::details::{DetailRules, Details, FieldRule, LOCATIONS};
use taskgrant::domain::resource::ResourceUri;
use taskgrant::domain::scope::{Scope, ScopeSet};

pub(crate) const SCOPES: [&str; 4] = ["read", "write", "write:all", "Read"];
pub(crate) const RESOURCES: [&str; 3] =
    ["https://mail.example", "https://orders.example/a", "https://orders.example/ab"];
const TOOLS: [&str; 3] = ["get", "put", "put_all"];
/// Neighbours that a binary or a string comparison would confuse.
const NUMBERS: [&str; 9] = ["-1", "0", "0.1", "0.3", "5", "9", "10", "499.99", "500"];
const PATHS: [&str; 7] = ["/", "/a", "/a/b", "/ab", "/a/bc", "a", "a/b"];

pub(crate) fn scope(text: &str) -> Scope {
    text.parse().unwrap()
}

pub(crate) fn scope_set(texts: &[&str]) -> ScopeSet {
    texts.iter().map(|t| scope(t)).collect()
}

pub(crate) fn uri(text: &str) -> ResourceUri {
    text.parse().unwrap()
}

pub(crate) fn uris(texts: &[&str]) -> BTreeSet<ResourceUri> {
    texts.iter().map(|t| uri(t)).collect()
}

/// Two types that share a field name under different rules.
pub(crate) fn rules() -> DetailRules {
    let table = |fields: &[(&str, FieldRule)]| fields.iter().map(|(f, r)| ((*f).to_owned(), *r)).collect();
    let call = [
        ("tools", FieldRule::Subset),
        ("operation", FieldRule::Equals),
        ("amount", FieldRule::AtMost),
        ("floor", FieldRule::AtLeast),
        ("path", FieldRule::Prefix),
        (LOCATIONS, FieldRule::Subset),
    ];
    let file = [("path", FieldRule::Equals), ("amount", FieldRule::Equals), (LOCATIONS, FieldRule::Subset)];
    [("tool_call".parse().unwrap(), table(&call)), ("file".parse().unwrap(), table(&file))].into()
}

pub(crate) fn read(details: &[Value]) -> Details {
    Details::read(&Value::Array(details.to_vec()), &rules()).unwrap()
}

/// For each field of `tool_call` every value of the universe: few enough to compare all pairs.
pub(crate) fn values() -> Vec<(&'static str, Vec<Value>)> {
    let numbers: Vec<Value> = NUMBERS.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let set = |bits: usize| (0..TOOLS.len()).filter(|i| bits & (1 << i) != 0).map(|i| TOOLS[i]).collect();
    let operations =
        vec![json!("get"), json!("put"), json!(true), json!(false), json!(5), json!(5.0), json!(0.1)];
    vec![
        ("tools", (0..1 << TOOLS.len()).map(set).collect()),
        ("operation", operations),
        ("amount", numbers.clone()),
        ("floor", numbers),
        ("path", PATHS.iter().map(|p| json!(p)).collect()),
    ]
}

fn number() -> impl Strategy<Value = Value> {
    select(&NUMBERS[..]).prop_map(|text| serde_json::from_str(text).unwrap())
}

fn texts(of: &'static [&'static str], least: usize) -> impl Strategy<Value = Value> {
    subsequence(of, least..=of.len()).prop_map(|items| json!(items))
}

fn maybe<T: std::fmt::Debug>(of: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    proptest::option::weighted(0.4, of)
}

fn operation() -> impl Strategy<Value = Value> {
    select(vec![json!("get"), json!("put"), json!(true), json!(false), json!(5), json!(0.1)])
}

fn object(kind: &str, fields: Vec<(&str, Option<Value>)>) -> Value {
    let fields = fields.into_iter().filter_map(|(f, v)| Some((f.to_owned(), v?)));
    let kind = ("type".to_owned(), json!(kind));
    Value::Object(std::iter::once(kind).chain(fields).collect())
}

/// One authorization detail as JSON; most fields are left out, so that two of them often compare.
pub(crate) fn detail() -> impl Strategy<Value = Value> {
    let path = || select(&PATHS[..]).prop_map(|p| json!(p));
    let call = (
        maybe(texts(&TOOLS, 1)),
        maybe(operation()),
        maybe(number()),
        maybe(number()),
        maybe(path()),
        proptest::option::weighted(0.2, texts(&RESOURCES, 1)),
    );
    let call = call.prop_map(|(tools, operation, amount, floor, path, locations)| {
        object(
            "tool_call",
            vec![
                ("tools", tools),
                ("operation", operation),
                ("amount", amount),
                ("floor", floor),
                ("path", path),
                (LOCATIONS, locations),
            ],
        )
    });
    let file = (maybe(path()), maybe(number()))
        .prop_map(|(path, amount)| object("file", vec![("path", path), ("amount", amount)]));
    prop_oneof![5 => call, 1 => file]
}

pub(crate) fn details(most: usize) -> impl Strategy<Value = Vec<Value>> {
    proptest::collection::vec(detail(), 0..=most)
}

pub(crate) fn some_scopes(least: usize) -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(&SCOPES[..], least..=SCOPES.len())
}

pub(crate) fn some_resources(least: usize) -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(&RESOURCES[..], least..=RESOURCES.len())
}

/// A concrete request: at most one value for each field, of the kind that a tool would be called with.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    kind: &'static str,
    fields: Map<String, Value>,
}

/// Requests that tell neighbouring limits apart.
pub(crate) fn calls() -> Vec<Call> {
    let tools = [json!("get"), json!("put_all"), Value::Null];
    let operations = [json!("get"), json!(0.1), Value::Null];
    let amounts = [json!(9), json!(499.99), json!(500), Value::Null];
    let floors = [json!(0.1), json!(10), Value::Null];
    let paths = [json!("/ab"), json!("/a/b/c"), Value::Null];
    let mut all = Vec::new();
    for (index, ((tool, operation), (amount, floor))) in
        product(&product(&tools, &operations), &product(&amounts, &floors)).into_iter().enumerate()
    {
        let path = &paths[index % paths.len()];
        let fields = [
            ("tools", tool),
            ("operation", operation),
            ("amount", amount),
            ("floor", floor),
            ("path", path.clone()),
        ];
        let fields = fields.into_iter().filter(|(_, v)| !v.is_null()).map(|(f, v)| (f.to_owned(), v));
        all.push(Call { kind: "tool_call", fields: fields.collect() });
    }
    for path in ["/", "/a", "/a/b"] {
        let fields = [("path".to_owned(), json!(path)), ("amount".to_owned(), json!(5))];
        all.push(Call { kind: "file", fields: fields.into_iter().collect() });
    }
    all
}

fn product<A: Clone, B: Clone>(left: &[A], right: &[B]) -> Vec<(A, B)> {
    left.iter().flat_map(|a| right.iter().map(move |b| (a.clone(), b.clone()))).collect()
}

/// Model: whether a detail permits the request at the resource. A field that the detail limits and the request
/// lacks is not permitted.
pub(crate) fn permits(detail: &Value, call: &Call, resource: &str) -> bool {
    let limits = detail.as_object().unwrap();
    limits["type"] == call.kind
        && limits.iter().filter(|(field, _)| *field != "type").all(|(field, limit)| {
            let value = call.fields.get(field);
            match (call.kind, field.as_str()) {
                (_, LOCATIONS) => limit.as_array().unwrap().iter().any(|l| l == resource),
                (_, "tools") => value.is_some_and(|v| limit.as_array().unwrap().contains(v)),
                ("tool_call", "amount") => value.is_some_and(|v| exact(v) <= exact(limit)),
                ("tool_call", "floor") => value.is_some_and(|v| exact(v) >= exact(limit)),
                ("tool_call", "path") => value.is_some_and(|v| below(text(v), text(limit))),
                _ => value.is_some_and(|v| same(v, limit)),
            }
        })
}

/// Model of the order of RA-05: `child` is covered by the single detail `parent`.
pub(crate) fn within(child: &Value, parent: &Value) -> bool {
    let (child, parent) = (child.as_object().unwrap(), parent.as_object().unwrap());
    child["type"] == parent["type"]
        && parent.iter().filter(|(field, _)| *field != "type").all(|(field, limit)| {
            let Some(value) = child.get(field) else { return false };
            match (text(&child["type"]), field.as_str()) {
                (_, LOCATIONS | "tools") => {
                    value.as_array().unwrap().iter().all(|v| limit.as_array().unwrap().contains(v))
                }
                ("tool_call", "amount") => exact(value) <= exact(limit),
                ("tool_call", "floor") => exact(value) >= exact(limit),
                ("tool_call", "path") => below(text(value), text(limit)),
                _ => same(value, limit),
            }
        })
}

/// Whether a detail may be used at one of the resources (RA-06).
pub(crate) fn is_for(detail: &Value, resources: &[&str]) -> bool {
    detail
        .get(LOCATIONS)
        .is_none_or(|places| places.as_array().unwrap().iter().any(|p| resources.contains(&text(p))))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn same(a: &Value, b: &Value) -> bool {
    if a.is_number() && b.is_number() { exact(a) == exact(b) } else { a == b }
}

/// A number of the universe in hundredths, read from its text.
fn exact(number: &Value) -> i64 {
    let text = number.to_string();
    let (negative, digits) = text.strip_prefix('-').map_or((false, text.as_str()), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let value: i64 = format!("{whole}{fraction:0<2}").parse().unwrap();
    if negative { -value } else { value }
}

/// Whether `path` is `prefix` or stands below it, by whole segments.
fn below(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.trim_end_matches('/') == prefix || path.starts_with(&format!("{prefix}/"))
}

/// Any JSON: whatever a client may send.
pub(crate) fn any_json() -> impl Strategy<Value = Value> {
    let word = || {
        prop_oneof![
            select(vec![
                "sub",
                "iss",
                "act",
                "instance",
                "type",
                "tool_call",
                "tools",
                "amount",
                "path",
                "/a"
            ])
            .prop_map(str::to_owned),
            any::<String>(),
        ]
    };
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(word(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}
