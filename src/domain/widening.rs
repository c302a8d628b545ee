//! What a change of the configuration widens: scopes inflate quietly unless each step up is called out (DESIGN §5).
//!
//! A new object is not a widening: it is created by name, whole, under review, and nothing that exists holds more
//! through it than it declares. One that takes over the `iss`, `client_id` or URI of another is that one by another name; what is not
//! in force any more and comes back is told by the plan, which knows the past. Exceptions and administrators are the kinds that are,
//! since they only exist to loosen. Contacts, labels and the owners of all but agents are told by the difference alone: what they mean
//! is up to policy.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::sync::Arc;

use super::ceiling::Bound;
use super::details::FieldRule;
use super::ids::Name;
use super::objects::{
    AcceptSpec, AdministratorSpec, AgentSpec, ApprovalSpec, ApprovalWhen, AuthSpec,
    AuthorizationDetailTypeSpec, BackchannelSpec, CaepSpec, CertificateAuthoritySpec, ExceptionSpec,
    ObjectKind, ObjectRef, ResourceSpec, Selector, SessionEnd, TrustedIssuerSpec, WorkloadIssuerSpec,
    WorkloadSpec,
};
use super::snapshot::{Agent, Edge, Entitlement, Issuer, Reach, Snapshot, TaskType};

/// One step up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Widening {
    /// Where in the object: `spec.scopes`.
    pub path: String,
    /// What is wider.
    pub message: String,
}

/// What the object `id` allows in `after` and did not allow in `before`. What cannot be decided counts as wider.
pub fn widenings(id: &ObjectRef, before: &Snapshot, after: &Snapshot) -> Vec<Widening> {
    let mut found = Found(Vec::new());
    match id.kind {
        ObjectKind::Tenant => {}
        ObjectKind::TrustedIssuer | ObjectKind::WorkloadIssuer | ObjectKind::Resource | ObjectKind::Agent => {
            found.keyed(id, before, after);
        }
        ObjectKind::CertificateAuthority => {
            let at = |s: &Snapshot| s.authorities.get(&(id.tenant.clone(), id.name.clone())).cloned();
            found.changed((at(before).as_deref(), at(after).as_deref()), |found, old, new| {
                found.tenants(&old.reach, &new.reach);
                authority(found, &old.spec, &new.spec);
            });
        }
        ObjectKind::AuthorizationDetailType => {
            let at = |s: &Snapshot| s.detail_types.iter().find(|t| is(id, &t.reach, &t.name)).cloned();
            found.changed((at(before).as_deref(), at(after).as_deref()), |found, old, new| {
                found.tenants(&old.reach, &new.reach);
                detail_type(found, &old.spec, &new.spec);
            });
        }
        ObjectKind::TaskType => {
            let agents: Vec<&Agent> = before.agents.values().map(AsRef::as_ref).collect();
            found.changed((before.task_type_of(id), after.task_type_of(id)), |found, old, new| {
                task_type(found, old, new, &agents);
            });
        }
        ObjectKind::Exception => {
            let at = |s: &Snapshot| s.exceptions.iter().find(|e| is(id, &e.reach, &e.name)).cloned();
            found.loosens(at(before), at(after), "a new exception", |found, old, new| {
                exception(found, &old.spec, &new.spec);
            });
        }
        ObjectKind::Administrator => {
            let at = |s: &Snapshot| s.administrators.iter().find(|a| a.name == id.name).cloned();
            found.loosens(at(before), at(after), "a new administrator", |found, old, new| {
                administrator(found, &old.spec, &new.spec);
            });
        }
    }
    found.0
}

fn is(id: &ObjectRef, reach: &Reach, name: &Name) -> bool {
    reach.tenant == id.tenant && *name == id.name
}

