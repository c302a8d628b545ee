//! The capability a token carries, and the one order on it: `child ≤ parent` (L1).

use chrono::{DateTime, Utc};
use thiserror::Error;

use super::ceiling::Authority;
use super::chain::Chain;
use super::ids::{ClientId, Name, TaskId};
use super::principal::Principal;

/// What a token lets its holder do: the pure value of DESIGN §3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Scopes, resources and authorization details.
    pub authority: Authority,
    /// When it ends, in whole seconds; the instant itself no longer counts.
    pub expires_at: DateTime<Utc>,
    /// How many further hand-overs are allowed; 0 = none.
    pub depth_left: u32,
    /// Thumbprint of the key whose holder alone may use it (`cnf.jkt`); `None` = a bearer token.
    pub sender_key: Option<String>,
}

/// A capability together with whose it is: what one token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The tenant.
    pub tenant: Name,
    /// On whose behalf.
    pub principal: Principal,
    /// The task.
    pub task_id: TaskId,
    /// When the task ends.
    pub task_deadline: DateTime<Utc>,
    /// The agent that holds it.
    pub agent: ClientId,
    /// The actors, the holder first.
    pub chain: Chain,
    /// What it may do.
    pub capability: Capability,
    /// Whether no service accepts it: it can only be narrowed further.
    pub exchange_only: bool,
    /// The only agent that may spend it, once; set on a hand-over token.
    pub may_act: Option<ClientId>,
}

/// The dimension in which a child would be wider than its parent.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Widening {
    /// Another tenant.
    #[error("the tenant differs")]
    Tenant,
    /// Another principal.
    #[error("the principal differs")]
    Principal,
    /// Another task, or a later task deadline.
    #[error("the task differs")]
    Task,
    /// A scope the parent does not hold.
    #[error("a scope is not in the parent")]
    Scopes,
    /// A resource the parent does not hold, or not exactly one for a service.
    #[error("a resource is not in the parent")]
    Resources,
    /// An authorization detail that no single detail of the parent covers.
    #[error("an authorization detail is not covered by the parent")]
    Details,
    /// A later expiry than the parent's, or than the deadline that the child itself names.
    #[error("it expires later than the parent")]
    Expiry,
    /// More hand-overs left than the hop allows.
    #[error("it allows more hand-overs than the parent")]
    Depth,
    /// A bound parent, and a child that is unbound, or bound to another key for the same agent, or to the parent's
    /// key for another agent (DP-03).
    #[error("it is not bound to the key that the parent demands")]
    SenderKey,
    /// A chain that drops, reorders or skips an actor.
    #[error("the actor chain does not continue the parent's")]
    Chain,
}

/// Decides L1: whether `child` is ≤ `parent` in every dimension, for the same tenant, principal and task.
///
/// The agent that holds the child tells which hop it is: the parent's own (chain continued, depth kept, same
/// key) or another (chain nested once, depth one less, that agent's own key where the parent was bound).
/// The last thing asked before signing, on every path (RA-05, DP-03, TX-13, TX-17).
pub fn never_wider(parent: &Grant, child: &Grant) -> Result<(), Widening> {
    use Widening as W;
    let (held, asked) = (&parent.capability, &child.capability);
    let same_agent = child.agent == parent.agent;
    hold(child.tenant == parent.tenant, W::Tenant)?;
    hold(child.principal == parent.principal, W::Principal)?;
    hold(child.task_id == parent.task_id && child.task_deadline <= parent.task_deadline, W::Task)?;
    hold(asked.authority.scopes.is_subset(&held.authority.scopes), W::Scopes)?;
    hold(asked.authority.resources.is_subset(&held.authority.resources), W::Resources)?;
    hold(child.exchange_only || asked.authority.resources.len() == 1, W::Resources)?;
    hold(held.authority.details.covers(&asked.authority.details), W::Details)?;
    hold(asked.expires_at <= held.expires_at && asked.expires_at <= child.task_deadline, W::Expiry)?;
    let depth = if same_agent { Some(held.depth_left) } else { held.depth_left.checked_sub(1) };
    hold(depth.is_some_and(|most| asked.depth_left <= most), W::Depth)?;
    let key_kept = match (&held.sender_key, &asked.sender_key) {
        (None, _) => true,
        (Some(held), Some(asked)) => same_agent == (held == asked),
        (Some(_), None) => false,
    };
    hold(key_kept, W::SenderKey)?;
    let chain_kept =
        if same_agent { child.chain.continues(&parent.chain) } else { child.chain.extends(&parent.chain) };
    hold(chain_kept && child.chain.current().sub == child.agent.as_str(), W::Chain)
}

