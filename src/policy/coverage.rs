//! Which lines of a bundle its own tests reach (`taskgrant policy coverage`), told by the interpreter.
//!
//! A line counts where a statement begins, or a rule or an `else` of it. A statement is reached when it was evaluated, whatever
//! came of it; a rule when all its conditions held at least once. To see that, the interpreter is given the rules with one more
//! condition behind the last, which always holds, on a line of its own.

use std::collections::{BTreeMap, BTreeSet};

use regorus::Engine;
use serde::Serialize;

use super::bundle::{Bundle, Kind};
use super::fault::PolicyFault;
use super::machine::{Parsed, add_module, evaluate_decision};
use super::suite::{Fixture, patient, run_tests};
use super::syntax::{Body, ModuleFacts};

/// What the tests of a bundle reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Lines that count.
    pub lines: usize,
    /// Those that are reached.
    pub reached: usize,
    /// Each file of rules, by path.
    pub files: Vec<FileCoverage>,
}

/// What they reach of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileCoverage {
    /// Bundle path.
    pub path: String,
    /// Lines that count.
    pub lines: usize,
    /// Those that are not reached, counted from 1.
    pub missed: Vec<u32>,
}

impl Coverage {
    /// The share that is reached, in whole per cent rounded down: 100 is all. A bundle without rules has all of nothing.
    pub fn percent(&self) -> usize {
        (self.reached * 100).checked_div(self.lines).unwrap_or(100)
    }
}

/// Runs the tests and fixtures of a bundle, and tells what they reach. Whether they pass is not asked.
pub fn coverage(bundle: &Bundle) -> Result<Coverage, PolicyFault> {
    let plain = Parsed::of(bundle, &[Kind::Rules, Kind::Tests], patient())?;
    if let Some(problem) = plain.problems().into_iter().next() {
        return Err(problem.into());
    }
    let texts: BTreeMap<&str, &str> = bundle.of_kind(Kind::Rules).collect();
    let mut marked: BTreeMap<String, Marked> = BTreeMap::new();
    for (_, module) in plain.modules.iter().filter(|(kind, _)| *kind == Kind::Rules) {
        let text = texts.get(module.at.path.as_str()).copied().unwrap_or_default();
        let path = module.at.path.clone();
        let one = Marked::of(text, module);
        // Where marks cannot be set, lines are told without them.
        if add_module(&mut Engine::new(), &path, &one.text).is_ok() {
            marked.insert(path, one);
        }
    }
    let with_marks = |(path, text): (&str, &str)| {
        (path.to_owned(), marked.get(path).map_or(text, |marked| &marked.text).to_owned())
    };
    let mut parsed = Parsed::of(
        &Bundle::from_files(bundle.files().map(with_marks))?,
        &[Kind::Rules, Kind::Tests],
        patient(),
    )?;
    run(bundle, &mut parsed)?;
    let mut told = Coverage { lines: 0, reached: 0, files: Vec::new() };
    for (_, module) in parsed.modules.iter().filter(|(kind, _)| *kind == Kind::Rules) {
        let path = module.at.path.clone();
        let reached = reached(&parsed.engine, &path)?;
        let origin = marked.get(&path).map(|marked| marked.origin.as_slice()).unwrap_or_default();
        let origin = |line: u32| origin.get((line as usize).saturating_sub(1)).copied().unwrap_or(line);
        let counted: BTreeSet<u32> =
            module.rules.iter().flat_map(|rule| rule.lines.iter().copied()).collect();
        let lines: BTreeSet<u32> = counted.iter().map(|line| origin(*line)).collect();
        let missed: BTreeSet<u32> = counted.difference(&reached).map(|line| origin(*line)).collect();
        told.lines += lines.len();
        told.reached += lines.len() - missed.len();
        told.files.push(FileCoverage { path, lines: lines.len(), missed: missed.into_iter().collect() });
    }
    Ok(told)
}

/// Runs all that a bundle brings to test itself.
fn run(bundle: &Bundle, parsed: &mut Parsed) -> Result<(), PolicyFault> {
    parsed.engine.set_enable_coverage(true);
    for (_, module) in parsed.modules.iter().filter(|(kind, _)| *kind == Kind::Tests) {
        run_tests(&mut parsed.engine, module, &mut Vec::new());
    }
    for (path, text) in bundle.of_kind(Kind::Fixture) {
        let fixture = Fixture::read(path, text);
        let fixture = fixture.map_err(|problem| PolicyFault::File { path: path.to_owned(), problem })?;
        parsed.engine.set_input(fixture.input.to_value());
        // A rule that fails has been reached up to there.
        let _ = evaluate_decision(&mut parsed.engine);
    }
    Ok(())
}

/// The lines that were evaluated. A module of which nothing was is not in the engine's report.
fn reached(engine: &Engine, path: &str) -> Result<BTreeSet<u32>, PolicyFault> {
    let report = engine.get_coverage_report().map_err(|error| PolicyFault::Evaluation(error.to_string()))?;
    let file = report.files.into_iter().find(|file| file.path == path);
    Ok(file.map(|file| file.covered).unwrap_or_default())
}

/// A module with one more condition in every rule, which tells that those before it held.
struct Marked {
    text: String,
    /// For each of its lines the one that it tells of.
    origin: Vec<u32>,
}

