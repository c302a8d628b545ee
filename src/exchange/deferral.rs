//! Step 8: what waits for a person, from what it goes on once people have approved, and what its agent is told meanwhile
//! (STANDARDS §11; draft-ietf-oauth-deferred-token-response).

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::grant::Granted;
use super::story::Story;
use super::verify::{Origin, Start, Verified, not_expired};
use super::{Decided, Exchange, Issued, Moment, NotIssued, refusal_of, unavailable};
use crate::domain::approval::{Approval, ApprovalState, Narrowing, NotFetched};
use crate::domain::capability::{Capability, Grant};
use crate::domain::chain::Actor;
use crate::domain::claims::{ApprovalClaim, TokenClaims};
use crate::domain::decision::Reason;
use crate::domain::details::DetailRules;
use crate::domain::envelope::{EnvelopeTerms, EnvelopeUse};
use crate::domain::ids::{ApprovalId, ClientId, DecisionId, Name};
use crate::domain::refusal::{Limited, LimitedBy, Refusal};
use crate::domain::request::{DeferralCode, Target, Wish};
use crate::domain::scope::ScopeSet;
use crate::domain::snapshot::Agent;
use crate::hash::sha256;
use crate::issuers::kept::KeptSession;
use crate::issuers::session::Session;
use crate::policy::input::{ApprovalFacts, EnvelopeFacts};
use crate::recent::Recent;
use crate::store::approvals::hash_of;
use crate::store::change::{Committed, Defer, Issue, Loss, Spend};

/// Seconds that a client is told to wait between two polls, and how much longer if it does not (RFC 8628 §3.5).
const INTERVAL: u64 = 5;
/// Longest interval that a client is told.
const LONGEST_INTERVAL: u64 = 60;
/// A poll may come so much before its time: clocks and networks are not exact.
const TOLERANCE: Duration = Duration::from_millis(500);
/// For how long the same is not asked again after somebody has said no.
const NOT_AGAIN: TimeDelta = TimeDelta::minutes(10);
/// Approvals whose polls are remembered.
const POLLED: usize = 65_536;

/// What a deferred exchange goes on from, stored as JSON: verified facts and the wish, no token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    /// The agent, and the instance that it proved.
    actor: Actor,
    origin: KeptOrigin,
    wish: Wish,
    /// What people are asked to approve.
    #[serde(default)]
    asks: Vec<Reason>,
    /// Codes of what they had approved of the parent.
    #[serde(default)]
    inherited: BTreeSet<String>,
    /// The claims of the token that they are asked for: nothing wider is ever fetched.
    #[serde(default)]
    would_be: Option<Box<TokenClaims>>,
}

/// What the exchange started from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeptOrigin {
    /// A session, for a task of this type.
    Session { session: Box<KeptSession>, task_type: Name },
    /// A token of ours: its claims, without the signature that would make them one.
    Token(Box<TokenClaims>),
}

impl Kept {
    pub(super) fn root(session: &Session, task_type: &Name, actor: &Actor, wish: &Wish) -> Box<Self> {
        let session = Box::new(session.clone().into());
        Self::of(KeptOrigin::Session { session, task_type: task_type.clone() }, actor, wish)
    }

    pub(super) fn child(claims: &TokenClaims, actor: &Actor, wish: &Wish) -> Box<Self> {
        Self::of(KeptOrigin::Token(Box::new(claims.clone())), actor, wish)
    }

    fn of(origin: KeptOrigin, actor: &Actor, wish: &Wish) -> Box<Self> {
        let (asks, inherited, would_be) = (Vec::new(), BTreeSet::new(), None);
        Box::new(Self { actor: actor.clone(), origin, wish: wish.clone(), asks, inherited, would_be })
    }

