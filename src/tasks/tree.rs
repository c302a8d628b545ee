//! A task's tree of tokens as it is shown: who holds each, what it can do, what was given up at each hop, and whether it
//! lives. All of it is on record; no token is.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Viewer;
use crate::domain::claims::MayAct;
use crate::domain::decision::Record;
use crate::domain::ids::{ClientId, DecisionId, Jti, Name, TaskId};
use crate::domain::principal::Principal;
use crate::domain::record::{RevocationKind, TaskRecord, TokenRecord};
use crate::domain::snapshot::Snapshot;
use crate::store::trees::{Mark, Marks};

/// Whether a token, or a task, lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It lives.
    Active,
    /// Its time is over.
    Expired,
    /// It was exchanged, which is all that a hand-over token is for.
    Spent,
    /// It, or what it hangs on, is revoked.
    Revoked,
    /// The agent that started the task has completed it.
    Completed,
    /// Its issuer, task type or an agent of its chain is disabled or gone.
    Disabled,
}

impl State {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Spent => "spent",
            Self::Revoked => "revoked",
            Self::Completed => "completed",
            Self::Disabled => "disabled",
        }
    }
}

/// What ended it. Who ordered it and why is for admins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// What was revoked, or that the task was completed.
    pub kind: RevocationKind,
    /// The revoked token, where the viewer sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<Jti>,
    /// When, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
    /// Why; for admins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The decision; for admins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<DecisionId>,
}

/// What a token can do, as it was granted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The service, or our issuer for an exchange-only token.
    pub aud: String,
    /// Scopes, separated by spaces.
    pub scope: String,
    /// What an exchange-only token may be narrowed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<String>>,
    /// Authorization details.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_details: Option<Value>,
    /// Hand-overs left.
    pub depth_left: u32,
    /// Who alone may spend it, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_act: Option<MayAct>,
    /// What policy took away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub narrowed: Vec<String>,
}

impl Held {
    fn targets(&self) -> BTreeSet<&str> {
        match &self.resources {
            Some(resources) => resources.iter().map(String::as_str).collect(),
            None => BTreeSet::from([self.aud.as_str()]),
        }
    }
}

/// What the parent has and the child has not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// Scopes.
    pub scope: Vec<String>,
    /// URIs of resources.
    pub resource: Vec<String>,
    /// Whether the authorization details are others.
    pub authorization_details: bool,
    /// Hand-overs.
    pub depth: u32,
    /// Seconds of life.
    pub seconds: i64,
}

impl GivenUp {
    fn between(parent: (&Held, i64), child: (&Held, i64)) -> Self {
        let ((parent, parent_exp), (child, child_exp)) = (parent, child);
        let kept: BTreeSet<&str> = child.scope.split(' ').collect();
        let scopes = parent.scope.split(' ').filter(|scope| !kept.contains(scope));
        let targets = child.targets();
        let resources = parent.targets().into_iter().filter(|uri| !targets.contains(uri));
        Self {
            scope: scopes.map(str::to_owned).collect(),
            resource: resources.map(str::to_owned).collect(),
            authorization_details: parent.authorization_details != child.authorization_details,
            depth: parent.depth_left.saturating_sub(child.depth_left),
            seconds: parent_exp.saturating_sub(child_exp).max(0),
        }
    }
}

/// One token of the tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenView {
    /// Its id.
    pub jti: Jti,
    /// The token it was narrowed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_jti: Option<Jti>,
    /// The agent that it was issued to.
    pub client_id: ClientId,
    /// The actors, as its `act` claim has them.
    pub act: Value,
    /// Whether it lives.
    pub state: State,
    /// What ended it, where something did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// When it was issued, in seconds since 1970.
    pub iat: i64,
    /// When it dies by itself.
    pub exp: i64,
    /// Seconds that are left; 0 unless it is active.
    pub expires_in: i64,
    /// What it can do; none once its record was erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<Held>,
    /// What was given up on the way from its parent, where the viewer sees both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<GivenUp>,
}

/// A task with the tokens that the viewer may see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskView {
    /// Its id.
    pub task_id: TaskId,
    /// Its tenant.
    pub tenant: Name,
    /// `name@version` of its type.
    pub task_type: String,
    /// On whose behalf.
    pub principal: Principal,
    /// The agent that started it.
    pub started_by: ClientId,
    /// Whether anything of it can live.
    pub state: State,
    /// When it began, in seconds since 1970.
    pub created_at: i64,
    /// When all of it is dead at the latest.
    pub deadline: i64,
    /// Seconds until then; 0 unless it is active.
    pub expires_in: i64,
    /// Whether there are more tokens than are told.
    pub truncated: bool,
    /// Its tokens, the root first.
    pub tokens: Vec<TokenView>,
}

impl TaskView {
    /// The hand-over tokens among those that seem to live.
    pub(super) fn hand_overs(&self) -> impl Iterator<Item = Jti> {
        let once = |token: &&TokenView| {
            let held = token.capability.as_ref();
            held.is_some_and(|held| held.may_act.is_some()) && token.ended.is_none()
        };
        self.tokens.iter().filter(once).map(|token| token.jti)
    }

