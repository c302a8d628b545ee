//! The records of tasks and tokens: what revocation, introspection and the commit know of them (DESIGN §7).

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ids::{ApprovalId, ClientId, DecisionId, Jti, Name, TaskId};
use super::principal::Principal;

/// Most tokens on one path from the root of a tree: whoever holds it, the tree is at most this high (DESIGN §3).
pub const MAX_HEIGHT: usize = 16;

/// How far a task's tree of tokens may grow: counted in the commit, whatever policy allows. 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeLimits {
    /// Most tokens of one task, all that were ever issued counted.
    pub task_tokens: u32,
    /// Most children of one token, all that were ever issued counted.
    pub token_children: u32,
    /// Most exchanges of one task in a minute.
    pub task_rate: u32,
}

/// Longest life of a task; no token outlives its task (L5).
pub const LONGEST_TASK: TimeDelta = TimeDelta::days(30);

/// How long a revocation outlives what it kills: a clock that was set forward for less than that, and back, revives
/// nothing.
pub const KEPT_AFTER: TimeDelta = TimeDelta::hours(2);

/// Stands for all tenants in the key of a lockdown: no tenant is called so.
pub const ALL_TENANTS: &str = "*";

/// What identifies the session that a task grew from, for its revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionKey {
    /// The trusted issuer's `iss`.
    pub iss: String,
    /// The session id, where the token told one.
    pub sid: Option<String>,
    /// SHA-256 of the session token without its signature, in lower-case hex.
    pub token_sha256: String,
    /// When the person logged in (`auth_time`, else `iat`): what a revocation compares.
    pub since: DateTime<Utc>,
}

/// A task: one root exchange and everything that grows from it. Immutable once written.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRecord {
    /// The task's id.
    pub id: TaskId,
    /// Its tenant.
    pub tenant: Name,
    /// On whose behalf.
    pub principal: Principal,
    /// The session it grew from.
    pub session: SessionKey,
    /// The agent that started it.
    pub started_by: ClientId,
    /// The task type's own tenant (`system` for a platform object).
    pub task_type_tenant: Name,
    /// The task type's name.
    pub task_type: Name,
    /// The version whose ceiling holds for this task.
    pub task_type_version: i64,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When all its tokens are dead at the latest.
    pub deadline: DateTime<Utc>,
    /// Claims of the session that later rules need (entitlements, approvers); services never see them.
    pub facts: Map<String, Value>,
}

/// A token: what must be known of it after it has left.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenRecord {
    /// The token's id.
    pub jti: Jti,
    /// Its task; the tenant, principal, session and task type are the task's.
    pub task_id: TaskId,
    /// Its tenant.
    pub tenant: Name,
    /// The token it was narrowed from; none for a root token.
    pub parent: Option<Jti>,
    /// All tokens above it, the root first. The caller leaves it empty: the commit takes it from the parent's record.
    pub ancestors: Vec<Jti>,
    /// On whose behalf.
    pub principal: Principal,
    /// The session its task grew from. For a child the commit takes it from the parent's record.
    pub session: SessionKey,
    /// The agent it was issued to.
    pub agent: ClientId,
    /// Client ids of our agents in the chain, the current one first.
    pub chain_agents: Vec<ClientId>,
    /// The chain as the `act` claim has it.
    pub chain: Value,
    /// The task type's own tenant, name and version.
    pub task_type_tenant: Name,
    /// The task type's name.
    pub task_type: Name,
    /// The task type's version.
    pub task_type_version: i64,
    /// SHA-256 of the capability's canonical JSON.
    pub capability_digest: [u8; 32],
    /// Registered URI of the service it is for; none for an exchange-only token.
    pub audience: Option<String>,
    /// When it was issued.
    pub iat: DateTime<Utc>,
    /// When it dies by itself.
    pub exp: DateTime<Utc>,
    /// Thumbprint of the sender's key (`cnf.jkt`), for a bound token.
    pub key_thumbprint: Option<String>,
    /// Status list and index; none where lists are switched off.
    pub status: Option<(String, i64)>,
    /// The approval it was granted under.
    pub approval_id: Option<ApprovalId>,
    /// The decision that granted it.
    pub decision_id: DecisionId,
    /// The key that signed it (`kid`).
    pub kid: String,
    /// The other keys that signed tokens above it. The caller leaves it empty: the commit takes it from the parent's record.
    pub signers: Vec<String>,
}

