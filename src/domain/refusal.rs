//! Every refusal of an exchange, as a value of one closed enum (DESIGN §4). `http/error.rs` maps it to OAuth.

mod beside_policy;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::approval::NotFetched;
use super::capability::Widening;
use super::ceiling::{CeilingName, Excess, Over};
use super::chain::BadChain;
use super::decision::Reason;
use super::details::BadDetails;
use super::ids::{ClientId, Name};
use super::resource::ResourceUri;
use super::scope::BadScope;

/// What a client may do about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// The same request will be refused again.
    Never,
    /// Ask for less: see `grantable`.
    Narrower,
    /// Start again from a fresh session token or a fresh parent.
    NewSession,
    /// Once a person has approved.
    AfterApproval,
    /// The same request, later.
    Later,
}

/// Why a presented token is not accepted: a stable code and a sentence that names the claim and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFault {
    /// Stable code, the tail of the reason code: `expired` in `subject_token_expired`.
    pub code: &'static str,
    /// What is wrong, without the token.
    pub why: String,
    /// Whether a fresh token would help.
    pub retry: Retry,
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitedBy {
    /// The authenticated client's.
    Client,
    /// The principal's, whoever asks for it.
    Principal,
    /// The source address's, before any client is known.
    Address,
    /// The source address's, by failed client authentications.
    Failures,
    /// The task's rate.
    TaskRate,
    /// The number of tokens of the task.
    TaskTokens,
    /// The number of children of the parent token.
    TokenChildren,
    /// The number of approvals that the client waits for.
    Approvals,
}

impl LimitedBy {
    /// The reason code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Client => "rate_limited_client",
            Self::Principal => "rate_limited_principal",
            Self::Address => "rate_limited_address",
            Self::Failures => "rate_limited_failures",
            Self::TaskRate => "rate_limited_task",
            Self::TaskTokens => "task_tokens_exhausted",
            Self::TokenChildren => "token_children_exhausted",
            Self::Approvals => "approvals_waiting",
        }
    }

    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Principal => "principal",
            Self::Address => "address",
            Self::Failures => "failures",
            Self::TaskRate => "task_rate",
            Self::TaskTokens => "task_tokens",
            Self::TokenChildren => "token_children",
            Self::Approvals => "approvals",
        }
    }

    /// What there is too much of.
    pub fn what(self) -> &'static str {
        match self {
            Self::Client => "too many requests for this client",
            Self::Principal => "too many requests for this principal",
            Self::Address => "too many requests for this source address",
            Self::Failures => {
                "too many requests for this source address, with credentials that are not accepted"
            }
            Self::TaskRate => "too many exchanges within this task",
            Self::TaskTokens => "the task has as many tokens as it may have: start another task",
            Self::TokenChildren => {
                "the subject token has as many children as it may have: go on from one of them, or start another task"
            }
            Self::Approvals => "this client waits for as many approvals as it may",
        }
    }

    /// Whether waiting helps: a rate recovers, a number does not.
    fn recovers(self) -> bool {
        !matches!(self, Self::TaskTokens | Self::TokenChildren)
    }
}

/// A limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// Which.
    pub by: LimitedBy,
    /// Seconds until one more request may come, at least 1. Where waiting does not help, until the parent's expiry.
    pub retry_after: u32,
}

