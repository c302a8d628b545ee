//! What a bundle may not say. Refused before anything runs: some of it would let a bundle loosen a decision, some
//! would bring the process down (the engine follows endless recursion until the stack is gone).

use std::collections::{BTreeMap, BTreeSet};

use super::bundle::Kind;
use super::fault::{Location, PolicyFault};
use super::syntax::{DOCUMENTS, Head, ModuleFacts, Reference, RuleFacts, Use};

/// Every module of rules is of this package.
pub(super) const PACKAGE: [&str; 2] = ["taskgrant", "exchange"];
/// Every module of tests is of this package, or below it.
const TEST_PACKAGE: [&str; 2] = ["taskgrant", "exchange_test"];
/// Rules that refer to each other go no deeper: each level takes some stack.
const MAX_DEPTH: usize = 32;

/// Built-ins whose answer is not a function of the input, so that a decision could not be replayed, or that write.
const IMPURE: [&str; 9] = [
    "http.send",
    "net.lookup_ip_addr",
    "opa.runtime",
    "print",
    "rand.intn",
    "test.sleep",
    "time.now_ns",
    "trace",
    "uuid.rfc4122",
];
/// Built-ins that can outrun every limit in a single call.
const UNBOUNDED: [&str; 4] = ["bits.lsh", "net.cidr_expand", "numbers.range", "numbers.range_step"];

const SHADOW: &str = "`input` and `data` are the documents: nothing else may be called so";

/// Something in a module that is refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Problem {
    pub(super) at: Location,
    pub(super) text: String,
}

impl From<Problem> for PolicyFault {
    fn from(problem: Problem) -> Self {
        Self::Source { at: problem.at, problem: problem.text }
    }
}

/// All that is refused in these modules, in the order of the files. `entry` is what they are evaluated through.
pub(super) fn problems(modules: &[(Kind, ModuleFacts)], entry: &ModuleFacts) -> Vec<Problem> {
    let mut found = Vec::new();
    for (kind, module) in modules {
        package(*kind, module, &mut found);
        let shadow = |at: &Location| Problem { at: at.clone(), text: SHADOW.to_owned() };
        found.extend(module.shadows.iter().map(shadow));
        for rule in &module.rules {
            if *kind == Kind::Rules {
                head(rule, &mut found);
            }
            rule.references.iter().for_each(|reference| use_of(*kind, reference, &mut found));
        }
    }
    let graph = Graph::of(modules, entry);
    found.extend(graph.too_deep());
    found.extend(graph.claimed_behind_allow());
    found.sort();
    found.dedup();
    found
}

fn starts_with(path: &[String], prefix: &[&str]) -> bool {
    path.len() >= prefix.len() && path.iter().zip(prefix).all(|(segment, expected)| segment == expected)
}

fn package(kind: Kind, module: &ModuleFacts, found: &mut Vec<Problem>) {
    let name = module.package.join(".");
    let text = if kind == Kind::Tests {
        if starts_with(&module.package, &TEST_PACKAGE) {
            return;
        }
        format!("tests are of package `{}` or below it, not `{name}`", TEST_PACKAGE.join("."))
    } else {
        if module.package == PACKAGE {
            return;
        }
        format!("rules are of package `{}`, not `{name}`", PACKAGE.join("."))
    };
    found.push(Problem { at: module.at.clone(), text });
}

fn head(rule: &RuleFacts, found: &mut Vec<Problem>) {
    let name = &rule.name;
    let text = match (name.as_str(), rule.head) {
        (name, _) if DOCUMENTS.contains(&name) => SHADOW.to_owned(),
        (_, Head::Default) => format!("`default {name}` is refused: defaults are the entry module's"),
        ("decision", _) => "`decision` is the entry module's: add members to its sets instead".to_owned(),
        ("allow", Head::True) | ("deny" | "require_approval" | "limits" | "tags", Head::Set) => return,
        ("allow", _) => "an `allow` rule yields true and nothing else: add to `deny` to refuse".to_owned(),
        ("deny" | "require_approval" | "limits" | "tags", _) => format!("write `{name} contains … if …`"),
        _ => return,
    };
    found.push(Problem { at: rule.at.clone(), text });
}

