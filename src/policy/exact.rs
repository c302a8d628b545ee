//! Which bundles the virtual machine may decide: those in which all forms are known to mean there what Rego says.
//!
//! The virtual machine of regorus 0.14.1 compiles more than it decides rightly: it lets conditions hold that do not, so that a `deny`
//! or a guard is silently skipped. Some thousand forms were held against the interpreter; what is listed here is what differed, and
//! around it what is too near to it to be told apart by its syntax. A bundle with such a form runs in the interpreter (L7). Another
//! version of the engine asks for another look.

use std::collections::{BTreeMap, BTreeSet};

use regorus::Value;
use regorus::unstable::{
    AssignOp, Expr, ExprRef, Import, Literal, Module, Query, Rule, RuleBody, RuleHead, Span,
};

use super::fault::Location;
use super::syntax::location;

/// A form that is left to the interpreter.
#[derive(Clone, Debug)]
pub(super) struct Inexact {
    pub(super) at: Location,
    pub(super) reason: &'static str,
}

const ASSIGNED: &str = "`:=` goes on there where its right side is undefined; `=` does not";
const COLLECTED: &str =
    "an array comprehension keeps what is undefined there; collect a variable that its body binds";
const COMPREHENSION: &str = "a comprehension that does not begin with `some … in` is decided otherwise there";
const OBJECT_COLLECTED: &str =
    "an object comprehension keeps undefined members there, and the last of two for one key";
const EVERY: &str =
    "within `every`, a comprehension or a look-up `x[name]` is decided otherwise there; ask a function";
const KEYED_IN: &str = "`key, value in collection` ignores the key there";
const PARAMETER: &str =
    "a function whose parameters are not plain names is called there also with what is undefined";
const HEAD: &str = "a rule with a path or brackets in its head keeps what is undefined there";
const ELSE: &str = "`else` is not reached there after a value that is undefined";
const WITH: &str = "`with` is not known there";
const WALK: &str = "`walk` is not gone through there";
const SHADOWED: &str = "a variable named `input` or `data` is not told apart from the document there";
const LOADED: &str = "read within a comprehension or `every` and outside of it in one body, it may be undefined there; ask a rule or function in one of both places";
const SEVERAL: &str = "a rule that could yield several values is no fault there, but undefined; make it a set, or of one definition";

/// The first form of these modules that the virtual machine may decide otherwise than Rego says.
pub(super) fn first_inexact<'m>(modules: impl Iterator<Item = &'m Module> + Clone) -> Option<Inexact> {
    let mut definitions: BTreeMap<&str, usize> = BTreeMap::new();
    let mut names = BTreeSet::from(["input", "data"]);
    names.extend(modules.clone().flat_map(|module| &module.imports).filter_map(imported));
    for rule in modules.clone().flat_map(|module| &module.policy) {
        let (Rule::Spec {
            head: RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. },
            ..
        }
        | Rule::Default { refr, .. }) = rule.as_ref();
        names.insert(refr.span().text());
        if let Rule::Spec { bodies, .. } = rule.as_ref() {
            *definitions.entry(refr.span().text()).or_default() += bodies.len().max(1);
        }
    }
    let imports = modules.clone().flat_map(|module| &module.imports);
    let aliases = imports.filter_map(|import| {
        let document = document(root(&import.refr)?)?;
        Some((imported(import)?, document))
    });
    let aliases = aliases.collect();
    let mut reader =
        Reader { definitions, names, found: None, within_every: 0, aliases, reads: Reads::default() };
    modules.flat_map(|module| &module.policy).for_each(|rule| reader.rule(rule));
    reader.found
}

/// The variable that a reference begins with.
fn root(mut expr: &Expr) -> Option<&str> {
    while let Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } = expr {
        expr = refr;
    }
    name(expr)
}

fn document(name: &str) -> Option<&'static str> {
    ["input", "data"].into_iter().find(|document| *document == name)
}

/// The name that an import gives.
fn imported(import: &Import) -> Option<&str> {
    if let Some(alias) = &import.r#as {
        return Some(alias.text());
    }
    if let Expr::RefDot { field, .. } = import.refr.as_ref() {
        return Some(field.0.text());
    }
    if let Expr::RefBrack { index, .. } = import.refr.as_ref() {
        return Some(index.span().text());
    }
    name(&import.refr)
}