/// A refused exchange, as facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A parameter is missing, repeated, malformed or not allowed beside another (RFC 6749 §5.2).
    Malformed {
        /// The parameter.
        field: &'static str,
        /// What is wrong and what would mend it.
        why: String,
    },
    /// The grant type is not token exchange.
    GrantType,
    /// The client is known but may not use this grant.
    NotAnAgent,
    /// The agent is disabled or does not serve the tenant of the session.
    AgentNotServed,
    /// `scope` is not of the RFC 6749 §3.3 grammar.
    Scope(BadScope),
    /// `resource` or `audience` names nothing that is registered for the tenant (RFC 8693 §2.2.2).
    UnknownTarget {
        /// As asked, masked.
        asked: String,
    },
    /// `authorization_details` is not readable (RFC 9396 §5).
    Details(BadDetails),
    /// The subject token is not acceptable (RFC 8693 §2.2.2).
    Subject(TokenFault),
    /// The actor token is not acceptable.
    Actor(TokenFault),
    /// The subject token is not this agent's to spend (T02, T12).
    NotYours {
        /// Who may.
        why: String,
    },
    /// The token is bound to an instance that the request did not prove.
    Instance,
    /// No task type was named and the agent has no default or several to choose from.
    TaskTypeMissing {
        /// What it may start.
        choices: BTreeSet<Name>,
    },
    /// The task type does not exist for the tenant, is disabled, or is not this agent's.
    TaskType {
        /// The name asked for, or the task's.
        name: Name,
        /// What is wrong.
        why: &'static str,
        /// What the agent may start.
        choices: BTreeSet<Name>,
    },
    /// The principal does not administer in the role that the task type opens the admin API in.
    NoRole {
        /// The task type.
        task_type: Name,
    },
    /// More was asked for than a ceiling allows (L8).
    Excess(Excess),
    /// No delegation edge leads from the holder to this agent.
    NoEdge {
        /// From whom.
        from: ClientId,
        /// To whom.
        to: ClientId,
    },
    /// No further hand-over is allowed.
    Depth {
        /// What has none left: the parent, or the task type, which a session's own chain used up.
        by: CeilingName,
    },
    /// The chain cannot take this agent.
    Chain(BadChain),
    /// Nothing is left of the session, the parent or the task.
    Expired,
    /// The token would be longer than this server itself would accept back (T21).
    TooLarge,
    /// Policy refuses.
    Policy {
        /// All its reasons.
        reasons: Vec<Reason>,
    },
    /// What policy left of the request is nothing.
    NarrowedToNothing,
    /// A person must approve, and the client did not opt in to wait (STANDARDS §11).
    Approval {
        /// All reasons.
        reasons: Vec<Reason>,
    },
    /// A person would have to approve, and the task type names nobody who may.
    NoApprovers {
        /// All reasons.
        reasons: Vec<Reason>,
    },
    /// What people approved does not cover what must be approved now: policy or the task type asks for more (AP-02).
    NotCovered {
        /// What they were not asked.
        reasons: Vec<Reason>,
    },
    /// A deferred exchange gives no token.
    NotFetched(NotFetched),
    /// The policy engine failed: recorded as a denial, answered 503.
    PolicyFault {
        /// The engine's words, for the record only.
        why: String,
    },
    /// The store could not be read: nothing is decided, answered 503.
    StoreFault,
    /// The time of day cannot be believed now: nothing is issued, answered 503 (DESIGN §7 "Time").
    Clock {
        /// Why, for people.
        why: String,
    },
    /// The final check found the child wider than its parent: nothing is signed.
    Widens(Widening),
    /// The token, one above it, its task, session, principal, issuer, tenant, task type or an agent is revoked.
    Revoked {
        /// What.
        what: &'static str,
    },
    /// The agent that started the task has completed it.
    TaskEnded,
    /// An admin has stopped new tokens, of the tenant or of all.
    Lockdown,
    /// A hand-over token was spent already.
    Spent,
    /// The tree of tokens is as high as it may be.
    TooHigh,
    /// The parent or the task is not in the store.
    UnknownParent,
    /// Too much at once: nothing was decided.
    Limited(Limited),
}

/// The largest thing that could have been asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grantable {
    /// Scopes.
    Scope(String),
    /// Resource URIs.
    Resource(Vec<String>),
    /// Authorization details.
    Details(Value),
    /// Task types.
    TaskType(Vec<String>),
}

impl Grantable {
    /// Whether nothing at all could have been asked for.
    fn is_nothing(&self) -> bool {
        match self {
            Self::Scope(scope) => scope.is_empty(),
            Self::Resource(list) | Self::TaskType(list) => list.is_empty(),
            Self::Details(_) => false,
        }
    }

    /// As the `grantable` member of an error answer: the request's own parameter names.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Scope(scope) => json!({"scope": scope}),
            Self::Resource(uris) => json!({"resource": uris}),
            Self::Details(details) => json!({"authorization_details": details}),
            Self::TaskType(names) => json!({"task_type": names}),
        }
    }
}

fn uris(set: &BTreeSet<ResourceUri>) -> Vec<String> {
    set.iter().map(ResourceUri::to_string).collect()
}

fn names(set: &BTreeSet<Name>) -> Vec<String> {
    set.iter().map(Name::to_string).collect()
}

