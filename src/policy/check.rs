//! The lint of a bundle (`taskgrant policy check`): what is refused, and what would go wrong in silence.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use regorus::Engine;
use serde::Serialize;

use super::annotation::Annotation;
use super::bundle::{Bundle, Kind};
use super::declared;
use super::fault::PolicyFault;
use super::input::PolicyInput;
use super::machine::{Machine, Parsed, add_module};
use super::suite::{Fixture, Pair, patient};
use super::syntax::{Head, ModuleFacts, RuleFacts};

/// Evaluated whatever fixtures a bundle brings, so that none is never run before it goes live.
const SAMPLE: &str = include_str!("../../policies/base/fixtures/within_the_ceiling.json");
/// Variants tried of one fixture.
const MAX_VARIANTS: usize = 200;
/// What a bundle without any `allow` rule does.
const NO_ALLOW: &str =
    "no rule of it says `allow`: alone it denies everything; `base` allows what the ceilings allow";
/// What to do about a rule that nobody owns.
const ANNOTATE: &str = "say it below `custom:` in a comment `# METADATA` above the rule, or above the package for all rules of the file";

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The check fails.
    Error,
    /// Somebody should look at it.
    Warning,
}

/// One thing that the lint found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// File, and line and column where they are known.
    pub at: String,
    /// What it is.
    pub problem: String,
}

/// What the lint found, errors first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The findings.
    pub findings: BTreeSet<Finding>,
    /// How the bundle would run; `None` if it does not compile.
    pub machine: Option<Machine>,
}

impl Report {
    /// Whether the bundle passes.
    pub fn is_ok(&self) -> bool {
        !self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    fn error(&mut self, at: impl ToString, problem: impl ToString) {
        self.add(Severity::Error, at, problem);
    }

    fn warning(&mut self, at: impl ToString, problem: impl ToString) {
        self.add(Severity::Warning, at, problem);
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "places and problems are small, of several types, and moved in"
    )]
    fn add(&mut self, severity: Severity, at: impl ToString, problem: impl ToString) {
        self.findings.insert(Finding { severity, at: at.to_string(), problem: problem.to_string() });
    }

    fn fault(&mut self, fault: PolicyFault) {
        match fault {
            PolicyFault::Source { at, problem } => self.error(at, problem),
            PolicyFault::File { path, problem } => self.error(path, problem),
            PolicyFault::Data { path, problem } => self.error(format!("data.{path}"), problem),
            fault @ (PolicyFault::NotABundle
            | PolicyFault::NoRules
            | PolicyFault::Compile(_)
            | PolicyFault::Limit(_)
            | PolicyFault::Evaluation(_)
            | PolicyFault::Panic
            | PolicyFault::Output(_)
            | PolicyFault::Claimed(_)) => self.error("bundle", fault),
        }
    }
}

/// Lints a bundle: every module is parsed and judged, then all is run on the fixtures. `today` is the day in UTC that reviews are
/// held against.
pub fn check(bundle: &Bundle, today: NaiveDate) -> Report {
    let mut report = Report::default();
    for (path, text) in bundle.of_kind(Kind::Rules).chain(bundle.of_kind(Kind::Tests)) {
        if let Err(fault) = add_module(&mut Engine::new(), path, text) {
            report.fault(fault);
        }
    }
    if report.is_ok() {
        structure(bundle, &mut report);
    }
    if report.is_ok() {
        kept(bundle, today, &mut report);
        if let Err(fault) = declared::check(bundle) {
            report.fault(fault);
        }
        match Pair::build(bundle) {
            Ok(pair) => behaviour(bundle, pair, &mut report),
            Err(fault) => report.fault(fault),
        }
    }
    report
}

/// Whether somebody answers for each rule: findings of [`check`] that alone keep no bundle from going live. None of one that
/// does not parse.
pub fn ownership(bundle: &Bundle, today: NaiveDate) -> Report {
    let mut report = Report::default();
    kept(bundle, today, &mut report);
    report
}

fn kept(bundle: &Bundle, today: NaiveDate, report: &mut Report) {
    if let Ok(parsed) = Parsed::of(bundle, &[Kind::Rules], patient()) {
        parsed.modules.iter().for_each(|(_, module)| annotations(bundle, module, today, report));
    }
}

fn structure(bundle: &Bundle, report: &mut Report) {
    let parsed = match Parsed::of(bundle, &[Kind::Rules, Kind::Tests], patient()) {
        Ok(parsed) => parsed,
        Err(fault) => return report.fault(fault),
    };
    let mut rules = parsed.modules.iter().flat_map(|(_, module)| &module.rules);
    if !rules.any(|rule| rule.name == "allow" && rule.head == Head::True) {
        report.warning("bundle", NO_ALLOW);
    }
    for problem in parsed.problems() {
        report.error(problem.at, problem.text);
    }
}

