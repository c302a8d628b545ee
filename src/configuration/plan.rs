//! The plan: what an apply would change, field by field, and what of it widens. Pure: objects in, plan out.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::documents::Document;
use super::fault::Fault;
use super::past::{Past, Published, is_identity};
use crate::domain::objects::{Object, ObjectRef, Spec};
use crate::domain::snapshot::Snapshot;
use crate::domain::widening::{Widening, widenings};

/// What becomes of one declared object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is new.
    Create,
    /// It becomes another version.
    Change,
    /// It stays as it is.
    Keep,
    /// It is in force, no document declares it, and the apply prunes: it is no longer in force.
    Retire,
}

/// One field that differs. What is added has no `before`, what is removed no `after`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Where: `spec.scopes`.
    pub path: String,
    /// What stood there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What shall stand there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// A version that had the name of a new object, or its `issuer`, `client_id` or `uri`, the last one that had it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// Of which object.
    pub object: ObjectRef,
    /// Which version.
    pub version: i64,
    /// What differs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
}

/// One object in the plan: a declared one, or one that is retired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which object.
    #[serde(flatten)]
    pub object: ObjectRef,
    /// What becomes of it.
    pub action: Action,
    /// Its version afterwards; of a retired object the last that was in force.
    pub version: i64,
    /// What differs; empty for a new object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// What a new object is held against; empty where nothing of its name or key was ever there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub formers: Vec<Former>,
    /// What it widens, at its place in the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub widenings: Vec<Fault>,
}

impl Step {
    /// One that tells nothing more.
    pub fn new(object: ObjectRef, action: Action, version: i64) -> Self {
        let (differences, formers, widenings) = (Vec::new(), Vec::new(), Vec::new());
        Self { object, action, version, differences, formers, widenings }
    }
}

/// What an apply would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Each declared object, in the order of the documents; then each retired one; then each that no document declares,
    /// stays as it is and yet allows more.
    pub steps: Vec<Step>,
}

impl Plan {
    /// The steps that change something.
    pub fn changes(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.action != Action::Keep)
    }

    /// The steps that people and the log are told of: what changes, and what stays and yet allows more.
    pub fn told(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.action != Action::Keep || !step.widenings.is_empty())
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.changes().next().is_none()
    }

    /// All that widens.
    pub fn widenings(&self) -> impl Iterator<Item = &Fault> {
        self.steps.iter().flat_map(|step| &step.widenings)
    }
}

/// The objects in force and what was there before: what a plan starts from.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// The objects in force.
    pub current: Vec<Object>,
    /// All that was ever published of the kinds that the documents declare.
    pub past: Past,
}

impl Before {
    /// The objects in force that `documents` do not declare: what an apply retires that prunes. Never a built-in one.
    pub fn undeclared<'a>(&'a self, documents: &[Document]) -> impl Iterator<Item = &'a Object> {
        let declared: BTreeSet<ObjectRef> = documents.iter().map(|d| d.id.clone()).collect();
        self.current.iter().filter(move |o| !declared.contains(&o.id) && !o.id.is_built_in())
    }
}

/// Puts into `documents` what no file says and the objects in force have: the secrets that a command has made. They belong
/// to a client id of the tenant: they go with it to an object of another name, and not to another client id of the same object.
pub fn carry(before: &Before, documents: &mut [Document]) {
    let held = |object: &Object| {
        let (client_id, auth) = object.spec.client()?;
        Some(((object.id.kind, object.id.tenant.clone(), client_id.clone()), auth.issued_sha256.clone()))
    };
    let mut held: BTreeMap<_, _> = before.current.iter().filter_map(held).collect();
    for document in documents {
        let client_id = document.spec.client().map(|(client_id, _)| client_id.clone());
        let owner = client_id.map(|client_id| (document.id.kind, document.id.tenant.clone(), client_id));
        let held = owner.and_then(|owner| held.remove(&owner));
        if let (Some(held), Some(auth)) = (held, document.spec.auth_mut()) {
            auth.issued_sha256 = held;
        }
    }
}

/// All objects as they would be after `documents`; with `prune` those that no document declares are gone.
pub fn merge(before: &Before, documents: &[Document], prune: bool) -> Vec<Object> {
    let mut after: BTreeMap<&ObjectRef, Object> = before.current.iter().map(|o| (&o.id, o.clone())).collect();
    if prune {
        before.undeclared(documents).for_each(|object| drop(after.remove(&object.id)));
    }
    for document in documents {
        let same = after.get(&document.id).is_some_and(|o| o.spec == document.spec);
        if !same {
            let version = before.past.next_version(&document.id);
            let object = Object { id: document.id.clone(), version, spec: document.spec.clone() };
            after.insert(&document.id, object);
        }
    }
    after.into_values().collect()
}

