//! The use case: one token exchange, top to bottom (DESIGN §4). Read [`Exchange::run`] first.

pub mod deferral;
mod envelope;
mod facts;
mod grant;
mod lenience;
mod limits;
pub mod preview;
mod story;
mod tasks;
mod verify;

use std::slice;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tracing::{error, info, warn};

use crate::aggregates::Aggregates;
use crate::clock::watch::TimeWatch;
use crate::clock::{Clock, Random};
use crate::config::OnError;
use crate::configuration::active::{Active, InForce};
use crate::configuration::apply::Configuration;
use crate::domain::approval::Approval;
use crate::domain::claims::TokenClaims;
use crate::domain::decision::{Decision, Kind};
use crate::domain::ids::{DecisionId, TaskId};
use crate::domain::record::{MAX_HEIGHT, RevocationKind, TokenRecord, TreeLimits};
use crate::domain::refusal::Refusal;
use crate::domain::request::{DeferralCode, TokenRequest};
use crate::domain::snapshot::Agent;
use crate::issuers::session::Issuers;
use crate::keys::keyring::ACCESS_TOKEN;
use crate::keys::live::{LiveKeys, Signed};
use crate::limits::Limits;
use crate::lockdown::Lockdowns;
use crate::metrics::{Metrics, Outcome};
use crate::notify::Notifier;
use crate::policy::comparison::{Compared, Whose};
use crate::policy::replay::Change;
use crate::status::StatusLists;
use crate::store::Store;
use crate::store::change::{CommitFault, Committed, Issue, Loss, Receipt, Refuse, Spend, SpendKind};
use crate::store::error::StoreError;
use crate::store::writer::Writer;

use deferral::{Polls, Resumed, Waits};
use grant::Granted;
use story::Story;
use tasks::TaskCache;

/// The use case with all that it needs. Cheap to clone.
#[derive(Clone)]
pub struct Exchange {
    parts: Arc<Parts>,
    tasks: Arc<TaskCache>,
    polls: Arc<Polls>,
}

/// What an exchange is made of.
pub struct Parts {
    /// Our `iss`, which is also the `aud` of exchange-only tokens.
    pub issuer: String,
    /// The deployment's name for itself, told to policy.
    pub environment: String,
    /// Objects and policy in force.
    pub active: Active,
    /// Reads them again where the store has newer ones.
    pub configuration: Configuration,
    /// Trusted issuers' keys.
    pub issuers: Arc<Issuers>,
    /// Our keys.
    pub keys: LiveKeys,
    /// For the one row that a child exchange reads: its task's.
    pub store: Store,
    /// The one writer.
    pub writer: Writer,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Whether the time can be believed.
    pub time: TimeWatch,
    /// Randomness for ids.
    pub random: Random,
    /// Whose new tokens are stopped.
    pub lockdowns: Lockdowns,
    /// Rates of clients and principals.
    pub limits: Arc<Limits>,
    /// Refusals that are only counted.
    pub aggregates: Arc<Aggregates>,
    /// Places in status lists.
    pub status: StatusLists,
    /// Tells people that something waits for them.
    pub notifier: Notifier,
    /// What becomes of an exchange when the policy engine fails.
    pub on_error: OnError,
    /// What operators watch.
    pub metrics: Arc<Metrics>,
}

/// What the caller said, as far as HTTP read it.
pub struct Asked<'a> {
    /// The authenticated agent.
    pub agent: Arc<Agent>,
    /// The decoded form.
    pub form: &'a [(String, String)],
    /// A well-formed `traceparent`, for the record only (TR-03).
    pub trace: Option<String>,
    /// The assertion that authenticated the agent: spent by whatever decision comes of this.
    pub assertion: Option<Spend>,
}

/// A token that is signed but not yet anybody's: only proof of its record hands it over (L3).
pub struct Minted {
    compact: String,
}

impl Minted {
    /// The compact token, at the price of proof that its record and decision are durable.
    pub fn release(self, _proof: &Receipt) -> String {
        self.compact
    }
}

/// A granted exchange, ready to answer (RFC 8693 §2.2.1).
#[derive(Debug)]
pub struct Issued {
    /// The compact token; none for a dry run.
    pub token: Option<String>,
    /// Its decision.
    pub decision_id: DecisionId,
    /// Its task; none for a dry run, which begins none.
    pub task_id: Option<TaskId>,
    /// `scope`.
    pub scope: String,
    /// Seconds it lives.
    pub expires_in: i64,
    /// `authorization_details`, if any were granted.
    pub authorization_details: Option<Value>,
    /// URIs of its resources.
    pub resources: Vec<String>,
    /// Which answer members policy narrowed.
    pub narrowed: Vec<&'static str>,
}

