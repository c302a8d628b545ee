//! One person's answer: what they say, who they are, and whether they may (AP-03).

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

use crate::domain::approval::{Approval, Narrowing, Unmoved};
use crate::domain::chain::Chain;
use crate::domain::ids::{ApprovalId, ClientId, Name};
use crate::domain::objects::{Owner, PrincipalClass, SessionTokenKind, listed};
use crate::domain::principal::Principal;
use crate::domain::request::Presented;
use crate::domain::scope::ScopeSet;
use crate::domain::snapshot::{Agent, Snapshot};
use crate::issuers::fault::SessionFault;
use crate::issuers::session::{Issuers, Session};
use crate::keys::jws::Jws;
use crate::store::change::CommitFault;
use crate::store::error::StoreError;

/// How old the approver's login may be, in seconds: they have to sign in for it (AP-03).
const FRESH: i64 = 15 * 60;
/// Longest reason, in bytes.
const MAX_REASON: usize = 2000;

/// What a person says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ballot {
    /// Whether they approve; else they deny.
    pub approves: bool,
    /// Why: never empty.
    pub reason: String,
    /// What they take away; only where they approve.
    #[serde(default)]
    pub narrowing: Narrowing,
    /// Their session token: who they are.
    pub session_token: Presented,
    /// What it is.
    #[serde(default = "access_token")]
    pub session_token_type: SessionTokenKind,
}

fn access_token() -> SessionTokenKind {
    SessionTokenKind::AccessToken
}

/// Why an answer does not count.
#[derive(Debug, Error)]
pub enum NotCast {
    /// No such approval.
    #[error("no approval `{0}` is on record: `taskgrant approvals list` tells those that wait")]
    Unknown(ApprovalId),
    /// No reason.
    #[error("reason: say why, in at most {MAX_REASON} bytes, for the record")]
    NoReason,
    /// A denial that narrows.
    #[error("narrowing: a denial leaves nothing that could be narrowed")]
    NarrowedDenial,
    /// No seconds at all.
    #[error("narrowing.lifetime: at least 1 second")]
    NoLifetime,
    /// The session token is not one.
    #[error("session_token: {0}")]
    Session(#[from] SessionFault),
    /// The login is old.
    #[error("session_token: the login is {age} s old and may be {FRESH} s old: sign in again")]
    Stale {
        /// Its age in seconds.
        age: i64,
    },
    /// No person.
    #[error("session_token: its issuer knows workloads, and a person approves")]
    Workload,
    /// An agent may hold it.
    #[error(
        "session_token: agents may hold sessions of the client `{client}`: sign in through one that is in no agent's \
         `upstream_clients`"
    )]
    AgentsSession {
        /// The upstream client.
        client: String,
    },
    /// Of another tenant.
    #[error("session_token: it is of the tenant `{0}`, and the request is of another")]
    OtherTenant(Name),
    /// They would approve for themselves.
    #[error("on whose behalf the request is made may not approve it")]
    IsPrincipal,
    /// They own an agent of the chain.
    #[error("an owner of the agent `{0}`, which acts in it, may not approve it")]
    OwnsAgent(ClientId),
    /// They are not named.
    #[error("the task type names as approvers: {0}")]
    NotApprover(String),
    /// The task type is gone.
    #[error("the task type is gone or disabled: nothing of it can be approved")]
    NoTaskType,
    /// They would add something.
    #[error("narrowing: {0} was not asked for: an approver may only take away")]
    Widens(String),
    /// It comes too late, or twice.
    #[error("{0}")]
    Unmoved(Unmoved),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing is recorded.
    #[error(
        "the answer is not recorded, so nothing has changed as far as is known: {0}; look at `approvals show`"
    )]
    Commit(#[from] CommitFault),
}

impl NotCast {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) | Self::Unmoved(Unmoved::Unknown) => "approval_unknown",
            Self::NoReason | Self::NarrowedDenial | Self::NoLifetime => "malformed_request",
            Self::Session(_) => "approver_not_proved",
            Self::Stale { .. } => "approver_login_old",
            Self::Workload => "approver_no_person",
            Self::AgentsSession { .. } => "approver_session_of_agent",
            Self::OtherTenant(_) => "approver_of_other_tenant",
            Self::IsPrincipal => "approver_is_principal",
            Self::OwnsAgent(_) => "approver_owns_agent",
            Self::NotApprover(_) => "approver_not_named",
            Self::NoTaskType => "task_type_unavailable",
            Self::Widens(_) => "approver_widens",
            Self::Unmoved(Unmoved::Voted) => "already_voted",
            Self::Unmoved(Unmoved::Is(_)) => "approval_settled",
            Self::Store(_) | Self::Commit(_) => "unavailable",
        }
    }
}

impl Ballot {
    /// What can be told of it alone.
    pub(super) fn check(&self) -> Result<(), NotCast> {
        if self.reason.trim().is_empty() || self.reason.len() > MAX_REASON {
            return Err(NotCast::NoReason);
        }
        if !self.approves && self.narrowing != Narrowing::default() {
            return Err(NotCast::NarrowedDenial);
        }
        if self.narrowing.lifetime == Some(0) {
            return Err(NotCast::NoLifetime);
        }
        Ok(())
    }

