//! What comes with the product and is declared by nobody: the admin API as a resource, and the task types that open it
//! (DESIGN §5, §9).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::NaiveDate;

use super::ceiling::Bound;
use super::details::Details;
use super::ids::{AgentClass, Name};
use super::objects::{
    ApprovalSpec, AuthSpec, DelegationSpec, Labels, LifetimeSpec, Owner, ResourceSpec, Role, Selector,
    TaskTypeSpec, TokenLifetimeSpec,
};
use super::resource::ResourceUri;
use super::scope::{Scope, ScopeSet};
use super::snapshot::{Reach, Resource, Snapshot, TaskType, TaskTypeVersions};

/// Name of the admin API among the resources.
const ADMIN_API: &str = "taskgrant.admin-api";
/// Seconds that a token for the admin API lives.
const TOKEN_LIFETIME: u32 = 600;
/// Seconds that the task of such a token lives.
const TASK_LIFETIME: u32 = 900;
/// The only version there is of a built-in task type: another one would be another product.
const VERSION: i64 = 1;

/// The member of our metadata that names the URL of the admin API: by it `taskgrant login` knows the server that is meant from one that
/// only says that it is of this issuer.
pub const ADMIN_ENDPOINT: &str = "taskgrant_admin_endpoint";

/// The URI of the admin API of the server whose `iss` is `own_issuer`: the `aud` of tokens for it, wherever it listens.
pub fn admin_uri(own_issuer: &str) -> Option<ResourceUri> {
    format!("{own_issuer}/admin").parse().ok()
}

/// Puts the built-in objects into a snapshot that is being built, before any declared one.
pub(super) fn install(snapshot: &mut Snapshot, own_issuer: &str) {
    let Some(api) = admin_uri(own_issuer).and_then(admin_api).map(Arc::new) else { return };
    for task_type in Role::ALL.into_iter().filter_map(|role| task_type(role, &api)) {
        let key = (Name::system(), task_type.name.clone());
        let versions = TaskTypeVersions { current: Some(Arc::new(task_type)), ..TaskTypeVersions::default() };
        snapshot.task_types.insert(key, versions);
    }
    snapshot.resources.insert(api.spec.uri.key(), api.clone());
    snapshot.resource_names.insert(api.name.clone(), api);
}

impl Snapshot {
    /// The admin API, as the resource that its tokens are for.
    pub fn admin_api(&self) -> Option<&Arc<Resource>> {
        self.resource_names.get(&ADMIN_API.parse().ok()?).filter(|api| api.is_built_in())
    }
}

fn all() -> Reach {
    Reach { tenant: Name::system(), only: None }
}

fn admin_api(uri: ResourceUri) -> Option<Resource> {
    let scopes: Vec<Scope> = Role::ALL.into_iter().filter_map(scope).collect();
    Some(Resource {
        reach: all(),
        name: ADMIN_API.parse().ok()?,
        scopes: scopes.iter().cloned().collect(),
        spec: ResourceSpec {
            uri,
            names: Vec::new(),
            scopes,
            client_id: None,
            auth: AuthSpec::default(),
            tenants: None,
        },
    })
}

fn scope(role: Role) -> Option<Scope> {
    role.task_type().parse().ok()
}

fn task_type(role: Role, api: &Resource) -> Option<TaskType> {
    let (name, scope): (Name, Scope) = (role.task_type().parse().ok()?, scope(role)?);
    let (scopes, uri): (ScopeSet, _) = ([scope.clone()].into_iter().collect(), api.spec.uri.clone());
    let bound = Bound {
        scopes: Some(scopes.clone()),
        resources: Some(BTreeSet::from([uri.clone()])),
        details: Some(Details::default()),
    };
    Some(TaskType {
        reach: all(),
        name,
        version: VERSION,
        bound: Arc::new(bound),
        listed: Arc::new(BTreeMap::from([(uri, api.scopes.clone())])),
        default_scopes: scopes,
        edges: Vec::new(),
        spec: spec(role, scope, &api.name),
    })
}

fn spec(role: Role, scope: Scope, api: &Name) -> TaskTypeSpec {
    TaskTypeSpec {
        description: format!("The admin API in the role `{role}`; part of the product"),
        owner: Owner::Group("taskgrant".to_owned()),
        contact: "the maintainers of the product".to_owned(),
        review_by: NaiveDate::MAX,
        labels: Labels::default(),
        agents: vec![Selector::Class(AgentClass::console())],
        scopes: vec![scope.clone()],
        default_scopes: vec![scope],
        resources: vec![api.clone()],
        authorization_details: Vec::new(),
        lifetime: LifetimeSpec {
            token: TokenLifetimeSpec { default: TOKEN_LIFETIME, max: TOKEN_LIFETIME },
            task: TASK_LIFETIME,
        },
        delegation: DelegationSpec::default(),
        approval: ApprovalSpec::default(),
        disabled: false,
        tenants: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_has_its_task_type_with_one_scope_of_the_admin_api() {
        let mut snapshot = Snapshot::default();
        install(&mut snapshot, "https://tg.example/t1");
        let api = snapshot.admin_api().unwrap();
        assert_eq!(api.spec.uri.as_str(), "https://tg.example/t1/admin");
        assert_eq!(snapshot.task_types().count(), Role::ALL.len());
        for role in Role::ALL {
            let name: Name = role.task_type().parse().unwrap();
            let task_type = snapshot.task_type(&"acme".parse().unwrap(), &name).unwrap();
            assert_eq!(task_type.role(), Some(role));
            assert_eq!(task_type.default_scopes.to_string(), role.task_type());
            assert!(task_type.bound.allows(&api.spec.uri, &scope(role).unwrap()));
            assert!(api.scopes.contains(&scope(role).unwrap()));
            let other: ResourceUri = "https://tg.example/t1".parse().unwrap();
            assert!(!task_type.bound.allows(&other, &scope(role).unwrap()));
        }
    }
}