/// Why no token is answered.
#[derive(Debug)]
pub enum NotIssued {
    /// Refused, and the refusal is in the log or counted for it.
    Refused {
        /// Its decision; none for one of many that are recorded together.
        decision_id: Option<DecisionId>,
        /// Why.
        refusal: Box<Refusal>,
    },
    /// A person has not decided yet: poll.
    Waits(Box<Waits>),
    /// The assertion was spent meanwhile by another request: who asks is not the client (T31).
    Unauthenticated,
    /// The decision cannot be recorded, or its record is unknown: nothing may leave (L3).
    Unavailable,
}

/// How often one exchange is decided, if what is in force is replaced each time before its commit.
const MOST_ATTEMPTS: usize = 4;

/// What was decided, and by what. None if nothing was, since the agent has to authenticate again.
struct Attempt {
    at: Moment,
    decided: Option<Result<Decided, Refusal>>,
}

/// What an exchange comes to, if it is not refused.
enum Decided {
    /// A token, or a dry run.
    Granted(Box<Granted>),
    /// People are asked first.
    Asks(Box<Granted>, Box<Approval>, DeferralCode),
    /// People have been asked, and not decided yet.
    Waits(Box<Waits>),
}

/// The facts of this moment that one exchange sees throughout.
struct Moment {
    world: Arc<InForce>,
    now: DateTime<Utc>,
}