/// The two versions of an object among those that go by a key of their own: where none of its name was there, the one that went
/// by the same `iss`, `client_id` or URI under another.
fn pair<'s, K: Eq + Hash, T>(
    before: &'s HashMap<K, Arc<T>>,
    after: &'s HashMap<K, Arc<T>>,
    is: impl Fn(&T) -> bool,
) -> (Option<&'s T>, Option<&'s T>) {
    let now = after.iter().find(|(_, object)| is(object));
    let was = before.values().find(|object| is(object));
    let was = was.or_else(|| before.get(now?.0));
    (was.map(AsRef::as_ref), now.map(|(_, object)| object.as_ref()))
}

impl Snapshot {
    fn task_type_of(&self, id: &ObjectRef) -> Option<&TaskType> {
        self.task_types.get(&(id.tenant.clone(), id.name.clone()))?.current.as_deref()
    }
}

struct Found(Vec<Widening>);

impl Found {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Widening { path: path.into(), message: message.into() });
    }

    fn add_if(&mut self, wider: bool, path: &str, message: &str) {
        if wider {
            self.add(path, message);
        }
    }

    /// Those kinds that go by a key of their own, whatever their name.
    fn keyed(&mut self, id: &ObjectRef, before: &Snapshot, after: &Snapshot) {
        match id.kind {
            ObjectKind::TrustedIssuer => {
                self.changed(pair(&before.issuers, &after.issuers, |i| is(id, &i.reach, &i.name)), issuer);
            }
            ObjectKind::WorkloadIssuer => {
                let all = (&before.workload_issuers, &after.workload_issuers);
                self.changed(pair(all.0, all.1, |i| is(id, &i.reach, &i.name)), |found, old, new| {
                    found.tenants(&old.reach, &new.reach);
                    workload_issuer(found, &old.spec, &new.spec);
                });
            }
            ObjectKind::Resource => {
                let all = (&before.resources, &after.resources);
                self.changed(pair(all.0, all.1, |r| is(id, &r.reach, &r.name)), |found, old, new| {
                    found.tenants(&old.reach, &new.reach);
                    resource(found, &old.spec, &new.spec);
                });
            }
            ObjectKind::Agent => {
                let all = (&before.agents, &after.agents);
                self.changed(pair(all.0, all.1, |a| is(id, &a.reach, &a.name)), |found, old, new| {
                    found.tenants(&old.reach, &new.reach);
                    agent(found, &old.spec, &new.spec);
                });
            }
            ObjectKind::Tenant
            | ObjectKind::CertificateAuthority
            | ObjectKind::AuthorizationDetailType
            | ObjectKind::TaskType
            | ObjectKind::Exception
            | ObjectKind::Administrator => {}
        }
    }

    /// Compares two versions, where there are two.
    fn changed<T>(&mut self, versions: (Option<&T>, Option<&T>), compare: impl FnOnce(&mut Self, &T, &T)) {
        if let (Some(before), Some(after)) = versions {
            compare(self, before, after);
        }
    }

    /// The same of a kind that only exists to loosen: a new one is a widening too.
    fn loosens<T>(
        &mut self,
        before: Option<T>,
        after: Option<T>,
        new: &str,
        compare: impl FnOnce(&mut Self, &T, &T),
    ) {
        match (before, after) {
            (None, Some(_)) => self.add("spec", new),
            (Some(before), Some(after)) => compare(self, &before, &after),
            (_, None) => {}
        }
    }

    /// What `after` lists and `before` does not.
    fn added<T: PartialEq + Display>(&mut self, path: &str, before: &[T], after: &[T]) {
        for item in after.iter().filter(|item| !before.contains(item)) {
            self.add(path, format!("adds `{item}`"));
        }
    }

    fn raised(&mut self, path: &str, before: u32, after: u32) {
        if after > before {
            self.add(path, format!("rises from {before} to {after}"));
        }
    }

    fn tenants(&mut self, before: &Reach, after: &Reach) {
        if before.tenant != after.tenant {
            return self.add_if(!before.covers(after), "spec.tenants", "serves tenants that it did not");
        }
        match (&before.only, &after.only) {
            (Some(_), None) => self.add("spec.tenants", "now serves all tenants"),
            (Some(old), Some(new)) => self.added("spec.tenants", old, new),
            (None, _) => {}
        }
    }

    fn bound(&mut self, path: &str, before: &Bound, after: &Bound) {
        match (&before.scopes, &after.scopes) {
            (Some(_), None) => self.add(format!("{path}.scopes"), "scopes are no longer limited"),
            (Some(old), Some(new)) => {
                for scope in new.difference(old).iter() {
                    self.add(format!("{path}.scopes"), format!("adds `{scope}`"));
                }
            }
            (None, _) => {}
        }
        match (&before.resources, &after.resources) {
            (Some(_), None) => self.add(format!("{path}.resources"), "resources are no longer limited"),
            (Some(old), Some(new)) => {
                for uri in new.difference(old) {
                    self.add(format!("{path}.resources"), format!("adds {uri}"));
                }
            }
            (None, _) => {}
        }
        let path = format!("{path}.authorization_details");
        match (&before.details, &after.details) {
            (Some(_), None) => self.add(path, "authorization details are no longer limited"),
            (Some(old), Some(new)) => {
                for detail in new.uncovered_by(old).iter() {
                    let text = serde_json::Value::Object(detail.to_json());
                    self.add(path.clone(), format!("nothing before covered {text}"));
                }
            }
            (None, _) => {}
        }
    }
}

