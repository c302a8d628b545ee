//! From declared objects to a [`Snapshot`]: every reference is resolved, every rule of DESIGN §5 checked, nothing half.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::ceiling::Bound;
use super::details::{DetailRules, Details, FieldRule, LOCATIONS};
use super::ids::{ClientId, Name};
use super::objects::{
    AgentSpec, AuthSpec, AuthorizationDetailTypeSpec, CertificateAuthoritySpec, EntitlementSpec,
    ExceptionSpec, Object, ObjectKind, ObjectRef, ResourceSpec, Selector, Spec, TaskTypeSpec,
    TrustedIssuerSpec, WorkloadIssuerSpec,
};
use super::record::LONGEST_TASK;
use super::resource::ResourceUri;
use super::scope::{Scope, ScopeSet};
use super::snapshot::{
    Agent, CertificateAuthority, DetailType, Edge, Entitlement, Exception, Issuer, Reach, Resource, Snapshot,
    TaskType, WorkloadIssuer,
};
use super::{build_admin, build_approval, build_auth, build_issuer, build_logout, built_in};

/// Something wrong with a declared object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which object.
    pub object: ObjectRef,
    /// Where in it: `spec.resources[0]`.
    pub path: String,
    /// What is wrong and what would mend it.
    pub message: String,
    /// What could have been meant, where the fault is a name that does not exist.
    pub choices: Vec<String>,
}

/// Builds the snapshot from all objects in force and the earlier versions of task types.
///
/// `own_issuer` is this server's `iss`, which may be neither a trusted issuer nor a resource. All faults are
/// collected. An earlier version is resolved as far as its references still exist: what is gone is not allowed.
pub fn build(current: &[Object], earlier: &[Object], own_issuer: &str) -> Result<Snapshot, Vec<Fault>> {
    let mut builder = Builder { snapshot: Snapshot::default(), faults: Vec::new(), own_issuer };
    built_in::install(&mut builder.snapshot, own_issuer);
    builder.check_repetition(current);
    for kind in ObjectKind::ALL {
        for object in current.iter().filter(|o| o.id.kind == kind) {
            builder.add(object);
        }
        if kind == ObjectKind::AuthorizationDetailType {
            builder.collect_rules();
        }
    }
    builder.check_platform_names(current);
    builder.faults.extend(build_issuer::check_prefixes(&builder.snapshot));
    builder.faults.extend(build_logout::check_transmitters(&builder.snapshot));
    builder.faults.extend(build_admin::check_upstream_clients(&builder.snapshot));
    builder.resolve_late();
    builder.index_starters();
    builder.index_prefixes();
    if !builder.faults.is_empty() {
        return Err(builder.faults);
    }
    for object in earlier {
        builder.add_earlier(object);
    }
    Ok(builder.snapshot)
}

struct Builder<'a> {
    snapshot: Snapshot,
    faults: Vec<Fault>,
    own_issuer: &'a str,
}

/// One object on the way in.
struct At<'a> {
    id: &'a ObjectRef,
    version: i64,
    reach: Reach,
}