impl Exchange {
    /// Wires the use case.
    pub fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts), tasks: Arc::default(), polls: Arc::default() }
    }

    /// One exchange by an authenticated agent: decided, recorded, and only then answered (L3, L12).
    pub async fn run(&self, mut asked: Asked<'_>) -> Result<Issued, NotIssued> {
        let (began, started) = (Instant::now(), self.parts.clock.now());
        let mut task_type = String::new();
        let mut ended = Err(NotIssued::Unavailable);
        for _ in 0..MOST_ATTEMPTS {
            let caller = asked.agent.spec.client_id.as_str();
            let id = self.parts.random.decision(started);
            let mut story = Story::begin(id, caller, asked.trace.clone(), started);
            let attempt = self.attempt(&mut asked, &mut story).await;
            task_type = story.task_type();
            let tried = story.take_tried();
            if let Some(end) = self.end(attempt, story, asked.assertion.clone()).await.transpose() {
                ended = end;
                self.count_tried(tried, &ended);
                break;
            }
        }
        let (outcome, reason_code) = told(&ended);
        self.parts.metrics.exchanged(outcome, reason_code, &task_type, began.elapsed());
        ended
    }

    /// Counts what a candidate said, of a decision that is in the log.
    fn count_tried(&self, tried: Option<(Compared, Whose)>, ended: &Result<Issued, NotIssued>) {
        let Some((compared, whose)) = tried else { return };
        match ended {
            Ok(_) | Err(NotIssued::Refused { decision_id: Some(_), .. } | NotIssued::Waits(_)) => {}
            Err(
                NotIssued::Refused { decision_id: None, .. }
                | NotIssued::Unauthenticated
                | NotIssued::Unavailable,
            ) => return,
        }
        let (change, fault) = (compared.change().map(Change::as_str), compared.fault());
        self.parts.metrics.candidate_compared(change, (compared.canary(), fault.is_some()), &whose.task_type);
        let is_first_fault = compared.count(&whose);
        if is_first_fault {
            warn!(decision_id = %whose.id, fault, "the policy candidate fails: further faults are only counted");
        }
    }

    /// Decides by what is in force now. The agent is the one that it has now, unless what authenticates it has changed
    /// since: then it has to authenticate again.
    async fn attempt(&self, asked: &mut Asked<'_>, story: &mut Story) -> Attempt {
        let at = Moment { world: self.parts.active.load(), now: self.parts.clock.now() };
        let decided = match at.world.snapshot.agent(&asked.agent.spec.client_id) {
            Some(agent) if !agent.spec.disabled => {
                if agent.spec.auth != asked.agent.spec.auth {
                    return Attempt { at, decided: None };
                }
                asked.agent = agent.clone();
                self.decide(&at, asked, story).await
            }
            Some(_) | None => Err(Refusal::AgentNotServed),
        };
        Attempt { at, decided: Some(decided) }
    }

    /// Records what was decided, and answers it; nothing if it was decided by what is no longer in force: then it has to
    /// be decided again.
    async fn end(
        &self,
        Attempt { at, decided }: Attempt,
        story: Story,
        assertion: Option<Spend>,
    ) -> Result<Option<Issued>, NotIssued> {
        let Some(decided) = decided else {
            info!("what authenticates the agent was changed meanwhile: it has to authenticate again");
            return Err(NotIssued::Unavailable);
        };
        // Keys may have been fetched for seconds. What is replaced between here and the commit, the commit sees.
        if !Arc::ptr_eq(&self.parts.active.load(), &at.world) {
            return Ok(None);
        }
        match decided {
            Ok(Decided::Granted(granted)) if granted.dry_run => {
                self.answer_dry_run(*granted, story, assertion).await.map(Some)
            }
            Ok(Decided::Granted(granted)) => self.issue(*granted, story, assertion).await,
            Ok(Decided::Asks(granted, approval, code)) => {
                self.defer(*granted, (*approval, code), story, assertion).await
            }
            Ok(Decided::Waits(waits)) => Err(self.still_waits(waits, assertion).await),
            Err(refusal) => Err(self.refuse(refusal, story, assertion).await),
        }
    }

    /// A resource asked for what only agents may, at this `endpoint`: refused and recorded like any other refusal.
    pub async fn refuse_resource(
        &self,
        (client_id, endpoint): (&str, &str),
        trace: Option<String>,
        assertion: Option<Spend>,
    ) -> NotIssued {
        let now = self.parts.clock.now();
        let mut story = Story::begin(self.parts.random.decision(now), client_id, trace, now);
        story.called(endpoint);
        self.refuse(Refusal::NotAnAgent, story, assertion).await
    }

    /// Steps 1 to 9: reads the request, verifies what it presents, and grants within every ceiling.
    async fn decide(&self, at: &Moment, asked: &Asked<'_>, story: &mut Story) -> Result<Decided, Refusal> {
        self.parts.limits.client(asked.agent.spec.client_id.as_str()).map_err(Refusal::Limited)?;
        self.parts.time.check().map_err(|fault| Refusal::Clock { why: fault.to_string() })?;
        let mut verified = match TokenRequest::parse(asked.form)? {
            TokenRequest::Exchange(request) => {
                story.asked(&request);
                self.verify(at, &asked.agent, *request, story).await?
            }
            TokenRequest::Deferred(code) => match self.resume(at, &asked.agent, code, story).await? {
                Resumed::Approved(verified) => *verified,
                Resumed::Waits(waits) => return Ok(Decided::Waits(waits)),
            },
        };
        story.verified(&verified);
        // Early, to spare the work; the commit decides (L4). What opens the admin API goes on: whoever ends a lockdown must get in.
        if !verified.task_type.is_built_in() && self.parts.lockdowns.hold(&verified.tenant) {
            return Err(Refusal::Lockdown);
        }
        self.parts.limits.principal(&verified.principal).map_err(Refusal::Limited)?;
        let mut granted = self.grant(at, &verified, story)?;
        if !granted.asks.is_empty() {
            match self.within_envelope(at, &mut verified, &granted, story).await? {
                Some(covered) => granted = covered,
                None => return self.ask(at, &verified, granted, story.id()).await,
            }
        }
        if granted.dry_run {
            self.check_liveness(&granted).await?;
        }
        Ok(Decided::Granted(Box::new(granted)))
    }

    /// Steps 9 to 11: signs, commits, and answers only what is committed. Nothing is, if the configuration that it was
    /// decided by is no longer in force: the newer one then is, here too.
    async fn issue(
        &self,
        granted: Granted,
        mut story: Story,
        assertion: Option<Spend>,
    ) -> Result<Option<Issued>, NotIssued> {
        let Ok(Signed { compact, kid }) = self.parts.keys.sign(ACCESS_TOKEN, &granted.claims) else {
            error!("the token could not be signed");
            return Err(NotIssued::Unavailable);
        };
        let minted = Minted { compact };
        story.granted(&granted);
        let decision = story.allow(self.parts.clock.now());
        let issue = Issue { assertion, limits: self.parts.limits.tree(), ..granted.change(kid, decision) };
        match self.parts.writer.submit(issue).await {
            Ok(Committed::Done(receipt)) => {
                info!(decision_id = %receipt.decision_id, "token issued");
                self.parts.time.issued(granted.issued_at);
                self.tasks.grew(granted.task_id(), granted.parent(), receipt.place);
                if granted.redeems.is_some() {
                    self.parts.metrics.approval("redeem");
                }
                if let Some((uses, _)) = granted.uses {
                    self.parts.metrics.approval("use");
                    info!(decision_id = %receipt.decision_id, approval_id = %uses.approval, "an envelope is used");
                }
                Ok(Some(granted.answer(Some(minted.release(&receipt)), receipt.decision_id)))
            }
            Ok(Committed::Superseded { generation }) => {
                let caught_up = self.parts.configuration.catch_up(generation).await;
                caught_up.map(|()| None).map_err(|fault| {
                    warn!(%fault, "the newer configuration cannot be read: nothing is issued");
                    NotIssued::Unavailable
                })
            }
            Ok(Committed::Lost(loss, receipt)) => Err(self.lost(loss, receipt.decision_id)),
            Err(fault) => Err(unavailable(fault)),
        }
    }

    /// A dry run: recorded as such, nothing signed or issued, and nothing spent but the client's assertion.
    async fn answer_dry_run(
        &self,
        granted: Granted,
        mut story: Story,
        assertion: Option<Spend>,
    ) -> Result<Issued, NotIssued> {
        story.granted(&granted);
        let decision = story.allow(self.parts.clock.now());
        let decision_id = decision.id;
        self.record(decision, assertion).await?;
        Ok(granted.answer(None, decision_id))
    }

    /// Records a refusal; one that cannot be recorded is answered 503 instead (DESIGN §4 "Refusals").
    async fn refuse(&self, refusal: Refusal, story: Story, assertion: Option<Spend>) -> NotIssued {
        let is_first = || self.parts.aggregates.is_first(Kind::Exchange, story.caller(), &refusal.code());
        if refusal.is_cheap_to_repeat() && !is_first() {
            return self.refuse_again(refusal, assertion).await;
        }
        let decision = story.refuse(&refusal, self.parts.clock.now());
        let decision_id = decision.id;
        if let Refusal::PolicyFault { why } = &refusal {
            warn!(%decision_id, why, "policy engine fault: denied");
        }
        info!(%decision_id, reason_code = refusal.code(), "exchange refused");
        match self.record(decision, assertion).await {
            Ok(()) => NotIssued::Refused { decision_id: Some(decision_id), refusal: Box::new(refusal) },
            Err(unavailable) => unavailable,
        }
    }

    /// A refusal that costs a caller nothing to repeat, and so is only counted (L12). Its assertion is spent all the same: it
    /// has authenticated a request (T31).
    async fn refuse_again(&self, refusal: Refusal, assertion: Option<Spend>) -> NotIssued {
        let refused = NotIssued::Refused { decision_id: None, refusal: Box::new(refusal) };
        self.spend(assertion).await.err().unwrap_or(refused)
    }

    /// Spends an assertion where nothing is recorded.
    async fn spend(&self, assertion: Option<Spend>) -> Result<(), NotIssued> {
        let Some(assertion) = assertion else { return Ok(()) };
        match self.parts.writer.spend(assertion).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(NotIssued::Unauthenticated),
            Err(fault) => Err(unavailable(fault)),
        }
    }

    /// Records a decision that issues nothing. The caller is not answered by it if another request spent the assertion.
    async fn record(&self, decision: Decision, assertion: Option<Spend>) -> Result<(), NotIssued> {
        match self.parts.writer.submit(Refuse { decision, assertion }).await {
            Ok(Committed::Done(_)) => Ok(()),
            Ok(Committed::Lost(..) | Committed::Superseded { .. }) => Err(NotIssued::Unauthenticated),
            Err(fault) => Err(unavailable(fault)),
        }
    }

    /// What the commit would check, for a dry run: read without the lock, so it may change meanwhile.
    async fn check_liveness(&self, granted: &Granted) -> Result<(), Refusal> {
        match self.would_lose(granted).await {
            Ok(None) => Ok(()),
            Ok(Some(loss)) => Err(refusal_of(loss).unwrap_or(Refusal::Spent)),
            Err(_) => Err(Refusal::StoreFault),
        }
    }

    async fn would_lose(&self, granted: &Granted) -> Result<Option<Loss>, StoreError> {
        let store = &self.parts.store;
        let signer = self.parts.keys.ring().kid().to_owned();
        let own = granted.record(signer, self.parts.random.decision(granted.issued_at));
        if let Some(jti) = own.parent {
            let shown = |parent: &TokenRecord| granted.parent_digest == Some(parent.capability_digest);
            let Some(parent) = store.token(jti).await?.filter(shown) else {
                return Ok(Some(Loss::ParentUnknown));
            };
            if parent.ancestors.len() + 1 >= MAX_HEIGHT {
                return Ok(Some(Loss::TreeTooHigh));
            }
            if let Some(mark) = store.marks(slice::from_ref(&parent)).await?.killer(&parent) {
                return Ok(Some(Loss::Revoked { kind: mark.key.kind }));
            }
            let limits = self.parts.limits.tree();
            if let Some(loss) = store.outgrown(jti, limits, granted.issued_at).await? {
                return Ok(Some(loss));
            }
        }
        if let Some(mark) = store.marks(slice::from_ref(&own)).await?.killer(&own) {
            return Ok(Some(Loss::Revoked { kind: mark.key.kind }));
        }
        let kind = SpendKind::HandOver;
        let spent = match &granted.spends {
            Some((jti, _)) => store.is_spent(kind, &jti.to_string()).await?,
            None => false,
        };
        Ok(spent.then_some(Loss::AlreadySpent { kind }))
    }
}

