//! The keys, certificates and authorities that objects register: all usable, none private.

use serde_json::Value;

use crate::domain::build::Fault;
use crate::domain::ids::Name;
use crate::domain::objects::{AuthSpec, CertificateName, ObjectKind, ObjectRef};
use crate::domain::snapshot::{Reach, Snapshot, WorkloadIssuer};
use crate::keys::certificate::{Authorities, registered_certificate};
use crate::keys::distinguished::DistinguishedName;
use crate::keys::jwks::JwkSet;

/// Faults of all `actor_jwks` and `auth.jwks`, bundles, authorities and subjects. Unlike an issuer's set, an admin's is held to the word: a key that cannot
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
    for authority in snapshot.certificate_authorities() {
        let id = object(ObjectKind::CertificateAuthority, &authority.reach, &authority.name);
        if let Err(why) = Authorities::of_pem(&authority.spec.certificates) {
            faults.push(of(&id, "spec.certificates", why.to_string()));
        }
    }
    faults.sort_by(|a, b| (&a.object, &a.path).cmp(&(&b.object, &b.path)));
    faults
}

fn object(kind: ObjectKind, reach: &Reach, name: &Name) -> ObjectRef {
    ObjectRef { kind, tenant: reach.tenant.clone(), name: name.clone() }
}

fn own(id: &ObjectRef, auth: &AuthSpec) -> Vec<Fault> {
    let keys = fault(id, "spec.auth.jwks", auth.jwks.as_ref());
    keys.into_iter().chain(certificate(id, auth)).collect()
}

/// A subject that is none would never match, nor would the certificate of another key.
fn certificate(id: &ObjectRef, auth: &AuthSpec) -> Option<Fault> {
    let tls = auth.tls.as_ref()?;
    if let Some(CertificateName::Subject(subject)) = tls.names().next() {
        let why = subject.parse::<DistinguishedName>().err()?;
        return Some(of(id, "spec.auth.tls.subject_dn", why.to_string()));
    }
    let set = JwkSet::parse(auth.jwks.as_ref().filter(|_| tls.self_signed)?.to_string().as_bytes()).ok()?;
    let other = set.keys().iter().find(|key| registered_certificate(key).is_some_and(|ok| !ok))?;
    let key = other.kid().unwrap_or_else(|| other.thumbprint());
    Some(of(id, "spec.auth.jwks", format!("the certificate (`x5c`) of the key `{key}` is not that key's")))
}

/// A bundle may hold keys for other purposes beside those that sign tokens.
fn bundle(id: &ObjectRef, issuer: &WorkloadIssuer) -> Option<Fault> {
    let message = match JwkSet::parse_bundle(issuer.spec.jwks.as_ref()?.to_string().as_bytes()) {
        Ok(set) if set.usable() == 0 => {
            "the set has no key that verifies tokens, and no authority of X.509-SVIDs".to_owned()
        }
        Ok(_) => return None,
        Err(fault) => format!("no usable JWK set: {fault}"),
    };
    Some(of(id, "spec.jwks", message))
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
    Some(of(id, path, message))
}

fn of(object: &ObjectRef, path: &str, message: String) -> Fault {
    Fault { object: object.clone(), path: path.to_owned(), message, choices: Vec::new() }
}
