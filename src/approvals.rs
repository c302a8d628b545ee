//! The use case: people decide what agents wait for (STANDARDS §11, AP-02…AP-05). Read [`Approvals::vote`] first.
//!
//! An approver proves who they are with a session token of their own, fresh from the same identity provider that principals
//! sign in with, or over HTTPS with a token for the admin API that came of one: no account of the machine approves anything.

mod ballot;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::{info, warn};

pub use ballot::{Answer, Ballot, EnvelopeAsked, NotCast, Proved};

use crate::clock::{Clock, Random};
use crate::configuration::active::Active;
use crate::configuration::apply::Configuration;
use crate::domain::approval::{Approval, Vote};
use crate::domain::decision::{Decision, Kind, Outcome, Reason, Record};
use crate::domain::ids::{ApprovalId, DecisionId};
use crate::domain::request::DeferralCode;
use crate::domain::snapshot::Agent;
use crate::issuers::session::Issuers;
use crate::metrics::Metrics;
use crate::notify::Notifier;
use crate::store::Store;
use crate::store::change::{CommitFault, Committed, Loss, Refuse, Settle, Settlement};
use crate::store::writer::Writer;
use ballot::Voter;
use view::{ListedApproval, Wanted};

/// How often it is looked for what nobody decided in time.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Most that are told to have expired at once; the rest follows.
const MOST_OVERDUE: u32 = 100;
/// How often an answer is looked at again, if the configuration is replaced each time before its commit.
const MOST_ATTEMPTS: usize = 4;

/// The use case. Cheap to clone.
#[derive(Clone)]
pub struct Approvals {
    parts: Arc<Parts>,
}

/// What it is made of.
pub struct Parts {
    /// Where what waits is found.
    pub store: Store,
    /// The one writer.
    pub writer: Writer,
    /// Who may approve, as of now.
    pub active: Active,
    /// Reads that again where the store has newer objects.
    pub configuration: Configuration,
    /// Verifies who approvers are.
    pub issuers: Arc<Issuers>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids.
    pub random: Random,
    /// Tells people that something waits for them.
    pub notifier: Notifier,
    /// What operators watch.
    pub metrics: Arc<Metrics>,
}

/// What a settlement came to.
enum Settled {
    Done,
    /// Nothing was written: it was decided under another configuration than this generation, or was settled.
    Superseded(i64),
}

/// A settlement that hangs on nobody's session.
fn alone(approval: ApprovalId, how: Settlement, decision: Decision) -> Settle {
    Settle { approval, how, killed_by: Vec::new(), generation: None, decision }
}

/// How somebody who answers has proved who they are.
enum Who<'w> {
    /// By a session token in the ballot.
    Session(&'w Ballot),
    /// By a token of ours, which the admin API has verified.
    Token(&'w Proved),
}

/// What an answer came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cast {
    /// The approval after it.
    pub approval: ListedApproval,
    /// The decision in the log.
    pub decision_id: DecisionId,
}

impl Approvals {
    /// Wires the use case.
    pub fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    /// One person's answer: who they are is proved, whether they may is decided by the task type in force, and the commit
    /// decides whether it comes in time (AP-03). By the hand of `account`.
    pub async fn vote(&self, id: ApprovalId, ballot: &Ballot, account: &str) -> Result<Cast, NotCast> {
        self.cast(id, &ballot.answer(), &Who::Session(ballot), account).await
    }

    /// The same of somebody who has proved who they are already.
    pub async fn vote_as(
        &self,
        id: ApprovalId,
        answer: &Answer,
        proved: &Proved,
        account: &str,
    ) -> Result<Cast, NotCast> {
        self.cast(id, answer, &Who::Token(proved), account).await
    }

    async fn cast(
        &self,
        id: ApprovalId,
        answer: &Answer,
        who: &Who<'_>,
        account: &str,
    ) -> Result<Cast, NotCast> {
        answer.check()?;
        for _ in 0..MOST_ATTEMPTS {
            if let Some(decision_id) = self.attempt(id, answer, who, account).await? {
                self.parts.metrics.approval(if answer.approves { "approve" } else { "deny" });
                let (approves, envelope) = (answer.approves, answer.envelope.map(|given| json!(given)));
                let envelope = envelope.map(tracing::field::display);
                info!(%decision_id, approval_id = %id, approves, envelope, "an approver has answered");
                return Ok(Cast { approval: self.show(id).await?, decision_id });
            }
        }
        Err(NotCast::Commit(CommitFault::Unavailable))
    }