/// The rules that decide say who owns them and when they are looked at again, themselves or by their package. A rule that only
/// other rules read answers to those.
fn annotations(bundle: &Bundle, module: &ModuleFacts, today: NaiveDate, report: &mut Report) {
    let decides = |rule: &&RuleFacts| matches!(rule.head, Head::True | Head::Set);
    let text = bundle.files().find(|(path, _)| *path == module.at.path).map_or("", |(_, text)| text);
    for rule in module.rules.iter().filter(decides).filter(|rule| is_decisive(&rule.name)) {
        let annotation = Annotation::of(text, module, rule);
        let lacks = [("owner", annotation.owner.is_none()), ("review_by", annotation.review_by.is_none())];
        let lacks: Vec<&str> = lacks.iter().filter(|(_, lacks)| *lacks).map(|(key, _)| *key).collect();
        if !lacks.is_empty() {
            report.error(&rule.at, format!("`{}` lacks {}: {ANNOTATE}", rule.name, lacks.join(" and ")));
        }
        if annotation.title.is_none() {
            report.warning(&rule.at, format!("the annotation of `{}` lacks a title", rule.name));
        }
        match annotation.review_date() {
            Some(Err(text)) => {
                report.error(&rule.at, format!("`review_by: {text}` is not a date: write YYYY-MM-DD"));
            }
            Some(Ok(due)) if due < today => {
                let owner = annotation.owner.as_deref().unwrap_or("its owner");
                let remedy = format!("have {owner} look at it, and set the next date");
                report.warning(&rule.at, format!("the review of `{}` was due on {due}: {remedy}", rule.name));
            }
            Some(Ok(_)) | None => {}
        }
    }
}

pub(super) fn is_decisive(name: &str) -> bool {
    matches!(name, "allow" | "deny" | "require_approval" | "limits" | "tags")
}

fn behaviour(bundle: &Bundle, mut pair: Pair, report: &mut Report) {
    if let Machine::Interpreter { at, reason } = &pair.machine {
        let at = at.as_ref().map_or_else(|| "bundle".to_owned(), ToString::to_string);
        report.warning(at, format!("the interpreter runs this bundle, some three times slower: {reason}"));
    }
    for (path, text) in bundle.of_kind(Kind::Fixture).chain([("sample input", SAMPLE)]) {
        match Fixture::read(path, text) {
            Ok(fixture) => evaluate(path, &fixture.input, &mut pair, report),
            Err(problem) => report.error(path, problem),
        }
    }
    report.machine = Some(pair.machine);
}

fn evaluate(path: &str, input: &PolicyInput, pair: &mut Pair, report: &mut Report) {
    let unclaimed = PolicyInput { claimed: std::collections::BTreeMap::new(), ..input.clone() };
    match (pair.judge(input), pair.judge(&unclaimed)) {
        (Ok(with), Ok(without)) if without.is_stricter_than(&with) => {
            report.error(path, "what the agent claims makes the answer less strict");
        }
        (Ok(_), Ok(_)) => {}
        (Err(problem), _) | (_, Err(problem)) => return report.error(path, problem),
    }
    for (place, variant) in variants(input) {
        if let Err(fault) = pair.interpreter.decide(&variant) {
            report.warning(path, format!("with another kind of value at `{place}`: {fault}"));
        }
    }
}

/// Where an input has values of any kind, and not by the agent's word: authorization details as their type's schema admits them, and
/// claims as the issuer states them.
const OF_ANY_KIND: [&str; 4] = [
    "/parent/authorization_details",
    "/requested/authorization_details",
    "/ceiling/authorization_details",
    "/principal/facts",
];

/// The input with each value that may be of any kind replaced by other kinds of JSON: a built-in that fails on one would be skipped in
/// silence by the virtual machine.
fn variants(input: &PolicyInput) -> Vec<(String, PolicyInput)> {
    let Ok(document) = serde_json::to_value(input) else { return Vec::new() };
    let mut places = Vec::new();
    for root in OF_ANY_KIND {
        if let Some(value) = document.pointer(root) {
            inner_places(root, value, &mut places);
        }
    }
    let kinds = ["null", "7", "\"x\"", "[]", "{}"].map(|text| serde_json::from_str(text).unwrap_or_default());
    let each =
        places.iter().flat_map(|place| kinds.iter().map(move |kind: &serde_json::Value| (place, kind)));
    each.take(MAX_VARIANTS)
        .filter_map(|(place, kind)| {
            let mut variant = document.clone();
            variant.pointer_mut(place)?.clone_from(kind);
            Some((place.clone(), serde_json::from_value(variant).ok()?))
        })
        .collect()
}

