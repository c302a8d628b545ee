//! What must hold of the ways in which a client authenticates, and of those who vouch for workloads.

use std::sync::Arc;

use super::build_issuer::check_algorithms;
use super::ids::ClientId;
use super::objects::{
    AuthSpec, CertificateName, TlsAuthSpec, WorkloadIssuerSpec, WorkloadKind, WorkloadSpec,
};
use super::snapshot::{Reach, Snapshot, WorkloadIssuer};

/// Oldest token of a workload that an issuer may be set to accept, in seconds.
const MAX_AGE: u32 = 86_400;

/// A fault of a client: path, what is wrong, and what could have been meant.
pub(super) type AuthFault = (String, String, Vec<String>);

/// Takes in how `client`, of an object that `reach`, authenticates. A workload is one client.
pub(super) fn add(
    snapshot: &mut Snapshot,
    reach: &Reach,
    client: Option<&ClientId>,
    auth: &AuthSpec,
) -> Vec<AuthFault> {
    let mut faults: Vec<AuthFault> = check(auth).into_iter().map(|(p, m)| (p, m, Vec::new())).collect();
    let mut fault =
        |path: &str, message: &str| faults.push((path.to_owned(), message.to_owned(), Vec::new()));
    if client.is_some_and(|id| snapshot.workload_issuers.contains_key(id.as_str())) {
        fault("spec.client_id", "a workload issuer has the same name as this client");
    }
    if let Some(Err(unmapped)) = auth.tls.as_ref().map(|tls| check_tls(tls, auth, reach, snapshot)) {
        let (member, message, choices) = unmapped;
        faults.push((format!("spec.auth.tls.{member}"), message, choices));
    }
    for (index, workload) in auth.workload.iter().enumerate() {
        let path = format!("spec.auth.workload[{index}]");
        if let Err((member, message, choices)) = check_workload(workload, reach, snapshot) {
            faults.push((format!("{path}.{member}"), message, choices));
        }
        let Some(client) = client else { continue };
        let subjects = snapshot.workloads.entry(workload.issuer.clone()).or_default();
        if subjects.insert(workload.subject.clone(), client.clone()).is_some() {
            faults.push((path, "this workload is a client already: it is one only".to_owned(), Vec::new()));
        }
    }
    faults
}

fn check(auth: &AuthSpec) -> Vec<(String, String)> {
    let mut faults = check_algorithms("spec.auth.algorithms", &auth.algorithms);
    let mut fault = |path: &str, message: &str| faults.push((path.to_owned(), message.to_owned()));
    if auth.secrets().count() > 2 {
        let message =
            "at most two secrets may be valid at once, those of `taskgrant agent secret` among them";
        fault("spec.auth.secret_sha256", message);
    }
    if auth.jwks.is_some() && auth.jwks_uri.is_some() {
        fault(
            "spec.auth.jwks_uri",
            "keys stand in `jwks` or at `jwks_uri`, not in both (RFC 7591 section 2)",
        );
    }
    faults
}

/// Takes in a workload issuer.
pub(super) fn add_issuer(
    snapshot: &mut Snapshot,
    issuer: WorkloadIssuer,
    own_issuer: &str,
) -> Vec<(String, String)> {
    let mut faults = check_issuer(&issuer.spec, snapshot, own_issuer);
    let name = issuer.spec.issuer.clone();
    if snapshot.workload_issuers.insert(name, Arc::new(issuer)).is_some() {
        faults.push(("spec.issuer".to_owned(), "another workload issuer has the same `issuer`".to_owned()));
    }
    faults
}

/// Faults of a workload issuer, as (path, message). Nobody vouches for people and for workloads under one name (T33).
fn check_issuer(spec: &WorkloadIssuerSpec, snapshot: &Snapshot, own_issuer: &str) -> Vec<(String, String)> {
    let mut faults = check_algorithms("spec.algorithms", &spec.algorithms);
    let mut fault = |path: &str, message: &str| faults.push((path.to_owned(), message.to_owned()));
    if spec.issuer == own_issuer {
        fault("spec.issuer", "this server's own issuer vouches for no workloads");
    }
    if snapshot.issuers.contains_key(&spec.issuer) {
        fault(
            "spec.issuer",
            "a trusted issuer has the same `issuer`: one vouches for sessions or for workloads",
        );
    }
    let unfetched = spec.jwks.is_none() && spec.jwks_uri.is_none();
    match spec.kind {
        WorkloadKind::Kubernetes if !is_url(&spec.issuer) => {
            fault("spec.issuer", "an issuer is an https URL");
        }
        WorkloadKind::Spiffe if trust_domain(&spec.issuer) != Some(spec.issuer.as_str()) => {
            fault("spec.issuer", "a trust domain is written `spiffe://acme.example`, without a path");
        }
        WorkloadKind::Spiffe if unfetched => {
            fault("spec.jwks_uri", "the bundle of a trust domain stands in `jwks` or at `jwks_uri`");
        }
        WorkloadKind::Kubernetes | WorkloadKind::Spiffe => {}
    }
    if spec.jwks.is_some() && spec.jwks_uri.is_some() {
        fault("spec.jwks_uri", "keys stand in `jwks` or at `jwks_uri`, not in both");
    }
    if spec.max_age == 0 || spec.max_age > MAX_AGE {
        fault("spec.max_age", "needs 1 to 86400 seconds");
    }
    faults
}

