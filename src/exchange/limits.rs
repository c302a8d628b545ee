//! Step 6: the ceilings of one exchange, the attenuation of the request against them, and how long it may last.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::Moment;
use super::verify::{Hop, Origin, Parent, Verified};
use crate::domain::capability::Lifetime;
use crate::domain::ceiling::{Authority, Bound, CeilingName, Ceilings, Defaults, Excess, Layer, Wanted};
use crate::domain::refusal::Refusal;
use crate::domain::snapshot::TaskType;

/// A hand-over token lives at most this long, in seconds (DESIGN §4 "Hand-over").
const HAND_OVER_LIFETIME: u32 = 60;

/// Most choices of edges that are tried: beyond it, what only a later one would allow is refused.
const MOST_COMBINATIONS: usize = 64;

/// What attenuation settled, before policy.
pub(super) struct Attenuated {
    pub(super) wanted: Wanted,
    pub(super) ceilings: Ceilings,
    pub(super) authority: Authority,
    pub(super) depth_left: u32,
}

/// The versions of the task type whose ceilings hold: the task's own and the one in force (DESIGN §5).
pub(super) fn task_types(verified: &Verified) -> impl Iterator<Item = &Arc<TaskType>> {
    let began_with = match &verified.origin {
        Origin::Session { .. } => None,
        Origin::Parent(parent) => {
            Some(&parent.began_with).filter(|t| t.version != verified.task_type.version)
        }
    };
    began_with.into_iter().chain([&verified.task_type])
}

/// Step 6: the request within parent, task type, edges and entitlements. Of several refusals the one that cut least
/// is told: it leads to the request that would have been granted.
pub(super) fn attenuate(verified: &Verified, wanted: Wanted) -> Result<Attenuated, Refusal> {
    let depth_left = depth_left(verified, &wanted)?;
    let mut least: Option<Excess> = None;
    for ceilings in ceilings(verified)? {
        match ceilings.attenuate(&wanted, &defaults(verified)) {
            Ok(authority) => return Ok(Attenuated { wanted, ceilings, authority, depth_left }),
            Err(excess) if least.as_ref().is_none_or(|l| excess.over.size() < l.over.size()) => {
                least = Some(excess);
            }
            Err(_) => {}
        }
    }
    Err(least.map_or(Refusal::Depth { by: CeilingName::Delegation }, Refusal::Excess))
}

/// All ceilings but time: one set for each choice of edges, since a token lies within one single edge of each
/// hand-over that led to it (L2).
pub(super) fn ceilings(verified: &Verified) -> Result<Vec<Ceilings>, Refusal> {
    let mut layers = Vec::with_capacity(5);
    if let Origin::Parent(parent) = &verified.origin {
        layers.push(Layer::one(CeilingName::Parent, held(parent)));
    }
    layers.extend(task_types(verified).map(|t| Layer::one(CeilingName::TaskType, t.bound.clone())));
    layers.push(Layer { ceiling: CeilingName::Entitlement, any_of: entitlements(verified)? });
    let with_edges = |edges: Vec<Layer>| Ceilings {
        layers: layers.iter().cloned().chain(edges).collect(),
        listed: verified.task_type.listed.clone(),
    };
    Ok(edges(verified)?.into_iter().map(with_edges).collect())
}

/// What the principal may delegate at all: by their issuer's rules; of what is built in, by the roles in which they administer now.
fn entitlements(verified: &Verified) -> Result<Vec<Arc<Bound>>, Refusal> {
    let Verified { issuer, tenant, principal, facts, task_type, .. } = verified;
    if !task_type.is_built_in() {
        return Ok(issuer.entitled(facts));
    }
    let roles = issuer.roles(tenant, principal, facts);
    match task_type.role().filter(|role| roles.contains(role)) {
        Some(_) => Ok(vec![task_type.bound.clone()]),
        None => Err(Refusal::NoRole { task_type: task_type.name.clone() }),
    }
}