    /// What was asked for, with nothing left to a default: that may have become another one since.
    fn explicit(&self, own_issuer: &str) -> Result<Wish, Refusal> {
        let would_be = self.would_be.as_ref().ok_or(Refusal::StoreFault)?;
        let uris = would_be.resources.clone().unwrap_or_default().into_iter();
        let service = would_be.aud.parse().ok().filter(|_| would_be.resources.is_none());
        let exchange_only = would_be.resources.is_some().then(|| Target::Audience(own_issuer.to_owned()));
        Ok(Wish {
            scope: Some(would_be.scope.clone()),
            targets: uris.chain(service).map(Target::Uri).chain(exchange_only).collect(),
            details: would_be.authorization_details.clone(),
            expires_in: Some(u32::try_from(would_be.exp - would_be.iat).unwrap_or(u32::MAX)),
            dry_run: false,
            deferred: false,
            ..self.wish.clone()
        })
    }
}

/// What people have approved, of this very request or of the token above it.
#[derive(Clone, Debug)]
pub(super) struct Approved {
    pub(super) id: ApprovalId,
    /// Codes of the reasons that this approval is for.
    pub(super) reasons: BTreeSet<String>,
    /// Those of them that the token tells: the public ones.
    pub(super) told: Vec<String>,
    /// Codes of what the parent's approval was for.
    pub(super) before: BTreeSet<String>,
    /// The token that people were asked for.
    pub(super) would_be: Option<Box<TokenClaims>>,
    /// Who, as `ISS SUB`; nobody is told where it is inherited.
    pub(super) approvers: Vec<String>,
    pub(super) narrowing: Narrowing,
    /// The approval that is redeemed; none where it is inherited.
    pub(super) redeems: Option<ApprovalId>,
    /// The envelope that people gave with it, and when the last of them approved.
    pub(super) gives: Option<(EnvelopeTerms, DateTime<Utc>)>,
    /// The envelope under which it stands, and how often that was used before.
    pub(super) uses: Option<(EnvelopeUse, u32)>,
}

impl Approved {
    pub(super) fn inherited(claim: &ApprovalClaim) -> Self {
        Self {
            id: claim.id,
            reasons: claim.reasons.iter().cloned().collect(),
            told: claim.reasons.clone(),
            before: BTreeSet::new(),
            would_be: None,
            approvers: Vec::new(),
            narrowing: Narrowing::default(),
            redeems: None,
            gives: None,
            uses: None,
        }
    }

    fn redeemed(approval: &Approval, kept: &Kept) -> Self {
        let public = kept.asks.iter().filter(|reason| reason.public);
        Self {
            id: approval.id,
            reasons: kept.asks.iter().map(|reason| reason.code.clone()).collect(),
            told: public.map(|reason| reason.code.clone()).collect(),
            before: kept.inherited.clone(),
            would_be: kept.would_be.clone(),
            approvers: names(approval),
            narrowing: approval.narrowing(),
            redeems: Some(approval.id),
            gives: approval.envelope_given().zip(approval.approved_at()),
            uses: None,
        }
    }

    /// Whether people have seen the reason of this code.
    pub(super) fn covers(&self, code: &str) -> bool {
        self.reasons.contains(code) || self.before.contains(code)
    }

    /// What people were asked for, as if it were issued now to the task of `grant`: `grant` may not be wider.
    pub(super) fn most(
        &self,
        rules: &DetailRules,
        at: &Moment,
        grant: &Grant,
    ) -> Option<Result<Grant, Refusal>> {
        let would_be = self.would_be.as_ref()?;
        let after =
            |seconds: i64| DateTime::from_timestamp(at.now.timestamp() + seconds, 0).unwrap_or(at.now);
        let most = would_be.grant(rules).map(|asked| Grant {
            task_id: grant.task_id,
            task_deadline: after(would_be.task_exp - would_be.iat),
            capability: Capability { expires_at: after(would_be.exp - would_be.iat), ..asked.capability },
            ..asked
        });
        Some(most.map_err(|_| Refusal::StoreFault))
    }

    /// The scopes that approvers left; all if they named none.
    pub(super) fn scopes(&self) -> Option<&ScopeSet> {
        self.narrowing.scopes.as_ref()
    }

    /// The seconds that approvers left.
    pub(super) fn lifetime(&self) -> Option<u32> {
        self.narrowing.lifetime
    }

