//! The snapshot: all declarative objects of one moment, checked against one another and resolved.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::ceiling::Bound;
use super::chain::Chain;
use super::details::{DetailRules, Details};
use super::ids::{ClientId, Name};
use super::objects::{
    AdministratorSpec, AgentSpec, AuthorizationDetailTypeSpec, CertificateAuthoritySpec, ConditionSpec,
    ExceptionSpec, Object, ResourceSpec, Role, Selector, Spec, TaskTypeSpec, TenantSpec, TrustedIssuerSpec,
    WorkloadIssuerSpec, listed,
};
use super::principal::Principal;
use super::record::TokenRecord;
use super::resource::ResourceUri;
use super::scope::ScopeSet;

/// Whom an object serves: one tenant, or for a platform object all tenants or those it lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The owning tenant.
    pub tenant: Name,
    /// For a platform object: the tenants it serves, all when `None`.
    pub only: Option<Vec<Name>>,
}

impl Reach {
    /// Whom an object says it serves.
    pub(super) fn declared(object: &Object) -> Self {
        let only = match &object.spec {
            Spec::TrustedIssuer(spec) => spec.tenants.clone(),
            Spec::WorkloadIssuer(spec) => spec.tenants.clone(),
            Spec::CertificateAuthority(spec) => spec.tenants.clone(),
            Spec::AuthorizationDetailType(spec) => spec.tenants.clone(),
            Spec::Resource(spec) => spec.tenants.clone(),
            Spec::Agent(spec) => spec.tenants.clone(),
            Spec::TaskType(spec) => spec.tenants.clone(),
            Spec::Tenant(_) | Spec::Exception(_) | Spec::Administrator(_) => None,
        };
        Self { tenant: object.id.tenant.clone(), only }
    }

    /// Whether the object serves `tenant` (L10).
    pub fn serves(&self, tenant: &Name) -> bool {
        if self.tenant.is_system() {
            self.only.as_ref().is_none_or(|list| list.contains(tenant))
        } else {
            self.tenant == *tenant
        }
    }

    /// Whether this object serves every tenant that one of reach `outer` serves.
    pub(super) fn covers(&self, outer: &Self) -> bool {
        match (&outer.only, outer.tenant.is_system()) {
            (Some(list), true) => list.iter().all(|tenant| self.serves(tenant)),
            (None, true) => self.tenant.is_system() && self.only.is_none(),
            (_, false) => self.serves(&outer.tenant),
        }
    }

    /// Whether there may be a tenant that both serve.
    pub(super) fn may_meet(&self, other: &Self) -> bool {
        match (self.tenant.is_system(), other.tenant.is_system()) {
            (false, _) => other.serves(&self.tenant),
            (_, false) => self.serves(&other.tenant),
            (true, true) => match (&self.only, &other.only) {
                (Some(a), Some(b)) => a.iter().any(|tenant| b.contains(tenant)),
                (None, _) | (_, None) => true,
            },
        }
    }
}

/// An agent in force.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Whom it serves.
    pub reach: Reach,
    /// The object's name.
    pub name: Name,
    /// What was declared.
    pub spec: AgentSpec,
}

/// A resource in force.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Whom it serves.
    pub reach: Reach,
    /// The object's name, also a logical name for `audience`.
    pub name: Name,
    /// The scopes it lists.
    pub scopes: ScopeSet,
    /// What was declared.
    pub spec: ResourceSpec,
}

impl Resource {
    /// Whether it comes with the product: then nothing that is declared leads to it.
    pub fn is_built_in(&self) -> bool {
        self.name.is_built_in(&self.reach.tenant)
    }
}