/// Whether `before` allows all that `after` does.
fn holds(before: &Bound, after: &Bound) -> bool {
    let mut found = Found(Vec::new());
    found.bound("", before, after);
    found.0.is_empty()
}

fn issuer(found: &mut Found, old: &Issuer, new: &Issuer) {
    found.tenants(&old.reach, &new.reach);
    let (was, now): (&TrustedIssuerSpec, &TrustedIssuerSpec) = (&old.spec, &new.spec);
    found.add_if(was.issuer != now.issuer, "spec.issuer", "another issuer is trusted");
    found.add_if(was.jwks_uri != now.jwks_uri, "spec.jwks_uri", "keys come from elsewhere");
    let maps = |s: &TrustedIssuerSpec| (s.tenant_claim.clone(), s.fixed_tenant.clone());
    found.add_if(maps(was) != maps(now), "spec.tenant_claim", "its principals may belong to other tenants");
    let prefix = was.subject_prefix != now.subject_prefix;
    found.add_if(prefix, "spec.subject_prefix", "its principals take other names, perhaps somebody else's");
    found.add_if(was.groups_claim != now.groups_claim, "spec.groups_claim", "groups come from another claim");
    found.add_if(was.roles_claim != now.roles_claim, "spec.roles_claim", "roles come from another claim");
    found.add_if(!was.any_agent && now.any_agent, "spec.any_agent", "any agent may spend its tokens");
    for (index, accept) in now.accept.iter().enumerate() {
        let wider = !was.accept.iter().any(|a| accepts(a, accept));
        found.add_if(wider, &format!("spec.accept[{index}]"), "more tokens are session tokens");
    }
    found.added("spec.algorithms", &was.algorithms, &now.algorithms);
    found.raised("spec.max_session_age", was.max_session_age, now.max_session_age);
    session_end(found, was, now);
    logout(found, was, now);
    for (index, rule) in new.entitlements.iter().enumerate() {
        let covered =
            |e: &Entitlement| (e.when.is_none() || e.when == rule.when) && holds(&e.bound, &rule.bound);
        if !old.entitlements.iter().any(covered) {
            entitlement(found, index, old, rule);
        }
    }
}

/// Which end another claim tells cannot be known here: it counts as later.
fn session_end(found: &mut Found, old: &TrustedIssuerSpec, new: &TrustedIssuerSpec) {
    match (&old.session_end, &new.session_end) {
        (_, SessionEnd::Token) => {}
        (SessionEnd::AfterAuthTime(was), SessionEnd::AfterAuthTime(now)) => {
            found.raised("spec.session_end.after_auth_time", *was, *now);
        }
        (was, now) => found.add_if(was != now, "spec.session_end", "sessions may end later"),
    }
}

