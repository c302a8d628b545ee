use serde_json::{Value, json};

use crate::domain::build::build;
use crate::domain::objects::{Object, ObjectKind, ObjectRef, Role, Spec};
use crate::domain::principal::Principal;
use crate::domain::snapshot::Snapshot;
use crate::domain::widening::widenings;

const OWN: &str = "https://tg.example";
const IDP: &str = "https://idp.example";

fn object(kind: ObjectKind, tenant: &str, name: &str, spec: &Value) -> Object {
    let id = ObjectRef { kind, tenant: tenant.parse().unwrap(), name: name.parse().unwrap() };
    Object { id, version: 1, spec: Spec::from_json(kind, spec.to_string().as_bytes()).unwrap() }
}

fn merged(mut base: Value, with: &Value) -> Value {
    for (key, value) in with.as_object().unwrap() {
        base[key] = value.clone();
    }
    base
}

fn issuer(tenant: &str, iss: &str, with: &Value) -> Object {
    let base = json!({"issuer": iss, "accept": [{"type": "access_token", "audience": OWN}]});
    object(ObjectKind::TrustedIssuer, tenant, iss.trim_start_matches("https://"), &merged(base, with))
}

fn console(tenant: &str, with: &Value) -> Object {
    let base = json!({
        "client_id": "console", "class": "taskgrant:console", "owner": "group:g", "contact": "c",
        "upstream_clients": [{"issuer": IDP, "client": "cli"}],
    });
    object(ObjectKind::Agent, tenant, "console", &merged(base, with))
}

fn administrator(tenant: &str, with: &Value) -> Object {
    let base = json!({"owner": "group:g", "contact": "c", "issuer": IDP, "roles": ["admin"]});
    object(ObjectKind::Administrator, tenant, "root", &merged(base, with))
}

fn task_type(tenant: &str, name: &str, with: &Value) -> Object {
    let base = json!({
        "description": "x", "owner": "group:g", "contact": "c", "review_by": "2099-01-01",
        "agents": [], "scopes": ["read"], "resources": ["orders"],
        "lifetime": {"token": {"default": 60, "max": 60}, "task": 600},
    });
    object(ObjectKind::TaskType, tenant, name, &merged(base, with))
}

fn all(more: Vec<Object>) -> Vec<Object> {
    let mut objects = vec![
        object(ObjectKind::Tenant, "acme", "acme", &json!({})),
        issuer("system", IDP, &json!({"fixed_tenant": "acme"})),
        issuer("acme", "https://own.example", &json!({"subject_prefix": "own|"})),
        object(
            ObjectKind::Resource,
            "acme",
            "orders",
            &json!({"uri": "https://orders.example", "scopes": ["read", "taskgrant.admin"]}),
        ),
    ];
    objects.extend(more);
    objects
}

fn snapshot(more: Vec<Object>) -> Snapshot {
    build(&all(more), &[], OWN).unwrap()
}

/// Where the faults of `more` lie.
fn faults(more: Vec<Object>) -> Vec<String> {
    let faults = build(&all(more), &[], OWN).err().unwrap_or_default();
    faults.into_iter().map(|fault| format!("{} {}", fault.object, fault.path)).collect()
}

#[test]
fn names_of_the_product_are_nobodys_and_nothing_declared_leads_to_what_it_comes_with() {
    for name in ["taskgrant", "taskgrant.admin", "taskgrant.mine"] {
        for tenant in ["acme", "system"] {
            let named = faults(vec![task_type(tenant, name, &json!({"resources": []}))]);
            assert!(named.contains(&format!("TaskType {tenant}/{name} name")), "{named:?}");
        }
    }
    assert_eq!(faults(vec![task_type("acme", "taskgrants", &json!({}))]), [""; 0]);
    let resource =
        |uri: &str| object(ObjectKind::Resource, "acme", "mine", &json!({"uri": uri, "scopes": ["x"]}));
    assert_eq!(faults(vec![resource("HTTPS://tg.example/admin")]), ["Resource acme/mine spec.uri"]);
    let alias = json!({"uri": "https://x.example", "scopes": ["x"], "names": ["taskgrant.admin-api"]});
    let alias = object(ObjectKind::Resource, "acme", "mine", &alias);
    assert_eq!(faults(vec![alias]), ["Resource acme/mine spec.names"]);
    let reaches = task_type("acme", "sly", &json!({"resources": ["taskgrant.admin-api"]}));
    assert_eq!(faults(vec![reaches]).first().unwrap(), "TaskType acme/sly spec.resources[0]");
}

