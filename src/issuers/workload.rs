//! A token that a platform has made for a workload: a projected token of a Kubernetes service account [CA-07] or a
//! SPIFFE JWT-SVID [CA-06].
//!
//! Such a token lies in a file and is used until it is replaced, so it is not spent, also where it has a `jti`: what
//! bounds it is its sole audience, its age, and that nobody but this server accepts it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::claims::{Claims, audiences};
use super::fault::ActorFault;
use super::keysets::KeySets;
use super::kind::refuse_other_claims;
use super::session::LEEWAY;
use crate::domain::build_auth::trust_domain;
use crate::domain::objects::{WorkloadKind, WorkloadSpec};
use crate::domain::snapshot::{Snapshot, WorkloadIssuer};
use crate::keys::jws::{Jws, VerifiedJws};

/// Types under which platforms sign: none, or one that says nothing (JWT-SVID §2.3).
const TYPS: [&str; 2] = ["JWT", "JOSE"];

/// Longest subject, in bytes: what a chain may hold as an instance.
const MAX_SUBJECT: usize = 1024;

/// A workload as its platform vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// `sub`.
    pub subject: String,
    /// Kubernetes: the service account's uid.
    pub uid: Option<String>,
    /// Which one of those with the same subject: the pod's uid where the token is bound to a pod, else the subject.
    pub instance: String,
}

impl Workload {
    /// Whether it is the one that `declared` maps: exactly, there are no patterns.
    pub fn is(&self, declared: &WorkloadSpec) -> bool {
        declared.subject == self.subject && (declared.uid.is_none() || declared.uid == self.uid)
    }
}

/// The workload issuer that a token says it is of: by the trust domain of `sub` for a SPIFFE ID, else by `iss`.
pub fn workload_issuer<'s>(snapshot: &'s Snapshot, jws: &Jws<'_>) -> Option<&'s Arc<WorkloadIssuer>> {
    let told = jws.unverified();
    let (issuer, kind) = match told.subject.and_then(trust_domain) {
        Some(domain) => (domain, WorkloadKind::Spiffe),
        None => (told.issuer?, WorkloadKind::Kubernetes),
    };
    snapshot.workload_issuer(issuer).filter(|found| found.spec.kind == kind)
}

/// Verifies `jws` as a token of `issuer` for this server alone (T14). May fetch the issuer's keys.
pub async fn verify_workload(
    key_sets: &KeySets,
    issuer: &WorkloadIssuer,
    jws: Jws<'_>,
    own_issuer: &str,
    now: DateTime<Utc>,
) -> Result<Workload, ActorFault> {
    let told = jws.unverified();
    if !issuer.spec.algorithms.iter().any(|name| name == told.algorithm.name()) {
        return Err(ActorFault::Algorithm(told.algorithm));
    }
    let untyped = told.typ.is_none();
    let keys = key_sets.workload_keys(issuer, told.kid, told.algorithm).await?;
    let verified = {
        let candidates = keys.find(told.kid, told.algorithm);
        jws.verify_any(&candidates)?
    };
    if !untyped && !TYPS.iter().any(|typ| verified.typ_is(typ)) {
        return Err(ActorFault::Typ);
    }
    let claims = verified.claims();
    refuse_other_claims(claims).map_err(|_| ActorFault::Typ)?;
    if audiences(claims).is_none_or(|all| all != [own_issuer]) {
        return Err(ActorFault::Audience);
    }
    check_dates(&verified, issuer, now.timestamp())?;
    workload(claims, issuer.spec.kind)
}

/// `exp` is required. The age is capped by `iat`; a JWT-SVID without one may live no longer than that from now.
fn check_dates(token: &VerifiedJws, issuer: &WorkloadIssuer, now: i64) -> Result<(), ActorFault> {
    let max_age = i64::from(issuer.spec.max_age);
    let expires_at = token.expires_at()?.ok_or(ActorFault::Missing("exp"))?;
    if expires_at <= now {
        return Err(ActorFault::Expired);
    }
    let issued_at = token.issued_at()?;
    for (claim, at) in [("nbf", token.not_before()?), ("iat", issued_at)] {
        if at.is_some_and(|at| at > now + LEEWAY) {
            return Err(ActorFault::NotYet(claim));
        }
    }
    let too_old = match (issued_at, issuer.spec.kind) {
        (Some(at), _) => now - at > max_age,
        (None, WorkloadKind::Spiffe) => expires_at - now > max_age,
        (None, WorkloadKind::Kubernetes) => return Err(ActorFault::Missing("iat")),
    };
    if too_old { Err(ActorFault::TooOld(issuer.spec.max_age)) } else { Ok(()) }
}

fn workload(claims: &Claims, kind: WorkloadKind) -> Result<Workload, ActorFault> {
    let legal =
        |t: &&str| (1..=MAX_SUBJECT).contains(&t.len()) && t.bytes().all(|b| matches!(b, b'!'..=b'~'));
    let wanted = "a text of 1 to 1024 printable ASCII characters without space";
    let sub = claims.get("sub").ok_or(ActorFault::Missing("sub"))?;
    let subject =
        sub.as_str().filter(legal).ok_or(ActorFault::Malformed { claim: "sub", wanted })?.to_owned();
    let of = |object: &str| {
        let claim = claims.get("kubernetes.io").filter(|_| kind == WorkloadKind::Kubernetes)?;
        claim.get(object)?.get("uid").and_then(Value::as_str).filter(legal).map(str::to_owned)
    };
    let instance = of("pod").unwrap_or_else(|| subject.clone());
    Ok(Workload { uid: of("serviceaccount"), subject, instance })
}