struct Reader<'m> {
    /// How often each rule is defined.
    definitions: BTreeMap<&'m str, usize>,
    /// Names of rules, functions, imports and of the two documents: a variable called so is none.
    names: BTreeSet<&'m str>,
    found: Option<Inexact>,
    /// How many `every` stand around.
    within_every: usize,
    /// What imports stand for the two documents.
    aliases: BTreeMap<&'m str, &'static str>,
    reads: Reads,
}

/// Where one body reads input and data. Each is loaded once for a body there, where it is read first: a read that may be passed over
/// leaves the others with nothing. Which statement comes first cannot be told: they are put in another order there.
#[derive(Default)]
struct Reads {
    /// What stands around: a statement, a comprehension or `every` in it, a statement in that, and so on.
    around: Vec<usize>,
    entered: usize,
    seen: Vec<Read>,
}

struct Read {
    document: &'static str,
    around: Vec<usize>,
    at: Location,
}

impl Read {
    /// Whether this one is made whenever `other` is, and before it: it stands in a statement around `other`.
    fn precedes(&self, other: &Self) -> bool {
        self.document == other.document && other.around.starts_with(&self.around)
    }

    /// Whether this one stands in the comprehension or `every` of the other.
    fn is_within_scope_of(&self, other: &Self) -> bool {
        let scope = other.around.len().saturating_sub(1);
        other.around.get(..scope).is_some_and(|scope| self.around.starts_with(scope))
    }
}

impl Reads {
    /// A statement, or a comprehension or `every` in one.
    fn enter(&mut self) {
        self.entered += 1;
        self.around.push(self.entered);
    }

    fn leave(&mut self) {
        self.around.pop();
    }

    /// A read that may be passed over, and with it what another one needs.
    fn passed_over(&self) -> Option<Location> {
        let exposed = |(place, read): &(usize, &Read)| {
            // At the level of the body itself nothing is passed over.
            read.around.len() > 1
                && !self.seen.iter().take(*place).any(|earlier| earlier.precedes(read))
                && self
                    .seen
                    .iter()
                    .any(|other| other.document == read.document && !other.is_within_scope_of(read))
        };
        self.seen.iter().enumerate().find(exposed).map(|(_, read)| read.at.clone())
    }
}

