//! The keys that agents register for their instances: all usable, none private.

use crate::domain::build::Fault;
use crate::domain::objects::{ObjectKind, ObjectRef};
use crate::domain::snapshot::{Agent, Snapshot};
use crate::keys::jwks::JwkSet;

/// Faults of all `actor_jwks`. Unlike an issuer's set, an admin's is held to the word: a key that cannot be used is a
/// mistake, and a private one must not reach the database.
pub(super) fn faults(snapshot: &Snapshot) -> Vec<Fault> {
    let mut faults: Vec<Fault> = snapshot.agents().filter_map(|agent| fault(agent)).collect();
    faults.sort_by(|a, b| a.object.cmp(&b.object));
    faults
}

fn fault(agent: &Agent) -> Option<Fault> {
    let keys = agent.spec.actor_jwks.as_ref()?;
    let message = match JwkSet::parse(keys.to_string().as_bytes()) {
        Ok(set) => match set.skipped().first() {
            Some(skipped) => format!("a key of the set cannot be used: {skipped}"),
            None if set.keys().is_empty() => "the set has no key: leave `actor_jwks` out".to_owned(),
            None => return None,
        },
        Err(fault) => format!("no usable JWK set: {fault}"),
    };
    let object =
        ObjectRef { kind: ObjectKind::Agent, tenant: agent.reach.tenant.clone(), name: agent.name.clone() };
    Some(Fault { object, path: "spec.actor_jwks".to_owned(), message, choices: Vec::new() })
}