/// What is no longer heard lets sessions go on that would have ended.
fn logout(found: &mut Found, old: &TrustedIssuerSpec, new: &TrustedIssuerSpec) {
    let backchannel = |s: &TrustedIssuerSpec| s.logout.as_ref().and_then(|logout| logout.backchannel.clone());
    if let Some(was) = backchannel(old) {
        let now = backchannel(new);
        let heard = |all: fn(&BackchannelSpec) -> &Vec<String>| {
            now.as_ref().is_some_and(|now| all(&was).iter().all(|one| all(now).contains(one)))
        };
        let deaf = !heard(|s| &s.clients) || !heard(|s| &s.typ);
        found.add_if(deaf, "spec.logout.backchannel", "logout tokens that were heard no longer are");
    }
    let caep = |s: &TrustedIssuerSpec| s.logout.as_ref().and_then(|logout| logout.caep.clone());
    if let Some(was) = caep(old) {
        // Other secrets are a rotation; who sends without them is told so.
        let heard = |now: CaepSpec| {
            let opaque = was.opaque.is_none() || was.opaque == now.opaque;
            (&was.audience, &was.issuer, &was.jwks_uri) == (&now.audience, &now.issuer, &now.jwks_uri)
                && opaque
        };
        let deaf = !caep(new).is_some_and(heard);
        found.add_if(deaf, "spec.logout.caep", "events that were heard may no longer be");
    }
}

/// Tells what is wider against the earlier rule for the same principals, if there is one.
fn entitlement(found: &mut Found, index: usize, old: &Issuer, rule: &Entitlement) {
    let path = format!("spec.entitlements[{index}]");
    let same: Vec<&Entitlement> = old.entitlements.iter().filter(|e| e.when == rule.when).collect();
    match same.as_slice() {
        [one] => found.bound(&path, &one.bound, &rule.bound),
        _ => found.add(path, "a new entitlement"),
    }
}

fn accepts(old: &AcceptSpec, new: &AcceptSpec) -> bool {
    old.kind == new.kind && old.audience == new.audience && new.typ.iter().all(|t| old.typ.contains(t))
}

/// Any other rule compares values differently; only `equals` is within every rule of its kind.
fn detail_type(found: &mut Found, old: &AuthorizationDetailTypeSpec, new: &AuthorizationDetailTypeSpec) {
    for (field, rule) in &new.fields {
        let path = format!("spec.fields.{field}");
        match old.fields.get(field) {
            None => found.add(path, "a new field"),
            Some(was) if was != rule && *rule != FieldRule::Equals => {
                found.add(path, "the field narrows by another rule");
            }
            Some(_) => {}
        }
    }
    let schema = old.schema != new.schema;
    found.add_if(schema, "spec.schema", "the schema changes: whether it loosens cannot be told");
}

fn resource(found: &mut Found, old: &ResourceSpec, new: &ResourceSpec) {
    found.add_if(old.uri.key() != new.uri.key(), "spec.uri", "another service stands under this name");
    found.added("spec.scopes", &old.scopes, &new.scopes);
    found.add_if(
        new.client_id.is_some() && old.client_id != new.client_id,
        "spec.client_id",
        "another client may introspect",
    );
    auth(found, &old.auth, &new.auth);
}

fn workload_issuer(found: &mut Found, old: &WorkloadIssuerSpec, new: &WorkloadIssuerSpec) {
    let other = (&old.issuer, old.kind) != (&new.issuer, new.kind);
    found.add_if(other, "spec.issuer", "another platform vouches for workloads");
    found.add_if(new.jwks.is_some() && old.jwks != new.jwks, "spec.jwks", "other keys vouch for workloads");
    let moved = new.jwks.is_none() && (old.jwks.is_some() || old.jwks_uri != new.jwks_uri);
    found.add_if(moved, "spec.jwks_uri", "keys come from elsewhere");
    found.added("spec.algorithms", &old.algorithms, &new.algorithms);
    found.raised("spec.max_age", old.max_age, new.max_age);
}

