//! What a module says, as far as `rules` judges it: its package, and for each rule its head and what it refers to.
//!
//! With `exact` the only reader of the engine's syntax tree, which regorus does not promise to keep.

use std::collections::BTreeSet;

use regorus::Value;
use regorus::unstable::{
    Expr, ExprRef, Import, Literal, Module, Query, Rule, RuleAssign, RuleBody, RuleHead, Span,
};

use super::fault::Location;

/// What all rules see.
pub(super) const DOCUMENTS: [&str; 2] = ["input", "data"];

/// One module.
pub(super) struct ModuleFacts {
    /// Segments of the package, such as `taskgrant`, `exchange`.
    pub(super) package: Vec<String>,
    /// Where the package is named.
    pub(super) at: Location,
    /// Imports that go by the name of a document.
    pub(super) shadows: Vec<Location>,
    pub(super) rules: Vec<RuleFacts>,
}

/// What kind of head a rule has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// `name if …`, without a value or with the value `true` in each of its bodies.
    True,
    /// `name := value`, or a name with further segments.
    Other,
    /// `name contains …`
    Set,
    /// `name(…)`
    Function,
    /// `default name := …`
    Default,
}

/// One definition of a rule.
pub(super) struct RuleFacts {
    /// First segment of the head.
    pub(super) name: String,
    pub(super) head: Head,
    pub(super) at: Location,
    pub(super) references: Vec<Reference>,
    /// Lines on which a statement begins, or the value that it yields.
    pub(super) lines: BTreeSet<u32>,
    pub(super) bodies: Vec<Body>,
}

/// The conditions of a rule, or of one `else` of it: where they stand in the text, in bytes.
pub(super) struct Body {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Whether they stand in braces; these are part of it.
    pub(super) is_braced: bool,
    /// The line of the head that they belong to.
    pub(super) line: u32,
}

/// How a reference is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Read,
    Call,
    /// Target of a `with`.
    Replace,
}

/// A name and its literal segments, as far as they go: `input.task[x].y` is `input`, `task`.
pub(super) struct Reference {
    pub(super) path: Vec<String>,
    pub(super) used: Use,
    pub(super) at: Location,
}

