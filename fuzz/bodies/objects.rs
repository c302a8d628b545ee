//! Declarative objects (DESIGN §5): YAML to objects to a configuration, all of it or none, and no step up untold.

use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value, json};
use taskgrant::configuration::apply::fit;
use taskgrant::configuration::documents::{self, Document, Source};
use taskgrant::configuration::fault::Fault;
use taskgrant::configuration::plan::{Before, merge, plan};
use taskgrant::domain::ceiling::Bound;
use taskgrant::domain::details::Details;
use taskgrant::domain::objects::{Object, Spec};
use taskgrant::domain::resource::ResourceUri;
use taskgrant::domain::snapshot::{Snapshot, TaskType};

use super::{OWN, world};

/// What is in force before.
static WORLD: LazyLock<(Before, Snapshot)> = LazyLock::new(|| {
    let current = world();
    let (snapshot, _) = fit(&current, &[], OWN).unwrap();
    (Before { past: current.as_slice().into(), current }, snapshot)
});

pub(crate) fn body(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let source = Source { file: "objects.yaml".to_owned(), text: text.to_owned() };
    let mut documents = match documents::read(&[source]) {
        Ok(documents) => documents,
        Err(faults) => return are_told(&faults, text),
    };
    for document in &documents {
        let stored = serde_json::to_vec(&document.spec).unwrap();
        let read = Spec::from_json(document.id.kind, &stored).unwrap();
        assert_eq!(read, document.spec, "what is stored is read as it was declared");
        assert!(lies_in(document.place.line, text) && lies_in(document.locate("spec.scopes[0]").line, text));
    }
    alone(&documents, text);
    changes_the_world(&mut documents, text);
}

/// Every fault says what is wrong, in printable characters, at a place that exists.
fn are_told(faults: &[Fault], text: &str) {
    assert!(!faults.is_empty());
    for fault in faults {
        assert!(!fault.message.is_empty());
        assert!(fault.place.is_none_or(|place| lies_in(place.line, text) && place.column > 0), "{fault:?}");
        assert!(!fault.to_string().chars().any(char::is_control), "{fault:?}");
    }
}