/// One version of a task type, resolved.
#[derive(Clone, Debug)]
pub struct TaskType {
    /// Whom it serves.
    pub reach: Reach,
    /// Its name.
    pub name: Name,
    /// Its version.
    pub version: i64,
    /// The ceiling: all three dimensions named.
    pub bound: Arc<Bound>,
    /// Its resources, with the scopes that each lists.
    pub listed: Arc<BTreeMap<ResourceUri, ScopeSet>>,
    /// Scopes when a root request names none.
    pub default_scopes: ScopeSet,
    /// The allowed hand-overs.
    pub edges: Vec<Edge>,
    /// What was declared.
    pub spec: TaskTypeSpec,
}

impl TaskType {
    /// `name@version`, as the token carries it.
    pub fn label(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// Whether it comes with the product.
    pub fn is_built_in(&self) -> bool {
        self.name.is_built_in(&self.reach.tenant)
    }

    /// The role in which it opens the admin API, if it is built in.
    pub fn role(&self) -> Option<Role> {
        Role::of_task_type(self.name.as_str()).filter(|_| self.is_built_in())
    }

    /// Whether an agent of this id and class may start the task. What is built in, consoles alone start, and nothing else.
    pub fn may_start(&self, agent: &Agent) -> bool {
        self.is_built_in() == agent.spec.class.is_console()
            && self.spec.agents.iter().any(|s| s.selects(&agent.spec.client_id, &agent.spec.class))
    }

    /// The authorization details of the ceiling.
    pub fn details(&self) -> Details {
        self.bound.details.clone().unwrap_or_default()
    }

    /// The hand-overs allowed from one agent to another.
    pub fn edges_between<'a>(&'a self, from: &'a Agent, to: &'a Agent) -> impl Iterator<Item = &'a Edge> {
        let apart = from.spec.class.is_console() || to.spec.class.is_console();
        let leads_to = move |e: &Edge| !apart && e.to.selects(&to.spec.client_id, &to.spec.class);
        self.edges.iter().filter(move |e| e.may_leave(from) && leads_to(e))
    }
}

/// One allowed hand-over, resolved.
#[derive(Clone, Debug)]
pub struct Edge {
    /// From whom; anybody in the task when `None`.
    pub from: Option<Selector>,
    /// To whom.
    pub to: Selector,
    /// What may be handed over.
    pub bound: Arc<Bound>,
}

impl Edge {
    /// Whether `agent` may hand over by it.
    pub fn may_leave(&self, agent: &Agent) -> bool {
        self.from.as_ref().is_none_or(|s| s.selects(&agent.spec.client_id, &agent.spec.class))
    }
}

/// A trusted issuer in force.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// Whom it serves.
    pub reach: Reach,
    /// The object's name.
    pub name: Name,
    /// The object's version: a cached signature check is good for this version only.
    pub version: i64,
    /// The entitlement rules, resolved.
    pub entitlements: Vec<Entitlement>,
    /// Those of its principals who administer.
    pub administrators: Vec<Arc<Administrator>>,
    /// What was declared.
    pub spec: TrustedIssuerSpec,
}

impl Issuer {
    /// The boxes that `facts` entitle to: they add up, and none means nothing (L2).
    pub fn entitled(&self, facts: &serde_json::Map<String, serde_json::Value>) -> Vec<Arc<Bound>> {
        let matches = |e: &&Entitlement| e.when.as_ref().is_none_or(|c| c.holds(facts));
        self.entitlements.iter().filter(matches).map(|e| e.bound.clone()).collect()
    }

    /// The roles in which `principal` of it administers, whose session is of `tenant` and says `facts`: they add up, and none means
    /// nothing.
    pub fn roles(
        &self,
        tenant: &Name,
        principal: &Principal,
        facts: &serde_json::Map<String, serde_json::Value>,
    ) -> BTreeSet<Role> {
        if principal.iss != self.spec.issuer {
            return BTreeSet::new();
        }
        let groups = listed(facts, &self.spec.groups_claim);
        let is = |administrator: &&Arc<Administrator>| administrator.is(tenant, &principal.sub, &groups);
        self.administrators.iter().filter(is).flat_map(|a| a.spec.roles.iter().copied()).collect()
    }