/// Compares the objects in force with `documents`. `old` is the snapshot in force, `None` if it cannot be built any
/// more: then every change counts as a widening. `new` is the snapshot that [`merge`] yields. What is retired takes
/// away and never widens.
pub fn plan(
    before: &Before,
    documents: &[Document],
    prune: bool,
    old: Option<&Snapshot>,
    new: &Snapshot,
) -> Plan {
    let current: BTreeMap<&ObjectRef, &Object> = before.current.iter().map(|o| (&o.id, o)).collect();
    let step = |document: &Document| {
        let was = current.get(&document.id);
        if let Some(object) = was.filter(|o| o.spec == document.spec) {
            let widenings = old.map_or_else(Vec::new, |old| placed(document, true, Some(old), new));
            return Step { widenings, ..unchanged(object, Action::Keep) };
        }
        let action = if was.is_some() { Action::Change } else { Action::Create };
        let mut step = Step {
            differences: was.map(|o| differences(&o.spec, &document.spec)).unwrap_or_default(),
            widenings: placed(document, was.is_some(), old, new),
            ..Step::new(document.id.clone(), action, before.past.next_version(&document.id))
        };
        if was.is_none() {
            hold_against_past(&mut step, document, before, &current);
        }
        step
    };
    let retired = before.undeclared(documents).filter(|_| prune).map(|o| unchanged(o, Action::Retire));
    let stay = before.undeclared(documents).filter(|_| !prune);
    let moved = stay.filter_map(|object| moved(object, old?, new));
    Plan { steps: documents.iter().map(step).chain(retired).chain(moved).collect() }
}

/// Holds a new object against what had its name or its key before. What stands there now is compared by [`widenings`]; what was retired
/// or gave its key away comes back, which is a widening whatever it says.
fn hold_against_past(
    step: &mut Step,
    document: &Document,
    before: &Before,
    current: &BTreeMap<&ObjectRef, &Object>,
) {
    let spec = serde_json::to_value(&document.spec).unwrap_or_default();
    for (member, published) in before.past.of(&document.id, &spec) {
        let Published { id, version, .. } = published;
        let stands = current.get(id).is_some_and(|object| object.version == *version);
        let (path, message) = match member {
            Some(member) => {
                (format!("spec.{member}"), format!("takes over that of `{id}` (version {version})"))
            }
            None => ("spec".to_owned(), format!("version {version} of it was retired, and it comes back")),
        };
        if !stands || !member.is_some_and(|member| is_identity(id.kind, member)) {
            step.widenings.push(document.fault(
                &path,
                widens(&Widening { path: path.clone(), message }),
                None,
            ));
        }
        let differences = shown(&published.spec(), &spec);
        step.formers.push(Former { object: id.clone(), version: *version, differences });
    }
}

/// A step of an object that says what it said before.
fn unchanged(object: &Object, action: Action) -> Step {
    Step::new(object.id.clone(), action, object.version)
}

/// An object that no document declares may allow more than before: what it names, such as a resource by one of its
/// `names`, may be something else now.
fn moved(object: &Object, old: &Snapshot, new: &Snapshot) -> Option<Step> {
    let widenings = undeclared_widenings(&object.id, old, new);
    (!widenings.is_empty()).then(|| Step { widenings, ..unchanged(object, Action::Keep) })
}

/// What an object that stands in no document allows more in `new` than in `old`.
pub fn undeclared_widenings(id: &ObjectRef, old: &Snapshot, new: &Snapshot) -> Vec<Fault> {
    let in_force = |widening: Widening| Fault {
        object: Some(id.to_string()),
        path: Some(widening.path.clone()),
        ..Fault::of_nothing(widens(&widening))
    };
    widenings(id, old, new).into_iter().map(in_force).collect()
}

fn widens(widening: &Widening) -> String {
    format!("widens `{}`: {}", widening.path, widening.message)
}

fn placed(document: &Document, exists: bool, old: Option<&Snapshot>, new: &Snapshot) -> Vec<Fault> {
    let Some(old) = old else {
        let message = "the objects in force do not build: whether this widens cannot be told";
        let undecided = |()| vec![document.fault("spec", message.to_owned(), None)];
        return exists.then_some(()).map(undecided).unwrap_or_default();
    };
    let found = widenings(&document.id, old, new).into_iter();
    found.map(|w| document.fault(&w.path, widens(&w), None)).collect()
}

/// Hashes of secrets, and keys.
const NOT_SHOWN: [&str; 5] =
    ["spec.auth.secret_sha256", "spec.auth.issued_sha256", "spec.auth.jwks", "spec.actor_jwks", "spec.jwks"];

