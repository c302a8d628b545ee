//! Which rules of a bundle fire on an input, where they stand and who answers for them (`taskgrant policy eval --explain`).
//!
//! The engine keeps the sum of all definitions of a name and not who gave what. So each module is evaluated once more under
//! names that are each of one definition.

use std::collections::BTreeMap;

use regorus::{Engine, Value};
use serde::Serialize;

use super::annotation::Annotation;
use super::bundle::{Bundle, Kind};
use super::check::is_decisive;
use super::fault::PolicyFault;
use super::input::PolicyInput;
use super::machine::{Parsed, add_module, evaluate};
use super::rules::PACKAGE;
use super::suite::patient;
use super::syntax::{Head, ModuleFacts, RuleFacts};

/// Heads the names of single definitions; no bundle's rules are called so.
const ALIAS: &str = "taskgrant_explained_";

/// A rule that fires, or fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fired {
    /// `allow`, `deny`, `require_approval`, `limits` or `tags`.
    pub rule: String,
    /// File, line and column.
    pub at: String,
    /// Its annotation's title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Who answers for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What it adds; nothing where it is an `allow`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub adds: Vec<serde_json::Value>,
    /// Whether it fires only as if the agent had claimed nothing, which is asked as well.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub without_claims: bool,
    /// Why it fails, strictly evaluated; the virtual machine takes it for undefined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The rules of `bundle` that fire on `input`, in the order of the files. A bundle that does not compile is a fault.
pub fn explain(bundle: &Bundle, input: &PolicyInput) -> Result<Vec<Fired>, PolicyFault> {
    let mut parsed = Parsed::of(bundle, &[Kind::Rules], patient())?;
    let texts: BTreeMap<&str, &str> = bundle.of_kind(Kind::Rules).collect();
    let mut aliases = Vec::new();
    for (_, module) in &parsed.modules {
        let text = texts.get(module.at.path.as_str()).copied().unwrap_or_default();
        let renamed = rename(text, module, &mut aliases);
        add_module(&mut parsed.engine, &module.at.path, &renamed)?;
    }
    parsed.engine.set_input(input.to_value());
    let mut fired: Vec<Fired> = aliases.iter().filter_map(|alias| alias.run(&mut parsed.engine)).collect();
    if !input.claimed.is_empty() {
        let unclaimed = PolicyInput { claimed: BTreeMap::new(), ..input.clone() };
        parsed.engine.set_input(unclaimed.to_value());
        let others: Vec<Fired> = aliases.iter().filter_map(|alias| alias.run(&mut parsed.engine)).collect();
        let news = others.into_iter().filter(|other| !fired.contains(other)).collect::<Vec<_>>();
        fired.extend(news.into_iter().map(|one| Fired { without_claims: true, ..one }));
    }
    Ok(fired)
}

/// One definition under a name of its own.
struct Alias {
    name: String,
    rule: String,
    at: String,
    annotation: Annotation,
}

/// The text of a module, each definition that decides under a name of its own. Helpers are then defined twice and alike, which
/// changes nothing. Lines stay where they are.
fn rename(text: &str, module: &ModuleFacts, aliases: &mut Vec<Alias>) -> String {
    let decides = |rule: &&RuleFacts| matches!(rule.head, Head::True | Head::Set) && is_decisive(&rule.name);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for rule in module.rules.iter().filter(decides) {
        let line = (rule.at.line as usize).checked_sub(1).and_then(|line| lines.get_mut(line));
        let Some(line) = line.filter(|line| line.trim_start().starts_with(&rule.name)) else { continue };
        let name = format!("{ALIAS}{}", aliases.len());
        *line = line.replacen(&rule.name, &name, 1);
        let annotation = Annotation::of(text, module, rule);
        aliases.push(Alias { name, rule: rule.name.clone(), at: rule.at.to_string(), annotation });
    }
    lines.join("\n")
}

impl Alias {
    fn run(&self, engine: &mut Engine) -> Option<Fired> {
        let path = format!("data.{}.{}", PACKAGE.join("."), self.name);
        let (adds, problem) = match evaluate(engine, &path) {
            Ok(Value::Bool(true)) => (Vec::new(), None),
            Ok(Value::Set(items)) if !items.is_empty() => (items.iter().map(plain).collect(), None),
            Ok(_) => return None,
            Err(fault) => (Vec::new(), Some(fault.to_string())),
        };
        Some(Fired {
            rule: self.rule.clone(),
            at: self.at.clone(),
            title: self.annotation.title.clone(),
            owner: self.annotation.owner.clone(),
            adds,
            without_claims: false,
            problem,
        })
    }
}

/// A value as JSON: a set is an array.
pub(super) fn plain(value: &Value) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::{bundle_of, good_input, module, rules};

    fn told(bundle: &Bundle, input: &PolicyInput) -> Vec<String> {
        let line = |one: Fired| format!("{} {} {}", one.rule, one.at, serde_json::json!(one.adds));
        explain(bundle, input).unwrap().into_iter().map(line).collect()
    }

    #[test]
    fn each_definition_that_fires_is_told_with_its_place_and_owner() {
        let annotated = "# METADATA\n# title: Short\n# custom:\n#   owner: group:a\n";
        let first = module(&format!(
            "allow if {{\n\thelps(input.now)\n}}\nallow if input.now < 1\nhelps(x) if x > 1\n{annotated}limits contains {{\"lifetime\": 5}} if allow"
        ));
        let second =
            module("tags contains tag if {\n\tsome tag in {\"x\", \"y\"}\n}\ntags contains \"z\" if false");
        let bundle = bundle_of(&[("a/r.rego", &first), ("b/s.rego", &second)]);
        assert_eq!(
            told(&bundle, &good_input()),
            [
                "allow a/r.rego:3:1 []",
                "limits a/r.rego:12:1 [{\"lifetime\":5}]",
                "tags b/s.rego:3:1 [\"x\",\"y\"]"
            ]
        );
        let fired = explain(&bundle, &good_input()).unwrap();
        assert_eq!((fired[1].title.as_deref(), fired[1].owner.as_deref()), (Some("Short"), Some("group:a")));
        assert_eq!(fired[0].owner, None);
    }

    #[test]
    fn what_fires_only_without_the_claim_is_marked() {
        let mut input = good_input();
        input.claimed.insert("safe".to_owned(), true.into());
        let deny = |code: &str, claim: &str| {
            format!("deny contains {{\"code\": \"{code}\", \"message\": \"m\"}} if {claim}")
        };
        let body = [
            deny("a", "not input.claimed.safe"),
            deny("b", "input.claimed.safe"),
            deny("c", "input.now > 1"),
        ];
        let fired = explain(&rules(&body.join("\n")), &input).unwrap();
        let marks: Vec<_> = fired.iter().map(|one| (one.at.as_str(), one.without_claims)).collect();
        assert_eq!(
            marks,
            [("own/rules.rego:4:1", false), ("own/rules.rego:5:1", false), ("own/rules.rego:3:1", true)]
        );
    }

    #[test]
    fn a_rule_that_fails_is_told_with_why() {
        let fired =
            explain(&rules("allow if true\ntags contains \"x\" if count(input.now) > 1"), &good_input())
                .unwrap();
        assert!(fired[1].problem.as_ref().unwrap().contains("own/rules.rego:4:"), "{fired:?}");
    }
}