    /// The claims that must be kept with a task, so that entitlements and policy can be recomputed later.
    pub fn kept_claims(&self) -> impl Iterator<Item = &str> {
        let conditions = self.entitlements.iter().filter_map(|e| e.when.as_ref()).map(|c| c.claim.as_str());
        let policy = [self.spec.groups_claim.as_str(), self.spec.roles_claim.as_str()];
        conditions.chain(self.spec.facts.iter().map(String::as_str)).chain(policy)
    }
}

/// A workload issuer in force.
#[derive(Clone, Debug)]
pub struct WorkloadIssuer {
    /// Whom it serves.
    pub reach: Reach,
    /// The object's name.
    pub name: Name,
    /// What was declared.
    pub spec: WorkloadIssuerSpec,
}

/// Certificate authorities in force.
#[derive(Clone, Debug)]
pub struct CertificateAuthority {
    /// Whom the object serves.
    pub reach: Reach,
    /// The object's name.
    pub name: Name,
    /// What was declared.
    pub spec: CertificateAuthoritySpec,
}

/// One entitlement rule, resolved.
#[derive(Clone, Debug)]
pub struct Entitlement {
    /// Whom it is for; everybody when `None`.
    pub when: Option<ConditionSpec>,
    /// What they may delegate.
    pub bound: Arc<Bound>,
}

/// An authorization-detail type in force.
#[derive(Clone, Debug)]
pub struct DetailType {
    /// Whom it serves.
    pub reach: Reach,
    /// Its name, the `type` of a detail.
    pub name: Name,
    /// What was declared.
    pub spec: AuthorizationDetailTypeSpec,
}

/// An exception as declared.
#[derive(Clone, Debug)]
pub struct Exception {
    /// Whom it serves.
    pub reach: Reach,
    /// Its name.
    pub name: Name,
    /// What was declared.
    pub spec: ExceptionSpec,
}

/// An administrator as declared.
#[derive(Clone, Debug)]
pub struct Administrator {
    /// The object's name.
    pub name: Name,
    /// What was declared.
    pub spec: AdministratorSpec,
}

impl Administrator {
    /// Whether this is the subject `sub` of its issuer, a member of these groups, with a session of `tenant`.
    fn is(&self, tenant: &Name, sub: &str, groups: &[String]) -> bool {
        let AdministratorSpec { subject, group, session_tenant, .. } = &self.spec;
        let meant = match (subject, group) {
            (Some(subject), None) => subject == sub,
            (None, Some(group)) => groups.contains(group),
            (None, None) | (Some(_), Some(_)) => false,
        };
        meant && session_tenant.as_ref().is_none_or(|wanted| wanted == tenant)
    }
}

/// All versions of one task type that a live task may stand on.
#[derive(Clone, Debug, Default)]
pub struct TaskTypeVersions {
    /// The version in force; `None` when the object was deleted.
    pub current: Option<Arc<TaskType>>,
    /// Earlier versions, by number.
    pub earlier: BTreeMap<i64, Arc<TaskType>>,
}

/// All declarative objects of one moment: immutable, replaced whole.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(super) tenants: HashMap<Name, TenantSpec>,
    pub(super) agents: HashMap<ClientId, Arc<Agent>>,
    pub(super) resources: HashMap<String, Arc<Resource>>,
    pub(super) resource_names: HashMap<Name, Arc<Resource>>,
    pub(super) resource_clients: HashMap<ClientId, Arc<Resource>>,
    pub(super) issuers: HashMap<String, Arc<Issuer>>,
    pub(super) workload_issuers: HashMap<String, Arc<WorkloadIssuer>>,
    /// Which client a workload is: by the issuer's `issuer`, then by subject.
    pub(super) workloads: HashMap<String, HashMap<String, ClientId>>,
    /// By owner and name.
    pub(super) authorities: BTreeMap<(Name, Name), Arc<CertificateAuthority>>,
    pub(super) detail_types: Vec<Arc<DetailType>>,
    pub(super) rules: HashMap<Name, Arc<DetailRules>>,
    pub(super) task_types: BTreeMap<(Name, Name), TaskTypeVersions>,
    pub(super) exceptions: Vec<Exception>,
    pub(super) administrators: Vec<Arc<Administrator>>,
    pub(super) starters: BTreeMap<Selector, Vec<Arc<TaskType>>>,
    /// Issuers with a subject prefix, by the tenant they serve; under `system` those that serve all.
    pub(super) prefixed: HashMap<Name, Vec<Arc<Issuer>>>,
}