/// Certificates that only fall away are not wider.
fn authority(found: &mut Found, old: &CertificateAuthoritySpec, new: &CertificateAuthoritySpec) {
    const END: &str = "-----END CERTIFICATE-----";
    let held = |certificate: &str| old.certificates.split(END).any(|old| old.trim() == certificate.trim());
    let wider = !new.certificates.split(END).all(held);
    found.add_if(wider, "spec.certificates", "other authorities vouch for clients");
}

/// Another secret or key opens the client's door to somebody else.
fn auth(found: &mut Found, old: &AuthSpec, new: &AuthSpec) {
    let secrets = new.secrets().any(|secret| !old.secrets().any(|held| held == secret));
    found.add_if(secrets, "spec.auth.secret_sha256", "adds a secret");
    let keys = new.jwks.is_some() && old.jwks != new.jwks;
    found.add_if(keys, "spec.auth.jwks", "other keys authenticate the client");
    let moved = new.jwks_uri.is_some() && old.jwks_uri != new.jwks_uri;
    found.add_if(moved, "spec.auth.jwks_uri", "keys that authenticate the client come from elsewhere");
    if new.has_keys() {
        found.added("spec.auth.algorithms", &old.algorithms, &new.algorithms);
    }
    let certificate = new.tls.is_some() && old.tls != new.tls;
    found.add_if(certificate, "spec.auth.tls", "another certificate authenticates the client");
    for (index, workload) in new.workload.iter().enumerate() {
        let held = |w: &WorkloadSpec| {
            let same = w.issuer == workload.issuer && w.subject == workload.subject;
            same && (w.uid.is_none() || w.uid == workload.uid)
        };
        let wider = !old.workload.iter().any(held);
        found.add_if(wider, &format!("spec.auth.workload[{index}]"), "another workload is the client");
    }
}

fn agent(found: &mut Found, old: &AgentSpec, new: &AgentSpec) {
    found.add_if(old.disabled && !new.disabled, "spec.disabled", "it is enabled again");
    found.add_if(old.client_id != new.client_id, "spec.client_id", "another client acts as this agent");
    found.add_if(old.class != new.class, "spec.class", "it may do what its new class may");
    // Owners of an agent never approve what it asks for (AP-03).
    found.add_if(old.owner != new.owner, "spec.owner", "who owned it may approve what it asks for");
    for (index, upstream) in new.upstream_clients.iter().enumerate() {
        let wider = !old.upstream_clients.contains(upstream);
        found.add_if(wider, &format!("spec.upstream_clients[{index}]"), "it may spend more session tokens");
    }
    auth(found, &old.auth, &new.auth);
    let keys = new.actor_jwks.is_some() && old.actor_jwks != new.actor_jwks;
    found.add_if(keys, "spec.actor_jwks", "other keys may prove its instances");
}

fn task_type(found: &mut Found, old: &TaskType, new: &TaskType, agents: &[&Agent]) {
    found.tenants(&old.reach, &new.reach);
    found.bound("spec", &old.bound, &new.bound);
    unlimited(found, old, new);
    found.add_if(old.spec.disabled && !new.spec.disabled, "spec.disabled", "it is enabled again");
    let (was, now) = (old.spec.lifetime, new.spec.lifetime);
    found.raised("spec.lifetime.token.default", was.token.default, now.token.default);
    found.raised("spec.lifetime.token.max", was.token.max, now.token.max);
    found.raised("spec.lifetime.task", was.task, now.task);
    for (index, starter) in new.spec.agents.iter().enumerate() {
        if !old.spec.agents.iter().any(|s| includes(s, starter, agents)) {
            let text = String::from(starter.clone());
            found.add(format!("spec.agents[{index}]"), format!("`{text}` may start it"));
        }
    }
    let depth = (old.spec.delegation.max_depth, new.spec.delegation.max_depth);
    found.raised("spec.delegation.max_depth", depth.0, depth.1);
    for (index, edge) in new.edges.iter().enumerate() {
        if !old.edges.iter().any(|e| edge_covers(e, edge, agents)) {
            found.add(format!("spec.delegation.edges[{index}]"), "no earlier edge allowed all of this");
        }
    }
    approval(found, &old.spec.approval, &new.spec.approval);
}