    /// As the token carries it.
    pub(super) fn claim(&self) -> ApprovalClaim {
        ApprovalClaim { id: self.id, reasons: self.told.clone() }
    }

    /// As policy is told of it.
    pub(super) fn facts(&self) -> ApprovalFacts {
        ApprovalFacts {
            id: self.id.to_string(),
            reasons: self.reasons.union(&self.before).cloned().collect(),
            approvers: self.approvers.clone(),
            envelope: self
                .uses
                .map(|(uses, before)| EnvelopeFacts { used: u64::from(before), of: u64::from(uses.left.of) }),
        }
    }
}

/// Who has approved, as policy is told.
pub(super) fn names(approval: &Approval) -> Vec<String> {
    approval.approvers().map(|who| format!("{} {}", who.iss, who.sub)).collect()
}

/// What an agent is told whose request waits for a person.
#[derive(Debug)]
pub struct Waits {
    /// The code to poll with.
    pub code: DeferralCode,
    /// The approval, for people: it redeems nothing.
    pub approval_id: ApprovalId,
    /// The decision that asks.
    pub decision_id: DecisionId,
    /// Seconds until nobody can approve any more.
    pub expires_in: i64,
    /// Seconds to wait before the next poll.
    pub interval: u64,
    /// Whether this poll came too soon.
    pub slow_down: bool,
    /// What people are asked to approve; the client sees the public ones.
    pub reasons: Vec<Reason>,
}

/// What became of a deferred exchange.
pub(super) enum Resumed {
    /// People have approved: go on.
    Approved(Box<Verified>),
    /// They have not decided yet.
    Waits(Box<Waits>),
}

/// When each approval was polled last, and the interval that its client was told: of this process only, so that behind a
/// balancer a client may poll a little faster.
pub(super) struct Polls(Mutex<Recent<ApprovalId, (Duration, u64)>>);

impl Default for Polls {
    fn default() -> Self {
        Self(Mutex::new(Recent::new(POLLED, POLLED * size_of::<(ApprovalId, Duration, u64)>())))
    }
}

impl Polls {
    /// Notes a poll: the interval that holds from now on, and whether this one came too soon.
    fn poll(&self, id: ApprovalId, now: Duration) -> (u64, bool) {
        let mut polls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (interval, soon) = match polls.get(&id) {
            Some((last, told)) if now.saturating_sub(last) + TOLERANCE < Duration::from_secs(told) => {
                ((told + INTERVAL).min(LONGEST_INTERVAL), true)
            }
            Some((_, told)) => (told, false),
            None => (INTERVAL, false),
        };
        polls.put(id, (now, interval), size_of::<(Duration, u64)>());
        (interval, soon)
    }
}

impl Exchange {
    /// People must approve what `granted` would be: they are asked if the client waits, else it is told.
    pub(super) async fn ask(
        &self,
        at: &Moment,
        verified: &Verified,
        granted: Granted,
        decision_id: DecisionId,
    ) -> Result<Decided, Refusal> {
        let reasons = granted.asks.clone();
        if granted.redeems.is_some() {
            return Err(Refusal::NotCovered { reasons });
        }
        let Some(kept) = verified.kept.as_ref().filter(|_| !granted.dry_run) else {
            return Err(Refusal::Approval { reasons });
        };
        if verified.task_type.spec.approval.approvers.is_empty() {
            return Err(Refusal::NoApprovers { reasons });
        }
        let code = DeferralCode::new(&URL_SAFE_NO_PAD.encode(self.parts.random.bytes::<32>()));
        let approval = self.question(at, verified, (&granted, kept), (&code, decision_id)).await?;
        Ok(Decided::Asks(Box::new(granted), Box::new(approval), code))
    }