/// JSON pointers to the values within, at any depth.
fn inner_places(root: &str, value: &serde_json::Value, places: &mut Vec<String>) {
    let mut inner = |name: String, value| {
        let place = format!("{root}/{name}");
        inner_places(&place, value, places);
        places.push(place);
    };
    match value {
        serde_json::Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| inner(index.to_string(), item));
        }
        serde_json::Value::Object(members) => {
            members.iter().for_each(|(name, item)| inner(name.replace('~', "~0").replace('/', "~1"), item));
        }
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::testing::{bundle_of, good_input, module, rules};

    const TODAY: NaiveDate = NaiveDate::from_ymd_opt(2026, 11, 26).unwrap();

    fn checked(bundle: &Bundle) -> Report {
        check(bundle, TODAY)
    }

    /// All errors but those of rules that nobody owns: most tests are of something else.
    fn errors(report: &Report) -> Vec<String> {
        let errors = report.findings.iter().filter(|finding| finding.severity == Severity::Error);
        errors
            .filter(|finding| !finding.problem.contains(ANNOTATE))
            .map(|finding| format!("{}: {}", finding.at, finding.problem))
            .collect()
    }

    /// All but that nothing is allowed: so it is with most rules of these tests.
    fn warnings(report: &Report) -> Vec<&str> {
        let warnings = report.findings.iter().filter(|finding| finding.severity == Severity::Warning);
        warnings
            .filter(|finding| finding.problem != NO_ALLOW)
            .map(|finding| finding.problem.as_str())
            .collect()
    }

    fn fixture(claimed: &serde_json::Value, details: &serde_json::Value) -> String {
        let mut input = serde_json::to_value(good_input()).unwrap();
        input["claimed"] = claimed.clone();
        input["requested"]["authorization_details"] = details.clone();
        json!({"input": input, "decision": {}}).to_string()
    }

    #[test]
    fn a_bundle_that_allows_nothing_is_warned_of() {
        let warned =
            |body: &str| checked(&rules(body)).findings.iter().any(|found| found.problem == NO_ALLOW);
        let deny = "deny contains {\"code\": \"a\", \"message\": \"m\"} if input.task.type == \"x\"";
        assert!(warned(deny));
        assert!(!warned(&format!("allow if true\n{deny}")));
    }

    #[test]
    fn the_starter_and_the_demo_have_no_findings() {
        for bundle in [Bundle::embedded_base(), Bundle::embedded_demo()] {
            let report = checked(&bundle.unwrap());
            assert_eq!(report.findings, BTreeSet::new());
            assert_eq!(report.machine, Some(Machine::Vm));
        }
    }

    #[test]
    fn every_module_that_does_not_parse_is_named() {
        let report = checked(&bundle_of(&[("a/x.rego", &module("allow if {")), ("b/y.rego", "packag x")]));
        let found = errors(&report);
        assert!(
            found.len() == 2 && found[0].starts_with("a/x.rego:") && found[1].starts_with("b/y.rego:"),
            "{found:?}"
        );
        assert!(!report.is_ok());
    }

    #[test]
    fn every_refusal_is_named() {
        let found =
            errors(&checked(&rules("default allow := true\nallow if input.claimed.x\ndecision := 1")));
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn a_builtin_error_does_not_vanish_even_without_fixtures() {
        let broken = "allow if true\ndeny contains {\"code\": \"a\", \"message\": \"m\"} if count(3) > 0";
        let found = errors(&checked(&rules(broken)));
        assert!(
            found.iter().any(|error| error.contains("own/rules.rego:4:") && error.contains("`count`")),
            "{found:?}"
        );
    }

    #[test]
    fn a_claim_may_not_make_the_answer_less_strict() {
        let trusting = module(
            "allow if true\ndeny contains {\"code\": \"a\", \"message\": \"m\"} if not input.claimed.safe",
        );
        let limiting = module("allow if true\nlimits contains {\"lifetime\": 9} if not input.claimed.safe");
        for rules in [trusting, limiting] {
            let fixture = fixture(&json!({"safe": true}), &json!([]));
            let found =
                errors(&checked(&bundle_of(&[("a/x.rego", &rules), ("a/fixtures/f.json", &fixture)])));
            assert_eq!(found, ["a/fixtures/f.json: what the agent claims makes the answer less strict"]);
        }
        let strict = module(
            "allow if true\ndeny contains {\"code\": \"a\", \"message\": \"m\"} if input.claimed.risky",
        );
        let fixture = fixture(&json!({"risky": true}), &json!([]));
        let found = errors(&checked(&bundle_of(&[("a/x.rego", &strict), ("a/fixtures/f.json", &fixture)])));
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn a_builtin_that_fails_on_another_kind_of_detail_is_shown() {
        let rules = module(
            "allow if true\ndeny contains {\"code\": \"a\", \"message\": \"m\"} if {\n\tsome d in input.requested.authorization_details\n\tcount(d.tools) > 2\n}",
        );
        let fixture = fixture(&json!({}), &json!([{"tools": ["x"]}]));
        let report = checked(&bundle_of(&[("a/x.rego", &rules), ("a/fixtures/f.json", &fixture)]));
        assert_eq!(errors(&report), [""; 0]);
        let place = "/requested/authorization_details/0/tools";
        assert!(warnings(&report).iter().any(|problem| problem.contains(place)), "{report:?}");
    }

    #[test]
    fn the_fallback_is_a_warning() {
        let report = checked(&rules("allow if { input.now == 1 with input.now as 1 }"));
        assert_eq!(errors(&report), [""; 0]);
        let found = warnings(&report).join("\n");
        assert!(found.contains("the interpreter runs this bundle"), "{found}");
    }

    const DENY: &str = "deny contains {\"code\": \"a\", \"message\": \"m\"} if input.now < 1";

    fn annotated(lines: &[&str]) -> String {
        lines.iter().fold(String::new(), |text, line| text + "# " + line + "\n")
    }

    /// Severity, line and problem of each finding about the bundle of one file, but that nothing is allowed.
    fn found(text: &str) -> Vec<(Severity, String, String)> {
        let report = checked(&bundle_of(&[("a/x.rego", text)]));
        let line = |at: &str| at.split(':').nth(1).unwrap_or_default().to_owned();
        let findings = report.findings.into_iter().filter(|found| found.problem != NO_ALLOW);
        findings.map(|f| (f.severity, line(&f.at), f.problem)).collect()
    }

    #[test]
    fn a_rule_that_nobody_owns_or_looks_at_again_fails_with_its_line() {
        let report = found(&module(&format!("allow if true\nhelps if true\n{DENY}")));
        let errors: Vec<_> = report.iter().filter(|(severity, ..)| *severity == Severity::Error).collect();
        assert_eq!(errors.len(), 2, "the helper is asked nothing: {report:?}");
        assert!(errors[0].1 == "3" && errors[0].2.starts_with("`allow` lacks owner and review_by"));
        assert!(errors[1].1 == "5" && errors[1].2.starts_with("`deny` lacks owner and review_by"));
        let half = annotated(&["METADATA", "title: t", "custom:", "  owner: group:a"]);
        let report = found(&module(&format!("{half}{DENY}")));
        assert!(report.len() == 1 && report[0].2.starts_with("`deny` lacks review_by"), "{report:?}");
    }

    #[test]
    fn the_annotation_of_the_package_or_the_document_answers_for_its_rules() {
        let kept = ["custom:", "  owner: group:a", "  review_by: 2099-01-01"];
        let title = annotated(&["METADATA", "title: t"]);
        let package = annotated(&[&["METADATA", "scope: package"][..], &kept[..]].concat());
        assert_eq!(
            found(&format!("{package}{}", module(&format!("{title}allow if true\n{title}{DENY}")))),
            []
        );
        let document = annotated(&[&["METADATA", "title: t", "scope: document"][..], &kept[..]].concat());
        assert_eq!(found(&module(&format!("{document}{DENY}\n{DENY}"))), []);
        let rule = annotated(&[&["METADATA", "title: t"][..], &kept[..]].concat());
        let report = found(&module(&format!("{rule}{DENY}\n{DENY}")));
        assert!(report.len() == 2 && report.iter().all(|(_, line, _)| line == "9"), "{report:?}");
    }

    #[test]
    fn a_review_that_is_overdue_is_a_warning_and_one_that_is_no_date_an_error() {
        let due = |day: &str| {
            let (owner, day) = ("  owner: group:a", format!("  review_by: {day}"));
            let lines = annotated(&["METADATA", "title: t", "custom:", owner, day.as_str()]);
            found(&module(&format!("{lines}{DENY}")))
        };
        assert_eq!(due("2026-11-26"), [], "on the day itself there is time");
        let late = due("2026-11-25");
        assert!(late.len() == 1 && late[0].0 == Severity::Warning, "{late:?}");
        assert!(late[0].2.contains("was due on 2026-11-25: have group:a look at it"), "{late:?}");
        let never = due("some day");
        assert!(never.len() == 1 && never[0].0 == Severity::Error, "{never:?}");
        assert!(never[0].2.contains("`review_by: some day` is not a date"), "{never:?}");
    }
}
