//! What must hold of those who administer, of the clients that they work through, and of names that the product keeps.

use std::sync::Arc;

use super::build::Fault;
use super::objects::{AdministratorSpec, AgentSpec, ObjectKind, ObjectRef, PrincipalClass, Selector};
use super::snapshot::{Administrator, Agent, Issuer, Snapshot, TaskType};

/// What is wrong: path, message, and what could have been meant.
pub(super) type AdminFault = (String, String, Vec<String>);

fn told(path: &str, message: impl Into<String>) -> AdminFault {
    (path.to_owned(), message.into(), Vec::new())
}

/// Task types and resources may not be called as the product calls its own: under such a name policy and lockdown would spare
/// them.
pub(super) fn check_name(id: &ObjectRef) -> Option<AdminFault> {
    let kept = matches!(id.kind, ObjectKind::TaskType | ObjectKind::Resource) && id.name.is_reserved();
    kept.then(|| told("name", "`taskgrant` and names that begin with `taskgrant.` are the product's own"))
}

/// A client of the reserved class belongs to the platform, and says through which clients people sign in for it.
pub(super) fn check_console(id: &ObjectRef, spec: &AgentSpec) -> Vec<AdminFault> {
    let mut faults = Vec::new();
    if !spec.class.is_console() {
        return faults;
    }
    if !id.tenant.is_system() {
        faults.push(told("spec.class", "the class is reserved for objects of the tenant `system`"));
    }
    if spec.upstream_clients.is_empty() {
        faults.push(told("spec.upstream_clients", "name the client through which admins sign in"));
    }
    let unnamed = spec.upstream_clients.iter().position(|upstream| upstream.client.is_empty());
    if let Some(index) = unnamed {
        faults.push(told(&format!("spec.upstream_clients[{index}].client"), "it is empty"));
    }
    if spec.actor_jwks.is_some() {
        faults.push(told("spec.actor_jwks", "a console has no instances: people work through it"));
    }
    faults
}

/// A session that an agent may hold proves no person: what people sign in with for a console is no other agent's.
pub(super) fn check_upstream_clients(snapshot: &Snapshot) -> Vec<Fault> {
    let consoles: Vec<&Arc<Agent>> = snapshot.agents().filter(|a| a.spec.class.is_console()).collect();
    let mut agents: Vec<&Arc<Agent>> = snapshot.agents().filter(|a| !a.spec.class.is_console()).collect();
    agents.sort_by_key(|agent| &agent.spec.client_id);
    let mut faults = Vec::new();
    for agent in agents {
        for (index, upstream) in agent.spec.upstream_clients.iter().enumerate() {
            if let Some(console) = consoles.iter().find(|c| c.spec.upstream_clients.contains(upstream)) {
                let console = &console.spec.client_id;
                faults.push(Fault {
                    object: ObjectRef {
                        kind: ObjectKind::Agent,
                        tenant: agent.reach.tenant.clone(),
                        name: agent.name.clone(),
                    },
                    path: format!("spec.upstream_clients[{index}]"),
                    message: format!(
                        "admins sign in with this client for the console `{console}`: no agent may hold its sessions"
                    ),
                    choices: Vec::new(),
                });
            }
        }
    }
    faults
}

/// A console starts no task type that is declared, and is handed nothing.
pub(super) fn check_selector(
    snapshot: &Snapshot,
    task_type: &TaskType,
    selector: &Selector,
) -> Option<String> {
    let console = match selector {
        Selector::Class(class) => class.is_console(),
        Selector::Agent(id) => snapshot.agent(id).is_some_and(|agent| agent.spec.class.is_console()),
    };
    let misused = console && !task_type.is_built_in();
    misused.then(|| "clients of the class `taskgrant:console` are for the admin API alone".to_owned())
}

/// Takes in an administrator. Its issuer is of the platform, since an issuer of a tenant could name anybody; and its subjects are
/// people whose sessions no agent holds by default.
pub(super) fn add(snapshot: &mut Snapshot, id: &ObjectRef, spec: &AdministratorSpec) -> Vec<AdminFault> {
    let mut faults = Vec::new();
    let mut fault = |path: &str, message: &str| faults.push(told(path, message));
    if !id.tenant.is_system() {
        fault("tenant", "administrators are of the platform: the tenant is `system`");
    }
    if spec.roles.is_empty() {
        fault("spec.roles", "name at least one of `admin`, `approve` and `audit`");
    }
    let texts = [("spec.subject", &spec.subject), ("spec.group", &spec.group)];
    for (path, _) in texts.iter().filter(|(_, text)| text.as_deref() == Some("")) {
        fault(path, "it is empty");
    }
    if spec.subject.is_some() == spec.group.is_some() {
        fault("spec.subject", "exactly one of `subject` and `group` is given");
    }
    if let Some(tenant) = spec.session_tenant.as_ref().filter(|t| snapshot.tenant(t).is_none()) {
        let message = format!("no tenant `{tenant}` is declared");
        let choices = snapshot.tenants().map(ToString::to_string).collect();
        faults.push(("spec.session_tenant".to_owned(), message, choices));
    }
    let of_platform = |issuer: &&Arc<Issuer>| issuer.reach.tenant.is_system();
    if let Some(issuer) = snapshot.issuer(&spec.issuer).filter(of_platform) {
        faults.extend(check_issuer(issuer, spec));
    } else {
        let known = snapshot.issuers().filter(of_platform);
        let choices = known.map(|issuer| issuer.spec.issuer.clone()).collect();
        let message = format!("no trusted issuer `{}` of the tenant `system` is declared", spec.issuer);
        faults.push(("spec.issuer".to_owned(), message, choices));
    }
    snapshot.administrators.push(Arc::new(Administrator { name: id.name.clone(), spec: spec.clone() }));
    faults
}

fn check_issuer(issuer: &Issuer, spec: &AdministratorSpec) -> Vec<AdminFault> {
    let mut faults = Vec::new();
    if issuer.spec.principals == PrincipalClass::Workload {
        faults.push(told("spec.issuer", "its subjects are workloads, and people administer"));
    }
    if issuer.spec.any_agent {
        let message = "any agent may hold its sessions (`any_agent`), so that they prove no person";
        faults.push(told("spec.issuer", message));
    }
    if spec.group.is_some() && spec.session_tenant.is_none() && issuer.spec.tenant_claim.is_some() {
        let message =
            "the issuer tells of several tenants, and each of them could call a group so: say which is meant";
        faults.push(told("spec.session_tenant", message));
    }
    faults
}

#[cfg(test)]
#[path = "build_admin_tests.rs"]
mod tests;
