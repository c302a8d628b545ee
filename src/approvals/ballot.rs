//! One person's answer: what they say, who they are, and whether they may (AP-03).

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

use crate::domain::approval::{Approval, Narrowing, Unmoved};
use crate::domain::chain::Chain;
use crate::domain::envelope::EnvelopeTerms;
use crate::domain::ids::{ApprovalId, ClientId, Name};
use crate::domain::objects::{ApprovalSpec, Owner, PrincipalClass, SessionTokenKind, listed};
use crate::domain::principal::Principal;
use crate::domain::record::{Bears, RevocationKey};
use crate::domain::request::Presented;
use crate::domain::scope::ScopeSet;
use crate::domain::snapshot::{Agent, Snapshot};
use crate::hash::sha256;
use crate::issuers::fault::SessionFault;
use crate::issuers::session::{Issuers, Session};
use crate::keys::jws::Jws;
use crate::store::change::{CommitFault, Loss};
use crate::store::error::StoreError;

/// How old the approver's login (`auth_time`) may be, in seconds: they have to sign in for it (AP-03).
const FRESH: i64 = 15 * 60;
/// Longest reason, in bytes.
const MAX_REASON: usize = 2000;

/// What a person says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ballot {
    /// Whether they approve; else they deny. The path says it, not the body.
    #[serde(skip)]
    pub approves: bool,
    /// Why: never empty.
    pub reason: String,
    /// What they take away; only where they approve.
    #[serde(default)]
    pub narrowing: Narrowing,
    /// What they approve beyond the one request; only where they approve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<EnvelopeAsked>,
    /// Their session token: who they are.
    pub session_token: Presented,
    /// What it is.
    #[serde(default = "access_token")]
    pub session_token_type: SessionTokenKind,
}