impl Reader<'_> {
    fn is(&mut self, span: &Span, reason: &'static str) {
        self.found.get_or_insert_with(|| Inexact { at: location(span), reason });
    }

    fn rule(&mut self, rule: &Rule) {
        let Rule::Spec { head, bodies, .. } = rule else { return };
        if let Some(other) = bodies.iter().find(|body| body.is_else) {
            self.is(&other.span, ELSE);
        }
        match head {
            RuleHead::Compr { refr, assign, .. } => {
                self.head(refr);
                self.yields(refr, assign.as_ref().map(|assign| &assign.value), bodies, &[]);
            }
            RuleHead::Set { refr, key, .. } => {
                self.head(refr);
                self.exprs(key);
            }
            RuleHead::Func { refr, args, assign, .. } => {
                self.head(refr);
                for argument in args {
                    let is_name = name(argument).is_some_and(|name| !matches!(name, "_" | "input" | "data"));
                    let is_plain = is_name || is_literal(argument);
                    if !is_plain {
                        self.is(argument.span(), PARAMETER);
                    }
                }
                self.yields(refr, assign.as_ref().map(|assign| &assign.value), bodies, args);
            }
        }
        let yielded = match head {
            RuleHead::Compr { assign, .. } | RuleHead::Func { assign, .. } => {
                assign.as_ref().map(|a| &a.value)
            }
            RuleHead::Set { key, .. } => key.as_ref(),
        };
        for body in bodies {
            self.body(Some(&body.query), yielded.into_iter().chain(body.assign.as_ref().map(|a| &a.value)));
        }
        if bodies.is_empty() {
            self.body(None, yielded);
        }
    }

    /// A body, and what it yields.
    fn body<'e>(&mut self, query: Option<&Query>, yielded: impl IntoIterator<Item = &'e ExprRef>) {
        self.reads = Reads::default();
        if let Some(query) = query {
            self.query(query);
        }
        self.reads.enter();
        self.exprs(yielded);
        self.reads.leave();
        if let Some(at) = self.reads.passed_over() {
            self.found.get_or_insert(Inexact { at, reason: LOADED });
        }
    }

    fn head(&mut self, refr: &Expr) {
        if !matches!(refr, Expr::Var { .. }) {
            self.is(refr.span(), HEAD);
        }
    }

    /// A rule or function with a value of its own has one definition, and a body that holds in one way only.
    fn yields(&mut self, refr: &Expr, value: Option<&ExprRef>, bodies: &[RuleBody], args: &[ExprRef]) {
        let Some(value) = value else { return };
        self.expr(value);
        if matches!(value.as_ref(), Expr::Bool { value: Value::Bool(true), .. }) {
            return;
        }
        let is_one = self.definitions.get(refr.span().text()).is_some_and(|count| *count == 1);
        let holds_once = bodies.iter().all(|body| {
            let mut bound = self.names.clone();
            bound.extend(args.iter().filter_map(|argument| name(argument)));
            is_single(&body.query, &mut bound) && looks_up_bound(value, &bound)
        });
        // A definition without a body has none at all.
        let has_one_value = !bodies.is_empty() || looks_up_bound(value, &self.names);
        if !is_one || !holds_once || !has_one_value {
            self.is(refr.span(), SEVERAL);
        }
    }

    fn query(&mut self, query: &Query) {
        for statement in &query.stmts {
            self.reads.enter();
            if let Some(modifier) = statement.with_mods.first() {
                self.is(modifier.refr.span(), WITH);
            }
            match &statement.literal {
                Literal::SomeVars { vars, .. } => vars.iter().for_each(|var| self.bound(var)),
                Literal::SomeIn { key, value, collection, .. } => {
                    key.iter().chain([value]).for_each(|bound| self.binding(bound));
                    self.exprs(key.iter().chain([value, collection]));
                }
                Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => self.expr(expr),
                Literal::Every { key, value, domain, query, .. } => {
                    key.iter().chain([value]).for_each(|var| self.bound(var));
                    self.expr(domain);
                    self.within_every += 1;
                    self.reads.enter();
                    self.query(query);
                    self.reads.leave();
                    self.within_every -= 1;
                }
            }
            self.reads.leave();
        }
    }

    /// A variable comes to be.
    fn bound(&mut self, var: &Span) {
        if matches!(var.text(), "input" | "data") {
            self.is(var, SHADOWED);
        }
    }

    /// What may bind a variable.
    fn binding(&mut self, pattern: &Expr) {
        if let Expr::Var { span, .. } = pattern {
            self.bound(span);
        } else if let Expr::Array { items, .. } = pattern {
            for item in items {
                self.binding(item);
            }
        }
    }

    fn exprs<'e>(&mut self, exprs: impl IntoIterator<Item = &'e ExprRef>) {
        exprs.into_iter().for_each(|expr| self.expr(expr));
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. } => {}
            Expr::Var { span, .. } => self.read(span),
            Expr::RefDot { refr, .. } => self.expr(refr),
            Expr::RefBrack { refr, index, .. } => {
                if self.within_every > 0 && !is_literal(index) {
                    self.is(index.span(), EVERY);
                }
                self.exprs([refr, index]);
            }
            Expr::Array { items, .. } | Expr::Set { items, .. } => self.exprs(items),
            Expr::Object { fields, .. } => {
                self.exprs(fields.iter().flat_map(|(_, key, value)| [key, value]));
            }
            Expr::ArrayCompr { term, query, span, .. } => {
                self.comprehension(span, query, term);
                let is_bound = name(term).is_some_and(|name| self.binds(query, name));
                if !is_bound && !is_literal(term) {
                    self.is(term.span(), COLLECTED);
                }
            }
            Expr::SetCompr { term, query, span, .. } => self.comprehension(span, query, term),
            Expr::ObjectCompr { span, .. } => self.is(span, OBJECT_COLLECTED),
            Expr::Call { fcn, params, .. } => {
                if name(fcn) == Some("walk") {
                    self.is(fcn.span(), WALK);
                }
                self.exprs(params);
            }
            Expr::UnaryExpr { expr, .. } => self.expr(expr),
            Expr::BinExpr { lhs, rhs, .. }
            | Expr::BoolExpr { lhs, rhs, .. }
            | Expr::ArithExpr { lhs, rhs, .. } => self.exprs([lhs, rhs]),
            Expr::AssignExpr { lhs, rhs, op, .. } => {
                if matches!(op, AssignOp::ColEq) {
                    self.binding(lhs);
                }
                if matches!(op, AssignOp::ColEq) && !is_always_defined(rhs) {
                    self.is(rhs.span(), ASSIGNED);
                }
                self.exprs([lhs, rhs]);
            }
            Expr::Membership { key, value, collection, .. } => {
                if let Some(key) = key {
                    self.is(key.span(), KEYED_IN);
                }
                self.exprs([value, collection]);
            }
        }
    }

    fn read(&mut self, span: &Span) {
        let document = document(span.text()).or_else(|| self.aliases.get(span.text()).copied());
        if let Some(document) = document {
            let around = self.reads.around.clone();
            self.reads.seen.push(Read { document, around, at: location(span) });
        }
    }

    fn comprehension(&mut self, span: &Span, query: &Query, term: &Expr) {
        if self.within_every > 0 {
            self.is(span, EVERY);
        }
        let first = query.stmts.first().map(|first| &first.literal);
        if !matches!(first, Some(Literal::SomeIn { .. })) {
            self.is(span, COMPREHENSION);
        }
        self.reads.enter();
        self.query(query);
        self.reads.enter();
        self.expr(term);
        self.reads.leave();
        self.reads.leave();
    }

    /// Whether the body of a comprehension binds this variable.
    fn binds(&self, query: &Query, wanted: &str) -> bool {
        let binds = |literal: &Literal| match literal {
            Literal::SomeIn { key, value, .. } => {
                key.iter().chain([value]).any(|var| name(var) == Some(wanted))
            }
            Literal::Expr { expr, .. } => {
                matches!(expr.as_ref(), Expr::AssignExpr { lhs, .. } if name(lhs) == Some(wanted))
            }
            Literal::SomeVars { .. } | Literal::NotExpr { .. } | Literal::Every { .. } => false,
        };
        !self.names.contains(wanted) && query.stmts.iter().any(|statement| binds(&statement.literal))
    }
}