/// How the commit's verdict reads to the client; none where the caller turns out not to be the client.
fn refusal_of(loss: Loss) -> Option<Refusal> {
    Some(match loss {
        // No exchange waits for a second person.
        Loss::ParentUnknown | Loss::Duplicate | Loss::Unsettled(_) => Refusal::UnknownParent,
        Loss::ParentExpired => Refusal::Expired,
        Loss::Revoked { kind: RevocationKind::Completion } => Refusal::TaskEnded,
        Loss::Revoked { kind } => Refusal::Revoked { what: kind.as_str() },
        Loss::LockedDown => Refusal::Lockdown,
        Loss::AlreadySpent { kind: SpendKind::ClientAssertion } => return None,
        Loss::AlreadySpent { .. } => Refusal::Spent,
        Loss::TreeTooHigh => Refusal::TooHigh,
        Loss::TreeLimit(limited) => Refusal::Limited(limited),
        Loss::ClockBehind => Refusal::Clock { why: loss.to_string() },
        Loss::Unmoved(unmoved) => Refusal::NotFetched(unmoved.into()),
    })
}

/// How the metrics tell of an end.
fn told(ended: &Result<Issued, NotIssued>) -> (Outcome, String) {
    match ended {
        Ok(issued) if issued.token.is_none() => (Outcome::DryRun, String::new()),
        Ok(_) => (Outcome::Issued, String::new()),
        Err(NotIssued::Refused { refusal, .. }) => (Outcome::Refused, refusal.code()),
        Err(NotIssued::Waits(_)) => (Outcome::Waits, "approval_pending".to_owned()),
        Err(NotIssued::Unauthenticated) => (Outcome::Refused, "client_authentication_failed".to_owned()),
        Err(NotIssued::Unavailable) => (Outcome::Unavailable, "not_recorded".to_owned()),
    }
}