/// A service may take a token without details for one that no detail limits (T09): where the last one for a resource
/// goes, so does the limit.
fn unlimited(found: &mut Found, old: &TaskType, new: &TaskType) {
    let (was, now) = (old.details(), new.details());
    for uri in new.listed.keys() {
        let at = [uri.clone()].into();
        let lifted = now.for_any(&at).is_empty() && !was.for_any(&at).is_empty();
        found.add_if(
            lifted,
            "spec.authorization_details",
            &format!("no detail limits tokens for {uri} any more"),
        );
    }
}

/// Whether `wide` selects all that `narrow` does; an agent's class is what it is before the change.
fn includes(wide: &Selector, narrow: &Selector, agents: &[&Agent]) -> bool {
    let in_class = |agent: &&&Agent| matches!(narrow, Selector::Agent(id) if *id == agent.spec.client_id);
    wide == narrow
        || agents.iter().find(in_class).is_some_and(|a| wide.selects(&a.spec.client_id, &a.spec.class))
}

fn edge_covers(old: &Edge, new: &Edge, agents: &[&Agent]) -> bool {
    let from = match (&old.from, &new.from) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(old), Some(new)) => includes(old, new, agents),
    };
    from && includes(&old.to, &new.to, agents) && holds(&old.bound, &new.bound)
}

fn approval(found: &mut Found, old: &ApprovalSpec, new: &ApprovalSpec) {
    let weaker = old.when == ApprovalWhen::Always && new.when != ApprovalWhen::Always;
    found.add_if(weaker, "spec.approval.when", "a person is asked only when policy says so");
    if new.quorum < old.quorum {
        found.add("spec.approval.quorum", format!("falls from {} to {}", old.quorum, new.quorum));
    }
    for owner in new.approvers.iter().filter(|o| !old.approvers.contains(o)) {
        found.add("spec.approval.approvers", format!("`{}` may approve", String::from(owner.clone())));
    }
    let emptied = new.approvers.is_empty() && !old.approvers.is_empty();
    found.add_if(emptied, "spec.approval.approvers", "approvers are no longer named");
    match (old.envelope, new.envelope) {
        (None, Some(_)) => found.add("spec.approval.envelope", "one approval may be for several exchanges"),
        (Some(old), Some(new)) => {
            found.raised("spec.approval.envelope.exchanges", old.exchanges, new.exchanges);
            found.raised("spec.approval.envelope.minutes", old.minutes, new.minutes);
        }
        (_, None) => {}
    }
}

fn administrator(found: &mut Found, old: &AdministratorSpec, new: &AdministratorSpec) {
    found.added("spec.roles", &old.roles, &new.roles);
    let others = (&old.issuer, &old.subject, &old.group) != (&new.issuer, &new.subject, &new.group);
    found.add_if(others, "spec.subject", "somebody else administers");
    let tenant = old.session_tenant.is_some() && old.session_tenant != new.session_tenant;
    found.add_if(tenant, "spec.session_tenant", "sessions of other tenants administer");
}

fn exception(found: &mut Found, old: &ExceptionSpec, new: &ExceptionSpec) {
    found.add_if(new.expires_at > old.expires_at, "spec.expires_at", "it lasts longer");
    found.add_if(new.not_before < old.not_before, "spec.not_before", "it begins earlier");
    found.add_if(new.about != old.about, "spec.about", "it is about something else");
}

#[cfg(test)]
#[path = "widening_tests.rs"]
mod tests;