/// The envelope that a person gives. What is left out is what the task type allows at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvelopeAsked {
    /// How many exchanges after this one; at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchanges: Option<u32>,
    /// For how many minutes; at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minutes: Option<u32>,
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
    /// A denial that gives an envelope.
    #[error("envelope: a denial lets nothing through, and no further exchange either")]
    EnvelopeOfDenial,
    /// An envelope without a limit, or for nothing.
    #[error("envelope: say `exchanges`, `minutes` or both, each at least 1")]
    EmptyEnvelope,
    /// The task type allows no envelope.
    #[error(
        "envelope: the task type allows none: approve this one request, or have its owner set `approval.envelope`"
    )]
    NoEnvelope,
    /// The task type allows less.
    #[error("envelope.{member}: at most {most}, as the task type says")]
    LargeEnvelope {
        /// Which number.
        member: &'static str,
        /// The most.
        most: u32,
    },
    /// The session token is not one.
    #[error("session_token: {0}")]
    Session(#[from] SessionFault),
    /// When the person logged in is not told.
    #[error(
        "session_token: it has no `auth_time`, so that nobody knows when you signed in (OpenID Connect Core section 2)"
    )]
    NoLogin,
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
    /// Any agent may spend the sessions of the issuer.
    #[error(
        "session_token: any agent may hold sessions of its issuer (`any_agent`), so that they prove no person"
    )]
    AnyAgent,
    /// Of another tenant.
    #[error("session_token: it is of the tenant `{0}`, and the request is of another")]
    OtherTenant(Name),
    /// They would approve for themselves.
    #[error("on whose behalf the request is made may not approve it")]
    IsPrincipal,
    /// They act in it.
    #[error("who acts in the request may not approve it")]
    Acts,
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
    /// What was asked cannot be read.
    #[error("what was asked cannot be read: nobody can approve it")]
    Unreadable,
    /// What the session hangs on is revoked.
    #[error("session_token: {0}")]
    Dead(Loss),
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
            Self::NoReason
            | Self::NarrowedDenial
            | Self::NoLifetime
            | Self::EnvelopeOfDenial
            | Self::EmptyEnvelope => "malformed_request",
            Self::NoEnvelope | Self::LargeEnvelope { .. } => "envelope_not_allowed",
            Self::Session(_) => "approver_not_proved",
            Self::NoLogin => "approver_login_unknown",
            Self::Acts => "approver_acts",
            Self::Unreadable => "request_unreadable",
            Self::Dead(_) => "approver_revoked",
            Self::Stale { .. } => "approver_login_old",
            Self::Workload => "approver_no_person",
            Self::AgentsSession { .. } | Self::AnyAgent => "approver_session_of_agent",
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
        let Some(EnvelopeAsked { exchanges, minutes }) = self.envelope else { return Ok(()) };
        let numbers: Vec<u32> = exchanges.into_iter().chain(minutes).collect();
        if !self.approves {
            return Err(NotCast::EnvelopeOfDenial);
        }
        if numbers.is_empty() || numbers.contains(&0) { Err(NotCast::EmptyEnvelope) } else { Ok(()) }
    }

    /// The envelope that it gives, where `spec` allows it.
    fn envelope(&self, spec: &ApprovalSpec) -> Result<Option<EnvelopeTerms>, NotCast> {
        let Some(EnvelopeAsked { exchanges, minutes }) = self.envelope else { return Ok(None) };
        let most = spec.envelope.ok_or(NotCast::NoEnvelope)?;
        let within = |member, asked: Option<u32>, most| match asked {
            Some(asked) if asked > most => Err(NotCast::LargeEnvelope { member, most }),
            asked => Ok(asked.unwrap_or(most)),
        };
        Ok(Some(EnvelopeTerms {
            exchanges: within("exchanges", exchanges, most.exchanges)?,
            minutes: within("minutes", minutes, most.minutes)?,
        }))
    }

    /// For the record: without the token.
    pub(super) fn asked(&self, approval: &Approval, approver: &Principal) -> Value {
        let mut asked = json!({
            "approval": approval.id,
            "shown_sha256": hex::encode(sha256(&[approval.shown.to_string().as_bytes()])),
            "answer": if self.approves { "approve" } else { "deny" },
            "approver": approver,
            "narrowing": self.narrowing,
            "reason": self.reason,
        });
        if let (Some(members), Some(envelope)) = (asked.as_object_mut(), self.envelope) {
            members.insert("envelope".to_owned(), json!(envelope));
        }
        asked
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

/// As whom this person may decide this (DESIGN §9: never the principal, an owner of an agent in the chain, or a client in it), and
/// the envelope that they give with it.
pub(super) fn may_decide(
    snapshot: &Snapshot,
    approval: &Approval,
    voter: &Session,
    ballot: &Ballot,
    now: DateTime<Utc>,
) -> Result<(String, Option<EnvelopeTerms>), NotCast> {
    is_a_person_just_now(snapshot, voter, now)?;
    if voter.tenant != approval.tenant {
        return Err(NotCast::OtherTenant(voter.tenant.clone()));
    }
    let groups = listed(&voter.facts, &voter.issuer.spec.groups_claim);
    let is = |owner: &Owner| owner.is(&voter.principal, &groups);
    let asked = Asked::of(approval).ok_or(NotCast::Unreadable)?;
    if asked.principal == voter.principal {
        return Err(NotCast::IsPrincipal);
    }
    if asked.chain.actors().any(|a| a.iss == voter.principal.iss && a.sub == voter.principal.sub) {
        return Err(NotCast::Acts);
    }
    if let Some(own) = asked.agents(snapshot).find(|agent| is(&agent.spec.owner)) {
        return Err(NotCast::OwnsAgent(own.spec.client_id.clone()));
    }
    let task_type = approval.task_type_name().and_then(|name| snapshot.task_type(&approval.tenant, &name));
    let task_type = task_type.filter(|task_type| !task_type.spec.disabled).ok_or(NotCast::NoTaskType)?;
    let approvers = &task_type.spec.approval.approvers;
    let Some(named_as) = approvers.iter().find(|owner| is(owner)) else {
        let named: Vec<String> = approvers.iter().cloned().map(String::from).collect();
        return Err(NotCast::NotApprover(named.join(", ")));
    };
    asked.only_takes_away(&ballot.narrowing)?;
    Ok((String::from(named_as.clone()), ballot.envelope(&task_type.spec.approval)?))
}

/// What, if it is revoked, ends the session of who answers.
pub(super) fn killed_by(voter: &Session) -> Vec<(RevocationKey, Bears)> {
    let (key, principal) = (&voter.key, &voter.principal);
    let named = match &key.sid {
        Some(sid) => RevocationKey::session(&key.iss, sid),
        None => RevocationKey::nameless_sessions(&key.iss, &principal.sub),
    };
    let keys = [
        named,
        RevocationKey::session_token(&key.iss, &key.token_sha256),
        RevocationKey::principal(&principal.iss, &principal.sub),
        RevocationKey::issuer(&principal.iss),
        RevocationKey::tenant(&voter.tenant),
    ];
    keys.into_iter().map(|revoked| (revoked, Bears::IfSince(key.since))).collect()
}

/// A session that an agent could hold proves no person, nor does an old login.
fn is_a_person_just_now(snapshot: &Snapshot, voter: &Session, now: DateTime<Utc>) -> Result<(), NotCast> {
    let spec = &voter.issuer.spec;
    if spec.principals == PrincipalClass::Workload {
        return Err(NotCast::Workload);
    }
    if spec.any_agent {
        return Err(NotCast::AnyAgent);
    }
    let upstream = |agent: &Agent, client: &str| {
        agent.spec.upstream_clients.iter().any(|u| u.issuer == spec.issuer && u.client == client)
    };
    let client = voter.client.as_deref();
    let held = client.is_none_or(|client| snapshot.agents().any(|agent| upstream(agent, client)));
    if held || voter.may_act.is_some() {
        return Err(NotCast::AgentsSession { client: client.unwrap_or("(none told)").to_owned() });
    }
    let age = (now - voter.auth_time.ok_or(NotCast::NoLogin)?).num_seconds();
    if age > FRESH { Err(NotCast::Stale { age }) } else { Ok(()) }
}

/// What was asked, as far as it decides who may answer and how.
struct Asked {
    principal: Principal,
    chain: Chain,
    delegate_to: Option<ClientId>,
    scope: ScopeSet,
    expires_in: u64,
}

impl Asked {
    /// None where anything of it cannot be read: then nobody may answer (L7).
    fn of(approval: &Approval) -> Option<Self> {
        let shown = &approval.shown;
        let delegate_to = match shown.get("delegate_to") {
            None | Some(Value::Null) => None,
            Some(named) => Some(named.as_str()?.parse().ok()?),
        };
        Some(Self {
            principal: serde_json::from_value(shown.get("principal")?.clone()).ok()?,
            chain: Chain::from_json(shown.get("chain")?).ok()?,
            delegate_to,
            scope: shown.get("scope")?.as_str()?.parse().ok()?,
            expires_in: shown.get("expires_in")?.as_u64()?,
        })
    }

    /// Our agents in it, the one that it is handed to included, as far as they are still registered.
    fn agents<'s>(&self, snapshot: &'s Snapshot) -> impl Iterator<Item = &'s Agent> {
        let acting = self.chain.actors().filter_map(|actor| actor.sub.parse().ok());
        let ids: Vec<ClientId> = acting.chain(self.delegate_to.clone()).collect();
        ids.into_iter().filter_map(|id| snapshot.agent(&id)).map(AsRef::as_ref)
    }

    /// Whether nothing in `narrowing` was not asked for.
    fn only_takes_away(&self, narrowing: &Narrowing) -> Result<(), NotCast> {
        if let Some(beyond) = narrowing.scopes.as_ref().map(|scopes| scopes.difference(&self.scope))
            && !beyond.is_empty()
        {
            return Err(NotCast::Widens(format!("the scope `{beyond}`")));
        }
        let longest = self.expires_in;
        match narrowing.lifetime {
            Some(lifetime) if u64::from(lifetime) > longest => {
                Err(NotCast::Widens(format!("a lifetime of more than {longest} s")))
            }
            Some(_) | None => Ok(()),
        }
    }
}
