//! Rules that are of some task types only: their first condition is `input.task.type == "NAME"` or `input.task.type in {"NAME", …}`.
//!
//! The virtual machine has no index of rules: it tries each member of a set, so that the cost of a decision grows with all rules that
//! there are. A rule whose first condition does not hold adds nothing, whatever comes after it; left out, the decision is the
//! same. So each task type that a guard names gets a program without the rules of the others, and all types that none names share
//! one without any of them.

use std::collections::BTreeSet;

use regorus::unstable::{BoolOp, Expr, Literal, Module, Rule, RuleHead};

use super::syntax::conditions_of;

/// Rules that may be left out: the entry module defines them all, and what they add to is empty or false without them.
const ADDED_TO: [&str; 5] = ["allow", "deny", "require_approval", "limits", "tags"];

/// The modules of a bundle, and which of their rules are of some task types only.
pub(super) struct Guards {
    modules: Vec<ModuleText>,
    named: BTreeSet<String>,
}

/// One module.
struct ModuleText {
    path: String,
    text: String,
    rules: usize,
    guarded: Vec<GuardedRule>,
}

/// A rule, by its place in the text, in bytes.
struct GuardedRule {
    start: usize,
    end: usize,
    types: BTreeSet<String>,
}

impl Guards {
    /// Reads parsed modules. None if no rule of theirs is guarded.
    pub(super) fn of<'m>(modules: impl Iterator<Item = &'m Module>) -> Option<Self> {
        let modules: Vec<_> = modules.map(ModuleText::of).collect();
        let rules = modules.iter().flat_map(|module| &module.guarded);
        let named: BTreeSet<_> = rules.flat_map(|rule| rule.types.iter().cloned()).collect();
        (!named.is_empty()).then_some(Self { modules, named })
    }

    /// The name that stands for this task type: its own, or none if no guard names it.
    pub(super) fn named<'t>(&self, task_type: &'t str) -> Option<&'t str> {
        Some(task_type).filter(|task_type| self.named.contains(*task_type))
    }

    /// For a task type that is named so: path and text of each module, in which spaces stand for the rules of the others, and
    /// the number of rules that are left.
    pub(super) fn texts(&self, task_type: Option<&str>) -> impl Iterator<Item = (&str, String, usize)> {
        self.modules.iter().map(move |module| module.text_for(task_type))
    }
}

impl ModuleText {
    fn of(module: &Module) -> Self {
        let source = &module.package.span.source;
        let guarded = module.policy.iter().filter_map(|rule| GuardedRule::of(rule));
        Self {
            path: source.get_path().clone(),
            text: source.contents().clone(),
            rules: module.policy.len(),
            guarded: guarded.collect(),
        }
    }

    fn text_for(&self, task_type: Option<&str>) -> (&str, String, usize) {
        let is_others = |rule: &&GuardedRule| task_type.is_none_or(|name| !rule.types.contains(name));
        let (mut text, mut left, mut from) = (String::with_capacity(self.text.len()), self.rules, 0);
        for rule in self.guarded.iter().filter(is_others) {
            let (Some(before), Some(out)) =
                (self.text.get(from..rule.start), self.text.get(rule.start..rule.end))
            else {
                continue;
            };
            text.push_str(before);
            // Lines and columns stay what they are: a fault is told by them.
            text.extend(out.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
            (left, from) = (left - 1, rule.end);
        }
        text.push_str(self.text.get(from..).unwrap_or_default());
        (&self.path, text, left)
    }
}

impl GuardedRule {
    /// None if the rule is of any task type.
    fn of(rule: &Rule) -> Option<Self> {
        let Rule::Spec { head: RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. }, bodies, span } =
            rule
        else {
            return None;
        };
        let [body] = bodies.as_slice() else { return None };
        let first = body.query.stmts.first().filter(|first| first.with_mods.is_empty())?;
        let Literal::Expr { expr, .. } = &first.literal else { return None };
        let types = ADDED_TO.contains(&refr.span().text()).then(|| types_in(expr)).flatten()?;
        let end = conditions_of(body, span).end.max(span.end as usize);
        Some(Self { start: span.start as usize, end, types })
    }
}

