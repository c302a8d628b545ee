//! A bundle's own tests: `test_` rules of Rego, and fixtures that both ways to run must answer alike.

use regorus::{Engine, Value};
use serde::{Deserialize, Serialize};

use super::bundle::{Bundle, Kind};
use super::engine::PolicyEngine;
use super::fault::PolicyFault;
use super::input::PolicyInput;
use super::judgement::Judgement;
use super::machine::{Machine, Parsed, RunLimits, Worker, evaluate};
use super::syntax::{Head, ModuleFacts};

/// One test and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TestResult {
    /// Name of the rule or fixture.
    pub name: String,
    /// Where it stands: file, and line and column of a rule.
    pub at: String,
    /// Why it failed; `None` if it passed.
    pub problem: Option<String>,
}

/// What became of all tests of a bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TestReport {
    /// In the order of the files, rules before fixtures.
    pub results: Vec<TestResult>,
}

impl TestReport {
    /// Whether no test failed.
    pub fn is_ok(&self) -> bool {
        self.failures().next().is_none()
    }

    /// The tests that failed.
    pub fn failures(&self) -> impl Iterator<Item = &TestResult> {
        self.results.iter().filter(|result| result.problem.is_some())
    }
}

/// Why a bundle may not decide.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It cannot be read or does not compile: file and line are in it.
    #[error("policy: {0}")]
    Fault(#[from] PolicyFault),
    /// A data document in force does not fit it.
    #[error(
        "policy: {0}; put one that fits both bundles, or take it away for the time of the change: `taskgrant policy data drop`"
    )]
    Data(PolicyFault),
    /// A test that it brings fails.
    #[error("policy: {at}: test `{name}` fails: {problem}")]
    Test {
        /// The test.
        name: String,
        /// Its file.
        at: String,
        /// Why.
        problem: String,
    },
}

/// A bundle that may decide, ready to: it has rules, it compiles, and its own tests pass.
pub fn admit(bundle: Bundle) -> Result<PolicyEngine, Unfit> {
    bundle.has_rules()?;
    let report = test(&bundle)?;
    if let Some(TestResult { name, at, problem }) = report.failures().next().cloned() {
        return Err(Unfit::Test { name, at, problem: problem.unwrap_or_default() });
    }
    let engine = PolicyEngine::compile(bundle)?;
    engine.prepare()?;
    Ok(engine)
}

/// Runs the tests of a bundle. A bundle that does not compile is a fault.
pub fn test(bundle: &Bundle) -> Result<TestReport, PolicyFault> {
    let mut pair = Pair::build(bundle)?;
    let mut results = rego_tests(bundle)?;
    for (path, text) in bundle.of_kind(Kind::Fixture) {
        let fixture = Fixture::read(path, text);
        let name = fixture.as_ref().map_or(path, |fixture| fixture.name.as_str()).to_owned();
        let problem = fixture.and_then(|fixture| fixture.run(&mut pair)).err();
        results.push(TestResult { name, at: path.to_owned(), problem });
    }
    Ok(TestReport { results })
}

/// Tests and lint may run on a busy machine: more time than a decision gets, but as few instructions.
pub(super) fn patient() -> RunLimits {
    RunLimits { time: std::time::Duration::from_secs(2), ..RunLimits::default() }
}

fn rego_tests(bundle: &Bundle) -> Result<Vec<TestResult>, PolicyFault> {
    let mut parsed = Parsed::of(bundle, &[Kind::Rules, Kind::Tests], patient())?;
    if let Some(problem) = parsed.problems().into_iter().next() {
        return Err(problem.into());
    }
    let mut results = Vec::new();
    for (kind, module) in &parsed.modules {
        if *kind == Kind::Tests {
            run_tests(&mut parsed.engine, module, &mut results);
        }
    }
    Ok(results)
}

/// Runs the `test_` rules of one module.
pub(super) fn run_tests(engine: &mut Engine, module: &ModuleFacts, results: &mut Vec<TestResult>) {
    for rule in
        module.rules.iter().filter(|rule| rule.name.starts_with("test_") && rule.head != Head::Function)
    {
        let path = format!("data.{}.{}", module.package.join("."), rule.name);
        let problem = match evaluate(engine, &path) {
            Ok(Value::Bool(true)) => None,
            Ok(Value::Undefined) => Some("it is undefined".to_owned()),
            Ok(other) => Some(format!("it yields {other}, not true")),
            Err(fault) => Some(fault.to_string()),
        };
        results.push(TestResult { name: rule.name.clone(), at: rule.at.to_string(), problem });
    }
}

/// `fixtures/*.json`: an input, and those members of the decision that matter.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fixture {
    #[serde(default)]
    pub(super) name: String,
    pub(super) input: PolicyInput,
    decision: serde_json::Value,
}

impl Fixture {
    pub(super) fn read(path: &str, text: &str) -> Result<Self, String> {
        let mut fixture: Self =
            serde_json::from_str(text).map_err(|error| format!("not a fixture: {error}"))?;
        if fixture.name.is_empty() {
            path.clone_into(&mut fixture.name);
        }
        Ok(fixture)
    }

    fn run(&self, pair: &mut Pair) -> Result<(), String> {
        let decision = pair.judge(&self.input)?.to_json();
        differs(&self.decision, &decision, "decision").map_or(Ok(()), Err)
    }
}

