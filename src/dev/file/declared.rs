//! The part of `dev.json` that tells what is declared for the demo tenant, and who administers.

use super::super::cast;
use super::super::secrets::Secrets;
use super::{Administrator, AgentClient, ResourceClient, TaskTypeEntry};
use crate::domain::objects::{AgentSpec, Object, ResourceSpec, Spec, TaskTypeSpec};

/// What the demo tenant declares. Clients whose secret was not made here are left out: nobody could use them.
#[derive(Default)]
pub(super) struct Declared {
    pub(super) agents: Vec<AgentClient>,
    pub(super) resources: Vec<ResourceClient>,
    pub(super) task_types: Vec<TaskTypeEntry>,
    pub(super) administrators: Vec<Administrator>,
}

impl Declared {
    pub(super) fn read(objects: &[Object], secrets: &Secrets) -> Self {
        let mut declared = Self { administrators: administrators(objects), ..Self::default() };
        for object in objects.iter().filter(|o| o.id.tenant.as_str() == cast::TENANT) {
            let name = object.id.name.as_str();
            match &object.spec {
                Spec::Agent(spec) => declared.agents.extend(agent(spec, secrets)),
                Spec::Resource(spec) => declared.resources.extend(resource(name, spec, secrets)),
                Spec::TaskType(spec) if !spec.disabled => declared.task_types.push(task_type(name, spec)),
                Spec::TaskType(_)
                | Spec::Tenant(_)
                | Spec::TrustedIssuer(_)
                | Spec::WorkloadIssuer(_)
                | Spec::CertificateAuthority(_)
                | Spec::AuthorizationDetailType(_)
                | Spec::Exception(_)
                | Spec::Administrator(_) => {}
            }
        }
        let place = |order: &[&str], id: &str| order.iter().position(|known| *known == id);
        declared.agents.sort_by_key(|a| place(&cast::AGENTS, &a.client_id));
        declared.resources.sort_by_key(|r| place(&cast::RESOURCES, &r.client_id));
        declared
    }
}

/// The people of the demo who administer, by user name.
fn administrators(objects: &[Object]) -> Vec<Administrator> {
    let of = |object: &Object| {
        let Spec::Administrator(spec) = &object.spec else { return None };
        let person = cast::people().find(|person| spec.subject.as_deref() == Some(person.name))?;
        Some(Administrator { username: person.name.to_owned(), roles: spec.roles.clone() })
    };
    let mut found: Vec<_> = objects.iter().filter_map(of).collect();
    found.sort_by(|a, b| a.username.cmp(&b.username));
    found
}

fn agent(spec: &AgentSpec, secrets: &Secrets) -> Option<AgentClient> {
    Some(AgentClient {
        client_id: spec.client_id.to_string(),
        client_secret: secrets.client(spec.client_id.as_str())?.to_owned(),
        class: spec.class.to_string(),
    })
}

fn resource(name: &str, spec: &ResourceSpec, secrets: &Secrets) -> Option<ResourceClient> {
    let client_id = spec.client_id.as_ref()?;
    Some(ResourceClient {
        name: name.to_owned(),
        uri: spec.uri.to_string(),
        scopes: texts(&spec.scopes),
        client_id: client_id.to_string(),
        client_secret: secrets.client(client_id.as_str())?.to_owned(),
    })
}

fn task_type(name: &str, spec: &TaskTypeSpec) -> TaskTypeEntry {
    TaskTypeEntry {
        name: name.to_owned(),
        scopes: texts(&spec.scopes),
        default_scopes: texts(&spec.default_scopes),
        resources: texts(&spec.resources),
        agents: spec.agents.clone(),
        delegation: spec.delegation.clone(),
        approval: spec.approval.clone(),
    }
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}
