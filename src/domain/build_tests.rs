//! Tests of [`build`]: one thing bent from a set of two tenants that builds.

use serde_json::{Value, json};

use super::*;

const OWN: &str = "https://tg.example";

fn object(kind: ObjectKind, tenant: &str, name: &str, spec: &Value) -> Object {
    let id = ObjectRef { kind, tenant: tenant.parse().unwrap(), name: name.parse().unwrap() };
    Object { id, version: 1, spec: Spec::from_json(kind, spec.to_string().as_bytes()).unwrap() }
}

fn tenant(name: &str) -> Object {
    object(ObjectKind::Tenant, name, name, &json!({}))
}

fn issuer(tenant: &str, name: &str) -> Object {
    let spec = json!({
        "issuer": format!("https://{name}.example"),
        "accept": [{"type": "access_token", "audience": OWN}],
    });
    object(ObjectKind::TrustedIssuer, tenant, name, &spec)
}

fn agent(tenant: &str, name: &str, extra: &Value) -> Object {
    let mut spec = json!({"client_id": name, "class": "worker", "owner": "group:team", "contact": "x"});
    spec.as_object_mut().unwrap().extend(extra.as_object().cloned().unwrap_or_default());
    object(ObjectKind::Agent, tenant, name, &spec)
}

fn resource(tenant: &str, name: &str, uri: &str) -> Object {
    object(ObjectKind::Resource, tenant, name, &json!({"uri": uri, "scopes": ["read"]}))
}

fn task_type(tenant: &str, name: &str, agents: &Value, edges: &Value) -> Object {
    let spec = json!({
        "description": "x", "owner": "group:team", "contact": "x", "review_by": "2030-01-01",
        "agents": agents, "scopes": ["read"], "resources": [format!("{tenant}-orders")],
        "lifetime": {"token": {"default": 60, "max": 300}, "task": 3600},
        "delegation": {"max_depth": 1, "edges": edges},
    });
    object(ObjectKind::TaskType, tenant, name, &spec)
}

/// Tenants `acme` and `globex` with an issuer, an agent and a resource each, and `more`.
fn faults(more: Vec<Object>) -> Vec<(String, String)> {
    let mut objects = Vec::new();
    for name in ["acme", "globex"] {
        objects.push(tenant(name));
        objects.push(issuer(name, &format!("{name}-idp")));
        objects.push(agent(name, &format!("{name}-bot"), &json!({})));
        objects.push(resource(name, &format!("{name}-orders"), &format!("https://orders.{name}.example")));
    }
    objects.extend(more);
    let faults = build(&objects, &[], OWN).err().unwrap_or_default();
    faults.into_iter().map(|f| (f.object.to_string(), f.path)).collect()
}

fn fault(object: &str, path: &str) -> (String, String) {
    (object.to_owned(), path.to_owned())
}

#[test]
fn t42_a_task_type_may_not_name_an_agent_of_another_tenant() {
    let named = json!(["agent:acme-bot"]);
    let edges = json!([{"from": "agent:acme-bot", "to": "agent:acme-bot"}]);
    assert_eq!(faults(vec![task_type("acme", "refund", &named, &edges)]), []);
    let crossed = faults(vec![task_type("globex", "refund", &named, &edges)]);
    let paths = ["spec.agents[0]", "spec.delegation.edges[0].from", "spec.delegation.edges[0].to"];
    assert_eq!(crossed, paths.map(|path| fault("TaskType globex/refund", path)));
}

#[test]
fn t42_an_agent_may_not_name_an_issuer_of_another_tenant() {
    let spends = |issuer: &str| json!({"upstream_clients": [{"issuer": issuer, "client": "web"}]});
    assert_eq!(faults(vec![agent("acme", "second", &spends("https://acme-idp.example"))]), []);
    let crossed = faults(vec![agent("acme", "second", &spends("https://globex-idp.example"))]);
    assert_eq!(crossed, [fault("Agent acme/second", "spec.upstream_clients[0].issuer")]);
}

#[test]
fn our_own_issuer_is_no_resource_however_it_is_spelled() {
    for uri in [OWN, "HTTPS://TG.example"] {
        let found = faults(vec![resource("acme", "own", uri)]);
        assert_eq!(found, [fault("Resource acme/own", "spec.uri")], "{uri}");
    }
}

#[test]
fn an_object_declared_twice_is_refused() {
    let twice = || task_type("acme", "refund", &json!(["class:worker"]), &json!([]));
    assert_eq!(faults(vec![twice(), twice()]), [fault("TaskType acme/refund", "name")]);
}

#[test]
fn a_fault_of_a_platform_object_is_told_once() {
    let nowhere = agent("system", "platform-bot", &json!({"tenants": ["nowhere"]}));
    assert_eq!(faults(vec![nowhere]), [fault("Agent system/platform-bot", "spec.tenants[0]")]);
}

#[test]
fn the_platform_is_no_tenant_of_principals() {
    assert_eq!(faults(vec![tenant("system")]), [fault("Tenant system/system", "name")]);
}

#[test]
fn t20_no_resource_lists_offline_access() {
    let spec = json!({"uri": "https://files.example", "scopes": ["offline_access", "read"]});
    let files = object(ObjectKind::Resource, "acme", "files", &spec);
    assert_eq!(faults(vec![files]), [fault("Resource acme/files", "spec.scopes")]);
}