/// What differs between two specs of one object, field by field; secrets and keys are not shown.
pub fn differences(before: &Spec, after: &Spec) -> Vec<Difference> {
    let json = |spec: &Spec| serde_json::to_value(spec).unwrap_or_default();
    shown(&json(before), &json(after))
}

fn shown(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("spec", before, after, &mut found);
    for difference in &mut found {
        if NOT_SHOWN.iter().any(|whole| within(&difference.path, whole)) {
            let hidden = Value::String("(not shown)".to_owned());
            difference.before = difference.before.as_ref().map(|_| hidden.clone());
            difference.after = difference.after.as_ref().map(|_| hidden);
        }
    }
    found
}

/// Whether `path` is `whole` or lies in it: `spec.jwks_uri` does not lie in `spec.jwks`.
pub(super) fn within(path: &str, whole: &str) -> bool {
    path.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn compare(path: &str, before: &Value, after: &Value, found: &mut Vec<Difference>) {
    let mut differ = |path: &str, before: Option<&Value>, after: Option<&Value>| {
        found.push(Difference { path: path.to_owned(), before: before.cloned(), after: after.cloned() });
    };
    match (before, after) {
        (a, b) if a == b => {}
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let path = format!("{path}.{key}");
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => compare(&path, a, b, found),
                    (a, b) => found.push(Difference { path, before: a.cloned(), after: b.cloned() }),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            let removed: Vec<_> = a.iter().filter(|item| !b.contains(item)).collect();
            let added: Vec<_> = b.iter().filter(|item| !a.contains(item)).collect();
            if removed.is_empty() && added.is_empty() {
                return differ(path, Some(before), Some(after));
            }
            for item in removed {
                differ(path, Some(item), None);
            }
            for item in added {
                differ(path, None, Some(item));
            }
        }
        (a, b) => differ(path, Some(a), Some(b)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::configuration::documents::{Source, read};
    use crate::domain::build::build;
    use crate::domain::objects::ObjectKind;

    fn resource(scopes: &str, secret: &str) -> Vec<Document> {
        named("orders", "https://orders.example", scopes, secret)
    }

    fn named(name: &str, uri: &str, scopes: &str, secret: &str) -> Vec<Document> {
        let text = format!(
            "kind: Resource\ntenant: system\nname: {name}\nspec:\n  uri: {uri}\n  \
             scopes: [{scopes}]\n  auth: {{secret_sha256: [{}]}}\n",
            secret.repeat(64)
        );
        read(&[Source { file: "r.yaml".into(), text }]).unwrap()
    }

    /// These, at this version.
    fn at_version(objects: &[Object], version: i64) -> Vec<Object> {
        objects.iter().map(|o| Object { version, ..o.clone() }).collect()
    }

    fn snapshot(objects: &[Object]) -> Snapshot {
        build(objects, &[], "https://us.example").unwrap()
    }

    fn planned(before: &Before, documents: &[Document]) -> (Plan, Vec<Object>) {
        let after = merge(before, documents, false);
        (plan(before, documents, false, Some(&snapshot(&before.current)), &snapshot(&after)), after)
    }

    #[test]
    fn a_plan_creates_keeps_and_changes() {
        let (created, after) = planned(&Before::default(), &resource("a, b", "a"));
        assert_eq!((created.steps[0].action, created.steps[0].version), (Action::Create, 1));
        assert!(created.widenings().next().is_none());

        let before = Before { past: at_version(&after, 4).as_slice().into(), current: after };
        let (kept, _) = planned(&before, &resource("a, b", "a"));
        assert_eq!((kept.steps[0].action, kept.is_empty()), (Action::Keep, true));

        let (changed, after) = planned(&before, &resource("b, c", "b"));
        let step = &changed.steps[0];
        assert_eq!((step.action, step.version, after[0].version), (Action::Change, 5, 5));
        let scopes: Vec<_> = step.differences.iter().filter(|d| d.path == "spec.scopes").collect();
        assert_eq!(scopes[0].before, Some(json!("a")));
        assert_eq!(scopes[1].after, Some(json!("c")));
        let wide: Vec<String> = changed.widenings().map(ToString::to_string).collect();
        assert_eq!(
            wide,
            [
                "r.yaml:6:3: widens `spec.scopes`: adds `c`",
                "r.yaml:7:10: widens `spec.auth.secret_sha256`: adds a secret"
            ]
        );
    }

    #[test]
    fn what_comes_back_is_a_widening_and_held_against_what_it_was() {
        let (_, was) = planned(&Before::default(), &resource("a", "a"));
        let retired = Before { past: at_version(&was, 3).as_slice().into(), current: Vec::new() };
        let told = |before: &Before, documents: &[Document]| {
            let (plan, _) = planned(before, documents);
            let former = plan.steps[0].formers.first();
            let wide: Vec<String> = plan.widenings().map(|fault| fault.message.clone()).collect();
            (former.map(|f| (f.version, f.differences.len())), wide, plan.steps[0].version)
        };
        let comes_back = "widens `spec`: version 3 of it was retired, and it comes back";
        assert_eq!(told(&retired, &resource("a", "a")), (Some((3, 0)), vec![comes_back.to_owned()], 4));
        assert_eq!(told(&retired, &resource("a, b", "b")), (Some((3, 3)), vec![comes_back.to_owned()], 4));
        // By another name it is known by its URI, however that is spelled (DESIGN §3).
        let taken = "widens `spec.uri`: takes over that of `Resource system/orders` (version 3)";
        for uri in ["https://orders.example", "HTTPS://Orders.Example"] {
            let other = named("other", uri, "a", "a");
            assert_eq!(told(&retired, &other).1, [taken], "{uri}");
        }
        let new = named("other", "https://other.example", "a", "a");
        assert_eq!(
            told(&retired, &new),
            (None, Vec::new(), 1),
            "what was never there is compared with nothing"
        );
    }

    #[test]
    fn what_is_renamed_is_held_against_what_stands() {
        let (_, current) = planned(&Before::default(), &resource("a", "a"));
        let before = Before { past: current.as_slice().into(), current };
        let wide = |scopes: &str| {
            let renamed = named("other", "https://orders.example", scopes, "a");
            let after = merge(&before, &renamed, true);
            let (old, new) = (snapshot(&before.current), snapshot(&after));
            let plan = plan(&before, &renamed, true, Some(&old), &new);
            let differences = plan.steps[0].formers.iter().flat_map(|f| f.differences.clone()).count();
            (plan.widenings().map(|fault| fault.message.clone()).collect::<Vec<_>>(), differences)
        };
        assert_eq!(wide("a"), (Vec::new(), 0));
        assert_eq!(wide("a, b"), (vec!["widens `spec.scopes`: adds `b`".to_owned()], 1));
    }

    #[test]
    fn a_key_that_was_given_away_is_not_free() {
        let (_, first) = planned(&Before::default(), &resource("a", "a"));
        let (_, second) = planned(&Before::default(), &named("orders", "https://new.example", "a", "a"));
        let second = at_version(&second, 2);
        let past: Past = [first, second.clone()].concat().as_slice().into();
        let before = Before { past, current: second };
        let (plan, _) = planned(&before, &named("other", "https://orders.example", "a", "a"));
        let wide: Vec<String> = plan.widenings().map(|fault| fault.message.clone()).collect();
        assert_eq!(wide, ["widens `spec.uri`: takes over that of `Resource system/orders` (version 1)"]);
    }

    #[test]
    fn a_plan_that_prunes_retires_what_is_not_declared_but_nothing_built_in() {
        let (_, mut current) = planned(&Before::default(), &resource("a", "a"));
        let named = |tenant: &str, name: &str| {
            let id = ObjectRef {
                kind: ObjectKind::Exception,
                tenant: tenant.parse().unwrap(),
                name: name.parse().unwrap(),
            };
            Object { id, version: 3, ..current[0].clone() }
        };
        let (gone, shipped, tenants) =
            (named("system", "taskgrants"), named("system", "taskgrant.admin"), named("acme", "taskgrant.x"));
        current.extend([gone.clone(), shipped.clone(), tenants.clone()]);
        let before = Before { current, ..Before::default() };
        let declared = resource("a", "a");
        let left: Vec<ObjectRef> = merge(&before, &declared, true).into_iter().map(|o| o.id).collect();
        assert_eq!(left, [declared[0].id.clone(), shipped.id]);
        assert_eq!(merge(&before, &declared, false).len(), 4);
        let plan = plan(&before, &declared, true, None, &Snapshot::default());
        let retired: Vec<&ObjectRef> = plan.changes().map(|step| &step.object).collect();
        assert_eq!(retired, [&gone.id, &tenants.id]);
        assert!(plan.changes().all(|step| step.action == Action::Retire && step.version == 3));
    }

    #[test]
    fn secrets_are_not_shown() {
        let (_, after) = planned(&Before::default(), &resource("a", "a"));
        let found = differences(&after[0].spec, &resource("a", "b")[0].spec);
        assert!(!found.is_empty());
        let text = serde_json::to_string(&found).unwrap();
        assert!(!text.contains("aaa") && !text.contains("bbb"), "{text}");
    }

    #[test]
    fn what_cannot_be_compared_counts_as_a_widening() {
        let (_, after) = planned(&Before::default(), &resource("a, b", "a"));
        let before = Before { past: after.as_slice().into(), current: after };
        let narrower = resource("a", "a");
        let new = snapshot(&merge(&before, &narrower, false));
        assert_eq!(plan(&before, &narrower, false, None, &new).widenings().count(), 1);
    }
}