/// Where `actual` is not what is expected: of an object the members named, of an array all elements in any order.
fn differs(expected: &serde_json::Value, actual: &serde_json::Value, place: &str) -> Option<String> {
    use serde_json::Value::{Array, Object};
    match (expected, actual) {
        (Object(expected), Object(actual)) => expected.iter().find_map(|(name, value)| {
            let place = format!("{place}.{name}");
            match actual.get(name) {
                Some(found) => differs(value, found, &place),
                None => Some(format!("`{place}` is absent, not {value}")),
            }
        }),
        (Array(expected), Array(actual)) if expected.len() == actual.len() => {
            let missing =
                expected.iter().find(|item| !actual.iter().any(|found| differs(item, found, "").is_none()));
            missing.map(|item| format!("`{place}` lacks {item}"))
        }
        _ if expected == actual => None,
        _ => Some(format!("`{place}` is {actual}, not {expected}")),
    }
}

/// Both ways to run one bundle.
pub(super) struct Pair {
    vm: Worker,
    pub(super) interpreter: Worker,
    pub(super) machine: Machine,
}

impl Pair {
    pub(super) fn build(bundle: &Bundle) -> Result<Self, PolicyFault> {
        let (vm, machine) = Worker::build(bundle, patient())?;
        Ok(Self { vm, interpreter: Worker::interpreter(bundle, patient())?, machine })
    }

    /// The answer on which both agree. The interpreter is strict: an error in a built-in, which the virtual machine
    /// takes for undefined so that a `deny` rule is skipped in silence, is a failure here.
    pub(super) fn judge(&mut self, input: &PolicyInput) -> Result<Judgement, String> {
        let judge =
            |worker: &mut Worker| worker.decide(input).and_then(|decision| Judgement::parse(&decision));
        let interpreted = judge(&mut self.interpreter).map_err(|fault| fault.to_string())?;
        let compiled = judge(&mut self.vm).map_err(|fault| fault.to_string())?;
        if interpreted == compiled {
            return Ok(compiled);
        }
        Err(format!(
            "the virtual machine and the interpreter disagree: {} against {}",
            compiled.to_json(),
            interpreted.to_json()
        ))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::testing::{bundle_of, good_input, module};

    const TESTS: &str = "package taskgrant.exchange_test\nimport rego.v1\nimport data.taskgrant.exchange\n";

    fn problems(files: &[(&str, &str)]) -> Vec<String> {
        let report = test(&bundle_of(files)).unwrap();
        report
            .failures()
            .map(|result| format!("{} {}", result.at, result.problem.as_ref().unwrap()))
            .collect()
    }

    fn fixture(decision: &serde_json::Value) -> String {
        json!({"input": good_input(), "decision": decision}).to_string()
    }

    #[test]
    fn the_starter_and_the_demo_pass_their_tests() {
        let report = test(&Bundle::embedded_demo().unwrap()).unwrap();
        assert!(report.is_ok(), "{:#?}", report.failures().collect::<Vec<_>>());
        assert!(report.results.len() >= 20);
        assert!(test(&Bundle::embedded_base().unwrap()).unwrap().is_ok());
    }

    #[test]
    fn a_failed_test_is_placed() {
        let rules = module("allow if input.x");
        let tests = format!(
            "{TESTS}test_yes if exchange.allow with input as {{\"x\": true}}\ntest_no if exchange.allow with input as {{}}\nno_test if false\n"
        );
        assert_eq!(
            problems(&[("a/r.rego", &rules), ("a/r_test.rego", &tests)]),
            ["a/r_test.rego:5:1 it is undefined"]
        );
    }

    #[test]
    fn a_fixture_names_what_differs() {
        let rules = module("allow if true\nlimits contains {\"lifetime\": 60}");
        let run = |decision| problems(&[("a/r.rego", &rules), ("a/fixtures/f.json", &fixture(&decision))]);
        assert_eq!(
            run(json!({"outcome": "allow", "deny": [], "limits": {"lifetime": 60}})),
            Vec::<String>::new()
        );
        assert_eq!(
            run(json!({"limits": {"lifetime": 61}})),
            ["a/fixtures/f.json `decision.limits.lifetime` is 60, not 61"]
        );
        assert_eq!(
            run(json!({"deny": [{"code": "x"}]})),
            ["a/fixtures/f.json `decision.deny` is [], not [{\"code\":\"x\"}]"]
        );
    }

    #[test]
    fn a_fixture_without_an_input_of_the_schema_fails() {
        let found = problems(&[("a/fixtures/f.json", r#"{"input": {"now": 1}, "decision": {}}"#)]);
        assert!(found[0].contains("not a fixture: missing field"), "{found:?}");
    }

    #[test]
    fn a_builtin_error_in_a_deny_rule_fails_the_fixture() {
        let rules = module(
            "allow if true\ndeny contains {\"code\": \"x\", \"message\": \"m\"} if count(input.now) > 0",
        );
        let found =
            problems(&[("a/r.rego", &rules), ("a/fixtures/f.json", &fixture(&json!({"outcome": "allow"})))]);
        assert!(found[0].contains("a/r.rego:4:") && found[0].contains("`count`"), "{found:?}");
    }
}
