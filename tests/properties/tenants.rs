//! L10: tenants never meet. The model tells served tenants as plain sets.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};
use taskgrant::domain::build::{Fault, build};
use taskgrant::domain::ids::Name;
use taskgrant::domain::objects::{Object, ObjectKind, ObjectRef, Spec};
use taskgrant::domain::snapshot::{Reach, Snapshot};

const OWN: &str = "https://tg.example";
/// Declared tenants, and one that stands for all that may be declared later.
const TENANTS: [&str; 3] = ["acme", "globex", "later"];

/// Who owns an object, and for the platform the tenants that it lists.
#[derive(Clone, Debug)]
struct Owner {
    tenant: &'static str,
    only: Option<Vec<&'static str>>,
}

impl Owner {
    fn serves(&self) -> BTreeSet<&'static str> {
        match (&self.only, self.tenant) {
            (Some(list), "system") => list.iter().copied().collect(),
            (None, "system") => TENANTS.into(),
            (_, tenant) => [tenant].into(),
        }
    }

    fn object(&self, kind: ObjectKind, name: &str, mut spec: Value) -> Object {
        if let Some(list) = &self.only {
            spec["tenants"] = json!(list);
        }
        let id = ObjectRef { kind, tenant: self.tenant.parse().unwrap(), name: name.parse().unwrap() };
        Object { id, version: 1, spec: Spec::from_json(kind, spec.to_string().as_bytes()).unwrap() }
    }
}