impl Builder<'_> {
    fn fault(&mut self, id: &ObjectRef, path: impl Into<String>, message: impl Into<String>) {
        self.dangling(id, path, message, Vec::new());
    }

    fn dangling(
        &mut self,
        id: &ObjectRef,
        path: impl Into<String>,
        message: impl Into<String>,
        choices: Vec<String>,
    ) {
        self.faults.push(Fault { object: id.clone(), path: path.into(), message: message.into(), choices });
    }

    fn tell(&mut self, id: &ObjectRef, faults: impl IntoIterator<Item = (String, String, Vec<String>)>) {
        faults.into_iter().for_each(|(path, message, choices)| self.dangling(id, path, message, choices));
    }

    /// One object of a name: of two, the last would silently stand.
    fn check_repetition(&mut self, current: &[Object]) {
        let mut seen = BTreeSet::new();
        for object in current {
            if !seen.insert(&object.id) {
                self.fault(
                    &object.id,
                    "name",
                    "declared twice: another object has the same kind, tenant and name",
                );
            }
        }
    }

    fn add(&mut self, object: &Object) {
        let id = &object.id;
        let at = At { id, version: object.version, reach: self.reach(object) };
        self.tell(id, build_admin::check_name(id));
        match &object.spec {
            Spec::Tenant(spec) => {
                if id.tenant != id.name {
                    self.fault(
                        id,
                        "tenant",
                        "a tenant object belongs to itself: `tenant` and `name` must agree",
                    );
                }
                if id.name.is_system() {
                    self.fault(id, "name", "`system` stands for the platform and is no tenant of principals");
                }
                self.snapshot.tenants.insert(id.name.clone(), spec.clone());
            }
            Spec::TrustedIssuer(spec) => self.add_issuer(&at, spec),
            Spec::WorkloadIssuer(spec) => self.add_workload_issuer(&at, spec),
            Spec::CertificateAuthority(spec) => self.add_authority(&at, spec),
            Spec::AuthorizationDetailType(spec) => self.add_detail_type(&at, spec),
            Spec::Resource(spec) => self.add_resource(&at, spec),
            Spec::Agent(spec) => self.add_agent(&at, spec),
            Spec::TaskType(spec) => self.add_task_type(&at, spec),
            Spec::Exception(spec) => self.add_exception(&at, spec),
            Spec::Administrator(spec) => {
                let faults = build_admin::add(&mut self.snapshot, id, spec);
                self.tell(id, faults);
            }
        }
    }

    fn add_issuer(&mut self, at: &At<'_>, spec: &TrustedIssuerSpec) {
        let own = build_issuer::check(spec, self.own_issuer);
        for (path, message) in own.into_iter().chain(build_issuer::check_tenancy(spec, &at.id.tenant)) {
            self.fault(at.id, path, message);
        }
        if let Some(tenant) = spec.fixed_tenant.as_ref().filter(|t| !self.snapshot.tenants.contains_key(t)) {
            let choices = self.snapshot.tenants.keys().map(Name::to_string).collect();
            self.dangling(at.id, "spec.fixed_tenant", format!("no tenant `{tenant}` is declared"), choices);
        }
        let issuer = Issuer {
            reach: at.reach.clone(),
            name: at.id.name.clone(),
            version: at.version,
            entitlements: Vec::new(),
            administrators: Vec::new(),
            spec: spec.clone(),
        };
        if self.snapshot.issuers.insert(spec.issuer.clone(), Arc::new(issuer)).is_some() {
            self.fault(at.id, "spec.issuer", "another trusted issuer has the same `issuer`");
        }
    }

    fn add_workload_issuer(&mut self, at: &At<'_>, spec: &WorkloadIssuerSpec) {
        let (reach, name) = (at.reach.clone(), at.id.name.clone());
        let issuer = WorkloadIssuer { reach, name, spec: spec.clone() };
        for (path, message) in build_auth::add_issuer(&mut self.snapshot, issuer, self.own_issuer) {
            self.fault(at.id, path, message);
        }
    }

    fn add_authority(&mut self, at: &At<'_>, spec: &CertificateAuthoritySpec) {
        let (reach, name) = (at.reach.clone(), at.id.name.clone());
        let key = (reach.tenant.clone(), name.clone());
        let authority = CertificateAuthority { reach, name, spec: spec.clone() };
        self.snapshot.authorities.insert(key, Arc::new(authority));
    }

    /// Whom the object serves; its tenants must exist.
    fn reach(&mut self, object: &Object) -> Reach {
        let (id, Reach { only, .. }) = (&object.id, Reach::declared(object));
        if only.is_some() && !id.tenant.is_system() {
            self.fault(id, "spec.tenants", "only objects of the tenant `system` may list tenants");
        }
        let named = only.iter().flatten().enumerate().map(|(i, t)| (format!("spec.tenants[{i}]"), t));
        for (path, tenant) in std::iter::once(("tenant".to_owned(), &id.tenant)).chain(named) {
            if !tenant.is_system()
                && id.kind != ObjectKind::Tenant
                && !self.snapshot.tenants.contains_key(tenant)
            {
                let choices = self.snapshot.tenants.keys().map(Name::to_string).collect();
                self.dangling(id, path, format!("no tenant `{tenant}` is declared"), choices);
            }
        }
        Reach { tenant: id.tenant.clone(), only }
    }

    fn add_detail_type(&mut self, at: &At<'_>, spec: &AuthorizationDetailTypeSpec) {
        if spec.fields.contains_key("type") {
            self.fault(at.id, "spec.fields.type", "`type` names the type itself and takes no rule");
        }
        if spec.fields.get(LOCATIONS).is_some_and(|rule| *rule != FieldRule::Subset) {
            let message = "`locations` is an array of resource URIs (RFC 9396): its rule is `subset`";
            self.fault(at.id, format!("spec.fields.{LOCATIONS}"), message);
        }
        if spec.fields.is_empty() {
            self.fault(at.id, "spec.fields", "a type needs at least one field with a rule");
        }
        let name = at.id.name.clone();
        let kind = DetailType { reach: at.reach.clone(), name, spec: spec.clone() };
        self.snapshot.detail_types.push(Arc::new(kind));
    }

    fn collect_rules(&mut self) {
        let tenants: Vec<Name> = self.snapshot.tenants.keys().cloned().chain([Name::system()]).collect();
        for tenant in tenants {
            let serving = self.snapshot.detail_types.iter().filter(|t| t.reach.serves(&tenant));
            let rules: DetailRules = serving.map(|t| (t.name.clone(), t.spec.fields.clone())).collect();
            self.snapshot.rules.insert(tenant, Arc::new(rules));
        }
    }

    fn add_resource(&mut self, at: &At<'_>, spec: &ResourceSpec) {
        if spec.scopes.is_empty() {
            self.fault(at.id, "spec.scopes", "a resource lists at least one scope");
        }
        if spec.scopes.iter().any(|s| s.as_str() == "offline_access") {
            self.fault(
                at.id,
                "spec.scopes",
                "`offline_access` asks for refresh tokens, which do not exist here (T20)",
            );
        }
        let own = self.own_issuer.parse::<ResourceUri>().is_ok_and(|own| own.key() == spec.uri.key());
        if own || spec.uri.as_str() == self.own_issuer {
            self.fault(
                at.id,
                "spec.uri",
                "this is the server's own issuer, which stands for exchange-only tokens",
            );
        }
        self.add_auth(at, spec.client_id.as_ref(), &spec.auth);
        let scopes = spec.scopes.iter().cloned().collect();
        let name = at.id.name.clone();
        let resource = Arc::new(Resource { reach: at.reach.clone(), name, scopes, spec: spec.clone() });
        if self.snapshot.resources.insert(spec.uri.key(), resource.clone()).is_some() {
            self.fault(at.id, "spec.uri", "another resource has the same `uri`");
        }
        for name in spec.names.iter().chain([&at.id.name]).collect::<BTreeSet<_>>() {
            if self.snapshot.resource_names.insert(name.clone(), resource.clone()).is_some() {
                self.fault(at.id, "spec.names", format!("another resource has the name `{name}`"));
            }
        }
        if let Some(client) = &spec.client_id
            && self.snapshot.resource_clients.insert(client.clone(), resource).is_some()
        {
            self.fault(at.id, "spec.client_id", "another resource has the same `client_id`");
        }
    }

    /// Takes in how a client authenticates, and which workloads it is.
    fn add_auth(&mut self, at: &At<'_>, client: Option<&ClientId>, auth: &AuthSpec) {
        let faults = build_auth::add(&mut self.snapshot, &at.reach, client, auth);
        self.tell(at.id, faults);
    }

    fn add_agent(&mut self, at: &At<'_>, spec: &AgentSpec) {
        self.add_auth(at, Some(&spec.client_id), &spec.auth);
        self.tell(at.id, build_admin::check_console(at.id, spec));
        for (index, upstream) in spec.upstream_clients.iter().enumerate() {
            let meets = |i: &&Arc<Issuer>| i.reach.may_meet(&at.reach);
            if self.snapshot.issuers.get(&upstream.issuer).is_none_or(|i| !meets(&i)) {
                let known = self.snapshot.issuers.values().filter(meets);
                let choices = known.map(|i| i.spec.issuer.clone()).collect();
                let message = format!("no trusted issuer `{}` shares a tenant with this", upstream.issuer);
                self.dangling(at.id, format!("spec.upstream_clients[{index}].issuer"), message, choices);
            }
        }
        let agent = Agent { reach: at.reach.clone(), name: at.id.name.clone(), spec: spec.clone() };
        let taken = self.snapshot.resource_clients.contains_key(&spec.client_id);
        if self.snapshot.agents.insert(spec.client_id.clone(), Arc::new(agent)).is_some() || taken {
            self.fault(at.id, "spec.client_id", "another agent or resource has the same `client_id`");
        }
    }

    fn add_exception(&mut self, at: &At<'_>, spec: &ExceptionSpec) {
        let distinct: BTreeSet<_> = spec.approvers.iter().collect();
        if distinct.len() != 2 || spec.approvers.len() != 2 || distinct.contains(&spec.owner) {
            self.fault(
                at.id,
                "spec.approvers",
                "an exception has exactly two approvers, distinct and not the owner",
            );
        }
        if spec.expires_at <= spec.not_before {
            self.fault(at.id, "spec.expires_at", "it must be later than `not_before`");
        }
        let exception = Exception { reach: at.reach.clone(), name: at.id.name.clone(), spec: spec.clone() };
        self.snapshot.exceptions.push(exception);
    }

    fn add_task_type(&mut self, at: &At<'_>, spec: &TaskTypeSpec) {
        self.check_task_type(at.id, spec);
        let task_type = self.task_type(at, spec);
        self.check_scopes_are_listed(at.id, &task_type);
        let key = (at.id.tenant.clone(), at.id.name.clone());
        self.snapshot.task_types.entry(key).or_default().current = Some(Arc::new(task_type));
    }

    fn add_earlier(&mut self, object: &Object) {
        let Spec::TaskType(spec) = &object.spec else { return };
        let reach = Reach { tenant: object.id.tenant.clone(), only: spec.tenants.clone() };
        let task_type = self.task_type(&At { id: &object.id, version: object.version, reach }, spec);
        self.faults.clear();
        let key = (object.id.tenant.clone(), object.id.name.clone());
        self.snapshot.task_types.entry(key).or_default().earlier.insert(object.version, Arc::new(task_type));
    }

    fn task_type(&mut self, at: &At<'_>, spec: &TaskTypeSpec) -> TaskType {
        let scopes = Some(spec.scopes.as_slice());
        let declared = Declared {
            scopes,
            resources: Some(&spec.resources),
            details: Some(&spec.authorization_details),
            path: "spec".to_owned(),
        };
        let bound = self.bound(at.id, &at.reach, &declared);
        let mut edges = Vec::new();
        for (index, edge) in spec.delegation.edges.iter().enumerate() {
            let declared = Declared {
                scopes: edge.scopes.as_deref(),
                resources: edge.resources.as_deref(),
                details: edge.authorization_details.as_deref(),
                path: format!("spec.delegation.edges[{index}]"),
            };
            let bound = self.bound(at.id, &at.reach, &declared);
            edges.push(Edge { from: edge.from.clone(), to: edge.to.clone(), bound });
        }
        TaskType {
            reach: at.reach.clone(),
            name: at.id.name.clone(),
            version: at.version,
            listed: Arc::new(self.listed(&bound)),
            bound,
            default_scopes: spec.default_scopes.iter().cloned().collect(),
            edges,
            spec: spec.clone(),
        }
    }

    fn listed(&self, bound: &Bound) -> BTreeMap<ResourceUri, ScopeSet> {
        let scopes = |uri: &ResourceUri| self.snapshot.resources.get(&uri.key()).map(|r| r.scopes.clone());
        bound.resources.iter().flatten().filter_map(|uri| Some((uri.clone(), scopes(uri)?))).collect()
    }

    fn check_task_type(&mut self, id: &ObjectRef, spec: &TaskTypeSpec) {
        if spec.scopes.is_empty() {
            self.fault(id, "spec.scopes", "a task type allows at least one scope");
        }
        for (index, scope) in spec.default_scopes.iter().enumerate() {
            if !spec.scopes.contains(scope) {
                let choices = spec.scopes.iter().map(Scope::to_string).collect();
                let message = format!("`{scope}` is not among the task type's `scopes`");
                self.dangling(id, format!("spec.default_scopes[{index}]"), message, choices);
            }
        }
        let lifetime = spec.lifetime;
        let ordered = 1 <= lifetime.token.default
            && lifetime.token.default <= lifetime.token.max
            && lifetime.token.max <= lifetime.task;
        if !ordered || i64::from(lifetime.task) > LONGEST_TASK.num_seconds() {
            let message = "needs 1 <= token.default <= token.max <= task <= 2592000 (seconds)";
            self.fault(id, "spec.lifetime", message);
        }
        if spec.delegation.max_depth > 15 {
            self.fault(id, "spec.delegation.max_depth", "at most 15: a chain holds 16 actors");
        }
        for (path, message) in build_approval::check(&spec.approval) {
            self.fault(id, path, message);
        }
    }

    fn check_scopes_are_listed(&mut self, id: &ObjectRef, task_type: &TaskType) {
        let listed: BTreeSet<&Scope> = task_type.listed.values().flat_map(ScopeSet::iter).collect();
        for (index, scope) in task_type.spec.scopes.iter().enumerate() {
            if !listed.contains(scope) && !task_type.spec.resources.is_empty() {
                let choices = listed.iter().map(ToString::to_string).collect();
                let message = format!("none of the task type's resources lists the scope `{scope}`");
                self.dangling(id, format!("spec.scopes[{index}]"), message, choices);
            }
        }
    }

    /// Resolves a declared box for objects that `reach`.
    fn bound(&mut self, id: &ObjectRef, reach: &Reach, declared: &Declared<'_>) -> Arc<Bound> {
        let mut resources = declared.resources.map(|_| BTreeSet::new());
        for (index, name) in declared.resources.unwrap_or_default().iter().enumerate() {
            let leads_to = |r: &Resource| r.reach.covers(reach) && !r.is_built_in();
            let found = self.snapshot.resource_names.get(name).filter(|r| leads_to(r)).cloned();
            if let (Some(resource), Some(set)) = (&found, &mut resources) {
                set.insert(resource.spec.uri.clone());
            } else {
                let known = self.snapshot.resource_names.iter().filter(|(_, r)| leads_to(r));
                let choices = known.map(|(name, _)| name.to_string()).collect();
                let message = format!("no resource `{name}` serves every tenant that this serves");
                self.dangling(id, format!("{}.resources[{index}]", declared.path), message, choices);
            }
        }
        let details = declared.details.map(|items| self.details(id, reach, items, &declared.path));
        let scopes = declared.scopes.map(|s| s.iter().cloned().collect());
        Arc::new(Bound { scopes, resources, details })
    }

    fn details(
        &mut self,
        id: &ObjectRef,
        reach: &Reach,
        items: &[Map<String, Value>],
        path: &str,
    ) -> Details {
        let mut rules = DetailRules::new();
        for kind in self.snapshot.detail_types.iter().filter(|t| t.reach.covers(reach)) {
            rules.insert(kind.name.clone(), kind.spec.fields.clone());
        }
        let array: Value = items.iter().cloned().map(Value::Object).collect();
        Details::read(&array, &rules).unwrap_or_else(|bad| {
            let choices = rules.keys().map(Name::to_string).collect();
            self.dangling(id, format!("{path}.authorization_details"), bad.to_string(), choices);
            Details::default()
        })
    }

    /// What refers to kinds that come later: entitlements to resources, agents to task types, edges to agents.
    fn resolve_late(&mut self) {
        for issuer in self.snapshot.issuers.values().cloned().collect::<Vec<_>>() {
            let id = ObjectRef {
                kind: ObjectKind::TrustedIssuer,
                tenant: issuer.reach.tenant.clone(),
                name: issuer.name.clone(),
            };
            let rules = issuer.spec.entitlements.iter().enumerate();
            let entitlements = rules.map(|(i, rule)| self.entitlement(&id, &issuer.reach, i, rule)).collect();
            let of_issuer = self.snapshot.administrators.iter();
            let administrators = of_issuer.filter(|a| a.spec.issuer == issuer.spec.issuer).cloned().collect();
            let resolved = Issuer { entitlements, administrators, ..(*issuer).clone() };
            self.snapshot.issuers.insert(issuer.spec.issuer.clone(), Arc::new(resolved));
        }
        self.check_default_task_types();
        self.check_selectors();
    }

    fn entitlement(
        &mut self,
        id: &ObjectRef,
        reach: &Reach,
        index: usize,
        rule: &EntitlementSpec,
    ) -> Entitlement {
        let path = format!("spec.entitlements[{index}]");
        if rule.when.as_ref().is_some_and(|c| c.contains.is_some() == c.equals.is_some()) {
            self.fault(id, format!("{path}.when"), "needs exactly one of `contains` and `equals`");
        }
        let declared = Declared {
            scopes: rule.scopes.as_deref(),
            resources: rule.resources.as_deref(),
            details: rule.authorization_details.as_deref(),
            path,
        };
        // A platform issuer may entitle to resources of single tenants: the tenant is checked where they are used.
        let anywhere = Reach { tenant: reach.tenant.clone(), only: reach.only.clone().or(Some(Vec::new())) };
        Entitlement { when: rule.when.clone(), bound: self.bound(id, &anywhere, &declared) }
    }

    fn check_default_task_types(&mut self) {
        for agent in self.snapshot.agents.values().cloned().collect::<Vec<_>>() {
            let Some(name) = &agent.spec.default_task_type else { continue };
            let id = ObjectRef {
                kind: ObjectKind::Agent,
                tenant: agent.reach.tenant.clone(),
                name: agent.name.clone(),
            };
            let found =
                self.snapshot.task_types().find(|t| t.name == *name && t.reach.may_meet(&agent.reach));
            match found.map(|t| t.may_start(&agent)) {
                Some(true) => {}
                Some(false) => {
                    self.fault(&id, "spec.default_task_type", "this agent may not start that task type");
                }
                None => {
                    let known = self.snapshot.task_types().filter(|t| t.reach.may_meet(&agent.reach));
                    let choices = known.map(|t| t.name.to_string()).collect();
                    let message = format!("no task type `{name}` shares a tenant with this");
                    self.dangling(&id, "spec.default_task_type", message, choices);
                }
            }
        }
    }

    fn check_selectors(&mut self) {
        for task_type in self.snapshot.task_types().cloned().collect::<Vec<_>>() {
            let id = ObjectRef {
                kind: ObjectKind::TaskType,
                tenant: task_type.reach.tenant.clone(),
                name: task_type.name.clone(),
            };
            let starters =
                task_type.spec.agents.iter().enumerate().map(|(i, s)| (format!("spec.agents[{i}]"), s));
            let edges = task_type.spec.delegation.edges.iter().enumerate();
            let ends = edges.flat_map(|(i, e)| {
                let path = move |end: &str| format!("spec.delegation.edges[{i}].{end}");
                e.from.iter().map(move |s| (path("from"), s)).chain([(path("to"), &e.to)])
            });
            for (path, selector) in starters.chain(ends) {
                if let Some(message) = build_admin::check_selector(&self.snapshot, &task_type, selector) {
                    self.fault(&id, path, message);
                    continue;
                }
                let meets = |a: &&Arc<Agent>| a.reach.may_meet(&task_type.reach);
                if let Selector::Agent(agent) = selector
                    && self.snapshot.agents.get(agent).is_none_or(|a| !meets(&a))
                {
                    let known = self.snapshot.agents.values().filter(meets);
                    let choices = known.map(|a| format!("agent:{}", a.spec.client_id)).collect();
                    self.dangling(
                        &id,
                        path,
                        format!("no agent `{agent}` shares a tenant with this"),
                        choices,
                    );
                }
            }
        }
    }

    fn index_starters(&mut self) {
        for task_type in self.snapshot.task_types().cloned().collect::<Vec<_>>() {
            for selector in &task_type.spec.agents {
                self.snapshot.starters.entry(selector.clone()).or_default().push(task_type.clone());
            }
        }
    }

    fn index_prefixes(&mut self) {
        let prefixed = self.snapshot.issuers.values().filter(|i| !i.spec.subject_prefix.is_empty());
        for issuer in prefixed.cloned().collect::<Vec<_>>() {
            let serves = issuer.reach.only.clone().unwrap_or_else(|| vec![issuer.reach.tenant.clone()]);
            for tenant in serves {
                self.snapshot.prefixed.entry(tenant).or_default().push(issuer.clone());
            }
        }
    }

    /// A tenant object may not take the name of a platform object that serves it.
    fn check_platform_names(&mut self, current: &[Object]) {
        let mut platform: BTreeMap<(ObjectKind, &Name), Reach> = BTreeMap::new();
        for object in current.iter().filter(|o| o.id.tenant.is_system() && o.id.kind != ObjectKind::Tenant) {
            platform.insert((object.id.kind, &object.id.name), Reach::declared(object));
        }
        for object in current.iter().filter(|o| !o.id.tenant.is_system()) {
            let taken = platform.get(&(object.id.kind, &object.id.name));
            if taken.is_some_and(|reach| reach.serves(&object.id.tenant)) {
                self.fault(&object.id, "name", "a platform object that serves this tenant has the same name");
            }
        }
    }
}

/// A box as declared; `path` says where.
struct Declared<'a> {
    scopes: Option<&'a [Scope]>,
    resources: Option<&'a [Name]>,
    details: Option<&'a [Map<String, Value>]>,
    path: String,
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