impl Marked {
    fn of(text: &str, module: &ModuleFacts) -> Self {
        let mut bodies: Vec<&Body> = module.rules.iter().flat_map(|rule| &rule.bodies).collect();
        bodies.sort_by_key(|body| body.start);
        let mut marked = Self { text: String::new(), origin: vec![1] };
        let mut at = 0;
        for body in bodies {
            let (before, whole) = (text.get(at..body.start), text.get(body.start..body.end));
            let (Some(before), Some(whole)) = (before, whole) else { continue };
            let braced = || whole.strip_prefix('{')?.strip_suffix('}');
            let inner = if body.is_braced { braced() } else { Some(whole) };
            let Some(inner) = inner else { continue };
            marked.copy(before);
            marked.copy_to("{", None);
            marked.copy(inner);
            marked.copy_to("true", Some(body.line));
            marked.text.push('}');
            at = body.end;
        }
        marked.copy(text.get(at..).unwrap_or_default());
        marked
    }

    /// What stands in the file.
    fn copy(&mut self, text: &str) {
        self.text.push_str(text);
        let line = self.origin.last().copied().unwrap_or(1);
        self.origin
            .extend((line..).skip(1).zip(text.bytes().filter(|byte| *byte == b'\n')).map(|(line, _)| line));
    }

    /// What does not; a mark stands on a line of its own, and tells of another.
    fn copy_to(&mut self, text: &str, mark: Option<u32>) {
        let line = self.origin.last().copied().unwrap_or(1);
        if let Some(head) = mark {
            self.text.push('\n');
            self.origin.push(head);
        }
        self.text.push_str(text);
        self.text.push('\n');
        self.origin.push(line);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::testing::{bundle_of, good_input, module};

    fn missed(rules: &str, tests: &str) -> Vec<u32> {
        let head = "package taskgrant.exchange_test\nimport rego.v1\nimport data.taskgrant.exchange\n";
        let files = [("a/r.rego", module(rules)), ("a/r_test.rego", format!("{head}{tests}\n"))];
        let files = files.each_ref().map(|(path, text)| (*path, text.as_str()));
        coverage(&bundle_of(&files)).unwrap().files.remove(0).missed
    }

    const RULES: &str = r#"allow if {
	input.open
	helps(input.x)
}
helps(x) if {
	x > 1
} else if {
	x < -1
}
deny contains {"code": "a", "message": "m"} if {
	some scope in input.scopes
	not scope in {"a", "b"}
	every other in input.others {
		other != scope
	}
}
limits contains {
	"lifetime": 5,
} if {
	input.short
}"#;

    #[test]
    fn what_no_test_reaches_is_named_by_line() {
        assert_eq!(missed(RULES, ""), [3, 4, 5, 7, 8, 9, 10, 12, 13, 14, 15, 16, 19, 22]);
        let open = r#"test_a if exchange.allow with input as {"open": true, "x": 2}"#;
        let of_others = [9, 10, 12, 14, 15, 16, 19];
        assert_eq!(missed(RULES, open), of_others, "the engine asks other rules too, and they do not fire");
        let all = r#"test_a if exchange.allow with input as {"open": true, "x": -2}
test_b if exchange.allow with input as {"open": true, "x": 2}
test_d if count(exchange.deny) == 1 with input as {"scopes": ["c"], "others": ["d"]}
test_l if count(exchange.limits) == 1 with input as {"short": true}"#;
        assert_eq!(missed(RULES, all), [0; 0]);
    }

    #[test]
    fn a_comprehension_is_reached_where_its_statements_are() {
        let rules = "allow if count(found) + count(others(1)) > 1\nfound := [x |\n\tsome x in input.xs\n]\n\
            others(n) := {x |\n\tsome x in input.xs\n} if {\n\tn > 0\n}";
        let fires = "test_a if exchange.allow with input as {\"xs\": [1]}";
        assert_eq!(missed(rules, fires), [0; 0]);
        assert_eq!(missed(rules, ""), [3, 5, 7, 8, 10]);
    }

    #[test]
    fn a_rule_on_one_line_is_reached_only_when_it_fires() {
        let rules = "allow if input.open # so\ntags contains \"x\" if {input.x; input.y}\nlimits contains {\"lifetime\": 5}";
        assert_eq!(missed(rules, "test_a if not exchange.allow with input as {\"open\": false}"), [3, 4]);
        let fires = "test_a if exchange.allow with input as {\"open\": true, \"x\": true}";
        assert_eq!(missed(rules, fires), [4]);
        for condition in
            ["input.x == \"y\"", "\"y\" == input.x", "`y` == input.x", "\"y\" in {input.x}", "input.x == `y`"]
        {
            let rules = format!("allow if {condition}\ntags contains input.x if {condition}");
            let fires = |x: &str| format!("test_a if exchange.allow with input as {{\"x\": \"{x}\"}}");
            assert_eq!(missed(&rules, &fires("y")), [0; 0], "{condition}");
            assert_eq!(missed(&rules, &fires("n")), [3, 4], "{condition}");
        }
    }

    #[test]
    fn fixtures_reach_too_and_a_module_that_nothing_reaches_counts() {
        let fixture = json!({"input": good_input(), "decision": {}}).to_string();
        let rules = module("allow if {\n\tinput.now > 1\n}");
        let files = [("a/r.rego", rules.as_str()), ("a/fixtures/f.json", &fixture)];
        assert_eq!(coverage(&bundle_of(&files)).unwrap().percent(), 100);
        let told = coverage(&bundle_of(&files[..1])).unwrap();
        assert_eq!((told.percent(), told.files[0].missed.as_slice()), (0, [3, 4].as_slice()));
        assert_eq!(coverage(&bundle_of(&[])).unwrap().percent(), 100);
        let broken = [("a/r.rego", rules.as_str()), ("a/fixtures/f.json", "{}")];
        assert!(coverage(&bundle_of(&broken)).unwrap_err().to_string().starts_with("`a/fixtures/f.json`"));
    }

    #[test]
    fn the_tests_of_the_demo_reach_all_of_it() {
        let told = coverage(&Bundle::embedded_demo().unwrap()).unwrap();
        assert_eq!((told.percent(), told.reached), (100, told.lines), "{told:#?}");
    }
}