fn unavailable(fault: CommitFault) -> NotIssued {
    warn!(%fault, "the decision is not recorded: nothing is issued");
    NotIssued::Unavailable
}

impl Granted {
    fn answer(self, token: Option<String>, decision_id: DecisionId) -> Issued {
        let claims: TokenClaims = self.claims;
        Issued {
            task_id: token.is_some().then_some(claims.task_id),
            token,
            decision_id,
            scope: claims.scope.to_string(),
            expires_in: claims.exp - claims.iat,
            authorization_details: claims.authorization_details,
            resources: self.grant.capability.authority.resources.iter().map(ToString::to_string).collect(),
            narrowed: self.narrowed,
        }
    }

    /// What the commit writes and what it spends: a hand-over token dies with its one exchange.
    fn change(&self, kid: String, decision: Decision) -> Issue {
        let spend = self.spends.iter().map(|(jti, exp)| Spend {
            kind: SpendKind::HandOver,
            key: jti.to_string(),
            keep_until: *exp,
        });
        let token = self.record(kid, decision.id);
        Issue {
            task: self.task.clone(),
            token,
            parent_digest: self.parent_digest,
            limits: TreeLimits::default(),
            spend: spend.collect(),
            assertion: None,
            redeems: self.redeems,
            opens: self.opens.clone(),
            uses: self.uses.map(|(uses, _)| uses),
            generation: self.generation,
            decision,
        }
    }
}