impl Refusal {
    /// A malformed parameter.
    pub fn malformed(field: &'static str, why: impl Into<String>) -> Self {
        Self::Malformed { field, why: why.into() }
    }

    /// Stable code for programs; part of the API.
    pub fn code(&self) -> String {
        let code = match self {
            Self::Malformed { .. } => "malformed_request",
            Self::GrantType => "grant_type_unsupported",
            Self::NotAnAgent => "client_is_no_agent",
            Self::AgentNotServed => "agent_not_of_tenant",
            Self::Scope(_) => "scope_malformed",
            Self::UnknownTarget { .. } => "target_unknown",
            Self::Details(_) => "authorization_details_invalid",
            Self::Subject(fault) => return format!("subject_token_{}", fault.code),
            Self::Actor(fault) => return format!("actor_token_{}", fault.code),
            Self::NotYours { .. } => "subject_token_not_yours",
            Self::Instance => "instance_not_proved",
            Self::TaskTypeMissing { .. } => "task_type_missing",
            Self::TaskType { .. } => "task_type_unavailable",
            Self::NoRole { .. } => "administrator_role_missing",
            Self::Excess(excess) => match excess.over {
                Over::Scopes { .. } => "scope_exceeds_ceiling",
                Over::Resources { .. } => "target_exceeds_ceiling",
                Over::NotOneResource { ref choices } if choices.is_empty() => "target_none_allowed",
                Over::NotOneResource { .. } => "target_ambiguous",
                Over::Details { .. } => "authorization_details_exceed_ceiling",
            },
            Self::NoEdge { .. } => "delegation_not_allowed",
            Self::Depth { .. } => "delegation_depth_exhausted",
            Self::Chain(BadChain::Repeated) => "actor_repeated",
            Self::Chain(BadChain::TooLong) => "actor_chain_too_long",
            Self::Chain(BadChain::Malformed) => "actor_chain_malformed",
            Self::Expired => "nothing_left",
            Self::TooLarge => "token_too_large",
            Self::Policy { .. } => "policy_denied",
            Self::NarrowedToNothing => "policy_left_nothing",
            Self::Approval { .. } => "approval_required",
            Self::NoApprovers { .. } => "approval_impossible",
            Self::NotCovered { .. } => "approval_insufficient",
            Self::NotFetched(why) => why.code(),
            Self::PolicyFault { .. } => "policy_unavailable",
            Self::StoreFault => "store_unavailable",
            Self::Clock { .. } => "clock_unsteady",
            Self::Widens(_) => "wider_than_parent",
            Self::Revoked { .. } => "revoked",
            Self::TaskEnded => "task_ended",
            Self::Lockdown => "lockdown",
            Self::Spent => "hand_over_spent",
            Self::TooHigh => "token_tree_too_high",
            Self::UnknownParent => "parent_unknown",
            Self::Limited(limited) => limited.by.code(),
        };
        code.to_owned()
    }

    /// The ceiling that cut, where one did.
    pub fn ceiling(&self) -> Option<CeilingName> {
        match self {
            Self::Excess(excess) => Some(excess.ceiling),
            Self::NoRole { .. } => Some(CeilingName::Entitlement),
            Self::NoEdge { .. } => Some(CeilingName::Delegation),
            Self::TaskType { .. } | Self::TaskTypeMissing { .. } => Some(CeilingName::TaskType),
            Self::Depth { by } => Some(*by),
            Self::Widens(_) => Some(CeilingName::Parent),
            Self::Policy { .. }
            | Self::NarrowedToNothing
            | Self::Approval { .. }
            | Self::NoApprovers { .. }
            | Self::NotCovered { .. }
            | Self::PolicyFault { .. } => Some(CeilingName::Policy),
            Self::Malformed { .. }
            | Self::GrantType
            | Self::NotAnAgent
            | Self::AgentNotServed
            | Self::Scope(_)
            | Self::UnknownTarget { .. }
            | Self::Details(_)
            | Self::Subject(_)
            | Self::Actor(_)
            | Self::NotYours { .. }
            | Self::Instance
            | Self::Chain(_)
            | Self::StoreFault
            | Self::Expired
            | Self::TooLarge
            | Self::Clock { .. }
            | Self::Revoked { .. }
            | Self::TaskEnded
            | Self::Lockdown
            | Self::Spent
            | Self::TooHigh
            | Self::UnknownParent
            | Self::NotFetched(_)
            | Self::Limited(_) => None,
        }
    }