    /// The approval to ask for: the one that waits already if the same client has asked the same before (T38).
    async fn question(
        &self,
        at: &Moment,
        verified: &Verified,
        (granted, kept): (&Granted, &Kept),
        (code, decision_id): (&DeferralCode, DecisionId),
    ) -> Result<Approval, Refusal> {
        let client_id = &verified.agent.spec.client_id;
        let likeness = likeness(verified, granted);
        if let Some(same) = self.asked_before(at, client_id, &likeness).await? {
            return Ok(Approval { code_sha256: hash_of(code), ..same });
        }
        self.has_room(at, client_id).await?;
        let approvals = &verified.task_type.spec.approval;
        let asked_for = TimeDelta::seconds(i64::from(approvals.expires_in));
        let ends = match &verified.origin {
            Origin::Session { ends, .. } => *ends,
            Origin::Parent(parent) => parent.grant.capability.expires_at,
        };
        let approved = verified.approved.as_ref();
        let kept = Kept {
            asks: granted.asks.clone(),
            inherited: approved.map(|a| a.reasons.clone()).unwrap_or_default(),
            would_be: Some(Box::new(granted.claims.clone())),
            ..kept.clone()
        };
        Ok(Approval {
            id: self.parts.random.approval(at.now),
            tenant: verified.tenant.clone(),
            client_id: client_id.clone(),
            code_sha256: hash_of(code),
            likeness,
            state: ApprovalState::Pending,
            quorum: approvals.quorum,
            created_at: at.now,
            expires_at: (at.now + asked_for).min(ends),
            decision_id,
            request: serde_json::to_value(&kept).map_err(|_| Refusal::TooLarge)?,
            shown: shown(verified, granted),
            votes: Vec::new(),
            jti: None,
            envelope: None,
        })
    }

    /// The same question, if it waits for people or for its client. What people said no to they are not asked again at once (T38).
    pub(super) async fn asked_before(
        &self,
        at: &Moment,
        client_id: &ClientId,
        likeness: &str,
    ) -> Result<Option<Approval>, Refusal> {
        let same = self.parts.store.approval_like(client_id, likeness).await;
        let same = same.map_err(|_| Refusal::StoreFault)?;
        match same.as_ref().map(|same| same.state_at(at.now)) {
            Some(ApprovalState::Pending | ApprovalState::Approved) => Ok(same),
            Some(ApprovalState::Denied)
                if same.is_some_and(|same| was_decided_since(&same, at.now - NOT_AGAIN)) =>
            {
                Err(Refusal::NotFetched(NotFetched::Denied))
            }
            Some(
                ApprovalState::Denied
                | ApprovalState::Expired
                | ApprovalState::Cancelled
                | ApprovalState::Redeemed,
            )
            | None => Ok(None),
        }
    }

    /// Whether the client may wait for one more. Counted before the commit: many at once may go a little beyond.
    async fn has_room(&self, at: &Moment, client_id: &ClientId) -> Result<(), Refusal> {
        let most = u64::from(self.parts.limits.config().waiting_approvals);
        let waiting = self.parts.store.waiting_of(client_id, at.now).await;
        let (count, soonest) = waiting.map_err(|_| Refusal::StoreFault)?;
        if most == 0 || count < most {
            return Ok(());
        }
        let wait = soonest.map_or(1, |soonest| (soonest - at.now).num_seconds().max(1));
        let retry_after = u32::try_from(wait).unwrap_or(u32::MAX);
        self.parts.metrics.rate_limited(LimitedBy::Approvals.as_str());
        Err(Refusal::Limited(Limited { by: LimitedBy::Approvals, retry_after }))
    }

