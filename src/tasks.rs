//! The use cases of tasks: an agent or an admin looks at a task's tree of tokens, and the agent that started a task
//! completes it: its tokens die when the work ends, not when the clock does.

pub mod tree;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use self::tree::{Look, TaskView};
use crate::aggregates::Aggregates;
use crate::clock::{Clock, Random};
use crate::configuration::active::Active;
use crate::domain::decision::{Decision, Kind, Outcome, Reason, Record};
use crate::domain::ids::{DecisionId, TaskId};
use crate::domain::record::{KEPT_AFTER, RevocationKey, TaskRecord, TokenRecord};
use crate::domain::snapshot::Agent;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::store::change::Revoke;
use crate::store::error::StoreError;
use crate::store::trees::Mark;
use crate::store::writer::Writer;

/// Most tokens of a task that are looked at.
const MOST: u32 = 10_000;

/// How the agent says that its task ended. For the record only: nobody has checked it (L11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimedOutcome {
    /// It is done, and the result was checked.
    Verified,
    /// It is done, as far as the agent knows.
    Done,
    /// It could not be done.
    Failed,
    /// What had been done was undone.
    RolledBack,
    /// It was given up on the way.
    Abandoned,
}

impl ClaimedOutcome {
    /// The words, for those who must choose one.
    pub const WORDS: &str = "verified, done, failed, rolled_back, abandoned";

    /// The outcome of this word.
    pub fn parse(word: &str) -> Option<Self> {
        serde_json::from_value(word.into()).ok()
    }
}

/// A task that was completed, now or before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completed {
    /// Which.
    pub task_id: TaskId,
    /// When, in seconds since 1970.
    pub completed_at: i64,
    /// What the agent said of it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<ClaimedOutcome>,
    /// The decision.
    pub decision_id: DecisionId,
}

/// Why a task was not completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotCompleted {
    /// There is no such task, as far as this agent may know.
    Unknown,
    /// Another agent started it; recorded, or counted for the record (L12).
    NotYours {
        /// The decision; none for one of many that are recorded together.
        decision_id: Option<DecisionId>,
    },
    /// The store does not answer, or the decision could not be recorded.
    Unavailable,
}

impl From<StoreError> for NotCompleted {
    fn from(_: StoreError) -> Self {
        Self::Unavailable
    }
}

/// Who looks.
#[derive(Clone, Copy, Debug)]
pub enum Viewer<'a> {
    /// An agent: sees the tokens in whose chain it stands, and the hand-over tokens meant for it. The agent that started
    /// the task stands in all of its chains.
    Agent(&'a Agent),
    /// An admin of the deployment: sees all, and why it died.
    Admin,
}

/// What the use cases are made of.
pub struct Parts {
    /// Our own `iss`.
    pub issuer: String,
    /// For what is on record.
    pub store: Store,
    /// The one writer.
    pub writer: Writer,
    /// The objects in force.
    pub active: Active,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids.
    pub random: Random,
    /// Counts what is refused too often.
    pub aggregates: Arc<Aggregates>,
    /// What operators watch.
    pub metrics: Arc<Metrics>,
}

/// The use cases with what they need. Cheap to clone.
#[derive(Clone)]
pub struct Tasks {
    parts: Arc<Parts>,
}

impl Tasks {
    /// Wires the use cases.
    pub fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    /// The task `id` as `viewer` may see it; none if there is none, or nothing of it is the viewer's business.
    pub async fn view(&self, viewer: Viewer<'_>, id: TaskId) -> Result<Option<TaskView>, StoreError> {
        let Some((task, tokens)) = self.tree(viewer, id).await? else { return Ok(None) };
        let store = &self.parts.store;
        let records = store.records_of_task(id, MOST).await?;
        let marks = store.marks(&tokens).await?;
        let world = self.parts.active.load();
        let look = Look {
            viewer,
            now: self.parts.clock.now(),
            snapshot: &world.snapshot,
            issuer: &self.parts.issuer,
        };
        let mut view = look.at(&task, &tokens, &records, &marks);
        let hand_overs: Vec<_> = view.hand_overs().collect();
        if !hand_overs.is_empty() {
            view.spent(&store.spent_hand_overs(&hand_overs).await?);
        }
        view.truncated = tokens.len() >= usize::try_from(MOST).unwrap_or(usize::MAX);
        Ok(Some(view).filter(|view| !view.tokens.is_empty()))
    }