fn use_of(kind: Kind, reference: &Reference, found: &mut Vec<Problem>) {
    let name = reference.path.join(".");
    let is_input = reference.path.first().is_some_and(|root| root == "input");
    let is_document =
        starts_with(&reference.path, &["data"]) && !starts_with(&reference.path, &["data", PACKAGE[0]]);
    let text = if reference.used == Use::Replace && !is_input && (!is_document || reference.path.len() < 2) {
        format!("`with` may replace input and data documents only, not `{name}`")
    } else if reference.used == Use::Call && kind == Kind::Rules && IMPURE.contains(&name.as_str()) {
        format!("`{name}` is refused: its answer is not a function of the input, or it writes")
    } else if reference.used == Use::Call && UNBOUNDED.contains(&name.as_str()) {
        format!("`{name}` is refused: one call may outrun every limit")
    } else {
        return;
    };
    found.push(Problem { at: reference.at.clone(), text });
}

/// A rule, all its definitions together: package and name.
type Name = String;

#[derive(Default)]
struct Node<'rules> {
    /// Those of the bundle; a rule of the entry module alone has none.
    definitions: Vec<&'rules RuleFacts>,
    calls: BTreeSet<Name>,
}

/// Which rule refers to which. It errs on the side of more: a local variable named as a rule counts as the rule.
struct Graph<'rules> {
    nodes: BTreeMap<Name, Node<'rules>>,
}

impl<'rules> Graph<'rules> {
    fn of(modules: &'rules [(Kind, ModuleFacts)], entry: &'rules ModuleFacts) -> Self {
        let all = modules.iter().map(|(_, module)| module).chain([entry]);
        let rules: Vec<_> =
            all.flat_map(|module| module.rules.iter().map(move |rule| (module, rule))).collect();
        let names: BTreeSet<Name> =
            rules.iter().map(|(module, rule)| full_name(module, &rule.name)).collect();
        let mut nodes = BTreeMap::<Name, Node>::new();
        for (module, rule) in rules {
            let node = nodes.entry(full_name(module, &rule.name)).or_default();
            let called = rule.references.iter().flat_map(|reference| targets(module, reference, &names));
            node.calls.extend(called.cloned());
            if !std::ptr::eq(module, entry) {
                node.definitions.push(rule);
            }
        }
        Self { nodes }
    }

    /// Peels off the rules that refer to no other, layer by layer. What is left after [`MAX_DEPTH`] layers is too deep,
    /// or goes round in circles.
    fn too_deep(&self) -> Option<Problem> {
        let mut left: BTreeSet<&Name> = self.nodes.keys().collect();
        for _ in 0..MAX_DEPTH {
            left = left
                .iter()
                .filter(|name| self.calls(name).any(|called| left.contains(called)))
                .copied()
                .collect();
        }
        let own = |name: &&Name| self.nodes.get(*name).and_then(|node| node.definitions.first());
        let round = left.iter().find(|name| own(name).is_some() && self.reach(name).contains(**name));
        let name = round.or_else(|| left.iter().find(|name| own(name).is_some()))?;
        let at = own(name)?.at.clone();
        let text = if round.is_some() {
            format!(
                "`{name}` refers to itself; recursion is refused (a local variable named as a rule counts as it)"
            )
        } else {
            format!("`{name}` refers to rules more than {MAX_DEPTH} deep")
        };
        Some(Problem { at, text })
    }

    fn calls(&self, name: &str) -> impl Iterator<Item = &Name> {
        self.nodes.get(name).into_iter().flat_map(|node| &node.calls)
    }