/// What can be revoked: one row revokes all that hangs on it (DESIGN §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationKind {
    /// A token and everything below it; key: its jti.
    Token,
    /// A task; key: its id.
    Task,
    /// A session; key: issuer and sid, or issuer and the token's hash, or issuer and subject for all that have no sid.
    Session,
    /// A principal; key: issuer and subject.
    Principal,
    /// An agent, wherever it stands in a chain; key: its client id.
    Agent,
    /// A task type; key: its tenant and name.
    TaskType,
    /// A trusted issuer; key: its `iss`.
    Issuer,
    /// A tenant; key: its name.
    Tenant,
    /// A signing key of ours, stopped for ever; key: its `kid`.
    SigningKey,
    /// A task that its agent has completed; key: its id.
    Completion,
    /// No revocation but a stop: no new token, what is issued lives on. It lies among them so that the commit reads both
    /// at once; key: a tenant's name, or `*` for all.
    Lockdown,
}

impl RevocationKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Token,
        Self::Task,
        Self::Session,
        Self::Principal,
        Self::Agent,
        Self::TaskType,
        Self::Issuer,
        Self::Tenant,
        Self::SigningKey,
        Self::Completion,
        Self::Lockdown,
    ];

    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Task => "task",
            Self::Session => "session",
            Self::Principal => "principal",
            Self::Agent => "agent",
            Self::TaskType => "task_type",
            Self::Issuer => "issuer",
            Self::Tenant => "tenant",
            Self::SigningKey => "signing_key",
            Self::Completion => "completion",
            Self::Lockdown => "lockdown",
        }
    }
}

/// Key of one revocation row. Parts are joined with a line feed, which none of them may hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RevocationKey {
    /// What is revoked.
    pub kind: RevocationKind,
    /// Which one.
    pub key: String,
}

impl RevocationKey {
    fn new(kind: RevocationKind, parts: &[&str]) -> Self {
        Self { kind, key: parts.join("\n") }
    }

    /// The token `jti` and everything below it.
    pub fn token(jti: Jti) -> Self {
        Self { kind: RevocationKind::Token, key: jti.to_string() }
    }

    /// The task `id` with all its tokens.
    pub fn task(id: TaskId) -> Self {
        Self { kind: RevocationKind::Task, key: id.to_string() }
    }

    /// The session `sid` at the issuer `iss`: everything that it started.
    pub fn session(iss: &str, sid: &str) -> Self {
        Self::new(RevocationKind::Session, &[iss, "sid", sid])
    }

    /// The session whose token, without its signature, has this SHA-256 (lower-case hex): for tokens that tell no `sid`.
    pub fn session_token(iss: &str, token_sha256: &str) -> Self {
        Self::new(RevocationKind::Session, &[iss, "token", token_sha256])
    }

    /// Every session of `sub` at the issuer `iss` whose token told no `sid`: which one of them has ended cannot be known.
    pub fn nameless_sessions(iss: &str, sub: &str) -> Self {
        Self::new(RevocationKind::Session, &[iss, "sub", sub])
    }

    /// The principal `sub` of the issuer `iss` (the upstream `sub`, without our prefix).
    pub fn principal(iss: &str, sub: &str) -> Self {
        Self::new(RevocationKind::Principal, &[iss, sub])
    }

    /// The agent, wherever it stands in a chain.
    pub fn agent(client_id: &ClientId) -> Self {
        Self::new(RevocationKind::Agent, &[client_id.as_str()])
    }