    /// For the record: without the token.
    pub(super) fn asked(&self, id: ApprovalId, approver: &Principal) -> Value {
        json!({
            "approval": id,
            "answer": if self.approves { "approve" } else { "deny" },
            "approver": approver,
            "narrowing": self.narrowing,
            "reason": self.reason,
        })
    }
}

/// Who answers: a session token like any other, verified in the same way.
pub(super) async fn who(
    issuers: &Issuers,
    snapshot: &Snapshot,
    ballot: &Ballot,
    now: DateTime<Utc>,
) -> Result<Session, NotCast> {
    let jws = Jws::parse(ballot.session_token.compact()).map_err(SessionFault::from)?;
    Ok(issuers.verify_session(snapshot, jws, ballot.session_token_type, now).await?)
}

/// Whether this person may decide this (DESIGN §9: never the principal, an owner of an agent in the chain, or a client in it).
pub(super) fn may_decide(
    snapshot: &Snapshot,
    approval: &Approval,
    voter: &Session,
    ballot: &Ballot,
    now: DateTime<Utc>,
) -> Result<(), NotCast> {
    is_a_person_just_now(snapshot, voter, now)?;
    if voter.tenant != approval.tenant {
        return Err(NotCast::OtherTenant(voter.tenant.clone()));
    }
    let groups = listed(&voter.facts, &voter.issuer.spec.groups_claim);
    let is = |owner: &Owner| owner.is(&voter.principal, &groups);
    if approval.shown.get("principal") == Some(&json!(voter.principal)) {
        return Err(NotCast::IsPrincipal);
    }
    let mut agents = agents(snapshot, approval);
    if let Some(own) = agents.find(|agent| is(&agent.spec.owner)) {
        return Err(NotCast::OwnsAgent(own.spec.client_id.clone()));
    }
    let task_type = approval.task_type_name().and_then(|name| snapshot.task_type(&approval.tenant, &name));
    let task_type = task_type.filter(|task_type| !task_type.spec.disabled).ok_or(NotCast::NoTaskType)?;
    let approvers = &task_type.spec.approval.approvers;
    if !approvers.iter().any(is) {
        let named: Vec<String> = approvers.iter().cloned().map(String::from).collect();
        return Err(NotCast::NotApprover(named.join(", ")));
    }
    only_takes_away(approval, &ballot.narrowing)
}

/// A session that an agent could hold proves no person, nor does an old login.
fn is_a_person_just_now(snapshot: &Snapshot, voter: &Session, now: DateTime<Utc>) -> Result<(), NotCast> {
    let spec = &voter.issuer.spec;
    if spec.principals == PrincipalClass::Workload {
        return Err(NotCast::Workload);
    }
    let upstream = |agent: &Agent, client: &str| {
        agent.spec.upstream_clients.iter().any(|u| u.issuer == spec.issuer && u.client == client)
    };
    let client = voter.client.as_deref();
    let held = client.is_none_or(|client| snapshot.agents().any(|agent| upstream(agent, client)));
    if held || voter.may_act.is_some() {
        return Err(NotCast::AgentsSession { client: client.unwrap_or("(none told)").to_owned() });
    }
    let age = (now - voter.key.since).num_seconds();
    if age > FRESH { Err(NotCast::Stale { age }) } else { Ok(()) }
}

/// Our agents of the chain, as far as they are still registered.
fn agents<'s>(snapshot: &'s Snapshot, approval: &Approval) -> impl Iterator<Item = &'s Agent> {
    let chain = approval.shown.get("chain").map(Chain::from_json);
    let named: Vec<ClientId> = match chain {
        Some(Ok(chain)) => chain.actors().filter_map(|actor| actor.sub.parse().ok()).collect(),
        Some(Err(_)) | None => vec![approval.client_id.clone()],
    };
    let delegate = approval.shown.get("delegate_to").and_then(Value::as_str).and_then(|id| id.parse().ok());
    named.into_iter().chain(delegate).filter_map(|id| snapshot.agent(&id)).map(AsRef::as_ref)
}

/// Whether nothing in it was not asked for.
fn only_takes_away(approval: &Approval, narrowing: &Narrowing) -> Result<(), NotCast> {
    let asked: ScopeSet =
        approval.shown.get("scope").and_then(Value::as_str).and_then(|s| s.parse().ok()).unwrap_or_default();
    if let Some(beyond) = narrowing.scopes.as_ref().map(|scopes| scopes.difference(&asked))
        && !beyond.is_empty()
    {
        return Err(NotCast::Widens(format!("the scope `{beyond}`")));
    }
    let longest = approval.shown.get("expires_in").and_then(Value::as_u64).unwrap_or_default();
    match narrowing.lifetime {
        Some(lifetime) if u64::from(lifetime) > longest => {
            Err(NotCast::Widens(format!("a lifetime of more than {longest} s")))
        }
        Some(_) | None => Ok(()),
    }
}