    /// The rules that this one refers to, directly or not.
    fn reach(&self, name: &str) -> BTreeSet<&Name> {
        let mut seen = BTreeSet::new();
        let mut next: Vec<&Name> = self.calls(name).collect();
        while let Some(name) = next.pop() {
            if seen.insert(name) {
                next.extend(self.calls(name));
            }
        }
        seen
    }

    /// Reads of `input.claimed` by `allow` rules or by what they refer to. A read of input under a name that is only
    /// known when it runs may be one.
    fn claimed_behind_allow(&self) -> Vec<Problem> {
        let allow = format!("{}.allow", PACKAGE.join("."));
        let behind = self.reach(&allow).into_iter().chain([&allow]);
        let definitions = behind.filter_map(|name| self.nodes.get(name)).flat_map(|node| &node.definitions);
        let reads =
            definitions.flat_map(|rule| &rule.references).filter(|reference| may_be_claimed(reference));
        let text = "an `allow` rule may not depend on `input.claimed`, nor on `input` as a whole";
        reads.map(|reference| Problem { at: reference.at.clone(), text: text.to_owned() }).collect()
    }
}

fn may_be_claimed(reference: &Reference) -> bool {
    match reference.path.as_slice() {
        [root] => root == "input",
        [root, member, ..] => root == "input" && member == "claimed",
        [] => false,
    }
}

fn full_name(module: &ModuleFacts, rule: &str) -> Name {
    format!("{}.{rule}", module.package.join("."))
}

/// The rules that a reference may mean. One that ends above a rule (`data.taskgrant`) means all below it.
fn targets<'names>(
    module: &ModuleFacts,
    reference: &Reference,
    names: &'names BTreeSet<Name>,
) -> impl Iterator<Item = &'names Name> {
    let path = match reference.path.split_first() {
        Some((root, rest)) if root == "data" => Some(rest.join(".")),
        Some((root, _)) if root != "input" => Some(full_name(module, root)),
        _ => None,
    };
    let within = |inner: &str, outer: &str| {
        outer.is_empty()
            || inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    names
        .iter()
        .filter(move |name| path.as_ref().is_some_and(|path| within(name, path) || within(path, name)))
}

#[cfg(test)]
mod tests {
    use crate::policy::engine::PolicyEngine;
    use crate::policy::suite::patient;
    use crate::policy::testing::{bundle_of, module, rules};

    /// The refusal of rules that start on line 3 of `own/rules.rego`.
    fn refusal(body: &str) -> String {
        PolicyEngine::compile(rules(body)).unwrap_err().to_string()
    }

    #[test]
    fn a_module_of_another_package_is_refused() {
        let bundle = bundle_of(&[("own/x.rego", "package taskgrant.other\nimport rego.v1\nallow := true\n")]);
        let fault = PolicyEngine::compile(bundle).unwrap_err().to_string();
        assert_eq!(fault, "own/x.rego:1:1: rules are of package `taskgrant.exchange`, not `taskgrant.other`");
    }

    #[test]
    fn what_the_entry_module_defines_is_refused() {
        for (body, problem) in [
            ("decision := {}", "own/rules.rego:3:1: `decision` is the entry module's"),
            ("decision.allow := true", "own/rules.rego:3:1: `decision` is the entry module's"),
            ("default allow := true", "own/rules.rego:3:1: `default allow` is refused"),
            ("default helper := 1", "own/rules.rego:3:1: `default helper` is refused"),
            ("allow := false", "an `allow` rule yields true"),
            ("allow := input.x", "an `allow` rule yields true"),
            ("allow if input.x else := 2 if input.y", "an `allow` rule yields true"),
            ("allow(x) if x", "an `allow` rule yields true"),
            ("allow contains 1", "an `allow` rule yields true"),
            ("deny := {1}", "write `deny contains"),
            ("deny if true", "write `deny contains"),
            ("limits.lifetime := 3", "write `limits contains"),
            ("limits.lifetime contains 3", "write `limits contains"),
        ] {
            let fault = refusal(body);
            assert!(fault.contains(problem), "{body}: {fault}");
        }
    }