fn hold(condition: bool, otherwise: Widening) -> Result<(), Widening> {
    if condition { Ok(()) } else { Err(otherwise) }
}

/// When a token ends: the earliest of the lifetime asked for (or the default), the most the ceiling allows, and
/// every bound in `ends`; whole seconds, rounded down (L5). The result may be in the past: then nothing is left.
pub fn expiry(now: DateTime<Utc>, lifetime: Lifetime, ends: &[DateTime<Utc>]) -> DateTime<Utc> {
    let seconds = lifetime.asked.unwrap_or(lifetime.default).min(lifetime.max);
    let wished = now + chrono::TimeDelta::seconds(i64::from(seconds));
    let earliest = ends.iter().copied().fold(wished, DateTime::min);
    DateTime::from_timestamp(earliest.timestamp(), 0).unwrap_or(earliest)
}

/// Bounds on a token's lifetime, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// `requested_expires_in`, if sent: shortened where too long, never refused (L8).
    pub asked: Option<u32>,
    /// What holds when nothing was asked for.
    pub default: u32,
    /// The most.
    pub max: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::chain::Actor;
    use chrono::TimeDelta;

    fn actor(sub: &str) -> Actor {
        Actor { sub: sub.into(), iss: "https://tg.example".into(), instance: None }
    }

    fn held() -> Grant {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        Grant {
            tenant: "acme".parse().unwrap(),
            principal: Principal { iss: "https://idp.example".into(), sub: "ann".into() },
            task_id: TaskId::new(now, [1; 10]),
            task_deadline: now + TimeDelta::seconds(3600),
            agent: "a".parse().unwrap(),
            chain: Chain::root(actor("a"), vec![]).unwrap(),
            capability: Capability {
                authority: Authority {
                    scopes: "read".parse().unwrap(),
                    resources: ["https://orders.example".parse().unwrap()].into(),
                    details: crate::domain::details::Details::default(),
                },
                expires_at: now + TimeDelta::seconds(300),
                depth_left: 1,
                sender_key: Some("key of a".into()),
            },
            exchange_only: false,
            may_act: None,
        }
    }

    fn handed_over(parent: &Grant, key: Option<&str>) -> Grant {
        let mut child = parent.clone();
        child.agent = "b".parse().unwrap();
        child.chain = parent.chain.hand_over(actor("b")).unwrap();
        child.capability.depth_left -= 1;
        child.capability.sender_key = key.map(str::to_owned);
        child
    }

    #[test]
    fn dp_03_a_hand_over_binds_to_the_receivers_own_key() {
        let parent = held();
        assert_eq!(never_wider(&parent, &handed_over(&parent, Some("key of b"))), Ok(()));
        for key in [None, Some("key of a")] {
            assert_eq!(never_wider(&parent, &handed_over(&parent, key)), Err(Widening::SenderKey), "{key:?}");
        }
    }

    #[test]
    fn l5_a_child_ends_with_the_deadline_that_it_names() {
        let parent = held();
        let mut child = parent.clone();
        child.task_deadline = parent.capability.expires_at - TimeDelta::seconds(1);
        assert_eq!(never_wider(&parent, &child), Err(Widening::Expiry));
        child.capability.expires_at = child.task_deadline;
        assert_eq!(never_wider(&parent, &child), Ok(()));
    }
}