#[test]
fn a_console_is_the_platforms_and_stands_apart() {
    assert_eq!(faults(vec![console("system", &json!({}))]), [""; 0]);
    assert_eq!(faults(vec![console("acme", &json!({}))]), ["Agent acme/console spec.class"]);
    let alone = console("system", &json!({"upstream_clients": []}));
    assert_eq!(faults(vec![alone]), ["Agent system/console spec.upstream_clients"]);
    for (with, path) in [
        (json!({"agents": ["class:taskgrant:console"]}), "spec.agents[0]"),
        (json!({"agents": ["agent:console"]}), "spec.agents[0]"),
        (
            json!({"delegation": {"max_depth": 1, "edges": [{"to": "class:taskgrant:console"}]}}),
            "spec.delegation.edges[0].to",
        ),
        (
            json!({"delegation": {"max_depth": 1, "edges": [{"from": "agent:console", "to": "class:x"}]}}),
            "spec.delegation.edges[0].from",
        ),
    ] {
        let found = faults(vec![console("system", &json!({})), task_type("acme", "sly", &with)]);
        assert_eq!(found, [format!("TaskType acme/sly {path}")]);
    }
    let shares = json!({
        "client_id": "bot", "class": "bot", "owner": "group:g", "contact": "c",
        "upstream_clients": [{"issuer": IDP, "client": "other"}, {"issuer": IDP, "client": "cli"}],
    });
    let bot = object(ObjectKind::Agent, "acme", "bot", &shares);
    assert_eq!(faults(vec![console("system", &json!({})), bot]), ["Agent acme/bot spec.upstream_clients[1]"]);
    let snapshot = snapshot(vec![console("system", &json!({})), task_type("acme", "own", &json!({}))]);
    let agent = snapshot.agent(&"console".parse().unwrap()).unwrap();
    let startable = snapshot.startable(&"acme".parse().unwrap(), agent);
    let names: Vec<&str> = startable.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["taskgrant.admin", "taskgrant.approve", "taskgrant.audit"]);
}

#[test]
fn l10_an_administrator_is_a_person_of_an_issuer_of_the_platform() {
    let fine = json!({"subject": "alice"});
    assert_eq!(faults(vec![administrator("system", &fine)]), [""; 0]);
    assert_eq!(faults(vec![administrator("acme", &fine)]), ["Administrator acme/root tenant"]);
    for (with, path) in [
        (json!({}), "spec.subject"),
        (json!({"subject": "a", "group": "b"}), "spec.subject"),
        (json!({"group": ""}), "spec.group"),
        (json!({"subject": "a", "roles": []}), "spec.roles"),
        (json!({"subject": "a", "issuer": "https://own.example"}), "spec.issuer"),
        (json!({"subject": "a", "issuer": "https://nobody.example"}), "spec.issuer"),
        (json!({"subject": "a", "session_tenant": "nobody"}), "spec.session_tenant"),
    ] {
        let found = faults(vec![administrator("system", &with)]);
        assert_eq!(found, [format!("Administrator system/root {path}")], "{with}");
    }
    let at = "https://many.example";
    for (of, with, path) in [
        (json!({"fixed_tenant": "acme", "principals": "workload"}), json!({"subject": "a"}), "spec.issuer"),
        (json!({"fixed_tenant": "acme", "any_agent": true}), json!({"subject": "a"}), "spec.issuer"),
        (json!({"tenant_claim": "org"}), json!({"group": "a"}), "spec.session_tenant"),
    ] {
        let of = merged(of, &json!({"subject_prefix": "many|"}));
        let named = administrator("system", &merged(with, &json!({"issuer": at})));
        assert_eq!(
            faults(vec![issuer("system", at, &of), named]),
            [format!("Administrator system/root {path}")]
        );
    }
}

#[test]
fn roles_add_up_and_are_of_the_named_subject_group_and_tenant_alone() {
    let group = json!({"group": "ops", "session_tenant": "acme", "roles": ["audit"]});
    let mut group = administrator("system", &group);
    group.id.name = "ops".parse().unwrap();
    let snapshot = snapshot(vec![administrator("system", &json!({"subject": "alice"})), group]);
    let issuer = snapshot.issuer(IDP).unwrap();
    let roles = |tenant: &str, iss: &str, sub: &str, groups: &[&str]| {
        let principal = Principal { iss: iss.to_owned(), sub: sub.to_owned() };
        let facts = json!({"groups": groups});
        let facts = facts.as_object().unwrap();
        issuer.roles(&tenant.parse().unwrap(), &principal, facts).into_iter().collect::<Vec<_>>()
    };
    assert_eq!(roles("acme", IDP, "alice", &["ops"]), [Role::Admin, Role::Audit]);
    assert_eq!(roles("acme", IDP, "bob", &["ops"]), [Role::Audit]);
    assert_eq!(roles("globex", IDP, "bob", &["ops"]), []);
    assert_eq!(roles("acme", IDP, "Alice", &["opsx"]), []);
    assert_eq!(roles("acme", "https://other.example", "alice", &["ops"]), []);
}

#[test]
fn a_new_administrator_and_another_role_are_widenings() {
    let with = |spec: &Value| snapshot(vec![administrator("system", spec)]);
    let (none, alice) = (snapshot(Vec::new()), with(&json!({"subject": "alice"})));
    let id = administrator("system", &json!({"subject": "alice"})).id;
    let told = |before: &Snapshot, after: &Snapshot| -> Vec<String> {
        widenings(&id, before, after).into_iter().map(|widening| widening.path).collect()
    };
    assert_eq!(told(&none, &alice), ["spec"]);
    assert_eq!(told(&alice, &alice), [""; 0]);
    assert_eq!(told(&alice, &none), [""; 0]);
    let more = with(&json!({"subject": "alice", "roles": ["admin", "audit"]}));
    assert_eq!(told(&alice, &more), ["spec.roles"]);
    assert_eq!(told(&more, &alice), [""; 0]);
    assert_eq!(told(&alice, &with(&json!({"subject": "bob"}))), ["spec.subject"]);
    let bound = with(&json!({"subject": "alice", "session_tenant": "acme"}));
    assert_eq!(told(&alice, &bound), [""; 0]);
    assert_eq!(told(&bound, &alice), ["spec.session_tenant"]);
}