/// The constants with which a condition compares the task type.
fn types_in(condition: &Expr) -> Option<BTreeSet<String>> {
    if let Expr::BoolExpr { op: BoolOp::Eq, lhs, rhs, .. } = condition {
        let name = if is_task_type(lhs) { rhs } else { lhs };
        let compares = is_task_type(lhs) || is_task_type(rhs);
        return text(name).filter(|_| compares).map(|name| BTreeSet::from([name]));
    }
    let Expr::Membership { key: None, value, collection, .. } = condition else { return None };
    let (Expr::Set { items, .. } | Expr::Array { items, .. }) = collection.as_ref() else { return None };
    is_task_type(value).then(|| items.iter().map(|item| text(item)).collect()).flatten()
}

/// Whether this is `input.task.type`. A variable called `input` is not taken for the document: such a bundle is the interpreter's.
fn is_task_type(expr: &Expr) -> bool {
    let Expr::RefDot { refr: task, field: (last, _), .. } = expr else { return false };
    let Expr::RefDot { refr: root, field: (middle, _), .. } = task.as_ref() else { return false };
    let Expr::Var { span, .. } = root.as_ref() else { return false };
    [span.text(), middle.text(), last.text()] == ["input", "task", "type"]
}

fn text(expr: &Expr) -> Option<String> {
    let (Expr::String { value, .. } | Expr::RawString { value, .. }) = expr else { return None };
    value.as_string().ok().map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fmt::Write as _;

    use proptest::test_runner::{Config, TestCaseError, TestRunner};
    use regorus::Engine;

    use super::*;
    use crate::policy::engine::PolicyEngine;
    use crate::policy::fault::PolicyFault;
    use crate::policy::judgement::Judgement;
    use crate::policy::machine::{MOST_PROGRAMS, Machine, RunLimits};
    use crate::policy::suite::{Pair, patient};
    use crate::policy::testing::{any_input, bundle_of, good_input, module, rules};

    fn guards(body: &str) -> Option<Guards> {
        let mut engine = Engine::new();
        engine.add_policy("own/rules.rego".to_owned(), module(body)).unwrap();
        Guards::of(engine.get_modules().iter().map(AsRef::as_ref))
    }

    #[test]
    fn a_rule_is_guarded_by_its_first_condition_alone() {
        for guarded in [
            "allow if input.task.type == \"a\"",
            "allow if { \"a\" == input.task.type; input.now > 1 }",
            "deny contains {\"code\": \"x\", \"message\": \"m\"} if { input.task.type in {\"a\", `b`}; input.now > 1 }",
            "tags contains \"x\" if input.task.type in [\"a\"]",
            "limits contains {\"lifetime\": 60} if {\n\tinput.task.type == \"a\" # only here\n}",
        ] {
            assert!(guards(guarded).is_some_and(|guards| guards.named.contains("a")), "{guarded}");
        }
        for open in [
            "allow if input.now > 1",
            "allow if { input.now > 1; input.task.type == \"a\" }",
            "allow if input.task.type != \"a\"",
            "allow if not input.task.type == \"a\"",
            "allow if input.task.type == input.actor.class",
            "allow if input.task.type in {\"a\", input.actor.class}",
            "allow if input.task.type in data.types",
            "allow if input.task.type == \"a\" with input.task.type as \"a\"",
            "allow if input.task.types == \"a\"",
            "allow if input.task.labels.type == \"a\"",
            "risky if input.task.type == \"a\"",
            "f(x) if { input.task.type == \"a\"; x }",
            "allow := true if { input.task.type == \"a\" } else := true if input.now > 1",
        ] {
            assert!(guards(open).is_none(), "{open}");
        }
    }

    #[test]
    fn what_is_left_stays_where_it_is() {
        let body = "deny contains {\"code\": \"ä\", \"message\": \"m\"} if {\n\tinput.task.type == \"a\"\n} # ä\n\
            allow if input.task.type == \"b\"\nallow if input.now > 1";
        let guards = guards(body).unwrap();
        assert_eq!((guards.named("a"), guards.named("c")), (Some("a"), None));
        let left = |named| guards.texts(named).map(|(_, text, rules)| (text, rules)).next().unwrap();
        let (text, rules) = left(Some("b"));
        assert_eq!(rules, 2);
        assert_eq!(text.lines().count(), module(body).lines().count());
        assert_eq!(text.lines().nth(4).map(str::trim), Some("# ä"));
        assert_eq!(text.lines().nth(5), Some("allow if input.task.type == \"b\""));
        assert!(!text.contains("deny"));
        let (text, rules) = left(None);
        assert_eq!((rules, text.matches("allow").count()), (1, 1));
        let (_, all) = left(Some("a"));
        assert_eq!(all, 2);
    }

    /// Whatever the type, and in whatever order types come, each is decided as by all rules at once.
    #[test]
    fn a_program_without_the_rules_of_others_decides_as_all_of_them() {
        let body = "allow if input.task.type == \"refund_order\"\n\
            allow if { input.task.type in {\"export_customers\", \"other\"}; input.principal.kind == \"human\" }\n\
            deny contains reason if { input.task.type == \"export_customers\"; risky; reason := {\"code\": \"r\", \"message\": \"m\"} }\n\
            require_approval contains {\"code\": \"d\", \"message\": \"m\"} if { input.task.type == \"refund_order\"; data.limits.ask }\n\
            limits contains {\"lifetime\": 60} if { input.task.type != \"refund_order\"; risky }\n\
            risky if input.task.labels.risk == \"high\"";
        let bundle =
            bundle_of(&[("own/rules.rego", &module(body)), ("own/data/limits.json", r#"{"ask": true}"#)]);
        let pair = RefCell::new(Pair::build(&bundle).unwrap());
        assert_eq!(pair.borrow().machine, Machine::Vm);
        let agree = |input| pair.borrow_mut().judge(&input).map(|_| ()).map_err(TestCaseError::fail);
        TestRunner::new(Config::with_cases(2000)).run(&any_input(), agree).unwrap();
        let asked = |task_type: &str| -> Judgement {
            let mut input = good_input();
            task_type.clone_into(&mut input.task.r#type);
            pair.borrow_mut().judge(&input).unwrap()
        };
        assert!(asked("refund_order").allow && asked("other").allow && !asked("third").allow);
        assert_eq!(
            (asked("refund_order").require_approval.len(), asked("other").require_approval.len()),
            (1, 0)
        );
    }

    fn of_many(types: usize) -> String {
        (0..types).fold(String::new(), |mut body, n| {
            let _ =
                writeln!(body, "allow if {{ input.task.type == \"t{n}\"; input.actor.id == \"bot-{n}\" }}");
            body
        })
    }

    /// What is called `input` and is not the document is refused, or left to the interpreter.
    #[test]
    fn no_guard_is_read_from_another_input() {
        let guard = "allow if input.task.type == \"a\"";
        for shadow in [
            format!("import data.x as input\n{guard}"),
            format!("import data.x.input\n{guard}"),
            format!("input := {{\"task\": {{\"type\": \"a\"}}}}\n{guard}"),
            "allow if { input.task.type == \"a\"; some input in [{\"task\": {\"type\": \"a\"}}] }".to_owned(),
            "allow if { input.task.type == \"a\"; input := {\"task\": {\"type\": \"a\"}} }".to_owned(),
        ] {
            let engine = PolicyEngine::compile_with(rules(&shadow), patient());
            let guards = engine.as_ref().is_ok_and(|engine| *engine.machine() == Machine::Vm);
            assert!(!guards, "{shadow}: {engine:?}");
        }
    }

    #[test]
    fn more_types_than_are_kept_are_decided_all_the_same() {
        let types = MOST_PROGRAMS + 3;
        let engine = PolicyEngine::compile_with(rules(&of_many(types)), patient()).unwrap();
        for n in (0..types).chain(0..3) {
            let mut input = good_input();
            input.task.r#type = format!("t{n}");
            assert!(!engine.judge(&input).unwrap().allow, "{n}");
            input.actor.id = format!("bot-{n}");
            assert!(engine.judge(&input).unwrap().allow, "{n}");
        }
    }

    /// The instruction limit tells how many rules are tried.
    #[test]
    fn the_rules_of_other_types_cost_nothing() {
        let few = RunLimits { instructions: 400, ..patient() };
        let mut input = good_input();
        "t7".clone_into(&mut input.task.r#type);
        let judged = |body: &str| PolicyEngine::compile_with(rules(body), few).unwrap().judge(&input);
        let guarded = of_many(200);
        assert_eq!(judged(&guarded).map(|judgement| judgement.allow), Ok(false));
        let unguarded = guarded.replace("input.task.type ==", "input.task[\"type\"] ==");
        assert_eq!(judged(&unguarded), Err(PolicyFault::Limit("instruction")));
    }
}