/// The edges of every hand-over that the chain tells of, earlier ones included, so that a removed or lowered edge
/// bites below it too: one of each version that holds, in every combination.
fn edges(verified: &Verified) -> Result<Vec<Vec<Layer>>, Refusal> {
    let mut combinations = vec![Vec::new()];
    for Hop { from, to } in &verified.hops {
        let mut before: Option<Vec<Layer>> = None;
        for task_type in task_types(verified) {
            let layers: Vec<_> = task_type
                .edges_between(from, to)
                .map(|e| Layer::one(CeilingName::Delegation, e.bound.clone()))
                .collect();
            if layers.is_empty() {
                let (from, to) = (from.spec.client_id.clone(), to.spec.client_id.clone());
                return Err(Refusal::NoEdge { from, to });
            }
            if before.as_ref() == Some(&layers) {
                continue;
            }
            let extended = |held: &Vec<Layer>| {
                // Within one edge twice is within it.
                let new = |layer: &Layer| (!held.contains(layer)).then(|| layer.clone());
                let with = |layer: &Layer| held.iter().cloned().chain(new(layer)).collect();
                layers.iter().map(with).collect::<Vec<_>>()
            };
            combinations = combinations.iter().flat_map(extended).take(MOST_COMBINATIONS).collect();
            before = Some(layers);
        }
    }
    Ok(combinations)
}

fn held(parent: &Parent) -> Bound {
    let authority = parent.grant.capability.authority.clone();
    Bound {
        scopes: Some(authority.scopes),
        resources: Some(authority.resources),
        details: Some(authority.details),
    }
}

fn defaults(verified: &Verified) -> Defaults {
    match &verified.origin {
        Origin::Session { .. } => Defaults {
            scopes: verified.task_type.default_scopes.clone(),
            details: verified.task_type.details(),
        },
        Origin::Parent(parent) => {
            let held = &parent.grant.capability.authority;
            Defaults { scopes: held.scopes.clone(), details: held.details.clone() }
        }
    }
}

/// Hand-overs left: the task type's at the root, less what a foreign chain used up; one less at a hand-over.
fn depth_left(verified: &Verified, wanted: &Wanted) -> Result<u32, Refusal> {
    let most = |t: &Arc<TaskType>| t.spec.delegation.max_depth;
    let left = match &verified.origin {
        Origin::Session { foreign_actors, .. } => {
            let used = u32::try_from(*foreign_actors).unwrap_or(u32::MAX);
            most(&verified.task_type).checked_sub(used).ok_or(Refusal::Depth { by: CeilingName::TaskType })?
        }
        Origin::Parent(parent) => {
            let held = parent.grant.capability.depth_left;
            let left = if parent.hands_over_to(&verified.agent) { held.checked_sub(1) } else { Some(held) };
            // A lowered max_depth bites live tasks too: what the chain used up counts against it.
            let used = u32::try_from(verified.chain.len() - 1).unwrap_or(u32::MAX);
            let in_force = most(&verified.task_type)
                .checked_sub(used)
                .ok_or(Refusal::Depth { by: CeilingName::TaskType })?;
            left.ok_or(Refusal::Depth { by: CeilingName::Parent })?.min(in_force)
        }
    };
    if left == 0 && wanted.exchange_only && verified.wish.delegate_to.is_some() {
        return Err(Refusal::Depth { by: CeilingName::Parent });
    }
    Ok(left)
}

/// `lifetime.token` bounds tokens for a service and hand-over tokens; any other exchange-only token lives until
/// the task's deadline unless asked shorter (DESIGN §3).
pub(super) fn lifetime(verified: &Verified, wanted: &Wanted) -> Lifetime {
    let asked = verified.wish.expires_in;
    let hand_over = verified.wish.delegate_to.is_some();
    if wanted.exchange_only && !hand_over {
        return Lifetime { asked, default: u32::MAX, max: u32::MAX };
    }
    let most = if hand_over { HAND_OVER_LIFETIME } else { u32::MAX };
    let token = task_types(verified).map(|t| t.spec.lifetime.token);
    let start = Lifetime { asked, default: most, max: most };
    token.fold(start, |held, token| Lifetime {
        default: held.default.min(token.default),
        max: held.max.min(token.max),
        ..held
    })
}

/// When the task ends at the latest: its own lifetime or the session's end (L5).
pub(super) fn deadline(at: &Moment, verified: &Verified) -> DateTime<Utc> {
    let seconds = TimeDelta::seconds(i64::from(verified.task_type.spec.lifetime.task));
    let own = at.now + seconds;
    let end = match &verified.origin {
        Origin::Session { ends, .. } => own.min(*ends),
        Origin::Parent(parent) => own.min(parent.grant.task_deadline),
    };
    DateTime::from_timestamp(end.timestamp(), 0).unwrap_or(end)
}

/// The instants that no token of this exchange may outlive.
pub(super) fn ends(at: &Moment, verified: &Verified) -> Vec<DateTime<Utc>> {
    match &verified.origin {
        Origin::Session { .. } => vec![deadline(at, verified)],
        Origin::Parent(parent) => vec![parent.grant.capability.expires_at, parent.grant.task_deadline],
    }
}
