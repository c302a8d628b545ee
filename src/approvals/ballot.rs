//! One person's answer: what they say, who they are, and whether they may (AP-03).

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::domain::approval::{Approval, Narrowing, Unmoved};
use crate::domain::chain::Chain;
use crate::domain::envelope::EnvelopeTerms;
use crate::domain::ids::{ApprovalId, ClientId, Name};
use crate::domain::objects::{ApprovalSpec, Owner, SessionTokenKind, listed};
use crate::domain::principal::Principal;
use crate::domain::record::{Bears, RevocationKey};
use crate::domain::request::Presented;
use crate::domain::scope::ScopeSet;
use crate::domain::snapshot::{Agent, Issuer, Snapshot};
use crate::hash::sha256;
use crate::issuers::fault::SessionFault;
use crate::issuers::person::{NoPerson, are_people, is_a_person_just_now, is_fresh};
use crate::issuers::session::{Issuers, Session};
use crate::keys::jws::Jws;
use crate::store::change::{CommitFault, Loss};
use crate::store::error::StoreError;

/// Longest reason, in bytes.
const MAX_REASON: usize = 2000;

/// What a person says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
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
}

/// What a person says, and who they are.
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

impl Ballot {
    pub(super) fn answer(&self) -> Answer {
        Answer {
            approves: self.approves,
            reason: self.reason.clone(),
            narrowing: self.narrowing.clone(),
            envelope: self.envelope,
        }
    }
}

/// Somebody who has proved who they are by other means than a session token: by a live token of ours for the admin API.
#[derive(Clone, Debug)]
pub struct Proved {
    /// The tenant of their session.
    pub tenant: Name,
    /// Who they are.
    pub principal: Principal,
    /// What their session said.
    pub facts: Map<String, Value>,
    /// When they signed in, where that is known.
    pub auth_time: Option<DateTime<Utc>>,
    /// What, if it is revoked, takes the proof away.
    pub killed_by: Vec<(RevocationKey, Bears)>,
}

/// Who answers, as far as it decides whether they may.
pub(super) struct Voter {
    pub(super) principal: Principal,
    pub(super) killed_by: Vec<(RevocationKey, Bears)>,
    tenant: Name,
    issuer: Arc<Issuer>,
    facts: Map<String, Value>,
    /// Whether it is a person who signed in just now.
    is_person: Result<(), NoPerson>,
}

impl Voter {
    /// Whoever has presented `session`.
    pub(super) fn of_session(snapshot: &Snapshot, session: Session, now: DateTime<Utc>) -> Self {
        let (killed_by, is_person) = (killed_by(&session), is_a_person_just_now(snapshot, &session, now));
        let Session { principal, tenant, issuer, facts, .. } = session;
        Self { principal, killed_by, tenant, issuer, facts, is_person }
    }

    /// Whoever holds a token that only a person gets: its login must be fresh still.
    pub(super) fn of_token(
        snapshot: &Snapshot,
        proved: &Proved,
        now: DateTime<Utc>,
    ) -> Result<Self, NotCast> {
        let Proved { tenant, principal, facts, auth_time, killed_by } = proved.clone();
        let issuer = snapshot.issuer(&principal.iss).filter(|issuer| issuer.reach.serves(&tenant));
        let issuer = issuer.ok_or(NotCast::IssuerGone)?.clone();
        let is_person = are_people(&issuer.spec).and_then(|()| is_fresh(auth_time, now));
        Ok(Self { principal, killed_by, tenant, issuer, facts, is_person })
    }
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
    /// It proves no person, or not just now.
    #[error("{0}")]
    NoPerson(#[from] NoPerson),
    /// Who vouched for them is trusted no more.
    #[error("the issuer of your session is no longer trusted")]
    IssuerGone,
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
            Self::Session(_) | Self::IssuerGone => "approver_not_proved",
            Self::NoPerson(NoPerson::NoLogin) => "approver_login_unknown",
            Self::Acts => "approver_acts",
            Self::Unreadable => "request_unreadable",
            Self::Dead(_) => "approver_revoked",
            Self::NoPerson(NoPerson::Stale { .. }) => "approver_login_old",
            Self::NoPerson(NoPerson::Workload) => "approver_no_person",
            Self::NoPerson(NoPerson::AgentsSession { .. } | NoPerson::AnyAgent) => {
                "approver_session_of_agent"
            }
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

impl Answer {
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
    voter: &Voter,
    answer: &Answer,
) -> Result<(String, Option<EnvelopeTerms>), NotCast> {
    voter.is_person.clone()?;
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
    asked.only_takes_away(&answer.narrowing)?;
    Ok((String::from(named_as.clone()), answer.envelope(&task_type.spec.approval)?))
}

/// What, if it is revoked, ends the session of who answers.
fn killed_by(voter: &Session) -> Vec<(RevocationKey, Bears)> {
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
