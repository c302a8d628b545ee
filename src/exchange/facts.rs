//! What policy is told: verified facts under their own names, and what the agent claims apart from them (L11).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::Moment;
use super::deferral::Approved;
use super::limits::ends;
use super::verify::{Origin, Parent, Verified};
use crate::domain::capability::{Lifetime, expiry};
use crate::domain::ceiling::{Authority, Ceilings};
use crate::domain::objects::{PrincipalClass, claim, listed};
use crate::policy::input::{
    ActorFacts, CeilingFacts, ChainLink, ExceptionFacts, INPUT_VERSION, ParentFacts, PolicyInput,
    PrincipalFacts, PrincipalKind, RequestedFacts, TaskFacts, TenantFacts,
};

/// What attenuation settled, as far as policy is told of it.
pub(super) struct Asked<'a> {
    pub(super) authority: &'a Authority,
    pub(super) ceilings: &'a Ceilings,
    pub(super) lifetime: Lifetime,
    pub(super) depth_left: u32,
    pub(super) exchange_only: bool,
    pub(super) stats: BTreeMap<String, u64>,
}

/// The policy input of one exchange.
pub(super) fn input(environment: &str, at: &Moment, verified: &Verified, asked: &Asked<'_>) -> PolicyInput {
    let tenant = at.world.snapshot.tenant(&verified.tenant);
    PolicyInput {
        version: INPUT_VERSION,
        environment: environment.to_owned(),
        now: seconds(at.now),
        tenant: TenantFacts {
            id: verified.tenant.to_string(),
            labels: tenant.map(|t| t.labels.clone()).unwrap_or_default(),
        },
        principal: principal(verified),
        actor: ActorFacts {
            id: verified.agent.spec.client_id.to_string(),
            class: verified.agent.spec.class.to_string(),
            labels: verified.agent.spec.labels.clone(),
            instance: verified.chain.current().instance.clone(),
        },
        chain: verified.chain.actors().map(link).collect(),
        task: task(verified),
        parent: match &verified.origin {
            Origin::Session { .. } => None,
            Origin::Parent(parent) => Some(parent_facts(at, parent)),
        },
        requested: requested(verified, asked),
        ceiling: ceiling(at, verified, asked),
        stats: asked.stats.clone(),
        exceptions: exceptions(at, verified),
        approval: verified.approved.as_ref().map(Approved::facts),
        claimed: verified.wish.claimed.clone().into_iter().collect(),
    }
}

fn seconds(at: DateTime<Utc>) -> u64 {
    u64::try_from(at.timestamp()).unwrap_or(0)
}

fn principal(verified: &Verified) -> PrincipalFacts {
    let spec = &verified.issuer.spec;
    PrincipalFacts {
        iss: verified.principal.iss.clone(),
        sub: verified.principal.sub.clone(),
        kind: match spec.principals {
            PrincipalClass::Human => PrincipalKind::Human,
            PrincipalClass::Workload => PrincipalKind::Workload,
        },
        roles: listed(&verified.facts, &spec.roles_claim),
        groups: listed(&verified.facts, &spec.groups_claim),
        acr: verified.login.acr.clone(),
        auth_time: verified.login.auth_time.and_then(|t| u64::try_from(t).ok()),
        facts: spec
            .facts
            .iter()
            .filter_map(|name| Some((name.clone(), claim(&verified.facts, name)?.clone())))
            .collect(),
    }
}

fn link(actor: &crate::domain::chain::Actor) -> ChainLink {
    ChainLink { sub: actor.sub.clone(), iss: Some(actor.iss.clone()), instance: actor.instance.clone() }
}

fn task(verified: &Verified) -> TaskFacts {
    let task_type = match &verified.origin {
        Origin::Session { .. } => &verified.task_type,
        Origin::Parent(parent) => &parent.began_with,
    };
    TaskFacts {
        r#type: task_type.name.to_string(),
        version: u64::try_from(task_type.version).unwrap_or(0),
        id: match &verified.origin {
            Origin::Session { .. } => None,
            Origin::Parent(parent) => Some(parent.task.id.to_string()),
        },
        labels: verified.task_type.spec.labels.clone(),
        owner: String::from(task_type.spec.owner.clone()),
    }
}

fn parent_facts(at: &Moment, parent: &Parent) -> ParentFacts {
    let held = &parent.grant.capability;
    ParentFacts {
        jti: parent.jti.to_string(),
        scopes: texts(held.authority.scopes.iter()),
        resources: texts(held.authority.resources.iter()),
        authorization_details: details(&held.authority),
        depth_left: u64::from(held.depth_left),
        expires_in: seconds(held.expires_at).saturating_sub(seconds(at.now)),
        exchange_only: parent.grant.exchange_only,
        may_act: parent.grant.may_act.as_ref().map(ToString::to_string),
    }
}

fn requested(verified: &Verified, asked: &Asked<'_>) -> RequestedFacts {
    RequestedFacts {
        scopes: texts(asked.authority.scopes.iter()),
        resources: texts(asked.authority.resources.iter()),
        authorization_details: details(asked.authority),
        lifetime: verified.wish.expires_in.map(u64::from),
        delegate_to: verified.wish.delegate_to.as_ref().map(ToString::to_string),
        exchange_only: asked.exchange_only,
        dry_run: verified.wish.dry_run,
    }
}

fn ceiling(at: &Moment, verified: &Verified, asked: &Asked<'_>) -> CeilingFacts {
    let base = match &verified.origin {
        Origin::Session { .. } => verified.task_type.details(),
        Origin::Parent(parent) => parent.grant.capability.authority.details.clone(),
    };
    let widest = asked.ceilings.widest(&base);
    let longest = Lifetime { asked: None, default: asked.lifetime.max, ..asked.lifetime };
    let latest = expiry(at.now, longest, &ends(at, verified));
    CeilingFacts {
        scopes: texts(widest.scopes.iter()),
        resources: texts(widest.resources.iter()),
        authorization_details: details(&widest),
        lifetime: seconds(latest).saturating_sub(seconds(at.now)),
        depth: u64::from(asked.depth_left),
    }
}

/// The exceptions of the tenant that hold now.
fn exceptions(at: &Moment, verified: &Verified) -> Vec<ExceptionFacts> {
    let hold = at.world.snapshot.exceptions(&verified.tenant);
    hold.filter(|e| e.spec.not_before <= at.now && at.now < e.spec.expires_at)
        .map(|e| ExceptionFacts {
            name: e.name.to_string(),
            owner: String::from(e.spec.owner.clone()),
            expires_at: seconds(e.spec.expires_at),
            about: e.spec.about.clone().into_iter().collect(),
        })
        .collect()
}

fn details(authority: &Authority) -> Vec<Value> {
    authority.details.iter().map(|d| Value::Object(d.to_json())).collect()
}

fn texts<T: ToString>(items: impl Iterator<Item = T>) -> Vec<String> {
    items.map(|item| item.to_string()).collect()
}
