//! What must hold of the ways in which an issuer's logouts are heard, and of ends of sessions that rest on them.

use std::collections::BTreeMap;

use super::build::Fault;
use super::objects::{BackchannelSpec, CaepSpec, ObjectKind, ObjectRef, SessionEnd, TrustedIssuerSpec};
use super::snapshot::{Issuer, Snapshot};

/// Header types under which providers sign logout tokens. Any other is of another kind of token [JW-04].
const TYPS: [&str; 3] = ["logout+jwt", "JWT", ""];

/// Faults of the issuer's own members, as (path, message).
pub(super) fn check(spec: &TrustedIssuerSpec, own_issuer: &str) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let mut fault = |path: &str, message: &str| faults.push((path.to_owned(), message.to_owned()));
    let logout = spec.logout.as_ref();
    if logout.is_some_and(|logout| logout.backchannel.is_none() && logout.caep.is_none()) {
        fault("spec.logout", "needs `backchannel`, `caep` or both");
    }
    // Nothing else would end a session whose token has long expired (DESIGN §5).
    if spec.session_end != SessionEnd::Token && logout.is_none() {
        fault(
            "spec.session_end",
            "a session may outlast its token only where its logout is heard: declare `logout`, or say `token`",
        );
    }
    match &spec.session_end {
        SessionEnd::Claim(name) if name.is_empty() => fault("spec.session_end.claim", "name a claim"),
        SessionEnd::AfterAuthTime(0) => fault("spec.session_end.after_auth_time", "at least 1 second"),
        SessionEnd::Token | SessionEnd::Claim(_) | SessionEnd::AfterAuthTime(_) => {}
    }
    if let Some(backchannel) = logout.and_then(|logout| logout.backchannel.as_ref()) {
        check_backchannel(backchannel, &mut fault);
    }
    if let Some(caep) = logout.and_then(|logout| logout.caep.as_ref()) {
        check_caep(caep, &spec.issuer, own_issuer, &mut fault);
    }
    faults
}

fn check_backchannel(spec: &BackchannelSpec, fault: &mut impl FnMut(&str, &str)) {
    if spec.clients.is_empty() || spec.clients.iter().any(String::is_empty) {
        fault(
            "spec.logout.backchannel.clients",
            "name the client ids at the provider for which the endpoint is registered there",
        );
    }
    if spec.typ.is_empty() || spec.typ.iter().any(|typ| !TYPS.contains(&typ.as_str())) {
        fault(
            "spec.logout.backchannel.typ",
            "of `logout+jwt`, `JWT` and `\"\"` (no `typ`), those that the provider signs logout tokens with",
        );
    }
}

fn check_caep(spec: &CaepSpec, issuer: &str, own_issuer: &str, fault: &mut impl FnMut(&str, &str)) {
    if spec.audience.is_empty() {
        fault("spec.logout.caep.audience", "the `aud` of the stream's events");
    }
    if spec.bearer_sha256.len() > 2 {
        fault("spec.logout.caep.bearer_sha256", "at most two secrets may be valid at once");
    }
    let Some(other) = spec.issuer.as_deref().filter(|other| *other != issuer) else { return };
    if other.is_empty() || other == own_issuer {
        fault("spec.logout.caep.issuer", "the `iss` of the transmitter, which is not this server");
    }
    if spec.jwks_uri.is_none() {
        fault(
            "spec.logout.caep.jwks_uri",
            "a transmitter with another `iss` has keys of its own: say where they are",
        );
    }
}

/// The `iss` of an event leads to one issuer's sessions, and whoever vouches for others has no events of theirs.
pub(super) fn check_transmitters(snapshot: &Snapshot) -> Vec<Fault> {
    let mut hearers: BTreeMap<&str, Vec<&Issuer>> = BTreeMap::new();
    for issuer in snapshot.issuers() {
        if let Some(iss) = issuer.spec.event_issuer() {
            hearers.entry(iss).or_default().push(issuer);
        }
    }
    let mut faults = Vec::new();
    for (iss, mut issuers) in hearers {
        issuers.sort_by_key(|issuer| (&issuer.reach.tenant, &issuer.name));
        let foreign = |issuer: &&Issuer| {
            let vouches = snapshot.issuer(iss).is_some() || snapshot.workload_issuer(iss).is_some();
            issuer.spec.issuer != iss && vouches
        };
        let shared = issuers.iter().skip(1).map(|issuer| (*issuer, "of another trusted issuer too"));
        let stolen = issuers.iter().filter(|issuer| foreign(issuer));
        let stolen = stolen.map(|issuer| (*issuer, "vouches for others, whose events it would tell"));
        for (issuer, why) in shared.chain(stolen) {
            let (tenant, name) = (issuer.reach.tenant.clone(), issuer.name.clone());
            faults.push(Fault {
                object: ObjectRef { kind: ObjectKind::TrustedIssuer, tenant, name },
                path: "spec.logout.caep.issuer".to_owned(),
                message: format!("this transmitter is {why}: give each issuer a transmitter of its own"),
                choices: Vec::new(),
            });
        }
    }
    faults
}