fn owner() -> impl Strategy<Value = Owner> {
    let listed = subsequence(vec!["acme", "globex"], 1..=2);
    prop_oneof![
        select(vec!["acme", "globex"]).prop_map(|tenant| Owner { tenant, only: None }),
        Just(Owner { tenant: "system", only: None }),
        listed.prop_map(|list| Owner { tenant: "system", only: Some(list) }),
    ]
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// One object of each kind, each with its own owner; `refer` says which references are made.
#[derive(Clone, Debug)]
struct World {
    issuer: Owner,
    detail_type: Owner,
    resource: Owner,
    agent: Owner,
    task_type: Owner,
    refer: [bool; 8],
}

fn world() -> impl Strategy<Value = World> {
    let owners = (owner(), owner(), owner(), owner(), owner());
    (owners, proptest::array::uniform8(proptest::bool::weighted(0.3))).prop_map(|(owners, refer)| World {
        issuer: owners.0,
        detail_type: owners.1,
        resource: owners.2,
        agent: owners.3,
        task_type: owners.4,
        refer,
    })
}

impl World {
    fn objects(&self) -> Vec<Object> {
        let [
            in_entitlement,
            in_entitlement_details,
            upstream,
            default,
            selector,
            edge_selector,
            edge_resource,
            details,
        ] = self.refer;
        let detail = json!([{"type": "tool_call", "tools": ["get"]}]);
        let either = |on: bool, yes: Value| if on { yes } else { json!([]) };
        let mut entitlement = json!({"scopes": ["read"]});
        if in_entitlement {
            entitlement["resources"] = json!(["orders"]);
        }
        if in_entitlement_details {
            entitlement["authorization_details"] = detail.clone();
        }
        let mut issuer = json!({
            "issuer": "https://idp.example", "entitlements": [entitlement],
            "accept": [{"type": "access_token", "audience": OWN}],
        });
        if self.issuer.tenant == "system" {
            issuer["tenant_claim"] = json!("org");
        }
        let mut agent = json!({
            "client_id": "bot", "class": "worker", "owner": "group:team", "contact": "x",
            "upstream_clients": either(upstream, json!([{"issuer": "https://idp.example", "client": "web"}])),
        });
        if default {
            agent["default_task_type"] = json!("refund");
        }
        let mut edge = json!({"to": "class:worker"});
        if edge_selector {
            edge["from"] = json!("agent:bot");
        }
        if edge_resource {
            edge["resources"] = json!(["orders"]);
        }
        let task_type = json!({
            "description": "x", "owner": "group:team", "contact": "x", "review_by": "2030-01-01",
            "agents": if selector { json!(["agent:bot", "class:worker"]) } else { json!(["class:worker"]) },
            "scopes": ["read"], "resources": ["orders"],
            "authorization_details": either(details, detail),
            "lifetime": {"token": {"default": 60, "max": 300}, "task": 3600},
            "delegation": {"max_depth": 1, "edges": [edge]},
        });
        let detail_type = json!({"schema": {}, "fields": {"tools": "subset"}});
        let resource = json!({"uri": "https://orders.example", "names": ["shop"], "scopes": ["read"]});
        let tenants = ["acme", "globex"]
            .map(|t| Owner { tenant: t, only: None }.object(ObjectKind::Tenant, t, json!({})));
        let mut all: Vec<Object> = tenants.into();
        all.push(self.issuer.object(ObjectKind::TrustedIssuer, "idp", issuer));
        all.push(self.detail_type.object(ObjectKind::AuthorizationDetailType, "tool_call", detail_type));
        all.push(self.resource.object(ObjectKind::Resource, "orders", resource));
        all.push(self.agent.object(ObjectKind::Agent, "bot", agent));
        all.push(self.task_type.object(ObjectKind::TaskType, "refund", task_type));
        all
    }

    /// Model: the paths of the references that cross tenants.
    ///
    /// What a ceiling allows serves every tenant of the ceiling; who may act shares at least one. The entitlements
    /// of a platform issuer for all tenants may name what only some of them have.
    fn crossing(&self) -> BTreeSet<String> {
        let [
            in_entitlement,
            in_entitlement_details,
            upstream,
            default,
            selector,
            edge_selector,
            edge_resource,
            details,
        ] = self.refer;
        let anyone = self.issuer.tenant == "system" && self.issuer.only.is_none();
        let all = |one: &Owner, of: &Owner| of.serves().is_subset(&one.serves());
        let some = |one: &Owner, of: &Owner| !of.serves().is_disjoint(&one.serves());
        let refused = [
            (
                in_entitlement && !anyone && !all(&self.resource, &self.issuer),
                "spec.entitlements[0].resources[0]",
            ),
            (
                in_entitlement_details && !anyone && !all(&self.detail_type, &self.issuer),
                "spec.entitlements[0].authorization_details",
            ),
            (upstream && !some(&self.issuer, &self.agent), "spec.upstream_clients[0].issuer"),
            (default && !some(&self.task_type, &self.agent), "spec.default_task_type"),
            (selector && !some(&self.agent, &self.task_type), "spec.agents[0]"),
            (edge_selector && !some(&self.agent, &self.task_type), "spec.delegation.edges[0].from"),
            (edge_resource && !all(&self.resource, &self.task_type), "spec.delegation.edges[0].resources[0]"),
            (details && !all(&self.detail_type, &self.task_type), "spec.authorization_details"),
            (!all(&self.resource, &self.task_type), "spec.resources[0]"),
        ];
        refused.into_iter().filter(|(crosses, _)| *crosses).map(|(_, path)| path.to_owned()).collect()
    }
}

fn paths(faults: Vec<Fault>) -> BTreeSet<String> {
    faults.into_iter().map(|f| f.path).collect()
}

fn check_lookups(world: &World, snapshot: &Snapshot) -> Result<(), TestCaseError> {
    for tenant in TENANTS {
        let id = name(tenant);
        let uri = "HTTPS://orders.EXAMPLE".parse().unwrap();
        let resource = world.resource.serves().contains(tenant);
        prop_assert_eq!(snapshot.resource(&id, &uri).is_some(), resource);
        for known in ["orders", "shop"] {
            prop_assert_eq!(snapshot.resource_named(&id, &name(known)).is_some(), resource);
        }
        let task_type = world.task_type.serves().contains(tenant);
        prop_assert_eq!(snapshot.task_type(&id, &name("refund")).is_some(), task_type);
        let agent = snapshot.agent(&"bot".parse().unwrap()).unwrap();
        prop_assert_eq!(agent.reach.serves(&id), world.agent.serves().contains(tenant));
        prop_assert_eq!(!snapshot.startable(&id, agent).is_empty(), task_type);
        if tenant != "later" {
            let known = snapshot.detail_rules(&id).contains_key(&name("tool_call"));
            prop_assert_eq!(known, world.detail_type.serves().contains(tenant));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn l10_every_reference_across_tenants_is_refused(world in world()) {
        let crossing = world.crossing();
        match build(&world.objects(), &[], OWN) {
            Ok(snapshot) => {
                prop_assert!(crossing.is_empty(), "{crossing:?}");
                check_lookups(&world, &snapshot)?;
            }
            Err(faults) => {
                // What cannot be resolved is told once more where something depends on it.
                let told: BTreeSet<String> = paths(faults).into_iter().filter(|p| !p.starts_with("spec.scopes")).collect();
                prop_assert_eq!(told, crossing);
            }
        }
    }

    #[test]
    fn l10_an_object_serves_its_tenant_or_those_it_lists(owner in owner()) {
        let only = owner.only.as_ref().map(|list| list.iter().map(|t| name(t)).collect());
        let reach = Reach { tenant: name(owner.tenant), only };
        for tenant in TENANTS {
            prop_assert_eq!(reach.serves(&name(tenant)), owner.serves().contains(tenant));
        }
    }

    #[test]
    fn l10_a_tenant_may_not_take_the_name_of_a_platform_object_that_serves_it(
        platform in owner().prop_filter("the platform's", |o| o.tenant == "system"), tenant in select(vec!["acme", "globex"]),
    ) {
        let spec = |uri: &str| json!({"uri": uri, "scopes": ["read"]});
        let agent = |id: &str| json!({"client_id": id, "class": "worker", "owner": "group:team", "contact": "x"});
        let own = Owner { tenant, only: None };
        let mut objects: Vec<Object> = ["acme", "globex"].map(|t| Owner { tenant: t, only: None }.object(ObjectKind::Tenant, t, json!({}))).into();
        objects.push(platform.object(ObjectKind::Agent, "bot", agent("one")));
        objects.push(own.object(ObjectKind::Agent, "bot", agent("two")));
        let taken = platform.serves().contains(tenant);
        prop_assert_eq!(build(&objects, &[], OWN).is_err(), taken);
        objects.push(own.object(ObjectKind::Resource, "orders", spec("https://orders.example")));
        objects.push(platform.object(ObjectKind::Resource, "mail", spec("https://ORDERS.example")));
        prop_assert!(build(&objects, &[], OWN).is_err(), "one URI is one resource in the whole deployment");
    }

    #[test]
    fn l10_a_tenants_issuer_yields_that_tenant_only(owner in owner(), claim: bool, fixed: bool, own: bool) {
        let issuer = if own { OWN } else { "https://idp.example" };
        let mut spec = json!({"issuer": issuer, "accept": [{"type": "access_token", "audience": OWN}]});
        if claim {
            spec["tenant_claim"] = json!("org");
        }
        if fixed {
            spec["fixed_tenant"] = json!("acme");
        }
        let mut objects: Vec<Object> = ["acme", "globex"].map(|t| Owner { tenant: t, only: None }.object(ObjectKind::Tenant, t, json!({}))).into();
        objects.push(owner.object(ObjectKind::TrustedIssuer, "idp", spec));
        let lawful = if owner.tenant == "system" { claim != fixed } else { !claim && !fixed };
        prop_assert_eq!(build(&objects, &[], OWN).is_ok(), lawful && !own);
    }
}