    /// Decides by what is in force now; nothing, if that is replaced before the commit.
    async fn attempt(
        &self,
        id: ApprovalId,
        answer: &Answer,
        who: &Who<'_>,
        account: &str,
    ) -> Result<Option<DecisionId>, NotCast> {
        let (world, now) = (self.parts.active.load(), self.parts.clock.now());
        let approval = self.find(id).await?;
        let voter = match who {
            Who::Session(ballot) => ballot::who(&self.parts.issuers, &world.snapshot, ballot, now)
                .await
                .map(|session| Voter::of_session(&world.snapshot, session, now)),
            Who::Token(proved) => Voter::of_token(&world.snapshot, proved, now),
        };
        let voter = voter.inspect_err(|_| self.parts.metrics.approval("refused"))?;
        let mut decision = self.decision(&approval, account, answer.asked(&approval, &voter.principal));
        let (named_as, envelope) = match ballot::may_decide(&world.snapshot, &approval, &voter, answer) {
            Ok(may) => may,
            Err(refused) => return Err(self.refuse(decision, refused).await),
        };
        // With the numbers that were left to the task type.
        if let (Some(given), Some(asked)) = (envelope, decision.record.asked.as_object_mut()) {
            asked.insert("envelope".to_owned(), json!(given));
        }
        let killed_by = voter.killed_by;
        let vote = Vote {
            approver: voter.principal,
            named_as,
            approves: answer.approves,
            narrowing: answer.narrowing.clone(),
            envelope,
            reason: answer.reason.clone(),
            at: now,
            decision_id: decision.id,
        };
        let outcome = if answer.approves { Outcome::Allow } else { Outcome::Deny };
        let (how, generation) = (Settlement::Vote(vote), Some(world.generation));
        let decision = Decision { outcome, ..decision };
        let decision_id = decision.id;
        let settle = Settle { approval: id, how, killed_by, generation, decision };
        match self.settle(settle).await? {
            Settled::Done => Ok(Some(decision_id)),
            Settled::Superseded(generation) => {
                let caught_up = self.parts.configuration.catch_up(generation).await;
                caught_up.map(|()| None).map_err(|_| NotCast::Commit(CommitFault::Unavailable))
            }
        }
    }

    /// An admin takes back what is not fetched yet, or what is left of an envelope.
    pub async fn cancel(&self, id: ApprovalId, reason: &str, account: &str) -> Result<Cast, NotCast> {
        if reason.trim().is_empty() {
            return Err(NotCast::NoReason);
        }
        let approval = self.find(id).await?;
        let asked = json!({"command": "approvals cancel", "approval": id, "reason": reason});
        let decision = Decision { outcome: Outcome::Allow, ..self.decision(&approval, account, asked) };
        let decision_id = decision.id;
        self.settle(alone(id, Settlement::Cancel, decision)).await?;
        self.parts.metrics.approval("cancel");
        Ok(Cast { approval: self.show(id).await?, decision_id })
    }

    /// The agent gives up what it waits for (RFC 7009: the code is revoked). A code that is not its own, or is settled,
    /// counts as given up already.
    pub async fn give_up(&self, agent: &Agent, code: &DeferralCode) -> Result<(), NotCast> {
        let client_id = &agent.spec.client_id;
        let found = self.parts.store.approval_of_code(code).await?;
        let Some(approval) = found.filter(|approval| approval.client_id == *client_id) else { return Ok(()) };
        if approval.must_be_open(self.parts.clock.now()).is_err() {
            return Ok(());
        }
        let asked = json!({"revoke": approval.id});
        let decision =
            Decision { outcome: Outcome::Allow, ..self.decision(&approval, client_id.as_str(), asked) };
        match self.settle(alone(approval.id, Settlement::Cancel, decision)).await {
            Ok(_) => self.parts.metrics.approval("give_up"),
            Err(NotCast::Unmoved(_)) => {}
            Err(fault) => return Err(fault),
        }
        Ok(())
    }

    /// Records, for as long as the server runs, what nobody decided in time.
    pub async fn expire_always(self) {
        let mut every = tokio::time::interval(LOOK_EVERY);
        loop {
            every.tick().await;
            self.expire().await;
        }
    }

