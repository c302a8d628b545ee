//! The keys that agents and resources register, for themselves and for instances: all usable, none private.

use serde_json::Value;

use crate::domain::build::Fault;
use crate::domain::ids::Name;
use crate::domain::objects::{AuthSpec, ObjectKind, ObjectRef};
use crate::domain::snapshot::{Reach, Snapshot, WorkloadIssuer};
use crate::keys::jwks::JwkSet;

/// Faults of all `actor_jwks` and `auth.jwks`. Unlike an issuer's set, an admin's is held to the word: a key that cannot
/// be used is a mistake, and a private one must not reach the database.
pub(super) fn faults(snapshot: &Snapshot) -> Vec<Fault> {
    let mut faults = Vec::new();
    for agent in snapshot.agents() {
        let id = object(ObjectKind::Agent, &agent.reach, &agent.name);
        faults.extend(fault(&id, "spec.actor_jwks", agent.spec.actor_jwks.as_ref()));
        faults.extend(own(&id, &agent.spec.auth));
    }
    for resource in snapshot.resources() {
        let id = object(ObjectKind::Resource, &resource.reach, &resource.name);
        faults.extend(own(&id, &resource.spec.auth));
    }
    for issuer in snapshot.workload_issuers() {
        let id = object(ObjectKind::WorkloadIssuer, &issuer.reach, &issuer.name);
        faults.extend(bundle(&id, issuer));
    }
    faults.sort_by(|a, b| (&a.object, &a.path).cmp(&(&b.object, &b.path)));
    faults
}

fn object(kind: ObjectKind, reach: &Reach, name: &Name) -> ObjectRef {
    ObjectRef { kind, tenant: reach.tenant.clone(), name: name.clone() }
}

fn own(id: &ObjectRef, auth: &AuthSpec) -> Option<Fault> {
    fault(id, "spec.auth.jwks", auth.jwks.as_ref())
}

/// A bundle may hold keys for other purposes beside those that sign tokens.
fn bundle(id: &ObjectRef, issuer: &WorkloadIssuer) -> Option<Fault> {
    let message = match JwkSet::parse_bundle(issuer.spec.jwks.as_ref()?.to_string().as_bytes()) {
        Ok(set) if set.keys().is_empty() => "the set has no key that verifies tokens".to_owned(),
        Ok(_) => return None,
        Err(fault) => format!("no usable JWK set: {fault}"),
    };
    Some(Fault { object: id.clone(), path: "spec.jwks".to_owned(), message, choices: Vec::new() })
}

fn fault(id: &ObjectRef, path: &str, keys: Option<&Value>) -> Option<Fault> {
    let message = match JwkSet::parse(keys?.to_string().as_bytes()) {
        Ok(set) => match set.skipped().first() {
            Some(skipped) => format!("a key of the set cannot be used: {skipped}"),
            None if set.keys().is_empty() => "the set has no key: leave it out".to_owned(),
            None => return None,
        },
        Err(fault) => format!("no usable JWK set: {fault}"),
    };
    Some(Fault { object: id.clone(), path: path.to_owned(), message, choices: Vec::new() })
}