impl Snapshot {
    /// A tenant by name.
    pub fn tenant(&self, name: &Name) -> Option<&TenantSpec> {
        self.tenants.get(name)
    }

    /// The names of all tenants.
    pub fn tenants(&self) -> impl Iterator<Item = &Name> {
        self.tenants.keys()
    }

    /// Whether an agent or a resource is called so: no principal may be (DESIGN §4).
    pub fn is_client(&self, subject: &str) -> bool {
        subject
            .parse::<ClientId>()
            .is_ok_and(|id| self.agent(&id).is_some() || self.resource_client(&id).is_some())
    }

    /// An agent by client id, whatever its tenant.
    pub fn agent(&self, id: &ClientId) -> Option<&Arc<Agent>> {
        self.agents.get(id)
    }

    /// The agent with this client id, if it is not disabled and serves `tenant`.
    pub fn standing_agent(&self, id: &str, tenant: &Name) -> Option<&Arc<Agent>> {
        let agent = id.parse().ok().and_then(|id| self.agent(&id));
        agent.filter(|agent| !agent.spec.disabled && agent.reach.serves(tenant))
    }

    /// Whether the token's issuer, task type and every agent of ours in its chain are there and not disabled (T20).
    pub fn stands(&self, token: &TokenRecord, own_issuer: &str) -> bool {
        let tenant = &token.tenant;
        let issuer = self.issuer(&token.principal.iss).is_some_and(|issuer| issuer.reach.serves(tenant));
        let task_type = self.task_type(tenant, &token.task_type);
        let task_type =
            task_type.is_some_and(|t| t.reach.tenant == token.task_type_tenant && !t.spec.disabled);
        let agents = Chain::from_json(&token.chain).is_ok_and(|chain| {
            let mut own = chain.actors().filter(|actor| actor.iss == own_issuer);
            own.all(|actor| self.standing_agent(&actor.sub, tenant).is_some())
        });
        issuer && task_type && agents
    }

    /// A resource by its own client id.
    pub fn resource_client(&self, id: &ClientId) -> Option<&Arc<Resource>> {
        self.resource_clients.get(id)
    }

    /// A resource that serves `tenant`, by URI; scheme and host are folded.
    pub fn resource(&self, tenant: &Name, uri: &ResourceUri) -> Option<&Arc<Resource>> {
        self.resources.get(&uri.key()).filter(|r| r.reach.serves(tenant))
    }

    /// A resource that serves `tenant`, by logical name.
    pub fn resource_named(&self, tenant: &Name, name: &Name) -> Option<&Arc<Resource>> {
        self.resource_names.get(name).filter(|r| r.reach.serves(tenant))
    }

    /// All resources.
    pub fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    /// All agents.
    pub fn agents(&self) -> impl Iterator<Item = &Arc<Agent>> {
        self.agents.values()
    }

    /// All trusted issuers.
    pub fn issuers(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        self.issuers.values()
    }

    /// A trusted issuer by its `iss`.
    pub fn issuer(&self, iss: &str) -> Option<&Arc<Issuer>> {
        self.issuers.get(iss)
    }

    /// The trusted issuer whose sessions the security events of the transmitter `iss` end.
    pub fn transmitter(&self, iss: &str) -> Option<&Arc<Issuer>> {
        self.issuers.values().find(|issuer| issuer.spec.event_issuer() == Some(iss))
    }

    /// All workload issuers.
    pub fn workload_issuers(&self) -> impl Iterator<Item = &Arc<WorkloadIssuer>> {
        self.workload_issuers.values()
    }