    /// The largest grantable subset before policy, where it can be told.
    pub fn grantable(&self) -> Option<Grantable> {
        if let Self::TaskTypeMissing { choices } | Self::TaskType { choices, .. } = self {
            return Some(Grantable::TaskType(names(choices)));
        }
        let Self::Excess(excess) = self else { return None };
        Some(match &excess.over {
            Over::Scopes { grantable, .. } => Grantable::Scope(grantable.to_string()),
            Over::Resources { choices, .. } | Over::NotOneResource { choices } => {
                Grantable::Resource(uris(choices))
            }
            Over::Details { grantable, .. } => Grantable::Details(grantable.to_json()),
        })
    }

    /// What the client may do about it.
    pub fn retry(&self) -> Retry {
        if let Self::Subject(fault) | Self::Actor(fault) = self {
            return fault.retry;
        }
        let dead = matches!(self, Self::Expired | Self::Revoked { .. } | Self::TaskEnded);
        if dead || matches!(self, Self::Spent | Self::UnknownParent) {
            return Retry::NewSession;
        }
        if matches!(self, Self::Limited(limited) if !limited.by.recovers()) {
            return Retry::NewSession;
        }
        if matches!(self, Self::TooLarge) {
            return Retry::Narrower;
        }
        if matches!(self, Self::Approval { .. }) {
            return Retry::AfterApproval;
        }
        let fault = matches!(self, Self::PolicyFault { .. } | Self::StoreFault | Self::Clock { .. });
        if fault || matches!(self, Self::Lockdown | Self::Limited(_)) {
            return Retry::Later;
        }
        if self.grantable().is_some_and(|g| !g.is_nothing()) { Retry::Narrower } else { Retry::Never }
    }

    /// Whether it costs the caller nothing to be refused so again and again: then it is counted, not recorded each time (L12).
    pub fn is_cheap_to_repeat(&self) -> bool {
        matches!(self, Self::Limited(_) | Self::NotAnAgent | Self::NotFetched(_))
    }

    /// Policy's own reasons, private ones included.
    fn policy_reasons(&self) -> &[Reason] {
        if let Self::Policy { reasons }
        | Self::Approval { reasons }
        | Self::NoApprovers { reasons }
        | Self::NotCovered { reasons } = self
        {
            reasons
        } else {
            &[]
        }
    }

    /// Policy's reasons that the client may see (TX-09).
    pub fn public_reasons(&self) -> impl Iterator<Item = &Reason> {
        self.policy_reasons().iter().filter(|r| r.public)
    }