    /// Commits the question, and tells the agent where to ask for the answer.
    pub(super) async fn defer(
        &self,
        granted: Granted,
        (approval, code): (Approval, DeferralCode),
        story: Story,
        assertion: Option<Spend>,
    ) -> Result<Option<Issued>, NotIssued> {
        let now = self.parts.clock.now();
        let decision = story.ask(&granted, &approval, now);
        let kid = self.parts.keys.ring().kid().to_owned();
        let limits = self.parts.limits.tree();
        let would_be = Issue { limits, assertion, ..granted.change(kid, decision) };
        let waits = Waits {
            code,
            approval_id: approval.id,
            decision_id: would_be.decision.id,
            expires_in: (approval.expires_at - now).num_seconds().max(1),
            interval: INTERVAL,
            slow_down: false,
            reasons: granted.asks,
        };
        let is_new = approval.decision_id == would_be.decision.id;
        let asked = approval.clone();
        match self.parts.writer.submit(Defer { would_be, approval }).await {
            Ok(Committed::Done(receipt)) => {
                info!(decision_id = %receipt.decision_id, approval_id = %waits.approval_id, "a person is asked");
                if is_new {
                    self.parts.metrics.approval("ask");
                    self.parts.notifier.asked(&self.parts.active.load().snapshot, &asked);
                }
                self.polls.poll(waits.approval_id, self.parts.clock.steady());
                Err(NotIssued::Waits(Box::new(waits)))
            }
            Ok(Committed::Superseded { generation }) => {
                let caught_up = self.parts.configuration.catch_up(generation).await;
                caught_up.map(|()| None).map_err(|fault| {
                    warn!(%fault, "the newer configuration cannot be read: nobody is asked");
                    NotIssued::Unavailable
                })
            }
            // It was settled a moment ago: whether it may be asked for again is decided anew.
            Ok(Committed::Lost(Loss::Unmoved(_), _)) => Ok(None),
            Ok(Committed::Lost(loss, receipt)) => Err(self.lost(loss, receipt.decision_id)),
            Err(fault) => Err(unavailable(fault)),
        }
    }

    /// The answer to a poll that changes nothing; the client's assertion is spent all the same (T31).
    pub(super) async fn still_waits(&self, mut waits: Box<Waits>, assertion: Option<Spend>) -> NotIssued {
        (waits.interval, waits.slow_down) = self.polls.poll(waits.approval_id, self.parts.clock.steady());
        self.spend(assertion).await.err().unwrap_or(NotIssued::Waits(waits))
    }

    /// Steps 4 and 5 of a deferred exchange: what was verified then, if all of it still stands under what is in force now
    /// (AP-02). From here on it goes the way of every exchange (L9, T32).
    pub(super) async fn resume(
        &self,
        at: &Moment,
        agent: &std::sync::Arc<Agent>,
        code: DeferralCode,
        story: &mut Story,
    ) -> Result<Resumed, Refusal> {
        let found = self.parts.store.approval_of_code(&code).await;
        let found = found.map_err(|_| Refusal::StoreFault)?;
        let mine = found.filter(|approval| approval.client_id == agent.spec.client_id);
        let approval = mine.ok_or(Refusal::NotFetched(NotFetched::Unknown))?;
        story.resumed(&approval);
        let waits = approval.must_be(ApprovalState::Pending, at.now).is_ok();
        if !waits {
            let approved = approval.must_be(ApprovalState::Approved, at.now);
            approved.map_err(|unmoved| Refusal::NotFetched(unmoved.into()))?;
        }
        let unreadable = |_| Refusal::StoreFault;
        let kept: Kept = serde_json::from_value(approval.request.clone()).map_err(unreadable)?;
        if waits {
            return Ok(Resumed::Waits(Box::new(still_waiting(at, &approval, code, kept.asks))));
        }
        let approved = Approved::redeemed(&approval, &kept);
        let wish = kept.explicit(&self.parts.issuer)?;
        let Kept { actor, origin, .. } = kept;
        let verified = match origin {
            KeptOrigin::Session { session, task_type } => {
                let session = session.resume(&at.world.snapshot, at.now);
                let session = session.map_err(|fault| Refusal::Subject(fault.into()))?;
                story.presented_session(&session);
                let task_type = self.may_start(at, agent, &session, Some(&task_type))?;
                self.root(at, agent, session, Start { task_type, actor, wish })?
            }
            KeptOrigin::Token(claims) => {
                story.presented_token(&claims);
                not_expired(at, &claims)?;
                let parent = self.may_narrow(at, agent, &claims).await?;
                self.child(at, agent, (*claims, parent), (actor, wish))?
            }
        };
        enough_people(&approval, &verified)?;
        Ok(Resumed::Approved(Box::new(Verified { approved: Some(approved), ..verified })))
    }