    /// Completes the task `id` for the agent that started it: every token of it is dead at once. A task that has been
    /// completed stays as it was.
    pub async fn complete(
        &self,
        agent: &Agent,
        id: TaskId,
        outcome: Option<ClaimedOutcome>,
    ) -> Result<Completed, NotCompleted> {
        let found = self.tree(Viewer::Agent(agent), id).await?;
        let (task, tokens) = found.ok_or(NotCompleted::Unknown)?;
        if task.started_by != agent.spec.client_id {
            let client_id = &agent.spec.client_id;
            let takes_part = tokens.iter().any(|token| token.chain_agents.contains(client_id));
            return Err(if takes_part { self.refuse(agent, &task).await } else { NotCompleted::Unknown });
        }
        if let Some(mark) = self.parts.store.mark(&RevocationKey::completion(id)).await? {
            return Ok(self.before(id, &mark).await?);
        }
        let decision = self.decision(agent, &task, Outcome::Allow);
        let (decision_id, completed_at) = (decision.id, decision.at.timestamp());
        let mut revoke = Revoke {
            keys: vec![RevocationKey::completion(id)],
            keep_until: task.deadline + KEPT_AFTER,
            reason: "completed by the agent that started it".to_owned(),
            decision,
        };
        revoke.decision.record.asked = json!({"complete": id, "claimed": {"outcome": outcome}});
        self.parts.writer.submit(revoke).await.map_err(|_| NotCompleted::Unavailable)?;
        self.parts.metrics.revoked("completion");
        Ok(Completed { task_id: id, completed_at, outcome, decision_id })
    }

    /// The task and its tokens, if there is one in a tenant that the viewer serves.
    async fn tree(
        &self,
        viewer: Viewer<'_>,
        id: TaskId,
    ) -> Result<Option<(TaskRecord, Vec<TokenRecord>)>, StoreError> {
        let serves = |task: &TaskRecord| match viewer {
            Viewer::Agent(agent) => agent.reach.serves(&task.tenant),
            Viewer::Admin => true,
        };
        let Some(task) = self.parts.store.task(id).await?.filter(serves) else { return Ok(None) };
        let tokens = self.parts.store.tokens_of_task(id, MOST).await?;
        Ok(Some((task, tokens)))
    }

    /// What was said when the task was completed.
    async fn before(&self, task_id: TaskId, mark: &Mark) -> Result<Completed, StoreError> {
        let stored = self.parts.store.decision(mark.decision_id).await?;
        let record = stored.and_then(|decision| decision.record);
        let record: Option<Record> = record.and_then(|record| serde_json::from_slice(&record).ok());
        let claimed = record.and_then(|r| r.asked.pointer("/claimed/outcome").cloned());
        let at = mark.at.unwrap_or(mark.not_before);
        Ok(Completed {
            task_id,
            completed_at: at.timestamp(),
            outcome: claimed.and_then(|word| serde_json::from_value(word).ok()),
            decision_id: mark.decision_id,
        })
    }

    /// Another agent of the task may not end it. Completions have no rate, so that a flood is only counted.
    async fn refuse(&self, agent: &Agent, task: &TaskRecord) -> NotCompleted {
        const CODE: &str = "task_not_yours";
        if !self.parts.aggregates.is_first(Kind::Admin, agent.spec.client_id.as_str(), CODE) {
            return NotCompleted::NotYours { decision_id: None };
        }
        let mut decision = self.decision(agent, task, Outcome::Deny);
        let message = "another agent started the task".to_owned();
        decision.record.reasons = vec![Reason { code: CODE.to_owned(), message, public: true }];
        let decision_id = Some(decision.id);
        match self.parts.writer.submit(decision).await {
            Ok(_) => NotCompleted::NotYours { decision_id },
            Err(_) => NotCompleted::Unavailable,
        }
    }

    fn decision(&self, agent: &Agent, task: &TaskRecord, outcome: Outcome) -> Decision {
        let now = self.parts.clock.now();
        Decision {
            id: self.parts.random.decision(now),
            kind: Kind::Admin,
            at: now,
            tenant: Some(task.tenant.clone()),
            outcome,
            policy: None,
            task_type: Some(format!("{}@{}", task.task_type, task.task_type_version)),
            record: Record {
                actor: Some(agent.spec.client_id.to_string()),
                task_id: Some(task.id),
                asked: json!({"complete": task.id}),
                ..Record::default()
            },
            input: None,
        }
    }
}