fn is_url(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

/// The trust domain of a SPIFFE ID, `spiffe://` included: lower-case letters, digits, dots, hyphens and underscores
/// (SPIFFE ID §2.1). None for any other text.
pub fn trust_domain(id: &str) -> Option<&str> {
    let name = id.strip_prefix("spiffe://")?.split('/').next()?;
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    let is_name = !name.is_empty() && name.len() <= 255 && name.bytes().all(legal);
    if is_name { id.get(.."spiffe://".len() + name.len()) } else { None }
}

/// A fault of one mapping: the member, what is wrong, and what could have been meant.
type Unmapped = (&'static str, String, Vec<String>);

/// Whether `workload` may be mapped to a client that `reach`: its issuer serves every tenant that the client does, so
/// that nobody's cluster speaks for another tenant's client (T33, T42).
fn check_workload(workload: &WorkloadSpec, reach: &Reach, snapshot: &Snapshot) -> Result<(), Unmapped> {
    let serving = |reach_of: &Reach| reach_of.covers(reach);
    let Some(issuer) = snapshot.workload_issuers.get(&workload.issuer).filter(|i| serving(&i.reach)) else {
        let known = snapshot.workload_issuers.values().filter(|i| serving(&i.reach));
        let choices = known.map(|i| i.spec.issuer.clone()).collect();
        let message =
            format!("no workload issuer `{}` serves every tenant that this serves", workload.issuer);
        return Err(("issuer", message, choices));
    };
    let (subject, wanted) = match issuer.spec.kind {
        WorkloadKind::Kubernetes => {
            (is_service_account(&workload.subject), "`system:serviceaccount:NAMESPACE:NAME`")
        }
        WorkloadKind::Spiffe => {
            let path = workload.subject.strip_prefix(issuer.spec.issuer.as_str());
            (
                path.is_some_and(|path| path.len() > 1 && path.starts_with('/')),
                "a SPIFFE ID of the trust domain",
            )
        }
    };
    if !subject {
        return Err(("subject", format!("it is {wanted}, whole: there are no patterns"), Vec::new()));
    }
    if workload.uid.is_some() && issuer.spec.kind != WorkloadKind::Kubernetes {
        return Err((
            "uid",
            "only tokens of Kubernetes have the uid of a service account".to_owned(),
            Vec::new(),
        ));
    }
    Ok(())
}

/// Whether a certificate may be that of a client that `reach`: by exactly one name that an authority for its tenants has
/// vouched for (RFC 8705 §2.1.2), or by its own registered keys.
fn check_tls(tls: &TlsAuthSpec, auth: &AuthSpec, reach: &Reach, snapshot: &Snapshot) -> Result<(), Unmapped> {
    let refuse = |member, message: &str| Err((member, message.to_owned(), Vec::new()));
    let names: Vec<CertificateName<'_>> = tls.names().collect();
    if tls.self_signed {
        if tls.authority.is_some() || !names.is_empty() {
            return refuse("self_signed", "a certificate of its own comes without an authority and a name");
        }
        if !auth.has_keys() {
            return refuse(
                "self_signed",
                "its certificate, or its key, stands in `auth.jwks` or at `jwks_uri`",
            );
        }
        return Ok(());
    }
    let Some(authority) = &tls.authority else {
        return refuse("authority", "name the `CertificateAuthority`, or say `self_signed: true`");
    };
    if snapshot.authority_for(reach, authority).is_none() {
        let known = snapshot.authorities.values().filter(|known| known.reach.covers(reach));
        let choices = known.map(|known| known.name.to_string()).collect();
        let message = format!("no certificate authority `{authority}` serves every tenant that this serves");
        return Err(("authority", message, choices));
    }
    match names.as_slice() {
        [CertificateName::Dns(name)] if name.is_empty() || name.contains('*') => {
            refuse("san_dns", "it is a host name, whole: there are no patterns")
        }
        [CertificateName::Uri(name)] if !name.contains(':') => refuse("san_uri", "it is a URI, whole"),
        [CertificateName::Email(name)] if !name.contains('@') => {
            refuse("san_email", "it is a mailbox, `agent@acme.example`")
        }
        [_] => Ok(()),
        _ => refuse(
            "authority",
            "exactly one of `subject_dn`, `san_dns`, `san_uri`, `san_ip`, `san_email` goes with it",
        ),
    }
}

fn is_service_account(subject: &str) -> bool {
    let rest = subject.strip_prefix("system:serviceaccount:").unwrap_or_default();
    let parts: Vec<&str> = rest.split(':').collect();
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
    parts.len() == 2 && parts.iter().all(|part| !part.is_empty() && part.bytes().all(legal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ca_06_a_trust_domain_is_the_first_part_of_a_spiffe_id() {
        assert_eq!(trust_domain("spiffe://acme.example/ns/a"), Some("spiffe://acme.example"));
        assert_eq!(trust_domain("spiffe://acme.example"), Some("spiffe://acme.example"));
        for other in ["", "spiffe://", "spiffe:///a", "spiffe://Acme/a", "https://acme/a", "spiffe://a b/c"] {
            assert_eq!(trust_domain(other), None, "{other}");
        }
        assert_ne!(trust_domain("spiffe://acme.example.evil/a"), Some("spiffe://acme.example"));
    }

    #[test]
    fn ca_07_a_service_account_is_named_whole() {
        assert!(is_service_account("system:serviceaccount:agents:support-bot"));
        for other in [
            "system:serviceaccount:agents",
            "system:serviceaccount:agents:*",
            "agents:bot",
            "system:serviceaccount::b",
        ] {
            assert!(!is_service_account(other), "{other}");
        }
    }
}