    /// Records that nobody decided in time: that is a denial (AP-04). What fails is tried again at the next turn.
    async fn expire(&self) {
        let now = self.parts.clock.now();
        let overdue = match self.parts.store.overdue(now, MOST_OVERDUE).await {
            Ok(overdue) => overdue,
            Err(fault) => return warn!(%fault, "what waits for people cannot be read"),
        };
        for approval in overdue {
            let asked = json!({"approval": approval.id, "answer": "none"});
            let mut decision = self.decision(&approval, "taskgrant", asked);
            let message = "nobody approved in time".to_owned();
            decision.record.reasons =
                vec![Reason { code: "approval_expired".to_owned(), message, public: true }];
            match self.settle(alone(approval.id, Settlement::Expire, decision)).await {
                Ok(Settled::Done) => self.parts.metrics.approval("expire"),
                // Another replica was first.
                Ok(Settled::Superseded(_)) | Err(NotCast::Unmoved(_)) => {}
                Err(fault) => return warn!(%fault, "it is not recorded that nobody approved in time"),
            }
        }
    }

    /// At the start, tells people again of what waits: nobody knows whether they were told.
    pub async fn remind(&self) {
        let world = self.parts.active.load();
        let waiting = self.parts.store.waiting(self.parts.clock.now(), (None, None), view::MOST).await;
        for approval in waiting
            .inspect_err(|fault| warn!(%fault, "what waits for people cannot be read"))
            .iter()
            .flatten()
        {
            self.parts.notifier.asked(&world.snapshot, approval);
        }
    }

    /// The approvals that are `wanted`.
    pub async fn list(&self, wanted: &Wanted) -> Result<Vec<ListedApproval>, NotCast> {
        view::list(&self.parts.store, self.parts.clock.now(), wanted).await
    }

    /// One approval, with what the objects in force say of envelopes.
    pub async fn show(&self, id: ApprovalId) -> Result<ListedApproval, NotCast> {
        let (world, now) = (self.parts.active.load(), self.parts.clock.now());
        let approval = self.find(id).await?;
        let name = approval.task_type_name();
        let task_type = name.and_then(|name| world.snapshot.task_type(&approval.tenant, &name));
        let spec = task_type.filter(|task_type| !task_type.spec.disabled).map(|t| t.spec.approval.clone());
        view::in_force(&self.parts.store, now, approval, &spec.unwrap_or_default()).await
    }

    async fn find(&self, id: ApprovalId) -> Result<Approval, NotCast> {
        self.parts.store.approval(id).await?.ok_or(NotCast::Unknown(id))
    }

    async fn settle(&self, settle: Settle) -> Result<Settled, NotCast> {
        match self.parts.writer.submit(settle).await? {
            Committed::Done(_) => Ok(Settled::Done),
            Committed::Superseded { generation } => Ok(Settled::Superseded(generation)),
            Committed::Lost(Loss::Unmoved(unmoved), _) => Err(NotCast::Unmoved(unmoved)),
            Committed::Lost(loss, _) => Err(NotCast::Dead(loss)),
        }
    }

    /// Who may not approve and tried is in the log (AP-04).
    async fn refuse(&self, mut decision: Decision, refused: NotCast) -> NotCast {
        let reason = Reason { code: refused.code().to_owned(), message: refused.to_string(), public: true };
        decision.record.reasons.push(reason);
        self.parts.metrics.approval("refused");
        match self.parts.writer.submit(Refuse { decision, assertion: None }).await {
            Ok(_) => refused,
            Err(fault) => fault.into(),
        }
    }

    /// A denial, unless it is made something else.
    fn decision(&self, approval: &Approval, account: &str, asked: Value) -> Decision {
        let now = self.parts.clock.now();
        let principal = approval.shown.get("principal").cloned().unwrap_or_default();
        Decision {
            id: self.parts.random.decision(now),
            kind: Kind::Approval,
            at: now,
            tenant: Some(approval.tenant.clone()),
            outcome: Outcome::Deny,
            policy: None,
            task_type: approval.task_type(),
            record: Record {
                actor: Some(account.to_owned()),
                principal: serde_json::from_value(principal).ok(),
                approval_id: Some(approval.id),
                asked,
                ..Record::default()
            },
            input: None,
        }
    }
}