    /// A workload issuer by its `issuer`. No trusted issuer has the same (T33).
    pub fn workload_issuer(&self, issuer: &str) -> Option<&Arc<WorkloadIssuer>> {
        self.workload_issuers.get(issuer)
    }

    /// The client that the workload `subject` of `issuer` is mapped to.
    pub fn workload_client(&self, issuer: &str, subject: &str) -> Option<&ClientId> {
        self.workloads.get(issuer)?.get(subject)
    }

    /// All certificate authorities.
    pub fn certificate_authorities(&self) -> impl Iterator<Item = &Arc<CertificateAuthority>> {
        self.authorities.values()
    }

    /// The certificate authorities `name` that may vouch for a client that `reach`: its tenant's own or the platform's, and
    /// serving every tenant that it does (T42).
    pub fn authority_for(&self, reach: &Reach, name: &Name) -> Option<&Arc<CertificateAuthority>> {
        [reach.tenant.clone(), Name::system()]
            .into_iter()
            .filter_map(|owner| self.authorities.get(&(owner, name.clone())))
            .find(|found| found.reach.covers(reach))
    }

    /// The subject prefixes, none of them empty, of the issuers that serve `tenant`.
    pub fn subject_prefixes(&self, tenant: &Name) -> impl Iterator<Item = &str> {
        let serving = [self.prefixed.get(tenant), self.prefixed.get(&Name::system())];
        serving.into_iter().flatten().flatten().map(|issuer| issuer.spec.subject_prefix.as_str())
    }

    /// The field rules of all authorization-detail types that serve `tenant`.
    pub fn detail_rules(&self, tenant: &Name) -> Arc<DetailRules> {
        self.rules.get(tenant).cloned().unwrap_or_default()
    }

    /// All authorization-detail types.
    pub fn detail_types(&self) -> &[Arc<DetailType>] {
        &self.detail_types
    }

    /// The task type in force under `name` for `tenant`: its own, else the platform's.
    pub fn task_type(&self, tenant: &Name, name: &Name) -> Option<&Arc<TaskType>> {
        [tenant.clone(), Name::system()]
            .into_iter()
            .find_map(|owner| self.task_types.get(&(owner, name.clone()))?.current.as_ref())
            .filter(|t| t.reach.serves(tenant))
    }

    /// The task types in force that `agent` may start for `tenant`, by name; disabled ones are left out.
    pub fn startable(&self, tenant: &Name, agent: &Agent) -> BTreeMap<&Name, &Arc<TaskType>> {
        let selectors =
            [Selector::Class(agent.spec.class.clone()), Selector::Agent(agent.spec.client_id.clone())];
        let listed = selectors.iter().filter_map(|s| self.starters.get(s)).flatten();
        let usable = listed.filter(|t| !t.spec.disabled && t.reach.serves(tenant) && t.may_start(agent));
        usable.map(|t| (&t.name, t)).collect()
    }

    /// One version of the task type that `owner` owns, in force or earlier.
    pub fn task_type_version(&self, owner: &Name, name: &Name, version: i64) -> Option<&Arc<TaskType>> {
        let versions = self.task_types.get(&(owner.clone(), name.clone()))?;
        versions.current.as_ref().filter(|t| t.version == version).or_else(|| versions.earlier.get(&version))
    }

    /// All task types in force.
    pub fn task_types(&self) -> impl Iterator<Item = &Arc<TaskType>> {
        self.task_types.values().filter_map(|v| v.current.as_ref())
    }

    /// All who administer.
    pub fn administrators(&self) -> &[Arc<Administrator>] {
        &self.administrators
    }

    /// The exceptions that serve `tenant`, expired ones included.
    pub fn exceptions<'a>(&'a self, tenant: &'a Name) -> impl Iterator<Item = &'a Exception> {
        self.exceptions.iter().filter(move |e| e.reach.serves(tenant))
    }
}