/// Whether a body holds in one way at most: it goes through nothing, by `some` or by a variable in brackets that is not bound.
fn is_single<'q>(query: &'q Query, bound: &mut BTreeSet<&'q str>) -> bool {
    query.stmts.iter().all(|statement| match &statement.literal {
        Literal::SomeVars { .. } | Literal::SomeIn { .. } => false,
        Literal::NotExpr { .. } | Literal::Every { .. } => true,
        Literal::Expr { expr, .. } => {
            if let Expr::AssignExpr { lhs, rhs, .. } = expr.as_ref() {
                let single = looks_up_bound(lhs, bound) && looks_up_bound(rhs, bound);
                bound.extend(name(lhs));
                single
            } else {
                looks_up_bound(expr, bound)
            }
        }
    })
}

/// Whether each variable in brackets has a value already.
fn looks_up_bound(expr: &Expr, bound: &BTreeSet<&str>) -> bool {
    let all = |mut exprs: &mut dyn Iterator<Item = &ExprRef>| {
        Iterator::all(&mut exprs, |expr| looks_up_bound(expr, bound))
    };
    match expr {
        Expr::String { .. }
        | Expr::RawString { .. }
        | Expr::Number { .. }
        | Expr::Bool { .. }
        | Expr::Null { .. }
        | Expr::Var { .. }
        // What goes through something in there yields one value here.
        | Expr::ArrayCompr { .. }
        | Expr::SetCompr { .. }
        | Expr::ObjectCompr { .. } => true,
        Expr::RefDot { refr, .. } => looks_up_bound(refr, bound),
        Expr::RefBrack { refr, index, .. } => {
            // A pattern as index goes through all that fits.
            let is_pattern =
                matches!(index.as_ref(), Expr::Array { .. } | Expr::Set { .. } | Expr::Object { .. });
            let is_bound = name(index).is_none_or(|name| bound.contains(name)) && !is_pattern;
            is_bound && all(&mut [refr, index].into_iter())
        }
        Expr::Array { items, .. } | Expr::Set { items, .. } => all(&mut items.iter()),
        Expr::Object { fields, .. } => all(&mut fields.iter().flat_map(|(_, key, value)| [key, value])),
        Expr::Call { params, .. } => all(&mut params.iter()),
        Expr::UnaryExpr { expr, .. } => looks_up_bound(expr, bound),
        Expr::BinExpr { lhs, rhs, .. }
        | Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::AssignExpr { lhs, rhs, .. } => all(&mut [lhs, rhs].into_iter()),
        Expr::Membership { value, collection, .. } => all(&mut [value, collection].into_iter()),
    }
}