    /// What a commit that lost is answered.
    pub(super) fn lost(&self, loss: Loss, decision_id: DecisionId) -> NotIssued {
        if let Loss::TreeLimit(limited) = loss {
            self.parts.metrics.rate_limited(limited.by.as_str());
        }
        let Some(refusal) = refusal_of(loss).map(Box::new) else { return NotIssued::Unauthenticated };
        info!(%decision_id, reason_code = refusal.code(), "commit refused the token");
        NotIssued::Refused { decision_id: Some(decision_id), refusal }
    }
}

/// What a poll is told, but for when to come again.
fn still_waiting(at: &Moment, approval: &Approval, code: DeferralCode, reasons: Vec<Reason>) -> Waits {
    Waits {
        code,
        approval_id: approval.id,
        decision_id: approval.decision_id,
        expires_in: (approval.expires_at - at.now).num_seconds().max(1),
        interval: INTERVAL,
        slow_down: false,
        reasons,
    }
}

fn was_decided_since(approval: &Approval, since: DateTime<Utc>) -> bool {
    approval.votes.last().is_some_and(|vote| vote.at > since)
}

/// The task type may ask for more people than it did when they were asked, or for others.
fn enough_people(approval: &Approval, verified: &Verified) -> Result<(), Refusal> {
    let spec = &verified.task_type.spec.approval;
    let (quorum, still) = (spec.quorum, approval.still_named(spec).count());
    if u32::try_from(still).unwrap_or(u32::MAX) >= quorum {
        return Ok(());
    }
    let message = format!("the task type now asks for {quorum} people, or for others: ask again");
    let reasons = vec![Reason { code: "quorum_raised".to_owned(), message, public: true }];
    Err(Refusal::NotCovered { reasons })
}

/// SHA-256 of what people would be shown, and from what it comes: only the very same question has the same.
pub(super) fn likeness(verified: &Verified, granted: &Granted) -> String {
    let from = match &verified.origin {
        Origin::Session { key, .. } => json!([key.iss, key.sid.as_ref().unwrap_or(&key.token_sha256)]),
        Origin::Parent(parent) => json!(parent.jti),
    };
    let mut shown = shown(verified, granted);
    // What is left of a session grows shorter by itself.
    for lifetime in ["expires_in", "task_lifetime"] {
        shown.as_object_mut().map(|members| members.remove(lifetime));
    }
    // However the client would take the answer.
    let wish = Wish { deferred: true, dry_run: false, ..verified.wish.clone() };
    let asked = json!({
        "agent": verified.chain.current(),
        "from": from,
        "shown": shown,
        "tenant": verified.tenant,
        "wish": wish,
    });
    hex::encode(sha256(&[asked.to_string().as_bytes()]))
}

/// What a person is shown: what the token would be, and apart from it what the agent says of itself (AP-03).
fn shown(verified: &Verified, granted: &Granted) -> Value {
    let (claims, task_type) = (&granted.claims, &verified.task_type);
    json!({
        "agent": {
            "class": verified.agent.spec.class,
            "client_id": verified.agent.spec.client_id,
            "owner": String::from(verified.agent.spec.owner.clone()),
        },
        "chain": claims.act,
        "principal": verified.principal,
        "task_type": {
            "description": task_type.spec.description,
            "name": task_type.name,
            "version": task_type.version,
        },
        "task_id": granted.parent().map(|_| granted.task_id()),
        "task_lifetime": claims.task_exp - claims.iat,
        "scope": claims.scope,
        "resources": granted.grant.capability.authority.resources,
        "authorization_details": claims.authorization_details,
        "exchange_only": granted.grant.exchange_only,
        "delegate_to": claims.may_act.as_ref().map(|named| &named.sub),
        "depth_left": claims.depth_left,
        "expires_in": claims.exp - claims.iat,
        "reasons": granted.asks,
        "claimed": verified.wish.claimed,
    })
}