fn lies_in(line: u64, text: &str) -> bool {
    // A line ends as YAML 1.1 and 1.2 have it; what is missing at the end is told one line further.
    let breaks =
        text.chars().filter(|c| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')).count();
    (1..=breaks + 2).contains(&usize::try_from(line).unwrap())
}

/// The documents as all there is: the order in which they stand means nothing, and saying it again changes nothing.
fn alone(documents: &[Document], text: &str) {
    let objects = merge(&Before::default(), documents, false);
    let backwards: Vec<Object> = objects.iter().rev().cloned().collect();
    let built = fit(&objects, &[], OWN);
    assert_eq!(built.is_ok(), fit(&backwards, &[], OWN).is_ok(), "documents have no order");
    let (snapshot, schemas) = match built {
        Ok(built) => built,
        Err(faults) => return are_told(&documents::place(&faults, documents), text),
    };
    for task_type in snapshot.task_types() {
        is_sound(task_type, &snapshot);
        let tenant = &task_type.reach.tenant;
        let details = task_type.details().to_json();
        assert!(
            tenant.is_system() || schemas.validate(tenant, &details).is_ok(),
            "a ceiling fits its schema"
        );
    }
    let before = Before { past: objects.as_slice().into(), current: objects };
    for prune in [false, true] {
        let same = plan(&before, documents, prune, Some(&snapshot), &snapshot);
        assert!(same.is_empty() && same.widenings().next().is_none(), "{same:?}");
    }
}

fn is_sound(task_type: &TaskType, snapshot: &Snapshot) {
    let Bound { scopes: Some(scopes), resources: Some(resources), details: Some(_) } = &*task_type.bound
    else {
        panic!("a ceiling that does not limit: {task_type:?}");
    };
    assert!(task_type.default_scopes.is_subset(scopes));
    let is_listed = |scope| task_type.listed.values().any(|listed| listed.contains(scope));
    assert!(scopes.iter().all(is_listed), "{task_type:?}");
    assert!(task_type.listed.keys().eq(resources.iter()));
    let tenant = &task_type.reach.tenant;
    assert!(tenant.is_system() || resources.iter().all(|uri| snapshot.resource(tenant, uri).is_some()));
    let lifetime = task_type.spec.lifetime;
    assert!(
        0 < lifetime.token.default
            && lifetime.token.default <= lifetime.token.max
            && lifetime.token.max <= lifetime.task
    );
}

/// The documents on top of what is in force: unless the plan calls it a widening, nothing that exists allows more.
fn changes_the_world(documents: &mut [Document], text: &str) {
    let (before, old) = &*WORLD;
    let after = merge(before, documents, false);
    let new = match fit(&after, &[], OWN) {
        Ok((new, _)) => new,
        Err(faults) => return are_told(&documents::place(&faults, documents), text),
    };
    let plan = plan(before, documents, false, Some(old), &new);
    are_told_at_their_place(plan.widenings(), text);
    assert!(plan.is_empty() || after != before.current);
    if plan.widenings().next().is_some() {
        return;
    }
    for held in new.task_types() {
        let earlier = old.task_types().find(|t| t.name == held.name && t.reach.tenant == held.reach.tenant);
        if let Some(earlier) = earlier {
            allows_no_more(earlier, held);
        }
    }
    for facts in principals() {
        for issuer in new.issuers() {
            let Some(earlier) = old.issuer(&issuer.spec.issuer) else { continue };
            allow_no_more(&earlier.entitled(&facts), &issuer.entitled(&facts), &new);
        }
    }
}

fn are_told_at_their_place<'f>(widenings: impl Iterator<Item = &'f Fault>, text: &str) {
    let told: Vec<Fault> = widenings.cloned().collect();
    if !told.is_empty() {
        are_told(&told, text);
    }
}

fn allows_no_more(earlier: &TaskType, held: &TaskType) {
    for (uri, listed) in held.listed.iter() {
        for scope in listed.iter().filter(|scope| held.bound.allows(uri, scope)) {
            let was_listed = earlier.listed.get(uri).is_some_and(|listed| listed.contains(scope));
            assert!(was_listed && earlier.bound.allows(uri, scope), "{scope} at {uri} is new");
        }
    }
    let (was, now) = (earlier.details(), held.details());
    assert!(was.covers(&now), "a detail is new");
    // What bears no detail may be taken for what none limits (T09).
    let is_bare = |details: &Details, uri: &ResourceUri| details.for_any(&[uri.clone()].into()).is_empty();
    assert!(held.listed.keys().all(|uri| is_bare(&was, uri) || !is_bare(&now, uri)), "a limit is gone");
    let (old, new) = (&earlier.spec, &held.spec);
    assert!(new.lifetime.token.max <= old.lifetime.token.max && new.lifetime.task <= old.lifetime.task);
    assert!(new.delegation.max_depth <= old.delegation.max_depth);
    assert!(new.agents.iter().all(|agents| old.agents.contains(agents)));
    assert!(new.disabled || !old.disabled);
}

/// Principals that the rules in force tell apart.
fn principals() -> [Map<String, Value>; 4] {
    [
        json!({}),
        json!({"groups": ["support"]}),
        json!({"realm": {"level": 3}}),
        json!({"groups": "support", "realm.level": 3, "email": "a@b.example", "roles": ["admin"]}),
    ]
    .map(|facts| facts.as_object().unwrap().clone())
}

fn allow_no_more(earlier: &[Arc<Bound>], held: &[Arc<Bound>], new: &Snapshot) {
    for resource in new.resources() {
        let uri = &resource.spec.uri;
        for scope in resource.scopes.iter() {
            let among = |bounds: &[Arc<Bound>]| bounds.iter().any(|bound| bound.allows(uri, scope));
            assert!(among(earlier) || !among(held), "{scope} at {uri} is new");
        }
    }
}