    /// The reasons as the decision log keeps them: policy's own, private ones included, else the refusal's.
    pub fn reasons(&self) -> Vec<Reason> {
        if !self.policy_reasons().is_empty() {
            return self.policy_reasons().to_vec();
        }
        if let Self::PolicyFault { why } = self {
            return vec![Reason {
                code: self.code(),
                message: format!("policy engine fault: {why}"),
                public: false,
            }];
        }
        vec![Reason { code: self.code(), message: self.to_string(), public: true }]
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { field, why } => write!(f, "{field}: {why}"),
            Self::GrantType => f.write_str("only the token-exchange grant is offered (RFC 8693)"),
            Self::NotAnAgent => f.write_str(
                "this client is a resource, not an agent: it neither starts tasks nor exchanges tokens",
            ),
            Self::AgentNotServed => f.write_str("this agent does not belong to the tenant of the session"),
            Self::Scope(bad) => bad.fmt(f),
            Self::UnknownTarget { asked } => write!(f, "no resource `{asked}` is registered for this tenant"),
            Self::Details(bad) => bad.fmt(f),
            Self::Subject(fault) => write!(f, "subject_token: {}", fault.why),
            Self::Actor(fault) => write!(f, "actor_token: {}", fault.why),
            Self::NotYours { why } => write!(f, "this agent may not spend the subject token: {why}"),
            Self::Instance => {
                f.write_str("the token belongs to one instance of the agent: prove it with actor_token")
            }
            Self::TaskTypeMissing { choices } if choices.is_empty() => {
                f.write_str("this agent may not start any task type")
            }
            Self::TaskTypeMissing { choices } => {
                write!(f, "name a task_type, one of: {}", names(choices).join(", "))
            }
            Self::TaskType { name, why, .. } => write!(f, "task type `{name}` {why}"),
            Self::NoRole { task_type } => {
                write!(f, "no Administrator object gives this principal the role that `{task_type}` needs")
            }
            Self::Excess(excess) => write_excess(f, excess),
            Self::NoEdge { from, to } => write!(f, "the task type does not let `{from}` hand over to `{to}`"),
            Self::Depth { by } => write!(f, "the {by} ceiling allows no further hand-over: depth_left is 0"),
            Self::Chain(bad) => bad.fmt(f),
            Self::Expired => f.write_str("nothing is left of the session, the parent token or the task"),
            Self::TooLarge => {
                f.write_str("the token would be too large: ask for fewer authorization_details")
            }
            Self::Policy { reasons } => write_reasons(f, "policy denies the request", reasons),
            Self::NarrowedToNothing => f.write_str("what policy allows of the request is nothing"),
            Self::Approval { reasons } => write_reasons(f, "a person must approve the request", reasons),
            Self::NoApprovers { reasons } => write_reasons(
                f,
                "a person must approve the request, and its task type names no approvers: its owner has to",
                reasons,
            ),
            Self::NotCovered { reasons } => {
                write_reasons(f, "what was approved does not cover what must be approved now", reasons)
            }
            Self::NotFetched(why) => f.write_str(why.what()),
            Self::PolicyFault { .. } => f.write_str("the policy engine is not available"),
            Self::StoreFault => f.write_str("the store is not available"),
            Self::Clock { why } => f.write_str(why),
            Self::Widens(widening) => write!(f, "the token would be wider than its parent: {widening}"),
            Self::Revoked { what } => write!(f, "the {what} is revoked"),
            Self::TaskEnded => f.write_str("the task has ended: the agent that started it has completed it"),
            Self::Lockdown => {
                f.write_str("an admin has stopped all new tokens (lockdown); those that are issued live on")
            }
            Self::Spent => f.write_str("the hand-over token was spent already: it may be exchanged once"),
            Self::TooHigh => f.write_str("the task's tree of tokens is as high as it may be"),
            Self::UnknownParent => f.write_str("the subject token or its task is not known here"),
            Self::Limited(limited) => write_limited(f, *limited),
        }
    }
}

fn write_limited(f: &mut fmt::Formatter<'_>, limited: Limited) -> fmt::Result {
    f.write_str(limited.by.what())?;
    if limited.by.recovers() { write!(f, "; try again after {} s", limited.retry_after) } else { Ok(()) }
}

fn write_reasons(f: &mut fmt::Formatter<'_>, lead: &str, reasons: &[Reason]) -> fmt::Result {
    let public: Vec<&str> = reasons.iter().filter(|r| r.public).map(|r| r.message.as_str()).collect();
    if public.is_empty() { f.write_str(lead) } else { write!(f, "{lead}: {}", public.join("; ")) }
}

fn write_excess(f: &mut fmt::Formatter<'_>, excess: &Excess) -> fmt::Result {
    let by = excess.ceiling;
    match &excess.over {
        Over::Scopes { excess, grantable } if excess.is_empty() && grantable.is_empty() => {
            write!(f, "the {by} ceiling leaves no scope")
        }
        Over::Scopes { excess, grantable } if excess.is_empty() => {
            write!(f, "no scope is left within every ceiling; name one of: {grantable}")
        }
        Over::Scopes { excess, grantable } => {
            write!(f, "scope beyond the {by} ceiling: {excess}; grantable: {grantable}")
        }
        Over::Resources { excess, choices } => {
            let (excess, choices) = (uris(excess).join(" "), uris(choices).join(" "));
            write!(f, "resource beyond the {by} ceiling: {excess}; grantable: {choices}")
        }
        Over::NotOneResource { choices } if choices.is_empty() => {
            write!(f, "the {by} ceiling leaves no resource")
        }
        Over::NotOneResource { choices } => {
            write!(f, "a token for a service names exactly one resource: {}", uris(choices).join(" "))
        }
        Over::Details { excess, .. } if excess.is_empty() => {
            write!(
                f,
                "without any authorization_details for a resource, the {by} ceiling's limits there would be lifted"
            )
        }
        Over::Details { .. } => write!(f, "authorization_details beyond the {by} ceiling"),
    }
}
