//! What must hold of a trusted issuer by itself.

use std::sync::Arc;

use super::build::Fault;
use super::build_logout;
use super::ids::Name;
use super::objects::{ObjectKind, ObjectRef, TrustedIssuerSpec};
use super::snapshot::{Issuer, Snapshot};

/// Algorithms a trusted issuer may use; `none` and HMAC are not among them (JW-01).
const ALGORITHMS: [&str; 9] =
    ["ES256", "ES384", "EdDSA", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];

/// Faults of the issuer's own members, as (path, message).
pub(super) fn check(spec: &TrustedIssuerSpec, own_issuer: &str) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let mut fault = |path: &str, message: &str| faults.push((path.to_owned(), message.to_owned()));
    if spec.issuer == own_issuer {
        fault("spec.issuer", "this server's own issuer is never a trusted issuer");
    }
    if !spec.issuer.starts_with("https://") && !spec.issuer.starts_with("http://") {
        fault("spec.issuer", "an issuer is an https URL");
    }
    if spec.accept.is_empty() {
        fault("spec.accept", "needs at least one kind of session token");
    }
    if spec.accept.iter().any(|a| a.audience.is_empty() || a.typ.is_empty()) {
        fault("spec.accept", "each kind needs an `audience` and at least one `typ`");
    }
    if spec.max_session_age == 0 {
        fault("spec.max_session_age", "at least 1 second");
    }
    faults.extend(check_algorithms("spec.algorithms", &spec.algorithms));
    faults.extend(build_logout::check(spec, own_issuer));
    faults
}

/// Faults of a list of algorithms: all known, none of them symmetric, and at least one (JW-01).
pub(super) fn check_algorithms(path: &str, algorithms: &[String]) -> Vec<(String, String)> {
    if algorithms.is_empty() {
        return vec![(path.to_owned(), "needs at least one algorithm".to_owned())];
    }
    let unknown = algorithms.iter().enumerate().filter(|(_, name)| !ALGORITHMS.contains(&name.as_str()));
    let told = |(index, name): (usize, &String)| {
        (format!("{path}[{index}]"), format!("`{name}` is not one of {}", ALGORITHMS.join(", ")))
    };
    unknown.map(told).collect()
}

/// An issuer of a tenant yields that tenant only; a platform issuer says how the tenant is found (L10).
pub(super) fn check_tenancy(spec: &TrustedIssuerSpec, tenant: &Name) -> Option<(String, String)> {
    let ways = usize::from(spec.tenant_claim.is_some()) + usize::from(spec.fixed_tenant.is_some());
    let path = "spec.tenant_claim".to_owned();
    match (tenant.is_system(), ways) {
        (true, 1) | (false, 0) => None,
        (true, _) => Some((
            path,
            "a platform issuer needs exactly one of `tenant_claim` and `fixed_tenant`".to_owned(),
        )),
        (false, _) => {
            Some((path, "an issuer of a tenant yields that tenant only: leave both ways out".to_owned()))
        }
    }
}

/// Among the issuers that serve a tenant, no non-empty prefix begins another, and one at most is empty.
pub(super) fn check_prefixes(snapshot: &Snapshot) -> Vec<Fault> {
    let issuers: Vec<&Arc<Issuer>> = snapshot.issuers().collect();
    let mut faults = Vec::new();
    for (index, one) in issuers.iter().enumerate() {
        for other in issuers.iter().skip(index + 1).filter(|other| one.reach.may_meet(&other.reach)) {
            let (a, b) = (&one.spec.subject_prefix, &other.spec.subject_prefix);
            let begins =
                !a.is_empty() && !b.is_empty() && (a.starts_with(b.as_str()) || b.starts_with(a.as_str()));
            if begins || (a.is_empty() && b.is_empty()) {
                let (tenant, name) = (other.reach.tenant.clone(), other.name.clone());
                let object = ObjectRef { kind: ObjectKind::TrustedIssuer, tenant, name };
                let message =
                    format!("collides with the prefix of issuer `{}`: subjects could be confused", one.name);
                let (path, choices) = ("spec.subject_prefix".to_owned(), Vec::new());
                faults.push(Fault { object, path, message, choices });
            }
        }
    }
    faults
}