    /// The task type `name` of `tenant` (`system` for a platform object), all its versions.
    pub fn task_type(tenant: &Name, name: &Name) -> Self {
        Self::new(RevocationKind::TaskType, &[tenant.as_str(), name.as_str()])
    }

    /// The trusted issuer `iss`: all that its principals started.
    pub fn issuer(iss: &str) -> Self {
        Self::new(RevocationKind::Issuer, &[iss])
    }

    /// The tenant.
    pub fn tenant(name: &Name) -> Self {
        Self::new(RevocationKind::Tenant, &[name.as_str()])
    }

    /// The signing key `kid` of ours: all that it signed.
    pub fn signing_key(kid: &str) -> Self {
        Self { kind: RevocationKind::SigningKey, key: kid.to_owned() }
    }

    /// The completion of the task `id`.
    pub fn completion(id: TaskId) -> Self {
        Self { kind: RevocationKind::Completion, key: id.to_string() }
    }

    /// The lockdown of a tenant, or of all.
    pub fn lockdown(tenant: Option<&Name>) -> Self {
        let key = tenant.map_or(ALL_TENANTS, Name::as_str).to_owned();
        Self { kind: RevocationKind::Lockdown, key }
    }
}

/// How a revocation row bears on a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bears {
    /// The row's presence kills.
    Always,
    /// The row kills what began at or before its `not_before`; this is when it began.
    IfSince(DateTime<Utc>),
}

impl Bears {
    /// Whether a row with this `not_before` (Unix microseconds) kills; the very instant is dead too.
    pub fn kills(self, not_before: i64) -> bool {
        match self {
            Self::Always => true,
            Self::IfSince(began) => began.timestamp_micros() <= not_before,
        }
    }
}

impl TokenRecord {
    /// Every revocation key that would kill this token, and how: its task's end, its own jti, its ancestors, its task,
    /// the keys that signed any of them, and by time its session, principal, issuer and tenant, the agents of its chain and its task type (L4).
    ///
    /// What a fresh login revives is compared by when the person logged in, the rest by the token's `iat`.
    pub fn killed_by(&self) -> Vec<(RevocationKey, Bears)> {
        let issued = Bears::IfSince(self.iat);
        let login = Bears::IfSince(self.session.since);
        let jti = |jti: &Jti| (RevocationKey::token(*jti), Bears::Always);
        // First, so that whoever meets a completed task is told just that.
        let mut keys = vec![(RevocationKey::completion(self.task_id), Bears::Always)];
        keys.extend(self.ancestors.iter().chain(std::iter::once(&self.jti)).map(jti));
        keys.push((RevocationKey::task(self.task_id), Bears::Always));
        let signers = std::iter::once(&self.kid).chain(&self.signers);
        keys.extend(signers.map(|kid| (RevocationKey::signing_key(kid), Bears::Always)));
        let session = &self.session;
        let named = match &session.sid {
            Some(sid) => RevocationKey::session(&session.iss, sid),
            None => RevocationKey::nameless_sessions(&session.iss, &self.principal.sub),
        };
        keys.push((named, login));
        keys.push((RevocationKey::session_token(&session.iss, &session.token_sha256), login));
        keys.push((RevocationKey::principal(&self.principal.iss, &self.principal.sub), login));
        keys.extend(self.chain_agents.iter().map(|agent| (RevocationKey::agent(agent), issued)));
        keys.push((RevocationKey::task_type(&self.task_type_tenant, &self.task_type), issued));
        keys.push((RevocationKey::issuer(&self.principal.iss), login));
        keys.push((RevocationKey::tenant(&self.tenant), login));
        keys
    }

    /// The lockdowns under which this token is not issued; they leave it alone once it is. None holds up what opens the admin
    /// API: whoever ends a lockdown must get in (DESIGN §9).
    pub fn held_up_by(&self) -> Vec<RevocationKey> {
        if self.task_type.is_built_in(&self.task_type_tenant) {
            return Vec::new();
        }
        vec![RevocationKey::lockdown(None), RevocationKey::lockdown(Some(&self.tenant))]
    }
}