/// The name of a variable.
fn name(expr: &Expr) -> Option<&str> {
    if let Expr::Var { span, .. } = expr { Some(span.text()) } else { None }
}

fn is_literal(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. }
    )
}

/// Whether an expression has a value whatever input and data are.
fn is_always_defined(expr: &Expr) -> bool {
    match expr {
        Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. } => true,
        Expr::Array { items, .. } | Expr::Set { items, .. } => {
            items.iter().all(|item| is_always_defined(item))
        }
        Expr::Object { fields, .. } => {
            fields.iter().all(|(_, key, value)| is_always_defined(key) && is_always_defined(value))
        }
        Expr::String { .. }
        | Expr::RawString { .. }
        | Expr::Number { .. }
        | Expr::Bool { .. }
        | Expr::Null { .. }
        | Expr::Var { .. }
        | Expr::RefDot { .. }
        | Expr::RefBrack { .. }
        | Expr::Call { .. }
        | Expr::UnaryExpr { .. }
        | Expr::BinExpr { .. }
        | Expr::BoolExpr { .. }
        | Expr::ArithExpr { .. }
        | Expr::AssignExpr { .. }
        | Expr::Membership { .. } => is_literal(expr),
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::engine::PolicyEngine;
    use crate::policy::machine::Machine;
    use crate::policy::testing::{bundle_of, good_input, module, rules};

    /// A denial unless `good` holds, which by Rego it does not; the two names are of an object with `ok` true and false.
    fn guarded(good: &str) -> String {
        format!(
            "allow if true\ndeny contains {{\"code\": \"a\", \"message\": \"m\"}} if not good\n\
             known := {{\"x\": {{\"ok\": true}}, \"y\": {{\"ok\": false}}}}\n\
             never := 1 if input.now == 3\nok(name) if known[name].ok\n{good}"
        )
    }

    fn denies(good: &str) -> (Machine, bool) {
        let engine = PolicyEngine::compile(rules(&guarded(good))).unwrap();
        let judged = engine.judge(&good_input());
        (engine.machine().clone(), judged.map_or(true, |judgement| !judgement.deny.is_empty()))
    }

    const INEXACT: [&str; 35] = [
        "good if { x := input.claimed.none }",
        "good if { x := [input.claimed.none] }",
        "good if { some name in [\"x\"]; x := known[name].none }",
        "good if { count([x | x := input.claimed.none]) == 1 }",
        "good if { count([input.claimed.none | true]) == 1 }",
        "good if { count([never | some x in [1]]) == 1 }",
        "good if { count({1: input.claimed.none | some x in [1]}) == 1 }",
        "good if { some s in [\"x\", \"y\"]; count([1 | s == \"x\"]) == 0; s == \"x\" }",
        "good if { every y in [1, 2] { [1 | y == 2] == [] } }",
        "good if { every name in [\"x\", \"y\"] { known[name].ok } }",
        "good if { every name in [\"y\"] { not known[name].ok == false } }",
        "good if { 3, {\"ok\": true} in known }",
        "given(_, type) if type == \"t\"\ngood if given(input.claimed.none, \"t\")",
        "blank(_) := 1\ngood if blank(input.claimed.none) == 1",
        "kept[x] := input.claimed.none if some x in [1]\ngood if count(object.keys(kept)) == 1",
        "kept[never] contains 1\ngood if count(kept) == 1",
        "kept.x := 1 if input.now == 3\ngood if kept.x",
        "level := never if { true } else := 2\ngood if not level",
        "level := 1 if input.now > 3\nlevel := 2 if input.now > 4\ngood if not level == 2",
        "level := y if { some y in [1, 2] }\ngood if level == 1",
        "level := known[x].ok if { known[x] }\ngood if level",
        "f(x) := y if { y = known[_].ok }\ngood if f(1)",
        "f(input) if input.now == 3\ngood if f({\"now\": 4})",
        "f([x, _]) := x\ngood if f([1, never])",
        "level := false if { true }\nlevel := true if { true }\ngood if not level",
        "level := known[_].ok\ngood if level",
        "level := known[x].ok if { input.now }\ngood if level",
        "good if { x := input.requested; x.none }",
        "good if { some input in [{\"now\": 3}]; input.now == 4 }",
        "good if { some p; walk(known, [p, 3]) }",
        "good if { count([x | some x in [1]; x == input.none]) == 0; not input.now }",
        "good if { every x in [] { x == input.now }; not input.actor.id == \"support-bot\" }",
        "good if { input.now == 3 with input.now as 4 }",
        "good if { count([x | some y in [{}]; x := y.none]) == 1 }",
        "good if { every x in [\"x\", \"y\"] { known[x] = z; z.ok } }",
    ];

    #[test]
    fn what_the_virtual_machine_decides_otherwise_runs_in_the_interpreter_and_denies() {
        for good in INEXACT {
            let (machine, denied) = denies(good);
            assert!(matches!(machine, Machine::Interpreter { at: Some(_), .. }), "{good}: {machine:?}");
            assert!(denied, "{good}");
        }
    }

    /// Other than in the list above, imports come first.
    #[test]
    fn the_name_of_an_import_is_no_variable_of_a_comprehension() {
        for import in ["data.nothing as none", "input.claimed.none", "data[\"none\"]"] {
            let good = guarded("good if { count([none | some x in [1]]) == 1 }");
            let engine = PolicyEngine::compile(rules(&format!("import {import}\n{good}"))).unwrap();
            assert!(matches!(engine.machine(), Machine::Interpreter { at: Some(_), .. }), "{import}");
            assert!(!engine.judge(&good_input()).unwrap().deny.is_empty(), "{import}");
        }
    }

    #[test]
    fn tests_and_fixtures_run_in_the_interpreter_anyway_and_do_not_count() {
        let tests = "package taskgrant.exchange_test\nimport rego.v1\ntest_x if { x := input.now with input.now as 1; x == 1 }\n";
        let bundle =
            bundle_of(&[("own/rules.rego", &module("allow if true")), ("own/rules_test.rego", tests)]);
        assert_eq!(PolicyEngine::compile(bundle).unwrap().machine(), &Machine::Vm);
    }

    #[test]
    fn what_is_exact_runs_in_the_virtual_machine() {
        for good in [
            "good if { x = input.claimed.none }",
            "good if { some name in [\"x\"]; x = known[name].none }",
            "good if { every name in [\"x\", \"y\"] { ok(name) } }",
            "good if { every pair in [[1], []] { pair[0] == 1 } }",
            "good if { x := {\"a\": [1]}; x.b }",
            "good if { every x in input.requested.scopes { x == input.now } }",
            "now := input.now\ngood if { every x in [] { x == now }; input.actor.id == \"a\" }",
            "good if { count({known[name].none | some name in [\"x\"]}) == 1 }",
            "good if { count([y | some name in [\"x\"]; y = known[name].none]) == 1 }",
            "level(name) := known[name].ok if known[name]\ngood if level(\"y\")",
            "level := count([x | some x in [1]; x == 2]) if input.now > 3\ngood if level == 1",
        ] {
            let (machine, denied) = denies(good);
            assert_eq!(machine, Machine::Vm, "{good}");
            assert!(denied, "{good}");
        }
    }
}