    #[test]
    fn recursion_is_refused_before_it_runs() {
        for body in [
            "f(x) := f(x + 1)\nallow if f(1)",
            "p if q\nq if p",
            "f(x) := y if { y := [g(z) | some z in x] }\ng(x) := f(x)",
            "allow if data.taskgrant.exchange.decision.allow",
            "allow if { some k; data.taskgrant.exchange[k] == 1 }",
            "allow if data.taskgrant == 1",
            "allow if { some k; data[k].exchange.allow }",
            "helper if count(data) > 1",
            "deny contains {\"code\": \"x\", \"message\": \"m\"} if count(deny) > 0",
            "a[x] := 1 if { some x in a }",
            "import data.taskgrant.exchange as all\nallow if all.decision.allow",
        ] {
            let fault = refusal(body);
            assert!(
                fault.contains("refers to itself") && fault.starts_with("own/rules.rego:"),
                "{body}: {fault}"
            );
        }
    }

    #[test]
    fn a_deep_tower_of_rules_is_refused_and_a_lower_one_runs() {
        let tower = |height: usize| {
            let floors = (1..height).map(|floor| format!("r{floor} if r{}\n", floor - 1));
            format!("r0 if true\n{}allow if r{}", floors.collect::<String>(), height - 1)
        };
        assert!(refusal(&tower(40)).contains("more than 32 deep"));
        let engine = PolicyEngine::compile_with(rules(&tower(29)), patient()).unwrap();
        assert!(engine.judge(&crate::policy::testing::good_input()).unwrap().allow);
    }

    #[test]
    fn builtins_that_are_impure_or_unbounded_are_refused() {
        for call in [
            "time.now_ns() > 1",
            "rand.intn(\"x\", 2) == 1",
            "print(\"x\")",
            "count(numbers.range(1, 9)) > 1",
        ] {
            let fault = refusal(&format!("allow if {call}"));
            assert!(fault.contains("own/rules.rego:3:") && fault.contains("is refused"), "{fault}");
        }
    }

    #[test]
    fn with_replaces_input_and_data_documents_only() {
        for target in ["count", "data.taskgrant.exchange.deny", "helper"] {
            let fault = refusal(&format!("helper(x) if x\nallow if input.x with {target} as 1"));
            assert!(fault.contains("`with` may replace"), "{target}: {fault}");
        }
    }

    #[test]
    fn an_allow_rule_may_not_depend_on_claims() {
        for body in [
            "allow if input.claimed.reason == \"x\"",
            "allow if input[\"claimed\"].reason",
            "allow if { some name; input[name].reason }",
            "allow if object.get(input, \"claimed\", {}) == {}",
            "import input.claimed as facts\nallow if facts.reason",
            "import input as facts\nallow if facts.claimed.reason",
            "helper if { some f in input.claimed }\nsecond if helper\nallow if second",
            "helper(x) := input.claimed[x]\nallow if [helper(f) | some f in [1]] == []",
            "allow if not input.claimed.risky",
            "allow if { x := input; x.claimed.ok }",
        ] {
            let fault = refusal(body);
            assert!(fault.contains("may not depend on `input.claimed`"), "{body}: {fault}");
        }
        let stricter = "# input.claimed in a comment\nallow if input.now == 1\nallow if \"input.claimed\" == input.environment\n\
            deny contains {\"code\": \"x\", \"message\": \"m\"} if input.claimed.x";
        PolicyEngine::compile(rules(stricter)).unwrap();
    }

    #[test]
    fn bundles_may_share_helpers() {
        let bundle = bundle_of(&[
            ("a/x.rego", &module("is_worker if input.actor.class == \"worker\"")),
            ("b/x.rego", &module("allow if not is_worker")),
        ]);
        PolicyEngine::compile(bundle).unwrap();
    }
}