    /// Marks those that were spent.
    pub(super) fn spent(&mut self, spent: &HashSet<Jti>) {
        for token in self.tokens.iter_mut().filter(|token| spent.contains(&token.jti)) {
            (token.state, token.expires_in) = (State::Spent, 0);
        }
    }
}

/// One look at a task: by whom, when, and by what is in force.
pub(super) struct Look<'a> {
    pub(super) viewer: Viewer<'a>,
    pub(super) now: DateTime<Utc>,
    pub(super) snapshot: &'a Snapshot,
    pub(super) issuer: &'a str,
}

impl Look<'_> {
    pub(super) fn at(
        &self,
        task: &TaskRecord,
        tokens: &[TokenRecord],
        records: &BTreeMap<Jti, Record>,
        marks: &Marks,
    ) -> TaskView {
        let held = |jti: &Jti| {
            records.get(jti).and_then(|record| serde_json::from_value::<Held>(record.granted.clone()).ok())
        };
        let held: BTreeMap<Jti, Held> =
            tokens.iter().filter_map(|token| Some((token.jti, held(&token.jti)?))).collect();
        let seen: BTreeMap<Jti, &TokenRecord> = tokens
            .iter()
            .filter(|token| self.may_see(token, held.get(&token.jti)))
            .map(|token| (token.jti, token))
            .collect();
        let root = tokens.iter().find(|token| token.parent.is_none());
        let state = root.map_or(State::Expired, |root| self.state(root, marks.killer(root)));
        let left = (task.deadline - self.now).num_seconds();
        let shown = tokens.iter().filter(|token| seen.contains_key(&token.jti));
        TaskView {
            task_id: task.id,
            tenant: task.tenant.clone(),
            task_type: format!("{}@{}", task.task_type, task.task_type_version),
            principal: task.principal.clone(),
            started_by: task.started_by.clone(),
            state,
            created_at: task.created_at.timestamp(),
            deadline: task.deadline.timestamp(),
            expires_in: if state == State::Active { left } else { 0 },
            truncated: false,
            tokens: shown.map(|token| self.token(token, &seen, &held, marks)).collect(),
        }
    }

    fn token(
        &self,
        token: &TokenRecord,
        seen: &BTreeMap<Jti, &TokenRecord>,
        held: &BTreeMap<Jti, Held>,
        marks: &Marks,
    ) -> TokenView {
        let killer = marks.killer(token);
        let state = self.state(token, killer);
        let killer = killer.filter(|_| matches!(state, State::Revoked | State::Completed));
        let exp = token.exp.timestamp();
        let capability = held.get(&token.jti);
        let parent = token.parent.and_then(|jti| Some((held.get(&jti)?, seen.get(&jti)?.exp.timestamp())));
        let given_up = parent.zip(capability);
        TokenView {
            jti: token.jti,
            parent_jti: token.parent,
            client_id: token.agent.clone(),
            act: token.chain.clone(),
            state,
            ended: killer.map(|mark| self.ended(mark, seen)),
            iat: token.iat.timestamp(),
            exp,
            expires_in: if state == State::Active { exp - self.now.timestamp() } else { 0 },
            capability: capability.cloned(),
            given_up: given_up.map(|(parent, child)| GivenUp::between(parent, (child, exp))),
        }
    }

    /// Below its own tokens an agent sees everything, above them nothing.
    fn may_see(&self, token: &TokenRecord, held: Option<&Held>) -> bool {
        let Viewer::Agent(agent) = self.viewer else { return true };
        let client_id = &agent.spec.client_id;
        let meant = held.and_then(|held| held.may_act.as_ref()).is_some_and(|meant| meant.sub == *client_id);
        meant || token.chain_agents.contains(client_id)
    }

    /// What was revoked after it had expired was no more: it has expired.
    fn state(&self, token: &TokenRecord, killer: Option<&Mark>) -> State {
        match killer.filter(|mark| mark.at.is_none_or(|at| at < token.exp)) {
            Some(mark) if mark.key.kind == RevocationKind::Completion => State::Completed,
            Some(_) => State::Revoked,
            None if token.exp.timestamp() <= self.now.timestamp() => State::Expired,
            None if !self.snapshot.stands(token, self.issuer) => State::Disabled,
            None => State::Active,
        }
    }

    fn ended(&self, mark: &Mark, seen: &BTreeMap<Jti, &TokenRecord>) -> Ended {
        let admin = matches!(self.viewer, Viewer::Admin);
        let token = mark.key.kind == RevocationKind::Token;
        let jti = token.then(|| mark.key.key.parse().ok()).flatten();
        Ended {
            kind: mark.key.kind,
            jti: jti.filter(|jti| seen.contains_key(jti)),
            at: mark.at.map(|at| at.timestamp()),
            reason: admin.then(|| mark.reason.clone()),
            decision_id: admin.then_some(mark.decision_id),
        }
    }
}