/// Reads one parsed module.
pub(super) fn facts(module: &Module) -> ModuleFacts {
    let mut package = Collector::default();
    package.chain(&module.package.refr, Use::Read);
    let aliases: Vec<_> =
        module.imports.iter().filter_map(|import| alias(&import.refr, import.r#as.as_ref())).collect();
    ModuleFacts {
        package: package.references.pop().map(|reference| reference.path).unwrap_or_default(),
        at: location(&module.package.span),
        shadows: module.imports.iter().filter(|import| shadows(import)).map(|i| location(&i.span)).collect(),
        rules: module.policy.iter().map(|rule| rule_facts(rule, &aliases)).collect(),
    }
}

/// Whether an import takes the name of a document: OPA refuses it.
fn shadows(import: &Import) -> bool {
    let alias = alias(&import.refr, import.r#as.as_ref());
    alias.is_some_and(|(name, path)| DOCUMENTS.contains(&name.as_str()) && path != [name])
}

/// The name that an import of input or data stands for, and its path.
fn alias(refr: &Expr, name: Option<&Span>) -> Option<(String, Vec<String>)> {
    let mut collector = Collector::default();
    collector.chain(refr, Use::Read);
    let path = collector.references.pop()?.path;
    let root = path.first()?;
    let name = name.map_or_else(|| path.last().cloned(), |span| Some(span.text().to_owned()))?;
    (root == "input" || root == "data").then_some((name, path))
}

fn rule_facts(rule: &Rule, aliases: &[(String, Vec<String>)]) -> RuleFacts {
    let mut collector = Collector::default();
    let mut conditions = Vec::new();
    let (refr, head) = match rule {
        Rule::Spec { head, bodies, span } => {
            conditions.extend(bodies.iter().map(|body| conditions_of(body, span)));
            for body in bodies {
                collector.assign(body.assign.as_ref());
                collector.query(&body.query);
            }
            collector.head(head, bodies)
        }
        Rule::Default { refr, value, .. } => {
            collector.expr(value);
            (refr.as_ref(), Head::Default)
        }
    };
    let Collector { mut references, lines } = collector;
    for reference in &mut references {
        if let Some((_, path)) = aliases.iter().find(|(name, _)| reference.path.first() == Some(name)) {
            reference.path.splice(..1, path.iter().cloned());
        }
    }
    RuleFacts { name: root(refr), head, at: location(rule.span()), references, lines, bodies: conditions }
}

/// Where the conditions of a body stand.
pub(super) fn conditions_of(body: &RuleBody, rule: &Span) -> Body {
    let span = &body.query.span;
    let is_braced = body.query.stmts.first().is_some_and(|first| first.span.start > span.start);
    let line = if body.is_else { body.span.line } else { rule.line };
    let (start, end) = (span.start as usize, span.end as usize);
    // The span of a string is without its quotes.
    let text = span.source.contents().as_bytes();
    let is_quote =
        |at: Option<usize>| at.and_then(|at| text.get(at)).is_some_and(|byte| b"\"`".contains(byte));
    let start = if is_quote(start.checked_sub(1)) { start - 1 } else { start };
    let end = if is_quote(Some(end)) { end + 1 } else { end };
    Body { start, end, is_braced, line }
}

/// The first name of a reference.
fn root(mut expr: &Expr) -> String {
    while let Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } = expr {
        expr = refr;
    }
    expr.span().text().to_owned()
}

fn is_true(assign: Option<&RuleAssign>) -> bool {
    assign.is_none_or(|assign| matches!(assign.value.as_ref(), Expr::Bool { value: Value::Bool(true), .. }))
}

/// Where it stands.
pub(super) fn location(span: &Span) -> Location {
    Location { path: span.source.get_path().clone(), line: span.line, col: span.col }
}

#[derive(Default)]
struct Collector {
    references: Vec<Reference>,
    lines: BTreeSet<u32>,
}

impl Collector {
    fn head<'rule>(&mut self, head: &'rule RuleHead, bodies: &[RuleBody]) -> (&'rule Expr, Head) {
        match head {
            RuleHead::Compr { refr, assign, .. } => {
                self.yields(assign.as_ref().map(|assign| &assign.value));
                self.assign(assign.as_ref());
                self.indices(refr);
                let plain = matches!(refr.as_ref(), Expr::Var { .. });
                let all_true =
                    is_true(assign.as_ref()) && bodies.iter().all(|body| is_true(body.assign.as_ref()));
                (refr, if plain && all_true { Head::True } else { Head::Other })
            }
            RuleHead::Set { refr, key, .. } => {
                self.yields(key.as_ref());
                self.exprs(key);
                let plain = key.is_some() && matches!(refr.as_ref(), Expr::Var { .. });
                (refr, if plain { Head::Set } else { Head::Other })
            }
            RuleHead::Func { refr, args, assign, .. } => {
                self.exprs(args);
                self.yields(assign.as_ref().map(|assign| &assign.value));
                self.assign(assign.as_ref());
                (refr, Head::Function)
            }
        }
    }

    /// Notes the line of an expression. Of a comprehension the engine tells its statements only.
    fn yields(&mut self, value: Option<&ExprRef>) {
        let is_told = |value: &&ExprRef| {
            !matches!(
                value.as_ref(),
                Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. }
            )
        };
        self.lines.extend(value.filter(is_told).map(|value| value.span().line));
    }

    fn assign(&mut self, assign: Option<&RuleAssign>) {
        if let Some(assign) = assign {
            self.expr(&assign.value);
        }
    }

    fn query(&mut self, query: &Query) {
        for statement in &query.stmts {
            match &statement.literal {
                Literal::SomeVars { .. } => {}
                Literal::SomeIn { key, value, collection, .. } => {
                    self.yields(Some(collection));
                    self.exprs(key.iter().chain([value, collection]));
                }
                Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => {
                    self.yields(Some(expr));
                    self.expr(expr);
                }
                Literal::Every { domain, query, .. } => {
                    self.yields(Some(domain));
                    self.expr(domain);
                    self.query(query);
                }
            }
            for modifier in &statement.with_mods {
                self.chain(&modifier.refr, Use::Replace);
                self.expr(&modifier.r#as);
            }
        }
    }

    fn exprs<'rule>(&mut self, exprs: impl IntoIterator<Item = &'rule ExprRef>) {
        for expr in exprs {
            self.expr(expr);
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. } => {}
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => self.chain(expr, Use::Read),
            Expr::Array { items, .. } | Expr::Set { items, .. } => self.exprs(items),
            Expr::Object { fields, .. } => {
                self.exprs(fields.iter().flat_map(|(_, key, value)| [key, value]));
            }
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                self.expr(term);
                self.query(query);
            }
            Expr::ObjectCompr { key, value, query, .. } => {
                self.exprs([key, value]);
                self.query(query);
            }
            Expr::Call { fcn, params, .. } => {
                self.chain(fcn, Use::Call);
                self.exprs(params);
            }
            Expr::UnaryExpr { expr, .. } => self.expr(expr),
            Expr::BinExpr { lhs, rhs, .. }
            | Expr::BoolExpr { lhs, rhs, .. }
            | Expr::ArithExpr { lhs, rhs, .. }
            | Expr::AssignExpr { lhs, rhs, .. } => self.exprs([lhs, rhs]),
            Expr::Membership { key, value, collection, .. } => {
                self.exprs(key.iter().chain([value, collection]));
            }
        }
    }

    /// The expressions in the brackets of a rule's head.
    fn indices(&mut self, mut expr: &Expr) {
        while let Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } = expr {
            if let Expr::RefBrack { index, .. } = expr {
                self.expr(index);
            }
            expr = refr;
        }
    }

    /// A reference, from its last segment back to its root; what stands in brackets is looked at too.
    fn chain(&mut self, whole: &Expr, used: Use) {
        let mut segments = Vec::new();
        let mut expr = whole;
        while let Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } = expr {
            segments.push(self.segment(expr));
            expr = refr;
        }
        if let Expr::Var { value, .. } = expr {
            segments.push(literal(value));
            self.references.push(reference(segments, used, location(whole.span())));
        } else {
            self.expr(expr);
        }
    }

    /// The last segment of a reference, if it is a literal.
    fn segment(&mut self, expr: &Expr) -> Option<String> {
        if let Expr::RefDot { field, .. } = expr {
            return literal(&field.1);
        }
        let Expr::RefBrack { index, .. } = expr else { return None };
        if let Expr::String { value, .. } | Expr::RawString { value, .. } = index.as_ref() {
            return literal(value);
        }
        self.expr(index);
        None
    }
}

fn literal(value: &Value) -> Option<String> {
    value.as_string().ok().map(ToString::to_string)
}

/// A reference of segments that were collected back to front.
fn reference(segments: Vec<Option<String>>, used: Use, at: Location) -> Reference {
    Reference { path: segments.into_iter().rev().map_while(|segment| segment).collect(), used, at }
}
